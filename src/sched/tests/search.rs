//! Which nodes a cycle looks at: how many, from where on, and who is left out.

use super::words::row;
use super::*;
use crate::sched::cache::Cache;
use crate::sched::cycle::{Search, feasible_to_find, find_nodes, select};
use crate::sched::equal_pods::EqualPods;
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
            thorough: false,
            choice: None,
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

/// The third pod of a template is placed by what its nodes are known to score: no list of nodes is
/// made, and the node is the one that the list would have given.
#[test]
fn a_choice_alone_is_found_without_a_list() {
    let config = SchedulerConfig::default();
    let mut cache = Cache::default();
    let framework = Framework::new(&config.profiles[0], &mut cache);
    for n in 0..260 {
        let (cordoned, cpu) = (if n % 3 == 1 { " cordoned" } else { "" }, 1 + n % 4);
        let words = format!("node n{n:03} cpu={cpu} memory=4Gi{cordoned}");
        let Some(Row::Node(node)) = row(&words) else {
            unreachable!("it is a node")
        };
        cache.set_node(&node);
    }
    cache.refresh();
    let Some(Row::Pod(pod)) = row("pod p cpu=100m") else {
        unreachable!("it is a pod")
    };
    let entry = cache.entry(1, &pod);
    let (view, nominator) = (View::default(), Nominator::default());
    let (mut memo, draws) = (EqualPods::default(), Draws::new(1));
    let mut next = 0;
    for attempt in 0..8 {
        let cx = Cx {
            view: &view,
            cache: &cache,
        };
        let choice = Search {
            percentage: 0,
            start: next,
            nominator: &nominator,
            thorough: false,
            choice: Some((&draws, attempt)),
        };
        let list = Search {
            choice: None,
            ..choice
        };
        let mut state = CycleState::default();
        let (all, _) = find_nodes(&framework, &cx, &mut state, &entry, list, |_| None);
        let scores = framework.score(&cx, &mut state, &entry, &all.feasible);
        let totals = crate::sched::cycle::totals(&scores, all.feasible.len());
        let best = all.feasible[select(&draws, &entry, attempt, &totals)];
        let mut state = CycleState::default();
        let (one, _) = find_nodes(&framework, &cx, &mut state, &entry, choice, |state| {
            memo.class((0, &framework), &cx, state, &entry)
        });
        assert_eq!(all.feasible.len(), 124);
        if attempt > 0 {
            assert_eq!(one.feasible, [best], "attempt {attempt}");
        }
        let ended = |found: &crate::sched::cycle::Found| (found.evaluated, found.next_start);
        assert_eq!(ended(&one), ended(&all), "attempt {attempt}");
        next = one.next_start;
        // The chosen node fills up, and changes its score.
        let name = cache.node(best).name.clone();
        let other = another(&mut cache, attempt);
        cache.add_pod(other, &name, true);
    }
}

/// Another pod.
fn another(cache: &mut Cache, n: u32) -> crate::sched::plugin::PodEntry {
    let Some(Row::Pod(pod)) = row(&format!("pod q{n} cpu=500m")) else {
        unreachable!("it is a pod")
    };
    cache.entry(100 + n, &pod)
}
