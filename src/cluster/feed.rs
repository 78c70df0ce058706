//! Pods that arrive in a stream are created when their time has come.

use super::api_server::Sender;
use super::dispatch::{Cluster, Consequences};
use super::event::Event;
use crate::api::Row;
use crate::client::Send;
use crate::engine::Time;
use crate::load::batch::{PodArrival, PodStream};
use crate::store::write::Trigger;
use crate::store::{Cause, Origin, Write};

/// A stream with its next pod.
pub(super) struct Feed {
    stream: PodStream,
    next: Option<PodArrival>,
    began: Time,
}

impl Cluster {
    /// Adds a stream of pods; its time begins with the run's own.
    ///
    /// # Panics
    /// When the run's own time has begun.
    pub fn feed(&mut self, stream: PodStream) {
        assert!(self.timeline.epoch.is_none(), "streams begin with the run");
        self.feeds.push(Feed {
            stream,
            next: None,
            began: Time::ZERO,
        });
    }

    pub(super) fn start_feeds(&mut self, turn: Consequences<'_, '_>) {
        for (number, feed) in (0u32..).zip(&mut self.feeds) {
            feed.began = turn.now;
            feed.next = feed.stream.next();
            if let Some(arrival) = &feed.next {
                turn.at(feed.began + arrival.at, Event::Feed(number));
            }
        }
    }

    /// Creates the pods that are due and asks to be woken for the next one.
    pub(super) fn feed_due(&mut self, number: u32, turn: Consequences<'_, '_>) {
        loop {
            let feed = &mut self.feeds[number as usize];
            let Some(arrival) = feed.next.take() else {
                return;
            };
            let due = feed.began + arrival.at;
            if due > turn.now {
                feed.next = Some(arrival);
                turn.at(due, Event::Feed(number));
                return;
            }
            feed.next = feed.stream.next();
            let send = Send {
                at: turn.now,
                write: Write::Create(Row::Pod(arrival.pod)),
                cause: Cause {
                    origin: Origin::Scenario,
                    trigger: Trigger::Timer,
                    rule: "pod of a stream",
                },
                token: 0,
            };
            self.send(Sender::Feed, send, turn);
        }
    }
}
