//! Where a Traffic goes.

use crate::load::Traffic;
use crate::net::dns::{self, PortRef};
use crate::net::services::{ServiceId, Services, Version};

/// What a Traffic's `to` means.
#[derive(Clone, Debug)]
enum To {
    /// A name: its readings in order, the pod's host name among them.
    Name(Vec<(String, ServiceId)>, PortRef),
    /// A node port, of one node or of all.
    NodePort(Option<String>, u16),
}

/// A Traffic on its way.
#[derive(Clone, Debug)]
pub struct Heading {
    /// The Traffic's number.
    pub number: u32,
    /// What stands in the `Host` header.
    pub host: String,
    to: To,
    last: Option<Vec<(u32, u16)>>,
}

impl Heading {
    /// Reads a Traffic's `to`.
    pub fn new(number: u32, traffic: &Traffic, services: &mut Services) -> Heading {
        let text = traffic.to.as_str();
        let (host, to) = match text.strip_prefix("nodePort/") {
            Some(rest) => {
                let (node, port) = rest.rsplit_once(':').unwrap_or(("", rest));
                let node = (!node.is_empty()).then(|| node.to_owned());
                let to = To::NodePort(node, port.parse().unwrap_or(0));
                (rest.to_owned(), to)
            }
            None => {
                let (namespace, name, port) = dns::split(text, &traffic.namespace);
                let readings = dns::readings(name, namespace).into_iter();
                let readings =
                    readings.map(|r| (r.pod.to_string(), services.id(&r.namespace, &r.service)));
                (name.to_owned(), To::Name(readings.collect(), port))
            }
        };
        Heading {
            number,
            host,
            to,
            last: None,
        }
    }

    /// Where it goes now, when that is somewhere else than at the last look. `nodes` are the nodes
    /// with their addresses.
    pub fn look(
        &mut self,
        services: &Services,
        nodes: &[(String, u32)],
    ) -> Option<Vec<(u32, u16)>> {
        let now: Vec<_> = match &self.to {
            To::NodePort(node, port) => {
                let wanted = |name: &str| node.as_ref().is_none_or(|n| n == name);
                let nodes = nodes.iter().filter(|(name, _)| wanted(name));
                nodes.map(|(_, ip)| (*ip, *port)).collect()
            }
            To::Name(readings, port) => {
                let mut found = readings.iter().filter_map(|(pod, id)| {
                    let version = services.newest(*id)?;
                    addresses(version, *id, pod, port)
                });
                found.next().unwrap_or_default()
            }
        };
        if self.last.as_ref() == Some(&now) {
            return None;
        }
        self.last = Some(now.clone());
        Some(now)
    }
}

/// What one reading of a name leads to; none when there is no such name.
fn addresses(
    version: &Version,
    id: ServiceId,
    pod: &str,
    port: &PortRef,
) -> Option<Vec<(u32, u16)>> {
    let service = version.service.as_ref()?;
    let at = match port {
        PortRef::First => 0,
        PortRef::Number(number) => service
            .ports
            .iter()
            .position(|p| p.port == *number)
            .unwrap_or(usize::MAX),
        PortRef::Name(name) => service.ports.iter().position(|p| p.name == *name)?,
    };
    let number = match (service.ports.get(at), port) {
        (Some(port), _) => port.port,
        // A port that the Service does not have: the attempt is made, and refused.
        (None, PortRef::Number(number)) => *number,
        (None, _) => return None,
    };
    if let (Some(ip), true) = (super::address(service, id), pod.is_empty()) {
        return Some(vec![(ip, number)]);
    }
    // Names of pods and headless Services are the endpoints themselves, at the ports there.
    let name = service.ports.get(at).map(|p| p.name.clone());
    let mut found = Vec::new();
    for (endpoint, ports) in version.endpoints_with_ports() {
        let usable = endpoint.ready || service.publish_not_ready;
        if usable && (pod.is_empty() || endpoint.pod == pod) {
            let port = ports.iter().find(|p| Some(&p.name) == name.as_ref());
            found.push((endpoint.ip, port.map_or(number, |p| p.port)));
        }
    }
    (!found.is_empty()).then_some(found)
}
