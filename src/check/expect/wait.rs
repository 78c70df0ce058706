//! `kubectl wait`: a condition, a deletion, or a JSONPath of one object.

use serde_json::Value;

use crate::api::print::to_json;
use crate::api::{Kind, Text};
use crate::kubectl;
use crate::store::View;

/// What is waited for.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    kind: Kind,
    namespace: Text,
    name: Text,
    what: What,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Condition {
        name: String,
        value: String,
        reason: Option<String>,
    },
    Delete,
    JsonPath {
        pointer: String,
        value: Option<String>,
    },
}

impl Condition {
    /// Reads `for`, `reason` and `resource`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(
        condition: &str,
        reason: Option<&str>,
        resource: &str,
        namespace: &Text,
    ) -> Result<Self, String> {
        let (kind, name) = resource
            .split_once('/')
            .ok_or_else(|| format!("resource {resource} is not of the form deployment/web"))?;
        // `deployment/shop/frontend` names the namespace too.
        let (namespace, name) = match name.split_once('/') {
            Some((namespace, name)) => (Text::from(namespace), name),
            None => (namespace.clone(), name),
        };
        let verb =
            kubectl::parse(&format!("delete {kind}/{name}"), &namespace).map_err(|e| e.message)?;
        let kind = match verb.targets().and_then(|t| t.named.first()) {
            Some((kubectl::verb::ResourceKind::Typed(kind), _)) => *kind,
            _ => return Err(format!("{kind} is not modelled: nothing to wait for")),
        };
        let what = if condition == "delete" {
            What::Delete
        } else if let Some(rest) = condition.strip_prefix("condition=") {
            let (name, value) = rest.split_once('=').unwrap_or((rest, "True"));
            let reason = reason.map(str::to_owned);
            What::Condition {
                name: name.to_owned(),
                value: value.to_owned(),
                reason,
            }
        } else if let Some(rest) = condition.strip_prefix("jsonpath=") {
            let (path, value) = match rest.split_once("}=") {
                Some((path, value)) => (path, Some(value.to_owned())),
                None => (rest, None),
            };
            let path = path.trim_matches(['{', '}', '\'', '"', '.']);
            What::JsonPath {
                pointer: format!("/{}", path.replace('.', "/")),
                value,
            }
        } else {
            return Err(format!(
                "for: {condition} is not understood; use condition=NAME, delete or jsonpath={{…}}=VALUE"
            ));
        };
        let namespace = if kind.namespaced() {
            namespace
        } else {
            Text::default()
        };
        Ok(Condition {
            kind,
            namespace,
            name: name.into(),
            what,
        })
    }

    /// The kind of the object.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it holds; `kubectl wait` ignores conditions of an older generation.
    pub fn holds(&self, view: &View) -> bool {
        let row = view
            .lookup(self.kind, &self.namespace, &self.name)
            .and_then(|id| view.row(id));
        let Some(row) = row else {
            return self.what == What::Delete;
        };
        let json = to_json(&row);
        match &self.what {
            What::Delete => false,
            What::Condition {
                name,
                value,
                reason,
            } => {
                let observed = json
                    .pointer("/status/observedGeneration")
                    .and_then(Value::as_u64);
                if observed.is_some_and(|o| o < u64::from(row.meta().generation)) {
                    return false;
                }
                let conditions = json.pointer("/status/conditions").and_then(Value::as_array);
                conditions.into_iter().flatten().any(|c| {
                    let text = |key| c.get(key).and_then(Value::as_str).unwrap_or_default();
                    text("type").eq_ignore_ascii_case(name)
                        && text("status").eq_ignore_ascii_case(value)
                        && reason.as_ref().is_none_or(|r| text("reason") == r)
                })
            }
            What::JsonPath { pointer, value } => {
                let found = json.pointer(pointer);
                match (found, value) {
                    (None, _) => false,
                    (Some(_), None) => true,
                    (Some(Value::String(s)), Some(value)) => s == value,
                    (Some(other), Some(value)) => {
                        serde_json::from_str::<Value>(value).is_ok_and(|v| v == *other)
                    }
                }
            }
        }
    }
}
