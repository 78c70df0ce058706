//! `externalTargets` of a NetworkChaos: the other end of its links by address or name.
//!
//! Chaos Mesh means what lies outside of the cluster, and takes networks, addresses and names
//! (`controllers/podnetworkchaos/netutils/cidr.go :: ResolveCidr`). Nothing lies outside of a
//! cluster here, so that a target must be something in it: a Service or pod by its DNS name, an
//! address of pods or Services. Whether it is there can only be checked when everything is read.

use std::net::Ipv4Addr;

use crate::api::{Row, Text};
use crate::fault::{External, ExternalEnd};
use crate::kubelet::KubeletConfig;
use crate::scenario::diagnostic::Diagnostic;
use crate::scenario::fields::{Fields, Problems, Value};

/// What pods' addresses have in common with the first one: they lie below those of Services.
const POD_BITS: u8 = 10;

/// Reads all of them.
pub fn externals(spec: &Fields<'_>, problems: &mut Problems) -> Option<Vec<External>> {
    let items = spec.list("externalTargets", problems);
    items.iter().map(|item| external(item, problems)).collect()
}

fn external(value: &Value<'_>, problems: &mut Problems) -> Option<External> {
    let text = value.text(problems)?;
    if let Some((host, port)) = text.rsplit_once(':')
        && !host.contains(':')
    {
        let message = format!("ports of externalTargets ({port}) are not modelled");
        let refused = Diagnostic::error("NotModelled", message, value.span());
        let hint = format!("write {host:?}: what is sent to any port of it is meant then");
        problems.push(refused.at(value.path.as_str()).hint(hint));
        return None;
    }
    let end = match network(&text) {
        Some(Some(end)) => end,
        Some(None) => {
            problems.push(value.invalid("must be an IPv4 address or network"));
            return None;
        }
        None => match name(&text) {
            Some(end) => end,
            None => {
                problems.push(nowhere(&text, value.span(), &value.path));
                return None;
            }
        },
    };
    Some(External {
        written: text,
        span: value.span(),
        path: value.path.clone(),
        end,
    })
}

/// An address or a network; `Some(None)` for what looks like one and is none.
fn network(text: &str) -> Option<Option<ExternalEnd>> {
    let (ip, bits) = text.split_once('/').unwrap_or((text, "32"));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if text.contains(':') || (digits(ip) && !ip.is_empty()) || text.contains('/') {
        let ip = ip.parse::<Ipv4Addr>().ok();
        let bits = bits.parse::<u8>().ok().filter(|bits| *bits <= 32);
        return Some(ip.zip(bits).map(|(ip, bits)| ExternalEnd::Network {
            ip: u32::from(ip),
            bits,
        }));
    }
    None
}

/// `SERVICE.NAMESPACE[.svc[.cluster.local]]`, or a pod's name before that.
fn name(text: &str) -> Option<ExternalEnd> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let (inner, long) = match text.strip_suffix(".svc.cluster.local") {
        Some(inner) => (inner, true),
        None => match text.strip_suffix(".svc") {
            Some(inner) => (inner, true),
            None => (text, false),
        },
    };
    let parts: Vec<&str> = inner.split('.').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return None;
    }
    match parts[..] {
        [service, namespace] => Some(ExternalEnd::Service {
            namespace: Text::from(namespace),
            name: Text::from(service),
        }),
        [pod, service, namespace] if long => Some(ExternalEnd::Pod {
            namespace: Text::from(namespace),
            service: Text::from(service),
            name: Text::from(pod),
        }),
        _ => None,
    }
}

/// Why a target is nothing in this cluster, if it is not: `services` are all that there are or
/// will be.
pub fn missing<'r>(
    external: &External,
    mut services: impl Iterator<Item = &'r Row>,
) -> Option<Diagnostic> {
    let found = match &external.end {
        ExternalEnd::Service { namespace, name }
        | ExternalEnd::Pod {
            namespace,
            service: name,
            ..
        } => services.any(|row| row.meta().namespace == *namespace && row.meta().name == *name),
        ExternalEnd::Network { ip, bits } => {
            let first = KubeletConfig::default().pod_network;
            let overlap = |other, bits: u8| (ip ^ other) & ExternalEnd::mask(bits) == 0;
            overlap(first, POD_BITS.min(*bits))
                || services.any(|row| match row {
                    Row::Service(s) => s.cluster_ip.is_some_and(|ip| external.end.covers(ip)),
                    _ => false,
                })
        }
    };
    (!found).then(|| nowhere(&external.written, external.span, &external.path))
}

fn nowhere(text: &str, span: crate::api::yaml::Span, path: &str) -> Diagnostic {
    let pods = Ipv4Addr::from(KubeletConfig::default().pod_network);
    let message = format!("{text:?} is nothing in this cluster, and nothing lies outside of it");
    Diagnostic::error("NotModelled", message, span)
        .at(path)
        .cause(format!(
            "known are Services and their pods by name (web.shop.svc.cluster.local), clusterIPs \
             that Services ask for, and addresses of pods ({pods}/{POD_BITS})"
        ))
        .hint("let pods and a Service stand in for what is outside, and name that Service")
}
