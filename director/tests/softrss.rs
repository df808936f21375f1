//! DPDK's own software Toeplitz, by which its users foresee what NICs do, against the director's table.
#![cfg(feature = "dpdk")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use director::pipeline::owner::{KEY_WORD, fold, toeplitz};
use proptest::prelude::*;

/// `rte_softrss` wants words, not bytes, and one word of the key more than of the input.
fn softrss(key: &[u32; 13], input: &[u8]) -> u32 {
    let word = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("whole words"));
    let mut words: Vec<u32> = input.chunks(4).map(word).collect();
    assert!(words.len() < key.len());
    // SAFETY: as many words of input, and a longer key.
    unsafe { dpdk_sys::dpdk_sys_softrss(words.as_mut_ptr(), words.len() as u32, key.as_ptr().cast()) }
}

/// Bytes of a key, as they stand in memory.
fn key(bytes: &[u8]) -> [u32; 13] {
    let mut key = [0; 13];
    for (word, bytes) in key.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_ne_bytes(bytes.try_into().expect("four of them"));
    }
    key
}

fn input(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let octets = |address: SocketAddr| match address.ip() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    [octets(source), octets(destination), ports].concat()
}

fn agrees(source: SocketAddr, destination: SocketAddr) {
    let ours = key(&KEY_WORD.to_be_bytes().repeat(26));
    let (from, to) = (fold(source.ip(), source.port()), fold(destination.ip(), destination.port()));
    assert_eq!(softrss(&ours, &input(source, destination)), toeplitz(from ^ to));
    let nobody: SocketAddr = match source {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    assert_eq!(softrss(&ours, &input(source, nobody)), toeplitz(from), "by source");
    assert_eq!(softrss(&ours, &input(nobody, destination)), toeplitz(to), "by destination");
}

#[test]
fn it_is_the_toeplitz_that_microsoft_publishes() {
    let published = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
        0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
        0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];
    let address = |text: &str| text.parse().expect("an address");
    let v4 = input(address("66.9.149.187:2794"), address("161.142.100.80:1766"));
    assert_eq!(softrss(&key(&published), &v4), 0x51cc_c178);
    let v6 = input(address("[3ffe:2501:200:1fff::7]:2794"), address("[3ffe:2501:200:3::1]:1766"));
    assert_eq!(softrss(&key(&published), &v6), 0x4020_7d3d);
}

proptest! {
    #[test]
    fn it_agrees_on_ipv4(source: (u32, u16), destination: (u32, u16)) {
        let address = |(bits, port)| (Ipv4Addr::from_bits(bits), port).into();
        agrees(address(source), address(destination));
    }

    #[test]
    fn it_agrees_on_ipv6(source: (u128, u16), destination: (u128, u16)) {
        let address = |(bits, port)| (Ipv6Addr::from_bits(bits), port).into();
        agrees(address(source), address(destination));
    }
}
