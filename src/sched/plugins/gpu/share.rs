//! GpuShare: a pod needs devices with room, and gets particular ones.

use smallvec::SmallVec;

use super::fgd::Fragmentation;
use super::score::{DotProduct, VectorArgs};
use super::{Devices, GpuRequest, Gpus};
use crate::engine::draws::{Draws, Purpose, entity_key};
use crate::sched::events::{ADD, ClusterEvent, DELETE, Resource, UPDATE_NODE_ALLOCATABLE, event};
use crate::sched::node_info::NodeInfo;
use crate::sched::plugin::{
    Cx, CycleState, Plugin, PluginName, PodEntry, Points, PreFilter, Status,
};

/// Chooses a device at random; keyed by the pod's name.
const DEVICE: Purpose = Purpose::new("sched/gpu-device");

/// How GpuShare chooses devices (`gpuSelMethod`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// The fullest device that has room.
    #[default]
    Best,
    /// The emptiest device.
    Worst,
    /// Any device that has room.
    Random,
    /// The device that DotProductScore prefers.
    DotProduct,
    /// The device after whose use the node is least fragmented (FGDScore's).
    Fgd,
}

/// GpuShare (`open_gpu_share.go`, plugin Open-Gpu-Share).
#[derive(Debug)]
pub struct GpuShare {
    selection: Selection,
    vectors: VectorArgs,
    fragmentation: Fragmentation,
    draws: Draws,
}

impl GpuShare {
    /// The plugin with its arguments.
    pub fn new(
        selection: Selection,
        vectors: VectorArgs,
        fragmentation: Fragmentation,
        draws: Draws,
    ) -> GpuShare {
        GpuShare {
            selection,
            vectors,
            fragmentation,
            draws,
        }
    }

    fn random(&self, gpus: &Gpus, request: &GpuRequest, pod: &PodEntry) -> Devices {
        let room = (0..gpus.left.len()).filter(|at| gpus.left[*at] >= request.milli);
        let room: SmallVec<[usize; 8]> = room.collect();
        if room.is_empty() {
            return 0;
        }
        let meta = &pod.pod.meta;
        let entity = entity_key(&[&meta.namespace, &meta.name]);
        let draw = self.draws.below(DEVICE, entity, 0, room.len() as u64);
        1 << room[usize::try_from(draw).unwrap_or(0)]
    }
}

impl Plugin for GpuShare {
    fn name(&self) -> PluginName {
        PluginName::GpuShare
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER.and(Points::FILTER).and(Points::RESERVE)
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const EVENTS: &[ClusterEvent] = &[
            event(Resource::AssignedPod, DELETE),
            event(Resource::Node, ADD | UPDATE_NODE_ALLOCATABLE),
        ];
        EVENTS
    }

    fn by_node(&self, _pod: &PodEntry) -> bool {
        true
    }

    fn pre_filter(&self, _cx: &Cx<'_>, _state: &mut CycleState, pod: &PodEntry) -> PreFilter {
        if pod.template.gpu.count == 0 {
            PreFilter::Skip
        } else {
            PreFilter::All
        }
    }

    fn filter(
        &self,
        _cx: &Cx<'_>,
        _state: &CycleState,
        pod: &PodEntry,
        node: &NodeInfo,
    ) -> Result<(), Status> {
        let request = &pod.template.gpu;
        if node.gpus.fits(request) {
            return Ok(());
        }
        Err(if node.gpus.left.len() < request.count as usize {
            Status::unresolvable("node(s) had too few GPUs")
        } else {
            Status::unschedulable("node(s) had no GPUs with enough room")
        })
    }

    /// `GpuSharePlugin.allocateGpuId`.
    fn devices(&self, pod: &PodEntry, node: &NodeInfo) -> Devices {
        let (request, gpus) = (&pod.template.gpu, &node.gpus);
        if request.count == 0 {
            return 0;
        }
        if !request.shared() {
            return gpus.exclusive(request);
        }
        match self.selection {
            Selection::Best => gpus.best_fit(request),
            Selection::Worst => {
                let room = (0..gpus.left.len()).filter(|at| gpus.left[*at] >= request.milli);
                // The first of equally empty ones, as upstream's strict comparison finds it.
                let best = room.rev().max_by_key(|at| gpus.left[*at]);
                best.map_or(0, |at| 1 << at)
            }
            Selection::Random => self.random(gpus, request, pod),
            Selection::DotProduct => DotProduct::new(self.vectors).best(pod, node).1,
            Selection::Fgd => self.fragmentation.best(pod, node).1,
        }
    }
}
