//! Tables of manifests and what the API server says, for what the recordings do not reach.

use crate::api::decode::{DecodeContext, decode};
use crate::api::yaml::{FileId, Limits, parse_document};

/// The causes, one a line; empty for a good object.
fn said(text: &str) -> String {
    let node = parse_document(FileId(0), text.as_bytes(), &Limits::default()).expect("YAML");
    match decode(&node, &DecodeContext::default()) {
        Ok(_) => String::new(),
        Err(problems) => {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            lines.join("\n")
        }
    }
}

fn check(cases: &[(&str, &str)], whole: impl Fn(&str) -> String) {
    for (text, wanted) in cases {
        assert_eq!(said(&whole(text)), *wanted, "{text}");
    }
}

#[test]
fn roles_say_what_and_where() {
    // `pkg/apis/rbac/validation/validation_test.go :: TestValidateRole*`.
    let role = |kind: &str, rest: &str| {
        format!(
            "{{apiVersion: rbac.authorization.k8s.io/v1, kind: {kind}, metadata: {{name: r}}, \
             {rest}}}"
        )
    };
    check(
        &[
            (
                "rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]",
                "",
            ),
            (
                "rules: [{apiGroups: [''], resources: [pods], verbs: []}]",
                "rules[0].verbs: Required value: verbs must contain at least one value",
            ),
            (
                "rules: [{verbs: [get]}]",
                "rules[0].apiGroups: Required value: resource rules must supply at least one api \
                 group\nrules[0].resources: Required value: resource rules must supply at least \
                 one resource",
            ),
            (
                "rules: [{verbs: [get], nonResourceURLs: [/healthz]}]",
                "rules[0].nonResourceURLs: Invalid value: [\"/healthz\"]: namespaced rules cannot \
                 apply to non-resource URLs",
            ),
        ],
        |rest| role("Role", rest),
    );
    check(
        &[
            ("rules: [{verbs: [get], nonResourceURLs: [/healthz]}]", ""),
            (
                "rules: [{verbs: [get], nonResourceURLs: [/a], resources: [pods]}]",
                "rules[0].nonResourceURLs: Invalid value: [\"/a\"]: rules cannot apply to both \
                 regular resources and non-resource URLs",
            ),
            (
                "aggregationRule: {}",
                "aggregationRule.clusterRoleSelectors: Required value: at least one \
                 clusterRoleSelector required if aggregationRule is non-nil",
            ),
        ],
        |rest| role("ClusterRole", rest),
    );
}

#[test]
fn bindings_name_a_role_and_subjects() {
    let binding = |kind: &str, rest: &str| {
        format!(
            "{{apiVersion: rbac.authorization.k8s.io/v1, kind: {kind}, metadata: {{name: b}}, \
             {rest}}}"
        )
    };
    check(
        &[
            (
                "roleRef: {kind: Role, name: r}, subjects: [{kind: ServiceAccount, name: a}, \
                 {kind: User, name: me}]",
                "",
            ),
            (
                "roleRef: {kind: Rule, name: r, apiGroup: other}",
                "roleRef.apiGroup: Unsupported value: \"other\": supported values: \
                 \"rbac.authorization.k8s.io\"\nroleRef.kind: Unsupported value: \"Rule\": \
                 supported values: \"Role\", \"ClusterRole\"",
            ),
            (
                "roleRef: {kind: Role, name: ''}",
                "roleRef.name: Required value",
            ),
            (
                "roleRef: {kind: Role, name: a/b}",
                "roleRef.name: Invalid value: \"a/b\": may not contain '/'",
            ),
            (
                "roleRef: {kind: Role, name: r}, subjects: [{kind: Robot, name: a}, \
                 {kind: Group, name: g, apiGroup: x}, {kind: ServiceAccount, name: a, \
                 apiGroup: x}]",
                "subjects[0].kind: Unsupported value: \"Robot\": supported values: \
                 \"ServiceAccount\", \"User\", \"Group\"\nsubjects[1].apiGroup: Unsupported \
                 value: \"x\": supported values: \"rbac.authorization.k8s.io\"\n\
                 subjects[2].apiGroup: Unsupported value: \"x\": supported values: \"\"",
            ),
        ],
        |rest| binding("RoleBinding", rest),
    );
    check(
        &[
            (
                "roleRef: {kind: Role, name: r}",
                "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
            ),
            (
                "roleRef: {kind: ClusterRole, name: r}, subjects: [{kind: ServiceAccount, \
                 name: a}]",
                "subjects[0].namespace: Required value",
            ),
        ],
        |rest| binding("ClusterRoleBinding", rest),
    );
}

/// A pod with annotations, a security context, and that of its container.
fn pod(annotations: &str, of_pod: &str, of_container: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p, annotations: {{{annotations}}}}}, \
         spec: {{securityContext: {{{of_pod}}}, containers: [{{name: c, image: x, \
         securityContext: {{{of_container}}}}}]}}}}"
    )
}

#[test]
fn seccomp_and_apparmor_profiles_are_of_a_type() {
    // `core/validation/validation_test.go :: TestValidateSeccompProfile…, …AppArmorProfileField`.
    let fields = "spec.securityContext";
    check(
        &[
            ("seccompProfile: {type: RuntimeDefault}", ""),
            (
                "seccompProfile: {type: Localhost, localhostProfile: a/b.json}",
                "",
            ),
            (
                "seccompProfile: {type: ''}",
                "spec.securityContext.seccompProfile.type: Required value: type is required when \
                 seccompProfile is set",
            ),
            (
                "seccompProfile: {type: Other}",
                "spec.securityContext.seccompProfile.type: Unsupported value: \"Other\": \
                 supported values: \"Localhost\", \"RuntimeDefault\", \"Unconfined\"",
            ),
            (
                "seccompProfile: {type: Localhost}",
                "spec.securityContext.seccompProfile.localhostProfile: Required value: must be \
                 set when seccomp type is Localhost",
            ),
            (
                "seccompProfile: {type: Localhost, localhostProfile: /a/../b}",
                "spec.securityContext.seccompProfile.localhostProfile: Invalid value: \
                 \"/a/../b\": must be a relative path\n\
                 spec.securityContext.seccompProfile.localhostProfile: Invalid value: \
                 \"/a/../b\": must not contain '..'",
            ),
            (
                "appArmorProfile: {type: Localhost, localhostProfile: ' a'}",
                "spec.securityContext.appArmorProfile.localhostProfile: Invalid value: \" a\": \
                 must not be padded with whitespace",
            ),
            (
                "appArmorProfile: {type: Unconfined, localhostProfile: a}",
                "spec.securityContext.appArmorProfile.localhostProfile: Invalid value: \"a\": can \
                 only be set when AppArmor type is Localhost",
            ),
            (
                "appArmorProfile: {type: ''}",
                "spec.securityContext.appArmorProfile.type: Required value: type is required when \
                 appArmorProfile is set",
            ),
        ],
        |context| pod("", context, ""),
    );
    let in_container = pod("", "", "seccompProfile: {type: Other}");
    let wanted = said(&pod("", "seccompProfile: {type: Other}", ""));
    let wanted = wanted.replace(fields, "spec.containers[0].securityContext");
    assert_eq!(said(&in_container), wanted);
}

#[test]
fn annotations_of_profiles_are_checked_and_agree_with_the_fields() {
    let seccomp = "container.seccomp.security.alpha.kubernetes.io/c";
    let armor = "container.apparmor.security.beta.kubernetes.io";
    for (annotations, context, wanted) in [
        (format!("{seccomp}: runtime/default"), "", String::new()),
        (
            format!("{seccomp}: what"),
            "",
            format!(
                "metadata.annotations.{seccomp}: Invalid value: \"what\": must be a valid seccomp \
                 profile"
            ),
        ),
        (format!("{armor}/c: localhost/mine"), "", String::new()),
        (
            format!("{armor}/d: mine"),
            "",
            format!(
                "metadata.annotations[{armor}/d]: Invalid value: \"d\": container not found\n\
                 metadata.annotations[{armor}/d]: Invalid value: \"mine\": invalid AppArmor \
                 profile name: \"mine\""
            ),
        ),
        (
            format!("{seccomp}: unconfined"),
            "seccompProfile: {type: RuntimeDefault}",
            "spec.containers[0].securityContext.seccompProfile.type: Forbidden: seccomp type in \
             annotation and field must match"
                .to_owned(),
        ),
        (
            format!("{armor}/c: localhost/a"),
            "appArmorProfile: {type: Localhost, localhostProfile: b}",
            "spec.containers[0].securityContext.appArmorProfile.localhostProfile: Forbidden: \
             apparmor profile in annotation and field must match"
                .to_owned(),
        ),
        (
            "controller.kubernetes.io/pod-deletion-cost: '+1'".to_owned(),
            "",
            "metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: \
             \"+1\": must be a 32bit integer"
                .to_owned(),
        ),
        (
            "kubernetes.io/config.mirror: x".to_owned(),
            "",
            "metadata.annotations[kubernetes.io/config.mirror]: Invalid value: \"x\": must set \
             spec.nodeName if mirror pod annotation is set"
                .to_owned(),
        ),
    ] {
        assert_eq!(
            said(&pod(&annotations, "", context)),
            wanted,
            "{annotations}"
        );
    }
}

/// Rows of `words.txt`: an object on a line, what is said of it indented below. Upstream walks maps
/// in any order, so the lines of one object are compared as a set.
#[test]
fn objects_are_judged_in_the_words_of_the_server() {
    let mut rows: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in include_str!("tests/words.txt").lines() {
        match line.strip_prefix("  ") {
            _ if line.is_empty() || line.starts_with('#') => {}
            Some(words) => rows.last_mut().expect("an object first").1.push(words),
            None => rows.push((line, Vec::new())),
        }
    }
    assert!(rows.len() > 90, "{} rows", rows.len());
    for (object, mut wanted) in rows {
        let said = said(object);
        let mut said: Vec<&str> = said.lines().collect();
        said.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(said, wanted, "{object}");
    }
}
