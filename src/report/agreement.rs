//! How a simulated run and real ones agree, in text.
//!
//! What is equal is one line a group; what is measured is a table; what differs comes with the first
//! place at which it does. The verdict is the last line.

use crate::record::agreement::{Agreement, AgreementRow, Verdict};

/// Columns: what, simulated, real, spread, tolerance, verdict.
fn line(row: &AgreementRow, width: usize) -> String {
    let real = match row.spread.is_empty() {
        true => row.real.clone(),
        false => format!("{} ({})", row.real, row.spread),
    };
    format!(
        "  {:<width$}  {:>12}  {:<34}  {:<13}  {}\n",
        row.what,
        row.simulated,
        real,
        row.tolerance,
        row.verdict.name()
    )
}

/// The whole comparison.
pub fn text(agreement: &Agreement) -> String {
    let mut out = format!(
        "{}  seed {}  simulated once, on real processes {} time{}\n",
        agreement.scenario,
        agreement.seed,
        agreement.runs,
        if agreement.runs == 1 { "" } else { "s" }
    );
    for lost in &agreement.degraded {
        out += &format!("  degraded: {lost}\n");
    }
    for group in ["decisions", "state", "restarts", "exits", "events"] {
        out += &equal(agreement, group);
    }
    let measured = |row: &&AgreementRow| matches!(row.group.as_str(), "times" | "requests");
    let rows: Vec<&AgreementRow> = agreement.rows.iter().filter(measured).collect();
    let width = rows
        .iter()
        .map(|row| row.what.chars().count())
        .max()
        .unwrap_or(0);
    if !rows.is_empty() {
        let header = ["simulated", "real: median (least to most)", "tolerated"];
        out += &format!(
            "\n  {:<width$}  {:>12}  {:<34}  {}\n",
            "", header[0], header[1], header[2]
        );
        rows.iter().for_each(|row| out += &line(row, width));
    }
    out += &verdict(agreement);
    out
}

/// `equal  12 of 12 objects with the same history`, and what is not.
fn equal(agreement: &Agreement, group: &str) -> String {
    let mut rows = agreement.rows.iter().filter(|row| row.group == group);
    let Some(summary) = rows.next() else {
        return String::new();
    };
    let mut out = format!(
        "  {:<7}  {} of {} {}\n",
        summary.verdict.name(),
        summary.real,
        summary.simulated,
        summary.what
    );
    for row in rows {
        out += &format!(
            "           {}: simulated {}, real {} (in {})\n",
            row.what, row.simulated, row.real, row.spread
        );
    }
    out
}

fn verdict(agreement: &Agreement) -> String {
    let differ = agreement
        .rows
        .iter()
        .filter(|row| row.verdict == Verdict::Differs)
        .count();
    match differ {
        0 => format!(
            "Simulation and reality agree in all {} rows.\n",
            agreement.rows.len()
        ),
        _ => format!("{differ} of {} rows differ.\n", agreement.rows.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(group: &str, what: &str, real: &str, verdict: Verdict) -> AgreementRow {
        AgreementRow {
            group: group.to_owned(),
            what: what.to_owned(),
            simulated: "2".to_owned(),
            real: real.to_owned(),
            spread: String::new(),
            tolerance: "equal".to_owned(),
            verdict,
        }
    }

    #[test]
    fn what_is_equal_is_one_line_and_what_differs_names_both_sides() {
        let mut differing = row(
            "decisions",
            "Pod default/web #1",
            "… gone",
            Verdict::Differs,
        );
        differing.spread = "1 of 1 runs".to_owned();
        let agreement = Agreement {
            scenario: "s".to_owned(),
            seed: 1,
            runs: 1,
            rows: vec![
                row(
                    "decisions",
                    "objects with the same history",
                    "1",
                    Verdict::Differs,
                ),
                differing,
                row(
                    "state",
                    "workloads and Services that end the same",
                    "2",
                    Verdict::Equal,
                ),
                row(
                    "times",
                    "pods of web: started to ready",
                    "3",
                    Verdict::Within,
                ),
            ],
            ..Agreement::default()
        };
        let text = text(&agreement);
        for expected in [
            "DIFFERS  1 of 2 objects with the same history",
            "Pod default/web #1: simulated 2, real … gone (in 1 of 1 runs)",
            "equal    2 of 2 workloads",
            "pods of web: started to ready",
            "2 of 4 rows differ.",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        assert!(!agreement.agrees());
    }
}
