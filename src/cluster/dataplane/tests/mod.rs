//! A small cluster around the data plane alone: no controllers, no kubelets. Tests say when
//! processes start and end and when EndpointSlices change; only the data plane moves by itself.

use std::sync::Arc;
use std::time::Duration;

use super::{DataPlane, Event, Out};
use crate::api::container::{Container, ContainerPort};
use crate::api::pod::{PodSpec, RestartPolicy};
use crate::api::pod_status::PodIp;
use crate::api::probe::Action;
use crate::api::selector::{LabelSelector, Operator, Requirement};
use crate::api::service::{Endpoint, EndpointPort, ServicePort};
use crate::api::{EndpointSlice, Kind, Labels, Meta, Node, Pod, Row, Service, Text, Uid};
use crate::engine::draws::Draws;
use crate::engine::{Dist, Queue, Time};
use crate::kubelet::RuntimeEvent;
use crate::kubelet::runtime::{ContainerId, ProbeKind, Signal};
use crate::load::model::{Client, Executor, RequestModel, Traffic};
use crate::load::{AppModel, Tally};
use crate::net::{NetConfig, Place};
use crate::store::{Cause, Change, Id, ObjectId, Op};

mod cpu;
mod failures;
mod http;
mod lifecycle;
mod routing;
mod sharing;
mod strain;
mod whole;

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

/// A model for pods with label `app: APP` whose requests cost a fixed time.
pub(super) fn model(app: &str, cpu: Duration) -> AppModel {
    AppModel {
        name: Text::from(app),
        namespace: Text::from("default"),
        selector: LabelSelector {
            requirements: vec![Requirement {
                key: Text::from("app"),
                operator: Operator::In,
                values: vec![Text::from(app)],
            }],
            nothing: false,
        },
        startup: Dist::Fixed(Duration::from_secs(1)),
        request: RequestModel {
            cpu: Dist::Fixed(cpu),
            ..RequestModel::default()
        },
        ..AppModel::default()
    }
}

/// Evenly spaced requests to a Service, from 2 s on.
pub(super) fn traffic(to: &str, rate: u64, seconds: u64, client: Client) -> Traffic {
    Traffic {
        name: Text::from(to),
        to: Text::from(format!("service/{to}")),
        start: Duration::from_secs(2),
        executor: Executor::ConstantArrivalRate {
            rate,
            time_unit: Duration::from_secs(1),
            duration: Duration::from_secs(seconds),
        },
        client,
        ..Traffic::default()
    }
}

/// One connection for each request.
pub(super) fn fresh(timeout: Duration) -> Client {
    Client {
        keep_alive: false,
        timeout,
        ..Client::default()
    }
}

pub(super) struct World {
    pub plane: DataPlane,
    pub queue: Queue<Event>,
    pub heard: Vec<(Time, RuntimeEvent)>,
    out: Out,
    revision: u64,
    next: u32,
    pods: Vec<(Text, Arc<Pod>)>,
    slices: Vec<(Text, ObjectId)>,
}

impl World {
    pub fn new(seed: u64) -> World {
        World::with(seed, NetConfig::default())
    }

    pub fn with(seed: u64, config: NetConfig) -> World {
        World {
            plane: DataPlane::new(config, Draws::new(seed)),
            queue: Queue::new(),
            heard: Vec::new(),
            out: Out::default(),
            revision: 0,
            next: 0,
            pods: Vec::new(),
            slices: Vec::new(),
        }
    }

    /// `pods` web pods behind a Service `web:80`, each on a node of its own, started and listening.
    pub fn web(seed: u64, pods: usize, model: AppModel) -> World {
        let mut world = World::new(seed);
        world.plane.add_model(model);
        world.service("web", |_| {});
        world.pods_of("web", pods);
        world
    }

    /// Pods `APP-0` … on nodes `APP-node-0` …, started, all endpoints of the Service of that name.
    pub fn pods_of(&mut self, app: &str, pods: usize) {
        for n in 0..pods {
            let node = format!("{app}-node-{n}");
            self.node(&node, "a");
            self.pod(&format!("{app}-{n}"), app, &node, |_| {});
            self.start(&format!("{app}-{n}"));
        }
        let ready: Vec<_> = (0..pods).map(|n| format!("{app}-{n}")).collect();
        self.endpoints(app, &ready.join(" "));
    }

    fn object(&mut self, kind: Kind) -> ObjectId {
        let index = self.next;
        self.next += 1;
        ObjectId { kind, index }
    }

    pub fn change(&mut self, object: ObjectId, op: Op, row: Row) {
        self.revision += 1;
        let change = Change {
            revision: self.revision,
            time: self.queue.now(),
            object: Some(object),
            op,
            old: None,
            new: Some(row),
            event: None,
            cause: Cause::default(),
            renewed: None,
        };
        self.plane.on_change(&change, self.queue.now());
    }

    pub fn node(&mut self, name: &str, zone: &str) {
        let mut node = Node::default();
        node.meta.name = Text::from(name);
        node.meta.labels = [("topology.kubernetes.io/zone", zone)]
            .into_iter()
            .collect();
        node.status.capacity.cpu_milli = 8_000;
        node.status.capacity.memory = 16 << 30;
        let object = self.object(Kind::Node);
        self.change(object, Op::Create, node.into());
    }

    pub fn service(&mut self, name: &str, edit: impl FnOnce(&mut Service)) {
        let mut service = Service {
            meta: self.meta(name),
            ..Service::default()
        };
        service.cluster_ip = Some(self.next);
        service.ports = vec![ServicePort {
            port: 80,
            ..ServicePort::default()
        }];
        edit(&mut service);
        let object = self.object(Kind::Service);
        self.change(object, Op::Create, service.into());
    }

    fn meta(&self, name: &str) -> Meta {
        Meta {
            namespace: Text::from("default"),
            name: Text::from(name),
            uid: Uid(u64::from(self.next) + 1),
            ..Meta::default()
        }
    }

    pub fn pod(&mut self, name: &str, app: &str, node: &str, edit: impl FnOnce(&mut PodSpec)) {
        let port = ContainerPort {
            port: 8080,
            ..ContainerPort::default()
        };
        let mut spec = PodSpec {
            containers: vec![Container {
                name: Text::from("server"),
                ports: vec![port],
                ..Container::default()
            }],
            restart_policy: RestartPolicy::Always,
            ..PodSpec::default()
        };
        edit(&mut spec);
        let mut pod = Pod {
            meta: self.meta(name),
            spec: Arc::new(spec),
            node_name: Some(Text::from(node)),
            ..Pod::default()
        };
        pod.meta.labels = [("app", app)].into_iter().collect();
        pod.status.ip = Some(PodIp(self.next));
        let object = self.object(Kind::Pod);
        let pod = Arc::new(pod);
        self.pods.push((Text::from(name), pod.clone()));
        self.change(object, Op::Create, Row::Pod(pod));
    }

    pub fn row(&self, name: &str) -> Arc<Pod> {
        let (_, row) = self.pods.iter().rev().find(|(n, _)| n == name).unwrap();
        row.clone()
    }

    /// The name of a pod that is there or was.
    pub fn name_of(&self, pod: u32) -> Option<&Text> {
        let is = |row: &Pod| row.meta.uid == Uid(u64::from(pod) + 1);
        let (name, _) = self.pods.iter().find(|(_, row)| is(row))?;
        Some(name)
    }

    pub fn id(&self, name: &str) -> ContainerId {
        let index = self.row(name).meta.uid.0 - 1;
        ContainerId {
            pod: Id::new(u32::try_from(index).unwrap()),
            index: 0,
            attempt: 0,
        }
    }

    /// The API marks a pod for deletion.
    pub fn delete(&mut self, name: &str) {
        let mut pod = (*self.row(name)).clone();
        pod.meta.deletion = Some(crate::api::meta::Deletion {
            at: self.queue.now(),
            grace_s: 30,
        });
        let object = self.id(name).pod.into();
        self.change(object, Op::Update, pod.into());
    }

    /// The Service's EndpointSlice now says this: `web-0 web-1:t web-2:n` (terminating and serving,
    /// not ready).
    pub fn endpoints(&mut self, service: &str, text: &str) {
        let mut slice = EndpointSlice {
            meta: self.meta(&format!("{service}-1")),
            ..EndpointSlice::default()
        };
        slice.meta.labels = Labels::from_iter([("kubernetes.io/service-name", service)]);
        slice.ports = vec![EndpointPort {
            name: Text::default(),
            port: 8080,
            protocol: crate::api::container::Protocol::Tcp,
            app_protocol: Text::default(),
        }];
        for word in text.split_whitespace() {
            let (name, flag) = word.split_once(':').unwrap_or((word, "r"));
            let pod = self.row(name);
            slice.endpoints.push(Endpoint {
                ip: pod.status.ip.unwrap().0,
                pod_uid: pod.meta.uid,
                pod: pod.meta.name.clone(),
                hostname: Text::default(),
                node: pod.node_name.clone().unwrap(),
                zone: Text::from("a"),
                ready: flag == "r",
                serving: flag != "n",
                terminating: flag == "t",
                hints: None,
            });
        }
        let known = self.slices.iter().find(|(name, _)| name == service);
        let (object, op) = match known {
            Some((_, object)) => (*object, Op::Update),
            None => {
                let object = self.object(Kind::EndpointSlice);
                self.slices.push((Text::from(service), object));
                (object, Op::Create)
            }
        };
        self.change(object, op, slice.into());
    }

    pub fn start(&mut self, name: &str) {
        self.start_as(self.id(name), name);
    }

    pub fn start_as(&mut self, id: ContainerId, name: &str) {
        let (row, now) = (self.row(name), self.queue.now());
        let node = row.node_name.clone().unwrap_or_default();
        let place = self.plane.place_of_node(&node);
        self.plane.start(id, place, &row, now, &mut self.out);
        self.flush();
    }

    pub fn signal(&mut self, name: &str, signal: Signal) {
        let id = self.id(name);
        let now = self.queue.now();
        self.plane.signal(id, signal, now, &mut self.out);
        self.flush();
    }

    pub fn probe(&mut self, name: &str, n: u32, action: &Action) {
        let (id, now) = (self.id(name), self.queue.now());
        let which = ProbeKind::Readiness;
        self.plane.probe(id, which, n, action, now, &mut self.out);
        self.flush();
    }

    pub fn add(&mut self, traffic: &Traffic) {
        let now = self.queue.now();
        self.plane.add_traffic(traffic, now, &mut self.out);
        self.flush();
    }

    /// Calls the data plane with its out-struct and takes in what comes.
    pub fn with_out(&mut self, act: impl FnOnce(&mut DataPlane, Time, &mut Out)) {
        act(&mut self.plane, self.queue.now(), &mut self.out);
        self.flush();
    }

    fn flush(&mut self) {
        for (due, event) in self.out.timers.drain(..) {
            self.queue.at(due, event);
        }
        let now = self.queue.now();
        for event in self.out.runtime.drain(..) {
            self.heard.push((now, event));
        }
    }

    /// Lets time pass.
    pub fn until(&mut self, end: Time) {
        while let Some((now, _, event)) = self.queue.pop_due(end) {
            self.plane.on_event(event, now, &mut self.out);
            self.flush();
        }
        self.queue.advance_to(end);
    }

    /// Lets everything come to an end.
    pub fn rest(&mut self) {
        while let Some(due) = self.queue.peek_time() {
            self.until(due);
        }
        self.plane.finish();
    }

    pub fn tally(&self) -> &Tally {
        self.plane.tallies().next().unwrap().1
    }

    /// `ok 95, timeout 3 (dead endpoint still programmed, web-1)`: everything that came of the
    /// first Traffic.
    pub fn story(&self) -> String {
        let tally = self.tally();
        let mut words = vec![format!("ok {}", tally.ok)];
        for (failure, group) in tally.groups() {
            let pod = self.name_of(failure.pod);
            let pod = pod.map_or(String::new(), |name| format!(", {name}"));
            let (cause, class) = (failure.cause.name(), failure.class.name());
            words.push(format!("{} {cause} ({class}{pod})", group.count));
        }
        words.join("; ")
    }

    /// When the rules of `place` came to be of the newest revision; time passes meanwhile.
    pub fn programmed_at(&mut self, place: Place) -> Time {
        loop {
            let now = self.queue.now();
            if self.plane.net.programmed(place, now) == self.revision {
                return now;
            }
            self.until(now + ms(1));
        }
    }
}
