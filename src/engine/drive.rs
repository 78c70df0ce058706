//! The loop: lets time pass, lets what is due happen, hands requests to the backend.
//!
//! A run against the outside is its input plus a journal: what came from outside, when, and after
//! how many dispatched events it was heard. Replaying pushes each of these at exactly that point,
//! so that sequence numbers, and with them every tie, come out as they did. [`drive`] can be left
//! and called again at any time; all that it knows is in its arguments.

use super::journal::{Closing, Journal, Playback};
use super::queue::Queue;
use super::time::Time;
use super::world::{Backend, Dispatched, Observer, Turn, World};

/// Where the loop stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Events due later are left in the queue; events due at this instant happen.
    pub until: Time,
    /// Stop when this many events were popped since the queue was made.
    pub events: u64,
}

impl Limits {
    /// Stop at `until`, after however many events.
    pub fn until(until: Time) -> Limits {
        Limits {
            until,
            events: u64::MAX,
        }
    }

    /// Stop exactly where a recorded run was closed.
    pub fn closing(closing: &Closing) -> Limits {
        Limits {
            until: closing.at,
            events: closing.dispatched,
        }
    }
}

/// Why the loop was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Now is [`Limits::until`] and nothing more is due.
    Until,
    /// [`Limits::events`] events have happened.
    Events,
    /// Nothing is due and nothing will come.
    Idle,
    /// The caller asked to stop.
    Stopped,
    /// The journal that is being replayed does not belong to this run: it says that something was
    /// heard earlier than the present instant.
    Diverged,
}

/// How far a run is, for deciding whether to stop and for showing progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The current instant.
    pub now: Time,
    /// Events dispatched since the queue was made.
    pub dispatched: u64,
    /// Events pending.
    pub pending: usize,
}

/// What happens to what the outside says.
#[derive(Debug)]
pub enum Tape<'a, E> {
    /// It is heard and forgotten: the run cannot be replayed if there was any.
    Off,
    /// It is heard and written down.
    Record(&'a mut Journal<E>),
    /// It is read from a journal; the backend's own outside is not heard.
    Replay(Playback<'a, E>),
}

/// The loop asks whether to stop after this many events, and whenever the outside spoke.
const POLL_EVERY: u64 = 4096;

/// Drives `world` until one of `limits` is reached, `stop` says so, or nothing can happen any more.
pub fn drive<W, B, O>(
    world: &mut W,
    queue: &mut Queue<W::Event>,
    backend: &mut B,
    tape: &mut Tape<'_, W::Event>,
    observer: &mut O,
    limits: Limits,
    stop: &mut dyn FnMut(Progress) -> bool,
) -> Ended
where
    W: World,
    B: Backend<W> + ?Sized,
    O: Observer<W> + ?Sized,
{
    let (mut requests, mut inbox) = (Vec::new(), Vec::new());
    let mut poll_at = queue.popped() + POLL_EVERY;
    loop {
        if !replay(tape, queue) {
            return Ended::Diverged;
        }
        if queue.popped() >= limits.events {
            return Ended::Events;
        }
        let due = queue
            .peek_time()
            .map_or(limits.until, |due| due.min(limits.until));
        let reached = backend.wait((due < Time::MAX).then_some(due), &mut inbox);
        let spoke = !inbox.is_empty();
        hear(&mut inbox, tape, queue);
        let Some(reached) = reached else {
            if spoke {
                continue;
            }
            return Ended::Idle;
        };
        let horizon = reached.min(limits.until);
        let heard_at = next_replayed(tape);
        let pause_at = poll_at.min(limits.events).min(heard_at);
        while queue.popped() < pause_at {
            let Some((time, seq, event)) = queue.pop_due(horizon) else {
                break;
            };
            observer.on_event(time, seq, &event);
            let first = queue.pushed();
            world.dispatch(event, &mut Turn::new(seq, queue, &mut requests));
            submit(&mut requests, backend, &mut inbox, queue);
            let caused = first..queue.pushed();
            observer.after_event(Dispatched { time, seq, caused }, &event, world);
        }
        let nothing_due = queue.peek_time().is_none_or(|due| due > limits.until);
        if reached >= limits.until && nothing_due && heard_at > queue.popped() {
            queue.advance_to(limits.until.max(queue.now()));
            return Ended::Until;
        }
        if queue.popped() >= poll_at || reached < due {
            poll_at = queue.popped() + POLL_EVERY;
            let (now, dispatched, pending) = (queue.now(), queue.popped(), queue.len());
            if stop(Progress {
                now,
                dispatched,
                pending,
            }) {
                return Ended::Stopped;
            }
        }
    }
}

/// Submits what a turn asked for and pushes what the backend answered at once.
#[inline]
fn submit<W: World, B: Backend<W> + ?Sized>(
    requests: &mut Vec<W::Request>,
    backend: &mut B,
    inbox: &mut Vec<(Time, W::Event)>,
    queue: &mut Queue<W::Event>,
) {
    if requests.is_empty() {
        return;
    }
    for request in requests.drain(..) {
        backend.submit(queue.now(), request, inbox);
    }
    for (at, event) in inbox.drain(..) {
        queue.at(at, event);
    }
}

/// Pushes what the outside said, not before the present instant, and writes it down. While a
/// journal is replayed nobody listens.
fn hear<E: Copy>(inbox: &mut Vec<(Time, E)>, tape: &mut Tape<'_, E>, queue: &mut Queue<E>) {
    for (at, event) in inbox.drain(..) {
        let at = at.max(queue.now());
        match tape {
            Tape::Off => {}
            Tape::Record(journal) => journal.heard(at, queue.popped(), event),
            Tape::Replay(_) => continue,
        }
        queue.at(at, event);
    }
}

/// Pushes what was heard at this point of the recorded run; false when that is impossible.
fn replay<E: Copy>(tape: &mut Tape<'_, E>, queue: &mut Queue<E>) -> bool {
    let Tape::Replay(playback) = tape else {
        return true;
    };
    while let Some(outside) = playback.take(queue.popped()) {
        if outside.at < queue.now() {
            return false;
        }
        queue.at(outside.at, outside.event);
    }
    true
}

/// After how many dispatched events the next journalled one was heard.
fn next_replayed<E: Copy>(tape: &Tape<'_, E>) -> u64 {
    match tape {
        Tape::Replay(playback) => playback.next_after().unwrap_or(u64::MAX),
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests;
