//! Which of the warnings are said when an object changes.

use serde_json::Value;

use super::{of, text};

/// The warnings about an object that changes (`WarningsOnUpdate` of the registries): none about a
/// pod, about a workload only where its spec changes.
pub fn on_update(old: &Value, new: &Value) -> Vec<String> {
    let same = |field: &str| old.get(field) == new.get(field);
    match text(new, "kind") {
        "Pod" | "PodDisruptionBudget" | "Ingress" | "HorizontalPodAutoscaler" => Vec::new(),
        "PriorityClass" | "IngressClass" | "CSIDriver" => Vec::new(),
        "CronJob"
        | "DaemonSet"
        | "Deployment"
        | "Job"
        | "ReplicaSet"
        | "ReplicationController"
        | "StatefulSet"
            if same("spec") =>
        {
            Vec::new()
        }
        "PodTemplate" if same("template") => Vec::new(),
        _ => of(new),
    }
}
