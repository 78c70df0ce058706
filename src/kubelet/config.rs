//! What a kubelet can be told by its configuration, with the defaults of
//! `pkg/kubelet/apis/config/v1beta1/defaults.go` and the constants of `pkg/kubelet/kubelet.go`.

use std::time::Duration;

use super::eviction::Eviction;
use super::shutdown::Span;

/// Configuration of the kubelets of a pool; shared between them.
#[derive(Clone, Debug, PartialEq)]
pub struct KubeletConfig {
    /// `serializeImagePulls`: one pull at a time.
    pub serialize_image_pulls: bool,
    /// `maxParallelImagePulls`, when pulls are not serialised; `None` is no limit.
    pub max_parallel_image_pulls: Option<u32>,
    /// `registryPullQPS`, pulls per second; 0 is no limit.
    pub registry_qps: u32,
    /// `registryBurst`, pulls at once.
    pub registry_burst: u32,
    /// `nodeLeaseDurationSeconds`; leases are renewed after a quarter of it.
    pub lease_duration_s: u32,
    /// `nodeStatusUpdateFrequency`: how often the node's status is computed.
    pub node_status_update: Duration,
    /// `nodeStatusReportFrequency`: how often an unchanged status is reported.
    pub node_status_report: Duration,
    /// First back-off of a crashing container.
    pub crash_back_off: Duration,
    /// `crashLoopBackOff.maxContainerRestartPeriod`.
    pub crash_back_off_max: Duration,
    /// First back-off of a failing pull.
    pub image_back_off: Duration,
    /// Longest back-off of a failing pull.
    pub image_back_off_max: Duration,
    /// `syncFrequency`: longest wait of a pod worker.
    pub sync_period: Duration,
    /// Wait of a pod worker after a failed sync.
    pub back_off_period: Duration,
    /// How often the runtime is listed (`genericPlegRelistPeriod`).
    pub relist_period: Duration,
    /// `kubeAPIQPS`, writes per second.
    pub api_qps: u32,
    /// `kubeAPIBurst`.
    pub api_burst: u32,
    /// `eventRecordQPS`, KubeEvents per second.
    pub event_qps: u32,
    /// `eventBurst`.
    pub event_burst: u32,
    /// `evictionHard`, `evictionSoft` and what belongs to them.
    pub eviction: Eviction,
    /// `shutdownGracePeriodByPodPriority`, by rising priority; empty without an orderly shutdown.
    pub shutdown: Vec<Span>,
    /// Whether the runtime can measure memory and disk; without that no pod is evicted for them.
    pub stats: bool,
    /// First address of the pods of all nodes; node `n` has the addresses from here plus
    /// `n << pod_bits`.
    pub pod_network: u32,
    /// Binary logarithm of the number of addresses of one node.
    pub pod_bits: u32,
    /// First address of the nodes; node `n` has the `n + 1`st after it.
    pub node_network: u32,
}

impl Default for KubeletConfig {
    fn default() -> Self {
        KubeletConfig {
            serialize_image_pulls: true,
            max_parallel_image_pulls: None,
            registry_qps: 5,
            registry_burst: 10,
            lease_duration_s: 40,
            node_status_update: Duration::from_secs(10),
            node_status_report: Duration::from_secs(300),
            crash_back_off: Duration::from_secs(10),
            crash_back_off_max: Duration::from_secs(300),
            image_back_off: Duration::from_secs(10),
            image_back_off_max: Duration::from_secs(300),
            sync_period: Duration::from_secs(60),
            back_off_period: Duration::from_secs(10),
            relist_period: Duration::from_secs(1),
            api_qps: 50,
            api_burst: 100,
            event_qps: 50,
            event_burst: 100,
            eviction: Eviction::default(),
            shutdown: Vec::new(),
            stats: false,
            pod_network: u32::from_be_bytes([10, 0, 0, 0]),
            pod_bits: 9,
            node_network: u32::from_be_bytes([172, 16, 0, 0]),
        }
    }
}
