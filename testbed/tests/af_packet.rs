//! Ports on interfaces that the kernel keeps (net_af_packet): kernel and director see the same frames, and
//! only one of them may act on each.

use std::net::SocketAddr;
use std::time::Duration;

use control::model::ForwardingMethod::{Dr, Nat, Tunnel};
use control::model::Scheduler;
use testbed::ensure;
use testbed::error::Result;
use testbed::lab::config::Service;
use testbed::lab::{Lab, Ports, plan};
use testbed::traffic::{curl, spread, udp};

const PATIENCE: Duration = Duration::from_secs(15);

#[test]
fn the_director_answers_for_the_vip_and_the_kernel_does_not() -> Result<()> {
    let lab = Lab::plan().ports(Ports::AfPacket).build()?;
    let nat = Service::tcp(plan::VIP_NAT, plan::WEB, Scheduler::Rr).lab_servers(
        &lab,
        plan::WEB_NAT,
        Nat,
        &[1, 1, 1],
    );
    let dr =
        Service::tcp(plan::VIP_DR, plan::WEB, Scheduler::Rr).lab_servers(&lab, plan::WEB, Dr, &[1, 1, 1]);
    let dns =
        Service::udp(plan::VIP_NAT, 53, Scheduler::Rr).lab_servers(&lab, plan::ECHO_NAT, Nat, &[1, 1, 1]);
    let director = lab.start_director(&lab.config().with(nat).with(dr).with(dns))?;

    let weights: Vec<_> = (1..=3).map(|number| (plan::real_server_name(number), 1)).collect();
    for url in ["http://10.99.0.1/", "http://10.99.0.2/"] {
        // A RST from the kernel, which holds the VIP and has nobody listening there, would break these.
        let outcome = curl::ask(lab.client(), &curl::Plan::new(url, 60).parallel(2), |_| ())?;
        ensure!(outcome.failed == 0, "{url}: {outcome:?}");
        spread::round_robin(&outcome.answers, &weights)?;
    }
    let plan = udp::Plan::new(SocketAddr::from((plan::VIP_NAT, 53)), 30);
    let outcome = lab.client().enter(|| udp::ask(&plan, |_| ()))??;
    ensure!(outcome.failed() == 0, "{outcome:?}");

    // The rest is the kernel's, and it gets it once.
    let ping = lab.client().exec("ping -c 5 -i 0.1 -W 2 10.99.0.1", PATIENCE)?;
    let words = String::from_utf8_lossy(&ping.stdout).into_owned();
    ensure!(words.contains(" 5 received") && !words.contains("DUP"), "{words}");
    director.ctl().conserved()?;
    director.stop()?;

    // What kept the kernel off the services is gone with the director: the kernel refuses again.
    let outcome = curl::ask(lab.client(), &curl::Plan::new("http://10.99.0.1/", 1), |_| ())?;
    ensure!(
        outcome.failed == 1 && outcome.slowest < Duration::from_secs(2),
        "the kernel does not answer by itself after the director's end: {outcome:?}"
    );
    Ok(())
}

#[test]
fn large_files_and_tunnels_work_and_nobody_resets_anything() -> Result<()> {
    let lab = Lab::plan().ports(Ports::AfPacket).build()?;
    let nat = Service::tcp(plan::VIP_NAT, plan::WEB, Scheduler::Rr);
    let tunnel = Service::tcp(plan::VIP_TUN, plan::WEB, Scheduler::Mh);
    let config = lab
        .config()
        .with(nat.lab_servers(&lab, plan::WEB_NAT, Nat, &[1, 1, 1]))
        .with(tunnel.lab_servers(&lab, plan::WEB, Tunnel, &[1, 1, 1]));
    let director = lab.start_director(&config)?;
    lab.fetch(plan::VIP_TUN, 30)?;
    lab.download("http://10.99.0.1/large")?;
    // A reset by the director would be one for a service, by the client one for a reply that was not rewritten.
    ensure!(lab.director().resets_sent()? == 0, "the director's kernel answered for a VIP");
    ensure!(lab.client().resets_sent()? == 0, "the client got segments of connections it does not know");
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

/// The rules that keep the kernel off the services follow directorctl, and go with the director.
#[test]
fn the_guard_follows_the_services_and_is_gone_at_the_end() -> Result<()> {
    let lab = Lab::plan().ports(Ports::AfPacket).real_servers(1).build()?;
    let nat = Service::tcp(plan::VIP_NAT, plan::WEB, Scheduler::Rr);
    let director = lab.start_director(&lab.config().with(nat.lab_servers(&lab, plan::WEB_NAT, Nat, &[1])))?;
    let rules = || -> Result<String> {
        let output = lab.director().exec("nft list ruleset", PATIENCE)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    ensure!(rules()?.contains("10.99.0.1"), "no rule for the VIP: {}", rules()?);
    director.ctl().run("service add tcp 10.99.0.1:8000 --scheduler rr")?;
    ensure!(rules()?.contains("8000"), "no rule for the new service: {}", rules()?);
    director.ctl().run("service del tcp 10.99.0.1:8000")?;
    ensure!(!rules()?.contains("8000"), "the deleted service has a rule: {}", rules()?);
    director.stop()?;
    ensure!(rules()?.trim().is_empty(), "left behind: {}", rules()?);
    // The interfaces were the kernel's before, and are now.
    ensure!(lab.pings(plan::DIRECTOR_CLIENT_SIDE)?, "the kernel's interface is dead");
    Ok(())
}
