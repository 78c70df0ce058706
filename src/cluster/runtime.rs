//! What the cluster asks of its backend.
//!
//! In a simulated run the data plane answers for what happens inside containers, and the backend is
//! asked for sandboxes, pulls, starts and removals alone. Where containers are real
//! ([`Containers::Real`]) the backend is asked for everything: all of the kubelets' runtime calls,
//! and what else has a real counterpart: machines that are switched off or frozen, links that are
//! disturbed, traffic that is sent, objects that proxies and runtimes watch.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::dataplane::strain::Load;
use super::dispatch::Cluster;
use crate::api::{Kind, Pod, Text};
use crate::engine::{Dist, Time, entity_key};
use crate::fault::{DnsRule, LinkRule};
use crate::kubelet::runtime::{Call, ContainerId, RuntimeRequest};
use crate::load::{AppModel, Traffic};
use crate::store::{Change, Cursor, Id, View};

/// Who answers for what happens inside containers and on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Containers {
    /// The data plane.
    Simulated,
    /// The backend.
    Real,
}

/// What the cluster asks of its backend. All but [`Request::Runtime`] is asked only where
/// containers are real.
#[derive(Clone, Debug)]
pub enum Request {
    /// A kubelet asks its container runtime; answered as [`crate::kubelet::runtime`] says.
    Runtime(Asked),
    /// An object of a [`WATCHED`] kind changed: what proxies, resolvers and runtimes go by. Those
    /// that exist at the beginning are told as created.
    Changed(Change),
    /// Something happens to a machine as a whole.
    Machine {
        /// The node's name.
        node: Text,
        /// What.
        what: MachineCall,
    },
    /// A disturbance of links begins, or one that began ends.
    Link {
        /// Whose packets, and what happens to them.
        rule: LinkRule,
        /// Whether it begins.
        on: bool,
    },
    /// A load begins under a number, or (without one) ends.
    Strain {
        /// Its number.
        number: u32,
        /// Where, and how much.
        load: Option<(StrainTarget, Load)>,
    },
    /// Lookups go wrong, or go right again.
    Names {
        /// Whose, of which names.
        rule: DnsRule,
        /// Whether it begins.
        on: bool,
    },
    /// A Traffic begins.
    Traffic {
        /// What is sent.
        traffic: Box<Traffic>,
        /// The instant from which its `start` counts.
        epoch: Time,
    },
    /// Measure what all containers use; answered by an [`Event::Holds`](super::Event::Holds) and an
    /// [`Event::Used`](super::Event::Used) for each that runs.
    Usage,
}

/// Where a load is put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StrainTarget {
    /// In a container's cgroup.
    Container(ContainerId),
    /// Beside the pods of a node.
    Node(Text),
}

/// What happens to a machine as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineCall {
    /// Power is lost: what runs on it is gone, nobody is told.
    PowerOff,
    /// It has booted again; nothing runs on it yet.
    PowerOn,
    /// All of its processes stop where they are.
    Freeze,
    /// They go on.
    Thaw,
}

/// A kubelet's request, with what its answer depends on.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The request.
    pub runtime: RuntimeRequest,
    /// The name of the node that asks (only where containers are real).
    pub node: Text,
    /// A stable key of the pod that it is about, for draws.
    pub entity: u64,
    /// How long its image takes to pull, where an AppModel says so.
    pub pull: Option<Dist>,
    /// No registry has the image.
    pub missing: bool,
    /// How the container behaves that is started (only where containers are real).
    pub model: Option<Arc<AppModel>>,
    /// The kinds of clients that make its calls, by number, in the order of the model's calls.
    pub calls: Arc<[u32]>,
    /// A fault has replaced what the container runs by a program that sleeps.
    pub idle: bool,
}

impl Asked {
    /// Addresses a kubelet's request.
    pub fn new(runtime: RuntimeRequest, node: Text, view: &View) -> Self {
        let entity = match &runtime.what {
            Call::StartSandbox { row, .. }
            | Call::PullImage { row, .. }
            | Call::StartContainer { row, .. } => {
                entity_key(&[&row.meta.namespace, &row.meta.name])
            }
            Call::RemovePod { pod } => view.pods().get(*pod).map_or(u64::from(pod.0), |row| {
                entity_key(&[&row.meta.namespace, &row.meta.name])
            }),
            Call::Signal { .. }
            | Call::Probe { .. }
            | Call::Hook { .. }
            | Call::Stats
            | Call::WatchMemory { .. } => 0,
        };
        Asked {
            runtime,
            node,
            entity,
            pull: None,
            missing: false,
            model: None,
            calls: Arc::default(),
            idle: false,
        }
    }

    /// The pod whose container is started.
    pub fn starts(&self) -> Option<Id<Pod>> {
        match &self.runtime.what {
            Call::StartContainer { container, .. } => Some(container.pod),
            _ => None,
        }
    }
}

/// The kinds whose changes a real backend is told.
pub const WATCHED: [Kind; 5] = [
    Kind::Node,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::ConfigMap,
    Kind::Secret,
];

impl Cluster {
    /// What a backend is told before the first event: the objects that are there, what to watch.
    pub fn introduction(&self) -> Vec<Request> {
        let log = self.api.store.log();
        let changes = log.since(Cursor(0)).into_iter().flatten();
        let watched = changes.filter(|change| WATCHED.contains(&change.kind()));
        match self.containers {
            Containers::Simulated => Vec::new(),
            Containers::Real => {
                let told = watched.cloned().map(Request::Changed);
                told.chain(self.first.iter().cloned()).collect()
            }
        }
    }
}
