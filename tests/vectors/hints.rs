//! `hints.jsonl`: a waiting pod, an object that was created, changed or deleted, and for each
//! plugin that registered such an event whether it says that the pod is worth another try. Recorded
//! from the real framework with random objects: `NodeSchedulingPropertiesChange` and its kin,
//! `EventsToRegister`, `MatchClusterEvents` and the queueing hints of all in-tree plugins.

use std::collections::BTreeMap;

use rehearsal::api::Row;
use rehearsal::sched::cache::Cache;
use rehearsal::sched::events::{
    ADD, ClusterEvent, DELETE, Involved, Resource, UPDATE, event, node_changes, pod_changes,
};
use rehearsal::sched::framework::Framework;
use rehearsal::sched::plugin::Cx;
use serde_json::{Value, json};

use super::scheduler::{FIELDS, decode, view_with};
use super::support::{Case, Vectors, first_difference};

/// The file. Families: what kind of object the event is about.
pub const VECTORS: Vectors = Vectors {
    name: "hints",
    id: Some("id"),
    fields: &{
        let mut fields = ["event"; FIELDS.len() + 1];
        let mut i = 0;
        while i < FIELDS.len() {
            fields[i] = FIELDS[i];
            i += 1;
        }
        fields
    },
    families: &[
        "pods",
        "nodes",
        "pvcs",
        "pvs",
        "storageclasses",
        "csinodes",
        "csidrivers",
        "csistoragecapacities",
        "volumeattachments",
    ],
    family: |case| {
        let list = case.fields.get("event").map(|event| &event["list"]);
        let list = list.and_then(Value::as_str);
        list.unwrap_or_default().to_owned()
    },
    compare,
};

fn compare(case: &Case) -> Result<(), String> {
    let (config, pod) = super::scheduler::asked(case)?;
    let event = case.fields.get("event").ok_or("no event")?;
    let row = |when: &str| match &event[when] {
        Value::Null => Ok(None),
        object => decode(object).map(|row| Some(super::scheduler::placed(row))),
    };
    let (old, new) = (row("old")?, row("new")?);
    let own = matches!(&new, Some(Row::Pod(p)) if p.meta.uid == pod.meta.uid);
    let view = view_with(case, new.clone().filter(|_| !own))?;
    let mut cache = Cache::default();
    let framework = Framework::new(&config.profiles[0], &mut cache);
    let entry = cache.entry(u32::MAX, &pod);
    let cx = Cx {
        view: &view,
        cache: &cache,
    };
    let involved = involved(old.as_ref(), new.as_ref())?;
    let happened = happened(old.as_ref(), new.as_ref(), &involved);
    let mut got: BTreeMap<&str, bool> = BTreeMap::new();
    for (plugin, events) in framework.events() {
        for happened in &happened {
            if events.iter().any(|e| e.covers(*happened)) {
                let asked = framework.plugin(plugin).ok_or("a plugin is missing")?;
                let wakes =
                    framework.unasked(plugin, *happened) || asked.hint(&cx, &entry, &involved);
                *got.entry(plugin.name()).or_default() |= wakes;
            }
        }
    }
    let expected = case.fields.get("expected").ok_or("no expectation")?;
    first_difference(expected, &json!(got)).map_or(Ok(()), Err)
}

/// What happened to which objects.
fn involved<'a>(old: Option<&'a Row>, new: Option<&'a Row>) -> Result<Involved<'a>, String> {
    macro_rules! involved {
        ($($kind:ident => $involved:ident),*) => {
            match old.or(new) {
                $(Some(Row::$kind(_)) => {
                    let old = match old { Some(Row::$kind(row)) => Some(&**row), _ => None };
                    let new = match new { Some(Row::$kind(row)) => Some(&**row), _ => None };
                    Ok(Involved::$involved(old, new))
                })*
                other => Err(format!("no event is about {other:?}")),
            }
        };
    }
    involved!(
        Pod => Pod, Node => Node, PersistentVolumeClaim => Claim, PersistentVolume => Volume,
        StorageClass => StorageClass, CSINode => CsiNode, VolumeAttachment => Attachment,
        CSIDriver => CsiDriver, CSIStorageCapacity => CsiStorageCapacity
    )
}

/// The events that the queue is told of.
fn happened(old: Option<&Row>, new: Option<&Row>, involved: &Involved<'_>) -> Vec<ClusterEvent> {
    match involved {
        Involved::Pod(Some(old), Some(new)) => return pod_changes(old, new),
        Involved::Node(Some(old), Some(new)) => return node_changes(old, new),
        _ => {}
    }
    let action = match (old, new) {
        (None, _) => ADD,
        (_, None) => DELETE,
        _ => UPDATE,
    };
    let resource = match involved {
        Involved::Pod(old, new) => match old.or(*new).is_some_and(|p| p.node_name.is_some()) {
            true => Resource::AssignedPod,
            false => Resource::UnschedulablePod,
        },
        Involved::Node(..) => Resource::Node,
        Involved::Claim(..) => Resource::PersistentVolumeClaim,
        Involved::Volume(..) => Resource::PersistentVolume,
        Involved::StorageClass(..) => Resource::StorageClass,
        Involved::CsiNode(..) => Resource::CsiNode,
        Involved::CsiDriver(..) => Resource::CsiDriver,
        Involved::CsiStorageCapacity(..) => Resource::CsiStorageCapacity,
        Involved::Attachment(..) => Resource::VolumeAttachment,
        Involved::Nothing => Resource::WildCard,
    };
    vec![event(resource, action)]
}
