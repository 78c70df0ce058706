//! Devices and scores, as tables: a node is `cpu left; what each device has left`.

use std::sync::Arc;

use smallvec::SmallVec;

use super::fgd::{Fgd, Fragmentation, TypicalPod, typical_pods};
use super::score::{BEST_FIT, DotProduct, GPU_CLUSTERING, GPU_PACKING, VectorArgs, stretch};
use super::{GpuRequest, Gpus};
use crate::api::{Pod, PodSpec};
use crate::sched::cache::{Cache, Interned};
use crate::sched::node_info::NodeInfo;
use crate::sched::plugin::{Cx, CycleState, Plugin, PodEntry};
use crate::sched::template::Template;
use crate::store::View;

const fn request(count: u32, milli: i64) -> GpuRequest {
    GpuRequest {
        count,
        milli,
        models: 0,
    }
}

fn gpus(left: &[i64]) -> Gpus {
    Gpus {
        left: left.iter().copied().collect(),
        ..Gpus::default()
    }
}

/// A node with this CPU and these devices left, of 96 cores.
pub(crate) fn node(cpu: i64, left: &[i64], kinds: &[(u32, u32)]) -> NodeInfo {
    let mut node = NodeInfo::new(0, "n".into());
    node.allocatable.cpu = 96_000;
    node.requested.cpu = 96_000 - cpu;
    node.gpus = gpus(left);
    node.gpus.kinds = SmallVec::from(kinds);
    node
}

fn pod(cpu: i64, gpu: GpuRequest) -> PodEntry {
    let spec = Arc::new(PodSpec::default());
    let mut template = Template::new(&spec, &mut Interned::default());
    (template.cpu, template.non_zero_cpu, template.gpu) = (cpu, cpu, gpu);
    PodEntry {
        id: 0,
        pod: Arc::new(Pod::default()),
        template: Arc::new(template),
        devices: 0,
    }
}

fn score(plugin: &dyn Plugin, pod: &PodEntry, node: &NodeInfo) -> i64 {
    let (view, cache) = (View::default(), Cache::default());
    let cx = Cx {
        view: &view,
        cache: &cache,
    };
    plugin.score(&cx, &CycleState::default(), pod, node)
}

#[test]
fn a_share_goes_to_the_fullest_device_and_whole_pods_to_free_ones() {
    // left, request, fits, devices
    let table: [(&[i64], GpuRequest, bool, u64); 7] = [
        (&[1000, 540, 300], request(1, 300), true, 0b100),
        (&[1000, 540, 300], request(1, 400), true, 0b010),
        (&[1000, 540, 540], request(1, 400), true, 0b010),
        (&[1000, 540, 300], request(1, 1000), true, 0b001),
        (&[1000, 540, 300], request(2, 1000), false, 0b001),
        (&[540, 300], request(1, 600), false, 0),
        (&[0, 1000, 1000, 1000], request(2, 1000), true, 0b0110),
    ];
    for (left, request, fits, devices) in table {
        let gpus = gpus(left);
        assert_eq!(gpus.fits(&request), fits, "{left:?} {request:?}");
        assert_eq!(gpus.best_fit(&request), devices, "{left:?} {request:?}");
    }
}

#[test]
fn what_a_pod_took_comes_back() {
    let mut gpus = gpus(&[1000, 1000, 1000, 1000]);
    let (share, pair) = (request(1, 250), request(2, 1000));
    let first = gpus.take(&share, 0);
    let second = gpus.take(&pair, 0);
    assert_eq!((first, second), (0b0001, 0b0110));
    assert_eq!(gpus.left.as_slice(), [750, 0, 0, 1000]);
    assert_eq!(gpus.kinds.as_slice(), [(0, 1), (2, 1)]);
    gpus.give_back(&share, first);
    gpus.give_back(&pair, second);
    assert_eq!(gpus.left.as_slice(), [1000; 4]);
    assert!(gpus.kinds.is_empty());
}

#[test]
fn fragmentation_is_what_a_typical_pod_cannot_use() {
    // Half of the pods want 4 cores and half a device, a quarter 8 cores and a whole one, a quarter
    // 1 core and no device: those can use no GPU.
    let typical = [(4_000, request(1, 500), 2), (8_000, request(1, 1000), 1)];
    let mut typical: Vec<TypicalPod> = (typical.iter())
        .map(|&(cpu, gpu, weight)| TypicalPod { cpu, gpu, weight })
        .collect();
    typical.push(TypicalPod {
        cpu: 1_000,
        gpu: GpuRequest::default(),
        weight: 1,
    });
    let fragmentation = Fragmentation::new(&typical);
    // cpu, left, 4 x fragmentation
    let table: [(i64, &[i64], i64); 5] = [
        // Idle 1000: halves can use all of it (2 x 0), whole ones too (1 x 0), CPU pods none.
        (8_000, &[1000], 1000),
        // 4 cores left: the whole ones are short of CPU: 1000 + 1000.
        (4_000, &[1000], 2000),
        // Nobody has enough CPU: 4 x 1000.
        (2_000, &[1000], 4000),
        // Idle 1300 on two devices: halves use the 900 and not the 400 (2 x 400), whole ones
        // nothing (1300), CPU pods nothing (1300).
        (8_000, &[900, 400], 3400),
        (8_000, &[0, 0], 0),
    ];
    for (cpu, left, expected) in table {
        assert_eq!(fragmentation.of(cpu, left, 0), expected, "{cpu} {left:?}");
    }
    // A model that no typical pod accepts.
    let picky = GpuRequest {
        models: 0b10,
        ..request(1, 500)
    };
    let one = [TypicalPod {
        cpu: 0,
        gpu: picky,
        weight: 1,
    }];
    let fragmentation = Fragmentation::new(&one);
    assert_eq!(fragmentation.of(1, &[1000], 0b01), 1000);
    assert_eq!(fragmentation.of(1, &[1000], 0b10), 0);
}

#[test]
fn typical_pods_are_the_most_frequent_95_percent() {
    let mut all = vec![(1_000, request(1, 500)); 90];
    all.extend(vec![(2_000, request(1, 1000)); 5]);
    all.extend(vec![(2_000, request(2, 1000)); 4]);
    all.extend(vec![(9_000, request(8, 1000)); 1]);
    let typical = typical_pods(all.into_iter());
    let weights: Vec<u64> = typical.iter().map(|t| t.weight).collect();
    // 90 is less than 95 of 100, so another kind is taken; 95 is not.
    assert_eq!(weights, [90, 5]);
}

#[test]
fn scores_are_those_of_the_published_simulator() {
    let whole = Fragmentation::new(&[TypicalPod {
        cpu: 8_000,
        gpu: request(1, 1000),
        weight: 1,
    }]);
    let (dot, fgd) = (DotProduct::new(VectorArgs::default()), Fgd(whole));
    // plugin, pod, node, score
    let table: [(&dyn Plugin, PodEntry, NodeInfo, i64); 14] = [
        // (64/128 x 32/128 + 4/8 x 1/8) / 2 = 0.09375; 100 x (1 - that), rounded down.
        (
            &dot,
            pod(32_000, request(1, 1000)),
            node(64_000, &[1000; 4], &[]),
            90,
        ),
        // 0.5 x (64 - 32)/128 + 0.5 x (4 - 1)/8 = 0.3125
        (
            &BEST_FIT,
            pod(32_000, request(1, 1000)),
            node(64_000, &[1000; 4], &[]),
            68,
        ),
        // A free node: 33 - 4 devices.
        (
            &GPU_PACKING,
            pod(1, request(1, 500)),
            node(1, &[1000; 4], &[]),
            29,
        ),
        // A free device of a node in use: 50 - 1.
        (
            &GPU_PACKING,
            pod(1, request(1, 500)),
            node(1, &[300, 1000], &[]),
            49,
        ),
        // A device in use that has 60 % left: 100 - 6.
        (
            &GPU_PACKING,
            pod(1, request(1, 500)),
            node(1, &[600, 1000], &[]),
            94,
        ),
        (
            &GPU_PACKING,
            pod(1, request(0, 0)),
            node(1, &[600, 1000], &[]),
            0,
        ),
        // 25 x (8000 - 1600) / 8000 = 20, and 75, 50, 25 or 0 by who is there.
        (
            &GPU_CLUSTERING,
            pod(1, request(1, 500)),
            node(1, &[600, 1000], &[(0, 1)]),
            95,
        ),
        (
            &GPU_CLUSTERING,
            pod(1, request(1, 500)),
            node(1, &[600, 1000], &[(0, 1), (1, 1)]),
            70,
        ),
        (
            &GPU_CLUSTERING,
            pod(1, request(2, 1000)),
            node(1, &[600, 1000], &[(0, 1)]),
            20,
        ),
        // 25 x (8000 - 2000) / 8000 = 18, and 25.
        (
            &GPU_CLUSTERING,
            pod(1, request(2, 1000)),
            node(1, &[1000, 1000], &[]),
            43,
        ),
        // A pod that leaves nothing behind: 1000 idle and 0 fragmented, before and after.
        (
            &fgd,
            pod(8_000, request(1, 1000)),
            node(16_000, &[1000], &[]),
            50,
        ),
        // A share spoils the device: 0 fragmented before, 500 after: sigmoid(-0.5) = 0.377.
        (
            &fgd,
            pod(4_000, request(1, 500)),
            node(16_000, &[1000], &[]),
            37,
        ),
        // It fits into what is spoilt already: 500 before, 0 after: sigmoid(0.5) = 0.622.
        (
            &fgd,
            pod(4_000, request(1, 500)),
            node(16_000, &[1000, 500], &[]),
            62,
        ),
        // The CPU runs out: 0 before, 1000 after: sigmoid(-1) = 0.268.
        (
            &fgd,
            pod(12_000, request(0, 0)),
            node(16_000, &[1000], &[]),
            26,
        ),
    ];
    for (i, (plugin, pod, node, expected)) in table.iter().enumerate() {
        let name = plugin.name().name();
        assert_eq!(score(*plugin, pod, node), *expected, "{name}, case {i}");
    }
    let mut scores = [40, 60, 50];
    stretch(&mut scores);
    assert_eq!(scores, [0, 100, 50]);
}

#[test]
fn nomad_and_swarm_score_by_their_own_formulas() {
    use crate::sched::plugins::other::{NomadBinPack, SwarmSpread};
    let mut full = node(0, &[], &[]);
    full.allocatable.memory = 1 << 30;
    full.requested.memory = 1 << 30;
    // Nothing free: 20 - (1 + 1) = 18, the most.
    assert_eq!(score(&NomadBinPack, &pod(0, request(0, 0)), &full), 100);
    full.requested = Default::default();
    // All free: 20 - (10 + 10) = 0.
    assert_eq!(score(&NomadBinPack, &pod(0, request(0, 0)), &full), 0);
    full.requested.cpu = 48_000;
    full.requested.memory = 1 << 29;
    // Half free: 20 - 2 x 10^0.5 = 13.675; of 18: 75.97 %.
    assert_eq!(score(&NomadBinPack, &pod(0, request(0, 0)), &full), 76);

    let mut scores = [-(1 << 32) - 4, -7, -5, -5];
    let (view, cache) = (View::default(), Cache::default());
    let cx = Cx {
        view: &view,
        cache: &cache,
    };
    SwarmSpread.normalize(&cx, &CycleState::default(), &[], &mut scores);
    assert_eq!(scores, [0, 97, 100, 100]);
}
