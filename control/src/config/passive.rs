//! `[service.passive]`: when silence counts as a failure.

use super::errors::Complaints;
use super::number::{self, within};
use super::raw::RawService;
use super::raw_check::RawPassive;
use crate::health::Passive;
use crate::model::{ForwardingMethod, Protocol, Service, ServiceKey};

/// Understands the table, if it is there, and complains of services and real servers whose answers nobody sees.
pub(super) fn passive(
    raw: &RawService,
    service: &Service,
    complaints: &mut Complaints<'_>,
) -> Option<Passive> {
    let RawPassive { site, unanswered, window, hold } = raw.health.passive.as_ref()?;
    if let ServiceKey::Address { protocol: protocol @ (Protocol::Udp | Protocol::Sctp), .. } = service.key {
        complaints.add(
            site,
            format!(
                "whether connections are answered is known of TCP alone, and the service is by {protocol}"
            ),
            "remove it, and check its real servers by a [[service.check]]",
        );
    }
    for server in service.servers.iter().filter(|server| server.method != ForwardingMethod::Nat) {
        complaints.add(
            site,
            format!(
                "the director does not see what real server {} answers, which has forwarding method {}",
                server.address, server.method
            ),
            "give every real server of the service method = \"nat\", or remove it and use a [[service.check]]",
        );
    }
    let defaults = Passive::default();
    Some(Passive {
        unanswered: within(unanswered.as_ref(), number::TIMES, complaints).unwrap_or(defaults.unanswered),
        window: number::seconds(window.as_ref(), number::SIGNS, complaints).unwrap_or(defaults.window),
        hold: number::seconds(hold.as_ref(), number::SIGNS, complaints).unwrap_or(defaults.hold),
    })
}
