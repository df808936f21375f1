//! IPIP tunnelling: real servers may be anywhere, and the answer goes past the director.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use control::model::ForwardingMethod::Tunnel;
use control::model::Scheduler;
use testbed::ensure;
use testbed::error::Result;
use testbed::lab::config::{Config, Service};
use testbed::lab::plan::v6;
use testbed::lab::{Lab, WayBack, plan};
use testbed::traffic::{Counts, curl, spread, udp};

const CLIENTS: u8 = 96;

fn equal() -> Vec<(String, u64)> {
    (1..=3).map(|number| (plan::real_server_name(number), 1)).collect()
}

#[test]
fn a_client_address_keeps_its_real_server_by_maglev_hashing() -> Result<()> {
    let lab = Lab::plan().client_addresses(CLIENTS).build()?;
    let web = Service::tcp(plan::VIP_TUN, plan::WEB, Scheduler::Mh).lab_servers(
        &lab,
        plan::WEB,
        Tunnel,
        &[1, 1, 1],
    );
    let director = lab.start_director(&lab.config().with(web))?;
    let sources: Vec<Ipv4Addr> = (0..CLIENTS).map(plan::client_address).collect();
    let plan = curl::Plan::new("http://10.99.0.3/", 3).from(&sources).parallel(4);
    let outcome = curl::ask(lab.client(), &plan, |_| ())?;
    ensure!(outcome.failed == 0 && outcome.answered() == plan.total(), "{outcome:?}");
    spread::sticky(&outcome.by_client)?;
    let mut clients = Counts::new();
    for servers in outcome.by_client.values() {
        *clients.entry(servers[0].clone()).or_default() += 1;
    }
    spread::near_equal(&clients, &equal())?;
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

#[test]
fn datagrams_arrive_in_every_size_that_fits() -> Result<()> {
    let lab = Lab::plan().build()?;
    let echo = Service::udp(plan::VIP_TUN, plan::ECHO, Scheduler::Rr).lab_servers(
        &lab,
        plan::ECHO,
        Tunnel,
        &[1, 1, 1],
    );
    let director = lab.start_director(&lab.config().with(echo))?;
    let target = SocketAddr::from((plan::VIP_TUN, plan::ECHO));
    // The largest leaves room for the outer header of 20 bytes, the inner ones of 28, and the words around.
    for padding in [0, 1, 1430] {
        let plan = udp::Plan { padding, ..udp::Plan::new(target, 12) };
        let outcome = lab.client().enter(|| udp::ask(&plan, |_| ()))??;
        ensure!(outcome.failed() == 0, "with {padding} bytes: {outcome:?}");
        spread::round_robin(&outcome.answers, &equal())?;
    }
    director.stop()?;
    Ok(())
}

/// The way back is past the tunnel, so that a download is not what tries it; an upload is.
#[test]
fn an_upload_finds_the_size_that_fits() -> Result<()> {
    let lab = Lab::plan().real_servers(1).build()?;
    let web =
        Service::tcp(plan::VIP_TUN, plan::WEB, Scheduler::Rr).lab_servers(&lab, plan::WEB, Tunnel, &[1]);
    let director = lab.start_director(&lab.config().with(web))?;
    let status = lab.upload("http://10.99.0.3/", 900_000)?;
    ensure!(status == "200", "the upload ended with HTTP status {status}");
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

/// The keys of the hash are fixed, so that every director, and this one after a restart, decides alike.
#[test]
fn clients_keep_their_real_servers_over_a_restart() -> Result<()> {
    let lab = Lab::plan().client_addresses(CLIENTS).build()?;
    let web = Service::tcp(plan::VIP_TUN, plan::WEB, Scheduler::Mh);
    let config = lab.config().with(web.lab_servers(&lab, plan::WEB, Tunnel, &[1, 1, 1]));
    let sources: Vec<Ipv4Addr> = (0..CLIENTS).map(plan::client_address).collect();
    let ask = curl::Plan::new("http://10.99.0.3/", 1).from(&sources).parallel(4);
    let mut rounds = Vec::new();
    for _ in 0..2 {
        let director = lab.start_director(&config)?;
        rounds.push(lab.fetch_by(&ask)?.by_client);
        director.stop()?;
    }
    ensure!(rounds[0] == rounds[1], "clients moved: {rounds:?}");
    Ok(())
}

#[test]
fn answers_may_come_back_by_the_directors_kernel() -> Result<()> {
    let lab = Lab::plan().way_back(WayBack::Director).build()?;
    let web = Service::tcp(plan::VIP_TUN, plan::WEB, Scheduler::Rr);
    let director =
        lab.start_director(&lab.config().with(web.lab_servers(&lab, plan::WEB, Tunnel, &[1, 1, 1])))?;
    spread::round_robin(&lab.fetch(plan::VIP_TUN, 30)?.answers, &equal())?;
    lab.download("http://10.99.0.3/large")?;
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

/// Web and echo services of a VIP whose real servers are reached by this tunnel.
fn by_tunnel(lab: &Lab, config: Config, vip: IpAddr, tunnel: &str, weights: &[u16]) -> Config {
    let tunnel = tunnel.parse().expect("a tunnel");
    [Service::tcp(vip, plan::WEB, Scheduler::Rr), Service::udp(vip, plan::ECHO, Scheduler::Rr)]
        .into_iter()
        .fold(config, |config, service| {
            let port = service.address.port();
            config.with(service.lab_servers(lab, port, Tunnel, weights).by_tunnel(tunnel))
        })
}

/// Datagrams as long as fit and longer, and an upload that has to find its size, by each kind and both versions.
#[test]
fn gre_and_gue_with_and_without_checksum() -> Result<()> {
    let lab = Lab::plan().build()?;
    for tunnel in ["gre", "gre:csum", "gue:6080", "gue:6080:csum"] {
        let vips: [IpAddr; 2] = [plan::VIP_TUN.into(), v6::VIP_TUN.into()];
        let config =
            vips.iter().fold(lab.config(), |config, vip| by_tunnel(&lab, config, *vip, tunnel, &[1, 1, 1]));
        let director = lab.start_director(&config)?;
        for vip in vips {
            let url = format!("http://{}/", SocketAddr::new(vip, plan::WEB));
            let status = lab.upload(&url, 900_000)?;
            ensure!(status == "200", "an upload to {vip} by {tunnel} ended with HTTP status {status}");
            let paddings: &[usize] = if vip.is_ipv4() { &[0, 1410, 8_000] } else { &[0, 1300] };
            for padding in paddings {
                let plan =
                    udp::Plan { padding: *padding, ..udp::Plan::new(SocketAddr::new(vip, plan::ECHO), 12) };
                spread::round_robin(&lab.ask_udp_by(&plan)?.answers, &equal())?;
            }
        }
        director.ctl().conserved()?;
        director.stop()?;
    }
    Ok(())
}

/// Full-size segments do not fit the tunnel. Without clamping the client learns that by path MTU discovery; clamping
/// spares the way back, where the real server's own SYN is not seen.
#[test]
fn a_hundred_megabytes_by_gue_with_and_without_clamping() -> Result<()> {
    let lab = Lab::plan().real_servers(1).build()?;
    for vip in [IpAddr::from(plan::VIP_TUN), v6::VIP_TUN.into()] {
        let director = lab.start_director(&by_tunnel(&lab, lab.config(), vip, "gue:6080", &[1]))?;
        let url = format!("http://{}/", SocketAddr::new(vip, plan::WEB));
        for clamp in ["off", "on"] {
            director.ctl().run(&format!("settings set mss_clamp={clamp}"))?;
            let status = lab.upload(&url, 100_000_000)?;
            ensure!(status == "200", "the upload to {vip} ended with HTTP status {status}, clamping {clamp}");
            lab.download(&format!("{url}large"))?;
        }
        let stats = director.ctl().stats()?;
        let told = stats.lcores.iter().filter_map(|lcore| lcore.reasons.get("icmp_too_big")).sum::<u64>();
        ensure!(told > 0, "nobody was told of the size that fits: {stats:#?}");
        director.ctl().conserved()?;
        director.stop()?;
    }
    Ok(())
}
