//! Datagrams that do not fit a frame: the kernels at both ends cut them and put them together again, the director sees
//! nothing but fragments.

use std::net::{IpAddr, SocketAddr};

use control::model::ForwardingMethod::{self, Dr, Nat, Tunnel};
use control::model::Scheduler;
use testbed::ensure;
use testbed::error::Result;
use testbed::lab::config::Service;
use testbed::lab::plan::v6;
use testbed::lab::{Lab, plan};
use testbed::traffic::{spread, udp};

/// Datagrams of two lengths go exactly round, and come back as they went.
fn long_datagrams_pass(lab: &Lab, vip: impl Into<IpAddr>) -> Result<()> {
    let target = SocketAddr::new(vip.into(), plan::ECHO);
    for padding in [8_000, 60_000] {
        let echo = udp::Plan { padding, ..udp::Plan::new(target, 60) };
        let equal: Vec<(String, u64)> = (1..=3).map(|number| (plan::real_server_name(number), 1)).collect();
        spread::round_robin(&lab.ask_udp_by(&echo)?.answers, &equal)?;
    }
    Ok(())
}

fn by_method(method: ForwardingMethod, port: u16, vips: &[IpAddr]) -> Result<()> {
    let lab = Lab::plan().build()?;
    // Fragments of one datagram come by either queue, and most of them by another lcore's than the connection's.
    let config = vips.iter().fold(lab.config().cpus(&[0, 1]), |config, vip| {
        let echo = Service::udp(*vip, plan::ECHO, Scheduler::Wlc);
        config.with(echo.lab_servers(&lab, port, method, &[1, 1, 1]))
    });
    let director = lab.start_director(&config)?;
    for vip in vips.iter().copied() {
        long_datagrams_pass(&lab, vip)?;
    }
    let stats = director.ctl().stats()?;
    let sum =
        |reason: &str| -> u64 { stats.lcores.iter().filter_map(|lcore| lcore.reasons.get(reason)).sum() };
    ensure!(sum("fragment_elsewhere") > 0, "all came by their collector's queue: {stats:#?}");
    let lost: u64 = stats.lcores.iter().map(|lcore| lcore.dropped).sum();
    ensure!(lost == 0, "{lost} packets are lost: {stats:#?}");
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

#[test]
fn long_datagrams_pass_both_ways_by_nat() -> Result<()> {
    by_method(Nat, plan::ECHO_NAT, &[plan::VIP_NAT.into(), v6::VIP_NAT.into()])
}

#[test]
fn long_datagrams_pass_by_direct_routing() -> Result<()> {
    by_method(Dr, plan::ECHO, &[plan::VIP_DR.into(), v6::VIP_DR.into()])
}

/// Each fragment is too long with the tunnel's header in front, so that the director cuts in its turn. IPv6 is cut by
/// its sender alone, who has to be told first.
#[test]
fn long_datagrams_pass_by_tunnel() -> Result<()> {
    by_method(Tunnel, plan::ECHO, &[plan::VIP_TUN.into()])
}
