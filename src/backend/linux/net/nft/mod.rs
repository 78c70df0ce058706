//! Packet filters: what kube-proxy's nftables mode programs, by our own netlink batches.
//!
//! [`layout`] says which chains, sets and elements a node's Services need, as data that can be
//! printed and compared; [`batch`] and [`expr`] are the kernel's wire format; [`ruleset`] turns the
//! difference between two layouts into one transaction; [`program`] hands transactions to children
//! that wait for the kernel (8 to 16 ms each, whatever their size), so that many nodes are
//! programmed at the same time.
//!
//! What it does not know: Services and EndpointSlices as the API has them, or when kube-proxy would
//! sync.

pub mod batch;

pub mod expr;

pub mod layout;

pub mod ruleset;

pub mod program;

#[cfg(test)]
mod tests;
