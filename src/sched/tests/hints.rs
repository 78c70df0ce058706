//! What wakes a pod: the queueing hints of every plugin, case by case as in upstream's tests
//! (`pkg/scheduler/framework/plugins/*/*_test.go`, functions `…isSchedulableAfter…`; their cases
//! with objects of a wrong type cannot be written down here).

use super::words::row;
use super::*;
use crate::sched::cache::Cache;
use crate::sched::config::{Args, NodeAffinityArgs};
use crate::sched::events::{Involved, Resource};
use crate::sched::plugin::{Cx, PluginName};
use crate::sched::plugins;

/// Whether the plugin says Queue.
fn hint(plugin: PluginName, args: &Args, pod: &str, old: &str, new: &str) -> bool {
    let mut cache = Cache::default();
    let plugin = plugins::build(plugin, args, &mut cache);
    let Some(Row::Pod(pod)) = row(pod) else {
        panic!("a pod waits")
    };
    let entry = cache.entry(0, &pod);
    let view = View::default();
    let cx = Cx {
        view: &view,
        cache: &cache,
    };
    let (old, new) = (row(old), row(new));
    macro_rules! involved {
        ($($kind:ident => $involved:ident),*) => {
            match old.as_ref().or(new.as_ref()) {
                $(Some(Row::$kind(_)) => {
                    let old = match &old { Some(Row::$kind(row)) => Some(&**row), _ => None };
                    let new = match &new { Some(Row::$kind(row)) => Some(&**row), _ => None };
                    Involved::$involved(old, new)
                })*
                _ => panic!("something happens"),
            }
        };
    }
    let involved = involved!(
        Pod => Pod, Node => Node, PersistentVolumeClaim => Claim, PersistentVolume => Volume,
        StorageClass => StorageClass, CSINode => CsiNode, VolumeAttachment => Attachment,
        CSIDriver => CsiDriver, CSIStorageCapacity => CsiStorageCapacity
    );
    plugin.hint(&cx, &entry, &involved)
}

/// Lines of `queue|skip: NAME; waiting pod; object before; object after`, `-` for none; after
/// `WORD := …`, `{WORD}` stands for that.
#[track_caller]
fn check_with(plugin: PluginName, args: &Args, cases: &str) {
    let mut words: Vec<(String, &str)> = Vec::new();
    let mut count = 0;
    for line in cases.trim().lines().map(str::trim) {
        if let Some((word, meaning)) = line.split_once(" := ") {
            words.push((format!("{{{word}}}"), meaning));
            continue;
        }
        let meant = words.iter().fold(line.to_owned(), |line, (word, meaning)| {
            line.replace(word, meaning)
        });
        let (verdict, rest) = meant.split_once(": ").expect("a verdict");
        let parts: Vec<&str> = rest.split(';').map(str::trim).collect();
        let [_, pod, old, new] = parts.as_slice() else {
            panic!("four parts: {line}")
        };
        let expected = match verdict {
            "queue" => true,
            "skip" => false,
            other => panic!("{other}"),
        };
        let got = hint(plugin, args, pod, old, new);
        assert_eq!(got, expected, "{plugin:?}: {line}");
        count += 1;
    }
    assert!(count > 1, "{plugin:?}");
}

#[track_caller]
fn check_hints(plugin: PluginName, cases: &str) {
    check_with(plugin, &Args::default(), cases);
}

/// `EventsToRegister` of each plugin, with queueing hints enabled (they are locked to on).
#[test]
fn plugins_register_the_events_that_upstream_registers() {
    let expected = "
        SchedulingGates Pod/UpdatePodSchedulingGatesEliminated
        PrioritySort
        NodeUnschedulable Node/Add|UpdateNodeTaint Pod/UpdatePodToleration
        NodeName Node/Add
        TaintToleration Node/Add|UpdateNodeTaint Pod/UpdatePodToleration
        NodeAffinity Node/Add|UpdateNodeLabel
        NodePorts Pod/Delete Node/Add
        NodeResourcesFit Pod/Delete|UpdatePodScaleDown Node/Add|UpdateNodeAllocatable
        VolumeRestrictions Pod/Delete Node/Add PersistentVolumeClaim/Add
        NodeVolumeLimits CsiNode/Add CsiNode/Update Pod/Delete \
            PersistentVolumeClaim/Add VolumeAttachment/Delete
        VolumeBinding StorageClass/Add|Update PersistentVolumeClaim/Add|Update \
            PersistentVolume/Add|Update Node/Add|UpdateNodeLabel CsiNode/Add|Update \
            CsiDriver/Update CsiStorageCapacity/Add|Update
        VolumeZone StorageClass/Add Node/Add|UpdateNodeLabel \
            PersistentVolumeClaim/Add|Update PersistentVolume/Add|Update
        PodTopologySpread Pod/Add|Delete|UpdatePodLabel|UpdatePodToleration \
            Node/Add|Delete|UpdateNodeLabel|UpdateNodeTaint
        InterPodAffinity Pod/Add|Delete|UpdatePodLabel Node/Add|UpdateNodeLabel
        DynamicResources
        DefaultPreemption Pod/Delete
        NodeResourcesBalancedAllocation
        ImageLocality
        DefaultBinder
        NodeDeclaredFeatures Node/Add|UpdateNodeDeclaredFeature Pod/Update";
    let mut cache = Cache::default();
    let all = PluginName::ALL.iter().filter(|p| p.in_tree());
    let lines: Vec<String> = all
        .map(|name| {
            let plugin = plugins::build(*name, &Args::default(), &mut cache);
            let events = plugin.events().iter();
            let events = events.map(|e| format!(" {:?}/{}", e.resource, actions(e.action)));
            format!("{}{}", name.name(), events.collect::<String>())
        })
        .collect();
    let expected: Vec<&str> = expected.trim().lines().map(str::trim).collect();
    assert_eq!(lines, expected);
    // Upstream's order of bits decides whether a registration covers an update of no special kind.
    let general = crate::sched::events::event(Resource::AssignedPod, crate::sched::events::UPDATE);
    let label = crate::sched::events::event(
        Resource::Pod,
        crate::sched::events::ADD | crate::sched::events::UPDATE_POD_LABEL,
    );
    assert!(!label.covers(general));
}

fn actions(action: u32) -> String {
    use crate::sched::events as e;
    let mut left = action;
    let mut names = Vec::new();
    let general = action & e::UPDATE == e::UPDATE;
    for (bit, name) in [
        (e::ADD, "Add"),
        (e::DELETE, "Delete"),
        (if general { e::UPDATE } else { 0 }, "Update"),
        (e::UPDATE_NODE_ALLOCATABLE, "UpdateNodeAllocatable"),
        (e::UPDATE_NODE_LABEL, "UpdateNodeLabel"),
        (e::UPDATE_NODE_TAINT, "UpdateNodeTaint"),
        (e::UPDATE_NODE_DECLARED_FEATURE, "UpdateNodeDeclaredFeature"),
        (e::UPDATE_POD_LABEL, "UpdatePodLabel"),
        (e::UPDATE_POD_SCALE_DOWN, "UpdatePodScaleDown"),
        (e::UPDATE_POD_TOLERATION, "UpdatePodToleration"),
        (
            e::UPDATE_POD_GATES_ELIMINATED,
            "UpdatePodSchedulingGatesEliminated",
        ),
    ] {
        if bit != 0 && left & bit == bit {
            left &= !bit;
            names.push(name);
        }
    }
    assert_eq!(left, 0);
    names.join("|")
}

#[test]
fn scheduling_gates() {
    // scheduling_gates_test.go :: Test_isSchedulableAfterPodChange
    let cases = "
        skip: other-pod-updated; pod p gate=foo; pod o gate=foo gate=bar; pod o gate=foo
        queue: the-unsched-pod-updated; pod p gate=foo; pod p gate=foo; pod p";
    check_hints(PluginName::SchedulingGates, cases);
}

#[test]
fn node_unschedulable() {
    // node_unschedulable_test.go :: TestIsSchedulableAfterNodeChange,
    // TestIsSchedulableAfterPodTolerationChange
    let cases = "
        toleration := pod p toleration=node.kubernetes.io/unschedulable
        skip: unschedulable-node-added; pod p; -; node n cordoned
        queue: schedulable-node-added; pod p; -; node n
        skip: unrelated, true; pod p; node n cordoned; node n cordoned taint=a:b
        skip: unrelated, false; pod p; node n; node n taint=a:b
        queue: unschedulable-field-change; pod p; node n cordoned; node n
        skip: different-pod-update; pod o; pod p; {toleration}
        queue: the-unsched-pod-gets-toleration; pod p; pod p; {toleration}
        skip: unrelated-toleration; pod p; pod p; pod p toleration=unrelated";
    check_hints(PluginName::NodeUnschedulable, cases);
}

#[test]
fn node_declared_features() {
    // nodedeclaredfeatures_test.go :: TestIsSchedulableAfterNodeChange,
    // TestIsSchedulableAfterPodUpdate
    let cases = "
        pod := pod p rule=RestartAllContainers
        queue: Node Add with feature; {pod}; -; node n declares=A
        queue: Node Update (Features Added); {pod}; node n; node n declares=A
        skip: Node Update (Features Unchanged); {pod}; node n declares=A; node n declares=A
        skip: another pod is updated; {pod}; pod o; pod o rule=RestartAllContainers
        skip: it requires what it did; {pod}; {pod}; {pod} label:foo=bar
        queue: it requires something else; {pod}; {pod}; pod p";
    check_hints(PluginName::NodeDeclaredFeatures, cases);
}

#[test]
fn taint_toleration() {
    // taint_toleration_test.go :: TestIsSchedulableAfterNodeChange,
    // Test_isSchedulableAfterPodTolerationChange
    let cases = "
        pod := pod p tolerates=user2
        one := node n taint=dedicated:user1
        two := node n taint=dedicated:user2
        both := node n taint=dedicated:user1 taint=other:user3
        skip: untoleratedtaint-node-added; {pod}; -; {one}
        queue: toleratedtaint-node-added; {pod}; -; {two}
        skip: unrelated-change; {pod}; {one}; {both}
        queue: taint-change; {pod}; {one}; {two}
        skip: updates-other-pod; pod p; pod o; pod o toleration=foo
        queue: toleration-added; pod p; pod p; pod p toleration=foo";
    check_hints(PluginName::TaintToleration, cases);
}

#[test]
fn node_affinity() {
    // node_affinity_test.go :: Test_isSchedulableAfterNodeChange
    let cases = "
        pod := pod p affinity=bar
        skip: on-add; {pod}; -; node n
        queue: on-add; {pod}; -; node n label:foo=bar
        skip: unrelated-changes; {pod}; node n; node n memory=1
        skip: unrelated-changes-on-labels; {pod}; node n; node n label:k=v
        skip: from-suitable-to-unsuitable; {pod}; node n label:foo=bar; node n label:k=v
        queue: change-makes-pod-schedulable; {pod}; node n; node n label:foo=bar
        skip: keeps-schedulable; {pod}; node n label:foo=bar; node n memory=1 label:foo=bar";
    check_hints(PluginName::NodeAffinity, cases);
    let Some(Row::Pod(enforced)) = row("pod p affinity=bar") else {
        unreachable!("it is a pod")
    };
    let affinity = enforced.spec.affinity.as_ref().expect("it has affinity");
    let args = Args {
        node_affinity: NodeAffinityArgs {
            required: affinity.node_required.clone(),
            ..NodeAffinityArgs::default()
        },
        ..Args::default()
    };
    let cases = "
        skip: on-add-scheduler-enforced; pod p affinity=bar; -; node n
        queue: on-add-scheduler-enforced; pod p affinity=bar; -; node n label:foo=bar
        skip: enforced alone; pod p; -; node n label:foo=baz";
    check_with(PluginName::NodeAffinity, &args, cases);
}

#[test]
fn node_ports() {
    // node_ports_test.go :: Test_isSchedulableAfterPodDeleted
    let cases = "
        pod := pod p hostPort=8080
        skip: unscheduled; {pod}; pod o; -
        skip: non-hostport; {pod}; pod o node=fake; -
        skip: unrelated-hostport; {pod}; pod o node=fake hostPort=8081; -
        queue: released-hostport; {pod}; pod o node=fake hostPort=8080; -
        skip: another protocol; {pod}; pod o node=fake hostPort=UDP:8080; -
        queue: at one address; {pod}; pod o node=fake hostPort=10.0.0.1/TCP:8080; -
        skip: at another address; pod p hostPort=10.0.0.2/TCP:80; \
            pod o node=fake hostPort=10.0.0.1/TCP:80; -";
    check_hints(PluginName::NodePorts, cases);
}

#[test]
fn node_resources_fit_after_pods() {
    // fit_test.go :: Test_isSchedulableAfterPodChange
    let cases = "
        pod := pod p cpu=1
        whole := pod p pod-cpu=1
        queue: other-pod-deleted; {pod}; pod o cpu=1 node=fake; -
        skip: unscheduled-pod-deleted; pod p; pod o; -
        queue: nominated-pod-deleted; {pod}; pod o cpu=2 nominated=fake; -
        skip: other-unscheduled-pod; {pod}; pod o cpu=2; pod o cpu=1
        skip: unrelated-resource; {pod}; pod o memory=2 node=f; pod o memory=1 node=f
        skip: unrelated-pod-level-resource; {whole}; pod o pod-memory=2 node=f; \
            pod o pod-memory=1 node=f
        queue: some-resource-scale-down; {pod}; pod o cpu=2 node=f; pod o cpu=1 node=f
        queue: some-pod-level-resource-scale-down; {whole}; pod o pod-cpu=2 node=f; \
            pod o pod-cpu=1 node=f
        queue: target-pod-scale-down; {pod}; pod p cpu=2; pod p cpu=1
        queue: target-pod-level-scale-down; {whole}; pod p pod-cpu=2; pod p pod-cpu=1";
    check_hints(PluginName::NodeResourcesFit, cases);
}

#[test]
fn node_resources_fit_after_nodes() {
    // fit_test.go :: Test_isSchedulableAfterNodeChange
    let cases = "
        both := pod p memory=2 a.com/a=1
        skip: without-sufficient-resources; pod p memory=2; -; node n memory=1
        skip: without-required-resource-type; pod p a.com/a=1; -; node n b.com/b=1
        queue: with-sufficient-resources; {both}; -; node n memory=4 a.com/a=2
        skip: unrelated-changes; {both}; node n memory=2 a.com/a=2; \
            node n memory=2 a.com/a=1 b.com/b=2
        queue: requested-resources-increase; {both}; node n memory=2 a.com/a=1; \
            node n memory=2 a.com/a=2
        skip: from-suitable-to-unsuitable; {both}; node n memory=4 a.com/a=2; \
            node n memory=1 a.com/a=2
        queue: from-unsuitable-to-suitable; {both}; node n memory=1 a.com/a=2; \
            node n memory=4 a.com/a=2";
    check_hints(PluginName::NodeResourcesFit, cases);
}

#[test]
fn volume_restrictions() {
    // volume_restrictions_test.go :: Test_isSchedulableAfterPodDeleted,
    // Test_isSchedulableAfterPersistentVolumeClaimChange
    let cases = "
        two := pod p claim=one claim=two
        queue: gcedisk-conflict; pod p disk=foo; pod o disk=foo; -
        skip: gcedisk-no-conflict; pod p disk=foo; pod o disk=bar; -
        queue: awsdisk-conflict; pod p aws=foo; pod o aws=foo; -
        skip: awsdisk-no-conflict; pod p aws=foo; pod o aws=bar; -
        queue: rbddisk-conflict; pod p rbd=a+b/i; pod o rbd=a+b/i; -
        skip: rbddisk-no-conflict; pod p rbd=a+b/i; pod o rbd=c+d/i; -
        queue: rbd, one monitor in common; pod p rbd=a+b/i; pod o rbd=c+b/i; -
        skip: rbd, another image; pod p rbd=a+b/i; pod o rbd=a+b/j; -
        queue: iscsidisk-conflict; pod p iscsi=one; pod o iscsi=one; -
        skip: iscsidisk-no-conflict; pod p iscsi=one; pod o iscsi=two; -
        queue: same-claim; pod p claim=one; pod o claim=one; -
        skip: no-same-claim; pod p claim=one; pod o claim=two; -
        skip: other namespace; pod p claim=one; pod o claim=one namespace=x; -
        queue: pvc-belong-pod; {two}; -; claim one
        skip: unused; pod p claim=one; -; claim two
        skip: namespace-not-equal-pod; {two}; -; claim one namespace=x";
    check_hints(PluginName::VolumeRestrictions, cases);
}

#[test]
fn node_volume_limits() {
    // csi_test.go :: TestCSILimitsQHint…
    let cases = "
        pod := pod p claim=one
        skip: deleted without volumes; {pod}; pod o node=f; -
        queue: deleted with a claim; {pod}; pod o node=f claim=two; -
        skip: deleted, not on a node; {pod}; pod o claim=two; -
        queue: deleted, nominated; {pod}; pod o claim=two nominated=f; -
        queue: own claim added; {pod}; -; claim one
        skip: other claim added; {pod}; -; claim two
        skip: claim in another namespace; {pod}; -; claim one namespace=x
        queue: limit up; {pod}; csinode n limit=d:1; csinode n limit=d:2
        skip: limit down; {pod}; csinode n limit=d:2; csinode n limit=d:1
        skip: limit stays; {pod}; csinode n limit=d:2; csinode n limit=d:2
        queue: driver added; {pod}; csinode n; csinode n limit=d:2
        queue: deleted with one of its own; {pod}; pod o node=f ephemeral=v; -
        queue: its own claim added; pod p ephemeral=v; -; claim p-v
        skip: another's claim added; pod p ephemeral=v; -; claim o-v
        queue: attachment gone; {pod}; attachment a; -
        skip: attachment gone, claims of its own alone; pod p ephemeral=v; attachment a; -
        skip: attachment gone, no claims; pod p; attachment a; -";
    check_hints(PluginName::NodeVolumeLimits, cases);
}

#[test]
fn volume_binding() {
    // volume_binding_test.go :: TestIsSchedulableAfterCSINodeChange, …PersistentVolumeClaimChange,
    // …StorageClassChange, …CSIStorageCapacityChange, …CSIDriverChange
    let cases = "
        pod := pod p claim=a claim=b
        queue: CSINode is newly created; pod p; -; csinode n
        queue: annotation added; pod p; csinode n migrated=1; csinode n migrated=1,2
        queue: annotation updated; pod p; csinode n migrated=1; csinode n migrated=2
        skip: unchanged; pod p; csinode n migrated=1; csinode n migrated=1
        skip: pod has no pvc; pod p; claim b; claim b
        skip: in a different namespace; {pod}; -; claim b namespace=x
        skip: no pvc that is being modified; pod p claim=a; claim b; claim b
        queue: the pvc that is being modified; {pod}; claim b; claim b
        queue: one of its own; pod p claim=a ephemeral=v; -; claim p-v
        skip: another pod's own; pod p claim=a ephemeral=v; -; claim o-v
        queue: a new StorageClass; {pod}; -; class c
        queue: AllowedTopologies are changed; {pod}; class c; class c topology=a
        skip: no changes to the StorageClass; {pod}; class c; class c
        queue: new room; {pod}; -; room r
        queue: the limit is told now; {pod}; room r; room r capacity=1Gi
        queue: the limit grows; {pod}; room r capacity=1Gi; room r capacity=2Gi
        skip: the limit shrinks; {pod}; room r capacity=2Gi; room r capacity=1Gi
        skip: the limit is told no more; {pod}; room r capacity=1Gi; room r
        skip: the limit stays; {pod}; room r capacity=1Gi; room r capacity=1Gi
        skip: more room, not for larger volumes; {pod}; room r capacity=1Gi maximum=1Gi; \
            room r capacity=2Gi maximum=1Gi
        queue: room for larger volumes; {pod}; room r capacity=9Gi maximum=1Gi; \
            room r capacity=9Gi maximum=2Gi
        skip: room for larger volumes no more; {pod}; room r capacity=9Gi maximum=2Gi; \
            room r capacity=9Gi maximum=1Gi
        queue: a larger maximum is told now; {pod}; room r capacity=1Gi; \
            room r capacity=1Gi maximum=2Gi
        queue: the maximum is told no more; {pod}; room r capacity=9Gi maximum=1Gi; \
            room r capacity=9Gi
        skip: the maximum was the capacity; {pod}; room r capacity=1Gi maximum=1Gi; \
            room r capacity=1Gi
        skip: nothing is told before and after; {pod}; room r; room r
        skip: never told; pod p csi=d; driver d; driver d
        skip: still told; pod p csi=d; driver d tracks; driver d tracks
        queue: room is told no more; pod p csi=d; driver d tracks; driver d
        skip: of another driver; pod p csi=d; driver e tracks; driver e
        skip: room is told from now on; pod p csi=d; driver d; driver d tracks
        skip: no volume of its own; {pod}; driver d tracks; driver d";
    check_hints(PluginName::VolumeBinding, cases);
}

#[test]
fn volume_zone() {
    // volume_zone_test.go :: TestIsSchedulableAfterPersistentVolumeClaimAdded,
    // …StorageClassAdded, …PersistentVolumeChange
    let cases = "
        pod := pod p claim=one
        zone := label:topology.kubernetes.io/zone
        skip: pod-refers-no-pvc; pod p; -; claim one volume=v
        skip: different-pvc; {pod}; -; claim two volume=v
        skip: different-ns; {pod}; -; claim one namespace=x volume=v
        queue: pod-was-bound-to-the-pvc; {pod}; -; claim one volume=v
        queue: pvc-was-updated; {pod}; claim one; claim one volume=v
        skip: updated, no pvc; pod p; claim one; claim one volume=v
        skip: sc-doesn't-have-volume-binding-mode; {pod}; -; class c
        queue: wait-for-first-consumer-mode; {pod}; -; class c waits
        queue: new-pv-was-added; {pod}; -; volume v {zone}=a
        queue: changed-topology; {pod}; volume v {zone}=a; volume v {zone}=b
        queue: added-topology-label; {pod}; volume v; volume v {zone}=b
        skip: no-topology-is-changed; {pod}; volume v {zone}=a; volume v {zone}=a
        skip: the same zones in another order; {pod}; volume v {zone}=a__b; volume v {zone}=b__a";
    check_hints(PluginName::VolumeZone, cases);
}

#[test]
fn pod_topology_spread_after_pods() {
    // podtopologyspread/plugin_test.go :: Test_isSchedulableAfterPodChange
    let cases = "
        pod := pod p label:foo=x spread:zone:foo
        two := pod p label:foo=x spread:zone:foo spread:node:bar
        honor := pod p label:foo=x spread-tainted:zone:foo spread:node:bar
        tolerant := pod p label:foo=x toleration=node.kubernetes.io/unschedulable
        both := pod o node=f label:foo=x label:bar=1
        queue: add matching; {pod}; -; pod o node=f label:foo=x
        skip: add un-scheduled; {pod}; -; pod o label:foo=x
        skip: update un-scheduled; {pod}; pod o label:bar=x; pod o label:foo=x
        skip: delete un-scheduled; {pod}; pod o label:foo=x; -
        skip: add, different namespace; {pod}; -; pod o node=f namespace=x label:foo=x
        skip: add not matching; {pod}; -; pod o node=f label:bar=x
        queue: delete matching; {pod}; pod o node=f label:foo=x; -
        skip: delete nominated, not matching; {pod}; pod o nominated=f label:bar=x; -
        queue: delete nominated, matching; {pod}; pod o nominated=f label:foo=x; -
        skip: delete not matching; {pod}; pod o node=f label:bar=x; -
        skip: non-related label; {pod}; {both}; pod o node=f label:foo=x label:bar=2
        queue: label added; {pod}; pod o node=f; pod o node=f label:foo=x
        queue: label deleted; {pod}; pod o node=f label:foo=x; pod o node=f
        skip: value changed; {pod}; pod o node=f label:foo=1; pod o node=f label:foo=2
        queue: two constraints, added; {two}; pod o node=f label:foo=x; {both}
        skip: two constraints, unrelated; {two}; pod o node=f label:foo=x; \
            pod o node=f label:foo=x label:baz=x
        skip: two constraints, value changed; {two}; {both}; pod o node=f label:foo=x label:bar=2
        queue: toleration with Honor; {honor}; pod p label:foo=x; {tolerant}
        skip: toleration without Honor; {two}; pod p label:foo=x; {tolerant}
        queue: own label matches now; {two}; pod p; pod p label:foo=x
        skip: own unrelated label; {two}; pod p; pod p label:unrelated=x";
    check_hints(PluginName::PodTopologySpread, cases);
}

#[test]
fn pod_topology_spread_after_nodes() {
    // podtopologyspread/plugin_test.go :: Test_isSchedulableAfterNodeChange
    let cases = "
        pod := pod p spread:zone:foo
        two := pod p spread:zone:foo spread:node:foo
        full := node n label:zone=z1 label:node=n1
        queue: topologyKey updated; {pod}; node n label:zone=z1; node n label:zone=z2
        skip: non-related label; {pod}; node n label:foo=1; node n label:foo=2
        skip: matching, non-related label; {two}; {full} label:foo=bar; {full}
        skip: create, non-related; {pod}; -; node n label:foo=bar
        queue: create, related; {pod}; -; node n label:zone=z1
        skip: delete, non-related; {pod}; node n label:foo=bar; -
        queue: delete, related; {pod}; node n label:zone=z1; -
        skip: add, one of two; {two}; -; node n label:zone=z1
        queue: add, all; {two}; -; {full}
        skip: update, one of two; {two}; node n label:zone=z1; node n label:zone=z1
        queue: update, all; {two}; {full}; node n label:zone=z1 label:node=n2
        queue: taints, all; {two}; {full} taint=a:b; {full} taint=c:b
        skip: taints, one of two; {two}; node n label:node=n1 taint=a:b; \
            node n label:node=n1 taint=c:b";
    check_hints(PluginName::PodTopologySpread, cases);
}

#[test]
fn inter_pod_affinity_after_pods() {
    // interpodaffinity/plugin_test.go :: Test_isSchedulableAfterPodChange
    let cases = "
        wants := pod p pod:region:service=scan|v2
        hates := pod p no-pod:region:service=scan|v2
        two := pod p pod:hostname:aaa pod:hostname:bbb
        other := pod o node=f label:aaa=a
        scan := pod o node=f label:service=scan
        hater := pod o node=f no-pod:region:service=scan|v2
        queue: add matching; {wants}; -; {scan}
        skip: add un-scheduled; {wants}; -; pod o label:service=scan
        skip: add not matching; {wants}; -; {other}
        queue: non-match to match; {wants}; {other}; {scan}
        skip: matches before and after; {wants}; pod o node=f label:service=v2; {scan}
        skip: update un-scheduled; {wants}; pod o label:a=a; pod o label:service=scan
        skip: match to non-match; {wants}; {scan}; {other}
        skip: two terms, still not; {two}; {other}; {scan}
        queue: two terms, now; {two}; {other}; pod o node=f label:aaa=a label:bbb=b
        queue: the target pod; pod p; pod p label:foo=bar; pod p label:foo=baz
        queue: anti: to non-match; {hates}; {scan}; pod o node=f label:service=aaaa
        skip: anti: to match; {hates}; pod o node=f label:service=bbb; {scan}
        skip: anti: delete not matching; {hates}; {other}; -
        queue: anti: delete matching; {hates}; {scan}; -
        queue: deleted pod repelled it; pod p label:service=scan; {hater}; -
        skip: deleted pod repelled others; pod p label:service=foo; {hater}; -
        skip: neither repels the other; {hates} label:service=foo; {hater}; -
        skip: delete nominated, not matching; {hates}; pod o nominated=f label:a=a; -
        queue: delete nominated, matching; {hates}; pod o nominated=f label:service=scan; -";
    check_hints(PluginName::InterPodAffinity, cases);
}

#[test]
fn inter_pod_affinity_after_nodes() {
    // interpodaffinity/plugin_test.go :: Test_isSchedulableAfterNodeChange
    let cases = "
        wants := pod p pod:zone:service=scan|v2
        hates := pod p no-pod:zone:another=label
        one := node n label:zone=z1
        more := node n label:zone=z1 label:unrelated=u
        queue: add with the topologyKey; {wants}; -; {one}
        skip: add without; pod p pod:region:service=scan; -; {one}
        skip: label but not topologyKey; {wants}; node n label:a=a; node n label:a=b
        skip: unrelated label; {wants}; {one}; {more}
        queue: different value; {wants}; {one}; node n label:zone=z2
        queue: to have the topologyKey; {wants}; node n label:a=a; {one}
        queue: anti: add with; {hates}; -; {one}
        queue: anti: add without; {hates}; -; node n
        skip: anti: unrelated label; {hates}; {one}; {more}
        queue: anti: different value; {hates}; {one}; node n label:zone=z2
        skip: anti: to have the topologyKey; {hates}; node n label:a=a; {one}
        queue: anti: not to have it; {hates}; {one}; node n label:a=a";
    check_hints(PluginName::InterPodAffinity, cases);
}
