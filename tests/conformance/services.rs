//! Requests: from a name to an endpoint, and what comes back.

use super::World;
use super::text::{
    answered, apply, between, deployment, failed, model, pods, scenario, seconds, service, traffic,
    users,
};

const READY: &str = "readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1},";
/// Every request opens a connection: every request chooses.
const FRESH: &str = "keepAlive: false, timeout: 1s";

/// Pods that start fast and answer fast.
fn quick(name: &str) -> String {
    model(name, "startup: 200ms, request: {cpu: 200us}")
}

pub fn an_autoscaler_goes_by_what_containers_use(world: &World) {
    // 12 requests a second of 10 ms are 120 thousandths of a core, where 50 % of 100 are wanted: two
    // pods have 60 each, which is three, which have 40 each, which is enough.
    let autoscaler = "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler,
      metadata: {name: web}, spec: {minReplicas: 1, maxReplicas: 5,
      scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}, metrics: [
      {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]}}";
    let text = scenario(
        30,
        1,
        "",
        &[
            deployment("web", 1, READY, "").replace("cpu: 50m", "cpu: 100m"),
            service("web", ""),
            autoscaler.to_owned(),
            model(
                "web",
                "startup: 200ms, probes: {share: dedicated}, request: {cpu: 10ms}",
            ),
            traffic("service/web:80", 12, 29, FRESH),
        ],
    );
    let soon = "kube-controller-manager: {horizontal-pod-autoscaler-sync-period: 3s, ";
    let run = world.run(&text.replace("kube-controller-manager: {", soon));
    let web = pods(&run, "web");
    assert!((2..=4).contains(&web.len()), "{} pods", web.len());
    // Two samples 15 s apart, of which the later one is told 5 s afterwards.
    between(
        "begin to the second pod in s",
        5.0,
        seconds(run.header.begun, Some(web[1].created)),
        24.0,
    );
    assert_eq!(users(&run).failed, 0);
}

pub fn every_endpoint_answers(world: &World) {
    let run = world.run(&scenario(
        4,
        2,
        "",
        &[
            deployment("web", 3, READY, ""),
            service("web", ""),
            quick("web"),
            traffic("service/web:80", 100, 3, FRESH),
        ],
    ));
    let users = users(&run);
    assert_eq!((users.sent, users.failed), (300, 0));
    assert_eq!(users.answered_by.len(), 3);
    for count in users.answered_by.values() {
        // 300 in three parts: √(300·⅓·⅔) = 8.2, five of them either way.
        between("requests of an endpoint", 59.0, *count as f64, 141.0);
    }
}

pub fn a_service_without_endpoints_refuses(world: &World) {
    let run = world.run(&scenario(
        3,
        1,
        "",
        &[
            // Once this one is there, everybody has heard of the Service.
            deployment("other", 1, READY, ""),
            quick("other"),
            service("web", ""),
            traffic("service/web:80", 20, 2, FRESH),
        ],
    ));
    let users = users(&run);
    let refused = users.failed_by.get("no endpoints");
    assert_eq!(
        (users.sent, refused),
        (40, Some(&40)),
        "{:?}",
        users.failed_by
    );
}

pub fn client_ip_affinity_sticks(world: &World) {
    let run = world.run(&scenario(
        4,
        2,
        "",
        &[
            deployment("web", 3, READY, ""),
            service("web", "sessionAffinity: ClientIP,"),
            quick("web"),
            traffic("service/web:80", 40, 3, &format!("{FRESH}, addresses: 1")),
        ],
    ));
    let users = users(&run);
    assert_eq!(
        (users.failed, users.answered_by.len()),
        (0, 1),
        "{:?}",
        users.answered_by
    );
}

pub fn node_ports_lead_to_endpoints(world: &World) {
    let ports = "type: NodePort,";
    let service = service("web", ports).replace("port: 80,", "port: 80, nodePort: 30080,");
    let run = world.run(&scenario(
        4,
        2,
        "",
        &[
            deployment("web", 2, READY, ""),
            service,
            quick("web"),
            traffic("nodePort/node-0:30080", 60, 3, FRESH),
        ],
    ));
    // Which endpoint the forwarding node chose is not known where requests are real.
    let users = users(&run);
    assert_eq!(
        (users.sent, users.failed),
        (180, 0),
        "{:?}",
        users.failed_by
    );
}

pub fn a_pod_reaches_itself_through_its_service(world: &World) {
    let two = deployment("web", 1, READY, "").replace(
        "containers: [",
        "containers: [{name: other, image: \"registry.example/other:1\",
           ports: [{containerPort: 9090}]}, ",
    );
    let mirror = service("mirror", "").replace("app: mirror", "app: web");
    let mirror = mirror.replace("targetPort: 8080", "targetPort: 9090");
    let front = "startup: 200ms, container: main,
      request: {cpu: 200us, calls: [{service: mirror, timeout: 1s, keepAlive: false}]}";
    let back = "startup: 200ms, container: other, request: {cpu: 200us}";
    let back = model("web", back).replace("metadata: {name: web}", "metadata: {name: other}");
    let run = world.run(&scenario(
        4,
        1,
        "",
        &[
            two,
            service("web", ""),
            mirror,
            model("web", front),
            back,
            traffic("service/web:80", 20, 3, FRESH),
        ],
    ));
    assert_eq!(
        (users(&run).sent, users(&run).failed),
        (60, 0),
        "{:?}",
        users(&run).failed_by
    );
}

pub fn calls_go_through_services_and_their_failures_come_back(world: &World) {
    let front = "startup: 200ms, request: {cpu: 200us, wait: 5ms,
      calls: [{service: back, timeout: 500ms, retries: 1}]}";
    let run = world.run(&scenario(
        8,
        2,
        "{at: 4s, kubectl: scale deployment/back --replicas=0}",
        &[
            deployment("front", 2, READY, ""),
            service("front", ""),
            model("front", front),
            deployment("back", 2, READY, "terminationGracePeriodSeconds: 1,"),
            service("back", ""),
            quick("back"),
            traffic("service/front:80", 40, 7, "keepAlive: false, timeout: 5s"),
        ],
    ));
    let users = users(&run);
    assert_eq!(failed(&run, 0.0, 4.0), 0);
    // Nobody is behind the second Service from five seconds on: 40 requests a second fail. A real
    // one that leaves late at the edge of a second is counted in the next one.
    let after = failed(&run, 5.0, 7.0);
    assert!((78..=82).contains(&after), "{after} of 80");
    assert_eq!(answered(&run, 6.0, 7.0), 0);
    assert_eq!(users.failed_by.keys().collect::<Vec<_>>(), ["downstream"]);
}

pub fn an_application_fails_as_often_as_its_model_says(world: &World) {
    let model = model(
        "web",
        "startup: 200ms, request: {cpu: 200us, errorRate: 0.3}",
    );
    let run = world.run(&scenario(
        5,
        1,
        "",
        &[
            deployment("web", 1, READY, ""),
            service("web", ""),
            model,
            // An application's own failure is final.
            traffic("service/web:80", 100, 4, "timeout: 1s, retries: 3"),
        ],
    ));
    let users = users(&run);
    assert_eq!(users.failed_by.keys().collect::<Vec<_>>(), ["500"]);
    // 0.3 of 400: √(400·0.3·0.7) = 9.2, five of them either way. The draws are the same in both
    // arms; which arm it is does not show.
    between("failed", 74.0, users.failed as f64, 166.0);
}

pub fn a_full_queue_is_answered_503(world: &World) {
    let slow = "startup: 200ms, probes: {share: dedicated},
      request: {cpu: 100us, wait: 190ms, concurrency: 2, queue: 1}";
    let run = world.run(&scenario(
        6,
        1,
        "",
        &[
            deployment("web", 1, READY, ""),
            service("web", ""),
            model("web", slow),
            traffic("service/web:80", 40, 5, FRESH),
        ],
    ));
    let users = users(&run);
    assert_eq!(users.failed_by.keys().collect::<Vec<_>>(), ["503"]);
    // Two places of 190 ms serve 10.5 requests a second of 40: about 53 of 200 in five seconds.
    between("answered", 42.0, users.ok as f64, 62.0);
    // Who waited for a place waited for one other's 190 ms at most.
    between(
        "p99 of answers in ms",
        250.0,
        users.ok_p99_us as f64 / 1000.0,
        480.0,
    );
}

pub fn requests_share_a_core_and_wait_for_places(world: &World) {
    // 40 requests a second of 20 ms are 0.8 of the one core that the node has; with at most eight
    // in work the rest waits.
    let busy = "startup: 200ms, probes: {share: dedicated}, request: {cpu: 20ms, concurrency: 8}";
    let run = world.run(&scenario(
        7,
        1,
        "",
        &[
            deployment("web", 1, READY, ""),
            service("web", ""),
            model("web", busy),
            traffic("service/web:80", 40, 6, "connections: 60, timeout: 5s"),
        ],
    ));
    let users = users(&run);
    assert_eq!(users.failed, 0);
    // Alone it takes 20 ms; regular arrivals every 25 ms leave it nearly alone.
    between(
        "p50 of answers in ms",
        20.0,
        users.ok_p50_us as f64 / 1000.0,
        60.0,
    );
}

pub fn requests_share_two_cores_that_one_could_not_serve(world: &World) {
    // 60 requests a second of 20 ms are 1.2 cores: one core would be 0.2 s further behind with each
    // second that passes, and the median of five seconds half a second late. Two are busy for 0.6 of
    // their time.
    let busy = "startup: 200ms, probes: {share: dedicated}, request: {cpu: 20ms, concurrency: 16}";
    let text = scenario(
        6,
        1,
        "",
        &[
            deployment("web", 1, READY, ""),
            service("web", ""),
            model("web", busy),
            traffic("service/web:80", 60, 5, "connections: 60, timeout: 5s"),
        ],
    );
    let run = world.run(&text.replace("capacity: {cpu: \"1\"", "capacity: {cpu: \"2\""));
    let users = users(&run);
    assert_eq!((users.failed, users.sent), (0, 300));
    // Alone it takes 20 ms; one more beside it has the other core, a third shares.
    between(
        "p50 of answers in ms",
        20.0,
        users.ok_p50_us as f64 / 1000.0,
        100.0,
    );
}

pub fn retries_reach_another_endpoint(world: &World) {
    let client =
        "keepAlive: false, timeout: 300ms, retries: 3, backoff: 10ms, retryElsewhere: true";
    let cut = apply(
        "2s",
        "{apiVersion: chaos-mesh.org/v1alpha1, kind: NetworkChaos, metadata: {name: cut},
          spec: {action: partition, mode: one, direction: both, duration: 30s,
          selector: {labelSelectors: {app: web}}}}",
    );
    let run = world.run(&scenario(
        6,
        2,
        &cut,
        &[
            deployment("web", 3, "", ""),
            service("web", ""),
            quick("web"),
            traffic("service/web:80", 40, 5, client),
        ],
    ));
    let users = users(&run);
    // Each retry avoids the endpoint that just failed.
    assert_eq!(
        (users.sent, users.failed),
        (200, 0),
        "{:?}",
        users.failed_by
    );
    between(
        "p99 of answers in ms",
        300.0,
        users.ok_p99_us as f64 / 1000.0,
        420.0,
    );
}

pub fn retries_of_calls_reach_another_endpoint(world: &World) {
    let front = "startup: 200ms, request: {cpu: 200us, calls: [{service: back,
      keepAlive: false, timeout: 300ms, retries: 3, backoff: 10ms, retryElsewhere: true}]}";
    let cut = apply(
        "2s",
        "{apiVersion: chaos-mesh.org/v1alpha1, kind: NetworkChaos, metadata: {name: cut},
          spec: {action: partition, mode: one, direction: both, duration: 30s,
          selector: {labelSelectors: {app: back}}}}",
    );
    let run = world.run(&scenario(
        6,
        2,
        &cut,
        &[
            deployment("front", 1, "", ""),
            service("front", ""),
            model("front", front),
            deployment("back", 3, "", ""),
            service("back", ""),
            quick("back"),
            traffic("service/front:80", 40, 5, "keepAlive: false, timeout: 5s"),
        ],
    ));
    let users = users(&run);
    assert_eq!(
        (users.sent, users.failed),
        (200, 0),
        "{:?}",
        users.failed_by
    );
    // One call for each request; each retry avoids the endpoint that just failed.
    let calls = run.traffic.iter().find(|t| t.internal && t.to == "back");
    let calls = calls.expect("calls are counted");
    assert_eq!((calls.sent, calls.ok, calls.failed), (200, 200, 0));
    assert_eq!(calls.answered_by.len(), 3, "{:?}", calls.answered_by);
    between(
        "p99 of calls in ms",
        300.0,
        calls.ok_p99_us as f64 / 1000.0,
        420.0,
    );
}

fn rollout(world: &World, hook: &str) -> rehearsal::record::RunRecord {
    let container = format!("{READY} {hook}");
    world.run(&scenario(
        12,
        2,
        "{at: 1s, kubectl: set image deployment/web main=registry.example/web:2}",
        &[
            deployment("web", 2, &container, "terminationGracePeriodSeconds: 5,"),
            service("web", ""),
            quick("web"),
            traffic("service/web:80", 60, 11, FRESH),
        ],
    ))
}

fn all_new(run: &rehearsal::record::RunRecord) {
    let alive = pods(run, "web").into_iter().filter(|p| p.gone.is_none());
    let images: Vec<&str> = alive.map(|p| p.image.as_str()).collect();
    assert_eq!(images, ["registry.example/web:2"; 2]);
}

pub fn a_rollout_with_pre_stop_loses_nothing(world: &World) {
    let run = rollout(world, "lifecycle: {preStop: {sleep: {seconds: 1}}},");
    all_new(&run);
    assert_eq!(users(&run).failed, 0, "{:?}", users(&run).failed_by);
}

pub fn a_rollout_without_it_loses_little(world: &World) {
    let run = rollout(world, "");
    all_new(&run);
    let users = users(&run);
    // Two pods end while the rules still name them, for about 0.1 s each, at 30 a second and pod:
    // some, and refused or reset.
    between("failed", 1.0, users.failed as f64, 40.0);
    for cause in users.failed_by.keys() {
        assert!(["refused", "reset"].contains(&cause.as_str()), "{users:?}");
    }
}

pub fn scaling_down_ends_pods_and_takes_them_out(world: &World) {
    let hook = format!("{READY} lifecycle: {{preStop: {{sleep: {{seconds: 1}}}}}},");
    let run = world.run(&scenario(
        6,
        2,
        "{at: 1s, kubectl: scale deployment/web --replicas=1}",
        &[
            deployment("web", 3, &hook, ""),
            service("web", ""),
            quick("web"),
            traffic("service/web:80", 40, 5, FRESH),
        ],
    ));
    assert_eq!(users(&run).failed, 0, "{:?}", users(&run).failed_by);
    let gone = pods(&run, "web").into_iter().filter(|p| p.gone.is_some());
    let spans: Vec<f64> = gone.map(|p| seconds(p.terminating, p.gone)).collect();
    assert_eq!(spans.len(), 2);
    for span in spans {
        between("deleted to gone", 1.0, span, 2.6);
    }
    let endpoints = run.endpoints["default/web"].last().expect("endpoints");
    assert_eq!(endpoints.ready, 1);
}

pub fn an_unready_pod_gets_no_requests(world: &World) {
    // Of one Service, each with a model of its own.
    let of = |name: &str| {
        let labels = format!("labels: {{app: {name}, of: web}}");
        deployment(name, 1, READY, "").replace(
            &format!("template: {{metadata: {{labels: {{app: {name}}}}}"),
            &format!("template: {{metadata: {{{labels}}}"),
        )
    };
    let run = world.run(&scenario(
        5,
        2,
        &apply("500ms", &of("late")),
        &[
            of("early"),
            service("web", "").replace("app: web", "of: web"),
            quick("early"),
            model("late", "startup: 10m"),
            traffic("service/web:80", 40, 4, FRESH),
        ],
    ));
    let users = users(&run);
    assert_eq!(
        (users.failed, users.answered_by.len()),
        (0, 1),
        "{:?}",
        users.answered_by
    );
    let late = pods(&run, "late")[0];
    assert_eq!((late.started.is_some(), late.ready), (true, None));
}
