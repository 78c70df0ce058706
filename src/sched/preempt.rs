//! Preemption: when a pod fits nowhere, whose removal would make it fit, and where that hurts least
//! (`pkg/scheduler/framework/preemption`, `plugins/defaultpreemption`).

use std::cmp::Reverse;
use std::sync::Arc;

use super::cache::NodeIx;
use super::config::{Point, PreemptionArgs};
use super::cycle::Diagnosis;
use super::equal_pods::ClassMemo;
use super::framework::Framework;
use super::plugin::{Code, Cx, CycleState, PluginName, PodEntry, Status};
use super::queue::Nominator;
use super::refusals::Refusals;
use crate::api::pod_status::{PodConditionKind, Truth};
use crate::api::{Pod, PodDisruptionBudget, Text};
use crate::engine::Time;
use crate::engine::draws::{Draws, Purpose, entity_key};

/// Where among the candidates the search starts; keyed by the pod's name.
const OFFSET: Purpose = Purpose::new("sched/preempt-offset");
/// Chooses among candidates that hurt equally.
const TIE: Purpose = Purpose::new("sched/preempt-tie");
/// Reason of the condition that victims get (`v1.PodReasonPreemptionByScheduler`).
pub const BY_SCHEDULER: &str = "PreemptionByScheduler";

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Preemption {
    /// The node to nominate; an empty name ends an earlier nomination, `None` leaves it alone.
    pub nominate: Option<Text>,
    /// Pods to delete, the most important first.
    pub victims: Vec<PodEntry>,
    /// For the pod's condition; empty on success.
    pub message: String,
    /// Whether a plugin failed while victims were looked for, and nothing was found.
    pub failed: bool,
}

/// A node that would do, and at what price.
#[derive(Clone, Debug)]
pub struct Candidate {
    node: NodeIx,
    victims: Vec<PodEntry>,
    violations: i64,
}

/// What a search for victims works with.
#[derive(Clone, Copy)]
pub struct Preemptor<'a> {
    /// The profile.
    pub framework: &'a Framework,
    /// View and cache.
    pub cx: &'a Cx<'a>,
    /// What PreFilter left.
    pub state: &'a CycleState,
    /// The pod.
    pub pod: &'a PodEntry,
    /// Promises of room.
    pub nominator: &'a Nominator,
    /// The plugin's arguments.
    pub args: PreemptionArgs,
    /// The current time, which counts as the start of pods that have not started.
    pub now: Time,
    /// Named draws.
    pub draws: &'a Draws,
}

impl Preemptor<'_> {
    /// `RunPostFilterPlugins`: what the profile does for a pod that fits nowhere.
    ///
    /// DynamicResources comes before preemption, and has no claims to free. It fails when PreFilter
    /// refused the pod before its own turn (`getStateData`), which ends PostFilter: such a pod
    /// preempts nobody, and keeps an earlier nomination.
    pub fn post_filter(&self, diagnosis: &Diagnosis, memo: Option<&mut ClassMemo>) -> Preemption {
        let mut result = Preemption::default();
        if !self.framework.any(Point::PostFilter) {
            result.nominate = Some(Text::default());
            return result;
        }
        let mut reasons = Vec::new();
        let mut memo = memo;
        for plugin in self.framework.at(Point::PostFilter) {
            match plugin.name() {
                PluginName::DynamicResources if !self.state.claims_looked_at => {
                    return Preemption {
                        message: "not found".to_owned(),
                        ..Preemption::default()
                    };
                }
                PluginName::DynamicResources => {
                    reasons.push("no new claims to deallocate".to_owned());
                }
                _ => {
                    let preemption = self.run(diagnosis, memo.take());
                    if preemption.message.is_empty() || preemption.failed {
                        return preemption;
                    }
                    reasons.push(preemption.message);
                    result.nominate = preemption.nominate;
                }
            }
        }
        result.message = reasons.join(", ");
        result
    }

    /// `Evaluator.Preempt`.
    ///
    /// `memo` holds what is known of equal pods.
    fn run(&self, diagnosis: &Diagnosis, memo: Option<&mut ClassMemo>) -> Preemption {
        if let Some(why) = self.ineligible(diagnosis) {
            return Preemption {
                message: format!("preemption: {why}"),
                ..Preemption::default()
            };
        }
        let (candidates, refused) = self.candidates(diagnosis, memo);
        if candidates.is_empty()
            && let Some(error) = first_errors(&refused)
        {
            return Preemption {
                message: format!("preemption: {error}"),
                failed: true,
                ..Preemption::default()
            };
        }
        match self.pick(candidates) {
            Some(best) => Preemption {
                nominate: Some(self.cx.cache.node(best.node).name.clone()),
                victims: best.victims,
                ..Preemption::default()
            },
            None => {
                let unhelpful = "Preemption is not helpful for scheduling";
                let failed = Diagnosis {
                    nodes: refused,
                    absent: Some(Status::unresolvable(unhelpful)),
                    ..Diagnosis::default()
                };
                let nodes = self.cx.cache.order().len();
                Preemption {
                    nominate: Some(Text::default()),
                    message: format!("preemption: {}", failed.message(nodes)),
                    ..Preemption::default()
                }
            }
        }
    }

    /// `PodEligibleToPreemptOthers`: not by policy, or because victims are still on their way out.
    fn ineligible(&self, diagnosis: &Diagnosis) -> Option<&'static str> {
        if self.pod.template.spec.preempt_never {
            return Some("not eligible due to preemptionPolicy=Never.");
        }
        let nominated = self.pod.pod.status.nominated_node.as_ref()?;
        let info = self.cx.cache.find(nominated)?;
        let status = diagnosis.nodes.get(info.ix);
        let unresolvable = |s: &Status| s.code == Code::UnschedulableAndUnresolvable;
        if status
            .or(diagnosis.absent.as_ref())
            .is_none_or(unresolvable)
        {
            return None;
        }
        let leaving = |p: &PodEntry| self.lower(p) && terminating_by_preemption(&p.pod);
        info.pods
            .iter()
            .any(leaving)
            .then_some("not eligible due to a terminating pod on the nominated node.")
    }

    fn lower(&self, other: &PodEntry) -> bool {
        other.pod.spec.priority < self.pod.pod.spec.priority
    }

    /// `findCandidates` and `DryRunPreemption`: nodes that were refused for a reason that removing
    /// pods can resolve, from a random one on, until enough candidates are found.
    fn candidates(
        &self,
        diagnosis: &Diagnosis,
        mut memo: Option<&mut ClassMemo>,
    ) -> (Vec<Candidate>, Refusals) {
        let absent = diagnosis.absent.as_ref().map(|s| s.code);
        let resolvable = |ix: &&NodeIx| {
            let code = diagnosis.nodes.get(**ix).map(|s| s.code).or(absent);
            code == Some(Code::Unschedulable)
        };
        let order = self.cx.cache.order().iter();
        let nodes: Vec<NodeIx> = order.filter(resolvable).copied().collect();
        let mut refused = Refusals::default();
        if nodes.is_empty() {
            return (Vec::new(), refused);
        }
        let meta = &self.pod.pod.meta;
        let entity = entity_key(&[&meta.namespace, &meta.name]);
        let count = nodes.len();
        let offset = self
            .draws
            .below(OFFSET, entity, self.now.as_nanos(), count as u64);
        let offset = usize::try_from(offset).unwrap_or(0);
        let wanted = self.wanted_candidates(count);
        let budgets: Vec<_> = self.cx.view.of::<PodDisruptionBudget>().iter().collect();
        let budgets: Vec<&Arc<PodDisruptionBudget>> = budgets.iter().map(|(_, b)| *b).collect();
        let (mut gentle, mut violating) = (Vec::new(), Vec::new());
        for i in 0..count {
            let ix = nodes[(offset + i) % count];
            match self.known_victims(ix, &budgets, memo.as_deref_mut()) {
                Err(status) => {
                    refused.insert(ix, &status);
                }
                Ok(candidate) if candidate.violations == 0 => gentle.push(candidate),
                Ok(candidate) => violating.push(candidate),
            }
            if !gentle.is_empty() && gentle.len() + violating.len() >= wanted {
                break;
            }
        }
        gentle.extend(violating);
        (gentle, refused)
    }

    /// `calculateNumCandidates`.
    fn wanted_candidates(&self, nodes: usize) -> usize {
        let share = i64::try_from(nodes).unwrap_or(i64::MAX) * i64::from(self.args.min_percentage);
        let wanted = (share / 100).max(i64::from(self.args.min_absolute));
        usize::try_from(wanted).unwrap_or(0).min(nodes)
    }

    /// [`Preemptor::victims_on`], from memory where nothing but the node and the pods that are
    /// nominated to it decides.
    fn known_victims(
        &self,
        ix: NodeIx,
        budgets: &[&Arc<PodDisruptionBudget>],
        memo: Option<&mut ClassMemo>,
    ) -> Result<Candidate, Status> {
        let name = &self.cx.cache.node(ix).name;
        let own = self.nominator.node_of(self.pod.id) == Some(name);
        let memo = memo.filter(|memo| memo.complete() && budgets.is_empty() && !own);
        let Some(memo) = memo else {
            return self.victims_on(ix, budgets);
        };
        let version = self.nominator.version(ix);
        if let Some(known) = memo.room(self.cx, ix, version) {
            return known.clone();
        }
        let found = self.victims_on(ix, budgets);
        memo.keep_room(self.cx, ix, version, &found);
        found
    }

    /// `SelectVictimsOnNode`: all pods of lower priority go, then as many as possible come back,
    /// the most important first, those whose budgets would be violated before the others.
    fn victims_on(
        &self,
        ix: NodeIx,
        budgets: &[&Arc<PodDisruptionBudget>],
    ) -> Result<Candidate, Status> {
        let pods = self.cx.cache.node(ix).pods.iter();
        let mut lower: Vec<PodEntry> = pods.filter(|p| self.lower(p)).cloned().collect();
        if lower.is_empty() {
            return Err(Status::unresolvable(
                "No preemption victims found for incoming pod",
            ));
        }
        let mut node = self.cx.cache.node(ix).clone();
        let mut state = self.state.clone();
        for victim in &lower {
            node.remove_pod(victim.id);
            self.framework
                .remove_pod(self.cx, &mut state, self.pod, victim, &node);
        }
        let fits = |state: &CycleState, node: &_| {
            let (framework, nominator) = (self.framework, self.nominator);
            framework.filter_with_nominated(self.cx, state, self.pod, node, nominator)
        };
        fits(&state, &node)?;
        self.sort(&mut lower);
        let (violating, others) = split_by_budget(&lower, budgets);
        let both = !violating.is_empty() && !others.is_empty();
        let mut candidate = Candidate {
            node: ix,
            victims: Vec::new(),
            violations: 0,
        };
        let violators = violating.len();
        for (i, pod) in violating.into_iter().chain(others).enumerate() {
            node.add_pod(pod.clone());
            self.framework
                .add_pod(self.cx, &mut state, self.pod, &pod, &node);
            if fits(&state, &node).is_err() {
                node.remove_pod(pod.id);
                self.framework
                    .remove_pod(self.cx, &mut state, self.pod, &pod, &node);
                candidate.victims.push(pod);
                candidate.violations += i64::from(i < violators);
            }
        }
        if both {
            self.sort(&mut candidate.victims);
        }
        if candidate.victims.is_empty() {
            let name = &node.name;
            let message = format!("expected at least one victim pod on node \"{name}\"");
            return Err(Status::new(Code::Error, message));
        }
        Ok(candidate)
    }

    fn started(&self, pod: &PodEntry) -> Time {
        pod.pod.status.start_time.unwrap_or(self.now)
    }

    /// `MoreImportantPod`: higher priority, then earlier start.
    fn sort(&self, pods: &mut [PodEntry]) {
        pods.sort_by_key(|p| (Reverse(p.pod.spec.priority), self.started(p)));
    }

    /// `pickOneNodeForPreemption`: one criterion after the other until one candidate is left; a
    /// draw where upstream takes whichever its map gives.
    fn pick(&self, mut candidates: Vec<Candidate>) -> Option<Candidate> {
        let priority = |p: &PodEntry| i64::from(p.pod.spec.priority);
        let sum = |c: &Candidate| {
            let shifted = c.victims.iter().map(|p| priority(p) + (1i64 << 31));
            shifted.sum::<i64>()
        };
        let earliest = |c: &Candidate| {
            let most = c.victims.iter().map(priority).max();
            let top = c.victims.iter().filter(|p| Some(priority(p)) == most);
            top.map(|p| self.started(p)).min().unwrap_or(self.now)
        };
        let criteria: [&dyn Fn(&Candidate) -> i64; 5] = [
            &|c| -c.violations,
            &|c| c.victims.first().map_or(i64::MIN, |p| -priority(p)),
            &|c| -sum(c),
            &|c| -i64::try_from(c.victims.len()).unwrap_or(i64::MAX),
            &|c| i64::try_from(earliest(c).as_nanos()).unwrap_or(i64::MAX),
        ];
        for criterion in criteria {
            let most = candidates.iter().map(criterion).max()?;
            candidates.retain(|c| criterion(c) == most);
            if candidates.len() == 1 {
                return candidates.pop();
            }
        }
        let meta = &self.pod.pod.meta;
        let entity = entity_key(&[&meta.namespace, &meta.name]);
        let count = candidates.len() as u64;
        let draw = self.draws.below(TIE, entity, self.now.as_nanos(), count);
        Some(candidates.swap_remove(usize::try_from(draw).unwrap_or(0)))
    }
}

/// What went wrong on any node (`utilerrors.NewAggregate`: each message once).
fn first_errors(refused: &Refusals) -> Option<String> {
    let errors = refused.counted().filter(|(s, _)| s.code == Code::Error);
    let messages: Vec<String> = errors.map(|(status, _)| status.message()).collect();
    match messages.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("[{}]", many.join(", "))),
    }
}

/// `podTerminatingByPreemption`.
fn terminating_by_preemption(pod: &Pod) -> bool {
    let condition = pod.status.condition(&PodConditionKind::DisruptionTarget);
    pod.meta.deleting()
        && condition.is_some_and(|c| {
            c.status == Truth::True && c.reason.as_ref().is_some_and(|r| r == BY_SCHEDULER)
        })
}

/// `filterPodsWithPDBViolation`: pods whose deletion a budget does not allow, and the others.
fn split_by_budget(
    pods: &[PodEntry],
    budgets: &[&Arc<PodDisruptionBudget>],
) -> (Vec<PodEntry>, Vec<PodEntry>) {
    let mut allowed: Vec<i32> = budgets
        .iter()
        .map(|b| b.status.disruptions_allowed)
        .collect();
    let mut violates = |entry: &PodEntry| {
        let meta = &entry.pod.meta;
        let mut violated = false;
        for (budget, allowed) in budgets.iter().zip(&mut allowed) {
            let disrupted = || budget.status.disrupted.iter().any(|(n, _)| *n == meta.name);
            if meta.labels.is_empty()
                || budget.meta.namespace != meta.namespace
                || budget.selector.is_empty()
                || !budget.selector.matches(&meta.labels)
                || disrupted()
            {
                continue;
            }
            *allowed -= 1;
            violated |= *allowed < 0;
        }
        violated
    };
    pods.iter().cloned().partition(|p| violates(p))
}
