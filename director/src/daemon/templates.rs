//! Persistence templates in the protocol's words.

use std::time::Instant;

use control::model::{Family, Mark, ServiceKey};
use control::protocol::{
    DEFAULT_PAGE, MAX_PAGE, Refusal, Reply, TemplateFilter, TemplateList, TemplateStatus,
};

use super::controller::Controller;
use super::listing::PAGE_TIME;
use crate::connection::protocol_of;
use crate::persistence::{Template, TemplateKey};
use crate::service::Snapshot;

/// Slots that are looked at while their lock is held: some microseconds, for which an lcore may have to wait.
const SLOTS_AT_ONCE: u32 = 256;
/// The port by whose services FTP's templates go, for all ports.
const FTP: u16 = 21;

/// A page of templates.
pub(super) async fn list(
    controller: &Controller,
    filter: &TemplateFilter,
    cursor: Option<&str>,
    limit: Option<u32>,
) -> Result<Reply, Refusal> {
    let mut cursor = match cursor {
        None => 0,
        Some(text) => text.parse().map_err(|_| {
            let remedy = "pass on `next` of the reply before, as it is";
            Refusal::new("bad-cursor", format!("{text:?} is no cursor"), remedy)
        })?,
    };
    let snapshot = controller.state().snapshot();
    let now = controller.now();
    let room = limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE) as usize;
    let begun = Instant::now();
    // With room for all of them, nothing is allocated while a lock is held.
    let mut templates = Vec::with_capacity(room);
    loop {
        let next = controller.templates.walk(cursor, SLOTS_AT_ONCE, now, |template| {
            let status = status(template, &snapshot, now);
            if !matches(filter, &status) {
                return true;
            }
            let fits = templates.len() < room;
            if fits {
                templates.push(status);
            }
            fits
        });
        let Some(next) = next else { return Ok(Reply::TemplateList(TemplateList { templates, next: None })) };
        cursor = next;
        if templates.len() >= room || begun.elapsed() >= PAGE_TIME {
            return Ok(Reply::TemplateList(TemplateList { templates, next: Some(next.to_string()) }));
        }
        // Others have a turn on this thread: a filter that fits little may have to look at very many slots.
        tokio::task::yield_now().await;
    }
}

fn matches(filter: &TemplateFilter, status: &TemplateStatus) -> bool {
    filter.service.is_none_or(|service| service == status.service)
        && filter.server.is_none_or(|server| server == status.server)
        && filter.client.is_none_or(|client| client == status.client)
}

fn status(template: &Template, snapshot: &Snapshot, now: crate::time::Tick) -> TemplateStatus {
    TemplateStatus {
        service: service_of(template, snapshot),
        client: template.key.client,
        server: template.address,
        assured: template.assured,
        connections: template.controlled(),
        expires_in_ms: template.expires_in(now).into(),
    }
}

/// The service that it was made for. The key of FTP's says every port; the real server then tells the service, if its
/// number is still its own.
fn service_of(template: &Template, snapshot: &Snapshot) -> ServiceKey {
    let by_name = named(&template.key);
    let server = snapshot.server(template.server);
    let known = server.and_then(|server| snapshot.service(server.service)).map(|service| service.model.key);
    match (by_name, known) {
        (
            ServiceKey::Address { protocol, address },
            Some(known @ ServiceKey::Address { protocol: known_protocol, address: known_address }),
        ) if address.port() == 0
            && known_address.port() == FTP
            && (protocol, address.ip()) == (known_protocol, known_address.ip()) =>
        {
            known
        }
        _ => by_name,
    }
}

/// What a template's name says.
fn named(key: &TemplateKey) -> ServiceKey {
    let (mark, family) = match key.virtual_address {
        std::net::IpAddr::V4(ip) => (ip.to_bits(), Family::Ipv4),
        std::net::IpAddr::V6(ip) => (ip.to_bits() as u32, Family::Ipv6),
    };
    match std::num::NonZeroU32::new(mark) {
        Some(mark) if key.protocol == 0 => ServiceKey::Mark { mark: Mark(mark), family },
        _ => ServiceKey::Address {
            protocol: protocol_of(key.protocol),
            address: (key.virtual_address, key.virtual_port).into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: &str, port: u16, protocol: u8) -> TemplateKey {
        let client = "192.0.2.0".parse().unwrap();
        TemplateKey { client, virtual_address: address.parse().unwrap(), virtual_port: port, protocol }
    }

    #[test]
    fn a_name_tells_the_service() {
        for (key, service) in [
            (key("10.99.0.1", 80, 6), "tcp 10.99.0.1:80"),
            (key("2001:db8::1", 53, 17), "udp [2001:db8::1]:53"),
            (key("10.99.0.1", 0, 6), "tcp 10.99.0.1:0"),
            (key("0.0.0.7", 0, 0), "mark 7"),
            (key("::7", 0, 0), "mark 7/ipv6"),
        ] {
            assert_eq!(named(&key).to_string(), service);
        }
    }
}
