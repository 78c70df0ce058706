//! ConfigMaps and Secrets.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use super::field::{At, Errors};
use super::names::config_key;

/// Bytes that an object's entries may have together.
const MAX_SIZE: usize = 1 << 20;

/// `ValidateConfigMap`, without the metadata.
pub fn config_map(object: &ConfigMap, at: &At<'_>, errors: &mut Errors) {
    let mut size = 0;
    let data = at.field("data");
    for (key, value) in object.data.iter().flatten() {
        let at = data.key(key);
        errors.invalid_each(&at, key, config_key(key));
        if object
            .binary_data
            .as_ref()
            .is_some_and(|binary| binary.contains_key(key))
        {
            errors.invalid(&at, key, "duplicate of key present in binaryData");
        }
        size += value.len();
    }
    let binary = at.field("binaryData");
    for (key, value) in object.binary_data.iter().flatten() {
        errors.invalid_each(&binary.key(key), key, config_key(key));
        size += value.0.len();
    }
    if size > MAX_SIZE {
        errors.too_long(at, MAX_SIZE);
    }
}

/// `ValidateSecret`, without the metadata.
pub fn secret(object: &Secret, at: &At<'_>, errors: &mut Errors) {
    let data = object.data.clone().unwrap_or_default();
    let data_at = at.field("data");
    for key in data.keys() {
        errors.invalid_each(&data_at.key(key), key, config_key(key));
    }
    if data.values().map(|value| value.0.len()).sum::<usize>() > MAX_SIZE {
        errors.too_long(&data_at, MAX_SIZE);
    }
    let needs = |key: &str, errors: &mut Errors| {
        if !data.contains_key(key) {
            errors.required(&data_at.key(key), "");
        }
    };
    match object.type_.as_deref().unwrap_or_default() {
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            let annotations = object.metadata.annotations.as_ref();
            if annotations
                .and_then(|a| a.get(key))
                .is_none_or(String::is_empty)
            {
                let metadata = at.field("metadata");
                errors.required(&metadata.field("annotations").key(key), "");
            }
        }
        "kubernetes.io/dockercfg" => needs(".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => needs(".dockerconfigjson", errors),
        "kubernetes.io/basic-auth"
            if !data.contains_key("username") && !data.contains_key("password") =>
        {
            needs("username", errors);
            needs("password", errors);
        }
        "kubernetes.io/ssh-auth"
            if data
                .get("ssh-privatekey")
                .is_none_or(|key| key.0.is_empty()) =>
        {
            errors.required(&data_at.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            needs("tls.crt", errors);
            needs("tls.key", errors);
        }
        _ => {}
    }
}
