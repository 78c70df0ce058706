//! Tests of the module `queue`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use proptest::prelude::*;

use super::*;
use crate::engine::{Draws, Purpose, Stream};

const DELAYS: Purpose = Purpose::new("test/queue");

/// What the queue promises, in the plainest way: a heap of (time, sequence).
#[derive(Default)]
struct Plain {
    now: Time,
    pushed: u64,
    heap: BinaryHeap<Reverse<(Time, u64)>>,
}

/// A queue beside the plain one. The event is a function of its sequence number, so that a mixed-up
/// body is noticed.
#[derive(Default)]
struct Pair {
    queue: Queue<u64>,
    plain: Plain,
}

impl Pair {
    fn push(&mut self, delay: u64) {
        let at = self.plain.now + Duration::from_nanos(delay);
        self.queue.at(at, !self.plain.pushed);
        self.plain.heap.push(Reverse((at, self.plain.pushed)));
        self.plain.pushed += 1;
    }

    fn pop(&mut self, until: Time) -> Option<(Time, u64)> {
        let due = self.plain.heap.peek().map(|top| top.0);
        assert_eq!(self.queue.peek_time(), due.map(|(at, _)| at));
        let expected = due.filter(|(at, _)| *at <= until);
        let popped = self.queue.pop_due(until);
        assert_eq!(popped, expected.map(|(at, seq)| (at, seq, !seq)));
        if let Some((at, _)) = expected {
            self.plain.heap.pop();
            self.plain.now = at;
        }
        self.compare();
        expected
    }

    fn advance(&mut self, to: Time) {
        let limit = self.plain.heap.peek().map_or(Time::MAX, |top| top.0.0);
        let to = to.clamp(self.plain.now, limit);
        self.queue.advance_to(to);
        self.plain.now = to;
        self.compare();
    }

    fn compare(&self) {
        assert_eq!(self.queue.now(), self.plain.now);
        assert_eq!(self.queue.len(), self.plain.heap.len());
        assert_eq!(self.queue.is_empty(), self.plain.heap.is_empty());
        assert_eq!(self.queue.pushed(), self.plain.pushed);
        assert_eq!(
            self.queue.popped(),
            self.plain.pushed - self.plain.heap.len() as u64
        );
    }

    fn pop_all(&mut self) {
        while self.pop(Time::MAX).is_some() {}
        assert_eq!(self.queue.pop_due(Time::MAX), None);
    }
}

#[test]
fn events_come_out_by_time_then_in_the_order_of_pushing() {
    // Pushed: instant in ms and name. Popped as sequence and name.
    let pushed = [(5, 'a'), (1, 'b'), (5, 'c'), (0, 'd'), (1, 'e'), (0, 'f')];
    let mut queue = Queue::new();
    for (millis, name) in pushed {
        queue.at(Time::from_millis(millis), name);
    }
    let popped = std::iter::from_fn(|| queue.pop_due(Time::MAX));
    let popped: String = popped
        .map(|(_, seq, name)| format!("{seq}{name} "))
        .collect();
    assert_eq!(popped, "3d 5f 1b 4e 0a 2c ");
}

#[test]
fn what_is_pushed_for_now_waits_for_what_was_pushed_before_it_was_now() {
    let mut queue = Queue::new();
    let second = Time::from_secs(1);
    queue.at(second, 'a');
    queue.at(second, 'b');
    assert_eq!(queue.pop_due(Time::MAX), Some((second, 0, 'a')));
    queue.after(Duration::ZERO, 'c');
    assert_eq!(queue.pop_due(Time::MAX), Some((second, 1, 'b')));
    assert_eq!(queue.pop_due(Time::MAX), Some((second, 2, 'c')));
    // The same after going there without popping.
    let third = Time::from_secs(3);
    queue.at(third, 'd');
    queue.advance_to(third);
    queue.after(Duration::ZERO, 'e');
    assert_eq!(queue.pop_due(third), Some((third, 3, 'd')));
    assert_eq!(queue.pop_due(third), Some((third, 4, 'e')));
}

#[test]
fn a_front_full_of_events_due_now_takes_later_ones() {
    let mut pair = Pair::default();
    (0..front::FEW).for_each(|_| pair.push(5));
    pair.advance(Time::from_nanos(5));
    pair.push(1);
    pair.push(0);
    pair.push(1);
    pair.pop_all();
}

#[test]
fn now_never_passes_until() {
    let mut queue = Queue::new();
    queue.at(Time::from_secs(2), ());
    assert_eq!(queue.pop_due(Time::from_secs(1)), None);
    assert_eq!(queue.now(), Time::ZERO);
    assert_eq!(queue.peek_time(), Some(Time::from_secs(2)));
    queue.advance_to(Time::from_secs(1));
    assert_eq!(queue.now(), Time::from_secs(1));
    assert!(queue.pop_due(Time::from_secs(2)).is_some());
    assert_eq!(queue.now(), Time::from_secs(2));
}

#[test]
#[should_panic(expected = "an event for 00:00.000 was pushed at 00:01.000")]
fn the_past_takes_no_events() {
    let mut queue = Queue::new();
    queue.advance_to(Time::from_secs(1));
    queue.at(Time::ZERO, ());
}

#[test]
#[should_panic(expected = "an event due at 00:01.000 would be skipped by going to 00:02.000")]
fn going_ahead_skips_nothing() {
    let mut queue = Queue::new();
    queue.at(Time::from_secs(1), ());
    queue.advance_to(Time::from_secs(2));
}

#[test]
#[should_panic(expected = "time cannot go back")]
fn time_does_not_go_back() {
    let mut queue = Queue::<()>::new();
    queue.advance_to(Time::from_secs(1));
    queue.advance_to(Time::ZERO);
}

#[test]
fn a_great_many_events_of_one_time_keep_their_order() {
    let mut pair = Pair::default();
    // Beyond the front, in it, and around a few others; then while it is that time.
    for delay in [
        1_000_000_007,
        3,
        1_000_000_007,
        1_000_000_006,
        1_000_000_007,
    ] {
        for _ in 0..5_000 {
            pair.push(delay);
        }
    }
    for _ in 0..5_003 {
        pair.pop(Time::MAX);
        pair.push(7);
    }
    pair.pop_all();
}

#[test]
fn the_end_of_time_is_an_instant_like_others() {
    let mut pair = Pair::default();
    for _ in 0..40 {
        pair.push(u64::MAX);
        pair.push(u64::MAX - 1);
        pair.push(1);
    }
    for _ in 0..90 {
        pair.pop(Time::MAX);
        pair.push(u64::MAX);
    }
    pair.pop_all();
}

#[test]
fn chunks_are_used_again() {
    let mut queue = Queue::new();
    let mut delays = Draws::new(1).stream(DELAYS, 0);
    for event in 0..10_000u32 {
        queue.after(Duration::from_nanos(delays.below(1 << 40)), event);
    }
    let pool = queue.later.pool_len();
    for _ in 0..200_000 {
        let (_, _, event) = queue.pop_due(Time::MAX).expect("events are pending");
        queue.after(Duration::from_nanos(delays.below(1 << 40)), event);
    }
    // 10,000 events, and less than one chunk of 32 for each of a few hundred buckets in use.
    assert!(pool >= 9_900 && queue.later.pool_len() <= pool + 32 * 700);
}

/// The increments of the published comparisons, and those that break calendar queues.
fn delay(kind: u64, stream: &mut Stream) -> u64 {
    let roll = stream.below(100);
    match kind {
        // Half at once, 37 % within 2 ms, 13 % after 10 to 40 s.
        0 if roll < 50 => 0,
        0 if roll < 87 => stream.below(2_000_000),
        0 => 10_000_000_000 + stream.below(30_000_000_000),
        // Periods that coincide all the time.
        1 => [10, 20, 100, 1_000, 5_000, 40_000][stream.below(6) as usize] * 1_000_000,
        // Every magnitude alike.
        2 => stream.u64() >> (16 + stream.below(48)),
        // Bursts at powers of two, where digits carry.
        3 => (1 << stream.below(45)) - stream.below(2),
        // A quiet cluster with rare crowds.
        4 if roll == 0 => 3_600_000_000_000,
        _ => stream.below(3),
    }
}

#[test]
fn long_runs_of_every_kind_agree_with_the_plain_queue() {
    for kind in 0..5 {
        for pending in [1, 10, 24, 25, 26, 100, 3_000] {
            let mut pair = Pair::default();
            let mut stream = Draws::new(7).stream(DELAYS, kind << 32 | pending);
            for _ in 0..pending {
                pair.push(delay(kind, &mut stream));
            }
            for _ in 0..6_000 {
                pair.pop(Time::MAX);
                pair.push(delay(kind, &mut stream));
            }
            pair.pop_all();
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push(u64),
    Burst(u64, usize),
    Pop(usize),
    PopUntil(u64),
    Advance(u64),
}

fn delays() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => Just(0),
        3 => 0..5u64,
        3 => (0..64u32, any::<u64>()).prop_map(|(shift, bits)| bits >> shift),
        2 => (0..64u32, 0..3u64).prop_map(|(bit, less)| (1u64 << bit).saturating_sub(less)),
        2 => prop::sample::select(vec![1_000_000, 10_000_000, 1_000_000_000, 40_000_000_000]),
        1 => Just(u64::MAX),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => delays().prop_map(Step::Push),
        2 => (delays(), 1..80usize).prop_map(|(delay, count)| Step::Burst(delay, count)),
        3 => (1..60usize).prop_map(Step::Pop),
        1 => delays().prop_map(Step::PopUntil),
        1 => delays().prop_map(Step::Advance),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #[test]
    fn any_use_agrees_with_the_plain_queue(steps in steps()) {
        let mut pair = Pair::default();
        for step in steps {
            let from_now = |delay| pair.plain.now + Duration::from_nanos(delay);
            match step {
                Step::Push(delay) => pair.push(delay),
                Step::Burst(delay, count) => (0..count).for_each(|_| pair.push(delay)),
                Step::Pop(count) => (0..count).for_each(|_| {
                    pair.pop(Time::MAX);
                }),
                Step::PopUntil(delay) => {
                    let until = from_now(delay);
                    while pair.pop(until).is_some() {}
                }
                Step::Advance(delay) => pair.advance(from_now(delay)),
            }
        }
        pair.pop_all();
    }
}
