//! Rolling updates: when they begin, what they wait for, when they are complete.
//!
//! Deployments report their replicas over time; of StatefulSets and DaemonSets the steps are known,
//! pods of one revision more or fewer.

use std::collections::BTreeMap;
use std::time::Duration;

use super::line::Line;
use crate::engine::Time;
use crate::record::revisions::COMPLETE;
use crate::record::{PodLife, ReplicaPoint, ScaleStep, SpecChange, What};
use crate::report::names::{Names, alive, bare, listed, ready_at, tag};
use crate::report::number::{count, span};

/// A pause between two steps of a rollout that is worth telling.
const PAUSE: Duration = Duration::from_secs(30);

/// Lines about rollouts.
pub fn lines(names: &Names<'_>) -> Vec<Line> {
    let run = names.run;
    let mut lines = Vec::new();
    let begun = run.header.begun;
    for spec in run.specs.iter().filter(|s| s.rollout && s.at > begun) {
        let rollout = Rollout::new(names, spec);
        lines.extend(rollout.begins());
        lines.extend(rollout.waits());
        lines.extend(rollout.deadline());
        lines.extend(rollout.ends());
    }
    lines
}

struct Rollout<'n, 'r> {
    names: &'n Names<'r>,
    spec: &'r SpecChange,
    /// When its successor began, or the run's end.
    until: Time,
    complete: Option<Time>,
    points: &'r [ReplicaPoint],
}

impl<'n, 'r> Rollout<'n, 'r> {
    fn new(names: &'n Names<'r>, spec: &'r SpecChange) -> Self {
        let run = names.run;
        let next = (run.specs.iter())
            .find(|s| s.deployment == spec.deployment && s.rollout && s.at > spec.at);
        let until = next.map_or(run.header.begun + run.header.simulated, |s| s.at);
        let points = run.replicas.get(&spec.deployment);
        let mut rollout = Rollout {
            names,
            spec,
            until,
            complete: None,
            points: points.map(Vec::as_slice).unwrap_or_default(),
        };
        let complete = rollout.progress("NewReplicaSetAvailable");
        rollout.complete = complete.or_else(|| rollout.progress(COMPLETE));
        rollout
    }

    fn name(&self) -> &'r str {
        bare(&self.spec.deployment)
    }

    fn progress(&self, reason: &str) -> Option<Time> {
        let mut entries = self.names.run.causes.iter();
        let full =
            |namespace: &str, name: &str| self.spec.deployment == format!("{namespace}/{name}");
        let found = entries.find(|e| {
            matches!(&*e.kind, "Deployment" | "StatefulSet" | "DaemonSet")
                && self.spec.at < e.at
                && e.at <= self.until
                && matches!(&e.what, What::Progress(r) if **r == *reason)
                && full(&e.namespace, &e.name)
        });
        found.map(|e| e.at)
    }

    fn last_point(&self, at: Time) -> Option<&'r ReplicaPoint> {
        self.points.iter().rfind(|p| p.at <= at)
    }

    /// Of a StatefulSet or DaemonSet: how many pods of the new version there were at last.
    fn last_step(&self) -> Option<&'r ScaleStep> {
        let spec = self.spec;
        let mut steps = self.names.run.rollouts.iter();
        steps.rfind(|s| {
            let inside = spec.at <= s.at && s.at <= self.until && s.image == spec.image;
            inside && spec.deployment == format!("{}/{}", s.namespace, s.deployment)
        })
    }

    /// A line of its own unless a step began it, which says so itself.
    fn begins(&self) -> Option<Line> {
        let spec = self.spec;
        let near = |at: Time| at <= spec.at && spec.at.since(at) <= Duration::from_secs(1);
        let steps = &self.names.run.steps;
        if steps.iter().any(|s| s.result.is_none() && near(s.at)) {
            return None;
        }
        let text = format!("rollout of {} begins: {}", self.name(), tag(&spec.image));
        let limits = format!("surge {}, unavailable {}", spec.surge, spec.unavailable);
        let limits = if spec.recreate {
            "Recreate".to_owned()
        } else {
            limits
        };
        Some(Line::new(spec.at, 1, text).note(limits))
    }

    /// The two longest pauses, each where it could first be noticed.
    fn waits(&self) -> Vec<Line> {
        let end = self.complete.unwrap_or(self.until);
        let steps = self.names.run.rollouts.iter().filter(|s| {
            s.deployment == *self.name() && self.spec.deployment.starts_with(&*s.namespace)
        });
        let mut times: Vec<Time> = (steps.map(|s| s.at))
            .filter(|at| self.spec.at <= *at && *at <= end)
            .collect();
        times.push(end);
        let mut pauses: Vec<(Time, Time)> = (times.windows(2).map(|w| (w[0], w[1])))
            .filter(|(from, to)| to.since(*from) >= PAUSE)
            .collect();
        pauses.sort_by_key(|(from, to)| (std::cmp::Reverse(to.since(*from)), *from));
        pauses.truncate(2);
        (pauses.into_iter())
            .map(|(from, to)| self.wait(from, to))
            .collect()
    }

    fn wait(&self, from: Time, to: Time) -> Line {
        let inside = |at: Time| from < at && at < to;
        let drop = (self.points.windows(2))
            .find(|w| inside(w[1].at) && w[1].available < w[0].available)
            .map(|w| w[1].at);
        let at = drop.unwrap_or(from);
        let look = at + to.since(at) / 2;
        let spec = self.spec;
        let least = spec.to - spec.unavailable;
        let have = self.last_point(look).map_or(0, |p| p.available);
        let mut text = format!("rollout of {} waits: ", self.name());
        let why = self.why(look);
        if self.points.is_empty() {
            text.push_str(if why.is_empty() {
                "no pod replaced"
            } else {
                &why
            });
            return Line::new(at, 1, text).note(span(to.since(at)));
        }
        if have <= least && !spec.recreate {
            text.push_str(&format!(
                "{have} available, maxUnavailable {} needs {least}",
                spec.unavailable
            ));
        } else {
            text.push_str(&format!("{have} of {} available", spec.to));
        }
        if !why.is_empty() {
            text.push_str(&format!("; {why}"));
        }
        Line::new(at, 1, text).note(span(to.since(at)))
    }

    /// What the pods that are not ready at a time are waiting for.
    fn why(&self, at: Time) -> String {
        let names = self.names;
        let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
        let mine = names
            .run
            .pods
            .iter()
            .filter(|p| names.app(p) == self.name() && alive(p, at) && !ready_at(p, at));
        let mut dead_new = 0_u64;
        for pod in mine {
            let new = pod.image == self.spec.image;
            if new && self.on_dead_node(pod, at) {
                dead_new += 1;
            } else if pod.terminating.is_none_or(|t| t > at) {
                *reasons.entry(self.state(pod, at, new)).or_default() += 1;
            }
        }
        let mut parts: Vec<String> = (reasons.into_iter())
            .map(|(reason, n)| format!("{} {reason}", count(n, "pod")))
            .collect();
        if dead_new > 0 {
            let (which, hold) = match dead_new {
                1 => ("the new pod".to_owned(), "holds"),
                n => (format!("{n} new pods"), "hold"),
            };
            let what = if self.spec.surge > 0 {
                " the surge slot"
            } else {
                " its slot"
            };
            parts.insert(0, format!("{which} on the lost node {hold}{what}"));
        }
        listed(&parts)
    }

    fn on_dead_node(&self, pod: &PodLife, at: Time) -> bool {
        let mut marks = self.names.run.nodes.iter();
        use crate::record::NodeMarkKind::{NotReady, Ready, Unknown};
        let last = marks.rfind(|m| {
            m.node == pod.node && m.at <= at && matches!(m.what, Ready | NotReady | Unknown)
        });
        last.is_some_and(|m| m.what == Unknown)
    }

    fn state(&self, pod: &PodLife, at: Time, new: bool) -> String {
        let age = if new { "new" } else { "old" };
        if self.on_dead_node(pod, at) {
            return format!("({age}) on a lost node");
        }
        if pod.scheduled.is_none_or(|t| t > at) {
            let why =
                self.names.run.events.iter().rfind(|e| {
                    e.at <= at && e.name == pod.name && *e.reason == *"FailedScheduling"
                });
            let why = why.map(|e| format!(": {}", short(&e.message)));
            return format!("({age}) unschedulable{}", why.unwrap_or_default());
        }
        if pod.started.is_none_or(|t| t > at) {
            return format!("({age}) not started{}", because(&pod.reason));
        }
        if pod.restarts > 0 {
            return format!("({age}) restarting{}", because(&pod.reason));
        }
        format!("({age}) not ready")
    }

    fn deadline(&self) -> Option<Line> {
        let at = self.progress("ProgressDeadlineExceeded")?;
        let text = format!(
            "rollout of {}: ProgressDeadlineExceeded ({}s without progress)",
            self.name(),
            self.spec.deadline_s
        );
        Some(Line::new(at, 0, text).bad())
    }

    fn ends(&self) -> Option<Line> {
        let spec = self.spec;
        let (name, version) = (self.name(), tag(&spec.image));
        let Some(at) = self.complete else {
            let over = self.names.run.header.begun + self.names.run.header.simulated;
            let updated = match self.last_point(self.until) {
                Some(last) => last.updated,
                None => self.last_step()?.to,
            };
            let text = format!(
                "rollout of {name} not complete: {version} {}/{}",
                updated.min(spec.to),
                spec.to
            );
            return (self.until == over).then(|| Line::new(over, 0, text).bad());
        };
        let want = self.last_point(at).map_or(spec.to, |p| p.want);
        let text = format!("rollout of {name} complete, {version} {want}/{want}");
        let low = self.points.iter().filter(|p| spec.at <= p.at && p.at <= at);
        let low = low.map(|p| p.ready).min().unwrap_or(want);
        let least = if low < want {
            format!("ready at least {low}")
        } else {
            String::new()
        };
        let took = format!("took {}", span(at.since(spec.at)));
        Some(Line::new(at, 1, text).note(took).note(least))
    }
}

fn because(reason: &str) -> String {
    match reason {
        "" => String::new(),
        reason => format!(" ({reason})"),
    }
}

/// The first sentence of a message.
pub fn short(message: &str) -> String {
    let end = message.find(". ").unwrap_or(message.len());
    let first = message[..end].trim_end_matches('.');
    if first.chars().count() <= 110 {
        return first.to_owned();
    }
    let cut: String = first.chars().take(109).collect();
    format!("{cut}…")
}
