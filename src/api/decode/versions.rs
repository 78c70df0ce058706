//! Old API versions, as real files still have them, made current.
//!
//! A server of the reference version refuses every version here but `autoscaling/v1`, so each other
//! conversion comes with a warning. Shapes that changed are rewritten; spans stay those of the file.

use super::Problem;
use crate::api::yaml::{Node, NodeValue, Span};

/// Versions whose objects only need their new name: old group and version, kind, current version.
const RENAMED: &[(&[&str], &[&str], &str)] = &[
    (
        &["extensions/v1beta1", "apps/v1beta1", "apps/v1beta2"],
        &[
            "Deployment",
            "ReplicaSet",
            "DaemonSet",
            "StatefulSet",
            "ControllerRevision",
        ],
        "apps/v1",
    ),
    (
        &["batch/v1beta1", "batch/v2alpha1"],
        &["CronJob"],
        "batch/v1",
    ),
    (&["policy/v1beta1"], &["PodDisruptionBudget"], "policy/v1"),
    (
        &["extensions/v1beta1", "networking.k8s.io/v1beta1"],
        &["Ingress", "NetworkPolicy", "IngressClass"],
        "networking.k8s.io/v1",
    ),
    (
        &["autoscaling/v2beta1", "autoscaling/v2beta2"],
        &["HorizontalPodAutoscaler"],
        "autoscaling/v2",
    ),
    (
        &[
            "rbac.authorization.k8s.io/v1beta1",
            "rbac.authorization.k8s.io/v1alpha1",
        ],
        &["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"],
        "rbac.authorization.k8s.io/v1",
    ),
    (
        &["storage.k8s.io/v1beta1", "storage.k8s.io/v1alpha1"],
        &[
            "StorageClass",
            "CSIDriver",
            "CSINode",
            "VolumeAttachment",
            "CSIStorageCapacity",
        ],
        "storage.k8s.io/v1",
    ),
    (
        &["scheduling.k8s.io/v1beta1", "scheduling.k8s.io/v1alpha1"],
        &["PriorityClass"],
        "scheduling.k8s.io/v1",
    ),
    (
        &["coordination.k8s.io/v1beta1"],
        &["Lease"],
        "coordination.k8s.io/v1",
    ),
    (
        &["node.k8s.io/v1beta1"],
        &["RuntimeClass"],
        "node.k8s.io/v1",
    ),
    (
        &["apiregistration.k8s.io/v1beta1"],
        &["APIService"],
        "apiregistration.k8s.io/v1",
    ),
];

/// Versions that are gone and too different to read: their objects are stored as written.
const REMOVED: &[(&str, &str)] = &[
    ("policy/v1beta1", "PodSecurityPolicy"),
    ("extensions/v1beta1", "PodSecurityPolicy"),
    ("apiextensions.k8s.io/v1beta1", "CustomResourceDefinition"),
    (
        "admissionregistration.k8s.io/v1beta1",
        "ValidatingWebhookConfiguration",
    ),
    (
        "admissionregistration.k8s.io/v1beta1",
        "MutatingWebhookConfiguration",
    ),
    ("discovery.k8s.io/v1beta1", "EndpointSlice"),
    ("certificates.k8s.io/v1beta1", "CertificateSigningRequest"),
];

/// The object in a current version, and the warning that goes with it.
type Converted = (Node, Option<Problem>);

/// The object in a current version and the warning that goes with it; `None` when it is current.
pub(super) fn current(node: &Node) -> Result<Option<Converted>, Vec<Problem>> {
    let text = |key| node.get(key).and_then(Node::as_str).unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    let warning = |rest: &str| Problem {
        path: "apiVersion".to_owned(),
        span: node
            .get("apiVersion")
            .map(|n| n.span)
            .filter(|s| s.is_known()),
        reason: "Deprecated".to_owned(),
        message: format!("no matches for kind \"{kind}\" in version \"{version}\": {rest}"),
    };
    if REMOVED.contains(&(version, kind)) {
        let warning = warning("a current server refuses it; it is stored as written");
        return Ok(Some((node.clone(), Some(warning))));
    }
    if (version, kind) == ("autoscaling/v1", "HorizontalPodAutoscaler") {
        return Ok(Some((autoscaler_v1(node), None)));
    }
    let new = RENAMED
        .iter()
        .find(|(versions, kinds, _)| versions.contains(&version) && kinds.contains(&kind));
    let Some((_, _, new)) = new else {
        return Ok(None);
    };
    let mut converted = node.clone();
    match kind {
        "Ingress" => ingress(&mut converted),
        "HorizontalPodAutoscaler" if version == "autoscaling/v2beta1" => autoscaler(&mut converted),
        "Deployment" | "ReplicaSet" | "DaemonSet" | "StatefulSet" => {
            default_selector(&mut converted)
        }
        _ => {}
    }
    let span = node.get("apiVersion").map_or(Span::NONE, |n| n.span);
    converted.set("apiVersion", Node::text(new, span));
    let warning = warning(&format!("a current server refuses it; it is read as {new}"));
    Ok(Some((converted, Some(warning))))
}

/// The first versions of workloads took a missing selector from the template's labels.
fn default_selector(node: &mut Node) {
    let labels = node.at("spec.template.metadata.labels").cloned();
    let (Some(labels), Some(spec)) = (labels, node.get_mut("spec")) else {
        return;
    };
    if spec.get("selector").is_none_or(Node::is_null) {
        let mut selector = Node::empty_map(labels.span);
        selector.set("matchLabels", labels);
        spec.set("selector", selector);
    }
}

/// `serviceName` and `servicePort` became `service: {name, port: {name | number}}`; `pathType`
/// had a default; `spec.backend` is `spec.defaultBackend`.
fn ingress(node: &mut Node) {
    let Some(spec) = node.get_mut("spec") else {
        return;
    };
    if let Some(mut backend) = spec.remove("backend") {
        ingress_backend(&mut backend);
        spec.set("defaultBackend", backend);
    }
    let rules = spec.get_mut("rules").and_then(Node::as_list_mut);
    for rule in rules.into_iter().flatten() {
        let paths = rule.get_mut("http").and_then(|http| http.get_mut("paths"));
        for path in paths.and_then(Node::as_list_mut).into_iter().flatten() {
            if path.get("pathType").is_none_or(Node::is_null) {
                path.set("pathType", Node::text("ImplementationSpecific", path.span));
            }
            if let Some(backend) = path.get_mut("backend") {
                ingress_backend(backend);
            }
        }
    }
}

fn ingress_backend(backend: &mut Node) {
    let span = backend.span;
    let (name, port) = (backend.remove("serviceName"), backend.remove("servicePort"));
    if name.is_none() && port.is_none() {
        return;
    }
    let mut service = Node::empty_map(span);
    if let Some(name) = name {
        service.set("name", name);
    }
    if let Some(port) = port {
        let key = if port.as_i64().is_some() {
            "number"
        } else {
            "name"
        };
        let mut of = Node::empty_map(port.span);
        of.set(key, port);
        service.set("port", of);
    }
    backend.set("service", service);
}

/// `Convert_v1_HorizontalPodAutoscaler_To_autoscaling_HorizontalPodAutoscaler`: one percentage became
/// a metric; other metrics and the behaviour were annotations. Without any metric there is the
/// default of the current version, which is the same 80 %.
fn autoscaler_v1(node: &Node) -> Node {
    let mut converted = node.clone();
    let span = node.get("apiVersion").map_or(Span::NONE, |n| n.span);
    converted.set("apiVersion", Node::text("autoscaling/v2", span));
    let mut annotation = |name: &str| {
        let metadata = converted.get_mut("metadata")?;
        let annotations = metadata.get_mut("annotations")?;
        let text = annotations.remove(&format!("autoscaling.alpha.kubernetes.io/{name}"))?;
        let json: serde_json::Value = serde_json::from_str(text.as_str()?).ok()?;
        Some(Node::from_json(&json, text.span))
    };
    let (more, behavior) = (annotation("metrics"), annotation("behavior"));
    let _ = (annotation("current-metrics"), annotation("conditions"));
    if let Some(status) = converted.get_mut("status") {
        status.remove("currentCPUUtilizationPercentage");
    }
    let Some(spec) = converted.get_mut("spec") else {
        return converted;
    };
    let mut metrics = Vec::new();
    let percent = spec.remove("targetCPUUtilizationPercentage");
    if let Some(percent) = percent.filter(|percent| !percent.is_null()) {
        let json = serde_json::json!({"type": "Resource", "resource": {"name": "cpu", "target": {
            "type": "Utilization", "averageUtilization": percent.to_json()}}});
        metrics.push(Node::from_json(&json, percent.span));
    }
    let list = metrics.first().or(more.as_ref()).map(|first| first.span);
    if let Some(Node {
        value: NodeValue::List(items),
        ..
    }) = more
    {
        // The annotation has the shape of `autoscaling/v2beta1`.
        metrics.extend(items.into_iter().map(|mut metric| {
            metric_of(&mut metric);
            metric
        }));
    }
    if let Some(span) = list {
        spec.set("metrics", Node::new(NodeValue::List(metrics), span));
    }
    if let Some(behavior) = behavior {
        spec.set("behavior", behavior);
    }
    converted
}

/// `autoscaling/v2beta1`: targets beside the metric became a `target` with a type.
fn autoscaler(node: &mut Node) {
    let metrics = node
        .get_mut("spec")
        .and_then(|spec| spec.get_mut("metrics"));
    for metric in metrics.and_then(Node::as_list_mut).into_iter().flatten() {
        metric_of(metric);
    }
}

fn metric_of(metric: &mut Node) {
    for source in [
        "resource",
        "pods",
        "object",
        "external",
        "containerResource",
    ] {
        if let Some(source) = metric.get_mut(source) {
            metric_source(source);
        }
    }
}

fn metric_source(source: &mut Node) {
    let span = source.span;
    if let Some(described) = source.remove("target") {
        source.set("describedObject", described);
    }
    let mut target = Node::empty_map(span);
    for (old, kind, new) in [
        (
            "targetAverageUtilization",
            "Utilization",
            "averageUtilization",
        ),
        ("targetAverageValue", "AverageValue", "averageValue"),
        ("averageValue", "AverageValue", "averageValue"),
        ("targetValue", "Value", "value"),
    ] {
        if let Some(value) = source.remove(old) {
            target.set("type", Node::text(kind, value.span));
            target.set(new, value);
        }
    }
    source.set("target", target);
    let selector = source
        .remove("metricSelector")
        .or_else(|| source.remove("selector"));
    if let Some(name) = source.remove("metricName") {
        let mut metric = Node::empty_map(name.span);
        metric.set("name", name);
        if let Some(selector) = selector {
            metric.set("selector", selector);
        }
        source.set("metric", metric);
    }
    debug_assert!(matches!(source.value, NodeValue::Map(_)));
}
