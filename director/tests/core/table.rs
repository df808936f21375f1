//! The table of connections against a map of the standard library.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use control::model::ForwardingMethod;
use director::connection::{
    ConnectionTable, Direction, FlowKey, Full, Guess, HashSeed, NewConnection, State,
};
use director::persistence::TemplateId;
use director::service::ServerId;
use director::time::Tick;
use proptest::prelude::*;

fn key(n: u32) -> FlowKey<Ipv4Addr> {
    FlowKey {
        source: Ipv4Addr::from(0x0a00_0000 + n / 7),
        destination: Ipv4Addr::new(10, 99, 0, 1),
        source_port: (n % 7) as u16,
        destination_port: 80,
        protocol: 6,
    }
}

fn new(n: u32, nat: bool, timeout: u32) -> NewConnection<Ipv4Addr> {
    NewConnection {
        key: key(n),
        server_address: Ipv4Addr::new(10, 0, 2, 11),
        server_port: 8080,
        template: TemplateId::NONE,
        server: ServerId(n),
        method: if nat { ForwardingMethod::Nat } else { ForwardingMethod::Dr },
        read_along: false,
        state: State::Established,
        timeout,
    }
}

fn reply(n: u32) -> FlowKey<Ipv4Addr> {
    FlowKey {
        source: Ipv4Addr::new(10, 0, 2, 11),
        destination: key(n).source,
        source_port: 8080,
        destination_port: key(n).source_port,
        protocol: 6,
    }
}

fn find(table: &ConnectionTable<Ipv4Addr>, key: &FlowKey<Ipv4Addr>) -> Option<(u32, Direction)> {
    let hash = table.hash(key);
    let found = table.find(hash, key, table.prefetch_connection(hash));
    // A guess may be stale or missing by the time that it is used; whatever it is, the answer is the same.
    let stale = table.prefetch_connection(table.hash(&FlowKey { source_port: !key.source_port, ..*key }));
    for guess in [Guess::NONE, stale] {
        assert_eq!(table.find(hash, key, guess), found);
    }
    found.map(|(id, direction)| (table.get(id).server.0, direction))
}

#[derive(Clone, Debug)]
enum Step {
    Insert { n: u32, nat: bool, timeout: u32 },
    Remove(u32),
    Touch(u32),
    Wait(u32),
    Expire(usize),
}

fn steps(keys: u32) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..keys, any::<bool>(), 1u32..200_000).prop_map(|(n, nat, timeout)| Step::Insert { n, nat, timeout }),
        2 => (0..keys).prop_map(Step::Remove),
        2 => (0..keys).prop_map(Step::Touch),
        1 => (0u32..60_000).prop_map(Step::Wait),
        1 => (0usize..200).prop_map(Step::Expire),
    ];
    proptest::collection::vec(step, 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Random inserts, removals, expiry in small portions and a table that is too small: it always
    /// holds exactly what the map holds.
    #[test]
    fn holds_what_a_map_holds(steps in steps(120), capacity in 1u32..100, start: u32) {
        let mut now = Tick(start);
        let mut table = ConnectionTable::new(capacity, HashSeed::random(), false, now).unwrap();
        // Number to (nat, last seen, timeout).
        let mut map: HashMap<u32, (bool, Tick, u32)> = HashMap::new();
        for step in steps {
            match step {
                Step::Insert { n, nat, timeout } => {
                    if find(&table, &key(n)).is_some() {
                        continue;
                    }
                    match table.insert(&new(n, nat, timeout), now) {
                        Ok(_) => { map.insert(n, (nat, now, timeout)); }
                        Err(Full) => {
                            // Removed connections keep their place until the wheel has come by; when it
                            // has, only a table full of living ones refuses.
                            let mut later = now;
                            for _ in 0..2 {
                                later = later.after(40_000);
                                table.expire(later, 1_000_000, |c| { map.remove(&c.server.0); });
                            }
                            now = later;
                            prop_assert!(map.len() <= capacity as usize);
                            if map.len() < capacity as usize {
                                prop_assert!(table.insert(&new(n, nat, timeout), now).is_ok());
                                map.insert(n, (nat, now, timeout));
                            }
                        }
                    }
                }
                Step::Remove(n) => {
                    let key = key(n);
                    if let Some((id, _)) = table.find(table.hash(&key), &key, Guess::NONE) {
                        table.remove(id);
                        prop_assert!(map.remove(&n).is_some());
                    }
                }
                Step::Touch(n) => {
                    let key = key(n);
                    if let Some((id, _)) = table.find(table.hash(&key), &key, Guess::NONE) {
                        table.get_mut(id).last_seen = now;
                        map.get_mut(&n).unwrap().1 = now;
                    }
                }
                Step::Wait(ms) => now = now.after(ms),
                Step::Expire(budget) => {
                    let mut wrong = None;
                    table.expire(now, budget, |c| {
                        match map.remove(&c.server.0) {
                            Some((_, last, timeout)) if now.since(last) >= timeout => {}
                            other => wrong = Some((c.server.0, other)),
                        }
                    });
                    prop_assert_eq!(wrong, None, "ended before its time");
                }
            }
            prop_assert_eq!(table.len(), map.len());
            for n in 0..120 {
                let expected = map.get(&n);
                prop_assert_eq!(find(&table, &key(n)), expected.map(|_| (n, Direction::Request)));
                let nat = expected.is_some_and(|(nat, ..)| *nat);
                prop_assert_eq!(find(&table, &reply(n)), nat.then_some((n, Direction::Reply)));
            }
        }
        // After two turns of the wheel past the longest timeout nothing is left.
        for _ in 0..8 {
            now = now.after(40_000);
            table.expire(now, 1_000_000, |_| {});
        }
        prop_assert!(table.is_empty());
    }
}

#[test]
fn fills_to_its_capacity_with_nat_connections() {
    for capacity in [1, 2, 10, 1000, 100_000] {
        let mut table = ConnectionTable::new(capacity, HashSeed::random(), false, Tick(0)).unwrap();
        for n in 0..capacity {
            assert!(table.insert(&new(n, true, 1000), Tick(0)).is_ok(), "{n} of {capacity}");
        }
        assert_eq!(table.insert(&new(capacity, true, 1000), Tick(0)), Err(Full));
        for n in 0..capacity {
            assert_eq!(find(&table, &key(n)), Some((n, Direction::Request)));
            assert_eq!(find(&table, &reply(n)), Some((n, Direction::Reply)));
        }
        let mut shown = 0;
        let mut cursor = Some(0);
        while let Some(at) = cursor {
            cursor = table.walk(at, 77, Tick(10), |_| {
                shown += 1;
                true
            });
        }
        assert_eq!(shown, capacity);
        let mut ended = 0;
        table.expire(Tick(70_000), usize::MAX, |_| ended += 1);
        assert_eq!(ended, capacity);
    }
}

#[test]
fn expiry_does_no_more_than_it_is_allowed() {
    let mut table = ConnectionTable::new(1000, HashSeed::random(), false, Tick(0)).unwrap();
    for n in 0..1000 {
        table.insert(&new(n, false, 1000), Tick(0)).unwrap();
    }
    let mut ended = 0;
    table.expire(Tick(2000), 50, |_| ended += 1);
    assert!(ended <= 50 && table.len() >= 950, "{ended}");
    for _ in 0..30 {
        table.expire(Tick(2000), 50, |_| ended += 1);
    }
    assert_eq!((ended, table.len()), (1000, 0));
}

#[test]
fn a_walk_goes_on_where_its_visitor_had_no_room() {
    let mut table = ConnectionTable::new(10, HashSeed::random(), false, Tick(0)).unwrap();
    for n in 0..10 {
        table.insert(&new(n, false, 1000), Tick(0)).unwrap();
    }
    let mut seen = Vec::new();
    let mut cursor = Some(0);
    while let Some(at) = cursor {
        let mut room = 3;
        cursor = table.walk(at, u32::MAX, Tick(0), |c| {
            if room > 0 {
                seen.push(c.server.0);
                room -= 1;
                true
            } else {
                false
            }
        });
    }
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
}

/// Ports in a row make rows of hashes, whose distance is the seed's: a small one here. All the same no page gets more than it
/// has room for while the table has.
#[test]
fn clients_with_many_ports_find_room() {
    let poor = HashSeed([
        0x9e37_79b9_7f4a_7c15,
        0xc2b2_ae3d_27d4_eb4f,
        0x1656_67b1_9e37_79f9,
        0x27d4_eb2f_0000_1001,
    ]);
    for seed in [poor, HashSeed::random(), HashSeed::random()] {
        let mut table = ConnectionTable::new(1 << 18, seed, false, Tick(0)).unwrap();
        for n in 0..1 << 18 {
            let new = NewConnection {
                key: FlowKey {
                    source: Ipv4Addr::from_bits(0x0a01_0000 + n / 60_000),
                    source_port: 1024 + (n % 60_000) as u16,
                    ..key(0)
                },
                server_address: Ipv4Addr::new(10, 0, 2, 11 + (n & 1) as u8),
                ..new(n, true, 1000)
            };
            assert!(table.insert(&new, Tick(0)).is_ok(), "{n} of {}", 1 << 18);
        }
    }
}

#[test]
fn replies_that_two_connections_share_are_the_newer_ones_at_once() {
    let mut table = ConnectionTable::new(100, HashSeed::random(), false, Tick(0)).unwrap();
    table.insert(&new(1, true, 1000), Tick(0)).unwrap();
    table.expire(Tick(0), 100, |_| ());
    assert_eq!(find(&table, &reply(1)), Some((1, Direction::Reply)));
    let newer = NewConnection { key: FlowKey { destination_port: 443, ..key(1) }, ..new(1, true, 1000) };
    table.insert(&NewConnection { server: ServerId(2), ..newer }, Tick(0)).unwrap();
    assert_eq!(find(&table, &reply(1)), Some((2, Direction::Reply)));
}
