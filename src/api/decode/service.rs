//! Services and EndpointSlices.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::DecodeContext;
use super::container::protocol;
use super::meta::{count32, labels, list, meta, port, text, uid};
use super::pod_status::ipv4;
use super::workload::spec_json;
use crate::api::service::{Endpoint, EndpointPort, Hints, ServiceKind, ServicePort, TargetPort};
use crate::api::{EndpointSlice, Service};

pub(super) fn service(source: &core::Service, json: &Value, cx: &DecodeContext) -> Service {
    let meta = meta(&source.metadata, cx);
    let Some(spec) = &source.spec else {
        return Service {
            meta,
            ..Service::default()
        };
    };
    let local = |policy: &Option<String>| policy.as_deref() == Some("Local");
    let affinity = spec.session_affinity.as_deref() == Some("ClientIP");
    let timeout = spec
        .session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref())
        .and_then(|client| client.timeout_seconds);
    Service {
        meta,
        kind: match spec.type_.as_deref() {
            Some("NodePort") => ServiceKind::NodePort,
            Some("LoadBalancer") => ServiceKind::LoadBalancer,
            Some("ExternalName") => ServiceKind::ExternalName,
            _ => ServiceKind::ClusterIp,
        },
        cluster_ip: spec.cluster_ip.as_deref().and_then(ipv4),
        headless: spec.cluster_ip.as_deref() == Some("None"),
        selector: labels(&spec.selector),
        ports: list(&spec.ports).iter().map(service_port).collect(),
        client_ip_affinity_s: affinity.then(|| count32(Some(timeout.unwrap_or(10_800)))),
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
        internal_local: local(&spec.internal_traffic_policy),
        external_local: local(&spec.external_traffic_policy),
        external_name: text(&spec.external_name),
        source: spec_json(json),
    }
}

fn service_port(source: &core::ServicePort) -> ServicePort {
    ServicePort {
        name: text(&source.name),
        port: port(source.port),
        target: match &source.target_port {
            Some(IntOrString::Int(number)) => TargetPort::Number(port(*number)),
            Some(IntOrString::String(name)) => TargetPort::Name(name.as_str().into()),
            None => TargetPort::Number(port(source.port)),
        },
        node_port: port(source.node_port.unwrap_or(0)),
        protocol: protocol(&source.protocol),
        app_protocol: text(&source.app_protocol),
    }
}

pub(super) fn endpoint_slice(
    source: &discovery::EndpointSlice,
    cx: &DecodeContext,
) -> EndpointSlice {
    EndpointSlice {
        meta: meta(&source.metadata, cx),
        endpoints: list(&source.endpoints).iter().map(endpoint).collect(),
        ports: list(&source.ports)
            .iter()
            .map(|p| EndpointPort {
                name: text(&p.name),
                port: port(p.port.unwrap_or(0)),
                protocol: protocol(&p.protocol),
                app_protocol: text(&p.app_protocol),
            })
            .collect(),
    }
}

/// An endpoint; conditions that nobody set read as ready and serving.
fn endpoint(source: &discovery::Endpoint) -> Endpoint {
    let conditions = source.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let target = source.target_ref.as_ref();
    let pod = target.filter(|target| target.kind.as_deref() == Some("Pod"));
    Endpoint {
        ip: source.addresses.first().and_then(|a| ipv4(a)).unwrap_or(0),
        pod_uid: pod
            .and_then(|p| p.uid.as_deref())
            .map(uid)
            .unwrap_or_default(),
        pod: pod.map(|p| text(&p.name)).unwrap_or_default(),
        hostname: text(&source.hostname),
        node: text(&source.node_name),
        zone: text(&source.zone),
        ready,
        serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        hints: source.hints.as_ref().map(|hints| {
            let zones = list(&hints.for_zones)
                .iter()
                .map(|z| z.name.as_str().into());
            let nodes = list(&hints.for_nodes)
                .iter()
                .map(|n| n.name.as_str().into());
            Arc::new(Hints {
                zones: zones.collect(),
                nodes: nodes.collect(),
            })
        }),
    }
}
