//! Real servers that are the director itself, reached through the mirrors, and packets that pass a service by.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use control::model::ForwardingMethod::{self, Dr, Nat};
use control::model::Scheduler;
use testbed::ensure;
use testbed::error::{Context as _, Result};
use testbed::lab::config::{Config, Service};
use testbed::lab::plan::v6;
use testbed::lab::process::Process;
use testbed::lab::{Lab, WayBack, plan, programs};
use testbed::traffic::{spread, udp};

const START: Duration = Duration::from_secs(10);
/// The director's own name among real servers.
const NAME: &str = "director";

/// Answers as nginx does on the real servers.
fn answer(mut stream: TcpStream, large: &[u8]) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut part = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut part)? {
            0 => return Ok(()),
            read => request.extend_from_slice(&part[..read]),
        }
    }
    let body: &[u8] = if request.starts_with(b"GET /large") { large } else { NAME.as_bytes() };
    write!(stream, "HTTP/1.1 200 OK\r\nX-Real-Server: {NAME}\r\nContent-Length: {}\r\n\r\n", body.len())?;
    stream.write_all(body)?;
    // The client closes, so that its port is not used again at once.
    stream.read_exact(&mut [0]).or(Ok(()))
}

/// Serves pages on the director's machine, for as long as the test runs.
fn serve(lab: &Lab, address: SocketAddr) -> Result<()> {
    let listener = lab.director().enter(|| TcpListener::bind(address))?;
    let listener = listener.context(|| format!("cannot listen at {address}"))?;
    let large = std::fs::read(lab.large_file()).context(|| "cannot read the large file")?;
    let large: &'static [u8] = large.leak();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream, large));
        }
    });
    Ok(())
}

/// Echoes datagrams on the director's machine.
fn echo(lab: &Lab, addresses: &[SocketAddr]) -> Result<Process> {
    let mut command = lab.director().command(programs::find("testbed")?);
    command.args(["udp-echo", "--name", NAME]);
    for address in addresses {
        command.args(["--listen", &address.to_string()]);
    }
    let mut process = lab.director().spawn("udp-echo", &mut command)?;
    process.wait_for_text("ready", START)?;
    Ok(process)
}

/// A VIP of each version of IP, and the director's own address on the real servers' side.
fn ends(method: ForwardingMethod) -> [(IpAddr, IpAddr); 2] {
    match method {
        Nat => [
            (plan::VIP_NAT.into(), plan::DIRECTOR_SERVER_SIDE.into()),
            (v6::VIP_NAT.into(), v6::DIRECTOR_SERVER_SIDE.into()),
        ],
        _ => [
            (plan::VIP_DR.into(), plan::DIRECTOR_SERVER_SIDE.into()),
            (v6::VIP_DR.into(), v6::DIRECTOR_SERVER_SIDE.into()),
        ],
    }
}

/// Web and echo, by the director itself and one real server in turn.
fn by_both(lab: &Lab, config: Config, method: ForwardingMethod) -> Result<(Config, Process)> {
    let (web, echo_port) =
        if method == Nat { (plan::WEB_NAT, plan::ECHO_NAT) } else { (plan::WEB, plan::ECHO) };
    let mut sockets = Vec::new();
    let config = ends(method).into_iter().try_fold(config, |config, (vip, own)| {
        // By direct routing packets stay addressed to the VIP, which is the director's as well.
        let at = if method == Nat { own } else { vip };
        serve(lab, SocketAddr::new(at, web))?;
        sockets.push(SocketAddr::new(at, echo_port));
        let with = |service: Service, port| {
            service.server(own, port, method, 1).lab_servers(lab, port, method, &[1])
        };
        let service = Service::tcp(vip, plan::WEB, Scheduler::Rr);
        let datagrams = Service::udp(vip, plan::ECHO, Scheduler::Rr);
        Ok::<Config, testbed::error::Error>(config.with(with(service, web)).with(with(datagrams, echo_port)))
    })?;
    Ok((config, echo(lab, &sockets)?))
}

fn serves(lab: &Lab, method: ForwardingMethod) -> Result<()> {
    let equal = [(NAME.to_owned(), 1), (plan::real_server_name(1), 1)];
    for (vip, _) in ends(method) {
        spread::round_robin(&lab.fetch(vip, 20)?.answers, &equal)?;
        // Two downloads, of which the director itself serves one.
        for _ in 0..2 {
            lab.download(&plan::url(vip, plan::WEB, "/large"))?;
        }
        // The longest come in fragments, both ways.
        for padding in [0, 1400, 8000] {
            let echo = udp::Plan { padding, ..udp::Plan::new(SocketAddr::new(vip, plan::ECHO), 10) };
            spread::round_robin(&lab.ask_udp_by(&echo)?.answers, &equal)?;
        }
    }
    Ok(())
}

fn the_director_serves(method: ForwardingMethod, cpus: &[usize]) -> Result<()> {
    let lab = Lab::plan().build()?;
    let (config, _echo) = by_both(&lab, lab.config().cpus(cpus), method)?;
    let director = lab.start_director(&config)?;
    serves(&lab, method)?;
    if method == Nat {
        // Who asks the director itself is answered by it.
        let own = plan::url(plan::DIRECTOR_SERVER_SIDE, plan::WEB_NAT, "/large");
        lab.download(&own)?;
    }
    let stats = director.ctl().stats()?;
    let local: u64 = stats.lcores.iter().filter_map(|lcore| lcore.reasons.get("local_server")).sum();
    ensure!(local > 0, "nothing went to the kernel as a real server: {stats:#?}");
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

#[test]
fn the_director_itself_serves_by_nat() -> Result<()> {
    the_director_serves(Nat, &[0])
}

#[test]
fn the_director_itself_serves_by_nat_on_two_lcores() -> Result<()> {
    the_director_serves(Nat, &[0, 1])
}

#[test]
fn the_director_itself_serves_by_direct_routing() -> Result<()> {
    the_director_serves(Dr, &[0])
}

/// A cache that is away: its clients are served by whom they asked.
#[test]
fn without_a_cache_clients_reach_whom_they_ask() -> Result<()> {
    let lab = Lab::plan().way_back(WayBack::Director).build()?;
    let mark = "[settings]\ncache_bypass = true\n\n[[mark]]\nmark = 1\nprotocol = \"tcp\"\ningress = 0\n\
                destination_ports = [\"80\"]\n";
    let cache = Service::marked(1, plan::VIP_DR, Scheduler::Rr).lab_servers(&lab, 0, Dr, &[0]);
    let director = lab.start_director(&lab.config().table(mark).with(cache))?;
    let asked = lab.fetch(plan::real_server(2), 10)?.answers;
    ensure!(asked.keys().eq(["real2"]), "{}", spread::show(&asked));
    let reasons = director.ctl().stats()?.lcores.remove(0).reasons;
    ensure!(reasons.get("request_bypass").is_some_and(|count| *count > 10), "{reasons:#?}");
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}
