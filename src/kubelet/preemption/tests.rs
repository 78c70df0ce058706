//! Who goes for a critical pod.

use std::sync::Arc;

use super::*;

/// `name:priority:cpu/memory`, `=` for limits that equal the requests.
fn pod(text: &str) -> Pod {
    let mut parts = text.split(':');
    let mut pod = Pod::default();
    pod.meta.name = parts.next().unwrap().into();
    let spec = Arc::make_mut(&mut pod.spec);
    spec.priority = parts.next().unwrap().parse().unwrap();
    let amounts = parts.next().unwrap();
    let guaranteed = amounts.ends_with('=');
    let (cpu, memory) = amounts.trim_end_matches('=').split_once('/').unwrap();
    let mut container = crate::api::container::Container::default();
    container.requests.cpu_milli = cpu.parse().unwrap();
    container.requests.memory = memory.parse().unwrap();
    container.requests.named = 0b11 * u8::from(container.requests.memory > 0);
    if guaranteed {
        container.limits = container.requests.clone();
    }
    spec.requests = container.requests.clone();
    spec.containers = vec![container];
    pod
}

/// After `preemption_test.go :: TestGetPodsToPreempt` and `TestGetPodsToPreemptByDistance`.
#[test]
fn the_fewest_and_smallest_pods_of_the_lowest_class_go() {
    let node = "none:0:0/0 small:0:100/100 large:0:400/400 sure:0:200/200= core:2000000000:900/900";
    let table = [
        // (what is missing, who goes)
        ("pods 1", "none"),
        ("cpu 100", "small"),
        ("cpu 101", "large"),
        ("cpu 450", "large small"),
        ("memory 300", "large"),
        ("cpu 100 memory 400", "large"),
        // burstable pods have 500: one more needs the guaranteed one's 200, and then 301 are left
        ("cpu 501", "large sure"),
        ("cpu 550 pods 1", "large sure"),
        ("cpu 601", "large small sure"),
        (
            "cpu 701",
            "no set of running pods found to reclaim resources: [(res: cpu, q: 1), ]",
        ),
    ];
    for (missing, expected) in table {
        let pods: Vec<Pod> = node.split(' ').map(pod).collect();
        let pods: Vec<&Pod> = pods.iter().collect();
        let words: Vec<&str> = missing.split(' ').collect();
        let lacking: Vec<Lacking> = words
            .chunks(2)
            .map(|pair| Lacking {
                name: pair[0].to_owned(),
                requested: pair[1].parse().unwrap(),
                used: 0,
                capacity: 0,
            })
            .collect();
        let critical = pod("c:2000000000:1000/1000");
        let got = match victims(&critical, &pods, &lacking) {
            Err(why) => why,
            Ok(victims) => {
                let names = victims.iter().map(|at| pods[*at].meta.name.as_str());
                let mut names: Vec<&str> = names.collect();
                names.sort_unstable();
                names.join(" ")
            }
        };
        assert_eq!(got, expected, "{missing}");
    }
}
