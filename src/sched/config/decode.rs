//! Reading a KubeSchedulerConfiguration (`kubescheduler.config.k8s.io/v1`).
//!
//! Strict as upstream is: unknown fields, unknown plugins and values out of range are errors, all of
//! which are told, in the words of `pkg/scheduler/apis/config/validation`. What configures the
//! process rather than its decisions (leader election, clients' connections, debugging) is accepted
//! and has no effect, but for the client's budget. Plugins that act on things which are not modelled,
//! and extenders, are refused by name. The arguments of plugins are in `args`.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::args::{self, PluginConfig};
use super::mistakes::Mistakes;
use super::{Args, Enabled, PluginConfigSet, Plugins, Point, Profile, SchedulerConfig};
use crate::api::Text;
use crate::sched::cache::Cache;
use crate::sched::plugin::{PluginName, Points};
use crate::sched::plugins;

/// Plugins of the reference version that act on things which are not modelled: pod groups.
const NOT_MODELLED: [&str; 3] = [
    "GangScheduling",
    "TopologyPlacementGenerator",
    "PodGroupPodsCount",
];
/// Plugins that earlier versions had (`invalidPluginsByVersion`).
const REMOVED: [&str; 4] = [
    "AzureDiskLimits",
    "CinderLimits",
    "EBSLimits",
    "GCEPDLimits",
];
/// The version of configurations.
const VERSION: &str = "kubescheduler.config.k8s.io/v1";

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    api_version: String,
    kind: String,
    #[serde(default)]
    profiles: Vec<WrittenProfile>,
    percentage_of_nodes_to_score: Option<i32>,
    pod_initial_backoff_seconds: Option<i64>,
    pod_max_backoff_seconds: Option<i64>,
    client_connection: Option<ClientConnection>,
    #[serde(default)]
    extenders: Vec<Value>,
    parallelism: Option<i32>,
    #[serde(default)]
    leader_election: Value,
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
    burst: Option<i32>,
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

impl SchedulerConfig {
    /// Reads a KubeSchedulerConfiguration.
    ///
    /// # Errors
    /// What upstream would refuse to start with, and what is not modelled.
    pub fn from_json(value: &Value) -> Result<SchedulerConfig, Mistakes> {
        let mut mistakes = Mistakes::default();
        let written: Written = mistakes.read(value, "KubeSchedulerConfiguration");
        if mistakes.0.is_empty()
            && (written.kind != "KubeSchedulerConfiguration" || written.api_version != VERSION)
        {
            let (kind, version) = (&written.kind, &written.api_version);
            let what = format!("no kind \"{kind}\" is known for version \"{version}\"");
            mistakes.say("", what);
        }
        if !mistakes.0.is_empty() {
            return Err(mistakes);
        }
        let config = written.config(&mut mistakes);
        match mistakes.0.is_empty() {
            true => Ok(config),
            false => Err(mistakes),
        }
    }
}

impl Written {
    /// `ValidateKubeSchedulerConfiguration`.
    fn config(self, mistakes: &mut Mistakes) -> SchedulerConfig {
        let mut config = SchedulerConfig::default();
        for (i, extender) in self.extenders.iter().enumerate() {
            let url = extender.get("urlPrefix").and_then(Value::as_str);
            let url = url.unwrap_or_default();
            let what = format!("scheduler extenders are not modelled: \"{url}\"");
            mistakes.say(&format!("extenders[{i}]"), what);
        }
        let election = |field: &str| self.leader_election.get(field);
        if election("leaderElect") == Some(&Value::Bool(true))
            && let Some(lock) = election("resourceLock").and_then(Value::as_str)
            && lock != "leases"
        {
            let detail = "resourceLock value must be \"leases\"";
            mistakes.invalid("leaderElection.resourceLock", lock, detail);
        }
        if let Some(parallelism) = self.parallelism.filter(|p| *p <= 0) {
            let detail = "should be an integer value greater than zero";
            mistakes.invalid("parallelism", parallelism, detail);
        }
        if let Some(percentage) = self.percentage_of_nodes_to_score {
            percentage_of(percentage, "", mistakes);
            config.percentage_of_nodes_to_score = percentage;
        }
        self.back_off(&mut config, mistakes);
        if let Some(client) = &self.client_connection {
            client.apply(&mut config, mistakes);
        }
        if !self.profiles.is_empty() {
            config.profiles = profiles(&self.profiles, mistakes);
        }
        config
    }

    fn back_off(&self, config: &mut SchedulerConfig, mistakes: &mut Mistakes) {
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let initial = self.pod_initial_backoff_seconds;
        let initial = initial.unwrap_or(seconds(config.initial_backoff));
        let max = self.pod_max_backoff_seconds;
        let max = max.unwrap_or(seconds(config.max_backoff));
        if initial <= 0 {
            mistakes.invalid(
                "podInitialBackoffSeconds",
                initial,
                "must be greater than 0",
            );
        }
        if max < initial {
            let detail = "must be greater than or equal to PodInitialBackoffSeconds";
            mistakes.invalid("podMaxBackoffSeconds", max, detail);
        }
        let duration = |seconds: i64| Duration::from_secs(seconds.unsigned_abs());
        (config.initial_backoff, config.max_backoff) = (duration(initial), duration(max));
    }
}

impl ClientConnection {
    fn apply(&self, config: &mut SchedulerConfig, mistakes: &mut Mistakes) {
        // An unset or zero rate means the default, a negative one no limit.
        match self.qps {
            Some(qps) if qps < 0.0 => config.qps = 0,
            Some(qps) if qps > 0.0 => config.qps = (qps.ceil() as u32).max(1),
            _ => {}
        }
        match self.burst {
            Some(burst) if burst < 0 => {
                mistakes.invalid("clientConnection.burst", burst, "must be non-negative");
            }
            Some(burst) if burst > 0 => config.burst = burst.unsigned_abs(),
            _ => {}
        }
    }
}

/// `validatePercentageOfNodesToScore`.
fn percentage_of(percentage: i32, path: &str, mistakes: &mut Mistakes) {
    if !(0..=100).contains(&percentage) {
        let path = format!("{path}percentageOfNodesToScore");
        mistakes.invalid(&path, percentage, "not in valid range [0-100]");
    }
}

fn profiles(written: &[WrittenProfile], mistakes: &mut Mistakes) -> Vec<Profile> {
    let mut profiles: Vec<Profile> = Vec::new();
    for (i, profile) in written.iter().enumerate() {
        let path = format!("profiles[{i}].");
        let of_name = format!("{path}schedulerName");
        let name = match profile.scheduler_name.as_deref() {
            None if written.len() == 1 => Text::from("default-scheduler"),
            None | Some("") => {
                mistakes.required(&of_name, "");
                Text::default()
            }
            Some(name) => Text::from(name),
        };
        if !name.is_empty() && profiles.iter().any(|p| p.name == name) {
            mistakes.duplicate(&of_name, &name);
        }
        if let Some(percentage) = profile.percentage_of_nodes_to_score {
            percentage_of(percentage, &path, mistakes);
        }
        let plugins = plugins_of(profile, &path, mistakes);
        complete(&plugins, &name, &format!("profiles[{i}].plugins"), mistakes);
        profiles.push(Profile {
            name,
            percentage_of_nodes_to_score: profile.percentage_of_nodes_to_score,
            plugins,
            args: args::read(&profile.plugin_config, &path, mistakes),
        });
    }
    profiles
}

/// `NewFramework`: every profile needs an order of its queue and a way to bind.
fn complete(plugins: &Plugins, name: &Text, path: &str, mistakes: &mut Mistakes) {
    let has = |point: Point, plugin: PluginName| {
        let set = &plugins.points[point as usize];
        let everywhere = plugins.multi_point.iter().any(|e| e.plugin == plugin);
        set.enabled.iter().any(|e| e.plugin == plugin)
            || everywhere && !set.disable_all && !set.disabled.contains(&plugin)
    };
    if !has(Point::QueueSort, PluginName::PrioritySort) {
        let what = "only one queue sort plugin required for profile with scheduler name";
        mistakes.say(path, format!("{what} \"{name}\", but got 0"));
    }
    if !has(Point::Bind, PluginName::DefaultBinder) {
        let what = "at least one bind plugin is needed for profile with scheduler name";
        mistakes.say(path, format!("{what} \"{name}\""));
    }
}

/// The plugin of this name, if it can be used.
pub(super) fn known(name: &str, path: &str, mistakes: &mut Mistakes) -> Option<PluginName> {
    let plugin = PluginName::from_name(name);
    if REMOVED.contains(&name) {
        let detail = format!(
            "was invalid in version \"{VERSION}\" (KubeSchedulerConfiguration is version \
             \"{VERSION}\")"
        );
        mistakes.invalid(path, name, &detail);
    } else if NOT_MODELLED.contains(&name) {
        mistakes.say(path, format!("plugin \"{name}\" is not modelled"));
    } else if plugin.is_none() {
        mistakes.say(path, format!("plugin \"{name}\" does not exist"));
    }
    plugin
}

fn plugins_of(profile: &WrittenProfile, path: &str, mistakes: &mut Mistakes) -> Plugins {
    let mut plugins = Plugins::default();
    for (key, value) in &profile.plugins {
        let path = format!("{path}plugins.{key}");
        let point = Point::ALL.into_iter().find(|p| p.name() == key);
        if point.is_none() && key != "multiPoint" {
            mistakes.say(&path, "unknown field");
            continue;
        }
        let written: WrittenSet = mistakes.read(value, &path);
        let set = plugin_set(&written, &path, mistakes);
        if let Some(point) = point {
            extends(&set, point, &path, mistakes);
        }
        match point {
            Some(point) => plugins.points[point as usize] = set,
            None => plugins.multi_point = merge(plugins.multi_point, set),
        }
    }
    plugins
}

fn plugin_set(written: &WrittenSet, path: &str, mistakes: &mut Mistakes) -> PluginConfigSet {
    let mut set = PluginConfigSet::default();
    for (i, one) in written.disabled.iter().enumerate() {
        let name = one.name.as_str();
        if name == "*" {
            set.disable_all = true;
        } else if !NOT_MODELLED.contains(&name) {
            // What is not there anyway may be disabled.
            let path = format!("{path}.disabled[{i}]");
            set.disabled.extend(known(name, &path, mistakes));
        }
    }
    for (i, one) in written.enabled.iter().enumerate() {
        let path = format!("{path}.enabled[{i}]");
        let Some(plugin) = known(&one.name, &path, mistakes) else {
            continue;
        };
        if set.enabled.iter().any(|e| e.plugin == plugin) {
            let name = &one.name;
            mistakes.say(&path, format!("plugin \"{name}\" already registered"));
        }
        let weight = one.weight.unwrap_or(0);
        if weight < 0 {
            let path = format!("{path}.weight");
            mistakes.invalid(&path, weight, "must not be negative");
        }
        set.enabled.push(Enabled { plugin, weight });
    }
    set
}

/// `updatePluginList`: a plugin cannot be enabled where it has nothing to say.
fn extends(set: &PluginConfigSet, point: Point, path: &str, mistakes: &mut Mistakes) {
    let mut cache = Cache::default();
    for (i, enabled) in set.enabled.iter().enumerate() {
        let plugin = plugins::build(enabled.plugin, &Args::default(), &mut cache);
        if !plugin.points().has(Points(1 << point as u16)) {
            let name = enabled.plugin.name();
            let interface = format!("{point:?}Plugin");
            let what = format!("plugin \"{name}\" does not extend {interface} plugin");
            mistakes.say(&format!("{path}.enabled[{i}]"), what);
        }
    }
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
