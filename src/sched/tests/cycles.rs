//! One cycle on small clusters, for rules that are easily taken for others: each is upstream's as
//! it is, whatever it was meant to be.

use super::*;
use crate::api::Text;
use crate::sched::explain::{Explanation, explain};

/// Explains a cycle for the last object, a pod, among the others.
fn cycle(objects: &[Value]) -> Explanation {
    let mut rows: Vec<Row> = objects
        .iter()
        .map(|object| {
            let decoded = decode_json(object, &DecodeContext::default());
            decoded.unwrap_or_else(|e| panic!("{object}: {e:?}")).row
        })
        .collect();
    let Some(Row::Pod(pending)) = rows.pop() else {
        panic!("the last object is a pod")
    };
    let view = view_of(rows);
    let config = SchedulerConfig::default();
    let explained = explain(&config, &Draws::new(1), &pending, &view, Time::ZERO);
    explained.expect("the default profile knows the pod")
}

/// The score of a plugin on the first feasible node.
fn score(explained: &Explanation, plugin: &str) -> i64 {
    let mut scores = explained.scores.iter();
    let found = scores.find(|s| s.plugin.name() == plugin);
    found.expect("the plugin scores").normalized[0]
}

/// `noderesources/fit.go :: NewFit` tells its scorer of no feature: requests of the pod as a whole
/// do not count for the score of NodeResourcesFit, but for its filter.
#[test]
fn requests_of_the_pod_as_a_whole_do_not_score_in_noderesourcesfit() {
    let whole = json!({"requests": {"cpu": "5"}});
    let asking = set(pod("p", 1000), "/spec", "resources", whole);
    // 10 cores, 1 asked for by the container: 90; 10 GiB, 100 MiB: 99; (90 + 99) / 2 = 94.
    let explained = cycle(&[node("a", 10), asking.clone()]);
    assert_eq!(score(&explained, "NodeResourcesFit"), 94);
    // 5 of 4 cores are too many.
    let explained = cycle(&[node("a", 4), asking.clone()]);
    assert_eq!(explained.rejected[0].1.reasons, ["Insufficient cpu"]);
    // On its node it counts with what it asks for as a whole: 5 + 1 of 10 cores.
    let placed = set(asking, "/spec", "nodeName", json!("a"));
    let explained = cycle(&[node("a", 10), placed, pod("q", 1000)]);
    // (10 - 6) / 10 = 40; (10 GiB - 200 MiB) / 10 GiB = 98; 69.
    assert_eq!(score(&explained, "NodeResourcesFit"), 69);
}

/// `framework/types.go :: getNonMissingContainerRequests`: what a container of a pod that asks as a
/// whole does not name has no default when anybody names it.
#[test]
fn containers_of_a_pod_that_asks_as_a_whole_have_no_defaults() {
    let mut placed = pod("p", 1000);
    let second = json!({"name": "d", "image": "app:v1"});
    let containers = placed.pointer_mut("/spec/containers");
    let containers = containers.and_then(Value::as_array_mut);
    containers.expect("it has containers").push(second);
    placed["spec"]["nodeName"] = json!("a");
    // 1 core of the first, 0.1 of the second, 1 of the new one: 79; memory 100 + 200 + 100 MiB of
    // 10 GiB: 96; 87.
    let explained = cycle(&[node("a", 10), placed.clone(), pod("q", 1000)]);
    assert_eq!(score(&explained, "NodeResourcesFit"), 87);
    // 2 + 1 cores: 70; memory 100 + 100 MiB: 98; 84.
    placed["spec"]["resources"] = json!({"requests": {"cpu": "2"}});
    let explained = cycle(&[node("a", 10), placed, pod("q", 1000)]);
    assert_eq!(score(&explained, "NodeResourcesFit"), 84);
}

/// `interpodaffinity/plugin.go :: mergeAffinityTermNamespacesIfNotEmpty` works on a copy of the
/// term: the selector stays, and is asked once more, with no labels.
#[test]
fn a_namespace_selector_that_selects_no_labels_selects_all_namespaces() {
    let space = |name: &str, team: &str| {
        json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {"team": team}}})
    };
    let cases = [
        (
            json!({"key": "team", "operator": "NotIn", "values": ["a"]}),
            false,
        ),
        (
            json!({"key": "team", "operator": "In", "values": ["b"]}),
            true,
        ),
        (json!({"key": "team", "operator": "Exists"}), false),
        (json!({"key": "other", "operator": "DoesNotExist"}), false),
    ];
    for (requirement, fits) in cases {
        let term = json!([{
            "topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": {"app": "other"}},
            "namespaceSelector": {"matchExpressions": [requirement]}
        }]);
        let repelled = json!({"podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": term
        }});
        let mut placed = set(pod("other", 100), "/spec", "nodeName", json!("n"));
        placed["metadata"]["namespace"] = json!("a");
        let asking = set(pod("p", 100), "/spec", "affinity", repelled);
        let explained = cycle(&[
            space("a", "a"),
            space("b", "b"),
            node("n", 4),
            placed,
            asking,
        ]);
        assert_eq!(explained.feasible.len() == 1, fits, "{requirement}");
    }
}

/// `schedule_one.go :: findNodesThatFitPod`: names that no node has still narrow the nodes down.
#[test]
fn a_pod_for_a_node_that_does_not_exist_says_which_plugin_left_the_nodes_out() {
    let named = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchFields": [
            {"key": "metadata.name", "operator": "In", "values": ["gone"]}
        ]}]
    }}});
    let asking = set(pod("p", 100), "/spec", "affinity", named);
    let explained = cycle(&[node("a", 4), node("b", 4), asking]);
    let message = "0/2 nodes are available: 2 node(s) didn't satisfy plugin(s) [NodeAffinity]. \
        no new claims to deallocate, preemption: 0/2 nodes are available: \
        2 Preemption is not helpful for scheduling.";
    assert_eq!(explained.message.as_deref(), Some(message));
}

/// `nodevolumelimits/csi.go :: getVolumeLimits`: a limit of 0 is one.
#[test]
fn a_driver_that_can_attach_nothing_takes_no_volume() {
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": "s"}, "provisioner": "d",
        "volumeBindingMode": "WaitForFirstConsumer"});
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "c", "namespace": "default"},
        "spec": {"storageClassName": "s", "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}});
    let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
    let asking = set(pod("p", 100), "/spec", "volumes", volumes);
    for (count, fits) in [(0, false), (1, true)] {
        let driver = json!({"name": "d", "nodeID": "a", "allocatable": {"count": count}});
        let csi = json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode",
            "metadata": {"name": "a"}, "spec": {"drivers": [driver]}});
        let (class, claim) = (class.clone(), claim.clone());
        let explained = cycle(&[node("a", 4), class, claim, csi, asking.clone()]);
        assert_eq!(explained.feasible.len() == 1, fits, "{count}");
    }
}

/// `RunPostFilterPlugins`: DynamicResources, which comes before preemption, fails for a pod that
/// PreFilter refused before its turn; so nobody is preempted, and an earlier nomination stays.
#[test]
fn a_pod_that_prefilter_refuses_preempts_nobody() {
    let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
    let asking = set(pod("p", 100), "/spec", "volumes", volumes);
    let explained = cycle(&[node("a", 4), asking]);
    let message = "0/1 nodes are available: persistentvolumeclaim \"c\" not found. not found";
    assert_eq!(explained.message.as_deref(), Some(message));
    assert_eq!(explained.preemption, Some((Text::default(), Vec::new())));
}

/// `NewPreferredSchedulingTerms`: the API server takes preferences that do not parse, and the
/// scheduler fails on them once it has two nodes to choose from.
#[test]
fn a_preference_that_does_not_parse_fails_the_cycle() {
    let terms = json!([
        {"weight": 1, "preference": {"matchExpressions": [
            {"key": "cores", "operator": "Gt", "values": ["many"]}]}},
        {"weight": 1, "preference": {"matchExpressions": [
            {"key": "rack", "operator": "Exists"},
            {"key": "cores", "operator": "Lt", "values": ["few"]}]}},
    ]);
    let affinity = json!({
        "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": terms}
    });
    let asking = set(pod("p", 100), "/spec", "affinity", affinity);
    let explained = cycle(&[node("a", 4), asking.clone()]);
    assert_eq!((explained.feasible.len(), explained.message), (1, None));
    let why = "running PreScore plugin \"NodeAffinity\": [[0].matchExpressions[0].values[0]: Invalid \
        value: \"many\": for 'Gt', 'Lt' operators, the value must be an integer, \
        [1].matchExpressions[1].values[0]: Invalid value: \"few\": for 'Gt', 'Lt' operators, the \
        value must be an integer]";
    let explained = cycle(&[node("a", 4), node("b", 4), asking]);
    assert_eq!(explained.message.as_deref(), Some(why));
}

/// `PodRequests` with `UseStatusResources`: on its node, a pod counts with the most of what it
/// wants, has and was promised; not with what it cannot get.
#[test]
fn a_pod_that_is_resized_counts_with_what_it_holds() {
    let status = |conditions: Value| {
        json!({"conditions": conditions, "containerStatuses": [{
            "name": "app", "image": "app:v1", "imageID": "", "ready": true, "restartCount": 0,
            "resources": {"requests": {"cpu": "2"}}, "allocatedResources": {"cpu": "3"},
        }]})
    };
    let pending =
        |reason: &str| json!([{"type": "PodResizePending", "status": "True", "reason": reason}]);
    let mut cases = String::new();
    for (name, conditions, spec) in [
        ("wants less", json!([]), 1000),
        ("wants more", pending("Deferred"), 6000),
        ("cannot have more", pending("Infeasible"), 6000),
    ] {
        let mut placed = set(pod("q", spec), "/spec", "nodeName", json!("a"));
        placed["status"] = status(conditions);
        let container = placed["spec"]["containers"][0]["name"].clone();
        placed["status"]["containerStatuses"][0]["name"] = container;
        // Eight cores: 5 are free beside 3, 2 beside 6.
        let fits = |cpu| {
            cycle(&[node("a", 8), placed.clone(), pod("p", cpu)])
                .rejected
                .is_empty()
        };
        cases += &format!("{name}: {} {}\n", fits(2500), fits(5500));
    }
    assert_eq!(
        cases,
        "wants less: true false\nwants more: false false\ncannot have more: true false\n"
    );
}
