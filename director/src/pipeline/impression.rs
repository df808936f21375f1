//! What one lcore alone knows that bears on a packet, copied between two bursts, so that elsewhere it can be tried out what
//! would become of the packet ([`super::rehearsal`]).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use control::model::ForwardingMethod;

use super::defence::Defence;
use super::open::service_of;
use super::{Pipeline, RateLimit};
use crate::connection::{Address, Connection, Direction, FlowKey, Guess, State};
use crate::id::LcoreId;
use crate::packet::PacketBuf;
use crate::scheduler::{Request, Scheduler};
use crate::service::{ServerId, ServiceId, Snapshot};
use crate::time::Tick;

/// The five fields of a packet by which its connection is found, of either version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Where it comes from.
    pub source: SocketAddr,
    /// Where it goes to; of the same version of IP.
    pub destination: SocketAddr,
    /// IP protocol number.
    pub protocol: u8,
}

impl Ends {
    /// As a table of connections knows them; `None` where the addresses are not of that version of IP.
    pub fn key<A: Address>(&self) -> Option<FlowKey<A>> {
        Some(FlowKey {
            source: A::of(self.source.ip())?,
            destination: A::of(self.destination.ip())?,
            source_port: self.source.port(),
            destination_port: self.destination.port(),
            protocol: self.protocol,
        })
    }
}

/// A connection, of either version of IP.
#[derive(Clone, Copy, Debug)]
pub enum AnyConnection {
    /// Of IPv4.
    V4(Connection<Ipv4Addr>),
    /// Of IPv6.
    V6(Connection<Ipv6Addr>),
}

/// Does the same with either.
macro_rules! either {
    ($any:expr, $connection:ident => $value:expr) => {
        match $any {
            AnyConnection::V4($connection) => $value,
            AnyConnection::V6($connection) => $value,
        }
    };
}

impl AnyConnection {
    /// Whether its time is over.
    pub fn is_expired(&self, now: Tick) -> bool {
        either!(self, connection => connection.is_expired(now))
    }

    /// Milliseconds that it has left if no packet comes.
    pub fn expires_in(&self, now: Tick) -> u32 {
        either!(self, connection => connection.expires_in(now))
    }

    /// Its real server.
    pub fn server(&self) -> ServerId {
        either!(self, connection => connection.server)
    }

    /// How packets reach that.
    pub fn method(&self) -> ForwardingMethod {
        either!(self, connection => connection.method)
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        either!(self, connection => connection.state)
    }

    /// The client's address and port.
    pub fn client(&self) -> SocketAddr {
        either!(self, connection => SocketAddr::new(connection.client.into(), connection.client_port))
    }

    /// The virtual address and port.
    pub fn virtual_address(&self) -> SocketAddr {
        either!(self, c => SocketAddr::new(c.virtual_address.into(), c.virtual_port))
    }

    /// The real server's address, that of no host where it is of the other version of IP, and port.
    pub fn server_address(&self) -> SocketAddr {
        either!(self, c => SocketAddr::new(c.server_address.into(), c.server_port))
    }
}

/// What an lcore knows. Made by the control thread with all the memory that it takes; the lcore fills it in.
#[derive(Debug)]
pub struct Impression {
    /// Of which packet.
    pub ends: Ends,
    /// Of which lcore.
    pub lcore: LcoreId,
    /// The version of the snapshot by which it was made, then that by which the lcore decides.
    pub version: u64,
    /// When it was filled in, as the lcore counts.
    pub now: Tick,
    /// The virtual service of the packet, with a copy of its scheduler.
    pub(super) scheduler: Option<(ServiceId, Scheduler)>,
    /// The connection of the packet and which way the packet goes, be the connection's time over or not.
    pub connection: Option<(AnyConnection, Direction)>,
    /// Whether there is room for one more connection of that version of IP.
    pub has_room: bool,
    /// Connections of that version of IP, and for how many there is room.
    pub connections: (usize, usize),
    pub(super) defence: Defence,
    pub(super) icmp_limit: RateLimit,
}

impl Impression {
    /// One to be filled in by an lcore, about a packet.
    pub fn new<P: PacketBuf>(ends: Ends, lcore: LcoreId, snapshot: &Snapshot, packet: &P) -> Impression {
        let service = match ends.source.ip() {
            IpAddr::V4(_) => ends.key::<Ipv4Addr>().and_then(|key| service_of(snapshot, &key, packet)),
            IpAddr::V6(_) => ends.key::<Ipv6Addr>().and_then(|key| service_of(snapshot, &key, packet)),
        };
        Impression {
            ends,
            lcore,
            version: snapshot.version,
            now: Tick(0),
            scheduler: service.map(|service| (service.id, service.scheduler.copy(lcore))),
            connection: None,
            has_room: false,
            connections: (0, 0),
            defence: Defence::default(),
            icmp_limit: RateLimit::default(),
        }
    }

    /// What the scheduler is asked.
    pub(super) fn request(&self) -> Request {
        Request {
            source: self.ends.source.ip(),
            source_port: self.ends.source.port(),
            destination: self.ends.destination.ip(),
        }
    }

    /// One in how many new connections is refused to defend against floods; 0 where none is.
    pub fn drop_rate(&self) -> u32 {
        self.defence.drop_rate()
    }

    /// The scheduler of the packet's virtual service, as the lcore finds it.
    pub fn scheduler(&self) -> Option<&Scheduler> {
        self.scheduler.as_ref().map(|(_, scheduler)| scheduler)
    }
}

impl Pipeline {
    /// Fills in what this lcore knows, and changes nothing. Where the snapshot is not the one that the question was asked
    /// by, [`Impression::version`] says so, and the rest is worth nothing. Call between bursts.
    pub fn impress(&self, snapshot: &Snapshot, now: Tick, into: &mut Impression) {
        let is_of_this = into.version == snapshot.version && into.lcore == self.lcore;
        (into.version, into.now) = (snapshot.version, now);
        if !is_of_this {
            return;
        }
        match into.ends.source.ip() {
            IpAddr::V4(_) => self.impress_connection::<Ipv4Addr>(into, AnyConnection::V4),
            IpAddr::V6(_) => self.impress_connection::<Ipv6Addr>(into, AnyConnection::V6),
        }
        (into.defence, into.icmp_limit) = (self.defence, self.icmp_limit);
        if let Some((id, copy)) = &into.scheduler
            && let Some(service) = snapshot.service(*id)
        {
            copy.take_after(&service.scheduler, into.request(), self.lcore);
        }
    }

    fn impress_connection<A: Address>(&self, into: &mut Impression, any: fn(Connection<A>) -> AnyConnection) {
        let Some(key) = into.ends.key::<A>() else { return };
        let table = A::table(&self.tables);
        let found = table.find(table.hash(&key), &key, Guess::NONE);
        into.connection = found.map(|(id, direction)| (any(table.copy(id)), direction));
        into.has_room = table.has_room();
        into.connections = (table.len(), table.capacity());
    }
}
