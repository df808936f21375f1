//! Persistence of a virtual service: a client comes back to the real server that it had.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How clients are kept together (`ipvsadm -p` and `-M`): those whose addresses have the same first bits share a
/// persistence template, which names their real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Persistence {
    /// How long a template lasts after the last new connection by it. Whole seconds, at most
    /// [`Persistence::MAX_TIMEOUT`]; seconds in JSON.
    #[serde(serialize_with = "as_seconds", deserialize_with = "from_seconds")]
    pub timeout: Duration,
    /// How many bits of a client's address count, from 1; all of them tell every client from every other.
    pub granularity: u8,
}

impl Persistence {
    /// What `ipvsadm -p` means without a number (`IP_VS_TEMPLATE_TIMEOUT` in ipvsadm's `libipvs.h`; its manual
    /// says 300).
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(360);

    /// The longest timeout, as ipvsadm has it: 31 days.
    pub const MAX_TIMEOUT: Duration = Duration::from_secs(31 * 24 * 3600);

    /// ipvsadm's default for a service with this VIP: 360 s, every client by itself.
    pub fn default_of(vip: IpAddr) -> Persistence {
        Persistence { timeout: Persistence::DEFAULT_TIMEOUT, granularity: Persistence::widest(vip) }
    }

    /// How many bits an address of this family has.
    pub fn widest(vip: IpAddr) -> u8 {
        if vip.is_ipv4() { 32 } else { 128 }
    }

    /// The part of a client's address that counts, the rest 0.
    pub fn network(&self, client: IpAddr) -> IpAddr {
        match client {
            IpAddr::V4(client) => {
                let host_bits = 32 - u32::from(self.granularity.min(32));
                IpAddr::V4((u32::from(client) & u32::MAX.checked_shl(host_bits).unwrap_or(0)).into())
            }
            IpAddr::V6(client) => {
                let host_bits = 128 - u32::from(self.granularity.min(128));
                IpAddr::V6((u128::from(client) & u128::MAX.checked_shl(host_bits).unwrap_or(0)).into())
            }
        }
    }
}

fn as_seconds<S: Serializer>(timeout: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(timeout.as_secs())
}

fn from_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

/// What an edit makes of a service's persistence. What is not given stays as it was; of a service that was not
/// persistent, it is the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersistenceEdit {
    /// Persistent no longer. Templates that exist are not used any more.
    Off,
    /// Persistent from now on.
    On {
        /// The new timeout.
        timeout: Option<Duration>,
        /// The new granularity, in bits.
        granularity: Option<u8>,
    },
}

impl PersistenceEdit {
    /// What the persistence of a service with this VIP is after the edit.
    pub fn of(self, before: Option<Persistence>, vip: IpAddr) -> Option<Persistence> {
        let PersistenceEdit::On { timeout, granularity } = self else { return None };
        let before = before.unwrap_or_else(|| Persistence::default_of(vip));
        Some(Persistence {
            timeout: timeout.unwrap_or(before.timeout),
            granularity: granularity.unwrap_or(before.granularity),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_one_network_are_one() {
        let network = |client: &str, granularity| {
            let persistence = Persistence { timeout: Persistence::DEFAULT_TIMEOUT, granularity };
            persistence.network(client.parse().expect("an address")).to_string()
        };
        assert_eq!(network("192.0.2.77", 32), "192.0.2.77");
        assert_eq!(network("192.0.2.77", 24), "192.0.2.0");
        assert_eq!(network("192.0.2.77", 1), "128.0.0.0");
        assert_eq!(network("2001:db8:1:2::77", 128), "2001:db8:1:2::77");
        assert_eq!(network("2001:db8:1:2::77", 64), "2001:db8:1:2::");
        assert_eq!(network("2001:db8:1:2::77", 0), "::", "never in a valid service, and no panic either");
        assert_eq!(network("192.0.2.77", 0), "0.0.0.0");
    }

    #[test]
    fn what_an_edit_does_not_give_stays() {
        let vip = "10.99.0.1".parse().expect("an address");
        let on = |timeout, granularity| PersistenceEdit::On {
            timeout: Some(timeout).filter(|t| *t > 0).map(Duration::from_secs),
            granularity,
        };
        let before = on(0, Some(24)).of(None, vip);
        assert_eq!(before, Some(Persistence { timeout: Duration::from_secs(360), granularity: 24 }));
        let after = on(60, None).of(before, vip);
        assert_eq!(after, Some(Persistence { timeout: Duration::from_secs(60), granularity: 24 }));
        assert_eq!(PersistenceEdit::Off.of(after, vip), None);
    }

    #[test]
    fn in_json_the_timeout_is_seconds() {
        let persistence = Persistence { timeout: Duration::from_secs(300), granularity: 24 };
        let json = serde_json::to_string(&persistence).expect("JSON");
        assert_eq!(json, r#"{"timeout":300,"granularity":24}"#);
        assert_eq!(serde_json::from_str::<Persistence>(&json).ok(), Some(persistence));
    }
}
