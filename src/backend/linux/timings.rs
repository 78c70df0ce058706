//! How long the host takes for what it is asked: sandboxes, starts, removals, probes, filters.
//!
//! A span begins when the backend passes a request on and ends at the instant at which the cell says
//! that it was done. Containers that a fault holds up are not left out: measure where there is none.

use std::collections::BTreeMap;
use std::time::Duration;

use super::protocol::Way;
use crate::kubelet::RuntimeEvent;
use crate::kubelet::runtime::{Call, ContainerId, ProbeKind};

/// How late things happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// How often the loop waited for an instant.
    pub waits: u64,
    /// How often it was later than [`LATE`].
    pub late: u64,
    /// The latest that it was.
    pub most: Duration,
}

/// A wait that ends later than this after its instant is late.
pub const LATE: Duration = Duration::from_millis(10);
/// A run that was ever later than this is not to be trusted.
pub const TOO_LATE: Duration = Duration::from_secs(1);

impl Lag {
    /// What is said of a run that was late.
    pub fn word(&self) -> Option<String> {
        let Lag { waits, late, most } = self;
        let word = if *most > TOO_LATE {
            "not to be trusted: "
        } else {
            ""
        };
        (*most > LATE).then(|| {
            format!(
                "{word}{late} of {waits} waits ended more than {} ms late, one {} ms",
                LATE.as_millis(),
                most.as_millis()
            )
        })
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doing {
    /// A pod's sandbox is made.
    Sandbox,
    /// A container is created and started.
    Start,
    /// What is left of a pod is removed.
    Remove,
    /// A probe by HTTP, TCP or gRPC.
    Probe,
    /// A probe that runs a command.
    Exec,
    /// A node's filters are brought up to date.
    Sync,
}

impl Doing {
    /// All of them.
    pub const ALL: [Doing; 6] = [
        Doing::Sandbox,
        Doing::Start,
        Doing::Remove,
        Doing::Probe,
        Doing::Exec,
        Doing::Sync,
    ];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Doing::Sandbox => "sandbox",
            Doing::Start => "start of a container",
            Doing::Remove => "removal of a pod",
            Doing::Probe => "HTTP probe",
            Doing::Exec => "exec probe",
            Doing::Sync => "sync of a proxy",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Sandbox(u32),
    Start(ContainerId),
    Remove(u32),
    Probe(ContainerId, ProbeKind),
    Sync(String),
}

/// Spans so far, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Timings {
    open: BTreeMap<Key, (Doing, u64)>,
    spans: BTreeMap<Doing, Vec<u64>>,
}

impl Timings {
    /// Something is asked of a runtime.
    pub fn asked(&mut self, call: &Call, at: u64) {
        let (key, doing) = match call {
            Call::StartSandbox { pod, .. } => (Key::Sandbox(pod.0), Doing::Sandbox),
            Call::StartContainer { container, .. } => (Key::Start(*container), Doing::Start),
            Call::RemovePod { pod } => (Key::Remove(pod.0), Doing::Remove),
            _ => return,
        };
        self.open.insert(key, (doing, at));
    }

    /// A container is probed.
    pub fn probed(&mut self, container: ContainerId, which: ProbeKind, way: &Way, at: u64) {
        let doing = match way {
            Way::Exec(_) => Doing::Exec,
            _ => Doing::Probe,
        };
        self.open.insert(Key::Probe(container, which), (doing, at));
    }

    /// A node's filters are to be brought up to date.
    pub fn syncs(&mut self, node: &str, at: u64) {
        self.open
            .insert(Key::Sync(node.to_owned()), (Doing::Sync, at));
    }

    /// They are.
    pub fn synced(&mut self, node: &str, at: u64) {
        self.done(&Key::Sync(node.to_owned()), at);
    }

    /// A runtime answers.
    pub fn heard(&mut self, event: &RuntimeEvent, at: u64) {
        let key = match *event {
            RuntimeEvent::SandboxReady { pod, ok: true, .. } => Key::Sandbox(pod.0),
            RuntimeEvent::Started { container, .. } => Key::Start(container),
            RuntimeEvent::Removed { pod } => Key::Remove(pod.0),
            RuntimeEvent::Probed {
                container, which, ..
            } => Key::Probe(container, which),
            _ => return,
        };
        self.done(&key, at);
    }

    fn done(&mut self, key: &Key, at: u64) {
        if let Some((doing, asked)) = self.open.remove(key) {
            let span = at.saturating_sub(asked);
            self.spans.entry(doing).or_default().push(span);
        }
    }

    /// The spans of a doing, shortest first.
    pub fn spans(&self, doing: Doing) -> Vec<u64> {
        let mut spans = self.spans.get(&doing).cloned().unwrap_or_default();
        spans.sort_unstable();
        spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Id;

    #[test]
    fn a_span_is_from_the_question_to_its_own_answer() {
        let mut timings = Timings::default();
        let pod = |n| Id::new(n);
        timings.asked(&Call::RemovePod { pod: pod(1) }, 100);
        timings.asked(&Call::RemovePod { pod: pod(2) }, 200);
        timings.asked(&Call::Stats, 200);
        timings.syncs("a", 250);
        timings.heard(&RuntimeEvent::Removed { pod: pod(2) }, 230);
        timings.heard(&RuntimeEvent::Removed { pod: pod(1) }, 150);
        timings.heard(&RuntimeEvent::Removed { pod: pod(1) }, 900);
        timings.synced("a", 300);
        timings.synced("b", 300);
        assert_eq!(timings.spans(Doing::Remove), [30, 50]);
        assert_eq!(timings.spans(Doing::Sync), [50]);
        assert_eq!(timings.spans(Doing::Start), [0; 0]);
    }
}
