//! Network address translation: client and real servers see each other through the director only.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use control::model::ForwardingMethod::Nat;
use control::model::Scheduler;
use testbed::ensure;
use testbed::error::{Context as _, Result};
use testbed::lab::config::Service;
use testbed::lab::{Lab, plan};
use testbed::traffic::{Counts, curl, spread, udp};

const PATIENCE: Duration = Duration::from_secs(60);

fn equal() -> Vec<(String, u64)> {
    (1..=3).map(|number| (plan::real_server_name(number), 1)).collect()
}

#[test]
fn web_requests_go_round() -> Result<()> {
    let lab = Lab::plan().build()?;
    let web = Service::tcp(plan::VIP_NAT, plan::WEB, Scheduler::Rr).lab_servers(
        &lab,
        plan::WEB_NAT,
        Nat,
        &[1, 1, 1],
    );
    let director = lab.start_director(&lab.config().with(web))?;

    let outcome = curl::ask(lab.client(), &curl::Plan::new("http://10.99.0.1/", 100).parallel(4), |_| ())?;
    ensure!(outcome.failed == 0, "{outcome:?}");
    spread::round_robin(&outcome.answers, &equal())?;

    // What the director counts is what happened.
    for number in 1..=3 {
        let server = format!("{}:{}", plan::real_server(number), plan::WEB_NAT);
        let status = director.ctl().server("tcp", "10.99.0.1:80", &server)?;
        let answers = outcome.answers[&plan::real_server_name(number)];
        ensure!(status.counters.connections == answers, "{answers} answers, but {status:?}");
        ensure!(
            status.counters.packets_in >= 4 * answers && status.counters.packets_out >= 3 * answers,
            "a request takes more packets than that: {status:?}"
        );
    }
    let latency = director.ctl().latency()?.all;
    ensure!(latency.count > 0 && latency.p50_ns > 0 && latency.p50_ns <= latency.p99_99_ns, "{latency:?}");
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

#[test]
fn the_real_server_sees_the_client_and_the_client_the_vip() -> Result<()> {
    let lab = Lab::plan().real_servers(1).build()?;
    let web =
        Service::tcp(plan::VIP_NAT, plan::WEB, Scheduler::Rr).lab_servers(&lab, plan::WEB_NAT, Nat, &[1]);
    let director = lab.start_director(&lab.config().with(web))?;
    let line = "curl -sS --max-time 5 -D - http://10.99.0.1/";
    let answer = lab.client().exec(line, PATIENCE)?;
    let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
    ensure!(answer.contains("X-Client: 10.0.1.1"), "the real server was asked by another:\n{answer}");
    let list = director.ctl().connections()?;
    let one = list.connections.first().context(|| "there is no connection after a request")?;
    ensure!(one.client.ip() == plan::CLIENT, "{one:?}");
    ensure!(one.virtual_address == SocketAddr::from((plan::VIP_NAT, plan::WEB)), "{one:?}");
    ensure!(one.server == SocketAddr::from((plan::real_server(1), plan::WEB_NAT)), "{one:?}");
    director.stop()?;
    Ok(())
}

#[test]
fn a_large_file_comes_intact() -> Result<()> {
    let lab = Lab::plan().real_servers(1).build()?;
    let web =
        Service::tcp(plan::VIP_NAT, plan::WEB, Scheduler::Rr).lab_servers(&lab, plan::WEB_NAT, Nat, &[1]);
    let director = lab.start_director(&lab.config().with(web))?;
    let copy = lab.directory().join("copy");
    let line = format!("curl -sS --max-time 50 -o {} http://10.99.0.1/large", copy.display());
    lab.client().exec(&line, PATIENCE)?;
    let read = |path| std::fs::read(path).context(|| "cannot read a file");
    ensure!(read(copy)? == read(lab.large_file())?, "the file came changed");
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

#[test]
fn datagrams_go_round() -> Result<()> {
    let lab = Lab::plan().build()?;
    let dns =
        Service::udp(plan::VIP_NAT, 53, Scheduler::Rr).lab_servers(&lab, plan::ECHO_NAT, Nat, &[1, 1, 1]);
    let director = lab.start_director(&lab.config().with(dns))?;
    let target = SocketAddr::from((plan::VIP_NAT, 53));
    // Sizes around the odd byte that a checksum must pad, and one of nearly a whole frame.
    for padding in [0, 1, 2, 3, 1400] {
        let plan = udp::Plan { padding, ..udp::Plan::new(target, 30) };
        let outcome = lab.client().enter(|| udp::ask(&plan, |_| ()))??;
        ensure!(outcome.failed() == 0, "with {padding} bytes: {outcome:?}");
        spread::round_robin(&outcome.answers, &equal())?;
    }
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

#[test]
fn the_same_source_port_stays_with_its_real_server() -> Result<()> {
    let lab = Lab::plan().build()?;
    let dns =
        Service::udp(plan::VIP_NAT, 53, Scheduler::Rr).lab_servers(&lab, plan::ECHO_NAT, Nat, &[1, 1, 1]);
    let director = lab.start_director(&lab.config().with(dns))?;
    let answers = lab.client().enter(|| -> std::io::Result<Counts> {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(Duration::from_secs(3)))?;
        socket.connect((plan::VIP_NAT, 53))?;
        let mut answers = Counts::new();
        for _ in 0..20 {
            socket.send(b"again")?;
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer)?;
            let text = String::from_utf8_lossy(&buffer[..length]);
            let server = text.split(' ').next().unwrap_or_default();
            *answers.entry(server.to_owned()).or_default() += 1;
        }
        Ok(answers)
    })?;
    let answers = answers.context(|| "no answer")?;
    ensure!(answers.len() == 1 && answers.values().sum::<u64>() == 20, "{answers:?}");
    director.stop()?;
    Ok(())
}

#[test]
fn least_connection_counts_connections_by_weight() -> Result<()> {
    let lab = Lab::plan().build()?;
    let dns =
        Service::udp(plan::VIP_NAT, 53, Scheduler::Wlc).lab_servers(&lab, plan::ECHO_NAT, Nat, &[1, 2, 3]);
    let director = lab.start_director(&lab.config().with(dns))?;
    let plan = udp::Plan::new(SocketAddr::from((plan::VIP_NAT, 53)), 60);
    let outcome = lab.client().enter(|| udp::ask(&plan, |_| ()))??;
    ensure!(outcome.failed() == 0, "{outcome:?}");
    let weights: Vec<_> = (1..=3).map(|n| (plan::real_server_name(n), u64::from(n))).collect();
    // A UDP connection stays active until it expires, so that 60 of them fill up to the weights.
    spread::weighted_least_connection(&Counts::new(), &outcome.answers, &weights)?;
    director.stop()?;
    Ok(())
}
