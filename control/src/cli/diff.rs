//! `directorctl diff`: what was changed by hand, or what a file would change.

use std::path::PathBuf;

use clap::Args;

use super::session::{Failure, Session};
use super::{apply, config_file};
use crate::protocol::{ConfigDiff, Request};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// A configuration to compare with what runs; - for standard input. Without, what runs is compared with the
    /// configuration that was applied last
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) fn run(options: &Options, session: &mut Session) -> Result<(), Failure> {
    let (text, source) = match &options.file {
        None => (None, None),
        Some(file) => {
            let (text, source) = config_file::read(file)?;
            (Some(text), Some(source))
        }
    };
    let diff: ConfigDiff = session.show(&Request::ConfigDiff { text, source }, |diff: &ConfigDiff| {
        diff.difference.to_string() + &apply::restart(&diff.needs_restart)
    })?;
    let is_same = diff.difference.is_empty() && diff.needs_restart.is_empty();
    if is_same { Ok(()) } else { Err(Failure::Status(1)) }
}
