//! The edits that a scenario and a kustomization share: `replicas`, `images`, `patches`.

use std::path::Path;

use super::names;
use super::target::Target;
use crate::api::patch;
use crate::api::yaml::{Limits, Node, NodeValue, Span, parse_document};
use crate::scenario::diagnostic::{Diagnostic, Severity};
use crate::scenario::fields::{Fields, Problems, Value};
use crate::scenario::files::Files;

/// What edits need to know.
pub struct Edits<'e> {
    /// Files of patches.
    pub files: &'e mut Files,
    /// The folder that file names start from.
    pub base: &'e Path,
    /// The namespace of objects that name none.
    pub namespace: &'e str,
    /// A target that nothing matches is worth a warning, no more: so kustomize has it.
    pub lenient: bool,
    /// Problems found.
    pub problems: &'e mut Problems,
}

/// Kinds whose `spec.replicas` kustomize sets.
const SCALABLE: &str = "Deployment|ReplicaSet|ReplicationController|StatefulSet";

impl Edits<'_> {
    /// `replicas: [{name, count}]`.
    pub fn replicas(&mut self, items: &[Value<'_>], objects: &mut [Node]) {
        for item in items {
            let Some(fields) = item.fields(self.problems) else {
                continue;
            };
            let name = fields.require("name", self.problems);
            let count = fields.require("count", self.problems);
            let count = count.and_then(|v| Some((v.count(self.problems)?, v.span())));
            fields.finish(self.problems);
            let Some((value, name)) = name.and_then(|v| Some((v.clone(), v.name(self.problems)?)))
            else {
                continue;
            };
            let Some((count, span)) = count else {
                continue;
            };
            let (namespace, plain) = match name.split_once('/') {
                Some((namespace, name)) => (Some(namespace), name),
                None => (None, name.as_str()),
            };
            let target = Target::named(SCALABLE, namespace, plain);
            let mut found = false;
            for object in objects
                .iter_mut()
                .filter(|o| target.takes(o, self.namespace))
            {
                found = true;
                let mut spec = object
                    .get("spec")
                    .cloned()
                    .unwrap_or_else(|| Node::empty_map(span));
                spec.set(
                    "replicas",
                    Node::new(NodeValue::Int(i64::from(count)), span),
                );
                object.set("spec", spec);
            }
            if !found {
                let missing = target.unmatched(objects, &value);
                let message = missing
                    .message
                    .replace(SCALABLE, "Deployment, StatefulSet or ReplicaSet");
                self.problems.push(Diagnostic { message, ..missing });
            }
        }
    }

    /// `patches: [{target, patch | path}]`; also a patch that holds its own kind and name.
    pub fn patches(&mut self, items: &[Value<'_>], objects: &mut Vec<Node>) {
        for item in items {
            let Some(fields) = item.fields(self.problems) else {
                continue;
            };
            let given = fields.get("target");
            let target = match &given {
                Some(value) => match Target::read(value, self.problems) {
                    Some(target) => Some(target),
                    None => continue,
                },
                None => None,
            };
            let patches = self.patch_of(&fields, item);
            let mut keeps = Keeps::default();
            if let Some(options) = fields.fields("options", self.problems) {
                let mut allow = |key| !options.flag(key, self.problems).unwrap_or(false);
                keeps = Keeps {
                    name: allow("allowNameChange"),
                    kind: allow("allowKindChange"),
                };
                options.finish(self.problems);
            }
            fields.finish(self.problems);
            for patch in patches {
                if target.is_none() && patch.as_list().is_some() {
                    let wrong = item.invalid("must name a target: it is a JSON patch");
                    self.problems.push(wrong);
                    continue;
                }
                let value = given.as_ref().unwrap_or(item);
                self.apply_keeping(keeps, target.as_ref(), value, &patch, objects);
            }
        }
    }

    /// The patch of an item: `patch` (text or map) or `path`.
    fn patch_of(&mut self, fields: &Fields<'_>, item: &Value<'_>) -> Vec<Node> {
        match (fields.get("patch"), fields.get("path")) {
            (Some(value), None) => match value.node.as_str() {
                Some(text) => self.parse(&value, text).into_iter().collect(),
                None => vec![value.node.clone()],
            },
            (None, Some(value)) => {
                let Some(name) = value.name(self.problems) else {
                    return Vec::new();
                };
                self.patch_file(&name, value.span())
            }
            _ => {
                self.problems
                    .push(item.invalid("must hold one of patch and path"));
                Vec::new()
            }
        }
    }

    /// The patches in a file.
    pub fn patch_file(&mut self, name: &str, span: Span) -> Vec<Node> {
        let path = self.base.join(name);
        match self.files.documents(&path, span) {
            Ok(documents) => documents.to_vec(),
            Err(problem) => {
                self.problems.push(*problem);
                Vec::new()
            }
        }
    }

    /// A patch in a text of its own; its places are those of that text.
    pub fn parse(&mut self, value: &Value<'_>, text: &str) -> Option<Node> {
        let sources = &mut self.files.sources;
        let name = format!("patch at {}", sources.locate(value.span()));
        let file = sources.add(name);
        sources.keep_text(file, text);
        match parse_document(file, text.as_bytes(), &Limits::default()) {
            Ok(node) => Some(node),
            Err(error) => {
                self.problems
                    .push(Diagnostic::from(error).at(value.path.as_str()));
                None
            }
        }
    }

    /// Applies one patch to all objects that it is meant for; none is an error.
    pub fn apply(
        &mut self,
        target: Option<&Target>,
        value: &Value<'_>,
        patch: &Node,
        objects: &mut Vec<Node>,
    ) {
        self.apply_keeping(Keeps::default(), target, value, patch, objects);
    }

    fn apply_keeping(
        &mut self,
        keeps: Keeps,
        target: Option<&Target>,
        value: &Value<'_>,
        patch: &Node,
        objects: &mut Vec<Node>,
    ) {
        let lenient = self.lenient && target.is_some();
        let own;
        let target = match target {
            Some(target) => target,
            None => {
                own = Target::of_object(patch);
                &own
            }
        };
        let delete = patch.get("$patch").and_then(Node::as_str) == Some("delete");
        let before = objects.len();
        let mut found = false;
        if delete {
            objects.retain(|object| !target.takes(object, self.namespace));
            found = objects.len() < before;
        }
        for object in objects
            .iter_mut()
            .filter(|o| target.takes(o, self.namespace))
        {
            found = true;
            // A patch with an identity of its own may lack what the object says.
            let memory = names::memory(object);
            let done = patch::apply(object, &anonymous(patch, object, keeps));
            names::recall(object, &memory);
            if let Err(error) = done {
                let span = match error.span.is_known() {
                    true => error.span,
                    false => patch.span,
                };
                let failed = Diagnostic::error("BadRequest", error.message, span);
                self.problems.push(failed.at(error.path));
                return;
            }
        }
        if !found {
            let missing = target.unmatched(objects, value);
            self.problems.push(match lenient {
                true => Diagnostic {
                    severity: Severity::Warning,
                    ..missing
                },
                false => missing,
            });
        }
    }

    /// `images: [{name, newName, newTag, digest}]`.
    pub fn images(&mut self, items: &[Value<'_>], objects: &mut [Node]) {
        for item in items {
            let Some(fields) = item.fields(self.problems) else {
                continue;
            };
            let name = fields.require("name", self.problems);
            let name = name.and_then(|value| value.name(self.problems));
            let new_name = fields.text("newName", self.problems);
            let tag = fields
                .get("newTag")
                .and_then(|value| value.scalar(self.problems));
            let digest = fields.text("digest", self.problems);
            let suffix = fields.text("tagSuffix", self.problems);
            fields.finish(self.problems);
            let Some(name) = name else {
                continue;
            };
            // `imagetag/updater.go :: SetImageValue`; the name is a pattern.
            let edit = |image: &str| {
                let (base, old) = split_image(image);
                super::target::matches(&name, base).then(|| {
                    let base = new_name.as_deref().unwrap_or(base);
                    match (&tag, &digest, &suffix) {
                        (Some(tag), Some(digest), _) => format!("{base}:{tag}@{digest}"),
                        (None, Some(digest), _) => format!("{base}@{digest}"),
                        (Some(tag), None, _) => format!("{base}:{tag}"),
                        (None, None, Some(suffix)) => {
                            let tag = old.split('@').next().unwrap_or_default();
                            let colon = if tag.is_empty() { ":" } else { "" };
                            format!("{base}{colon}{tag}{suffix}")
                        }
                        (None, None, None) => format!("{base}{old}"),
                    }
                })
            };
            let mut found = false;
            for object in objects.iter_mut() {
                if names::kind(object) != "CustomResourceDefinition" {
                    found |= edit_images(object, &edit);
                    found |= edit_image_volumes(object, &edit);
                }
            }
            if !found {
                let span = item.span();
                let message = format!("no container has the image {name}");
                self.problems
                    .push(Diagnostic::warning("NotFound", message, span).at(&*item.path));
            }
        }
    }
}

/// What of an object's identity a patch leaves as it is.
#[derive(Clone, Copy)]
struct Keeps {
    name: bool,
    kind: bool,
}

impl Default for Keeps {
    fn default() -> Self {
        Keeps {
            name: true,
            kind: true,
        }
    }
}

/// The patch without the identity that only says whom it is for.
fn anonymous(patch: &Node, object: &Node, keeps: Keeps) -> Node {
    let mut patch = patch.clone();
    if patch.as_map().is_some() {
        for key in ["apiVersion", "kind"].into_iter().filter(|_| keeps.kind) {
            if patch
                .get(key)
                .is_some_and(|kind| object.get(key).is_some_and(|o| !o.same(kind)))
            {
                patch.remove(key);
            }
        }
        let same = |key| {
            let of = |node: &Node| node.get("metadata").and_then(|m| m.get(key)).cloned();
            of(&patch).zip(of(object)).is_none_or(|(a, b)| a.same(&b))
        };
        let (name, namespace) = (same("name"), same("namespace"));
        if let Some(metadata) = patch.get_mut("metadata").filter(|_| keeps.name) {
            for (key, same) in [("name", name), ("namespace", namespace)] {
                if !same {
                    metadata.remove(key);
                }
            }
        }
    }
    patch
}

/// `name`, and `:tag` and `@digest` with their marks.
fn split_image(image: &str) -> (&str, &str) {
    if let Some(at) = image.find('@') {
        let (base, _) = split_image(&image[..at]);
        return image.split_at(base.len());
    }
    let slash = image.rfind('/').map_or(0, |at| at + 1);
    match image[slash..].find(':') {
        Some(at) => image.split_at(slash + at),
        None => (image, ""),
    }
}

/// Rewrites `volumes[].image.reference` of pods and templates.
fn edit_image_volumes(object: &mut Node, edit: &impl Fn(&str) -> Option<String>) -> bool {
    let mut found = false;
    for path in [
        &["spec", "volumes", "image", "reference"][..],
        &["spec", "template", "spec", "volumes", "image", "reference"],
    ] {
        names::visit(object, path, false, &mut |node| {
            if let Some(new) = node.as_str().and_then(edit) {
                *node = Node::text(&new, node.span);
                found = true;
            }
        });
    }
    found
}

/// Rewrites `image` of all containers below `node`.
fn edit_images(node: &mut Node, edit: &impl Fn(&str) -> Option<String>) -> bool {
    let mut found = false;
    match &mut node.value {
        NodeValue::List(items) => {
            for item in items {
                found |= edit_images(item, edit);
            }
        }
        NodeValue::Map(map) => {
            for (key, entry) in map.iter_mut() {
                let containers = matches!(&**key, "containers" | "initContainers");
                if let (true, Some(items)) = (containers, entry.node.as_list_mut()) {
                    for item in items {
                        let new = item.get("image").and_then(|image| {
                            Some(Node::text(&edit(image.as_str()?)?, image.span))
                        });
                        if let Some(new) = new {
                            item.set("image", new);
                            found = true;
                        }
                    }
                } else {
                    found |= edit_images(&mut entry.node, edit);
                }
            }
        }
        _ => {}
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_cut_into_name_and_tag() {
        for (image, base, rest) in [
            ("nginx", "nginx", ""),
            ("nginx:1.2", "nginx", ":1.2"),
            ("host:5000/a/nginx", "host:5000/a/nginx", ""),
            ("host:5000/a/nginx:1", "host:5000/a/nginx", ":1"),
            ("a/b:1@sha256:ff", "a/b", ":1@sha256:ff"),
        ] {
            assert_eq!(split_image(image), (base, rest), "{image}");
        }
    }
}
