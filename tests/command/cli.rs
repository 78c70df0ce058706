//! The command line as a user meets it: exit codes, what goes to stdout, what is said of bad input.

use std::path::{Path, PathBuf};

use super::program::{rehearsal, text};

fn scratch(name: &str, content: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli");
    std::fs::create_dir_all(&dir).expect("a scratch folder");
    let path = dir.join(name);
    std::fs::write(&path, content).expect("a scratch file");
    path
}

const SMALL: &str = "scenarios/self-healing.yaml";

#[test]
fn json_is_one_object_on_stdout_and_the_same_bytes_every_time() {
    let run = || rehearsal(&["run", SMALL, "--json", "--no-out"]);
    let (first, second) = (run(), run());
    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
    assert_eq!(text(&first.stdout), text(&second.stdout));
    let json: serde_json::Value = serde_json::from_slice(&first.stdout).expect("one object");
    for key in [
        "scenario",
        "seed",
        "backend",
        "kubernetesVersion",
        "digest",
        "simulated_s",
        "events",
        "passed",
        "checks",
        "traffic",
        "not_modelled",
        "warnings",
        "degraded",
        "results",
    ] {
        assert!(json.get(key).is_some(), "{key} is missing: {json}");
    }
    assert_eq!(json["passed"], true);
    assert_eq!(json["digest"].as_str().map(str::len), Some(32));
}

#[test]
fn another_seed_is_another_run() {
    let digest = |seed: &str| {
        let output = rehearsal(&["run", SMALL, "--json", "--no-out", "--seed", seed]);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
        json["digest"].to_string()
    };
    assert_ne!(digest("1"), digest("2"));
}

#[test]
fn a_results_folder_replays_to_the_same_digest_and_is_explained() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli-results");
    let dir = dir.to_str().expect("UTF-8");
    let run = rehearsal(&["run", SMALL, "--out", dir]);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let story = text(&run.stdout);
    assert!(story.contains("5 checks passed"), "{story}");
    let replay = rehearsal(&["replay", dir]);
    assert_eq!(replay.status.code(), Some(0), "{}", text(&replay.stderr));
    assert!(text(&replay.stdout).contains("identical"));
    let explain = rehearsal(&["explain", dir, "--at", "05:49"]);
    assert_eq!(explain.status.code(), Some(0), "{}", text(&explain.stderr));
    assert!(
        text(&explain.stdout).contains("power-off"),
        "{}",
        text(&explain.stdout)
    );
}

#[test]
fn a_check_that_fails_is_exit_code_1() {
    let file = scratch(
        "fails.yaml",
        "apiVersion: rehearsal.dev/v1\nkind: Scenario\nmetadata: {name: fails}\nspec:\n  seed: 1\n  \
         duration: 30s\n  cluster:\n    nodePools:\n    - {name: node, count: 1, capacity: {cpu: \"1\", \
         memory: 1Gi, pods: \"10\"}}\n  expect:\n  - {name: two nodes, eventually: \"nodes().size() \
         == 2\", within: 20s}\n",
    );
    let output = rehearsal(&["run", file.to_str().expect("UTF-8"), "--no-out"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).contains("FAIL two nodes"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn bad_input_is_exit_code_2_with_a_place_and_no_output() {
    let scenario = |extra: &str| {
        format!(
            "apiVersion: rehearsal.dev/v1\nkind: Scenario\nmetadata: {{name: x}}\nspec:\n  seed: 1\n  \
             duration: 1m\n  cluster:\n    nodePools:\n    - {{name: node, count: 1, capacity: {{cpu: \
             \"1\", memory: 1Gi, pods: \"10\"}}}}\n{extra}"
        )
    };
    let cases = [
        (
            "unknown-field.yaml",
            scenario("  durration: 5m\n"),
            "durration",
        ),
        (
            "wrong-type.yaml",
            scenario("  expect: 7\n"),
            "wrong-type.yaml:10",
        ),
        (
            "missing-file.yaml",
            scenario("  resources: [nowhere.yaml]\n"),
            "nowhere.yaml",
        ),
        (
            "late.yaml",
            scenario("  timeline:\n  - {at: 5m, kubectl: cordon node-0}\n"),
            "late.yaml:11",
        ),
        (
            "verb.yaml",
            scenario("  timeline:\n  - {at: 5s, kubectl: explode node-0}\n"),
            "explode",
        ),
        (
            "broken.yaml",
            "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b".to_owned(),
            "did not find expected",
        ),
        ("junk.yaml", "\u{1}\u{2}\u{3}".to_owned(), "junk.yaml:1"),
        (
            "function.yaml",
            scenario("  expect:\n  - {name: e, always: \"podz('x').size() > 0\"}\n"),
            "podz",
        ),
    ];
    for (name, content, expected) in cases {
        let file = scratch(name, &content);
        let output = rehearsal(&["run", file.to_str().expect("UTF-8"), "--no-out"]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}: {error}");
        assert!(error.contains(expected), "{name}: {error}");
        assert!(error.contains("error"), "{name}: {error}");
        assert!(output.stdout.is_empty(), "{name}");
    }
    let missing = rehearsal(&["run", "no-such-scenario.yaml"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("no-such-scenario.yaml"));
}

#[test]
fn a_backend_that_nobody_knows_is_exit_code_2() {
    let output = rehearsal(&["run", SMALL, "--backend", "cloud"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("cloud"));
}

#[test]
fn the_shop_is_valid_and_every_command_has_help_with_an_example() {
    let output = rehearsal(&["validate", "scenarios/shop"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for command in [
        "run",
        "validate",
        "explain",
        "plot",
        "report",
        "gallery",
        "replay",
        "completions",
    ] {
        let help = rehearsal(&[command, "--help"]);
        assert_eq!(help.status.code(), Some(0));
        assert!(text(&help.stdout).contains("rehearsal "), "{command}");
        assert!(text(&help.stdout).contains("Example"), "{command}");
    }
}

#[test]
fn the_source_of_each_cel_flaw_is_a_line_and_a_column() {
    let head = "apiVersion: rehearsal.dev/v1\nkind: Scenario\nmetadata: {name: x}\nspec:\n  seed: 1\n  \
                duration: 1m\n  cluster:\n    nodePools:\n    - {name: node, count: 1, capacity: {cpu: \
                \"1\", memory: 1Gi, pods: \"10\"}}\n  expect:\n";
    // An expectation, its place in the file, what is said of it.
    let cases = [
        (
            "  - {name: e, always: \"podz('x').size() > 0\"}",
            "11:24",
            "did you mean pod",
        ),
        (
            "  - {name: e, always: \"1 > 0 && podz('x').size() > 0\"}",
            "11:33",
            "no function podz",
        ),
        (
            "  - {name: e, always: \"nodes().size() >\"}",
            "11:40",
            "ends too early",
        ),
        (
            "  - {name: e, never: \"nodes().size() = 1\"}",
            "11:38",
            "== for equality",
        ),
        (
            "  - {name: e, never: \"pods(name).size() > 1\"}",
            "11:28",
            "constant text",
        ),
        (
            "  - {name: e, eventually: \"node('none').spec == 1\"}",
            "11:27",
            "none",
        ),
        (
            "  - name: e\n    always: >\n      nodes().size() > 0\n      and true",
            "12:13",
            "&& and ||",
        ),
        (
            "  - {name: e, wait: {for: condition=Ready, resource: foo/bar}}",
            "11:5",
            "no object",
        ),
    ];
    for (number, (expect, place, said)) in cases.iter().enumerate() {
        let file = scratch(&format!("cel-{number}.yaml"), &format!("{head}{expect}\n"));
        let output = rehearsal(&["run", file.to_str().expect("UTF-8"), "--no-out"]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{expect}: {error}");
        assert!(
            error.contains(&format!("cel-{number}.yaml:{place}\n")),
            "{expect}: {error}"
        );
        assert!(error.contains(said), "{expect}: {error}");
        assert!(output.stdout.is_empty(), "{expect}");
    }
}
