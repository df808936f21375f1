//! IPVS's schedulers by their definitions (Linux `ip_vs_rr.c` and its neighbours), each looking at every real server.

use std::net::{IpAddr, SocketAddr};

use control::model::{ForwardingMethod, Scheduler, SchedulerFlags, Thresholds};

/// A real server of a service.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its address and port.
    pub address: SocketAddr,
    /// How packets reach it.
    pub method: ForwardingMethod,
    /// Its weight.
    pub weight: u64,
    /// Its thresholds.
    pub thresholds: Thresholds,
    /// It has reached the upper threshold.
    pub overloaded: bool,
    /// Active and inactive connections.
    pub load: (u64, u64),
}

impl Server {
    fn available(&self) -> bool {
        self.weight > 0 && !self.overloaded
    }

    /// Looks at the thresholds after the number of connections has changed.
    pub fn judge(&mut self) {
        let Thresholds { upper, lower } = self.thresholds;
        let (total, upper, lower) = (self.load.0 + self.load.1, u64::from(upper), u64::from(lower));
        if upper == 0 {
            self.overloaded = false;
        } else if total >= upper {
            self.overloaded = true;
        } else if lower != 0 && total < lower || lower == 0 && total * 4 < upper * 3 {
            self.overloaded = false;
        }
    }

    /// Overhead as IPVS weighs connections.
    fn overhead(&self) -> u64 {
        self.load.0 * 257 + self.load.1
    }
}

/// What round robin and weighted round robin remember.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The real server used last; nothing at the head of the list.
    pub last: Option<SocketAddr>,
    /// Current weight of weighted round robin.
    pub current: u64,
}

/// Chooses in `list`, which has the real server added last first.
pub fn choose(
    scheduler: Scheduler,
    flags: SchedulerFlags,
    list: &[Server],
    memory: &mut Memory,
    client: SocketAddr,
    vip: IpAddr,
) -> Option<usize> {
    match scheduler {
        Scheduler::Rr => round_robin(list, memory),
        Scheduler::Wrr => weighted_round_robin(list, memory),
        Scheduler::Lc => least(list, |s| (s.overhead(), 1)),
        Scheduler::Wlc => least(list, |s| (s.overhead(), s.weight)),
        Scheduler::Sed => least(list, |s| (s.load.0 + 1, s.weight)),
        Scheduler::Nq => list
            .iter()
            .position(|s| s.available() && s.load.0 == 0)
            .or_else(|| least(list, |s| (s.load.0 + 1, s.weight))),
        Scheduler::Fo => greatest(list, |_| true),
        Scheduler::Ovf => greatest(list, |s| s.load.0 <= s.weight),
        Scheduler::Sh => source_hashing(list, flags, client),
        Scheduler::Dh => {
            let at = slot(fold(vip), 0) % list.len().max(1);
            list.get(at).filter(|s| s.available()).map(|_| at)
        }
        Scheduler::Mh | Scheduler::Lblc | Scheduler::Lblcr | Scheduler::Twos => {
            unreachable!("the walks do not ask for {scheduler:?}")
        }
    }
}

fn round_robin(list: &[Server], memory: &mut Memory) -> Option<usize> {
    let after =
        memory.last.and_then(|last| list.iter().position(|s| s.address == last)).map_or(0, |at| at + 1);
    let at = (after..list.len()).chain(0..after).find(|&at| list[at].available())?;
    memory.last = Some(list[at].address);
    Some(at)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The greatest common divisor of the weights, and what a pass starts with.
fn passes(list: &[Server]) -> (u64, u64) {
    let divisor = list.iter().map(|s| s.weight).fold(0, gcd).max(1);
    let most = list.iter().map(|s| s.weight).max().unwrap_or(0);
    (divisor, if most == 0 { 0 } else { most - (divisor - 1) })
}

/// What weighted round robin remembers after its real servers were changed.
pub fn changed(list: &[Server], memory: &mut Memory) {
    let (divisor, top) = passes(list);
    memory.last = None;
    if memory.current > top || memory.current == 0 {
        memory.current = top;
    } else if divisor > 1 {
        memory.current = memory.current / divisor * divisor + 1;
    }
}

fn weighted_round_robin(list: &[Server], memory: &mut Memory) -> Option<usize> {
    let (divisor, top) = passes(list);
    if top == 0 {
        return None;
    }
    let mut at =
        memory.last.and_then(|last| list.iter().position(|s| s.address == last)).map_or(0, |at| at + 1);
    let mut current = memory.current;
    // Every pass there can be, and the first one again.
    for _ in 0..=top / divisor + 2 {
        if let Some(found) = (at..list.len()).find(|&i| list[i].weight >= current && list[i].available()) {
            *memory = Memory { last: Some(list[found].address), current };
            return Some(found);
        }
        at = 0;
        current = if current > divisor { current - divisor } else { top };
    }
    None
}

/// The first of those whose score divided by its weight is least.
fn least(list: &[Server], score: impl Fn(&Server) -> (u64, u64)) -> Option<usize> {
    let mut best: Option<usize> = None;
    for at in (0..list.len()).filter(|&at| list[at].available()) {
        let better = best.is_none_or(|best| {
            let ((least, weight), (here, ours)) = (score(&list[best]), score(&list[at]));
            u128::from(least) * u128::from(ours) > u128::from(here) * u128::from(weight)
        });
        if better {
            best = Some(at);
        }
    }
    best
}

/// The first of the greatest weight among those that will do.
fn greatest(list: &[Server], will_do: impl Fn(&Server) -> bool) -> Option<usize> {
    let mut best: Option<usize> = None;
    for at in (0..list.len()).filter(|&at| list[at].available() && will_do(&list[at])) {
        if best.is_none_or(|best| list[at].weight > list[best].weight) {
            best = Some(at);
        }
    }
    best
}

fn fold(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(v4) => u32::from_be_bytes(v4.octets()),
        IpAddr::V6(v6) => v6
            .octets()
            .chunks(4)
            .fold(0, |sum, word| sum ^ u32::from_be_bytes([word[0], word[1], word[2], word[3]])),
    }
}

/// `hash_32` to eight bits, with an offset before.
fn slot(word: u32, offset: u32) -> usize {
    ((offset.wrapping_add(word).wrapping_mul(0x61c8_8647)) >> 24) as usize
}

fn source_hashing(list: &[Server], flags: SchedulerFlags, client: SocketAddr) -> Option<usize> {
    if list.is_empty() {
        return None;
    }
    let laps =
        (0..list.len()).cycle().flat_map(|at| std::iter::repeat_n(at, list[at].weight.max(1) as usize));
    let table: Vec<usize> = laps.take(256).collect();
    let port = if flags.port { u32::from(client.port()) } else { 0 };
    // `ip_vs_sh_hashkey`: the offset and the hash of address and port, within the table.
    let hash = |offset: usize| (offset + slot(fold(client.ip()), port)) % 256;
    let first = hash(0);
    if list[table[first]].available() {
        return Some(table[first]);
    }
    if !flags.fallback {
        return None;
    }
    (0..256).map(|offset| table[hash((offset + first) % 256)]).find(|&at| list[at].available())
}
