//! Admission webhooks: who is asked about a request before it is stored, and what comes of that.
//!
//! `staging/src/k8s.io/apiserver/pkg/admission/plugin/webhook`: mutating webhooks are asked one
//! after the other, in the order of their configurations' names; then validating ones all together
//! (`mutating/dispatcher.go`, `validating/dispatcher.go`). One that cannot be asked refuses the
//! request, or is passed over, as its `failurePolicy` says. A question is a request through the
//! data plane, from the control plane to the cluster address of a Service, which is what an API
//! server dials unless it routes to endpoints itself (`--enable-aggregator-routing`, off by
//! default). So lost nodes, partitions, empty Services and slow pods are felt as users feel them.
//!
//! What it does not know: which requests concern whom ([`crate::store::webhooks`]), and what a
//! webhook thinks of a request: one that answers admits, and changes nothing. One outside the
//! cluster (`clientConfig.url`, a Service of type ExternalName) always answers.
//!
//! Until the run's own time begins nobody is asked: what is there then was admitted long ago.
//! Without configurations none of this exists: no event, no draw, one look at a flag for a write.

mod answers;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::api_server::Sender;
use super::dispatch::{Cluster, Consequences};
use super::event::Event;
use super::timeline::Note;
use crate::api::webhook::{Backend, Webhook, WebhookType, webhooks_of};
use crate::api::{Inert, Row, Text};
use crate::engine::Time;
use crate::engine::draws::{Purpose, entity_key};
use crate::load::tally::Cause;
use crate::load::{Key, Slab};
use crate::store::webhooks::Attributes;
use crate::store::{ApiError, Change, Op, Patch, View, Write};

use answers::{Way, failed, resolve};

const QUESTION: Purpose = Purpose::new("webhook/question");

/// `--request-timeout` of the API server: its default.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a webhook must have been silent or well before it is told that this changed again.
const QUIET: Duration = Duration::from_secs(30);

/// A webhook of a configuration.
#[derive(Debug)]
struct Hook {
    this: WebhookType,
    configuration: Text,
    webhook: Webhook,
}

/// A configuration, by what orders it.
type Configuration = (WebhookType, Text);

/// A request about which webhooks are asked.
#[derive(Debug)]
struct Review {
    /// The request.
    number: u32,
    attributes: Attributes,
    /// Key of the request's draws.
    entity: u64,
    /// When it is too late to store it.
    deadline: Time,
    /// Its client does not wait any longer than that.
    impatient: bool,
    /// Mutating webhooks that are still to be asked.
    next: VecDeque<Arc<Hook>>,
    /// Validating ones have been asked.
    validating: bool,
    /// Questions without an answer.
    waiting: usize,
    /// The first refusal.
    error: Option<ApiError>,
}

/// A question to a webhook.
#[derive(Debug)]
struct Question {
    review: Key,
    hook: Arc<Hook>,
    /// Why it failed, once that is known.
    outcome: Result<(), String>,
}

/// How a webhook is.
#[derive(Clone, Copy, Debug)]
struct Health {
    fails: bool,
    /// When that was told.
    told: Time,
}

/// The API server's admission webhooks.
#[derive(Debug, Default)]
pub struct Webhooks {
    /// Whether writes must be looked at.
    pub(super) asked: bool,
    /// Whether renewals of leases must.
    pub(super) leases: bool,
    begun: bool,
    hooks: BTreeMap<Configuration, Vec<Arc<Hook>>>,
    /// Configurations that the API server's own watch has not delivered yet.
    news: VecDeque<(Time, Configuration, Option<Vec<Webhook>>)>,
    /// The data plane's clients, by Service, path and patience.
    clients: BTreeMap<(Text, Text, u16, Text, Duration), u32>,
    reviews: Slab<Review>,
    questions: Slab<Question>,
    health: BTreeMap<(WebhookType, Text, Text), Health>,
    /// There were some, now or before.
    ever: bool,
}

impl Webhooks {
    /// Takes in a change of a configuration, of which the API server hears at `heard`.
    pub(super) fn on_change(&mut self, change: &Change, heard: Time) {
        let Some(Row::Inert(object)) = &change.new else {
            return;
        };
        let Some((this, webhooks)) = webhooks_of(object) else {
            return;
        };
        let webhooks = (change.op != Op::Delete).then_some(webhooks);
        let configuration = (this, name_of(object));
        self.news.push_back((heard, configuration, webhooks));
        self.ever = true;
        self.look();
    }

    /// The run's own time begins.
    pub(super) fn begin(&mut self) {
        self.begun = true;
        self.look();
    }

    fn look(&mut self) {
        let any = !self.hooks.is_empty() || !self.news.is_empty();
        self.asked = self.begun && any;
        let renewed = |webhook: &Webhook| {
            let mut rules = webhook.rules.iter();
            rules.any(|rule| {
                let mut all = rule.resources.iter();
                all.any(|name| name == "*" || name == "leases" || name.ends_with("/*"))
            })
        };
        let known = self.hooks.values().flatten().map(|hook| &hook.webhook);
        let news = self.news.iter().filter_map(|(_, _, new)| new.as_ref());
        self.leases = self.asked && known.chain(news.flatten()).any(renewed);
    }

    /// Configurations of which the API server has heard by now are in force.
    fn catch_up(&mut self, now: Time) {
        if self.news.front().is_none_or(|(heard, ..)| *heard > now) {
            return;
        }
        while self.news.front().is_some_and(|(heard, ..)| *heard <= now) {
            let Some((_, configuration, webhooks)) = self.news.pop_front() else {
                break;
            };
            let Some(webhooks) = webhooks else {
                self.hooks.remove(&configuration);
                continue;
            };
            let hooks = webhooks.into_iter().map(|webhook| {
                Arc::new(Hook {
                    this: configuration.0,
                    configuration: configuration.1.clone(),
                    webhook,
                })
            });
            let hooks = hooks.collect();
            self.hooks.insert(configuration, hooks);
        }
        self.look();
    }

    /// The webhooks of a type that a request concerns, in order.
    fn concerned(
        &self,
        this: WebhookType,
        attributes: &Attributes,
        view: &View,
    ) -> Result<VecDeque<Arc<Hook>>, ApiError> {
        let all = self.hooks.iter().filter(|((of, _), _)| *of == this);
        let mut found = VecDeque::new();
        for hook in all.flat_map(|(_, hooks)| hooks) {
            if attributes.concern(&hook.webhook, view)? {
                found.push_back(hook.clone());
            }
        }
        Ok(found)
    }

    /// What came of a question.
    fn answered(&mut self, question: Key, outcome: Result<(), String>) {
        if let Some(question) = self.questions.get_mut(question) {
            question.outcome = outcome;
        }
    }

    /// Whether it is worth telling that a webhook fails, or answers again.
    fn turned(&mut self, hook: &Hook, fails: bool, now: Time) -> bool {
        let key = (
            hook.this,
            hook.configuration.clone(),
            hook.webhook.name.clone(),
        );
        let known = self.health.get(&key).copied();
        let news = match known {
            None => fails,
            Some(health) => health.fails != fails && now.since(health.told) >= QUIET,
        };
        if news {
            self.health.insert(key, Health { fails, told: now });
        }
        news
    }
}

fn name_of(object: &Inert) -> Text {
    object.meta.name.clone()
}

/// Requests of the kubelet's heartbeat client, which gives up sooner than the API server
/// (`cmd/kubelet/app/server.go`: `heartbeatClientConfig.Timeout`).
fn is_heartbeat(from: Sender, write: &Write) -> bool {
    let heartbeat = matches!(
        write,
        Write::Patch {
            patch: Patch::Renew(_) | Patch::NodeStatus(_),
            ..
        }
    );
    heartbeat && matches!(from, Sender::Kubelet(_))
}

impl Cluster {
    /// Whether a request that arrives may be stored: nobody is to be asked about it, or everybody has
    /// been. If not, asking begins.
    pub(super) fn reviewed(&mut self, number: u32, turn: Consequences<'_, '_>) -> bool {
        self.webhooks.catch_up(turn.now);
        let Some(under_way) = self.api.under_way(number) else {
            return true;
        };
        let store = &self.api.store;
        let attributes = store.attributes(under_way.write, turn.now);
        let Some(attributes) = attributes.filter(|_| !under_way.reviewed) else {
            return true;
        };
        if attributes.exempt() || store.open(under_way.write).is_err() {
            return true;
        }
        let concerned = |this| {
            let view = self.api.store.view();
            self.webhooks.concerned(this, &attributes, view)
        };
        let next = match concerned(WebhookType::Mutating) {
            Ok(none) if none.is_empty() => match concerned(WebhookType::Validating) {
                Ok(others) if others.is_empty() => return true,
                Ok(_) => none,
                Err(error) => {
                    self.refuse(number, error, turn);
                    return false;
                }
            },
            Ok(some) => some,
            Err(error) => {
                self.refuse(number, error, turn);
                return false;
            }
        };
        let impatient = is_heartbeat(under_way.from, under_way.write);
        let n = under_way.sent.as_nanos() + u64::from(under_way.tries);
        let review = Review {
            number,
            entity: self.draws.u64(QUESTION, under_way.about, n),
            deadline: match impatient {
                true => under_way.sent + self.api.latency.timeout,
                false => turn.now + REQUEST_TIMEOUT,
            },
            impatient,
            attributes,
            next,
            validating: false,
            waiting: 0,
            error: None,
        };
        let review = self.webhooks.reviews.insert(review);
        self.go_on_asking(review, turn);
        false
    }

    /// Admission webhooks may want to see renewals: this one goes on like any other write.
    pub(super) fn renewal_is_reviewed(&mut self, key: Key, turn: Consequences<'_, '_>) {
        let Some(renewing) = self.api.lose_renewal(key) else {
            return;
        };
        self.kubelet(renewing.renew.machine, turn, |kubelet, cx| {
            kubelet.renewal_lost(&renewing.renew, renewing.sent, cx);
        });
        let number = self.api.renewal_as_request(&renewing);
        self.arrive(number, turn);
    }

    /// What a run on real processes does not do as they would.
    pub fn pretended(&self) -> Vec<String> {
        let mut said = Vec::new();
        if self.containers == super::Containers::Simulated {
            return said;
        }
        if self.webhooks.ever {
            said.push(
                "admission webhooks are not asked: whether an endpoint is ready, and its machine \
                 runs, decides"
                    .to_owned(),
            );
        }
        for fault in self.timeline.faults.iter().map(|active| &active.fault) {
            if matches!(fault.action, crate::fault::Action::Http(_)) {
                said.push(format!(
                    "{} {} does nothing to real requests",
                    fault.kind, fault.name
                ));
            }
        }
        said
    }

    /// Asks whoever is next about a request, or lets it be stored, or refuses it.
    fn go_on_asking(&mut self, key: Key, turn: Consequences<'_, '_>) {
        let Some(review) = self.webhooks.reviews.get_mut(key) else {
            return;
        };
        if review.waiting > 0 {
            return;
        }
        let number = review.number;
        if let Some(error) = review.error.take() {
            self.webhooks.reviews.remove(key);
            return self.refuse(number, error, turn);
        }
        if turn.now >= review.deadline {
            let error = match review.impatient {
                true => ApiError::Unreachable,
                false => ApiError::Unavailable {
                    code: 504,
                    message: "Timeout: request did not complete within requested timeout"
                        .to_owned(),
                },
            };
            self.webhooks.reviews.remove(key);
            return self.refuse(number, error, turn);
        }
        if let Some(hook) = review.next.pop_front() {
            review.waiting = 1;
            return self.ask(key, hook, turn);
        }
        if !std::mem::replace(&mut review.validating, true) {
            let attributes = review.attributes.clone();
            let view = self.api.store.view();
            self.webhooks.catch_up(turn.now);
            let all = (self.webhooks).concerned(WebhookType::Validating, &attributes, view);
            let Some(review) = self.webhooks.reviews.get_mut(key) else {
                return;
            };
            match all {
                Ok(all) => {
                    review.waiting = all.len();
                    for hook in all {
                        self.ask(key, hook, turn);
                    }
                }
                Err(error) => review.error = Some(error),
            }
            return self.go_on_asking(key, turn);
        }
        self.webhooks.reviews.remove(key);
        self.api.set_reviewed(number);
        self.arrive(number, turn);
    }

    /// A request is refused.
    fn refuse(&mut self, number: u32, error: ApiError, turn: Consequences<'_, '_>) {
        let Some(under_way) = self.api.under_way(number) else {
            return;
        };
        if under_way.from == Sender::Feed {
            // Whoever submits pods keeps trying.
            turn.after(Duration::from_secs(1), Event::Arrive(number));
            return;
        }
        let back = match error {
            ApiError::Unreachable => turn.now,
            _ => turn.now + under_way.latency / 4,
        };
        self.api.answer(number, Err(error));
        turn.at(back, Event::Answer(number));
    }

    fn ask(&mut self, review: Key, hook: Arc<Hook>, turn: Consequences<'_, '_>) {
        let entity = self.webhooks.reviews.get(review).map_or(0, |r| r.entity);
        let entity = entity ^ entity_key(&[&hook.configuration, &hook.webhook.name]);
        let way = resolve(&hook.webhook.backend, self.api.store.view());
        let question = self.webhooks.questions.insert(Question {
            review,
            hook: hook.clone(),
            outcome: Ok(()),
        });
        let timeout = hook.webhook.timeout;
        match (way, &hook.webhook.backend) {
            (Ok(Way::Outside), _) | (_, Backend::Url(_)) => {
                turn.at(turn.now, Event::Webhook(question));
            }
            (Err(reason), backend) => {
                let why = answers::posted(backend, timeout, &reason);
                self.webhooks.answered(question, Err(why));
                turn.at(turn.now, Event::Webhook(question));
            }
            (Ok(Way::Cluster), Backend::Service { .. }) => {
                self.ask_service(question, &hook, entity, turn);
            }
        }
    }

    fn ask_service(&mut self, question: Key, hook: &Hook, entity: u64, turn: Consequences<'_, '_>) {
        let Backend::Service {
            namespace,
            name,
            port,
            path,
        } = &hook.webhook.backend
        else {
            return;
        };
        let timeout = hook.webhook.timeout;
        if self.containers == super::Containers::Real {
            let outcome = self.believed((namespace, name), *port, entity);
            let after = match outcome {
                Err(Cause::Timeout) => timeout,
                _ => Duration::ZERO,
            };
            self.hear_of(question, outcome);
            turn.after(after, Event::Webhook(question));
            return;
        }
        let place = (
            namespace.clone(),
            name.clone(),
            *port,
            path.clone(),
            timeout,
        );
        let (clients, data) = (&mut self.webhooks.clients, &mut self.data);
        let client = *clients
            .entry(place)
            .or_insert_with(|| data.add_webhook_client((namespace, name), (*port, path), timeout));
        data.ask_webhook(client, question, entity, turn.now, &mut self.data_out);
        self.drain_data(turn);
    }

    /// What came of a question: noted until its event.
    pub(super) fn hear_of(&mut self, question: Key, outcome: Result<(), Cause>) {
        let Some(asked) = self.webhooks.questions.get(question) else {
            return;
        };
        let webhook = &asked.hook.webhook;
        let outcome = outcome.map_err(|cause| {
            let address = answers::address(&webhook.backend, self.api.store.view());
            failed(cause, &webhook.backend, webhook.timeout, &address)
        });
        self.webhooks.answered(question, outcome);
    }

    /// A question is over.
    pub(super) fn webhook_answered(&mut self, question: Key, turn: Consequences<'_, '_>) {
        let Some(asked) = self.webhooks.questions.remove(question) else {
            return;
        };
        let (hook, fails) = (asked.hook, asked.outcome.is_err());
        let reason = asked.outcome.err().unwrap_or_default();
        if self.webhooks.turned(&hook, fails, turn.now) {
            self.timeline.notes.push(Note::Component {
                at: turn.now,
                component: Text::literal("kube-apiserver"),
                what: answers::story(&hook.webhook, fails.then_some(reason.as_str())),
                bad: fails && !hook.webhook.ignore,
            });
        }
        let Some(review) = self.webhooks.reviews.get_mut(asked.review) else {
            return;
        };
        review.waiting -= 1;
        if fails && !hook.webhook.ignore && review.error.is_none() {
            review.error = Some(answers::internal(&hook.webhook, &reason));
        }
        self.go_on_asking(asked.review, turn);
    }
}
