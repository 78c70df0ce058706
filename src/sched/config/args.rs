//! The arguments of plugins, checked as `pkg/scheduler/apis/config/validation ::
//! validation_pluginargs.go` does it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::decode::known;
use super::mistakes::Mistakes;
use super::{Args, FitArgs, NodeAffinityArgs, SpreadArgs, Strategy, policies};
use crate::api::Text;
use crate::api::affinity::{InclusionPolicy, TopologySpread, WhenUnsatisfiable};
use crate::api::decode::{DecodeContext, affinity_from_json, decode_json};
use crate::api::selector::LabelSelector;
use crate::api::validate::names::label_key;
use crate::sched::plugin::PluginName;

/// Arguments as written: a plugin's name, and what it is given.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PluginConfig {
    pub name: String,
    #[serde(default)]
    pub args: Value,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FitWritten {
    #[serde(default)]
    ignored_resources: Vec<Text>,
    #[serde(default)]
    ignored_resource_groups: Vec<Text>,
    scoring_strategy: Option<ScoringStrategy>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ScoringStrategy {
    r#type: Option<String>,
    #[serde(default)]
    resources: Vec<ResourceSpec>,
    requested_to_capacity_ratio: Option<Ratio>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResourceSpec {
    #[serde(default)]
    name: Text,
    weight: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ratio {
    #[serde(default)]
    shape: Vec<ShapePoint>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShapePoint {
    #[serde(default)]
    utilization: i64,
    #[serde(default)]
    score: i64,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct BalancedWritten {
    #[serde(default)]
    resources: Vec<ResourceSpec>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SpreadWritten {
    #[serde(default)]
    default_constraints: Vec<DefaultConstraint>,
    defaulting_type: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DefaultConstraint {
    #[serde(default)]
    max_skew: i32,
    #[serde(default)]
    topology_key: Text,
    #[serde(default)]
    when_unsatisfiable: String,
    min_domains: Option<i32>,
    node_affinity_policy: Option<String>,
    node_taints_policy: Option<String>,
    label_selector: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AffinityWritten {
    hard_pod_affinity_weight: Option<i32>,
    #[serde(default)]
    ignore_preferred_terms_of_existing_pods: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PreemptionWritten {
    min_candidate_nodes_percentage: Option<i32>,
    min_candidate_nodes_absolute: Option<i32>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BindingWritten {
    bind_timeout_seconds: Option<i64>,
    shape: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AddedAffinity {
    added_affinity: Option<Value>,
}

/// `validatePluginConfig`.
pub(super) fn read(configs: &[PluginConfig], path: &str, mistakes: &mut Mistakes) -> Args {
    let mut args = Args::default();
    let mut seen: Vec<&str> = Vec::new();
    for (i, config) in configs.iter().enumerate() {
        let path = format!("{path}pluginConfig[{i}]");
        let name = config.name.as_str();
        if seen.contains(&name) {
            mistakes.duplicate(&path, name);
        }
        seen.push(name);
        let Some(plugin) = known(name, &path, mistakes) else {
            continue;
        };
        let mut value = config.args.clone();
        if value.is_null() {
            value = json!({});
        }
        if let Some(fields) = value.as_object_mut() {
            let kind = fields.remove("kind");
            fields.remove("apiVersion");
            let wanted = format!("{name}Args");
            if kind.is_some_and(|kind| kind != wanted.as_str()) {
                mistakes.say(&format!("{path}.args"), "has to match plugin args");
                continue;
            }
        }
        one(plugin, &value, &format!("{path}.args"), &mut args, mistakes);
    }
    args
}

fn one(plugin: PluginName, value: &Value, path: &str, args: &mut Args, mistakes: &mut Mistakes) {
    match plugin {
        PluginName::NodeResourcesFit => {
            args.fit = fit(mistakes.read(value, path), path, mistakes);
        }
        PluginName::NodeResourcesBalancedAllocation => {
            let written: BalancedWritten = mistakes.read(value, path);
            if let Some(resources) = balanced(written, path, mistakes) {
                args.balanced.resources = resources;
            }
        }
        PluginName::NodeAffinity => {
            let written: AddedAffinity = mistakes.read(value, path);
            args.node_affinity = added_affinity(written.added_affinity, path, mistakes);
        }
        PluginName::PodTopologySpread => {
            args.spread = spread(mistakes.read(value, path), path, mistakes);
        }
        PluginName::InterPodAffinity => {
            let written: AffinityWritten = mistakes.read(value, path);
            let weight = written.hard_pod_affinity_weight.unwrap_or(1);
            if !(0..=100).contains(&weight) {
                let path = format!("{path}.hardPodAffinityWeight");
                mistakes.invalid(&path, weight, "not in valid range [0, 100]");
            }
            args.pod_affinity.hard_weight = weight;
            args.pod_affinity.ignore_preferred = written.ignore_preferred_terms_of_existing_pods;
        }
        PluginName::DefaultPreemption => {
            let written: PreemptionWritten = mistakes.read(value, path);
            preemption(&written, path, args, mistakes);
        }
        PluginName::VolumeBinding => {
            let written: BindingWritten = mistakes.read(value, path);
            binding(&written, path, args, mistakes);
        }
        // How long the search for devices may take on a node: there are none.
        PluginName::DynamicResources
            if value
                .as_object()
                .is_some_and(|f| f.keys().all(|k| k == "filterTimeout")) => {}
        policy if !policy.in_tree() => {
            if let Err((path, what)) = policies::read(policy, value, path, &mut args.policies) {
                mistakes.say(&path, what);
            }
        }
        other => {
            if value.as_object().is_none_or(|fields| !fields.is_empty()) {
                mistakes.say(path, format!("{} takes no arguments", other.name()));
            }
        }
    }
}

/// `ValidateDefaultPreemptionArgs`.
fn preemption(written: &PreemptionWritten, path: &str, args: &mut Args, mistakes: &mut Mistakes) {
    let args = &mut args.preemption;
    let percentage = written.min_candidate_nodes_percentage;
    let absolute = written.min_candidate_nodes_absolute;
    let percentage = percentage.unwrap_or(args.min_percentage);
    let absolute = absolute.unwrap_or(args.min_absolute);
    (args.min_percentage, args.min_absolute) = (percentage, absolute);
    let of_percentage = format!("{path}.minCandidateNodesPercentage");
    let of_absolute = format!("{path}.minCandidateNodesAbsolute");
    if !(0..=100).contains(&percentage) {
        mistakes.invalid(&of_percentage, percentage, "not in valid range [0, 100]");
    }
    if absolute < 0 {
        mistakes.invalid(&of_absolute, absolute, "not in valid range [0, inf)");
    }
    if percentage == 0 && absolute == 0 {
        let same = "cannot be zero at the same time as";
        let detail = format!("{same} minCandidateNodesAbsolute");
        mistakes.invalid(&of_percentage, percentage, &detail);
        let detail = format!("{same} minCandidateNodesPercentage");
        mistakes.invalid(&of_absolute, absolute, &detail);
    }
}

/// `ValidateVolumeBindingArgs`.
fn binding(written: &BindingWritten, path: &str, args: &mut Args, mistakes: &mut Mistakes) {
    if let Some(seconds) = written.bind_timeout_seconds {
        match u64::try_from(seconds) {
            Ok(seconds) => args.bind_timeout = Some(Duration::from_secs(seconds)),
            Err(_) => mistakes.invalid(
                &format!("{path}.bindTimeoutSeconds"),
                seconds,
                "invalid BindTimeoutSeconds, should not be a negative value",
            ),
        }
    }
    if let Some(shape) = &written.shape {
        let detail = "unexpected field `shape`, remove it or turn on the feature gate \
                      StorageCapacityScoring";
        mistakes.invalid(&format!("{path}.shape"), shape.clone(), detail);
    }
}

/// `validateResources`; an absent or zero weight is 1.
fn resources(written: Vec<ResourceSpec>, path: &str, mistakes: &mut Mistakes) -> Vec<(Text, i64)> {
    let mut all = Vec::new();
    for (i, resource) in written.into_iter().enumerate() {
        let weight = resource.weight.filter(|w| *w != 0).unwrap_or(1);
        if !(1..=100).contains(&weight) {
            let name = &resource.name;
            let detail = format!("resource weight of {name} not in valid range (0, 100]");
            mistakes.invalid(&format!("{path}[{i}].weight"), weight, &detail);
        }
        all.push((resource.name, weight));
    }
    all
}

/// `ValidateNodeResourcesBalancedAllocationArgs`.
fn balanced(
    written: BalancedWritten,
    path: &str,
    mistakes: &mut Mistakes,
) -> Option<Vec<(Text, i64)>> {
    let mut all: Vec<(Text, i64)> = Vec::new();
    for (i, resource) in written.resources.into_iter().enumerate() {
        let path = format!("{path}.resources[{i}]");
        if all.iter().any(|(name, _)| *name == resource.name) {
            mistakes.duplicate(&format!("{path}.name"), &resource.name);
        }
        let weight = resource.weight.filter(|w| *w != 0).unwrap_or(1);
        if weight != 1 {
            mistakes.invalid(&format!("{path}.weight"), weight, "must be 1");
        }
        all.push((resource.name, weight));
    }
    (!all.is_empty()).then_some(all)
}

/// `ValidateNodeResourcesFitArgs`.
fn fit(written: FitWritten, path: &str, mistakes: &mut Mistakes) -> FitArgs {
    for (i, resource) in written.ignored_resources.iter().enumerate() {
        label_name(resource, &format!("{path}.ignoredResources[{i}]"), mistakes);
    }
    for (i, group) in written.ignored_resource_groups.iter().enumerate() {
        let path = format!("{path}.ignoredResourceGroups[{i}]");
        if group.contains('/') {
            let detail = "resource group name can't contain '/'";
            mistakes.invalid(&path, group.as_str(), detail);
        }
        label_name(group, &path, mistakes);
    }
    let mut args = FitArgs {
        ignored: written.ignored_resources,
        ignored_groups: written.ignored_resource_groups,
        ..FitArgs::default()
    };
    let Some(strategy) = written.scoring_strategy else {
        return args;
    };
    let path = format!("{path}.scoringStrategy");
    if !strategy.resources.is_empty() {
        args.resources = resources(strategy.resources, &format!("{path}.resources"), mistakes);
    }
    let ratio = format!("{path}.requestedToCapacityRatio");
    let kind = strategy.r#type.as_deref().unwrap_or("LeastAllocated");
    args.strategy = match kind {
        "MostAllocated" => Strategy::MostAllocated,
        "RequestedToCapacityRatio" => {
            let points = match &strategy.requested_to_capacity_ratio {
                None => {
                    let detail = "must be specified when type is RequestedToCapacityRatio";
                    mistakes.required(&ratio, detail);
                    Vec::new()
                }
                Some(ratio_) => shape(&ratio_.shape, &format!("{ratio}.shape"), mistakes),
            };
            Strategy::RequestedToCapacityRatio(points)
        }
        "LeastAllocated" => Strategy::LeastAllocated,
        other => {
            let supported = [
                "LeastAllocated",
                "MostAllocated",
                "RequestedToCapacityRatio",
            ];
            mistakes.unsupported(&format!("{path}.type"), other, &supported);
            Strategy::LeastAllocated
        }
    };
    if kind != "RequestedToCapacityRatio" && strategy.requested_to_capacity_ratio.is_some() {
        let detail = "must be nil when type is not RequestedToCapacityRatio";
        mistakes.forbidden(&ratio, detail);
    }
    args
}

/// `ValidateLabelName`.
fn label_name(name: &Text, path: &str, mistakes: &mut Mistakes) {
    for detail in label_key(name) {
        mistakes.invalid(path, name.as_str(), &detail);
    }
}

/// `validateFunctionShape`.
fn shape(points: &[ShapePoint], path: &str, mistakes: &mut Mistakes) -> Vec<(i64, i64)> {
    if points.is_empty() {
        mistakes.required(path, "at least one point must be specified");
    }
    let falls = points
        .windows(2)
        .position(|w| w[0].utilization >= w[1].utilization);
    if let Some(at) = falls {
        let path = format!("{path}[{}].utilization", at + 1);
        let detail = "values must be sorted in increasing order";
        mistakes.invalid(&path, points[at + 1].utilization, detail);
    }
    for (i, point) in points.iter().enumerate() {
        if !(0..=100).contains(&point.utilization) {
            let path = format!("{path}[{i}].utilization");
            mistakes.invalid(&path, point.utilization, "not in valid range [0, 100]");
        }
        if !(0..=10).contains(&point.score) {
            let path = format!("{path}[{i}].score");
            mistakes.invalid(&path, point.score, "not in valid range [0, 10]");
        }
    }
    points.iter().map(|p| (p.utilization, p.score)).collect()
}

/// `ValidateNodeAffinityArgs`: what a pod's own node affinity must be like.
fn added_affinity(added: Option<Value>, path: &str, mistakes: &mut Mistakes) -> NodeAffinityArgs {
    let Some(added) = added else {
        return NodeAffinityArgs::default();
    };
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any", "namespace": "any"},
        "spec": {
            "containers": [{"name": "any", "image": "any"}], "affinity": {"nodeAffinity": added}
        }
    });
    if let Err(problems) = decode_json(&pod, &DecodeContext::default()) {
        for problem in problems {
            let inner = problem.path.strip_prefix("spec.affinity.nodeAffinity");
            let path = format!("{path}.addedAffinity{}", inner.unwrap_or_default());
            mistakes.say(&path, problem.message);
        }
        return NodeAffinityArgs::default();
    }
    match affinity_from_json(&json!({"nodeAffinity": added})) {
        Ok(affinity) => NodeAffinityArgs {
            required: affinity.node_required,
            preferred: affinity.node_preferred,
        },
        Err(error) => {
            mistakes.say(&format!("{path}.addedAffinity"), error);
            NodeAffinityArgs::default()
        }
    }
}

/// `ValidatePodTopologySpreadArgs`.
fn spread(written: SpreadWritten, path: &str, mistakes: &mut Mistakes) -> SpreadArgs {
    let kind = written.defaulting_type.as_deref().unwrap_or("System");
    let of_kind = format!("{path}.defaultingType");
    match kind {
        "List" => {}
        "System" if written.default_constraints.is_empty() => return SpreadArgs::default(),
        "System" => {
            let detail = "when .defaultConstraints are not empty";
            mistakes.invalid(&of_kind, kind, detail);
        }
        other => mistakes.unsupported(&of_kind, other, &["System", "List"]),
    }
    let mut defaults: Vec<TopologySpread> = Vec::new();
    for (i, written) in written.default_constraints.iter().enumerate() {
        let path = format!("{path}.defaultConstraints[{i}]");
        let constraint = constraint(written, &path, mistakes);
        let repeats = |other: &TopologySpread| {
            other.topology_key == constraint.topology_key
                && other.when_unsatisfiable == constraint.when_unsatisfiable
        };
        if defaults.iter().any(repeats) {
            let (key, when) = (&written.topology_key, &written.when_unsatisfiable);
            mistakes.duplicate(&path, &format!("{{{key}, {when}}}"));
        }
        defaults.push(constraint);
    }
    SpreadArgs {
        system: false,
        defaults,
    }
}

fn constraint(written: &DefaultConstraint, path: &str, mistakes: &mut Mistakes) -> TopologySpread {
    if written.max_skew <= 0 {
        let path = format!("{path}.maxSkew");
        mistakes.invalid(&path, written.max_skew, "not in valid range (0, inf)");
    }
    let of_key = format!("{path}.topologyKey");
    match written.topology_key.is_empty() {
        true => mistakes.required(&of_key, "can not be empty"),
        false => label_name(&written.topology_key, &of_key, mistakes),
    }
    let of_when = format!("{path}.whenUnsatisfiable");
    let when_unsatisfiable = match written.when_unsatisfiable.as_str() {
        "ScheduleAnyway" => WhenUnsatisfiable::ScheduleAnyway,
        "DoNotSchedule" => WhenUnsatisfiable::DoNotSchedule,
        other => {
            match other {
                "" => mistakes.required(&of_when, "can not be empty"),
                other => {
                    mistakes.unsupported(&of_when, other, &["DoNotSchedule", "ScheduleAnyway"]);
                }
            }
            WhenUnsatisfiable::DoNotSchedule
        }
    };
    if written.label_selector.is_some() {
        let detail = "constraint must not define a selector, as they deduced for each pod";
        mistakes.forbidden(&format!("{path}.labelSelector"), detail);
    }
    let policy = |written: &Option<String>, default| match written.as_deref() {
        Some("Honor") => InclusionPolicy::Honor,
        Some("Ignore") => InclusionPolicy::Ignore,
        _ => default,
    };
    TopologySpread {
        max_skew: written.max_skew,
        topology_key: written.topology_key.clone(),
        when_unsatisfiable,
        selector: LabelSelector::nothing(),
        min_domains: written.min_domains,
        node_affinity_policy: policy(&written.node_affinity_policy, InclusionPolicy::Honor),
        node_taints_policy: policy(&written.node_taints_policy, InclusionPolicy::Ignore),
        match_label_keys: Vec::new(),
    }
}
