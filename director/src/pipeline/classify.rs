//! What a frame is: a packet for the stages to come, or the end of its way.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::flow::Flow;
use super::{Pipeline, Verdict};
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
    /// It is IPv6, or an ICMP error about a packet of IPv6.
    Ipv6,
    /// It was decided about.
    Decided(Verdict),
}

impl Pipeline {
    /// Looks at a frame, and reads it if it is IPv4. `station` is the Ethernet address of the port that it came by,
    /// where it came by a port.
    #[inline(always)]
    pub(super) fn classify<P: PacketBuf>(
        &self,
        snapshot: &Snapshot,
        station: Option<MacAddr>,
        packet: &P,
        flow: &mut Flow<Ipv4Addr>,
    ) -> Classified {
        if !packet.is_whole() {
            return Classified::Decided(Verdict::drop(Reason::Scattered));
        }
        let bytes = packet.bytes();
        let parsed = match wire::parse(bytes, &mut flow.frame) {
            Ok(parsed) => parsed,
            Err(error) => return Classified::Decided(malformed(error)),
        };
        if let Some(ours) = station
            && ours != ethernet::destination(bytes)
        {
            return Classified::Decided(not_for_us(bytes));
        }
        match parsed {
            Parsed::Ipv4 => {}
            Parsed::Ipv6 => return Classified::Ipv6,
            Parsed::Other => return Classified::Decided(Verdict::punt(Reason::NotIp)),
        }
        match flow.frame.transport {
            Transport::Tcp | Transport::Udp => {}
            Transport::Icmp => return self.classify_icmp(snapshot, station, bytes, flow),
            _ => return Classified::Decided(elsewhere(snapshot, &flow.frame)),
        }
        self.go_on(flow, station);
        Classified::Ipv4
    }

    /// An ICMP message of IPv4: mostly the kernel's, but an error about a packet that was balanced goes where that
    /// would.
    #[cold]
    fn classify_icmp(
        &self,
        snapshot: &Snapshot,
        station: Option<MacAddr>,
        bytes: &[u8],
        flow: &mut Flow<Ipv4Addr>,
    ) -> Classified {
        let Some(quote) = read_quote(bytes, &flow.frame) else {
            return Classified::Decided(elsewhere(snapshot, &flow.frame));
        };
        if !quote.describe(&mut flow.frame) {
            return Classified::Ipv6;
        }
        self.go_on(flow, station);
        Classified::Ipv4
    }

    /// Reads a frame that [`Pipeline::classify`] left. It goes on as a flow of IPv6 or, where it is an error about a
    /// packet of IPv4 in a tunnel of IPv6, of IPv4; else the verdict says what becomes of it.
    pub(super) fn classify_ipv6(
        &self,
        snapshot: &Snapshot,
        station: Option<MacAddr>,
        bytes: &[u8],
        v4: &mut Flow<Ipv4Addr>,
        v6: &mut Flow<Ipv6Addr>,
    ) -> Result<(), Verdict> {
        let is_v6 = ethernet::ether_type(bytes) == ethernet::IPV6;
        let quote = if is_v6 {
            wire::parse_ipv6(bytes, &mut v6.frame).map_err(malformed)?;
            match v6.frame.transport {
                Transport::Tcp | Transport::Udp => {
                    self.go_on(v6, station);
                    return Ok(());
                }
                Transport::Icmp => read_quote(bytes, &v6.frame),
                _ => None,
            }
        } else {
            // An error of IPv4 about a packet of IPv6 in a tunnel; it has been read as IPv4.
            (v6.frame.total_len, v6.frame.header_len) = (v4.frame.total_len, v4.frame.header_len);
            read_quote(bytes, &v4.frame)
        };
        let Some(quote) = quote else { return Err(elsewhere(snapshot, &v6.frame)) };
        if quote.describe(&mut v6.frame) {
            self.go_on(v6, station);
        } else {
            (v4.frame.total_len, v4.frame.header_len) = (v6.frame.total_len, v6.frame.header_len);
            quote.describe(&mut v4.frame);
            self.go_on(v4, station);
        }
        Ok(())
    }

    #[inline(always)]
    fn go_on<A: Address>(&self, flow: &mut Flow<A>, station: Option<MacAddr>) {
        flow.from_port = station.is_some();
        flow.goes_on = true;
        flow.hash = A::table(&self.tables).hash(&flow.key());
    }
}

fn read_quote<A: Family>(bytes: &[u8], frame: &Frame<A>) -> Option<Quote> {
    Quote::read(bytes, frame.transport_offset(), frame.end(), A::ETHER_TYPE == ethernet::IPV6)
}

#[cold]
fn malformed(error: wire::Error) -> Verdict {
    Verdict::drop(match error {
        wire::Error::TruncatedEthernet => Reason::TruncatedEthernet,
        wire::Error::BadIpv4Header => Reason::BadIpv4Header,
        wire::Error::BadIpv6Header => Reason::BadIpv6Header,
        wire::Error::BadTcpHeader => Reason::BadTcpHeader,
        wire::Error::BadUdpHeader => Reason::BadUdpHeader,
    })
}

/// A frame whose Ethernet destination is not the port's.
#[cold]
fn not_for_us(bytes: &[u8]) -> Verdict {
    if ethernet::is_group(ethernet::destination(bytes)) {
        Verdict::punt(Reason::Group)
    } else {
        Verdict::drop(Reason::ForeignMac)
    }
}

/// Neither TCP nor UDP in one piece, nor an error about such.
#[cold]
fn elsewhere<A: Family>(snapshot: &Snapshot, frame: &Frame<A>) -> Verdict {
    if frame.transport != Transport::Fragment {
        Verdict::punt(Reason::OtherProtocol)
    } else if snapshot.lookup.may_concern(frame.source.into(), frame.destination.into()) {
        Verdict::drop(Reason::Fragment)
    } else {
        Verdict::punt(Reason::NoService)
    }
}
