//! The whole cluster: 5,000 nodes with their kubelets and leases, 150,000 pods that arrive over one
//! hour as a Poisson process, run for some minutes and end; controller manager, scheduler with its
//! default profile, API server with latencies, simulated runtimes.
//!
//! A tenth of the nodes is tainted and labelled for pods that tolerate and select that; other pods
//! come in six sizes. `cluster-5000` looks on only to verify: every pod is created, bound once to a
//! node that has room for it and that it may be on, and succeeds; every node keeps its lease.
//! `cluster-5000-recorded` also digests every event and change and keeps the record of the run, as
//! `rehearsal run` does. Both must make the same decisions.

use std::time::Duration;

use rehearsal::api::affinity::{Taint, TaintEffect};
use rehearsal::api::decode::{DecodeContext, decode_json};
use rehearsal::api::pod_status::Phase;
use rehearsal::api::quantity::Resources;
use rehearsal::api::selector::LabelSelector;
use rehearsal::api::yaml::Span;
use rehearsal::api::{Kind, Labels, Pod, Row};
use rehearsal::backend::sim::{RuntimeLatency, Simulated};
use rehearsal::cluster::api_server::digest_change;
use rehearsal::cluster::{Cluster, Event};
use rehearsal::engine::{
    Digest, Dispatched, Dist, Draws, Limits, Observer, Queue, Tape, Time, drive,
};
use rehearsal::load::AppModel;
use rehearsal::load::batch::{PodKind, PoissonPods};
use rehearsal::record::Recorder;
use rehearsal::scenario::Scenario;
use rehearsal::scenario::types::{ClusterSpec, Flags, NodePool};
use rehearsal::store::{Change, Cursor};
use serde_json::{Value, json};

mod support;

const NODES: u64 = 5_000;
const PODS: u64 = 150_000;
const HOUR: Duration = Duration::from_secs(3_600);
/// Time that pods get to end after the last one arrived.
const PATIENCE: Duration = Duration::from_secs(7_200);

/// Watches the log: verifies, and records where that is asked for.
#[derive(Default)]
struct Onlooker {
    cursor: u64,
    created: u64,
    bound: u64,
    ended: u64,
    removed: u64,
    renewals: u64,
    changes: u64,
    /// Milli-cpu and bytes that are free, by node; then by whether it is dedicated.
    free: Vec<(i64, i64, bool)>,
    /// The nodes of pods, by number.
    homes: Vec<u32>,
    decisions: Digest,
    /// All changes, whatever the events were that led to them.
    history: Digest,
    recording: Option<(Recorder, Digest)>,
}

impl Onlooker {
    fn pod(&mut self, change: &Change, world: &Cluster) {
        let Some((old, Some(new))) = change.rows::<Pod>() else {
            return;
        };
        let at = change.object.map_or(0, |object| object.index as usize);
        let Some(old) = old else {
            self.created += 1;
            return;
        };
        self.removed += u64::from(change.op == rehearsal::store::Op::Delete);
        let ended = |pod: &Pod| pod.status.phase.terminal();
        if let (None, Some(name)) = (&old.node_name, &new.node_name) {
            self.bound += 1;
            let (node, _) = world.machine_named(name).expect("bound to a node");
            self.homes.resize(self.homes.len().max(at + 1), u32::MAX);
            self.homes[at] = node;
            let (cpu, memory, dedicated) = &mut self.free[node as usize];
            *cpu -= new.spec.requests.cpu_milli;
            *memory -= new.spec.requests.memory;
            assert!(*cpu >= 0 && *memory >= 0, "{name} has no room");
            let wants = !new.spec.node_selector.is_empty();
            assert_eq!(wants, *dedicated, "{} on {name}", new.meta.name);
            use std::hash::Hash;
            (&new.meta.name, node, change.time).hash(&mut self.decisions);
        }
        if !ended(old) && ended(new) {
            self.ended += 1;
            assert_eq!(new.status.phase, Phase::Succeeded);
            assert_eq!(
                old.node_name, new.node_name,
                "it stays where it was bound to"
            );
            let (cpu, memory, _) = &mut self.free[self.homes[at] as usize];
            *cpu += new.spec.requests.cpu_milli;
            *memory += new.spec.requests.memory;
        }
    }
}

impl Observer<Cluster> for Onlooker {
    fn on_event(&mut self, time: Time, seq: u64, event: &Event) {
        if let Some((_, digest)) = &mut self.recording {
            use std::hash::Hash;
            (time, seq, event).hash(digest);
        }
    }

    fn after_event(&mut self, _: Dispatched, _: &Event, world: &Cluster) {
        let log = world.api.store.log();
        if log.head() == self.cursor {
            return;
        }
        assert!(
            log.keeps(Cursor(self.cursor)),
            "the log keeps what was not observed yet"
        );
        while let Some(change) = log.get(self.cursor + 1) {
            self.cursor += 1;
            self.changes += 1;
            match change.kind() {
                Kind::Pod => self.pod(change, world),
                Kind::Lease => self.renewals += 1,
                _ => {}
            }
            if let Some((recorder, digest)) = &mut self.recording {
                let view = world.api.store.view();
                digest_change(digest, change, view);
                digest_change(&mut self.history, change, view);
                recorder.on_change(change);
            }
        }
    }
}

fn amounts(cpu_milli: i64, memory: i64) -> Resources {
    Resources {
        cpu_milli,
        memory,
        pods: 110,
        named: 0b1011,
        ..Resources::default()
    }
}

fn pools(nodes: u64) -> Vec<NodePool> {
    let pool = |name: &str, count: u64, cores: i64| NodePool {
        name: name.into(),
        count: u32::try_from(count).expect("not that many nodes"),
        zones: ["a", "b", "c"].map(Into::into).to_vec(),
        capacity: amounts(cores * 1_000, cores << 32),
        allocatable: amounts(cores * 1_000 - 200, (cores << 32) - (1 << 30)),
        ..NodePool::default()
    };
    let dedicated = (nodes / 10).max(1);
    vec![
        pool("general", nodes - dedicated, 16),
        NodePool {
            labels: Labels::from_iter([("pool", "dedicated")]),
            taints: vec![Taint {
                key: "dedicated".into(),
                value: "batch".into(),
                effect: TaintEffect::NoSchedule,
                added: None,
            }],
            ..pool("dedicated", dedicated, 32)
        },
    ]
}

fn kind(weight: u32, app: &str, cpu: &str, memory: &str, more: Value) -> PodKind {
    let mut spec = json!({
        "restartPolicy": "Never",
        "containers": [{
            "name": "main", "image": format!("registry.example/{app}:1"),
            "resources": {"requests": {"cpu": cpu, "memory": memory}}
        }]
    });
    let fields = more.as_object().into_iter().flatten();
    for (field, value) in fields {
        spec[field] = value.clone();
    }
    let object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": app, "namespace": "default", "labels": {"app": app}},
        "spec": spec
    });
    let decoded = decode_json(&object, &DecodeContext::default()).expect("a good pod");
    let Row::Pod(pod) = decoded.row else {
        unreachable!("it is a pod")
    };
    PodKind {
        weight,
        labels: pod.meta.labels.clone(),
        spec: pod.spec.clone(),
    }
}

fn kinds() -> Vec<PodKind> {
    let dedicated = json!({
        "nodeSelector": {"pool": "dedicated"},
        "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}]
    });
    vec![
        kind(30, "tiny", "100m", "128Mi", json!({})),
        kind(25, "small", "250m", "512Mi", json!({})),
        kind(15, "medium", "500m", "1Gi", json!({})),
        kind(10, "large", "1", "2Gi", json!({})),
        kind(5, "cpu", "4", "2Gi", json!({})),
        kind(5, "memory", "500m", "8Gi", json!({})),
        kind(10, "dedicated", "2", "8Gi", dedicated),
    ]
}

fn scenario(nodes: u64) -> Scenario {
    let runs = Dist::LogNormal {
        p50: Duration::from_secs(120),
        p99: Duration::from_secs(300),
    };
    let model = AppModel {
        namespace: "default".into(),
        selector: LabelSelector::default(),
        ..AppModel::batch(runs)
    };
    Scenario {
        search: rehearsal::scenario::Search::default(),
        name: "cluster-5000".into(),
        file: String::new(),
        span: Span::NONE,
        version: "1.36".into(),
        seed: 1,
        duration: HOUR,
        namespace: "default".into(),
        cluster: ClusterSpec {
            pools: pools(nodes),
            flags: Flags::default(),
            ..ClusterSpec::default()
        },
        linux: Default::default(),
        objects: Vec::new(),
        timeline: Vec::new(),
        expect: Vec::new(),
        apps: vec![model],
        traffic: Vec::new(),
        thresholds: Vec::new(),
        not_modelled: Vec::new(),
        digest: 0,
    }
}

/// What a run came to.
struct Outcome {
    events: u64,
    ended_at: Time,
    onlooker: Onlooker,
}

fn run(nodes: u64, pods: u64, recorded: bool) -> Outcome {
    let scenario = scenario(nodes);
    let (mut cluster, mut queue): (Cluster, Queue<Event>) =
        Cluster::build(&scenario).unwrap_or_else(|e| panic!("{}", e.error));
    let rate = pods as f64 / HOUR.as_secs_f64();
    let stream = PoissonPods::new("work", "default", kinds(), rate, pods, Draws::new(1));
    cluster.feed(Box::new(stream));
    let mut backend = Simulated::new(cluster.draws, RuntimeLatency::default());
    let mut onlooker = Onlooker {
        cursor: cluster.api.store.log().head(),
        recording: recorded.then(|| (Recorder::new(), Digest::new())),
        ..Onlooker::default()
    };
    let rows = cluster.api.store.view().nodes().iter();
    onlooker.free = rows
        .map(|(_, node)| {
            let has = &node.status.allocatable;
            (has.cpu_milli, has.memory, !node.taints.is_empty())
        })
        .collect();
    let mut at = Time::ZERO;
    let end = Time::ZERO + HOUR + PATIENCE;
    while onlooker.ended < pods {
        assert!(at < end, "{} of {pods} pods ended", onlooker.ended);
        at += Duration::from_secs(60);
        drive(
            &mut cluster,
            &mut queue,
            &mut backend,
            &mut Tape::Off,
            &mut onlooker,
            Limits::until(at),
            &mut |_| false,
        );
    }
    assert_eq!(
        (onlooker.created, onlooker.bound, onlooker.ended),
        (pods, pods, pods),
        "every pod is created, bound and ended once"
    );
    // Renewals come 10 to 10.4 s after the answer to the one before.
    let least = nodes * (at.as_nanos() / 1_000_000_000) / 11;
    assert!(onlooker.renewals >= least, "{} renewals", onlooker.renewals);
    for (_, node) in cluster.api.store.view().nodes().iter() {
        assert!(node.ready(), "{} is not ready", node.meta.name);
    }
    Outcome {
        events: queue.popped(),
        ended_at: at,
        onlooker,
    }
}

fn main() {
    let args = support::Args::read();
    support::head(&args);
    let (nodes, pods) = (args.scaled(NODES).max(50), args.scaled(PODS).max(500));
    let mut decisions = None;
    for (workload, recorded) in [("cluster-5000", false), ("cluster-5000-recorded", true)] {
        if !args.wants(workload) {
            continue;
        }
        let (outcome, cost) = support::measure(|| run(nodes, pods, recorded));
        let looker = outcome.onlooker;
        let digest = format!("{:032x}", looker.decisions.finish128());
        assert_eq!(*decisions.get_or_insert(digest.clone()), digest);
        let params = json!({
            "nodes": nodes, "pods": pods, "simulated_s": outcome.ended_at.as_secs_f64(),
            "events": outcome.events, "changes": looker.changes, "renewals": looker.renewals,
            "removed": looker.removed, "decisions": digest,
            "history": recorded.then(|| format!("{:032x}", looker.history.finish128())),
        });
        support::print(&args, workload, pods, cost, params);
    }
}
