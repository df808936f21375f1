//! IPIP tunnelling: real servers may be anywhere, and the answer goes past the director.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use control::model::ForwardingMethod::Tunnel;
use control::model::Scheduler;
use testbed::ensure;
use testbed::error::{Context as _, Result};
use testbed::lab::config::Service;
use testbed::lab::{Lab, WayBack, plan};
use testbed::traffic::{Counts, curl, spread, udp};

const PATIENCE: Duration = Duration::from_secs(60);
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
    let upload = lab.directory().join("upload");
    // Below nginx's limit of 1 MB for what it takes and throws away.
    std::fs::write(&upload, vec![b'x'; 900_000]).context(|| "cannot write the upload")?;
    let line = format!(
        "curl -sS --max-time 30 -H Expect: -o /dev/null -w %{{http_code}} --data-binary @{} http://10.99.0.3/",
        upload.display()
    );
    let output = lab.client().exec(&line, PATIENCE)?;
    let status = String::from_utf8_lossy(&output.stdout).into_owned();
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
