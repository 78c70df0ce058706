//! One attempt of one request, from its client's decision to the end of its server's work.
//!
//! The two ends are finished at different times: a client that gave up leaves its server working,
//! and a server that answered leaves its client to hear of it. The exchange is freed when both are.

use crate::engine::Time;
use crate::kubelet::runtime::{Hook, ProbeKind};
use crate::load::Key;
use crate::load::tally::{Cause, Class};
use crate::net::{End, Place};

/// No pod, no place in a pool, nobody before or after.
pub const NONE: u32 = u32::MAX;

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A user; of a closed executor, which one ([`NONE`] otherwise).
    User(u32),
    /// A process that serves another request.
    Call(Key),
    /// A kubelet's probe; the request's `n`.
    Probe(ProbeKind, u8),
    /// A kubelet's hook.
    Hook(Hook),
    /// The API server, which asks a webhook; the number of its question.
    Webhook(Key),
}

/// How it went, as the server (or the way to it) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Well.
    Ok,
    /// Not.
    Failed(Cause, Class),
}

/// Where an exchange is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Between attempts.
    Backoff,
    /// Its packets are on the way to the server, or lost and to be sent again.
    Sent,
    /// Nothing will come of it: dropped for this reason.
    Lost(Class),
    /// In the server's queue.
    Queued,
    /// Using CPU.
    Running,
    /// Waiting for something that takes no CPU.
    Waiting,
    /// The server waits for a call of its own.
    Calling,
    /// The answer is on its way, or lost and to be sent again.
    Answering(Status),
}

/// An attempt.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Identity of the request, for draws: the same under every policy.
    pub entity: u64,
    /// The kind of client.
    pub sender: u32,
    /// Who asked.
    pub origin: Origin,
    /// 0, and one more for each retry.
    pub attempt: u32,
    /// Where it is.
    pub stage: Stage,
    /// When the first attempt was sent.
    pub first_sent: Time,
    /// When this attempt counts as failed.
    pub deadline: Time,
    /// The client's end.
    pub from: End,
    /// The client's address for affinity.
    pub address: u64,
    /// Place in the client's pool, [`NONE`] for a connection of its own.
    pub place: u32,
    /// Whether the connection has to be opened.
    pub fresh: bool,
    /// Whether its handshake is done, so that only the request has to be sent again.
    pub shaken: bool,
    /// Whether the connection turned out to be closed, and another must be opened.
    pub redial: bool,
    /// Whether a proxy before the pod has let the request through.
    pub proxied: bool,
    /// Whether it has held up the answer.
    pub answer_held: bool,
    /// Whether a name had to be looked up.
    pub looked_up: bool,
    /// How often its packets were lost.
    pub lost: u32,
    /// The endpoint's pod and port, and its node; the node that forwards.
    pub pod: u32,
    /// See `pod`.
    pub port: u16,
    /// See `pod`.
    pub to: Place,
    /// See `pod`.
    pub via: Option<Place>,
    /// The Service that the endpoint was chosen from, [`NONE`] without one.
    pub service: u32,
    /// The pod that a retry avoids.
    pub avoid: u32,
    /// The process that serves it; while it does, this exchange is in its list.
    pub unit: Key,
    /// Whether the process holds it.
    pub held: bool,
    /// Whether the client still waits.
    pub awaited: bool,
    /// Threads that still work on it.
    pub threads: u32,
    /// Which of the server's calls is next or under way.
    pub call: u32,
    /// The exchange of the call under way.
    pub child: Key,
    /// Whether it is among the sender's attempts that wait.
    pub listed: bool,
    /// Its neighbours there, in the order of sending.
    pub older: Key,
    /// See `older`.
    pub newer: Key,
    /// Neighbours among what the process holds, in the order of acceptance.
    pub before: Key,
    /// See `before`.
    pub after: Key,
}

impl Exchange {
    /// A new request.
    pub fn new(entity: u64, sender: u32, origin: Origin, from: End, now: Time) -> Self {
        Exchange {
            entity,
            sender,
            origin,
            attempt: 0,
            stage: Stage::Backoff,
            first_sent: now,
            deadline: Time::MAX,
            from,
            address: 0,
            place: NONE,
            fresh: true,
            shaken: false,
            redial: false,
            proxied: false,
            answer_held: false,
            looked_up: false,
            lost: 0,
            pod: NONE,
            port: 0,
            to: Place::default(),
            via: None,
            service: NONE,
            avoid: NONE,
            unit: Key::NONE,
            held: false,
            awaited: true,
            threads: 0,
            call: 0,
            child: Key::NONE,
            listed: false,
            older: Key::NONE,
            newer: Key::NONE,
            before: Key::NONE,
            after: Key::NONE,
        }
    }

    /// The same request once more.
    pub fn again(&self) -> Self {
        let mut again = Exchange::new(
            self.entity,
            self.sender,
            self.origin,
            self.from,
            self.first_sent,
        );
        again.attempt = self.attempt + 1;
        again.address = self.address;
        again.avoid = self.pod;
        again
    }
}
