//! What cannot change while a director runs, by the keys of the configuration.

use super::KeyChange;
use super::keys::{Key, differing, key};
use crate::config::{Config, Connections, Dpdk, Lcores, Mirror, Port};
use crate::model::Limits;

/// Every key that counts from the next start only, as the tables of the configuration have them.
pub const FIXED: &[(&str, &[&str])] = &[
    ("", &["socket", "history", "ftp_ports"]),
    ("dpdk", &["hugepages", "memory_mb", "mbufs", "eal_args"]),
    ("lcores", &["cpus", "idle"]),
    ("connections", &["capacity", "ipv6_capacity", "templates"]),
    ("limits", &["services", "servers"]),
    ("port", &["device", "mirror", "mtu", "rx_descriptors", "tx_descriptors", "rss"]),
];

/// What of `next` could not take the place of what a director was started with.
pub fn needs_restart(started: &Config, next: &Config) -> Vec<KeyChange> {
    differing(&keys(started), &keys(next))
}

fn keys(config: &Config) -> Vec<Key> {
    let Config {
        socket,
        history,
        dpdk: Dpdk { hugepages, memory_mb, mbufs, eal_args },
        lcores: Lcores { cpus, idle },
        connections: Connections { capacity, ipv6_capacity, templates },
        limits: Limits { services, servers },
        ftp_ports,
        ports,
        // These change while it runs.
        timeouts: _,
        settings: _,
        marks: _,
        model: _,
        health: _,
    } = config;
    let given = |name: &str, value: Option<String>| value.map(|value| key(name, value, false));
    let mut keys = vec![
        key("socket", socket.display(), false),
        key("history", history.display(), false),
        key("ftp_ports", format!("{ftp_ports:?}"), false),
        key("dpdk.hugepages", hugepages.word(), false),
        key("dpdk.memory_mb", memory_mb, false),
        key("dpdk.eal_args", format!("{eal_args:?}"), false),
        key("lcores.idle", idle.word(), false),
        key("connections.capacity", capacity, false),
        key("connections.ipv6_capacity", ipv6_capacity, false),
        key("connections.templates", templates, false),
        key("limits.services", services, false),
        key("limits.servers", servers, false),
    ];
    keys.extend(given("dpdk.mbufs", mbufs.map(|mbufs| mbufs.to_string())));
    keys.extend(given("lcores.cpus", cpus.as_ref().map(|cpus| format!("{cpus:?}"))));
    for (at, port) in ports.iter().enumerate() {
        // What kind of device it is, its name tells.
        let Port { device, kind: _, mirror, mtu, rx_descriptors, tx_descriptors, rss } = port;
        let name = |key: &str| format!("port[{at}].{key}");
        keys.extend([
            key(name("device"), device, false),
            key(name("mtu"), mtu, false),
            key(name("rx_descriptors"), rx_descriptors, false),
            key(name("tx_descriptors"), tx_descriptors, false),
            key(name("rss"), rss.word(), false),
        ]);
        keys.extend(match mirror {
            Mirror::Interface(interface) => Some(key(name("mirror"), interface, false)),
            Mirror::None => Some(key(name("mirror"), "none", false)),
            Mirror::KernelKeeps { .. } => None,
        });
    }
    keys
}
