//! Readers against saved corpora and seeded mutations of them; the targets in `fuzz/` share their
//! bodies.

#[path = "../support/corpus.rs"]
mod corpus;
mod scenario;
mod yaml;
