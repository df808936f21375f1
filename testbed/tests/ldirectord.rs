//! Debian's ldirectord, as it is, with our ipvsadm where it looks for one: it checks real servers by HTTP, quiesces or
//! takes out a dead one, brings it back, and traffic follows.

use std::fs;
use std::time::Duration;

use control::cli::ipvsadm::SOCKET_VARIABLE;
use rustix::process::{Pid, Signal, kill_process};
use testbed::ensure;
use testbed::error::{Context as _, Result};
use testbed::lab::daemon::Daemon;
use testbed::lab::process::{Process, wait_until};
use testbed::lab::{Lab, plan, programs};
use testbed::traffic::{Counts, curl, spread};

/// ldirectord looks at each real server of a service in turn, and sleeps a second between.
const PATIENCE: Duration = Duration::from_secs(60);

/// By NAT a dead real server gets weight 0, by direct routing it is taken out.
fn configuration(lab: &Lab) -> String {
    let log = lab.directory().join("ldirectord.log");
    let servers = |port: u16, method: &str| -> String {
        (1..=3).map(|n| format!("\treal={}:{port} {method}\n", plan::real_server(n))).collect()
    };
    let check = "\tservice=http\n\tscheduler=rr\n\tprotocol=tcp\n\tchecktype=negotiate\n\trequest=\"index.html\"\n\
                 \treceive=\"real\"\n";
    format!(
        "supervised=yes\nautoreload=no\nchecktimeout=15\ncheckinterval=1\nfailurecount=1\nlogfile=\"{log}\"\n\n\
         virtual={nat}:{web}\n{nat_servers}{check}\tquiescent=yes\n\n\
         virtual={dr}:{web}\n{dr_servers}{check}\tquiescent=no\n",
        log = log.display(),
        nat = plan::VIP_NAT,
        dr = plan::VIP_DR,
        web = plan::WEB,
        nat_servers = servers(plan::WEB_NAT, "masq"),
        dr_servers = servers(plan::WEB, "gate"),
    )
}

/// ldirectord in the director's namespace, in which our program is mounted over Debian's ipvsadm.
fn start_ldirectord(lab: &Lab) -> Result<Process> {
    let path = lab.write_config("ldirectord.cf", &configuration(lab))?;
    let ours = programs::find("directorctl")?;
    let script = format!(
        "mount --bind '{}' /usr/sbin/ipvsadm && exec /usr/sbin/ldirectord '{}' start",
        ours.display(),
        path.display()
    );
    let mut command = lab.director().command("sh");
    command.args(["-c", &script]).env(SOCKET_VARIABLE, lab.socket());
    lab.director().spawn("ldirectord", &mut command)
}

/// Real servers of a service with their weights, in the order of their addresses.
fn weights(director: &Daemon, service: &str) -> Result<Vec<(String, u16)>> {
    let list = director.ctl().services()?.services;
    let mut of: Vec<(String, u16)> = list
        .iter()
        .filter(|status| status.service.to_string() == service)
        .flat_map(|status| &status.servers)
        .map(|server| (server.address.ip().to_string(), server.weight.0))
        .collect();
    of.sort();
    Ok(of)
}

fn await_weights(
    director: &Daemon,
    checker: &mut Process,
    service: &str,
    wanted: &[(u8, u16)],
) -> Result<()> {
    let wanted: Vec<(String, u16)> =
        wanted.iter().map(|&(n, weight)| (plan::real_server(n).to_string(), weight)).collect();
    wait_until(&format!("{service} to have {wanted:?}"), PATIENCE, || {
        if let Some(status) = checker.status()? {
            testbed::fail!("ldirectord ended with {status}:\n{}", checker.log_tail(30));
        }
        Ok(weights(director, service)? == wanted)
    })
    .context(|| format!("{}\n{:?}", checker.log_tail(30), director.ipvsadm().run("-Ln")))
}

fn ask(lab: &Lab, url: &str) -> Result<Counts> {
    let outcome = curl::ask(lab.client(), &curl::Plan::new(url, 30).parallel(3), |_| ())?;
    ensure!(outcome.failed == 0, "{url}: {outcome:?}");
    Ok(outcome.answers)
}

fn shares(of: &[(u8, u64)]) -> Vec<(String, u64)> {
    of.iter().map(|&(number, weight)| (plan::real_server_name(number), weight)).collect()
}

const NAT: &str = "tcp 10.99.0.1:80";
const DR: &str = "tcp 10.99.0.2:80";
const URLS: [&str; 2] = ["http://10.99.0.1/", "http://10.99.0.2/"];

#[test]
fn a_dead_real_server_is_taken_out_and_brought_back() -> Result<()> {
    let lab = Lab::plan().build()?;
    let director = lab.start_director(&lab.config())?;
    let mut checker = start_ldirectord(&lab)?;

    let all = [(1, 1), (2, 1), (3, 1)];
    await_weights(&director, &mut checker, NAT, &all)?;
    await_weights(&director, &mut checker, DR, &all)?;
    for url in URLS {
        spread::round_robin(&ask(&lab, url)?, &shares(&[(1, 1), (2, 1), (3, 1)]))?;
    }

    let home = lab.directory().join("real2-nginx");
    let pid = fs::read_to_string(home.join("nginx.pid")).context(|| "nginx of real2 has no pid file")?;
    let pid = pid.trim().parse().ok().and_then(Pid::from_raw).context(|| "nginx of real2 has no pid")?;
    kill_process(pid, Signal::TERM).context(|| "nginx of real2 cannot be stopped")?;
    await_weights(&director, &mut checker, NAT, &[(1, 1), (2, 0), (3, 1)])?;
    await_weights(&director, &mut checker, DR, &[(1, 1), (3, 1)])?;
    for url in URLS {
        spread::round_robin(&ask(&lab, url)?, &shares(&[(1, 1), (2, 0), (3, 1)]))?;
    }

    let real2 = lab.real_servers()[1].namespace();
    let mut nginx = real2.command("nginx");
    nginx.arg("-c").arg(home.join("nginx.conf")).arg("-e").arg(home.join("error.log"));
    let _nginx = real2.spawn("nginx-again", &mut nginx)?;
    await_weights(&director, &mut checker, NAT, &all)?;
    await_weights(&director, &mut checker, DR, &all)?;
    for url in URLS {
        spread::round_robin(&ask(&lab, url)?, &shares(&[(1, 1), (2, 1), (3, 1)]))?;
    }

    // When it goes, it takes its services along.
    checker.signal(Signal::TERM)?;
    checker.wait_for_end(PATIENCE)?;
    ensure!(director.ctl().services()?.services.is_empty(), "{:?}", director.ipvsadm().run("-Ln"));
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}
