//! Environment variables and where their values come from.

use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, ObjectFieldSelector, ResourceFieldSelector,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;

use super::container::no_backsteps;
use super::field::{At, Errors};
use super::names::{config_key, dns_label, dns_subdomain, env_name, label_key, mask_trailing_dash};
use super::resources::amount;

/// What `fieldRef` may name in the environment.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// What `fieldRef` may name in a downward API volume.
pub(super) const VOLUME_FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// What `resourceFieldRef` may name.
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// `ValidateEnv`.
pub(super) fn env(vars: &[EnvVar], at: &At<'_>, errors: &mut Errors) {
    for (i, var) in vars.iter().enumerate() {
        let at = at.item(i);
        if var.name.is_empty() {
            errors.required(&at.field("name"), "");
        } else {
            errors.invalid_each(&at.field("name"), &var.name, env_name(&var.name));
        }
        value_from(var, &at.field("valueFrom"), errors);
    }
}

/// `validateEnvVarValueFrom`.
fn value_from(var: &EnvVar, at: &At<'_>, errors: &mut Errors) {
    let Some(from) = &var.value_from else {
        return;
    };
    let mut sources = 0;
    if let Some(field) = &from.field_ref {
        sources += 1;
        field_ref(field, &FIELDS, &at.field("fieldRef"), errors);
    }
    if let Some(field) = &from.resource_field_ref {
        sources += 1;
        resource_field_ref(field, false, &at.field("resourceFieldRef"), errors);
    }
    if let Some(key) = &from.config_map_key_ref {
        sources += 1;
        key_ref(&key.name, &key.key, &at.field("configMapKeyRef"), errors);
    }
    if let Some(key) = &from.secret_key_ref {
        sources += 1;
        key_ref(&key.name, &key.key, &at.field("secretKeyRef"), errors);
    }
    if let Some(file) = &from.file_key_ref {
        sources += 1;
        let at = at.field("fileKeyRef");
        for (field, value, messages) in [
            ("key", &file.key, env_name(&file.key)),
            (
                "volumeName",
                &file.volume_name,
                dns_label(&file.volume_name),
            ),
        ] {
            if value.is_empty() {
                errors.required(&at.field(field), "");
            } else {
                errors.invalid_each(&at.field(field), value, messages);
            }
        }
        if file.path.is_empty() {
            errors.required(&at.field("path"), "");
        } else {
            no_backsteps(&file.path, &at.field("path"), errors);
        }
    }
    let value = var.value.as_deref().unwrap_or_default();
    if sources == 0 {
        errors.invalid(
            at,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, \
             `secretKeyRef` or `fileKeyRef`",
        );
    } else if !value.is_empty() {
        errors.invalid(at, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        errors.invalid(
            at,
            "",
            "may not have more than one field specified at a time",
        );
    }
}

/// `validateConfigMapKeySelector` and `validateSecretKeySelector`.
fn key_ref(name: &str, key: &str, at: &At<'_>, errors: &mut Errors) {
    errors.invalid_each(&at.field("name"), name, dns_subdomain(name));
    if key.is_empty() {
        errors.required(&at.field("key"), "");
    } else {
        errors.invalid_each(&at.field("key"), key, config_key(key));
    }
}

/// `validateObjectFieldSelector`.
pub(super) fn field_ref(
    field: &ObjectFieldSelector,
    allowed: &[&str],
    at: &At<'_>,
    errors: &mut Errors,
) {
    let path_at = at.field("fieldPath");
    let version = field.api_version.as_deref().unwrap_or_default();
    if version.is_empty() {
        errors.required(&at.field("apiVersion"), "");
        return;
    }
    if field.field_path.is_empty() {
        errors.required(&path_at, "");
        return;
    }
    let convert = |message: String, errors: &mut Errors| {
        let detail = format!("error converting fieldPath: {message}");
        errors.invalid(&path_at, &field.field_path, &detail);
    };
    if version != "v1" {
        convert(format!("unsupported pod version: {version}"), errors);
        return;
    }
    // `fieldpath.SplitMaybeSubscriptedPath`: `path['key']`.
    let subscripted = field
        .field_path
        .strip_suffix("']")
        .and_then(|p| p.split_once("['"));
    match subscripted {
        Some(("metadata.annotations", key)) => {
            errors.invalid_each(at, key, label_key(&key.to_lowercase()));
        }
        Some(("metadata.labels", key)) => errors.invalid_each(at, key, label_key(key)),
        Some((path, _)) => {
            convert(
                format!("field label does not support subscript: {path}"),
                errors,
            );
        }
        None => {
            // `spec.host` is the old name of `spec.nodeName`.
            let path = match field.field_path.as_str() {
                "spec.host" => "spec.nodeName",
                path => path,
            };
            let known = FIELDS.contains(&path)
                || VOLUME_FIELDS.contains(&path)
                || matches!(
                    path,
                    "spec.restartPolicy" | "spec.schedulerName" | "status.phase"
                );
            if !known {
                convert(format!("field label not supported: {path}"), errors);
            } else if !allowed.contains(&path) {
                errors.not_supported(&path_at, path, allowed);
            }
        }
    }
}

/// `validateContainerResourceFieldSelector`.
pub(super) fn resource_field_ref(
    field: &ResourceFieldSelector,
    volume: bool,
    at: &At<'_>,
    errors: &mut Errors,
) {
    let huge = |name: &str| {
        name.starts_with("requests.hugepages-") || name.starts_with("limits.hugepages-")
    };
    let name = field.resource.as_str();
    if volume && field.container_name.as_deref().is_none_or(str::is_empty) {
        errors.required(&at.field("containerName"), "");
    } else if name.is_empty() {
        errors.required(&at.field("resource"), "");
    } else if !RESOURCES.contains(&name) && !huge(name) {
        errors.not_supported(&at.field("resource"), name, &RESOURCES);
    }
    if let Some(divisor) = &field.divisor {
        self::divisor(name, divisor, &at.field("divisor"), errors);
    }
}

/// `validateContainerResourceDivisor`.
fn divisor(name: &str, divisor: &Written, at: &At<'_>, errors: &mut Errors) {
    if amount(divisor).nanos() == 0 {
        return;
    }
    const SIZES: [&str; 13] = [
        "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
    ];
    let kind = name.split_once('.').map_or("", |(_, kind)| kind);
    let (good, of) = match kind {
        "cpu" => (matches!(divisor.0.as_str(), "1" | "1m"), "cpu"),
        "memory" => (SIZES.contains(&divisor.0.as_str()), "memory"),
        "ephemeral-storage" => (
            SIZES.contains(&divisor.0.as_str()),
            "local ephemeral storage",
        ),
        kind if kind.starts_with("hugepages-") => {
            (SIZES.contains(&divisor.0.as_str()), "hugepages")
        }
        _ => return,
    };
    if !good {
        let values = match of {
            "cpu" => "1m and 1".to_owned(),
            _ => SIZES.join(", "),
        };
        let detail = format!("only divisor's values {values} are supported with the {of} resource");
        errors.invalid(at, name, &detail);
    }
}

/// `ValidateEnvFrom`.
pub(super) fn env_from(sources: &[EnvFromSource], at: &At<'_>, errors: &mut Errors) {
    for (i, source) in sources.iter().enumerate() {
        let item = at.item(i);
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if !prefix.is_empty() {
            errors.invalid_each(&item.field("prefix"), prefix, env_name(prefix));
        }
        let map = source
            .config_map_ref
            .as_ref()
            .map(|map| ("configMapRef", &map.name));
        let secret = source
            .secret_ref
            .as_ref()
            .map(|secret| ("secretRef", &secret.name));
        for (field, name) in [map, secret].into_iter().flatten() {
            let of = item.field(field);
            let at = of.field("name");
            if name.is_empty() {
                errors.required(&at, "");
            } else {
                // Upstream judges it as a prefix of a name.
                let masked = mask_trailing_dash(name);
                errors.invalid_each(&at, name, dns_subdomain(&masked));
            }
        }
        match (map, secret) {
            (None, None) => {
                errors.invalid(at, "", "must specify one of: `configMapRef` or `secretRef`");
            }
            (Some(_), Some(_)) => {
                errors.invalid(
                    at,
                    "",
                    "may not have more than one field specified at a time",
                );
            }
            _ => {}
        }
    }
}
