//! What autoscalers did.

use std::time::Duration;

use super::Line;
use crate::record::EventRow;
use crate::report::names::Names;

/// Rescales for the same reason that follow each other within this time are one line.
const TOGETHER: Duration = Duration::from_secs(180);

/// `autoscaler shop: 3, 4, 5, 7 replicas`, with the reason.
pub(super) fn lines(names: &Names<'_>) -> Vec<Line> {
    struct Chain<'r> {
        first: &'r EventRow,
        last: &'r EventRow,
        sizes: Vec<&'r str>,
        reason: &'r str,
    }
    let mut chains: Vec<Chain<'_>> = Vec::new();
    let run = names.run;
    let scaled = |e: &&EventRow| *e.reason == *"SuccessfulRescale" && e.at > run.header.begun;
    for event in run.events.iter().filter(scaled) {
        let rest = event.message.strip_prefix("New size: ");
        let Some((size, reason)) = rest.and_then(|rest| rest.split_once("; reason: ")) else {
            continue;
        };
        let goes_on = |chain: &&mut Chain<'_>| {
            let same = (&chain.first.namespace, &chain.first.name);
            same == (&event.namespace, &event.name)
                && chain.reason == reason
                && event.at.since(chain.last.at) <= TOGETHER
        };
        match chains.iter_mut().rev().find(goes_on) {
            Some(chain) => {
                chain.sizes.push(size);
                chain.last = event;
            }
            None => chains.push(Chain {
                first: event,
                last: event,
                sizes: vec![size],
                reason,
            }),
        }
    }
    let line = |chain: Chain<'_>| {
        let sizes = chain.sizes.join(", ");
        let until = match chain.sizes.len() {
            1 => String::new(),
            _ => format!("until {}", names.clock(chain.last.at)),
        };
        let text = format!("autoscaler {}: {sizes} replicas", chain.first.name);
        Line::new(chain.first.at, 2, text)
            .note(chain.reason)
            .note(until)
    };
    chains.into_iter().map(line).collect()
}
