//! Scenarios from text and from the repository's own files.

mod repository;
