//! Bad input: each class is an answer with a place and a hint, exit code 2, and never a panic.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::program::{rehearsal, text};

fn folder(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("input")
        .join(name);
    std::fs::create_dir_all(&dir).expect("a scratch folder");
    dir
}

fn scratch(dir: &str, name: &str, content: &[u8]) -> String {
    let path = folder(dir).join(name);
    std::fs::write(&path, content).expect("a scratch file");
    path.to_str().expect("UTF-8").to_owned()
}

/// A scenario of one node and one web application; `more` is further fields of its spec, from line 11.
fn scenario(more: &str) -> String {
    format!(
        "apiVersion: rehearsal.dev/v1\nkind: Scenario\nmetadata: {{name: x}}\nspec:\n  seed: 1\n  \
         duration: 1m\n  cluster:\n    nodePools:\n    - {{name: node, count: 1, capacity: {{cpu: \"1\", \
         memory: 1Gi, pods: \"10\"}}}}\n  resources: [web.yaml]\n{more}"
    )
}

const WEB: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  selector: \
                   {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: \
                   {containers: [{name: main, image: \"web:1\"}]}\n---\napiVersion: v1\nkind: \
                   Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n";

/// Runs a file, and expects exit code 2 and these words on stderr.
fn refused(file: &str, words: &[&str]) {
    let output = rehearsal(&["run", file, "--no-out"]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{file}: {error}");
    assert!(output.stdout.is_empty(), "{file}: {}", text(&output.stdout));
    assert!(error.starts_with("error"), "{file}: {error}");
    for word in words {
        assert!(error.contains(word), "{file}: {word:?} is not in {error}");
    }
}

#[test]
fn what_is_wrong_in_a_scenario_has_a_place_and_a_hint() {
    scratch("scenario", "web.yaml", WEB.as_bytes());
    let traffic = |to: &str| {
        format!(
            "---\napiVersion: rehearsal.dev/v1\nkind: Traffic\nmetadata: {{name: users}}\nspec: {{to: {to}, \
             executor: constant-arrival-rate, rate: 1, duration: 10s}}\n"
        )
    };
    let patch =
        "  patches:\n  - {target: {kind: Deployment, name: wob}, patch: \"spec: {replicas: 2}\"}\n";
    // What is added from line 11 on, and what must be said of it.
    let cases: [(&str, String, &[&str]); 9] = [
        (
            "unknown-field",
            "  durration: 5m\n".into(),
            &["unknown-field.yaml:11:3", "\"duration\""],
        ),
        (
            "wrong-type",
            "  expect: 7\n".into(),
            &["wrong-type.yaml:11:11"],
        ),
        (
            "late",
            "  timeline: [{at: 5m, kubectl: cordon node-0}]\n".into(),
            &["late.yaml:11:", "duration"],
        ),
        (
            "unknown-service",
            traffic("service/wob:80"),
            &["unknown-service.yaml:15:12", "web"],
        ),
        (
            "unknown-port",
            traffic("service/web:81"),
            &["unknown-port.yaml:15:12", "its ports are: 80"],
        ),
        (
            "unknown-node",
            "  timeline: [{at: 5s, kubectl: cordon node-7}]\n".into(),
            &["unknown-node.yaml:11:", "node-0"],
        ),
        (
            "unknown-verb",
            "  timeline: [{at: 5s, kubectl: explode node-0}]\n".into(),
            &["unknown-verb.yaml:11:", "explode"],
        ),
        ("unknown-target", patch.into(), &["unknown-target.yaml:12:"]),
        (
            "twice",
            "  expect:\n  - {name: a, always: \"true\"}\n  - {name: a, always: \"true\"}\n".into(),
            &["twice.yaml:13:", "taken"],
        ),
    ];
    for (name, more, words) in cases {
        let file = scratch(
            "scenario",
            &format!("{name}.yaml"),
            scenario(&more).as_bytes(),
        );
        refused(&file, words);
    }
}

#[test]
fn what_is_wrong_with_files_is_said_where_they_are_named() {
    let missing = scratch(
        "files",
        "missing.yaml",
        scenario("").replace("web.yaml", "wob.yaml").as_bytes(),
    );
    scratch("files", "web.yaml", WEB.as_bytes());
    refused(&missing, &["missing.yaml:10:15", "wob.yaml", "web.yaml"]);

    let one = folder("files/one");
    let two = folder("files/two");
    for (dir, other) in [(&one, "../two"), (&two, "../one")] {
        let content = format!("resources: [{other}]\n");
        std::fs::write(dir.join("kustomization.yaml"), content).expect("a scratch file");
    }
    let cycle = scratch(
        "files",
        "cycle.yaml",
        scenario("").replace("web.yaml", "one").as_bytes(),
    );
    refused(&cycle, &["kustomization.yaml:1:13", "includes itself"]);

    let twice = [&scenario(""), "---\n", &scenario("")].concat();
    let twice = scratch("files", "twice.yaml", twice.as_bytes());
    refused(
        &twice,
        &["twice.yaml:12:1", "a second scenario is called x"],
    );

    // As kubectl apply does with it: the later one counts, and it is said.
    let objects = [WEB, "---\n", &WEB.replace("web:1", "web:2")].concat();
    scratch("files", "double.yaml", objects.as_bytes());
    let double = scenario("").replace("web.yaml", "double.yaml");
    let double = scratch("files", "again.yaml", double.as_bytes());
    let output = rehearsal(&["run", &double, "--no-out"]);
    let warned = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{warned}");
    assert!(warned.contains("double.yaml:15:"), "{warned}");
    refused("no-such-scenario.yaml", &["no-such-scenario.yaml"]);
}

#[test]
fn what_is_no_yaml_and_what_explodes_is_refused_quickly() {
    let junk: Vec<u8> = (0..4_096_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    refused(&scratch("junk", "junk.yaml", &junk), &["junk.yaml:1:"]);
    refused(
        &scratch("junk", "elf.yaml", b"\x7fELF\x02\x01\x01\0\0\0"),
        &["elf.yaml:1:"],
    );
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let before = format!("*a{}, ", i - 1).repeat(10);
        bomb.push_str(&format!(
            "a{i}: &a{i} [{}]\n",
            before.trim_end_matches(", ")
        ));
    }
    refused(
        &scratch("junk", "bomb.yaml", bomb.as_bytes()),
        &["bomb.yaml:"],
    );
    let deep = "[".repeat(200_000);
    refused(
        &scratch("junk", "deep.yaml", deep.as_bytes()),
        &["deep.yaml:1:"],
    );
}

#[test]
fn a_file_of_a_hundred_megabytes_is_refused_before_it_is_read_whole() {
    let path = folder("huge").join("huge.yaml");
    let file = std::fs::File::create(&path).expect("a scratch file");
    file.set_len(100 << 20).expect("a file with a hole");
    refused(
        path.to_str().expect("UTF-8"),
        &["huge.yaml:1:1", "more than 67108864 bytes", "split it"],
    );
    std::fs::remove_file(&path).expect("the scratch file goes");
}

#[cfg(unix)]
#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "somebody who presses Ctrl-C does so in real time"
)]
fn ctrl_c_keeps_what_there_is_and_says_so() {
    use std::process::Stdio;
    let dir = folder("interrupted").join("results");
    let served = "  expect:\n  - name: served\n    always: endpoints('web').ready >= 0\n";
    let long = scenario(served).replace("duration: 1m", "duration: 5000h");
    scratch("interrupted", "web.yaml", WEB.as_bytes());
    let file = scratch("interrupted", "long.yaml", long.as_bytes());
    let child = Command::new(env!("CARGO_BIN_EXE_rehearsal"))
        .args(["run", &file, "--out", dir.to_str().expect("UTF-8")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    std::thread::sleep(std::time::Duration::from_secs(2));
    let id = child.id().to_string();
    let killed = Command::new("kill").args(["-INT", &id]).status();
    assert!(killed.is_ok_and(|status| status.success()));
    let output = child.wait_with_output().expect("it ends");
    let (story, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("interrupted: what happened until then was kept"),
        "{error}"
    );
    assert!(story.contains("INTERRUPTED"), "{story}");
    assert!(dir.join("record.bin").is_file());
    let summary = std::fs::read_to_string(dir.join("summary.json")).expect("a summary");
    assert!(summary.contains("\"interrupted\": true"), "{summary}");
    // What was still open is not called a failure.
    assert!(!story.contains("FAIL"), "{story}");
    assert!(story.contains("OPEN served"), "{story}");
    assert!(summary.contains("\"open\": true"), "{summary}");
}

#[cfg(unix)]
#[test]
fn a_reader_that_leaves_is_no_failure() {
    let script = format!(
        "{} gallery --dir scenarios/gallery | true; {} completions bash | head -1; {} validate \
         scenarios/shop --json | head -1 >/dev/null",
        env!("CARGO_BIN_EXE_rehearsal"),
        env!("CARGO_BIN_EXE_rehearsal"),
        env!("CARGO_BIN_EXE_rehearsal")
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("a shell");
    assert_eq!(text(&output.stderr), "");
}
