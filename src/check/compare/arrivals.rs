//! The pods of one trial: which, when, in which order, by the trial's seed.
//!
//! Draws are keyed by the pod's name (jitter, repetition) or come from streams of their own (order,
//! sampling), and never from what a policy does: all variants of a seed see the same arrivals.

use std::sync::Arc;
use std::time::Duration;

use super::go_rand::GoRand;
use crate::api::{Labels, Meta, Pod, Text};
use crate::engine::Time;
use crate::engine::draws::{Draws, Purpose, Stream, entity_key};
use crate::scenario::trace::{Trace, TracePod};
use crate::scenario::{Arrivals, Generator, trace};
use crate::sched::plugins::gpu::{GPU, GPU_MILLI, WHOLE};

/// Moves an arrival; keyed by the pod's name.
const JITTER: Purpose = Purpose::new("trace/jitter");
/// Whether a pod of a scaled trace arrives once more; keyed by its name.
const REPEAT: Purpose = Purpose::new("trace/repeat");
/// The order of the pods of a load.
const ORDER: Purpose = Purpose::new("trace/order");
/// The pods that a load is filled up with.
const SAMPLE: Purpose = Purpose::new("trace/sample");
/// The order of nodes that breaks ties.
const RANK: Purpose = Purpose::new("trace/node-order");

/// Numbers that the published simulator draws between the pods and the order of nodes: its scheduler
/// starts ten watches, and each draws its timeout (`reflector.go :: ListAndWatch` of its client-go).
const WATCHES: usize = 10;

/// A pod that arrives.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The row.
    pub pod: Arc<Pod>,
    /// When.
    pub at: Time,
    /// How long it runs; `None` for ever.
    pub runs: Option<Duration>,
    /// GPUs that it asks for, in thousandths of a device.
    pub gpu: i64,
}

/// GPUs that a pod asks for, in thousandths of a device.
pub fn gpu_of(pod: &TracePod) -> i64 {
    let requests = &pod.spec.requests;
    requests.extended(GPU) * WHOLE + requests.extended(GPU_MILLI)
}

/// What shuffles and samples in one trial.
///
/// With Go's generator everything comes from one stream, in the order in which the published
/// simulator draws it; with ours each purpose has a stream of its own.
pub enum Chance<'d> {
    /// Streams by purpose.
    Own(&'d Draws),
    /// One stream.
    Go(Box<GoRand>),
}

impl<'d> Chance<'d> {
    /// The chance of a trial.
    pub fn new(how: Arrivals, seed: u64, draws: &'d Draws) -> Chance<'d> {
        match how {
            Arrivals::Load {
                generator: Generator::Go,
                ..
            } => {
                let mut rand = GoRand::seeded(seed);
                // One number goes into the log (`core.go :: Simulate`).
                rand.int63();
                Chance::Go(Box::new(rand))
            }
            _ => Chance::Own(draws),
        }
    }

    fn shuffle(&mut self, items: &mut [usize]) {
        match self {
            Chance::Own(draws) => shuffle(&mut draws.stream(ORDER, 0), items),
            Chance::Go(rand) => rand.shuffle(items),
        }
    }

    /// A drawn order of `count` nodes: the place of each.
    pub fn ranks(&mut self, count: usize) -> Vec<u32> {
        match self {
            Chance::Own(draws) => {
                let mut order: Vec<usize> = (0..count).collect();
                shuffle(&mut draws.stream(RANK, 0), &mut order);
                let mut ranks = vec![0; count];
                for (rank, at) in order.into_iter().enumerate() {
                    ranks[at] = rank as u32;
                }
                ranks
            }
            Chance::Go(rand) => {
                for _ in 0..WATCHES {
                    rand.int63();
                }
                let ranks = rand.permutation(count).into_iter();
                ranks.map(|rank| rank as u32).collect()
            }
        }
    }

    /// A way to draw below a bound, one draw after the other.
    fn sampler(&mut self) -> Box<dyn FnMut(usize) -> usize + '_> {
        match self {
            Chance::Own(draws) => {
                let mut stream = draws.stream(SAMPLE, 0);
                Box::new(move |bound| stream.below(bound as u64) as usize)
            }
            Chance::Go(rand) => Box::new(|bound| rand.below(bound)),
        }
    }
}

fn shuffle(stream: &mut Stream, items: &mut [usize]) {
    for at in (1..items.len()).rev() {
        items.swap(at, stream.below(at as u64 + 1) as usize);
    }
}

/// The pods of a trial in the order of their arrival. `gpus` is the cluster's capacity.
pub fn arrivals(
    trace: &Trace,
    how: Arrivals,
    gpus: i64,
    draws: &Draws,
    chance: &mut Chance<'_>,
) -> Vec<Arrival> {
    match how {
        Arrivals::Recorded { scale, jitter } => recorded(trace, scale, jitter, draws),
        Arrivals::Load { ratio, .. } => load(trace, ratio * gpus as f64, chance),
    }
}

fn recorded(trace: &Trace, scale: f64, jitter: Duration, draws: &Draws) -> Vec<Arrival> {
    let mut all = Vec::new();
    for pod in &trace.pods {
        let entity = entity_key(&[&pod.namespace, &pod.name]);
        let rest = scale - libm::floor(scale);
        let more = u64::from(draws.unit(REPEAT, entity, 0) < rest);
        let copies = libm::floor(scale) as u64 + more;
        for copy in 0..copies {
            let shift = (2.0 * draws.unit(JITTER, entity, copy) - 1.0) * jitter.as_secs_f64();
            let at = (pod.arrival.as_secs_f64() + shift).max(0.0);
            // Whole microseconds: below that a shift by a float means nothing.
            let at = match jitter.is_zero() {
                true => Time::ZERO + pod.arrival,
                false => Time::from_micros((at * 1e6) as u64),
            };
            all.push(arrival(pod, copy, at, pod.runs));
        }
    }
    all.sort_by_key(|arrival| arrival.at);
    all
}

/// All pods in a drawn order, then drawn ones, until `wanted` thousandths of GPUs have arrived
/// (`simulator.go :: SortClusterPods`, `tuneUpPods`, `tuneDownPods` of the published simulator).
fn load(trace: &Trace, wanted: f64, chance: &mut Chance<'_>) -> Vec<Arrival> {
    let mut order: Vec<usize> = (0..trace.pods.len()).collect();
    order.sort_by(|a, b| trace.pods[*a].name.cmp(&trace.pods[*b].name));
    let by_name = order.clone();
    chance.shuffle(&mut order);
    let mut total: i64 = trace.pods.iter().map(gpu_of).sum();
    let mut sample = chance.sampler();
    while total as f64 > wanted && !order.is_empty() {
        let at = sample(order.len());
        total -= gpu_of(&trace.pods[order.remove(at)]);
    }
    let mut all: Vec<Arrival> = (order.iter())
        .map(|at| arrival(&trace.pods[*at], 0, Time::ZERO, None))
        .collect();
    let any = trace.pods.iter().any(|pod| gpu_of(pod) > 0);
    let mut copy = 0;
    while any && all.len() < 10_000_000 {
        let drawn = by_name[sample(by_name.len())];
        let pod = &trace.pods[drawn];
        // The request of one device is compared, as the published simulator does it.
        let one = gpu_of(pod).min(WHOLE);
        if (total + one) as f64 > wanted {
            break;
        }
        copy += 1;
        total += gpu_of(pod);
        all.push(arrival(pod, copy, Time::ZERO, None));
    }
    all
}

fn arrival(pod: &trace::TracePod, copy: u64, at: Time, runs: Option<Duration>) -> Arrival {
    let name = match copy {
        0 => pod.name.clone(),
        copy => Text::from(format!("{}-{copy}", pod.name)),
    };
    let meta = Meta {
        namespace: pod.namespace.clone(),
        name,
        labels: Labels::clone(&pod.labels),
        created: at,
        ..Meta::default()
    };
    Arrival {
        pod: Arc::new(Pod {
            meta,
            spec: pod.spec.clone(),
            ..Pod::default()
        }),
        at,
        runs,
        gpu: gpu_of(pod),
    }
}
