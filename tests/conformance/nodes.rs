//! Nodes and the network between them: lost, frozen, cut off, slow.

use rehearsal::record::{NodeMarkKind, RunRecord};

use super::World;
use super::text::{
    apply, between, deployment, failed, model, pods, scenario, seconds, service, traffic, users,
};

const READY: &str = "readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1},";
const FRESH: &str = "keepAlive: false, timeout: 1s";

/// A fault of nodes.
fn chaos(at: &str, action: &str, more: &str) -> String {
    apply(
        at,
        &format!(
            "{{apiVersion: rehearsal.dev/v1, kind: NodeChaos, metadata: {{name: fault}},
              spec: {{action: {action}, mode: one, selector: {{names: [node-1]}}, {more}}}}}"
        ),
    )
}

/// A fault of the network of the pods `web`.
fn network(at: &str, spec: &str) -> String {
    apply(
        at,
        &format!(
            "{{apiVersion: chaos-mesh.org/v1alpha1, kind: NetworkChaos, metadata: {{name: fault}},
              spec: {{mode: all, selector: {{labelSelectors: {{app: web}}}}, {spec}}}}}"
        ),
    )
}

/// One pod on each of two nodes, and users.
fn two(world: &World, secs: u32, fault: &str, pod: &str, client: &str) -> RunRecord {
    let spread = "topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname,
      whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: web}}}],";
    world.run(&scenario(
        secs,
        2,
        fault,
        &[
            deployment("web", 2, READY, &format!("{spread} {pod}")),
            service("web", ""),
            model("web", "startup: 200ms, request: {cpu: 200us}"),
            traffic("service/web:80", 40, secs - 1, client),
        ],
    ))
}

pub fn a_lost_node_is_noticed_evicted_and_replaced(world: &World) {
    let soon = "tolerations: [
      {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1},
      {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 1}],";
    let run = two(
        world,
        28,
        &chaos("2s", "power-off", "duration: 10m"),
        soon,
        FRESH,
    );
    let unknown = run.nodes.iter().find(|n| n.what == NodeMarkKind::Unknown);
    let unknown = unknown.expect("it is noticed");
    assert_eq!(unknown.node, "node-1");
    // The last lease is up to ten seconds old at the loss, and must be 12 s old.
    between(
        "last lease to NotReady",
        12.0,
        seconds(unknown.last_lease, unknown.at),
        23.0,
    );
    let web = pods(&run, "web");
    let lost = web
        .iter()
        .find(|p| p.node == "node-1")
        .expect("a pod there");
    between(
        "NotReady to eviction",
        1.0,
        seconds(unknown.at, lost.terminating),
        1.3,
    );
    let new = web.iter().find(|p| Some(p.created) >= lost.terminating);
    let new = new.expect("it is replaced");
    assert_eq!((new.node.as_str(), new.ready.is_some()), ("node-0", true));
    // A dead pod is half of the Service until the node is NotReady.
    assert!(failed(&run, 3.0, 8.0) >= 60, "{:?}", users(&run).failed_by);
    let after = seconds(run.header.begun, unknown.at) + 3.0;
    assert_eq!(failed(&run, after, 30.0), 0, "{:?}", users(&run).failed_by);
}

pub fn a_frozen_node_answers_when_it_thaws(world: &World) {
    let client = "keepAlive: false, timeout: 10s";
    let run = two(world, 8, &chaos("2s", "freeze", "duration: 2s"), "", client);
    let users = users(&run);
    assert_eq!(
        (users.sent, users.failed),
        (280, 0),
        "{:?}",
        users.failed_by
    );
    // Who came first waited for two seconds.
    let slowest = users.seconds.iter().map(|s| s.max_us).max().unwrap_or(0);
    between("the slowest in s", 1.5, f64::from(slowest) / 1e6, 3.4);
    assert!(pods(&run, "web").iter().all(|p| p.restarts == 0));
}

pub fn pods_serve_while_their_kubelet_is_down(world: &World) {
    let run = two(
        world,
        6,
        &chaos("1s", "kubelet-stop", "duration: 3s"),
        "",
        FRESH,
    );
    assert_eq!(users(&run).failed, 0, "{:?}", users(&run).failed_by);
    assert_eq!(users(&run).answered_by.len(), 2);
}

fn cut_off(world: &World, ends: &str) {
    let fault = chaos("2s", "partition", &format!("{ends} duration: 3s"));
    let run = two(world, 9, &fault, "", FRESH);
    // Half of 40 a second for three seconds run out of time a second later.
    between("failed", 30.0, failed(&run, 2.0, 7.0) as f64, 90.0);
    assert_eq!(failed(&run, 0.0, 2.0) + failed(&run, 7.0, 9.0), 0);
    assert_eq!(
        users(&run).failed_by.keys().collect::<Vec<_>>(),
        ["timeout"]
    );
}

pub fn a_partition_ends_and_so_do_the_failures(world: &World) {
    cut_off(world, "from: [edge],");
}

pub fn a_partition_in_one_direction_is_enough(world: &World) {
    cut_off(world, "to: [edge],");
}

pub fn delay_is_felt_by_every_request(world: &World) {
    let fault = network("2s", "action: delay, delay: {latency: 50ms}, duration: 4s");
    let run = two(world, 8, &fault, "", FRESH);
    let users = users(&run);
    assert_eq!(users.failed, 0, "{:?}", users.failed_by);
    let begun = run.header.begun.as_secs_f64();
    let p50 = |from: f64, to: f64| {
        let within = users.seconds.iter();
        let within = within.filter(|s| (from..to).contains(&(s.at().as_secs_f64() - begun)));
        let mut all: Vec<u32> = within.map(|s| s.p50_us).collect();
        all.sort_unstable();
        f64::from(all[all.len() / 2]) / 1000.0
    };
    // The handshake's answer and the request's: packets of the pods are late twice.
    between("p50 in ms while it lasts", 100.0, p50(3.0, 6.0), 130.0);
    between("p50 in ms before", 0.0, p50(0.0, 2.0), 40.0);
}

pub fn loss_is_repaired_and_takes_time(world: &World) {
    let fault = network("1s", "action: loss, loss: {loss: \"20\"}, duration: 30s");
    let run = two(world, 9, &fault, "", "keepAlive: false, timeout: 30s");
    let users = users(&run);
    assert_eq!(users.failed, 0, "{:?}", users.failed_by);
    // A lost answer to a handshake costs a second, lost data 200 ms: a tenth of the requests and
    // more, but not half of them.
    between(
        "p50 of answers in ms",
        0.0,
        users.ok_p50_us as f64 / 1000.0,
        150.0,
    );
    between(
        "p99 of answers in ms",
        190.0,
        users.ok_p99_us as f64 / 1000.0,
        12_000.0,
    );
}

pub fn nobody_needs_an_api_server_to_go_on(world: &World) {
    let away = "{apiVersion: rehearsal.dev/v1, kind: ControlPlaneChaos, metadata: {name: away},
      spec: {action: outage, duration: 5s}}";
    let kill = "{apiVersion: chaos-mesh.org/v1alpha1, kind: PodChaos, metadata: {name: kill},
      spec: {action: container-kill, mode: one, containerNames: [main],
      selector: {labelSelectors: {app: web}}}}";
    let steps = [
        apply("2s", away),
        "{at: 3s, kubectl: scale deployment/web --replicas=3, optional: true}".to_owned(),
        apply("4s", kill),
        "{at: 14s, kubectl: scale deployment/web --replicas=3}".to_owned(),
    ];
    let run = two(world, 22, &steps.join(","), "", FRESH);
    // Nobody loses a lease of 15 s that is renewed until 10 s have passed.
    assert_eq!(run.components, []);
    let mut refused = run
        .steps
        .iter()
        .filter(|s| matches!(&s.result, Some(Err(_))));
    let refused = refused.next().expect("the first scaling fails");
    between(
        "refused",
        1.0,
        seconds(Some(run.faults[0].at), refused.at),
        1.5,
    );
    // The kubelet starts the container again, and says so when it can; both pods stay in the rules.
    let restarts: u32 = pods(&run, "web").iter().map(|pod| pod.restarts).sum();
    assert_eq!((pods(&run, "web").len(), restarts), (3, 1));
    // Served before the container ends, and again once its kubelet has started it.
    assert_eq!((failed(&run, 0.0, 4.0), failed(&run, 6.5, 9.0)), (0, 0));
    assert!(users(&run).failed > 0);
    assert!(pods(&run, "web").iter().all(|pod| pod.ready.is_some()));
}
