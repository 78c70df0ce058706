//! The scenario reader against a saved corpus (`tests/corpus/scenario`) and seeded mutations of it.
//! The fuzzer in `fuzz/` runs the same checks for as long as one likes; what it finds goes into the
//! corpus.

#[path = "../support/scenario_body.rs"]
mod body;

use crate::corpus::Corpus;

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

const CORPUS: Corpus = Corpus {
    folder: "tests/corpus/scenario",
    least: 10,
    pieces: &PIECES,
    mutations: MUTATIONS,
    exercise: body::exercise,
};

#[test]
fn every_file_of_the_corpus_holds_what_must_hold() {
    CORPUS.check_files();
}

#[test]
fn mutations_of_the_corpus_hold_what_must_hold() {
    CORPUS.check_mutations();
}
