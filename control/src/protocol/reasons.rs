//! What `reasons` answers.

use serde::{Deserialize, Serialize};

/// Every reason that a packet's way can have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonList {
    /// In the director's own order, from the usual to the rare.
    pub reasons: Vec<ReasonStatus>,
}

/// One reason, as `stats` counts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonStatus {
    /// Its name, e.g. `table_full`.
    pub reason: String,
    /// What becomes of such a packet.
    pub outcome: Outcome,
    /// What it means, in a sentence.
    pub meaning: String,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It leaves by a port.
    Forwarded,
    /// It goes to the lcore that owns its connection.
    HandedOver,
    /// It waits on its lcore, and is decided about again.
    Waiting,
    /// It goes to the kernel.
    Punted,
    /// It is lost.
    Dropped,
}

impl Outcome {
    /// As in the protocol.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Forwarded => "forwarded",
            Outcome::HandedOver => "handed_over",
            Outcome::Waiting => "waiting",
            Outcome::Punted => "punted",
            Outcome::Dropped => "dropped",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_its_word() {
        for outcome in
            [Outcome::Forwarded, Outcome::HandedOver, Outcome::Waiting, Outcome::Punted, Outcome::Dropped]
        {
            assert_eq!(serde_json::to_value(outcome).expect("JSON"), outcome.word());
        }
    }
}
