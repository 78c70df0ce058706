//! Containers: names, ports, environment, mounts, security.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ContainerResizePolicy, ContainerRestartRule, SecurityContext, Volume,
    VolumeDevice, VolumeMount,
};
use serde_json::{Value, json};

use super::env;
use super::field::{At, Errors};
use super::names::{dns_label, in_range, port_name, port_number};
use super::probe::{self, Role};
use super::resources::{self, Of};
use super::security::{app_armor, seccomp};
use super::windows;

/// What containers are checked against.
pub(super) struct PodScope<'a> {
    pub volumes: BTreeMap<&'a str, &'a Volume>,
    pub claims: BTreeSet<&'a str>,
    pub grace: Option<i64>,
    pub restart_policy: &'a str,
    /// Whether containers have the users of their host.
    pub host_users: bool,
}

/// `validateContainers`.
pub(super) fn containers(all: &[Container], pod: &PodScope<'_>, at: &At<'_>, errors: &mut Errors) {
    if all.is_empty() {
        errors.required(at, "");
        return;
    }
    let mut names = BTreeSet::new();
    for (i, container) in all.iter().enumerate() {
        let at = at.item(i);
        common(container, pod, &at, errors);
        if !names.insert(&container.name) {
            errors.duplicate(&at.field("name"), &container.name);
        }
        hooks_and_probes(container, pod, &at, errors);
        restart_policy(container, &at, errors);
    }
    host_ports(all, at, errors);
}

/// `validateInitContainers`.
pub(super) fn init_containers(
    all: &[Container],
    regular: &[Container],
    pod: &PodScope<'_>,
    at: &At<'_>,
    errors: &mut Errors,
) {
    let mut names: BTreeSet<_> = regular.iter().map(|c| &c.name).collect();
    for (i, container) in all.iter().enumerate() {
        let item = at.item(i);
        common(container, pod, &item, errors);
        let rules = container.restart_policy_rules.as_ref();
        match &container.restart_policy {
            Some(_) => restart_policy(container, &item, errors),
            None if rules.is_some_and(|rules| !rules.is_empty()) => errors.required(
                &item.field("restartPolicy"),
                "must specify restartPolicy when restart rules are used",
            ),
            None => {}
        }
        let sidecar = container.restart_policy.as_deref() == Some("Always");
        if names.contains(&container.name) {
            errors.duplicate(&item.field("name"), &container.name);
        } else if !container.name.is_empty() {
            names.insert(&container.name);
        }
        host_ports(std::slice::from_ref(container), at, errors);
        if sidecar {
            hooks_and_probes(container, pod, &item, errors);
        } else {
            once_only(container, &item, errors);
        }
    }
}

/// What only sidecars may have.
fn once_only(container: &Container, at: &At<'_>, errors: &mut Errors) {
    for (field, there) in [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ] {
        if there {
            let detail = "may not be set for init containers without restartPolicy=Always";
            errors.forbidden(&at.field(field), detail);
        }
    }
    let policies = at.field("resizePolicy");
    for (i, policy) in container.resize_policy.iter().flatten().enumerate() {
        if policy.restart_policy == "RestartContainer" {
            let at = policies.item(i);
            let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
            errors.invalid(&at.field("restartPolicy"), "RestartContainer", detail);
        }
    }
}

/// `validateContainerCommon`.
pub(super) fn common(container: &Container, pod: &PodScope<'_>, at: &At<'_>, errors: &mut Errors) {
    if container.name.is_empty() {
        errors.required(&at.field("name"), "");
    } else {
        errors.invalid_each(
            &at.field("name"),
            &container.name,
            dns_label(&container.name),
        );
    }
    if container.image.as_deref().is_none_or(str::is_empty) {
        errors.required(&at.field("image"), "");
    }
    let policy = container
        .termination_message_policy
        .as_deref()
        .unwrap_or_default();
    if !matches!(policy, "File" | "FallbackToLogsOnError") {
        let all = ["File", "FallbackToLogsOnError"];
        errors.not_supported(&at.field("terminationMessagePolicy"), policy, &all);
    }
    ports(
        container.ports.as_deref().unwrap_or_default(),
        &at.field("ports"),
        errors,
    );
    env::env(
        container.env.as_deref().unwrap_or_default(),
        &at.field("env"),
        errors,
    );
    env::env_from(
        container.env_from.as_deref().unwrap_or_default(),
        &at.field("envFrom"),
        errors,
    );
    mounts(container, pod, &at.field("volumeMounts"), errors);
    devices(container, pod, &at.field("volumeDevices"), errors);
    let policy = container.image_pull_policy.as_deref().unwrap_or_default();
    if !matches!(policy, "Always" | "IfNotPresent" | "Never") {
        let all = ["Always", "IfNotPresent", "Never"];
        errors.not_supported(&at.field("imagePullPolicy"), policy, &all);
    }
    if let Some(source) = &container.resources {
        resources::requirements(
            source,
            Of::Container,
            &pod.claims,
            &at.field("resources"),
            errors,
        );
    }
    let resize = container.resize_policy.as_deref().unwrap_or_default();
    resize_policy(resize, pod, &at.field("resizePolicy"), errors);
    if let Some(context) = &container.security_context {
        let at = at.field("securityContext");
        security_context(context, pod.host_users, &at, errors);
    }
}

fn hooks_and_probes(container: &Container, pod: &PodScope<'_>, at: &At<'_>, errors: &mut Errors) {
    if let Some(hooks) = &container.lifecycle {
        probe::lifecycle(hooks, pod.grace, &at.field("lifecycle"), errors);
    }
    for (field, source, role) in [
        ("livenessProbe", &container.liveness_probe, Role::Liveness),
        (
            "readinessProbe",
            &container.readiness_probe,
            Role::Readiness,
        ),
        ("startupProbe", &container.startup_probe, Role::Startup),
    ] {
        if let Some(source) = source {
            probe::probe(source, role, pod.grace, &at.field(field), errors);
        }
    }
}

/// `validateContainerPorts`.
fn ports(ports: &[ContainerPort], at: &At<'_>, errors: &mut Errors) {
    let mut names = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let at = at.item(i);
        let name = port.name.as_deref().unwrap_or_default();
        if !name.is_empty() {
            let messages = port_name(name);
            if messages.is_empty() && !names.insert(name) {
                errors.duplicate(&at.field("name"), name);
            }
            errors.invalid_each(&at.field("name"), name, messages);
        }
        let number_at = at.field("containerPort");
        if port.container_port == 0 {
            errors.required(&number_at, "");
        } else {
            let number = port.container_port;
            errors.invalid_each(&number_at, &number, port_number(number));
        }
        if let Some(host) = port.host_port.filter(|host| *host != 0) {
            errors.invalid_each(&at.field("hostPort"), &host, port_number(host));
        }
        protocol(
            port.protocol.as_deref().unwrap_or_default(),
            &at.field("protocol"),
            errors,
        );
    }
}

/// The transport protocols that every port may have.
pub(super) fn protocol(protocol: &str, at: &At<'_>, errors: &mut Errors) {
    match protocol {
        "TCP" | "UDP" | "SCTP" => {}
        "" => errors.required(at, ""),
        other => errors.not_supported(at, other, &["SCTP", "TCP", "UDP"]),
    }
}

/// `AccumulateUniqueHostPorts`.
fn host_ports(containers: &[Container], at: &At<'_>, errors: &mut Errors) {
    let mut taken = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        for (j, port) in container.ports.iter().flatten().enumerate() {
            let Some(number) = port.host_port.filter(|number| *number != 0) else {
                continue;
            };
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let key = format!("{}/{}/{number}", text(&port.protocol), text(&port.host_ip));
            if !taken.insert(key.clone()) {
                let (item, ports) = (at.item(i), "ports");
                errors.duplicate(&item.field(ports).item(j).field("hostPort"), &key);
            }
        }
    }
}

/// `ValidateVolumeMounts`. Upstream leaves the index out of some paths; so it is here.
fn mounts(container: &Container, pod: &PodScope<'_>, at: &At<'_>, errors: &mut Errors) {
    let devices = container.volume_devices.as_deref().unwrap_or_default();
    let mut points = BTreeSet::new();
    for (i, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let item = at.item(i);
        let (name_at, path_at) = (item.field("name"), item.field("mountPath"));
        if mount.name.is_empty() {
            errors.required(&name_at, "");
        }
        if !pod.volumes.contains_key(mount.name.as_str()) {
            errors.not_found(&name_at, &mount.name);
        }
        if mount.mount_path.is_empty() {
            errors.required(&path_at, "");
        }
        if !points.insert(&mount.mount_path) {
            errors.invalid(&path_at, &mount.mount_path, "must be unique");
        }
        if devices.iter().any(|device| device.name == mount.name) {
            errors.invalid(
                &name_at,
                &mount.name,
                "must not already exist in volumeDevices",
            );
        }
        if devices
            .iter()
            .any(|device| device.device_path == mount.mount_path)
        {
            let detail = "must not already exist as a path in volumeDevices";
            errors.invalid(&path_at, &mount.mount_path, detail);
        }
        let sub_path = mount.sub_path.as_deref().unwrap_or_default();
        if !sub_path.is_empty() {
            descending_path(sub_path, &at.field("subPath"), errors);
        }
        let expression = mount.sub_path_expr.as_deref().unwrap_or_default();
        if !expression.is_empty() {
            if !sub_path.is_empty() {
                let detail = "subPathExpr and subPath are mutually exclusive";
                errors.invalid(&item.field("subPathExpr"), expression, detail);
            }
            descending_path(expression, &at.field("subPathExpr"), errors);
        }
        propagation(mount, container, at, errors);
    }
}

/// `validateMountPropagation` and `validateMountRecursiveReadOnly`.
fn propagation(mount: &VolumeMount, container: &Container, at: &At<'_>, errors: &mut Errors) {
    if let Some(mode) = &mount.mount_propagation {
        let at = at.field("mountPropagation");
        let all = ["Bidirectional", "HostToContainer", "None"];
        if !all.contains(&mode.as_str()) {
            errors.not_supported(&at, mode, &all);
        }
        let context = container.security_context.as_ref();
        let privileged = context.and_then(|c| c.privileged).unwrap_or(false);
        if mode == "Bidirectional" && !privileged {
            errors.forbidden(
                &at,
                "Bidirectional mount propagation is available only to privileged containers",
            );
        }
    }
    let at = at.field("recursiveReadOnly");
    match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if mount.read_only != Some(true) {
                errors.forbidden(&at, "may only be specified when readOnly is true");
            }
            if mount
                .mount_propagation
                .as_deref()
                .is_some_and(|mode| mode != "None")
            {
                errors.forbidden(
                    &at,
                    "may only be specified when mountPropagation is None or not specified",
                );
            }
        }
        Some(other) => {
            errors.not_supported(&at, other, &["Disabled", "Enabled", "IfPossible"]);
        }
    }
}

/// `validateLocalDescendingPath`.
pub(super) fn descending_path(path: &str, at: &At<'_>, errors: &mut Errors) {
    if path.starts_with('/') {
        errors.invalid(at, path, "must be a relative path");
    }
    no_backsteps(path, at, errors);
}

/// `validatePathNoBacksteps`.
pub(super) fn no_backsteps(path: &str, at: &At<'_>, errors: &mut Errors) {
    if path.split('/').any(|part| part == "..") {
        errors.invalid(at, path, "must not contain '..'");
    }
}

/// `ValidateVolumeDevices`.
fn devices(container: &Container, pod: &PodScope<'_>, at: &At<'_>, errors: &mut Errors) {
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for (i, device) in container.volume_devices.iter().flatten().enumerate() {
        let item = at.item(i);
        let (name_at, path_at) = (item.field("name"), item.field("devicePath"));
        let VolumeDevice { name, device_path } = device;
        if name.is_empty() {
            errors.required(&name_at, "");
        }
        if names.contains(name) {
            errors.invalid(&name_at, name, "must be unique");
        }
        match pod.volumes.get(name.as_str()) {
            Some(volume) => {
                if volume.persistent_volume_claim.is_none() && volume.ephemeral.is_none() {
                    let detail = "can only use volume source type of PersistentVolumeClaim or \
                                  Ephemeral for block mode";
                    errors.invalid(&name_at, name, detail);
                }
            }
            None => errors.not_found(&name_at, name),
        }
        if device_path.is_empty() {
            errors.required(&path_at, "");
        }
        if paths.contains(device_path) {
            errors.invalid(&path_at, device_path, "must be unique");
        }
        if device_path.split('/').any(|part| part == "..") {
            errors.invalid(&path_at, device_path, "can not contain backsteps ('..')");
        } else {
            paths.insert(device_path);
        }
        if mounts.iter().any(|mount| mount.name == *name) {
            errors.invalid(&name_at, name, "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|mount| mount.mount_path == *device_path) {
            let detail = "must not already exist as a path in volumeMounts";
            errors.invalid(&path_at, device_path, detail);
        }
        if !name.is_empty() {
            names.insert(name);
        }
    }
}

/// `validateResizePolicy`.
fn resize_policy(
    policies: &[ContainerResizePolicy],
    pod: &PodScope<'_>,
    at: &At<'_>,
    errors: &mut Errors,
) {
    let mut seen = BTreeSet::new();
    for (i, policy) in policies.iter().enumerate() {
        if !seen.insert(&policy.resource_name) {
            errors.duplicate(&at.item(i), &policy.resource_name);
        }
        match policy.resource_name.as_str() {
            "cpu" | "memory" => {}
            "" => errors.required(at, ""),
            other => errors.not_supported(at, other, &["cpu", "memory"]),
        }
        match policy.restart_policy.as_str() {
            "NotRequired" | "RestartContainer" => {}
            "" => errors.required(at, ""),
            other => errors.not_supported(at, other, &["NotRequired", "RestartContainer"]),
        }
        if pod.restart_policy == "Never" && policy.restart_policy != "NotRequired" {
            errors.invalid(
                at,
                &policy.restart_policy,
                "must be 'NotRequired' when pod `restartPolicy` is 'Never'",
            );
        }
    }
}

/// `validateContainerRestartPolicy`.
fn restart_policy(container: &Container, at: &At<'_>, errors: &mut Errors) {
    let rules: &[ContainerRestartRule] = container
        .restart_policy_rules
        .as_deref()
        .unwrap_or_default();
    let policy_at = at.field("restartPolicy");
    match container.restart_policy.as_deref() {
        None if !rules.is_empty() => errors.required(
            &policy_at,
            "must specify restartPolicy when restart rules are used",
        ),
        None | Some("Always" | "Never" | "OnFailure") => {}
        Some(other) => errors.not_supported(&policy_at, other, &["Always", "Never", "OnFailure"]),
    }
    let rules_at = at.field("restartPolicyRules");
    if rules.len() > 20 {
        errors.too_many(&rules_at, rules.len(), 20);
    }
    for (i, rule) in rules.iter().enumerate() {
        let at = rules_at.item(i);
        if !matches!(rule.action.as_str(), "Restart" | "RestartAllContainers") {
            let all = ["Restart", "RestartAllContainers"];
            errors.not_supported(&at.field("action"), &rule.action, &all);
        }
        let codes_at = at.field("exitCodes");
        let Some(codes) = &rule.exit_codes else {
            errors.required(&codes_at, "must be specified");
            continue;
        };
        if !matches!(codes.operator.as_str(), "In" | "NotIn") {
            errors.not_supported(
                &codes_at.field("operator"),
                &codes.operator,
                &["In", "NotIn"],
            );
        }
        let values = codes.values.as_deref().unwrap_or_default();
        if values.len() > 255 {
            errors.too_many(&codes_at.field("values"), values.len(), 255);
        }
    }
}

/// A security context as Go's struct prints.
fn shown_context(context: &SecurityContext) -> Value {
    let capabilities = context
        .capabilities
        .as_ref()
        .map(|c| json!({"Add": c.add, "Drop": c.drop}));
    let labels = context.se_linux_options.as_ref().map(|o| {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        json!({
            "User": text(&o.user), "Role": text(&o.role), "Type": text(&o.type_),
            "Level": text(&o.level),
        })
    });
    let windows = context.windows_options.as_ref().map(|o| {
        json!({
            "GMSACredentialSpecName": o.gmsa_credential_spec_name,
            "GMSACredentialSpec": o.gmsa_credential_spec,
            "RunAsUserName": o.run_as_user_name,
            "HostProcess": o.host_process,
        })
    });
    let seccomp = context.seccomp_profile.as_ref();
    let app_armor = context.app_armor_profile.as_ref();
    json!({
        "Capabilities": capabilities,
        "Privileged": context.privileged,
        "SELinuxOptions": labels,
        "WindowsOptions": windows,
        "RunAsUser": context.run_as_user,
        "RunAsGroup": context.run_as_group,
        "RunAsNonRoot": context.run_as_non_root,
        "ReadOnlyRootFilesystem": context.read_only_root_filesystem,
        "AllowPrivilegeEscalation": context.allow_privilege_escalation,
        "ProcMount": context.proc_mount,
        "SeccompProfile":
            seccomp.map(|p| json!({"Type": p.type_, "LocalhostProfile": p.localhost_profile})),
        "AppArmorProfile":
            app_armor.map(|p| json!({"Type": p.type_, "LocalhostProfile": p.localhost_profile})),
    })
}

/// `ValidateSecurityContext`.
fn security_context(context: &SecurityContext, host_users: bool, at: &At<'_>, errors: &mut Errors) {
    let most = i64::from(i32::MAX);
    for (field, id) in [
        ("runAsUser", context.run_as_user),
        ("runAsGroup", context.run_as_group),
    ] {
        if let Some(id) = id {
            errors.invalid_each(&at.field(field), &id, in_range(id, 0, most));
        }
    }
    if let Some(mount) = &context.proc_mount {
        let at = at.field("procMount");
        if !matches!(mount.as_str(), "Default" | "Unmasked") {
            errors.not_supported(&at, mount, &["Default", "Unmasked"]);
        }
        if mount == "Unmasked" && host_users {
            errors.invalid(&at, mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    seccomp(
        &context.seccomp_profile,
        &at.field("seccompProfile"),
        errors,
    );
    if context.allow_privilege_escalation == Some(false) {
        let shown = shown_context(context);
        if context.privileged == Some(true) {
            errors.invalid(
                at,
                &shown,
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            );
        }
        let added = context.capabilities.as_ref().and_then(|c| c.add.as_ref());
        if added.is_some_and(|added| added.iter().any(|c| c == "CAP_SYS_ADMIN")) {
            errors.invalid(
                at,
                &shown,
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` \
                 CAP_SYS_ADMIN",
            );
        }
    }
    windows::options(
        &context.windows_options,
        &at.field("windowsOptions"),
        errors,
    );
    app_armor(
        &context.app_armor_profile,
        &at.field("appArmorProfile"),
        errors,
    );
}
