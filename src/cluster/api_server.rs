//! Requests on their way: latency, loss, commit, reply.
//!
//! A component's write arrives at the API server some milliseconds after it was sent and its answer
//! travels back for some more; in between others may write, which is where stale-read conflicts
//! come from. Requests live in a slab, so that the events that carry them stay small.

use std::time::Duration;

use crate::api::{Kind, Meta};
use crate::client::{Reply, Send};
use crate::engine::{Digest, Dist, Draws, Purpose, Time, entity_key};
use crate::kubelet::Renew;
use crate::load::{Key, Slab};
use crate::store::{ApiError, Store, Write};

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
    send: Send,
    /// From sending to the answer.
    latency: Duration,
    reply: Option<Reply>,
}

/// A renewal of a lease on its way.
#[derive(Clone, Copy, Debug)]
pub struct Renewing {
    /// Whose.
    pub node: u32,
    /// What the kubelet asked for.
    pub renew: Renew,
    /// When it was sent.
    pub sent: Time,
    /// From its arrival to the answer.
    pub back: Duration,
    /// Its kubelet has stopped since.
    pub last: bool,
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
    draws: Draws,
    in_flight: Vec<Option<InFlight>>,
    free: Vec<u32>,
    renewals: Slab<Renewing>,
    /// The renewal of each node.
    renewing: Vec<Key>,
    /// Keys of the leases' draws, by number.
    lease_keys: Vec<Option<u64>>,
}

impl ApiServer {
    /// A server over an empty store.
    pub fn new(draws: Draws, latency: ApiLatency) -> Self {
        ApiServer {
            store: Store::new(draws),
            latency,
            draws,
            in_flight: Vec::new(),
            free: Vec::new(),
            renewals: Slab::default(),
            renewing: Vec::new(),
            lease_keys: Vec::new(),
        }
    }

    /// Takes a request from its sender; returns its number and when it arrives.
    pub fn accept(&mut self, from: Sender, send: Send) -> (u32, Time) {
        // The draw is keyed by what the request is about and when it was sent, so that requests
        // about other objects cannot move it.
        let latency = self.latency(about(&self.store, &send.write), send.at);
        let arrives = send.at + latency * 3 / 4;
        let request = InFlight {
            from,
            send,
            latency,
            reply: None,
        };
        (self.place(request), arrives)
    }

    fn latency(&self, about: u64, sent: Time) -> Duration {
        let unit = self.draws.unit(LATENCY, about, sent.as_nanos());
        self.latency.write.sample(unit)
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
    pub fn accept_renewal(&mut self, node: u32, renew: Renew, sent: Time) -> (Key, Time) {
        self.end_renewals(node, Time::ZERO);
        let renewing = Renewing {
            node,
            renew,
            sent,
            back: Duration::ZERO,
            last: false,
        };
        let key = self.renewals.insert(renewing);
        let at = node as usize;
        if self.renewing.len() <= at {
            self.renewing.resize(at + 1, Key::NONE);
        }
        self.renewing[at] = key;
        (key, self.send_renewal(key, sent))
    }

    /// Sends a renewal at `sent`; returns when it arrives.
    fn send_renewal(&mut self, key: Key, sent: Time) -> Time {
        let Some(lease) = self.renewals.get(key).map(|r| r.renew.lease) else {
            return sent;
        };
        let at = lease.index();
        if self.lease_keys.len() <= at {
            self.lease_keys.resize(at + 1, None);
        }
        let about = self.lease_keys[at].unwrap_or_else(|| {
            let meta = self.store.view().meta(lease.into());
            let about = meta.map(|meta| self::key(Kind::Lease, meta));
            self.lease_keys[at] = about;
            about.unwrap_or(0)
        });
        let latency = self.latency(about, sent);
        if let Some(renewing) = self.renewals.get_mut(key) {
            renewing.sent = sent;
            renewing.back = latency / 4;
        }
        sent + latency * 3 / 4
    }

    /// A renewal that is under way.
    pub fn renewal(&self, key: Key) -> Option<&Renewing> {
        self.renewals.get(key)
    }

    /// A renewal was carried out; returns when the next one arrives, if there is one.
    pub fn renewed(&mut self, key: Key, now: Time) -> Option<Time> {
        let draws = self.draws;
        let renewing = self.renewals.get_mut(key)?;
        if renewing.last {
            self.renewals.remove(key);
            return None;
        }
        let sent = renewing.renew.next(now + renewing.back, &draws);
        Some(self.send_renewal(key, sent))
    }

    /// A renewal did not arrive, or was refused: no other follows.
    pub fn lose_renewal(&mut self, key: Key) -> Option<Renewing> {
        self.renewals.remove(key)
    }

    /// The kubelet of a node stops: what it sent before is under way, and nothing follows.
    pub fn end_renewals(&mut self, node: u32, now: Time) {
        let Some(key) = self.renewing.get(node as usize).copied() else {
            return;
        };
        let Some(renewing) = self.renewals.get_mut(key) else {
            return;
        };
        renewing.last = true;
        if renewing.sent > now {
            self.renewals.remove(key);
        }
    }

    /// A renewal is answered like any other write: with `reply`, at `at`.
    pub fn refuse_renewal(&mut self, renewing: &Renewing, reply: Reply) -> u32 {
        self.place(InFlight {
            from: Sender::Kubelet(renewing.node),
            send: renewing.renew.send(renewing.sent),
            latency: Duration::ZERO,
            reply: Some(reply),
        })
    }

    /// Carries out a request that arrived; returns when its answer is back at the sender.
    pub fn commit(&mut self, number: u32, now: Time) -> Option<(Sender, Time)> {
        let request = self.in_flight[number as usize].as_mut()?;
        let send = &request.send;
        request.reply = Some(self.store.write(&send.write, now, send.cause));
        Some((request.from, now + request.latency / 4))
    }

    /// Marks a request as lost on its way; its sender learns that after the timeout.
    pub fn lose(&mut self, number: u32, now: Time) -> Time {
        if let Some(request) = &mut self.in_flight[number as usize] {
            request.reply = Some(Err(ApiError::Unreachable));
        }
        now + self.latency.timeout
    }

    /// Who sent a request.
    pub fn sender(&self, number: u32) -> Option<Sender> {
        self.in_flight[number as usize].as_ref().map(|r| r.from)
    }

    /// Takes the answer of a request, which frees its number.
    pub fn finish(&mut self, number: u32) -> Option<(Sender, u64, Reply)> {
        let request = self.in_flight[number as usize].take()?;
        self.free.push(number);
        let reply = request.reply.unwrap_or(Err(ApiError::Unreachable));
        Some((request.from, request.send.token, reply))
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

/// A stable key of the object that a write is about.
fn about(store: &Store, write: &Write) -> u64 {
    let object = match write {
        Write::Create(row) => return key(row.kind(), row.meta()),
        Write::Emit(event) => {
            return entity_key(&["Event", &event.namespace, &event.name, &event.reason]);
        }
        Write::Update(object, _) | Write::UpdateStatus(object, _) => *object,
        Write::Patch { object, .. } | Write::Delete { object, .. } => *object,
        Write::Bind { pod, .. } | Write::Evict { pod, .. } => (*pod).into(),
    };
    let meta = store.view().meta(object);
    meta.map_or(0, |meta| key(object.kind, meta))
}

/// Feeds what happened to an object into the run's digest.
pub fn digest_change(digest: &mut Digest, change: &crate::store::Change) {
    use std::hash::Hash;
    (change.revision, change.time, change.object, change.op).hash(digest);
    if let Some(row) = &change.new {
        digest_row(digest, row);
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
