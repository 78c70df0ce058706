//! Prefers nodes on which the pod evens out the use of resources.

use smallvec::SmallVec;

use super::resources::Scored;
use crate::sched::cache::{Cache, NodeIx};
use crate::sched::config::BalancedArgs;
use crate::sched::node_info::NodeInfo;
use crate::sched::plugin::{Cx, CycleState, MAX_NODE_SCORE, Plugin, PluginName, PodEntry, Points};

/// NodeResourcesBalancedAllocation.
#[derive(Debug)]
pub struct BalancedAllocation {
    resources: Vec<Scored>,
}

impl BalancedAllocation {
    /// The plugin with its arguments.
    pub fn new(args: &BalancedArgs, cache: &mut Cache) -> BalancedAllocation {
        let resources = args.resources.iter();
        BalancedAllocation {
            resources: resources
                .map(|(name, _)| Scored::new(name, cache))
                .collect(),
        }
    }
}

impl BalancedAllocation {
    /// `isBestEffortPod`.
    fn best_effort(&self, pod: &PodEntry) -> bool {
        let mut resources = self.resources.iter();
        resources.all(|r| r.requested(&pod.template, true) == 0)
    }
}

impl Plugin for BalancedAllocation {
    fn name(&self) -> PluginName {
        PluginName::NodeResourcesBalancedAllocation
    }

    fn by_node(&self, _pod: &PodEntry) -> bool {
        true
    }

    fn normalizes(&self) -> bool {
        false
    }

    fn points(&self) -> Points {
        Points::PRE_SCORE.and(Points::SCORE)
    }

    /// Pods that ask for none of the resources are not scored.
    fn pre_score(
        &self,
        _cx: &Cx<'_>,
        _state: &mut CycleState,
        pod: &PodEntry,
        _nodes: &[NodeIx],
    ) -> bool {
        !self.best_effort(pod)
    }

    /// `balancedResourceScorer`: half of the range for how even the node is, moved by how much the
    /// pod changes that.
    fn score(&self, _cx: &Cx<'_>, _state: &CycleState, pod: &PodEntry, node: &NodeInfo) -> i64 {
        if self.best_effort(pod) {
            // A profile without PreScore gets here.
            return 0;
        }
        let mut with: SmallVec<[f64; 4]> = SmallVec::new();
        let mut without: SmallVec<[f64; 4]> = SmallVec::new();
        for resource in &self.resources {
            let (requested, allocated, allocatable) = resource.on(&pod.template, node, true);
            if allocatable != 0 {
                with.push((requested as f64 / allocatable as f64).min(1.0));
                without.push((allocated as f64 / allocatable as f64).min(1.0));
            }
        }
        let half = MAX_NODE_SCORE / 2;
        half + (half + evenness(&with) - evenness(&without)) / 2
    }
}

/// `balancedResourceScore`: 100 less the standard deviation of the fractions in percent.
fn evenness(fractions: &[f64]) -> i64 {
    let deviation = match fractions {
        [] | [_] => 0.0,
        [a, b] => ((a - b) / 2.0).abs(),
        many => {
            let mut total = 0.0;
            for fraction in many {
                total += fraction;
            }
            let mean = total / many.len() as f64;
            let mut sum = 0.0;
            for fraction in many {
                sum += (fraction - mean) * (fraction - mean);
            }
            (sum / many.len() as f64).sqrt()
        }
    };
    ((1.0 - deviation) * MAX_NODE_SCORE as f64) as i64
}
