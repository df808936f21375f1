//! TCP's states as IPVS tells them (Linux `ip_vs_proto_tcp.c`), as text.

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
        other => unreachable!("no state {other}"),
    };
    seconds * 1000
}

/// Counted as active.
#[must_use]
pub fn is_active(state: &str) -> bool {
    matches!(state, "ES" | "SS" | "SR" | "SA")
}
