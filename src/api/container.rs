//! Containers of a pod, as the scheduler and the kubelet need them.

use super::Text;
use super::pod::RestartPolicy;
use super::probe::{Action, Probe};
use super::quantity::Resources;

/// A container, an init container, or (an init container with `restart_always`) a sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Container {
    /// Name, unique in the pod.
    pub name: Text,
    /// Image reference as written.
    pub image: Text,
    /// When the kubelet pulls.
    pub pull_policy: PullPolicy,
    /// Requests, after defaulting (a missing request takes the limit).
    pub requests: Resources,
    /// Limits.
    pub limits: Resources,
    /// Ports.
    pub ports: Vec<ContainerPort>,
    /// Gates the other two probes until it succeeds once.
    pub startup: Option<Probe>,
    /// Decides readiness.
    pub readiness: Option<Probe>,
    /// Restarts the container when it fails.
    pub liveness: Option<Probe>,
    /// Runs right after the container started.
    pub post_start: Option<Action>,
    /// Runs before SIGTERM, within the grace period.
    pub pre_stop: Option<Action>,
    /// `lifecycle.stopSignal` or the image's; empty means SIGTERM.
    pub stop_signal: Text,
    /// Init containers only: `restartPolicy: Always` makes a sidecar.
    pub restart_always: bool,
    /// `restartPolicy` of its own; none follows the pod's.
    pub restart_policy: Option<RestartPolicy>,
    /// `restartPolicyRules`, in their order; they need a policy of its own.
    pub restart_rules: Vec<RestartRule>,
    /// Command (entry point) as written; empty means the image's.
    pub command: Vec<Text>,
    /// Arguments as written.
    pub args: Vec<Text>,
    /// Environment: literal values only; references keep an empty value.
    pub env: Vec<(Text, Text)>,
    /// Names of ConfigMaps and Secrets that it cannot start without (`env`, `envFrom`).
    pub env_refs: Vec<ConfigRef>,
}

/// A rule of `restartPolicyRules`: what follows an exit code.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RestartRule {
    /// What is done.
    pub action: RestartAction,
    /// It is for all codes but these (`NotIn`).
    pub except: bool,
    /// Exit codes.
    pub codes: Vec<i32>,
}

/// `action` of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RestartAction {
    /// The container is started again, whatever its policy.
    Restart,
    /// All containers of the pod are stopped, removed and started again, init containers first.
    RestartAll,
}

impl Container {
    /// `pkg/api/v1/pod/util.go :: FindMatchingContainerRestartRule`: what the first rule for this
    /// exit code wants.
    pub fn restart_rule(&self, code: i32) -> Option<RestartAction> {
        let matches = |rule: &&RestartRule| rule.codes.contains(&code) != rule.except;
        self.restart_rules
            .iter()
            .find(matches)
            .map(|rule| rule.action)
    }

    /// `ContainerShouldRestart`: whether the container is started again after this exit code: its
    /// rules decide, then its own policy, then that of its pod.
    pub fn restarts_after(&self, code: i32, pod: RestartPolicy) -> bool {
        let policy = match self.restart_policy {
            Some(_) if self.restart_rule(code).is_some() => return true,
            Some(policy) => policy,
            None if self.restart_always => RestartPolicy::Always,
            None => pod,
        };
        match policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => code != 0,
            RestartPolicy::Never => false,
        }
    }
}

/// A reference to a ConfigMap or Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConfigRef {
    /// Whether it is a Secret.
    pub secret: bool,
    /// Name in the pod's namespace.
    pub name: Text,
    /// The key that must exist, if one is named.
    pub key: Option<Text>,
    /// `optional: true`.
    pub optional: bool,
}

/// `imagePullPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PullPolicy {
    /// Default for tags other than `latest`.
    #[default]
    IfNotPresent,
    /// Default for `latest` and no tag.
    Always,
    /// Only use what is there.
    Never,
}

/// A container port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ContainerPort {
    /// Name; empty when unnamed.
    pub name: Text,
    /// `containerPort`.
    pub port: u16,
    /// `hostPort`, 0 when none.
    pub host_port: u16,
    /// `hostIP`, empty when any.
    pub host_ip: Text,
    /// Protocol.
    pub protocol: Protocol,
}

/// Transport protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// As in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        }
    }
}
