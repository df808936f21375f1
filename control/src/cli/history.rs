//! `directorctl history`: the configurations that ran.

use super::output::{self, Side, Table};
use super::session::{Failure, Session};
use crate::protocol::{ConfigHistory, Request};

pub(super) fn run(session: &mut Session) -> Result<(), Failure> {
    session.show(&Request::ConfigHistory {}, text).map(|_| ())
}

fn text(history: &ConfigHistory) -> String {
    let mut table = Table::new(&[
        ("Version", Side::Right),
        ("Time", Side::Left),
        ("State", Side::Left),
        ("After", Side::Right),
        ("By", Side::Left),
        ("From", Side::Left),
        ("Summary", Side::Left),
    ]);
    for version in &history.versions {
        let runs = history.current == Some(version.version);
        let state = match (runs, version.confirmed) {
            (true, true) => "runs",
            (true, false) => "unconfirmed",
            (false, true) => "",
            (false, false) => "not confirmed",
        };
        table.row([
            version.version.to_string(),
            output::date(version.time_ms),
            state.to_owned(),
            version.after.map_or("-".to_owned(), |after| after.to_string()),
            version.who.clone(),
            version.source.clone(),
            version.summary.clone(),
        ]);
    }
    let mut text = table.take();
    if let Some(left) = history.taken_back_in_ms {
        text += &format!(
            "what runs is taken back in {} unless `directorctl confirm` comes first\n",
            output::clock(left)
        );
    }
    text
}
