//! `compare`, `sweep` and `merge` as a user meets them: the same bytes from one process and from
//! shares, bad input told with its place and exit code 2.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::program::rehearsal;

fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("compare")
        .join(name);
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

/// All files of a results folder but the shares.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for folder in [dir.to_owned(), dir.join("plots")] {
        for entry in std::fs::read_dir(&folder)
            .expect("a results folder")
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_file() && !name.starts_with("shard-") {
                found.insert(name, std::fs::read(entry.path()).expect("readable"));
            }
        }
    }
    found
}

const EXPERIMENT: &str = "scenarios/packing-vs-balance.yaml";

#[test]
fn shares_put_together_are_the_bytes_of_a_local_run() {
    let (local, shared) = (scratch("local"), scratch("shared"));
    let [local_dir, shared_dir] = [&local, &shared].map(|dir| dir.to_str().expect("UTF-8"));
    let seeds = ["--seeds", "1..3"];
    let whole = rehearsal(&[
        "compare",
        EXPERIMENT,
        seeds[0],
        seeds[1],
        "--threads",
        "1",
        "--out",
        local_dir,
    ]);
    assert_eq!(whole.status.code(), Some(0), "{whole:?}");
    for share in ["1/2", "0/2", "1/2"] {
        let out = rehearsal(&[
            "compare",
            EXPERIMENT,
            seeds[0],
            seeds[1],
            "--threads",
            "3",
            "--shard",
            share,
            "--out",
            shared_dir,
        ]);
        assert_eq!(out.status.code(), Some(0), "{out:?}");
    }
    let merged = rehearsal(&["merge", shared_dir, "2"]);
    assert_eq!(merged.status.code(), Some(0), "{merged:?}");
    let (local, shared) = (files(&local), files(&shared));
    let names: Vec<&str> = local.keys().map(String::as_str).collect();
    assert!(
        names.contains(&"differences.svg") && names.contains(&"waits.svg"),
        "{names:?}"
    );
    assert!(local == shared, "shares and a local run differ: {names:?}");
    // Without one of them there is nothing to merge.
    std::fs::remove_file(Path::new(shared_dir).join("shard-0-of-2.jsonl")).expect("it is there");
    let missing = rehearsal(&["merge", shared_dir, "2"]);
    assert_eq!(missing.status.code(), Some(2));
    let told = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(told.contains("of 2 shares these are missing: 0"), "{told}");
}

#[test]
fn a_sweep_over_a_scenario_compares_whole_clusters() {
    let out = rehearsal(&[
        "sweep",
        "scenarios/self-healing.yaml",
        "--set",
        "cluster.flags.kube-controller-manager.node-monitor-grace-period=20s,50s",
        "--seeds",
        "1,2",
        "--no-out",
        "--json",
    ]);
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).expect("one object");
    let names = [
        "node-monitor-grace-period=20s",
        "node-monitor-grace-period=50s",
    ];
    assert_eq!(json["variants"], serde_json::json!(names));
    let metrics = json["metrics"].as_array().expect("a list");
    let metric = |name: &str| metrics.iter().any(|m| m["name"] == name);
    assert!(
        metric("checks_failed") && metric("pod_wait_seconds.p99"),
        "{metrics:?}"
    );
}

#[test]
fn bad_input_is_told_and_exits_with_2() {
    let table: [(&[&str], &str); 5] = [
        (
            &["compare", "scenarios/self-healing.yaml"],
            "holds no Experiment",
        ),
        (
            &["compare", EXPERIMENT, "--seeds", "3..1"],
            "both ends count",
        ),
        (
            &["compare", EXPERIMENT, "--shard", "2/2", "--out", "x"],
            "I from 0 to N - 1",
        ),
        (
            &["sweep", EXPERIMENT, "--set", "trace.scale=1,1"],
            "there twice",
        ),
        (
            &["compare", EXPERIMENT, "--traces", "/nowhere"],
            "day.csv: cannot be read",
        ),
    ];
    for (arguments, expected) in table {
        let out = rehearsal(arguments);
        assert_eq!(out.status.code(), Some(2), "{arguments:?}");
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(told.contains(expected), "{arguments:?}: {told}");
    }
}

/// Files of one experiment each, with one mistake: what is told, where, and exit code 2.
#[test]
fn mistakes_in_files_are_told_with_file_line_and_column() {
    let dir = scratch("mistakes");
    std::fs::create_dir_all(&dir).expect("a folder");
    let head = "apiVersion: rehearsal.dev/v1\nkind: Experiment\nmetadata: {name: e}\nspec:\n  \
                seeds: [1]\n  base:\n    duration: 1h\n    cluster: {nodePools: [{name: node, count: \
                1, capacity: {cpu: 4, memory: 8Gi}}]}\n    trace: {file: pods.csv}\n  variants:\n";
    let scheduler = |rest: &str| {
        format!(
            "  - name: a\n    scheduler:\n      apiVersion: kubescheduler.config.k8s.io/v1\n      \
             kind: KubeSchedulerConfiguration\n      {rest}\n"
        )
    };
    let good = "arrival,duration,cpu,memory\n0,100,1,1Gi\n";
    let one = "  - name: a\n";
    let cases = [
        (
            scheduler("profiles: [{plugins: {score: {enabled: [{name: Nope}]}}}]"),
            good,
            "e.yaml:15:",
            "plugin \"Nope\" does not exist",
        ),
        (
            scheduler("profiles: [{plugins: {score: {enabled: [{name: FGDScore, weight: -1}]}}}]"),
            good,
            "e.yaml:15:",
            "Invalid value: -1: must not be negative",
        ),
        (
            scheduler("profiles: [{pluginConfig: [{name: InterPodAffinity, args: {weight: 1}}]}]"),
            good,
            "e.yaml:15:",
            "unknown field `weight`",
        ),
        (
            scheduler("profiles: [{schedulerName: a}, {percentageOfNodesToScore: 5}]"),
            good,
            "e.yaml:15:",
            "profiles[1].schedulerName: Required value",
        ),
        (
            scheduler("extenders: [{urlPrefix: 'http://x'}]"),
            good,
            "e.yaml:15:",
            "scheduler extenders are not modelled: \"http://x\"",
        ),
        (
            format!("{one}{one}"),
            good,
            "e.yaml:12:",
            "Duplicate value: \"a\"",
        ),
        (
            one.to_owned(),
            "duration,cpu,memory\n100,1,1Gi\n",
            "pods.csv:1:1",
            "the column \"arrival\" is missing",
        ),
        (
            one.to_owned(),
            "arrival,duration,cpu,memory\n0,100,1,1Gi\n5,soon,1,1Gi\n",
            "pods.csv:3",
            "soon",
        ),
    ];
    for (variants, trace, place, said) in cases {
        std::fs::write(dir.join("pods.csv"), trace).expect("written");
        let file = dir.join("e.yaml");
        std::fs::write(&file, format!("{head}{variants}")).expect("written");
        let out = rehearsal(&["compare", file.to_str().expect("UTF-8"), "--no-out"]);
        assert_eq!(out.status.code(), Some(2), "{variants}{trace}");
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(told.contains(place) && told.contains(said), "{told}");
    }
}
