//! The lab itself, with DPDK's testpmd in the director's place: two ports, each frame handed from one to the
//! other. What passes here is the lab's doing, so that a failure elsewhere is the director's.

mod tunnels;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use testbed::ensure;
use testbed::error::{Context as _, Result};
use testbed::lab::namespace::Namespace;
use testbed::lab::plan::v6;
use testbed::lab::process::{Process, output, wait_until};
use testbed::lab::{Lab, Ports, plan, reap};
use testbed::traffic::hold::{self, Hold, Speak};
use testbed::traffic::{curl, udp};

const PATIENCE: Duration = Duration::from_secs(10);

/// Puts testpmd where the director will be, and gives client and real servers routes to each other's
/// network that need no gateway: a wire between them is all there is.
fn wire_of_testpmd(lab: &Lab) -> Result<Process> {
    let mut testpmd = lab.director().command("dpdk-testpmd");
    testpmd.args(["--no-huge", "--no-shconf", "--no-pci", "--no-telemetry", "-m", "256", "-l", "0,1"]);
    for port in 0..2 {
        let device = match lab.ports() {
            Ports::Tap => format!("net_tap{port},iface=dtap{port}"),
            Ports::AfPacket => format!("net_af_packet{port},iface=port{port}"),
        };
        testpmd.args(["--vdev", &device]);
    }
    // With a statistics period it does not read its standard input, which is empty.
    testpmd.args(["--", "--forward-mode=io", "--auto-start", "--total-num-mbufs=8192", "--stats-period=1"]);
    let mut process = lab.director().spawn("testpmd", &mut testpmd)?;
    process.wait_for_text("Port statistics", Duration::from_secs(30))?;
    if lab.ports() == Ports::Tap {
        lab.plug_in_taps(&mut process)?;
    }
    for network in [plan::SERVER_SIDE, v6::SERVER_SIDE] {
        lab.client().ip(&[&format!("route del {network}"), &format!("route add {network} dev eth0")])?;
    }
    for server in lab.real_servers() {
        for network in [plan::CLIENT_SIDE, v6::CLIENT_SIDE] {
            server.namespace().ip(&[&format!("route add {network} dev eth0")])?;
        }
    }
    wait_until("the first ping to cross", PATIENCE, || lab.pings(plan::real_server(1)))?;
    wait_until("the first ping of IPv6 to cross", PATIENCE, || lab.pings(v6::real_server(1)))?;
    Ok(process)
}

#[test]
fn every_real_server_answers_through_net_tap() -> Result<()> {
    let lab = Lab::plan().client_addresses(5).build()?;
    let _testpmd = wire_of_testpmd(&lab)?;

    for server in lab.real_servers() {
        answers(
            &lab,
            server.name(),
            server.address().into(),
            [0, 4].map(|n| plan::client_address(n).into()),
        )?;
        answers(
            &lab,
            server.name(),
            server.address_v6().into(),
            [0, 4].map(|n| v6::client_address(n).into()),
        )?;
    }
    Ok(())
}

/// By ping, curl, UDP, and connections that are held from the client's addresses.
fn answers(lab: &Lab, name: &str, address: IpAddr, sources: [IpAddr; 2]) -> Result<()> {
    lab.client().exec(&format!("ping -c 2 -i 0.1 -W 2 {address}"), PATIENCE)?;

    let plan = curl::Plan::new(plan::url(address, plan::WEB_NAT, "/"), 20).parallel(4);
    let outcome = curl::ask(lab.client(), &plan, |_| ())?;
    ensure!(outcome.answers.get(name) == Some(&20), "{name} answered {outcome:?}");

    let target = SocketAddr::from((address, plan::ECHO));
    let outcome = lab.client().enter(|| udp::ask(&udp::Plan::new(target, 20), |_| ()))??;
    ensure!(outcome.answers.get(name) == Some(&20), "{name} answered {outcome:?}");

    for (speak, port) in [(Speak::Http, plan::WEB), (Speak::Echo, plan::ECHO)] {
        let tick = Duration::from_millis(20);
        let held = lab.client().enter(|| {
            let hold = Hold::open((address, port), speak, &sources, tick)?;
            std::thread::sleep(Duration::from_millis(300));
            Ok::<_, testbed::error::Error>(hold.finish())
        })??;
        hold::all_lived(&held, 3)?;
        ensure!(held.iter().all(|one| one.server == name), "{held:?}");
    }
    Ok(())
}

#[test]
fn curl_asks_from_every_address_it_is_told() -> Result<()> {
    let lab = Lab::plan().real_servers(1).client_addresses(8).build()?;
    let _testpmd = wire_of_testpmd(&lab)?;
    for server in [IpAddr::from(plan::real_server(1)), v6::real_server(1).into()] {
        let sources: Vec<IpAddr> = (0..8)
            .map(|index| match server {
                IpAddr::V4(_) => plan::client_address(index).into(),
                IpAddr::V6(_) => v6::client_address(index).into(),
            })
            .collect();
        let plan = curl::Plan::new(plan::url(server, plan::WEB, "/"), 3).from(&sources).parallel(4);
        let outcome = curl::ask(lab.client(), &plan, |_| ())?;
        ensure!(outcome.failed == 0 && outcome.answered() == 24, "{outcome:?}");
        ensure!(outcome.by_client.keys().copied().collect::<Vec<_>>() == sources, "{:?}", outcome.by_client);
        ensure!(outcome.by_client.values().all(|servers| servers.len() == 3), "{:?}", outcome.by_client);
    }
    Ok(())
}

#[test]
fn a_request_that_nobody_answers_is_counted_as_failed() -> Result<()> {
    let lab = Lab::plan().real_servers(1).build()?;
    let _testpmd = wire_of_testpmd(&lab)?;
    let outcome = curl::ask(lab.client(), &curl::Plan::new("http://10.0.2.11:81/", 3), |_| ())?;
    ensure!(outcome.failed == 3 && outcome.answered() == 0, "{outcome:?}");
    let nobody = SocketAddr::from((Ipv4Addr::new(10, 0, 2, 99), 7));
    let plan = udp::Plan { timeout: Duration::from_millis(100), ..udp::Plan::new(nobody, 2) };
    let outcome = lab.client().enter(|| udp::ask(&plan, |_| ()))??;
    ensure!(outcome.timeouts == 2, "{outcome:?}");
    Ok(())
}

#[test]
fn a_large_file_comes_through_net_tap_intact() -> Result<()> {
    let lab = Lab::plan().real_servers(1).build()?;
    let _testpmd = wire_of_testpmd(&lab)?;
    download_and_compare(&lab)
}

#[test]
fn a_large_file_comes_through_net_af_packet_intact() -> Result<()> {
    let lab = Lab::plan().real_servers(1).ports(Ports::AfPacket).build()?;
    // The kernel keeps these interfaces and would forward the same frames a second time.
    lab.director().sysctl("net/ipv4/ip_forward", "0")?;
    let _testpmd = wire_of_testpmd(&lab)?;
    download_and_compare(&lab)
}

fn download_and_compare(lab: &Lab) -> Result<()> {
    let copy = lab.directory().join("copy");
    let line = format!("curl -sS --max-time 50 -o {} http://10.0.2.11/large", copy.display());
    lab.client().exec(&line, Duration::from_secs(60))?;
    let read = |path| std::fs::read(path).context(|| "cannot read a file");
    ensure!(read(copy)? == read(lab.large_file())?, "the file came through changed");
    Ok(())
}

/// Real servers hold the VIPs of DR and TUN, and must not tell: a question for a VIP, by ARP or neighbour discovery,
/// is the director's.
#[test]
fn real_servers_do_not_tell_that_they_have_the_vips() -> Result<()> {
    let lab = Lab::plan().build()?;
    let _testpmd = wire_of_testpmd(&lab)?;
    let vips: Vec<IpAddr> =
        plan::VIPS.map(IpAddr::from).into_iter().chain(v6::VIPS.map(IpAddr::from)).collect();
    for &vip in &vips {
        lab.client().ip(&[&format!("route add {vip} dev eth0")])?;
        let anything = |v4: bool| if v4 { "0.0.0.0:0" } else { "[::]:0" };
        // Any packet makes the kernel ask, three times.
        let sent =
            lab.client().enter(|| UdpSocket::bind(anything(vip.is_ipv4()))?.send_to(b"x", (vip, 9)))?;
        sent.context(|| format!("cannot send to {vip}"))?;
    }
    wait_until("the questions for the VIPs to be given up", PATIENCE, || {
        let neighbours = lab.client().exec("ip neigh show dev eth0", PATIENCE)?.stdout;
        let neighbours = String::from_utf8_lossy(&neighbours).into_owned();
        let of = |vip: &IpAddr| neighbours.lines().find(|line| line.starts_with(&format!("{vip} ")));
        let mut failed = 0;
        for vip in &vips {
            let state = of(vip).unwrap_or_default();
            ensure!(!state.contains("lladdr"), "somebody answers for a VIP: {state}");
            failed += usize::from(state.contains("FAILED"));
        }
        Ok(failed == vips.len())
    })?;
    Ok(())
}

#[test]
fn a_dropped_lab_leaves_nothing() -> Result<()> {
    let lab = Lab::plan().real_servers(2).build()?;
    let testpmd = wire_of_testpmd(&lab)?;
    let names: Vec<String> = [lab.client(), lab.director(), lab.router()]
        .into_iter()
        .chain(lab.real_servers().iter().map(|server| server.namespace()))
        .map(|namespace| namespace.name().to_owned())
        .collect();
    let directory = lab.directory().to_owned();
    let testpmd_pid = testpmd.pid();
    let pids: Vec<String> = names.iter().flat_map(|name| pids_in(name)).collect();
    assert!(pids.len() >= 2 * 4, "each real server runs four programs at least: {pids:?}");

    drop(testpmd);
    drop(lab);

    for name in &names {
        assert!(!std::path::Path::new("/run/netns").join(name).exists(), "{name} is left");
    }
    assert!(!directory.exists());
    for pid in pids.iter().chain([&testpmd_pid.to_string()]) {
        assert!(!std::path::Path::new("/proc").join(pid).exists(), "process {pid} is left");
    }
    Ok(())
}

fn pids_in(namespace: &str) -> Vec<String> {
    let pids =
        output(Command::new("ip").args(["netns", "pids", namespace]), PATIENCE).expect("ip netns pids");
    String::from_utf8_lossy(&pids.stdout).lines().map(str::to_owned).collect()
}

/// Killed outright, a process cannot take its lab down; the next one does.
#[test]
fn a_lab_whose_owner_was_killed_is_removed_by_the_next_run() -> Result<()> {
    // A process that is dead now owns these; they look like what a killed test leaves behind.
    let mut owner = Command::new("sleep").arg("60").spawn().context(|| "cannot start sleep")?;
    let prefix = format!("dlab-{}-1", owner.id());
    let name = format!("{prefix}-client");
    let path = std::path::Path::new("/run/netns").join(&name);
    testbed::lab::process::run(Command::new("ip").args(["netns", "add", &name]), PATIENCE)?;
    std::fs::create_dir(format!("/run/{prefix}")).context(|| "cannot create the directory")?;
    let mut orphan = Command::new("ip")
        .args(["netns", "exec", &name, "sleep", "60"])
        .spawn()
        .context(|| "cannot start a program")?;
    wait_until("the program to be in the namespace", PATIENCE, || Ok(pids_in(&name).len() == 1))?;

    ensure!(!reap::reap().contains(&prefix), "a lab was removed although its owner lives");
    ensure!(path.exists(), "the namespace of a living owner is gone");

    owner.kill().context(|| "cannot kill")?;
    owner.wait().context(|| "cannot wait")?;
    // The orphan is this test's child; once ended it stays a zombie until it is waited for.
    let waiter = std::thread::spawn(move || orphan.wait());
    ensure!(reap::reap().contains(&prefix), "the lab of a dead owner was not removed");
    ensure!(!path.exists() && !std::path::Path::new("/run").join(&prefix).exists(), "something is left");
    let status = waiter.join().expect("the waiter does not panic").context(|| "cannot wait")?;
    ensure!(!status.success(), "the program in the lab was not ended: {status}");
    Ok(())
}

/// What `Namespace` promises: sockets that are opened inside belong there.
#[test]
fn a_thread_inside_a_namespace_sees_its_interfaces_only() -> Result<()> {
    let lab = Lab::plan().real_servers(1).build()?;
    let mut names: Vec<String> = Namespace::interfaces(lab.client())?;
    names.sort();
    ensure!(names == ["eth0", "lo"], "{names:?}");
    ensure!(lab.director().has_interface("dir0")? && !lab.client().has_interface("dir0")?, "{names:?}");
    let listens =
        lab.real_servers()[0].namespace().enter(|| UdpSocket::bind((plan::real_server(1), 99)).is_ok())?;
    ensure!(listens, "an address of the namespace cannot be bound inside");
    Ok(())
}
