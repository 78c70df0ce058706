//! Probes, hooks and ports by number or name.

use k8s_openapi::api::core::v1::{
    ExecAction, GRPCAction, HTTPGetAction, Lifecycle, LifecycleHandler, Probe, SleepAction,
    TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::field::{At, Errors};
use super::names::{http_header, port_name, port_number};

/// What a probe or hook does; one of them.
#[derive(Default)]
struct Actions<'a> {
    exec: Option<&'a ExecAction>,
    http_get: Option<&'a HTTPGetAction>,
    tcp_socket: Option<&'a TCPSocketAction>,
    grpc: Option<&'a GRPCAction>,
    sleep: Option<&'a SleepAction>,
}

/// Which probe it is.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Role {
    Liveness,
    Readiness,
    Startup,
}

/// `validateProbe` with the rules of its role.
pub(super) fn probe(
    probe: &Probe,
    role: Role,
    grace: Option<i64>,
    at: &At<'_>,
    errors: &mut Errors,
) {
    let actions = Actions {
        exec: probe.exec.as_ref(),
        http_get: probe.http_get.as_ref(),
        tcp_socket: probe.tcp_socket.as_ref(),
        grpc: probe.grpc.as_ref(),
        sleep: None,
    };
    handler(&actions, grace, at, errors);
    for (name, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        errors.non_negative(&at.field(name), value.unwrap_or(0).into());
    }
    let grace_at = at.field("terminationGracePeriodSeconds");
    if let Some(grace) = probe.termination_grace_period_seconds.filter(|s| *s <= 0) {
        errors.invalid(&grace_at, &grace, "must be greater than 0");
    }
    let successes = probe.success_threshold.unwrap_or(0);
    if role != Role::Readiness && successes != 1 {
        errors.invalid(&at.field("successThreshold"), &successes, "must be 1");
    }
    if let Some(grace) = probe.termination_grace_period_seconds
        && role == Role::Readiness
    {
        errors.invalid(&grace_at, &grace, "must not be set for readinessProbes");
    }
}

/// `validateLifecycle`.
pub(super) fn lifecycle(hooks: &Lifecycle, grace: Option<i64>, at: &At<'_>, errors: &mut Errors) {
    let hook = |hook: &LifecycleHandler, at: &At<'_>, errors: &mut Errors| {
        let actions = Actions {
            exec: hook.exec.as_ref(),
            http_get: hook.http_get.as_ref(),
            tcp_socket: hook.tcp_socket.as_ref(),
            grpc: None,
            sleep: hook.sleep.as_ref(),
        };
        handler(&actions, grace, at, errors);
    };
    if let Some(start) = &hooks.post_start {
        hook(start, &at.field("postStart"), errors);
    }
    if let Some(stop) = &hooks.pre_stop {
        hook(stop, &at.field("preStop"), errors);
    }
}

/// `validateHandler`: the first action is looked at, others are one too many.
fn handler(actions: &Actions<'_>, grace: Option<i64>, at: &At<'_>, errors: &mut Errors) {
    let mut seen = false;
    let mut first = |present: bool, field: &str, errors: &mut Errors| {
        if present && seen {
            errors.forbidden(&at.field(field), "may not specify more than 1 handler type");
            return false;
        }
        seen |= present;
        present
    };
    if first(actions.exec.is_some(), "exec", errors)
        && actions
            .exec
            .is_some_and(|e| e.command.as_ref().is_none_or(Vec::is_empty))
    {
        errors.required(&at.field("exec").field("command"), "");
    }
    if first(actions.http_get.is_some(), "httpGet", errors)
        && let Some(get) = actions.http_get
    {
        http_get(get, &at.field("httpGet"), errors);
    }
    if first(actions.tcp_socket.is_some(), "tcpSocket", errors)
        && let Some(tcp) = actions.tcp_socket
    {
        port(&tcp.port, &at.field("tcpSocket").field("port"), errors);
    }
    if first(actions.grpc.is_some(), "grpc", errors)
        && let Some(grpc) = actions.grpc
    {
        port(
            &IntOrString::Int(grpc.port),
            &at.field("grpc").field("port"),
            errors,
        );
    }
    if first(actions.sleep.is_some(), "sleep", errors)
        && let (Some(sleep), Some(grace)) = (actions.sleep, grace)
        && (sleep.seconds < 0 || sleep.seconds > grace)
    {
        let detail =
            format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.invalid(&at.field("sleep"), &sleep.seconds, &detail);
    }
    if !seen {
        errors.required(at, "must specify a handler type");
    }
}

fn http_get(get: &HTTPGetAction, at: &At<'_>, errors: &mut Errors) {
    if get.path.as_deref().is_none_or(str::is_empty) {
        errors.required(&at.field("path"), "");
    }
    port(&get.port, &at.field("port"), errors);
    let scheme = get.scheme.as_deref().unwrap_or_default();
    if !matches!(scheme, "HTTP" | "HTTPS") {
        errors.not_supported(&at.field("scheme"), scheme, &["HTTP", "HTTPS"]);
    }
    for header in get.http_headers.iter().flatten() {
        errors.invalid_each(
            &at.field("httpHeaders"),
            &header.name,
            http_header(&header.name),
        );
    }
}

/// `ValidatePortNumOrName`.
pub(super) fn port(port: &IntOrString, at: &At<'_>, errors: &mut Errors) {
    match port {
        IntOrString::Int(number) => errors.invalid_each(at, number, port_number(*number)),
        IntOrString::String(name) => errors.invalid_each(at, name, port_name(name)),
    }
}
