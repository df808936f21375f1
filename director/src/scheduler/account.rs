//! What a scheduler goes by at a choice, in words.

use std::net::SocketAddr;

use control::model;

use super::{Candidate, Request, Scheduler};

impl Scheduler {
    /// What this scheduler goes by when it is asked next.
    pub fn account(&self, candidates: &[Candidate], request: Request) -> String {
        let name = |at: usize| candidates.get(at).map(|candidate| candidate.address);
        let after = |last: Option<usize>| match last.and_then(name) {
            Some(address) => format!("goes on after {address}"),
            None => "begins at the first".to_owned(),
        };
        let slot = |slot: u32, slots: u32, at: Option<usize>| match at.and_then(name) {
            Some(address) => format!("slot {slot} of {slots}, which is {address}'s"),
            None => format!("slot {slot} of {slots}, which is nobody's"),
        };
        match self {
            Scheduler::Rr(rr) => after(rr.last()),
            Scheduler::Wrr(wrr) => {
                let (last, current) = wrr.last();
                format!("{} with weight {current} or more in this pass", after(last))
            }
            Scheduler::Least(kind, _) => match kind {
                model::Scheduler::Lc => "least overhead: active connections count 257, inactive ones 1",
                model::Scheduler::Sed => "least active connections and one more for the weight",
                model::Scheduler::Nq => "an idle one first, else least active connections and one more for the weight",
                _ => "least overhead for the weight: active connections count 257, inactive ones 1",
            }
            .to_owned(),
            Scheduler::Lblc(lblc) => remembered(request, lblc.holder(request).into_iter(), candidates),
            Scheduler::Lblcr(lblcr) => remembered(request, lblcr.holders(request).into_iter(), candidates),
            Scheduler::Dh(dh) => {
                let (at, whose) = dh.slot(request);
                format!("the destination's {}", slot(at, super::hash::SLOTS, whose))
            }
            Scheduler::Sh(sh) => {
                let (at, whose) = sh.slot(request);
                format!("the source's {}", slot(at, super::hash::SLOTS, whose))
            }
            Scheduler::Mh(mh) => {
                let (at, slots, whose) = mh.slot(request);
                format!("the source's {}", slot(at, slots, whose))
            }
            Scheduler::Fo(_) => "the greatest weight that is available".to_owned(),
            Scheduler::Ovf(_) => {
                "the greatest weight with no more active connections than its weight".to_owned()
            }
            Scheduler::Twos(_) => {
                "two are drawn at random by weight, and the less loaded is taken: this is the draw that comes next on \
                 this lcore, unless another connection comes first"
                    .to_owned()
            }
        }
    }
}

fn remembered(
    request: Request,
    holders: impl Iterator<Item = super::ServerId>,
    candidates: &[Candidate],
) -> String {
    let address = |server| candidates.iter().find(|candidate| candidate.server == server).map(|c| c.address);
    let known: Vec<String> =
        holders.filter_map(address).map(|address: SocketAddr| address.to_string()).collect();
    match &known[..] {
        [] => format!("nothing is remembered of {}: least overhead for the weight", request.destination),
        known => format!("{} had {}, which stays unless overloaded", request.destination, known.join(", ")),
    }
}
