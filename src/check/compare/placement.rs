//! The scheduler alone, on the pods of a trace: arrival, placement, end; no kubelets, no traffic.
//!
//! Pods arrive as [`super::arrivals`] has them and are placed by the framework of `sched`, cycle by
//! cycle as the real scheduler does it, with these differences, which make a trial a matter of a
//! second: a cycle and a binding take no time; a pod that did not fit is tried again whenever room
//! appears (a pod ends, a node returns) without back-off; a victim of preemption goes at once and
//! arrives again; a pod runs for its time from the moment it is placed. Back-off is left out because
//! it ends (after ten seconds at most, or at once when nobody else waits) long before pods of a trace
//! do: it would move placements by seconds, for every policy alike, and not where pods go. Whoever
//! wants it runs the whole cluster.
//!
//! Nodes may lose power: pods on them stop. The node is tainted after the node monitor's grace
//! period, its pods are given up after the default toleration and arrive again, without the rate
//! limit of the real controller; when power returns before that they start over.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::arrivals::{Arrival, Chance, arrivals};
use super::meter::Meter;
use super::prepare::Prepared;
use crate::api::Uid;

use crate::engine::{Draws, Queue, Time};
use crate::scenario::{Arrivals, Ties};
use crate::sched::cache::{Cache, NodeIx};
use crate::sched::config::Point;
use crate::sched::cycle::{self, Search};
use crate::sched::equal_pods::EqualPods;
use crate::sched::framework::Framework;
use crate::sched::plugin::{Cx, CycleState, PluginName, PodEntry};
use crate::sched::plugins::gpu::fgd::Fragmentation;
use crate::sched::preempt::Preemptor;
use crate::sched::queue::Nominator;
use crate::store::View;

/// Points of a series over time.
const POINTS: u32 = 240;

/// Every node's place in a drawn order: a permutation of the nodes by name
/// (`simulator.go :: syncClusterResourceList` of the published simulator).
fn node_ranks(cache: &Cache, chance: &mut Chance<'_>) -> Vec<u32> {
    let mut by_name: Vec<NodeIx> = (0..cache.places()).collect();
    by_name.sort_by(|a, b| cache.node(*a).name.cmp(&cache.node(*b).name));
    let drawn = chance.ranks(by_name.len());
    let mut ranks = vec![0; by_name.len()];
    for (ix, rank) in by_name.into_iter().zip(drawn) {
        ranks[ix] = rank;
    }
    ranks
}

/// One decision: the pod, and its node unless none fits.
pub type Decision = (u32, Option<NodeIx>);

/// What a trial did.
#[derive(Debug)]
pub struct Placed {
    /// All decisions in order: placements, and the first failure of each pod.
    pub decisions: Vec<Decision>,
    /// When each was made.
    pub times: Vec<Time>,
    /// Waiting time of every pod that arrived, in seconds; of those never placed, until the end.
    pub waits: Vec<f64>,
    /// Pods that were never placed.
    pub unplaced: u64,
    /// Pods that were displaced by others.
    pub preemptions: u64,
    /// Pods that were given up with their node.
    pub evictions: u64,
    /// The measures.
    pub meter: Meter,
}

/// What is due.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// A pod arrives.
    Arrive(u32),
    /// A pod ends, unless it was started again since.
    End(u32, u32),
    /// A fault begins.
    Fail(u32),
    /// Its nodes are found dead.
    Taint(u32),
    /// Their pods are given up.
    GiveUp(u32),
    /// Power returns.
    Return(u32),
    /// A point of the series.
    Note,
}

/// A pod of the run.
#[derive(Debug)]
pub(super) struct Live {
    /// As it arrived.
    pub arrival: Arrival,
    node: Option<NodeIx>,
    /// Counts starts, so that an end of before is known.
    pub start: u32,
    attempts: u32,
    waited: Option<Duration>,
    since: Time,
}

/// A run in progress.
#[derive(Debug)]
pub struct Placement<'p> {
    pub(super) prepared: &'p Prepared<'p>,
    pub(super) draws: Draws,
    pub(super) cache: Cache,
    pub(super) framework: Framework,
    memo: EqualPods,
    use_memo: bool,
    view: View,
    nominator: Nominator,
    pub(super) pods: Vec<Live>,
    pub(super) queue: Queue<Event>,
    pending: BTreeSet<(Reverse<i32>, u32)>,
    pub(super) down: BTreeSet<NodeIx>,
    pub(super) failures: Vec<Vec<NodeIx>>,
    next_start: usize,
    /// Places of nodes in the order that breaks ties; empty when ties are drawn.
    rank: Vec<u32>,
    /// Stop before this decision.
    stop_at: Option<usize>,
    pub(super) placed: Placed,
}

impl<'p> Placement<'p> {
    /// A run before its beginning.
    pub fn new(prepared: &'p Prepared<'p>, seed: u64) -> Placement<'p> {
        let draws = Draws::new(seed);
        let mut cache = Cache::default();
        for node in &prepared.nodes {
            cache.set_node(node);
        }
        cache.refresh();
        let mut profile = prepared.profile.clone();
        profile.args.policies.seed = seed;
        let framework = Framework::new(&profile, &mut cache);
        let fragmentation = Fragmentation::new(&prepared.typical);
        let nodes = (0..cache.places()).map(|ix| cache.node(ix));
        let meter = Meter::new(nodes, fragmentation);
        let plan = prepared.plan;
        let mut chance = Chance::new(plan.arrivals, seed, &draws);
        let gpus = meter.gpus();
        let arrivals = arrivals(&plan.trace, plan.arrivals, gpus, &draws, &mut chance);
        let pods = arrivals.into_iter().enumerate().map(|(at, mut arrival)| {
            Arc::make_mut(&mut arrival.pod).meta.uid = Uid(at as u64 + 1);
            Live {
                since: arrival.at,
                arrival,
                node: None,
                start: 0,
                attempts: 0,
                waited: None,
            }
        });
        let rank = match plan.ties {
            Ties::Drawn => Vec::new(),
            Ties::Ordered => node_ranks(&cache, &mut chance),
        };
        Placement {
            prepared,
            draws,
            framework,
            cache,
            memo: EqualPods::default(),
            use_memo: true,
            view: View::default(),
            nominator: Nominator::default(),
            pods: pods.collect(),
            queue: Queue::new(),
            pending: BTreeSet::new(),
            down: BTreeSet::new(),
            failures: Vec::new(),
            next_start: 0,
            rank,
            stop_at: None,
            placed: Placed {
                decisions: Vec::new(),
                times: Vec::new(),
                waits: Vec::new(),
                unplaced: 0,
                preemptions: 0,
                evictions: 0,
                meter,
            },
        }
    }

    /// Stops before the decision of this number.
    #[must_use]
    pub fn until(mut self, decision: usize) -> Self {
        self.stop_at = Some(decision);
        self
    }

    /// Asks every plugin about every node in every cycle, for tests.
    #[must_use]
    pub fn without_memo(mut self) -> Self {
        self.use_memo = false;
        self
    }

    /// Runs to the end (or to where it was to stop).
    pub fn run(&mut self) {
        match self.prepared.plan.arrivals {
            Arrivals::Load { .. } => self.run_load(),
            Arrivals::Recorded { .. } => self.run_recorded(),
        }
    }

    /// What it did.
    pub fn finish(mut self) -> Placed {
        let end = self.queue.now();
        self.placed.meter.advance(end);
        for pod in self.pods.iter().filter(|pod| pod.arrival.at <= end) {
            let waited = pod.waited.unwrap_or_else(|| end.since(pod.arrival.at));
            self.placed.waits.push(waited.as_secs_f64());
            self.placed.unplaced += u64::from(pod.waited.is_none());
        }
        self.placed
    }

    fn stopped(&self) -> bool {
        self.stop_at
            .is_some_and(|at| self.placed.decisions.len() >= at)
    }

    fn run_load(&mut self) {
        let gpus = self.placed.meter.gpus().max(1) as f64;
        let mut arrived = 0;
        let mut noted = -1;
        for pod in 0..self.pods.len() as u32 {
            if self.stopped() {
                return;
            }
            self.attempt(pod, true);
            arrived += self.pods[pod as usize].arrival.gpu;
            let percent = (arrived as f64 / gpus * 100.0) as i64;
            if percent > noted {
                noted = percent;
                self.placed.meter.note(arrived as f64 / gpus);
            }
        }
        self.placed.meter.note(arrived as f64 / gpus);
    }

    fn run_recorded(&mut self) {
        for pod in 0..self.pods.len() as u32 {
            let at = self.pods[pod as usize].arrival.at;
            self.queue.at(at, Event::Arrive(pod));
        }
        let plan = self.prepared.plan;
        for (number, (at, _)) in plan.faults.iter().enumerate() {
            self.failures.push(Vec::new());
            self.queue.at(Time::ZERO + *at, Event::Fail(number as u32));
        }
        let length = self.prepared.length;
        for point in 0..=POINTS {
            let at = Time::ZERO + length * point / POINTS;
            self.queue.at(at, Event::Note);
        }
        let end = plan.duration.map_or(Time::MAX, |d| Time::ZERO + d);
        while let Some((now, _, event)) = self.queue.pop_due(end) {
            self.placed.meter.advance(now);
            let freed = self.dispatch(event, now);
            // Room counts once everything of this instant has happened.
            if freed && !self.pending.is_empty() {
                self.retry();
            }
            if self.stopped() {
                return;
            }
        }
        if let Some(duration) = plan.duration {
            self.queue.advance_to(Time::ZERO + duration);
        }
    }

    /// Whether there is room that was not there before.
    fn dispatch(&mut self, event: Event, now: Time) -> bool {
        match event {
            Event::Arrive(pod) => {
                self.attempt(pod, true);
                false
            }
            Event::End(pod, start) if self.pods[pod as usize].start == start => {
                self.leave(pod);
                true
            }
            Event::End(..) => false,
            Event::Fail(number) => {
                self.fail(number, now);
                false
            }
            Event::Taint(number) => {
                self.set_taint(number, true);
                false
            }
            Event::GiveUp(number) => self.give_up(number),
            Event::Return(number) => {
                self.power_returns(number);
                true
            }
            Event::Note => {
                self.placed.meter.note(now.as_secs_f64());
                false
            }
        }
    }

    pub(super) fn now(&self) -> Time {
        self.queue.now()
    }

    pub(super) fn changed(&mut self, node: NodeIx) {
        self.placed.meter.update(node, self.cache.node(node));
    }

    /// Takes a pod off its node.
    pub(super) fn leave(&mut self, pod: u32) {
        let live = &mut self.pods[pod as usize];
        live.start += 1;
        if let Some(node) = live.node.take() {
            self.cache.remove_pod(pod);
            self.changed(node);
        }
    }

    /// Tries every waiting pod once, those of higher priority first.
    fn retry(&mut self) {
        let mut hopeless: Vec<usize> = Vec::new();
        let waiting: Vec<u32> = self.pending.iter().map(|(_, pod)| *pod).collect();
        for pod in waiting {
            let spec = Arc::as_ptr(&self.pods[pod as usize].arrival.pod.spec) as usize;
            // What a pod of the same spec could not find, this one cannot find either, unless
            // something else than the spec decides.
            if hopeless.contains(&spec) {
                continue;
            }
            if self.stopped() {
                return;
            }
            if !self.attempt(pod, false) && self.same_specs_fare_alike(pod) {
                hopeless.push(spec);
            }
        }
    }

    fn same_specs_fare_alike(&mut self, pod: u32) -> bool {
        let row = self.pods[pod as usize].arrival.pod.clone();
        let entry = self.cache.entry(pod, &row);
        let mut state = CycleState::default();
        let cx = Cx {
            view: &self.view,
            cache: &self.cache,
        };
        self.framework.pre_filter(&cx, &mut state, &entry);
        EqualPods::suits(&self.framework, &state, &entry)
    }

    /// One cycle; whether the pod was placed.
    fn attempt(&mut self, pod: u32, first: bool) -> bool {
        let row = self.pods[pod as usize].arrival.pod.clone();
        let entry = self.cache.entry(pod, &row);
        let mut found = self.find(&entry);
        if found.is_none() && self.prepared.preempts && self.preempt(&entry) {
            found = self.find(&entry);
        }
        self.pods[pod as usize].attempts += 1;
        let priority = Reverse(row.spec.priority);
        let Some(node) = found else {
            if first {
                self.decided(pod, None);
                self.pending.insert((priority, pod));
            }
            return false;
        };
        self.decided(pod, Some(node));
        self.pending.remove(&(priority, pod));
        self.place(pod, entry, node);
        true
    }

    fn decided(&mut self, pod: u32, node: Option<NodeIx>) {
        self.placed.decisions.push((pod, node));
        self.placed.times.push(self.queue.now());
    }

    fn place(&mut self, pod: u32, mut entry: PodEntry, node: NodeIx) {
        entry.devices = self.framework.devices(&entry, self.cache.node(node));
        let name = self.cache.node(node).name.clone();
        self.cache.add_pod(entry, &name, false);
        self.changed(node);
        let now = self.now();
        let live = &mut self.pods[pod as usize];
        live.node = Some(node);
        live.start += 1;
        live.waited.get_or_insert(now.since(live.since));
        if let (Some(runs), false) = (live.arrival.runs, self.down.contains(&node)) {
            self.queue.at(now + runs, Event::End(pod, live.start));
        }
    }

    /// The node that a cycle chooses.
    fn find(&mut self, entry: &PodEntry) -> Option<NodeIx> {
        let cx = Cx {
            view: &self.view,
            cache: &self.cache,
        };
        let mut state = CycleState::default();
        let framework = &self.framework;
        let search = Search {
            percentage: self.prepared.percentage,
            start: self.next_start,
            nominator: &self.nominator,
            thorough: false,
            choice: None,
        };
        let memo = self.use_memo.then_some(&mut self.memo);
        let (found, memo) = cycle::find_nodes(framework, &cx, &mut state, entry, search, |state| {
            memo?.class((0, framework), &cx, state, entry)
        });
        self.next_start = found.next_start;
        let nodes = found.feasible;
        if nodes.is_empty() || found.error.is_some() {
            return None;
        }
        let totals = match memo {
            Some(memo) => memo.totals(framework, &cx, &mut state, entry, &nodes),
            None => {
                let scores = framework.score(&cx, &mut state, entry, &nodes);
                cycle::totals(&scores, nodes.len())
            }
        };
        if !self.rank.is_empty() {
            let most = totals.iter().max();
            let best = nodes.iter().zip(&totals).filter(|(_, t)| Some(*t) == most);
            let first = best.min_by_key(|(node, _)| self.rank[**node]);
            return first.map(|(node, _)| *node);
        }
        let attempts = self.pods[entry.id as usize].attempts;
        Some(nodes[cycle::select(&self.draws, entry, attempts, &totals)])
    }

    /// Makes room by displacing pods of lower priority; whether any went.
    fn preempt(&mut self, entry: &PodEntry) -> bool {
        if !(self.framework).runs(PluginName::DefaultPreemption, Point::PostFilter) {
            return false;
        }
        let cx = Cx {
            view: &self.view,
            cache: &self.cache,
        };
        let mut state = CycleState::default();
        let search = Search {
            percentage: self.prepared.percentage,
            start: 0,
            nominator: &self.nominator,
            thorough: false,
            choice: None,
        };
        let (found, _) =
            cycle::find_nodes(&self.framework, &cx, &mut state, entry, search, |_| None);
        let preemptor = Preemptor {
            framework: &self.framework,
            cx: &cx,
            state: &state,
            pod: entry,
            nominator: &self.nominator,
            args: self.prepared.profile.args.preemption,
            now: self.queue.now(),
            draws: &self.draws,
        };
        let victims: Vec<u32> = (preemptor.post_filter(&found.diagnosis, None).victims.iter())
            .map(|victim| victim.id)
            .collect();
        for victim in &victims {
            self.leave(*victim);
            self.wait_again(*victim);
            self.placed.preemptions += 1;
        }
        !victims.is_empty()
    }

    pub(super) fn wait_again(&mut self, pod: u32) {
        let priority = self.pods[pod as usize].arrival.pod.spec.priority;
        self.pending.insert((Reverse(priority), pod));
    }

    /// Name of a pod, for reports.
    pub fn pod_name(&self, pod: u32) -> String {
        self.pods[pod as usize].arrival.pod.meta.full_name()
    }

    /// The entry of a pod, to explain a decision about it.
    pub fn entry(&mut self, pod: u32) -> PodEntry {
        let row = self.pods[pod as usize].arrival.pod.clone();
        self.cache.entry(pod, &row)
    }

    /// What plugins may read.
    pub fn cx(&self) -> Cx<'_> {
        Cx {
            view: &self.view,
            cache: &self.cache,
        }
    }

    /// Where the next search starts.
    pub fn start(&self) -> usize {
        self.next_start
    }

    /// Promises of room: there are none.
    pub fn nominator(&self) -> &Nominator {
        &self.nominator
    }
}
