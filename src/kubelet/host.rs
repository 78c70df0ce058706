//! The node-wide part of a kubelet: who it is, its clocks, and how it speaks.
//!
//! Pod workers get a [`Host`] beside themselves; it holds no pod. Its periodic loops are grids of
//! instants that need no timers of their own: whoever waits for a relist or a tick computes the
//! next one, so an idle kubelet costs nothing but its lease.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::addresses::Addresses;
use super::agent::Event;
use super::config::KubeletConfig;
use super::health::Health;
use super::images::Images;
use super::lease::{Renew, Renewal};
use super::node_status::Reporting;
use super::pod_worker::PodWorker;
use super::pressure::Shortage;
use super::runtime::{Call, RuntimeRequest};
use super::shutdown::Shutdown;
use super::telling::Telling;
use crate::api::container::ConfigRef;
use crate::api::node::LEASES;
use crate::api::pod::VolumeSource;
use crate::api::pod_status::PodIp;
use crate::api::{
    ConfigMap, Lease, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Shared, Text,
    VolumeAttachment, declared, storage,
};
use crate::client::{Budget, Outbox};
use crate::engine::draws::{Draws, Purpose, entity_key};
use crate::engine::{Line, Time, nanos};
use crate::store::write::Trigger;
use crate::store::{Cause, Id, Origin, View, Write};

/// What a kubelet is given to act with, for one dispatch.
pub struct Cx<'a> {
    /// The instant.
    pub now: Time,
    /// Where timers and writes go.
    pub out: &'a mut Outbox<Event>,
    /// Where requests to the runtime go.
    pub requests: &'a mut Vec<RuntimeRequest>,
    /// Named draws.
    pub draws: &'a Draws,
    /// What the API server has.
    pub lookup: &'a dyn Lookup,
    /// Where a renewal of the lease goes.
    pub renew: &'a mut Option<Renew>,
}

/// What a kubelet can look up in the API: its watches of ConfigMaps, Secrets and its Node, and the
/// one GET that a lease takes.
pub trait Lookup {
    /// Whether the ConfigMap or Secret that `wanted` names exists in `namespace`.
    fn config(&self, wanted: &ConfigRef, namespace: &str) -> Found;
    /// The pod's volumes that have to be attached to the node before they can be mounted, and
    /// whether they are; `None` while a claim is not bound.
    fn attachments(&self, _pod: &Pod, _node: &Text) -> Option<Vec<(Text, bool)>> {
        Some(Vec::new())
    }
    /// The Node of this name.
    fn node(&self, name: &Text) -> Option<(Id<Node>, Arc<Node>)>;
    /// The Node of this number, where that is faster to look up.
    fn node_at(&self, _id: Id<Node>) -> Option<&Arc<Node>> {
        None
    }
    /// The Lease of the node of this name.
    fn lease(&self, node: &Text) -> Option<Id<Lease>>;
}

/// What was found of a ConfigMap or Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is there, with the key that was asked for.
    Yes,
    /// There is no such object.
    NoObject,
    /// The object does not have the key.
    NoKey,
}

/// Annotation of a claim: the volume controller has finished binding it.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";

impl Lookup for View {
    fn config(&self, wanted: &ConfigRef, namespace: &str) -> Found {
        let key = wanted.key.as_ref();
        let has = if wanted.secret {
            let found = self.of::<Secret>().find(namespace, &wanted.name);
            found.map(|(_, o)| key.is_none_or(|key| o.data.contains(key)))
        } else {
            let found = self.of::<ConfigMap>().find(namespace, &wanted.name);
            let has = |o: &ConfigMap, key: &Text| o.data.contains(key) || o.binary.contains(key);
            found.map(|(_, o)| key.is_none_or(|key| has(o, key)))
        };
        match has {
            None => Found::NoObject,
            Some(false) => Found::NoKey,
            Some(true) => Found::Yes,
        }
    }

    fn attachments(&self, pod: &Pod, node: &Text) -> Option<Vec<(Text, bool)>> {
        let mut all = Vec::new();
        for volume in &pod.spec.volumes {
            let Some(name) = volume.claim_name(&pod.meta.name) else {
                continue;
            };
            let claims = self.of::<PersistentVolumeClaim>();
            let (_, claim) = claims.named(&pod.meta.namespace, &name)?;
            if volume.source == VolumeSource::Ephemeral && claim.is_for(&pod.meta).is_err() {
                return None;
            }
            if !claim.meta.annotations.contains(BIND_COMPLETED) {
                return None;
            }
            let volumes = self.of::<PersistentVolume>();
            let (_, volume) = volumes.named(&Text::default(), &claim.volume_name)?;
            if storage::of_volume(volume).attach.is_some() {
                let name = &volume.meta.name;
                let attachment = storage::attachment_name(name, node);
                let found = self
                    .of::<VolumeAttachment>()
                    .named(&Text::default(), &attachment);
                let attached = found.is_some_and(|(_, a)| a.status.attached && !a.meta.deleting());
                all.push((name.clone(), attached));
            }
        }
        Some(all)
    }

    fn node(&self, name: &Text) -> Option<(Id<Node>, Arc<Node>)> {
        let (id, row) = self.nodes().named(&Text::default(), name)?;
        Some((id, row.clone()))
    }

    fn node_at(&self, id: Id<Node>) -> Option<&Arc<Node>> {
        self.nodes().get(id)
    }

    fn lease(&self, node: &Text) -> Option<Id<Lease>> {
        Some(self.of::<Lease>().find(LEASES, node)?.0)
    }
}

/// A loop that runs every `period`, at `phase` after each multiple of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    period_ns: u64,
    phase_ns: u64,
}

impl Grid {
    /// The loop that began at `start`.
    pub(super) fn from_start(period: Duration, start: Time) -> Grid {
        Grid::with_phase(period, start.as_nanos())
    }

    pub(super) fn with_phase(period: Duration, phase_ns: u64) -> Grid {
        let period_ns = nanos(period).max(1);
        Grid {
            period_ns,
            phase_ns: phase_ns % period_ns,
        }
    }

    /// The first instant after `now`.
    pub(super) fn after(self, now: Time) -> Time {
        let now = now.as_nanos();
        let Some(passed) = now.checked_sub(self.phase_ns) else {
            return Time::from_nanos(self.phase_ns);
        };
        Time::from_nanos(self.phase_ns + (passed / self.period_ns + 1) * self.period_ns)
    }

    /// The last instant at or before `now`; the beginning of the run when there was none.
    pub(super) fn last(self, now: Time) -> Time {
        let passed = now.as_nanos().saturating_sub(self.phase_ns);
        if now.as_nanos() < self.phase_ns {
            return Time::ZERO;
        }
        Time::from_nanos(self.phase_ns + passed / self.period_ns * self.period_ns)
    }
}

/// Who a write's reply is for: the kind of write, whose, and of which life of the kubelet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Status,
    Delete,
    Event,
    Lease,
    LeaseCreate,
    NodeStatus,
    Register,
}

impl Topic {
    const ALL: [Topic; 7] = [
        Topic::Status,
        Topic::Delete,
        Topic::Event,
        Topic::Lease,
        Topic::LeaseCreate,
        Topic::NodeStatus,
        Topic::Register,
    ];

    pub(super) fn token(self, life: u16, pod: u32) -> u64 {
        (self as u64) << 48 | u64::from(life) << 32 | u64::from(pod)
    }

    /// Topic, life and pod of a token.
    pub(super) fn parse(token: u64) -> Option<(Topic, u16, u32)> {
        let topic = *Topic::ALL.get(usize::try_from(token >> 48).ok()?)?;
        let life = u16::try_from(token >> 32 & 0xffff).ok()?;
        let pod = u32::try_from(token & 0xffff_ffff).ok()?;
        Some((topic, life, pod))
    }
}

const RELIST_PHASE: Purpose = Purpose::new("kubelet/relist-phase");
const TICK_PHASE: Purpose = Purpose::new("kubelet/tick-phase");
const BATCH_PHASE: Purpose = Purpose::new("kubelet/batch-phase");

/// `pkg/kubelet/kubelet.go`: the sync loop looks for waiting pods every second.
const TICK: Duration = Duration::from_secs(1);
/// `pkg/kubelet/status/status_manager.go :: syncPeriod`.
const BATCH: Duration = Duration::from_secs(10);

/// The node-wide part of a kubelet.
#[derive(Debug)]
pub(super) struct Host {
    /// The machine, as the runtime knows it.
    pub(super) machine: Id<Node>,
    /// The Node object, as the API server knows it.
    pub(super) api_node: Option<Id<Node>>,
    pub(super) row: Arc<Node>,
    pub(super) config: Arc<KubeletConfig>,
    /// Key of the node's draws.
    pub(super) entity: u64,
    /// When this life began.
    pub(super) started: Time,
    /// Whether it was up long before the run began.
    pub(super) established: bool,
    /// Counts the process's lives.
    pub(super) life: u16,
    pub(super) relists: Grid,
    pub(super) ticks: Grid,
    pub(super) batches: Grid,
    /// When the armed relist is due.
    pub(super) relist_at: Time,
    /// When the armed status batch is due.
    pub(super) batch_at: Time,
    /// What set the current dispatch off.
    pub(super) trigger: Trigger,
    pub(super) budget: Budget,
    pub(super) telling: Telling,
    pub(super) images: Images,
    pub(super) renewal: Box<Renewal>,
    pub(super) reporting: Reporting,
    pub(super) shortage: Shortage,
    pub(super) shutdown: Option<Box<Shutdown>>,
    /// Critical pods that wait for others to make room.
    pub(super) waiting: u16,
    /// What it declares: what its Node said when the machine came, or else what the reference
    /// version's does.
    pub(super) declared: Shared<Vec<Text>>,
    /// Volumes that are, or are about to be, mounted, and for which pods.
    pub(super) in_use: BTreeSet<(Text, Id<Pod>)>,
    /// Numbers of the addresses in use, and of the one given last.
    addresses: Addresses,
    last_address: u32,
    /// Pods whose status is to be sent, and the one under way with its version.
    pub(super) statuses: Line<Id<Pod>>,
    pub(super) sending: Option<(Id<Pod>, u32)>,
    /// When the answer to it is there, if it is known to be a success of which nobody will be told;
    /// [`Time::MAX`] otherwise.
    pub(super) answered: Time,
    /// The timer for that is set.
    awaiting: bool,
}

impl Host {
    pub(super) fn new(machine: Id<Node>, row: Arc<Node>, config: Arc<KubeletConfig>) -> Host {
        Host {
            machine,
            api_node: None,
            entity: entity_key(&[&row.meta.name]),
            started: Time::ZERO,
            established: false,
            life: 0,
            relists: Grid::from_start(config.relist_period, Time::ZERO),
            ticks: Grid::from_start(TICK, Time::ZERO),
            batches: Grid::from_start(BATCH, Time::ZERO),
            relist_at: Time::MAX,
            batch_at: Time::MAX,
            trigger: Trigger::Start,
            budget: Budget::per_second(config.api_qps, config.api_burst),
            telling: Telling::new(&config),
            images: Images::new(&config, &row),
            renewal: Box::default(),
            reporting: Reporting::default(),
            shortage: Shortage::default(),
            shutdown: None,
            waiting: 0,
            in_use: BTreeSet::new(),
            addresses: Addresses::default(),
            last_address: 1,
            statuses: Line::default(),
            sending: None,
            answered: Time::MAX,
            awaiting: false,
            declared: match row.status.declared_features.is_empty() {
                true => declared::by_kubelet().into(),
                false => row.status.declared_features.clone(),
            },
            row,
            config,
        }
    }

    /// A new life of the process begins: everything but the machine is forgotten.
    pub(super) fn begin(&mut self, cx: &Cx<'_>, established: bool) {
        let images = std::mem::take(&mut self.images.present);
        let next = Host {
            in_use: std::mem::take(&mut self.in_use),
            addresses: std::mem::take(&mut self.addresses),
            api_node: self.api_node,
            life: self.life + 1,
            started: cx.now,
            established,
            last_address: self.last_address,
            ..Host::new(self.machine, self.row.clone(), self.config.clone())
        };
        *self = next;
        self.images.present = images;
        let phase = |purpose, period: Duration| {
            let phase = if established {
                let bound = nanos(period).max(1);
                cx.draws.below(purpose, self.entity, 0, bound)
            } else {
                cx.now.as_nanos()
            };
            Grid::with_phase(period, phase)
        };
        self.relists = phase(RELIST_PHASE, self.config.relist_period);
        self.ticks = phase(TICK_PHASE, TICK);
        self.batches = phase(BATCH_PHASE, BATCH);
    }

    /// What the node's conditions are to say.
    pub(super) fn health(&self) -> Health {
        Health {
            pressures: self.shortage.pressures().collect(),
            shutting_down: self.shutting_down(),
        }
    }

    /// Whether this span has passed since the process started.
    pub(super) fn up_for(&self, span: Duration, now: Time) -> bool {
        self.established || now.since(self.started) >= span
    }

    pub(super) fn cause(&self, rule: &'static str) -> Cause {
        Cause {
            origin: Origin::Kubelet(self.machine.0),
            trigger: self.trigger,
            rule,
        }
    }

    /// Sends a write out of the request budget.
    pub(super) fn send(
        &mut self,
        cx: &mut Cx<'_>,
        write: Write,
        rule: &'static str,
        topic: Topic,
        pod: u32,
    ) {
        let at = self.budget.take(cx.now);
        let token = topic.token(self.life, pod);
        cx.out.send(at, write, self.cause(rule), token);
    }

    /// Sends a write of the heartbeat client, which has no budget.
    pub(super) fn beat(&mut self, cx: &mut Cx<'_>, write: Write, rule: &'static str, topic: Topic) {
        let token = topic.token(self.life, 0);
        cx.out.send(cx.now, write, self.cause(rule), token);
    }

    /// The status of a pod was written, and the answer is back at `answered`; returns whether that
    /// can be left to whoever acts next. Most pods have nothing more to tell by then.
    pub(super) fn status_taken(&mut self, pod: Id<Pod>, answered: Time) -> bool {
        let left = self.statuses.is_empty() && self.sending.is_some_and(|(of, _)| of == pod);
        if left {
            (self.answered, self.awaiting) = (answered, false);
        }
        left
    }

    /// Another status waits for the answer to the one under way, of which nobody may be told.
    pub(super) fn await_answer(&mut self, cx: &mut Cx<'_>) {
        if self.answered < Time::MAX && !self.awaiting && !self.statuses.is_empty() {
            self.awaiting = true;
            cx.out.at(self.answered, Event::Told);
        }
    }

    /// Asks the runtime.
    pub(super) fn ask(&self, cx: &mut Cx<'_>, what: Call) {
        cx.requests.push(RuntimeRequest {
            node: self.machine,
            what,
        });
    }

    /// Makes sure that the next relist happens.
    pub(super) fn arm_relist(&mut self, cx: &mut Cx<'_>) {
        if self.relist_at == Time::MAX {
            self.relist_at = self.relists.after(cx.now);
            cx.out.at(self.relist_at, Event::Relist);
        }
    }

    /// Makes sure that the next status batch happens.
    pub(super) fn arm_batch(&mut self, cx: &mut Cx<'_>) {
        if self.batch_at == Time::MAX {
            self.batch_at = self.batches.after(cx.now);
            cx.out.at(self.batch_at, Event::StatusBatch);
        }
    }

    /// `wait.Jitter`: `span` and up to `factor` of it more.
    pub(super) fn jitter(
        cx: &Cx<'_>,
        purpose: Purpose,
        entity: u64,
        n: u64,
        span: Duration,
        factor: f64,
    ) -> Duration {
        let key = (purpose, entity, n);
        Duration::from_nanos(Host::jittered(cx.draws, key, nanos(span), factor))
    }

    /// As [`Host::jitter`], of nanoseconds, and outside of a dispatch.
    #[inline]
    pub(super) fn jittered(
        draws: &Draws,
        (purpose, entity, n): (Purpose, u64, u64),
        nanos: u64,
        factor: f64,
    ) -> u64 {
        let more = nanos as f64 * factor * draws.unit(purpose, entity, n);
        nanos.saturating_add(more as u64)
    }

    /// The next free address of the node's range, in turn: an address comes back only after all
    /// others were given (the `host-local` plugin's way).
    pub(super) fn take_address(&mut self) -> PodIp {
        let size = 1u32 << self.config.pod_bits;
        let first = self
            .config
            .pod_network
            .wrapping_add(self.machine.0 << self.config.pod_bits);
        for _ in 0..size {
            self.last_address = if self.last_address + 2 >= size {
                2
            } else {
                self.last_address + 1
            };
            let at = self.last_address as usize;
            if self.addresses.take(at) {
                break;
            }
        }
        PodIp(first.wrapping_add(self.last_address))
    }

    /// The pod's address is free again.
    pub(super) fn free_address(&mut self, pod: &PodWorker) {
        let mask = (1u32 << self.config.pod_bits) - 1;
        if let Some(ip) = pod.record.ip.filter(|_| !pod.row.spec.host_network) {
            self.addresses.free((ip.0 & mask) as usize);
        }
    }

    /// The machine has booted: no address is in use.
    pub(super) fn free_all_addresses(&mut self) {
        // What the machine forgot with its power: addresses, and what was mounted.
        self.in_use.clear();
        self.addresses.clear();
    }

    /// The node's own address.
    pub(super) fn address(&self) -> PodIp {
        PodIp(self.config.node_network.wrapping_add(self.machine.0 + 1))
    }
}
