//! The model's words as operators type and read them: `tcp 10.0.0.1:80`, `wlc`, `dr`, a weight.

use std::fmt;
use std::str::FromStr;

use super::{Family, ForwardingMethod, PersistenceEngine, Protocol, Scheduler, Weight};

/// A text that is not the word it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}: expected {expected}")]
pub struct ParseWordError {
    /// What it should have been, e.g. "scheduler".
    pub what: &'static str,
    /// The text as it was given.
    pub text: String,
    /// What would have been accepted.
    pub expected: &'static str,
}

impl ParseWordError {
    pub(super) fn new(what: &'static str, text: &str, expected: &'static str) -> Self {
        ParseWordError { what, text: text.to_owned(), expected }
    }
}

/// Implements `ALL`, `word`, `Display` and `FromStr` for an enum whose variants each have one word.
macro_rules! words {
    ($type:ident, $what:literal, $expected:literal, $($variant:ident => $word:literal),+) => {
        impl $type {
            /// Every value, in the order in which help texts list them.
            pub const ALL: &'static [$type] = &[$($type::$variant),+];

            /// The one word for it, as the configuration, `directorctl` and the control protocol write it.
            pub fn word(self) -> &'static str {
                match self {
                    $($type::$variant => $word),+
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // `pad` honours the width that tables ask for.
                f.pad(self.word())
            }
        }

        impl FromStr for $type {
            type Err = ParseWordError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok($type::$variant),)+
                    _ => Err(ParseWordError::new($what, text, $expected)),
                }
            }
        }
    };
}

words!(Family, "address family", "ipv4 or ipv6", Ipv4 => "ipv4", Ipv6 => "ipv6");
words!(Protocol, "protocol", "tcp, udp or sctp", Tcp => "tcp", Udp => "udp", Sctp => "sctp");
words!(PersistenceEngine, "persistence engine", "sip or none", Sip => "sip", None => "none");
words!(
    ForwardingMethod, "forwarding method", "nat, dr or tunnel",
    Nat => "nat", Dr => "dr", Tunnel => "tunnel"
);
words!(
    Scheduler, "scheduler", "rr, wrr, lc, wlc, lblc, lblcr, dh, sh, mh, sed, nq, fo, ovf or twos",
    Rr => "rr", Wrr => "wrr", Lc => "lc", Wlc => "wlc", Lblc => "lblc", Lblcr => "lblcr", Dh => "dh", Sh => "sh",
    Mh => "mh", Sed => "sed", Nq => "nq", Fo => "fo", Ovf => "ovf", Twos => "twos"
);

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Weight {
    type Err = ParseWordError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseWordError::new("weight", text, "a whole number from 0 to 65535");
        text.parse().map(Weight).map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comes_back<T: Copy + fmt::Debug + fmt::Display + FromStr<Err = ParseWordError> + PartialEq>(
        all: &[T],
    ) {
        for value in all {
            assert_eq!(value.to_string().parse(), Ok(*value));
        }
    }

    #[test]
    fn every_word_reads_back_as_what_it_names() {
        comes_back(Protocol::ALL);
        comes_back(ForwardingMethod::ALL);
        comes_back(Scheduler::ALL);
        comes_back(PersistenceEngine::ALL);
        comes_back(&[Weight(0), Weight(1), Weight(u16::MAX)]);
    }

    #[test]
    fn the_words_are_the_ones_serde_writes() {
        for scheduler in Scheduler::ALL {
            let json = serde_json::to_string(scheduler).expect("a unit variant is always JSON");
            assert_eq!(json, format!("\"{scheduler}\""));
        }
        for method in ForwardingMethod::ALL {
            let json = serde_json::to_string(method).expect("a unit variant is always JSON");
            assert_eq!(json, format!("\"{method}\""));
        }
    }

    #[test]
    fn a_wrong_word_is_told_what_would_have_been_right() {
        let error = "lru".parse::<Scheduler>().expect_err("there is no such scheduler");
        assert_eq!(
            error.to_string(),
            "`lru` is not a scheduler: expected rr, wrr, lc, wlc, lblc, lblcr, dh, sh, mh, sed, nq, fo, ovf or twos"
        );
        assert!("65536".parse::<Weight>().is_err());
        assert!("-1".parse::<Weight>().is_err());
    }

    #[test]
    fn words_keep_to_the_width_of_a_column() {
        assert_eq!(format!("{:<6}|{:>4}", ForwardingMethod::Dr, Weight(7)), "dr    |   7");
    }
}
