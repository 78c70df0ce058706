//! Services that are created, changed and deleted, and what they are given or refused.

use serde_json::{Value, json};

use super::Pools;
use crate::api::decode::{DecodeContext, Problem, decode_json};
use crate::api::patch::PatchKind;
use crate::api::print::to_json;
use crate::engine::{Draws, Time};
use crate::store::{ApiError, Cause, ObjectId, Patch, Propagation, Receipt, Store, Write};

struct Server {
    store: Store,
}

impl Server {
    fn new(range: &str) -> Server {
        let mut store = Store::new(Draws::new(1));
        store.serve_from(Pools::new(range).expect("a range"));
        Server { store }
    }

    fn write(&mut self, write: &Write) -> Result<Receipt, ApiError> {
        self.store.write(write, Time::ZERO, Cause::default())
    }

    /// Creates a Service; its spec, or what the server says.
    fn create(&mut self, name: &str, spec: Value) -> Result<Value, String> {
        let json = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": spec});
        let decoded = decode_json(&json, &DecodeContext::default());
        let refused = |problems: Vec<Problem>| {
            let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
            format!("Service \"{name}\" is invalid: {}", all.join(", "))
        };
        let row = decoded.map_err(refused)?.row;
        let done = self.write(&Write::Create(row)).map_err(|e| e.to_string())?;
        Ok(to_json(&done.row.expect("a row"))["spec"].take())
    }

    fn object(&self, name: &str) -> ObjectId {
        let view = self.store.view();
        view.lookup(crate::api::Kind::Service, "default", name)
            .expect("it exists")
    }

    /// Merges a patch into the spec.
    fn patch(&mut self, name: &str, spec: Value) -> Result<Value, String> {
        let document = Patch::Document(PatchKind::Merge, json!({"spec": spec}).into());
        let write = Write::Patch {
            object: self.object(name),
            uid: None,
            patch: document,
        };
        let done = self.write(&write).map_err(|e| e.to_string())?;
        Ok(to_json(&done.row.expect("a row"))["spec"].take())
    }

    fn delete(&mut self, name: &str) {
        let write = Write::Delete {
            object: self.object(name),
            uid: None,
            grace_s: None,
            propagation: Propagation::Background,
        };
        self.write(&write).expect("deleted");
    }
}

fn plain() -> Value {
    json!({"selector": {"app": "a"}, "ports": [{"port": 80}]})
}

fn with(more: Value) -> Value {
    let mut spec = plain();
    for (key, value) in more.as_object().expect("fields") {
        spec[key] = value.clone();
    }
    spec
}

#[test]
fn an_address_is_drawn_by_name_from_the_upper_part_of_the_range() {
    let mut server = Server::new("10.96.0.0/12");
    let a = server.create("a", plain()).expect("created");
    let ip = |spec: &Value| -> u32 {
        let text = spec["clusterIP"].as_str().expect("an address");
        u32::from(text.parse::<std::net::Ipv4Addr>().expect("an address"))
    };
    assert_eq!(a["clusterIPs"], json!([a["clusterIP"]]));
    assert_eq!(a["ipFamilies"], json!(["IPv4"]));
    assert_eq!(a["ipFamilyPolicy"], "SingleStack");
    // 10.96.0.0/12 has 2^20 addresses: the first 256 are for manifests that name one.
    assert!((0x0a60_0101..0x0a6f_ffff).contains(&ip(&a)), "{a}");
    // Another Service before it does not move it.
    let mut other = Server::new("10.96.0.0/12");
    other.create("b", plain()).expect("created");
    assert_eq!(
        other.create("a", plain()).expect("created")["clusterIP"],
        a["clusterIP"]
    );
}

#[test]
fn a_range_is_used_up_to_its_last_address_and_filled_again() {
    // A /28 has 14 addresses, the first of which is that of default/kubernetes.
    let mut server = Server::new("10.0.0.0/28");
    let mut all: Vec<String> = Vec::new();
    for nth in 0..13 {
        let spec = server.create(&format!("s{nth}"), plain()).expect("room");
        all.push(spec["clusterIP"].as_str().expect("an address").to_owned());
    }
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 13);
    assert_eq!(
        server.create("more", plain()).expect_err("full"),
        "Internal error occurred: failed to allocate a serviceIP for Service \"more\": range is \
         full"
    );
    let freed = server.store.view().row(server.object("s4")).expect("a row");
    server.delete("s4");
    let spec = server.create("more", plain()).expect("room again");
    assert_eq!(spec["clusterIP"], to_json(&freed)["spec"]["clusterIP"]);
}

#[test]
fn an_address_that_a_manifest_names_is_reserved_or_refused() {
    let mut server = Server::new("10.96.0.0/12");
    let named = |ip: &str| with(json!({"clusterIP": ip}));
    let a = server.create("a", named("10.96.0.10")).expect("free");
    assert_eq!(a["clusterIPs"], json!(["10.96.0.10"]));
    for (ip, why) in [
        ("10.96.0.10", "provided IP is already allocated"),
        ("10.96.0.1", "provided IP is already allocated"),
        (
            "10.1.0.1",
            "the provided IP (10.1.0.1) is not in the valid range. The range of valid IPs is \
             10.96.0.0/12",
        ),
    ] {
        assert_eq!(
            server.create("b", named(ip)).expect_err("refused"),
            format!(
                "Service \"b\" is invalid: spec.clusterIPs: Invalid value: [\"{ip}\"]: failed to \
                 allocate IP {ip}: {why}"
            )
        );
    }
    server.delete("a");
    server.create("b", named("10.96.0.10")).expect("free again");
}

#[test]
fn headless_services_and_aliases_have_no_address() {
    let mut server = Server::new("10.96.0.0/12");
    let spec = server
        .create("a", with(json!({"clusterIP": "None"})))
        .expect("created");
    assert_eq!(spec["clusterIPs"], json!(["None"]));
    assert_eq!(spec["ipFamilies"], json!(["IPv4"]));
    let bare = json!({"clusterIP": "None", "ports": [{"port": 80}]});
    let spec = server.create("b", bare).expect("created");
    // Nobody knows of which family the endpoints will be.
    assert_eq!(spec["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert_eq!(spec["ipFamilyPolicy"], "RequireDualStack");
    let alias = json!({"type": "ExternalName", "externalName": "example.com"});
    let spec = server.create("c", alias).expect("created");
    assert_eq!(spec.get("clusterIP"), None);
    let both = with(json!({"ipFamilyPolicy": "RequireDualStack"}));
    assert_eq!(
        server.create("d", both).expect_err("refused"),
        "Service \"d\" is invalid: spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this \
         cluster is not configured for dual-stack services"
    );
    let six = with(json!({"ipFamilies": ["IPv6"]}));
    assert_eq!(
        server.create("d", six).expect_err("refused"),
        "Service \"d\" is invalid: spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on \
         this cluster"
    );
}

#[test]
fn node_ports_are_drawn_shared_by_one_number_and_refused_when_taken() {
    let mut server = Server::new("10.96.0.0/12");
    let ports = json!([{"name": "t", "port": 53}, {"name": "u", "port": 53, "protocol": "UDP"},
        {"name": "w", "port": 80}]);
    let spec = server.create("a", with(json!({"type": "NodePort", "ports": ports})));
    let spec = spec.expect("created");
    let number = |at: usize| spec["ports"][at]["nodePort"].as_u64().expect("a port");
    assert_eq!(number(0), number(1), "TCP and UDP of one port share");
    assert_ne!(number(0), number(2));
    // The first 86 of 2768 ports are for manifests: min(max(16, 2768/32), 128).
    assert!((30_086..=32_767).contains(&number(0)), "{spec}");
    let asked =
        |port: u64| with(json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}));
    server.create("b", asked(30_000)).expect("free");
    assert_eq!(
        server.create("c", asked(30_000)).expect_err("taken"),
        "Service \"c\" is invalid: spec.ports[0].nodePort: Invalid value: 30000: provided port is \
         already allocated"
    );
    assert_eq!(
        server.create("c", asked(80)).expect_err("out of range"),
        "Service \"c\" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is \
         not in the valid range. The range of valid ports is 30000-32767"
    );
    server.delete("b");
    server.create("c", asked(30_000)).expect("free again");
}

#[test]
fn what_was_handed_out_stays_when_a_service_changes() {
    let mut server = Server::new("10.96.0.0/12");
    let a = server
        .create("a", with(json!({"type": "NodePort"})))
        .expect("created");
    // A client that sends neither gets both back.
    let open = json!({"clusterIP": null, "clusterIPs": null, "ports": [{"port": 81}]});
    let b = server.patch("a", open).expect("changed");
    assert_eq!(b["clusterIP"], a["clusterIP"]);
    assert_eq!(b["ports"][0]["nodePort"], a["ports"][0]["nodePort"]);
    // Another address is refused, wherever it is written.
    let said = server
        .patch("a", json!({"clusterIP": "10.96.0.9"}))
        .expect_err("refused");
    assert_eq!(
        said,
        "Service \"a\" is invalid: spec.clusterIPs[0]: Invalid value: [\"10.96.0.9\"]: may not \
         change once set"
    );
    let said = server
        .patch("a", json!({"ipFamilies": ["IPv6"]}))
        .expect_err("refused");
    assert!(
        said.contains(": expected an IPv6 value as indicated by `ipFamilies[0]`"),
        "{said}"
    );
    // To a type without node ports, and to none of its own address.
    let c = server
        .patch("a", json!({"type": "ClusterIP"}))
        .expect("changed");
    assert_eq!(c["ports"][0].get("nodePort"), None);
    assert_eq!(c.get("externalTrafficPolicy"), None);
    let alias = json!({"type": "ExternalName", "externalName": "example.com"});
    let d = server.patch("a", alias).expect("changed");
    assert_eq!((d.get("clusterIP"), d.get("clusterIPs")), (None, None));
    let ip = a["clusterIP"].as_str().expect("an address").to_owned();
    server
        .create("b", with(json!({"clusterIP": ip})))
        .expect("it was released");
    // And back: a new address, for the old one is taken.
    let e = server.patch("a", json!({"type": "ClusterIP", "externalName": null}));
    let e = e.expect("changed");
    assert_ne!(e["clusterIP"], a["clusterIP"]);
    assert_eq!(e["clusterIPs"], json!([e["clusterIP"]]));
}

#[test]
fn a_load_balancer_that_keeps_traffic_local_is_checked_at_a_port_of_its_own() {
    let mut server = Server::new("10.96.0.0/12");
    let local = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"});
    let spec = server.create("a", with(local)).expect("created");
    let port = spec["healthCheckNodePort"].as_u64().expect("a port");
    assert_ne!(spec["ports"][0]["nodePort"].as_u64(), Some(port));
    let said = server
        .patch("a", json!({"healthCheckNodePort": 30_001}))
        .expect_err("refused");
    assert!(
        said.contains("spec.healthCheckNodePort: Forbidden: field is immutable"),
        "{said}"
    );
    let spec = server
        .patch("a", json!({"externalTrafficPolicy": "Cluster"}))
        .expect("changed");
    assert_eq!(spec.get("healthCheckNodePort"), None);
    let bare = json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false});
    let spec = server.create("b", with(bare)).expect("created");
    assert_eq!(spec["ports"][0].get("nodePort"), None);
}

#[test]
fn ranges_that_no_server_takes_are_refused() {
    for (range, why) in [
        (
            "10.96.0.0",
            "10.96.0.0 is no network of IPv4 addresses (10.96.0.0/12)",
        ),
        (
            "fd00::/108",
            "fd00::/108 is no network of IPv4 addresses (10.96.0.0/12)",
        ),
        (
            "10.0.0.0/8",
            "10.0.0.0/8 must have between 12 and 29 bits of prefix",
        ),
    ] {
        assert_eq!(Pools::new(range).expect_err(range), why);
    }
    assert!(
        Pools::new("10.43.0.0/16,fd00::/108").is_ok(),
        "the first of two"
    );
}
