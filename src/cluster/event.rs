//! Everything that can happen in a run, in one closed enum.
//!
//! It is `Copy` and at most 16 bytes, so that a million pending events stay in cache; whatever is
//! larger (a request, a plan) lives with its owner and the event carries its number. The inner
//! enums belong to the layers that handle them.

use serde::{Deserialize, Serialize};

use super::control_plane::Watcher;
use super::dataplane;
use crate::client::runner;
use crate::kubelet::runtime::ContainerId;
use crate::kubelet::{self, RuntimeEvent};
use crate::load::Key;
use crate::sched;

/// One event. New kinds go to the end: digests of runs and journals count on the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Event {
    /// A request reaches the API server.
    Arrive(u32),
    /// An answer reaches the sender of a request.
    Answer(u32),
    /// A renewal of a lease reaches the API server.
    Renew(Key),
    /// The controller manager's watches deliver.
    ToManager,
    /// The scheduler's watches deliver.
    ToScheduler,
    /// The watch of this node's kubelet delivers.
    ToKubelet(u32),
    /// A controller, by its place in the list.
    Controller(u8, runner::Event),
    /// The scheduler.
    Scheduler(sched::Event),
    /// The kubelet of a node.
    Kubelet(u32, kubelet::Event),
    /// A container runtime speaks.
    Runtime(RuntimeEvent),
    /// Network and load.
    Data(dataplane::Event),
    /// Requests that a backend really sent.
    Users(dataplane::told::UserEvent),
    /// The initial workloads are looked at: once they serve, the run's own time begins.
    Settle,
    /// A timeline step is due.
    Step(u32),
    /// kubectl goes on with a step.
    Kubectl(u32),
    /// The end of a fault.
    Heal(u32),
    /// A machine that was switched off boots again.
    Boot(u32),
    /// The next pod of this stream is due.
    Feed(u32),
    /// The proxy of a place, which a backend runs, has programmed everything up to a revision.
    Programmed(u32, u64),
    /// The kubelets look at what their containers use, for the metrics server.
    Housekeeping,
    /// The metrics server asks the kubelets what they saw.
    Scrape,
    /// A process of an elected component asks for its lease.
    Election {
        /// 0 the controller manager, 1 the scheduler.
        which: u8,
        /// Which of its replicas.
        replica: u8,
        /// Events of an older number mean nothing.
        number: u32,
    },
    /// Somebody whose watch broke tries again.
    Reconnect(Watcher),
    /// Connections to a silent API server are given up.
    ControlLook,
    /// The next fault of a plan is due.
    Inject(u32),
    /// A backend has measured the working set of a container, in KiB.
    Holds(ContainerId, u32),
    /// And the CPU time that it has used since its start, in milliseconds of the scenario's cores.
    Used(ContainerId, u32),
    /// The API server's question to an admission webhook is answered, or given up.
    Webhook(Key),
    /// The watches of the controller manager and the scheduler deliver, in this order.
    ToBoth,
    /// The watches of this node's kubelet, the controller manager and the scheduler deliver, in this
    /// order: what most changes of pods come to.
    ToAll(u32),
}

const _: () = assert!(size_of::<Event>() <= 16, "events are copied by the million");
