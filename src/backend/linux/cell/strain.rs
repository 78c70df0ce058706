//! Loads that faults put on containers and nodes: processes of this program in their groups.
//!
//! A load is known by its number from before its first process exists, so that whatever happens in
//! between it can be ended. A process that computes does so for 10 ms and then pauses, for as much of
//! its time as is asked; one that keeps memory writes to every page and then sleeps. Where the kernel
//! ends that process for its memory, the rest of its container goes with it, as with
//! `memory.oom.group` of a kubelet's containers.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::libc;

use super::super::cgroup::{self, Group};
use super::super::protocol::{Limits, StrainSpec};
use super::super::sys::{self, Forked};
use super::super::workload::ballast::Ballast;
use super::{Cell, Source};
use crate::cluster::StrainTarget;
use crate::engine::nanos;
use crate::kubelet::runtime::ContainerId;

/// So long a process computes before it pauses.
const SLICE: Duration = Duration::from_millis(10);

/// A load in force.
pub struct Strain {
    on: StrainTarget,
    /// Its own group, beside the pods of a node.
    group: Option<Group>,
}

/// What one process does.
#[derive(Clone, Copy)]
enum Work {
    /// Computes for so many millionths of its time.
    Compute(u32),
    /// Keeps so many bytes.
    Keep(u64),
}

impl Cell {
    /// A load begins, or ends.
    pub(super) fn strain(&mut self, number: u32, spec: Option<StrainSpec>) {
        let Some(spec) = spec else {
            return self.relieve(number);
        };
        if let Err(error) = self.begin_strain(number, &spec) {
            self.problem(format!("load on {:?}: {error}", spec.on));
            self.relieve(number);
        }
    }

    fn begin_strain(&mut self, number: u32, spec: &StrainSpec) -> io::Result<()> {
        let none = || io::Error::from(io::ErrorKind::NotFound);
        let group = match &spec.on {
            StrainTarget::Container(_) => None,
            StrainTarget::Node(name) => {
                let node = self.nodes.get(name.as_str()).ok_or_else(none)?;
                // What a system's own services weigh.
                let limits = Limits {
                    shares: Some(1024),
                    ..Limits::default()
                };
                let name = format!("load-{number}");
                Some(Group::create(node.group.at.below(&name), &limits)?)
            }
        };
        let on = spec.on.clone();
        self.strains.insert(number, Strain { on, group });
        let busy = spec.percent.min(100) * spec.permille.min(1000) * 10;
        if busy > 0 {
            for _ in 0..spec.workers {
                self.start_work(number, Work::Compute(busy))?;
            }
        }
        if spec.memory > 0 {
            self.start_work(number, Work::Keep(spec.memory))?;
        }
        Ok(())
    }

    fn start_work(&mut self, number: u32, work: Work) -> io::Result<()> {
        let none = || io::Error::from(io::ErrorKind::NotFound);
        let strain = self.strains.get(&number).ok_or_else(none)?;
        let (group, born) = match (&strain.group, &strain.on) {
            (Some(group), _) => (group, group.v2()),
            (None, StrainTarget::Container(id)) => {
                (&self.container(*id)?.group, self.birthplace(*id))
            }
            (None, StrainTarget::Node(_)) => return Err(none()),
        };
        match sys::clone3(0, born)? {
            Forked::Child => become_work(work, group),
            Forked::Parent(pidfd, _) => self.add(Source::Strained(number, pidfd)).map(drop),
        }
    }

    /// A process of a load may have ended; whether it has.
    pub(super) fn strained(&mut self, token: u64) -> io::Result<()> {
        let Some(Source::Strained(number, pidfd)) = self.sources.get(&token) else {
            return Ok(());
        };
        let number = *number;
        if sys::reap(pidfd.as_fd(), false)?.is_none() {
            return Ok(());
        }
        sys::epoll_drop(self.epoll.as_fd(), pidfd.as_fd());
        self.sources.remove(&token);
        if let Some(strain) = self.strains.get(&number)
            && let StrainTarget::Container(id) = strain.on
            && let Ok(container) = self.container(id)
            && container.group.oom_kills() > 0
        {
            // Its first process ends with it, and is told as out of memory.
            self.signal(id, true);
        }
        Ok(())
    }

    /// Ends a load; one that is not there is no error.
    pub(super) fn relieve(&mut self, number: u32) {
        self.end_work(number);
        if let Some(strain) = self.strains.remove(&number) {
            self.graves.extend(strain.group);
        }
    }

    /// The container is gone, and what was put on it goes too.
    pub(super) fn end_strains_on(&mut self, id: ContainerId) {
        let on = StrainTarget::Container(id);
        let known = self.strains.iter().filter(|(_, strain)| strain.on == on);
        for number in known.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.end_work(number);
        }
    }

    fn end_work(&mut self, number: u32) {
        let of = |source: &Source| matches!(source, Source::Strained(n, _) if *n == number);
        let all = self.sources.iter().filter(|(_, source)| of(source));
        for token in all.map(|(token, _)| *token).collect::<Vec<_>>() {
            if let Some(Source::Strained(_, pidfd)) = self.sources.remove(&token) {
                sys::epoll_drop(self.epoll.as_fd(), pidfd.as_fd());
                super::container::end_now(pidfd.as_fd());
            }
        }
    }
}

/// What a new process does.
fn become_work(work: Work, group: &Group) -> ! {
    // When the cell is gone, so is this process.
    let _ = sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0);
    // Outside of its groups it would burden the wrong ones.
    if cgroup::join(&group.tasks()).is_err() {
        sys::exit_now(1);
    }
    // It holds nothing of the cell's.
    let _ = sys::close_from(0, false);
    match work {
        Work::Keep(bytes) => {
            let mut ballast = Ballast::default();
            ballast.become_as_large_as(bytes);
            loop {
                std::thread::sleep(Duration::from_secs(3600));
            }
        }
        Work::Compute(millionths) => compute(u64::from(millionths)),
    }
}

fn compute(millionths: u64) -> ! {
    let slice = nanos(SLICE);
    let pause = slice * (1_000_000 - millionths) / millionths;
    loop {
        let begun = sys::monotonic();
        while sys::monotonic() - begun < slice {
            std::hint::spin_loop();
        }
        if pause > 0 {
            std::thread::sleep(Duration::from_nanos(pause));
        }
    }
}
