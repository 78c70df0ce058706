//! Writes what happened in the store as lines of the recording's format.

use std::collections::BTreeMap;

use rehearsal::api::node::NodeConditionKind;
use rehearsal::api::workload::WorkloadCondition;
use rehearsal::api::{
    CronJob, DaemonSet, Deployment, EndpointSlice, Job, Kind, Meta, Node, Pod, PodDisruptionBudget,
    ReplicaSet, Row, StatefulSet, Text, Uid,
};
use rehearsal::store::{Change, Op};
use serde_json::{Map, Value, json};

use super::objects::NAMESPACE;

/// The lines so far, and what generated names are called in them.
#[derive(Default)]
pub struct Log {
    /// Lines as recorded: `[seconds, kind, name, what, …]`.
    pub lines: Vec<Value>,
    aliases: BTreeMap<Text, String>,
    /// How many objects each owner made.
    made: BTreeMap<Uid, usize>,
    told: BTreeMap<Uid, Vec<Value>>,
    epoch_s: i64,
}

impl Log {
    /// An empty log of a run that begins so many seconds after the Unix epoch.
    pub fn new(epoch_s: i64) -> Log {
        Log {
            epoch_s,
            ..Log::default()
        }
    }

    /// What the object of this name is called.
    pub fn alias(&self, name: &Text) -> String {
        self.aliases.get(name).cloned().unwrap_or(name.to_string())
    }

    /// A word of a message with the name in it, perhaps after the namespace, perhaps before a comma.
    fn alias_in(&self, word: &str) -> String {
        if let Some(quoted) = word.strip_prefix('"') {
            if let Some(alias) = quoted.strip_suffix('"').and_then(|n| self.aliases.get(n)) {
                return format!("\"{alias}\"");
            }
            return self.alias_quoted(quoted).unwrap_or(word.to_owned());
        }
        let (before, name) = match word.strip_prefix("ns/") {
            Some(name) => ("ns/", name),
            None => ("", word),
        };
        let (name, after) = match name.strip_suffix(',') {
            Some(name) => (name, ","),
            None => (name, ""),
        };
        format!("{before}{}{after}", self.alias(&name.into()))
    }

    /// A message with all names in it as they are called.
    pub fn alias_all(&self, message: &str) -> String {
        let words = message.split(' ').map(|word| self.alias_in(word));
        words.collect::<Vec<_>>().join(" ")
    }

    /// `"web-A-x7k2p"`: the name of a pod that its ReplicaSet could not create.
    fn alias_quoted(&self, quoted: &str) -> Option<String> {
        let mut all = self.aliases.iter();
        let (name, alias) = all.find(|(name, _)| {
            let rest = quoted.strip_prefix(name.as_str());
            rest.is_some_and(|rest| rest.starts_with('-'))
        })?;
        Some(format!("\"{alias}{}", &quoted[name.len()..]))
    }

    /// The name of what is called so.
    pub fn name(&self, alias: &str) -> Option<Text> {
        let mut all = self.aliases.iter();
        all.find(|(_, a)| *a == alias).map(|(name, _)| name.clone())
    }

    /// Writes a line.
    pub fn push(&mut self, at_s: f64, rest: &[Value]) {
        let at_s = (at_s * 1000.0).round() / 1000.0;
        let line = std::iter::once(json!(at_s)).chain(rest.iter().cloned());
        self.lines.push(line.collect());
    }

    /// Writes what this change means.
    pub fn change(&mut self, change: &Change, at_s: f64) {
        if let Some(event) = &change.event {
            // The recording watched one namespace; events of nodes are in another.
            if event.namespace != NAMESPACE {
                return;
            }
            let object = format!("{}/{}", event.kind.name(), self.alias(&event.name));
            let message = self.alias_all(&event.message);
            let line = [
                json!("Event"),
                json!(object),
                json!(event.reason),
                json!(1),
                json!(message),
            ];
            self.push(at_s, &line);
            return;
        }
        let Some(row) = &change.new else { return };
        let named = [Kind::Pod, Kind::ReplicaSet, Kind::EndpointSlice, Kind::Job];
        let named = named.contains(&row.kind());
        if change.op == Op::Create && named {
            self.call(row.meta());
        }
        if let Some((old, Some(new))) = change.rows::<Pod>() {
            self.pod(change.op, old, new, at_s);
        } else if let Some(state) = self.state_of(row) {
            self.state(row, change.op, state, at_s);
        }
    }

    /// What the recording says of an object besides its name, for the kinds that it tells about.
    fn state_of(&self, row: &Row) -> Option<Vec<Value>> {
        Some(match row {
            Row::ReplicaSet(set) => vec![replica_set(set)],
            Row::StatefulSet(set) => vec![stateful_set(set)],
            Row::DaemonSet(set) => vec![daemon_set(set)],
            Row::Deployment(deployment) => vec![self::deployment(deployment)],
            Row::Job(job) => vec![self::job(job)],
            Row::CronJob(job) => vec![self.cron_job(job)],
            Row::PodDisruptionBudget(budget) => vec![disruption_budget(budget)],
            Row::EndpointSlice(slice) => self.endpoint_slice(slice),
            Row::Node(node) => self::node(node),
            _ => return None,
        })
    }

    fn endpoint_slice(&self, slice: &EndpointSlice) -> Vec<Value> {
        let mut endpoints: Vec<(String, Value)> = Vec::new();
        for endpoint in &slice.endpoints {
            let pod = self.alias(&endpoint.pod);
            let said = json!([pod, endpoint.ready, endpoint.serving, endpoint.terminating]);
            endpoints.push((pod, said));
        }
        endpoints.sort_by(|a, b| a.0.cmp(&b.0));
        let endpoints: Vec<Value> = endpoints.into_iter().map(|(_, said)| said).collect();
        let port = |p: &rehearsal::api::service::EndpointPort| json!([p.name, p.port]);
        let ports: Vec<Value> = slice.ports.iter().map(port).collect();
        vec![endpoints.into(), ports.into()]
    }

    /// Names an object after its owner: `web-A` for the first ReplicaSet of `web`, `web-A.0` for its
    /// first pod.
    fn call(&mut self, meta: &Meta) {
        let Some(owner) = meta.controller() else {
            return;
        };
        if owner.kind == Kind::StatefulSet {
            return;
        }
        let number = self.made.entry(owner.uid).or_insert(0);
        let nth = *number;
        *number += 1;
        let parent = self.alias(&owner.name);
        let alias = if owner.kind == Kind::Deployment {
            format!("{parent}-{}", char::from(b'A' + nth as u8))
        } else if owner.kind == Kind::Service {
            format!("{parent}.slice")
        } else if owner.kind == Kind::CronJob {
            format!("{parent}.run{nth}")
        } else {
            format!("{parent}.{nth}")
        };
        self.aliases.insert(meta.name.clone(), alias);
    }

    fn pod(&mut self, op: Op, old: Option<&Pod>, new: &Pod, at_s: f64) {
        let name = json!(self.alias(&new.meta.name));
        let mut tell = |what: &str, more: Value| {
            let line = [json!("Pod"), name.clone(), json!(what), more];
            let used = if line[3].is_null() { 3 } else { 4 };
            self.push(at_s, &line[..used]);
        };
        if op == Op::Create {
            tell("created", json!(new.meta.controller().is_some()));
            return;
        }
        let Some(old) = old else { return };
        if old.node_name != new.node_name {
            tell("bound", json!(new.node_name));
        }
        if old.status.phase != new.status.phase {
            tell("phase", json!(new.status.phase.name()));
        }
        let ready = |pod: &Pod| {
            let kind = rehearsal::api::pod_status::PodConditionKind::Ready;
            pod.status.condition(&kind).map(|c| c.status.name())
        };
        if ready(old) != ready(new) {
            tell("ready", json!(ready(new)));
        }
        if !old.meta.deleting() && new.meta.deleting() {
            tell("terminating", Value::Null);
        }
        if op == Op::Delete {
            tell("gone", Value::Null);
        }
    }

    fn cron_job(&self, cron: &CronJob) -> Value {
        let mut state = Map::new();
        let active = cron.status.active.iter();
        let active: Vec<String> = active.map(|(name, _)| self.alias(name)).collect();
        if !active.is_empty() {
            state.insert("active".into(), json!(active));
        }
        if let Some(last) = cron.status.last_schedule {
            let at_s = self.epoch_s + (last.as_nanos() / 1_000_000_000) as i64;
            let at = rehearsal::api::cron::civil::rfc3339(at_s, &jiff::tz::TimeZone::UTC);
            state.insert("last".into(), json!(at));
        }
        state.into()
    }

    fn state(&mut self, row: &Row, op: Op, state: Vec<Value>, at_s: f64) {
        let meta = row.meta();
        let name = self.alias(&meta.name);
        let (kind, uid) = (json!(row.kind().name()), meta.uid);
        if op == Op::Delete {
            self.push(at_s, &[kind, json!(name), json!("gone")]);
        } else if self.told.insert(uid, state.clone()).as_ref() != Some(&state) {
            let mut line = vec![kind, json!(name), json!("is")];
            line.extend(state);
            self.push(at_s, &line);
        }
    }
}

fn counts(all: &[(&str, i32)], conditions: &[WorkloadCondition]) -> Value {
    let mut state = Map::new();
    for (name, count) in all {
        if *count != 0 {
            state.insert((*name).to_owned(), json!(count));
        }
    }
    let mut told: Vec<[&str; 3]> = conditions
        .iter()
        .map(|c| [&*c.kind, c.status.name(), &*c.reason])
        .collect();
    told.sort_unstable();
    if !told.is_empty() {
        state.insert("conditions".into(), json!(told));
    }
    Value::Object(state)
}

fn replica_set(set: &ReplicaSet) -> Value {
    let status = &set.status;
    let all = [("available", status.available), ("ready", status.ready)];
    let mut state = counts(&all, &status.conditions);
    state["replicas"] = json!(status.replicas);
    state["want"] = json!(set.replicas);
    state
}

fn deployment(deployment: &Deployment) -> Value {
    let status = &deployment.status;
    let all = [
        ("available", status.available),
        ("ready", status.ready),
        ("replicas", status.replicas),
        ("unavailable", status.unavailable),
        ("updated", status.updated),
    ];
    let mut state = counts(&all, &status.conditions);
    state["want"] = json!(deployment.replicas);
    state
}

fn stateful_set(set: &StatefulSet) -> Value {
    let status = &set.status;
    let all = [
        ("current", status.current),
        ("ready", status.ready),
        ("updated", status.updated),
    ];
    let mut state = counts(&all, &[]);
    state["available"] = json!(status.available);
    state["replicas"] = json!(status.replicas);
    state["want"] = json!(set.replicas);
    state
}

fn daemon_set(set: &DaemonSet) -> Value {
    let status = &set.status;
    let all = [("available", status.available), ("updated", status.updated)];
    let mut state = counts(&all, &[]);
    state["desired"] = json!(status.desired);
    state["misscheduled"] = json!(status.misscheduled);
    state["ready"] = json!(status.ready);
    state
}

fn job(job: &Job) -> Value {
    let status = &job.status;
    let all = [
        ("active", status.active),
        ("succeeded", status.succeeded),
        ("failed", status.failed),
    ];
    let mut state = counts(&all, &status.conditions);
    if let Some(ready) = status.ready {
        state["ready"] = json!(ready);
    }
    if !status.completed_indexes.is_empty() {
        state["indexes"] = json!(status.completed_indexes);
    }
    state
}

fn disruption_budget(budget: &PodDisruptionBudget) -> Value {
    let status = &budget.status;
    let mut state = counts(&[], &status.conditions);
    state["allowed"] = json!(status.disruptions_allowed);
    state["expected"] = json!(status.expected_pods);
    state["healthy"] = json!(status.current_healthy);
    state["wanted"] = json!(status.desired_healthy);
    state
}

/// Status and reason of Ready, and the taints.
fn node(node: &Node) -> Vec<Value> {
    let ready = node.condition(&NodeConditionKind::Ready);
    let status = ready.map_or("", |c| c.status.name());
    let reason = ready.map_or("", |c| c.reason.as_str());
    let taints = node.taints.iter();
    let mut taints: Vec<String> = taints
        .map(|t| format!("{}:{}", t.key, t.effect.name()))
        .collect();
    taints.sort();
    vec![json!(status), json!(reason), json!(taints)]
}
