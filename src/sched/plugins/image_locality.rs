//! Prefers nodes that have the pod's images already.

use smallvec::SmallVec;

use crate::sched::cache::Cache;
use crate::sched::node_info::NodeInfo;
use crate::sched::plugin::{Cx, CycleState, MAX_NODE_SCORE, Plugin, PluginName, PodEntry, Points};
use crate::sched::template::Template;

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

    fn normalizes(&self) -> bool {
        false
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
        score_of(cx.cache, &pod.template, &sizes(pod, node))
    }
}

/// The pod's images that are on a node, by number, with their sizes in bytes there.
pub fn sizes(pod: &PodEntry, node: &NodeInfo) -> SmallVec<[(usize, i64); 2]> {
    let images = pod.template.images.iter();
    let here = images.filter_map(|image| {
        let at = node.images.binary_search_by_key(image, |(n, _)| *n).ok()?;
        Some((*image, node.images[at].1))
    });
    here.collect()
}

/// The score of a node with these images.
pub fn score_of(cache: &Cache, template: &Template, sizes: &[(usize, i64)]) -> i64 {
    let total = cache.order().len() as f64;
    let mut sum: i64 = 0;
    for (image, size) in sizes {
        let spread = cache.nodes_with_image(*image) as f64 / total;
        sum += (*size as f64 * spread) as i64;
    }
    let spec = &template.spec;
    let containers = spec.init_containers.len() + spec.containers.len();
    priority(sum, i64::try_from(containers).unwrap_or(i64::MAX))
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
