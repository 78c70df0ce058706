//! Why a workload fared badly, by rules, and what in its manifests would help.
//!
//! A rule reads the outcome of a trial and the manifest, and never guesses what was not seen: a
//! missing preStop hook is only worth a word where requests met a pod on its way out. The fixes of
//! one workload go into one patch; whether they help is found out by running everything again.

use serde_json::{Value, json};

use super::guards::leave_out_its_own;
use super::judge::{NOTICED, badness};
use super::survey::{Autoscaler, Survey, Workload};
use crate::record::audit::{Audit, Finding, Fix, Grade, Outcome};

/// Why something went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Its pods never became ready.
    NeverReady,
    /// Requests fail when nothing happens.
    NeverWell,
    /// An admission webhook could not be asked, and its pods were refused.
    Webhook,
    /// A budget held up a drain.
    BudgetBlocks,
    /// A rollout waits for a pod that cannot come up.
    RolloutWaits,
    /// A pod without a controller is not replaced.
    BarePod,
    /// It has one pod only.
    OneReplica,
    /// All its pods were in one place.
    OnePlace,
    /// Its update strategy takes too many pods away.
    Strategy,
    /// Requests met pods that had been told to stop.
    Sigterm,
    /// Requests met pods that did not listen yet.
    NotListening,
    /// It has no more pods or CPU to give.
    Overload,
    /// Its pods stay bound to a node that is gone.
    KeepsNode,
    /// It stops a pod before it starts the next one, and has no other way.
    InTurn,
    /// Requests went to a lost node until the cluster knew.
    Detection,
    /// Something else.
    Other,
}

impl Rule {
    /// A word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Rule::NeverReady => "never-ready",
            Rule::NeverWell => "fails-when-calm",
            Rule::Webhook => "webhook-refuses-pods",
            Rule::BudgetBlocks => "budget-blocks-drain",
            Rule::RolloutWaits => "rollout-never-ends",
            Rule::BarePod => "bare-pod",
            Rule::OneReplica => "one-replica",
            Rule::OnePlace => "one-place",
            Rule::Strategy => "update-strategy",
            Rule::Sigterm => "sigterm-race",
            Rule::NotListening => "no-readiness-probe",
            Rule::Overload => "overload",
            Rule::KeepsNode => "pods-keep-lost-node",
            Rule::InTurn => "one-stops-before-the-next-starts",
            Rule::Detection => "until-node-is-not-ready",
            Rule::Other => "other",
        }
    }

    /// Nothing that stands in a manifest prevents it.
    fn inherent(self) -> bool {
        matches!(self, Rule::Detection | Rule::KeepsNode | Rule::InTurn)
    }
}

const SIGTERM: &str = "terminating endpoint: SIGTERM race";
const NOT_LISTENING: &str = "not listening yet";

/// The rules that explain an outcome; none for a good one.
pub fn rules(workload: &Workload, trial: &str, outcome: &Outcome) -> Vec<Rule> {
    let noticed = |class: &str| {
        let found = outcome.failures.iter().find(|(name, _)| name == class);
        found.is_some_and(|(_, n)| n * NOTICED > outcome.ended)
    };
    let mut found = Vec::new();
    found.extend(main_rule(workload, trial, outcome));
    found.extend((!outcome.webhook.is_empty()).then_some(Rule::Webhook));
    if outcome.grade >= Grade::Failing {
        // Of what was down, a hook that is there is not the trouble.
        let hooks = outcome.grade != Grade::Down || linger(workload).is_some();
        found.extend((noticed(SIGTERM) && hooks).then_some(Rule::Sigterm));
        let probed = workload
            .containers()
            .any(|c| !c["readinessProbe"].is_null());
        found.extend((noticed(NOT_LISTENING) && !probed).then_some(Rule::NotListening));
    }
    // What the others explain needs no rest.
    if found.len() > 1 {
        found.retain(|rule| *rule != Rule::Other);
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn main_rule(workload: &Workload, trial: &str, outcome: &Outcome) -> Option<Rule> {
    let lost = matches!(trial, "node-loss" | "zone-loss");
    let rolls = matches!(trial, "rollout" | "bad-image");
    Some(match outcome.grade {
        Grade::None | Grade::Ok => return None,
        _ if trial == "calm" && outcome.wanted == 0 => Rule::NeverReady,
        _ if trial == "calm" => Rule::NeverWell,
        Grade::Stuck if rolls => Rule::RolloutWaits,
        Grade::Stuck => Rule::BudgetBlocks,
        _ if trial == "double-load" => Rule::Overload,
        Grade::Down if workload.kind == "Pod" => Rule::BarePod,
        Grade::Down if rolls && workload.kind == "Deployment" => Rule::Strategy,
        Grade::Down if outcome.wanted <= 1 => Rule::OneReplica,
        Grade::Down if rolls => Rule::Other,
        Grade::Down if (lost || trial == "drain") && outcome.least == 0 => Rule::OnePlace,
        Grade::Short if lost && workload.kind == "Pod" => Rule::BarePod,
        Grade::Short if lost && workload.keeps_data() => Rule::KeepsNode,
        Grade::Short if rolls && !scales(workload) => Rule::InTurn,
        Grade::Short if rolls => Rule::Strategy,
        Grade::Failing if (lost || trial == "drain") && outcome.wanted <= 1 => Rule::OneReplica,
        Grade::Failing if lost => Rule::Detection,
        _ => Rule::Other,
    })
}

/// Groups what went wrong by workload and rule, the worst first, and says what would help. The
/// outcomes of the audit's subjects must be filled in.
pub fn advise(audit: &mut Audit, survey: &Survey) {
    let mut findings: Vec<Finding> = Vec::new();
    for (subject, workload) in survey.workloads.iter().enumerate() {
        let outcomes = audit.subjects[subject].outcomes.iter().enumerate();
        for (trial, outcome) in outcomes {
            for rule in rules(workload, &audit.trials[trial].name, outcome) {
                let same = |f: &&mut Finding| f.subject == subject && f.rule == rule.name();
                match findings.iter_mut().find(same) {
                    Some(known) => known.trials.push(trial),
                    None => findings.push(Finding {
                        subject,
                        trials: vec![trial],
                        rule: rule.name().into(),
                        inherent: rule.inherent(),
                        why: why(rule, workload, outcome),
                        advice: advice(rule, workload),
                        ..Finding::default()
                    }),
                }
            }
        }
    }
    for finding in &mut findings {
        let outcomes = &audit.subjects[finding.subject].outcomes;
        finding
            .trials
            .sort_by_key(|trial| std::cmp::Reverse(badness(&outcomes[*trial])));
        finding.grade = outcomes[finding.trials[0]].grade;
    }
    let outcomes = |f: &Finding| badness(&audit.subjects[f.subject].outcomes[f.trials[0]]);
    findings.sort_by_key(|f| (f.inherent, std::cmp::Reverse(outcomes(f)), f.subject));
    // Autoscalers come last: they keep at least what the other fixes ask for.
    for late in [false, true] {
        let overload = |f: &&mut Finding| (f.rule == Rule::Overload.name()) == late;
        for finding in findings.iter_mut().filter(overload) {
            let workload = &survey.workloads[finding.subject];
            let webhook = &audit.subjects[finding.subject].outcomes[finding.trials[0]].webhook;
            let guard = survey.guards.iter().find(|guard| *guard.name == **webhook);
            finding.fix = match guard.filter(|_| finding.rule == Rule::Webhook.name()) {
                Some(guard) => leave_out_its_own(guard, &mut audit.fixes),
                None => fix(&finding.rule, workload, &mut audit.fixes),
            };
        }
    }
    audit.findings = findings;
}

/// Fills in what is left of each finding now that the fixed outcomes are known.
pub fn compare(audit: &mut Audit, survey: &Survey) {
    let mut findings = std::mem::take(&mut audit.findings);
    for finding in &mut findings {
        let fixed = &audit.subjects[finding.subject].fixed;
        if fixed.is_empty() || finding.fix.is_none() {
            continue;
        }
        let workload = &survey.workloads[finding.subject];
        let again = |trial: &&usize| {
            let rules = rules(workload, &audit.trials[**trial].name, &fixed[**trial]);
            rules.iter().any(|rule| rule.name() == finding.rule)
        };
        finding.gone = !finding.trials.iter().any(|trial| again(&trial));
    }
    audit.findings = findings;
}

fn why(rule: Rule, workload: &Workload, outcome: &Outcome) -> String {
    let causes = outcome
        .failures
        .iter()
        .take(2)
        .map(|(cause, _)| cause.as_str());
    let causes: Vec<&str> = causes.collect();
    match rule {
        Rule::NeverReady => "its pods are not ready even when nothing happens".into(),
        Rule::Webhook => format!(
            "webhook {} could not be asked, and without its answer no pod is created",
            outcome.webhook
        ),
        Rule::BudgetBlocks => {
            let name = workload.budget.as_ref().map_or("", |b| b.name.as_str());
            format!("PodDisruptionBudget {name} never allows a pod to be evicted")
        }
        Rule::RolloutWaits => {
            "a new pod has no place while the old ones run, and no old one may go \
             before it is ready"
                .into()
        }
        Rule::BarePod => "a pod without a controller is not replaced when it is lost".into(),
        Rule::OneReplica => "its only pod is gone until the next one is ready; the pods of a lost \
             node are replaced after 50s (NotReady) + 300s (eviction)"
            .into(),
        Rule::NeverWell => format!(
            "requests fail even when nothing happens: {}",
            causes.join(", ")
        ),
        Rule::OnePlace => format!("all its {} pods were in that place", outcome.wanted),
        Rule::Strategy => "its update strategy takes pods away before new ones are ready".into(),
        Rule::Sigterm => {
            "its containers stop at once on SIGTERM, and are still sent requests until \
             every node has heard of it"
                .into()
        }
        Rule::NotListening => {
            "without a readinessProbe its pods are sent requests before they listen".into()
        }
        Rule::Overload => match &workload.autoscaler {
            Some(hpa) => format!(
                "its autoscaler came too late or was at its {} pods",
                hpa.most
            ),
            None => "its pods have no more CPU to give, and nothing adds pods".into(),
        },
        Rule::KeepsNode => "pods of a StatefulSet, and volumes, stay with a lost node until it is \
             back or its Node object is deleted"
            .into(),
        Rule::InTurn => {
            "an update stops a pod before it starts the next one, and an image that never \
             starts leaves it at that"
                .into()
        }
        Rule::Detection => "requests go to the pods of a lost node until it is NotReady \
             (node-monitor-grace-period, 50s)"
            .into(),
        Rule::Other => causes.join(", "),
    }
}

fn advice(rule: Rule, workload: &Workload) -> String {
    match rule {
        Rule::NeverReady => {
            "look at it with `rehearsal run` on the calm scenario; name the cluster's \
             own nodes with --nodes and their labels in a scenario of your own"
                .into()
        }
        Rule::NeverWell => {
            "describe how its pods behave in an AppModel beside the manifests (ports, calls)".into()
        }
        Rule::Webhook => {
            "leave the webhook's own namespace out of it (namespaceSelector), run it on two nodes, \
             and let requests pass unasked (failurePolicy: Ignore) where that is safe"
                .into()
        }
        Rule::BudgetBlocks => "let the budget allow one eviction at a time".into(),
        Rule::RolloutWaits => "let one old pod go first".into(),
        Rule::BarePod => "let a Deployment or StatefulSet own it".into(),
        Rule::OneReplica if scales(workload) => {
            "two replicas on different nodes and zones, if its pods keep no state of their own"
                .into()
        }
        Rule::OneReplica => {
            "it keeps data for one pod at a time: replicate it in the application".into()
        }
        Rule::OnePlace => "spread its pods over nodes and zones, and evict one at a time".into(),
        Rule::Strategy if scales(workload) => {
            "a rolling update that starts a pod before it stops one".into()
        }
        Rule::Strategy => {
            "it keeps data for one pod at a time: there is no update without a gap".into()
        }
        Rule::Sigterm if linger(workload).is_none() => {
            "its preStop hook is too short, or its server breaks off what it began: let it finish"
                .into()
        }
        Rule::Sigterm => "a preStop sleep that outlasts the news".into(),
        Rule::NotListening if probe(workload).is_none() => {
            "a readinessProbe (its ports are not declared, so none can be suggested)".into()
        }
        Rule::NotListening => "a readinessProbe".into(),
        Rule::Overload => "a HorizontalPodAutoscaler, or more pods or CPU to begin with".into(),
        Rule::KeepsNode => {
            "delete the Node object or taint it out-of-service when a node is lost".into()
        }
        Rule::InTurn => {
            "one replica more than the load needs, and a rollout that is watched".into()
        }
        Rule::Detection => "clients that retry elsewhere after a short timeout".into(),
        Rule::Other => "run the scenario and ask `rehearsal explain`".into(),
    }
}

/// It can have more pods than it has.
fn scales(workload: &Workload) -> bool {
    matches!(workload.kind, "Deployment" | "ReplicaSet") && !workload.keeps_data()
}

/// The number of the fix that a rule asks for; its parts are added to the workload's patch.
fn fix(rule: &str, workload: &Workload, fixes: &mut Vec<Fix>) -> Option<usize> {
    let (part, does) = match rule {
        "one-replica" if scales(workload) => {
            let mut part = spread(workload);
            if let Some(hpa) = &workload.autoscaler {
                add_least(workload, hpa, fixes);
            } else {
                part["spec"]["replicas"] = 2.into();
            }
            (part, "two replicas, spread over nodes and zones")
        }
        "one-place" if scales(workload) || workload.kind == "StatefulSet" => {
            if workload.budget.is_none() {
                add_budget(workload, fixes);
            }
            (
                spread(workload),
                "topologySpreadConstraints over nodes and zones",
            )
        }
        "update-strategy" if scales(workload) && workload.kind == "Deployment" => (
            json!({"spec": {"strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}
            }}}),
            "maxUnavailable: 0",
        ),
        "rollout-never-ends" if workload.kind == "Deployment" => (
            json!({"spec": {"strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}
            }}}),
            "maxUnavailable: 1",
        ),
        "sigterm-race" if workload.kind != "Pod" => (linger(workload)?, "preStop: sleep 10 s"),
        "no-readiness-probe" if workload.kind != "Pod" => (probe(workload)?, "readinessProbe"),
        "budget-blocks-drain" => return loosen(workload, fixes),
        "overload" if workload.kind == "Deployment" && workload.autoscaler.is_none() => {
            return Some(add_autoscaler(workload, fixes));
        }
        _ => return None,
    };
    Some(add_part(workload, part, does, fixes))
}

/// Adds to the workload's one patch.
fn add_part(workload: &Workload, part: Value, does: &str, fixes: &mut Vec<Fix>) -> usize {
    let file = format!("{}-{}.yaml", workload.name, workload.kind.to_lowercase());
    let at = place(fixes, &file, workload, || {
        head(workload.kind, &workload.json["apiVersion"], workload)
    });
    merge(&mut fixes[at].object, part);
    if !fixes[at].does.iter().any(|known| known == does) {
        fixes[at].does.push(does.to_owned());
    }
    at
}

/// The fix in this file, made when it is not there; workloads of two namespaces may share a name.
fn place(
    fixes: &mut Vec<Fix>,
    file: &str,
    workload: &Workload,
    object: impl Fn() -> Value,
) -> usize {
    let object = object();
    let same = |fix: &&Fix| {
        fix.object["kind"] == object["kind"] && fix.object["metadata"] == object["metadata"]
    };
    if let Some(at) = fixes.iter().position(|fix| same(&fix)) {
        return at;
    }
    let taken = fixes.iter().any(|fix| fix.file == file);
    let file = match taken {
        true => format!("{}-{file}", workload.namespace),
        false => file.to_owned(),
    };
    fixes.push(Fix {
        file,
        object,
        ..Fix::default()
    });
    fixes.len() - 1
}

fn head(kind: &str, version: &Value, workload: &Workload) -> Value {
    json!({
        "apiVersion": version, "kind": kind,
        "metadata": {"name": workload.name, "namespace": workload.namespace}
    })
}

/// Puts one object over another, lists of named things by name.
pub fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(from)) => {
            for item in from {
                let known = into
                    .iter()
                    .position(|old| !item["name"].is_null() && old["name"] == item["name"]);
                match known {
                    Some(at) => merge(&mut into[at], item),
                    None if into.contains(&item) => {}
                    None => into.push(item),
                }
            }
        }
        (into, from) => *into = from,
    }
}

fn template(spec: Value) -> Value {
    json!({"spec": {"template": {"spec": spec}}})
}

fn spread(workload: &Workload) -> Value {
    let over = |key: &str| {
        let mut constraint = json!({
            "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": workload.json["spec"]["selector"]
        });
        if workload.kind == "Deployment" {
            constraint["matchLabelKeys"] = json!(["pod-template-hash"]);
        }
        constraint
    };
    let constraints = [
        over("kubernetes.io/hostname"),
        over("topology.kubernetes.io/zone"),
    ];
    template(json!({"topologySpreadConstraints": constraints}))
}

/// Containers go on for ten seconds after they were told to stop.
fn linger(workload: &Workload) -> Option<Value> {
    let without = workload
        .containers()
        .filter(|c| c["lifecycle"]["preStop"].is_null());
    let containers: Vec<Value> = without
        .map(|c| json!({"name": c["name"], "lifecycle": {"preStop": {"sleep": {"seconds": 10}}}}))
        .collect();
    let grace = workload.pod_spec()["terminationGracePeriodSeconds"]
        .as_i64()
        .unwrap_or(30);
    (!containers.is_empty()).then(|| {
        template(json!({"terminationGracePeriodSeconds": grace + 10, "containers": containers}))
    })
}

fn probe(workload: &Workload) -> Option<Value> {
    let container = workload.containers().next()?;
    let port = container["ports"]
        .as_array()
        .and_then(|ports| ports.first());
    let port = port.map(|port| port["containerPort"].clone())?;
    Some(template(json!({"containers": [{
        "name": container["name"],
        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 5}
    }]})))
}

fn add_budget(workload: &Workload, fixes: &mut Vec<Fix>) {
    let file = format!("{}-poddisruptionbudget.yaml", workload.name);
    let mut object = head("PodDisruptionBudget", &"policy/v1".into(), workload);
    object["spec"] = json!({"maxUnavailable": 1, "selector": workload.json["spec"]["selector"]});
    let at = place(fixes, &file, workload, || object.clone());
    fixes[at].new = true;
    fixes[at].does = vec!["a budget: one eviction at a time".into()];
}

/// The autoscaler keeps two pods at least.
fn add_least(workload: &Workload, hpa: &Autoscaler, fixes: &mut Vec<Fix>) {
    let file = format!("{}-horizontalpodautoscaler.yaml", hpa.name);
    let at = place(fixes, &file, workload, || {
        json!({
            "apiVersion": hpa.json["apiVersion"], "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": hpa.name, "namespace": workload.namespace},
            "spec": {"minReplicas": 2.max(hpa.least), "maxReplicas": 2.max(hpa.most)}
        })
    });
    fixes[at].does = vec!["minReplicas: 2".into()];
}

/// The budget lets one pod go at a time.
fn loosen(workload: &Workload, fixes: &mut Vec<Fix>) -> Option<usize> {
    let budget = workload.budget.as_ref()?;
    let file = format!("{}-poddisruptionbudget.yaml", budget.name);
    let metadata = json!({"name": budget.name, "namespace": workload.namespace});
    let at = place(fixes, &file, workload, || {
        json!({
            "apiVersion": budget.json["apiVersion"], "kind": "PodDisruptionBudget",
            "metadata": metadata, "spec": {"minAvailable": null, "maxUnavailable": 1}
        })
    });
    fixes[at].does = vec!["maxUnavailable: 1".into()];
    Some(at)
}

fn add_autoscaler(workload: &Workload, fixes: &mut Vec<Fix>) -> usize {
    let file = format!("{}-horizontalpodautoscaler.yaml", workload.name);
    let patched = fixes.iter().find(|fix| {
        fix.object["kind"] == workload.kind
            && fix.object["metadata"]["name"] == workload.name.as_str()
            && fix.object["metadata"]["namespace"] == workload.namespace.as_str()
    });
    let patched = patched.and_then(|fix| fix.object["spec"]["replicas"].as_u64());
    let least = patched.unwrap_or_else(|| workload.replicas.into());
    let most = least * 3;
    let mut object = head(
        "HorizontalPodAutoscaler",
        &"autoscaling/v2".into(),
        workload,
    );
    object["spec"] = json!({
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": workload.kind, "name": workload.name},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [{"type": "Resource", "resource": {
            "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}
        }}]
    });
    let at = place(fixes, &file, workload, || object.clone());
    fixes[at].new = true;
    fixes[at].does = vec![format!(
        "{least} to {most} pods, for 60 % of the CPU that they ask for"
    )];
    at
}
