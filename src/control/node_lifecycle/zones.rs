//! Zones: how much of each is gone, and how fast its lost nodes may be tainted.
//!
//! `ComputeZoneState`, `handleDisruption` and `scheduler/rate_limited_queue.go`. A zone where more
//! than two nodes and at least the unhealthy share are not ready is partially disrupted: small
//! clusters then stop evicting there, large ones slow down. When every zone is fully gone, the
//! control plane is the likelier culprit and evictions stop everywhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::api::node::{REGION, ZONE};
use crate::api::{Node, Text};
use crate::engine::Time;
use crate::store::Id;

use super::Flags;

/// Region and zone of a node (`GetZoneKey`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ZoneKey(Text, Text);

impl ZoneKey {
    /// The key of a node.
    pub fn of(node: &Node) -> Self {
        let label = |key| node.meta.labels.get(key).cloned().unwrap_or_default();
        ZoneKey(label(REGION), label(ZONE))
    }
}

/// State of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneState {
    /// Not judged yet.
    Initial,
    /// Evictions at the normal rate.
    Normal,
    /// No node is ready.
    FullDisruption,
    /// Many nodes are not ready.
    PartialDisruption,
}

/// What one pass saw of a zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Nodes that count in it.
    pub nodes: usize,
    /// Those of them that are ready.
    pub ready: usize,
}

/// A token bucket of one token; `None` never gives any.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Limiter {
    qps: f64,
    ready_at: Time,
}

impl Limiter {
    fn new(qps: f64) -> Self {
        Limiter {
            qps,
            ready_at: Time::ZERO,
        }
    }

    fn try_accept(&mut self, now: Time) -> bool {
        if self.qps <= 0.0 || now < self.ready_at {
            return false;
        }
        self.ready_at = now + Duration::from_secs_f64(1.0 / self.qps);
        true
    }

    /// `SwapLimiter`: whoever waits goes on waiting.
    fn swap(&mut self, qps: f64, now: Time) {
        if self.qps == qps {
            return;
        }
        let mut new = Limiter::new(qps);
        if !self.try_accept(now) {
            new.try_accept(now);
        }
        *self = new;
    }
}

#[derive(Clone, Debug)]
struct Zone {
    state: ZoneState,
    limiter: Limiter,
    queue: VecDeque<Id<Node>>,
    /// Nodes that were queued and not forgotten since: they are not queued again.
    seen: BTreeSet<Id<Node>>,
}

/// What a pass over the zones led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transition {
    /// Every zone is gone: all taints are taken back and evictions stop.
    pub entered_master_disruption: bool,
    /// Some node answers again: all nodes get a fresh grace period.
    pub left_master_disruption: bool,
}

/// The zones of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Zones {
    zones: BTreeMap<ZoneKey, Zone>,
    flags: Flags,
}

impl Zones {
    /// Without any zone.
    pub fn new(flags: &Flags) -> Self {
        Zones {
            zones: BTreeMap::new(),
            flags: flags.clone(),
        }
    }

    /// `addPodEvictorForNewZone`.
    pub fn ensure(&mut self, key: &ZoneKey, flags: &Flags) {
        if !self.zones.contains_key(key) {
            let zone = Zone {
                state: ZoneState::Initial,
                limiter: Limiter::new(flags.eviction_rate),
                queue: VecDeque::new(),
                seen: BTreeSet::new(),
            };
            self.zones.insert(key.clone(), zone);
        }
    }

    /// Queues a node for its taint, once.
    pub fn queue(&mut self, key: &ZoneKey, node: Id<Node>) {
        if let Some(zone) = self.zones.get_mut(key)
            && zone.seen.insert(node)
        {
            zone.queue.push_back(node);
        }
    }

    /// Takes a node out, so that it may be queued again.
    pub fn forget(&mut self, key: &ZoneKey, node: Id<Node>) {
        if let Some(zone) = self.zones.get_mut(key)
            && zone.seen.remove(&node)
        {
            zone.queue.retain(|n| *n != node);
        }
    }

    /// Whether any node waits for its taint.
    pub fn waiting(&self) -> bool {
        self.zones.values().any(|zone| !zone.queue.is_empty())
    }

    /// `RateLimitedTimedQueue.Try` for every zone: `act` answers whether the node is done.
    pub fn take_due(&mut self, now: Time, mut act: impl FnMut(Id<Node>) -> bool) {
        for zone in self.zones.values_mut() {
            let mut left = zone.queue.len();
            while left > 0 && zone.limiter.try_accept(now) {
                left -= 1;
                let Some(node) = zone.queue.pop_front() else {
                    break;
                };
                if !act(node) {
                    zone.queue.push_back(node);
                }
            }
        }
    }

    /// `ComputeZoneState`.
    fn state(&self, seen: Seen) -> ZoneState {
        let ready = seen.ready;
        let not_ready = seen.nodes - ready;
        // Upstream divides in float32; node counts are far below where that matters.
        let share = not_ready as f64 / seen.nodes.max(1) as f64;
        if ready == 0 && not_ready > 0 {
            ZoneState::FullDisruption
        } else if not_ready > 2 && share as f32 >= self.flags.unhealthy_zone as f32 {
            ZoneState::PartialDisruption
        } else {
            ZoneState::Normal
        }
    }

    fn rate(&self, size: usize, state: ZoneState) -> Option<f64> {
        match state {
            ZoneState::Initial => None,
            // HealthyQPSFunc serves full disruption too.
            ZoneState::Normal | ZoneState::FullDisruption => Some(self.flags.eviction_rate),
            ZoneState::PartialDisruption if size > self.flags.large_cluster => {
                Some(self.flags.secondary_eviction_rate)
            }
            ZoneState::PartialDisruption => Some(0.0),
        }
    }

    /// `handleDisruption`.
    pub fn handle_disruption(&mut self, seen: &BTreeMap<ZoneKey, Seen>, now: Time) -> Transition {
        let new: BTreeMap<ZoneKey, ZoneState> = seen
            .iter()
            .map(|(k, seen)| (k.clone(), self.state(*seen)))
            .collect();
        let all_are = new.values().all(|s| *s == ZoneState::FullDisruption);
        let flags = self.flags.clone();
        for key in new.keys() {
            self.ensure(key, &flags);
        }
        self.zones
            .retain(|key, zone| new.contains_key(key) || !zone.queue.is_empty());
        let all_were = self
            .zones
            .iter()
            .filter(|(key, _)| new.contains_key(key))
            .all(|(_, zone)| zone.state == ZoneState::FullDisruption);
        let mut transition = Transition::default();
        if all_are && all_were {
            return transition;
        }
        if all_are {
            transition.entered_master_disruption = true;
            for zone in self.zones.values_mut() {
                zone.limiter.swap(0.0, now);
                zone.state = ZoneState::FullDisruption;
            }
            return transition;
        }
        transition.left_master_disruption = all_were;
        for (key, state) in new {
            let size = seen.get(&key).map_or(0, |seen| seen.nodes);
            let rate = self.rate(size, state);
            let Some(zone) = self.zones.get_mut(&key) else {
                continue;
            };
            if zone.state != state || all_were {
                zone.state = state;
                if let Some(rate) = rate {
                    zone.limiter.swap(rate, now);
                }
            }
        }
        transition
    }

    /// The state of a zone, for reports and tests.
    pub fn state_of(&self, key: &ZoneKey) -> Option<ZoneState> {
        self.zones.get(key).map(|zone| zone.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(zone: &str) -> ZoneKey {
        ZoneKey(Text::default(), zone.into())
    }

    /// `a: 3+ 2-, …`: a zone with three ready nodes and two that are not; `?` never said anything.
    fn conditions(text: &str) -> BTreeMap<ZoneKey, Seen> {
        let zone = |text: &str| {
            let (name, words) = text.split_once(": ").expect("name: nodes");
            let mut seen = Seen::default();
            for word in words.split(' ') {
                let (count, mark) = word.split_at(word.len() - 1);
                let count: usize = count.parse().expect("a count");
                seen.nodes += count;
                seen.ready += if mark == "+" { count } else { 0 };
            }
            (key(name), seen)
        };
        text.split(", ").map(zone).collect()
    }

    /// After `node_lifecycle_controller_test.go :: TestMonitorNodeHealthEvictPodsWithDisruption`,
    /// `TestSwapUnreachableNotReadyTaints…` and the comments of `ComputeZoneState`: looks one after
    /// the other, each with the state of every zone, how many nodes a second may be tainted there,
    /// and whether everything was lost or found again.
    #[test]
    fn zones_slow_down_stop_and_recover() {
        let stories: [&[(&str, &str)]; 7] = [
            // two of three: too few to speak of a disruption
            &[
                ("a: 3+", "a Normal 0.1"),
                ("a: 1+ 2-", "a Normal 0.1"),
                ("a: 3+", "a Normal 0.1"),
            ],
            // 3 of 5 are 60 %, more than 55 %; a small cluster stops
            &[
                ("a: 5+", "a Normal 0.1"),
                ("a: 2+ 3-", "a PartialDisruption 0"),
                ("a: 3+ 2-", "a Normal 0.1"),
            ],
            // 3 of 6 are less
            &[("a: 3+ 3-", "a Normal 0.1")],
            // a node that never said anything is not ready either
            &[("a: 2+ 2- 1?", "a PartialDisruption 0")],
            // more than 50 nodes: slowly
            &[
                ("a: 20+ 40-", "a PartialDisruption 0.01"),
                ("a: 20+ 30-", "a PartialDisruption 0.01"),
            ],
            // one zone of two is gone: its pods are wanted elsewhere
            &[
                ("a: 2+, b: 2+", "a Normal 0.1, b Normal 0.1"),
                ("a: 2-, b: 2+", "a FullDisruption 0.1, b Normal 0.1"),
                (
                    "a: 2-, b: 2-",
                    "a FullDisruption 0, b FullDisruption 0, all lost",
                ),
                ("a: 2-, b: 2-", "a FullDisruption 0, b FullDisruption 0"),
                (
                    "a: 2-, b: 1+ 1-",
                    "a FullDisruption 0.1, b Normal 0.1, found again",
                ),
            ],
            // a zone without nodes is forgotten
            &[
                ("a: 1+, b: 1-", "a Normal 0.1, b FullDisruption 0.1"),
                ("a: 1+", "a Normal 0.1"),
            ],
        ];
        for story in stories {
            let mut zones = Zones::new(&Flags::default());
            for (nth, (text, expected)) in story.iter().enumerate() {
                let now = Time::from_secs(100 * (nth as u64 + 1));
                let conditions = conditions(text);
                let went = zones.handle_disruption(&conditions, now);
                let known = zones.zones.iter();
                let mut words: Vec<String> = known
                    .map(|(key, zone)| format!("{} {:?} {}", key.1, zone.state, zone.limiter.qps))
                    .collect();
                words.extend(
                    went.entered_master_disruption
                        .then(|| "all lost".to_owned()),
                );
                words.extend(
                    went.left_master_disruption
                        .then(|| "found again".to_owned()),
                );
                assert_eq!(words.join(", "), *expected, "{text}");
            }
        }
    }

    /// After `scheduler/rate_limited_queue_test.go :: TestTry`, `TestAddNode`, `TestDelNode`,
    /// `TestSwapLimiter`, `TestTryRemovingWhileTry`: one token, a new one every 10 s.
    #[test]
    fn nodes_are_taken_one_by_one_at_the_rate_of_their_zone() {
        let mut zones = Zones::new(&Flags::default());
        zones.ensure(&key("a"), &Flags::default());
        for n in [1, 2, 3, 2] {
            zones.queue(&key("a"), Id::new(n));
        }
        zones.forget(&key("a"), Id::new(1));
        let mut taken = Vec::new();
        for second in 100..130 {
            zones.take_due(Time::from_secs(second), |node| {
                taken.push((second, node.index()));
                // the third is not done at its first turn
                taken.len() != 2
            });
        }
        assert_eq!(taken, [(100, 2), (110, 3), (120, 3)]);
        assert!(!zones.waiting());
        // it was there and was not forgotten: it is not queued again
        zones.queue(&key("a"), Id::new(2));
        assert!(!zones.waiting());
        zones.forget(&key("a"), Id::new(2));
        zones.queue(&key("a"), Id::new(2));
        assert!(zones.waiting());
    }
}
