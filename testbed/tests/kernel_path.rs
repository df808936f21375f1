//! The kernel as slow path: whatever is not for a virtual service is the kernel's, and works as on any machine.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use control::model::ForwardingMethod::Nat;
use control::model::Scheduler;
use testbed::ensure;
use testbed::error::{Context as _, Result};
use testbed::lab::config::Service;
use testbed::lab::daemon::Daemon;
use testbed::lab::plan::v6;
use testbed::lab::{Lab, plan};
use testbed::traffic::udp;

const PATIENCE: Duration = Duration::from_secs(15);

const WEB_VIPS: [IpAddr; 2] = [IpAddr::V4(plan::VIP_NAT), IpAddr::V6(v6::VIP_NAT)];

/// A lab with one web service by NAT on [`WEB_VIPS`] each.
fn lab() -> Result<(Lab, Daemon)> {
    let lab = Lab::plan().real_servers(1).build()?;
    let config = WEB_VIPS.into_iter().fold(lab.config(), |config, vip| {
        let web = Service::tcp(vip, plan::WEB, Scheduler::Rr);
        config.with(web.lab_servers(&lab, plan::WEB_NAT, Nat, &[1]))
    });
    let director = lab.start_director(&config)?;
    Ok((lab, director))
}

#[test]
fn ping_is_answered_for_vips_and_routed_to_real_servers() -> Result<()> {
    let (lab, director) = lab()?;
    let v4 = [plan::VIP_NAT, plan::DIRECTOR_CLIENT_SIDE, plan::real_server(1)].map(IpAddr::from);
    let v6 = [v6::VIP_NAT, v6::DIRECTOR_CLIENT_SIDE, v6::real_server(1)].map(IpAddr::from);
    for address in [v4, v6].concat() {
        lab.client().exec(&format!("ping -c 3 -i 0.1 -W 2 {address}"), PATIENCE)?;
    }
    // The other way, begun by a real server.
    for client in [IpAddr::from(plan::CLIENT), v6::CLIENT.into()] {
        let line = format!("ping -c 3 -i 0.1 -W 2 {client}");
        lab.real_servers()[0].namespace().exec(&line, PATIENCE)?;
    }
    // Who the director is, by ARP and by neighbour discovery, is the mirror's answer.
    let words = lab.director().exec("ip -brief link show dir0", PATIENCE)?.stdout;
    let words = String::from_utf8_lossy(&words).into_owned();
    let mac = words.split_whitespace().nth(2).context(|| format!("dir0 has no Ethernet address: {words}"))?;
    for address in [IpAddr::from(plan::DIRECTOR_CLIENT_SIDE), v6::DIRECTOR_CLIENT_SIDE.into()] {
        let words = lab.client().exec(&format!("ip neigh show {address}"), PATIENCE)?.stdout;
        let words = String::from_utf8_lossy(&words).into_owned();
        ensure!(words.contains(mac), "the director is {mac}, and not {words}");
    }
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

#[test]
fn a_port_without_service_is_refused_by_the_kernel() -> Result<()> {
    let (lab, director) = lab()?;
    for vip in WEB_VIPS {
        let target = SocketAddr::from((vip, 81));
        let begun = Instant::now();
        let tcp =
            lab.client().enter(|| TcpStream::connect_timeout(&target, PATIENCE).map_err(|e| e.kind()))?;
        ensure!(tcp.as_ref().err() == Some(&ErrorKind::ConnectionRefused), "TCP {target}: {tcp:?}");
        ensure!(begun.elapsed() < Duration::from_secs(3), "the RST took {:?}", begun.elapsed());
        let udp = lab.client().enter(|| -> std::io::Result<usize> {
            let socket = UdpSocket::bind(if vip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
            socket.set_read_timeout(Some(Duration::from_secs(3)))?;
            socket.connect(target)?;
            socket.send(b"anybody?")?;
            socket.recv(&mut [0; 16])
        })?;
        let kind = udp.as_ref().map_err(std::io::Error::kind);
        ensure!(kind == Err(ErrorKind::ConnectionRefused), "UDP {target} has no port unreachable: {udp:?}");
    }
    director.stop()?;
    Ok(())
}

/// What ends at the director by its TTL is told to its sender: by the director's kernel, or for a service by the director
/// itself.
#[test]
fn a_ttl_of_one_gets_time_exceeded() -> Result<()> {
    let (lab, director) = lab()?;
    for (address, told) in [
        (IpAddr::from(plan::real_server(1)), "Time to live exceeded"),
        (v6::real_server(1).into(), "Time exceeded: Hop limit"),
    ] {
        let ping = lab.client().try_exec(&format!("ping -c 2 -i 0.2 -W 2 -t 1 {address}"), PATIENCE)?;
        let words = String::from_utf8_lossy(&ping.stdout).into_owned();
        ensure!(words.contains(told), "routed by the kernel:\n{words}");
    }

    let error = lab.client().enter(|| -> std::io::Result<std::io::Error> {
        let socket =
            rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)?;
        rustix::net::sockopt::set_ip_ttl(&socket, 1)?;
        // With this option an ICMP error ends the connection at once instead of being waited out.
        set_recverr(&socket)?;
        let target = SocketAddr::from((plan::VIP_NAT, plan::WEB));
        Ok(match rustix::net::connect(&socket, &target) {
            Ok(()) => std::io::Error::other("a packet with TTL 1 was forwarded"),
            Err(errno) => errno.into(),
        })
    })?;
    let error = error.context(|| "cannot make a socket with TTL 1")?;
    ensure!(error.kind() == ErrorKind::HostUnreachable, "for a service: {error}");
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

fn set_recverr(socket: &rustix::fd::OwnedFd) -> std::io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the option's value is a c_int of that length.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_RECVERR,
            std::ptr::from_ref(&on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if status == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Addresses and neighbours are the kernel's to know: when a real server gets another Ethernet address,
/// the director follows.
#[test]
fn a_real_server_may_change_its_ethernet_address() -> Result<()> {
    let (lab, director) = lab()?;
    let ask = || WEB_VIPS.into_iter().try_for_each(|vip| lab.fetch(vip, 5).map(drop));
    ask()?;
    let server = lab.real_servers()[0].namespace();
    server.ip(&["link set eth0 address 02:00:00:00:be:ef"])?;
    // Any packet from the real server teaches the switch and, by ARP, the director's kernel.
    let pings = || {
        [IpAddr::from(plan::DIRECTOR_SERVER_SIDE), v6::DIRECTOR_SERVER_SIDE.into()]
            .into_iter()
            .try_for_each(|director| server.exec(&format!("ping -c 1 -W 2 {director}"), PATIENCE).map(drop))
    };
    pings()?;
    lab.director().ip(&["neigh flush dev dir1"])?;
    pings()?;
    ask()?;
    director.stop()?;
    Ok(())
}

#[test]
fn every_vip_answers_a_ping_once_and_in_full_size() -> Result<()> {
    let (lab, director) = lab()?;
    let v4 = plan::VIPS.map(|vip| (IpAddr::from(vip), 1500 - 28));
    let v6 = v6::VIPS.map(|vip| (IpAddr::from(vip), 1500 - 48));
    for (vip, size) in [v4, v6].concat() {
        let line = format!("ping -c 4 -i 0.1 -W 2 -M do -s {size} {vip}");
        let words = lab.client().exec(&line, PATIENCE)?.stdout;
        let words = String::from_utf8_lossy(&words).into_owned();
        ensure!(words.contains(" 4 received") && !words.contains("DUP"), "{words}");
        // In pieces as well.
        lab.client().exec(&format!("ping -c 3 -i 0.1 -W 2 -s 4000 {vip}"), PATIENCE)?;
    }
    director.stop()?;
    Ok(())
}

/// As in IPVS: that no real server may be chosen is told by ICMP port unreachable, never by a reset.
#[test]
fn a_service_without_an_available_real_server_is_unreachable() -> Result<()> {
    let (lab, director) = lab()?;
    director.ctl().run("server edit tcp 10.99.0.1:80 10.0.2.11:8080 --weight 0")?;
    director.ctl().run("server del tcp [2001:db8:99::1]:80 [2001:db8:2::11]:8080")?;
    director.ctl().run("service add udp 10.99.0.1:53 --scheduler wlc")?;
    director.ctl().run("service add udp [2001:db8:99::1]:53 --scheduler rr")?;
    let resets = lab.director().resets_sent()?;
    for vip in WEB_VIPS {
        let begun = Instant::now();
        let line = format!("curl -sS --globoff --max-time 9 {}", plan::url(vip, plan::WEB, "/"));
        let curl = lab.client().try_exec(&line, PATIENCE)?;
        let words = String::from_utf8_lossy(&curl.stderr).into_owned();
        // Not "timed out", which is another status.
        ensure!(curl.status.code() == Some(7), "curl of {vip} ended with {}: {words}", curl.status);
        ensure!(begun.elapsed() < Duration::from_secs(3), "{vip}: it took {:?}", begun.elapsed());
        let target = SocketAddr::from((vip, plan::WEB));
        let tcp =
            lab.client().enter(|| TcpStream::connect_timeout(&target, PATIENCE).map_err(|e| e.kind()))?;
        ensure!(tcp.as_ref().err() == Some(&ErrorKind::ConnectionRefused), "{target}: {tcp:?}");

        let plan = udp::Plan::new(SocketAddr::from((vip, 53)), 1);
        let outcome = lab.client().enter(|| udp::ask(&plan, |_| ()))??;
        ensure!(outcome.wrong == ["port unreachable"], "{vip}: {outcome:?}");
    }
    ensure!(lab.director().resets_sent()? == resets, "the director's kernel sent a reset");
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}
