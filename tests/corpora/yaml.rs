//! The YAML reader against a saved corpus (`tests/corpus/yaml`) and seeded mutations of it. The
//! fuzzer in `fuzz/` runs the same checks for as long as one likes; what it finds goes into the
//! corpus.

#[path = "../support/yaml_body.rs"]
mod body;

use crate::corpus::Corpus;

/// Pieces of YAML that a mutation puts anywhere.
const PIECES: [&str; 48] = [
    "- ",
    "? ",
    ": ",
    ":",
    ", ",
    "[",
    "]",
    "{",
    "}",
    "&a ",
    "*a",
    "!!str ",
    "!!int ",
    "! ",
    "!x",
    "|\n",
    ">-\n",
    "|2",
    "'",
    "\"",
    "\\",
    "\\u00e9",
    "#",
    " #",
    "\n",
    "\n  ",
    "\n- ",
    "\r\n",
    "\t",
    "---\n",
    "\n---\n",
    "...\n",
    "%YAML 1.1\n",
    "<<: *a\n",
    "<<",
    "~",
    "yes",
    "0x1F",
    ".5",
    "1_0",
    ".inf",
    "2001-01-01",
    "a: b",
    "{a: b}",
    "\u{2028}",
    "\u{feff}",
    "é",
    "\0",
];

/// How many mutations are tried: about two seconds without optimisation.
const MUTATIONS: usize = 12_000;

const CORPUS: Corpus = Corpus {
    folder: "tests/corpus/yaml",
    least: 40,
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
