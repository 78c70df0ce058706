//! Whom a fault hits: candidates in a view, and the draw among them.
//!
//! Every candidate gets a number from (fault's name, candidate's name) and the smallest numbers
//! win, so that another candidate more or less changes the choice only by being chosen itself.

use super::effect::{Ends, PodKey, Targets};
use super::model::{
    Action, External, ExternalEnd, Fault, Mode, Peers, Place, Selector, WorkloadRef,
};
use crate::api::meta::OwnerRef;
use crate::api::selector::LabelSelector;
use crate::api::{Kind, Labels, Node, Pod, Text};
use crate::engine::draws::{Draws, Purpose, entity_key};
use crate::store::View;

const PICK: Purpose = Purpose::new("chaos/pick");
const COUNT: Purpose = Purpose::new("chaos/count");
/// The other end of a NetworkChaos draws for itself.
const PEER: Purpose = Purpose::new("chaos/peer");
const PEER_COUNT: Purpose = Purpose::new("chaos/peer-count");

impl Fault {
    /// Chooses the targets in `view`, as it is when the fault begins.
    pub fn select(&self, view: &View, draws: &Draws) -> Targets {
        match &self.action {
            Action::PowerOff
            | Action::Shutdown
            | Action::Reboot
            | Action::KubeletStop
            | Action::Freeze
            | Action::NodeStress(_)
            | Action::NodePartition { .. } => self.select_nodes(view, draws),
            Action::ControlPlane(action) => Targets {
                candidates: 1,
                components: vec![Text::literal(action.component().name())],
                ..Targets::default()
            },
            _ => self.select_pods(view, draws),
        }
    }

    fn select_nodes(&self, view: &View, draws: &Draws) -> Targets {
        let candidates: Vec<Text> = (view.nodes().iter())
            .filter(|(_, node)| self.selector.takes_node(node, view))
            .map(|(_, node)| node.meta.name.clone())
            .collect();
        let mut targets = Targets {
            candidates: candidates.len(),
            nodes: self.draw(draws, (PICK, COUNT), self.mode, candidates, |n| {
                ["", n.as_str()]
            }),
            ..Targets::default()
        };
        if let Action::NodePartition { from, to } = &self.action {
            targets.from = resolve(from, &targets.nodes, view);
            targets.to = resolve(to, &targets.nodes, view);
        }
        targets
    }

    fn select_pods(&self, view: &View, draws: &Draws) -> Targets {
        let candidates = self.selector.pods(view);
        let count = candidates.len();
        let pods = self.draw(draws, (PICK, COUNT), self.mode, candidates, pod_parts);
        let peers = match &self.action {
            Action::Network { peers, .. } => self.select_peers(peers, view, draws),
            _ => None,
        };
        Targets {
            candidates: count,
            containers: pods.iter().map(|pod| self.containers(view, pod)).collect(),
            pods,
            peers,
            ..Targets::default()
        }
    }

    /// The other end of a NetworkChaos; none for anybody.
    fn select_peers(&self, peers: &Peers, view: &View, draws: &Draws) -> Option<Vec<PodKey>> {
        let everybody = |e: &External| matches!(e.end, ExternalEnd::Network { bits: 0, .. });
        if peers.external.iter().any(everybody) {
            return None;
        }
        let mut found = match &peers.target {
            Some((selector, mode)) => {
                let found = selector.pods(view);
                self.draw(draws, (PEER, PEER_COUNT), *mode, found, pod_parts)
            }
            None if peers.external.is_empty() => return None,
            None => Vec::new(),
        };
        if peers.external.is_empty() {
            return Some(found);
        }
        for (_, pod) in view.pods().iter() {
            if peers.external.iter().any(|e| stands_for(&e.end, pod, view)) {
                found.push(key_of(pod));
            }
        }
        found.sort();
        found.dedup();
        Some(found)
    }

    /// The containers of a pod that are hit.
    fn containers(&self, view: &View, pod: &PodKey) -> Vec<Text> {
        let Some((_, row)) = view.pods().named(&pod.namespace, &pod.name) else {
            return Vec::new();
        };
        let names = row.spec.containers.iter().map(|c| c.name.clone());
        match &self.action {
            Action::ContainerKill { containers } if !containers.is_empty() => {
                names.filter(|name| containers.contains(name)).collect()
            }
            Action::ContainerKill { .. } | Action::PodFailure => names.collect(),
            Action::Stress { containers, .. } if containers.is_empty() => names.take(1).collect(),
            Action::Stress { containers, .. } => {
                names.filter(|name| containers.contains(name)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn draw<T>(
        &self,
        draws: &Draws,
        (pick, count): (Purpose, Purpose),
        mode: Mode,
        candidates: Vec<T>,
        parts: impl Fn(&T) -> [&str; 2],
    ) -> Vec<T> {
        let share = draws.u64(count, entity_key(&[&self.name]), 0) >> 32;
        let count = mode.count(candidates.len(), share);
        if count == candidates.len() {
            return candidates;
        }
        let mut numbered: Vec<(u64, usize)> = (candidates.iter().enumerate())
            .map(|(at, candidate)| {
                let [namespace, name] = parts(candidate);
                let entity = entity_key(&[&self.name, namespace, name]);
                (draws.u64(pick, entity, 0), at)
            })
            .collect();
        numbered.sort_unstable();
        numbered.truncate(count);
        let mut chosen: Vec<usize> = numbered.into_iter().map(|(_, at)| at).collect();
        chosen.sort_unstable();
        let mut chosen = chosen.into_iter().peekable();
        (candidates.into_iter().enumerate())
            .filter_map(|(at, candidate)| chosen.next_if_eq(&at).map(|_| candidate))
            .collect()
    }
}

fn pod_parts(pod: &PodKey) -> [&str; 2] {
    [&pod.namespace, &pod.name]
}

fn key_of(pod: &Pod) -> PodKey {
    PodKey {
        namespace: pod.meta.namespace.clone(),
        name: pod.meta.name.clone(),
        uid: pod.meta.uid,
    }
}

/// Whether what is sent to an address or name may reach this pod.
fn stands_for(end: &ExternalEnd, pod: &Pod, view: &View) -> bool {
    let behind = |namespace: &Text, name: &Text| {
        let kind = Text::literal("Service");
        let (namespace, name) = (namespace.clone(), name.clone());
        let service = WorkloadRef {
            kind,
            namespace,
            name,
        };
        belongs(pod, &service, view)
    };
    match end {
        ExternalEnd::Service { namespace, name } => behind(namespace, name),
        ExternalEnd::Pod {
            namespace,
            service,
            name,
        } => pod.meta.name == *name && behind(namespace, service),
        ExternalEnd::Network { .. } => {
            let own = pod.status.ip.filter(|_| !pod.spec.host_network);
            own.is_some_and(|ip| end.covers(ip.0))
                || (view.of::<crate::api::Service>().iter()).any(|(_, service)| {
                    service.cluster_ip.is_some_and(|ip| end.covers(ip))
                        && behind(&service.meta.namespace, &service.meta.name)
                })
        }
    }
}

/// The members of these places, the selected nodes left out.
fn resolve(places: &[Place], selected: &[Text], view: &View) -> Ends {
    let mut ends = Ends::default();
    let mut nodes = Vec::new();
    for place in places {
        let mut add = |takes: &dyn Fn(&Node) -> bool| {
            let found = view.nodes().iter().filter(|(_, node)| takes(node));
            nodes.extend(found.map(|(id, node)| (id, node.meta.name.clone())));
        };
        match place {
            Place::Others => {
                ends.control_plane = true;
                ends.edge = true;
                add(&|_| true);
            }
            Place::ControlPlane => ends.control_plane = true,
            Place::Edge => ends.edge = true,
            Place::Zone(zone) => add(&|node| zone == node.zone()),
            Place::Pool(pool) => add(&|node| in_pool(&node.meta.name, pool)),
            Place::Node(name) => add(&|node| node.meta.name == *name),
        }
    }
    nodes.sort();
    nodes.dedup();
    nodes.retain(|(_, name)| !selected.contains(name));
    ends.nodes = nodes.into_iter().map(|(_, name)| name).collect();
    ends
}

/// Whether `<pool>-<number>` is this node's name.
fn in_pool(node: &str, pool: &str) -> bool {
    node.strip_prefix(pool)
        .and_then(|rest| rest.strip_prefix('-'))
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

impl Selector {
    fn takes_node(&self, node: &Node, view: &View) -> bool {
        let name = &node.meta.name;
        (self.names.is_empty() || self.names.contains(name))
            && (self.zones.is_empty() || self.zones.iter().any(|zone| zone == node.zone()))
            && (self.pools.is_empty() || self.pools.iter().any(|pool| in_pool(name, pool)))
            && self.node_labels.matches(&node.meta.labels)
            && self.pods_of.as_ref().is_none_or(|workload| {
                (view.pods().on_node(name))
                    .any(|(_, pod)| !pod.status.phase.terminal() && belongs(pod, workload, view))
            })
    }

    /// The pods that every condition takes, in order of creation.
    pub fn pods(&self, view: &View) -> Vec<PodKey> {
        (view.pods().iter())
            .filter(|(_, pod)| self.takes_pod(pod, view))
            .map(|(_, pod)| key_of(pod))
            .collect()
    }

    fn takes_pod(&self, pod: &Pod, view: &View) -> bool {
        let meta = &pod.meta;
        let phase = pod.status.phase.name();
        (self.pods.is_empty()
            || (self.pods.iter()).any(|(ns, name)| *ns == meta.namespace && *name == meta.name))
            && (self.namespaces.is_empty() || self.namespaces.contains(&meta.namespace))
            && self.labels.matches(&meta.labels)
            && self.annotations.matches(&meta.annotations)
            && (self.phases.is_empty() || self.phases.iter().any(|p| p == phase))
            && self
                .fields
                .iter()
                .all(|(field, value)| value == field_of(pod, field))
            && self.takes_host(pod, view)
    }

    /// `nodes` and `nodeSelectors`: a pod that runs on one of either.
    fn takes_host(&self, pod: &Pod, view: &View) -> bool {
        if self.nodes.is_empty() && self.node_labels.is_empty() {
            return true;
        }
        let Some(name) = &pod.node_name else {
            return false;
        };
        let labelled = |labels: &LabelSelector| {
            let node = view.nodes().named(&Text::default(), name);
            !labels.is_empty() && node.is_some_and(|(_, node)| labels.matches(&node.meta.labels))
        };
        self.nodes.contains(name) || labelled(&self.node_labels)
    }
}

/// The field selectors that the API server knows for pods.
fn field_of<'p>(pod: &'p Pod, field: &str) -> &'p str {
    match field {
        "metadata.name" => &pod.meta.name,
        "metadata.namespace" => &pod.meta.namespace,
        "spec.nodeName" => pod.node_name.as_deref().unwrap_or_default(),
        "spec.serviceAccountName" => &pod.spec.service_account,
        "spec.schedulerName" => &pod.spec.scheduler_name,
        "status.phase" => pod.status.phase.name(),
        _ => "",
    }
}

/// Whether the pod was made by this workload, by way of ReplicaSets or Jobs, or is selected by this
/// Service.
fn belongs(pod: &Pod, workload: &WorkloadRef, view: &View) -> bool {
    if pod.meta.namespace != workload.namespace {
        return false;
    }
    match workload.kind.as_str() {
        "Pod" => pod.meta.name == workload.name,
        "Service" => {
            let services = view.of::<crate::api::Service>();
            let found = services.named(&workload.namespace, &workload.name);
            found.is_some_and(|(_, s)| !s.selector.is_empty() && has(&pod.meta.labels, &s.selector))
        }
        _ => {
            let owner = pod.meta.controller();
            owner.is_some_and(|owner| owned(owner, workload, view))
        }
    }
}

fn has(labels: &Labels, wanted: &Labels) -> bool {
    wanted
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether `owner` is the workload or belongs to it; two levels exist (CronJob, Job, Pod).
fn owned(owner: &OwnerRef, workload: &WorkloadRef, view: &View) -> bool {
    if owner.kind_name == workload.kind && owner.name == workload.name {
        return true;
    }
    let meta = match owner.kind {
        Kind::Inert => None,
        kind => (view.lookup(kind, &workload.namespace, &owner.name))
            .and_then(|id| view.row(id))
            .map(|row| row.meta().clone()),
    };
    meta.is_some_and(|meta| {
        (meta.controller()).is_some_and(|o| o.kind_name == workload.kind && o.name == workload.name)
    })
}
