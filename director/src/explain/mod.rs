//! What would become of a packet, and why, in words: asked of the pipeline itself, on copies of what it decides by
//! ([`rehearsal`]).

mod faults;
mod frame;
mod steps;
mod way;
mod words;

use std::net::IpAddr;
use std::sync::Arc;

use control::health::Standing;
use control::model::{Protocol, Service, ServiceKey};
use control::protocol::{Explanation, PacketSketch, SctpChunk, TcpFlag};

use crate::connection::{Direction, protocol_number};
use crate::id::{LcoreId, PortId};
use crate::nexthop::Hop;
use crate::packet::BytesPacket;
use crate::pipeline::owner;
use crate::pipeline::rehearsal::{self, Origin, Rehearsed, Shared};
use crate::pipeline::{AnyConnection, Ends, Impression};
use crate::service::Snapshot;

/// What a packet has if its sketch does not say.
const TTL: u8 = 64;

/// Why a packet cannot be thought of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSketch {
    /// Its addresses are not of one version of IP.
    #[error("source and destination of a packet are of the same version of IP")]
    TwoFamilies,
    /// The director has no such port.
    #[error("there is no port {0}")]
    NoSuchPort(u8),
    /// It is shorter than its headers.
    #[error("such a packet has {0} bytes at least")]
    TooShort(usize),
    /// A DSCP has six bits.
    #[error("there is no DSCP {0}")]
    BadDscp(u8),
}

/// What is known besides what lcores decide by.
pub struct View<'a> {
    /// What lcores decide by, and share.
    pub shared: Shared<'a>,
    /// What became of a real server for the sake of its health; none where it is not checked.
    pub standing: &'a dyn Fn(ServiceKey, std::net::SocketAddr) -> Option<Standing>,
    /// A virtual service as the operator has made it.
    pub configured: &'a dyn Fn(ServiceKey) -> Option<Arc<Service>>,
}

/// A packet whose way is asked for.
#[derive(Clone, Debug)]
pub struct Question {
    sketch: PacketSketch,
    assumed: Vec<&'static str>,
    ends: Ends,
    origin: Origin,
    port: PortId,
    /// The lcore that owns its connection; none where it is of no virtual service.
    owner: Option<LcoreId>,
    lcores: u8,
}

impl Question {
    /// Asks about a packet.
    ///
    /// # Errors
    /// Where there cannot be such a packet.
    pub fn new(mut sketch: PacketSketch, snapshot: &Snapshot, lcores: u8) -> Result<Question, BadSketch> {
        if sketch.from.is_ipv4() != sketch.to.is_ipv4() {
            return Err(BadSketch::TwoFamilies);
        }
        if let Some(dscp) = sketch.dscp.filter(|dscp| *dscp > 63) {
            return Err(BadSketch::BadDscp(dscp));
        }
        let mut assumed = Vec::new();
        let mut assume = |absent: bool, name| {
            if absent {
                assumed.push(name);
            }
        };
        assume(sketch.ttl.is_none(), "ttl");
        assume(sketch.df.is_none() && sketch.to.is_ipv4(), "df");
        assume(sketch.dscp.is_none(), "dscp");
        assume(sketch.size.is_none(), "size");
        assume(sketch.port.is_none(), "port");
        let port = match sketch.port {
            Some(port) if usize::from(port) >= snapshot.ports.len() => {
                return Err(BadSketch::NoSuchPort(port));
            }
            Some(port) => PortId(port),
            None => port_toward(snapshot, sketch.from.ip()),
        };
        let is_own = snapshot.hops.is_local(sketch.from.ip()) && snapshot.local_nat;
        let protocol = protocol_number(sketch.protocol);
        let ends = Ends { source: sketch.from, destination: sketch.to, protocol };
        let owner = match sketch.from.ip() {
            IpAddr::V4(_) => ends
                .key::<std::net::Ipv4Addr>()
                .and_then(|key| owner::owner_of(&key, &snapshot.lookup, lcores)),
            IpAddr::V6(_) => ends
                .key::<std::net::Ipv6Addr>()
                .and_then(|key| owner::owner_of(&key, &snapshot.lookup, lcores)),
        };
        sketch.ttl.get_or_insert(TTL);
        sketch.dscp.get_or_insert(0);
        sketch.port = Some(port.0);
        match sketch.to.is_ipv4() {
            true => sketch.df.get_or_insert(true),
            // No router may fragment a packet of IPv6.
            false => sketch.df.insert(true),
        };
        let origin = if is_own { Origin::Kernel } else { Origin::Port(port) };
        let question = Question { sketch, assumed, ends, origin, port, owner, lcores };
        question.packet(snapshot).map_err(BadSketch::TooShort)?;
        Ok(question)
    }

    /// The lcore to be asked: the owner of the connection. Where the packet is of no virtual service, whichever lcore
    /// receives it decides, and all in the same way.
    pub fn lcore(&self) -> LcoreId {
        self.owner.unwrap_or(LcoreId(0))
    }

    /// What that lcore is to fill in ([`crate::pipeline::Pipeline::impress`]).
    pub fn impression(&self, snapshot: &Snapshot) -> Impression {
        // Its length was looked at before, and its flags do not matter.
        let packet = self.packet(snapshot).unwrap_or_default();
        let mut packet = BytesPacket::new(&packet);
        crate::packet::PacketBuf::set_ingress(&mut packet, self.port.0);
        Impression::new(self.ends, self.lcore(), snapshot, &packet)
    }

    fn packet(&self, snapshot: &Snapshot) -> Result<Vec<u8>, usize> {
        let station = snapshot.ports.get(usize::from(self.port.0)).map(|port| port.mac).unwrap_or_default();
        frame::build(&self.sketch, station)
    }

    /// Chooses what the sketch leaves open and only the lcore could tell: whether a connection is known.
    fn complete(&mut self, impression: &Impression) {
        let is_known =
            impression.connection.as_ref().is_some_and(|(known, _)| !known.is_expired(impression.now));
        match self.sketch.protocol {
            Protocol::Tcp => {
                self.sketch.chunk = None;
                if self.sketch.flags.is_none() {
                    self.assumed.push("flags");
                    self.sketch.flags = Some(vec![if is_known { TcpFlag::Ack } else { TcpFlag::Syn }]);
                }
            }
            Protocol::Sctp => {
                self.sketch.flags = None;
                if self.sketch.chunk.is_none() {
                    self.assumed.push("chunk");
                    self.sketch.chunk = Some(if is_known { SctpChunk::Data } else { SctpChunk::Init });
                }
            }
            Protocol::Udp => (self.sketch.flags, self.sketch.chunk) = (None, None),
        }
    }

    /// Says what would become of the packet. The impression is one of [`Question::impression`] that the lcore has filled
    /// in by the snapshot of `view`.
    ///
    /// # Errors
    /// What the kernel says when there is not enough memory.
    pub fn answer(mut self, impression: &Impression, view: &View<'_>) -> std::io::Result<Explanation> {
        self.complete(impression);
        let frame = self.packet(view.shared.snapshot).unwrap_or_default();
        self.sketch.size = Some((frame.len() - crate::wire::ethernet::HEADER_LEN) as u16);
        let rehearsed = rehearsal::rehearse(impression, view.shared, self.origin, BytesPacket::new(&frame))?;
        Ok(words::explanation(&self, impression, &rehearsed, view))
    }

    /// As [`Question::answer`], with the frame as it would leave, for whoever compares.
    ///
    /// # Errors
    /// As [`Question::answer`].
    pub fn rehearse(
        mut self,
        impression: &Impression,
        shared: Shared<'_>,
    ) -> std::io::Result<(Vec<u8>, Rehearsed)> {
        self.complete(impression);
        let frame = self.packet(shared.snapshot).unwrap_or_default();
        let rehearsed = rehearsal::rehearse(impression, shared, self.origin, BytesPacket::new(&frame))?;
        Ok((frame, rehearsed))
    }
}

/// The port by which packets toward an address leave, and most likely come from there; the first one where there is none.
fn port_toward(snapshot: &Snapshot, ip: IpAddr) -> PortId {
    let out = match snapshot.hops.toward(ip) {
        Hop::Ready(egress) => egress.port,
        Hop::Unresolved(unresolved) => unresolved.port,
        Hop::Local | Hop::NoRoute => PortId(0),
    };
    snapshot.hops.vlans().get(out).map_or(out, |vlan| vlan.port)
}

/// The connection of a packet, if its time is not over.
fn alive(impression: &Impression) -> Option<(AnyConnection, Direction)> {
    impression.connection.filter(|(connection, _)| !connection.is_expired(impression.now))
}
