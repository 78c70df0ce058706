//! Hints: which zone, or which node, should use an endpoint.
//!
//! Ports of `staging/src/k8s.io/endpointslice/trafficdist` (`spec.trafficDistribution`: each ready
//! endpoint is for its own zone, or node) and of `…/topologycache` (the annotation
//! `service.kubernetes.io/topology-mode: Auto`: zones get endpoints in proportion to the CPUs of
//! their nodes, unless one of them would be overloaded by more than a fifth). Where upstream takes
//! zones out of a map, the order of their names is used.
//!
//! What it does not know: what proxies make of hints ([`crate::net::endpoints`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::reconcile::Difference;
use crate::api::service::{Endpoint, Hints};
use crate::api::{EndpointSlice, Node, Service, Text};
use crate::client::Keys;
use crate::store::{Change, Id, Op, View};

/// Reason of the event that hints are given from now on.
pub const ENABLED: &str = "TopologyAwareHintsEnabled";
/// Reason of the events that they are not, and why.
pub const DISABLED: &str = "TopologyAwareHintsDisabled";
/// `overloadThreshold`: how much more than its share a zone's endpoints may have to bear.
const OVERLOAD: f64 = 0.2;
/// What is to be told: reason and message.
type Told = (&'static str, String);

/// `hintsEnabled`: whether the annotation asks for hints by zone.
pub fn wants_zones(service: &Service) -> bool {
    let annotations = &service.meta.annotations;
    let mode = annotations
        .get("service.kubernetes.io/topology-aware-hints")
        .or_else(|| annotations.get("service.kubernetes.io/topology-mode"));
    mode.is_some_and(|mode| mode == "Auto" || mode == "auto")
}

/// `validTrafficDistribution`: whether hints by node are wanted besides those by zone.
pub fn distribution(service: &Service) -> Option<bool> {
    match service.source["trafficDistribution"].as_str()? {
        "PreferClose" | "PreferSameZone" => Some(false),
        "PreferSameNode" => Some(true),
        _ => None,
    }
}

/// `preferCloseHeuristic`: what a ready endpoint is hinted for.
fn close(endpoint: &Endpoint, node_hints: bool) -> Option<Arc<Hints>> {
    let named = |name: &Text, wanted: bool| -> Vec<Text> {
        let some = wanted && !name.is_empty();
        some.then(|| name.clone()).into_iter().collect()
    };
    let hints = Hints {
        zones: named(&endpoint.zone, true),
        nodes: named(&endpoint.node, node_hints),
    };
    let any = !hints.zones.is_empty() || !hints.nodes.is_empty();
    any.then(|| Arc::new(hints))
}

/// `trafficdist.ReconcileHints`.
pub(super) fn distribute(node_hints: bool, difference: &mut Difference) {
    let none = Hints::default();
    let wrong = |endpoint: &Endpoint| {
        let wanted = close(endpoint, node_hints);
        let wanted = wanted.as_deref().unwrap_or(&none);
        endpoint.ready && endpoint.hints.as_deref().unwrap_or(&none) != wanted
    };
    take(difference, |slice| slice.endpoints.iter().any(wrong));
    for slice in written(difference) {
        for endpoint in slice.endpoints.iter_mut().filter(|e| e.ready) {
            endpoint.hints = close(endpoint, node_hints);
        }
    }
}

/// `RemoveHintsFromSlices`.
pub(super) fn remove_hints(difference: &mut Difference) {
    take(difference, |slice| {
        slice.endpoints.iter().any(|e| e.hints.is_some())
    });
    for slice in written(difference) {
        for endpoint in &mut slice.endpoints {
            endpoint.hints = None;
        }
    }
}

/// Moves unchanged slices that need another look to those that are updated.
fn take(difference: &mut Difference, mut wrong: impl FnMut(&EndpointSlice) -> bool) {
    let (unchanged, update) = (&mut difference.unchanged, &mut difference.update);
    unchanged.retain(|(id, slice)| {
        let wrong = wrong(slice);
        if wrong {
            update.push((*id, EndpointSlice::clone(slice)));
        }
        !wrong
    });
}

/// The slices that are created or updated.
fn written(difference: &mut Difference) -> impl Iterator<Item = &mut EndpointSlice> {
    let update = difference.update.iter_mut().map(|(_, slice)| slice);
    difference.create.iter_mut().chain(update)
}

/// How many endpoints a zone should have.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Allocation {
    minimum: i32,
    maximum: i32,
    desired: f64,
}

/// `TopologyCache`: how nodes are spread over zones, and the endpoints of Services with hints.
#[derive(Debug, Default)]
pub struct TopologyCache {
    /// Share of the CPUs by zone; none when nodes do not tell.
    ratios: Option<BTreeMap<Text, f64>>,
    /// The nodes were looked at.
    known: bool,
    /// Endpoints by the zone that they are hinted for.
    endpoints: BTreeMap<Id<Service>, BTreeMap<Text, i32>>,
    populated: BTreeSet<Id<Service>>,
}

impl TopologyCache {
    /// `checkNodeTopologyDistribution`: Services that have become overloaded are looked at.
    pub fn on_node(&mut self, change: &Change, view: &View, keys: &mut Keys<Id<Service>>) {
        let Some((old, Some(new))) = change.rows::<Node>() else {
            return;
        };
        let same = |old: &Node| old.ready() == new.ready() && old.same_zone(new);
        if change.op == Op::Update && old.is_some_and(same) {
            return;
        }
        // Nobody has asked yet: the nodes are counted when somebody does.
        self.known = false;
        if self.endpoints.is_empty() {
            return;
        }
        self.count_nodes(view);
        let over = self.endpoints.iter();
        let over = over.filter(|(_, counts)| overloaded(counts, self.ratios.as_ref()));
        keys.now.extend(over.map(|(id, _)| *id));
    }

    /// `SetNodes`.
    fn count_nodes(&mut self, view: &View) {
        self.known = true;
        self.ratios = None;
        let mut by_zone: BTreeMap<&str, i64> = BTreeMap::new();
        for (_, node) in view.nodes().iter() {
            let excluded = [
                "node-role.kubernetes.io/control-plane",
                "node-role.kubernetes.io/master",
            ];
            let labels = &node.meta.labels;
            if excluded.iter().any(|label| labels.contains(label)) || !node.ready() {
                continue;
            }
            let cpu = node.status.allocatable.cpu_milli;
            if node.zone().is_empty() || cpu == 0 {
                return;
            }
            *by_zone.entry(node.zone()).or_default() += cpu;
        }
        let total: i64 = by_zone.values().sum();
        if total > 0 && by_zone.len() >= 2 {
            let ratio = |(zone, cpu): (&str, i64)| (Text::from(zone), cpu as f64 / total as f64);
            self.ratios = Some(by_zone.into_iter().map(ratio).collect());
        }
    }

    /// `RemoveHints`; whether there were any.
    pub fn remove(&mut self, service: Id<Service>) -> bool {
        self.endpoints.remove(&service);
        self.populated.remove(&service)
    }

    /// `AddHints`.
    pub(super) fn add_hints(
        &mut self,
        id: Id<Service>,
        view: &View,
        difference: &mut Difference,
    ) -> Vec<Told> {
        if !self.known {
            self.count_nodes(view);
        }
        match self.allocate(difference) {
            Ok(counts) => {
                let new = self.populated.insert(id);
                self.endpoints.insert(id, counts);
                let message = "Topology Aware Hints has been enabled, addressType: IPv4";
                new.then(|| (ENABLED, message.to_owned()))
                    .into_iter()
                    .collect()
            }
            Err(why) => {
                self.remove(id);
                remove_hints(difference);
                vec![(DISABLED, format!("{why}, addressType: IPv4"))]
            }
        }
    }

    /// Gives every ready endpoint a zone; returns how many each zone has then.
    fn allocate(&self, difference: &mut Difference) -> Result<BTreeMap<Text, i32>, String> {
        let ready = |slice: &EndpointSlice| slice.endpoints.iter().filter(|e| e.ready).count();
        let total = written(difference).map(|s| ready(s)).sum::<usize>()
            + difference
                .unchanged
                .iter()
                .map(|(_, s)| ready(s))
                .sum::<usize>();
        let allocations = self.allocations(i32::try_from(total).unwrap_or(i32::MAX))?;
        // `getAllocatedHintsByZone`
        let mut counts: BTreeMap<Text, i32> = BTreeMap::new();
        take(difference, |slice| {
            match of_slice(slice, &counts, &allocations) {
                Some(of_slice) => {
                    for (zone, n) in of_slice {
                        *counts.entry(zone).or_default() += n;
                    }
                    false
                }
                None => true,
            }
        });
        // 1. Everybody is for its own zone.
        for slice in written(difference) {
            for endpoint in slice.endpoints.iter_mut().filter(|e| e.ready) {
                if endpoint.zone.is_empty() {
                    return Err("One or more endpoints do not have a zone specified".into());
                }
                *counts.entry(endpoint.zone.clone()).or_default() += 1;
                endpoint.hints = close(endpoint, false);
            }
        }
        // 2. and 3. Zones that have too many give to those that have too few.
        let (mut giving, mut receiving) = exchange(&allocations, &counts);
        for slice in written(difference) {
            for endpoint in slice.endpoints.iter_mut().filter(|e| e.ready) {
                let zone = endpoint.zone.clone();
                if !giving.contains_key(&zone) {
                    continue;
                }
                let Some(to) = receiving.keys().next().cloned() else {
                    continue;
                };
                let hints = Hints {
                    zones: vec![to.clone()],
                    nodes: Vec::new(),
                };
                endpoint.hints = Some(Arc::new(hints));
                one_less(&mut giving, &zone);
                one_less(&mut receiving, &to);
                *counts.entry(to).or_default() += 1;
                *counts.entry(zone).or_default() -= 1;
            }
        }
        match counts.is_empty() {
            true => Err("No hints allocated for zones".into()),
            false => Ok(counts),
        }
    }

    /// `getAllocations`.
    fn allocations(&self, endpoints: i32) -> Result<BTreeMap<Text, Allocation>, String> {
        let Some(ratios) = &self.ratios else {
            let why = "Insufficient Node information: allocatable CPU or zone not specified on \
                       one or more nodes";
            return Err(why.into());
        };
        let zones = i32::try_from(ratios.len()).unwrap_or(i32::MAX);
        let counted = format!("({endpoints} endpoints, {zones} zones)");
        if zones > endpoints {
            return Err(format!("Insufficient number of endpoints {counted}"));
        }
        let allocation = |(zone, ratio): (&Text, &f64)| {
            let desired = ratio * f64::from(endpoints);
            let minimum = minimum(desired);
            let allocation = Allocation {
                minimum,
                maximum: 0,
                desired: desired.max(f64::from(minimum)),
            };
            (zone.clone(), allocation)
        };
        let mut all: BTreeMap<Text, Allocation> = ratios.iter().map(allocation).collect();
        let least: i32 = all.values().map(|a| a.minimum).sum();
        if least > endpoints {
            return Err(format!(
                "Unable to allocate minimum required endpoints to each zone without exceeding \
                 overload threshold {counted}"
            ));
        }
        for allocation in all.values_mut() {
            allocation.maximum = allocation.minimum + endpoints - least;
        }
        Ok(all)
    }
}

/// So many endpoints a zone must have at least that should have so many.
fn minimum(desired: f64) -> i32 {
    let least = (desired * (1.0 / (1.0 + OVERLOAD))).ceil();
    // A count of endpoints: small and not negative.
    least as i32
}

fn one_less(zones: &mut BTreeMap<Text, i32>, zone: &Text) {
    if let Some(n) = zones.get_mut(zone) {
        *n -= 1;
        if *n <= 0 {
            zones.remove(zone);
        }
    }
}

/// `getHintsByZone`: what an unchanged slice gives to zones; none when it has to be changed.
fn of_slice(
    slice: &EndpointSlice,
    allocated: &BTreeMap<Text, i32>,
    allocations: &BTreeMap<Text, Allocation>,
) -> Option<BTreeMap<Text, i32>> {
    let mut counts: BTreeMap<Text, i32> = BTreeMap::new();
    for endpoint in slice.endpoints.iter().filter(|e| e.ready) {
        let zones = &endpoint.hints.as_ref()?.zones;
        if zones.is_empty() || !zones.iter().all(|zone| allocations.contains_key(zone)) {
            return None;
        }
        for zone in zones {
            *counts.entry(zone.clone()).or_default() += 1;
        }
    }
    let fits = |(zone, n): (&Text, &i32)| {
        let before = allocated.get(zone).copied().unwrap_or(0);
        let allocation = allocations.get(zone);
        allocation.is_some_and(|allocation| n + before <= allocation.maximum)
    };
    counts.iter().all(fits).then_some(counts)
}

type Zones = BTreeMap<Text, i32>;

/// `getGivingAndReceivingZones`.
fn exchange(allocations: &BTreeMap<Text, Allocation>, counts: &Zones) -> (Zones, Zones) {
    let (mut much, mut little): (BTreeMap<&Text, f64>, BTreeMap<&Text, f64>) = Default::default();
    for (zone, allocation) in allocations {
        let have = f64::from(counts.get(zone).copied().unwrap_or(0));
        if have > allocation.desired {
            much.insert(zone, have - allocation.desired);
        } else if have < allocation.desired {
            little.insert(zone, allocation.desired - have);
        }
    }
    let (mut giving, mut receiving) = (Zones::new(), Zones::new());
    while let (Some((from, more)), Some((to, less))) = (most(&much), most(&little)) {
        if (more < 1.0 && less < 1.0) || more < 0.5 || less < 0.5 {
            break;
        }
        *giving.entry(from.clone()).or_default() += 1;
        *receiving.entry(to.clone()).or_default() += 1;
        much.insert(from, more - 1.0);
        little.insert(to, less - 1.0);
    }
    (giving, receiving)
}

/// `getMost`.
fn most<'a>(zones: &BTreeMap<&'a Text, f64>) -> Option<(&'a Text, f64)> {
    let mut most: Option<(&Text, f64)> = None;
    for (zone, n) in zones {
        if *n > most.map_or(0.0, |(_, most)| most) {
            most = Some((*zone, *n));
        }
    }
    most
}

/// `serviceOverloaded`.
fn overloaded(counts: &Zones, ratios: Option<&BTreeMap<Text, f64>>) -> bool {
    if counts.is_empty() {
        return false;
    }
    let Some(ratios) = ratios else { return true };
    let total: f64 = counts.values().map(|n| f64::from(*n)).sum();
    ratios.iter().any(|(zone, ratio)| {
        let have = counts.get(zone);
        have.is_none_or(|have| *have < minimum(total * ratio))
    })
}

#[cfg(test)]
mod tests;
