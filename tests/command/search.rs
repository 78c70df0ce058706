//! `rehearsal search`: what it finds is written down, and fails when it is run.

use std::path::PathBuf;

use super::program::{folder, rehearsal, text};

/// A step in a file of its own: the search has to say where that is from where it writes.
const SCENARIO: &str = "\
apiVersion: rehearsal.dev/v1
kind: Scenario
metadata: {name: two-steps}
spec:
  duration: 5m
  cluster:
    nodePools: [{name: main, count: 3, capacity: {cpu: '4', memory: 8Gi}}]
  resources: [deep/web.yaml]
  timeline:
  - {at: 1m, kubectl: annotate deployment/web a=b}
  - {at: 2m, kubectl: scale deployment/web --replicas=0, optional: true}
  expect:
  - {name: wanted, always: \"deployment('web').spec.replicas > 0\"}
  search: {vary: [timeline.at, optional], budget: 6}
";

const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: server, image: 'web:1'}]}
";

#[test]
fn a_find_is_printed_saved_and_reproduced_whatever_the_number_of_threads() {
    let folder = folder("search");
    std::fs::create_dir_all(folder.join("deep")).expect("a folder");
    std::fs::write(folder.join("deep/web.yaml"), WEB).expect("a file");
    let scenario = folder.join("two.yaml");
    std::fs::write(&scenario, SCENARIO).expect("a file");
    let out = folder.join("found/here");
    let (scenario, out) = (scenario.display().to_string(), out.display().to_string());
    let one = rehearsal(&["search", &scenario, "--out", &out, "--threads", "1"]);
    let two = rehearsal(&["search", &scenario, "--out", &out, "--threads", "2"]);
    assert_eq!(text(&one.stdout), text(&two.stdout));
    assert_eq!(one.status.code(), Some(1), "{}", text(&one.stderr));
    let told = text(&one.stdout);
    for line in [
        "two-steps  6 runs of 5m, 3 nodes, seed 1 on, differing in timeline.at, optional",
        "✖ wanted   in ",
        "2 steps → 1, 3 nodes → 1, 5m → ",
        "    02:00  scale deployment/web --replicas=0   ← without it the check passes",
        "  saved ",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    let saved = format!("{out}/two-steps-min-1.yaml");
    let again = rehearsal(&["run", &saved, "--no-out"]);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again.stderr));
    let digest = told
        .split("digest ")
        .nth(1)
        .and_then(|rest| rest.split('…').next());
    let digest = digest.expect("a digest");
    assert!(text(&again.stdout).contains(digest), "{digest}");

    let json = rehearsal(&["search", &scenario, "--out", &out, "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json["finds"][0]["check"], "wanted");
    assert_eq!(json["finds"][0]["small"]["nodes"], serde_json::json!([1]));
    assert_eq!(json["finds"][0]["small"]["file"], saved.as_str());

    // Nothing to find: the step is never left in.
    let quiet = SCENARIO.replace("--replicas=0", "--replicas=2");
    std::fs::write(&scenario, quiet).expect("a file");
    let none = rehearsal(&["search", &scenario, "--out", &out, "--budget", "2"]);
    assert_eq!(none.status.code(), Some(0));
    assert!(text(&none.stdout).contains("2 runs of 5m"));
    assert!(text(&none.stdout).contains("no check failed in any of them"));
    std::fs::remove_dir_all(folder).expect("the folder goes");
}

#[test]
fn bad_input_is_refused_with_its_place() {
    let folder = folder("search-bad");
    std::fs::create_dir_all(folder.join("deep")).expect("a folder");
    std::fs::write(folder.join("deep/web.yaml"), WEB).expect("a file");
    let scenario = folder.join("two.yaml");
    for (from, to, said) in [
        ("timeline.at,", "timeline,", "two.yaml:14:19"),
        (
            "timeline.at,",
            "timeline,",
            "Unsupported value: \"timeline\"",
        ),
        ("budget: 6", "budget: 0", "must be greater than 0"),
        (
            "[timeline.at, optional]",
            "[]",
            "must name something that differs",
        ),
        ("budget: 6", "buget: 6", "unknown field"),
    ] {
        std::fs::write(&scenario, SCENARIO.replace(from, to)).expect("a file");
        let refused = rehearsal(&["search", &scenario.display().to_string()]);
        assert_eq!(refused.status.code(), Some(2), "{to}");
        let why = text(&refused.stderr);
        assert!(why.contains(said), "{said}\n{why}");
    }
    for arguments in [
        &["--vary", "sed"][..],
        &["--budget", "0"],
        &["--threads", "0"],
    ] {
        let scenario = scenario.display().to_string();
        let refused = rehearsal(&[&["search", scenario.as_str()], arguments].concat());
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
    }
    std::fs::remove_dir_all(folder).expect("the folder goes");
}

#[test]
fn the_readme_shows_what_is_found() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).expect("the README");
    let command = "$ rehearsal search scenarios/search.yaml --budget 30\n";
    let shown = readme
        .split(command)
        .nth(1)
        .expect("the README shows a search");
    let shown = shown.split("```").next().expect("an end");
    let folder = folder("search-readme");
    let out = folder.display().to_string();
    let scenario = root.join("scenarios/search.yaml").display().to_string();
    let found = rehearsal(&["search", &scenario, "--budget", "30", "--out", &out]);
    let told = text(&found.stdout).replace(&out, "results");
    assert_eq!(told, shown, "{}", text(&found.stderr));
    std::fs::remove_dir_all(folder).expect("the folder goes");
}
