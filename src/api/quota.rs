//! ResourceQuotas: how much a namespace may have, and what an object counts as.
//!
//! Ports of `pkg/quota/v1/evaluator/core/{pods,services,persistent_volume_claims}.go` and of
//! `staging/src/k8s.io/apiserver/pkg/quota/v1`: usage by name (`requests.cpu`, `pods`,
//! `services.nodeports`, `count/deployments.apps`, …), scopes, and what a pod must say when its
//! namespace counts cpu or memory. Both sides use it: admission, which charges, and the controller,
//! which counts anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::container::Container;
use super::quantity::{Format, Quantity, Resources};
use super::service::ServiceKind;
use super::{Meta, PersistentVolumeClaim, Pod, Row, Service, Text};
use crate::engine::Time;

/// An amount as it is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Amount {
    /// How much.
    pub quantity: Quantity,
    /// How it was written.
    pub format: Format,
}

impl Amount {
    /// Of quantity text that was validated.
    pub fn parse(text: &str) -> Amount {
        let (quantity, format) = Quantity::parse_as_written(text).unwrap_or_default();
        Amount { quantity, format }
    }

    /// So many whole things.
    pub fn count(n: i64) -> Amount {
        Amount {
            quantity: Quantity::from_units(n),
            format: Format::DecimalSi,
        }
    }

    /// Thousandths of a core.
    pub fn milli(n: i64) -> Amount {
        Amount {
            quantity: Quantity::from_nanos(i128::from(n) * 1_000_000),
            format: Format::DecimalSi,
        }
    }

    /// Bytes; pods keep no format, so that round numbers of KiB are taken as binary.
    pub fn bytes(n: i64) -> Amount {
        Amount {
            quantity: Quantity::from_units(n),
            format: match n % 1024 {
                0 => Format::BinarySi,
                _ => Format::DecimalSi,
            },
        }
    }

    /// `Quantity.Add`: a zero takes the format of what is added.
    fn plus(self, other: Amount) -> Amount {
        let format = match self.quantity.nanos() {
            0 => other.format,
            _ => self.format,
        };
        let quantity = Quantity::from_nanos(self.quantity.nanos() + other.quantity.nanos());
        Amount { quantity, format }
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.quantity.print(self.format))
    }
}

/// Amounts by name (`v1.ResourceList`).
pub type Amounts = BTreeMap<Text, Amount>;

/// Adds amounts, name by name.
pub fn add(to: &mut Amounts, amounts: &Amounts) {
    for (name, amount) in amounts {
        let sum = to.get(name).copied().unwrap_or_default().plus(*amount);
        to.insert(name.clone(), sum);
    }
}

/// A ResourceQuota.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResourceQuota {
    /// Metadata.
    pub meta: Meta,
    /// `spec.hard`.
    pub hard: Amounts,
    /// `spec.scopes` and `spec.scopeSelector`: all must match.
    pub scopes: Vec<Scope>,
    /// The spec as defaulted JSON.
    pub source: Arc<Value>,
    /// Status.
    pub status: QuotaStatus,
}

/// `status` of a ResourceQuota.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct QuotaStatus {
    /// `hard`; nothing before the controller has counted for the first time.
    pub hard: Option<Amounts>,
    /// `used`.
    pub used: Amounts,
}

/// One requirement of a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `Terminating`, `NotTerminating`, `BestEffort`, `NotBestEffort`, `PriorityClass`,
    /// `CrossNamespacePodAffinity`.
    pub name: Text,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: Text,
    /// Names of priority classes.
    pub values: Vec<Text>,
}

impl Scope {
    /// `podMatchesScopeFunc`.
    fn matches(&self, pod: &Pod) -> bool {
        let spec = &pod.spec;
        match self.name.as_str() {
            "Terminating" => terminating(pod),
            "NotTerminating" => !terminating(pod),
            "BestEffort" => best_effort(pod),
            "NotBestEffort" => !best_effort(pod),
            "PriorityClass" => self.selects(&spec.priority_class),
            "CrossNamespacePodAffinity" => crosses_namespaces(&spec.source),
            _ => false,
        }
    }

    /// `pvcMatchesScopeFunc`.
    fn matches_claim(&self, claim: &PersistentVolumeClaim) -> bool {
        let class = claim.source["volumeAttributesClassName"].as_str();
        self.name == "VolumeAttributesClass" && self.selects(class.unwrap_or_default())
    }

    /// `ScopedResourceSelectorRequirementsAsSelector`: no class is none of any values.
    fn selects(&self, class: &str) -> bool {
        let listed = || self.values.iter().any(|value| value == class);
        match self.operator.as_str() {
            "In" => listed(),
            "NotIn" => !listed(),
            "DoesNotExist" => class.is_empty(),
            _ => !class.is_empty(),
        }
    }
}

fn best_effort(pod: &Pod) -> bool {
    let none = |r: &Resources| r.cpu_milli == 0 && r.memory == 0;
    if let Some((requests, limits)) = pod.spec.whole() {
        return none(&requests) && none(&limits);
    }
    let mut all = pod.spec.containers.iter().chain(&pod.spec.init_containers);
    all.all(|c| none(&c.requests) && none(&c.limits))
}

/// `usesCrossNamespacePodAffinity`.
fn crosses_namespaces(spec: &Value) -> bool {
    let kinds = ["podAffinity", "podAntiAffinity"];
    let lists = [
        "requiredDuringSchedulingIgnoredDuringExecution",
        "preferredDuringSchedulingIgnoredDuringExecution",
    ];
    kinds.iter().any(|kind| {
        let terms = lists.iter().flat_map(|list| {
            let terms = spec["affinity"][kind][list].as_array();
            terms.into_iter().flatten()
        });
        let mut terms = terms.map(|term| term.get("podAffinityTerm").unwrap_or(term));
        terms.any(|term| {
            let named = term["namespaces"].as_array().is_some_and(|n| !n.is_empty());
            named || !term["namespaceSelector"].is_null()
        })
    })
}

const COMPUTE: [&str; 10] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];
/// `validationSet`: containers must name these when they are counted.
const MUST_BE_NAMED: [&str; 6] = [
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];

/// `MatchingResources`: whether a quota's name counts objects like this one.
fn counts(row: &Row, name: &str) -> bool {
    if name == count_name(row) {
        return true;
    }
    match row {
        Row::Pod(_) => {
            let request = name.strip_prefix("requests.");
            let extended = request.is_some_and(extended);
            let huge = request.unwrap_or(name).starts_with("hugepages-");
            COMPUTE.contains(&name) || extended || huge
        }
        Row::Service(_) => {
            ["services", "services.nodeports", "services.loadbalancers"].contains(&name)
        }
        Row::PersistentVolumeClaim(_) => {
            let plain = ["persistentvolumeclaims", "requests.storage"];
            plain.contains(&name) || name.contains(".storageclass.storage.k8s.io/")
        }
        Row::ConfigMap(_) => name == "configmaps",
        Row::Secret(_) => name == "secrets",
        Row::ResourceQuota(_) => name == "resourcequotas",
        Row::Inert(inert) => {
            inert.kind == "ReplicationController" && name == "replicationcontrollers"
        }
        _ => false,
    }
}

/// `isExtendedResourceNameForQuota`, without the `requests.` before it.
fn extended(name: &str) -> bool {
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    !native || name.starts_with("deviceclass.resource.kubernetes.io/")
}

/// `count/deployments.apps`.
fn count_name(row: &Row) -> String {
    let (api_version, plural) = match row {
        Row::Inert(inert) => {
            let plural = format!("{}s", inert.kind.to_ascii_lowercase());
            (inert.api_version.as_str(), plural)
        }
        _ => (row.kind().api_version(), row.kind().plural().to_owned()),
    };
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let dot = if group.is_empty() { "" } else { "." };
    format!("count/{plural}{dot}{group}")
}

impl ResourceQuota {
    /// `generic.Matches`: the object is in all scopes, and something of it is counted by these names:
    /// those of the spec for who counts, those of the status for who admits.
    pub fn matches(&self, hard: &Amounts, row: &Row) -> bool {
        let scoped = match row {
            Row::Pod(pod) => self.scopes.iter().all(|scope| scope.matches(pod)),
            Row::PersistentVolumeClaim(claim) => {
                self.scopes.iter().all(|scope| scope.matches_claim(claim))
            }
            _ => self.scopes.is_empty(),
        };
        scoped && hard.keys().any(|name| counts(row, name))
    }

    /// What of the object's usage is counted by these names (`quota.Mask`).
    pub fn charge(&self, hard: &Amounts, row: &Row, now: Time) -> Amounts {
        let mut usage = usage(row, now);
        usage.retain(|name, _| hard.contains_key(name) && counts(row, name));
        usage
    }

    /// `hasUsageStats`: the names that count the object, if one of them was never counted.
    pub fn uncounted(&self, hard: &Amounts, row: &Row) -> Option<String> {
        let names = hard.keys().filter(|name| counts(row, name));
        let names: Vec<&str> = names.map(Text::as_str).collect();
        let known = |name: &&str| self.status.used.contains_key(*name);
        (!names.iter().all(known)).then(|| names.join(","))
    }

    /// `podEvaluator.Constraints`: cpu and memory that are counted must be named by every container.
    ///
    /// # Errors
    /// In upstream's words.
    pub fn constraints(&self, hard: &Amounts, row: &Row) -> Result<(), String> {
        let Row::Pod(pod) = row else { return Ok(()) };
        if pod.spec.whole().is_some() {
            return Ok(());
        }
        let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let required: Vec<&str> = MUST_BE_NAMED
            .into_iter()
            .filter(|name| hard.contains_key(*name))
            .collect();
        for container in pod.spec.containers.iter().chain(&pod.spec.init_containers) {
            let named = container_usage(container);
            for name in required.iter().filter(|name| !named.contains_key(**name)) {
                missing.entry(name).or_default().insert(&container.name);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let each = missing.iter().map(|(name, containers)| {
            let containers: Vec<&str> = containers.iter().copied().collect();
            format!("{name} for: {}", containers.join(","))
        });
        let each: Vec<String> = each.collect();
        Err(format!("must specify {}", each.join("; ")))
    }
}

fn container_usage(container: &Container) -> Amounts {
    compute_usage(&container.requests, &container.limits)
}

/// `podComputeUsageHelper`.
fn compute_usage(requests: &Resources, limits: &Resources) -> Amounts {
    let mut usage = Amounts::new();
    let mut set = |name: &str, amount: Amount| {
        usage.insert(name.into(), amount);
    };
    set("pods", Amount::count(1));
    let bits = [(1, "cpu"), (2, "memory"), (4, "ephemeral-storage")];
    let amount = |of: &Resources, bit: u8| match bit {
        1 => Amount::milli(of.cpu_milli),
        2 => Amount::bytes(of.memory),
        _ => Amount::bytes(of.ephemeral),
    };
    for (bit, name) in bits {
        if requests.named & bit != 0 {
            set(name, amount(requests, bit));
            set(&format!("requests.{name}"), amount(requests, bit));
        }
        if limits.named & bit != 0 {
            set(&format!("limits.{name}"), amount(limits, bit));
        }
    }
    for (name, n) in &requests.extended {
        if name.starts_with("hugepages-") {
            set(name, Amount::bytes(*n));
            set(&format!("requests.{name}"), Amount::bytes(*n));
        } else {
            set(&format!("requests.{name}"), Amount::count(*n));
        }
    }
    usage
}

/// What an object counts as at `now`.
pub fn usage(row: &Row, now: Time) -> Amounts {
    let mut usage = Amounts::new();
    usage.insert(count_name(row).into(), Amount::count(1));
    match row {
        Row::Pod(pod) if charged(pod, now) => {
            add(
                &mut usage,
                &compute_usage(&pod.spec.requests, &pod_limits(pod)),
            );
        }
        Row::Service(service) => service_usage(service, &mut usage),
        Row::PersistentVolumeClaim(claim) => claim_usage(claim, &mut usage),
        Row::ConfigMap(_) => one(&mut usage, "configmaps"),
        Row::Secret(_) => one(&mut usage, "secrets"),
        Row::ResourceQuota(_) => one(&mut usage, "resourcequotas"),
        Row::Inert(inert) if inert.kind == "ReplicationController" => {
            one(&mut usage, "replicationcontrollers");
        }
        _ => {}
    }
    usage
}

fn one(usage: &mut Amounts, name: &str) {
    usage.insert(name.into(), Amount::count(1));
}

/// `QuotaV1Pod`: neither ended nor deleted longer ago than its grace period.
pub fn charged(pod: &Pod, now: Time) -> bool {
    // `deletionTimestamp` is the end of the grace period, and upstream adds the period once more.
    let over = pod.meta.deletion.is_some_and(|d| {
        let grace = Duration::from_secs(u64::from(d.grace_s));
        now > d.at + grace
    });
    !pod.status.phase.terminal() && !over
}

/// `resourcehelper.PodLimits`.
fn pod_limits(pod: &Pod) -> Resources {
    let (mut sum, mut most) = (Resources::default(), Resources::default());
    let mut sidecars = Resources::default();
    for container in &pod.spec.containers {
        sum.add(&container.limits);
    }
    for container in &pod.spec.init_containers {
        let mut needed = container.limits.clone();
        if container.restart_always {
            sum.add(&needed);
            sidecars.add(&needed);
            needed = sidecars.clone();
        } else {
            needed.add(&sidecars);
        }
        most.max(&needed);
    }
    sum.max(&most);
    if let Some((_, limits)) = pod.spec.whole() {
        super::decode::override_with(&mut sum, &limits);
    }
    // Overhead is added to what is limited at all.
    let overhead = &pod.spec.overhead;
    if sum.named & 1 != 0 {
        sum.cpu_milli += overhead.cpu_milli;
    }
    if sum.named & 2 != 0 {
        sum.memory += overhead.memory;
    }
    if sum.named & 4 != 0 {
        sum.ephemeral += overhead.ephemeral;
    }
    sum
}

fn service_usage(service: &Service, usage: &mut Amounts) {
    let ports = i64::try_from(service.ports.len()).unwrap_or(i64::MAX);
    let (node_ports, balancers) = match service.kind {
        ServiceKind::NodePort => (ports, 0),
        ServiceKind::LoadBalancer => {
            let allocated = service.source["allocateLoadBalancerNodePorts"] != false;
            let named = service.ports.iter().filter(|port| port.node_port != 0);
            let named = i64::try_from(named.count()).unwrap_or(i64::MAX);
            (if allocated { ports } else { named }, 1)
        }
        _ => (0, 0),
    };
    usage.insert("services".into(), Amount::count(1));
    usage.insert("services.nodeports".into(), Amount::count(node_ports));
    usage.insert("services.loadbalancers".into(), Amount::count(balancers));
}

fn claim_usage(claim: &PersistentVolumeClaim, usage: &mut Amounts) {
    let storage = claim.request.map(Amount::bytes);
    let mut set = |name: &str, amount: Amount| {
        usage.insert(name.into(), amount);
    };
    set("persistentvolumeclaims", Amount::count(1));
    if let Some(storage) = storage {
        set("requests.storage", storage);
    }
    let class = claim.class();
    if !class.is_empty() {
        let prefix = format!("{class}.storageclass.storage.k8s.io");
        set(
            &format!("{prefix}/persistentvolumeclaims"),
            Amount::count(1),
        );
        if let Some(storage) = storage {
            set(&format!("{prefix}/requests.storage"), storage);
        }
    }
}

/// `Handles`: whether admission looks at this change of an object; only creations are charged
/// otherwise.
pub fn charged_on_update(old: &Row, new: &Row) -> bool {
    match (old, new) {
        (Row::Service(_), _) | (Row::PersistentVolumeClaim(_), _) => true,
        (Row::Pod(old), Row::Pod(new)) => terminating(old) != terminating(new),
        _ => false,
    }
}

/// `DefaultUpdateFilter`: whether this change of an object may give something back.
pub fn replenishes(old: &Row, new: &Row, now: Time) -> bool {
    match (old, new) {
        (Row::Pod(old), Row::Pod(new)) => charged(old, now) && !charged(new, now),
        (Row::Service(old), Row::Service(new)) => {
            let counted = |service: &Service| match service.kind {
                ServiceKind::NodePort => 1,
                ServiceKind::LoadBalancer => 2,
                _ => 0,
            };
            counted(old) != counted(new)
        }
        (Row::PersistentVolumeClaim(old), Row::PersistentVolumeClaim(new)) => {
            let class =
                |claim: &PersistentVolumeClaim| claim.source["volumeAttributesClassName"].clone();
            class(old) != class(new)
        }
        _ => false,
    }
}

/// `IsTerminating`.
fn terminating(pod: &Pod) -> bool {
    pod.spec.active_deadline_s.is_some_and(|s| s >= 0)
}

/// `prettyPrint`: `pods=1,requests.cpu=500m`.
pub fn pretty(amounts: &Amounts) -> String {
    let each = amounts
        .iter()
        .map(|(name, amount)| format!("{name}={amount}"));
    let each: Vec<String> = each.collect();
    each.join(",")
}

/// A LimitRange.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LimitRange {
    /// Metadata.
    pub meta: Meta,
    /// `spec.limits`.
    pub limits: Vec<LimitItem>,
    /// The spec as defaulted JSON.
    pub source: Arc<Value>,
}

/// One of `spec.limits`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitItem {
    /// `Container`, `Pod` or `PersistentVolumeClaim`.
    pub kind: Text,
    /// `max`.
    pub max: Amounts,
    /// `min`.
    pub min: Amounts,
    /// `default` limits.
    pub default: Amounts,
    /// `defaultRequest`.
    pub default_request: Amounts,
    /// `maxLimitRequestRatio`.
    pub max_ratio: Amounts,
}
