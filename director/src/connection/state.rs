//! The life of a connection: IPVS's states and timeouts, and its transitions of TCP as data (Linux
//! `ip_vs_proto_tcp.c`).

use control::model::{Protocol, Timeouts};

use crate::time::milliseconds;
use crate::wire::{ipv4, tcp};

/// IP protocol number of TCP.
pub const TCP_PROTOCOL: u8 = ipv4::TCP;
/// IP protocol number of UDP.
pub const UDP_PROTOCOL: u8 = ipv4::UDP;
/// IP protocol number of SCTP.
pub const SCTP_PROTOCOL: u8 = ipv4::SCTP;

/// IP protocol number.
pub fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => TCP_PROTOCOL,
        Protocol::Udp => UDP_PROTOCOL,
        Protocol::Sctp => SCTP_PROTOCOL,
    }
}

/// The protocol of a connection, by its number.
pub fn protocol_of(number: u8) -> Protocol {
    Protocol::ALL
        .iter()
        .copied()
        .find(|protocol| protocol_number(*protocol) == number)
        .unwrap_or(Protocol::Tcp)
}

/// Where a connection is. The names are IPVS's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Nothing seen yet.
    None,
    /// TCP: both ends have spoken.
    Established,
    /// TCP: the real server's side sent a SYN.
    SynSent,
    /// TCP: the client sent a SYN.
    SynRecv,
    /// TCP: one side is done.
    FinWait,
    /// TCP: both are done.
    TimeWait,
    /// TCP: reset, or refused.
    Close,
    /// TCP: the client's side is done.
    CloseWait,
    /// TCP: the last acknowledgement is awaited.
    LastAck,
    /// TCP: waiting for a SYN (data connections of helpers).
    Listen,
    /// TCP: a SYN was answered (defence against floods).
    SynAck,
    /// UDP has but this one.
    Udp,
    /// SCTP: the client sent an INIT.
    SctpInit1,
    /// SCTP: the client sent another INIT.
    SctpInit,
    /// SCTP: the real server answered the INIT.
    SctpCookieSent,
    /// SCTP: the client sent the cookie.
    SctpCookieReplied,
    /// SCTP: the real server sent an INIT.
    SctpCookieWait,
    /// SCTP: the client answered the real server's INIT.
    SctpCookie,
    /// SCTP: the real server sent the cookie.
    SctpCookieEchoed,
    /// SCTP: both ends have agreed.
    SctpEstablished,
    /// SCTP: the real server's side is done.
    SctpShutdownSent,
    /// SCTP: the client's side is done.
    SctpShutdownReceived,
    /// SCTP: both are done.
    SctpShutdownAckSent,
    /// SCTP: an INIT was refused.
    SctpRejected,
    /// SCTP: over.
    SctpClosed,
}

impl State {
    const TCP: [State; 11] = [
        State::None,
        State::Established,
        State::SynSent,
        State::SynRecv,
        State::FinWait,
        State::TimeWait,
        State::Close,
        State::CloseWait,
        State::LastAck,
        State::Listen,
        State::SynAck,
    ];

    pub(super) const SCTP: [State; 14] = [
        State::None,
        State::SctpInit1,
        State::SctpInit,
        State::SctpCookieSent,
        State::SctpCookieReplied,
        State::SctpCookieWait,
        State::SctpCookie,
        State::SctpCookieEchoed,
        State::SctpEstablished,
        State::SctpShutdownSent,
        State::SctpShutdownReceived,
        State::SctpShutdownAckSent,
        State::SctpRejected,
        State::SctpClosed,
    ];

    /// Counted as "active" (`ActiveConn`) rather than "inactive" (`InActConn`).
    #[inline]
    pub fn is_active(self) -> bool {
        matches!(
            self,
            State::Established | State::SynSent | State::SynRecv | State::SynAck | State::SctpEstablished
        )
    }

    /// A state of this name, in any case: TCP and SCTP share names.
    pub fn by_name(name: &str) -> Option<State> {
        let mut all = Self::TCP.into_iter().chain([State::Udp]).chain(Self::SCTP);
        all.find(|state| state.name().eq_ignore_ascii_case(name))
    }

    /// Whether both have one name.
    #[inline]
    pub fn is_called_as(self, other: State) -> bool {
        self == other || self.is_established() && other.is_established()
    }

    /// TCP or SCTP: the connection is there for both ends.
    #[inline]
    pub fn is_established(self) -> bool {
        matches!(self, State::Established | State::SctpEstablished)
    }

    /// The name that `ipvsadm -Lnc` shows.
    pub fn name(self) -> &'static str {
        match self {
            State::None => "NONE",
            State::Established => "ESTABLISHED",
            State::SynSent => "SYN_SENT",
            State::SynRecv => "SYN_RECV",
            State::FinWait => "FIN_WAIT",
            State::TimeWait => "TIME_WAIT",
            State::Close => "CLOSE",
            State::CloseWait => "CLOSE_WAIT",
            State::LastAck => "LAST_ACK",
            State::Listen => "LISTEN",
            State::SynAck => "SYNACK",
            State::Udp => "UDP",
            State::SctpInit1 => "INIT1",
            State::SctpInit => "INIT",
            State::SctpCookieSent => "C-SENT",
            State::SctpCookieReplied => "C-REPLIED",
            State::SctpCookieWait => "C-WAIT",
            State::SctpCookie => "COOKIE",
            State::SctpCookieEchoed => "C-ECHOED",
            State::SctpEstablished => "ESTABLISHED",
            State::SctpShutdownSent => "S-SENT",
            State::SctpShutdownReceived => "S-RECEIVED",
            State::SctpShutdownAckSent => "S-ACK-SENT",
            State::SctpRejected => "REJECTED",
            State::SctpClosed => "CLOSED",
        }
    }
}

/// What a TCP segment means for the state. RST counts before SYN before FIN before ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// SYN, with or without ACK.
    Syn,
    /// FIN.
    Fin,
    /// ACK.
    Ack,
    /// RST.
    Rst,
}

impl Event {
    /// The event of a segment with these flags; `None` where no flag says anything.
    #[inline]
    pub fn of(flags: u8) -> Option<Event> {
        if flags & tcp::RST != 0 {
            Some(Event::Rst)
        } else if flags & tcp::SYN != 0 {
            Some(Event::Syn)
        } else if flags & tcp::FIN != 0 {
            Some(Event::Fin)
        } else if flags & tcp::ACK != 0 {
            Some(Event::Ack)
        } else {
            None
        }
    }
}

/// Which of the three tables applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// From the client, of a connection whose replies cross the director.
    Input,
    /// From the real server.
    Output,
    /// From the client, of a connection of which only this half is seen (DR, tunnel).
    InputOnly,
}

const ES: u8 = 1;
const SS: u8 = 2;
const SR: u8 = 3;
const FW: u8 = 4;
const TW: u8 = 5;
const CL: u8 = 6;
const CW: u8 = 7;
const LA: u8 = 8;
const LI: u8 = 9;
const SA: u8 = 10;

/// Which of IPVS's sets of tables applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// `tcp_states`.
    #[default]
    Normal,
    /// `tcp_states_dos`, while `secure_tcp` defends against floods: a connection is not established by the client
    /// alone.
    Secure,
}

/// `TRANSITIONS[strictness][path][event][state]`, columns in the order of [`State`].
#[rustfmt::skip]
const TRANSITIONS: [[[[u8; 11]; 4]; 3]; 2] = [
    [
        [ //  NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
            [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR], // syn
            [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW], // fin
            [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES], // ack
            [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR], // rst
        ],
        [
            [SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR],
            [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
            [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
            [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
        ],
        [
            [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
            [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
            [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
            [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
        ],
    ],
    [
        [ //  NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
            [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SA],
            [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, SA],
            [ES, ES, SS, SR, FW, TW, CL, CW, CL, LI, SA],
            [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
        ],
        [
            [SS, ES, SS, SA, SS, SS, SS, SS, SS, LI, SA],
            [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
            [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
            [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
        ],
        [
            [SA, ES, ES, SR, SA, SA, SA, SA, SA, SA, SA],
            [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
            [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
            [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
        ],
    ],
];

/// The state after a TCP segment.
#[inline]
pub fn next_state(strictness: Strictness, path: Path, event: Event, state: State) -> State {
    if state as u8 > State::SynAck as u8 {
        return state;
    }
    let tables = &TRANSITIONS[strictness as usize];
    State::TCP[usize::from(tables[path as usize][event as usize][state as usize])]
}

/// How long a connection lives after a packet that left it in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutTable([u32; 25]);

impl TimeoutTable {
    /// IPVS's timeouts, with the three that an operator may set.
    pub fn new(set: &Timeouts) -> TimeoutTable {
        let second = 1000;
        TimeoutTable([
            2 * second,
            milliseconds(set.tcp),
            120 * second,
            60 * second,
            milliseconds(set.tcp_fin),
            120 * second,
            10 * second,
            60 * second,
            30 * second,
            120 * second,
            120 * second,
            milliseconds(set.udp),
            // SCTP, from INIT1 on (`sctp_timeouts` in Linux `ip_vs_proto_sctp.c`): a moment more than the first and
            // the greatest time that a sender waits before it repeats.
            4 * second,
            61 * second,
            61 * second,
            61 * second,
            61 * second,
            61 * second,
            61 * second,
            900 * second,
            61 * second,
            61 * second,
            61 * second,
            4 * second,
            61 * second,
        ])
    }

    /// In milliseconds.
    #[inline]
    pub fn of(&self, state: State) -> u32 {
        self.0[state as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn walk(path: &[(Path, Event)]) -> Vec<&'static str> {
        let mut state = State::None;
        path.iter()
            .map(|&(path, event)| {
                state = next_state(Strictness::Normal, path, event, state);
                state.name()
            })
            .collect()
    }

    #[test]
    fn a_connection_by_nat_from_handshake_to_time_wait() {
        use Event::*;
        use Path::*;
        assert_eq!(
            walk(&[(Input, Syn), (Output, Syn), (Input, Ack), (Output, Fin), (Input, Fin), (Output, Ack)]),
            ["SYN_RECV", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "TIME_WAIT", "TIME_WAIT"]
        );
    }

    #[test]
    fn a_connection_by_direct_routing_ends_in_fin_wait() {
        use Event::*;
        use Path::*;
        assert_eq!(
            walk(&[(InputOnly, Syn), (InputOnly, Ack), (InputOnly, Fin), (InputOnly, Ack)]),
            ["SYN_RECV", "ESTABLISHED", "FIN_WAIT", "FIN_WAIT"]
        );
    }

    #[test]
    fn a_reset_in_syn_recv_keeps_it() {
        let next = |path, state| next_state(Strictness::Normal, path, Event::Rst, state);
        assert_eq!(next(Path::Input, State::SynRecv), State::SynRecv);
        assert_eq!(next(Path::InputOnly, State::Established), State::Close);
    }

    #[test]
    fn the_secure_tables_differ_where_ipvs_says() {
        use Event::*;
        use Path::*;
        let differ: Vec<(Path, Event, State, State)> = [Input, Output, InputOnly]
            .into_iter()
            .flat_map(|path| [Syn, Fin, Ack, Rst].map(|event| (path, event)))
            .flat_map(|(path, event)| State::TCP.map(|state| (path, event, state)))
            .filter_map(|(path, event, state)| {
                let secure = next_state(Strictness::Secure, path, event, state);
                (secure != next_state(Strictness::Normal, path, event, state))
                    .then_some((path, event, state, secure))
            })
            .collect();
        let expected = [
            (Input, Syn, State::SynAck, State::SynAck),
            (Input, Fin, State::SynAck, State::SynAck),
            (Input, Ack, State::SynRecv, State::SynRecv),
            (Input, Ack, State::SynAck, State::SynAck),
            (Input, Rst, State::SynAck, State::Close),
            (Output, Syn, State::SynRecv, State::SynAck),
            (Output, Syn, State::SynAck, State::SynAck),
        ];
        assert_eq!(differ[..7], expected);
        assert!(differ[7..].iter().all(|(path, event, state, then)| {
            use State::*;
            let is_late =
                matches!(state, None | FinWait | TimeWait | Close | CloseWait | LastAck | Listen | SynAck);
            *path == InputOnly && *event == Syn && is_late && *then == SynAck
        }));
        assert_eq!(differ.len(), 7 + 8);
    }

    #[test]
    fn flags_count_in_the_order_rst_syn_fin_ack() {
        assert_eq!(Event::of(0x17), Some(Event::Rst));
        assert_eq!(Event::of(0x13), Some(Event::Syn));
        assert_eq!(Event::of(0x11), Some(Event::Fin));
        assert_eq!(Event::of(0x10), Some(Event::Ack));
        assert_eq!(Event::of(0x08), None);
    }

    #[test]
    fn timeouts_are_those_of_ipvs() {
        let table = TimeoutTable::new(&Timeouts::default());
        let seconds: Vec<u32> = State::TCP.iter().map(|s| table.of(*s) / 1000).collect();
        assert_eq!(seconds, [2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120]);
        assert_eq!(table.of(State::Udp), 300_000);
        let seconds: Vec<u32> = State::SCTP.iter().map(|s| table.of(*s) / 1000).collect();
        assert_eq!(seconds, [2, 4, 61, 61, 61, 61, 61, 61, 900, 61, 61, 61, 4, 61]);
        let set = Timeouts { tcp: Duration::from_secs(60), ..Timeouts::default() };
        assert_eq!(TimeoutTable::new(&set).of(State::SctpEstablished), 900_000, "nobody's to set");
    }
}
