//! Requests that were really sent, as they are told.
//!
//! Where containers are real, users are too: a backend sends their requests and tells when one was
//! sent and what became of it. Here that is counted as a simulated request is. Who failed is found
//! from the endpoint's address; why is concluded from what the API and the faults in force say about
//! that pod, for a client cannot see it.

use serde::{Deserialize, Serialize};

use super::DataPlane;
use super::traffic::Sender;
use crate::api::Pod as PodRow;
use crate::engine::Time;
use crate::engine::draws::entity_key;
use crate::load::model::Traffic;
use crate::load::tally::{Cause, Class, Failure};
use crate::net::{End, Net, Place};

/// What a backend tells about users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UserEvent {
    /// A request was sent.
    Sent {
        /// Number of the Traffic, as [`DataPlane::tallies`] counts.
        traffic: u16,
    },
    /// A request is over.
    Ended {
        /// Number of the Traffic.
        traffic: u16,
        /// What the client saw; none when it was answered well.
        cause: Option<Cause>,
        /// From sending to the end, in microseconds.
        latency_us: u32,
        /// Address of the endpoint that it had been sent to, 0 when none is known.
        endpoint: u32,
    },
    /// A call between Services was made.
    CallSent {
        /// The kind of client.
        sender: u16,
    },
    /// A call is over.
    CallEnded {
        /// The kind of client.
        sender: u16,
        /// What the client saw; none when it was answered well.
        cause: Option<Cause>,
        /// From sending to the end, in microseconds.
        latency_us: u32,
        /// Address of the endpoint that it had been sent to, 0 when none is known.
        endpoint: u32,
    },
    /// Its process ended before the call did.
    CallAbandoned {
        /// The kind of client.
        sender: u16,
    },
}

const _: () = assert!(
    size_of::<UserEvent>() <= 12,
    "events are copied by the million"
);

/// Where a pod is, or was last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// It is gone from the API.
    pub gone: bool,
    /// Its address, 0 before it has one.
    pub ip: u32,
    /// Its node.
    pub place: Place,
}

impl Whereabouts {
    /// The pod changed, or is gone; `home` is where its processes were started, if any were.
    pub fn learn(&mut self, row: &PodRow, gone: bool, home: Option<Place>, net: &Net) {
        self.gone |= gone;
        if let Some(ip) = row.status.ip.filter(|_| self.ip == 0) {
            self.ip = ip.0;
            let named = || net.place(row.node_name.as_ref()?);
            self.place = home.or_else(named).unwrap_or_default();
        }
    }
}

/// What is known about the pod behind an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    /// It is as it should be.
    Alive,
    /// Its deletion was asked for.
    Leaving,
    /// It, or its machine, is not there any more.
    Dead,
}

fn class_of(cause: Cause, behind: Behind, disturbed: bool) -> Class {
    match (cause, behind) {
        (Cause::Dns, _) => Class::Dns,
        (Cause::NoEndpoints, _) => Class::NoEndpoints,
        (Cause::Unavailable, _) => Class::QueueFull,
        (Cause::Error, _) => Class::AppError,
        (Cause::Downstream, _) => Class::Downstream,
        (Cause::Timeout, _) if disturbed => Class::Network,
        (Cause::Refused | Cause::Timeout, Behind::Dead) => Class::DeadEndpoint,
        (Cause::Refused, Behind::Leaving) => Class::SigtermRace,
        (Cause::Refused, Behind::Alive) => Class::NotListening,
        (Cause::Reset, _) => Class::Killed,
        (Cause::Timeout, _) => Class::Slow,
    }
}

impl DataPlane {
    /// Adds a Traffic whose requests somebody else sends. Returns its number, as
    /// [`DataPlane::tallies`] counts.
    pub fn add_told_traffic(&mut self, traffic: &Traffic) -> usize {
        let target = self.net.target(&traffic.to, &traffic.namespace);
        let entity = entity_key(&["traffic", &traffic.namespace, &traffic.name]);
        let name = traffic.name.clone();
        let mut sender = Sender::new(name, None, traffic.client.clone(), target, entity);
        sender.from = traffic.from.clone();
        let number = u32::try_from(self.senders.len()).unwrap_or(u32::MAX);
        self.senders.push(sender);
        self.traffics.push(number);
        self.traffics.len() - 1
    }

    /// The proxy of a place has programmed everything up to a revision, as a backend tells.
    pub fn told_programmed(&mut self, place: u32, revision: u64, now: Time) {
        self.net.told_programmed(Place(place), now, revision);
    }

    /// Takes in what a backend tells.
    pub fn told(&mut self, event: UserEvent, now: Time) {
        self.know_addresses();
        let number = match event {
            UserEvent::Sent { traffic } | UserEvent::Ended { traffic, .. } => {
                self.traffics.get(usize::from(traffic)).copied()
            }
            UserEvent::CallSent { sender }
            | UserEvent::CallEnded { sender, .. }
            | UserEvent::CallAbandoned { sender } => Some(u32::from(sender)),
        };
        let Some(number) = number.filter(|n| (*n as usize) < self.senders.len()) else {
            return;
        };
        let tally = &mut self.senders[number as usize].tally;
        let (cause, latency_us, endpoint) = match event {
            UserEvent::Sent { .. } | UserEvent::CallSent { .. } => {
                tally.attempts += 1;
                return tally.send(now);
            }
            UserEvent::CallAbandoned { .. } => return tally.abandon(),
            UserEvent::Ended {
                cause,
                latency_us,
                endpoint,
                ..
            }
            | UserEvent::CallEnded {
                cause,
                latency_us,
                endpoint,
                ..
            } => (cause, latency_us, endpoint),
        };
        let latency = u64::from(latency_us) * 1_000;
        let sent = Time::from_nanos(now.as_nanos().saturating_sub(latency));
        let Some(cause) = cause else {
            let pod = self.pod_at(endpoint).unwrap_or(u32::MAX);
            return self.senders[number as usize].tally.ok(sent, now, pod);
        };
        let failure = self.failure(number, cause, endpoint);
        let tally = &mut self.senders[number as usize].tally;
        tally.fail(sent, now, failure, || (0, 0));
    }

    fn failure(&self, sender: u32, cause: Cause, endpoint: u32) -> Failure {
        let (mut behind, mut disturbed) = (Behind::Dead, false);
        let (mut pod, mut place) = (u32::MAX, u32::MAX);
        if let Some(number) = self.pod_at(endpoint)
            && let Some(Some(pod_row)) = self.pods.get(number as usize)
        {
            let found = pod_row.whereabouts;
            let client = &self.senders[sender as usize];
            let from = client.from.as_ref();
            let from = from.and_then(|node| self.net.place(node));
            let from = End::from(from.unwrap_or(Place::EDGE));
            (pod, place) = (number, found.place.0);
            let to = End::pod(found.place, number);
            let links = self.net.links();
            disturbed = match client.caller {
                // Any of the pods of a model may have called.
                Some(_) => links.concerns(to),
                None => links.touches(from, to) || links.touches(to, from),
            };
            behind = match (
                found.gone || self.dark.contains(&found.place),
                pod_row.deleting,
            ) {
                (true, _) => Behind::Dead,
                (false, true) => Behind::Leaving,
                (false, false) => Behind::Alive,
            };
        }
        Failure {
            cause,
            class: class_of(cause, behind, disturbed),
            pod,
            place,
        }
    }

    /// The newest pod that had an address.
    fn pod_at(&self, ip: u32) -> Option<u32> {
        self.by_ip.as_ref()?.get(&ip).copied()
    }

    /// From now on it is known who had an address: a simulated run never asks.
    fn know_addresses(&mut self) {
        if self.by_ip.is_some() {
            return;
        }
        let pods = (0u32..).zip(&self.pods);
        let mut all: Vec<_> = pods
            .filter_map(|(number, pod)| pod.as_ref().map(|pod| (number, pod)))
            .filter(|(_, pod)| pod.addressed > 0)
            .map(|(number, pod)| (pod.addressed, pod.whereabouts.ip, number))
            .collect();
        all.sort_unstable();
        self.by_ip = Some(
            all.into_iter()
                .map(|(_, ip, number)| (ip, number))
                .collect(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_request_failed_is_concluded_from_its_pod() {
        let table = [
            (Cause::Refused, Behind::Dead, false, Class::DeadEndpoint),
            (Cause::Refused, Behind::Leaving, false, Class::SigtermRace),
            (Cause::Refused, Behind::Alive, false, Class::NotListening),
            (Cause::Timeout, Behind::Dead, false, Class::DeadEndpoint),
            (Cause::Timeout, Behind::Dead, true, Class::Network),
            (Cause::Timeout, Behind::Alive, false, Class::Slow),
            (Cause::Reset, Behind::Alive, true, Class::Killed),
            (Cause::NoEndpoints, Behind::Dead, false, Class::NoEndpoints),
            (Cause::Unavailable, Behind::Alive, false, Class::QueueFull),
        ];
        for (cause, behind, disturbed, expected) in table {
            assert_eq!(
                class_of(cause, behind, disturbed),
                expected,
                "{cause:?} {behind:?}"
            );
        }
    }
}
