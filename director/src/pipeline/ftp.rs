//! FTP's control connections by NAT, read along; and the data connections that they announce.

use std::net::IpAddr;

use control::model::ForwardingMethod;

use super::flow::Flow;
use super::open::Choice;
use super::{Pipeline, Verdict};
use crate::connection::{Address, ConnId, Connection, FlowKey, State, TCP_PROTOCOL};
use crate::ftp::{self, Answer, Expectation, Expectations, Name, Whose, end};
use crate::packet::PacketBuf;
use crate::persistence::TemplateId;
use crate::service::Snapshot;
use crate::stats::Reason;
use crate::time::Tick;
use crate::wire::checksum::Delta;
use crate::wire::{Frame, Transport, read_u16, read_u32, tcp, write_u16};

/// How far from its real server's port a virtual one may be.
const ALTERNATIVES: u16 = 32;
/// How long a control connection lives on that has data connections, in milliseconds.
const CONTROL_PROLONGED: u32 = 60_000;
/// Ports from here on are those of data.
const UNPRIVILEGED: u16 = 1024;

/// What an lcore remembers of control connections.
#[derive(Debug, Default)]
pub(super) struct Ftp {
    lines: ftp::Lines,
    held: ftp::Held,
}

/// Whether packets of a connection by this method are to be read along.
pub(super) fn is_control<A: Address>(
    snapshot: &Snapshot,
    key: &FlowKey<A>,
    method: ForwardingMethod,
) -> bool {
    method == ForwardingMethod::Nat
        && key.protocol == TCP_PROTOCOL
        && snapshot.lookup.ftp_ports().contains(key.destination_port)
}

/// Sequence number of a segment's text, and where in the frame that stands; `None` where it has none.
fn text_of<A: Address>(frame: &[u8], parsed: &Frame<A>) -> Option<(u32, std::ops::Range<usize>)> {
    if parsed.transport != Transport::Tcp || parsed.tcp_flags & tcp::SYN != 0 {
        return None;
    }
    let at = parsed.transport_offset();
    let text = at + tcp::header_len(frame.get(at..parsed.end())?)..parsed.end();
    (!text.is_empty()).then(|| (read_u32(frame, at + 4), text))
}

impl Pipeline {
    /// A client's segment of a control connection.
    pub(super) fn read_ftp_client<A: Address, P: PacketBuf>(
        &mut self,
        now: Tick,
        flow: &Flow<A>,
        packet: &P,
        id: ConnId,
    ) {
        let bytes = packet.bytes();
        let Some((sequence, text)) = text_of(bytes, &flow.frame) else { return };
        let connection = A::table(&self.tables).get(id);
        let client: IpAddr = connection.client.into();
        let mut port = None;
        let whose = Whose {
            from: end(client, connection.client_port),
            to: end(connection.virtual_address, connection.virtual_port),
        };
        self.ftp
            .lines
            .read(whose, sequence, &bytes[text], |line| port = ftp::active_port(line, client).or(port));
        let Some(port) = port else { return };
        // From any port, which IPVS would not take, since not every server may use that of data; for the client it is.
        let name = Name { from: end(connection.server_address, 0), to: end(client, port) };
        let expectation = Expectation {
            control: whose.from,
            // The port of data is the one before that of commands (RFC 959 §5.2).
            virtual_end: Some(end(connection.virtual_address, connection.virtual_port.wrapping_sub(1))),
            server_port: None,
            server: connection.server,
        };
        self.templates.expectations().announce(name, expectation, now);
    }

    /// A real server's segment of a control connection: what it says about itself becomes what its clients know. A
    /// verdict where the segment does not go on.
    pub(super) fn read_ftp_server<A: Address, P: PacketBuf>(
        &mut self,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
        id: ConnId,
    ) -> Option<Verdict> {
        let connection = *A::table(&self.tables).get(id);
        let (sequence, text) = text_of(packet.bytes(), &flow.frame)?;
        let whose = Whose {
            from: end(connection.server_address, connection.server_port),
            to: end(connection.client, connection.client_port),
        };
        let is_cut = ftp::is_cut(&packet.bytes()[text.clone()]);
        if self.ftp.held.holds(whose, sequence, is_cut) {
            return Some(Verdict::drop(Reason::FtpSplitAnswer));
        }
        rewrite_answers(packet, &flow.frame, text, &connection, self.templates.expectations(), now);
        None
    }

    /// A SYN that may open a data connection that was announced.
    #[cold]
    #[inline(never)]
    pub(super) fn expected<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
    ) -> Option<Verdict> {
        let key = flow.key();
        let (from, to) = (end(key.source, key.source_port), end(key.destination, key.destination_port));
        let expected = self.templates.expectations().take(from, to, now)?;
        let server = snapshot.server(expected.server).filter(|server| server.present)?;
        // The client opens it, or the real server.
        let (client, virtual_end) = expected.virtual_end.map_or((from, to), |end| (to, end));
        let request = FlowKey {
            source: A::of(client.ip())?,
            source_port: client.port(),
            destination: A::of(virtual_end.ip())?,
            destination_port: virtual_end.port(),
            protocol: TCP_PROTOCOL,
        };
        let server_port = expected.server_port.unwrap_or(from.port());
        let choice = Choice { server: expected.server, template: TemplateId::NONE };
        let life = (State::None, snapshot.timeouts.of(State::None));
        let Ok(id) = self.create(snapshot, now, &request, choice, server_port, life) else {
            return Some(Verdict::drop(Reason::TableFull));
        };
        if self.templates.expectations().data().begins(client.ip(), expected.server) {
            A::table_mut(&mut self.tables).get_mut(id).set_ftp_data();
        }
        Some(if expected.virtual_end.is_none() {
            self.request(snapshot, now, flow, packet, id, server)
        } else {
            self.reply(snapshot, now, flow, packet, id)
        })
    }
}

/// Lets a control connection whose time is over live on while it has data connections, by a minute from now (Linux
/// `ip_vs_conn_expire`). It is taken for every one between its client and its real server, so that a second one between
/// these lives on too. True where it does.
pub(super) fn lives_on<A: Address>(
    expectations: &Expectations,
    connection: &mut Connection<A>,
    now: Tick,
) -> bool {
    let lives =
        connection.is_read_along() && expectations.data().any(connection.client.into(), connection.server);
    if lives {
        connection.last_seen = now;
        connection.timeout = CONTROL_PROLONGED;
    }
    lives
}

/// Writes the virtual address into answers to PASV that name the real server's, and expects what they and those to EPSV
/// announce. Whoever names another address knows what the outside calls it, or means no good; neither is our business.
fn rewrite_answers<A: Address, P: PacketBuf>(
    packet: &mut P,
    parsed: &Frame<A>,
    text: std::ops::Range<usize>,
    connection: &Connection<A>,
    expectations: &Expectations,
    now: Tick,
) {
    let (server, vip): (IpAddr, IpAddr) =
        (connection.server_address.into(), connection.virtual_address.into());
    let mut at = text.start;
    while at < text.end {
        let bytes = packet.bytes();
        let Some(len) = bytes[at..text.end].iter().position(|byte| *byte == b'\n') else { return };
        let end = at + len;
        let line = at..if len > 0 && bytes[end - 1] == b'\r' { end - 1 } else { end };
        at = end + 1;
        let Some(answer) = ftp::answer(&bytes[line.clone()]) else { continue };
        let port = match answer {
            Answer::Passive { address, .. } if IpAddr::from(address) != server => continue,
            Answer::Passive { port, .. } | Answer::Extended { port, .. } => port,
        };
        if let Some(virtual_port) = announce(expectations, connection, port, now) {
            change(packet, parsed, line, |line| ftp::rewrite(line, &answer, vip, virtual_port));
        }
    }
}

/// Expects a client at a virtual port for its real server's. That is the same one, unless the client was sent there for
/// another real server already; returns it.
fn announce<A: Address>(
    expectations: &Expectations,
    connection: &Connection<A>,
    server_port: u16,
    now: Tick,
) -> Option<u16> {
    let expectation = Expectation {
        control: end(connection.client, connection.client_port),
        virtual_end: None,
        server_port: Some(server_port),
        server: connection.server,
    };
    let digits = |port: u16| port.checked_ilog10();
    let others = (1..=ALTERNATIVES).flat_map(|by| [server_port.checked_add(by), server_port.checked_sub(by)]);
    let others =
        others.flatten().filter(|port| *port >= UNPRIVILEGED && digits(*port) == digits(server_port));
    [server_port].into_iter().chain(others).find(|port| {
        let name = Name { from: end(connection.client, 0), to: end(connection.virtual_address, *port) };
        expectations.announce(name, expectation, now)
    })
}

/// Changes a piece of a segment's text, not its length, and mends the segment's checksum.
fn change<A: Address, P: PacketBuf>(
    packet: &mut P,
    parsed: &Frame<A>,
    piece: std::ops::Range<usize>,
    change: impl FnOnce(&mut [u8]) -> bool,
) {
    let transport = parsed.transport_offset();
    // The words that the piece is in, counted from where the checksum counts them.
    let begin = piece.start - (piece.start - transport) % 2;
    let bytes = packet.bytes_mut();
    let mut before = [0; ftp::MAX_LINE + 2];
    let len = piece.end - begin;
    if len > ftp::MAX_LINE {
        return;
    }
    before[..len].copy_from_slice(&bytes[begin..piece.end]);
    if !change(&mut bytes[piece.clone()]) {
        return;
    }
    let mut after = [0; ftp::MAX_LINE + 2];
    after[..len].copy_from_slice(&bytes[begin..piece.end]);
    let delta = (0..len).step_by(2).fold(Delta::default(), |delta, at| {
        // The byte behind the piece is the same before and after.
        delta.replace_u16(read_u16(&before, at), read_u16(&after, at))
    });
    let checksum = transport + tcp::CHECKSUM;
    let mended = delta.apply(read_u16(bytes, checksum));
    write_u16(bytes, checksum, mended);
}
