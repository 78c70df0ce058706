//! Three-way patches: what `kubectl apply` sends.
//!
//! Three documents meet: the one that was applied last, the one that is applied now, and the
//! object as it is. What left the manifest is deleted, what the manifest says is set, and what
//! others have set and the manifest never mentioned stays. The patch is the difference from the
//! object to the manifest without its deletions, merged into the deletions from the last manifest
//! to this one (apimachinery, `strategicpatch/patch.go :: CreateThreeWayMergePatch`, and
//! `jsonmergepatch/patch.go` for custom resources).
//!
//! Look first at [`three_way_patch`].

use super::PatchError;
use super::PatchKind;
use super::merge::merge_patch;
use super::schema::{self, Field};
use super::strategic::{DELETE_FROM_LIST, DIRECTIVE, Onto, RETAIN_KEYS, SET_ORDER, merge_map};
use super::strategic_list::{element_kind, merge_key, sort_by_position};
use crate::api::yaml::{Entry, Map, Node, NodeValue, Path, Span};

/// The patch that makes `current` what `modified` says, given that `original` (if anything) was
/// applied before, and its kind: strategic for the built-in kinds, JSON merge for others. An empty
/// map changes nothing.
///
/// # Errors
/// When a list lacks its merge key or mixes kinds of values, or when the identity of a custom
/// resource would change.
pub fn three_way_patch(
    original: Option<&Node>,
    modified: &Node,
    current: &Node,
) -> Result<(PatchKind, Node), PatchError> {
    let kind = super::kind_for(current);
    let none = Map::default();
    let map = |node: &Node| node.as_map().cloned().unwrap_or_default();
    let (modified, current) = (map(modified), map(current));
    let original = original.and_then(Node::as_map).unwrap_or(&none);
    let patch = if kind == PatchKind::Strategic {
        let of = current.get("kind").and_then(|entry| entry.node.as_str());
        strategic(original, &modified, &current, of.unwrap_or_default())?
    } else {
        json_merge(original, &modified, &current)?
    };
    Ok((kind, Node::new(NodeValue::Map(patch), Span::NONE)))
}

/// Which half of a difference is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Take {
    /// What is new or different (upstream: `IgnoreDeletions`).
    Additions,
    /// What is gone (upstream: `IgnoreChangesAndAdditions`).
    Deletions,
}

/// `CreateThreeWayMergePatch`.
fn strategic(original: &Map, modified: &Map, current: &Map, of: &str) -> Result<Map, PatchError> {
    let differ = Differ {
        take: Take::Additions,
    };
    let additions = differ.maps(current, modified, (of, false), &Path::Root)?;
    let differ = Differ {
        take: Take::Deletions,
    };
    let mut patch = differ.maps(original, modified, (of, false), &Path::Root)?;
    merge_map(&mut patch, additions, of, Onto::Patch, &Path::Root)?;
    Ok(patch)
}

fn entry(node: Node) -> Entry {
    Entry {
        key_span: node.span,
        node,
    }
}

fn list(items: Vec<Node>) -> Entry {
    entry(Node::new(NodeValue::List(items), Span::NONE))
}

/// A list's difference: items to merge, scalars to delete, the order to keep.
#[derive(Default)]
struct ListDifference {
    items: Vec<Node>,
    deleted: Vec<Node>,
    order: Vec<Node>,
}

struct Differ {
    take: Take,
}

impl Differ {
    /// `patch.go :: diffMaps`. `of` is the type of the maps, and whether the difference names the
    /// keys to retain.
    fn maps(
        &self,
        original: &Map,
        modified: &Map,
        (of, retain): (&str, bool),
        path: &Path<'_>,
    ) -> Result<Map, PatchError> {
        let additions = self.take == Take::Additions;
        let mut patch = Map::default();
        for (key, new) in modified {
            let here = Path::Key(path, key);
            let Some(old) = original.get(key) else {
                if additions {
                    patch.insert(key.clone(), new.clone());
                }
                continue;
            };
            let field = schema::field(of, key);
            match (&old.node.value, &new.node.value) {
                (NodeValue::Map(_), NodeValue::Map(_)) if field.replace => {
                    patch.extend(additions.then(|| (key.clone(), new.clone())));
                }
                (NodeValue::Map(old), NodeValue::Map(new)) => {
                    let changes = self.maps(old, new, (field.of, field.retain), &here)?;
                    if !changes.is_empty() {
                        let node = Node::new(NodeValue::Map(changes), Span::NONE);
                        patch.insert(key.clone(), entry(node));
                    }
                }
                (NodeValue::List(old), NodeValue::List(new)) if field.merge => {
                    let difference = self.lists(old, new, field, &here)?;
                    put_list(&mut patch, key, difference);
                }
                _ if additions && !old.node.same(&new.node) => {
                    patch.insert(key.clone(), new.clone());
                }
                _ => {}
            }
        }
        if !additions {
            for (key, _) in original
                .iter()
                .filter(|(key, _)| !modified.contains_key(*key))
            {
                patch.insert(key.clone(), entry(Node::null(Span::NONE)));
            }
        }
        let mut kept: Vec<&str> = modified
            .iter()
            .filter(|(_, entry)| !entry.node.is_null())
            .map(|(key, _)| &**key)
            .collect();
        let more = |(key, old): (&_, &Entry)| !old.node.is_null() && !modified.contains_key(key);
        if retain && !kept.is_empty() && (!patch.is_empty() || original.iter().any(more)) {
            kept.sort_unstable();
            let keys = kept.into_iter().map(|key| Node::text(key, Span::NONE));
            patch.insert(RETAIN_KEYS.into(), list(keys.collect()));
        }
        Ok(patch)
    }

    /// `patch.go :: diffLists`.
    fn lists(
        &self,
        original: &[Node],
        modified: &[Node],
        field: Field,
        path: &Path<'_>,
    ) -> Result<ListDifference, PatchError> {
        let additions = self.take == Take::Additions;
        let mut difference = ListDifference::default();
        if original.is_empty() {
            if additions {
                difference.items = modified.to_vec();
            }
            return Ok(difference);
        }
        if element_kind(original, modified, path)? != "map" {
            return Ok(self.scalars(original, modified, field));
        }
        let (mut items, mut deleted) = self.items(original, modified, field, path)?;
        sort_by_position(&mut items, modified, field);
        let same_order = original.len() == modified.len()
            && original.iter().zip(modified).all(|(old, new)| {
                old.get(field.key)
                    .zip(new.get(field.key))
                    .is_some_and(|(a, b)| a.same(b))
            });
        items.append(&mut deleted);
        if !items.is_empty() || (additions && !same_order) {
            for (index, item) in modified.iter().enumerate() {
                let key = merge_key(item, field, &Path::Index(path, index))?;
                difference.order.push(named(field, key));
            }
        }
        difference.items = items;
        Ok(difference)
    }

    /// `patch.go :: diffListsOfScalars`, which walks both lists sorted by their text.
    fn scalars(&self, original: &[Node], modified: &[Node], field: Field) -> ListDifference {
        let sorted = |items: &[Node]| {
            let mut items = items.to_vec();
            items.sort_by_key(text);
            items
        };
        let (old, new) = (sorted(original), sorted(modified));
        let (mut added, mut deleted) = (Vec::new(), Vec::new());
        let (mut i, mut j) = (0, 0);
        while i < old.len() || j < new.len() {
            match (old.get(i).map(text), new.get(j).map(text)) {
                (Some(a), Some(b)) if a == b => {
                    i += 1;
                    j += 1;
                }
                (Some(a), b) if b.as_ref().is_none_or(|b| a < *b) => {
                    if !deleted.iter().any(|gone: &Node| gone.same(&old[i])) {
                        deleted.push(old[i].clone());
                    }
                    i += 1;
                }
                _ => {
                    added.push(new[j].clone());
                    j += 1;
                }
            }
        }
        let order = match self.take {
            Take::Deletions => {
                added.clear();
                !deleted.is_empty()
            }
            Take::Additions => {
                deleted.clear();
                // Upstream has sorted the old list in place by now.
                old.len() != modified.len() || old.iter().zip(modified).any(|(a, b)| !a.same(b))
            }
        };
        sort_by_position(&mut added, modified, field);
        ListDifference {
            items: added,
            deleted,
            order: if order { modified.to_vec() } else { Vec::new() },
        }
    }

    /// `patch.go :: diffListsOfMaps`: the items to merge, and those that delete.
    fn items(
        &self,
        original: &[Node],
        modified: &[Node],
        field: Field,
        path: &Path<'_>,
    ) -> Result<(Vec<Node>, Vec<Node>), PatchError> {
        let additions = self.take == Take::Additions;
        let old = by_key(original, field, path)?;
        let new = by_key(modified, field, path)?;
        let (mut patch, mut deleted) = (Vec::new(), Vec::new());
        let (mut i, mut j) = (0, 0);
        while i < old.len() || j < new.len() {
            match (old.get(i), new.get(j)) {
                (Some((a, before)), Some((b, after))) if a == b => {
                    if let (Some(before), Some(after_map)) = (before.as_map(), after.as_map()) {
                        let of = (field.of, field.retain);
                        let mut changes = self.maps(before, after_map, of, path)?;
                        if !changes.is_empty() {
                            let key = after.get(field.key).cloned();
                            changes.extend(key.map(|key| (field.key.into(), entry(key))));
                            patch.push(Node::new(NodeValue::Map(changes), Span::NONE));
                        }
                    }
                    i += 1;
                    j += 1;
                }
                (Some((a, before)), b) if b.is_none_or(|(b, _)| a < b) => {
                    if let (false, Some(key)) = (additions, before.get(field.key)) {
                        let mut gone = named(field, key);
                        gone.set(DIRECTIVE, Node::text("delete", Span::NONE));
                        deleted.push(gone);
                    }
                    i += 1;
                }
                (_, Some((_, after))) => {
                    if additions {
                        patch.push((*after).clone());
                    }
                    j += 1;
                }
                (_, None) => break,
            }
        }
        Ok((patch, deleted))
    }
}

fn put_list(patch: &mut Map, key: &str, difference: ListDifference) {
    let ListDifference {
        items,
        deleted,
        order,
    } = difference;
    let named = [
        (key.to_owned(), items),
        (format!("{DELETE_FROM_LIST}/{key}"), deleted),
        (format!("{SET_ORDER}/{key}"), order),
    ];
    for (key, items) in named {
        if !items.is_empty() {
            patch.insert(key.into(), list(items));
        }
    }
}

/// An item that has its merge key alone.
fn named(field: Field, key: &Node) -> Node {
    let mut item = Node::empty_map(Span::NONE);
    item.set(field.key, key.clone());
    item
}

/// Items sorted by the text of their merge keys; equal ones in reverse, as Go's insertion sort
/// leaves them of upstream's comparison.
fn by_key<'n>(
    items: &'n [Node],
    field: Field,
    path: &Path<'_>,
) -> Result<Vec<(String, &'n Node)>, PatchError> {
    let mut sorted = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let key = merge_key(item, field, &Path::Index(path, index))?;
        sorted.push((text(key), item));
    }
    sorted.reverse();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(sorted)
}

/// A scalar as Go prints it with `%v`.
fn text(node: &Node) -> String {
    match node.as_str() {
        Some(text) => text.to_owned(),
        None => node.to_json().to_string(),
    }
}

/// `jsonmergepatch/patch.go :: CreateThreeWayJSONMergePatch`, with kubectl's preconditions.
fn json_merge(original: &Map, modified: &Map, current: &Map) -> Result<Map, PatchError> {
    let additions = only(json_difference(current, modified), false);
    let deletions = only(json_difference(original, modified), true);
    let mut patch = Node::new(NodeValue::Map(deletions), Span::NONE);
    merge_patch(
        &mut patch,
        &Node::new(NodeValue::Map(additions), Span::NONE),
    );
    let named = patch
        .get("metadata")
        .is_some_and(|meta| meta.get("name").is_some());
    if patch.get("apiVersion").is_some() || patch.get("kind").is_some() || named {
        let message = "At least one of apiVersion, kind and name was changed";
        return Err(PatchError::new(message, &Path::Root, Span::NONE));
    }
    Ok(patch.as_map().cloned().unwrap_or_default())
}

/// The JSON merge patch from one map to another (evanphx/json-patch, `getDiff`).
fn json_difference(from: &Map, to: &Map) -> Map {
    let mut patch = Map::default();
    for (key, new) in to {
        match from.get(key) {
            Some(old) if old.node.same(&new.node) => {}
            Some(old) => match (old.node.as_map(), new.node.as_map()) {
                (Some(old), Some(new)) => {
                    let node = Node::new(NodeValue::Map(json_difference(old, new)), Span::NONE);
                    patch.insert(key.clone(), entry(node));
                }
                _ => {
                    patch.insert(key.clone(), new.clone());
                }
            },
            None => {
                patch.insert(key.clone(), new.clone());
            }
        }
    }
    for (key, _) in from.iter().filter(|(key, _)| !to.contains_key(*key)) {
        patch.insert(key.clone(), entry(Node::null(Span::NONE)));
    }
    patch
}

/// `keepOrDeleteNullInObj`: the nulls of a patch alone, or all but them.
fn only(patch: Map, nulls: bool) -> Map {
    let mut kept = Map::default();
    for (key, mut value) in patch {
        match &mut value.node.value {
            NodeValue::Null if nulls => {}
            NodeValue::Map(map) if !map.is_empty() => {
                *map = only(std::mem::take(map), nulls);
                if map.is_empty() {
                    continue;
                }
            }
            NodeValue::Null => continue,
            _ if nulls => continue,
            _ => {}
        }
        kept.insert(key, value);
    }
    kept
}

#[cfg(test)]
mod tests;
