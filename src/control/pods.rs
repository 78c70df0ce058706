//! What controllers ask about pods: do they count, are they available, how is one made.

use std::sync::Arc;
use std::time::Duration;

use crate::api::meta::recorded;
use crate::api::pod_status::{PodConditionKind, Truth};
use crate::api::{KubeEvent, Meta, Object, OwnerRef, Pod, PodTemplate};
use crate::client::Reply;
use crate::engine::Time;
use crate::store::{ApiError, Id, Propagation, Write};

/// Neither ended nor being deleted; `pkg/controller/controller_utils.go :: IsPodActive`.
pub fn active(pod: &Pod) -> bool {
    !pod.status.phase.terminal() && !pod.meta.deleting()
}

/// Being deleted and not yet ended; `IsPodTerminating`.
pub fn terminating(pod: &Pod) -> bool {
    !pod.status.phase.terminal() && pod.meta.deleting()
}

/// Since when the pod is ready, in whole seconds as the API records it.
pub fn ready_since(pod: &Pod) -> Option<Time> {
    let condition = pod.status.condition(&PodConditionKind::Ready)?;
    (condition.status == Truth::True).then(|| recorded(condition.since))
}

/// Ready for at least `min_ready_s` seconds; `pkg/api/v1/pod/util.go :: IsPodAvailable`.
pub fn available(pod: &Pod, min_ready_s: i32, now: Time) -> bool {
    ready_since(pod).is_some_and(|since| min_ready_s == 0 || since + seconds(min_ready_s) <= now)
}

/// When the next of these ready pods becomes available; `FindMinNextPodAvailabilityCheck`.
pub fn next_availability<'a>(
    pods: impl Iterator<Item = &'a Pod>,
    min_ready_s: i32,
    now: Time,
) -> Option<Duration> {
    if min_ready_s <= 0 {
        return None;
    }
    pods.filter_map(ready_since)
        .map(|since| (since + seconds(min_ready_s)).since(now))
        .filter(|wait| !wait.is_zero())
        .min()
}

/// A count of seconds; negative ones count as none.
pub fn seconds(n: i32) -> Duration {
    Duration::from_secs(u64::try_from(n).unwrap_or(0))
}

/// A pod to create from a template, under a generated name; it shares the template's spec.
/// `GetPodFromTemplate`.
pub fn from_template(template: &PodTemplate, parent: &Meta, owners: &Arc<[OwnerRef]>) -> Pod {
    Pod {
        meta: Meta {
            namespace: parent.namespace.clone(),
            generate_name: name_prefix(&parent.name).into(),
            labels: template.labels.clone(),
            annotations: template.annotations.clone(),
            owners: owners.clone(),
            finalizers: template.finalizers(),
            ..Meta::default()
        },
        spec: template.spec.clone(),
        ..Pod::default()
    }
}

/// A KubeEvent about `object` from the controller `source`.
pub fn event<T: Object>(
    object: &T,
    source: &str,
    reason: &str,
    message: String,
    warning: bool,
) -> KubeEvent {
    let meta = object.meta();
    KubeEvent {
        kind: T::KIND,
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid,
        reason: reason.into(),
        message: message.into(),
        warning,
        source: source.into(),
    }
}

/// Whether a pod has become ready: what `minReadySeconds` count from.
pub fn became_ready(old: &Pod, new: &Pod) -> bool {
    !old.status.ready() && new.status.ready()
}

/// `RealPodControl.createPods` after the request: the event, and the error if it counts. It does not
/// when the namespace is being terminated, and there is no place for the event either.
pub fn created<T: Object>(
    owner: &T,
    source: &str,
    reply: &Reply,
    events: &mut Vec<KubeEvent>,
) -> Option<String> {
    match reply {
        Ok(receipt) => {
            let name = receipt.row.as_ref().map(|r| r.meta().name.clone());
            let message = format!("Created pod: {}", name.unwrap_or_default());
            events.push(event(owner, source, "SuccessfulCreate", message, false));
            None
        }
        Err(error) if error.namespace_terminating() => None,
        Err(error) => {
            let message = format!("Error creating: {error}");
            events.push(event(owner, source, "FailedCreate", message, true));
            Some(error.to_string())
        }
    }
}

/// `RealPodControl.DeletePod` after the request.
pub fn deleted<T: Object>(
    owner: &T,
    source: &str,
    reply: &Reply,
    events: &mut Vec<KubeEvent>,
) -> Option<String> {
    match reply {
        Ok(receipt) => {
            let name = receipt.row.as_ref().map(|r| r.meta().name.clone());
            let message = format!("Deleted pod: {}", name.unwrap_or_default());
            events.push(event(owner, source, "SuccessfulDelete", message, false));
            None
        }
        Err(ApiError::NotFound(_)) => None,
        Err(error) => {
            let message = format!("Error deleting: {error}");
            events.push(event(owner, source, "FailedDelete", message, true));
            Some(format!("unable to delete pods: {error}"))
        }
    }
}

/// The deletion of exactly this pod.
pub fn delete(id: Id<Pod>, pod: &Pod) -> Write {
    Write::Delete {
        object: id.into(),
        uid: Some(pod.meta.uid),
        grace_s: None,
        propagation: Propagation::Background,
    }
}

/// `getPodsPrefix`: a dash follows the controller's name unless that would be too long for a name.
pub fn name_prefix(controller: &str) -> String {
    // 253 is the limit of a DNS subdomain.
    let dash = if controller.len() < 253 { "-" } else { "" };
    format!("{controller}{dash}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::pod_status::PodCondition;

    fn ready_at(ms: u64) -> Pod {
        let mut pod = Pod::default();
        pod.status.set_condition(PodCondition {
            kind: PodConditionKind::Ready,
            status: Truth::True,
            since: Time::from_millis(ms),
            reason: None,
            message: None,
            observed_generation: 0,
        });
        pod
    }

    #[test]
    fn a_pod_has_the_finalizers_of_its_template() {
        let source = serde_json::json!({"metadata": {"finalizers": ["example.com/hold"]}});
        let template = PodTemplate {
            source: source.into(),
            ..PodTemplate::default()
        };
        let pod = from_template(&template, &Meta::default(), &Arc::default());
        let finalizers: Vec<&str> = pod.meta.finalizers.iter().map(|f| f.as_str()).collect();
        assert_eq!(finalizers, ["example.com/hold"]);
    }

    #[test]
    fn availability_counts_from_the_recorded_second() {
        // ready at 2.4 s is recorded as 2 s; with 5 s it is available at 7 s
        let pod = ready_at(2_400);
        assert!(!available(&pod, 5, Time::from_millis(6_999)));
        assert!(available(&pod, 5, Time::from_secs(7)));
        assert!(available(&pod, 0, Time::from_millis(2_400)));
        assert!(!available(&Pod::default(), 0, Time::from_secs(9)));
    }

    #[test]
    fn the_next_check_is_for_the_pod_that_is_ready_longest_but_not_available() {
        let pods = [ready_at(1_000), ready_at(3_200), ready_at(5_900)];
        let next = |now_s, min_ready_s| {
            next_availability(pods.iter(), min_ready_s, Time::from_secs(now_s))
                .map(|wait| wait.as_secs())
        };
        // available at 1 + 3, 3 + 3 and 5 + 3 s
        assert_eq!(next(2, 3), Some(2));
        assert_eq!(next(4, 3), Some(2));
        assert_eq!(next(7, 3), Some(1));
        assert_eq!(next(8, 3), None);
        assert_eq!(next(2, 0), None);
    }
}
