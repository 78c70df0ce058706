//! What must hold for any bytes given to the scenario reader. The saved corpus, its seeded
//! mutations and the fuzzer all run this.

use std::path::Path;

use rehearsal::api::yaml::Sources;
use rehearsal::scenario::{Diagnostic, LoadOptions, load_bytes, render};

/// Reads the bytes as a scenario file of a folder that does not exist, and checks what comes out.
///
/// # Panics
/// When something that must hold does not.
pub fn exercise(bytes: &[u8]) {
    // Nothing outside of the text may be read: no path that leads to a real file.
    let absolute = [" /", "\"/", "'/", "[/", ",/", ":/", "=/", "-/", "\n/", ".."];
    let text = String::from_utf8_lossy(bytes);
    if absolute.iter().any(|path| text.contains(path)) || text.contains("<stdin>") {
        return;
    }
    let options = LoadOptions {
        resources: Some(Vec::new()),
        ..LoadOptions::default()
    };
    let name = Path::new("/no-such-folder/fuzz.yaml");
    match load_bytes(name, bytes, &options) {
        Ok(loaded) => {
            check_diagnostics(&loaded.warnings, &loaded.sources);
            let again = load_bytes(name, bytes, &options).expect("it loaded before");
            for (a, b) in loaded.scenarios.iter().zip(&again.scenarios) {
                assert_eq!(a.digest, b.digest);
                assert!(
                    a.timeline
                        .windows(2)
                        .all(|steps| steps[0].at <= steps[1].at)
                );
                assert!(a.timeline.iter().all(|step| step.at <= a.duration));
                assert!(!a.cluster.pools.is_empty() && !a.name.is_empty());
            }
        }
        Err(rejected) => {
            assert!(rejected.diagnostics.iter().any(Diagnostic::is_error));
            check_diagnostics(&rejected.diagnostics, &rejected.sources);
        }
    }
}

/// A message says something, and its place lies in the text that it names.
fn check_diagnostics(diagnostics: &[Diagnostic], sources: &Sources) {
    for diagnostic in diagnostics {
        assert!(!diagnostic.message.is_empty());
        let span = diagnostic.span;
        if let (true, Some(text)) = (span.is_known(), sources.text(span.file)) {
            // A break is at most one per byte, whatever characters count as one.
            assert!(span.line as usize <= text.len() + 2, "{diagnostic:?}");
        }
    }
    let drawn = render(diagnostics, sources, false);
    assert_eq!(drawn.is_empty(), diagnostics.is_empty());
}
