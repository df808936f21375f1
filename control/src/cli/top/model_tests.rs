use super::*;
use crate::health::Standing;
use crate::model::{ForwardingMethod, Scheduler, SchedulerFlags, Thresholds, Tunnel, Weight};
use crate::protocol::{Counters, Latency, RateList, Rates, ServerStatus, ServiceList, ServiceRates};

const REASONS: &str = include_str!("../../../../docs/reasons.md");

/// A director that has run so many seconds at a steady pace, with two services.
pub(in crate::cli::top) fn sample(seconds: u64) -> Sample {
    let lcore = LcoreStats {
        lcore: 1,
        cpu: 3,
        received: 2_000 * seconds,
        forwarded: 1_990 * seconds,
        dropped: 7 * seconds,
        connections: 250,
        capacity: 1_000,
        loops: 100 * seconds,
        busy_loops: 25 * seconds,
        conserved: true,
        reasons: [("request_nat".to_owned(), 1_990 * seconds), ("tx_full".to_owned(), 7 * seconds)].into(),
        ..LcoreStats::default()
    };
    let port = PortStats {
        device: "net_tap0,iface=dtap0".to_owned(),
        mirror: Some("dir0".to_owned()),
        rx_packets: 2_000 * seconds,
        rx_bytes: 125_000 * seconds,
        ..PortStats::default()
    };
    let server = |address: &str, health, active| ServerStatus {
        address: address.parse().expect("an address"),
        method: ForwardingMethod::Nat,
        tunnel: Tunnel::default(),
        weight: Weight(1),
        thresholds: Thresholds::default(),
        overloaded: false,
        health,
        drain_ends_in_ms: None,
        active,
        inactive: 2,
        counters: Counters::default(),
    };
    let service = |name: &str, servers| ServiceStatus {
        service: name.parse().expect("a service"),
        scheduler: Scheduler::Wlc,
        flags: SchedulerFlags::default(),
        persistence: None,
        one_packet: false,
        counters: Counters::default(),
        servers,
    };
    let services = vec![
        service(
            "tcp 10.99.0.1:80",
            vec![
                server("10.0.2.11:8080", Some(Standing::In), 12),
                server("10.0.2.12:8080", Some(Standing::Inhibited), 3),
            ],
        ),
        service("udp 10.99.0.2:53", vec![server("10.0.2.13:53", None, 0)]),
    ];
    let rates = |name: &str, cps| ServiceRates {
        service: name.parse().expect("a service"),
        rates: Rates { cps, inpps: 1_234_567, ..Rates::default() },
        servers: Vec::new(),
    };
    let rates = RateList {
        all: Rates::default(),
        services: vec![rates("tcp 10.99.0.1:80", 40), rates("udp 10.99.0.2:53", 900)],
    };
    let summary = LatencySummary { lcore: Some(1), count: 10, p50_ns: 1_400, ..LatencySummary::default() };
    Sample {
        stats: Stats {
            uptime_ms: seconds * 1_000,
            conserved: true,
            counters: Counters {
                connections: 50 * seconds,
                packets_in: 1_000 * seconds,
                packets_out: 900 * seconds,
                ..Counters::default()
            },
            lcores: vec![lcore],
            ports: vec![port],
            ..Stats::default()
        },
        latency: Latency {
            lcores: vec![summary],
            all: LatencySummary { lcore: None, ..summary },
            distributions: Vec::new(),
        },
        services: Some((ServiceList { services }, rates)),
    }
}

/// What is known after these seconds of it.
pub(in crate::cli::top) fn known(seconds: &[u64]) -> Model {
    let mut model = Model::default();
    seconds.iter().for_each(|second| model.take(News::Sample(Box::new(sample(*second)))));
    model
}

/// A row as it is shown.
fn row(model: &Model, view: View, number: usize) -> Vec<String> {
    let grid = model.grid(view);
    let row = &grid.rows[number];
    assert_eq!(row.len(), grid.titles.len(), "{view:?}");
    row.iter().map(|cell| cell.shown().to_owned()).collect()
}

#[test]
fn rates_are_by_the_directors_clock() {
    let model = known(&[100, 102]);
    assert_eq!(
        row(&model, View::Lcores, 0),
        ["1", "3", "2000", "1990", "0", "7", "0", "25.0", "250", "25.0", "yes"]
    );
    assert_eq!(row(&model, View::Ports, 0)[..5], ["0", "dir0", "2000", "1.00M", "0"]);
    assert_eq!((model.packets().back(), model.connections().back()), (Some(&1_900), Some(&50)));
    assert!(model.headline().contains("up 01:42, 250 connections, 7 packets/s dropped, every packet"));
}

#[test]
fn what_was_forwarded_is_no_drop() {
    let model = known(&[100, 101]);
    assert_eq!(model.grid(View::Drops).rows.len(), 1);
    assert_eq!(row(&model, View::Drops, 0), ["tx_full", "7", "707"]);
}

#[test]
fn services_and_servers_say_how_they_are() {
    let model = known(&[100]);
    assert_eq!(
        row(&model, View::Services, 0),
        ["TCP 10.99.0.1:80", "wlc", "1/2", "15", "4", "40", "1.23M", "0", "0", "0"]
    );
    assert_eq!(row(&model, View::Servers, 1)[8..], ["0", "inhibited"]);
    assert_eq!(row(&model, View::Latency, 1)[..3], ["all", "10", "1.4 us"]);
}

#[test]
fn a_director_that_is_another_one_begins_anew() {
    let mut model = known(&[100, 101, 102]);
    assert_eq!(model.packets().len(), 2);
    model.take(News::Away("no director listens".to_owned()));
    assert_eq!(model.presence, Presence::Away("no director listens".to_owned()));
    assert_eq!(model.grid(View::Lcores).rows.len(), 1, "what was known last stays in sight");
    model.take(News::Sample(Box::new(sample(3))));
    assert_eq!(model.presence, Presence::Here);
    assert!(model.packets().is_empty());
    assert_eq!(row(&model, View::Lcores, 0)[2], "0", "nothing is known of its pace yet");
}

#[test]
fn services_that_were_not_asked_for_stay_as_they_were() {
    let mut model = known(&[100]);
    model.take(News::Sample(Box::new(Sample { services: None, ..sample(101) })));
    assert_eq!(model.grid(View::Services).rows.len(), 2);
}

#[test]
fn nothing_is_shown_of_nothing() {
    let model = Model::default();
    assert_eq!(model.headline(), "");
    assert!(View::ALL.iter().all(|view| model.grid(*view) == Grid::default()));
}

#[test]
fn a_history_has_its_bounds() {
    let seconds: Vec<u64> = (1..=HISTORY as u64 + 20).collect();
    assert_eq!(known(&seconds).packets().len(), HISTORY);
}

#[test]
fn the_reasons_that_are_no_drops_are_those_of_the_table() {
    let rows = REASONS.lines().filter_map(|line| line.strip_prefix("| `"));
    let told: Vec<(&str, &str)> = rows.filter_map(|row| row.split_once("` | ")).collect();
    assert!(told.len() > 40);
    for (reason, what) in told {
        assert_eq!(!what.starts_with("dropped"), NOT_DROPPED.contains(&reason), "{reason}");
    }
}
