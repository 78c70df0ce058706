//! What faults do to machines, links and pods: effects carried out, and taken back.

use crate::api::{Pod, Text};
use crate::engine::Time;
use crate::fault::{
    DnsRule, Effect, Ends, HttpRule, LinkEffect, LinkRule, MemoryStressor, PodKey, Strain,
    Strained, WrongAnswer,
};
use crate::kubelet::Boot;
use crate::kubelet::runtime::{Call, ContainerId, RuntimeRequest, Signal};
use crate::net::{self, Members, Place, RuleId};
use crate::store::write::Trigger;
use crate::store::{Cause, Id, Origin, Propagation, Write};

use super::api_server::Sender;
use super::dataplane::strain::Load;
use super::dispatch::{Cluster, Consequences};
use super::event::Event;
use super::runtime::{Containers, MachineCall, Request, StrainTarget};

/// From the return of power to a running kubelet.
pub const BOOT_TIME: std::time::Duration = std::time::Duration::from_secs(30);

impl Cluster {
    /// Carries out one effect of fault number `fault`.
    pub(super) fn apply(&mut self, effect: &Effect, fault: u32, turn: Consequences<'_, '_>) {
        match effect {
            Effect::PowerOff(name) => self.power_off(name, turn),
            Effect::ShutDown(name) => self.shut_down(name, turn),
            Effect::PowerOn(name) => self.power_on(name, turn),
            Effect::Reboot(name) => {
                self.power_off(name, turn);
                self.power_on(name, turn);
            }
            Effect::KubeletStop(name) => {
                self.end_requests(name, turn.now);
                if let Some(machine) = self.machine_by_name(name) {
                    machine.kubelet_up = false;
                    machine.cut();
                    machine.kubelet.stop();
                }
            }
            Effect::KubeletStart(name) => {
                if let Some(&node) = self.node_ids.get(name) {
                    if let Some(machine) = self.machine_mut(node) {
                        machine.kubelet_up = true;
                    }
                    self.start_kubelet(node, Boot::Restart, turn);
                }
            }
            Effect::Freeze(name) => self.freeze(name, true, turn),
            Effect::Thaw(name) => self.freeze(name, false, turn),
            Effect::Disturb(rule) => self.disturb(rule, turn),
            Effect::Calm(rule) => self.calm(rule, turn),
            Effect::DeletePod { pod, grace_s } => self.delete_pod(pod, *grace_s, fault, turn),
            Effect::KillContainer { pod, container } => {
                self.signal_containers(pod, std::slice::from_ref(container), turn);
            }
            Effect::FailPod { pod, containers } => self.fail_pod(pod, containers, true, turn),
            Effect::RestorePod { pod, containers } => self.fail_pod(pod, containers, false, turn),
            Effect::Strain(strain) => self.strain(strain, turn),
            Effect::Relieve(strain) => self.relieve(strain, turn),
            Effect::Tamper(rule) => self.tamper(rule),
            Effect::Spare(rule) => self.spare(rule),
            Effect::Mislead(rule) => self.mislead(rule, true, turn),
            Effect::Inform(rule) => self.mislead(rule, false, turn),
            Effect::Trouble(trouble) => self.trouble(trouble, turn),
            Effect::Mend(trouble) => self.mend(trouble, turn),
        }
        self.drain_data(turn);
    }

    fn machine_by_name(&mut self, name: &Text) -> Option<&mut super::Machine> {
        let node = *self.node_ids.get(name)?;
        self.machine_mut(node)
    }

    /// The kubelet of a node sends nothing more.
    fn end_requests(&mut self, name: &Text, now: Time) {
        if let Some(&node) = self.node_ids.get(name) {
            self.api.end_requests(node, now);
        }
    }

    fn power_off(&mut self, name: &Text, turn: Consequences<'_, '_>) {
        self.end_requests(name, turn.now);
        let Some(&node) = self.node_ids.get(name) else {
            return;
        };
        let Some(machine) = self.machine_mut(node) else {
            return;
        };
        machine.powered = false;
        machine.kubelet_up = false;
        machine.going_down = None;
        machine.kubelet.stop();
        machine.cut();
        self.api.set_reached(node, false);
        self.data.node_power(name, false, turn.now);
        self.on_machine(name, MachineCall::PowerOff, turn);
    }

    /// The machine is told to go down: its kubelet may want time for its pods.
    fn shut_down(&mut self, name: &Text, turn: Consequences<'_, '_>) {
        let Some(&node) = self.node_ids.get(name) else {
            return;
        };
        let mut waits = false;
        self.kubelet(node, turn, |kubelet, cx| waits = kubelet.shut_down(cx));
        let Some(machine) = self.machine_mut(node) else {
            return;
        };
        if waits && !machine.kubelet.may_go_down() {
            machine.going_down = Some(false);
        } else {
            self.power_off(name, turn);
        }
    }

    /// The kubelet needs no more time.
    pub(super) fn go_down(&mut self, node: u32, turn: Consequences<'_, '_>) {
        let Some(machine) = self.machine_mut(node) else {
            return;
        };
        let again = machine.going_down.take();
        let name = machine.name.clone();
        self.power_off(&name, turn);
        if again == Some(true) {
            self.power_on(&name, turn);
        }
    }

    fn power_on(&mut self, name: &Text, turn: Consequences<'_, '_>) {
        if let Some(machine) = self.machine_by_name(name)
            && let Some(again) = &mut machine.going_down
        {
            *again = true;
            return;
        }
        if let Some(&node) = self.node_ids.get(name) {
            turn.after(BOOT_TIME, Event::Boot(node));
        }
    }

    /// The machine has booted: nothing runs on it, its kubelet starts.
    pub(super) fn boot(&mut self, node: u32, turn: Consequences<'_, '_>) {
        let now = turn.now;
        let Some(name) = self.machine_name(node) else {
            return;
        };
        let Some(machine) = self.machine_mut(node) else {
            return;
        };
        if machine.powered {
            return;
        }
        machine.powered = true;
        machine.kubelet_up = true;
        let reached = machine.reachable;
        self.api.set_reached(node, reached);
        self.data.node_power(&name, true, now);
        self.on_machine(&name, MachineCall::PowerOn, turn);
        self.homes.leave(node);
        self.start_kubelet(node, Boot::Reboot, turn);
    }

    /// Passes on what happens to a machine, where it is real.
    fn on_machine(&mut self, name: &Text, what: MachineCall, turn: Consequences<'_, '_>) {
        if self.containers == Containers::Real {
            let node = name.clone();
            turn.request(Request::Machine { node, what });
        }
    }

    /// Starts the kubelet of a machine with the pods that the API server lists for it.
    pub(super) fn start_kubelet(&mut self, node: u32, boot: Boot, turn: Consequences<'_, '_>) {
        let Some(name) = self.machine_name(node) else {
            return;
        };
        self.api.end_requests(node, turn.now);
        if self.must_wait(node, boot, turn.now) {
            return;
        }
        let view = self.api.store.view();
        let pods = match self.machines.get_mut(node as usize) {
            Some(Some(machine)) => machine.list(view, &name),
            _ => return,
        };
        self.kubelet(node, turn, |kubelet, cx| kubelet.start(boot, &pods, cx));
    }

    /// The runtime of a machine has started a container.
    pub(super) fn process_started(
        &mut self,
        node: u32,
        container: ContainerId,
        row: &Pod,
        turn: Consequences<'_, '_>,
    ) {
        let Some(Some(machine)) = self.machines.get_mut(node as usize) else {
            return;
        };
        let place = || self.data.place_of_node(&machine.name);
        let place = *machine.place.get_or_insert_with(place);
        let out = &mut self.data_out;
        self.data.start(container, place, row, turn.now, out);
        self.drain_data(turn);
    }

    /// The name of a machine's node, also when its Node object is gone.
    pub(super) fn machine_name(&self, node: u32) -> Option<Text> {
        self.machine(node).map(|machine| machine.name.clone())
    }

    fn freeze(&mut self, name: &Text, frozen: bool, turn: Consequences<'_, '_>) {
        let Some(machine) = self.machine_by_name(name) else {
            return;
        };
        let running: Vec<_> = machine.kubelet.running().collect();
        if frozen {
            self.end_requests(name, turn.now);
        }
        let Some(machine) = self.machine_by_name(name) else {
            return;
        };
        machine.kubelet_up = !frozen;
        if frozen {
            machine.cut();
            machine.kubelet.stop();
        }
        for id in running {
            self.data.freeze(id, frozen, turn.now, &mut self.data_out);
        }
        let call = [MachineCall::Thaw, MachineCall::Freeze][usize::from(frozen)];
        self.on_machine(name, call, turn);
        if !frozen && let Some(&node) = self.node_ids.get(name) {
            self.start_kubelet(node, Boot::Restart, turn);
        }
    }

    fn find(&self, key: &PodKey) -> Option<Id<Pod>> {
        let (id, row) = self
            .api
            .store
            .view()
            .pods()
            .named(&key.namespace, &key.name)?;
        (row.meta.uid == key.uid).then_some(id)
    }

    fn members(&self, ends: &Ends) -> Members {
        if ends.anybody {
            return Members::everything();
        }
        let mut members = Members::default();
        if ends.control_plane {
            members.places.insert(Place::CONTROL_PLANE);
        }
        if ends.edge {
            members.places.insert(Place::EDGE);
        }
        members.places.extend(
            ends.nodes
                .iter()
                .filter_map(|name| self.data.net().place(name)),
        );
        members.pods.extend(
            ends.pods
                .iter()
                .filter_map(|key| self.find(key))
                .map(|id| id.0),
        );
        members
    }

    fn disturb(&mut self, rule: &LinkRule, turn: Consequences<'_, '_>) {
        let effect = match rule.effect {
            LinkEffect::Cut => net::Effect::Cut,
            LinkEffect::Delay {
                latency,
                jitter,
                early_per_million,
                ..
            } => net::Effect::Delay {
                by: latency,
                jitter,
                early_per_million,
            },
            // A packet that is not what was sent is thrown away where it arrives.
            LinkEffect::Loss { per_million, .. } | LinkEffect::Corrupt { per_million } => {
                net::Effect::Loss { per_million }
            }
            // The second copy of a packet changes nothing for whoever reads.
            LinkEffect::Duplicate { .. } => net::Effect::Loss { per_million: 0 },
            LinkEffect::Rate {
                bytes_per_s, burst, ..
            } => net::Effect::Rate { bytes_per_s, burst },
        };
        let net_rule = net::Rule {
            from: self.members(&rule.from),
            to: self.members(&rule.to),
            effect,
        };
        let id: RuleId = self.data.add_rule(net_rule, turn.now);
        self.rules.push((rule.clone(), id));
        self.on_link(rule, true, turn);
        self.look_at_links(turn);
    }

    fn calm(&mut self, rule: &LinkRule, turn: Consequences<'_, '_>) {
        if let Some(at) = self.rules.iter().position(|(r, _)| r == rule) {
            let (_, id) = self.rules.remove(at);
            self.data.remove_rule(id, turn.now);
            self.on_link(rule, false, turn);
        }
        self.look_at_links(turn);
    }

    /// Passes on a disturbance, where links are real.
    fn on_link(&mut self, rule: &LinkRule, on: bool, turn: Consequences<'_, '_>) {
        if self.containers == Containers::Real {
            let rule = rule.clone();
            turn.request(Request::Link { rule, on });
        }
    }

    /// Which machines reach the API server now; those that do again relist.
    fn look_at_links(&mut self, turn: Consequences<'_, '_>) {
        for node in 0..u32::try_from(self.machines.len()).unwrap_or(u32::MAX) {
            let Some(name) = self.machine_name(node) else {
                continue;
            };
            let Some(place) = self.data.net().place(&name) else {
                continue;
            };
            let links = self.data.net().links();
            let control = Place::CONTROL_PLANE.into();
            let reachable = !links.cut(place.into(), control) && !links.cut(control, place.into());
            let Some(machine) = self.machine_mut(node) else {
                continue;
            };
            if machine.reachable == reachable {
                continue;
            }
            machine.reachable = reachable;
            let reached = machine.powered && reachable;
            if !reachable {
                machine.cut();
            }
            self.api.set_reached(node, reached);
            if !reachable {
                continue;
            }
            self.relist_kubelet(node, turn);
        }
    }

    /// A kubelet whose watch broke lists its pods, if it can.
    pub(super) fn relist_kubelet(&mut self, node: u32, turn: Consequences<'_, '_>) {
        let view = self.api.store.view();
        let changes = match self.machines.get_mut(node as usize) {
            Some(Some(machine)) => {
                let name = machine.name.clone();
                machine.relist(view, &name)
            }
            _ => Vec::new(),
        };
        for change in changes {
            self.kubelet(node, turn, |kubelet, cx| kubelet.on_pod(change, cx));
        }
    }

    fn delete_pod(
        &mut self,
        key: &PodKey,
        grace_s: Option<u32>,
        fault: u32,
        turn: Consequences<'_, '_>,
    ) {
        let Some(pod) = self.find(key) else { return };
        let write = Write::Delete {
            object: pod.into(),
            uid: Some(key.uid),
            grace_s,
            propagation: Propagation::Background,
        };
        let cause = Cause {
            origin: Origin::Scenario,
            trigger: Trigger::Fault(fault),
            rule: "deleted by a fault",
        };
        let send = crate::client::Send {
            at: turn.now,
            write,
            cause,
            token: u64::MAX,
        };
        self.send(Sender::Kubectl, send, turn);
    }

    /// The containers of a pod that run according to its node's runtime.
    fn running(&self, key: &PodKey, names: &[Text]) -> Vec<crate::kubelet::ContainerId> {
        let Some(pod) = self.find(key) else {
            return Vec::new();
        };
        let Some(row) = self.pod(pod) else {
            return Vec::new();
        };
        let Some(machine) = self.homes.get(pod).and_then(|home| self.machine(home)) else {
            return Vec::new();
        };
        let named = |index: u16| {
            crate::kubelet::runtime::container_of(&row.spec, index)
                .is_some_and(|c| names.is_empty() || names.contains(&c.name))
        };
        machine
            .kubelet
            .running()
            .filter(|id| id.pod == pod && named(id.index))
            .collect()
    }

    fn signal_containers(&mut self, key: &PodKey, names: &[Text], turn: Consequences<'_, '_>) {
        let signal = Signal::Kill;
        for container in self.running(key, names) {
            if self.containers == Containers::Simulated {
                let out = &mut self.data_out;
                self.data.signal(container, signal, turn.now, out);
                continue;
            }
            let Some(home) = self.homes.get(container.pod) else {
                continue;
            };
            let what = Call::Signal { container, signal };
            let node = Id::new(home);
            self.route(home, RuntimeRequest { node, what }, turn);
        }
    }

    /// A load begins on what runs under that name now.
    fn strain(&mut self, strain: &Strain, turn: Consequences<'_, '_>) {
        let (target, node) = match &strain.on {
            Strained::Node(node) => (Some(StrainTarget::Node(node.clone())), node.clone()),
            Strained::Container(pod, name) => {
                let running = self.running(pod, std::slice::from_ref(name));
                let home = self.find(pod).and_then(|pod| self.homes.get(pod));
                let node = home.and_then(|home| self.machine_name(home));
                let target = running.first().map(|id| StrainTarget::Container(*id));
                (target, node.unwrap_or_default())
            }
        };
        let Some(target) = target else { return };
        let view = self.api.store.view();
        let memory = view.nodes().named(&Text::default(), &node);
        let memory = memory.map_or(0, |(_, node)| node.status.capacity.memory);
        let memory = u64::try_from(memory).unwrap_or(0);
        let stressors = &strain.stressors;
        let load = Load {
            workers: stressors.cpu.map_or(0, |cpu| cpu.workers),
            percent: stressors.cpu.map_or(0, |cpu| cpu.load),
            memory: match stressors.memory {
                None => 0,
                Some(MemoryStressor::Bytes(bytes)) => bytes,
                Some(MemoryStressor::Percent(percent)) => memory / 100 * u64::from(percent),
            },
        };
        let number = self.next_strain;
        self.next_strain += 1;
        self.strains.push((strain.clone(), number));
        if self.containers == Containers::Real {
            return turn.request(Request::Strain {
                number,
                load: Some((target, load)),
            });
        }
        let (now, out) = (turn.now, &mut self.data_out);
        match target {
            StrainTarget::Node(node) => self.data.strain_node(number, &node, load, now, out),
            StrainTarget::Container(id) => {
                self.data.strain_container(number, id, load, now, out);
            }
        }
    }

    fn relieve(&mut self, strain: &Strain, turn: Consequences<'_, '_>) {
        let Some(at) = self.strains.iter().position(|(known, _)| known == strain) else {
            return;
        };
        let (_, number) = self.strains.remove(at);
        if self.containers == Containers::Real {
            return turn.request(Request::Strain { number, load: None });
        }
        self.data.relieve(number, turn.now, &mut self.data_out);
    }

    /// Lookups of some pods go wrong, or right again.
    fn mislead(&mut self, rule: &DnsRule, on: bool, turn: Consequences<'_, '_>) {
        if on {
            let pods = rule.pods.iter().filter_map(|key| self.find(key));
            let fault = net::route::DnsFault {
                from: Members::pods(pods.map(|id| id.0)),
                patterns: rule.patterns.clone(),
                astray: rule.answer == WrongAnswer::Random,
            };
            let id = self.data.add_dns_fault(fault);
            self.dns_rules.push((rule.clone(), id));
        } else if let Some(at) = self.dns_rules.iter().position(|(known, _)| known == rule) {
            let (_, id) = self.dns_rules.remove(at);
            self.data.remove_dns_fault(id);
        }
        if self.containers == Containers::Real {
            let rule = rule.clone();
            turn.request(Request::Names { rule, on });
        }
    }

    /// A proxy before some pods tampers with their requests. Real ones have none, which the run's
    /// header says.
    fn tamper(&mut self, rule: &HttpRule) {
        if self.containers == Containers::Real {
            return;
        }
        let pods = rule.pods.iter().filter_map(|key| self.find(key));
        let pods = pods.map(|id| id.0).collect();
        let number = self.data.add_http_fault(pods, rule.what.clone());
        self.http_rules.push((rule.clone(), number));
    }

    fn spare(&mut self, rule: &HttpRule) {
        if let Some(at) = self.http_rules.iter().position(|(known, _)| known == rule) {
            let (_, number) = self.http_rules.remove(at);
            self.data.remove_http_fault(number);
        }
    }

    /// Chaos Mesh replaces the images of the pod's containers by one that only sleeps: the
    /// containers are restarted and nothing listens in them.
    fn fail_pod(
        &mut self,
        key: &PodKey,
        names: &[Text],
        failing: bool,
        turn: Consequences<'_, '_>,
    ) {
        let Some(pod) = self.find(key) else { return };
        self.data.set_idle(pod, failing);
        self.signal_containers(key, names, turn);
    }
}
