//! Admission webhooks: `pkg/apis/admissionregistration/v1/defaults.go`.

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, RuleWithOperations, ValidatingWebhookConfiguration,
    WebhookClientConfig,
};

use super::absent;

/// Fills in what one webhook leaves open; both types have these fields.
macro_rules! common {
    ($hook:ident) => {
        absent(&mut $hook.failure_policy, "Fail");
        absent(&mut $hook.match_policy, "Equivalent");
        $hook.namespace_selector.get_or_insert_default();
        $hook.object_selector.get_or_insert_default();
        $hook.timeout_seconds.get_or_insert(10);
        client_config(&mut $hook.client_config);
        rules(&mut $hook.rules);
    };
}

/// `SetDefaults_ValidatingWebhook` of each.
pub fn validating(object: &mut ValidatingWebhookConfiguration) {
    for hook in object.webhooks.iter_mut().flatten() {
        common!(hook);
    }
}

/// `SetDefaults_MutatingWebhook` of each.
pub fn mutating(object: &mut MutatingWebhookConfiguration) {
    for hook in object.webhooks.iter_mut().flatten() {
        common!(hook);
        absent(&mut hook.reinvocation_policy, "Never");
    }
}

/// `SetDefaults_ServiceReference`.
fn client_config(config: &mut WebhookClientConfig) {
    if let Some(service) = &mut config.service {
        service.port.get_or_insert(443);
    }
}

/// `SetDefaults_Rule`.
fn rules(rules: &mut Option<Vec<RuleWithOperations>>) {
    for rule in rules.iter_mut().flatten() {
        absent(&mut rule.scope, "*");
    }
}
