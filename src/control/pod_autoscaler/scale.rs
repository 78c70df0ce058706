//! The scale of what an autoscaler names (`scaleForResourceMappings`).

use crate::api::autoscaling::ScaleTarget;
use crate::api::selector::LabelSelector;
use crate::api::{Deployment, Inert, Kind, ReplicaSet, StatefulSet, Text};
use crate::store::{ObjectId, View};

/// `autoscaling/v1` `Scale`.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// The object that it belongs to.
    pub object: ObjectId,
    /// `spec.replicas`.
    pub replicas: i32,
    /// `status.selector`.
    pub selector: LabelSelector,
}

/// The scale of a target.
///
/// # Errors
/// In the API server's words, or in those of the client that looks for the kind.
pub fn get(view: &View, namespace: &Text, target: &ScaleTarget) -> Result<Scale, String> {
    let (kind, name) = (target.kind.as_str(), &target.name);
    let version = target.api_version.as_str();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let scale = |object, replicas, selector: &LabelSelector| Scale {
        object,
        replicas,
        selector: selector.clone(),
    };
    let (found, kind) = match (group, kind) {
        ("apps", "Deployment") => {
            let found = view.of::<Deployment>().named(namespace, name);
            let found = found.map(|(id, row)| scale(id.into(), row.replicas, &row.selector));
            (found, Kind::Deployment)
        }
        ("apps", "ReplicaSet") => {
            let found = view.of::<ReplicaSet>().named(namespace, name);
            let found = found.map(|(id, row)| scale(id.into(), row.replicas, &row.selector));
            (found, Kind::ReplicaSet)
        }
        ("apps", "StatefulSet") => {
            let found = view.of::<StatefulSet>().named(namespace, name);
            let found = found.map(|(id, row)| scale(id.into(), row.replicas, &row.selector));
            (found, Kind::StatefulSet)
        }
        _ if served(view, group, kind) => {
            return Err("the server could not find the requested resource".to_owned());
        }
        _ => {
            return Err(format!(
                "no matches for kind \"{kind}\" in group \"{group}\""
            ));
        }
    };
    found.ok_or_else(|| format!("{}.apps \"{name}\" not found", kind.plural()))
}

/// Whether the API server has this kind, which then has no scale here.
fn served(view: &View, group: &str, kind: &str) -> bool {
    let of = |version: &str| version.split_once('/').map_or("", |(g, _)| g).to_owned();
    let ours = Kind::from_name(kind).filter(|kind| *kind != Kind::Inert);
    let defines = |object: &Inert| {
        let spec = &object.body["spec"];
        object.kind == "CustomResourceDefinition"
            && spec["group"] == group
            && spec["names"]["kind"] == kind
    };
    ours.is_some_and(|kind| of(kind.api_version()) == group)
        || view.of::<Inert>().iter().any(|(_, object)| defines(object))
}
