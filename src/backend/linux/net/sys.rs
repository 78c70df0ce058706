//! The system calls that the network needs and no crate wraps: namespaces, TUN devices, sockets
//! inside another network namespace, descriptors sent between processes, children.
//!
//! Everything is held by a file descriptor. A network namespace that nobody holds is taken down by
//! the kernel with every link in it, so there is nothing to clean up after a crash. The calling
//! thread changes its network namespace for the length of one closure and is put back whatever
//! happens inside.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::libc;

/// An operation of the network that failed: which one, and what the kernel said.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {}", super::super::sys::with_advice(source))]
pub struct NetError {
    /// What was being done.
    pub step: String,
    /// What the kernel answered.
    #[source]
    pub source: io::Error,
}

/// The result of a step.
pub type Result<T> = std::result::Result<T, NetError>;

/// Names the step that an operating system's error belongs to.
pub trait Step<T> {
    /// Attaches the name of the step.
    fn step(self, name: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Step<T> for io::Result<T> {
    fn step(self, name: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| NetError {
            step: name(),
            source,
        })
    }
}

/// Turns the answer of a system call into a result.
pub fn check(answer: libc::c_int) -> io::Result<libc::c_int> {
    match answer {
        -1 => Err(io::Error::last_os_error()),
        other => Ok(other),
    }
}

/// Takes over a descriptor that a system call has just made.
fn own(answer: libc::c_int) -> io::Result<OwnedFd> {
    let fd = check(answer)?;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens a path, close-on-exec.
pub fn open(path: &str, flags: libc::c_int) -> io::Result<OwnedFd> {
    let path = CString::new(path)?;
    // SAFETY: `path` is a NUL-terminated string that outlives the call.
    own(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) })
}

/// The network namespace of the calling thread.
pub fn current_netns() -> io::Result<OwnedFd> {
    open("/proc/thread-self/ns/net", libc::O_RDONLY)
}

fn enter(netns: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: setns reads only the descriptor, which is borrowed for the call.
    check(unsafe { libc::setns(netns.as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}

/// Puts the thread back into the namespace that it came from.
struct Home(OwnedFd);

impl Drop for Home {
    fn drop(&mut self) {
        use std::os::fd::AsFd;
        // Going on in a foreign network namespace would touch what is not ours.
        enter(self.0.as_fd()).expect("the thread returns to its network namespace");
    }
}

/// Runs `work` with the calling thread inside `netns`.
pub fn within<T>(netns: BorrowedFd<'_>, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let home = Home(current_netns()?);
    enter(netns)?;
    let done = work();
    drop(home);
    done
}

/// Makes a network namespace (with nothing but a loopback that is down) and runs `work` in it.
pub fn new_netns<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<(OwnedFd, T)> {
    let home = Home(current_netns()?);
    // SAFETY: unshare takes no pointers; a new network namespace affects this thread alone.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    let made = current_netns().and_then(|netns| Ok((netns, work()?)));
    drop(home);
    made
}

/// Makes a network namespace as [`new_netns`] does, for a caller who is in the namespace `home`;
/// `work` makes a socket in it.
pub fn new_netns_of<T: AsRawFd>(
    home: BorrowedFd<'_>,
    work: impl FnOnce() -> io::Result<T>,
) -> io::Result<(OwnedFd, T)> {
    /// `SIOCGSKNS` of `linux/sockios.h`: the network namespace of a socket.
    const SOCKET_NAMESPACE: libc::c_ulong = 0x894c;
    let home = Home(home.try_clone_to_owned()?);
    // SAFETY: unshare takes no pointers; a new network namespace affects this thread alone.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    let made = work();
    drop(home);
    let socket = made?;
    // SAFETY: this request takes no argument and returns a new descriptor.
    let netns = own(unsafe { libc::ioctl(socket.as_raw_fd(), SOCKET_NAMESPACE as _) })?;
    // SAFETY: fcntl with this command takes an integer.
    check(unsafe { libc::fcntl(netns.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
    Ok((netns, socket))
}

/// A socket of the calling thread's network namespace; non-blocking, close-on-exec.
pub fn socket(domain: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    let kind = kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socket takes no pointers.
    own(unsafe { libc::socket(domain, kind, protocol) })
}

/// A socket that belongs to `netns` for its whole life, for whoever holds it: how probes and
/// clients reach into pods without a process there.
pub fn socket_in(netns: BorrowedFd<'_>, domain: i32, kind: i32, proto: i32) -> io::Result<OwnedFd> {
    within(netns, || socket(domain, kind, proto))
}

/// Sets an integer option of a socket.
pub fn set_option(fd: &impl AsRawFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer and length describe `value`, which outlives the call.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// Reads an integer option of a socket.
pub fn get_option(fd: &impl AsRawFd, level: i32, option: i32) -> io::Result<i32> {
    let (mut value, mut size) = (0i32, size_of::<i32>() as libc::socklen_t);
    // SAFETY: both pointers are to locals of the sizes that the kernel is told.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            option,
            (&raw mut value).cast(),
            &raw mut size,
        )
    })?;
    Ok(value)
}

/// An IPv4 address and port as the kernel wants them.
pub fn inet(ip: u32, port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: ip.to_be() },
        sin_zero: [0; 8],
    }
}

pub(super) const INET_SIZE: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;

/// Binds a socket.
pub fn bind(fd: &impl AsRawFd, ip: u32, port: u16) -> io::Result<()> {
    let address = inet(ip, port);
    // SAFETY: the pointer and length describe `address`, which outlives the call.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), INET_SIZE) }).map(drop)
}

/// Begins to connect; returns whether the connection stands already.
pub fn connect(fd: &impl AsRawFd, ip: u32, port: u16) -> io::Result<bool> {
    let address = inet(ip, port);
    // SAFETY: the pointer and length describe `address`, which outlives the call.
    let answer = unsafe { libc::connect(fd.as_raw_fd(), (&raw const address).cast(), INET_SIZE) };
    match check(answer) {
        Ok(_) => Ok(true),
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Binds a netlink socket to a number of its own and to a group (1 to 32).
pub fn join_group(fd: &impl AsRawFd, group: u32) -> io::Result<()> {
    // SAFETY: an all-zero address is a valid one: the kernel chooses the number.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_groups = 1 << (group - 1);
    let size = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
    // SAFETY: the pointer and length describe `address`, which outlives the call.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size) }).map(drop)
}

/// Lets a socket take in only what a program accepts.
pub fn filter(fd: &impl AsRawFd, program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or(0),
        filter: program.as_ptr().cast_mut(),
    };
    let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: the pointers and lengths describe `program`, which the kernel copies.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size,
        )
    })
    .map(drop)
}

/// Why a connection was refused is kept for [`rejected`] from now on, or no longer. While it is kept,
/// every notice about a connection ends it, so it is for those that do not stand yet.
pub fn keep_notices(fd: &impl AsRawFd, keep: bool) -> io::Result<()> {
    set_option(fd, libc::SOL_IP, libc::IP_RECVERR, i32::from(keep))
}

/// Whether somebody on the way has turned a connection away (by ICMP), and not its other end.
pub fn rejected(fd: &impl AsRawFd) -> bool {
    let mut control = [0u64; 32];
    // SAFETY: an all-zero msghdr is a valid empty one.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control);
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: the only pointer in the header is to a local of the length that the kernel is told.
    if unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, flags) } < 0 {
        return false;
    }
    // SAFETY: the kernel filled the control buffer; the walk stays within msg_controllen, and the
    // data of an IP_RECVERR message is a sock_extended_err, which has no alignment here.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(&raw const header);
        while !at.is_null() {
            if (*at).cmsg_level == libc::SOL_IP && (*at).cmsg_type == libc::IP_RECVERR {
                let data = libc::CMSG_DATA(at).cast::<libc::sock_extended_err>();
                return data.read_unaligned().ee_origin == libc::SO_EE_ORIGIN_ICMP;
            }
            at = libc::CMSG_NXTHDR(&raw const header, at);
        }
    }
    false
}

/// The local address of a socket.
pub fn local_address(fd: &impl AsRawFd) -> io::Result<(u32, u16)> {
    let (mut address, mut size) = (inet(0, 0), INET_SIZE);
    // SAFETY: both pointers are to locals of the sizes that the kernel is told.
    check(unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut address).cast(), &raw mut size) })?;
    let ip = u32::from_be(address.sin_addr.s_addr);
    Ok((ip, u16::from_be(address.sin_port)))
}

/// Receives a datagram and says from whom.
pub fn receive_from(fd: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<(usize, u32, u16)> {
    let (mut address, mut size) = (inet(0, 0), INET_SIZE);
    // SAFETY: the buffer and both locals are as long as the kernel is told.
    let got = unsafe {
        libc::recvfrom(
            fd.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            libc::MSG_DONTWAIT,
            (&raw mut address).cast(),
            &raw mut size,
        )
    };
    let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    let ip = u32::from_be(address.sin_addr.s_addr);
    Ok((got, ip, u16::from_be(address.sin_port)))
}

/// Sends a datagram.
pub fn send_to(fd: &impl AsRawFd, bytes: &[u8], ip: u32, port: u16) -> io::Result<()> {
    let address = inet(ip, port);
    // SAFETY: the buffer and the address are as long as the kernel is told.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_DONTWAIT,
            (&raw const address).cast(),
            INET_SIZE,
        )
    };
    match sent {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Listens on a bound TCP socket.
pub fn listen(fd: &impl AsRawFd, backlog: i32) -> io::Result<()> {
    // SAFETY: listen takes no pointers.
    check(unsafe { libc::listen(fd.as_raw_fd(), backlog) }).map(drop)
}

/// Takes a connection; non-blocking, close-on-exec.
pub fn accept(fd: &impl AsRawFd) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: null pointers tell the kernel that the peer's address is not wanted.
    own(unsafe {
        libc::accept4(
            fd.as_raw_fd(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            flags,
        )
    })
}

/// Reads; `Ok(None)` when there is nothing yet.
pub fn read(fd: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: the buffer is as long as the kernel is told.
    let got = unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    answered(got)
}

/// Writes; `Ok(None)` when there is no room yet. A closed peer is an error, never a signal.
pub fn write(fd: &impl AsRawFd, bytes: &[u8]) -> io::Result<Option<usize>> {
    // SAFETY: the buffer is as long as the kernel is told.
    let put = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    answered(put)
}

/// As [`write()`] for a socket, without SIGPIPE.
pub fn send(fd: &impl AsRawFd, bytes: &[u8]) -> io::Result<Option<usize>> {
    let (raw, flags) = (fd.as_raw_fd(), libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT);
    // SAFETY: the buffer is as long as the kernel is told.
    let put = unsafe { libc::send(raw, bytes.as_ptr().cast(), bytes.len(), flags) };
    answered(put)
}

fn answered(count: isize) -> io::Result<Option<usize>> {
    if let Ok(count) = usize::try_from(count) {
        return Ok(Some(count));
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
        _ => Err(error),
    }
}

/// A file without a name that holds `bytes`, to be handed to another process.
pub fn memory_file(bytes: &[u8]) -> io::Result<std::fs::File> {
    use std::os::unix::fs::FileExt;
    // SAFETY: the name is a NUL-terminated literal.
    let fd = own(unsafe { libc::memfd_create(c"batch".as_ptr(), libc::MFD_CLOEXEC) })?;
    let file = std::fs::File::from(fd);
    file.write_all_at(bytes, 0)?;
    Ok(file)
}

/// Where TUN devices come from.
const TUN: &str = "/dev/net/tun";
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNSETIFINDEX: libc::c_ulong = 0x4004_54da;
const TUNSETPERSIST: libc::c_ulong = 0x4004_54cb;

#[repr(C)]
struct TunRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    rest: [u8; 22],
}

/// Opens the device from which links are made; it belongs to the calling thread's namespace.
pub fn tun_device() -> io::Result<OwnedFd> {
    open(TUN, libc::O_RDWR | libc::O_NONBLOCK)
}

/// Makes a TUN link (IP packets without a link layer) with this number in the calling thread's
/// namespace; its other end is the descriptor. The link stays when that is closed, until its namespace
/// goes: alone, the kernel takes 16 ms to remove one.
pub fn tun(name: &str, index: u32) -> io::Result<OwnedFd> {
    tunnel(name, index, libc::IFF_TUN)
}

/// Makes a TAP link, which is a TUN link whose packets have Ethernet headers.
pub fn tap(name: &str, index: u32) -> io::Result<OwnedFd> {
    tunnel(name, index, libc::IFF_TAP)
}

fn tunnel(name: &str, index: u32, kind: libc::c_int) -> io::Result<OwnedFd> {
    let mut request = TunRequest {
        name: [0; libc::IFNAMSIZ],
        flags: (kind | libc::IFF_NO_PI) as libc::c_short,
        rest: [0; 22],
    };
    let bytes = name.as_bytes();
    if bytes.len() >= libc::IFNAMSIZ {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    request.name[..bytes.len()].copy_from_slice(bytes);
    let device = tun_device()?;
    // SAFETY: the kernel reads one int from the pointer, which is to a local.
    check(unsafe { libc::ioctl(device.as_raw_fd(), TUNSETIFINDEX, &raw const index) })?;
    // SAFETY: the request has the size and layout of `struct ifreq` and outlives the call.
    check(unsafe { libc::ioctl(device.as_raw_fd(), TUNSETIFF, &raw mut request) })?;
    // SAFETY: this request takes an integer.
    check(unsafe { libc::ioctl(device.as_raw_fd(), TUNSETPERSIST, 1) })?;
    Ok(device)
}

/// Nanoseconds of CLOCK_MONOTONIC, the clock of real runs.
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a local of the right type.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    assert_eq!(answer, 0, "every Linux has a monotonic clock");
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// Lets the calling thread be as punctual as the kernel can make it: exact timers, and precedence
/// over ordinary work of the host.
pub fn punctual() {
    crate::backend::linux::precedence::precede();
    // SAFETY: prctl with this option takes an integer.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
}

/// What an epoll instance said about a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The number that the descriptor was added with.
    pub token: u64,
    /// There is something to read, or the other end is gone.
    pub readable: bool,
    /// There is room to write, or the connection attempt is over.
    pub writable: bool,
}

/// An epoll instance with waits that end to the nanosecond.
#[derive(Debug)]
pub struct Poll(OwnedFd);

impl Poll {
    /// An empty one.
    pub fn new() -> io::Result<Poll> {
        // SAFETY: epoll_create1 takes no pointers.
        Ok(Poll(own(unsafe {
            libc::epoll_create1(libc::EPOLL_CLOEXEC)
        })?))
    }

    fn control(&self, what: i32, fd: RawFd, events: u32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events, u64: token };
        // SAFETY: the pointer is to a local that outlives the call.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), what, fd, &raw mut event) }).map(drop)
    }

    /// Listens to a descriptor.
    pub fn add(&self, fd: &impl AsRawFd, write: bool, token: u64) -> io::Result<()> {
        self.control(
            libc::EPOLL_CTL_ADD,
            fd.as_raw_fd(),
            interest(true, write),
            token,
        )
    }

    /// Changes whether room to write is of interest.
    pub fn change(&self, fd: &impl AsRawFd, write: bool, token: u64) -> io::Result<()> {
        self.control(
            libc::EPOLL_CTL_MOD,
            fd.as_raw_fd(),
            interest(true, write),
            token,
        )
    }

    /// Stops listening.
    pub fn remove(&self, fd: &impl AsRawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd.as_raw_fd(), 0, 0)
    }

    /// Waits until something is ready or the time is over; without a time, for ever.
    pub fn wait(&self, limit: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        const MOST: usize = 256;
        ready.clear();
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; MOST];
        let limit = limit.map(|limit| libc::timespec {
            tv_sec: limit.as_secs().cast_signed(),
            tv_nsec: i64::from(limit.subsec_nanos()),
        });
        let pointer = limit.as_ref().map_or(std::ptr::null(), |l| &raw const *l);
        // SAFETY: the array and the optional timespec are locals that outlive the call.
        let got = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.0.as_raw_fd(),
                events.as_mut_ptr(),
                MOST as libc::c_int,
                pointer,
                std::ptr::null::<libc::sigset_t>(),
                size_of::<u64>(),
            )
        };
        let Ok(got) = usize::try_from(got) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::Interrupted => Ok(()),
                _ => Err(error),
            };
        };
        ready.extend(events[..got].iter().map(|event| {
            let bits = event.events;
            let ends = (libc::EPOLLHUP | libc::EPOLLERR | libc::EPOLLRDHUP).cast_unsigned();
            Ready {
                token: event.u64,
                readable: bits & (libc::EPOLLIN.cast_unsigned() | ends) != 0,
                writable: bits & (libc::EPOLLOUT.cast_unsigned() | ends) != 0,
            }
        }));
        Ok(())
    }
}

fn interest(read: bool, write: bool) -> u32 {
    let mut events = 0;
    if read {
        events |= libc::EPOLLIN;
    }
    if write {
        events |= libc::EPOLLOUT;
    }
    events.cast_unsigned()
}

impl AsRawFd for Poll {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Allows the calling process as many descriptors as it may allow itself.
pub fn many_descriptors() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls get a pointer to a local; failing leaves the limit as it is.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}
