//! kube-proxy on every node: which revision are its rules of?
//!
//! A proxy hears of each change of a Service or EndpointSlice after its watch's lag, and programs
//! everything heard so far in one sync; between the end of one sync and the start of the next at
//! least `minSyncPeriod` passes (`pkg/proxy/runner :: BoundedFrequencyRunner`). So the rules at an
//! instant are a function of the times of the changes and of when the node could hear the API
//! server. They are computed when somebody asks, and nothing is scheduled: a proxy that nobody
//! connects through costs nothing, and asking often or rarely gives the same answers.
//!
//! A proxy that cannot reach the API server keeps the rules that it has, and still programs what it
//! heard before. The periodic resync (`syncPeriod`) repeats what is programmed and is not modelled.

use std::time::Duration;

use super::topology::Place;
use crate::engine::Dist;
use crate::engine::Time;
use crate::engine::draws::{Draws, Purpose, entity_key};

const WATCH_LAG: Purpose = Purpose::new("net/proxy-watch-lag");

/// How kube-proxies behave.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyConfig {
    /// `--iptables-min-sync-period`, `--nftables-min-sync-period`: 1 s.
    pub min_sync: Duration,
    /// From the commit of a change to a proxy having heard of it; drawn once for each node.
    pub watch_lag: Dist,
    /// How long one sync takes: about 15 ms for an nftables transaction, 50 ms for
    /// iptables-restore of a changed part.
    pub sync_time: Duration,
    /// From the moment the API server can be reached again to the first change heard (reconnect
    /// and relist).
    pub reconnect: Duration,
}

impl ProxyConfig {
    /// `--proxy-mode=nftables`.
    pub fn nftables() -> Self {
        ProxyConfig {
            min_sync: Duration::from_secs(1),
            watch_lag: Dist::LogNormal {
                p50: Duration::from_millis(20),
                p99: Duration::from_millis(100),
            },
            sync_time: Duration::from_millis(15),
            reconnect: Duration::from_secs(1),
        }
    }

    /// `--proxy-mode=iptables`.
    pub fn iptables() -> Self {
        ProxyConfig {
            sync_time: Duration::from_millis(50),
            ..ProxyConfig::nftables()
        }
    }
}

impl Default for ProxyConfig {
    fn default() -> Self {
        ProxyConfig::nftables()
    }
}

/// A change that proxies hear of.
#[derive(Clone, Copy, Debug)]
struct Entry {
    time: Time,
    revision: u64,
}

#[derive(Clone, Debug)]
struct Proxy {
    min_sync: Duration,
    sync_time: Duration,
    lag: Duration,
    /// Position in the log, counted from the run's beginning, of the first change not programmed.
    next: u64,
    /// While cut off: the position of the first change that it has not heard of.
    heard: Option<u64>,
    /// Nothing is heard before this.
    hears_from: Time,
    /// When the last sync ended (or will end).
    last_end: Time,
    synced: bool,
    /// The revision of the last sync, and of the one before, in force until `last_end`.
    programmed: u64,
    previous: u64,
    /// Whether its syncs are kept, and which there were.
    traced: bool,
    syncs: Vec<(Time, u64)>,
}

/// All proxies of the cluster, by place; the last one, without a place, is the DNS server's watch.
#[derive(Clone, Debug)]
pub struct Proxies {
    config: ProxyConfig,
    draws: Draws,
    log: Vec<Entry>,
    /// How many entries were dropped from the front of the log.
    floor: u64,
    dns: Proxy,
    proxies: Vec<Option<Proxy>>,
    /// Places that are cut off or were until `Time`, with the revision they stand at.
    stuck: Vec<(Place, u64, Time)>,
    /// What the first places have programmed: where, since when, up to which revision.
    trace: Vec<(Place, Time, u64)>,
}

/// So many places are traced: all of a cluster that somebody looks at closely.
const TRACED: usize = 66;

/// So many syncs of a traced place are kept, from the beginning.
const SYNCS: usize = 1024;

/// Settle every proxy and shorten the log when it has this many entries.
const LOG_LIMIT: usize = 1 << 16;

impl Proxies {
    /// No proxies yet.
    pub fn new(config: ProxyConfig, draws: Draws) -> Self {
        let dns = Proxy::new(Duration::ZERO, Duration::ZERO, Duration::from_millis(20), 0);
        Proxies {
            config,
            draws,
            log: Vec::new(),
            floor: 0,
            dns,
            proxies: Vec::new(),
            stuck: Vec::new(),
            trace: Vec::new(),
        }
    }

    /// Notes that the proxy of a place, which somebody else runs, has programmed everything up to a
    /// revision.
    pub fn told(&mut self, place: Place, at: Time, revision: u64) {
        self.trace.push((place, at, revision));
    }

    /// What was programmed by `end`, in the first places: where, since when, up to which revision.
    pub fn syncs(&mut self, end: Time) -> Vec<(Place, Time, u64)> {
        if !self.trace.is_empty() {
            return self.trace.clone();
        }
        let mut found = Vec::new();
        for (number, proxy) in (0u32..).zip(&mut self.proxies).take(TRACED) {
            let Some(proxy) = proxy else { continue };
            proxy.revision(&self.log, self.floor, end);
            let syncs = proxy.syncs.iter().filter(|(at, _)| *at <= end);
            found.extend(syncs.map(|(at, revision)| (Place(number), *at, *revision)));
        }
        found
    }

    /// Starts the proxy of a node, if it has none.
    pub fn add(&mut self, place: Place, name: &str) {
        if self.proxies.len() <= place.index() {
            self.proxies.resize(place.index() + 1, None);
        }
        let slot = &mut self.proxies[place.index()];
        if slot.is_none() {
            let unit = self.draws.unit(WATCH_LAG, entity_key(&[name]), 0);
            let lag = self.config.watch_lag.sample(unit);
            let config = &self.config;
            *slot = Some(Proxy {
                traced: place.index() < TRACED,
                ..Proxy::new(config.min_sync, config.sync_time, lag, 0)
            });
        }
    }

    /// Appends a change that proxies hear of.
    pub fn changed(&mut self, revision: u64, time: Time) {
        self.log.push(Entry { time, revision });
        if self.log.len() >= LOG_LIMIT {
            self.shorten(time);
        }
    }

    /// The revision that the rules of `place` are of; 0 without a proxy.
    #[inline]
    pub fn revision(&mut self, place: Place, now: Time) -> u64 {
        match self.proxies.get_mut(place.index()) {
            Some(Some(proxy)) => proxy.revision(&self.log, self.floor, now),
            _ => 0,
        }
    }

    /// The revision that the cluster's DNS server answers from.
    pub fn dns_revision(&mut self, now: Time) -> u64 {
        self.dns.revision(&self.log, self.floor, now)
    }

    /// The API server can no longer be reached from `place`, or its proxy was stopped.
    pub fn cut(&mut self, place: Place, now: Time) {
        let Some(Some(proxy)) = self.proxies.get_mut(place.index()) else {
            return;
        };
        if proxy.heard.is_some() {
            return;
        }
        let revision = proxy.revision(&self.log, self.floor, now);
        let heard = proxy.heard_by(&self.log, self.floor, now);
        proxy.heard = Some(heard);
        // What it has heard but not programmed yet is read as well.
        let coming = heard.checked_sub(self.floor + 1);
        let coming = coming.and_then(|i| self.log.get(usize::try_from(i).ok()?));
        self.stuck.push((place, revision, Time::MAX));
        if let Some(entry) = coming {
            self.stuck.push((place, entry.revision, Time::MAX));
        }
    }

    /// The API server can be reached from `place` again. After a reboot the rules are gone.
    pub fn heal(&mut self, place: Place, now: Time, rebooted: bool) {
        let reconnect = self.config.reconnect;
        let Some(Some(proxy)) = self.proxies.get_mut(place.index()) else {
            return;
        };
        proxy.revision(&self.log, self.floor, now);
        if proxy.heard.take().is_none() && !rebooted {
            return;
        }
        proxy.hears_from = now + reconnect;
        if rebooted {
            // Everything is programmed afresh by the first sync.
            proxy.next = 0;
            (proxy.programmed, proxy.previous) = (0, 0);
        }
        let until = proxy.hears_from + self.config.min_sync + self.config.sync_time;
        for entry in self.stuck.iter_mut().filter(|e| e.0 == place) {
            entry.2 = entry.2.min(until);
        }
    }

    /// Revisions that proxies stand at that are or were lately cut off, in rising order.
    pub fn stuck(&mut self, now: Time) -> Vec<u64> {
        self.stuck.retain(|(_, _, until)| *until >= now);
        let mut revisions: Vec<_> = self.stuck.iter().map(|s| s.1).collect();
        revisions.sort_unstable();
        revisions.dedup();
        revisions
    }

    /// Versions replaced before this are read by no proxy that hears the API server.
    pub fn horizon(&self, now: Time) -> Time {
        let slowest = self
            .proxies
            .iter()
            .flatten()
            .map(|p| p.lag)
            .max()
            .unwrap_or_default();
        // One sync may just have begun when a change is heard: lag, that sync, the pause, its own.
        let config = &self.config;
        let span = slowest + config.min_sync + 2 * config.sync_time + Duration::from_millis(100);
        Time::from_nanos(
            now.as_nanos()
                .saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(0)),
        )
    }

    /// Drops what every proxy has programmed.
    fn shorten(&mut self, now: Time) {
        let mut least = self.floor + self.log.len() as u64;
        for proxy in self.proxies.iter_mut().flatten().chain([&mut self.dns]) {
            proxy.revision(&self.log, self.floor, now);
            // The last change programmed is kept for proxies that must begin afresh.
            least = least.min(proxy.next.saturating_sub(1));
        }
        let drop = usize::try_from(least.saturating_sub(self.floor)).unwrap_or(0);
        self.log.drain(..drop.min(self.log.len()));
        self.floor = least.max(self.floor);
    }
}

impl Proxy {
    fn new(min_sync: Duration, sync_time: Duration, lag: Duration, next: u64) -> Self {
        Proxy {
            min_sync,
            sync_time,
            lag,
            next,
            heard: None,
            hears_from: Time::ZERO,
            last_end: Time::ZERO,
            synced: false,
            programmed: 0,
            previous: 0,
            traced: false,
            syncs: Vec::new(),
        }
    }

    /// When it hears of a change.
    fn arrival(&self, entry: &Entry) -> Time {
        (entry.time + self.lag).max(self.hears_from)
    }

    /// The position of the first change that it has not heard of by `now`.
    fn heard_by(&self, log: &[Entry], floor: u64, now: Time) -> u64 {
        floor + log.partition_point(|entry| self.arrival(entry) <= now) as u64
    }

    /// Runs all syncs that began by `now`; the revision in force at `now`.
    #[inline]
    fn revision(&mut self, log: &[Entry], floor: u64, now: Time) -> u64 {
        if self.next < floor + log.len() as u64 {
            self.catch_up(log, floor, now);
        }
        if now >= self.last_end {
            self.programmed
        } else {
            self.previous
        }
    }

    fn catch_up(&mut self, log: &[Entry], floor: u64, now: Time) {
        let end = floor + log.len() as u64;
        let limit = self.heard.unwrap_or(end).min(end);
        self.next = self.next.max(floor);
        while self.next < limit {
            let from = usize::try_from(self.next - floor).unwrap_or(usize::MAX);
            let to = usize::try_from(limit - floor).unwrap_or(usize::MAX);
            let coming = &log[from..to];
            let mut start = self.arrival(&coming[0]);
            if self.synced {
                start = start.max(self.last_end + self.min_sync);
            }
            if start > now {
                return;
            }
            let heard = coming.partition_point(|entry| self.arrival(entry) <= start);
            self.previous = self.programmed;
            self.programmed = coming[heard - 1].revision;
            self.last_end = start + self.sync_time;
            if self.traced && self.syncs.len() < SYNCS {
                self.syncs.push((self.last_end, self.programmed));
            }
            self.synced = true;
            self.next += heard as u64;
        }
    }
}

#[cfg(test)]
mod tests;
