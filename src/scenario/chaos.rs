//! Faults out of documents: NodeChaos, our own kind; [`control_plane`] reads the other one.
//!
//! ```yaml
//! apiVersion: rehearsal.dev/v1
//! kind: NodeChaos
//! metadata: {name: lose-one}
//! spec: {action: power-off, mode: one, selector: {podsOf: deployment/frontend}, duration: 8m}
//! ```
//!
//! Actions are `power-off`, `shutdown`, `reboot`, `kubelet-stop`, `freeze`, `partition` and `stress`.
//! `mode`, `value` and `stressors` are Chaos Mesh's. Conditions of a selector must all hold; an empty selector takes every node.
//! A partition cuts the nodes off `from` places (`control-plane`, `edge`, `zone/a`, `pool/web`,
//! `node/web-1`) in both directions, or, with `to` beside it, loses packets that come from the one
//! and go to the other; without either it cuts them off everything. Chaos Mesh's kinds are read by
//! `chaos_mesh`.

use super::diagnostic::Diagnostic;
use super::fields::{Fields, Problems, Value};
use super::reference::{self, Reference};
use super::{chaos_mesh, spec};
use crate::api::Text;
use crate::api::selector::LabelSelector;
use crate::api::yaml::Node;
use crate::fault::{Action, Fault, Mode, Place, Selector, WorkloadRef};

mod control_plane;

/// A fault with the references that have to be checked later.
#[derive(Debug)]
pub struct FaultDraft {
    /// The fault.
    pub fault: Fault,
    /// Workloads that it names.
    pub references: Vec<Reference>,
    /// Zones, pools and nodes that it names.
    pub places: Vec<(Place, Diagnostic)>,
}

/// What a document is, as far as faults are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Kinds of this project.
    Own,
    /// Kinds of Chaos Mesh.
    ChaosMesh,
    /// Anything else.
    None,
}

/// Whether a document is a fault, and whose.
pub fn family(node: &Node) -> Family {
    let text = |key| node.get(key).and_then(Node::as_str).unwrap_or_default();
    match (text("apiVersion"), text("kind")) {
        (version, "NodeChaos" | "ControlPlaneChaos") if version.starts_with("rehearsal.dev/") => {
            Family::Own
        }
        (version, _) if version.starts_with("chaos-mesh.org/") => Family::ChaosMesh,
        _ => Family::None,
    }
}

/// Reads a fault; `namespace` is that of the scenario.
pub fn read(node: &Node, namespace: &Text, problems: &mut Problems) -> Option<FaultDraft> {
    let control_plane = node.get("kind").and_then(Node::as_str) == Some("ControlPlaneChaos");
    match family(node) {
        Family::ChaosMesh => chaos_mesh::read(node, namespace, problems),
        _ if control_plane => control_plane::read(node, namespace, problems),
        _ => node_chaos(node, namespace, problems),
    }
}

const ACTIONS: [&str; 7] = [
    "power-off",
    "shutdown",
    "reboot",
    "kubelet-stop",
    "freeze",
    "partition",
    "stress",
];

fn node_chaos(node: &Node, namespace: &Text, problems: &mut Problems) -> Option<FaultDraft> {
    let fields = Fields::document(node);
    let (name, namespace) = spec::metadata(&fields, namespace, problems);
    let spec = fields
        .require("spec", problems)
        .and_then(|value| value.fields(problems));
    fields.finish(problems);
    let spec = spec?;
    let word = spec
        .require("action", problems)
        .and_then(|v| v.word(&ACTIONS, problems));
    let mode = mode(&spec, problems);
    let mut draft = FaultDraft {
        fault: Fault {
            name: name.unwrap_or_default(),
            kind: Text::from("NodeChaos"),
            span: node.span,
            action: Action::PowerOff,
            selector: Selector::default(),
            mode: mode.unwrap_or(Mode::All),
            duration: spec.duration("duration", problems),
        },
        references: Vec::new(),
        places: Vec::new(),
    };
    if let Some(value) = spec.require("selector", problems) {
        draft.fault.selector = selector(&value, &namespace, &mut draft, problems);
    }
    let from = places(&spec, "from", &mut draft, problems);
    let to = places(&spec, "to", &mut draft, problems);
    draft.fault.action = action(word?, &spec, (from, to), problems)?;
    if !matches!(draft.fault.action, Action::NodePartition { .. }) {
        for key in ["from", "to"] {
            problems.extend(
                spec.get(key)
                    .map(|v| v.invalid("belongs to `action: partition`")),
            );
        }
    }
    if let (true, Some(value)) = (draft.fault.is_instant(), spec.get("duration")) {
        let warning = value.invalid("is ignored: this action is over at once");
        problems.push(Diagnostic {
            severity: super::diagnostic::Severity::Warning,
            ..warning
        });
    }
    spec.finish(problems);
    mode?;
    Some(draft)
}

/// What goes wrong, by its word.
fn action(
    word: &str,
    spec: &Fields<'_>,
    (from, to): (Option<Vec<Place>>, Option<Vec<Place>>),
    problems: &mut Problems,
) -> Option<Action> {
    if let (true, Some(value)) = (word != "stress", spec.get("stressors")) {
        problems.push(value.invalid("belongs to `action: stress`"));
    }
    Some(match word {
        "power-off" => Action::PowerOff,
        "shutdown" => Action::Shutdown,
        "reboot" => Action::Reboot,
        "kubelet-stop" => Action::KubeletStop,
        "freeze" => Action::Freeze,
        "stress" => Action::NodeStress(chaos_mesh::stressors(spec, problems)?),
        _ => partition(from, to),
    })
}

fn partition(from: Option<Vec<Place>>, to: Option<Vec<Place>>) -> Action {
    let (from, to) = match (from, to) {
        (Some(from), Some(to)) => (from, to),
        (Some(both), None) => (both.clone(), both),
        (None, Some(to)) => (Vec::new(), to),
        (None, None) => (vec![Place::Others], vec![Place::Others]),
    };
    Action::NodePartition { from, to }
}

fn places(
    spec: &Fields<'_>,
    key: &'static str,
    draft: &mut FaultDraft,
    problems: &mut Problems,
) -> Option<Vec<Place>> {
    spec.get(key)?;
    let mut places = Vec::new();
    for item in spec.list(key, problems) {
        let Some(text) = item.name(problems) else {
            continue;
        };
        let place = match text.split_once('/') {
            None if text == "control-plane" => Place::ControlPlane,
            None if text == "edge" => Place::Edge,
            Some(("zone", name)) => Place::Zone(Text::from(name)),
            Some(("pool", name)) => Place::Pool(Text::from(name)),
            Some(("node", name)) => Place::Node(Text::from(name)),
            _ => {
                let wrong = item.invalid("must be a place");
                problems.push(wrong.hint("control-plane, edge, zone/NAME, pool/NAME or node/NAME"));
                continue;
            }
        };
        draft.places.push((place.clone(), item.invalid("")));
        places.push(place);
    }
    Some(places)
}

fn selector(
    value: &Value<'_>,
    namespace: &Text,
    draft: &mut FaultDraft,
    problems: &mut Problems,
) -> Selector {
    let Some(fields) = value.fields(problems) else {
        return Selector::default();
    };
    let mut selector = Selector::default();
    if let Some(value) = fields.get("podsOf") {
        let reference = reference::workload(&value, namespace, problems);
        selector.pods_of = reference.as_ref().map(|reference| WorkloadRef {
            kind: Text::from(reference.kind.as_str()),
            namespace: reference.namespace.clone(),
            name: reference.name.clone(),
        });
        draft.references.extend(reference);
    }
    for (keys, place) in [
        (["zone", "zones"], Place::Zone as fn(Text) -> Place),
        (["pool", "pools"], Place::Pool),
        (["name", "names"], Place::Node),
    ] {
        let target = match keys[0] {
            "zone" => &mut selector.zones,
            "pool" => &mut selector.pools,
            _ => &mut selector.names,
        };
        for value in keys.iter().filter_map(|key| fields.get(key)) {
            let items = match value.node.as_list() {
                Some(_) => value.list(problems),
                None => vec![value],
            };
            for item in items {
                if let Some(name) = item.name(problems) {
                    draft.places.push((place(name.clone()), item.invalid("")));
                    target.push(name);
                }
            }
        }
    }
    if let Some(labels) = fields.get("labels") {
        selector.node_labels = LabelSelector::equals(labels.labels(problems).iter());
    }
    if let Some(more) = fields
        .get("labelSelector")
        .and_then(|v| v.selector(problems))
    {
        selector.node_labels.requirements.extend(more.requirements);
    }
    fields.finish(problems);
    selector
}

/// `mode` and `value`, as Chaos Mesh has them.
pub fn mode(fields: &Fields<'_>, problems: &mut Problems) -> Option<Mode> {
    let words = ["one", "all", "fixed", "fixed-percent", "random-max-percent"];
    let word = fields
        .require("mode", problems)
        .and_then(|value| value.word(&words, problems));
    let value = fields.get("value");
    let word = word?;
    if matches!(word, "one" | "all") {
        return Some(match word {
            "one" => Mode::One,
            _ => Mode::All,
        });
    }
    let value = value.or_else(|| fields.require("value", problems))?;
    let text = value.scalar(problems)?;
    let number = text.trim_end_matches('%').parse::<u32>().ok();
    let fits = number.filter(|number| *number > 0 && (word == "fixed" || *number <= 100));
    let Some(number) = fits else {
        problems.push(value.invalid(match word {
            "fixed" => "must be a whole number greater than 0",
            _ => "must be a whole number between 1 and 100",
        }));
        return None;
    };
    Some(match word {
        "fixed" => Mode::Fixed(number),
        "fixed-percent" => Mode::FixedPercent(number),
        _ => Mode::RandomMaxPercent(number),
    })
}
