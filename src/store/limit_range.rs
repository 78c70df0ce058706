//! The LimitRanger admission: defaults for containers that name none, and limits for all.
//!
//! A port of `plugin/pkg/admission/limitranger/admission.go`. Of each LimitRange in the namespace
//! first the defaults are filled in, then every item is held against the containers, the pod as a
//! whole, or the claim; all that is wrong is said at once.

use std::sync::Arc;

use serde_json::{Value, json};

use super::view::View;
use super::write::{ApiError, resource_name};
use crate::api::container::Container;
use crate::api::decode::{pod_level, pod_requests};
use crate::api::quantity::{Quantity, Resources};
use crate::api::quota::{Amount, Amounts, LimitItem, LimitRange};
use crate::api::{PersistentVolumeClaim, Pod, PodSpec, Row, Text};

/// `limitRangerAnnotation`.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// Fills in defaults and checks limits of a new pod or claim.
pub(super) fn admit(row: &mut Row, view: &View) -> Result<(), ApiError> {
    let ranges = view.of::<LimitRange>();
    if ranges.is_empty() {
        return Ok(());
    }
    let namespace = row.meta().namespace.clone();
    let ranges: Vec<Arc<LimitRange>> = ranges
        .in_namespace(&namespace)
        .map(|(_, range)| range.clone())
        .collect();
    if let Row::Pod(pod) = row {
        let before = pod.spec.clone();
        for range in &ranges {
            set_defaults(Arc::make_mut(pod), range);
        }
        // Between the two halves of this plugin the pod is validated.
        let causes = match Arc::ptr_eq(&before, &pod.spec) {
            true => Vec::new(),
            false => above_limits(&pod.spec.source),
        };
        if !causes.is_empty() {
            return Err(ApiError::invalid(row, causes));
        }
    }
    ranges.iter().try_for_each(|range| check_range(row, range))
}

/// Holds a pod or claim against one LimitRange (`runLimitFunc` stops at the first that refuses).
fn check_range(row: &Row, range: &LimitRange) -> Result<(), ApiError> {
    let mut errors = Vec::new();
    for item in &range.limits {
        match row {
            Row::Pod(pod) => check_pod(item, &pod.spec, &mut errors),
            Row::PersistentVolumeClaim(claim) => check_claim(item, claim, &mut errors),
            _ => {}
        }
    }
    let mut told: Vec<String> = Vec::new();
    errors.retain(|error| {
        let new = !told.contains(error);
        told.push(error.clone());
        new
    });
    let all = match errors.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    let what = resource_name(row.kind(), row.meta());
    Err(ApiError::Forbidden(format!("{what} is forbidden: {all}")))
}

/// Requests above a limit that came by default (`ValidateContainerResourceRequirements`; whatever
/// else there is to say of a pod was said before).
fn above_limits(spec: &Value) -> Vec<String> {
    let mut causes = Vec::new();
    for field in ["initContainers", "containers"] {
        let containers = spec[field].as_array().into_iter().flatten();
        for (at, container) in containers.enumerate() {
            let of = |field: &str| container["resources"][field].as_object();
            let (Some(requests), Some(limits)) = (of("requests"), of("limits")) else {
                continue;
            };
            let mut names: Vec<&String> = requests.keys().collect();
            names.sort_unstable();
            for name in names {
                let amount = |amounts: &serde_json::Map<String, Value>| {
                    let text = amounts.get(name)?.as_str()?;
                    Some((text.to_owned(), Quantity::parse(text).ok()?))
                };
                if let (Some((shown, request)), Some((most, limit))) =
                    (amount(requests), amount(limits))
                    && request > limit
                {
                    causes.push(format!(
                        "spec.{field}[{at}].resources.requests: Invalid value: \"{shown}\": must \
                         be less than or equal to {name} limit of {most}"
                    ));
                }
            }
        }
    }
    causes
}

/// `mergePodResourceRequirements` with `defaultContainerResourceRequirements`.
fn set_defaults(pod: &mut Pod, range: &LimitRange) {
    let items = range.limits.iter().filter(|item| item.kind == "Container");
    let (mut limits, mut requests) = (Amounts::new(), Amounts::new());
    for item in items {
        limits.extend(item.default.iter().map(|(n, a)| (n.clone(), *a)));
        requests.extend(item.default_request.iter().map(|(n, a)| (n.clone(), *a)));
    }
    if limits.is_empty() && requests.is_empty() {
        return;
    }
    let mut spec = PodSpec::clone(&pod.spec);
    let mut said = Vec::new();
    let mut json = Value::clone(&spec.source);
    let lists = [
        ("containers", "container", &mut spec.containers),
        (
            "initContainers",
            "init container",
            &mut spec.init_containers,
        ),
    ];
    for (field, called, containers) in lists {
        for (at, container) in containers.iter_mut().enumerate() {
            let written = &mut json[field][at]["resources"];
            let name = container.name.clone();
            let set = merge(&mut container.requests, &requests, written, "requests");
            if !set.is_empty() {
                said.push(format!("{} request for {called} {name}", set.join(", ")));
            }
            let set = merge(&mut container.limits, &limits, written, "limits");
            if !set.is_empty() {
                said.push(format!("{} limit for {called} {name}", set.join(", ")));
            }
        }
    }
    if said.is_empty() {
        return;
    }
    let (all, init) = (&spec.containers, &spec.init_containers);
    let level = pod_level(&json);
    spec.requests = pod_requests(all, init, level.as_ref(), &spec.overhead);
    spec.source = Arc::new(json);
    pod.spec = Arc::new(spec);
    let text = format!("LimitRanger plugin set: {}", said.join("; "));
    pod.meta.annotations = pod.meta.annotations.with(ANNOTATION, text);
}

/// `mergeContainerResources`: returns which names were set, sorted.
fn merge<'a>(
    into: &mut Resources,
    defaults: &'a Amounts,
    written: &mut Value,
    field: &str,
) -> Vec<&'a str> {
    let mut set = Vec::new();
    for (name, amount) in defaults {
        if of(into, name).is_some() {
            continue;
        }
        set.push(name.as_str());
        put(into, name, *amount);
        if written.is_null() {
            *written = json!({});
        }
        written[field][name.as_str()] = json!(amount.to_string());
    }
    set
}

/// The amount under this name, if it is named.
fn of(resources: &Resources, name: &str) -> Option<Amount> {
    let named = |bit: u8| resources.named & bit != 0;
    match name {
        "cpu" => named(1).then(|| Amount::milli(resources.cpu_milli)),
        "memory" => named(2).then(|| Amount::bytes(resources.memory)),
        "ephemeral-storage" => named(4).then(|| Amount::bytes(resources.ephemeral)),
        name => {
            let mut all = resources.extended.iter();
            all.find(|(n, _)| n == name).map(|(_, n)| Amount::count(*n))
        }
    }
}

fn put(resources: &mut Resources, name: &Text, amount: Amount) {
    match name.as_str() {
        "cpu" => {
            resources.cpu_milli = amount.quantity.milli_value();
            resources.named |= 1;
        }
        "memory" => {
            resources.memory = amount.quantity.value();
            resources.named |= 2;
        }
        "ephemeral-storage" => {
            resources.ephemeral = amount.quantity.value();
            resources.named |= 4;
        }
        _ => resources.set_extended(name, amount.quantity.value()),
    }
}

/// `PodValidateLimitFunc` for one item.
fn check_pod(item: &LimitItem, spec: &PodSpec, errors: &mut Vec<String>) {
    match item.kind.as_str() {
        "Container" => {
            for container in spec.containers.iter().chain(&spec.init_containers) {
                check(item, &container.requests, &container.limits, errors);
            }
        }
        "Pod" => {
            let requests = whole(spec, "requests", |c| &c.requests);
            let limits = whole(spec, "limits", |c| &c.limits);
            check(item, &requests, &limits, errors);
        }
        _ => {}
    }
}

/// `podRequests`, `podLimits` of the plugin: containers and sidecars together, or the largest init
/// container with the sidecars before it; what the pod says as a whole wins.
fn whole(spec: &PodSpec, field: &str, of: impl Fn(&Container) -> &Resources) -> Resources {
    let (mut sum, mut most) = (Resources::default(), Resources::default());
    for container in &spec.containers {
        sum.add(of(container));
    }
    let mut sidecars = Resources::default();
    for container in &spec.init_containers {
        let mut here = sidecars.clone();
        here.add(of(container));
        if container.restart_always {
            sum.add(of(container));
            sidecars = here.clone();
        }
        most.max(&here);
    }
    sum.max(&most);
    let written = spec.source["resources"][field].as_object();
    for (name, amount) in written.into_iter().flatten() {
        let amount = amount.as_str().map(Amount::parse);
        if let Some(amount) = amount {
            put(&mut sum, &Text::from(name), amount);
        }
    }
    sum
}

fn check(item: &LimitItem, requests: &Resources, limits: &Resources, errors: &mut Vec<String>) {
    let kind = &item.kind;
    for (name, least) in &item.min {
        let said = format!("minimum {name} usage per {kind} is {least}");
        let (request, limit) = (of(requests, name), of(limits, name));
        match request {
            None => errors.push(format!("{said}.  No request is specified")),
            Some(r) if r.quantity < least.quantity => {
                errors.push(format!("{said}, but request is {r}"));
            }
            Some(_) => {
                if let Some(limit) = limit.filter(|l| l.quantity < least.quantity) {
                    errors.push(format!("{said}, but limit is {limit}"));
                }
            }
        }
    }
    for (name, most) in &item.max {
        let said = format!("maximum {name} usage per {kind} is {most}");
        let (request, limit) = (of(requests, name), of(limits, name));
        match limit {
            None => errors.push(format!("{said}.  No limit is specified")),
            Some(l) if l.quantity > most.quantity => {
                errors.push(format!("{said}, but limit is {l}"));
            }
            Some(_) => {
                if let Some(request) = request.filter(|r| r.quantity > most.quantity) {
                    errors.push(format!("{said}, but request is {request}"));
                }
            }
        }
    }
    for (name, ratio) in &item.max_ratio {
        let (request, limit) = (of(requests, name), of(limits, name));
        errors.extend(check_ratio(kind, name, *ratio, request, limit));
    }
}

/// `limitRequestRatioConstraint`.
fn check_ratio(
    kind: &str,
    name: &str,
    most: Amount,
    request: Option<Amount>,
    limit: Option<Amount>,
) -> Option<String> {
    let said = format!("{name} max limit to request ratio per {kind} is {most}, but ");
    let some = |amount: Option<Amount>| amount.filter(|a| a.quantity.nanos() != 0);
    let Some(request) = some(request) else {
        return Some(format!("{said}no request is specified or request is 0"));
    };
    let Some(limit) = some(limit) else {
        return Some(format!("{said}no limit is specified or limit is 0"));
    };
    let (limit, request) = (limit.quantity.nanos(), request.quantity.nanos());
    // limit / request > most, in integers; `most` has billionths.
    if limit * 1_000_000_000 <= most.quantity.nanos() * request {
        return None;
    }
    // Printed as Go's `%f`; a division of integers is the same everywhere.
    let ratio = limit as f64 / request as f64;
    Some(format!("{said}provided ratio is {ratio:.6}"))
}

/// `PersistentVolumeClaimValidateLimitFunc`.
fn check_claim(item: &LimitItem, claim: &PersistentVolumeClaim, errors: &mut Vec<String>) {
    if item.kind != "PersistentVolumeClaim" {
        return;
    }
    let request = claim.request.map(Amount::bytes);
    let mut check = |word: &str, limit: &Amounts, wrong: fn(Quantity, Quantity) -> bool| {
        let Some(enforced) = limit.get("storage") else {
            return;
        };
        let said = format!("{word} storage usage per PersistentVolumeClaim is {enforced}");
        match request {
            None => errors.push(format!("{said}.  No request is specified")),
            Some(r) if wrong(r.quantity, enforced.quantity) => {
                errors.push(format!("{said}, but request is {r}"));
            }
            Some(_) => {}
        }
    };
    check("minimum", &item.min, |request, least| request < least);
    check("maximum", &item.max, |request, most| request > most);
}

#[cfg(test)]
mod tests;
