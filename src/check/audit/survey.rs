//! What the manifests hold: workloads, the Services that lead to them, budgets and autoscalers.

use serde_json::Value;

use super::guards::{Guard, guards};
use crate::api::selector::LabelSelector;
use crate::api::{Labels, Row, Text};
use crate::scenario::{Applied, Scenario};

/// A workload that is judged.
#[derive(Clone, Debug)]
pub struct Workload {
    /// `Deployment`.
    pub kind: &'static str,
    /// Namespace.
    pub namespace: Text,
    /// Name.
    pub name: Text,
    /// Pods that it wants (of a DaemonSet, 0).
    pub replicas: u32,
    /// Labels of its pods.
    pub labels: Labels,
    /// Which pods are its own.
    pub selector: LabelSelector,
    /// The object as JSON, defaults filled in.
    pub json: std::sync::Arc<Value>,
    /// Services that lead to its pods: name, and the first port that speaks TCP.
    pub services: Vec<(Text, i64)>,
    /// Its disruption budget.
    pub budget: Option<Budget>,
    /// Its autoscaler.
    pub autoscaler: Option<Autoscaler>,
    /// An AppModel says how its pods behave.
    pub modelled: bool,
}

/// A PodDisruptionBudget.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Name.
    pub name: Text,
    /// The object as JSON.
    pub json: std::sync::Arc<Value>,
}

/// A HorizontalPodAutoscaler.
#[derive(Clone, Debug)]
pub struct Autoscaler {
    /// Name.
    pub name: Text,
    /// `minReplicas`.
    pub least: u32,
    /// `maxReplicas`.
    pub most: u32,
    /// The object as JSON.
    pub json: std::sync::Arc<Value>,
}

/// Everything that an audit has to know before it begins.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// What is judged, in the order of the manifests.
    pub workloads: Vec<Workload>,
    /// What is not, with the number of each kind.
    pub not_judged: Vec<String>,
    /// Storage classes that claims name and no object defines.
    pub classes: Vec<String>,
    /// Traffics are among the manifests: they are the load.
    pub own_traffic: bool,
    /// Admission webhooks that refuse what they cannot be asked about.
    pub guards: Vec<Guard>,
}

impl Workload {
    /// The pod template's spec, or the pod's own.
    pub fn pod_spec(&self) -> &Value {
        match self.kind {
            "Pod" => &self.json["spec"],
            _ => &self.json["spec"]["template"]["spec"],
        }
    }

    /// Containers that run beside each other.
    pub fn containers(&self) -> impl Iterator<Item = &Value> {
        let containers = self.pod_spec()["containers"].as_array();
        containers.into_iter().flatten()
    }

    /// What one of its pods asks for: milli-CPU (its limits where it has no requests, 100 where it
    /// has neither) and bytes of memory.
    pub fn asks(&self) -> (i64, i64) {
        let amount = |container: &Value, name: &str| {
            let resources = &container["resources"];
            let text = |part: &str| resources[part][name].as_str().map(str::to_owned);
            let text = text("requests").or_else(|| text("limits"))?;
            crate::api::quantity::Quantity::parse(&text).ok()
        };
        let mut cpu = 0;
        let mut memory = 0;
        for container in self.containers() {
            cpu += amount(container, "cpu").map_or(0, |q| q.milli_value());
            memory += amount(container, "memory").map_or(0, |q| q.value());
        }
        (if cpu == 0 { 100 } else { cpu }, memory)
    }

    /// It keeps data in volumes that only one node can use at a time.
    pub fn keeps_data(&self) -> bool {
        let claims = self.pod_spec()["volumes"].as_array();
        let claimed = claims.is_some_and(|all| {
            all.iter()
                .any(|volume| !volume["persistentVolumeClaim"].is_null())
        });
        claimed || self.kind == "StatefulSet"
    }
}

/// Looks at the objects of a scenario.
pub fn survey(scenario: &Scenario) -> Survey {
    let objects = &scenario.objects;
    let mut survey = Survey {
        own_traffic: !scenario.traffic.is_empty(),
        ..Survey::default()
    };
    let mut others: std::collections::BTreeMap<&'static str, u32> = Default::default();
    for object in objects {
        match workload(object) {
            Some(found) => survey.workloads.push(found),
            None if matches!(object.row, Row::Job(_) | Row::CronJob(_)) => {
                *others.entry(object.row.kind().name()).or_default() += 1;
            }
            None => {}
        }
    }
    for workload in &mut survey.workloads {
        join(workload, objects);
        workload.modelled = (scenario.apps.iter()).any(|app| {
            app.namespace == workload.namespace && app.selector.matches(&workload.labels)
        });
    }
    survey.not_judged = (others.iter())
        .map(|(kind, n)| format!("{kind} ×{n}"))
        .collect();
    survey.classes = classes(objects);
    survey.guards = guards(objects);
    survey
}

fn workload(object: &Applied) -> Option<Workload> {
    let (kind, replicas, selector, labels) = match &object.row {
        Row::Deployment(d) => ("Deployment", d.replicas, &d.selector, &d.template.labels),
        Row::StatefulSet(s) => ("StatefulSet", s.replicas, &s.selector, &s.template.labels),
        Row::ReplicaSet(r) => ("ReplicaSet", r.replicas, &r.selector, &r.template.labels),
        Row::DaemonSet(d) => ("DaemonSet", 0, &d.selector, &d.template.labels),
        Row::Pod(pod) => {
            let labels = pod.meta.labels.clone();
            let always = object.json["spec"]["restartPolicy"] == "Always";
            return (always && !labels.is_empty()).then(|| Workload {
                selector: LabelSelector::equals(labels.iter()),
                labels,
                ..blank("Pod", 1, object)
            });
        }
        _ => return None,
    };
    let replicas = u32::try_from(replicas).unwrap_or(0);
    (replicas > 0 || kind == "DaemonSet").then(|| Workload {
        selector: selector.clone(),
        labels: labels.clone(),
        ..blank(kind, replicas, object)
    })
}

fn blank(kind: &'static str, replicas: u32, object: &Applied) -> Workload {
    let meta = object.row.meta();
    Workload {
        kind,
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        replicas,
        labels: Labels::default(),
        selector: LabelSelector::nothing(),
        json: object.json.clone(),
        services: Vec::new(),
        budget: None,
        autoscaler: None,
        modelled: false,
    }
}

/// Finds what belongs to a workload.
fn join(workload: &mut Workload, objects: &[Applied]) {
    for object in objects {
        if object.row.meta().namespace != workload.namespace {
            continue;
        }
        match &object.row {
            Row::Service(service) => {
                let mut wanted = service.selector.iter();
                let leads = !service.selector.is_empty()
                    && wanted.all(|(key, value)| workload.labels.get(key) == Some(value));
                let port = object.json["spec"]["ports"].as_array().and_then(|ports| {
                    let mut tcp = ports.iter().filter(|p| p["protocol"] != "UDP");
                    tcp.next()?["port"].as_i64()
                });
                if let (true, false, Some(port)) = (leads, service.headless, port) {
                    workload.services.push((service.meta.name.clone(), port));
                }
            }
            Row::PodDisruptionBudget(budget) if budget.selector.matches(&workload.labels) => {
                workload.budget = Some(Budget {
                    name: budget.meta.name.clone(),
                    json: object.json.clone(),
                });
            }
            Row::HorizontalPodAutoscaler(hpa)
                if hpa.target.name == workload.name && hpa.target.kind == workload.kind =>
            {
                let count = |n: i32| u32::try_from(n).unwrap_or(0);
                workload.autoscaler = Some(Autoscaler {
                    name: hpa.meta.name.clone(),
                    least: count(hpa.min_replicas),
                    most: count(hpa.max_replicas),
                    json: object.json.clone(),
                });
            }
            _ => {}
        }
    }
}

/// Storage classes that claims ask for and that nobody defines.
fn classes(objects: &[Applied]) -> Vec<String> {
    let mut wanted = std::collections::BTreeSet::new();
    for object in objects {
        let spec = &object.json["spec"];
        let templates = spec["volumeClaimTemplates"].as_array();
        let specs = templates.into_iter().flatten().map(|claim| &claim["spec"]);
        for spec in specs.chain([spec]) {
            wanted.extend(spec["storageClassName"].as_str().map(str::to_owned));
        }
    }
    for object in objects {
        if matches!(object.row, Row::StorageClass(_)) {
            wanted.remove(object.row.meta().name.as_str());
        }
    }
    wanted.remove("");
    wanted.into_iter().collect()
}
