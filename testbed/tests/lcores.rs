//! Two worker lcores, two queues on each port: every connection has one owner, whichever queue it comes by.

use std::net::SocketAddr;

use control::model::ForwardingMethod::Nat;
use control::model::Scheduler;
use testbed::ensure;
use testbed::error::Result;
use testbed::lab::config::Service;
use testbed::lab::{Lab, plan};
use testbed::traffic::{curl, udp};

#[test]
fn two_lcores_share_the_work_and_lose_nothing() -> Result<()> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    ensure!(cpus >= 2, "this lab needs two CPUs, and there is {cpus}");
    let lab = Lab::plan().build()?;
    let web = Service::tcp(plan::VIP_NAT, plan::WEB, Scheduler::Rr).lab_servers(
        &lab,
        plan::WEB_NAT,
        Nat,
        &[1, 1, 1],
    );
    let dns =
        Service::udp(plan::VIP_NAT, 53, Scheduler::Rr).lab_servers(&lab, plan::ECHO_NAT, Nat, &[1, 1, 1]);
    let director = lab.start_director(&lab.config().cpus(&[0, 1]).with(web).with(dns))?;

    let outcome = curl::ask(lab.client(), &curl::Plan::new("http://10.99.0.1/", 300).parallel(4), |_| ())?;
    ensure!(outcome.failed == 0, "{outcome:?}");
    let plan = udp::Plan::new(SocketAddr::from((plan::VIP_NAT, 53)), 300);
    let outcome = lab.client().enter(|| udp::ask(&plan, |_| ()))??;
    ensure!(outcome.failed() == 0, "{outcome:?}");

    let stats = director.ctl().stats()?;
    ensure!(stats.lcores.len() == 2, "{stats:#?}");
    for lcore in &stats.lcores {
        ensure!(lcore.received > 0 && lcore.connections > 0, "an lcore has nothing to do: {stats:#?}");
    }
    let services = director.ctl().services()?.services;
    let counted: u64 = services.iter().map(|service| service.counters.connections).sum();
    ensure!(counted == 600, "600 connections were made and {counted} counted");
    for service in &services {
        for server in &service.servers {
            // Each lcore goes round by itself, so that the sum may be off by one for each.
            let count = server.counters.connections;
            ensure!((98..=102).contains(&count), "{server:?} has no third of 300");
        }
    }
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}
