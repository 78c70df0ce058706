//! What can be asked of the API server, and what comes back.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::api::kube_event::KubeEvent;
use crate::api::node::NodeStatus;
use crate::api::patch::PatchKind;
use crate::api::pod_status::{PodCondition, PodStatus};
use crate::api::{Kind, Labels, Meta, Object, Pod, Row, Shared, Text, Uid};
use crate::engine::Time;

use super::table::Id;

/// Any object by kind and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Its kind.
    pub kind: Kind,
    /// Its number within the kind.
    pub index: u32,
}

impl ObjectId {
    /// As the typed id of `T`, if the kind agrees.
    pub fn typed<T: Object>(self) -> Option<Id<T>> {
        (self.kind == T::KIND).then(|| Id::new(self.index))
    }
}

impl<T: Object> From<Id<T>> for ObjectId {
    fn from(id: Id<T>) -> Self {
        ObjectId {
            kind: T::KIND,
            index: id.0,
        }
    }
}

/// One request that may change an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Create. An empty name with `generate_name` gets a generated one.
    Create(Row),
    /// Replace everything but the status. Conflicts when the row's `meta.revision` is not current.
    Update(ObjectId, Row),
    /// Replace the status alone. Conflicts when the row's `meta.revision` is not current.
    UpdateStatus(ObjectId, Row),
    /// Change a part of the current object, whatever its revision.
    Patch {
        /// Which object.
        object: ObjectId,
        /// Must match when given.
        uid: Option<Uid>,
        /// The change.
        patch: Patch,
    },
    /// Ask for deletion.
    Delete {
        /// Which object.
        object: ObjectId,
        /// Must match when given.
        uid: Option<Uid>,
        /// `gracePeriodSeconds`; `None` is the object's own. 0 removes a pod at once.
        grace_s: Option<u32>,
        /// What happens to dependants.
        propagation: Propagation,
    },
    /// The `binding` subresource.
    Bind {
        /// Which pod.
        pod: Id<Pod>,
        /// Must match.
        uid: Uid,
        /// The node.
        node: Text,
    },
    /// The `eviction` subresource: a deletion that budgets may refuse (429).
    Evict {
        /// Which pod.
        pod: Id<Pod>,
        /// Overrides the pod's grace period, in seconds.
        grace_s: Option<u32>,
    },
    /// Report a KubeEvent.
    Emit(Arc<KubeEvent>),
}

/// A partial change.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// The kubelet's pod status patch: replaces all but conditions that others own
    /// (`PodScheduled`, `DisruptionTarget`, readiness gates) and the nominated node.
    PodStatus(Shared<PodStatus>),
    /// Sets pod conditions, and phase or reason when given; the rest of the status stays.
    PodConditions {
        /// Conditions to set.
        conditions: Vec<PodCondition>,
        /// New phase, if it changes.
        phase: Option<crate::api::pod_status::Phase>,
        /// New reason and message, if they change.
        reason: Option<(Text, Text)>,
    },
    /// The scheduler's pod status patch: a condition, and the nominated node when it changes (an
    /// empty name clears it), in one request.
    Scheduling {
        /// `PodScheduled` or `DisruptionTarget`.
        condition: Option<PodCondition>,
        /// New nominated node; empty clears it.
        nominate: Option<Text>,
    },
    /// Sets or clears (`None`) `status.nominatedNodeName`.
    Nominate(Option<Text>),
    /// Replaces a node's status.
    NodeStatus(Box<NodeStatus>),
    /// Sets node conditions only.
    NodeConditions(Vec<crate::api::node::NodeCondition>),
    /// Replaces the list of a node's images (names, size in bytes).
    NodeImages(Vec<(Vec<Text>, i64)>),
    /// Replaces the list of PersistentVolumes that a node has mounted.
    VolumesInUse(Vec<Text>),
    /// Adds taints (replacing those of equal key and effect) and removes others.
    NodeTaints {
        /// Taints to add.
        add: Vec<crate::api::affinity::Taint>,
        /// Taints to remove, by key and effect.
        remove: Vec<crate::api::affinity::Taint>,
    },
    /// `spec.unschedulable`.
    Unschedulable(bool),
    /// Sets (`Some`) or removes (`None`) labels.
    Labels(Vec<(Text, Option<Text>)>),
    /// Sets (`Some`) or removes (`None`) annotations.
    Annotations(Vec<(Text, Option<Text>)>),
    /// Replaces the owner references (adoption and release).
    Owners(Vec<crate::api::OwnerRef>),
    /// Adds an owner (adoption); refused when another controller owns the object already.
    AddOwner(crate::api::OwnerRef),
    /// Removes the owner of this uid (release); nothing happens when it is not there.
    RemoveOwner(Uid),
    /// Replaces the finalizers; removing the last of a deleted object removes it.
    Finalizers(Vec<Text>),
    /// Adds a finalizer, unless it is there.
    AddFinalizer(Text),
    /// Removes a finalizer, if it is there; removing the last of a deleted object removes it.
    RemoveFinalizer(Text),
    /// A patch as clients write it, read as JSON. The result is defaulted and validated like any
    /// update.
    Document(PatchKind, Arc<Value>),
    /// An object as clients write it, in place of what is there (a PUT). Without a revision it
    /// overwrites whatever is there, for most kinds; its status is ignored.
    Replacement(Arc<Value>),
    /// Several changes in one request.
    Together(Vec<Patch>),
    /// The `finalize` subresource of a Namespace: the namespace controller has emptied it.
    FinalizeNamespace,
    /// Replaces the conditions of a Namespace.
    NamespaceConditions(Vec<crate::api::workload::WorkloadCondition>),
    /// The `scale` subresource.
    Replicas(i32),
    /// `spec.paused` of a Deployment.
    Paused(bool),
    /// Renews a Lease.
    Renew(Time),
    /// Replaces the list of features that a node declares.
    DeclaredFeatures(Shared<Vec<Text>>),
}

/// `propagationPolicy` of a deletion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Propagation {
    /// Dependants go afterwards (default of apps/v1 and kubectl).
    #[default]
    Background,
    /// Dependants go first.
    Foreground,
    /// Dependants stay, without owner.
    Orphan,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// It is new.
    Create,
    /// It changed.
    Update,
    /// It is gone.
    Delete,
    /// A KubeEvent was reported.
    Emit,
}

/// One entry of the change log.
#[derive(Clone, Debug)]
pub struct Change {
    /// Strictly increasing.
    pub revision: u64,
    /// When it was committed.
    pub time: Time,
    /// Which object; `None` for KubeEvents.
    pub object: Option<ObjectId>,
    /// What happened.
    pub op: Op,
    /// The row before (none for a creation).
    pub old: Option<Row>,
    /// The row after (for a deletion: the last state).
    pub new: Option<Row>,
    /// The KubeEvent, for [`Op::Emit`].
    pub event: Option<Arc<KubeEvent>>,
    /// Why.
    pub cause: Cause,
    /// For the renewal of a lease: what it was renewed at. Such a change has no rows; nothing else
    /// of the lease differs.
    pub renewed: Option<Time>,
}

impl Change {
    /// The typed rows before and after, when the change is about a `T`.
    pub fn rows<T: Object>(&self) -> Option<(Option<&T>, Option<&T>)> {
        (self.object?.kind == T::KIND).then(|| {
            (
                self.old.as_ref().and_then(T::from_row).map(|a| &**a),
                self.new.as_ref().and_then(T::from_row).map(|a| &**a),
            )
        })
    }

    /// The kind it is about.
    pub fn kind(&self) -> Kind {
        self.object.map_or(Kind::KubeEvent, |o| o.kind)
    }
}

/// Why a write was made: who wrote it, what set it off, and by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cause {
    /// Who.
    pub origin: Origin,
    /// What set it off.
    pub trigger: Trigger,
    /// The rule in a few words ("lease expired", "surge allows one more"); may be empty.
    pub rule: &'static str,
}

impl Default for Cause {
    fn default() -> Self {
        Cause {
            origin: Origin::Scenario,
            trigger: Trigger::Start,
            rule: "",
        }
    }
}

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The scenario itself: initial objects and kubectl steps.
    Scenario,
    /// A controller by its name (`deployment-controller`).
    Controller(&'static str),
    /// The scheduler.
    Scheduler,
    /// The kubelet of this node (number of the Node).
    Kubelet(u32),
    /// The API server itself (finalizers done, grace of an unbound pod).
    Server,
}

/// What set a write off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// The initial state.
    Start,
    /// A change of an object, by revision.
    Change(u64),
    /// A timeline step, by index.
    Step(u32),
    /// A fault, by index.
    Fault(u32),
    /// The passing of time (a resync, a deadline, a lease).
    Timer,
    /// A container did something (exited, was probed …).
    Runtime,
}

/// A successful write.
#[derive(Clone, Debug, PartialEq)]
pub struct Receipt {
    /// Revision after the write (unchanged when nothing changed).
    pub revision: u64,
    /// Which object (`None` for KubeEvents).
    pub object: Option<ObjectId>,
    /// The object as stored (its last state after a removal).
    pub row: Option<Row>,
}

/// Why the API server refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// 404.
    NotFound(String),
    /// 409: somebody else wrote first.
    Conflict(String),
    /// 409: the name is taken.
    AlreadyExists(String),
    /// 422.
    Invalid {
        /// Kind and group: `Deployment.apps`.
        kind: String,
        /// Name of the object.
        name: String,
        /// `field: message`, in the order of upstream's validation.
        causes: Vec<String>,
    },
    /// 400: the request cannot be read.
    BadRequest(String),
    /// 422 without a cause: a patch that does not apply.
    Unprocessable(String),
    /// 415: a strategic merge patch of a custom resource.
    UnsupportedMediaType(String),
    /// 403 (quota, missing namespace being deleted …).
    Forbidden(String),
    /// 429: an eviction that a budget refuses.
    TooManyRequests {
        /// What kubectl prints.
        message: String,
        /// Which budget, and what it lacks.
        cause: String,
    },
    /// 500.
    Internal(String),
    /// 410: the watch is too old.
    Gone,
    /// No answer: the server or the way to it is down.
    Unreachable,
    /// No connection: nobody listens.
    Refused,
    /// 500, 503 or 504 of a server that cannot do its work now.
    Unavailable {
        /// HTTP status.
        code: u16,
        /// The server's words.
        message: String,
    },
}

impl ApiError {
    /// 422 for this object.
    pub fn invalid(row: &Row, causes: Vec<String>) -> ApiError {
        let (api_version, kind) = match row {
            Row::Inert(inert) => (inert.api_version.as_str(), inert.kind.as_str()),
            row => (row.kind().api_version(), row.kind().name()),
        };
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let dot = if group.is_empty() { "" } else { "." };
        ApiError::Invalid {
            kind: format!("{kind}{dot}{group}"),
            name: row.meta().name.to_string(),
            causes,
        }
    }

    /// `reason` of the status that the server answers with; empty when there was no answer.
    pub fn reason(&self) -> &'static str {
        match self {
            ApiError::NotFound(_) => "NotFound",
            ApiError::Conflict(_) => "Conflict",
            ApiError::AlreadyExists(_) => "AlreadyExists",
            ApiError::Invalid { .. } | ApiError::Unprocessable(_) => "Invalid",
            ApiError::BadRequest(_) => "BadRequest",
            ApiError::UnsupportedMediaType(_) => "UnsupportedMediaType",
            ApiError::Forbidden(_) => "Forbidden",
            ApiError::TooManyRequests { .. } => "TooManyRequests",
            ApiError::Internal(_) => "InternalError",
            ApiError::Gone => "Expired",
            ApiError::Unavailable { code: 503, .. } => "ServiceUnavailable",
            ApiError::Unavailable { code: 504, .. } => "Timeout",
            // `writers.go :: ErrorToAPIStatus`: an error of the storage has no reason.
            ApiError::Unavailable { .. } | ApiError::Unreachable | ApiError::Refused => "",
        }
    }

    /// HTTP status, 0 when there was no answer.
    pub fn code(&self) -> u16 {
        match self {
            ApiError::NotFound(_) => 404,
            ApiError::Conflict(_) | ApiError::AlreadyExists(_) => 409,
            ApiError::Invalid { .. } | ApiError::Unprocessable(_) => 422,
            ApiError::BadRequest(_) => 400,
            ApiError::UnsupportedMediaType(_) => 415,
            ApiError::Forbidden(_) => 403,
            ApiError::TooManyRequests { .. } => 429,
            ApiError::Internal(_) => 500,
            ApiError::Gone => 410,
            ApiError::Unavailable { code, .. } => *code,
            ApiError::Unreachable | ApiError::Refused => 0,
        }
    }

    /// Whether it is the transport's and not the server's: client-go sends events again then.
    pub fn of_transport(&self) -> bool {
        matches!(self, ApiError::Unreachable | ApiError::Refused)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApiError::NotFound(m)
            | ApiError::Conflict(m)
            | ApiError::AlreadyExists(m)
            | ApiError::BadRequest(m)
            | ApiError::UnsupportedMediaType(m)
            | ApiError::Unprocessable(m)
            | ApiError::Forbidden(m)
            | ApiError::Internal(m)
            | ApiError::TooManyRequests { message: m, .. }
            | ApiError::Unavailable { message: m, .. } => f.write_str(m),
            ApiError::Invalid { kind, name, causes } => {
                // Go's aggregate says the same thing once.
                let mut said: Vec<&str> = Vec::with_capacity(causes.len());
                for cause in causes {
                    if !said.contains(&cause.as_str()) {
                        said.push(cause);
                    }
                }
                match said.as_slice() {
                    [one] => write!(f, "{kind} \"{name}\" is invalid: {one}"),
                    many => write!(f, "{kind} \"{name}\" is invalid: [{}]", many.join(", ")),
                }
            }
            ApiError::Gone => f.write_str("too old resource version"),
            ApiError::Unreachable => f.write_str("the API server did not answer"),
            ApiError::Refused => f.write_str("connect: connection refused"),
        }
    }
}

impl std::error::Error for ApiError {}

/// `kind.group "name"` as upstream's status messages print an object.
pub fn resource_name(kind: Kind, meta: &Meta) -> String {
    let group = kind.api_version().split_once('/').map_or("", |(g, _)| g);
    let dot = if group.is_empty() { "" } else { "." };
    format!("{}{dot}{group} \"{}\"", kind.plural(), meta.name)
}

/// `resource.group` of any object as status messages print it, and the resource alone
/// (`meta.UnsafeGuessKindToResource`, which is right about every built-in kind).
pub(super) fn resource_of(row: &Row) -> (String, String) {
    let (api_version, plural) = match row {
        Row::Inert(inert) => {
            let kind = inert.kind.to_lowercase();
            let plural = match kind.as_bytes() {
                _ if kind == "endpoints" => kind,
                [.., b's'] => kind + "es",
                [rest @ .., b'y'] => String::from_utf8_lossy(rest).into_owned() + "ies",
                _ => kind + "s",
            };
            (inert.api_version.as_str(), plural)
        }
        row => (row.kind().api_version(), row.kind().plural().to_owned()),
    };
    match api_version.split_once('/') {
        Some((group, _)) => (format!("{plural}.{group}"), plural),
        None => (plural.clone(), plural),
    }
}

/// Applies sets and removals to labels or annotations.
pub fn merge_labels(labels: &Labels, edits: &[(Text, Option<Text>)]) -> Labels {
    edits
        .iter()
        .fold(labels.clone(), |labels, (key, value)| match value {
            Some(value) => labels.with(key, value.clone()),
            None => labels.without(key),
        })
}
