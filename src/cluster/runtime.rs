//! Runtime requests on their way: to the data plane where containers are simulated, else to the
//! backend.

use crate::engine::{Dist, entity_key};
use crate::kubelet::runtime::{Call, RuntimeRequest};
use crate::store::View;

/// What the cluster asks of its backend.
#[derive(Clone, Debug)]
pub struct Request {
    /// The kubelet's request.
    pub runtime: RuntimeRequest,
    /// A stable key of the pod that it is about, for draws.
    pub entity: u64,
    /// How long its image takes to pull, where an AppModel says so.
    pub pull: Option<Dist>,
}

impl Request {
    /// Addresses a kubelet's request.
    pub fn new(runtime: RuntimeRequest, view: &View) -> Self {
        let entity = match &runtime.what {
            Call::StartSandbox { row, .. }
            | Call::PullImage { row, .. }
            | Call::StartContainer { row, .. } => {
                entity_key(&[&row.meta.namespace, &row.meta.name])
            }
            Call::RemovePod { pod } => view.pods().get(*pod).map_or(u64::from(pod.0), |row| {
                entity_key(&[&row.meta.namespace, &row.meta.name])
            }),
            Call::Signal { .. } | Call::Probe { .. } | Call::Hook { .. } | Call::Stats => 0,
        };
        Request {
            runtime,
            entity,
            pull: None,
        }
    }
}
