//! Services and real servers are changed by directorctl while connections live.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::thread;
use std::time::Duration;

use control::model::ForwardingMethod::Nat;
use control::model::Scheduler;
use testbed::ensure;
use testbed::error::Result;
use testbed::lab::config::Service;
use testbed::lab::daemon::Daemon;
use testbed::lab::process::wait_until;
use testbed::lab::{Lab, plan};
use testbed::traffic::hold::{self, Hold, Speak};
use testbed::traffic::{curl, spread};

const VIP: SocketAddrV4 = SocketAddrV4::new(plan::VIP_NAT, plan::WEB);

fn weights(of: &[(u8, u64)]) -> Vec<(String, u64)> {
    of.iter().map(|&(number, weight)| (plan::real_server_name(number), weight)).collect()
}

fn hold(lab: &Lab, connections: usize) -> Result<Hold> {
    let sources = vec![Ipv4Addr::UNSPECIFIED; connections];
    lab.client().enter(|| Hold::open(VIP, Speak::Http, &sources, Duration::from_millis(50)))?
}

fn ask(lab: &Lab, requests: u32) -> Result<testbed::traffic::Counts> {
    let outcome =
        curl::ask(lab.client(), &curl::Plan::new("http://10.99.0.1/", requests).parallel(4), |_| ())?;
    ensure!(outcome.failed == 0, "requests failed: {outcome:?}");
    Ok(outcome.answers)
}

#[test]
fn a_real_server_is_drained_and_deleted_and_another_added() -> Result<()> {
    let lab = Lab::plan().real_servers(4).build()?;
    let web = Service::tcp(plan::VIP_NAT, plan::WEB, Scheduler::Rr).lab_servers(
        &lab,
        plan::WEB_NAT,
        Nat,
        &[1, 1, 1],
    );
    let director = lab.start_director(&lab.config().with(web))?;
    let ctl = director.ctl();
    let mut held = hold(&lab, 9)?;

    ctl.run("server edit tcp 10.99.0.1:80 10.0.2.12:8080 --weight 0")?;
    spread::round_robin(&ask(&lab, 40)?, &weights(&[(1, 1), (2, 0), (3, 1)]))?;
    thread::sleep(Duration::from_millis(500));
    hold::all_lived(&held.held(), 5)?;
    let status = ctl.server("tcp", "10.99.0.1:80", "10.0.2.12:8080")?;
    ensure!(status.active == 3 && status.weight.0 == 0, "three connections are held to it: {status:?}");

    ensure!(held.close_those_to("real2").len() == 3, "rr gives three of nine to real2");
    wait_until("real2 to be without active connections", Duration::from_secs(5), || {
        Ok(ctl.server("tcp", "10.99.0.1:80", "10.0.2.12:8080")?.active == 0)
    })?;
    ctl.run("server del tcp 10.99.0.1:80 10.0.2.12:8080")?;
    ctl.run("server add tcp 10.99.0.1:80 10.0.2.14:8080 --method nat")?;
    spread::round_robin(&ask(&lab, 60)?, &weights(&[(1, 1), (3, 1), (4, 1)]))?;

    let held = held.finish();
    ensure!(held.len() == 6, "{held:?}");
    hold::all_lived(&held, 10)?;
    ctl.conserved()?;
    director.stop()?;
    Ok(())
}

#[test]
fn weights_and_schedulers_change_at_once() -> Result<()> {
    let lab = Lab::plan().build()?;
    let web = Service::tcp(plan::VIP_NAT, plan::WEB, Scheduler::Wrr).lab_servers(
        &lab,
        plan::WEB_NAT,
        Nat,
        &[1, 1, 1],
    );
    let director = lab.start_director(&lab.config().with(web))?;
    let ctl = director.ctl();
    spread::weighted_round_robin(&ask(&lab, 30)?, &weights(&[(1, 1), (2, 1), (3, 1)]))?;
    ctl.run("server edit tcp 10.99.0.1:80 10.0.2.11:8080 --weight 4")?;
    spread::weighted_round_robin(&ask(&lab, 60)?, &weights(&[(1, 4), (2, 1), (3, 1)]))?;
    ctl.run("service edit tcp 10.99.0.1:80 --scheduler rr")?;
    spread::round_robin(&ask(&lab, 60)?, &weights(&[(1, 4), (2, 1), (3, 1)]))?;
    director.stop()?;
    Ok(())
}

#[test]
fn a_service_is_made_from_nothing_and_deleted_again() -> Result<()> {
    let lab = Lab::plan().build()?;
    let director = lab.start_director(&lab.config())?;
    let ctl = director.ctl();
    ctl.run("service add tcp 10.99.0.1:80 --scheduler rr")?;
    for server in lab.real_servers() {
        ctl.run(&format!("server add tcp 10.99.0.1:80 {}:8080 --method nat", server.address()))?;
    }
    spread::round_robin(&ask(&lab, 30)?, &weights(&[(1, 1), (2, 1), (3, 1)]))?;
    ctl.run("service del tcp 10.99.0.1:80")?;
    ensure!(ctl.services()?.services.is_empty(), "the service is still listed");
    let outcome = curl::ask(lab.client(), &curl::Plan::new("http://10.99.0.1/", 3), |_| ())?;
    ensure!(outcome.failed == 3, "a deleted service answers: {outcome:?}");
    ctl.conserved()?;
    director.stop()?;
    Ok(())
}

#[test]
fn what_cannot_be_done_is_refused_with_the_reason() -> Result<()> {
    let lab = Lab::plan().real_servers(1).build()?;
    let web =
        Service::tcp(plan::VIP_NAT, plan::WEB, Scheduler::Rr).lab_servers(&lab, plan::WEB_NAT, Nat, &[1]);
    let director = lab.start_director(&lab.config().with(web))?;
    let ctl = director.ctl();
    for (line, named) in [
        ("service add tcp 10.99.0.1:80", "10.99.0.1:80"),
        ("service del tcp 10.99.0.9:80", "10.99.0.9:80"),
        ("server add tcp 10.99.0.1:80 10.0.2.11:8080 --method nat", "10.0.2.11:8080"),
        ("server del tcp 10.99.0.1:80 10.0.2.19:8080", "10.0.2.19:8080"),
        ("server add tcp 10.99.0.1:80 10.0.2.12:8080 --method dr", "8080"),
    ] {
        let output = ctl.output(line)?;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success(), "`directorctl {line}` was not refused");
        ensure!(words.contains(named), "`directorctl {line}` does not name {named}: {words}");
    }
    ensure!(ask(&lab, 5)?.values().sum::<u64>() == 5, "the service suffered from what was refused");
    director.stop()?;
    Ok(())
}

fn lab_of_four() -> Result<(Lab, Daemon)> {
    let lab = Lab::plan().real_servers(4).build()?;
    let web = Service::tcp(plan::VIP_NAT, plan::WEB, Scheduler::Rr);
    let echo = Service::tcp(plan::VIP_NAT, plan::ECHO, Scheduler::Rr);
    let config = lab
        .config()
        .with(web.lab_servers(&lab, plan::WEB_NAT, Nat, &[1, 1, 1]))
        .with(echo.lab_servers(&lab, plan::ECHO_NAT, Nat, &[1, 1, 1]));
    let director = lab.start_director(&config)?;
    Ok((lab, director))
}

#[test]
fn no_request_fails_while_real_servers_come_and_go() -> Result<()> {
    let (lab, director) = lab_of_four()?;
    let ctl = director.ctl();
    thread::scope(|scope| {
        let traffic = scope.spawn(|| lab.fetch_by(&curl::Plan::new("http://10.99.0.1/", 1500).parallel(4)));
        for _ in 0..5 {
            ctl.run("server add tcp 10.99.0.1:80 10.0.2.14:8080 --method nat")?;
            thread::sleep(Duration::from_millis(50));
            ctl.run("server edit tcp 10.99.0.1:80 10.0.2.11:8080 --weight 0")?;
            thread::sleep(Duration::from_millis(50));
            ctl.run("server edit tcp 10.99.0.1:80 10.0.2.11:8080 --weight 1")?;
            // Drained before it is deleted, as an operator would: deletion cuts what is under way.
            ctl.run("server edit tcp 10.99.0.1:80 10.0.2.14:8080 --weight 0")?;
            wait_until("real4 to be without active connections", Duration::from_secs(5), || {
                Ok(ctl.server("tcp", "10.99.0.1:80", "10.0.2.14:8080")?.active == 0)
            })?;
            ctl.run("server del tcp 10.99.0.1:80 10.0.2.14:8080")?;
        }
        let outcome = traffic.join().expect("the client does not panic")?;
        ensure!(outcome.answers.contains_key("real4"), "real4 was never chosen: {:?}", outcome.answers);
        Ok(())
    })?;
    ctl.conserved()?;
    director.stop()?;
    Ok(())
}

#[test]
fn held_connections_outlive_changes_of_everything_else() -> Result<()> {
    let (lab, director) = lab_of_four()?;
    let ctl = director.ctl();
    let held = lab.hold(plan::VIP_NAT, plan::ECHO, Speak::Echo, 9)?;
    ctl.run("server edit tcp 10.99.0.1:7 10.0.2.12:7007 --weight 9")?;
    ctl.run("server add tcp 10.99.0.1:7 10.0.2.14:7007 --method nat --weight 7")?;
    ctl.run("service edit tcp 10.99.0.1:7 --scheduler wlc")?;
    ctl.run("service del tcp 10.99.0.1:80")?;
    ctl.run("service add tcp 10.99.0.1:81 --scheduler rr")?;
    ctl.run("server del tcp 10.99.0.1:7 10.0.2.14:7007")?;
    thread::sleep(Duration::from_millis(700));
    let held = held.finish();
    ensure!(held.len() == 9, "{held:?}");
    hold::all_lived(&held, 10)?;
    director.stop()?;
    Ok(())
}

/// IPVS keeps the connections of a real server that is deleted, and serves them again when it comes back.
#[test]
fn a_real_server_that_comes_back_at_once_has_its_connections_again() -> Result<()> {
    let (lab, director) = lab_of_four()?;
    let ctl = director.ctl();
    let held = lab.hold(plan::VIP_NAT, plan::ECHO, Speak::Echo, 3)?;
    ctl.run("server del tcp 10.99.0.1:7 10.0.2.12:7007")?;
    ctl.run("server add tcp 10.99.0.1:7 10.0.2.12:7007 --method nat")?;
    thread::sleep(Duration::from_millis(1500));
    let held = held.finish();
    hold::all_lived(&held, 10)?;
    ensure!(held.iter().any(|one| one.server == "real2"), "{held:?}");
    director.stop()?;
    Ok(())
}
