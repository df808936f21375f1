//! Services by mark: several addresses, ports and protocols as one, and what comes in a certain way.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use control::model::ForwardingMethod::Nat;
use control::model::Scheduler;
use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
use testbed::ensure;
use testbed::error::{Context as _, Result};
use testbed::lab::config::{Config, Service};
use testbed::lab::daemon::Daemon;
use testbed::lab::plan::v6;
use testbed::lab::{Lab, plan};
use testbed::traffic::{Counts, curl, spread, udp};

/// A virtual address that nobody holds: a mark is enough.
const OTHER_VIP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 9);
/// DSCP of voice (RFC 3246), as it stands in the field.
const VOICE: u8 = 46 << 2;

/// Mark 1 is the web by two ports, mark 2 the echo by two, mark 3 the web for whoever speaks urgently.
fn marks() -> String {
    let vips = format!("\"{}\", \"{OTHER_VIP}\", \"{}\"", plan::VIP_NAT, v6::VIP_NAT);
    let rule = |mark: u8, rest: String| format!("[[mark]]\nmark = {mark}\ndestinations = [{vips}]\n{rest}\n");
    let ports = |protocol: &str, one: u16, two: u16| {
        format!("protocol = \"{protocol}\"\ndestination_ports = [\"{one}\", \"{two}\"]")
    };
    [
        rule(3, format!("dscp = {}", VOICE >> 2)),
        rule(1, ports("tcp", plan::WEB, plan::WEB_NAT)),
        rule(2, ports("udp", plan::ECHO, plan::ECHO_NAT)),
    ]
    .concat()
}

/// By NAT, real servers of port 0: what is asked at a port is answered from that port.
fn config(lab: &Lab, cpus: &[usize]) -> Config {
    let config = lab.config().cpus(cpus).table(&marks());
    [IpAddr::from(plan::VIP_NAT), v6::VIP_NAT.into()].into_iter().fold(config, |config, vip| {
        let all = |service: Service| service.lab_servers(lab, 0, Nat, &[1, 1, 1]);
        config
            .with(all(Service::marked(1, vip, Scheduler::Rr).persistent(60)))
            .with(all(Service::marked(2, vip, Scheduler::Rr)))
            .with(Service::marked(3, vip, Scheduler::Rr).lab_servers(lab, 0, Nat, &[1]))
    })
}

fn only(answers: &Counts) -> Result<String> {
    ensure!(answers.len() == 1, "one real server should have answered: {}", spread::show(answers));
    Ok(answers.keys().next().cloned().unwrap_or_default())
}

/// Fetches a page with this DSCP; the real server's name, which is the page.
fn fetch_with(lab: &Lab, target: (Ipv4Addr, u16), tos: u8) -> Result<String> {
    let fetch = || -> std::io::Result<String> {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        sockopt::set_ip_tos(&socket, tos)?;
        connect(&socket, &SocketAddr::from(target))?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text.lines().last().unwrap_or_default().to_owned())
    };
    lab.client().enter(fetch)?.context(|| format!("cannot fetch from {target:?}"))
}

fn serves(lab: &Lab, director: &Daemon) -> Result<()> {
    let clients: [[IpAddr; 3]; 2] = [
        [0, 1, 2].map(|index| plan::client_address(index).into()),
        [0, 1, 2].map(|index| v6::client_address(index).into()),
    ];
    let vips: [&[IpAddr]; 2] = [&[plan::VIP_NAT.into(), OTHER_VIP.into()], &[v6::VIP_NAT.into()]];
    for (clients, vips) in clients.iter().zip(vips) {
        let mut servers = Vec::new();
        for client in clients {
            // Each client has one real server, whatever it asks for.
            let mut answers = Counts::new();
            for (vip, port) in vips.iter().flat_map(|vip| [(*vip, plan::WEB), (*vip, plan::WEB_NAT)]) {
                let ask = curl::Plan::new(plan::url(vip, port, "/"), 20).parallel(2).from(&[*client]);
                for (name, count) in lab.fetch_by(&ask)?.answers {
                    *answers.entry(name).or_default() += count;
                }
            }
            servers.push(only(&answers)?);
        }
        servers.sort();
        servers.dedup();
        ensure!(servers.len() >= 2, "three clients have one real server: {servers:?}");
        // Datagrams to two ports go round as those of one service.
        for vip in vips.iter() {
            let mut answers = Counts::new();
            for port in [plan::ECHO, plan::ECHO_NAT] {
                let echo = udp::Plan::new(SocketAddr::new(*vip, port), 30);
                for (name, count) in lab.ask_udp_by(&echo)?.answers {
                    *answers.entry(name).or_default() += count;
                }
            }
            let equal: Vec<(String, u64)> = (1..=3).map(|n| (plan::real_server_name(n), 1)).collect();
            spread::round_robin(&answers, &equal)?;
        }
    }
    lab.download(&plan::url(OTHER_VIP, plan::WEB_NAT, "/large"))?;
    for _ in 0..3 {
        let urgent = fetch_with(lab, (OTHER_VIP, plan::WEB), VOICE)?;
        ensure!(urgent == plan::real_server_name(1), "{urgent:?} has answered what was urgent");
    }
    director.ctl().conserved()
}

#[test]
fn two_addresses_and_two_ports_are_one_persistent_service() -> Result<()> {
    let lab = Lab::plan().client_addresses(3).build()?;
    let director = lab.start_director(&config(&lab, &[0]))?;
    serves(&lab, &director)?;
    director.stop()?;
    Ok(())
}

#[test]
fn marks_mean_the_same_on_two_lcores() -> Result<()> {
    let lab = Lab::plan().client_addresses(3).build()?;
    let director = lab.start_director(&config(&lab, &[0, 1]))?;
    serves(&lab, &director)?;
    let stats = director.ctl().stats()?;
    ensure!(stats.lcores.iter().all(|lcore| lcore.connections > 0), "one lcore has all: {stats:#?}");
    director.stop()?;
    Ok(())
}
