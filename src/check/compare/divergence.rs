//! Where two variants first decide differently, and why each decided as it did.
//!
//! Up to that decision both had the same cluster before them. Each is run again up to there, and its
//! cycle is looked at from close: what every plugin gave to both nodes.

use super::placement::{Decision, Placement};
use super::prepare::Prepared;
use super::{Decisions, Outcome, Ready};
use crate::record::trials::{Choice, Divergence};
use crate::scenario::Experiment;
use crate::sched::cache::NodeIx;
use crate::sched::cycle::{self, Search};
use crate::sched::plugin::CycleState;

/// The first divergence of every variant from the first one.
pub(super) fn all(
    experiment: &Experiment,
    plans: &[Ready<'_>],
    seed: u64,
    outcomes: &[Outcome],
) -> Vec<Divergence> {
    let others = experiment.variants.iter().zip(plans).zip(outcomes).skip(1);
    let found = others.filter_map(|((variant, plan), outcome)| {
        let divergence = match (&outcomes[0].decisions, &outcome.decisions) {
            (Decisions::Trace(base), Decisions::Trace(other)) => {
                let at = (base.decisions.iter().zip(&other.decisions)).position(|(a, b)| a != b)?;
                let pair = [base.decisions[at], other.decisions[at]];
                let at_s = base.times[at].as_secs_f64();
                let (Ready::Trace(first), Ready::Trace(second)) = (&plans[0], plan) else {
                    return None;
                };
                on_trace([first, second], seed, at, pair, at_s)
            }
            (Decisions::Cluster(base), Decisions::Cluster(other)) => {
                let place = |(a, b): (&_, &_)| a != b;
                let at = base.iter().zip(other).position(place)?;
                let choice = |bound: &super::cluster_trial::Bound| Choice {
                    node: Some(bound.node.clone()),
                    reason: format!("{} bound at {:.3}s", bound.pod, bound.at_s),
                    ..Choice::default()
                };
                Divergence {
                    variant: String::new(),
                    pod: base[at].pod.clone(),
                    at_s: base[at].at_s,
                    decision: at as u64,
                    base: choice(&base[at]),
                    other: choice(&other[at]),
                }
            }
            _ => return None,
        };
        Some(Divergence {
            variant: variant.name.to_string(),
            ..divergence
        })
    });
    found.collect()
}

fn on_trace(
    plans: [&Prepared<'_>; 2],
    seed: u64,
    at: usize,
    decisions: [Decision; 2],
    at_s: f64,
) -> Divergence {
    let [base, other] = decisions;
    let choices = [(plans[0], base, other), (plans[1], other, base)];
    let mut pod = String::new();
    let [base, other] = choices.map(|(plan, own, other)| {
        let mut placement = Placement::new(plan, seed).until(at);
        placement.run();
        if pod.is_empty() {
            pod = placement.pod_name(own.0);
        }
        explain(plan, &mut placement, own, other.1)
    });
    Divergence {
        variant: String::new(),
        pod,
        at_s,
        decision: at as u64,
        base,
        other,
    }
}

/// The cycle of a decision, from close.
fn explain(
    plan: &Prepared<'_>,
    placement: &mut Placement<'_>,
    (pod, node): Decision,
    other: Option<NodeIx>,
) -> Choice {
    let entry = placement.entry(pod);
    let cx = placement.cx();
    let mut state = CycleState::default();
    let search = Search {
        percentage: plan.percentage,
        start: placement.start(),
        nominator: placement.nominator(),
        thorough: false,
        choice: None,
    };
    let framework = &placement.framework;
    let (found, _) = cycle::find_nodes(framework, &cx, &mut state, &entry, search, |_| None);
    let nodes = &found.feasible;
    let Some(node) = node else {
        return Choice {
            feasible: nodes.len() as u64,
            reason: found.diagnosis.message(cx.cache.order().len()),
            ..Choice::default()
        };
    };
    let scores = framework.score(&cx, &mut state, &entry, nodes);
    let totals = cycle::totals(&scores, nodes.len());
    let most = totals.iter().max().copied();
    let place = |node: NodeIx| nodes.iter().position(|ix| *ix == node);
    let (own, other) = (place(node), other.and_then(place));
    let mut reasons = Vec::new();
    for plugin in &scores {
        let weighted = |at: usize| plugin.normalized[at] * plugin.weight;
        match (own.map(weighted), other.map(weighted)) {
            (Some(a), Some(b)) if a != b => {
                reasons.push(format!("{} {a} against {b}", plugin.plugin.name()));
            }
            (Some(a), None) => reasons.push(format!("{} {a}", plugin.plugin.name())),
            _ => {}
        }
    }
    if reasons.is_empty() {
        reasons.push("equal scores, drawn".to_owned());
    }
    Choice {
        node: Some(cx.cache.node(node).name.to_string()),
        score: own.map(|at| totals[at]),
        score_of_other: other.map(|at| totals[at]),
        feasible: nodes.len() as u64,
        best: totals.iter().filter(|total| Some(**total) == most).count() as u64,
        reason: reasons.join(", "),
    }
}
