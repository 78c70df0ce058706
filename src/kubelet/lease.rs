//! The node's lease: renewed every ten seconds, it is the heartbeat that node failure is judged by.
//!
//! `staging/src/k8s.io/component-helpers/apimachinery/lease/controller.go`, with the kubelet's
//! duration of 40 s and its renewal after a quarter of that.
//!
//! Thousands of nodes renew their leases all the time and nothing else comes of it, so a renewal is
//! not an ordinary write: a [`Renew`] is handed to the composition root, which goes on renewing for
//! as long as every renewal succeeds, one event for each.

use std::time::Duration;

use super::agent::{Event, Kubelet};
use super::host::{Cx, Host, Topic};
use crate::api::node::LEASES;
use crate::api::{Kind, Lease, Meta, OwnerRef};
use crate::client::{Reply, Send};
use crate::engine::Time;
use crate::engine::draws::{Draws, Purpose};
use crate::store::write::Trigger;
use crate::store::{ApiError, Cause, Id, Origin, Patch, Write};

const PHASE: Purpose = Purpose::new("kubelet/lease-phase");
const JITTER: Purpose = Purpose::new("kubelet/lease-jitter");
/// `Run`: `JitterUntil` with this factor.
const FACTOR: f64 = 0.04;
/// `maxUpdateRetries`.
const TRIES: u8 = 5;
/// `backoffEnsureLease`: the first wait, and `maxBackoff`.
const BACK_OFF: Duration = Duration::from_millis(200);
const BACK_OFF_MAX: Duration = Duration::from_secs(7);

/// A renewal that is to be sent now, and again whenever the one before was answered with success
/// and its wait is over. The first that is not is answered like the write that it stands for
/// ([`Renew::send`]), after [`Kubelet::renewal_lost`]. A kubelet that stops sends no further ones.
#[derive(Clone, Debug)]
pub struct Renew {
    /// What is renewed.
    pub lease: Id<Lease>,
    /// The machine, as [`Origin::Kubelet`] numbers them.
    pub machine: u32,
    /// Which series of renewals it belongs to, for whoever carries it.
    pub series: u32,
    /// How often this one was sent before without success, for whoever carries it.
    pub tries: u8,
    /// A fault has kept it waiting.
    pub late: bool,
    /// Its kubelet has stopped since: no other follows.
    pub last: bool,
    /// Others were sent before, so that this one's cause is the time that has passed.
    again: bool,
    entity: u64,
    /// The number of the next wait's draw.
    n: u32,
    /// How long the kubelet waits for an answer, in milliseconds.
    interval_ms: u32,
    /// Not looked at while all goes well.
    first: Box<First>,
}

// There is one for each node, and one of them is read and written for every second event.
const _: () = assert!(size_of::<Renew>() <= 40);

/// What is kept of the first renewal of a series.
#[derive(Clone, Debug)]
struct First {
    cause: Cause,
    /// Comes back with the answer.
    token: u64,
}

/// Why a lease is renewed.
const RENEWED: &str = "lease renewed";

impl Renew {
    /// Why.
    pub fn cause(&self) -> Cause {
        match self.again {
            true => Cause {
                origin: Origin::Kubelet(self.machine),
                trigger: Trigger::Timer,
                rule: RENEWED,
            },
            false => self.first.cause,
        }
    }

    /// How long the kubelet waits for an answer, and between two renewals at the least.
    fn interval_ns(&self) -> u64 {
        u64::from(self.interval_ms) * 1_000_000
    }

    /// When the next one is sent, after one that was answered at `answered`.
    pub fn next(&mut self, answered: Time, draws: &Draws) -> Time {
        let n = self.n;
        self.n += 1;
        self.again = true;
        let key = (JITTER, self.entity, n.into());
        answered.plus_nanos(Host::jittered(draws, key, self.interval_ns(), FACTOR))
    }

    /// Some renewal of this machine.
    #[cfg(test)]
    pub(crate) fn some(machine: u32) -> Renew {
        Renew {
            lease: Id::new(machine),
            machine,
            series: 0,
            tries: 0,
            late: false,
            last: false,
            again: false,
            entity: 0,
            n: 0,
            interval_ms: 10_000,
            first: Box::new(First {
                cause: Cause::default(),
                token: 0,
            }),
        }
    }

    /// The write that it stands for, sent at `now`.
    pub fn send(&self, now: Time) -> Send {
        Send {
            at: now,
            write: Write::Patch {
                object: self.lease.into(),
                uid: None,
                patch: Patch::Renew(now),
            },
            cause: self.cause(),
            token: self.first.token,
        }
    }
}

/// Where the renewal of a lease stands.
#[derive(Debug)]
pub(super) struct Renewal {
    lease: Option<Id<Lease>>,
    /// When it is renewed next, or given up on.
    due: Time,
    tries: u8,
    wait: Duration,
    /// Counts the draws.
    n: u32,
}

impl Default for Renewal {
    fn default() -> Self {
        Renewal {
            lease: None,
            due: Time::MAX,
            tries: 0,
            wait: BACK_OFF,
            n: 0,
        }
    }
}

impl Kubelet {
    /// The renewal that was sent at `sent` did not succeed. Its answer comes as for any other write.
    pub fn renewal_lost(&mut self, renew: &Renew, sent: Time, cx: &mut Cx<'_>) {
        let same = |(topic, life, _)| topic == Topic::Lease && life == self.host.life;
        if self.up && Topic::parse(renew.first.token).is_some_and(same) {
            self.host.renewal_lost(renew, sent, cx);
        }
    }
}

impl Host {
    fn renew_interval(&self) -> Duration {
        Duration::from_secs(self.config.lease_duration_s.into()) / 4
    }

    fn next_renewal(&mut self, cx: &mut Cx<'_>) {
        let interval = self.renew_interval();
        let n = self.renewal.n;
        self.renewal.n += 1;
        let wait = Host::jitter(cx, JITTER, self.entity, n.into(), interval, FACTOR);
        self.lease_due(cx, cx.now + wait);
    }

    /// The last renewal, sent at `sent`, did not succeed; an answer may come.
    pub(super) fn renewal_lost(&mut self, renew: &Renew, sent: Time, cx: &mut Cx<'_>) {
        if self.renewal.n != renew.n {
            // Others have succeeded since the first: this was the first try.
            self.renewal.n = renew.n;
            self.renewal.tries = 1;
        }
        let give_up = sent.plus_nanos(renew.interval_ns());
        self.lease_due(cx, give_up.max(cx.now));
    }

    fn lease_due(&mut self, cx: &mut Cx<'_>, due: Time) {
        self.renewal.due = due;
        cx.out.at(due, Event::Lease);
    }

    /// The first renewal of this life. A node that was up before the run began is somewhere in its
    /// interval.
    pub(super) fn start_lease(&mut self, cx: &mut Cx<'_>) {
        self.renewal.lease = cx.lookup.lease(&self.row.meta.name);
        if self.established && self.renewal.lease.is_some() {
            let interval = u64::try_from(self.renew_interval().as_nanos()).unwrap_or(1);
            let phase = cx.draws.below(PHASE, self.entity, 0, interval.max(1));
            self.lease_due(cx, cx.now + Duration::from_nanos(phase));
            return;
        }
        self.renew(cx);
    }

    /// The lease is due, or its last renewal was not answered in time.
    pub(super) fn on_lease_due(&mut self, cx: &mut Cx<'_>) {
        if self.renewal.due == cx.now {
            self.renewal.tries = 0;
            self.renew(cx);
        }
    }

    fn renew(&mut self, cx: &mut Cx<'_>) {
        self.renewal.tries += 1;
        // A request without an answer is given up after an interval.
        let interval = self.renew_interval();
        if let Some(lease) = self.renewal.lease {
            self.renewal.due = Time::MAX;
            *cx.renew = Some(Renew {
                lease,
                machine: self.machine.0,
                series: 0,
                tries: 0,
                late: false,
                last: false,
                again: false,
                entity: self.entity,
                n: self.renewal.n,
                interval_ms: u32::try_from(interval.as_millis()).unwrap_or(u32::MAX),
                first: Box::new(First {
                    cause: self.cause(RENEWED),
                    token: Topic::Lease.token(self.life, 0),
                }),
            });
            return;
        }
        self.lease_due(cx, cx.now + interval);
        let name = self.row.meta.name.clone();
        let owner = OwnerRef {
            kind: Kind::Node,
            api_version: "v1".into(),
            kind_name: "Node".into(),
            name: name.clone(),
            uid: self.row.meta.uid,
            controller: false,
            block_owner_deletion: false,
        };
        let lease = Lease {
            meta: Meta {
                namespace: LEASES.into(),
                name: name.clone(),
                owners: [owner].into(),
                ..Meta::default()
            },
            holder: name,
            duration_s: self.config.lease_duration_s,
            renewed: cx.now,
        };
        let write = Write::Create(lease.into());
        self.beat(cx, write, "lease created", Topic::LeaseCreate);
    }

    /// A renewal was answered.
    pub(super) fn on_lease_reply(&mut self, cx: &mut Cx<'_>, reply: &Reply) {
        match reply {
            Ok(_) => self.next_renewal(cx),
            Err(ApiError::NotFound(_)) => {
                self.renewal.lease = None;
                self.renew(cx);
            }
            Err(_) if self.renewal.tries < TRIES => self.renew(cx),
            Err(_) => self.next_renewal(cx),
        }
    }

    /// A creation was answered.
    pub(super) fn on_lease_created(&mut self, cx: &mut Cx<'_>, reply: &Reply) {
        self.renewal.lease = match reply {
            Ok(receipt) => receipt.object.and_then(|object| object.typed()),
            Err(ApiError::AlreadyExists(_)) => cx.lookup.lease(&self.row.meta.name),
            Err(_) => None,
        };
        if reply.is_ok() {
            self.renewal.wait = BACK_OFF;
            self.next_renewal(cx);
        } else if self.renewal.lease.is_some() {
            self.renew(cx);
        } else {
            let wait = self.renewal.wait;
            self.renewal.wait = (wait * 2).min(BACK_OFF_MAX);
            self.lease_due(cx, cx.now + wait);
        }
    }
}
