//! Admission webhooks whose failure refuses pods: which there are, whose pods were refused, and the
//! one thing that always helps, which is to leave the webhook's own namespace alone.

use serde_json::{Value, json};

use super::survey::Workload;
use crate::api::webhook::{Backend, webhooks_of};
use crate::api::{Row, Text};
use crate::record::RunRecord;
use crate::record::audit::Fix;
use crate::scenario::Applied;

/// The label that every Namespace has.
const NAMESPACE: &str = "kubernetes.io/metadata.name";

/// A webhook of the audited manifests that is asked in the cluster, with `failurePolicy: Fail`.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Its name, `validate.example.com`.
    pub name: Text,
    /// The namespace of its Service.
    pub namespace: Text,
    /// Name of its configuration.
    configuration: Text,
    /// The configuration as JSON.
    json: std::sync::Arc<Value>,
}

/// The guards among these objects.
pub fn guards(objects: &[Applied]) -> Vec<Guard> {
    let mut found = Vec::new();
    for object in objects {
        let Row::Inert(row) = &object.row else {
            continue;
        };
        let webhooks = webhooks_of(row).map(|(_, webhooks)| webhooks);
        for webhook in webhooks.into_iter().flatten().filter(|w| !w.ignore) {
            if let Backend::Service { namespace, .. } = webhook.backend {
                found.push(Guard {
                    name: webhook.name,
                    namespace,
                    configuration: row.meta.name.clone(),
                    json: object.json.clone(),
                });
            }
        }
    }
    found
}

/// The webhook because of which pods of a workload could not be created in a run; empty if there is
/// none.
pub fn refusal(record: &RunRecord, workload: &Workload) -> String {
    const FAILED: &str = "failed calling webhook \"";
    let own = |name: &str| {
        let rest = name.strip_prefix(workload.name.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let mut events = record.events.iter();
    let found = events.find_map(|event| {
        let about = event.reason == "FailedCreate"
            && event.namespace == workload.namespace
            && own(&event.name);
        let (_, rest) = event.message.split_once(FAILED).filter(|_| about)?;
        rest.split('"').next()
    });
    found.unwrap_or_default().to_owned()
}

/// Adds a patch that leaves the guard's own namespace out; returns its number. None where it is left
/// out already.
pub fn leave_out_its_own(guard: &Guard, fixes: &mut Vec<Fix>) -> Option<usize> {
    let mut webhooks = guard.json["webhooks"].as_array().into_iter().flatten();
    let webhook = webhooks.find(|webhook| webhook["name"] == guard.name.as_str())?;
    let known = webhook["namespaceSelector"]["matchExpressions"].as_array();
    let mut expressions = known.cloned().unwrap_or_default();
    let not_own = json!({"key": NAMESPACE, "operator": "NotIn", "values": [guard.namespace]});
    if expressions.contains(&not_own) {
        return None;
    }
    expressions.push(not_own);
    let part = json!({
        "name": guard.name, "namespaceSelector": {"matchExpressions": expressions}
    });
    let kind = guard.json["kind"].as_str().unwrap_or_default();
    let file = format!("{}-{}.yaml", guard.configuration, kind.to_lowercase());
    let at = fixes.iter().position(|fix| fix.file == file);
    let at = at.unwrap_or_else(|| {
        fixes.push(Fix {
            file,
            object: json!({
                "apiVersion": guard.json["apiVersion"], "kind": kind,
                "metadata": {"name": guard.configuration}
            }),
            ..Fix::default()
        });
        fixes.len() - 1
    });
    super::advice::merge(&mut fixes[at].object, json!({"webhooks": [part]}));
    let does = format!("{} leaves namespace {} out", guard.name, guard.namespace);
    if !fixes[at].does.contains(&does) {
        fixes[at].does.push(does);
    }
    Some(at)
}
