//! Code health as an ordinary test: layers, sizes, opening pages, banned words.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Each layer with the layers that it may name. Siblings are in nobody's list.
const LAYERS: &[(&str, &[&str])] = &[
    ("engine", &[]),
    ("api", &["engine"]),
    ("store", &["api", "engine"]),
    ("client", &["store", "api", "engine"]),
    ("control", &["client", "store", "api", "engine"]),
    ("sched", &["client", "store", "api", "engine"]),
    ("kubelet", &["client", "store", "api", "engine"]),
    ("net", &["client", "store", "api", "engine"]),
    ("load", &["client", "store", "api", "engine"]),
    ("fault", &["client", "store", "api", "engine"]),
    // kubectl computes rollout history and status, which the controllers define.
    ("kubectl", &["control", "client", "store", "api", "engine"]),
    ("record", &["store", "api", "engine"]),
    (
        "scenario",
        &[
            "kubectl", "control", "sched", "kubelet", "net", "load", "fault", "client", "store",
            "api", "engine",
        ],
    ),
    (
        "cluster",
        &[
            "scenario", "kubectl", "control", "sched", "kubelet", "net", "load", "fault", "client",
            "store", "api", "engine",
        ],
    ),
    (
        "backend",
        &[
            "cluster", "scenario", "kubelet", "net", "load", "fault", "store", "api", "engine",
        ],
    ),
    ("report", &["record", "store", "api", "engine"]),
    (
        "check",
        &[
            "backend", "cluster", "record", "scenario", "kubectl", "control", "sched", "kubelet",
            "net", "load", "fault", "client", "store", "api", "engine",
        ],
    ),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(dir)
        .expect("a readable folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn sources(folders: &[&str]) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for folder in folders {
        rust_files(&root().join(folder), &mut files);
    }
    files
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("UTF-8");
            let name = path
                .strip_prefix(root())
                .expect("inside")
                .display()
                .to_string();
            (name, text)
        })
        .collect()
}

/// The part of a file that is not its test module.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text)
}

/// Modules of the crate that a text names as `crate::x`, with the line.
fn named_layers(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or(line);
        for (at, _) in code.match_indices("crate::") {
            let rest = &code[at + 7..];
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            if end > 0 {
                found.push((number + 1, rest[..end].to_owned()));
            }
        }
    }
    found
}

/// What a layer names and may not.
fn layer_violations(name: &str, text: &str) -> Vec<String> {
    let Some(layer) = name
        .strip_prefix("src/")
        .and_then(|rest| rest.split_once('/'))
    else {
        return Vec::new();
    };
    let Some((_, allowed)) = LAYERS.iter().find(|(l, _)| *l == layer.0) else {
        return Vec::new();
    };
    named_layers(without_tests(text))
        .into_iter()
        .filter(|(_, other)| {
            let known = LAYERS.iter().any(|(l, _)| l == other) || other == "cli";
            known && other != layer.0 && !allowed.contains(&other.as_str())
        })
        .map(|(line, other)| format!("{name}:{line}: {} may not name {other}", layer.0))
        .collect()
}

#[test]
fn layers_hold() {
    let violations: Vec<String> = sources(&["src"])
        .iter()
        .filter(|(name, _)| !name.ends_with("tests.rs") && !name.contains("/tests/"))
        .flat_map(|(name, text)| layer_violations(name, text))
        .collect();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn the_layer_rule_finds_a_sibling() {
    let text = "use crate::sched::Scheduler;\n// crate::net is fine in a comment\n";
    let found = layer_violations("src/kubelet/mod.rs", text);
    assert_eq!(found, ["src/kubelet/mod.rs:1: kubelet may not name sched"]);
    assert!(layer_violations("src/kubelet/mod.rs", "use crate::store::View;").is_empty());
}

#[test]
fn files_are_short_and_open_with_a_page() {
    let mut violations = Vec::new();
    for (name, text) in sources(&["src", "tests", "benches"]) {
        let lines = text.lines().count();
        if lines > 600 {
            violations.push(format!("{name}: {lines} lines, 600 are allowed"));
        }
        if !text.starts_with("//!") {
            violations.push(format!("{name}: does not open with `//!`"));
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

/// Functions with their first line and number of lines, by their indentation.
fn functions(text: &str) -> Vec<(usize, usize, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let head = code.split('(').next().unwrap_or_default();
        let is_function = head.split_whitespace().any(|word| word == "fn")
            && !code.starts_with("//")
            && code.contains('(');
        if !is_function {
            continue;
        }
        // A declaration without a body ends with `;` before any `{`.
        let opens = lines[at..]
            .iter()
            .find(|l| l.ends_with('{') || l.ends_with(';'));
        if opens.is_none_or(|l| l.ends_with(';')) {
            continue;
        }
        let indent = line.len() - code.len();
        let close = format!("{}}}", " ".repeat(indent));
        let end = lines[at..]
            .iter()
            .position(|l| *l == close || l.ends_with("{}") && *l == *line);
        if let Some(end) = end {
            found.push((at + 1, end + 1, head.trim().to_owned()));
        }
    }
    found
}

/// Functions that are longer than they should be, with their length: they may shrink, and leave
/// this list when they are short.
const LONG: &[(&str, usize)] = &[
    ("src/check/run.rs: pub fn run", 71),
    ("src/sched/explain.rs: pub fn explain", 72),
];

#[test]
fn functions_are_short() {
    let mut violations = Vec::new();
    for (name, text) in sources(&["src"]) {
        if name.contains("/tests") {
            continue;
        }
        for (line, length, head) in functions(without_tests(&text)) {
            let known = LONG
                .iter()
                .find(|(known, _)| *known == format!("{name}: {head}"));
            if length > known.map_or(70, |(_, most)| *most) {
                violations.push(format!(
                    "{name}:{line}: {head}: {length} lines, 70 are allowed"
                ));
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn the_length_rule_counts_to_the_closing_brace() {
    let text = "impl X {\n    fn a(&self) {\n        b();\n    }\n}\n";
    assert_eq!(functions(text), [(2, 3, "fn a".to_owned())]);
}

#[test]
fn words_that_hide_what_a_type_does_are_not_used() {
    const BANNED: &[(&str, &str)] = &[
        ("Manager", "name what it does"),
        ("Helper", "name what it does"),
        ("Util", "name what it does"),
        ("Handler", "name what it does"),
        ("Impl", "name the variant"),
    ];
    let mut violations = Vec::new();
    for (name, text) in sources(&["src"]) {
        for (number, line) in text.lines().enumerate() {
            let code = line.trim_start();
            for keyword in ["struct ", "enum ", "trait "] {
                let declared = code
                    .strip_prefix("pub ")
                    .unwrap_or(code)
                    .strip_prefix(keyword);
                let Some(declared) = declared else { continue };
                let end = declared
                    .find(|c: char| !c.is_alphanumeric())
                    .unwrap_or(declared.len());
                for (word, instead) in BANNED {
                    if declared[..end].ends_with(word) {
                        let at = number + 1;
                        violations.push(format!("{name}:{at}: {}: {instead}", &declared[..end]));
                    }
                }
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn unsafe_code_is_in_the_linux_backend_and_nothing_is_left_to_do() {
    // The words are put together here so that the test does not find itself.
    let marks: BTreeMap<String, &str> = [
        (["TO", "DO"].concat(), "finish it or file it"),
        (["FIX", "ME"].concat(), "fix it"),
        (["unsafe", " {"].concat(), "only in src/backend/linux"),
        (["todo", "!("].concat(), "finish it"),
        (["unimplemented", "!("].concat(), "finish it"),
    ]
    .into_iter()
    .collect();
    let mut violations = Vec::new();
    for (name, text) in sources(&["src", "tests", "benches"]) {
        for (number, line) in text.lines().enumerate() {
            for (mark, why) in &marks {
                if line.contains(mark.as_str()) && !name.starts_with("src/backend/linux") {
                    violations.push(format!("{name}:{}: {mark}: {why}", number + 1));
                }
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}
