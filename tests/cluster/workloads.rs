//! StatefulSets and DaemonSets in a whole cluster: scheduler, kubelets, kubectl and all.

use std::path::Path;

use rehearsal::check::run::{RunOptions, run};
use rehearsal::record::{PodLife, RunRecord};
use rehearsal::scenario::{LoadOptions, load};

pub fn play(file: &str, seed: u64) -> RunRecord {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let options = LoadOptions {
        seed: Some(seed),
        ..LoadOptions::default()
    };
    let loaded =
        load(&[path], &options).unwrap_or_else(|rejected| panic!("{}", rejected.render(false)));
    let mut options = RunOptions {
        stop: &mut |_, _| false,
        arguments: Vec::new(),
    };
    let finished = run(&loaded.scenarios[0], &mut options);
    finished.unwrap_or_else(|error| panic!("{error:?}")).record
}

pub fn failed(record: &RunRecord) -> Vec<String> {
    let failed = record.checks.iter().filter(|check| !check.passed);
    failed
        .map(|c| format!("{}: {}", c.name, c.detail))
        .collect()
}

fn lives<'r>(record: &'r RunRecord, owner: &str) -> Vec<&'r PodLife> {
    let mut lives: Vec<&PodLife> = record.pods.iter().filter(|p| p.owner == owner).collect();
    lives.sort_by_key(|p| p.created);
    lives
}

#[test]
fn a_stateful_set_and_a_daemon_set_do_what_their_verbs_say() {
    let record = play("scenarios/workloads.yaml", 11);
    assert_eq!(failed(&record), Vec::<String>::new());

    // 3 at first, 3 for the new image, 3 for the way back, 2 more for the size of 5, and 1 that the
    // drain moved if it was on web-0.
    let db = lives(&record, "StatefulSet/db");
    assert!((11..=12).contains(&db.len()), "{}", db.len());
    let names: Vec<&str> = db.iter().take(9).map(|p| &*p.name).collect();
    let down = ["db-2", "db-1", "db-0"];
    let expected = [["db-0", "db-1", "db-2"], down, down].concat();
    assert_eq!(names, expected);
    // A name is never given twice at a time.
    for name in ["db-0", "db-1", "db-2"] {
        let mine: Vec<_> = db.iter().filter(|p| p.name == name).collect();
        for pair in mine.windows(2) {
            assert!(pair[0].gone.is_some_and(|gone| gone <= pair[1].created));
        }
    }
    // 4 nodes, three templates.
    assert_eq!(lives(&record, "DaemonSet/agent").len(), 12);
}
