//! Changes while connections live.

use control::model::{ForwardingMethod, Protocol, RealServer, Scheduler, Thresholds, Tunnel, Weight};
use director::connection::State;
use director::service::ServerId;
use director::stats::Reason;

use crate::frames::{ACK, Frame, SYN};
use crate::world::{CLIENT_SIDE, World, service};

const VIP: &str = "10.99.0.1";
const CLIENT: &str = "10.0.1.1";

fn world() -> World {
    World::new(vec![service(
        Protocol::Tcp,
        "10.99.0.1:80",
        Scheduler::Rr,
        ForwardingMethod::Nat,
        8080,
        &[1, 1, 1],
    )])
}

fn send(world: &mut World, port: u16, flags: u8) -> Reason {
    world.send(CLIENT_SIDE, &Frame::tcp((CLIENT, port), (VIP, 80), flags).bytes()).verdict.reason
}

fn server_of(world: &World, port: u16) -> Option<String> {
    let list = world.connections();
    let of = list.iter().find(|c| c.contains(&format!("{CLIENT}:{port} ")))?;
    of.rsplit(' ').next().map(str::to_owned)
}

#[test]
fn a_removed_real_server_and_its_return() {
    let mut world = world();
    let key = *world.services.keys().next().unwrap();
    for port in 1..=3 {
        send(&mut world, port * 1000, SYN);
        send(&mut world, port * 1000, ACK);
    }
    let gone = server_of(&world, 1000).unwrap();
    let gone_server =
        world.services[&key].servers.iter().find(|s| s.address.to_string() == gone).copied().unwrap();
    world.edit(key, |service| service.servers.retain(|s| s.address != gone_server.address));
    // Silence for its connections, as IPVS has it; the others live on.
    assert_eq!(send(&mut world, 1000, ACK), Reason::ServerRemoved);
    assert_eq!(send(&mut world, 2000, ACK), Reason::RequestNat);
    assert_eq!(send(&mut world, 3000, ACK), Reason::RequestNat);
    for port in 4..20 {
        assert_eq!(send(&mut world, port * 1000, SYN), Reason::RequestNat);
        assert_ne!(server_of(&world, port * 1000).unwrap(), gone);
    }
    // A client that comes back by the same port gets another real server at once.
    assert_eq!(send(&mut world, 1000, SYN), Reason::RequestNat);
    assert_ne!(server_of(&world, 1000).unwrap(), gone);
}

#[test]
fn datagrams_to_a_removed_real_server_go_to_another() {
    let mut world = World::new(vec![service(
        Protocol::Udp,
        "10.99.0.1:53",
        Scheduler::Rr,
        ForwardingMethod::Dr,
        53,
        &[1, 1],
    )]);
    let key = *world.services.keys().next().unwrap();
    let datagram = Frame::udp((CLIENT, 1000), (VIP, 53), b"?").bytes();
    world.send(CLIENT_SIDE, &datagram);
    let gone = server_of(&world, 1000).unwrap();
    world.edit(key, |service| service.servers.retain(|s| s.address.to_string() != gone));
    assert_eq!(world.send(CLIENT_SIDE, &datagram).verdict.reason, Reason::RequestDr);
    assert_ne!(server_of(&world, 1000).unwrap(), gone);
    assert_eq!(world.connections().len(), 1);
}

#[test]
fn a_real_server_that_returns_finds_its_connections() {
    let mut world = world();
    let key = *world.services.keys().next().unwrap();
    send(&mut world, 1000, SYN);
    send(&mut world, 1000, ACK);
    let gone = server_of(&world, 1000).unwrap();
    let gone_server =
        world.services[&key].servers.iter().find(|s| s.address.to_string() == gone).copied().unwrap();
    let id = world.compiler.server_id(key, gone_server.address).unwrap();
    world.edit(key, |service| service.servers.retain(|s| s.address != gone_server.address));
    assert_eq!(send(&mut world, 1000, ACK), Reason::ServerRemoved);
    world.edit(key, |service| service.servers.push(gone_server));
    assert_eq!(world.compiler.server_id(key, gone_server.address), Some(id));
    assert_eq!(send(&mut world, 1000, ACK), Reason::RequestNat);
    assert_eq!(
        world.compiler.server_totals(id).packets_in,
        3,
        "nothing was forgotten, nothing counted while away"
    );
}

#[test]
fn a_number_is_used_again_only_when_its_connections_are_gone() {
    let mut world = world();
    let key = *world.services.keys().next().unwrap();
    send(&mut world, 1000, SYN);
    let first = server_of(&world, 1000).unwrap().parse().unwrap();
    let id = world.compiler.server_id(key, first).unwrap();
    let fresh = |n: u8| RealServer {
        address: (std::net::Ipv4Addr::new(10, 0, 2, n), 8080).into(),
        method: ForwardingMethod::Nat,
        weight: Weight(1),
        tunnel: Tunnel::default(),
        thresholds: Thresholds::default(),
    };
    world.edit(key, |service| service.servers.retain(|s| s.address != first));
    world.edit(key, |service| service.servers.push(fresh(20)));
    assert_ne!(world.compiler.server_id(key, fresh(20).address), Some(id));
    world.wait(200_000);
    world.expire();
    world.publish();
    world.edit(key, |service| service.servers.push(fresh(21)));
    assert_eq!(world.compiler.server_id(key, fresh(21).address), Some(id));
    assert_eq!(world.compiler.server_totals(id).connections, 0, "its counters start at nothing");
    let all = world.compiler.service_totals()[&key];
    assert_eq!((all.connections, all.packets_in), (1, 1), "the service remembers");
}

#[test]
fn an_edit_of_one_service_leaves_the_others_as_they_are() {
    let mut world = World::new(vec![
        service(Protocol::Tcp, "10.99.0.1:80", Scheduler::Rr, ForwardingMethod::Nat, 8080, &[1, 1, 1]),
        service(Protocol::Tcp, "10.99.0.2:80", Scheduler::Rr, ForwardingMethod::Nat, 8080, &[1, 1, 1]),
    ]);
    let keys: Vec<_> = world.services.keys().copied().collect();
    send(&mut world, 1000, SYN);
    let compiled = |world: &World, key| {
        let id = world.snapshot.lookup.service(crate::world::ip(VIP), 80, 6);
        let of = world.compiler.compiled().find(|s| s.model.key == key).unwrap() as *const _;
        (id, of)
    };
    let before = compiled(&world, keys[0]);
    world.edit(keys[1], |service| service.servers[0].weight = Weight(7));
    assert_eq!(compiled(&world, keys[0]), before, "not rebuilt");
    // Round robin goes on, rather than beginning again.
    let first = server_of(&world, 1000).unwrap();
    send(&mut world, 2000, SYN);
    assert_ne!(server_of(&world, 2000).unwrap(), first);
}

#[test]
fn the_forwarding_method_of_a_connection_is_the_one_it_began_with() {
    let mut world = world();
    let key = *world.services.keys().next().unwrap();
    send(&mut world, 1000, SYN);
    world.edit(key, |service| {
        for server in &mut service.servers {
            server.method = ForwardingMethod::Tunnel;
        }
    });
    assert_eq!(send(&mut world, 1000, ACK), Reason::RequestNat);
    assert_eq!(send(&mut world, 2000, SYN), Reason::RequestTunnel);
}

#[test]
fn a_removed_service_is_no_service() {
    let mut world = world();
    send(&mut world, 1000, SYN);
    world.services.clear();
    world.publish();
    assert_eq!(send(&mut world, 2000, SYN), Reason::NoService);
    assert_eq!(send(&mut world, 1000, ACK), Reason::ServerRemoved);
}

#[test]
fn new_timeouts_count_from_a_connections_next_packet() {
    let mut world = world();
    send(&mut world, 1000, SYN);
    send(&mut world, 1000, ACK);
    world.timeouts.tcp = std::time::Duration::from_secs(10);
    world.publish();
    world.wait(11_000);
    assert_eq!(world.connections().len(), 1, "nothing changes until a packet comes");
    send(&mut world, 1000, ACK);
    world.wait(11_000);
    assert!(world.connections().is_empty());
}

#[test]
fn active_and_inactive_follow_the_state() {
    let mut world = world();
    let key = *world.services.keys().next().unwrap();
    send(&mut world, 1000, SYN);
    let server = server_of(&world, 1000).unwrap().parse().unwrap();
    assert_eq!(world.load(key, server), (1, 0));
    send(&mut world, 1000, crate::frames::FIN | ACK);
    assert_eq!(world.load(key, server), (0, 1));
    world.pipelines[0].tables().ipv4().walk(0, 100, world.now, |c| {
        assert_eq!(c.state, State::TimeWait);
        assert_ne!(c.server, ServerId(99));
        true
    });
    world.wait(121_000);
    world.expire();
    assert_eq!(world.load(key, server), (0, 0));
}
