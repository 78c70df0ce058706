//! Services: the addresses and node ports that the API server hands out, and what follows from
//! them when a Service changes.
//!
//! `pkg/registry/core/service/{strategy,storage/alloc}.go` and its allocators. The cluster has one
//! range of IPv4 addresses (`--service-cluster-ip-range`) and the ports 30000 to 32767; what a
//! manifest names is reserved, what it leaves open is drawn, keyed by the Service's name, so that
//! other Services move an address only by having taken it. Addresses of imported Services may lie
//! outside the range: they have been handed out by somebody else.
//!
//! Read first: [`Pools`]; [`update`] holds the rules for changes.

mod pool;
pub(super) mod update;

use std::sync::Arc;

use serde_json::{Value, json};

pub use pool::Pools;
use pool::Wanted;

use super::write::ApiError;
use crate::api::service::{ServiceKind, ServicePort};
use crate::api::{Row, Service};
use crate::engine::draws::Draws;

/// Gives a new Service what it lacks, or refuses what is taken (`allocateCreate`). `imported` is
/// one that another cluster has created.
pub(super) fn create(
    service: &mut Service,
    pools: &Pools,
    draws: &Draws,
    imported: bool,
) -> Result<(), ApiError> {
    if service.kind == ServiceKind::ExternalName {
        return Ok(());
    }
    families(service)?;
    let mut wanted = Wanted::default();
    address(service, pools, draws, imported)?;
    ports(service, pools, draws, &mut wanted)?;
    health_port(service, pools, draws, &mut wanted)?;
    write_source(service);
    Ok(())
}

fn invalid(service: &Service, cause: String) -> ApiError {
    ApiError::invalid(&Row::from(service.clone()), vec![cause])
}

/// `initIPFamilyFields`, for a cluster with IPv4 alone.
fn families(service: &mut Service) -> Result<(), ApiError> {
    if !service.source.is_object() {
        return Ok(());
    }
    let spec = &*service.source;
    let selectorless = service.headless && service.selector.is_empty();
    let texts = |field: &str| -> Vec<String> {
        let list = spec[field].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let (ips, mut families) = (texts("clusterIPs"), texts("ipFamilies"));
    let default = if selectorless {
        "RequireDualStack"
    } else {
        "SingleStack"
    };
    let policy = spec["ipFamilyPolicy"]
        .as_str()
        .unwrap_or(default)
        .to_owned();
    let bad_policy = |why: &str| {
        let cause = format!("spec.ipFamilyPolicy: Invalid value: \"{policy}\": {why}");
        Err(invalid(service, cause))
    };
    let both = "must be 'RequireDualStack' or 'PreferDualStack' when multiple";
    if policy == "SingleStack" && ips.len() == 2 {
        return bad_policy(&format!("{both} cluster IPs are specified"));
    }
    if policy == "SingleStack" && families.len() == 2 {
        return bad_policy(&format!("{both} IP families are specified"));
    }
    for (index, ip) in ips.iter().enumerate().filter(|(_, ip)| *ip != "None") {
        if index < families.len() {
            continue;
        }
        if ip.contains(':') {
            let all = json!(ips);
            let why = "IPv6 is not configured on this cluster";
            let cause = format!("spec.clusterIPs[{index}]: Invalid value: {all}: {why}");
            return Err(invalid(service, cause));
        }
        families.push("IPv4".to_owned());
    }
    if selectorless {
        if families.is_empty() {
            families.push("IPv4".to_owned());
        }
        if families.len() < 2 && policy != "SingleStack" {
            let other = ["IPv6", "IPv4"][usize::from(families[0] == "IPv6")];
            families.push(other.to_owned());
        }
    } else {
        if policy == "RequireDualStack" {
            return bad_policy("this cluster is not configured for dual-stack services");
        }
        if let Some(index) = families.iter().position(|family| family == "IPv6") {
            let why = "not configured on this cluster";
            let cause = format!("spec.ipFamilies[{index}]: Invalid value: \"IPv6\": {why}");
            return Err(invalid(service, cause));
        }
        if families.is_empty() {
            families.push("IPv4".to_owned());
        }
    }
    let spec = Arc::make_mut(&mut service.source);
    spec["ipFamilyPolicy"] = json!(policy);
    spec["ipFamilies"] = json!(families);
    Ok(())
}

/// `allocClusterIPs`.
fn address(
    service: &mut Service,
    pools: &Pools,
    draws: &Draws,
    imported: bool,
) -> Result<(), ApiError> {
    if service.headless {
        return Ok(());
    }
    match service.cluster_ip {
        Some(ip) => pools.reserve(ip, imported).map_err(|why| {
            let ip = std::net::Ipv4Addr::from(ip);
            let all = json!([ip.to_string()]);
            let why = format!("failed to allocate IP {ip}: {why}");
            invalid(
                service,
                format!("spec.clusterIPs: Invalid value: {all}: {why}"),
            )
        }),
        None => {
            let ip = pools.draw(draws, &service.meta).ok_or_else(|| {
                ApiError::Internal(format!(
                    "Internal error occurred: failed to allocate a serviceIP for Service \
                     \"{}\": range is full",
                    service.meta.name
                ))
            })?;
            service.cluster_ip = Some(ip);
            Ok(())
        }
    }
}

/// `shouldAllocateNodePorts`.
fn wants_ports(service: &Service) -> bool {
    match service.kind {
        ServiceKind::NodePort => true,
        ServiceKind::LoadBalancer => service.source["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

fn has_ports(service: &Service) -> bool {
    matches!(
        service.kind,
        ServiceKind::NodePort | ServiceKind::LoadBalancer
    )
}

/// `initNodePorts`: ports of one number (TCP and UDP) share a node port.
fn ports(
    service: &mut Service,
    pools: &Pools,
    draws: &Draws,
    wanted: &mut Wanted,
) -> Result<(), ApiError> {
    if !has_ports(service) {
        return Ok(());
    }
    let mut shared: Vec<(u16, u16)> = Vec::new();
    for index in 0..service.ports.len() {
        let ServicePort {
            port, node_port, ..
        } = service.ports[index];
        if node_port == 0 && !wants_ports(service) {
            continue;
        }
        let before = shared.iter().find(|(of, _)| *of == port).map(|(_, to)| *to);
        let refuse = |np: u16, why: String| {
            let cause = format!("spec.ports[{index}].nodePort: Invalid value: {np}: {why}");
            invalid(service, cause)
        };
        let given = match before {
            None => {
                let asked = service
                    .ports
                    .iter()
                    .filter(|p| p.port == port && p.node_port != 0);
                match asked.map(|p| p.node_port).next() {
                    Some(np) => {
                        pools
                            .reserve_port(np, wanted)
                            .map_err(|why| refuse(np, why))?;
                        np
                    }
                    None => next_port(service, pools, draws, wanted)?,
                }
            }
            Some(to) if node_port == 0 || node_port == to => to,
            Some(_) => {
                let np = node_port;
                pools
                    .reserve_port(np, wanted)
                    .map_err(|why| refuse(np, why))?;
                np
            }
        };
        if before.is_none() {
            shared.push((port, given));
        }
        service.ports[index].node_port = given;
    }
    Ok(())
}

fn next_port(
    service: &Service,
    pools: &Pools,
    draws: &Draws,
    wanted: &mut Wanted,
) -> Result<u16, ApiError> {
    pools
        .draw_port(draws, &service.meta, wanted)
        .ok_or_else(|| {
            let why = "Internal error occurred: failed to allocate a nodePort: range is full";
            ApiError::Internal(why.to_owned())
        })
}

/// `NeedsHealthCheck`.
fn checked(service: &Service) -> bool {
    service.kind == ServiceKind::LoadBalancer && service.external_local
}

/// `healthCheckNodePort`, 0 when there is none.
fn health(service: &Service) -> u16 {
    let port = service.source["healthCheckNodePort"].as_u64().unwrap_or(0);
    u16::try_from(port).unwrap_or(0)
}

/// `allocHealthCheckNodePort`.
fn health_port(
    service: &mut Service,
    pools: &Pools,
    draws: &Draws,
    wanted: &mut Wanted,
) -> Result<(), ApiError> {
    if !checked(service) || !service.source.is_object() {
        return Ok(());
    }
    let port = match health(service) {
        0 => next_port(service, pools, draws, wanted)?,
        port => {
            pools.reserve_port(port, wanted).map_err(|why| {
                let what = "Internal error occurred: failed to allocate requested HealthCheck";
                ApiError::Internal(format!("{what} NodePort {port}: {why}"))
            })?;
            port
        }
    };
    Arc::make_mut(&mut service.source)["healthCheckNodePort"] = json!(port);
    Ok(())
}

/// Puts addresses and ports into the JSON that is printed.
fn write_source(service: &mut Service) {
    if !service.source.is_object() {
        return;
    }
    let mut spec = Value::clone(&service.source);
    match service.cluster_ip {
        Some(ip) => {
            let ip = std::net::Ipv4Addr::from(ip).to_string();
            spec["clusterIPs"] = json!([ip]);
            spec["clusterIP"] = json!(ip);
        }
        None if service.headless => spec["clusterIPs"] = json!(["None"]),
        None => {
            let map = spec.as_object_mut();
            map.map(|map| {
                (
                    map.shift_remove("clusterIP"),
                    map.shift_remove("clusterIPs"),
                )
            });
        }
    }
    if let Some(ports) = spec.get_mut("ports").and_then(Value::as_array_mut) {
        for (json, port) in ports.iter_mut().zip(&service.ports) {
            match port.node_port {
                0 => drop(
                    json.as_object_mut()
                        .and_then(|map| map.shift_remove("nodePort")),
                ),
                number => json["nodePort"] = json!(number),
            }
        }
    }
    if spec != *service.source {
        service.source = Arc::new(spec);
    }
}

#[cfg(test)]
mod tests;
