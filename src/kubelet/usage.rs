//! What a pod was measured to use of its node, who goes first when there is too little, and which
//! limits of its own it has passed.
//!
//! `pkg/kubelet/eviction/helpers.go` and `eviction_manager.go :: localStorageEviction`: functions of
//! the pod's spec and its usage alone.

use std::cmp::Reverse;

use super::eviction::{bytes, number};
use super::pod_worker::PodWorker;
use super::runtime::{RuntimeEvent, container_of};
use crate::api::container::Container;
use crate::api::pod::VolumeSource;
use crate::api::quantity::Quantity;
use crate::api::{PodSpec, Text};

/// What was measured of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Working set in KiB.
    memory_kib: Option<u32>,
    /// Written to the node's disk, in MiB; nothing is told of what is 0.
    disk_mib: u32,
    files: u32,
    processes: u32,
    /// Of the disk, in KiB, by container and by volume.
    layers: Vec<(u16, u32)>,
    volumes: Vec<(u16, u32)>,
}

/// What a node may be short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scarce {
    Memory,
    Disk,
    Inodes,
    Processes,
}

fn kib(amount: u32) -> i64 {
    i64::from(amount) << 10
}

impl Usage {
    /// The runtime told a part of it.
    pub(super) fn hear(&mut self, event: RuntimeEvent) {
        match event {
            RuntimeEvent::PodMemory { kib, .. } => self.memory_kib = Some(kib),
            RuntimeEvent::PodDisk { mib, .. } => self.disk_mib = mib,
            RuntimeEvent::PodFiles { files, .. } => self.files = files,
            RuntimeEvent::PodProcesses { processes, .. } => self.processes = processes,
            RuntimeEvent::ContainerDisk { index, kib, .. } => self.layers.push((index, kib)),
            RuntimeEvent::VolumeDisk { volume, kib, .. } => self.volumes.push((volume, kib)),
            _ => {}
        }
    }

    /// In bytes or numbers; of memory `None` while it is not known.
    pub(super) fn of(&self, scarce: Scarce) -> Option<i64> {
        Some(match scarce {
            Scarce::Memory => kib(self.memory_kib?),
            Scarce::Disk => i64::from(self.disk_mib) << 20,
            Scarce::Inodes => self.files.into(),
            Scarce::Processes => self.processes.into(),
        })
    }

    /// What a container wrote to its own layer, in bytes.
    fn layer(&self, index: u16) -> i64 {
        let found = self.layers.iter().find(|(of, _)| *of == index);
        found.map_or(0, |(_, amount)| kib(*amount))
    }

    /// The first limit of its own that the pod has passed (`emptyDirLimitEviction`,
    /// `podEphemeralStorageLimitEviction`, `containerEphemeralStorageLimitEviction`).
    pub(super) fn over_limit(&self, spec: &PodSpec) -> Option<String> {
        for (volume, at) in spec.volumes.iter().zip(0u16..) {
            let VolumeSource::EmptyDir(limit) = volume.source else {
                continue;
            };
            let used = self.volumes.iter().find(|(of, _)| *of == at);
            if limit > 0 && used.is_some_and(|(_, used)| kib(*used) > limit) {
                let path = format!("/volumes/{at}/emptyDir/sizeLimit");
                return Some(format!(
                    "Usage of EmptyDir volume \"{}\" exceeds the limit \"{}\". ",
                    volume.name,
                    as_written(spec, &path, limit)
                ));
            }
        }
        let on_disk = |(volume, _): &&(u16, u32)| !spec.in_memory(*volume);
        let volumes = self.volumes.iter().filter(on_disk);
        let parts = self.layers.iter().chain(volumes);
        let used: i64 = parts.map(|(_, amount)| kib(*amount)).sum();
        if let Some(limit) = storage_limit(spec)
            && used > limit
        {
            return Some(format!(
                "Pod ephemeral local storage usage exceeds the total limit of containers {}. ",
                bytes(limit)
            ));
        }
        let inits = u16::try_from(spec.init_containers.len()).unwrap_or(u16::MAX);
        for (container, at) in spec.containers.iter().zip(0u16..) {
            let limit = container.limits.ephemeral;
            if limit > 0 && self.layer(inits.saturating_add(at)) > limit {
                let path = format!("/containers/{at}/resources/limits/ephemeral-storage");
                return Some(format!(
                    "Container {} exceeded its local ephemeral storage limit \"{}\". ",
                    container.name,
                    as_written(spec, &path, limit)
                ));
            }
        }
        None
    }

    /// The end of `evictionMessage`: containers that use more than they request.
    pub(super) fn consumption(&self, spec: &PodSpec, scarce: Scarce) -> String {
        let mut text = String::new();
        let mut blame = |container: &Container, used: i64, request: i64, resource: &str| {
            if used > request {
                text += &format!(
                    "Container {} was using {}, request is {}, has larger consumption of \
                     {resource}. ",
                    container.name,
                    bytes(used),
                    bytes(request)
                );
            }
        };
        match (scarce, self.of(scarce), spec.containers.as_slice()) {
            (Scarce::Disk, ..) => {
                for (index, amount) in &self.layers {
                    if let Some(container) = container_of(spec, *index) {
                        let request = container.requests.ephemeral;
                        blame(container, kib(*amount), request, "ephemeral-storage");
                    }
                }
            }
            // Memory is measured for the pod as a whole.
            (Scarce::Memory, Some(used), [only]) => {
                blame(only, used, only.requests.memory, "memory");
            }
            _ => {}
        }
        text
    }
}

/// The limit of the pod's containers together (`resourcehelper.PodLimits`); none when no container
/// has any.
fn storage_limit(spec: &PodSpec) -> Option<i64> {
    let of = |container: &Container| container.limits.ephemeral;
    let mut all = spec.containers.iter().chain(&spec.init_containers);
    if all.all(|container| of(container) == 0) {
        return None;
    }
    let mut sum: i64 = spec.containers.iter().map(of).sum();
    let (mut sidecars, mut most) = (0, 0);
    for container in &spec.init_containers {
        let limit = of(container);
        if container.restart_always {
            sum += limit;
            sidecars += limit;
            most = most.max(sidecars);
        } else {
            most = most.max(sidecars + limit);
        }
    }
    Some(sum.max(most))
}

/// A quantity as the pod's author wrote it.
fn as_written(spec: &PodSpec, path: &str, value: i64) -> String {
    let written = spec.source.pointer(path).and_then(|v| v.as_str());
    let canonical = written.and_then(|text| Quantity::canonical(text).ok());
    canonical.unwrap_or_else(|| bytes(value))
}

/// A threshold's quantity and what is available, in the formats that upstream counts them in.
pub(super) fn available(scarce: Scarce, value: i64) -> Text {
    match scarce {
        Scarce::Memory | Scarce::Disk => bytes(value).into(),
        Scarce::Inodes | Scarce::Processes => number(value).into(),
    }
}

impl PodWorker {
    /// What was measured, in bytes or numbers.
    pub(super) fn used(&self, scarce: Scarce) -> Option<i64> {
        self.usage.as_ref()?.of(scarce)
    }

    /// Usage less the request; `None` where nothing was measured.
    fn over_request(&self, scarce: Scarce) -> Option<i64> {
        let usage = self.usage.as_ref().filter(|u| u.memory_kib.is_some())?;
        let requests = &self.row.spec.requests;
        Some(match scarce {
            Scarce::Memory => usage.of(scarce)? - requests.memory,
            Scarce::Disk => usage.of(scarce)? - requests.ephemeral,
            // Nobody requests any of these.
            Scarce::Inodes | Scarce::Processes => usage.of(scarce)?,
        })
    }
}

/// `rankMemoryPressure` and `rankDiskPressureFunc`: pods that use more than they request first, then
/// by priority, then by how much more they use. `rankPIDPressure`: by priority, then by usage. A pod
/// whose usage is unknown goes before all others.
pub(super) fn rank(pods: &mut [&PodWorker], scarce: Scarce) {
    pods.sort_by_key(|pod| {
        let Some(over) = pod.over_request(scarce) else {
            return (false, i32::MIN, Reverse(i64::MAX));
        };
        // Upstream takes the request for bytes off the number of inodes.
        let weight = match scarce {
            Scarce::Inodes => over.saturating_sub(pod.row.spec.requests.ephemeral),
            _ => over,
        };
        let within = over <= 0 && scarce != Scarce::Processes;
        (within, pod.row.spec.priority, Reverse(weight))
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::pod::Volume;
    use crate::store::Id;

    fn container(name: &str, limit: i64) -> Container {
        let mut container = Container {
            name: name.into(),
            ..Container::default()
        };
        container.limits.ephemeral = limit << 20;
        container
    }

    /// After `test/e2e_node/eviction_test.go :: LocalStorageCapacityIsolationEviction`.
    #[test]
    fn the_first_limit_that_is_passed_is_named() {
        let volume = |name: &str, limit: i64| Volume {
            name: name.into(),
            source: VolumeSource::EmptyDir(limit << 20),
        };
        let spec = PodSpec {
            containers: vec![container("app", 10), container("log", 30)],
            init_containers: vec![container("init", 35)],
            volumes: vec![volume("free", 0), volume("cache", 20)],
            ..PodSpec::default()
        };
        // Used by app, log, volume `free` and volume `cache`; all four together count for the pod,
        // whose limit is 10 + 30.
        let table = [
            ([10, 30, 0, 0], ""),
            (
                [0, 0, 0, 21],
                "Usage of EmptyDir volume \"cache\" exceeds the limit \"20Mi\". ",
            ),
            ([0, 0, 40, 0], ""),
            (
                [0, 0, 41, 0],
                "Pod ephemeral local storage usage exceeds the total limit of containers 40Mi. ",
            ),
            (
                [11, 0, 0, 0],
                "Container app exceeded its local ephemeral storage limit \"10Mi\". ",
            ),
            (
                [11, 0, 50, 21],
                "Usage of EmptyDir volume \"cache\" exceeds the limit \"20Mi\". ",
            ),
        ];
        for (used, expected) in table {
            let mut usage = Usage::default();
            let pod = Id::new(1);
            let layers = [(1, used[0]), (2, used[1])];
            for (index, mib) in layers {
                let kib = mib << 10;
                usage.hear(RuntimeEvent::ContainerDisk { pod, index, kib });
            }
            for (volume, mib) in [(0, used[2]), (1, used[3])] {
                let kib = mib << 10;
                usage.hear(RuntimeEvent::VolumeDisk { pod, volume, kib });
            }
            let said = usage.over_limit(&spec).unwrap_or_default();
            assert_eq!(said, expected, "{used:?}");
        }
        // A volume in memory takes nothing of the disk.
        let memory = serde_json::json!({"volumes": [{"emptyDir": {"medium": "Memory"}}]});
        let spec = PodSpec {
            source: std::sync::Arc::new(memory),
            ..spec
        };
        let mut usage = Usage::default();
        let (pod, volume, kib) = (Id::new(1), 0, 41 << 10);
        usage.hear(RuntimeEvent::VolumeDisk { pod, volume, kib });
        assert_eq!(usage.over_limit(&spec), None);
    }
}
