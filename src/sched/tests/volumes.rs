//! VolumeBinding: where a pod's claims can be, and what becomes of a pod that waits for them.

use super::words::row;
use super::*;
use crate::api::PersistentVolumeClaim;
use crate::sched::explain::explain;

/// What the first plugin that refuses says of each node, or `fits`; `pod: …` when the pod as a
/// whole is refused. The last of the objects is the pod.
pub(super) fn verdicts(config: &SchedulerConfig, objects: &str) -> String {
    let words = objects.split(';').map(str::trim);
    let mut rows: Vec<Row> = words.map(|w| row(w).expect("an object")).collect();
    let Some(Row::Pod(pod)) = rows.pop() else {
        panic!("the last object is a pod: {objects}")
    };
    let view = view_of(rows);
    let explained = explain(config, &Draws::new(1), &pod, &view, Time::ZERO);
    let explained = explained.expect("its profile is there");
    let error = explained.message.as_ref();
    if let Some(error) = error.filter(|message| !message.starts_with("0/")) {
        return error.clone();
    }
    if let Some(refusal) = &explained.pre_filter {
        return format!("pod: {}: {}", refusal.plugin, refusal.reasons.join(", "));
    }
    let fits = explained.feasible.iter().map(|n| format!("{n}: fits"));
    let refused = explained.rejected.iter();
    let refused = refused.map(|(n, why)| format!("{n}: {}", why.reasons.join(", ")));
    let mut all: Vec<String> = fits.chain(refused).collect();
    all.sort();
    all.join("; ")
}

/// Lines of `NAME | objects | verdicts`; `WORD := …` as in the tables of hints.
#[track_caller]
pub(super) fn check_verdicts(config: &SchedulerConfig, cases: &str) {
    let mut words: Vec<(String, &str)> = Vec::new();
    for line in cases.trim().lines().map(str::trim) {
        if let Some((word, meaning)) = line.split_once(" := ") {
            words.push((format!("{{{word}}}"), meaning));
            continue;
        }
        let meant = words.iter().fold(line.to_owned(), |line, (word, meaning)| {
            line.replace(word, meaning)
        });
        let parts: Vec<&str> = meant.split('|').map(str::trim).collect();
        let [name, objects, expected] = parts.as_slice() else {
            panic!("three parts: {line}")
        };
        assert_eq!(verdicts(config, objects), *expected, "{name}");
    }
}

/// `binder_test.go :: TestCapacity` and its kin.
#[test]
fn a_driver_that_tells_where_it_has_room_gets_volumes_only_there() {
    let cases = "
        nodes := node a label:z=1; node b label:z=2; class c waits
        pod := claim p class=c size=2Gi; pod p claim=p
        full := node(s) did not have enough free storage
        none := node(s) didn't find available persistent volumes to bind
        no driver | {nodes}; {pod} | a: fits; b: fits
        does not track | {nodes}; driver d; {pod} | a: fits; b: fits
        nothing told | {nodes}; driver d tracks; {pod} | a: {full}; b: {full}
        enough on one | {nodes}; driver d tracks; room r capacity=2Gi on=z:1; {pod} \
            | a: fits; b: {full}
        too little | {nodes}; driver d tracks; room r capacity=1Gi on=z:1; {pod} \
            | a: {full}; b: {full}
        of another class | {nodes}; driver d tracks; room r class=x capacity=9Gi on=z:1; {pod} \
            | a: {full}; b: {full}
        nowhere | {nodes}; driver d tracks; room r capacity=9Gi nowhere; {pod} \
            | a: {full}; b: {full}
        everywhere | {nodes}; driver d tracks; room r capacity=9Gi; {pod} | a: fits; b: fits
        amount unknown | {nodes}; driver d tracks; room r; {pod} | a: {full}; b: {full}
        the largest volume counts | {nodes}; driver d tracks; \
            room r capacity=9Gi maximum=1Gi on=z:1; room s capacity=1Gi maximum=2Gi on=z:2; {pod} \
            | a: {full}; b: fits
        one of several | {nodes}; driver d tracks; room r capacity=1Gi on=z:1; \
            room s capacity=3Gi on=z:1; {pod} | a: fits; b: {full}
        a free volume needs no room | {nodes}; driver d tracks; \
            volume v class=c size=2Gi phase=Available on=z:2; {pod} | a: {full}; b: fits
        decided for a node that is full now | {nodes}; driver d tracks; \
            claim p class=c size=2Gi selected=a; pod p claim=p | a: {full}; b: {none}
        not made by anybody | node a; class c waits provisioner=kubernetes.io/no-provisioner; \
            driver d tracks; {pod} | a: {none}";
    check_verdicts(&SchedulerConfig::default(), cases);
}

/// `binder_test.go :: TestFindPodVolumes…`: what is said of claims and volumes.
#[test]
fn claims_go_where_their_volumes_are_or_can_be_made() {
    let cases = "
        nodes := node a label:z=1; node b label:z=2; class c waits; class i
        none := node(s) didn't find available persistent volumes to bind
        far := node(s) didn't match PersistentVolume's node affinity
        bound, in one zone | {nodes}; volume v on=z:1; claim p bound=v; pod p claim=p \
            | a: fits; b: {far}
        immediate | {nodes}; claim p class=i; pod p claim=p \
            | pod: VolumeBinding: pod has unbound immediate PersistentVolumeClaims
        names a volume | {nodes}; volume v; claim p class=c volume=v; pod p claim=p \
            | pod: VolumeBinding: pod has unbound immediate PersistentVolumeClaims
        no claim | {nodes}; pod p claim=p \
            | pod: VolumeRestrictions: persistentvolumeclaim \"p\" not found
        lost | {nodes}; claim p class=c volume=v lost; pod p claim=p | pod: VolumeBinding: \
            persistentvolumeclaim \"p\" bound to non-existent persistentvolume \"v\"
        decided | {nodes}; claim p class=c selected=b; pod p claim=p | a: {none}; b: fits
        allowed topologies | node a label:zone=1; node b; class c waits topology=1; \
            claim p class=c; pod p claim=p | a: fits; b: {none}
        both reasons | {nodes}; class n waits provisioner=kubernetes.io/no-provisioner; \
            volume v on=z:1; claim p bound=v; claim q class=n; pod p claim=p claim=q \
            | a: {none}; b: {far}, {none}
        two claims, one volume | {nodes}; class n waits provisioner=kubernetes.io/no-provisioner; \
            volume v class=n phase=Available; claim p class=n; claim q class=n; \
            pod p claim=p claim=q | a: {none}; b: {none}
        two claims, two volumes | {nodes}; class n waits provisioner=kubernetes.io/no-provisioner; \
            volume v class=n phase=Available on=z:2; volume w class=n phase=Available; \
            claim p class=n; claim q class=n; pod p claim=p claim=q | a: {none}; b: fits";
    check_verdicts(&SchedulerConfig::default(), cases);
    // VolumeZone refuses such a pod before nodes are tried.
    let mut without = SchedulerConfig::default();
    let plugins = &mut without.profiles[0].plugins.multi_point;
    plugins.retain(|e| e.plugin != crate::sched::plugin::PluginName::VolumeZone);
    let cases = "
        gone := node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)
        volume gone | node a; claim p bound=v; pod p claim=p | a: {gone}";
    check_verdicts(&without, cases);
}

/// `volume_zone_test.go`, `zones.go :: LabelZonesToSet`: zones in the labels of volumes.
#[test]
fn volumes_go_to_the_zones_that_their_labels_name() {
    let cases = "
        zone := label:topology.kubernetes.io/zone
        beta := label:failure-domain.beta.kubernetes.io/zone
        claim := claim c bound=v; pod p claim=c
        far := node(s) had no available volume zone
        same | node a {zone}=1; volume v {zone}=1; {claim} | a: fits
        another | node a {zone}=1; volume v {zone}=2; {claim} | a: {far}
        one of two | node a {zone}=2; volume v {zone}=1__2; {claim} | a: fits
        none of two | node a {zone}=3; volume v {zone}=1__2; {claim} | a: {far}
        a node without zones | node a; volume v {zone}=1; {claim} | a: fits
        a node with a region alone | node a label:topology.kubernetes.io/region=r; \
            volume v {zone}=1; {claim} | a: {far}
        the old label of a volume | node a {zone}=1; volume v {beta}=1; {claim} | a: fits
        the old label of a node | node a {beta}=1; volume v {zone}=1; {claim} | a: {far}
        an empty zone | node a {zone}=1; volume v {zone}=2____3; {claim} | a: fits
        an empty label | node a {zone}=1; volume v {zone}=; {claim} | a: fits";
    check_verdicts(&SchedulerConfig::default(), cases);
}

/// `ephemeral.go :: VolumeClaimName`, `VolumeIsForPod`: volumes with a claim of the pod's own.
#[test]
fn a_claim_of_the_pods_own_must_have_been_made_for_it() {
    let cases = "
        nodes := node a label:z=1; node b label:z=2; class c waits
        far := node(s) didn't match PersistentVolume's node affinity
        taken := PVC default/p-v was not created for pod default/p (pod is not owner)
        not yet | {nodes}; pod p ephemeral=v | pod: VolumeBinding: waiting for ephemeral volume \
            controller to create the persistentvolumeclaim \"p-v\"
        nobody's | {nodes}; claim p-v class=c; pod p ephemeral=v | pod: VolumeBinding: {taken}
        another pod's | {nodes}; claim p-v class=c owner=q; pod p ephemeral=v \
            | pod: VolumeBinding: {taken}
        its own | {nodes}; claim p-v class=c owner=p; pod p ephemeral=v | a: fits; b: fits
        bound | {nodes}; volume x on=z:1; claim p-v owner=p bound=x; pod p ephemeral=v \
            | a: fits; b: {far}
        VolumeZone does not look | node a label:topology.kubernetes.io/zone=1; \
            volume x label:topology.kubernetes.io/zone=2; claim p-v owner=p bound=x; \
            pod p ephemeral=v | a: fits
        but at claims that the pod names | node a label:topology.kubernetes.io/zone=1; \
            volume x label:topology.kubernetes.io/zone=2; claim p-v owner=p bound=x; \
            pod p claim=p-v | a: node(s) had no available volume zone
        the first of two is told | {nodes}; pod p claim=x ephemeral=v \
            | pod: VolumeRestrictions: persistentvolumeclaim \"x\" not found
        it counts | node a; csinode a limit=d:1; class c waits; claim o-v class=c owner=o; \
            pod o node=a ephemeral=v; claim p-v class=c owner=p; pod p ephemeral=v \
            | a: node(s) exceed max volume count
        it counts beside named ones | node a; csinode a limit=d:2; class c waits; \
            claim x class=c; pod o node=a claim=x; claim p-v class=c owner=p; pod p ephemeral=v \
            | a: fits";
    check_verdicts(&SchedulerConfig::default(), cases);
}

fn claim_now(m: &Machine) -> (Id<PersistentVolumeClaim>, PersistentVolumeClaim) {
    let claims = m.store.view().of::<PersistentVolumeClaim>();
    let (id, claim) = claims.find("default", "data").expect("the claim");
    (id, PersistentVolumeClaim::clone(claim))
}

/// A machine whose pod waits in PreBind from 14 ms on: decided at 11, written at 12, answered at 13
/// (the pod's nomination is the first write, the claim's the second; they do not wait for each
/// other).
fn waiting(timeout: Option<u64>) -> Machine {
    let mut config = SchedulerConfig {
        cycle_cost: CycleCost {
            base: Duration::ZERO,
            per_node: Duration::ZERO,
        },
        ..SchedulerConfig::default()
    };
    config.profiles[0].args.bind_timeout = timeout.map(Duration::from_secs);
    let mut m = Machine::with(config);
    m.create(0, node("n1", 4));
    let volumes = m.waiting_claim();
    m.create(10, set(pod("db", 100), "/spec", "volumes", volumes));
    m
}

/// `BindPodVolumes`: what is said when volumes are not bound, and how long it waits for them.
#[test]
fn a_pod_whose_volumes_are_not_bound_in_time_is_tried_again() {
    let prefix = "running PreBind plugin \"VolumeBinding\": binding volumes: ";
    for (timeout, at) in [(Some(30), 30_013), (Some(0), 13), (None, 600_013)] {
        let mut m = waiting(timeout);
        let lines = m.run(at + 10);
        let message = format!("db FailedScheduling: {prefix}context deadline exceeded");
        let told: Vec<&str> = lines.lines().filter(|l| l.contains(&message)).collect();
        assert_eq!(told.len(), 1, "{lines}");
        // The event is sent at once and arrives 1 ms later.
        assert!(told[0].starts_with(&format!("{:>6} ", at + 1)), "{lines}");
    }
}

/// `checkBindings`: what ends the wait early.
#[test]
fn a_claim_that_can_not_be_bound_any_more_ends_the_wait() {
    type Change = fn(&mut Machine);
    let reset: Change = |m| {
        let (id, _) = claim_now(m);
        let edits = vec![
            ("volume.kubernetes.io/selected-node".into(), None),
            ("other".into(), Some("x".into())),
        ];
        let patch = Patch::Annotations(edits);
        let (object, uid) = (id.into(), None);
        m.script(2_500, Write::Patch { object, uid, patch });
    };
    let bare: Change = |m| {
        let (id, mut claim) = claim_now(m);
        claim.meta.annotations = crate::api::Labels::default();
        m.script(2_500, Write::Update(id.into(), Row::from(claim)));
    };
    let far: Change = |m| {
        let volume = row("volume v on=z:1").expect("a volume");
        m.script(2_400, Write::Create(volume));
        let (id, mut claim) = claim_now(m);
        claim.volume_name = "v".into();
        m.script(2_500, Write::Update(id.into(), Row::from(claim)));
    };
    let node: Change = |m| {
        let (id, _) = m.store.view().nodes().find("", "n1").expect("the node");
        let write = Write::Delete {
            object: id.into(),
            uid: None,
            grace_s: None,
            propagation: Propagation::Background,
        };
        m.script(2_500, write);
    };
    for (change, words) in [
        (reset, "provisioning failed for PVC \"data\""),
        (bare, "selectedNode annotation reset for PVC \"data\""),
        (
            far,
            "pv \"v\" node affinity doesn't match node \"n1\": no matching NodeSelectorTerms",
        ),
        (node, "failed to get node \"n1\": node \"n1\" not found"),
    ] {
        let mut m = waiting(None);
        m.run(2_000);
        change(&mut m);
        let lines = m.run(4_000);
        let prefix = "3014 db FailedScheduling: running PreBind plugin \"VolumeBinding\"";
        let wanted = format!("{prefix}: binding volumes: {words}");
        assert!(lines.contains(&wanted), "{wanted}\n{lines}");
    }
}
