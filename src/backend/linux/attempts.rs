//! Pods that cannot be created, however often it is tried.
//!
//! A kubelet tries again for ever, as it should. But before a run's own time begins its initial
//! workloads are waited for, and on a real host that wait is real: what has failed again and again
//! will not succeed by being waited for, so the run ends and says what it was.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::kubelet::RuntimeEvent;
use crate::kubelet::runtime::StartOutcome;

/// So often in a row something must have failed,
const TIMES: u32 = 3;
/// and for so long, in nanoseconds: what is refused for a moment is not refused for ever.
const SPAN: u64 = 15_000_000_000;

/// What is made for a pod: its sandbox, or one of its containers by index.
type Part = (u32, Option<u16>);

/// How something has failed since it last succeeded.
#[derive(Debug)]
struct Failing {
    times: u32,
    since: u64,
    last: u64,
    why: String,
}

/// What has failed and not succeeded since.
#[derive(Debug, Default)]
pub struct Attempts {
    names: BTreeMap<u32, String>,
    failing: BTreeMap<Part, Failing>,
}

impl Attempts {
    /// A pod is about to be made.
    pub fn begun(&mut self, pod: u32, name: impl FnOnce() -> String) {
        self.names.entry(pod).or_insert_with(name);
    }

    /// Something was told at this instant of the monotonic clock; `why` is the last problem that was
    /// told before.
    pub fn heard(&mut self, event: &RuntimeEvent, wall: u64, why: Option<&String>) {
        let (part, done) = match event {
            RuntimeEvent::SandboxReady { pod, ok, .. } => ((pod.0, None), *ok),
            RuntimeEvent::Started { container, outcome } => {
                let part = (container.pod.0, Some(container.index));
                (part, *outcome == StartOutcome::Ok)
            }
            RuntimeEvent::Removed { pod } => {
                self.names.remove(&pod.0);
                self.failing.retain(|(of, _), _| *of != pod.0);
                return;
            }
            _ => return,
        };
        if done {
            self.failing.remove(&part);
            return;
        }
        let failing = self.failing.entry(part).or_insert_with(|| Failing {
            times: 0,
            since: wall,
            last: wall,
            why: String::new(),
        });
        failing.times += 1;
        failing.last = wall;
        failing.why = why.cloned().unwrap_or_default();
    }

    /// What will not succeed by being tried again, in words.
    pub fn hopeless(&self) -> Option<String> {
        let hopeless = |failing: &&Failing| {
            failing.times >= TIMES && failing.last.saturating_sub(failing.since) >= SPAN
        };
        let mut all = self.failing.iter();
        let (part, failing) = all.find(|(_, failing)| hopeless(failing))?;
        let others = all.filter(|(_, failing)| hopeless(failing)).count();
        let name = self.names.get(&part.0).map_or("", String::as_str);
        let span = Duration::from_nanos(failing.last - failing.since).as_secs();
        let beside = match others {
            0 => String::new(),
            n => format!(" (and {n} more of the run)"),
        };
        Some(format!(
            "pod {name} cannot be created{beside}, {} times in {span} s: {}; the run begins when its \
             initial workloads serve, and this one never will: repair it, map its image to a program \
             that is there (spec.linux.images), or take it out",
            failing.times, failing.why
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::runtime::ContainerId;
    use crate::store::Id;

    fn started(outcome: StartOutcome) -> RuntimeEvent {
        let container = ContainerId {
            pod: Id::new(4),
            index: 1,
            attempt: 0,
        };
        RuntimeEvent::Started { container, outcome }
    }

    fn sandbox(ok: bool) -> RuntimeEvent {
        let (pod, attempt) = (Id::new(4), 0);
        RuntimeEvent::SandboxReady { pod, attempt, ok }
    }

    #[test]
    fn what_fails_again_and_again_for_a_while_is_hopeless() {
        use StartOutcome::{CreateFailed, Ok, RunFailed};
        const S: u64 = 1_000_000_000;
        let removed = RuntimeEvent::Removed { pod: Id::new(4) };
        // what is told at which second, and whether it is hopeless then
        type Case = (&'static str, Vec<(u64, RuntimeEvent)>, bool);
        let table: [Case; 6] = [
            (
                "three times in 20 s",
                [0, 10, 20].map(|s| (s, started(RunFailed))).to_vec(),
                true,
            ),
            (
                "three times in a moment",
                [0, 1, 2].map(|s| (s, started(CreateFailed))).to_vec(),
                false,
            ),
            (
                "twice",
                [0, 20].map(|s| (s, started(CreateFailed))).to_vec(),
                false,
            ),
            (
                "sandboxes",
                [0, 10, 15].map(|s| (s, sandbox(false))).to_vec(),
                true,
            ),
            (
                "a success in between",
                vec![
                    (0, started(RunFailed)),
                    (10, started(Ok)),
                    (20, started(RunFailed)),
                    (30, started(RunFailed)),
                ],
                false,
            ),
            (
                "a pod that is gone",
                vec![
                    (0, sandbox(false)),
                    (10, sandbox(false)),
                    (20, sandbox(false)),
                    (21, removed),
                ],
                false,
            ),
        ];
        for (what, events, hopeless) in table {
            let mut attempts = Attempts::default();
            attempts.begun(4, || "shop/web-0".to_owned());
            let why = "container app: exec \"/nothing\": no such file".to_owned();
            for (second, event) in events {
                attempts.heard(&event, second * S, Some(&why));
            }
            let said = attempts.hopeless();
            assert_eq!(said.is_some(), hopeless, "{what}: {said:?}");
            let said = said.unwrap_or_default();
            assert!(!hopeless || said.contains("shop/web-0") && said.contains(&why));
        }
    }
}
