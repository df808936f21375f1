//! Data connections that live, by whom they keep a control connection alive for.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::service::ServerId;

/// How many pairs of clients and real servers there is room for; data connections of more keep nothing alive.
const CAPACITY: usize = 4096;

/// How many data connections each client has with each real server. Shared by all lcores, touched when one begins and
/// ends, and when the time of a control connection is over.
#[derive(Debug)]
pub struct DataConnections {
    living: Mutex<HashMap<(IpAddr, ServerId), u32>>,
    pairs: AtomicUsize,
}

impl Default for DataConnections {
    fn default() -> Self {
        // Twice, so that the map never asks for more memory.
        let living = Mutex::new(HashMap::with_capacity(2 * CAPACITY));
        DataConnections { living, pairs: AtomicUsize::new(0) }
    }
}

impl DataConnections {
    /// One begins. False where there is no room to count it: then it must not end either.
    pub fn begins(&self, client: IpAddr, server: ServerId) -> bool {
        let mut living = self.lock();
        if living.len() >= CAPACITY && !living.contains_key(&(client, server)) {
            return false;
        }
        *living.entry((client, server)).or_default() += 1;
        self.pairs.store(living.len(), Ordering::Relaxed);
        true
    }

    /// One that was counted has ended.
    pub fn ends(&self, client: IpAddr, server: ServerId) {
        let mut living = self.lock();
        if let Some(count) = living.get_mut(&(client, server)) {
            *count -= 1;
            if *count == 0 {
                living.remove(&(client, server));
            }
        }
        self.pairs.store(living.len(), Ordering::Relaxed);
    }

    /// Whether a client has any with a real server.
    pub fn any(&self, client: IpAddr, server: ServerId) -> bool {
        self.pairs.load(Ordering::Relaxed) > 0 && self.lock().contains_key(&(client, server))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(IpAddr, ServerId), u32>> {
        self.living.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_counts_until_it_ends_and_there_is_room_for_so_many() {
        let data = DataConnections::default();
        let client = |n: u16| IpAddr::from([10, 0, (n >> 8) as u8, n as u8]);
        assert!(data.begins(client(0), ServerId(1)) && data.begins(client(0), ServerId(1)));
        assert!(!data.any(client(0), ServerId(2)) && !data.any(client(1), ServerId(1)));
        data.ends(client(0), ServerId(1));
        assert!(data.any(client(0), ServerId(1)));
        data.ends(client(0), ServerId(1));
        assert!(!data.any(client(0), ServerId(1)));
        assert!((0..CAPACITY as u16).all(|n| data.begins(client(n), ServerId(1))));
        assert!(!data.begins(client(CAPACITY as u16), ServerId(1)), "no room for another one");
        assert!(data.begins(client(0), ServerId(1)));
    }
}
