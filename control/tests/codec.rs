//! Any bytes, any request, any reply through the codec.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use control::drain::End;
use control::health::Standing;
use control::history::Version as Kept;
use control::model::{
    Family, ForwardingMethod, GueChecksum, Mark, Persistence, PersistenceEngine, Protocol, RealServer,
    Scheduler, SchedulerFlags, ServiceKey, SettingValue, Thresholds, Tunnel, Weight,
};
use control::plan::{Difference, Fate, KeyChange, Moves, ServerChange, ServiceChange};
use control::protocol::{
    Applied, CandidateStatus, CaptureEnd, CaptureFilter, CapturePage, CaptureStarted, CapturedFrame,
    CapturedPacket, CheckHealth, ConfigDiff, ConfigHistory, ConnectionFilter, ConnectionList,
    ConnectionStatus, Counters, DrainList, DrainStatus, Envelope, Explanation, ExplanationStep, Framer,
    HealthList, HistogramList, Latency, LatencyBucket, LatencyDistribution, LatencyHistogram, LatencySummary,
    LcoreStats, LeavingPacket, Missing, NextHopStatus, Outcome, PacketSketch, PersistenceChange,
    PersistenceOptions, PortStats, RateList, Rates, ReasonList, ReasonStatus, Refusal, Reply, Request,
    SctpChunk, ServerHealth, ServerRates, ServerStatus, ServiceHealth, ServiceList, ServiceRates,
    ServiceStatus, SettingsList, Stats, TcpFlag, TemplateFilter, TemplateList, TemplateStatus,
    TimeoutsInForce, Version, decode_reply, decode_request, encode_reply, encode_request,
};
use proptest::array::uniform7;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn protocol() -> impl Strategy<Value = Protocol> {
    select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp])
}

fn method() -> impl Strategy<Value = ForwardingMethod> {
    select(vec![ForwardingMethod::Nat, ForwardingMethod::Dr, ForwardingMethod::Tunnel])
}

fn scheduler() -> impl Strategy<Value = Scheduler> {
    select(Scheduler::ALL)
}

fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

prop_compose! {
    fn service()(
        protocol in protocol(), address in address(), mark in option::of(1..=u32::MAX), six: bool,
    ) -> ServiceKey {
        match mark.and_then(std::num::NonZeroU32::new) {
            Some(mark) => {
                let family = if six { Family::Ipv6 } else { Family::Ipv4 };
                ServiceKey::Mark { mark: Mark(mark), family }
            }
            None => ServiceKey::Address { protocol, address },
        }
    }
}

prop_compose! {
    fn flags()(fallback: bool, port: bool) -> SchedulerFlags {
        SchedulerFlags { fallback, port }
    }
}

prop_compose! {
    fn filter()(
        protocol in option::of(protocol()),
        service in option::of(service()),
        server in option::of(address()),
        client: Option<IpAddr>,
        state: Option<String>,
    ) -> ConnectionFilter {
        ConnectionFilter { protocol, service, server, client, state }
    }
}

prop_compose! {
    fn persistence()(timeout: Option<u32>, granularity: Option<u8>, engine in option::of(engine())) -> PersistenceOptions {
        PersistenceOptions { timeout, granularity, engine }
    }
}

fn engine() -> impl Strategy<Value = PersistenceEngine> {
    prop_oneof![Just(PersistenceEngine::None), Just(PersistenceEngine::Sip)]
}

fn change() -> impl Strategy<Value = PersistenceChange> {
    prop_oneof![Just(PersistenceChange::OFF), persistence().prop_map(PersistenceChange::On)]
}

fn tunnel() -> impl Strategy<Value = Tunnel> {
    let checksum = prop_oneof![Just(GueChecksum::None), Just(GueChecksum::Full), Just(GueChecksum::Remote)];
    prop_oneof![
        Just(Tunnel::Ipip),
        any::<bool>().prop_map(|checksum| Tunnel::Gre { checksum }),
        (any::<std::num::NonZeroU16>(), checksum).prop_map(|(port, checksum)| Tunnel::Gue { port, checksum }),
    ]
}

prop_compose! {
    fn thresholds()(upper: u32, lower: u32) -> Thresholds {
        Thresholds { upper, lower }
    }
}

fn settings() -> impl Strategy<Value = BTreeMap<String, SettingValue>> {
    let value =
        prop_oneof![any::<bool>().prop_map(SettingValue::Flag), any::<i64>().prop_map(SettingValue::Number)];
    btree_map(any::<String>(), value, 0..4)
}

fn request() -> impl Strategy<Value = Request> {
    let weight = any::<u16>().prop_map(Weight).boxed();
    let server = (address(), method(), tunnel(), weight.clone(), thresholds()).prop_map(
        |(address, method, tunnel, weight, thresholds)| RealServer {
            address,
            method,
            tunnel,
            weight,
            thresholds,
        },
    );
    prop_oneof![
        (service(), scheduler(), flags(), option::of(persistence()), any::<bool>()).prop_map(
            |(service, scheduler, flags, persistence, one_packet)| Request::ServiceAdd {
                service,
                scheduler,
                flags,
                persistence,
                one_packet
            }
        ),
        (
            service(),
            option::of(scheduler()),
            option::of(flags()),
            option::of(change()),
            any::<Option<bool>>()
        )
            .prop_map(|(service, scheduler, flags, persistence, one_packet)| Request::ServiceEdit {
                service,
                scheduler,
                flags,
                persistence,
                one_packet
            }),
        service().prop_map(|service| Request::ServiceDelete { service }),
        Just(Request::ServiceList {}),
        (service(), server).prop_map(|(service, server)| Request::ServerAdd { service, server }),
        (
            service(),
            address(),
            option::of(weight),
            option::of(method()),
            option::of(tunnel()),
            any::<[Option<u32>; 2]>()
        )
            .prop_map(
                |(service, address, weight, method, tunnel, [upper_threshold, lower_threshold])| {
                    Request::ServerEdit {
                        service,
                        address,
                        weight,
                        method,
                        tunnel,
                        upper_threshold,
                        lower_threshold,
                    }
                }
            ),
        Just(Request::Settings {}),
        settings().prop_map(|settings| Request::SettingsSet { settings }),
        Just(Request::Timeouts {}),
        any::<[Option<u32>; 3]>().prop_map(|[tcp, tcp_fin, udp]| Request::TimeoutsSet { tcp, tcp_fin, udp }),
        (service(), address()).prop_map(|(service, address)| Request::ServerDelete { service, address }),
        (filter(), any::<Option<String>>(), any::<Option<u32>>())
            .prop_map(|(filter, cursor, limit)| Request::ConnectionList { filter, cursor, limit }),
        (option::of(service()), option::of(address()), any::<Option<IpAddr>>(), any::<Option<String>>())
            .prop_map(|(service, server, client, cursor)| {
                let filter = TemplateFilter { service, server, client };
                Request::TemplateList { filter, cursor, limit: Some(10) }
            }),
        Just(Request::Stats {}),
        option::of(service()).prop_map(|service| Request::StatsZero { service }),
        Just(Request::Rates {}),
        Just(Request::Reasons {}),
        Just(Request::Latency {}),
        any::<bool>().prop_map(|failing| Request::Health { failing }),
        (service(), address(), any::<u32>(), any::<bool>(), any::<bool>()).prop_map(
            |(service, address, deadline, keep, active_only)| Request::ServerDrain {
                service,
                address,
                deadline,
                keep,
                active_only
            }
        ),
        (option::of(service()), option::of(address()))
            .prop_map(|(service, address)| Request::ServerDrainStatus { service, address }),
        (service(), address()).prop_map(|(service, address)| Request::ServerDrainCancel { service, address }),
        Just(Request::LatencyHistograms {}),
        (any::<(String, String)>(), any::<Option<u32>>()).prop_map(|((text, source), confirm_within)| {
            Request::ConfigApply { text, source, confirm_within }
        }),
        Just(Request::ConfigConfirm {}),
        any::<Option<u64>>().prop_map(|to| Request::ConfigRollback { to }),
        Just(Request::ConfigHistory {}),
        any::<(Option<String>, Option<String>)>()
            .prop_map(|(text, source)| Request::ConfigDiff { text, source }),
        sketch().prop_map(|packet| Request::Explain { packet }),
        (
            (option::of(protocol()), any::<Option<IpAddr>>(), option::of(service()), option::of(address())),
            any::<(Option<u64>, Option<u32>, Option<u32>)>()
        )
            .prop_map(|((protocol, client, service, server), (count, seconds, snaplen))| {
                let filter = CaptureFilter { protocol, client, service, server };
                Request::CaptureStart { filter, count, seconds, snaplen }
            }),
        any::<u64>().prop_map(|capture| Request::CaptureRead { capture }),
        any::<u64>().prop_map(|capture| Request::CaptureStop { capture }),
        Just(Request::Version {}),
    ]
}

prop_compose! {
    fn sketch()(
        protocol in protocol(), from in address(), to in address(),
        flags in option::of(vec(select(TcpFlag::ALL.to_vec()), 0..4)),
        chunk in option::of(select(SctpChunk::ALL.map(|(chunk, ..)| chunk).to_vec())),
        size: Option<u16>, df: Option<bool>, [ttl, dscp, port]: [Option<u8>; 3], call_id: Option<String>,
    ) -> PacketSketch {
        PacketSketch { protocol, from, to, flags, chunk, size, ttl, df, dscp, port, call_id }
    }
}

prop_compose! {
    fn candidate()(
        address in address(), weight: u16, [active, inactive]: [u64; 2], [upper, lower]: [u32; 2],
        health in option::of(standing()), [overloaded, available, chosen]: [bool; 3],
    ) -> CandidateStatus {
        let (weight, thresholds) = (Weight(weight), Thresholds { upper, lower });
        CandidateStatus { address, weight, active, inactive, thresholds, overloaded, health, available, chosen }
    }
}

prop_compose! {
    fn next_hop()(
        address: IpAddr, interface: String, port: u8, vlans: Vec<u16>, mac: Option<String>, mtu: u16,
    ) -> NextHopStatus {
        NextHopStatus { address, interface, port, vlans, mac, mtu }
    }
}

prop_compose! {
    fn leaving()(
        source: IpAddr, destination: IpAddr, [source_port, destination_port]: [Option<u16>; 2], size: u16,
    ) -> LeavingPacket {
        LeavingPacket { source, source_port, destination, destination_port, size }
    }
}

prop_compose! {
    fn explanation()(
        packet in sketch(), lcore: u8, steps: Vec<(String, String)>, service in option::of(service()),
        connection in option::of(connection()), template in option::of(template()),
        candidates in vec(candidate(), 0..3), (server, method, tunnel) in option::of((address(), method(), tunnel()))
            .prop_map(|reached| (reached.map(|r| r.0), reached.map(|r| r.1), reached.map(|r| r.2))),
        leaves in option::of(leaving()), next_hop in option::of(next_hop()),
        [action, reason, meaning]: [String; 3], missing: Option<[String; 3]>, mark in option::of(1..=u32::MAX),
    ) -> Explanation {
        let step = |(step, finding)| ExplanationStep { step, finding };
        let missing = missing.map(|[code, message, remedy]| Missing { code, message, remedy });
        let mark = mark.and_then(std::num::NonZeroU32::new).map(Mark);
        Explanation {
            packet, assumed: vec![action.clone()], lcore, steps: steps.into_iter().map(step).collect(), mark, service,
            connection, template, candidates, server, method, tunnel, leaves, next_hop, action, reason, meaning, missing,
        }
    }
}

prop_compose! {
    fn counters()(numbers: [u64; 5]) -> Counters {
        let [connections, packets_in, packets_out, bytes_in, bytes_out] = numbers;
        Counters { connections, packets_in, packets_out, bytes_in, bytes_out }
    }
}

fn standing() -> impl Strategy<Value = Standing> {
    use Standing::{Aside, Held, In, Inhibited, Ramping, Removed};
    select(vec![In, Ramping, Held, Inhibited, Removed, Aside])
}

prop_compose! {
    fn server_status()(
        address in address(), method in method(), tunnel in tunnel(), weight: u16, thresholds in thresholds(), overloaded: bool,
        health in option::of(standing()), drain_ends_in_ms: Option<u64>, active: u64, inactive: u64,
        counters in counters(),
    ) -> ServerStatus {
        let weight = Weight(weight);
        ServerStatus { address, method, tunnel, weight, thresholds, overloaded, health, drain_ends_in_ms, active, inactive, counters }
    }
}

prop_compose! {
    fn service_status()(
        service in service(), scheduler in scheduler(), flags in flags(), seconds: Option<u32>, granularity: u8,
        one_packet: bool, engine in engine(), counters in counters(), servers in vec(server_status(), 0..4),
    ) -> ServiceStatus {
        let timeout = seconds.map(|seconds| std::time::Duration::from_secs(seconds.into()));
        let persistence = timeout.map(|timeout| Persistence { timeout, granularity, engine });
        ServiceStatus { service, scheduler, flags, persistence, one_packet, counters, servers }
    }
}

prop_compose! {
    fn connection()(
        protocol in protocol(), client in address(), virtual_address in address(), server in address(),
        method in method(), state: String, expires_in_ms: u64, lcore: u8,
    ) -> ConnectionStatus {
        ConnectionStatus { protocol, client, virtual_address, server, method, state, expires_in_ms, lcore }
    }
}

prop_compose! {
    fn template()(
        service in service(), client: IpAddr, server in address(), assured: bool, connections: u32, expires_in_ms: u64,
    ) -> TemplateStatus {
        TemplateStatus { service, client, server, assured, connections, expires_in_ms }
    }
}

fn counts() -> impl Strategy<Value = BTreeMap<String, u64>> {
    btree_map(any::<String>(), any::<u64>(), 0..4)
}

prop_compose! {
    fn lcore()(
        lcore: u8, cpu: u32, conserved: bool, reasons in counts(), first in uniform7(any::<u64>()),
        second in uniform7(any::<u64>()),
    ) -> LcoreStats {
        let [received, taken_over, forwarded, handed_over, punted, dropped, held] = first;
        let [from_kernel, from_kernel_lost, connections, capacity, loops, busy_loops, pieces] = second;
        LcoreStats {
            lcore, cpu, received, taken_over, forwarded, handed_over, punted, dropped, held, pieces, from_kernel,
            from_kernel_lost, connections, capacity, loops, busy_loops, conserved, reasons,
        }
    }
}

prop_compose! {
    fn port()(
        port: u16, device: String, mirror: Option<String>, mac: String, rss: String, numbers: [u64; 8],
        wrong_lcore in vec(any::<u64>(), 0..4),
    ) -> PortStats {
        let [rx_packets, rx_bytes, tx_packets, tx_bytes, rx_missed, rx_errors, rx_no_mbuf, tx_errors] = numbers;
        PortStats {
            port, device, mirror, mac, rss, rx_packets, rx_bytes, tx_packets, tx_bytes, rx_missed, rx_errors, rx_no_mbuf,
            tx_errors, wrong_lcore,
        }
    }
}

prop_compose! {
    fn summary()(lcore: Option<u8>, numbers: [u64; 9]) -> LatencySummary {
        let [count, min_ns, mean_ns, p50_ns, p90_ns, p99_ns, p99_9_ns, p99_99_ns, max_ns] = numbers;
        LatencySummary { lcore, count, min_ns, mean_ns, p50_ns, p90_ns, p99_ns, p99_9_ns, p99_99_ns, max_ns }
    }
}

prop_compose! {
    fn distribution()(lcore: u8, sum_ns: u64, buckets: Vec<(u64, u64)>) -> LatencyDistribution {
        let buckets = buckets.into_iter().map(|(below_ns, count)| LatencyBucket { below_ns, count }).collect();
        LatencyDistribution { lcore, sum_ns, buckets }
    }
}

prop_compose! {
    fn reason()(reason: String, dropped: bool, meaning: String) -> ReasonStatus {
        let outcome = if dropped { Outcome::Dropped } else { Outcome::HandedOver };
        ReasonStatus { reason, outcome, meaning }
    }
}

prop_compose! {
    fn rates()(numbers: [u64; 5]) -> Rates {
        let [cps, inpps, outpps, inbps, outbps] = numbers;
        Rates { cps, inpps, outpps, inbps, outbps }
    }
}

prop_compose! {
    fn service_rates()(
        service in service(), rates in rates(), servers in vec((address(), rates()), 0..3),
    ) -> ServiceRates {
        let servers = servers.into_iter().map(|(address, rates)| ServerRates { address, rates }).collect();
        ServiceRates { service, rates, servers }
    }
}

prop_compose! {
    fn check_health()(
        check: String, up: bool, last: Option<bool>, latency_us: Option<u64>, error: Option<String>,
        error_ms: Option<u64>, numbers: [u64; 3],
    ) -> CheckHealth {
        let [since_ms, passed, failed] = numbers;
        CheckHealth { check, up, since_ms, last, latency_us, error, error_ms, passed, failed }
    }
}

prop_compose! {
    fn server_health()(
        address in address(), up: bool, since_ms: u64, standing in standing(), weight: u16,
        checks in vec(check_health(), 0..3),
    ) -> ServerHealth {
        ServerHealth { address, up, since_ms, standing, effective_weight: Weight(weight), checks }
    }
}

prop_compose! {
    fn service_health()(
        service in service(), quorum: u32, hysteresis: u32, has_quorum: bool, live_weight: u64,
        sorry_server in option::of(address()), servers in vec(server_health(), 0..3),
    ) -> ServiceHealth {
        ServiceHealth { service, quorum, hysteresis, has_quorum, live_weight, sorry_server, servers }
    }
}

prop_compose! {
    fn drain()(
        service in service(), server in address(), weight: u16, flags: [bool; 3], numbers: [u64; 5],
        estimate_ms: Option<u64>, ended_ms: Option<u64>,
        ended in option::of(select(vec![End::Drained, End::Deadline, End::Cancelled, End::Edited, End::Deleted])),
    ) -> DrainStatus {
        let [keep, active_only, persistent_clients] = flags;
        let [begun_ms, deadline_ms, at_first, active, inactive] = numbers;
        DrainStatus {
            service, server, weight: Weight(weight), keep, active_only, begun_ms, deadline_ms, at_first, active, inactive,
            estimate_ms, persistent_clients, ended, ended_ms,
        }
    }
}

fn keys() -> impl Strategy<Value = Vec<KeyChange>> {
    let key = any::<(String, Option<String>, Option<String>)>();
    vec(key.prop_map(|(key, from, to)| KeyChange { key, from, to }), 0..3)
}

fn fate() -> impl Strategy<Value = Fate> {
    select(vec![Fate::Added, Fate::Removed, Fate::Changed])
}

prop_compose! {
    fn moves()(connections: u64, lose_server: u64, clients_per_mille: Option<u16>, new_per_mille: Option<u16>) -> Moves {
        Moves { connections, lose_server, clients_per_mille, new_per_mille }
    }
}

prop_compose! {
    fn server_change()(
        address in address(), change in fate(), keys in keys(), connections: Option<u64>,
    ) -> ServerChange {
        ServerChange { address, change, keys, connections }
    }
}

prop_compose! {
    fn service_change()(
        service in service(), change in fate(), keys in keys(), servers in vec(server_change(), 0..3),
        moves in option::of(moves()),
    ) -> ServiceChange {
        ServiceChange { service, change, keys, servers, moves }
    }
}

prop_compose! {
    fn difference()(keys in keys(), services in vec(service_change(), 0..3)) -> Difference {
        Difference { keys, services }
    }
}

prop_compose! {
    fn kept()(words: [String; 3], version: u64, time_ms: u64, after: Option<u64>, confirmed: bool) -> Kept {
        let [who, source, summary] = words;
        Kept { version, time_ms, who, source, summary, after, confirmed }
    }
}

prop_compose! {
    fn captured_frame()(port: String, len: u32, bytes: String) -> CapturedFrame {
        CapturedFrame { port, len, bytes }
    }
}

prop_compose! {
    fn captured_packet()(
        seconds: u64, nanoseconds: u32, lcore: u8, reason: String, came in captured_frame(),
        left in option::of(captured_frame()),
    ) -> CapturedPacket {
        CapturedPacket { seconds, nanoseconds, lcore, reason, came, left }
    }
}

prop_compose! {
    fn capture_page()(
        packets in vec(captured_packet(), 0..3), captured: u64, lost: u64,
        ended in option::of(select(vec![CaptureEnd::Count, CaptureEnd::Seconds, CaptureEnd::Stopped])),
    ) -> CapturePage {
        CapturePage { packets, captured, lost, ended }
    }
}

fn reply() -> impl Strategy<Value = Reply> {
    let parts =
        (any::<u64>(), any::<bool>(), counters(), rates(), vec(lcore(), 0..3), vec(port(), 0..3), counts());
    let stats = parts.prop_map(|(uptime_ms, conserved, counters, rates, lcores, ports, slow_path)| Stats {
        uptime_ms,
        conserved,
        counters,
        rates,
        lcores,
        ports,
        slow_path,
    });
    prop_oneof![
        Just(Reply::DONE),
        vec(service_status(), 0..4).prop_map(|services| Reply::ServiceList(ServiceList { services })),
        (vec(connection(), 0..4), any::<Option<String>>())
            .prop_map(|(connections, next)| Reply::ConnectionList(ConnectionList { connections, next })),
        (vec(template(), 0..4), any::<Option<String>>())
            .prop_map(|(templates, next)| Reply::TemplateList(TemplateList { templates, next })),
        stats.prop_map(Reply::Stats),
        (rates(), vec(service_rates(), 0..3))
            .prop_map(|(all, services)| Reply::Rates(RateList { all, services })),
        settings().prop_map(|settings| Reply::Settings(SettingsList { settings })),
        any::<[u64; 3]>().prop_map(|[tcp, tcp_fin, udp]| Reply::Timeouts(TimeoutsInForce {
            tcp,
            tcp_fin,
            udp
        })),
        explanation().prop_map(|explanation| Reply::Explanation(Box::new(explanation))),
        any::<(u64, u32)>()
            .prop_map(|(capture, snaplen)| Reply::CaptureStarted(CaptureStarted { capture, snaplen })),
        capture_page().prop_map(Reply::CapturePage),
        vec(service_health(), 0..3).prop_map(|health| Reply::Health(HealthList { health })),
        (any::<u64>(), vec(any::<(u8, String)>(), 0..3)).prop_map(|(uptime_ms, histograms)| {
            let histograms =
                histograms.into_iter().map(|(lcore, histogram)| LatencyHistogram { lcore, histogram });
            Reply::Histograms(HistogramList { uptime_ms, histograms: histograms.collect() })
        }),
        vec(drain(), 0..3).prop_map(|drains| Reply::Drains(DrainList { drains })),
        (difference(), keys()).prop_map(|(difference, needs_restart)| Reply::ConfigDiff(ConfigDiff {
            difference,
            needs_restart
        })),
        (any::<Option<u64>>(), difference(), any::<Option<u32>>()).prop_map(
            |(version, difference, confirm_within)| Reply::Applied(Applied {
                version,
                difference,
                confirm_within
            })
        ),
        (vec(kept(), 0..3), any::<Option<u64>>(), any::<Option<u64>>()).prop_map(
            |(versions, current, taken_back_in_ms)| Reply::ConfigHistory(ConfigHistory {
                versions,
                current,
                taken_back_in_ms
            })
        ),
        (vec(summary(), 0..3), summary(), vec(distribution(), 0..3))
            .prop_map(|(lcores, all, distributions)| Reply::Latency(Latency { lcores, all, distributions })),
        vec(reason(), 0..3).prop_map(|reasons| Reply::Reasons(ReasonList { reasons })),
        any::<(String, String, u32)>().prop_map(|(director, dpdk, protocol)| Reply::Version(Version {
            director,
            dpdk,
            protocol
        })),
    ]
}

fn body(line: &[u8]) -> &[u8] {
    let body = line.strip_suffix(b"\n").expect("a line ends with a newline");
    assert!(!body.contains(&b'\n'), "a line has one newline");
    body
}

proptest! {
    #[test]
    fn any_bytes_are_understood_or_refused(line: Vec<u8>) {
        // Random bytes hold no whole request.
        let rejected = decode_request(&line).expect_err("no request");
        prop_assert!(!rejected.refusal.message.is_empty());
        prop_assert!(decode_reply(&line).is_err());
    }

    #[test]
    fn a_damaged_request_is_understood_or_refused(
        request in request(), id: u64, at: prop::sample::Index, byte: u8, cut: prop::sample::Index,
    ) {
        let mut line = body(&encode_request(id, &request)).to_vec();
        let at = at.index(line.len());
        line[at] = byte;
        if let Err(rejected) = decode_request(&line) {
            prop_assert!(!rejected.refusal.code.is_empty());
        }
        line.truncate(cut.index(line.len()));
        prop_assert!(decode_request(&line).is_err(), "half a request is none");
    }

    #[test]
    fn every_request_survives_the_way(id: u64, request in request()) {
        prop_assert!(Request::NAMES.contains(&request.name()));
        let line = encode_request(id, &request);
        prop_assert_eq!(decode_request(body(&line)), Ok(Envelope { id, request }));
    }

    #[test]
    fn every_reply_survives_the_way(id: u64, reply in reply()) {
        let line = encode_reply(Some(id), &Ok(reply.clone()));
        let got = decode_reply(body(&line)).expect("a reply");
        prop_assert_eq!(got.id, Some(id));
        prop_assert_eq!(serde_json::from_value::<Reply>(got.result.expect("ok")).expect("a reply"), reply);
    }

    #[test]
    fn every_refusal_survives_the_way(id: Option<u64>, code: String, message: String, remedy: String) {
        let refusal = Refusal::new(code, message, remedy);
        let got = decode_reply(body(&encode_reply(id, &Err(refusal.clone())))).expect("a reply");
        prop_assert_eq!((got.id, got.result), (id, Err(refusal)));
    }

    #[test]
    fn lines_do_not_depend_on_how_bytes_arrive(
        bytes in vec(prop_oneof![3 => any::<u8>(), 1 => Just(b'\n')], 0..300), pieces in vec(1usize..20, 1..300),
    ) {
        let mut framer = Framer::new(1000);
        let mut got: Vec<Vec<u8>> = Vec::new();
        let mut rest = bytes.as_slice();
        for piece in pieces.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at((*piece).min(rest.len()));
            framer.push(now);
            rest = later;
            while let Some(line) = framer.next_line().expect("short lines") {
                got.push(line.to_vec());
            }
        }
        let mut want: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        prop_assert_eq!(framer.pending(), want.pop().expect("what follows the last newline").len());
        prop_assert_eq!(got, want);
    }

    #[test]
    fn a_framer_holds_no_more_than_its_limit(lengths in vec(0usize..200, 1..50)) {
        let mut framer = Framer::new(100);
        for length in lengths {
            framer.push(&vec![b'x'; length]);
            match framer.next_line() {
                Ok(line) => prop_assert!(line.is_none()),
                Err(error) => {
                    prop_assert!(framer.pending() > 100 && error.limit == 100);
                    break;
                }
            }
            prop_assert!(framer.pending() <= 100);
        }
    }
}

#[test]
fn the_names_of_requests_are_those_of_the_variants() {
    for name in Request::NAMES {
        let line = format!("{{\"version\":1,\"id\":1,\"request\":\"{name}\"}}");
        match decode_request(line.as_bytes()) {
            Ok(envelope) => assert_eq!(envelope.request.name(), name),
            // A missing field, not an unknown variant.
            Err(rejected) => {
                assert!(rejected.refusal.message.contains("missing field"), "{:?}", rejected.refusal);
            }
        }
    }
}

#[test]
fn changes_are_the_requests_that_add_edit_or_delete() {
    for (line, changes) in [
        (
            r#"{"version":1,"id":1,"request":"service.delete","service":{"protocol":"tcp","address":"10.99.0.1:80"}}"#,
            true,
        ),
        (
            r#"{"version":1,"id":1,"request":"server.add","service":{"protocol":"tcp","address":"10.99.0.1:80"},"server":{"address":"10.0.2.11:80"}}"#,
            true,
        ),
        (r#"{"version":1,"id":1,"request":"connection.list"}"#, false),
        (r#"{"version":1,"id":1,"request":"server.drain.status"}"#, false),
        (r#"{"version":1,"id":1,"request":"settings.set","settings":{"sloppy_tcp":true}}"#, true),
        (r#"{"version":1,"id":1,"request":"timeouts.set","udp":60}"#, true),
        (r#"{"version":1,"id":1,"request":"stats.zero"}"#, true),
        (r#"{"version":1,"id":1,"request":"rates"}"#, false),
        (r#"{"version":1,"id":1,"request":"settings"}"#, false),
        (r#"{"version":1,"id":1,"request":"timeouts"}"#, false),
        (r#"{"version":1,"id":1,"request":"stats"}"#, false),
    ] {
        assert_eq!(decode_request(line.as_bytes()).expect("a request").request.changes(), changes, "{line}");
    }
}

#[test]
fn a_service_is_told_by_address_or_by_mark_and_not_by_both() {
    let line = |service: &str| {
        let line = format!(r#"{{"version":1,"id":1,"request":"service.delete","service":{{{service}}}}}"#);
        decode_request(line.as_bytes()).map(|envelope| envelope.request)
    };
    let deleted = |text: &str| Request::ServiceDelete { service: text.parse().expect("a key") };
    assert_eq!(line(r#""mark":1"#).expect("a request"), deleted("mark 1"));
    assert_eq!(line(r#""mark":1,"family":"ipv6""#).expect("a request"), deleted("mark 1/ipv6"));
    for (service, message) in [
        ("", "missing `protocol` and `address`, or `mark`"),
        (r#""protocol":"tcp""#, "missing field `address`"),
        (r#""address":"10.99.0.1:80""#, "missing field `protocol`"),
        (r#""mark":1,"protocol":"tcp""#, "has neither `protocol` nor `address`"),
        (r#""protocol":"tcp","address":"10.99.0.1:80","family":"ipv4""#, "`family` goes with `mark` only"),
        (r#""mark":0"#, "nonzero"),
        (r#""mark":1,"familly":"ipv6""#, "unknown field `familly`"),
    ] {
        let refusal = line(service).expect_err(service).refusal;
        assert!(refusal.message.contains(message), "{service}: {}", refusal.message);
    }
}

#[test]
fn deep_nesting_is_refused_without_a_deep_stack() {
    let line = [vec![b'['; 1 << 20], vec![b']'; 1 << 20]].concat();
    assert_eq!(decode_request(&line).expect_err("no object").refusal.code, "not-json");
    let line = format!("{{\"version\":{}", "[".repeat(1 << 19));
    assert_eq!(decode_request(line.as_bytes()).expect_err("too deep").refusal.code, "not-json");
}
