//! TCP's and SCTP's states as IPVS tells them (Linux `ip_vs_proto_tcp.c`, `ip_vs_proto_sctp.c`), as text.

use control::model::Timeouts;

/// Rows: syn, fin, ack, rst. Columns: NO ES SS SR FW TW CL CW LA LI SA.
const INPUT: [&str; 4] = [
    "SR ES ES SR SR SR SR SR SR SR SR",
    "CL CW SS TW TW TW CL CW LA LI TW",
    "ES ES SS ES FW TW CL CW CL LI ES",
    "CL CL CL SR CL CL CL CL LA LI SR",
];
const OUTPUT: [&str; 4] = [
    "SS ES SS SR SS SS SS SS SS LI SR",
    "TW FW SS TW FW TW CL TW LA LI TW",
    "ES ES SS ES FW TW CL CW LA ES ES",
    "CL CL SS CL CL TW CL CL CL CL CL",
];
const INPUT_ONLY: [&str; 4] = [
    "SR ES ES SR SR SR SR SR SR SR SR",
    "CL FW SS TW FW TW CL CW LA LI TW",
    "ES ES SS ES FW TW CL CW CL LI ES",
    "CL CL CL SR CL CL CL CL LA LI CL",
];
const COLUMNS: &str = "NO ES SS SR FW TW CL CW LA LI SA";

/// Which half of a connection a segment is of, and what is seen of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// From the client; replies cross the director.
    Input,
    /// From the real server.
    Output,
    /// From the client; replies do not.
    InputOnly,
}

/// The state after a segment with these flags. States are two letters; `UD` is UDP's.
#[must_use]
pub fn next(state: &'static str, half: Half, flags: u8) -> &'static str {
    let bits = [(4, 3), (2, 0), (1, 1), (16, 2)];
    let Some((_, row)) = bits.into_iter().find(|(bit, _)| flags & bit != 0) else { return state };
    let table = match half {
        Half::Input => INPUT,
        Half::Output => OUTPUT,
        Half::InputOnly => INPUT_ONLY,
    };
    let column = COLUMNS.split(' ').position(|name| name == state);
    column.and_then(|column| table[row].split(' ').nth(column)).unwrap_or(state)
}

/// Of SCTP, by half and chunk: what differs from staying in the state, as `from>to`. `*` is every other state.
const ASSOCIATION: [(Half, u8, &str); 30] = [
    (Half::Input, 0, "sNO>sES"),
    (Half::Input, 1, "sNO>sI1 sI1>sIN sRJ>sIN sCL>sIN"),
    (Half::Input, 2, "sNO>sCW sI1>sCW sIN>sCW sCW>sCO"),
    (Half::Input, 10, "sNO>sCR sI1>sIN sCS>sCR"),
    (Half::Input, 11, "sNO>sES sCE>sES"),
    (Half::Input, 7, "sNO>sSR sES>sSR"),
    (Half::Input, 8, "sNO>sCL sI1>sIN sSS>sCL sSA>sCL"),
    (Half::Input, 14, "sNO>sCL sI1>sCL sIN>sCL sSA>sCL"),
    (Half::Input, 9, "sNO>sCL sCE>sCL"),
    (Half::Input, 6, "sCW>sRJ *>sCL"),
    (Half::Output, 0, "sNO>sES"),
    (Half::Output, 1, "sES>sES *>sCW"),
    (Half::Output, 2, "sNO>sCS sI1>sCS sIN>sCS"),
    (Half::Output, 10, "sES>sES sSS>sSS sSR>sSR sSA>sSA sRJ>sRJ sCL>sCL *>sCE"),
    (Half::Output, 11, "sSS>sSS sSR>sSR sSA>sSA sRJ>sRJ sCL>sCL *>sES"),
    (Half::Output, 7, "sSR>sSR sSA>sSA sRJ>sRJ sCL>sCL *>sSS"),
    (Half::Output, 8, "sNO>sSA sI1>sSA sIN>sSA sCS>sSA sCR>sSA sSS>sSA sSR>sSA"),
    (Half::Output, 14, "sNO>sCL"),
    (Half::Output, 9, "sNO>sCL sI1>sCL sIN>sCL sCS>sCL sCR>sCL"),
    (Half::Output, 6, "sI1>sRJ *>sCL"),
    (Half::InputOnly, 0, "sNO>sES sCW>sES"),
    (Half::InputOnly, 1, "sNO>sI1 sI1>sIN sCS>sIN sCR>sIN sCW>sIN sRJ>sIN sCL>sIN"),
    (Half::InputOnly, 2, "sNO>sCE sI1>sCE sIN>sCE sCS>sCE sCR>sCE sCW>sCE"),
    (Half::InputOnly, 10, "sNO>sES sI1>sES sIN>sES sCS>sES sCR>sES sCW>sES"),
    (Half::InputOnly, 11, "sNO>sES sCS>sES sCR>sES sCO>sES sCE>sES"),
    (Half::InputOnly, 7, "sNO>sSR sES>sSR"),
    (Half::InputOnly, 8, "sNO>sCL sI1>sIN sES>sCL sSS>sCL sSA>sCL"),
    (Half::InputOnly, 14, "sNO>sCL sI1>sCL sIN>sCL sCS>sCL sCR>sCL sSR>sCL sSA>sCL"),
    (Half::InputOnly, 9, "sNO>sCL"),
    (Half::InputOnly, 6, "sCW>sRJ *>sCL"),
];

/// The state of an association after a packet of which this chunk counts. States begin with an s; `sNO` is the first.
#[must_use]
pub fn next_association(state: &'static str, half: Half, chunk: u8) -> &'static str {
    let row = |chunk: u8| ASSOCIATION.iter().find(|(h, c, _)| (*h, *c) == (half, chunk));
    let Some((.., steps)) = row(chunk).or_else(|| row(0)) else { return state };
    let to =
        |from: &str| steps.split(' ').filter_map(|step| step.split_once('>')).find(|step| step.0 == from);
    to(state).or_else(|| to("*")).map_or(state, |step| step.1)
}

/// How long a connection in a state lives, in milliseconds.
#[must_use]
pub fn timeout(state: &str, set: &Timeouts) -> u64 {
    let seconds = match state {
        "NO" => 2,
        "ES" => set.tcp.as_secs(),
        "FW" => set.tcp_fin.as_secs(),
        "UD" => set.udp.as_secs(),
        "SS" | "TW" | "LI" | "SA" => 120,
        "SR" | "CW" => 60,
        "CL" => 10,
        "LA" => 30,
        "sNO" => 2,
        "sI1" | "sRJ" => 4,
        "sES" => 900,
        association if association.starts_with('s') => 61,
        other => unreachable!("no state {other}"),
    };
    seconds * 1000
}

/// Counted as active.
#[must_use]
pub fn is_active(state: &str) -> bool {
    matches!(state, "ES" | "SS" | "SR" | "SA" | "sES")
}
