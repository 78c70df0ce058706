//! Pods, pod templates and volumes.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use serde_json::Value;

use super::DecodeContext;
use super::affinity::{affinity, toleration, topology_spread};
use super::container::{config_ref, container, init_container, resources, restart_policy};
use super::meta::{count, labels, list, meta, some_text, text};
use super::pod_status;
use super::resized::resized;
use crate::api::container::Container;
use crate::api::defaults;
use crate::api::pod::{PodSpec, PodTemplate, Volume, VolumeSource};
use crate::api::quantity::{Quantity, Resources};
use crate::api::{Pod, Text};

pub(super) fn pod(source: &core::Pod, json: &Value, cx: &DecodeContext) -> Pod {
    let mut spec = source.spec.as_ref().map_or_else(PodSpec::default, |spec| {
        pod_spec(
            spec,
            Arc::new(json.get("spec").cloned().unwrap_or_default()),
        )
    });
    if let Some(status) = json.get("status") {
        spec.resized = resized(&spec, status);
    }
    let node = source.spec.as_ref().and_then(|s| some_text(&s.node_name));
    Pod {
        meta: meta(&source.metadata, cx),
        spec: Arc::new(spec),
        node_name: node,
        status: source
            .status
            .as_ref()
            .map(|status| pod_status::status(status, cx).into())
            .unwrap_or_default(),
    }
}

/// `spec.template` with its defaulted JSON. Its spec is that of the pods that are made from it.
pub(super) fn template(source: &core::PodTemplateSpec, json: Option<&Value>) -> PodTemplate {
    let json = json.cloned().unwrap_or_default();
    let metadata = source.metadata.as_ref();
    let spec = source.spec.as_ref();
    let spec = spec.map_or_else(PodSpec::default, |spec| of_made_pods(spec, &json["spec"]));
    PodTemplate {
        labels: metadata.map(|m| labels(&m.labels)).unwrap_or_default(),
        annotations: metadata.map(|m| labels(&m.annotations)).unwrap_or_default(),
        spec: Arc::new(spec),
        source: Arc::new(json),
    }
}

/// `SetDefaults_Pod` knows pods and no templates: a limit becomes a request, for one, when the pod
/// is created.
fn of_made_pods(spec: &core::PodSpec, json: &Value) -> PodSpec {
    let mut pod = core::Pod {
        spec: Some(spec.clone()),
        ..core::Pod::default()
    };
    defaults::core::pod(&mut pod);
    let made = pod.spec.unwrap_or_default();
    let mut json = json.clone();
    if let Ok(made) = serde_json::to_value(&made) {
        fill(&mut json, made);
    }
    pod_spec(&made, Arc::new(json))
}

/// Adds what is missing in nested objects.
fn fill(json: &mut Value, more: Value) {
    match (json, more) {
        (Value::Object(json), Value::Object(more)) => {
            for (key, more) in more {
                match json.get_mut(&key) {
                    Some(json) => fill(json, more),
                    None => drop(json.insert(key, more)),
                }
            }
        }
        (Value::Array(json), Value::Array(more)) => {
            for (json, more) in json.iter_mut().zip(more) {
                fill(json, more);
            }
        }
        _ => {}
    }
}

fn pod_spec(source: &core::PodSpec, json: Arc<Value>) -> PodSpec {
    let containers: Vec<_> = source.containers.iter().map(container).collect();
    let init_containers: Vec<_> = list(&source.init_containers)
        .iter()
        .map(init_container)
        .collect();
    let overhead = resources(&source.overhead);
    let pod_level = source.resources.as_ref().map(|r| resources(&r.requests));
    let requests = pod_requests(&containers, &init_containers, pod_level.as_ref(), &overhead);
    PodSpec {
        restart_policy: (source.restart_policy.as_deref())
            .and_then(restart_policy)
            .unwrap_or_default(),
        grace_s: count(source.termination_grace_period_seconds.unwrap_or(30)),
        active_deadline_s: source.active_deadline_seconds,
        node_selector: labels(&source.node_selector),
        affinity: source.affinity.as_ref().and_then(affinity).map(Arc::new),
        tolerations: list(&source.tolerations).iter().map(toleration).collect(),
        topology_spread: list(&source.topology_spread_constraints)
            .iter()
            .map(topology_spread)
            .collect(),
        scheduler_name: text(&source.scheduler_name),
        scheduling_gates: list(&source.scheduling_gates)
            .iter()
            .map(|gate| Text::from(&gate.name))
            .collect(),
        priority_class: text(&source.priority_class_name),
        priority: source.priority.unwrap_or(0),
        preempt_never: source.preemption_policy.as_deref() == Some("Never"),
        overhead,
        host_network: source.host_network.unwrap_or(false),
        readiness_gates: list(&source.readiness_gates)
            .iter()
            .map(|gate| Text::from(&gate.condition_type))
            .collect(),
        volumes: list(&source.volumes)
            .iter()
            .zip(
                json.get("volumes")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten(),
            )
            .map(|(volume, json)| self::volume(volume, json))
            .collect(),
        hostname: text(&source.hostname),
        subdomain: text(&source.subdomain),
        service_account: text(&source.service_account_name),
        share_process_namespace: source.share_process_namespace.unwrap_or(false),
        requests,
        resized: None,
        node_name: text(&source.node_name),
        source: json,
        containers,
        init_containers,
    }
}

/// `staging/src/k8s.io/component-helpers/resource :: PodRequests`: the sum of the containers and
/// sidecars, at least what any init container needs beside the sidecars started before it; amounts
/// given for the whole pod win; overhead on top.
pub(crate) fn pod_requests(
    containers: &[Container],
    init_containers: &[Container],
    pod_level: Option<&Resources>,
    overhead: &Resources,
) -> Resources {
    let mut sum = Resources::default();
    for container in containers {
        sum.add(&container.requests);
    }
    let (mut sidecars, mut most) = (Resources::default(), Resources::default());
    for container in init_containers {
        let mut needed = container.requests.clone();
        if container.restart_always {
            sum.add(&needed);
            sidecars.add(&needed);
            needed = sidecars.clone();
        } else {
            needed.add(&sidecars);
        }
        most.max(&needed);
    }
    sum.max(&most);
    if let Some(level) = pod_level {
        override_with(&mut sum, level);
    }
    sum.add(overhead);
    sum
}

/// Amounts given for the pod as a whole take the place of the containers' sums
/// (`IsSupportedPodLevelResource`: cpu, memory, huge pages).
pub(crate) fn override_with(sum: &mut Resources, level: &Resources) {
    if level.named & 1 != 0 {
        sum.cpu_milli = level.cpu_milli;
    }
    if level.named & 2 != 0 {
        sum.memory = level.memory;
    }
    sum.named |= level.named & 3;
    let extended = level.extended.iter();
    for (name, amount) in extended.filter(|(name, _)| name.starts_with("hugepages-")) {
        sum.set_extended(name, *amount);
    }
}

fn volume(source: &core::Volume, json: &Value) -> Volume {
    Volume {
        name: source.name.as_str().into(),
        source: volume_source(source, json),
    }
}

fn volume_source(source: &core::Volume, json: &Value) -> VolumeSource {
    if let Some(dir) = &source.empty_dir {
        let limit = dir.size_limit.as_ref().map(|limit| limit.0.as_str());
        let limit = limit.and_then(|text| Quantity::parse(text).ok());
        return VolumeSource::EmptyDir(limit.unwrap_or_default().value());
    }
    if let Some(map) = &source.config_map {
        return VolumeSource::Config(config_ref(false, &map.name, None, map.optional));
    }
    if let Some(secret) = &source.secret {
        let name = secret.secret_name.as_deref().unwrap_or_default();
        return VolumeSource::Config(config_ref(true, name, None, secret.optional));
    }
    if let Some(claim) = &source.persistent_volume_claim {
        return VolumeSource::Claim {
            name: claim.claim_name.as_str().into(),
            read_only: claim.read_only.unwrap_or(false),
        };
    }
    if let Some(projected) = &source.projected {
        let sources = list(&projected.sources).iter();
        let refs = sources.flat_map(|source| {
            let map = source.config_map.as_ref();
            let map = map.map(|map| config_ref(false, &map.name, None, map.optional));
            let secret = source.secret.as_ref();
            let secret = secret.map(|s| config_ref(true, &s.name, None, s.optional));
            map.into_iter().chain(secret)
        });
        return VolumeSource::Projected(refs.collect());
    }
    if source.ephemeral.is_some() {
        return VolumeSource::Ephemeral;
    }
    other_source(json)
}

/// The fields that tell two volumes of one kind apart
/// (`pkg/scheduler/framework/plugins/volumerestrictions :: isVolumeConflict` and the kinds' names).
const IDENTITIES: [(&str, &[&str]); 11] = [
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("iscsi", &["iqn"]),
    ("rbd", &["monitors", "pool", "image"]),
    ("azureDisk", &["diskURI"]),
    ("cinder", &["volumeID"]),
    ("portworxVolume", &["volumeID"]),
    ("image", &["reference"]),
    ("hostPath", &["path"]),
    ("nfs", &["server", "path"]),
    ("csi", &["driver"]),
];

fn other_source(json: &Value) -> VolumeSource {
    let fields = json.as_object().into_iter().flatten();
    let Some((field, body)) = fields.into_iter().find(|(key, _)| *key != "name") else {
        return VolumeSource::EmptyDir(0);
    };
    let keys = IDENTITIES.iter().find(|(name, _)| name == field);
    let identity = keys.map_or(String::new(), |(_, keys)| {
        let parts = keys.iter().map(|key| match body.get(key) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(items)) => {
                let items: Vec<_> = items.iter().filter_map(Value::as_str).collect();
                items.join(",")
            }
            _ => String::new(),
        });
        parts.collect::<Vec<_>>().join("/")
    });
    VolumeSource::Other {
        field: Text::from(field),
        identity: identity.into(),
        read_only: body
            .get("readOnly")
            .and_then(Value::as_bool)
            .unwrap_or(false),
    }
}
