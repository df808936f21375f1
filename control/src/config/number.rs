//! The ranges of the configuration's numbers.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::errors::Complaints;
use super::walk::At;

/// Highest number of ports: what the data plane keeps room for.
pub(super) const MAX_PORTS: usize = 16;
/// Highest number of worker lcores: a DPDK build has room for 128 lcores, one of which is the main one.
pub(super) const MAX_WORKERS: usize = 127;

pub(super) const MEMORY_MB: RangeInclusive<u32> = 64..=1_048_576;
pub(super) const MBUFS: RangeInclusive<u32> = 512..=16_777_216;
pub(super) const CPU: RangeInclusive<u32> = 0..=1023;
pub(super) const CAPACITY: RangeInclusive<u32> = 1..=268_435_456;
pub(super) const TEMPLATES: RangeInclusive<u32> = 1..=16_777_216;
pub(super) const SERVICES: RangeInclusive<u32> = 1..=65_536;
pub(super) const SERVERS: RangeInclusive<u32> = 1..=1_048_576;
pub(super) const SECONDS: RangeInclusive<u32> = 1..=2_678_400;
/// From what IPv4 asks of every link to the usual jumbo frame.
pub(super) const MTU: RangeInclusive<u16> = 68..=9216;
pub(super) const DESCRIPTORS: RangeInclusive<u16> = 64..=32_768;
/// What is looked through for every packet of no connection.
pub(super) const MAX_MARK_RULES: usize = 256;
pub(super) const MARK: RangeInclusive<u32> = 1..=u32::MAX;
/// Six bits (RFC 2474).
pub(super) const DSCP: RangeInclusive<u8> = 0..=63;
pub(super) const FTP_PORT: u16 = 21;
/// As many as `ip_vs_ftp` takes.
pub(super) const MAX_FTP_PORTS: usize = 8;
pub(super) const TCP_PORT: RangeInclusive<u16> = 1..=u16::MAX;
pub(super) const WEIGHT: RangeInclusive<u16> = 0..=65_535;
pub(super) const THRESHOLD: RangeInclusive<u32> = 0..=u32::MAX;
/// In bits; what a service's family allows of it is the model's matter.
pub(super) const GRANULARITY: RangeInclusive<u8> = 0..=128;

pub(super) const PORT: RangeInclusive<u16> = 1..=65_535;
/// In seconds.
pub(super) const INTERVAL: RangeInclusive<f64> = 0.05..=86_400.0;
/// In seconds.
pub(super) const SLOW_START: RangeInclusive<f64> = 0.0..=86_400.0;
/// In seconds. Signs are looked at four times in one.
pub(super) const SIGNS: RangeInclusive<f64> = 1.0..=86_400.0;
pub(super) const TIMES: RangeInclusive<u32> = 1..=1000;
pub(super) const JITTER: RangeInclusive<u8> = 0..=50;
pub(super) const PERCENT: RangeInclusive<u8> = 0..=100;
pub(super) const QUORUM: RangeInclusive<u32> = 1..=u32::MAX;
pub(super) const HYSTERESIS: RangeInclusive<u32> = 0..=u32::MAX;

/// The time if it is given, in seconds, and within the range. Complains of one that is outside.
pub(super) fn seconds(
    given: Option<&At<f64>>,
    range: RangeInclusive<f64>,
    complaints: &mut Complaints<'_>,
) -> Option<Duration> {
    let At { value, site } = given?;
    if range.contains(value) {
        return Some(Duration::from_secs_f64(*value));
    }
    let (least, most) = (range.start(), range.end());
    let remedy = format!("give seconds from {least} to {most}; fractions as 0.5 are allowed");
    complaints.add(site, format!("{value} is out of range"), remedy);
    None
}

/// The number if it is given and within the range. Complains of one that is outside.
pub(super) fn within<T>(
    given: Option<&At<i128>>,
    range: RangeInclusive<T>,
    complaints: &mut Complaints<'_>,
) -> Option<T>
where
    T: Copy + TryFrom<i128> + Into<i128>,
{
    let At { value, site } = given?;
    let (least, most): (i128, i128) = ((*range.start()).into(), (*range.end()).into());
    if (least..=most).contains(value)
        && let Ok(value) = T::try_from(*value)
    {
        return Some(value);
    }
    complaints.add(site, format!("{value} is out of range"), format!("give a number from {least} to {most}"));
    None
}
