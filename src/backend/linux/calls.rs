//! Calls between Services and what containers use, as the cluster hears of them.

use super::protocol::Used;
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

/// What a container uses, where a core of the scenario is this part of one of the host's.
pub fn usage_events(used: Used, permille: u32) -> [Event; 2] {
    let cpu = u128::from(used.cpu) * 1000 / u128::from(permille.max(1)) / 1_000_000;
    let narrow = |n: u128| u32::try_from(n).unwrap_or(u32::MAX);
    let id = used.container;
    [
        Event::Holds(id, narrow(u128::from(used.memory) >> 10)),
        Event::Used(id, narrow(cpu)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::runtime::ContainerId;
    use crate::store::Id;

    #[test]
    fn cpu_time_is_that_of_the_scenarios_cores() {
        let container = ContainerId {
            pod: Id::new(3),
            index: 0,
            attempt: 0,
        };
        // 1.5 s of the host's cores, of which a core of the scenario is a quarter: 6 s.
        for (permille, ms) in [(1000, 1500), (250, 6000)] {
            let used = Used {
                container,
                cpu: 1_500_000_000,
                memory: 3 << 20,
            };
            let expected = [Event::Holds(container, 3072), Event::Used(container, ms)];
            assert_eq!(usage_events(used, permille), expected);
        }
    }
}
