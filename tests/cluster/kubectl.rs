//! kubectl in a whole cluster.

use std::path::Path;

use rehearsal::check::run::{RunOptions, run};
use rehearsal::scenario::{LoadOptions, load};

#[test]
fn a_drain_by_label_cordons_every_node_before_it_evicts_from_the_first() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/search.yaml");
    let loaded = load(&[path], &LoadOptions::default());
    let loaded = loaded.unwrap_or_else(|rejected| panic!("{}", rejected.render(false)));
    let mut options = RunOptions {
        stop: &mut |_, _| false,
        arguments: Vec::new(),
    };
    let record = run(&loaded.scenarios[0], &mut options)
        .expect("it runs")
        .record;
    // At 09:00 zone b is drained, web-1 and web-4. What leaves the one must not go to the other.
    let begun = record.header.begun.as_secs_f64();
    let evicted: Vec<_> = record
        .pods
        .iter()
        .filter(|p| p.terminating.is_some())
        .collect();
    assert_eq!(evicted.len(), 1, "one pod stood in zone b");
    let placed = record.pods.iter().filter_map(|pod| {
        let at = pod.scheduled?.as_secs_f64() - begun;
        (at > 540.0).then_some(pod.node.as_str())
    });
    let placed: Vec<&str> = placed.collect();
    assert_eq!(placed.len(), 1);
    assert!(!["web-1", "web-4"].contains(&placed[0]), "{placed:?}");
}
