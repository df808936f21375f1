//! The machines around the real servers: client, router and the director's, with their addresses and routes.

use super::namespace::Namespace;
use super::plan::v6;
use super::{Plan, Ports, plan};
use crate::ensure;
use crate::error::Result;

/// Gives the client its addresses, and routes to VIPs and real servers by the director.
pub(super) fn client(client: &Namespace, lab: &Plan) -> Result<()> {
    let addresses = lab.client_addresses;
    ensure!(addresses <= plan::CLIENT_ADDRESSES, "a client has at most {} addresses", plan::CLIENT_ADDRESSES);
    let mut lines = vec![
        format!("addr add {}/24 dev eth0", plan::CLIENT),
        format!("addr add {}/64 dev eth0", v6::CLIENT),
        "link set eth0 up".to_owned(),
        format!("route add {} via {}", plan::VIP_SIDE, plan::DIRECTOR_CLIENT_SIDE),
        format!("route add {} via {}", plan::SERVER_SIDE, plan::DIRECTOR_CLIENT_SIDE),
        format!("route add {} via {}", v6::VIP_SIDE, v6::DIRECTOR_CLIENT_SIDE),
        format!("route add {} via {}", v6::SERVER_SIDE, v6::DIRECTOR_CLIENT_SIDE),
    ];
    for index in 0..addresses {
        lines.push(format!("addr add {}/24 dev eth0", plan::client_address(index)));
        // Deprecated: there for programs that bind to it, never the kernel's own choice. That is the first one.
        lines.push(format!("addr add {}/64 dev eth0 preferred_lft 0", v6::client_address(index)));
    }
    if lab.narrow_paths {
        for index in 0..plan::FAR_CLIENTS {
            lines.push(format!("addr add {}/32 dev lo", plan::far_client(index)));
            lines.push(format!("addr add {}/128 dev lo preferred_lft 0", v6::far_client(index)));
        }
    }
    all(client, &lines)
}

/// Makes the router forward between both networks.
pub(super) fn router(router: &Namespace, lab: &Plan) -> Result<()> {
    forwards(router)?;
    let mut lines = vec![
        format!("addr add {}/24 dev eth0", plan::ROUTER_CLIENT_SIDE),
        format!("addr add {}/64 dev eth0", v6::ROUTER_CLIENT_SIDE),
        format!("addr add {}/24 dev eth1", plan::ROUTER_SERVER_SIDE),
        format!("addr add {}/64 dev eth1", v6::ROUTER_SERVER_SIDE),
        "link set eth0 up".to_owned(),
        "link set eth1 up".to_owned(),
    ];
    if lab.narrow_paths {
        // Errors about packets from a VIP go to the VIP.
        lines.push(format!("route add {} via {}", plan::VIP_SIDE, plan::DIRECTOR_CLIENT_SIDE));
        lines.push(format!("route add {} via {}", v6::VIP_SIDE, v6::DIRECTOR_CLIENT_SIDE));
        // Locked, so that it holds for what is forwarded as the MTU of a link would.
        let narrow = |to: &str, via: &str, mtu: u16| format!("route add {to} via {via} mtu lock {mtu}");
        let mtu = plan::FAR_CLIENT_MTU;
        lines.push(narrow(plan::FAR_CLIENT_SIDE, &plan::CLIENT.to_string(), mtu));
        lines.push(narrow(v6::FAR_CLIENT_SIDE, &v6::CLIENT.to_string(), mtu));
        let mtu = plan::FAR_SERVER_MTU;
        for number in 1..=lab.real_servers {
            let far = (plan::far_real_server(number), v6::far_real_server(number));
            lines.push(narrow(&far.0.to_string(), &plan::real_server(number).to_string(), mtu));
            lines.push(narrow(&far.1.to_string(), &v6::real_server(number).to_string(), mtu));
        }
    }
    all(router, &lines)
}

/// Gives the director's machine its interfaces and addresses: mirrors as taps made beforehand, to which the
/// director attaches, or the interfaces which the kernel keeps.
pub(super) fn director(director: &Namespace, lab: &Plan) -> Result<()> {
    forwards(director)?;
    if lab.ports == Ports::Tap && !lab.mirrors {
        return Ok(());
    }
    let sides = match lab.ports {
        Ports::Tap => ["dir0", "dir1"],
        Ports::AfPacket => ["port0", "port1"],
    };
    for side in sides {
        if lab.ports == Ports::Tap {
            director.ip(&[&format!("tuntap add dev {side} mode tap")])?;
        }
        // Packets on their way back from DR and TUN real servers have a source that is local here (the VIP);
        // without this the kernel takes them for forged and does not forward them. IPv6 does not mind.
        director.sysctl(&format!("net/ipv4/conf/{side}/accept_local"), "1")?;
        // The switches in this namespace have none of it (see there), and what is made after them.
        director.sysctl(&format!("net/ipv6/conf/{side}/disable_ipv6"), "0")?;
    }
    let [client_side, server_side] = sides;
    let mut lines = vec![
        format!("addr add {}/24 dev {client_side}", plan::DIRECTOR_CLIENT_SIDE),
        format!("addr add {}/64 dev {client_side}", v6::DIRECTOR_CLIENT_SIDE),
        format!("addr add {}/24 dev {server_side}", plan::DIRECTOR_SERVER_SIDE),
        format!("addr add {}/64 dev {server_side}", v6::DIRECTOR_SERVER_SIDE),
        format!("link set {client_side} up"),
        format!("link set {server_side} up"),
    ];
    lines.extend(plan::VIPS.iter().map(|vip| format!("addr add {vip}/32 dev {client_side}")));
    lines.extend(v6::VIPS.iter().map(|vip| format!("addr add {vip}/128 dev {client_side} preferred_lft 0")));
    if lab.narrow_paths {
        lines.extend([
            format!("route add {} via {}", plan::FAR_CLIENT_SIDE, plan::ROUTER_CLIENT_SIDE),
            format!("route add {} via {}", v6::FAR_CLIENT_SIDE, v6::ROUTER_CLIENT_SIDE),
            format!("route add {} via {}", plan::FAR_SERVER_SIDE, plan::ROUTER_SERVER_SIDE),
            format!("route add {} via {}", v6::FAR_SERVER_SIDE, v6::ROUTER_SERVER_SIDE),
        ]);
    }
    all(director, &lines)
}

fn forwards(machine: &Namespace) -> Result<()> {
    machine.sysctl("net/ipv4/ip_forward", "1")?;
    machine.sysctl("net/ipv6/conf/all/forwarding", "1")
}

fn all(machine: &Namespace, lines: &[String]) -> Result<()> {
    machine.ip(&lines.iter().map(String::as_str).collect::<Vec<_>>())
}
