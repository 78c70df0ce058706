//! Ingresses and NetworkPolicies (`pkg/apis/networking/validation`).

use std::net::IpAddr;

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, IPBlock, Ingress, IngressBackend, IngressTLS, NetworkPolicy,
    NetworkPolicyPeer, NetworkPolicyPort,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use super::field::{At, Errors};
use super::ip;
use super::meta::label_selector;
use super::names::{
    dns_label, dns_subdomain, path_segment, port_name, port_number, wildcard_subdomain,
};
use crate::api::yaml::Node;

/// `ValidateIngressCreate`, without the metadata.
pub fn ingress(object: &Ingress, node: &Node, at: &At<'_>, errors: &mut Errors) {
    let spec = object.spec.clone().unwrap_or_default();
    let root = at;
    let at = at.field("spec");
    let rules = spec.rules.as_deref().unwrap_or_default();
    if rules.is_empty() && spec.default_backend.is_none() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.invalid(&at, &json!(spec.rules), detail);
    }
    if let Some(default) = &spec.default_backend {
        backend(default, &at.field("defaultBackend"), errors);
    }
    let rules_at = at.field("rules");
    for (i, rule) in rules.iter().enumerate() {
        let at = rules_at.item(i);
        let host = rule.host.as_deref().unwrap_or_default();
        if !host.is_empty() {
            host_name(host, &at.field("host"), errors);
        }
        if let Some(http) = &rule.http {
            let http_at = at.field("http");
            let at = http_at.field("paths");
            if http.paths.is_empty() {
                errors.required(&at, "");
            }
            for (j, path) in http.paths.iter().enumerate() {
                let written = node.at(&format!("spec.rules[{i}].http.paths[{j}].pathType"));
                let typed = written.is_some_and(|node| !node.is_null());
                http_path(path, typed, &at.item(j), errors);
            }
        }
    }
    tls(
        spec.tls.as_deref().unwrap_or_default(),
        &at.field("tls"),
        errors,
    );
    if let Some(class) = &spec.ingress_class_name {
        errors.invalid_each(&at.field("ingressClassName"), class, dns_subdomain(class));
        let annotations = object.metadata.annotations.as_ref();
        let key = "kubernetes.io/ingress.class";
        if let Some(other) = annotations
            .and_then(|a| a.get(key))
            .filter(|other| *other != class)
        {
            let annotations = root.field("annotations");
            let detail = "must match `ingressClassName` when both are specified";
            errors.invalid(&annotations.field(key), other, detail);
        }
    }
}

fn host_name(host: &str, at: &At<'_>, errors: &mut Errors) {
    if host.parse::<IpAddr>().is_ok() {
        errors.invalid(at, host, "must be a DNS name, not an IP address");
    }
    let messages = if host.contains('*') {
        wildcard_subdomain(host)
    } else {
        dns_subdomain(host)
    };
    errors.invalid_each(at, host, messages);
}

fn tls(all: &[IngressTLS], at: &At<'_>, errors: &mut Errors) {
    for (i, tls) in all.iter().enumerate() {
        let at = at.item(i);
        let hosts = at.field("hosts");
        for (j, host) in tls.hosts.iter().flatten().enumerate() {
            let messages = if host.contains('*') {
                wildcard_subdomain(host)
            } else {
                dns_subdomain(host)
            };
            errors.invalid_each(&hosts.item(j), host, messages);
        }
        let secret = tls.secret_name.as_deref().unwrap_or_default();
        if !secret.is_empty() {
            errors.invalid_each(&at.field("secretName"), secret, dns_subdomain(secret));
        }
    }
}

/// `validateHTTPIngressPath`.
fn http_path(path: &HTTPIngressPath, typed: bool, at: &At<'_>, errors: &mut Errors) {
    if !typed {
        errors.required(&at.field("pathType"), "pathType must be specified");
        return;
    }
    let text = path.path.as_deref().unwrap_or_default();
    let path_at = at.field("path");
    match path.path_type.as_str() {
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                errors.invalid(&path_at, text, "must be an absolute path");
            }
            for sequence in ["//", "/./", "/../", "%2f", "%2F"] {
                if text.contains(sequence) {
                    errors.invalid(&path_at, text, &format!("must not contain '{sequence}'"));
                }
            }
            for suffix in ["/..", "/."] {
                if text.ends_with(suffix) {
                    errors.invalid(&path_at, text, &format!("cannot end with '{suffix}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                errors.invalid(&path_at, text, "must be an absolute path");
            }
        }
        other => {
            let all = ["Exact", "ImplementationSpecific", "Prefix"];
            errors.not_supported(&at.field("pathType"), other, &all);
        }
    }
    backend(&path.backend, &at.field("backend"), errors);
}

/// `validateIngressBackend`.
fn backend(backend: &IngressBackend, at: &At<'_>, errors: &mut Errors) {
    match (&backend.resource, &backend.service) {
        (Some(_), Some(_)) => {
            errors.invalid(at, "", "cannot set both resource and service backends");
        }
        (Some(resource), None) => {
            let at = at.field("resource");
            if let Some(group) = &resource.api_group {
                errors.invalid_each(&at.field("apiGroup"), group, dns_subdomain(group));
            }
            for (field, value) in [("kind", &resource.kind), ("name", &resource.name)] {
                if value.is_empty() {
                    errors.required(&at.field(field), "");
                } else {
                    errors.invalid_each(&at.field(field), value, path_segment(value));
                }
            }
        }
        (None, Some(service)) => {
            let service_at = at.field("service");
            if service.name.is_empty() {
                errors.required(&service_at.field("name"), "");
            } else {
                let name = &service.name;
                errors.invalid_each(&service_at.field("name"), name, dns_label(name));
            }
            let port = service.port.clone().unwrap_or_default();
            let port_at = service_at.field("port");
            let name = port.name.as_deref().unwrap_or_default();
            match (name, port.number.unwrap_or(0)) {
                ("", 0) => errors.required(at, "port name or number is required"),
                ("", number) => {
                    errors.invalid_each(&port_at.field("number"), &number, port_number(number));
                }
                (name, 0) => errors.invalid_each(&port_at.field("name"), name, port_name(name)),
                _ => errors.invalid(at, "", "cannot set both port name & port number"),
            }
        }
        (None, None) => errors.invalid(at, "", "resource or service backend is required"),
    }
}

/// `ValidateNetworkPolicySpec`.
pub fn network_policy(object: &NetworkPolicy, at: &At<'_>, errors: &mut Errors) {
    let spec = object.spec.clone().unwrap_or_default();
    let at = at.field("spec");
    if let Some(selector) = &spec.pod_selector {
        label_selector(selector, &at.field("podSelector"), errors);
    }
    let ingress = at.field("ingress");
    for (i, rule) in spec.ingress.iter().flatten().enumerate() {
        let at = ingress.item(i);
        ports(
            rule.ports.as_deref().unwrap_or_default(),
            &at.field("ports"),
            errors,
        );
        peers(
            rule.from.as_deref().unwrap_or_default(),
            &at.field("from"),
            errors,
        );
    }
    let egress = at.field("egress");
    for (i, rule) in spec.egress.iter().flatten().enumerate() {
        let at = egress.item(i);
        ports(
            rule.ports.as_deref().unwrap_or_default(),
            &at.field("ports"),
            errors,
        );
        peers(
            rule.to.as_deref().unwrap_or_default(),
            &at.field("to"),
            errors,
        );
    }
    let types = spec.policy_types.as_deref().unwrap_or_default();
    let types_at = at.field("policyTypes");
    if types.len() > 2 {
        errors.invalid(
            &types_at,
            &json!(types),
            "may not specify more than two policyTypes",
        );
        return;
    }
    for (i, kind) in types.iter().enumerate() {
        if !matches!(kind.as_str(), "Ingress" | "Egress") {
            errors.not_supported(&types_at.item(i), kind, &["Ingress", "Egress"]);
        }
    }
}

/// `ValidateNetworkPolicyPort`.
fn ports(all: &[NetworkPolicyPort], at: &At<'_>, errors: &mut Errors) {
    for (i, port) in all.iter().enumerate() {
        let at = at.item(i);
        let protocol = port.protocol.as_deref().unwrap_or_default();
        let protocols = ["TCP", "UDP", "SCTP"];
        if !protocols.contains(&protocol) {
            errors.not_supported(&at.field("protocol"), protocol, &protocols);
        }
        let (port_at, end_at) = (at.field("port"), at.field("endPort"));
        match (&port.port, port.end_port) {
            (Some(IntOrString::Int(first)), end) => {
                errors.invalid_each(&port_at, first, port_number(*first));
                if let Some(end) = end {
                    if end < *first {
                        let detail = "must be greater than or equal to `port`";
                        errors.invalid(&end_at, first, detail);
                    }
                    errors.invalid_each(&end_at, &end, port_number(end));
                }
            }
            (Some(IntOrString::String(name)), end) => {
                if let Some(end) = end {
                    let detail = "may not be specified when `port` is non-numeric";
                    errors.invalid(&end_at, &end, detail);
                }
                errors.invalid_each(&port_at, name, port_name(name));
            }
            (None, Some(end)) => {
                let detail = "may not be specified when `port` is not specified";
                errors.invalid(&end_at, &end, detail);
            }
            (None, None) => {}
        }
    }
}

/// `ValidateNetworkPolicyPeer`.
fn peers(all: &[NetworkPolicyPeer], at: &At<'_>, errors: &mut Errors) {
    for (i, peer) in all.iter().enumerate() {
        let at = at.item(i);
        let selectors = [
            ("podSelector", &peer.pod_selector),
            ("namespaceSelector", &peer.namespace_selector),
        ];
        let mut count = usize::from(peer.ip_block.is_some());
        for (field, selector) in selectors {
            if let Some(selector) = selector {
                count += 1;
                label_selector(selector, &at.field(field), errors);
            }
        }
        if let Some(block) = &peer.ip_block {
            ip_block(block, &at.field("ipBlock"), errors);
            if count > 1 {
                errors.forbidden(&at, "may not specify both ipBlock and another peer");
            }
        }
        if count == 0 {
            errors.required(&at, "must specify a peer");
        }
    }
}

/// `ValidateIPBlock`.
fn ip_block(block: &IPBlock, at: &At<'_>, errors: &mut Errors) {
    if block.cidr.is_empty() {
        errors.required(&at.field("cidr"), "");
        return;
    }
    ip::network(&block.cidr, &at.field("cidr"), errors);
    let Some((ip, bits)) = ip::parse_network(&block.cidr) else {
        return;
    };
    let except = at.field("except");
    for (i, text) in block.except.iter().flatten().enumerate() {
        let at = except.item(i);
        ip::network(text, &at, errors);
        if let Some((inner, inner_bits)) = ip::parse_network(text) {
            let same = inner.is_ipv4() == ip.is_ipv4()
                && ip::first_address(inner, bits) == ip::first_address(ip, bits);
            if !same || bits >= inner_bits {
                errors.invalid(&at, text, "must be a strict subset of `cidr`");
            }
        }
    }
}
