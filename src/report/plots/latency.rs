//! Latency against the number of nines: how slow the slowest tenth, hundredth, thousandth was.

use super::axis::Panel;
use super::{BLUE, GREEN, GREY, HAIR, INK, ORANGE, begin};
use crate::record::TrafficRecord;
use crate::report::names::Names;
use crate::report::number::latency;

/// Shares that have a line, with the number of their nines.
const NINES: [(&str, f64); 5] = [
    ("0%", 0.0),
    ("90%", 1.0),
    ("99%", 2.0),
    ("99.9%", 3.0),
    ("99.99%", 4.0),
];

/// The picture; `None` without requests.
pub fn draw(names: &Names<'_>) -> Option<String> {
    let users: Vec<&TrafficRecord> = (names.run.traffic.iter())
        .filter(|t| !t.internal && t.sent > 0 && t.quantiles.len() > 2)
        .take(3)
        .collect();
    let first = users.first()?;
    let headline = format!(
        "Half of the requests took {}, one in a hundred {} or more",
        latency(first.p50_us),
        latency(first.p99_us)
    );
    let what = "share of requests that were faster, failed ones included";
    let mut canvas = begin(names, 470.0, &headline, what);
    let all = users
        .iter()
        .flat_map(|t| &t.quantiles)
        .map(|(_, us)| (*us).max(1));
    let (low, high) = (all.clone().min()?, all.max()?);
    // Whole decades around the values.
    let low = libm::floor(libm::log10(low as f64));
    let high = libm::ceil(libm::log10(high as f64)).max(low + 1.0);
    let panel = Panel {
        left: 76.0,
        right: 812.0,
        top: 96.0,
        bottom: 420.0,
        most_x: high - low,
        most_y: 4.2,
    };
    for (name, nines) in NINES {
        let y = panel.y(nines);
        canvas.line(panel.left, y, panel.right, y, HAIR, 1.0);
        canvas.end(panel.left - 8.0, y + 4.0, 11.0, GREY, name);
    }
    let mut exponent = low;
    while exponent <= high {
        let x = panel.x(exponent - low);
        canvas.line(x, panel.bottom, x, panel.bottom + 4.0, "#b0b0b0", 1.0);
        let us = libm::round(libm::exp10(exponent)) as u64;
        canvas.middle(x, panel.bottom + 18.0, 11.0, GREY, &round(us));
        exponent += 1.0;
    }
    let mut labelled: Vec<f64> = Vec::new();
    for (traffic, colour) in users.iter().zip([BLUE, ORANGE, GREEN]) {
        let points: Vec<(f64, f64)> = (traffic.quantiles.iter())
            // What is rarer than one of these requests says nothing.
            .filter(|(q, _)| *q <= 0.9999 && (1.0 - q) * traffic.sent as f64 >= 1.0)
            .map(|(q, us)| {
                let nines = -libm::log10(1.0 - q);
                let x = libm::log10((*us).max(1) as f64) - low;
                (panel.x(x), panel.y(nines))
            })
            .collect();
        canvas.path(&points, colour, 2.0);
        for (share, us) in [(1.0, traffic.p90_us), (2.0, traffic.p99_us)] {
            let x = panel.x(libm::log10(us.max(1) as f64) - low);
            let y = panel.y(share);
            canvas.rect(x - 2.5, y - 2.5, 5.0, 5.0, colour);
            canvas.text(x + 8.0, y + 15.0, 11.0, INK, &latency(us));
        }
        let mut y = points.last().map_or(panel.top, |p| p.1) - 6.0;
        while labelled.iter().any(|used| (used - y).abs() < 14.0) {
            y += 14.0;
        }
        labelled.push(y);
        let x = points.last().map_or(panel.right, |p| p.0) + 10.0;
        canvas.strong(x.min(panel.right + 10.0), y, 12.0, colour, &traffic.name);
    }
    Some(canvas.finish())
}

/// A power of ten of microseconds: `100µs`, `10ms`, `1s`.
fn round(us: u64) -> String {
    match us {
        0..1_000 => format!("{us}µs"),
        1_000..1_000_000 => format!("{}ms", us / 1_000),
        _ => format!("{}s", us / 1_000_000),
    }
}
