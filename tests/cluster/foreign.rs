//! One scenario that names no workload runs on the manifests of six public applications, unchanged.

use std::path::{Path, PathBuf};

use rehearsal::check::run::{RunOptions, run};
use rehearsal::scenario::{LoadOptions, load};

/// Below the folder beside the repository: what of each application is applied.
const APPLICATIONS: [&str; 6] = [
    "online-boutique/release/kubernetes-manifests.yaml",
    "sock-shop/deploy/kubernetes/complete-demo.yaml",
    "istio-bookinfo/samples/bookinfo/platform/kube/bookinfo.yaml",
    "podinfo/kustomize",
    "voting-app/k8s-specifications",
    "deathstarbench-hotel/hotelReservation/kubernetes",
];

fn folder() -> PathBuf {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test may be pointed at other manifests"
    )]
    match std::env::var("REHEARSAL_MANIFESTS") {
        Ok(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/manifests"),
    }
}

#[test]
fn a_node_loss_is_rehearsed_on_manifests_of_others() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut ran = 0;
    for application in APPLICATIONS {
        let resources = folder().join(application);
        if !resources.exists() {
            println!("skipped: no {}", resources.display());
            continue;
        }
        let options = LoadOptions {
            resources: Some(vec![resources]),
            ..LoadOptions::default()
        };
        let loaded = load(&[here.join("scenarios/plain-node-loss.yaml")], &options)
            .unwrap_or_else(|rejected| panic!("{application}: {}", rejected.render(false)));
        let mut options = RunOptions {
            stop: &mut |_, _| false,
            arguments: Vec::new(),
        };
        let finished = run(&loaded.scenarios[0], &mut options)
            .unwrap_or_else(|error| panic!("{application}: {error:?}"));
        let record = finished.record;
        assert_eq!(record.faults.len(), 2, "{application}: lost and back");
        assert!(
            record.pods.iter().any(|pod| pod.ready.is_some()),
            "{application}: no pod was ever ready"
        );
        for check in &record.checks {
            assert!(
                check.passed,
                "{application}: {}: {}",
                check.name, check.detail
            );
        }
        ran += 1;
    }
    println!("{ran} of {} applications ran", APPLICATIONS.len());
}
