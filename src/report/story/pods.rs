//! Pods that are evicted, restarted, cannot be scheduled; endpoints that go away; warnings.

use std::collections::BTreeMap;
use std::time::Duration;

use super::line::Line;
use super::rollouts::short;
use crate::engine::Time;
use crate::record::{CauseEntry, EndpointPoint, NodeMarkKind, PodLife, What};
use crate::report::names::{Names, alive, bare, pods_by_app, short_key};
use crate::report::number::{count, span};

/// Evictions that are at most this far apart are told together.
const TOGETHER: Duration = Duration::from_secs(15);

/// Restarts that are at most this far apart are told together (the longest back-off is 300 s).
const RESTARTS_TOGETHER: Duration = Duration::from_secs(330);

/// Lines about pods.
pub fn lines(names: &Names<'_>) -> Vec<Line> {
    let mut lines = evictions(names);
    lines.extend(failures(names));
    lines.extend(restarts(names));
    lines.extend(pending(names));
    lines.extend(endpoints(names));
    lines.extend(warnings(names));
    lines
}

/// One entry and the pod it is about.
type Found<'r> = (&'r CauseEntry, &'r PodLife);

/// Entries about pods, grouped by a key and by time.
fn grouped<'r, K: Ord>(
    names: &Names<'r>,
    gap: Duration,
    key: impl Fn(&Found<'r>) -> Option<K>,
) -> Vec<Vec<Found<'r>>> {
    let mut groups: Vec<Vec<Found<'r>>> = Vec::new();
    let mut open: BTreeMap<K, usize> = BTreeMap::new();
    let causes = names.run.causes.iter();
    for entry in causes.filter(|e| e.kind == "Pod" && e.at > names.run.header.begun) {
        let Some(pod) = names.pod(&entry.namespace, &entry.name) else {
            continue;
        };
        let found = (entry, pod);
        let Some(key) = key(&found) else { continue };
        let near = |group: &Vec<Found<'r>>| {
            (group.last()).is_some_and(|(last, _)| entry.at.since(last.at) <= gap)
        };
        match open.get(&key).copied().filter(|g| near(&groups[*g])) {
            Some(group) => groups[group].push(found),
            None => {
                open.insert(key, groups.len());
                groups.push(vec![found]);
            }
        }
    }
    groups
}

/// Deletions that nobody asked for: neither kubectl nor a ReplicaSet that has too many, nor of what
/// a finished Job left.
fn evictions(names: &Names<'_>) -> Vec<Line> {
    let groups = grouped(names, TOGETHER, |(entry, pod)| {
        let left = entry.by == "garbage-collector-controller" && pod.phase == "Succeeded";
        let unasked = matches!(entry.what, What::PodTerminating(_))
            && !left
            && !matches!(&*entry.by, "kubectl" | "replicaset-controller")
            && !entry.by.starts_with("kubelet");
        unasked.then_some(&*entry.by)
    });
    groups.iter().map(|group| eviction(names, group)).collect()
}

fn eviction(names: &Names<'_>, group: &[Found<'_>]) -> Line {
    let (entry, pod) = group[0];
    let whom = pods_by_app(names, group.iter().map(|(_, pod)| names.app(pod)));
    let (what, rule) = match &*entry.by {
        "taint-eviction-controller" => ("evicted", toleration(names, pod, entry.at)),
        "scheduler" => ("preempted", entry.rule.to_string()),
        "pod-garbage-collector-controller" => ("deleted by pod GC", entry.rule.to_string()),
        by => ("deleted", format!("by {by}: {}", entry.rule)),
    };
    let rule = match rule.as_str() {
        "" => String::new(),
        rule => format!(" ({rule})"),
    };
    let (begin, end) = (entry.at, group[group.len() - 1].0.at);
    let mut line = Line::new(begin, 0, format!("{whom} {what}{rule}")).bad();
    line = match replaced(names, group, begin, end + Duration::from_secs(2)) {
        Some(note) => line.note(note),
        None => line,
    };
    line
}

/// `unreachable:NoExecute 300s`: the taint of the pod's node and how long it was tolerated.
fn toleration(names: &Names<'_>, pod: &PodLife, at: Time) -> String {
    let mut marks = names.run.nodes.iter();
    let taint = marks
        .rfind(|m| m.node == pod.node && m.at <= at && matches!(m.what, NodeMarkKind::Tainted(_)));
    match taint.map(|m| (m, &m.what)) {
        Some((mark, NodeMarkKind::Tainted(key))) => {
            let tolerated = at.since(mark.at).as_secs();
            format!("{}:NoExecute {tolerated}s", short_key(key))
        }
        _ => "NoExecute taint".to_owned(),
    }
}

/// Where the pods came up that were created instead, and when the last one was ready.
fn replaced(names: &Names<'_>, group: &[Found<'_>], from: Time, to: Time) -> Option<String> {
    let owners: Vec<_> = group
        .iter()
        .map(|(_, p)| (&p.namespace, &p.owner))
        .collect();
    let instead: Vec<&PodLife> = (names.run.pods.iter())
        .filter(|p| from <= p.created && p.created <= to)
        .filter(|p| !p.owner.is_empty() && owners.contains(&(&p.namespace, &p.owner)))
        .collect();
    if instead.is_empty() {
        return None;
    }
    let mut nodes: Vec<&str> = (instead.iter().map(|p| &*p.node))
        .filter(|n| !n.is_empty())
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    let ready: Vec<Time> = instead.iter().filter_map(|p| p.ready).collect();
    let last = ready.iter().max().map(|t| names.clock(*t));
    let places = match nodes.len() {
        0 => String::new(),
        1..=3 => format!("→ {}, ", nodes.join(", ")),
        n => format!("→ {n} nodes, "),
    };
    Some(match last {
        Some(last) if ready.len() == instead.len() => format!("{places}ready {last}"),
        Some(last) => {
            let (up, all) = (ready.len(), instead.len());
            format!("{places}{up} of {all} ready by {last}")
        }
        None => format!("{places}not ready by the end"),
    })
}

/// Pods that failed, by reason and node.
fn failures(names: &Names<'_>) -> Vec<Line> {
    let groups = grouped(names, TOGETHER, |(entry, pod)| match &entry.what {
        // One that was told to end does so.
        What::PodFailed(_) if pod.terminating.is_some_and(|t| t <= entry.at) => None,
        What::PodFailed(reason) => Some((reason.clone(), pod.node.clone())),
        _ => None,
    });
    let line = |group: &Vec<Found<'_>>| {
        let (entry, pod) = group[0];
        let whom = pods_by_app(names, group.iter().map(|(_, pod)| names.app(pod)));
        let place = match pod.node.is_empty() {
            true => String::new(),
            false => format!(" on {}", pod.node),
        };
        Line::new(
            entry.at,
            1,
            format!("{whom}{place} {}", entry.what.text(Time::ZERO)),
        )
        .bad()
    };
    groups.iter().map(line).collect()
}

fn restarts(names: &Names<'_>) -> Vec<Line> {
    let groups = grouped(names, RESTARTS_TOGETHER, |(entry, pod)| match &entry.what {
        What::Restarted {
            container,
            reason,
            code,
            ..
        } => Some((names.app(pod), container.clone(), reason.clone(), *code)),
        _ => None,
    });
    groups.iter().filter_map(|g| restart(names, g)).collect()
}

fn restart(names: &Names<'_>, group: &[Found<'_>]) -> Option<Line> {
    let ((first, pod), (last, _)) = (group[0], group[group.len() - 1]);
    let What::Restarted { reason, code, .. } = &first.what else {
        return None;
    };
    let mut pods: Vec<&str> = group.iter().map(|(_, p)| &*p.name).collect();
    pods.sort_unstable();
    pods.dedup();
    let app = names.app(pod);
    let text = match (group.len(), pods.len()) {
        (1, _) => format!("{app} pod {} restarted", pod.name),
        (n, 1) => format!("{app} pod {} restarted {n} times", pod.name),
        (n, many) => format!("{many} {app} pods restarted {n} times"),
    };
    let why = match &**reason {
        "" => format!(" (exit code {code})"),
        reason => format!(" ({reason}, exit code {code})"),
    };
    let until = match last.at.since(first.at) {
        Duration::ZERO => String::new(),
        _ => format!("until {}", names.clock(last.at)),
    };
    Some(
        Line::new(first.at, 1, format!("{text}{why}"))
            .bad()
            .note(until),
    )
}

/// Pods that no node would take for a while.
fn pending(names: &Names<'_>) -> Vec<Line> {
    let end = names.run.header.begun + names.run.header.simulated;
    let mut groups: BTreeMap<(&str, String), Vec<&PodLife>> = BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    let refused = (names.run.events.iter())
        .filter(|e| *e.reason == *"FailedScheduling" && e.at > names.run.header.begun);
    for event in refused {
        let Some(pod) = names.pod(&event.namespace, &event.name) else {
            continue;
        };
        let until = pod.scheduled.or(pod.gone).unwrap_or(end);
        let new = seen.insert((&event.namespace, &event.name));
        if new && until.since(pod.created) >= Duration::from_secs(10) {
            let key = (names.app(pod), short(&event.message));
            groups.entry(key).or_default().push(pod);
        }
    }
    let line = |((app, message), pods): (&(&str, String), &Vec<&PodLife>)| {
        let at = pods.iter().map(|p| p.created).min()?;
        let whom = count(pods.len() as u64, &format!("{app} pod"));
        let until = pods
            .iter()
            .map(|p| p.scheduled.or(p.gone))
            .max_by_key(|t| t.unwrap_or(end))?;
        let until = match until {
            Some(until) if pods.iter().all(|p| p.scheduled.or(p.gone).is_some()) => {
                format!("until {}", names.clock(until))
            }
            _ => "to the end".to_owned(),
        };
        let text = format!("{whom} Pending: {message}");
        Some(Line::new(at, 1, text).bad().note(until))
    };
    groups.iter().filter_map(line).collect()
}

/// Services that lose a quarter of their ready endpoints or all, unless a node was lost then.
fn endpoints(names: &Names<'_>) -> Vec<Line> {
    let mut lines = Vec::new();
    let begun = names.run.header.begun;
    for (service, points) in &names.run.endpoints {
        let Some(base) = points.iter().rfind(|p| p.at <= begun).map(|p| p.ready) else {
            continue;
        };
        let after: Vec<&EndpointPoint> = points.iter().filter(|p| p.at > begun).collect();
        for dip in after.chunk_by(|a, b| (a.ready < base) == (b.ready < base)) {
            let low = dip.iter().map(|p| p.ready).min().unwrap_or(base);
            if low * 4 > base * 3 || told_with_node(names, dip[0].at) {
                continue;
            }
            let last = dip[dip.len() - 1].at;
            let back = after.iter().find(|p| p.at > last);
            let note = match back {
                Some(p) => format!(
                    "back {} ({})",
                    names.clock(p.at),
                    span(p.at.since(dip[0].at))
                ),
                None => "not back by the end".to_owned(),
            };
            let text = format!("endpoints {} {base}→{low}", bare(service));
            let mut line = Line::new(dip[0].at, if low == 0 { 0 } else { 3 }, text).note(note);
            line.bad = low == 0;
            lines.push(line);
        }
    }
    lines
}

fn told_with_node(names: &Names<'_>, at: Time) -> bool {
    (names.run.nodes.iter()).any(|m| {
        m.what == NodeMarkKind::Unknown && m.at <= at && at.since(m.at) <= Duration::from_secs(3)
    })
}

/// Reasons of warnings that other lines tell.
const TOLD: [&str; 7] = [
    "FailedScheduling",
    "NodeNotReady",
    "Unhealthy",
    "BackOff",
    "TaintManagerEviction",
    "Preempted",
    "Evicted",
];

/// Other warnings, by reason and workload.
fn warnings(names: &Names<'_>) -> Vec<Line> {
    let mut groups: BTreeMap<(&str, &str), (u64, Time, Time, &str)> = BTreeMap::new();
    let told = |reason: &str| TOLD.contains(&reason);
    let warned = (names.run.events.iter())
        .filter(|e| e.level == "Warning" && e.at > names.run.header.begun && !told(&e.reason));
    for event in warned {
        let pod = names.pod(&event.namespace, &event.name);
        let pod = pod.filter(|p| event.kind == "Pod" && alive(p, event.at));
        let whom = pod.map_or(&*event.name, |p| names.app(p));
        let new = (0, event.at, event.at, &*event.message);
        let group = groups.entry((whom, &event.reason)).or_insert(new);
        group.0 += 1;
        group.2 = event.at;
    }
    let line =
        |((whom, reason), (n, first, last, message)): (&(&str, &str), &(u64, Time, Time, &str))| {
            let times = if *n > 1 {
                format!(" ×{n}")
            } else {
                String::new()
            };
            let text = format!("{whom}: {reason}{times}: {}", short(message));
            let until = match last.since(*first) {
                Duration::ZERO => String::new(),
                _ => format!("until {}", names.clock(*last)),
            };
            Line::new(*first, 4, text).note(until)
        };
    groups.iter().map(line).collect()
}
