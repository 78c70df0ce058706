//! What has been read so far of a file, against its [`Limits`]; and one allocation per key.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::{Limits, Span, YamlError};

/// Counts the values of one file and shares its keys.
pub(super) struct Budget<'l> {
    limits: &'l Limits,
    /// Values built or copied so far.
    values: u64,
    keys: FxHashSet<Arc<str>>,
}

impl<'l> Budget<'l> {
    pub(super) fn new(limits: &'l Limits) -> Self {
        Self {
            limits,
            values: 0,
            keys: FxHashSet::default(),
        }
    }

    /// Adds values.
    pub(super) fn grow(&mut self, values: u64, span: Span) -> Result<(), YamlError> {
        self.values = self.values.saturating_add(values);
        if self.values > self.limits.max_nodes {
            let message = format!("more than {} values in one file", self.limits.max_nodes);
            return Err(YamlError::new(message, span).hint("split it"));
        }
        Ok(())
    }

    pub(super) fn check_depth(&self, depth: usize, span: Span) -> Result<(), YamlError> {
        if depth > self.limits.max_depth {
            let message = format!("nested deeper than {} levels", self.limits.max_depth);
            return Err(YamlError::new(message, span));
        }
        Ok(())
    }

    /// The key, shared with equal keys of the file when it is short.
    pub(super) fn share(&mut self, key: Arc<str>) -> Arc<str> {
        if let Some(known) = self.keys.get(&key) {
            return known.clone();
        }
        if key.len() <= 64 {
            self.keys.insert(key.clone());
        }
        key
    }

    /// As [`Self::share`], for borrowed text.
    pub(super) fn share_str(&mut self, key: &str) -> Arc<str> {
        match self.keys.get(key) {
            Some(known) => known.clone(),
            None => self.share(key.into()),
        }
    }
}
