//! Services and their endpoints, in versions.
//!
//! Every change of a Service or of one of its EndpointSlices makes a version; a proxy that is
//! behind reads an older one. A version shares the objects with the store and sorts the endpoints
//! out only when somebody connects by it. Versions that no proxy can be at any more are forgotten.

use std::cell::{OnceCell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::endpoints::{Endpoint, Policy, near as near_of, usable};
use super::topology::{Place, Topology};
use crate::api::service::{Hints, ServiceKind};
use crate::api::{EndpointSlice, Kind, Row, Service, Text};
use crate::engine::Time;
use crate::store::{Change, Op};

/// A Service by its name: the number stays, also while no such object exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub u32);

/// One Service port and its endpoints in one version.
#[derive(Clone, Debug, Default)]
pub struct PortEndpoints {
    /// Name of the port.
    pub name: Text,
    /// `port`.
    pub port: u16,
    /// `nodePort`, 0 when none.
    pub node_port: u16,
    /// Every endpoint.
    pub all: Vec<Endpoint>,
    /// The endpoints of traffic policy `Cluster`, hints apart.
    pub cluster: Vec<Endpoint>,
    /// Hints of `all`; empty when there are none.
    pub hints: Vec<Option<Arc<Hints>>>,
    /// Where there are hints: what was found for nodes that asked.
    near: RefCell<Near>,
}

/// The endpoints of traffic policy `Cluster` by node, with the zones that the nodes had; nodes of a
/// zone mostly share one list.
#[derive(Clone, Debug, Default)]
struct Near {
    places: FxHashMap<Place, (Text, Arc<[Endpoint]>)>,
    zones: FxHashMap<Text, Arc<[Endpoint]>>,
}

impl PortEndpoints {
    /// The endpoints of traffic policy `Cluster` for the proxy of a node that follows hints.
    pub fn near(&self, node: Place, topology: &Topology) -> Arc<[Endpoint]> {
        let zone = topology.zone_of(node);
        let mut near = self.near.borrow_mut();
        if let Some((_, known)) = near.places.get(&node).filter(|(of, _)| of == zone) {
            return Arc::clone(known);
        }
        let found = near_of(&self.all, &self.hints, node, topology);
        let shared = near.zones.get(zone).filter(|list| list[..] == found[..]);
        let list = shared.cloned().unwrap_or_else(|| found.into());
        near.zones.insert(zone.clone(), Arc::clone(&list));
        near.places.insert(node, (zone.clone(), Arc::clone(&list)));
        list
    }
}

/// A Service and its EndpointSlices at one revision.
#[derive(Clone, Debug)]
pub struct Version {
    /// The store's revision that made it.
    pub revision: u64,
    /// When it was made.
    pub time: Time,
    /// The Service; none when it was deleted or not created yet.
    pub service: Option<Arc<Service>>,
    slices: Vec<(u32, Arc<EndpointSlice>)>,
    ports: OnceCell<Box<[PortEndpoints]>>,
}

impl Version {
    /// What the Service asks of the proxy.
    pub fn policy(&self) -> Policy {
        self.service
            .as_ref()
            .map_or_else(Policy::default, |service| Policy {
                internal_local: service.internal_local,
                external_local: service.external_local,
                external: matches!(
                    service.kind,
                    ServiceKind::NodePort | ServiceKind::LoadBalancer
                ),
            })
    }

    /// The ports with their endpoints.
    pub fn ports(&self, topology: &Topology, pods: &FxHashMap<u64, u32>) -> &[PortEndpoints] {
        self.ports.get_or_init(|| self.sort_out(topology, pods))
    }

    fn sort_out(&self, topology: &Topology, pods: &FxHashMap<u64, u32>) -> Box<[PortEndpoints]> {
        let Some(service) = &self.service else {
            return Box::default();
        };
        let mut ports: Vec<_> = service
            .ports
            .iter()
            .map(|p| PortEndpoints {
                name: p.name.clone(),
                port: p.port,
                node_port: p.node_port,
                ..PortEndpoints::default()
            })
            .collect();
        if ports.is_empty() && service.headless {
            // A headless Service may have no ports: its names resolve, any port can be dialled.
            ports.push(PortEndpoints::default());
        }
        for port in &mut ports {
            for (_, slice) in &self.slices {
                collect(slice, service, port, topology, pods);
            }
            port.cluster = usable(&port.all, |_| true);
            if port.hints.iter().all(Option::is_none) {
                port.hints = Vec::new();
            }
        }
        ports.into()
    }

    /// Every endpoint once for each of its slices, as the slices have it.
    pub fn endpoints(&self) -> impl Iterator<Item = &crate::api::service::Endpoint> {
        self.endpoints_with_ports().map(|(endpoint, _)| endpoint)
    }

    /// As [`Version::endpoints`], with the ports of the slice.
    pub fn endpoints_with_ports(
        &self,
    ) -> impl Iterator<
        Item = (
            &crate::api::service::Endpoint,
            &[crate::api::service::EndpointPort],
        ),
    > {
        self.slices.iter().flat_map(|(_, slice)| {
            let ports = &slice.ports[..];
            slice
                .endpoints
                .iter()
                .map(move |endpoint| (endpoint, ports))
        })
    }

    /// Endpoints whose pod has this name, over all ports.
    pub fn pod_named<'a>(
        &'a self,
        name: &str,
        topology: &Topology,
        pods: &FxHashMap<u64, u32>,
    ) -> Option<&'a Endpoint> {
        let uid = self
            .slices
            .iter()
            .flat_map(|(_, slice)| slice.endpoints.iter())
            .find(|e| match e.hostname.is_empty() {
                true => e.pod == name,
                false => e.hostname == name,
            })?
            .pod_uid;
        let pod = pods.get(&uid.0)?;
        let ports = self.ports(topology, pods);
        ports.iter().flat_map(|p| &p.all).find(|e| e.pod == *pod)
    }
}

/// Adds the endpoints that one slice gives to one port of its Service.
fn collect(
    slice: &EndpointSlice,
    service: &Service,
    port: &mut PortEndpoints,
    topology: &Topology,
    pods: &FxHashMap<u64, u32>,
) {
    let target = slice.ports.iter().find(|p| p.name == port.name);
    if target.is_none() && port.port != 0 {
        return;
    }
    let number = target.map_or(0, |t| t.port);
    for endpoint in &slice.endpoints {
        port.hints.push(endpoint.hints.clone());
        port.all.push(Endpoint {
            ip: endpoint.ip,
            pod: match (pods.get(&endpoint.pod_uid.0), endpoint.pod_uid.0) {
                (Some(number), _) => *number,
                (None, 0) => u32::MAX,
                (None, _) => UNKNOWN,
            },
            place: topology.find(&endpoint.node).unwrap_or_default(),
            port: number,
            ready: endpoint.ready || service.publish_not_ready,
            serving: endpoint.serving,
            terminating: endpoint.terminating,
        });
    }
}

#[derive(Debug, Default)]
struct Entry {
    namespace: Text,
    name: Text,
    versions: VecDeque<Version>,
    /// Look for versions to forget when there are this many.
    prune_at: usize,
}

/// All Services in versions.
#[derive(Debug, Default)]
pub struct Services {
    entries: Vec<Entry>,
    by_name: FxHashMap<(Text, Text), ServiceId>,
    /// Node ports of the current Services.
    node_ports: FxHashMap<u16, ServiceId>,
    /// Number of the pod of each uid that was ever seen.
    pods: FxHashMap<u64, u32>,
}

const PRUNE: usize = 16;

/// The number of a pod that never existed here: it is somewhere else than outside the cluster.
const UNKNOWN: u32 = u32::MAX - 1;

impl Services {
    /// The number of the Service of this name, given out when it is first asked for.
    pub fn id(&mut self, namespace: &Text, name: &Text) -> ServiceId {
        let key = (namespace.clone(), name.clone());
        if let Some(id) = self.by_name.get(&key) {
            return *id;
        }
        let id = ServiceId(u32::try_from(self.entries.len()).unwrap_or(u32::MAX));
        self.by_name.insert(key, id);
        self.entries.push(Entry {
            namespace: namespace.clone(),
            name: name.clone(),
            versions: VecDeque::new(),
            prune_at: PRUNE,
        });
        id
    }

    /// How many Services were ever named: their numbers are below.
    pub fn count(&self) -> u32 {
        u32::try_from(self.entries.len()).unwrap_or(u32::MAX)
    }

    /// Namespace and name.
    pub fn name(&self, id: ServiceId) -> (&Text, &Text) {
        let entry = &self.entries[id.0 as usize];
        (&entry.namespace, &entry.name)
    }

    /// The Service that has this node port.
    pub fn by_node_port(&self, port: u16) -> Option<ServiceId> {
        self.node_ports.get(&port).copied()
    }

    /// Numbers of pods by uid.
    pub fn pod_numbers(&self) -> &FxHashMap<u64, u32> {
        &self.pods
    }

    /// The newest version at `revision` or before.
    #[inline]
    pub fn at(&self, id: ServiceId, revision: u64) -> Option<&Version> {
        let versions = &self.entries[id.0 as usize].versions;
        let last = versions.back()?;
        if last.revision <= revision {
            return Some(last);
        }
        let after = versions.partition_point(|v| v.revision <= revision);
        versions.get(after.checked_sub(1)?)
    }

    /// The newest version.
    pub fn newest(&self, id: ServiceId) -> Option<&Version> {
        self.entries[id.0 as usize].versions.back()
    }

    /// Takes in a change; returns the Service that got a new version.
    pub fn on_change(&mut self, change: &Change) -> Option<ServiceId> {
        match change.kind() {
            Kind::Pod => {
                let (object, new) = (change.object?, change.new.as_ref()?);
                match change.op {
                    Op::Create => drop(self.pods.insert(new.meta().uid.0, object.index)),
                    // Slices tell of pods for a while after they are gone.
                    Op::Delete if self.entries.is_empty() => {
                        self.pods.remove(&new.meta().uid.0);
                    }
                    _ => {}
                }
                None
            }
            Kind::Service => self.service_changed(change),
            Kind::EndpointSlice => self.slice_changed(change),
            _ => None,
        }
    }

    fn service_changed(&mut self, change: &Change) -> Option<ServiceId> {
        let Some(Row::Service(service)) = &change.new else {
            return None;
        };
        let id = self.id(&service.meta.namespace, &service.meta.name);
        if let Some(Row::Service(old)) = &change.old {
            for port in old.ports.iter().filter(|p| p.node_port != 0) {
                self.node_ports.remove(&port.node_port);
            }
        }
        let gone = change.op == Op::Delete;
        if !gone {
            for port in service.ports.iter().filter(|p| p.node_port != 0) {
                self.node_ports.insert(port.node_port, id);
            }
        }
        let slices = self.newest(id).map(|v| v.slices.clone());
        let service = (!gone).then(|| service.clone());
        self.push(id, change, service, slices.unwrap_or_default());
        Some(id)
    }

    fn slice_changed(&mut self, change: &Change) -> Option<ServiceId> {
        let (object, Some(Row::EndpointSlice(slice))) = (change.object?, &change.new) else {
            return None;
        };
        let id = self.id(&slice.meta.namespace, slice.service_name()?);
        let (service, mut slices) = self
            .newest(id)
            .map(|v| (v.service.clone(), v.slices.clone()))
            .unwrap_or_default();
        let at = slices.iter().position(|(index, _)| *index == object.index);
        match (at, change.op == Op::Delete) {
            (Some(at), true) => drop(slices.remove(at)),
            (Some(at), false) => slices[at].1 = slice.clone(),
            (None, true) => {}
            (None, false) => slices.push((object.index, slice.clone())),
        }
        self.push(id, change, service, slices);
        Some(id)
    }

    fn push(
        &mut self,
        id: ServiceId,
        change: &Change,
        service: Option<Arc<Service>>,
        slices: Vec<(u32, Arc<EndpointSlice>)>,
    ) {
        self.entries[id.0 as usize].versions.push_back(Version {
            revision: change.revision,
            time: change.time,
            service,
            slices,
            ports: OnceCell::new(),
        });
    }

    /// How many versions of a Service are kept.
    pub fn versions(&self, id: ServiceId) -> usize {
        self.entries[id.0 as usize].versions.len()
    }

    /// Whether a Service has so many versions that [`Services::prune`] is worth its cost.
    pub fn wants_prune(&self, id: ServiceId) -> bool {
        let entry = &self.entries[id.0 as usize];
        entry.versions.len() >= entry.prune_at
    }

    /// Forgets versions that were replaced before `horizon` and are not what one of the `stuck`
    /// revisions (in rising order) reads.
    pub fn prune(&mut self, id: ServiceId, horizon: Time, stuck: &[u64]) {
        let entry = &mut self.entries[id.0 as usize];
        let next: Vec<(u64, Time)> = entry
            .versions
            .iter()
            .skip(1)
            .map(|v| (v.revision, v.time))
            .collect();
        let mut at = 0;
        entry.versions.retain(|version| {
            let replaced = next.get(at);
            at += 1;
            let Some((replaced_by, when)) = replaced else {
                return true;
            };
            let readers = stuck.partition_point(|r| *r < version.revision);
            *when >= horizon || stuck.get(readers).is_some_and(|r| r < replaced_by)
        });
        entry.prune_at = (entry.versions.len() * 2).max(PRUNE);
    }
}
