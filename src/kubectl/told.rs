//! What the API server warns of when an object changes, as kubectl prints it.
//!
//! A server answers with its warnings; here they are computed where the request is made, from the
//! object that it is made about. Fields that a patch brings and that nobody knows are among them.

use serde_json::Value;

use crate::api::decode::{DecodeContext, decode_json};
use crate::api::patch::{PatchKind, apply_as};
use crate::api::print::to_json;
use crate::api::yaml::{Node, Span};
use crate::api::{Row, warnings};

/// The warnings about a patch; none where it does not apply.
pub(super) fn patched(old: &Row, kind: PatchKind, patch: &Value) -> Vec<String> {
    let before = to_json(old);
    let mut object = Node::from_json(&before, Span::NONE);
    match apply_as(kind, &mut object, &Node::from_json(patch, Span::NONE)) {
        Ok(()) => replaced(&before, &object.to_json()),
        Err(_) => Vec::new(),
    }
}

/// The warnings about an object that becomes `new`; none where that is refused.
pub(super) fn replaced(old: &Value, new: &Value) -> Vec<String> {
    let Ok(decoded) = decode_json(new, &DecodeContext::default()) else {
        return Vec::new();
    };
    let unknown = decoded.warnings.iter();
    let unknown = unknown.filter(|problem| problem.reason == "UnknownField");
    let unknown = unknown.map(|problem| format!("unknown field {:?}", problem.path));
    let all = unknown.chain(warnings::on_update(old, &decoded.json));
    all.map(|line| format!("Warning: {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lines(object: &Value, patch: &Value) -> Vec<String> {
        let decoded = decode_json(object, &DecodeContext::default()).expect("valid");
        patched(&decoded.row, PatchKind::Strategic, patch)
    }

    /// `pkg/registry/apps/deployment :: WarningsOnUpdate` and its kin.
    #[test]
    fn a_patch_is_warned_about_as_a_new_object_is_where_its_spec_changes() {
        let twice = json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]);
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}},
                    "spec": {"containers": [{"name": "c", "image": "i", "env": twice}]}}}});
        let hides = "Warning: spec.template.spec.containers[0].env[1]: hides previous definition \
                     of \"A\", which may be dropped when using apply";
        assert_eq!(lines(&object, &json!({"spec": {"replicas": 2}})), [hides]);
        assert!(lines(&object, &json!({"metadata": {"labels": {"x": "y"}}})).is_empty());
        let unknown = json!({"metadata": {"labels": {"x": "y"}}, "spce": {"replicas": 2}});
        assert_eq!(
            lines(&object, &unknown),
            ["Warning: unknown field \"spce\""]
        );
        assert!(lines(&object, &json!({"spec": {"replicas": "two"}})).is_empty());
    }
}
