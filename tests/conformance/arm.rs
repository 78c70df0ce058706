//! What a body runs on.

use std::sync::atomic::{AtomicU32, Ordering};

use rehearsal::check::{Finished, On, RunOptions, Watcher, run_on};
use rehearsal::cluster::Event;
use rehearsal::engine::Journal;
use rehearsal::record::RunRecord;
use rehearsal::scenario::{self, LoadOptions, Scenario};

/// Simulated processes, or real ones.
pub struct World {
    real: bool,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

fn load(text: &str) -> Scenario {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join(format!("conformance-{}-{number}.yaml", std::process::id()));
    std::fs::write(&file, text).expect("a file");
    let loaded = scenario::load(std::slice::from_ref(&file), &LoadOptions::default());
    std::fs::remove_file(&file).expect("a file");
    let loaded = loaded.unwrap_or_else(|rejected| panic!("{}\n{text}", rejected.render(false)));
    loaded.scenarios.into_iter().next().expect("a scenario")
}

fn go(scenario: &Scenario, on: On<'_>, look: &mut dyn Watcher) -> Finished {
    let mut stop = |_, _| false;
    let mut options = RunOptions {
        stop: &mut stop,
        arguments: Vec::new(),
    };
    run_on(scenario, &mut options, on, look).unwrap_or_else(|error| panic!("{error:?}"))
}

impl World {
    /// Simulated.
    pub fn simulated() -> World {
        World { real: false }
    }

    /// On processes of this host.
    #[cfg(target_os = "linux")]
    pub fn real() -> World {
        World { real: true }
    }

    /// Runs a scenario; what is asserted here holds for every run.
    pub fn run(&self, text: &str) -> RunRecord {
        self.run_watched(text, &mut ())
    }

    /// As [`World::run`], with somebody looking on.
    pub fn run_watched(&self, text: &str, look: &mut dyn Watcher) -> RunRecord {
        let scenario = load(text);
        if !self.real {
            return go(&scenario, On::Processes, look).record;
        }
        let finished = real(&scenario, look);
        let journal: Journal<Event> = Journal::decode(&finished.journal).expect("a journal");
        let again = go(&scenario, On::Journal(&journal), look);
        assert_eq!(
            again.record.header.digest, finished.record.header.digest,
            "a real run replays"
        );
        finished.record
    }
}

#[cfg(target_os = "linux")]
fn real(scenario: &Scenario, look: &mut dyn Watcher) -> Finished {
    use rehearsal::backend::linux::{Linux, LinuxOptions};
    let options = LinuxOptions {
        program: env!("CARGO_BIN_EXE_rehearsal").into(),
        ..LinuxOptions::default()
    };
    let mut linux = Linux::start(scenario, options).unwrap_or_else(|why| panic!("{why}"));
    let finished = go(scenario, On::Linux(&mut linux), look);
    assert_eq!(linux.problems(), &[] as &[String]);
    finished
}

#[cfg(not(target_os = "linux"))]
fn real(_: &Scenario, _: &mut dyn Watcher) -> Finished {
    unreachable!("there is no real arm here")
}
