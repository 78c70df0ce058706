//! core/v1 Event objects ("KubeEvents"): what components tell about objects.

use super::row::Kind;
use super::{Text, Uid};

/// One KubeEvent as a component emits it. Counting of equal ones is the recorder's business.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KubeEvent {
    /// Kind of the object that it is about.
    pub kind: Kind,
    /// Namespace of that object.
    pub namespace: Text,
    /// Name of that object.
    pub name: Text,
    /// Uid of that object.
    pub uid: Uid,
    /// Machine-readable reason, `ScalingReplicaSet`.
    pub reason: Text,
    /// Human-readable message, upstream's words.
    pub message: Text,
    /// `type: Warning` rather than `Normal`.
    pub warning: bool,
    /// Reporting component, `deployment-controller`.
    pub source: Text,
}
