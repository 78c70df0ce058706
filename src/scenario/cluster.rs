//! `spec.cluster`: node pools, component flags, storage classes, the scheduler's configuration.

use super::diagnostic::Diagnostic;
use super::fields::{Fields, Problems, Value};
use super::flags;
use super::kubelet_flags::{self, KubeletFlags};
use super::types::{ClusterSpec, Flags, NodePool, StorageClassSpec};
use crate::api::Text;
use crate::api::affinity::{Taint, TaintEffect};
use crate::api::quantity::Resources;
use crate::sched::SchedulerConfig;
use crate::sched::config::mistakes::Mistake;

/// The Kubernetes versions whose defaults are known, newest first.
pub const VERSIONS: [&str; 9] = [
    "1.36", "1.35", "1.34", "1.33", "1.32", "1.31", "1.30", "1.29", "1.28",
];

/// The kubelet's default of `maxPods`.
const MAX_PODS: i64 = 110;

/// More nodes than any cluster has.
const MAX_NODES: u32 = 100_000;

/// The defaults of flags in a version. Upstream raised `--node-monitor-grace-period` from 40 s to
/// 50 s in 1.32.
pub fn flags_of(version: &str) -> Flags {
    let mut flags = Flags::default();
    if minor(version) < 32 {
        flags.node_monitor_grace_period = std::time::Duration::from_secs(40);
    }
    flags
}

/// Whether the scheduler of a version has the plugin DynamicResources: its gate
/// `DynamicResourceAllocation` is on since 1.34 (`pkg/features/kube_features.go`).
pub fn has_dynamic_resources(version: &str) -> bool {
    minor(version) >= 34
}

fn minor(version: &str) -> u32 {
    let minor = version.strip_prefix("1.");
    let minor = minor.and_then(|minor| minor.parse().ok());
    minor.unwrap_or(u32::MAX)
}

/// Reads `cluster`; returns the flags that change nothing beside it.
pub fn read(
    value: &Value<'_>,
    version: &str,
    problems: &mut Problems,
) -> Option<(ClusterSpec, Vec<String>)> {
    let fields = value.fields(problems)?;
    let mut flags = flags_of(version);
    let mut of_flags = Problems::new();
    let mut unused = (fields.get("flags")).map_or_else(Vec::new, |value| {
        flags::read(&value, &mut flags, &mut of_flags)
    });
    let mut pools = Vec::new();
    let list = fields.require("nodePools", problems);
    let items = list
        .as_ref()
        .map_or_else(Vec::new, |list| list.list(problems));
    if let (Some(list), true) = (&list, items.is_empty()) {
        problems.push(list.invalid("must have at least one pool"));
    }
    let mut names: Vec<Text> = Vec::new();
    for item in items {
        let Some(pool) = pool(&item, &flags, &mut unused, problems) else {
            continue;
        };
        if names.contains(&pool.name) {
            let message = format!("Duplicate value: {:?}", pool.name.as_str());
            let twice = Diagnostic::error("FieldValueDuplicate", message, item.span());
            problems.push(twice.at(format!("{}.name", item.path)));
        }
        names.push(pool.name.clone());
        pools.push(pool);
    }
    problems.extend(of_flags);
    let classes = fields.list("storageClasses", problems);
    let storage_classes = classes
        .iter()
        .filter_map(|item| class(item, problems))
        .collect();
    let scheduler = fields
        .get("scheduler")
        .and_then(|value| scheduler(&value, problems));
    let latency = super::latency::read(fields.get("latency").as_ref(), problems);
    let control_plane_replicas = control_plane(&fields, problems);
    let missing_images = fields.texts("missingImages", problems);
    fields.finish(problems);
    let spec = ClusterSpec {
        pools,
        flags,
        storage_classes,
        scheduler,
        latency,
        control_plane_replicas,
        missing_images,
    };
    Some((spec, unused))
}

/// `controlPlane: {replicas: 3}`.
fn control_plane(fields: &Fields<'_>, problems: &mut Problems) -> u32 {
    let Some(fields) = fields.fields("controlPlane", problems) else {
        return 1;
    };
    let replicas = fields.require("replicas", problems).and_then(|value| {
        let count = value.count(problems)?;
        if !(1..=9).contains(&count) {
            problems.push(value.invalid("must be between 1 and 9"));
        }
        Some(count)
    });
    fields.finish(problems);
    replicas.unwrap_or(1).clamp(1, 9)
}

fn scheduler(value: &Value<'_>, problems: &mut Problems) -> Option<serde_json::Value> {
    value.node.as_map().or_else(|| {
        problems.push(value.invalid("must be a KubeSchedulerConfiguration"));
        None
    })?;
    let kind = value.node.get("kind").and_then(|kind| kind.as_str());
    if kind != Some("KubeSchedulerConfiguration") {
        problems.push(value.invalid("must have kind: KubeSchedulerConfiguration"));
        return None;
    }
    let json = value.node.to_json();
    if let Err(mistakes) = SchedulerConfig::from_json(&json) {
        for mistake in &mistakes.0 {
            problems.push(located(value, mistake));
        }
        return None;
    }
    Some(json)
}

/// What is wrong with the scheduler's configuration, at the place that its path names.
fn located(value: &Value<'_>, mistake: &Mistake) -> Diagnostic {
    let (path, detail) = (mistake.path.as_str(), mistake.what.as_str());
    let mut node = value.node;
    let mut steps = path.split(['.', '[', ']']).filter(|step| !step.is_empty());
    let found = steps.all(|step| {
        let next = match (node.as_list(), step.parse::<usize>()) {
            (Some(list), Ok(at)) => list.get(at),
            _ => node.get(step),
        };
        node = next.unwrap_or(node);
        next.is_some()
    });
    let error = |message: &str| Diagnostic::error("FieldValueInvalid", message, node.span);
    let known = found || !std::ptr::eq(node, value.node);
    match known && !path.is_empty() {
        true => error(detail).at(format!("{}.{path}", value.path)),
        false => error(&mistake.to_string()).at(value.path.as_str()),
    }
}

fn pool(
    item: &Value<'_>,
    flags: &Flags,
    unused: &mut Vec<String>,
    problems: &mut Problems,
) -> Option<NodePool> {
    let fields = item.fields(problems)?;
    let name = fields.require("name", problems).and_then(|value| {
        let name = value.name(problems)?;
        let wrong = crate::api::validate::names::dns_subdomain(&format!("{name}-0"));
        problems.extend(wrong.into_iter().map(|detail| value.invalid(detail)));
        Some(name)
    });
    let count = fields.require("count", problems).and_then(|value| {
        let count = value.count(problems)?;
        if count > MAX_NODES {
            problems.push(value.invalid(format!("must be at most {MAX_NODES}")));
            return Some(0);
        }
        Some(count)
    });
    let capacity = fields.require("capacity", problems);
    let capacity = capacity.map(|value| {
        let mut capacity = resources(&value, problems);
        for (bit, key) in [(1, "cpu"), (2, "memory")] {
            if capacity.named & bit == 0 {
                let missing =
                    Diagnostic::error("FieldValueRequired", "Required value", value.span());
                problems.push(missing.at(format!("{}.{key}", value.path)));
            }
        }
        if capacity.named & 8 == 0 {
            capacity.pods = MAX_PODS;
            capacity.named |= 8;
        }
        capacity
    });
    let capacity = capacity.unwrap_or_default();
    let allocatable = allocatable(&fields, &capacity, problems);
    let taints = fields.list("taints", problems);
    let pool = NodePool {
        name: name.unwrap_or_default(),
        count: count.unwrap_or_default(),
        zones: fields.texts("zones", problems),
        region: fields.text("region", problems).unwrap_or_default(),
        instance_type: fields.text("instanceType", problems).unwrap_or_default(),
        capacity,
        allocatable,
        labels: (fields.get("labels"))
            .map(|v| v.labels(problems))
            .unwrap_or_default(),
        taints: taints
            .iter()
            .filter_map(|item| taint(item, problems))
            .collect(),
        images: fields.texts("images", problems),
        kubelet: (fields.get("kubelet")).map(|value| of_kubelets(&value, flags, unused, problems)),
    };
    fields.finish(problems);
    Some(pool)
}

/// A pool's own flags of its kubelets.
fn of_kubelets(
    value: &Value<'_>,
    flags: &Flags,
    unused: &mut Vec<String>,
    problems: &mut Problems,
) -> KubeletFlags {
    let mut known = Vec::new();
    for (name, value) in value.entries(problems) {
        let name = name.trim_start_matches("--");
        if kubelet_flags::NAMES.contains(&name) {
            known.push((name, value));
        } else {
            let unknown = Diagnostic::error("UnknownField", "unknown flag", value.span());
            let unknown = unknown.at(value.path.as_str());
            problems.push(unknown.suggest(name, kubelet_flags::NAMES));
        }
    }
    let (own, more) = kubelet_flags::read(&known, &flags.kubelet, problems);
    unused.extend(more);
    own
}

/// `allocatable` as given, or the capacity less `reserved`, or the capacity.
fn allocatable(fields: &Fields<'_>, capacity: &Resources, problems: &mut Problems) -> Resources {
    let given = fields.get("allocatable");
    let reserved = fields.get("reserved");
    if let (Some(_), Some(reserved)) = (&given, &reserved) {
        problems.push(reserved.invalid("may not be set together with allocatable"));
    }
    let mut result = capacity.clone();
    if let Some(value) = given {
        let given = resources(&value, problems);
        for (bit, from, to) in [
            (1, given.cpu_milli, &mut result.cpu_milli),
            (2, given.memory, &mut result.memory),
            (4, given.ephemeral, &mut result.ephemeral),
            (8, given.pods, &mut result.pods),
        ] {
            if given.named & bit != 0 {
                *to = from;
                result.named |= bit;
            }
        }
        for (name, amount) in &given.extended {
            result.set_extended(name, *amount);
        }
        check_below(&value, &result, capacity, problems);
    } else if let Some(value) = reserved {
        let mut rest = result.clone();
        rest.sub(&resources(&value, problems));
        let amounts = [rest.cpu_milli, rest.memory, rest.ephemeral, rest.pods];
        let extended = rest.extended.iter().map(|(_, amount)| *amount);
        if amounts.into_iter().chain(extended).any(|amount| amount < 0) {
            problems.push(value.invalid("must not be more than the capacity"));
        } else {
            result = rest;
        }
    }
    result
}

fn check_below(value: &Value<'_>, part: &Resources, whole: &Resources, problems: &mut Problems) {
    let over = part.cpu_milli > whole.cpu_milli
        || part.memory > whole.memory
        || part.ephemeral > whole.ephemeral
        || part.pods > whole.pods
        || part
            .extended
            .iter()
            .any(|(name, amount)| *amount > whole.extended(name));
    if over {
        problems.push(value.invalid("must not be more than the capacity"));
    }
}

fn resources(value: &Value<'_>, problems: &mut Problems) -> Resources {
    let mut resources = Resources::default();
    for (key, value) in value.entries(problems) {
        let Some(quantity) = value.quantity(problems) else {
            continue;
        };
        if quantity.nanos() < 0 {
            problems.push(value.invalid("must be greater than or equal to 0"));
            continue;
        }
        match key {
            "cpu" => {
                (resources.cpu_milli, resources.named) =
                    (quantity.milli_value(), resources.named | 1)
            }
            "memory" => {
                (resources.memory, resources.named) = (quantity.value(), resources.named | 2)
            }
            "ephemeral-storage" => {
                (resources.ephemeral, resources.named) = (quantity.value(), resources.named | 4)
            }
            "pods" => (resources.pods, resources.named) = (quantity.value(), resources.named | 8),
            name if name.contains('/') || name.starts_with("hugepages-") => {
                resources.set_extended(&Text::from(name), quantity.value());
            }
            name => {
                let known = ["cpu", "memory", "ephemeral-storage", "pods"];
                let unknown = value.invalid("must be a standard resource or have a domain");
                problems.push(unknown.suggest(name, known));
            }
        }
    }
    resources
}

/// `key=value:Effect`, `key:Effect`, or `{key, value, effect}`.
fn taint(item: &Value<'_>, problems: &mut Problems) -> Option<Taint> {
    let words = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    let of = |word| match word {
        "NoSchedule" => TaintEffect::NoSchedule,
        "PreferNoSchedule" => TaintEffect::PreferNoSchedule,
        _ => TaintEffect::NoExecute,
    };
    if item.node.as_map().is_some() {
        let fields = item.fields(problems)?;
        let key = fields
            .require("key", problems)
            .and_then(|v| v.name(problems));
        let value = fields.text("value", problems).unwrap_or_default();
        let effect = fields
            .require("effect", problems)
            .and_then(|v| v.word(&words, problems));
        fields.finish(problems);
        return Some(new_taint(&key?, &value, of(effect?)));
    }
    let text = item.name(problems)?;
    let parts = text.rsplit_once(':').and_then(|(rest, effect)| {
        let effect = words.into_iter().find(|word| *word == effect)?;
        let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
        (!key.is_empty()).then_some((key, value, effect))
    });
    let Some((key, value, effect)) = parts else {
        let hint = "write key=value:Effect with NoSchedule, PreferNoSchedule or NoExecute";
        problems.push(item.invalid("must be a taint").hint(hint));
        return None;
    };
    Some(new_taint(key, value, of(effect)))
}

fn new_taint(key: &str, value: &str, effect: TaintEffect) -> Taint {
    Taint {
        key: Text::from(key),
        value: Text::from(value),
        effect,
        added: None,
    }
}

fn class(item: &Value<'_>, problems: &mut Problems) -> Option<StorageClassSpec> {
    let fields = item.fields(problems)?;
    let name = fields
        .require("name", problems)
        .and_then(|value| value.name(problems));
    let modes = ["Immediate", "WaitForFirstConsumer"];
    let mode = fields
        .get("volumeBindingMode")
        .and_then(|value| value.word(&modes, problems));
    let class = StorageClassSpec {
        name: name.unwrap_or_default(),
        default: fields.flag("default", problems).unwrap_or(false),
        zonal: fields.flag("zonal", problems).unwrap_or(false),
        wait_for_consumer: mode == Some("WaitForFirstConsumer"),
        attach: fields.duration("attach", problems),
        detach: fields.duration("detach", problems),
    };
    fields.finish(problems);
    Some(class)
}
