//! Services (`pkg/apis/core/validation :: validateService`), after the allocation of addresses
//! ([`super::service_alloc`]).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use serde_json::json;

use super::container::protocol;
use super::endpoints::endpoint_ip;
use super::field::{At, Errors};
use super::ip;
use super::meta::labels;
use super::names::{dns_label, dns_subdomain, label_key, port_number};
use super::probe::port;

/// `ValidateServiceCreate`, without the metadata.
pub fn service(object: &Service, at: &At<'_>, errors: &mut Errors) {
    let Some(spec) = &object.spec else {
        return;
    };
    let at = at.field("spec");
    let headless = spec.cluster_ip.as_deref() == Some("None");
    let ports = spec.ports.as_deref().unwrap_or_default();
    let kind = spec.type_.as_deref().unwrap_or_default();
    if ports.is_empty() && !headless && kind != "ExternalName" {
        errors.required(&at.field("ports"), "");
    }
    if headless && matches!(kind, "LoadBalancer" | "NodePort") {
        let detail = format!("may not be set to 'None' for {kind} services");
        errors.invalid(&at.field("clusterIPs").item(0), "None", &detail);
    }
    if kind == "ExternalName" {
        external_name(spec, &at, errors);
    }
    let mut names = BTreeSet::new();
    let ports_at = at.field("ports");
    for (i, port) in ports.iter().enumerate() {
        service_port(port, ports.len() > 1, &mut names, &ports_at.item(i), errors);
    }
    labels(&spec.selector, &at.field("selector"), errors);
    session_affinity(spec, &at, errors);
    let external_at = at.field("externalIPs");
    for (i, address) in spec.external_ips.iter().flatten().enumerate() {
        // For want of better ones the rules of endpoints' addresses.
        let (at, before) = (external_at.item(i), errors.len());
        ip::address(address, &at, errors);
        if errors.len() == before {
            endpoint_ip(address, &at, errors);
        }
    }
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    if !kinds.contains(&kind) {
        errors.not_supported(&at.field("type"), kind, &kinds);
    }
    distinct_ports(spec, kind, &ports_at, errors);
    load_balancer(spec, kind, &at, errors);
    traffic(spec, kind, &at, errors);
}

fn external_name(spec: &ServiceSpec, at: &At<'_>, errors: &mut Errors) {
    let detail = "may not be set for ExternalName services";
    for (field, set) in [
        (
            "clusterIPs",
            spec.cluster_ip.is_some() || spec.cluster_ips.is_some(),
        ),
        ("ipFamilies", spec.ip_families.is_some()),
        ("ipFamilyPolicy", spec.ip_family_policy.is_some()),
    ] {
        if set {
            errors.forbidden(&at.field(field), detail);
        }
    }
    let name = spec.external_name.as_deref().unwrap_or_default();
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        errors.required(&at.field("externalName"), "");
    } else {
        errors.invalid_each(&at.field("externalName"), name, dns_subdomain(name));
    }
}

/// `validateServicePort`.
fn service_port<'a>(
    source: &'a ServicePort,
    needs_name: bool,
    names: &mut BTreeSet<&'a str>,
    at: &At<'_>,
    errors: &mut Errors,
) {
    let name = source.name.as_deref().unwrap_or_default();
    if !name.is_empty() {
        errors.invalid_each(&at.field("name"), name, dns_label(name));
        if !names.insert(name) {
            errors.duplicate(&at.field("name"), name);
        }
    } else if needs_name {
        errors.required(&at.field("name"), "");
    }
    errors.invalid_each(&at.field("port"), &source.port, port_number(source.port));
    protocol(
        source.protocol.as_deref().unwrap_or_default(),
        &at.field("protocol"),
        errors,
    );
    if let Some(target) = &source.target_port {
        port(target, &at.field("targetPort"), errors);
    }
    if let Some(protocol) = &source.app_protocol {
        errors.invalid_each(&at.field("appProtocol"), protocol, label_key(protocol));
    }
}

fn session_affinity(spec: &ServiceSpec, at: &At<'_>, errors: &mut Errors) {
    let affinity = spec.session_affinity.as_deref().unwrap_or_default();
    let affinity_at = at.field("sessionAffinity");
    match affinity {
        "ClientIP" => {
            let config = spec.session_affinity_config.as_ref();
            let client = config.and_then(|c| c.client_ip.as_ref());
            let at = at.field("sessionAffinityConfig");
            let at = at.field("clientIP");
            let timeout_at = at.field("timeoutSeconds");
            match client.and_then(|c| c.timeout_seconds) {
                Some(timeout) if !(1..=86_400).contains(&timeout) => errors.invalid(
                    &timeout_at,
                    &timeout,
                    "must be greater than 0 and less than 86400",
                ),
                _ => {}
            }
        }
        "None" => {}
        "" => errors.required(&affinity_at, ""),
        other => errors.not_supported(&affinity_at, other, &["ClientIP", "None"]),
    }
}

fn distinct_ports(spec: &ServiceSpec, kind: &str, at: &At<'_>, errors: &mut Errors) {
    let ports = spec.ports.as_deref().unwrap_or_default();
    let node = |port: &ServicePort| port.node_port.unwrap_or(0);
    if kind == "ClusterIP" {
        for (i, _) in ports.iter().enumerate().filter(|(_, port)| node(port) != 0) {
            let item = at.item(i);
            let detail = "may not be used when `type` is 'ClusterIP'";
            errors.forbidden(&item.field("nodePort"), detail);
        }
    }
    let draws = match kind {
        "LoadBalancer" => spec.allocate_load_balancer_node_ports != Some(false),
        kind => kind == "NodePort",
    };
    let handed = handed(ports, draws);
    let mut nodes = BTreeSet::new();
    let given = ports.iter().zip(handed).enumerate();
    for (i, (port, number)) in given.filter(|(_, (_, number))| *number != 0) {
        if !nodes.insert((&port.protocol, number)) {
            let item = at.item(i);
            errors.duplicate(&item.field("nodePort"), &number);
        }
    }
    let mut numbers = BTreeMap::new();
    for (i, port) in ports.iter().enumerate() {
        if numbers.insert((&port.protocol, port.port), i).is_some() {
            // As Go prints a port of which only these two fields are set.
            let shown = json!({
                "Name": "", "Protocol": port.protocol, "AppProtocol": null, "Port": port.port,
                "TargetPort": 0, "NodePort": 0,
            });
            errors.duplicate(&at.item(i), &shown);
        }
    }
}

/// `initNodePorts`: ports of one number share a node port, that of the one that names it, or one
/// that is drawn: as a dry run does (`PortAllocationOperation.AllocateNext`), the one above all
/// others. Numbers that nothing shares are 0 here: whether they are free is the store's to say.
fn handed(ports: &[ServicePort], draws: bool) -> Vec<i32> {
    let own = |port: &ServicePort| port.node_port.unwrap_or(0);
    let mut shared: BTreeMap<i32, i32> = BTreeMap::new();
    let mut last = 0;
    let mut all = Vec::with_capacity(ports.len());
    for port in ports {
        if own(port) != 0 || !draws {
            last = last.max(own(port));
            all.push(own(port));
            continue;
        }
        let number = *shared.entry(port.port).or_insert_with(|| {
            let mut same = ports.iter().filter(|other| other.port == port.port);
            let named = same.find(|other| own(other) != 0).map(own);
            named.unwrap_or(if last == 0 { 32_768 } else { last } + 1)
        });
        last = last.max(number);
        let count = ports.iter().filter(|other| other.port == port.port).count();
        all.push(if count > 1 { number } else { 0 });
    }
    all
}

fn load_balancer(spec: &ServiceSpec, kind: &str, at: &At<'_>, errors: &mut Errors) {
    let balanced = kind == "LoadBalancer";
    let only = "may only be used when `type` is 'LoadBalancer'";
    let ranges = spec
        .load_balancer_source_ranges
        .as_deref()
        .unwrap_or_default();
    let ranges_at = at.field("LoadBalancerSourceRanges");
    if !ranges.is_empty() && !balanced {
        errors.forbidden(&ranges_at, only);
    }
    for (i, range) in ranges.iter().enumerate() {
        ip::network(range.trim(), &ranges_at.item(i), errors);
    }
    if spec.allocate_load_balancer_node_ports.is_some() && !balanced {
        errors.forbidden(&at.field("allocateLoadBalancerNodePorts"), only);
    }
    if let Some(class) = &spec.load_balancer_class {
        let at = at.field("loadBalancerClass");
        if balanced {
            errors.invalid_each(&at, class, label_key(class));
        } else {
            errors.forbidden(&at, only);
        }
    }
}

fn traffic(spec: &ServiceSpec, kind: &str, at: &At<'_>, errors: &mut Errors) {
    let policies = ["Cluster", "Local"];
    let external = matches!(kind, "NodePort" | "LoadBalancer")
        || (kind == "ClusterIP"
            && spec
                .external_ips
                .as_ref()
                .is_some_and(|ips| !ips.is_empty()));
    let policy = spec.external_traffic_policy.as_deref().unwrap_or_default();
    let policy_at = at.field("externalTrafficPolicy");
    match (external, policy) {
        (false, "") => {}
        (false, policy) => {
            let detail = "may only be set for externally-accessible services";
            errors.invalid(&policy_at, policy, detail);
        }
        (true, "") => errors.required(&policy_at, ""),
        (true, policy) if !policies.contains(&policy) => {
            errors.not_supported(&policy_at, policy, &policies);
        }
        (true, _) => {}
    }
    if let Some(check) = spec.health_check_node_port.filter(|port| *port != 0) {
        let at = at.field("healthCheckNodePort");
        if kind == "LoadBalancer" && policy == "Local" {
            errors.invalid_each(&at, &check, port_number(check));
        } else {
            let detail = "may only be set when `type` is 'LoadBalancer' and \
                          `externalTrafficPolicy` is 'Local'";
            errors.invalid(&at, &check, detail);
        }
    }
    if let Some(policy) = &spec.internal_traffic_policy
        && !policies.contains(&policy.as_str())
    {
        errors.not_supported(&at.field("internalTrafficPolicy"), policy, &policies);
    }
    let distributions = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    if let Some(distribution) = &spec.traffic_distribution
        && !distributions.contains(&distribution.as_str())
    {
        errors.not_supported(
            &at.field("trafficDistribution"),
            distribution,
            &distributions,
        );
    }
}
