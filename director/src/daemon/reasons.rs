//! The reasons that packets are counted by, in the protocol's words.

use control::protocol::{Outcome, ReasonList, ReasonStatus, Reply};

use crate::stats::{Class, Reason};

/// Every reason.
pub(super) fn list() -> Reply {
    let reasons = Reason::ALL.iter().map(|reason| ReasonStatus {
        reason: reason.name().to_owned(),
        outcome: match reason.class() {
            Class::Forwarded => Outcome::Forwarded,
            Class::HandedOver => Outcome::HandedOver,
            Class::Waiting => Outcome::Waiting,
            Class::Punted => Outcome::Punted,
            Class::Dropped => Outcome::Dropped,
        },
        meaning: reason.explanation().to_owned(),
    });
    Reply::Reasons(ReasonList { reasons: reasons.collect() })
}
