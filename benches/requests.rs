//! Requests of users through Services: 1,000 pods on 100 nodes behind 20 Services, 20,000 requests
//! a second, 2 million in all.
//!
//! Each request looks up the rules that the edge's kube-proxy has programmed, is dialled to a pod
//! (or goes over a connection that is open), takes a place among the pod's 64, uses CPU by
//! processor sharing, and is answered; latencies go into sketches. Everything is checked before it
//! is printed: every request was answered, none is left, every pod served its share, and the memory
//! for what is in flight is that of a tenth of the requests.

use std::sync::Arc;
use std::time::Duration;

use rehearsal::api::container::{Container, ContainerPort, Protocol};
use rehearsal::api::pod::PodSpec;
use rehearsal::api::service::{Endpoint, EndpointPort, ServicePort};
use rehearsal::api::{EndpointSlice, Kind, Labels, Node, Pod, Row, Service, Text, Uid};
use rehearsal::cluster::dataplane::{DataPlane, Event, Out};
use rehearsal::engine::{Draws, Limits, Queue, Silent, Tape, Time, Turn, World, drive};
use rehearsal::kubelet::runtime::ContainerId;
use rehearsal::load::Traffic;
use rehearsal::load::model::{Client, Executor};
use rehearsal::net::NetConfig;
use rehearsal::store::{Cause, Change, Id, ObjectId, Op};
use serde_json::json;

mod support;

const SERVICES: u32 = 20;
const PODS: u32 = 50;
const NODES: u32 = 100;
const RATE: u64 = 1_000;

struct Bench {
    plane: DataPlane,
    out: Out,
    revision: u64,
}

impl World for Bench {
    type Event = Event;
    type Request = ();

    fn dispatch(&mut self, event: Event, turn: &mut Turn<'_, Event, ()>) {
        self.plane.on_event(event, turn.now, &mut self.out);
        for (at, event) in self.out.timers.drain(..) {
            turn.at(at, event);
        }
    }
}

impl Bench {
    fn create(&mut self, kind: Kind, index: u32, row: Row) {
        self.revision += 1;
        let change = Change {
            revision: self.revision,
            time: Time::ZERO,
            object: Some(ObjectId { kind, index }),
            op: Op::Create,
            old: None,
            new: Some(row),
            event: None,
            cause: Cause::default(),
            renewed: None,
        };
        self.plane.on_change(&change, Time::ZERO);
    }

    fn cluster(&mut self) {
        for n in 0..NODES {
            let mut node = Node::default();
            node.meta.name = Text::from(format!("node-{n}"));
            let zone = ["a", "b", "c"][n as usize % 3];
            node.meta.labels = Labels::from_iter([("topology.kubernetes.io/zone", zone)]);
            node.status.capacity.cpu_milli = 32_000;
            self.create(Kind::Node, n, node.into());
        }
        let spec = Arc::new(PodSpec {
            containers: vec![Container {
                name: Text::from("server"),
                ports: vec![ContainerPort {
                    port: 8080,
                    ..ContainerPort::default()
                }],
                ..Container::default()
            }],
            ..PodSpec::default()
        });
        for s in 0..SERVICES {
            self.service(s, &spec);
        }
    }

    fn service(&mut self, number: u32, spec: &Arc<PodSpec>) {
        let name = format!("svc-{number}");
        let mut service = Service::default();
        service.meta.namespace = Text::from("default");
        service.meta.name = Text::from(&name);
        service.ports = vec![ServicePort {
            port: 80,
            ..ServicePort::default()
        }];
        self.create(Kind::Service, number, service.into());
        let mut slice = EndpointSlice::default();
        slice.meta.namespace = Text::from("default");
        slice.meta.labels = Labels::from_iter([("kubernetes.io/service-name", name.as_str())]);
        slice.ports = vec![EndpointPort {
            name: Text::default(),
            port: 8080,
            protocol: Protocol::Tcp,
            app_protocol: Text::default(),
        }];
        for n in 0..PODS {
            let index = number * PODS + n;
            let mut pod = Pod {
                spec: spec.clone(),
                node_name: Some(Text::from(format!("node-{}", index % NODES))),
                ..Pod::default()
            };
            pod.meta.namespace = Text::from("default");
            pod.meta.name = Text::from(format!("{name}-{n}"));
            pod.meta.uid = Uid(u64::from(index) + 1);
            slice.endpoints.push(Endpoint {
                ip: index,
                pod_uid: pod.meta.uid,
                pod: pod.meta.name.clone(),
                hostname: Text::default(),
                node: pod.node_name.clone().unwrap_or_default(),
                zone: Text::default(),
                ready: true,
                serving: true,
                terminating: false,
                hints: None,
            });
            let pod = Arc::new(pod);
            self.create(Kind::Pod, index, Row::Pod(pod.clone()));
            let id = ContainerId {
                pod: Id::new(index),
                index: 0,
                attempt: 0,
            };
            let node = pod.node_name.clone().unwrap_or_default();
            let place = self.plane.place_of_node(&node);
            self.plane.start(id, place, &pod, Time::ZERO, &mut self.out);
        }
        self.create(Kind::EndpointSlice, number, slice.into());
    }

    fn traffic(&mut self, number: u32, keep_alive: bool, seconds: u64) {
        let traffic = Traffic {
            name: Text::from(format!("users-{number}")),
            to: Text::from(format!("service/svc-{number}:80")),
            // Every container listens by then.
            start: Duration::from_secs(30),
            executor: Executor::ConstantArrivalRate {
                rate: RATE,
                time_unit: Duration::from_secs(1),
                duration: Duration::from_secs(seconds),
            },
            client: Client {
                connections: 200,
                keep_alive,
                timeout: Duration::from_secs(2),
                ..Client::default()
            },
            ..Traffic::default()
        };
        self.plane.add_traffic(&traffic, Time::ZERO, &mut self.out);
    }
}

/// What a run leaves behind, for checking.
struct Result {
    events: u64,
    ok: u64,
    /// Places ever needed for what is in flight.
    places: usize,
    least: u64,
    most: u64,
    p99: Duration,
}

fn run(keep_alive: bool, requests: u64) -> Result {
    let mut bench = Bench {
        plane: DataPlane::new(NetConfig::default(), Draws::new(1)),
        out: Out::default(),
        revision: 0,
    };
    bench.cluster();
    let seconds = requests / (u64::from(SERVICES) * RATE);
    for number in 0..SERVICES {
        bench.traffic(number, keep_alive, seconds);
    }
    let mut queue = Queue::new();
    for (at, event) in bench.out.timers.drain(..) {
        queue.at(at, event);
    }
    let end = Time::from_secs(60 + seconds);
    drive(
        &mut bench,
        &mut queue,
        &mut Silent,
        &mut Tape::Off,
        &mut (),
        Limits::until(end),
        &mut |_| false,
    );
    bench.plane.finish();
    let used: Vec<u64> = (0..SERVICES * PODS)
        .map(|pod| bench.plane.usage(Id::new(pod), end)[0].1.cpu.as_micros() as u64)
        .collect();
    let (in_flight, places) = bench.plane.in_flight();
    assert_eq!(in_flight, 0);
    let tallies: Vec<_> = bench.plane.tallies().map(|(_, tally)| tally).collect();
    let ok = tallies.iter().map(|tally| tally.ok).sum();
    let sent: u64 = tallies.iter().map(|tally| tally.sent).sum();
    assert_eq!(
        (sent, ok),
        (requests, requests),
        "every request is answered"
    );
    Result {
        events: queue.popped(),
        ok,
        places,
        least: used.iter().copied().min().unwrap_or(0),
        most: used.iter().copied().max().unwrap_or(0),
        p99: tallies
            .iter()
            .map(|tally| tally.latency(0.99))
            .max()
            .unwrap_or_default(),
    }
}

fn main() {
    let args = support::Args::read();
    support::head(&args);
    let requests = args.scaled(2_000_000);
    let few = (requests / 10).max(20_000);
    for (workload, keep_alive) in [("requests", false), ("requests-keep-alive", true)] {
        if !args.wants(workload) {
            continue;
        }
        let short = run(keep_alive, few);
        let (long, cost) = support::measure(|| run(keep_alive, requests));
        assert!(
            long.places <= short.places * 2,
            "memory grew with requests: {} places, then {}",
            short.places,
            long.places
        );
        // A connection for each request spreads them evenly; 200 that are kept do not.
        assert!(long.most > 0 && (keep_alive || long.most < long.least * 2));
        let params = json!({
            "services": SERVICES, "pods": SERVICES * PODS, "nodes": NODES,
            "keep_alive": keep_alive, "events": long.events, "in_flight_max": long.places,
            "p99_ms": (long.p99.as_secs_f64() * 1e5).round() / 1e2,
        });
        support::print(&args, workload, long.ok, cost, params);
    }
}
