//! IP addresses and networks (`IsValidIPForLegacyField`, `IsValidCIDRForLegacyField`), strict since
//! 1.36.

use std::net::{IpAddr, Ipv4Addr};

use super::field::{At, Errors};

/// A single address; leading zeros are refused.
pub(super) fn address(text: &str, at: &At<'_>, errors: &mut Errors) {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(six)) if six.to_ipv4_mapped().is_some() => {
            errors.invalid(at, text, "must not be an IPv4-mapped IPv6 address");
        }
        Ok(_) => {}
        Err(_) if sloppy(text).is_some() => {
            errors.invalid(at, text, "must not have leading 0s");
        }
        Err(_) => errors.invalid(
            at,
            text,
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
    }
}

/// An address that may have leading zeros (`netutils.ParseIPSloppy`).
pub(super) fn parse(text: &str) -> Option<IpAddr> {
    let ip = text.parse().ok();
    let ip = ip.or_else(|| sloppy(text).map(IpAddr::from))?;
    Some(match ip {
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or(ip, IpAddr::from),
        ip => ip,
    })
}

/// An IPv4 address that may have leading zeros.
fn sloppy(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u8> = text
        .split('.')
        .map(|part| match part.trim_start_matches('0') {
            "" if part.is_empty() => None,
            "" => Some(0),
            digits => digits.parse().ok(),
        })
        .collect::<Option<_>>()?;
    let [a, b, c, d] = parts.as_slice() else {
        return None;
    };
    Some(Ipv4Addr::new(*a, *b, *c, *d))
}

/// The parts of a network in CIDR notation; leading zeros count for nothing
/// (`netutils.ParseCIDRSloppy`).
pub(super) fn parse_network(text: &str) -> Option<(IpAddr, u8)> {
    let (ip, bits) = text.split_once('/')?;
    let ip = ip.parse().ok().or_else(|| sloppy(ip).map(IpAddr::from))?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    let digits = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    let bits = bits.trim_start_matches('0');
    let bits = if bits.is_empty() { "0" } else { bits };
    let bits: u8 = bits.parse().ok().filter(|_| digits)?;
    (bits <= most).then_some((ip, bits))
}

/// `IsValidCIDRForLegacyField`, strictly: bits beyond the prefix must be 0.
pub(super) fn network(text: &str, at: &At<'_>, errors: &mut Errors) {
    let Some((ip, bits)) = parse_network(text) else {
        let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        errors.invalid(at, text, detail);
        return;
    };
    let (address, prefix) = text.split_once('/').unwrap_or_default();
    if address.parse::<IpAddr>().is_err() || prefix != bits.to_string() {
        let detail = "must not have leading 0s in IP or prefix length";
        errors.invalid(at, text, detail);
    } else if matches!(ip, IpAddr::V6(six) if six.to_ipv4_mapped().is_some()) {
        let detail = "must not have an IPv4-mapped IPv6 address";
        errors.invalid(at, text, detail);
    } else if first_address(ip, bits) != ip {
        let detail = "must not have bits set beyond the prefix length";
        errors.invalid(at, text, detail);
    }
}

/// The first address of a network.
pub(super) fn first_address(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            Ipv4Addr::from(u32::from(ip) & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            std::net::Ipv6Addr::from(u128::from(ip) & mask).into()
        }
    }
}
