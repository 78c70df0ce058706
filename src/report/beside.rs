//! Runs beside each other: what was checked, what users felt, what broke, in columns.

use crate::record::RunRecord;
use crate::report::names::{Names, bare};
use crate::report::number::{latency, percent, thousands};

/// Width of a run's column.
const COLUMN: usize = 34;

/// Width of the column with what is compared.
const NAMES: usize = 30;

/// A table with a column for each run, under its title.
pub fn side_by_side(runs: &[(&str, &RunRecord)]) -> String {
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for (_, run) in runs {
        for check in &run.checks {
            if !names.contains(&check.name.as_str()) {
                names.push(&check.name);
            }
        }
    }
    for name in names {
        let outcome = |run: &RunRecord| {
            let check = run.checks.iter().find(|c| c.name == name);
            check.map_or("-".to_owned(), |c| format!("{} {}", c.word(), c.detail))
        };
        rows.push((
            name.to_owned(),
            runs.iter().map(|(_, run)| outcome(run)).collect(),
        ));
    }
    let mut each = |name: &str, value: &dyn Fn(&RunRecord) -> Option<String>| {
        let values: Vec<Option<String>> = runs.iter().map(|(_, run)| value(run)).collect();
        if values.iter().any(Option::is_some) {
            let values = values
                .into_iter()
                .map(|v| v.unwrap_or_else(|| "-".to_owned()));
            rows.push((name.to_owned(), values.collect()));
        }
    };
    each("requests", &|run| {
        users(run).map(|(sent, _, _)| thousands(sent))
    });
    each("requests failed", &|run| {
        users(run)
            .map(|(sent, failed, _)| format!("{} ({})", thousands(failed), percent(failed, sent)))
    });
    each("p99", &|run| users(run).map(|(_, _, p99)| latency(p99)));
    each("fewest ready", &fewest);
    each("pods created in the run", &|run| {
        let begun = run.header.begun;
        let created = run.pods.iter().filter(|p| p.created > begun).count();
        Some(thousands(created as u64))
    });
    each("container restarts", &|run| {
        let restarts: u64 = run.pods.iter().map(|p| u64::from(p.restarts)).sum();
        Some(thousands(restarts))
    });
    drawn(runs, &rows)
}

/// Sent, failed and the worst p99 of all Traffic.
fn users(run: &RunRecord) -> Option<(u64, u64, u64)> {
    let users: Vec<_> = run.traffic.iter().filter(|t| !t.internal).collect();
    let sent = users.iter().map(|t| t.sent).sum();
    let failed = users.iter().map(|t| t.failed).sum();
    let p99 = users.iter().map(|t| t.p99_us).max()?;
    Some((sent, failed, p99))
}

/// The lowest number of ready pods of a Deployment, the one that fell the furthest.
fn fewest(run: &RunRecord) -> Option<String> {
    let names = Names::new(run);
    let begun = run.header.begun;
    let lowest = run.replicas.iter().filter_map(|(name, points)| {
        let point = points
            .iter()
            .filter(|p| p.at >= begun)
            .min_by_key(|p| p.ready - p.want)?;
        Some((point.ready - point.want, name, point))
    });
    let (_, name, point) = lowest.min_by_key(|(gap, _, _)| *gap)?;
    let at = names.clock(point.at);
    Some(format!(
        "{} {} of {} at {at}",
        bare(name),
        point.ready,
        point.want
    ))
}

fn drawn(runs: &[(&str, &RunRecord)], rows: &[(String, Vec<String>)]) -> String {
    let titles: Vec<String> = runs.iter().map(|(title, _)| (*title).to_owned()).collect();
    let mut out = String::new();
    for (name, values) in std::iter::once(&(String::new(), titles)).chain(rows) {
        let mut cells: Vec<Vec<String>> = vec![broken(name, NAMES)];
        cells.extend(values.iter().map(|value| broken(value, COLUMN)));
        let lines = cells.iter().map(Vec::len).max().unwrap_or(1);
        for at in 0..lines {
            let mut line = String::from("  ");
            for (i, cell) in cells.iter().enumerate() {
                let wide = if i == 0 { NAMES } else { COLUMN };
                let text = cell.get(at).map_or("", String::as_str);
                line.push_str(&format!("{text:<wide$}  "));
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
    out
}

/// A text in lines of at most `wide` columns, broken at spaces.
fn broken(text: &str, wide: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let length = word.chars().count();
        let last = lines.last_mut().expect("there is a line");
        let at = last.chars().count();
        if at > 0 && at + 1 + length > wide {
            lines.push(word.to_owned());
        } else {
            if at > 0 {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::CheckRow;

    #[test]
    fn runs_stand_in_columns_and_long_details_are_broken() {
        let run = |passed, detail: &str| {
            let mut run = RunRecord::default();
            run.checks.push(CheckRow {
                name: "http_req_failed".into(),
                kind: "threshold".into(),
                passed,
                at_s: None,
                run_s: None,
                detail: detail.into(),
                open: false,
            });
            run
        };
        let (bad, fixed) = (
            run(
                false,
                "rate<0.001 got 0.0154 and words that need a second line",
            ),
            run(true, ""),
        );
        let text = side_by_side(&[("bad", &bad), ("fixed", &fixed)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], format!("  {:<30}  {:<34}  fixed", "", "bad"));
        assert!(
            lines[1].starts_with("  http_req_failed                 FAIL rate<0.001 got 0.0154"),
            "{text}"
        );
        assert!(lines[1].ends_with("PASS"), "{text}");
        assert!(lines[2].contains("second line"), "{text}");
        assert!(
            lines.iter().all(|line| line.chars().count() <= 110),
            "{text}"
        );
    }
}
