//! Another configuration while the director runs: all of it or nothing, and nobody notices whom it does not concern.

use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use control::health::Standing;
use control::model::ForwardingMethod::Nat;
use control::model::Scheduler;
use control::plan::Fate;
use control::protocol::{Applied, ConfigDiff, ConfigHistory, HealthList};
use rustix::process::{Pid, Signal, kill_process};
use testbed::ensure;
use testbed::error::{Context as _, Result};
use testbed::lab::config::{Config, Service};
use testbed::lab::daemon::Daemon;
use testbed::lab::process::wait_until;
use testbed::lab::{Lab, plan};
use testbed::traffic::hold::{self, Speak};

/// Services beside those that have traffic.
const OTHERS: u32 = 5_000;
/// The TCP port of a web service that stays as it is.
const STEADY_WEB: u16 = 81;

/// A file in the lab. The director's own is `director.toml`.
fn write(lab: &Lab, name: &str, text: &str) -> Result<PathBuf> {
    let path = lab.directory().join(name);
    fs::write(&path, text).context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// A web service and an echo service of all real servers, by NAT.
fn usual(lab: &Lab, scheduler: Scheduler, weights: &[u16]) -> Config {
    let web = Service::tcp(plan::VIP_NAT, plan::WEB, scheduler);
    let echo = Service::tcp(plan::VIP_NAT, plan::ECHO, Scheduler::Rr);
    lab.config().with(web.lab_servers(lab, plan::WEB_NAT, Nat, weights)).with(echo.lab_servers(
        lab,
        plan::ECHO_NAT,
        Nat,
        &[1, 1, 1],
    ))
}

/// With services that never change: TCP and UDP with traffic, and thousands without.
fn many(lab: &Lab, scheduler: Scheduler, weights: &[u16]) -> String {
    let udp = Service::udp(plan::VIP_NAT, plan::ECHO, Scheduler::Rr);
    let web = Service::tcp(plan::VIP_NAT, STEADY_WEB, Scheduler::Rr);
    let config = usual(lab, scheduler, weights)
        .with(udp.lab_servers(lab, plan::ECHO_NAT, Nat, &[1, 1, 1]))
        .with(web.lab_servers(lab, plan::WEB_NAT, Nat, &[1, 1, 1]));
    let mut text = config.toml().replace("services = 64\nservers = 256", "services = 5100\nservers = 11000");
    for n in 0..OTHERS {
        let (high, low) = (n / 250, n % 250 + 1);
        text += &format!("\n[[service]]\nprotocol = \"tcp\"\naddress = \"10.100.{high}.{low}:80\"\n");
        for server in [11, 12] {
            let port = 10_000 + n;
            text += &format!(
                "  [[service.server]]\n  address = \"10.0.2.{server}:{port}\"\n  method = \"nat\"\n"
            );
        }
    }
    text
}

/// One flow of datagrams, one a millisecond, until it is told to stop: how many went, and how many answers came.
fn flow(lab: &Lab, stop: &AtomicBool) -> Result<(u64, u64)> {
    lab.client().enter(|| -> Result<(u64, u64)> {
        let socket = UdpSocket::bind("0.0.0.0:0").context(|| "no socket")?;
        socket.connect((plan::VIP_NAT, plan::ECHO)).context(|| "cannot connect")?;
        socket.set_nonblocking(true).context(|| "cannot be told not to block")?;
        let (mut sent, mut answered) = (0u64, 0u64);
        let mut buffer = [0; 256];
        let mut take = |answered: &mut u64| {
            while socket.recv(&mut buffer).is_ok() {
                *answered += 1;
            }
        };
        while !stop.load(Ordering::Relaxed) {
            socket.send(format!("{sent}").as_bytes()).context(|| "cannot send")?;
            sent += 1;
            thread::sleep(Duration::from_millis(1));
            take(&mut answered);
        }
        let end = Instant::now() + Duration::from_secs(2);
        while answered < sent && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
            take(&mut answered);
        }
        Ok((sent, answered))
    })?
}

/// Packets that lcores dropped, by reason, those alone that mean a loss.
fn drops(director: &Daemon) -> Result<u64> {
    Ok(director.ctl().stats()?.lcores.iter().map(|lcore| lcore.dropped).sum())
}

#[test]
fn one_of_five_thousand_services_changes_and_nobody_else_notices() -> Result<()> {
    let lab = Lab::plan().build()?;
    let socket = lab.config().socket;
    let director = lab.start_director_toml(&many(&lab, Scheduler::Rr, &[1, 1, 1]), &socket)?;
    let ctl = director.ctl();
    let held = lab.hold(plan::VIP_NAT, plan::ECHO, Speak::Echo, 9)?;
    let touched = lab.hold(plan::VIP_NAT, plan::WEB, Speak::Http, 6)?;
    // Web requests from now on are shared otherwise, and the third real server keeps what it has with weight 0.
    let next = write(&lab, "next.toml", &many(&lab, Scheduler::Wrr, &[3, 1, 0]))?;
    let apply = format!("apply {}", next.display());

    let diff: ConfigDiff = ctl.json(&format!("apply --dry-run {}", next.display()))?;
    let [change] = &diff.difference.services[..] else { testbed::fail!("{diff:?}") };
    ensure!(change.service.to_string() == "tcp 10.99.0.1:80" && change.change == Fate::Changed, "{change:?}");
    ensure!(change.servers.len() == 2 && change.keys.len() == 1, "{change:?}");
    let moves = change.moves.context(|| "it was not weighed")?;
    // From a third each to three quarters and a quarter.
    ensure!(moves.new_per_mille == Some(417), "{moves:?}");
    ensure!(moves.connections >= 6 && moves.lose_server == 0, "{moves:?}");
    ensure!(diff.difference.keys.is_empty() && diff.needs_restart.is_empty(), "{diff:?}");

    let dropped = drops(&director)?;
    let before = ctl.connections()?.connections;
    let stop = AtomicBool::new(false);
    let url = plan::url(plan::VIP_NAT, STEADY_WEB, "/large");
    let ((sent, answered), asked) = thread::scope(|scope| -> Result<_> {
        let flow = scope.spawn(|| flow(&lab, &stop));
        let asking = scope.spawn(|| lab.ask_udp(plan::VIP_NAT, 300));
        let transfer = scope.spawn(|| lab.download(&url));
        thread::sleep(Duration::from_millis(300));
        for (file, weight) in
            [(&apply, 3), (&format!("apply {}/director.toml", lab.directory().display()), 1)]
        {
            let applied: Applied = ctl.json(file)?;
            ensure!(applied.difference.services.len() == 1, "{applied:?}");
            ensure!(ctl.server("tcp", "10.99.0.1:80", "10.0.2.11:8080")?.weight.0 == weight, "{file}");
            thread::sleep(Duration::from_millis(300));
        }
        ctl.run(&apply)?;
        transfer.join().expect("no panic")?;
        let asked = asking.join().expect("no panic")?;
        stop.store(true, Ordering::Relaxed);
        Ok((flow.join().expect("no panic")?, asked))
    })?;
    ensure!(sent == answered && sent > 300, "{sent} datagrams, {answered} answers");
    ensure!(asked.failed() == 0, "{asked:?}");
    ensure!(drops(&director)? == dropped, "packets were dropped: {:#?}", ctl.stats()?.lcores);
    // Who was there is there, with the same real server; the flow and the questions came by later.
    let after = ctl.connections()?.connections;
    for one in &before {
        let same = after.iter().find(|other| (other.client, other.protocol) == (one.client, one.protocol));
        ensure!(same.is_some_and(|same| same.server == one.server), "{one:?} is now {same:?}");
    }
    // Counters go on: every datagram of both is counted, to and fro.
    let echo = ctl.services()?.services.into_iter().find(|s| s.service.to_string() == "udp 10.99.0.1:7");
    let counted = echo.context(|| "no echo service")?.counters;
    ensure!(
        (counted.packets_in, counted.packets_out) == (sent + 300, sent + 300),
        "{counted:?}, {sent} + 300 were sent"
    );
    for held in [held.finish(), touched.finish()] {
        hold::all_lived(&held, 10)?;
    }
    ctl.conserved()?;
    let log = director.stop()?;
    let applied: Vec<&str> = log.lines().filter(|line| line.contains("configuration applied")).collect();
    ensure!(applied.len() == 3, "{log}");
    // With --nocapture: how long it took from the text to the snapshot.
    applied.iter().for_each(|line| println!("{line}"));
    Ok(())
}

#[test]
fn a_file_with_mistakes_or_of_another_start_changes_nothing() -> Result<()> {
    let lab = Lab::plan().build()?;
    let config = usual(&lab, Scheduler::Rr, &[1, 1, 1]);
    let director = lab.start_director(&config)?;
    let ctl = director.ctl();
    let held = lab.hold(plan::VIP_NAT, plan::ECHO, Speak::Echo, 3)?;
    let good = usual(&lab, Scheduler::Wrr, &[9, 1, 1]).toml();
    let lines = good.lines().count();
    let mistakes = "[[service]]\nprotocol = \"tcp\"\naddress = \"10.99.0.9\"\nschedular = \"rr\"\n";
    let restart =
        good.replace("memory_mb = 256", "memory_mb = 300").replace("services = 64", "services = 65");
    for (name, text, named) in [
        (
            "mistakes.toml",
            format!("{good}{mistakes}"),
            vec![
                format!("mistakes.toml:{}:11: service[2].address: 10.99.0.9 has no port", lines + 3),
                format!("mistakes.toml:{}:1: service[2].schedular", lines + 4),
                "did you mean `scheduler`?".to_owned(),
                "(bad-configuration)".to_owned(),
            ],
        ),
        (
            "restart.toml",
            restart,
            vec![
                "dpdk.memory_mb 256 -> 300 needs a restart".to_owned(),
                "limits.services 64 -> 65 needs a restart".to_owned(),
                "(needs-restart)".to_owned(),
            ],
        ),
    ] {
        let file = write(&lab, name, &text)?;
        let output = ctl.output(&format!("apply {}", file.display()))?;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(1), "{name} was applied");
        for name in named {
            ensure!(words.contains(&name), "it does not say {name:?}:\n{words}");
        }
        ensure!(ctl.output("diff")?.status.code() == Some(0), "something changed");
        ensure!(ctl.server("tcp", "10.99.0.1:80", "10.0.2.11:8080")?.weight.0 == 1, "a weight changed");
    }
    let dry = ctl.output(&format!("apply --dry-run {}/restart.toml", lab.directory().display()))?;
    ensure!(dry.status.code() == Some(1), "it could not be applied");
    // Some exchanges more, with all of that behind them.
    thread::sleep(Duration::from_secs(1));
    hold::all_lived(&held.finish(), 3)?;
    let history: ConfigHistory = ctl.json("history")?;
    ensure!(history.versions.len() == 1, "{history:?}");
    ensure!(!lab.directory().join("history").exists(), "who changes nothing leaves nothing");
    director.stop()?;
    Ok(())
}

#[test]
fn what_nobody_confirms_is_taken_back() -> Result<()> {
    let lab = Lab::plan().build()?;
    let director = lab.start_director(&usual(&lab, Scheduler::Rr, &[1, 1, 1]))?;
    let ctl = director.ctl();
    // What was changed by hand before comes back, too.
    ctl.run("server edit tcp 10.99.0.1:7 10.0.2.12:7007 --weight 5")?;
    let weight = || Ok(ctl.server("tcp", "10.99.0.1:80", "10.0.2.11:8080")?.weight.0);
    let file = write(&lab, "next.toml", &usual(&lab, Scheduler::Wrr, &[9, 1]).toml())?;
    let held = lab.hold(plan::VIP_NAT, plan::WEB, Speak::Http, 6)?;
    let begun = Instant::now();
    let applied: Applied = ctl.json(&format!("apply --confirm 2 {}", file.display()))?;
    ensure!(applied.confirm_within == Some(2) && applied.version == Some(2), "{applied:?}");
    ensure!(weight()? == 9 && ctl.output("diff")?.status.code() == Some(0), "it does not run");
    let refused = ctl.output(&format!("apply {}/director.toml", lab.directory().display()))?;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1) && words.contains("(unconfirmed)"), "{words}");
    wait_until("the configuration to be taken back", Duration::from_secs(6), || Ok(weight()? == 1))?;
    ensure!(begun.elapsed() >= Duration::from_secs(2), "after {:?}", begun.elapsed());
    ensure!(ctl.server("tcp", "10.99.0.1:7", "10.0.2.12:7007")?.weight.0 == 5, "the change by hand is gone");
    ensure!(ctl.output("confirm")?.status.code() == Some(1), "there is nothing to confirm");
    // The real server that went and came has its connections again, once their clients send again.
    thread::sleep(Duration::from_secs(3));
    hold::all_lived(&held.finish(), 4)?;

    ctl.run(&format!("apply --confirm 2 {}", file.display()))?;
    ctl.run("confirm")?;
    thread::sleep(Duration::from_millis(2_500));
    ensure!(weight()? == 9, "it was taken back, though confirmed");
    ctl.run(&format!("apply --confirm 60 {}/director.toml", lab.directory().display()))?;
    ensure!(weight()? == 1, "it does not run");
    ctl.run("rollback")?;
    ensure!(weight()? == 9, "it was not taken back");
    ctl.run("rollback 1")?;
    ensure!(weight()? == 1, "the first version does not run");
    let history: ConfigHistory = ctl.json("history")?;
    let confirmed: Vec<bool> = history.versions.iter().map(|version| version.confirmed).collect();
    ensure!(confirmed == [true, false, true, false], "{history:?}");
    ensure!((history.current, history.taken_back_in_ms) == (Some(1), None), "{history:?}");
    let kept =
        fs::read_to_string(lab.directory().join("history/000003.toml")).context(|| "it is not kept")?;
    ensure!(kept.ends_with(&usual(&lab, Scheduler::Wrr, &[9, 1]).toml()), "{kept}");
    ensure!(
        lab.director_output(&[
            "check",
            "--config",
            &format!("{}/history/000003.toml", lab.directory().display())
        ])?
        .status
        .success(),
        "a kept file is not right"
    );
    let log = director.stop()?;
    ensure!(log.contains("configuration taken back: 1 service changed"), "{log}");
    Ok(())
}

#[test]
fn sighup_applies_the_file_anew_and_logs_what_changed() -> Result<()> {
    let lab = Lab::plan().build()?;
    let director = lab.start_director(&usual(&lab, Scheduler::Rr, &[1, 1, 1]))?;
    let ctl = director.ctl();
    let hang_up = || -> Result<()> {
        let pid = i32::try_from(director.pid()).ok().and_then(Pid::from_raw).context(|| "no process")?;
        kill_process(pid, Signal::HUP).context(|| "cannot signal")
    };
    write(&lab, "director.toml", &usual(&lab, Scheduler::Rr, &[1, 1, 1]).udp_timeout(60).toml())?;
    hang_up()?;
    wait_until("the timeout to change", Duration::from_secs(5), || Ok(ctl.run("timeouts")?.contains("60")))?;
    write(&lab, "director.toml", "nonsense = 1\n")?;
    hang_up()?;
    wait_until("the mistake to be told", Duration::from_secs(5), || Ok(director.log().contains("nonsense")))?;
    ensure!(ctl.services()?.services.len() == 2, "services went");
    let log = director.stop()?;
    for words in ["SIGHUP", "timeouts.udp 300 -> 60", "director.toml:1:1", "nothing has changed"] {
        ensure!(log.contains(words), "the log does not say {words:?}:\n{log}");
    }
    Ok(())
}

#[test]
fn changes_by_hand_are_seen_and_undone_and_checks_begin() -> Result<()> {
    let lab = Lab::plan().build()?;
    let config = usual(&lab, Scheduler::Rr, &[1, 1, 1]);
    let director = lab.start_director(&config)?;
    let ctl = director.ctl();
    let own = format!("{}/director.toml", lab.directory().display());
    ctl.run("service add tcp 10.99.0.1:443 --scheduler rr")?;
    ctl.run("server edit tcp 10.99.0.1:80 10.0.2.11:8080 --weight 7")?;
    ctl.run("settings set drop_entry=1")?;
    ctl.run("timeouts --udp 60")?;
    let seen = ctl.output("diff")?;
    ensure!(seen.status.code() == Some(1), "a difference is status 1");
    let words = String::from_utf8_lossy(&seen.stdout).into_owned();
    ensure!(
        words
            == "timeouts.udp 300 -> 60\nsettings.drop_entry 0 -> 1\nservice tcp 10.99.0.1:80 changed\n  real server \
                10.0.2.11:8080 changed: weight 1 -> 7\nservice tcp 10.99.0.1:443 added: scheduler rr\n",
        "{words}"
    );
    let file = ctl.output(&format!("diff {own}"))?;
    let words = String::from_utf8_lossy(&file.stdout).into_owned();
    ensure!(file.status.code() == Some(1) && words.contains("weight 7 -> 1"), "{words}");
    ctl.run(&format!("apply {own}"))?;
    ensure!(ctl.output("diff")?.status.code() == Some(0), "something is left");
    ensure!(ctl.services()?.services.len() == 2, "the service by hand is left");

    // Checks where there were none, one of which fails; others of the same service then take nobody back.
    let check = |interval: f64| {
        format!(
            "  [service.check]\n  kind = \"tcp\"\n  interval = {interval}\n  fall = 1\n  connect_port = 1\n\
             \x20 [[service.server]]\n  address = \"10.0.2.13:8080\"\n  method = \"nat\"\n  \
             [[service.server]]\n  address = \"10.0.2.12:8080\"\n  method = \"nat\"\n  check = []\n"
        )
    };
    let watched = |interval| {
        let service = "\n[[service]]\nprotocol = \"tcp\"\naddress = \"10.99.0.1:8000\"\n";
        format!("{}{service}{}", config.toml(), check(interval))
    };
    let standing = |server: &str| -> Result<Option<Standing>> {
        let list: HealthList = ctl.json("health")?;
        let mut servers = list.health.iter().flat_map(|service| &service.servers);
        Ok(servers.find(|status| status.address.to_string() == server).map(|status| status.standing))
    };
    ensure!(standing("10.0.2.13:8080")?.is_none(), "nobody is checked yet");
    let file = write(&lab, "watched.toml", &watched(0.2))?;
    ctl.run(&format!("apply {}", file.display()))?;
    wait_until("the failure to be found", Duration::from_secs(5), || {
        Ok(standing("10.0.2.13:8080")? == Some(Standing::Inhibited))
    })?;
    ensure!(standing("10.0.2.12:8080")? == Some(Standing::In), "who is not checked serves");
    let file = write(&lab, "watched.toml", &watched(60.0))?;
    ctl.run(&format!("apply {}", file.display()))?;
    ensure!(standing("10.0.2.13:8080")? == Some(Standing::Inhibited), "other checks took it back");
    ctl.run(&format!("apply {own}"))?;
    ensure!(standing("10.0.2.13:8080")?.is_none(), "it is still checked");
    director.stop()?;
    Ok(())
}
