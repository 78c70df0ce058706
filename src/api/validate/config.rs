//! ConfigMaps and Secrets.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::Value;

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
        "kubernetes.io/dockercfg" | "kubernetes.io/dockerconfigjson" => {
            let json = object.type_.as_deref() == Some("kubernetes.io/dockerconfigjson");
            let key = [".dockercfg", ".dockerconfigjson"][usize::from(json)];
            needs(key, errors);
            let wrong = data.get(key).and_then(|file| not_an_object(&file.0));
            if let Some(why) = wrong {
                errors.invalid(&data_at.key(key), "<secret contents redacted>", &why);
            }
        }
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

/// What Go's `json.Unmarshal` says about a text that is no JSON object.
fn not_an_object(text: &[u8]) -> Option<String> {
    let error = match serde_json::from_slice::<Value>(text) {
        Ok(Value::Null | Value::Object(_)) => return None,
        Ok(other) => {
            let kind = match other {
                Value::Array(_) => "array",
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                _ => "number",
            };
            let into = "into Go value of type map[string]interface {}";
            return Some(format!("json: cannot unmarshal {kind} {into}"));
        }
        Err(error) => error,
    };
    if error.is_eof() {
        return Some("unexpected end of JSON input".to_owned());
    }
    let line = text
        .split(|b| *b == b'\n')
        .nth(error.line().saturating_sub(1));
    let at = line.and_then(|line| line.get(error.column().saturating_sub(1)));
    let found = char::from(at.copied().unwrap_or(b' '));
    let words = error.to_string();
    let place = [
        ("expected `:`", "after object key"),
        ("expected `,` or `}`", "after object key:value pair"),
        ("expected `,` or `]`", "after array element"),
        (
            "key must be a string",
            "looking for beginning of object key string",
        ),
        ("trailing characters", "after top-level value"),
        (
            "trailing comma",
            match found {
                '}' => "looking for beginning of object key string",
                _ => "looking for beginning of value",
            },
        ),
    ]
    .into_iter()
    .find(|(ours, _)| words.starts_with(ours))
    .map_or("looking for beginning of value", |(_, gos)| gos);
    let escape = if found == '\'' { "\\" } else { "" };
    Some(format!("invalid character '{escape}{found}' {place}"))
}
