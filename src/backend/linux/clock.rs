//! The clock of a real run, and how it may run ahead of the wall.
//!
//! An instant of the run is a span since the loop first waited. With `--speed N` the clock runs N
//! times as fast as the wall's, but only through waits in which nothing real is going on: no
//! container starts, serves a probe or ends, and none does anything by itself. What real processes
//! do therefore takes as long in the run as it takes on the wall, and what is shortened are the
//! control plane's own waits (grace periods, tolerations, back-offs), which no process can tell.

use std::collections::BTreeSet;
use std::time::Duration;

use super::plan::images::Images;
use super::protocol::Program;
use crate::engine::Time;
use crate::kubelet::RuntimeEvent;
use crate::kubelet::runtime::{Call, ContainerId, Hook, ProbeKind};
use crate::load::AppModel;
use crate::scenario::Scenario;

/// How long after its program has begun to serve a container is not yet left alone.
const SETTLED: Duration = Duration::from_millis(200);

/// From an instant of the monotonic clock on, this is the run's time, and this fast it goes.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    wall: u64,
    run: u64,
    rate: u32,
}

/// The run's clock.
#[derive(Debug)]
pub struct Clock {
    /// The last stretches: reports carry the instants at which they were true.
    stretches: Vec<Stretch>,
    begun: Option<u64>,
    last: u64,
}

/// So many stretches back a report can still be placed.
const KEPT: usize = 64;

impl Clock {
    /// A clock that does not run yet.
    pub fn new() -> Clock {
        Clock {
            stretches: Vec::new(),
            begun: None,
            last: 0,
        }
    }

    /// The run's time at an instant of the monotonic clock; the first one asked for is 0.
    pub fn now(&mut self, wall: u64) -> Time {
        self.begun.get_or_insert(wall);
        if self.stretches.is_empty() {
            let (run, rate) = (0, 1);
            self.stretches.push(Stretch { wall, run, rate });
        }
        self.last = self
            .last
            .max(self.at(wall).since(Time::ZERO).as_nanos() as u64);
        Time::from_nanos(self.last)
    }

    /// The instant of the monotonic clock that is 0 of the run; 0 before it runs.
    pub fn begun(&self) -> u64 {
        self.begun.unwrap_or(0)
    }

    /// The run's time at an instant, also a past one.
    pub fn at(&self, wall: u64) -> Time {
        let before = self.stretches.iter().rev().find(|s| s.wall <= wall);
        let Some(stretch) = before.or(self.stretches.first()) else {
            return Time::ZERO;
        };
        let span = wall.saturating_sub(stretch.wall);
        Time::from_nanos(stretch.run + span * u64::from(stretch.rate))
    }

    /// From this instant on it goes so fast.
    pub fn go(&mut self, wall: u64, rate: u32) {
        let now = self.at(wall);
        if self.rate() == rate || self.stretches.is_empty() {
            return;
        }
        if self.stretches.len() == KEPT {
            self.stretches.remove(0);
        }
        let run = now.since(Time::ZERO).as_nanos() as u64;
        self.stretches.push(Stretch { wall, run, rate });
    }

    /// How fast it goes.
    pub fn rate(&self) -> u32 {
        self.stretches.last().map_or(1, |s| s.rate)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new()
    }
}

/// Something real that is going on, of which a report will tell the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Doing {
    Sandbox(u32),
    Start(ContainerId),
    Probe(ContainerId, ProbeKind),
    Hook(ContainerId, Hook),
    End(ContainerId),
    Remove(u32),
    Stats(u32),
}

/// What is going on in the cell.
#[derive(Debug, Default)]
pub struct Doings {
    open: BTreeSet<Doing>,
    /// Until this instant of the monotonic clock some container starts up.
    starts_until: u64,
}

impl Doings {
    /// Something was asked for.
    pub fn asked(&mut self, call: &Call, node: u32) {
        let doing = match call {
            Call::StartSandbox { pod, .. } => Doing::Sandbox(pod.0),
            Call::PullImage { .. } | Call::WatchMemory { .. } => return,
            Call::StartContainer { container, .. } => Doing::Start(*container),
            Call::Signal { container, .. } => Doing::End(*container),
            Call::Probe {
                container, which, ..
            } => Doing::Probe(*container, *which),
            Call::Hook {
                container, hook, ..
            } => Doing::Hook(*container, *hook),
            Call::RemovePod { pod } => Doing::Remove(pod.0),
            Call::Stats => Doing::Stats(node),
        };
        self.open.insert(doing);
    }

    /// A container begins, and starts up.
    pub fn starts(&mut self, id: ContainerId, program: &Program, wall: u64) {
        let Program::BuiltIn(model) = program else {
            return;
        };
        if model.exit.is_some() || model.memory.leak_per_second > 0 {
            // Its end is not asked for, but will be told.
            self.open.insert(Doing::End(id));
        }
        let warm = model.warmup.map_or(Duration::ZERO, |warmup| warmup.over);
        self.settles(wall, model.startup + warm);
    }

    /// Something goes on for so long by itself.
    fn settles(&mut self, wall: u64, startup: Duration) {
        let until = wall.saturating_add((startup + SETTLED).as_nanos() as u64);
        self.starts_until = self.starts_until.max(until);
    }

    /// Something was told.
    pub fn heard(&mut self, event: &RuntimeEvent) {
        match *event {
            RuntimeEvent::SandboxReady { pod, .. } => {
                self.open.remove(&Doing::Sandbox(pod.0));
            }
            RuntimeEvent::Started { container, .. } => {
                self.open.remove(&Doing::Start(container));
            }
            RuntimeEvent::Probed {
                container, which, ..
            } => {
                self.open.remove(&Doing::Probe(container, which));
            }
            RuntimeEvent::HookDone {
                container, hook, ..
            } => {
                self.open.remove(&Doing::Hook(container, hook));
            }
            RuntimeEvent::Exited { container, .. } => {
                self.open.remove(&Doing::End(container));
            }
            RuntimeEvent::Removed { pod } => self.forget(pod.0),
            RuntimeEvent::NodeMemory { node, .. } => {
                self.open.remove(&Doing::Stats(node.0));
            }
            _ => {}
        }
    }

    /// Nothing will be told of this pod any more.
    pub fn forget(&mut self, gone: u32) {
        self.open.retain(|doing| match doing {
            Doing::Sandbox(pod) | Doing::Remove(pod) => *pod != gone,
            Doing::Start(id) | Doing::End(id) | Doing::Probe(id, _) | Doing::Hook(id, _) => {
                id.pod.0 != gone
            }
            Doing::Stats(_) => true,
        });
    }

    /// Nothing will be told of a machine without power.
    pub fn dark(&mut self, pods: &[u32]) {
        for pod in pods {
            self.forget(*pod);
        }
        self.open.retain(|doing| !matches!(doing, Doing::Stats(_)));
    }

    /// Whether nothing is going on; if only start-ups are, until when.
    pub fn quiet(&self, wall: u64) -> Result<(), Option<u64>> {
        match (self.open.is_empty(), self.starts_until > wall) {
            (true, false) => Ok(()),
            (true, true) => Err(Some(self.starts_until)),
            (false, _) => Err(None),
        }
    }
}

/// Whether a container with this model does something without being asked.
fn acts_alone(model: &AppModel) -> bool {
    model.exit.is_some() || model.memory.leak_per_second > 0
}

/// Why a scenario's clock cannot run ahead, if it cannot.
///
/// # Errors
/// What would be real and lie in the shortened waits.
pub fn may_run_ahead(scenario: &Scenario, images: &Images) -> Result<(), String> {
    let refuse = |why: String| Err(format!("--speed: {why}; run it without"));
    if let Some(traffic) = scenario.traffic.first() {
        return refuse(format!(
            "Traffic {} sends real requests all the time",
            traffic.name
        ));
    }
    if let Some(name) = images.foreign() {
        return refuse(format!(
            "images {name:?} are programs of others, whose own waits cannot be known"
        ));
    }
    if let Some(model) = scenario.apps.iter().find(|model| acts_alone(model)) {
        return refuse(format!(
            "AppModel {} ends or grows by itself after a real time",
            model.name
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Id;

    #[test]
    fn the_clock_runs_ahead_and_places_what_was_true_before() {
        let mut clock = Clock::new();
        let run = |clock: &Clock, wall: u64| clock.at(wall).since(Time::ZERO).as_nanos();
        assert_eq!(clock.now(1_000), Time::ZERO);
        // 1:1 to 1,100; ten times as fast to 1,150; 1:1 again
        clock.go(1_100, 10);
        clock.go(1_150, 1);
        // 100, 100 + 20 × 10, 100 + 50 × 10, 600 + 50
        let table = [
            (1_000, 0),
            (1_100, 100),
            (1_120, 300),
            (1_150, 600),
            (1_200, 650),
        ];
        for (wall, expected) in table {
            assert_eq!(run(&clock, wall), expected, "{wall}");
        }
        assert_eq!((clock.rate(), clock.begun()), (1, 1_000));
        // It never goes back.
        let now = clock.now(1_200);
        assert_eq!(clock.now(1_150), now);
    }

    #[test]
    fn a_wait_is_quiet_when_nothing_real_goes_on() {
        let container = ContainerId {
            pod: Id::new(3),
            index: 0,
            attempt: 0,
        };
        let mut doings = Doings::default();
        assert_eq!(doings.quiet(0), Ok(()));
        doings.asked(&Call::RemovePod { pod: Id::new(3) }, 0);
        assert_eq!(doings.quiet(0), Err(None));
        let signal = crate::kubelet::runtime::Signal::Term;
        doings.asked(&Call::Signal { container, signal }, 0);
        doings.heard(&RuntimeEvent::Removed { pod: Id::new(3) });
        assert_eq!(
            doings.quiet(0),
            Ok(()),
            "nothing is told of a pod that is gone"
        );
        doings.asked(&Call::Stats, 7);
        doings.heard(&RuntimeEvent::NodeMemory {
            node: Id::new(7),
            available_kib: 0,
        });
        // Settled 200 ms after a start-up of 300 ms.
        doings.settles(1_000, Duration::from_millis(300));
        assert_eq!(doings.quiet(1_000), Err(Some(500_001_000)));
        assert_eq!(doings.quiet(500_001_000), Ok(()));
    }
}
