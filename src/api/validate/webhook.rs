//! Configurations of admission webhooks.
//!
//! `pkg/apis/admissionregistration/validation/validation.go`. Whether expressions of match conditions
//! compile is not looked at.

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference,
    ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use serde_json::json;

use super::field::{At, Errors};
use super::meta::{label_name, label_selector};
use super::names::{dns_1035_label, dns_subdomain, port_number};

/// `ValidateValidatingWebhookConfiguration`.
pub fn validating(object: &ValidatingWebhookConfiguration, at: &At<'_>, errors: &mut Errors) {
    let hooks = object.webhooks.as_deref().unwrap_or_default();
    all(hooks.iter().map(|hook| (hook.clone(), None)), at, errors);
}

/// `ValidateMutatingWebhookConfiguration`.
pub fn mutating(object: &MutatingWebhookConfiguration, at: &At<'_>, errors: &mut Errors) {
    let hooks = object.webhooks.iter().flatten().cloned();
    let alike = hooks.map(|hook| {
        let common = ValidatingWebhook {
            admission_review_versions: hook.admission_review_versions,
            client_config: hook.client_config,
            failure_policy: hook.failure_policy,
            match_conditions: hook.match_conditions,
            match_policy: hook.match_policy,
            name: hook.name,
            namespace_selector: hook.namespace_selector,
            object_selector: hook.object_selector,
            rules: hook.rules,
            side_effects: hook.side_effects,
            timeout_seconds: hook.timeout_seconds,
        };
        (common, hook.reinvocation_policy)
    });
    all(alike, at, errors);
}

fn all(
    hooks: impl Iterator<Item = (ValidatingWebhook, Option<String>)>,
    at: &At<'_>,
    errors: &mut Errors,
) {
    let list = at.field("webhooks");
    let mut names = BTreeSet::new();
    for (i, (hook, reinvocation)) in hooks.enumerate() {
        let at = list.item(i);
        webhook(&hook, reinvocation.as_deref(), &at, errors);
        review_versions(
            &hook.admission_review_versions,
            &at.field("admissionReviewVersions"),
            errors,
        );
        let name = hook.name;
        if !name.is_empty() && names.contains(&name) {
            errors.duplicate(&at.field("name"), name.as_str());
        }
        names.insert(name);
    }
}

fn listed(value: Option<&str>, known: &[&str], at: &At<'_>, errors: &mut Errors) {
    if let Some(value) = value.filter(|value| !known.contains(value)) {
        errors.not_supported(at, value, known);
    }
}

/// `validateValidatingWebhook`, `validateMutatingWebhook`.
fn webhook(hook: &ValidatingWebhook, again: Option<&str>, at: &At<'_>, errors: &mut Errors) {
    qualified(&hook.name, &at.field("name"), errors);
    let rules_at = at.field("rules");
    for (i, each) in hook.rules.iter().flatten().enumerate() {
        rule(each, &rules_at.item(i), errors);
    }
    let failure = hook.failure_policy.as_deref();
    listed(
        failure,
        &["Fail", "Ignore"],
        &at.field("failurePolicy"),
        errors,
    );
    let matching = hook.match_policy.as_deref();
    listed(
        matching,
        &["Equivalent", "Exact"],
        &at.field("matchPolicy"),
        errors,
    );
    let effects_at = at.field("sideEffects");
    match hook.side_effects.as_str() {
        "" => errors.required(&effects_at, "must specify one of None, NoneOnDryRun"),
        effects => listed(
            Some(effects),
            &["None", "NoneOnDryRun"],
            &effects_at,
            errors,
        ),
    }
    if let Some(seconds) = hook.timeout_seconds.filter(|s| !(1..=30).contains(s)) {
        let detail = "the timeout value must be between 1 and 30 seconds";
        errors.invalid(&at.field("timeoutSeconds"), &seconds, detail);
    }
    if let Some(selector) = &hook.namespace_selector {
        label_selector(selector, &at.field("namespaceSelector"), errors);
    }
    if let Some(selector) = &hook.object_selector {
        label_selector(selector, &at.field("objectSelector"), errors);
    }
    listed(
        again,
        &["IfNeeded", "Never"],
        &at.field("reinvocationPolicy"),
        errors,
    );
    client_config(&hook.client_config, &at.field("clientConfig"), errors);
    let conditions = hook.match_conditions.as_deref().unwrap_or_default();
    match_conditions(conditions, &at.field("matchConditions"), errors);
}

/// `utilvalidation.IsFullyQualifiedName`.
fn qualified(name: &str, at: &At<'_>, errors: &mut Errors) {
    let wrong = dns_subdomain(name);
    if name.is_empty() {
        errors.required(at, "");
    } else if !wrong.is_empty() {
        errors.invalid(at, name, &wrong.join(","));
    } else if name.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        errors.invalid(at, name, detail);
    }
}

/// `validateRuleWithOperations`, `validateRule`.
fn rule(rule: &RuleWithOperations, at: &At<'_>, errors: &mut Errors) {
    const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
    let operations_at = at.field("operations");
    some_or_all(&rule.operations, "operations", &operations_at, errors);
    for (i, operation) in rule.operations.iter().flatten().enumerate() {
        listed(Some(operation), &OPERATIONS, &operations_at.item(i), errors);
    }
    some_or_all(
        &rule.api_groups,
        "API groups",
        &at.field("apiGroups"),
        errors,
    );
    let versions_at = at.field("apiVersions");
    some_or_all(&rule.api_versions, "API versions", &versions_at, errors);
    for (i, _) in empty_ones(&rule.api_versions) {
        errors.required(&versions_at.item(i), "");
    }
    resources(
        rule.resources.as_deref().unwrap_or_default(),
        &at.field("resources"),
        errors,
    );
    let scope = rule.scope.as_deref();
    listed(
        scope,
        &["*", "Cluster", "Namespaced"],
        &at.field("scope"),
        errors,
    );
}

fn empty_ones(list: &Option<Vec<String>>) -> impl Iterator<Item = (usize, &String)> {
    let items = list.iter().flatten().enumerate();
    items.filter(|(_, item)| item.is_empty())
}

/// There must be something, and a star must be alone.
fn some_or_all(list: &Option<Vec<String>>, what: &str, at: &At<'_>, errors: &mut Errors) {
    let list = list.as_deref().unwrap_or_default();
    if list.is_empty() {
        errors.required(at, "");
    }
    if list.len() > 1 && list.iter().any(|item| item == "*") {
        let detail = format!("if '*' is present, must not specify other {what}");
        errors.invalid(at, &json!(list), &detail);
    }
}

/// `validateResources`.
fn resources(list: &[String], at: &At<'_>, errors: &mut Errors) {
    if list.is_empty() {
        errors.required(at, "");
    }
    let (mut every_sub, mut every_resource) = (BTreeSet::new(), BTreeSet::new());
    // As upstream has it: the last one without a subresource counts.
    let mut plain = false;
    for (i, item) in list.iter().enumerate() {
        let at = at.item(i);
        if item.is_empty() {
            errors.required(&at, "");
            continue;
        }
        let Some((resource, sub)) = item.split_once('/') else {
            plain = item != "*";
            continue;
        };
        if every_sub.contains(resource) {
            let detail = format!("if '{resource}/*' is present, must not specify {item}");
            errors.invalid(&at, item.as_str(), &detail);
        }
        if every_resource.contains(sub) {
            let detail = format!("if '*/{sub}' is present, must not specify {item}");
            errors.invalid(&at, item.as_str(), &detail);
        }
        if sub == "*" {
            every_sub.insert(resource);
        }
        if resource == "*" {
            every_resource.insert(sub);
        }
    }
    let has = |wanted: &str| list.iter().any(|item| item == wanted);
    if list.len() > 1 && has("*/*") {
        let detail = "if '*/*' is present, must not specify other resources";
        errors.invalid(at, &json!(list), detail);
    }
    if has("*") && plain {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(at, &json!(list), detail);
    }
}

/// The `clientConfig` of `validateValidatingWebhook`.
fn client_config(config: &WebhookClientConfig, at: &At<'_>, errors: &mut Errors) {
    match (&config.url, &config.service) {
        (Some(address), None) => url(address, &at.field("url"), errors),
        (None, Some(reference)) => service(reference, &at.field("service"), errors),
        _ => errors.required(at, "exactly one of url or service is required"),
    }
}

/// `webhook.ValidateWebhookURL`, for addresses that Go parses.
fn url(text: &str, at: &At<'_>, errors: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (text, query) = text.split_once('?').unwrap_or((text, ""));
    let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
    let authority = rest.strip_prefix("//").unwrap_or_default();
    let authority = authority.split('/').next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if scheme != "https" {
        let detail = format!("'https' is the only allowed URL scheme{FORM}");
        errors.invalid(at, scheme, &detail);
    }
    if host.is_empty() {
        errors.invalid(at, host, &format!("host must be specified{FORM}"));
    }
    for (part, what) in [
        (user, "user information is"),
        (fragment, "fragments are"),
        (query, "query parameters are"),
    ] {
        if !part.is_empty() {
            errors.invalid(at, part, &format!("{what} not permitted in the URL"));
        }
    }
}

/// `webhook.ValidateWebhookService`, as it is called: the caller passes name and namespace in the
/// order in which the function does not take them, so that each is reported as the other.
fn service(service: &ServiceReference, at: &At<'_>, errors: &mut Errors) {
    if service.namespace.is_empty() {
        errors.required(&at.field("name"), "");
    }
    if service.name.is_empty() {
        errors.required(&at.field("namespace"), "");
    }
    let port = service.port.unwrap_or(443);
    if let Some(wrong) = port_number(port) {
        errors.invalid(
            &at.field("port"),
            &port,
            &format!("port is not valid: {wrong}"),
        );
    }
    let Some(path) = service
        .path
        .as_deref()
        .filter(|path| !matches!(*path, "" | "/"))
    else {
        return;
    };
    let at = at.field("path");
    if path == "//" {
        return errors.invalid(&at, path, "segment[0] may not be empty");
    }
    if !path.starts_with('/') {
        errors.invalid(&at, path, "must start with a '/'");
    }
    let mut letters = path.chars();
    letters.next();
    let rest = letters.as_str();
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    for (i, step) in rest.split('/').enumerate() {
        if step.is_empty() {
            errors.invalid(&at, path, &format!("segment[{i}] may not be empty"));
            continue;
        }
        for wrong in dns_subdomain(step) {
            errors.invalid(&at, path, &format!("segment[{i}]: {wrong}"));
        }
    }
}

/// `validateMatchConditions`.
fn match_conditions(conditions: &[MatchCondition], at: &At<'_>, errors: &mut Errors) {
    const MOST: usize = 64;
    if conditions.len() > MOST {
        errors.too_many(at, conditions.len(), MOST);
    }
    let mut names = BTreeSet::new();
    for (i, condition) in conditions.iter().enumerate() {
        let at = at.item(i);
        if condition.expression.trim().is_empty() {
            errors.required(&at.field("expression"), "");
        }
        let name_at = at.field("name");
        match condition.name.as_str() {
            "" => errors.required(&name_at, ""),
            name => {
                label_name(name, &name_at, errors);
                if !names.insert(name) {
                    errors.duplicate(&name_at, name);
                }
            }
        }
    }
}

/// `validateAdmissionReviewVersions`.
fn review_versions(versions: &[String], at: &At<'_>, errors: &mut Errors) {
    const ACCEPTED: [&str; 2] = ["v1", "v1beta1"];
    if versions.is_empty() {
        return errors.required(at, "must specify one of v1, v1beta1");
    }
    let mut seen = BTreeSet::new();
    for (i, version) in versions.iter().enumerate() {
        let at = at.item(i);
        match seen.insert(version) {
            true => errors.invalid_each(&at, version.as_str(), dns_1035_label(version)),
            false => errors.invalid(&at, version.as_str(), "duplicate version"),
        }
    }
    if !versions
        .iter()
        .any(|version| ACCEPTED.contains(&version.as_str()))
    {
        errors.invalid(
            at,
            &json!(versions),
            "must include at least one of v1, v1beta1",
        );
    }
}
