//! Edits of objects by patch: JSON merge patch, JSON patch, and Kubernetes' strategic merge patch.
//!
//! All three work on [`Node`] trees, so the patched object still knows where each value was
//! written: what the patch sets has the patch's place, the rest its own. Errors name the place in
//! the patch. It knows the built-in kinds only as far as a table of their merged lists (`schema`);
//! whether the result is a valid object is for others to say.
//!
//! Look first at [`apply`], which chooses as `kubectl patch` does; `strategic` holds the rules for
//! maps, `strategic_list` those for lists and their order.

mod json;
mod merge;
mod schema;
mod strategic;
mod strategic_list;
mod three_way;

pub use json::json_patch;
pub use merge::merge_patch;
pub(crate) use schema::is_built_in;
pub use strategic::strategic_merge_patch;
pub use three_way::three_way_patch;

use std::fmt;

use super::yaml::{Node, Path, Span};

/// Why a patch could not be applied, and where in the patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchError {
    /// What is wrong; the API server's words where it has some.
    pub message: String,
    /// The field path in the patch, empty for the whole patch.
    pub path: String,
    /// The place in the patch.
    pub span: Span,
}

impl PatchError {
    fn new(message: impl Into<String>, path: &Path<'_>, span: Span) -> Self {
        Self {
            message: message.into(),
            path: path.to_string(),
            span,
        }
    }
}

/// `line:column: path: message`.
impl fmt::Display for PatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.span.is_known() {
            write!(f, "{}: ", self.span)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for PatchError {}

/// How a patch is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// Strategic merge; built-in kinds only.
    Strategic,
    /// RFC 7386.
    Merge,
    /// RFC 6902.
    Json,
}

/// The merge patch that an object of this kind takes from kubectl by itself: strategic for
/// built-in kinds, JSON merge for custom resources.
pub fn kind_for(object: &Node) -> PatchKind {
    let api_version = object.get("apiVersion").and_then(Node::as_str);
    match api_version.is_some_and(schema::is_built_in) {
        true => PatchKind::Strategic,
        false => PatchKind::Merge,
    }
}

/// Applies a patch of a given kind. The object is unchanged when the patch does not apply.
///
/// # Errors
/// When the patch does not apply.
pub fn apply_as(kind: PatchKind, object: &mut Node, patch: &Node) -> Result<(), PatchError> {
    match kind {
        PatchKind::Strategic => strategic_merge_patch(object, patch),
        PatchKind::Merge => {
            merge_patch(object, patch);
            Ok(())
        }
        PatchKind::Json => json_patch(object, patch),
    }
}

/// Applies a patch as `kubectl patch` and kustomize's `patches` choose: a list is a JSON patch, a
/// map a strategic merge patch for built-in kinds and a JSON merge patch for custom resources. The
/// object is unchanged when the patch does not apply.
///
/// # Errors
/// When the patch is neither a list nor a map, or does not apply.
pub fn apply(object: &mut Node, patch: &Node) -> Result<(), PatchError> {
    if patch.as_list().is_some() {
        return json_patch(object, patch);
    }
    if patch.as_map().is_none() {
        let message = format!(
            "a patch is a map or a list of operations, not {}",
            patch.value
        );
        return Err(PatchError::new(message, &Path::Root, patch.span));
    }
    apply_as(kind_for(object), object, patch)
}

#[cfg(test)]
mod tests;
