use proptest::prelude::*;

use super::super::{
    AddressFault, ForwardingMethod, Persistence, PersistenceEdit, PersistenceEngine, Protocol, RealServer,
    Scheduler, Weight,
};
use super::*;

fn key(port: u16) -> ServiceKey {
    ServiceKey::Address { protocol: Protocol::Tcp, address: SocketAddr::from(([10, 0, 0, 1], port)) }
}

fn server(address: &str, method: ForwardingMethod) -> RealServer {
    let address = address.parse().expect("a test's address");
    RealServer {
        address,
        method,
        tunnel: Tunnel::default(),
        weight: Weight(1),
        thresholds: Thresholds::default(),
    }
}

fn add(key: ServiceKey, scheduler: Scheduler, flags: SchedulerFlags) -> Edit {
    Edit::AddService { key, scheduler, flags, persistence: None, one_packet: false }
}

fn schedule(key: ServiceKey, scheduler: Option<Scheduler>, flags: Option<SchedulerFlags>) -> Edit {
    Edit::EditService { key, scheduler, flags, persistence: None, one_packet: None }
}

fn serve(
    service: ServiceKey,
    address: SocketAddr,
    weight: Option<Weight>,
    method: Option<ForwardingMethod>,
) -> Edit {
    Edit::EditServer {
        service,
        address,
        weight,
        method,
        tunnel: None,
        upper_threshold: None,
        lower_threshold: None,
    }
}

fn add_service(key: ServiceKey) -> Edit {
    add(key, Scheduler::Wlc, SchedulerFlags::default())
}

fn add_server(service: ServiceKey, address: &str, method: ForwardingMethod) -> Edit {
    Edit::AddServer { service, server: server(address, method) }
}

fn built(edits: &[Edit]) -> Model {
    edits.iter().fold(Model::default(), |model, edit| {
        model.apply(edit, &Limits::default()).unwrap_or_else(|error| panic!("{edit:?}: {error}"))
    })
}

fn refused(model: &Model, edit: &Edit) -> &'static str {
    let error = model.apply(edit, &Limits::default()).expect_err("the edit breaks a rule");
    assert!(!error.to_string().is_empty() && !error.remedy().is_empty());
    error.code()
}

/// Two services, the first with two real servers.
fn two_services() -> Model {
    built(&[
        add_service(key(80)),
        add_server(key(80), "10.0.2.11:8080", ForwardingMethod::Nat),
        add_server(key(80), "10.0.2.12:80", ForwardingMethod::Dr),
        add_service(key(443)),
    ])
}

#[test]
fn edits_do_what_they_say() {
    let limits = Limits::default();
    let address = "10.0.2.11:8080".parse().expect("a test's address");
    let model = two_services();
    let edit = serve(key(80), address, Some(Weight(0)), None);
    let model = model.apply(&edit, &limits).expect("the server is there");
    let servers = &model.services()[&key(80)].servers;
    assert_eq!((servers[0].weight, servers[0].method), (Weight(0), ForwardingMethod::Nat));

    let flags = SchedulerFlags { fallback: true, port: false };
    let edit = schedule(key(80), Some(Scheduler::Mh), Some(flags));
    let model = model.apply(&edit, &limits).expect("mh has flags");
    let service = &model.services()[&key(80)];
    assert_eq!((service.scheduler, service.flags, service.servers.len()), (Scheduler::Mh, flags, 2));

    let model = model.apply(&Edit::DeleteServer { service: key(80), address }, &limits).expect("it is there");
    assert_eq!(model.server_count(), 1);
    let model = model.apply(&Edit::DeleteService { key: key(80) }, &limits).expect("it is there");
    assert_eq!(model.services().keys().collect::<Vec<_>>(), [&key(443)]);
}

#[test]
fn a_scheduler_without_flags_drops_those_that_were_set() {
    let flags = SchedulerFlags { fallback: true, port: true };
    let model = built(&[add(key(80), Scheduler::Sh, flags), schedule(key(80), Some(Scheduler::Mh), None)]);
    assert_eq!(model.services()[&key(80)].flags, flags);
    let edit = schedule(key(80), Some(Scheduler::Rr), None);
    let model = model.apply(&edit, &Limits::default()).expect("no flags were asked for");
    assert_eq!(model.services()[&key(80)].flags, SchedulerFlags::default());
    let edit = schedule(key(80), None, Some(flags));
    assert_eq!(refused(&model, &edit), "flags-not-allowed");
}

#[test]
fn what_is_there_twice_or_not_at_all_is_refused() {
    let model = two_services();
    let nowhere = "10.9.9.9:80".parse().expect("a test's address");
    assert_eq!(refused(&model, &add_service(key(80))), "service-exists");
    assert_eq!(refused(&model, &Edit::DeleteService { key: key(81) }), "no-such-service");
    assert_eq!(refused(&model, &add_server(key(81), "10.0.2.1:81", ForwardingMethod::Dr)), "no-such-service");
    assert_eq!(refused(&model, &add_server(key(80), "10.0.2.12:80", ForwardingMethod::Nat)), "server-exists");
    let edit = Edit::DeleteServer { service: key(80), address: nowhere };
    assert_eq!(refused(&model, &edit), "no-such-server");
    let edit = serve(key(80), nowhere, None, None);
    assert_eq!(refused(&model, &edit), "no-such-server");
}

#[test]
fn only_nat_can_change_the_port() {
    let model = two_services();
    for method in [ForwardingMethod::Dr, ForwardingMethod::Tunnel] {
        assert_eq!(refused(&model, &add_server(key(80), "10.0.2.1:8080", method)), "port-not-allowed");
        let address = "10.0.2.11:8080".parse().expect("a test's address");
        let edit = serve(key(80), address, None, Some(method));
        let error = model.apply(&edit, &Limits::default()).expect_err("the port differs");
        assert_eq!(error, EditError::PortNotAllowed { service: key(80), address, method });
        assert_eq!(error.remedy(), "use port 80, or forwarding method nat");
    }
}

#[test]
fn addresses_that_no_host_has_are_refused() {
    let model = two_services();
    for (address, fault) in [
        ("0.0.0.0:80", AddressFault::Unspecified),
        ("224.0.0.1:80", AddressFault::Multicast),
        ("255.255.255.255:80", AddressFault::Broadcast),
        ("[::]:80", AddressFault::Unspecified),
        ("[ff02::1]:80", AddressFault::Multicast),
        ("[fe80::1]:80", AddressFault::LinkLocal),
        ("[febf::1]:80", AddressFault::LinkLocal),
        ("[::ffff:10.0.0.1]:80", AddressFault::Ipv4Mapped),
    ] {
        let address: SocketAddr = address.parse().expect("a test's address");
        let service = add_service(ServiceKey::Address { protocol: Protocol::Udp, address });
        let error = model.apply(&service, &Limits::default()).expect_err("no host has this address");
        assert_eq!(error, EditError::InvalidAddress { address, fault });
        let method = if address.is_ipv4() { ForwardingMethod::Nat } else { ForwardingMethod::Tunnel };
        assert_eq!(refused(&model, &add_server(key(80), &address.to_string(), method)), "invalid-address");
    }
}

#[test]
fn only_a_tunnel_joins_the_families() {
    let model = two_services();
    let six = "[2001:db8::1]:80";
    assert_eq!(refused(&model, &add_server(key(80), six, ForwardingMethod::Nat)), "address-family");
    assert_eq!(refused(&model, &add_server(key(80), six, ForwardingMethod::Dr)), "address-family");
    let address = six.parse().expect("a test's address");
    let service = ServiceKey::Address { protocol: Protocol::Tcp, address };
    built(&[
        add_service(key(80)),
        add_server(key(80), six, ForwardingMethod::Tunnel),
        add_service(service),
        add_server(service, "[2001:db8::b]:8080", ForwardingMethod::Nat),
        add_server(service, "[2001:db8::b]:80", ForwardingMethod::Dr),
        add_server(service, "10.0.2.1:80", ForwardingMethod::Tunnel),
    ]);
}

#[test]
fn a_service_of_every_port_is_persistent_and_so_are_its_servers_ports() {
    let model = two_services();
    assert_eq!(refused(&model, &add_service(key(0))), "port-zero-not-persistent");
    let persistence = Some(Persistence::default_of(key(0).ip()));
    let (scheduler, flags) = (Scheduler::Wlc, SchedulerFlags::default());
    let service = Edit::AddService { key: key(0), scheduler, flags, persistence, one_packet: false };
    let model = built(&[
        add_service(key(80)),
        service,
        add_server(key(0), "10.0.2.1:0", ForwardingMethod::Nat),
        add_server(key(0), "10.0.2.2:0", ForwardingMethod::Dr),
        add_server(key(0), "10.0.2.3:0", ForwardingMethod::Tunnel),
    ]);
    for method in ForwardingMethod::ALL {
        assert_eq!(refused(&model, &add_server(key(0), "10.0.2.4:80", *method)), "port-not-allowed");
    }
    assert_eq!(refused(&model, &add_server(key(80), "10.0.2.1:0", ForwardingMethod::Nat)), "invalid-address");
    assert_eq!(refused(&model, &persist(key(0), PersistenceEdit::Off)), "port-zero-not-persistent");
}

fn persist(key: ServiceKey, edit: PersistenceEdit) -> Edit {
    Edit::EditService { key, scheduler: None, flags: None, persistence: Some(edit), one_packet: None }
}

#[test]
fn persistence_keeps_to_its_ranges() {
    let model = two_services();
    let on = |timeout, granularity| {
        persist(
            key(80),
            PersistenceEdit::On { timeout: Some(timeout), granularity: Some(granularity), engine: None },
        )
    };
    let second = std::time::Duration::from_secs(1);
    for timeout in [second, Persistence::MAX_TIMEOUT] {
        model.apply(&on(timeout, 1), &Limits::default()).expect("in range");
    }
    for timeout in [std::time::Duration::ZERO, second / 2, second * 3 / 2, Persistence::MAX_TIMEOUT + second]
    {
        assert_eq!(refused(&model, &on(timeout, 32)), "persistence-timeout");
    }
    for granularity in [0, 33, 128, 255] {
        assert_eq!(refused(&model, &on(second, granularity)), "persistence-granularity");
    }
}

#[test]
fn the_sip_engine_is_for_udp_and_may_leave_the_client_out() {
    let by_call = |protocol, granularity| {
        let key = ServiceKey::Address { protocol, address: SocketAddr::from(([10, 0, 0, 1], 5060)) };
        let (scheduler, flags) = (Scheduler::Rr, SchedulerFlags::default());
        let default = Persistence::default_of(key.ip());
        let persistence = Some(Persistence { granularity, engine: PersistenceEngine::Sip, ..default });
        Edit::AddService { key, scheduler, flags, persistence, one_packet: false }
    };
    let model = two_services();
    for protocol in [Protocol::Tcp, Protocol::Sctp] {
        assert_eq!(refused(&model, &by_call(protocol, 32)), "persistence-engine-not-udp");
    }
    let error = model.apply(&by_call(Protocol::Udp, 33), &Limits::default()).expect_err("too many bits");
    assert!(error.to_string().ends_with("it is from 0 to 32"), "{error}");
    let model = model.apply(&by_call(Protocol::Udp, 0), &Limits::default()).expect("of all clients");
    // Without the engine, something has to tell clients apart.
    let key = ServiceKey::Address { protocol: Protocol::Udp, address: ([10, 0, 0, 1], 5060).into() };
    let engine = Some(PersistenceEngine::None);
    let off = persist(key, PersistenceEdit::On { timeout: None, granularity: None, engine });
    assert_eq!(refused(&model, &off), "persistence-granularity");
}

#[test]
fn one_packet_scheduling_is_for_udp() {
    let one_packet = |protocol| {
        let key = ServiceKey::Address { protocol, address: SocketAddr::from(([10, 0, 0, 1], 53)) };
        let (scheduler, flags) = (Scheduler::Rr, SchedulerFlags::default());
        let persistence = Some(Persistence::default_of(key.ip()));
        Edit::AddService { key, scheduler, flags, persistence, one_packet: true }
    };
    let model = two_services();
    assert_eq!(refused(&model, &one_packet(Protocol::Tcp)), "one-packet-not-udp");
    model.apply(&one_packet(Protocol::Udp), &Limits::default()).expect("udp can");
}

#[test]
fn a_service_by_mark_takes_any_port_of_its_family() {
    let mark: ServiceKey = "mark 1".parse().expect("a key");
    let model_after = |model: &Model, edit: &Edit| {
        model.apply(edit, &Limits::default()).unwrap_or_else(|error| panic!("{edit:?}: {error}"))
    };
    let model = model_after(&Model::default(), &add_service(mark));
    let (nat, dr, tunnel) = (ForwardingMethod::Nat, ForwardingMethod::Dr, ForwardingMethod::Tunnel);
    for (address, method) in [
        ("10.0.2.11:0", dr),
        ("10.0.2.12:80", dr),
        ("10.0.2.13:8080", nat),
        ("10.0.2.14:0", nat),
        ("[2001:db8::11]:0", tunnel),
    ] {
        model_after(&model, &add_server(mark, address, method));
    }
    assert_eq!(refused(&model, &add_server(mark, "[2001:db8::11]:0", dr)), "address-family");
    assert_eq!(refused(&model, &add_service(mark)), "service-exists");
    let six: ServiceKey = "mark 1/ipv6".parse().expect("a key");
    let both = model_after(&model, &add_service(six));
    model_after(&both, &add_server(six, "[2001:db8::11]:0", nat));
    assert_eq!(refused(&both, &add_server(six, "10.0.2.11:0", nat)), "address-family");
    let wide = PersistenceEdit::On { timeout: None, granularity: Some(64), engine: None };
    model_after(&both, &persist(six, wide));
    assert_eq!(refused(&both, &persist(mark, wide)), "persistence-granularity");
    let one_packet = Edit::EditService {
        key: mark,
        scheduler: None,
        flags: None,
        persistence: None,
        one_packet: Some(true),
    };
    model_after(&model, &one_packet);
}

#[test]
fn the_lower_threshold_is_not_above_the_upper() {
    let model = two_services();
    let address = "10.0.2.12:80".parse().expect("a test's address");
    let edit = |upper_threshold, lower_threshold| Edit::EditServer {
        service: key(80),
        address,
        weight: None,
        method: None,
        tunnel: None,
        upper_threshold,
        lower_threshold,
    };
    assert_eq!(refused(&model, &edit(Some(5), Some(6))), "thresholds");
    assert_eq!(refused(&model, &edit(None, Some(6))), "thresholds");
    let model = model.apply(&edit(Some(5), Some(5)), &Limits::default()).expect("not above");
    assert_eq!(model.services()[&key(80)].servers[1].thresholds, Thresholds { upper: 5, lower: 5 });
    assert_eq!(refused(&model, &edit(Some(0), None)), "thresholds");
    model.apply(&edit(Some(0), Some(0)), &Limits::default()).expect("no thresholds");
}

#[test]
fn flags_are_for_the_hashing_schedulers() {
    for scheduler in Scheduler::ALL {
        let flags = SchedulerFlags { fallback: false, port: true };
        let edit = add(key(80), *scheduler, flags);
        let result = Model::default().apply(&edit, &Limits::default());
        let hashing = matches!(scheduler, Scheduler::Sh | Scheduler::Mh);
        assert_eq!(result.is_ok(), hashing, "{scheduler}: {result:?}");
    }
}

#[test]
fn the_limits_count_services_and_all_their_servers_together() {
    let limits = Limits { services: 2, servers: 3 };
    let model = two_services();
    let full = model.apply(&add_server(key(443), "10.0.2.1:443", ForwardingMethod::Dr), &limits);
    let full = full.expect("the third of three");
    let error = full.apply(&add_server(key(443), "10.0.2.2:443", ForwardingMethod::Dr), &limits);
    assert_eq!(error, Err(EditError::LimitReached { what: Limited::Servers, limit: 3 }));
    let error = full.apply(&add_service(key(81)), &limits);
    assert_eq!(error, Err(EditError::LimitReached { what: Limited::Services, limit: 2 }));

    let services = || full.services().values().map(|service| Service::clone(service));
    assert_eq!(Model::new(services(), &limits).as_ref(), Ok(&full));
    assert!(Model::new(services(), &Limits { services: 1, ..limits }).is_err());
    assert!(Model::new(services(), &Limits { servers: 2, ..limits }).is_err());
    assert!(Model::new(services().chain(services()), &Limits::default()).is_err());
}

#[test]
fn an_edit_that_changes_nothing_keeps_the_service() {
    let model = two_services();
    let edit = schedule(key(80), Some(Scheduler::Wlc), None);
    let next = model.apply(&edit, &Limits::default()).expect("the edit breaks no rule");
    assert!(Arc::ptr_eq(&model.services()[&key(80)], &next.services()[&key(80)]));
}

fn any_edit() -> impl Strategy<Value = Edit> {
    // So few ports and addresses that edits often meet what earlier ones made.
    let key = (0u16..5).prop_map(key);
    let address = (0u8..4, 0u16..5)
        .prop_map(|(host, port)| SocketAddr::from(([10, 0, 2, host], if port == 4 { 8080 } else { port })));
    let scheduler = proptest::sample::select(Scheduler::ALL);
    let method = proptest::sample::select(ForwardingMethod::ALL);
    let flags = (any::<bool>(), any::<bool>()).prop_map(|(fallback, port)| SchedulerFlags { fallback, port });
    let weight = any::<u16>().prop_map(Weight);
    let parts = (key, address, scheduler, method, flags, weight);
    (0..6, any::<bool>(), any::<bool>(), parts).prop_map(|(which, one, other, parts)| {
        let (key, address, scheduler, method, flags, weight) = parts;
        match which {
            0 => {
                let persistence = one.then_some(Persistence::default_of(key.ip()));
                Edit::AddService { key, scheduler, flags, persistence, one_packet: false }
            }
            1 => schedule(key, one.then_some(scheduler), other.then_some(flags)),
            2 => Edit::DeleteService { key },
            3 => Edit::AddServer {
                service: key,
                server: RealServer {
                    address,
                    method,
                    tunnel: Tunnel::default(),
                    weight,
                    thresholds: Thresholds::default(),
                },
            },
            4 => {
                let (weight, method) = (one.then_some(weight), other.then_some(method));
                serve(key, address, weight, method)
            }
            _ => Edit::DeleteServer { service: key, address },
        }
    })
}

fn key_of(edit: &Edit) -> ServiceKey {
    match *edit {
        Edit::AddService { key, .. } | Edit::EditService { key, .. } | Edit::DeleteService { key } => key,
        Edit::AddServer { service, .. }
        | Edit::EditServer { service, .. }
        | Edit::DeleteServer { service, .. } => service,
    }
}

proptest! {
    #[test]
    fn edits_touch_their_own_service_alone_and_keep_every_rule(
        edits in proptest::collection::vec(any_edit(), 1..60),
    ) {
        let limits = Limits { services: 3, servers: 6 };
        let mut model = Model::default();
        for edit in &edits {
            let before: BTreeMap<ServiceKey, Service> =
                model.services().iter().map(|(key, service)| (*key, Service::clone(service))).collect();
            let result = model.apply(edit, &limits);
            // The old model is as it was, by value.
            prop_assert!(model.services().iter().map(|(key, service)| (key, &**service)).eq(&before));
            let Ok(next) = result else { continue };
            let touched = key_of(edit);
            for (key, service) in model.services().iter().filter(|(key, _)| **key != touched) {
                prop_assert!(Arc::ptr_eq(service, &next.services()[key]));
            }
            prop_assert!(next.services().keys().all(|key| *key == touched || before.contains_key(key)));
            // The next model keeps every rule: made from nothing it is the same.
            let services = next.services().values().map(|service| Service::clone(service));
            prop_assert_eq!(Model::new(services, &limits), Ok(next.clone()));
            prop_assert_eq!(next.server_count(), next.services().values().map(|s| s.servers.len()).sum::<usize>());
            model = next;
        }
    }
}
