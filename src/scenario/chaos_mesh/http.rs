//! HTTPChaos.

use std::time::Duration;

use super::refused;
use crate::fault::{Action, HttpFault};
use crate::scenario::diagnostic::Diagnostic;
use crate::scenario::fields::{Fields, Problems, Value};

/// What `http.Method…` of Go knows (`api/v1alpha1/httpchaos_webhook.go :: HTTPMethod.Validate`).
const METHODS: [&str; 9] = [
    "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT",
];

/// `spec` of an HTTPChaos.
pub fn http_action(spec: &Fields<'_>, problems: &mut Problems) -> Option<Action> {
    let target = spec.require("target", problems);
    let target = target.and_then(|value| value.word(&["Request", "Response"], problems));
    let port = spec.require("port", problems);
    let port = port.and_then(|value| port_of(&value, problems));
    let response = target == Some("Response");
    for key in ["request_headers", "response_headers"] {
        // Nothing is known of headers: a rule that goes by them would hit all or none.
        if let Some(value) = spec.get(key) {
            problems.push(refused(&value, key));
        }
    }
    let method = spec.get("method").and_then(|value| {
        let method = value.text(problems)?;
        if !response && !METHODS.contains(&method.as_str()) {
            problems.push(value.invalid(format!("method {method} is not supported")));
        }
        Some(method)
    });
    let code = spec.get("code").and_then(|value| status(&value, problems));
    let mut what = HttpFault {
        response,
        port: port.unwrap_or(0),
        path: spec.text("path", problems),
        method,
        code: code.filter(|_| response),
        abort: spec.flag("abort", problems).unwrap_or(false),
        delay: spec.duration("delay", problems).unwrap_or(Duration::ZERO),
        replace_code: None,
    };
    replaced(spec, &mut what, problems);
    for (key, value) in parts(spec, "patch", &["body", "queries", "headers"], problems) {
        problems.push(idle(&value, "patch", key));
    }
    let nothing = !what.abort && what.delay.is_zero() && what.replace_code.is_none();
    if nothing && let Some(value) = spec.get("target") {
        let message = "this HTTPChaos does nothing that is felt here: it neither aborts nor delays, \
                       nor gives answers another status";
        let warning = Diagnostic::warning("NotModelled", message, value.span());
        problems.push(warning.at(value.path.as_str()));
    }
    target.and(port).map(|_| Action::Http(what))
}

fn port_of(value: &Value<'_>, problems: &mut Problems) -> Option<u16> {
    let port = value.count(problems)?;
    match u16::try_from(port) {
        Ok(port) if port > 0 => Some(port),
        _ => {
            problems.push(value.invalid(format!("port {port} is not supported")));
            None
        }
    }
}

fn status(value: &Value<'_>, problems: &mut Problems) -> Option<u16> {
    let code = value.count(problems)?;
    let code = u16::try_from(code)
        .ok()
        .filter(|code| (100..600).contains(code));
    if code.is_none() {
        problems.push(value.invalid("must be an HTTP status, 100 to 599"));
    }
    code
}

/// `replace`: another status is felt, the rest is not.
fn replaced(spec: &Fields<'_>, what: &mut HttpFault, problems: &mut Problems) {
    let keys = ["code", "path", "method", "body", "queries", "headers"];
    for (key, value) in parts(spec, "replace", &keys, problems) {
        match key {
            // A request has no status.
            "code" if what.response => what.replace_code = status(&value, problems),
            _ => problems.push(idle(&value, "replace", key)),
        }
    }
}

/// The fields of a part that is there.
fn parts<'n>(
    spec: &Fields<'n>,
    part: &'static str,
    keys: &[&'static str],
    problems: &mut Problems,
) -> Vec<(&'static str, Value<'n>)> {
    let Some(fields) = spec.fields(part, problems) else {
        return Vec::new();
    };
    let found = keys.iter().filter_map(|key| Some((*key, fields.get(key)?)));
    let found = found.collect();
    let mut unknown = Problems::new();
    fields.finish(&mut unknown);
    problems.extend(super::foreign(unknown));
    found
}

fn idle(value: &Value<'_>, part: &str, key: &str) -> Diagnostic {
    let message =
        format!("{part}.{key} is read and has no effect: what requests say is not modelled");
    let warning = Diagnostic::warning("NotModelled", message, value.span());
    warning.at(value.path.as_str())
}
