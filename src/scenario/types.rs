//! What a scenario says, parsed and checked: plain data without anything random or running.
//!
//! Every value that can turn out wrong later keeps the place where it was written.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::kubelet_flags::KubeletFlags;
use crate::api::affinity::Taint;
use crate::api::quantity::Resources;
use crate::api::yaml::Span;
use crate::api::{Labels, Row, Text};
use crate::client::election::Timing;
use crate::control::pod_autoscaler;
use crate::engine::Dist;
use crate::fault::{Fault, FaultPlan};

/// One scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// `metadata.name`.
    pub name: Text,
    /// The file that it was read from, as given on the command line.
    pub file: String,
    /// Where it stands.
    pub span: Span,
    /// `spec.kubernetesVersion`.
    pub version: Text,
    /// `spec.seed`, or `--seed`.
    pub seed: u64,
    /// `spec.duration`, or `--until`.
    pub duration: Duration,
    /// `spec.namespace`.
    pub namespace: Text,
    /// `spec.cluster`.
    pub cluster: ClusterSpec,
    /// `spec.linux`.
    pub linux: LinuxSpec,
    /// What is applied at the beginning, in order, patches and replicas included.
    pub objects: Vec<Applied>,
    /// `spec.timeline` in order of time.
    pub timeline: Vec<Step>,
    /// `spec.expect`.
    pub expect: Vec<Expectation>,
    /// `spec.search`.
    pub search: Search,
    /// AppModels.
    pub apps: Vec<crate::load::AppModel>,
    /// Traffic.
    pub traffic: Vec<crate::load::Traffic>,
    /// What the traffic must keep to, in the order of files.
    pub thresholds: Vec<Threshold>,
    /// Kinds (and fields) that the model does not act on, with how often they occur.
    pub not_modelled: Vec<(String, usize)>,
    /// Digest of the whole resolved input without the seed.
    pub digest: u128,
}

/// `spec.search`: how runs of a search differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// `vary`.
    pub vary: Vary,
    /// `budget`: how many runs, unless the command line says so.
    pub budget: Option<u32>,
}

/// What differs between the runs of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vary {
    /// `seed`.
    pub seed: bool,
    /// `timeline.at`: when steps happen, and with that their order.
    pub times: bool,
    /// `optional`: whether steps marked so happen.
    pub optional: bool,
}

impl Default for Vary {
    /// The seed alone.
    fn default() -> Self {
        Vary {
            seed: true,
            times: false,
            optional: false,
        }
    }
}

/// An object with where it was written.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The object.
    pub row: Row,
    /// As JSON, with the API server's defaults filled in.
    pub json: Arc<Value>,
    /// As JSON as it was written (old API versions made current), for `kubectl apply` to keep.
    pub written: Arc<Value>,
    /// Where it was written.
    pub span: Span,
}

/// One of `thresholds` of a Traffic, in k6's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// Name of the Traffic.
    pub traffic: Text,
    /// `http_req_failed`, `http_req_duration`.
    pub metric: Text,
    /// `rate<0.001`, `p(99)<300`.
    pub expression: String,
    /// Where it was written.
    pub span: Span,
}

/// `spec.cluster`.
#[derive(Clone, Debug, Default)]
pub struct ClusterSpec {
    /// Node pools.
    pub pools: Vec<NodePool>,
    /// Component flags.
    pub flags: Flags,
    /// Storage classes.
    pub storage_classes: Vec<StorageClassSpec>,
    /// A KubeSchedulerConfiguration as JSON.
    pub scheduler: Option<Value>,
    /// How long container runtimes and proxies take.
    pub latency: LatencySpec,
    /// How many of each component of the control plane there are; 0 is taken for 1.
    pub control_plane_replicas: u32,
    /// Names of images that no registry has, where `*` stands for any characters.
    pub missing_images: Vec<Text>,
}

/// `spec.cluster.latency`: spans of a simulated run; none leaves the usual one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LatencySpec {
    /// A pod's sandbox and network.
    pub sandbox: Option<Dist>,
    /// An image without an `imagePull` in its AppModel.
    pub pull: Option<Dist>,
    /// Asking a registry about an image that is there.
    pub resolve: Option<Dist>,
    /// Creating and starting a container.
    pub start: Option<Dist>,
    /// Removing what is left of a pod.
    pub remove: Option<Dist>,
    /// One sync of a proxy's rules.
    pub endpoint_sync: Option<Duration>,
}

/// `spec.linux`: what only real runs read.
#[derive(Clone, Debug, Default)]
pub struct LinuxSpec {
    /// The scenario's folder, from which paths count.
    pub base: std::path::PathBuf,
    /// What image names stand for; the first that matches counts.
    pub images: Vec<ImageRule>,
}

/// What the images of some names stand for in a real run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRule {
    /// The name, where `*` stands for any characters.
    pub name: String,
    /// `builtin`, `host:COMMAND`, `dir:FOLDER`, `oci:PATH[:NAME]`, `docker-archive:FILE[:NAME]`.
    pub from: String,
    /// Where that was written.
    pub span: Span,
}

/// A pool of equal nodes, named `<pool>-0`, `<pool>-1` …, zones dealt out in turn.
#[derive(Clone, Debug, Default)]
pub struct NodePool {
    /// Name.
    pub name: Text,
    /// How many nodes.
    pub count: u32,
    /// Zones; empty for none.
    pub zones: Vec<Text>,
    /// Region; empty for none.
    pub region: Text,
    /// `node.kubernetes.io/instance-type`; empty for none.
    pub instance_type: Text,
    /// Capacity.
    pub capacity: Resources,
    /// Allocatable; the capacity unless given.
    pub allocatable: Resources,
    /// Further labels.
    pub labels: Labels,
    /// Taints.
    pub taints: Vec<Taint>,
    /// Images that are there from the beginning.
    pub images: Vec<Text>,
    /// Its kubelets' own flags, where it has any.
    pub kubelet: Option<KubeletFlags>,
}

/// A storage class of the simulated cluster.
#[derive(Clone, Debug, Default)]
pub struct StorageClassSpec {
    /// Name.
    pub name: Text,
    /// Default class.
    pub default: bool,
    /// Volumes belong to a zone.
    pub zonal: bool,
    /// `volumeBindingMode: WaitForFirstConsumer`.
    pub wait_for_consumer: bool,
    /// Time to attach; 0 for volumes that need not be attached.
    pub attach: Option<Duration>,
    /// Time to detach.
    pub detach: Option<Duration>,
}

/// Component flags that the model acts on, with the defaults of the reference version.
#[derive(Clone, Debug, PartialEq)]
pub struct Flags {
    /// kube-controller-manager `--node-monitor-grace-period` (50 s; 40 s before 1.32).
    pub node_monitor_grace_period: Duration,
    /// kube-controller-manager `--node-monitor-period` (5 s).
    pub node_monitor_period: Duration,
    /// kube-controller-manager `--node-startup-grace-period` (1 min).
    pub node_startup_grace_period: Duration,
    /// kube-controller-manager `--node-eviction-rate` (0.1 nodes per second).
    pub node_eviction_rate: f64,
    /// kube-controller-manager `--secondary-node-eviction-rate` (0.01 nodes per second).
    pub secondary_node_eviction_rate: f64,
    /// kube-controller-manager `--unhealthy-zone-threshold` (0.55).
    pub unhealthy_zone_threshold: f64,
    /// kube-controller-manager `--large-cluster-size-threshold` (50).
    pub large_cluster_size_threshold: u32,
    /// kube-controller-manager `--feature-gates MaxUnavailableStatefulSet`.
    pub max_unavailable_stateful_set: bool,
    /// kube-controller-manager `--horizontal-pod-autoscaler-*`.
    pub autoscaler: pod_autoscaler::Flags,
    /// kube-controller-manager `--terminated-pod-gc-threshold` (12,500).
    pub terminated_pod_gc_threshold: u32,
    /// kube-controller-manager `--endpoint-updates-batch-period` (0).
    pub endpoint_updates_batch_period: Duration,
    /// kube-controller-manager `--max-endpoints-per-slice` (100).
    pub max_endpoints_per_slice: u32,
    /// kube-controller-manager `--kube-api-qps` and `--kube-api-burst` (20, 30).
    pub manager_qps: (u32, u32),
    /// kube-controller-manager `--leader-elect*` (15 s, 10 s, 2 s).
    pub manager_election: Timing,
    /// kube-scheduler `--leader-elect*` (15 s, 10 s, 2 s).
    pub scheduler_election: Timing,
    /// kube-scheduler client's qps and burst (50, 100).
    pub scheduler_qps: (u32, u32),
    /// kube-apiserver `--default-not-ready-toleration-seconds` (300).
    pub default_not_ready_toleration_s: i64,
    /// kube-apiserver `--default-unreachable-toleration-seconds` (300).
    pub default_unreachable_toleration_s: i64,
    /// kube-apiserver `--service-cluster-ip-range` (10.96.0.0/12, as kubeadm sets it).
    pub service_cluster_ip_range: Text,
    /// kube-proxy `--iptables-min-sync-period` or that of the mode in use (1 s).
    pub proxy_min_sync_period: Duration,
    /// kube-proxy `--proxy-mode`.
    pub proxy_mode: Text,
    /// kube-controller-manager `--concurrent-deployment-syncs` and its kin, as far as given.
    pub concurrent_syncs: Vec<(Text, u32)>,
    /// kubelet `--serialize-image-pulls` (true).
    pub serialize_image_pulls: bool,
    /// kubelet `--node-status-update-frequency` (10 s).
    pub node_status_update_frequency: Duration,
    /// What may differ from pool to pool.
    pub kubelet: KubeletFlags,
}

impl Flags {
    /// The number of syncs at a time that a flag asks for, if it is given.
    pub fn syncs(&self, flag: &str) -> Option<u32> {
        let given = self.concurrent_syncs.iter().find(|(name, _)| name == flag);
        given.map(|(_, count)| *count)
    }
}

impl Default for Flags {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Flags {
            node_monitor_grace_period: seconds(50),
            node_monitor_period: seconds(5),
            node_startup_grace_period: seconds(60),
            node_eviction_rate: 0.1,
            secondary_node_eviction_rate: 0.01,
            unhealthy_zone_threshold: 0.55,
            large_cluster_size_threshold: 50,
            max_unavailable_stateful_set: false,
            autoscaler: pod_autoscaler::Flags::default(),
            terminated_pod_gc_threshold: 12_500,
            endpoint_updates_batch_period: Duration::ZERO,
            max_endpoints_per_slice: 100,
            manager_qps: (20, 30),
            manager_election: Timing::default(),
            scheduler_election: Timing::default(),
            scheduler_qps: (50, 100),
            default_not_ready_toleration_s: 300,
            default_unreachable_toleration_s: 300,
            service_cluster_ip_range: Text::from("10.96.0.0/12"),
            proxy_min_sync_period: seconds(1),
            proxy_mode: Text::from("nftables"),
            concurrent_syncs: Vec::new(),
            serialize_image_pulls: true,
            node_status_update_frequency: seconds(10),
            kubelet: KubeletFlags::default(),
        }
    }
}

/// One step of the timeline.
#[derive(Clone, Debug)]
pub struct Step {
    /// When.
    pub at: Duration,
    /// Where it stands.
    pub span: Span,
    /// What.
    pub action: StepAction,
    /// A failure of this step does not fail the run.
    pub optional: bool,
    /// How long a kubectl step may take.
    pub timeout: Option<Duration>,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum StepAction {
    /// A kubectl command line, without the word kubectl.
    Kubectl(KubectlStep),
    /// Apply objects and faults, in order.
    Apply(Vec<StepItem>),
}

/// A kubectl step.
#[derive(Clone, Debug)]
pub struct KubectlStep {
    /// As written.
    pub line: String,
    /// Where the line stands.
    pub span: Span,
    /// Objects of `-f FILE` arguments.
    pub objects: Vec<Applied>,
}

/// What `apply` can hold.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a scenario has few of them")]
pub enum StepItem {
    /// A Kubernetes object.
    Object(Box<Applied>),
    /// A fault.
    Fault(Fault),
    /// Faults in an order of time.
    Plan(Box<FaultPlan>),
}

/// One of `spec.expect`.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// Name.
    pub name: String,
    /// Where it stands.
    pub span: Span,
    /// What must hold.
    pub form: Form,
    /// When its clock starts; see [`Form`] for the default.
    pub from: Option<Duration>,
    /// When it ends (`always`, `never`): the end of the run unless given.
    pub until: Option<Duration>,
}

/// The forms of an expectation.
#[derive(Clone, Debug)]
pub enum Form {
    /// `kubectl wait`. Its clock starts at the first kubectl step that names the resource, else at
    /// the first fault, else at the first step, else at 0.
    Wait {
        /// `for`: `condition=Progressing`, `delete`, `jsonpath=…`.
        condition: String,
        /// Reason that the condition must have.
        reason: Option<String>,
        /// `deployment/frontend`.
        resource: String,
        /// How long it may take.
        timeout: Duration,
    },
    /// CEL that must hold at every moment from the first step (without steps: from when the
    /// initial workloads were first ready).
    Always(Cel),
    /// CEL that must never hold.
    Never(Cel),
    /// CEL that must come to hold within this time. Its clock starts at the first fault, else at
    /// the first step, else at 0.
    Eventually(Cel, Duration),
}

/// A CEL expression with where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cel {
    /// The expression.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}
