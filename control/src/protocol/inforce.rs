//! What is in force for the whole director, as it answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{SettingValue, Settings, Timeouts};

/// What is set of the whole director.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsList {
    /// Every setting by its name.
    pub settings: BTreeMap<String, SettingValue>,
}

impl From<Settings> for SettingsList {
    fn from(settings: Settings) -> Self {
        let named = |name: &str| Some((name.to_owned(), settings.get(name)?));
        SettingsList { settings: Settings::NAMES.into_iter().filter_map(named).collect() }
    }
}

/// When connections time out, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeoutsInForce {
    /// An established TCP connection without packets.
    pub tcp: u64,
    /// A TCP connection after the first FIN.
    pub tcp_fin: u64,
    /// A UDP connection without packets.
    pub udp: u64,
}

impl From<Timeouts> for TimeoutsInForce {
    fn from(timeouts: Timeouts) -> Self {
        let Timeouts { tcp, tcp_fin, udp } = timeouts;
        TimeoutsInForce { tcp: tcp.as_secs(), tcp_fin: tcp_fin.as_secs(), udp: udp.as_secs() }
    }
}
