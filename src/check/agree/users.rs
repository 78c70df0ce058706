//! What users met: sent, failed by cause and by phase, answered by which endpoint, how fast.
//!
//! Which endpoint a connection is made to is chosen at random, in a real run by the kernel. So
//! counts and shares agree within four standard deviations of what chance does to them: of single
//! requests where each opens its own connection, of connections where they are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::names::Names;
use super::times::{absent, spread, verdict};
use crate::record::agreement::{AgreementRow, Verdict};
use crate::record::{RunRecord, TrafficRecord};

/// Latencies agree within this part (the host's scheduler is not simulated) …
const LATENCY_PART: f64 = 0.25;
/// … or within this many milliseconds.
const LATENCY_MS: f64 = 5.0;
/// The slowest of a hundred depends on what else the host does: within this part …
const TAIL_PART: f64 = 0.5;
/// … or within this many milliseconds.
const TAIL_MS: f64 = 20.0;
/// Counts agree within this part of what was sent, besides the noise of counting.
const SHARE: f64 = 0.005;
/// So many standard deviations of chance are no difference.
const DEVIATIONS: f64 = 4.0;

/// A number of a Traffic.
type Number = fn(&TrafficRecord) -> u64;

/// One Traffic in all runs.
struct Both<'a> {
    name: &'a str,
    ours: (&'a RunRecord, &'a TrafficRecord),
    theirs: Vec<(&'a RunRecord, &'a TrafficRecord)>,
}

/// Compares every Traffic.
pub fn compare(simulated: &RunRecord, real: &[RunRecord], rows: &mut Vec<AgreementRow>) {
    for ours in simulated.traffic.iter().filter(|t| !t.internal) {
        let same = |t: &&TrafficRecord| t.name == ours.name && !t.internal;
        let theirs = real.iter();
        let theirs = theirs.filter_map(|run| Some((run, run.traffic.iter().find(same)?)));
        let both = Both {
            name: &ours.name,
            ours: (simulated, ours),
            theirs: theirs.collect(),
        };
        if both.theirs.is_empty() {
            let what = format!("{}: sent", ours.name);
            rows.push(absent("requests", &what, ours.sent.to_string()));
            continue;
        }
        both.counts(rows);
        both.phases(rows);
        both.shares(rows);
        both.latencies(rows);
    }
}

/// What chance does to a count of `count` among `sent`, when `kept` connections (0: none) each stay
/// with the endpoint that they were made to: one standard deviation.
fn deviation(count: f64, sent: f64, kept: f64) -> f64 {
    let count = count.max(1.0);
    let part = (count / sent.max(count)).min(1.0);
    let by_request = count;
    let by_connection = match kept > 0.0 {
        true => count * count * (1.0 - part) / (part * kept),
        false => 0.0,
    };
    (by_request + by_connection).sqrt()
}

impl Both<'_> {
    fn kept(&self) -> f64 {
        f64::from(self.ours.1.kept)
    }

    fn values(&self, of: impl Fn(&RunRecord, &TrafficRecord) -> f64) -> Vec<f64> {
        self.theirs.iter().map(|(run, t)| of(run, t)).collect()
    }

    /// A count of `ours` among `sent`.
    fn counted(&self, what: &str, ours: u64, values: &[f64], sent: u64) -> Option<AgreementRow> {
        let (median, least, most) = spread(values)?;
        let (ours_f, sent) = (ours as f64, sent as f64);
        let noise = DEVIATIONS * deviation(ours_f, sent, self.kept());
        let tolerated = (sent * SHARE).max(noise);
        Some(AgreementRow {
            group: "requests".to_owned(),
            what: format!("{}: {what}", self.name),
            simulated: ours.to_string(),
            real: format!("{median:.0}"),
            spread: format!("{least:.0} to {most:.0}"),
            tolerance: format!("±{tolerated:.0}"),
            verdict: verdict((median - ours_f).abs(), tolerated),
        })
    }

    fn counts(&self, rows: &mut Vec<AgreementRow>) {
        let ours = self.ours.1;
        let totals: [(&str, Number); 2] = [("sent", |t| t.sent), ("failed", |t| t.failed)];
        for (what, of) in totals {
            let values = self.values(|_, t| of(t) as f64);
            rows.extend(self.counted(what, of(ours), &values, ours.sent));
        }
        let causes = self.theirs.iter().map(|(_, t)| *t).chain([ours]);
        let causes: BTreeSet<&String> = causes.flat_map(|t| t.failed_by.keys()).collect();
        for cause in causes {
            let of = |t: &TrafficRecord| t.failed_by.get(cause).copied().unwrap_or(0);
            let values = self.values(|_, t| of(t) as f64);
            let what = format!("failed by {cause}");
            rows.extend(self.counted(&what, of(ours), &values, ours.sent));
        }
    }

    /// Failures from one step or fault to the next.
    fn phases(&self, rows: &mut Vec<AgreementRow>) {
        let starts = starts(self.ours.0);
        let ours = by_phase(self.ours.0, self.ours.1, &starts);
        let theirs = self.theirs.iter();
        let theirs: Vec<_> = theirs.map(|(run, t)| by_phase(run, t, &starts)).collect();
        for (number, (_, name)) in starts.iter().enumerate() {
            let (sent, failed) = ours[number];
            let values: Vec<f64> = theirs.iter().map(|p| p[number].1 as f64).collect();
            let what = format!("failed {name}");
            rows.extend(self.counted(&what, failed, &values, sent));
        }
    }

    /// What part each endpoint answered: one row for all that agree, at the one that is most apart,
    /// and one for each that differs.
    fn shares(&self, rows: &mut Vec<AgreementRow>) {
        let ours = shares(self.ours.0, self.ours.1);
        let theirs = self.theirs.iter();
        let theirs: Vec<_> = theirs.map(|(run, t)| shares(run, t)).collect();
        let endpoints = ours.keys().chain(theirs.iter().flat_map(|t| t.keys()));
        let endpoints: BTreeSet<&String> = endpoints.collect();
        let answered = self.ours.1.ok.max(1) as f64;
        let mut worst: Option<(f64, AgreementRow)> = None;
        for endpoint in &endpoints {
            let mine = ours.get(*endpoint).copied().unwrap_or(0.0);
            let values = theirs.iter();
            let values: Vec<f64> = values
                .map(|t| t.get(*endpoint).copied().unwrap_or(0.0))
                .collect();
            let Some((median, least, most)) = spread(&values) else {
                continue;
            };
            let noise = deviation(mine * answered, answered, self.kept()) / answered;
            let tolerated = SHARE + DEVIATIONS * noise;
            let apart = (median - mine).abs();
            let percent = |part: f64| format!("{:.1} %", part * 100.0);
            let row = AgreementRow {
                group: "requests".to_owned(),
                what: format!("{}: answered by {endpoint}", self.name),
                simulated: percent(mine),
                real: percent(median),
                spread: format!("{:.1} to {:.1} %", least * 100.0, most * 100.0),
                tolerance: format!("±{:.1} points", tolerated * 100.0),
                verdict: verdict(apart, tolerated),
            };
            if row.verdict == Verdict::Differs {
                rows.push(row);
            } else if worst.as_ref().is_none_or(|(most, _)| apart > *most) {
                worst = Some((apart, row));
            }
        }
        if let Some((_, mut row)) = worst {
            let count = endpoints.len();
            row.what = format!("{}: shares of {count} endpoints (most apart)", self.name);
            rows.push(row);
        }
    }

    /// Quantiles of what was answered.
    fn latencies(&self, rows: &mut Vec<AgreementRow>) {
        let usual = (LATENCY_PART, LATENCY_MS);
        let tail = (TAIL_PART, TAIL_MS);
        let quantiles: [(&str, Number, (f64, f64)); 3] = [
            ("p50 of answers", |t| t.ok_p50_us, usual),
            ("p90 of answers", |t| t.ok_p90_us, usual),
            ("p99 of answers", |t| t.ok_p99_us, tail),
        ];
        for (what, of, (part, ms)) in quantiles {
            let ours = of(self.ours.1) as f64 / 1000.0;
            let values = self.values(|_, t| of(t) as f64 / 1000.0);
            let Some((median, least, most)) = spread(&values) else {
                continue;
            };
            rows.push(AgreementRow {
                group: "requests".to_owned(),
                what: format!("{}: {what}", self.name),
                simulated: format!("{ours:.1}ms"),
                real: format!("{median:.1}ms"),
                spread: format!("{least:.1} to {most:.1}ms"),
                tolerance: format!("{:.0} % or {ms:.0} ms", part * 100.0),
                verdict: verdict((median - ours).abs(), (ours * part).max(ms)),
            });
        }
    }
}

/// What part of the answers came from each endpoint.
fn shares(run: &RunRecord, traffic: &TrafficRecord) -> BTreeMap<String, f64> {
    let names = Names::new(run);
    let all: u64 = traffic.answered_by.values().sum();
    let each = traffic.answered_by.iter();
    each.map(|(pod, count)| {
        let (namespace, name) = pod.split_once('/').unwrap_or(("", pod));
        (
            names.pod(namespace, name),
            *count as f64 / all.max(1) as f64,
        )
    })
    .collect()
}

/// When phases begin, in the run's own time, with their names.
fn starts(run: &RunRecord) -> Vec<(Duration, String)> {
    let begun = run.header.begun;
    let mut starts = vec![(Duration::ZERO, "at first".to_owned())];
    let mut begins = |at: crate::engine::Time, what: &str| {
        let since = at.since(begun);
        let seconds = since.as_secs_f64();
        starts.push((since, format!("from {seconds:.0}s ({})", short(what))));
    };
    for fault in run.faults.iter().filter(|f| f.at >= begun) {
        let ends = if fault.healed { " ends" } else { "" };
        begins(fault.at, &format!("{}{ends}", fault.action));
    }
    for step in run.steps.iter().filter(|s| s.result.is_none()) {
        begins(step.at, &step.text);
    }
    // A fault and the step that makes it begin together: the fault's name says more.
    starts.sort_by_key(|(at, _)| at.as_secs());
    starts.dedup_by_key(|(at, _)| at.as_secs());
    starts
}

/// The first words of a text.
fn short(text: &str) -> String {
    const MOST: usize = 24;
    let mut out = String::new();
    for word in text.split_whitespace() {
        if !out.is_empty() && out.len() + word.len() > MOST {
            break;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out.chars().take(MOST).collect()
}

/// Requests sent and failed in each phase.
fn by_phase(
    run: &RunRecord,
    traffic: &TrafficRecord,
    starts: &[(Duration, String)],
) -> Vec<(u64, u64)> {
    let begun = run.header.begun;
    let mut found = vec![(0, 0); starts.len()];
    for second in &traffic.seconds {
        let since = second.at().since(begun);
        let phase = starts.iter().rposition(|(from, _)| *from <= since);
        let entry: &mut (u64, u64) = &mut found[phase.unwrap_or(0)];
        entry.0 += u64::from(second.sent);
        entry.1 += second.failures();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_moves_few_connections_more_than_many_requests() {
        // count, sent, kept connections, one standard deviation:
        // √100 = 10; √(100 + 100²·0.75/(0.25·40)) = √(100 + 750) = 29.15
        let table = [
            (100.0, 400.0, 0.0, 10.0),
            (100.0, 400.0, 40.0, 29.155),
            (0.0, 400.0, 0.0, 1.0),
            (400.0, 400.0, 40.0, 20.0),
        ];
        for (count, sent, kept, expected) in table {
            let got = deviation(count, sent, kept);
            assert!((got - expected).abs() < 0.01, "{count} of {sent}: {got}");
        }
    }

    #[test]
    fn phases_are_named_by_their_first_words() {
        assert_eq!(
            short("set image deployment/frontend server=x:2"),
            "set image"
        );
        assert_eq!(short("power-off ends"), "power-off ends");
    }
}
