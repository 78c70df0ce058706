//! `rehearsal calibrate`: what is measured is written as sections that scenarios can have.

use rehearsal::scenario::{LoadOptions, load_bytes};

use super::{alone, possible, program};

#[test]
fn a_host_is_measured_and_its_sections_are_read() {
    if !possible() {
        return;
    }
    let _alone = alone();
    let output = std::process::Command::new(program())
        .args(["calibrate", "--pods", "8"])
        .output()
        .expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    let sections: Vec<&str> = text.split("spec:\n").skip(1).collect();
    let [cluster, model] = sections[..] else {
        panic!("{text}");
    };
    let cluster = cluster.split("---").next().unwrap_or_default();
    let scenario = format!(
        "apiVersion: rehearsal.dev/v1
kind: Scenario
metadata: {{name: measured}}
spec:
  kubernetesVersion: \"1.36\"
  duration: 1m
{cluster}    nodePools: [{{name: node, count: 1, capacity: {{cpu: \"1\", memory: 1Gi}}}}]
---
{{apiVersion: v1, kind: Pod, metadata: {{name: web, labels: {{app: web}}}},
  spec: {{containers: [{{name: main, image: web}}]}}}}
---
apiVersion: rehearsal.dev/v1
kind: AppModel
metadata: {{name: web}}
spec:
  selector: {{matchLabels: {{app: web}}}}
{model}"
    );
    let options = LoadOptions::default();
    let loaded = load_bytes("measured.yaml".as_ref(), scenario.as_bytes(), &options);
    let loaded = loaded.unwrap_or_else(|no| panic!("{}\n{scenario}", no.render(false)));
    let latency = &loaded.scenarios[0].cluster.latency;
    assert!(
        latency.sandbox.is_some() && latency.start.is_some() && latency.remove.is_some(),
        "{latency:?}"
    );
    assert!(latency.endpoint_sync.is_some(), "{latency:?}");
    // The same run, simulated with what was measured, stands beside the real one.
    assert!(text.contains("scheduled to started"), "{text}");
}
