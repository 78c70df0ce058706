//! What a kubelet does with pods that ask for trouble, from YAML to the checks of a scenario.

use super::workloads::{failed, play};

#[test]
fn limits_rules_and_new_images_have_their_consequences() {
    let record = play("scenarios/kubelet-rules.yaml", 5);
    assert_eq!(failed(&record), Vec::<String>::new());
}
