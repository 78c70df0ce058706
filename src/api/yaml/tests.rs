//! What the reader as a whole promises, as tables of text.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;

use super::*;

fn parse(text: &str) -> Result<Vec<Node>, YamlError> {
    parse_documents(FileId(0), text.as_bytes(), &Limits::default())
}

/// Compares the documents, as JSON joined by `;`, or the error as printed.
fn check(text: &str, expected: &str) {
    let got = match parse(text) {
        Ok(nodes) => nodes
            .iter()
            .map(|node| node.to_json().to_string())
            .collect::<Vec<_>>()
            .join(";"),
        Err(error) => format!("error {error}"),
    };
    assert_eq!(got, expected, "{text}");
}

#[test]
fn documents_are_cut_at_separators_and_empty_ones_skipped() {
    check("", "");
    check("# only a comment\n", "");
    check("---\n---\n# c\n---\na: 1\n---\n", r#"{"a":1}"#);
    check("a: 1\n--- # next\nb: 2", r#"{"a":1};{"b":2}"#);
    check("a: 1\r\n---\r\nb: 2\r\n", r#"{"a":1};{"b":2}"#);
    check("\u{feff}a: 1", r#"{"a":1}"#);
    check("a: |\n  x\n  y", r#"{"a":"x\ny\n"}"#);
    check(
        "{\"a\":1}\n{\"b\":\"\\/\"} {\"c\":1.0}",
        r#"{"a":1};{"b":"/"};{"c":1.0}"#,
    );
    check("{\"a\":1}\n---\nb: 2", r#"{"a":1};{"b":2}"#);
    check("{a: b}", r#"{"a":"b"}"#);
    check("~\n---\na: 1", r#"{"a":1}"#);
}

#[test]
fn every_value_knows_its_place() {
    let nodes = parse("# c\na:\n  b: [x, {c: 1}]\n---\nd: 2\n").expect("valid");
    for (node, path, line, column) in [
        (0, "", 2, 1),
        (0, "a", 3, 3),
        (0, "a.b", 3, 6),
        (0, "a.b[0]", 3, 7),
        (0, "a.?.b.1.c", 3, 14),
        (1, "d", 5, 4),
    ] {
        let found = nodes[node].at(path).map(|node| node.span);
        assert_eq!(found, Some(Span::new(FileId(0), line, column)), "{path}");
    }
}

#[test]
fn unknown_fields_are_returned_with_place_and_suggestion() {
    let text =
        "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: a\n    imagePulPolicy: x\n";
    let nodes = parse(text).expect("valid");
    let (pod, unknown) = decode::<Pod>(&nodes[0]).expect("decodes");
    assert_eq!(pod.spec.expect("spec").containers[0].name, "a");
    assert_eq!(unknown.len(), 1);
    assert_eq!(unknown[0].path, "spec.containers[0].imagePulPolicy");
    assert_eq!(unknown[0].span, Span::new(FileId(0), 6, 5));
    assert_eq!(unknown[0].suggestion.as_deref(), Some("imagePullPolicy"));
}

#[test]
fn a_wrong_value_is_named_by_place_and_path() {
    for (text, expected) in [
        (
            "spec:\n  replicas: many\n",
            "2:13: spec.replicas: invalid type: string \"many\", expected i32",
        ),
        (
            "metadata:\n  labels: {a: yes}\n",
            "2:15: metadata.labels.a: invalid type: boolean `true`, expected a string \
             (yes, no, on, off, y, n are booleans: quote them)",
        ),
        (
            "apiVersion: v1\nkind: Deployment\n",
            "1:13: apiVersion: invalid value: string \"v1\", expected apps/v1",
        ),
        (
            "metadata: []\n",
            "1:11: metadata: invalid type: sequence, expected ObjectMeta",
        ),
    ] {
        let nodes = parse(text).expect("valid");
        let error = decode::<Deployment>(&nodes[0]).expect_err("does not decode");
        assert_eq!(error.to_string(), expected);
    }
}
