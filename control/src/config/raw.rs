//! The configuration as it was typed: every value of the right TOML type with its place, not yet understood.

use super::errors::{Complaints, Site};
use super::keys::keys_of;
use super::raw_check::{RawCheck, RawHealth};
use super::walk::{At, Table};
use crate::model::{SettingValue, Settings};

/// The whole file.
pub(super) struct RawConfig {
    pub(super) site: Site,
    pub(super) socket: Option<At<String>>,
    pub(super) history: Option<At<String>>,
    pub(super) hugepages: Option<At<String>>,
    pub(super) memory_mb: Option<At<i128>>,
    pub(super) mbufs: Option<At<i128>>,
    pub(super) eal_args: Option<At<Vec<At<String>>>>,
    pub(super) cpus: Option<At<Vec<At<i128>>>>,
    pub(super) idle: Option<At<String>>,
    pub(super) capacity: Option<At<i128>>,
    pub(super) ipv6_capacity: Option<At<i128>>,
    pub(super) templates: Option<At<i128>>,
    pub(super) max_services: Option<At<i128>>,
    pub(super) max_servers: Option<At<i128>>,
    pub(super) tcp: Option<At<i128>>,
    pub(super) tcp_fin: Option<At<i128>>,
    pub(super) udp: Option<At<i128>>,
    /// By name.
    pub(super) settings: Vec<(&'static str, At<SettingValue>)>,
    pub(super) ftp_ports: Option<At<Vec<At<i128>>>>,
    pub(super) has_port: bool,
    pub(super) ports: Vec<RawPort>,
    pub(super) marks: Vec<RawMark>,
    pub(super) services: Vec<RawService>,
}

/// One `[[mark]]`.
pub(super) struct RawMark {
    pub(super) site: Site,
    pub(super) has_mark: bool,
    pub(super) mark: Option<At<i128>>,
    /// Whether it has any key beside the mark.
    pub(super) asks: bool,
    pub(super) protocol: Option<At<String>>,
    pub(super) sources: Option<At<Vec<At<String>>>>,
    pub(super) destinations: Option<At<Vec<At<String>>>>,
    pub(super) source_ports: Option<At<Vec<At<String>>>>,
    pub(super) destination_ports: Option<At<Vec<At<String>>>>,
    pub(super) ingress: Option<At<i128>>,
    pub(super) dscp: Option<At<i128>>,
}

/// One `[[port]]`.
pub(super) struct RawPort {
    pub(super) site: Site,
    pub(super) has_device: bool,
    pub(super) device: Option<At<String>>,
    pub(super) has_mirror: bool,
    pub(super) mirror: Option<At<String>>,
    pub(super) mtu: Option<At<i128>>,
    pub(super) rx_descriptors: Option<At<i128>>,
    pub(super) tx_descriptors: Option<At<i128>>,
    pub(super) rss: Option<At<String>>,
}

/// One `[[service]]`.
pub(super) struct RawService {
    pub(super) site: Site,
    pub(super) has_protocol: bool,
    pub(super) protocol: Option<At<String>>,
    pub(super) has_address: bool,
    pub(super) address: Option<At<String>>,
    pub(super) has_mark: bool,
    pub(super) mark: Option<At<i128>>,
    pub(super) family: Option<At<String>>,
    pub(super) scheduler: Option<At<String>>,
    pub(super) fallback: Option<At<bool>>,
    pub(super) hash_port: Option<At<bool>>,
    pub(super) persistence_timeout: Option<At<i128>>,
    pub(super) persistence_granularity: Option<At<i128>>,
    pub(super) persistence_engine: Option<At<String>>,
    pub(super) one_packet: Option<At<bool>>,
    pub(super) health: RawHealth,
    pub(super) servers: Vec<RawServer>,
}

/// One `[[service.server]]`.
pub(super) struct RawServer {
    pub(super) site: Site,
    pub(super) has_address: bool,
    pub(super) address: Option<At<String>>,
    pub(super) method: Option<At<String>>,
    pub(super) tunnel: Option<At<String>>,
    pub(super) weight: Option<At<i128>>,
    pub(super) upper_threshold: Option<At<i128>>,
    pub(super) lower_threshold: Option<At<i128>>,
    pub(super) checks: Option<Vec<RawCheck>>,
}

impl RawConfig {
    /// Takes every value out of the file and complains of what has the wrong type and of unknown keys.
    pub(super) fn read(root: &Table<'_, '_>, complaints: &mut Complaints<'_>) -> RawConfig {
        let c = complaints;
        let dpdk = root.table("dpdk", c);
        let lcores = root.table("lcores", c);
        let connections = root.table("connections", c);
        let limits = root.table("limits", c);
        let timeouts = root.table("timeouts", c);
        RawConfig {
            site: root.site().clone(),
            socket: root.string("socket", c),
            history: root.string("history", c),
            hugepages: dpdk.as_ref().and_then(|table| table.string("hugepages", c)),
            memory_mb: dpdk.as_ref().and_then(|table| table.integer("memory_mb", c)),
            mbufs: dpdk.as_ref().and_then(|table| table.integer("mbufs", c)),
            eal_args: dpdk.as_ref().and_then(|table| table.strings("eal_args", c)),
            cpus: lcores.as_ref().and_then(|table| table.integers("cpus", c)),
            idle: lcores.as_ref().and_then(|table| table.string("idle", c)),
            capacity: connections.as_ref().and_then(|table| table.integer("capacity", c)),
            ipv6_capacity: connections.as_ref().and_then(|table| table.integer("ipv6_capacity", c)),
            templates: connections.as_ref().and_then(|table| table.integer("templates", c)),
            max_services: limits.as_ref().and_then(|table| table.integer("services", c)),
            max_servers: limits.as_ref().and_then(|table| table.integer("servers", c)),
            tcp: timeouts.as_ref().and_then(|table| table.integer("tcp", c)),
            tcp_fin: timeouts.as_ref().and_then(|table| table.integer("tcp_fin", c)),
            udp: timeouts.as_ref().and_then(|table| table.integer("udp", c)),
            settings: root.table("settings", c).map(|table| settings(&table, c)).unwrap_or_default(),
            ftp_ports: root.integers("ftp_ports", c),
            has_port: root.has_elements("port"),
            ports: root.tables("port", c).iter().map(|table| RawPort::read(table, c)).collect(),
            marks: root.tables("mark", c).iter().map(|table| RawMark::read(table, c)).collect(),
            services: root.tables("service", c).iter().map(|table| RawService::read(table, c)).collect(),
        }
    }
}

fn settings(table: &Table<'_, '_>, complaints: &mut Complaints<'_>) -> Vec<(&'static str, At<SettingValue>)> {
    let mut settings = Vec::new();
    for name in Settings::NAMES {
        let value = match Settings::default().get(name) {
            Some(SettingValue::Flag(_)) => table
                .boolean(name, complaints)
                .map(|At { value, site }| At { value: SettingValue::Flag(value), site }),
            _ => table.integer(name, complaints).map(|At { value, site }| {
                // What does not fit is out of every range.
                At { value: SettingValue::Number(i64::try_from(value).unwrap_or(i64::MAX)), site }
            }),
        };
        settings.extend(value.map(|value| (name, value)));
    }
    settings
}

impl RawPort {
    fn read(table: &Table<'_, '_>, complaints: &mut Complaints<'_>) -> RawPort {
        RawPort {
            site: table.site().clone(),
            has_device: table.has("device"),
            device: table.string("device", complaints),
            has_mirror: table.has("mirror"),
            mirror: table.string("mirror", complaints),
            mtu: table.integer("mtu", complaints),
            rx_descriptors: table.integer("rx_descriptors", complaints),
            tx_descriptors: table.integer("tx_descriptors", complaints),
            rss: table.string("rss", complaints),
        }
    }
}

impl RawMark {
    fn read(table: &Table<'_, '_>, complaints: &mut Complaints<'_>) -> RawMark {
        let asks = keys_of("mark").iter().any(|key| *key != "mark" && table.has(key));
        RawMark {
            site: table.site().clone(),
            has_mark: table.has("mark"),
            mark: table.integer("mark", complaints),
            asks,
            protocol: table.string("protocol", complaints),
            sources: table.strings("sources", complaints),
            destinations: table.strings("destinations", complaints),
            source_ports: table.strings("source_ports", complaints),
            destination_ports: table.strings("destination_ports", complaints),
            ingress: table.integer("ingress", complaints),
            dscp: table.integer("dscp", complaints),
        }
    }
}

impl RawService {
    fn read(table: &Table<'_, '_>, complaints: &mut Complaints<'_>) -> RawService {
        let servers = table.tables("service.server", complaints);
        RawService {
            site: table.site().clone(),
            has_protocol: table.has("protocol"),
            protocol: table.string("protocol", complaints),
            has_address: table.has("address"),
            address: table.string("address", complaints),
            has_mark: table.has("mark"),
            mark: table.integer("mark", complaints),
            family: table.string("family", complaints),
            scheduler: table.string("scheduler", complaints),
            fallback: table.boolean("fallback", complaints),
            hash_port: table.boolean("hash_port", complaints),
            persistence_timeout: table.integer("persistence_timeout", complaints),
            persistence_granularity: table.integer("persistence_granularity", complaints),
            persistence_engine: table.string("persistence_engine", complaints),
            one_packet: table.boolean("one_packet", complaints),
            health: RawHealth::read(table, complaints),
            servers: servers.iter().map(|table| RawServer::read(table, complaints)).collect(),
        }
    }
}

impl RawServer {
    fn read(table: &Table<'_, '_>, complaints: &mut Complaints<'_>) -> RawServer {
        RawServer {
            site: table.site().clone(),
            has_address: table.has("address"),
            address: table.string("address", complaints),
            method: table.string("method", complaints),
            tunnel: table.string("tunnel", complaints),
            weight: table.integer("weight", complaints),
            upper_threshold: table.integer("upper_threshold", complaints),
            lower_threshold: table.integer("lower_threshold", complaints),
            checks: RawCheck::read_all(table, "service.server.check", complaints),
        }
    }
}
