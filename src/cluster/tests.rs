//! A small cluster end to end: a Deployment comes up, is rolled, loses a node.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::api::decode::{DecodeContext, decode};
use crate::api::quantity::Resources;
use crate::api::yaml::{FileId, Limits, Span, parse_documents};
use crate::api::{Deployment, Node, Text};
use crate::backend::sim::{RuntimeLatency, Simulated};
use crate::engine::{self, Queue, Tape, Time, drive};
use crate::fault::{Action, Fault, Mode, Selector};
use crate::scenario::types::{
    Applied, ClusterSpec, KubectlStep, NodePool, Scenario, Step, StepAction, StepItem,
};

pub(super) const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: main
        image: registry.example/web:1
        ports: [{name: http, containerPort: 8080}]
        resources: {requests: {cpu: 200m, memory: 128Mi}}
        readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 2}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
";

pub(super) fn scenario(manifests: &str, timeline: Vec<Step>) -> Scenario {
    let documents =
        parse_documents(FileId(0), manifests.as_bytes(), &Limits::default()).expect("good YAML");
    let objects = documents
        .iter()
        .map(|document| {
            let decoded = decode(document, &DecodeContext::default()).expect("a good object");
            Applied {
                row: decoded.row,
                json: decoded.json.into(),
                written: document.to_json().into(),
                span: Span::NONE,
            }
        })
        .collect();
    let capacity = Resources {
        cpu_milli: 4000,
        memory: 16 << 30,
        pods: 110,
        named: 0b1011,
        ..Resources::default()
    };
    let pool = NodePool {
        name: "web".into(),
        count: 4,
        zones: vec!["a".into(), "b".into()],
        capacity: capacity.clone(),
        allocatable: capacity,
        ..NodePool::default()
    };
    Scenario {
        name: "test".into(),
        file: String::new(),
        span: Span::NONE,
        version: "1.36".into(),
        seed: 1,
        duration: Duration::from_secs(900),
        namespace: "default".into(),
        cluster: ClusterSpec {
            pools: vec![pool],
            ..ClusterSpec::default()
        },
        linux: Default::default(),
        objects,
        timeline,
        expect: Vec::new(),
        search: crate::scenario::Search::default(),
        apps: Vec::new(),
        traffic: Vec::new(),
        thresholds: Vec::new(),
        not_modelled: Vec::new(),
        digest: 0,
    }
}

pub(super) struct Run {
    pub(super) cluster: Cluster,
    queue: Queue<Event>,
    backend: Simulated,
}

impl Run {
    pub(super) fn new(scenario: &Scenario) -> Run {
        let (cluster, queue) = Cluster::build(scenario).expect("accepted");
        let draws = cluster.draws;
        Run {
            cluster,
            queue,
            backend: Simulated::new(draws, RuntimeLatency::default()),
        }
    }

    pub(super) fn until(&mut self, at: Time) {
        let limits = engine::drive::Limits::until(at);
        let Run {
            cluster,
            queue,
            backend,
        } = self;
        drive(
            cluster,
            queue,
            backend,
            &mut Tape::Off,
            &mut (),
            limits,
            &mut |_| false,
        );
    }

    pub(super) fn epoch(&mut self) -> Time {
        let mut at = Time::ZERO;
        while self.cluster.timeline.epoch.is_none() {
            at += Duration::from_secs(1);
            self.until(at);
        }
        self.cluster.timeline.epoch.expect("checked")
    }

    pub(super) fn ready(&self, name: &str) -> (i32, i32, i32) {
        let view = self.cluster.api.store.view();
        let (_, d) = view
            .of::<Deployment>()
            .find("default", name)
            .expect("the Deployment");
        (d.status.ready, d.status.updated, d.status.replicas)
    }
}

pub(super) fn step(at: u64, action: StepAction) -> Step {
    Step {
        at: Duration::from_secs(at),
        span: Span::NONE,
        action,
        optional: false,
        timeout: None,
    }
}

pub(super) fn kubectl(line: &str) -> StepAction {
    StepAction::Kubectl(KubectlStep {
        span: crate::api::yaml::Span::NONE,
        line: line.into(),
        objects: Vec::new(),
    })
}

#[test]
fn a_deployment_comes_up_and_is_rolled_to_a_new_image() {
    let steps = vec![step(
        10,
        kubectl("set image deployment/web main=registry.example/web:2"),
    )];
    let mut run = Run::new(&scenario(WEB, steps));
    let epoch = run.epoch();
    assert!(epoch < Time::from_secs(60), "up at {epoch}");
    assert_eq!(run.ready("web"), (3, 3, 3));
    run.until(epoch + Duration::from_secs(11));
    assert!(run.ready("web").1 < 3, "the rollout has begun");
    run.until(epoch + Duration::from_secs(300));
    assert_eq!(run.ready("web"), (3, 3, 3));
    let pods = run.cluster.api.store.view();
    let images: Vec<Text> = pods
        .pods()
        .iter()
        .map(|(_, p)| p.spec.containers[0].image.clone())
        .collect();
    assert_eq!(images, vec![Text::from("registry.example/web:2"); 3]);
}

#[test]
fn a_lost_node_is_noticed_after_its_lease_and_its_pods_are_replaced_after_their_toleration() {
    let fault = Fault {
        name: "lose".into(),
        kind: "NodeChaos".into(),
        span: Span::NONE,
        action: Action::PowerOff,
        selector: Selector {
            names: vec!["web-0".into()],
            ..Selector::default()
        },
        mode: Mode::All,
        duration: None,
    };
    let steps = vec![step(60, StepAction::Apply(vec![StepItem::Fault(fault)]))];
    let mut run = Run::new(&scenario(WEB, steps));
    let epoch = run.epoch();
    let lost = epoch + Duration::from_secs(60);
    let ready = |run: &Run| {
        let view = run.cluster.api.store.view();
        let (_, node) = view.of::<Node>().find("", "web-0").expect("web-0");
        node.ready()
    };
    run.until(lost + Duration::from_secs(39));
    assert!(
        ready(&run),
        "the last lease is at most 10 s older than the loss"
    );
    run.until(lost + Duration::from_secs(56));
    assert!(
        !ready(&run),
        "50 s after the last lease, seen at the next look"
    );
    run.until(lost + Duration::from_secs(339));
    let on_it = |run: &Run| run.cluster.api.store.view().pods().on_node("web-0").count();
    let stuck = on_it(&run);
    run.until(lost + Duration::from_secs(400));
    assert_eq!(run.ready("web").0, 3, "replaced elsewhere");
    assert_eq!(
        on_it(&run),
        stuck,
        "nobody is left to confirm the end of the old pods"
    );
}

#[test]
fn a_machine_that_registers_again_goes_on_as_before() {
    let fault = Fault {
        name: "stop".into(),
        kind: "NodeChaos".into(),
        span: Span::NONE,
        action: Action::KubeletStop,
        selector: Selector {
            names: vec!["web-0".into()],
            ..Selector::default()
        },
        mode: Mode::All,
        duration: Some(Duration::from_secs(20)),
    };
    // The kubelet registers when it starts.
    let steps = vec![
        step(30, StepAction::Apply(vec![StepItem::Fault(fault)])),
        step(40, kubectl("delete node web-0")),
        step(90, kubectl("scale deployment/web --replicas=12")),
    ];
    let mut run = Run::new(&scenario(WEB, steps));
    let epoch = run.epoch();
    let node = |run: &Run| {
        let view = run.cluster.api.store.view();
        let found = view.of::<Node>().find("", "web-0");
        found.map(|(id, node)| (id, node.ready()))
    };
    let before = node(&run).expect("the Node");
    run.until(epoch + Duration::from_secs(45));
    assert_eq!(node(&run), None);
    // The log keeps next to nothing of what everybody has read, which they do a millisecond later.
    let (mut read, mut started) = (run.cluster.api.store.log().head(), BTreeSet::new());
    for tick in 45_000..200_000 {
        run.until(epoch + Duration::from_millis(tick));
        let log = run.cluster.api.store.log();
        let told = (read + 1..=log.head()).filter_map(|n| log.get(n)?.event.as_ref());
        started.extend(
            told.filter(|e| e.reason == "Started")
                .map(|e| e.name.clone()),
        );
        read = log.head();
    }
    run.until(epoch + Duration::from_secs(200));
    // The lease is renewed and the status sent: it is a node like any other.
    let after = node(&run).expect("the Node");
    assert!(after.1 && after.0 != before.0, "{after:?}");
    assert_eq!(run.ready("web"), (12, 12, 12));
    let view = run.cluster.api.store.view();
    let pods: Vec<Text> = (view.pods().on_node("web-0"))
        .map(|(_, pod)| pod.meta.name.clone())
        .collect();
    assert!(pods.len() >= 2, "{pods:?}");
    for pod in &pods {
        assert!(started.contains(pod), "{pod} is not among {started:?}");
    }
}

#[test]
fn a_node_that_is_shut_down_in_order_says_so_and_its_pods_are_replaced_at_once() {
    let fault = Fault {
        name: "down".into(),
        kind: "NodeChaos".into(),
        span: Span::NONE,
        action: Action::Shutdown,
        selector: Selector {
            names: vec!["web-0".into()],
            ..Selector::default()
        },
        mode: Mode::All,
        duration: Some(Duration::from_secs(120)),
    };
    let steps = vec![
        step(10, kubectl("scale deployment/web --replicas=8")),
        step(60, StepAction::Apply(vec![StepItem::Fault(fault)])),
    ];
    let mut scenario = scenario(WEB, steps);
    let seconds = Duration::from_secs;
    scenario.cluster.flags.kubelet.shutdown =
        crate::kubelet::shutdown::spans(seconds(30), seconds(10));
    let mut run = Run::new(&scenario);
    let epoch = run.epoch();
    let says = |run: &Run| {
        let view = run.cluster.api.store.view();
        let (_, node) = view.of::<Node>().find("", "web-0").expect("web-0");
        let ready = node.condition(&crate::api::node::NodeConditionKind::Ready);
        ready.map(|c| (c.status, c.message.to_string()))
    };
    let on_it = |run: &Run| -> Vec<String> {
        let pods = run.cluster.api.store.view().pods().on_node("web-0");
        pods.map(|(_, p)| format!("{:?} {:?}", p.status.phase, p.status.reason))
            .collect()
    };
    run.until(epoch + seconds(59));
    let before = on_it(&run).len();
    assert!(before > 0);
    run.until(epoch + seconds(61));
    let down = "node is shutting down".to_owned();
    assert_eq!(
        says(&run),
        Some((crate::api::pod_status::Truth::False, down))
    );
    // The containers end within a second of SIGTERM, the services of the machine a second later.
    run.until(epoch + seconds(70));
    assert!(!run.cluster.machine_named("web-0").expect("web-0").1.powered);
    assert_eq!(on_it(&run), vec!["Failed Some(\"Terminated\")"; before]);
    run.until(epoch + seconds(85));
    assert_eq!(
        run.ready("web").0,
        8,
        "replaced without waiting for the node"
    );
    run.until(epoch + seconds(260));
    assert_eq!(
        says(&run).map(|(status, _)| status),
        Some(crate::api::pod_status::Truth::True)
    );
}

#[test]
fn what_a_kubelet_had_not_sent_when_it_stopped_is_not_sent() {
    let draws = engine::Draws::new(1);
    let mut api = api_server::ApiServer::new(draws, api_server::ApiLatency::default());
    let at = Time::from_secs(10);
    let pod = |name: &str| {
        let mut pod = crate::api::Pod::default();
        pod.meta.name = name.into();
        crate::store::Write::Create(pod.into())
    };
    let mut send = |node, name, sent| {
        let send = crate::client::Send {
            at: sent,
            write: pod(name),
            cause: Default::default(),
            token: 0,
        };
        api.accept(api_server::Sender::Kubelet(node), send).0
    };
    let later = at + Duration::from_millis(1);
    let (before, after) = (send(3, "before", at), send(3, "after", later));
    let other = send(4, "of another node", later);
    api.end_requests(3, at);
    let done = later + Duration::from_secs(1);
    assert!(api.commit(before, done).is_some(), "it was on its way");
    assert!(api.commit(other, done).is_some(), "its kubelet runs");
    assert!(api.commit(after, done).is_none(), "it never left");
    assert!(api.finish(after).is_some() && api.sender(after).is_none());
}
