//! What all trials of a variant have in common: nodes, the profile, typical pods.

use std::sync::Arc;
use std::time::Duration;

use super::arrivals::gpu_of;
use crate::api::quantity::Resources;
use crate::api::{Labels, Meta, Node, Row, Text};
use crate::cluster::build;
use crate::engine::{Draws, Time};
use crate::scenario::TracePlan;
use crate::scenario::trace::TraceNode;
use crate::sched::cache::Cache;
use crate::sched::config::{Enabled, Point, Profile};
use crate::sched::plugin::PluginName;
use crate::sched::plugins::gpu::fgd::{TypicalPod, typical_pods};
use crate::sched::plugins::gpu::{GPU, GPU_MILLI, WHOLE};
use crate::store::{Cause, Store, View, Write};

/// A variant over a trace, ready for any seed.
#[derive(Debug)]
pub struct Prepared<'p> {
    /// The variant.
    pub plan: &'p TracePlan,
    /// The nodes.
    pub nodes: Vec<Arc<Node>>,
    /// The profile that places the pods.
    pub profile: Profile,
    /// `percentageOfNodesToScore`.
    pub percentage: i32,
    /// What the workload typically asks for; against this fragmentation is measured.
    pub typical: Vec<TypicalPod>,
    /// Whether pods differ in priority.
    pub preempts: bool,
    /// How long the run is about to last.
    pub length: Duration,
    store: Store,
}

impl<'p> Prepared<'p> {
    /// Prepares a variant.
    pub fn new(plan: &'p TracePlan) -> Prepared<'p> {
        let shares = (plan.trace.pods.iter()).any(|p| p.spec.requests.extended(GPU_MILLI) > 0);
        let nodes = nodes(plan, shares);
        let mut cache = Cache::default();
        for node in &nodes {
            cache.set_node(node);
        }
        let requests: Vec<_> = (plan.trace.pods.iter())
            .map(|pod| {
                let template = cache.template(&pod.spec);
                (template.non_zero_cpu, template.gpu)
            })
            .collect();
        let gpus = plan.trace.pods.iter().any(|pod| gpu_of(pod) > 0);
        let mut profile = plan.scheduler.profiles[0].clone();
        if gpus {
            add_gpu_share(&mut profile);
        }
        let typical = match profile.args.policies.typical_pods.is_empty() {
            true => typical_pods(requests.into_iter()),
            false => profile.args.policies.typical_pods.clone(),
        };
        profile.args.policies.typical_pods.clone_from(&typical);
        let mut priorities = plan.trace.pods.iter().map(|pod| pod.spec.priority);
        let first = priorities.next();
        let ends = plan
            .trace
            .pods
            .iter()
            .map(|p| p.arrival + p.runs.unwrap_or_default());
        let mut store = Store::new(Draws::new(0));
        for node in &nodes {
            let create = Write::Create(Row::Node(node.clone()));
            // A node that the API server refuses has no name that a fault could select.
            let _ = store.write(&create, Time::ZERO, Cause::default());
        }
        Prepared {
            nodes,
            percentage: plan.scheduler.percentage_of_nodes_to_score,
            typical,
            preempts: priorities.any(|priority| Some(priority) != first),
            length: plan.duration.or_else(|| ends.max()).unwrap_or_default(),
            profile,
            plan,
            store,
        }
    }

    /// The nodes as objects, for faults to select from.
    pub fn view(&self) -> &View {
        self.store.view()
    }
}

/// Devices are looked at one by one where a trace asks for GPUs, whatever the profile: a share of a
/// GPU on two halves is no policy, it is impossible.
fn add_gpu_share(profile: &mut Profile) {
    let plugins = &mut profile.plugins;
    let plugin = PluginName::GpuShare;
    let listed = |set: &[Enabled]| set.iter().any(|e| e.plugin == plugin);
    for point in [Point::PreFilter, Point::Filter, Point::Reserve] {
        let set = &mut plugins.points[point as usize];
        if !listed(&plugins.multi_point) && !listed(&set.enabled) {
            set.enabled.push(Enabled { plugin, weight: 0 });
        }
    }
}

fn nodes(plan: &TracePlan, shares: bool) -> Vec<Arc<Node>> {
    let pools = plan.cluster.pools.iter();
    let of_pools = pools.flat_map(|pool| (0..pool.count).map(|nth| build::node(pool, nth)));
    let listed = plan.nodes.iter().map(trace_node);
    let all = of_pools.chain(listed).map(|mut node| {
        if shares {
            for resources in [&mut node.status.capacity, &mut node.status.allocatable] {
                add_shares(resources);
            }
        }
        Arc::new(node)
    });
    all.collect()
}

/// Shares of the node's devices, as sums: NodeResourcesFit would refuse them otherwise.
fn add_shares(resources: &mut Resources) {
    let gpus = resources.extended(GPU);
    if gpus > 0 {
        resources.set_extended(&Text::from(GPU_MILLI), gpus * WHOLE);
    }
}

fn trace_node(listed: &TraceNode) -> Node {
    let mut labels = Labels::default().with("kubernetes.io/hostname", listed.name.clone());
    for (key, value) in listed.labels.iter() {
        labels = labels.with(key, value.clone());
    }
    let mut node = Node {
        meta: Meta {
            name: listed.name.clone(),
            labels,
            ..Meta::default()
        },
        ..Node::default()
    };
    node.status.capacity = listed.capacity.clone();
    node.status.allocatable = listed.capacity.clone();
    node
}
