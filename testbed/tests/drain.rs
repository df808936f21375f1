//! Real servers are drained under traffic: until their last connection is gone, or until their time is over.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::thread;
use std::time::{Duration, Instant};

use control::drain::End;
use control::model::ForwardingMethod::Nat;
use control::model::Scheduler;
use control::protocol::{DrainList, DrainStatus};
use testbed::ensure;
use testbed::error::{Context as _, Result};
use testbed::lab::config::Service;
use testbed::lab::daemon::Daemon;
use testbed::lab::process::wait_until;
use testbed::lab::{Lab, plan};
use testbed::traffic::hold::{self, Hold, Speak};
use testbed::traffic::{curl, spread};

const VIP: SocketAddrV4 = SocketAddrV4::new(plan::VIP_NAT, plan::WEB);
const SECOND: &str = "tcp 10.99.0.1:80 10.0.2.12:8080";

fn director(lab: &Lab) -> Result<Daemon> {
    let web = Service::tcp(plan::VIP_NAT, plan::WEB, Scheduler::Rr).lab_servers(
        lab,
        plan::WEB_NAT,
        Nat,
        &[1, 2, 1],
    );
    lab.start_director(&lab.config().with(web))
}

fn hold(lab: &Lab, connections: usize) -> Result<Hold> {
    let sources = vec![Ipv4Addr::UNSPECIFIED; connections];
    lab.client().enter(|| Hold::open(VIP, Speak::Http, &sources, Duration::from_millis(50)))?
}

/// New connections, all of which must go to real servers 1 and 3.
fn goes_elsewhere(lab: &Lab) -> Result<()> {
    let outcome = curl::ask(lab.client(), &curl::Plan::new("http://10.99.0.1/", 20).parallel(4), |_| ())?;
    ensure!(outcome.failed == 0, "requests failed: {outcome:?}");
    let weights = [(1, 1), (2, 0), (3, 1)].map(|(number, weight)| (plan::real_server_name(number), weight));
    spread::round_robin(&outcome.answers, &weights)
}

fn drains(director: &Daemon) -> Result<Vec<DrainStatus>> {
    Ok(director.ctl().json::<DrainList>("server drains")?.drains)
}

fn addresses(director: &Daemon) -> Result<Vec<String>> {
    let services = director.ctl().services()?.services;
    Ok(services.iter().flat_map(|s| &s.servers).map(|server| server.address.to_string()).collect())
}

#[test]
fn a_drain_ends_when_the_last_connection_closes() -> Result<()> {
    let lab = Lab::plan().build()?;
    let director = director(&lab)?;
    let ctl = director.ctl();
    let mut held = hold(&lab, 9)?;

    ctl.run(&format!("server drain {SECOND} --active-only --deadline 10m --detach"))?;
    let status = ctl.server("tcp", "10.99.0.1:80", "10.0.2.12:8080")?;
    ensure!(
        status.weight.0 == 0 && status.drain_ends_in_ms.is_some_and(|left| left > 590_000),
        "it is listed as drained: {status:?}"
    );
    goes_elsewhere(&lab)?;
    thread::sleep(Duration::from_secs(1));
    let going = drains(&director)?;
    ensure!(
        going.len() == 1 && going[0].ended.is_none() && (going[0].active, going[0].weight.0) == (3, 2),
        "three connections are waited for: {going:?}"
    );
    hold::all_lived(&held.held(), 5)?;

    ensure!(held.close_those_to("real2").len() == 3, "rr gives three of nine to real2");
    let watched = ctl.run(&format!("server drain {SECOND} --watch --interval 100ms"))?;
    ensure!(
        watched.lines().last().is_some_and(|line| line.starts_with("drained, it is taken out")),
        "{watched}"
    );
    ensure!(addresses(&director)? == ["10.0.2.11:8080", "10.0.2.13:8080"], "it is taken out");
    goes_elsewhere(&lab)?;

    // Who comes back is a new one, of whose drain nothing is left.
    ctl.run("server add tcp 10.99.0.1:80 10.0.2.12:8080 --method nat")?;
    let status = ctl.server("tcp", "10.99.0.1:80", "10.0.2.12:8080")?;
    ensure!(status.weight.0 == 1 && status.drain_ends_in_ms.is_none(), "{status:?}");
    let held = held.finish();
    ensure!(held.len() == 6, "{held:?}");
    hold::all_lived(&held, 10)?;
    ctl.conserved()?;
    director.stop()?;
    Ok(())
}

#[test]
fn a_drain_ends_at_its_deadline_and_says_what_remained() -> Result<()> {
    let lab = Lab::plan().build()?;
    let director = director(&lab)?;
    let ctl = director.ctl();
    let held = hold(&lab, 9)?;

    let begun = Instant::now();
    ctl.run(&format!("server drain {SECOND} --deadline 4s --keep --detach"))?;
    while begun.elapsed() < Duration::from_secs(3) {
        goes_elsewhere(&lab)?;
        thread::sleep(Duration::from_millis(200));
    }
    ensure!(drains(&director)?[0].ended.is_none(), "its time is not over");
    // A second wish: it is not kept after all, and its time begins again.
    ctl.run(&format!("server drain {SECOND} --deadline 4s --detach"))?;
    wait_until("the drain to end", Duration::from_secs(8), || Ok(drains(&director)?[0].ended.is_some()))?;
    let took = begun.elapsed();
    ensure!(took >= Duration::from_secs(7), "it ended after {took:?}");
    let status = drains(&director)?.into_iter().next().context(|| "a drain")?;
    ensure!(status.ended == Some(End::Deadline), "{status:?}");
    ensure!((status.at_first, status.active) == (3, 3), "three connections remained: {status:?}");
    ensure!(addresses(&director)? == ["10.0.2.11:8080", "10.0.2.13:8080"], "it is taken out");
    goes_elsewhere(&lab)?;

    let held = held.finish();
    let broken = held.iter().filter(|one| one.failure.is_some()).map(|one| one.server.as_str());
    ensure!(broken.eq(["real2"; 3]), "those to real2 alone are over: {held:?}");
    ctl.conserved()?;
    director.stop()?;
    Ok(())
}

#[test]
fn a_drain_is_cancelled_and_overtaken() -> Result<()> {
    let lab = Lab::plan().build()?;
    let director = director(&lab)?;
    let ctl = director.ctl();
    let held = hold(&lab, 9)?;
    let ended = |wanted: End| -> Result<()> {
        let status = drains(&director)?.into_iter().next().context(|| "a drain")?;
        ensure!(status.ended == Some(wanted), "{wanted:?} is wanted: {status:?}");
        Ok(())
    };

    ctl.run(&format!("server drain {SECOND} --detach"))?;
    ctl.run(&format!("server drain {SECOND} --cancel"))?;
    ended(End::Cancelled)?;
    ensure!(ctl.server("tcp", "10.99.0.1:80", "10.0.2.12:8080")?.weight.0 == 2, "it has its weight back");

    ctl.run(&format!("server drain {SECOND} --detach"))?;
    ctl.run(&format!("server edit {SECOND} --weight 0"))?;
    ensure!(drains(&director)?[0].ended.is_none(), "weight 0 is what it has");
    ctl.run(&format!("server edit {SECOND} --weight 5"))?;
    ended(End::Edited)?;

    ctl.run(&format!("server drain {SECOND} --detach"))?;
    ctl.run(&format!("server del {SECOND}"))?;
    ended(End::Deleted)?;

    ctl.run("server drain tcp 10.99.0.1:80 10.0.2.11:8080 --detach")?;
    ctl.run("service del tcp 10.99.0.1:80")?;
    ended(End::Deleted)?;
    for (line, code) in [
        ("server drain tcp 10.99.0.1:80 10.0.2.11:8080 --detach", "no-such-service"),
        ("server drain tcp 10.99.0.1:80 10.0.2.11:8080 --cancel", "no-drain"),
    ] {
        let output = ctl.output(line)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(said.contains(code), "{line}: {said}");
    }
    drop(held);
    director.stop()?;
    Ok(())
}
