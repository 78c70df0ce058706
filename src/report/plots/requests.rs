//! Requests, failures and latency over time, with the faults behind them.

use super::axis::{Panel, round_up};
use super::canvas::Canvas;
use super::{BLUE, GREY, INK, PURPLE, RED, bands, begin, cut, own, time_axis, value_axis};
use crate::record::TrafficRecord;
use crate::report::names::Names;
use crate::report::number::{latency, percent, thousands};
use crate::report::worst_moment;

/// So many points a line has at most.
const POINTS_MAX: f64 = 450.0;

/// Height of one panel with what is between it and the next one.
const EACH: f64 = 150.0;

/// Rows of one Traffic, as (seconds, per second or microseconds).
struct Rows {
    sent: Vec<(f64, f64)>,
    failed: Vec<(f64, f64)>,
    p99_us: Vec<(f64, f64)>,
}

/// The picture; `None` without Traffic.
pub fn draw(names: &Names<'_>) -> Option<String> {
    let users: Vec<&TrafficRecord> = (names.run.traffic.iter())
        .filter(|t| !t.internal && t.sent > 0)
        .take(3)
        .collect();
    if users.is_empty() {
        return None;
    }
    let height = 100.0 + EACH * 3.0 * users.len() as f64;
    let what = "requests, failures and latency by second";
    let mut canvas = begin(names, height, &headline(names, &users), what);
    let mut top = 108.0;
    for traffic in users {
        let rows = rows(names, traffic);
        let last = panels(names, &mut canvas, traffic, &rows, top);
        time_axis(&mut canvas, &last);
        top += EACH * 3.0;
    }
    Some(canvas.finish())
}

fn headline(names: &Names<'_>, users: &[&TrafficRecord]) -> String {
    let sent: u64 = users.iter().map(|t| t.sent).sum();
    let failed: u64 = users.iter().map(|t| t.failed).sum();
    match (failed, worst_moment(names.run)) {
        (0, _) => format!("None of {} requests failed", thousands(sent)),
        (n, Some(at)) => {
            let share = percent(n, sent);
            format!(
                "{} requests failed ({share}), most of them around {at}",
                thousands(n)
            )
        }
        (n, None) => format!("{} of {} requests failed", thousands(n), thousands(sent)),
    }
}

fn rows(names: &Names<'_>, traffic: &TrafficRecord) -> Rows {
    let whole = names.run.header.simulated.as_secs_f64();
    let width = (whole / POINTS_MAX).max(1.0) as u32;
    let mut rows = Rows {
        sent: Vec::new(),
        failed: Vec::new(),
        p99_us: Vec::new(),
    };
    for chunk in traffic
        .seconds
        .chunk_by(|a, b| a.second / width == b.second / width)
    {
        let middle = own(names, chunk[0].at()) + f64::from(width) / 2.0;
        let wide = f64::from(width);
        let sent: u64 = chunk.iter().map(|s| u64::from(s.sent)).sum();
        let failed: u64 = chunk.iter().map(|s| s.failures()).sum();
        let p99 = chunk.iter().map(|s| s.p99_us).max().unwrap_or(0);
        // The first and the last second of the run are not whole.
        if middle >= wide / 2.0 && middle <= whole - wide / 2.0 {
            rows.sent.push((middle, sent as f64 / wide));
        }
        rows.failed.push((middle, failed as f64 / wide));
        rows.p99_us.push((middle, f64::from(p99)));
    }
    rows
}

/// Three panels below each other; returns the last one.
fn panels(
    names: &Names<'_>,
    canvas: &mut Canvas,
    traffic: &TrafficRecord,
    rows: &Rows,
    top: f64,
) -> Panel {
    let most = |points: &[(f64, f64)]| points.iter().map(|p| p.1).fold(0.0, f64::max);
    let slo = threshold_ms(names).map(|ms| ms * 1e3);
    let slowest = most(&rows.p99_us);
    let slo = slo.filter(|us| *us <= slowest * 8.0);
    let panel = |i: f64, most_y: f64| Panel {
        left: 76.0,
        right: 784.0,
        top: top + EACH * i,
        bottom: top + EACH * i + 104.0,
        most_x: names.run.header.simulated.as_secs_f64().max(1.0),
        most_y: round_up(most_y.max(1.0)),
    };
    let sent = panel(0.0, most(&rows.sent) * 1.05);
    let failed = panel(1.0, most(&rows.failed));
    let slow = panel(2.0, (slowest / 1e3).max(slo.unwrap_or(0.0) / 1e3) * 1.05);
    for (i, panel) in [&sent, &failed, &slow].into_iter().enumerate() {
        bands(names, canvas, panel, i == 0);
        value_axis(canvas, panel, short);
    }
    let place = |panel: &Panel, points: &[(f64, f64)], unit: f64| -> Vec<(f64, f64)> {
        (points.iter())
            .map(|(x, y)| (panel.x(*x), panel.y(y * unit)))
            .collect()
    };
    canvas.path(&place(&sent, &rows.sent, 1.0), BLUE, 1.6);
    let points = place(&failed, &rows.failed, 1.0);
    canvas.area(&points, failed.bottom, RED);
    canvas.path(&points, RED, 1.2);
    canvas.path(&place(&slow, &rows.p99_us, 1e-3), PURPLE, 1.4);
    labels(canvas, [&sent, &failed, &slow], traffic);
    if let Some(us) = slo {
        let y = slow.y(us / 1e3);
        canvas.dashed(slow.left, slow.right, y, INK);
        canvas.text(
            slow.right + 10.0,
            y + 4.0,
            11.0,
            INK,
            &format!("SLO {}", latency(us as u64)),
        );
    }
    slow
}

/// What each panel shows, and its value over the whole run.
fn labels(canvas: &mut Canvas, panels: [&Panel; 3], traffic: &TrafficRecord) {
    let to = format!("to {}", traffic.to.trim_start_matches("service/"));
    let texts = [
        (BLUE, "sent per second", cut(&to, 24)),
        (
            RED,
            "failed per second",
            format!("{} in all", thousands(traffic.failed)),
        ),
        (
            PURPLE,
            "p99 in ms",
            format!("{} over all", latency(traffic.p99_us)),
        ),
    ];
    for (panel, (fill, name, more)) in panels.into_iter().zip(texts) {
        canvas.strong(panel.right + 10.0, panel.top + 14.0, 12.0, fill, name);
        canvas.text(panel.right + 10.0, panel.top + 30.0, 11.0, GREY, &more);
    }
}

/// `20`, `1.5`, `2k`.
fn short(value: f64) -> String {
    match value {
        v if v >= 10_000.0 => format!("{}k", (v / 100.0) as u64 as f64 / 10.0),
        v if v >= 10.0 || v == 0.0 => format!("{v:.0}"),
        v => format!("{}", (v * 1e3 + 0.5) as u64 as f64 / 1e3),
    }
}

/// The limit of a `p(99)<N` threshold, in milliseconds.
fn threshold_ms(names: &Names<'_>) -> Option<f64> {
    let checks = names
        .run
        .checks
        .iter()
        .filter(|c| c.name.starts_with("http_req_duration"));
    let texts = checks.flat_map(|c| [&c.name, &c.detail]);
    let limit = |text: &String| -> Option<f64> {
        let (_, after) = text.split_once("p(99)<")?;
        let after = after.trim_start_matches('=').trim_start();
        let end = after.find(|c: char| !c.is_ascii_digit() && c != '.');
        after[..end.unwrap_or(after.len())].parse().ok()
    };
    texts.into_iter().find_map(limit)
}
