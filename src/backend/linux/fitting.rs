//! How much of the host a scenario's nodes are.

use super::layout::Hierarchies;
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

/// Processes without which no run gets anywhere: the run's own, and some for containers.
const LEAST_PROCESSES: u64 = 24;
/// Bytes without which none does.
const LEAST_MEMORY: u64 = 64 << 20;

/// Why no run gets anywhere in the groups of this process, and what to do.
///
/// # Errors
/// It does not.
pub fn least(own: &Hierarchies) -> Result<(), String> {
    if let Some((left, group)) = own.places().filter(|(left, _)| *left < LEAST_PROCESSES) {
        return Err(format!(
            "a real run needs room for {LEAST_PROCESSES} processes and one for each container, and \
             {} leaves room for {left}: raise its pids.max, or run in another group",
            group.display()
        ));
    }
    match own.room().filter(|room| *room < LEAST_MEMORY) {
        Some(room) => Err(format!(
            "a real run needs {} MiB of memory and what its containers use, and {} MiB are left \
             here: free some, raise the limit of this program's cgroup, or use --backend sim",
            LEAST_MEMORY >> 20,
            room >> 20
        )),
        None => Ok(()),
    }
}

/// Why the run can only get worse: its group has no room for another process, however often it is
/// tried again.
pub fn full(groups: &Hierarchies) -> Option<String> {
    // Limits of the run's own groups are the scenario's.
    let above = groups.above();
    let (_, group) = above.places().filter(|(left, _)| *left < 2)?;
    Some(format!(
        "no container can be started any more: all processes that pids.max of {} allows are there; \
         raise it, or run fewer pods",
        group.display()
    ))
}

/// In words.
pub fn percent(permille: u32) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

/// What is said where a core of a node is this part of one of the host's.
pub fn short_of_cpu(permille: u32) -> Option<String> {
    (permille < 1000).then(|| {
        format!(
            "the host is smaller than the scenario's nodes: a core of a node is {} of one of the \
             host's",
            percent(permille)
        )
    })
}

/// What is said where the host has less memory than the nodes of a scenario.
pub fn short_of_memory(scenario: &Scenario, groups: &Hierarchies) -> Option<String> {
    let pools = scenario.cluster.pools.iter();
    let nodes: i64 = pools
        .map(|pool| pool.capacity.memory.saturating_mul(i64::from(pool.count)))
        .fold(0, i64::saturating_add);
    let nodes = u64::try_from(nodes).ok()?;
    let room = groups.room()?;
    let mib = |bytes: u64| bytes >> 20;
    (room < nodes).then(|| {
        format!(
            "{} MiB of memory are left here for nodes of {} MiB together: what fits on its node \
             may be killed all the same; free some, or make the nodes smaller",
            mib(room),
            mib(nodes)
        )
    })
}
