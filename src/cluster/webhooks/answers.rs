//! What becomes of a question to a webhook, in the words of the API server.
//!
//! An error travels through client-go and Go's HTTP client before the caller reads it:
//! `Internal error occurred: failed calling webhook "NAME": failed to call webhook: Post "URL": WHY`
//! (`staging/src/k8s.io/apimachinery/pkg/api/errors/errors.go :: NewInternalError`,
//! `staging/src/k8s.io/apiserver/pkg/util/webhook/error.go`, the dispatchers' `callHook`). An answer
//! that says no by its status has no `Post` before it (`errors.go :: NewGenericServerResponse`).

use std::net::Ipv4Addr;
use std::time::Duration;

use super::super::dispatch::Cluster;
use crate::api::service::ServiceKind;
use crate::api::webhook::{Backend, Webhook};
use crate::api::{EndpointSlice, Service, Text};
use crate::load::tally::Cause;
use crate::store::{ApiError, View};

/// Where a question goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To the cluster address of a Service.
    Cluster,
    /// Out of the cluster.
    Outside,
}

/// `staging/src/k8s.io/apiserver/pkg/util/proxy/proxy.go :: ResolveCluster`.
pub(super) fn resolve(backend: &Backend, view: &View) -> Result<Way, String> {
    let Backend::Service {
        namespace,
        name,
        port,
        ..
    } = backend
    else {
        return Ok(Way::Outside);
    };
    let Some((_, service)) = view.of::<Service>().named(namespace, name) else {
        return Err(format!("service \"{name}\" not found"));
    };
    match service.kind {
        ServiceKind::ExternalName => Ok(Way::Outside),
        ServiceKind::ClusterIp if service.headless => {
            Err("cannot route to service with ClusterIP \"None\"".to_owned())
        }
        _ if service.ports.iter().all(|of| of.port != *port) => Err(format!(
            "no service port {port} found for service \"{name}\""
        )),
        _ => Ok(Way::Cluster),
    }
}

/// What the API server dials: the Service's address, or its name where it has none.
pub(super) fn address(backend: &Backend, view: &View) -> String {
    let Backend::Service {
        namespace,
        name,
        port,
        ..
    } = backend
    else {
        return String::new();
    };
    let service = view.of::<Service>().named(namespace, name);
    match service.and_then(|(_, service)| service.cluster_ip) {
        Some(ip) => format!("{}:{port}", Ipv4Addr::from(ip)),
        None => format!("{name}.{namespace}.svc:{port}"),
    }
}

/// An error of Go's HTTP client.
pub(super) fn posted(backend: &Backend, timeout: Duration, why: &str) -> String {
    let seconds = timeout.as_secs();
    let url = match backend {
        Backend::Service {
            namespace,
            name,
            path,
            port,
        } => format!("https://{name}.{namespace}.svc:{port}{path}?timeout={seconds}s"),
        Backend::Url(url) => format!("{url}?timeout={seconds}s"),
    };
    format!("failed to call webhook: Post \"{url}\": {why}")
}

/// A question that failed, as the API server says it.
pub(super) fn failed(cause: Cause, backend: &Backend, timeout: Duration, address: &str) -> String {
    let why = match cause {
        Cause::Refused | Cause::NoEndpoints => {
            format!("dial tcp {address}: connect: connection refused")
        }
        Cause::Timeout => "context deadline exceeded".to_owned(),
        Cause::Reset => "EOF".to_owned(),
        Cause::Dns => format!("dial tcp: lookup {address}: no such host"),
        Cause::Unavailable => {
            return "failed to call webhook: the server is currently unable to handle the request"
                .to_owned();
        }
        Cause::Error | Cause::Downstream => {
            return "failed to call webhook: an error on the server (\"\") has prevented the \
                    request from succeeding"
                .to_owned();
        }
    };
    posted(backend, timeout, &why)
}

/// The refusal of a request because a webhook could not be asked.
pub(super) fn internal(webhook: &Webhook, why: &str) -> ApiError {
    ApiError::Internal(format!(
        "Internal error occurred: failed calling webhook \"{}\": {why}",
        webhook.name
    ))
}

/// What is told of a webhook that fails, or answers again.
pub(super) fn story(webhook: &Webhook, fails: Option<&str>) -> String {
    let name = &webhook.name;
    let Some(why) = fails else {
        return format!("webhook {name} answers again");
    };
    let why = why.trim_start_matches("failed to call webhook: ");
    match webhook.ignore {
        true => format!("webhook {name} cannot be asked, and is passed over: {why}"),
        false => format!("webhook {name} cannot be asked, so requests are refused: {why}"),
    }
}

impl Cluster {
    /// What becomes of a question where containers are real: it is not sent, but judged by the
    /// readiness of endpoints and by what is known of their machines.
    pub(super) fn believed(
        &self,
        (namespace, name): (&Text, &Text),
        port: u16,
        draw: u64,
    ) -> Result<(), Cause> {
        let view = self.api.store.view();
        let service = view.of::<Service>().named(namespace, name);
        let ports = service
            .map(|(_, service)| &service.ports[..])
            .unwrap_or_default();
        let port = ports.iter().find(|of| of.port == port);
        let slices = view.of::<EndpointSlice>().in_namespace(namespace);
        let slices = slices.filter(|(_, slice)| slice.service_name() == Some(name));
        let serving = slices.filter(|(_, slice)| {
            port.is_some_and(|port| slice.ports.iter().any(|of| of.name == port.name))
        });
        let ready: Vec<_> = serving
            .flat_map(|(_, slice)| slice.endpoints.iter().filter(|e| e.ready))
            .collect();
        if ready.is_empty() {
            return Err(Cause::NoEndpoints);
        }
        let pick = (u128::from(draw) * ready.len() as u128) >> 64;
        let node = ready[pick as usize].node.as_str();
        let machine = self.machine_named(node);
        match machine {
            Some((_, machine)) if !machine.powered || !machine.reachable => Err(Cause::Timeout),
            _ => Ok(()),
        }
    }
}
