//! The configuration as it is meant: defaults filled in, ranges kept, nothing twice.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use super::errors::Complaints;
use super::marks::marks;
use super::number::{self, within};
use super::raw::{RawConfig, RawPort};
use super::services::{services, word};
use super::walk::At;
use super::{
    Config, Connections, DEFAULT_HISTORY, DEFAULT_SOCKET, Dpdk, Hugepages, Idle, Lcores, Port, device,
};
use crate::model::{Limits, Model, Settings, Timeouts};

/// A Unix socket's path has 108 bytes with the final zero.
const MAX_SOCKET_PATH: usize = 107;

/// Understands the file. What it returns counts only if nothing was complained of.
pub(super) fn config(raw: &RawConfig, complaints: &mut Complaints<'_>) -> Config {
    let limits = limits(raw, complaints);
    let (services, health) = services(&raw.services, &limits, complaints);
    let model = Model::new(services, &limits).unwrap_or_else(|error| {
        // Whatever breaks a rule has been complained of at its own line; this makes sure of it.
        if complaints.is_empty() {
            complaints.add(&raw.site, error.to_string(), error.remedy());
        }
        Model::default()
    });
    Config {
        socket: socket(raw, complaints),
        history: history(raw, complaints),
        dpdk: dpdk(raw, complaints),
        lcores: lcores(raw, complaints),
        connections: connections(raw, complaints),
        limits,
        timeouts: timeouts(raw, complaints),
        settings: settings(raw, complaints),
        ftp_ports: ftp_ports(raw, complaints),
        ports: ports(raw, complaints),
        marks: marks(&raw.marks, raw.ports.len(), complaints),
        model,
        health,
    }
}

/// FTP's own port, unless it is said.
fn ftp_ports(raw: &RawConfig, complaints: &mut Complaints<'_>) -> Vec<u16> {
    let Some(At { value: given, .. }) = &raw.ftp_ports else { return vec![number::FTP_PORT] };
    if let Some(extra) = given.get(number::MAX_FTP_PORTS) {
        let most = number::MAX_FTP_PORTS;
        complaints.add(&extra.site, "there is no room for this port", format!("name at most {most} ports"));
    }
    let mut ports = Vec::with_capacity(given.len());
    for at in given {
        let Some(port) = within(Some(at), number::TCP_PORT, complaints) else { continue };
        if ports.contains(&port) {
            complaints.add(&at.site, format!("port {port} is named twice"), "name every port once");
        }
        ports.push(port);
    }
    ports
}

fn socket(raw: &RawConfig, complaints: &mut Complaints<'_>) -> PathBuf {
    let Some(At { value, site }) = &raw.socket else {
        return PathBuf::from(DEFAULT_SOCKET);
    };
    if value.is_empty() || value.contains('\0') {
        complaints.add(site, "this is not a path", format!("write e.g. \"{DEFAULT_SOCKET}\""));
    } else if value.len() > MAX_SOCKET_PATH {
        complaints.add(
            site,
            format!("the path of a Unix socket cannot have {} bytes", value.len()),
            format!("use a path of at most {MAX_SOCKET_PATH} bytes"),
        );
    }
    PathBuf::from(value)
}

/// A daemon's working directory is nobody's choice.
fn history(raw: &RawConfig, complaints: &mut Complaints<'_>) -> PathBuf {
    let Some(At { value, site }) = &raw.history else {
        return PathBuf::from(DEFAULT_HISTORY);
    };
    if !value.starts_with('/') || value.contains('\0') {
        let reason = format!("{value:?} is not a full path");
        complaints.add(site, reason, format!("write e.g. \"{DEFAULT_HISTORY}\""));
    }
    PathBuf::from(value)
}

/// Of IPv6 there is as much room as of IPv4, unless it is said.
fn connections(raw: &RawConfig, complaints: &mut Complaints<'_>) -> Connections {
    let default = Connections::default();
    let capacity = within(raw.capacity.as_ref(), number::CAPACITY, complaints);
    let ipv6_capacity = within(raw.ipv6_capacity.as_ref(), number::CAPACITY, complaints).or(capacity);
    let templates = within(raw.templates.as_ref(), number::TEMPLATES, complaints);
    Connections {
        capacity: capacity.unwrap_or(default.capacity),
        ipv6_capacity: ipv6_capacity.unwrap_or(default.ipv6_capacity),
        templates: templates.unwrap_or(default.templates),
    }
}

fn dpdk(raw: &RawConfig, complaints: &mut Complaints<'_>) -> Dpdk {
    let default = Dpdk::default();
    let hugepages = word(raw.hugepages.as_ref(), Hugepages::ALL, Hugepages::word, complaints);
    let mut eal_args = Vec::new();
    for At { value, site } in raw.eal_args.iter().flat_map(|at| &at.value) {
        if value.is_empty() || value.contains('\0') {
            complaints.add(site, "this is not an argument", "write one argument of the EAL per string");
        }
        eal_args.push(value.clone());
    }
    Dpdk {
        hugepages: hugepages.unwrap_or(default.hugepages),
        memory_mb: within(raw.memory_mb.as_ref(), number::MEMORY_MB, complaints).unwrap_or(default.memory_mb),
        mbufs: within(raw.mbufs.as_ref(), number::MBUFS, complaints),
        eal_args,
    }
}

fn lcores(raw: &RawConfig, complaints: &mut Complaints<'_>) -> Lcores {
    let idle = word(raw.idle.as_ref(), Idle::ALL, Idle::word, complaints).unwrap_or_default();
    let cpus = raw.cpus.as_ref().map(|At { value: given, site }| {
        if given.is_empty() {
            complaints.add(
                site,
                "a director without worker lcores forwards nothing",
                "name at least one CPU, or leave `cpus` out",
            );
        }
        if let Some(extra) = given.get(number::MAX_WORKERS) {
            complaints.add(
                &extra.site,
                "DPDK has no room for this lcore",
                format!("name at most {} CPUs", number::MAX_WORKERS),
            );
        }
        let mut cpus = Vec::with_capacity(given.len());
        for at in given {
            let Some(cpu) = within(Some(at), number::CPU, complaints) else {
                continue;
            };
            if cpus.contains(&cpu) {
                complaints.add(&at.site, format!("CPU {cpu} is named twice"), "name every CPU once");
            } else {
                cpus.push(cpu);
            }
        }
        cpus
    });
    Lcores { cpus, idle }
}

fn limits(raw: &RawConfig, complaints: &mut Complaints<'_>) -> Limits {
    let default = Limits::default();
    let mut limit = |given: &Option<At<i128>>, range, default| {
        let given = within::<u32>(given.as_ref(), range, complaints);
        given.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(default)
    };
    Limits {
        services: limit(&raw.max_services, number::SERVICES, default.services),
        servers: limit(&raw.max_servers, number::SERVERS, default.servers),
    }
}

fn timeouts(raw: &RawConfig, complaints: &mut Complaints<'_>) -> Timeouts {
    let default = Timeouts::default();
    let mut seconds = |given: &Option<At<i128>>, default| {
        within(given.as_ref(), number::SECONDS, complaints)
            .map_or(default, |seconds| Duration::from_secs(u64::from(seconds)))
    };
    Timeouts {
        tcp: seconds(&raw.tcp, default.tcp),
        tcp_fin: seconds(&raw.tcp_fin, default.tcp_fin),
        udp: seconds(&raw.udp, default.udp),
    }
}

fn settings(raw: &RawConfig, complaints: &mut Complaints<'_>) -> Settings {
    let mut settings = Settings::default();
    for (name, At { value, site }) in &raw.settings {
        if let Err(error) = settings.set(name, *value) {
            complaints.add(site, format!("{value} is out of range"), error.remedy());
        }
    }
    settings
}

fn ports(raw: &RawConfig, complaints: &mut Complaints<'_>) -> Vec<Port> {
    if !raw.has_port {
        complaints.add(
            &raw.site,
            "there is no port",
            "add a [[port]] with its device, e.g. device = \"net_af_packet0,iface=eth0\"",
        );
    }
    if let Some(RawPort { site, .. }) = raw.ports.get(number::MAX_PORTS) {
        let reason = format!("there are {} ports", raw.ports.len());
        complaints.add(site, reason, format!("keep at most {}", number::MAX_PORTS));
    }
    let mut ports = Vec::with_capacity(raw.ports.len());
    let mut devices: HashMap<String, usize> = HashMap::new();
    let mut interfaces: HashMap<String, usize> = HashMap::new();
    for (index, raw) in raw.ports.iter().enumerate() {
        let Some(checked) = device::port(raw, complaints) else {
            continue;
        };
        let first = *devices.entry(checked.identity.clone()).or_insert(index);
        if first != index {
            complaints.add(
                &checked.identity_site,
                format!("device {} is port[{first}] already", checked.identity),
                "remove one of the two, or give the virtual device another name",
            );
        }
        let mut own: Vec<&str> = Vec::new();
        for At { value, site } in &checked.interfaces {
            let first = *interfaces.entry(value.clone()).or_insert(index);
            if first != index || own.contains(&value.as_str()) {
                complaints.add(
                    site,
                    format!("kernel interface {value} belongs to port[{first}] already"),
                    "give every port interfaces of its own",
                );
            }
            own.push(value);
        }
        ports.push(checked.port);
    }
    ports
}
