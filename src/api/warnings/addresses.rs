//! Warnings about addresses in a form that is not the usual one, about profiles of AppArmor in
//! annotations, and about kinds that are on their way out.
//!
//! `apimachinery/pkg/util/validation/ip.go :: GetWarningsForIP`, `GetWarningsForCIDR`; what is not
//! valid at all is refused before anybody is warned.

use std::net::Ipv6Addr;

use serde_json::Value;

use super::{Warnings, join, list, text};

impl Warnings {
    /// What each kind has of addresses, in the order of its registry.
    pub(super) fn addresses(&mut self, kind: &str, object: &Value) {
        let spec = &object["spec"];
        match kind {
            "Service" => {
                let set = text(spec, "clusterIP") != "None";
                for (at, ip) in list(spec, "clusterIPs").filter(|_| set) {
                    self.address(&format!("spec.clusterIPs[{at}]"), ip);
                }
                for (at, ip) in list(spec, "externalIPs") {
                    self.address(&format!("spec.externalIPs[{at}]"), ip);
                }
                self.address("spec.loadBalancerIP", &spec["loadBalancerIP"]);
                for (at, range) in list(spec, "loadBalancerSourceRanges") {
                    self.network(&format!("spec.loadBalancerSourceRanges[{at}]"), range);
                }
            }
            "NetworkPolicy" => {
                for (way, peers) in [("ingress", "from"), ("egress", "to")] {
                    for (rule_at, rule) in list(spec, way) {
                        for (at, peer) in list(rule, peers) {
                            let path = format!("spec.{way}[{rule_at}].{peers}[{at}].ipBlock");
                            let block = &peer["ipBlock"];
                            self.network(&join(&path, "cidr"), &block["cidr"]);
                            for (at, except) in list(block, "except") {
                                self.network(&format!("{path}.except[{at}]"), except);
                            }
                        }
                    }
                }
            }
            "Node" => {
                for (at, range) in list(spec, "podCIDRs") {
                    self.network(&format!("spec.podCIDRs[{at}]"), range);
                }
            }
            "Endpoints" => self.endpoints(object),
            "CSIDriver" => {
                let asks = list(spec, "tokenRequests").next().is_some();
                if asks && spec["serviceAccountTokenInSecrets"].is_null() {
                    self.0.push(
                        "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI \
                         driver, set to true to prevent possible logging of tokens in volume \
                         attributes"
                            .to_owned(),
                    );
                }
            }
            _ => {}
        }
    }

    fn endpoints(&mut self, object: &Value) {
        let newer = "use discovery.k8s.io/v1 EndpointSlice";
        self.0
            .push(format!("v1 Endpoints is deprecated in v1.33+; {newer}"));
        for (subset_at, subset) in list(object, "subsets") {
            for field in ["addresses", "notReadyAddresses"] {
                for (at, address) in list(subset, field) {
                    let path = format!("subsets[{subset_at}].{field}[{at}].ip");
                    self.address(&path, &address["ip"]);
                }
            }
        }
    }

    /// The addresses of a pod's spec.
    pub(super) fn pod_addresses(&mut self, at: &str, spec: &Value) {
        for (i, server) in list(&spec["dnsConfig"], "nameservers") {
            self.address(&format!("{at}.dnsConfig.nameservers[{i}]"), server);
        }
        for (i, alias) in list(spec, "hostAliases") {
            self.address(&format!("{at}.hostAliases[{i}].ip"), &alias["ip"]);
        }
    }

    fn address(&mut self, path: &str, ip: &Value) {
        let written = ip.as_str().unwrap_or_default();
        let Ok(six) = written.parse::<Ipv6Addr>() else {
            return;
        };
        let usual = six.to_string();
        if usual != written {
            let form = "should be in RFC 5952 canonical format";
            self.say(path, format!("IPv6 address {written:?} {form} ({usual:?})"));
        }
    }

    fn network(&mut self, path: &str, range: &Value) {
        let written = range.as_str().unwrap_or_default();
        let Some((ip, bits)) = written.split_once('/') else {
            return;
        };
        let Ok(six) = ip.parse::<Ipv6Addr>() else {
            return;
        };
        let usual = format!("{six}/{bits}");
        if usual != written {
            let form = "should be in RFC 5952 canonical format";
            self.say(
                path,
                format!("IPv6 CIDR value {written:?} {form} ({usual:?})"),
            );
        }
    }

    /// An annotation that names a profile of AppArmor where the field, of the container or of the
    /// pod, says nothing or something else.
    pub(super) fn app_armor(&mut self, pod_path: &str, pod: &Value, container: &Value) {
        let key = "container.apparmor.security.beta.kubernetes.io/";
        let key = format!("{key}{}", text(container, "name"));
        let Some(profile) = pod["metadata"]["annotations"]
            .get(&key)
            .and_then(Value::as_str)
        else {
            return;
        };
        let field = |of: &Value| of["securityContext"]["appArmorProfile"].clone();
        let of_pod = field(&pod["spec"]);
        let same = match (text(&of_pod, "type"), profile) {
            ("RuntimeDefault", "runtime/default") | ("Unconfined", "unconfined") => true,
            ("Localhost", profile) => {
                profile.strip_prefix("localhost/") == Some(text(&of_pod, "localhostProfile"))
            }
            _ => false,
        };
        if field(container).is_null() && !same {
            let path = join(pod_path, &format!("metadata.annotations[{key}]"));
            let message = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
            self.say(&path, message);
        }
    }
}
