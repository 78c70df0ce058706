//! The network in the cell: commands for it, and what it tells.

use std::io;

use super::{Cell, Source};
use crate::backend::linux::net::network::{Command, Network};
use crate::backend::linux::net::sys;
use crate::backend::linux::protocol::{Report, Stamped};
use crate::net::topology::Latencies;

impl Cell {
    /// Makes the network, while the cell is small: its children are forked from it.
    pub(super) fn make_network(&mut self, seed: u64, latencies: &Latencies) {
        // Every node's uplink is one: without, there is no node to put pods into.
        let openable = sys::tun_device().map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    "let this user open it (it usually has mode 666), or run as root"
                }
                _ => {
                    "load the module (modprobe tun), or give the container in which this runs the \
                     device (--device /dev/net/tun)"
                }
            };
            io::Error::other(format!("/dev/net/tun cannot be opened ({error}); {hint}"))
        });
        let made = openable.and_then(|_| Network::new(seed, latencies).map_err(io::Error::other));
        let watched = made.and_then(|network| {
            for fd in network.fds() {
                let fd = fd.try_clone_to_owned()?;
                self.add(Source::Net(fd))?;
            }
            Ok(network)
        });
        match watched {
            Ok(network) => self.network = Some(network),
            Err(error) => {
                self.problem(format!(
                    "no network: pods reach nobody but themselves, no Traffic is sent, no name is \
                     looked up, NetworkChaos and DNSChaos do nothing: {error}"
                ));
            }
        }
    }

    /// Something for the network.
    pub(super) fn net(&mut self, command: Command) {
        let Some(network) = &mut self.network else {
            return;
        };
        let made = match &command {
            Command::Node(spec, _) => Some(spec.name.clone()),
            _ => None,
        };
        network.obey(command);
        // A machine that was switched on again has another namespace than before.
        if let Some(name) = made
            && let Some(node) = self.nodes.get_mut(&name)
            && let Ok(netns) = network.node(&name)
        {
            node.network = netns;
        }
        if let Err(error) = self.hear_network() {
            self.problem(format!("the network: {error}"));
        }
    }

    /// Passes on what the network tells.
    pub(super) fn hear_network(&mut self) -> io::Result<()> {
        let Some(network) = &mut self.network else {
            return Ok(());
        };
        for (at, report) in network.hear().map_err(io::Error::other)? {
            self.tell_stamped(Stamped {
                at,
                report: Report::Net(report),
            });
        }
        Ok(())
    }
}
