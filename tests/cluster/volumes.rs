//! Volumes in a whole cluster: claims, controllers, scheduler and kubelets.

use std::path::Path;

use rehearsal::check::run::{RunOptions, run};
use rehearsal::record::{EventRow, RunRecord};
use rehearsal::scenario::{LoadOptions, load_bytes};

fn play(text: &str) -> RunRecord {
    let options = LoadOptions::default();
    let loaded = load_bytes(Path::new("v.yaml"), text.as_bytes(), &options);
    let loaded = loaded.unwrap_or_else(|rejected| panic!("{}", rejected.render(false)));
    let mut options = RunOptions {
        stop: &mut |_, _| false,
        arguments: Vec::new(),
    };
    let finished = run(&loaded.scenarios[0], &mut options);
    let record = finished.unwrap_or_else(|error| panic!("{error:?}")).record;
    let failed = record.checks.iter().filter(|c| !c.passed);
    let failed: Vec<String> = failed
        .map(|c| format!("{}: {}", c.name, c.detail))
        .collect();
    assert_eq!(failed, Vec::<String>::new(), "{:#?}", record.events);
    record
}

fn told<'r>(record: &'r RunRecord, reason: &str) -> Vec<&'r EventRow> {
    let events = record.events.iter();
    events.filter(|event| event.reason == reason).collect()
}

/// A set of one pod with a volume of its own; the pod goes at 2:00 and comes back at 4:00. What is
/// called `taken-0-scratch` is somebody else's.
const EPHEMERAL: &str = "
apiVersion: rehearsal.dev/v1
kind: Scenario
metadata: {name: ephemeral}
spec:
  seed: 5
  duration: 6m
  cluster:
    nodePools: [{name: web, count: 2, capacity: {cpu: '4', memory: 8Gi, pods: '110'}}]
    storageClasses:
    - {name: disk, default: true, volumeBindingMode: WaitForFirstConsumer, attach: 8s, detach: 5s}
  timeline:
  - {at: 2m, kubectl: scale statefulset/db --replicas=0}
  - {at: 4m, kubectl: scale statefulset/db --replicas=1}
  expect:
  - name: again
    eventually: \"statefulset('db').status.readyReplicas == 1\"
    within: 1m
    from: 4m1s
  - {name: taken, never: \"pods('taken').exists(p, has(p.spec.nodeName))\"}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: taken-0-scratch}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
---
SET: db
---
SET: taken
";

const SET: &str = "apiVersion: apps/v1
kind: StatefulSet
metadata: {name: NAME}
spec:
  serviceName: none
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - {name: main, image: 'db:1', volumeMounts: [{name: scratch, mountPath: /scratch}]}
      volumes:
      - name: scratch
        ephemeral:
          volumeClaimTemplate:
            spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}";

#[test]
fn a_volume_of_a_pods_own_comes_and_goes_with_it() {
    let text = EPHEMERAL
        .replace("SET: db", &SET.replace("NAME", "db"))
        .replace("SET: taken", &SET.replace("NAME", "taken"));
    let record = play(&text);
    // One volume for each life of the pod, since its claim was another one, and none for the claim
    // that no pod uses.
    let made = told(&record, "ProvisioningSucceeded");
    let names: Vec<&str> = made.iter().map(|event| &*event.name).collect();
    assert_eq!(names, ["db-0-scratch", "db-0-scratch"]);
    assert_ne!(made[0].message, made[1].message);
    // The scheduler may see a pod before its claim.
    let waits = told(&record, "FailedScheduling");
    let of = |pod: &str| {
        let mut all = waits.iter().filter(|event| event.name == pod);
        all.next().map(|event| event.message.to_string())
    };
    let missing = "0/2 nodes are available: waiting for ephemeral volume controller to create the \
                   persistentvolumeclaim \"db-0-scratch\". not found";
    assert_eq!(of("db-0").as_deref(), Some(missing));
    let not_its_own = "PVC default/taken-0-scratch was not created for pod default/taken-0 (pod is \
                       not owner)";
    assert!(of("taken-0").is_some_and(|message| message.contains(not_its_own)));
    let failed = told(&record, "FailedBinding");
    let words = format!("ephemeral volume scratch: {not_its_own}");
    let same = |event: &&EventRow| event.name == "taken-0" && event.message == *words;
    assert!(
        failed.iter().copied().any(|event| same(&event)),
        "{failed:#?}"
    );
}

/// Three pods that each want a volume.
const DB: &str = "---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: none
  replicas: 3
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - {name: main, image: 'db:1', volumeMounts: [{name: data, mountPath: /data}]}
MORE  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], storageClassName: CLASS, resources: {requests: {storage: SIZE}}}
";

/// The scenario with the set; `more` is further fields of its pods.
fn with_db(scenario: &str, class: &str, size: &str, more: &str) -> String {
    let set = DB.replace("CLASS", class).replace("SIZE", size);
    format!("{scenario}{}", set.replace("MORE", more))
}

/// No two pods on one node.
const APART: &str = "      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: db}}}
";

/// A set on disks of the nodes themselves; a node is closed, and all pods are deleted.
const LOCAL: &str = "
apiVersion: rehearsal.dev/v1
kind: Scenario
metadata: {name: local}
spec:
  seed: 5
  duration: 6m
  cluster:
    nodePools: [{name: web, count: 3, capacity: {cpu: '4', memory: 8Gi, pods: '110'}}]
  timeline:
  - {at: 2m, kubectl: cordon web-1}
  - {at: 2m10s, kubectl: delete pod db-0 db-1 db-2}
  - {at: 4m, kubectl: uncordon web-1}
  expect:
  - name: all come back
    eventually: \"statefulset('db').status.readyReplicas == 3\"
    within: 1m
    from: 4m1s
  - name: one waits
    from: 3m
    until: 3m50s
    always: \"statefulset('db').status.readyReplicas < 3\"
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: local-path}
provisioner: rancher.io/local-path
volumeBindingMode: WaitForFirstConsumer
reclaimPolicy: Delete
";

#[test]
fn a_pod_with_a_disk_of_its_node_waits_for_that_node() {
    // DynamicResources has something to say since it is there by default.
    for (version, more) in [("1.33", ""), ("1.36", "no new claims to deallocate, ")] {
        let text = format!("{{name: local}}\nspec:\n  kubernetesVersion: '{version}'");
        let record = play(&with_db(
            &LOCAL.replace("{name: local}\nspec:", &text),
            "local-path",
            "1Gi",
            APART,
        ));
        let waits = told(&record, "FailedScheduling");
        let closed = format!(
            "0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) didn't match \
             PersistentVolume's node affinity. {more}preemption: 0/3 nodes are available: 3 \
             Preemption is not helpful for scheduling."
        );
        assert_eq!(waits[0].message, *closed, "{version}: {waits:#?}");
    }
}

/// Two nodes with room for one volume each, three pods that want one; then the volumes of two of
/// them are deleted, and their pods come back.
const ROOM: &str = "
apiVersion: rehearsal.dev/v1
kind: Scenario
metadata: {name: room}
spec:
  seed: 5
  duration: 10m
  cluster:
    nodePools: [{name: web, count: 2, capacity: {cpu: '4', memory: 8Gi, pods: '110'}}]
  timeline:
  - {at: 3m, kubectl: scale statefulset/db --replicas=0}
  - {at: 4m, kubectl: delete pvc data-db-0 data-db-1}
  - {at: 5m, kubectl: scale statefulset/db --replicas=3}
  expect:
  - name: two have room
    always: \"statefulset('db').status.readyReplicas == 2\"
    until: 3m
  - name: two have room again
    eventually: \"statefulset('db').status.readyReplicas == 2\"
    within: 1m
    from: 5m
  - name: there is no third
    never: \"statefulset('db').status.readyReplicas > 2\"
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: topolvm}
provisioner: topolvm.io
volumeBindingMode: WaitForFirstConsumer
---
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: topolvm.io}
spec: {storageCapacity: true}
---
apiVersion: storage.k8s.io/v1
kind: CSIStorageCapacity
metadata: {name: web-0, namespace: kube-system}
storageClassName: topolvm
nodeTopology: {matchLabels: {kubernetes.io/hostname: web-0}}
capacity: 10Gi
---
apiVersion: storage.k8s.io/v1
kind: CSIStorageCapacity
metadata: {name: web-1, namespace: kube-system}
storageClassName: topolvm
nodeTopology: {matchLabels: {kubernetes.io/hostname: web-1}}
capacity: 10Gi
";

#[test]
fn pods_wait_for_storage_that_others_have_used_up() {
    let record = play(&with_db(ROOM, "topolvm", "6Gi", ""));
    let refused = told(&record, "ProvisioningFailed");
    let exhausted =
        "rpc error: code = ResourceExhausted desc = not enough room: 6Gi wanted, 4Gi left";
    let messages = refused.iter().map(|event| &*event.message);
    assert!(messages.clone().count() > 0 && messages.clone().all(|m| m == exhausted));
    let waits = told(&record, "FailedScheduling");
    let full = "0/2 nodes are available: 2 node(s) did not have enough free storage.";
    let full = |event: &&&EventRow| event.message.starts_with(full);
    assert!(waits.iter().filter(full).count() > 1, "{waits:#?}");
}
