//! Pods and their parts, Secrets, Namespaces, Nodes (`pkg/apis/core/v1/defaults.go`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EmptyDirVolumeSource, EphemeralContainer, Lifecycle,
    LifecycleHandler, Namespace, Node, NodeSpec, ObjectReference, Pod, PodSecurityContext, PodSpec,
    PodTemplate, PodTemplateSpec, Probe, ProjectedVolumeSource, ResourceRequirements, Secret,
    ServiceAccount, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::gates;
use super::image::tag;
use super::{absent, amount, resource_list, storage, text};
use crate::api::validate::sum_of_requests;

/// `SetObjectDefaults_Pod`.
pub fn pod(object: &mut Pod) {
    without_init_annotations(&mut object.metadata);
    let Some(spec) = &mut object.spec else {
        object.spec = Some(PodSpec::default());
        return pod(object);
    };
    spec.enable_service_links.get_or_insert(true);
    let host_network = spec.host_network == Some(true);
    let init = spec.init_containers.iter_mut().flatten();
    for container in spec.containers.iter_mut().chain(init) {
        if let Some(resources) = &mut container.resources {
            requests_from_limits(resources);
        }
        if host_network {
            for port in container.ports.iter_mut().flatten() {
                if port.host_port.unwrap_or(0) == 0 {
                    port.host_port = Some(port.container_port).filter(|port| *port != 0);
                }
            }
        }
    }
    pod_level_requests(spec);
    pod_spec(spec);
    // `Convert_v1_Pod_To_core_Pod`; templates keep what they say.
    spec.termination_grace_period_seconds = spec
        .termination_grace_period_seconds
        .map(|grace| if grace < 0 { 1 } else { grace });
}

/// `defaultPodRequests`: what a pod with limits asks for is what its containers ask for together,
/// else its limits.
fn pod_level_requests(spec: &mut PodSpec) {
    let Some(mut resources) = spec.resources.take() else {
        return;
    };
    let limits = resources.limits.clone().unwrap_or_default();
    let mut requests = resources.requests.take().unwrap_or_default();
    if !limits.is_empty() {
        for name in ["cpu", "memory"] {
            if let Some(sum) = sum_of_requests(spec, name) {
                requests.entry(name.to_owned()).or_insert(sum);
            }
        }
        let known = |name: &str| matches!(name, "cpu" | "memory") || name.starts_with("hugepages-");
        for (name, limit) in limits.into_iter().filter(|(name, _)| known(name)) {
            requests.entry(name).or_insert(limit);
        }
    }
    resources.requests = Some(requests).filter(|requests| !requests.is_empty());
    spec.resources = Some(resources);
}

/// A limit without a request is the request.
fn requests_from_limits(resources: &mut ResourceRequirements) {
    if let Some(limits) = &resources.limits {
        let requests = resources.requests.get_or_insert_default();
        for (name, limit) in limits {
            requests
                .entry(name.clone())
                .or_insert_with(|| limit.clone());
        }
    }
}

/// Where init containers stood before they were fields.
const INIT_ANNOTATIONS: [&str; 4] = [
    "pod.beta.kubernetes.io/init-containers",
    "pod.alpha.kubernetes.io/init-containers",
    "pod.beta.kubernetes.io/init-container-statuses",
    "pod.alpha.kubernetes.io/init-container-statuses",
];

/// `pkg/apis/core/v1/conversion.go :: dropInitContainerAnnotations`.
fn without_init_annotations(metadata: &mut ObjectMeta) {
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|key, _| !INIT_ANNOTATIONS.contains(&key.as_str()));
    }
}

/// `pkg/registry/core/serviceaccount :: cleanSecretReferences`: of secrets only names are kept.
pub fn service_account(account: &mut ServiceAccount) {
    for secret in account.secrets.iter_mut().flatten() {
        *secret = ObjectReference {
            name: secret.name.take(),
            ..ObjectReference::default()
        };
    }
}

/// `SetObjectDefaults_PodTemplate`.
pub fn pod_template_object(object: &mut PodTemplate) {
    pod_template(object.template.get_or_insert_default());
}

/// The defaults of a template's pod spec; unlike a pod's, requests stay as written. The `metadata`
/// of a template is a plain value upstream, and is printed even when empty.
pub fn pod_template(template: &mut PodTemplateSpec) {
    without_init_annotations(template.metadata.get_or_insert_default());
    pod_spec(template.spec.get_or_insert_default());
}

/// `SetDefaults_PodSpec` and everything inside.
pub fn pod_spec(spec: &mut PodSpec) {
    text(&mut spec.dns_policy, "ClusterFirst");
    text(&mut spec.restart_policy, "Always");
    spec.security_context
        .get_or_insert_with(PodSecurityContext::default);
    spec.termination_grace_period_seconds.get_or_insert(30);
    text(&mut spec.scheduler_name, "default-scheduler");
    deprecated_service_account(spec);
    for volume in spec.volumes.iter_mut().flatten() {
        self::volume(volume);
    }
    let init = spec.init_containers.iter_mut().flatten();
    for container in spec.containers.iter_mut().chain(init) {
        self::container(container);
    }
    for container in spec.ephemeral_containers.iter_mut().flatten() {
        ephemeral_container(container);
    }
    resource_list(&mut spec.overhead);
    if let Some(resources) = &mut spec.resources {
        resource_list(&mut resources.limits);
        resource_list(&mut resources.requests);
    }
    gates::pod_spec(spec);
}

/// The old `serviceAccount` is an alias that both ways show
/// (`Convert_v1_PodSpec_To_core_PodSpec`).
fn deprecated_service_account(spec: &mut PodSpec) {
    if spec.service_account_name.is_none() {
        spec.service_account_name = spec.service_account.clone();
    }
    spec.service_account = spec.service_account_name.clone();
}

fn ports(ports: &mut Option<Vec<ContainerPort>>) {
    for port in ports.iter_mut().flatten() {
        text(&mut port.protocol, "TCP");
    }
}

fn container(container: &mut Container) {
    let image = container.image.clone().unwrap_or_default();
    text(&mut container.image_pull_policy, pull_policy(&image));
    text(
        &mut container.termination_message_path,
        "/dev/termination-log",
    );
    text(&mut container.termination_message_policy, "File");
    ports(&mut container.ports);
    let resources = container.resources.get_or_insert_default();
    resource_list(&mut resources.limits);
    resource_list(&mut resources.requests);
    for env in container.env.iter_mut().flatten() {
        if let Some(from) = &mut env.value_from {
            if let Some(field) = &mut from.field_ref {
                text(&mut field.api_version, "v1");
            }
            if let Some(field) = &mut from.resource_field_ref {
                divisor(&mut field.divisor);
            }
        }
    }
    let probes = [
        &mut container.liveness_probe,
        &mut container.readiness_probe,
        &mut container.startup_probe,
    ];
    for probe in probes.into_iter().flatten() {
        self::probe(probe);
    }
    if let Some(hooks) = &mut container.lifecycle {
        lifecycle(hooks);
    }
}

/// `divisor` is a plain value upstream: absent prints as 0.
fn divisor(divisor: &mut Option<Written>) {
    amount(divisor.get_or_insert_with(|| Written("0".to_owned())));
}

fn pull_policy(image: &str) -> &'static str {
    if tag(image) == "latest" {
        "Always"
    } else {
        "IfNotPresent"
    }
}

fn ephemeral_container(container: &mut EphemeralContainer) {
    let image = container.image.clone().unwrap_or_default();
    text(&mut container.image_pull_policy, pull_policy(&image));
    text(
        &mut container.termination_message_path,
        "/dev/termination-log",
    );
    text(&mut container.termination_message_policy, "File");
    ports(&mut container.ports);
    container.resources.get_or_insert_default();
}

fn probe(probe: &mut Probe) {
    let number = |field: &mut Option<i32>, default| {
        if field.unwrap_or(0) == 0 {
            *field = Some(default);
        }
    };
    number(&mut probe.timeout_seconds, 1);
    number(&mut probe.period_seconds, 10);
    number(&mut probe.success_threshold, 1);
    number(&mut probe.failure_threshold, 3);
    if let Some(get) = &mut probe.http_get {
        text(&mut get.path, "/");
        text(&mut get.scheme, "HTTP");
    }
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn lifecycle(hooks: &mut Lifecycle) {
    let hooks: [&mut Option<LifecycleHandler>; 2] = [&mut hooks.post_start, &mut hooks.pre_stop];
    for hook in hooks.into_iter().flatten() {
        if let Some(get) = &mut hook.http_get {
            text(&mut get.path, "/");
            text(&mut get.scheme, "HTTP");
        }
    }
}

/// `SetDefaults_Volume` and the sources inside.
pub fn volume(volume: &mut Volume) {
    let nothing = Volume {
        name: volume.name.clone(),
        ..Volume::default()
    };
    if *volume == nothing {
        volume.empty_dir = Some(EmptyDirVolumeSource::default());
    }
    if let Some(dir) = &mut volume.empty_dir
        && let Some(limit) = &mut dir.size_limit
    {
        amount(limit);
    }
    if let Some(source) = &mut volume.secret {
        source.default_mode.get_or_insert(0o644);
    }
    if let Some(source) = &mut volume.config_map {
        source.default_mode.get_or_insert(0o644);
    }
    if let Some(source) = &mut volume.downward_api {
        source.default_mode.get_or_insert(0o644);
        for file in source.items.iter_mut().flatten() {
            if let Some(field) = &mut file.field_ref {
                text(&mut field.api_version, "v1");
            }
            if let Some(field) = &mut file.resource_field_ref {
                divisor(&mut field.divisor);
            }
        }
    }
    if let Some(source) = &mut volume.projected {
        projected(source);
    }
    if let Some(source) = &mut volume.image {
        let reference = source.reference.clone().unwrap_or_default();
        text(&mut source.pull_policy, pull_policy(&reference));
    }
    rare_volume(volume);
}

fn rare_volume(volume: &mut Volume) {
    if let Some(source) = &mut volume.host_path {
        source.type_.get_or_insert_default();
    }
    if let Some(source) = &mut volume.iscsi {
        text(&mut source.iscsi_interface, "default");
    }
    if let Some(source) = &mut volume.rbd {
        text(&mut source.pool, "rbd");
        text(&mut source.user, "admin");
        text(&mut source.keyring, "/etc/ceph/keyring");
    }
    if let Some(source) = &mut volume.azure_disk {
        absent(&mut source.caching_mode, "ReadWrite");
        absent(&mut source.kind, "Shared");
        absent(&mut source.fs_type, "ext4");
        source.read_only.get_or_insert(false);
    }
    if let Some(source) = &mut volume.scale_io {
        text(&mut source.storage_mode, "ThinProvisioned");
        text(&mut source.fs_type, "xfs");
    }
    if let Some(source) = &mut volume.ephemeral
        && let Some(claim) = &mut source.volume_claim_template
    {
        // A plain value upstream, as that of a template.
        claim.metadata.get_or_insert_default();
        storage::claim_spec(&mut claim.spec);
    }
}

fn projected(source: &mut ProjectedVolumeSource) {
    source.default_mode.get_or_insert(0o644);
    for source in source.sources.iter_mut().flatten() {
        if let Some(token) = &mut source.service_account_token {
            token.expiration_seconds.get_or_insert(3600);
        }
        let files = source.downward_api.iter_mut();
        for file in files.flat_map(|d| d.items.iter_mut().flatten()) {
            if let Some(field) = &mut file.field_ref {
                text(&mut field.api_version, "v1");
            }
            if let Some(field) = &mut file.resource_field_ref {
                divisor(&mut field.divisor);
            }
        }
    }
}

/// `SetDefaults_Secret`.
pub fn secret(object: &mut Secret) {
    text(&mut object.type_, "Opaque");
}

/// `SetDefaults_Namespace`: the name is a label too.
pub fn namespace(object: &mut Namespace) {
    if let Some(name) = object.metadata.name.clone() {
        let labels: &mut BTreeMap<_, _> = object.metadata.labels.get_or_insert_default();
        labels.insert("kubernetes.io/metadata.name".to_owned(), name);
    }
}

/// `Convert_v1_NodeSpec_To_core_NodeSpec` and back: the older field is the first of the newer one,
/// and wins.
fn pod_networks(spec: &mut NodeSpec) {
    let own = spec.pod_cidr.take().filter(|own| !own.is_empty());
    if let Some(own) = own
        && spec.pod_cidrs.as_ref().and_then(|all| all.first()) != Some(&own)
    {
        spec.pod_cidrs = Some(vec![own]);
    }
    spec.pod_cidr = spec.pod_cidrs.as_ref().and_then(|all| all.first()).cloned();
}

/// `SetDefaults_NodeStatus`: what is allocatable is the capacity, unless the node says less.
pub fn node(object: &mut Node) {
    // `nodeStrategy.PrepareForCreate`: what the dynamic configuration of kubelets left behind.
    let spec = object.spec.get_or_insert_default();
    spec.config_source = None;
    pod_networks(spec);
    if let Some(status) = &mut object.status {
        if status.allocatable.is_none() {
            status.allocatable = status.capacity.clone();
        }
        resource_list(&mut status.capacity);
        resource_list(&mut status.allocatable);
    }
}
