//! What every object has: name, namespace, labels, owners, deletion mark.

use std::sync::Arc;

use super::Text;
use super::row::Kind;
use super::workload::WorkloadCondition;
use crate::engine::Time;

/// Labels or annotations: few pairs, sorted by key, shared between objects of one template.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[(Text, Text)]>);

impl Labels {
    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<&Text> {
        // A linear scan beats a binary search at the sizes that labels have.
        self.0
            .iter()
            .find(|(k, _)| k.as_str() == key)
            .map(|(_, v)| v)
    }

    /// Whether `key` is there.
    pub fn contains(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// All pairs in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Text, &Text)> {
        self.0.iter().map(|(k, v)| (k, v))
    }

    /// The number of pairs.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A copy with `key` set to `value`.
    #[must_use]
    pub fn with(&self, key: &str, value: impl Into<Text>) -> Labels {
        let mut pairs: Vec<_> = self.0.to_vec();
        match pairs.binary_search_by(|(k, _)| k.as_str().cmp(key)) {
            Ok(at) => pairs[at].1 = value.into(),
            Err(at) => pairs.insert(at, (Text::from(key), value.into())),
        }
        Labels(pairs.into())
    }

    /// A copy without `key`.
    #[must_use]
    pub fn without(&self, key: &str) -> Labels {
        if !self.contains(key) {
            return self.clone();
        }
        Labels(
            self.0
                .iter()
                .filter(|(k, _)| k.as_str() != key)
                .cloned()
                .collect(),
        )
    }

    /// Whether both share one allocation (a fast "certainly equal").
    pub fn same(&self, other: &Labels) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<K: Into<Text>, V: Into<Text>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut pairs: Vec<(Text, Text)> = pairs
            .into_iter()
            .map(|(k, v)| (k.into(), v.into()))
            .collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.dedup_by(|later, first| {
            let same = later.0 == first.0;
            if same {
                std::mem::swap(later, first);
            }
            same
        });
        Labels(pairs.into())
    }
}

/// A cluster-wide unique number of an object; printed as a UUID where upstream prints one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(pub u64);

impl std::fmt::Display for Uid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "00000000-0000-4000-8000-{:012x}", self.0)
    }
}

/// One entry of `metadata.ownerReferences`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnerRef {
    /// Kind of the owner; [`Kind::Inert`] for kinds that are not modelled.
    pub kind: Kind,
    /// `apiVersion` as written, kept for printing.
    pub api_version: Text,
    /// The kind as written.
    pub kind_name: Text,
    /// Name of the owner (owners live in the same namespace, or are cluster-scoped).
    pub name: Text,
    /// Uid of the owner.
    pub uid: Uid,
    /// Whether this owner is the managing controller.
    pub controller: bool,
    /// Whether foreground deletion of the owner waits for this object.
    pub block_owner_deletion: bool,
}

/// `metadata`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Meta {
    /// Namespace; empty for cluster-scoped kinds.
    pub namespace: Text,
    /// Name; empty only in a create request that uses `generate_name`.
    pub name: Text,
    /// Prefix for a generated name; empty when there is none.
    pub generate_name: Text,
    /// Set by the store at creation.
    pub uid: Uid,
    /// Store revision of the last write to this object.
    pub revision: u64,
    /// Counts changes of the desired state.
    pub generation: u32,
    /// Labels.
    pub labels: Labels,
    /// Annotations.
    pub annotations: Labels,
    /// Owners, the controller among them.
    pub owners: Arc<[OwnerRef]>,
    /// Finalizers that hold back removal.
    pub finalizers: Arc<[Text]>,
    /// When the object was created.
    pub created: Time,
    /// Set once deletion was asked for.
    pub deletion: Option<Deletion>,
}

/// An instant as the API records it: `metav1.Time` has whole seconds, so whatever is computed from
/// a timestamp of an object (how long a pod has been ready, which object is older) sees those.
pub fn recorded(time: Time) -> Time {
    Time::from_secs(time.as_nanos() / 1_000_000_000)
}

/// The deletion mark of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Deletion {
    /// `deletionTimestamp`: when the grace period ends.
    pub at: Time,
    /// `deletionGracePeriodSeconds`, in seconds.
    pub grace_s: u32,
}

impl Meta {
    /// The owner with `controller: true`.
    pub fn controller(&self) -> Option<&OwnerRef> {
        self.owners.iter().find(|o| o.controller)
    }

    /// Whether deletion was asked for.
    pub fn deleting(&self) -> bool {
        self.deletion.is_some()
    }

    /// `namespace/name`, or the name alone for cluster-scoped objects.
    pub fn full_name(&self) -> String {
        if self.namespace.is_empty() {
            self.name.to_string()
        } else {
            [&self.namespace, "/", &self.name].concat()
        }
    }
}

/// A Namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Namespace {
    /// Metadata.
    pub meta: Meta,
    /// `spec.finalizers`: who has to finish before a deleted namespace goes.
    pub finalizers: Arc<[Text]>,
    /// Status.
    pub status: NamespaceStatus,
}

/// `status` of a Namespace; its phase follows from the deletion mark.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NamespaceStatus {
    /// What the namespace controller says of the deletion.
    pub conditions: Vec<WorkloadCondition>,
}
