//! What is measured: the cases and their names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A way through the director.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Direct routing.
    Dr,
    /// IP-IP tunnel.
    Tun,
    /// Tunnel by GUE.
    Gue,
    /// NAT, from the client.
    NatRequest,
    /// NAT, from the real server.
    NatReply,
}

impl Method {
    /// Which way its packets go.
    #[must_use]
    pub fn direction(self) -> Direction {
        match self {
            Method::NatReply => Direction::Reply,
            Method::Dr | Method::Tun | Method::Gue | Method::NatRequest => Direction::Request,
        }
    }
}

/// From the client or from the real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// To a virtual service.
    Request,
    /// From a NAT real server.
    Reply,
}

/// What the packets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Traffic {
    /// Datagrams of 18 bytes.
    Udp,
    /// Segments without data of established connections.
    Tcp,
    /// As [`Traffic::Udp`], but 5 in 100 are fragments: the two of each twentieth datagram or so.
    UdpFragments,
    /// As [`Traffic::Udp`], over IPv6.
    Udp6,
    /// As [`Traffic::Tcp`], over IPv6.
    Tcp6,
}

/// The version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Traffic {
    /// Which version of IP the packets are.
    #[must_use]
    pub fn family(self) -> Family {
        match self {
            Traffic::Udp | Traffic::Tcp | Traffic::UdpFragments => Family::V4,
            Traffic::Udp6 | Traffic::Tcp6 => Family::V6,
        }
    }

    /// Whether the packets are TCP segments.
    #[must_use]
    pub fn is_tcp(self) -> bool {
        matches!(self, Traffic::Tcp | Traffic::Tcp6)
    }
}

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// How packets are forwarded.
    pub method: Method,
    /// What they are.
    pub traffic: Traffic,
    /// Connections in the table, which packets belong to in random order.
    pub connections: u32,
    /// Worker lcores.
    pub lcores: u8,
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Traffic::Udp => "udp",
            Traffic::Tcp => "tcp",
            Traffic::UdpFragments => "udp-frag5",
            Traffic::Udp6 => "udp6",
            Traffic::Tcp6 => "tcp6",
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = match self.method {
            Method::Dr => "dr",
            Method::Tun => "tun",
            Method::Gue => "gue",
            Method::NatRequest => "nat-request",
            Method::NatReply => "nat-reply",
        };
        let traffic = self.traffic;
        write!(f, "{method}.{traffic}.{}.lcores-{}", short(self.connections), self.lcores)
    }
}

/// `10k` for 10,000, `1m` for 1,000,000.
#[must_use]
pub fn short(number: u32) -> String {
    match number {
        n if n >= 1_000_000 && n.is_multiple_of(1_000_000) => format!("{}m", n / 1_000_000),
        n if n >= 1000 && n.is_multiple_of(1000) => format!("{}k", n / 1000),
        n => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_has_a_name() {
        let case = Case { method: Method::NatRequest, traffic: Traffic::Tcp, connections: 10_000, lcores: 2 };
        assert_eq!(case.to_string(), "nat-request.tcp.10k.lcores-2");
        assert_eq!([1, 500, 1_000_000, 1_500_000].map(short), ["1", "500", "1m", "1500k"]);
    }
}
