//! The generator of `director-bench rfc2544`, on a wire and on a director in the lab. Its figures are looked at by nobody
//! here, but that what it counts adds up.

use std::time::Duration;

use control::model::ForwardingMethod::Nat;
use control::model::Scheduler;
use serde_json::Value;
use testbed::ensure;
use testbed::error::{Context as _, Result};
use testbed::lab::config::Service;
use testbed::lab::{Lab, plan, process, programs};

const PATIENCE: Duration = Duration::from_secs(90);

/// What one line of JSON says, for each size.
fn found(output: &std::process::Output) -> Result<Vec<Value>> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).context(|| line.to_owned())).collect()
}

fn adds_up(found: &[Value], sizes: &[u64]) -> Result<()> {
    let seen: Vec<_> = found.iter().filter_map(|one| one["size"].as_u64()).collect();
    ensure!(seen == sizes, "{seen:?} instead of {sizes:?}");
    for one in found {
        let number = |name: &str| one[name].as_f64().unwrap_or(-1.0);
        ensure!(number("mpps") > 0.0 && number("frames") > 0.0 && number("trials") >= 1.0, "{one}");
        let bits = number("mpps") * (number("size") + 20.0) * 8.0 / 1000.0;
        ensure!((bits - number("gbit_per_second")).abs() < 1e-6, "{one}");
        let of = |name: &str| one["latency_us"][name].as_f64().unwrap_or(-1.0);
        ensure!(of("p50") > 0.0 && of("p50") <= of("p99") && of("p99") <= of("max"), "{one}");
    }
    Ok(())
}

#[test]
fn a_wire_loses_nothing() -> Result<()> {
    let mut command = std::process::Command::new(programs::find("director-bench")?);
    command.args(
        "rfc2544 --tx net_ring0 --mac 02:00:00:00:00:01 --service 10.99.0.1:53 --no-huge --json".split(' '),
    );
    command.args("--sizes 64,1518 --clients 100 --seconds 0.5 --wait 0.2 --max-mpps 0.01".split(' '));
    let found = found(&process::run(&mut command, PATIENCE)?)?;
    adds_up(&found, &[64, 1518])?;
    // All frames of half a second at that pace, and no search.
    for one in &found {
        ensure!(
            one["trials"] == 1 && one["frames"].as_u64().is_some_and(|n| (4900..=5001).contains(&n)),
            "{one}"
        );
    }
    Ok(())
}

#[test]
fn a_port_that_nothing_comes_back_to_is_an_error() -> Result<()> {
    let mut command = std::process::Command::new(programs::find("director-bench")?);
    command.args(
        "rfc2544 --tx net_null0,no-rx=1 --mac 02:00:00:00:00:01 --service 10.99.0.1:53 --no-huge".split(' '),
    );
    command.args("--clients 10 --seconds 0.1 --wait 0.1".split(' '));
    let output = process::output(&mut command, PATIENCE)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && said.contains("of 10 frames none came back"), "{said}");
    Ok(())
}

/// Requests leave by the client's interface; echoes come back there through the director.
#[test]
fn a_director_in_the_lab_is_measured() -> Result<()> {
    let lab = Lab::plan().real_servers(2).build()?;
    let echo = Service::udp(plan::VIP_NAT, 53, Scheduler::Rr).lab_servers(&lab, plan::ECHO_NAT, Nat, &[1, 1]);
    let director = lab.start_director(&lab.config().with(echo))?;
    lab.director().exec("ip route add 198.18.0.0/15 via 10.0.1.1 dev dir0", PATIENCE)?;
    let mac = lab.director().exec("cat /sys/class/net/dir0/address", PATIENCE)?;
    let mac = String::from_utf8_lossy(&mac.stdout).trim().to_owned();
    let program = programs::find("director-bench")?;
    let line = format!(
        "{} rfc2544 --tx net_af_packet0,iface=eth0 --mac {mac} --service {}:53 --no-huge --json --sizes 64,512 \
         --clients 50 --seconds 1 --wait 1 --max-mpps 0.002 --resolution 20",
        program.display(),
        plan::VIP_NAT
    );
    let found = found(&lab.client().exec(&line, PATIENCE)?)?;
    adds_up(&found, &[64, 512])?;
    let stats: Value = director.ctl().json("stats")?;
    let connections = stats["counters"]["connections"].as_u64();
    ensure!(connections == Some(50), "{connections:?} connections for 50 clients");
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}
