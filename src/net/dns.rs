//! Names of Services and of pods behind headless Services.
//!
//! Upstream: the DNS specification of Kubernetes (`<svc>.<ns>.svc.<zone>`, and
//! `<hostname>.<svc>.<ns>.svc.<zone>` for pods of a headless Service) and the search path that a
//! pod's resolver applies: its own namespace, then all Services, then the cluster.

use smallvec::SmallVec;

use crate::api::Text;

/// The cluster's DNS zone.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// One reading of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The pod's host name, empty for the Service itself.
    pub pod: Text,
    /// The Service.
    pub service: Text,
    /// Its namespace.
    pub namespace: Text,
}

/// Which port of a Service is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PortRef {
    /// The first one.
    #[default]
    First,
    /// By number.
    Number(u16),
    /// By name.
    Name(Text),
}

/// Splits `[service/][namespace/]name[:port]` into the name with its namespace and the port.
pub fn split<'a>(text: &'a str, namespace: &'a str) -> (&'a str, &'a str, PortRef) {
    let text = text.strip_prefix("service/").unwrap_or(text);
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => match port.parse() {
            Ok(number) => (name, PortRef::Number(number)),
            Err(_) => (name, PortRef::Name(Text::from(port))),
        },
        None => (text, PortRef::First),
    };
    match name.split_once('/') {
        Some((namespace, name)) => (namespace, name, port),
        None => (namespace, name, port),
    }
}

/// What `name` can mean for a pod of `namespace`, in the order in which its resolver would try;
/// nothing for names outside the cluster.
pub fn readings(name: &str, namespace: &str) -> SmallVec<[Reading; 2]> {
    let read = |pod: &str, service: &str, namespace: &str| Reading {
        pod: Text::from(pod),
        service: Text::from(service),
        namespace: Text::from(namespace),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let name = name
        .strip_suffix(CLUSTER_DOMAIN)
        .map_or(name, |n| n.trim_end_matches('.'));
    let (name, whole) = match name.strip_suffix(".svc") {
        Some(rest) => (rest, true),
        None => (name, false),
    };
    let labels: SmallVec<[&str; 4]> = name.split('.').collect();
    match labels[..] {
        [service] => [read("", service, namespace)].into_iter().collect(),
        [service, namespace] if whole => [read("", service, namespace)].into_iter().collect(),
        [a, b] => [read(a, b, namespace), read("", a, b)]
            .into_iter()
            .collect(),
        [pod, service, namespace] => [read(pod, service, namespace)].into_iter().collect(),
        _ => SmallVec::new(),
    }
}

/// What a pod's resolver asks for in turn to find `name`: with fewer than five dots (`ndots:5`) the
/// search path of its namespace comes first.
pub fn candidates(name: &str, namespace: &str) -> SmallVec<[String; 4]> {
    if let Some(whole) = name.strip_suffix('.') {
        return [whole.to_owned()].into_iter().collect();
    }
    let searched = [
        format!("{name}.{namespace}.svc.{CLUSTER_DOMAIN}"),
        format!("{name}.svc.{CLUSTER_DOMAIN}"),
        format!("{name}.{CLUSTER_DOMAIN}"),
    ];
    let mut all: SmallVec<[String; 4]> = searched.into_iter().collect();
    match name.matches('.').count() >= 5 {
        true => all.insert(0, name.to_owned()),
        false => all.push(name.to_owned()),
    }
    all
}

impl Reading {
    /// Its name in the cluster's zone.
    pub fn full_name(&self) -> String {
        let (service, namespace) = (&self.service, &self.namespace);
        let dot = if self.pod.is_empty() { "" } else { "." };
        format!(
            "{}{dot}{service}.{namespace}.svc.{CLUSTER_DOMAIN}",
            self.pod
        )
    }
}

/// Whether `name` matches `pattern`, in which `*` stands for any characters and `?` for one.
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut pattern_left = pattern.chars();
    match pattern_left.next() {
        None => name.is_empty(),
        Some('*') => {
            let rest = pattern_left.as_str();
            let mut places = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            places.any(|at| matches(rest, &name[at..]))
        }
        Some(wanted) => {
            let mut name_left = name.chars();
            let found = name_left.next();
            found.is_some_and(|found| wanted == '?' || wanted == found)
                && matches(pattern_left.as_str(), name_left.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_a_pod_in_shop_resolves_them() {
        let table = [
            ("cart", "cart.shop"),
            ("cart.db", "cart/db.shop, cart.db"),
            ("cart.db.svc", "cart.db"),
            ("cart.db.svc.cluster.local", "cart.db"),
            ("cart.db.svc.cluster.local.", "cart.db"),
            ("roach-0.roach", "roach-0/roach.shop, roach-0.roach"),
            ("roach-0.roach.db", "roach-0/roach.db"),
            ("roach-0.roach.db.svc.cluster.local", "roach-0/roach.db"),
            ("api.payments.example.com", ""),
        ];
        for (name, expected) in table {
            let shown: Vec<_> = readings(name, "shop")
                .iter()
                .map(|r| match r.pod.is_empty() {
                    true => format!("{}.{}", r.service, r.namespace),
                    false => format!("{}/{}.{}", r.pod, r.service, r.namespace),
                })
                .collect();
            assert_eq!(shown.join(", "), expected, "{name}");
        }
    }

    #[test]
    fn references_may_carry_a_namespace_and_a_port() {
        let table = [
            ("service/front:80", ("shop", "front", PortRef::Number(80))),
            (
                "db/cart:grpc",
                ("db", "cart", PortRef::Name(Text::from("grpc"))),
            ),
            ("cart.db", ("shop", "cart.db", PortRef::First)),
            ("service/db/cart", ("db", "cart", PortRef::First)),
        ];
        for (text, expected) in table {
            assert_eq!(split(text, "shop"), expected);
        }
    }

    #[test]
    fn a_star_matches_any_characters() {
        assert!(matches("*.example.com", "api.example.com"));
        assert!(matches("*", "anything"));
        assert!(matches("ca*t", "cart") && matches("ca*t", "cat"));
        assert!(!matches("cart", "cart2") && !matches("*.com", "cart"));
        assert!(matches("ca?t", "cart") && !matches("ca?t", "cat"));
        assert!(matches("back.*", "back.shop.svc.cluster.local"));
    }

    #[test]
    fn the_search_path_comes_before_the_name_itself() {
        let table = [
            (
                "cart",
                "cart.shop.svc.cluster.local cart.svc.cluster.local cart.cluster.local cart",
            ),
            ("cart.db.", "cart.db"),
            (
                "a.b.c.d.e.f",
                "a.b.c.d.e.f a.b.c.d.e.f.shop.svc.cluster.local a.b.c.d.e.f.svc.cluster.local \
                 a.b.c.d.e.f.cluster.local",
            ),
        ];
        for (name, expected) in table {
            assert_eq!(candidates(name, "shop").join(" "), expected, "{name}");
        }
        let all = readings("roach-0.roach.db", "shop");
        assert_eq!(all[0].full_name(), "roach-0.roach.db.svc.cluster.local");
    }
}
