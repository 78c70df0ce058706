//! Calls between Services, as the cluster hears of them.

use super::workload::CallTold;
use crate::cluster::Event;
use crate::cluster::dataplane::told::UserEvent;

/// What came of a call, and the instant of the monotonic clock.
pub fn call_event(told: CallTold) -> (u64, Event) {
    let (at, event) = match told {
        CallTold::Sent { sender, at } => (at, UserEvent::CallSent { sender }),
        CallTold::Abandoned { sender, at } => (at, UserEvent::CallAbandoned { sender }),
        CallTold::Ended {
            sender,
            sent,
            at,
            cause,
            endpoint,
        } => {
            let latency_us = u32::try_from(at.saturating_sub(sent) / 1_000).unwrap_or(u32::MAX);
            let event = UserEvent::CallEnded {
                sender,
                cause,
                latency_us,
                endpoint,
            };
            (at, event)
        }
    };
    (at, Event::Users(event))
}
