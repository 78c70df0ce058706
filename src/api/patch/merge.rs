//! JSON merge patch (RFC 7386), with the details of the API server's library (evanphx/json-patch).

use crate::api::yaml::{Entry, Map, Node};

/// Applies a JSON merge patch: maps are merged, `null` deletes, everything else replaces.
///
/// As the API server does, and beyond the RFC, nulls within the items of a new list are dropped,
/// too.
pub fn merge_patch(object: &mut Node, patch: &Node) {
    match (object.as_map_mut(), patch.as_map()) {
        (Some(map), Some(changes)) => merge_maps(map, changes),
        (Some(_), None) => *object = patch.clone(),
        (None, _) => {
            *object = patch.clone();
            drop_nulls(object);
        }
    }
}

fn merge_maps(map: &mut Map, changes: &Map) {
    for (key, change) in changes {
        if change.node.is_null() {
            map.shift_remove(key);
            continue;
        }
        match map.get_mut(key) {
            Some(entry) => merge_patch(&mut entry.node, &change.node),
            None => {
                let mut node = change.node.clone();
                drop_nulls(&mut node);
                map.insert(
                    key.clone(),
                    Entry {
                        key_span: change.key_span,
                        node,
                    },
                );
            }
        }
    }
}

/// Removes the null values of maps; null items of lists stay.
pub(super) fn drop_nulls(node: &mut Node) {
    if let Some(map) = node.as_map_mut() {
        map.retain(|_, entry| !entry.node.is_null());
        map.values_mut()
            .for_each(|entry| drop_nulls(&mut entry.node));
    } else if let Some(items) = node.as_list_mut() {
        items.iter_mut().for_each(drop_nulls);
    }
}
