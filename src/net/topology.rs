//! Where things are, and how far apart.
//!
//! Every node belongs to a zone. Zones whose distance was set are joined in a graph (petgraph), and
//! the latency between two of them is the shortest way through it; zones that it does not join are
//! the default apart. Answers are read off a table that is rebuilt when the graph changes, so
//! asking is two array look-ups.

use petgraph::algo::dijkstra;
use petgraph::graph::{NodeIndex, UnGraph};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::api::Text;

/// Something that sends and receives: a node, the control plane, or the edge of the cluster.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Place(pub u32);

impl Place {
    /// The API server and everything beside it.
    pub const CONTROL_PLANE: Place = Place(0);
    /// Where clients outside the cluster enter it: an always-up gateway with a kube-proxy of its
    /// own, one hop from every zone.
    pub const EDGE: Place = Place(1);

    /// Its number, for tables by place.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One-way latencies in the absence of faults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// Between two processes of one node.
    pub same_node: Duration,
    /// Between two nodes of one zone.
    pub same_zone: Duration,
    /// Between nodes of different zones, of the edge, and of the control plane.
    pub other_zone: Duration,
    /// Uniform variation around these, in 1/1000 of the latency (100 is ±10 %).
    pub jitter_permille: u32,
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies {
            same_node: Duration::from_micros(50),
            same_zone: Duration::from_micros(250),
            other_zone: Duration::from_micros(600),
            jitter_permille: 100,
        }
    }
}

/// The places of a cluster and the latency between them.
#[derive(Clone, Debug)]
pub struct Topology {
    latencies: Latencies,
    /// Vertices are zones in order of appearance, edges the distances that were set.
    graph: UnGraph<Text, u64>,
    zones: FxHashMap<Text, u32>,
    vertices: Vec<NodeIndex>,
    /// Zone of each place.
    place_zones: Vec<u32>,
    names: Vec<Text>,
    by_name: FxHashMap<Text, Place>,
    /// One-way nanoseconds between zones, row by row; the diagonal is within a zone.
    table: Vec<u64>,
}

/// The zones that the two fixed places are alone in; no label can have these names.
const CONTROL_PLANE_ZONE: &str = "(control plane)";
const EDGE_ZONE: &str = "(edge)";

impl Topology {
    /// A cluster without nodes.
    pub fn new(latencies: Latencies) -> Self {
        let mut topology = Topology {
            latencies,
            graph: UnGraph::default(),
            zones: FxHashMap::default(),
            vertices: Vec::new(),
            place_zones: Vec::new(),
            names: Vec::new(),
            by_name: FxHashMap::default(),
            table: Vec::new(),
        };
        topology.node("control-plane", CONTROL_PLANE_ZONE);
        topology.node("edge", EDGE_ZONE);
        topology
    }

    /// The place of a node, added when it is new; its zone may have changed.
    pub fn node(&mut self, name: &str, zone: &str) -> Place {
        let zone = self.zone(zone);
        if let Some(place) = self.by_name.get(name) {
            self.place_zones[place.index()] = zone;
            return *place;
        }
        let place = Place(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        let name = Text::from(name);
        self.names.push(name.clone());
        self.place_zones.push(zone);
        self.by_name.insert(name, place);
        place
    }

    /// The place of this name: a node, `control-plane` or `edge`.
    pub fn find(&self, name: &str) -> Option<Place> {
        self.by_name.get(name).copied()
    }

    /// The name of a place.
    pub fn name(&self, place: Place) -> &Text {
        &self.names[place.index()]
    }

    /// The zone of a place.
    pub fn zone_of(&self, place: Place) -> &Text {
        &self.graph[self.vertices[self.place_zones[place.index()] as usize]]
    }

    /// All places, the control plane and the edge first.
    pub fn places(&self) -> impl Iterator<Item = Place> + use<> {
        (0..u32::try_from(self.names.len()).unwrap_or(u32::MAX)).map(Place)
    }

    /// The places in a zone.
    pub fn in_zone<'a>(&'a self, zone: &str) -> impl Iterator<Item = Place> + use<'a> {
        let zone = self.zones.get(zone).copied();
        self.places()
            .filter(move |p| Some(self.place_zones[p.index()]) == zone)
    }

    /// Sets the one-way latency between two zones; the way over a third zone is taken when that is
    /// shorter.
    pub fn set_zone_latency(&mut self, a: &str, b: &str, one_way: Duration) {
        let (a, b) = (self.zone(a) as usize, self.zone(b) as usize);
        let (a, b) = (self.vertices[a], self.vertices[b]);
        self.graph.update_edge(a, b, nanos(one_way));
        self.rebuild();
    }

    /// One-way nanoseconds between two places, without jitter.
    pub fn one_way_ns(&self, from: Place, to: Place) -> u64 {
        if from == to {
            return nanos(self.latencies.same_node);
        }
        let (a, b) = (
            self.place_zones[from.index()] as usize,
            self.place_zones[to.index()] as usize,
        );
        self.table[a * self.vertices.len() + b]
    }

    /// One-way latency with the jitter that `draw` gives.
    pub fn latency(&self, from: Place, to: Place, draw: u64) -> Duration {
        let base = self.one_way_ns(from, to);
        // 20 bits of the draw as -1 … 1 in steps of 2^-19.
        let unit = i128::from(draw & 0xf_ffff) - 0x8_0000;
        let permille = i128::from(self.latencies.jitter_permille);
        let jitter = i128::from(base) * permille * unit / (1000 * 0x8_0000);
        Duration::from_nanos(u64::try_from(i128::from(base) + jitter).unwrap_or(0))
    }

    fn zone(&mut self, name: &str) -> u32 {
        if let Some(zone) = self.zones.get(name) {
            return *zone;
        }
        let number = u32::try_from(self.vertices.len()).unwrap_or(u32::MAX);
        let name = Text::from(name);
        let vertex = self.graph.add_node(name.clone());
        self.vertices.push(vertex);
        self.zones.insert(name, number);
        self.rebuild();
        number
    }

    fn rebuild(&mut self) {
        let zones = self.vertices.len();
        let apart = nanos(self.latencies.other_zone);
        self.table = vec![apart; zones * zones];
        for (row, from) in self.vertices.iter().enumerate() {
            let reached = dijkstra(&self.graph, *from, None, |edge| *edge.weight());
            for (column, to) in self.vertices.iter().enumerate() {
                let cost = match row == column {
                    true => nanos(self.latencies.same_zone),
                    false => reached.get(to).copied().unwrap_or(apart),
                };
                self.table[row * zones + column] = cost;
            }
        }
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_depends_on_node_and_zone() {
        let mut topology = Topology::new(Latencies::default());
        let a1 = topology.node("a1", "a");
        let a2 = topology.node("a2", "a");
        let b1 = topology.node("b1", "b");
        let table = [
            (a1, a1, 50_000),
            (a1, a2, 250_000),
            (a1, b1, 600_000),
            (Place::EDGE, b1, 600_000),
            (Place::CONTROL_PLANE, a1, 600_000),
        ];
        for (from, to, expected) in table {
            assert_eq!(topology.one_way_ns(from, to), expected);
            assert_eq!(topology.one_way_ns(to, from), expected);
        }
        // ±10 % of 600 µs
        for draw in [0, 0x8_0000, 0xf_ffff, u64::MAX] {
            let latency = topology.latency(a1, b1, draw);
            assert!(latency >= Duration::from_micros(540), "{latency:?}");
            assert!(latency <= Duration::from_micros(660), "{latency:?}");
        }
        let middle = topology.latency(a1, b1, 0x8_0000);
        assert_eq!(middle, Duration::from_micros(600));
    }

    #[test]
    fn the_shortest_way_over_distances_that_were_set_is_taken() {
        let mut topology = Topology::new(Latencies::default());
        let a = topology.node("a1", "a");
        let b = topology.node("b1", "b");
        topology.node("c1", "c");
        let ms = Duration::from_millis;
        topology.set_zone_latency("a", "b", ms(50));
        assert_eq!(topology.one_way_ns(a, b), 50_000_000);
        topology.set_zone_latency("a", "c", ms(20));
        assert_eq!(topology.one_way_ns(a, b), 50_000_000, "b - c is not set");
        // over c: 20 + 10 ms
        topology.set_zone_latency("c", "b", ms(10));
        assert_eq!(topology.one_way_ns(a, b), 30_000_000);
        assert_eq!(topology.one_way_ns(a, Place::EDGE), 600_000, "the default");
    }

    #[test]
    fn a_node_that_returns_keeps_its_place_and_may_change_zone() {
        let mut topology = Topology::new(Latencies::default());
        let first = topology.node("n", "a");
        assert_eq!(topology.node("n", "b"), first);
        assert_eq!(topology.zone_of(first).as_str(), "b");
        assert_eq!(topology.in_zone("b").collect::<Vec<_>>(), [first]);
        assert_eq!(topology.find("edge"), Some(Place::EDGE));
    }
}
