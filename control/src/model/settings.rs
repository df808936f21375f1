//! What an operator can set of the whole director while it runs: IPVS's sysctls by their names.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The sysctls of `/proc/sys/net/ipv4/vs` that have a meaning here, with the kernel's defaults
/// (Linux `Documentation/networking/ipvs-sysctl.rst`), and what users of IPVS miss there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Any TCP segment without RST may open a connection, not SYN alone; for directors that stand in for each
    /// other.
    pub sloppy_tcp: bool,
    /// Any SCTP packet without ABORT may open a connection, not INIT alone.
    pub sloppy_sctp: bool,
    /// A packet of a connection whose real server was removed ends the connection at once and is treated as new;
    /// otherwise it is dropped.
    pub expire_nodest_conn: bool,
    /// A persistence template whose real server has weight 0 is used no more.
    pub expire_quiescent_template: bool,
    /// What a SYN on a known connection does, in bits. 1: schedule anew after TIME_WAIT and CLOSE. 2: also after a
    /// FIN_WAIT of which only the client's side is seen. 0: the real server stays. From 0 to 3.
    pub conn_reuse_mode: u8,
    /// Whether connections that carry little are ended at random: 0 never, 1 when memory runs short, 2 as 1 and
    /// begun already (it falls back to waiting when memory suffices again), 3 always.
    pub drop_entry: u8,
    /// Whether one in so many new connections is refused: 0 to 3 as `drop_entry`.
    pub drop_packet: u8,
    /// Whether TCP follows the stricter table of states: 0 to 3 as `drop_entry`.
    pub secure_tcp: u8,
    /// With `drop_packet` 3, one new connection in so many is refused; at least 1.
    pub am_droprate: u32,
    /// With fewer free entries in an lcore's connection table than this, memory is short and defences in mode 1
    /// arm. The kernel counts pages of memory, which says nothing about tables of fixed size.
    pub amemthresh: u32,
    /// The maximum segment size that a SYN announces is lowered to what fits the way through the director, a tunnel's
    /// header included. IPVS has no such thing.
    pub mss_clamp: bool,
    /// A service by mark that has no available real server lets packets pass to where they were going.
    pub cache_bypass: bool,
    /// A NAT real server's packet that belongs to no connection is answered with an ICMP error.
    pub nat_icmp_send: bool,
    /// An ICMP error about an unknown connection may itself be scheduled.
    pub schedule_icmp: bool,
    /// The outer header of a tunnel takes over "don't fragment" from the inner one.
    pub pmtu_disc: bool,
    /// How long an unused entry of the `lblc` scheduler lasts; whole seconds, at most [`Settings::MAX_EXPIRATION`].
    pub lblc_expiration: Duration,
    /// After how long without a change the `lblcr` scheduler takes the most loaded real server from a set; whole
    /// seconds, at most [`Settings::MAX_EXPIRATION`].
    pub lblcr_expiration: Duration,
    /// Whether rates are estimated.
    pub run_estimation: bool,
}

impl Settings {
    /// The longest expiration: 31 days, which the data plane's clock can tell from nothing.
    pub const MAX_EXPIRATION: Duration = Duration::from_secs(31 * 24 * 3600);
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            sloppy_tcp: false,
            sloppy_sctp: false,
            expire_nodest_conn: false,
            expire_quiescent_template: false,
            conn_reuse_mode: 1,
            drop_entry: 0,
            drop_packet: 0,
            secure_tcp: 0,
            am_droprate: 10,
            amemthresh: 1024,
            mss_clamp: false,
            cache_bypass: false,
            nat_icmp_send: false,
            schedule_icmp: false,
            pmtu_disc: true,
            lblc_expiration: Duration::from_secs(24 * 3600),
            lblcr_expiration: Duration::from_secs(24 * 3600),
            run_estimation: true,
        }
    }
}

/// A setting's value, as TOML, JSON and the command line have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SettingValue {
    /// On or off.
    Flag(bool),
    /// A number; of a flag, 0 or 1 as the kernel has them.
    Number(i64),
}

impl fmt::Display for SettingValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingValue::Flag(flag) => write!(f, "{flag}"),
            SettingValue::Number(number) => write!(f, "{number}"),
        }
    }
}

/// A setting that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// There is none of this name.
    #[error("there is no setting {name:?}")]
    Unknown {
        /// The name that was given.
        name: String,
    },
    /// It has no such value.
    #[error("setting {name} cannot be {value}")]
    Value {
        /// The setting.
        name: &'static str,
        /// What it was to be.
        value: SettingValue,
        /// The least and the greatest number; `None` of a flag.
        range: Option<(i64, i64)>,
    },
}

impl SettingError {
    /// A short name for programs that does not change.
    pub fn code(&self) -> &'static str {
        match self {
            SettingError::Unknown { .. } => "no-such-setting",
            SettingError::Value { .. } => "bad-setting",
        }
    }

    /// What the operator can do about it.
    pub fn remedy(&self) -> String {
        match self {
            SettingError::Unknown { .. } => format!("use one of {}", Settings::NAMES.join(", ")),
            SettingError::Value { range: None, .. } => "give true or false".to_owned(),
            SettingError::Value { range: Some((least, most)), .. } => {
                format!("give a number from {least} to {most}")
            }
        }
    }
}

/// Where a setting is kept, with what it can be.
enum Slot<'a> {
    Flag(&'a mut bool),
    Level(&'a mut u8),
    Count(&'a mut u32, u32),
    Seconds(&'a mut Duration),
}

impl Settings {
    /// Every setting's name, in the order in which they are listed.
    pub const NAMES: [&'static str; 18] = [
        "am_droprate",
        "amemthresh",
        "cache_bypass",
        "conn_reuse_mode",
        "drop_entry",
        "drop_packet",
        "expire_nodest_conn",
        "expire_quiescent_template",
        "lblc_expiration",
        "lblcr_expiration",
        "mss_clamp",
        "nat_icmp_send",
        "pmtu_disc",
        "run_estimation",
        "schedule_icmp",
        "secure_tcp",
        "sloppy_sctp",
        "sloppy_tcp",
    ];

    fn slot(&mut self, name: &str) -> Option<Slot<'_>> {
        Some(match name {
            "am_droprate" => Slot::Count(&mut self.am_droprate, 1),
            "amemthresh" => Slot::Count(&mut self.amemthresh, 0),
            "cache_bypass" => Slot::Flag(&mut self.cache_bypass),
            "conn_reuse_mode" => Slot::Level(&mut self.conn_reuse_mode),
            "drop_entry" => Slot::Level(&mut self.drop_entry),
            "drop_packet" => Slot::Level(&mut self.drop_packet),
            "expire_nodest_conn" => Slot::Flag(&mut self.expire_nodest_conn),
            "expire_quiescent_template" => Slot::Flag(&mut self.expire_quiescent_template),
            "lblc_expiration" => Slot::Seconds(&mut self.lblc_expiration),
            "lblcr_expiration" => Slot::Seconds(&mut self.lblcr_expiration),
            "mss_clamp" => Slot::Flag(&mut self.mss_clamp),
            "nat_icmp_send" => Slot::Flag(&mut self.nat_icmp_send),
            "pmtu_disc" => Slot::Flag(&mut self.pmtu_disc),
            "run_estimation" => Slot::Flag(&mut self.run_estimation),
            "schedule_icmp" => Slot::Flag(&mut self.schedule_icmp),
            "secure_tcp" => Slot::Level(&mut self.secure_tcp),
            "sloppy_sctp" => Slot::Flag(&mut self.sloppy_sctp),
            "sloppy_tcp" => Slot::Flag(&mut self.sloppy_tcp),
            _ => return None,
        })
    }

    /// The value of a setting; durations in seconds.
    pub fn get(mut self, name: &str) -> Option<SettingValue> {
        Some(match self.slot(name)? {
            Slot::Flag(flag) => SettingValue::Flag(*flag),
            Slot::Level(level) => SettingValue::Number((*level).into()),
            Slot::Count(count, _) => SettingValue::Number((*count).into()),
            Slot::Seconds(duration) => {
                SettingValue::Number(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX))
            }
        })
    }

    /// Sets one.
    ///
    /// # Errors
    /// There is none of this name, or it cannot have this value; nothing is changed then.
    pub fn set(&mut self, name: &str, value: SettingValue) -> Result<(), SettingError> {
        let unknown = || SettingError::Unknown { name: name.to_owned() };
        let name = Settings::NAMES.into_iter().find(|known| *known == name).ok_or_else(unknown)?;
        let within = |least: i64, most: i64| match value {
            SettingValue::Number(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(SettingError::Value { name, value, range: Some((least, most)) }),
        };
        let most_seconds = i64::try_from(Settings::MAX_EXPIRATION.as_secs()).unwrap_or(i64::MAX);
        match self.slot(name).ok_or_else(unknown)? {
            Slot::Flag(flag) => {
                *flag = match value {
                    SettingValue::Flag(value) => value,
                    SettingValue::Number(number @ (0 | 1)) => number == 1,
                    SettingValue::Number(_) => return Err(SettingError::Value { name, value, range: None }),
                }
            }
            Slot::Level(level) => *level = within(0, 3)? as u8,
            Slot::Count(count, least) => *count = within(least.into(), u32::MAX.into())? as u32,
            Slot::Seconds(duration) => *duration = Duration::from_secs(within(1, most_seconds)? as u64),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_read_and_set_by_its_name() {
        let mut settings = Settings::default();
        for name in Settings::NAMES {
            let before = settings.get(name).unwrap_or_else(|| panic!("{name} is there"));
            let other = match before {
                SettingValue::Flag(flag) => SettingValue::Flag(!flag),
                SettingValue::Number(2) => SettingValue::Number(3),
                SettingValue::Number(_) => SettingValue::Number(2),
            };
            settings.set(name, other).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(settings.get(name), Some(other));
            let text = serde_json::to_string(&other).expect("JSON");
            assert_eq!(serde_json::from_str::<SettingValue>(&text).ok(), Some(other));
        }
        // None of them is another's.
        assert!(!settings.pmtu_disc && settings.sloppy_tcp && settings.lblcr_expiration.as_secs() == 2);
        assert!(Settings::NAMES.is_sorted());
    }

    #[test]
    fn values_keep_to_their_ranges_and_flags_may_be_numbers() {
        let mut settings = Settings::default();
        settings.set("sloppy_tcp", SettingValue::Number(1)).expect("as the kernel has it");
        assert!(settings.sloppy_tcp);
        for (name, value) in [
            ("sloppy_tcp", SettingValue::Number(2)),
            ("secure_tcp", SettingValue::Number(4)),
            ("secure_tcp", SettingValue::Number(-1)),
            ("secure_tcp", SettingValue::Flag(true)),
            ("am_droprate", SettingValue::Number(0)),
            ("amemthresh", SettingValue::Number(1 << 32)),
            ("lblc_expiration", SettingValue::Number(0)),
            ("lblc_expiration", SettingValue::Number(2_678_401)),
        ] {
            let before = settings;
            let error = settings.set(name, value).expect_err("out of range");
            assert_eq!(error.code(), "bad-setting", "{error}");
            assert!(error.to_string().contains(name) && error.remedy().starts_with("give "));
            assert_eq!(settings, before);
        }
        let error = settings.set("backup_only", SettingValue::Flag(true)).expect_err("not here");
        assert_eq!(error.code(), "no-such-setting");
    }
}
