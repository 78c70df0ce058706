//! `spec.cluster.flags`: component flags by their real names.
//!
//! A flag that the model acts on sets a field of [`Flags`]; one that exists but changes nothing
//! here is counted as not modelled; any other is an error.

use super::diagnostic::Diagnostic;
use super::fields::{Problems, Value};
use super::kubelet_flags;
use super::types::Flags;
use crate::api::Text;
use crate::store::Pools;

/// The flags of each component that the model acts on.
const MODELLED: [(&str, &[&str]); 5] = [
    (
        "kube-controller-manager",
        &[
            "node-monitor-grace-period",
            "node-monitor-period",
            "node-startup-grace-period",
            "node-eviction-rate",
            "secondary-node-eviction-rate",
            "unhealthy-zone-threshold",
            "large-cluster-size-threshold",
            "terminated-pod-gc-threshold",
            "endpointslice-updates-batch-period",
            "max-endpoints-per-slice",
            "kube-api-qps",
            "kube-api-burst",
            "leader-elect",
            "leader-elect-lease-duration",
            "leader-elect-renew-deadline",
            "leader-elect-retry-period",
            "concurrent-deployment-syncs",
            "concurrent-replicaset-syncs",
            "concurrent-service-endpoint-syncs",
            "concurrent-gc-syncs",
            "concurrent-namespace-syncs",
            "concurrent-statefulset-syncs",
            "concurrent-daemonset-syncs",
            "concurrent-job-syncs",
            "concurrent-cron-job-syncs",
            "concurrent-ephemeralvolume-syncs",
            "concurrent-horizontal-pod-autoscaler-syncs",
            "horizontal-pod-autoscaler-cpu-initialization-period",
            "horizontal-pod-autoscaler-downscale-stabilization",
            "horizontal-pod-autoscaler-initial-readiness-delay",
            "horizontal-pod-autoscaler-sync-period",
            "horizontal-pod-autoscaler-tolerance",
        ],
    ),
    (
        "kube-scheduler",
        &[
            "kube-api-qps",
            "kube-api-burst",
            "leader-elect",
            "leader-elect-lease-duration",
            "leader-elect-renew-deadline",
            "leader-elect-retry-period",
        ],
    ),
    (
        "kube-apiserver",
        &[
            "default-not-ready-toleration-seconds",
            "default-unreachable-toleration-seconds",
            "service-cluster-ip-range",
        ],
    ),
    (
        "kube-proxy",
        &[
            "proxy-mode",
            "mode",
            "min-sync-period",
            "iptables-min-sync-period",
            "ipvs-min-sync-period",
            "nftables-min-sync-period",
        ],
    ),
    (
        "kubelet",
        &["serialize-image-pulls", "node-status-update-frequency"],
    ),
];

/// Flags that exist and that nothing here depends on.
const OTHERS: [(&str, &[&str]); 5] = [
    (
        "kube-controller-manager",
        &[
            "controllers",
            "attach-detach-reconcile-sync-period",
            "cluster-cidr",
            "concurrent-endpoint-syncs",
            "concurrent-rc-syncs",
            "concurrent-resource-quota-syncs",
            "concurrent-serviceaccount-token-syncs",
            "concurrent-ttl-after-finished-syncs",
            "endpoint-updates-batch-period",
            "min-resync-period",
            "namespace-sync-period",
            "node-cidr-mask-size",
            "pvclaimbinder-sync-period",
            "resource-quota-sync-period",
            "service-cluster-ip-range",
            "v",
        ],
    ),
    (
        "kube-scheduler",
        &[
            "config",
            "feature-gates",
            "pod-max-in-unschedulable-pods-duration",
            "v",
        ],
    ),
    (
        "kube-apiserver",
        &[
            "admission-control-config-file",
            "disable-admission-plugins",
            "enable-admission-plugins",
            "event-ttl",
            "feature-gates",
            "max-mutating-requests-inflight",
            "max-requests-inflight",
            "request-timeout",
            "v",
            "watch-cache",
        ],
    ),
    (
        "kube-proxy",
        &[
            "cluster-cidr",
            "config-sync-period",
            "feature-gates",
            "iptables-sync-period",
            "ipvs-scheduler",
            "ipvs-sync-period",
            "nftables-sync-period",
            "sync-period",
            "v",
        ],
    ),
    (
        "kubelet",
        &[
            "cpu-cfs-quota",
            "cpu-manager-policy",
            "event-burst",
            "event-qps",
            "feature-gates",
            "image-gc-high-threshold",
            "image-gc-low-threshold",
            "kube-api-burst",
            "kube-api-qps",
            "kube-reserved",
            "max-parallel-image-pulls",
            "max-pods",
            "node-status-report-frequency",
            "registry-burst",
            "registry-qps",
            "sync-frequency",
            "system-reserved",
            "topology-manager-policy",
            "v",
        ],
    ),
];

/// Reads `flags` into what the version's defaults are; returns the flags that change nothing.
pub fn read(value: &Value<'_>, flags: &mut Flags, problems: &mut Problems) -> Vec<String> {
    let mut unused = Vec::new();
    let components = MODELLED.map(|(component, _)| component);
    let mut of_kubelets = Vec::new();
    for (component, value) in value.entries(problems) {
        let Some(at) = components.iter().position(|known| *known == component) else {
            let unknown = Diagnostic::error("UnknownField", "unknown component", value.span());
            problems.push(
                unknown
                    .at(value.path.as_str())
                    .suggest(component, components),
            );
            continue;
        };
        for (name, value) in value.entries(problems) {
            let name = name.trim_start_matches("--");
            if component == "kube-controller-manager" && name == "feature-gates" {
                unused.extend(set_gates(&value, flags, problems));
            } else if component == "kubelet" && kubelet_flags::NAMES.contains(&name) {
                of_kubelets.push((name, value));
            } else if MODELLED[at].1.contains(&name) {
                set(component, name, &value, flags, problems);
            } else if OTHERS[at].1.contains(&name) {
                unused.push(format!("{component} --{name}"));
            } else {
                let known = MODELLED[at].1.iter().chain(OTHERS[at].1);
                let own = kubelet_flags::NAMES
                    .iter()
                    .filter(|_| component == "kubelet");
                let known = known.chain(own).copied();
                let unknown = Diagnostic::error("UnknownField", "unknown flag", value.span());
                problems.push(unknown.at(value.path.as_str()).suggest(name, known));
            }
        }
    }
    let (kubelet, more) = kubelet_flags::read(&of_kubelets, &flags.kubelet, problems);
    flags.kubelet = kubelet;
    unused.extend(more);
    unused
}

/// `--feature-gates A=true,B=false`; returns the gates that change nothing here.
fn set_gates(value: &Value<'_>, flags: &mut Flags, problems: &mut Problems) -> Vec<String> {
    let mut unused = Vec::new();
    let text = value.text(problems).unwrap_or_default();
    for gate in text.split(',').map(str::trim).filter(|g| !g.is_empty()) {
        let on = match gate.split_once('=') {
            Some((_, "true")) => true,
            Some((_, "false")) => false,
            _ => {
                problems.push(value.invalid("gates are written as Name=true or Name=false"));
                continue;
            }
        };
        if gate.starts_with("MaxUnavailableStatefulSet=") {
            flags.max_unavailable_stateful_set = on;
        } else {
            unused.push(format!("kube-controller-manager --feature-gates={gate}"));
        }
    }
    unused
}

fn set(component: &str, name: &str, value: &Value<'_>, flags: &mut Flags, problems: &mut Problems) {
    let target = match name {
        "node-monitor-grace-period" => &mut flags.node_monitor_grace_period,
        "node-monitor-period" => &mut flags.node_monitor_period,
        "node-startup-grace-period" => &mut flags.node_startup_grace_period,
        "endpointslice-updates-batch-period" => &mut flags.endpoint_updates_batch_period,
        "min-sync-period"
        | "iptables-min-sync-period"
        | "ipvs-min-sync-period"
        | "nftables-min-sync-period" => &mut flags.proxy_min_sync_period,
        "node-status-update-frequency" => &mut flags.node_status_update_frequency,
        "horizontal-pod-autoscaler-sync-period" => &mut flags.autoscaler.sync_period,
        "horizontal-pod-autoscaler-downscale-stabilization" => {
            &mut flags.autoscaler.downscale_stabilization
        }
        "horizontal-pod-autoscaler-cpu-initialization-period" => {
            &mut flags.autoscaler.cpu_initialization_period
        }
        "horizontal-pod-autoscaler-initial-readiness-delay" => {
            &mut flags.autoscaler.initial_readiness_delay
        }
        "node-eviction-rate"
        | "secondary-node-eviction-rate"
        | "unhealthy-zone-threshold"
        | "horizontal-pod-autoscaler-tolerance" => {
            return set_ratio(name, value, flags, problems);
        }
        "proxy-mode" | "mode" => {
            if let Some(word) = value.word(&["nftables", "iptables", "ipvs"], problems) {
                flags.proxy_mode = Text::from(word);
            }
            return;
        }
        "service-cluster-ip-range" => {
            if let Some(range) = value.text(problems) {
                match Pools::new(&range) {
                    Ok(_) => flags.service_cluster_ip_range = range,
                    Err(why) => problems.push(value.invalid(why)),
                }
            }
            return;
        }
        "serialize-image-pulls" => {
            flags.serialize_image_pulls = value.flag(problems).unwrap_or(true);
            return;
        }
        _ if name.starts_with("leader-elect") => {
            return set_election(component, name, value, flags, problems);
        }
        _ => return set_count(component, name, value, flags, problems),
    };
    if let Some(span) = value.duration(problems) {
        let periods = [
            "node-monitor-period",
            "horizontal-pod-autoscaler-sync-period",
        ];
        if span.is_zero() && periods.contains(&name) {
            problems.push(value.invalid("must be longer than 0"));
        }
        *target = span;
    }
}

/// `--leader-elect` and its periods, each at least what upstream's validation asks for.
fn set_election(
    component: &str,
    name: &str,
    value: &Value<'_>,
    flags: &mut Flags,
    problems: &mut Problems,
) {
    let timing = match component {
        "kube-scheduler" => &mut flags.scheduler_election,
        _ => &mut flags.manager_election,
    };
    let target = match name {
        "leader-elect" => {
            timing.elect = value.flag(problems).unwrap_or(true);
            return;
        }
        "leader-elect-lease-duration" => &mut timing.lease,
        "leader-elect-renew-deadline" => &mut timing.renew_deadline,
        _ => &mut timing.retry,
    };
    if let Some(span) = value.duration(problems) {
        if span < std::time::Duration::from_secs(1) {
            problems.push(value.invalid("must be at least 1s"));
            return;
        }
        *target = span;
    }
}

fn set_ratio(name: &str, value: &Value<'_>, flags: &mut Flags, problems: &mut Problems) {
    let (most, target) = match name {
        "node-eviction-rate" => (f64::INFINITY, &mut flags.node_eviction_rate),
        "secondary-node-eviction-rate" => (f64::INFINITY, &mut flags.secondary_node_eviction_rate),
        "horizontal-pod-autoscaler-tolerance" => (f64::INFINITY, &mut flags.autoscaler.tolerance),
        _ => (1.0, &mut flags.unhealthy_zone_threshold),
    };
    if let Some(number) = value.number(0.0, most, problems) {
        *target = number;
    }
}

fn set_count(
    component: &str,
    name: &str,
    value: &Value<'_>,
    flags: &mut Flags,
    problems: &mut Problems,
) {
    let Some(count) = value.count(problems) else {
        return;
    };
    let positive = name.starts_with("concurrent-") || name.starts_with("kube-api-");
    if positive && count == 0 {
        problems.push(value.invalid("must be greater than 0"));
        return;
    }
    match (component, name) {
        (_, "large-cluster-size-threshold") => flags.large_cluster_size_threshold = count,
        (_, "terminated-pod-gc-threshold") => flags.terminated_pod_gc_threshold = count,
        (_, "max-endpoints-per-slice") => flags.max_endpoints_per_slice = count,
        (_, "default-not-ready-toleration-seconds") => {
            flags.default_not_ready_toleration_s = i64::from(count);
        }
        (_, "default-unreachable-toleration-seconds") => {
            flags.default_unreachable_toleration_s = i64::from(count);
        }
        ("kube-scheduler", "kube-api-qps") => flags.scheduler_qps.0 = count,
        ("kube-scheduler", "kube-api-burst") => flags.scheduler_qps.1 = count,
        (_, "kube-api-qps") => flags.manager_qps.0 = count,
        (_, "kube-api-burst") => flags.manager_qps.1 = count,
        _ => flags.concurrent_syncs.push((Text::from(name), count)),
    }
}
