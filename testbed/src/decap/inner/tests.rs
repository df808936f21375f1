//! What comes out of a tunnel, and what is refused.

use super::Version::{V4, V6};
use super::*;

const VIPS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 99, 0, 3)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 3))];
const OTHERS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 99, 0, 9)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 9))];
const KINDS: [(Version, Version); 4] = [(V4, V4), (V4, V6), (V6, V4), (V6, V6)];

fn of(version: Version, addresses: [IpAddr; 2]) -> IpAddr {
    addresses[usize::from(version == V6)]
}

fn ipv4(protocol: u8, destination: Ipv4Addr, options: usize, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(V4_HEADER + options + payload.len()).unwrap();
    let mut packet = vec![0u8; V4_HEADER + options];
    packet[0] = 0x40 | u8::try_from((V4_HEADER + options) / 4).unwrap();
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[9] = protocol;
    packet[16..20].copy_from_slice(&destination.octets());
    packet.extend_from_slice(payload);
    packet
}

fn ipv6(protocol: u8, destination: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0u8; V6_HEADER];
    packet[0] = 0x60;
    packet[4..6].copy_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
    packet[6] = protocol;
    packet[24..40].copy_from_slice(&destination.octets());
    packet.extend_from_slice(payload);
    packet
}

fn datagram(destination: IpAddr, payload: &[u8]) -> Vec<u8> {
    match destination {
        IpAddr::V4(destination) => ipv4(17, destination, 0, payload),
        IpAddr::V6(destination) => ipv6(17, destination, payload),
    }
}

/// What a raw socket of version `outer` gives of a tunnel's packet.
fn tunnelled(outer: Version, inner: Version, packet: &[u8]) -> Vec<u8> {
    match outer {
        V4 => ipv4(if inner == V4 { 4 } else { 41 }, Ipv4Addr::new(10, 0, 2, 11), 0, packet),
        V6 => packet.to_vec(),
    }
}

#[test]
fn the_inner_packet_comes_out_as_it_went_in() {
    for (outer, inner) in KINDS {
        let packet = datagram(of(inner, VIPS), b"hello");
        assert_eq!(
            decapsulate(outer, Carrier::Ip(inner), &tunnelled(outer, inner, &packet), &VIPS),
            Ok(&packet[..]),
            "{inner} in {outer}"
        );
    }
}

#[test]
fn options_in_either_header_are_kept_apart_from_payload() {
    let inner = ipv4(6, Ipv4Addr::new(10, 99, 0, 3), 8, b"hello");
    let outer = ipv4(4, Ipv4Addr::new(10, 0, 2, 11), 40, &inner);
    assert_eq!(decapsulate(V4, Carrier::Ip(V4), &outer, &VIPS), Ok(&inner[..]));
}

#[test]
fn padding_behind_either_packet_is_cut_off() {
    for (outer, inner) in KINDS {
        let packet = datagram(of(inner, VIPS), b"x");
        let mut padded_inside = packet.clone();
        padded_inside.extend_from_slice(&[0; 7]);
        let mut carrier = tunnelled(outer, inner, &padded_inside);
        carrier.extend_from_slice(&[0; 5]);
        assert_eq!(
            decapsulate(outer, Carrier::Ip(inner), &carrier, &VIPS),
            Ok(&packet[..]),
            "{inner} in {outer}"
        );
    }
}

#[test]
fn a_packet_for_another_address_is_refused() {
    for (outer, inner) in KINDS {
        let other = of(inner, OTHERS);
        let packet = tunnelled(outer, inner, &datagram(other, b"x"));
        assert_eq!(decapsulate(outer, Carrier::Ip(inner), &packet, &VIPS), Err(Refusal::Address(other)));
    }
}

#[test]
fn another_protocol_is_refused() {
    for (inner, protocol) in [(V4, 41), (V4, 47), (V6, 4), (V6, 47)] {
        let packet = datagram(of(inner, VIPS), b"x");
        let carrier = ipv4(protocol, Ipv4Addr::new(10, 0, 2, 11), 0, &packet);
        assert_eq!(
            decapsulate(V4, Carrier::Ip(inner), &carrier, &VIPS),
            Err(Refusal::Outer),
            "{inner} by {protocol}"
        );
    }
}

#[test]
fn an_inner_packet_that_claims_more_than_there_is_is_refused() {
    for (outer, inner) in KINDS {
        let mut packet = datagram(of(inner, VIPS), b"hello");
        packet[if inner == V4 { 3 } else { 5 }] += 1;
        let refused = decapsulate(outer, Carrier::Ip(inner), &tunnelled(outer, inner, &packet), &VIPS).err();
        assert_eq!(refused, Some(Refusal::Truncated), "{inner} in {outer}");
    }
}

#[test]
fn lying_headers_are_refused_at_every_length_and_first_byte() {
    for (outer, inner) in KINDS {
        // Too short a payload to pass for options of a longer header.
        let good = tunnelled(outer, inner, &datagram(of(inner, VIPS), b"hey"));
        let refuses = |packet: &[u8]| decapsulate(outer, Carrier::Ip(inner), packet, &VIPS).is_err();
        assert!(!refuses(&good));
        assert!((0..good.len()).all(|cut| refuses(&good[..cut])), "{inner} in {outer}");
        // Of an IPv6 header the first byte has half of the traffic class too.
        let lies = |version, first: u8| match version {
            V4 => first != 0x45,
            V6 => first >> 4 != 6,
        };
        let headers = match outer {
            V4 => vec![(0, V4), (V4_HEADER, inner)],
            V6 => vec![(0, inner)],
        };
        for (at, version) in headers {
            for first in (0..=255u8).filter(|&first| lies(version, first)) {
                let mut packet = good.clone();
                packet[at] = first;
                assert!(refuses(&packet), "{inner} in {outer}: byte {at} is {first:#x}");
            }
        }
    }
}

#[test]
fn what_gre_and_gue_carry_comes_out() {
    let packet = datagram(of(V6, VIPS), b"hello");
    let gre = [&[0, 0, 0x86, 0xdd][..], &packet].concat();
    assert_eq!(decapsulate(V6, Carrier::Gre, &gre, &VIPS), Ok(&packet[..]));
    let outer = ipv4(47, Ipv4Addr::new(10, 0, 2, 11), 0, &gre);
    assert_eq!(decapsulate(V4, Carrier::Gre, &outer, &VIPS), Ok(&packet[..]));
    let mut summed = [&[0x80, 0, 0x86, 0xdd, 0, 0, 0, 0][..], &packet].concat();
    assert_eq!(decapsulate(V6, Carrier::Gre, &summed, &VIPS), Err(Refusal::Between), "no sum of its own");
    let sum = !ones_complement(&summed);
    summed[4..6].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(decapsulate(V6, Carrier::Gre, &summed, &VIPS), Ok(&packet[..]));
    for (gue, good) in
        [(&[0, 41, 0, 0][..], true), (&[1, 41, 0, 0, 9, 9, 9, 9], true), (&[0x20, 41, 0, 0], false)]
    {
        let gue = [gue, &packet].concat();
        assert_eq!(decapsulate(V4, Carrier::Gue, &gue, &VIPS).is_ok(), good, "{gue:?}");
    }
}
