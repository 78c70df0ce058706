//! What becomes of a packet: a function of its addresses, the rules, and the seed.
//!
//! The simulator's [`Links`] and [`Topology`] decide about cuts, losses and delay. Added here is
//! what only real packets have: order, length, copies. Packets of one pair of addresses stay in
//! order unless a rule reorders them, for a path does not shuffle packets just because its latency
//! varies, and TCP would take every such swap for a loss.

use std::time::Duration;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::{Effect, Rule};
use crate::backend::linux::net::route::Cidr;
use crate::engine::draws::Purpose;
use crate::engine::{Draws, Time};
use crate::net::link::{self, Bucket, End, Links, RuleId, Verdict};
use crate::net::topology::{Latencies, Place, Topology};

const PACKET: Purpose = Purpose::new("wire/packet");
const TWICE: Purpose = Purpose::new("wire/duplicate");
const OVERTAKE: Purpose = Purpose::new("wire/reorder");
const CORRUPT: Purpose = Purpose::new("wire/corrupt");

/// Pairs of addresses whose order is remembered; beyond this, pairs at rest are forgotten.
const PAIRS: usize = 1 << 16;

/// What becomes of one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives at this place at these times, and with this bit turned over.
    Arrive {
        /// Where.
        to: Place,
        /// When, in nanoseconds of the clock that was passed in.
        at: SmallVec<[u64; 2]>,
        /// Which of its bits is wrong.
        flip: Option<u64>,
    },
    /// A rule loses it.
    Lost,
    /// Nobody has its address.
    Unroutable,
}

#[derive(Debug)]
struct Shape {
    id: u32,
    rule: Rule,
    /// For a rate.
    bucket: Bucket,
}

/// The state of all links.
#[derive(Debug)]
pub struct Model {
    topology: Topology,
    links: Links,
    link_ids: FxHashMap<u32, RuleId>,
    shapes: Vec<Shape>,
    pods: FxHashMap<u32, u32>,
    /// Longest masks first.
    networks: Vec<(Cidr, Place)>,
    draws: Draws,
    sent: FxHashMap<(Place, Place), u64>,
    last: FxHashMap<(u32, u32), u64>,
}

impl Model {
    /// No nodes, no rules.
    pub fn new(seed: u64, latencies: Latencies) -> Model {
        Model {
            topology: Topology::new(latencies),
            links: Links::default(),
            link_ids: FxHashMap::default(),
            shapes: Vec::new(),
            pods: FxHashMap::default(),
            networks: Vec::new(),
            draws: Draws::new(seed),
            sent: FxHashMap::default(),
            last: FxHashMap::default(),
        }
    }

    /// A node with the networks behind it. Places are numbered as the topology does: the control
    /// plane, the edge, then nodes in the order of joining. Returns whether the number fits.
    pub fn node(&mut self, place: u32, name: &str, zone: &str, networks: &[Cidr]) -> bool {
        if self.topology.node(name, zone) != Place(place) {
            return false;
        }
        self.networks.retain(|(_, p)| *p != Place(place));
        let own = networks.iter().map(|n| (*n, Place(place)));
        self.networks.extend(own);
        let longest_first = |(cidr, _): &(Cidr, Place)| std::cmp::Reverse(cidr.bits);
        self.networks.sort_by_key(longest_first);
        true
    }

    /// Sets the distance between two zones.
    pub fn zones(&mut self, a: &str, b: &str, one_way: Duration) {
        self.topology.set_zone_latency(a, b, one_way);
    }

    /// Which pod has an address.
    pub fn pod(&mut self, ip: u32, pod: Option<u32>) {
        match pod {
            Some(pod) => self.pods.insert(ip, pod),
            None => self.pods.remove(&ip),
        };
    }

    /// Puts a rule in force; one of the same number is replaced.
    pub fn add(&mut self, id: u32, rule: Rule) {
        self.remove(id);
        match rule.effect {
            Effect::Link(effect) => {
                let rule = link::Rule {
                    from: rule.from,
                    to: rule.to,
                    effect,
                };
                self.link_ids.insert(id, self.links.add(rule));
            }
            _ => self.shapes.push(Shape {
                id,
                rule,
                bucket: Bucket::default(),
            }),
        }
    }

    /// Ends a rule.
    pub fn remove(&mut self, id: u32) {
        if let Some(link) = self.link_ids.remove(&id) {
            self.links.remove(link);
        }
        self.shapes.retain(|shape| shape.id != id);
    }

    /// Where an address is.
    fn end(&self, ip: u32) -> Option<End> {
        let network = self.networks.iter().find(|(n, _)| n.contains(ip))?;
        let pod = self.pods.get(&ip).copied().unwrap_or(u32::MAX);
        Some(End::pod(network.1, pod))
    }

    /// What becomes of an IPv4 packet that is sent from `place` at `now`.
    pub fn packet(&mut self, place: Place, packet: &[u8], now: u64) -> Fate {
        let Some((source, destination)) = addresses(packet) else {
            return Fate::Unroutable;
        };
        let Some(to) = self.end(destination) else {
            return Fate::Unroutable;
        };
        self.fate((place, source), (to, destination), packet, now)
    }

    /// What becomes of an IPv4 packet of the pod at this address to another pod of its node, whatever
    /// source it carries. The node itself takes the time that a packet needs within a node.
    pub fn within(&mut self, place: Place, sender: u32, packet: &[u8], now: u64) -> Fate {
        let to = addresses(packet).and_then(|(_, to)| Some((self.end(to)?, to)));
        let Some((to, destination)) = to.filter(|(to, _)| to.place == place) else {
            return Fate::Unroutable;
        };
        self.fate((place, sender), (to, destination), packet, now)
    }

    fn fate(
        &mut self,
        (place, source): (Place, u32),
        (to, destination): (End, u32),
        packet: &[u8],
        now: u64,
    ) -> Fate {
        let pod = self.pods.get(&source).copied().unwrap_or(u32::MAX);
        let from = End::pod(place, pod);
        let count = self.sent.entry((place, to.place)).or_default();
        let n = *count;
        *count += 1;
        let entity = u64::from(place.0) << 32 | u64::from(to.place.0);
        let draw = self.draws.u64(PACKET, entity, n);
        let Verdict::Deliver(latency) = self.links.path(&self.topology, from, to, draw) else {
            return Fate::Lost;
        };
        let own = self.topology.latency(place, to.place, draw);
        let own = if place == to.place {
            own
        } else {
            Duration::ZERO
        };
        let mut due = now + nanos(latency.saturating_sub(own));
        let (mut copies, mut overtakes, mut flip) = (1, false, None);
        for shape in &mut self.shapes {
            let same_pod = source == destination && place == to.place;
            if same_pod || !(shape.rule.from.contains(from) && shape.rule.to.contains(to)) {
                continue;
            }
            let key = entity ^ u64::from(shape.id) << 48;
            let hit = |purpose, ppm: u32| {
                let word = self.draws.u64(purpose, key, n);
                ((u128::from(word) * 1_000_000) >> 64 < u128::from(ppm)).then_some(word)
            };
            match shape.rule.effect {
                Effect::Link(_) => {}
                Effect::Duplicate { per_million } => {
                    copies += usize::from(hit(TWICE, per_million).is_some());
                }
                Effect::Reorder { per_million } => {
                    overtakes |= hit(OVERTAKE, per_million).is_some()
                }
                Effect::Corrupt { per_million } => flip = hit(CORRUPT, per_million).or(flip),
                Effect::Rate {
                    bytes_per_s,
                    burst,
                    queue,
                } => {
                    let (at, bytes) = (Time::from_nanos(now), packet.len() as u64);
                    let waiting = shape.bucket.backlog(at).as_nanos() * u128::from(bytes_per_s);
                    if waiting > u128::from(queue) * 1_000_000_000 {
                        return Fate::Lost;
                    }
                    due += nanos(shape.bucket.pass(bytes, bytes_per_s, burst, at));
                }
            }
        }
        if overtakes {
            let latency = self.topology.latency(from.place, to.place, draw);
            due = now + nanos(latency.saturating_sub(own));
        } else {
            due = self.in_order(source, destination, due, now);
        }
        Fate::Arrive {
            to: to.place,
            at: SmallVec::from_elem(due, copies),
            flip,
        }
    }

    /// Not before the packet that was sent before it.
    fn in_order(&mut self, source: u32, destination: u32, due: u64, now: u64) -> u64 {
        if self.last.len() >= PAIRS {
            self.last.retain(|_, last| *last > now);
        }
        let last = self.last.entry((source, destination)).or_default();
        *last = due.max(*last);
        *last
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX / 4)
}

/// Source and destination of an IPv4 packet.
fn addresses(packet: &[u8]) -> Option<(u32, u32)> {
    let word = |at: usize| {
        let bytes = packet.get(at..at + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    (packet.first()? >> 4 == 4).then_some(())?;
    Some((word(12)?, word(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::link::Members;

    /// Two nodes: places 2 and 3, pods 10.0.2.0/24 and 10.0.3.0/24, pod 7 is 10.0.2.7. 600 µs apart
    /// without jitter.
    fn model() -> Model {
        let latencies = Latencies {
            jitter_permille: 0,
            ..Latencies::default()
        };
        let mut model = Model::new(1, latencies);
        for place in [2, 3] {
            let network = Cidr {
                ip: 0x0a00_0000 | place << 8,
                bits: 24,
            };
            assert!(model.node(
                place,
                &format!("n{place}"),
                &format!("z{place}"),
                &[network]
            ));
        }
        model.pod(0x0a00_0207, Some(7));
        model
    }

    fn packet(from: [u8; 4], to: [u8; 4], length: usize) -> Vec<u8> {
        let mut packet = vec![0; length];
        packet[0] = 0x45;
        packet[12..16].copy_from_slice(&from);
        packet[16..20].copy_from_slice(&to);
        packet
    }

    const A: [u8; 4] = [10, 0, 2, 7];
    const B: [u8; 4] = [10, 0, 3, 9];

    fn all(from: Members, effect: Effect) -> Rule {
        Rule {
            from,
            to: Members::everything(),
            effect,
        }
    }

    fn send(model: &mut Model, from: u32, a: [u8; 4], b: [u8; 4], now: u64) -> Option<Vec<u64>> {
        match model.packet(Place(from), &packet(a, b, 1_000), now) {
            Fate::Arrive { at, .. } => Some(at.to_vec()),
            Fate::Lost | Fate::Unroutable => None,
        }
    }

    #[test]
    fn packets_take_the_topologys_time_and_reach_only_known_addresses() {
        let mut model = model();
        assert_eq!(send(&mut model, 2, A, B, 1_000), Some(vec![601_000]));
        let nobody = model.packet(Place(2), &packet(A, [9, 9, 9, 9], 40), 0);
        assert_eq!(nobody, Fate::Unroutable);
        for end in 0..20 {
            let short = packet(A, B, 40)[..end].to_vec();
            assert_eq!(model.packet(Place(2), &short, 0), Fate::Unroutable);
        }
        assert!(!model.node(9, "far", "z", &[]), "places come in turn");
    }

    #[test]
    fn a_one_way_cut_of_a_pod_leaves_the_other_way_and_other_pods() {
        let mut model = model();
        let cut = Effect::Link(link::Effect::Cut);
        model.add(5, all(Members::pods([7]), cut));
        assert_eq!(send(&mut model, 2, A, B, 0), None);
        assert!(send(&mut model, 3, B, A, 0).is_some());
        assert!(send(&mut model, 2, [10, 0, 2, 8], B, 0).is_some());
        model.remove(5);
        assert!(send(&mut model, 2, A, B, 0).is_some());
    }

    #[test]
    fn packets_between_pods_of_one_node_meet_the_rules_of_their_sender_and_no_distance() {
        let mut model = model();
        let late = link::Effect::Delay {
            by: Duration::from_millis(7),
            jitter: Duration::ZERO,
            early_per_million: 0,
        };
        model.add(1, all(Members::pods([7]), Effect::Link(late)));
        model.add(
            2,
            all(
                Members::pods([7]),
                Effect::Duplicate {
                    per_million: 1_000_000,
                },
            ),
        );
        const NEIGHBOUR: [u8; 4] = [10, 0, 2, 8];
        let mut within = |sender: [u8; 4], source, to| {
            let packet = packet(source, to, 100);
            match model.within(Place(2), u32::from_be_bytes(sender), &packet, 0) {
                Fate::Arrive { at, .. } => Some(at.to_vec()),
                Fate::Lost | Fate::Unroutable => None,
            }
        };
        // The source of an answer is the Service's; whose it is counts.
        const VIP: [u8; 4] = [10, 96, 0, 1];
        for source in [A, VIP] {
            assert_eq!(within(A, source, NEIGHBOUR), Some(vec![7_000_000; 2]));
        }
        assert_eq!(within(NEIGHBOUR, VIP, A), Some(vec![0]));
        assert_eq!(within(A, VIP, A), Some(vec![0]), "a pod to itself");
        assert_eq!(within(A, A, B), None, "another node's");
    }

    #[test]
    fn a_rate_spaces_packets_out_and_its_queue_overflows() {
        let mut model = model();
        // 1 MB/s: a packet of 1,000 bytes takes 1 ms; 2,500 bytes may wait.
        let rate = Effect::Rate {
            bytes_per_s: 1_000_000,
            burst: 0,
            queue: 2_500,
        };
        model.add(1, all(Members::everything(), rate));
        let times: Vec<_> = (0..5).map(|_| send(&mut model, 2, A, B, 0)).collect();
        let ms = |n: u64| Some(vec![600_000 + n * 1_000_000]);
        // The fourth starts after 3 ms, more than the 2.5 ms that the queue holds.
        assert_eq!(times, [ms(1), ms(2), ms(3), None, None]);
        // After 3 ms the link is free.
        assert_eq!(send(&mut model, 2, A, B, 3_000_000), ms(4));
    }

    #[test]
    fn shares_follow_their_numbers_and_order_is_kept_unless_a_rule_breaks_it() {
        let mut model = model();
        let delay = link::Effect::Delay {
            by: Duration::from_millis(10),
            jitter: Duration::from_millis(5),
            early_per_million: 0,
        };
        model.add(1, all(Members::everything(), Effect::Link(delay)));
        let mut times = Vec::new();
        for n in 0..1_000 {
            times.extend(send(&mut model, 2, A, B, n * 100_000).unwrap());
        }
        assert!(times.is_sorted(), "jitter alone does not reorder");
        let quarter = 250_000;
        model.add(
            2,
            all(
                Members::everything(),
                Effect::Reorder {
                    per_million: quarter,
                },
            ),
        );
        model.add(
            3,
            all(
                Members::everything(),
                Effect::Duplicate {
                    per_million: quarter,
                },
            ),
        );
        model.add(
            4,
            all(
                Members::everything(),
                Effect::Corrupt {
                    per_million: quarter,
                },
            ),
        );
        let (mut early, mut twice, mut wrong) = (0, 0, 0);
        for n in 0..4_000u64 {
            let now = 1_000_000_000 + n * 1_000_000;
            let Fate::Arrive { at, flip, .. } = model.packet(Place(2), &packet(A, B, 99), now)
            else {
                panic!("lost");
            };
            early += u32::from(at[0] == now + 600_000);
            twice += u32::from(at.len() == 2);
            wrong += u32::from(flip.is_some());
        }
        // binomial(4,000, 1/4): mean 1,000, standard deviation 27
        for count in [early, twice, wrong] {
            assert!((880..1_120).contains(&count), "{early} {twice} {wrong}");
        }
    }

    #[test]
    fn equal_seeds_lose_the_same_packets() {
        let run = |seed| {
            let mut model = model();
            model.draws = Draws::new(seed);
            let loss = link::Effect::Loss {
                per_million: 300_000,
            };
            model.add(1, all(Members::everything(), Effect::Link(loss)));
            (0..200)
                .map(|n| send(&mut model, 2, A, B, n).is_some())
                .collect::<Vec<_>>()
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }
}
