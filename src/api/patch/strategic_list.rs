//! Strategic merge patch: how lists are merged and in which order their items end up.
//!
//! Items of a list of maps are the same when their merge keys are; scalars when they are equal. The
//! patch decides the order among its own items, the object that among the others, and the two are
//! woven together so that an item of the object stays in front of what it stood in front of
//! (apimachinery, `strategicpatch/patch.go :: mergeSlice`, `normalizeElementOrder`).

use super::PatchError;
use super::schema::Field;
use super::strategic::{DIRECTIVE, Onto, merge_map};
use crate::api::print::go_value;
use crate::api::yaml::{Node, NodeValue, Path, Span};

/// `patch.go :: mergeSlice`. Returns the items before they were put in order, unless the patch
/// replaced the list.
pub(super) fn merge_lists(
    original: &mut Vec<Node>,
    patch: Vec<Node>,
    field: Field,
    onto: Onto,
    path: &Path<'_>,
) -> Result<Option<Vec<Node>>, PatchError> {
    if original.is_empty() && patch.is_empty() {
        return Ok(None);
    }
    if element_kind(original, &patch, path)? != "map" {
        let both = original.iter().chain(&patch).cloned();
        let merged = both.fold(Vec::new(), |mut unique: Vec<Node>, item| {
            if !unique.iter().any(|known| known.same(&item)) {
                unique.push(item);
            }
            unique
        });
        *original = order_by(merged, &patch, original, (field, false), path)?;
        return Ok(None);
    }
    if field.key.is_empty() {
        let span = patch.first().map_or(Span::NONE, |item| item.span);
        let message = "cannot merge lists without merge key";
        return Err(PatchError::new(message, path, span));
    }
    let (patch, replaced) = apply_item_directives(original, patch, field, path)?;
    let merged = merge_items(original.clone(), &patch, field, onto, path)?;
    *original = order_by(merged.clone(), &patch, original, (field, true), path)?;
    Ok((!replaced).then_some(merged))
}

/// `patch.go :: sliceElementType`: all items must be of one kind, and no lists.
pub(super) fn element_kind(
    original: &[Node],
    patch: &[Node],
    path: &Path<'_>,
) -> Result<&'static str, PatchError> {
    let mut kind = None;
    for item in original.iter().chain(patch) {
        let span = item.span;
        if item.as_list().is_some() {
            return Err(PatchError::new(
                "lists of lists are not supported",
                path,
                span,
            ));
        }
        if *kind.get_or_insert(item.kind()) != item.kind() || item.is_null() {
            return Err(PatchError::new(
                "list element types are not identical",
                path,
                span,
            ));
        }
    }
    kind.ok_or_else(|| PatchError::new("no elements in any of the given slices", path, Span::NONE))
}

/// `patch.go :: mergeSliceWithSpecialElements`: carries out the items with `$patch` and returns the
/// others, and whether they replaced the list.
fn apply_item_directives(
    original: &mut Vec<Node>,
    patch: Vec<Node>,
    field: Field,
    path: &Path<'_>,
) -> Result<(Vec<Node>, bool), PatchError> {
    let mut plain = Vec::new();
    let mut replace = false;
    for (index, item) in patch.into_iter().enumerate() {
        let Some(directive) = item.get(DIRECTIVE) else {
            plain.push(item);
            continue;
        };
        let here = Path::Index(path, index);
        match directive.as_str() {
            Some("delete") => {
                let wanted = merge_key(&item, field, &here)?;
                original.retain(|old| !old.get(field.key).is_some_and(|key| key.same(wanted)));
            }
            Some("replace") => replace = true,
            Some("merge") => {
                let message = "merging lists cannot yet be specified in the patch";
                return Err(PatchError::new(message, &here, directive.span));
            }
            _ => {
                let message = format!(
                    "unknown patch type: {} in map: {}",
                    go_value(&directive.to_json()),
                    go_value(&item.to_json())
                );
                return Err(PatchError::new(message, &here, directive.span));
            }
        }
    }
    if replace {
        *original = plain;
        return Ok((Vec::new(), true));
    }
    Ok((plain, false))
}

/// The value of an item's merge key.
pub(super) fn merge_key<'n>(
    item: &'n Node,
    field: Field,
    path: &Path<'_>,
) -> Result<&'n Node, PatchError> {
    item.get(field.key).ok_or_else(|| {
        let message = format!(
            "map: {} does not contain declared merge key: {}",
            go_value(&item.to_json()),
            field.key
        );
        PatchError::new(message, path, item.span)
    })
}

/// `patch.go :: mergeSliceWithoutSpecialElements`.
fn merge_items(
    mut original: Vec<Node>,
    patch: &[Node],
    field: Field,
    onto: Onto,
    path: &Path<'_>,
) -> Result<Vec<Node>, PatchError> {
    for (index, item) in patch.iter().enumerate() {
        let here = Path::Index(path, index);
        let wanted = merge_key(item, field, &here)?;
        let found = original
            .iter_mut()
            .find(|old| old.get(field.key).is_some_and(|key| key.same(wanted)));
        match (found.map(|old| &mut old.value), &item.value) {
            (Some(NodeValue::Map(map)), NodeValue::Map(changes)) => {
                merge_map(map, changes.clone(), field.of, onto, &here)?;
            }
            _ => original.push(item.clone()),
        }
    }
    Ok(original)
}

/// `$deleteFromPrimitiveList`: takes scalars out of a list.
pub(super) fn delete_scalars(
    old: &mut Node,
    deleted: &Node,
    field: Field,
    path: &Path<'_>,
) -> Result<(), PatchError> {
    let (NodeValue::List(items), NodeValue::List(deleted)) = (&mut old.value, &deleted.value)
    else {
        return Ok(());
    };
    if items.is_empty() && deleted.is_empty() {
        return Ok(());
    }
    if element_kind(items, deleted, path)? == "map" {
        return merge_lists(items, deleted.clone(), field, Onto::Object, path).map(drop);
    }
    items.retain(|item| !deleted.iter().any(|gone| gone.same(item)));
    Ok(())
}

/// `patch.go :: validatePatchWithSetOrderList`: the items of the patch must stand in the order
/// list, and in its order.
pub(super) fn check_set_order(
    patch: &[Node],
    order: &[Node],
    field: Field,
    path: &Path<'_>,
) -> Result<(), PatchError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut items = patch
        .iter()
        .filter(|item| field.key.is_empty() || !deletes(item))
        .peekable();
    let mut rest = order.iter();
    while let Some(item) = items.peek() {
        let Some(next) = rest.as_slice().first() else {
            let message = "the order in the patch list doesn't match the $setElementOrder list";
            return Err(PatchError::new(message, path, item.span));
        };
        // An item with a directive is passed over, but only in front of a name of the order.
        if item.get(DIRECTIVE).is_some() {
            items.next();
            continue;
        }
        let equal = if field.key.is_empty() {
            item.same(next)
        } else {
            merge_key(item, field, path)?.same(merge_key(next, field, path)?)
        };
        if equal {
            items.next();
        }
        rest.next();
    }
    Ok(())
}

/// `patch.go :: normalizeElementOrder`: items named in `order` in that order, the others in the
/// object's order, woven together. `maps` says what the items are.
pub(super) fn order_by(
    merged: Vec<Node>,
    order: &[Node],
    server_order: &[Node],
    (field, maps): (Field, bool),
    path: &Path<'_>,
) -> Result<Vec<Node>, PatchError> {
    if maps || !field.key.is_empty() {
        for item in merged.iter().chain(order).chain(server_order) {
            merge_key(item, field, path)?;
        }
    }
    let (mut patched, mut others): (Vec<Node>, Vec<Node>) = merged
        .into_iter()
        .partition(|item| position(order, item, field).is_some());
    sort_by_position(&mut patched, order, field);
    sort_by_position(&mut others, server_order, field);
    // Items that delete (they stay when a patch is merged into a patch) come after the others.
    for items in [&mut patched, &mut others] {
        items.sort_by_key(deletes);
    }
    let mut patched = patched.into_iter().peekable();
    let mut others = others.into_iter().peekable();
    let mut all = Vec::new();
    loop {
        let other_first = match (others.peek(), patched.peek()) {
            (None, None) => return Ok(all),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(other), Some(patch)) => {
                match (
                    position(server_order, other, field),
                    position(server_order, patch, field),
                ) {
                    (Some(a), Some(b)) => a < b,
                    _ => false,
                }
            }
        };
        all.extend(if other_first {
            others.next()
        } else {
            patched.next()
        });
    }
}

fn deletes(item: &Node) -> bool {
    item.get(DIRECTIVE).and_then(Node::as_str) == Some("delete")
}

/// `patch.go :: normalizeSliceOrder`: an insertion sort in which an item that the order does not
/// name goes in front, as Go's sort makes it of a comparison that is no order.
pub(super) fn sort_by_position(items: &mut [Node], order: &[Node], field: Field) {
    for end in 1..items.len() {
        for at in (1..=end).rev() {
            let (left, right) = (
                position(order, &items[at - 1], field),
                position(order, &items[at], field),
            );
            let before = match (right, left) {
                (Some(right), Some(left)) => right < left,
                _ => true,
            };
            if !before {
                break;
            }
            items.swap(at - 1, at);
        }
    }
}

fn position(order: &[Node], item: &Node, field: Field) -> Option<usize> {
    if field.key.is_empty() {
        return order.iter().position(|other| other.same(item));
    }
    let wanted = item.get(field.key)?;
    order
        .iter()
        .position(|other| other.get(field.key).is_some_and(|key| key.same(wanted)))
}
