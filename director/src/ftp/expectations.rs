//! Data connections that have been announced.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::DataConnections;
use crate::service::ServerId;
use crate::time::Tick;

/// Locks: enough that two lcores seldom want the same one.
const SHARDS: usize = 16;
/// How many a shard has room for.
const SHARD_CAPACITY: usize = 256;
/// How long one is waited for, in milliseconds: as long as IPVS leaves such a connection in state LISTEN.
const PATIENCE: u32 = 120_000;

/// The ends of a connection that is expected, as its first segment names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    /// Who opens it; port 0 where that is not known yet.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The client's end of the control connection that announced it.
    pub control: SocketAddr,
    /// The virtual end; `None` where the client opens the connection, to that end.
    pub virtual_end: Option<SocketAddr>,
    /// The real server's port; `None` where the real server opens the connection, from that port.
    pub server_port: Option<u16>,
    /// The real server.
    pub server: ServerId,
}

/// What is expected since when, by its name.
type Shard = HashMap<Name, (Expectation, Tick)>;

/// All data connections that have been announced; shared by all lcores, touched when one is announced and when a
/// connection that may be one is opened.
#[derive(Debug)]
pub struct Expectations {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    len: AtomicUsize,
    data: DataConnections,
}

impl Default for Expectations {
    fn default() -> Self {
        Expectations {
            // Twice, so that a map never asks for more memory.
            shards: (0..SHARDS).map(|_| Mutex::new(HashMap::with_capacity(2 * SHARD_CAPACITY))).collect(),
            hasher: RandomState::new(),
            len: AtomicUsize::new(0),
            data: DataConnections::default(),
        }
    }
}

impl Expectations {
    /// Expects a connection from now on, unless another one of that name is expected, or too many are: then false. The
    /// same may be announced again.
    pub fn announce(&self, name: Name, expectation: Expectation, now: Tick) -> bool {
        let is_over = |since: &Tick| now.since_anyones(*since) >= PATIENCE;
        self.with(&name, |shard| {
            if shard.len() >= SHARD_CAPACITY {
                shard.retain(|_, (_, since)| !is_over(since));
            }
            let may = match shard.get(&name) {
                Some((other, since)) => *other == expectation || is_over(since),
                None => shard.len() < SHARD_CAPACITY,
            };
            may.then(|| shard.insert(name, (expectation, now))).is_some()
        })
    }

    /// Takes the expectation of a connection from this end to that one: each serves one connection.
    pub fn take(&self, from: SocketAddr, to: SocketAddr, now: Tick) -> Option<Expectation> {
        Self::names(from, to).iter().find_map(|name| {
            let taken = self.with(name, |shard| shard.remove(name));
            taken
                .filter(|(_, since)| now.since_anyones(*since) < PATIENCE)
                .map(|(expectation, _)| expectation)
        })
    }

    /// What a connection from this end to that one is expected by, the first that counts first, each with its age.
    fn concerning(
        &self,
        from: SocketAddr,
        to: SocketAddr,
    ) -> impl Iterator<Item = (Name, (Expectation, Tick))> {
        let known =
            |name: Name| self.with(&name, |shard| shard.get(&name).copied()).map(|known| (name, known));
        Self::names(from, to).into_iter().filter_map(known)
    }

    /// The real servers to which a connection from this end to that one may be expected.
    pub fn servers(&self, from: SocketAddr, to: SocketAddr) -> impl Iterator<Item = ServerId> {
        self.concerning(from, to).map(|(_, (expectation, _))| expectation.server)
    }

    /// What concerns a connection from this end to that one, in a table of its own; and whether a client has data
    /// connections with a real server.
    pub fn copy(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        control: Option<(IpAddr, ServerId)>,
    ) -> Expectations {
        let copy = Expectations::default();
        for (name, expected) in self.concerning(from, to) {
            copy.with(&name, |shard| shard.insert(name, expected));
        }
        if let Some((client, server)) = control
            && self.data.any(client, server)
        {
            copy.data.begins(client, server);
        }
        copy
    }

    /// What a connection from this end to that one may be expected by.
    fn names(from: SocketAddr, to: SocketAddr) -> [Name; 2] {
        [Name { from, to }, Name { from: SocketAddr::new(from.ip(), 0), to }]
    }

    /// Those that have come, and live.
    pub fn data(&self) -> &DataConnections {
        &self.data
    }

    /// Whether any is expected.
    #[inline]
    pub fn any(&self) -> bool {
        self.len.load(Ordering::Relaxed) > 0
    }

    fn with<T>(&self, name: &Name, work: impl FnOnce(&mut Shard) -> T) -> T {
        let shard = &self.shards[self.hasher.hash_one(name) as usize % SHARDS];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let before = shard.len();
        let done = work(&mut shard);
        // Wraps around where there are fewer now.
        self.len.fetch_add(shard.len().wrapping_sub(before), Ordering::Relaxed);
        done
    }
}

/// The address and port of an end.
pub(crate) fn end(ip: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(ip.into(), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Tick = Tick(u32::MAX - 10);

    fn expectation(port: u16) -> (Name, Expectation) {
        let control = end([10, 0, 1, 1], 30_000);
        let name = Name { from: end([10, 0, 1, 1], 0), to: end([10, 99, 0, 1], port) };
        (name, Expectation { control, virtual_end: None, server_port: Some(port), server: ServerId(1) })
    }

    #[test]
    fn each_serves_one_connection_from_any_port_of_its_client_in_time() {
        let expectations = Expectations::default();
        let (name, expected) = expectation(50_000);
        assert!(expectations.announce(name, expected, NOW));
        assert!(expectations.announce(name, expected, NOW), "said twice");
        let other = Expectation { control: end([10, 0, 1, 1], 30_001), ..expected };
        assert!(!expectations.announce(name, other, NOW), "another one under the same name");
        assert_eq!(expectations.take(end([10, 0, 1, 2], 3000), name.to, NOW), None);
        assert_eq!(expectations.take(end([10, 0, 1, 1], 3000), name.to, NOW), Some(expected));
        assert_eq!(expectations.take(end([10, 0, 1, 1], 3000), name.to, NOW), None);
        assert!(!expectations.any());
        assert!(expectations.announce(name, expected, NOW));
        assert_eq!(expectations.take(end([10, 0, 1, 1], 3000), name.to, NOW.after(PATIENCE)), None);
        assert!(!expectations.any());
    }

    #[test]
    fn another_lcores_clock_may_be_ahead() {
        let expectations = Expectations::default();
        let (name, expected) = expectation(50_000);
        let other = Expectation { control: end([10, 0, 1, 1], 30_001), ..expected };
        assert!(expectations.announce(name, expected, NOW.after(1)));
        assert!(!expectations.announce(name, other, NOW), "it is not over");
        assert_eq!(expectations.take(end([10, 0, 1, 1], 3000), name.to, NOW), Some(expected));
    }

    #[test]
    fn they_are_bounded_and_old_ones_make_room() {
        let expectations = Expectations::default();
        let announced = |now| {
            let all = (1..=60_000).map(expectation);
            all.filter(|(name, expected)| expectations.announce(*name, *expected, now)).count()
        };
        assert_eq!(announced(NOW), SHARDS * SHARD_CAPACITY);
        let later = NOW.after(PATIENCE);
        let (name, expected) = expectation(60_001);
        assert!(expectations.announce(name, expected, later));
    }
}
