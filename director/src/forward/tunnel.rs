//! Tunnels: the whole packet behind another header of either version of IP, directly (RFC 2003, RFC 2473, RFC 4213),
//! by GUE or by GRE.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;

use control::model::{GueChecksum, Tunnel};

use crate::packet::PacketBuf;
use crate::wire::{Family, Frame, checksum, ethernet, gre, gue, ipv4, ipv6, udp};

/// What the encapsulation toward a real server adds, in bytes.
#[inline(always)]
pub fn overhead(server: IpAddr, tunnel: Tunnel) -> u16 {
    let outer = match server {
        IpAddr::V4(_) => ipv4::MIN_HEADER_LEN,
        IpAddr::V6(_) => ipv6::HEADER_LEN,
    };
    (outer + shim_len(tunnel)) as u16
}

/// Length of what stands between the outer and the inner IP header, in bytes.
#[inline(always)]
fn shim_len(tunnel: Tunnel) -> usize {
    match tunnel {
        Tunnel::Ipip => 0,
        Tunnel::Gue { .. } => udp::HEADER_LEN + gue::HEADER_LEN,
        Tunnel::Gre { checksum: false } => gre::MIN_HEADER_LEN,
        Tunnel::Gre { checksum: true } => gre::CHECKSUM_HEADER_LEN,
    }
}

/// EtherType of the packets toward a real server.
#[inline(always)]
pub fn ether_type(server: IpAddr) -> u16 {
    match server {
        IpAddr::V4(_) => ethernet::IPV4,
        IpAddr::V6(_) => ethernet::IPV6,
    }
}

/// What is put in front of packets toward a real server, but for its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The director's own address; the unspecified one of the real server's family where it has none there.
    pub source: IpAddr,
    /// What stands behind the outer header.
    pub tunnel: Tunnel,
    /// How long all of it is, in bytes.
    pub len: u16,
}

impl Head {
    /// As usual packets need it, where they go into IPv4 directly or by GUE without checksum.
    pub fn usual(&self) -> Option<UsualHead> {
        let gue_port = match self.tunnel {
            Tunnel::Ipip => None,
            Tunnel::Gue { port, checksum: GueChecksum::None } => Some(port),
            Tunnel::Gue { .. } | Tunnel::Gre { .. } => return None,
        };
        let IpAddr::V4(source) = self.source else { return None };
        Some(UsualHead { source, gue_port, len: self.len })
    }
}

/// A [`Head`] of usual packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsualHead {
    /// The director's own address.
    pub source: Ipv4Addr,
    /// GUE's port, where it is by that.
    pub gue_port: Option<NonZeroU16>,
    /// How long all of it is, in bytes.
    pub len: u16,
}

/// What stands in front of a usual packet that goes into IPv4: Ethernet and the outer header. In front of that packet's own
/// header stands `SHIM` more.
const FRONT: usize = ethernet::HEADER_LEN + ipv4::MIN_HEADER_LEN;
/// What GUE adds.
const GUE_SHIM: usize = udp::HEADER_LEN + gue::HEADER_LEN;

/// Where usual packets go by tunnel into IPv4.
#[derive(Clone, Copy, Debug)]
pub struct UsualTunnel<'a> {
    stations: &'a [u8; 12],
    ends: (Ipv4Addr, Ipv4Addr),
    /// DF, where it is copied.
    copied: u16,
}

impl<'a> UsualTunnel<'a> {
    /// Between the director's address and the real server's. `copy_df`: DF of the outer header is that of the packet.
    /// `stations` is what stands in the Ethernet header, but for the type.
    #[inline(always)]
    pub fn new(ends: (Ipv4Addr, Ipv4Addr), copy_df: bool, stations: &'a [u8; 12]) -> UsualTunnel<'a> {
        UsualTunnel { stations, ends, copied: if copy_df { ipv4::DONT_FRAGMENT } else { 0 } }
    }

    /// As [`encapsulate`], of a usual packet of this length, whose TTL it lowers before; directly. Writes the Ethernet
    /// header, too. `None`, and nothing changed, where there is no room. `id` identifies the outer packet where it may be
    /// fragmented.
    #[inline(always)]
    pub fn encapsulate<P: PacketBuf>(&self, packet: &mut P, total_len: u16, id: u16) -> Option<()> {
        const ALL: usize = FRONT + ipv4::MIN_HEADER_LEN;
        self.put::<0, ALL, P>(packet, total_len, id, ipv4::IPIP, |_| ())
    }

    /// As [`UsualTunnel::encapsulate`], by GUE from and to these ports.
    #[inline(always)]
    pub fn encapsulate_by_gue<P: PacketBuf>(
        &self,
        packet: &mut P,
        total_len: u16,
        id: u16,
        ports: (u16, u16),
    ) -> Option<()> {
        const ALL: usize = FRONT + GUE_SHIM + ipv4::MIN_HEADER_LEN;
        self.put::<GUE_SHIM, ALL, P>(packet, total_len, id, ipv4::UDP, |shim| {
            gue::write(&mut shim[udp::HEADER_LEN..], ipv4::IPIP);
            udp::write(shim, ports, total_len.wrapping_add(GUE_SHIM as u16));
        })
    }

    /// `ALL` is how long all headers are together, the packet's own included.
    #[inline(always)]
    fn put<const SHIM: usize, const ALL: usize, P: PacketBuf>(
        &self,
        packet: &mut P,
        total_len: u16,
        id: u16,
        protocol: u8,
        write_shim: impl FnOnce(&mut [u8; SHIM]),
    ) -> Option<()> {
        const { assert!(ALL == FRONT + SHIM + ipv4::MIN_HEADER_LEN) };
        const ADDED: usize = ipv4::MIN_HEADER_LEN;
        if !packet.reframe(ADDED + SHIM, ethernet::HEADER_LEN + ADDED + SHIM + usize::from(total_len)) {
            return None;
        }
        let all: &mut [u8; ALL] = packet.bytes_mut().first_chunk_mut()?;
        ethernet::write_header(all, self.stations, ethernet::IPV4);
        let (front, rest) = all.split_first_chunk_mut::<FRONT>()?;
        let (shim, inner) = rest.split_first_chunk_mut::<SHIM>()?;
        ipv4::decrement_ttl(inner);
        write_shim(shim);
        let df = ipv4::flags_and_offset(inner) & self.copied;
        let header = ipv4::Header {
            tos: outer_class(ipv4::tos(inner)),
            total_len: total_len.wrapping_add((ADDED + SHIM) as u16),
            id: if df != 0 { 0 } else { id },
            flags_and_offset: df,
            ttl: ipv4::ttl(inner),
            protocol,
            source: self.ends.0,
            destination: self.ends.1,
        };
        header.write(&mut front[ethernet::HEADER_LEN..]);
        Some(())
    }
}

/// The traffic class of an outer header (RFC 3168 §9.1.1, full functionality).
#[inline(always)]
fn outer_class(inner: u8) -> u8 {
    // Of congestion experienced, both bits set, the lower one is taken: ECT(0) is left.
    inner & !(inner >> 1 & inner & 1)
}

/// Puts an outer header in front, as IPVS does (`ip_vs_tunnel_xmit` and `ip_vs_tunnel_xmit_v6` in Linux
/// `ip_vs_xmit.c`): TTL and TOS are the inner ones, ECN as in RFC 3168 §9.1.1 with full functionality. The Ethernet
/// header is left to the next hop. False where there was no room, or the ends are not of one version.
///
/// `id` identifies the outer packet where it may be fragmented; DF is that of an inner IPv4 packet where `copy_df`.
/// The caller has made sure that the packet does not become longer than IP allows.
#[must_use]
#[inline(always)]
pub fn encapsulate<A: Family, P: PacketBuf>(
    packet: &mut P,
    parsed: &Frame<A>,
    head: &Head,
    server: &IpAddr,
    id: u16,
    copy_df: bool,
) -> bool {
    if head.tunnel != Tunnel::Ipip {
        return wrap(packet, parsed, head, server, id, copy_df);
    }
    match Outer::of(packet, parsed, (&head.source, server), id, copy_df) {
        Some(outer) => outer.put(packet, parsed.total_len, A::PROTOCOL),
        None => false,
    }
}

/// What an outer IP header says.
struct Outer<'a> {
    tos: u8,
    ttl: u8,
    id: u16,
    flags: u16,
    ends: (&'a IpAddr, &'a IpAddr),
}

impl<'a> Outer<'a> {
    /// That of a packet, whose padding is cut off: it is no part of what goes into the tunnel.
    #[inline(always)]
    fn of<A: Family, P: PacketBuf>(
        packet: &mut P,
        parsed: &Frame<A>,
        ends: (&'a IpAddr, &'a IpAddr),
        id: u16,
        copy_df: bool,
    ) -> Option<Outer<'a>> {
        packet.truncate(parsed.end());
        let inner = A::header(&mut packet.bytes_mut()[ethernet::HEADER_LEN..])?;
        let (class, ttl) = (A::traffic_class(inner), A::ttl(inner));
        let dont_fragment = copy_df && A::ETHER_TYPE == ethernet::IPV4 && A::is_whole_or_nothing(inner);
        Some(Outer {
            tos: outer_class(class),
            ttl,
            id: if dont_fragment { 0 } else { id },
            flags: if dont_fragment { ipv4::DONT_FRAGMENT } else { 0 },
            ends,
        })
    }

    /// Puts it in front of `len` bytes of this protocol.
    #[inline(always)]
    fn put<P: PacketBuf>(&self, packet: &mut P, len: u16, protocol: u8) -> bool {
        match self.ends {
            (&IpAddr::V4(source), &IpAddr::V4(destination)) => {
                let header = ipv4::Header {
                    tos: self.tos,
                    total_len: len.wrapping_add(ipv4::MIN_HEADER_LEN as u16),
                    id: self.id,
                    flags_and_offset: self.flags,
                    ttl: self.ttl,
                    protocol,
                    source,
                    destination,
                };
                if !packet.prepend(ipv4::MIN_HEADER_LEN) {
                    return false;
                }
                header.write(&mut packet.bytes_mut()[ethernet::HEADER_LEN..]);
            }
            (&IpAddr::V6(source), &IpAddr::V6(destination)) => {
                let header = ipv6::Header {
                    traffic_class: self.tos,
                    payload_len: len,
                    next_header: protocol,
                    hop_limit: self.ttl,
                    source,
                    destination,
                };
                if !packet.prepend(ipv6::HEADER_LEN) {
                    return false;
                }
                header.write(&mut packet.bytes_mut()[ethernet::HEADER_LEN..]);
            }
            _ => return false,
        }
        true
    }
}

/// As [`encapsulate`], with headers of GUE or GRE behind the outer one.
#[inline(never)]
fn wrap<A: Family, P: PacketBuf>(
    packet: &mut P,
    parsed: &Frame<A>,
    head: &Head,
    server: &IpAddr,
    id: u16,
    copy_df: bool,
) -> bool {
    let ends = (&head.source, server);
    let Some(outer) = Outer::of(packet, parsed, ends, id, copy_df) else { return false };
    let shim_len = shim_len(head.tunnel);
    let len = parsed.total_len.wrapping_add(shim_len as u16);
    if !packet.prepend(shim_len) {
        return false;
    }
    let shim = &mut packet.bytes_mut()[ethernet::HEADER_LEN..];
    let protocol = match head.tunnel {
        Tunnel::Ipip => A::PROTOCOL,
        Tunnel::Gre { checksum } => {
            gre::write(shim, A::ETHER_TYPE, checksum);
            ipv4::GRE
        }
        Tunnel::Gue { port, checksum } => {
            gue::write(&mut shim[udp::HEADER_LEN..], A::PROTOCOL);
            let client = (parsed.source, parsed.source_port());
            udp::write(shim, (entropy(client), port.get()), len);
            if checksum != GueChecksum::None {
                let Some(pseudo_header) = pseudo_header(ends, len) else { return false };
                udp::write_checksum(shim, pseudo_header);
            }
            ipv4::UDP
        }
    };
    outer.put(packet, len, protocol)
}

fn pseudo_header(ends: (&IpAddr, &IpAddr), len: u16) -> Option<u64> {
    match ends {
        (&IpAddr::V4(source), &IpAddr::V4(destination)) => {
            Some(Family::pseudo_header(source, destination, ipv4::UDP, len))
        }
        (&IpAddr::V6(source), &IpAddr::V6(destination)) => {
            Some(Family::pseudo_header(source, destination, ipv4::UDP, len))
        }
        _ => None,
    }
}

/// The source port of GUE, from the client's address and port: the same for all packets of a connection, and mostly another
/// one for those of others.
#[inline(always)]
pub fn entropy<A: Family>((address, port): (A, u16)) -> u16 {
    let client = A::pseudo_header(address, A::UNSPECIFIED, 0, port);
    checksum::sum(&[], client) | FIRST_DYNAMIC_PORT
}

/// Ports from here on are for such use (RFC 6335 §6); a power of two.
const FIRST_DYNAMIC_PORT: u16 = 0xc000;
