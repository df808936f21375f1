//! `directorctl connection`: connections.

use std::net::{IpAddr, SocketAddr};

use clap::{Args, Subcommand};

use super::names;
use super::output::{self, Side, Table};
use super::session::{Failure, Session};
use super::values::{self, ProtocolArg};
use crate::model::ServiceKey;
use crate::protocol::{ConnectionFilter, ConnectionList, ConnectionStatus, DEFAULT_PAGE, Request};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List connections, in no promised order
    #[command(after_help = "\
Examples:
  directorctl connection list --limit 20
  directorctl connection list --service tcp,10.99.0.1:80 --state established
  directorctl connection list --server 10.0.2.11:8080 --client 192.0.2.7
  directorctl --json connection list | jq -r '.connections[].client'

With --json every page of the list is one line.")]
    List(List),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only this transport protocol
    #[arg(long)]
    protocol: Option<ProtocolArg>,

    /// Only of this virtual service: tcp,10.99.0.1:80 or mark,1
    #[arg(long, value_name = "PROTOCOL,VIRTUAL", value_parser = values::service)]
    service: Option<ServiceKey>,

    /// Only to this real server: 10.0.2.11:8080
    #[arg(long, value_name = "SERVER", value_parser = values::address_with_port)]
    server: Option<SocketAddr>,

    /// Only of this client, whatever its port: 192.0.2.7
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,

    /// Only in this state, as the list names it
    #[arg(long)]
    state: Option<String>,

    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

pub(super) fn run(command: Command, session: &mut Session) -> Result<(), Failure> {
    let Command::List(list) = command;
    let filter = ConnectionFilter {
        protocol: list.protocol.map(Into::into),
        service: list.service,
        server: list.server,
        client: list.client,
        state: list.state,
    };
    let mut table = Table::new(&[
        ("Prot", Side::Left),
        ("Expire", Side::Right),
        ("State", Side::Left),
        ("Source", Side::Left),
        ("Virtual", Side::Left),
        ("Destination", Side::Left),
        ("Forward", Side::Left),
        ("Lcore", Side::Right),
    ]);
    let mut cursor = None;
    let mut left = list.limit.unwrap_or(u64::MAX);
    loop {
        let limit = u32::try_from(left).unwrap_or(u32::MAX).min(DEFAULT_PAGE);
        let request = Request::ConnectionList { filter: filter.clone(), cursor, limit: Some(limit) };
        let page = session.show(&request, |page: &ConnectionList| {
            page.connections.iter().for_each(|connection| table.row(row(connection)));
            table.take()
        })?;
        left = left.saturating_sub(page.connections.len() as u64);
        if page.next.is_none() || left == 0 {
            return Ok(());
        }
        cursor = page.next;
    }
}

fn row(connection: &ConnectionStatus) -> [String; 8] {
    [
        names::protocol(connection.protocol).to_owned(),
        output::clock(connection.expires_in_ms),
        connection.state.clone(),
        connection.client.to_string(),
        connection.virtual_address.to_string(),
        connection.server.to_string(),
        names::method(connection.method).to_owned(),
        connection.lcore.to_string(),
    ]
}
