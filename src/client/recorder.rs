//! Sending KubeEvents: in the background, one at a time, and not too many about one object.
//!
//! A component tells what it did and goes on; the recorder sends later, out of the same request
//! budget as the component's writes. Similar events are combined and a chatty object is cut off,
//! which is why `kubectl describe` shows "(combined from similar events)" and not two hundred pods.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::budget::Budget;
use super::outbox::Reply;
use crate::api::{Kind, KubeEvent, Text, Uid};
use crate::engine::Time;
use crate::store::{ApiError, Cause};

/// Events that wait at most; more are dropped (`DropIfChannelFull`).
const QUEUED: usize = 1000;
/// `staging/src/k8s.io/client-go/tools/record/event.go :: maxTriesPerEvent`.
const TRIES: u32 = 12;
/// `defaultSleepDuration` between tries.
const PAUSE: Duration = Duration::from_secs(10);
/// `events_cache.go :: maxLruCacheEntries`.
const REMEMBERED: usize = 4096;
/// `defaultAggregateMaxEvents`: so many different messages are told apart …
const SIMILAR: usize = 10;
/// `defaultAggregateIntervalInSeconds`: … unless so long passed since the last.
const SIMILAR_FOR: Duration = Duration::from_secs(600);
/// `defaultSpamBurst` and `defaultSpamQPS`: 25 events about an object, then one in five minutes.
const SPAM_BURST: u32 = 25;
const SPAM_INTERVAL_NS: u64 = 300_000_000_000;

/// The recorder of one component.
#[derive(Debug, Default)]
pub struct Recorder {
    queue: VecDeque<(KubeEvent, Cause)>,
    sending: Option<(KubeEvent, Cause, u32)>,
    correlator: Correlator,
}

impl Recorder {
    /// Queues an event.
    pub fn emit(&mut self, event: KubeEvent, cause: Cause) {
        if self.queue.len() < QUEUED {
            self.queue.push_back((event, cause));
        }
    }

    /// The next event to send and when it may go, unless one is under way. Its reply must be
    /// handed to [`Recorder::replied`].
    pub fn next(&mut self, now: Time, budget: &mut Budget) -> Option<(Time, KubeEvent, Cause)> {
        if self.sending.is_some() {
            return None;
        }
        while let Some((event, cause)) = self.queue.pop_front() {
            if let Some(event) = self.correlator.correlate(event, now) {
                self.sending = Some((event.clone(), cause, 1));
                return Some((budget.take(now), event, cause));
            }
        }
        None
    }

    /// The event under way was answered. An unreachable server is tried again: then this returns
    /// the event and when to send it.
    pub fn replied(
        &mut self,
        reply: &Reply,
        now: Time,
        budget: &mut Budget,
    ) -> Option<(Time, KubeEvent, Cause)> {
        let (event, cause, tries) = self.sending.take()?;
        if !reply.as_ref().is_err_and(ApiError::of_transport) || tries >= TRIES {
            return None;
        }
        self.sending = Some((event.clone(), cause, tries + 1));
        Some((budget.take(now + PAUSE), event, cause))
    }

    /// Whether nothing waits or is under way.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.sending.is_none()
    }
}

/// Whom an event is about, and how loudly.
type About = (Kind, Text, Text, Uid, bool);

fn about(event: &KubeEvent) -> About {
    (
        event.kind,
        event.namespace.clone(),
        event.name.clone(),
        event.uid,
        event.warning,
    )
}

#[derive(Clone, Debug)]
struct Similar {
    messages: Vec<Text>,
    last: Time,
}

/// `staging/src/k8s.io/client-go/tools/record/events_cache.go :: EventCorrelator`.
#[derive(Debug, Default)]
struct Correlator {
    similar: Recent<(About, Text), Similar>,
    spam: Recent<About, Budget>,
}

impl Correlator {
    /// `EventCorrelate`: the event as it is to be sent, if at all.
    fn correlate(&mut self, event: KubeEvent, now: Time) -> Option<KubeEvent> {
        let event = self.aggregate(event, now);
        let full = || Budget::new(SPAM_INTERVAL_NS, SPAM_BURST);
        self.spam
            .get(about(&event), full)
            .try_take(now)
            .then_some(event)
    }

    /// `EventAggregate`.
    fn aggregate(&mut self, mut event: KubeEvent, now: Time) -> KubeEvent {
        let fresh = || Similar {
            messages: Vec::new(),
            last: now,
        };
        let key = (about(&event), event.reason.clone());
        let similar = self.similar.get(key, fresh);
        if now.since(similar.last) > SIMILAR_FOR {
            similar.messages.clear();
        }
        similar.last = now;
        if !similar.messages.contains(&event.message) {
            similar.messages.push(event.message.clone());
        }
        if similar.messages.len() < SIMILAR {
            return event;
        }
        similar.messages.remove(0);
        event.message = format!("(combined from similar events): {}", event.message).into();
        event
    }
}

/// The values used most recently.
#[derive(Debug)]
struct Recent<K, V> {
    values: FxHashMap<K, (V, u64)>,
    by_use: BTreeMap<u64, K>,
    uses: u64,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Recent {
            values: FxHashMap::default(),
            by_use: BTreeMap::new(),
            uses: 0,
        }
    }
}

impl<K: Clone + Eq + std::hash::Hash, V> Recent<K, V> {
    fn get(&mut self, key: K, fresh: impl FnOnce() -> V) -> &mut V {
        self.uses += 1;
        self.by_use.insert(self.uses, key.clone());
        if let Some((_, used)) = self.values.get(&key) {
            self.by_use.remove(used);
        } else if self.values.len() >= REMEMBERED
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.values.remove(&oldest);
        }
        let uses = self.uses;
        let entry = self.values.entry(key).or_insert_with(|| (fresh(), uses));
        entry.1 = uses;
        &mut entry.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(reason: &str, message: String) -> KubeEvent {
        KubeEvent {
            kind: Kind::ReplicaSet,
            namespace: "default".into(),
            name: "web".into(),
            uid: Uid(1),
            reason: reason.into(),
            message: message.into(),
            warning: false,
            source: "replicaset-controller".into(),
        }
    }

    /// Emits `count` events of different messages `gap` apart; prints the messages sent.
    fn sent(count: u64, gap: Duration) -> Vec<String> {
        let mut recorder = Recorder::default();
        let mut budget = Budget::per_second(0, 1);
        let mut sent = Vec::new();
        let mut now = Time::ZERO;
        for i in 0..count {
            recorder.emit(event("Created", format!("pod {i}")), Cause::default());
            if let Some((_, event, _)) = recorder.next(now, &mut budget) {
                sent.push(event.message.to_string());
                let gone = Err(ApiError::Gone);
                assert_eq!(recorder.replied(&gone, now, &mut budget), None);
            }
            now += gap;
        }
        sent
    }

    #[test]
    fn the_tenth_similar_event_and_later_ones_are_combined() {
        let sent = sent(12, Duration::from_secs(1));
        assert_eq!(sent[8], "pod 8");
        assert_eq!(sent[9], "(combined from similar events): pod 9");
        assert_eq!(sent[11], "(combined from similar events): pod 11");
    }

    #[test]
    fn events_more_than_ten_minutes_apart_are_not_similar() {
        let sent = sent(20, Duration::from_secs(601));
        assert_eq!(sent[19], "pod 19");
    }

    #[test]
    fn an_object_may_be_told_about_25_times_then_once_in_five_minutes() {
        assert_eq!(sent(100, Duration::ZERO).len(), 25);
        // 100 seconds apart: in 9,900 s another 33 come back
        assert_eq!(sent(100, Duration::from_secs(100)).len(), 25 + 33);
    }

    #[test]
    fn one_event_is_under_way_at_a_time_and_is_tried_again_when_the_server_is_away() {
        let (mut recorder, mut budget) = (Recorder::default(), Budget::per_second(0, 1));
        recorder.emit(event("A", "a".into()), Cause::default());
        recorder.emit(event("B", "b".into()), Cause::default());
        assert!(recorder.next(Time::ZERO, &mut budget).is_some());
        assert!(recorder.next(Time::ZERO, &mut budget).is_none());
        let away = Err(ApiError::Unreachable);
        let again = recorder.replied(&away, Time::ZERO, &mut budget).unwrap();
        assert_eq!(
            (again.0, again.1.reason.as_str()),
            (Time::from_secs(10), "A")
        );
        for _ in 0..10 {
            assert!(recorder.replied(&away, Time::ZERO, &mut budget).is_some());
        }
        assert!(recorder.replied(&away, Time::ZERO, &mut budget).is_none());
        assert_eq!(
            recorder.next(Time::ZERO, &mut budget).unwrap().1.reason,
            "B"
        );
    }
}
