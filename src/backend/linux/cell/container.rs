//! Containers in the cell, from their start to their end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;

use super::super::cgroup::Group;
use super::super::net::child::Channel;
use super::super::net::conntrack::Choices;
use super::super::net::sys::within;
use super::super::protocol::{ContainerSpec, Program, Report};
use super::super::sys;
use super::super::workload::CallTold;
use super::zygote::{Endowment, Expected};
use super::{Cell, Source, log};
use crate::kubelet::RuntimeEvent;
use crate::kubelet::runtime::{ContainerId, StartOutcome};
use crate::store::Id;

/// A container.
pub struct Container {
    /// What it was made with.
    pub spec: ContainerSpec,
    /// Its first process, once it is born.
    pub pidfd: Option<OwnedFd>,
    /// That process's number, for looking into `/proc` alone; 0 before it is born.
    pub pid: i32,
    /// Its mount namespace, so that it is not taken down at the end of that process.
    mounts: Option<OwnedFd>,
    /// What is kept for the birth of that process.
    pub unborn: Option<Unborn>,
    /// Its group.
    pub group: Group,
    /// Tells how its start went, until that is known.
    pub status: Option<OwnedFd>,
    /// How it ended before its start was known.
    ended: Option<sys::End>,
    /// Its program never ran.
    failed: bool,
    /// What its built-in server tells of its calls.
    pub calls: Option<Channel>,
    /// Calls that were made and are not over, by kind of client.
    open_calls: BTreeMap<u16, u32>,
}

impl Container {
    /// Whether its program runs.
    pub fn runs(&self) -> bool {
        self.unborn.is_none() && self.status.is_none()
    }
}

/// What a server that makes calls is born with: its node's news, its way to tell.
type Own = (Option<OwnedFd>, OwnedFd);

/// A container's first process before it is born.
pub struct Unborn {
    /// What it is given.
    pub endowment: Option<Endowment>,
    status: OwnedFd,
    streams: Vec<log::Stream>,
    /// A byte makes it go on.
    go: OwnedFd,
    /// A signal that it was sent.
    signal: Option<libc::c_int>,
}

/// Kills a process and waits for its end, which takes a moment.
pub(super) fn end_now(pidfd: BorrowedFd<'_>) {
    // One that has ended already is reaped all the same.
    let _ = sys::signal(pidfd, libc::SIGKILL);
    let _ = sys::reap(pidfd, true);
}

impl Cell {
    pub(super) fn start_container(&mut self, spec: ContainerSpec) {
        let container = spec.id;
        let name = spec.name.clone();
        if let Err(error) = self.create(spec) {
            self.not_created(container, &name, &error);
        }
    }

    fn create(&mut self, spec: ContainerSpec) -> io::Result<()> {
        let id = spec.id;
        self.step("container group")?;
        let pod = self.pods.get(&id.pod.0).filter(|pod| !pod.removing);
        let pod = pod.ok_or_else(|| io::Error::other("no such pod"))?;
        let name = format!("{}-{}", id.index, id.attempt);
        let group = Group::create_within(pod.group.inside(&name), &spec.limits)?;
        for text in group.lost.clone() {
            self.problem(format!("container {}: {text}", spec.name));
        }
        let (unborn, calls) = match self.endow(&spec) {
            Ok(made) => made,
            Err(error) => {
                self.graves.push(group);
                return Err(error);
            }
        };
        let container = Container {
            spec,
            pidfd: None,
            pid: 0,
            mounts: None,
            unborn: Some(unborn),
            group,
            status: None,
            ended: None,
            failed: false,
            calls,
            open_calls: BTreeMap::new(),
        };
        self.containers.insert(id, container);
        self.expect(Expected::First(id));
        Ok(())
    }

    /// Makes what a container's first process is born with, and what stays here.
    fn endow(&mut self, spec: &ContainerSpec) -> io::Result<(Unborn, Option<Channel>)> {
        self.step("container pipes")?;
        let (wait, go) = sys::pipe()?;
        let (status, tells) = sys::pipe()?;
        self.step("container log")?;
        let (streams, output) = self.output(spec)?;
        let (calls, ears) = match self.ears(spec)? {
            Some((near, ears)) => (Some(near), Some(ears)),
            None => (None, None),
        };
        self.step("container fork")?;
        let endowment = Endowment {
            go: wait,
            status: tells,
            output,
            ears,
        };
        let unborn = Unborn {
            endowment: Some(endowment),
            status,
            streams,
            go,
            signal: None,
        };
        Ok((unborn, calls))
    }

    /// The v2 group in which processes of a container are born: its own, or that of all of its
    /// class on the node.
    pub(super) fn birthplace(&self, id: ContainerId) -> Option<BorrowedFd<'_>> {
        let own = self.containers.get(&id)?.group.v2();
        own.or_else(|| {
            let pod = &self.pods.get(&id.pod.0)?.spec;
            self.nodes.get(&pod.node)?.level(pod.qos).v2()
        })
    }

    /// A container's first process is there, and waits.
    pub(super) fn first_is_born(&mut self, id: ContainerId, pidfd: OwnedFd, pid: i32) {
        let Some(container) = self.containers.get_mut(&id) else {
            return end_now(pidfd.as_fd());
        };
        (container.pidfd, container.pid) = (Some(pidfd), pid);
        let Some(unborn) = container.unborn.take() else {
            return;
        };
        container.status = Some(unborn.status);
        let begun = self.step("container born");
        let begun = begun.and_then(|()| self.watch(id, unborn.streams));
        let begun = begun.and_then(|()| match nix::unistd::write(&unborn.go, b"!") {
            // It has failed already, and says why itself.
            Ok(_) | Err(nix::Error::EPIPE) => Ok(()),
            Err(error) => Err(error.into()),
        });
        match (begun, unborn.signal) {
            (Ok(()), Some(number)) => self.signal_first(id, number),
            (Ok(()), None) => {}
            (Err(error), _) => self.unmake(id, &error),
        }
    }

    /// A container's first process could not be made.
    pub(super) fn first_is_not_born(&mut self, id: ContainerId, error: &io::Error) {
        self.unmake(id, error);
    }

    /// Watches a new container.
    fn watch(&mut self, id: ContainerId, streams: Vec<log::Stream>) -> io::Result<()> {
        self.step("container watched")?;
        self.add(Source::Status(id))?;
        self.add(Source::Exit(id))?;
        if self.container(id)?.calls.is_some() {
            self.add(Source::Calls(id))?;
        }
        for stream in streams {
            self.add(Source::Log(stream))?;
        }
        self.step("container told")
    }

    /// Takes back a container whose program was never told to begin.
    fn unmake(&mut self, id: ContainerId, error: &io::Error) {
        self.sources.retain(
            |_, source| !matches!(source, Source::Status(of) | Source::Exit(of) | Source::Calls(of) if *of == id),
        );
        let Some(container) = self.containers.remove(&id) else {
            return;
        };
        if let Some(pidfd) = &container.pidfd {
            end_now(pidfd.as_fd());
        }
        self.graves.push(container.group);
        let removing = self.pods.get(&id.pod.0).is_none_or(|pod| pod.removing);
        if removing {
            return self.removed_if_empty(id.pod.0);
        }
        self.not_created(id, &container.spec.name, error);
    }

    fn not_created(&mut self, container: ContainerId, name: &str, error: &io::Error) {
        self.problem(format!("container {name}: {}", sys::with_advice(error)));
        let outcome = StartOutcome::CreateFailed;
        self.event(RuntimeEvent::Started { container, outcome });
    }

    /// What a built-in server that makes calls is born with: this end and its own.
    fn ears(&self, spec: &ContainerSpec) -> io::Result<Option<(Channel, Own)>> {
        let Program::BuiltIn(model) = &spec.program else {
            return Ok(None);
        };
        if model.calls.is_empty() {
            return Ok(None);
        }
        let (near, far) = Channel::pair()?;
        let pod = self
            .pods
            .get(&spec.id.pod.0)
            .ok_or(io::ErrorKind::NotFound)?;
        let node = self
            .nodes
            .get(&pod.spec.node)
            .ok_or(io::ErrorKind::NotFound)?;
        let told = || Choices::here_from(pod.spec.ip);
        // A kernel that tells nothing leaves clients without a choice of endpoints.
        let choices = within(node.network.as_fd(), told).ok();
        let own = (choices.map(Choices::into_fd), far.into_fd());
        Ok(Some((near, own)))
    }

    /// A built-in server tells what came of its calls; false when it is gone.
    pub(super) fn hear_calls(&mut self, id: ContainerId) -> bool {
        let Some(container) = self.containers.get_mut(&id) else {
            return false;
        };
        let (mut news, mut open) = (Vec::new(), true);
        while let Some(calls) = &container.calls {
            match calls.receive::<Vec<CallTold>>() {
                Ok(Some((told, _))) => news.extend(told),
                Ok(None) => break,
                Err(_) => {
                    open = false;
                    break;
                }
            }
        }
        for one in &news {
            let (CallTold::Sent { sender, .. }
            | CallTold::Ended { sender, .. }
            | CallTold::Abandoned { sender, .. }) = one;
            let count = container.open_calls.entry(*sender).or_default();
            match one {
                CallTold::Sent { .. } => *count += 1,
                _ => *count = count.saturating_sub(1),
            }
        }
        if !news.is_empty() {
            self.tell(Report::Calls(news));
        }
        open
    }

    /// The other end is closed: there is nothing more to hear.
    pub(super) fn deaf_to_calls(&mut self, token: u64, id: ContainerId) {
        self.sources.remove(&token);
        if let Some(calls) = self.containers.get(&id).and_then(|c| c.calls.as_ref()) {
            sys::epoll_drop(self.epoll.as_fd(), calls.as_fd());
        }
    }

    /// What a process has told that is gone, and what it will never tell.
    fn end_calls(&mut self, id: ContainerId) {
        self.hear_calls(id);
        self.sources
            .retain(|_, source| !matches!(source, Source::Calls(of) if *of == id));
        let Some(container) = self.containers.get_mut(&id) else {
            return;
        };
        container.calls = None;
        let open = std::mem::take(&mut container.open_calls);
        let at = sys::monotonic();
        let each = open.into_iter().flat_map(|(sender, count)| {
            let abandoned = CallTold::Abandoned { sender, at };
            std::iter::repeat_n(abandoned, count as usize)
        });
        let news: Vec<CallTold> = each.collect();
        if !news.is_empty() {
            self.tell(Report::Calls(news));
        }
    }

    /// Pipes for the output of a container.
    fn output(&self, spec: &ContainerSpec) -> io::Result<(Vec<log::Stream>, Option<[OwnedFd; 2]>)> {
        let Some(path) = &spec.log else {
            return Ok((Vec::new(), None));
        };
        let file = File::options().create(true).append(true).open(path)?;
        let (out, out_end) = sys::pipe()?;
        let (err, err_end) = sys::pipe()?;
        for reader in [&out, &err] {
            fcntl(reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let streams = vec![
            log::Stream::new(out, file.try_clone()?, "stdout"),
            log::Stream::new(err, file, "stderr"),
        ];
        Ok((streams, Some([out_end, err_end])))
    }

    /// A container's program runs, or never will.
    pub(super) fn begun(&mut self, id: ContainerId) {
        let Some(container) = self.containers.get_mut(&id) else {
            return;
        };
        let Some(status) = container.status.take() else {
            return;
        };
        sys::epoll_drop(self.epoll.as_fd(), status.as_fd());
        let mut text = String::new();
        if let Err(error) = File::from(status).read_to_string(&mut text) {
            text = format!("C{error}");
        }
        let ended = container.ended.take();
        let outcome = match text.chars().next() {
            None => StartOutcome::Ok,
            Some('R') => StartOutcome::RunFailed,
            Some(_) => StartOutcome::CreateFailed,
        };
        let removing = self.pods.get(&id.pod.0).is_none_or(|pod| pod.removing);
        if outcome != StartOutcome::Ok {
            let name = container.spec.name.clone();
            self.problem(format!("container {name}: {}", &text[1..]));
        }
        if !removing {
            let container = id;
            self.event(RuntimeEvent::Started { container, outcome });
        }
        if outcome == StartOutcome::Ok && ended.is_none() {
            self.hold_mounts(id);
        }
        match (outcome, ended) {
            (StartOutcome::Ok, Some(end)) => self.report_end(id, end),
            (StartOutcome::Ok, None) => {}
            (_, Some(_)) => self.forget(id),
            // Its process ends by itself and is reaped by its pidfd.
            (_, None) => {
                if let Some(container) = self.containers.get_mut(&id) {
                    container.failed = true;
                }
            }
        }
    }

    /// Holds a container's mount namespace. Without it the end of its first process takes longer.
    fn hold_mounts(&mut self, id: ContainerId) {
        if let Some(container) = self.containers.get_mut(&id) {
            let path = format!("/proc/{}/ns/mnt", container.pid);
            container.mounts = File::open(path).ok().map(OwnedFd::from);
        }
    }

    /// A container's first process may have ended; whether it has.
    pub(super) fn exited(&mut self, id: ContainerId) -> bool {
        let Some(container) = self.containers.get_mut(&id) else {
            return true;
        };
        let Some(pidfd) = &container.pidfd else {
            return true;
        };
        let end = match sys::reap(pidfd.as_fd(), false) {
            Ok(None) => return false,
            Ok(Some(end)) => end,
            Err(_) => sys::End::Signal(libc::SIGKILL as u8),
        };
        sys::epoll_drop(self.epoll.as_fd(), pidfd.as_fd());
        // Whatever it left in its group goes with it.
        container.group.kill();
        if container.status.is_some() {
            container.ended = Some(end);
            self.begun(id);
        } else if container.failed {
            self.forget(id);
        } else {
            self.report_end(id, end);
        }
        true
    }

    fn report_end(&mut self, id: ContainerId, end: sys::End) {
        let removing = self.pods.get(&id.pod.0).is_none_or(|pod| pod.removing);
        if let Some(container) = self.containers.get(&id)
            && !removing
        {
            let oom = container.group.oom_kills() > 0;
            let code = end.code();
            self.event(RuntimeEvent::Exited {
                container: id,
                code,
                oom,
            });
        }
        self.forget(id);
    }

    fn forget(&mut self, id: ContainerId) {
        self.end_strains_on(id);
        self.end_calls(id);
        if let Some(container) = self.containers.remove(&id) {
            self.graves.push(container.group);
            container
                .mounts
                .into_iter()
                .for_each(|mounts| self.gravedigger.take(mounts));
        }
        self.removed_if_empty(id.pod.0);
    }

    pub(super) fn signal(&mut self, id: ContainerId, kill: bool) {
        let Some(container) = self.containers.get(&id) else {
            return;
        };
        let number = match kill {
            true => libc::SIGKILL,
            false => container.spec.stop_signal,
        };
        // Everything in the container goes, also what left its first process; where it has no group
        // that can be killed, with that process and its PID namespace.
        if kill && container.group.kill() && container.unborn.is_none() {
            return;
        }
        self.signal_first(id, number);
    }

    /// Sends a signal to a container's first process; at once after its birth, if it is not born yet.
    fn signal_first(&mut self, id: ContainerId, number: libc::c_int) {
        let Some(container) = self.containers.get_mut(&id) else {
            return;
        };
        if let Some(unborn) = &mut container.unborn {
            // Nothing takes back that it is to be killed.
            if unborn.signal != Some(libc::SIGKILL) {
                unborn.signal = Some(number);
            }
            return;
        }
        let sent = container
            .pidfd
            .as_ref()
            .map(|pidfd| sys::signal(pidfd.as_fd(), number));
        if let Some(Err(error)) = sent {
            let name = &container.spec.name;
            let text = format!("container {name}: signal {number}: {error}");
            self.problem(text);
        }
    }

    pub(super) fn kill_pod(&mut self, pod: u32) {
        let of = self.containers.keys().filter(|id| id.pod.0 == pod);
        for id in of.copied().collect::<Vec<_>>() {
            self.signal(id, true);
        }
    }

    pub(super) fn remove_pod(&mut self, pod: u32) {
        match self.pods.get_mut(&pod) {
            Some(found) => {
                found.removing = true;
                found.silent = false;
            }
            None => {
                let pod = Id::new(pod);
                return self.event(RuntimeEvent::Removed { pod });
            }
        }
        // Nothing that fails here keeps a pod from being removed; tests stand still here.
        let _ = self.step("remove: kill");
        self.kill_pod(pod);
        let _ = self.step("remove: killed");
        self.removed_if_empty(pod);
    }

    /// Removes a pod that is to be removed and has no containers any more.
    pub(super) fn removed_if_empty(&mut self, number: u32) {
        let waits = self.containers.keys().any(|id| id.pod.0 == number);
        if waits || !self.pods.get(&number).is_some_and(|pod| pod.removing) {
            return;
        }
        let Some(pod) = self.pods.remove(&number) else {
            return;
        };
        let _ = self.step("remove: folder");
        pod.clear();
        let _ = self.step("remove: network");
        let silent = pod.silent;
        // To give up its network namespace is all that it takes to remove it.
        if let Some(network) = &mut self.network
            && !pod.spec.host_network
            && let Err(error) = network.remove_pod(&pod.spec.node, pod.spec.ip)
        {
            self.problem(error.to_string());
        }
        if !pod.spec.host_network {
            self.dead.take(pod.network);
        }
        let _ = self.step("remove: group");
        self.graves.push(pod.group);
        self.bury();
        if !silent {
            let pod = Id::new(number);
            self.event(RuntimeEvent::Removed { pod });
        }
    }
}
