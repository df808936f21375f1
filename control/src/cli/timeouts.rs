//! `directorctl timeouts`: when connections time out.

use clap::Args;

use super::output::{Side, Table};
use super::session::{Failure, Session};
use crate::model::Timeouts;
use crate::protocol::{Request, TimeoutsInForce};

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Options {
    /// An established TCP connection without packets
    #[arg(long, value_name = "SECONDS", value_parser = seconds())]
    tcp: Option<u32>,

    /// A TCP connection after the first FIN
    #[arg(long, value_name = "SECONDS", value_parser = seconds())]
    tcp_fin: Option<u32>,

    /// A UDP connection without packets
    #[arg(long, value_name = "SECONDS", value_parser = seconds())]
    udp: Option<u32>,
}

fn seconds() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(Timeouts::MAX_SECONDS))
}

pub(super) fn run(options: Options, session: &mut Session) -> Result<(), Failure> {
    match options {
        Options { tcp: None, tcp_fin: None, udp: None } => {
            session.show(&Request::Timeouts {}, text).map(|_| ())
        }
        Options { tcp, tcp_fin, udp } => session.change(&Request::TimeoutsSet { tcp, tcp_fin, udp }),
    }
}

fn text(timeouts: &TimeoutsInForce) -> String {
    let mut table = Table::new(&[("Timeout", Side::Left), ("Seconds", Side::Right)]);
    for (name, seconds) in [("tcp", timeouts.tcp), ("tcp_fin", timeouts.tcp_fin), ("udp", timeouts.udp)] {
        table.row([name.to_owned(), seconds.to_string()]);
    }
    table.take()
}
