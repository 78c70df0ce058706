//! Links, addresses and routes: the requests of rtnetlink that a pod network needs.
//!
//! Interface numbers are chosen by the caller, so that a whole configuration is one send: make the
//! pair, give it addresses, switch it on, route, without asking in between what number a link got.
//! Per-device settings go through netlink as well, so that no procfs is needed.

use nix::libc;

use super::netlink::{Attrs, CREATE, Messages, REPLACE, REQUEST};

/// The number of the loopback in every network namespace.
pub const LOOPBACK: u32 = 1;

const AF_INET: u8 = libc::AF_INET as u8;
/// `IPV4_DEVCONF_FORWARDING` of `linux/ip.h`.
const FORWARDING: u16 = 1;
/// `IFLA_INET_CONF`.
const INET_CONF: u16 = 1;
/// `VETH_INFO_PEER`.
const VETH_PEER: u16 = 1;

/// An IPv4 network.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Cidr {
    /// Its first address.
    pub ip: u32,
    /// How many leading bits its addresses share.
    pub bits: u8,
}

impl Cidr {
    /// A single address.
    pub fn host(ip: u32) -> Cidr {
        Cidr { ip, bits: 32 }
    }

    /// The bits that its addresses share.
    pub fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0)
    }

    /// Whether an address belongs to it.
    pub fn contains(self, ip: u32) -> bool {
        (ip ^ self.ip) & self.mask() == 0
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", std::net::Ipv4Addr::from(self.ip), self.bits)
    }
}

/// `struct ifinfomsg`.
fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// The hardware address of a cable's near end: the same on all, since only two are ever on one.
pub const NEAR: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// That of its far end.
pub const FAR: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Makes a pair of virtual cables: `name` with number `index` here, `peer` with number `peer_index`
/// in the namespace of the descriptor `netns`.
pub fn veth(m: &mut Messages, name: &str, index: u32, peer: &str, peer_index: u32, netns: i32) {
    m.push(
        libc::RTM_NEWLINK,
        CREATE,
        &link_header(index, 0, 0),
        |attrs| {
            attrs.text(libc::IFLA_IFNAME, name);
            attrs.put(libc::IFLA_ADDRESS, &NEAR);
            one_queue(attrs);
            attrs.nest(libc::IFLA_LINKINFO, |info| {
                info.text(libc::IFLA_INFO_KIND, "veth");
                info.nest(libc::IFLA_INFO_DATA, |data| {
                    data.nest(VETH_PEER, |far| {
                        far.raw(&link_header(peer_index, 0, 0));
                        far.text(libc::IFLA_IFNAME, peer);
                        far.put(libc::IFLA_ADDRESS, &FAR);
                        one_queue(far);
                        far.u32(libc::IFLA_NET_NS_FD, netns.cast_unsigned());
                    });
                });
            });
        },
    );
}

/// Each queue is some objects of the kernel's to make and to remove, and unless it is told otherwise
/// it makes as many as the host has CPUs.
fn one_queue(attrs: &mut Attrs) {
    attrs.u32(libc::IFLA_NUM_TX_QUEUES, 1);
    attrs.u32(libc::IFLA_NUM_RX_QUEUES, 1);
}

fn forwarding(attrs: &mut Attrs) {
    attrs.nest(libc::IFLA_AF_SPEC, |families| {
        families.nest(libc::AF_INET as u16, |inet| {
            inet.nest(INET_CONF, |conf| conf.u32(FORWARDING, 1));
        });
    });
}

/// Switches a link on; `forwards` lets packets that arrive there go on to other links.
pub fn up(m: &mut Messages, index: u32, forwards: bool) {
    let on = libc::IFF_UP.cast_unsigned();
    m.push(
        libc::RTM_NEWLINK,
        REQUEST,
        &link_header(index, on, on),
        |attrs| {
            if forwards {
                forwarding(attrs);
            }
        },
    );
}

/// Spares a link the IPv6 address that it would give itself when it is switched on, and the questions
/// to nobody whether somebody else has it: pods have IPv4 addresses. To be sent before the link is
/// up, and not to a kernel without IPv6.
pub fn no_address_of_its_own(m: &mut Messages, index: u32) {
    const ADDRESS_MODE: u16 = 8;
    const NONE: u8 = 1;
    m.push(
        libc::RTM_NEWLINK,
        REQUEST,
        &link_header(index, 0, 0),
        |attrs| {
            attrs.nest(libc::IFLA_AF_SPEC, |families| {
                families.nest(libc::AF_INET6 as u16, |inet6| {
                    inet6.put(ADDRESS_MODE, &[NONE]);
                });
            });
        },
    );
}

/// Waits until a link that was switched on before its other end was can send: the kernel notices
/// in the background that the cable is whole now, and drops what is sent until then; being asked
/// about the link it looks at once.
pub fn settle(m: &mut Messages, index: u32) {
    m.push(
        libc::RTM_GETLINK,
        REQUEST,
        &link_header(index, 0, 0),
        |_| {},
    );
}

/// Gives a link an address.
pub fn address(m: &mut Messages, index: u32, ip: u32) {
    // struct ifaddrmsg: family, prefix length, flags, scope, index
    let mut header = [AF_INET, 32, 0, libc::RT_SCOPE_UNIVERSE, 0, 0, 0, 0];
    header[4..].copy_from_slice(&index.to_ne_bytes());
    m.push(libc::RTM_NEWADDR, REPLACE, &header, |attrs| {
        attrs.be32(libc::IFA_LOCAL, ip);
        attrs.be32(libc::IFA_ADDRESS, ip);
    });
}

/// Says once for all which hardware address `ip` has on a link. What is known for good is never
/// asked for, and does not count against the host's limit of neighbours, which all namespaces
/// share.
pub fn neighbour(m: &mut Messages, index: u32, ip: u32, hardware: [u8; 6]) {
    const NDA_DST: u16 = 1;
    const NDA_LLADDR: u16 = 2;
    const NUD_PERMANENT: u16 = 0x80;
    // struct ndmsg: family, padding, index, state, flags, type
    let mut header = [AF_INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
    m.push(libc::RTM_NEWNEIGH, REPLACE, &header, |attrs| {
        attrs.be32(NDA_DST, ip);
        attrs.put(NDA_LLADDR, &hardware);
    });
}

/// What a route does with its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// They leave by this link, for somebody who is on it.
    Link(u32),
    /// They leave by this link, for a gateway.
    Via(u32, u32),
    /// They are for this namespace itself.
    Local,
    /// They are refused: there is no such host.
    Nowhere,
}

/// Adds a route, or replaces the one to the same network. Packets that begin here carry `source`
/// where one is given.
pub fn route(m: &mut Messages, to: Cidr, way: Way, source: Option<u32>) {
    route_message(m, libc::RTM_NEWROUTE, REPLACE, to, way, source);
}

/// Takes a route away.
pub fn remove_route(m: &mut Messages, to: Cidr, way: Way) {
    route_message(m, libc::RTM_DELROUTE, REQUEST, to, way, None);
}

fn route_message(m: &mut Messages, kind: u16, flags: u16, to: Cidr, way: Way, from: Option<u32>) {
    let (table, scope, type_) = match way {
        Way::Link(_) => (libc::RT_TABLE_MAIN, libc::RT_SCOPE_LINK, libc::RTN_UNICAST),
        Way::Via(..) => (
            libc::RT_TABLE_MAIN,
            libc::RT_SCOPE_UNIVERSE,
            libc::RTN_UNICAST,
        ),
        Way::Local => (libc::RT_TABLE_LOCAL, libc::RT_SCOPE_HOST, libc::RTN_LOCAL),
        Way::Nowhere => (
            libc::RT_TABLE_MAIN,
            libc::RT_SCOPE_UNIVERSE,
            libc::RTN_UNREACHABLE,
        ),
    };
    // struct rtmsg: family, lengths, tos, table, protocol, scope, type, flags
    let proto = libc::RTPROT_STATIC;
    let header = [
        AF_INET, to.bits, 0, 0, table, proto, scope, type_, 0, 0, 0, 0,
    ];
    m.push(kind, flags, &header, |attrs| {
        if to.bits > 0 {
            attrs.be32(libc::RTA_DST, to.ip);
        }
        match way {
            Way::Link(link) => attrs.u32(libc::RTA_OIF, link),
            Way::Via(link, gateway) => {
                attrs.be32(libc::RTA_GATEWAY, gateway);
                attrs.u32(libc::RTA_OIF, link);
            }
            Way::Local => attrs.u32(libc::RTA_OIF, LOOPBACK),
            Way::Nowhere => {}
        }
        if let Some(source) = from {
            attrs.be32(libc::RTA_PREFSRC, source);
        }
    });
}

/// Makes a link that is switched off one at which packets of anybody may arrive for anybody: they
/// are passed on, even those whose sender is elsewhere or has an address of this namespace. It gets
/// this hardware address.
pub fn open_to_all(m: &mut Messages, index: u32, hardware: [u8; 6]) {
    /// `IPV4_DEVCONF_RP_FILTER`, `IPV4_DEVCONF_ACCEPT_LOCAL`.
    const RP_FILTER: u16 = 8;
    const ACCEPT_LOCAL: u16 = 23;
    m.push(
        libc::RTM_NEWLINK,
        REQUEST,
        &link_header(index, 0, 0),
        |attrs| {
            attrs.put(libc::IFLA_ADDRESS, &hardware);
            attrs.nest(libc::IFLA_AF_SPEC, |families| {
                families.nest(libc::AF_INET as u16, |inet| {
                    inet.nest(INET_CONF, |conf| {
                        conf.u32(FORWARDING, 1);
                        conf.u32(RP_FILTER, 0);
                        conf.u32(ACCEPT_LOCAL, 1);
                    });
                });
            });
        },
    );
}

/// Packets that arrive by the link of this name look into this table before the main one; `on`
/// begins that, otherwise it ends.
pub fn look_up(m: &mut Messages, arriving_by: &str, table: u32, on: bool) {
    const FRA_IIFNAME: u16 = 3;
    const FRA_TABLE: u16 = 15;
    const FR_ACT_TO_TBL: u8 = 1;
    let (kind, flags) = match on {
        true => (libc::RTM_NEWRULE, CREATE),
        false => (libc::RTM_DELRULE, REQUEST),
    };
    // struct fib_rule_hdr: family, lengths, tos, table, two reserved, action, flags
    let header = [AF_INET, 0, 0, 0, 0, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0];
    m.push(kind, flags, &header, |attrs| {
        attrs.text(FRA_IIFNAME, arriving_by);
        attrs.u32(FRA_TABLE, table);
    });
}

/// Adds (or takes away) a route of a table of its own: over a link, to the gateway at an address
/// that need not be on it.
pub fn table_route(m: &mut Messages, table: u32, to: Cidr, (link, gateway): (u32, u32), on: bool) {
    const ONLINK: u32 = 4;
    let (kind, flags) = match on {
        true => (libc::RTM_NEWROUTE, REPLACE),
        false => (libc::RTM_DELROUTE, REQUEST),
    };
    let (proto, scope) = (libc::RTPROT_STATIC, libc::RT_SCOPE_UNIVERSE);
    let mut header = [
        AF_INET,
        to.bits,
        0,
        0,
        libc::RT_TABLE_UNSPEC,
        proto,
        scope,
        libc::RTN_UNICAST,
        0,
        0,
        0,
        0,
    ];
    header[8..].copy_from_slice(&ONLINK.to_ne_bytes());
    m.push(kind, flags, &header, |attrs| {
        attrs.be32(libc::RTA_DST, to.ip);
        attrs.be32(libc::RTA_GATEWAY, gateway);
        attrs.u32(libc::RTA_OIF, link);
        attrs.u32(libc::RTA_TABLE, table);
    });
}

/// `struct tcmsg` of the root of a link's packets.
fn qdisc_header(index: u32) -> [u8; 20] {
    let mut header = [0; 20];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    // The handle 1:0 below the root.
    header[8..12].copy_from_slice(&0x0001_0000u32.to_ne_bytes());
    header[12..16].copy_from_slice(&u32::MAX.to_ne_bytes());
    header
}

/// Takes what [`shape`] or [`netem`] put on a link away.
pub fn unshape(m: &mut Messages, index: u32) {
    m.push(libc::RTM_DELQDISC, REQUEST, &qdisc_header(index), |_| {});
}

/// Lets at most `bytes_per_s` leave by a link, in bursts of at most `burst` bytes, with at most
/// `limit` bytes waiting (the kernel's token bucket, `tbf`).
pub fn shape(m: &mut Messages, index: u32, bytes_per_s: u64, burst: u32, limit: u32) {
    const TCA_TBF_PARMS: u16 = 1;
    const TCA_TBF_RATE64: u16 = 4;
    const TCA_TBF_BURST: u16 = 6;
    // The time that a burst takes, in the scheduler's ticks of 64 ns.
    let nanos = u64::from(burst) * 1_000_000_000 / bytes_per_s.max(1);
    let ticks = u32::try_from(nanos >> 6).unwrap_or(u32::MAX);
    let rate = u32::try_from(bytes_per_s).unwrap_or(u32::MAX);
    // struct tc_tbf_qopt: two tc_ratespec (cell_log, linklayer, overhead, cell_align, mpu, rate),
    // limit, buffer, mtu.
    let mut parms = [0u8; 36];
    parms[1] = 1;
    parms[8..12].copy_from_slice(&rate.to_ne_bytes());
    parms[24..28].copy_from_slice(&limit.to_ne_bytes());
    parms[28..32].copy_from_slice(&ticks.to_ne_bytes());
    m.push(libc::RTM_NEWQDISC, REPLACE, &qdisc_header(index), |attrs| {
        attrs.text(libc::TCA_KIND, "tbf");
        attrs.nest(libc::TCA_OPTIONS, |options| {
            options.put(TCA_TBF_PARMS, &parms);
            if bytes_per_s > u64::from(u32::MAX) {
                options.put(TCA_TBF_RATE64, &bytes_per_s.to_ne_bytes());
            }
            options.u32(TCA_TBF_BURST, burst);
        });
    });
}

/// What the kernel's `netem` does to packets that leave by a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Netem {
    /// They leave this much later,
    pub delay_ns: u64,
    /// give or take this much.
    pub jitter_ns: u64,
    /// This many of a million are lost.
    pub loss_ppm: u32,
    /// This many of a million are sent twice.
    pub duplicate_ppm: u32,
}

/// Puts `netem` on a link; kernels without it answer ENOENT.
pub fn netem(m: &mut Messages, index: u32, netem: &Netem) {
    const TCA_NETEM_LATENCY64: u16 = 10;
    const TCA_NETEM_JITTER64: u16 = 11;
    /// Packets that may wait.
    const LIMIT: u32 = 10_000;
    let share = |ppm: u32| {
        let share = u64::from(ppm) * u64::from(u32::MAX) / 1_000_000;
        u32::try_from(share).unwrap_or(u32::MAX)
    };
    // struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter
    let words = [
        0,
        LIMIT,
        share(netem.loss_ppm),
        0,
        share(netem.duplicate_ppm),
        0,
    ];
    m.push(libc::RTM_NEWQDISC, REPLACE, &qdisc_header(index), |attrs| {
        attrs.text(libc::TCA_KIND, "netem");
        // The structure and the attributes after it share one attribute, without nesting flag.
        let mut bytes: Vec<u8> = words.iter().flat_map(|w: &u32| w.to_ne_bytes()).collect();
        for (kind, value) in [
            (TCA_NETEM_LATENCY64, netem.delay_ns),
            (TCA_NETEM_JITTER64, netem.jitter_ns),
        ] {
            bytes.extend_from_slice(&12u16.to_ne_bytes());
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.extend_from_slice(&value.to_ne_bytes());
        }
        attrs.put(libc::TCA_OPTIONS, &bytes);
    });
}

#[cfg(test)]
mod tests {
    use super::super::netlink::{DUMP, Socket, attr};
    use super::super::testing;
    use super::*;

    /// Names of the links of the calling thread's namespace.
    fn links(socket: &Socket) -> Vec<String> {
        let mut m = Messages::default();
        m.push(libc::RTM_GETLINK, DUMP, &link_header(0, 0, 0), |_| {});
        let answers = socket.ask(&m).unwrap();
        let links = answers.iter().filter(|a| a.kind == libc::RTM_NEWLINK);
        let name = |body: &[u8]| {
            let name = attr(&body[16..], libc::IFLA_IFNAME)?;
            Some(String::from_utf8_lossy(&name[..name.len() - 1]).into_owned())
        };
        links.filter_map(|link| name(&link.body)).collect()
    }

    #[test]
    fn networks_know_their_addresses() {
        let ip = |text: &str| u32::from(text.parse::<std::net::Ipv4Addr>().unwrap());
        let table = [
            ("10.1.0.0", 16, "10.1.255.255", true),
            ("10.1.0.0", 16, "10.2.0.0", false),
            ("10.1.2.3", 32, "10.1.2.3", true),
            ("10.1.2.3", 32, "10.1.2.2", false),
            ("0.0.0.0", 0, "255.255.255.255", true),
        ];
        for (network, bits, address, inside) in table {
            let cidr = Cidr {
                ip: ip(network),
                bits,
            };
            assert_eq!(cidr.contains(ip(address)), inside, "{cidr} {address}");
        }
    }

    #[test]
    fn a_pair_is_made_addressed_switched_on_and_routed_in_one_send() {
        let Some(_root) = testing::root("a_pair_is_made") else {
            return;
        };
        testing::in_scratch(|| {
            let socket = Socket::route().unwrap();
            let (far, far_socket) = sys_new();
            let mut m = Messages::default();
            veth(
                &mut m,
                "v7",
                7,
                "eth0",
                2,
                std::os::fd::AsRawFd::as_raw_fd(&far),
            );
            address(&mut m, 7, 0xa9fe_0101);
            up(&mut m, 7, true);
            route(&mut m, Cidr::host(0x0a01_0002), Way::Link(7), None);
            socket.request(&m).expect("all four are accepted");
            assert_eq!(links(&socket), ["lo", "v7"]);
            assert_eq!(links(&far_socket), ["lo", "eth0"]);
            // The same again: the link exists, which is request 1; the rest is replaced.
            let (number, error) = socket.request(&m).unwrap_err();
            assert_eq!((number, error.raw_os_error()), (1, Some(libc::EEXIST)));
        });
    }

    fn sys_new() -> (std::os::fd::OwnedFd, Socket) {
        super::super::sys::new_netns(Socket::route).unwrap()
    }

    #[test]
    fn a_token_bucket_is_put_on_a_link_and_taken_away() {
        let Some(_root) = testing::root("a_token_bucket") else {
            return;
        };
        testing::in_scratch(|| {
            let socket = Socket::route().unwrap();
            let send = |fill: &dyn Fn(&mut Messages)| {
                let mut m = Messages::default();
                fill(&mut m);
                socket.request(&m)
            };
            send(&|m| up(m, LOOPBACK, false)).unwrap();
            send(&|m| shape(m, LOOPBACK, 6_250_000, 32_768, 400_000)).unwrap();
            let shown = testing::run("tc", &["qdisc", "show", "dev", "lo"]);
            if let Some(shown) = shown {
                assert!(shown.contains("tbf 1: root"), "{shown}");
                assert!(shown.contains("rate 50Mbit burst 32Kb"), "{shown}");
            }
            send(&|m| unshape(m, LOOPBACK)).unwrap();
            assert!(send(&|m| unshape(m, LOOPBACK)).is_err(), "nothing is left");
            // A kernel has netem or says so.
            let late = Netem {
                delay_ns: 1_000_000,
                ..Netem::default()
            };
            match send(&|m| netem(m, LOOPBACK, &late)) {
                Ok(()) => send(&|m| unshape(m, LOOPBACK)).unwrap(),
                Err((_, error)) => assert_eq!(error.raw_os_error(), Some(libc::ENOENT)),
            }
        });
    }
}
