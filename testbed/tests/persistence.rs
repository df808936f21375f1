//! Persistence: a client comes back to its real server, whichever lcore its connections live on. And one-packet
//! scheduling, where nothing is remembered at all.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use control::model::ForwardingMethod::{Dr, Nat, Tunnel};
use control::model::Scheduler;
use testbed::ensure;
use testbed::error::{Context as _, Result};
use testbed::lab::config::{Config, Service};
use testbed::lab::plan::v6;
use testbed::lab::{Lab, plan};
use testbed::traffic::{Counts, curl, spread, udp};

const TIMEOUT: u32 = 60;

/// On two worker lcores: a client's connections live on both, and its template is for both.
fn two_lcores(lab: &Lab) -> Config {
    lab.config().cpus(&[0, 1])
}

/// The one real server that answered all of that.
fn only(answers: &Counts, requests: u64) -> Result<String> {
    let (server, &count) = answers.first_key_value().unwrap_or((const { &String::new() }, &0));
    ensure!(
        answers.len() == 1 && count == requests,
        "one real server should have answered {requests} times: {}",
        spread::show(answers)
    );
    Ok(server.clone())
}

#[test]
fn all_connections_of_a_client_go_to_one_real_server() -> Result<()> {
    let lab = Lab::plan().client_addresses(3).build()?;
    let config = [IpAddr::from(plan::VIP_NAT), v6::VIP_NAT.into()].into_iter().fold(
        two_lcores(&lab),
        |config, vip| {
            let web = Service::tcp(vip, plan::WEB, Scheduler::Rr).persistent(TIMEOUT);
            config.with(web.lab_servers(&lab, plan::WEB_NAT, Nat, &[1, 1, 1]))
        },
    );
    let director = lab.start_director(&config)?;
    let clients = |vip: IpAddr| {
        (0..3).map(move |index| match vip {
            IpAddr::V4(_) => IpAddr::from(plan::client_address(index)),
            IpAddr::V6(_) => v6::client_address(index).into(),
        })
    };
    for vip in [IpAddr::from(plan::VIP_NAT), v6::VIP_NAT.into()] {
        let mut servers = Vec::new();
        for client in clients(vip) {
            let web = curl::Plan::new(plan::url(vip, plan::WEB, "/"), 200).parallel(4).from(&[client]);
            servers.push(only(&lab.fetch_by(&web)?.answers, 200)?);
        }
        // Round robin goes on with every client that is new, on the lcore that its first connection lives on.
        let different: BTreeSet<&String> = servers.iter().collect();
        ensure!(different.len() >= 2, "three clients at {vip} have one real server: {servers:?}");
    }
    let stats = director.ctl().stats()?;
    for lcore in &stats.lcores {
        ensure!(lcore.connections > 100, "an lcore has hardly a connection: {stats:#?}");
    }
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

/// The granularity makes all clients of a network one.
#[test]
fn a_network_of_clients_goes_to_one_real_server() -> Result<()> {
    let lab = Lab::plan().client_addresses(12).build()?;
    let mut config = two_lcores(&lab);
    for (vip, bits) in [(IpAddr::from(plan::VIP_NAT), 24), (v6::VIP_NAT.into(), 64)] {
        let web = Service::tcp(vip, plan::WEB, Scheduler::Rr).persistent(TIMEOUT).granularity(bits);
        config = config.with(web.lab_servers(&lab, plan::WEB_NAT, Nat, &[1, 1, 1]));
    }
    let director = lab.start_director(&config)?;
    let v4: Vec<IpAddr> = (0..12).map(|index| plan::client_address(index).into()).collect();
    let v6: Vec<IpAddr> = (0..12).map(|index| v6::client_address(index).into()).collect();
    for (vip, clients) in [(IpAddr::from(plan::VIP_NAT), v4), (v6::VIP_NAT.into(), v6)] {
        let web = curl::Plan::new(plan::url(vip, plan::WEB, "/"), 5).parallel(4).from(&clients);
        only(&lab.fetch_by(&web)?.answers, 60)?;
    }
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

/// The opposite: with one-packet scheduling even datagrams from one port of one client go round.
#[test]
fn each_datagram_may_be_scheduled_by_itself() -> Result<()> {
    let lab = Lab::plan().build()?;
    let vips: [(IpAddr, _); 4] = [
        (plan::VIP_DR.into(), Dr),
        (plan::VIP_TUN.into(), Tunnel),
        (v6::VIP_DR.into(), Dr),
        (v6::VIP_TUN.into(), Tunnel),
    ];
    let config = vips.into_iter().fold(lab.config(), |config, (vip, method)| {
        let echo = Service::udp(vip, plan::ECHO, Scheduler::Rr).one_packet();
        config.with(echo.lab_servers(&lab, plan::ECHO, method, &[1, 1, 1]))
    });
    let director = lab.start_director(&config)?;
    let equal: Vec<_> = (1..=3).map(|number| (plan::real_server_name(number), 1)).collect();
    for (vip, _) in vips {
        let answers = lab.client().enter(|| datagrams_from_one_port(SocketAddr::new(vip, plan::ECHO), 30))?;
        spread::round_robin(&answers.context(|| format!("no answer from {vip}"))?, &equal)?;
    }
    let connections = director.ctl().connections()?.connections;
    ensure!(connections.is_empty(), "one packet left a connection: {connections:?}");
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

fn datagrams_from_one_port(target: SocketAddr, number: u32) -> std::io::Result<Counts> {
    let socket = UdpSocket::bind(if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    socket.connect(target)?;
    let mut answers = Counts::new();
    for _ in 0..number {
        socket.send(b"again")?;
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer)?;
        let text = String::from_utf8_lossy(&buffer[..length]);
        *answers.entry(text.split(' ').next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    Ok(answers)
}

/// Port 0: all ports of a VIP are one service, and a client has one real server for all of them.
#[test]
fn a_service_of_all_ports_keeps_a_client_together() -> Result<()> {
    let lab = Lab::plan().client_addresses(3).build()?;
    let vips: [(IpAddr, _); 3] =
        [(plan::VIP_NAT.into(), Nat), (plan::VIP_DR.into(), Dr), (v6::VIP_DR.into(), Dr)];
    let mut config = two_lcores(&lab);
    for (vip, method) in vips {
        for all in [Service::tcp(vip, 0, Scheduler::Rr), Service::udp(vip, 0, Scheduler::Rr)] {
            config = config.with(all.persistent(TIMEOUT).lab_servers(&lab, 0, method, &[1, 1, 1]));
        }
    }
    let director = lab.start_director(&config)?;
    for (vip, _) in vips {
        let mut servers = Vec::new();
        for index in 0..3 {
            let client = match vip {
                IpAddr::V4(_) => IpAddr::from(plan::client_address(index)),
                IpAddr::V6(_) => v6::client_address(index).into(),
            };
            let mut answers = Counts::new();
            for port in [plan::WEB, plan::WEB_NAT] {
                let web = curl::Plan::new(plan::url(vip, port, "/"), 20).parallel(4).from(&[client]);
                for (server, count) in lab.fetch_by(&web)?.answers {
                    *answers.entry(server).or_default() += count;
                }
            }
            servers.push(only(&answers, 40)?);
            let echo =
                udp::Plan { sources: vec![client], ..udp::Plan::new(SocketAddr::new(vip, plan::ECHO), 20) };
            only(&lab.ask_udp_by(&echo)?.answers, 20)?;
        }
        let different: BTreeSet<&String> = servers.iter().collect();
        ensure!(different.len() >= 2, "three clients at {vip} have one real server: {servers:?}");
    }
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}
