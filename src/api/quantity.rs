//! Amounts of resources, in integers.
//!
//! [`Resources`] is what scheduling and admission compute with: milli-cpu, bytes, counts. Parsing
//! of quantity text (`100m`, `1.5Gi`, `2e3`) is [`Quantity`].

use smallvec::SmallVec;

use super::Text;

/// A `resource.Quantity`, exact to a billionth as upstream keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity {
    nanos: i128,
}

impl Quantity {
    /// From a whole number of units.
    pub fn from_units(units: i64) -> Self {
        Quantity {
            nanos: i128::from(units) * 1_000_000_000,
        }
    }

    /// From billionths.
    pub fn from_nanos(nanos: i128) -> Self {
        Quantity { nanos }
    }

    /// Whole units, rounded up as `Quantity.Value()` does.
    pub fn value(self) -> i64 {
        saturate(div_ceil(self.nanos, 1_000_000_000))
    }

    /// Thousandths, rounded up as `Quantity.MilliValue()` does.
    pub fn milli_value(self) -> i64 {
        saturate(div_ceil(self.nanos, 1_000_000))
    }

    /// Billionths.
    pub fn nanos(self) -> i128 {
        self.nanos
    }
}

fn div_ceil(a: i128, b: i128) -> i128 {
    // Away from zero for both signs, as upstream's infDec rounding up does.
    if a >= 0 {
        (a + b - 1) / b
    } else {
        -((-a + b - 1) / b)
    }
}

fn saturate(v: i128) -> i64 {
    i64::try_from(v).unwrap_or(if v > 0 { i64::MAX } else { i64::MIN })
}

/// A bundle of resource amounts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    /// CPU in thousandths of a core.
    pub cpu_milli: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// `ephemeral-storage` in bytes.
    pub ephemeral: i64,
    /// Pod slots (`pods`); only in capacity and allocatable.
    pub pods: i64,
    /// Everything else by name (`nvidia.com/gpu`, `hugepages-2Mi`), sorted by name.
    pub extended: SmallVec<[(Text, i64); 0]>,
    /// Which of cpu, memory and ephemeral-storage were named at all (bits 0, 1, 2, pods 3): an
    /// explicit zero differs from an absent key in QoS, limits and defaults.
    pub named: u8,
}

impl Resources {
    /// The amount of an extended resource, 0 when absent.
    pub fn extended(&self, name: &str) -> i64 {
        self.extended
            .iter()
            .find(|(n, _)| n == name)
            .map_or(0, |(_, v)| *v)
    }

    /// Sets an extended resource, keeping the order by name.
    pub fn set_extended(&mut self, name: &Text, amount: i64) {
        match self.extended.binary_search_by(|(n, _)| n.cmp(name)) {
            Ok(at) => self.extended[at].1 = amount,
            Err(at) => self.extended.insert(at, (name.clone(), amount)),
        }
    }

    /// Whether nothing was named.
    pub fn is_empty(&self) -> bool {
        self.named == 0 && self.extended.is_empty()
    }

    /// Adds `other` to this, amount by amount.
    pub fn add(&mut self, other: &Resources) {
        self.cpu_milli += other.cpu_milli;
        self.memory += other.memory;
        self.ephemeral += other.ephemeral;
        self.pods += other.pods;
        self.named |= other.named;
        for (name, amount) in &other.extended {
            let sum = self.extended(name) + amount;
            self.set_extended(name, sum);
        }
    }

    /// Subtracts `other` from this, amount by amount.
    pub fn sub(&mut self, other: &Resources) {
        self.cpu_milli -= other.cpu_milli;
        self.memory -= other.memory;
        self.ephemeral -= other.ephemeral;
        self.pods -= other.pods;
        for (name, amount) in &other.extended {
            let rest = self.extended(name) - amount;
            self.set_extended(name, rest);
        }
    }

    /// Raises each amount to at least that of `other`.
    pub fn max(&mut self, other: &Resources) {
        self.cpu_milli = self.cpu_milli.max(other.cpu_milli);
        self.memory = self.memory.max(other.memory);
        self.ephemeral = self.ephemeral.max(other.ephemeral);
        self.pods = self.pods.max(other.pods);
        self.named |= other.named;
        for (name, amount) in &other.extended {
            let most = self.extended(name).max(*amount);
            self.set_extended(name, most);
        }
    }
}
