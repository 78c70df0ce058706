//! The kubelet against a scripted runtime and a real store.
//!
//! A [`Machine`] is one node: its kubelet, a store with 5 ms of latency each way, and a runtime
//! that does what a [`Script`] says. What happened is a list of lines, one for each KubeEvent, each
//! change of a pod's status and each signal, with the time in seconds; tests are tables of them.

mod actions;
mod crash_loop;
mod fake;
mod images;
mod node;
mod phases;
mod probing;
mod restarting;
mod shortage;
mod stopping;
mod telling;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::api::container::Container;
use crate::api::pod_status::{ContainerState, ContainerStatus, Truth};
use crate::api::probe::{Action, Probe};
use crate::api::quantity::Resources;
use crate::api::{Meta, Node, Pod, PodSpec, Row, Text};
use crate::client::{Outbox, Reply};
use crate::engine::draws::Draws;
use crate::engine::{Queue, Time};
use crate::kubelet::PodChange;
use crate::store::{Cause, Cursor, Id, Op, Propagation, Store, Write};

const LATENCY: Duration = Duration::from_millis(5);

/// What the runtime does with one container, whatever its attempt.
#[derive(Clone, Debug)]
struct Script {
    /// How long a start takes, and how it goes.
    start: (Duration, StartOutcome),
    /// Attempts exit by themselves after so long, with this code, by number; the last repeats.
    exits: Vec<Option<(Duration, u8)>>,
    /// How long it lives after SIGTERM; `None` ignores it.
    on_term: Option<Duration>,
    /// From so long after its start on it answers probes so, later entries first.
    answers: Vec<(Duration, Duration, ProbeOutcome)>,
    /// How long hooks take.
    hook: (Duration, bool),
}

impl Default for Script {
    fn default() -> Self {
        Script {
            start: (Duration::from_millis(100), StartOutcome::Ok),
            exits: Vec::new(),
            on_term: Some(Duration::from_millis(50)),
            answers: vec![(
                Duration::ZERO,
                Duration::from_millis(2),
                ProbeOutcome::Success,
            )],
            hook: (Duration::from_millis(500), true),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Due {
    Kubelet(Event),
    Runtime(RuntimeEvent),
    Send(u32),
    Reply(u32),
    Deliver,
    Step(u32),
}

/// What a test does at some time.
type Act = Box<dyn FnOnce(&mut Machine)>;

struct Machine {
    store: Store,
    cursor: Cursor,
    kubelet: Kubelet,
    queue: Queue<Due>,
    draws: Draws,
    node: Id<Node>,
    sends: Vec<crate::client::Send>,
    replies: Vec<(u64, Reply)>,
    acts: Vec<Option<Act>>,
    scripts: BTreeMap<String, Script>,
    /// How long pulls take, by image, and how they end.
    pulls: BTreeMap<String, (Duration, PullOutcome)>,
    /// Container starts so far.
    starts: Vec<(Time, String)>,
    /// Pods that the runtime was asked to run.
    pods: BTreeMap<Id<Pod>, Arc<Pod>>,
    /// Containers that run, and since when.
    running: BTreeMap<ContainerId, Time>,
    memory: (u32, Vec<(Id<Pod>, u32)>),
    /// What else a measurement finds.
    measured: Vec<RuntimeEvent>,
    /// The watch does not deliver.
    deaf: bool,
    /// The API server does not answer.
    unreachable: bool,
    /// The kubelet is not told of answers that it does not wait for.
    unheard: bool,
    lines: Vec<String>,
    shown: BTreeMap<u32, String>,
    /// Requests to the runtime are written down too.
    trace: bool,
}

fn secs(at: Time) -> String {
    let millis = at.as_nanos() / 1_000_000;
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

fn node_row() -> Node {
    let capacity = Resources {
        cpu_milli: 4000,
        memory: 8 << 30,
        pods: 110,
        ..Resources::default()
    };
    Node {
        meta: Meta {
            name: "n1".into(),
            labels: [("zone", "a")].into_iter().collect(),
            ..Meta::default()
        },
        status: crate::api::node::NodeStatus {
            capacity: capacity.clone(),
            allocatable: capacity,
            declared_features: crate::api::declared::by_kubelet().into(),
            ..Default::default()
        },
        ..Node::default()
    }
}

fn container(name: &str) -> Container {
    Container {
        name: name.into(),
        image: format!("{name}:1").into(),
        ..Container::default()
    }
}

fn probe(period_s: u32, failure_threshold: u32) -> Probe {
    Probe {
        action: Action::HttpGet {
            path: "/".into(),
            port: 80,
            https: false,
            host: Text::default(),
        },
        initial_delay_s: 0,
        period_s,
        timeout_s: 1,
        success_threshold: 1,
        failure_threshold,
        termination_grace_s: None,
    }
}

fn pod(name: &str, containers: Vec<Container>) -> Pod {
    Pod {
        meta: Meta {
            namespace: "default".into(),
            name: name.into(),
            ..Meta::default()
        },
        spec: Arc::new(PodSpec {
            containers,
            grace_s: 30,
            ..PodSpec::default()
        }),
        node_name: Some("n1".into()),
        ..Pod::default()
    }
}

impl Machine {
    fn new(config: KubeletConfig) -> Machine {
        let draws = Draws::new(7);
        let mut store = Store::new(draws);
        let made = store
            .write(
                &Write::Create(node_row().into()),
                Time::ZERO,
                Cause::default(),
            )
            .unwrap();
        let node = made.object.and_then(|o| o.typed::<Node>()).unwrap();
        let Some(Row::Node(row)) = made.row else {
            panic!("a node")
        };
        Machine {
            cursor: Cursor(store.log().head()),
            store,
            kubelet: Kubelet::new(node, row, Arc::new(config)),
            queue: Queue::new(),
            draws,
            node,
            sends: Vec::new(),
            replies: Vec::new(),
            acts: Vec::new(),
            scripts: BTreeMap::new(),
            pulls: BTreeMap::new(),
            starts: Vec::new(),
            pods: BTreeMap::new(),
            running: BTreeMap::new(),
            memory: (4 << 20, Vec::new()),
            measured: Vec::new(),
            deaf: false,
            unreachable: false,
            unheard: false,
            lines: Vec::new(),
            shown: BTreeMap::new(),
            trace: false,
        }
    }

    /// A machine that has just booted, with a few images on it.
    fn booted() -> Machine {
        let mut machine = Machine::new(KubeletConfig::default());
        machine.boot(Boot::Reboot);
        machine
    }

    fn with(&mut self, act: impl FnOnce(&mut Kubelet, &mut Cx<'_>)) {
        let (mut out, mut requests) = (Outbox::default(), Vec::new());
        let view = self.store.view().clone();
        let mut renew = None;
        let mut cx = Cx {
            now: self.queue.now(),
            out: &mut out,
            requests: &mut requests,
            draws: &self.draws,
            lookup: &view,
            renew: &mut renew,
        };
        act(&mut self.kubelet, &mut cx);
        if let Some(renew) = renew {
            // Here every renewal is one that might be lost, and is answered like a write.
            let mut cx = Cx {
                now: self.queue.now(),
                out: &mut out,
                requests: &mut requests,
                draws: &self.draws,
                lookup: &view,
                renew: &mut None,
            };
            self.kubelet.renewal_lost(&renew, self.queue.now(), &mut cx);
            out.sends.push(renew.send(self.queue.now()));
        }
        for (at, event) in out.timers {
            self.queue.at(at, Due::Kubelet(event));
        }
        for send in out.sends {
            let at = send.at + LATENCY;
            self.sends.push(send);
            self.queue.at(at, Due::Send(self.sends.len() as u32 - 1));
        }
        for request in requests {
            self.ask(request);
        }
    }

    fn boot(&mut self, boot: Boot) {
        if boot == Boot::Reboot {
            self.running.clear();
        }
        let pods: Vec<_> = self
            .store
            .view()
            .pods()
            .on_node("n1")
            .map(|(id, row)| (id, row.clone()))
            .collect();
        self.cursor = Cursor(self.store.log().head());
        self.with(|kubelet, cx| kubelet.start(boot, &pods, cx));
    }

    fn at(&mut self, at_ms: u64, act: impl FnOnce(&mut Machine) + 'static) {
        self.acts.push(Some(Box::new(act)));
        let index = self.acts.len() as u32 - 1;
        self.queue.at(Time::from_millis(at_ms), Due::Step(index));
    }

    fn script(&mut self, name: &str) -> &mut Script {
        self.scripts.entry(name.into()).or_default()
    }

    fn create(&mut self, pod: Pod) {
        self.write(Write::Create(pod.into()));
    }

    fn delete(&mut self, name: &str, grace_s: Option<u32>) {
        let (id, _) = self.store.view().pods().find("default", name).unwrap();
        self.write(Write::Delete {
            object: id.into(),
            uid: None,
            grace_s,
            propagation: Propagation::Background,
        });
    }

    /// A write of somebody else.
    fn write(&mut self, write: Write) {
        let now = self.queue.now();
        self.store.write(&write, now, Cause::default()).unwrap();
        self.wrote();
    }

    /// Writes down what changed, and lets the watch deliver it.
    fn wrote(&mut self) {
        self.queue.after(LATENCY, Due::Deliver);
    }

    fn run(&mut self, until_s: u64) {
        let until = Time::from_secs(until_s);
        while let Some((now, _, due)) = self.queue.pop_due(until) {
            match due {
                Due::Kubelet(event) => self.with(|k, cx| k.on_event(event, cx)),
                Due::Runtime(event) => self.hear(event),
                Due::Send(index) => self.serve(index, now),
                Due::Reply(index) => {
                    let (token, reply) = self.replies[index as usize].clone();
                    self.with(|k, cx| k.on_reply(token, &reply, cx));
                }
                Due::Deliver => self.deliver(),
                Due::Step(index) => {
                    let act = self.acts[index as usize].take().unwrap();
                    act(self);
                }
            }
        }
    }

    fn serve(&mut self, index: u32, now: Time) {
        let send = self.sends[index as usize].clone();
        let reply = if self.unreachable {
            Err(crate::store::ApiError::Unreachable)
        } else {
            self.store.write(&send.write, now, send.cause)
        };
        let told = reply.as_ref().is_ok_and(|receipt| match &receipt.row {
            Some(Row::Pod(row)) if matches!(send.write, Write::Patch { .. }) => {
                !(row.meta.deleting() && row.status.phase.terminal())
            }
            _ => matches!(send.write, Write::Emit(_)),
        });
        if self.unheard && told {
            let mut awaited = true;
            self.with(|k, cx| awaited = k.taken(send.token, now + LATENCY, cx));
            if !awaited {
                return self.wrote();
            }
        }
        self.replies.push((send.token, reply));
        let index = self.replies.len() as u32 - 1;
        self.queue.after(LATENCY, Due::Reply(index));
        self.wrote();
    }

    fn deliver(&mut self) {
        let changes: Vec<_> = self
            .store
            .log()
            .since(self.cursor)
            .unwrap()
            .cloned()
            .collect();
        self.cursor = Cursor(self.store.log().head());
        for change in changes {
            let at = secs(change.time);
            if let Some(event) = &change.event
                && event.kind == crate::api::Kind::Pod
            {
                let (name, reason) = (&event.name, &event.reason);
                self.lines
                    .push(format!("{at} {name} {reason}: {}", event.message));
            }
            if let (Some(object), Some(Row::Pod(row))) = (change.object, &change.new) {
                let shown = match change.op {
                    Op::Delete => "gone".to_owned(),
                    _ => show(row),
                };
                if self.shown.insert(object.index, shown.clone()).as_ref() != Some(&shown) {
                    self.lines.push(format!("{at} {} {shown}", row.meta.name));
                }
            }
            if matches!(change.new, Some(Row::Node(_))) {
                self.with(|k, cx| k.node_changed(cx));
            }
            if self.kubelet.is_up()
                && !self.deaf
                && let Some(change) = PodChange::of(&change)
            {
                self.with(|k, cx| k.on_pod(change, cx));
            }
        }
    }

    /// The lines that contain one of `words`.
    fn lines_with(&self, words: &[&str]) -> Vec<String> {
        let has = |line: &&String| words.iter().any(|word| line.contains(word));
        self.lines.iter().filter(has).cloned().collect()
    }

    /// Asserts what was written down, all of it.
    fn check(&self, expected: &str) {
        same_lines(&self.lines, expected);
    }

    /// Asserts what was written down about these words.
    fn check_with(&self, words: &[&str], expected: &str) {
        same_lines(&self.lines_with(words), expected);
    }
}

/// Long lines are cut, as the expected ones are.
fn same_lines(got: &[String], expected: &str) {
    let cut = |line: &String| match line.char_indices().nth(80) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.clone(),
    };
    let got: Vec<String> = got.iter().map(cut).collect();
    let expected: Vec<&str> = expected
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    assert!(
        got == expected,
        "got:\n{}\n\nexpected:\n{}",
        got.join("\n"),
        expected.join("\n")
    );
}

/// A pod's status in a line: phase, readiness, each container.
fn show(pod: &Pod) -> String {
    let status = &pod.status;
    let mut line = status.phase.name().to_owned();
    if let Some(reason) = &status.reason {
        line += &format!("({reason})");
    }
    if status.ready() {
        line += " Ready";
    }
    for container in status.init_containers.iter().chain(&status.containers) {
        line += &show_container(container);
    }
    if pod.meta.deleting() {
        line += " deleting";
    }
    line
}

fn show_container(container: &ContainerStatus) -> String {
    let state = match &container.state {
        ContainerState::Waiting { reason, .. } => reason.to_string(),
        ContainerState::Running { .. } => match (container.started, container.ready) {
            (_, true) => "ready".into(),
            (true, false) => "running".into(),
            (false, false) => "starting".into(),
        },
        ContainerState::Terminated(t) => format!("{}({})", t.reason, t.exit_code),
    };
    let restarts = match container.restarts {
        0 => String::new(),
        n => format!("/{n}"),
    };
    format!(" {}={state}{restarts}", container.name)
}

#[test]
fn a_pod_starts_and_becomes_ready() {
    let mut m = Machine::booted();
    let mut web = container("web");
    web.readiness = Some(probe(10, 3));
    m.create(pod("a", vec![web]));
    m.run(30);
    // 5 ms to hear of it, 300 for the volumes, 200 for the sandbox, 1000 for the image, 100 to
    // start, each write 5 ms to the server. The kubelet has just started: its probe worker first
    // waits for a random part of the period of 10 s, then the probe takes 2 ms.
    m.check(
        r#"
        0.000 a Pending
        0.010 a Pending web=ContainerCreating
        0.510 a Pulling: Pulling image "web:1"
        1.510 a Pulled: Successfully pulled image "web:1" in 1s (1s including waiting). …
        1.610 a Created: Container created
        1.610 a Running web=running
        1.620 a Started: Container started
        6.990 a Running Ready web=ready
        "#,
    );
    let row = m
        .store
        .view()
        .pods()
        .find("default", "a")
        .unwrap()
        .1
        .clone();
    let conditions: Vec<_> = row
        .status
        .conditions
        .iter()
        .map(|c| c.kind.name())
        .collect();
    assert_eq!(conditions.len(), 5, "{conditions:?}");
    assert!(
        row.status
            .conditions
            .iter()
            .all(|c| c.status == Truth::True)
    );
    assert_eq!(row.status.ip.unwrap().to_string(), "10.0.0.2");
}
