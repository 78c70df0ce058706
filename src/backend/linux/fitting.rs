//! How much of the host a core of the scenario is.

use crate::scenario::Scenario;

/// The part of a core that lets all nodes of a scenario be as busy as they can at once.
pub fn fitting(scenario: &Scenario) -> u32 {
    let pools = scenario.cluster.pools.iter();
    let milli: i64 = pools
        .map(|p| p.capacity.cpu_milli * i64::from(p.count))
        .sum();
    let host = std::thread::available_parallelism().map_or(1, |n| n.get());
    let host = i64::try_from(host).unwrap_or(1) * 1000;
    let part = host.saturating_mul(1000) / milli.max(1);
    u32::try_from(part.clamp(1, 1000)).unwrap_or(1000)
}

/// In words.
pub fn percent(permille: u32) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}
