//! Volumes of pods as files and folders of the pod in the cell.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::Planner;
use crate::api::pod::VolumeSource;
use crate::api::quantity::Quantity;
use crate::api::yaml::decode_base64;
use crate::api::{Pod, PodSpec, Text};
use crate::backend::linux::protocol::{File, Mount};

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn mode(value: &Value, key: &str) -> Option<u32> {
    value
        .get(key)
        .and_then(Value::as_u64)
        .and_then(|m| u32::try_from(m & 0o777).ok())
}

/// Whether a pod has files from ConfigMaps or Secrets.
pub fn has_config(spec: &PodSpec) -> bool {
    spec.volumes.iter().any(|volume| {
        matches!(
            volume.source,
            VolumeSource::Config(_) | VolumeSource::Projected(_)
        )
    })
}

/// Folders of a pod's own: `emptyDir`, and empty folders in the place of what a host does not have.
pub fn own_folders(
    spec: &PodSpec,
    lost: &mut BTreeSet<String>,
) -> Vec<(String, Option<u64>, bool)> {
    let mut folders = Vec::new();
    for volume in list(&spec.source, "volumes") {
        let Some(name) = text(volume, "name") else {
            continue;
        };
        if let Some(source) = volume.get("emptyDir") {
            let limit = text(source, "sizeLimit").and_then(|t| Quantity::parse(t).ok());
            let limit = limit
                .and_then(|q| u64::try_from(q.value()).ok())
                .filter(|b| *b > 0);
            let memory = text(source, "medium") == Some("Memory");
            folders.push((name.to_owned(), limit, memory));
            continue;
        }
        let files = ["configMap", "secret", "projected", "downwardAPI"];
        if !files.iter().any(|kind| volume.get(kind).is_some()) {
            let mut kinds = volume.as_object().into_iter().flat_map(|o| o.keys());
            let kind = kinds.find(|k| *k != "name").cloned().unwrap_or_default();
            lost.insert(format!(
                "volumes of kind {kind} are empty folders that end with the pod"
            ));
        }
        folders.push((name.to_owned(), None, false));
    }
    folders
}

impl Planner {
    /// Files of a pod's volumes.
    pub(super) fn volume_files(&self, row: &Arc<Pod>) -> Vec<File> {
        let mut files = Vec::new();
        for volume in list(&row.spec.source, "volumes") {
            let Some(name) = text(volume, "name") else {
                continue;
            };
            let at = format!("volumes/{name}");
            let projected = volume.get("projected");
            let sources = projected.map(|p| list(p, "sources")).into_iter().flatten();
            let default = projected.and_then(|p| mode(p, "defaultMode"));
            for source in sources.chain([volume]) {
                files.extend(self.source_files(row, source, &at, default));
            }
        }
        files
    }

    fn source_files(&self, row: &Pod, source: &Value, at: &str, default: Option<u32>) -> Vec<File> {
        let namespace = &row.meta.namespace;
        let mut files = Vec::new();
        let default_of = |from: &Value| mode(from, "defaultMode").or(default).unwrap_or(0o644);
        if let Some(from) = source.get("configMap") {
            let entries = self.config_entries(namespace, text(from, "name").unwrap_or_default());
            files.extend(chosen(from, &entries, at, default_of(from)));
        }
        if let Some(from) = source.get("secret") {
            let name = text(from, "secretName").or_else(|| text(from, "name"));
            let entries = self.secret_entries(namespace, name.unwrap_or_default());
            files.extend(chosen(from, &entries, at, default_of(from)));
        }
        if let Some(from) = source.get("downwardAPI") {
            for item in list(from, "items") {
                let field = item.get("fieldRef").and_then(|f| text(f, "fieldPath"));
                let (Some(path), Some(field)) = (text(item, "path"), field) else {
                    continue;
                };
                let content = super::env::field(row, field, None).unwrap_or_default();
                files.push(File {
                    path: format!("{at}/{path}"),
                    content: content.into_bytes(),
                    mode: mode(item, "mode").unwrap_or(default_of(from)),
                });
            }
        }
        files
    }

    /// The entries of a ConfigMap.
    pub(super) fn config_entries(&self, namespace: &Text, name: &str) -> Vec<(Text, Vec<u8>)> {
        let key = (namespace.clone(), Text::from(name));
        let Some(map) = self.config_maps.get(&key) else {
            return Vec::new();
        };
        let plain = map.data.iter();
        let plain = plain.map(|(key, value)| (key.clone(), value.as_bytes().to_vec()));
        let binary = map.binary.iter();
        let binary = binary.filter_map(|(key, value)| Some((key.clone(), decode_base64(value)?)));
        plain.chain(binary).collect()
    }

    /// The entries of a Secret, decoded.
    pub(super) fn secret_entries(&self, namespace: &Text, name: &str) -> Vec<(Text, Vec<u8>)> {
        let key = (namespace.clone(), Text::from(name));
        let Some(secret) = self.secrets.get(&key) else {
            return Vec::new();
        };
        let entries = secret.data.iter();
        entries
            .filter_map(|(key, value)| Some((key.clone(), decode_base64(value)?)))
            .collect()
    }
}

/// All entries, or those that `items` names.
fn chosen(from: &Value, entries: &[(Text, Vec<u8>)], at: &str, default: u32) -> Vec<File> {
    let file = |path: &str, content: &Vec<u8>, mode| File {
        path: format!("{at}/{path}"),
        content: content.clone(),
        mode,
    };
    if from.get("items").is_none() {
        return entries
            .iter()
            .map(|(key, value)| file(key, value, default))
            .collect();
    }
    let mut files = Vec::new();
    for item in list(from, "items") {
        let (Some(key), Some(path)) = (text(item, "key"), text(item, "path")) else {
            continue;
        };
        if let Some((_, value)) = entries.iter().find(|(name, _)| **name == *key) {
            files.push(file(path, value, mode(item, "mode").unwrap_or(default)));
        }
    }
    files
}

/// The mounts of a container.
pub fn mounts(container: &Value, files: &[String], lost: &mut BTreeSet<String>) -> Vec<Mount> {
    let mut mounts = Vec::new();
    for mount in list(container, "volumeMounts") {
        let (Some(name), Some(to)) = (text(mount, "name"), text(mount, "mountPath")) else {
            continue;
        };
        if mount.get("subPathExpr").is_some() {
            lost.insert("subPathExpr: the whole volume is mounted".to_owned());
        }
        let sub = text(mount, "subPath")
            .map(|s| format!("/{s}"))
            .unwrap_or_default();
        let config = files.iter().any(|volume| volume == name);
        let read_only = mount
            .get("readOnly")
            .and_then(Value::as_bool)
            .unwrap_or(false);
        mounts.push(Mount {
            from: format!("volumes/{name}{sub}"),
            to: to.to_owned(),
            read_only: read_only || config,
        });
    }
    mounts
}

/// Names of the volumes whose files are written by the kubelet.
pub fn written(spec: &PodSpec) -> Vec<String> {
    let kinds = ["configMap", "secret", "projected", "downwardAPI"];
    list(&spec.source, "volumes")
        .filter(|volume| kinds.iter().any(|kind| volume.get(kind).is_some()))
        .filter_map(|volume| text(volume, "name").map(str::to_owned))
        .collect()
}
