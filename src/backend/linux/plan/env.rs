//! The environment of a container.
//!
//! `pkg/kubelet/kubelet_pods.go :: makeEnvironmentVariables`: Services of the namespace, then
//! `envFrom`, then `env` in order, where `$(NAME)` stands for what was set before.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::Value;

use super::{Planner, container_json};
use crate::api::Pod;
use crate::api::pod_status::PodIp;

fn text<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    let mut value = value;
    for key in path {
        value = value.get(key)?;
    }
    value.as_str()
}

/// A field of a pod by its path; the address is that which it gets.
pub fn field(row: &Pod, path: &str, ip: Option<PodIp>) -> Option<String> {
    let entry = |path: &str, prefix: &str| {
        let key = path.strip_prefix(prefix)?.strip_suffix("']")?;
        Some(key.to_owned())
    };
    let ip = ip.or(row.status.ip).map(|ip| ip.to_string());
    Some(match path {
        "metadata.name" => row.meta.name.to_string(),
        "metadata.namespace" => row.meta.namespace.to_string(),
        "metadata.uid" => row.meta.uid.to_string(),
        "spec.nodeName" => row.node_name.as_ref()?.to_string(),
        "spec.serviceAccountName" => row.spec.service_account.to_string(),
        "status.podIP" | "status.podIPs" => ip?,
        "status.hostIP" | "status.hostIPs" => Ipv4Addr::LOCALHOST.to_string(),
        "metadata.labels" => row
            .meta
            .labels
            .iter()
            .map(|(k, v)| format!("{k}={v:?}\n"))
            .collect(),
        "metadata.annotations" => row
            .meta
            .annotations
            .iter()
            .map(|(k, v)| format!("{k}={v:?}\n"))
            .collect(),
        other => {
            let label = entry(other, "metadata.labels['").map(|k| row.meta.labels.get(&k));
            let note = entry(other, "metadata.annotations['").map(|k| row.meta.annotations.get(&k));
            label.or(note)??.to_string()
        }
    })
}

/// Replaces `$(NAME)` by values; `$$` is a dollar sign, and what is not known stays as it is
/// (`third_party/forked/golang/expansion/expand.go :: Expand`).
pub fn expand(input: &str, known: &BTreeMap<String, String>) -> String {
    let mut output = String::new();
    let mut rest = input;
    while let Some(at) = rest.find('$') {
        output.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            output.push('$');
            rest = after;
        } else if let Some((name, after)) = rest
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            match known.get(name) {
                Some(value) => output.push_str(value),
                None => output.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            output.push('$');
        }
    }
    output + rest
}

impl Planner {
    /// The environment of a container.
    pub fn environment(&self, row: &Pod, index: u16, ip: PodIp) -> Vec<(String, String)> {
        let mut env = Environment::default();
        let links = row
            .spec
            .source
            .get("enableServiceLinks")
            .and_then(Value::as_bool);
        self.service_links(row, links.unwrap_or(true), &mut env);
        let json = container_json(&row.spec, index);
        let lists = |key: &str| {
            json.get(key)
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
        };
        for from in lists("envFrom") {
            let prefix = text(from, &["prefix"]).unwrap_or_default();
            let namespace = &row.meta.namespace;
            let map = text(from, &["configMapRef", "name"]);
            let secret = text(from, &["secretRef", "name"]);
            let entries = match (map, secret) {
                (Some(name), _) => self.config_entries(namespace, name),
                (None, Some(name)) => self.secret_entries(namespace, name),
                (None, None) => Vec::new(),
            };
            for (key, value) in entries {
                env.set(
                    format!("{prefix}{key}"),
                    String::from_utf8_lossy(&value).into_owned(),
                );
            }
        }
        for each in lists("env") {
            let Some(name) = text(each, &["name"]) else {
                continue;
            };
            let value = match text(each, &["value"]) {
                Some(value) => Some(expand(value, &env.known)),
                None => self.value_from(row, index, each, ip),
            };
            if let Some(value) = value {
                env.set(name.to_owned(), value);
            }
        }
        env.order
            .into_iter()
            .map(|name| {
                let value = env.known.remove(&name).unwrap_or_default();
                (name, value)
            })
            .collect()
    }

    fn value_from(&self, row: &Pod, index: u16, each: &Value, ip: PodIp) -> Option<String> {
        let Some(from) = each.get("valueFrom").filter(|from| !from.is_null()) else {
            return Some(String::new());
        };
        let namespace = &row.meta.namespace;
        let pick = |reference: &Value, entries: Vec<(crate::api::Text, Vec<u8>)>| {
            let key = text(reference, &["key"])?;
            let (_, value) = entries.into_iter().find(|(name, _)| **name == *key)?;
            Some(String::from_utf8_lossy(&value).into_owned())
        };
        if let Some(path) = text(from, &["fieldRef", "fieldPath"]) {
            return field(row, path, Some(ip));
        }
        if let Some(reference) = from.get("configMapKeyRef") {
            let name = text(reference, &["name"]).unwrap_or_default();
            return pick(reference, self.config_entries(namespace, name));
        }
        if let Some(reference) = from.get("secretKeyRef") {
            let name = text(reference, &["name"]).unwrap_or_default();
            return pick(reference, self.secret_entries(namespace, name));
        }
        let resource = text(from, &["resourceFieldRef", "resource"])?;
        let container = crate::kubelet::runtime::container_of(&row.spec, index)?;
        // Whole cores, rounded up, and bytes: the default divisor is 1.
        let cores = |milli: i64| ((milli + 999) / 1000).to_string();
        Some(match resource {
            "limits.cpu" => cores(container.limits.cpu_milli),
            "requests.cpu" => cores(container.requests.cpu_milli),
            "limits.memory" => container.limits.memory.to_string(),
            "requests.memory" => container.requests.memory.to_string(),
            _ => return None,
        })
    }

    /// `pkg/kubelet/envvars/envvars.go :: FromServices`.
    fn service_links(&self, row: &Pod, all: bool, env: &mut Environment) {
        for ((namespace, name), service) in &self.services {
            let kubernetes = &**namespace == "default" && &**name == "kubernetes";
            let own = all && *namespace == row.meta.namespace;
            let Some(ip) = service.cluster_ip.filter(|_| own || kubernetes) else {
                continue;
            };
            let Some(first) = service.ports.first() else {
                continue;
            };
            let upper = |text: &str| text.to_uppercase().replace('-', "_");
            let prefix = upper(name);
            env.set(
                format!("{prefix}_SERVICE_HOST"),
                Ipv4Addr::from(ip).to_string(),
            );
            env.set(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
            for port in service.ports.iter().filter(|p| !p.name.is_empty()) {
                let name = format!("{prefix}_SERVICE_PORT_{}", upper(&port.name));
                env.set(name, port.port.to_string());
            }
        }
    }
}

/// Variables in the order of their first setting.
#[derive(Default)]
struct Environment {
    known: BTreeMap<String, String>,
    order: Vec<String>,
}

impl Environment {
    fn set(&mut self, name: String, value: String) {
        if self.known.insert(name.clone(), value).is_none() {
            self.order.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_as_upstream_does() {
        let known: BTreeMap<String, String> =
            [("A".to_owned(), "1".to_owned())].into_iter().collect();
        let table = [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$(B)", "$(B)"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("$", "$"),
        ];
        for (input, expected) in table {
            assert_eq!(expand(input, &known), expected);
        }
    }
}
