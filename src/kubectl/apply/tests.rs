//! Manifests applied one after the other, with what others do in between.

use super::*;
use crate::api::decode::{DecodeContext, as_written, decode};
use crate::api::yaml::{FileId, Limits, parse_document};
use crate::client::Outbox;
use crate::engine::{Draws, Time};
use crate::kubectl::{Run, parse};
use crate::store::{Cause, Store};

/// An API server with a kubectl before it.
struct Shell {
    store: Store,
}

impl Shell {
    fn new() -> Shell {
        Shell {
            store: Store::new(Draws::new(1)),
        }
    }

    /// Runs a line to its end, every write answered at once; kubectl's output.
    fn run(&mut self, line: &str, manifests: &[&str]) -> String {
        let verb = parse(line, "default").expect("a good line");
        let objects = manifests.iter().map(|text| {
            let node = parse_document(FileId(0), text.as_bytes(), &Limits::default());
            let node = node.expect("YAML");
            let row = decode(&node, &DecodeContext::default())
                .expect("a good object")
                .row;
            let written = as_written(&node, &row);
            (row, Arc::new(written))
        });
        let mut run = Run::new(verb, objects.collect(), Cause::default(), None, Time::ZERO);
        let mut out = Outbox::default();
        run.poll(self.store.view(), Time::ZERO, &mut out);
        while let Some(send) = out.sends.pop() {
            let reply = self.store.write(&send.write, Time::ZERO, Cause::default());
            run.on_reply(send.token, &reply, self.store.view(), Time::ZERO, &mut out);
        }
        match run.result().expect("kubectl ends") {
            Ok(said) | Err(said) => said,
        }
    }

    /// The object of this kind and name.
    fn get(&self, kind: crate::api::Kind, name: &str) -> Value {
        let found = self.store.view().lookup(kind, "default", name);
        let found = found.or_else(|| self.store.view().lookup(kind, "", name));
        to_json(
            &self
                .store
                .view()
                .row(found.expect("it is there"))
                .expect("a row"),
        )
    }
}

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web, tier: front}}
spec:
  replicas: 3
  minReadySeconds: 5
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: 'web:1', env: [{name: A, value: <1>}, {name: B, value: '2'}]}
";

#[test]
fn an_apply_deletes_what_left_the_manifest_and_keeps_what_others_set() {
    use crate::api::Kind::Deployment;
    let mut shell = Shell::new();
    assert_eq!(
        shell.run("apply -f x", &[WEB]),
        "deployment.apps/web created"
    );
    assert_eq!(
        shell.run("apply -f x", &[WEB]),
        "deployment.apps/web unchanged"
    );
    shell.run("label deployment/web owner=me", &[]);
    shell.run("scale deployment/web --replicas=7", &[]);
    // The same manifest again takes the replicas back, not the label.
    assert_eq!(
        shell.run("apply -f x", &[WEB]),
        "deployment.apps/web configured"
    );
    let web = shell.get(Deployment, "web");
    assert_eq!(web["spec"]["replicas"], 3);
    assert_eq!(web["metadata"]["labels"]["owner"], "me");
    // Replicas, minReadySeconds, a label and a variable leave the manifest.
    shell.run("scale deployment/web --replicas=7", &[]);
    let next = WEB
        .replace(", tier: front", "")
        .replace("  replicas: 3\n  minReadySeconds: 5\n", "")
        .replace(", {name: B, value: '2'}", "");
    assert_eq!(
        shell.run("apply -f x", &[&next]),
        "deployment.apps/web configured"
    );
    let web = shell.get(Deployment, "web");
    assert_eq!(web["spec"]["replicas"], 1, "deleted, so defaulted");
    assert_eq!(web["spec"].get("minReadySeconds"), None);
    assert_eq!(
        web["metadata"]["labels"],
        json!({"app": "web", "owner": "me"})
    );
    let env = &web["spec"]["template"]["spec"]["containers"][0]["env"];
    assert_eq!(*env, json!([{"name": "A", "value": "<1>"}]));
}

#[test]
fn a_manifest_that_never_said_replicas_leaves_them_to_others() {
    let mut shell = Shell::new();
    let silent = WEB.replace("  replicas: 3\n", "");
    shell.run("apply -f x", &[&silent]);
    shell.run("scale deployment/web --replicas=7", &[]);
    let next = silent.replace("web:1", "web:2");
    assert_eq!(
        shell.run("apply -f x", &[&next]),
        "deployment.apps/web configured"
    );
    let web = shell.get(crate::api::Kind::Deployment, "web");
    assert_eq!(web["spec"]["replicas"], 7);
    assert_eq!(
        web["spec"]["template"]["spec"]["containers"][0]["image"],
        "web:2"
    );
}

#[test]
fn the_manifest_is_kept_as_it_was_written() {
    let mut shell = Shell::new();
    let map = "{kind: ConfigMap, apiVersion: v1, metadata: {name: m}, data: {b: <&>, a: '1'}}";
    shell.run("apply -f x", &[map]);
    let kept = &shell.get(crate::api::Kind::ConfigMap, "m")["metadata"]["annotations"];
    assert_eq!(
        kept[LAST_APPLIED],
        "{\"apiVersion\":\"v1\",\"data\":{\"a\":\"1\",\"b\":\"\\u003c\\u0026\\u003e\"},\
         \"kind\":\"ConfigMap\",\"metadata\":{\"annotations\":{},\"name\":\"m\",\
         \"namespace\":\"default\"}}\n"
    );
}

#[test]
fn an_object_that_was_never_applied_is_patched_with_a_warning() {
    let mut shell = Shell::new();
    let map = "{kind: ConfigMap, apiVersion: v1, metadata: {name: m}, data: {a: '1'}}";
    shell.run("apply -f x", &[map]);
    shell.run(&format!("annotate configmap/m {LAST_APPLIED}-"), &[]);
    let next = map.replace("a: '1'", "b: '2'");
    let said = shell.run("apply -f x", &[&next]);
    assert!(
        said.starts_with("Warning: resource configmaps/m is missing the kubectl.kubernetes.io/"),
        "{said}"
    );
    assert!(said.ends_with("\nconfigmap/m configured"), "{said}");
    let data = &shell.get(crate::api::Kind::ConfigMap, "m")["data"];
    assert_eq!(
        *data,
        json!({"a": "1", "b": "2"}),
        "nothing says that a is ours"
    );
}

#[test]
fn bytes_and_text_of_a_config_map_stay_apart() {
    let mut shell = Shell::new();
    let map = "{kind: ConfigMap, apiVersion: v1, metadata: {name: m}, data: {a: '1'}, \
               binaryData: {b: AAE=}}";
    shell.run("apply -f x", &[map]);
    assert_eq!(shell.run("apply -f x", &[map]), "configmap/m unchanged");
    assert_eq!(
        shell.get(crate::api::Kind::ConfigMap, "m")["binaryData"],
        json!({"b": "AAE="})
    );
}

#[test]
fn a_custom_resource_is_merged_and_refuses_strategic_patches() {
    let mut shell = Shell::new();
    let shop = "{kind: Shop, apiVersion: example.com/v1, metadata: {name: s}, spec: {a: 1, b: 2}}";
    assert_eq!(
        shell.run("apply -f x", &[shop]),
        "shop.example.com/s created"
    );
    assert_eq!(
        shell.run("apply -f x", &[shop]),
        "shop.example.com/s unchanged"
    );
    let said = shell.run("patch shop/s --type=merge -p '{spec: {c: 3}}'", &[]);
    assert_eq!(said, "shop.example.com/s patched");
    let next = shop.replace(", b: 2", "");
    assert_eq!(
        shell.run("apply -f x", &[&next]),
        "shop.example.com/s configured"
    );
    assert_eq!(
        shell.get(crate::api::Kind::Inert, "Shop/s")["spec"],
        json!({"a": 1, "c": 3})
    );
    let said = shell.run("patch shop/s -p '{spec: {c: 3}}'", &[]);
    assert!(
        said.starts_with("Error from server (UnsupportedMediaType): the body of the request"),
        "{said}"
    );
}

#[test]
fn an_error_of_one_object_does_not_keep_the_others_from_being_applied() {
    let mut shell = Shell::new();
    shell.run("apply -f x", &[WEB]);
    let other = WEB
        .replace("app: web}}", "app: other}}")
        .replace("tier", "level");
    let map = "{kind: ConfigMap, apiVersion: v1, metadata: {name: m}}";
    assert_eq!(
        shell.run("apply -f x", &[&other, map]),
        "configmap/m created\nThe Deployment \"web\" is invalid: spec.selector: Invalid value: \
         {\"matchLabels\":{\"app\":\"other\"}}: field is immutable"
    );
    // A change that would not be valid says each cause.
    let said = shell.run(
        "patch deploy/web -p '{spec: {replicas: -1, minReadySeconds: -1}}'",
        &[],
    );
    assert_eq!(
        said,
        "The Deployment \"web\" is invalid:\n* spec.replicas: Invalid value: -1: must be greater \
         than or equal to 0\n* spec.minReadySeconds: Invalid value: -1: must be greater than or \
         equal to 0"
    );
    let said = shell.run("patch deploy/web -p '{spec: {replicas: 3}}'", &[]);
    assert_eq!(said, "deployment.apps/web patched (no change)");
}

#[test]
fn server_side_apply_is_refused_by_name() {
    let error = parse("apply -f x --server-side", "default").expect_err("refused");
    assert_eq!(error.message, "--server-side is not modelled");
}

#[test]
fn kinds_that_the_model_does_not_act_on_take_every_verb() {
    let rbac = "apiVersion: rbac.authorization.k8s.io/v1";
    let rules = "rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]";
    let net = "networking.k8s.io/v1";
    let crd = "apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: \
               {name: shops.example.com}, spec: {group: example.com, scope: Namespaced, names: \
               {kind: Shop, plural: shops, singular: shop, shortNames: [sh]}, versions: \
               [{name: v1, served: true, storage: true}]}";
    let cases = [
        (
            "apiVersion: v1, kind: ServiceAccount",
            "serviceaccount",
            "sa/a",
            "serviceaccounts",
        ),
        (
            &format!("{rbac}, kind: Role, {rules}"),
            "role.rbac.authorization.k8s.io",
            "role/a",
            "roles.rbac.authorization.k8s.io",
        ),
        (
            &format!("{rbac}, kind: ClusterRole, {rules}"),
            "clusterrole.rbac.authorization.k8s.io",
            "clusterroles.rbac.authorization.k8s.io/a",
            "clusterroles.rbac.authorization.k8s.io",
        ),
        (
            &format!(
                "apiVersion: {net}, kind: Ingress, spec: {{defaultBackend: {{service: {{name: \
                      s, port: {{number: 80}}}}}}}}"
            ),
            "ingress.networking.k8s.io",
            "ing/a",
            "ingresses.networking.k8s.io",
        ),
        (
            &format!("apiVersion: {net}, kind: NetworkPolicy, spec: {{podSelector: {{}}}}"),
            "networkpolicy.networking.k8s.io",
            "netpol/a",
            "networkpolicies.networking.k8s.io",
        ),
        (
            "apiVersion: example.com/v1, kind: Shop",
            "shop.example.com",
            "sh/a",
            "sh",
        ),
    ];
    let mut shell = Shell::new();
    shell.run("apply -f x", &[&format!("{{{crd}}}")]);
    for (head, name, word, plural) in cases {
        let with =
            |labels: &str| format!("{{{head}, metadata: {{name: a, labels: {{{labels}}}}}}}");
        let patch = format!("patch {word} --type=merge -p '{{metadata: {{labels: {{q: z}}}}}}'");
        for (line, manifest, wanted) in [
            ("apply -f x", with("x: one"), format!("{name}/a created")),
            ("apply -f x", with("x: one"), format!("{name}/a unchanged")),
            (
                &format!("label {word} o=p"),
                String::new(),
                format!("{name}/a labeled"),
            ),
            (
                &format!("annotate {word} o=p"),
                String::new(),
                format!("{name}/a annotated"),
            ),
            (&patch, String::new(), format!("{name}/a patched")),
            ("apply -f x", with(""), format!("{name}/a configured")),
        ] {
            let manifests: Vec<&str> = match manifest.is_empty() {
                true => Vec::new(),
                false => vec![&manifest],
            };
            assert_eq!(shell.run(line, &manifests), wanted, "{line}");
        }
        let kind = name.split('.').next().unwrap_or_default();
        let rows = shell.store.view().rows(crate::api::Kind::Inert);
        let found = rows.iter().find(|(_, row)| match row {
            Row::Inert(inert) => inert.kind.eq_ignore_ascii_case(kind),
            _ => false,
        });
        let labels = to_json(&found.expect("it is there").1)["metadata"]["labels"].take();
        assert_eq!(
            labels,
            json!({"o": "p", "q": "z"}),
            "what was applied has left"
        );
        let said = shell.run(&format!("delete {word}"), &[]);
        assert_eq!(said, format!("{name} \"a\" deleted"));
        assert_eq!(
            shell.run(&format!("delete {word}"), &[]),
            format!("Error from server (NotFound): {plural} \"a\" not found")
        );
    }
    assert_eq!(
        shell.run("label crd/shops.example.com a=b", &[]),
        "customresourcedefinition.apiextensions.k8s.io/shops.example.com labeled"
    );
}

#[test]
fn what_is_not_modelled_of_pods_is_refused_by_name() {
    let message = |line: &str| {
        let error = parse(line, "default").expect_err("refused");
        assert!(error.hint.is_some(), "what to do instead of {line}");
        error.message
    };
    assert_eq!(
        message("patch pod/web --subresource=resize -p '{spec: {}}'"),
        "in-place resize of pods is not modelled"
    );
    assert_eq!(
        message("patch pod web --subresource ephemeralcontainers -p '{spec: {}}'"),
        "ephemeral containers are not modelled"
    );
    assert_eq!(
        message("debug pod/web --image=busybox"),
        "ephemeral containers (kubectl debug) are not modelled"
    );
}

#[test]
fn files_are_created_replaced_and_deleted() {
    let mut shell = Shell::new();
    let missing = "Error from server (NotFound): deployments.apps \"web\" not found";
    assert_eq!(shell.run("replace -f web.yaml", &[WEB]), missing);
    let create = "create -f web.yaml";
    assert_eq!(shell.run(create, &[WEB]), "deployment.apps/web created");
    assert_eq!(
        shell.run(create, &[WEB]),
        "Error from server (AlreadyExists): deployments.apps \"web\" already exists"
    );
    let deployment = crate::api::Kind::Deployment;
    let made = shell.get(deployment, "web");
    assert!(made["metadata"]["annotations"][LAST_APPLIED].is_null());
    // What left the file goes, also without a manifest kept from before.
    let fewer = WEB.replace("  minReadySeconds: 5\n", "");
    let fewer = fewer.replace("replicas: 3", "replicas: 1");
    let said = shell.run("replace -f web.yaml", &[&fewer]);
    assert_eq!(said, "deployment.apps/web replaced");
    let replaced = shell.get(deployment, "web");
    assert_eq!(replaced["spec"]["replicas"], 1);
    assert!(replaced["spec"]["minReadySeconds"].is_null());
    assert_eq!(replaced["metadata"]["uid"], made["metadata"]["uid"]);
    let delete = "delete -f web.yaml --wait=false";
    assert_eq!(shell.run(delete, &[WEB]), "deployment.apps \"web\" deleted");
    assert_eq!(shell.run(delete, &[WEB]), missing);
    let quiet = "delete -f web.yaml --ignore-not-found";
    assert_eq!(shell.run(quiet, &[WEB]), "");
    for (line, message) in [
        (
            "create deployment web --image=web:1",
            "kubectl create deployment is not modelled",
        ),
        ("create", "must specify one of -f and -k"),
        (
            "delete deploy web -f web.yaml",
            "when paths, URLs, or stdin is provided as input, you may not specify resource \
             arguments as well",
        ),
    ] {
        assert_eq!(parse(line, "default").expect_err(line).message, message);
    }
}

#[test]
fn an_update_says_at_once_what_is_invalid_and_what_may_not_change() {
    let mut shell = Shell::new();
    shell.run("apply -f web.yaml", &[WEB]);
    let selector = "{replicas: -1, selector: {matchLabels: {app: x}}}";
    let line = format!("patch deploy/web --type merge -p '{{spec: {selector}}}'");
    assert_eq!(
        shell.run(&line, &[]),
        "The Deployment \"web\" is invalid:\n\
         * spec.replicas: Invalid value: -1: must be greater than or equal to 0\n\
         * spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: \
         `selector` does not match template `labels`\n\
         * spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"x\"}}: field is immutable"
    );
}
