//! CPU time: processor sharing, CFS quotas, and contention for the cores of a node.
//!
//! A *group* is a container's cgroup. Its threads share what the group gets in equal parts, at most
//! one core each; work is measured in nanoseconds of one core. Three rules decide what it gets:
//!
//! - **Threads.** `n` threads of a group that nothing holds back run at `n` cores.
//! - **Quota** (`cpu.cfs_quota_us`, `cpu.max`). In every period of 100 ms a group may use its limit
//!   times 100 ms; when that is spent, all its threads stand still until the next period. A period
//!   begins with the first work after idling, so a burst meets the same phase every time. Unused
//!   quota is not carried over. 50 ms of work at a limit of 200m take 210 ms; 8 threads with 50 ms
//!   each at a limit of 2 take 125 ms.
//! - **Cores.** When the running threads of a node want more than its cores, they are shared by the
//!   groups' weights (their requests, `cpu.weight`), no group getting more than it can use:
//!   weighted max-min fairness, recomputed at every change while the node is short of cores.
//!
//! Within a group time is *virtual*: it advances as fast as one thread runs, a piece of work ends
//! when virtual time reaches its start plus its length, and nothing has to be touched when the rate
//! changes. Everything is integers: rates in 1/65536 of a core, work in 1/65536 ns.
//!
//! A *hog* is a thread of a group that never ends ([`Cpu::hog`]): it takes its part and is never
//! done. Groups beside the pods ([`Cpu::add_beside`]) share a node's cores with all pods together, as a
//! system's own slice does with `kubepods`.
//!
//! Approximated: a thread moves between cores without cost, quota is handed out without slices
//! (`sched_cfs_bandwidth_slice_us`), simultaneous multithreading does not exist, a group's demand
//! for cores while contended is its threads' and not bounded by its quota.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::slab::{Key, Slab};
use crate::engine::{Time, nanos};

/// The CFS period: 100 ms.
pub const PERIOD: Duration = Duration::from_millis(100);

const PERIOD_NS: u64 = 100_000_000;
/// Fractional bits of rates and of virtual time.
const SHIFT: u32 = 16;
/// One core.
const CORE: u64 = 1 << SHIFT;

/// A group must be looked at (again) at this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// When.
    pub at: Time,
    /// Which group, by its place.
    pub slot: u32,
    /// Wakes of older numbers are stale.
    pub number: u32,
}

#[derive(Clone, Debug)]
struct Group {
    node: u32,
    weight: u64,
    /// Quota of a period in 1/65536 ns of a core; none without a limit.
    quota: Option<u64>,
    /// It stands beside the pods of its node.
    beside: bool,
    /// (virtual end, order of arrival, whose work).
    work: BinaryHeap<Reverse<(u64, u32, u32)>>,
    /// Threads that never end.
    hogs: u64,
    /// Order numbers of arrivals.
    arrivals: u32,
    /// Virtual time, and when it was that.
    virtual_time: u64,
    at: Time,
    /// Of one thread.
    rate: u64,
    /// Quota used in this period, and its end; `Time::ZERO` when none is running.
    used: u64,
    period_end: Time,
    throttled: bool,
    frozen: bool,
    /// When the pending wake is due.
    armed: Time,
    /// CPU time used, in 1/65536 ns; time spent throttled, periods with throttling.
    total: u128,
    throttled_periods: u64,
    periods: u64,
    /// Place in the node's list of running groups.
    running_at: u32,
    /// Threads that the node counts for it.
    counted: u64,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// In 1/65536 cores.
    cores: u64,
    /// Groups that want cores now.
    running: Vec<Key>,
    /// Threads of these.
    threads: u64,
    /// Whether rates may be below one core.
    contended: bool,
}

/// CPU used by a group since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Core-time.
    pub cpu: Duration,
    /// CFS periods with work.
    pub periods: u64,
    /// Of these, how many were cut short by the quota.
    pub throttled: u64,
}

/// All nodes' cores and the groups that share them.
#[derive(Clone, Debug, Default)]
pub struct Cpu {
    nodes: Vec<Node>,
    groups: Slab<Group>,
    /// Number of the last wake for each place.
    numbers: Vec<u32>,
}

const NOWHERE: u32 = u32::MAX;

impl Cpu {
    /// Sets a node's cores, in thousandths.
    pub fn set_cores(&mut self, node: u32, milli: u64) {
        let at = node as usize;
        if self.nodes.len() <= at {
            self.nodes.resize(at + 1, Node::default());
        }
        self.nodes[at].cores = milli * CORE / 1000;
    }

    /// A new group on a node: its request (`weight_milli`, at least 2) and its limit in thousandths
    /// of a core.
    pub fn add(&mut self, node: u32, weight_milli: u64, limit_milli: Option<u64>) -> Key {
        self.add_group(node, weight_milli, limit_milli, false)
    }

    /// A new group beside all pods of a node, which weigh together as much as the node has cores.
    pub fn add_beside(&mut self, node: u32, weight_milli: u64) -> Key {
        self.add_group(node, weight_milli, None, true)
    }

    fn add_group(
        &mut self,
        node: u32,
        weight_milli: u64,
        limit_milli: Option<u64>,
        beside: bool,
    ) -> Key {
        if self.nodes.len() <= node as usize {
            // A node of unknown size is as large as anybody could want.
            self.set_cores(node, 1 << 30);
        }
        self.groups.insert(Group {
            node,
            weight: weight_milli.max(2),
            quota: limit_milli.map(|milli| (milli.max(1) * (PERIOD_NS / 1000)) << SHIFT),
            beside,
            work: BinaryHeap::new(),
            hogs: 0,
            arrivals: 0,
            virtual_time: 0,
            at: Time::ZERO,
            rate: CORE,
            used: 0,
            period_end: Time::ZERO,
            throttled: false,
            frozen: false,
            armed: Time::MAX,
            total: 0,
            throttled_periods: 0,
            periods: 0,
            running_at: NOWHERE,
            counted: 0,
        })
    }

    /// Takes a group away with all its work.
    pub fn remove(&mut self, group: Key, now: Time, wakes: &mut Vec<Wake>) {
        let Some(g) = self.groups.get_mut(group) else {
            return;
        };
        g.work.clear();
        g.hogs = 0;
        g.frozen = true;
        self.settle(group, now, wakes);
        self.groups.remove(group);
    }

    /// CPU used so far.
    pub fn usage(&mut self, group: Key, now: Time) -> Usage {
        let Some(g) = self.groups.get_mut(group) else {
            return Usage::default();
        };
        g.advance(now);
        Usage {
            cpu: Duration::from_nanos(u64::try_from(g.total >> SHIFT).unwrap_or(u64::MAX)),
            periods: g.periods,
            throttled: g.throttled_periods,
        }
    }

    /// Adds a thread's work; `owner` comes back when it is done.
    #[inline]
    pub fn run(
        &mut self,
        group: Key,
        work: Duration,
        owner: u32,
        now: Time,
        wakes: &mut Vec<Wake>,
    ) {
        let Some(g) = self.groups.get_mut(group) else {
            return;
        };
        g.advance(now);
        g.rebase();
        let nanos = nanos(work);
        let length = nanos.min(u64::MAX >> (SHIFT + 2)) << SHIFT;
        g.work
            .push(Reverse((g.virtual_time + length, g.arrivals, owner)));
        g.arrivals = g.arrivals.wrapping_add(1);
        self.settle(group, now, wakes);
    }

    /// Sets how many threads of a group compute without end.
    pub fn hog(&mut self, group: Key, threads: u64, now: Time, wakes: &mut Vec<Wake>) {
        if let Some(g) = self.groups.get_mut(group) {
            g.advance(now);
            g.hogs = threads;
            self.settle(group, now, wakes);
        }
    }

    /// Lets a group's time pass to `now`; `done` takes the owners of finished work, in the order of
    /// finishing. A stale wake does nothing.
    pub fn wake(&mut self, wake: Wake, now: Time, done: &mut Vec<u32>, wakes: &mut Vec<Wake>) {
        if self.numbers.get(wake.slot as usize) != Some(&wake.number) {
            return;
        }
        let Some(group) = self.groups.key_at(wake.slot) else {
            return;
        };
        let g = &mut self.groups[group];
        g.armed = Time::MAX;
        g.advance(now);
        while let Some(Reverse((end, _, owner))) = g.work.peek() {
            if *end > g.virtual_time {
                break;
            }
            done.push(*owner);
            g.work.pop();
        }
        self.settle(group, now, wakes);
    }

    /// Stops or continues a group's threads (a frozen cgroup).
    pub fn freeze(&mut self, group: Key, frozen: bool, now: Time, wakes: &mut Vec<Wake>) {
        if let Some(g) = self.groups.get_mut(group) {
            g.advance(now);
            g.frozen = frozen;
            self.settle(group, now, wakes);
        }
    }

    /// After a change of one group: who runs, at which rates, and when to look again.
    #[inline]
    fn settle(&mut self, group: Key, now: Time, wakes: &mut Vec<Wake>) {
        let g = &mut self.groups[group];
        g.advance(now);
        g.check_quota();
        let threads = g.running_threads();
        let node = &mut self.nodes[g.node as usize];
        let was_running = g.running_at != NOWHERE;
        if !was_running && threads > 0 {
            g.running_at = u32::try_from(node.running.len()).unwrap_or(NOWHERE);
            node.running.push(group);
        } else if was_running && threads == 0 {
            let at = g.running_at as usize;
            g.running_at = NOWHERE;
            node.running.swap_remove(at);
            if let Some(moved) = node.running.get(at).copied() {
                self.groups[moved].running_at = u32::try_from(at).unwrap_or(NOWHERE);
            }
        }
        let g = &mut self.groups[group];
        let node = &mut self.nodes[g.node as usize];
        node.threads = node.threads + threads - g.counted;
        g.counted = threads;
        if node.contended || node.threads * CORE > node.cores {
            let number = g.node;
            self.share(number, now, wakes);
            self.arm(group, now, wakes);
        } else {
            g.rate = CORE;
            self.arm(group, now, wakes);
        }
    }

    /// Weighted max-min shares of a node's cores among its running groups.
    fn share(&mut self, node: u32, now: Time, wakes: &mut Vec<Wake>) {
        let n = &self.nodes[node as usize];
        let contended = n.threads * CORE > n.cores;
        let (mut pods, mut beside) = (Vec::new(), Vec::new());
        for key in &n.running {
            let g = &self.groups[*key];
            let want = (g.weight, g.running_threads() * CORE, *key);
            if g.beside { &mut beside } else { &mut pods }.push(want);
        }
        let mut gets = Vec::new();
        let mut cores = n.cores;
        if !beside.is_empty() {
            // All pods together are one more of those that stand beside each other.
            let all = pods.iter().map(|(_, want, _)| want).sum();
            beside.push(((n.cores * 1000 / CORE).max(2), all, Key::NONE));
            fair_shares(cores, beside, |key, get| match key {
                Key::NONE => cores = get,
                key => gets.push((key, get)),
            });
        }
        fair_shares(cores, pods, |key, get| gets.push((key, get)));
        for (key, get) in gets {
            let g = &mut self.groups[key];
            let rate = match contended {
                true => (get / g.running_threads().max(1)).max(1),
                false => CORE,
            };
            if g.rate != rate {
                g.advance(now);
                g.rate = rate;
                self.arm(key, now, wakes);
            }
        }
        self.nodes[node as usize].contended = contended;
    }

    /// Makes sure that a wake is pending for when the group next changes by itself.
    #[inline]
    fn arm(&mut self, group: Key, now: Time, wakes: &mut Vec<Wake>) {
        let g = &mut self.groups[group];
        let Some(due) = g.next_change(now) else {
            return;
        };
        // A wake that comes too early is harmless: it finds nothing and arms the right one.
        if due < g.armed {
            g.armed = due;
            let slot = group.slot;
            if self.numbers.len() <= slot as usize {
                self.numbers.resize(slot as usize + 1, 0);
            }
            let number = &mut self.numbers[slot as usize];
            *number = number.wrapping_add(1);
            wakes.push(Wake {
                at: due,
                slot,
                number: *number,
            });
        }
    }
}

/// Weighted max-min shares of `cores` among (weight, want, whose).
fn fair_shares(cores: u64, wants: Vec<(u64, u64, Key)>, mut gets: impl FnMut(Key, u64)) {
    // By what a unit of weight must give to satisfy a group: the easily satisfied first.
    let level = |(weight, want, _): &(u64, u64, Key)| (want << 20) / weight;
    let mut wants = wants;
    wants.sort_by_key(level);
    let mut left = cores;
    let mut weights: u64 = wants.iter().map(|(weight, ..)| weight).sum();
    for (weight, want, key) in wants {
        let fair = u128::from(left) * u128::from(weight) / u128::from(weights.max(1));
        let get = want.min(u64::try_from(fair).unwrap_or(u64::MAX));
        left -= get;
        weights -= weight;
        gets(key, get);
    }
}

impl Group {
    /// Threads that want a core now.
    #[inline]
    fn running_threads(&self) -> u64 {
        match self.throttled || self.frozen {
            true => 0,
            false => self.work.len() as u64 + self.hogs,
        }
    }

    /// Whether it has nothing to do.
    #[inline]
    fn idles(&self) -> bool {
        self.work.is_empty() && self.hogs == 0
    }

    /// Brings virtual time and used quota to `now`.
    #[inline]
    fn advance(&mut self, now: Time) {
        if self.idles() && !self.throttled {
            self.at = now;
            if self.period_end <= now {
                self.period_end = Time::ZERO;
            }
            self.virtual_time = 0;
            return;
        }
        while self.at < now {
            let end = match self.quota {
                Some(_) if self.period_end > self.at => self.period_end.min(now),
                _ => now,
            };
            let span = end.since(self.at).as_nanos() as u64;
            let threads = self.running_threads();
            if threads > 0 {
                let step = span.saturating_mul(self.rate);
                // Nobody measures by it while nothing is to end.
                let ends = u64::from(!self.work.is_empty());
                self.virtual_time += step * ends;
                self.total += u128::from(step) * u128::from(threads);
                self.used = self.used.saturating_add(step.saturating_mul(threads));
            }
            self.at = end;
            if self.quota.is_some() && self.at == self.period_end {
                self.refill();
            }
        }
    }

    /// Keeps virtual time from reaching the end of its range (78 hours of one thread).
    #[inline]
    fn rebase(&mut self) {
        if self.virtual_time > 1 << 61 {
            let passed = self.virtual_time;
            let work = std::mem::take(&mut self.work).into_iter();
            self.work = work
                .map(|Reverse((end, n, owner))| Reverse((end.saturating_sub(passed), n, owner)))
                .collect();
            self.virtual_time = 0;
        }
    }

    fn refill(&mut self) {
        self.used = 0;
        self.throttled = false;
        self.period_end = match self.idles() {
            true => Time::ZERO,
            false => {
                self.periods += 1;
                self.period_end + PERIOD
            }
        };
    }

    /// Begins a period with the first work, and throttles when the quota is spent.
    #[inline]
    fn check_quota(&mut self) {
        let Some(quota) = self.quota else {
            return;
        };
        if self.idles() {
            return;
        }
        if self.period_end == Time::ZERO {
            self.period_end = self.at + PERIOD;
            self.used = 0;
            self.periods += 1;
        }
        if self.used >= quota && !self.throttled {
            self.throttled = true;
            self.throttled_periods += 1;
        }
    }

    /// When work ends, the quota is spent, or (if that matters) the period ends.
    #[inline]
    fn next_change(&self, now: Time) -> Option<Time> {
        if self.throttled {
            return Some(self.period_end);
        }
        if self.frozen {
            return None;
        }
        let ends = self.work.peek().map(|Reverse((end, ..))| {
            let left = end.saturating_sub(self.virtual_time);
            now + Duration::from_nanos(left.div_ceil(self.rate))
        });
        let mut due = ends.unwrap_or(Time::MAX);
        if let Some(quota) = self.quota {
            let speed = self.rate * self.running_threads();
            // Quota over the period, against what the threads would use in one.
            if speed * PERIOD_NS > quota {
                let left = quota.saturating_sub(self.used).div_ceil(speed);
                due = due
                    .min(now + Duration::from_nanos(left))
                    .min(self.period_end);
            }
        }
        (due < Time::MAX).then_some(due)
    }
}

#[cfg(test)]
mod tests;
