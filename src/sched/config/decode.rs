//! Reading a KubeSchedulerConfiguration (`kubescheduler.config.k8s.io/v1`).
//!
//! Strict as upstream is: unknown fields, unknown plugins and values out of range are errors. What
//! configures the process rather than its decisions (leader election, clients' connections,
//! debugging) is accepted and has no effect, but for the client's budget.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Args, Enabled, FitArgs, NodeAffinityArgs, PluginConfigSet, Plugins, Point, Profile,
    SchedulerConfig, SpreadArgs, Strategy,
};
use crate::api::Text;
use crate::api::affinity::{InclusionPolicy, TopologySpread, WhenUnsatisfiable};
use crate::api::selector::LabelSelector;
use crate::sched::plugin::PluginName;

/// Plugins of the reference version that act on things which are not modelled (resource claims,
/// declared features, pod groups): naming them is fine and changes nothing.
const NOT_MODELLED: [&str; 5] = [
    "DynamicResources",
    "NodeDeclaredFeatures",
    "GangScheduling",
    "TopologyPlacementGenerator",
    "PodGroupPodsCount",
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    api_version: String,
    kind: String,
    #[serde(default)]
    profiles: Vec<WrittenProfile>,
    percentage_of_nodes_to_score: Option<i32>,
    pod_initial_backoff_seconds: Option<u64>,
    pod_max_backoff_seconds: Option<u64>,
    client_connection: Option<ClientConnection>,
    #[serde(default)]
    extenders: Vec<Value>,
    #[serde(rename = "parallelism")]
    _parallelism: Option<u32>,
    #[serde(rename = "leaderElection")]
    _leader_election: Option<Value>,
    #[serde(rename = "delayCacheUntilActive")]
    _delay_cache: Option<bool>,
    #[serde(rename = "enableProfiling")]
    _profiling: Option<bool>,
    #[serde(rename = "enableContentionProfiling")]
    _contention: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClientConnection {
    qps: Option<f64>,
    burst: Option<u32>,
    #[serde(rename = "kubeconfig")]
    _kubeconfig: Option<String>,
    #[serde(rename = "contentType")]
    _content_type: Option<String>,
    #[serde(rename = "acceptContentTypes")]
    _accept: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenProfile {
    scheduler_name: Option<String>,
    percentage_of_nodes_to_score: Option<i32>,
    #[serde(default)]
    plugins: serde_json::Map<String, Value>,
    #[serde(default)]
    plugin_config: Vec<PluginConfig>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSet {
    #[serde(default)]
    enabled: Vec<WrittenPlugin>,
    #[serde(default)]
    disabled: Vec<WrittenPlugin>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPlugin {
    name: String,
    weight: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginConfig {
    name: String,
    #[serde(default)]
    args: Value,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BalancedWritten {
    #[serde(default)]
    resources: Vec<ResourceSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SpreadWritten {
    #[serde(default)]
    default_constraints: Vec<DefaultConstraint>,
    defaulting_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DefaultConstraint {
    max_skew: i32,
    topology_key: Text,
    when_unsatisfiable: String,
    min_domains: Option<i32>,
    node_affinity_policy: Option<String>,
    node_taints_policy: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AffinityWritten {
    hard_pod_affinity_weight: Option<i32>,
    #[serde(default)]
    ignore_preferred_terms_of_existing_pods: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PreemptionWritten {
    min_candidate_nodes_percentage: Option<i32>,
    min_candidate_nodes_absolute: Option<i32>,
}

pub(super) fn read<T: for<'a> Deserialize<'a>>(value: &Value, path: &str) -> Result<T, String> {
    serde_json::from_value(value.clone()).map_err(|error| format!("{path}: {error}"))
}

impl SchedulerConfig {
    /// Reads a KubeSchedulerConfiguration.
    ///
    /// # Errors
    /// What upstream would refuse to start with, as `path: what`.
    pub fn from_json(value: &Value) -> Result<SchedulerConfig, String> {
        let written: Written = read(value, "KubeSchedulerConfiguration")?;
        if written.kind != "KubeSchedulerConfiguration"
            || written.api_version != "kubescheduler.config.k8s.io/v1"
        {
            let (kind, version) = (written.kind, written.api_version);
            return Err(format!(
                "no kind \"{kind}\" is known for version \"{version}\""
            ));
        }
        if !written.extenders.is_empty() {
            return Err("extenders: scheduler extenders are not modelled".into());
        }
        let mut config = SchedulerConfig::default();
        if let Some(percentage) = written.percentage_of_nodes_to_score {
            config.percentage_of_nodes_to_score = percentage_of(percentage, "")?;
        }
        if let Some(seconds) = written.pod_initial_backoff_seconds {
            config.initial_backoff = Duration::from_secs(seconds);
        }
        if let Some(seconds) = written.pod_max_backoff_seconds {
            config.max_backoff = Duration::from_secs(seconds);
        }
        if config.max_backoff < config.initial_backoff {
            return Err("podMaxBackoffSeconds: must be greater than or equal to \
                        PodInitialBackoffSeconds"
                .into());
        }
        if let Some(client) = written.client_connection {
            // An unset or zero rate means the default, a negative one no limit.
            match client.qps {
                Some(qps) if qps < 0.0 => config.qps = 0,
                Some(qps) if qps > 0.0 => config.qps = (qps.ceil() as u32).max(1),
                _ => {}
            }
            config.burst = client.burst.filter(|b| *b > 0).unwrap_or(config.burst);
        }
        if !written.profiles.is_empty() {
            config.profiles = profiles(&written.profiles)?;
        }
        Ok(config)
    }
}

fn percentage_of(percentage: i32, path: &str) -> Result<i32, String> {
    if (0..=100).contains(&percentage) {
        return Ok(percentage);
    }
    Err(format!(
        "{path}percentageOfNodesToScore: Invalid value: {percentage}: not in valid range [0-100]"
    ))
}

fn profiles(written: &[WrittenProfile]) -> Result<Vec<Profile>, String> {
    let mut profiles: Vec<Profile> = Vec::new();
    for (i, profile) in written.iter().enumerate() {
        let path = format!("profiles[{i}].");
        let name = match &profile.scheduler_name {
            Some(name) => Text::from(name),
            None if written.len() == 1 => Text::from("default-scheduler"),
            None => return Err(format!("{path}schedulerName: Required value")),
        };
        if profiles.iter().any(|p| p.name == name) {
            return Err(format!("{path}schedulerName: Duplicate value: \"{name}\""));
        }
        let percentage = profile.percentage_of_nodes_to_score;
        profiles.push(Profile {
            name,
            percentage_of_nodes_to_score: percentage
                .map(|p| percentage_of(p, &path))
                .transpose()?,
            plugins: plugins(profile, &path)?,
            args: args(profile, &path)?,
        });
    }
    Ok(profiles)
}

/// The plugin of this name; `None` for one that is not modelled.
fn plugin(name: &str, path: &str) -> Result<Option<PluginName>, String> {
    match PluginName::from_name(name) {
        Some(plugin) => Ok(Some(plugin)),
        None if NOT_MODELLED.contains(&name) => Ok(None),
        None => Err(format!("{path}: plugin \"{name}\" does not exist")),
    }
}

fn plugins(profile: &WrittenProfile, path: &str) -> Result<Plugins, String> {
    let mut plugins = Plugins::default();
    for (key, value) in &profile.plugins {
        let path = format!("{path}plugins.{key}");
        let written: WrittenSet = read(value, &path)?;
        let mut set = PluginConfigSet::default();
        for (i, one) in written.disabled.iter().enumerate() {
            if one.name == "*" {
                set.disable_all = true;
            } else {
                set.disabled
                    .extend(plugin(&one.name, &format!("{path}.disabled[{i}]"))?);
            }
        }
        for (i, one) in written.enabled.iter().enumerate() {
            let path = format!("{path}.enabled[{i}]");
            if let Some(plugin) = plugin(&one.name, &path)? {
                if set.enabled.iter().any(|e| e.plugin == plugin) {
                    let name = &one.name;
                    return Err(format!("{path}: plugin \"{name}\" already registered"));
                }
                let weight = one.weight.unwrap_or(0);
                if weight < 0 {
                    return Err(format!(
                        "{path}.weight: Invalid value: {weight}: must not be negative"
                    ));
                }
                set.enabled.push(Enabled { plugin, weight });
            }
        }
        let point = Point::ALL.into_iter().find(|p| p.name() == key);
        match point {
            Some(point) => plugins.points[point as usize] = set,
            None if key == "multiPoint" => plugins.multi_point = merge(plugins.multi_point, set),
            None => return Err(format!("{path}: unknown field")),
        }
    }
    Ok(plugins)
}

/// `mergePluginSet`: defaults stay in their places, with the weights that the profile gives them.
fn merge(defaults: Vec<Enabled>, set: PluginConfigSet) -> Vec<Enabled> {
    let mut merged: Vec<Enabled> = Vec::new();
    if !set.disable_all {
        for default in defaults {
            if !set.disabled.contains(&default.plugin) {
                let mut custom = set.enabled.iter();
                let custom = custom.find(|e| e.plugin == default.plugin);
                merged.push(custom.copied().unwrap_or(default));
            }
        }
    }
    for custom in set.enabled {
        if !merged.iter().any(|e| e.plugin == custom.plugin) {
            merged.push(custom);
        }
    }
    merged
}

fn args(profile: &WrittenProfile, path: &str) -> Result<Args, String> {
    let mut args = Args::default();
    for (i, config) in profile.plugin_config.iter().enumerate() {
        let path = format!("{path}pluginConfig[{i}].args");
        let mut value = config.args.clone();
        if value.is_null() {
            value = json!({});
        }
        if let Some(fields) = value.as_object_mut() {
            fields.remove("apiVersion");
            fields.remove("kind");
        }
        match PluginName::from_name(&config.name) {
            Some(PluginName::NodeResourcesFit) => args.fit = fit(read(&value, &path)?, &path)?,
            Some(PluginName::NodeResourcesBalancedAllocation) => {
                let written: BalancedWritten = read(&value, &path)?;
                if !written.resources.is_empty() {
                    args.balanced.resources = resources(written.resources, &path)?;
                }
            }
            Some(PluginName::NodeAffinity) => args.node_affinity = added_affinity(&value, &path)?,
            Some(PluginName::PodTopologySpread) => {
                args.spread = spread(read(&value, &path)?, &path)?;
            }
            Some(PluginName::InterPodAffinity) => {
                let written: AffinityWritten = read(&value, &path)?;
                let weight = written.hard_pod_affinity_weight.unwrap_or(1);
                if !(0..=100).contains(&weight) {
                    return Err(format!(
                        "{path}.hardPodAffinityWeight: Invalid value: {weight}: not in valid \
                         range [0-100]"
                    ));
                }
                args.pod_affinity.hard_weight = weight;
                args.pod_affinity.ignore_preferred =
                    written.ignore_preferred_terms_of_existing_pods;
            }
            Some(PluginName::DefaultPreemption) => {
                let written: PreemptionWritten = read(&value, &path)?;
                let preemption = &mut args.preemption;
                let percentage = written.min_candidate_nodes_percentage;
                preemption.min_percentage = percentage.unwrap_or(preemption.min_percentage);
                let absolute = written.min_candidate_nodes_absolute;
                preemption.min_absolute = absolute.unwrap_or(preemption.min_absolute);
            }
            Some(other) if !other.in_tree() => {
                super::policies::read(other, &value, &path, &mut args.policies)?;
            }
            Some(other) if value.as_object().is_some_and(|fields| !fields.is_empty()) => {
                return Err(format!("{path}: {} takes no arguments", other.name()));
            }
            Some(_) => {}
            None if NOT_MODELLED.contains(&config.name.as_str()) => {}
            None => return Err(format!("{path}: plugin \"{}\" does not exist", config.name)),
        }
    }
    Ok(args)
}

fn resources(written: Vec<ResourceSpec>, path: &str) -> Result<Vec<(Text, i64)>, String> {
    let weighted = written.into_iter().map(|r| {
        let weight = r.weight.filter(|w| *w != 0).unwrap_or(1);
        if (1..=100).contains(&weight) {
            return Ok((r.name, weight));
        }
        let name = r.name;
        Err(format!(
            "{path}: resource weight of {name} not in valid range [1, 100]"
        ))
    });
    weighted.collect()
}

fn fit(written: FitWritten, path: &str) -> Result<FitArgs, String> {
    let mut args = FitArgs {
        ignored: written.ignored_resources,
        ignored_groups: written.ignored_resource_groups,
        ..FitArgs::default()
    };
    let Some(strategy) = written.scoring_strategy else {
        return Ok(args);
    };
    if !strategy.resources.is_empty() {
        args.resources = resources(strategy.resources, path)?;
    }
    args.strategy = match strategy.r#type.as_deref().unwrap_or("LeastAllocated") {
        "LeastAllocated" => Strategy::LeastAllocated,
        "MostAllocated" => Strategy::MostAllocated,
        "RequestedToCapacityRatio" => {
            let ratio = strategy.requested_to_capacity_ratio;
            let shape = ratio.map(|r| r.shape).unwrap_or_default();
            let points: Vec<_> = shape.iter().map(|p| (p.utilization, p.score)).collect();
            check_shape(&points, path)?;
            Strategy::RequestedToCapacityRatio(points)
        }
        other => {
            return Err(format!(
                "{path}.scoringStrategy.type: Unsupported value: \"{other}\""
            ));
        }
    };
    Ok(args)
}

/// `validateFunctionShape`.
fn check_shape(shape: &[(i64, i64)], path: &str) -> Result<(), String> {
    let path = format!("{path}.scoringStrategy.requestedToCapacityRatio.shape");
    if shape.is_empty() {
        return Err(format!(
            "{path}: Required value: at least one point must be specified"
        ));
    }
    if shape.windows(2).any(|w| w[0].0 >= w[1].0) {
        return Err(format!("{path}: values must be sorted in increasing order"));
    }
    let in_range = |(u, s): &(i64, i64)| (0..=100).contains(u) && (0..=10).contains(s);
    if !shape.iter().all(in_range) {
        return Err(format!("{path}: utilization is 0 to 100, score 0 to 10"));
    }
    Ok(())
}

fn added_affinity(value: &Value, path: &str) -> Result<NodeAffinityArgs, String> {
    let fields = value.as_object().into_iter().flatten();
    for (key, _) in fields {
        if key != "addedAffinity" {
            return Err(format!("{path}: unknown field `{key}`"));
        }
    }
    let Some(added) = value.get("addedAffinity").filter(|v| !v.is_null()) else {
        return Ok(NodeAffinityArgs::default());
    };
    let affinity = crate::api::decode::affinity_from_json(&json!({"nodeAffinity": added}))
        .map_err(|error| format!("{path}.addedAffinity: {error}"))?;
    Ok(NodeAffinityArgs {
        required: affinity.node_required,
        preferred: affinity.node_preferred,
    })
}

fn spread(written: SpreadWritten, path: &str) -> Result<SpreadArgs, String> {
    match written.defaulting_type.as_deref().unwrap_or("System") {
        "System" if written.default_constraints.is_empty() => return Ok(SpreadArgs::default()),
        "System" => {
            return Err(format!(
                "{path}.defaultingType: Invalid value: \"System\": when .defaultConstraints are \
                 not empty"
            ));
        }
        "List" => {}
        other => {
            return Err(format!(
                "{path}.defaultingType: Unsupported value: \"{other}\""
            ));
        }
    }
    let policy = |written: &Option<String>, default| match written.as_deref() {
        Some("Honor") => InclusionPolicy::Honor,
        Some("Ignore") => InclusionPolicy::Ignore,
        _ => default,
    };
    let constraint = |c: DefaultConstraint| {
        let when_unsatisfiable = match c.when_unsatisfiable.as_str() {
            "DoNotSchedule" => WhenUnsatisfiable::DoNotSchedule,
            "ScheduleAnyway" => WhenUnsatisfiable::ScheduleAnyway,
            other => {
                return Err(format!(
                    "{path}.defaultConstraints: Unsupported value: \"{other}\""
                ));
            }
        };
        if c.max_skew <= 0 || c.topology_key.is_empty() {
            return Err(format!(
                "{path}.defaultConstraints: maxSkew must be positive, topologyKey not empty"
            ));
        }
        Ok(TopologySpread {
            max_skew: c.max_skew,
            topology_key: c.topology_key,
            when_unsatisfiable,
            selector: LabelSelector::nothing(),
            min_domains: c.min_domains,
            node_affinity_policy: policy(&c.node_affinity_policy, InclusionPolicy::Honor),
            node_taints_policy: policy(&c.node_taints_policy, InclusionPolicy::Ignore),
            match_label_keys: Vec::new(),
        })
    };
    let defaults = written.default_constraints.into_iter().map(constraint);
    Ok(SpreadArgs {
        system: false,
        defaults: defaults.collect::<Result<_, _>>()?,
    })
}
