//! The usual packet: TCP or UDP by IPv4, without options, in one piece, with a TTL for another hop. Nearly all are, so that
//! they are read by a way of their own, with every place known beforehand.

use std::net::Ipv4Addr;

use super::{ethernet, ipv4, read, read_u16, read_u32, tcp, udp};

/// Ethernet, IPv4 without options, and as much as TCP has without options.
pub const HEAD_LEN: usize = TRANSPORT + tcp::MIN_HEADER_LEN;
/// Where the transport header begins.
pub const TRANSPORT: usize = IP + ipv4::MIN_HEADER_LEN;
/// Where the IP header begins.
pub const IP: usize = ethernet::HEADER_LEN;

/// The first bytes of the frame of a usual packet.
pub type Head = [u8; HEAD_LEN];

/// What the head of a usual packet says. Its lengths are sound: the frame holds the packet, and that its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usual {
    /// Source and destination address, as [`joined`].
    pub addresses: u64,
    /// Source port in the upper half, destination port in the lower one.
    pub ports: u32,
    /// Length of the IP packet, header included.
    pub total_len: u16,
    /// TCP or UDP.
    pub protocol: u8,
    /// Flags of TCP; 0 with UDP.
    pub tcp_flags: u8,
}

impl Usual {
    /// Of no packet.
    pub const NONE: Usual = Usual { addresses: 0, ports: 0, total_len: 0, protocol: 0, tcp_flags: 0 };

    /// Reads the head of a frame of `len` bytes; `None` for every one that is not usual, be it good or bad.
    #[inline(always)]
    pub fn read(head: &Head, len: usize) -> Option<Usual> {
        /// EtherType, version and length of the header: IPv4 without options.
        const PLAIN: u32 = (ethernet::IPV4 as u32) << 16 | 0x4500;
        let total_len = read_u16(head, IP + 2);
        // Flags and offset of the fragment, TTL, protocol.
        let word = read_u32(head, IP + 6);
        let is_plain = read_u32(head, ethernet::HEADER_LEN - 2) & 0xffff_ff00 == PLAIN
            && word & u32::from(ipv4::MORE_FRAGMENTS | ipv4::FRAGMENT_OFFSET) << 16 == 0
            && word & 0xfe00 != 0;
        if !is_plain {
            return None;
        }
        let protocol = word as u8;
        let transport = &head[TRANSPORT..];
        // How long the transport says it is at least, and has to be.
        let (told, least, tcp_flags) = match protocol {
            ipv4::TCP => (tcp::header_len(transport), tcp::MIN_HEADER_LEN, tcp::flags(transport)),
            ipv4::UDP => (usize::from(udp::len(transport)), udp::HEADER_LEN, 0),
            _ => return None,
        };
        let [len, told, least, total] = [len, told, least, total_len.into()].map(|n| n as i64);
        // All of them by one look at the sign.
        let frame = len - (ethernet::HEADER_LEN as i64 + total);
        let packet = total - (ipv4::MIN_HEADER_LEN as i64 + told);
        let room = frame | packet | (told - least);
        if room < 0 {
            return None;
        }
        Some(Usual {
            addresses: u64::from_le_bytes(read(head, IP + ipv4::SOURCE)),
            ports: read_u32(head, TRANSPORT),
            total_len,
            protocol,
            tcp_flags,
        })
    }

    /// Addresses and ports.
    #[inline(always)]
    pub fn ends(&self) -> (u64, u32) {
        (self.addresses, self.ports)
    }

    /// Source address.
    #[inline(always)]
    pub fn source(&self) -> Ipv4Addr {
        Ipv4Addr::from((self.addresses as u32).to_le_bytes())
    }

    /// Destination address.
    #[inline(always)]
    pub fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::from(((self.addresses >> 32) as u32).to_le_bytes())
    }
}

/// Two addresses as they stand in a header, one behind the other, read as one little-endian number: to be compared and
/// hashed, not computed with.
#[inline(always)]
pub fn joined(source: Ipv4Addr, destination: Ipv4Addr) -> u64 {
    let number = |address: Ipv4Addr| u64::from(u32::from_le_bytes(address.octets()));
    number(destination) << 32 | number(source)
}
