//! The director leaves in order, leaves nothing behind, and can be started again at once.

use std::collections::BTreeSet;
use std::time::Duration;

use control::model::ForwardingMethod::Nat;
use control::model::Scheduler;
use rustix::process::Signal;
use testbed::ensure;
use testbed::error::{Context as _, Result};
use testbed::lab::config::Service;
use testbed::lab::process::wait_until;
use testbed::lab::{Lab, plan};
use testbed::traffic::curl;

fn web(lab: &Lab) -> Service {
    Service::tcp(plan::VIP_NAT, plan::WEB, Scheduler::Rr).lab_servers(lab, plan::WEB_NAT, Nat, &[1])
}

fn ask(lab: &Lab) -> Result<()> {
    let outcome = curl::ask(lab.client(), &curl::Plan::new("http://10.99.0.1/", 10), |_| ())?;
    ensure!(outcome.failed == 0, "{outcome:?}");
    Ok(())
}

/// What a program can leave behind on this machine: the director's interfaces, files in /run and /dev/shm.
fn traces(lab: &Lab) -> Result<BTreeSet<String>> {
    let mut traces: BTreeSet<String> =
        lab.director().interfaces()?.into_iter().map(|name| format!("interface {name}")).collect();
    for directory in ["/run", "/run/dpdk", "/var/run/dpdk", "/dev/shm", "/dev/hugepages"] {
        let Ok(entries) = std::fs::read_dir(directory) else { continue };
        for entry in entries {
            let entry = entry.context(|| format!("cannot read {directory}"))?;
            traces.insert(entry.path().display().to_string());
        }
    }
    if lab.socket().exists() {
        traces.insert("the socket".to_owned());
    }
    Ok(traces)
}

#[test]
fn a_signal_ends_it_in_order_and_it_starts_again_at_once() -> Result<()> {
    let lab = Lab::plan().real_servers(1).build()?;
    let config = lab.config().with(web(&lab));
    let before = traces(&lab)?;
    for signal in [Signal::TERM, Signal::INT, Signal::TERM] {
        let director = lab.start_director(&config)?;
        ask(&lab)?;
        director.ctl().conserved()?;
        director.stop_by(signal)?;
        let after = traces(&lab)?;
        let left: Vec<_> = after.difference(&before).collect();
        ensure!(left.is_empty(), "after {signal:?} this is left behind: {left:?}");
        let gone: Vec<_> = before.difference(&after).collect();
        ensure!(gone.is_empty(), "after {signal:?} this is gone, which was there before: {gone:?}");
    }
    Ok(())
}

#[test]
fn mirrors_that_were_there_keep_their_addresses() -> Result<()> {
    let lab = Lab::plan().real_servers(1).build()?;
    let addresses = || -> Result<String> {
        let output = lab.director().exec("ip -4 -brief addr show dir0", Duration::from_secs(5))?;
        // The third word on: the state before them changes with the carrier.
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.split_whitespace().skip(2).collect::<Vec<_>>().join(" "))
    };
    let before = addresses()?;
    ensure!(before.contains("10.0.1.254/24") && before.contains("10.99.0.1/32"), "dir0 has {before}");
    lab.start_director(&lab.config())?.stop()?;
    ensure!(addresses()? == before, "dir0 had {before} and now has {}", addresses()?);
    Ok(())
}

#[test]
fn mirrors_that_it_makes_vanish_with_it() -> Result<()> {
    let lab = Lab::plan().real_servers(1).without_mirrors().build()?;
    let director = lab.start_director(&lab.config())?;
    for mirror in ["dir0", "dir1"] {
        ensure!(lab.director().has_interface(mirror)?, "there is no {mirror} while the director runs");
    }
    director.stop()?;
    for mirror in ["dir0", "dir1", "dtap0", "dtap1"] {
        ensure!(!lab.director().has_interface(mirror)?, "{mirror} is left behind");
    }
    Ok(())
}

#[test]
fn a_director_that_was_killed_does_not_stand_in_the_way() -> Result<()> {
    let lab = Lab::plan().real_servers(1).build()?;
    let config = lab.config().with(web(&lab));
    let killed = lab.start_director(&config)?;
    killed.kill()?;
    ensure!(lab.socket().exists(), "a killed director cannot have removed its socket");
    let director = lab.start_director(&config)?;
    ask(&lab)?;
    director.stop()?;
    Ok(())
}

/// `ip addr` is the tool: addresses may come and go while the director runs, on mirrors that it has made itself too.
#[test]
fn addresses_that_come_later_are_followed() -> Result<()> {
    let lab = Lab::plan().real_servers(1).without_mirrors().build()?;
    let director = lab.start_director(&lab.config().with(web(&lab)))?;
    lab.director().ip(&[
        "addr add 10.0.1.254/24 dev dir0",
        "addr add 10.99.0.1/32 dev dir0",
        "addr add 10.0.2.254/24 dev dir1",
        "link set dir0 up",
        "link set dir1 up",
    ])?;
    wait_until("the VIP to answer", Duration::from_secs(10), || lab.pings(plan::VIP_NAT))?;
    ask(&lab)?;
    lab.director().ip(&["addr del 10.99.0.1/32 dev dir0"])?;
    wait_until("the VIP to be gone", Duration::from_secs(10), || Ok(!lab.pings(plan::VIP_NAT)?))?;
    director.stop()?;
    Ok(())
}
