//! The node's registration and status.
//!
//! `pkg/kubelet/kubelet_node_status.go` and `nodestatus/setters.go`: the status is computed every
//! ten seconds and reported when it differs from what the API server shows, or after five minutes.
//!
//! A look that finds nothing to report is followed by others that find nothing, until the five
//! minutes are over or something changes. These looks are left out: the kubelet sleeps until the
//! look at which the report is due, and is woken at the next look after a change.

use std::sync::Arc;
use std::time::Duration;

use super::agent::{Event, Kubelet};
use super::health::{Health, sayings};
use super::host::{Cx, Host, Topic};
use super::record::whole_seconds;
use super::telling::{About, Quiet};
use crate::api::node::{NodeCondition, NodeConditionKind};
use crate::api::pod_status::Truth;
use crate::api::{Kind, Node, Text};
use crate::client::Reply;
use crate::engine::draws::Purpose;
use crate::engine::{Time, nanos};
use crate::store::{ApiError, Patch, Write};

const PHASE: Purpose = Purpose::new("kubelet/node-status-phase");
const JITTER: Purpose = Purpose::new("kubelet/node-status-jitter");
const DELAY: Purpose = Purpose::new("kubelet/node-status-delay");
/// `wait.JitterUntil` of `syncNodeStatus`.
const FACTOR: f64 = 0.04;
/// `nodeStatusUpdateRetry`.
const TRIES: u8 = 5;
/// `registerWithAPIServer`: the first wait, and the longest.
const REGISTER: Duration = Duration::from_millis(100);
const REGISTER_MAX: Duration = Duration::from_secs(7);
/// `nodeStatusMaxImages`.
const MAX_IMAGES: usize = 50;

/// Where the reporting of the node's status stands.
#[derive(Debug)]
pub(super) struct Reporting {
    due: Time,
    /// While looks are left out: the last one that happened, and the number of the next one's draw.
    asleep: Option<(Time, u64)>,
    /// `registrationCompleted`: a node that is deleted later is not made again in this life.
    registered: bool,
    reported: Option<Time>,
    /// `delayAfterNodeStatusChange`: spreads the periodic reports of many nodes.
    delay: Spread,
    pub(super) images_changed: bool,
    calm: Calm,
    /// A report is under way; whether it was a change, and its tries.
    sending: Option<bool>,
    tries: u8,
    wait: Duration,
    unschedulable: Option<bool>,
    quiet: Quiet,
    n: u64,
}

/// Whether the last report says all that there is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Calm {
    /// It is not known.
    No,
    /// It does if it is answered with success.
    Asked,
    /// It does: the next look will find nothing.
    Yes,
}

/// A signed span.
#[derive(Clone, Copy, Debug, Default)]
struct Spread {
    less: Duration,
    more: Duration,
}

impl Default for Reporting {
    fn default() -> Self {
        Reporting {
            due: Time::MAX,
            asleep: None,
            registered: false,
            reported: None,
            delay: Spread::default(),
            images_changed: false,
            calm: Calm::No,
            sending: None,
            tries: 0,
            wait: REGISTER,
            unschedulable: None,
            quiet: Quiet::default(),
            n: 0,
        }
    }
}

/// The conditions that a healthy kubelet has reported long ago.
pub fn initial_conditions(node: &Node) -> Vec<NodeCondition> {
    conditions(node, &Health::default(), Time::ZERO).0
}

/// The node's conditions at `now`, what they were before, and the events of those that changed.
/// The three pressures keep their words while their status stays; Ready does not.
pub(super) fn conditions(
    node: &Node,
    health: &Health,
    now: Time,
) -> (Vec<NodeCondition>, Vec<&'static str>) {
    let now = whole_seconds(now);
    let mut events = Vec::new();
    let sayings = sayings(health);
    let mut all = Vec::with_capacity(sayings.len());
    for (kind, truth, reason, message, event) in sayings {
        let old = node.condition(&kind);
        let kept = old.filter(|c| c.status == Truth::from(truth));
        let ready = kind == NodeConditionKind::Ready;
        if kept.is_none() && (!ready || old.is_some()) {
            events.push(event);
        }
        let words = match kept {
            Some(kept) if !ready || kept.reason == reason && kept.message == message => {
                (kept.reason.clone(), kept.message.clone())
            }
            _ => (Text::literal(reason), Text::literal(message)),
        };
        all.push(NodeCondition {
            kind,
            status: Truth::from(truth),
            heartbeat: now,
            since: kept.map_or(now, |kept| kept.since),
            reason: words.0,
            message: words.1,
        });
    }
    (all, events)
}

/// Whether the node's conditions are what [`conditions`] would make of them.
fn as_said(node: &Node, health: &Health) -> bool {
    let sayings = sayings(health);
    sayings
        .into_iter()
        .all(|(kind, truth, reason, message, _)| {
            // While the status stays the three pressures keep their words.
            node.condition(&kind).is_some_and(|c| {
                c.status == Truth::from(truth)
                    && (kind != NodeConditionKind::Ready
                        || c.reason == reason && c.message == message)
            })
        })
}

fn changed(node: &Node, conditions: &[NodeCondition]) -> bool {
    conditions.iter().any(|c| {
        node.condition(&c.kind).is_none_or(|old| {
            (old.status, &old.reason, &old.message) != (c.status, &c.reason, &c.message)
        })
    })
}

impl Kubelet {
    /// Somebody else changed the Node object.
    pub fn node_changed(&mut self, cx: &mut Cx<'_>) {
        if self.up {
            self.host.wake_node_status(cx);
        }
    }
}

impl Host {
    /// Tells about the node.
    pub(super) fn tell_node(
        &mut self,
        cx: &mut Cx<'_>,
        warning: bool,
        reason: &'static str,
        message: String,
    ) {
        let row = self.row.clone();
        let about = About {
            kind: Kind::Node,
            meta: &row.meta,
        };
        let mut quiet = std::mem::take(&mut self.reporting.quiet);
        self.tell(cx, about, &mut quiet, warning, reason, message);
        self.reporting.quiet = quiet;
    }

    /// The first report of this life, after registering when the API server does not have the node.
    pub(super) fn start_node_status(&mut self, cx: &mut Cx<'_>) {
        self.refresh_row(cx);
        if self.api_node.is_none() {
            self.register(cx);
            return;
        }
        self.reporting.registered = true;
        if self.established && self.row.ready() {
            let period = self.config.node_status_update;
            let bound = nanos(period).max(1);
            let phase = cx.draws.below(PHASE, self.entity, 0, bound);
            self.reporting.due = cx.now + Duration::from_nanos(phase);
            cx.out.at(self.reporting.due, Event::NodeStatus);
            return;
        }
        self.next_node_status(cx);
        self.report(cx);
    }

    /// The node as its watch shows it.
    pub(super) fn refresh_row(&mut self, cx: &Cx<'_>) {
        // While a node is there nobody else can have its name.
        if let Some(row) = self.api_node.and_then(|id| cx.lookup.node_at(id))
            && row.meta.name == self.row.meta.name
        {
            if !Arc::ptr_eq(row, &self.row) {
                self.row = row.clone();
            }
            return;
        }
        let found = cx.lookup.node(&self.row.meta.name);
        self.api_node = found.as_ref().map(|(id, _)| *id);
        if let Some((_, row)) = found {
            self.row = row;
        }
    }

    fn register(&mut self, cx: &mut Cx<'_>) {
        let mut node = Node::clone(&self.row);
        node.meta.revision = 0;
        node.meta.deletion = None;
        node.status.conditions.clear();
        let (conditions, _) = conditions(&node, &Health::default(), cx.now);
        node.status.conditions = conditions.into();
        node.status.images = self.image_list().into();
        node.status.declared_features = self.declared.clone();
        self.reporting.due = Time::MAX;
        let write = Write::Create(node.into());
        self.send(cx, write, "node registered", Topic::Register, 0);
    }

    /// The registration was answered.
    pub(super) fn on_registered(&mut self, cx: &mut Cx<'_>, reply: &Reply) {
        match reply {
            Ok(receipt) => {
                self.reporting.registered = true;
                self.api_node = receipt.object.and_then(|object| object.typed());
                self.reporting.reported = Some(cx.now);
                self.next_node_status(cx);
            }
            Err(ApiError::AlreadyExists(_)) => {
                self.reporting.registered = true;
                self.refresh_row(cx);
                self.next_node_status(cx);
                self.report(cx);
            }
            Err(_) => {
                let wait = self.reporting.wait;
                self.reporting.wait = (wait * 2).min(REGISTER_MAX);
                self.reporting.due = cx.now + wait;
                cx.out.at(self.reporting.due, Event::NodeStatus);
            }
        }
    }

    /// When the look after the one at `at` is.
    fn look_after(&mut self, at: Time, cx: &Cx<'_>) -> Time {
        let n = self.reporting.n;
        self.reporting.n += 1;
        let period = nanos(self.config.node_status_update);
        let key = (JITTER, self.entity, n);
        at.plus_nanos(Host::jittered(cx.draws, key, period, FACTOR))
    }

    fn next_node_status(&mut self, cx: &mut Cx<'_>) {
        self.reporting.asleep = None;
        self.reporting.due = self.look_after(cx.now, cx);
        cx.out.at(self.reporting.due, Event::NodeStatus);
    }

    /// Nothing was reported: sleeps until the look at which a report is due.
    fn sleep_until_report(&mut self, cx: &mut Cx<'_>) {
        self.reporting.asleep = Some((cx.now, self.reporting.n));
        let report = self.report_due();
        let mut due = self.look_after(cx.now, cx);
        while due < report {
            due = self.look_after(due, cx);
        }
        self.reporting.due = due;
        cx.out.at(due, Event::NodeStatus);
    }

    /// Something changed that the node's status may tell of: no look is left out any more.
    pub(super) fn wake_node_status(&mut self, cx: &mut Cx<'_>) {
        self.reporting.calm = Calm::No;
        let Some((last, n)) = self.reporting.asleep.take() else {
            return;
        };
        self.reporting.n = n;
        let mut due = self.look_after(last, cx);
        while due <= cx.now {
            due = self.look_after(due, cx);
        }
        if due != self.reporting.due {
            self.reporting.due = due;
            cx.out.at(due, Event::NodeStatus);
        }
    }

    /// A report is wanted at once.
    pub(super) fn report_now(&mut self, cx: &mut Cx<'_>) {
        self.reporting.asleep = None;
        self.reporting.due = cx.now;
        cx.out.at(cx.now, Event::NodeStatus);
    }

    /// `syncNodeStatus`.
    pub(super) fn on_node_status_due(&mut self, cx: &mut Cx<'_>) {
        if self.reporting.due != cx.now {
            return;
        }
        if self.reporting.calm == Calm::Yes && !self.report_is_due(cx.now) {
            debug_assert!(
                {
                    self.refresh_row(cx);
                    self.api_node.is_some() && !self.has_report(cx.now)
                },
                "a look would have found something"
            );
            self.sleep_until_report(cx);
            return;
        }
        self.refresh_row(cx);
        if !self.reporting.registered {
            self.register(cx);
            return;
        }
        self.reporting.tries = 0;
        if self.api_node.is_some() && !self.has_report(cx.now) {
            self.sleep_until_report(cx);
            return;
        }
        self.next_node_status(cx);
        self.report(cx);
    }

    /// Whether a look now finds anything to report.
    fn has_report(&self, now: Time) -> bool {
        self.reporting.images_changed
            || self.report_is_due(now)
            || self.volumes_in_use() != self.row.status.volumes_in_use
            || self.declared != self.row.status.declared_features
            || !as_said(&self.row, &self.health())
    }

    /// `tryUpdateNodeStatus`.
    fn report(&mut self, cx: &mut Cx<'_>) {
        let Some(node) = self.api_node else {
            return;
        };
        let (conditions, events) = conditions(&self.row, &self.health(), cx.now);
        let in_use = self.volumes_in_use();
        let volumes_changed = in_use != self.row.status.volumes_in_use;
        let declares = self.declared != self.row.status.declared_features;
        let changed = changed(&self.row, &conditions)
            || self.reporting.images_changed
            || volumes_changed
            || declares;
        if !changed && !self.report_is_due(cx.now) {
            return;
        }
        for event in events {
            let message = format!("Node {} status is now: {event}", self.row.meta.name);
            self.tell_node(cx, false, event, message);
        }
        self.tell_schedulable(cx);
        if changed || self.reporting.reported.is_none() {
            self.reporting.delay = self.draw_delay(cx);
        } else {
            self.reporting.delay = Spread::default();
        }
        if self.reporting.images_changed {
            let patch = Patch::NodeImages(self.image_list());
            let write = Write::Patch {
                object: node.into(),
                uid: None,
                patch,
            };
            self.beat(cx, write, "images on the node changed", Topic::NodeStatus);
            self.reporting.images_changed = false;
        }
        if volumes_changed {
            let write = Write::Patch {
                object: node.into(),
                uid: None,
                patch: Patch::VolumesInUse(in_use),
            };
            self.beat(cx, write, "volumes in use changed", Topic::NodeStatus);
        }
        if declares {
            let write = Write::Patch {
                object: node.into(),
                uid: None,
                patch: Patch::DeclaredFeatures(self.declared.clone()),
            };
            self.beat(cx, write, "declared features changed", Topic::NodeStatus);
        }
        let write = Write::Patch {
            object: node.into(),
            uid: None,
            patch: Patch::NodeConditions(conditions),
        };
        self.reporting.sending = Some(changed);
        self.reporting.calm = if changed { Calm::No } else { Calm::Asked };
        self.reporting.tries += 1;
        let rule = if changed {
            "node status changed"
        } else {
            "node status report is due"
        };
        self.beat(cx, write, rule, Topic::NodeStatus);
    }

    /// `recordNodeSchedulableEvent`.
    fn tell_schedulable(&mut self, cx: &mut Cx<'_>) {
        let now = self.row.unschedulable;
        let before = self.reporting.unschedulable.replace(now).unwrap_or(false);
        if before != now {
            let event = if now {
                "NodeNotSchedulable"
            } else {
                "NodeSchedulable"
            };
            let message = format!("Node {} status is now: {event}", self.row.meta.name);
            self.tell_node(cx, false, event, message);
        }
    }

    /// `isUpdateStatusPeriodExpired`.
    fn report_is_due(&self, now: Time) -> bool {
        now >= self.report_due()
    }

    /// From when on a report is due though nothing has changed.
    fn report_due(&self) -> Time {
        let Some(reported) = self.reporting.reported else {
            return Time::ZERO;
        };
        let Spread { less, more } = self.reporting.delay;
        reported + (self.config.node_status_report + more).saturating_sub(less)
    }

    /// `calculateDelay`: up to half of the report period, less or more.
    fn draw_delay(&self, cx: &Cx<'_>) -> Spread {
        let share = cx.draws.unit(DELAY, self.entity, self.reporting.n) - 0.5;
        let span = self.config.node_status_report.as_nanos() as f64 * share.abs();
        let span = Duration::from_nanos(span as u64);
        if share < 0.0 {
            Spread {
                less: span,
                more: Duration::ZERO,
            }
        } else {
            Spread {
                less: Duration::ZERO,
                more: span,
            }
        }
    }

    /// A report was answered.
    pub(super) fn on_node_status_reply(&mut self, cx: &mut Cx<'_>, reply: &Reply) {
        match reply {
            Ok(_) => {
                self.reporting.reported = Some(cx.now);
                if self.reporting.calm == Calm::Asked {
                    self.reporting.calm = Calm::Yes;
                }
            }
            Err(error) if error.of_transport() => {
                // Whether the images were among what was lost is not remembered.
                self.reporting.images_changed |= !self.images.present.is_empty();
            }
            Err(_) if self.reporting.tries < TRIES && self.reporting.sending.is_some() => {
                self.reporting.sending = None;
                self.refresh_row(cx);
                self.report(cx);
            }
            Err(_) => {}
        }
    }

    /// `nodestatus.VolumesInUse`.
    fn volumes_in_use(&self) -> Vec<Text> {
        let mut names: Vec<Text> = self.in_use.iter().map(|(name, _)| name.clone()).collect();
        names.dedup();
        names
    }

    /// `nodestatus.Images`: the largest images first.
    fn image_list(&self) -> Vec<(Vec<Text>, i64)> {
        let mut images: Vec<(Vec<Text>, i64)> = self
            .images
            .present
            .iter()
            .map(|(name, mib)| (vec![name.clone()], i64::from(*mib) << 20))
            .collect();
        images.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        images.truncate(MAX_IMAGES);
        images
    }
}
