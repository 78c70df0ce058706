//! An AppModel as what the built-in server does, with everything resolved.

use std::sync::Arc;

use super::Planner;
use crate::api::Pod;
use crate::api::container::Container;
use crate::api::probe::Action;
use crate::backend::linux::workload::peer::{Call, Target};
use crate::backend::linux::workload::{Exit, Workload};
use crate::engine::{Draws, Purpose, entity_key};
use crate::kubelet::runtime::{ContainerId, container_of};
use crate::load::model::MemoryModel;
use crate::load::ports::asked;
use crate::load::{AppModel, Ports};
use crate::net::dns::{PortRef, split};

/// The names under which the simulation draws the same spans: a container starts as fast in a real
/// run as in a simulated one of the same seed.
const STARTUP: Purpose = Purpose::new("load/startup");
const EXIT: Purpose = Purpose::new("load/exit");

/// Where a container without ports listens whose pod's Services and probes name none either.
const FALLBACK_PORTS: [u16; 2] = [80, 8080];

/// Memory of a container without request, limit or model: as in the simulation.
const USUAL_MEMORY: u64 = 64 << 20;

impl Planner {
    /// What the built-in server does in the place of a container.
    pub fn workload(
        &mut self,
        id: ContainerId,
        row: &Pod,
        model: &AppModel,
        idle: bool,
    ) -> Workload {
        let empty = Container::default();
        let container = container_of(&row.spec, id.index).unwrap_or(&empty);
        let draws = Draws::new(self.seed);
        let entity = entity_key(&[&row.meta.namespace, &row.meta.name, &container.name]);
        let attempt = u64::from(id.attempt);
        let startup = model.startup.sample(draws.unit(STARTUP, entity, attempt));
        let exit = model.exit.as_ref().map(|exit| Exit {
            after: exit.after.sample(draws.unit(EXIT, entity, attempt)),
            from_listening: exit.from_listening,
            code: exit.code,
        });
        // What is only meant to run and end never listens.
        let batch = &*model.name == "default-batch";
        let ports = match idle || batch {
            true => Vec::new(),
            false => self.ports(model, row, id.index),
        };
        let cores = self.cores_for(row, container);
        Workload {
            seed: self.seed,
            entity: draws.u64(STARTUP, entity, attempt),
            who: row.meta.full_name(),
            control: format!("{}/{}", row.meta.uid, container.name),
            ports,
            startup,
            exit: exit.filter(|_| !idle),
            on_sigterm: model.on_sigterm,
            warmup: model.warmup,
            cpu: model.request.cpu.clone(),
            threads: model.request.threads,
            cores,
            wait: model.request.wait.clone(),
            concurrency: model.request.concurrency,
            queue: model.request.queue,
            calls: self.note_calls(model),
            errors_per_million: model.request.errors_per_million,
            response_bytes: usize::try_from(model.request.response_bytes).unwrap_or(0),
            shared_probe: model.probes.share.then(|| model.probes.cpu.clone()),
            dedicated_probe: model.probes.dedicated.clone(),
            readiness: readiness_path(model, container),
            hook: model.hook.clone(),
            memory: memory(model, container),
            needs: self.targets(&model.needs, &model.namespace),
            cpu_permille: self.cpu_permille,
        }
    }

    /// How many of the host's cores a container may keep busy: by its limit and its node's size, as
    /// scaled, and by what there is.
    fn cores_for(&self, row: &Pod, container: &Container) -> u32 {
        let node = row.node_name.as_ref().and_then(|node| self.nodes.get(node));
        let node = node.map_or(0, |node| node.status.capacity.cpu_milli);
        let limits = [container.limits.cpu_milli, node];
        let milli = limits.into_iter().filter(|milli| *milli > 0).min();
        let scaled = milli.unwrap_or(1000) * i64::from(self.cpu_permille) / 1000;
        let host = std::thread::available_parallelism().map_or(1, |n| n.get());
        let host = u32::try_from(host).unwrap_or(1);
        let cores = u32::try_from((scaled + 999) / 1000).unwrap_or(1);
        cores.clamp(1, host)
    }

    /// Where a container listens, as the simulation has it; where that is "wherever nobody else
    /// does", on what its probes and Services name.
    fn ports(&self, model: &AppModel, row: &Pod, index: u16) -> Vec<u16> {
        match (
            Ports::of(model, &row.spec, index),
            container_of(&row.spec, index),
        ) {
            (Ports::Only(ports), _) => ports.to_vec(),
            (Ports::AllBut(others), Some(container)) => {
                let mut ports = self.guessed(container, row);
                ports.retain(|port| !others.contains(port));
                ports.sort_unstable();
                ports.dedup();
                ports
            }
            (Ports::AllBut(_), None) => Vec::new(),
        }
    }

    fn guessed(&self, container: &Container, row: &Pod) -> Vec<u16> {
        let probes = [
            &container.startup,
            &container.readiness,
            &container.liveness,
        ];
        let probes = probes.into_iter().flatten();
        let mut ports: Vec<u16> = (probes.filter_map(|probe| asked(&probe.action)))
            .filter(|port| *port > 0)
            .collect();
        for ((namespace, _), service) in &self.services {
            let selects = !service.selector.is_empty()
                && service
                    .selector
                    .iter()
                    .all(|(k, v)| row.meta.labels.get(k) == Some(v));
            if *namespace == row.meta.namespace && selects {
                ports.extend(service.ports.iter().filter_map(target_port));
            }
        }
        if ports.is_empty() {
            ports.extend(FALLBACK_PORTS);
        }
        ports
    }

    /// Which kinds of clients make a model's calls.
    pub fn know_senders(&mut self, model: &AppModel, senders: &Arc<[u32]>) {
        let key = (model.namespace.clone(), model.name.clone());
        self.senders.insert(key, senders.clone());
    }

    /// The calls; what they cannot do here is noted.
    fn note_calls(&mut self, model: &AppModel) -> Vec<Call> {
        for call in &model.request.calls {
            let name = format!("calls of {} to {}", model.name, call.service);
            if call.client.multiplex {
                let lost = "HTTP/1.1 connections are not shared by requests";
                self.lost.insert(format!("{name}: {lost}"));
            }
        }
        self.calls(model)
    }

    fn calls(&self, model: &AppModel) -> Vec<Call> {
        let key = (model.namespace.clone(), model.name.clone());
        let senders = self.senders.get(&key).map(|senders| &senders[..]);
        let calls = model.request.calls.iter().enumerate();
        let sender = |n: usize| {
            let number = senders.and_then(|senders| senders.get(n)).copied();
            number.and_then(|number| u16::try_from(number).ok())
        };
        calls
            .map(|(n, call)| Call {
                sender: sender(n).unwrap_or(u16::MAX),
                target: self.target(&call.service, &model.namespace),
                client: call.client.clone(),
                optional: call.optional,
            })
            .collect()
    }

    fn targets(&self, names: &[crate::api::Text], namespace: &str) -> Vec<Target> {
        names
            .iter()
            .map(|name| self.target(name, namespace))
            .collect()
    }

    /// `[namespace/]name[:port]` as a host name and a port.
    fn target(&self, written: &str, namespace: &str) -> Target {
        let (namespace, name, port) = split(written, namespace);
        let key = (namespace.into(), name.into());
        let ports = self
            .services
            .get(&key)
            .map(|service| service.ports.as_slice());
        let ports = ports.unwrap_or_default();
        let port = match &port {
            PortRef::Number(number) => *number,
            PortRef::First => ports.first().map_or(80, |p| p.port),
            PortRef::Name(wanted) => ports
                .iter()
                .find(|p| p.name == *wanted)
                .map_or(80, |p| p.port),
        };
        let host = match name.contains('.') {
            true => name.to_owned(),
            false => format!("{name}.{namespace}.svc.{}", crate::net::dns::CLUSTER_DOMAIN),
        };
        Target { host, port }
    }
}

fn target_port(port: &crate::api::service::ServicePort) -> Option<u16> {
    match &port.target {
        crate::api::service::TargetPort::Number(number) => Some(*number),
        crate::api::service::TargetPort::Name(_) => None,
    }
}

fn readiness_path(model: &AppModel, container: &Container) -> Option<String> {
    let probe = container
        .readiness
        .as_ref()
        .filter(|_| model.probes.readiness_calls)?;
    match &probe.action {
        Action::HttpGet { path, .. } => Some(path.to_string()),
        _ => None,
    }
}

/// The base is the model's, else three quarters of the request or limit, as in the simulation.
fn memory(model: &AppModel, container: &Container) -> MemoryModel {
    let positive = |amount: i64| u64::try_from(amount).ok().filter(|a| *a > 0);
    let usual = positive(container.requests.memory)
        .or(positive(container.limits.memory))
        .map(|bytes| bytes / 4 * 3);
    MemoryModel {
        base: Some(model.memory.base.or(usual).unwrap_or(USUAL_MEMORY)),
        ..model.memory
    }
}
