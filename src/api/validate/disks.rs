//! Storage by maker: the volume sources that belong to one product or protocol, in pods and in
//! PersistentVolumes.
//!
//! The functions `validateISCSIVolumeSource` to `validateScaleIOPersistentVolumeSource` of
//! `pkg/apis/core/validation/validation.go`. A pod's source and a PersistentVolume's have the same
//! fields but for references to secrets, so both are read as JSON, by the same rules. It does not
//! know which of several sources counts; [`super::volumes`] and [`super::storage`] do.

use serde_json::{Map, Value};

use super::field::{At, Errors};
use super::names::{dns_label, in_range};

/// Whose source it is.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Of {
    /// A pod's.
    Pod,
    /// A PersistentVolume's.
    Volume,
}

/// Fields that must not be empty, by kind of source.
const REQUIRED: &[(&str, &[&str])] = &[
    ("glusterfs", &["endpoints", "path"]),
    ("rbd", &["monitors", "image"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &["monitors"]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("iscsi", &["targetPortal", "iqn"]),
];

struct Source<'a> {
    fields: &'a Map<String, Value>,
    of: Of,
    at: &'a At<'a>,
}

impl Source<'_> {
    fn text(&self, field: &str) -> &str {
        let value = self.fields.get(field).and_then(Value::as_str);
        value.unwrap_or_default()
    }

    /// Text that upstream tells from its absence.
    fn given(&self, field: &str) -> Option<&str> {
        self.fields.get(field).and_then(Value::as_str)
    }

    fn number(&self, field: &str) -> Option<i64> {
        self.fields.get(field).and_then(Value::as_i64)
    }

    fn is_true(&self, field: &str) -> bool {
        self.fields.get(field).and_then(Value::as_bool) == Some(true)
    }

    fn list(&self, field: &str) -> &[Value] {
        let value = self.fields.get(field).and_then(Value::as_array);
        value.map(Vec::as_slice).unwrap_or_default()
    }

    /// The parts of a reference to a secret must be there.
    fn secret(&self, parts: &[&str], errors: &mut Errors) {
        let Some(secret) = self.fields.get("secretRef") else {
            return;
        };
        let at = self.at.field("secretRef");
        for part in parts {
            if secret[*part].as_str().is_none_or(str::is_empty) {
                errors.required(&at.field(part), "");
            }
        }
    }
}

/// Checks the source `kind` of an object called `name`; other kinds are not looked at.
pub(super) fn source(
    kind: &str,
    value: &Value,
    (of, name): (Of, &str),
    at: &At<'_>,
    errors: &mut Errors,
) {
    let empty = Map::new();
    let source = Source {
        fields: value.as_object().unwrap_or(&empty),
        of,
        at,
    };
    let required = REQUIRED.iter().find(|(known, _)| *known == kind);
    for field in required.into_iter().flat_map(|(_, fields)| *fields) {
        if source.text(field).is_empty() && source.list(field).is_empty() {
            errors.required(&at.field(field), "");
        }
    }
    match kind {
        "iscsi" => iscsi(&source, name, errors),
        "fc" => fibre_channel(&source, errors),
        "quobyte" => quobyte(&source, errors),
        "glusterfs" => glusterfs(&source, errors),
        "flocker" => flocker(&source, errors),
        "cinder" => match of {
            Of::Pod => source.secret(&["name"], errors),
            Of::Volume => source.secret(&["name", "namespace"], errors),
        },
        "flexVolume" => flex(&source, errors),
        "azureFile" if of == Of::Volume && source.given("secretNamespace") == Some("") => {
            errors.required(&at.field("secretNamespace"), "");
        }
        "azureDisk" => azure_disk(&source, errors),
        "storageos" => storage_os(&source, errors),
        _ => {}
    }
}

/// `iscsi.initiatorName` with a portal: the names together are a session's.
pub(super) fn session_too_long(iscsi: &Value, name: &str) -> bool {
    let portal = iscsi["targetPortal"].as_str().unwrap_or_default();
    iscsi.get("initiatorName").is_some() && name.len() + 1 + portal.len() > 64
}

/// What is said of a session's names that are too long.
pub(super) const SESSION_TOO_LONG: &str = "Total length of <volume name>:<iscsi.targetPortal> \
                                           must be under 64 characters if iscsi.initiatorName is \
                                           specified.";

fn iscsi(source: &Source<'_>, name: &str, errors: &mut Errors) {
    let at = source.at;
    if source.of == Of::Volume && session_too_long(&Value::from(source.fields.clone()), name) {
        let portal = source.text("targetPortal");
        errors.invalid(&at.field("targetportal"), portal, SESSION_TOO_LONG);
    }
    let unknown = match source.of {
        Of::Pod => "must be valid format starting with iqn, eui, or naa",
        Of::Volume => "must be valid format",
    };
    let target = source.text("iqn");
    if !target.is_empty() {
        initiator(target, unknown, &at.field("iqn"), errors);
    }
    let unit = source.number("lun").unwrap_or(0);
    errors.invalid_each(&at.field("lun"), &unit, in_range(unit, 0, 255));
    let authenticates = source.is_true("chapAuthDiscovery") || source.is_true("chapAuthSession");
    if authenticates && source.fields.get("secretRef").is_none() {
        errors.required(&at.field("secretRef"), "");
    }
    if source.of == Of::Volume {
        source.secret(&["name"], errors);
    }
    if let Some(own) = source.given("initiatorName") {
        initiator(own, unknown, &at.field("initiatorname"), errors);
    }
}

/// The three ways to name an end of iSCSI.
fn initiator(name: &str, unknown: &str, at: &At<'_>, errors: &mut Errors) {
    // Any one byte, then letters and digits, as many as the name has.
    let long = |text: &str, length: usize| {
        let mut rest = text.chars();
        rest.next().is_some()
            && rest.as_str().len() == length
            && rest.all(|c| c.is_ascii_alphanumeric())
    };
    let good = match name.get(..3) {
        Some("iqn") => qualified(&name[3..]),
        Some("eui") => long(&name[3..], 16),
        Some("naa") => long(&name[3..], 32),
        _ => {
            errors.invalid(at, name, unknown);
            return;
        }
    };
    if !good {
        errors.invalid(at, name, "must be valid format");
    }
}

/// What follows `iqn`: `.YYYY-MM.` and a reversed domain, with more after a colon:
/// `iqn\.\d{4}-\d{2}\.([[:alnum:]-.]+)(:[^,;*&$|\s]+)$`.
fn qualified(rest: &str) -> bool {
    let bytes = rest.as_bytes();
    let digits = |range: std::ops::Range<usize>| {
        bytes
            .get(range)
            .is_some_and(|b| b.iter().all(u8::is_ascii_digit))
    };
    let dated = bytes.first() == Some(&b'.')
        && digits(1..5)
        && bytes.get(5) == Some(&b'-')
        && digits(6..8)
        && bytes.get(8) == Some(&b'.');
    let Some((domain, more)) = rest.get(9..).and_then(|rest| rest.split_once(':')) else {
        return false;
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let forbidden = |c: char| ",;*&$|".contains(c) || c.is_ascii_whitespace();
    let named = !domain.is_empty() && domain.chars().all(plain);
    dated && named && !more.is_empty() && !more.contains(forbidden)
}

/// `validateFCVolumeSource`.
fn fibre_channel(source: &Source<'_>, errors: &mut Errors) {
    let (targets, ids) = (source.list("targetWWNs"), source.list("wwids"));
    let at = source.at.field("targetWWNs");
    if targets.is_empty() && ids.is_empty() {
        let detail = "must specify either targetWWNs or wwids, but not both";
        errors.required(&at, detail);
    }
    if targets.is_empty() {
        return;
    }
    if !ids.is_empty() {
        let detail = "targetWWNs and wwids can not be specified simultaneously";
        errors.invalid(&at, &Value::from(targets), detail);
    }
    let at = source.at.field("lun");
    match source.number("lun") {
        None => errors.required(&at, "lun is required if targetWWNs is specified"),
        Some(unit) => errors.invalid_each(&at, &unit, in_range(unit, 0, 255)),
    }
}

/// `validateQuobyteVolumeSource`.
fn quobyte(source: &Source<'_>, errors: &mut Errors) {
    let pair = "must be a host:port pair or multiple pairs separated by commas";
    let (registry, at) = (source.text("registry"), source.at);
    if registry.is_empty() {
        errors.required(&at.field("registry"), pair);
    } else if source.text("tenant").len() > 64 {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        errors.required(&at.field("tenant"), detail);
    } else {
        for _ in registry.split(',').filter(|part| !host_and_port(part)) {
            errors.invalid(&at.field("registry"), registry, pair);
        }
    }
    if source.text("volume").is_empty() {
        errors.required(&at.field("volume"), "");
    }
}

/// Whether Go's `net.SplitHostPort` takes it.
fn host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let host = match host.strip_prefix('[') {
        Some(inner) => match inner.strip_suffix(']') {
            Some(inner) => inner,
            None => return false,
        },
        None if host.contains(':') => return false,
        None => host,
    };
    !host.contains(['[', ']']) && !port.contains(['[', ']'])
}

/// `validateGlusterfsPersistentVolumeSource`.
fn glusterfs(source: &Source<'_>, errors: &mut Errors) {
    if source.of == Of::Pod {
        return;
    }
    let at = source.at.field("endpointsNamespace");
    match source.given("endpointsNamespace") {
        Some("") => {
            let detail = "if the endpointnamespace is set, it must be a valid namespace name";
            errors.invalid(&at, "", detail);
        }
        Some(namespace) => errors.invalid_each(&at, namespace, dns_label(namespace)),
        None => {}
    }
}

/// `validateFlockerVolumeSource`.
fn flocker(source: &Source<'_>, errors: &mut Errors) {
    let (name, uuid) = (source.text("datasetName"), source.text("datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        let detail = "one of datasetName and datasetUUID is required";
        errors.required(source.at, detail);
    }
    if !name.is_empty() && !uuid.is_empty() {
        let detail = "datasetName and datasetUUID can not be specified simultaneously";
        errors.invalid(source.at, "resource", detail);
    }
    if name.contains('/') {
        errors.invalid(
            &source.at.field("datasetName"),
            name,
            "must not contain '/'",
        );
    }
}

/// `validateFlexVolumeSource`.
fn flex(source: &Source<'_>, errors: &mut Errors) {
    let options = source.fields.get("options").and_then(Value::as_object);
    for key in options.into_iter().flat_map(Map::keys) {
        let owner = key.split_once('/').map_or(key.as_str(), |(owner, _)| owner);
        let owner = format!(".{}", owner.to_lowercase());
        if owner.ends_with(".kubernetes.io") || owner.ends_with(".k8s.io") {
            let at = source.at.field("options");
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            errors.invalid(&at.key(key), key, detail);
        }
    }
}

/// `validateAzureDisk`.
fn azure_disk(source: &Source<'_>, errors: &mut Errors) {
    let at = source.at;
    for (field, all) in [
        ("cachingMode", ["None", "ReadOnly", "ReadWrite"]),
        ("kind", ["Dedicated", "Managed", "Shared"]),
    ] {
        if let Some(word) = source.given(field).filter(|word| !all.contains(word)) {
            errors.not_supported(&at.field(field), word, &all);
        }
    }
    let uri = source.text("diskURI");
    let form = match source.given("kind") {
        Some("Managed") if !uri.starts_with("/subscriptions/") => {
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/\
             disks/{disk-id}"
        }
        Some(kind) if kind != "Managed" && !uri.starts_with("https://") => {
            "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
        }
        _ => return,
    };
    errors.not_supported(&at.field("diskURI"), uri, &[form]);
}

/// `validateStorageOSVolumeSource`.
fn storage_os(source: &Source<'_>, errors: &mut Errors) {
    let at = source.at;
    let name = source.text("volumeName");
    if name.is_empty() {
        errors.required(&at.field("volumeName"), "");
    } else {
        errors.invalid_each(&at.field("volumeName"), name, dns_label(name));
    }
    let namespace = source.text("volumeNamespace");
    if !namespace.is_empty() {
        errors.invalid_each(
            &at.field("volumeNamespace"),
            namespace,
            dns_label(namespace),
        );
    }
    match source.of {
        Of::Pod => source.secret(&["name"], errors),
        Of::Volume => source.secret(&["name", "namespace"], errors),
    }
}
