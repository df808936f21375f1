//! Which packets carry which mark. What netfilter's marks are to IPVS, these rules are to the director, which sees
//! packets before any netfilter does.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{ParseWordError, Protocol};

/// A mark, 1..=4294967295.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mark(pub NonZeroU32);

impl Mark {
    /// The lowest one.
    pub const FIRST: Mark = Mark(NonZeroU32::MIN);
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Mark {
    type Err = ParseWordError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseWordError::new("mark", text, "a whole number from 1 to 4294967295");
        text.parse().map(Mark).map_err(|_| wrong())
    }
}

/// A network: `10.99.0.0/24`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    /// Its first address.
    network: IpAddr,
    /// How many leading bits its addresses share.
    bits: u8,
}

impl Prefix {
    /// All addresses that share the first `bits` of `address`; `None` where an address has not so many.
    pub fn of(address: IpAddr, bits: u8) -> Option<Prefix> {
        let (width, value) = widened(address);
        (bits <= width).then(|| {
            let kept = value & mask(width, bits);
            let network = match address {
                IpAddr::V4(_) => Ipv4Addr::from_bits(kept as u32).into(),
                IpAddr::V6(_) => Ipv6Addr::from_bits(kept).into(),
            };
            Prefix { network, bits }
        })
    }

    /// Whether an address is of this network.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.network.is_ipv4() && {
            let (width, value) = widened(address);
            value & mask(width, self.bits) == widened(self.network).1
        }
    }

    /// Whether it is a network of IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.network.is_ipv4()
    }
}

/// How many bits an address has, and these.
fn widened(address: IpAddr) -> (u8, u128) {
    match address {
        IpAddr::V4(v4) => (32, v4.to_bits().into()),
        IpAddr::V6(v6) => (128, v6.to_bits()),
    }
}

/// The first `bits` of `width` ones.
fn mask(width: u8, bits: u8) -> u128 {
    let all = u128::MAX >> (128 - u32::from(width));
    all & !all.checked_shr(bits.into()).unwrap_or(0)
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Prefix { network, bits } = self;
        if *bits == widened(*network).0 { write!(f, "{network}") } else { write!(f, "{network}/{bits}") }
    }
}

impl FromStr for Prefix {
    type Err = ParseWordError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            ParseWordError::new("network", text, "ADDRESS or ADDRESS/BITS, e.g. 10.99.0.1 or 10.99.0.0/24")
        };
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = match bits {
            Some(bits) => bits.parse().map_err(|_| wrong())?,
            None => widened(address).0,
        };
        let prefix = Prefix::of(address, bits).ok_or_else(wrong)?;
        if prefix.network != address {
            let expected = "a network whose address has no ones after its prefix, e.g. 10.99.0.0/24";
            return Err(ParseWordError::new("network", text, expected));
        }
        Ok(prefix)
    }
}

/// Ports from one to another, both included.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PortRange(pub RangeInclusive<u16>);

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.0.start(), self.0.end());
        if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }
    }
}

impl FromStr for PortRange {
    type Err = ParseWordError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) if 0 < first && first <= last => Ok(PortRange(first..=last)),
            _ => Err(ParseWordError::new("range of ports", text, "PORT or FIRST-LAST, e.g. 80 or 8000-8010")),
        }
    }
}

/// Gives packets a mark for which everything holds that it asks for. Of several such rules the first one counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkRule {
    /// What such packets are marked with.
    pub mark: Mark,
    /// Their transport protocol; `None`: any of [`Protocol::ALL`].
    pub protocol: Option<Protocol>,
    /// Networks, one of which they come from; none: from anywhere.
    pub sources: Vec<Prefix>,
    /// Networks, one of which they go to; none: to anywhere.
    pub destinations: Vec<Prefix>,
    /// Ports, one of which they come from; none: from any.
    pub source_ports: Vec<PortRange>,
    /// Ports, one of which they go to; none: to any.
    pub destination_ports: Vec<PortRange>,
    /// The index of the port that receives them; `None`: any.
    pub ingress: Option<u8>,
    /// Their DSCP, 0..=63 (RFC 2474); `None`: any.
    pub dscp: Option<u8>,
}

impl fmt::Display for MarkRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MarkRule {
            mark,
            protocol,
            sources,
            destinations,
            source_ports,
            destination_ports,
            ingress,
            dscp,
        } = self;
        write!(f, "mark {mark}: {}", protocol.map_or("packets", Protocol::word))?;
        list(f, " from", sources)?;
        list(f, " from port", source_ports)?;
        list(f, " to", destinations)?;
        list(f, " to port", destination_ports)?;
        if let Some(ingress) = ingress {
            write!(f, " received by port {ingress}")?;
        }
        if let Some(dscp) = dscp {
            write!(f, " with DSCP {dscp}")?;
        }
        Ok(())
    }
}

fn list(f: &mut fmt::Formatter<'_>, what: &str, items: &[impl fmt::Display]) -> fmt::Result {
    let words: Vec<String> = items.iter().map(ToString::to_string).collect();
    if words.is_empty() { Ok(()) } else { write!(f, "{what} {}", words.join(" or ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_reads_as_address_and_bits() {
        for text in ["10.99.0.0/24", "10.99.0.1", "0.0.0.0/0", "2001:db8::/32", "2001:db8::1", "::/0"] {
            assert_eq!(text.parse::<Prefix>().map(|prefix| prefix.to_string()).as_deref(), Ok(text));
        }
        for bad in ["", "10.99.0.0/33", "10.99.0.1/24", "10.99.0/24", "::/129", "web/24", "10.0.0.0/", "/8"] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_network_has_the_addresses_that_share_its_bits() {
        for (network, address, inside) in [
            ("10.99.0.0/24", "10.99.0.255", true),
            ("10.99.0.0/24", "10.99.1.0", false),
            ("10.99.0.1", "10.99.0.1", true),
            ("10.99.0.1", "10.99.0.0", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "0.0.0.0", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
        ] {
            let prefix: Prefix = network.parse().expect(network);
            assert_eq!(prefix.contains(address.parse().expect(address)), inside, "{network} {address}");
        }
    }

    #[test]
    fn ports_read_as_one_or_as_a_range() {
        for text in ["80", "1-65535", "8000-8010"] {
            assert_eq!(text.parse::<PortRange>().map(|range| range.to_string()).as_deref(), Ok(text));
        }
        for bad in ["", "0", "0-5", "9-8", "65536", "80-", "-80", "http", "1-2-3"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad:?} was accepted");
        }
    }
}
