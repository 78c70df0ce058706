//! Faults in an order of time: Schedule and Workflow of Chaos Mesh.
//!
//! When which of them begins and ends depends on clocks and deadlines alone, so a plan is laid out
//! when it is applied ([`FaultPlan::lay_out`]); whom each fault hits is chosen when it begins, under a
//! name of its own. What Chaos Mesh's controllers need to notice a deadline is not counted.
//!
//! The rules are those of `controllers/schedule/cron/controller.go` (a schedule that forbids
//! concurrency leaves out what is due while the last one lasts) and `pkg/workflow/controllers`
//! (`serial_node_reconciler.go`, `parallel_node_reconciler.go`, `deadline_reconciler.go`: a node of a
//! fault is done at its deadline, and a deadline ends what is below it).

use std::time::Duration;

use super::model::Fault;
use crate::api::Text;
use crate::api::cron::Schedule;
use crate::engine::Time;

/// More faults than anybody plans.
const MOST: usize = 100_000;

/// Faults in an order of time.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    /// Kind as written: `Schedule` or `Workflow`.
    pub kind: Text,
    /// `metadata.name`.
    pub name: Text,
    /// What happens.
    pub root: PlanNode,
}

/// A part of a plan. Deadlines count from its beginning.
#[derive(Clone, Debug)]
pub enum PlanNode {
    /// One fault, for its duration. In a Workflow that is its deadline.
    Once {
        /// The fault.
        fault: Box<Fault>,
        /// A Workflow goes on then.
        deadline: Option<Duration>,
    },
    /// Something again and again.
    Repeat {
        /// When.
        schedule: Schedule,
        /// Left out while the last one lasts (`concurrencyPolicy: Forbid`, the default).
        forbid: bool,
        /// What.
        what: Box<PlanNode>,
        /// When it ends.
        deadline: Option<Duration>,
    },
    /// One after the other.
    Serial {
        /// What.
        children: Vec<PlanNode>,
        /// When it ends.
        deadline: Option<Duration>,
    },
    /// At the same time.
    Parallel {
        /// What.
        children: Vec<PlanNode>,
        /// When it ends.
        deadline: Option<Duration>,
    },
    /// Nothing.
    Suspend(Duration),
}

/// A fault with when it begins.
pub type Due = (Time, Fault);

impl FaultPlan {
    /// The faults that begin before `until`, in order of time, of a plan that is applied at `now`.
    pub fn lay_out(&self, now: Time, until: Time) -> Vec<Due> {
        let mut due = Vec::new();
        self.root.lay_out(now, until, &mut due);
        due.sort_by_key(|(at, _)| *at);
        for (number, (_, fault)) in (1u32..).zip(&mut due) {
            fault.name = format!("{}-{number}", fault.name).into();
        }
        due
    }

    /// Every fault that it may begin.
    pub fn faults(&self) -> Vec<&Fault> {
        let mut faults = Vec::new();
        self.root.visit(&mut faults);
        faults
    }
}

impl PlanNode {
    fn visit<'p>(&'p self, faults: &mut Vec<&'p Fault>) {
        match self {
            PlanNode::Once { fault, .. } => faults.push(fault),
            PlanNode::Repeat { what, .. } => what.visit(faults),
            PlanNode::Serial { children, .. } | PlanNode::Parallel { children, .. } => {
                children.iter().for_each(|child| child.visit(faults));
            }
            PlanNode::Suspend(_) => {}
        }
    }

    /// Lays out what begins at `from` or later and before `end`, and is cut short by `end`; returns
    /// when it is done, `Time::MAX` for never.
    fn lay_out(&self, from: Time, end: Time, due: &mut Vec<Due>) -> Time {
        if from >= end || due.len() >= MOST {
            return from;
        }
        let limit = |deadline: &Option<Duration>| {
            deadline.map_or(end, |deadline| (from + deadline).min(end))
        };
        match self {
            PlanNode::Once { fault, deadline } => {
                let mut fault = (**fault).clone();
                let own = fault.duration.map_or(Time::MAX, |length| from + length);
                let over = own.min(deadline.map_or(Time::MAX, |deadline| from + deadline));
                let over = over.min(end);
                let instant = fault.is_instant();
                fault.duration = (over < Time::MAX).then(|| over.since(from));
                due.push((from, fault));
                match deadline {
                    Some(_) => over,
                    None if instant => from,
                    None => own.min(end),
                }
            }
            PlanNode::Repeat {
                schedule,
                forbid,
                what,
                deadline,
            } => {
                let end = limit(deadline);
                repeat(schedule, *forbid, what, (from, end), due);
                end
            }
            PlanNode::Serial { children, deadline } => {
                let end = limit(deadline);
                let mut at = from;
                for child in children {
                    at = child.lay_out(at, end, due);
                }
                at.min(end)
            }
            PlanNode::Parallel { children, deadline } => {
                let end = limit(deadline);
                let ends = children.iter().map(|child| child.lay_out(from, end, due));
                ends.max().unwrap_or(from).min(end)
            }
            PlanNode::Suspend(length) => (from + *length).min(end),
        }
    }
}

fn repeat(
    schedule: &Schedule,
    forbid: bool,
    what: &PlanNode,
    (from, end): (Time, Time),
    due: &mut Vec<Due>,
) {
    // The wall clock begins with the cluster, as that of CronJobs does.
    let mut clock = i64::try_from(from.as_nanos() / 1_000_000_000).unwrap_or(i64::MAX);
    let mut busy = from;
    while let Some(next) = schedule.next(clock) {
        clock = next;
        let at = Time::from_secs(u64::try_from(next).unwrap_or(u64::MAX / 1_000_000_000));
        if at >= end || due.len() >= MOST {
            return;
        }
        if at < from || (forbid && at < busy) {
            continue;
        }
        busy = what.lay_out(at, end, due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::yaml::Span;
    use crate::fault::{Action, Mode, Selector};

    fn secs(n: u64) -> Option<Duration> {
        Some(Duration::from_secs(n))
    }

    fn fault(name: &str, action: Action, duration: Option<Duration>) -> Box<Fault> {
        Box::new(Fault {
            name: name.into(),
            kind: "PodChaos".into(),
            span: Span::NONE,
            action,
            selector: Selector::default(),
            mode: Mode::One,
            duration,
        })
    }

    fn once(name: &str, deadline: Option<Duration>) -> PlanNode {
        let fault = fault(name, Action::PodFailure, None);
        PlanNode::Once { fault, deadline }
    }

    fn every(text: &str, forbid: bool, what: PlanNode, deadline: Option<Duration>) -> PlanNode {
        PlanNode::Repeat {
            schedule: Schedule::parse(text).expect("a schedule"),
            forbid,
            what: Box::new(what),
            deadline,
        }
    }

    /// `name begin+duration …` of a plan that is applied at 100 s and looked at until 400 s.
    fn laid_out(root: PlanNode) -> String {
        let plan = FaultPlan {
            kind: "Workflow".into(),
            name: "plan".into(),
            root,
        };
        let due = plan.lay_out(Time::from_secs(100), Time::from_secs(400));
        let words = due.iter().map(|(at, fault)| {
            let begin = at.since(Time::from_secs(100)).as_secs();
            let length = fault.duration.map(|length| length.as_secs());
            let length = length.map_or(String::new(), |length| format!("+{length}"));
            format!("{} {begin}{length}", fault.name)
        });
        words.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_workflow_is_laid_out_by_its_deadlines() {
        let (serial, parallel) = (
            |children, deadline| PlanNode::Serial { children, deadline },
            |children, deadline| PlanNode::Parallel { children, deadline },
        );
        for (root, expected) in [
            (
                serial(
                    vec![
                        once("a", secs(20)),
                        PlanNode::Suspend(Duration::from_secs(10)),
                        once("b", secs(20)),
                    ],
                    secs(240),
                ),
                "a-1 0+20, b-2 30+20",
            ),
            // The deadline of the whole cuts what is below it, and what would come next.
            (
                serial(
                    vec![
                        once("a", secs(20)),
                        once("b", secs(20)),
                        once("c", secs(20)),
                    ],
                    secs(30),
                ),
                "a-1 0+20, b-2 20+10",
            ),
            (
                serial(
                    vec![
                        parallel(vec![once("a", secs(20)), once("b", secs(50))], None),
                        once("c", secs(5)),
                    ],
                    None,
                ),
                "a-1 0+20, b-2 0+50, c-3 50+5",
            ),
            // Without a deadline a fault never ends, and nothing follows.
            (
                serial(vec![once("a", None), once("b", secs(1))], None),
                "a-1 0+300",
            ),
        ] {
            assert_eq!(laid_out(root), expected);
        }
    }

    #[test]
    fn a_schedule_that_forbids_concurrency_leaves_out_what_is_due_meanwhile() {
        let lasting = |length| PlanNode::Once {
            fault: fault("f", Action::PodFailure, secs(length)),
            deadline: None,
        };
        let kill = || PlanNode::Once {
            fault: fault("f", Action::PodKill { grace_s: 0 }, None),
            deadline: None,
        };
        for (root, expected) in [
            (
                every("@every 60s", true, lasting(90), None),
                "f-1 60+90, f-2 180+90",
            ),
            (
                every("@every 100s", false, lasting(150), None),
                "f-1 100+150, f-2 200+100",
            ),
            // Killing is over at once; the clock's minutes are at 120, 180, 240 … s.
            (
                every("* * * * *", true, kill(), secs(150)),
                "f-1 20+130, f-2 80+70, f-3 140+10",
            ),
        ] {
            assert_eq!(laid_out(root), expected);
        }
    }
}
