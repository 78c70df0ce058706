//! Plugins whose first half a profile has switched off.
//!
//! What a plugin leaves for itself at PreFilter and PreScore is missing when a profile disables it
//! there alone. Some plugins work it out again, some fail for every pod; these fail, in upstream's
//! words.

use crate::sched::node_info::NodeInfo;
use crate::sched::plugin::{Code, Cx, CycleState, Plugin, PluginName, PodEntry, Points, Status};

/// Stands at Filter for a plugin that has no PreFilter.
#[derive(Debug)]
pub struct Unprepared {
    name: PluginName,
    error: String,
}

impl Unprepared {
    /// The stand-in, if the plugin cannot do without PreFilter (`getPreFilterState`). What
    /// VolumeRestrictions says depends on the node, so it does that itself.
    pub fn filter_of(name: PluginName) -> Option<Unprepared> {
        let missing = format!("\"PreFilter{}\" from cycleState: not found", name.name());
        let error = match name {
            PluginName::NodePorts | PluginName::PodTopologySpread => format!("reading {missing}"),
            PluginName::NodeResourcesFit
            | PluginName::InterPodAffinity
            | PluginName::NodeDeclaredFeatures => format!("error reading {missing}"),
            PluginName::VolumeBinding => "not found".to_owned(),
            _ => return None,
        };
        Some(Unprepared { name, error })
    }
}

/// Why a plugin cannot score without PreScore, if it cannot (`getPreScoreState`,
/// `RunScorePlugins`).
pub fn score_error(name: PluginName) -> Option<String> {
    let verb = match name {
        PluginName::TaintToleration | PluginName::InterPodAffinity => "failed to read",
        PluginName::PodTopologySpread => "error reading",
        _ => return None,
    };
    let name = name.name();
    Some(format!(
        "running Score plugins: plugin \"{name}\" failed with: {verb} \"PreScore{name}\" from \
         cycleState: not found"
    ))
}

impl Plugin for Unprepared {
    fn name(&self) -> PluginName {
        self.name
    }

    fn points(&self) -> Points {
        Points::FILTER
    }

    fn by_node(&self, _pod: &PodEntry) -> bool {
        true
    }

    fn by_row(&self, _pod: &PodEntry) -> bool {
        true
    }

    fn filter(
        &self,
        _cx: &Cx<'_>,
        _state: &CycleState,
        _pod: &PodEntry,
        _node: &NodeInfo,
    ) -> Result<(), Status> {
        Err(Status::new(Code::Error, self.error.clone()))
    }
}
