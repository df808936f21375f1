//! `directorctl capture` shows Wireshark packets as they came and as they left.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use control::model::ForwardingMethod::Nat;
use control::model::Scheduler;
use testbed::error::{Context as _, Result};
use testbed::lab::config::Service;
use testbed::lab::process::wait_until;
use testbed::lab::{Lab, plan};
use testbed::{ensure, fail};

const PATIENCE: Duration = Duration::from_secs(10);

/// What `tshark` shows of packets that a display filter lets through: port, ends, comment.
fn tshark(file: &Path, filter: &str) -> Result<Vec<String>> {
    const FIELDS: [&str; 5] = ["frame.interface_name", "ip.src", "ip.dst", "tcp.dstport", "frame.comment"];
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(file).args(["-Y", filter, "-T", "fields", "-E", "separator=/s"]);
    command.args(["-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE"]);
    FIELDS.iter().for_each(|field| {
        command.args(["-e", field]);
    });
    let output = command.output().context(|| "cannot run tshark: install the package tshark")?;
    if !output.status.success() {
        fail!("tshark: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

#[test]
fn a_web_request_is_seen_before_and_after_nat() -> Result<()> {
    let lab = Lab::plan().real_servers(1).build()?;
    let web =
        Service::tcp(plan::VIP_NAT, plan::WEB, Scheduler::Rr).lab_servers(&lab, plan::WEB_NAT, Nat, &[1]);
    let director = lab.start_director(&lab.config().with(web))?;
    let ctl = director.ctl();
    // So that the next hops are known.
    let curl = "curl -sS --max-time 5 http://10.99.0.1/";
    lab.client().exec(curl, PATIENCE)?;

    let directory = tempfile::tempdir().context(|| "no directory")?;
    let file = directory.path().join("web.pcapng");
    let line = format!(
        "capture --service tcp,10.99.0.1:80 --client 10.0.1.1 --seconds 4 -w {}",
        file.to_str().context(|| "a strange directory")?
    );
    let captured = std::thread::scope(|scope| {
        let capturing = scope.spawn(|| ctl.output(&line));
        wait_until("the capture to begin", PATIENCE, || {
            Ok(file.metadata().is_ok_and(|metadata| metadata.len() > 0))
        })?;
        let second = ctl.output("capture --count 1")?;
        let errors = String::from_utf8_lossy(&second.stderr).into_owned();
        ensure!(second.status.code() == Some(1) && errors.contains("capture-runs"), "{errors}");
        lab.client().exec(curl, PATIENCE)?;
        match capturing.join() {
            Ok(output) => output,
            Err(_) => fail!("the capturing thread has ended"),
        }
    })?;
    let said = String::from_utf8_lossy(&captured.stderr).into_owned();
    ensure!(captured.status.success() && said.contains(" packets captured, 0 lost"), "{said}");

    let handshake = tshark(&file, "tcp.flags.syn == 1")?;
    let expected =
        ["dir0 in 10.0.1.1 10.99.0.1 80 request_nat", "dir1 out 10.0.1.1 10.0.2.11 8080 request_nat"];
    ensure!(handshake.len() == 4 && handshake[..2] == expected, "{handshake:#?}");
    ensure!(handshake[2].starts_with("dir1 in 10.0.2.11 10.0.1.1 "), "{handshake:#?}");
    ensure!(handshake[3].starts_with("dir0 out 10.99.0.1 10.0.1.1 "), "{handshake:#?}");
    ensure!(handshake[2..].iter().all(|line| line.ends_with(" reply_nat")), "{handshake:#?}");

    let all = tshark(&file, "tcp")?.len();
    let bad = tshark(&file, "ip.checksum.status == \"Bad\" || tcp.checksum.status == \"Bad\"")?;
    ensure!(all >= 16 && bad.is_empty(), "of {all} packets these have wrong checksums: {bad:#?}");
    ctl.conserved()
}
