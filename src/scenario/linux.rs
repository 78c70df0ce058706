//! `spec.linux`: what only real runs read.

use std::path::Path;

use super::diagnostic::Diagnostic;
use super::fields::{Fields, Problems, Value};
use super::types::{ImageRule, LinuxSpec};

/// What an image can stand for, and whether a path follows.
const KINDS: [(&str, bool); 5] = [
    ("builtin", false),
    ("host", false),
    ("dir", true),
    ("oci", true),
    ("docker-archive", true),
];

/// Reads `spec.linux`, if it is there, of a scenario in the folder `base`.
pub fn read(value: Option<&Value<'_>>, base: &Path, problems: &mut Problems) -> LinuxSpec {
    let mut spec = LinuxSpec {
        base: base.to_owned(),
        images: Vec::new(),
    };
    let Some(fields) = value.and_then(|value| value.fields(problems)) else {
        return spec;
    };
    for item in fields.list("images", problems) {
        let Some(fields) = item.fields(problems) else {
            continue;
        };
        spec.images.extend(rule(&fields, base, problems));
        fields.finish(problems);
    }
    fields.finish(problems);
    spec
}

fn rule(fields: &Fields<'_>, base: &Path, problems: &mut Problems) -> Option<ImageRule> {
    let name = fields.require("name", problems);
    let name = name.and_then(|value| value.name(problems));
    let from = fields.require("from", problems)?;
    let text = from.name(problems)?;
    let (kind, rest) = text.split_once(':').unwrap_or((text.as_str(), ""));
    let Some((_, path)) = KINDS.iter().find(|(known, _)| *known == kind) else {
        let message = format!("Unsupported value: {text:?}");
        let wrong = Diagnostic::error("FieldValueNotSupported", message, from.span());
        let hint = "builtin, host:COMMAND, dir:FOLDER, oci:PATH[:NAME], docker-archive:FILE[:NAME]";
        let wrong = wrong.at(from.path.as_str()).hint(hint);
        problems.push(wrong.suggest(kind, KINDS.iter().map(|(kind, _)| *kind)));
        return None;
    };
    if *path && rest.is_empty() {
        problems.push(from.invalid(format!("a path must follow {kind}:")));
        return None;
    }
    if *path && !exists(base, rest) {
        let message = format!("{}: no such file or folder", base.join(rest).display());
        let missing = Diagnostic::warning("NotFound", message, from.span());
        problems.push(missing.at(from.path.as_str()).hint("real runs need it"));
    }
    Some(ImageRule {
        name: name?.to_string(),
        from: text.to_string(),
        span: from.span(),
    })
}

/// Whether there is `PATH`, or the path of `PATH:NAME`.
fn exists(base: &Path, text: &str) -> bool {
    let cuts = text.char_indices().filter(|(_, c)| *c == ':');
    let mut paths = cuts.map(|(at, _)| &text[..at]).chain([text]);
    paths.any(|path| !path.is_empty() && base.join(path).exists())
}

/// Whether an image's name is what `pattern` describes, where `*` stands for any characters.
pub fn matches(pattern: &str, name: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(rest) = name.strip_prefix(before) else {
        return false;
    };
    (0..=rest.len())
        .filter(|at| rest.is_char_boundary(*at))
        .any(|at| matches(after, &rest[at..]))
}
