//! From a container's start to its end.

use std::time::Duration;

use rehearsal::check::Watcher;
use rehearsal::cluster::{Cluster, Note};
use rehearsal::engine::Time;
use rehearsal::store::Change;

use super::World;
use super::text::{
    apply, between, deployment, exits, model, one, pod, pods, reasons, scenario, seconds,
};

/// A readiness probe that is asked every second.
const READY: &str = "readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1},";

pub fn containers_start_and_become_ready(world: &World) {
    let run = world.run(&scenario(
        1,
        2,
        "",
        &[
            deployment("web", 3, READY, ""),
            model("web", "startup: 300ms"),
        ],
    ));
    let web = pods(&run, "web");
    assert_eq!(web.len(), 3);
    for pod in web {
        assert_eq!((pod.restarts, pod.phase.as_str()), (0, "Running"));
        // 300 ms to listen, at most a second until the next probe, and the writes.
        between(
            "started to ready",
            0.0,
            seconds(pod.started, pod.ready),
            1.6,
        );
        between(
            "scheduled to ready",
            0.3,
            seconds(pod.scheduled, pod.ready),
            5.0,
        );
    }
}

pub fn a_container_that_crashes_is_started_again_and_backs_off(world: &World) {
    let crash = apply("500ms", &pod("crash", "", ""));
    let run = world.run(&scenario(
        6,
        1,
        &crash,
        &[model("crash", "startup: 100ms, exit: {after: 1s, code: 3}")],
    ));
    let pod = one(&run, "crash");
    // The first restart is immediate, the next one ten seconds later.
    assert_eq!(pod.restarts, 1);
    assert_eq!(exits(pod), ["main Error 3", "main Error 3"]);
    assert!(reasons(&run, "crash").contains(&"BackOff".to_owned()));
}

pub fn a_failing_liveness_probe_ends_the_container(world: &World) {
    let probe = "livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 2},";
    let deaf = apply("500ms", &pod("deaf", probe, ""));
    let run = world.run(&scenario(6, 1, &deaf, &[model("deaf", "startup: 10m")]));
    let pod = one(&run, "deaf");
    between("restarts", 1.0, f64::from(pod.restarts), 3.0);
    assert_eq!(exits(pod)[0], "main Error 143");
    let reasons = reasons(&run, "deaf");
    for reason in ["Unhealthy", "Killing"] {
        assert!(reasons.contains(&reason.to_owned()), "{reasons:?}");
    }
}

pub fn memory_beyond_the_limit_is_an_oom_kill(world: &World) {
    let leaky = pod("leaky", "", "").replace(
        "requests: {cpu: 50m, memory: 32Mi}",
        "requests: {cpu: 50m, memory: 32Mi}, limits: {memory: 64Mi}",
    );
    let run = world.run(&scenario(
        6,
        1,
        &apply("500ms", &leaky),
        &[model(
            "leaky",
            "startup: 100ms, memory: {leakPerSecond: 32Mi}",
        )],
    ));
    let pod = one(&run, "leaky");
    assert!(pod.restarts >= 1, "{pod:?}");
    assert_eq!(exits(pod)[0], "main OOMKilled 137");
}

pub fn who_ignores_sigterm_is_killed_after_the_grace_period(world: &World) {
    let run = world.run(&scenario(
        5,
        1,
        "{at: 500ms, kubectl: delete pod stubborn --wait=false}",
        &[
            pod("stubborn", "", "terminationGracePeriodSeconds: 2,"),
            model("stubborn", "startup: 100ms, onSIGTERM: ignore"),
        ],
    ));
    let pod = one(&run, "stubborn");
    between(
        "deleted to gone",
        2.0,
        seconds(pod.terminating, pod.gone),
        2.8,
    );
    assert_eq!(exits(pod), ["main Error 137"]);
}

pub fn sigterm_waits_for_the_pre_stop_hook(world: &World) {
    let hook = "lifecycle: {preStop: {sleep: {seconds: 2}}},";
    let run = world.run(&scenario(
        5,
        1,
        "{at: 500ms, kubectl: delete pod polite --wait=false}",
        &[pod("polite", hook, ""), model("polite", "startup: 100ms")],
    ));
    let pod = one(&run, "polite");
    between(
        "deleted to gone",
        2.0,
        seconds(pod.terminating, pod.gone),
        2.8,
    );
    assert_eq!(exits(pod), ["main Error 143"]);
}

pub fn init_containers_run_one_after_the_other_and_first(world: &World) {
    let init = |name: &str| format!("{{name: {name}, image: \"registry.example/{name}:1\"}}");
    let spec = format!("initContainers: [{}, {}],", init("one"), init("two"));
    let of = |container: &str, spec: &str| {
        let text = model("ordered", spec);
        let name = format!("metadata: {{name: ordered-{container}}}");
        text.replace("metadata: {name: ordered}", &name)
            .replace("imagePull", &format!("container: {container}, imagePull"))
    };
    let run = world.run(&scenario(
        5,
        1,
        &apply("100ms", &pod("ordered", "", &spec)),
        &[
            of("one", "exit: {after: 700ms, code: 0}"),
            of("two", "exit: {after: 700ms, code: 0}"),
            of("main", "startup: 100ms"),
        ],
    ));
    let pod = one(&run, "ordered");
    assert_eq!(exits(pod), ["one Completed 0", "two Completed 0"]);
    // 700 ms twice, and the starts of three containers.
    between(
        "created to ready",
        1.4,
        seconds(pod.created, pod.ready),
        4.0,
    );
}

pub fn a_sidecar_is_there_first_and_ends_last(world: &World) {
    let spec = "restartPolicy: Never, terminationGracePeriodSeconds: 2,
      initContainers: [{name: side, image: \"registry.example/side:1\", restartPolicy: Always}],";
    let main = "{apiVersion: rehearsal.dev/v1, kind: AppModel, metadata: {name: main},
      spec: {selector: {matchLabels: {app: helped}}, container: main, imagePull: 100ms,
      exit: {after: 1s, code: 0}}}";
    let run = world.run(&scenario(
        6,
        1,
        &apply("100ms", &pod("helped", "", spec)),
        &[main.to_owned()],
    ));
    let pod = one(&run, "helped");
    assert_eq!(pod.phase, "Succeeded");
    let exits = exits(pod);
    assert_eq!(exits[0], "main Completed 0");
    // It had no reason to end but SIGTERM.
    assert!(exits[1].starts_with("side "), "{exits:?}");
    assert_eq!(exits.len(), 2, "{exits:?}");
}

pub fn a_job_completes(world: &World) {
    let job = "{apiVersion: batch/v1, kind: Job, metadata: {name: sum}, spec: {completions: 2,
      parallelism: 2, template: {metadata: {labels: {app: sum}}, spec: {restartPolicy: Never,
      containers: [{name: main, image: \"registry.example/sum:1\"}]}}}}";
    let run = world.run(&scenario(
        6,
        1,
        &apply("100ms", job),
        &[model("sum", "exit: {after: 800ms, code: 0}")],
    ));
    let sums = pods(&run, "sum");
    assert_eq!(sums.len(), 2);
    for pod in sums {
        assert_eq!(
            (pod.phase.as_str(), exits(pod)),
            ("Succeeded", vec!["main Completed 0".to_owned()])
        );
    }
    assert!(reasons(&run, "sum").contains(&"Completed".to_owned()));
}

pub fn a_pod_is_ready_when_its_probe_says_so(world: &World) {
    let run = world.run(&scenario(
        5,
        1,
        &apply("100ms", &pod("slow", READY, "")),
        &[model("slow", "startup: 2200ms")],
    ));
    let pod = one(&run, "slow");
    // 2.2 s to listen, at most a second until the next probe; the start is told a little late.
    between(
        "started to ready",
        2.0,
        seconds(pod.started, pod.ready),
        3.6,
    );
}

pub fn probes_ask_over_grpc_and_https_as_well(world: &World) {
    let ready = |how: &str| format!("readinessProbe: {{{how}, periodSeconds: 1}},");
    let grpc = ready("grpc: {port: 8080, service: shop}");
    let https = ready("httpGet: {path: /, port: 8080, scheme: HTTPS}");
    let apply = [
        apply("100ms", &pod("grpc", &grpc, "")),
        apply("100ms", &pod("https", &https, "")),
    ];
    let startup = "startup: 1200ms";
    let models = ["grpc", "https"].map(|name| model(name, startup));
    let run = world.run(&scenario(5, 1, &apply.join(","), &models));
    for name in ["grpc", "https"] {
        let pod = one(&run, name);
        between(
            "started to ready",
            1.0,
            seconds(pod.started, pod.ready),
            2.6,
        );
    }
}

pub fn a_startup_probe_holds_the_liveness_probe_back(world: &World) {
    let probes = "startupProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 30},
      livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 1},";
    let run = world.run(&scenario(
        6,
        1,
        &apply("100ms", &pod("young", probes, "")),
        &[model("young", "startup: 2500ms")],
    ));
    let pod = one(&run, "young");
    assert_eq!((pod.restarts, exits(pod).len()), (0, 0), "{pod:?}");
    between(
        "started to ready",
        2.3,
        seconds(pod.started, pod.ready),
        4.0,
    );
}

/// Has no patience with pods that will not become ready.
#[derive(Default)]
struct Impatient {
    /// Without which the run began.
    without: Vec<String>,
}

impl Watcher for Impatient {
    fn at_start(&mut self, cluster: &mut Cluster) {
        let settling = &mut cluster.timeline.settling;
        (settling.stall, settling.restarts) = (Duration::from_secs(2), 1);
    }

    fn on_change(&mut self, _: &Change) {}

    fn after_event(&mut self, _: Time, world: &Cluster) {
        if self.without.is_empty() && world.timeline.epoch.is_some() {
            let mut settled = world.timeline.notes.iter().filter_map(|note| match note {
                Note::Settled { missing, .. } => Some(missing.clone()),
                _ => None,
            });
            self.without = settled.next().unwrap_or_default();
            self.without.sort();
        }
    }

    fn at_end(&mut self, _: Time, _: &Cluster) {}
}

pub fn a_run_begins_without_pods_that_will_never_be_ready(world: &World) {
    let huge = pod("huge", "", "").replace("cpu: 50m", "cpu: \"64\"");
    let documents = [
        pod("fine", READY, ""),
        huge,
        pod("crashes", READY, ""),
        model("fine", "startup: 200ms"),
        model("crashes", "startup: 100ms, exit: {after: 200ms, code: 3}"),
    ];
    let mut impatient = Impatient::default();
    let run = world.run_watched(&scenario(1, 1, "", &documents), &mut impatient);
    // Ready within two seconds, at the next look after it; two seconds later the rest is given up.
    between("begun", 2.0, run.header.begun.as_secs_f64(), 9.0);
    assert_eq!(
        impatient.without,
        ["pod/default/crashes", "pod/default/huge"]
    );
    assert!(one(&run, "fine").ready.is_some());
}
