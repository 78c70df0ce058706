//! One kubectl process: what it sends, what it waits for, what it prints at the end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::apply;
use super::edit::{self, Action, Target};
use super::refusal::refusal;
use super::verb::{DeleteFlags, DrainFlags, Rollout, Verb};
use super::wait::{self, LOOK, REFUSED_PAUSE, Wait};
use crate::api::{Pod, Row, Text};
use crate::client::{Outbox, Reply};
use crate::engine::Time;
use crate::store::{ApiError, Cause, Id, Patch, View, Write};

/// A verb that is being carried out.
#[derive(Debug)]
pub struct Run {
    verb: Verb,
    /// What is applied, with the manifests as written.
    objects: VecDeque<(Row, Arc<Value>)>,
    cause: Cause,
    /// When it gives up waiting.
    deadline: Option<Time>,
    targets: Option<VecDeque<Target>>,
    /// The write that is on its way, with what is printed when it succeeds.
    sent: Option<Sent>,
    lines: Vec<String>,
    /// What went wrong with single objects; kubectl goes on with the others.
    errors: Vec<String>,
    wait: Option<Wait>,
    /// What is waited for once everything was written.
    pending_wait: Option<Wait>,
    drain: Option<Drain>,
    result: Option<Result<String, String>>,
}

/// A write that is on its way.
#[derive(Debug)]
struct Sent {
    target: Target,
    /// What is printed when it succeeds.
    line: String,
    tries: u32,
    /// The object's revision when it was sent.
    revision: u64,
}

/// Where a `drain` stands.
#[derive(Debug, Default)]
struct Drain {
    /// Nodes that are still to be cordoned, before anything else happens.
    cordons: VecDeque<Target>,
    /// The node that is being cordoned.
    cordoning: Option<Target>,
    /// Nodes that are still to be drained.
    nodes: VecDeque<Target>,
    /// The node that is being drained.
    node: Option<Target>,
    /// Pods of this node that must go; whether they were asked to.
    pods: Vec<Leaving>,
    listed: bool,
    refused: u32,
    said: Vec<String>,
}

#[derive(Debug)]
struct Leaving {
    pod: Id<Pod>,
    name: Text,
    asked: bool,
    in_flight: bool,
    /// Not before this time (after a refusal).
    again: Time,
}

/// Conflicts are retried like this many times.
const TRIES: u32 = 5;

impl Run {
    /// A process that starts at `now`. `objects` come with `apply`, each with its manifest as
    /// written; `timeout` is the step's own.
    pub fn new(
        verb: Verb,
        objects: Vec<(Row, Arc<Value>)>,
        cause: Cause,
        timeout: Option<Duration>,
        now: Time,
    ) -> Run {
        let own = match &verb {
            Verb::Delete(_, flags) => flags.timeout,
            Verb::Drain(_, flags) => flags.timeout,
            Verb::Rollout(_, Rollout::Status(timeout)) => *timeout,
            _ => None,
        };
        Run {
            verb,
            objects: objects.into(),
            cause,
            deadline: own.or(timeout).map(|t| now + t),
            targets: None,
            sent: None,
            lines: Vec::new(),
            errors: Vec::new(),
            wait: None,
            pending_wait: None,
            drain: None,
            result: None,
        }
    }

    /// kubectl's output once it is done, or its error.
    pub fn result(&self) -> Option<Result<String, String>> {
        self.result.clone()
    }

    fn fail(&mut self, error: String) {
        self.lines.append(&mut self.errors);
        self.lines.push(error);
        self.result = Some(Err(self.lines.join("\n")));
    }

    fn done(&mut self) {
        self.lines.retain(|line| !line.is_empty());
        if let Some(last) = self.errors.pop() {
            self.fail(last);
            return;
        }
        self.result = Some(Ok(self.lines.join("\n")));
    }

    /// Goes on: at the start, and whenever a timer is due that it asked for.
    pub fn poll(&mut self, view: &View, now: Time, out: &mut Outbox<()>) {
        if self.result.is_some() || self.sent.is_some() {
            return;
        }
        if self.deadline.is_some_and(|d| now >= d) && self.begun() {
            let missing = match &self.drain {
                Some(drain) => drain.missing(),
                None => self
                    .wait
                    .as_ref()
                    .map(|w| w.missing(view))
                    .unwrap_or_default(),
            };
            self.fail(missing);
            return;
        }
        if matches!(self.verb, Verb::Drain(..)) {
            self.poll_drain(view, now, out);
            return;
        }
        if let Some(wait) = &self.wait {
            match wait.look(view) {
                Some(Ok(lines)) => {
                    self.lines.extend(lines);
                    self.done();
                }
                Some(Err(error)) => self.fail(error),
                None => out.at(self.next_look(now), ()),
            }
            return;
        }
        self.next_write(view, now, out);
    }

    fn begun(&self) -> bool {
        self.wait.is_some() || self.drain.is_some()
    }

    fn next_look(&self, now: Time) -> Time {
        let look = now + LOOK;
        self.deadline
            .map_or(look, |d| d.min(look).max(now + Duration::from_millis(1)))
    }

    /// The next object of a verb that edits objects one after the other.
    fn next_write(&mut self, view: &View, now: Time, out: &mut Outbox<()>) {
        if matches!(self.verb, Verb::Apply | Verb::Create | Verb::Replace) {
            let Some((row, written)) = self.objects.pop_front() else {
                self.done();
                return;
            };
            let action = match self.verb {
                Verb::Create => Ok(apply::create(&row)),
                Verb::Replace => apply::replace(&row, &written, view),
                _ => apply::apply(&row, &written, view),
            };
            let object = view
                .lookup(row.kind(), &row.meta().namespace, &row.key())
                .unwrap_or(crate::store::ObjectId {
                    kind: row.kind(),
                    index: u32::MAX,
                });
            let target = Target {
                object,
                name: edit::printed_name(&row),
            };
            self.act(action, target, 0, view, now, out);
            return;
        }
        if self.targets.is_none() {
            let resolved = match (&self.verb, self.verb.targets()) {
                (Verb::Delete(_, flags), _) if flags.files => Ok(self.written(view)),
                (_, Some(targets)) => edit::resolve(targets, view),
                (_, None) => Ok(Vec::new()),
            };
            match (resolved, &self.verb) {
                (Ok(found), Verb::Rollout(_, Rollout::Status(_))) => {
                    self.wait = Some(Wait::RolledOut(found));
                    self.poll(view, now, out);
                    return;
                }
                (Ok(found), _) => self.targets = Some(found.into()),
                (Err(_), Verb::Delete(_, flags)) if flags.ignore_not_found => {
                    self.targets = Some(VecDeque::new());
                }
                (Err(error), _) => {
                    self.fail(error);
                    return;
                }
            }
            if let Verb::Delete(_, flags) = &self.verb {
                let found = self.targets.iter().flatten().cloned().collect();
                let flags = flags.clone();
                self.after_writes(found, &flags);
            }
        }
        let Some(target) = self.targets.as_mut().and_then(VecDeque::pop_front) else {
            match self.pending_wait.take() {
                Some(wait) => {
                    self.wait = Some(wait);
                    self.poll(view, now, out);
                }
                None => self.done(),
            }
            return;
        };
        self.write_target(target, 0, view, now, out);
    }

    /// The objects of a `delete -f` that are there; what is missing is said.
    fn written(&mut self, view: &View) -> Vec<Target> {
        let quiet = matches!(&self.verb, Verb::Delete(_, flags) if flags.ignore_not_found);
        let mut found = Vec::new();
        for (row, _) in std::mem::take(&mut self.objects) {
            let meta = row.meta();
            match view.lookup(row.kind(), &meta.namespace, &row.key()) {
                Some(object) => found.push(Target {
                    object,
                    name: edit::printed_name(&row),
                }),
                None if quiet => {}
                None => self.errors.push(apply::missing(&row)),
            }
        }
        found
    }

    fn after_writes(&mut self, found: Vec<Target>, flags: &DeleteFlags) {
        if flags.wait {
            self.pending_wait = Some(Wait::Gone(found));
        }
    }

    fn write_target(
        &mut self,
        target: Target,
        tries: u32,
        view: &View,
        now: Time,
        out: &mut Outbox<()>,
    ) {
        let action = match &self.verb {
            Verb::Delete(_, flags) => {
                let write = Write::Delete {
                    object: target.object,
                    uid: None,
                    grace_s: flags.grace_s,
                    propagation: flags.propagation,
                };
                let forced = if flags.grace_s == Some(0) {
                    "force deleted"
                } else {
                    "deleted"
                };
                let (kind, name) = target.name.split_once('/').unwrap_or(("", &target.name));
                Ok(Action::Write(write, format!("{kind} \"{name}\" {forced}")))
            }
            verb => edit::action(verb, &target, view, now),
        };
        self.act(action, target, tries, view, now, out);
    }

    fn act(
        &mut self,
        action: Result<Action, String>,
        target: Target,
        tries: u32,
        view: &View,
        now: Time,
        out: &mut Outbox<()>,
    ) {
        match action {
            Ok(Action::Write(write, line)) => {
                out.send(
                    now,
                    write,
                    edit::cause_of(self.cause, "kubectl"),
                    u64::from(tries),
                );
                let revision = view.meta(target.object).map_or(0, |meta| meta.revision);
                self.sent = Some(Sent {
                    target,
                    line,
                    tries,
                    revision,
                });
            }
            Ok(Action::Say(line)) => {
                self.lines.push(line);
                self.next_write(view, now, out);
            }
            Err(error) => {
                self.errors.push(error);
                self.next_write(view, now, out);
            }
        }
    }

    /// The answer to a write.
    pub fn on_reply(
        &mut self,
        token: u64,
        reply: &Reply,
        view: &View,
        now: Time,
        out: &mut Outbox<()>,
    ) {
        if self.drain.is_some() {
            self.drain_reply(token, reply, now);
            self.poll(view, now, out);
            return;
        }
        let Some(sent) = self.sent.take() else {
            return;
        };
        match reply {
            Ok(receipt) => {
                let same =
                    matches!(self.verb, Verb::Patch(..)) && receipt.revision == sent.revision;
                let unchanged = if same { " (no change)" } else { "" };
                self.lines.push(format!("{}{unchanged}", sent.line));
            }
            Err(ApiError::Conflict(_))
                if sent.tries < TRIES
                    && !matches!(self.verb, Verb::Apply | Verb::Create | Verb::Replace) =>
            {
                self.write_target(sent.target, sent.tries + 1, view, now, out);
                return;
            }
            Err(ApiError::NotFound(_)) if matches!(&self.verb, Verb::Delete(_, f) if f.ignore_not_found) =>
                {}
            Err(error) => self.errors.push(refusal(error)),
        }
        self.poll(view, now, out);
    }

    fn flags(&self) -> DrainFlags {
        match &self.verb {
            Verb::Drain(_, flags) => flags.clone(),
            _ => DrainFlags::default(),
        }
    }

    /// `kubectl drain`: cordon all nodes, then evict pod by pod, node by node
    /// (`staging/src/k8s.io/kubectl/pkg/cmd/drain/drain.go :: RunDrain`).
    fn poll_drain(&mut self, view: &View, now: Time, out: &mut Outbox<()>) {
        if self.drain.is_none() {
            let targets = self.verb.targets().cloned().unwrap_or_default();
            match edit::resolve(&targets, view) {
                Ok(nodes) => {
                    self.drain = Some(Drain {
                        cordons: nodes.clone().into(),
                        nodes: nodes.into(),
                        ..Drain::default()
                    });
                }
                Err(error) => {
                    self.fail(error);
                    return;
                }
            }
        }
        let flags = self.flags();
        let Some(mut drain) = self.drain.take() else {
            return;
        };
        let step = drain.step(view, now, &flags, self.cause, out);
        self.lines.append(&mut drain.lines());
        match step {
            Step::Goes => {
                out.at(self.next_look(now), ());
                self.drain = Some(drain);
            }
            Step::Waits => self.drain = Some(drain),
            Step::Done => self.done(),
            Step::Fails(error) => self.fail(error),
        }
    }

    fn drain_reply(&mut self, token: u64, reply: &Reply, now: Time) {
        if let Some(drain) = &mut self.drain
            && let Some(error) = drain.reply(token, reply, now)
        {
            self.fail(error);
        }
    }
}

enum Step {
    /// Look again later.
    Goes,
    /// A reply will come.
    Waits,
    Done,
    Fails(String),
}

/// Token of a cordon; pods use their place in the list.
const CORDON: u64 = u64::MAX;

impl Drain {
    fn lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }

    fn missing(&self) -> String {
        let left: Vec<&str> = self.pods.iter().map(|p| p.name.as_str()).collect();
        let node = self.node.as_ref().map_or("", |n| n.name.as_str());
        let refused = match self.refused {
            0 => String::new(),
            n => format!("; {n} evictions were refused by a PodDisruptionBudget"),
        };
        format!(
            "error: unable to drain {node} in time: {} pods left ({}){refused}",
            left.len(),
            left.join(", ")
        )
    }

    fn step(
        &mut self,
        view: &View,
        now: Time,
        flags: &DrainFlags,
        cause: Cause,
        out: &mut Outbox<()>,
    ) -> Step {
        if self.cordoning.is_some() {
            return Step::Waits;
        }
        while let Some(node) = self.cordons.pop_front() {
            if is_cordoned(&node, view) {
                self.said.push(format!("{} already cordoned", node.name));
                continue;
            }
            let write = Write::Patch {
                object: node.object,
                uid: None,
                patch: Patch::Unschedulable(true),
            };
            let rule = edit::cause_of(cause, "kubectl drain cordons");
            out.send(now, write, rule, CORDON);
            self.cordoning = Some(node);
            return Step::Waits;
        }
        if self.node.is_none() {
            let Some(node) = self.nodes.pop_front() else {
                return Step::Done;
            };
            self.node = Some(node);
        }
        if !self.listed {
            let name = self
                .node
                .as_ref()
                .map(|n| n.name.trim_start_matches("node/").to_owned());
            match wait::drained_pods(&name.unwrap_or_default().into(), flags, view) {
                Ok(pods) => self.list(pods, now),
                Err(error) => return Step::Fails(error),
            }
        }
        let gone = |p: &Leaving| view.pods().get(p.pod).is_none();
        for pod in self.pods.extract_if(.., |p| gone(p)) {
            self.said.push(format!("pod/{} evicted", short(&pod.name)));
        }
        if self.pods.is_empty() {
            let node = self.node.take().map(|n| n.name).unwrap_or_default();
            self.said.push(format!("{node} drained"));
            self.listed = false;
            return self.step(view, now, flags, cause, out);
        }
        for (at, pod) in self.pods.iter_mut().enumerate() {
            if !pod.asked && !pod.in_flight && pod.again <= now {
                pod.in_flight = true;
                let write = wait::removal(pod.pod, flags);
                let rule = edit::cause_of(cause, "kubectl drain evicts");
                out.send(now, write, rule, (at as u64) << 32 | u64::from(pod.pod.0));
            }
        }
        Step::Goes
    }

    fn list(&mut self, pods: Vec<(Id<Pod>, Text)>, now: Time) {
        self.listed = true;
        self.pods = pods
            .into_iter()
            .map(|(pod, name)| Leaving {
                pod,
                name,
                asked: false,
                in_flight: false,
                again: now,
            })
            .collect();
    }

    fn reply(&mut self, token: u64, reply: &Reply, now: Time) -> Option<String> {
        if token == CORDON {
            let node = self.cordoning.take().map(|n| n.name).unwrap_or_default();
            return match reply {
                Ok(_) => {
                    self.said.push(format!("{node} cordoned"));
                    None
                }
                Err(error) => Some(format!("error: unable to cordon {node}: {error}")),
            };
        }
        let id = token & 0xffff_ffff;
        let pod = self.pods.iter_mut().find(|p| u64::from(p.pod.0) == id)?;
        pod.in_flight = false;
        match reply {
            Ok(_) | Err(ApiError::NotFound(_)) => pod.asked = true,
            Err(ApiError::TooManyRequests { .. }) => {
                pod.again = now + REFUSED_PAUSE;
                self.refused += 1;
            }
            Err(error) => {
                return Some(format!(
                    "error when evicting pods/\"{}\": {error}",
                    pod.name
                ));
            }
        }
        None
    }
}

fn is_cordoned(node: &Target, view: &View) -> bool {
    matches!(view.row(node.object), Some(Row::Node(node)) if node.unschedulable)
}

fn short(full: &str) -> &str {
    full.rsplit_once('/').map_or(full, |(_, name)| name)
}
