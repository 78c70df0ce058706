//! A published experiment, trial by trial: figure 9(a) of Weng et al., "Beware of Fragmentation"
//! (USENIX ATC '23), against its published table.
//!
//! The trace and the table belong to others and stand outside of this repository; where they are not
//! at hand the test says so. With the published simulator's own generator every trial places the very
//! pods that it placed, so that the five policies that draw nothing have to come out to the hundredth
//! of a percent. The sixth draws among nodes that its simulator lists in an order of chance.

use std::path::Path;

use rehearsal::check::compare::{self, CompareOptions};
use rehearsal::scenario::{ExperimentOptions, load_experiment};

/// Rounding of both: the table has two digits, the mean of those that arrive in its last percent.
const ROUNDING: f64 = 0.015;

/// A row of the table: its policy, our variant, and whether it draws.
const POLICIES: [(&str, bool); 6] = [
    ("01-Random", true),
    ("02-DotProd", false),
    ("03-GpuClustering", false),
    ("04-GpuPacking", false),
    ("05-BestFit", false),
    ("06-FGD", false),
];

/// Published minimum, mean and maximum of a policy, in percent.
fn published(folder: &Path, policy: &str) -> [f64; 3] {
    let text = std::fs::read_to_string(folder.join("expected_alloc.csv")).expect("the table");
    let prefix = format!("openb_pod_list_default,{policy},");
    let row = text.lines().find_map(|line| line.strip_prefix(&prefix));
    let mut values = row.expect("a row").split(',');
    std::array::from_fn(|_| {
        values
            .next()
            .and_then(|v| v.parse().ok())
            .expect("a number")
    })
}

#[test]
fn the_published_experiment_comes_out_as_published() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("../shared/traces/openb");
    if !folder.is_dir() {
        eprintln!("skipped: {} is not here", folder.display());
        return;
    }
    let options = ExperimentOptions {
        traces: Some(folder.clone()),
        ..ExperimentOptions::default()
    };
    let file = root.join("scenarios/openb/gpu-packing.yaml");
    let experiment = load_experiment(&file, &options)
        .unwrap_or_else(|rejected| panic!("{}", rejected.render(false)));
    let how = CompareOptions {
        shard: None,
        after_trial: &|| false,
    };
    let Ok(trials) = compare::run(&experiment, &how) else {
        panic!("the experiment runs");
    };
    assert_eq!(trials.rows.len(), 10);
    for (variant, (policy, draws)) in POLICIES.into_iter().enumerate() {
        let [least, mean, most] = published(&folder, policy);
        let values = trials.rows.iter();
        let values = values.map(|row| row.trials[variant].metrics["gpu_allocation"] * 100.0);
        let values: Vec<f64> = values.collect();
        if draws {
            let inside = |value: &f64| (least - 0.3..=most + 0.3).contains(value);
            assert!(values.iter().all(inside), "{policy}: {values:?}");
            continue;
        }
        let ours = [
            values.iter().copied().fold(f64::MAX, f64::min),
            values.iter().sum::<f64>() / values.len() as f64,
            values.iter().copied().fold(f64::MIN, f64::max),
        ];
        for (ours, theirs) in ours.into_iter().zip([least, mean, most]) {
            assert!(
                (ours - theirs).abs() < ROUNDING,
                "{policy}: {ours:.3} {theirs}"
            );
        }
    }
}
