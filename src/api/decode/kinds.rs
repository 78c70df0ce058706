//! The table of kinds: which type reads it, whether it has a namespace, what its names look like,
//! and what fills in, checks and converts it.

use k8s_openapi::api::admissionregistration::v1 as admission;
use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::autoscaling::v2 as autoscaling2;
use k8s_openapi::api::batch::v1 as batch;
use k8s_openapi::api::certificates::v1 as certificates;
use k8s_openapi::api::coordination::v1 as coordination;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::flowcontrol::v1 as flowcontrol;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::api::node::v1 as runtime;
use k8s_openapi::api::policy::v1 as policy;
use k8s_openapi::api::rbac::v1 as rbac;
use k8s_openapi::api::scheduling::v1 as scheduling;
use k8s_openapi::api::storage::v1 as storage;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as extensions;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as registration;

use super::DecodeContext;
use super::batch as decode_batch;
use super::meta::meta;
use super::served::unknown_kind;
use super::typed::{Outcome, Steps, foreign, known};
use super::{config, node, pod, quota, service, stateful, volume, workload};
use crate::api::Namespace;
use crate::api::validate::names::{dns_label, dns_subdomain, path_segment};
use crate::api::validate::{self, NameRule};
use crate::api::yaml::Node;
use crate::api::{defaults, print};

fn plain<T>(namespaced: bool, name: NameRule) -> Steps<T> {
    Steps {
        namespaced,
        name,
        defaults: |_| {},
        first: |_, _, _| {},
        validate: |_, _, _, _| {},
        meta_last: false,
        own_finalizers: true,
        row: None,
        admit: |_| {},
    }
}

/// Whether a selector was written: the generated types do not tell a missing one from an empty one.
fn given(node: &Node) -> bool {
    node.at("spec.selector")
        .is_some_and(|selector| !selector.is_null())
}

/// Decodes an object of any kind in a current version.
pub(super) fn decode(node: &Node, cx: &DecodeContext) -> Outcome {
    let text = |key| node.get(key).and_then(Node::as_str).unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    let unknown = unknown_kind(node, version, kind);
    if let Some(unknown) = unknown.as_ref().filter(|unknown| unknown.refused) {
        return Err(vec![unknown.problem.clone()]);
    }
    let outcome = match version {
        "v1" => core_kinds(kind, node, cx),
        "apps/v1" | "batch/v1" => workload_kinds(kind, node, cx),
        "storage.k8s.io/v1" => storage_kinds(kind, node, cx),
        "rbac.authorization.k8s.io/v1" => rbac_kinds(kind, node, cx),
        _ => other_kinds(version, kind, node, cx),
    };
    if let Some(outcome) = outcome {
        return outcome;
    }
    let (mut decoded, problems) = foreign(node, cx)?;
    decoded
        .warnings
        .extend(unknown.map(|unknown| unknown.problem));
    Ok((decoded, problems))
}

fn core_kinds(kind: &str, node: &Node, cx: &DecodeContext) -> Option<Outcome> {
    let sub = dns_subdomain;
    Some(match kind {
        "Pod" => known(
            node,
            cx,
            &Steps {
                defaults: defaults::core::pod,
                validate: |o, _, at, e| validate::pod::pod(o, at, e),
                row: Some(|o, json, cx| pod::pod(o, json, cx).into()),
                admit: print::admit::pod,
                ..plain::<core::Pod>(true, sub)
            },
        ),
        "Service" => known(
            node,
            cx,
            &Steps {
                defaults: defaults::service::service,
                first: validate::service_alloc::service,
                validate: |o, _, at, e| validate::service::service(o, at, e),
                row: Some(|o, json, cx| service::service(o, json, cx).into()),
                ..plain::<core::Service>(true, dns_label)
            },
        ),
        "ConfigMap" => known(
            node,
            cx,
            &Steps {
                validate: |o, _, at, e| validate::config::config_map(o, at, e),
                row: Some(|o, json, cx| config::config_map(o, json, cx).into()),
                ..plain::<core::ConfigMap>(true, sub)
            },
        ),
        "Secret" => known(
            node,
            cx,
            &Steps {
                defaults: |secret| {
                    config::merge_string_data(secret);
                    defaults::core::secret(secret);
                },
                validate: |o, _, at, e| validate::config::secret(o, at, e),
                row: Some(|o, json, cx| config::secret(o, json, cx).into()),
                ..plain::<core::Secret>(true, sub)
            },
        ),
        "Namespace" => known(
            node,
            cx,
            &Steps {
                defaults: defaults::core::namespace,
                validate: |o, _, at, e| validate::node::namespace(o, at, e),
                row: Some(|o: &core::Namespace, _, cx| {
                    let finalizers = o.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
                    let finalizers = finalizers.into_iter().flatten();
                    Namespace {
                        meta: meta(&o.metadata, cx),
                        finalizers: finalizers.map(|f| f.as_str().into()).collect(),
                        ..Namespace::default()
                    }
                    .into()
                }),
                admit: print::admit::namespace,
                ..plain::<core::Namespace>(false, dns_label)
            },
        ),
        _ => return machine_kinds(kind, node, cx),
    })
}

/// Nodes and volumes.
fn machine_kinds(kind: &str, node: &Node, cx: &DecodeContext) -> Option<Outcome> {
    let sub = dns_subdomain;
    Some(match kind {
        "Node" => known(
            node,
            cx,
            &Steps {
                defaults: defaults::core::node,
                validate: |o, _, at, e| validate::node::node(o, at, e),
                row: Some(|o, _, cx| node::node(o, cx).into()),
                ..plain::<core::Node>(false, sub)
            },
        ),
        "PersistentVolume" => known(
            node,
            cx,
            &Steps {
                defaults: defaults::storage::volume,
                validate: |o, _, at, e| validate::storage::volume(o, at, e),
                row: Some(|o, json, cx| volume::volume(o, json, cx).into()),
                admit: |json| print::admit::finalizer(json, "kubernetes.io/pv-protection"),
                ..plain::<core::PersistentVolume>(false, sub)
            },
        ),
        "PersistentVolumeClaim" => known(
            node,
            cx,
            &Steps {
                defaults: defaults::storage::claim,
                validate: |o, _, at, e| validate::storage::claim(o, at, e),
                row: Some(|o, json, cx| volume::claim(o, json, cx).into()),
                admit: |json| print::admit::finalizer(json, "kubernetes.io/pvc-protection"),
                ..plain::<core::PersistentVolumeClaim>(true, sub)
            },
        ),
        _ => return rare_core_kinds(kind, node, cx),
    })
}

fn rare_core_kinds(kind: &str, node: &Node, cx: &DecodeContext) -> Option<Outcome> {
    let sub = dns_subdomain;
    Some(match kind {
        "ReplicationController" => known(
            node,
            cx,
            &Steps {
                defaults: defaults::workload::replication_controller,
                validate: |o, _, at, e| validate::workload::replication_controller(o, at, e),
                ..plain::<core::ReplicationController>(true, sub)
            },
        ),
        "LimitRange" => known(
            node,
            cx,
            &Steps {
                defaults: defaults::policy::limit_range,
                validate: |o, _, at, e| validate::quota::limit_range(o, at, e),
                row: Some(|o, json, cx| quota::limit_range(o, json, cx).into()),
                ..plain::<core::LimitRange>(true, sub)
            },
        ),
        "ResourceQuota" => known(
            node,
            cx,
            &Steps {
                defaults: defaults::policy::resource_quota,
                validate: |o, _, at, e| validate::quota::resource_quota(o, at, e),
                row: Some(|o, json, cx| quota::resource_quota(o, json, cx).into()),
                ..plain::<core::ResourceQuota>(true, sub)
            },
        ),
        "PodTemplate" => known(
            node,
            cx,
            &Steps {
                defaults: defaults::core::pod_template_object,
                validate: |o, _, at, e| validate::rare::template(o, at, e),
                ..plain::<core::PodTemplate>(true, sub)
            },
        ),
        "ServiceAccount" => {
            let mut steps = plain::<core::ServiceAccount>(true, sub);
            steps.defaults = defaults::core::service_account;
            known(node, cx, &steps)
        }
        "Endpoints" => known(
            node,
            cx,
            &Steps {
                defaults: defaults::service::endpoints,
                validate: |o, _, at, e| validate::endpoints::endpoints(o, at, e),
                ..plain::<core::Endpoints>(true, sub)
            },
        ),
        "Event" => known(node, cx, &plain::<core::Event>(true, sub)),
        _ => return None,
    })
}

fn workload_kinds(kind: &str, node: &Node, cx: &DecodeContext) -> Option<Outcome> {
    let sub = dns_subdomain;
    Some(match kind {
        "Deployment" => known(
            node,
            cx,
            &Steps {
                defaults: defaults::workload::deployment,
                validate: |o, node, at, e| validate::workload::deployment(o, given(node), at, e),
                row: Some(|o, json, cx| workload::deployment(o, json, cx).into()),
                ..plain::<apps::Deployment>(true, sub)
            },
        ),
        "ReplicaSet" => known(
            node,
            cx,
            &Steps {
                defaults: defaults::workload::replica_set,
                validate: |o, node, at, e| validate::workload::replica_set(o, given(node), at, e),
                row: Some(|o, json, cx| workload::replica_set(o, json, cx).into()),
                ..plain::<apps::ReplicaSet>(true, sub)
            },
        ),
        "StatefulSet" => known(
            &stateful::untyped_claims(node),
            cx,
            &Steps {
                defaults: defaults::workload::stateful_set,
                validate: |o, node, at, e| {
                    validate::stateful_set::stateful_set(o, given(node), at, e)
                },
                row: Some(|o, json, cx| stateful::stateful_set(o, json, cx).into()),
                admit: print::admit::stateful_set,
                ..plain::<apps::StatefulSet>(true, dns_label)
            },
        ),
        "DaemonSet" => known(
            node,
            cx,
            &Steps {
                defaults: defaults::workload::daemon_set,
                validate: |o, node, at, e| validate::workload::daemon_set(o, given(node), at, e),
                row: Some(|o, json, cx| stateful::daemon_set(o, json, cx).into()),
                admit: print::admit::daemon_set,
                ..plain::<apps::DaemonSet>(true, sub)
            },
        ),
        _ => return batch_kinds(kind, node, cx),
    })
}

/// What runs to an end, and the history of what does not.
fn batch_kinds(kind: &str, node: &Node, cx: &DecodeContext) -> Option<Outcome> {
    let sub = dns_subdomain;
    Some(match kind {
        "Job" => known(
            node,
            cx,
            &Steps {
                defaults: defaults::batch::job,
                validate: |o, _, at, e| validate::batch::job(o, at, e),
                row: Some(|o, json, cx| decode_batch::job(o, json, cx).into()),
                ..plain::<batch::Job>(true, sub)
            },
        ),
        "CronJob" => known(
            node,
            cx,
            &Steps {
                defaults: defaults::batch::cron_job,
                validate: |o, _, at, e| validate::batch::cron_job(o, at, e),
                row: Some(|o, json, cx| decode_batch::cron_job(o, json, cx).into()),
                ..plain::<batch::CronJob>(true, sub)
            },
        ),
        "ControllerRevision" => known(
            node,
            cx,
            &Steps {
                validate: |o, node, at, e| validate::rare::controller_revision(o, node, at, e),
                row: Some(|o, json, cx| stateful::revision(o, json, cx).into()),
                ..plain::<apps::ControllerRevision>(true, sub)
            },
        ),
        _ => return None,
    })
}

fn storage_kinds(kind: &str, node: &Node, cx: &DecodeContext) -> Option<Outcome> {
    let sub = dns_subdomain;
    Some(match kind {
        "StorageClass" => known(
            node,
            cx,
            &Steps {
                defaults: defaults::storage::storage_class,
                validate: |o, _, at, e| validate::storage::storage_class(o, at, e),
                row: Some(|o, json, cx| volume::storage_class(o, json, cx).into()),
                ..plain::<storage::StorageClass>(false, sub)
            },
        ),
        "CSINode" => known(
            node,
            cx,
            &Steps {
                validate: |o, _, at, e| validate::rare::csi_node(o, at, e),
                row: Some(|o, _, cx| volume::csi_node(o, cx).into()),
                ..plain::<storage::CSINode>(false, sub)
            },
        ),
        "CSIDriver" => known(
            node,
            cx,
            &Steps {
                defaults: defaults::storage::csi_driver,
                validate: |o, _, at, e| validate::rare::csi_driver(o, at, e),
                row: Some(|o, json, cx| volume::csi_driver(o, json, cx).into()),
                ..plain::<storage::CSIDriver>(false, sub)
            },
        ),
        "VolumeAttachment" => known(
            node,
            cx,
            &Steps {
                validate: |o, _, at, e| validate::rare::volume_attachment(o, at, e),
                row: Some(|o, _, cx| volume::attachment(o, cx).into()),
                ..plain::<storage::VolumeAttachment>(false, sub)
            },
        ),
        "CSIStorageCapacity" => {
            let mut steps = plain::<storage::CSIStorageCapacity>(true, sub);
            steps.defaults = defaults::storage::capacity;
            steps.validate = |o, _, at, e| validate::rare::storage_capacity(o, at, e);
            steps.row = Some(|o, json, cx| volume::storage_capacity(o, json, cx).into());
            known(node, cx, &steps)
        }
        _ => return None,
    })
}

fn rbac_kinds(kind: &str, node: &Node, cx: &DecodeContext) -> Option<Outcome> {
    Some(match kind {
        "Role" => known(
            node,
            cx,
            &Steps {
                validate: |o, _, at, e| validate::rbac::role(o, at, e),
                ..plain::<rbac::Role>(true, path_segment)
            },
        ),
        "RoleBinding" => known(
            node,
            cx,
            &Steps {
                defaults: defaults::rbac::role_binding,
                validate: |o, _, at, e| validate::rbac::role_binding(o, at, e),
                ..plain::<rbac::RoleBinding>(true, path_segment)
            },
        ),
        "ClusterRole" => known(
            node,
            cx,
            &Steps {
                validate: |o, _, at, e| validate::rbac::cluster_role(o, at, e),
                ..plain::<rbac::ClusterRole>(false, path_segment)
            },
        ),
        "ClusterRoleBinding" => known(
            node,
            cx,
            &Steps {
                defaults: defaults::rbac::cluster_role_binding,
                validate: |o, _, at, e| validate::rbac::cluster_role_binding(o, at, e),
                ..plain::<rbac::ClusterRoleBinding>(false, path_segment)
            },
        ),
        _ => return None,
    })
}

fn other_kinds(version: &str, kind: &str, node: &Node, cx: &DecodeContext) -> Option<Outcome> {
    let sub = dns_subdomain;
    Some(match (version, kind) {
        ("policy/v1", "PodDisruptionBudget") => known(
            node,
            cx,
            &Steps {
                validate: |o, _, at, e| validate::policy::disruption_budget(o, at, e),
                row: Some(|o, json, cx| workload::disruption_budget(o, json, cx).into()),
                defaults: defaults::policy::disruption_budget,
                // Its own validation does not look at the metadata; the registry does, afterwards.
                meta_last: true,
                own_finalizers: false,
                ..plain::<policy::PodDisruptionBudget>(true, path_segment)
            },
        ),
        ("scheduling.k8s.io/v1", "PriorityClass") => known(
            node,
            cx,
            &Steps {
                defaults: defaults::policy::priority_class,
                validate: |o, _, at, e| validate::policy::priority_class(o, at, e),
                row: Some(|o: &scheduling::PriorityClass, _, cx| {
                    workload::priority_class(o, meta(&o.metadata, cx)).into()
                }),
                ..plain::<scheduling::PriorityClass>(false, sub)
            },
        ),
        ("autoscaling/v2", "HorizontalPodAutoscaler") => known(
            node,
            cx,
            &Steps {
                defaults: defaults::autoscaling::autoscaler,
                validate: |o, _, at, e| validate::autoscaling::autoscaler(o, at, e),
                row: Some(|o, json, cx| super::autoscaling::autoscaler(o, json, cx).into()),
                ..plain::<autoscaling2::HorizontalPodAutoscaler>(true, sub)
            },
        ),
        _ => return network_kinds(version, kind, node, cx),
    })
}

/// Traffic, and who holds what.
fn network_kinds(version: &str, kind: &str, node: &Node, cx: &DecodeContext) -> Option<Outcome> {
    let sub = dns_subdomain;
    Some(match (version, kind) {
        ("networking.k8s.io/v1", "Ingress") => known(
            node,
            cx,
            &Steps {
                validate: |o, node, at, e| validate::networking::ingress(o, node, at, e),
                ..plain::<networking::Ingress>(true, sub)
            },
        ),
        ("networking.k8s.io/v1", "NetworkPolicy") => known(
            node,
            cx,
            &Steps {
                defaults: defaults::policy::network_policy,
                validate: |o, _, at, e| validate::networking::network_policy(o, at, e),
                ..plain::<networking::NetworkPolicy>(true, sub)
            },
        ),
        ("discovery.k8s.io/v1", "EndpointSlice") => known(
            node,
            cx,
            &Steps {
                defaults: defaults::service::endpoint_slice,
                validate: |o, _, at, e| validate::endpoints::endpoint_slice(o, at, e),
                row: Some(|o, _, cx| service::endpoint_slice(o, cx).into()),
                ..plain::<discovery::EndpointSlice>(true, sub)
            },
        ),
        ("coordination.k8s.io/v1", "Lease") => {
            let mut steps = plain::<coordination::Lease>(true, sub);
            steps.defaults = defaults::gates::lease;
            steps.validate = |o, _, at, e| validate::rare::lease(o, at, e);
            steps.row = Some(|o, _, cx| super::node::lease(o, cx).into());
            known(node, cx, &steps)
        }
        _ => return rare_kinds(version, kind, node, cx),
    })
}

fn rare_kinds(version: &str, kind: &str, node: &Node, cx: &DecodeContext) -> Option<Outcome> {
    let sub = dns_subdomain;
    macro_rules! plain_kind {
        ($type:ty, $namespaced:literal) => {
            known(node, cx, &plain::<$type>($namespaced, sub))
        };
        // Groups whose metadata is checked by the machinery alone.
        ($type:ty) => {
            known(
                node,
                cx,
                &Steps {
                    own_finalizers: false,
                    ..plain::<$type>(false, sub)
                },
            )
        };
    }
    Some(match (version, kind) {
        ("networking.k8s.io/v1", "IngressClass") => known(
            node,
            cx,
            &Steps {
                defaults: defaults::policy::ingress_class,
                validate: |o, _, at, e| validate::rare::ingress_class(o, at, e),
                ..plain::<networking::IngressClass>(false, sub)
            },
        ),
        ("node.k8s.io/v1", "RuntimeClass") => {
            let mut steps = plain::<runtime::RuntimeClass>(false, sub);
            steps.defaults = defaults::policy::runtime_class;
            steps.validate = |o, _, at, e| validate::rare::runtime_class(o, at, e);
            known(node, cx, &steps)
        }
        ("certificates.k8s.io/v1", "CertificateSigningRequest") => {
            plain_kind!(certificates::CertificateSigningRequest, false)
        }
        ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy") => {
            plain_kind!(admission::ValidatingAdmissionPolicy)
        }
        ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding") => {
            plain_kind!(admission::ValidatingAdmissionPolicyBinding)
        }
        ("admissionregistration.k8s.io/v1", kind) => return webhooks(kind, node, cx),
        ("flowcontrol.apiserver.k8s.io/v1", "FlowSchema") => {
            plain_kind!(flowcontrol::FlowSchema, false)
        }
        ("flowcontrol.apiserver.k8s.io/v1", "PriorityLevelConfiguration") => {
            plain_kind!(flowcontrol::PriorityLevelConfiguration, false)
        }
        ("apiregistration.k8s.io/v1", "APIService") => plain_kind!(registration::APIService),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition") => {
            plain_kind!(extensions::CustomResourceDefinition)
        }
        _ => return None,
    })
}

fn webhooks(kind: &str, node: &Node, cx: &DecodeContext) -> Option<Outcome> {
    Some(match kind {
        "MutatingWebhookConfiguration" => known(
            node,
            cx,
            &Steps {
                own_finalizers: false,
                defaults: defaults::webhook::mutating,
                validate: |o, _, at, e| validate::webhook::mutating(o, at, e),
                ..plain::<admission::MutatingWebhookConfiguration>(false, dns_subdomain)
            },
        ),
        "ValidatingWebhookConfiguration" => known(
            node,
            cx,
            &Steps {
                own_finalizers: false,
                defaults: defaults::webhook::validating,
                validate: |o, _, at, e| validate::webhook::validating(o, at, e),
                ..plain::<admission::ValidatingWebhookConfiguration>(false, dns_subdomain)
            },
        ),
        _ => return None,
    })
}
