//! Tests of the module `drive`.

use std::cell::Cell;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::engine::{Draws, Header, Purpose, Silent};

const WORLD: Purpose = Purpose::new("test/world");
const BACKEND: Purpose = Purpose::new("test/backend");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// Goes on as often as the number says, after drawn delays, and asks for something each time.
    Step(u32),
    Answer(u64),
    Outside(u32),
}

/// Everything that happened, in order: the most demanding thing to compare.
#[derive(Default)]
struct Log(Vec<(Time, u64, Event)>);

struct Chatty {
    draws: Draws,
    seen: u64,
}

impl World for Chatty {
    type Event = Event;
    type Request = u64;

    fn dispatch(&mut self, event: Event, turn: &mut Turn<'_, Event, u64>) {
        self.seen += 1;
        match event {
            Event::Step(0) | Event::Answer(_) => {}
            Event::Step(left) => {
                turn.request(self.seen);
                let delay = self.draws.below(WORLD, 0, turn.seq, 4);
                turn.after(Duration::from_millis(delay), Event::Step(left - 1));
            }
            Event::Outside(what) => turn.after(Duration::ZERO, Event::Step(what % 3)),
        }
    }
}

impl Observer<Chatty> for Log {
    fn on_event(&mut self, time: Time, seq: u64, event: &Event) {
        self.0.push((time, seq, *event));
    }
}

/// Answers each request after a drawn latency, as a simulation does.
struct Simulated(Draws);

impl Backend<Chatty> for Simulated {
    fn submit(&mut self, now: Time, request: u64, inbox: &mut Vec<(Time, Event)>) {
        let latency = Duration::from_millis(self.0.below(BACKEND, request, 0, 3));
        inbox.push((now + latency, Event::Answer(request)));
    }

    fn wait(&mut self, until: Option<Time>, _: &mut Vec<(Time, Event)>) -> Option<Time> {
        until
    }
}

/// Behaves as a real outside may: it is late, early, speaks in bursts, of the past and of the
/// future, and answers requests in its own time. Unseeded by the run: its draws stand for chance.
struct Unruly {
    chance: Draws,
    calls: u64,
    wall: Time,
    left: u32,
    asked: Vec<u64>,
}

impl Backend<Chatty> for Unruly {
    fn submit(&mut self, _: Time, request: u64, _: &mut Vec<(Time, Event)>) {
        self.asked.push(request);
    }

    fn wait(&mut self, until: Option<Time>, inbox: &mut Vec<(Time, Event)>) -> Option<Time> {
        self.calls += 1;
        let chance = |n, bound| self.chance.below(BACKEND, self.calls, n, bound);
        for request in self.asked.drain(..) {
            inbox.push((self.wall, Event::Answer(request)));
        }
        if self.left > 0 && chance(0, 3) == 0 {
            for n in 0..chance(1, 3) {
                self.left = self.left.saturating_sub(1);
                let early = Duration::from_millis(chance(2 + n, 4));
                let at = Time::from_nanos(self.wall.since(Time::ZERO + early).as_nanos() as u64);
                inbox.push((
                    at + Duration::from_millis(chance(9 + n, 6)),
                    Event::Outside(self.left),
                ));
            }
        }
        let target = until.or_else(|| (self.left > 0).then_some(self.wall))?;
        let late = Duration::from_millis(chance(20, 5));
        let reached = if inbox.is_empty() {
            target + late
        } else {
            self.wall + late
        };
        self.wall = self.wall.max(reached);
        Some(self.wall)
    }
}

fn never(_: Progress) -> bool {
    false
}

fn start(seed: u64) -> (Chatty, Queue<Event>) {
    let mut queue = Queue::new();
    queue.at(Time::from_millis(1), Event::Step(40));
    queue.at(Time::from_millis(1), Event::Step(30));
    (
        Chatty {
            draws: Draws::new(seed),
            seen: 0,
        },
        queue,
    )
}

fn simulate(seed: u64, slices: &[Limits]) -> (Log, Vec<Ended>, Queue<Event>) {
    let (mut world, mut queue) = start(seed);
    let mut log = Log::default();
    let mut backend = Simulated(Draws::new(seed));
    let ends = slices.iter().map(|&limits| {
        drive(
            &mut world,
            &mut queue,
            &mut backend,
            &mut Tape::Off,
            &mut log,
            limits,
            &mut never,
        )
    });
    let ends = ends.collect();
    (log, ends, queue)
}

#[test]
fn events_due_at_the_limit_happen_and_now_is_the_limit() {
    let limit = Time::from_millis(20);
    let (log, ends, queue) = simulate(3, &[Limits::until(limit)]);
    assert_eq!(ends, [Ended::Until]);
    assert_eq!(queue.now(), limit);
    assert!(log.0.iter().all(|(time, ..)| *time <= limit));
    assert!(queue.peek_time().is_some_and(|due| due > limit));
    assert_eq!(log.0.len() as u64, queue.popped());
}

#[test]
fn a_run_in_slices_is_the_same_run() {
    let (whole, ends, queue) = simulate(3, &[Limits::until(Time::MAX)]);
    assert_eq!(
        (ends.as_slice(), queue.len()),
        ([Ended::Idle].as_slice(), 0)
    );
    // 70 steps of two chains, each of which but the last of a chain has one answer
    assert_eq!(whole.0.len(), 72 + 70);
    let mut slices: Vec<_> = (0..30)
        .map(|i| Limits::until(Time::from_millis(i * 3)))
        .collect();
    slices.extend((0..20).map(|i| Limits {
        until: Time::MAX,
        events: i * 5,
    }));
    slices.push(Limits::until(Time::MAX));
    let (sliced, _, _) = simulate(3, &slices);
    assert_eq!(sliced.0, whole.0);
}

#[test]
fn the_number_of_events_is_a_limit_to_the_event() {
    let limits = Limits {
        until: Time::MAX,
        events: 17,
    };
    let (log, ends, queue) = simulate(3, &[limits, limits]);
    assert_eq!(ends, [Ended::Events, Ended::Events]);
    assert_eq!((log.0.len(), queue.popped()), (17, 17));
}

#[test]
fn an_empty_run_reaches_its_limit_or_is_idle() {
    let limits = Limits::until(Time::from_secs(5));
    let (mut world, _) = start(1);
    let mut queue = Queue::new();
    let mut go = |limits| {
        let ended = drive(
            &mut world,
            &mut queue,
            &mut Silent,
            &mut Tape::Off,
            &mut (),
            limits,
            &mut never,
        );
        (ended, queue.now())
    };
    assert_eq!(go(limits), (Ended::Until, Time::from_secs(5)));
    assert_eq!(go(limits), (Ended::Until, Time::from_secs(5)));
    assert_eq!(
        go(Limits::until(Time::MAX)),
        (Ended::Idle, Time::from_secs(5))
    );
}

/// Never lets time pass.
struct Stuck;

impl World for Stuck {
    type Event = ();
    type Request = ();

    fn dispatch(&mut self, (): (), turn: &mut Turn<'_, (), ()>) {
        turn.after(Duration::ZERO, ());
    }
}

#[test]
fn a_world_that_never_lets_time_pass_can_be_stopped() {
    let mut queue = Queue::new();
    queue.at(Time::from_secs(1), ());
    let polls = Cell::new(0);
    let mut stop = |progress: Progress| {
        polls.set(polls.get() + 1);
        assert_eq!((progress.now, progress.pending), (Time::from_secs(1), 1));
        progress.dispatched >= 3 * POLL_EVERY
    };
    let limits = Limits::until(Time::MAX);
    let ended = drive(
        &mut Stuck,
        &mut queue,
        &mut Silent,
        &mut Tape::Off,
        &mut (),
        limits,
        &mut stop,
    );
    assert_eq!(
        (ended, polls.get(), queue.popped()),
        (Ended::Stopped, 3, 3 * POLL_EVERY)
    );
}

#[derive(Default)]
struct Causes(Vec<(u64, Vec<u64>)>);

impl Observer<Chatty> for Causes {
    fn after_event(&mut self, what: Dispatched, _: &Event, world: &Chatty) {
        assert_eq!(world.seen as usize, self.0.len() + 1);
        self.0.push((what.seq, what.caused.collect()));
    }
}

#[test]
fn an_observer_learns_what_an_event_caused() {
    let mut world = Chatty {
        draws: Draws::new(1),
        seen: 0,
    };
    let mut queue = Queue::new();
    queue.at(Time::ZERO, Event::Outside(1));
    queue.at(Time::from_secs(9), Event::Step(0));
    let (mut causes, mut backend) = (Causes::default(), Simulated(Draws::new(1)));
    let limits = Limits::until(Time::MAX);
    drive(
        &mut world,
        &mut queue,
        &mut backend,
        &mut Tape::Off,
        &mut causes,
        limits,
        &mut never,
    );
    causes.0.sort();
    // 0 outside -> 2 first step -> 3 last step and 4 the answer; 1 was there from the beginning
    let expected = [
        (0, vec![2]),
        (1, vec![]),
        (2, vec![3, 4]),
        (3, vec![]),
        (4, vec![]),
    ]
    .to_vec();
    assert_eq!(causes.0, expected);
}

fn record(seed: u64, chance: u64, limits: Limits) -> (Log, Journal<Event>, Ended) {
    let (mut world, mut queue) = start(seed);
    let mut backend = Unruly {
        chance: Draws::new(chance),
        calls: 0,
        wall: Time::ZERO,
        left: 60,
        asked: Vec::new(),
    };
    let mut journal = Journal::new(Header::default());
    let mut log = Log::default();
    let mut tape = Tape::Record(&mut journal);
    let ended = drive(
        &mut world,
        &mut queue,
        &mut backend,
        &mut tape,
        &mut log,
        limits,
        &mut never,
    );
    journal.close(Closing {
        at: queue.now(),
        dispatched: queue.popped(),
        digest: 0,
    });
    (log, journal, ended)
}

fn replay_of(seed: u64, journal: &Journal<Event>) -> (Log, Ended, usize) {
    let (mut world, mut queue) = start(seed);
    let mut log = Log::default();
    let mut tape = Tape::Replay(journal.playback());
    let limits = journal
        .closing()
        .map_or(Limits::until(Time::MAX), Limits::closing);
    let ended = drive(
        &mut world,
        &mut queue,
        &mut Silent,
        &mut tape,
        &mut log,
        limits,
        &mut never,
    );
    let Tape::Replay(playback) = tape else {
        unreachable!()
    };
    (log, ended, playback.remaining())
}

#[test]
fn a_simulated_run_has_an_empty_journal() {
    let (mut world, mut queue) = start(3);
    let mut journal = Journal::new(Header::default());
    let (mut log, mut backend) = (Log::default(), Simulated(Draws::new(3)));
    let mut tape = Tape::Record(&mut journal);
    let limits = Limits::until(Time::MAX);
    drive(
        &mut world,
        &mut queue,
        &mut backend,
        &mut tape,
        &mut log,
        limits,
        &mut never,
    );
    assert_eq!(journal.entries().len(), 0);
}

#[test]
fn the_outside_is_journalled_and_its_past_is_the_present() {
    let (log, journal, _) = record(1, 1, Limits::until(Time::MAX));
    assert!(journal.entries().len() > 60);
    let outside = log
        .0
        .iter()
        .filter(|(.., event)| !matches!(event, Event::Step(_)))
        .count();
    assert_eq!(outside, journal.entries().len());
    assert!(log.0.is_sorted_by_key(|(time, ..)| *time));
}

#[test]
fn the_journal_of_another_run_is_noticed() {
    let (_, mut journal, _) = record(1, 1, Limits::until(Time::from_millis(50)));
    // Something heard in the first millisecond, but only after a hundred events.
    let mut other = Journal::new(journal.header.clone());
    other.heard(Time::from_nanos(1), 30, Event::Outside(0));
    std::mem::swap(&mut journal, &mut other);
    assert_eq!(replay_of(1, &journal).1, Ended::Diverged);
}

proptest! {
    #[test]
    fn a_replay_repeats_a_run_against_the_outside(
        seed in 0..50u64,
        chance in any::<u64>(),
        millis in 1..200u64,
        events in 1..300u64,
    ) {
        let limits = Limits { until: Time::from_millis(millis), events };
        let (log, journal, _) = record(seed, chance, limits);
        let closing = journal.closing().copied().unwrap();
        let (again, ended, remaining) = replay_of(seed, &journal);
        prop_assert_eq!(&again.0, &log.0);
        // What is left was heard when nothing happened any more.
        let late = journal.entries().iter().filter(|entry| entry.after == closing.dispatched);
        prop_assert!(remaining <= late.count());
        prop_assert!(matches!(ended, Ended::Until | Ended::Events | Ended::Idle));
    }
}
