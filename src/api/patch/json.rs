//! JSON patch (RFC 6902), with the details of the API server's library (evanphx/json-patch):
//! negative indices count from the end, `replace` adds a key that is missing, and `test` for `null`
//! holds where a key is missing.

use crate::api::yaml::{Entry, Node, Path, Span};

use super::PatchError;

/// The API server's bound on operations (apiserver, `patch.go :: maxJSONPatchOperations`).
const MAX_OPERATIONS: usize = 10_000;

/// Applies a JSON patch: a list of operations, all or none.
///
/// # Errors
/// When an operation is malformed, its path leads nowhere, or a `test` does not hold.
pub fn json_patch(object: &mut Node, patch: &Node) -> Result<(), PatchError> {
    let operations = patch.as_list().unwrap_or_default();
    if patch.as_list().is_none() || operations.len() > MAX_OPERATIONS {
        let message = format!("a JSON patch is a list of at most {MAX_OPERATIONS} operations");
        return Err(PatchError::new(message, &Path::Root, patch.span));
    }
    let mut result = object.clone();
    for (index, node) in operations.iter().enumerate() {
        let operation = Operation {
            node,
            path: Path::Index(&Path::Root, index),
        };
        operation.apply(&mut result)?;
    }
    *object = result;
    Ok(())
}

struct Operation<'a> {
    node: &'a Node,
    path: Path<'a>,
}

impl<'a> Operation<'a> {
    fn error(&self, message: impl Into<String>, span: Span) -> PatchError {
        PatchError::new(message, &self.path, span)
    }

    /// A text field that the operation must have.
    fn text(&self, name: &str) -> Result<(&'a str, Span), PatchError> {
        let Some(node) = self.node.get(name) else {
            return Err(self.error(format!("the operation has no {name:?}"), self.node.span));
        };
        match node.as_str() {
            Some(text) => Ok((text, node.span)),
            None => Err(self.error(format!("{name:?} must be a string"), node.span)),
        }
    }

    /// The value; a missing one is `null` to the API server.
    fn value(&self) -> Node {
        self.node
            .get("value")
            .cloned()
            .unwrap_or_else(|| Node::null(self.node.span))
    }

    fn pointer(&self, name: &str) -> Result<Pointer, PatchError> {
        let (text, span) = self.text(name)?;
        if text.is_empty() {
            return Ok(Pointer {
                tokens: Vec::new(),
                span,
            });
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(self.error(format!("{name:?} must begin with a slash: {text:?}"), span));
        };
        let tokens = rest
            .split('/')
            .map(|t| t.replace("~1", "/").replace("~0", "~"))
            .collect();
        Ok(Pointer { tokens, span })
    }

    fn apply(&self, target: &mut Node) -> Result<(), PatchError> {
        self.check_fields()?;
        let (op, span) = self.text("op")?;
        match op {
            "add" => self.add(target, &self.pointer("path")?, self.value()),
            "remove" => self.remove(target, &self.pointer("path")?).map(drop),
            "replace" => self.replace(target, &self.pointer("path")?, self.value()),
            "move" => {
                let (from, path) = (self.pointer("from")?, self.pointer("path")?);
                let value = self.remove(target, &from)?;
                self.add(target, &path, value)
            }
            "copy" => {
                let (from, path) = (self.pointer("from")?, self.pointer("path")?);
                let value = match self.find(target, &from)? {
                    Some(value) => value.clone(),
                    None => Node::null(from.span),
                };
                self.add(target, &path, value)
            }
            "test" => self.test(target),
            _ => Err(self.error(format!("unexpected kind of operation: {op}"), span)),
        }
    }

    fn check_fields(&self) -> Result<(), PatchError> {
        let Some(map) = self.node.as_map() else {
            let message = format!("an operation is a map, not {}", self.node.value);
            return Err(self.error(message, self.node.span));
        };
        let known = ["op", "path", "from", "value"];
        match map.iter().find(|(key, _)| !known.contains(&key.as_ref())) {
            Some((key, entry)) => Err(self.error(format!("unknown field {key:?}"), entry.key_span)),
            None => Ok(()),
        }
    }

    fn test(&self, target: &mut Node) -> Result<(), PatchError> {
        let path = self.pointer("path")?;
        let wanted = self.value();
        let found = match path.tokens.is_empty() {
            true => Some(&*target),
            false => self.find(target, &path)?,
        };
        let holds = match found {
            Some(node) => node.same(&wanted),
            None => wanted.is_null(),
        };
        if holds {
            return Ok(());
        }
        let found = found.map_or_else(|| "nothing".to_owned(), |node| node.to_json().to_string());
        let message = format!("testing value {path} failed: found {found}");
        Err(self.error(message, path.span))
    }

    /// The node at a path: `None` when only the last key is missing from a map.
    fn find<'t>(
        &self,
        target: &'t mut Node,
        path: &Pointer,
    ) -> Result<Option<&'t Node>, PatchError> {
        let (parent, last) = self.parent(target, path)?;
        if parent.as_map().is_some() {
            return Ok(parent.get(last));
        }
        match step(parent, last) {
            Some(node) => Ok(Some(node)),
            None => Err(self.nothing_at(path, path.tokens.len() - 1)),
        }
    }

    fn nothing_at(&self, path: &Pointer, depth: usize) -> PatchError {
        let missing = Pointer {
            tokens: path.tokens[..=depth].to_vec(),
            span: path.span,
        };
        self.error(format!("nothing at {missing}"), path.span)
    }

    /// The map or list that holds the path's end, and the last token.
    fn parent<'t, 'p>(
        &self,
        target: &'t mut Node,
        path: &'p Pointer,
    ) -> Result<(&'t mut Node, &'p str), PatchError> {
        let Some((last, before)) = path.tokens.split_last() else {
            return Err(self.error(
                "the whole document can only be replaced or tested",
                path.span,
            ));
        };
        let mut node = target;
        for (depth, token) in before.iter().enumerate() {
            node = step(node, token).ok_or_else(|| self.nothing_at(path, depth))?;
        }
        if node.as_map().is_none() && node.as_list().is_none() {
            let message = format!("{path} would be in {}", node.value);
            return Err(self.error(message, path.span));
        }
        Ok((node, last))
    }

    fn add(&self, target: &mut Node, path: &Pointer, value: Node) -> Result<(), PatchError> {
        let (parent, token) = self.parent(target, path)?;
        let Some(items) = parent.as_list_mut() else {
            put(parent, token, value, path.span);
            return Ok(());
        };
        let at = match token {
            "-" => Some(items.len()),
            _ => position(token, items.len() + 1),
        };
        let Some(at) = at else {
            let message = format!(
                "no place {token} in a list of {} items: {path}",
                items.len()
            );
            return Err(self.error(message, path.span));
        };
        items.insert(at, value);
        Ok(())
    }

    /// Unlike RFC 6902 wants it, a key that is missing is added, as the API server does.
    fn replace(&self, target: &mut Node, path: &Pointer, value: Node) -> Result<(), PatchError> {
        if path.tokens.is_empty() {
            if value.as_map().is_none() && value.as_list().is_none() {
                let message = format!("a document cannot be {}", value.value);
                return Err(self.error(message, value.span));
            }
            *target = value;
            return Ok(());
        }
        let (parent, token) = self.parent(target, path)?;
        if parent.as_map().is_some() {
            put(parent, token, value, path.span);
            return Ok(());
        }
        match step(parent, token) {
            Some(node) => *node = value,
            None => return Err(self.nothing_at(path, path.tokens.len() - 1)),
        }
        Ok(())
    }

    fn remove(&self, target: &mut Node, path: &Pointer) -> Result<Node, PatchError> {
        let (parent, token) = self.parent(target, path)?;
        let removed = match parent.as_list_mut() {
            Some(items) => position(token, items.len()).map(|at| items.remove(at)),
            None => parent.remove(token),
        };
        removed.ok_or_else(|| self.nothing_at(path, path.tokens.len() - 1))
    }
}

fn put(map: &mut Node, key: &str, value: Node, key_span: Span) {
    if let Some(map) = map.as_map_mut() {
        map.insert(
            key.into(),
            Entry {
                key_span,
                node: value,
            },
        );
    }
}

/// A JSON pointer (RFC 6901) and where it was written.
struct Pointer {
    tokens: Vec<String>,
    span: Span,
}

impl std::fmt::Display for Pointer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.tokens
            .iter()
            .try_for_each(|t| write!(f, "/{}", t.replace('~', "~0").replace('/', "~1")))
    }
}

fn step<'t>(node: &'t mut Node, token: &str) -> Option<&'t mut Node> {
    if node.as_list().is_none() {
        return node.get_mut(token);
    }
    let items = node.as_list_mut()?;
    position(token, items.len()).and_then(|at| items.get_mut(at))
}

/// An index below `length`; a negative one counts from the end.
fn position(token: &str, length: usize) -> Option<usize> {
    let at: isize = token.parse().ok()?;
    let at = if at < 0 {
        at.checked_add_unsigned(length)?
    } else {
        at
    };
    usize::try_from(at).ok().filter(|at| *at < length)
}
