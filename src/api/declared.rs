//! Features that nodes declare and pods require (KEP-5328).
//!
//! A kubelet says in `status.declaredFeatures` what it can do of what not every kubelet can; the
//! scheduler and the kubelet's own admission turn pods away that need more
//! (`staging/src/k8s.io/component-helpers/nodedeclaredfeatures`).

use super::container::RestartAction;
use super::{Node, PodSpec, Text, text};

/// A rule may have all containers of a pod started again.
pub const RESTART_ALL_CONTAINERS: &str = "RestartAllContainersOnContainerExits";
/// A pod may be in the node's network and in a user namespace of its own.
pub const USER_NAMESPACES_HOST_NETWORK: &str = "UserNamespacesHostNetworkSupport";

/// What a kubelet of the reference version declares with its feature gates as they are
/// (`Framework.DiscoverNodeFeatures`), sorted. User namespaces in the node's network are behind a
/// gate that is off.
pub fn by_kubelet() -> Vec<Text> {
    vec![
        text!("ExtendWebSocketsToKubelet"),
        text!("InPlacePodLevelResourcesVerticalScaling"),
        text!("InPlacePodVerticalScalingInitContainers"),
        text!(RESTART_ALL_CONTAINERS),
    ]
}

/// What a pod requires of its node (`Framework.InferForPodScheduling`), sorted. The other features
/// matter to updates alone.
pub fn required(spec: &PodSpec) -> Vec<&'static str> {
    let mut containers = spec.containers.iter().chain(&spec.init_containers);
    let restarts_all = containers.any(|container| {
        let mut rules = container.restart_rules.iter();
        rules.any(|rule| rule.action == RestartAction::RestartAll)
    });
    let own_users = spec.host_network && spec.source["hostUsers"] == false;
    [
        (restarts_all, RESTART_ALL_CONTAINERS),
        (own_users, USER_NAMESPACES_HOST_NETWORK),
    ]
    .into_iter()
    .filter_map(|(needed, feature)| needed.then_some(feature))
    .collect()
}

/// Those of the required features that a node does not declare.
pub fn missing<'a>(
    required: &'a [&'static str],
    node: &'a Node,
) -> impl Iterator<Item = &'static str> {
    let features = required.iter().copied();
    features.filter(|feature| {
        let mut declared = node.status.declared_features.iter();
        !declared.any(|name| name == feature)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::api::Shared;
    use crate::api::container::{Container, RestartRule};

    #[test]
    fn features_are_required_by_rules_and_by_users_of_their_own_in_the_nodes_network() {
        let rule = |action| Container {
            restart_rules: vec![RestartRule {
                action,
                except: false,
                codes: vec![1],
            }],
            ..Container::default()
        };
        let spec = |containers, init_containers, host_network, host_users| PodSpec {
            containers,
            init_containers,
            host_network,
            source: Arc::new(json!({"hostUsers": host_users})),
            ..PodSpec::default()
        };
        let all = || {
            vec![
                rule(RestartAction::Restart),
                rule(RestartAction::RestartAll),
            ]
        };
        let one = || vec![rule(RestartAction::Restart)];
        let (restarts, users) = (RESTART_ALL_CONTAINERS, USER_NAMESPACES_HOST_NETWORK);
        for (spec, expected) in [
            (PodSpec::default(), vec![]),
            (spec(one(), one(), true, json!(true)), vec![]),
            (spec(one(), one(), true, json!(null)), vec![]),
            (spec(one(), vec![], false, json!(false)), vec![]),
            (spec(all(), vec![], false, json!(null)), vec![restarts]),
            (spec(one(), all(), false, json!(null)), vec![restarts]),
            (spec(one(), one(), true, json!(false)), vec![users]),
            (
                spec(all(), one(), true, json!(false)),
                vec![restarts, users],
            ),
        ] {
            assert_eq!(required(&spec), expected);
        }
    }

    #[test]
    fn what_a_node_does_not_declare_is_missing() {
        let mut node = Node::default();
        let both = [RESTART_ALL_CONTAINERS, USER_NAMESPACES_HOST_NETWORK];
        assert!(missing(&both, &node).eq(both));
        node.status.declared_features = Shared::from(by_kubelet());
        assert!(missing(&both, &node).eq([USER_NAMESPACES_HOST_NETWORK]));
        assert!(missing(&both[..1], &node).next().is_none());
        assert!(by_kubelet().is_sorted());
    }
}
