//! Stories of the control plane: G46.

use super::{SEEDS, assert_failures, failed_checks, play};

#[test]
fn g46_nobody_can_say_that_a_node_is_gone() {
    for seed in SEEDS {
        // A third of 90 rps for 605 s to 621 s.
        let bad = play("G46-api-down.bad", seed);
        let wanted = ["the node is given up in time", "http_req_failed"];
        assert_eq!(failed_checks(&bad), wanted);
        assert_failures(&bad, 18_150.0, 18_630.0);
        let kinds: Vec<&str> = bad
            .components
            .iter()
            .map(|c| c.component.as_str())
            .collect();
        assert_eq!(kinds.len(), 4, "{kinds:?}");

        // A third of 90 rps for 40 s to 57 s.
        let fixed = play("G46-api-down.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        assert_failures(&fixed, 1_200.0, 1_710.0);
        assert_eq!(fixed.components, []);
    }
}
