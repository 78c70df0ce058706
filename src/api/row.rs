//! Any object: the closed list of kinds, and rows that hold one of them.

use std::sync::Arc;

use super::Meta;

/// What all objects have in common.
pub trait Object: Clone + std::fmt::Debug + PartialEq + Send + Sync + 'static {
    /// Its kind.
    const KIND: Kind;
    /// Its metadata.
    fn meta(&self) -> &Meta;
    /// Its metadata, to change.
    fn meta_mut(&mut self) -> &mut Meta;
    /// Wraps it.
    fn into_row(self: Arc<Self>) -> Row;
    /// Unwraps it.
    fn from_row(row: &Row) -> Option<&Arc<Self>>;
    /// What is unique within namespace and kind: the name, and for foreign objects their own kind
    /// before it (`Ingress/shop`).
    fn key(&self) -> super::Text {
        self.meta().name.clone()
    }
    /// Whether [`Object::key`] is this.
    fn has_key(&self, key: &str) -> bool;
    /// The node whose kubelet follows this object, if any (pods: `spec.nodeName`).
    fn node_name(&self) -> Option<&super::Text> {
        None
    }
}

macro_rules! keyed {
    (Inert) => {
        impl Keyed for super::Inert {
            fn key_of(&self) -> super::Text {
                format!("{}/{}", self.kind, self.meta.name).into()
            }
        }
    };
    ($kind:ident) => {
        impl Keyed for super::$kind {
            fn key_of(&self) -> super::Text {
                self.meta.name.clone()
            }
            fn has(&self, key: &str) -> bool {
                self.meta.name == *key
            }
        }
    };
}

/// How objects are keyed; only foreign ones differ.
trait Keyed {
    fn key_of(&self) -> super::Text;
    fn has(&self, key: &str) -> bool {
        self.key_of() == *key
    }
}

macro_rules! kinds {
    ($($kind:ident $node:expr, $api:literal, $plural:literal, $namespaced:literal;)*) => {
        /// The kinds that are held typed, and [`Kind::Inert`] for all others.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Kind { $(#[doc = concat!("`", stringify!($kind), "`")] $kind,)*
            /// core/v1 Event objects.
            #[default] KubeEvent }

        /// An object of any kind.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Row { $(#[doc = concat!("A `", stringify!($kind), "`")] $kind(Arc<super::$kind>),)* }

        impl Kind {
            /// Every kind that has a table, in a fixed order.
            pub const ALL: &[Kind] = &[$(Kind::$kind),*];
            /// The kind's name as in manifests.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$kind => stringify!($kind),)* Kind::KubeEvent => "Event" }
            }
            /// `apiVersion` of the reference version.
            pub fn api_version(self) -> &'static str {
                match self { $(Kind::$kind => $api,)* Kind::KubeEvent => "v1" }
            }
            /// Lower-case plural as in resource paths and kubectl arguments.
            pub fn plural(self) -> &'static str {
                match self { $(Kind::$kind => $plural,)* Kind::KubeEvent => "events" }
            }
            /// Whether objects live in a namespace.
            pub fn namespaced(self) -> bool {
                match self { $(Kind::$kind => $namespaced,)* Kind::KubeEvent => true }
            }
            /// The typed kind of this name, if it is one.
            pub fn from_name(name: &str) -> Option<Kind> {
                match name { $(stringify!($kind) => Some(Kind::$kind),)* "Event" => Some(Kind::KubeEvent), _ => None }
            }
        }

        impl Row {
            /// Its kind.
            pub fn kind(&self) -> Kind { match self { $(Row::$kind(_) => Kind::$kind,)* } }
            /// Its metadata.
            pub fn meta(&self) -> &Meta { match self { $(Row::$kind(o) => &o.meta,)* } }
            /// See [`Object::key`].
            pub fn key(&self) -> super::Text { match self { $(Row::$kind(o) => o.key(),)* } }
            /// Its metadata, to change; copies the object when it is shared.
            pub fn meta_mut(&mut self) -> &mut Meta {
                match self { $(Row::$kind(o) => &mut Arc::make_mut(o).meta,)* }
            }
        }

        $(impl Object for super::$kind {
            const KIND: Kind = Kind::$kind;
            fn meta(&self) -> &Meta { &self.meta }
            fn meta_mut(&mut self) -> &mut Meta { &mut self.meta }
            fn into_row(self: Arc<Self>) -> Row { Row::$kind(self) }
            fn from_row(row: &Row) -> Option<&Arc<Self>> {
                match row { Row::$kind(o) => Some(o), _ => None }
            }
            fn key(&self) -> super::Text { Keyed::key_of(self) }
            fn has_key(&self, key: &str) -> bool { Keyed::has(self, key) }
            fn node_name(&self) -> Option<&super::Text> {
                let of: fn(&super::$kind) -> Option<&super::Text> = $node;
                of(self)
            }
        }
        keyed!($kind);
        impl From<super::$kind> for Row { fn from(o: super::$kind) -> Row { Row::$kind(Arc::new(o)) } }
        impl From<Arc<super::$kind>> for Row { fn from(o: Arc<super::$kind>) -> Row { Row::$kind(o) } })*
    };
}

/// Calls a macro with every typed kind: name, node of an object, `apiVersion`, plural, namespaced.
/// `store` builds its tables with it; a new kind is one line here.
macro_rules! for_each_kind {
    ($call:ident) => {
        $call! {
            Namespace |_| None, "v1", "namespaces", false;
            Node |_| None, "v1", "nodes", false;
            Lease |_| None, "coordination.k8s.io/v1", "leases", true;
            Pod |p| p.node_name.as_ref(), "v1", "pods", true;
            ReplicaSet |_| None, "apps/v1", "replicasets", true;
            Deployment |_| None, "apps/v1", "deployments", true;
            StatefulSet |_| None, "apps/v1", "statefulsets", true;
            DaemonSet |_| None, "apps/v1", "daemonsets", true;
            ControllerRevision |_| None, "apps/v1", "controllerrevisions", true;
            Service |_| None, "v1", "services", true;
            EndpointSlice |_| None, "discovery.k8s.io/v1", "endpointslices", true;
            ConfigMap |_| None, "v1", "configmaps", true;
            Secret |_| None, "v1", "secrets", true;
            PodDisruptionBudget |_| None, "policy/v1", "poddisruptionbudgets", true;
            PriorityClass |_| None, "scheduling.k8s.io/v1", "priorityclasses", false;
            ResourceQuota |_| None, "v1", "resourcequotas", true;
            LimitRange |_| None, "v1", "limitranges", true;
            PersistentVolume |_| None, "v1", "persistentvolumes", false;
            PersistentVolumeClaim |_| None, "v1", "persistentvolumeclaims", true;
            StorageClass |_| None, "storage.k8s.io/v1", "storageclasses", false;
            CSINode |_| None, "storage.k8s.io/v1", "csinodes", false;
            Job |_| None, "batch/v1", "jobs", true;
            CronJob |_| None, "batch/v1", "cronjobs", true;
            VolumeAttachment |_| None, "storage.k8s.io/v1", "volumeattachments", false;
            Inert |_| None, "", "", true;
            HorizontalPodAutoscaler |_| None, "autoscaling/v2", "horizontalpodautoscalers", true;
            CSIDriver |_| None, "storage.k8s.io/v1", "csidrivers", false;
            CSIStorageCapacity |_| None, "storage.k8s.io/v1", "csistoragecapacities", true;
        }
    };
}
pub(crate) use for_each_kind;

for_each_kind!(kinds);
