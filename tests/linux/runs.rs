//! Whole runs on real processes.

use rehearsal::backend::linux::{Linux, LinuxOptions};
use rehearsal::check::{Finished, On, RunOptions, run, run_on};
use rehearsal::cluster::Event;
use rehearsal::engine::Journal;
use rehearsal::scenario::{self, LoadOptions, Scenario};

use super::leaks::Inventory;
use super::{alone, possible, program};

fn load(file: &str) -> Scenario {
    let path = format!("{}/scenarios/{file}", env!("CARGO_MANIFEST_DIR"));
    let options = LoadOptions::default();
    let loaded = scenario::load(&[path.into()], &options).expect("a good scenario");
    loaded.scenarios.into_iter().next().expect("a scenario")
}

fn go(scenario: &Scenario, on: On<'_>) -> Finished {
    let mut stop = |_, _| false;
    let mut options = RunOptions {
        stop: &mut stop,
        arguments: Vec::new(),
    };
    run_on(scenario, &mut options, on, &mut ()).expect("a run")
}

/// Names of checks, and whether they passed.
fn checks(finished: &Finished) -> Vec<(String, bool)> {
    let checks = finished.record.checks.iter();
    checks
        .map(|check| (check.name.clone(), check.passed))
        .collect()
}

#[test]
fn real_processes_heal_as_simulated_ones_do_and_their_run_replays() {
    if !possible() {
        return;
    }
    let _alone = alone();
    let before = Inventory::take();
    let scenario = load("real-self-healing.yaml");
    let options = LinuxOptions {
        program: program(),
        ..LinuxOptions::default()
    };
    let mut linux = Linux::start(&scenario, options).expect("a cell");
    let real = go(&scenario, On::Linux(&mut linux));
    assert_eq!(linux.problems(), &[] as &[String]);
    drop(linux);
    before.is_back();
    assert!(
        checks(&real).iter().all(|(_, passed)| *passed),
        "{:?}",
        real.record.checks
    );
    let mut stop = |_, _| false;
    let mut options = RunOptions {
        stop: &mut stop,
        arguments: Vec::new(),
    };
    let simulated = run(&scenario, &mut options).expect("a run");
    assert_eq!(checks(&real), checks(&simulated));
    // The journal alone repeats the run, without a cell.
    let journal: Journal<Event> = Journal::decode(&real.journal).expect("a journal");
    assert!(journal.entries().len() > 100, "everything real was heard");
    let again = go(&scenario, On::Journal(&journal));
    assert_eq!(again.record.header.digest, real.record.header.digest);
    let closing = journal.closing().expect("a closed journal");
    assert_eq!(
        format!("{:032x}", closing.digest),
        real.record.header.digest
    );
}
