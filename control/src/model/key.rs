//! What names a virtual service.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Mark, ParseWordError, Protocol};

/// Version of the Internet Protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4; what is meant where nothing is said.
    #[default]
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// What names a virtual service: protocol, virtual address (VIP) and virtual port, or a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ServiceKey {
    /// What is sent to one address (`ipvsadm -t`, `-u`, `--sctp-service`).
    Address {
        /// Transport protocol.
        protocol: Protocol,
        /// VIP and port, e.g. `10.99.0.1:80` or `[2001:db8::80]:80`. Port 0 means every port that no other service of
        /// the VIP has.
        address: SocketAddr,
    },
    /// What a rule has given a mark (`ipvsadm -f`), of whatever protocols, addresses and ports.
    Mark {
        /// The mark.
        mark: Mark,
        /// Of which packets.
        family: Family,
    },
}

impl ServiceKey {
    /// The transport protocol, if it has but one.
    pub fn protocol(&self) -> Option<Protocol> {
        match self {
            ServiceKey::Address { protocol, .. } => Some(*protocol),
            ServiceKey::Mark { .. } => None,
        }
    }

    /// The VIP; of a service by mark, which has none, the family's unspecified address.
    pub fn ip(&self) -> IpAddr {
        match self {
            ServiceKey::Address { address, .. } => address.ip(),
            ServiceKey::Mark { family: Family::Ipv4, .. } => Ipv4Addr::UNSPECIFIED.into(),
            ServiceKey::Mark { family: Family::Ipv6, .. } => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// The virtual port; 0 where it has more than one.
    pub fn port(&self) -> u16 {
        match self {
            ServiceKey::Address { address, .. } => address.port(),
            ServiceKey::Mark { .. } => 0,
        }
    }

    /// Whose packets it is for.
    pub fn family(&self) -> Family {
        if self.ip().is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
    }

    /// Whether it is a service by mark.
    pub fn is_mark(&self) -> bool {
        matches!(self, ServiceKey::Mark { .. })
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceKey::Address { protocol, address } => write!(f, "{protocol} {address}"),
            ServiceKey::Mark { mark, family: Family::Ipv4 } => write!(f, "mark {mark}"),
            ServiceKey::Mark { mark, family: Family::Ipv6 } => write!(f, "mark {mark}/ipv6"),
        }
    }
}

impl FromStr for ServiceKey {
    type Err = ParseWordError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            let expected =
                "PROTOCOL ADDRESS:PORT, e.g. tcp 10.0.0.1:80, or mark N, e.g. mark 1 or mark 1/ipv6";
            ParseWordError::new("virtual service", text, expected)
        };
        let mut words = text.split_ascii_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("mark"), Some(mark), None) => {
                let (mark, family) = mark.split_once('/').map_or((mark, None), |(m, f)| (m, Some(f)));
                let family = family.map(str::parse).transpose()?.unwrap_or_default();
                Ok(ServiceKey::Mark { mark: mark.parse()?, family })
            }
            (Some(protocol), Some(address), None) => {
                let protocol = protocol.parse()?;
                Ok(ServiceKey::Address { protocol, address: address.parse().map_err(|_| wrong())? })
            }
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_reads_as_protocol_and_address_or_as_mark() {
        let texts = ["tcp 10.0.0.1:80", "udp [2001:db8::53]:53", "mark 1", "mark 4294967295/ipv6"];
        for text in texts {
            assert_eq!(text.parse::<ServiceKey>().map(|key| key.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("mark 1/ipv4".parse::<ServiceKey>(), "mark 1".parse());
        let bad = [
            "",
            "tcp",
            "tcp 10.0.0.1",
            "dccp 10.0.0.1:80",
            "tcp 10.0.0.1:80 rr",
            "tcp:10.0.0.1:80",
            "mark",
            "mark 0",
            "mark -1",
            "mark 4294967296",
            "mark 1/ipv5",
            "mark 1 ipv6",
        ];
        for bad in bad {
            assert!(bad.parse::<ServiceKey>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn json_has_the_fields_of_either_kind() {
        for (text, json) in [
            ("tcp 10.0.0.1:80", r#"{"protocol":"tcp","address":"10.0.0.1:80"}"#),
            ("mark 7/ipv6", r#"{"mark":7,"family":"ipv6"}"#),
        ] {
            let key: ServiceKey = text.parse().expect(text);
            assert_eq!(serde_json::to_string(&key).expect("always JSON"), json);
            assert_eq!(serde_json::from_str::<ServiceKey>(json).expect(json), key);
        }
    }

    #[test]
    fn a_mark_has_neither_address_nor_port_of_its_own() {
        let key: ServiceKey = "mark 7/ipv6".parse().expect("a key");
        assert_eq!((key.ip().to_string().as_str(), key.port(), key.protocol()), ("::", 0, None));
        assert_eq!(key.family(), Family::Ipv6);
    }
}
