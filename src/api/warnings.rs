//! What the API server says besides an answer: its `Warning` headers, which kubectl prints.
//!
//! `pkg/api/{pod,service,job,node,persistentvolume,persistentvolumeclaim,storage} :: GetWarningsFor…`
//! and `WarningsOnCreate` of the registries. A warning refuses nothing: it says that a field is
//! deprecated, or that it does not do what its author will expect.
//!
//! It reads defaulted JSON, since most of these fields mean nothing to a simulation.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::quota::Amount;
use super::validate::names::{dns_label, label_value};

mod addresses;
mod paths;
mod update;

#[cfg(test)]
mod tests;

pub use update::on_update;

/// The warnings about a new object, in the server's words and order.
pub fn of(object: &Value) -> Vec<String> {
    let mut warnings = Warnings(Vec::new());
    warnings.object(object);
    warnings.0
}

/// What a line is about, when it begins with a field: (path, message).
pub fn located(line: &str) -> (&str, &str) {
    match line.split_once(": ") {
        Some((path, message)) if path.starts_with("spec") || path.starts_with("metadata") => {
            (path, message)
        }
        _ => ("", line),
    }
}

struct Warnings(Vec<String>);

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = (usize, &'a Value)> {
    value[field].as_array().into_iter().flatten().enumerate()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// `GetNodeLabelDeprecatedMessage`.
fn old_node_label(key: &str) -> Option<&'static str> {
    Some(match key {
        "beta.kubernetes.io/arch" => "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        "beta.kubernetes.io/os" => "deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "failure-domain.beta.kubernetes.io/region" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        }
        "beta.kubernetes.io/instance-type" => {
            "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"
        }
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => {
            "deprecated since v1.22; use Taints and Tolerations instead"
        }
        "node-role.kubernetes.io/master" => "use \"node-role.kubernetes.io/control-plane\" instead",
        _ => return None,
    })
}

/// Volumes of plugins that are gone, in upstream's order.
const OLD_VOLUMES: [(&str, &str); 10] = [
    (
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    (
        "gitRepo",
        "deprecated in v1.11, and disabled by default in v1.33+",
    ),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("ephemeral", ""),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// `spec`, `spec.template.spec` … as fields print.
fn join(path: &str, field: &str) -> String {
    if path.is_empty() {
        field.to_owned()
    } else {
        format!("{path}.{field}")
    }
}

impl Warnings {
    fn say(&mut self, path: &str, message: impl std::fmt::Display) {
        self.0.push(format!("{path}: {message}"));
    }

    fn object(&mut self, object: &Value) {
        let spec = &object["spec"];
        let kind = text(object, "kind");
        let workloads = [
            "Deployment",
            "ReplicaSet",
            "ReplicationController",
            "Job",
            "CronJob",
        ];
        let name = text(&object["metadata"], "name");
        let wrong = if name.is_empty() {
            Vec::new()
        } else {
            dns_label(name)
        };
        let recommended = "which can result in surprising behavior; a DNS label is recommended";
        if !wrong.is_empty() && (workloads.contains(&kind) || kind == "Pod") {
            let used = match kind {
                "Pod" => "this is used in the Pod's hostname",
                _ => "this is used in Pod names and hostnames",
            };
            let wrong = wrong.join(" ");
            self.say("metadata.name", format!("{used}, {recommended}: [{wrong}]"));
        }
        self.addresses(kind, object);
        match kind {
            "Pod" => self.pod("", object),
            "Deployment" | "ReplicaSet" | "ReplicationController" | "DaemonSet" => {
                self.pod("spec.template", &spec["template"]);
            }
            "StatefulSet" => self.stateful_set(spec),
            "Job" => self.job("spec", spec),
            "CronJob" => self.job("spec.jobTemplate.spec", &spec["jobTemplate"]["spec"]),
            "Service" => self.service(object),
            "PersistentVolume" => self.volume(object),
            "PersistentVolumeClaim" => self.claim(object),
            "StorageClass" => self.storage_class(object),
            "Ingress" => {
                let key = "kubernetes.io/ingress.class";
                if object["metadata"]["annotations"].get(key).is_some() {
                    self.0.push(format!(
                        "annotation \"{key}\" is deprecated, please use 'spec.ingressClassName' \
                         instead"
                    ));
                }
            }
            _ => {}
        }
    }

    fn stateful_set(&mut self, spec: &Value) {
        self.pod("spec.template", &spec["template"]);
        for (at, claim) in list(spec, "volumeClaimTemplates") {
            self.claim_spec(&format!("spec.volumeClaimTemplates[{at}]"), &claim["spec"]);
        }
        if spec["revisionHistoryLimit"].as_i64().is_some_and(|n| n < 0) {
            let message = "a negative value retains all historical revisions; a value >= 0 is \
                           recommended";
            self.say("spec.revisionHistoryLimit", message);
        }
    }

    /// `WarningsForJobSpec`.
    fn job(&mut self, path: &str, spec: &Value) {
        let above = |field: &str, limit: i64| spec[field].as_i64().is_some_and(|n| n > limit);
        let indexed = spec["completionMode"] == "Indexed";
        if indexed && above("completions", 100_000) && above("parallelism", 10_000) {
            let message = "In Indexed Jobs with a number of completions higher than 10^5 and a \
                           parallelism higher than 10^4, Kubernetes might not be able to track \
                           completedIndexes when a big number of indexes fail";
            self.say(path, message);
        }
        self.pod(&join(path, "template"), &spec["template"]);
    }

    /// `GetWarningsForService`.
    fn service(&mut self, object: &Value) {
        let (spec, annotations) = (&object["spec"], &object["metadata"]["annotations"]);
        let old = "service.kubernetes.io/topology-aware-hints";
        if annotations.get(old).is_some() {
            self.0.push(format!(
                "annotation {old} is deprecated, please use service.kubernetes.io/topology-mode \
                 instead"
            ));
        }
        let named = text(spec, "type") == "ExternalName";
        let headless = text(spec, "type") == "ClusterIP" && text(spec, "clusterIP") == "None";
        let external = list(spec, "externalIPs").next().is_some();
        if headless {
            let ignored = [
                ("loadBalancerIP", !text(spec, "loadBalancerIP").is_empty()),
                ("externalIPs", external),
                ("SessionAffinity", text(spec, "sessionAffinity") != "None"),
            ];
            for (field, _) in ignored.iter().filter(|(_, set)| *set) {
                self.0
                    .push(format!("spec.{field} is ignored for headless services"));
            }
        }
        if external && !headless && !named {
            self.0.push(
                "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
                    .into(),
            );
        }
        if named && external {
            let line = "spec.externalIPs is ignored when spec.type is \"ExternalName\"";
            self.0.push(line.into());
        }
        if !named && !text(spec, "externalName").is_empty() {
            let line = "spec.externalName is ignored when spec.type is not \"ExternalName\"";
            self.0.push(line.into());
        }
        if text(spec, "trafficDistribution") == "PreferClose" {
            let message = "\"PreferClose\" is deprecated; use \"PreferSameZone\"";
            self.say("spec.trafficDistribution", message);
        }
    }

    /// `GetWarningsForPersistentVolume`.
    fn volume(&mut self, object: &Value) {
        let (spec, annotations) = (&object["spec"], &object["metadata"]["annotations"]);
        let old = [
            (
                "volume.beta.kubernetes.io/storage-class",
                "deprecated since v1.8; use \"storageClassName\" attribute instead",
            ),
            (
                "volume.beta.kubernetes.io/mount-options",
                "deprecated since v1.31; use \"mountOptions\" attribute instead",
            ),
        ];
        for (key, message) in old {
            if annotations.get(key).is_some() {
                self.say(&format!("metadata.annotations[{key}]"), message);
            }
        }
        if spec["persistentVolumeReclaimPolicy"] == "Recycle" {
            let message = "The Recycle reclaim policy is deprecated. Instead, the recommended \
                           approach is to use dynamic provisioning.";
            self.say("spec.persistentVolumeReclaimPolicy", message);
        }
        let required = &spec["nodeAffinity"]["required"];
        let path = "spec.nodeAffinity.required.nodeSelectorTerms";
        for (at, term) in list(required, "nodeSelectorTerms") {
            self.node_term(&format!("{path}[{at}]"), term, false);
        }
        let order = [
            "cephfs",
            "photonPersistentDisk",
            "scaleIO",
            "storageos",
            "glusterfs",
            "rbd",
        ];
        for field in order.iter().filter(|field| !spec[**field].is_null()) {
            let message = OLD_VOLUMES.iter().find(|(name, _)| name == field);
            let shown = if *field == "storageos" {
                "storageOS"
            } else {
                field
            };
            let message = message.map_or("", |(_, message)| message);
            self.say(&format!("spec.{shown}"), message);
        }
    }

    /// `GetWarningsForPersistentVolumeClaim`.
    fn claim(&mut self, object: &Value) {
        let key = "volume.beta.kubernetes.io/storage-class";
        if object["metadata"]["annotations"].get(key).is_some() {
            let message = "deprecated since v1.8; use \"storageClassName\" attribute instead";
            self.say(&format!("metadata.annotations[{key}]"), message);
        }
        self.claim_spec("spec", &object["spec"]);
    }

    fn claim_spec(&mut self, path: &str, spec: &Value) {
        for field in ["requests", "limits"] {
            self.whole_bytes(
                &join(path, "resources"),
                &spec["resources"],
                field,
                "storage",
            );
        }
    }

    /// `GetWarningsForStorageClass`.
    fn storage_class(&mut self, object: &Value) {
        for (i, topology) in list(object, "allowedTopologies") {
            for (j, expression) in list(topology, "matchLabelExpressions") {
                if let Some(message) = old_node_label(text(expression, "key")) {
                    let path = format!("allowedTopologies[{i}].matchLabelExpressions[{j}].key");
                    self.say(&path, message);
                }
            }
        }
    }

    /// `MilliValue() % 1000 != 0`.
    fn whole_bytes(&mut self, path: &str, of: &Value, field: &str, name: &str) {
        let Some(written) = of[field].get(name).and_then(Value::as_str) else {
            return;
        };
        let amount = Amount::parse(written);
        if amount.quantity.milli_value() % 1000 != 0 {
            let message =
                format!("fractional byte value \"{amount}\" is invalid, must be an integer");
            self.say(&format!("{path}.{field}[{name}]"), message);
        }
    }

    /// `GetWarningsForNodeSelectorTerm`.
    fn node_term(&mut self, path: &str, term: &Value, values: bool) {
        for (at, expression) in list(term, "matchExpressions") {
            let (key, path) = (
                text(expression, "key"),
                format!("{path}.matchExpressions[{at}]"),
            );
            if let Some(message) = old_node_label(key) {
                self.say(&format!("{path}.key"), format!("{key} is {message}"));
            }
            for (index, value) in list(expression, "values").filter(|_| values) {
                let value = value.as_str().unwrap_or_default();
                for message in label_value(value) {
                    let path = format!("{path}.values[{index}]");
                    self.say(&path, format!("{value} is invalid, {message}"));
                }
            }
        }
    }

    /// `warningsForPodSpecAndMeta`.
    fn pod(&mut self, path: &str, pod: &Value) {
        let (spec, meta) = (&pod["spec"], &pod["metadata"]);
        let (path_of, at) = (path, join(path, "spec"));
        let annotations = &meta["annotations"];
        let annotation = |key: &str| format!("{}[{key}]", join(path, "metadata.annotations"));
        self.node_labels(&at, spec);
        let old = [
            (
                "scheduler.alpha.kubernetes.io/critical-pod",
                "non-functional in v1.16+; use the \"priorityClassName\" field instead",
            ),
            (
                "security.alpha.kubernetes.io/sysctls",
                "non-functional in v1.11+; use the \"sysctls\" field instead",
            ),
            (
                "security.alpha.kubernetes.io/unsafe-sysctls",
                "non-functional in v1.11+; use the \"sysctls\" field instead",
            ),
        ];
        for (key, message) in old {
            if annotations.get(key).is_some() {
                self.say(&annotation(key), message);
            }
        }
        self.volumes(&at, spec);
        self.twice(&at, spec, "hostAliases", "ip");
        self.twice(&at, spec, "imagePullSecrets", "name");
        for (i, secret) in list(spec, "imagePullSecrets") {
            if text(secret, "name").is_empty() {
                let path = format!("{at}.imagePullSecrets[{i}].name");
                self.say(&path, "invalid empty name \"\"");
            }
        }
        for name in ["memory", "ephemeral-storage"] {
            self.whole_bytes(&at, spec, "overhead", name);
        }
        let seccomp = "seccomp.security.alpha.kubernetes.io/pod";
        let unset = |context: &Value| context["seccompProfile"].is_null();
        let gone = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
        if unset(&spec["securityContext"]) && annotations.get(seccomp).is_some() {
            self.say(&annotation(seccomp), gone);
        }
        for (path, container) in containers(&at, spec) {
            let key = "container.seccomp.security.alpha.kubernetes.io/";
            let key = format!("{key}{}", text(container, "name"));
            if unset(&container["securityContext"]) && annotations.get(&key).is_some() {
                self.say(&annotation(&key), gone);
            }
            self.app_armor(path_of, pod, container);
            for name in ["memory", "ephemeral-storage"] {
                for field in ["limits", "requests"] {
                    let resources = join(&path, "resources");
                    self.whole_bytes(&resources, &container["resources"], field, name);
                }
            }
            self.env(&path, container);
        }
        self.ports(&at, spec);
        if spec["terminationGracePeriodSeconds"]
            .as_i64()
            .is_some_and(|n| n < 0)
        {
            let message = "must be >= 0; negative values are invalid and will be treated as 1";
            self.say(&format!("{at}.terminationGracePeriodSeconds"), message);
        }
        self.affinity_terms(&at, spec);
        self.pod_addresses(&at, spec);
    }

    /// Deprecated labels in selectors, affinity and spread constraints.
    fn node_labels(&mut self, at: &str, spec: &Value) {
        for key in spec["nodeSelector"]
            .as_object()
            .into_iter()
            .flat_map(|map| map.keys())
        {
            if let Some(message) = old_node_label(key) {
                self.say(&format!("{at}.nodeSelector[{key}]"), message);
            }
        }
        let affinity = &spec["affinity"]["nodeAffinity"];
        let (must, may) = (
            "requiredDuringSchedulingIgnoredDuringExecution",
            "preferredDuringSchedulingIgnoredDuringExecution",
        );
        for (i, term) in list(&affinity[must], "nodeSelectorTerms") {
            let path = format!("{at}.affinity.nodeAffinity.{must}.nodeSelectorTerms[{i}]");
            self.node_term(&path, term, false);
        }
        for (i, term) in list(affinity, may) {
            let path = format!("{at}.affinity.nodeAffinity.{may}[{i}].preference");
            self.node_term(&path, &term["preference"], true);
        }
        for (i, constraint) in list(spec, "topologySpreadConstraints") {
            let path = format!("{at}.topologySpreadConstraints[{i}]");
            let key = text(constraint, "topologyKey");
            if let Some(message) = old_node_label(key) {
                self.say(
                    &format!("{path}.topologyKey"),
                    format!("{key} is {message}"),
                );
            }
            if constraint["labelSelector"].is_null() {
                self.say(&format!("{path}.labelSelector"), NO_POD);
            }
        }
    }

    /// Terms of pod affinity that select nothing.
    fn affinity_terms(&mut self, at: &str, spec: &Value) {
        for kind in ["podAffinity", "podAntiAffinity"] {
            for (list_of, wrapped) in [
                ("requiredDuringSchedulingIgnoredDuringExecution", false),
                ("preferredDuringSchedulingIgnoredDuringExecution", true),
            ] {
                for (i, term) in list(&spec["affinity"][kind], list_of) {
                    let (term, inner) = match wrapped {
                        true => (&term["podAffinityTerm"], ".podAffinityTerm"),
                        false => (term, ""),
                    };
                    if term["labelSelector"].is_null() {
                        let path = format!("{at}.affinity.{kind}.{list_of}[{i}]{inner}");
                        self.say(&format!("{path}.labelSelector"), NO_POD);
                    }
                }
            }
        }
    }

    fn volumes(&mut self, at: &str, spec: &Value) {
        for (i, volume) in list(spec, "volumes") {
            let path = format!("{at}.volumes[{i}]");
            for (field, message) in OLD_VOLUMES {
                if volume[field].is_null() {
                    continue;
                }
                if field == "ephemeral" {
                    let path = format!("{path}.ephemeral.volumeClaimTemplate.spec");
                    self.claim_spec(&path, &volume[field]["volumeClaimTemplate"]["spec"]);
                } else {
                    let shown = if field == "storageos" {
                        "storageOS"
                    } else {
                        field
                    };
                    self.say(&format!("{path}.{shown}"), message);
                }
            }
        }
        for (_, volume) in list(spec, "volumes") {
            self.0.extend(paths::overlapping(volume));
        }
    }

    /// Items of a list that have the same value in a field.
    fn twice(&mut self, at: &str, spec: &Value, items: &str, field: &str) {
        let mut seen = BTreeSet::new();
        for (i, item) in list(spec, items) {
            let value = text(item, field);
            if !seen.insert(value) {
                let path = format!("{at}.{items}[{i}].{field}");
                self.say(&path, format!("duplicate {field} \"{value}\""));
            }
        }
    }

    /// A variable that hides one of the same name, unless it is built from it.
    fn env(&mut self, path: &str, container: &Value) {
        let mut seen = BTreeSet::new();
        for (i, variable) in list(container, "env") {
            let (name, value) = (text(variable, "name"), text(variable, "value"));
            if seen.insert(name) {
                continue;
            }
            let before = format!("$({name})");
            let from = !variable["valueFrom"].is_null();
            if from || value == before || !value.contains(&before) {
                let message = format!(
                    "hides previous definition of \"{name}\", which may be dropped when using apply"
                );
                self.say(&format!("{path}.env[{i}]"), message);
            }
        }
    }

    fn ports(&mut self, at: &str, spec: &Value) {
        let mut known: BTreeMap<String, Vec<(String, &Value)>> = BTreeMap::new();
        let number = |port: &Value, field: &str| port[field].as_i64().unwrap_or(0);
        let mut names: BTreeMap<&str, String> = BTreeMap::new();
        let mut same_name = Vec::new();
        for (path, container) in containers(at, spec) {
            for (i, port) in list(container, "ports") {
                let here = format!("{path}.ports[{i}]");
                let (ip, host) = (text(port, "hostIP"), number(port, "hostPort"));
                let (inside, protocol) = (number(port, "containerPort"), text(port, "protocol"));
                let name = text(port, "name");
                if !ip.is_empty() && host == 0 {
                    let shown = format!(
                        "{{Name:{name} HostPort:0 ContainerPort:{inside} Protocol:{protocol} \
                         HostIP:{ip}}}"
                    );
                    self.say(&here, format!("hostIP set without hostPort: {shown}"));
                }
                let others = known.entry(format!("{inside}/{protocol}")).or_default();
                for (other, before) in others.iter() {
                    let (b_ip, b_host) = (text(before, "hostIP"), number(before, "hostPort"));
                    let what = if ip == b_ip && host == b_host {
                        "duplicate"
                    } else if host == 0 || b_host == 0 {
                        "overlapping"
                    } else if host == b_host && ip.is_empty() != b_ip.is_empty() {
                        "dangerously ambiguous"
                    } else {
                        continue;
                    };
                    self.say(&here, format!("{what} port definition with {other}"));
                }
                others.push((here.clone(), port));
                if name.is_empty() {
                    continue;
                }
                match names.get(name) {
                    Some(other) => same_name.push(format!(
                        "{here}: duplicate port name \"{name}\" with {other}, services and probes \
                         that select ports by name will use {other}"
                    )),
                    None => drop(names.insert(name, here)),
                }
            }
        }
        self.0.extend(same_name);
    }
}

const NO_POD: &str = "a null labelSelector results in matching no pod";

/// `VisitContainersWithPath`: init containers first.
fn containers<'a>(at: &str, spec: &'a Value) -> Vec<(String, &'a Value)> {
    let fields = ["initContainers", "containers", "ephemeralContainers"];
    let of = |field: &'static str| {
        list(spec, field).map(move |(i, c)| (format!("{at}.{field}[{i}]"), c))
    };
    fields.into_iter().flat_map(of).collect()
}
