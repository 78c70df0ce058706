//! Why: what was going on at a moment, what became of a pod, and what led to each of it.
//!
//! Works from the record alone. A chain is printed from its end to its beginning, each link with
//! time, object, what happened, who did it and by which rule.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::names::{Names, listed};
use super::number::{moment, span, thousands};
use super::story::{StoryOptions, window};
use crate::engine::Time;
use crate::record::{CauseEntry, ComponentNote, EventRow, FailureGroup, PodLife, RunRecord, What};

/// So far before and after a moment the explanation looks.
const AROUND: Duration = Duration::from_secs(30);

/// So many chains are printed.
const CHAINS_MAX: usize = 6;

/// What was going on at `at` (from the run's own beginning), in words.
pub fn at(run: &RunRecord, at: Duration, options: &StoryOptions) -> String {
    let names = Names::new(run);
    let moment = run.header.begun + at;
    let (from, to) = around(moment);
    let mut out = format!(
        "{} at {} (seed {})\n",
        run.header.scenario,
        names.clock(moment),
        run.header.seed
    );
    let story = window(run, options, from, to);
    if story.is_empty() {
        out.push_str("  nothing of note within half a minute\n");
    }
    out.push_str(&story);
    state(&names, moment, &mut out);
    webhooks(&names, moment, &mut out);
    failing(&names, from, to, &mut out);
    for entry in telling(&names, from, to) {
        out.push_str(&chain_text(&names, entry));
    }
    out
}

/// The same as one JSON object.
pub fn at_json(run: &RunRecord, at: Duration) -> Value {
    let names = Names::new(run);
    let moment = run.header.begun + at;
    let (from, to) = around(moment);
    let failures = failures(run, from, to);
    json!({
        "scenario": run.header.scenario,
        "seed": run.header.seed,
        "at_s": at.as_secs_f64(),
        "failures": failures.iter().map(|(name, g)| json!({
            "traffic": name, "cause": g.cause, "class": g.class, "pod": g.pod.as_str(),
            "node": g.node.as_str(), "count": g.count,
        })).collect::<Vec<_>>(),
        "chains": telling(&names, from, to).into_iter()
            .map(|entry| chain_json(&names, entry))
            .collect::<Vec<_>>(),
    })
}

fn around(moment: Time) -> (Time, Time) {
    let before = Time::from_nanos(moment.as_nanos().saturating_sub(AROUND.as_nanos() as u64));
    (before, moment + AROUND)
}

/// Nodes that are not ready, Deployments and Services that lack something, at a moment.
fn state(names: &Names<'_>, moment: Time, out: &mut String) {
    let mut lacking = Vec::new();
    for (deployment, points) in &names.run.replicas {
        if let Some(p) = points.iter().rfind(|p| p.at <= moment)
            && p.ready < p.want
        {
            lacking.push(format!("{deployment} {}/{} ready", p.ready, p.want));
        }
    }
    for (service, points) in &names.run.endpoints {
        if let Some(p) = points.iter().rfind(|p| p.at <= moment)
            && p.ready == 0
        {
            lacking.push(format!("service {service} has no ready endpoints"));
        }
    }
    if !lacking.is_empty() {
        out.push_str(&format!("  then: {}\n", listed(&lacking)));
    }
}

/// Admission webhooks that cannot be asked at a moment: why, since when, and whom that has stopped.
fn webhooks(names: &Names<'_>, moment: Time, out: &mut String) {
    let run = names.run;
    let told = run.components.iter().filter(|note| note.at <= moment);
    let mut out_of_reach: BTreeMap<&str, &ComponentNote> = BTreeMap::new();
    for note in told.filter(|note| note.component == "kube-apiserver") {
        // `webhook NAME cannot be asked, …`, `webhook NAME answers again`.
        let Some((name, what)) =
            (note.what.strip_prefix("webhook ")).and_then(|rest| rest.split_once(' '))
        else {
            continue;
        };
        match what.starts_with("cannot") {
            true => out_of_reach.insert(name, note),
            false => out_of_reach.remove(name),
        };
    }
    for (name, note) in out_of_reach {
        let since = names.clock(note.at);
        out.push_str(&format!(
            "  since {since}: {} {}\n",
            note.component, note.what
        ));
        let about = format!("failed calling webhook \"{name}\"");
        let refused = run.events.iter().filter(|event| {
            note.at <= event.at && event.at <= moment && event.message.contains(&about)
        });
        let mut whom: BTreeMap<String, u64> = BTreeMap::new();
        for event in refused {
            let object = format!("{} {}/{}", event.kind, event.namespace, event.name);
            *whom
                .entry(format!("{} of {object}", event.reason))
                .or_default() += 1;
        }
        let whom: Vec<String> = whom
            .iter()
            .map(|(what, n)| format!("{what} ×{n}"))
            .collect();
        if !whom.is_empty() {
            out.push_str(&format!("  refused so far: {}\n", listed(&whom)));
        }
    }
}

/// Failures whose span touches the window, the most first.
fn failures(run: &RunRecord, from: Time, to: Time) -> Vec<(&str, &FailureGroup)> {
    let users = run.traffic.iter().filter(|t| !t.internal);
    let mut found: Vec<_> = users
        .flat_map(|t| t.groups.iter().map(|g| (t.name.as_str(), g)))
        .filter(|(_, g)| g.first <= to && from <= g.last)
        .collect();
    found.sort_by_key(|(name, g)| (std::cmp::Reverse(g.count), *name, g.pod.clone()));
    found
}

fn failing(names: &Names<'_>, from: Time, to: Time, out: &mut String) {
    let found = failures(names.run, from, to);
    for (traffic, group) in found.iter().take(CHAINS_MAX) {
        let target = match (group.pod.is_empty(), group.node.is_empty()) {
            (true, _) => String::new(),
            (false, true) => format!(" sent to {}", group.pod),
            (false, false) => format!(" sent to {} on {}", group.pod, group.node),
        };
        out.push_str(&format!(
            "  failing {traffic}: {} {}{target}, {}–{} ({})\n",
            thousands(group.count),
            group.cause,
            names.clock(group.first),
            names.clock(group.last),
            group.class
        ));
    }
    if found.len() > CHAINS_MAX {
        out.push_str(&format!(
            "  … and {} more groups\n",
            found.len() - CHAINS_MAX
        ));
    }
}

/// How much an entry tells; what is not worth a chain is `None`.
fn weight(what: &What) -> Option<u8> {
    match what {
        What::Endpoints { from, to } if to < from => Some(0),
        What::Restarted { .. } | What::PodFailed(_) => Some(1),
        What::PodTerminating(_) => Some(2),
        What::Progress(_) | What::Node(..) => Some(3),
        What::Scaled { .. } => Some(4),
        What::PodUnready => Some(5),
        _ => None,
    }
}

/// The entries of a window whose chains are worth printing, in order of time: one for each pair of
/// what happened and what it began with.
fn telling<'r>(names: &Names<'r>, from: Time, to: Time) -> Vec<&'r CauseEntry> {
    let causes = &names.run.causes;
    let start = causes.partition_point(|e| e.at < from);
    let inside = causes[start..].iter().take_while(|e| e.at <= to);
    let mut found: Vec<(u8, &CauseEntry)> = inside
        .filter(|e| e.parent.is_some())
        .filter_map(|e| Some((weight(&e.what)?, e)))
        .collect();
    found.sort_by_key(|(weight, e)| (*weight, e.id));
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|(weight, e)| seen.insert((*weight, names.root(e).id)));
    found.truncate(CHAINS_MAX);
    found.sort_by_key(|(_, e)| e.id);
    found.into_iter().map(|(_, e)| e).collect()
}

fn chain<'r>(names: &Names<'r>, entry: &'r CauseEntry) -> Vec<&'r CauseEntry> {
    let parent = |e: &&'r CauseEntry| e.parent.and_then(|id| names.entry(id));
    std::iter::successors(Some(entry), parent).collect()
}

fn link(names: &Names<'_>, entry: &CauseEntry) -> String {
    let object = match (&*entry.kind, entry.namespace.is_empty()) {
        ("Step", _) => entry.name.to_string(),
        (kind, true) => format!("{} {}", kind.to_lowercase(), entry.name),
        (kind, false) => format!("{} {}/{}", kind.to_lowercase(), entry.namespace, entry.name),
    };
    let by = match (&*entry.by, &*entry.rule) {
        ("", _) => String::new(),
        (by, "") => format!("  [{by}]"),
        (by, rule) => format!("  [{by}: {rule}]"),
    };
    let what = entry.what.text(names.run.header.begun);
    format!("{} {object}: {what}{by}", names.clock(entry.at))
}

fn chain_text(names: &Names<'_>, entry: &CauseEntry) -> String {
    let mut out = String::new();
    for (depth, entry) in chain(names, entry).into_iter().enumerate() {
        let because = if depth == 0 { "" } else { "because " };
        let indent = "  ".repeat(depth + 1);
        out.push_str(&format!("{indent}{because}{}\n", link(names, entry)));
    }
    out
}

fn chain_json(names: &Names<'_>, entry: &CauseEntry) -> Value {
    let begun = names.run.header.begun;
    let link = |e: &CauseEntry| {
        json!({
            "id": e.id, "at_s": at_s(e.at, begun), "kind": e.kind.as_str(),
            "namespace": e.namespace.as_str(), "name": e.name.as_str(),
            "what": e.what.text(begun), "by": e.by.as_str(), "rule": e.rule.as_str(),
        })
    };
    chain(names, entry).into_iter().map(link).collect()
}

fn at_s(at: Time, begun: Time) -> f64 {
    (i128::from(at.as_nanos()) - i128::from(begun.as_nanos())) as f64 / 1e9
}

/// The pods that a name means: `namespace/name`, a bare name, or the beginning of one.
pub fn pods_named<'r>(run: &'r RunRecord, name: &str) -> Vec<&'r PodLife> {
    let exact = |p: &&PodLife| *p.name == *name || format!("{}/{}", p.namespace, p.name) == name;
    let found: Vec<&PodLife> = run.pods.iter().filter(exact).collect();
    if !found.is_empty() {
        return found;
    }
    let prefix = name.rsplit('/').next().unwrap_or(name);
    run.pods
        .iter()
        .filter(|p| p.name.starts_with(prefix))
        .collect()
}

/// What became of a pod, in words.
pub fn pod(run: &RunRecord, pod: &PodLife) -> String {
    let names = Names::new(run);
    let mut out = format!("pod {}/{}", pod.namespace, pod.name);
    for (word, value) in [
        (" of ", &pod.owner),
        (" on ", &pod.node),
        ("  image ", &pod.image),
    ] {
        if !value.is_empty() {
            out.push_str(&format!("{word}{value}"));
        }
    }
    out.push('\n');
    let mut before: Option<Time> = None;
    for (what, at) in milestones(pod) {
        let after = match before {
            Some(before) => format!("  +{}", span(at.since(before))),
            None => String::new(),
        };
        before = Some(at);
        let time = moment(at, run.header.begun);
        out.push_str(&format!("  {time:>11}  {what}{after}\n"));
    }
    if pod.restarts > 0 {
        out.push_str(&format!("  restarts: {}\n", pod.restarts));
    }
    if !pod.reason.is_empty() {
        out.push_str(&format!("  reason: {}\n", pod.reason));
    }
    for (event, times) in warnings(run, pod) {
        let time = moment(event.at, run.header.begun);
        let times = if times > 1 {
            format!("  ×{times}")
        } else {
            String::new()
        };
        let (reason, message) = (&event.reason, &event.message);
        out.push_str(&format!("  {time:>11}  {reason}: {message}{times}\n"));
    }
    for entry in endings(run, pod) {
        out.push_str(&chain_text(&names, entry));
    }
    out
}

/// Warnings about a pod, those that follow each other with the same words as one with their number.
fn warnings<'r>(run: &'r RunRecord, pod: &PodLife) -> Vec<(&'r EventRow, u32)> {
    let mut found: Vec<(&EventRow, u32)> = Vec::new();
    for event in run.events.iter().filter(|e| {
        e.kind == "Pod"
            && e.level == "Warning"
            && e.name == pod.name
            && e.namespace == pod.namespace
    }) {
        match found.last_mut() {
            Some((last, n)) if last.reason == event.reason && last.message == event.message => {
                *n += 1;
            }
            _ => found.push((event, 1)),
        }
    }
    found
}

/// The same as one JSON object.
pub fn pod_json(run: &RunRecord, pod: &PodLife) -> Value {
    let names = Names::new(run);
    let begun = run.header.begun;
    json!({
        "pod": format!("{}/{}", pod.namespace, pod.name),
        "owner": pod.owner.as_str(),
        "node": pod.node.as_str(),
        "image": pod.image.as_str(),
        "restarts": pod.restarts,
        "reason": pod.reason.as_str(),
        "milestones": milestones(pod).into_iter()
            .map(|(what, at)| json!({"what": what, "at_s": at_s(at, begun)}))
            .collect::<Vec<_>>(),
        "chains": endings(run, pod).into_iter()
            .map(|entry| chain_json(&names, entry))
            .collect::<Vec<_>>(),
    })
}

fn milestones(pod: &PodLife) -> Vec<(&'static str, Time)> {
    let mut rows: Vec<(&str, Time)> = vec![("created", pod.created)];
    let once = [
        ("scheduled", pod.scheduled),
        ("images pulled", pod.pulled),
        ("started", pod.started),
        ("ready", pod.ready),
        ("terminating", pod.terminating),
        ("gone", pod.gone),
    ];
    rows.extend(once.into_iter().filter_map(|(what, at)| Some((what, at?))));
    rows.extend(pod.unready.iter().map(|at| ("not ready", *at)));
    rows.extend(pod.ready_again.iter().map(|at| ("ready again", *at)));
    rows.sort_by_key(|(_, at)| *at);
    rows
}

/// Why it was created, lost readiness, restarted and ended.
fn endings<'r>(run: &'r RunRecord, pod: &PodLife) -> Vec<&'r CauseEntry> {
    let worth = |e: &&CauseEntry| {
        e.kind == "Pod"
            && e.name == pod.name
            && e.namespace == pod.namespace
            && matches!(
                e.what,
                What::PodCreated
                    | What::PodUnready
                    | What::PodTerminating(_)
                    | What::PodFailed(_)
                    | What::Restarted { .. }
            )
    };
    run.causes.iter().filter(worth).collect()
}
