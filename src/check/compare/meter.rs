//! What is measured while pods are placed: sums over nodes, kept up to date node by node.
//!
//! Shares of nodes are whole millionths, so that sums of them and of their squares stay exact
//! however often a node changes.

use std::time::Duration;

use crate::engine::Time;
use crate::record::trials::Point;
use crate::sched::cache::NodeIx;
use crate::sched::node_info::NodeInfo;
use crate::sched::plugins::gpu::WHOLE;
use crate::sched::plugins::gpu::fgd::Fragmentation;

/// A share of 1 in millionths.
const MILLION: i64 = 1_000_000;

/// What a node adds to the sums.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    cpu: i64,
    memory: i64,
    gpu: i64,
    idle_gpu: i64,
    cpu_share: i64,
    memory_share: i64,
    fragmented: i64,
    empty: i64,
}

/// The sums at one instant, as numbers to report.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// Allocated share of all CPU.
    pub cpu: f64,
    /// Allocated share of all memory.
    pub memory: f64,
    /// Allocated share of all GPUs.
    pub gpu: f64,
    /// Standard deviation of the nodes' allocated shares of CPU.
    pub cpu_spread: f64,
    /// Standard deviation of the nodes' allocated shares of memory.
    pub memory_spread: f64,
    /// Share of idle GPUs that is fragmented.
    pub fragmented: f64,
    /// Fragmented GPUs, in devices.
    pub fragmented_gpus: f64,
    /// Nodes without pods.
    pub empty: f64,
}

impl Reading {
    fn add(&mut self, other: &Reading, weight: f64) {
        for (sum, value) in [
            (&mut self.cpu, other.cpu),
            (&mut self.memory, other.memory),
            (&mut self.gpu, other.gpu),
            (&mut self.cpu_spread, other.cpu_spread),
            (&mut self.memory_spread, other.memory_spread),
            (&mut self.fragmented, other.fragmented),
            (&mut self.fragmented_gpus, other.fragmented_gpus),
            (&mut self.empty, other.empty),
        ] {
            *sum += value * weight;
        }
    }
}

/// Measures a run.
#[derive(Debug)]
pub struct Meter {
    fragmentation: Fragmentation,
    parts: Vec<Part>,
    sum: Part,
    /// Sums of squared shares.
    squares: [i128; 2],
    /// Capacity: CPU in milli-cpu, memory in bytes, GPUs in thousandths.
    capacity: [i64; 3],
    since: Time,
    measured: Duration,
    total: Reading,
    /// Allocation and fragmentation along the axis.
    pub series: Vec<Point>,
}

impl Meter {
    /// Of these nodes, empty as they are.
    pub fn new<'n>(
        nodes: impl Iterator<Item = &'n NodeInfo>,
        fragmentation: Fragmentation,
    ) -> Meter {
        let mut meter = Meter {
            fragmentation,
            parts: Vec::new(),
            sum: Part::default(),
            squares: [0; 2],
            capacity: [0; 3],
            since: Time::ZERO,
            measured: Duration::ZERO,
            total: Reading::default(),
            series: Vec::new(),
        };
        for node in nodes {
            meter.capacity[0] += node.allocatable.cpu;
            meter.capacity[1] += node.allocatable.memory;
            meter.capacity[2] += node.gpus.left.len() as i64 * WHOLE;
            meter.parts.push(Part::default());
            meter.update(node.ix, node);
        }
        meter
    }

    /// All GPUs, in thousandths of a device.
    pub fn gpus(&self) -> i64 {
        self.capacity[2]
    }

    /// A node changed.
    pub fn update(&mut self, ix: NodeIx, node: &NodeInfo) {
        let share = |used: i64, of: i64| match of {
            0 => 0,
            of => (i128::from(used) * i128::from(MILLION) / i128::from(of)) as i64,
        };
        let idle = node.gpus.total_left();
        let part = Part {
            cpu: node.requested.cpu,
            memory: node.requested.memory,
            gpu: node.gpus.left.len() as i64 * WHOLE - idle,
            idle_gpu: idle,
            cpu_share: share(node.requested.cpu, node.allocatable.cpu),
            memory_share: share(node.requested.memory, node.allocatable.memory),
            fragmented: match idle {
                0 => 0,
                _ => self.fragmentation.of_node(node),
            },
            empty: i64::from(node.pods.is_empty()),
        };
        let old = std::mem::replace(&mut self.parts[ix], part);
        let sum = &mut self.sum;
        for (sum, new, old) in [
            (&mut sum.cpu, part.cpu, old.cpu),
            (&mut sum.memory, part.memory, old.memory),
            (&mut sum.gpu, part.gpu, old.gpu),
            (&mut sum.idle_gpu, part.idle_gpu, old.idle_gpu),
            (&mut sum.cpu_share, part.cpu_share, old.cpu_share),
            (&mut sum.memory_share, part.memory_share, old.memory_share),
            (&mut sum.fragmented, part.fragmented, old.fragmented),
            (&mut sum.empty, part.empty, old.empty),
        ] {
            *sum += new - old;
        }
        let square = |share: i64| i128::from(share) * i128::from(share);
        self.squares[0] += square(part.cpu_share) - square(old.cpu_share);
        self.squares[1] += square(part.memory_share) - square(old.memory_share);
    }

    /// The sums as they are.
    pub fn reading(&self) -> Reading {
        let nodes = self.parts.len().max(1) as f64;
        let share = |part: i64, of: i64| {
            if of == 0 {
                0.0
            } else {
                part as f64 / of as f64
            }
        };
        let spread = |sum: i64, squares: i128| {
            let mean = sum as f64 / nodes;
            let variance = (squares as f64 / nodes - mean * mean).max(0.0);
            variance.sqrt() / MILLION as f64
        };
        let weights = self.fragmentation.weights().max(1) as f64;
        let fragmented = self.sum.fragmented as f64 / weights;
        Reading {
            cpu: share(self.sum.cpu, self.capacity[0]),
            memory: share(self.sum.memory, self.capacity[1]),
            gpu: share(self.sum.gpu, self.capacity[2]),
            cpu_spread: spread(self.sum.cpu_share, self.squares[0]),
            memory_spread: spread(self.sum.memory_share, self.squares[1]),
            fragmented: match self.sum.idle_gpu {
                0 => 0.0,
                idle => fragmented / idle as f64,
            },
            fragmented_gpus: fragmented / WHOLE as f64,
            empty: self.sum.empty as f64,
        }
    }

    /// What was until `now` counts for as long as it was.
    pub fn advance(&mut self, now: Time) {
        let span = now.since(self.since);
        if span > Duration::ZERO {
            let reading = self.reading();
            self.total.add(&reading, span.as_secs_f64());
            self.measured += span;
            self.since = now;
        }
    }

    /// The mean over the time measured; what is, when no time went by.
    pub fn mean(&self) -> Reading {
        if self.measured == Duration::ZERO {
            return self.reading();
        }
        let mut mean = Reading::default();
        mean.add(&self.total, 1.0 / self.measured.as_secs_f64());
        mean
    }

    /// Notes a point of the series.
    pub fn note(&mut self, at: f64) {
        let reading = self.reading();
        self.series.push(Point {
            at,
            allocated: if self.capacity[2] > 0 {
                reading.gpu
            } else {
                reading.cpu
            },
            fragmented: reading.fragmented,
        });
    }
}
