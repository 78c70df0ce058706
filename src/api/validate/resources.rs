//! Resource names and amounts (`validateResourceRequirements` and `pkg/apis/core/helper`).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceClaim, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;

use super::field::{At, Errors};
use super::names::{dns_label, label_key};
use crate::api::quantity::{Format, Quantity};

/// A written amount; those that do not parse were refused when the object was read.
pub(super) fn amount(written: &Written) -> Quantity {
    Quantity::parse(&written.0).unwrap_or_default()
}

/// Names without a prefix that limits, requests and quotas know.
const STANDARD: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];

/// `IsStandardQuotaResourceName`: all of them but `storage` alone.
pub(super) fn standard_quota(name: &str) -> bool {
    (name != "storage" && STANDARD.contains(&name)) || quota_huge_page(name)
}

fn quota_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-") || name.starts_with("requests.hugepages-")
}

/// `IsHugePageResourceName`.
pub(super) fn huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// `IsNativeResource`.
pub(super) fn native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// `IsExtendedResourceName`.
pub(super) fn extended(name: &str) -> bool {
    !native(name)
        && !name.starts_with("requests.")
        && label_key(&format!("requests.{name}")).is_empty()
}

/// `IsOvercommitAllowed`.
pub(super) fn overcommit(name: &str) -> bool {
    native(name) && !huge_page(name)
}

/// `IsIntegerResourceName`.
pub(super) fn integer(name: &str) -> bool {
    const COUNTS: &[&str] = &[
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    ];
    COUNTS.contains(&name) || extended(name)
}

/// `validateResourceName`; whether the name is good.
pub(super) fn resource_name(name: &str, at: &At<'_>, errors: &mut Errors) -> bool {
    let before = errors.len();
    errors.invalid_each(at, name, label_key(name));
    if errors.len() == before
        && !name.contains('/')
        && !STANDARD.contains(&name)
        && !quota_huge_page(name)
    {
        errors.invalid(
            at,
            name,
            "must be a standard resource type or fully qualified",
        );
    }
    errors.len() == before
}

/// `validateContainerResourceName`.
pub(super) fn container_resource_name(name: &str, at: &At<'_>, errors: &mut Errors) {
    resource_name(name, at, errors);
    if !name.contains('/') {
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !huge_page(name) {
            errors.invalid(at, name, "must be a standard resource for containers");
        }
    } else if !native(name) && !extended(name) {
        errors.invalid(at, name, "doesn't follow extended resource name standard");
    }
}

/// `validatePodResourceName`.
fn pod_resource_name(name: &str, at: &At<'_>, errors: &mut Errors) {
    if resource_name(name, at, errors) && !matches!(name, "cpu" | "memory") && !huge_page(name) {
        errors.not_supported(at, name, &["cpu", "hugepages-", "memory"]);
    }
}

/// `ValidateNonnegativeQuantity`.
pub(super) fn non_negative(written: &Written, at: &At<'_>, errors: &mut Errors) {
    if amount(written).nanos() < 0 {
        errors.invalid(at, &written.0, "must be greater than or equal to 0");
    }
}

/// `ValidatePositiveQuantityValue`.
pub(super) fn positive(written: &Written, at: &At<'_>, errors: &mut Errors) {
    if amount(written).nanos() <= 0 {
        errors.invalid(at, &written.0, "must be greater than zero");
    }
}

/// `ValidateResourceQuantityValue`.
pub(super) fn quantity_value(name: &str, written: &Written, at: &At<'_>, errors: &mut Errors) {
    non_negative(written, at, errors);
    if integer(name) && amount(written).nanos() % 1_000_000_000 != 0 {
        errors.invalid(at, &written.0, "must be an integer");
    }
}

/// Whose requirements are validated.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Of {
    Container,
    Pod,
}

/// `validateResourceRequirements`.
pub(super) fn requirements(
    source: &ResourceRequirements,
    of: Of,
    claims: &BTreeSet<&str>,
    at: &At<'_>,
    errors: &mut Errors,
) {
    let check_name = match of {
        Of::Container => container_resource_name,
        Of::Pod => pod_resource_name,
    };
    let (limits_at, requests_at) = (at.field("limits"), at.field("requests"));
    let empty = BTreeMap::new();
    let limits = source.limits.as_ref().unwrap_or(&empty);
    let requests = source.requests.as_ref().unwrap_or(&empty);
    for (name, limit) in limits {
        let at = limits_at.key(name);
        check_name(name, &at, errors);
        quantity_value(name, limit, &at, errors);
        huge_page_value(name, limit, &at, errors);
    }
    for (name, request) in requests {
        let at = requests_at.key(name);
        check_name(name, &at, errors);
        quantity_value(name, request, &at, errors);
        match limits.get(name) {
            Some(limit) => {
                let (less, most) = (amount(request), amount(limit));
                let must = if less != most && !overcommit(name) {
                    "must be equal to"
                } else if less > most {
                    "must be less than or equal to"
                } else {
                    ""
                };
                if !must.is_empty() {
                    let detail = format!("{must} {name} limit of {}", limit.0);
                    errors.invalid(&requests_at, &request.0, &detail);
                }
            }
            None if !overcommit(name) => {
                errors.required(
                    &limits_at,
                    "Limit must be set for non overcommitable resources",
                );
            }
            None => {}
        }
        huge_page_value(name, request, &at, errors);
    }
    let mut names = limits.keys().chain(requests.keys());
    let computes = names.clone().any(|name| name == "cpu" || name == "memory");
    if !computes && names.any(|name| huge_page(name)) {
        errors.forbidden(at, "HugePages require cpu or memory");
    }
    claim_names(&source.claims, claims, &at.field("claims"), errors);
}

/// `validatePodResourceConsistency`: what a pod asks for is enough for its containers.
pub(super) fn pod_and_containers(
    spec: &PodSpec,
    own: &ResourceRequirements,
    at: &At<'_>,
    errors: &mut Errors,
) {
    let requests_at = at.field("requests");
    for (name, request) in own.requests.iter().flatten() {
        let Some(sum) = aggregate(spec, name, false) else {
            continue;
        };
        if sum.nanos() > amount(request).nanos() {
            let sum = sum.print(sum_format(spec, name));
            let detail =
                format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.invalid(&requests_at.key(name), &request.0, &detail);
        }
    }
    let limits_at = at.field("limits");
    let limits = own.limits.iter().flatten();
    for (name, limit) in limits.clone().filter(|(name, _)| huge_page(name)) {
        let Some(sum) = aggregate(spec, name, true) else {
            continue;
        };
        if sum.nanos() > amount(limit).nanos() {
            let sum = sum.print(sum_format(spec, name));
            let detail =
                format!("must be greater than or equal to aggregate container limits of {sum}");
            errors.invalid(&limits_at.key(name), &limit.0, &detail);
        }
    }
    let containers_at = at.field("containers");
    for (i, container) in spec.containers.iter().enumerate() {
        for (name, limit) in limits.clone() {
            let own = container.resources.as_ref();
            let Some(own) = own.and_then(|r| r.limits.as_ref()?.get(name)) else {
                continue;
            };
            if amount(own).nanos() > amount(limit).nanos() {
                let item = containers_at.item(i);
                let key = item.key(name);
                let detail = format!("must be less than or equal to pod limits of {}", limit.0);
                errors.invalid(&key.field("limits"), &own.0, &detail);
            }
        }
    }
}

/// What the containers of a pod ask for of one resource together, if any of them does.
pub(crate) fn sum_of_requests(spec: &PodSpec, name: &str) -> Option<Written> {
    let sum = aggregate(spec, name, false)?;
    Some(Written(sum.print(sum_format(spec, name))))
}

/// `AggregateContainerRequests` or `AggregateContainerLimits` of one resource: the regular
/// containers and sidecars together, or an init container with the sidecars before it.
fn aggregate(spec: &PodSpec, name: &str, limits: bool) -> Option<Quantity> {
    let of = |container: &Container| {
        let resources = container.resources.as_ref()?;
        let amounts = if limits {
            &resources.limits
        } else {
            &resources.requests
        };
        amounts.as_ref()?.get(name).map(amount)
    };
    let nanos = |container: &Container| of(container).map_or(0, Quantity::nanos);
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let named = spec.containers.iter().chain(init).any(|c| of(c).is_some());
    let mut sum: i128 = spec.containers.iter().map(nanos).sum();
    let (mut sidecars, mut most) = (0, 0);
    for container in init {
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars += nanos(container);
            sum += nanos(container);
            most = most.max(sidecars);
        } else {
            most = most.max(sidecars + nanos(container));
        }
    }
    named.then(|| Quantity::from_nanos(sum.max(most)))
}

/// How a sum prints: as the first amount of it was written.
fn sum_format(spec: &PodSpec, name: &str) -> Format {
    let init = spec.init_containers.iter().flatten();
    let first = spec.containers.iter().chain(init).find_map(|container| {
        let resources = container.resources.as_ref()?;
        let own =
            |amounts: &Option<BTreeMap<String, Written>>| amounts.as_ref()?.get(name).cloned();
        own(&resources.requests).or_else(|| own(&resources.limits))
    });
    match first {
        Some(written) if written.0.ends_with('i') => Format::BinarySi,
        _ => Format::DecimalSi,
    }
}

/// `validateResourceQuantityHugePageValue`.
pub(super) fn huge_page_value(name: &str, written: &Written, at: &At<'_>, errors: &mut Errors) {
    let Some(page) = name.strip_prefix("hugepages-") else {
        return;
    };
    let page = Quantity::parse(page).unwrap_or_default();
    let whole = page.nanos() > 0 && page.nanos() % 1_000_000_000 == 0;
    if !whole || amount(written).value() % page.value() != 0 {
        let detail = format!("{} is not positive integer multiple of {name}", written.0);
        errors.invalid(at, &written.0, &detail);
    }
}

/// Each claim once: all of it, or single requests of it.
fn claim_request(
    claim: &ResourceClaim,
    names: &mut BTreeSet<String>,
    at: &At<'_>,
    errors: &mut Errors,
) {
    let name = &claim.name;
    if names.contains(name) {
        errors.duplicate(at, name);
        return;
    }
    let request = claim.request.as_deref().unwrap_or_default();
    let mut key = name.clone();
    if !request.is_empty() {
        errors.invalid_each(&at.field("request"), request, dns_label(request));
        key = format!("{name}/{request}");
    }
    if names.contains(&key) {
        errors.duplicate(at, &key);
    } else if request.is_empty() {
        let parts = names.iter().filter(|other| {
            let whole = other.split_once('/').map(|(whole, _)| whole);
            whole == Some(name.as_str())
        });
        for _ in parts {
            errors.duplicate(at, name);
        }
    }
    names.insert(key);
}

/// `validateResourceClaimNames`.
fn claim_names(
    claims: &Option<Vec<ResourceClaim>>,
    known: &BTreeSet<&str>,
    at: &At<'_>,
    errors: &mut Errors,
) {
    let mut names = BTreeSet::new();
    for (i, claim) in claims.iter().flatten().enumerate() {
        let at = at.item(i);
        if claim.name.is_empty() {
            errors.required(&at, "");
            continue;
        }
        claim_request(claim, &mut names, &at, errors);
        if !known.contains(claim.name.as_str()) {
            let all: Vec<&str> = known.iter().copied().filter(|n| !n.is_empty()).collect();
            let all = match all.as_slice() {
                [] => " which is empty".to_owned(),
                all => format!(": {}", all.join(", ")),
            };
            let detail = format!("must be one of the names in pod.spec.resourceClaims{all}");
            errors.not_found_because(&at, &claim.name, &detail);
        }
    }
}
