//! The control plane as something that fails: its replicas, and what is wrong with them.
//!
//! Nothing here happens in a run whose control plane is well: no event, no draw. When trouble
//! begins, three things are looked at again until it is over:
//!
//! - [`gate`]: whether a request is served, how late, or with which error, and what client-go then
//!   does by itself;
//! - [`watches`]: which watches break, and when each is tried again;
//! - [`leaders`]: who holds the leases of controller manager and scheduler, who loses them, and who
//!   starts again.
//!
//! Everything else follows: without watches and writes nothing changes, and proxies, containers and
//! connections go on with what they have.
//!
//! What it does not know: what requests ask for. Approximations: a process has one watch, where
//! upstream has one of each kind; the leases of elections are not objects; a load balancer in front
//! of several API servers sends new connections to those that serve, at once; a leader that thaws
//! after another took over ends at once (client-go fences nothing, and it could write for another
//! ten seconds).

mod gate;

mod leaders;

mod watches;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::dispatch::{Cluster, Consequences};
use super::event::Event;
use super::timeline::Note;
use crate::api::Text;
use crate::client::election::{Elector, Lock, State, Timing};
use crate::engine::draws::{Purpose, entity_key};
use crate::engine::{Draws, Time};
use crate::fault::{Component, ControlAction, ControlTrouble};
use crate::kubelet::Boot;
use crate::scenario::types::ClusterSpec;

pub(super) use gate::Ruling;

const COUNT: Purpose = Purpose::new("control-plane/count");

/// `ReadIdleTimeout` and `PingTimeout` of client-go's connections (`apimachinery/pkg/util/net/http.go
/// :: readIdleTimeoutSeconds, pingTimeoutSeconds`): after so long a silent connection is given up.
const PING: Duration = Duration::from_secs(30 + 15);

/// etcd elects a leader within its election timeout of one second and up to another by chance
/// (`--election-timeout`).
const ETCD_ELECTION: Duration = Duration::from_millis(1500);

/// Who has a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Watcher {
    /// The controller manager.
    Manager,
    /// The scheduler.
    Scheduler,
    /// The kubelet of a node.
    Kubelet(u32),
    /// The proxy of a place.
    Proxy(u32),
}

/// A process that is elected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Manager = 0,
    Scheduler = 1,
}

impl Which {
    const BOTH: [Which; 2] = [Which::Manager, Which::Scheduler];

    fn component(self) -> Component {
        match self {
            Which::Manager => Component::ControllerManager,
            Which::Scheduler => Component::Scheduler,
        }
    }

    fn watcher(self) -> Watcher {
        match self {
            Which::Manager => Watcher::Manager,
            Which::Scheduler => Watcher::Scheduler,
        }
    }
}

/// One process of the API server or of etcd; counted, since faults overlap.
#[derive(Clone, Copy, Debug, Default)]
struct Replica {
    down: u32,
    frozen: u32,
    frozen_at: Time,
}

impl Replica {
    fn up(&self) -> bool {
        self.down == 0 && self.frozen == 0
    }
}

/// One process that wants to lead.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    elector: Elector,
    at: Replica,
    /// How often it has ended by itself.
    exits: u32,
    /// Events of an older number mean nothing.
    number: u32,
}

/// The processes of an elected component; the one that leads is the cluster's.
#[derive(Debug)]
struct Elected {
    timing: Timing,
    lock: Lock,
    candidates: Vec<Candidate>,
    leader: Option<usize>,
    next_identity: u64,
}

impl Elected {
    fn new(replicas: u32, timing: Timing) -> Self {
        let replicas = if timing.elect { replicas } else { 1 };
        let candidates = (1..=u64::from(replicas)).map(|identity| Candidate {
            elector: Elector::candidate(identity),
            at: Replica::default(),
            exits: 0,
            number: 0,
        });
        let mut candidates: Vec<Candidate> = candidates.collect();
        candidates[0].elector.state = State::Leader { round: None };
        let holder = candidates[0].elector.identity;
        Elected {
            timing,
            lock: Lock {
                holder,
                renewed: Time::ZERO,
            },
            leader: Some(0),
            next_identity: u64::from(replicas) + 1,
            candidates,
        }
    }

    /// Whether the leader stands still.
    fn frozen(&self) -> bool {
        self.leader
            .is_some_and(|i| self.candidates[i].at.frozen > 0)
    }

    /// Somebody leads, and renews as it should.
    fn settled(&self) -> bool {
        self.leader.is_some_and(|i| {
            let candidate = &self.candidates[i];
            let fresh = candidate.elector.state == State::Leader { round: None };
            candidate.at.up()
                && (!self.timing.elect || fresh && self.lock.holder == candidate.elector.identity)
        })
    }
}

#[derive(Debug)]
struct Trouble {
    what: ControlTrouble,
    hit: Vec<usize>,
}

/// The control plane's processes and what is wrong with them.
#[derive(Debug)]
pub(super) struct ControlPlane {
    /// Whether anything was ever wrong.
    pub(super) touched: bool,
    troubles: Vec<Trouble>,
    api: Vec<Replica>,
    etcd: Vec<Replica>,
    /// The members of etcd elect a leader until then.
    etcd_elects_until: Time,
    elected: [Elected; 2],
    /// Elections are followed.
    awake: bool,
    /// Watches that broke or will, with when.
    lost: BTreeMap<Watcher, Time>,
    /// Kubelets that could not list their pods when they started.
    starts: BTreeMap<u32, Boot>,
    /// What waits for a process that stands still.
    held: Vec<Event>,
}

impl ControlPlane {
    /// A control plane that is well, as a scenario says.
    pub(super) fn new(cluster: &ClusterSpec) -> Self {
        let replicas = cluster.control_plane_replicas.max(1);
        let flags = &cluster.flags;
        ControlPlane {
            touched: false,
            troubles: Vec::new(),
            api: vec![Replica::default(); replicas as usize],
            etcd: vec![Replica::default(); replicas as usize],
            etcd_elects_until: Time::ZERO,
            elected: [
                Elected::new(replicas, flags.manager_election),
                Elected::new(replicas, flags.scheduler_election),
            ],
            awake: false,
            lost: BTreeMap::new(),
            starts: BTreeMap::new(),
            held: Vec::new(),
        }
    }

    /// Which replicas a fault hits: so many as its mode says, `first` before the others.
    fn hit(what: &ControlTrouble, first: usize, replicas: &[Replica], draws: &Draws) -> Vec<usize> {
        let draw = draws.u64(COUNT, entity_key(&[&what.fault]), 0) >> 32;
        let count = what.mode.count(replicas.len(), draw);
        let mut order: Vec<usize> = (0..replicas.len()).collect();
        order.sort_by_key(|i| (!replicas[*i].up(), *i != first, *i));
        order.truncate(count);
        order
    }
}

impl Cluster {
    /// Trouble with the control plane begins.
    pub(super) fn trouble(&mut self, what: &ControlTrouble, turn: Consequences<'_, '_>) {
        self.control.touched = true;
        self.wake_elections(turn);
        let hit = match what.action {
            ControlAction::Crash(component) => self.harm(component, what, turn),
            ControlAction::Freeze(component) => self.harm(component, what, turn),
            _ => Vec::new(),
        };
        let what = what.clone();
        self.control.troubles.push(Trouble { what, hit });
        self.look_at_watches(turn);
    }

    /// It is over.
    pub(super) fn mend(&mut self, what: &ControlTrouble, turn: Consequences<'_, '_>) {
        let troubles = &mut self.control.troubles;
        let Some(at) = troubles.iter().position(|t| t.what == *what) else {
            return;
        };
        let trouble = troubles.remove(at);
        match what.action {
            ControlAction::Crash(component) => self.relieve_of(component, true, &trouble.hit, turn),
            ControlAction::Freeze(component) => {
                self.relieve_of(component, false, &trouble.hit, turn);
            }
            _ => {}
        }
        self.look_at_watches(turn);
    }

    /// Replicas of a component crash or freeze; returns which.
    fn harm(
        &mut self,
        component: Component,
        what: &ControlTrouble,
        turn: Consequences<'_, '_>,
    ) -> Vec<usize> {
        let crash = matches!(what.action, ControlAction::Crash(_));
        let which = match component {
            Component::ControllerManager => Which::Manager,
            Component::Scheduler => Which::Scheduler,
            _ => return self.harm_servers(component, what, crash, turn),
        };
        let elected = &self.control.elected[which as usize];
        let replicas: Vec<Replica> = elected.candidates.iter().map(|c| c.at).collect();
        let first = elected.leader.unwrap_or(0);
        let hit = ControlPlane::hit(what, first, &replicas, &self.draws);
        for &replica in &hit {
            match crash {
                true => self.crash(which, replica, turn),
                false => self.freeze_process(which, replica),
            }
        }
        hit
    }

    fn harm_servers(
        &mut self,
        component: Component,
        what: &ControlTrouble,
        crash: bool,
        turn: Consequences<'_, '_>,
    ) -> Vec<usize> {
        let servers = match component {
            Component::Etcd => &mut self.control.etcd,
            _ => &mut self.control.api,
        };
        let hit = ControlPlane::hit(what, 0, servers, &self.draws);
        for &replica in &hit {
            let server = &mut servers[replica];
            match crash {
                true => server.down += 1,
                false => {
                    server.frozen += 1;
                    server.frozen_at = turn.now;
                }
            }
        }
        if component == Component::Etcd {
            // Its leader is among those that are hit.
            self.control.etcd_elects_until = turn.now + ETCD_ELECTION;
        } else if !crash {
            turn.after(PING, Event::ControlLook);
        }
        hit
    }

    fn relieve_of(
        &mut self,
        component: Component,
        crash: bool,
        hit: &[usize],
        turn: Consequences<'_, '_>,
    ) {
        let which = match component {
            Component::ControllerManager => Which::Manager,
            Component::Scheduler => Which::Scheduler,
            _ => {
                let servers = match component {
                    Component::Etcd => &mut self.control.etcd,
                    _ => &mut self.control.api,
                };
                for &replica in hit {
                    match crash {
                        true => servers[replica].down -= 1,
                        false => servers[replica].frozen -= 1,
                    }
                }
                return;
            }
        };
        for &replica in hit {
            match crash {
                true => self.uncrash(which, replica, turn),
                false => self.thaw_process(which, replica, turn),
            }
        }
    }

    /// Tells the story of a component.
    fn tell(&mut self, at: Time, component: &'static str, what: String, bad: bool) {
        self.timeline.notes.push(Note::Component {
            at,
            component: Text::literal(component),
            what,
            bad,
        });
    }
}
