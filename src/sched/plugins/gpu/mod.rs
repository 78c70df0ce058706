//! Sharing GPUs: devices of a node, what pods ask of them, and policies that know them.
//!
//! A node says `nvidia.com/gpu: 8` in its allocatable resources and names its model in the label
//! `nvidia.com/gpu.product`. A pod asks for whole devices (`nvidia.com/gpu: 2`) or for a share of
//! one (`nvidia.com/gpu-milli: 460`, thousandths of a device); it names models by node selector or
//! affinity on that label. NodeResourcesFit sees sums only, so two nodes half free on each of two
//! devices look alike to it; [`share::GpuShare`] looks at devices, refuses nodes where no single
//! device has room, and decides which devices a pod gets.
//!
//! The definitions are those of the simulator that was published with Weng et al., "Beware of
//! Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent" (USENIX
//! ATC '23), github.com/hkust-adsl/kubernetes-scheduler-simulator; each plugin cites its function.
//!
//! Read first: [`Gpus`] (a node's devices), [`GpuRequest`], then [`share`], [`score`], [`fgd`].

pub mod fgd;

pub mod score;

pub mod share;

use smallvec::SmallVec;

use crate::api::selector::Operator;
use crate::api::{Node, PodSpec};
use crate::sched::cache::Interned;
use crate::sched::template::pod_requests;

/// Resource name of whole devices.
pub const GPU: &str = "nvidia.com/gpu";
/// Resource name of shares, in thousandths of a device.
pub const GPU_MILLI: &str = "nvidia.com/gpu-milli";
/// The node label that names the model of its devices (NVIDIA's GPU feature discovery).
pub const GPU_PRODUCT: &str = "nvidia.com/gpu.product";

/// A whole device in thousandths.
pub const WHOLE: i64 = 1000;
/// More devices than any node has; the rest are ignored.
const MAX_DEVICES: i64 = 64;

/// A set of a node's devices, bit by bit.
pub type Devices = u64;

/// A set of GPU models by number. Models past the 63rd share the last bit: only measures of
/// fragmentation compare these, whether a pod may use a node is NodeAffinity's to say.
pub type Models = u64;

fn model_bit(number: usize) -> Models {
    1 << number.min(63)
}

/// What a pod asks of GPUs; all zero when nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GpuRequest {
    /// Number of devices.
    pub count: u32,
    /// Thousandths of each of them: 1000, or less for a share of one.
    pub milli: i64,
    /// Models that will do; 0 for any.
    pub models: Models,
}

impl GpuRequest {
    /// From a pod's spec.
    pub fn of(spec: &PodSpec, interned: &mut Interned) -> GpuRequest {
        let requests = pod_requests(spec);
        let (whole, share) = (requests.extended(GPU), requests.extended(GPU_MILLI));
        let (count, milli) = match (whole, share) {
            (whole, _) if whole > 0 => (whole, WHOLE),
            (_, share) if share > 0 && share < WHOLE => (1, share),
            (_, share) if share > 0 => ((share + WHOLE - 1) / WHOLE, WHOLE),
            _ => return GpuRequest::default(),
        };
        GpuRequest {
            count: u32::try_from(count).unwrap_or(u32::MAX),
            milli,
            models: models(spec, interned),
        }
    }

    /// Whether it asks for a part of one device.
    pub fn shared(&self) -> bool {
        self.count == 1 && self.milli < WHOLE
    }

    /// All of it, in thousandths of a device.
    pub fn total(&self) -> i64 {
        self.milli * i64::from(self.count)
    }
}

/// The models that a pod's node selector or required node affinity lists; 0 for any.
fn models(spec: &PodSpec, interned: &mut Interned) -> Models {
    if let Some(model) = spec.node_selector.get(GPU_PRODUCT) {
        return model_bit(interned.gpu_model(model));
    }
    let required = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_required.as_ref());
    let mut models = 0;
    for requirement in required.into_iter().flatten().flat_map(|t| &t.expressions) {
        if requirement.key == GPU_PRODUCT && requirement.operator == Operator::In {
            for value in &requirement.values {
                models |= model_bit(interned.gpu_model(value));
            }
        }
    }
    models
}

/// The devices of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gpus {
    /// What each device has left, in thousandths.
    pub left: SmallVec<[i64; 8]>,
    /// The model, as a set of one; 0 when the node does not say.
    pub model: Models,
    /// How many pods of each kind are on the node: kind 0 are shares, kind n those with n devices.
    pub kinds: SmallVec<[(u32, u32); 2]>,
}

impl Gpus {
    /// Unused devices of a node.
    pub fn of(node: &Node, interned: &mut Interned) -> Gpus {
        let count = node.status.allocatable.extended(GPU).clamp(0, MAX_DEVICES);
        let model = node.meta.labels.get(GPU_PRODUCT);
        Gpus {
            left: (0..count).map(|_| WHOLE).collect(),
            model: model.map_or(0, |model| model_bit(interned.gpu_model(model))),
            kinds: SmallVec::new(),
        }
    }

    /// All that is left, in thousandths of a device.
    pub fn total_left(&self) -> i64 {
        self.left.iter().sum()
    }

    /// Devices that nobody uses.
    pub fn free(&self) -> usize {
        self.left.iter().filter(|left| **left == WHOLE).count()
    }

    /// Whether enough devices have room.
    pub fn fits(&self, request: &GpuRequest) -> bool {
        let room = self.left.iter().filter(|left| **left >= request.milli);
        room.count() >= request.count as usize
    }

    /// The devices that a pod gets when nobody chooses: for a share the fullest one that has room
    /// (`allocateGpuIdBasedOnBestFit`), otherwise the first free ones (`AllocateExclusiveGpuId`).
    pub fn best_fit(&self, request: &GpuRequest) -> Devices {
        if !request.shared() {
            return self.exclusive(request);
        }
        let room = (self.left.iter().enumerate()).filter(|(_, left)| **left >= request.milli);
        room.min_by_key(|(_, left)| **left)
            .map_or(0, |(at, _)| 1 << at)
    }

    /// The first free devices.
    pub fn exclusive(&self, request: &GpuRequest) -> Devices {
        let free = (self.left.iter().enumerate()).filter(|(_, left)| **left == WHOLE);
        let taken = free.take(request.count as usize);
        taken.fold(0, |devices, (at, _)| devices | 1 << at)
    }

    /// Counts a pod in, on these devices or (0) on those of [`Gpus::best_fit`], and returns them.
    /// Pods that were bound past the scheduler may find no room; they get what there is.
    pub fn take(&mut self, request: &GpuRequest, chosen: Devices) -> Devices {
        let devices = if chosen == 0 {
            self.best_fit(request)
        } else {
            chosen
        };
        self.change(request, devices, 1);
        devices
    }

    /// Counts a pod out.
    pub fn give_back(&mut self, request: &GpuRequest, devices: Devices) {
        self.change(request, devices, -1);
    }

    fn change(&mut self, request: &GpuRequest, devices: Devices, sign: i64) {
        for (at, left) in self.left.iter_mut().enumerate() {
            if devices & 1 << at != 0 {
                *left -= sign * request.milli;
            }
        }
        let kind = if request.shared() { 0 } else { request.count };
        match self.kinds.iter_mut().find(|(k, _)| *k == kind) {
            Some((_, pods)) if sign > 0 => *pods += 1,
            Some((_, pods)) => *pods -= 1,
            None if sign > 0 => self.kinds.push((kind, 1)),
            None => {}
        }
        self.kinds.retain(|(_, pods)| *pods > 0);
    }
}

#[cfg(test)]
pub(crate) mod tests;
