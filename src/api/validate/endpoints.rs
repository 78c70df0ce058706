//! Endpoints and EndpointSlices (`pkg/apis/core/validation`, `pkg/apis/discovery/validation`).

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, Endpoints};
use k8s_openapi::api::discovery::v1::{self as discovery, EndpointSlice};

use super::field::{At, Errors};
use super::ip;
use super::meta::{label_name, labels};
use super::names::{dns_label, dns_subdomain, label_value, port_number};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// `validateEndpointSubsets`.
pub fn endpoints(object: &Endpoints, at: &At<'_>, errors: &mut Errors) {
    let at = at.field("subsets");
    for (i, subset) in object.subsets.iter().flatten().enumerate() {
        let at = at.item(i);
        let ready = subset.addresses.as_deref().unwrap_or_default();
        let unready = subset.not_ready_addresses.as_deref().unwrap_or_default();
        if ready.is_empty() && unready.is_empty() {
            errors.required(&at, "must specify `addresses` or `notReadyAddresses`");
        }
        for (field, addresses) in [("addresses", ready), ("notReadyAddresses", unready)] {
            let at = at.field(field);
            for (i, address) in addresses.iter().enumerate() {
                self::address(address, &at.item(i), errors);
            }
        }
        let ports = subset.ports.as_deref().unwrap_or_default();
        let at = at.field("ports");
        for (i, each) in ports.iter().enumerate() {
            port(each, ports.len() > 1, &at.item(i), errors);
        }
    }
}

/// `validateEndpointAddress`.
fn address(address: &EndpointAddress, at: &At<'_>, errors: &mut Errors) {
    let ip_at = at.field("ip");
    ip::address(&address.ip, &ip_at, errors);
    if let Some(host) = address.hostname.as_deref().filter(|host| !host.is_empty()) {
        errors.invalid_each(&at.field("hostname"), host, dns_label(host));
    }
    if let Some(node) = &address.node_name {
        errors.invalid_each(&at.field("nodeName"), node, dns_subdomain(node));
    }
    endpoint_ip(&address.ip, &ip_at, errors);
}

/// `ValidateEndpointIP`: addresses that no pod can have.
pub(super) fn endpoint_ip(text: &str, at: &At<'_>, errors: &mut Errors) {
    let Some(ip) = ip::parse(text) else {
        errors.invalid(at, text, "must be a valid IP address");
        return;
    };
    if ip.is_unspecified() {
        errors.invalid(at, text, &format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        let detail = "may not be in the loopback range (127.0.0.0/8, ::1/128)";
        errors.invalid(at, text, detail);
    }
    let (local, multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => {
            let first = ip.segments()[0];
            (first & 0xffc0 == 0xfe80, first & 0xff0f == 0xff02)
        }
    };
    if local {
        let detail = "may not be in the link-local range (169.254.0.0/16, fe80::/10)";
        errors.invalid(at, text, detail);
    }
    if multicast {
        let detail = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)";
        errors.invalid(at, text, detail);
    }
}

/// `validateEndpointPort`.
fn port(port: &EndpointPort, named: bool, at: &At<'_>, errors: &mut Errors) {
    let name = port.name.as_deref().unwrap_or_default();
    if !name.is_empty() {
        errors.invalid_each(&at.field("name"), name, dns_label(name));
    } else if named {
        errors.required(&at.field("name"), "");
    }
    errors.invalid_each(&at.field("port"), &port.port, port_number(port.port));
    protocol(port.protocol.as_deref(), &at.field("protocol"), errors);
    if let Some(application) = &port.app_protocol {
        label_name(application, &at.field("appProtocol"), errors);
    }
}

fn protocol(protocol: Option<&str>, at: &At<'_>, errors: &mut Errors) {
    match protocol {
        None => errors.required(at, ""),
        Some(known) if PROTOCOLS.contains(&known) => {}
        Some(other) => errors.not_supported(at, other, &PROTOCOLS),
    }
}

/// `ValidateEndpointSlice`, without the metadata.
pub fn endpoint_slice(object: &EndpointSlice, at: &At<'_>, errors: &mut Errors) {
    let kinds = ["FQDN", "IPv4", "IPv6"];
    let kind = object.address_type.as_str();
    let kind_at = at.field("addressType");
    match kind {
        "" => errors.required(&kind_at, ""),
        kind if kinds.contains(&kind) => {}
        other => errors.not_supported(&kind_at, other, &kinds),
    }
    let ports = object.ports.as_deref().unwrap_or_default();
    slice_ports(ports, &at.field("ports"), errors);
    let at = at.field("endpoints");
    let endpoints = object.endpoints.as_deref().unwrap_or_default();
    if endpoints.len() > 1000 {
        errors.too_many(&at, endpoints.len(), 1000);
        return;
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        self::endpoint(endpoint, kind, &at.item(i), errors);
    }
}

/// `validatePorts`.
fn slice_ports(ports: &[discovery::EndpointPort], at: &At<'_>, errors: &mut Errors) {
    const MOST: usize = 20_000;
    if ports.len() > MOST {
        errors.too_many(at, ports.len(), MOST);
        return;
    }
    let mut names = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let at = at.item(i);
        let name = port.name.as_deref().unwrap_or_default();
        let name_at = at.field("name");
        if !name.is_empty() {
            errors.invalid_each(&name_at, name, dns_label(name));
        }
        if !names.insert(name) {
            errors.duplicate(&name_at, name);
        }
        protocol(port.protocol.as_deref(), &at.field("protocol"), errors);
        if let Some(application) = &port.app_protocol {
            label_name(application, &at.field("appProtocol"), errors);
        }
    }
}

/// One item of `validateEndpoints`.
fn endpoint(endpoint: &discovery::Endpoint, kind: &str, at: &At<'_>, errors: &mut Errors) {
    const MOST: usize = 100;
    let all_at = at.field("addresses");
    if endpoint.addresses.is_empty() {
        errors.required(&all_at, "must contain at least 1 address");
    } else if endpoint.addresses.len() > MOST {
        errors.too_many(&all_at, endpoint.addresses.len(), MOST);
    }
    for (i, address) in endpoint.addresses.iter().enumerate() {
        let at = all_at.item(i);
        match kind {
            "IPv4" | "IPv6" => slice_address(address, kind, &all_at, &at, errors),
            "FQDN" => qualified_name(address, &at, errors),
            _ => {}
        }
    }
    if let Some(node) = &endpoint.node_name {
        errors.invalid_each(&at.field("nodeName"), node, dns_subdomain(node));
    }
    let topology = endpoint.deprecated_topology.as_ref();
    let topology_at = at.field("deprecatedTopology");
    if let Some(count) = topology.map(|labels| labels.len()).filter(|n| *n > 16) {
        errors.too_many(&topology_at, count, 16);
    }
    labels(&endpoint.deprecated_topology, &topology_at, errors);
    if let Some(host) = &endpoint.hostname {
        errors.invalid_each(&at.field("hostname"), host, dns_label(host));
    }
    if let Some(hints) = &endpoint.hints {
        self::hints(hints, &at.field("hints"), errors);
    }
}

fn slice_address(text: &str, kind: &str, all: &At<'_>, at: &At<'_>, errors: &mut Errors) {
    let before = errors.len();
    ip::address(text, at, errors);
    if errors.len() > before {
        return;
    }
    let canonical = text.parse::<IpAddr>().map(|ip| ip.to_string());
    if let Ok(canonical) = canonical
        && kind == "IPv6"
        && canonical != text
    {
        // `IsValidIP`: this kind never took another form.
        let detail = format!("must be in canonical form ({canonical:?})");
        errors.invalid(at, text, &detail);
        return;
    }
    let four = text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4());
    if four != (kind == "IPv4") {
        errors.invalid(all, text, &format!("must be an {kind} address"));
    }
    endpoint_ip(text, at, errors);
}

/// `IsFullyQualifiedDomainName`.
fn qualified_name(text: &str, at: &At<'_>, errors: &mut Errors) {
    if text.is_empty() {
        errors.required(at, "");
        return;
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let wrong = dns_subdomain(name);
    if !wrong.is_empty() {
        errors.invalid(at, name, &wrong.join(","));
    } else if !name.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.invalid(at, name, detail);
    } else if let Some((label, wrong)) = name
        .split('.')
        .map(|label| (label, dns_label(label)))
        .find(|(_, wrong)| !wrong.is_empty())
    {
        errors.invalid(at, label, &wrong.join(","));
    }
}

/// `validateHints`.
fn hints(hints: &discovery::EndpointHints, at: &At<'_>, errors: &mut Errors) {
    let zones = hints.for_zones.iter().flatten().map(|zone| &zone.name);
    let nodes = hints.for_nodes.iter().flatten().map(|node| &node.name);
    let rule: [fn(&str) -> Vec<String>; 2] = [label_value, dns_subdomain];
    let lists = [
        ("forZones", zones.collect::<Vec<_>>(), rule[0]),
        ("forNodes", nodes.collect(), rule[1]),
    ];
    for (field, names, rule) in lists {
        let at = at.field(field);
        if names.len() > 8 {
            errors.too_many(&at, names.len(), 8);
            return;
        }
        let mut seen = BTreeSet::new();
        for (i, name) in names.into_iter().enumerate() {
            let item = at.item(i);
            let at = item.field("name");
            if !seen.insert(name) {
                errors.duplicate(&at, name);
            }
            errors.invalid_each(&at, name, rule(name));
        }
    }
}
