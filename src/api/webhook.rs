//! Admission webhooks: whom the API server asks before it stores something.
//!
//! The two kinds of configurations are kept as [`Inert`] rows, as they were written; this is what
//! the API server reads out of them, with the defaults of
//! `pkg/apis/admissionregistration/v1/defaults.go`. Which requests concern a webhook is decided in
//! `store::webhooks`, what asking it leads to in the composition root.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1 as source;
use serde_json::Value;

use super::selector::LabelSelector;
use super::{Inert, Text};

/// What a configuration's webhooks may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WebhookType {
    /// A `MutatingWebhookConfiguration`'s: asked first, one after the other.
    Mutating,
    /// A `ValidatingWebhookConfiguration`'s: asked together, when nothing changes any more.
    Validating,
}

impl WebhookType {
    /// The kind of its configurations.
    pub fn kind(self) -> &'static str {
        match self {
            WebhookType::Mutating => "MutatingWebhookConfiguration",
            WebhookType::Validating => "ValidatingWebhookConfiguration",
        }
    }

    /// The type of webhooks in objects of this kind.
    pub fn of_kind(kind: &str) -> Option<WebhookType> {
        [WebhookType::Mutating, WebhookType::Validating]
            .into_iter()
            .find(|this| this.kind() == kind)
    }
}

/// `scope` of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    /// `*`.
    #[default]
    All,
    /// Objects without a namespace, and Namespaces.
    Cluster,
    /// Objects in namespaces.
    Namespaced,
}

/// `RuleWithOperations`: which requests a webhook wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rule {
    /// `operations`: `CREATE`, `UPDATE`, `DELETE`, `CONNECT` or `*`.
    pub operations: Vec<Text>,
    /// `apiGroups`; the core group is empty.
    pub groups: Vec<Text>,
    /// `apiVersions`.
    pub versions: Vec<Text>,
    /// `resources`: plurals, with subresources after a slash.
    pub resources: Vec<Text>,
    /// `scope`.
    pub scope: Scope,
}

/// Where a webhook is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// `clientConfig.service`.
    Service {
        /// Its namespace.
        namespace: Text,
        /// Its name.
        name: Text,
        /// Path of the request, from its slash on; empty when none is given.
        path: Text,
        /// Port of the Service.
        port: u16,
    },
    /// `clientConfig.url`.
    Url(Text),
}

/// One webhook.
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    /// Its name, `validate.example.com`.
    pub name: Text,
    /// Where it is asked.
    pub backend: Backend,
    /// Any of them must match.
    pub rules: Vec<Rule>,
    /// `matchPolicy: Exact`, rather than `Equivalent`.
    pub exact: bool,
    /// `failurePolicy: Ignore`, rather than `Fail`.
    pub ignore: bool,
    /// Labels of the namespace.
    pub namespaces: LabelSelector,
    /// Labels of the object.
    pub objects: LabelSelector,
    /// `timeoutSeconds`.
    pub timeout: Duration,
    /// A match condition says `false`, whatever is asked.
    pub never: bool,
}

/// The webhooks of a configuration, if the object is one.
pub fn webhooks_of(object: &Inert) -> Option<(WebhookType, Vec<Webhook>)> {
    let group = object.api_version.split_once('/').map_or("", |(g, _)| g);
    let this = WebhookType::of_kind(&object.kind).filter(|_| group == GROUP)?;
    let list = object.body.get("webhooks").and_then(Value::as_array);
    let read = |each: &Value| {
        // Both types are read alike: what one has more says nothing here.
        let read = serde_json::from_value::<source::ValidatingWebhook>(each.clone());
        read.ok().as_ref().and_then(webhook)
    };
    Some((this, list.into_iter().flatten().filter_map(read).collect()))
}

/// The group of the configurations.
pub const GROUP: &str = "admissionregistration.k8s.io";

fn webhook(source: &source::ValidatingWebhook) -> Option<Webhook> {
    let selector = |source: &Option<_>| {
        let written = source.as_ref().map(super::decode::selector_of);
        written.unwrap_or_default()
    };
    let conditions = source.match_conditions.iter().flatten();
    let seconds = source.timeout_seconds.unwrap_or(10);
    Some(Webhook {
        name: source.name.as_str().into(),
        backend: backend(&source.client_config)?,
        rules: source.rules.iter().flatten().map(rule).collect(),
        exact: source.match_policy.as_deref() == Some("Exact"),
        ignore: source.failure_policy.as_deref() == Some("Ignore"),
        namespaces: selector(&source.namespace_selector),
        objects: selector(&source.object_selector),
        timeout: Duration::from_secs(u64::try_from(seconds).unwrap_or(10)),
        never: conditions
            .map(|condition| literal(&condition.expression))
            .any(|value| value == Some(false)),
    })
}

/// What a CEL expression says that needs no looking at the request.
pub fn literal(expression: &str) -> Option<bool> {
    match expression.trim() {
        "true" | "!false" => Some(true),
        "false" | "!true" => Some(false),
        _ => None,
    }
}

fn backend(source: &source::WebhookClientConfig) -> Option<Backend> {
    if let Some(service) = &source.service {
        // `path.Join` of what client-go builds the address from: no slash at the end.
        let path = service.path.as_deref().unwrap_or_default();
        let path = path.trim_end_matches('/');
        return Some(Backend::Service {
            namespace: service.namespace.as_str().into(),
            name: service.name.as_str().into(),
            path: if path.is_empty() { "/" } else { path }.into(),
            port: u16::try_from(service.port.unwrap_or(443)).unwrap_or(443),
        });
    }
    source.url.as_deref().map(|url| Backend::Url(url.into()))
}

fn rule(source: &source::RuleWithOperations) -> Rule {
    let texts = |list: &Option<Vec<String>>| {
        let all = list.iter().flatten();
        all.map(|text| text.as_str().into()).collect()
    };
    Rule {
        operations: texts(&source.operations),
        groups: texts(&source.api_groups),
        versions: texts(&source.api_versions),
        resources: texts(&source.resources),
        scope: match source.scope.as_deref() {
            Some("Cluster") => Scope::Cluster,
            Some("Namespaced") => Scope::Namespaced,
            _ => Scope::All,
        },
    }
}
