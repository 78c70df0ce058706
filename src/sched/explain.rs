//! Why a pod goes where it goes: one scheduling cycle on a view, with every verdict and every
//! score. Nothing is changed by it.

use serde_json::{Map, Value, json};
use std::sync::Arc;

use super::cache::Cache;
use super::config::{Point, Profile, SchedulerConfig};
use super::cycle::{self, Found, Search};
use super::framework::{Framework, PluginScores};
use super::plugin::{Cx, CycleState, PluginName, Status};
use super::preempt::{Preemption, Preemptor};
use super::queue::Nominator;
use crate::api::{Pod, Text};
use crate::engine::Time;
use crate::engine::draws::Draws;
use crate::store::View;

/// The plugin that nodes are attributed to which a PreFilter result left out.
pub const NODE_SET: &str = "(prefilter node set)";

/// `ErrNoNodesAvailable`.
pub(super) const NO_NODES: &str = "no nodes available to schedule pods";

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The plugin's name, or [`NODE_SET`].
    pub plugin: &'static str,
    /// `Unschedulable`, `UnschedulableAndUnresolvable` or `Error`.
    pub code: &'static str,
    /// Word for word as upstream.
    pub reasons: Vec<String>,
}

impl From<&Status> for Refusal {
    fn from(status: &Status) -> Refusal {
        Refusal {
            plugin: status.plugin.map_or("", PluginName::name),
            code: status.code.name(),
            reasons: status.reasons.iter().map(|r| r.to_string()).collect(),
        }
    }
}

/// One scheduling cycle, explained.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explanation {
    /// `namespace/name`.
    pub pod: String,
    /// PreFilter's refusal of the pod as a whole.
    pub pre_filter: Option<Refusal>,
    /// Nodes that fit, in the order of nodes.
    pub feasible: Vec<Text>,
    /// Nodes that do not fit.
    pub rejected: Vec<(Text, Refusal)>,
    /// Scores per plugin, each in the order of `feasible`.
    pub scores: Vec<PluginScores>,
    /// Sums of weighted scores in the order of `feasible`.
    pub totals: Vec<i64>,
    /// The nodes of the highest total.
    pub selected: Vec<Text>,
    /// The message of the pod's condition when no node fits.
    pub message: Option<String>,
    /// What preemption would do when no node fits: node (empty for none) and `namespace/name` of
    /// the victims.
    pub preemption: Option<(Text, Vec<String>)>,
}

/// Fills a cache and the nominations from a view, as the informers' first lists do.
pub(super) fn load(cache: &mut Cache, nominator: &mut Nominator, view: &View) {
    for (_, node) in view.nodes().iter() {
        cache.set_node(node);
    }
    for (id, pod) in view.pods().iter() {
        if pod.status.phase.terminal() {
            continue;
        }
        let entry = cache.entry(id.0, pod);
        if let Some(node) = &pod.node_name {
            cache.add_pod(entry, node, false);
        } else if let Some(node) = &pod.status.nominated_node {
            nominator.add(entry, node);
        }
    }
    cache.refresh();
}

/// Explains one cycle for `pod` (which need not be in the view). Fails when no profile has the
/// pod's `schedulerName`.
pub fn explain(
    config: &SchedulerConfig,
    draws: &Draws,
    pod: &Arc<Pod>,
    view: &View,
    now: Time,
) -> Result<Explanation, String> {
    let name = &pod.spec.scheduler_name;
    let profile = config.profiles.iter().find(|p| p.name == *name);
    let profile =
        profile.ok_or_else(|| format!("profile not found for scheduler name \"{name}\""))?;
    let mut cache = Cache::default();
    let mut nominator = Nominator::default();
    load(&mut cache, &mut nominator, view);
    let thorough = Profile {
        percentage_of_nodes_to_score: Some(100),
        ..profile.clone()
    };
    let framework = Framework::new(&thorough, &mut cache);
    let meta = &pod.meta;
    let stored = view.pods().named(&meta.namespace, &meta.name);
    let entry = cache.entry(stored.map_or(u32::MAX, |(id, _)| id.0), pod);
    nominator.remove(entry.id);
    nominator.refresh(&cache);
    let cx = Cx {
        view,
        cache: &cache,
    };
    let mut state = CycleState::default();
    let search = Search::all(&nominator);
    let (mut found, _) = cycle::find_nodes(&framework, &cx, &mut state, &entry, search, |_| None);
    let mut result = verdicts(&cache, &found);
    result.pod = meta.full_name();
    if let Some(error) = found.error {
        result.message = Some(error);
        return Ok(result);
    }
    if cache.order().is_empty() {
        return Ok(Explanation {
            message: Some(NO_NODES.into()),
            pre_filter: None,
            ..result
        });
    }
    if !found.feasible.is_empty() {
        let order = cache.order().iter().copied();
        let feasible: Vec<_> = order.filter(|ix| found.feasible.contains(ix)).collect();
        result.scores = framework.score(&cx, &mut state, &entry, &feasible);
        result.totals = cycle::totals(&result.scores, feasible.len());
        result.selected = result.best();
        return Ok(result);
    }
    if framework.any(Point::PostFilter) {
        let preemptor = Preemptor {
            framework: &framework,
            cx: &cx,
            state: &state,
            pod: &entry,
            nominator: &nominator,
            args: profile.args.preemption,
            now,
            draws,
        };
        let outcome = preemptor.post_filter(&found.diagnosis, None);
        found.diagnosis.post_filter = outcome.message.clone();
        result.preemption = Some(told(outcome));
    }
    result.message = Some(found.diagnosis.message(cache.order().len()));
    Ok(result)
}

fn told(outcome: Preemption) -> (Text, Vec<String>) {
    let victims = outcome.victims.iter().map(|v| v.pod.meta.full_name());
    (outcome.nominate.unwrap_or_default(), victims.collect())
}

/// Which nodes fit, and why the others do not, in the order of nodes.
fn verdicts(cache: &Cache, found: &Found) -> Explanation {
    let mut result = Explanation::default();
    let absent = found.diagnosis.absent.as_ref();
    if found.diagnosis.pre_filter.is_some() {
        result.pre_filter = absent.map(Refusal::from);
    }
    for ix in cache.order() {
        let name = cache.node(*ix).name.clone();
        match found.diagnosis.nodes.get(*ix) {
            Some(status) => result.rejected.push((name, status.into())),
            None if found.feasible.contains(ix) => result.feasible.push(name),
            None => result.rejected.push((name, left_out(absent))),
        }
    }
    result
}

/// The refusal of a node that Filter never saw.
fn left_out(absent: Option<&Status>) -> Refusal {
    let code = absent.map_or("UnschedulableAndUnresolvable", |s| s.code.name());
    match absent {
        Some(status) if status.plugin.is_some() => status.into(),
        _ => Refusal {
            plugin: NODE_SET,
            code,
            reasons: Vec::new(),
        },
    }
}

impl Explanation {
    fn best(&self) -> Vec<Text> {
        let most = self.totals.iter().max();
        let nodes = self.feasible.iter().zip(&self.totals);
        let best = nodes.filter(|(_, total)| Some(*total) == most);
        best.map(|(name, _)| name.clone()).collect()
    }

    /// As `rehearsal explain --json` prints it.
    pub fn to_json(&self) -> Value {
        let refusal =
            |r: &Refusal| json!({"plugin": r.plugin, "code": r.code, "reasons": r.reasons});
        let rejected = self.rejected.iter();
        let rejected = rejected.map(|(name, r)| (name.to_string(), refusal(r)));
        let mut scores = Map::new();
        for (i, name) in self.feasible.iter().enumerate() {
            let mut of_node = Map::new();
            for plugin in &self.scores {
                let score = json!({
                    "raw": plugin.raw[i],
                    "normalized": plugin.normalized[i],
                    "weight": plugin.weight,
                    "weighted": plugin.normalized[i] * plugin.weight,
                });
                of_node.insert(plugin.plugin.name().to_owned(), score);
            }
            of_node.insert("total".into(), json!(self.totals.get(i)));
            scores.insert(name.to_string(), Value::Object(of_node));
        }
        let mut out = json!({
            "pod": self.pod,
            "feasible": self.feasible,
            "rejected": rejected.collect::<Map<_, _>>(),
            "scores": scores,
            "selected": self.selected,
        });
        if let Some(status) = &self.pre_filter {
            out["prefilter"] = refusal(status);
        }
        if let Some(message) = &self.message {
            out["message"] = json!(message);
        }
        if let Some((node, victims)) = &self.preemption {
            let nominated = (!node.is_empty()).then_some(node);
            out["preemption"] = json!({"nominated": nominated, "victims": victims});
        }
        out
    }
}
