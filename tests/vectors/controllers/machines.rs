//! Machines of the recordings: nodes in zones, whose kubelets renew leases until they are switched
//! off.

use std::time::Duration;

use rehearsal::api::node::{NodeCondition, NodeConditionKind};
use rehearsal::api::pod_status::Truth;
use rehearsal::api::{Labels, Lease, Node, Pod, Row, Text};
use rehearsal::engine::Time;
use rehearsal::store::{Cause, Id, Patch, Write};
use serde_json::json;

use super::world::{Due, World};

/// How often the stand-in kubelets renew.
const RENEW: Duration = Duration::from_secs(5);
/// Renewals come so long after the controllers' looks, as recorded.
const PHASE: Duration = Duration::from_millis(2_500);

impl World<'_> {
    /// Nodes `n00`, `n01` … in the zones of the scenario, with leases; and what else was there.
    pub(super) fn machines(&mut self, now: Time) -> Result<(), String> {
        let zones = self.scenario["zones"].as_array().cloned();
        let watched = zones.is_some();
        // "10 nodes (64 cpu, zones z0–z2)" unless the scenario has its own.
        let zones = zones.unwrap_or((0..10).map(|nth| json!(format!("z{}", nth % 3))).collect());
        for (nth, zone) in zones.iter().enumerate() {
            let name = Text::from(format!("n{nth:02}"));
            let zone = zone.as_str().ok_or("a zone without name")?;
            let labels = Labels::from_iter([("topology.kubernetes.io/zone", zone)]);
            let mut node = Node::default();
            node.meta.name = name.clone();
            node.meta.labels = labels;
            node.status.conditions = vec![ready(now)].into();
            self.create(node.into(), now)?;
            let mut lease = Lease::default();
            lease.meta.namespace = "kube-node-lease".into();
            lease.meta.name = name;
            lease.renewed = now;
            self.create(lease.into(), now)?;
        }
        if watched {
            self.queue.at(now + PHASE, Due::Renew);
        }
        self.view = self.store.view().clone();
        self.logged = self.store.log().head();
        Ok(())
    }

    fn create(&mut self, row: Row, now: Time) -> Result<(), String> {
        let reply = self.store.write(&Write::Create(row), now, Cause::default());
        reply.map(drop).map_err(|e| e.to_string())
    }

    pub(super) fn renew(&mut self, now: Time) -> Result<(), String> {
        let leases: Vec<(Id<Lease>, Text)> = {
            let all = self.store.view().of::<Lease>().iter();
            all.map(|(id, l)| (id, l.meta.name.clone())).collect()
        };
        for (lease, name) in leases {
            if !self.down.contains(name.as_str()) {
                let write = self.patch(lease.into(), Patch::Renew(now));
                let reply = self.store.write(&write, now, Cause::default());
                reply.map_err(|e| e.to_string())?;
            }
        }
        self.queue.after(RENEW, Due::Renew);
        Ok(())
    }

    /// Whether the pod's kubelet does not run.
    pub(super) fn lost(&self, pod: Id<Pod>) -> bool {
        let pod = self.store.view().pods().get(pod);
        let node = pod.and_then(|pod| pod.node_name.as_ref());
        node.is_some_and(|node| self.down.contains(node.as_str()))
    }

    /// A step that switches kubelets off or on.
    pub(super) fn switch(&mut self, step: usize, now: Time) -> Result<(), String> {
        let step = &self.scenario["steps"][step];
        let op = step["op"].as_str().ok_or("a step without op")?;
        for name in step["nodes"].as_array().into_iter().flatten() {
            let name = name.as_str().ok_or("a node without name")?;
            if op == "node-down" {
                self.down.insert(name.to_owned());
                continue;
            }
            self.down.remove(name);
            let nodes = self.store.view().nodes();
            let (node, _) = nodes.find("", name).ok_or("no such node")?;
            let write = self.patch(node.into(), Patch::NodeConditions(vec![ready(now)]));
            let reply = self.store.write(&write, now, Cause::default());
            reply.map_err(|e| e.to_string())?;
        }
        let at_s = now.since(self.begin).as_secs_f64();
        let line = [json!("Step"), json!(op), json!(200), json!("")];
        self.log.push(at_s, &line);
        Ok(())
    }
}

fn ready(now: Time) -> NodeCondition {
    NodeCondition {
        kind: NodeConditionKind::Ready,
        status: Truth::True,
        heartbeat: now,
        since: now,
        reason: "KubeletReady".into(),
        message: "".into(),
    }
}
