//! Seccomp and AppArmor: the fields of security contexts, the annotations that came before them,
//! and that the two agree.
//!
//! `pkg/apis/core/validation :: ValidatePodSpecificAnnotations` and the functions that it calls.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{AppArmorProfile, Container, PodSpec, SeccompProfile};
use serde_json::json;

use super::container::descending_path;
use super::field::{At, Errors};

const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const TYPES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

type Annotations = Option<BTreeMap<String, String>>;

/// `validateSeccompProfileField`.
pub(super) fn seccomp(profile: &Option<SeccompProfile>, at: &At<'_>, errors: &mut Errors) {
    let Some(profile) = profile else {
        return;
    };
    match profile.type_.as_str() {
        "" => {
            let detail = "type is required when seccompProfile is set";
            errors.required(&at.field("type"), detail);
        }
        known if TYPES.contains(&known) => {}
        other => errors.not_supported(&at.field("type"), other, &TYPES),
    }
    let local_at = at.field("localhostProfile");
    match (profile.type_.as_str(), &profile.localhost_profile) {
        ("Localhost", None) => {
            errors.required(&local_at, "must be set when seccomp type is Localhost");
        }
        ("Localhost", Some(path)) => descending_path(path, &local_at, errors),
        (_, Some(_)) => {
            let detail = "can only be set when seccomp type is Localhost";
            let shown =
                json!({"Type": profile.type_, "LocalhostProfile": profile.localhost_profile});
            errors.invalid(&local_at, &shown, detail);
        }
        (_, None) => {}
    }
}

/// `ValidateAppArmorProfileField`.
pub(super) fn app_armor(profile: &Option<AppArmorProfile>, at: &At<'_>, errors: &mut Errors) {
    const LONGEST: usize = 4095;
    let Some(profile) = profile else {
        return;
    };
    let local_at = at.field("localhostProfile");
    let missing = "must be set when AppArmor type is Localhost";
    match (profile.type_.as_str(), &profile.localhost_profile) {
        ("Localhost", None) => errors.required(&local_at, missing),
        ("Localhost", Some(name)) => {
            if name.trim() != name {
                errors.invalid(&local_at, name, "must not be padded with whitespace");
            } else if name.is_empty() {
                errors.required(&local_at, missing);
            }
            if name.len() > LONGEST {
                errors.too_long(&local_at, LONGEST);
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(name)) => {
            let detail = "can only be set when AppArmor type is Localhost";
            errors.invalid(&local_at, name, detail);
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => {
            let detail = "type is required when appArmorProfile is set";
            errors.required(&at.field("type"), detail);
        }
        (other, _) => errors.not_supported(&at.field("type"), other, &TYPES),
    }
}

/// `ValidatePodSpecificAnnotations`, but for the tolerations that an annotation could hold once.
pub(super) fn pod_annotations(
    annotations: &Annotations,
    spec: &PodSpec,
    at: &At<'_>,
    errors: &mut Errors,
) {
    let Some(annotations) = annotations else {
        return;
    };
    if let Some(value) = annotations.get(MIRROR)
        && spec.node_name.as_deref().is_none_or(str::is_empty)
    {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.invalid(&at.key(MIRROR), value, detail);
    }
    if let Some(value) = annotations.get(DELETION_COST)
        && !is_cost(value)
    {
        errors.invalid(&at.key(DELETION_COST), value, "must be a 32bit integer");
    }
    let pod = annotations.iter().filter(|(key, _)| *key == SECCOMP_POD);
    let containers = annotations.iter();
    let containers = containers.filter(|(key, _)| key.starts_with(SECCOMP_CONTAINER));
    for (key, value) in pod.chain(containers) {
        seccomp_annotation(value, &at.field(key), errors);
    }
    for (key, value) in annotations {
        let Some(name) = key.strip_prefix(APP_ARMOR) else {
            continue;
        };
        let at = at.key(key);
        if !containers_of(spec).any(|(.., container)| container.name == name) {
            errors.invalid(&at, name, "container not found");
        }
        let known = ["", "runtime/default", "unconfined"].contains(&value.as_str());
        if !known && !value.starts_with("localhost/") {
            let detail = format!("invalid AppArmor profile name: \"{value}\"");
            errors.invalid(&at, value, &detail);
        }
    }
}

/// `GetDeletionCostFromPodAnnotations`: an integer without a plus sign or leading zeros.
fn is_cost(text: &str) -> bool {
    let first = text.bytes().next();
    let valid = text == "0" || first.is_some_and(|b| b == b'-' || (b'1'..=b'9').contains(&b));
    valid && text.parse::<i32>().is_ok()
}

/// `ValidateSeccompProfile`.
fn seccomp_annotation(value: &str, at: &At<'_>, errors: &mut Errors) {
    if ["runtime/default", "docker/default", "unconfined"].contains(&value) {
        return;
    }
    match value.strip_prefix("localhost/") {
        Some(path) => descending_path(path, at, errors),
        None => errors.invalid(at, value, "must be a valid seccomp profile"),
    }
}

/// All containers with the list that they are in and their place.
fn containers_of(spec: &PodSpec) -> impl Iterator<Item = (&'static str, usize, &Container)> {
    let init = spec.init_containers.iter().flatten().enumerate();
    let init = init.map(|(i, c)| ("initContainers", i, c));
    let regular = spec.containers.iter().enumerate();
    init.chain(regular.map(|(i, c)| ("containers", i, c)))
}

/// `validateSeccompAnnotationsAndFields`: who says both says the same.
pub(super) fn seccomp_agrees(
    annotations: &Annotations,
    spec: &PodSpec,
    at: &At<'_>,
    errors: &mut Errors,
) {
    let Some(annotations) = annotations else {
        return;
    };
    let of_pod = spec.security_context.as_ref();
    let of_pod = of_pod.and_then(|context| context.seccomp_profile.as_ref());
    if let (Some(profile), Some(annotation)) = (of_pod, annotations.get(SECCOMP_POD)) {
        let context = at.field("securityContext");
        seccomp_matches(
            annotation,
            profile,
            &context.field("seccompProfile"),
            errors,
        );
    }
    for (list, index, container) in containers_of(spec) {
        let profile = container.security_context.as_ref();
        let profile = profile.and_then(|context| context.seccomp_profile.as_ref());
        let key = format!("{SECCOMP_CONTAINER}{}", container.name);
        if let (Some(profile), Some(annotation)) = (profile, annotations.get(&key)) {
            let list = at.field(list);
            let item = list.item(index);
            let context = item.field("securityContext");
            seccomp_matches(
                annotation,
                profile,
                &context.field("seccompProfile"),
                errors,
            );
        }
    }
}

/// How one of the two is written in annotations.
struct Spelling {
    what: &'static str,
    defaults: &'static [&'static str],
}

const SECCOMP: Spelling = Spelling {
    what: "seccomp",
    defaults: &["runtime/default", "docker/default"],
};
const APPARMOR: Spelling = Spelling {
    what: "apparmor",
    defaults: &["runtime/default"],
};

impl Spelling {
    /// `validateSeccompAnnotationsAndFieldsMatch` and its twin: an annotation beside a profile of
    /// this kind, with this name where it is a local one.
    fn agrees(
        &self,
        annotation: &str,
        (kind, name): (&str, Option<&str>),
        at: &At<'_>,
        errors: &mut Errors,
    ) {
        let same = match kind {
            "Unconfined" => annotation == "unconfined",
            "RuntimeDefault" => self.defaults.contains(&annotation),
            "Localhost" => match annotation.strip_prefix("localhost/") {
                Some(local) if name == Some(local) => true,
                Some(_) => {
                    let what = self.what;
                    let other = format!("{what} profile in annotation and field must match");
                    errors.forbidden(&at.field("localhostProfile"), &other);
                    true
                }
                None => false,
            },
            _ => true,
        };
        if !same {
            let other = format!("{} type in annotation and field must match", self.what);
            errors.forbidden(&at.field("type"), &other);
        }
    }
}

fn seccomp_matches(annotation: &str, profile: &SeccompProfile, at: &At<'_>, errors: &mut Errors) {
    let name = profile.localhost_profile.as_deref();
    SECCOMP.agrees(annotation, (&profile.type_, name), at, errors);
}

/// `validateAppArmorAnnotationsAndFieldsMatchOnCreate`.
pub(super) fn app_armor_agrees(
    annotations: &Annotations,
    spec: &PodSpec,
    at: &At<'_>,
    errors: &mut Errors,
) {
    let Some(annotations) = annotations else {
        return;
    };
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return;
    }
    let of_pod = spec.security_context.as_ref();
    let of_pod = of_pod.and_then(|context| context.app_armor_profile.as_ref());
    for (list, index, container) in containers_of(spec) {
        let own = container.security_context.as_ref();
        let own = own.and_then(|context| context.app_armor_profile.as_ref());
        let key = format!("{APP_ARMOR}{}", container.name);
        let (Some(profile), Some(annotation)) = (own.or(of_pod), annotations.get(&key)) else {
            continue;
        };
        let list = at.field(list);
        let item = list.item(index);
        let context = item.field("securityContext");
        let at = context.field("appArmorProfile");
        let name = profile.localhost_profile.as_deref();
        APPARMOR.agrees(annotation, (&profile.type_, name), &at, errors);
    }
}
