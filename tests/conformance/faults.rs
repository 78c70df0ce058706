//! Faults of Chaos Mesh's other kinds: loads, names, narrow and bad links.

use rehearsal::record::RunRecord;

use super::World;
use super::text::{
    apply, between, deployment, exits, failed, model, one, pod, scenario, service, traffic, users,
};

const READY: &str = "readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1},";
const FRESH: &str = "keepAlive: false, timeout: 5s";

/// A fault of the pods of this name.
fn chaos(at: &str, kind: &str, app: &str, spec: &str) -> String {
    apply(
        at,
        &format!(
            "{{apiVersion: chaos-mesh.org/v1alpha1, kind: {kind}, metadata: {{name: fault}},
              spec: {{mode: all, selector: {{labelSelectors: {{app: {app}}}}}, {spec}}}}}"
        ),
    )
}

/// One pod of this model on one node, and users.
fn web(world: &World, seconds: u32, rate: u32, fault: &str, spec: &str) -> RunRecord {
    world.run(&scenario(
        seconds,
        1,
        fault,
        &[
            deployment("web", 1, READY, ""),
            service("web", ""),
            model("web", spec),
            traffic("service/web:80", rate, seconds - 1, FRESH),
        ],
    ))
}

/// The median of the seconds' medians, in milliseconds.
fn p50(run: &RunRecord, from: f64, to: f64) -> f64 {
    let begun = run.header.begun.as_secs_f64();
    let within = users(run).seconds.iter();
    let within = within.filter(|s| (from..to).contains(&(s.at().as_secs_f64() - begun)));
    let mut all: Vec<u32> = within.map(|s| s.p50_us).collect();
    all.sort_unstable();
    f64::from(all[all.len() / 2]) / 1000.0
}

const COMPUTES: &str = "startup: 200ms, probes: {share: dedicated}, request: {cpu: 20ms}";

pub fn cpu_stress_in_a_container_takes_its_part(world: &World) {
    let stress = "stressors: {cpu: {workers: 2}}, duration: 4s";
    let fault = chaos("2s", "StressChaos", "web", stress);
    let run = web(world, 9, 5, &fault, COMPUTES);
    assert_eq!(users(&run).failed, 0, "{:?}", users(&run).failed_by);
    between("p50 in ms before", 20.0, p50(&run, 0.0, 2.0), 45.0);
    // Three threads on the one core of the node: 20 ms take 60, or what the quota's periods make of
    // it.
    between("p50 in ms while it lasts", 40.0, p50(&run, 3.0, 6.0), 160.0);
    between("p50 in ms afterwards", 20.0, p50(&run, 7.0, 9.0), 45.0);
}

pub fn cpu_stress_on_a_node_shares_with_its_pods(world: &World) {
    let fault = apply(
        "2s",
        "{apiVersion: rehearsal.dev/v1, kind: NodeChaos, metadata: {name: fault},
          spec: {action: stress, mode: all, selector: {}, duration: 4s,
          stressors: {cpu: {workers: 2, load: 100}}}}",
    );
    let run = web(world, 9, 5, &fault, COMPUTES);
    assert_eq!(users(&run).failed, 0, "{:?}", users(&run).failed_by);
    between("p50 in ms before", 20.0, p50(&run, 0.0, 2.0), 45.0);
    // The pods of a node of one core weigh as much as what stands beside them: half a core.
    between("p50 in ms while it lasts", 30.0, p50(&run, 3.0, 6.0), 130.0);
    between("p50 in ms afterwards", 20.0, p50(&run, 7.0, 9.0), 45.0);
}

pub fn memory_stress_beyond_the_limit_is_an_oom_kill(world: &World) {
    let limited = pod("tight", "", "").replace(
        "requests: {cpu: 50m, memory: 32Mi}",
        "requests: {cpu: 50m, memory: 32Mi}, limits: {memory: 64Mi}",
    );
    let stress = "stressors: {memory: {workers: 1, size: 128MB}}, duration: 3s";
    let steps = [
        apply("500ms", &limited),
        chaos("3s", "StressChaos", "tight", stress),
    ];
    let run = world.run(&scenario(
        6,
        1,
        &steps.join(","),
        &[model("tight", "startup: 100ms")],
    ));
    let pod = one(&run, "tight");
    // The next container is another one, without a load.
    assert_eq!(
        (pod.restarts, exits(pod)),
        (1, vec!["main OOMKilled 137".to_owned()])
    );
}

pub fn memory_stress_on_a_node_evicts_a_pod(world: &World) {
    // 512 MiB less 400 MB, the load's, and 64 MiB, the pod's, leave 66 MiB; the kubelet wants 100.
    let fault = apply(
        "1s",
        "{apiVersion: rehearsal.dev/v1, kind: NodeChaos, metadata: {name: fault},
          spec: {action: stress, mode: all, selector: {}, duration: 20s,
          stressors: {memory: {workers: 1, size: 400MB}}}}",
    );
    let text = scenario(
        18,
        1,
        &fault,
        &[
            pod("large", READY, ""),
            model("large", "startup: 200ms, memory: {base: 64Mi}"),
        ],
    );
    let run = world.run(&text.replace("memory: 2Gi", "memory: 512Mi"));
    let pod = one(&run, "large");
    let end = (pod.phase.as_str(), &*pod.reason);
    assert_eq!(end, ("Failed", "TerminationByKubelet"));
}

/// A pod that calls another by name for each request, while its lookups go wrong.
fn misled(world: &World, spec: &str) -> RunRecord {
    let front = "startup: 200ms, request: {cpu: 200us,
      calls: [{service: back, timeout: 300ms, keepAlive: false}]}";
    world.run(&scenario(
        8,
        1,
        &chaos("2s", "DNSChaos", "front", &format!("{spec}, duration: 3s")),
        &[
            deployment("front", 1, "", ""),
            service("front", ""),
            model("front", front),
            deployment("back", 1, READY, ""),
            service("back", ""),
            model("back", "startup: 200ms, request: {cpu: 200us}"),
            traffic("service/front:80", 20, 7, FRESH),
        ],
    ))
}

pub fn names_that_cannot_be_looked_up_fail_calls(world: &World) {
    let run = misled(world, "action: error, patterns: [\"back.*\"]");
    // Requests that come right at the edges are counted on either side.
    between("failed", 57.0, failed(&run, 2.0, 5.0) as f64, 60.0);
    assert_eq!(
        failed(&run, 0.0, 2.0) + failed(&run, 5.0, 8.0),
        users(&run).failed - failed(&run, 2.0, 5.0)
    );
    between("failed in all", 58.0, users(&run).failed as f64, 62.0);
    assert_eq!(
        users(&run).failed_by.keys().collect::<Vec<_>>(),
        ["downstream"]
    );
}

pub fn names_that_lead_nowhere_take_their_time(world: &World) {
    let run = misled(world, "action: random, patterns: [\"back.default.*\"]");
    between("failed in all", 58.0, users(&run).failed as f64, 62.0);
    // A call that goes nowhere ends when its caller gives up.
    assert_eq!(
        users(&run).failed_by.keys().collect::<Vec<_>>(),
        ["downstream"]
    );
    assert_eq!(failed(&run, 0.0, 2.0), 0);
}

pub fn other_names_are_looked_up_as_before(world: &World) {
    let run = misled(world, "action: error, patterns: [\"front.*\", \"back\"]");
    assert_eq!(users(&run).failed, 0, "{:?}", users(&run).failed_by);
}

pub fn a_narrow_link_takes_its_time_for_large_answers(world: &World) {
    // 64 KiB less the burst of 10 kB at 256 kB a second, and headers: 0.22 s and a little.
    let narrow = "action: bandwidth, duration: 4s,
      bandwidth: {rate: 256kbps, limit: 200000, buffer: 10000}";
    large_answers_take(world, narrow, (190.0, 330.0));
}

/// Answers of 64 KiB, whose median in milliseconds lies in between while the link is narrow.
fn large_answers_take(world: &World, narrow: &str, (least, most): (f64, f64)) {
    let fault = chaos("2s", "NetworkChaos", "web", narrow);
    let spec = "startup: 200ms, request: {cpu: 200us, responseSize: 64Ki}";
    let run = web(world, 9, 2, &fault, spec);
    assert_eq!(users(&run).failed, 0, "{:?}", users(&run).failed_by);
    between("p50 in ms before", 0.0, p50(&run, 0.0, 2.0), 60.0);
    between("p50 in ms while it lasts", least, p50(&run, 3.0, 6.0), most);
}

pub fn corruption_is_repaired_and_takes_time(world: &World) {
    let fault = chaos(
        "1s",
        "NetworkChaos",
        "web",
        "action: corrupt, corrupt: {corrupt: \"20\"}, duration: 30s",
    );
    let spec = "startup: 200ms, request: {cpu: 200us}";
    let run = world.run(&scenario(
        9,
        1,
        &fault,
        &[
            deployment("web", 1, READY, ""),
            service("web", ""),
            model("web", spec),
            traffic("service/web:80", 40, 8, "keepAlive: false, timeout: 30s"),
        ],
    ));
    let users = users(&run);
    // What is broken is sent again, like what is lost.
    between("failed", 0.0, users.failed as f64, 6.0);
    between("p50 in ms", 0.0, users.ok_p50_us as f64 / 1000.0, 150.0);
    between(
        "p99 in ms",
        190.0,
        users.ok_p99_us as f64 / 1000.0,
        12_000.0,
    );
}

pub fn what_comes_twice_is_answered_once(world: &World) {
    let twice = "action: duplicate, duplicate: {duplicate: \"50\"}, duration: 30s";
    let fault = chaos("1s", "NetworkChaos", "web", twice);
    let run = web(
        world,
        6,
        40,
        &fault,
        "startup: 200ms, request: {cpu: 200us}",
    );
    assert_eq!(
        (users(&run).sent, users(&run).failed),
        (200, 0),
        "{:?}",
        users(&run).failed_by
    );
}

/// One pod with a probe that waits for a second, once; for 4 s something happens to its packets.
/// How often it became unready, and ready again.
fn probed(world: &World, probe: &str, fault: &str) -> (usize, usize) {
    let ready = format!("readinessProbe: {{{probe}, periodSeconds: 1, failureThreshold: 1}},");
    let fault = format!("{fault}, duration: 4s");
    let run = world.run(&scenario(
        9,
        1,
        &chaos("2s", "NetworkChaos", "web", &fault),
        &[
            deployment("web", 1, &ready, ""),
            model("web", "startup: 200ms"),
            deployment("back", 1, "", ""),
        ],
    ));
    let pod = one(&run, "web");
    (pod.unready.len(), pod.ready_again.len())
}

const HTTP: &str = "httpGet: {path: /, port: 8080}";
const LATE: &str = "action: delay, delay: {latency: 1200ms}";

pub fn a_pod_whose_packets_are_lost_fails_its_probes(world: &World) {
    let lost = "action: loss, loss: {loss: \"100\"}";
    assert_eq!(probed(world, HTTP, lost), (1, 1));
}

pub fn a_pod_whose_packets_are_late_fails_its_probes(world: &World) {
    assert_eq!(probed(world, HTTP, LATE), (1, 1));
    assert_eq!(probed(world, "tcpSocket: {port: 8080}", LATE), (1, 1));
}

pub fn packets_to_others_are_not_those_of_probes(world: &World) {
    let to_others = format!("{LATE}, {BACK}");
    assert_eq!(probed(world, HTTP, &to_others), (0, 0));
}

const BACK: &str = "target: {mode: all, selector: {labelSelectors: {app: back}}}";

/// One node: users ask `front`, which asks `back` for each request through its Service, and then
/// directly, by a headless one. A fault of the packets from the one to the other begins after 2 s.
fn neighbours(world: &World, fault: &str) -> RunRecord {
    let front = "startup: 200ms, request: {cpu: 200us, calls: [
      {service: back, timeout: 1s, keepAlive: false},
      {service: \"bare:8080\", timeout: 1s, keepAlive: false}]}";
    let bare = service("bare", "clusterIP: None,");
    let bare = bare.replace("{app: bare}", "{app: back}");
    world.run(&scenario(
        9,
        1,
        &chaos(
            "2s",
            "NetworkChaos",
            "front",
            &format!("{fault}, duration: 4s"),
        ),
        &[
            deployment("front", 1, READY, ""),
            service("front", ""),
            model("front", front),
            deployment("back", 1, READY, ""),
            service("back", ""),
            bare.replace("port: 80,", "port: 8080,"),
            model("back", "startup: 200ms, request: {cpu: 200us}"),
            traffic("service/front:80", 10, 8, FRESH),
        ],
    ))
}

pub fn delay_between_pods_of_one_node_is_felt_directly_and_through_a_service(world: &World) {
    let run = neighbours(
        world,
        &format!("action: delay, delay: {{latency: 50ms}}, {BACK}"),
    );
    assert_eq!(users(&run).failed, 0, "{:?}", users(&run).failed_by);
    between("p50 in ms before", 0.0, p50(&run, 0.0, 2.0), 40.0);
    // Of each of the two calls, the handshake and the question are late.
    between(
        "p50 in ms while it lasts",
        200.0,
        p50(&run, 3.0, 6.0),
        250.0,
    );
    between("p50 in ms afterwards", 0.0, p50(&run, 7.0, 9.0), 40.0);
}

fn cut_off_from_back(world: &World, fault: &str) {
    let run = neighbours(world, fault);
    // Users reach the one, but it does not reach the other.
    let by: Vec<_> = users(&run).failed_by.keys().collect();
    assert_eq!(by, ["downstream"]);
    between("failed", 38.0, users(&run).failed as f64, 42.0);
    assert_eq!(failed(&run, 0.0, 2.0) + failed(&run, 8.0, 9.0), 0);
    // Kubelets reach both.
    assert!(run.pods.iter().all(|pod| pod.restarts == 0));
}

pub fn a_partition_between_pods_of_one_node_leaves_everything_else(world: &World) {
    cut_off_from_back(world, &format!("action: partition, {BACK}"));
}

pub fn a_target_by_name_is_the_pods_behind_it(world: &World) {
    let name = "action: partition, externalTargets: [back.default.svc.cluster.local]";
    cut_off_from_back(world, name);
}

pub fn a_rate_among_other_faults_takes_its_time_for_large_answers(world: &World) {
    // 64 KiB at 250 kB a second, and the handshake's answer and the request's 20 ms late: 0.3 s.
    let narrow = "action: netem, delay: {latency: 20ms}, rate: {rate: 2mbit}, duration: 4s";
    large_answers_take(world, narrow, (290.0, 400.0));
}
