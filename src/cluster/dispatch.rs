//! Who handles which event, and where the consequences go.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::api_server::{ApiServer, Committed, Sender};
use super::control_plane::{ControlPlane, Ruling};
use super::dataplane::DataPlane;
use super::event::Event;
use super::machine::{Homes, Machine};
use super::process::Process;
use super::runtime::{Asked, Containers, Request, WATCHED};
use super::timeline::Timeline;
use crate::api::{Kind, Node, Pod, Text};
use crate::client::runner::Driven;
use crate::client::{Audience, Outbox, Send};
use crate::engine::{Draws, Time, Turn, World};
use crate::kubelet::runtime::{About, Call, RuntimeRequest};
use crate::kubelet::{ContainerId, Cx, Kubelet, RuntimeEvent, StartOutcome};
use crate::load::Key;
use crate::scenario::image_matches;
use crate::sched::Scheduler;
use crate::store::{ApiError, Change, Cursor, Id, Op, Origin};

/// The whole cluster.
pub struct Cluster {
    /// The API server and its storage.
    pub api: ApiServer,
    /// Named draws of this run.
    pub draws: Draws,
    /// Network and load.
    pub data: DataPlane,
    /// What the scenario does, and when.
    pub timeline: Timeline,
    /// Machines by node number; `None` where a Node object has no machine (never existed).
    pub machines: Vec<Option<Machine>>,
    pub(super) manager: Process,
    pub(super) controllers: Vec<Box<dyn Driven>>,
    /// What each of them has handlers for.
    pub(super) audience: Audience,
    pub(super) scheduler_process: Process,
    pub(super) scheduler: Scheduler,
    /// Who answers for what happens inside containers.
    pub(super) containers: Containers,
    pub(super) node_ids: FxHashMap<Text, u32>,
    /// Which machine runs a pod's containers, also after the pod is gone from the API.
    pub(super) homes: Homes,
    /// The machine that each pod was bound to.
    pub(super) bound: Homes,
    /// The log up to which consequences were passed on.
    pub(super) settled: Cursor,
    /// What was asked before the first event: of a real backend, to watch its nodes.
    pub(super) first: Vec<Request>,
    pub(super) requests: Vec<RuntimeRequest>,
    /// Empty; its room is used again.
    pub(super) kubelet_out: Outbox<crate::kubelet::Event>,
    /// The same.
    pub(super) scheduler_out: Outbox<crate::sched::Event>,
    pub(super) data_out: super::dataplane::Out,
    /// Rules of the network in force, with what they were made from.
    pub(super) rules: Vec<(crate::fault::LinkRule, crate::net::RuleId)>,
    /// Loads in force, with their numbers.
    pub(super) strains: Vec<(crate::fault::Strain, u32)>,
    pub(super) next_strain: u32,
    /// Lookups that go wrong.
    pub(super) dns_rules: Vec<(crate::fault::DnsRule, crate::net::RuleId)>,
    /// Proxies that tamper with requests, with their numbers.
    pub(super) http_rules: Vec<(crate::fault::HttpRule, u32)>,
    /// Containers whose start was asked for.
    pub(super) starting: FxHashMap<ContainerId, Arc<Pod>>,
    /// By pool; the empty name is for nodes of none.
    pub(super) missing_images: Vec<Text>,
    pub(super) kubelet_configs: FxHashMap<Text, Arc<crate::kubelet::KubeletConfig>>,
    /// What begins when the initial workloads serve.
    pub(super) traffic: Vec<crate::load::Traffic>,
    /// Pods that are created in the course of the run.
    pub(super) feeds: Vec<super::feed::Feed>,
    /// The control plane's processes, and what is wrong with them.
    pub(super) control: ControlPlane,
    /// What the resource metrics API answers from.
    pub(super) metrics: super::metrics_server::MetricsServer,
    /// Whom the API server asks before it stores something.
    pub(super) webhooks: super::webhooks::Webhooks,
}

/// Entries that the log may hold before what everybody has read is forgotten.
/// They go while they are still in the processor's cache.
const LOG_SLACK: usize = 4;

/// The events and requests of one dispatch.
pub type Consequences<'a, 'b> = &'a mut Turn<'b, Event, Request>;

impl World for Cluster {
    type Event = Event;
    type Request = Request;

    fn dispatch(&mut self, event: Event, turn: &mut Turn<'_, Event, Request>) {
        // Observers have read everything up to the last event.
        if self.api.store.log().len() > LOG_SLACK {
            self.manager.catch_up(self.api.store.log(), turn.now);
            self.scheduler_process
                .catch_up(self.api.store.log(), turn.now);
            let slowest = self.slowest();
            self.api.store.log_mut().compact(slowest);
        }
        if self.control.touched && (self.holds(event) || self.split(event, turn)) {
            return;
        }
        match event {
            Event::Arrive(number) => self.arrive(number, turn),
            Event::Renew(key) => self.renewal_arrives(key, turn),
            Event::Answer(number) => self.answer(number, turn),
            Event::ToManager => self.deliver_to_manager(turn),
            Event::ToScheduler => self.deliver_to_scheduler(turn),
            Event::ToKubelet(node) => self.deliver_to_kubelet(node, turn),
            Event::ToBoth => self.deliver_to_both(turn),
            Event::ToAll(node) => self.deliver_to_all(node, turn),
            Event::Controller(which, event) => {
                let mut out = Outbox::default();
                self.manager.catch_up(self.api.store.log(), turn.now);
                let controller = &mut self.controllers[usize::from(which)];
                controller.on_event(event, &self.manager.view, turn.now, &self.draws, &mut out);
                self.controller_wants(which, out, turn);
            }
            Event::Scheduler(event) => {
                let mut out = std::mem::take(&mut self.scheduler_out);
                self.scheduler_process
                    .catch_up(self.api.store.log(), turn.now);
                let view = &self.scheduler_process.view;
                self.scheduler.on_event(event, view, turn.now, &mut out);
                self.scheduler_wants(out, turn);
            }
            Event::Kubelet(node, event) => {
                self.kubelet(node, turn, |kubelet, cx| kubelet.on_event(event, cx));
            }
            Event::Runtime(event) => self.runtime(event, turn),
            Event::Data(event) => {
                self.data.on_event(event, turn.now, &mut self.data_out);
                self.drain_data(turn);
                return;
            }
            Event::Programmed(place, revision) => {
                return self.data.told_programmed(place, revision, turn.now);
            }
            Event::Users(event) => return self.data.told(event, turn.now),
            Event::Settle => self.settle_down(turn),
            Event::Step(step) => self.begin_step(step, turn),
            Event::Kubectl(step) => self.go_on(step, turn),
            Event::Heal(fault) => self.heal(fault, turn),
            Event::Boot(node) => self.boot(node, turn),
            Event::Feed(stream) => self.feed_due(stream, turn),
            Event::Housekeeping => return self.housekeep(turn),
            Event::Scrape | Event::Holds(..) | Event::Used(..) => self.meter(event, turn.now),
            Event::Election {
                which,
                replica,
                number,
            } => self.election((which, replica, number), turn),
            Event::Reconnect(watcher) => self.reconnect(watcher, turn),
            Event::ControlLook => self.look_at_watches(turn),
            Event::Inject(number) => self.inject(number, turn),
            Event::Webhook(question) => self.webhook_answered(question, turn),
        }
        self.settle(turn);
    }
}

impl Cluster {
    pub(super) fn arrive(&mut self, number: u32, turn: Consequences<'_, '_>) {
        if !self.request_passes(number) {
            let back = self.api.lose(number, turn.now);
            turn.at(back, Event::Answer(number));
            return;
        }
        if self.control.touched && !self.admitted(number, turn) {
            return;
        }
        if self.webhooks.asked && !self.reviewed(number, turn) {
            return;
        }
        let Some(committed) = self.api.commit(number, turn.now) else {
            // Its sender has stopped before it was sent.
            return self.api.forget(number);
        };
        match self.is_awaited(committed, turn) {
            true => turn.at(committed.back, Event::Answer(number)),
            false => self.api.forget(number),
        }
    }

    /// Whether the sender of a request does anything about its answer: of those that take no notice
    /// there are too many to have an event each.
    fn is_awaited(&mut self, committed: Committed, turn: Consequences<'_, '_>) -> bool {
        let Committed {
            from,
            token,
            back,
            told,
        } = committed;
        match from {
            Sender::Feed => false,
            Sender::Scheduler => !told,
            Sender::Kubelet(node) if told => {
                let mut awaited = false;
                self.kubelet(node, turn, |kubelet, cx| {
                    awaited = kubelet.taken(token, back, cx);
                });
                awaited
            }
            _ => true,
        }
    }

    /// Whether a request's sender reaches the API server.
    fn request_passes(&self, number: u32) -> bool {
        match self.api.sender(number) {
            Some(Sender::Kubelet(node)) => {
                self.machine(node).is_some_and(|m| m.powered && m.reachable)
            }
            Some(_) => true,
            None => false,
        }
    }

    /// A renewal of a lease arrives; while it succeeds the kubelet need not be asked.
    fn renewal_arrives(&mut self, key: Key, turn: Consequences<'_, '_>) {
        let now = turn.now;
        let Some(node) = self.api.renewal(key).map(|renewing| renewing.renew.machine) else {
            return;
        };
        let arrives = self.api.reached_from(node);
        debug_assert_eq!(
            arrives,
            self.machine(node).is_some_and(|m| m.powered && m.reachable),
            "what is kept of a machine's reach holds"
        );
        let ruling = match arrives && self.control.touched {
            true => self.judge_renewal(key, turn),
            false => Some(Ruling::Pass),
        };
        let Some(ruling) = ruling else {
            return;
        };
        if arrives && self.webhooks.leases && ruling == Ruling::Pass {
            return self.renewal_is_reviewed(key, turn);
        }
        let (failure, longer) = match ruling {
            Ruling::Answer(error, after) => (Err(error), Some(after)),
            Ruling::Pass if arrives => (self.api.renew(key, now), Some(Duration::ZERO)),
            _ => (Err(ApiError::Unreachable), None),
        };
        let reply = match failure {
            Err(error) => error,
            Ok(next) => {
                if let Some(next) = next {
                    turn.at(next, Event::Renew(key));
                }
                return;
            }
        };
        let Some(renewing) = self.api.lose_renewal(key) else {
            return;
        };
        let back = match longer {
            None => self.api.latency.timeout,
            Some(longer) => longer + renewing.back(),
        };
        self.kubelet(node, turn, |kubelet, cx| {
            kubelet.renewal_lost(&renewing.renew, renewing.sent, cx);
        });
        let number = self.api.refuse_renewal(&renewing, Err(reply));
        turn.at(now + back, Event::Answer(number));
    }

    fn answer(&mut self, number: u32, turn: Consequences<'_, '_>) {
        let Some((from, token, reply)) = self.api.finish(number) else {
            return;
        };
        let now = turn.now;
        match from {
            Sender::Controller(which) => {
                let mut out = Outbox::default();
                self.manager.catch_up(self.api.store.log(), now);
                let controller = &mut self.controllers[usize::from(which)];
                let view = &self.manager.view;
                controller.on_reply(token, &reply, view, now, &self.draws, &mut out);
                self.controller_wants(which, out, turn);
            }
            Sender::Scheduler => {
                let mut out = std::mem::take(&mut self.scheduler_out);
                self.scheduler_process.catch_up(self.api.store.log(), now);
                let view = &self.scheduler_process.view;
                self.scheduler.on_reply(token, &reply, view, now, &mut out);
                self.scheduler_wants(out, turn);
            }
            Sender::Kubelet(node) => {
                self.kubelet(node, turn, |kubelet, cx| {
                    kubelet.on_reply(token, &reply, cx)
                });
            }
            Sender::Kubectl => self.kubectl_reply(token, &reply, turn),
            Sender::Feed => {}
        }
    }

    /// Lets the kubelet of a node act, if the machine has power, and passes on what it wants. A
    /// kubelet whose process is down ignores all but its runtime's records.
    pub(super) fn kubelet(
        &mut self,
        node: u32,
        turn: Consequences<'_, '_>,
        act: impl FnOnce(&mut Kubelet, &mut Cx<'_>),
    ) {
        let Some(Some(machine)) = self.machines.get_mut(node as usize) else {
            return;
        };
        let mut renew = None;
        if machine.powered {
            let mut cx = Cx {
                now: turn.now,
                out: &mut self.kubelet_out,
                requests: &mut self.requests,
                draws: &self.draws,
                lookup: self.api.store.view(),
                renew: &mut renew,
            };
            act(&mut machine.kubelet, &mut cx);
        }
        let goes_down = machine.going_down.is_some() && machine.kubelet.may_go_down();
        if !self.kubelet_out.timers.is_empty() {
            for (at, event) in self.kubelet_out.timers.drain(..) {
                turn.at(at, Event::Kubelet(node, event));
            }
        }
        if !self.kubelet_out.sends.is_empty() {
            let mut sends = std::mem::take(&mut self.kubelet_out.sends);
            for send in sends.drain(..) {
                self.send(Sender::Kubelet(node), send, turn);
            }
            self.kubelet_out.sends = sends;
        }
        if let Some(renew) = renew {
            let (key, arrives) = self.api.accept_renewal(renew, turn.now);
            turn.at(arrives, Event::Renew(key));
        }
        if !self.requests.is_empty() {
            let mut requests = std::mem::take(&mut self.requests);
            for request in requests.drain(..) {
                self.route(node, request, turn);
            }
            self.requests = requests;
        }
        if goes_down {
            self.go_down(node, turn);
        }
    }

    /// Where a runtime request goes: behaviour of simulated containers to the data plane, the rest
    /// to the backend.
    pub(super) fn route(&mut self, node: u32, request: RuntimeRequest, turn: Consequences<'_, '_>) {
        let real = self.containers == Containers::Real;
        match &request.what {
            Call::StartSandbox { pod, .. } => {
                self.homes.set(*pod, Some(node));
            }
            Call::StartContainer { container, row, .. } if !real => {
                self.starting.insert(*container, row.clone());
            }
            _ => {}
        }
        let machine = self.machines.get(node as usize);
        let name = machine.and_then(|machine| Some(&machine.as_ref()?.name));
        if !real {
            let (name, out) = (name.map_or("", |name| name.as_str()), &mut self.data_out);
            self.data.on_call(name, &request.what, turn.now, out);
        }
        match &request.what {
            Call::Signal { .. }
            | Call::Probe { .. }
            | Call::Hook { .. }
            | Call::Stats
            | Call::WatchMemory { .. }
                if !real => {}
            _ => {
                let name = name.filter(|_| real).cloned();
                let asked = self.address(request, name.unwrap_or_default());
                turn.request(Request::Runtime(asked));
            }
        }
        self.drain_data(turn);
    }

    /// Adds to a request what its answer depends on.
    fn address(&mut self, request: RuntimeRequest, node: Text) -> Asked {
        let mut asked = Asked::new(request, node, self.api.store.view());
        match &asked.runtime.what {
            Call::PullImage {
                container,
                row,
                image,
                ..
            } => {
                let mut missing = self.missing_images.iter();
                asked.missing = missing.any(|pattern| image_matches(pattern, image));
                asked.pull = self.data.image_pull(row, container.index);
            }
            Call::StartContainer { container, row, .. } if self.containers == Containers::Real => {
                let (model, calls) = self.data.model_and_calls(row, container.index);
                (asked.model, asked.calls) = (Some(model), calls);
                asked.idle = self.data.is_idle(container.pod);
            }
            _ => {}
        }
        asked
    }

    fn runtime(&mut self, event: RuntimeEvent, turn: Consequences<'_, '_>) {
        let node = match event.about() {
            About::Node(node) => node.0,
            About::Pod(pod) => match self.homes.get(pod) {
                Some(node) => node,
                None => return,
            },
        };
        if !self.machine(node).is_some_and(|machine| machine.powered) {
            return;
        }
        match event {
            RuntimeEvent::Removed { pod } => {
                self.homes.set(pod, None);
            }
            RuntimeEvent::Started { container, outcome } => {
                if let Some(row) = self.starting.remove(&container)
                    && outcome == StartOutcome::Ok
                {
                    self.process_started(node, container, &row, turn);
                }
            }
            _ => {}
        }
        self.kubelet(node, turn, |kubelet, cx| kubelet.on_runtime(event, cx));
    }

    pub(super) fn controller_wants(
        &mut self,
        which: u8,
        out: Outbox<crate::client::runner::Event>,
        turn: Consequences<'_, '_>,
    ) {
        for (at, event) in out.timers {
            turn.at(at, Event::Controller(which, event));
        }
        for send in out.sends {
            self.send(Sender::Controller(which), send, turn);
        }
    }

    pub(super) fn scheduler_wants(
        &mut self,
        mut out: Outbox<crate::sched::Event>,
        turn: Consequences<'_, '_>,
    ) {
        if !out.timers.is_empty() {
            for (at, event) in out.timers.drain(..) {
                turn.at(at, Event::Scheduler(event));
            }
        }
        if !out.sends.is_empty() {
            for send in out.sends.drain(..) {
                self.send(Sender::Scheduler, send, turn);
            }
        }
        self.scheduler_out = out;
    }

    pub(super) fn send(&mut self, from: Sender, send: Send, turn: Consequences<'_, '_>) {
        let (number, arrives) = self.api.accept(from, send);
        turn.at(arrives.max(turn.now), Event::Arrive(number));
    }

    /// Passes on what this dispatch changed: to the data plane, to kubelets, to the watches.
    #[inline]
    pub(super) fn settle(&mut self, turn: Consequences<'_, '_>) {
        let told = match self.settled.0 < self.api.store.log().head() {
            true => self.pass_on(turn),
            false => None,
        };
        self.schedule_deliveries(told, turn);
        self.drain_data(turn);
    }

    /// Passes on new changes; returns which kubelet is still to be told of the last of a pod, and
    /// when.
    fn pass_on(&mut self, turn: Consequences<'_, '_>) -> Option<(Time, u32)> {
        let now = turn.now;
        let mut told = None;
        while let next = self.settled.0 + 1
            && let Some(change) = self.api.store.log().get(next)
        {
            self.settled = Cursor(next);
            // Nobody below acts on these, and there are more of them than of all others.
            if matches!(change.kind(), Kind::Lease | Kind::KubeEvent) {
                self.manager.pass_over(next);
                self.scheduler_process.pass_over(next);
                continue;
            }
            self.data.on_change(change, now);
            if change.kind() == Kind::Pod {
                if let Some(node) = self.pass_on_pod(next, now)
                    && let Some((due, node)) = told.replace(node)
                {
                    turn.at(due, Event::ToKubelet(node));
                }
                continue;
            }
            let change = change.clone();
            if self.containers == Containers::Real && WATCHED.contains(&change.kind()) {
                turn.request(Request::Changed(change.clone()));
            }
            self.new_node(&change, turn);
            if change.kind() == Kind::Inert {
                let heard = now + self.api.latency.watch;
                self.webhooks.on_change(&change, heard);
            }
            if change.kind() == Kind::Node {
                self.node_changed(&change, turn);
            }
            if change.kind() == Kind::HorizontalPodAutoscaler {
                self.look_at_usage(turn);
            }
        }
        told
    }

    /// Somebody but its kubelet changed a Node: the kubelet looks at it again.
    fn node_changed(&mut self, change: &Change, turn: Consequences<'_, '_>) {
        let Some((old, new)) = change.rows::<Node>() else {
            return;
        };
        let Some(&node) = new
            .or(old)
            .and_then(|row| self.node_ids.get(&row.meta.name))
        else {
            return;
        };
        let own = change.cause.origin == Origin::Kubelet(node);
        let same = old.zip(new).is_some_and(|(old, new)| {
            change.op == Op::Update && old.status.conditions == new.status.conditions
        });
        if !own && !same {
            self.kubelet(node, turn, Kubelet::node_changed);
        }
    }

    /// What the data plane wants: timers, and what simulated containers tell their kubelets.
    #[inline]
    pub(super) fn drain_data(&mut self, turn: Consequences<'_, '_>) {
        if !self.data_out.is_empty() {
            self.do_drain_data(turn);
        }
    }

    fn do_drain_data(&mut self, turn: Consequences<'_, '_>) {
        while !self.data_out.is_empty() {
            let mut out = std::mem::take(&mut self.data_out);
            for (question, outcome) in out.webhooks.drain(..) {
                self.hear_of(question, outcome);
                turn.at(turn.now, Event::Webhook(question));
            }
            for (at, event) in out.timers.drain(..) {
                turn.at(at, Event::Data(event));
            }
            for event in out.runtime.drain(..) {
                turn.at(turn.now, Event::Runtime(event));
            }
            if self.data_out.is_empty() {
                self.data_out = out;
            }
        }
    }

    /// The place of the slowest reader of the log: what lies before it may be forgotten.
    pub fn slowest(&self) -> Cursor {
        let mut slowest = self.settled;
        for process in [&self.manager, &self.scheduler_process] {
            if process.is_up() {
                slowest = slowest.min(process.cursor());
            }
        }
        slowest
    }

    /// The row of a pod as the API has it.
    pub fn pod(&self, pod: Id<Pod>) -> Option<&Arc<Pod>> {
        self.api.store.view().pods().get(pod)
    }
}
