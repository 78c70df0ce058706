//! Kustomizations, each beside what `kubectl kustomize` makes of it.

use super::{Folder, json_of, with_web};
use crate::scenario::LoadOptions;

const BASE: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: api}
spec:
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      containers:
      - name: main
        image: registry.example:5000/api:1
        envFrom: [{configMapRef: {name: settings}}]
        env: [{name: X, valueFrom: {secretKeyRef: {name: fixed, key: k}}}]
---
apiVersion: v1
kind: Secret
metadata: {name: fixed}
stringData: {k: v}
";

fn overlay(kustomization: &str) -> Folder {
    Folder::new(&[
        ("s.yaml", &with_web("  resources: [overlay]\n")),
        ("base/kustomization.yaml", "resources: [api.yaml]\n"),
        ("base/api.yaml", BASE),
        (
            "overlay/kustomization.yaml",
            &format!("resources: [../base]\n{kustomization}"),
        ),
        (
            "overlay/patch.yaml",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: api}\nspec: {replicas: 7}\n",
        ),
    ])
}

#[test]
fn names_labels_and_images_change_with_all_that_refers_to_them() {
    let folder = overlay(
        "namePrefix: eu-
nameSuffix: -one
namespace: prod
commonLabels: {team: a}
commonAnnotations: {note: b}
images: [{name: 'registry.example:5000/api', newTag: '2'}]
replicas: [{name: eu-api-one, count: 4}]
",
    );
    let s = folder.scenario("s.yaml");
    let api = json_of(&s, "Deployment", "eu-api-one");
    assert_eq!(api["metadata"]["namespace"], "prod");
    assert_eq!(api["spec"]["replicas"], 4);
    assert_eq!(api["spec"]["selector"]["matchLabels"]["team"], "a");
    let template = &api["spec"]["template"];
    assert_eq!(template["metadata"]["labels"]["team"], "a");
    assert_eq!(template["metadata"]["annotations"]["note"], "b");
    let container = &template["spec"]["containers"][0];
    assert_eq!(container["image"], "registry.example:5000/api:2");
    let secret = &container["env"][0]["valueFrom"]["secretKeyRef"];
    assert_eq!(secret["name"], "eu-fixed-one");
    // Nobody renamed this one: it is not among the resources.
    assert_eq!(container["envFrom"][0]["configMapRef"]["name"], "settings");
}

#[test]
fn a_generated_object_has_its_hash_and_is_referred_to_by_it() {
    let folder = overlay("configMapGenerator: [{name: settings, literals: [A=1, 'B=\"two\"']}]\n");
    let s = folder.scenario("s.yaml");
    let api = json_of(&s, "Deployment", "api");
    let container = &api["spec"]["template"]["spec"]["containers"][0];
    let name = container["envFrom"][0]["configMapRef"]["name"]
        .as_str()
        .expect("a name");
    let hash = name.strip_prefix("settings-").expect("a hash");
    assert!(
        hash.len() == 10 && hash.bytes().all(|b| b.is_ascii_alphanumeric()),
        "{name}"
    );
    let settings = json_of(&s, "ConfigMap", name);
    assert_eq!(settings["data"], serde_json::json!({"A": "1", "B": "two"}));
    assert!(settings["metadata"]["annotations"].is_null());
}

#[test]
fn patches_apply_by_file_by_text_and_by_operation() {
    for (kustomization, replicas) in [
        ("patchesStrategicMerge: [patch.yaml]\n", 7),
        ("patches: [{path: patch.yaml}]\n", 7),
        (
            "patches:
- target: {kind: Deploy.*}
  patch: '[{op: add, path: /spec/replicas, value: 3}]'
",
            3,
        ),
        (
            "patchesJson6902:
- target: {kind: Deployment, name: api, group: apps, version: v1}
  patch: '[{op: add, path: /spec/replicas, value: 5}]'
",
            5,
        ),
    ] {
        let s = overlay(kustomization).scenario("s.yaml");
        assert_eq!(
            json_of(&s, "Deployment", "api")["spec"]["replicas"],
            replicas,
            "{kustomization}"
        );
    }
}

#[test]
fn what_kustomize_can_and_this_cannot_is_refused_by_name() {
    for (kustomization, expected) in [
        (
            "replacements: []\nvars: [{name: a}]\n",
            "vars: this word of kustomize is not supported",
        ),
        ("resource: [a]\n", "did you mean \"resources\"?"),
        (
            "patches: [{target: {kind: Job}, patch: '{}'}]\n",
            "matches no Job",
        ),
        (
            "components: [../base/api.yaml]\n",
            "is not a folder with a kustomization file",
        ),
        ("bases: [../overlay]\n", "includes itself"),
        (
            "bases: ['https://example.com/x']\n",
            "nothing is downloaded",
        ),
    ] {
        let folder = overlay(kustomization);
        let text = folder
            .load("s.yaml", &LoadOptions::default())
            .expect_err(kustomization);
        assert!(text.contains(expected), "{kustomization}\n{text}");
    }
}

#[test]
fn a_folder_is_read_with_what_is_below_it_and_patches_are_passed_over() {
    let folder = overlay("patches: [{path: patch.yaml}]\n");
    // The folder above both has no kustomization: all objects of all files, once.
    std::fs::write(folder.path("t.yaml"), with_web("  resources: ['.']\n")).expect("a file");
    std::fs::remove_file(folder.path("s.yaml")).expect("it was there");
    let s = folder.scenario("t.yaml");
    assert_eq!(json_of(&s, "Deployment", "api")["spec"]["replicas"], 1);
}
