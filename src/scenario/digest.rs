//! The digest of everything that a run depends on, apart from its seed.
//!
//! It covers values, not spelling: comments, places and the order in which files were named do not
//! change it, as long as the objects are the same in the same order.

use std::hash::Hasher;

use serde_json::Value;

use crate::api::yaml::Node;
use crate::engine::digest::Digest;

/// A digest being taken.
#[derive(Debug)]
pub struct InputDigest(Digest);

impl InputDigest {
    /// Of nothing yet.
    pub fn new() -> Self {
        InputDigest(Digest::new())
    }

    /// Adds the Scenario document: without its seed, and without the names of files, whose content
    /// counts instead.
    pub fn scenario(&mut self, head: &Node) {
        let mut head = head.clone();
        if let Some(spec) = head.get_mut("spec") {
            spec.remove("seed");
            spec.remove("resources");
        }
        self.document(&head);
    }

    /// Adds a document as it was written.
    pub fn document(&mut self, node: &Node) {
        self.object(&node.to_json());
    }

    /// Adds an object.
    pub fn object(&mut self, json: &Value) {
        let text = json.to_string();
        self.0.word(text.len() as u64);
        self.0.write(text.as_bytes());
    }

    /// The digest.
    pub fn finish(&self) -> u128 {
        self.0.finish128()
    }
}
