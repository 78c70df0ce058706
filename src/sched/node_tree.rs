//! The order in which nodes are tried: one from each zone in turn, so that the sample that a cycle
//! looks at spans all zones (`pkg/scheduler/backend/cache/node_tree.go`).

use super::cache::NodeIx;
use crate::api::node::{BETA_REGION, BETA_ZONE, REGION, ZONE};
use crate::api::{Node, Text};

/// Nodes by zone, zones in the order of their first node.
#[derive(Debug, Default)]
pub struct NodeTree {
    zones: Vec<(Option<ZoneKey>, Vec<NodeIx>)>,
}

/// Region and zone.
type ZoneKey = (Text, Text);

impl NodeTree {
    /// Adds, moves or removes a node: `old` is the row that the tree knows, `new` the current one.
    /// Returns whether that changes the order of nodes.
    pub fn set(&mut self, ix: NodeIx, old: Option<&Node>, new: Option<&Node>) -> bool {
        if let (Some(old), Some(new)) = (old, new)
            && old.meta.labels.same(&new.meta.labels)
        {
            return false;
        }
        let before = old.map(zone_key);
        let after = new.map(zone_key);
        if before == after {
            return false;
        }
        if let Some(zone) = before {
            self.remove(ix, &zone);
        }
        if let Some(zone) = after {
            match self.zones.iter_mut().find(|(z, _)| *z == zone) {
                Some((_, nodes)) => nodes.push(ix),
                None => self.zones.push((zone, vec![ix])),
            }
        }
        true
    }

    fn remove(&mut self, ix: NodeIx, zone: &Option<ZoneKey>) {
        if let Some(at) = self.zones.iter().position(|(z, _)| z == zone) {
            let nodes = &mut self.zones[at].1;
            nodes.retain(|n| *n != ix);
            if nodes.is_empty() {
                self.zones.remove(at);
            }
        }
    }

    /// All nodes, zones interleaved.
    pub fn list(&self) -> Vec<NodeIx> {
        let count = self.zones.iter().map(|(_, nodes)| nodes.len()).sum();
        let mut list = Vec::with_capacity(count);
        let mut depth = 0;
        while list.len() < count {
            for (_, nodes) in &self.zones {
                list.extend(nodes.get(depth));
            }
            depth += 1;
        }
        list
    }
}

/// `component-helpers/node/topology :: GetZoneKey`; `None` without zone and region.
fn zone_key(node: &Node) -> Option<ZoneKey> {
    let label = |beta: &str, stable: &str| {
        let labels = &node.meta.labels;
        labels.get(beta).or_else(|| labels.get(stable)).cloned()
    };
    let zone = label(BETA_ZONE, ZONE);
    let region = label(BETA_REGION, REGION);
    let (zone, region) = (zone.unwrap_or_default(), region.unwrap_or_default());
    (!zone.is_empty() || !region.is_empty()).then_some((region, zone))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Labels, Meta};

    fn node(zone: &str) -> Node {
        let labels = Labels::from_iter([("topology.kubernetes.io/zone", zone)]);
        let meta = Meta {
            labels,
            ..Meta::default()
        };
        Node {
            meta,
            ..Node::default()
        }
    }

    #[test]
    fn zones_take_turns_and_empty_zones_disappear() {
        // zones of nodes 0, 1, 2 …; then the order
        let table: [(&[&str], &[usize]); 4] = [
            (&["a", "a", "b", "b"], &[0, 2, 1, 3]),
            (&["a", "a", "a", "b"], &[0, 3, 1, 2]),
            (&["c", "b", "a"], &[0, 1, 2]),
            (&[], &[]),
        ];
        for (zones, order) in table {
            let mut tree = NodeTree::default();
            for (ix, zone) in zones.iter().enumerate() {
                tree.set(ix, None, Some(&node(zone)));
            }
            assert_eq!(tree.list(), order, "{zones:?}");
        }
        let mut tree = NodeTree::default();
        tree.set(0, None, Some(&node("a")));
        tree.set(1, None, Some(&node("b")));
        tree.set(0, Some(&node("a")), None);
        tree.set(2, None, Some(&node("a")));
        assert_eq!(tree.list(), [1, 2]);
    }
}
