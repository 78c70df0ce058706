//! A container: program, environment, mounts, limits and rights.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::images::Image;
use super::{Planner, container_json, taken, volumes};
use crate::api::pod_status::PodIp;
use crate::api::probe::Action;
use crate::api::{Pod, Text};
use crate::backend::linux::cell::rights::{DEFAULT_CAPABILITIES, NAMES};
use crate::backend::linux::cgroup::{oom_score_adj, shares};
use crate::backend::linux::protocol::{Ask, ContainerSpec, Limits, Program, Purpose, Rights, Way};
use crate::kubelet::QosClass;
use crate::kubelet::runtime::{ContainerId, container_of};
use crate::load::AppModel;

/// How long a hook may take before its process is killed: longer than any grace period in use.
/// Why a probe of a real image is refused.
const HTTPS: &str = "scheme HTTPS: TLS is not spoken here; ask without it (httpGet with scheme \
                     HTTP, tcpSocket, exec), or use --backend sim";
const HOOK_LIMIT: Duration = Duration::from_secs(3600);

impl Planner {
    /// What the cell starts for a container.
    pub fn container(
        &mut self,
        node: &Text,
        id: ContainerId,
        row: &Arc<Pod>,
        ip: PodIp,
        model: &AppModel,
        idle: bool,
    ) -> Result<ContainerSpec, String> {
        let spec = &row.spec;
        let container = container_of(spec, id.index).ok_or("no such container")?;
        let json = container_json(spec, id.index);
        let own = self.environment(row, id.index, ip);
        let image = match idle {
            true => Image::BuiltIn,
            false => self.images.get(&container.image),
        };
        let mut rights = rights(&row.spec.source, json, &mut self.lost);
        let mut signal = stop_signal(&container.stop_signal);
        let (program, env) = match image {
            Image::BuiltIn => {
                rights.capabilities = 0;
                let workload = self.workload(id, row, model, idle);
                (Program::BuiltIn(Box::new(workload)), own)
            }
            Image::Root(root, taken) => {
                let home = taken::user(&taken, &row.spec.source, json, &mut rights)?;
                if container.stop_signal.is_empty() {
                    signal = stop_signal(&taken.config.stop_signal);
                }
                let program = taken::program(root, &taken.config, json, &own)?;
                let hostname = super::hostname(node, row);
                (
                    program,
                    taken::environment(&taken.config, &hostname, &home, own),
                )
            }
        };
        self.settle(&mut rights);
        let class = QosClass::of(spec);
        let capacity = self.nodes.get(node).map_or(0, |n| n.status.capacity.memory);
        let request = match class {
            QosClass::BestEffort => 0,
            _ => container.requests.memory.max(1),
        };
        let capacity = u64::try_from(capacity).unwrap_or(0);
        let positive = |bytes: i64| u64::try_from(bytes).ok().filter(|b| *b > 0);
        let written = volumes::written(spec);
        Ok(ContainerSpec {
            id,
            name: format!("{}/{}", row.meta.full_name(), container.name),
            limits: Limits {
                shares: Some(shares(container.requests.cpu_milli)),
                quota_us: self.quota(node, container.limits.cpu_milli),
                memory: positive(container.limits.memory),
                pids: None,
            },
            oom_score_adj: oom_score_adj(class == QosClass::Guaranteed, request, capacity),
            program,
            env,
            mounts: volumes::mounts(json, &written, &mut self.lost),
            writable: positive(container.limits.ephemeral),
            rights,
            stop_signal: signal,
            log: self.log(row, &container.name, id.attempt),
        })
    }

    fn log(&self, row: &Pod, container: &str, attempt: u16) -> Option<String> {
        let folder = self.logs.as_ref()?;
        let (namespace, name) = (&row.meta.namespace, &row.meta.name);
        let file = format!("{namespace}_{name}_{container}_{attempt}.log");
        Some(folder.join(file).to_str()?.to_owned())
    }

    /// How a container is asked: one at this address, which runs the built-in server or not.
    pub fn ask(
        &self,
        container: ContainerId,
        purpose: Purpose,
        action: &Action,
        headers: Vec<(String, String)>,
        timeout: Option<Duration>,
        (ip, built_in): (PodIp, bool),
    ) -> Ask {
        let way = match action {
            Action::Exec(argv) => Way::Exec(argv.iter().map(Text::to_string).collect()),
            // The built-in server speaks no TLS: what stands for a server that does is asked without.
            Action::HttpGet { https: true, .. } if !built_in => Way::Unsupported(HTTPS.to_owned()),
            Action::HttpGet {
                path, port, host, ..
            } => {
                let address = host.parse::<std::net::Ipv4Addr>().map(u32::from);
                let to = (address.unwrap_or(ip.0), *port);
                let named = headers
                    .iter()
                    .find(|(name, _)| name.eq_ignore_ascii_case("host"));
                let host = match named {
                    Some((_, value)) => value.clone(),
                    None => format!("{}:{port}", std::net::Ipv4Addr::from(to.0)),
                };
                let others = |name: &str| !name.eq_ignore_ascii_case("host");
                Way::Http {
                    to,
                    host,
                    path: path.to_string(),
                    headers: headers.into_iter().filter(|(n, _)| others(n)).collect(),
                }
            }
            Action::Grpc { port, service } => Way::Grpc {
                to: (ip.0, *port),
                service: service.to_string(),
            },
            Action::TcpSocket { port } => Way::Tcp { to: (ip.0, *port) },
            Action::Sleep(_) => Way::Unsupported("sleep".to_owned()),
        };
        Ask {
            container,
            purpose,
            way,
            timeout: timeout.unwrap_or(HOOK_LIMIT),
        }
    }
}

/// `httpHeaders` of a probe or hook.
pub fn headers(action: &Value) -> Vec<(String, String)> {
    let list = action.get("httpGet").and_then(|get| get.get("httpHeaders"));
    let list = list.and_then(Value::as_array).into_iter().flatten();
    let text = |header: &Value, key: &str| header.get(key).and_then(Value::as_str).map(clean);
    list.filter_map(|header| Some((text(header, "name")?, text(header, "value")?)))
        .collect()
}

/// A header cannot hold line ends.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// `securityContext` of pod and container.
fn rights(pod: &Value, container: &Value, lost: &mut std::collections::BTreeSet<String>) -> Rights {
    let contexts = [container.get("securityContext"), pod.get("securityContext")];
    let number = |key: &str| {
        let found = contexts.iter().flatten().find_map(|c| c.get(key)?.as_u64());
        found.and_then(|n| u32::try_from(n).ok())
    };
    let own = contexts[0];
    let flag = |key: &str| own.and_then(|c| c.get(key)?.as_bool()).unwrap_or(false);
    // What is not said here is the image's to say (`taken`).
    let user = number("runAsUser").unwrap_or(0);
    let group = number("runAsGroup").unwrap_or(0);
    let mut groups = Vec::new();
    if let Some(context) = contexts[1] {
        let more = context.get("supplementalGroups").and_then(Value::as_array);
        let more = more.into_iter().flatten().filter_map(Value::as_u64);
        groups.extend(more.filter_map(|n| u32::try_from(n).ok()));
        let of_files = context.get("fsGroup").and_then(Value::as_u64);
        groups.extend(of_files.and_then(|n| u32::try_from(n).ok()));
        if of_files.is_some() {
            lost.insert("fsGroup: volumes keep their owner".to_owned());
        }
    }
    Rights {
        user: (user, group),
        groups,
        capabilities: capabilities(own, flag("privileged")),
        read_only: flag("readOnlyRootFilesystem"),
        privileged: flag("privileged"),
        escalation: flag("allowPrivilegeEscalation"),
    }
}

fn capabilities(context: Option<&Value>, privileged: bool) -> u64 {
    if privileged {
        return (1 << NAMES.len()) - 1;
    }
    let named = |key: &str| {
        let list = context.and_then(|c| c.get("capabilities")?.get(key)?.as_array());
        let names = list.into_iter().flatten().filter_map(Value::as_str);
        names.fold(0u64, |set, name| {
            let name = name.to_uppercase();
            let name = name.strip_prefix("CAP_").unwrap_or(&name);
            match name {
                "ALL" => (1 << NAMES.len()) - 1,
                _ => NAMES
                    .iter()
                    .position(|n| *n == name)
                    .map_or(set, |n| set | 1 << n),
            }
        })
    };
    DEFAULT_CAPABILITIES & !named("drop") | named("add")
}

/// The number of a stop signal.
fn stop_signal(name: &str) -> i32 {
    use nix::sys::signal::Signal;
    // Images may name a signal by its number, or without SIG.
    let by_number = name.parse::<i32>().ok();
    let by_number = by_number.and_then(|number| Signal::try_from(number).ok());
    let by_name = || name.parse().or_else(|_| format!("SIG{name}").parse()).ok();
    by_number.or_else(by_name).unwrap_or(Signal::SIGTERM) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn capabilities_are_added_to_and_dropped_from_the_default_set() {
        let bit = |name: &str| 1u64 << NAMES.iter().position(|n| *n == name).expect("a name");
        let all = (1u64 << NAMES.len()) - 1;
        let table = [
            (json!({}), DEFAULT_CAPABILITIES),
            (json!({"capabilities": {"drop": ["ALL"]}}), 0),
            (
                json!({"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}),
                bit("NET_BIND_SERVICE"),
            ),
            (
                json!({"capabilities": {"add": ["CAP_SYS_TIME"], "drop": ["CHOWN"]}}),
                DEFAULT_CAPABILITIES & !bit("CHOWN") | bit("SYS_TIME"),
            ),
        ];
        for (context, expected) in table {
            assert_eq!(capabilities(Some(&context), false), expected, "{context}");
        }
        assert_eq!(capabilities(None, true), all);
    }

    #[test]
    fn stop_signals_are_names() {
        for (name, number) in [
            ("", 15),
            ("SIGTERM", 15),
            ("SIGINT", 2),
            ("SIGUSR1", 10),
            ("QUIT", 3),
            ("3", 3),
        ] {
            assert_eq!(stop_signal(name), number, "{name}");
        }
    }
}
