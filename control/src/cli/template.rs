//! `directorctl template`: persistence templates.

use std::net::{IpAddr, SocketAddr};

use clap::{Args, Subcommand};

use super::names;
use super::output::{self, Side, Table};
use super::session::{Failure, Session};
use super::values;
use crate::model::ServiceKey;
use crate::protocol::{DEFAULT_PAGE, Request, TemplateFilter, TemplateList, TemplateStatus};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List templates, in no promised order
    #[command(after_help = "\
Examples:
  directorctl template list
  directorctl template list --service tcp,10.99.0.1:443 --server 10.0.2.11:443
  directorctl --json template list --limit 20

Source is the client or, by the granularity of its service, the client's network. With --json every page of the list is one line.")]
    List(List),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only of this virtual service: tcp,10.99.0.1:443 or mark,1
    #[arg(long, value_name = "PROTOCOL,VIRTUAL", value_parser = values::service)]
    service: Option<ServiceKey>,

    /// Only to this real server: 10.0.2.11:443
    #[arg(long, value_name = "SERVER", value_parser = values::address_with_port)]
    server: Option<SocketAddr>,

    /// Only of this source: 192.0.2.0
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,

    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

pub(super) fn run(command: Command, session: &mut Session) -> Result<(), Failure> {
    let Command::List(list) = command;
    let filter = TemplateFilter { service: list.service, server: list.server, client: list.client };
    let mut table = Table::new(&[
        ("Prot", Side::Left),
        ("Expire", Side::Right),
        ("State", Side::Left),
        ("Source", Side::Left),
        ("Virtual", Side::Left),
        ("Destination", Side::Left),
        ("Connections", Side::Right),
    ]);
    let mut cursor = None;
    let mut left = list.limit.unwrap_or(u64::MAX);
    loop {
        let limit = u32::try_from(left).unwrap_or(u32::MAX).min(DEFAULT_PAGE);
        let request = Request::TemplateList { filter: filter.clone(), cursor, limit: Some(limit) };
        let page = session.show(&request, |page: &TemplateList| {
            page.templates.iter().for_each(|template| table.row(row(template)));
            table.take()
        })?;
        left = left.saturating_sub(page.templates.len() as u64);
        if page.next.is_none() || left == 0 {
            return Ok(());
        }
        cursor = page.next;
    }
}

fn row(template: &TemplateStatus) -> [String; 7] {
    [
        names::kind(template.service).to_owned(),
        output::clock(template.expires_in_ms),
        if template.assured { "ASSURED" } else { "NONE" }.to_owned(),
        template.client.to_string(),
        names::service(template.service),
        template.server.to_string(),
        template.connections.to_string(),
    ]
}
