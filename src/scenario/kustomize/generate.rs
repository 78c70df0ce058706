//! `configMapGenerator`, `secretGenerator`, and the hash of the content in their names.
//!
//! As in kustomize, the hash is taken when everything else is done (so that prefixes and labels
//! have had their effect), and every reference to the object follows its new name.

use std::path::Path;

use serde_json::{Map, Value as Json};

use super::names::{kind as kind_of, previous, set_name, visit};
use super::sha256::sha256;
use crate::api::yaml::{Node, Span};
use crate::scenario::diagnostic::Diagnostic;
use crate::scenario::fields::{Fields, Problems, Value};
use crate::scenario::files::Files;

/// Marks a generated object that still needs its hash.
const NEEDS_HASH: &str = "internal.config.kubernetes.io/needsHashSuffix";

/// Runs both generators.
pub fn generate(
    files: &mut Files,
    fields: &Fields<'_>,
    base: &Path,
    objects: &mut Vec<Node>,
    problems: &mut Problems,
) {
    let options = fields.fields("generatorOptions", problems);
    let options = options
        .map(|fields| Options::read(&fields, problems))
        .unwrap_or_default();
    for (key, kind) in [
        ("configMapGenerator", "ConfigMap"),
        ("secretGenerator", "Secret"),
    ] {
        for item in fields.list(key, problems) {
            one(files, kind, &item, base, &options, objects, problems);
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Options {
    labels: Vec<(String, Node)>,
    annotations: Vec<(String, Node)>,
    no_hash: bool,
    immutable: bool,
}

impl Options {
    fn read(fields: &Fields<'_>, problems: &mut Problems) -> Options {
        let pairs = |key| {
            let map = fields
                .get(key)
                .and_then(|value: Value<'_>| value.node.as_map());
            map.into_iter()
                .flatten()
                .map(|(k, e)| (k.to_string(), e.node.clone()))
                .collect()
        };
        let options = Options {
            labels: pairs("labels"),
            annotations: pairs("annotations"),
            no_hash: fields
                .flag("disableNameSuffixHash", problems)
                .unwrap_or(false),
            immutable: fields.flag("immutable", problems).unwrap_or(false),
        };
        fields.finish(problems);
        options
    }

    fn and(&self, more: Options) -> Options {
        let mut all = self.clone();
        all.labels.extend(more.labels);
        all.annotations.extend(more.annotations);
        all.no_hash |= more.no_hash;
        all.immutable |= more.immutable;
        all
    }
}

fn one(
    files: &mut Files,
    kind: &str,
    item: &Value<'_>,
    base: &Path,
    options: &Options,
    objects: &mut Vec<Node>,
    problems: &mut Problems,
) {
    let Some(fields) = item.fields(problems) else {
        return;
    };
    let own = fields.fields("options", problems);
    let options = match own.map(|fields| Options::read(&fields, problems)) {
        Some(own) => options.and(own),
        None => options.clone(),
    };
    let name = fields
        .require("name", problems)
        .and_then(|value| value.name(problems));
    let namespace = fields.text("namespace", problems);
    let words = ["create", "merge", "replace"];
    let behavior = fields
        .get("behavior")
        .and_then(|value| value.word(&words, problems));
    let kind_of_secret = match kind {
        "Secret" => Some(
            fields
                .text("type", problems)
                .unwrap_or_else(|| "Opaque".into()),
        ),
        _ => None,
    };
    let pairs = content(files, &fields, base, item.span(), problems);
    fields.finish(problems);
    let Some(name) = name else {
        return;
    };
    let span = item.span();
    let mut object = new_object(kind, &name, namespace.as_deref(), span);
    fill(&mut object, kind, pairs);
    if let Some(kind) = kind_of_secret {
        object.set("type", Node::text(&kind, span));
    }
    if options.immutable {
        object.set(
            "immutable",
            Node::new(crate::api::yaml::NodeValue::Bool(true), span),
        );
    }
    decorate(&mut object, &options);
    place(
        object,
        behavior.unwrap_or("create"),
        item,
        objects,
        problems,
    );
}

/// Puts contents in place: text into `data`, other bytes into `binaryData`; Secrets are encoded.
fn fill(object: &mut Node, kind: &str, pairs: Vec<(String, Vec<u8>)>) {
    let span = object.span;
    let mut data = Node::empty_map(span);
    let mut binary = Node::empty_map(span);
    for (key, bytes) in pairs {
        match (kind, std::str::from_utf8(&bytes)) {
            ("ConfigMap", Ok(text)) => data.set(&key, Node::text(text, span)),
            ("ConfigMap", Err(_)) => binary.set(&key, Node::text(&base64(&bytes), span)),
            _ => data.set(&key, Node::text(&base64(&bytes), span)),
        }
    }
    for (key, map) in [("data", data), ("binaryData", binary)] {
        if map.as_map().is_some_and(|map| !map.is_empty()) {
            object.set(key, map);
        }
    }
}

fn new_object(kind: &str, name: &str, namespace: Option<&str>, span: Span) -> Node {
    let mut metadata = Node::empty_map(span);
    metadata.set("name", Node::text(name, span));
    if let Some(namespace) = namespace {
        metadata.set("namespace", Node::text(namespace, span));
    }
    let mut object = Node::empty_map(span);
    object.set("apiVersion", Node::text("v1", span));
    object.set("kind", Node::text(kind, span));
    object.set("metadata", metadata);
    object
}

fn decorate(object: &mut Node, options: &Options) {
    let span = object.span;
    let Some(metadata) = object.get_mut("metadata") else {
        return;
    };
    let mut annotations = options.annotations.clone();
    if !options.no_hash {
        annotations.push((NEEDS_HASH.to_owned(), Node::text("enabled", span)));
    }
    for (key, pairs) in [("labels", &options.labels), ("annotations", &annotations)] {
        let mut map = metadata
            .get(key)
            .cloned()
            .unwrap_or_else(|| Node::empty_map(span));
        for (key, value) in pairs {
            map.set(key, value.clone());
        }
        if !pairs.is_empty() {
            metadata.set(key, map);
        }
    }
}

/// Adds the object, or puts it into the one of the same name that is there.
fn place(
    object: Node,
    behavior: &str,
    item: &Value<'_>,
    objects: &mut Vec<Node>,
    problems: &mut Problems,
) {
    let identity = |object: &Node| {
        let text = |path| object.at(path).and_then(Node::as_str).unwrap_or_default();
        let namespace = text("metadata.namespace").to_owned();
        (text("metadata.name").to_owned(), namespace)
    };
    // An object is found by any name that it has had.
    let mine = identity(&object);
    let there = objects.iter_mut().find(|other| {
        kind_of(other) == kind_of(&object)
            && (identity(other) == mine || previous(other).contains(&mine))
    });
    match (behavior, there) {
        ("create", None) => objects.push(object),
        ("create", Some(_)) => problems.push(item.invalid("an object of this name exists already")),
        (_, None) => problems.push(item.invalid("there is no object of this name to change")),
        ("replace", Some(old)) => {
            merge_metadata(old, &object);
            for key in ["data", "binaryData", "type", "immutable"] {
                old.remove(key);
                if let Some(value) = object.get(key) {
                    old.set(key, value.clone());
                }
            }
        }
        (_, Some(old)) => {
            merge_metadata(old, &object);
            for key in ["data", "binaryData"] {
                let Some(new) = object.get(key).and_then(Node::as_map) else {
                    continue;
                };
                let mut map = old
                    .get(key)
                    .cloned()
                    .unwrap_or_else(|| Node::empty_map(old.span));
                for (key, entry) in new {
                    map.set(key, entry.node.clone());
                }
                old.set(key, map);
            }
        }
    }
}

/// `CopyMergeMetaDataFieldsFrom`: labels and annotations of both, the name of the old one.
fn merge_metadata(old: &mut Node, new: &Node) {
    for key in ["labels", "annotations"] {
        let more = new.get("metadata").and_then(|metadata| metadata.get(key));
        let Some(more) = more.and_then(Node::as_map) else {
            continue;
        };
        visit(old, &["metadata", key], true, &mut |map| {
            for (key, entry) in more {
                map.set(key, entry.node.clone());
            }
        });
    }
}

/// Keys and contents: `literals`, `files`, `envs` and `env`.
fn content(
    files: &mut Files,
    fields: &Fields<'_>,
    base: &Path,
    span: Span,
    problems: &mut Problems,
) -> Vec<(String, Vec<u8>)> {
    let mut pairs = Vec::new();
    let mut envs = fields.list("envs", problems);
    envs.extend(fields.get("env"));
    for item in envs {
        let Some(bytes) = input(
            files,
            &item,
            item.node.as_str().unwrap_or(""),
            base,
            problems,
        ) else {
            continue;
        };
        let text = String::from_utf8_lossy(&bytes);
        for line in text.trim_start_matches('\u{feff}').lines() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            pairs.push((key.to_owned(), value.as_bytes().to_vec()));
        }
    }
    for item in fields.list("literals", problems) {
        let Some(text) = item.text(problems) else {
            continue;
        };
        let Some((key, value)) = text.split_once('=') else {
            problems.push(item.invalid("must be key=value"));
            continue;
        };
        let quoted = |mark| {
            value
                .strip_prefix(mark)
                .and_then(|rest| rest.strip_suffix(mark))
        };
        let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
        pairs.push((key.to_owned(), value.as_bytes().to_vec()));
    }
    for item in fields.list("files", problems) {
        let Some(text) = item.name(problems) else {
            continue;
        };
        let (key, file) = match text.split_once('=') {
            Some((key, file)) => (key, file),
            None => (text.rsplit('/').next().unwrap_or(&text), text.as_str()),
        };
        if let Some(bytes) = input(files, &item, file, base, problems) {
            pairs.push((key.to_owned(), bytes));
        }
    }
    for (at, (key, _)) in pairs.iter().enumerate() {
        if pairs[..at].iter().any(|(before, _)| before == key) {
            let message = format!("two of its entries have the key {key}");
            problems.push(Diagnostic::error("Duplicate", message, span));
        }
    }
    pairs
}

fn input(
    files: &mut Files,
    item: &Value<'_>,
    name: &str,
    base: &Path,
    problems: &mut Problems,
) -> Option<Vec<u8>> {
    match files.bytes(&base.join(name), item.span()) {
        Ok(bytes) => Some(bytes),
        Err(problem) => {
            problems.push(*problem);
            None
        }
    }
}

/// Appends the hash of its content to the name of every generated object that wants one.
pub fn add_hashes(objects: &mut [Node]) {
    for object in objects.iter_mut() {
        let mark = object
            .at("metadata.annotations")
            .and_then(|a| a.get(NEEDS_HASH));
        if mark.is_none() {
            continue;
        }
        if let Some(metadata) = object.get_mut("metadata")
            && let Some(annotations) = metadata.get_mut("annotations")
        {
            annotations.remove(NEEDS_HASH);
            if annotations.as_map().is_some_and(|map| map.is_empty()) {
                metadata.remove("annotations");
            }
        }
        let name = object.at("metadata.name").and_then(Node::as_str);
        let new = format!("{}-{}", name.unwrap_or_default(), hash(object));
        set_name(object, &new);
    }
}

/// kustomize's `api/internal/hasher`: SHA-256 over the sorted JSON of kind, name and content, its
/// first ten hexadecimal digits with the ones that could spell words replaced.
fn hash(object: &Node) -> String {
    let text = |path| object.at(path).and_then(Node::as_str).unwrap_or_default();
    let kind = text("kind");
    let mut body = Map::new();
    // Go prints maps in the order of their keys; these are in it.
    for key in ["binaryData", "data"] {
        match (key, object.get(key)) {
            ("data", None) => body.insert(key.to_owned(), Json::from("")),
            (_, Some(map)) => body.insert(key.to_owned(), sorted(map)),
            (_, None) => None,
        };
    }
    body.insert("kind".to_owned(), kind.into());
    body.insert("name".to_owned(), text("metadata.name").into());
    if kind == "Secret" {
        body.insert("type".to_owned(), text("type").into());
    }
    let json = Json::Object(body).to_string();
    // Go's encoder escapes what HTML would take for markup.
    let json = json
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026");
    let hex: String = sha256(json.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let digit = |c| match c {
        '0' => 'g',
        '1' => 'h',
        '3' => 'k',
        'a' => 'm',
        'e' => 't',
        c => c,
    };
    hex.chars().take(10).map(digit).collect()
}

fn sorted(map: &Node) -> Json {
    let mut pairs: Vec<(String, Json)> = (map.as_map().into_iter().flatten())
        .map(|(key, entry)| (key.to_string(), entry.node.to_json()))
        .collect();
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    Json::Object(pairs.into_iter().collect())
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut word = 0u32;
        for (at, byte) in chunk.iter().enumerate() {
            word |= u32::from(*byte) << (16 - 8 * at);
        }
        for at in 0..4 {
            let index = (word >> (18 - 6 * at)) & 63;
            text.push(match at <= chunk.len() {
                true => char::from(LETTERS[index as usize]),
                false => '=',
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of upstream's own tests (`staging/src/k8s.io/kubectl/pkg/util/hash/hash_test.go`).
    #[test]
    fn a_hash_is_that_of_kustomize() {
        for (data, expected) in [
            (serde_json::json!({"one": ""}), "9g67k2htb6"),
            (
                serde_json::json!({"two": "2", "one": "", "three": "3"}),
                "f5h7t85m9b",
            ),
        ] {
            let object = serde_json::json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": ""},
                "data": data,
            });
            let object = Node::from_json(&object, Span::NONE);
            assert_eq!(hash(&object), expected, "{data}");
        }
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
