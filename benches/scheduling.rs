//! The scheduler alone: pods per CPU second on 100, 1,000 and 5,000 nodes, with the default
//! profile, cache, queue and preemption, over a real store.
//!
//! Workloads: `plain` (six sizes of pods), `spread` (a hard constraint over zones and a soft one
//! over nodes), `affinity` (three quarters repel their own kind from the node, a quarter wants to be
//! in the zone of another kind), `preemption` (the cluster is full of low priority; every pod needs
//! victims). Pods arrive as fast as they are taken. Each run checks that every pod was bound, that
//! no node holds more than it can, and what its workload promises: spreads within the skew, no two
//! pods of a kind that repels itself on one node, one victim for each promise of a node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rehearsal::api::decode::{DecodeContext, decode_json};
use rehearsal::api::{Pod, PodSpec, Row};
use rehearsal::client::Outbox;
use rehearsal::engine::{Draws, Queue, Time};
use rehearsal::sched::config::{CycleCost, SchedulerConfig};
use rehearsal::sched::{Event, Scheduler};
use rehearsal::store::{Cause, Cursor, Op, Propagation, Store, View, Write};
use serde_json::{Value, json};

mod support;

const SIZES: [u64; 3] = [100, 1_000, 5_000];
const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";
/// A request reaches the store, a change the scheduler, an answer its sender.
const STEP: Duration = Duration::from_millis(1);

#[derive(Clone, Copy)]
enum Due {
    Scheduler(Event),
    Request(usize),
    Answer(usize),
    Deliver,
}

/// A store and a scheduler, each a millisecond from the other.
struct Bench {
    store: Store,
    view: View,
    cursor: Cursor,
    scheduler: Scheduler,
    queue: Queue<Due>,
    sends: Vec<Option<rehearsal::client::Send>>,
    replies: Vec<Option<(u64, rehearsal::client::Reply)>>,
    delivering: bool,
    bound: u64,
    victims: u64,
    /// Nodes promised to pods, and those of them that took the place of another promise.
    promises: u64,
    again: u64,
}

impl Bench {
    fn new() -> Bench {
        let config = SchedulerConfig {
            qps: 0,
            cycle_cost: CycleCost {
                base: Duration::from_micros(100),
                per_node: Duration::ZERO,
            },
            ..SchedulerConfig::default()
        };
        Bench {
            store: Store::new(Draws::new(1)),
            view: View::default(),
            cursor: Cursor::default(),
            scheduler: Scheduler::new(config, Draws::new(1)),
            queue: Queue::new(),
            sends: Vec::new(),
            replies: Vec::new(),
            delivering: false,
            bound: 0,
            victims: 0,
            promises: 0,
            again: 0,
        }
    }

    fn create(&mut self, row: Row) {
        let _ = self.commit(&Write::Create(row));
    }

    fn commit(&mut self, write: &Write) -> rehearsal::client::Reply {
        let now = self.queue.now();
        let reply = self.store.write(write, now, Cause::default());
        if self.store.log().head() > self.cursor.0 && !self.delivering {
            self.delivering = true;
            self.queue.after(STEP, Due::Deliver);
        }
        reply
    }

    fn take(&mut self, out: Outbox<Event>) {
        for (at, event) in out.timers {
            self.queue.at(at, Due::Scheduler(event));
        }
        for send in out.sends {
            let at = send.at + STEP;
            // KubeEvents go nowhere here.
            if !matches!(send.write, Write::Emit(_)) {
                self.sends.push(Some(send));
                self.queue.at(at, Due::Request(self.sends.len() - 1));
            }
        }
    }

    fn deliver(&mut self, now: Time) {
        self.delivering = false;
        let changes = self.store.log().since(self.cursor);
        let changes: Vec<_> = changes.into_iter().flatten().cloned().collect();
        self.cursor = Cursor(self.store.log().head());
        self.store.log_mut().compact(self.cursor);
        for change in changes {
            self.view.apply(&change);
            let mut out = Outbox::default();
            self.scheduler.on_change(&change, &self.view, now, &mut out);
            self.take(out);
            let Some((old, Some(new))) = change.rows::<Pod>() else {
                continue;
            };
            let before = old.is_some_and(|old| old.node_name.is_some());
            self.bound += u64::from(!before && new.node_name.is_some());
            let promise = old.and_then(|old| old.status.nominated_node.as_ref());
            if new.status.nominated_node.is_some() && new.status.nominated_node.as_ref() != promise
            {
                self.promises += 1;
                self.again += u64::from(promise.is_some());
            }
            let leaves = old.is_some_and(|old| !old.meta.deleting()) && new.meta.deleting();
            if leaves && change.op == Op::Update {
                // The kubelet is quick.
                self.victims += 1;
                let object = change.object.expect("a pod has a number");
                let _ = self.commit(&Write::Delete {
                    object,
                    uid: None,
                    grace_s: Some(0),
                    propagation: Propagation::Background,
                });
            }
        }
    }

    /// Until nothing is due but timers that repeat.
    fn run(&mut self, until: impl Fn(&Bench) -> bool) {
        while !until(self) {
            let Some((now, _, due)) = self.queue.pop_due(Time::from_secs(3_600)) else {
                return;
            };
            let mut out = Outbox::default();
            match due {
                Due::Scheduler(event) => {
                    self.scheduler.on_event(event, &self.view, now, &mut out);
                }
                Due::Deliver => self.deliver(now),
                Due::Request(at) => {
                    let send = self.sends[at].take().expect("sent once");
                    let reply = self.commit(&send.write);
                    self.replies.push(Some((send.token, reply)));
                    let answer = Due::Answer(self.replies.len() - 1);
                    self.queue.after(STEP, answer);
                }
                Due::Answer(at) => {
                    let (token, reply) = self.replies[at].take().expect("answered once");
                    self.scheduler
                        .on_reply(token, &reply, &self.view, now, &mut out);
                }
            }
            self.take(out);
        }
    }
}

fn node(n: u64) -> Row {
    let name = format!("node-{n}");
    let amounts = json!({"cpu": "32", "memory": "128Gi", "pods": "110"});
    let zone = ["a", "b", "c"][n as usize % 3];
    decoded(&json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {HOST: name, ZONE: zone}},
        "status": {"capacity": amounts, "allocatable": amounts}
    }))
}

fn decoded(object: &Value) -> Row {
    let decoded = decode_json(object, &DecodeContext::default());
    decoded.expect("a good object").row
}

fn template(app: &str, cpu: &str, more: Value) -> Pod {
    let mut spec = json!({"containers": [{
        "name": "main", "image": format!("registry.example/{app}:1"),
        "resources": {"requests": {"cpu": cpu, "memory": "256Mi"}}
    }]});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    let object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": app, "namespace": "default", "labels": {"app": app}},
        "spec": spec
    });
    let Row::Pod(pod) = decoded(&object) else {
        unreachable!("it is a pod")
    };
    Pod::clone(&pod)
}

fn selector(app: &str) -> Value {
    json!({"matchLabels": {"app": app}})
}

fn plain() -> Vec<Pod> {
    let sizes = ["100m", "200m", "250m", "400m", "500m", "1"];
    let sizes = (0..).zip(sizes);
    sizes
        .map(|(n, cpu)| template(&format!("app-{n}"), cpu, json!({})))
        .collect()
}

fn spread() -> Vec<Pod> {
    let one = |n: u32| {
        let app = format!("app-{n}");
        let constraint = |key: &str, when: &str| {
            json!({"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": when,
                "labelSelector": selector(&app)})
        };
        let both = [
            constraint(ZONE, "DoNotSchedule"),
            constraint(HOST, "ScheduleAnyway"),
        ];
        template(&app, "250m", json!({"topologySpreadConstraints": both}))
    };
    (0..10).map(one).collect()
}

fn affinity(kinds: u64) -> Vec<Pod> {
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let one = |n: u64| {
        let app = format!("app-{n}");
        let (kind, of, key) = match n % 4 {
            0 => ("podAffinity", format!("app-{}", n + 1), ZONE),
            _ => ("podAntiAffinity", app.clone(), HOST),
        };
        let term = json!({"labelSelector": selector(&of), "topologyKey": key});
        template(
            &app,
            "250m",
            json!({"affinity": {kind: {required: [term]}}}),
        )
    };
    (0..kinds).map(one).collect()
}

fn at_priority(mut pod: Pod, priority: i32) -> Pod {
    let mut spec = PodSpec::clone(&pod.spec);
    spec.priority = priority;
    pod.spec = Arc::new(spec);
    pod
}

fn named(template: &Pod, n: u64) -> Row {
    let mut pod = template.clone();
    pod.meta.name = format!("{}-{n}", template.meta.name).into();
    Row::Pod(Arc::new(pod))
}

/// Every node within its capacity; pods per node, zone and kind.
fn verify(bench: &Bench, workload: &str) {
    let mut cpu: BTreeMap<&str, i64> = BTreeMap::new();
    let mut per_zone: BTreeMap<&str, [u64; 3]> = BTreeMap::new();
    let mut per_node: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for (_, pod) in bench.store.view().pods().iter() {
        let Some(name) = &pod.node_name else {
            continue;
        };
        let app = pod.meta.labels.get("app").expect("a label").as_str();
        *cpu.entry(name).or_default() += pod.spec.requests.cpu_milli;
        let number: usize = name["node-".len()..].parse().expect("numbered");
        per_zone.entry(app).or_default()[number % 3] += 1;
        *per_node.entry((app, name)).or_default() += 1;
    }
    assert!(cpu.values().all(|milli| *milli <= 32_000));
    match workload {
        "spread" => {
            for (app, zones) in per_zone {
                let (least, most) = (zones.iter().min(), zones.iter().max());
                let skew = most.zip(least).map(|(most, least)| most - least);
                assert!(skew <= Some(1), "{app}: {zones:?}");
            }
        }
        "affinity" => {
            let repels = |app: &str| !app["app-".len()..].parse::<u64>().is_ok_and(|n| n % 4 == 0);
            let alone = per_node.iter().all(|((app, _), n)| *n == 1 || !repels(app));
            assert!(alone, "two of a kind on one node");
        }
        _ => {}
    }
}

fn run(workload: &str, nodes: u64, pods: u64) -> Bench {
    let mut bench = Bench::new();
    for n in 0..nodes {
        bench.create(node(n));
    }
    let templates = match workload {
        "plain" => plain(),
        "spread" => spread(),
        // Each kind that repels itself has fewer pods than there are nodes.
        "affinity" => affinity((pods * 2 / nodes).max(2) * 4),
        _ => vec![at_priority(template("vip", "8", json!({})), 100)],
    };
    let mut filled = 0;
    if workload == "preemption" {
        // Four pods of 8 cores fill a node.
        let low = template("low", "8", json!({}));
        for n in 0..nodes * 4 {
            bench.create(named(&low, n));
        }
        filled = nodes * 4;
        bench.run(|bench| bench.bound == filled);
    }
    // What others want comes first.
    let order = (0..pods).map(|n| (n * 3 + 1) % templates.len() as u64);
    let wanted_first = templates.len() as u64;
    for (n, at) in (0..)
        .zip((1..wanted_first).chain(order))
        .take(pods as usize)
    {
        bench.create(named(&templates[at as usize % templates.len()], n));
    }
    bench.run(|bench| bench.bound == filled + pods);
    assert_eq!(bench.bound, filled + pods, "{workload}: every pod is bound");
    // Each promise costs a victim, and each pod needs one promise; another one when it has to give
    // way to a promise of the same priority (`sched/tests/preemption`).
    let promises = if workload == "preemption" {
        pods + bench.again
    } else {
        0
    };
    let made = (bench.promises, bench.victims);
    assert_eq!(made, (promises, promises), "{workload}: promises, victims");
    verify(&bench, workload);
    bench
}

fn main() {
    let args = support::Args::read();
    support::head(&args);
    for workload in ["plain", "spread", "affinity", "preemption"] {
        for nodes in SIZES {
            let name = format!("{workload}-{nodes}");
            if !args.wants(&name) {
                continue;
            }
            let most = if workload == "preemption" { 1 } else { 10 };
            let pods = args
                .scaled((nodes * most).max(1_000))
                .max(100)
                .min(nodes * most);
            let (bench, cost) = support::measure(|| run(workload, nodes, pods));
            let params = json!({
                "nodes": nodes, "pods": pods, "bound": bench.bound,
                "victims": bench.victims, "promised_again": bench.again,
            });
            support::print(&args, &name, bench.bound, cost, params);
        }
    }
}
