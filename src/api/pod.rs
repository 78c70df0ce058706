//! Pods and the templates they are made from.
//!
//! A pod row is small: the spec is shared with every pod of the same template, and only what
//! differs (`node_name`, status, metadata) lives in the row.

use std::sync::Arc;

use serde_json::Value;

use super::affinity::{Affinity, Toleration, TopologySpread};
use super::container::{ConfigRef, Container};
use super::quantity::Resources;
use super::{Labels, Meta, PodStatus, Shared, Text};

/// `spec.template` of a workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodTemplate {
    /// Labels of the pods.
    pub labels: Labels,
    /// Annotations of the pods.
    pub annotations: Labels,
    /// What the pods are made of.
    pub spec: Arc<PodSpec>,
    /// The template as defaulted JSON: equality of templates, patches and printing use it.
    pub source: Arc<Value>,
}

impl PodTemplate {
    /// `metadata.finalizers`: pods are made with them (`getPodsFinalizers`).
    pub fn finalizers(&self) -> Arc<[Text]> {
        let all = self.source.pointer("/metadata/finalizers");
        let Some(all) = all.and_then(Value::as_array) else {
            return Arc::default();
        };
        let names = all.iter().filter_map(Value::as_str);
        names.map(Text::from).collect()
    }
}

/// `spec` of a pod, without `nodeName`. It is [`Eq`] so that pods which share one compare it by its
/// address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSpec {
    /// Containers.
    pub containers: Vec<Container>,
    /// Init containers, sidecars among them, in order.
    pub init_containers: Vec<Container>,
    /// Restart policy of ordinary containers.
    pub restart_policy: RestartPolicy,
    /// `terminationGracePeriodSeconds`, default 30.
    pub grace_s: u32,
    /// `activeDeadlineSeconds`.
    pub active_deadline_s: Option<i64>,
    /// `nodeSelector`.
    pub node_selector: Labels,
    /// Affinity; shared because most pods have none.
    pub affinity: Option<Arc<Affinity>>,
    /// Tolerations, those added by admission among them.
    pub tolerations: Vec<Toleration>,
    /// Explicit topology spread constraints.
    pub topology_spread: Vec<TopologySpread>,
    /// Which scheduler profile; `default-scheduler` by default.
    pub scheduler_name: Text,
    /// Names of scheduling gates.
    pub scheduling_gates: Vec<Text>,
    /// `priorityClassName`, empty when none.
    pub priority_class: Text,
    /// Resolved by admission; 0 without a class.
    pub priority: i32,
    /// Whether this pod may preempt.
    pub preempt_never: bool,
    /// `overhead`.
    pub overhead: Resources,
    /// Uses the node's network.
    pub host_network: bool,
    /// Extra readiness conditions.
    pub readiness_gates: Vec<Text>,
    /// Volumes.
    pub volumes: Vec<Volume>,
    /// `hostname`, empty when none.
    pub hostname: Text,
    /// `subdomain`, empty when none.
    pub subdomain: Text,
    /// `serviceAccountName`.
    pub service_account: Text,
    /// `shareProcessNamespace`.
    pub share_process_namespace: bool,
    /// Sum of requests as the scheduler counts them (`resourcehelper.PodRequests`): containers,
    /// the init containers' maximum, sidecars and overhead.
    pub requests: Resources,
    /// `nodeName` as written in a manifest (a pod that was bound by its author); empty otherwise.
    pub node_name: Text,
    /// What containers hold that differs from their requests here, by the pod's status.
    pub resized: Option<Box<Resized>>,
    /// The spec as defaulted JSON, for patches and printing.
    pub source: Arc<Value>,
}

/// Requests that count in place of those in the spec while a pod is resized in place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resized {
    /// Of `spec.containers`, in their order.
    pub containers: Vec<Option<Resources>>,
    /// Of `spec.initContainers`, in their order.
    pub init_containers: Vec<Option<Resources>>,
    /// Of the pod as a whole.
    pub level: Option<Resources>,
}

impl PodSpec {
    /// `resources` of the pod as a whole: requests and limits, when they say anything.
    pub fn whole(&self) -> Option<(Resources, Resources)> {
        super::decode::pod_whole(&self.source)
    }

    /// Whether the volume at this place is an `emptyDir` in memory (`medium: Memory`).
    pub fn in_memory(&self, volume: u16) -> bool {
        let path = format!("/volumes/{volume}/emptyDir/medium");
        let medium = self.source.pointer(&path).and_then(Value::as_str);
        medium == Some("Memory")
    }
}

/// `restartPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RestartPolicy {
    /// Restart on every exit.
    #[default]
    Always,
    /// Restart on failures.
    OnFailure,
    /// Never restart.
    Never,
}

/// A volume, as far as the model acts on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Volume {
    /// Name in the pod.
    pub name: Text,
    /// What it is made from.
    pub source: VolumeSource,
}

impl Volume {
    /// The claim that the volume of a pod of this name uses, if it uses any
    /// (`component-helpers/storage/ephemeral :: VolumeClaimName`).
    pub fn claim_name(&self, pod: &str) -> Option<Text> {
        match &self.source {
            VolumeSource::Claim { name, .. } => Some(name.clone()),
            VolumeSource::Ephemeral => Some(format!("{pod}-{}", self.name).into()),
            _ => None,
        }
    }

    /// Whether that is the claim of this name.
    pub fn names_claim(&self, pod: &str, claim: &str) -> bool {
        match &self.source {
            VolumeSource::Claim { name, .. } => name == claim,
            VolumeSource::Ephemeral => {
                let rest = claim.strip_prefix(pod).and_then(|c| c.strip_prefix('-'));
                rest == Some(self.name.as_str())
            }
            _ => false,
        }
    }
}

/// Source of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum VolumeSource {
    /// `emptyDir`; the size limit in bytes, 0 for none.
    EmptyDir(i64),
    /// A ConfigMap or Secret.
    Config(ConfigRef),
    /// A claim by name.
    Claim {
        /// Name of the PersistentVolumeClaim.
        name: Text,
        /// Mounted read-only.
        read_only: bool,
    },
    /// `ephemeral`: a claim of the pod's own, made from a template that is in the spec's JSON.
    Ephemeral,
    /// `projected`: the ConfigMaps and Secrets that it needs.
    Projected(Vec<ConfigRef>),
    /// Any other source by the name of its field (`hostPath`, `gcePersistentDisk`, …), with the
    /// identity that conflicts are detected by (path, pdName, volumeID …) and read-only flag.
    Other {
        /// Field name of the source.
        field: Text,
        /// Identity within that kind of source.
        identity: Text,
        /// Mounted read-only.
        read_only: bool,
    },
}

/// A Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Metadata.
    pub meta: Meta,
    /// Shared specification.
    pub spec: Arc<PodSpec>,
    /// The node it is bound to.
    pub node_name: Option<Text>,
    /// Status; shared with whoever wrote it and with later states that keep it.
    pub status: Shared<PodStatus>,
}
