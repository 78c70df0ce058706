//! EndpointSlices: which pods a Service reaches, and in what condition.
//!
//! A port of `pkg/controller/endpointslice/endpointslice_controller.go` with the reconciler of
//! `staging/src/k8s.io/endpointslice`. A pod's change finds the Services that select it; a sync
//! compares the pods with the slices that exist ([`reconcile`]) and writes the difference.
//!
//! The controller remembers which slice revisions it wrote. While its informer has not caught up
//! with them a sync fails as stale and is tried again a second later: on a busy Service this is
//! what endpoint updates wait for.
//!
//! Which zone or node should use an endpoint is [`topology`]'s.

pub mod reconcile;
pub mod topology;

use std::collections::BTreeMap;
use std::time::Duration;

use topology::TopologyCache;

use crate::api::{EndpointSlice, Kind, KubeEvent, Labels, Pod, Service, Text, Uid};
use crate::client::outbox::Reply;
use crate::client::{Controller, Keys, Plan, SyncContext, Watches};
use crate::control::pods;
use crate::engine::Time;
use crate::store::{ApiError, Change, Id, ObjectId, Op, View, Write};

/// Value of the label `endpointslice.kubernetes.io/managed-by`.
pub const MANAGED_BY: &str = "endpointslice-controller.k8s.io";
/// Label that names the managing controller.
pub const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
/// Label that names the Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// `endpointSliceChangeMinSyncDelay`.
const SLICE_CHANGE_DELAY: Duration = Duration::from_secs(1);

/// The controller with its `endpointSliceTracker`: revisions of slices it wrote, by Service.
#[derive(Debug, Default)]
pub struct EndpointSliceController {
    tracker: BTreeMap<Id<Service>, BTreeMap<ObjectId, Tracked>>,
    /// `--endpoint-updates-batch-period`.
    batch: Duration,
    /// `--max-endpoints-per-slice`; 0 stands for the default of 100.
    max_endpoints: usize,
    /// How nodes and endpoints are spread over zones.
    topology: TopologyCache,
}

/// What the controller expects of a slice that it wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tracked {
    /// It has at least this generation.
    Generation(u32, Uid),
    /// It is gone.
    Deleted,
}

impl EndpointSliceController {
    /// With the flags `--endpoint-updates-batch-period` and `--max-endpoints-per-slice`.
    pub fn new(batch: Duration, max_endpoints: usize) -> Self {
        EndpointSliceController {
            batch,
            max_endpoints,
            ..Default::default()
        }
    }

    fn limit(&self) -> usize {
        if self.max_endpoints == 0 {
            100
        } else {
            self.max_endpoints
        }
    }

    /// `EndpointSliceTracker.StaleSlices`: the informer has not seen what was written.
    fn stale(&self, service: Id<Service>, view: &View) -> bool {
        let Some(tracked) = self.tracker.get(&service) else {
            return false;
        };
        tracked.iter().any(|(slice, expected)| {
            let row = slice
                .typed::<EndpointSlice>()
                .and_then(|id| view.of().get(id));
            match expected {
                // It should be gone, or at least on its way.
                Tracked::Deleted => row.is_some_and(|row| !row.meta.deleting()),
                Tracked::Generation(generation, _) => {
                    row.is_some_and(|row: &std::sync::Arc<EndpointSlice>| {
                        row.meta.generation < *generation
                    })
                }
            }
        }) || tracked.iter().any(|(slice, expected)| {
            // A slice that was created and has not arrived.
            matches!(expected, Tracked::Generation(..))
                && slice
                    .typed::<EndpointSlice>()
                    .is_none_or(|id| view.of().get(id).is_none())
        })
    }

    fn service_of(slice: &EndpointSlice, view: &View) -> Option<Id<Service>> {
        let name = slice.service_name()?;
        view.of::<Service>()
            .named(&slice.meta.namespace, name)
            .map(|(id, _)| id)
    }

    fn on_pod(&self, change: &Change, view: &View, keys: &mut Keys<Id<Service>>) {
        if view.of::<Service>().is_empty() {
            return;
        }
        let Some((old, new)) = change.rows::<Pod>() else {
            return;
        };
        let (before, after) = match change.op {
            Op::Delete => (old.or(new), None),
            _ => (old, new),
        };
        if let (Some(before), Some(after)) = (before, after)
            && before.meta.labels == after.meta.labels
            && !endpoint_changed(before, after)
        {
            return;
        }
        let Some(any) = after.or(before) else { return };
        let selected = |labels: &Labels, service: &Service| {
            service
                .selector
                .iter()
                .all(|(k, v)| labels.get(k) == Some(v))
        };
        for (id, service) in view.of::<Service>().in_namespace(&any.meta.namespace) {
            if service.selector.is_empty() {
                continue;
            }
            let hit = [before, after]
                .into_iter()
                .flatten()
                .any(|p| selected(&p.meta.labels, service));
            if hit && self.batch.is_zero() {
                keys.add(id);
            } else if hit {
                keys.add_after(id, self.batch);
            }
        }
    }

    fn on_slice(&mut self, change: &Change, view: &View, keys: &mut Keys<Id<Service>>) {
        let (Some(object), Some((old, new))) = (change.object, change.rows::<EndpointSlice>())
        else {
            return;
        };
        let Some(slice) = new.or(old) else { return };
        let moved = old.filter(|old| old.service_name() != slice.service_name());
        if let Some(old) = moved {
            // The label that names the Service was changed: both are looked at.
            let both = [slice, old].into_iter();
            for service in both.filter_map(|s| Self::service_of(s, view)) {
                keys.add_after(service, SLICE_CHANGE_DELAY.max(self.batch));
            }
            return;
        }
        if slice
            .meta
            .labels
            .get(MANAGED_BY_LABEL)
            .is_none_or(|v| v != MANAGED_BY)
        {
            return;
        }
        let Some(service) = Self::service_of(slice, view) else {
            return;
        };
        let tracked = self.tracker.entry(service).or_default();
        let expected = match (change.op, tracked.get(&object)) {
            (Op::Delete, Some(Tracked::Deleted)) => {
                tracked.remove(&object);
                true
            }
            (Op::Delete, Some(_)) => {
                tracked.remove(&object);
                false
            }
            (Op::Delete, None) => true,
            (_, Some(Tracked::Generation(generation, uid))) => {
                *uid == slice.meta.uid && *generation >= slice.meta.generation
            }
            (_, Some(Tracked::Deleted)) => true,
            (_, None) => false,
        };
        if !expected {
            keys.add_after(service, SLICE_CHANGE_DELAY.max(self.batch));
        }
    }
}

/// `podEndpointsChanged` of `staging/src/k8s.io/endpointslice/util/controller_utils.go`.
fn endpoint_changed(old: &Pod, new: &Pod) -> bool {
    old.meta.deleting() != new.meta.deleting()
        || old.status.ready() != new.status.ready()
        || old.status.ip != new.status.ip
        || old.node_name != new.node_name
        || old.status.phase.terminal() != new.status.phase.terminal()
}

/// A sync of a Service's slices that failed.
fn failed(service: &Service, error: &str) -> KubeEvent {
    let name = service.meta.full_name();
    let message = format!("Error updating Endpoint Slices for Service {name}: {error}");
    let reason = "FailedToUpdateEndpointSlices";
    pods::event(service, "endpoint-slice-controller", reason, message, true)
}

/// What `finalize` returns when a request fails; nothing when that is no failure.
fn failure(
    service: &Service,
    write: &Write,
    error: &ApiError,
    cx: &SyncContext<'_>,
) -> Option<String> {
    let of = format!("EndpointSlice for Service {}", service.meta.full_name());
    let slice = |object: &ObjectId| {
        let row = cx.view.row(*object);
        row.map_or_else(Text::default, |row| row.meta().name.clone())
    };
    match write {
        Write::Create(_) if error.namespace_terminating() => None,
        Write::Create(_) => Some(format!("failed to create {of}: {error}")),
        Write::Update(object, _) => {
            let name = slice(object);
            Some(format!("failed to update {name} {of}: {error}"))
        }
        Write::Delete { object, .. } if !matches!(error, ApiError::NotFound(_)) => {
            let name = slice(object);
            Some(format!("failed to delete {name} {of}: {error}"))
        }
        _ => None,
    }
}

impl Controller for EndpointSliceController {
    type Key = Id<Service>;
    const NAME: &'static str = "endpointslice-controller";
    const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(1000));
    const MAX_RETRIES: Option<u32> = Some(15);
    const WATCHES: Watches = Watches::kind(Kind::Service)
        .and(Watches::kind(Kind::EndpointSlice))
        .and(Watches::kind(Kind::Node))
        .and(Watches::PODS_WITH_SERVICES);

    fn keys(&mut self, change: &Change, view: &View, _now: Time, keys: &mut Keys<Id<Service>>) {
        match change.kind() {
            Kind::Pod => self.on_pod(change, view, keys),
            Kind::Service => {
                if let Some(id) = change.object.and_then(ObjectId::typed::<Service>) {
                    keys.add(id);
                }
            }
            Kind::EndpointSlice => self.on_slice(change, view, keys),
            Kind::Node => self.topology.on_node(change, view, keys),
            _ => {}
        }
    }

    fn sync(&mut self, key: Id<Service>, cx: &SyncContext<'_>) -> Plan {
        let view = cx.view;
        let Some(service) = view.of::<Service>().get(key) else {
            self.tracker.remove(&key);
            self.topology.remove(key);
            return Plan::none();
        };
        if !service.external_name.is_empty() || service.selector.is_empty() {
            return Plan::none();
        }
        if self.stale(key, view) {
            return Plan {
                error: Some("EndpointSlice informer cache is out of date".into()),
                ..Plan::none()
            };
        }
        let mut plan = reconcile::plan(key, service, view, self.limit(), &mut self.topology);
        if let Some(error) = &plan.error {
            let event = failed(service, error);
            plan.event(event);
        }
        plan
    }

    fn on_reply(
        &mut self,
        key: Id<Service>,
        write: &Write,
        reply: &Reply,
        cx: &SyncContext<'_>,
        events: &mut Vec<KubeEvent>,
    ) {
        let receipt = match reply {
            Ok(receipt) => receipt,
            Err(error) => {
                let service = cx.view.of::<Service>().get(key);
                let told = service.and_then(|s| Some(failed(s, &failure(s, write, error, cx)?)));
                events.extend(told);
                return;
            }
        };
        let Some(object) = receipt.object else { return };
        let tracked = self.tracker.entry(key).or_default();
        match (write, &receipt.row) {
            (Write::Delete { .. }, _) => {
                tracked.insert(object, Tracked::Deleted);
            }
            (_, Some(row)) => {
                let meta = row.meta();
                tracked.insert(object, Tracked::Generation(meta.generation, meta.uid));
            }
            _ => {}
        }
    }

    /// In a namespace that is being terminated nothing can be created any more.
    fn forgives(&self, write: &Write, error: &ApiError) -> bool {
        matches!(write, Write::Create(_)) && error.namespace_terminating()
    }

    /// The first list: every Service is looked at.
    fn resync(&mut self, view: &View, _now: Time, keys: &mut Keys<Id<Service>>) {
        keys.now
            .extend(view.of::<Service>().iter().map(|(id, _)| id));
    }

    fn restart(&mut self) {
        self.tracker.clear();
        self.topology = TopologyCache::default();
    }
}

#[cfg(test)]
mod tests;
