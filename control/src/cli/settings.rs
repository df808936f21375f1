//! `directorctl settings`: what is set of the whole director.

use clap::Subcommand;

use super::output::{Side, Table};
use super::session::{Failure, Session};
use super::values;
use crate::model::SettingValue;
use crate::protocol::{Request, SettingsList};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Change settings, all of them or none
    #[command(after_help = "\
Examples:
  directorctl settings set sloppy_tcp=true
  directorctl settings set drop_entry=1 drop_packet=1 expire_nodest_conn=on

Flags are true or false, on or off, 1 or 0.")]
    Set {
        /// Settings with their new values
        #[arg(value_name = "NAME=VALUE", required = true, value_parser = values::setting)]
        settings: Vec<(String, SettingValue)>,
    },
}

pub(super) fn run(command: Option<Command>, session: &mut Session) -> Result<(), Failure> {
    match command {
        None => session.show(&Request::Settings {}, text).map(|_| ()),
        Some(Command::Set { settings }) => {
            session.change(&Request::SettingsSet { settings: settings.into_iter().collect() })
        }
    }
}

fn text(list: &SettingsList) -> String {
    let mut table = Table::new(&[("Setting", Side::Left), ("Value", Side::Right)]);
    for (name, value) in &list.settings {
        table.row([name.clone(), value.to_string()]);
    }
    table.take()
}
