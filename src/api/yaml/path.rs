//! Field paths: `spec.template.spec.containers[0].image`, as the API server prints them.
//!
//! Two dialects name the same place and both are read: list items as `[0]` (API server) or `.0`
//! (serde), map keys as `.key` or `[key]`; the `?` that serde puts for an optional layer is
//! skipped. Keys may contain dots and brackets (`metadata.labels.app.kubernetes.io/name`): a
//! mapping's own keys decide how far a key reaches.

use std::fmt;

use super::{Node, Span};

/// The path from the root to a node that is being read, kept as links on the stack so that it
/// costs nothing until a message prints it.
#[derive(Clone, Copy, Debug)]
pub enum Path<'a> {
    /// The whole document.
    Root,
    /// A value of a mapping.
    Key(&'a Path<'a>, &'a str),
    /// An item of a list.
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(parent, key) => {
                parent.fmt(f)?;
                if key.contains(['.', '[', ']', '/']) {
                    write!(f, "[{key}]")
                } else if matches!(parent, Path::Root) {
                    f.write_str(key)
                } else {
                    write!(f, ".{key}")
                }
            }
            Self::Index(parent, index) => {
                parent.fmt(f)?;
                write!(f, "[{index}]")
            }
        }
    }
}

impl Node {
    /// The node at a field path, `None` when the path leads nowhere. The empty path is this node.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<&Self> {
        // A key may begin with the separator too.
        let behind = path.strip_prefix('.');
        let found = behind.and_then(|path| self.at_rest(path));
        found.or_else(|| self.at_rest(path))
    }

    /// The node of a path without a separator in front.
    fn at_rest(&self, path: &str) -> Option<&Self> {
        if path.is_empty() {
            return Some(self);
        }
        let rest = skip_optional(path).and_then(|rest| self.at(rest));
        let inner = || {
            path.strip_prefix('[')
                .and_then(|inner| self.at_bracket(inner))
        };
        if let Some(found) = rest.or_else(inner) {
            return Some(found);
        }
        if let Some(items) = self.as_list() {
            let end = path.find(['.', '[']).unwrap_or(path.len());
            return items
                .get(path[..end].parse::<usize>().ok()?)?
                .at(&path[end..]);
        }
        // The shortest key that leads somewhere: keys may contain the separators.
        let map = self.as_map()?;
        boundaries(path, &['.', '[']).find_map(|end| {
            map.get(&path[..end])
                .and_then(|entry| entry.node.at(&path[end..]))
        })
    }

    /// The node of a path whose leading `[` is already taken off.
    fn at_bracket(&self, inner: &str) -> Option<&Self> {
        let closings = inner.match_indices(']').map(|(at, _)| at);
        if let Some(items) = self.as_list() {
            let end = inner.find(']')?;
            return items
                .get(inner[..end].parse::<usize>().ok()?)?
                .at(&inner[end + 1..]);
        }
        let map = self.as_map()?;
        let mut closings = closings;
        closings.find_map(|end| {
            map.get(&inner[..end])
                .and_then(|entry| entry.node.at(&inner[end + 1..]))
        })
    }

    /// The place that a message about `path` should name: the value there, else (the field is
    /// missing) its nearest ancestor that exists.
    #[must_use]
    pub fn nearest_span(&self, path: &str) -> Span {
        if let Some(node) = self.at(path) {
            return node.span;
        }
        let cut = path.rfind(['.', '[']);
        cut.map_or(self.span, |end| self.nearest_span(&path[..end]))
    }

    /// The place of the key at the end of `path` (for an unknown field), `None` when the path
    /// leads nowhere or ends in a list.
    #[must_use]
    pub fn key_span_at(&self, path: &str) -> Option<Span> {
        let target = self.at(path)?;
        let cuts = path.rmatch_indices(['.', '[']).map(|(at, _)| at);
        cuts.chain([0]).find_map(|cut| {
            let map = self.at(&path[..cut])?.as_map()?;
            let entry = map
                .values()
                .find(|entry| std::ptr::eq(&raw const entry.node, target))?;
            Some(entry.key_span)
        })
    }
}

/// The rest of the path after a serde `?` segment.
fn skip_optional(path: &str) -> Option<&str> {
    let rest = path.strip_prefix('?')?;
    (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
}

/// Every position at which a key of `path` may end, shortest first.
fn boundaries<'a>(path: &'a str, separators: &'a [char]) -> impl Iterator<Item = usize> + 'a {
    path.match_indices(separators)
        .map(|(at, _)| at)
        .filter(|at| *at > 0)
        .chain([path.len()])
}
