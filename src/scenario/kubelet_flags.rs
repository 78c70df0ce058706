//! Flags of kubelets that may differ from pool to pool: eviction, and an orderly shutdown.
//!
//! Flags are written as on the kubelet's command line (`eviction-hard: memory.available<500Mi`), the
//! shutdown, which has no flags, by the names of the KubeletConfiguration.

use std::time::Duration;

use super::fields::{Problems, Value};
use crate::api::duration;
use crate::kubelet::eviction::Eviction;
use crate::kubelet::shutdown::{Span, spans};

/// The names that are read here.
pub const NAMES: [&str; 9] = [
    "eviction-hard",
    "eviction-soft",
    "eviction-soft-grace-period",
    "eviction-minimum-reclaim",
    "eviction-max-pod-grace-period",
    "eviction-pressure-transition-period",
    "shutdownGracePeriod",
    "shutdownGracePeriodCriticalPods",
    "shutdownGracePeriodByPodPriority",
];

/// What these flags say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KubeletFlags {
    /// `--eviction-hard` and its kin.
    pub eviction: Eviction,
    /// `shutdownGracePeriod` or `shutdownGracePeriodByPodPriority`; empty by default.
    pub shutdown: Vec<Span>,
}

/// Statements of a flag, and where it is written.
type Given<'v, 'n> = Option<(&'v Value<'n>, Vec<(String, String)>)>;

/// Reads flags over `base`; returns those that change nothing as well.
pub fn read(
    entries: &[(&str, Value<'_>)],
    base: &KubeletFlags,
    problems: &mut Problems,
) -> (KubeletFlags, Vec<String>) {
    let mut flags = base.clone();
    let mut unused = Vec::new();
    let find = |name: &str| {
        let found = entries.iter().find(|(given, _)| *given == name);
        found.map(|(_, value)| value)
    };
    let parts = |name: &str, sign: char, problems: &mut Problems| -> Given<'_, '_> {
        let value = find(name)?;
        Some((value, statements(value, sign, problems)?))
    };
    let hard = parts("eviction-hard", '<', problems);
    let soft = parts("eviction-soft", '<', problems);
    let graces = parts("eviction-soft-grace-period", '=', problems);
    let reclaims = parts("eviction-minimum-reclaim", '=', problems);
    let given = [hard, soft, graces, reclaims];
    thresholds(&mut flags.eviction, given, problems, &mut unused);
    if let Some(seconds) = find("eviction-max-pod-grace-period").and_then(|v| v.count(problems)) {
        flags.eviction.max_grace_s = seconds;
    }
    let transition = find("eviction-pressure-transition-period");
    if let Some(span) = transition.and_then(|v| v.duration(problems)) {
        flags.eviction.transition = span;
    }
    let all = find("shutdownGracePeriod");
    let critical = find("shutdownGracePeriodCriticalPods");
    let period = all.and_then(|v| v.duration(problems));
    let of_critical = critical.and_then(|v| v.duration(problems));
    match (period, of_critical, critical) {
        (Some(all), Some(part), Some(value)) if part > all => {
            problems.push(value.invalid("must not be longer than shutdownGracePeriod"));
        }
        (None, Some(_), Some(value)) => {
            problems.push(value.invalid("needs shutdownGracePeriod"));
        }
        (Some(all), part, _) => flags.shutdown = spans(all, part.unwrap_or(Duration::ZERO)),
        (None, ..) => {}
    }
    if let Some(value) = find("shutdownGracePeriodByPodPriority") {
        flags.shutdown = by_priority(value, problems);
    }
    (flags, unused)
}

fn thresholds(
    eviction: &mut Eviction,
    given: [Given<'_, '_>; 4],
    problems: &mut Problems,
    unused: &mut Vec<String>,
) {
    let [hard, soft, graces, reclaims] = &given;
    let Some((place, _)) = given.iter().flatten().next() else {
        return;
    };
    let of = |given: &Given<'_, '_>| given.as_ref().map_or_else(Vec::new, |(_, all)| all.clone());
    let usual: Vec<(String, String)> = Eviction::usual();
    let hard = hard.as_ref().map_or(usual, |(_, all)| all.clone());
    match Eviction::parse(&hard, &of(soft), &of(graces), &of(reclaims)) {
        Ok(thresholds) => eviction.thresholds = thresholds,
        Err(why) => problems.push(place.invalid(why)),
    }
    for (name, _) in hard.iter().chain(&of(soft)) {
        // Containers have no filesystem of their own here.
        if name.starts_with("containerfs.") {
            unused.push(format!("kubelet eviction signal {name}"));
        }
    }
}

/// `memory.available<500Mi,nodefs.available<10%`.
fn statements(
    value: &Value<'_>,
    sign: char,
    problems: &mut Problems,
) -> Option<Vec<(String, String)>> {
    let text = value.text(problems)?;
    let mut all = Vec::new();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let Some((name, amount)) = part.split_once(sign) else {
            let shape = format!("must be written as signal{sign}value, separated by commas");
            problems.push(value.invalid(shape));
            return None;
        };
        all.push((name.trim().to_owned(), amount.trim().to_owned()));
    }
    Some(all)
}

/// `0=30s,1000=10s`.
fn by_priority(value: &Value<'_>, problems: &mut Problems) -> Vec<Span> {
    let mut all = Vec::new();
    for (priority, span) in statements(value, '=', problems).unwrap_or_default() {
        let span = duration::parse(&span)
            .ok()
            .and_then(|s| u32::try_from(s.as_secs()).ok());
        match (priority.parse(), span) {
            (Ok(priority), Some(grace_s)) => all.push(Span { priority, grace_s }),
            _ => problems.push(value.invalid("must be written as priority=duration")),
        }
    }
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests;
