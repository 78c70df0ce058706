//! `spec.cluster.latency`: how long container runtimes and proxies take in a simulated run.
//!
//! ```yaml
//! latency:
//!   sandbox: {lognormal: {p50: 1600us, p99: 9ms}}
//!   start: {lognormal: {p50: 2100us, p99: 11ms}}
//!   remove: 600us
//!   endpointSync: 12ms
//! ```
//!
//! What is left out is what containerd with a CNI plugin takes on an unloaded node (or, in the
//! simulated half of a comparison with real processes, what those take). `rehearsal calibrate`
//! writes the section for a host. Real runs do not read it.

use super::app_model::dist;
use super::fields::{Problems, Value};
use super::types::LatencySpec;

/// Reads `latency`, if it is there.
pub fn read(value: Option<&Value<'_>>, problems: &mut Problems) -> LatencySpec {
    let Some(fields) = value.and_then(|value| value.fields(problems)) else {
        return LatencySpec::default();
    };
    let spec = LatencySpec {
        sandbox: dist(fields.get("sandbox"), problems),
        pull: dist(fields.get("pull"), problems),
        resolve: dist(fields.get("resolve"), problems),
        start: dist(fields.get("start"), problems),
        remove: dist(fields.get("remove"), problems),
        endpoint_sync: fields.duration("endpointSync", problems),
    };
    fields.finish(problems);
    spec
}
