//! Tells somebody who waits for a real run to begin what it waits for.

use std::time::Duration;

use crate::check::run::Watcher;
use crate::cluster::{Cluster, Note};
use crate::engine::Time;
use crate::store::Change;

/// It is told first after this.
const FIRST: Duration = Duration::from_secs(10);
/// So many pods are named.
const PODS: usize = 5;

/// Looks on, and tells on stderr; each time after twice as long as before.
#[derive(Debug)]
pub struct Waiting {
    next: Time,
    told: bool,
    begun: bool,
}

impl Default for Waiting {
    fn default() -> Self {
        Waiting {
            next: Time::ZERO + FIRST,
            told: false,
            begun: false,
        }
    }
}

impl Watcher for Waiting {
    fn on_change(&mut self, _: &Change) {}

    fn after_event(&mut self, at: Time, world: &Cluster) {
        if self.begun {
            return;
        }
        if let Some(epoch) = world.timeline.epoch {
            self.begun = true;
            let missing = world.timeline.notes.iter().find_map(|note| match note {
                Note::Settled { missing, .. } => Some(missing),
                _ => None,
            });
            match missing.filter(|missing| !missing.is_empty()) {
                Some(missing) => tell(epoch, "the run begins without", missing, world),
                None if self.told => eprintln!("note: {}: everything is ready", seconds(epoch)),
                None => {}
            }
        } else if at >= self.next {
            self.told = true;
            self.next = Time::ZERO + 2 * at.since(Time::ZERO);
            tell(at, "waiting for", &world.not_ready(), world);
        }
    }

    fn at_end(&mut self, _: Time, _: &Cluster) {}
}

fn seconds(at: Time) -> String {
    format!("{:.0} s", at.as_secs_f64())
}

fn tell(at: Time, what: &str, missing: &[String], world: &Cluster) {
    eprintln!("note: {}: {what} {}", seconds(at), missing.join(", "));
    let pods = world.awaited();
    for pod in pods.iter().take(PODS) {
        eprintln!("  pod/{}: {}", pod.pod, pod.why);
    }
    if pods.len() > PODS {
        eprintln!("  … and {} more", pods.len() - PODS);
    }
}
