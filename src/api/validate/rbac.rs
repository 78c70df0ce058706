//! Roles and their bindings (`pkg/apis/rbac/validation`).

use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use serde_json::{Value, json};

use super::field::{At, Errors};
use super::meta::label_selector;
use super::names::{dns_subdomain, path_segment};

const GROUP: &str = "rbac.authorization.k8s.io";

/// `ValidateRole`, without the metadata.
pub fn role(object: &Role, at: &At<'_>, errors: &mut Errors) {
    rules(object.rules.as_deref(), true, at, errors);
}

/// `ValidateClusterRole`, without the metadata.
pub fn cluster_role(object: &ClusterRole, at: &At<'_>, errors: &mut Errors) {
    rules(object.rules.as_deref(), false, at, errors);
    let Some(rule) = &object.aggregation_rule else {
        return;
    };
    let at = at.field("aggregationRule");
    let at = at.field("clusterRoleSelectors");
    let selectors = rule.cluster_role_selectors.as_deref().unwrap_or_default();
    if selectors.is_empty() {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.required(&at, detail);
    }
    for (index, selector) in selectors.iter().enumerate() {
        let (at, before) = (at.item(index), errors.len());
        label_selector(selector, &at, errors);
        // It cannot be made into a selector either.
        if errors.len() > before {
            errors.invalid(&at, &Value::Null, "invalid label selector.");
        }
    }
}

/// `ValidatePolicyRule`, for each.
fn rules(rules: Option<&[PolicyRule]>, namespaced: bool, at: &At<'_>, errors: &mut Errors) {
    let at = at.field("rules");
    for (index, rule) in rules.unwrap_or_default().iter().enumerate() {
        let at = at.item(index);
        let none = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
        if rule.verbs.is_empty() {
            errors.required(&at.field("verbs"), "verbs must contain at least one value");
        }
        if !none(&rule.non_resource_urls) {
            let urls = json!(rule.non_resource_urls);
            let at = at.field("nonResourceURLs");
            if namespaced {
                let detail = "namespaced rules cannot apply to non-resource URLs";
                errors.invalid(&at, &urls, detail);
            }
            let lists = [&rule.api_groups, &rule.resources, &rule.resource_names];
            if !lists.into_iter().all(none) {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                errors.invalid(&at, &urls, detail);
            }
            continue;
        }
        if none(&rule.api_groups) {
            let detail = "resource rules must supply at least one api group";
            errors.required(&at.field("apiGroups"), detail);
        }
        if none(&rule.resources) {
            let detail = "resource rules must supply at least one resource";
            errors.required(&at.field("resources"), detail);
        }
    }
}

/// `ValidateRoleBinding`, without the metadata.
pub fn role_binding(object: &RoleBinding, at: &At<'_>, errors: &mut Errors) {
    role_ref(&object.role_ref, &["Role", "ClusterRole"], at, errors);
    subjects(object.subjects.as_deref(), true, at, errors);
}

/// `ValidateClusterRoleBinding`, without the metadata.
pub fn cluster_role_binding(object: &ClusterRoleBinding, at: &At<'_>, errors: &mut Errors) {
    role_ref(&object.role_ref, &["ClusterRole"], at, errors);
    subjects(object.subjects.as_deref(), false, at, errors);
}

fn role_ref(to: &RoleRef, kinds: &[&str], at: &At<'_>, errors: &mut Errors) {
    let at = at.field("roleRef");
    let group = to.api_group.as_deref().unwrap_or_default();
    if group != GROUP {
        errors.not_supported(&at.field("apiGroup"), group, &[GROUP]);
    }
    if !kinds.contains(&to.kind.as_str()) {
        errors.not_supported(&at.field("kind"), &to.kind, kinds);
    }
    match to.name.as_str() {
        "" => errors.required(&at.field("name"), ""),
        name => errors.invalid_each(&at.field("name"), name, path_segment(name)),
    }
}

/// `ValidateRoleBindingSubject`, for each.
fn subjects(subjects: Option<&[Subject]>, namespaced: bool, at: &At<'_>, errors: &mut Errors) {
    let at = at.field("subjects");
    for (index, subject) in subjects.unwrap_or_default().iter().enumerate() {
        let at = at.item(index);
        if subject.name.is_empty() {
            errors.required(&at.field("name"), "");
        }
        let group = subject.api_group.as_deref().unwrap_or_default();
        match subject.kind.as_str() {
            "ServiceAccount" => {
                if !subject.name.is_empty() {
                    let wrong = dns_subdomain(&subject.name);
                    errors.invalid_each(&at.field("name"), &subject.name, wrong);
                }
                if !group.is_empty() {
                    errors.not_supported(&at.field("apiGroup"), group, &[""]);
                }
                if !namespaced && subject.namespace.as_deref().is_none_or(str::is_empty) {
                    errors.required(&at.field("namespace"), "");
                }
            }
            "User" | "Group" => {
                if group != GROUP {
                    errors.not_supported(&at.field("apiGroup"), group, &[GROUP]);
                }
            }
            other => {
                let kinds = ["ServiceAccount", "User", "Group"];
                errors.not_supported(&at.field("kind"), other, &kinds);
            }
        }
    }
}
