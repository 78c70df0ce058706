//! Pods and pod templates (`pkg/apis/core/validation :: ValidatePodSpec`).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Container, Pod, PodDNSConfig, PodSecurityContext, PodSpec, PodTemplateSpec,
};
use serde_json::json;

use super::affinity::{affinity, tolerations, topology_spread};
use super::container::{PodScope, containers, init_containers};
use super::ephemeral;
use super::field::{At, Errors};
use super::ip;
use super::meta::{annotations, labels};
use super::names::{dns_label, dns_subdomain, in_range, label_key, subdomain_with_underscore};
use super::resources::{self, Of};
use super::security;
use super::sysctls::sysctls;
use super::volumes::volumes;
use super::windows;

/// `ValidatePodCreate`, without the metadata.
pub fn pod(object: &Pod, at: &At<'_>, errors: &mut Errors) {
    let Some(spec) = &object.spec else {
        return;
    };
    let at = at.field("spec");
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let annotated = &object.metadata.annotations;
    let meta_at = At::Root.field("metadata");
    security::pod_annotations(annotated, spec, &meta_at.field("annotations"), errors);
    pod_spec(spec, Some(name), &at, errors);
    if spec
        .service_account_name
        .as_deref()
        .is_none_or(str::is_empty)
    {
        token_without_account(spec, &at, errors);
    }
    let init = spec.init_containers.as_deref().unwrap_or_default();
    images(&spec.containers, &at.field("containers"), errors);
    images(init, &at.field("initContainers"), errors);
    // An object that brings its uid comes from a cluster, not from a create request.
    let created = object.metadata.uid.is_none();
    if created
        && spec
            .ephemeral_containers
            .as_ref()
            .is_some_and(|c| !c.is_empty())
    {
        errors.forbidden(&at.field("ephemeralContainers"), "cannot be set on create");
    }
    let gated = spec
        .scheduling_gates
        .as_ref()
        .is_some_and(|gates| !gates.is_empty());
    if gated
        && spec
            .node_name
            .as_deref()
            .is_some_and(|node| !node.is_empty())
    {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.forbidden(&at.field("nodeName"), detail);
    }
    if created {
        security::seccomp_agrees(annotated, spec, &at, errors);
        security::app_armor_agrees(annotated, spec, &at, errors);
    }
}

/// Whitespace around an image is refused in pods, not in templates.
fn images(containers: &[Container], at: &At<'_>, errors: &mut Errors) {
    for (i, container) in containers.iter().enumerate() {
        image_spaces(container, &at.item(i), errors);
    }
}

/// `validateContainerOnlyForPod`.
pub(super) fn image_spaces(container: &Container, at: &At<'_>, errors: &mut Errors) {
    let image = container.image.as_deref().unwrap_or_default();
    if image.trim() != image {
        let detail = "must not have leading or trailing whitespace";
        errors.invalid(&at.field("image"), image, detail);
    }
}

fn token_without_account(spec: &PodSpec, at: &At<'_>, errors: &mut Errors) {
    let volumes = at.field("volumes");
    for (i, volume) in spec.volumes.iter().flatten().enumerate() {
        let item = volumes.item(i);
        let projected = item.field("projected");
        let at = projected.field("sources");
        let sources = volume.projected.as_ref().and_then(|p| p.sources.as_ref());
        for (j, source) in sources.into_iter().flatten().enumerate() {
            if source.service_account_token.is_some() {
                let item = at.item(j);
                let detail = "must not be specified when serviceAccountName is not set";
                errors.forbidden(&item.field("serviceAccountToken"), detail);
            }
        }
    }
}

/// `ValidatePodTemplateSpec`.
pub fn pod_template(template: &PodTemplateSpec, at: &At<'_>, errors: &mut Errors) {
    // Upstream leaves `metadata` out of these paths.
    if let Some(metadata) = &template.metadata {
        labels(&metadata.labels, &at.field("labels"), errors);
        annotations(&metadata.annotations, &at.field("annotations"), errors);
    }
    let empty = PodSpec::default();
    let spec = template.spec.as_ref().unwrap_or(&empty);
    let annotated = template.metadata.as_ref();
    let annotated = annotated.map_or(&None, |metadata| &metadata.annotations);
    security::pod_annotations(annotated, spec, &at.field("annotations"), errors);
    let at = at.field("spec");
    pod_spec(spec, None, &at, errors);
    security::seccomp_agrees(annotated, spec, &at, errors);
    security::app_armor_agrees(annotated, spec, &at, errors);
    if spec
        .ephemeral_containers
        .as_ref()
        .is_some_and(|c| !c.is_empty())
    {
        let detail = "ephemeral containers not allowed in pod template";
        errors.forbidden(&at.field("ephemeralContainers"), detail);
    }
}

/// `ValidatePodSpec`.
fn pod_spec(spec: &PodSpec, name: Option<&str>, at: &At<'_>, errors: &mut Errors) {
    let found = spec.volumes.as_deref().unwrap_or_default();
    let scope = PodScope {
        volumes: volumes(found, name, &at.field("volumes"), errors),
        claims: claim_names(spec),
        grace: spec.termination_grace_period_seconds,
        restart_policy: spec.restart_policy.as_deref().unwrap_or_default(),
        host_users: spec.host_users != Some(false),
    };
    resource_claims(spec, &at.field("resourceClaims"), errors);
    containers(&spec.containers, &scope, &at.field("containers"), errors);
    let init = spec.init_containers.as_deref().unwrap_or_default();
    init_containers(
        init,
        &spec.containers,
        &scope,
        &at.field("initContainers"),
        errors,
    );
    ephemeral::containers(spec, &scope, &at.field("ephemeralContainers"), errors);
    pod_level(spec, &scope, &at.field("resources"), errors);
    host_network(spec, name.is_some(), &at.field("containers"), errors);
    policies(spec, at, errors);
    labels(&spec.node_selector, &at.field("nodeSelector"), errors);
    if let Some(context) = &spec.security_context {
        security_context(context, spec, &at.field("securityContext"), errors);
    }
    if let Some(source) = &spec.affinity {
        affinity(source, &at.field("affinity"), errors);
    }
    dns_config(spec, &at.field("dnsConfig"), errors);
    gates(spec, at, errors);
    let spread = spec
        .topology_spread_constraints
        .as_deref()
        .unwrap_or_default();
    topology_spread(spread, &at.field("topologySpreadConstraints"), errors);
    windows::host_processes(spec, at, errors);
    names(spec, at, errors);
    let tolerated = spec.tolerations.as_deref().unwrap_or_default();
    tolerations(tolerated, &at.field("tolerations"), errors);
    host_aliases(spec, &at.field("hostAliases"), errors);
    for (name, amount) in spec.overhead.iter().flatten() {
        let overhead = at.field("overhead");
        let limits = overhead.field("limits");
        let at = limits.key(name);
        resources::container_resource_name(name, &at, errors);
        resources::quantity_value(name, amount, &at, errors);
        resources::huge_page_value(name, amount, &at, errors);
    }
    let mut overhead = spec
        .overhead
        .iter()
        .flatten()
        .map(|(name, _)| name.as_str());
    let computes = overhead
        .clone()
        .any(|name| name == "cpu" || name == "memory");
    if !computes && overhead.any(resources::huge_page) {
        errors.forbidden(&at.field("overhead"), "HugePages require cpu or memory");
    }
    windows::operating_system(spec, at, errors);
    env_files(spec, at, errors);
}

/// `validatePodResources`.
fn pod_level(spec: &PodSpec, scope: &PodScope<'_>, at: &At<'_>, errors: &mut Errors) {
    let Some(source) = &spec.resources else {
        return;
    };
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        errors.forbidden(at, "may not be set for a windows pod");
        return;
    }
    if source.claims.is_some() {
        let detail = "claims may not be set for Resources at pod-level";
        errors.forbidden(&at.field("claims"), detail);
    }
    resources::requirements(source, Of::Pod, &scope.claims, at, errors);
    resources::pod_and_containers(spec, source, at, errors);
}

/// `validateFileKeyRefVolumes`.
fn env_files(spec: &PodSpec, at: &At<'_>, errors: &mut Errors) {
    let volumes = spec.volumes.iter().flatten();
    let volumes: BTreeMap<&str, bool> = volumes
        .map(|volume| (volume.name.as_str(), volume.empty_dir.is_some()))
        .collect();
    let init = spec.init_containers.iter().flatten();
    let init = init.map(|c| &c.env).enumerate();
    let regular = spec.containers.iter().map(|c| &c.env).enumerate();
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    let ephemeral = ephemeral.map(|c| &c.env).enumerate();
    let all = init
        .map(|(i, env)| ("initContainers", i, env))
        .chain(regular.map(|(i, env)| ("containers", i, env)))
        .chain(ephemeral.map(|(i, env)| ("ephemeralContainers", i, env)));
    for (list, i, env) in all {
        for (j, var) in env.iter().flatten().enumerate() {
            let from = var.value_from.as_ref();
            let Some(file) = from.and_then(|from| from.file_key_ref.as_ref()) else {
                continue;
            };
            let (list, name) = (at.field(list), file.volume_name.as_str());
            let item = list.item(i);
            let env = item.field("env");
            let var = env.item(j);
            let at = var.field("valueFrom.fileKeyRef.volumeName");
            match volumes.get(name) {
                None => errors.not_found(&at, name),
                Some(false) => {
                    errors.invalid(&at, name, "referenced volume must be of type emptyDir");
                }
                Some(true) => {}
            }
        }
    }
}

/// `validatePodHostNetworkDeps`: a template may leave the host port out.
fn host_network(spec: &PodSpec, is_pod: bool, at: &At<'_>, errors: &mut Errors) {
    if spec.host_network != Some(true) {
        return;
    }
    for (i, container) in spec.containers.iter().enumerate() {
        let item = at.item(i);
        let ports = item.field("ports");
        for (j, port) in container.ports.iter().flatten().enumerate() {
            let host = port.host_port.unwrap_or(0);
            if (is_pod || host != 0) && host != port.container_port {
                let at = ports.item(j);
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.invalid(&at.field("hostPort"), &host, detail);
            }
        }
    }
}

/// Restart, DNS and preemption policies.
fn policies(spec: &PodSpec, at: &At<'_>, errors: &mut Errors) {
    let restart = ["Always", "OnFailure", "Never"];
    let dns = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    for (field, policy, all) in [
        ("restartPolicy", &spec.restart_policy, restart.as_slice()),
        ("dnsPolicy", &spec.dns_policy, &dns),
    ] {
        match policy.as_deref().unwrap_or_default() {
            "" => errors.required(&at.field(field), ""),
            other if !all.contains(&other) => errors.not_supported(&at.field(field), other, all),
            _ => {}
        }
    }
    match spec.preemption_policy.as_deref() {
        None | Some("PreemptLowerPriority" | "Never") => {}
        Some("") => errors.required(&at.field("preemptionPolicy"), ""),
        Some(other) => {
            let all = ["PreemptLowerPriority", "Never"];
            errors.not_supported(&at.field("preemptionPolicy"), other, &all);
        }
    }
}

/// Readiness and scheduling gates.
fn gates(spec: &PodSpec, at: &At<'_>, errors: &mut Errors) {
    let readiness = at.field("readinessGates");
    for (i, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let item = readiness.item(i);
        let kind = &gate.condition_type;
        errors.invalid_each(&item.field("conditionType"), kind, label_key(kind));
    }
    let scheduling = at.field("schedulingGates");
    let mut seen = BTreeSet::new();
    for (i, gate) in spec.scheduling_gates.iter().flatten().enumerate() {
        let at = scheduling.item(i);
        errors.invalid_each(&at, &gate.name, label_key(&gate.name));
        if !seen.insert(&gate.name) {
            errors.duplicate(&at, &gate.name);
        }
    }
}

/// Names of other objects, host names, deadlines.
fn names(spec: &PodSpec, at: &At<'_>, errors: &mut Errors) {
    for (field, name) in [
        ("serviceAccountName", &spec.service_account_name),
        ("nodeName", &spec.node_name),
        ("priorityClassName", &spec.priority_class_name),
    ] {
        if let Some(name) = name.as_deref().filter(|name| !name.is_empty()) {
            errors.invalid_each(&at.field(field), name, dns_subdomain(name));
        }
    }
    // Pointers upstream: an empty one is a name, too.
    for (field, name) in [
        ("runtimeClassName", &spec.runtime_class_name),
        ("hostnameOverride", &spec.hostname_override),
    ] {
        if let Some(name) = name {
            errors.invalid_each(&at.field(field), name, dns_subdomain(name));
        }
    }
    if let Some(deadline) = spec.active_deadline_seconds {
        let message = in_range(deadline, 1, i32::MAX.into());
        errors.invalid_each(&at.field("activeDeadlineSeconds"), &deadline, message);
    }
    for (field, name) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        if let Some(name) = name.as_deref().filter(|name| !name.is_empty()) {
            errors.invalid_each(&at.field(field), name, dns_label(name));
        }
    }
    if let Some(name) = &spec.hostname_override {
        let at = at.field("hostnameOverride");
        if spec.set_hostname_as_fqdn == Some(true) {
            errors.forbidden(&at, "may not be specified when setHostnameAsFQDN is true");
        }
        if spec.host_network == Some(true) {
            errors.forbidden(&at, "may not be specified when hostNetwork is true");
        }
        if name.len() > 64 {
            errors.too_long(&at, 64);
        }
    }
    if spec.host_users == Some(false) {
        for (field, set) in [
            ("hostNetwork", spec.host_network),
            ("HostPID", spec.host_pid),
            ("HostIPC", spec.host_ipc),
        ] {
            if set == Some(true) {
                errors.forbidden(&at.field(field), "when `hostUsers` is false");
            }
        }
        let init = spec.init_containers.iter().flatten().enumerate();
        let init = init.map(|(i, c)| ("initContainers", i, &c.volume_devices));
        let regular = spec.containers.iter().enumerate();
        let regular = regular.map(|(i, c)| ("containers", i, &c.volume_devices));
        for (list, i, devices) in init.chain(regular) {
            if devices.as_ref().is_some_and(|devices| !devices.is_empty()) {
                let list = at.field(list);
                let item = list.item(i);
                errors.forbidden(&item.field("volumeDevices"), "when `hostUsers` is false");
            }
        }
    }
}

/// `ValidateHostAliases`.
fn host_aliases(spec: &PodSpec, at: &At<'_>, errors: &mut Errors) {
    for (i, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let at = at.item(i);
        ip::address(&alias.ip, &at.field("ip"), errors);
        let at = at.field("hostnames");
        for (j, name) in alias.hostnames.iter().flatten().enumerate() {
            errors.invalid_each(&at.item(j), name, dns_subdomain(name));
        }
    }
}

/// `validatePodDNSConfig`.
fn dns_config(spec: &PodSpec, at: &At<'_>, errors: &mut Errors) {
    let empty = PodDNSConfig::default();
    let config = spec.dns_config.as_ref();
    let servers = config
        .unwrap_or(&empty)
        .nameservers
        .as_deref()
        .unwrap_or_default();
    if spec.dns_policy.as_deref() == Some("None") {
        if config.is_none() {
            errors.required(at, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.required(&at.field("nameservers"), detail);
            return;
        }
    }
    let Some(config) = config else {
        return;
    };
    let servers_at = at.field("nameservers");
    if servers.len() > 3 {
        errors.invalid(
            &servers_at,
            &json!(servers),
            "must not have more than 3 nameservers",
        );
    }
    for (i, server) in servers.iter().enumerate() {
        ip::address(server, &servers_at.item(i), errors);
    }
    let searches = config.searches.as_deref().unwrap_or_default();
    let searches_at = at.field("searches");
    if searches.len() > 32 {
        errors.invalid(
            &searches_at,
            &json!(searches),
            "must not have more than 32 search paths",
        );
    }
    if searches.join(" ").len() > 2048 {
        let detail =
            "must not have more than 2048 characters (including spaces) in the search list";
        errors.invalid(&searches_at, &json!(searches), detail);
    }
    for (i, search) in searches
        .iter()
        .enumerate()
        .filter(|(_, search)| *search != ".")
    {
        let search = search.strip_suffix('.').unwrap_or(search);
        errors.invalid_each(
            &searches_at.item(i),
            search,
            subdomain_with_underscore(search),
        );
    }
    let options_at = at.field("options");
    for (i, option) in config.options.iter().flatten().enumerate() {
        if option.name.as_deref().is_none_or(str::is_empty) {
            errors.required(&options_at.item(i), "must not be empty");
        }
    }
}

/// `validatePodSpecSecurityContext`.
fn security_context(
    context: &PodSecurityContext,
    spec: &PodSpec,
    at: &At<'_>,
    errors: &mut Errors,
) {
    users_and_groups(context, at, errors);
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&at.field("shareProcessNamespace"), &true, detail);
    }
    sysctls(context, spec, &at.field("sysctls"), errors);
    let word = |field: &str, value: &Option<String>, all: &[&str], errors: &mut Errors| {
        if let Some(value) = value
            && !all.contains(&value.as_str())
        {
            errors.not_supported(&at.field(field), value, all);
        }
    };
    word(
        "fsGroupChangePolicy",
        &context.fs_group_change_policy,
        &["Always", "OnRootMismatch"],
        errors,
    );
    security::seccomp(
        &context.seccomp_profile,
        &at.field("seccompProfile"),
        errors,
    );
    windows::options(
        &context.windows_options,
        &at.field("windowsOptions"),
        errors,
    );
    security::app_armor(
        &context.app_armor_profile,
        &at.field("appArmorProfile"),
        errors,
    );
    for (field, value, all) in [
        (
            "supplementalGroupsPolicy",
            &context.supplemental_groups_policy,
            ["Merge", "Strict"].as_slice(),
        ),
        (
            "seLinuxChangePolicy",
            &context.se_linux_change_policy,
            // The other, `MountOption`, needs a feature that is off.
            &["Recursive"],
        ),
    ] {
        word(field, value, all, errors);
    }
}

fn users_and_groups(context: &PodSecurityContext, at: &At<'_>, errors: &mut Errors) {
    let id = |id: i64, at: &At<'_>, errors: &mut Errors| {
        errors.invalid_each(at, &id, in_range(id, 0, i32::MAX.into()));
    };
    for (field, value) in [
        ("fsGroup", context.fs_group),
        ("runAsUser", context.run_as_user),
        ("runAsGroup", context.run_as_group),
    ] {
        if let Some(value) = value {
            id(value, &at.field(field), errors);
        }
    }
    let groups = at.field("supplementalGroups");
    for (i, group) in context.supplemental_groups.iter().flatten().enumerate() {
        id(*group, &groups.item(i), errors);
    }
}

fn claim_names(spec: &PodSpec) -> BTreeSet<&str> {
    let claims = spec.resource_claims.iter().flatten();
    claims.map(|claim| claim.name.as_str()).collect()
}

/// `validatePodResourceClaims`.
fn resource_claims(spec: &PodSpec, at: &At<'_>, errors: &mut Errors) {
    let mut seen: BTreeMap<&str, ()> = BTreeMap::new();
    for (i, claim) in spec.resource_claims.iter().flatten().enumerate() {
        let at = at.item(i);
        if claim.name.is_empty() {
            errors.required(&at.field("name"), "");
        } else if seen.insert(&claim.name, ()).is_some() {
            errors.duplicate(&at.field("name"), &claim.name);
        } else {
            errors.invalid_each(&at.field("name"), &claim.name, dns_label(&claim.name));
        }
        let shown = json!({
            "Name": claim.name,
            "ResourceClaimName": claim.resource_claim_name,
            "ResourceClaimTemplateName": claim.resource_claim_template_name,
        });
        let name = claim.resource_claim_name.is_some();
        let template = claim.resource_claim_template_name.is_some();
        if name && template {
            let detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may \
                          be specified";
            errors.invalid(&at, &shown, detail);
        }
        if !name && !template {
            let detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
            errors.invalid(&at, &shown, detail);
        }
        for (field, name) in [
            ("resourceClaimName", &claim.resource_claim_name),
            (
                "resourceClaimTemplateName",
                &claim.resource_claim_template_name,
            ),
        ] {
            if let Some(name) = name {
                errors.invalid_each(&at.field(field), name, dns_subdomain(name));
            }
        }
    }
}
