//! Which admission webhooks a request concerns.
//!
//! `staging/src/k8s.io/apiserver/pkg/admission/plugin/webhook`: a request is described by
//! [`Attributes`], as the API server describes it to its admission plugins, and
//! [`Attributes::concern`] is `generic/webhook.go :: ShouldCallHook`: the namespace's labels, the
//! object's labels, then the rules, as written or for an equivalent resource. The writes of the
//! scheduler, controllers and kubelets are described as the requests that upstream's make: a
//! binding is a creation of `pods/binding`, a status an update of `nodes/status`, the renewal of a
//! lease an update of `leases`. Nothing else decides what the failure of a webhook stops.
//!
//! What it does not know: how a webhook is reached, and what becomes of the request.

use super::commit::Store;
use super::view::View;
use super::write::{ApiError, ObjectId, Patch, Write};
use crate::api::webhook::{GROUP, Rule, Scope, Webhook};
use crate::api::{Labels, Namespace, Row, Text};
use crate::engine::Time;

/// What a request does, in the words of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `CREATE`.
    Create,
    /// `UPDATE`; patches too.
    Update,
    /// `DELETE`.
    Delete,
}

impl Operation {
    /// As rules say it.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
        }
    }
}

/// A resource that requests name: group, version, plural.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resource {
    /// API group; empty for the core.
    pub group: Text,
    /// Version in the group.
    pub version: Text,
    /// Plural in lower case.
    pub plural: Text,
}

impl Resource {
    /// A resource of `group/version`, or of the core's `version`.
    pub fn new(api_version: &str, plural: &str) -> Resource {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Resource {
            group: group.into(),
            version: version.into(),
            plural: plural.into(),
        }
    }
}

/// A request, as admission sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Attributes {
    /// What it does.
    pub operation: Operation,
    /// What with.
    pub resource: Resource,
    /// `status`, `binding` and their kin; empty for the object itself.
    pub subresource: &'static str,
    /// The object's namespace; of a Namespace, its name; empty for other objects without one.
    pub namespace: Text,
    /// Labels of the object as it is to be; none when there is no such object (deletions).
    pub new: Option<Labels>,
    /// Labels of the object as it is; none when there is none.
    pub old: Option<Labels>,
}

impl Attributes {
    /// `rules.go :: Matcher.Matches`, for a resource that may stand for the request's own.
    fn fits(&self, rule: &Rule, resource: &Resource) -> bool {
        // The constants of the two lists are the same, and `*` stands for any.
        let any = |items: &[Text], wanted: &str| items.iter().any(|i| i == "*" || *i == *wanted);
        let of_resource = |item: &Text| {
            let (plural, sub) = item.split_once('/').unwrap_or((item, ""));
            (plural == "*" || *plural == *resource.plural)
                && (sub == "*" || sub == self.subresource)
        };
        let namespaces = resource.group.is_empty() && resource.plural == "namespaces";
        let of_cluster = namespaces || self.namespace.is_empty();
        (match rule.scope {
            Scope::All => true,
            Scope::Cluster => of_cluster,
            Scope::Namespaced => !of_cluster,
        }) && any(&rule.operations, self.operation.name())
            && any(&rule.groups, &resource.group)
            && any(&rule.versions, &resource.version)
            && rule.resources.iter().any(of_resource)
    }

    /// Whether the rules of a webhook take the request: as it is, or by another name of what it is
    /// about (`matchPolicy: Equivalent`).
    pub fn ruled_by(&self, webhook: &Webhook) -> bool {
        let taken = |resource: &Resource| webhook.rules.iter().any(|r| self.fits(r, resource));
        taken(&self.resource) || !webhook.exact && equivalents(&self.resource).iter().any(taken)
    }

    /// `namespace/matcher.go :: MatchNamespaceSelector`.
    fn in_namespaces(&self, webhook: &Webhook, view: &View) -> Result<bool, ApiError> {
        let own = self.resource.plural == "namespaces";
        if self.namespace.is_empty() && !own || webhook.namespaces.is_empty() {
            return Ok(true);
        }
        if own && self.subresource.is_empty() && self.operation != Operation::Delete {
            let labels = self.new.as_ref();
            return Ok(labels.is_some_and(|labels| webhook.namespaces.matches(labels)));
        }
        let none = Text::default();
        match view.of::<Namespace>().named(&none, &self.namespace) {
            Some((_, namespace)) => Ok(webhook.namespaces.matches(&namespace.meta.labels)),
            None => Err(ApiError::NotFound(format!(
                "namespaces \"{}\" not found",
                self.namespace
            ))),
        }
    }

    /// `object/matcher.go :: MatchObjectSelector`.
    fn of_objects(&self, webhook: &Webhook) -> bool {
        let selected = |labels: &Option<Labels>| {
            let labels = labels.as_ref();
            labels.is_some_and(|labels| webhook.objects.matches(labels))
        };
        webhook.objects.is_empty() || selected(&self.new) || selected(&self.old)
    }

    /// `generic/webhook.go :: ShouldCallHook`: whether the webhook is to be asked about the request.
    ///
    /// # Errors
    /// Its selector asks for the labels of a namespace that is not there.
    pub fn concern(&self, webhook: &Webhook, view: &View) -> Result<bool, ApiError> {
        // A namespace that is not there matters only where everything else matches.
        let here = self.in_namespaces(webhook, view);
        if here == Ok(false) || !self.of_objects(webhook) || !self.ruled_by(webhook) {
            return Ok(false);
        }
        here?;
        Ok(!webhook.never)
    }

    /// `rules.go :: IsExemptAdmissionConfigurationResource`: what says who is asked can always be
    /// changed, or nobody could repair it.
    pub fn exempt(&self) -> bool {
        const CONFIGURATIONS: [&str; 6] = [
            "validatingwebhookconfigurations",
            "mutatingwebhookconfigurations",
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicybindings",
        ];
        self.resource.group == GROUP && CONFIGURATIONS.contains(&self.resource.plural.as_str())
    }
}

/// Other names of what a resource is about, in the groups and versions that the API server of the
/// reference version serves by default (`EquivalentResourceRegistry`). Versions of custom resources
/// are not known.
fn equivalents(resource: &Resource) -> &'static [Resource] {
    use std::sync::LazyLock;
    static EVENTS: LazyLock<[Resource; 2]> = LazyLock::new(|| {
        ["v1", "events.k8s.io/v1"].map(|version| Resource::new(version, "events"))
    });
    static AUTOSCALERS: LazyLock<[Resource; 2]> = LazyLock::new(|| {
        ["autoscaling/v1", "autoscaling/v2"]
            .map(|version| Resource::new(version, "horizontalpodautoscalers"))
    });
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("" | "events.k8s.io", "events") => &*EVENTS,
        ("autoscaling", "horizontalpodautoscalers") => &*AUTOSCALERS,
        _ => &[],
    }
}

/// The subresource that a patch goes to.
fn subresource(patch: &Patch) -> &'static str {
    match patch {
        Patch::PodStatus(_)
        | Patch::PodConditions { .. }
        | Patch::Scheduling { .. }
        | Patch::Nominate(_)
        | Patch::NodeStatus(_)
        | Patch::NodeConditions(_)
        | Patch::NodeImages(_)
        | Patch::VolumesInUse(_)
        | Patch::NamespaceConditions(_) => "status",
        Patch::FinalizeNamespace => "finalize",
        Patch::Replicas(_) => "scale",
        Patch::Together(patches) => patches.first().map_or("", subresource),
        _ => "",
    }
}

/// Whether a patch can change labels.
fn relabels(patch: &Patch) -> bool {
    match patch {
        Patch::Labels(_) | Patch::Document(..) | Patch::Replacement(_) => true,
        Patch::Together(patches) => patches.iter().any(relabels),
        _ => false,
    }
}

fn resource(row: &Row) -> Resource {
    match row {
        Row::Inert(inert) => Resource::new(&inert.api_version, &super::write::resource_of(row).1),
        row => Resource::new(row.kind().api_version(), row.kind().plural()),
    }
}

fn namespace(row: &Row) -> Text {
    match row {
        Row::Namespace(namespace) => namespace.meta.name.clone(),
        row => row.meta().namespace.clone(),
    }
}

impl Store {
    /// How admission sees a request; none for one whose object is not there, which fails by itself.
    pub fn attributes(&self, write: &Write, now: Time) -> Option<Attributes> {
        let whole = |operation, row: &Row, new, old| Attributes {
            operation,
            resource: resource(row),
            subresource: "",
            namespace: namespace(row),
            new,
            old,
        };
        let labels = |row: &Row| Some(row.meta().labels.clone());
        // Bindings, evictions and scales are objects of their own, without labels.
        let none = || Some(Labels::default());
        let current = |object: ObjectId| self.view().row(object);
        Some(match write {
            Write::Create(row) => whole(Operation::Create, row, labels(row), None),
            Write::Emit(event) => Attributes {
                operation: Operation::Create,
                resource: Resource::new("v1", "events"),
                subresource: "",
                namespace: match event.namespace.is_empty() {
                    // `EventSource`: of objects without a namespace.
                    true => Text::literal("default"),
                    false => event.namespace.clone(),
                },
                new: none(),
                old: None,
            },
            Write::Update(object, row) | Write::UpdateStatus(object, row) => {
                let old = current(*object)?;
                let status = matches!(write, Write::UpdateStatus(..));
                Attributes {
                    subresource: if status { "status" } else { "" },
                    ..whole(Operation::Update, &old, labels(row), labels(&old))
                }
            }
            Write::Patch { object, patch, .. } => {
                let old = current(*object)?;
                let subresource = subresource(patch);
                let (new, before) = match subresource {
                    "scale" => (none(), none()),
                    _ if relabels(patch) => {
                        let new = self.preview(&old, patch, now);
                        (labels(new.as_ref().unwrap_or(&old)), labels(&old))
                    }
                    _ => (labels(&old), labels(&old)),
                };
                Attributes {
                    subresource,
                    ..whole(Operation::Update, &old, new, before)
                }
            }
            Write::Delete { object, .. } => {
                let old = current(*object)?;
                whole(Operation::Delete, &old, None, labels(&old))
            }
            Write::Bind { pod, .. } | Write::Evict { pod, .. } => Attributes {
                subresource: match write {
                    Write::Bind { .. } => "binding",
                    _ => "eviction",
                },
                ..whole(Operation::Create, &current((*pod).into())?, none(), None)
            },
        })
    }

    /// What the first admission plugins refuse before any webhook is asked: creations where nothing
    /// may be created (`NamespaceLifecycle`).
    ///
    /// # Errors
    /// The refusal.
    pub fn open(&self, write: &Write) -> Result<(), ApiError> {
        match write {
            Write::Create(row) => super::lifecycle::check_namespace(row, self.view()),
            Write::Emit(event) => super::lifecycle::check_event(event, self.view()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
