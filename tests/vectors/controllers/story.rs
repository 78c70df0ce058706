//! Compares two logs by what must be equal, see the tolerances in the parent module.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Value, json};

/// The recording may be late by so much.
pub const LATE_S: f64 = 1.0;

/// What a comparison lets pass.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// What is recorded may come so much later here.
    pub early_s: f64,
    /// What is recorded may come so much earlier here.
    pub late_s: f64,
    /// States are compared where nothing was recorded for so long.
    pub quiet_s: f64,
}

/// For recordings of controllers.
pub const TOLERANCE: Tolerance = Tolerance {
    early_s: 0.5,
    late_s: LATE_S,
    quiet_s: 0.5,
};

/// The first difference.
#[derive(Debug)]
pub struct Difference {
    /// When, in seconds of the recording.
    pub at_s: f64,
    /// What.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {:.2} s: {}", self.at_s, self.what)
    }
}

/// `Ok` when the logs tell the same story.
pub fn compare(expected: &[Value], got: &[Value]) -> Result<(), Difference> {
    match differences(expected, got, TOLERANCE).into_iter().next() {
        Some(first) => Err(first),
        None => Ok(()),
    }
}

/// All that differs, in order of time.
pub fn differences(expected: &[Value], got: &[Value], tolerance: Tolerance) -> Vec<Difference> {
    let expected = &plain(expected)[..];
    let mut all = Differences {
        tolerance,
        found: Vec::new(),
    };
    steps(expected, got, &mut all);
    decisions(expected, got, &mut all);
    quiet_points(expected, got, &mut all);
    events(expected, got, &mut all);
    let mut found = all.found;
    found.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    found
}

/// What was found so far.
pub struct Differences {
    /// What passes.
    pub tolerance: Tolerance,
    /// What did not.
    pub found: Vec<Difference>,
}

/// The recording with names instead of whole references in a CronJob's `active`.
fn plain(lines: &[Value]) -> Vec<Value> {
    let mut lines = lines.to_vec();
    for line in lines.iter_mut().filter(|l| l[1] == "CronJob") {
        let active = line
            .get_mut(4)
            .and_then(|is| is.get_mut("active"))
            .and_then(Value::as_array_mut);
        for job in active.into_iter().flatten() {
            *job = job["name"].take();
        }
    }
    lines
}

/// When a line was written.
pub fn time(line: &Value) -> f64 {
    line[0].as_f64().unwrap_or(f64::NAN)
}

/// Text, empty for what is none.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The pod's owner in the name that logs give it; its own name when it has none.
pub fn owner(pod: &str) -> &str {
    pod.rsplit_once('.').map_or(pod, |(owner, _)| owner)
}

/// Operation, status code and message of every request, in order.
fn steps(expected: &[Value], got: &[Value], differences: &mut Differences) {
    let of = |lines: &[Value], code: usize| -> Vec<(f64, String)> {
        let steps = lines.iter().filter(|l| l[1] == "Step");
        let said = |l: &Value| format!("{} {} {}", l[2], l[code], l[code + 1]);
        steps.map(|l| (time(l), said(l))).collect()
    };
    sequence("requests", &of(expected, 5), &of(got, 3), differences);
}

/// What was decided about each object, in order and in time.
fn decisions(expected: &[Value], got: &[Value], differences: &mut Differences) {
    let changed = expected.iter().filter(|l| l[1] == "Step");
    let special: Vec<&str> = changed.map(|l| text(&l[4])).collect();
    let (expected, got) = (by_subject(expected, &special), by_subject(got, &special));
    for subject in expected.keys().chain(got.keys()) {
        let none = Vec::new();
        let want = expected.get(subject).unwrap_or(&none);
        let have = got.get(subject).unwrap_or(&none);
        sequence(subject, want, have, differences);
    }
}

type Decisions = BTreeMap<String, Vec<(f64, String)>>;

fn by_subject<'a>(lines: &'a [Value], special: &[&'a str]) -> Decisions {
    let mut all = Decisions::new();
    let mut pods = Pods {
        special: special.to_vec(),
        ..Pods::default()
    };
    for line in lines {
        let (kind, name, what) = (text(&line[1]), text(&line[2]), text(&line[3]));
        let mut add = |subject: String, what: String| {
            all.entry(subject).or_default().push((time(line), what));
        };
        match (kind, what) {
            ("Pod", "terminating") => {
                let like = pods.describe(name);
                add(format!("deletions by {}", owner(name)), like);
            }
            ("Pod", "created") => add(format!("creations by {}", owner(name)), "".into()),
            ("Pod", "gone") => add(format!("pods of {} gone", owner(name)), "".into()),
            ("ReplicaSet" | "StatefulSet", "is") => {
                add(format!("size of {name}"), line[4]["want"].to_string());
            }
            ("ReplicaSet" | "Job", "gone") => add(format!("removal of {name}"), "".into()),
            ("Job", "is") if line[4] == json!({}) => add(format!("creation of {name}"), "".into()),
            _ => {}
        }
        pods.note(line);
    }
    for (subject, said) in &mut all {
        if subject.starts_with("size") {
            said.dedup_by(|later, first| later.1 == first.1);
        }
        if subject.starts_with("deletions") {
            // Those of one decision are sent at once, in any order.
            for burst in said.chunk_by_mut(|a, b| b.0 - a.0 < 0.1) {
                let mut like: Vec<String> = burst.iter().map(|b| b.1.clone()).collect();
                like.sort();
                burst.iter_mut().zip(like).for_each(|(b, like)| b.1 = like);
            }
        }
    }
    all
}

/// What upstream knows of pods when it chooses victims.
#[derive(Default)]
struct Pods<'a> {
    bound: BTreeSet<&'a str>,
    phases: BTreeMap<&'a str, &'a str>,
    ready: BTreeSet<&'a str>,
    /// Those that a request changed: they are not like others.
    special: Vec<&'a str>,
}

impl<'a> Pods<'a> {
    fn note(&mut self, line: &'a Value) {
        let (name, value) = (text(&line[2]), text(&line[4]));
        match (text(&line[1]), text(&line[3])) {
            ("Pod", "bound") => drop(self.bound.insert(name)),
            ("Pod", "phase") => drop(self.phases.insert(name, value)),
            ("Pod", "ready") if value == "True" => drop(self.ready.insert(name)),
            ("Pod", "ready") => drop(self.ready.remove(name)),
            _ => {}
        }
    }

    fn describe(&self, pod: &str) -> String {
        let phase = self.phases.get(pod).copied().unwrap_or("Pending");
        let bound = self.bound.contains(pod);
        let ready = self.ready.contains(pod);
        let special = if self.special.contains(&pod) { pod } else { "" };
        format!("bound {bound}, {phase}, ready {ready} {special}")
    }
}

/// Compares what was said of one subject, in order and in time.
pub fn sequence(
    subject: &str,
    expected: &[(f64, String)],
    got: &[(f64, String)],
    differences: &mut Differences,
) {
    let tolerance = differences.tolerance;
    for i in 0..expected.len().max(got.len()) {
        let (at_s, what) = match (expected.get(i), got.get(i)) {
            (Some(want), Some(have)) if want.1 != have.1 => {
                let what = format!("expected {}, got {} at {:.2}", want.1, have.1, have.0);
                (want.0.min(have.0), what)
            }
            (Some(want), Some(have)) if !in_time(want.0, have.0, tolerance) => {
                let what = format!(
                    "expected {} at {:.2}, got it at {:.2}",
                    want.1, want.0, have.0
                );
                (want.0.min(have.0), what)
            }
            (Some(want), None) => (want.0, format!("expected {}, got nothing", want.1)),
            (None, Some(have)) => (have.0, format!("expected nothing, got {}", have.1)),
            _ => continue,
        };
        differences.found.push(Difference {
            at_s,
            what: format!("{subject}, number {i}: {what}"),
        });
        return;
    }
}

/// Whether what happened here at `have` may have been recorded at `want`.
fn in_time(want: f64, have: f64, tolerance: Tolerance) -> bool {
    (-tolerance.early_s..=tolerance.late_s).contains(&(want - have))
}

type States<'a> = BTreeMap<(&'a str, &'a str), Value>;

/// Wherever nothing was recorded for half a second, all counts and conditions are equal at some
/// moment of that quiet; where it lasted longer, all the time but for the tolerance at both ends.
fn quiet_points(expected: &[Value], got: &[Value], differences: &mut Differences) {
    let tolerance = differences.tolerance;
    let mut state = States::new();
    for (i, line) in expected.iter().enumerate() {
        update(&mut state, line);
        let next = expected.get(i + 1).map_or(f64::INFINITY, time);
        let quiet = time(line)..next;
        if next - time(line) <= tolerance.quiet_s {
            continue;
        }
        if let Some(what) = differs_throughout(&state, got, quiet, tolerance) {
            differences.found.push(Difference {
                at_s: time(line),
                what,
            });
            return;
        }
    }
}

/// Kinds whose counts and conditions are compared.
const COUNTED: [&str; 9] = [
    "Deployment",
    "EndpointSlice",
    "Node",
    "PodDisruptionBudget",
    "ReplicaSet",
    "StatefulSet",
    "DaemonSet",
    "Job",
    "CronJob",
];

fn update<'a>(state: &mut States<'a>, line: &'a Value) {
    let key = (text(&line[1]), text(&line[2]));
    match (key.0, text(&line[3])) {
        (kind, "is") if COUNTED.contains(&kind) => drop(state.insert(key, said(line))),
        (kind, "gone") if COUNTED.contains(&kind) => drop(state.remove(&key)),
        _ => {}
    }
}

/// What a line says of its object. The pods of a slice are named by their owner: which one of
/// equal ones was the victim does not matter.
fn said(line: &Value) -> Value {
    match text(&line[1]) {
        "EndpointSlice" => {
            let entries = line[4].as_array().into_iter().flatten();
            let mut entries: Vec<String> = entries
                .map(|e| format!("{} {} {} {}", owner(text(&e[0])), e[1], e[2], e[3]))
                .collect();
            entries.sort();
            json!([entries, line[5]])
        }
        "Node" => json!([line[4], line[5], line[6]]),
        _ => line[4].clone(),
    }
}

/// How the state differs during this quiet, if it does where it must not.
fn differs_throughout(
    expected: &States<'_>,
    got: &[Value],
    quiet: std::ops::Range<f64>,
    tolerance: Tolerance,
) -> Option<String> {
    let certain = quiet.start + tolerance.early_s..quiet.end - tolerance.late_s;
    let (mut state, mut ever, mut last) = (States::new(), false, None);
    for (i, line) in got.iter().enumerate() {
        update(&mut state, line);
        let from = time(line);
        let to = got.get(i + 1).map_or(f64::INFINITY, time);
        if to <= quiet.start || from >= quiet.end || to <= from {
            continue;
        }
        let equal = state == *expected;
        ever |= equal;
        if !equal {
            let what = difference(expected, &state);
            if from < certain.end && to > certain.start && certain.start < certain.end {
                return Some(format!("{what} from {from:.2} to {to:.2}"));
            }
            last = Some(what);
        }
    }
    if ever { None } else { last }
}

fn difference(expected: &States<'_>, got: &States<'_>) -> String {
    for key in expected.keys().chain(got.keys()) {
        let (want, have) = (expected.get(key), got.get(key));
        if want != have {
            let print = |state: Option<&Value>| state.map_or("nothing".into(), |s| s.to_string());
            let (want, have) = (print(want), print(have));
            return format!("{} {}: expected {want}, got {have}", key.0, key.1);
        }
    }
    String::new()
}

/// Reasons and messages that were told about each object, as often as they were.
fn events(expected: &[Value], got: &[Value], differences: &mut Differences) {
    let (expected, got) = (told(expected), told(got));
    for (event, (at_s, count)) in &expected {
        let have = got.get(event).map_or(0, |(_, count)| *count);
        if have != *count {
            differences.found.push(Difference {
                at_s: *at_s,
                what: format!("event {event}: expected {count}, got {have}"),
            });
        }
    }
    for (event, (at_s, count)) in &got {
        if !expected.contains_key(event) {
            differences.found.push(Difference {
                at_s: *at_s,
                what: format!("event {event}: expected none, got {count}"),
            });
        }
    }
}

/// A word of a message without the random part of a generated name: `"web-A-x7k2p"`.
fn unnamed(word: &str) -> &str {
    match word.strip_prefix('"').and_then(|w| w.rsplit_once('-')) {
        Some((owner, suffix)) if suffix.len() == 6 && suffix.ends_with('"') => owner,
        _ => owner(word),
    }
}

/// Pods in messages are named by their owner: which one of equal ones it is does not matter. The
/// recording left out that events were combined.
fn told(lines: &[Value]) -> BTreeMap<String, (f64, usize)> {
    let mut all = BTreeMap::new();
    for line in lines.iter().filter(|l| l[1] == "Event") {
        let object = text(&line[2]);
        if object.starts_with("Pod/") || line[3] == "MissingJob" {
            continue;
        }
        let message = text(&line[5]);
        let message = message
            .strip_prefix("(combined from similar events): ")
            .unwrap_or(message);
        let message: Vec<&str> = message.split(' ').map(unnamed).collect();
        let event = format!("{object} {} {}", text(&line[3]), message.join(" "));
        let count = &mut all.entry(event).or_insert((time(line), 0)).1;
        // A CronJob's status may be seen too late: then the same is told again. How often a creation
        // is tried again depends on what else wakes the controller.
        *count = match object.starts_with("CronJob/") || line[3] == "FailedCreate" {
            true => 1,
            false => *count + 1,
        };
    }
    all
}
