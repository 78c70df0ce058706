//! The statuses of rows as JSON.

use serde_json::{Map, Value, json};

use super::object::{Clock, put, resources, texts};
use crate::api::pod_status::{ContainerState, ContainerStatus, PodCondition, Terminated};
use crate::api::policy::PdbStatus;
use crate::api::workload::{DeploymentStatus, ReplicaSetStatus, WorkloadCondition};
use crate::api::{Node, Pod, Text};

pub(super) fn pod(pod: &Pod, clock: Clock) -> Value {
    let status = &pod.status;
    let mut map = Map::new();
    put(
        &mut map,
        "observedGeneration",
        json!(status.observed_generation),
    );
    put(&mut map, "phase", json!(status.phase.name()));
    let conditions = status.conditions.iter().map(|c| pod_condition(c, clock));
    put(&mut map, "conditions", conditions.collect());
    put(
        &mut map,
        "reason",
        json!(status.reason.as_deref().unwrap_or_default()),
    );
    put(
        &mut map,
        "message",
        json!(status.message.as_deref().unwrap_or_default()),
    );
    let nominated = status.nominated_node.as_deref().unwrap_or_default();
    put(&mut map, "nominatedNodeName", json!(nominated));
    if let Some(start) = status.start_time {
        map.insert("startTime".to_owned(), clock.print(start));
    }
    if let Some(ip) = status.ip {
        let ip = ip.to_string();
        map.insert("podIP".to_owned(), json!(ip));
        map.insert("podIPs".to_owned(), json!([{ "ip": ip }]));
    }
    let all = |statuses: &[ContainerStatus], init: bool| {
        let containers = if init {
            &pod.spec.init_containers
        } else {
            &pod.spec.containers
        };
        let image = |name: &str| {
            let container = containers.iter().find(|c| c.name == name);
            container.map_or("", |c| c.image.as_str()).to_owned()
        };
        statuses
            .iter()
            .map(|status| container_status(status, &image(&status.name), clock))
            .collect()
    };
    put(
        &mut map,
        "containerStatuses",
        all(&status.containers, false),
    );
    put(
        &mut map,
        "initContainerStatuses",
        all(&status.init_containers, true),
    );
    Value::Object(map)
}

fn pod_condition(condition: &PodCondition, clock: Clock) -> Value {
    let mut map = Map::new();
    put(&mut map, "type", json!(condition.kind.name()));
    put(&mut map, "status", json!(condition.status.name()));
    map.insert(
        "lastTransitionTime".to_owned(),
        clock.print(condition.since),
    );
    put(
        &mut map,
        "reason",
        json!(condition.reason.as_deref().unwrap_or_default()),
    );
    put(
        &mut map,
        "message",
        json!(condition.message.as_deref().unwrap_or_default()),
    );
    put(
        &mut map,
        "observedGeneration",
        json!(condition.observed_generation),
    );
    Value::Object(map)
}

fn container_status(status: &ContainerStatus, image: &str, clock: Clock) -> Value {
    let mut map = Map::new();
    map.insert("name".to_owned(), json!(status.name.as_str()));
    map.insert("image".to_owned(), json!(image));
    map.insert("imageID".to_owned(), json!(""));
    map.insert("ready".to_owned(), json!(status.ready));
    map.insert("started".to_owned(), json!(status.started));
    map.insert("restartCount".to_owned(), json!(status.restarts));
    let state = match &status.state {
        ContainerState::Waiting { reason, message } => {
            let mut waiting = Map::new();
            put(&mut waiting, "reason", json!(reason.as_str()));
            let message = message.as_deref().map_or("", Text::as_str);
            put(&mut waiting, "message", json!(message));
            json!({ "waiting": waiting })
        }
        ContainerState::Running { since } => {
            json!({"running": {"startedAt": clock.print(*since)}})
        }
        ContainerState::Terminated(end) => json!({"terminated": terminated(end, clock)}),
    };
    map.insert("state".to_owned(), state);
    let last = status.last.as_ref();
    let last = last.map_or(
        json!({}),
        |end| json!({"terminated": terminated(end, clock)}),
    );
    map.insert("lastState".to_owned(), last);
    Value::Object(map)
}

fn terminated(end: &Terminated, clock: Clock) -> Value {
    let mut map = Map::new();
    map.insert("exitCode".to_owned(), json!(end.exit_code));
    put(&mut map, "reason", json!(end.reason.as_str()));
    put(
        &mut map,
        "message",
        json!(end.message.as_deref().unwrap_or_default()),
    );
    map.insert("startedAt".to_owned(), clock.print(end.started));
    map.insert("finishedAt".to_owned(), clock.print(end.finished));
    Value::Object(map)
}

pub(super) fn node(node: &Node, clock: Clock) -> Value {
    let status = &node.status;
    let mut map = Map::new();
    put(&mut map, "capacity", resources(&status.capacity));
    put(&mut map, "allocatable", resources(&status.allocatable));
    let conditions = status.conditions.iter().map(|condition| {
        json!({
            "type": condition.kind.name(),
            "status": condition.status.name(),
            "lastHeartbeatTime": clock.print(condition.heartbeat),
            "lastTransitionTime": clock.print(condition.since),
            "reason": condition.reason.as_str(),
            "message": condition.message.as_str(),
        })
    });
    put(&mut map, "conditions", conditions.collect());
    let images = status.images.iter();
    let images = images.map(|(names, size)| json!({"names": texts(names), "sizeBytes": size}));
    put(&mut map, "images", images.collect());
    let in_use = status.volumes_in_use.iter();
    let in_use = in_use.map(|volume| json!(format!("kubernetes.io/csi/{volume}")));
    put(&mut map, "volumesInUse", in_use.collect());
    let features = texts(&status.declared_features);
    put(&mut map, "declaredFeatures", features);
    Value::Object(map)
}

pub(super) fn workload_condition(
    condition: &WorkloadCondition,
    clock: Clock,
    updated: bool,
) -> Value {
    let mut map = Map::new();
    put(&mut map, "type", json!(condition.kind.as_str()));
    put(&mut map, "status", json!(condition.status.name()));
    if updated {
        map.insert("lastUpdateTime".to_owned(), clock.print(condition.updated));
    }
    map.insert(
        "lastTransitionTime".to_owned(),
        clock.print(condition.since),
    );
    put(&mut map, "reason", json!(condition.reason.as_str()));
    put(&mut map, "message", json!(condition.message.as_str()));
    Value::Object(map)
}

pub(super) fn deployment(status: &DeploymentStatus, clock: Clock) -> Value {
    let mut map = Map::new();
    put(
        &mut map,
        "observedGeneration",
        json!(status.observed_generation),
    );
    put(&mut map, "replicas", json!(status.replicas));
    put(&mut map, "updatedReplicas", json!(status.updated));
    put(&mut map, "readyReplicas", json!(status.ready));
    put(&mut map, "availableReplicas", json!(status.available));
    put(&mut map, "unavailableReplicas", json!(status.unavailable));
    if let Some(terminating) = status.terminating {
        map.insert("terminatingReplicas".to_owned(), json!(terminating));
    }
    if let Some(collisions) = status.collisions {
        map.insert("collisionCount".to_owned(), json!(collisions));
    }
    let conditions = status.conditions.iter();
    let conditions = conditions.map(|c| workload_condition(c, clock, true));
    put(&mut map, "conditions", conditions.collect());
    Value::Object(map)
}

pub(super) fn replica_set(status: &ReplicaSetStatus, clock: Clock) -> Value {
    let mut map = Map::new();
    put(
        &mut map,
        "observedGeneration",
        json!(status.observed_generation),
    );
    map.insert("replicas".to_owned(), json!(status.replicas));
    put(
        &mut map,
        "fullyLabeledReplicas",
        json!(status.fully_labeled),
    );
    put(&mut map, "readyReplicas", json!(status.ready));
    put(&mut map, "availableReplicas", json!(status.available));
    if let Some(terminating) = status.terminating {
        map.insert("terminatingReplicas".to_owned(), json!(terminating));
    }
    let conditions = status.conditions.iter();
    let conditions = conditions.map(|c| workload_condition(c, clock, false));
    put(&mut map, "conditions", conditions.collect());
    Value::Object(map)
}

pub(super) fn budget(status: &PdbStatus, clock: Clock) -> Value {
    let disrupted = status.disrupted.iter();
    let disrupted = disrupted.map(|(name, at)| (name.to_string(), clock.print(*at)));
    let mut map = Map::new();
    put(
        &mut map,
        "observedGeneration",
        json!(status.observed_generation),
    );
    put(
        &mut map,
        "disruptedPods",
        Value::Object(disrupted.collect()),
    );
    map.insert(
        "disruptionsAllowed".to_owned(),
        json!(status.disruptions_allowed),
    );
    map.insert("currentHealthy".to_owned(), json!(status.current_healthy));
    map.insert("desiredHealthy".to_owned(), json!(status.desired_healthy));
    map.insert("expectedPods".to_owned(), json!(status.expected_pods));
    let conditions = status.conditions.iter();
    let conditions = conditions.map(|c| workload_condition(c, clock, false));
    put(&mut map, "conditions", conditions.collect());
    Value::Object(map)
}

/// `status` of a ResourceQuota.
pub(super) fn quota(status: &crate::api::quota::QuotaStatus) -> Value {
    let amounts = |amounts: &crate::api::quota::Amounts| -> Value {
        let each = amounts.iter();
        let each = each.map(|(name, amount)| (name.to_string(), json!(amount.to_string())));
        Value::Object(each.collect())
    };
    match &status.hard {
        Some(hard) => json!({ "hard": amounts(hard), "used": amounts(&status.used) }),
        None => json!({}),
    }
}
