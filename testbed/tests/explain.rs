//! `directorctl explain` says beforehand what becomes of real connections, and what is missing where none comes about.

use std::time::Duration;

use control::model::ForwardingMethod::Nat;
use control::model::Scheduler;
use control::protocol::Explanation;
use testbed::ensure;
use testbed::error::{Context as _, Result};
use testbed::lab::config::Service;
use testbed::lab::process::wait_until;
use testbed::lab::{Lab, plan};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_connection_goes_where_it_was_said_and_a_fault_is_named() -> Result<()> {
    let lab = Lab::plan().real_servers(3).build()?;
    let web = Service::tcp(plan::VIP_NAT, plan::WEB, Scheduler::Wrr).lab_servers(
        &lab,
        plan::WEB_NAT,
        Nat,
        &[3, 1, 2],
    );
    let director = lab.start_director(&lab.config().with(web))?;
    let ctl = director.ctl();
    let explain = |line: &str| ctl.json::<Explanation>(&format!("explain {line}"));

    // One round over all of them, so that every next hop is known.
    for port in 39_001..39_007 {
        lab.client().exec(&format!("curl -sS --local-port {port} http://10.99.0.1/"), PATIENCE)?;
    }
    for port in 40_001..40_013 {
        // Twice: asking moves nothing on.
        let asked = format!("--from 10.0.1.1:{port} --to 10.99.0.1:80");
        let (first, said) = (explain(&asked)?, explain(&asked)?);
        ensure!(first == said, "asked twice, it says {first:?} and {said:?}");
        ensure!(said.reason == "request_nat" && said.missing.is_none(), "{said:?}");
        let server = said.server.context(|| format!("no real server in {said:?}"))?;
        let curl = format!("curl -sS --local-port {port} http://10.99.0.1/");
        let answer = lab.client().exec(&curl, PATIENCE)?;
        let answer = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
        let number = (1..=3).find(|number| server.ip() == plan::real_server(*number));
        let expected = number.map(plan::real_server_name).unwrap_or_default();
        ensure!(answer == expected, "{expected} was announced for port {port}, and {answer} answers");

        // The connection is known now, and its replies are.
        let known = explain(&format!("{asked} --flags ack"))?;
        let connection = known.connection.context(|| "the connection is not known")?;
        ensure!(connection.server == server && known.candidates.is_empty(), "{connection:?}");
        let reply = explain(&format!("--from {server} --to 10.0.1.1:{port} --flags ack"))?;
        let leaves = reply.leaves.context(|| "no reply leaves")?;
        ensure!(
            reply.reason == "reply_nat" && leaves.source == plan::VIP_NAT && leaves.source_port == Some(80),
            "a reply leaves as {leaves:?}"
        );
    }

    lab.director().ip(&["link set dir1 down"])?;
    let asked = "explain --from 10.0.1.1:40100 --to 10.99.0.1:80";
    wait_until("the interface to be seen down", PATIENCE, || {
        let said: Explanation = ctl.json(asked)?;
        Ok(said
            .missing
            .is_some_and(|missing| missing.code == "link-down" && missing.message.contains("dir1")))
    })?;
    let words = ctl.run(asked)?;
    ensure!(words.contains("drop, no_route") && words.contains("try: ip link set dir1 up"), "{words}");
    lab.director().ip(&["link set dir1 up"])?;
    wait_until("the way to be there again", PATIENCE, || {
        Ok(ctl.json::<Explanation>(asked)?.reason == "request_nat")
    })?;
    ctl.conserved()
}
