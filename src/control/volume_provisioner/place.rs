//! Where a volume is made, and which nodes can use it.
//!
//! A driver says in CSINodes by which labels its volumes are told apart (`topologyKeys`); where
//! there are none, what is known of the provisioner is taken ([`storage::topology`]). A volume
//! belongs to the segment of the node that waits for it; one that nobody waits for goes to a segment
//! that depends on the claim's name. After
//! `kubernetes-csi/external-provisioner/pkg/controller/topology.go`.

use crate::api::affinity::NodeSelectorTerm;
use crate::api::selector::{Operator, Requirement};
use crate::api::{
    CSINode, Labels, Node, PersistentVolume, PersistentVolumeClaim, StorageClass, Text, storage,
};
use crate::control::volume_binder::SELECTED_NODE;
use crate::engine::draws::entity_key;
use crate::store::View;

/// The labels of the nodes that can use a volume, by key; without any, all nodes can.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment(Vec<(Text, Text)>);

/// Why there is no place for a volume.
#[derive(Debug, PartialEq)]
pub enum NoPlace {
    /// Another node may do: the scheduler is asked again.
    Elsewhere(String),
    /// It is tried again later.
    Later(String),
}

impl Segment {
    /// As labels.
    pub fn labels(&self) -> Labels {
        self.0.iter().cloned().collect()
    }

    /// As the node affinity of a volume (`GenerateVolumeNodeAffinity`).
    pub fn affinity(&self) -> Option<Vec<NodeSelectorTerm>> {
        let expressions = self.0.iter().map(|(key, value)| Requirement {
            key: key.clone(),
            operator: Operator::In,
            values: vec![value.clone()],
        });
        (!self.0.is_empty()).then(|| {
            vec![NodeSelectorTerm {
                expressions: expressions.collect(),
                fields: Vec::new(),
            }]
        })
    }

    /// The segment that a volume belongs to, by its node affinity.
    pub fn of_volume(volume: &PersistentVolume) -> Segment {
        let terms = volume.node_affinity.as_deref().unwrap_or_default();
        let requirements = terms.iter().flat_map(|term| &term.expressions);
        let pairs = requirements.filter_map(|r| match (r.operator, r.values.as_slice()) {
            (Operator::In, [value]) => Some((r.key.clone(), value.clone())),
            _ => None,
        });
        Segment::sorted(pairs.collect())
    }

    /// The values of these labels; `None` when the node lacks one.
    fn of_node(node: &Node, keys: &[Text]) -> Option<Segment> {
        let pairs = keys.iter().map(|key| {
            let value = node.meta.labels.get(key)?;
            Some((key.clone(), value.clone()))
        });
        Some(Segment::sorted(pairs.collect::<Option<_>>()?))
    }

    fn sorted(mut pairs: Vec<(Text, Text)>) -> Segment {
        pairs.sort();
        Segment(pairs)
    }
}

/// Where the volume of a claim is to be made (`GenerateAccessibilityRequirements`, whose first
/// preference the driver follows).
pub fn place(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    view: &View,
) -> Result<Segment, NoPlace> {
    match claim.meta.annotations.get(SELECTED_NODE) {
        Some(name) => of_selected(name, class, view),
        None => of_name(claim, class, view),
    }
}

/// The labels that a driver's CSINode names; none where the class itself says where its volumes
/// are.
fn driver_keys<'v>(class: &StorageClass, node: &'v CSINode) -> &'v [Text] {
    match storage::zonal(class) {
        Some(_) => &[],
        None => node.topology_keys(&class.provisioner),
    }
}

fn of_selected(name: &Text, class: &StorageClass, view: &View) -> Result<Segment, NoPlace> {
    let Some((_, node)) = view.nodes().named(&Text::default(), name) else {
        let why = format!("failed to get selected node {name}: nodes \"{name}\" not found");
        return Err(NoPlace::Elsewhere(why));
    };
    let csi = view.of::<CSINode>().named(&Text::default(), name);
    let keys = csi.map_or(&[][..], |(_, csi)| driver_keys(class, csi));
    if keys.is_empty() {
        let known = storage::topology(class).map(Text::from);
        let keys: Vec<Text> = known.into_iter().collect();
        return Ok(Segment::of_node(node, &keys).unwrap_or_default());
    }
    Segment::of_node(node, keys).ok_or_else(|| {
        NoPlace::Later(format!(
            "error generating accessibility requirements: topology labels from selected node \
             {name} does not match topology keys from CSINode [{}]",
            keys.join(" ")
        ))
    })
}

/// Nobody waits for the volume: claims of one set are spread over the segments
/// (`getPVCNameHashAndIndexOffset`).
fn of_name(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    view: &View,
) -> Result<Segment, NoPlace> {
    let mut drivers = view.of::<CSINode>().iter();
    let said = drivers.find_map(|(_, csi)| {
        let keys = driver_keys(class, csi);
        (!keys.is_empty()).then(|| keys.to_vec())
    });
    let known = || storage::topology(class).map(|key| vec![Text::from(key)]);
    let from_driver = said.is_some();
    let Some(keys) = said.or_else(known) else {
        return Ok(Segment::default());
    };
    let mut segments = if class.allowed_topologies.is_empty() {
        let nodes = view.nodes().iter();
        nodes
            .filter_map(|(_, node)| Segment::of_node(node, &keys))
            .collect()
    } else {
        allowed(class)
    };
    segments.sort();
    segments.dedup();
    let (name, ordinal) = match claim.meta.name.rsplit_once('-') {
        Some((name, digits)) => (name, digits.parse::<u64>().unwrap_or(0)),
        None => (claim.meta.name.as_str(), 0),
    };
    let count = u64::try_from(segments.len()).unwrap_or(0);
    let at = entity_key(&[name]).wrapping_add(ordinal).checked_rem(count);
    match at.and_then(|at| usize::try_from(at).ok()) {
        Some(at) => Ok(segments.swap_remove(at)),
        None if from_driver => Err(NoPlace::Later(
            "error generating accessibility requirements: no available topology found".into(),
        )),
        None => Ok(Segment::default()),
    }
}

/// Every combination of values that the class allows (`flatten`).
fn allowed(class: &StorageClass) -> Vec<Segment> {
    let mut all = Vec::new();
    for term in &class.allowed_topologies {
        let mut some = vec![Vec::new()];
        for (key, values) in term {
            let with = |pairs: &Vec<(Text, Text)>, value: &Text| {
                let mut pairs = pairs.clone();
                pairs.push((key.clone(), value.clone()));
                pairs
            };
            let each = some.iter();
            some = each
                .flat_map(|pairs| values.iter().map(move |value| with(pairs, value)))
                .collect();
        }
        all.extend(some.into_iter().map(Segment::sorted));
    }
    all
}
