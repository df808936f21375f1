//! The life of a connection: IPVS's TCP states and timeouts as data (Linux `ip_vs_proto_tcp.c`).

use control::model::{Protocol, Timeouts};

use crate::time::milliseconds;
use crate::wire::{ipv4, tcp};

/// IP protocol number of TCP.
pub const TCP_PROTOCOL: u8 = ipv4::TCP;
/// IP protocol number of UDP.
pub const UDP_PROTOCOL: u8 = ipv4::UDP;

/// IP protocol number.
pub fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => TCP_PROTOCOL,
        Protocol::Udp => UDP_PROTOCOL,
    }
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

    /// Counted as "active" (`ActiveConn`) rather than "inactive" (`InActConn`).
    #[inline]
    pub fn is_active(self) -> bool {
        matches!(self, State::Established | State::SynSent | State::SynRecv | State::SynAck)
    }

    /// The state of this name, in any case.
    pub fn by_name(name: &str) -> Option<State> {
        Self::TCP.into_iter().chain([State::Udp]).find(|state| state.name().eq_ignore_ascii_case(name))
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
    if state == State::Udp {
        return state;
    }
    let tables = &TRANSITIONS[strictness as usize];
    State::TCP[usize::from(tables[path as usize][event as usize][state as usize])]
}

/// How long a connection lives after a packet that left it in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutTable([u32; 12]);

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
    }
}
