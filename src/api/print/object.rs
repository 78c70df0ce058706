//! Rows as JSON objects.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{batch, status, workload};
use crate::api::affinity::{Taint, Toleration, TolerationOperator};
use crate::api::quantity::{Format, Quantity, Resources};
use crate::api::selector::{LabelSelector, Operator};
use crate::api::service::{Endpoint, EndpointPort};
use crate::api::volume::{ClaimPhase, VolumePhase};
use crate::api::{
    CSINode, Deployment, EndpointSlice, Labels, Lease, Meta, Namespace, Node, PersistentVolume,
    PersistentVolumeClaim, Pod, Row, Service, Text, Uid, VolumeAttachment,
};
use crate::engine::Time;

/// The object that `kubectl get -o json` would print, with instants counted from the Unix epoch.
pub fn to_json(row: &Row) -> Value {
    to_json_at(row, 0)
}

/// As [`to_json`]; the run began `epoch_s` seconds after the Unix epoch.
pub fn to_json_at(row: &Row, epoch_s: i64) -> Value {
    let clock = Clock { epoch_s };
    let mut top = Map::new();
    let (api_version, kind) = match row {
        Row::Inert(object) => (object.api_version.to_string(), object.kind.to_string()),
        row => (
            row.kind().api_version().to_owned(),
            row.kind().name().to_owned(),
        ),
    };
    top.insert("apiVersion".to_owned(), json!(api_version));
    top.insert("kind".to_owned(), json!(kind));
    top.insert("metadata".to_owned(), metadata(row.meta(), clock));
    body(row, clock, &mut top);
    Value::Object(top)
}

/// Turns instants of the run into timestamps.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    epoch_s: i64,
}

impl Clock {
    pub(super) fn print(self, time: Time) -> Value {
        let nanos = i128::from(self.epoch_s) * 1_000_000_000 + i128::from(time.as_nanos());
        // The API's timestamps have whole seconds.
        let seconds = nanos.div_euclid(1_000_000_000);
        let stamp = i64::try_from(seconds)
            .ok()
            .and_then(|s| Timestamp::from_second(s).ok());
        json!(stamp.map_or_else(String::new, |stamp| stamp.to_string()))
    }
}

/// Adds a field that says something.
pub(super) fn put(map: &mut Map<String, Value>, key: &str, value: Value) {
    let empty = match &value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
        Value::Number(n) => n.as_i64() == Some(0),
    };
    if !empty {
        map.insert(key.to_owned(), value);
    }
}

pub(super) fn pairs(labels: &Labels) -> Value {
    let pairs = labels.iter();
    Value::Object(
        pairs
            .map(|(k, v)| (k.to_string(), json!(v.as_str())))
            .collect(),
    )
}

pub(super) fn texts(texts: &[Text]) -> Value {
    Value::Array(texts.iter().map(|text| json!(text.as_str())).collect())
}

fn metadata(meta: &Meta, clock: Clock) -> Value {
    let mut map = Map::new();
    put(&mut map, "name", json!(meta.name.as_str()));
    put(&mut map, "generateName", json!(meta.generate_name.as_str()));
    put(&mut map, "namespace", json!(meta.namespace.as_str()));
    if meta.uid != Uid::default() {
        put(&mut map, "uid", json!(meta.uid.to_string()));
        put(&mut map, "creationTimestamp", clock.print(meta.created));
    }
    if meta.revision != 0 {
        put(
            &mut map,
            "resourceVersion",
            json!(meta.revision.to_string()),
        );
    }
    put(&mut map, "generation", json!(meta.generation));
    put(&mut map, "labels", pairs(&meta.labels));
    put(&mut map, "annotations", pairs(&meta.annotations));
    put(&mut map, "finalizers", texts(&meta.finalizers));
    let owners = meta.owners.iter().map(|owner| {
        let mut json = json!({
            "apiVersion": owner.api_version.as_str(),
            "kind": owner.kind_name.as_str(),
            "name": owner.name.as_str(),
            "uid": owner.uid.to_string(),
        });
        for (field, set) in [
            ("controller", owner.controller),
            ("blockOwnerDeletion", owner.block_owner_deletion),
        ] {
            if set {
                json[field] = Value::Bool(true);
            }
        }
        json
    });
    put(&mut map, "ownerReferences", owners.collect());
    if let Some(deletion) = &meta.deletion {
        map.insert("deletionTimestamp".to_owned(), clock.print(deletion.at));
        map.insert(
            "deletionGracePeriodSeconds".to_owned(),
            json!(deletion.grace_s),
        );
    }
    Value::Object(map)
}

/// The JSON an object came from, or an empty object.
fn source(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn body(row: &Row, clock: Clock, top: &mut Map<String, Value>) {
    let mut set = |key: &str, value: Value| {
        top.insert(key.to_owned(), value);
    };
    match row {
        Row::Pod(pod) => {
            set("spec", pod_spec(pod));
            set("status", status::pod(pod, clock));
        }
        Row::Node(node) => {
            set("spec", node_spec(node, clock));
            set("status", status::node(node, clock));
        }
        Row::Deployment(d) => {
            set("spec", deployment_spec(d));
            set("status", status::deployment(&d.status, clock));
        }
        Row::ReplicaSet(rs) => {
            let mut spec = source(&rs.source);
            spec.insert("replicas".to_owned(), json!(rs.replicas));
            spec.insert("selector".to_owned(), selector(&rs.selector));
            put(&mut spec, "template", Value::clone(&rs.template.source));
            set("spec", spec.into());
            set("status", status::replica_set(&rs.status, clock));
        }
        Row::StatefulSet(stateful) => workload::stateful_set(stateful, &mut set),
        Row::DaemonSet(daemon) => workload::daemon_set(daemon, &mut set),
        Row::ControllerRevision(revision) => workload::revision(revision, &mut set),
        Row::PodDisruptionBudget(budget) => {
            set("spec", source(&budget.source).into());
            set("status", status::budget(&budget.status, clock));
        }
        Row::Job(job) => {
            set("spec", source(&job.spec.source).into());
            set("status", batch::job(&job.status, clock));
        }
        Row::CronJob(cron) => {
            set("spec", source(&cron.source).into());
            set("status", batch::cron_job(cron, clock));
        }
        Row::ResourceQuota(quota) => {
            set("spec", source(&quota.source).into());
            set("status", status::quota(&quota.status));
        }
        Row::HorizontalPodAutoscaler(of) => super::autoscaling::autoscaler(of, clock, &mut set),
        Row::LimitRange(range) => set("spec", source(&range.source).into()),
        Row::EndpointSlice(slice) => endpoint_slice(slice, &mut set),
        Row::PersistentVolume(volume) => persistent_volume(volume, &mut set),
        Row::PersistentVolumeClaim(claim) => persistent_claim(claim, &mut set),
        Row::StorageClass(class) => whole(&class.source, &mut set),
        Row::CSIDriver(driver) => whole(&driver.source, &mut set),
        Row::CSIStorageCapacity(capacity) => whole(&capacity.source, &mut set),
        Row::Inert(object) => whole(&object.body, &mut set),
        Row::Service(service) => set("spec", service_spec(service)),
        Row::VolumeAttachment(attachment) => volume_attachment(attachment, &mut set),
        Row::CSINode(node) => set("spec", csi_node_spec(node)),
        Row::Lease(lease) => set("spec", lease_spec(lease, clock)),
        Row::Namespace(namespace) => self::namespace(namespace, clock, &mut set),
        Row::ConfigMap(_) | Row::Secret(_) | Row::PriorityClass(_) => {
            flat_kinds(row, &mut set);
        }
    }
}

fn namespace(namespace: &Namespace, clock: Clock, set: &mut impl FnMut(&str, Value)) {
    let finalizers: Vec<&str> = namespace.finalizers.iter().map(|f| f.as_str()).collect();
    set("spec", json!({ "finalizers": finalizers }));
    let phase = match namespace.meta.deleting() {
        true => "Terminating",
        false => "Active",
    };
    let mut status = Map::new();
    let conditions = namespace.status.conditions.iter();
    let conditions = conditions.map(|c| status::workload_condition(c, clock, false));
    put(&mut status, "conditions", conditions.collect());
    put(&mut status, "phase", json!(phase));
    set("status", status.into());
}

/// Kinds without a spec.
fn flat_kinds(row: &Row, set: &mut impl FnMut(&str, Value)) {
    match row {
        Row::ConfigMap(map) => {
            for (field, entries) in [("data", &map.data), ("binaryData", &map.binary)] {
                if !entries.is_empty() {
                    set(field, pairs(entries));
                }
            }
            if map.immutable {
                set("immutable", json!(true));
            }
        }
        Row::Secret(secret) => {
            set("type", json!(secret.kind.as_str()));
            set("data", pairs(&secret.data));
            if secret.immutable {
                set("immutable", json!(true));
            }
        }
        Row::PriorityClass(class) => {
            set("value", json!(class.value));
            if !class.description.is_empty() {
                set("description", json!(class.description.as_str()));
            }
            if class.global_default {
                set("globalDefault", json!(true));
            }
            let policy = if class.preempt_never {
                "Never"
            } else {
                "PreemptLowerPriority"
            };
            set("preemptionPolicy", json!(policy));
        }
        _ => {}
    }
}

/// An object as it came, under its typed metadata.
fn whole(object: &Value, set: &mut impl FnMut(&str, Value)) {
    for (key, value) in source(object) {
        if !matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            set(&key, value);
        }
    }
}

fn deployment_spec(deployment: &Deployment) -> Value {
    let mut spec = source(&deployment.source);
    spec.insert("replicas".to_owned(), json!(deployment.replicas));
    spec.remove("paused");
    put(&mut spec, "paused", json!(deployment.paused));
    put(
        &mut spec,
        "template",
        Value::clone(&deployment.template.source),
    );
    spec.entry("selector")
        .or_insert_with(|| selector(&deployment.selector));
    Value::Object(spec)
}

fn service_spec(service: &Service) -> Value {
    let mut spec = source(&service.source);
    if let Some(ip) = service.cluster_ip {
        let ip = json!(std::net::Ipv4Addr::from(ip).to_string());
        spec.insert("clusterIP".to_owned(), ip.clone());
        spec.insert("clusterIPs".to_owned(), json!([ip]));
    }
    Value::Object(spec)
}

fn lease_spec(lease: &Lease, clock: Clock) -> Value {
    json!({
        "holderIdentity": lease.holder.as_str(),
        "leaseDurationSeconds": lease.duration_s,
        "renewTime": clock.print(lease.renewed),
    })
}

fn volume_attachment(attachment: &VolumeAttachment, set: &mut impl FnMut(&str, Value)) {
    let spec = json!({
        "attacher": attachment.attacher.as_str(),
        "nodeName": attachment.node.as_str(),
        "source": {"persistentVolumeName": attachment.volume.as_str()},
    });
    set("spec", spec);
    set("status", json!({"attached": attachment.status.attached}));
}

fn csi_node_spec(node: &CSINode) -> Value {
    let drivers = node.drivers.iter().map(|(name, count)| {
        let mut driver = json!({"name": name.as_str(), "nodeID": node.meta.name.as_str()});
        if let Some(count) = count {
            driver["allocatable"] = json!({"count": count});
        }
        let keys = node.topology_keys(name);
        if !keys.is_empty() {
            let keys: Vec<&str> = keys.iter().map(Text::as_str).collect();
            driver["topologyKeys"] = json!(keys);
        }
        driver
    });
    json!({"drivers": drivers.collect::<Vec<_>>()})
}

/// The spec of a pod: as written and defaulted, with what admission and binding added.
fn pod_spec(pod: &Pod) -> Value {
    let mut spec = source(&pod.spec.source);
    batch::completion_index(pod, &mut spec);
    spec.remove("nodeName");
    put(
        &mut spec,
        "nodeName",
        json!(pod.node_name.as_deref().unwrap_or_default()),
    );
    let tolerations = pod.spec.tolerations.iter().map(toleration);
    put(&mut spec, "tolerations", tolerations.collect());
    put(
        &mut spec,
        "priorityClassName",
        json!(pod.spec.priority_class.as_str()),
    );
    spec.insert("priority".to_owned(), json!(pod.spec.priority));
    Value::Object(spec)
}

fn toleration(toleration: &Toleration) -> Value {
    let mut map = Map::new();
    put(&mut map, "key", json!(toleration.key.as_str()));
    let operator = match toleration.operator {
        TolerationOperator::Equal => "Equal",
        TolerationOperator::Exists => "Exists",
        TolerationOperator::Lt => "Lt",
        TolerationOperator::Gt => "Gt",
    };
    put(&mut map, "operator", json!(operator));
    put(&mut map, "value", json!(toleration.value.as_str()));
    let effect = toleration.effect.map_or("", |effect| effect.name());
    put(&mut map, "effect", json!(effect));
    if let Some(seconds) = toleration.seconds {
        map.insert("tolerationSeconds".to_owned(), json!(seconds));
    }
    Value::Object(map)
}

fn node_spec(node: &Node, clock: Clock) -> Value {
    let taint = |taint: &Taint| {
        let mut map = Map::new();
        put(&mut map, "key", json!(taint.key.as_str()));
        put(&mut map, "value", json!(taint.value.as_str()));
        put(&mut map, "effect", json!(taint.effect.name()));
        if let Some(added) = taint.added {
            map.insert("timeAdded".to_owned(), clock.print(added));
        }
        Value::Object(map)
    };
    let mut spec = Map::new();
    put(&mut spec, "providerID", json!(node.provider_id.as_str()));
    put(&mut spec, "taints", node.taints.iter().map(taint).collect());
    put(&mut spec, "unschedulable", json!(node.unschedulable));
    Value::Object(spec)
}

/// Amounts as quantities: bytes in binary units, the rest in decimal ones.
pub(super) fn resources(resources: &Resources) -> Value {
    let mut map = Map::new();
    let mut put = |name: &str, amount: Quantity, format: Format| {
        map.insert(name.to_owned(), json!(amount.print(format)));
    };
    if resources.named & 1 != 0 {
        let nanos = i128::from(resources.cpu_milli) * 1_000_000;
        put("cpu", Quantity::from_nanos(nanos), Format::DecimalSi);
    }
    let units = Quantity::from_units;
    if resources.named & 4 != 0 {
        put(
            "ephemeral-storage",
            units(resources.ephemeral),
            Format::BinarySi,
        );
    }
    for (name, amount) in &resources.extended {
        let binary = name.starts_with("hugepages-");
        let format = if binary {
            Format::BinarySi
        } else {
            Format::DecimalSi
        };
        put(name, units(*amount), format);
    }
    if resources.named & 2 != 0 {
        put("memory", units(resources.memory), Format::BinarySi);
    }
    if resources.named & 8 != 0 {
        put("pods", units(resources.pods), Format::DecimalSi);
    }
    Value::Object(map)
}

/// A selector with its `In` requirements of one value as `matchLabels` again.
pub(super) fn selector(selector: &LabelSelector) -> Value {
    if selector.nothing {
        return Value::Null;
    }
    let (mut labels, mut expressions) = (Map::new(), Vec::new());
    for requirement in &selector.requirements {
        let key = requirement.key.to_string();
        match (requirement.operator, requirement.values.as_slice()) {
            (Operator::In, [value]) if !labels.contains_key(&key) => {
                labels.insert(key, json!(value.as_str()));
            }
            (operator, values) => {
                let mut map = Map::new();
                put(&mut map, "key", json!(key));
                put(&mut map, "operator", json!(format!("{operator:?}")));
                put(&mut map, "values", texts(values));
                expressions.push(Value::Object(map));
            }
        }
    }
    let mut map = Map::new();
    put(&mut map, "matchExpressions", expressions.into());
    put(&mut map, "matchLabels", labels.into());
    Value::Object(map)
}

fn endpoint_slice(slice: &EndpointSlice, set: &mut impl FnMut(&str, Value)) {
    let endpoint = |endpoint: &Endpoint| {
        let mut map = Map::new();
        let ip = std::net::Ipv4Addr::from(endpoint.ip).to_string();
        map.insert("addresses".to_owned(), json!([ip]));
        map.insert(
            "conditions".to_owned(),
            json!({
                "ready": endpoint.ready,
                "serving": endpoint.serving,
                "terminating": endpoint.terminating,
            }),
        );
        if let Some(hints) = &endpoint.hints {
            let named = |names: &[Text]| -> Value {
                names
                    .iter()
                    .map(|name| json!({"name": name.as_str()}))
                    .collect()
            };
            let mut both = Map::new();
            for (key, names) in [("forNodes", &hints.nodes), ("forZones", &hints.zones)] {
                if !names.is_empty() {
                    both.insert(key.to_owned(), named(names));
                }
            }
            map.insert("hints".to_owned(), Value::Object(both));
        }
        put(&mut map, "hostname", json!(endpoint.hostname.as_str()));
        put(&mut map, "nodeName", json!(endpoint.node.as_str()));
        if !endpoint.pod.is_empty() {
            let mut target = json!({
                "kind": "Pod",
                "name": endpoint.pod.as_str(),
                "namespace": slice.meta.namespace.as_str(),
            });
            if endpoint.pod_uid != Uid::default() {
                target["uid"] = json!(endpoint.pod_uid.to_string());
            }
            map.insert("targetRef".to_owned(), target);
        }
        put(&mut map, "zone", json!(endpoint.zone.as_str()));
        Value::Object(map)
    };
    let port = |port: &EndpointPort| {
        let mut map = Map::new();
        map.insert("name".to_owned(), json!(port.name.as_str()));
        put(&mut map, "port", json!(port.port));
        put(&mut map, "protocol", json!(port.protocol.name()));
        put(&mut map, "appProtocol", json!(port.app_protocol.as_str()));
        Value::Object(map)
    };
    set("addressType", json!("IPv4"));
    set("endpoints", slice.endpoints.iter().map(endpoint).collect());
    set("ports", slice.ports.iter().map(port).collect());
}

fn persistent_volume(volume: &PersistentVolume, set: &mut impl FnMut(&str, Value)) {
    let mut spec = source(&volume.source);
    if let Some(claim) = &volume.claim {
        let mut map = source(spec.get("claimRef").unwrap_or(&Value::Null));
        map.entry("kind").or_insert(json!("PersistentVolumeClaim"));
        map.entry("apiVersion").or_insert(json!("v1"));
        put(&mut map, "name", json!(claim.name.as_str()));
        put(&mut map, "namespace", json!(claim.namespace.as_str()));
        if let Some(uid) = claim.uid {
            put(&mut map, "uid", json!(uid.to_string()));
        }
        spec.insert("claimRef".to_owned(), map.into());
    } else {
        spec.remove("claimRef");
    }
    set("spec", spec.into());
    let phase = match volume.status.phase {
        VolumePhase::Pending => "Pending",
        VolumePhase::Available => "Available",
        VolumePhase::Bound => "Bound",
        VolumePhase::Released => "Released",
        VolumePhase::Failed => "Failed",
    };
    set("status", json!({ "phase": phase }));
}

fn persistent_claim(claim: &PersistentVolumeClaim, set: &mut impl FnMut(&str, Value)) {
    let mut spec = source(&claim.source);
    put(&mut spec, "volumeName", json!(claim.volume_name.as_str()));
    if let Some(class) = &claim.storage_class {
        spec.insert("storageClassName".to_owned(), json!(class.as_str()));
    }
    set("spec", spec.into());
    let phase = match claim.status.phase {
        ClaimPhase::Pending => "Pending",
        ClaimPhase::Bound => "Bound",
        ClaimPhase::Lost => "Lost",
    };
    let mut status = Map::new();
    put(&mut status, "phase", json!(phase));
    if claim.status.capacity != 0 {
        let amount = Quantity::from_units(claim.status.capacity).print(Format::BinarySi);
        put(&mut status, "capacity", json!({ "storage": amount }));
        let modes = claim.access_modes.iter().map(|mode| json!(mode.name()));
        put(&mut status, "accessModes", modes.collect());
    }
    set("status", status.into());
}
