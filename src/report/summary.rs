//! The object that other programs read: `rehearsal run --json` and `summary.json`.
//!
//! Fields may be added, never renamed. It holds no figure of the wall clock and no path, so that two
//! runs of one seed give the same bytes wherever they write to; the caller adds `results`.

use serde_json::{Map, Value, json};

use crate::record::{CheckRow, RunRecord, TrafficRecord};

/// The summary of a run as one JSON object.
pub fn summary_json(run: &RunRecord) -> Value {
    let header = &run.header;
    let not_modelled: Vec<Value> = (header.not_modelled.iter())
        .map(|(kind, count)| json!({"kind": kind, "count": count}))
        .collect();
    let warnings: Vec<Value> = (header.warnings.iter())
        .map(|w| json!({"file": w.file, "line": w.line, "column": w.column, "message": w.message}))
        .collect();
    let traffic = |internal: bool| -> Vec<Value> {
        let rows = run.traffic.iter().filter(|t| t.internal == internal);
        rows.map(traffic_json).collect()
    };
    json!({
        "scenario": header.scenario,
        "seed": header.seed,
        "backend": header.backend,
        "kubernetesVersion": header.kubernetes_version,
        "digest": header.digest,
        "simulated_s": header.simulated.as_secs_f64(),
        "events": header.events,
        "passed": run.checks.iter().all(|c| c.passed),
        "checks": run.checks.iter().map(check_json).collect::<Vec<_>>(),
        "traffic": traffic(false),
        "calls": traffic(true),
        "not_modelled": not_modelled,
        "warnings": warnings,
        "degraded": header.degraded,
        "interrupted": header.interrupted,
    })
}

fn check_json(check: &CheckRow) -> Value {
    let mut object = Map::new();
    object.insert("name".into(), json!(check.name));
    object.insert("kind".into(), json!(check.kind));
    object.insert("passed".into(), json!(check.passed));
    if let Some(at_s) = check.at_s {
        object.insert("at_s".into(), json!(at_s));
    }
    object.insert("detail".into(), json!(check.detail));
    if check.open {
        object.insert("open".into(), json!(true));
    }
    Value::Object(object)
}

fn traffic_json(traffic: &TrafficRecord) -> Value {
    let ms = |us: u64| us as f64 / 1e3;
    let failed_by: Map<String, Value> = (traffic.failed_by.iter())
        .map(|(cause, count)| (cause.clone(), json!(count)))
        .collect();
    json!({
        "name": traffic.name,
        "to": traffic.to,
        "sent": traffic.sent,
        "ok": traffic.ok,
        "failed": traffic.failed,
        "in_flight": traffic.in_flight,
        "failed_by": failed_by,
        "p50_ms": ms(traffic.p50_us),
        "p90_ms": ms(traffic.p90_us),
        "p99_ms": ms(traffic.p99_us),
        "max_ms": ms(traffic.max_us),
        "ok_p99_ms": ms(traffic.ok_p99_us),
    })
}
