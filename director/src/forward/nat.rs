//! Network address translation: one address and port rewritten, checksums mended.

use std::net::Ipv4Addr;

use crate::wire::checksum::{Delta, sum};
use crate::wire::usual::{Head, IP, TRANSPORT};
use crate::wire::{
    Family, Frame, Side, Transport, ethernet, ipv4, read, read_u16, sctp, tcp, udp, write_u16,
};

/// Rewrites one end of a TCP, UDP or SCTP packet that `wire::parse` accepted as `parsed`.
///
/// A UDP datagram without checksum gets one, as IPVS gives it one (`udp_snat_handler` in Linux
/// `ip_vs_proto_udp.c`), unless it is a fragment: whoever has but a part of it cannot.
#[inline(always)]
pub fn rewrite<A: Family>(frame: &mut [u8], parsed: &Frame<A>, side: Side, address: A, port: u16) {
    let transport = parsed.transport_offset();
    let delta = A::rewrite_address(&mut frame[ethernet::HEADER_LEN..], side, address);
    if !matches!(parsed.transport, Transport::Tcp | Transport::Udp | Transport::FirstFragment) {
        // The addresses are all that a later fragment has; the checksum of the whole is mended in the first one.
        if parsed.transport == Transport::Sctp {
            rewrite_sctp(&mut frame[transport..parsed.end()], side, port);
        }
        return;
    }
    let port_at = transport + if side == Side::Source { 0 } else { 2 };
    let delta = delta.replace_u16(read_u16(frame, port_at), port);
    write_u16(frame, port_at, port);
    if parsed.protocol == ipv4::TCP {
        let at = transport + tcp::CHECKSUM;
        let checksum = delta.apply(read_u16(frame, at));
        write_u16(frame, at, checksum);
    } else {
        let at = transport + udp::CHECKSUM;
        let checksum = match read_u16(frame, at) {
            0 if parsed.transport == Transport::FirstFragment => return,
            0 => full_udp_checksum(frame, parsed, side, address),
            present => delta.apply(present),
        };
        // 0 would say that there is none; its other form in one's complement says the same number.
        write_u16(frame, at, if checksum == 0 { 0xffff } else { checksum });
    }
}

/// What [`rewrite`] does with usual packets of one connection in one direction, and the TTL lowered: the same for each, but
/// for the checksums that it has before.
#[derive(Clone, Copy, Debug)]
pub struct Translation {
    address_at: usize,
    port_at: usize,
    checksum_at: usize,
    is_tcp: bool,
    // As they stand in the packet. Sums are the same in either order of bytes (RFC 1071 §2): none has to be swapped.
    address: u32,
    port: u16,
    /// Of the IP header's checksum.
    header: Delta,
    /// Of the transport's.
    transport: Delta,
}

impl Translation {
    /// That of packets with these addresses and ports, as [`Usual`] has them, to another address and port at one side.
    #[inline(always)]
    pub fn of_usual(
        is_tcp: bool,
        side: Side,
        (addresses, ports): (u64, u32),
        (address, port): (Ipv4Addr, u16),
    ) -> Translation {
        /// What a TTL of one less changes: of its word, the lower byte here, one.
        const TTL: Delta = Delta::NONE.replace_u16(1, 0);
        let (address_at, port_at, old_address, old_port) = match side {
            Side::Source => (IP + ipv4::SOURCE, TRANSPORT, addresses as u32, (ports >> 16) as u16),
            Side::Destination => {
                (IP + ipv4::DESTINATION, TRANSPORT + 2, (addresses >> 32) as u32, ports as u16)
            }
        };
        let address = u32::from_le_bytes(address.octets());
        let (old_port, port) =
            (u16::from_le_bytes(old_port.to_be_bytes()), u16::from_le_bytes(port.to_be_bytes()));
        let addresses = Delta::NONE.replace_u32(old_address, address);
        Translation {
            address_at,
            port_at,
            checksum_at: TRANSPORT + if is_tcp { tcp::CHECKSUM } else { udp::CHECKSUM },
            is_tcp,
            address,
            port,
            header: addresses.and(TTL),
            transport: addresses.replace_u16(old_port, port),
        }
    }

    /// Translates a packet by its head. `None`, and nothing changed, where the whole packet is needed: it is a UDP datagram
    /// without checksum.
    #[inline(always)]
    pub fn translate(&self, head: &mut Head) -> Option<()> {
        let word = |head: &Head, at| u16::from_le_bytes(read(head, at));
        let before = word(head, self.checksum_at);
        if !self.is_tcp && before == 0 {
            return None;
        }
        let header = self.header.apply(word(head, IP + ipv4::CHECKSUM));
        let transport = self.transport.apply(before);
        // As in `rewrite`.
        let transport = if transport == 0 && !self.is_tcp { 0xffff } else { transport };
        head[IP + ipv4::TTL] = head[IP + ipv4::TTL].wrapping_sub(1);
        head[IP + ipv4::CHECKSUM..][..2].copy_from_slice(&header.to_le_bytes());
        head[self.address_at..][..4].copy_from_slice(&self.address.to_le_bytes());
        head[self.port_at..][..2].copy_from_slice(&self.port.to_le_bytes());
        head[self.checksum_at..][..2].copy_from_slice(&transport.to_le_bytes());
        Some(())
    }
}

/// Rewrites one port of a whole SCTP packet. Its checksum covers no addresses, so that it changes with the port only;
/// then it is computed anew, as IPVS computes it (`sctp_nat_csum` in Linux `ip_vs_proto_sctp.c`), be it right or wrong
/// before.
#[cold]
fn rewrite_sctp(packet: &mut [u8], side: Side, port: u16) {
    let at = if side == Side::Source { 0 } else { 2 };
    if read_u16(packet, at) != port {
        write_u16(packet, at, port);
        sctp::write_checksum(packet);
    }
}

/// The checksum of a datagram whose own says 0, with the address that one side has now.
#[cold]
fn full_udp_checksum<A: Family>(frame: &[u8], parsed: &Frame<A>, side: Side, address: A) -> u16 {
    let (source, destination) = match side {
        Side::Source => (address, parsed.destination),
        Side::Destination => (parsed.source, address),
    };
    let datagram = &frame[parsed.transport_offset()..];
    let len = udp::len(datagram);
    let pseudo = A::pseudo_header(source, destination, ipv4::UDP, len);
    !sum(&datagram[..usize::from(len)], pseudo)
}
