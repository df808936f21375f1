//! Wires between the machines of a lab.

use super::namespace::Namespace;
use crate::error::Result;

/// Makes a switch called `name` inside a namespace: a bridge that does nothing of its own.
///
/// Its host interface must stay mute: it has no address, but Linux answers ARP for any local address on any
/// interface, so that the bridge would answer for the director. `arp off` stops that. Of IPv6 it has nothing, nor has
/// what is made after it on the same machine and plugged in: wires, and the kernel ends of net_tap ports.
pub(super) fn switch(host: &Namespace, name: &str) -> Result<()> {
    host.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
    host.ip(&[
        &format!("link add {name} type bridge stp_state 0 mcast_snooping 0 forward_delay 0"),
        &format!("link set {name} arp off up"),
    ])?;
    // Frames on a wire are no business of the packet filters of the machine that hosts the switch. A kernel
    // without br_netfilter has no such setting, and nothing to switch off.
    let _ = host.sysctl("net/bridge/bridge-nf-call-iptables", "0");
    let _ = host.sysctl("net/bridge/bridge-nf-call-ip6tables", "0");
    Ok(())
}

/// Lays a wire from interface `there` of `machine` to a new port `port` of a switch.
pub(super) fn plug(
    machine: &Namespace,
    there: &str,
    host: &Namespace,
    switch: &str,
    port: &str,
) -> Result<()> {
    let peer = machine.name();
    host.ip(&[
        &format!("link add {port} type veth peer name {there} netns {peer}"),
        &format!("link set {port} master {switch} up"),
    ])
}
