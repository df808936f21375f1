//! The life of an SCTP association, as IPVS knows it (what Linux `ip_vs_proto_sctp.c` does): which packets change the
//! state. Whatever is not said here leaves it.

use Change::{All, These};
use State::{
    None as Fresh, SctpClosed as Closed, SctpCookie as Cookie, SctpCookieEchoed as CookieEchoed,
    SctpCookieReplied as CookieReplied, SctpCookieSent as CookieSent, SctpCookieWait as CookieWait,
    SctpEstablished as Established, SctpInit as Init, SctpInit1 as Init1, SctpRejected as Rejected,
    SctpShutdownAckSent as ShutdownAckSent, SctpShutdownReceived as ShutdownReceived,
    SctpShutdownSent as ShutdownSent,
};

use super::state::{Path, State};
use crate::wire::sctp;

/// What a chunk does to the state.
enum Change {
    /// From these states it leads to that one; the others stay.
    These(&'static [(&'static [State], State)]),
    /// It leads to this state, but from the first of each pair to the second.
    All(State, &'static [(State, State)]),
}

/// Changes by path, then by the chunk that counts. A chunk without a row of its own counts as DATA.
const CHANGES: [&[(u8, Change)]; 3] = [
    // From the client.
    &[
        (sctp::DATA, These(&[(&[Fresh], Established)])),
        (sctp::INIT, These(&[(&[Fresh], Init1), (&[Init1, Rejected, Closed], Init)])),
        (sctp::INIT_ACK, These(&[(&[Fresh, Init1, Init], CookieWait), (&[CookieWait], Cookie)])),
        (sctp::COOKIE_ECHO, These(&[(&[Fresh, CookieSent], CookieReplied), (&[Init1], Init)])),
        (sctp::COOKIE_ACK, These(&[(&[Fresh, CookieEchoed], Established)])),
        (sctp::SHUTDOWN, These(&[(&[Fresh, Established], ShutdownReceived)])),
        (sctp::SHUTDOWN_ACK, These(&[(&[Fresh, ShutdownSent, ShutdownAckSent], Closed), (&[Init1], Init)])),
        (sctp::SHUTDOWN_COMPLETE, These(&[(&[Fresh, Init1, Init, ShutdownAckSent], Closed)])),
        (sctp::ERROR, These(&[(&[Fresh, CookieEchoed], Closed)])),
        (sctp::ABORT, All(Closed, &[(CookieWait, Rejected)])),
    ],
    // From the real server.
    &[
        (sctp::DATA, These(&[(&[Fresh], Established)])),
        (sctp::INIT, All(CookieWait, &[(Established, Established)])),
        (sctp::INIT_ACK, These(&[(&[Fresh, Init1, Init], CookieSent)])),
        (
            sctp::COOKIE_ECHO,
            All(
                CookieEchoed,
                &[
                    (Established, Established),
                    (ShutdownSent, ShutdownSent),
                    (ShutdownReceived, ShutdownReceived),
                    (ShutdownAckSent, ShutdownAckSent),
                    (Rejected, Rejected),
                    (Closed, Closed),
                ],
            ),
        ),
        (
            sctp::COOKIE_ACK,
            All(
                Established,
                &[
                    (ShutdownSent, ShutdownSent),
                    (ShutdownReceived, ShutdownReceived),
                    (ShutdownAckSent, ShutdownAckSent),
                    (Rejected, Rejected),
                    (Closed, Closed),
                ],
            ),
        ),
        (
            sctp::SHUTDOWN,
            All(
                ShutdownSent,
                &[
                    (ShutdownReceived, ShutdownReceived),
                    (ShutdownAckSent, ShutdownAckSent),
                    (Rejected, Rejected),
                    (Closed, Closed),
                ],
            ),
        ),
        (
            sctp::SHUTDOWN_ACK,
            All(
                ShutdownAckSent,
                &[
                    (CookieWait, CookieWait),
                    (Cookie, Cookie),
                    (CookieEchoed, CookieEchoed),
                    (Established, Established),
                    (Rejected, Rejected),
                    (Closed, Closed),
                ],
            ),
        ),
        (sctp::SHUTDOWN_COMPLETE, These(&[(&[Fresh], Closed)])),
        (sctp::ERROR, These(&[(&[Fresh, Init1, Init, CookieSent, CookieReplied], Closed)])),
        (sctp::ABORT, All(Closed, &[(Init1, Rejected)])),
    ],
    // From the client, where the real server is not heard.
    &[
        (sctp::DATA, These(&[(&[Fresh, CookieWait], Established)])),
        (
            sctp::INIT,
            All(
                Init,
                &[
                    (Fresh, Init1),
                    (Cookie, Cookie),
                    (CookieEchoed, CookieEchoed),
                    (Established, Established),
                    (ShutdownSent, ShutdownSent),
                    (ShutdownReceived, ShutdownReceived),
                    (ShutdownAckSent, ShutdownAckSent),
                ],
            ),
        ),
        (
            sctp::INIT_ACK,
            All(
                CookieEchoed,
                &[
                    (Cookie, Cookie),
                    (Established, Established),
                    (ShutdownSent, ShutdownSent),
                    (ShutdownReceived, ShutdownReceived),
                    (ShutdownAckSent, ShutdownAckSent),
                    (Rejected, Rejected),
                    (Closed, Closed),
                ],
            ),
        ),
        (
            sctp::COOKIE_ECHO,
            All(
                Established,
                &[
                    (Cookie, Cookie),
                    (CookieEchoed, CookieEchoed),
                    (ShutdownSent, ShutdownSent),
                    (ShutdownReceived, ShutdownReceived),
                    (ShutdownAckSent, ShutdownAckSent),
                    (Rejected, Rejected),
                    (Closed, Closed),
                ],
            ),
        ),
        (
            sctp::COOKIE_ACK,
            These(&[(&[Fresh, CookieSent, CookieReplied, Cookie, CookieEchoed], Established)]),
        ),
        (sctp::SHUTDOWN, These(&[(&[Fresh, Established], ShutdownReceived)])),
        (
            sctp::SHUTDOWN_ACK,
            These(&[(&[Fresh, Established, ShutdownSent, ShutdownAckSent], Closed), (&[Init1], Init)]),
        ),
        (
            sctp::SHUTDOWN_COMPLETE,
            All(
                Closed,
                &[
                    (CookieWait, CookieWait),
                    (Cookie, Cookie),
                    (CookieEchoed, CookieEchoed),
                    (Established, Established),
                    (ShutdownSent, ShutdownSent),
                    (Rejected, Rejected),
                ],
            ),
        ),
        (sctp::ERROR, These(&[(&[Fresh], Closed)])),
        (sctp::ABORT, All(Closed, &[(CookieWait, Rejected)])),
    ],
];

/// The state after an SCTP packet, of which a chunk of this type counts.
#[must_use]
pub fn next_association_state(path: Path, chunk: u8, state: State) -> State {
    if !State::SCTP.contains(&state) {
        return state;
    }
    let changes = CHANGES[path as usize];
    let row = |chunk: u8| changes.iter().find(|(of, _)| *of == chunk).map(|(_, change)| change);
    match row(chunk).or_else(|| row(sctp::DATA)) {
        Some(These(moves)) => {
            moves.iter().find(|(from, _)| from.contains(&state)).map_or(state, |(_, to)| *to)
        }
        Some(All(to, others)) => others.iter().find(|(from, _)| *from == state).map_or(*to, |(_, to)| *to),
        None => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Path::{Input, InputOnly, Output};
    use sctp::{ABORT, COOKIE_ACK, COOKIE_ECHO, DATA, ERROR, INIT, INIT_ACK, SHUTDOWN, SHUTDOWN_ACK};

    fn walk(packets: &[(Path, u8)]) -> Vec<&'static str> {
        let mut state = State::None;
        let names = packets.iter().map(|&(path, chunk)| {
            state = next_association_state(path, chunk, state);
            state.name()
        });
        names.collect()
    }

    #[test]
    fn an_association_by_nat_from_init_to_closed() {
        let setup =
            [(Input, INIT), (Output, INIT_ACK), (Input, COOKIE_ECHO), (Output, COOKIE_ACK), (Input, DATA)];
        assert_eq!(walk(&setup), ["INIT1", "C-SENT", "C-REPLIED", "ESTABLISHED", "ESTABLISHED"]);
        let end = [(Input, SHUTDOWN), (Output, SHUTDOWN_ACK), (Input, sctp::SHUTDOWN_COMPLETE)];
        assert_eq!(walk(&[&setup[..], &end].concat())[5..], ["S-RECEIVED", "S-ACK-SENT", "CLOSED"]);
    }

    #[test]
    fn an_association_by_direct_routing_is_known_by_the_client_alone() {
        let half = [(InputOnly, INIT), (InputOnly, COOKIE_ECHO), (InputOnly, SHUTDOWN), (InputOnly, 14)];
        assert_eq!(walk(&half), ["INIT1", "ESTABLISHED", "S-RECEIVED", "CLOSED"]);
    }

    #[test]
    fn an_init_that_is_refused_and_one_that_is_repeated() {
        assert_eq!(walk(&[(Input, INIT), (Output, ABORT), (Input, INIT)]), ["INIT1", "REJECTED", "INIT"]);
        assert_eq!(walk(&[(Input, INIT), (Input, INIT), (Output, ERROR)]), ["INIT1", "INIT", "CLOSED"]);
    }

    #[test]
    fn an_association_that_the_real_server_opens() {
        let setup = [(Output, INIT), (Input, INIT_ACK), (Output, COOKIE_ECHO), (Input, COOKIE_ACK)];
        assert_eq!(walk(&setup), ["C-WAIT", "COOKIE", "C-ECHOED", "ESTABLISHED"]);
    }

    #[test]
    fn what_is_not_known_counts_as_data_and_other_protocols_stay() {
        for chunk in [3, 4, 5, 12, 13, 15, 64, 130, 192, 255] {
            assert_eq!(next_association_state(Input, chunk, State::None), State::SctpEstablished, "{chunk}");
            assert_eq!(next_association_state(Input, chunk, State::SctpInit), State::SctpInit, "{chunk}");
        }
        assert_eq!(next_association_state(Input, ABORT, State::Udp), State::Udp);
    }
}
