//! Kubernetes API objects as plain values.
//!
//! What it is: the kinds that the simulation acts on, held as compact Rust structs; quantities,
//! selectors, defaults, validation and the YAML front end that turns unchanged manifests into them.
//! What it does not know: where objects are kept (`store`), who changes them, or what time it is.
//!
//! Read first: [`meta`] (names, labels, owners), then [`pod`], [`pod_status`] and [`workload`].
//! [`Row`] is "any object"; [`Kind`] is the name of its kind. Objects that the model does not act
//! on are kept as [`Inert`] rows, so that verbs and owner references still reach them.

pub mod yaml;

pub mod patch;

pub mod shared;

pub mod text;

pub mod quantity;

pub mod duration;

pub mod meta;

pub mod selector;

pub mod int_or_percent;

pub mod probe;

pub mod container;

pub mod affinity;

pub mod pod;

pub mod pod_status;

pub mod node;

pub mod declared;

pub mod workload;

pub mod batch;

pub mod stateful;

pub mod service;

pub mod policy;

pub mod autoscaling;

pub mod quota;
pub(crate) mod quote;

pub mod volume;

pub mod storage;

pub mod config;

pub mod cron;

pub mod kube_event;

pub mod webhook;

pub mod decode;

pub mod defaults;

pub mod validate;

pub mod warnings;

pub mod print;

pub mod row;

pub use autoscaling::HorizontalPodAutoscaler;
pub use batch::{CronJob, Job};
pub use config::{ConfigMap, Inert, Secret};
pub use kube_event::KubeEvent;
pub use meta::{Labels, Meta, Namespace, OwnerRef, Uid};
pub use node::{Lease, Node};
pub use pod::{Pod, PodSpec, PodTemplate};
pub use pod_status::PodStatus;
pub use policy::{PodDisruptionBudget, PriorityClass};
pub use quota::{LimitRange, ResourceQuota};
pub use row::{Kind, Object, Row};
pub use service::{EndpointSlice, Service};
pub use shared::Shared;
pub use stateful::{ControllerRevision, DaemonSet, StatefulSet};
pub use text::Text;
pub(crate) use text::text;
pub use volume::{
    CSIDriver, CSINode, CSIStorageCapacity, PersistentVolume, PersistentVolumeClaim, StorageClass,
    VolumeAttachment,
};
pub use workload::{Deployment, ReplicaSet};
