//! What becomes of a request while something is wrong.
//!
//! client-go asks again by itself when an answer is 429 or 5xx and has a `Retry-After`, up to ten
//! times (`staging/src/k8s.io/client-go/rest/with_retry.go :: IsNextRetry, checkWait`); a refused
//! connection is an error at once, since only reads are sent again on errors of the transport. A
//! write that etcd cannot commit fails after its request timeout: five seconds and two election
//! timeouts (`etcd server/config :: ReqTimeout`).

use std::time::Duration;

use super::super::api_server::Sender;
use super::super::dispatch::{Cluster, Consequences};
use super::super::event::Event;
use super::{ControlPlane, PING, Replica};
use crate::client::Reply;
use crate::engine::draws::{Purpose, entity_key};
use crate::engine::{Draws, Time};
use crate::fault::{BadAnswer, ControlAction};
use crate::load::Key;
use crate::store::{ApiError, Write};

const ERRORS: Purpose = Purpose::new("control-plane/errors");
const LATENCY: Purpose = Purpose::new("control-plane/latency");

/// `etcdserver.ReqTimeout` with the usual `--election-timeout` of one second.
const ETCD_TIMEOUT: Duration = Duration::from_secs(7);

/// `rest.defaultMaxRetries`: `NewRequest` allows ten.
const MAX_RETRIES: u8 = 10;

/// How a client finds the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hearing {
    /// It is served.
    Served,
    /// Nobody listens.
    Refused,
    /// Its connection stands, and nothing comes.
    Silent,
}

/// A request, as far as faults look at it.
#[derive(Clone, Copy, Debug)]
pub(in crate::cluster) struct Asking {
    /// Whose, by key.
    pub(in crate::cluster) client: u64,
    pub(in crate::cluster) agent: &'static str,
    pub(in crate::cluster) verb: &'static str,
    pub(in crate::cluster) resource: &'static str,
    /// What about, by key.
    pub(in crate::cluster) about: u64,
    pub(in crate::cluster) sent: Time,
    /// How often it was sent before.
    pub(in crate::cluster) tries: u8,
    /// It has been kept waiting already.
    pub(in crate::cluster) late: bool,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cluster) enum Ruling {
    /// It is served.
    Pass,
    /// It is served so much later.
    Late(Duration),
    /// Its client sends it again after so long.
    Again(Duration),
    /// It fails, after so long.
    Answer(ApiError, Duration),
    /// No answer comes.
    Lost,
}

impl ControlPlane {
    /// How a client finds the API server: each has its connection to one of the replicas.
    pub(super) fn hearing(&self, client: u64, now: Time) -> Hearing {
        let outage = |action: &ControlAction| *action == ControlAction::Outage;
        if self.troubles.iter().any(|t| outage(&t.what.action)) {
            return Hearing::Refused;
        }
        let others = self.api.iter().any(Replica::up);
        let count = u64::try_from(self.api.len()).unwrap_or(1);
        let home = usize::try_from(client % count).unwrap_or(0);
        let home = &self.api[home];
        let stuck = home.down == 0 && home.frozen > 0;
        if stuck && (now < home.frozen_at + PING || !others) {
            return Hearing::Silent;
        }
        if others {
            return Hearing::Served;
        }
        let silent = |replica: &Replica| replica.down == 0 && replica.frozen > 0;
        match self.api.iter().any(silent) {
            true => Hearing::Silent,
            false => Hearing::Refused,
        }
    }

    /// Whether etcd has a leader and the members to commit.
    pub(super) fn quorum(&self) -> bool {
        let none = |action: &ControlAction| *action == ControlAction::NoLeader;
        let up = self.etcd.iter().filter(|member| member.up()).count();
        up * 2 > self.etcd.len() && !self.troubles.iter().any(|t| none(&t.what.action))
    }

    /// Whether requests need no look.
    pub(in crate::cluster) fn serves_all(&self) -> bool {
        self.troubles.is_empty()
    }

    /// What becomes of a request that arrives now.
    pub(in crate::cluster) fn rule(&self, asking: &Asking, now: Time, draws: &Draws) -> Ruling {
        match self.hearing(asking.client, now) {
            Hearing::Refused => return Ruling::Answer(ApiError::Refused, Duration::ZERO),
            Hearing::Silent => return Ruling::Lost,
            Hearing::Served => {}
        }
        let mut late = Duration::ZERO;
        for trouble in &self.troubles {
            let fault = entity_key(&[&trouble.what.fault]);
            let entity = fault ^ asking.about;
            let n = asking.sent.as_nanos() + u64::from(asking.tries);
            let taken = |requests: &crate::fault::Requests| {
                requests.take(asking.verb, asking.resource, asking.agent)
            };
            match &trouble.what.action {
                ControlAction::Errors {
                    per_million,
                    answer,
                    requests,
                } if taken(requests) => {
                    let draw = draws.below(ERRORS, entity, n, 1_000_000);
                    if draw < u64::from(*per_million) {
                        return bad(*answer, asking.tries);
                    }
                }
                ControlAction::Latency {
                    by,
                    jitter,
                    requests,
                } if !asking.late && taken(requests) => {
                    let unit = draws.unit(LATENCY, entity, n);
                    late += by.saturating_sub(*jitter) + jitter.min(by).mul_f64(2.0 * unit);
                }
                _ => {}
            }
        }
        if !self.quorum() {
            return Ruling::Answer(
                ApiError::Unavailable {
                    code: 500,
                    message: "etcdserver: request timed out".to_owned(),
                },
                ETCD_TIMEOUT,
            );
        }
        late = late.max(self.etcd_elects_until.since(now));
        match late.is_zero() {
            true => Ruling::Pass,
            false => Ruling::Late(late),
        }
    }
}

/// An answer that a fault gives.
fn bad(answer: BadAnswer, tries: u8) -> Ruling {
    if answer.status == 0 {
        return Ruling::Lost;
    }
    if let Some(seconds) = answer.retry_after_s
        && tries < MAX_RETRIES
    {
        return Ruling::Again(Duration::from_secs(seconds.into()));
    }
    let unavailable = |message: &str| ApiError::Unavailable {
        code: answer.status,
        message: message.to_owned(),
    };
    let error = match answer.status {
        429 => ApiError::TooManyRequests {
            message: "the server has received too many requests and has asked us to try again \
                      later"
                .to_owned(),
            cause: String::new(),
        },
        500 => ApiError::Internal("an error on the server has prevented the request".to_owned()),
        503 => unavailable("the server is currently unable to handle the request"),
        _ => unavailable(
            "the server was unable to return a response in the time allotted, but may still be \
             processing the request",
        ),
    };
    Ruling::Answer(error, Duration::ZERO)
}

/// The verb and resource of a write.
fn words(write: &Write) -> (&'static str, &'static str) {
    match write {
        Write::Create(row) => ("create", row.kind().plural()),
        Write::Emit(_) => ("create", "events"),
        Write::Update(object, _) | Write::UpdateStatus(object, _) => {
            ("update", object.kind.plural())
        }
        Write::Patch { object, .. } => ("patch", object.kind.plural()),
        Write::Delete { object, .. } => ("delete", object.kind.plural()),
        Write::Bind { .. } | Write::Evict { .. } => ("create", "pods"),
    }
}

impl Cluster {
    /// The key and user agent of a sender.
    fn client(&self, from: Sender) -> (u64, &'static str) {
        let agent = match from {
            Sender::Controller(_) => "kube-controller-manager",
            Sender::Scheduler => "kube-scheduler",
            Sender::Kubelet(node) => {
                let name = self.machine(node).map(|machine| machine.name.as_str());
                return (
                    entity_key(&["kubelet", name.unwrap_or_default()]),
                    "kubelet",
                );
            }
            Sender::Kubectl | Sender::Feed => "kubectl",
        };
        (entity_key(&[agent]), agent)
    }

    /// Whether a request that arrives is carried out now; if not, what becomes of it is arranged.
    pub(in crate::cluster) fn admitted(&mut self, number: u32, turn: Consequences<'_, '_>) -> bool {
        if self.api.orphaned(number) {
            self.api.forget(number);
            return false;
        }
        if self.control.serves_all() && self.control.etcd_elects_until <= turn.now {
            return true;
        }
        let Some(under_way) = self.api.under_way(number) else {
            return true;
        };
        let (from, latency) = (under_way.from, under_way.latency);
        let (client, agent) = self.client(from);
        let (verb, resource) = words(under_way.write);
        let asking = Asking {
            client,
            agent,
            verb,
            resource,
            about: under_way.about,
            sent: under_way.sent,
            tries: under_way.tries,
            late: under_way.late,
        };
        let ruling = self.control.rule(&asking, turn.now, &self.draws);
        self.carry_out(number, from, latency, ruling, turn)
    }

    fn carry_out(
        &mut self,
        number: u32,
        from: Sender,
        latency: Duration,
        ruling: Ruling,
        turn: Consequences<'_, '_>,
    ) -> bool {
        let answered = match ruling {
            Ruling::Pass => return true,
            Ruling::Late(by) => {
                self.api.delayed(number, false);
                turn.after(by, Event::Arrive(number));
                return false;
            }
            Ruling::Again(after) => {
                self.api.delayed(number, true);
                turn.after(after + latency, Event::Arrive(number));
                return false;
            }
            // Whoever submits pods keeps trying.
            _ if from == Sender::Feed => {
                turn.after(Duration::from_secs(1), Event::Arrive(number));
                return false;
            }
            Ruling::Lost => self.api.lose(number, turn.now),
            Ruling::Answer(error, after) => {
                let reply: Reply = Err(error);
                self.api.answer(number, reply);
                turn.now + after + latency / 4
            }
        };
        turn.at(answered, Event::Answer(number));
        false
    }

    /// What becomes of the renewal of a node's lease that arrives now; `None` when it is to arrive
    /// later.
    pub(in crate::cluster) fn judge_renewal(
        &mut self,
        key: Key,
        turn: Consequences<'_, '_>,
    ) -> Option<Ruling> {
        let renewing = self.api.renewal(key)?;
        let (client, agent) = self.client(Sender::Kubelet(renewing.renew.machine));
        let asking = Asking {
            client,
            agent,
            verb: "update",
            resource: "leases",
            about: client,
            sent: renewing.sent,
            tries: renewing.renew.tries,
            late: renewing.renew.late,
        };
        let latency = renewing.back() * 4;
        let ruling = self.control.rule(&asking, turn.now, &self.draws);
        let (wait, again) = match ruling {
            // Its client has given up by then.
            Ruling::Late(by) if by >= self.api.latency.timeout => return Some(Ruling::Lost),
            Ruling::Late(by) => (by, false),
            Ruling::Again(after) => (after + latency, true),
            ruling => return Some(ruling),
        };
        self.api.renewal_delayed(key, again);
        turn.after(wait, Event::Renew(key));
        None
    }
}
