//! VLAN interfaces on the director's ports: a trunk to the clients, another one to the real servers, or the same tagged
//! twice. All of it is made by the kernels of the machines; one without VLAN interfaces has nothing to show.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use control::model::ForwardingMethod::{Dr, Nat, Tunnel};
use control::model::Scheduler;
use testbed::ensure;
use testbed::error::Result;
use testbed::lab::config::Service;
use testbed::lab::namespace::Namespace;
use testbed::lab::plan::v6;
use testbed::lab::{Lab, Ports, plan};
use testbed::traffic::{curl, spread, udp};

const PATIENCE: Duration = Duration::from_secs(15);

/// A VLAN: id and protocol, as `ip` takes them.
type Tag = (u16, &'static str);

const CLIENTS: &[Tag] = &[(100, "802.1Q")];
const SERVERS: &[Tag] = &[(200, "802.1Q")];

/// The client once more, on the same wire without a tag, and the others there.
const UNTAGGED_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 5, 1);
const UNTAGGED_DIRECTOR: Ipv4Addr = Ipv4Addr::new(10, 0, 5, 254);
const UNTAGGED_ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 5, 253);

/// Whether this kernel has VLAN interfaces (`CONFIG_VLAN_8021Q`).
fn has_vlans(lab: &Lab) -> bool {
    let has = lab.client().ip(&["link add link eth0 name v0 type vlan id 1", "link del v0"]).is_ok();
    if !has {
        eprintln!("this kernel has no VLAN interfaces: not tested");
    }
    has
}

/// Makes VLAN interfaces within each other on an interface, and says how the innermost is called.
fn vlan(machine: &Namespace, interface: &str, tags: &[Tag]) -> Result<String> {
    let mut name = interface.to_owned();
    for (id, protocol) in tags {
        let inner = format!("{name}.{id}");
        machine.ip(&[
            &format!("link add link {name} name {inner} type vlan id {id} protocol {protocol}"),
            &format!("link set {inner} up"),
        ])?;
        name = inner;
    }
    machine.sysctl(&format!("net/ipv6/conf/{name}/disable_ipv6"), "0")?;
    Ok(name)
}

/// Moves a machine from an interface to VLANs on it.
fn move_machine(
    machine: &Namespace,
    interface: &str,
    tags: &[Tag],
    (v4, v6): (Ipv4Addr, Ipv6Addr),
) -> Result<String> {
    // Down and up: the routes by it are gone.
    machine.ip(&[
        &format!("link set {interface} down"),
        &format!("addr flush dev {interface}"),
        &format!("link set {interface} up"),
    ])?;
    let name = vlan(machine, interface, tags)?;
    machine.ip(&[&format!("addr add {v4}/24 dev {name}"), &format!("addr add {v6}/64 dev {name}")])?;
    Ok(name)
}

/// Moves a lab onto VLANs: its client side and its server side. The VIPs stay where they are.
fn move_lab(lab: &Lab, clients: &[Tag], servers: &[Tag]) -> Result<()> {
    let client = move_machine(lab.client(), "eth0", clients, (plan::CLIENT, v6::CLIENT))?;
    for (to, via) in [
        (plan::VIP_SIDE, IpAddr::from(plan::DIRECTOR_CLIENT_SIDE)),
        (v6::VIP_SIDE, v6::DIRECTOR_CLIENT_SIDE.into()),
    ] {
        lab.client().ip(&[&format!("route add {to} via {via} dev {client}")])?;
    }
    let side = (plan::ROUTER_CLIENT_SIDE, v6::ROUTER_CLIENT_SIDE);
    move_machine(lab.router(), "eth0", clients, side)?;
    move_machine(lab.router(), "eth1", servers, (plan::ROUTER_SERVER_SIDE, v6::ROUTER_SERVER_SIDE))?;
    for server in lab.real_servers() {
        let machine = server.namespace();
        let name = move_machine(machine, "eth0", servers, (server.address(), server.address_v6()))?;
        machine.ip(&[
            &format!("route add default via {} dev {name}", plan::DIRECTOR_SERVER_SIDE),
            &format!("route add default via {} dev {name} table 100", plan::ROUTER_SERVER_SIDE),
        ])?;
        machine.ip_v6(&[
            &format!("route add default via {} dev {name}", v6::DIRECTOR_SERVER_SIDE),
            &format!("route add default via {} dev {name} table 100", v6::ROUTER_SERVER_SIDE),
        ])?;
    }
    let ports = match lab.ports() {
        Ports::Tap => ["dir0", "dir1"],
        Ports::AfPacket => ["port0", "port1"],
    };
    let sides = [
        (clients, plan::DIRECTOR_CLIENT_SIDE, v6::DIRECTOR_CLIENT_SIDE),
        (servers, plan::DIRECTOR_SERVER_SIDE, v6::DIRECTOR_SERVER_SIDE),
    ];
    for (port, (tags, v4, v6)) in ports.into_iter().zip(sides) {
        let name = vlan(lab.director(), port, tags)?;
        lab.director().ip(&[
            &format!("addr del {v4}/24 dev {port}"),
            &format!("addr del {v6}/64 dev {port}"),
            &format!("addr add {v4}/24 dev {name}"),
            &format!("addr add {v6}/64 dev {name}"),
        ])?;
    }
    Ok(())
}

/// Puts the client onto the untagged wire as well, with a network of its own.
fn add_untagged_client(lab: &Lab) -> Result<()> {
    lab.client().ip(&[
        &format!("addr add {UNTAGGED_CLIENT}/24 dev eth0"),
        &format!("route add default via {UNTAGGED_DIRECTOR} table 5"),
        &format!("rule add from {UNTAGGED_CLIENT} lookup 5"),
    ])?;
    lab.router().ip(&[&format!("addr add {UNTAGGED_ROUTER}/24 dev eth0")])?;
    lab.director().ip(&[&format!("addr add {UNTAGGED_DIRECTOR}/24 dev dir0")])
}

fn equal() -> Vec<(String, u64)> {
    (1..=3).map(|number| (plan::real_server_name(number), 1)).collect()
}

/// Web services of both versions by all methods.
fn services(lab: &Lab) -> Vec<Service> {
    let web = |vip: IpAddr, port, method| {
        Service::tcp(vip, plan::WEB, Scheduler::Rr).lab_servers(lab, port, method, &[1, 1, 1])
    };
    vec![
        web(plan::VIP_NAT.into(), plan::WEB_NAT, Nat),
        web(plan::VIP_DR.into(), plan::WEB, Dr),
        web(plan::VIP_TUN.into(), plan::WEB, Tunnel),
        web(v6::VIP_NAT.into(), plan::WEB_NAT, Nat),
        web(v6::VIP_DR.into(), plan::WEB, Dr),
    ]
}

fn vips() -> [IpAddr; 5] {
    let (nat, dr) = (IpAddr::from(plan::VIP_NAT), IpAddr::from(plan::VIP_DR));
    [nat, dr, plan::VIP_TUN.into(), v6::VIP_NAT.into(), v6::VIP_DR.into()]
}

/// What is the kernel's goes through as well, in full size and in pieces.
fn ping(lab: &Lab) -> Result<()> {
    for (vip, size) in [(IpAddr::from(plan::VIP_NAT), 1472), (v6::VIP_NAT.into(), 1452)] {
        let line = format!("ping -c 4 -i 0.1 -W 2 -M do -s {size} {vip}");
        let words = lab.client().exec(&line, PATIENCE)?.stdout;
        let words = String::from_utf8_lossy(&words).into_owned();
        ensure!(words.contains(" 4 received") && !words.contains("DUP"), "{words}");
        lab.client().exec(&format!("ping -c 3 -i 0.1 -W 2 -s 4000 {vip}"), PATIENCE)?;
    }
    Ok(())
}

/// A whole lab on VLANs: every method, both versions, segments of full size, ping, ICMP errors.
fn everything_works(clients: &[Tag], servers: &[Tag], cpus: &[usize]) -> Result<()> {
    let lab = Lab::plan().build()?;
    if !has_vlans(&lab) {
        return Ok(());
    }
    move_lab(&lab, clients, servers)?;
    let config =
        services(&lab).into_iter().fold(lab.config().cpus(cpus), |config, service| config.with(service));
    let director = lab.start_director(&config)?;
    for vip in vips() {
        let outcome = lab.fetch_by(&curl::Plan::new(plan::url(vip, plan::WEB, "/"), 30).parallel(3))?;
        if cpus.len() < 2 {
            spread::round_robin(&outcome.answers, &equal())?;
        }
        lab.download(&plan::url(vip, plan::WEB, "/large"))?;
    }
    ping(&lab)?;
    // That nobody is there, the director tells itself.
    director.ctl().run("service add udp 10.99.0.1:53 --scheduler wlc")?;
    let nobody = udp::Plan::new(SocketAddr::from((plan::VIP_NAT, 53)), 1);
    let outcome = lab.client().enter(|| udp::ask(&nobody, |_| ()))??;
    ensure!(outcome.wrong == ["port unreachable"], "{outcome:?}");
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

#[test]
fn clients_on_one_vlan_and_real_servers_on_another() -> Result<()> {
    everything_works(CLIENTS, SERVERS, &[])
}

#[test]
fn clients_of_a_provider_behind_two_tags() -> Result<()> {
    everything_works(&[(7, "802.1ad"), (100, "802.1Q")], &[(200, "802.1Q"), (20, "802.1Q")], &[])
}

#[test]
fn two_lcores_hand_tagged_packets_to_each_other() -> Result<()> {
    everything_works(CLIENTS, SERVERS, &[0, 1])
}

#[test]
fn a_client_without_a_tag_is_served_at_the_same_time() -> Result<()> {
    let lab = Lab::plan().build()?;
    if !has_vlans(&lab) {
        return Ok(());
    }
    move_lab(&lab, CLIENTS, SERVERS)?;
    add_untagged_client(&lab)?;
    let config = services(&lab).into_iter().fold(lab.config(), |config, service| config.with(service));
    let director = lab.start_director(&config)?;
    let sources = [plan::CLIENT, UNTAGGED_CLIENT];
    for vip in [plan::VIP_NAT, plan::VIP_DR, plan::VIP_TUN] {
        let url = plan::url(vip, plan::WEB, "/");
        let outcome = lab.fetch_by(&curl::Plan::new(url, 30).from(&sources).parallel(4))?;
        ensure!(outcome.by_client.len() == 2, "{:?}", outcome.by_client);
        spread::round_robin(&outcome.answers, &equal())?;
        for source in sources {
            lab.download_from(Some(source.into()), &plan::url(vip, plan::WEB, "/large"))?;
        }
    }
    for source in sources {
        let line = format!("ping -c 3 -i 0.1 -W 2 -I {source} {}", plan::VIP_NAT);
        lab.client().exec(&line, PATIENCE)?;
    }
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

/// VLAN interfaces come and go while the director runs.
#[test]
fn a_vlan_that_is_made_while_the_director_runs_is_served() -> Result<()> {
    let lab = Lab::plan().real_servers(1).build()?;
    if !has_vlans(&lab) {
        return Ok(());
    }
    let config = services(&lab).into_iter().fold(lab.config(), |config, service| config.with(service));
    let director = lab.start_director(&config)?;
    lab.fetch(plan::VIP_NAT, 5)?;
    move_lab(&lab, CLIENTS, SERVERS)?;
    lab.fetch(plan::VIP_NAT, 5)?;
    // With a smaller MTU: what is too long for it, the director tells the real server.
    lab.director().ip(&["link set dir0.100 mtu 1300", "link set dir1.200 mtu 1300"])?;
    std::thread::sleep(Duration::from_millis(200));
    lab.download(&plan::url(plan::VIP_NAT, plan::WEB, "/large"))?;
    let learned = lab.real_servers()[0].namespace().path_mtu(plan::CLIENT, plan::real_server(1))?;
    ensure!(learned == Some(1300), "the real server believes that {learned:?} bytes fit");
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

#[test]
fn vlans_on_an_interface_that_the_kernel_keeps() -> Result<()> {
    let lab = Lab::plan().ports(Ports::AfPacket).build()?;
    if !has_vlans(&lab) {
        return Ok(());
    }
    move_lab(&lab, CLIENTS, SERVERS)?;
    let config = services(&lab).into_iter().fold(lab.config(), |config, service| config.with(service));
    let director = lab.start_director(&config)?;
    for vip in vips() {
        let outcome = lab.fetch_by(&curl::Plan::new(plan::url(vip, plan::WEB, "/"), 30).parallel(3))?;
        spread::round_robin(&outcome.answers, &equal())?;
        lab.download(&plan::url(vip, plan::WEB, "/large"))?;
    }
    ping(&lab)?;
    ensure!(lab.director().resets_sent()? == 0, "the director's kernel answered for a VIP");
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}
