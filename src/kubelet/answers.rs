//! Answers of the API server, and what is sent next.
//!
//! A kubelet sends one status and one KubeEvent at a time, each when the one before is answered. Most
//! of these succeed and nothing follows: of such an answer nobody is told ([`Kubelet::taken`]), and
//! it is heard of ([`Kubelet::hear_answer`]) when the kubelet next does anything, or at its own
//! instant if something waits for it.

use super::agent::Kubelet;
use super::host::{Cx, Topic};
use super::pod_worker::Copy;
use crate::api::{Pod, Row};
use crate::client::Reply;
use crate::engine::Time;
use crate::store::write::Trigger;
use crate::store::{ApiError, Id};

impl Kubelet {
    /// A write was answered.
    pub fn on_reply(&mut self, token: u64, reply: &Reply, cx: &mut Cx<'_>) {
        let Some((topic, life, pod)) = Topic::parse(token) else {
            return;
        };
        if !self.up || life != self.host.life {
            return;
        }
        self.host.trigger = Trigger::Timer;
        self.hear_answer(cx);
        match topic {
            Topic::Status => self.status_replied(Id::new(pod), reply, cx),
            Topic::Delete => self.delete_replied(Id::new(pod), reply, cx),
            Topic::Event => self.host.event_replied(cx, reply),
            Topic::Lease => self.host.on_lease_reply(cx, reply),
            Topic::LeaseCreate => self.host.on_lease_created(cx, reply),
            Topic::NodeStatus => self.host.on_node_status_reply(cx, reply),
            Topic::Register => self.host.on_registered(cx, reply),
        }
        self.flush(cx);
    }

    /// The API server has done what was asked under this token, and its answer is back at
    /// `answered`. Returns whether that is waited for.
    pub fn taken(&mut self, token: u64, answered: Time, cx: &mut Cx<'_>) -> bool {
        let Some((topic, life, pod)) = Topic::parse(token) else {
            return false;
        };
        if !self.up || life != self.host.life {
            return false;
        }
        match topic {
            Topic::Event => {
                self.host.event_taken(cx, answered);
                false
            }
            Topic::Status => !self.host.status_taken(Id::new(pod), answered),
            _ => true,
        }
    }

    /// The answer to the status sent last, if it is there by now.
    pub(super) fn hear_answer(&mut self, cx: &Cx<'_>) {
        if self.host.answered <= cx.now {
            self.status_arrived();
        }
    }

    /// Sends the next status, unless one is under way.
    pub(super) fn flush(&mut self, cx: &mut Cx<'_>) {
        self.let_in(cx);
        self.end_groups(cx);
        while self.host.sending.is_none() {
            let Some(id) = self.host.statuses.pop_front() else {
                return;
            };
            let Some(pod) = self.pods.get_mut(&id) else {
                continue;
            };
            pod.queued = false;
            if pod.needs_update() && pod.send_status(&mut self.host, cx) {
                self.host.sending = Some((id, pod.version));
            }
        }
        self.host.await_answer(cx);
    }

    /// As [`Kubelet::status_replied`], of a success that is not followed by a deletion.
    fn status_arrived(&mut self) {
        self.host.answered = Time::MAX;
        if let Some((id, version)) = self.host.sending.take()
            && let Some(pod) = self.pods.get_mut(&id)
        {
            pod.has_sent(version);
            self.rounds.note(pod);
        }
    }

    fn status_replied(&mut self, id: Id<Pod>, reply: &Reply, cx: &mut Cx<'_>) {
        let Some((_, version)) = self.host.sending.take_if(|(of, _)| *of == id) else {
            return;
        };
        let Some(pod) = self.pods.get_mut(&id) else {
            return;
        };
        match reply {
            Ok(receipt) => {
                pod.has_sent(version);
                self.rounds.note(pod);
                if let Some(Row::Pod(row)) = &receipt.row
                    && pod.can_be_deleted(row)
                {
                    pod.send_delete(&mut self.host, cx);
                    self.host.sending = Some((id, version));
                }
            }
            Err(ApiError::NotFound(_) | ApiError::Conflict(_)) => pod.sent = version,
            Err(_) => self.host.arm_batch(cx),
        }
    }

    fn delete_replied(&mut self, id: Id<Pod>, reply: &Reply, cx: &mut Cx<'_>) {
        self.host.sending.take_if(|(of, _)| *of == id);
        match (reply, self.pods.get_mut(&id)) {
            (Ok(_) | Err(ApiError::NotFound(_) | ApiError::Conflict(_)), Some(pod)) => {
                pod.status = Copy::None;
            }
            (Err(_), Some(_)) => self.host.arm_batch(cx),
            (_, None) => {}
        }
    }
}
