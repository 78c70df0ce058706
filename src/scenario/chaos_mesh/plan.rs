//! Schedule and Workflow of Chaos Mesh, from unchanged files.
//!
//! Templates of the types Serial, Parallel, Suspend, Schedule and of the modelled faults are read;
//! Task and StatusCheck, which run containers and ask addresses, are refused by name. `historyLimit`
//! and `startingDeadlineSeconds` are read and not needed: nothing is kept, and nothing is late.

use std::time::Duration;

use super::{KINDS, foreign, read_fault, refused};
use crate::api::Text;
use crate::api::cron::Schedule;
use crate::api::yaml::Node;
use crate::fault::{Fault, FaultPlan, PlanNode};
use crate::scenario::diagnostic::Diagnostic;
use crate::scenario::fields::{Fields, Problems, Value};
use crate::scenario::spec;

/// The field that holds the spec of a fault of this kind.
fn field_of(kind: &str) -> Option<&'static str> {
    const FIELDS: [&str; 5] = [
        "podChaos",
        "networkChaos",
        "stressChaos",
        "dnsChaos",
        "httpChaos",
    ];
    let at = KINDS.iter().position(|known| *known == kind)?;
    Some(FIELDS[at])
}

/// Whether a document of Chaos Mesh is a plan.
pub fn is_plan(node: &Node) -> bool {
    let kind = node.get("kind").and_then(Node::as_str);
    matches!(kind, Some("Schedule" | "Workflow"))
}

/// Where the faults of a plan are, and what they are called by.
struct Around<'a> {
    name: Text,
    namespace: Text,
    problems: &'a mut Problems,
}

/// Reads a Schedule or a Workflow.
pub fn read(node: &Node, namespace: &Text, problems: &mut Problems) -> Option<FaultPlan> {
    let fields = Fields::document(node);
    let kind = node.get("kind").and_then(Node::as_str).unwrap_or_default();
    let mut metadata = Problems::new();
    let (name, namespace) = spec::metadata(&fields, namespace, &mut metadata);
    problems.extend(foreign(metadata));
    let spec = fields
        .require("spec", problems)
        .and_then(|value| value.fields(problems))?;
    let name = name?;
    let mut around = Around {
        name: name.clone(),
        namespace,
        problems,
    };
    let root = match kind {
        "Schedule" => around.schedule(&spec, None),
        _ => around.workflow(&spec),
    };
    let mut unknown = Problems::new();
    spec.finish(&mut unknown);
    problems.extend(foreign(unknown));
    Some(FaultPlan {
        kind: Text::from(kind),
        name,
        root: root?,
    })
}

impl Around<'_> {
    fn schedule(&mut self, spec: &Fields<'_>, deadline: Option<Duration>) -> Option<PlanNode> {
        spec.allow(&["historyLimit", "startingDeadlineSeconds"]);
        let line = spec.require("schedule", self.problems);
        let schedule = line.and_then(|value| {
            let text = value.text(self.problems)?;
            let parsed = Schedule::parse(&text);
            if let Err(error) = &parsed {
                let wrong = value.invalid(error);
                let seconds = text.split_whitespace().count() == 6;
                self.problems.push(match seconds {
                    true => wrong.hint("a field for seconds is not modelled"),
                    false => wrong,
                });
            }
            parsed.ok()
        });
        let forbid = match spec.get("concurrencyPolicy") {
            Some(value) => value.word(&["Forbid", "Allow"], self.problems)? == "Forbid",
            None => true,
        };
        let value = spec.require("type", self.problems)?;
        let kind = value.text(self.problems)?;
        let what = match (kind.as_str(), field_of(&kind)) {
            ("Workflow", _) => {
                let inner = spec.require("workflow", self.problems)?;
                let inner = inner.fields(self.problems)?;
                let what = self.workflow(&inner);
                self.finish(&inner);
                what?
            }
            (_, Some(field)) => {
                let fault = self.fault(spec, &kind, field)?;
                let deadline = None;
                PlanNode::Once { fault, deadline }
            }
            _ => {
                self.problems.push(refused(&value, kind.as_str()));
                // Its field is not a mistake beside.
                return None;
            }
        };
        Some(PlanNode::Repeat {
            schedule: schedule?,
            forbid,
            what: Box::new(what),
            deadline,
        })
    }

    fn finish(&mut self, fields: &Fields<'_>) {
        let mut unknown = Problems::new();
        fields.finish(&mut unknown);
        self.problems.extend(foreign(unknown));
    }

    fn fault(&mut self, of: &Fields<'_>, kind: &str, field: &'static str) -> Option<Box<Fault>> {
        let value = of.require(field, self.problems)?;
        let span = value.span();
        let fields = value.fields(self.problems)?;
        let fault = read_fault(kind, &fields, &self.namespace, self.problems);
        self.finish(&fields);
        fault.map(|fault| {
            Box::new(Fault {
                name: self.name.clone(),
                span,
                ..fault
            })
        })
    }

    fn workflow(&mut self, spec: &Fields<'_>) -> Option<PlanNode> {
        let entry = spec.require("entry", self.problems);
        let list = spec.require("templates", self.problems)?;
        let mut templates: Vec<(Text, Value<'_>)> = Vec::new();
        for item in list.list(self.problems) {
            let Some(name) = item.node.get("name").and_then(Node::as_str) else {
                let missing =
                    Diagnostic::error("FieldValueRequired", "Required value", item.span());
                self.problems
                    .push(missing.at(format!("{}.name", item.path)));
                return None;
            };
            if templates.iter().any(|(known, _)| known == name) {
                let twice = item.invalid(format!(
                    "template name must be unique, duplicated names: {name}"
                ));
                self.problems.push(twice);
                return None;
            }
            templates.push((Text::from(name), item));
        }
        let entry = entry?;
        let first = entry.name(self.problems)?;
        let outer = self.name.clone();
        let root = self.template(&first, &entry, &templates, &mut Vec::new());
        self.name = outer;
        root
    }

    /// The template of this name, which `at` asks for; `above` are those that lead to it.
    fn template(
        &mut self,
        name: &Text,
        at: &Value<'_>,
        templates: &[(Text, Value<'_>)],
        above: &mut Vec<Text>,
    ) -> Option<PlanNode> {
        let Some((_, value)) = templates.iter().find(|(known, _)| known == name) else {
            let wrong = at.invalid(format!("can not find a template with name {name}"));
            let known = templates.iter().map(|(known, _)| known.as_str());
            self.problems.push(wrong.suggest(name, known));
            return None;
        };
        if above.contains(name) {
            let path: Vec<&str> = above.iter().map(Text::as_str).collect();
            let message = format!("leads back to itself: {} → {name}", path.join(" → "));
            self.problems.push(at.invalid(message));
            return None;
        }
        let fields = value.fields(self.problems)?;
        fields.allow(&["name"]);
        let deadline = fields.duration("deadline", self.problems);
        let of = fields.require("templateType", self.problems)?;
        let word = of.text(self.problems)?;
        self.name = name.clone();
        above.push(name.clone());
        let node = match word.as_str() {
            "Serial" | "Parallel" => {
                let items = fields.list("children", self.problems);
                let children: Vec<Option<PlanNode>> = items
                    .iter()
                    .map(|item| {
                        let child = item.name(self.problems)?;
                        self.template(&child, item, templates, above)
                    })
                    .collect();
                let children: Option<Vec<PlanNode>> = children.into_iter().collect();
                children.map(|children| match word.as_str() {
                    "Serial" => PlanNode::Serial { children, deadline },
                    _ => PlanNode::Parallel { children, deadline },
                })
            }
            "Suspend" => {
                if deadline.is_none() {
                    let message =
                        "deadline in template with type Suspend could not be empty".to_owned();
                    self.problems.push(value.invalid(message));
                }
                deadline.map(PlanNode::Suspend)
            }
            "Schedule" => fields.fields("schedule", self.problems).and_then(|inner| {
                let node = self.schedule(&inner, deadline);
                self.finish(&inner);
                node
            }),
            word => self.chaos(word, &of, &fields, deadline),
        };
        above.pop();
        if node.is_some() {
            self.finish(&fields);
        }
        node
    }

    fn chaos(
        &mut self,
        kind: &str,
        of: &Value<'_>,
        fields: &Fields<'_>,
        deadline: Option<Duration>,
    ) -> Option<PlanNode> {
        let Some(field) = field_of(kind) else {
            let known = kind.ends_with("Chaos") || ["Task", "StatusCheck"].contains(&kind);
            self.problems.push(match known {
                true => refused(of, &format!("templateType {kind}")),
                false => of.invalid(format!("unrecognized template type: {kind}")),
            });
            return None;
        };
        let fault = self.fault(fields, kind, field)?;
        if fault.duration.is_some() {
            let message = "should not define duration in chaos when using Workflow, use \
                           Template#Deadline instead.";
            self.problems.push(of.invalid(message));
            return None;
        }
        Some(PlanNode::Once { fault, deadline })
    }
}
