//! What holds of every command line and every rule set.

use std::net::IpAddr;
use std::time::Duration;

use control::cli::ipvsadm::{NoNames, SystemNames, parse};
use control::config::Config;
use control::model::{
    ForwardingMethod, GueChecksum, Persistence, PersistenceEngine, RealServer, Scheduler, SchedulerFlags,
    Service, ServiceKey, Thresholds, Tunnel, Weight,
};
use control::protocol::{Counters, ServerStatus, ServiceStatus};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::original::original;
use super::support::{Running, World};
use super::{netlink, session};

/// Words that mean something to ipvsadm, and some that nearly do.
const WORDS: &[&str] = &[
    "-A",
    "-E",
    "-D",
    "-C",
    "-L",
    "-l",
    "-Z",
    "-a",
    "-e",
    "-d",
    "-R",
    "-S",
    "--set",
    "--start-daemon",
    "--stop-daemon",
    "-t",
    "-u",
    "--sctp-service",
    "-f",
    "-6",
    "-s",
    "-p",
    "-M",
    "--pe",
    "-b",
    "-o",
    "-r",
    "-g",
    "-i",
    "-m",
    "-w",
    "-x",
    "-y",
    "--tun-type",
    "--tun-port",
    "--tun-nocsum",
    "--tun-csum",
    "--tun-remcsum",
    "-n",
    "-c",
    "-X",
    "--timeout",
    "--daemon",
    "--stats",
    "--rate",
    "--thresholds",
    "--persistent-conn",
    "--tun-info",
    "--nosort",
    "--sort",
    "--exact",
    "--syncid",
    "--sync-maxlen",
    "--mcast-interface",
    "--mcast-group",
    "--mcast-port",
    "--mcast-ttl",
    "--",
    "-",
    "=",
    "10.0.0.1:80",
    "10.0.0.2",
    "[2001:db8::1]:80",
    "2001:db8::2",
    "10.0.0.1:http",
    "[10.0.0.1]:80",
    "master",
    "backup",
    "gue",
    "gre",
    "ipip",
    "6080",
    "0",
    "1",
    "300",
    "65535",
    "4294967295",
    "-1",
    "rr",
    "sh",
    "mh",
    "sh-port",
    "mh-port",
    "flag-1,flag-2",
    "255.255.255.0",
    "64",
    "224.0.0.81",
    "ff02::1",
    "eth0",
    "sip",
    "-Ln",
    "-Lnc",
    "-mw5",
    "-gx3y2",
    "-p=5",
    "-t10.0.0.9:443",
    "--tcp-service=10.0.0.9:443",
    "--weight=7",
    "--stats=1",
    "-n=1",
    "--nosuch",
    "-q",
    "",
];

fn line_of_words() -> impl Strategy<Value = Vec<String>> {
    let first = select(&WORDS[..15]);
    let service = option::weighted(
        0.7,
        select(vec!["-t 10.0.0.1:80", "-u 10.0.0.1:53", "-f 1", "-t [2001:db8::1]:80"]),
    );
    let server =
        option::weighted(0.4, select(vec!["-r 10.0.0.2", "-r 10.0.0.2:8080", "-r [2001:db8::2]:80"]));
    let rest = vec((select(WORDS), select(ADDRESSES)), 0..6);
    (first, service, server, rest).prop_map(|(first, service, server, rest)| {
        let words = [Some(first), service, server].into_iter().flatten().flat_map(|words| words.split(' '));
        let mut words: Vec<String> = words.map(str::to_owned).collect();
        for (word, address) in rest {
            let is_looked_up = words.last().is_some_and(|last| may_be_looked_up(last, word));
            words.push(if is_looked_up { address } else { word }.to_owned());
        }
        words
    })
}

/// Where an address is wanted and none of these words stands. None of them is a name.
const ADDRESSES: &[&str] = &["10.0.0.3", "255.255.0.0", "64", "0x0a.1", "10.0.0", "0"];

/// Whether behind this option both programs might ask the machine's resolver for the word, which answers one as it likes
/// and is slow to.
fn may_be_looked_up(option: &str, word: &str) -> bool {
    match option {
        "-t" | "-u" | "--sctp-service" | "-r" => {
            !word.starts_with(|c: char| c.is_ascii_digit() || c == '[') && word.parse::<IpAddr>().is_err()
        }
        "-M" => !word.chars().all(|c| c.is_ascii_digit() || c == '.') || word.is_empty(),
        _ => false,
    }
}

proptest! {
    #[test]
    fn no_command_line_panics(words in vec(prop_oneof![select(WORDS).prop_map(str::to_owned), "\\PC{0,12}", any::<String>()], 0..12)) {
        let _ = parse("ipvsadm", &words, &NoNames);
    }

    #[test]
    fn no_likely_command_line_panics(words in line_of_words()) {
        let _ = parse("ipvsadm", &words, &NoNames);
    }
}

/// As many as there is patience for: each is a process.
#[test]
fn command_lines_of_chance_are_understood_as_by_the_original() {
    let Some(original) = original() else { return };
    let mut runner = TestRunner::default();
    for _ in 0..400 {
        let words = line_of_words().new_tree(&mut runner).expect("a line").current();
        // It would read a service from memory that nobody has written.
        let run = original.run(&words, "", "nothing\n");
        match parse("ipvsadm", &words, &SystemNames::default()) {
            Ok(command) => {
                let question: Vec<String> = netlink::question(&command).into_iter().collect();
                assert_eq!(run.asked, question, "{words:?}");
            }
            Err(complaint) => {
                let errors = format!("{}\n", complaint.text);
                let ours = (i32::from(complaint.status), errors.as_str());
                assert_eq!((run.status, run.errors.as_str()), ours, "{words:?}");
                assert_eq!(run.asked, [""; 0], "{words:?}");
            }
        }
    }
}

fn key() -> impl Strategy<Value = ServiceKey> {
    let place = prop_oneof![
        (1u8..=223, 0u8..=255, 1u16..).prop_map(|(a, d, port)| format!("{a}.0.0.{d}:{port}")),
        (0u16.., 1u16..).prop_map(|(low, port)| format!("[2001:db8::{low:x}]:{port}")),
    ];
    let address = (select(vec!["tcp", "udp", "sctp"]), place)
        .prop_map(|(protocol, place)| format!("{protocol} {place}"));
    let mark = (1u32.., select(vec!["", "/ipv6"])).prop_map(|(mark, family)| format!("mark {mark}{family}"));
    prop_oneof![3 => address, 1 => mark].prop_map(|text| text.parse().expect("a key"))
}

fn scheduling() -> impl Strategy<Value = (Scheduler, SchedulerFlags)> {
    let names = "rr wrr lc wlc lblc lblcr dh sh mh sed nq fo ovf twos";
    (select(names.split(' ').collect::<Vec<_>>()), any::<bool>(), any::<bool>()).prop_map(
        |(name, fallback, port)| {
            let scheduler: Scheduler = name.parse().expect(name);
            let flags = SchedulerFlags { fallback, port };
            (
                scheduler,
                if matches!(scheduler, Scheduler::Sh | Scheduler::Mh) {
                    flags
                } else {
                    SchedulerFlags::default()
                },
            )
        },
    )
}

fn tunnel() -> impl Strategy<Value = Tunnel> {
    let checksum = select(vec![GueChecksum::None, GueChecksum::Full, GueChecksum::Remote]);
    prop_oneof![
        Just(Tunnel::Ipip),
        any::<bool>().prop_map(|checksum| Tunnel::Gre { checksum }),
        (1u16.., checksum)
            .prop_map(|(port, checksum)| Tunnel::Gue { port: port.try_into().expect("not 0"), checksum }),
    ]
}

fn servers(key: ServiceKey) -> impl Strategy<Value = Vec<ServerStatus>> {
    let method = select(vec![ForwardingMethod::Nat, ForwardingMethod::Dr, ForwardingMethod::Tunnel]);
    let one = (1u8..=254, any::<bool>(), 1u16.., method, tunnel(), any::<u16>()).prop_map(
        move |(number, other_family, port, method, tunnel, weight)| {
            let by_tunnel = method == ForwardingMethod::Tunnel;
            let ipv4 = key.ip().is_ipv4() != (other_family && by_tunnel);
            let ip = if ipv4 { format!("10.1.0.{number}") } else { format!("2001:db8:1::{number:x}") };
            let free = key.is_mark() || method == ForwardingMethod::Nat;
            let port = if free { port } else { key.port() };
            ServerStatus {
                health: None,
                address: (ip.parse::<IpAddr>().expect("an address"), port).into(),
                method,
                tunnel: if by_tunnel { tunnel } else { Tunnel::Ipip },
                weight: Weight(weight),
                thresholds: Thresholds::default(),
                overloaded: false,
                drain_ends_in_ms: None,
                active: 3,
                inactive: 4,
                counters: Counters { connections: 5, ..Counters::default() },
            }
        },
    );
    vec(one, 0..5).prop_map(|mut servers| {
        servers.sort_by_key(|server| server.address);
        servers.dedup_by_key(|server| server.address);
        servers
    })
}

fn service() -> impl Strategy<Value = ServiceStatus> {
    let bits = prop_oneof![1 => Just(0u8), 4 => 1u8..=128];
    let persistence = option::of((1u32..=2_678_400, bits, any::<bool>()));
    (key(), scheduling(), persistence, any::<bool>()).prop_flat_map(
        |(key, (scheduler, flags), persistence, one_packet)| {
            let udp = key.protocol().is_none_or(|protocol| protocol.to_string() == "udp");
            let persistence = persistence.map(|(seconds, bits, sip)| {
                let engine = if sip && udp { PersistenceEngine::Sip } else { PersistenceEngine::None };
                let timeout = Duration::from_secs(seconds.into());
                let persistence = Persistence { timeout, granularity: 0, engine };
                let granularity = bits.clamp(persistence.least(), Persistence::widest(key.ip()));
                Persistence { granularity, ..persistence }
            });
            servers(key).prop_map(move |servers| ServiceStatus {
                service: key,
                scheduler,
                flags,
                persistence,
                one_packet: one_packet && udp,
                counters: Counters {
                    connections: 7,
                    packets_in: 70,
                    packets_out: 60,
                    bytes_in: 700,
                    bytes_out: 600,
                },
                servers,
            })
        },
    )
}

/// In an order that does not matter.
fn ordered(mut services: Vec<ServiceStatus>) -> Vec<ServiceStatus> {
    services.sort_by_key(|status| status.service);
    services.iter_mut().for_each(|status| status.servers.sort_by_key(|server| server.address));
    services
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_rule_set_survives_being_saved_and_restored(services in vec(service(), 0..12)) {
        let mut services = ordered(services);
        services.dedup_by_key(|status| status.service);
        let before = Running::start_with(World { services: services.clone(), ..World::default() });
        let saved = session::good(&before.path, "-S -n");
        let after = Running::start_with(World::default());
        let output = session::run("ipvsadm", &after.path, "-R", &saved);
        prop_assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        prop_assert_eq!(ordered(after.director.services()), services);
        // The order may be another: ipvsadm's has no beginning, so that it depends on the order in which all is read.
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
        prop_assert_eq!(lines(&session::good(&after.path, "-S -n")), lines(&saved));
    }
}

/// What a configuration says with these services, real servers in no order that matters.
fn configured(tables: &str) -> Vec<Service> {
    let text = format!("[[port]]\ndevice = \"net_tap0,iface=dtap0\"\nmirror = \"none\"\n\n{tables}");
    let config = Config::parse(&text, "saved").unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    let mut services: Vec<Service> =
        config.model.services().values().map(|service| (**service).clone()).collect();
    services.iter_mut().for_each(|service| service.servers.sort_by_key(|server| server.address));
    services
}

fn meant(services: &[ServiceStatus], with_thresholds: bool) -> Vec<Service> {
    let server = |server: &ServerStatus| RealServer {
        address: server.address,
        method: server.method,
        tunnel: server.tunnel,
        weight: server.weight,
        thresholds: if with_thresholds { server.thresholds } else { Thresholds::default() },
    };
    let service = |status: &ServiceStatus| Service {
        key: status.service,
        scheduler: status.scheduler,
        flags: status.flags,
        persistence: status.persistence,
        one_packet: status.one_packet,
        servers: status.servers.iter().map(server).collect(),
    };
    services.iter().map(service).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_rule_set_becomes_a_configuration(
        services in vec(service(), 0..12), thresholds in vec((0u32..1000, 0u32..1000), 5),
    ) {
        let mut services = ordered(services);
        services.dedup_by_key(|status| status.service);
        for (server, (upper, more)) in services.iter_mut().flat_map(|s| &mut s.servers).zip(thresholds.iter().cycle()) {
            server.thresholds = Thresholds { upper: upper + more, lower: *upper };
        }
        let running = Running::start_with(World { services: services.clone(), ..World::default() });
        let saved = session::directorctl(&running.path, "save", "");
        prop_assert_eq!(configured(&saved), meant(&services, true));
        let rules = session::good(&running.path, "-S -n");
        let imported = session::directorctl(&running.path, "import ipvsadm -", &rules);
        prop_assert_eq!(configured(&imported), meant(&services, false));
    }
}
