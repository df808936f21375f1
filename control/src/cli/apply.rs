//! `directorctl apply`, `confirm` and `rollback`: another configuration, and back.

use std::path::PathBuf;

use clap::Args;

use super::config_file;
use super::session::{Failure, Session};
use crate::plan::{Difference, KeyChange};
use crate::protocol::{Applied, ConfigDiff, Done, Request};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Say what would change, and change nothing
    #[arg(long, conflicts_with = "confirm")]
    dry_run: bool,

    /// Go back after so many seconds unless `directorctl confirm` comes first
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    confirm: Option<u32>,

    /// The configuration; - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct RollbackOptions {
    /// A version by its number in `directorctl history`; without, what ran before
    #[arg(value_name = "N")]
    version: Option<u64>,
}

pub(super) fn run(options: Options, session: &mut Session) -> Result<(), Failure> {
    let (text, source) = config_file::read(&options.file)?;
    if options.dry_run {
        let request = Request::ConfigDiff { text: Some(text), source: Some(source) };
        let diff: ConfigDiff = session.show(&request, dry_run)?;
        return if diff.needs_restart.is_empty() { Ok(()) } else { Err(Failure::Status(1)) };
    }
    let request = Request::ConfigApply { text, source, confirm_within: options.confirm };
    session.show(&request, applied).map(|_| ())
}

pub(super) fn confirm(session: &mut Session) -> Result<(), Failure> {
    session.show(&Request::ConfigConfirm {}, |_: &Done| "confirmed\n".to_owned()).map(|_| ())
}

pub(super) fn roll_back(options: &RollbackOptions, session: &mut Session) -> Result<(), Failure> {
    session.show(&Request::ConfigRollback { to: options.version }, applied).map(|_| ())
}

fn dry_run(diff: &ConfigDiff) -> String {
    let mut text = words(&diff.difference);
    text += &restart(&diff.needs_restart);
    if !diff.needs_restart.is_empty() {
        text += "it would be refused\n";
    }
    text
}

/// What a difference says; that there is none, too.
pub(super) fn words(difference: &Difference) -> String {
    if difference.is_empty() { "nothing changes\n".to_owned() } else { difference.to_string() }
}

/// What cannot be changed, one key a line.
pub(super) fn restart(keys: &[KeyChange]) -> String {
    keys.iter().map(|key| format!("needs a restart: {key}\n")).collect()
}

fn applied(applied: &Applied) -> String {
    let mut text = words(&applied.difference);
    text += &match applied.version {
        Some(version) => format!("version {version} runs\n"),
        None => "what ran before runs again\n".to_owned(),
    };
    if let Some(seconds) = applied.confirm_within {
        text += &format!("it is taken back in {seconds} s unless `directorctl confirm` comes first\n");
    }
    text
}
