//! The journal of a real run, kept beside this test, takes the same decisions again: without
//! root, on any system.
//!
//! The journal says what was heard and after how many events, so a change of behaviour, or of the
//! format, makes it another run's. Then it is made again, as root on Linux:
//!
//! ```console
//! REHEARSAL_REMAKE=1 cargo test --test cluster journal
//! ```

use std::path::PathBuf;
use std::process::Command;

use rehearsal::check::{On, RunOptions, run_on};
use rehearsal::cluster::Event;
use rehearsal::engine::Journal;
use rehearsal::scenario::{LoadOptions, load};

const AGAIN: &str = "if behaviour or format changed on purpose, make the journal again as root: \
                     REHEARSAL_REMAKE=1 cargo test --test cluster journal";

fn file(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    folder.join(name)
}

/// Runs the scenario on real processes and keeps its journal.
fn make_again() {
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("journal-of-a-real-run");
    let _ = std::fs::remove_dir_all(&out);
    let ran = Command::new(env!("CARGO_BIN_EXE_rehearsal"))
        .arg("run")
        .arg(file("real-run.yaml"))
        .args(["--backend", "linux", "--out"])
        .arg(&out)
        .output()
        .expect("the program");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    std::fs::copy(out.join("journal.bin"), file("real-run.journal")).expect("a journal");
}

#[test]
fn the_journal_of_a_real_run_takes_the_same_decisions_again() {
    if std::env::var_os("REHEARSAL_REMAKE").is_some() {
        make_again();
    }
    let bytes = std::fs::read(file("real-run.journal")).expect("a journal");
    let journal: Journal<Event> =
        Journal::decode(&bytes).unwrap_or_else(|error| panic!("{error}; {AGAIN}"));
    let loaded = load(&[file("real-run.yaml")], &LoadOptions::default());
    let loaded = loaded.unwrap_or_else(|rejected| panic!("{}", rejected.render(false)));
    let scenario = &loaded.scenarios[0];
    assert_eq!(journal.header.scenario, scenario.digest, "{AGAIN}");
    // It is about something: starts, probes, a crash, requests that were really sent.
    assert!(journal.entries().len() > 400, "{}", journal.entries().len());
    let mut stop = |_, _| false;
    let mut options = RunOptions {
        stop: &mut stop,
        arguments: Vec::new(),
    };
    let again = run_on(scenario, &mut options, On::Journal(&journal), &mut ());
    let again = again.unwrap_or_else(|error| panic!("{error:?}; {AGAIN}"));
    let closing = journal.closing().expect("a closed journal");
    let then = format!("{:032x}", closing.digest);
    assert_eq!(again.record.header.digest, then, "{AGAIN}");
    let failed: Vec<_> = again.record.checks.iter().filter(|c| !c.passed).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let traffic = &again.record.traffic[0];
    assert_eq!((traffic.sent, traffic.in_flight), (200, 0), "{traffic:?}");
}
