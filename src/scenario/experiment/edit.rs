//! Edits of a base: a field by its path, a value from the command line.

use crate::api::yaml::{Node, NodeValue, Span};

/// A value of the command line: a number or a switch where it looks like one, else text.
pub fn scalar(text: &str, span: Span) -> Node {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(json) if !json.is_string() => Node::from_json(&json, span),
        _ => Node::text(text, span),
    }
}

/// Sets a field by its path: keys and numbers of list items, with dots between.
pub fn set(node: &mut Node, path: &str, value: Node) -> Result<(), String> {
    let (key, rest) = match path.split_once('.') {
        Some((key, rest)) => (key, Some(rest)),
        None => (path, None),
    };
    let inner = match &mut node.value {
        NodeValue::List(items) => {
            let count = items.len();
            let at = key.parse::<usize>().ok();
            at.and_then(|at| items.get_mut(at))
                .ok_or_else(|| format!("{key:?} is none of the {count} items of the list"))?
        }
        NodeValue::Map(_) => {
            // A key may have dots itself: the longest one that is there wins.
            if let Some(whole) = node.get_mut(path) {
                *whole = value;
                return Ok(());
            }
            let Some(rest) = rest else {
                node.set(key, value);
                return Ok(());
            };
            if node.get(key).is_none() {
                node.set(key, Node::empty_map(value.span));
            }
            let inner = node.get_mut(key).ok_or("was set just now")?;
            return set(inner, rest, value);
        }
        other => return Err(format!("{key:?} cannot be set in {other}")),
    };
    match rest {
        Some(rest) => set(inner, rest, value),
        None => {
            *inner = value;
            Ok(())
        }
    }
}
