//! The terminal's table: means with their intervals, and which differences are more than luck.

use super::stats::{Cell, Estimate, compare};
use crate::record::trials::{Better, Choice, Divergence, Metric, Trials, Unit};
use crate::report::number::{count, thousands};

/// A difference is marked when its corrected p-value is below this.
const MARKED: f64 = 0.05;
/// With more variants than this they stand in lines instead of columns.
const COLUMNS: usize = 3;

/// The table.
pub fn table(trials: &Trials) -> String {
    let head = &trials.head;
    let compared = compare(trials);
    let shown: Vec<&(&Metric, Vec<Cell>)> = compared.iter().filter(|(m, _)| m.shown).collect();
    let seeds = count(trials.rows.len() as u64, "seed");
    let variants = count(head.variants.len() as u64, "variant");
    let mut text = format!(
        "{}  {variants} × {seeds}, {}\n",
        head.experiment, head.workload
    );
    let mut grid: Vec<Vec<String>> = Vec::new();
    if head.variants.len() <= COLUMNS {
        let names = head.variants.iter().cloned();
        grid.push([String::new()].into_iter().chain(names).collect());
        for (metric, cells) in shown {
            let cells = cells.iter().map(|cell| value(metric, cell));
            grid.push([metric.name.clone()].into_iter().chain(cells).collect());
        }
    } else {
        let names = shown.iter().map(|(metric, _)| metric.name.clone());
        grid.push([String::new()].into_iter().chain(names).collect());
        for (at, variant) in head.variants.iter().enumerate() {
            let cells = shown
                .iter()
                .map(|(metric, cells)| value(metric, &cells[at]));
            grid.push([variant.clone()].into_iter().chain(cells).collect());
        }
    }
    text.push_str(&aligned(&grid));
    for divergence in trials.rows.iter().flat_map(|row| {
        row.divergences
            .iter()
            .map(move |divergence| (row.seed, divergence))
    }) {
        text.push_str(&diverged(&head.variants[0], divergence.0, divergence.1));
    }
    if trials.rows.len() > 1 {
        let first = &head.variants[0];
        text.push_str(&format!(
            "±: 95% interval of the mean over seeds (Student's t). ▲ better, ▼ worse, ≠ different \
             from {first}: paired t-test over seeds, p after Holm\n"
        ));
    }
    text
}

fn aligned(grid: &[Vec<String>]) -> String {
    let columns = grid.first().map_or(0, Vec::len);
    let wide = |text: &String| text.chars().count();
    let widths: Vec<usize> = (0..columns)
        .map(|column| grid.iter().map(|row| wide(&row[column])).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in grid {
        let mut line = String::from("  ");
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(width - wide(cell) + 3));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn value(metric: &Metric, cell: &Cell) -> String {
    let Some(estimate) = &cell.estimate else {
        return "–".to_owned();
    };
    let mut text = printed(metric.unit, estimate);
    if let Some(difference) = &cell.difference
        && difference.p_holm < MARKED
    {
        let up = difference.estimate.mean > 0.0;
        let mark = match metric.better {
            Better::Neither => "≠",
            Better::Higher if up => "▲",
            Better::Lower if !up => "▲",
            Better::Higher | Better::Lower => "▼",
        };
        text.push_str(&format!("  {mark} {}", probability(difference.p_holm)));
    }
    text
}

/// `p<.001`, `p=.012`.
fn probability(p: f64) -> String {
    if p < 0.001 {
        return "p<.001".to_owned();
    }
    let digits = format!("{p:.3}");
    format!("p={}", digits.trim_start_matches('0'))
}

/// `99.1% ±0.1`, `41s ±3`, `0.061 ±.002`: as many decimals as the interval has meaning.
fn printed(unit: Unit, estimate: &Estimate) -> String {
    let (mean, half, suffix) = match unit {
        Unit::Share => (estimate.mean * 100.0, estimate.half * 100.0, "%"),
        Unit::Seconds => (estimate.mean, estimate.half, "s"),
        Unit::Count | Unit::Number => (estimate.mean, estimate.half, ""),
    };
    let decimals = decimals(unit, mean, half);
    let mean = format!("{mean:.decimals$}");
    let mean = match decimals {
        0 => grouped(&mean),
        _ => mean,
    };
    match estimate.n {
        1 => format!("{mean}{suffix}"),
        _ => {
            let half = format!("{half:.decimals$}");
            let half = half
                .strip_prefix('0')
                .filter(|h| h.len() > 1)
                .unwrap_or(&half);
            format!("{mean}{suffix} ±{half}")
        }
    }
}

fn grouped(digits: &str) -> String {
    match digits.parse::<u64>() {
        Ok(number) => thousands(number),
        Err(_) => digits.to_owned(),
    }
}

fn decimals(unit: Unit, mean: f64, half: f64) -> usize {
    let least = match unit {
        Unit::Share => 1,
        Unit::Seconds | Unit::Count => 0,
        Unit::Number => 3,
    };
    let small = half > 0.0 && half < 0.05 && mean.abs() < 1000.0;
    match unit {
        Unit::Share if small => 2,
        Unit::Seconds if mean.abs() < 1.0 => 3,
        Unit::Seconds if mean.abs() < 10.0 => 2,
        Unit::Seconds if mean.abs() < 100.0 => 1,
        Unit::Count if libm::fabs(mean - libm::round(mean)) > 1e-9 && mean.abs() < 100.0 => 1,
        Unit::Number if mean.abs() >= 100.0 => 0,
        Unit::Number if mean.abs() >= 10.0 => 1,
        _ => least,
    }
}

fn diverged(first: &str, seed: u64, divergence: &Divergence) -> String {
    let place = |choice: &Choice, variant: &str| match &choice.node {
        Some(node) => match choice.score {
            Some(score) => format!("{node} ({variant} {score})"),
            None => format!("{node} ({variant})"),
        },
        None => format!("nowhere ({variant})"),
    };
    let time = crate::engine::Time::from_millis((divergence.at_s.max(0.0) * 1e3) as u64);
    let mut text = format!(
        "First divergence of {}, seed {seed}: pod {} @{}, decision {} → {} vs {}\n",
        divergence.variant,
        divergence.pod,
        time.clock(),
        thousands(divergence.decision + 1),
        place(&divergence.base, first),
        place(&divergence.other, &divergence.variant),
    );
    for (variant, choice) in [
        (first, &divergence.base),
        (&divergence.variant, &divergence.other),
    ] {
        let among = match choice.feasible {
            0 => String::new(),
            n => format!(
                " of {} that fit, {} best",
                thousands(n),
                thousands(choice.best)
            ),
        };
        text.push_str(&format!("    {variant}{among}: {}\n", choice.reason));
    }
    text
}

/// Every metric with its meaning.
pub fn explain_metrics(metrics: &[Metric]) -> String {
    let rows: Vec<Vec<String>> = (metrics.iter())
        .map(|metric| {
            let better = match metric.better {
                Better::Higher => "higher is better",
                Better::Lower => "lower is better",
                Better::Neither => "",
            };
            vec![
                metric.name.clone(),
                better.to_owned(),
                metric.meaning.clone(),
            ]
        })
        .collect();
    aligned(&rows)
}

#[cfg(test)]
mod tests {
    use super::super::stats::estimate;
    use super::*;

    #[test]
    fn values_print_as_many_digits_as_they_have_meaning() {
        let table: [(Unit, &[f64], &str); 7] = [
            (Unit::Share, &[0.9900, 0.9920], "99.1% ±1.3"),
            (Unit::Share, &[0.95391, 0.95390, 0.95392], "95.39% ±.00"),
            (Unit::Seconds, &[41.0], "41.0s"),
            (Unit::Seconds, &[5041.2], "5,041s"),
            (Unit::Count, &[3.0, 4.0], "3.5 ±6.4"),
            (Unit::Count, &[1234.0], "1,234"),
            (Unit::Number, &[0.0612], "0.061"),
        ];
        for (unit, values, expected) in table {
            assert_eq!(printed(unit, &estimate(values).unwrap()), expected);
        }
        assert_eq!(probability(0.0004), "p<.001");
        assert_eq!(probability(0.0124), "p=.012");
    }
}
