//! Strategic merge patch: how maps are merged.
//!
//! The order of decisions is that of apimachinery, `strategicpatch/patch.go :: mergeMap`. Where
//! that reports a field that the type does not have, this merges maps and replaces lists: an
//! unknown field is reported when the manifest is decoded, not here.

use std::sync::Arc;

use super::PatchError;
use super::merge::drop_nulls;
use super::schema::{self, Field};
use super::strategic_list::{check_set_order, delete_scalars, element_kind, merge_lists, order_by};
use crate::api::print::go_value;
use crate::api::yaml::{Entry, Map, Node, NodeValue, Path};

pub(super) const DIRECTIVE: &str = "$patch";
pub(super) const RETAIN_KEYS: &str = "$retainKeys";
pub(super) const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList";
pub(super) const SET_ORDER: &str = "$setElementOrder";

/// What a patch is merged into (upstream: `MergeOptions`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Onto {
    /// An object: directives are carried out, nulls delete.
    Object,
    /// Another patch: directives and nulls are kept for the object that will come.
    Patch,
}

/// Applies a strategic merge patch; the object's `kind` decides how its lists are merged. The
/// object is unchanged when the patch does not apply.
///
/// # Errors
/// When the patch has a malformed directive, an item without its merge key, or values of the wrong
/// kind.
pub fn strategic_merge_patch(object: &mut Node, patch: &Node) -> Result<(), PatchError> {
    let kind = object
        .get("kind")
        .and_then(Node::as_str)
        .unwrap_or_default()
        .to_owned();
    let Some(changes) = patch.as_map() else {
        let message = format!("a strategic merge patch is a map, not {}", patch.value);
        return Err(PatchError::new(message, &Path::Root, patch.span));
    };
    let mut result = match &object.value {
        NodeValue::Map(map) => map.clone(),
        _ => Map::default(),
    };
    merge_map(
        &mut result,
        changes.clone(),
        &kind,
        Onto::Object,
        &Path::Root,
    )?;
    object.value = NodeValue::Map(result);
    drop_directives(object);
    Ok(())
}

/// Directives that a new part of the object still has mean nothing; the API server loses them when
/// it decodes the result.
fn drop_directives(node: &mut Node) {
    if let Some(map) = node.as_map_mut() {
        map.retain(|key, _| {
            !(key.starts_with('$')
                && (&**key == DIRECTIVE
                    || &**key == RETAIN_KEYS
                    || key.starts_with(DELETE_FROM_LIST)
                    || key.starts_with(SET_ORDER)))
        });
        map.values_mut()
            .for_each(|entry| drop_directives(&mut entry.node));
    } else if let Some(items) = node.as_list_mut() {
        items.iter_mut().for_each(drop_directives);
    }
}

/// `patch.go :: mergeMap`.
pub(super) fn merge_map(
    original: &mut Map,
    mut patch: Map,
    of: &str,
    onto: Onto,
    path: &Path<'_>,
) -> Result<(), PatchError> {
    if let Some(directive) = patch.shift_remove(DIRECTIVE) {
        match directive.node.as_str() {
            Some("replace") => *original = patch,
            Some("delete") => original.clear(),
            _ => {
                let (span, said) = (directive.node.span, directive.node.to_json());
                patch.insert(DIRECTIVE.into(), directive);
                let whole = Node::new(NodeValue::Map(patch), span).to_json();
                let message = format!(
                    "unknown patch type: {} in map: {}",
                    go_value(&said),
                    go_value(&whole)
                );
                return Err(PatchError::new(message, path, span));
            }
        }
        return Ok(());
    }
    retain_keys(original, &mut patch, onto, path)?;
    merge_ordered_lists(original, &mut patch, of, onto, path)?;
    for (key, entry) in patch {
        let here = Path::Key(path, &key);
        if key.starts_with(DELETE_FROM_LIST) && onto == Onto::Patch {
            original.insert(key, entry);
            continue;
        }
        if key.starts_with(DELETE_FROM_LIST) {
            let name = parallel_name(
                &key,
                "invalid patch format of primitive list",
                &here,
                &entry,
            )?;
            if entry.node.is_null() {
                original.shift_remove(name);
            } else if let Some(old) = original.get_mut(name) {
                delete_scalars(&mut old.node, &entry.node, schema::field(of, name), &here)?;
            }
            continue;
        }
        if entry.node.is_null() {
            original.shift_remove(&key);
            if onto == Onto::Patch {
                original.insert(key, entry);
            }
            continue;
        }
        let field = schema::field(of, &key);
        match original.get_mut(&key) {
            Some(old) => match (&mut old.node.value, &entry.node.value) {
                (NodeValue::Map(_), NodeValue::Map(_)) if field.replace => old.node = entry.node,
                (NodeValue::Map(map), NodeValue::Map(_)) => {
                    if let NodeValue::Map(changes) = entry.node.value {
                        merge_map(map, changes, field.of, onto, &here)?;
                    }
                }
                (NodeValue::List(_), NodeValue::List(_)) if !field.merge => old.node = entry.node,
                (NodeValue::List(items), NodeValue::List(_)) => {
                    if let NodeValue::List(changes) = entry.node.value {
                        merge_lists(items, changes, field, onto, &here)?;
                    }
                }
                _ => put(original, key, entry, onto),
            },
            None => put(original, key, entry, onto),
        }
    }
    Ok(())
}

/// Takes the patch's value as it is, without nulls (unless it stays a patch) and deleted items.
fn put(original: &mut Map, key: Arc<str>, mut entry: Entry, onto: Onto) {
    if onto == Onto::Object {
        drop_nulls(&mut entry.node);
    }
    if remove_directives(&mut entry.node) {
        original.insert(key, entry);
    } else {
        original.shift_remove(&key);
    }
}

/// `patch.go :: removeDirectives`: removes maps with a `$patch` in them; `false` when the node
/// itself is one.
pub(super) fn remove_directives(node: &mut Node) -> bool {
    if let Some(map) = node.as_map_mut() {
        if map.contains_key(DIRECTIVE) {
            return false;
        }
        map.retain(|_, entry| remove_directives(&mut entry.node));
    } else if let Some(items) = node.as_list_mut() {
        items.retain_mut(remove_directives);
    }
    true
}

/// The field that `$directive/field` is about.
fn parallel_name<'k>(
    key: &'k str,
    message: &str,
    path: &Path<'_>,
    entry: &Entry,
) -> Result<&'k str, PatchError> {
    match key.split_once('/') {
        Some((DELETE_FROM_LIST | SET_ORDER, name)) => Ok(name),
        _ => Err(PatchError::new(message, path, entry.key_span)),
    }
}

/// `patch.go :: applyRetainKeysDirective`: `$retainKeys` lists all keys that the map may have.
fn retain_keys(
    original: &mut Map,
    patch: &mut Map,
    onto: Onto,
    path: &Path<'_>,
) -> Result<(), PatchError> {
    let Some(directive) = patch.shift_remove(RETAIN_KEYS) else {
        return Ok(());
    };
    if onto == Onto::Patch {
        original.entry(RETAIN_KEYS.into()).or_insert(directive);
        return Ok(());
    }
    let here = Path::Key(path, RETAIN_KEYS);
    let error = |span| PatchError::new("invalid patch format of retainKeys", &here, span);
    let Some(keys) = directive.node.as_list() else {
        return Err(error(directive.node.span));
    };
    let kept = |key: &str| keys.iter().any(|kept| kept.as_str() == Some(key));
    let stray = patch.iter().find(|(key, entry)| {
        let parallel = key.starts_with(DELETE_FROM_LIST) || key.starts_with(SET_ORDER);
        !entry.node.is_null() && !parallel && !kept(key)
    });
    if let Some((_, entry)) = stray {
        return Err(error(entry.key_span));
    }
    original.retain(|key, _| kept(key));
    Ok(())
}

/// `patch.go :: mergePatchIntoOriginal`: merges the lists that have a `$setElementOrder` and puts
/// their items in that order.
fn merge_ordered_lists(
    original: &mut Map,
    patch: &mut Map,
    of: &str,
    onto: Onto,
    path: &Path<'_>,
) -> Result<(), PatchError> {
    let orders: Vec<Arc<str>> = patch
        .keys()
        .filter(|key| key.starts_with(SET_ORDER))
        .cloned()
        .collect();
    for key in orders {
        let Some(directive) = patch.shift_remove(&key) else {
            continue;
        };
        let here = Path::Key(path, &key);
        if onto == Onto::Patch && !original.contains_key(&key) {
            original.insert(key.clone(), directive.clone());
        }
        let name = parallel_name(
            &key,
            "invalid patch format of setElementOrder list",
            &here,
            &directive,
        )?;
        let order = as_items(&directive.node, &here)?;
        let field = schema::field(of, name);
        let changes = match patch.shift_remove(name) {
            Some(entry) => Some((as_items(&entry.node, &here)?.to_vec(), entry)),
            None => None,
        };
        let old = match original.get(name) {
            Some(entry) if entry.node.as_list().is_none() => {
                let message = format!("expected a list, but received {}", entry.node.value);
                return Err(PatchError::new(message, &here, directive.node.span));
            }
            other => other.map(|entry| entry.node.as_list().unwrap_or_default().to_vec()),
        };
        if let Some((items, _)) = &changes {
            check_set_order(items, order, field, &here)?;
        }
        let ordered = merge_in_order(old.clone(), changes.clone(), order, (field, onto), &here)?;
        if let Some(items) = ordered {
            store(
                original,
                name,
                items,
                changes.map(|(_, entry)| entry),
                &directive,
            );
        }
    }
    Ok(())
}

type Changes = (Vec<Node>, Entry);

fn merge_in_order(
    old: Option<Vec<Node>>,
    changes: Option<Changes>,
    order: &[Node],
    (field, onto): (Field, Onto),
    path: &Path<'_>,
) -> Result<Option<Vec<Node>>, PatchError> {
    let mut server_order = old.clone().unwrap_or_default();
    let maps = match (&old, &changes) {
        (None, None) => return Ok(None),
        (_, changes) => {
            let items = changes.as_ref().map_or(&[][..], |(items, _)| items);
            element_kind(&server_order, items, path)? == "map"
        }
    };
    let merged = match (old, changes) {
        (None, None) => return Ok(None),
        (Some(old), None) => old,
        (None, Some((mut items, _))) => {
            items.retain_mut(remove_directives);
            items
        }
        (Some(mut old), Some((items, _))) => {
            if field.merge {
                let length = old.len();
                if let Some(mut merged) = merge_lists(&mut old, items, field, onto, path)? {
                    // Upstream merges in the memory of the list whose order it then follows: a
                    // new item takes the slot, and with it the rank, of a deleted one.
                    merged.truncate(length);
                    server_order = merged;
                }
                old
            } else {
                items
            }
        }
    };
    order_by(merged, order, &server_order, (field, maps), path).map(Some)
}

fn store(
    original: &mut Map,
    name: &str,
    items: Vec<Node>,
    patched: Option<Entry>,
    directive: &Entry,
) {
    match original.get_mut(name) {
        Some(entry) => entry.node.value = NodeValue::List(items),
        None => {
            let entry = patched.unwrap_or_else(|| directive.clone());
            let node = Node::new(NodeValue::List(items), entry.node.span);
            original.insert(
                name.into(),
                Entry {
                    key_span: entry.key_span,
                    node,
                },
            );
        }
    }
}

fn as_items<'n>(node: &'n Node, path: &Path<'_>) -> Result<&'n [Node], PatchError> {
    node.as_list().ok_or_else(|| {
        let message = format!("expected a list, but received {}", node.value);
        PatchError::new(message, path, node.span)
    })
}
