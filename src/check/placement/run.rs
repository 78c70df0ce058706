//! Questions about a recorded run: it is executed again, up to the cycles that are asked about.

use super::Question;
use crate::api::Text;
use crate::check::run::{RunError, RunOptions, Watcher, run_watched};
use crate::cluster::Cluster;
use crate::engine::Time;
use crate::record::{PodLife, RunRecord};
use crate::scenario::Scenario;
use crate::sched::Moment;
use crate::store::Change;

/// Has the scheduler keep the last cycles of some pods, and takes them at the end.
struct Asker {
    pods: Vec<(Text, Text)>,
    moments: Vec<Moment>,
}

impl Watcher for Asker {
    fn at_start(&mut self, world: &mut Cluster) {
        world.ask_scheduler(self.pods.drain(..));
    }

    fn on_change(&mut self, _: &Change) {}

    fn after_event(&mut self, _: Time, _: &Cluster) {}

    fn at_end(&mut self, _: Time, world: &Cluster) {
        self.moments = world.scheduler_moments().cloned().collect();
    }
}

/// The questions about these pods of a recorded run: the last cycle of each.
///
/// # Errors
/// When the scenario cannot run (any more).
pub fn of_run(
    scenario: &Scenario,
    record: &RunRecord,
    pods: &[&PodLife],
) -> Result<Vec<Question>, String> {
    let key = |pod: &PodLife| (pod.namespace.clone(), pod.name.clone());
    let header = &record.header;
    let end = header.begun + header.simulated;
    // A pod that never got a node is tried until the end.
    let last = pods.iter().map(|pod| pod.scheduled.unwrap_or(end)).max();
    let last = last.unwrap_or(Time::ZERO);
    let mut options = RunOptions {
        stop: &mut |progress, _| progress.now > last,
        arguments: Vec::new(),
    };
    let mut asker = Asker {
        pods: pods.iter().map(|pod| key(pod)).collect(),
        moments: Vec::new(),
    };
    run_watched(scenario, &mut options, &mut asker).map_err(|error| match error {
        RunError::Expectation(message) | RunError::Host(message) => message,
        RunError::Input(problem) => problem.message,
        RunError::Refused(refused) => refused.error.to_string(),
    })?;
    let config = crate::cluster::build::scheduler_config(scenario)?;
    let question = |moment: &Moment| {
        let meta = &moment.pod.meta;
        let life = (pods.iter()).find(|p| p.namespace == meta.namespace && p.name == meta.name);
        let at = moment.at.as_secs_f64() - header.begun.as_secs_f64();
        Question {
            pod: moment.pod.clone(),
            view: moment.view.clone(),
            config: config.clone(),
            draws: crate::engine::Draws::new(scenario.seed),
            now: moment.at,
            node: life.map(|p| p.node.clone()).filter(|node| !node.is_empty()),
            cycle: Some((at, moment.cycle)),
        }
    };
    Ok(asker.moments.iter().map(question).collect())
}
