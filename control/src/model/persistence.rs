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
    /// How many bits of a client's address count, from 1; all of them tell every client from every other. With
    /// [`PersistenceEngine::Sip`] from 0: then whoever names a Call-ID is one.
    pub granularity: u8,
    /// What else of a packet is looked at.
    #[serde(default, skip_serializing_if = "PersistenceEngine::is_none")]
    pub engine: PersistenceEngine,
}

/// What in a packet names its template, besides the client's address (`ipvsadm --pe`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PersistenceEngine {
    /// Nothing.
    #[default]
    None,
    /// SIP's Call-ID: a call keeps its real server. Of UDP only.
    Sip,
}

impl PersistenceEngine {
    /// There is none.
    pub fn is_none(&self) -> bool {
        *self == PersistenceEngine::None
    }
}

impl Persistence {
    /// What `ipvsadm -p` means without a number (`IP_VS_TEMPLATE_TIMEOUT` in ipvsadm's `libipvs.h`; its manual
    /// says 300).
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(360);

    /// The longest timeout, as ipvsadm has it: 31 days.
    pub const MAX_TIMEOUT: Duration = Duration::from_secs(31 * 24 * 3600);

    /// ipvsadm's default for a service with this VIP: 360 s, every client by itself.
    pub fn default_of(vip: IpAddr) -> Persistence {
        Persistence::of_clients(Persistence::DEFAULT_TIMEOUT, Persistence::widest(vip))
    }

    /// Without an engine.
    pub fn of_clients(timeout: Duration, granularity: u8) -> Persistence {
        Persistence { timeout, granularity, engine: PersistenceEngine::None }
    }

    /// The fewest bits of a client's address that can count.
    pub fn least(&self) -> u8 {
        if self.engine.is_none() { 1 } else { 0 }
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
        /// The new engine.
        engine: Option<PersistenceEngine>,
    },
}

impl PersistenceEdit {
    /// What the persistence of a service with this VIP is after the edit.
    pub fn of(self, before: Option<Persistence>, vip: IpAddr) -> Option<Persistence> {
        let PersistenceEdit::On { timeout, granularity, engine } = self else { return None };
        let asks_for_nothing =
            timeout.is_none() && granularity.is_none() && engine == Some(PersistenceEngine::None);
        if before.is_none() && asks_for_nothing {
            return None;
        }
        let before = before.unwrap_or_else(|| Persistence::default_of(vip));
        Some(Persistence {
            timeout: timeout.unwrap_or(before.timeout),
            granularity: granularity.unwrap_or(before.granularity),
            engine: engine.unwrap_or(before.engine),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_one_network_are_one() {
        let network = |client: &str, granularity| {
            let persistence = Persistence::of_clients(Persistence::DEFAULT_TIMEOUT, granularity);
            persistence.network(client.parse().expect("an address")).to_string()
        };
        assert_eq!(network("192.0.2.77", 32), "192.0.2.77");
        assert_eq!(network("192.0.2.77", 24), "192.0.2.0");
        assert_eq!(network("192.0.2.77", 1), "128.0.0.0");
        assert_eq!(network("2001:db8:1:2::77", 128), "2001:db8:1:2::77");
        assert_eq!(network("2001:db8:1:2::77", 64), "2001:db8:1:2::");
        assert_eq!(network("2001:db8:1:2::77", 0), "::");
        assert_eq!(network("192.0.2.77", 0), "0.0.0.0");
    }

    #[test]
    fn what_an_edit_does_not_give_stays() {
        let vip = "10.99.0.1".parse().expect("an address");
        let on = |timeout, granularity| PersistenceEdit::On {
            timeout: Some(timeout).filter(|t| *t > 0).map(Duration::from_secs),
            granularity,
            engine: None,
        };
        let before = on(0, Some(24)).of(None, vip);
        assert_eq!(before, Some(Persistence::of_clients(Duration::from_secs(360), 24)));
        let after = on(60, None).of(before, vip);
        assert_eq!(after, Some(Persistence::of_clients(Duration::from_secs(60), 24)));
        let engine = |engine| PersistenceEdit::On { timeout: None, granularity: None, engine: Some(engine) };
        let by_call = engine(PersistenceEngine::Sip).of(after, vip).expect("persistent");
        assert_eq!((by_call.engine, by_call.granularity), (PersistenceEngine::Sip, 24));
        assert_eq!(on(60, None).of(Some(by_call), vip), Some(by_call));
        assert_eq!(engine(PersistenceEngine::None).of(Some(by_call), vip), after);
        assert_eq!(engine(PersistenceEngine::None).of(None, vip), None);
        assert_eq!(PersistenceEdit::Off.of(after, vip), None);
    }

    #[test]
    fn in_json_the_timeout_is_seconds() {
        let mut persistence = Persistence::of_clients(Duration::from_secs(300), 24);
        for (engine, want) in [
            (PersistenceEngine::None, r#"{"timeout":300,"granularity":24}"#),
            (PersistenceEngine::Sip, r#"{"timeout":300,"granularity":24,"engine":"sip"}"#),
        ] {
            persistence.engine = engine;
            let json = serde_json::to_string(&persistence).expect("JSON");
            assert_eq!(json, want);
            assert_eq!(serde_json::from_str::<Persistence>(&json).ok(), Some(persistence));
        }
    }
}
