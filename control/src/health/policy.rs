//! What the configuration says about the health of one virtual service.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Check, Passive};
use crate::model::{RealServer, Scheduler, Service};

/// What becomes of a real server whose checks fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// It gets no new connections, as if its weight were 0; those that it has live on (keepalived's
    /// `inhibit_on_failure`).
    #[default]
    Inhibit,
    /// It is taken out, as if it were deleted.
    Remove,
}

impl OnFailure {
    pub(crate) const ALL: &'static [OnFailure] = &[OnFailure::Inhibit, OnFailure::Remove];

    /// As configuration spells it.
    pub fn word(self) -> &'static str {
        match self {
            OnFailure::Inhibit => "inhibit",
            OnFailure::Remove => "remove",
        }
    }
}

/// The checks of a virtual service's real servers, and what follows from them.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Checks of each real server that has none of its own. All of them must pass.
    pub checks: Vec<Arc<Check>>,
    /// Real servers that have checks of their own instead, or none.
    pub own: BTreeMap<SocketAddr, Vec<Arc<Check>>>,
    /// When real servers count as failing for what they do not answer.
    pub passive: Option<Passive>,
    /// What becomes of a real server that fails.
    pub on_failure: OnFailure,
    /// How long the weight of a real server that comes back takes to its full height; zero: it has it at once.
    pub slow_start: Duration,
    /// The service counts as up while the weights of healthy real servers sum up to this.
    pub quorum: u32,
    /// The quorum is lost below `quorum - hysteresis`, and regained from `quorum + hysteresis` on.
    pub hysteresis: u32,
    /// Who serves while the quorum is lost.
    pub sorry_server: Option<RealServer>,
    /// How many of a hundred real servers checks may take out at most.
    pub max_out: u8,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            checks: Vec::new(),
            own: BTreeMap::new(),
            passive: None,
            on_failure: OnFailure::default(),
            slow_start: Duration::ZERO,
            quorum: 1,
            hysteresis: 0,
            sorry_server: None,
            max_out: 100,
        }
    }
}

impl Policy {
    /// What is checked and what follows, one thing a line, for `director check`.
    pub(crate) fn lines(&self, service: &Service) -> Vec<String> {
        let line = |check: &Arc<Check>| {
            format!(
                "  check {check} every {} s for at most {} s, rise {}, fall {}",
                check.interval.as_secs_f64(),
                check.timeout.as_secs_f64(),
                check.rise,
                check.fall
            )
        };
        let mut lines: Vec<String> = self.checks.iter().map(line).collect();
        for (server, checks) in &self.own {
            let own = checks.iter().map(|check| format!("{} of {server} alone", line(check)));
            lines.extend(own);
            if checks.is_empty() {
                lines.push(format!("  {server} is not checked"));
            }
        }
        if let Some(passive) = &self.passive {
            lines.push(format!("  {passive}, hold {} s", passive.hold.as_secs_f64()));
        }
        let mut follows = format!("  on failure {}", self.on_failure.word());
        if self.slow_start > Duration::ZERO {
            follows += &format!(", slow start {} s", self.slow_start.as_secs_f64());
        }
        if (self.quorum, self.hysteresis) != (1, 0) {
            follows += &format!(", quorum {} hysteresis {}", self.quorum, self.hysteresis);
        }
        if self.max_out < 100 {
            follows += &format!(", at most {} % out", self.max_out);
        }
        if let Some(sorry) = self.sorry_server {
            follows += &format!(", sorry server {} {}", sorry.address, sorry.method);
        }
        lines.push(follows);
        let hashes = matches!(service.scheduler, Scheduler::Sh | Scheduler::Mh | Scheduler::Dh);
        if hashes && !service.flags.fallback && self.on_failure == OnFailure::Inhibit {
            lines.push(format!(
                "  scheduler {} refuses the clients of a real server without weight: add {}on_failure = \"remove\"",
                service.scheduler,
                if service.scheduler == Scheduler::Dh { "" } else { "fallback = true or " }
            ));
        }
        lines
    }

    /// The checks of a real server.
    pub fn checks_of(&self, server: SocketAddr) -> &[Arc<Check>] {
        self.own.get(&server).unwrap_or(&self.checks)
    }

    /// Whether, and when, a real server counts as failing for what it does not answer: not one that is not to be checked.
    pub fn passive_of(&self, server: SocketAddr) -> Option<&Passive> {
        self.passive.as_ref().filter(|_| self.own.get(&server).is_none_or(|checks| !checks.is_empty()))
    }
}
