//! The demo's requests: all four services at once.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use control::model::{Protocol, Scheduler};

use super::screen::Screen;
use super::services::{Balanced, CLIENT_ADDRESSES, SERVICES, Seen};
use crate::error::Result;
use crate::lab::{Lab, plan};
use crate::traffic::{curl, udp};

/// Requests to each service in a stable phase (to the hashed one as many from each address as come near
/// to that). A whole number of cycles of the weighted scheduler: 6.
pub(super) const STABLE: u32 = 1500;
/// Requests in one of the rounds that go on while the services are changed.
const ROUND: u32 = 30;

/// How many requests [`stable`] sends.
pub(super) fn planned() -> u64 {
    SERVICES.iter().map(|balanced| planned_for(balanced, STABLE)).sum()
}

fn planned_for(balanced: &Balanced, requests: u32) -> u64 {
    match balanced.scheduler {
        Scheduler::Mh | Scheduler::Sh => u64::from(per_address(requests)) * u64::from(CLIENT_ADDRESSES),
        _ => u64::from(requests),
    }
}

/// At least two, because one request cannot show that a client address stays with its real server.
fn per_address(requests: u32) -> u32 {
    (requests / u32::from(CLIENT_ADDRESSES)).max(2)
}

/// Asks every service so and so often, all at once; returns who answered, in the order of [`SERVICES`].
pub(super) fn stable(lab: &Lab, screen: &Screen) -> Result<Vec<Seen>> {
    for_each_service(|balanced| ask(lab, balanced, STABLE, screen))
}

/// Asks every service again and again until `stop` is set.
pub(super) fn until(stop: &AtomicBool, lab: &Lab, screen: &Screen) -> Result<Vec<Seen>> {
    for_each_service(|balanced| {
        let mut seen = Seen::default();
        while !stop.load(Ordering::Acquire) {
            screen.plan_more(planned_for(balanced, ROUND));
            seen.add(ask(lab, balanced, ROUND, screen)?);
        }
        Ok(seen)
    })
}

fn for_each_service(work: impl Fn(&Balanced) -> Result<Seen> + Sync) -> Result<Vec<Seen>> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = SERVICES.iter().map(|balanced| scope.spawn(move || work(balanced))).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<Seen>>| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        threads.into_iter().map(join).collect()
    })
}

fn ask(lab: &Lab, balanced: &Balanced, requests: u32, screen: &Screen) -> Result<Seen> {
    match balanced.protocol {
        Protocol::Tcp => ask_web(lab, balanced, requests, screen),
        Protocol::Udp | Protocol::Sctp => ask_udp(lab, balanced, requests, screen),
    }
}

fn ask_web(lab: &Lab, balanced: &Balanced, requests: u32, screen: &Screen) -> Result<Seen> {
    let url = format!("http://{}/", balanced.address);
    let plan = match balanced.scheduler {
        Scheduler::Mh | Scheduler::Sh => {
            let sources: Vec<Ipv4Addr> = (0..CLIENT_ADDRESSES).map(plan::client_address).collect();
            curl::Plan::new(url, per_address(requests)).from(&sources)
        }
        _ => curl::Plan::new(url, requests),
    };
    let outcome = curl::ask(lab.client(), &plan.parallel(4), |answer| {
        screen.count(matches!(answer, curl::Answer::From { .. }));
    })?;
    Ok(Seen {
        counts: outcome.answers,
        by_client: outcome.by_client,
        failed: outcome.failed,
        failures: outcome.failures,
    })
}

fn ask_udp(lab: &Lab, balanced: &Balanced, requests: u32, screen: &Screen) -> Result<Seen> {
    let plan = udp::Plan { padding: 40, ..udp::Plan::new(SocketAddr::V4(balanced.address), requests) };
    let tell = |answer: &udp::Answer| {
        screen.count(matches!(answer, udp::Answer::From(..)));
        // A pause as between people; without it this service would be done long before the others.
        thread::sleep(Duration::from_millis(1));
    };
    let outcome = lab.client().enter(|| udp::ask(&plan, tell))??;
    let mut failures = outcome.wrong.clone();
    if outcome.timeouts > 0 {
        failures.push(format!("{} requests were not answered in time", outcome.timeouts));
    }
    Ok(Seen { failed: outcome.failed(), counts: outcome.answers, failures, ..Seen::default() })
}
