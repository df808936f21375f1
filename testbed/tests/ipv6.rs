//! Services of IPv6 by every forwarding method, and tunnels between the versions of IP.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use control::model::ForwardingMethod::{Dr, Nat, Tunnel};
use control::model::Scheduler;
use testbed::ensure;
use testbed::error::{Context as _, Result};
use testbed::lab::config::{Config, Service};
use testbed::lab::plan::v6;
use testbed::lab::{Lab, Ports, WayBack, plan};
use testbed::traffic::hold::{self, Speak};
use testbed::traffic::{curl, spread, udp};

const PATIENCE: Duration = Duration::from_secs(20);

fn equal() -> Vec<(String, u64)> {
    (1..=3).map(|number| (plan::real_server_name(number), 1)).collect()
}

/// A web service and an echo service with round robin, made by `real_servers` from those without any.
fn web_and_echo(
    config: Config,
    vip: impl Into<IpAddr>,
    real_servers: impl Fn(Service, u16) -> Service,
) -> Config {
    let vip = vip.into();
    config
        .with(real_servers(Service::tcp(vip, plan::WEB, Scheduler::Rr), plan::WEB_NAT))
        .with(real_servers(Service::udp(vip, plan::ECHO, Scheduler::Rr), plan::ECHO_NAT))
}

/// NAT, DR and TUN, each on its VIP of IPv6.
fn every_method(lab: &Lab) -> Config {
    let config = web_and_echo(lab.config(), v6::VIP_NAT, |service, port| {
        service.lab_servers(lab, port, Nat, &[1, 1, 1])
    });
    [(v6::VIP_DR, Dr), (v6::VIP_TUN, Tunnel)].into_iter().fold(config, |config, (vip, method)| {
        web_and_echo(config, vip, |service, _| {
            let port = service.address.port();
            service.lab_servers(lab, port, method, &[1, 1, 1])
        })
    })
}

/// Requests and datagrams to a VIP go exactly round, and a large file comes intact.
fn goes_round(lab: &Lab, vip: impl Into<IpAddr>, longest: usize) -> Result<()> {
    let vip = vip.into();
    let web = curl::Plan::new(plan::url(vip, plan::WEB, "/"), 60).parallel(4);
    spread::round_robin(&lab.fetch_by(&web)?.answers, &equal())?;
    // Sizes around the odd byte that a checksum must pad, and of nearly a whole frame.
    for padding in [0, 1, 2, longest] {
        let target = SocketAddr::new(vip, plan::ECHO);
        let echo = udp::Plan { padding, ..udp::Plan::new(target, 12) };
        spread::round_robin(&lab.ask_udp_by(&echo)?.answers, &equal())?;
    }
    lab.download(&plan::url(vip, plan::WEB, "/large"))
}

#[test]
fn requests_go_round_by_every_forwarding_method() -> Result<()> {
    let lab = Lab::plan().build()?;
    let director = lab.start_director(&every_method(&lab))?;
    for vip in v6::VIPS {
        // The longest leaves room for a header of 40 bytes in front of the packet, and 60 bytes and more in it.
        goes_round(&lab, vip, 1380)?;
    }
    let status = lab.upload(&plan::url(v6::VIP_TUN, plan::WEB, "/"), 900_000)?;
    ensure!(status == "200", "the upload by tunnel ended with HTTP status {status}");

    // Who sees whom, by NAT.
    let line = format!("curl -sS --globoff --max-time 5 -D - {}", plan::url(v6::VIP_NAT, plan::WEB, "/"));
    let answer = lab.client().exec(&line, PATIENCE)?.stdout;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let seen = format!("X-Client: {}", v6::CLIENT);
    ensure!(answer.contains(&seen), "the real server was asked by another:\n{answer}");
    let vip = SocketAddr::from((v6::VIP_NAT, plan::WEB));
    let list = director.ctl().connections()?;
    let mine = list.connections.iter().find(|one| one.virtual_address == vip);
    let mine = mine.context(|| format!("there is no connection after a request: {list:?}"))?;
    ensure!(mine.client.ip() == v6::CLIENT && mine.server.port() == plan::WEB_NAT, "{mine:?}");
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

#[test]
fn tunnels_lead_from_one_version_to_the_other() -> Result<()> {
    let lab = Lab::plan().build()?;
    let vips: [IpAddr; 2] = [v6::VIP_TUN.into(), plan::VIP_TUN.into()];
    let config = vips.into_iter().fold(lab.config(), |config, vip| {
        web_and_echo(config, vip, |service, _| service.lab_servers_by_other_version(&lab, &[1, 1, 1]))
    });
    let director = lab.start_director(&config)?;
    for vip in vips {
        goes_round(&lab, vip, 1380)?;
        let status = lab.upload(&plan::url(vip, plan::WEB, "/"), 900_000)?;
        ensure!(status == "200", "the upload to {vip} ended with HTTP status {status}");
    }
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

#[test]
fn answers_may_come_back_by_the_directors_kernel() -> Result<()> {
    let lab = Lab::plan().way_back(WayBack::Director).build()?;
    let director = lab.start_director(&every_method(&lab))?;
    for vip in [v6::VIP_DR, v6::VIP_TUN] {
        spread::round_robin(&lab.fetch(vip, 30)?.answers, &equal())?;
        lab.download(&plan::url(vip, plan::WEB, "/large"))?;
    }
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

#[test]
fn ports_may_be_on_interfaces_that_the_kernel_keeps() -> Result<()> {
    let lab = Lab::plan().ports(Ports::AfPacket).build()?;
    let director = lab.start_director(&every_method(&lab))?;
    for vip in v6::VIPS {
        spread::round_robin(&lab.fetch(vip, 30)?.answers, &equal())?;
        spread::round_robin(&lab.ask_udp(vip, 12)?.answers, &equal())?;
    }
    lab.download(&plan::url(v6::VIP_NAT, plan::WEB, "/large"))?;
    ensure!(lab.pings(v6::VIP_NAT)?, "the VIP does not answer a ping");
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

/// Two worker lcores, with connections of both versions on each.
#[test]
fn two_lcores_share_both_versions() -> Result<()> {
    let lab = Lab::plan().build()?;
    let vips: [IpAddr; 2] = [plan::VIP_NAT.into(), v6::VIP_NAT.into()];
    let config = vips.into_iter().fold(lab.config().cpus(&[0, 1]), |config, vip| {
        web_and_echo(config, vip, |service, port| service.lab_servers(&lab, port, Nat, &[1, 1, 1]))
    });
    let director = lab.start_director(&config)?;
    let held =
        vips.into_iter().map(|vip| lab.hold(vip, plan::WEB, Speak::Http, 10)).collect::<Result<Vec<_>>>()?;
    for vip in vips {
        lab.fetch_by(&curl::Plan::new(plan::url(vip, plan::WEB, "/"), 140).parallel(4))?;
        lab.ask_udp(vip, 150)?;
        lab.download(&plan::url(vip, plan::WEB, "/large"))?;
    }
    for held in held {
        hold::all_lived(&held.finish(), 5)?;
    }
    for service in director.ctl().services()?.services {
        let connections = service.counters.connections;
        ensure!((150..=151).contains(&connections), "{connections} connections to {:?}", service.service);
        for server in &service.servers {
            // Each lcore goes round by itself, so that the sum may be off by one for each.
            let count = server.counters.connections;
            ensure!((48..=52).contains(&count), "{server:?} has no third of 150");
        }
    }
    let stats = director.ctl().stats()?;
    ensure!(stats.lcores.len() == 2, "{stats:#?}");
    for lcore in &stats.lcores {
        ensure!(lcore.received > 0 && lcore.connections > 0, "an lcore has nothing to do: {stats:#?}");
    }
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}
