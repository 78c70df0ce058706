//! What CI systems and browsers get: JUnit, Markdown, one HTML page; several scenarios at once; the
//! gallery.

use super::program::{folder, rehearsal, text};

/// A scenario of one node whose only check passes or fails.
fn scenario(name: &str, nodes: u32) -> String {
    format!(
        "apiVersion: rehearsal.dev/v1\nkind: Scenario\nmetadata: {{name: {name}}}\nspec:\n  seed: 3\n  \
         duration: 10s\n  cluster:\n    nodePools:\n    - {{name: node, count: 1, capacity: {{cpu: \"1\", \
         memory: 1Gi, pods: \"10\"}}}}\n  expect:\n  - {{name: \"nodes & more\", always: \"nodes().size() \
         == {nodes}\"}}\n"
    )
}

#[test]
fn several_scenarios_get_a_folder_a_suite_and_a_section_each() {
    let dir = folder("several");
    for (name, nodes) in [("good", 1), ("bad", 2)] {
        let path = dir.join(format!("{name}.yaml"));
        std::fs::write(path, scenario(name, nodes)).expect("a scratch file");
    }
    let at = |name: &str| dir.join(name).to_str().expect("UTF-8").to_owned();
    let run = |more: &[&str]| {
        let (bad, good, out) = (at("bad.yaml"), at("good.yaml"), at("out"));
        let all = [&["run", &bad, &good, "--out", &out], more].concat();
        rehearsal(&all)
    };
    let output = run(&["-q", "--junit", &at("j.xml"), "--markdown", &at("m.md")]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(shown.ends_with("1 of 2 scenarios failed: bad\n"), "{shown}");
    assert!(shown.contains("FAIL nodes & more"), "{shown}");
    for folder in ["out/bad-3", "out/good-3"] {
        for file in ["summary.json", "record.bin", "report.html"] {
            assert!(dir.join(folder).join(file).is_file(), "{folder}/{file}");
        }
    }
    let junit = std::fs::read_to_string(dir.join("j.xml")).expect("a file");
    assert_eq!(junit.matches("<testsuite ").count(), 2);
    assert_eq!(junit.matches("<failure ").count(), 1);
    assert!(junit.contains("name=\"nodes &amp; more\""), "{junit}");
    let markdown = std::fs::read_to_string(dir.join("m.md")).expect("a file");
    assert!(
        markdown.starts_with("### ❌ bad: 1 of 1 check failed"),
        "{markdown}"
    );
    assert!(
        markdown.contains("### ✅ good: 1 check passed"),
        "{markdown}"
    );

    let output = run(&["--json"]);
    let lines = text(&output.stdout);
    let names: Vec<String> = (lines.lines())
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("an object a line"))
        .map(|object| object["scenario"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(names, ["bad", "good"]);
}

#[test]
fn the_page_is_written_again_from_the_folder_and_is_the_same() {
    let dir = folder("page");
    let results = dir.join("results");
    let shown = results.to_str().expect("UTF-8");
    let run = rehearsal(&["run", "scenarios/self-healing.yaml", "--out", shown, "-q"]);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let first = std::fs::read_to_string(results.join("report.html")).expect("a page");
    let again = rehearsal(&["report", shown, "--out", "-"]);
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    assert_eq!(text(&again.stdout), first);
    assert_eq!(first.matches("<svg ").count(), 2);
    assert!(first.contains("5 checks passed"));
    let none = rehearsal(&["report", "scenarios"]);
    assert_eq!(none.status.code(), Some(2));
}

#[test]
fn the_gallery_lists_its_stories_and_puts_two_runs_side_by_side() {
    let list = text(&rehearsal(&["gallery"]).stdout);
    assert!(
        list.lines()
            .any(|line| line.starts_with("G07   \"No readiness probe")),
        "{list}"
    );
    let output = rehearsal(&["gallery", "g07"]);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    let row = |name: &str| {
        let found = shown
            .lines()
            .rfind(|line| line.trim_start().starts_with(name));
        found.unwrap_or_default().to_owned()
    };
    assert!(row("http_req_failed").contains("FAIL") && row("http_req_failed").contains("PASS"));
    assert!(row("requests failed").ends_with("0 (0%)"), "{shown}");
    let unknown = rehearsal(&["gallery", "G99"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("there are: G01"));
}
