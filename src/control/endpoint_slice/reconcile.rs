//! The difference between the pods of a Service and its slices.
//!
//! `staging/src/k8s.io/endpointslice/reconciler.go :: reconcileByAddressType, finalize,
//! reconcileByPortMapping`, for IPv4. Endpoints that stay are updated where they are; new ones fill
//! slices that are written anyway, then one slice that has room, then new slices. Where upstream
//! takes "any" endpoint out of a set, the order of pod creation is used.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::service::{Endpoint, EndpointPort, ServicePort, TargetPort};
use crate::api::{
    EndpointSlice, Kind, Labels, Meta, Node, OwnerRef, Pod, Row, Service, StatefulSet, Text,
};
use crate::client::Plan;
use crate::control::pods;
use crate::store::{Id, ObjectId, Propagation, View, Write};

use super::topology::{
    DISABLED, ENABLED, TopologyCache, distribute, distribution, remove_hints, wants_zones,
};
use super::{MANAGED_BY, MANAGED_BY_LABEL, SERVICE_NAME_LABEL};

type PortKey = Vec<(Text, u16, crate::api::container::Protocol, Text)>;

/// The writes of a sync, by kind, before they are put in upstream's order, and what stays as it is
/// (`topologycache.SliceInfo`).
#[derive(Default)]
pub(super) struct Difference {
    pub create: Vec<EndpointSlice>,
    pub update: Vec<(ObjectId, EndpointSlice)>,
    pub unchanged: Vec<(ObjectId, Arc<EndpointSlice>)>,
    pub delete: Vec<(ObjectId, Arc<EndpointSlice>)>,
}

/// What to write so that the slices of `service` list its pods.
pub(super) fn plan(
    id: Id<Service>,
    service: &Service,
    view: &View,
    max_endpoints: usize,
    topology: &mut TopologyCache,
) -> Plan {
    let mut existing: BTreeMap<PortKey, Vec<(ObjectId, Arc<EndpointSlice>)>> = BTreeMap::new();
    let mut difference = Difference::default();
    let mut existing_count = 0;
    for (id, slice) in view
        .of::<EndpointSlice>()
        .in_namespace(&service.meta.namespace)
    {
        if !belongs(slice, service) || slice.meta.deleting() {
            continue;
        }
        existing_count += 1;
        if owned(slice, service) {
            existing
                .entry(port_key(&slice.ports))
                .or_default()
                .push((id.into(), slice.clone()));
        } else {
            difference.delete.push((id.into(), slice.clone()));
        }
    }
    let mut missing_nodes = Vec::new();
    let desired = desired(service, view, &mut missing_nodes);
    for (key, (ports, endpoints)) in &desired {
        let slices = existing.remove(key).unwrap_or_default();
        by_port_mapping(
            service,
            slices,
            ports,
            endpoints.clone(),
            max_endpoints,
            &mut difference,
        );
    }
    for (_, slices) in existing {
        difference.delete.extend(slices);
    }
    placeholder(service, existing_count, &mut difference);
    let events = hints(id, service, view, &mut difference, topology);
    let mut plan = finalize(service, difference, missing_nodes);
    for (reason, message) in events {
        let (source, warning) = ("endpoint-slice-controller", reason != ENABLED);
        plan.event(pods::event(service, source, reason, message, warning));
    }
    plan
}

/// The part of `reconcileByAddressType` that is about hints: those of the annotation, else those of
/// `trafficDistribution`, else none. Returns what is to be told.
fn hints(
    id: Id<Service>,
    service: &Service,
    view: &View,
    difference: &mut Difference,
    topology: &mut TopologyCache,
) -> Vec<(&'static str, String)> {
    if wants_zones(service) {
        return topology.add_hints(id, view, difference);
    }
    let mut events = Vec::new();
    if topology.remove(id) {
        let message = "Topology Aware Hints has been disabled, addressType: IPv4";
        events.push((DISABLED, message.to_owned()));
    }
    match distribution(service) {
        Some(node_hints) => distribute(node_hints, difference),
        None => remove_hints(difference),
    }
    events
}

/// The endpoints that should be there, grouped by the ports they resolve to.
fn desired(
    service: &Service,
    view: &View,
    missing_nodes: &mut Vec<String>,
) -> BTreeMap<PortKey, (Vec<EndpointPort>, Vec<Endpoint>)> {
    let mut desired: BTreeMap<PortKey, (Vec<EndpointPort>, Vec<Endpoint>)> = BTreeMap::new();
    for (_, pod) in view.pods().in_namespace(&service.meta.namespace) {
        let selected = service
            .selector
            .iter()
            .all(|(k, v)| pod.meta.labels.get(k) == Some(v));
        if !selected || pod.status.phase.terminal() {
            continue;
        }
        let Some(ip) = pod.status.ip else { continue };
        let node = pod
            .node_name
            .as_ref()
            .and_then(|n| view.nodes().named(&Text::default(), n));
        let ports = endpoint_ports(service, pod);
        let entry = desired
            .entry(port_key(&ports))
            .or_insert_with(|| (ports, Vec::new()));
        if node.is_none() && !service.publish_not_ready {
            let node = pod.node_name.clone().unwrap_or_default();
            missing_nodes.push(format!(
                "skipping Pod {} for Service {}: Node {node} Not Found",
                pod.meta.name,
                service.meta.full_name()
            ));
            continue;
        }
        entry
            .1
            .push(endpoint(pod, node.map(|(_, n)| &**n), service, ip.0, view));
    }
    desired
}

/// `podToEndpoint`.
fn endpoint(pod: &Pod, node: Option<&Node>, service: &Service, ip: u32, view: &View) -> Endpoint {
    let serving = pod.status.ready();
    let terminating = pod.meta.deleting();
    Endpoint {
        ip,
        pod_uid: pod.meta.uid,
        pod: pod.meta.name.clone(),
        hostname: hostname(pod, service, view),
        node: pod.node_name.clone().unwrap_or_default(),
        zone: node.map_or_else(Text::default, |n| Text::from(n.zone())),
        ready: service.publish_not_ready || (serving && !terminating),
        serving,
        terminating,
        hints: None,
    }
}

/// `ShouldSetHostname`: of pods whose subdomain is the Service. Those of a StatefulSet share the spec
/// of its template; their hostname is their name, their subdomain the set's Service.
fn hostname(pod: &Pod, service: &Service, view: &View) -> Text {
    let owner = pod.meta.controller();
    let owner = owner.filter(|owner| owner.kind == Kind::StatefulSet);
    let sets = view.of::<StatefulSet>();
    let set = owner.and_then(|owner| sets.named(&pod.meta.namespace, &owner.name));
    let (name, domain) = match set {
        Some((_, set)) => (&pod.meta.name, &set.service_name),
        None => (&pod.spec.hostname, &pod.spec.subdomain),
    };
    match *domain == service.meta.name && !domain.is_empty() {
        true => name.clone(),
        false => Text::default(),
    }
}

/// `getEndpointPorts` with `FindPort`: a named target resolves per pod; one that does not is left
/// out.
fn endpoint_ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let resolve = |port: &ServicePort| match &port.target {
        TargetPort::Number(0) => Some(port.port),
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => pod
            .spec
            .containers
            .iter()
            .chain(pod.spec.init_containers.iter().filter(|c| c.restart_always))
            .flat_map(|c| &c.ports)
            .find(|p| p.name == *name && p.protocol == port.protocol)
            .map(|p| p.port),
    };
    service
        .ports
        .iter()
        .filter_map(|port| {
            Some(EndpointPort {
                name: port.name.clone(),
                port: resolve(port)?,
                protocol: port.protocol,
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

fn port_key(ports: &[EndpointPort]) -> PortKey {
    let mut key: PortKey = ports
        .iter()
        .map(|p| (p.name.clone(), p.port, p.protocol, p.app_protocol.clone()))
        .collect();
    key.sort();
    key
}

fn belongs(slice: &EndpointSlice, service: &Service) -> bool {
    slice.service_name() == Some(&service.meta.name)
        && slice
            .meta
            .labels
            .get(MANAGED_BY_LABEL)
            .is_some_and(|v| v == MANAGED_BY)
}

fn owned(slice: &EndpointSlice, service: &Service) -> bool {
    slice
        .meta
        .controller()
        .is_some_and(|o| o.uid == service.meta.uid)
}

/// `reconcileByPortMapping`.
fn by_port_mapping(
    service: &Service,
    slices: Vec<(ObjectId, Arc<EndpointSlice>)>,
    ports: &[EndpointPort],
    mut desired: Vec<Endpoint>,
    max_endpoints: usize,
    difference: &mut Difference,
) {
    let labels = slice_labels(service);
    let mut update: Vec<(ObjectId, EndpointSlice)> = Vec::new();
    let mut unchanged: Vec<(ObjectId, Arc<EndpointSlice>)> = Vec::new();
    // 1. What is there: keep, change, drop.
    for (id, slice) in slices {
        let (kept, changed) = keep(&slice, &mut desired);
        if changed || kept.len() != slice.endpoints.len() {
            if kept.is_empty() {
                difference.delete.push((id, slice));
                continue;
            }
            let mut new = EndpointSlice::clone(&slice);
            new.endpoints = kept;
            new.meta.labels = labels.clone();
            update.push((id, new));
        } else if slice.meta.labels != labels {
            let mut new = EndpointSlice::clone(&slice);
            new.meta.labels = labels.clone();
            update.push((id, new));
        } else {
            unchanged.push((id, slice));
        }
    }
    let mut desired = desired.into_iter().peekable();
    // 2. Fill the slices that are written anyway, the fullest first.
    update.sort_by_key(|(id, slice)| (std::cmp::Reverse(slice.endpoints.len()), *id));
    for (_, slice) in &mut update {
        let room = max_endpoints.saturating_sub(slice.endpoints.len());
        slice.endpoints.extend(desired.by_ref().take(room));
    }
    // 3. One unchanged slice that has room for all the rest, else new slices.
    while desired.peek().is_some() {
        let left = desired.len();
        match slice_to_fill(&unchanged, left, max_endpoints) {
            Some(at) => {
                let (id, slice) = unchanged.remove(at);
                let mut new = EndpointSlice::clone(&slice);
                let room = max_endpoints - new.endpoints.len();
                new.endpoints.extend(desired.by_ref().take(room));
                update.push((id, new));
            }
            None => {
                let mut new = new_slice(service, ports.to_vec());
                new.endpoints.extend(desired.by_ref().take(max_endpoints));
                difference.create.push(new);
            }
        }
    }
    difference.update.extend(update);
    difference.unchanged.extend(unchanged);
}

/// The endpoints of a slice that stay, taken out of those that are desired, and whether one of them
/// has changed.
fn keep(slice: &EndpointSlice, desired: &mut Vec<Endpoint>) -> (Vec<Endpoint>, bool) {
    let mut kept = Vec::with_capacity(slice.endpoints.len());
    let mut changed = false;
    for endpoint in &slice.endpoints {
        // Endpoints are the same by address and target.
        let same = |d: &Endpoint| d.ip == endpoint.ip && d.pod_uid == endpoint.pod_uid;
        if let Some(at) = desired.iter().position(same) {
            // `EndpointsEqualBeyondHash`: hints are another matter.
            let mut wanted = desired.remove(at);
            wanted.hints.clone_from(&endpoint.hints);
            changed |= wanted != *endpoint;
            wanted.hints = None;
            kept.push(wanted);
        }
    }
    (kept, changed)
}

/// `getSliceToFill`: the fullest slice that has room for all.
fn slice_to_fill(
    slices: &[(ObjectId, Arc<EndpointSlice>)],
    left: usize,
    max_endpoints: usize,
) -> Option<usize> {
    if left >= max_endpoints {
        return None;
    }
    let fits = |(_, (_, slice)): &(usize, &(ObjectId, Arc<EndpointSlice>))| {
        slice.endpoints.len() + left <= max_endpoints
    };
    slices
        .iter()
        .enumerate()
        .filter(fits)
        .max_by_key(|(at, (_, slice))| (slice.endpoints.len(), std::cmp::Reverse(*at)))
        .map(|(at, _)| at)
}

/// A Service without endpoints keeps one empty slice, so that "no endpoints" is a known fact.
fn placeholder(service: &Service, existing: usize, difference: &mut Difference) {
    if existing != difference.delete.len() || !difference.create.is_empty() {
        return;
    }
    let new = new_slice(service, Vec::new());
    if let [(_, only)] = difference.delete.as_slice() {
        let same = only.ports.is_empty()
            && only.endpoints.is_empty()
            && only.meta.labels == new.meta.labels;
        if same {
            difference.delete.clear();
            return;
        }
    }
    difference.create.push(new);
}

/// `finalize`: a slice to create takes the place of one to delete; creations, updates, deletions.
fn finalize(service: &Service, mut difference: Difference, missing_nodes: Vec<String>) -> Plan {
    let mut plan = Plan::none();
    let mut at = 0;
    while at < difference.delete.len() && !difference.create.is_empty() {
        if !owned(&difference.delete[at].1, service) {
            at += 1;
            continue;
        }
        let (id, old) = difference.delete.remove(at);
        let mut new = difference.create.pop().expect("checked above");
        new.meta = Meta {
            labels: new.meta.labels,
            ..old.meta.clone()
        };
        difference.update.push((id, new));
    }
    if !service.meta.deleting() {
        for slice in difference.create {
            plan.write(
                Write::Create(Row::from(slice)),
                "pods match the Service's selector",
            );
        }
    }
    for (id, slice) in difference.update {
        plan.write(
            Write::Update(id, Row::from(slice)),
            "a pod's readiness or address changed",
        );
    }
    for (object, slice) in difference.delete {
        let uid = Some(slice.meta.uid);
        let propagation = Propagation::Background;
        plan.write(
            Write::Delete {
                object,
                uid,
                grace_s: None,
                propagation,
            },
            "no endpoint is left in this slice",
        );
    }
    plan.error = match missing_nodes.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("[{}]", many.join(", "))),
    };
    plan
}

/// `setEndpointSliceLabels`: the Service's labels (without the reserved ones), and who manages it.
fn slice_labels(service: &Service) -> Labels {
    let reserved = [
        SERVICE_NAME_LABEL,
        MANAGED_BY_LABEL,
        "service.kubernetes.io/headless",
    ];
    let mut labels: Labels = service
        .meta
        .labels
        .iter()
        .filter(|(k, _)| !reserved.contains(&k.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    if service.headless {
        labels = labels.with("service.kubernetes.io/headless", "");
    }
    labels
        .with(SERVICE_NAME_LABEL, service.meta.name.clone())
        .with(MANAGED_BY_LABEL, MANAGED_BY)
}

/// `newEndpointSlice`.
fn new_slice(service: &Service, ports: Vec<EndpointPort>) -> EndpointSlice {
    // `getEndpointSlicePrefix`: the dash is left out when the name would be too long for it.
    let dashed = format!("{}-", service.meta.name);
    let generate_name = if dashed.len() <= 253 {
        dashed
    } else {
        service.meta.name.to_string()
    };
    EndpointSlice {
        meta: Meta {
            namespace: service.meta.namespace.clone(),
            generate_name: Text::from(generate_name),
            labels: slice_labels(service),
            owners: Arc::from([OwnerRef {
                kind: Kind::Service,
                api_version: Text::from("v1"),
                kind_name: Text::from("Service"),
                name: service.meta.name.clone(),
                uid: service.meta.uid,
                controller: true,
                block_owner_deletion: true,
            }]),
            ..Meta::default()
        },
        endpoints: Vec::new(),
        ports,
    }
}

/// A slice of some of a Service's pods, as it would be made for them alone.
#[cfg(test)]
pub(super) fn slice_of(
    service: &Service,
    view: &View,
    takes: impl Fn(&str) -> bool,
) -> EndpointSlice {
    let all = desired(service, view, &mut Vec::new());
    let (ports, endpoints) = all.into_values().next().expect("pods with ports");
    let mut slice = new_slice(service, ports);
    let mut endpoints = endpoints;
    endpoints.retain(|endpoint| takes(&endpoint.pod));
    slice.endpoints = endpoints;
    slice
}
