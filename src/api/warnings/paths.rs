//! Files of a volume that lie over each other (`warningsForOverlappingVirtualPaths`).

use serde_json::Value;

use super::{list, text};

/// A path in a volume, and what puts it there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Placed {
    path: String,
    source: String,
}

impl std::fmt::Display for Placed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.source.is_empty() {
            true => write!(f, "\"{}\"", self.path),
            false => write!(f, "\"{}\" ({})", self.path, self.source),
        }
    }
}

fn placed(path: &str, source: &str) -> Placed {
    Placed {
        path: path.trim_end_matches('/').to_owned(),
        source: source.to_owned(),
    }
}

fn items(of: &Value, source: &str) -> Vec<Placed> {
    let items = list(of, "items");
    items
        .map(|(_, item)| placed(text(item, "path"), source))
        .collect()
}

/// `checkForOverlap`: those of `before` that `new` lies over, or under.
fn overlaps(before: &[Placed], new: &Placed) -> Vec<Placed> {
    let within = |inner: &str, outer: &str| format!("{inner}/").starts_with(&format!("{outer}/"));
    let over = |old: &&Placed| {
        !old.path.is_empty() && (within(&old.path, &new.path) || within(&new.path, &old.path))
    };
    match new.path.is_empty() {
        true => Vec::new(),
        false => before.iter().filter(over).cloned().collect(),
    }
}

fn collisions(of: impl IntoIterator<Item = Placed>, before: &mut Vec<Placed>) -> Vec<String> {
    let mut said = Vec::new();
    for new in of {
        let over = overlaps(before, &new);
        said.extend(over.iter().map(|old| format!("{new} with {old}")));
        before.push(new);
    }
    said
}

/// The warnings about one volume.
pub(super) fn overlapping(volume: &Value) -> Vec<String> {
    let name = text(volume, "name");
    let warn = |what: &str, said: Vec<String>| -> Vec<String> {
        let each = said.into_iter();
        each.map(|body| format!("volume \"{name}\" ({what}): overlapping paths: {body}"))
            .collect()
    };
    let mut all = Vec::new();
    for (field, called, key) in [
        ("configMap", "ConfigMap", "name"),
        ("secret", "Secret", "secretName"),
        ("downwardAPI", "DownwardAPI", ""),
    ] {
        let said = collisions(items(&volume[field], ""), &mut Vec::new());
        let what = match key {
            "" => called.to_owned(),
            key => format!("{called} \"{}\"", text(&volume[field], key)),
        };
        all.extend(warn(&what, said));
    }
    let mut before = Vec::new();
    for (_, source) in list(&volume["projected"], "sources") {
        if source.as_object().is_none_or(|fields| fields.is_empty()) {
            all.push(format!(
                "volume \"{name}\" (Projected) has no sources provided"
            ));
            continue;
        }
        let said = collisions(projected(source), &mut before);
        all.extend(warn("Projected", said));
    }
    all
}

/// What one source of a projected volume puts there.
fn projected(source: &Value) -> Vec<Placed> {
    let named = |field: &str, called: &str| {
        let of = &source[field];
        (!of["items"].is_null()).then(|| items(of, &format!("{called} \"{}\"", text(of, "name"))))
    };
    let bundle = &source["clusterTrustBundle"];
    let certificate = &source["podCertificate"];
    if let Some(items) = named("configMap", "ConfigMap").or_else(|| named("secret", "Secret")) {
        items
    } else if !source["downwardAPI"]["items"].is_null() {
        items(&source["downwardAPI"], "DownwardAPI")
    } else if !source["serviceAccountToken"].is_null() {
        let path = text(&source["serviceAccountToken"], "path");
        vec![placed(path, "ServiceAccountToken")]
    } else if !bundle.is_null() {
        let name = bundle.get("name").or_else(|| bundle.get("signerName"));
        let name = name.and_then(Value::as_str).unwrap_or_default();
        let source = format!("ClusterTrustBundle \"{name}\"");
        vec![placed(text(bundle, "path"), &source)]
    } else {
        let fields = [
            ("certificateChainPath", "PodCertificate chain"),
            ("keyPath", "PodCertificate key"),
            ("credentialBundlePath", "PodCertificate credential bundle"),
        ];
        let set = fields
            .iter()
            .filter(|(f, _)| !text(certificate, f).is_empty());
        set.map(|(field, called)| placed(text(certificate, field), called))
            .collect()
    }
}
