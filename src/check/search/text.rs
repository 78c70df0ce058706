//! What a search came to, for people and for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::shrink::Small;
use super::{Case, Find, Found};
use crate::api::duration;
use crate::cluster::timeline::describe;
use crate::engine::Time;
use crate::scenario::{Scenario, VARY, Vary};

/// The file of a find.
#[derive(Clone, Debug)]
pub struct Saved {
    /// Where it is.
    pub path: String,
    /// The digest of its run.
    pub digest: String,
}

/// What differed between the runs, in the scenario's words.
pub fn vary(vary: Vary) -> String {
    let said = [vary.seed, vary.times, vary.optional];
    let words: Vec<&str> = (VARY.iter().zip(said))
        .filter_map(|(word, said)| said.then_some(*word))
        .collect();
    words.join(", ")
}

/// One line of what was searched.
pub fn head(scenario: &Scenario, found: &Found, varied: Vary) -> String {
    let nodes: u32 = scenario.cluster.pools.iter().map(|pool| pool.count).sum();
    let length = duration::short(scenario.duration);
    let name = &scenario.name;
    let runs = plural(found.runs, "run");
    let mut line = format!(
        "{name}  {runs} of {length}, {nodes} nodes, seed {} on, differing in {}\n",
        scenario.seed,
        vary(varied)
    );
    let _ = match (found.failed, found.finds.len()) {
        (0, _) => writeln!(line, "no check failed in any of them"),
        (failed, checks) => {
            let checks = plural(u32::try_from(checks).unwrap_or(u32::MAX), "check");
            writeln!(line, "{checks} failed, in {failed} of them")
        }
    };
    line
}

/// A check that failed: how often, when first, and the small case.
pub fn find(scenario: &Scenario, find: &Find, saved: &Saved) -> String {
    let Find {
        check, count, run, ..
    } = find;
    let small = &find.small;
    let first = match run {
        0 => "first as written".to_owned(),
        run => format!("first in run {run}, seed {}", find.case.seed),
    };
    let mut text = format!(
        "\n✖ {}   in {}, {first}\n",
        check.name,
        plural(*count, "run")
    );
    let at = small.check.at_s.map(|at| format!("{}  ", clock_s(at)));
    let at = at.unwrap_or_default();
    let _ = writeln!(text, "    {at}{} {}", small.check.kind, small.check.detail);
    let written = Case::written(scenario);
    let _ = writeln!(text, "  {}", sizes(&written, small));
    for (place, at) in &small.case.steps {
        let step = describe(&scenario.timeline[*place].action);
        let note = match small.least {
            true => "   ← without it the check passes",
            false => "",
        };
        let _ = writeln!(text, "    {}  {step}{note}", clock(*at));
    }
    if small.case.steps.is_empty() {
        let _ = writeln!(text, "    nothing has to happen for it");
    }
    let Saved { path, digest } = saved;
    let digest = digest.get(..8).unwrap_or(digest);
    let _ = writeln!(text, "  saved {path}");
    let _ = writeln!(
        text,
        "    rehearsal run {path}   reproduces it (digest {digest}…)"
    );
    text
}

fn sizes(written: &Case, small: &Small) -> String {
    let case = &small.case;
    let nodes = |case: &Case| case.nodes.iter().sum::<u32>();
    let step = |n: usize| plural(u32::try_from(n).unwrap_or(u32::MAX), "step");
    let mut parts = Vec::new();
    let mut part = |from: String, to: String| match from == to {
        true => parts.push(from),
        false => parts.push(format!("{from} → {to}")),
    };
    part(step(written.steps.len()), case.steps.len().to_string());
    part(format!("{} nodes", nodes(written)), nodes(case).to_string());
    part(
        duration::short(written.duration),
        duration::short(case.duration),
    );
    let tries = plural(small.runs, "more run");
    let how = match small.least {
        true => "made small",
        false => "made smaller, not to the end",
    };
    format!("{how} by {tries}: {}", parts.join(", "))
}

/// As JSON; `saved` are the files of the finds, in order.
pub fn json(scenario: &Scenario, found: &Found, varied: Vary, saved: &[Saved]) -> Value {
    let finds = found.finds.iter().zip(saved).map(|(find, saved)| {
        let case = &find.small.case;
        let steps = case.steps.iter().map(|(place, at)| {
            let step = describe(&scenario.timeline[*place].action);
            json!({"atSeconds": at.as_secs_f64(), "step": step})
        });
        json!({
            "check": find.check.name,
            "kind": find.check.kind,
            "runs": find.count,
            "firstRun": find.run,
            "seed": find.case.seed,
            "small": {
                "atSeconds": find.small.check.at_s,
                "detail": find.small.check.detail,
                "seed": case.seed,
                "nodes": case.nodes,
                "durationSeconds": case.duration.as_secs_f64(),
                "steps": steps.collect::<Vec<_>>(),
                "digest": saved.digest,
                "runs": find.small.runs,
                "least": find.small.least,
                "file": saved.path,
            },
        })
    });
    json!({
        "scenario": scenario.name.as_str(),
        "seed": scenario.seed,
        "vary": vary(varied).split(", ").collect::<Vec<_>>(),
        "runs": found.runs,
        "failedRuns": found.failed,
        "stopped": found.stopped,
        "finds": finds.collect::<Vec<_>>(),
    })
}

fn plural(n: u32, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

fn clock(at: Duration) -> String {
    (Time::ZERO + at).clock()
}

fn clock_s(at: f64) -> String {
    clock(Duration::try_from_secs_f64(at).unwrap_or_default())
}
