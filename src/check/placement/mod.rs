//! Why a pod went where it went, or nowhere: one scheduling cycle with every verdict and score, what
//! told the winner from the runner-up, and which changes would make the pod fit.
//!
//! A [`Question`] is a pod and what the scheduler knew: from files ([`of_files`]) or from a recorded
//! run, executed again up to the pod's last cycle ([`of_run`]). [`answer`] runs the cycle; `remedy`
//! tries changes by running it again with each of them. Nothing is changed by any of it.

mod remedy;

mod run;

mod snapshot;

mod text;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::{Pod, Row, Text};
use crate::engine::{Draws, Time};
use crate::sched::{Explanation, SchedulerConfig, explain};
use crate::store::{Change, ObjectId, Op, View};

pub use remedy::Remedy;
pub use run::of_run;
pub use snapshot::{config, not_asked, of_files};
pub use text::text;

/// A pod to place and what is known at that moment.
#[derive(Clone, Debug)]
pub struct Question {
    /// The pod, without a node.
    pub pod: Arc<Pod>,
    /// The cluster without the pod on any node.
    pub view: View,
    /// How the scheduler is configured.
    pub config: SchedulerConfig,
    /// What breaks ties.
    pub draws: Draws,
    /// When.
    pub now: Time,
    /// The node that it is on in the snapshot, or went to in the run.
    pub node: Option<Text>,
    /// When that was, in seconds of the run, and the number of the pod's cycle.
    pub cycle: Option<(f64, u32)>,
}

/// A question with its answer.
#[derive(Clone, Debug)]
pub struct Placement {
    /// What was asked.
    pub question: Question,
    /// The cycle.
    pub explanation: Explanation,
    /// What would make it fit, the least first; empty when it fits.
    pub remedies: Vec<Remedy>,
}

/// Runs the cycle, and looks for remedies when no node fits.
///
/// # Errors
/// When no profile of the configuration has the pod's `schedulerName`.
pub fn answer(question: Question) -> Result<Placement, String> {
    let explanation = cycle(&question, &question.pod, &question.view)?;
    let remedies = match explanation.feasible.is_empty() {
        true => remedy::remedies(&question, &explanation),
        false => Vec::new(),
    };
    Ok(Placement {
        question,
        explanation,
        remedies,
    })
}

fn cycle(question: &Question, pod: &Arc<Pod>, view: &View) -> Result<Explanation, String> {
    explain(&question.config, &question.draws, pod, view, question.now)
}

impl Placement {
    /// The object that `rehearsal explain --pod --json` prints.
    pub fn to_json(&self) -> Value {
        let mut object = self.explanation.to_json();
        if let Some((at_s, cycle)) = self.question.cycle {
            object["at_s"] = json!(at_s);
            object["cycle"] = json!(cycle);
        }
        if let Some(node) = &self.question.node {
            object["node"] = json!(node);
        }
        if !self.remedies.is_empty() {
            let remedies = self.remedies.iter();
            object["remedies"] = remedies
                .map(|r| json!({"node": r.node, "changes": r.changes}))
                .collect();
        }
        object
    }
}

/// Puts a row into a view, or takes it out.
fn put(view: &mut View, object: ObjectId, row: Option<Row>) {
    let op = match row {
        Some(_) => Op::Update,
        None => Op::Delete,
    };
    view.apply(&Change {
        revision: view.revision + 1,
        time: Time::ZERO,
        object: Some(object),
        op,
        old: None,
        new: row,
        event: None,
        cause: Default::default(),
        renewed: None,
    });
}
