//! `validate`: one judgement per document.

use super::{Folder, with_web};
use crate::scenario::validate_files;

#[test]
fn every_document_is_judged_on_its_own() {
    let folder = Folder::new(&[
        (
            "a.yaml",
            "\
apiVersion: v1
kind: ConfigMap
metadata: {name: good}
data: {a: b}
---
apiVersion: v1
kind: Secret
metadata: {name: Bad}
---
apiVersion: example.com/v1
kind: Gadget
metadata: {name: foreign}
---
apiVersion: v1
kind: List
items: [{apiVersion: v1, kind: Namespace, metadata: {name: inner}}]
",
        ),
        (
            "b.json",
            "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {}}",
        ),
        ("c.yaml", "a: [1"),
        ("s.yaml", &with_web("  seed: [1]\n")),
    ]);
    let validated = validate_files(std::slice::from_ref(&folder.0), "1.36");
    let lines: Vec<String> = (validated.objects.iter())
        .map(|object| {
            let line = validated.line(object);
            let file = line["file"]
                .as_str()
                .and_then(|file| file.rsplit('/').next());
            format!(
                "{} {} {} {} {} {}",
                file.unwrap_or_default(),
                object.kind,
                object.name,
                object.accepted,
                object.known,
                line["problems"][0]["reason"].as_str().unwrap_or("-"),
            )
        })
        .collect();
    let expected = [
        "a.yaml ConfigMap good true true -",
        "a.yaml Secret Bad false true FieldValueInvalid",
        "a.yaml Gadget foreign true false -",
        "a.yaml Namespace inner true true -",
        "b.json ConfigMap  false true FieldValueRequired",
        "c.yaml   false false NotReadable",
        "s.yaml Scenario test false true FieldValueInvalid",
        "s.yaml Deployment web true true -",
        "s.yaml Service web true true -",
    ];
    assert_eq!(lines, expected);
    assert_eq!(
        validated.foreign().into_iter().collect::<Vec<_>>(),
        [("Gadget", 1)]
    );
    assert!(!validated.passed());
}

#[test]
fn a_line_has_places_and_reasons() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: A\ndta: {}\n";
    let folder = Folder::new(&[("a.yaml", text)]);
    let validated = validate_files(&[folder.path("a.yaml")], "1.36");
    let line = validated.line(&validated.objects[0]);
    let judged = (
        line["line"].as_u64(),
        line["accepted"].as_bool(),
        line["known"].as_bool(),
    );
    assert_eq!(judged, (Some(1), Some(false), Some(true)));
    let problems = line["problems"].as_array().expect("problems");
    let problem = problems
        .iter()
        .find(|problem| problem["path"] == "metadata.name");
    let problem = problem.expect("the name is wrong");
    assert_eq!(
        (problem["line"].as_u64(), problem["column"].as_u64()),
        (Some(4), Some(9))
    );
    assert_eq!(problem["reason"], "FieldValueInvalid");
}
