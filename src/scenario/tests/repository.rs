//! Every scenario of the repository loads.

use std::path::{Path, PathBuf};

use crate::scenario::{LoadOptions, load, render};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

#[test]
fn every_scenario_of_the_repository_loads() {
    let loaded = match load(&[root()], &LoadOptions::default()) {
        Ok(loaded) => loaded,
        Err(rejected) => panic!("{}", rejected.render(false)),
    };
    let lines: Vec<String> = (loaded.scenarios.iter())
        .map(|s| {
            let (name, steps, expect) = (&s.name, s.timeline.len(), s.expect.len());
            format!(
                "{name} {} {steps} {expect} {}",
                s.apps.len(),
                s.traffic.len()
            )
        })
        .collect();
    // AppModels, steps, expectations, Traffic.
    let expected = [
        "chaos-mesh 1 6 3 1",
        "G01-deploy-502s-bad 1 1 1 1",
        "G01-deploy-502s-fixed 1 1 1 1",
    ];
    assert_eq!(lines[..3], expected);
    assert_eq!(
        loaded.warnings,
        [],
        "{}",
        render(&loaded.warnings, &loaded.sources, false)
    );
}
