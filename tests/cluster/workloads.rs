//! StatefulSets and DaemonSets in a whole cluster: scheduler, kubelets, kubectl and all.

use std::path::Path;

use rehearsal::check::run::{RunOptions, run};
use rehearsal::record::{PodLife, RunRecord};
use rehearsal::report::story::{StoryOptions, story};
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

/// Rollouts of sets without ReplicaSets are told by their revisions, as those of Deployments are.
#[test]
fn rollouts_of_sets_are_recorded_and_told() {
    let record = play("scenarios/workloads.yaml", 11);
    let tag = |image: &str| image.rsplit(':').next().unwrap_or_default().to_owned();
    let steps = record.rollouts.iter().filter(|s| s.deployment == "db");
    let steps: Vec<String> = steps
        .map(|s| format!("#{} v{} {}→{}", s.revision, tag(&s.image), s.from, s.to))
        .collect();
    // one pod at a time: an old one goes, then a new one comes; then all the way back, under a new
    // number
    let expected = [
        "#1 v1 3→2",
        "#2 v2 0→1",
        "#1 v1 2→1",
        "#2 v2 1→2",
        "#1 v1 1→0",
        "#2 v2 2→3",
        "#2 v2 3→2",
        "#3 v1 0→1",
        "#2 v2 2→1",
        "#3 v1 1→2",
        "#2 v2 1→0",
        "#3 v1 2→3",
    ];
    assert_eq!(steps[..12], expected);
    let agents = record.rollouts.iter().filter(|s| s.deployment == "agent");
    let least = agents.filter(|s| s.revision == "1").map(|s| s.to).min();
    assert_eq!(least, Some(0));

    let story = story(&record, &StoryOptions::default());
    let told = |what: &str| story.lines().filter(|line| line.contains(what)).count();
    assert_eq!(told("rollout of db complete, 2 3/3"), 1, "{story}");
    assert_eq!(told("rollout of db complete, 1 3/3"), 1, "{story}");
    assert_eq!(told("rollout of agent complete, 2 4/4"), 2, "{story}");
}
