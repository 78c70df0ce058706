//! Tables of LimitRanges, and what becomes of pods and claims under them.
//!
//! After `plugin/pkg/admission/limitranger/admission_test.go :: TestMergePodResourceRequirements`,
//! `TestPodLimitFunc`, `TestPodLimitFuncApplyDefault`, `TestPersistentVolumeClaimLimitFunc`.

use serde_json::{Value, json};

use crate::api::decode::{DecodeContext, decode_json};
use crate::api::print::to_json;
use crate::engine::{Draws, Time};
use crate::store::{Cause, Store, Write};

/// Creates `object` in a namespace with a LimitRange of these items.
fn create(limits: &Value, object: &Value) -> Result<Value, String> {
    let mut store = Store::new(Draws::new(1));
    let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"},
        "spec": {"limits": limits}});
    let mut write = |object: &Value| {
        let row = decode_json(object, &DecodeContext::default())
            .expect("valid")
            .row;
        store.write(&Write::Create(row), Time::ZERO, Cause::default())
    };
    write(&range).expect("a range");
    match write(object) {
        Ok(receipt) => Ok(to_json(&receipt.row.expect("an object"))),
        Err(error) => Err(error.to_string()),
    }
}

/// A pod of containers `c`, `d`, … with these resources.
fn pod(resources: &[Value]) -> Value {
    let names = ["c", "d"].iter();
    let containers = names
        .zip(resources)
        .map(|(name, resources)| json!({"name": name, "image": "i:1", "resources": resources}));
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": containers.collect::<Value>()}})
}

fn both(cpu: &str, memory: &str) -> Value {
    let amounts = json!({"cpu": cpu, "memory": memory});
    json!({"requests": amounts, "limits": amounts})
}

/// What the server says of pods under these limits; nothing when they are let in.
fn table(limits: &Value, cases: &[(&[Value], &str)]) {
    for (resources, message) in cases {
        let said = create(limits, &pod(resources)).err().unwrap_or_default();
        let message = message.replace("FORBIDDEN", "pods \"p\" is forbidden:");
        assert_eq!(said, message, "{limits} {resources:?}");
    }
}

#[test]
fn containers_get_what_they_do_not_name() {
    let limits = json!([{"type": "Container", "default": {"cpu": "200m", "memory": "64Mi"},
        "defaultRequest": {"cpu": "100m"}}]);
    let requests = json!({"requests": {"cpu": "50m"}});
    let most = json!({"limits": {"cpu": "1"}});
    let made = create(&limits, &pod(&[requests, most])).expect("created");
    let resources = |at: usize| made["spec"]["containers"][at]["resources"].clone();
    assert_eq!(
        resources(0),
        json!({"requests": {"cpu": "50m", "memory": "64Mi"},
            "limits": {"cpu": "200m", "memory": "64Mi"}})
    );
    // A limit that was written was the request before the LimitRange came.
    assert_eq!(
        resources(1),
        json!({"requests": {"cpu": "1", "memory": "64Mi"},
            "limits": {"cpu": "1", "memory": "64Mi"}})
    );
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        json!(
            "LimitRanger plugin set: memory request for container c; cpu, memory limit for \
               container c; memory request for container d; memory limit for container d"
        )
    );
}

/// The defaults come before the object is validated, the limits are held against it after.
#[test]
fn a_request_above_a_limit_that_came_by_default_is_invalid() {
    let says = |at: usize, request: &str, limit: &str| {
        format!(
            "Pod \"p\" is invalid: spec.containers[{at}].resources.requests: Invalid value: \
             \"{request}\": must be less than or equal to cpu limit of {limit}"
        )
    };
    let limits = json!([{"type": "Container", "max": {"cpu": "500m"}}]);
    let fits = json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "500m"}});
    let more = json!({"requests": {"cpu": "600m"}});
    let high = json!({"limits": {"cpu": "600m"}});
    table(
        &limits,
        &[
            (&[json!({})], ""),
            (std::slice::from_ref(&fits), ""),
            (
                &[high],
                "FORBIDDEN maximum cpu usage per Container is 500m, but limit is 600m",
            ),
            (std::slice::from_ref(&more), &says(0, "600m", "500m")),
            (&[fits.clone(), more.clone()], &says(1, "600m", "500m")),
        ],
    );
}

#[test]
fn containers_keep_to_minimum_and_ratio() {
    let limits = json!([{"type": "Container", "min": {"cpu": "100m", "memory": "10Mi"}}]);
    let low = "FORBIDDEN minimum cpu usage per Container is 100m, but request is 50m";
    let both_low = "FORBIDDEN [minimum cpu usage per Container is 100m, but request is 50m, \
                    minimum memory usage per Container is 10Mi, but request is 5Mi]";
    table(
        &limits,
        &[
            // The minimum is the request of who names none.
            (&[json!({})], ""),
            (&[json!({"requests": {"cpu": "100m"}})], ""),
            (
                &[json!({"requests": {"cpu": "50m", "memory": "10Mi"}})],
                low,
            ),
            (
                &[json!({"requests": {"cpu": "50m", "memory": "5Mi"},
                    "limits": {"cpu": "80m", "memory": "20Mi"}})],
                both_low,
            ),
        ],
    );
    let ratio = json!([{"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}]);
    let says = |what: &str| {
        format!("FORBIDDEN cpu max limit to request ratio per Container is 2, but {what}")
    };
    let of = |request: &str, limit: &str| json!({"requests": {"cpu": request}, "limits": {"cpu": limit}});
    table(
        &ratio,
        &[
            (
                &[json!({})],
                &says("no request is specified or request is 0"),
            ),
            (
                &[json!({"requests": {"cpu": "100m"}})],
                &says("no limit is specified or limit is 0"),
            ),
            // 200 / 100 = 2, 250 / 100 = 2.5; a limit alone is its own request.
            (&[of("100m", "200m")], ""),
            (&[of("100m", "250m")], &says("provided ratio is 2.500000")),
            (&[json!({"limits": {"cpu": "1"}})], ""),
        ],
    );
}

#[test]
fn a_pod_is_held_to_the_sum_of_its_containers() {
    let limits = json!([{"type": "Pod", "max": {"cpu": "1"}, "min": {"memory": "100Mi"}}]);
    let half = both("500m", "60Mi");
    let whole = both("1", "60Mi");
    table(
        &limits,
        &[
            (
                &[json!({})],
                "FORBIDDEN [minimum memory usage per Pod is 100Mi.  No request is specified, \
                 maximum cpu usage per Pod is 1.  No limit is specified]",
            ),
            // 500 + 500 = 1,000 milli-CPUs, 60 + 60 = 120 MiB.
            (&[half.clone(), half], ""),
            (
                &[whole.clone(), whole],
                "FORBIDDEN maximum cpu usage per Pod is 1, but limit is 2",
            ),
        ],
    );
    // An init container counts when it needs more than all others together.
    let mut object = pod(&[both("100m", "100Mi")]);
    let init = json!({"name": "i", "image": "i:1",
        "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}});
    object["spec"]["initContainers"] = json!([init]);
    let said = create(&limits, &object).expect_err("too much");
    assert_eq!(
        said,
        "pods \"p\" is forbidden: maximum cpu usage per Pod is 1, but limit is 2"
    );
    // 150 / 100 = 1.5, 160 / 100 = 1.6.
    let ratio = json!([{"type": "Pod", "maxLimitRequestRatio": {"memory": "1500m"}}]);
    let of = |limit: &str| json!({"requests": {"memory": "100Mi"}, "limits": {"memory": limit}});
    table(
        &ratio,
        &[
            (&[of("150Mi")], ""),
            (
                &[of("160Mi")],
                "FORBIDDEN memory max limit to request ratio per Pod is 1500m, but provided ratio \
                 is 1.600000",
            ),
        ],
    );
}

#[test]
fn all_items_are_held_against_a_pod_and_what_is_wrong_is_said_at_once() {
    let limits = json!([{"type": "Container", "min": {"cpu": "100m"}},
        {"type": "Pod", "max": {"cpu": "1"}}]);
    table(
        &limits,
        &[(
            &[json!({"requests": {"cpu": "50m"}})],
            "FORBIDDEN [minimum cpu usage per Container is 100m, but request is 50m, maximum cpu \
             usage per Pod is 1.  No limit is specified]",
        )],
    );
}

#[test]
fn a_claim_is_neither_too_small_nor_too_large() {
    let limits = json!([{"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"},
        "max": {"storage": "5Gi"}}]);
    for (size, wrong) in [
        (
            "500Mi",
            "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 500Mi",
        ),
        ("1Gi", ""),
        ("5Gi", ""),
        (
            "6Gi",
            "maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 6Gi",
        ),
    ] {
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "d"}, "spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": size}}}});
        let said = create(&limits, &claim).err().unwrap_or_default();
        match wrong {
            "" => assert_eq!(said, "", "{size}"),
            wrong => {
                let wrong = format!("persistentvolumeclaims \"d\" is forbidden: {wrong}");
                assert_eq!(said, wrong);
            }
        }
    }
    table(&limits, &[(&[json!({})], "")]);
}
