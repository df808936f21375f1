//! Snapshots made from changes are what snapshots made from everything are.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use control::model::{
    Change, Edit, ForwardingMethod, Limits, Model, Protocol, RealServer, Scheduler, SchedulerFlags,
    ServiceKey, Settings, Thresholds, Timeouts, Tunnel, Weight,
};
use director::id::{IfIndex, LcoreId, PortId};
use director::nexthop::{MacAddr, Neighbour, NextHops, PortLink};
use director::scheduler::Request;
use director::service::{self, Compiler, Input, ServerId, ServiceId, Services, Snapshot, VirtualService};
use director::stats::{Fleet, LcoreCounters};
use director::time::Tick;
use proptest::prelude::*;

use crate::world::{ip, kernel_view};

const LIMITS: Limits = Limits { services: 4, servers: 20 };
/// Numbers of real servers, so few more than there can be real servers that they are used again.
const NUMBERS: usize = 24;

fn key(n: u16) -> ServiceKey {
    ServiceKey::Address { protocol: Protocol::Tcp, address: SocketAddr::new(ip("10.99.0.1"), 80 + n) }
}

#[derive(Clone, Debug)]
enum Step {
    Edit(Edit),
    /// The kernel has news: the neighbour of this number answers, or no longer.
    Neighbour(u8),
    /// A real server number has so many active connections from now on.
    Load(u32, u64),
    /// New connections come.
    Connections(u8),
    /// What was edited takes effect.
    Publish,
    /// Lcores go on to the newest snapshot.
    GoOn,
}

fn any_edit() -> impl Strategy<Value = Edit> {
    let key = (0u16..5).prop_map(key);
    let address = (1u8..9).prop_map(|n| SocketAddr::from(([10, 0, 2, 10 + n], 8080)));
    let scheduler = proptest::sample::select(Scheduler::ALL);
    let weight = prop_oneof![Just(0), 1u16..5].prop_map(Weight);
    (0..12, key, address, scheduler, weight).prop_map(
        |(which, key, address, scheduler, weight)| match which {
            0 | 1 => {
                let flags = SchedulerFlags::default();
                Edit::AddService { key, scheduler, flags, persistence: None, one_packet: false }
            }
            2 => {
                let scheduler = Some(scheduler);
                Edit::EditService { key, scheduler, flags: None, persistence: None, one_packet: None }
            }
            3 => Edit::DeleteService { key },
            4..=7 => {
                let (method, thresholds) = (ForwardingMethod::Nat, Thresholds::default());
                let server = RealServer { address, method, tunnel: Tunnel::default(), weight, thresholds };
                Edit::AddServer { service: key, server }
            }
            8 | 9 => Edit::EditServer {
                service: key,
                address,
                weight: Some(weight),
                method: None,
                tunnel: None,
                upper_threshold: None,
                lower_threshold: None,
            },
            _ => Edit::DeleteServer { service: key, address },
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => any_edit().prop_map(Step::Edit),
        1 => (1u8..9).prop_map(Step::Neighbour),
        2 => (0..NUMBERS as u32, 0u64..3).prop_map(|(number, active)| Step::Load(number, active)),
        3 => any::<u8>().prop_map(Step::Connections),
        5 => Just(Step::Publish),
        3 => Just(Step::GoOn),
    ]
}

fn fleet() -> Fleet {
    Fleet::new(vec![Arc::new(LcoreCounters::new(NUMBERS))])
}

fn input<'a>(services: Services<'a>, hops: &Arc<NextHops>, quiescent: u64) -> Input<'a> {
    let (timeouts, settings) = (Timeouts::default(), Settings::default());
    Input { services, hops: hops.clone(), ports: Vec::new(), timeouts, settings, quiescent }
}

/// The services that a snapshot finds.
fn found(snapshot: &Snapshot) -> Vec<&VirtualService> {
    let ids = (0..5).filter_map(|n| {
        let (ip, port) = (key(n).ip(), key(n).port());
        snapshot.lookup.service(ip, port, 6)
    });
    ids.map(|id| snapshot.service(id).unwrap()).collect()
}

/// Addresses that real servers may have, and whether replies come from them.
fn reply_sources(snapshot: &Snapshot) -> Vec<bool> {
    (1u8..9).map(|n| snapshot.lookup.is_nat_server([10, 0, 2, 10 + n].into(), 8080, 6)).collect()
}

fn choices(service: &VirtualService, fleet: &Fleet, first: u8) -> Vec<Option<SocketAddr>> {
    let request = |n: u8| Request {
        source: IpAddr::V4(Ipv4Addr::new(10, 0, 1, n)),
        source_port: 1024,
        destination: service.model.key.ip(),
    };
    let (now, settings) = (Tick(0), Settings::default());
    let choose =
        |n| service.scheduler.choose(&service.candidates, request(n), fleet, LcoreId(0), now, &settings);
    if service.model.scheduler == Scheduler::Twos {
        return Vec::new(); // draws lots
    }
    let chosen = (0..7).map(|n| choose(first.wrapping_add(n)));
    chosen.map(|at| at.map(|at| service.candidates[at].address)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn changes_lead_where_everything_at_once_leads(steps in proptest::collection::vec(any_step(), 1..120)) {
        let mut view = kernel_view();
        let ports = [PortLink { link: IfIndex(11), port: PortId(1) }];
        let mut hops = Arc::new(NextHops::build(Arc::new(view.clone()), &ports));
        let fleet = fleet();
        // One is told of changes, the other always of everything.
        let (mut by_changes, mut by_all) =
            (Compiler::new(8, NUMBERS, fleet.clone()), Compiler::new(8, NUMBERS, fleet.clone()));
        let (mut a, mut b) = (Compiler::empty_snapshot(1), Compiler::empty_snapshot(1));
        let (mut running, mut model, mut quiescent) = (Model::default(), Model::default(), 1);
        for step in steps.into_iter().chain([Step::Publish]) {
            match step {
                Step::Edit(edit) => {
                    if let Ok(next) = model.apply(&edit, &LIMITS) {
                        model = next;
                    }
                }
                Step::Neighbour(n) => {
                    let neighbour = Neighbour { link: IfIndex(11), ip: [10, 0, 2, 10 + n].into() };
                    if view.neighbours.remove(&neighbour).is_none() {
                        view.neighbours.insert(neighbour, MacAddr([2, 0, 0, 0, 9, n]));
                    }
                    hops = Arc::new(NextHops::build(Arc::new(view.clone()), &ports));
                }
                Step::Load(number, active) => fleet.lcores()[0].server(ServerId(number)).active.set(active),
                Step::Connections(first) => {
                    for (one, other) in found(&a).into_iter().zip(found(&b)) {
                        prop_assert_eq!(choices(one, &fleet, first), choices(other, &fleet, first));
                    }
                }
                Step::GoOn => quiescent = a.version,
                Step::Publish => {
                    let keys: BTreeMap<_, ()> =
                        running.services().keys().chain(model.services().keys()).map(|key| (*key, ())).collect();
                    let changes: Vec<Change> = keys
                        .into_keys()
                        .map(|key| Change { key, service: model.services().get(&key).cloned() })
                        .filter(|change| match (running.services().get(&change.key), &change.service) {
                            (Some(before), Some(now)) => !Arc::ptr_eq(before, now),
                            (before, now) => before.is_some() || now.is_some(),
                        })
                        .collect();
                    let one = by_changes.compile(input(Services::Edited(&changes), &hops, quiescent));
                    let other = by_all.compile(input(Services::All(model.services()), &hops, quiescent));
                    let (one, other) = match (one, other) {
                        (Ok(one), Ok(other)) => (one, other),
                        (one, other) => {
                            prop_assert_eq!(one.err(), other.err());
                            model = running.clone();
                            continue;
                        }
                    };
                    (running, a, b) = (model.clone(), one, other);
                    prop_assert_eq!(a.version, b.version);
                    prop_assert_eq!(reply_sources(&a), reply_sources(&b));
                    prop_assert!(a.servers.iter().eq(b.servers.iter()));
                    prop_assert_eq!(found(&a).len(), running.services().len());
                    for (one, other) in found(&a).into_iter().zip(found(&b)) {
                        prop_assert!(Arc::ptr_eq(&one.model, &other.model));
                        prop_assert_eq!(&one.candidates, &other.candidates);
                    }
                }
            }
        }
        // A compiler that knows nothing of how it came to this, and gives numbers of its own.
        let mut compiler = Compiler::new(8, NUMBERS, fleet.clone());
        let fresh = compiler.compile(input(Services::All(running.services()), &hops, 1)).unwrap();
        prop_assert_eq!(reply_sources(&a), reply_sources(&fresh));
        let present = |snapshot: &Snapshot| {
            let of = |service: &VirtualService| {
                let entries = service.candidates.iter().map(|c| snapshot.server(c.server).unwrap());
                let entries = entries.map(|entry| service::RealServer { service: ServiceId(0), ..*entry });
                entries.collect::<Vec<service::RealServer>>()
            };
            found(snapshot).into_iter().map(of).collect::<Vec<_>>()
        };
        prop_assert_eq!(present(&a), present(&fresh));
        let count = |snapshot: &Snapshot| snapshot.servers.iter().filter(|(_, server)| server.present).count();
        prop_assert_eq!((count(&a), count(&fresh)), (running.server_count(), running.server_count()));
        for (one, other) in found(&a).into_iter().zip(found(&fresh)) {
            prop_assert_eq!(&one.model, &other.model);
            let shape = |s: &VirtualService| s.candidates.iter().map(|c| (c.address, c.weight)).collect::<Vec<_>>();
            prop_assert_eq!(shape(one), shape(other));
            // Those that go on from somewhere, and Maglev's remembered weights, are compared above.
            if one.model.scheduler == Scheduler::Sh {
                prop_assert_eq!(choices(one, &fleet, 0), choices(other, &fleet, 0));
            }
        }
    }
}
