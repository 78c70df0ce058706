//! Bindings (`pkg/apis/rbac/v1/defaults.go`).

use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding, RoleRef, Subject};

const GROUP: &str = "rbac.authorization.k8s.io";

/// `SetDefaults_RoleBinding`.
pub fn role_binding(object: &mut RoleBinding) {
    role_ref(&mut object.role_ref);
    object.subjects.iter_mut().flatten().for_each(subject);
}

/// `SetDefaults_ClusterRoleBinding`.
pub fn cluster_role_binding(object: &mut ClusterRoleBinding) {
    role_ref(&mut object.role_ref);
    object.subjects.iter_mut().flatten().for_each(subject);
}

fn role_ref(to: &mut RoleRef) {
    if to.api_group.as_deref().is_none_or(str::is_empty) {
        to.api_group = Some(GROUP.to_owned());
    }
}

/// `SetDefaults_Subject`.
fn subject(subject: &mut Subject) {
    let group = subject.api_group.as_deref().unwrap_or_default();
    if group.is_empty() && matches!(subject.kind.as_str(), "User" | "Group") {
        subject.api_group = Some(GROUP.to_owned());
    }
}
