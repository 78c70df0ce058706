//! What the containers of a pod hold while it is being resized in place, by its status
//! (`component-helpers/resource :: PodRequests` with `UseStatusResources`).

use serde_json::Value;

use super::container::resources;
use super::pod::override_with;
use crate::api::container::Container;
use crate::api::pod::{PodSpec, Resized};
use crate::api::quantity::Resources;

/// Requests that differ from those of the spec; `None` when none do.
pub(super) fn resized(spec: &PodSpec, status: &Value) -> Option<Box<Resized>> {
    let infeasible = infeasible(status);
    let of = |containers: &[Container], field: &str, all: bool| -> Vec<Option<Resources>> {
        let statuses = status[field].as_array();
        let held = |container: &Container| {
            let mut statuses = statuses.into_iter().flatten();
            let named = |s: &&Value| s["name"].as_str() == Some(container.name.as_str());
            let status = statuses
                .find(named)
                .filter(|_| all || container.restart_always)?;
            let held = effective(&container.requests, status, infeasible)?;
            (held != container.requests).then_some(held)
        };
        containers.iter().map(held).collect()
    };
    let containers = of(&spec.containers, "containerStatuses", true);
    let init = of(&spec.init_containers, "initContainerStatuses", false);
    let level = super::pod_level(&spec.source).and_then(|level| {
        let held = effective(&level, status, infeasible)?;
        // Only what the spec names counts, by what is held of it.
        let mut kept = Resources {
            named: level.named,
            ..Resources::default()
        };
        let mut named = held;
        named.named = level.named;
        named
            .extended
            .retain(|(name, _)| level.extended.iter().any(|(n, _)| n == name));
        override_with(&mut kept, &named);
        (kept != level).then_some(kept)
    });
    let any = containers.iter().chain(&init).any(Option::is_some) || level.is_some();
    any.then(|| {
        Box::new(Resized {
            containers,
            init_containers: init,
            level,
        })
    })
}

/// `determineEffectiveRequests`: the most of what is wanted, in use and promised; an infeasible wish
/// does not count. `None` where the status does not tell.
fn effective(spec: &Resources, status: &Value, infeasible: bool) -> Option<Resources> {
    let of = |amounts: &Value| {
        let amounts = serde_json::from_value(amounts.clone()).ok().flatten();
        resources(&amounts)
    };
    let actuated = status.get("resources").filter(|r| !r.is_null())?;
    let mut most = of(&actuated["requests"]);
    most.max(&of(&status["allocatedResources"]));
    if !infeasible {
        most.max(spec);
    }
    Some(most)
}

/// `IsPodResizeInfeasible`.
fn infeasible(status: &Value) -> bool {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let pending = conditions.find(|c| c["type"] == "PodResizePending");
    pending.is_some_and(|c| c["reason"] == "Infeasible")
}
