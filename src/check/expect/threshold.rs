//! Traffic thresholds in k6's words: `rate<0.01`, `count<5`, `p(99)<300`, `med<50`, `max<2000`.

use crate::load::tally::Tally;
use crate::record::CheckRow;
use crate::scenario::Threshold;

/// Judges one threshold by what came of its Traffic.
pub fn judge(threshold: &Threshold, tally: &Tally) -> CheckRow {
    let expression = &threshold.expression;
    let row = |passed: bool, detail: String| CheckRow {
        name: threshold.metric.to_string(),
        kind: "threshold".to_owned(),
        passed,
        at_s: None,
        run_s: None,
        detail,
        open: false,
    };
    let Some((aggregate, operator, bound)) = parse(expression) else {
        return row(false, format!("{expression} is not understood"));
    };
    let Some(value) = measure(&threshold.metric, aggregate, tally) else {
        return row(
            false,
            format!(
                "{expression}: {aggregate} of {} is not measured",
                threshold.metric
            ),
        );
    };
    let passed = match operator {
        "<" => value < bound,
        "<=" => value <= bound,
        ">" => value > bound,
        ">=" => value >= bound,
        "!=" => value != bound,
        _ => value == bound,
    };
    row(passed, format!("{expression}  got {}", show(value)))
}

/// `0.0154`, `300`, `6.1`.
fn show(value: f64) -> String {
    let text = if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.4}")
    };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Aggregate, operator, bound.
fn parse(expression: &str) -> Option<(&str, &'static str, f64)> {
    for operator in ["<=", ">=", "===", "==", "!=", "<", ">"] {
        if let Some((aggregate, bound)) = expression.split_once(operator) {
            let bound = bound.trim().parse().ok()?;
            return Some((aggregate.trim(), operator, bound));
        }
    }
    None
}

fn measure(metric: &str, aggregate: &str, tally: &Tally) -> Option<f64> {
    let ended = tally.ok + tally.failed;
    match (metric, aggregate) {
        ("http_req_failed", "rate") => Some(tally.failed as f64 / ended.max(1) as f64),
        ("http_req_failed", "count") => Some(tally.failed as f64),
        ("http_reqs", "count") => Some(tally.sent as f64),
        ("http_req_duration", aggregate) => {
            let ms = |quantile: f64| tally.latency(quantile).as_secs_f64() * 1000.0;
            match aggregate {
                "med" => Some(ms(0.5)),
                "min" => Some(ms(0.0)),
                "max" => Some(tally.max_latency().as_secs_f64() * 1000.0),
                other => {
                    let inner = other.strip_prefix("p(")?.strip_suffix(')')?;
                    let percent: f64 = inner.trim().parse().ok()?;
                    (0.0..=100.0)
                        .contains(&percent)
                        .then(|| ms(percent / 100.0))
                }
            }
        }
        _ => None,
    }
}
