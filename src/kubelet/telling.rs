//! KubeEvents of a kubelet: sent in the background, one at a time, within a budget of their own.
//!
//! As `client::Recorder`, but what keeps a chatty object quiet is held by each pod worker, so that
//! a node with many pods needs no cache of them. Similar events are not combined.

use std::sync::Arc;
use std::time::Duration;

use super::agent::Event;
use super::config::KubeletConfig;
use super::host::{Cx, Host, Topic};
use crate::api::{Kind, KubeEvent, Meta, Text, text};
use crate::client::{Budget, Reply};
use crate::engine::{Line, Time};
use crate::store::{ApiError, Cause, Write};

/// `staging/src/k8s.io/client-go/tools/record/event.go :: maxTriesPerEvent`.
const TRIES: u32 = 12;
/// `defaultSleepDuration` between tries.
const PAUSE: Duration = Duration::from_secs(10);
/// Events that wait at most.
const QUEUED: usize = 1000;
/// `events_cache.go :: defaultSpamBurst` and `defaultSpamQPS`.
const SPAM_BURST: u32 = 25;
const SPAM_INTERVAL_NS: u64 = 300_000_000_000;

/// The queue of KubeEvents of one kubelet.
#[derive(Debug)]
pub(super) struct Telling {
    /// Those that wait for the one under way to be answered.
    queue: Line<(Arc<KubeEvent>, Cause)>,
    sending: Option<(Arc<KubeEvent>, Cause, u32)>,
    /// When the answer to the last one is there, which nobody is told of.
    answered: Time,
    budget: Budget,
}

/// How much may still be told about one object: Normal events, and Warnings.
///
/// There is one for each pod, so it holds nothing but what differs of their budgets.
#[derive(Clone, Debug, Default)]
pub(super) struct Quiet([Time; 2]);

impl Quiet {
    /// Whether one more may be told now; if so, it counts.
    fn lets_through(&mut self, warning: bool, now: Time) -> bool {
        let spent = &mut self.0[usize::from(warning)];
        let mut budget = Budget::resumed(SPAM_INTERVAL_NS, SPAM_BURST, *spent);
        let lets = budget.try_take(now);
        *spent = budget.spent_until();
        lets
    }
}

/// The object that an event is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    pub(super) kind: Kind,
    pub(super) meta: &'a Meta,
}

impl Telling {
    pub(super) fn new(config: &KubeletConfig) -> Telling {
        Telling {
            queue: Line::default(),
            sending: None,
            answered: Time::ZERO,
            budget: Budget::per_second(config.event_qps, config.event_burst.max(1)),
        }
    }
}

impl Host {
    /// Tells about an object, unless too much was told about it lately.
    pub(super) fn tell(
        &mut self,
        cx: &mut Cx<'_>,
        about: About<'_>,
        quiet: &mut Quiet,
        warning: bool,
        reason: impl Into<Text>,
        message: impl Into<Text>,
    ) {
        if !quiet.lets_through(warning, cx.now) || self.telling.queue.len() >= QUEUED {
            return;
        }
        let event = KubeEvent {
            kind: about.kind,
            namespace: about.meta.namespace.clone(),
            name: about.meta.name.clone(),
            uid: about.meta.uid,
            reason: reason.into(),
            message: message.into(),
            warning,
            source: text!("kubelet"),
        };
        let cause = self.cause("");
        let telling = &mut self.telling;
        if telling.sending.is_none() && telling.queue.is_empty() {
            if telling.answered <= cx.now {
                self.send_event(cx, cx.now, event.into(), cause);
                return;
            }
            cx.out.at(telling.answered, Event::Told);
        }
        telling.queue.push_back((event.into(), cause));
    }

    /// Sends an event at `from`, or later if the budget does not last.
    fn send_event(&mut self, cx: &mut Cx<'_>, from: Time, event: Arc<KubeEvent>, cause: Cause) {
        let at = self.telling.budget.take(from);
        let token = Topic::Event.token(self.life, 0);
        cx.out.send(at, Write::Emit(event.clone()), cause, token);
        self.telling.sending = Some((event, cause, 1));
    }

    /// The event under way was taken, and its answer is back at `answered`: the next one, if others
    /// wait, is sent then. Most kubelets have nothing more to tell by then.
    pub(super) fn event_taken(&mut self, cx: &mut Cx<'_>, answered: Time) {
        self.telling.sending = None;
        self.telling.answered = answered;
        self.send_next_event(cx, answered);
    }

    /// The answer that nobody was told of is there.
    pub(super) fn on_told(&mut self, cx: &mut Cx<'_>) {
        let telling = &mut self.telling;
        if telling.sending.is_none() && telling.answered <= cx.now {
            self.send_next_event(cx, cx.now);
        }
    }

    fn send_next_event(&mut self, cx: &mut Cx<'_>, from: Time) {
        if let Some((event, cause)) = self.telling.queue.pop_front() {
            self.send_event(cx, from, event, cause);
        }
    }

    /// The event under way was answered; an absent server is asked again, up to twelve times.
    pub(super) fn event_replied(&mut self, cx: &mut Cx<'_>, reply: &Reply) {
        let Some(mut sent) = self.telling.sending.take() else {
            return;
        };
        if reply.as_ref().is_err_and(ApiError::of_transport) && sent.2 < TRIES {
            sent.2 += 1;
            let at: Time = self.telling.budget.take(cx.now + PAUSE);
            let token = Topic::Event.token(self.life, 0);
            cx.out.send(at, Write::Emit(sent.0.clone()), sent.1, token);
            self.telling.sending = Some(sent);
            return;
        }
        self.send_next_event(cx, cx.now);
    }
}
