//! What a node's rules are, and the transaction that makes them what they should be.

use std::collections::{BTreeMap, BTreeSet};

use super::batch::{Batch, Hook, Key, TABLE, Verdict, hooks};
use super::expr::Field;
use super::layout::{Layout, Line, NodeRules, REJECT, ServicePort, Shared};
use crate::backend::linux::net::detour::DETOUR;

/// The fields of keys of Services.
const SERVICE: [Field; 3] = [Field::Destination, Field::Protocol, Field::Port];
const HAIRPIN: [Field; 4] = [
    Field::Source,
    Field::Destination,
    Field::Protocol,
    Field::Port,
];

/// Base chains (`pkg/proxy/nftables/proxier.go :: nftablesBaseChains`). Refusals come before
/// anything else looks at a packet; destinations are replaced as it arrives or begins, sources as it
/// leaves. Ours alone is `raw-prerouting`, for packets that return from a detour.
const BASE: [(&str, Hook); 7] = [
    ("raw-prerouting", RAW),
    ("filter-input", filter(hooks::INPUT)),
    ("filter-forward", filter(hooks::FORWARD)),
    ("filter-output", filter(hooks::OUTPUT)),
    ("nat-prerouting", nat(hooks::PREROUTING, -100)),
    ("nat-output", nat(hooks::OUTPUT, -100)),
    ("nat-postrouting", nat(hooks::POSTROUTING, 100)),
];

const fn filter(at: u32) -> Hook {
    Hook {
        kind: "filter",
        at,
        priority: 0,
    }
}

/// Before connections are tracked.
const RAW: Hook = Hook {
    kind: "filter",
    at: hooks::PREROUTING,
    priority: -300,
};

const fn nat(at: u32, priority: i32) -> Hook {
    Hook {
        kind: "nat",
        at,
        priority,
    }
}

/// The rules of one node.
#[derive(Clone, Debug)]
pub struct Ruleset {
    node: NodeRules,
    ports: BTreeMap<String, ServicePort>,
    /// What the kernel has; none when it must be told everything.
    installed: Option<Layout>,
    /// Chains that are empty and that nobody goes to since the last transaction.
    stale: BTreeSet<String>,
}

impl Ruleset {
    /// No Services; the kernel knows nothing yet.
    pub fn new(node: NodeRules) -> Ruleset {
        Ruleset {
            node,
            ports: BTreeMap::new(),
            installed: None,
            stale: BTreeSet::new(),
        }
    }

    /// A Service's port is this from now on.
    pub fn put(&mut self, port: ServicePort) {
        self.ports.insert(port.name.clone(), port);
    }

    /// A Service's port is gone.
    pub fn remove(&mut self, name: &str) {
        self.ports.remove(name);
    }

    /// The transaction that brings the kernel up to date; none when it is. It is taken for granted
    /// that it succeeds; otherwise call [`Ruleset::lost`].
    pub fn sync(&mut self) -> Option<Vec<u8>> {
        let wanted = Layout::of(self.ports.values(), &self.node);
        let mut batch = Batch::default();
        let installed = match self.installed.take() {
            Some(installed) if installed == wanted && self.stale.is_empty() => {
                self.installed = Some(wanted);
                return None;
            }
            Some(installed) => installed,
            None => {
                self.stale.clear();
                base(&mut batch, &self.node);
                Layout::default()
            }
        };
        self.change(&mut batch, &installed, &wanted);
        self.installed = Some(wanted);
        Some(batch.finish())
    }

    /// A transaction failed: the next one says everything anew.
    pub fn lost(&mut self) {
        self.installed = None;
    }

    fn change(&mut self, batch: &mut Batch, old: &Layout, new: &Layout) {
        let mut gone: BTreeMap<Shared, Vec<_>> = BTreeMap::new();
        for (key, verdict) in &old.elements {
            if new.elements.get(key) != Some(verdict) {
                let element = (&key.1[..], verdict.as_ref());
                gone.entry(key.0).or_default().push(element);
            }
        }
        for (shared, elements) in &gone {
            batch.remove(shared.name(), elements);
        }
        // A chain is deleted one transaction after the last way to it: kernels before 6.2 notice
        // only then that nobody goes there any more.
        for chain in std::mem::take(&mut self.stale) {
            if !new.chains.contains_key(&chain) {
                batch.delete_chain(TABLE, &chain);
            }
        }
        for (name, seconds) in &new.memories {
            if !old.memories.contains_key(name) {
                batch.memory(name, *seconds);
            }
        }
        let changed = |name: &&String| old.chains.get(*name) != new.chains.get(*name);
        for name in new.chains.keys().filter(changed) {
            batch.chain(TABLE, name, None);
            batch.flush(TABLE, name);
        }
        for name in new.chains.keys().filter(changed) {
            for line in &new.chains[name] {
                write(batch, name, line, !self.node.in_turn);
            }
        }
        for name in old.chains.keys() {
            if !new.chains.contains_key(name) {
                batch.flush(TABLE, name);
                self.stale.insert(name.clone());
            }
        }
        for name in old.memories.keys() {
            if !new.memories.contains_key(name) {
                batch.delete_set(name);
            }
        }
        let mut come: BTreeMap<Shared, Vec<_>> = BTreeMap::new();
        for (key, verdict) in &new.elements {
            if old.elements.get(key) != Some(verdict) {
                let element = (&key.1[..], verdict.as_ref());
                come.entry(key.0).or_default().push(element);
            }
        }
        for (shared, elements) in &come {
            batch.add(shared.name(), elements);
        }
    }
}

fn write(batch: &mut Batch, chain: &str, line: &Line, random: bool) {
    let choices = match line {
        Line::Choose(chains) => batch.choices(chains),
        _ => 0,
    };
    let goto = |chain: &String| Verdict::Goto(chain.clone());
    batch.rule(TABLE, chain, |rule| match line {
        Line::Mark => rule.mark(),
        Line::MarkOwn => {
            rule.from_here();
            rule.mark();
        }
        Line::OwnGo(to) => {
            rule.from_here();
            rule.go(&goto(to));
        }
        Line::FromGo(network, to) => {
            rule.within(Field::Source, *network, true);
            rule.go(&goto(to));
        }
        Line::Go(to) => rule.go(&goto(to)),
        Line::RememberedGo(set, to) => {
            rule.in_set(&[Field::Source], set);
            rule.go(&goto(to));
        }
        Line::Choose(chains) => {
            rule.choose(u32::try_from(chains.len()).unwrap_or(1), choices, random);
        }
        Line::Remember(set) => rule.remember(set),
        Line::Redirect(protocol, to) => {
            rule.protocol(*protocol);
            rule.count();
            rule.redirect(to.ip, to.port);
        }
    });
}

/// What is there without any Service (`setupNFTables`).
fn base(batch: &mut Batch, node: &NodeRules) {
    batch.fresh_table(TABLE);
    for (name, hook) in BASE {
        batch.chain(TABLE, name, Some(hook));
    }
    for name in [
        "services",
        "service-endpoints-check",
        "nodeport-endpoints-check",
        "cluster-ips-check",
        "masquerading",
        REJECT,
    ] {
        batch.chain(TABLE, name, None);
    }
    for shared in Shared::ALL {
        match shared {
            Shared::ServiceIps | Shared::NoEndpointServices => {
                batch.map(shared.name(), Key::IpPort);
            }
            Shared::ServiceNodePorts | Shared::NoEndpointNodePorts => {
                batch.map(shared.name(), Key::Port);
            }
            Shared::ClusterIps => batch.set(shared.name(), Key::Ip),
            Shared::Hairpin => batch.set(shared.name(), Key::Pair),
        }
    }
    // What returns from a detour was looked at when it set out, and is what it has become there.
    batch.rule(TABLE, "raw-prerouting", |rule| {
        rule.arrived_by(DETOUR);
        rule.untracked();
    });
    let jump = |chain: &str| Verdict::Jump(chain.to_owned());
    for (from, to) in [
        ("filter-input", "nodeport-endpoints-check"),
        ("filter-input", "service-endpoints-check"),
        ("filter-forward", "service-endpoints-check"),
        ("filter-forward", "cluster-ips-check"),
        ("filter-output", "service-endpoints-check"),
        ("filter-output", "cluster-ips-check"),
    ] {
        batch.rule(TABLE, from, |rule| {
            rule.new_connection();
            rule.go(&jump(to));
        });
    }
    for (from, to) in [
        ("nat-output", "services"),
        ("nat-prerouting", "services"),
        ("nat-postrouting", "masquerading"),
    ] {
        batch.rule(TABLE, from, |rule| rule.go(&jump(to)));
    }
    shared_rules(batch, node);
}

fn shared_rules(batch: &mut Batch, node: &NodeRules) {
    let own_address = crate::backend::linux::net::route::Cidr::host(node.ip);
    let port = [Field::Protocol, Field::Port];
    batch.rule(TABLE, REJECT, |rule| rule.reject());
    batch.rule(TABLE, "service-endpoints-check", |rule| {
        rule.by_map(&SERVICE, Shared::NoEndpointServices.name());
    });
    batch.rule(TABLE, "nodeport-endpoints-check", |rule| {
        rule.within(Field::Destination, own_address, true);
        rule.by_map(&port, Shared::NoEndpointNodePorts.name());
    });
    // A port that the Service does not have.
    batch.rule(TABLE, "cluster-ips-check", |rule| {
        rule.in_set(&[Field::Destination], Shared::ClusterIps.name());
        rule.reject();
    });
    batch.rule(TABLE, "masquerading", |rule| {
        rule.unmark();
        rule.masquerade();
    });
    // An endpoint that reached itself through its Service would answer itself directly otherwise.
    batch.rule(TABLE, "masquerading", |rule| {
        rule.redirected();
        rule.in_set(&HAIRPIN, Shared::Hairpin.name());
        rule.masquerade();
    });
    if !node.own.is_empty() {
        batch.rule(TABLE, "services", |rule| {
            rule.in_set(&[Field::Destination], Shared::ClusterIps.name());
            for network in &node.own {
                rule.within(Field::Source, *network, false);
            }
            rule.mark();
        });
    }
    batch.rule(TABLE, "services", |rule| {
        rule.by_map(&SERVICE, Shared::ServiceIps.name());
    });
    batch.rule(TABLE, "services", |rule| {
        rule.within(Field::Destination, own_address, true);
        rule.by_map(&port, Shared::ServiceNodePorts.name());
    });
}
