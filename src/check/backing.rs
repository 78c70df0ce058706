//! What a run runs on: latency models, real processes, or the journal of a run that was.

#[cfg(target_os = "linux")]
use crate::backend::linux::Linux;
use crate::backend::sim::{RuntimeLatency, Simulated};
use crate::check::run::RunError;
use crate::cluster::{Cluster, Containers, Event};
use crate::engine::{Backend, Ended, Journal, Silent, Tape, Time};
use crate::scenario::types::LatencySpec;

/// What a run runs on.
#[derive(Debug)]
pub enum On<'a> {
    /// Latency models.
    Simulation,
    /// Latency models of containers that are processes of one host, without a container runtime
    /// between: what real runs are compared with.
    Processes,
    /// Real processes of this host.
    #[cfg(target_os = "linux")]
    Linux(&'a mut Linux),
    /// What was heard in a run on real processes.
    Journal(&'a Journal<Event>),
}

impl On<'_> {
    /// As in the header of a run.
    pub fn name(&self) -> &'static str {
        match self {
            On::Simulation | On::Processes => "sim",
            _ => "linux",
        }
    }

    /// Whether somebody waits for the initial workloads in real time, or has: so did those who
    /// recorded a journal, and what is compared with a real run begins when that does.
    pub fn sat_through(&self) -> bool {
        !matches!(self, On::Simulation)
    }

    /// Who answers for what happens inside containers.
    pub fn containers(&self) -> Containers {
        match self {
            On::Simulation | On::Processes => Containers::Simulated,
            _ => Containers::Real,
        }
    }
}

/// The backend of a run, and what becomes of what it says.
pub(super) struct Backing<'a> {
    pub(super) backend: Box<dyn Served + 'a>,
    pub(super) tape: Tape<'a, Event>,
}

/// A backend that can be asked how it went.
pub(super) trait Served: Backend<Cluster> {
    /// What the run did not have.
    fn degraded(&self) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }

    /// Why to wait for the initial workloads is in vain, if it is known to be.
    fn stuck(&self) -> Option<String> {
        None
    }
}

impl Served for Simulated {}

impl Served for Silent {}

#[cfg(target_os = "linux")]
impl Backend<Cluster> for &mut Linux {
    fn submit(
        &mut self,
        now: Time,
        request: crate::cluster::Request,
        inbox: &mut Vec<(Time, Event)>,
    ) {
        (**self).submit(now, request, inbox);
    }

    fn wait(&mut self, until: Option<Time>, inbox: &mut Vec<(Time, Event)>) -> Option<Time> {
        (**self).wait(until, inbox)
    }
}

#[cfg(target_os = "linux")]
impl Served for &mut Linux {
    fn degraded(&self) -> Result<Vec<String>, String> {
        match self.failed() {
            Some(why) => {
                let problems = self.problems().join("; ");
                Err(format!("{why} {problems}"))
            }
            None => Ok(Linux::degraded(self)),
        }
    }

    fn stuck(&self) -> Option<String> {
        Linux::stuck(self)
    }
}

impl<'a> Backing<'a> {
    /// Prepares a backend for a cluster; what is heard goes to `journal`.
    pub(super) fn new(
        on: On<'a>,
        cluster: &Cluster,
        latency: &LatencySpec,
        journal: &'a mut Journal<Event>,
    ) -> Backing<'a> {
        let simulated =
            |usual: RuntimeLatency| Box::new(Simulated::new(cluster.draws, usual.with(latency)));
        let mut tape = Tape::Record(journal);
        let mut backend: Box<dyn Served + 'a> = match on {
            On::Simulation => simulated(RuntimeLatency::default()),
            On::Processes => simulated(RuntimeLatency::processes()),
            #[cfg(target_os = "linux")]
            On::Linux(linux) => Box::new(linux),
            On::Journal(journal) => {
                tape = Tape::Replay(journal.playback());
                Box::new(Silent)
            }
        };
        for request in cluster.introduction() {
            backend.submit(Time::ZERO, request, &mut Vec::new());
        }
        Backing { backend, tape }
    }

    /// What the run did not have.
    pub(super) fn finish(self, ended: Ended) -> Result<Vec<String>, RunError> {
        if ended == Ended::Diverged {
            let why = "the journal says that something was heard before its time";
            return Err(RunError::Host(why.to_owned()));
        }
        self.backend.degraded().map_err(RunError::Host)
    }
}
