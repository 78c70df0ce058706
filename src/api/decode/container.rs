//! Containers, probes, hooks and resource lists.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::meta::{count, count32, list, port, text, texts};
use crate::api::Text;
use crate::api::container::{
    ConfigRef, Container, ContainerPort, Protocol, PullPolicy, RestartAction, RestartRule,
};
use crate::api::pod::RestartPolicy;
use crate::api::probe::{Action, Probe};
use crate::api::quantity::{Quantity, Resources};

/// Amounts by name. Every resource but cpu is counted in whole units, rounded up.
pub(super) fn resources(source: &Option<BTreeMap<String, Written>>) -> Resources {
    let mut resources = Resources::default();
    for (name, amount) in source.iter().flatten() {
        let amount = Quantity::parse(&amount.0).unwrap_or_default();
        match name.as_str() {
            "cpu" => {
                resources.cpu_milli = amount.milli_value();
                resources.named |= 1;
            }
            "memory" => {
                resources.memory = amount.value();
                resources.named |= 2;
            }
            "ephemeral-storage" => {
                resources.ephemeral = amount.value();
                resources.named |= 4;
            }
            "pods" => {
                resources.pods = amount.value();
                resources.named |= 8;
            }
            name => resources.set_extended(&Text::from(name), amount.value()),
        }
    }
    resources
}

/// `spec.resources.requests` of a pod: amounts that are given for the pod as a whole.
pub(crate) fn pod_level(spec: &Value) -> Option<Resources> {
    let requests = spec.get("resources")?.get("requests")?;
    let requests = serde_json::from_value(requests.clone()).ok()?;
    Some(resources(&Some(requests)))
}

/// `spec.resources` of a pod as (requests, limits), when they say anything that is supported
/// (`IsPodLevelResourcesSet`).
pub(crate) fn pod_whole(spec: &Value) -> Option<(Resources, Resources)> {
    let whole = spec.get("resources")?;
    let of = |field: &str| {
        let amounts = whole.get(field)?.clone();
        let amounts = serde_json::from_value(amounts).ok()?;
        Some(resources(&Some(amounts)))
    };
    let both = ["requests", "limits"].map(|field| of(field).unwrap_or_default());
    let named = |r: &Resources| {
        let mut extended = r.extended.iter();
        r.named & 3 != 0 || extended.any(|(name, _)| name.starts_with("hugepages-"))
    };
    both.iter().any(named).then(|| both.into())
}

pub(super) fn protocol(source: &Option<String>) -> Protocol {
    match source.as_deref() {
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        _ => Protocol::Tcp,
    }
}

pub(super) fn container(source: &core::Container) -> Container {
    let ports: Vec<_> = list(&source.ports).iter().map(container_port).collect();
    let probe = |probe: &Option<core::Probe>| probe.as_ref().and_then(|p| self::probe(p, &ports));
    let hook = |hook: Option<&core::LifecycleHandler>| hook.and_then(|h| handler(h, &ports));
    let lifecycle = source.lifecycle.as_ref();
    let limits = source.resources.as_ref().map(|r| resources(&r.limits));
    let requests = source.resources.as_ref().map(|r| resources(&r.requests));
    Container {
        name: source.name.as_str().into(),
        image: text(&source.image),
        pull_policy: match source.image_pull_policy.as_deref() {
            Some("Always") => PullPolicy::Always,
            Some("Never") => PullPolicy::Never,
            _ => PullPolicy::IfNotPresent,
        },
        requests: requests.unwrap_or_default(),
        limits: limits.unwrap_or_default(),
        startup: probe(&source.startup_probe),
        readiness: probe(&source.readiness_probe),
        liveness: probe(&source.liveness_probe),
        post_start: hook(lifecycle.and_then(|l| l.post_start.as_ref())),
        pre_stop: hook(lifecycle.and_then(|l| l.pre_stop.as_ref())),
        stop_signal: lifecycle.map(|l| text(&l.stop_signal)).unwrap_or_default(),
        restart_always: false,
        restart_policy: source.restart_policy.as_deref().and_then(restart_policy),
        restart_rules: list(&source.restart_policy_rules)
            .iter()
            .filter_map(restart_rule)
            .collect(),
        command: texts(&source.command),
        args: texts(&source.args),
        env: list(&source.env)
            .iter()
            .map(|env| (env.name.as_str().into(), text(&env.value)))
            .collect(),
        env_refs: env_refs(source),
        ports,
    }
}

/// An init container; with `restartPolicy: Always` it is a sidecar.
pub(super) fn init_container(source: &core::Container) -> Container {
    let container = container(source);
    Container {
        restart_always: container.restart_policy == Some(RestartPolicy::Always),
        ..container
    }
}

/// A restart policy by its name.
pub(super) fn restart_policy(name: &str) -> Option<RestartPolicy> {
    match name {
        "Always" => Some(RestartPolicy::Always),
        "OnFailure" => Some(RestartPolicy::OnFailure),
        "Never" => Some(RestartPolicy::Never),
        _ => None,
    }
}

/// A rule without exit codes, or with an action of a later version, never applies.
fn restart_rule(source: &core::ContainerRestartRule) -> Option<RestartRule> {
    let codes = source.exit_codes.as_ref()?;
    Some(RestartRule {
        action: match source.action.as_str() {
            "Restart" => RestartAction::Restart,
            "RestartAllContainers" => RestartAction::RestartAll,
            _ => return None,
        },
        except: match codes.operator.as_str() {
            "In" => false,
            "NotIn" => true,
            _ => return None,
        },
        codes: list(&codes.values).to_vec(),
    })
}

fn container_port(source: &core::ContainerPort) -> ContainerPort {
    ContainerPort {
        name: text(&source.name),
        port: port(source.container_port),
        host_port: port(source.host_port.unwrap_or(0)),
        host_ip: text(&source.host_ip),
        protocol: protocol(&source.protocol),
    }
}

/// What the container cannot start without, in the order in which the kubelet looks.
fn env_refs(source: &core::Container) -> Vec<ConfigRef> {
    let mut refs = Vec::new();
    for from in list(&source.env_from) {
        if let Some(map) = &from.config_map_ref {
            refs.push(config_ref(false, &map.name, None, map.optional));
        }
        if let Some(secret) = &from.secret_ref {
            refs.push(config_ref(true, &secret.name, None, secret.optional));
        }
    }
    for from in list(&source.env)
        .iter()
        .filter_map(|env| env.value_from.as_ref())
    {
        if let Some(map) = &from.config_map_key_ref {
            refs.push(config_ref(false, &map.name, Some(&map.key), map.optional));
        }
        if let Some(secret) = &from.secret_key_ref {
            refs.push(config_ref(
                true,
                &secret.name,
                Some(&secret.key),
                secret.optional,
            ));
        }
    }
    refs
}

pub(super) fn config_ref(
    secret: bool,
    name: &str,
    key: Option<&str>,
    optional: Option<bool>,
) -> ConfigRef {
    ConfigRef {
        secret,
        name: name.into(),
        key: key.map(Text::from),
        optional: optional.unwrap_or(false),
    }
}

fn probe(source: &core::Probe, ports: &[ContainerPort]) -> Option<Probe> {
    let action = if let Some(exec) = &source.exec {
        Action::Exec(texts(&exec.command))
    } else if let Some(get) = &source.http_get {
        http_get(get, ports)
    } else if let Some(tcp) = &source.tcp_socket {
        Action::TcpSocket {
            port: resolve(&tcp.port, ports),
        }
    } else {
        let grpc = source.grpc.as_ref()?;
        Action::Grpc {
            port: port(grpc.port),
            service: text(&grpc.service),
        }
    };
    Some(Probe {
        action,
        initial_delay_s: count32(source.initial_delay_seconds),
        period_s: count32(source.period_seconds),
        timeout_s: count32(source.timeout_seconds),
        success_threshold: count32(source.success_threshold),
        failure_threshold: count32(source.failure_threshold),
        termination_grace_s: source.termination_grace_period_seconds.map(count),
    })
}

fn handler(source: &core::LifecycleHandler, ports: &[ContainerPort]) -> Option<Action> {
    if let Some(exec) = &source.exec {
        return Some(Action::Exec(texts(&exec.command)));
    }
    if let Some(get) = &source.http_get {
        return Some(http_get(get, ports));
    }
    if let Some(sleep) = &source.sleep {
        return Some(Action::Sleep(count(sleep.seconds)));
    }
    source.tcp_socket.as_ref().map(|tcp| Action::TcpSocket {
        port: resolve(&tcp.port, ports),
    })
}

fn http_get(source: &core::HTTPGetAction, ports: &[ContainerPort]) -> Action {
    Action::HttpGet {
        path: text(&source.path),
        port: resolve(&source.port, ports),
        https: source.scheme.as_deref() == Some("HTTPS"),
        host: text(&source.host),
    }
}

/// `pkg/kubelet/util :: ResolveContainerPort`: a name is looked up in the container's own ports.
fn resolve(source: &IntOrString, ports: &[ContainerPort]) -> u16 {
    match source {
        IntOrString::Int(number) => port(*number),
        IntOrString::String(name) => ports
            .iter()
            .find(|port| port.name == name.as_str())
            .map_or_else(|| name.parse().unwrap_or(0), |port| port.port),
    }
}
