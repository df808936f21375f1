//! What a difference between configurations moves.

use std::collections::HashMap;
use std::net::SocketAddr;

use control::model::ServiceKey;
use control::plan::{Difference, Fate, Live, Moves};

use crate::scheduler::{Share, moved};

/// Notes how many connections services and real servers have that are changed or go.
pub(super) fn connections(
    difference: &mut Difference,
    before: &Live,
    of: impl Fn(ServiceKey, SocketAddr) -> u64,
) {
    for change in &mut difference.services {
        let Some(service) = before.model.services().get(&change.service) else { continue };
        let mut told: HashMap<SocketAddr, _> =
            change.servers.iter_mut().map(|server| (server.address, server)).collect();
        let mut moves = Moves::default();
        for server in &service.servers {
            let connections = of(service.key, server.address);
            moves.connections += connections;
            if let Some(told) = told.get_mut(&server.address) {
                told.connections = Some(connections);
                if told.change == Fate::Removed {
                    moves.lose_server += connections;
                }
            }
        }
        change.moves = Some(moves);
    }
}

/// Notes what part of clients or of new connections has another real server.
pub(super) fn shares(difference: &mut Difference, before: &Live, after: &Live) {
    for change in &mut difference.services {
        let of = |live: &Live| live.model.services().get(&change.service).cloned();
        let (Some(old), Some(new)) = (of(before), of(after)) else { continue };
        // Of checks, thresholds and persistence a scheduler knows nothing.
        let moves = change.moves.get_or_insert_default();
        match moved(&old, &new) {
            Share::Clients(share) => moves.clients_per_mille = Some(per_mille(share)),
            Share::New(share) => moves.new_per_mille = Some(per_mille(share)),
        }
    }
}

/// Something is never nothing, and less than all never all.
fn per_mille(share: f64) -> u16 {
    let rounded = (share * 1000.0).round() as u16;
    if share <= 1e-9 {
        0
    } else if share >= 1.0 - 1e-9 {
        1000
    } else {
        rounded.clamp(1, 999)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::config::Config;

    fn live(scheduler: &str, servers: &[u8]) -> Live {
        let mut text = format!(
            "[[port]]\ndevice = '0000:03:00.0'\nmirror = 'dir0'\n[[service]]\nprotocol = 'tcp'\n\
             address = '10.99.0.1:80'\nscheduler = '{scheduler}'\n"
        );
        for n in servers {
            text += &format!("[[service.server]]\naddress = '10.0.2.{n}'\n");
        }
        Live::from(&Config::parse(&text, "test").unwrap_or_else(|errors| panic!("{errors}")))
    }

    #[test]
    fn connections_of_whom_goes_are_lost_and_shares_are_of_clients_or_connections() {
        // Maglev lets the clients of whom goes (a third) go anywhere, and who comes takes a third of the others: five ninths
        // at most. In turn, a third of new connections goes elsewhere.
        for (scheduler, clients, new, expected) in
            [("mh", true, false, 330..560), ("wrr", false, true, 330..340)]
        {
            let (before, after) = (live(scheduler, &[1, 2, 3]), live(scheduler, &[1, 3, 4]));
            let mut difference = Difference::between(&before, &after);
            connections(&mut difference, &before, |_, server| match server.to_string().as_str() {
                "10.0.2.2:80" => 7,
                _ => 4,
            });
            shares(&mut difference, &before, &after);
            let moves = difference.services[0].moves.expect("weighed");
            assert_eq!((moves.connections, moves.lose_server), (15, 7));
            assert_eq!((moves.clients_per_mille.is_some(), moves.new_per_mille.is_some()), (clients, new));
            let share = moves.clients_per_mille.or(moves.new_per_mille).expect("one of them");
            assert!(expected.contains(&share), "{scheduler}: {share}");
            let gone = &difference.services[0].servers[0];
            assert_eq!((gone.change, gone.connections), (Fate::Removed, Some(7)));
        }
    }

    #[test]
    fn a_small_share_is_not_none() {
        assert_eq!([0.0, 0.0001, 0.5, 0.99999, 1.0].map(per_mille), [0, 1, 500, 999, 1000]);
    }
}
