//! What was found out, in the protocol's words.

use std::net::{IpAddr, SocketAddr};

use control::model::{ForwardingMethod, Weight};
use control::protocol::{CandidateStatus, ConnectionStatus, Explanation, ExplanationStep, TemplateStatus};

use super::faults::Findings;
use super::steps::{
    arrival, connection_found, forwarding, hop_found, ownership, service_found, template_found,
};
use super::way::{leaving, next_hop};
use super::{Question, View, alive};
use crate::connection::{Direction, protocol_of};
use crate::pipeline::rehearsal::Rehearsed;
use crate::pipeline::{Action, AnyConnection, Impression, Verdict};
use crate::scheduler::{Load, Request};
use crate::service::{RealServer, Snapshot, VirtualService};
use crate::stats::Reason;

pub(super) fn explanation(
    question: &Question,
    impression: &Impression,
    rehearsed: &Rehearsed,
    view: &View<'_>,
) -> Explanation {
    let snapshot = view.shared.snapshot;
    // What the kernel sends and nobody wants leaves as it is.
    let own = Verdict { reason: Reason::KernelsOwn, action: Action::Forward(question.port) };
    let verdict = rehearsed.verdict.unwrap_or(own);
    // One that gives way to the packet's own is none.
    let known = alive(impression).filter(|_| !rehearsed.opens && rehearsed.connection.is_some());
    let server_id = rehearsed.server.or_else(|| known.map(|(connection, _)| connection.server()));
    let server = server_id.and_then(|id| snapshot.server(id));
    let of_known = known.and_then(|_| snapshot.service(server?.service));
    let service = of_known.or_else(|| snapshot.service(rehearsed.service?));
    let joined = rehearsed.template.filter(|(_, may_lead)| *may_lead).is_some();
    // A known connection asks no scheduler, and what opens none neither.
    let is_asked = known.is_none()
        && service.is_some()
        && !matches!(
            verdict.reason,
            Reason::NoService | Reason::NoConnection | Reason::DropPacket | Reason::NoCallId
        );
    let candidates = match service.filter(|_| is_asked) {
        Some(service) => candidates(service, server_id.filter(|_| rehearsed.opens), view),
        None => Vec::new(),
    };
    let method = match known {
        Some((connection, _)) => Some(connection.method()).filter(|_| server.is_some()),
        None => server.map(|server| server.method),
    };
    let toward = toward(question, known, server, verdict);
    let findings =
        Findings { question, impression, rehearsed, view, known, service, candidates: &candidates, toward };
    let missing = findings.missing(verdict);
    let leaves = leaving(rehearsed, verdict);
    let next_hop = next_hop(snapshot, rehearsed, verdict, server.filter(|_| is_to_server(verdict)), toward);
    let mut steps = Vec::new();
    let mut step = |step: &str, finding: String| {
        steps.push(ExplanationStep { step: step.to_owned(), finding });
    };
    step("port", arrival(question, snapshot));
    step("owner", ownership(question, impression));
    step("connection", connection_found(impression, known.is_some()));
    if let Some(service) = service {
        step("service", service_found(question, rehearsed, service, known.is_some()));
    } else if known.is_none() {
        step("service", "none: neither a mark nor the destination is a virtual service's".to_owned());
    }
    if is_asked && let Some(persistence) = service.and_then(|service| service.model.persistence) {
        step("template", template_found(rehearsed, impression, persistence.granularity));
    }
    if is_asked
        && !joined
        && let Some(service) = service
        && let Some(scheduler) = impression.scheduler()
    {
        let request = Request {
            source: question.ends.source.ip(),
            source_port: question.ends.source.port(),
            destination: question.ends.destination.ip(),
        };
        let chosen = candidates.iter().find(|candidate| candidate.chosen);
        let chosen =
            chosen.map_or("nobody is chosen".to_owned(), |chosen| format!("{} is chosen", chosen.address));
        let account = scheduler.account(&service.candidates, request);
        step("scheduler", format!("{}: {account}; {chosen}", service.model.scheduler.word()));
    }
    if let (Some(method), Some(leaves)) = (method.filter(|_| is_rewritten(verdict)), &leaves) {
        step("forward", forwarding(question, method, leaves, snapshot, server));
    }
    if let Some(hop) = &next_hop {
        step("next-hop", hop_found(hop));
    }
    Explanation {
        packet: question.sketch.clone(),
        assumed: question.assumed.iter().map(|name| (*name).to_owned()).collect(),
        lcore: impression.lcore.0,
        steps,
        mark: rehearsed.mark.filter(|_| known.is_none()),
        service: service.map(|service| service.model.key),
        connection: alive(impression).map(|(connection, _)| status(&connection, impression, snapshot)),
        template: rehearsed.template.filter(|_| is_asked).zip(service).map(|((template, _), service)| {
            TemplateStatus {
                service: service.model.key,
                client: template.key.client,
                server: template.address,
                assured: template.assured,
                connections: template.controlled(),
                expires_in_ms: template.expires_in(impression.now).into(),
            }
        }),
        candidates,
        server: server.map(|server| SocketAddr::new(server.address, server.port)),
        method,
        tunnel: server
            .filter(|_| method == Some(ForwardingMethod::Tunnel))
            .map(|server| snapshot.tunnel(server).tunnel),
        leaves,
        next_hop,
        action: action(verdict.action).to_owned(),
        reason: verdict.reason.name().to_owned(),
        meaning: verdict.reason.explanation().to_owned(),
        missing,
    }
}

fn action(action: Action) -> &'static str {
    match action {
        Action::Forward(_) => "forward",
        Action::Cut(_) => "cut",
        Action::Hold(_) => "hold",
        Action::Gather(_) | Action::HandOver(_) => "hand-over",
        Action::Punt => "punt",
        Action::Drop => "drop",
    }
}

/// Whether it goes toward the real server.
fn is_to_server(verdict: Verdict) -> bool {
    matches!(
        verdict.reason,
        Reason::RequestNat
            | Reason::RequestDr
            | Reason::RequestTunnel
            | Reason::LocalServer
            | Reason::NoRoute
    )
}

/// Whether what leaves is the packet itself.
fn is_rewritten(verdict: Verdict) -> bool {
    matches!(
        verdict.reason,
        Reason::RequestNat
            | Reason::RequestDr
            | Reason::RequestTunnel
            | Reason::ReplyNat
            | Reason::LocalServer
    )
}

/// Where it goes, or would.
fn toward(
    question: &Question,
    known: Option<(AnyConnection, Direction)>,
    server: Option<&RealServer>,
    verdict: Verdict,
) -> Option<IpAddr> {
    match verdict.reason {
        Reason::IcmpPortUnreachable | Reason::IcmpTimeExceeded | Reason::IcmpTooBig => {
            Some(question.ends.source.ip())
        }
        Reason::ReplyNat => Some(question.ends.destination.ip()),
        Reason::RequestBypass => Some(question.ends.destination.ip()),
        _ => match known {
            Some((_, Direction::Reply)) => Some(question.ends.destination.ip()),
            _ => server.map(|server| server.address).or(Some(question.ends.destination.ip())),
        },
    }
}

fn candidates(
    service: &VirtualService,
    chosen: Option<crate::service::ServerId>,
    view: &View<'_>,
) -> Vec<CandidateStatus> {
    let fleet = view.shared.fleet;
    let row = |candidate: &crate::scheduler::Candidate| {
        let (active, inactive) = fleet.connections(candidate.server);
        CandidateStatus {
            address: candidate.address,
            weight: Weight(candidate.weight),
            active,
            inactive,
            thresholds: candidate.thresholds,
            overloaded: candidate.thresholds.any() && fleet.is_overloaded(candidate.server),
            health: (view.standing)(service.model.key, candidate.address),
            available: candidate.is_available(fleet),
            chosen: chosen == Some(candidate.server),
        }
    };
    service.candidates.iter().map(row).collect()
}

fn status(connection: &AnyConnection, impression: &Impression, snapshot: &Snapshot) -> ConnectionStatus {
    let server = connection.server_address();
    let elsewhere = snapshot.server(connection.server()).map(|server| server.address);
    let ip = if server.ip().is_unspecified() { elsewhere.unwrap_or(server.ip()) } else { server.ip() };
    ConnectionStatus {
        protocol: protocol_of(impression.ends.protocol),
        client: connection.client(),
        virtual_address: connection.virtual_address(),
        server: SocketAddr::new(ip, server.port()),
        method: connection.method(),
        state: connection.state().name().into(),
        expires_in_ms: connection.expires_in(impression.now).into(),
        lcore: impression.lcore.0,
    }
}
