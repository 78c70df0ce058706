//! Which endpoints of a Service port a proxy uses: a port of kube-proxy's rules.
//!
//! Ready endpoints, or serving and terminating ones when none is ready; of the node itself where a
//! traffic policy is `Local`. Where every ready endpoint has a hint, those that are for the node, or
//! for its zone, are preferred. Without hints the cluster-wide list is the same on every node and is
//! computed once for a version.

use std::sync::Arc;

use super::topology::{Place, Topology};
use crate::api::service::Hints;

/// An endpoint as a proxy programs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Address.
    pub ip: u32,
    /// Number of the pod behind it, `u32::MAX` when there is none.
    pub pod: u32,
    /// The node.
    pub place: Place,
    /// Port of the endpoint.
    pub port: u16,
    /// Ready and not terminating (or the Service publishes addresses that are not ready).
    pub ready: bool,
    /// Ready, whether terminating or not.
    pub serving: bool,
    /// The pod is being deleted.
    pub terminating: bool,
}

/// The endpoints of a Service port, sorted out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Categorized {
    /// Usable under traffic policy `Cluster`.
    pub cluster: Vec<Endpoint>,
    /// Usable under traffic policy `Local` on the given node.
    pub local: Vec<Endpoint>,
    /// Whether any endpoint is usable from anywhere; without one, connections are rejected.
    pub any: bool,
}

/// What a Service port asks of the proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Policy {
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// Reachable by node port or load balancer.
    pub external: bool,
}

impl Policy {
    /// `pkg/proxy/serviceport.go :: UsesClusterEndpoints`.
    pub fn uses_cluster(self) -> bool {
        !self.internal_local || self.external
    }

    /// `pkg/proxy/serviceport.go :: UsesLocalEndpoints`.
    pub fn uses_local(self) -> bool {
        self.internal_local || (self.external_local && self.external)
    }
}

/// Hints of endpoints, in the same order; empty when no endpoint has any.
pub type AllHints = [Option<Arc<Hints>>];

/// `pkg/proxy/topology.go :: CategorizeEndpoints`.
pub fn categorize(
    all: &[Endpoint],
    hints: &AllHints,
    policy: Policy,
    node: Place,
    topology: &Topology,
) -> Categorized {
    let mut found = Categorized::default();
    if policy.uses_cluster() {
        found.cluster = near(all, hints, node, topology);
        found.any = !found.cluster.is_empty();
    }
    if !policy.uses_local() {
        return found;
    }
    found.any |= all.iter().any(|e| e.ready || (e.serving && e.terminating));
    found.local = usable(all, |e| e.place == node);
    found
}

/// The endpoints of traffic policy `Cluster` for the proxy of a node, which follows hints where it
/// can (`topologyModeFromHints`, `availableForTopology`).
pub fn near(all: &[Endpoint], hints: &AllHints, node: Place, topology: &Topology) -> Vec<Endpoint> {
    if hints.is_empty() {
        return usable(all, |_| true);
    }
    let (name, zone) = (topology.name(node), topology.zone_of(node));
    let ready = || all.iter().zip(hints).filter(|(e, _)| e.ready);
    let chosen = |of: fn(&Hints) -> &[crate::api::Text], here: &crate::api::Text| {
        let for_here = |hints: &Hints| of(hints).contains(here);
        let hinted = |h: &Option<Arc<Hints>>| h.as_ref().is_some_and(|h| !of(h).is_empty());
        if !ready().all(|(_, h)| hinted(h)) {
            return None;
        }
        let here = ready().filter(|(_, h)| h.as_deref().is_some_and(for_here));
        let here: Vec<Endpoint> = here.map(|(e, _)| *e).collect();
        (!here.is_empty()).then_some(here)
    };
    chosen(|h| &h.nodes, name)
        .or_else(|| chosen(|h| &h.zones, zone))
        .unwrap_or_else(|| usable(all, |_| true))
}

/// Ready endpoints, else those that serve while terminating.
pub fn usable(all: &[Endpoint], keep: impl Fn(&Endpoint) -> bool) -> Vec<Endpoint> {
    let pick = |want: fn(&Endpoint) -> bool| -> Vec<Endpoint> {
        all.iter().filter(|e| want(e) && keep(e)).copied().collect()
    };
    let ready = pick(|e| e.ready);
    if ready.is_empty() {
        pick(|e| e.serving && e.terminating)
    } else {
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::topology::Latencies;

    /// `r1` is a ready endpoint on node 1, `t` serves and terminates, `n` is not ready, `d`
    /// terminates without serving.
    fn endpoints(text: &str) -> Vec<Endpoint> {
        text.split_whitespace()
            .enumerate()
            .map(|(i, word)| Endpoint {
                ip: i as u32,
                pod: i as u32,
                place: Place(word[1..].parse().unwrap()),
                port: 80,
                ready: word.starts_with('r'),
                serving: word.starts_with(['r', 't']),
                terminating: word.starts_with(['t', 'd']),
            })
            .collect()
    }

    fn numbers(endpoints: &[Endpoint]) -> String {
        let words: Vec<_> = endpoints.iter().map(|e| e.ip.to_string()).collect();
        words.join(" ")
    }

    #[test]
    fn endpoints_are_sorted_out_as_kube_proxy_does() {
        // policy: i = internal Local, e = external Local, x = externally reachable; node 1 asks.
        // The cases follow pkg/proxy/topology_test.go :: TestCategorizeEndpoints.
        let table = [
            // policy, endpoints, cluster, local, any
            ("", "r1 r2 n1", "0 1", "", true),
            ("", "", "", "", false),
            ("", "n1 n2", "", "", false),
            ("", "t1 t2 n1", "0 1", "", true),
            ("", "t1 r2 d1", "1", "", true),
            ("", "d1 d2", "", "", false),
            ("i", "r1 r2", "", "0", true),
            ("i", "r2 r3", "", "", true),
            ("i", "t1 r2", "", "0", true),
            ("i", "n1 n2", "", "", false),
            ("ex", "r1 r2", "0 1", "0", true),
            ("ex", "r2 t1", "0", "1", true),
            ("ex", "t1 t2", "0 1", "0", true),
            ("e", "r1 r2", "0 1", "", true),
            ("ix", "r1 r2", "0 1", "0", true),
        ];
        for (policy, text, cluster, local, any) in table {
            let policy = Policy {
                internal_local: policy.contains('i'),
                external_local: policy.contains('e'),
                external: policy.contains('x'),
            };
            let topology = Topology::new(Latencies::default());
            let found = categorize(&endpoints(text), &[], policy, Place(1), &topology);
            assert_eq!(numbers(&found.cluster), cluster, "cluster of {text}");
            assert_eq!(numbers(&found.local), local, "local of {text}");
            assert_eq!(found.any, any, "any of {text}");
        }
    }

    /// After `topology_test.go :: TestCategorizeEndpoints` ("hints enabled …", "PreferSameNode …").
    /// Nodes: a1 and a2 in zone a, b1 in zone b, c1 in zone c; places 2 to 5. An endpoint's word is
    /// followed by `@` and its hints: zones, nodes.
    #[test]
    fn hints_are_followed_where_every_ready_endpoint_has_one() {
        let mut topology = Topology::new(Latencies::default());
        let nodes = [("a1", "a"), ("a2", "a"), ("b1", "b"), ("c1", "c")];
        let places = nodes.map(|(node, zone)| topology.node(node, zone));
        // node that asks, endpoints, chosen
        let table = [
            ("a1", "r2@a r4@b", "0"),
            ("b1", "r2@a r4@b", "1"),
            // nobody is for this zone
            ("c1", "r2@a r4@b", "0 1"),
            // one ready endpoint has no hint
            ("a1", "r2@a r4", "0 1"),
            // one that is not ready needs none
            ("a1", "r2@a n4 r5@a", "0 2"),
            // none of the zone is ready
            ("a1", "n2@a r4@b", "1"),
            // a hint is more than a place: b1's endpoint is for zone a
            ("a2", "r2@b r4@a", "1"),
            ("a1", "r2@a,b r4@b", "0"),
            // of the node first, then of the zone, then anybody
            ("a1", "r2@a+a1 r3@a+a2 r4@b+b1", "0"),
            ("a2", "r2@a+a1 r4@b+b1", "0"),
            ("c1", "r2@a+a1 r4@b+b1", "0 1"),
            // all that are left are going
            ("a1", "t2@a t4@b", "0 1"),
            ("a1", "t2@a r4@b", "1"),
        ];
        for (node, text, expected) in table {
            let words = text
                .split(' ')
                .map(|w| w.split_once('@').unwrap_or((w, "")));
            let (words, hints): (Vec<&str>, Vec<&str>) = words.unzip();
            let hints = hints.iter().map(|text| {
                let (zones, nodes) = text.split_once('+').unwrap_or((text, ""));
                let names = |text: &str| {
                    let names = text.split(',').filter(|name| !name.is_empty());
                    names.map(crate::api::Text::from).collect()
                };
                let (zones, nodes) = (names(zones), names(nodes));
                (!text.is_empty()).then(|| Arc::new(Hints { zones, nodes }))
            });
            let hints: Vec<_> = hints.collect();
            let at = nodes.iter().position(|(name, _)| *name == node).unwrap();
            let all = endpoints(&words.join(" "));
            let found = near(&all, &hints, places[at], &topology);
            assert_eq!(numbers(&found), expected, "{node}: {text}");
        }
    }
}
