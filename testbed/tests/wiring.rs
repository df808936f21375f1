//! The lab itself, with DPDK's testpmd in the director's place: two ports, each frame handed from one to the
//! other. What passes here is the lab's doing, so that a failure elsewhere is the director's.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::process::Command;
use std::time::Duration;

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with};
use testbed::ensure;
use testbed::error::{Context as _, Result};
use testbed::lab::namespace::Namespace;
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
    lab.client().ip(&["route del 10.0.2.0/24", "route add 10.0.2.0/24 dev eth0"])?;
    for server in lab.real_servers() {
        server.namespace().ip(&["route add 10.0.1.0/24 dev eth0"])?;
    }
    wait_until("the first ping to cross", PATIENCE, || {
        Ok(lab.client().try_exec("ping -c 1 -W 1 10.0.2.11", PATIENCE)?.status.success())
    })?;
    Ok(process)
}

fn tcp(server: u8, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(plan::real_server(server), port)
}

#[test]
fn every_real_server_answers_through_net_tap() -> Result<()> {
    let lab = Lab::plan().client_addresses(5).build()?;
    let _testpmd = wire_of_testpmd(&lab)?;

    for (number, server) in (1..).zip(lab.real_servers()) {
        let name = server.name();
        lab.client().exec(&format!("ping -c 2 -i 0.1 -W 2 {}", server.address()), PATIENCE)?;

        let url = format!("http://{}:{}/", server.address(), plan::WEB_NAT);
        let outcome = curl::ask(lab.client(), &curl::Plan::new(url, 20).parallel(4), |_| ())?;
        ensure!(outcome.answers.get(name) == Some(&20), "{name} answered {outcome:?}");

        let target = SocketAddr::from((server.address(), plan::ECHO));
        let outcome = lab.client().enter(|| udp::ask(&udp::Plan::new(target, 20), |_| ()))??;
        ensure!(outcome.answers.get(name) == Some(&20), "{name} answered {outcome:?}");

        let speak = [(Speak::Http, plan::WEB), (Speak::Echo, plan::ECHO)];
        for (speak, port) in speak {
            let sources = [plan::client_address(0), plan::client_address(4)];
            let tick = Duration::from_millis(20);
            let held = lab.client().enter(|| {
                let hold = Hold::open(tcp(number, port), speak, &sources, tick)?;
                std::thread::sleep(Duration::from_millis(300));
                Ok::<_, testbed::error::Error>(hold.finish())
            })??;
            hold::all_lived(&held, 3)?;
            ensure!(held.iter().all(|one| one.server == name), "{held:?}");
        }
    }
    Ok(())
}

#[test]
fn curl_asks_from_every_address_it_is_told() -> Result<()> {
    let lab = Lab::plan().real_servers(1).client_addresses(8).build()?;
    let _testpmd = wire_of_testpmd(&lab)?;
    let sources: Vec<Ipv4Addr> = (0..8).map(plan::client_address).collect();
    let plan = curl::Plan::new("http://10.0.2.11/", 3).from(&sources).parallel(4);
    let outcome = curl::ask(lab.client(), &plan, |_| ())?;
    ensure!(outcome.failed == 0 && outcome.answered() == 24, "{outcome:?}");
    ensure!(outcome.by_client.keys().copied().collect::<Vec<_>>() == sources, "{:?}", outcome.by_client);
    ensure!(outcome.by_client.values().all(|servers| servers.len() == 3), "{:?}", outcome.by_client);
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

/// A packet for the VIP in a tunnel to the real server: the UDP echo on the VIP answers the client directly,
/// by the router, with the VIP as its source.
#[test]
fn a_packet_in_a_tunnel_is_answered_by_the_vip_past_the_director() -> Result<()> {
    let lab = Lab::plan().build()?;
    let _testpmd = wire_of_testpmd(&lab)?;
    for server in lab.real_servers() {
        let (answer, from) = lab.client().enter(|| ask_through_tunnel(server.address()))??;
        ensure!(answer == format!("{} through the tunnel", server.name()), "got \"{answer}\"");
        ensure!(from == SocketAddr::from((plan::VIP_TUN, plan::ECHO)), "answered by {from}");
    }
    Ok(())
}

fn ask_through_tunnel(server: Ipv4Addr) -> Result<(String, SocketAddr)> {
    let socket = UdpSocket::bind((plan::CLIENT, 0)).context(|| "cannot bind")?;
    socket.set_read_timeout(Some(PATIENCE)).context(|| "no timeout")?;
    let port = socket.local_addr().context(|| "no address")?.port();
    let packet = udp_packet(
        SocketAddrV4::new(plan::CLIENT, port),
        SocketAddrV4::new(plan::VIP_TUN, plan::ECHO),
        b"through the tunnel",
    );
    // The kernel puts the outer header in front of what is written to this socket.
    let tunnel = socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::IPIP))
        .context(|| "cannot open a raw socket")?;
    sendto(&tunnel, &packet, SendFlags::empty(), &SocketAddrV4::new(server, 0)).context(|| "cannot send")?;
    let mut buffer = [0; 1500];
    let (length, from) = socket.recv_from(&mut buffer).context(|| "no answer from the tunnel")?;
    Ok((String::from_utf8_lossy(&buffer[..length]).into_owned(), from))
}

/// A UDP datagram in an IPv4 packet with a good header checksum and no UDP checksum.
fn udp_packet(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let length = 28 + payload.len() as u16;
    let mut packet = vec![0x45, 0];
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&[0, 1, 0, 0, 64, 17, 0, 0]);
    packet.extend_from_slice(&from.ip().octets());
    packet.extend_from_slice(&to.ip().octets());
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend_from_slice(&from.port().to_be_bytes());
    packet.extend_from_slice(&to.port().to_be_bytes());
    packet.extend_from_slice(&(length - 20).to_be_bytes());
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(payload);
    packet
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

/// Real servers hold the VIPs of DR and TUN, and must not tell: an ARP question for a VIP is the director's.
#[test]
fn real_servers_do_not_answer_arp_for_the_vips() -> Result<()> {
    let lab = Lab::plan().build()?;
    let _testpmd = wire_of_testpmd(&lab)?;
    for vip in plan::VIPS {
        lab.client().ip(&[&format!("route add {vip} dev eth0")])?;
        let ping = lab.client().try_exec(&format!("ping -c 1 -W 2 {vip}"), PATIENCE)?;
        ensure!(!ping.status.success(), "somebody answers for {vip}");
        let neighbour = lab.client().exec(&format!("ip neigh show {vip}"), PATIENCE)?;
        let neighbour = String::from_utf8_lossy(&neighbour.stdout).into_owned();
        ensure!(!neighbour.contains("lladdr"), "{vip} is known at {neighbour}");
    }
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
