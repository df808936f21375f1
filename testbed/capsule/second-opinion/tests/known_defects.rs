//! Why capsule is not in the product, each reason as a test. One that fails here is good news: capsule
//! has changed, and `docs/capsule.md` wants another look.

#[allow(dead_code)]
mod by_hand;

use by_hand::{IP, TRANSPORT};
use capsule::Mbuf;
use capsule::packets::ip::v4::Ipv4;
use capsule::packets::{Ethernet, Packet, Tcp4, Udp4};
use second_opinion::nat::{Plan, RealServer};
use second_opinion::workbench::Workbench;

/// TCP from 10.0.1.7:40000 to 10.99.0.1:80, no payload; checksums are not looked at here.
fn tcp_frame() -> Vec<u8> {
    let mut frame = vec![0; 54];
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[IP..IP + 4].copy_from_slice(&[0x45, 0, 0, 40]);
    frame[IP + 8..IP + 10].copy_from_slice(&[64, 6]);
    frame[IP + 12..IP + 20].copy_from_slice(&[10, 0, 1, 7, 10, 99, 0, 1]);
    frame[TRANSPORT..TRANSPORT + 2].copy_from_slice(&40000u16.to_be_bytes());
    frame[TRANSPORT + 2..TRANSPORT + 4].copy_from_slice(&80u16.to_be_bytes());
    frame[TRANSPORT + 12] = 5 << 4;
    frame
}

fn ipv4(bytes: &[u8]) -> Ipv4 {
    Mbuf::from_bytes(bytes).unwrap().parse::<Ethernet>().unwrap().parse::<Ipv4>().unwrap()
}

#[test]
fn takes_ip_options_for_the_tcp_header() {
    let _workbench = Workbench::new();
    let mut frame = tcp_frame();
    // One word of options: router alert (RFC 2113).
    frame.splice(TRANSPORT..TRANSPORT, [0x94, 0x04, 0x00, 0x00]);
    frame[IP] = 0x46;
    frame[IP + 3] = 44;
    let ip = ipv4(&frame);
    assert_eq!(ip.ihl(), 6);
    let tcp = ip.parse::<Tcp4>().unwrap();
    assert_eq!((tcp.src_port(), tcp.dst_port()), (0x9404, 0), "the option's bytes, not 40000 and 80");
}

#[test]
fn accepts_an_ip_length_beyond_the_frame() {
    let _workbench = Workbench::new();
    let mut frame = tcp_frame();
    frame[IP + 2..IP + 4].copy_from_slice(&1500u16.to_be_bytes());
    let tcp = ipv4(&frame).parse::<Tcp4>().unwrap();
    assert_eq!(tcp.envelope().total_length(), 1500);
    assert_eq!(tcp.len(), 20);
}

#[test]
fn accepts_an_ip_header_shorter_than_an_ip_header() {
    let _workbench = Workbench::new();
    let mut frame = tcp_frame();
    frame[IP] = 0x41;
    assert!(ipv4(&frame).parse::<Tcp4>().is_ok());
}

#[test]
fn accepts_a_udp_length_beyond_the_frame() {
    let _workbench = Workbench::new();
    let mut frame = tcp_frame();
    frame[IP + 9] = 17;
    frame[TRANSPORT + 4..TRANSPORT + 6].copy_from_slice(&9000u16.to_be_bytes());
    assert_eq!(ipv4(&frame).parse::<Udp4>().unwrap().length(), 9000);
}

#[test]
fn reads_ports_out_of_a_later_fragment() {
    let _workbench = Workbench::new();
    let mut frame = tcp_frame();
    frame[IP + 7] = 185;
    assert_eq!(ipv4(&frame).parse::<Tcp4>().unwrap().dst_port(), 80);
}

/// A SYN fills 54 bytes and is padded to 60: capsule's rewrite makes the padding part of the packet.
#[test]
fn makes_padding_part_of_the_packet_it_rewrites() {
    let _workbench = Workbench::new();
    let plan = Plan {
        service: "10.99.0.1:80".parse().unwrap(),
        real_servers: vec![RealServer { address: "10.0.2.11:8080".parse().unwrap(), mac: [2; 6] }],
        own_mac: [4; 6],
    };
    let mut frame = tcp_frame();
    frame.resize(60, 0);
    let mbuf = plan.rewrite(ipv4(&frame)).unwrap();
    let ip = mbuf.parse::<Ethernet>().unwrap().parse::<Ipv4>().unwrap();
    assert_eq!(ip.total_length(), 46, "40 in, and 40 would be right");
}

/// Only a build with debug assertions notices; others get away with it on this architecture. The sum is
/// made in a process of its own, which does not survive it.
#[cfg(debug_assertions)]
#[test]
fn aborts_on_bytes_at_an_odd_address() {
    use std::os::unix::process::ExitStatusExt;

    if std::env::var_os("SUM_AT_AN_ODD_ADDRESS").is_some() {
        let words = [0u16; 8];
        // SAFETY: a u16 is two u8, so these are all the bytes of `words`.
        let bytes = unsafe { std::slice::from_raw_parts(words.as_ptr().cast::<u8>(), 16) };
        std::hint::black_box(capsule::packets::checksum::compute(0, &bytes[1..9]));
        return;
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "aborts_on_bytes_at_an_odd_address"])
        .env("SUM_AT_AN_ODD_ADDRESS", "1")
        .output()
        .unwrap();
    let abort = 6;
    assert_eq!(child.status.signal(), Some(abort), "{}", String::from_utf8_lossy(&child.stderr));
}
