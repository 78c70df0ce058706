//! The in-tree plugins, one module each (`pkg/scheduler/framework/plugins`).
//!
//! Read first: [`node_basic`] (the smallest filters), [`resources`] (what a node has left, and the
//! scores made of it), then [`pod_topology_spread`] and [`inter_pod_affinity`].

pub mod basic;

pub mod node_basic;

pub mod declared_features;

pub mod node_affinity;

pub mod node_ports;

pub mod resources;

pub mod balanced;

pub mod image_locality;

pub mod pod_topology_spread;

pub mod inter_pod_affinity;

pub mod volume_restrictions;

pub mod volume_limits;

pub mod migration;

pub mod volume_binding;

pub mod volume_zone;

pub mod gpu;

pub mod other;

pub mod unprepared;

use super::cache::Cache;
use super::config::Args;
use super::plugin::{Plugin, PluginName};
use crate::engine::draws::Draws;

/// Builds a plugin with its arguments.
pub fn build(name: PluginName, args: &Args, cache: &mut Cache) -> Box<dyn Plugin> {
    match name {
        PluginName::SchedulingGates => Box::new(basic::SchedulingGates),
        PluginName::PrioritySort => Box::new(basic::PrioritySort),
        PluginName::DynamicResources => Box::new(basic::DynamicResources),
        PluginName::DefaultPreemption => Box::new(basic::DefaultPreemption),
        PluginName::DefaultBinder => Box::new(basic::DefaultBinder),
        PluginName::NodeDeclaredFeatures => Box::new(declared_features::NodeDeclaredFeatures),
        PluginName::NodeUnschedulable => Box::new(node_basic::NodeUnschedulable),
        PluginName::NodeName => Box::new(node_basic::NodeName),
        PluginName::TaintToleration => Box::new(node_basic::TaintToleration),
        PluginName::NodeAffinity => {
            Box::new(node_affinity::NodeAffinity(args.node_affinity.clone()))
        }
        PluginName::NodePorts => Box::new(node_ports::NodePorts),
        PluginName::NodeResourcesFit => Box::new(resources::Fit::new(&args.fit, cache)),
        PluginName::NodeResourcesBalancedAllocation => {
            Box::new(balanced::BalancedAllocation::new(&args.balanced, cache))
        }
        PluginName::ImageLocality => Box::new(image_locality::ImageLocality),
        PluginName::PodTopologySpread => Box::new(pod_topology_spread::PodTopologySpread::new(
            &args.spread,
            cache,
        )),
        PluginName::InterPodAffinity => {
            Box::new(inter_pod_affinity::InterPodAffinity(args.pod_affinity))
        }
        PluginName::VolumeRestrictions => Box::new(volume_restrictions::VolumeRestrictions),
        PluginName::NodeVolumeLimits => Box::new(volume_limits::NodeVolumeLimits),
        PluginName::VolumeBinding => Box::new(volume_binding::VolumeBinding),
        PluginName::VolumeZone => Box::new(volume_zone::VolumeZone),
        other => build_policy(other, args),
    }
}

/// Builds a plugin that is not part of the reference version.
fn build_policy(name: PluginName, args: &Args) -> Box<dyn Plugin> {
    let args = &args.policies;
    let fragmentation = || gpu::fgd::Fragmentation::new(&args.typical_pods);
    let draws = Draws::new(args.seed);
    match name {
        PluginName::GpuShare => Box::new(gpu::share::GpuShare::new(
            args.selection,
            args.vectors,
            fragmentation(),
            draws,
        )),
        PluginName::DotProductScore => Box::new(gpu::score::DotProduct::new(args.vectors)),
        PluginName::BestFitScore => Box::new(gpu::score::BEST_FIT),
        PluginName::GpuPackingScore => Box::new(gpu::score::GPU_PACKING),
        PluginName::GpuClusteringScore => Box::new(gpu::score::GPU_CLUSTERING),
        PluginName::FGDScore => Box::new(gpu::fgd::Fgd(fragmentation())),
        PluginName::RandomScore => Box::new(other::Random(draws)),
        PluginName::SwarmSpread => Box::new(other::SwarmSpread),
        PluginName::NomadBinPack => Box::new(other::NomadBinPack),
        _ => unreachable!("every plugin is built by one of the two"),
    }
}
