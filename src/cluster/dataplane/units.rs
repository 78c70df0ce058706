//! Containers of pods: started, probed, told to end, killed, and what becomes of their requests.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::client::Line;
use super::exchange::{NONE, Status};
use super::{DataPlane, Event, Out};
use crate::api::Pod as PodRow;
use crate::api::container::Container;
use crate::api::pod::RestartPolicy;
use crate::engine::draws::{Purpose, entity_key};
use crate::engine::{Dist, Time};
use crate::kubelet::RuntimeEvent;
use crate::kubelet::runtime::{Call as RuntimeCall, ContainerId, Signal, container_of};
use crate::load::client::Pool;
use crate::load::instance::{self, EXIT_SIGKILL, Ending, Instance};
use crate::load::tally::{Cause, Class};
use crate::load::{AppModel, Key, Ports};
use crate::net::{End, Place};
use crate::store::Id;

const STARTUP: Purpose = Purpose::new("load/startup");
const EXIT: Purpose = Purpose::new("load/exit");
const NEED: Purpose = Purpose::new("load/need");

/// A pod that somebody may have sent a request to, or may yet.
#[derive(Clone, Debug, Default)]
pub struct Pod {
    /// Its deletion was asked for, or it is gone from the API.
    pub deleting: bool,
    /// Where it was last.
    pub whereabouts: super::told::Whereabouts,
    /// Where its processes were started, if any were.
    pub home: Option<Place>,
    /// How many pods had got an address when it had its own, itself included.
    pub addressed: u32,
    /// Its processes.
    pub units: SmallVec<[Key; 1]>,
}

/// A container that runs.
#[derive(Debug)]
pub struct Unit {
    /// Its name at the runtime boundary.
    pub id: ContainerId,
    /// Where.
    pub place: Place,
    /// The process.
    pub instance: Instance,
    /// CPU request in thousandths of a core.
    pub weight_milli: u32,
    /// CPU limit in thousandths of a core, 0 without one.
    pub limit_milli: u32,
    /// `oom_score_adj`: how readily the kernel ends it when the node's memory is used up.
    pub oom_adjust: i64,
    /// The volume that it writes to, by its place in the spec, and whether that is in memory; none
    /// is its own layer.
    pub writes_to: Option<(u16, bool)>,
    /// Where it listens.
    pub ports: Ports,
    /// Senders of the model's calls.
    pub calls: Arc<[u32]>,
    /// The connections of each call.
    pub pools: Vec<Pool<Line>>,
    /// What it holds, in the order of acceptance.
    pub first: Key,
    /// See `first`.
    pub last: Key,
    /// When its node lost power.
    pub vanished_at: Time,
    /// When the pending [`Event::Life`] is due.
    pub due: Time,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Exit code.
    pub code: u8,
    /// Killed by the kernel for its memory.
    pub oom: bool,
}

/// The kernel killed it for its memory.
pub const OUT_OF_MEMORY: Ended = Ended {
    code: EXIT_SIGKILL,
    oom: true,
};

/// The defaults: of a server, of a container that is meant to end, of an init container.
pub(super) fn default_models() -> [Arc<AppModel>; 3] {
    let job = Dist::LogNormal {
        p50: Duration::from_secs(10),
        p99: Duration::from_secs(30),
    };
    let init = Dist::LogNormal {
        p50: Duration::from_millis(500),
        p99: Duration::from_secs(2),
    };
    [
        AppModel::default(),
        AppModel::batch(job),
        AppModel::batch(init),
    ]
    .map(Arc::new)
}

/// Whether some process of the pod serves.
pub(super) fn alive(
    pods: &[Option<Pod>],
    units: &crate::load::Slab<Unit>,
    pod: u32,
    now: Time,
) -> bool {
    let pod = pods.get(pod as usize).and_then(Option::as_ref);
    pod.is_some_and(|pod| {
        let mut found = pod.units.iter().filter_map(|key| units.get(*key));
        found.any(|unit| unit.instance.listens(now))
    })
}

impl DataPlane {
    /// A pod was created, changed or removed.
    pub(super) fn pod_changed(&mut self, number: u32, row: &PodRow, gone: bool) {
        let at = number as usize;
        if self.pods.len() <= at {
            self.pods.resize(at + 1, None);
        }
        let pod = self.pods[at].get_or_insert_default();
        pod.deleting |= gone || row.meta.deleting();
        let before = pod.whereabouts.ip;
        pod.whereabouts.learn(row, gone, pod.home, &self.net);
        let ip = pod.whereabouts.ip;
        if ip != before {
            self.addressed += 1;
            pod.addressed = self.addressed;
            if let Some(by_ip) = &mut self.by_ip {
                by_ip.insert(ip, number);
            }
        }
        if gone && pod.units.is_empty() && self.senders.is_empty() {
            // Nobody who sends anything can ever have met it.
            self.pods[at] = None;
        } else if gone {
            let name = (row.meta.namespace.clone(), row.meta.name.clone());
            self.gone.insert(number, name);
        }
    }

    /// How a container behaves, and the senders of its calls.
    fn model_of(&mut self, row: &PodRow, index: u16) -> (Arc<AppModel>, Arc<[u32]>) {
        let spec = &row.spec;
        let name = container_of(spec, index).map(|c| &c.name);
        let first = usize::from(index) == spec.init_containers.len();
        let found = self.models.iter().position(|model| {
            let container = match &model.container {
                Some(container) => Some(container) == name,
                None => first,
            };
            container
                && model.namespace == row.meta.namespace
                && model.selector.matches(&row.meta.labels)
        });
        let Some(found) = found else {
            let container = container_of(spec, index);
            let sidecar = container.is_some_and(|c| c.restart_always);
            let policy = container.and_then(|c| c.restart_policy);
            let init = usize::from(index) < spec.init_containers.len();
            let model = match (init, sidecar, policy.unwrap_or(spec.restart_policy)) {
                (true, false, _) => &self.default_init,
                (false, _, RestartPolicy::OnFailure | RestartPolicy::Never) => &self.default_batch,
                _ => &self.default_model,
            };
            return (model.clone(), Arc::default());
        };
        let model = self.models[found].clone();
        if self.calls.len() <= found {
            self.calls.resize(found + 1, None);
        }
        if self.calls[found].is_none() {
            let calls = model.request.calls.iter().enumerate();
            let senders: Arc<[u32]> = calls
                .map(|(n, call)| self.add_call(&model.name, &model.namespace, n, call))
                .collect();
            self.calls[found] = Some(senders);
        }
        let senders = self.calls[found].clone();
        (model, senders.unwrap_or_default())
    }

    /// The time that the model of a container gives its image's pull, if it does.
    pub fn image_pull(&mut self, row: &PodRow, index: u16) -> Option<Dist> {
        self.model_of(row, index).0.image_pull.clone()
    }

    /// The model of a container, and the kinds of clients that make its calls.
    pub fn model_and_calls(&mut self, row: &PodRow, index: u16) -> (Arc<AppModel>, Arc<[u32]>) {
        self.model_of(row, index)
    }

    /// A container's process was started on the pod's node, which is at this place.
    pub fn start(&mut self, id: ContainerId, place: Place, row: &PodRow, now: Time, out: &mut Out) {
        self.pod_changed(id.pod.0, row, false);
        let (model, calls) = self.model_of(row, id.index);
        let instance = self.instance(id, row, model, now);
        let ports = Ports::of(&instance.model, &row.spec, id.index);
        let milli = |c: i64| u32::try_from(c).unwrap_or(0);
        let container = container_of(&row.spec, id.index);
        let unit = Unit {
            id,
            weight_milli: container.map_or(0, |c| milli(c.requests.cpu_milli)),
            limit_milli: container.map_or(0, |c| milli(c.limits.cpu_milli)),
            oom_adjust: self.oom_adjust(row, id.index, place),
            writes_to: (instance.model.disk.volume.as_ref()).and_then(|name| {
                let at = row
                    .spec
                    .volumes
                    .iter()
                    .position(|v| v.name == name.as_str())?;
                let at = u16::try_from(at).ok()?;
                Some((at, row.spec.in_memory(at)))
            }),
            place,
            ports,
            pools: calls.iter().map(|_| Pool::default()).collect(),
            calls,
            first: Key::NONE,
            last: Key::NONE,
            vanished_at: Time::MAX,
            due: Time::MAX,
            instance,
        };
        self.expect_use(&unit, true, out);
        let key = self.units.insert(unit);
        if self.at.len() <= place.index() {
            self.at.resize(place.index() + 1, SmallVec::new());
        }
        self.at[place.index()].push(key);
        if let Some(pod) = &mut self.pods[id.pod.index()] {
            pod.home = Some(place);
            pod.units.push(key);
        }
        self.watch_life(key, now, out);
    }

    /// The place of a node, which it keeps for good.
    pub fn place_of_node(&mut self, node: &str) -> Place {
        let known = self.net.place(node);
        known.unwrap_or_else(|| self.net.topology.node(node, ""))
    }

    fn instance(
        &mut self,
        id: ContainerId,
        row: &PodRow,
        model: Arc<AppModel>,
        now: Time,
    ) -> Instance {
        let empty = Container::default();
        let container = container_of(&row.spec, id.index).unwrap_or(&empty);
        let entity = entity_key(&[&row.meta.namespace, &row.meta.name, &container.name]);
        let attempt = u64::from(id.attempt);
        let startup = model
            .startup
            .sample(self.draws.unit(STARTUP, entity, attempt));
        // What is only meant to run and end never listens.
        let batch = [&self.default_batch, &self.default_init];
        let idle = self.idle.contains(&id.pod.0);
        let listens_at = match idle || batch.iter().any(|b| Arc::ptr_eq(b, &model)) {
            true => Time::MAX,
            false => now + startup,
        };
        let exits_at = match &model.exit {
            None => Time::MAX,
            Some(exit) => {
                let span = exit.after.sample(self.draws.unit(EXIT, entity, attempt));
                match exit.from_listening {
                    true => listens_at + span,
                    false => now + span,
                }
            }
        };
        let positive = |amount: i64| u64::try_from(amount).ok().filter(|a| *a > 0);
        // Requests are set with some room: without a model a process uses three quarters of its
        // own, and of its limit where that is all there is.
        let usual = positive(container.requests.memory)
            .or(positive(container.limits.memory))
            .map(|b| b / 4 * 3);
        let memory_base = model.memory.base.or(usual);
        Instance {
            group: Key::NONE,
            entity: self.draws.u64(STARTUP, entity, attempt),
            stage: instance::Stage::Starting,
            frozen: false,
            terminating: false,
            started: now,
            listens_at,
            exits_at,
            drains_at: Time::MAX,
            drained_at: Time::MAX,
            memory_limit: positive(container.limits.memory),
            memory_base: memory_base.unwrap_or(64 << 20),
            ballast: 0,
            active: 0,
            queue: std::collections::VecDeque::new(),
            served: 0,
            model,
        }
    }

    /// The process of a container that was started, while it runs.
    pub(super) fn unit_of(&self, id: ContainerId) -> Option<Key> {
        let pod = self.pods.get(id.pod.index())?.as_ref()?;
        let mut keys = pod.units.iter().copied();
        keys.find(|key| {
            self.units
                .get(*key)
                .is_some_and(|u| u.id == id && u.instance.stage != instance::Stage::Vanished)
        })
    }

    /// A signal reaches a container; of one that has ended nothing comes.
    pub fn signal(&mut self, id: ContainerId, signal: Signal, now: Time, out: &mut Out) {
        let Some(key) = self.unit_of(id) else {
            return;
        };
        let ending = match signal {
            Signal::Kill => Ending::Exit(EXIT_SIGKILL),
            Signal::Term => self.units[key].instance.terminate(now),
        };
        match ending {
            Ending::Exit(code) => self.end_unit(key, Ended { code, oom: false }, now, out),
            Ending::GoesOn => self.watch_life(key, now, out),
        }
    }

    /// Answers the requests of the runtime boundary that concern running processes: signals,
    /// probes, hooks, memory. Sandboxes, pulls and the time that starting and removing take are the
    /// backend's; it tells [`DataPlane::start`] and [`DataPlane::remove_pod`] when they are done.
    pub fn on_call(&mut self, node: &str, call: &RuntimeCall, now: Time, out: &mut Out) {
        match call {
            RuntimeCall::Signal { container, signal } => {
                self.signal(*container, *signal, now, out);
            }
            RuntimeCall::Probe {
                container,
                which,
                n,
                ..
            } => {
                if let Some(action) = call.action() {
                    self.probe(*container, *which, *n, action, now, out);
                }
            }
            RuntimeCall::Hook {
                container, hook, ..
            } => {
                if let Some(action) = call.action() {
                    self.hook(*container, *hook, action, now, out);
                }
            }
            RuntimeCall::RemovePod { pod } => self.remove_pod(*pod, now, out),
            RuntimeCall::Stats => self.stats(node, now, out),
            RuntimeCall::WatchMemory {
                floor_kib,
                most_processes,
            } => self.watch_memory(node, (*floor_kib, *most_processes), out),
            RuntimeCall::StartSandbox { .. }
            | RuntimeCall::PullImage { .. }
            | RuntimeCall::StartContainer { .. } => {}
        }
    }

    /// Containers of this pod that are started from now on only sleep and never listen, or are
    /// themselves again.
    pub fn set_idle(&mut self, pod: Id<PodRow>, idle: bool) {
        if idle {
            self.idle.insert(pod.0);
        } else {
            self.idle.remove(&pod.0);
        }
    }

    /// Whether [`DataPlane::set_idle`] said so.
    pub fn is_idle(&self, pod: Id<PodRow>) -> bool {
        self.idle.contains(&pod.0)
    }

    /// Kills what runs in a pod, without telling about it.
    pub fn remove_pod(&mut self, pod: Id<PodRow>, now: Time, out: &mut Out) {
        let Some(Some(found)) = self.pods.get(pod.index()) else {
            return;
        };
        for key in found.units.clone() {
            self.drop_unit(key, now, out);
        }
    }

    /// A process ended: its kubelet is told, its clients see a reset.
    pub(super) fn end_unit(&mut self, key: Key, how: Ended, now: Time, out: &mut Out) {
        let container = self.units[key].id;
        out.runtime.push(RuntimeEvent::Exited {
            container,
            code: how.code,
            oom: how.oom,
        });
        self.drop_unit(key, now, out);
    }

    fn drop_unit(&mut self, key: Key, now: Time, out: &mut Out) {
        let Some(unit) = self.units.get(key) else {
            return;
        };
        let class = match unit.instance.terminating {
            true => Class::SigtermRace,
            false => Class::Killed,
        };
        let group = unit.instance.group;
        // From now on nobody can reach it, so that what follows cannot come back to it.
        self.units[key].instance.stage = instance::Stage::Draining;
        for held in self.held_by(key) {
            self.abandon_child(held);
            let exchange = &mut self.exchanges[held];
            exchange.held = false;
            self.answer(held, Status::Failed(Cause::Reset, class), now, out);
        }
        self.cpu.remove(group, now, &mut self.wakes);
        self.push_wakes(out);
        self.forget_unit(key);
    }

    /// Takes a process out of all tables.
    pub(super) fn forget_unit(&mut self, key: Key) {
        let Some(unit) = self.units.remove(key) else {
            return;
        };
        self.expect_use(&unit, false, &mut Out::default());
        if let Some(Some(pod)) = self.pods.get_mut(unit.id.pod.index()) {
            pod.units.retain(|other| *other != key);
        }
        if let Some(units) = self.at.get_mut(unit.place.index()) {
            units.retain(|other| *other != key);
        }
    }

    /// What a process holds, in the order of acceptance.
    pub(super) fn held_by(&self, key: Key) -> Vec<Key> {
        let mut held = Vec::new();
        let mut next = self.units[key].first;
        while let Some(exchange) = self.exchanges.get(next) {
            held.push(next);
            next = exchange.after;
        }
        held
    }

    pub(super) fn abandon_child(&mut self, held: Key) {
        let child = std::mem::replace(&mut self.exchanges[held].child, Key::NONE);
        if let Some(exchange) = self.exchanges.get(child) {
            let sender = exchange.sender;
            self.senders[sender as usize].tally.abandon();
        }
        self.abandon(child);
    }

    /// Something may be due in a process's life.
    pub(super) fn life(&mut self, key: Key, now: Time, out: &mut Out) {
        let Some(unit) = self.units.get_mut(key) else {
            return;
        };
        if unit.due != now || unit.instance.stage == instance::Stage::Vanished {
            return;
        }
        unit.due = Time::MAX;
        let instance = &mut unit.instance;
        if instance.out_of_memory(now) {
            return self.end_unit(key, OUT_OF_MEMORY, now, out);
        }
        let ended = |code| Ended { code, oom: false };
        if instance.exits_at <= now {
            let code = instance.model.exit.as_ref().map_or(0, |e| e.code);
            return self.end_unit(key, ended(code), now, out);
        }
        if instance.drained_at <= now {
            return self.end_unit(key, ended(0), now, out);
        }
        if instance.drains_at <= now
            && let Ending::Exit(code) = instance.drain(Duration::MAX, now)
        {
            return self.end_unit(key, ended(code), now, out);
        }
        if instance.stage == instance::Stage::Starting && instance.listens_at <= now {
            instance.stage = instance::Stage::Serving;
            if !self.needs_are_there(key, now) {
                return self.end_unit(key, ended(1), now, out);
            }
        }
        self.watch_life(key, now, out);
    }

    /// Makes sure that an event comes when the process next changes by itself.
    fn watch_life(&mut self, key: Key, now: Time, out: &mut Out) {
        let unit = &mut self.units[key];
        if let Some(at) = unit.instance.next_change(now)
            && at != unit.due
        {
            unit.due = at.max(now);
            out.at(unit.due, Event::Life(key));
        }
    }

    /// Whether every Service that a process needs to come up accepts a connection.
    fn needs_are_there(&mut self, key: Key, now: Time) -> bool {
        let unit = &self.units[key];
        let model = unit.instance.model.clone();
        let from = End::pod(unit.place, unit.id.pod.0);
        let entity = unit.instance.entity;
        (0u64..).zip(&model.needs).all(|(n, need)| {
            let target = self.net.target(need, &model.namespace);
            let draw = self.draws.u64(NEED, entity, n);
            let address = u64::from(from.pod);
            let Ok(choice) = self.net.connect(from, target, address, draw, now) else {
                return false;
            };
            let to = choice.endpoint;
            !self.dark.contains(&to.place)
                && !self.net.links().cut(from, End::pod(to.place, to.pod))
                && (to.pod == NONE || alive(&self.pods, &self.units, to.pod, now))
        })
    }

    /// A draining process that has nothing left exits.
    pub(super) fn drained(&mut self, key: Key, now: Time, out: &mut Out) {
        let done = self.units.get(key).is_some_and(|unit| {
            let instance = &unit.instance;
            instance.stage == instance::Stage::Draining
                && instance.active == 0
                && instance.queue.is_empty()
        });
        if done {
            self.end_unit(
                key,
                Ended {
                    code: 0,
                    oom: false,
                },
                now,
                out,
            );
        }
    }

    /// The cgroup of a process, made when it first has work.
    #[inline]
    pub(super) fn group_of(&mut self, key: Key) -> Key {
        let unit = &mut self.units[key];
        if unit.instance.group == Key::NONE {
            let limit = (unit.limit_milli > 0).then_some(u64::from(unit.limit_milli));
            let weight = u64::from(unit.weight_milli);
            unit.instance.group = self.cpu.add(unit.place.0, weight, limit);
        }
        unit.instance.group
    }

    /// Stops a container's threads without telling anybody, or lets them go on.
    pub fn freeze(&mut self, id: ContainerId, frozen: bool, now: Time, out: &mut Out) {
        if let Some(key) = self.unit_of(id) {
            self.units[key].instance.frozen = frozen;
            let group = self.group_of(key);
            self.cpu.freeze(group, frozen, now, &mut self.wakes);
            self.push_wakes(out);
        }
    }
}
