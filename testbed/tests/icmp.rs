//! ICMP and ICMPv6 through the director: the sizes that a path takes, the way that a packet takes, closed ports.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use control::model::ForwardingMethod::{self, Dr, Nat, Tunnel};
use control::model::Scheduler;
use testbed::ensure;
use testbed::error::Result;
use testbed::lab::config::Service;
use testbed::lab::plan::v6;
use testbed::lab::real_server::RealServer;
use testbed::lab::{Lab, plan};
use testbed::traffic::udp;

const PATIENCE: Duration = Duration::from_secs(30);

/// VIP, port of the real servers, method: web services of both versions, as the lab's programs want them.
fn web_services() -> [(IpAddr, u16, ForwardingMethod); 6] {
    [
        (plan::VIP_NAT.into(), plan::WEB_NAT, Nat),
        (plan::VIP_DR.into(), plan::WEB, Dr),
        (plan::VIP_TUN.into(), plan::WEB, Tunnel),
        (v6::VIP_NAT.into(), plan::WEB_NAT, Nat),
        (v6::VIP_DR.into(), plan::WEB, Dr),
        (v6::VIP_TUN.into(), plan::WEB, Tunnel),
    ]
}

/// What is too long for a router between director and client, the real server must learn: the error goes to the VIP,
/// and only the director knows whose it is.
#[test]
fn real_servers_learn_of_a_narrow_path_to_the_client() -> Result<()> {
    narrow_path_to_the_client(2, &[])
}

/// An error comes to whatever lcore its queue belongs to, and is handed to the one that has the connection.
#[test]
fn a_real_server_learns_of_a_narrow_path_from_either_of_two_lcores() -> Result<()> {
    narrow_path_to_the_client(1, &[0, 1])
}

fn narrow_path_to_the_client(real_servers: u8, cpus: &[usize]) -> Result<()> {
    let lab = Lab::plan().real_servers(real_servers).narrow_paths().build()?;
    let config = lab.config().cpus(cpus);
    let config = web_services().into_iter().fold(config, |config, (vip, port, method)| {
        config.with(Service::tcp(vip, plan::WEB, Scheduler::Rr).lab_servers(&lab, port, method, &[1, 1]))
    });
    let director = lab.start_director(&config)?;
    for (index, (vip, _, method)) in (0..).zip(web_services()) {
        // A client for each VIP: what is known of a path, no packet finds out again.
        let index = index % plan::FAR_CLIENTS;
        let client: IpAddr =
            if vip.is_ipv4() { plan::far_client(index).into() } else { v6::far_client(index).into() };
        let fits = |server: &RealServer| {
            let own: IpAddr =
                if vip.is_ipv4() { server.address().into() } else { server.address_v6().into() };
            server.namespace().path_mtu(client, if method == Nat { own } else { vip })
        };
        for server in lab.real_servers() {
            let before = fits(server)?;
            ensure!(before.is_none(), "{} knows of {before:?} before anybody told it", server.name());
        }
        // By round robin, one from each real server.
        for _ in 0..real_servers {
            lab.download_from(Some(client), &plan::url(vip, plan::WEB, "/large"))?;
        }
        for server in lab.real_servers() {
            let after = fits(server)?;
            ensure!(
                after == Some(u32::from(plan::FAR_CLIENT_MTU)),
                "{} believes that {after:?} bytes fit from {vip} to {client}",
                server.name()
            );
        }
    }
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

/// What is too long in its tunnel for a router between director and real server, the client must learn: the error
/// goes to the director, whose packet it was.
#[test]
fn a_client_learns_of_a_narrow_path_of_the_tunnel() -> Result<()> {
    let lab = Lab::plan().real_servers(1).narrow_paths().build()?;
    // The ports tell the tunnels apart: 80 by the VIP's own version of IP, 8080 by the other one.
    let far: [(IpAddr, [IpAddr; 2]); 2] = [
        (plan::VIP_TUN.into(), [plan::far_real_server(1).into(), v6::far_real_server(1).into()]),
        (v6::VIP_TUN.into(), [v6::far_real_server(1).into(), plan::far_real_server(1).into()]),
    ];
    let config = far.into_iter().fold(lab.config().cpus(&[0, 1]), |config, (vip, servers)| {
        servers.into_iter().zip([plan::WEB, plan::WEB_NAT]).fold(config, |config, (server, port)| {
            config.with(Service::tcp(vip, port, Scheduler::Rr).server(server, port, Tunnel, 1))
        })
    });
    let director = lab.start_director(&config)?;
    for (vip, servers) in far {
        let client: IpAddr = if vip.is_ipv4() { plan::CLIENT.into() } else { v6::CLIENT.into() };
        let mut tunnels: Vec<_> = servers.into_iter().zip([plan::WEB, plan::WEB_NAT]).collect();
        // What is known of a path only shrinks.
        tunnels.sort_by_key(|(server, _)| server.is_ipv6());
        for (server, port) in tunnels {
            let status = lab.upload(&plan::url(vip, port, "/"), 900_000)?;
            ensure!(status == "200", "the upload to {vip} by {server} ended with HTTP status {status}");
            let expected = match (vip, server) {
                (_, IpAddr::V6(_)) => plan::FAR_SERVER_MTU - 40,
                (IpAddr::V4(_), IpAddr::V4(_)) => plan::FAR_SERVER_MTU - 20,
                // Routers may cut what carries IPv6 in IPv4 into pieces, as IPVS has it: no more than the director's
                // own link is narrow.
                (IpAddr::V6(_), IpAddr::V4(_)) => 1500 - 20,
            };
            let fits = lab.client().path_mtu(vip, client)?;
            ensure!(
                fits == Some(u32::from(expected)),
                "the client believes that {fits:?} bytes fit to {vip} by {server}, and not {expected}"
            );
        }
    }
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

/// The stations that traceroute or tracepath names, one line for each.
fn stations(lab: &Lab, line: &str) -> Result<Vec<String>> {
    let words = lab.client().exec(line, PATIENCE)?.stdout;
    let words = String::from_utf8_lossy(&words).into_owned();
    let is_station = |line: &&str| line.trim_start().starts_with(|first: char| first.is_ascii_digit());
    Ok(words.lines().filter(is_station).map(str::to_owned).collect())
}

#[test]
fn traceroute_by_tcp_shows_the_director_and_ends_at_the_real_server() -> Result<()> {
    let lab = Lab::plan().real_servers(1).build()?;
    let config = web_services().into_iter().fold(lab.config(), |config, (vip, port, method)| {
        config.with(Service::tcp(vip, plan::WEB, Scheduler::Rr).lab_servers(&lab, port, method, &[1]))
    });
    let director = lab.start_director(&config)?;
    for (vip, ..) in web_services() {
        let found = stations(&lab, &format!("traceroute -T -O info -p 80 -n -q 1 -w 3 -m 6 {vip}"))?;
        let named = |line: &String| line.contains(&format!(" {vip} "));
        ensure!(found.len() == 2 && found.iter().all(named), "the way to {vip}: {found:#?}");
        ensure!(found[1].contains("<syn,ack>") && !found[0].contains("<syn,ack>"), "{found:#?}");
    }
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

/// tracepath takes a port for each probe; nobody listens on them, and the real server says so.
#[test]
fn tracepath_shows_the_director_and_ends_at_the_real_server() -> Result<()> {
    const FIRST: u16 = 33_400;
    let lab = Lab::plan().real_servers(1).build()?;
    let vips: [(IpAddr, ForwardingMethod, u16); 6] = [
        (plan::VIP_NAT.into(), Nat, 1500),
        (v6::VIP_NAT.into(), Nat, 1500),
        (plan::VIP_DR.into(), Dr, 1500),
        (v6::VIP_DR.into(), Dr, 1500),
        (plan::VIP_TUN.into(), Tunnel, 1480),
        (v6::VIP_TUN.into(), Tunnel, 1460),
    ];
    let mut config = lab.config();
    for (vip, method, _) in vips {
        for port in FIRST..FIRST + 10 {
            config =
                config.with(Service::udp(vip, port, Scheduler::Rr).lab_servers(&lab, port, method, &[1]));
        }
    }
    let director = lab.start_director(&config)?;
    for (vip, _, mtu) in vips {
        let line = format!("tracepath -n -m 6 -p {FIRST} {vip}");
        let words = lab.client().exec(&line, PATIENCE)?.stdout;
        let words = String::from_utf8_lossy(&words).into_owned();
        let station = |number: u8| {
            words.lines().any(|line| line.trim_start().starts_with(&format!("{number}:  {vip} ")))
        };
        ensure!(station(1) && station(2) && !station(3), "the way to {vip}:\n{words}");
        ensure!(words.contains("reached") && words.contains("hops 2"), "the way to {vip}:\n{words}");
        ensure!(words.contains(&format!("Resume: pmtu {mtu} ")), "the way to {vip}:\n{words}");
    }
    // Nor does one that is for no service, and ends at the director.
    for vip in [IpAddr::from(plan::VIP_NAT), v6::VIP_NAT.into()] {
        let words = lab.client().exec(&format!("tracepath -n -m 6 {vip}"), PATIENCE)?.stdout;
        let words = String::from_utf8_lossy(&words).into_owned();
        ensure!(words.contains("reached") && words.contains("hops 1"), "the way to {vip}:\n{words}");
    }
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

/// A real server without the program: by NAT the client hears of it from the VIP, else from the real server itself.
#[test]
fn a_closed_port_of_a_real_server_is_told_to_the_client() -> Result<()> {
    let lab = Lab::plan().real_servers(1).build()?;
    let config = web_services().into_iter().fold(lab.config(), |config, (vip, _, method)| {
        config.with(Service::udp(vip, 99, Scheduler::Rr).lab_servers(&lab, 99, method, &[1]))
    });
    let director = lab.start_director(&config)?;
    for (vip, ..) in web_services() {
        let plan = udp::Plan::new(SocketAddr::new(vip, 99), 1);
        let outcome = lab.client().enter(|| udp::ask(&plan, |_| ()))??;
        ensure!(outcome.wrong == ["port unreachable"], "{vip}: {outcome:?}");
    }
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}
