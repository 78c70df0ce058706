//! Every real manifest in the folder beside the repository (or `$REHEARSAL_MANIFESTS`) decodes, or
//! is refused with the reason that kubectl or the API server would give.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rehearsal::api::decode::{DecodeContext, decode, expand_list};
use rehearsal::api::yaml::{FileId, Limits, parse_documents};

fn folder() -> PathBuf {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test may be pointed at other manifests"
    )]
    match std::env::var("REHEARSAL_MANIFESTS") {
        Ok(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/manifests"),
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder can be listed")
        .map(|entry| entry.expect("an entry can be read").path())
        .collect();
    entries.sort();
    for path in entries {
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        if path.is_dir() {
            files(&path, found);
        } else if matches!(extension, "yaml" | "yml" | "json") {
            found.push(path);
        }
    }
}

#[test]
fn real_manifests_decode_or_are_refused_with_a_reason() {
    let folder = folder();
    if !folder.is_dir() {
        println!("skipped: no folder {}", folder.display());
        return;
    }
    let mut paths = Vec::new();
    files(&folder, &mut paths);
    assert!(!paths.is_empty(), "no manifests in {}", folder.display());
    let (mut objects, mut broken, mut refused, mut foreign) = (0, 0, 0, 0);
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for path in &paths {
        let text = std::fs::read(path).expect("a file can be read");
        let documents = match parse_documents(FileId(0), &text, &Limits::default()) {
            Ok(documents) => documents,
            Err(error) => {
                broken += 1;
                println!("{}: {error}", path.display());
                continue;
            }
        };
        for node in documents.iter().flat_map(expand_list) {
            match decode(node, &DecodeContext::default()) {
                Ok(decoded) => {
                    objects += 1;
                    foreign += usize::from(!decoded.known);
                    for warning in decoded.warnings {
                        *reasons.entry(warning.to_string()).or_default() += 1;
                    }
                }
                Err(problems) => {
                    refused += 1;
                    assert!(
                        !problems.is_empty(),
                        "{}: refused without a reason",
                        path.display()
                    );
                    for problem in problems {
                        println!("{}: {problem} [{}]", path.display(), problem.reason);
                    }
                }
            }
        }
    }
    for (reason, times) in reasons {
        println!("{times:5} × {reason}");
    }
    println!(
        "{} files, {broken} not YAML; {objects} objects accepted, {foreign} of them foreign; \
         {refused} refused",
        paths.len()
    );
}
