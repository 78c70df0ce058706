//! Claims of a pod's own: what `volumes[].ephemeral.volumeClaimTemplate` asks for.
//!
//! A port of `pkg/controller/volume/ephemeral/controller.go`. A claim is made once per pod and
//! volume and belongs to the pod, so that it goes with it; whatever else has its name is in the way
//! and is left alone.

use serde_json::{Value, json};

use super::pods;
use crate::api::decode::{DecodeContext, decode_json};
use crate::api::pod::{Volume, VolumeSource};
use crate::api::{Kind, KubeEvent, OwnerRef, PersistentVolumeClaim, Pod, Row, Text};
use crate::client::{Controller, Keys, Plan, Reply, SyncContext, Watches};
use crate::engine::Time;
use crate::store::{Change, Id, Op, View, Write};

/// Where its KubeEvents come from.
const SOURCE: &str = "ephemeral_volume";

/// The controller.
#[derive(Debug, Default)]
pub struct EphemeralVolumeController;

fn ephemeral(volume: &Volume) -> bool {
    volume.source == VolumeSource::Ephemeral
}

/// `enqueuePod`: whether there is anything to do for a pod at all.
fn concerns(pod: &Pod) -> bool {
    !pod.meta.deleting() && pod.spec.volumes.iter().any(ephemeral)
}

/// `onPVCDelete`: the pods that may want a claim of this name.
fn wanting<'a>(
    claim: &'a PersistentVolumeClaim,
    view: &'a View,
) -> impl Iterator<Item = (Id<Pod>, &'a Pod)> {
    let (namespace, name) = (&claim.meta.namespace, &claim.meta.name);
    let ends = name.match_indices('-').map(|(at, _)| at);
    let pods = ends.filter_map(move |at| view.pods().find(namespace, &name[..at]));
    pods.map(|(id, pod)| (id, &**pod)).filter(|(_, pod)| {
        let mut volumes = pod.spec.volumes.iter().filter(|v| ephemeral(v));
        volumes.any(|v| v.names_claim(&pod.meta.name, name))
    })
}

/// The claim that a volume of a pod asks for.
fn made(pod: &Pod, volume: &Volume, name: &Text) -> Result<Row, String> {
    let written = pod.spec.source["volumes"].as_array();
    let mut written = written.into_iter().flatten();
    let found = written.find(|v| v["name"] == volume.name.as_str());
    let template = found.map(|v| &v["ephemeral"]["volumeClaimTemplate"]);
    let template = template.unwrap_or(&Value::Null);
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name.as_str(), "namespace": pod.meta.namespace.as_str()},
        "spec": template["spec"],
    });
    for field in ["labels", "annotations"] {
        if let Some(given) = template["metadata"].get(field) {
            object["metadata"][field] = given.clone();
        }
    }
    let decoded = decode_json(&object, &DecodeContext::default()).map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        format!("create PVC {name}: {}", problems.join(", "))
    })?;
    let mut row = decoded.row;
    row.meta_mut().owners = [OwnerRef {
        kind: crate::api::Kind::Pod,
        api_version: "v1".into(),
        kind_name: "Pod".into(),
        name: pod.meta.name.clone(),
        uid: pod.meta.uid,
        controller: true,
        block_owner_deletion: true,
    }]
    .into();
    Ok(row)
}

/// What is told when a volume of a pod cannot have its claim.
fn failed(pod: &Pod, volume: &str, why: &str) -> KubeEvent {
    let message = format!("ephemeral volume {volume}: {why}");
    pods::event(pod, SOURCE, "FailedBinding", message, true)
}

impl Controller for EphemeralVolumeController {
    type Key = Id<Pod>;
    const NAME: &'static str = "ephemeral-volume-controller";
    const WATCHES: Watches =
        Watches::kind(Kind::PersistentVolumeClaim).and(Watches::NEW_PODS_WITH_VOLUMES);

    fn keys(&mut self, change: &Change, view: &View, _now: Time, keys: &mut Keys<Id<Pod>>) {
        if let (Op::Create, Some((_, Some(pod)))) = (change.op, change.rows::<Pod>()) {
            let id = change.object.and_then(|o| o.typed());
            keys.now.extend(id.filter(|_| concerns(pod)));
        } else if let (Op::Delete, Some((old, new))) =
            (change.op, change.rows::<PersistentVolumeClaim>())
            && let Some(claim) = old.or(new)
        {
            let pods = wanting(claim, view).filter(|(_, pod)| concerns(pod));
            keys.now.extend(pods.map(|(id, _)| id));
        }
    }

    /// `syncHandler`, `handleVolume`.
    fn sync(&mut self, key: Id<Pod>, cx: &SyncContext<'_>) -> Plan {
        let mut plan = Plan::none();
        let pod = cx.view.pods().get(key).filter(|pod| concerns(pod));
        let Some(pod) = pod else {
            return plan;
        };
        let claims = cx.view.of::<PersistentVolumeClaim>();
        for volume in pod.spec.volumes.iter().filter(|v| ephemeral(v)) {
            let Some(name) = volume.claim_name(&pod.meta.name) else {
                continue;
            };
            let outcome = match claims.named(&pod.meta.namespace, &name) {
                Some((_, claim)) => claim.is_for(&pod.meta).map(|()| None),
                None => made(pod, volume, &name).map(Some),
            };
            match outcome {
                Ok(None) => {}
                Ok(Some(row)) => plan.write(Write::Create(row), "the pod wants a volume"),
                Err(why) => {
                    plan.event(failed(pod, &volume.name, &why));
                    let (name, volume) = (pod.meta.full_name(), &volume.name);
                    plan.error = Some(format!("pod {name}, ephemeral volume {volume}: {why}"));
                    break;
                }
            }
        }
        plan
    }

    fn on_reply(
        &mut self,
        key: Id<Pod>,
        write: &Write,
        reply: &Reply,
        cx: &SyncContext<'_>,
        events: &mut Vec<KubeEvent>,
    ) {
        if let (Err(error), Write::Create(row)) = (reply, write)
            && let Some(pod) = cx.view.pods().get(key)
        {
            let name = &row.meta().name;
            let mut volumes = pod.spec.volumes.iter();
            let volume = volumes.find(|v| v.names_claim(&pod.meta.name, name));
            let volume = volume.map_or("", |v| v.name.as_str());
            events.push(failed(pod, volume, &format!("create PVC {name}: {error}")));
        }
    }

    fn resync(&mut self, view: &View, _now: Time, keys: &mut Keys<Id<Pod>>) {
        let pods = view.pods().iter().filter(|(_, pod)| concerns(pod));
        keys.now.extend(pods.map(|(id, _)| id));
    }

    fn restart(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Kind;
    use crate::control::desk::{Desk, PLAIN};
    use crate::store::{ApiError, Patch};

    fn volume(name: &str) -> Value {
        let spec = json!({
            "accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
            "resources": {"requests": {"storage": "1Gi"}}
        });
        let metadata = json!({"labels": {"kind": "scratch"}, "annotations": {"a": "b"}});
        let template = json!({"metadata": metadata, "spec": spec});
        json!({"name": name, "ephemeral": {"volumeClaimTemplate": template}})
    }

    fn pod(name: &str, volumes: &[Value]) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "image": "x"}], "volumes": volumes}
        })
    }

    fn claim(name: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}
            }
        })
    }

    /// After `controller_test.go :: TestSyncHandler`.
    #[test]
    fn a_pod_gets_its_claims_once() {
        let two = [volume("v1"), volume("v2")];
        let mixed = [json!({"name": "e", "emptyDir": {}}), volume("v1")];
        let taken = "warning FailedBinding: ephemeral volume v1: PVC default/p-v1 was not created for pod \
                     default/p (pod is not owner)";
        type Case<'a> = (&'a str, &'a [Value], &'a [Value], &'a str, &'a str);
        let table: [Case<'_>; 5] = [
            ("nothing to make", &[], &mixed[..1], "", ""),
            ("one of two kinds", &[], &mixed, "+claim p-v1", ""),
            ("two", &[], &two, "+claim p-v1, +claim p-v2", ""),
            ("name taken", &[claim("p-v1")], &two, "", taken),
            (
                "second taken",
                &[claim("p-v2")],
                &two,
                "+claim p-v1",
                "warning FailedBinding: ephemeral volume v2: PVC default/p-v2 was not created for pod \
                 default/p (pod is not owner)",
            ),
        ];
        for (name, before, volumes, log, events) in table {
            let mut desk = Desk::new(EphemeralVolumeController, PLAIN, before);
            desk.create(&pod("p", volumes));
            assert_eq!(desk.log(), log, "{name}");
            assert_eq!(desk.events().join(", "), events, "{name}");
        }
    }

    #[test]
    fn a_claim_is_made_as_its_template_says_and_is_the_pods() {
        let pod = pod("p", &[volume("v")]);
        let desk = Desk::new(EphemeralVolumeController, PLAIN, &[pod]);
        let (_, owner) = desk.only::<Pod>();
        let (_, claim) = desk.only::<PersistentVolumeClaim>();
        let labels = |key: &str| claim.meta.labels.get(key).map(|v| v.as_str());
        assert_eq!(labels("kind"), Some("scratch"));
        assert_eq!(
            claim.meta.annotations.get("a").map(|v| v.as_str()),
            Some("b")
        );
        assert_eq!(claim.storage_class.as_deref(), Some("fast"));
        assert_eq!(
            (claim.request, claim.is_for(&owner.meta)),
            (Some(1 << 30), Ok(()))
        );
        let of = &claim.meta.owners[0];
        let told = (of.kind, of.controller, of.block_owner_deletion);
        assert_eq!(told, (Kind::Pod, true, true));
    }

    /// A claim that cannot be made is asked for again, and the pod hears of it.
    #[test]
    fn a_claim_that_is_refused_is_asked_for_again() {
        let mut desk = Desk::new(EphemeralVolumeController, PLAIN, &[]);
        desk.refuses = Some(|_| Some(ApiError::Forbidden("quota".into())));
        desk.create(&pod("p", &[volume("v1"), volume("v2")]));
        assert_eq!(desk.log(), "+claim p-v1 (403)");
        let events = desk.events().join(", ");
        let told = "warning FailedBinding: ephemeral volume v1: create PVC p-v1: quota";
        assert_eq!(events, told);
        desk.refuses = None;
        desk.pass(1.0);
        assert_eq!(desk.log(), "+claim p-v1, +claim p-v2");
    }

    /// `onPVCDelete`: a claim that somebody deletes is made again, unless the pod is going.
    #[test]
    fn a_claim_that_is_gone_is_made_again() {
        let going = "a-b running, a-b terminating";
        for (states, log) in [("a-b running", "+claim a-b-v-1"), (going, "")] {
            let pods = [pod("a-b", &[volume("v-1")]), pod("a", &[volume("other")])];
            let mut desk = Desk::new(EphemeralVolumeController, PLAIN, &pods);
            assert_eq!(desk.log(), "+claim a-b-v-1, +claim a-other");
            desk.pods(states);
            let claim = desk.find(Kind::PersistentVolumeClaim, "a-b-v-1");
            desk.write(&Write::Patch {
                object: claim,
                uid: None,
                patch: Patch::Finalizers([].into()),
            });
            desk.delete(claim);
            assert_eq!(desk.log(), log, "{states}");
        }
    }
}
