//! How a packet is wrapped on its way to a real server by tunnel.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::text::ParseWordError;

/// What stands between a tunnel's outer IP header and the client's packet (`ipvsadm --tun-type`). In one word:
/// `ipip`, `gue:6080`, `gue:6080:csum`, `gue:6080:remcsum`, `gre`, `gre:csum`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tunnel {
    /// Nothing (RFC 2003, RFC 2473, RFC 4213).
    #[default]
    Ipip,
    /// Generic UDP encapsulation, version 0 (draft-ietf-intarea-gue).
    Gue {
        /// The UDP port where the real server takes packets out of the tunnel.
        port: NonZeroU16,
        /// What protects the packet.
        checksum: GueChecksum,
    },
    /// Generic routing encapsulation (RFC 2784), without key and sequence number.
    Gre {
        /// Whether its header has a checksum, which covers the packet too.
        checksum: bool,
    },
}

/// Checksum of GUE (`ipvsadm --tun-nocsum`, `--tun-csum`, `--tun-remcsum`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum GueChecksum {
    /// None: the UDP checksum is 0 (RFC 6935 for IPv6).
    #[default]
    None,
    /// The UDP checksum over all of it.
    Full,
    /// Remote checksum offload. It stands for a checksum that the sender left open, and packets that are forwarded
    /// have all of theirs: as in a kernel then, the UDP checksum is there and the option is not.
    Remote,
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tunnel::Ipip => f.write_str("ipip"),
            Tunnel::Gue { port, checksum } => {
                write!(f, "gue:{port}")?;
                f.write_str(match checksum {
                    GueChecksum::None => "",
                    GueChecksum::Full => ":csum",
                    GueChecksum::Remote => ":remcsum",
                })
            }
            Tunnel::Gre { checksum: false } => f.write_str("gre"),
            Tunnel::Gre { checksum: true } => f.write_str("gre:csum"),
        }
    }
}

impl FromStr for Tunnel {
    type Err = ParseWordError;

    fn from_str(text: &str) -> Result<Tunnel, ParseWordError> {
        let wrong = || {
            ParseWordError::new(
                "tunnel",
                text,
                "ipip, gre, gre:csum, gue:PORT, gue:PORT:csum or gue:PORT:remcsum",
            )
        };
        match text {
            "ipip" => return Ok(Tunnel::Ipip),
            "gre" => return Ok(Tunnel::Gre { checksum: false }),
            "gre:csum" => return Ok(Tunnel::Gre { checksum: true }),
            _ => {}
        }
        let (port, checksum) = match text.strip_prefix("gue:").ok_or_else(wrong)?.split_once(':') {
            Some((port, "csum")) => (port, GueChecksum::Full),
            Some((port, "remcsum")) => (port, GueChecksum::Remote),
            Some(_) => return Err(wrong()),
            None => (text.strip_prefix("gue:").ok_or_else(wrong)?, GueChecksum::None),
        };
        let port = port.parse().map_err(|_| wrong())?;
        Ok(Tunnel::Gue { port, checksum })
    }
}

impl Serialize for Tunnel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Tunnel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tunnel, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_word_that_reads_back() {
        for word in ["ipip", "gue:6080", "gue:1:csum", "gue:65535:remcsum", "gre", "gre:csum"] {
            assert_eq!(word.parse::<Tunnel>().map(|tunnel| tunnel.to_string()), Ok(word.to_owned()));
        }
        assert_eq!(Tunnel::default().to_string(), "ipip");
    }

    #[test]
    fn another_word_is_told_what_would_have_been_right() {
        for word in
            ["", "gue", "gue:", "gue:0", "gue:65536", "gue:6080:", "gue:6080:nocsum", "gre:remcsum", "vxlan"]
        {
            let error = word.parse::<Tunnel>().expect_err(word).to_string();
            assert!(error.ends_with("gue:PORT:csum or gue:PORT:remcsum"), "{error}");
        }
    }
}
