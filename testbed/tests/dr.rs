//! Direct routing: the director changes Ethernet addresses only, and the answer goes past it.

use std::net::SocketAddr;
use std::time::Duration;

use control::model::ForwardingMethod::Dr;
use control::model::Scheduler;
use testbed::ensure;
use testbed::error::{Context as _, Result};
use testbed::lab::config::Service;
use testbed::lab::{Lab, WayBack, plan};
use testbed::traffic::{curl, spread, udp};

const PATIENCE: Duration = Duration::from_secs(60);

fn weights() -> Vec<(String, u64)> {
    [(1, 3), (2, 2), (3, 1)].map(|(number, weight)| (plan::real_server_name(number), weight)).to_vec()
}

fn web(lab: &Lab) -> Service {
    Service::tcp(plan::VIP_DR, plan::WEB, Scheduler::Wrr).lab_servers(lab, plan::WEB, Dr, &[3, 2, 1])
}

#[test]
fn requests_are_spread_by_weight_and_answered_past_the_director() -> Result<()> {
    let lab = Lab::plan().way_back(WayBack::Router).build()?;
    let director = lab.start_director(&lab.config().with(web(&lab)))?;
    let outcome = curl::ask(lab.client(), &curl::Plan::new("http://10.99.0.2/", 120).parallel(4), |_| ())?;
    ensure!(outcome.failed == 0, "{outcome:?}");
    spread::weighted_round_robin(&outcome.answers, &weights())?;
    for number in 1..=3 {
        let server = format!("{}:80", plan::real_server(number));
        let status = director.ctl().server("tcp", "10.99.0.2:80", &server)?;
        ensure!(status.counters.packets_in > 0 && status.counters.packets_out == 0, "{status:?}");
    }
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

#[test]
fn answers_may_come_back_by_the_directors_kernel() -> Result<()> {
    let lab = Lab::plan().way_back(WayBack::Director).build()?;
    let director = lab.start_director(&lab.config().with(web(&lab)))?;
    let outcome = curl::ask(lab.client(), &curl::Plan::new("http://10.99.0.2/", 120).parallel(4), |_| ())?;
    ensure!(outcome.failed == 0, "{outcome:?}");
    spread::weighted_round_robin(&outcome.answers, &weights())?;
    let stats = director.ctl().stats()?;
    let punted: u64 = stats.lcores.iter().map(|lcore| lcore.punted).sum();
    ensure!(punted > 3 * 120, "the answers did not come by the kernel: {stats:#?}");
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

#[test]
fn a_large_file_comes_intact() -> Result<()> {
    let lab = Lab::plan().build()?;
    let director = lab.start_director(&lab.config().with(web(&lab)))?;
    let copy = lab.directory().join("copy");
    let line = format!("curl -sS --max-time 50 -o {} http://10.99.0.2/large", copy.display());
    lab.client().exec(&line, PATIENCE)?;
    let read = |path| std::fs::read(path).context(|| "cannot read a file");
    ensure!(read(copy)? == read(lab.large_file())?, "the file came changed");
    director.stop()?;
    Ok(())
}

#[test]
fn datagrams_are_spread_by_weight() -> Result<()> {
    let lab = Lab::plan().build()?;
    let echo =
        Service::udp(plan::VIP_DR, plan::ECHO, Scheduler::Wrr).lab_servers(&lab, plan::ECHO, Dr, &[3, 2, 1]);
    let director = lab.start_director(&lab.config().with(echo))?;
    let plan = udp::Plan::new(SocketAddr::from((plan::VIP_DR, plan::ECHO)), 60);
    let outcome = lab.client().enter(|| udp::ask(&plan, |_| ()))??;
    ensure!(outcome.failed() == 0, "{outcome:?}");
    spread::weighted_round_robin(&outcome.answers, &weights())?;
    director.stop()?;
    Ok(())
}
