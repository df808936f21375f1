//! SCTP between real programs: a user-space stack (usrsctp) on both sides, for not every kernel has one.

use std::net::Ipv4Addr;
use std::time::Duration;

use control::model::ForwardingMethod::{self, Dr, Nat, Tunnel};
use control::model::Scheduler;
use testbed::ensure;
use testbed::error::Result;
use testbed::lab::config::Service;
use testbed::lab::daemon::Daemon;
use testbed::lab::process::Process;
use testbed::lab::{Lab, plan};

/// Sends messages over one association and ends it; or takes them, and says at the end how many there were.
const PROGRAM: &str = "/usr/lib/usrsctp/tsctp";
const PATIENCE: Duration = Duration::from_secs(30);
const PORT: u16 = 5001;
/// Where the real servers listen for what comes by NAT, so that a port is really mapped.
const PORT_NAT: u16 = 5002;
/// Messages in an association, and the bytes of each. None is bundled with another one, nor cut.
const MESSAGES: usize = 200;
const LENGTH: usize = 1000;
/// What the taking end says of such an association: length of the first message, messages, reads, bytes.
const TAKEN: &str = "1000, 200, 200, 200000, ";

/// The taking end on every real server. One process each, since each sees all SCTP of its machine.
fn listen(lab: &Lab, address: impl Fn(Ipv4Addr) -> Ipv4Addr, port: u16) -> Result<Vec<Process>> {
    let start = |server: &testbed::lab::real_server::RealServer| {
        let mut command = server.namespace().command(PROGRAM);
        command.args(["-L", &address(server.address()).to_string(), "-p", &port.to_string()]);
        let mut program = server.namespace().spawn("tsctp", &mut command)?;
        program.wait_for_text("IPv4 address", PATIENCE)?;
        Ok(program)
    };
    lab.real_servers().iter().map(start).collect()
}

/// Associations by one method, two with each real server: all that was sent is taken, on the one it was meant for.
fn streams_go_round(vip: Ipv4Addr, method: ForwardingMethod, cpus: &[usize]) -> Result<(Lab, Daemon)> {
    let lab = Lab::plan().build()?;
    let port = if method == Nat { PORT_NAT } else { PORT };
    let service = Service::sctp(vip, PORT, Scheduler::Rr).lab_servers(&lab, port, method, &[1, 1, 1]);
    let director = lab.start_director(&lab.config().cpus(cpus).with(service))?;
    if method != Nat {
        // The stack answers from no address that is on lo.
        for server in lab.real_servers() {
            server.namespace().ip(&[
                &format!("addr del {vip}/32 dev lo"),
                "link add vips type veth peer name vips-end",
                &format!("addr add {vip}/32 dev vips"),
                "link set vips up",
                "link set vips-end up",
            ])?;
        }
    }
    let programs = listen(&lab, |own| if method == Nat { own } else { vip }, port)?;
    for _ in 0..6 {
        let line = format!("{PROGRAM} -L {} -p {PORT} -n {MESSAGES} -l {LENGTH} {vip}", plan::CLIENT);
        lab.client().exec(&line, PATIENCE)?;
    }
    for (number, program) in (1..).zip(&programs) {
        let log = program.log();
        let taken = log.lines().filter(|line| line.starts_with(TAKEN)).count();
        let status = director.ctl().server(
            "sctp",
            &format!("{vip}:{PORT}"),
            &format!("{}:{port}", plan::real_server(number)),
        )?;
        ensure!(
            taken as u64 == status.counters.connections,
            "{taken} whole associations, but {status:?}:\n{}",
            program.log_tail(20)
        );
        // Each lcore goes round by itself.
        let expected = if cpus.len() > 1 { 1..=4 } else { 2..=2 };
        ensure!(expected.contains(&taken), "real server {number} had {taken} of 6 associations");
        ensure!(status.counters.packets_in >= (taken * MESSAGES) as u64, "{status:?}");
        ensure!((method == Nat) == (status.counters.packets_out > 0), "{status:?}");
        ensure!(status.active == 0 && status.inactive == taken as u64, "all are over: {status:?}");
    }
    let connections = director.ctl().run("connection list")?;
    let over = connections.lines().filter(|line| line.starts_with("SCTP") && line.contains("CLOSED")).count();
    ensure!(over == 6, "{connections}");
    director.ctl().conserved()?;
    Ok((lab, director))
}

#[test]
fn sctp_goes_round_by_nat() -> Result<()> {
    let (_lab, director) = streams_go_round(plan::VIP_NAT, Nat, &[])?;
    director.stop()?;
    Ok(())
}

#[test]
fn sctp_goes_round_by_direct_routing() -> Result<()> {
    let (_lab, director) = streams_go_round(plan::VIP_DR, Dr, &[])?;
    director.stop()?;
    Ok(())
}

#[test]
fn sctp_goes_round_by_tunnel() -> Result<()> {
    let (_lab, director) = streams_go_round(plan::VIP_TUN, Tunnel, &[])?;
    director.stop()?;
    Ok(())
}

#[test]
fn sctp_by_nat_finds_its_lcore() -> Result<()> {
    let (_lab, director) = streams_go_round(plan::VIP_NAT, Nat, &[0, 1])?;
    let stats = director.ctl().stats()?;
    ensure!(stats.lcores.len() == 2, "{stats:#?}");
    director.stop()?;
    Ok(())
}
