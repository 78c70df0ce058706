//! Prefers nodes that have the pod's images already.

use crate::sched::node_info::NodeInfo;
use crate::sched::plugin::{Cx, CycleState, MAX_NODE_SCORE, Plugin, PluginName, PodEntry, Points};

const MIB: i64 = 1024 * 1024;
/// Images below this size in sum are not worth it.
const MIN_THRESHOLD: i64 = 23 * MIB;
/// Per container, sizes above this are all the same.
const MAX_CONTAINER_THRESHOLD: i64 = 1000 * MIB;

/// The plugin.
#[derive(Debug)]
pub struct ImageLocality;

impl Plugin for ImageLocality {
    fn name(&self) -> PluginName {
        PluginName::ImageLocality
    }

    fn points(&self) -> Points {
        Points::SCORE
    }

    /// Sizes are scaled by the share of nodes that have the image, so that one node with a popular
    /// image does not attract everything. Size and share are those of a fresh snapshot
    /// (`backend/cache :: NewSnapshot`); in upstream's running cache the size is that of the first
    /// node that reported the image, and the share may be older for nodes that did not change.
    fn score(&self, cx: &Cx<'_>, _state: &CycleState, pod: &PodEntry, node: &NodeInfo) -> i64 {
        if node.images.is_empty() {
            return 0;
        }
        let total = cx.cache.order().len() as f64;
        let mut sum: i64 = 0;
        for image in &pod.template.images {
            if let Ok(at) = node.images.binary_search_by_key(image, |(n, _)| *n) {
                let spread = cx.cache.nodes_with_image(*image) as f64 / total;
                sum += (node.images[at].1 as f64 * spread) as i64;
            }
        }
        let spec = &pod.template.spec;
        let containers = spec.init_containers.len() + spec.containers.len();
        priority(sum, i64::try_from(containers).unwrap_or(i64::MAX))
    }
}

/// `calculatePriority`.
fn priority(sum: i64, containers: i64) -> i64 {
    let most = MAX_CONTAINER_THRESHOLD * containers;
    let sum = if sum < MIN_THRESHOLD {
        MIN_THRESHOLD
    } else {
        sum.min(most)
    };
    MAX_NODE_SCORE * (sum - MIN_THRESHOLD) / (most - MIN_THRESHOLD)
}
