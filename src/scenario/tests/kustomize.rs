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
            "patches: [{patch: '[{op: remove, path: /spec}]'}]\n",
            "must name a target: it is a JSON patch",
        ),
        (
            "configMapGenerator: [{name: a, literals: [k=1, k=2]}]\n",
            "two of its entries have the key k",
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

/// Objects, a kustomization for them, and what `kubectl kustomize` makes of a field of one.
fn check(objects: &str, cases: &[(&str, &str, &str, serde_json::Value)]) {
    for (kustomization, object, pointer, wanted) in cases {
        let folder = Folder::new(&[
            ("s.yaml", &with_web("  resources: [all]\n")),
            ("all/objects.yaml", objects),
            (
                "all/kustomization.yaml",
                &format!("resources: [objects.yaml]\n{kustomization}"),
            ),
        ]);
        let s = folder.scenario("s.yaml");
        let (kind, name) = object.split_once('/').expect("kind/name");
        let found = json_of(&s, kind, name);
        let found = found.pointer(pointer).unwrap_or(&serde_json::Value::Null);
        assert_eq!(found, wanted, "{kustomization} {object} {pointer}");
    }
}

const ALL: &str = "\
apiVersion: v1
kind: Service
metadata: {name: bare}
spec: {ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: bare
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      priorityClassName: high
      serviceAccountName: runner
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule,
         labelSelector: {matchLabels: {app: db}}}
      containers:
      - {name: c, image: 'repo/db:1@sha256:ab', envFrom: [{secretRef: {name: keys}}]}
      volumes: [{name: s, secret: {secretName: keys}}]
  volumeClaimTemplates:
  - metadata: {name: v}
    spec: {accessModes: [ReadWriteOnce], storageClassName: fast,
           resources: {requests: {storage: 1Gi}}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: all}
spec: {minAvailable: 1, selector: {}}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: runner}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: may}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: view}
subjects:
- {kind: ServiceAccount, name: runner, namespace: old}
- {kind: ServiceAccount, name: default, namespace: old}
- {kind: ServiceAccount, name: foreign, namespace: old}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: view}
rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: high}
value: 5
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: fast}
provisioner: x
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: in}
spec:
  tls: [{secretName: keys}]
  rules: [{http: {paths: [{path: /, pathType: Prefix,
           backend: {service: {name: bare, port: {number: 80}}}}]}}]
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: db}
spec: {maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: StatefulSet, name: db}}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: '0 0 * * *'
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{name: c, image: 'repo/db', env: [{name: K, valueFrom:
                        {secretKeyRef: {name: keys, key: k}}}]}]
";

#[test]
fn every_reference_follows_a_prefix() {
    use serde_json::json;
    let pod = "/spec/template/spec";
    let cases = [
        ("StatefulSet/a-db", "/spec/serviceName".to_owned(), "a-bare"),
        (
            "StatefulSet/a-db",
            format!("{pod}/priorityClassName"),
            "a-high",
        ),
        (
            "StatefulSet/a-db",
            format!("{pod}/serviceAccountName"),
            "a-runner",
        ),
        (
            "StatefulSet/a-db",
            format!("{pod}/containers/0/envFrom/0/secretRef/name"),
            "a-keys",
        ),
        (
            "StatefulSet/a-db",
            format!("{pod}/volumes/0/secret/secretName"),
            "a-keys",
        ),
        (
            "StatefulSet/a-db",
            "/spec/volumeClaimTemplates/0/spec/storageClassName".to_owned(),
            "a-fast",
        ),
        ("RoleBinding/a-may", "/roleRef/name".to_owned(), "a-view"),
        ("RoleBinding/a-may", "/subjects/0/name".to_owned(), "runner"),
        (
            "RoleBinding/a-may",
            "/subjects/2/name".to_owned(),
            "foreign",
        ),
        (
            "Ingress/a-in",
            "/spec/tls/0/secretName".to_owned(),
            "a-keys",
        ),
        (
            "Ingress/a-in",
            "/spec/rules/0/http/paths/0/backend/service/name".to_owned(),
            "a-bare",
        ),
        (
            "HorizontalPodAutoscaler/a-db",
            "/spec/scaleTargetRef/name".to_owned(),
            "a-db",
        ),
        (
            "CronJob/a-nightly",
            format!("/spec/jobTemplate{pod}/containers/0/env/0/valueFrom/secretKeyRef/name"),
            "a-keys",
        ),
    ];
    for (object, pointer, wanted) in &cases {
        check(ALL, &[("namePrefix: a-\n", object, pointer, json!(wanted))]);
    }
    // The account was sought in a namespace where none is; without one it is found.
    let found = ALL.replace("name: runner, namespace: old", "name: runner");
    let subject = ("RoleBinding/a-may", "/subjects/0/name");
    check(
        &found,
        &[("namePrefix: a-\n", subject.0, subject.1, json!("a-runner"))],
    );
}

#[test]
fn labels_reach_the_fields_that_kustomize_lists() {
    use serde_json::json;
    let common = "commonLabels: {t: x}\n";
    let plain = "labels: [{pairs: {t: x}}]\n";
    let templates = "labels: [{pairs: {t: x}, includeTemplates: true}]\n";
    let claims = "labels: [{pairs: {t: x}, includeVolumeClaimTemplates: true}]\n";
    let selectors = "labels: [{pairs: {t: x}, includeSelectors: true}]\n";
    let own = "labels: [{pairs: {t: x}, fields: [{path: spec/selector/matchLabels, \
               kind: PodDisruptionBudget, create: true}]}]\n";
    let set = "StatefulSet/db";
    let spread = "/spec/template/spec/topologySpreadConstraints/0/labelSelector/matchLabels/t";
    let claim = "/spec/volumeClaimTemplates/0/metadata/labels/t";
    let (yes, no) = (json!("x"), serde_json::Value::Null);
    check(
        ALL,
        &[
            // A Service without a selector gets one; so does kustomize's.
            (common, "Service/bare", "/spec/selector/t", yes.clone()),
            (common, set, "/spec/selector/matchLabels/t", yes.clone()),
            (common, set, spread, yes.clone()),
            (common, set, claim, yes.clone()),
            (
                common,
                "CronJob/nightly",
                "/spec/jobTemplate/metadata/labels/t",
                yes.clone(),
            ),
            // A selector that has no matchLabels is left alone.
            (
                common,
                "PodDisruptionBudget/all",
                "/spec/selector/matchLabels/t",
                no.clone(),
            ),
            (plain, set, "/metadata/labels/t", yes.clone()),
            (plain, set, "/spec/template/metadata/labels/t", no.clone()),
            (
                templates,
                set,
                "/spec/template/metadata/labels/t",
                yes.clone(),
            ),
            (templates, set, "/spec/selector/matchLabels/t", no.clone()),
            (claims, set, claim, yes.clone()),
            (selectors, set, "/spec/selector/matchLabels/t", yes.clone()),
            (selectors, set, spread, yes.clone()),
            (
                own,
                "PodDisruptionBudget/all",
                "/spec/selector/matchLabels/t",
                yes.clone(),
            ),
            (own, set, "/spec/selector/matchLabels/t", no.clone()),
        ],
    );
}

#[test]
fn a_namespace_goes_where_kustomize_puts_it() {
    use serde_json::json;
    let there = "namespace: prod\n";
    check(
        ALL,
        &[
            (
                there,
                "StatefulSet/db",
                "/metadata/namespace",
                json!("prod"),
            ),
            (
                there,
                "PriorityClass/high",
                "/metadata/namespace",
                serde_json::Value::Null,
            ),
            // An account that is among the resources, and the one called default.
            (
                there,
                "RoleBinding/may",
                "/subjects/0/namespace",
                json!("old"),
            ),
            (
                there,
                "RoleBinding/may",
                "/subjects/1/namespace",
                json!("prod"),
            ),
            (
                there,
                "RoleBinding/may",
                "/subjects/2/namespace",
                json!("old"),
            ),
        ],
    );
    let moved = ALL.replace("name: runner, namespace: old", "name: runner");
    check(
        &moved,
        &[(
            there,
            "RoleBinding/may",
            "/subjects/0/namespace",
            json!("prod"),
        )],
    );
}

#[test]
fn images_are_named_by_pattern_and_changed_in_part() {
    use serde_json::json;
    let image = "/spec/template/spec/containers/0/image";
    let cases = [
        ("{name: repo/db, newTag: '2'}", "repo/db:2"),
        ("{name: repo/db, digest: 'sha256:cd'}", "repo/db@sha256:cd"),
        (
            "{name: repo/db, newTag: '2', digest: 'sha256:cd'}",
            "repo/db:2@sha256:cd",
        ),
        ("{name: repo/db, newName: other}", "other:1@sha256:ab"),
        ("{name: 'repo/.*', tagSuffix: -slim}", "repo/db:1-slim"),
        ("{name: db, newTag: '2'}", "repo/db:1@sha256:ab"),
    ];
    for (item, wanted) in cases {
        let kustomization = format!("images: [{item}]\n");
        check(
            ALL,
            &[(&kustomization, "StatefulSet/db", image, json!(wanted))],
        );
    }
}

#[test]
fn an_overlay_finds_what_its_base_has_renamed_by_the_old_name() {
    use serde_json::json;
    for (overlay, pointer, wanted) in [
        (
            "replicas: [{name: api, count: 4}]\n",
            "/spec/replicas",
            json!(4),
        ),
        (
            "replicas: [{name: eu-api, count: 4}]\n",
            "/spec/replicas",
            json!(4),
        ),
        (
            "patches: [{target: {kind: Deployment, name: api}, patch: '{spec: {replicas: 5}}'}]\n",
            "/spec/replicas",
            json!(5),
        ),
        (
            "patches: [{path: patch.yaml}]\n",
            "/spec/replicas",
            json!(7),
        ),
        // What a patch names by its old name follows, too.
        (
            "patches: [{target: {kind: Deployment}, patch: '{spec: {template: {spec: {volumes: \
             [{name: v, secret: {secretName: fixed}}]}}}}'}]\n",
            "/spec/template/spec/volumes/0/secret/secretName",
            json!("eu-fixed"),
        ),
        // The old word for JSON patches comes after names and labels.
        (
            "commonLabels: {t: x}\npatchesJson6902: [{target: {kind: Deployment, name: api, \
             group: apps, version: v1}, patch: '[{op: replace, path: /metadata/labels/t, \
             value: z}]'}]\n",
            "/metadata/labels/t",
            json!("z"),
        ),
        (
            "commonAnnotations: {a: b}\n",
            "/metadata/annotations",
            json!({"a": "b"}),
        ),
        (
            "patches: [{target: {kind: Deployment}, patch: '[{op: add, path: \
             /metadata/annotations, value: {c: d}}]'}]\nreplicas: [{name: api, count: 4}]\n",
            "/metadata/annotations",
            json!({"c": "d"}),
        ),
    ] {
        let folder = self::overlay(overlay);
        let base = "resources: [api.yaml]\nnamePrefix: eu-\n";
        std::fs::write(folder.path("base/kustomization.yaml"), base).expect("a file");
        let s = folder.scenario("s.yaml");
        let api = json_of(&s, "Deployment", "eu-api");
        assert_eq!(api.pointer(pointer), Some(&wanted), "{overlay}");
    }
}

#[test]
fn a_generator_of_an_overlay_merges_into_that_of_its_base() {
    let folder = overlay(
        "configMapGenerator: [{name: settings, behavior: merge, literals: [B=2], \
         options: {labels: {l: m}}}]\n",
    );
    let base = "resources: [api.yaml]\nnamePrefix: eu-\n\
                configMapGenerator: [{name: settings, literals: [A=1, B=1]}]\n";
    std::fs::write(folder.path("base/kustomization.yaml"), base).expect("a file");
    let s = folder.scenario("s.yaml");
    let api = json_of(&s, "Deployment", "eu-api");
    let name = &api["spec"]["template"]["spec"]["containers"][0]["envFrom"][0]["configMapRef"];
    let name = name["name"].as_str().expect("a name").to_owned();
    assert!(name.starts_with("eu-settings-"), "{name}");
    let settings = json_of(&s, "ConfigMap", &name);
    assert_eq!(settings["data"], serde_json::json!({"A": "1", "B": "2"}));
    assert_eq!(settings["metadata"]["labels"]["l"], "m");
}

#[test]
fn a_patch_renames_only_where_it_is_allowed_to() {
    for (options, name) in [("", "api"), (", options: {allowNameChange: true}", "other")] {
        let folder = overlay(&format!(
            "patches: [{{target: {{kind: Deployment}}, patch: '{{metadata: {{name: other}}}}'\
             {options}}}]\n"
        ));
        let s = folder.scenario("s.yaml");
        assert_eq!(json_of(&s, "Deployment", name)["metadata"]["name"], name);
    }
}

#[test]
fn a_refused_word_has_its_place() {
    let folder = overlay("replacements: [{source: {kind: Pod}}]\n");
    let text = folder
        .load("s.yaml", &LoadOptions::default())
        .expect_err("refused");
    assert!(text.contains("overlay/kustomization.yaml:2:15"), "{text}");
    assert!(
        text.contains("this word of kustomize is not supported"),
        "{text}"
    );
}
