//! Plugins at some of their extension points and not at others: what upstream makes of the halves
//! that are left (`getPreFilterState`, `getPreScoreState`, `getStateData` of each plugin).

use super::volumes::verdicts;
use super::*;
use crate::api::PersistentVolumeClaim;
use crate::sched::explain::explain;

/// The default configuration with `POINT-PLUGIN` (disabled) and `POINT+PLUGIN` (enabled).
fn config(changes: &str) -> SchedulerConfig {
    let mut points: BTreeMap<&str, [Vec<String>; 2]> = BTreeMap::new();
    for change in changes.split_whitespace() {
        let at = change.find(['-', '+']).expect("a sign");
        let (point, plugin) = (&change[..at], &change[at + 1..]);
        let enabled = usize::from(change[at..].starts_with('+'));
        let lists = points.entry(point).or_default();
        lists[enabled].push(format!("{{name: \"{plugin}\"}}"));
    }
    let points = points.iter().map(|(point, [disabled, enabled])| {
        let (disabled, enabled) = (disabled.join(", "), enabled.join(", "));
        format!("{point}: {{disabled: [{disabled}], enabled: [{enabled}]}}")
    });
    let points: Vec<String> = points.collect();
    let text = format!("profiles: [{{plugins: {{{}}}}}]", points.join(", "));
    let mut config = super::config::read(&text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    config.cycle_cost = CycleCost {
        base: Duration::ZERO,
        per_node: Duration::ZERO,
    };
    config
}

/// Lines of `changes | objects | verdicts`.
#[track_caller]
fn check_points(cases: &str) {
    for line in cases.trim().lines().map(str::trim) {
        let parts: Vec<&str> = line.split('|').map(str::trim).collect();
        let [changes, objects, expected] = parts.as_slice() else {
            panic!("three parts: {line}")
        };
        assert_eq!(verdicts(&config(changes), objects), *expected, "{line}");
    }
}

#[test]
fn filters_without_what_pre_filter_leaves_fail_or_work_it_out() {
    // The first plugin that misses something fails the cycle, for pods that it is nothing to as
    // well; NodeAffinity, VolumeZone and NodeVolumeLimits do without.
    check_points(
        r#"preFilter-NodePorts | node a; pod p | running "NodePorts" filter plugin: reading "PreFilterNodePorts" from cycleState: not found
        preFilter-NodePorts | node a cordoned; pod p | a: node(s) were unschedulable
        preFilter-NodePorts filter-NodePorts | node a; pod o node=a hostPort=1; pod p hostPort=1 | a: fits
        filter-NodePorts | node a; pod o node=a hostPort=1; pod p hostPort=1 | a: fits
        preFilter-NodeResourcesFit | node a; pod p | running "NodeResourcesFit" filter plugin: error reading "PreFilterNodeResourcesFit" from cycleState: not found
        preFilter-PodTopologySpread | node a; pod p | running "PodTopologySpread" filter plugin: reading "PreFilterPodTopologySpread" from cycleState: not found
        preFilter-InterPodAffinity | node a; pod p | running "InterPodAffinity" filter plugin: error reading "PreFilterInterPodAffinity" from cycleState: not found
        preFilter-VolumeBinding | node a; pod p | running "VolumeBinding" filter plugin: not found
        preFilter-NodeDeclaredFeatures | node a; pod p | running "NodeDeclaredFeatures" filter plugin: error reading "PreFilterNodeDeclaredFeatures" from cycleState: not found
        preFilter-VolumeRestrictions | node a; pod p | running "VolumeRestrictions" filter plugin: cannot read "PreFilterVolumeRestrictions" from cycleState
        preFilter-VolumeRestrictions | node a; pod o node=a disk=d; pod p disk=d | a: node(s) had no available disk
        preFilter-NodePorts preFilter-VolumeBinding | node a; pod p | running "NodePorts" filter plugin: reading "PreFilterNodePorts" from cycleState: not found
        preFilter-* | node a; pod p | running "NodePorts" filter plugin: reading "PreFilterNodePorts" from cycleState: not found
        preFilter-NodeAffinity | node a label:foo=bar; node b; pod p affinity=bar | a: fits; b: node(s) didn't match Pod's node affinity/selector
        preFilter-NodeAffinity | node a; pod p | a: fits
        preFilter-VolumeZone | node a; pod p | a: fits
        preFilter-VolumeZone | node a label:topology.kubernetes.io/zone=1; volume x label:topology.kubernetes.io/zone=2; claim c bound=x; pod p claim=c | a: node(s) had no available volume zone
        preFilter-VolumeZone filter-VolumeBinding | node a; claim c bound=x; pod p claim=c | a: persistentvolume "x" not found
        preFilter-NodeVolumeLimits | node a; pod p | a: fits
        preFilter-NodeVolumeLimits | node a; csinode a limit=d:1; volume x; volume y; claim c bound=x; claim d bound=y; pod o node=a claim=d; pod p claim=c | a: node(s) exceed max volume count
        preFilter-NodeVolumeLimits preFilter-VolumeRestrictions filter-VolumeRestrictions preFilter-VolumeBinding filter-VolumeBinding preFilter-VolumeZone filter-VolumeZone | node a; pod p claim=c | a: looking up PVC default/c: persistentvolumeclaim "c" not found"#,
    );
}

#[test]
fn nodes_have_to_declare_the_features_that_a_pod_requires() {
    // nodedeclaredfeatures_test.go :: TestFilter, with the features that there are.
    check_points(
        " | node a; pod p | a: fits
         | node a; pod p rule=Restart | a: fits
         | node a; pod p rule=RestartAllContainers | a: node(s) didn't match Pod's required features
         | node a declares=A declares=RestartAllContainersOnContainerExits; node b declares=A; pod p rule=RestartAllContainers | a: fits; b: node(s) didn't match Pod's required features
        filter-NodeDeclaredFeatures | node a; pod p rule=RestartAllContainers | a: fits",
    );
}

#[test]
fn scores_without_what_pre_score_leaves_fail_or_work_it_out() {
    // Only when there is a choice.
    check_points(
        r#"preScore-TaintToleration | node a; pod p | a: fits
        preScore-TaintToleration | node a; node b; pod p | running Score plugins: plugin "TaintToleration" failed with: failed to read "PreScoreTaintToleration" from cycleState: not found
        preScore-PodTopologySpread | node a; node b; pod p | running Score plugins: plugin "PodTopologySpread" failed with: error reading "PreScorePodTopologySpread" from cycleState: not found
        preScore-InterPodAffinity | node a; node b; pod p | running Score plugins: plugin "InterPodAffinity" failed with: failed to read "PreScoreInterPodAffinity" from cycleState: not found
        preScore-InterPodAffinity score-InterPodAffinity | node a; node b; pod p | a: fits; b: fits
        preScore-NodeAffinity | node a; node b; pod p | a: fits; b: fits
        preScore-NodeResourcesFit | node a; node b; pod p | a: fits; b: fits
        preScore-NodeResourcesBalancedAllocation | node a; node b; pod p | a: fits; b: fits
        preScore-VolumeBinding | node a; node b; pod p | a: fits; b: fits
        score-* score+VolumeBinding | node a; node b; pod p | a: fits; b: fits"#,
    );
}

/// What a plugin works out again at Score is what PreScore would have left; a pod that PreScore would
/// have spared gets no points.
#[test]
fn plugins_that_do_without_pre_score_give_the_same_scores() {
    let plugins = "NodeAffinity NodeResourcesFit NodeResourcesBalancedAllocation";
    let changes: Vec<String> = plugins
        .split(' ')
        .map(|p| format!("preScore-{p}"))
        .collect();
    let term = json!({"matchExpressions": [{"key": "zone", "operator": "Exists"}]});
    let affinity = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 5, "preference": term}
    ]}});
    let wants = set(pod("wants", 300), "/spec", "affinity", affinity);
    let nothing = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "nothing"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let zoned = set(node("n1", 2), "/metadata/labels", "zone", json!("a"));
    for (asking, spared) in [(wants, &[][..]), (nothing, &["NodeAffinity"])] {
        let scores = |config: &SchedulerConfig| {
            let rows = [&zoned, &node("n2", 8)].map(|object| {
                let decoded = decode_json(object, &DecodeContext::default());
                decoded.expect("a valid object").row
            });
            let decoded = decode_json(&asking, &DecodeContext::default()).expect("valid");
            let Row::Pod(pod) = decoded.row else {
                panic!("a pod")
            };
            let view = view_of(rows.to_vec());
            let draws = Draws::new(1);
            let explained = explain(config, &draws, &pod, &view, Time::ZERO).expect("explained");
            let scores = explained.scores.into_iter();
            scores
                .map(|s| (s.plugin.name(), s.normalized))
                .filter(|(name, _)| plugins.split(' ').any(|p| p == *name))
                .collect::<BTreeMap<_, _>>()
        };
        let (with, without) = (scores(&config("")), scores(&config(&changes.join(" "))));
        assert_eq!(without.len(), 3, "{without:?}");
        for (name, scores) in &without {
            match with.get(name) {
                Some(expected) => assert_eq!(scores, expected, "{name}"),
                None => assert!(scores.iter().all(|s| *s == 0), "{name} {scores:?}"),
            }
        }
        let absent = |name: &&str| !with.contains_key(*name);
        assert!(spared.iter().all(absent), "{with:?}");
    }
}

/// The scheduler itself says what `explain` says, and never binds such a pod to one of two nodes.
#[test]
fn a_profile_that_cannot_score_schedules_only_where_there_is_no_choice() {
    let mut m = Machine::with(config("preScore-TaintToleration"));
    m.create(0, node("n1", 4));
    m.create(10, pod("first", 100));
    m.create(500, node("n2", 4));
    for (at, name) in [(1_000, "second"), (2_000, "third")] {
        m.create(at, pod(name, 100));
    }
    let lines = m.run(4_000);
    assert_eq!(m.pod("first").1.node_name.as_deref(), Some("n1"));
    for name in ["second", "third"] {
        let told = format!(
            "{name} FailedScheduling: running Score plugins: plugin \"TaintToleration\" failed \
             with: failed to read \"PreScoreTaintToleration\" from cycleState: not found"
        );
        assert!(lines.contains(&told), "{lines}");
        assert_eq!(m.pod(name).1.node_name, None);
    }
}

/// VolumeBinding between Filter and PreBind: what it does for a pod with a claim and for one
/// without.
#[test]
fn volume_binding_at_some_points_only() {
    let reserve = "running Reserve plugin \"VolumeBinding\": not found";
    let flight = "running PreBindPreFlight \"VolumeBinding\": ";
    let missing = &format!("{flight}not found");
    let nowhere = &format!("{flight}no pod volume found for node \"n1\"");
    let cached = "running PreBind plugin \"VolumeBinding\": failed to get cached bindings for pod \
                  \"default/db\"";
    let (pf, f, r, pb) = (
        "preFilter-VolumeBinding",
        "filter-VolumeBinding",
        "reserve-VolumeBinding",
        "preBind-VolumeBinding",
    );
    // What is disabled; what is said of the pod with a claim and of the other (nothing when it is
    // bound at once); whether the claim is told its node.
    let table: [(&[&str], &str, &str, bool); 8] = [
        (&[pf, f], reserve, reserve, false),
        (&[pf, f, r], missing, missing, false),
        (&[pf, f, r, pb], "", "", false),
        (&[f], "", "", false),
        (&[f, r], nowhere, nowhere, false),
        (&[r], cached, nowhere, false),
        (&[r, pb], "", "", false),
        (&[pb], "", "", false),
    ];
    for (disabled, with, without, told) in table {
        let mut m = Machine::with(config(&disabled.join(" ")));
        m.create(0, node("n1", 4));
        let volumes = m.waiting_claim();
        m.create(10, set(pod("db", 100), "/spec", "volumes", volumes));
        m.create(20, pod("web", 100));
        let lines = m.run(900);
        for (name, says) in [("db", with), ("web", without)] {
            let bound = m.pod(name).1.node_name.is_some();
            assert_eq!(bound, says.is_empty(), "{disabled:?} {name}: {lines}");
            let line = format!("{name} FailedScheduling: {says}");
            assert!(
                bound || lines.contains(&line),
                "{disabled:?} {line}: {lines}"
            );
        }
        let claims = m.store.view().of::<PersistentVolumeClaim>();
        let (_, claim) = claims.find("default", "data").expect("the claim");
        let selected = claim
            .meta
            .annotations
            .contains("volume.kubernetes.io/selected-node");
        assert_eq!(selected, told, "{disabled:?}");
    }
}
