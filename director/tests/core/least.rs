//! Weighted least connection and its kin among many real servers, packet by packet: what the pipeline tells the
//! scheduler is enough for it to choose as if it looked at everybody.

use control::model::{ForwardingMethod, Protocol, Scheduler, Weight};
use director::scheduler::Load;
use proptest::prelude::*;

use crate::frames::{ACK, FIN, Frame, RST, SYN};
use crate::world::{CLIENT_SIDE, World, service};

const VIP: (&str, u16) = ("10.99.0.1", 80);

#[derive(Clone, Debug)]
enum Step {
    /// A client that was not there before.
    Open,
    /// Something from one that was.
    Packet(u16, u8),
    Wait(u32),
    Weight(usize, u16),
    /// A real server goes, or the last that went comes back.
    Remove(usize),
    Return,
}

fn step() -> impl Strategy<Value = Step> {
    let flags = proptest::sample::select(vec![ACK, FIN | ACK, RST, SYN]);
    prop_oneof![
        10 => Just(Step::Open),
        10 => (any::<u16>(), flags).prop_map(|(n, flags)| Step::Packet(n, flags)),
        3 => prop_oneof![0u32..3000, 0u32..1_000_000].prop_map(Step::Wait),
        1 => (any::<usize>(), 0u16..4).prop_map(|(n, weight)| Step::Weight(n, weight)),
        1 => any::<usize>().prop_map(Step::Remove),
        1 => Just(Step::Return),
    ]
}

/// Whom the definition says, by what all lcores count.
fn best(world: &World) -> Option<std::net::SocketAddr> {
    let service = world.compiler.compiled().next().unwrap();
    let mut best: Option<(u64, u64, std::net::SocketAddr)> = None;
    for candidate in service.candidates.iter().filter(|c| c.weight > 0) {
        let (active, inactive) = world.fleet.connections(candidate.server);
        let (overhead, weight) = match service.model.scheduler {
            Scheduler::Lc => (active * 257 + inactive, 1),
            Scheduler::Wlc => (active * 257 + inactive, u64::from(candidate.weight)),
            Scheduler::Nq if active == 0 => return Some(candidate.address),
            _ => (active + 1, u64::from(candidate.weight)),
        };
        if best.is_none_or(|(least, its, _)| overhead * its < least * weight) {
            best = Some((overhead, weight, candidate.address));
        }
    }
    best.map(|(.., address)| address)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_new_connection_goes_to_the_least_loaded(
        scheduler in proptest::sample::select(vec![Scheduler::Wlc, Scheduler::Lc, Scheduler::Sed, Scheduler::Nq]),
        steps in proptest::collection::vec(step(), 1..300),
    ) {
        let web = service(Protocol::Tcp, "10.99.0.1:80", scheduler, ForwardingMethod::Nat, 8080, &[1; 40]);
        let key = web.key;
        let mut world = World::new(vec![web]);
        let (mut port, mut gone) = (1024, Vec::new());
        for step in steps {
            match step {
                Step::Open => {
                    port += 1;
                    let wanted = best(&world);
                    world.send(CLIENT_SIDE, &Frame::tcp(("10.0.1.1", port), VIP, SYN).bytes());
                    let of_client = format!("10.0.1.1:{port} ");
                    let list = world.connections();
                    let chosen = list.iter().find(|c| c.contains(&of_client)).and_then(|c| c.rsplit(' ').next());
                    prop_assert_eq!(chosen.map(str::to_owned), wanted.map(|address| address.to_string()));
                }
                Step::Packet(_, _) if port == 1024 => {}
                Step::Packet(n, flags) => {
                    let from = 1025 + n % (port - 1024);
                    world.send(CLIENT_SIDE, &Frame::tcp(("10.0.1.1", from), VIP, flags).bytes());
                }
                Step::Wait(milliseconds) => {
                    world.wait(milliseconds);
                    for pipeline in &mut world.pipelines {
                        pipeline.expire(&world.snapshot, world.now, 100_000);
                    }
                }
                Step::Weight(n, weight) => world.edit(key, |service| {
                    let at = n % service.servers.len();
                    service.servers[at].weight = Weight(weight);
                }),
                Step::Remove(n) => world.edit(key, |service| {
                    if service.servers.len() > 15 {
                        gone.push(service.servers.remove(n % service.servers.len()));
                    }
                }),
                Step::Return => {
                    if let Some(server) = gone.pop() {
                        world.edit(key, |service| service.servers.push(server));
                    }
                }
            }
        }
    }
}
