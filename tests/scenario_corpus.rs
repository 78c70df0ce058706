//! The scenario reader against a saved corpus (`tests/corpus/scenario`) and seeded mutations of it.
//! The fuzzer in `fuzz/` runs the same checks for as long as one likes; what it finds goes into the
//! corpus.

#[path = "support/scenario_body.rs"]
mod body;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Pieces of a scenario that a mutation puts anywhere.
const PIECES: [&str; 36] = [
    "name: ",
    "spec: ",
    "kind: Scenario",
    "kind: NodeChaos",
    "metadata: {}",
    "at: 1m",
    "at: -1m",
    "9999999h",
    "duration: 0s",
    "kubectl: ",
    "delete pod x",
    "--replicas=99999999999",
    "'",
    "\"",
    "apply: [x.yaml]",
    "[]",
    "{}",
    "null",
    "~",
    "-1",
    "18446744073709551616",
    "1e308",
    ".nan",
    "mode: all",
    "value: 0",
    "selector: {}",
    "patch: |",
    "\n---\n",
    "\n",
    ": ",
    ", ",
    "deployment('",
    "ü",
    "\0",
    "&a ",
    "*a",
];

/// How many mutations are tried: a few seconds without optimisation.
const MUTATIONS: usize = 3_000;

fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/scenario");
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(&folder)
        .expect("the corpus is there")
        .map(|entry| {
            let path = entry.expect("the corpus can be listed").path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            (
                name,
                std::fs::read(&path).expect("a corpus file can be read"),
            )
        })
        .collect();
    files.sort();
    assert!(files.len() >= 10, "the corpus has {} files", files.len());
    files
}

#[test]
fn every_file_of_the_corpus_holds_what_must_hold() {
    for (name, bytes) in corpus() {
        let held = catch_unwind(AssertUnwindSafe(|| body::exercise(&bytes)));
        assert!(held.is_ok(), "tests/corpus/scenario/{name}");
    }
}

#[test]
fn mutations_of_the_corpus_hold_what_must_hold() {
    let corpus = corpus();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for number in 0..MUTATIONS {
        let (name, bytes) = &corpus[rng.random_range(0..corpus.len())];
        let mutated = mutate(bytes, &corpus, &mut rng);
        let held = catch_unwind(AssertUnwindSafe(|| body::exercise(&mutated)));
        assert!(
            held.is_ok(),
            "mutation {number} of {name}; save it as a new corpus file: {:?}",
            String::from_utf8_lossy(&mutated)
        );
    }
}

fn mutate(bytes: &[u8], corpus: &[(String, Vec<u8>)], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut text = bytes.to_vec();
    for _ in 0..rng.random_range(1..5) {
        let at = rng.random_range(0..=text.len());
        let end = (at + rng.random_range(0..8)).min(text.len());
        match rng.random_range(0..8) {
            0..4 => {
                let piece = PIECES[rng.random_range(0..PIECES.len())];
                text.splice(at..at, piece.bytes());
            }
            4 => drop(text.drain(at..end)),
            5 => {
                let copy = text[at..end].to_vec();
                let to = rng.random_range(0..=text.len());
                text.splice(to..to, copy);
            }
            6 if at < text.len() => text[at] = rng.random_range(0..=255),
            _ => {
                let other = &corpus[rng.random_range(0..corpus.len())].1;
                let from = rng.random_range(0..=other.len());
                let to = (from + 40).min(other.len());
                text.splice(at..end, other[from..to].iter().copied());
            }
        }
    }
    text
}
