//! Requests on their way: latency, loss, commit, reply.
//!
//! A component's write arrives at the API server some milliseconds after it was sent and its answer
//! travels back for some more; in between others may write, which is where stale-read conflicts
//! come from. Requests live in a slab, so that the events that carry them stay small.

use std::time::Duration;

use fixedbitset::FixedBitSet;

use super::renewals::Renewals;
pub use super::renewals::Renewing;
use crate::api::{Kind, Lease, Meta, Row};
use crate::client::{Reply, Send};
use crate::engine::{Digest, Dist, Draws, Often, Purpose, Time, entity_key};
use crate::kubelet::Renew;
use crate::load::Key;
use crate::store::{ApiError, Cause, Id, ObjectId, Patch, Receipt, Store, View, Write};

const LATENCY: Purpose = Purpose::new("api/latency");

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A controller of the controller manager, by its place in the list.
    Controller(u8),
    /// The scheduler.
    Scheduler,
    /// The kubelet of this node.
    Kubelet(u32),
    /// The scenario's kubectl.
    Kubectl,
    /// Whoever submits the pods of a stream; asks nothing of the answer.
    Feed,
}

/// A request between its sender and the answer.
#[derive(Debug)]
struct InFlight {
    from: Sender,
    token: u64,
    cause: Cause,
    /// Until it is carried out.
    write: Option<Write>,
    sent: Time,
    /// From sending to the answer, in nanoseconds.
    latency_ns: u64,
    reply: Option<Reply>,
    /// How often its client has sent it before.
    tries: u8,
    /// A fault has kept it waiting.
    late: bool,
    /// Of which life of its sender.
    life: u32,
    /// Every admission webhook that it concerns has been asked.
    reviewed: bool,
}

/// What has become of a request that was carried out.
#[derive(Clone, Copy, Debug)]
pub struct Committed {
    /// Who sent it.
    pub from: Sender,
    /// The sender's name for it.
    pub token: u64,
    /// When its answer is back at the sender.
    pub back: Time,
    /// It was one whose success its sender mostly does nothing about: a KubeEvent, or the status of
    /// a pod that is not about to be deleted.
    pub told: bool,
}

/// A request that has not been carried out yet.
pub(super) struct UnderWay<'a> {
    pub(super) from: Sender,
    pub(super) write: &'a Write,
    /// From sending to the answer.
    pub(super) latency: Duration,
    /// What it is about, by key.
    pub(super) about: u64,
    pub(super) sent: Time,
    pub(super) tries: u8,
    pub(super) late: bool,
    /// Every admission webhook that it concerns has been asked.
    pub(super) reviewed: bool,
}

/// What a request takes of its latency until it arrives: three quarters.
pub(super) fn there(latency_ns: u64) -> u64 {
    latency_ns / 4 * 3 + latency_ns % 4 * 3 / 4
}

/// How long requests take.
#[derive(Clone, Debug)]
pub struct ApiLatency {
    /// A write, from sending to the answer.
    pub write: Dist,
    /// From a commit to its delivery by a watch.
    pub watch: Duration,
    /// A request that gets no answer fails after this long.
    pub timeout: Duration,
}

impl Default for ApiLatency {
    /// Milliseconds as on an unloaded control plane with etcd on SSDs: the recorded control plane
    /// commits a small write in 3 to 6 ms and delivers it to watchers in about 1 ms.
    fn default() -> Self {
        ApiLatency {
            write: Dist::LogNormal {
                p50: Duration::from_millis(4),
                p99: Duration::from_millis(15),
            },
            watch: Duration::from_millis(1),
            timeout: Duration::from_secs(10),
        }
    }
}

/// The API server with the requests it has not answered yet.
#[derive(Debug)]
pub struct ApiServer {
    /// The storage.
    pub store: Store,
    /// Latency model.
    pub latency: ApiLatency,
    /// Of [`ApiLatency::write`].
    writes: Often,
    draws: Draws,
    in_flight: Vec<Option<InFlight>>,
    free: Vec<u32>,
    renewals: Renewals,
    /// Keys of the draws of pods, by number; 0 for one that is not known yet.
    pod_keys: Vec<u64>,
    /// Keys of the leases' draws, by number.
    lease_keys: Vec<Option<u64>>,
    /// Nodes whose machines do not reach the server.
    cut_off: FixedBitSet,
    /// Lives of controller manager and scheduler so far, and when the last one ended.
    lives: [(u32, Time); 2],
}

impl ApiServer {
    /// A server over an empty store.
    pub fn new(draws: Draws, latency: ApiLatency) -> Self {
        ApiServer {
            store: Store::new(draws),
            writes: latency.write.sampler().into(),
            latency,
            draws,
            in_flight: Vec::new(),
            free: Vec::new(),
            renewals: Renewals::default(),
            pod_keys: Vec::new(),
            lease_keys: Vec::new(),
            cut_off: FixedBitSet::new(),
            lives: [(0, Time::ZERO); 2],
        }
    }

    /// Takes a request from its sender; returns its number and when it arrives.
    pub fn accept(&mut self, from: Sender, send: Send) -> (u32, Time) {
        // The draw is keyed by what the request is about and when it was sent, so that requests
        // about other objects cannot move it.
        let about = self.about(&send.write);
        let latency_ns = self.latency_ns(about, send.at);
        let arrives = send.at.plus_nanos(there(latency_ns));
        let request = InFlight {
            from,
            token: send.token,
            cause: send.cause,
            write: Some(send.write),
            sent: send.at,
            latency_ns,
            reply: None,
            tries: 0,
            late: false,
            life: self.life(from).map_or(0, |life| life.0),
            reviewed: false,
        };
        (self.place(request), arrives)
    }

    /// A stable key of the object that a write is about.
    fn about(&mut self, write: &Write) -> u64 {
        let Some(object) = object_of(write).filter(|object| object.kind == Kind::Pod) else {
            return about(&self.store, write);
        };
        let Some(pod) = self.store.view().pods().get(Id::new(object.index)) else {
            return 0;
        };
        let at = object.index as usize;
        if self.pod_keys.len() <= at {
            self.pod_keys.resize(at + 1, 0);
        }
        if self.pod_keys[at] == 0 {
            self.pod_keys[at] = key(Kind::Pod, &pod.meta);
        }
        self.pod_keys[at]
    }

    fn latency_ns(&mut self, about: u64, sent: Time) -> u64 {
        let unit = self.draws.unit(LATENCY, about, sent.as_nanos());
        self.writes.nanos(unit)
    }

    fn place(&mut self, request: InFlight) -> u32 {
        match self.free.pop() {
            Some(number) => {
                self.in_flight[number as usize] = Some(request);
                number
            }
            None => {
                self.in_flight.push(Some(request));
                u32::try_from(self.in_flight.len() - 1).expect("fewer than 4 G requests in flight")
            }
        }
    }

    /// Takes a renewal that a kubelet sends at `sent`; returns its key and when it arrives.
    pub fn accept_renewal(&mut self, renew: Renew, sent: Time) -> (Key, Time) {
        let about = self.lease_key(renew.lease);
        let mut renewing = Renewing {
            renew,
            sent,
            back_ns: 0,
            about,
        };
        let arrives = renewing.set_out(sent, self.latency_ns(about, sent));
        (self.renewals.begin(renewing), arrives)
    }

    /// The key of a lease's draws, 0 when it has never been there.
    fn lease_key(&mut self, lease: Id<Lease>) -> u64 {
        let at = lease.index();
        if self.lease_keys.len() <= at {
            self.lease_keys.resize(at + 1, None);
        }
        self.lease_keys[at].unwrap_or_else(|| {
            let meta = self.store.view().meta(lease.into());
            let about = meta.map(|meta| self::key(Kind::Lease, meta));
            self.lease_keys[at] = about;
            about.unwrap_or(0)
        })
    }

    /// Whether the machine of a node has power and reaches the server.
    pub fn reached_from(&self, node: u32) -> bool {
        !self.cut_off.contains(node as usize)
    }

    /// Notes whether the machine of a node has power and reaches the server.
    pub fn set_reached(&mut self, node: u32, reached: bool) {
        let at = node as usize;
        self.cut_off.grow(at + 1);
        self.cut_off.set(at, !reached);
    }

    /// Carries out a renewal that arrived; the next one is sent when its answer is back. Returns
    /// when that arrives, if there is one.
    pub fn renew(&mut self, key: Key, now: Time) -> Result<Option<Time>, ApiError> {
        let ApiServer {
            store,
            renewals,
            writes,
            draws,
            ..
        } = self;
        let Some(renewing) = renewals.get_mut(key) else {
            return Ok(None);
        };
        let renew = &mut renewing.renew;
        store.renew(renew.lease, renewing.sent, now, renew.cause())?;
        if renew.last {
            renewals.end(key);
            return Ok(None);
        }
        let answered = now.plus_nanos(renewing.back_ns);
        let sent = renew.next(answered, draws);
        let unit = draws.unit(LATENCY, renewing.about, sent.as_nanos());
        Ok(Some(renewing.set_out(sent, writes.nanos(unit))))
    }

    /// A renewal that is under way.
    pub fn renewal(&self, key: Key) -> Option<&Renewing> {
        self.renewals.get(key)
    }

    /// A renewal did not arrive, or was refused: no other follows.
    pub fn lose_renewal(&mut self, key: Key) -> Option<Renewing> {
        self.renewals.end(key)
    }

    /// The kubelet of a node stops: what it sent before is under way, and nothing follows.
    pub fn end_requests(&mut self, node: u32, now: Time) {
        for request in self.in_flight.iter_mut().flatten() {
            if request.from == Sender::Kubelet(node) && request.sent > now {
                request.write = None;
            }
        }
        self.renewals.stop(node, now);
    }

    /// A renewal is answered like any other write: with `reply`, at `at`.
    pub fn refuse_renewal(&mut self, renewing: &Renewing, reply: Reply) -> u32 {
        let number = self.renewal_as_request(renewing);
        if let Some(request) = &mut self.in_flight[number as usize] {
            (request.write, request.reply) = (None, Some(reply));
        }
        number
    }

    /// A renewal that arrived goes on like any other write; returns its number.
    pub(super) fn renewal_as_request(&mut self, renewing: &Renewing) -> u32 {
        let send = renewing.renew.send(renewing.sent);
        self.place(InFlight {
            from: Sender::Kubelet(renewing.renew.machine),
            token: send.token,
            cause: send.cause,
            write: Some(send.write),
            sent: renewing.sent,
            latency_ns: renewing.back_ns.saturating_mul(4),
            reply: None,
            tries: 0,
            late: false,
            life: 0,
            reviewed: false,
        })
    }

    /// Carries out a request that arrived.
    pub fn commit(&mut self, number: u32, now: Time) -> Option<Committed> {
        let request = self.in_flight[number as usize].as_mut()?;
        let write = request.write.take()?;
        let event = matches!(write, Write::Emit(_));
        let status = matches!(
            &write,
            Write::Patch {
                patch: Patch::PodStatus(_),
                ..
            }
        );
        let reply = self.store.carry_out(write, now, request.cause);
        let told = reply
            .as_ref()
            .is_ok_and(|receipt| event || status && goes_on(receipt));
        request.reply = Some(reply);
        Some(Committed {
            from: request.from,
            token: request.token,
            back: now.plus_nanos(request.latency_ns / 4),
            told,
        })
    }

    /// Marks a request as lost on its way; its sender learns that after the timeout.
    pub fn lose(&mut self, number: u32, now: Time) -> Time {
        if let Some(request) = &mut self.in_flight[number as usize] {
            request.reply = Some(Err(ApiError::Unreachable));
        }
        now + self.latency.timeout
    }

    fn life(&self, from: Sender) -> Option<(u32, Time)> {
        match from {
            Sender::Controller(_) => Some(self.lives[0]),
            Sender::Scheduler => Some(self.lives[1]),
            _ => None,
        }
    }

    /// The controller manager (0) or the scheduler (1) ended.
    pub(super) fn ended(&mut self, process: usize, now: Time) {
        let (lives, _) = self.lives[process];
        self.lives[process] = (lives + 1, now);
    }

    /// Whether a request was never sent, because its sender ended while it waited for its budget.
    pub(super) fn orphaned(&self, number: u32) -> bool {
        let request = self.in_flight.get(number as usize).and_then(Option::as_ref);
        request.is_some_and(|request| {
            let life = self.life(request.from);
            life.is_some_and(|(life, ended)| life != request.life && request.sent >= ended)
        })
    }

    /// A request that has not been carried out yet.
    pub(super) fn under_way(&self, number: u32) -> Option<UnderWay<'_>> {
        let request = self.in_flight.get(number as usize)?.as_ref()?;
        let write = request.write.as_ref()?;
        Some(UnderWay {
            from: request.from,
            write,
            latency: Duration::from_nanos(request.latency_ns),
            about: about(&self.store, write),
            sent: request.sent,
            tries: request.tries,
            late: request.late,
            reviewed: request.reviewed,
        })
    }

    /// Every admission webhook that a request concerns has been asked, and lets it pass.
    pub(super) fn set_reviewed(&mut self, number: u32) {
        if let Some(Some(request)) = self.in_flight.get_mut(number as usize) {
            request.reviewed = true;
        }
    }

    /// A fault keeps a request waiting, or its client sends it again.
    pub(super) fn delayed(&mut self, number: u32, again: bool) {
        if let Some(request) = self
            .in_flight
            .get_mut(number as usize)
            .and_then(Option::as_mut)
        {
            request.tries += u8::from(again);
            request.late = !again;
        }
    }

    /// The same for a renewal.
    pub(super) fn renewal_delayed(&mut self, key: Key, again: bool) {
        if let Some(renewing) = self.renewals.get_mut(key) {
            renewing.renew.tries += u8::from(again);
            renewing.renew.late = !again;
        }
    }

    /// A request is answered without being carried out.
    pub(super) fn answer(&mut self, number: u32, reply: Reply) {
        if let Some(request) = self
            .in_flight
            .get_mut(number as usize)
            .and_then(Option::as_mut)
        {
            request.reply = Some(reply);
        }
    }

    /// Who sent a request.
    pub fn sender(&self, number: u32) -> Option<Sender> {
        self.in_flight[number as usize].as_ref().map(|r| r.from)
    }

    /// Takes the answer of a request, which frees its number.
    pub fn finish(&mut self, number: u32) -> Option<(Sender, u64, Reply)> {
        let request = self.in_flight[number as usize].as_mut()?;
        let reply = request.reply.take().unwrap_or(Err(ApiError::Unreachable));
        let (from, token) = (request.from, request.token);
        self.forget(number);
        Some((from, token, reply))
    }

    /// Frees the number of a request of whose answer nobody hears.
    pub fn forget(&mut self, number: u32) {
        let place = &mut self.in_flight[number as usize];
        if place.is_some() {
            *place = None;
            self.free.push(number);
        }
    }
}

/// Whether the pod whose status was written is not about to be deleted.
fn goes_on(receipt: &Receipt) -> bool {
    match &receipt.row {
        Some(Row::Pod(pod)) => !(pod.meta.deleting() && pod.status.phase.terminal()),
        _ => false,
    }
}

fn key(kind: Kind, meta: &Meta) -> u64 {
    let name = if meta.name.is_empty() {
        &meta.generate_name
    } else {
        &meta.name
    };
    entity_key(&[kind.name(), &meta.namespace, name])
}

/// The object that a write is about, if there is one already.
fn object_of(write: &Write) -> Option<ObjectId> {
    match write {
        Write::Create(_) | Write::Emit(_) => None,
        Write::Update(object, _) | Write::UpdateStatus(object, _) => Some(*object),
        Write::Patch { object, .. } | Write::Delete { object, .. } => Some(*object),
        Write::Bind { pod, .. } | Write::Evict { pod, .. } => Some((*pod).into()),
    }
}

/// A stable key of the object that a write is about.
fn about(store: &Store, write: &Write) -> u64 {
    match write {
        Write::Create(row) => return key(row.kind(), row.meta()),
        Write::Emit(event) => {
            return entity_key(&["Event", &event.namespace, &event.name, &event.reason]);
        }
        _ => {}
    }
    let found = object_of(write).and_then(|object| Some((object, store.view().meta(object)?)));
    found.map_or(0, |(object, meta)| key(object.kind, meta))
}

/// Feeds what happened to an object into the run's digest; `view` is the API server's, just after
/// the change.
pub fn digest_change(digest: &mut Digest, change: &crate::store::Change, view: &View) {
    use std::hash::Hash;
    (change.revision, change.time, change.object, change.op).hash(digest);
    if let Some(row) = &change.new {
        digest_row(digest, row);
    }
    if let Some(renewed) = change.renewed
        && let Some(meta) = change.object.and_then(|object| view.meta(object))
    {
        (&meta.name, meta.generation, meta.deletion).hash(digest);
        renewed.hash(digest);
    }
    if let Some(event) = &change.event {
        event.hash(digest);
    }
}

fn digest_row(digest: &mut Digest, row: &crate::api::Row) {
    use crate::api::Row;
    use std::hash::Hash;
    let meta = row.meta();
    (&meta.name, meta.generation, meta.deletion).hash(digest);
    match row {
        Row::Pod(pod) => (&pod.node_name, &pod.status).hash(digest),
        Row::Node(node) => (node.unschedulable, &node.taints, &node.status.conditions).hash(digest),
        Row::Lease(lease) => lease.renewed.hash(digest),
        Row::ReplicaSet(rs) => (rs.replicas, &rs.status).hash(digest),
        Row::Deployment(d) => (d.replicas, d.paused, &d.status).hash(digest),
        Row::StatefulSet(set) => (set.replicas, &set.status).hash(digest),
        Row::DaemonSet(set) => set.status.hash(digest),
        Row::ControllerRevision(revision) => revision.revision.hash(digest),
        Row::EndpointSlice(slice) => slice.endpoints.hash(digest),
        Row::PodDisruptionBudget(budget) => budget.status.hash(digest),
        Row::ResourceQuota(quota) => quota.status.hash(digest),
        Row::HorizontalPodAutoscaler(autoscaler) => autoscaler.status.hash(digest),
        _ => {}
    }
}
