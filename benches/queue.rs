//! The event kernel under the hold model: PHOLD with 1,000 components.
//!
//! A constant number of events is pending. Each event lets its component draw the next one, for a
//! drawn component after a drawn delay, through [`drive`]: queue, loop and dispatch together.
//! Events are 16 bytes. Every event is fed to a checksum of the order; a shorter run of the same
//! model on a sorted reference queue must have the same checksum before anything is printed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use rehearsal::engine::{
    Dist, Draws, Ended, Limits, Observer, Purpose, Queue, Silent, Tape, Time, Turn, World, drive,
};
use serde_json::json;

mod support;

const COMPONENTS: u32 = 1_000;
const START: Purpose = Purpose::new("bench/phold");

#[derive(Clone, Copy)]
struct Event {
    component: u32,
    hop: u32,
    payload: u64,
}

const _: () = assert!(size_of::<Event>() == 16);

/// How long until the next event.
#[derive(Clone, Copy, PartialEq)]
enum Delays {
    /// Exponential with a mean of one second.
    Exponential,
    /// Uniform between zero and two seconds.
    Uniform,
    /// Half at once, 37 % within 2 ms, 13 % after 10 to 40 s: what a cluster looks like.
    Mix,
}

struct Phold {
    delays: Delays,
    states: Vec<u64>,
    /// Quantiles of the exponential distribution in nanoseconds, joined by straight lines.
    exponential: Vec<u64>,
    checksum: u64,
}

impl Phold {
    fn new(delays: Delays) -> Phold {
        let draws = Draws::new(1);
        let mean = Dist::Exponential {
            mean: Duration::from_secs(1),
        };
        let quantile = |i: u32| mean.quantile(f64::from(i) / 1_024.0).as_nanos() as u64;
        Phold {
            delays,
            states: (0..COMPONENTS)
                .map(|i| draws.u64(START, i.into(), 0) | 1)
                .collect(),
            exponential: (0..1_024).map(quantile).chain([12_000_000_000]).collect(),
            checksum: 0,
        }
    }

    /// The component's next random word (a Weyl sequence, mixed by one wide multiplication).
    fn word(&mut self, component: u32) -> u64 {
        let state = &mut self.states[component as usize];
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let product = u128::from(*state) * u128::from(*state ^ 0xe703_7ed1_a0b4_28db);
        (product >> 64) as u64 ^ product as u64
    }

    fn delay(&self, word: u64) -> u64 {
        let below = |bound: u64| ((u128::from(word >> 32) * u128::from(bound)) >> 32) as u64;
        match self.delays {
            Delays::Uniform => below(2_000_000_000),
            Delays::Exponential => {
                let i = (word >> 54) as usize;
                let (low, high) = (self.exponential[i], self.exponential[i + 1]);
                low + (((high - low) * (word >> 32 & 0x3f_ffff)) >> 22)
            }
            Delays::Mix => match word & 0x7f {
                0..64 => 0,
                64..111 => below(2_000_000),
                _ => 10_000_000_000 + below(30_000_000_000),
            },
        }
    }

    /// Lets an event happen: what follows it, and after how many nanoseconds.
    #[inline]
    fn happen(&mut self, now: Time, event: Event) -> (u64, Event) {
        let word = self.word(event.component);
        self.checksum = (self.checksum ^ now.as_nanos() ^ event.payload)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(31);
        let component = ((u64::from(word as u32 >> 7) * u64::from(COMPONENTS)) >> 25) as u32;
        let next = Event {
            component,
            hop: event.hop + 1,
            payload: word,
        };
        (self.delay(word), next)
    }

    /// The events pending at the beginning.
    fn seeds(&mut self, pending: u64) -> Vec<(u64, Event)> {
        let seed = |i: u64| {
            let component = (i % u64::from(COMPONENTS)) as u32;
            let word = self.word(component);
            (
                self.delay(word),
                Event {
                    component,
                    hop: 0,
                    payload: i,
                },
            )
        };
        (0..pending).map(seed).collect()
    }
}

impl World for Phold {
    type Event = Event;
    type Request = ();

    #[inline]
    fn dispatch(&mut self, event: Event, turn: &mut Turn<'_, Event, ()>) {
        let (delay, next) = self.happen(turn.now, event);
        turn.at(Time::from_nanos(turn.now.as_nanos() + delay), next);
    }
}

struct Nobody;
impl Observer<Phold> for Nobody {}

fn go(world: &mut Phold, queue: &mut Queue<Event>, events: u64) -> u64 {
    let limits = Limits {
        until: Time::MAX,
        events: queue.popped() + events,
    };
    let (tape, stop) = (&mut Tape::Off, &mut |_| false);
    let ended = drive(world, queue, &mut Silent, tape, &mut Nobody, limits, stop);
    assert_eq!(ended, Ended::Events, "the model never ends");
    world.checksum
}

fn start(delays: Delays, pending: u64) -> (Phold, Queue<Event>) {
    let mut world = Phold::new(delays);
    let mut queue = Queue::new();
    for (delay, event) in world.seeds(pending) {
        queue.after(Duration::from_nanos(delay), event);
    }
    (world, queue)
}

/// The same model on a binary heap of (time, sequence).
fn reference(delays: Delays, pending: u64, events: u64) -> u64 {
    let mut world = Phold::new(delays);
    let mut bodies = world.seeds(pending);
    let mut heap: BinaryHeap<_> = bodies
        .iter()
        .enumerate()
        .map(|(i, (delay, _))| Reverse((*delay, i, i)))
        .collect();
    for seq in (bodies.len()..).take(events as usize) {
        let Some(Reverse((now, _, body))) = heap.pop() else {
            break;
        };
        let (delay, next) = world.happen(Time::from_nanos(now), bodies[body].1);
        bodies[body].1 = next;
        heap.push(Reverse((now + delay, seq, body)));
    }
    world.checksum
}

fn main() {
    let args = support::Args::read();
    support::head(&args);
    let sizes = [
        ("1k", 1_000, 40_000_000),
        ("100k", 100_000, 20_000_000),
        ("1m", 1_000_000, 10_000_000),
    ];
    let kinds = [
        ("exponential", Delays::Exponential),
        ("uniform", Delays::Uniform),
        ("mix", Delays::Mix),
    ];
    for (size, pending, events) in sizes {
        for (kind, delays) in kinds {
            let workload = format!("phold/{kind}/{size}");
            if !args.wants(&workload) {
                continue;
            }
            let checked = 300_000.min(args.scaled(3_000_000));
            let (mut world, mut queue) = start(delays, pending);
            assert_eq!(
                go(&mut world, &mut queue, checked),
                reference(delays, pending, checked),
                "{workload}: the order differs from the reference"
            );
            // Let the queue reach its steady state, then measure.
            let events = args.scaled(events);
            go(&mut world, &mut queue, pending.min(events));
            let before = queue.popped();
            let (_, cost) = support::measure(|| go(&mut world, &mut queue, events));
            assert_eq!(
                queue.popped() - before,
                events,
                "{workload}: events dispatched"
            );
            assert_eq!(queue.len() as u64, pending, "{workload}: events pending");
            let params = json!({
                "pending": pending, "components": COMPONENTS, "delays": kind, "event_bytes": 16,
            });
            support::print(&args, &workload, events, cost, params);
        }
    }
}
