//! What is driven, and the two sides it talks to.
//!
//! A [`World`] reacts to one event at a time: it changes itself, pushes further events, and hands
//! out requests. It is never told how long anything really takes: a [`Backend`] answers the
//! requests and says how time passes. In a simulation time passes by being asked; against real
//! processes it passes by itself, and the outside may speak meanwhile. The world cannot tell which.

use std::ops::Range;
use std::time::Duration;

use super::queue::Queue;
use super::time::Time;

/// What the loop drives.
pub trait World {
    /// Everything that can happen: one closed enum, small enough to copy.
    type Event: Copy;
    /// What the world asks of the backend.
    type Request;

    /// Lets `event` happen.
    fn dispatch(&mut self, event: Self::Event, turn: &mut Turn<'_, Self::Event, Self::Request>);
}

/// One event's turn: the instant, and where its consequences go.
pub struct Turn<'a, E, R> {
    /// The instant at which the event is due.
    pub now: Time,
    /// The event's sequence number.
    pub seq: u64,
    queue: &'a mut Queue<E>,
    requests: &'a mut Vec<R>,
}

impl<'a, E: Copy, R> Turn<'a, E, R> {
    /// The turn of the event with number `seq`, at the queue's current instant. The loop makes
    /// these; so does a test of one world.
    pub fn new(seq: u64, queue: &'a mut Queue<E>, requests: &'a mut Vec<R>) -> Turn<'a, E, R> {
        Turn {
            now: queue.now(),
            seq,
            queue,
            requests,
        }
    }

    /// Pushes an event to be due at `at`, which must not be in the past.
    #[inline]
    pub fn at(&mut self, at: Time, event: E) {
        self.queue.at(at, event);
    }

    /// Pushes an event to be due `delay` from now.
    pub fn after(&mut self, delay: Duration, event: E) {
        self.queue.after(delay, event);
    }

    /// Asks the backend for something; it is submitted when this turn ends, in order of asking.
    pub fn request(&mut self, request: R) {
        self.requests.push(request);
    }
}

/// Whoever answers a world's requests and lets time pass.
pub trait Backend<W: World> {
    /// Takes a request, without blocking. What it puts into `inbox`, due now or later, must be a
    /// function of the run so far (of the seed, the instant, the request): it is not journalled, a
    /// replay asks again. What depends on the outside is said by [`Backend::wait`].
    fn submit(&mut self, now: Time, request: W::Request, inbox: &mut Vec<(Time, W::Event)>);

    /// Lets time pass until `until`, or until the outside speaks; `None` means that nothing is due
    /// and only the outside can go on. Returns the instant reached: earlier than `until` when the
    /// outside spoke, later when the wall is late. Everything due by then happens before the next
    /// call, so a simulation, to which the outside never speaks, may return [`Time::MAX`] and is
    /// rarely asked. `inbox` takes what the outside said and when; that is journalled.
    ///
    /// Returns `None` when nothing will ever come from outside again and time does not pass by
    /// itself, which ends the run; a simulation does when `until` is `None`.
    fn wait(&mut self, until: Option<Time>, inbox: &mut Vec<(Time, W::Event)>) -> Option<Time>;
}

/// A backend that answers nothing: time jumps to whatever is due. Replaying a journal of a run
/// against the outside needs no more, since every answer is in the journal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl<W: World> Backend<W> for Silent {
    fn submit(&mut self, _: Time, _: W::Request, _: &mut Vec<(Time, W::Event)>) {}

    fn wait(&mut self, until: Option<Time>, _: &mut Vec<(Time, W::Event)>) -> Option<Time> {
        until.map(|_| Time::MAX)
    }
}

/// What an observer is told about an event after its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatched {
    /// The instant at which it happened.
    pub time: Time,
    /// Its sequence number.
    pub seq: u64,
    /// The sequence numbers of the events that it caused: what its turn pushed, and what the
    /// backend answered at once to what its turn asked for.
    pub caused: Range<u64>,
}

/// Sees every event, for digests, records and checks; it cannot change anything. `()` sees nothing
/// and costs nothing.
pub trait Observer<W: World> {
    /// An event is about to happen.
    fn on_event(&mut self, time: Time, seq: u64, event: &W::Event) {
        let _ = (time, seq, event);
    }

    /// An event has happened; `world` is as it left it.
    fn after_event(&mut self, what: Dispatched, event: &W::Event, world: &W) {
        let _ = (what, event, world);
    }
}

impl<W: World> Observer<W> for () {}
