//! What there is of a process's making: descriptors, mounts, links, tables of filters, groups, children.
//!
//! A run may leave none of it behind. What is in a network namespace that nobody holds is gone, so
//! descriptors, mounts and children are also all that could hold one. Taken before and after each
//! test that makes something real.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::libc;
use rehearsal::backend::linux::layout::{Hierarchies, RunName};
use rehearsal::backend::linux::net::netlink::{Messages, Socket, attr};

/// Everything, so that a difference says what it is.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// What descriptors refer to, and how many to each; sockets and pipes without their numbers.
    descriptors: BTreeMap<String, usize>,
    mounts: BTreeSet<String>,
    /// Names of links of this network namespace.
    links: BTreeSet<String>,
    /// Tables of packet filters in it: family and name. None where nobody may look.
    tables: Option<BTreeSet<(u8, String)>>,
    /// The network namespace itself.
    network: PathBuf,
    groups: BTreeSet<PathBuf>,
    /// Processes: cells, and whatever else was started.
    children: usize,
}

/// Groups of runs of a process.
pub fn groups_of(pid: u32) -> BTreeSet<PathBuf> {
    let own = Hierarchies::detect().expect("/proc");
    let folders: Vec<PathBuf> = own.folders().cloned().collect();
    let mut found = BTreeSet::new();
    for folder in folders {
        for entry in std::fs::read_dir(&folder).expect("a group").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if RunName::parse(&name).is_some_and(|run| run.pid == pid) {
                found.insert(entry.path());
            }
        }
    }
    found
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).expect("/proc")
}

fn descriptors() -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir("/proc/self/fd").expect("/proc").flatten() {
        let Ok(target) = std::fs::read_link(entry.path()) else {
            continue;
        };
        let target = target.to_string_lossy().into_owned();
        let kind = match target.split_once(":[") {
            Some((kind @ ("socket" | "pipe"), _)) => kind.to_owned(),
            _ => target,
        };
        *found.entry(kind).or_default() += 1;
    }
    found
}

/// `NFT_MSG_GETTABLE`, all of them.
fn tables() -> Option<BTreeSet<(u8, String)>> {
    const SUBSYSTEM: u16 = 10;
    const GET_TABLE: u16 = 1;
    const NAME: u16 = 1;
    let socket = Socket::netfilter().ok()?;
    let mut question = Messages::default();
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    question.push(SUBSYSTEM << 8 | GET_TABLE, flags, &[0; 4], |_| {});
    let answers = socket.ask(&question).ok()?;
    let named = answers.iter().filter_map(|answer| {
        let name = attr(answer.body.get(4..)?, NAME)?;
        let name = String::from_utf8_lossy(name);
        Some((answer.body[0], name.trim_end_matches('\0').to_owned()))
    });
    Some(named.collect())
}

impl Inventory {
    /// Of this process, now.
    pub fn take() -> Inventory {
        let mut children = 0;
        for task in std::fs::read_dir("/proc/self/task")
            .expect("/proc")
            .flatten()
        {
            let list = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            children += list.split_whitespace().count();
        }
        let links = read("/proc/thread-self/net/dev");
        let links = links
            .lines()
            .skip(2)
            .filter_map(|line| line.split_once(':'));
        Inventory {
            descriptors: descriptors(),
            mounts: read("/proc/self/mountinfo")
                .lines()
                .map(str::to_owned)
                .collect(),
            links: links.map(|(name, _)| name.trim().to_owned()).collect(),
            tables: tables(),
            network: std::fs::read_link("/proc/thread-self/ns/net").expect("/proc"),
            groups: groups_of(std::process::id()),
            children,
        }
    }

    /// What is there now and was not, or was there and is not. Of descriptors and children only what
    /// is there: other tests of the process come to their end meanwhile.
    fn changes(&self, now: &Inventory) -> Vec<String> {
        let mut changes = Vec::new();
        for (kind, count) in &now.descriptors {
            let before = self.descriptors.get(kind).copied().unwrap_or(0);
            if *count > before {
                changes.push(format!("{count} descriptors of {kind}, not {before}"));
            }
        }
        if now.children > self.children {
            changes.push(format!("{} children, not {}", now.children, self.children));
        }
        if now.network != self.network {
            changes.push(format!("in {:?}, not {:?}", now.network, self.network));
        }
        let mut differ = |what: &str, before: Vec<String>, after: Vec<String>| {
            let came = after.iter().filter(|one| !before.contains(one));
            changes.extend(came.map(|one| format!("a new {what}: {one}")));
            let went = before.iter().filter(|one| !after.contains(one));
            changes.extend(went.map(|one| format!("a {what} is gone: {one}")));
        };
        let texts = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>();
        differ("mount", texts(&self.mounts), texts(&now.mounts));
        differ("link", texts(&self.links), texts(&now.links));
        let tables = |of: &Inventory| {
            of.tables
                .iter()
                .flatten()
                .map(|t| format!("{t:?}"))
                .collect()
        };
        differ("table of filters", tables(self), tables(now));
        let groups = |of: &Inventory| of.groups.iter().map(|g| format!("{g:?}")).collect();
        differ("group", groups(self), groups(now));
        changes
    }

    /// Asserts that everything is as it was, after at most two seconds.
    pub fn is_back(&self) {
        let begun = Instant::now();
        loop {
            let changes = self.changes(&Inventory::take());
            if changes.is_empty() {
                return;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(2),
                "left behind: {changes:#?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
