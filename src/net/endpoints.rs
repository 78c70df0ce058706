//! Which endpoints of a Service port a proxy uses: a port of kube-proxy's rules.
//!
//! Ready endpoints, or serving and terminating ones when none is ready; of the node itself where a
//! traffic policy is `Local`. Topology hints are not modelled (EndpointSlices carry none here), so
//! the cluster-wide list is the same on every node and is computed once for a version.

use super::topology::Place;

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

/// `pkg/proxy/topology.go :: CategorizeEndpoints`, without hints.
pub fn categorize(all: &[Endpoint], policy: Policy, node: Place) -> Categorized {
    let mut found = Categorized::default();
    if policy.uses_cluster() {
        found.cluster = usable(all, |_| true);
        found.any = !found.cluster.is_empty();
    }
    if !policy.uses_local() {
        return found;
    }
    found.any |= all.iter().any(|e| e.ready || (e.serving && e.terminating));
    found.local = usable(all, |e| e.place == node);
    found
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
            let found = categorize(&endpoints(text), policy, Place(1));
            assert_eq!(numbers(&found.cluster), cluster, "cluster of {text}");
            assert_eq!(numbers(&found.local), local, "local of {text}");
            assert_eq!(found.any, any, "any of {text}");
        }
    }
}
