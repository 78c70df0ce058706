//! Which nodes a cycle looks at: how many, from where on, and who is left out.

use super::words::row;
use super::*;
use crate::sched::cache::Cache;
use crate::sched::cycle::{Search, feasible_to_find, find_nodes};
use crate::sched::framework::Framework;
use crate::sched::plugin::{Cx, CycleState};
use crate::sched::queue::Nominator;

/// `schedule_one_test.go :: TestNumFeasibleNodesToFind`.
#[test]
fn few_nodes_are_all_tried_many_are_sampled() {
    // Percentage of the configuration (0 adapts), nodes, nodes to find.
    let cases = [
        (0, 10, 10),
        (40, 10, 10),
        (0, 1000, 420),
        (40, 1000, 400),
        (0, 6000, 300),
        (40, 6000, 2400),
        // 50 - 260 / 125 = 48 %, of 260: 124.
        (0, 260, 124),
        // Never less than a hundred.
        (5, 1000, 100),
        (100, 5000, 5000),
    ];
    for (percentage, nodes, expected) in cases {
        let found = feasible_to_find(percentage, nodes);
        assert_eq!(found, expected, "{percentage} % of {nodes}");
    }
}

/// `schedule_one_test.go :: TestPreferNominatedNodeFilterCallCounts`, and the sum that
/// `findNodesThatFitPod` makes of `nextStartNodeIndex`.
#[test]
fn the_next_search_begins_where_the_last_one_ended() {
    let config = SchedulerConfig::default();
    let mut cache = Cache::default();
    let framework = Framework::new(&config.profiles[0], &mut cache);
    for n in 0..260 {
        let cordoned = if n % 2 == 1 { " cordoned" } else { "" };
        let Some(Row::Node(node)) = row(&format!("node n{n:03} cpu=1 memory=4Gi{cordoned}")) else {
            unreachable!("it is a node")
        };
        cache.set_node(&node);
    }
    cache.refresh();
    let mut starts = Vec::new();
    let mut next = 0;
    for nominated in ["", "", "", "nominated=n006", "nominated=n007", ""] {
        let words = format!("pod p cpu=100m {nominated}");
        let Some(Row::Pod(pod)) = row(&words) else {
            unreachable!("it is a pod")
        };
        let entry = cache.entry(1, &pod);
        let view = View::default();
        let cx = Cx {
            view: &view,
            cache: &cache,
        };
        let nominator = Nominator::default();
        let search = Search {
            percentage: 0,
            start: next,
            nominator: &nominator,
        };
        let mut state = CycleState::default();
        let (found, _) = find_nodes(&framework, &cx, &mut state, &entry, search, |_| None);
        let first = cache.node(found.feasible[0]).name.clone();
        next = found.next_start;
        starts.push(format!(
            "{first} {} of {}",
            found.feasible.len(),
            found.evaluated
        ));
    }
    // Every other node is cordoned: 124 fit among 247, or 248 from an odd one on. The next search
    // begins at 247, 495 - 260 = 235, 223. The nominated node is tried alone, and taken when it fits,
    // without a step ahead; one that does not is tried twice and counts among the refused once: 211.
    assert_eq!(
        starts,
        [
            "n000 124 of 247",
            "n248 124 of 248",
            "n236 124 of 248",
            "n006 1 of 1",
            "n224 124 of 249",
            "n212 124 of 248",
        ]
    );
}
