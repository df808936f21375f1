//! SIP between real programs: sipp calls through NAT, from several ports and addresses, and real servers call back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use control::model::ForwardingMethod::Nat;
use control::model::Scheduler;
use testbed::ensure;
use testbed::error::{Context as _, Result};
use testbed::lab::config::Service;
use testbed::lab::daemon::Daemon;
use testbed::lab::namespace::Namespace;
use testbed::lab::plan::v6;
use testbed::lab::process::{Process, wait_until};
use testbed::lab::{Lab, plan};

const PATIENCE: Duration = Duration::from_secs(60);
const PORT: u16 = 5060;
/// Where real servers take calls, so that a port is really mapped.
const SERVER_PORT: u16 = 5070;
/// Calls of one run of sipp.
const CALLS: usize = 30;
/// Each call from a port of its own. All last until the last one has begun: the port of one that is over may be another's,
/// and a port's connection keeps its real server.
const OWN_PORTS: &str = "-t un -max_socket 100 -d 600";

/// Takes calls. As sipp's own scenario, but the same Call-ID may come again at once.
const ANSWERING: &str = r#"<?xml version="1.0"?>
<scenario name="answering">
  <recv request="INVITE"/>
  <send retrans="500"><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:];tag=[call_number]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:[local_ip]:[local_port]>
Content-Length: 0

]]></send>
  <recv request="ACK"/>
  <recv request="BYE"/>
  <send><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

]]></send>
</scenario>
"#;

/// Somebody who takes calls, and writes every message down.
struct Answering {
    // Ended before the lab is.
    _program: Process,
    messages: PathBuf,
}

impl Answering {
    fn start(lab: &Lab, namespace: &Namespace, at: SocketAddr) -> Result<Answering> {
        let scenario = lab.directory().join("answering.xml");
        fs::write(&scenario, ANSWERING).context(|| "cannot write a scenario")?;
        let name = format!("sipp-{}", if at.is_ipv4() { 4 } else { 6 });
        let messages = lab.directory().join(format!("{}-{name}.messages", namespace.role()));
        // What an earlier one wrote is not this one's.
        let _ = fs::remove_file(&messages);
        let mut command = namespace.command("sipp");
        command.args(["-i", &at.ip().to_string(), "-p", &at.port().to_string(), "-sf"]).arg(scenario);
        command.args(["-nostdin", "-deadcall_wait", "0", "-trace_msg", "-message_file"]).arg(&messages);
        let program = namespace.spawn(&name, &mut command)?;
        let table = if at.is_ipv4() { "/proc/thread-self/net/udp" } else { "/proc/thread-self/net/udp6" };
        let local = format!(":{:04X} ", at.port());
        let listens =
            || namespace.enter(|| fs::read_to_string(table).is_ok_and(|text| text.contains(&local)));
        wait_until("sipp to listen", PATIENCE, listens)?;
        Ok(Answering { _program: program, messages })
    }

    /// How many INVITEs of each call came, those included that were sent again.
    fn invites(&self) -> Result<BTreeMap<String, usize>> {
        let text = fs::read_to_string(&self.messages).context(|| format!("{}", self.messages.display()))?;
        let mut invites = BTreeMap::new();
        for message in text.split("UDP message received").skip(1).filter(|text| text.contains("\nINVITE ")) {
            let call = message.lines().find_map(|line| line.strip_prefix("Call-ID: "));
            *invites.entry(call.context(|| "an INVITE of no call")?.to_owned()).or_default() += 1;
        }
        Ok(invites)
    }
}

/// A run of sipp: calls one after the other, the same Call-IDs in every run. Succeeds if all calls do.
fn call(namespace: &Namespace, from: SocketAddr, to: SocketAddr, options: &str) -> Result<()> {
    let line = format!(
        "sipp -sn uac {to} -i {} -p {} -m {CALLS} -r 100 -d 20 -cid_str call-%u@lab -nostdin -timeout 40 \
         -timeout_error {options}",
        from.ip(),
        from.port()
    );
    namespace.exec(&line, PATIENCE).map(drop)
}

/// A lab with sipp on each real server and a director for them, with IPv4 and IPv6.
struct Session {
    answering: Vec<Vec<Answering>>,
    director: Daemon,
    lab: Lab,
}

fn vip(v6: bool) -> SocketAddr {
    let vip: IpAddr = if v6 { v6::VIP_NAT.into() } else { plan::VIP_NAT.into() };
    SocketAddr::new(vip, PORT)
}

fn client(index: u8, v6: bool, port: u16) -> SocketAddr {
    let client: IpAddr =
        if v6 { v6::client_address(index).into() } else { plan::client_address(index).into() };
    SocketAddr::new(client, port)
}

impl Session {
    fn start(cpus: &[usize], service: impl Fn(Service) -> Service) -> Result<Session> {
        let lab = Lab::plan().client_addresses(3).build()?;
        let config = [false, true].into_iter().fold(lab.config().cpus(cpus), |config, v6| {
            let calls = Service::udp(vip(v6).ip(), PORT, Scheduler::Rr).persistent(60).by_call();
            config.with(service(calls).lab_servers(&lab, SERVER_PORT, Nat, &[1, 1, 1]))
        });
        let director = lab.start_director(&config)?;
        let mut session = Session { answering: Vec::new(), director, lab };
        for v6 in [false, true] {
            let start = |n: usize| {
                Answering::start(
                    &session.lab,
                    session.lab.real_servers()[n].namespace(),
                    session.server(n, v6),
                )
            };
            let answering = (0..3).map(start).collect::<Result<_>>()?;
            session.answering.push(answering);
        }
        Ok(session)
    }

    fn server(&self, n: usize, v6: bool) -> SocketAddr {
        let server = &self.lab.real_servers()[n];
        let ip: IpAddr = if v6 { server.address_v6().into() } else { server.address().into() };
        SocketAddr::new(ip, SERVER_PORT)
    }

    /// Each call was at one real server in all of these runs, and they went round.
    fn calls_were_kept(&self, v6: bool, runs: usize) -> Result<()> {
        let mut calls = BTreeSet::new();
        for (number, answering) in (1..).zip(&self.answering[usize::from(v6)]) {
            let invites = answering.invites()?;
            ensure!(invites.len() == CALLS / 3, "real server {number} had calls {invites:?}");
            for (call, invites) in invites {
                ensure!(invites >= runs, "real server {number} got {invites} of {runs} INVITEs of {call}");
                ensure!(calls.insert(call.clone()), "{call} was at two real servers");
            }
        }
        ensure!(calls.len() == CALLS, "calls {calls:?}");
        Ok(())
    }

    fn end(self) -> Result<()> {
        self.director.ctl().conserved()?;
        self.director.stop()?;
        Ok(())
    }
}

/// With one-packet scheduling: all calls of a run come from one port, or each from one of its own.
fn from_whatever_port(cpus: &[usize]) -> Result<()> {
    let session = Session::start(cpus, Service::one_packet)?;
    for v6 in [false, true] {
        for port in [7000, 7100] {
            call(session.lab.client(), client(0, v6, port), vip(v6), "")?;
        }
        call(session.lab.client(), client(0, v6, 7200), vip(v6), OWN_PORTS)?;
        session.calls_were_kept(v6, 3)?;
    }
    let connections = session.director.ctl().connections()?.connections;
    ensure!(connections.is_empty(), "a message left a connection: {connections:?}");
    session.end()
}

#[test]
fn calls_keep_their_real_server_from_whatever_port() -> Result<()> {
    from_whatever_port(&[0])
}

#[test]
fn on_two_lcores_calls_keep_their_real_server_as_well() -> Result<()> {
    from_whatever_port(&[0, 1])
}

/// Without one-packet scheduling a port keeps its real server; a call does, from one address or another.
#[test]
fn calls_keep_their_real_server_from_whatever_address() -> Result<()> {
    let session = Session::start(&[0, 1], |service| service.granularity(0))?;
    for v6 in [false, true] {
        for index in 0..3 {
            call(session.lab.client(), client(index, v6, 7000), vip(v6), OWN_PORTS)?;
        }
        // Calls of the first port were of one connection in each run, which is one client's; the call was the same.
        session.calls_were_kept(v6, 3)?;
    }
    session.end()
}

/// Real servers call a client, who knows no way to them but by the virtual address.
fn real_servers_call(one_packet: bool) -> Result<()> {
    let ways = |service: Service| if one_packet { service.one_packet() } else { service };
    let mut session = Session::start(&[0, 1], ways)?;
    session.answering.clear();
    let lab = &session.lab;
    lab.client().ip(&["route replace unreachable 10.0.2.0/24"])?;
    lab.client().ip_v6(&["route replace unreachable 2001:db8:2::/64"])?;
    for v6 in [false, true] {
        let phone = client(0, v6, 6500);
        let answering = Answering::start(lab, lab.client(), phone)?;
        for n in 0..3 {
            call(lab.real_servers()[n].namespace(), session.server(n, v6), phone, "")?;
        }
        let invites = answering.invites()?;
        ensure!(invites.len() == CALLS && invites.values().all(|n| *n >= 3), "{invites:?}");
        for n in 0..3 {
            let server = session.server(n, v6).to_string();
            let status = session.director.ctl().server("udp", &vip(v6).to_string(), &server)?;
            let (calls, counters) = (CALLS as u64, status.counters);
            ensure!(counters.packets_out >= 3 * calls && counters.packets_in >= 2 * calls, "{status:?}");
        }
    }
    session.end()
}

#[test]
fn real_servers_call_as_the_virtual_service() -> Result<()> {
    real_servers_call(false)
}

#[test]
fn real_servers_call_as_the_virtual_service_with_one_packet_scheduling() -> Result<()> {
    real_servers_call(true)
}
