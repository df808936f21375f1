//! `directorctl reasons`: what `stats` counts packets by.

use super::output::{Side, Table};
use super::session::{Failure, Session};
use crate::protocol::{ReasonList, Request};

pub(super) fn run(session: &mut Session) -> Result<(), Failure> {
    session.show(&Request::Reasons {}, text).map(|_| ())
}

fn text(list: &ReasonList) -> String {
    let mut table = Table::new(&["Reason", "Outcome", "Meaning"].map(|title| (title, Side::Left)));
    for reason in &list.reasons {
        table.row([reason.reason.clone(), reason.outcome.word().to_owned(), reason.meaning.clone()]);
    }
    table.take()
}
