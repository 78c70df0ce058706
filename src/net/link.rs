//! The state of the links: cuts, delay, loss, and what becomes of one packet.
//!
//! A fault is a [`Rule`]: from these ends to those ends, this effect. A cut in one direction is one
//! rule, in both directions two ([`Links::add_both`]). Everything that travels asks
//! [`Links::path`]: requests of users, calls between pods, and the API traffic of kubelets and
//! proxies. A dropped packet of an open connection is the sender's business (it retransmits).

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::topology::{Place, Topology};
use crate::engine::Time;

/// One end of a way: a place, and the pod there when the sender or receiver is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct End {
    /// Where.
    pub place: Place,
    /// Number of the pod, `u32::MAX` when it is not a pod.
    pub pod: u32,
}

impl End {
    /// The end of a pod.
    pub fn pod(place: Place, pod: u32) -> End {
        End { place, pod }
    }
}

impl From<Place> for End {
    fn from(place: Place) -> End {
        End {
            place,
            pod: u32::MAX,
        }
    }
}

/// A set of ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// Whether it holds everything.
    pub everything: bool,
    /// Places; everything there belongs to the set.
    pub places: BTreeSet<Place>,
    /// Pods by number.
    pub pods: BTreeSet<u32>,
}

impl Members {
    /// Everything.
    pub fn everything() -> Members {
        Members {
            everything: true,
            ..Members::default()
        }
    }

    /// Some places.
    pub fn places(places: impl IntoIterator<Item = Place>) -> Members {
        Members {
            places: places.into_iter().collect(),
            ..Members::default()
        }
    }

    /// Some pods.
    pub fn pods(pods: impl IntoIterator<Item = u32>) -> Members {
        Members {
            pods: pods.into_iter().collect(),
            ..Members::default()
        }
    }

    /// Whether `end` belongs to it.
    pub fn contains(&self, end: End) -> bool {
        self.everything || self.places.contains(&end.place) || self.pods.contains(&end.pod)
    }
}

/// What a rule does to packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// All are dropped.
    Cut,
    /// All arrive later.
    Delay {
        /// By this much,
        by: Duration,
        /// and up to this much more or less (uniformly).
        jitter: Duration,
        /// So many of a million are not later at all.
        early_per_million: u32,
    },
    /// Some are dropped.
    Loss {
        /// How many of a million.
        per_million: u32,
    },
    /// All of them together pass a token bucket: see [`Links::pass`].
    Rate {
        /// Bytes in a second.
        bytes_per_s: u64,
        /// Bytes that may pass at once after a pause.
        burst: u64,
    },
}

impl Effect {
    /// What becomes of a packet that would take so long, given the bits of a rule of this number.
    #[inline]
    fn on(self, bits: u64, id: RuleId, latency: Duration) -> Verdict {
        match self {
            Effect::Cut => return Verdict::Drop,
            Effect::Loss { per_million } => {
                if (u128::from(bits) * 1_000_000) >> 64 < u128::from(per_million) {
                    return Verdict::Drop;
                }
            }
            Effect::Rate { .. } => {}
            Effect::Delay {
                early_per_million, ..
            } if (u128::from(remix(bits, id.0)) * 1_000_000) >> 64
                < u128::from(early_per_million) => {}
            Effect::Delay { by, jitter, .. } => {
                let width = u128::from(2 * u64::try_from(jitter.as_nanos()).unwrap_or(0));
                let more = u64::try_from((u128::from(bits) * width) >> 64).unwrap_or(0);
                let later = (latency + by + Duration::from_nanos(more)).saturating_sub(jitter);
                return Verdict::Deliver(later);
            }
        }
        Verdict::Deliver(latency)
    }
}

/// A fault of the network, in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Senders.
    pub from: Members,
    /// Receivers.
    pub to: Members,
    /// What happens.
    pub effect: Effect,
}

/// The number of a rule, to take it away again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RuleId(pub u32);

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It arrives after this time.
    Deliver(Duration),
    /// It never arrives.
    Drop,
}

/// All rules in force.
#[derive(Clone, Debug, Default)]
pub struct Links {
    rules: Vec<(RuleId, Rule)>,
    next: u32,
    /// When the bucket of a rule of a rate will have let everything pass.
    busy: Vec<(RuleId, Bucket)>,
}

/// A token bucket, as the instant at which all that was given to it has passed at its rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    passed: Time,
}

impl Bucket {
    /// How long bytes that come now wait for their turn and take to pass. After a pause `burst`
    /// bytes pass at once.
    pub fn pass(&mut self, bytes: u64, bytes_per_s: u64, burst: u64, now: Time) -> Duration {
        let rate = u128::from(bytes_per_s.max(1));
        let time = |bytes: u64| {
            let nanos = u128::from(bytes) * 1_000_000_000 / rate;
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 4))
        };
        let saved = Time::from_nanos(
            (now.as_nanos()).saturating_sub(u64::try_from(time(burst).as_nanos()).unwrap_or(0)),
        );
        self.passed = self.passed.max(saved) + time(bytes);
        self.passed.since(now)
    }

    /// How long bytes that come now would wait before they begin to pass.
    pub fn backlog(&self, now: Time) -> Duration {
        self.passed.since(now)
    }
}

impl Links {
    /// Puts a rule in force.
    pub fn add(&mut self, rule: Rule) -> RuleId {
        let id = RuleId(self.next);
        self.next += 1;
        self.rules.push((id, rule));
        id
    }

    /// Puts a rule in force in both directions.
    pub fn add_both(&mut self, rule: Rule) -> [RuleId; 2] {
        let back = Rule {
            from: rule.to.clone(),
            to: rule.from.clone(),
            effect: rule.effect,
        };
        [self.add(rule), self.add(back)]
    }

    /// Takes a rule away; returns whether it was in force.
    pub fn remove(&mut self, id: RuleId) -> bool {
        let before = self.rules.len();
        self.rules.retain(|(rule, _)| *rule != id);
        self.busy.retain(|(rule, _)| *rule != id);
        before != self.rules.len()
    }

    /// Whether no rule is in force.
    #[inline]
    pub fn is_free(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a cut lies between two ends.
    pub fn cut(&self, from: End, to: End) -> bool {
        self.rules.iter().any(|(_, rule)| {
            rule.effect == Effect::Cut && rule.from.contains(from) && rule.to.contains(to)
        })
    }

    /// Whether any rule concerns packets between two ends.
    pub fn touches(&self, from: End, to: End) -> bool {
        let mut rules = self.rules.iter();
        rules.any(|(_, rule)| rule.from.contains(from) && rule.to.contains(to))
    }

    /// Whether any rule concerns packets to or from an end.
    pub fn concerns(&self, end: End) -> bool {
        let mut rules = self.rules.iter();
        rules.any(|(_, rule)| rule.from.contains(end) || rule.to.contains(end))
    }

    /// What becomes of one packet. `draw` decides jitter and loss; its low 20 bits are the
    /// latency's own jitter. Packets within one pod, or of a node to itself, meet no rule.
    #[inline]
    pub fn path(&self, topology: &Topology, from: End, to: End, draw: u64) -> Verdict {
        let mut latency = topology.latency(from.place, to.place, draw);
        let same_pod = from.pod == to.pod && (from.pod != u32::MAX || from.place == to.place);
        if self.rules.is_empty() || same_pod {
            return Verdict::Deliver(latency);
        }
        for (id, rule) in &self.rules {
            if !(rule.from.contains(from) && rule.to.contains(to)) {
                continue;
            }
            // Each rule sees its own bits of the draw, whatever other rules there are.
            match rule.effect.on(remix(draw, id.0), *id, latency) {
                Verdict::Deliver(later) => latency = later,
                Verdict::Drop => return Verdict::Drop,
            }
        }
        Verdict::Deliver(latency)
    }

    /// What becomes of a packet between a pod and its own node, to the pod or back: only rules about
    /// the pod itself, with everybody or with the node, are about it. Rules about nodes are not: a node
    /// that is cut off still reaches its pods.
    pub fn path_to_own_node(
        &self,
        (node, pod): (Place, u32),
        to_the_pod: bool,
        draw: u64,
        now: Time,
    ) -> Verdict {
        let mut latency = Duration::ZERO;
        for (id, rule) in &self.rules {
            let (mine, others) = match to_the_pod {
                true => (&rule.to, &rule.from),
                false => (&rule.from, &rule.to),
            };
            let meant = others.everything || others.places.contains(&node);
            if !(meant && mine.pods.contains(&pod)) {
                continue;
            }
            match rule.effect.on(remix(draw, id.0), *id, latency) {
                Verdict::Deliver(later) => latency = later,
                Verdict::Drop => return Verdict::Drop,
            }
            // What waits already has to pass first.
            let busy = self.busy.iter().find(|(rule, _)| rule == id);
            latency += busy.map_or(Duration::ZERO, |(_, bucket)| bucket.backlog(now));
        }
        Verdict::Deliver(latency)
    }

    /// How much later bytes arrive that are sent now, for the rates on their way. Senders keep back
    /// what does not pass (TCP does), so nothing is lost for waiting; it passes in the order of
    /// sending.
    pub fn pass(&mut self, from: End, to: End, bytes: u64, now: Time) -> Duration {
        let mut later = Duration::ZERO;
        let same_pod = from.pod == to.pod && (from.pod != u32::MAX || from.place == to.place);
        for (id, rule) in &self.rules {
            let Effect::Rate { bytes_per_s, burst } = rule.effect else {
                continue;
            };
            if same_pod || !(rule.from.contains(from) && rule.to.contains(to)) {
                continue;
            }
            let at = match self.busy.iter().position(|(rule, _)| rule == id) {
                Some(at) => at,
                None => {
                    self.busy.push((*id, Bucket::default()));
                    self.busy.len() - 1
                }
            };
            later += self.busy[at].1.pass(bytes, bytes_per_s, burst, now + later);
        }
        later
    }
}

/// The finaliser of SplitMix64 over a draw and a rule's number.
fn remix(draw: u64, rule: u32) -> u64 {
    let mut x = draw.wrapping_add(u64::from(rule).wrapping_add(1) << 1);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::topology::Latencies;
    use super::*;

    fn world() -> (Topology, Place, Place) {
        let mut topology = Topology::new(Latencies::default());
        let (a, b) = (topology.node("a", "a"), topology.node("b", "b"));
        (topology, a, b)
    }

    #[test]
    fn a_one_way_cut_stops_one_direction_until_it_is_removed() {
        let (topology, a, b) = world();
        let mut links = Links::default();
        let cut = links.add(Rule {
            from: Members::places([a]),
            to: Members::places([b]),
            effect: Effect::Cut,
        });
        assert_eq!(links.path(&topology, a.into(), b.into(), 0), Verdict::Drop);
        assert!(matches!(
            links.path(&topology, b.into(), a.into(), 0),
            Verdict::Deliver(_)
        ));
        assert!(links.cut(a.into(), b.into()) && !links.cut(b.into(), a.into()));
        assert!(links.remove(cut) && !links.remove(cut));
        assert!(matches!(
            links.path(&topology, a.into(), b.into(), 0),
            Verdict::Deliver(_)
        ));
    }

    #[test]
    fn a_pods_own_node_is_among_everybody_and_a_cut_off_node_reaches_its_pods() {
        let (_, a, b) = world();
        let by = Duration::from_millis(70);
        let (cut, jitter) = (Effect::Cut, Duration::ZERO);
        let late = Effect::Delay {
            by,
            jitter,
            early_per_million: 0,
        };
        let (pod, every) = (Members::pods([7]), Members::everything());
        let (here, there) = (Members::places([a]), Members::places([b]));
        let (fine, lost) = (Verdict::Deliver(Duration::ZERO), Verdict::Drop);
        // From whom to whom a rule is, what it does, and what becomes of packets to the pod and back.
        let table = [
            (&pod, &every, late, fine, Verdict::Deliver(by)),
            (&every, &pod, late, Verdict::Deliver(by), fine),
            (&pod, &here, cut, fine, lost),
            (&pod, &there, cut, fine, fine),
            (&here, &every, cut, fine, fine),
            (&every, &here, cut, fine, fine),
            (&Members::pods([8]), &every, cut, fine, fine),
        ];
        for (n, (from, to, effect, there, back)) in table.into_iter().enumerate() {
            let mut links = Links::default();
            let (from, to) = (from.clone(), to.clone());
            links.add(Rule { from, to, effect });
            let path = |inwards| links.path_to_own_node((a, 7), inwards, 1, Time::ZERO);
            assert_eq!((path(true), path(false)), (there, back), "row {n}");
        }
    }

    #[test]
    fn a_cut_between_pods_leaves_other_pods_of_the_nodes_alone() {
        let (topology, a, b) = world();
        let mut links = Links::default();
        links.add_both(Rule {
            from: Members::pods([7]),
            to: Members::everything(),
            effect: Effect::Cut,
        });
        let path = |from, to| links.path(&topology, from, to, 0);
        assert_eq!(path(End::pod(a, 7), b.into()), Verdict::Drop);
        assert_eq!(path(b.into(), End::pod(a, 7)), Verdict::Drop);
        assert!(matches!(
            path(End::pod(a, 8), b.into()),
            Verdict::Deliver(_)
        ));
        let own = path(End::pod(a, 7), End::pod(a, 7));
        assert!(matches!(own, Verdict::Deliver(_)), "a pod reaches itself");
    }

    #[test]
    fn loss_and_delay_follow_their_numbers() {
        let (topology, a, b) = world();
        let mut links = Links::default();
        let loss = links.add(Rule {
            from: Members::places([a]),
            to: Members::everything(),
            effect: Effect::Loss {
                per_million: 250_000,
            },
        });
        // binomial(10,000, 1/4): mean 2,500, standard deviation 43
        let lost = (0..10_000u64)
            .map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .filter(|draw| links.path(&topology, a.into(), b.into(), *draw) == Verdict::Drop)
            .count();
        assert!((2_300..2_700).contains(&lost), "{lost}");
        links.remove(loss);
        links.add(Rule {
            from: Members::everything(),
            to: Members::places([b]),
            effect: Effect::Delay {
                by: Duration::from_millis(100),
                jitter: Duration::from_millis(10),
                early_per_million: 0,
            },
        });
        for n in 0..1_000u64 {
            let draw = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let Verdict::Deliver(latency) = links.path(&topology, a.into(), b.into(), draw) else {
                panic!("dropped");
            };
            let ms = latency.as_secs_f64() * 1e3;
            assert!((90.5..110.7).contains(&ms), "{ms}");
        }
    }

    #[test]
    fn a_rate_lets_a_burst_pass_and_then_its_bytes_a_second() {
        let (_, a, b) = world();
        let mut links = Links::default();
        let rate = links.add(Rule {
            from: Members::places([a]),
            to: Members::everything(),
            effect: Effect::Rate {
                bytes_per_s: 1_000,
                burst: 500,
            },
        });
        // at ms, bytes, later by ms: 500 at once; then 1 ms for each byte, one after the other; after
        // a pause of 600 ms another burst.
        let table = [
            (1_000, 500, 0),
            (1_000, 200, 200),
            (1_100, 100, 200),
            (1_900, 300, 0),
            (1_900, 300, 100),
        ];
        for (at, bytes, expected) in table {
            let later = links.pass(a.into(), b.into(), bytes, Time::from_millis(at));
            assert_eq!(later, Duration::from_millis(expected), "{bytes} at {at}");
            let back = links.pass(b.into(), a.into(), bytes, Time::from_millis(at));
            assert_eq!(back, Duration::ZERO, "the other way");
        }
        links.remove(rate);
        let later = links.pass(a.into(), b.into(), 9_000, Time::from_secs(2));
        assert_eq!(later, Duration::ZERO);
    }

    #[test]
    fn some_packets_are_not_late() {
        let (topology, a, b) = world();
        let mut links = Links::default();
        links.add(Rule {
            from: Members::places([a]),
            to: Members::everything(),
            effect: Effect::Delay {
                by: Duration::from_millis(100),
                jitter: Duration::ZERO,
                early_per_million: 250_000,
            },
        });
        // binomial(10,000, 1/4): mean 2,500, standard deviation 43
        let early = (0..10_000u64)
            .map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .filter(|draw| {
                let path = links.path(&topology, a.into(), b.into(), *draw);
                matches!(path, Verdict::Deliver(latency) if latency < Duration::from_millis(50))
            })
            .count();
        assert!((2_300..2_700).contains(&early), "{early}");
    }
}
