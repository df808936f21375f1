//! Two worker lcores, two queues on each port: every connection has one owner, whichever queue it comes by.

use std::net::{Ipv4Addr, SocketAddr};

use control::model::ForwardingMethod::Nat;
use control::model::Scheduler;
use testbed::ensure;
use testbed::error::Result;
use testbed::lab::config::Service;
use testbed::lab::daemon::Daemon;
use testbed::lab::{Lab, plan};
use testbed::traffic::hold::{self, Speak};
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

fn lab_on_two_lcores() -> Result<(Lab, Daemon)> {
    let lab = Lab::plan().client_addresses(30).build()?;
    let web = Service::tcp(plan::VIP_NAT, plan::WEB, Scheduler::Rr);
    let config = lab.config().cpus(&[0, 1]).with(web.lab_servers(&lab, plan::WEB_NAT, Nat, &[1, 1, 1]));
    let director = lab.start_director(&config)?;
    Ok((lab, director))
}

/// A download's packets come by whatever queue the tap chooses, and must not be torn apart or lost.
#[test]
fn a_large_file_comes_intact_while_connections_are_held() -> Result<()> {
    let (lab, director) = lab_on_two_lcores()?;
    let held = lab.hold(plan::VIP_NAT, plan::WEB, Speak::Http, 20)?;
    for _ in 0..3 {
        lab.download("http://10.99.0.1/large")?;
    }
    hold::all_lived(&held.finish(), 5)?;
    let stats = director.ctl().stats()?;
    let given: u64 = stats.lcores.iter().map(|lcore| lcore.handed_over).sum();
    let taken: u64 = stats.lcores.iter().map(|lcore| lcore.taken_over).sum();
    ensure!(given == taken, "{given} packets were handed over and {taken} taken over: {stats:#?}");
    let strays: u64 = stats.ports.iter().flat_map(|port| &port.wrong_lcore).sum();
    let named: u64 = stats.lcores.iter().filter_map(|lcore| lcore.reasons.get("other_lcore")).sum();
    ensure!(strays == named, "{strays} packets at the wrong lcore by queues, {named} by reasons: {stats:#?}");
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

#[test]
fn a_change_reaches_both_lcores() -> Result<()> {
    let (lab, director) = lab_on_two_lcores()?;
    let sources: Vec<Ipv4Addr> = (0..30).map(plan::client_address).collect();
    // From so many addresses that each lcore owns some.
    let ask = curl::Plan::new("http://10.99.0.1/", 4).from(&sources).parallel(2);
    director.ctl().run("server edit tcp 10.99.0.1:80 10.0.2.11:8080 --weight 0")?;
    director.ctl().run("server del tcp 10.99.0.1:80 10.0.2.13:8080")?;
    let answers = lab.fetch_by(&ask)?.answers;
    ensure!(answers.keys().eq(["real2"]), "{answers:?}");
    director.ctl().run("server edit tcp 10.99.0.1:80 10.0.2.11:8080 --weight 1")?;
    let answers = lab.fetch_by(&ask)?.answers;
    ensure!(answers.keys().eq(["real1", "real2"]), "{answers:?}");
    director.stop()?;
    Ok(())
}
