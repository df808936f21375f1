//! What a frame is: a packet for the stages to come, or the end of its way.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::flow::Flow;
use super::{Arrival, Pipeline, Verdict};
use crate::connection::Address;
use crate::nexthop::MacAddr;
use crate::packet::PacketBuf;
use crate::service::Snapshot;
use crate::stats::Reason;
use crate::wire::quote::Quote;
use crate::wire::{self, Family, Frame, Parsed, Transport, ethernet};

/// What became of a frame when it was looked at.
pub(super) enum Classified {
    /// It goes on as a flow of IPv4.
    Ipv4,
    /// It is IPv6, a fragment, SCTP or ICMP, for [`Pipeline::classify_other`] to look at.
    Other,
    /// It was decided about.
    Decided(Verdict),
}

/// What became of a frame that is no TCP or UDP of IPv4.
pub(super) enum Other {
    /// It goes on as a flow of IPv4.
    Ipv4,
    /// It goes on as a flow of IPv6.
    Ipv6,
    /// It is a fragment of TCP, UDP or SCTP by IPv4, for [`Pipeline::gather`] to look at.
    FragmentOfIpv4,
    /// As [`Other::FragmentOfIpv4`], by IPv6.
    FragmentOfIpv6,
    /// It goes on as a flow of IPv4 to [`Pipeline::associate`].
    SctpOfIpv4,
    /// As [`Other::SctpOfIpv4`], by IPv6.
    SctpOfIpv6,
    /// It is an ICMP error about a packet that may have been balanced.
    Error(Quote),
    /// It was decided about.
    Decided(Verdict),
}

impl Pipeline {
    /// Looks at a frame, and reads it if it is IPv4. `station` is the Ethernet address of the port that it came by,
    /// where it came by a port. `None` where that is not the one to which it is addressed:
    /// [`Pipeline::classify_for_other`] knows more.
    #[inline(always)]
    pub(super) fn classify<P: PacketBuf>(
        &self,
        station: Option<MacAddr>,
        packet: &P,
        flow: &mut Flow<Ipv4Addr>,
    ) -> Option<Classified> {
        if !packet.is_whole() {
            return Some(Classified::Decided(Verdict::drop(Reason::Scattered)));
        }
        let bytes = packet.bytes();
        let parsed = match wire::parse_unusual(bytes, &mut flow.frame) {
            Ok(parsed) => parsed,
            Err(error) => return Some(Classified::Decided(malformed(error))),
        };
        if let Some(ours) = station
            && ours != ethernet::destination(bytes)
        {
            return None;
        }
        match parsed {
            Parsed::Ipv4 => {}
            Parsed::Ipv6 => return Some(Classified::Other),
            Parsed::Other => return Some(Classified::Decided(Verdict::punt(Reason::NotIp))),
        }
        match flow.frame.transport {
            Transport::Tcp | Transport::Udp => {}
            Transport::Other => return Some(Classified::Decided(Verdict::punt(Reason::OtherProtocol))),
            _ => return Some(Classified::Other),
        }
        self.go_on(flow, station);
        Some(Classified::Ipv4)
    }

    /// As [`Pipeline::classify`], for a frame whose Ethernet destination is not the port's. Where it came with the tags
    /// of a VLAN interface it may be that one's: both addresses are the director's there (Linux `vlan_do_receive` in
    /// `net/8021q/vlan_core.c`).
    #[cold]
    #[inline(never)]
    pub(super) fn classify_for_other<P: PacketBuf>(
        &self,
        snapshot: &Snapshot,
        arrival: Arrival,
        packet: &P,
        flow: &mut Flow<Ipv4Addr>,
    ) -> Classified {
        let tags = packet.tags();
        let vlan = match arrival {
            Arrival::Port(port) if !tags.is_empty() => snapshot.hops.vlans().find(port, tags),
            _ => None,
        };
        let classified = vlan.and_then(|vlan| self.classify(Some(vlan.mac), packet, flow));
        classified.unwrap_or_else(|| Classified::Decided(not_for_us(packet.bytes())))
    }

    /// Looks at a frame that [`Pipeline::classify`] left, and reads it if it is IPv6. ICMP is mostly the kernel's, but
    /// an error about a packet that was balanced goes where that would.
    #[inline]
    pub(super) fn classify_other(
        &self,
        station: Option<MacAddr>,
        bytes: &[u8],
        (ipv4_flow, flow): (&mut Flow<Ipv4Addr>, &mut Flow<Ipv6Addr>),
    ) -> Other {
        if ethernet::ether_type(bytes) != ethernet::IPV6 {
            return match ipv4_flow.frame.transport {
                Transport::FirstFragment | Transport::LaterFragment => Other::FragmentOfIpv4,
                Transport::Sctp => {
                    self.go_on(ipv4_flow, station);
                    Other::SctpOfIpv4
                }
                Transport::Ipsec => {
                    self.go_on(ipv4_flow, station);
                    Other::Ipv4
                }
                _ => error_or_elsewhere(bytes, &ipv4_flow.frame),
            };
        }
        if let Err(error) = wire::parse_ipv6(bytes, &mut flow.frame) {
            return Other::Decided(malformed(error));
        }
        match flow.frame.transport {
            Transport::Tcp | Transport::Udp | Transport::Ipsec => {
                self.go_on(flow, station);
                Other::Ipv6
            }
            Transport::FirstFragment | Transport::LaterFragment => Other::FragmentOfIpv6,
            Transport::Sctp => {
                self.go_on(flow, station);
                Other::SctpOfIpv6
            }
            _ => error_or_elsewhere(bytes, &flow.frame),
        }
    }

    #[inline(always)]
    pub(super) fn go_on<A: Address>(&self, flow: &mut Flow<A>, station: Option<MacAddr>) {
        flow.from_port = station.is_some();
        flow.goes_on = true;
        flow.hash = A::table(&self.tables).hash(&flow.key());
    }
}

fn error_or_elsewhere<A: Family>(bytes: &[u8], frame: &Frame<A>) -> Other {
    let quote = match frame.transport {
        Transport::Icmp => {
            Quote::read(bytes, frame.transport_offset(), frame.end(), A::ETHER_TYPE == ethernet::IPV6)
        }
        _ => None,
    };
    quote.map_or(Other::Decided(Verdict::punt(Reason::OtherProtocol)), Other::Error)
}

#[cold]
fn malformed(error: wire::Error) -> Verdict {
    Verdict::drop(match error {
        wire::Error::TruncatedEthernet => Reason::TruncatedEthernet,
        wire::Error::BadIpv4Header => Reason::BadIpv4Header,
        wire::Error::BadIpv6Header => Reason::BadIpv6Header,
        wire::Error::BadTcpHeader => Reason::BadTcpHeader,
        wire::Error::BadUdpHeader => Reason::BadUdpHeader,
        wire::Error::BadSctpHeader => Reason::BadSctpHeader,
        wire::Error::BadFragment => Reason::BadFragment,
    })
}

/// A frame whose Ethernet destination is not the director's.
fn not_for_us(bytes: &[u8]) -> Verdict {
    if ethernet::is_group(ethernet::destination(bytes)) {
        Verdict::punt(Reason::Group)
    } else {
        Verdict::drop(Reason::ForeignMac)
    }
}
