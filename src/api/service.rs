//! Services and EndpointSlices.

use std::sync::Arc;

use serde_json::Value;

use super::container::Protocol;
use super::{Labels, Meta, Text, Uid};

/// A Service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    /// Metadata.
    pub meta: Meta,
    /// `spec.type`.
    pub kind: ServiceKind,
    /// `spec.clusterIP`: none for headless and ExternalName.
    pub cluster_ip: Option<u32>,
    /// `spec.clusterIP: None`.
    pub headless: bool,
    /// `spec.selector`; empty means that nobody fills the EndpointSlices.
    pub selector: Labels,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
    /// `spec.sessionAffinity: ClientIP` with its timeout in seconds.
    pub client_ip_affinity_s: Option<u32>,
    /// `spec.publishNotReadyAddresses`.
    pub publish_not_ready: bool,
    /// `spec.internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `spec.externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// `spec.externalName`, empty when none.
    pub external_name: Text,
    /// The spec as defaulted JSON.
    pub source: Arc<Value>,
}

/// `spec.type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ServiceKind {
    /// ClusterIP.
    #[default]
    ClusterIp,
    /// NodePort.
    NodePort,
    /// LoadBalancer.
    LoadBalancer,
    /// ExternalName.
    ExternalName,
}

/// One of `spec.ports`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServicePort {
    /// Name; empty when unnamed.
    pub name: Text,
    /// `port`.
    pub port: u16,
    /// `targetPort`.
    pub target: TargetPort,
    /// `nodePort`, 0 when none.
    pub node_port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// `appProtocol`, empty when none.
    pub app_protocol: Text,
}

/// `targetPort`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TargetPort {
    /// By number.
    Number(u16),
    /// By the name of a container port.
    Name(Text),
}

impl Default for TargetPort {
    fn default() -> Self {
        TargetPort::Number(0)
    }
}

/// An EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointSlice {
    /// Metadata; label `kubernetes.io/service-name` names the Service.
    pub meta: Meta,
    /// Endpoints.
    pub endpoints: Vec<Endpoint>,
    /// `ports`: name, number, protocol.
    pub ports: Vec<EndpointPort>,
}

/// One of `ports`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointPort {
    /// Name of the Service port.
    pub name: Text,
    /// Resolved number.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// `appProtocol`, empty when none.
    pub app_protocol: Text,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address.
    pub ip: u32,
    /// Uid of the pod behind it; 0 when there is none.
    pub pod_uid: Uid,
    /// Name of the pod behind it; empty when there is none.
    pub pod: Text,
    /// `hostname`: under which DNS has it besides; empty when none.
    pub hostname: Text,
    /// Node of the pod.
    pub node: Text,
    /// Zone of the node.
    pub zone: Text,
    /// `conditions.ready`.
    pub ready: bool,
    /// `conditions.serving`.
    pub serving: bool,
    /// `conditions.terminating`.
    pub terminating: bool,
    /// `hints`, where somebody gave any.
    pub hints: Option<Arc<Hints>>,
}

impl std::hash::Hash for Endpoint {
    /// The name follows from the pod; hints are there or not.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.ip, self.pod_uid, &self.pod, &self.node, &self.zone).hash(state);
        (self.ready, self.serving, self.terminating).hash(state);
        if let Some(hints) = &self.hints {
            hints.hash(state);
        }
    }
}

/// `hints` of an endpoint: who should use it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hints {
    /// `forZones`.
    pub zones: Vec<Text>,
    /// `forNodes`.
    pub nodes: Vec<Text>,
}

impl EndpointSlice {
    /// The Service that this slice belongs to.
    pub fn service_name(&self) -> Option<&Text> {
        self.meta.labels.get("kubernetes.io/service-name")
    }
}
