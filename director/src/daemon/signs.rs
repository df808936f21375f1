//! What the data path has counted of real servers that have a passive check, from one time to the next. Lcores count by
//! numbers, which come to be those of others.

use std::collections::HashMap;
use std::net::SocketAddr;

use control::health::Signs;
use control::model::ServiceKey;

use crate::service::{Compiler, ServerId};
use crate::stats::Fleet;

/// What each real server's counters showed when they were read last.
#[derive(Debug, Default)]
pub(super) struct Listener {
    last: HashMap<(ServiceKey, SocketAddr), (ServerId, Signs)>,
}

impl Listener {
    /// What came since the last time for each of these real servers. Of one that is new, or has another number, nothing:
    /// what its number has counted until now is somebody else's.
    pub(super) fn listen(
        &mut self,
        servers: impl Iterator<Item = (ServiceKey, SocketAddr)>,
        compiler: &Compiler,
        fleet: &Fleet,
    ) -> Vec<(ServiceKey, SocketAddr, Signs)> {
        let before = std::mem::take(&mut self.last);
        let since = |(service, address): (ServiceKey, SocketAddr)| {
            // One that is removed for its health is nobody once its connections are over, and its hold ends all the same.
            let Some(id) = compiler.server_id(service, address) else {
                return (service, address, Signs::default());
            };
            let now = fleet.signs(id);
            self.last.insert((service, address), (id, now));
            let same = before.get(&(service, address)).filter(|(number, _)| *number == id);
            (service, address, same.map(|(_, earlier)| now.since(*earlier)).unwrap_or_default())
        };
        servers.map(since).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::fixture::{address, compile, key};
    use crate::stats::LcoreCounters;
    use std::sync::Arc;

    #[test]
    fn a_number_that_is_another_real_servers_now_tells_nothing_of_before() {
        let fleet = Fleet::new((0..2).map(|_| Arc::new(LcoreCounters::new(2))).collect());
        let mut compiler = Compiler::new(1, 2, fleet.clone());
        let mut listener = Listener::default();
        let count = |compiler: &Compiler, n| {
            let id = compiler.server_id(key(), address(n)).unwrap();
            fleet.lcores().iter().for_each(|lcore| lcore.server(id).signs.count_unanswered());
            id
        };
        let mut heard = |compiler: &Compiler, servers: &[u8]| {
            let servers = servers.iter().map(|n| (key(), address(*n)));
            let heard = listener.listen(servers, compiler, &fleet);
            heard.into_iter().map(|(_, _, signs)| signs.unanswered).collect::<Vec<_>>()
        };
        compile(&mut compiler, &[11, 12]);
        let first = count(&compiler, 11);
        assert_eq!(heard(&compiler, &[11, 12]), [0, 0], "nobody knows since when");
        count(&compiler, 11);
        assert_eq!(heard(&compiler, &[11, 12]), [2, 0], "by both lcores");
        assert_eq!(heard(&compiler, &[11, 12]), [0, 0], "once");
        count(&compiler, 11);
        // It goes, and is still listened to: its number is free, then another one's.
        compile(&mut compiler, &[12]);
        compile(&mut compiler, &[12]);
        assert_eq!(heard(&compiler, &[11, 12]), [0, 0]);
        compile(&mut compiler, &[12, 13]);
        assert_eq!(compiler.server_id(key(), address(13)), Some(first));
        assert_eq!(heard(&compiler, &[12, 13]), [0, 0]);
        count(&compiler, 13);
        assert_eq!(heard(&compiler, &[12, 13]), [0, 2]);
    }
}
