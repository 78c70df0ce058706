//! Eviction thresholds: how they are written, and which of them call for action.
//!
//! `pkg/kubelet/eviction/helpers.go` and the first half of `eviction_manager.go :: synchronize`: a
//! function from what was observed to the conditions that the node reports and the thresholds whose
//! grace periods are over. Who goes is decided in [`pressure`](super::pressure).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::usage::{Scarce, available};
use crate::api::Text;
use crate::api::node::NodeConditionKind;
use crate::api::quantity::{Format, Quantity};
use crate::engine::Time;

/// What a threshold is about (`eviction/api/types.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// `memory.available`: the node's capacity less what is in use.
    Memory,
    /// `allocatableMemory.available`: what pods may use, less what they do.
    AllocatableMemory,
    /// `nodefs.available`.
    NodeFs,
    /// `nodefs.inodesFree`.
    NodeFsInodes,
    /// `imagefs.available`; there is one filesystem for all here.
    ImageFs,
    /// `imagefs.inodesFree`.
    ImageFsInodes,
    /// `pid.available`.
    Pid,
}

/// What is short on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pressure {
    /// `MemoryPressure`.
    Memory,
    /// `DiskPressure`.
    Disk,
    /// `PIDPressure`.
    Pid,
}

impl Pressure {
    /// The condition of the node.
    pub fn condition(self) -> NodeConditionKind {
        match self {
            Pressure::Memory => NodeConditionKind::MemoryPressure,
            Pressure::Disk => NodeConditionKind::DiskPressure,
            Pressure::Pid => NodeConditionKind::PidPressure,
        }
    }

    /// As upstream prints it.
    pub fn name(self) -> &'static str {
        match self {
            Pressure::Memory => "MemoryPressure",
            Pressure::Disk => "DiskPressure",
            Pressure::Pid => "PIDPressure",
        }
    }
}

const SIGNALS: [(&str, Signal); 7] = [
    ("memory.available", Signal::Memory),
    ("allocatableMemory.available", Signal::AllocatableMemory),
    ("nodefs.available", Signal::NodeFs),
    ("nodefs.inodesFree", Signal::NodeFsInodes),
    ("imagefs.available", Signal::ImageFs),
    ("imagefs.inodesFree", Signal::ImageFsInodes),
    ("pid.available", Signal::Pid),
];

impl Signal {
    /// The signal of this name.
    pub fn parse(name: &str) -> Option<Signal> {
        let found = SIGNALS.iter().find(|(known, _)| *known == name);
        found.map(|(_, signal)| *signal)
    }

    /// `signalToNodeCondition`.
    pub fn pressure(self) -> Pressure {
        match self {
            Signal::Memory | Signal::AllocatableMemory => Pressure::Memory,
            Signal::Pid => Pressure::Pid,
            _ => Pressure::Disk,
        }
    }

    /// What pods are ranked by.
    pub(super) fn scarce(self) -> Scarce {
        match self {
            Signal::Memory | Signal::AllocatableMemory => Scarce::Memory,
            Signal::NodeFs | Signal::ImageFs => Scarce::Disk,
            Signal::NodeFsInodes | Signal::ImageFsInodes => Scarce::Inodes,
            Signal::Pid => Scarce::Processes,
        }
    }

    /// `signalToResource`: what KubeEvents call it.
    pub fn resource(self) -> &'static str {
        match self {
            Signal::Memory | Signal::AllocatableMemory => "memory",
            Signal::NodeFs | Signal::ImageFs => "ephemeral-storage",
            Signal::NodeFsInodes | Signal::ImageFsInodes => "inodes",
            Signal::Pid => "pids",
        }
    }
}

/// A quantity, or a share of the capacity (`ThresholdValue`).
#[derive(Clone, Debug, PartialEq)]
pub enum Amount {
    /// In bytes or numbers, and as it is printed.
    Fixed(i64, Text),
    /// Of the capacity, 0 to 1; of the precision that upstream has.
    Share(f32),
}

impl Amount {
    /// `parseThresholdStatement` and `parseMinimumReclaims`: `100Mi` or `10%`.
    ///
    /// # Errors
    /// Neither, or outside of what makes sense.
    pub fn parse(text: &str) -> Result<Amount, String> {
        if let Some(percent) = text.strip_suffix('%') {
            let share = percent.parse::<f32>().map(|p| p / 100.0);
            return match share {
                Ok(share) if (0.0..=1.0).contains(&share) => Ok(Amount::Share(share)),
                _ => Err("must be between 0% and 100%".to_owned()),
            };
        }
        let quantity = Quantity::parse(text).map_err(|_| {
            "must be a quantity (100Mi) or a percentage of the capacity (10%)".to_owned()
        })?;
        if quantity.value() <= 0 {
            return Err("must be positive".to_owned());
        }
        let text = Quantity::canonical(text).unwrap_or_else(|_| text.to_owned());
        Ok(Amount::Fixed(quantity.value(), text.into()))
    }

    /// `GetThresholdQuantity`.
    fn of(&self, capacity: i64) -> i64 {
        match self {
            Amount::Fixed(value, _) => *value,
            Amount::Share(share) => (capacity as f64 * f64::from(*share)) as i64,
        }
    }

    fn print(&self, capacity: i64) -> String {
        match self {
            Amount::Fixed(_, text) => text.to_string(),
            Amount::Share(_) => bytes(self.of(capacity)),
        }
    }
}

/// A plain number as upstream prints it.
pub(super) fn number(value: i64) -> String {
    Quantity::from_units(value).print(Format::DecimalSi)
}

/// A number of bytes as upstream prints it.
pub(super) fn bytes(value: i64) -> String {
    Quantity::from_units(value).print(Format::BinarySi)
}

/// A threshold: below `amount` something is to be done, when that lasts for `grace`.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// What is compared.
    pub signal: Signal,
    /// With what.
    pub amount: Amount,
    /// Nothing for a hard threshold.
    pub grace: Duration,
    /// `--eviction-minimum-reclaim`: once met, it is met until there is so much more.
    pub reclaim: Option<Amount>,
}

impl Threshold {
    /// `isHardEvictionThreshold`.
    pub fn hard(&self) -> bool {
        self.grace.is_zero()
    }

    fn met(&self, seen: &Observations, with_reclaim: bool) -> bool {
        let Some(seen) = seen.get(&self.signal) else {
            return false;
        };
        let mut wanted = self.amount.of(seen.capacity);
        if let (true, Some(more)) = (with_reclaim, &self.reclaim) {
            wanted = wanted.saturating_add(more.of(seen.capacity));
        }
        wanted > seen.available
    }
}

/// What a kubelet evicts for.
#[derive(Clone, Debug, PartialEq)]
pub struct Eviction {
    /// In the order of their writing, hard ones first.
    pub thresholds: Vec<Threshold>,
    /// `--eviction-pressure-transition-period` (5 m).
    pub transition: Duration,
    /// `--eviction-max-pod-grace-period`, in seconds (0): of pods that go for a soft threshold.
    pub max_grace_s: u32,
}

/// Statements as the flags give them: signal and value.
pub type Statements<'a> = &'a [(String, String)];

/// `eviction/defaults_linux.go :: DefaultEvictionHard`.
const DEFAULTS: [(&str, &str); 5] = [
    ("memory.available", "100Mi"),
    ("nodefs.available", "10%"),
    ("nodefs.inodesFree", "5%"),
    ("imagefs.available", "15%"),
    ("imagefs.inodesFree", "5%"),
];

impl Default for Eviction {
    fn default() -> Self {
        let thresholds = Eviction::parse(&Eviction::usual(), &[], &[], &[]);
        Eviction {
            thresholds: thresholds.expect("the defaults are well written"),
            transition: Duration::from_secs(300),
            max_grace_s: 0,
        }
    }
}

impl Eviction {
    /// The hard thresholds of a kubelet that is told nothing, as they are written.
    pub fn usual() -> Vec<(String, String)> {
        let own = |(signal, value): (&str, &str)| (signal.to_owned(), value.to_owned());
        DEFAULTS.map(own).to_vec()
    }

    /// `ParseThresholdConfig`: `--eviction-hard`, `--eviction-soft`, `--eviction-soft-grace-period`
    /// and `--eviction-minimum-reclaim`.
    ///
    /// # Errors
    /// What the kubelet would refuse to start with.
    pub fn parse(
        hard: Statements<'_>,
        soft: Statements<'_>,
        graces: Statements<'_>,
        reclaims: Statements<'_>,
    ) -> Result<Vec<Threshold>, String> {
        let mut thresholds = statements(hard)?;
        let mut later = statements(soft)?;
        for (name, _) in graces.iter().chain(reclaims) {
            signal(name)?;
        }
        for threshold in &mut later {
            let given = graces
                .iter()
                .find(|(name, _)| Signal::parse(name) == Some(threshold.signal));
            let name = SIGNALS.iter().find(|(_, s)| *s == threshold.signal);
            let name = name.map_or("", |(name, _)| name);
            let Some((_, span)) = given else {
                return Err(format!(
                    "grace period must be specified for the soft eviction threshold {name}"
                ));
            };
            threshold.grace = crate::api::duration::parse(span)
                .ok()
                .filter(|span| !span.is_zero())
                .ok_or_else(|| format!("{name}: the grace period must be longer than 0"))?;
        }
        thresholds.extend(later);
        for threshold in &mut thresholds {
            let given = reclaims
                .iter()
                .find(|(name, _)| Signal::parse(name) == Some(threshold.signal));
            if let Some((name, value)) = given {
                let amount = Amount::parse(value).map_err(|why| format!("{name}: {why}"))?;
                threshold.reclaim = Some(amount);
            }
        }
        // `addAllocatableThresholds`.
        let of_pods = |t: &&Threshold| t.signal == Signal::Memory && t.hard();
        let of_pods: Vec<Threshold> = (thresholds.iter().filter(of_pods))
            .map(|threshold| Threshold {
                signal: Signal::AllocatableMemory,
                ..threshold.clone()
            })
            .collect();
        thresholds.extend(of_pods);
        Ok(thresholds)
    }

    /// How much must be available for nothing to be due for this pressure, with room to spare for
    /// what is reclaimed beyond it; of a node with this capacity. `None` when nothing ever is.
    pub(super) fn floor(&self, pressure: Pressure, capacity: i64) -> Option<i64> {
        let about = |t: &&Threshold| t.signal.pressure() == pressure;
        let floors = self.thresholds.iter().filter(about).map(|t| {
            let more = t.reclaim.as_ref().map_or(0, |more| more.of(capacity));
            t.amount.of(capacity).saturating_add(more)
        });
        floors.max()
    }

    /// `getThresholdMetInfo`: quantity and what is available, in words.
    pub(super) fn quantities(&self, due: &[usize], resource: &str, seen: &Observations) -> String {
        let all = due.iter().map(|at| &self.thresholds[*at]);
        for threshold in all.filter(|t| t.signal.resource() == resource) {
            if let Some(seen) = seen.get(&threshold.signal) {
                return format!(
                    "Threshold quantity: {}, available: {}. ",
                    threshold.amount.print(seen.capacity),
                    available(threshold.signal.scarce(), seen.available)
                );
            }
        }
        String::new()
    }
}

fn signal(name: &str) -> Result<Option<Signal>, String> {
    // `UpdateContainerFsThresholds` puts its own in their place.
    if name.starts_with("containerfs.") {
        return Ok(None);
    }
    let known = Signal::parse(name).ok_or_else(|| format!("unsupported eviction signal {name}"))?;
    Ok(Some(known))
}

fn statements(all: Statements<'_>) -> Result<Vec<Threshold>, String> {
    let mut thresholds = Vec::new();
    for (name, value) in all {
        let Some(signal) = signal(name)? else {
            continue;
        };
        if value == "0%" || value == "100%" {
            continue;
        }
        thresholds.push(Threshold {
            signal,
            amount: Amount::parse(value).map_err(|why| format!("{name}: {why}"))?,
            grace: Duration::ZERO,
            reclaim: None,
        });
    }
    Ok(thresholds)
}

/// What was seen of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// How much there is.
    pub capacity: i64,
    /// How much is left.
    pub available: i64,
}

/// `signalObservations`.
pub type Observations = BTreeMap<Signal, Observation>;

/// What is remembered between looks. Thresholds are named by their place in
/// [`Eviction::thresholds`].
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    met: Vec<usize>,
    first: BTreeMap<usize, Time>,
    observed: BTreeMap<Pressure, Time>,
    /// What the node reports.
    pub(super) pressures: BTreeSet<Pressure>,
}

impl Memory {
    /// Whether nothing is met, waited for or reported.
    pub(super) fn at_rest(&self) -> bool {
        self.first.is_empty() && self.pressures.is_empty()
    }

    /// `synchronize` up to the choice of a threshold: those that call for action, the most urgent
    /// first (`byEvictionPriority`).
    pub(super) fn look(&mut self, rules: &Eviction, seen: &Observations, now: Time) -> Vec<usize> {
        let all = &rules.thresholds;
        let mut met: Vec<usize> = (0..all.len())
            .filter(|at| all[*at].met(seen, false))
            .collect();
        for at in &self.met {
            if all[*at].met(seen, true) && !met.contains(at) {
                met.push(*at);
            }
        }
        let before = std::mem::take(&mut self.first);
        self.first = met
            .iter()
            .map(|at| (*at, before.get(at).copied().unwrap_or(now)))
            .collect();
        for at in &met {
            self.observed.insert(all[*at].signal.pressure(), now);
        }
        self.pressures = (self.observed.iter())
            .filter(|(_, last)| now.since(**last) < rules.transition)
            .map(|(pressure, _)| *pressure)
            .collect();
        let over =
            |(at, since): (&usize, &Time)| (now.since(*since) >= all[*at].grace).then_some(*at);
        self.met = self.first.iter().filter_map(over).collect();
        let mut due = self.met.clone();
        due.sort_by_key(|at| all[*at].signal.pressure() != Pressure::Memory);
        due
    }

    /// `reclaimNodeLevelResources`: whether what was reclaimed is enough.
    pub(super) fn relieved(rules: &Eviction, seen: &Observations) -> bool {
        !rules.thresholds.iter().any(|t| t.met(seen, true))
    }
}

#[cfg(test)]
mod tests;
