//! Kustomizations: `resources` with edits.
//!
//! Read are `resources`, `bases`, `components`, `patches`, `patchesStrategicMerge`,
//! `patchesJson6902`, `replicas`, `images`, `namePrefix`, `nameSuffix`, `namespace`, `labels`,
//! `commonLabels`, `commonAnnotations`, `configMapGenerator`, `secretGenerator` and
//! `generatorOptions`, in kustomize's order of effects. Any other word is refused by its name.
//!
//! Where to look first: [`build`]; then `edits` (what scenarios have too), `target` (whom an edit
//! is for), `names` (labels, names, namespaces), `references` (what follows names), `generate`.

mod edits;
mod generate;
mod names;
mod references;
mod sha256;
mod target;

use std::path::{Path, PathBuf};

pub use edits::Edits;

use super::diagnostic::Diagnostic;
use super::fields::{Fields, Problems, Value};
use super::files::{Files, KUSTOMIZATIONS, kustomization_of};
use crate::api::yaml::{Node, Span};

/// Words of kustomize that are not supported.
const REFUSED: [&str; 13] = [
    "buildMetadata",
    "configurations",
    "crds",
    "generators",
    "helmCharts",
    "helmChartInflationGenerator",
    "helmGlobals",
    "inventory",
    "openapi",
    "replacements",
    "transformers",
    "validators",
    "vars",
];

/// Builds a kustomization file: what `kubectl kustomize` would print, as documents with places.
/// `from` is where it was named, `stack` what is being built around it.
pub fn build(
    files: &mut Files,
    file: &Path,
    from: Span,
    stack: &mut Vec<PathBuf>,
    problems: &mut Problems,
) -> Vec<Node> {
    let identity = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    if stack.contains(&identity) {
        let message = format!("{} includes itself", file.display());
        let round: Vec<String> = stack
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        let cycle = Diagnostic::error("Cycle", message, from);
        problems.push(cycle.cause(format!("being read: {}", round.join(", "))));
        return Vec::new();
    }
    let documents = match files.documents(file, from) {
        Ok(documents) => documents,
        Err(problem) => {
            problems.push(*problem);
            return Vec::new();
        }
    };
    let Some(document) = documents.first() else {
        let message = format!("{}: the kustomization is empty", file.display());
        problems.push(Diagnostic::error("FieldValueInvalid", message, from));
        return Vec::new();
    };
    stack.push(identity);
    let base = file.parent().unwrap_or(Path::new("")).to_owned();
    let mut objects = one(files, document, &base, stack, problems);
    stack.pop();
    if stack.is_empty() {
        // All of this once, at the very end: `makeCustomizedResMap`.
        generate::add_hashes(&mut objects);
        references::fix(&mut objects, problems);
        names::forget(&mut objects);
    }
    objects
}

fn one(
    files: &mut Files,
    document: &Node,
    base: &Path,
    stack: &mut Vec<PathBuf>,
    problems: &mut Problems,
) -> Vec<Node> {
    let whole = Value {
        node: document,
        path: String::new(),
    };
    let Some(fields) = whole.fields(problems) else {
        return Vec::new();
    };
    fields.allow(&["apiVersion", "kind", "metadata", "sortOptions"]);
    for key in REFUSED {
        if let Some(value) = fields.get(key) {
            let message = "this word of kustomize is not supported";
            let refused = Diagnostic::error("NotModelled", message, value.span()).at(key);
            problems.push(refused.hint("run `kubectl kustomize` and give its output"));
        }
    }
    let mut objects = Vec::new();
    for key in ["resources", "bases"] {
        for item in fields.list(key, problems) {
            objects.extend(resource(files, &item, base, stack, problems));
        }
    }
    generate::generate(files, &fields, base, &mut objects, problems);
    for item in fields.list("components", problems) {
        // A component edits what is there already.
        component(files, &item, base, &mut objects, stack, problems);
    }
    transform(files, &fields, base, &mut objects, problems);
    fields.finish(problems);
    objects
}

/// The edits of a kustomization in kustomize's order (`configureBuiltinTransformers`): patches,
/// then namespace, names, labels and annotations, then JSON patches by their old word, replicas
/// and images.
fn transform(
    files: &mut Files,
    fields: &Fields<'_>,
    base: &Path,
    objects: &mut Vec<Node>,
    problems: &mut Problems,
) {
    let merges = fields.list("patchesStrategicMerge", problems);
    let json = fields.list("patchesJson6902", problems);
    let patches = fields.list("patches", problems);
    let replicas = fields.list("replicas", problems);
    let images = fields.list("images", problems);
    let mut edits = Edits {
        files,
        base,
        namespace: "default",
        lenient: true,
        problems,
    };
    for item in &merges {
        let Some(text) = item.name(edits.problems) else {
            continue;
        };
        // Either the name of a file or the patch itself.
        let patches = match text.contains('\n') {
            true => edits.parse(item, &text).into_iter().collect(),
            false => edits.patch_file(&text, item.span()),
        };
        for patch in patches {
            edits.apply(None, item, &patch, objects);
        }
    }
    edits.patches(&patches, objects);
    names::transform(fields, objects, edits.problems);
    edits.patches(&json, objects);
    edits.replicas(&replicas, objects);
    edits.images(&images, objects);
}

fn resource(
    files: &mut Files,
    item: &Value<'_>,
    base: &Path,
    stack: &mut Vec<PathBuf>,
    problems: &mut Problems,
) -> Vec<Node> {
    let Some(path) = local(item, base, problems) else {
        return Vec::new();
    };
    if path.is_dir() {
        return match kustomization_of(&path) {
            Some(file) => build(files, &file, item.span(), stack, problems),
            None => {
                let wrong = item.invalid("is a folder without a kustomization file");
                problems
                    .push(wrong.hint(format!("it needs one of: {}", KUSTOMIZATIONS.join(", "))));
                Vec::new()
            }
        };
    }
    files.collect(&path, item.span(), stack, problems)
}

/// A path below the kustomization's folder; addresses of other machines are refused.
fn local(item: &Value<'_>, base: &Path, problems: &mut Problems) -> Option<PathBuf> {
    let text = item.name(problems)?;
    let remote = text.contains("://") || text.contains("?ref=") || text.starts_with("git@");
    if remote || text.starts_with("github.com/") {
        let wrong = item.invalid("is on another machine: nothing is downloaded");
        problems.push(wrong.hint("download it and name the file"));
        return None;
    }
    Some(base.join(text.as_str()))
}

fn component(
    files: &mut Files,
    item: &Value<'_>,
    base: &Path,
    objects: &mut Vec<Node>,
    stack: &mut Vec<PathBuf>,
    problems: &mut Problems,
) {
    let Some(path) = local(item, base, problems) else {
        return;
    };
    let Some(file) = kustomization_of(&path) else {
        problems.push(item.invalid("is not a folder with a kustomization file"));
        return;
    };
    let identity = file.canonicalize().unwrap_or_else(|_| file.clone());
    if stack.contains(&identity) {
        problems.push(Diagnostic::error(
            "Cycle",
            "a component includes itself",
            item.span(),
        ));
        return;
    }
    let documents = match files.documents(&file, item.span()) {
        Ok(documents) => documents,
        Err(problem) => {
            problems.push(*problem);
            return;
        }
    };
    stack.push(identity);
    if let Some(document) = documents.first() {
        let fields = Fields::document(document);
        for more in fields.list("resources", problems) {
            objects.extend(resource(files, &more, &path, stack, problems));
        }
        generate::generate(files, &fields, &path, objects, problems);
        for more in fields.list("components", problems) {
            component(files, &more, &path, objects, stack, problems);
        }
        transform(files, &fields, &path, objects, problems);
        fields.allow(&["apiVersion", "kind", "metadata"]);
        fields.finish(problems);
    }
    stack.pop();
}

/// The files beside a kustomization that it uses as patches or generator inputs: they are no
/// objects, so reading the folder plainly passes over them.
pub fn named_files(files: &mut Files, kustomization: &Path) -> Vec<PathBuf> {
    let Ok(documents) = files.documents(kustomization, Span::NONE) else {
        return Vec::new();
    };
    let base = kustomization.parent().unwrap_or(Path::new(""));
    let mut named = Vec::new();
    for fields in documents.iter().map(Fields::document) {
        let problems = &mut Problems::new();
        for item in fields.list("patchesStrategicMerge", problems) {
            named.extend(item.node.as_str().map(str::to_owned));
        }
        for key in ["patches", "patchesJson6902"] {
            for item in fields.list(key, problems) {
                named.extend(
                    item.node
                        .get("path")
                        .and_then(Node::as_str)
                        .map(str::to_owned),
                );
            }
        }
        for key in ["configMapGenerator", "secretGenerator"] {
            for item in fields.list(key, problems) {
                let list = item
                    .node
                    .get("files")
                    .and_then(Node::as_list)
                    .unwrap_or_default();
                named.extend(list.iter().filter_map(|file| {
                    let text = file.as_str()?;
                    Some(
                        text.split_once('=')
                            .map_or(text, |(_, file)| file)
                            .to_owned(),
                    )
                }));
            }
        }
    }
    named.into_iter().map(|name| base.join(name)).collect()
}
