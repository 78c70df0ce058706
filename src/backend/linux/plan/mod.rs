//! From API objects to what the cell is told: which limits, files, environment and program a pod
//! and its containers have.
//!
//! This is what a kubelet's container manager and volume manager compute
//! (`pkg/kubelet/cm`, `pkg/kubelet/kubelet_pods.go`), as data. What cannot be had on a host is
//! remembered in [`Planner::lost`], and told in the run's header.
//!
//! Read first: [`Planner`], then [`container`], [`mod@env`], [`volumes`] and [`workload`].

pub mod container;
pub mod env;
pub mod images;
pub mod taken;
pub mod volumes;
pub mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use self::images::Images;
use super::cgroup::{quota, shares};
use super::protocol::{self, Limits, NodeSpec, Qos, Rights};
use super::users::Users;
use crate::api::config::{ConfigMap, Secret};
use crate::api::container::Container;
use crate::api::pod_status::PodIp;
use crate::api::{Node, Pod, PodSpec, Row, Service, Text};
use crate::kubelet::QosClass;
use crate::store::{Change, Id, Op};

/// Namespace and name.
pub type Name = (Text, Text);

/// The address of the resolver that pods are told.
pub const DNS_ADDRESS: &str = "10.96.0.10";

/// What plans are made from.
#[derive(Debug)]
pub struct Planner {
    /// The run's seed.
    pub seed: u64,
    /// What part of a core's time a core of the scenario has, in thousandths.
    pub cpu_permille: u32,
    /// Where logs go; none keeps no logs.
    pub logs: Option<PathBuf>,
    /// What image names stand for.
    pub images: Images,
    nodes: BTreeMap<Text, Arc<Node>>,
    pub(super) config_maps: BTreeMap<Name, Arc<ConfigMap>>,
    pub(super) secrets: BTreeMap<Name, Arc<Secret>>,
    pub(super) services: BTreeMap<Name, Arc<Service>>,
    /// Which kinds of clients make the calls of a model, by its namespace and name.
    pub(super) senders: BTreeMap<Name, Arc<[u32]>>,
    /// Rows of pods with a sandbox.
    pub(super) pods: BTreeMap<u32, (Text, Arc<Pod>)>,
    /// Whom containers can run as; none for everybody.
    pub users: Option<Users>,
    /// What was asked for and cannot be had.
    pub lost: BTreeSet<String>,
}

/// Keeps or forgets an object.
fn keep<T: crate::api::row::Object>(
    table: &mut BTreeMap<Name, Arc<T>>,
    row: &Arc<T>,
    deleted: bool,
) {
    let name = (row.meta().namespace.clone(), row.meta().name.clone());
    match deleted {
        true => table.remove(&name),
        false => table.insert(name, row.clone()),
    };
}

impl Planner {
    /// A planner that knows no objects yet.
    pub fn new(seed: u64, cpu_permille: u32, logs: Option<PathBuf>, images: Images) -> Planner {
        Planner {
            seed,
            cpu_permille,
            logs,
            images,
            nodes: BTreeMap::new(),
            config_maps: BTreeMap::new(),
            secrets: BTreeMap::new(),
            services: BTreeMap::new(),
            senders: BTreeMap::new(),
            pods: BTreeMap::new(),
            users: None,
            lost: BTreeSet::new(),
        }
    }

    /// Takes in a changed object; a node that is new is to be made, files of pods replaced.
    pub fn learn(&mut self, change: &Change) -> Vec<protocol::Command> {
        let deleted = change.op == Op::Delete;
        match &change.new {
            Some(Row::Node(row)) => {
                let known = self.nodes.insert(row.meta.name.clone(), row.clone());
                if known.is_none() && !deleted {
                    return vec![protocol::Command::Node(self.node(row))];
                }
            }
            Some(Row::ConfigMap(row)) => {
                keep(&mut self.config_maps, row, deleted);
                return self.refresh(&row.meta.namespace);
            }
            Some(Row::Secret(row)) => {
                keep(&mut self.secrets, row, deleted);
                return self.refresh(&row.meta.namespace);
            }
            Some(Row::Service(row)) => keep(&mut self.services, row, deleted),
            _ => {}
        }
        Vec::new()
    }

    /// Files of the pods of a namespace that a ConfigMap or Secret may have changed. (A kubelet
    /// takes up to a minute for this; here it is at once.)
    fn refresh(&mut self, namespace: &str) -> Vec<protocol::Command> {
        let pods: Vec<(u32, Arc<Pod>)> = (self.pods.iter())
            .filter(|(_, (_, row))| *row.meta.namespace == *namespace)
            .filter(|(_, (_, row))| volumes::has_config(&row.spec))
            .map(|(number, (_, row))| (*number, row.clone()))
            .collect();
        pods.into_iter()
            .map(|(number, row)| protocol::Command::Files(number, self.volume_files(&row)))
            .collect()
    }

    fn node(&self, row: &Node) -> NodeSpec {
        let memory = |bytes: i64| u64::try_from(bytes).ok().filter(|b| *b > 0);
        let (capacity, allocatable) = (&row.status.capacity, &row.status.allocatable);
        NodeSpec {
            name: row.meta.name.to_string(),
            machine: Limits {
                quota_us: quota(capacity.cpu_milli, self.cpu_permille),
                memory: memory(capacity.memory),
                ..Limits::default()
            },
            pods: Limits {
                shares: Some(shares(allocatable.cpu_milli)),
                memory: memory(allocatable.memory),
                ..Limits::default()
            },
            memory: memory(capacity.memory).unwrap_or(0),
        }
    }

    /// The quota of a node's machine: none inside it may be larger (v1 refuses it).
    fn machine_quota(&self, node: &str) -> u64 {
        let capacity = self.nodes.get(node).map(|n| n.status.capacity.cpu_milli);
        capacity
            .and_then(|milli| quota(milli, self.cpu_permille))
            .unwrap_or(u64::MAX)
    }

    fn quota(&self, node: &str, milli: i64) -> Option<u64> {
        Some(quota(milli, self.cpu_permille)?.min(self.machine_quota(node)))
    }

    /// A pod's sandbox.
    pub fn sandbox(
        &mut self,
        node: &Text,
        pod: Id<Pod>,
        attempt: u8,
        row: &Arc<Pod>,
        ip: PodIp,
    ) -> protocol::PodSpec {
        self.pods.insert(pod.0, (node.clone(), row.clone()));
        let spec = &row.spec;
        let qos = match QosClass::of(spec) {
            QosClass::Guaranteed => Qos::Guaranteed,
            QosClass::Burstable => Qos::Burstable,
            QosClass::BestEffort => Qos::BestEffort,
        };
        let hostname = hostname(node, row);
        let mut files = self.volume_files(row);
        files.extend(own_files(row, &hostname, ip));
        if spec.share_process_namespace {
            let lost = "shareProcessNamespace: containers have PID namespaces of their own";
            self.lost.insert(lost.to_owned());
        }
        protocol::PodSpec {
            pod: pod.0,
            attempt,
            node: node.to_string(),
            uid: row.meta.uid.to_string(),
            qos,
            limits: self.pod_limits(node, spec),
            ip: ip.0,
            host_network: spec.host_network,
            hostname,
            files,
            empty_dirs: volumes::own_folders(spec, &mut self.lost),
        }
    }

    /// `pkg/kubelet/cm/helpers_linux.go :: ResourceConfigForPod`.
    fn pod_limits(&self, node: &str, spec: &PodSpec) -> Limits {
        let all = |of: fn(&Container) -> i64| {
            let each: Vec<i64> = spec.containers.iter().map(of).collect();
            let init = spec.init_containers.iter().map(of);
            let limited = each.iter().all(|v| *v > 0) && init.clone().all(|v| v > 0);
            let sidecars: i64 = (spec.init_containers.iter())
                .filter(|c| c.restart_always)
                .map(of)
                .sum();
            let most = init.max().unwrap_or(0);
            limited.then(|| (each.iter().sum::<i64>() + sidecars).max(most))
        };
        let requests = spec.requests.cpu_milli;
        Limits {
            shares: Some(shares(requests)),
            quota_us: all(|c| c.limits.cpu_milli).and_then(|milli| self.quota(node, milli)),
            memory: all(|c| c.limits.memory).and_then(|bytes| u64::try_from(bytes).ok()),
            pids: None,
        }
    }

    /// Lets a container run as somebody who is there. (A run in a user namespace says whom it does
    /// not have.)
    fn settle(&self, rights: &mut Rights) {
        let Some(users) = &self.users else {
            return;
        };
        rights
            .groups
            .retain(|group| users.has(0, *group) && *group != 0);
        if !users.has(rights.user.0, rights.user.1) {
            // Somebody without rights was asked for.
            rights.capabilities = 0;
            rights.user = (0, 0);
        }
    }

    /// Numbers of the pods with a sandbox on a node.
    pub fn pods_on(&self, node: &str) -> Vec<u32> {
        let pods = self.pods.iter().filter(|(_, (on, _))| **on == *node);
        pods.map(|(number, _)| *number).collect()
    }

    /// The pod is gone.
    pub fn forget(&mut self, pod: Id<Pod>) {
        self.pods.remove(&pod.0);
    }
}

/// A pod's host name.
fn hostname(node: &str, row: &Pod) -> String {
    let spec = &row.spec;
    match (spec.host_network, spec.hostname.is_empty()) {
        (true, _) => node.to_owned(),
        (false, false) => spec.hostname.to_string(),
        // Host names are at most 63 characters long.
        (false, true) => row.meta.name.chars().take(63).collect(),
    }
}

/// `pkg/kubelet/kubelet_pods.go :: managedHostsFileContent`, and the pod's resolver.
fn own_files(row: &Pod, hostname: &str, ip: PodIp) -> Vec<protocol::File> {
    let namespace = &row.meta.namespace;
    let domain = crate::net::dns::CLUSTER_DOMAIN;
    let mut hosts =
        format!("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n{ip}\t{hostname}\n");
    let aliases = row.spec.source.get("hostAliases").and_then(Value::as_array);
    for alias in aliases.into_iter().flatten() {
        let names = alias.get("hostnames").and_then(Value::as_array);
        let names = names.into_iter().flatten().filter_map(Value::as_str);
        let names: Vec<&str> = names.collect();
        let ip = alias.get("ip").and_then(Value::as_str).unwrap_or_default();
        hosts.push_str(&format!("{ip}\t{}\n", names.join("\t")));
    }
    let resolver = format!(
        "search {namespace}.svc.{domain} svc.{domain} {domain}\nnameserver {DNS_ADDRESS}\n\
         options ndots:5\n"
    );
    let file = |name: &str, content: String| protocol::File {
        path: format!("etc/{name}"),
        content: content.into_bytes(),
        mode: 0o644,
    };
    vec![
        file("hosts", hosts),
        file("hostname", format!("{hostname}\n")),
        file("resolv.conf", resolver),
    ]
}

/// The JSON of the container at `index` of a spec.
pub fn container_json(spec: &PodSpec, index: u16) -> &Value {
    let index = usize::from(index);
    let (list, at) = match index.checked_sub(spec.init_containers.len()) {
        Some(main) => ("containers", main),
        None => ("initContainers", index),
    };
    let found = spec.source.get(list).and_then(|list| list.get(at));
    found.unwrap_or(&Value::Null)
}
