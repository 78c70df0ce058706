//! A reader against a saved corpus and seeded mutations of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a reader is tried on, and what must hold.
pub struct Corpus {
    /// The folder, from the project's root.
    pub folder: &'static str,
    /// It has so many files at least.
    pub least: usize,
    /// What a mutation puts anywhere.
    pub pieces: &'static [&'static str],
    /// How many mutations are tried.
    pub mutations: usize,
    /// Reads bytes and panics where something does not hold.
    pub exercise: fn(&[u8]),
}

impl Corpus {
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(self.folder);
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
        assert!(
            files.len() >= self.least,
            "the corpus has {} files",
            files.len()
        );
        files
    }

    /// Every file holds what must hold.
    pub fn check_files(&self) {
        for (name, bytes) in self.files() {
            let held = catch_unwind(AssertUnwindSafe(|| (self.exercise)(&bytes)));
            assert!(held.is_ok(), "{}/{name}", self.folder);
        }
    }

    /// So do mutations of them.
    pub fn check_mutations(&self) {
        let corpus = self.files();
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for number in 0..self.mutations {
            let (name, bytes) = &corpus[rng.random_range(0..corpus.len())];
            let mutated = self.mutate(bytes, &corpus, &mut rng);
            let held = catch_unwind(AssertUnwindSafe(|| (self.exercise)(&mutated)));
            assert!(
                held.is_ok(),
                "mutation {number} of {name}; save it as a new corpus file: {:?}",
                String::from_utf8_lossy(&mutated)
            );
        }
    }

    fn mutate(&self, bytes: &[u8], corpus: &[(String, Vec<u8>)], rng: &mut ChaCha8Rng) -> Vec<u8> {
        let mut text = bytes.to_vec();
        for _ in 0..rng.random_range(1..5) {
            let at = rng.random_range(0..=text.len());
            let end = (at + rng.random_range(0..8)).min(text.len());
            match rng.random_range(0..8) {
                0..4 => {
                    let piece = self.pieces[rng.random_range(0..self.pieces.len())];
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
}
