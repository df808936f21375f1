//! What is known of a connection: one cache line for IPv4, two for IPv6.

use std::net::Ipv4Addr;

use control::model::ForwardingMethod;

use super::key::{Address, Direction, FlowKey};
use super::state::State;
use crate::nexthop::CachedEgress;
use crate::persistence::TemplateId;
use crate::service::ServerId;
use crate::time::Tick;
use crate::wire::usual::joined;

/// A place in a table of connections. Stays valid until the connection is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId(pub(super) u32);

/// No place.
pub(super) const NONE: u32 = u32::MAX;

const LIVE: u8 = 1;
const REPLY_INDEXED: u8 = 2;
const OUTPUT_SEEN: u8 = 4;
const HALF_SEEN: u8 = 8;
const READ_ALONG: u8 = 16;
const FTP_DATA: u8 = 32;
const ASKED_AGAIN: u8 = 64;

/// A connection.
///
/// `timeout` and `last_seen` are all that a packet writes for expiry; see `wheel`.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Connection<A> {
    // In this order the addresses of either direction stand as they do in its packets, and the ports likewise, read as one
    // number.
    /// The real server's address; that of no host where it is of the other version of IP, which the tunnel to it
    /// does not mind.
    pub server_address: A,
    /// The client's address.
    pub client: A,
    /// The virtual address (VIP).
    pub virtual_address: A,
    /// The virtual port.
    pub virtual_port: u16,
    /// The client's port.
    pub client_port: u16,
    /// The real server's port.
    pub server_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Where it is in its life.
    pub state: State,
    /// The persistence template that it belongs to, if any.
    pub template: TemplateId,
    /// The real server that was chosen.
    pub server: ServerId,
    /// When its last packet came.
    pub last_seen: Tick,
    /// How long it lives after its last packet, in milliseconds.
    pub timeout: u32,
    /// Where replies to the client leave. It stands here because a director may know a million routes, and this
    /// line of the cache is read anyway.
    pub reply_egress: CachedEgress,
    /// How its packets reach the real server; fixed when it was created.
    pub method: ForwardingMethod,
    flags: u8,
    /// Packets from the client; stops at [`MANY`].
    packets: u8,
}

/// More packets than this are not counted: only connections with fewer are dropped to defend against floods.
pub const MANY: u8 = 9;

impl<A: Address> Connection<A> {
    /// A place that holds no connection.
    pub(super) const VACANT: Connection<A> = Connection {
        client: A::UNSPECIFIED,
        virtual_address: A::UNSPECIFIED,
        server_address: A::UNSPECIFIED,
        client_port: 0,
        virtual_port: 0,
        server_port: 0,
        protocol: 0,
        state: State::None,
        template: TemplateId::NONE,
        server: ServerId(0),
        last_seen: Tick(0),
        timeout: 0,
        reply_egress: CachedEgress::NONE,
        method: ForwardingMethod::Dr,
        flags: 0,
        packets: 0,
    };

    /// The key of packets from the client.
    #[inline]
    pub fn request_key(&self) -> FlowKey<A> {
        FlowKey {
            source: self.client,
            destination: self.virtual_address,
            source_port: self.client_port,
            destination_port: self.virtual_port,
            protocol: self.protocol,
        }
    }

    /// The key of packets from the real server.
    #[inline]
    pub fn reply_key(&self) -> FlowKey<A> {
        FlowKey {
            source: self.server_address,
            destination: self.client,
            source_port: self.server_port,
            destination_port: self.client_port,
            protocol: self.protocol,
        }
    }

    /// Whether a packet with this key belongs to the connection, and which way it goes.
    #[inline(always)]
    pub fn direction_of(&self, key: &FlowKey<A>) -> Option<Direction> {
        if self.request_key().is(key) && self.flags & LIVE != 0 {
            Some(Direction::Request)
        } else if self.flags & (LIVE | REPLY_INDEXED) == LIVE | REPLY_INDEXED && self.reply_key().is(key) {
            Some(Direction::Reply)
        } else {
            None
        }
    }

    /// Whether its time is over. It may still be found for a while: the wheel comes by lazily.
    #[inline]
    pub fn is_expired(&self, now: Tick) -> bool {
        now.since(self.last_seen) >= self.timeout
    }

    /// Milliseconds that it has left if no packet comes; 0 once expired.
    pub fn expires_in(&self, now: Tick) -> u32 {
        self.timeout.saturating_sub(now.since(self.last_seen))
    }

    /// Not freed and not waiting to be.
    #[inline]
    pub fn is_live(&self) -> bool {
        self.flags & LIVE != 0
    }

    /// Only the client's half crosses the director (DR and tunnel), and nothing of the other half has
    /// been seen: IPVS's NOOUTPUT.
    #[inline]
    pub fn is_input_only(&self) -> bool {
        self.flags & (HALF_SEEN | OUTPUT_SEEN) == HALF_SEEN
    }

    /// A packet of the real server has been seen. True when it is the first one.
    #[inline]
    pub fn note_output(&mut self) -> bool {
        let is_first = self.flags & OUTPUT_SEEN == 0;
        self.flags |= OUTPUT_SEEN;
        is_first
    }

    /// The client asks for the connection that there is. True the first time that a NAT real server has left it without
    /// any answer; of others nobody knows whether they have answered.
    pub fn note_asked_again(&mut self) -> bool {
        let is_sign = self.method == ForwardingMethod::Nat && self.flags & (OUTPUT_SEEN | ASKED_AGAIN) == 0;
        if is_sign {
            self.flags |= ASKED_AGAIN;
        }
        is_sign
    }

    /// A real server has answered by UDP.
    pub fn has_answered_udp(&self) -> bool {
        self.state == State::Udp && self.flags & OUTPUT_SEEN != 0
    }

    /// Packets of the client have come, one or more.
    #[inline]
    pub fn note_input(&mut self, packets: usize) {
        if self.packets < MANY {
            self.packets = (usize::from(self.packets) + packets).min(MANY.into()) as u8;
        }
    }

    /// A packet has come, which leaves the state as it is.
    #[inline(always)]
    pub(crate) fn note(&mut self, now: Tick, timeout: u32) {
        self.timeout = timeout;
        self.last_seen = now;
    }

    /// Packets from the client, [`MANY`] at most.
    pub fn packets(&self) -> u8 {
        self.packets
    }

    /// It lives, and its packets say nothing to the director itself.
    #[inline(always)]
    pub(crate) fn is_plain(&self) -> bool {
        self.flags & (LIVE | READ_ALONG) == LIVE
    }

    /// Its packets say something to the director itself.
    #[inline(always)]
    pub fn is_read_along(&self) -> bool {
        self.flags & READ_ALONG != 0
    }

    /// It carries data of FTP, and keeps the control connection that announced it alive.
    pub fn is_ftp_data(&self) -> bool {
        self.flags & FTP_DATA != 0
    }

    /// Makes it one that [`Connection::is_ftp_data`].
    pub fn set_ftp_data(&mut self) {
        self.flags |= FTP_DATA;
    }

    pub(super) fn set_live(&mut self, half_seen: bool, read_along: bool) {
        let half_seen = if half_seen { HALF_SEEN } else { 0 };
        self.flags = LIVE | half_seen | if read_along { READ_ALONG } else { 0 };
    }

    pub(super) fn set_dead(&mut self) {
        self.flags &= !LIVE;
    }

    pub(super) fn is_reply_indexed(&self) -> bool {
        self.flags & REPLY_INDEXED != 0
    }

    pub(super) fn set_reply_indexed(&mut self, indexed: bool) {
        if indexed {
            self.flags |= REPLY_INDEXED;
        } else {
            self.flags &= !REPLY_INDEXED;
        }
    }
}

impl Connection<Ipv4Addr> {
    /// Whether a packet with these addresses and ports, as [`Usual`](crate::wire::usual::Usual) has them, is of the
    /// client, if the connection lives. Of its protocol the state tells.
    #[inline(always)]
    pub(crate) fn is_requested_by(&self, (addresses, ports): (u64, u32)) -> bool {
        joined(self.client, self.virtual_address) == addresses
            && u32::from(self.client_port) << 16 | u32::from(self.virtual_port) == ports
    }

    /// As [`Connection::is_requested_by`], of a real server that has answered before.
    #[inline(always)]
    pub(crate) fn is_replied_by(&self, (addresses, ports): (u64, u32)) -> bool {
        const ALL: u8 = REPLY_INDEXED | OUTPUT_SEEN;
        self.flags & ALL == ALL
            && joined(self.server_address, self.client) == addresses
            && u32::from(self.server_port) << 16 | u32::from(self.client_port) == ports
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    #[test]
    fn a_connection_is_one_cache_line_for_ipv4_and_two_for_ipv6() {
        assert_eq!(size_of::<Connection<Ipv4Addr>>(), 64);
        assert_eq!(size_of::<Connection<Ipv6Addr>>(), 128);
    }
}
