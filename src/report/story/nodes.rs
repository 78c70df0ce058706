//! Steps, faults, and nodes that fall silent, come back, or are cordoned.

use std::collections::BTreeMap;
use std::time::Duration;

use super::line::Line;
use crate::api::Text;
use crate::engine::Time;
use crate::record::{CauseEntry, FaultNote, NodeMark, NodeMarkKind, StepNote, What};
use crate::report::names::{Names, bare, counted, listed, pods_by_app, service_name};
use crate::report::number::{count, span};

/// Marks of one kind that are at most this far apart are told together.
const TOGETHER: Duration = Duration::from_secs(15);

/// Endpoints follow the loss of a node within this time.
const FOLLOWS: Duration = Duration::from_secs(3);

/// Lines about steps, faults and nodes.
pub fn lines(names: &Names<'_>) -> Vec<Line> {
    let mut lines = steps(names);
    lines.extend(faults(names));
    lines.extend(marks(names));
    lines.extend(components(names));
    lines
}

fn steps(names: &Names<'_>) -> Vec<Line> {
    let run = names.run;
    let mut lines = Vec::new();
    for step in &run.steps {
        match &step.result {
            None if is_fault(names, step) => {}
            None => {
                let mut line = Line::new(step.at, 1, step.text.clone());
                line.notes = consequences(names, step);
                lines.push(line);
            }
            Some(Err(error)) => {
                let text = format!("{} failed: {error}", step.text);
                lines.push(Line::new(step.at, 0, text).bad());
            }
            Some(Ok(_)) => {}
        }
    }
    lines
}

/// Whether a step does nothing but begin faults, which have lines of their own.
fn is_fault(names: &Names<'_>, step: &StepNote) -> bool {
    let Some(things) = step.text.strip_prefix("apply ") else {
        return false;
    };
    let begun =
        |name: &str| (names.run.faults.iter()).any(|f| f.at == step.at && *f.name == *bare(name));
    things.split(' ').all(begun)
}

/// What a step set off: rolling updates, evictions, and when it was done.
fn consequences(names: &Names<'_>, step: &StepNote) -> Vec<String> {
    let run = names.run;
    let mut notes = Vec::new();
    let soon = step.at + Duration::from_secs(1);
    for spec in run.specs.iter().filter(|s| step.at <= s.at && s.at <= soon) {
        if !spec.rollout {
            if spec.from != spec.to {
                notes.push(format!("{}→{} replicas", spec.from, spec.to));
            }
        } else if spec.recreate {
            notes.push("Recreate: all old pods first".to_owned());
        } else {
            notes.push(format!(
                "surge {}, unavailable {}",
                spec.surge, spec.unavailable
            ));
        }
    }
    let mut notes = together(notes);
    let number = format!("step {}", step.step + 1);
    let mine = |e: &&CauseEntry| {
        let root = names.root(e);
        root.kind == "Step" && *root.name == *number && e.by.as_str() == "kubectl"
    };
    let deleted = (run.causes.iter())
        .filter(|e| matches!(e.what, What::PodTerminating(_)))
        .filter(mine)
        .count() as u64;
    if deleted > 0 {
        notes.push(format!("{} deleted", count(deleted, "pod")));
    }
    let end = (run.steps.iter()).find(|s| s.step == step.step && matches!(s.result, Some(Ok(_))));
    if let Some(end) = end.filter(|e| e.at.since(step.at) > Duration::from_secs(2)) {
        let after = span(end.at.since(step.at));
        notes.push(format!("done {} ({after})", names.clock(end.at)));
    }
    notes
}

/// What is said of several things is said once, with their number.
fn together(notes: Vec<String>) -> Vec<String> {
    let said: Vec<(u64, &str)> = counted(notes.iter().map(String::as_str));
    let mut told: Vec<&str> = Vec::new();
    let mut once = Vec::new();
    for note in &notes {
        if told.contains(&note.as_str()) {
            continue;
        }
        told.push(note);
        let times = said
            .iter()
            .find(|(_, text)| text == note)
            .map_or(1, |(n, _)| *n);
        once.push(match times {
            1 => note.clone(),
            n => format!("{note} ×{n}"),
        });
    }
    once
}

fn faults(names: &Names<'_>) -> Vec<Line> {
    names.run.faults.iter().map(|f| fault(names, f)).collect()
}

fn fault(names: &Names<'_>, fault: &FaultNote) -> Line {
    let whom = whom(names, fault);
    if fault.healed {
        let text = format!("{} ends: {whom}", fault.action);
        return Line::new(fault.at, 2, text);
    }
    if whom.is_empty() {
        let text = format!("{} {}: nothing to hit", fault.action, fault.name);
        return Line::new(fault.at, 0, text).bad();
    }
    let pods: Vec<_> = (fault.nodes.iter())
        .flat_map(|node| names.pods_on(node, fault.at))
        .collect();
    let mut line = Line::new(fault.at, 0, format!("{whom} {}", fault.action)).bad();
    line = line.note(fault.detail.clone());
    if fault.nodes.is_empty() {
        return line;
    }
    // The pods that users feel come first: those that a Traffic goes to.
    let targets = names.targets();
    for app in &targets {
        let spec = names.spec_at(app, fault.at);
        let mine: Vec<_> = pods.iter().filter(|p| names.app(p) == *app).collect();
        let new = mine
            .iter()
            .filter(|p| spec.is_some_and(|s| s.image == p.image));
        let (all, new) = (mine.len(), new.count());
        let versions = if new > 0 && new < all {
            format!(": {} old, {new} new", all - new)
        } else {
            String::new()
        };
        if all > 0 {
            line = line.note(format!(
                "{}{versions}",
                count(all as u64, &format!("{app} pod"))
            ));
        }
    }
    let others: Vec<&str> = (pods.iter().map(|p| names.app(p)))
        .filter(|app| !targets.contains(app))
        .collect();
    match (line.notes.is_empty(), others.len() as u64) {
        (_, 0) if line.notes.is_empty() => line.note("no pods"),
        (_, 0) => line,
        (true, _) => line.note(pods_by_app(names, others.into_iter())),
        (false, n) => line.note(format!("and {n} other{}", if n == 1 { "" } else { "s" })),
    }
}

/// What components of the control plane did.
fn components(names: &Names<'_>) -> Vec<Line> {
    let told = names.run.components.iter().map(|note| {
        let line = Line::new(note.at, 1, format!("{} {}", note.component, note.what));
        if note.bad { line.bad() } else { line }
    });
    told.collect()
}

/// Whom a fault hits.
fn whom(names: &Names<'_>, fault: &FaultNote) -> String {
    if !fault.components.is_empty() {
        return listed(&fault.components);
    }
    match (fault.nodes.as_slice(), fault.pods.as_slice()) {
        ([], []) => String::new(),
        ([node], _) => format!("node {node}{}", names.zone(node)),
        ([], pods) => {
            let known = pods.iter().map(|full| match names.pod_by_full_name(full) {
                Some(pod) => names.app(pod),
                None => bare(full),
            });
            match (pods, counted(known).as_slice()) {
                ([pod], _) => format!("pod {}", bare(pod)),
                (_, [(n, app)]) => format!("{n} {app} pods"),
                (_, rows) => {
                    let parts: Vec<String> = rows.iter().map(|(n, a)| format!("{n} {a}")).collect();
                    format!("pods {}", listed(&parts))
                }
            }
        }
        (nodes, _) => {
            let zones: Vec<String> = nodes.iter().map(|n| names.zone(n)).collect();
            let same = zones.iter().all(|z| *z == zones[0]);
            let zone = if same { zones[0].as_str() } else { "" };
            format!("{} nodes{zone}: {}", nodes.len(), listed(nodes))
        }
    }
}

/// Marks that are told: not those of coming up.
fn told(names: &Names<'_>, mark: &NodeMark) -> bool {
    mark.at > names.run.header.begun
        && match &mark.what {
            NodeMarkKind::Added | NodeMarkKind::Tainted(_) | NodeMarkKind::Untainted(_) => false,
            NodeMarkKind::Cordoned | NodeMarkKind::Uncordoned => !by_step(names, mark),
            _ => true,
        }
}

fn by_step(names: &Names<'_>, mark: &NodeMark) -> bool {
    let near = |s: &StepNote| s.at <= mark.at && mark.at.since(s.at) < Duration::from_secs(2);
    (names.run.steps.iter()).any(|s| s.result.is_none() && near(s) && s.text.contains("cordon"))
        || (names.run.steps.iter()).any(|s| near(s) && s.text.starts_with("drain"))
}

fn marks(names: &Names<'_>) -> Vec<Line> {
    let mut groups: Vec<Vec<&NodeMark>> = Vec::new();
    let mut open: BTreeMap<&NodeMarkKind, usize> = BTreeMap::new();
    for mark in names.run.nodes.iter().filter(|m| told(names, m)) {
        let group = open.get(&mark.what).copied();
        match group.filter(|g| {
            (groups[*g].last()).is_some_and(|last: &&NodeMark| mark.at.since(last.at) <= TOGETHER)
        }) {
            Some(group) => groups[group].push(mark),
            None => {
                open.insert(&mark.what, groups.len());
                groups.push(vec![mark]);
            }
        }
    }
    groups.iter().map(|group| mark_line(names, group)).collect()
}

fn mark_line(names: &Names<'_>, group: &[&NodeMark]) -> Line {
    let first = group[0];
    let nodes: Vec<&str> = group.iter().map(|m| &*m.node).collect();
    let who = match nodes.as_slice() {
        [node] => (*node).to_owned(),
        _ => format!("{} nodes ({})", nodes.len(), listed(&nodes)),
    };
    match &first.what {
        NodeMarkKind::Unknown => silent(names, group, &who),
        NodeMarkKind::NotReady => {
            Line::new(first.at, 1, format!("{who} NotReady (its kubelet says so)")).bad()
        }
        NodeMarkKind::Ready => Line::new(first.at, 2, format!("{who} Ready")),
        other => Line::new(
            first.at,
            2,
            format!("{who} {}", other.name().to_lowercase()),
        ),
    }
}

/// NotReady by silence, with the arithmetic of its lease and what followed at once.
fn silent(names: &Names<'_>, group: &[&NodeMark], who: &str) -> Line {
    let (first, last) = (group[0], group[group.len() - 1]);
    let lease = match first.last_lease {
        Some(at) if group.len() == 1 => {
            let silence = span(first.at.since(at));
            format!(" (last lease {} + {silence})", names.clock(at))
        }
        Some(at) => format!(" (last leases from {})", names.clock(at)),
        None => String::new(),
    };
    let mut line = Line::new(first.at, 0, format!("{who} NotReady{lease}")).bad();
    let drops = endpoint_drops(names, first.at, last.at + FOLLOWS);
    line = match drops.as_slice() {
        [] => line,
        [one] => line.note(format!("endpoints {one}")),
        [first, rest @ ..] => {
            let services = count(rest.len() as u64, "other Service");
            line.note(format!("endpoints {first}, fewer of {services}"))
        }
    };
    let nodes: Vec<&Text> = group.iter().map(|m| &m.node).collect();
    match loss(names, &nodes, first.at) {
        Some(lost) => {
            let unseen = first.at.since(lost);
            let hole = black_hole(names, &nodes, lost);
            let most = hole * 5 >= unseen * 4 && !drops.is_empty();
            let what = if most {
                "of black hole"
            } else {
                "after the fault"
            };
            line.note(format!("{} {what}", span(unseen)))
        }
        None => line,
    }
}

/// When the last fault began that hit one of these nodes and was not over.
fn loss(names: &Names<'_>, nodes: &[&Text], before: Time) -> Option<Time> {
    let hit = |f: &&FaultNote| f.at <= before && nodes.iter().any(|n| f.nodes.contains(n));
    let last = names.run.faults.iter().rfind(hit)?;
    (!last.healed).then_some(last.at)
}

/// How long requests were lost to endpoints on these nodes.
fn black_hole(names: &Names<'_>, nodes: &[&Text], from: Time) -> Duration {
    let groups = names.run.traffic.iter().flat_map(|t| &t.groups);
    let dead = |class: &str| class.starts_with("dead") || class.contains("network");
    let lost = groups.filter(|g| dead(&g.class) && nodes.contains(&&g.node));
    lost.map(|g| g.last.since(from)).max().unwrap_or_default()
}

/// Services whose ready endpoints fell between two instants: `frontend 7→5`.
fn endpoint_drops(names: &Names<'_>, from: Time, to: Time) -> Vec<String> {
    let mut drops = Vec::new();
    for (service, points) in &names.run.endpoints {
        let before = points.iter().rfind(|p| p.at < from).map_or(0, |p| p.ready);
        let after = points.iter().filter(|p| from <= p.at && p.at <= to);
        let low = after.map(|p| p.ready).min().unwrap_or(before);
        if low < before {
            let aimed = (names.run.traffic.iter())
                .any(|t| !t.internal && bare(service_name(&t.to)) == bare(service));
            drops.push((!aimed, format!("{} {before}→{low}", bare(service))));
        }
    }
    drops.sort();
    drops.into_iter().map(|(_, text)| text).collect()
}
