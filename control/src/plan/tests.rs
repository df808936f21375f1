use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::config::keys::KEYS;
use crate::health::{Check, Kind, Policy};
use crate::model::{
    Change, ForwardingMethod, Limits, Mark, MarkRule, Model, Persistence, Protocol, RealServer, Scheduler,
    SchedulerFlags, Service, ServiceKey, SettingValue, Thresholds, Timeouts, Tunnel, Weight,
};

const PORT: &str = "[[port]]\ndevice = \"0000:03:00.0\"\nmirror = \"dir0\"\n";

/// Every key with two values of it: what stands before tables, tables, and the whole service if that is other than
/// the usual one.
#[rustfmt::skip]
const EVERY_KEY: &[(&str, &str, &str, &str)] = &[
    ("", "socket", "socket = '/a'\n", "socket = '/b'\n"),
    ("", "history", "history = '/a'\n", "history = '/b'\n"),
    ("", "ftp_ports", "ftp_ports = [21]\n", "ftp_ports = [2121]\n"),
    ("dpdk", "hugepages", "dpdk.hugepages = 'yes'\n", "dpdk.hugepages = 'no'\n"),
    ("dpdk", "memory_mb", "dpdk.memory_mb = 100\n", "dpdk.memory_mb = 101\n"),
    ("dpdk", "mbufs", "dpdk.mbufs = 1000\n", ""),
    ("dpdk", "eal_args", "dpdk.eal_args = ['-a']\n", "dpdk.eal_args = ['-b']\n"),
    ("lcores", "cpus", "lcores.cpus = [1]\n", "lcores.cpus = [2]\n"),
    ("lcores", "idle", "lcores.idle = 'poll'\n", "lcores.idle = 'sleep'\n"),
    ("connections", "capacity", "connections.capacity = 5\nconnections.ipv6_capacity = 5\n", "connections.capacity = 6\nconnections.ipv6_capacity = 5\n"),
    ("connections", "ipv6_capacity", "connections.ipv6_capacity = 5\n", "connections.ipv6_capacity = 6\n"),
    ("connections", "templates", "connections.templates = 5\n", "connections.templates = 6\n"),
    ("limits", "services", "limits.services = 5\n", "limits.services = 6\n"),
    ("limits", "servers", "limits.servers = 5\n", "limits.servers = 6\n"),
    ("timeouts", "tcp", "timeouts.tcp = 5\n", "timeouts.tcp = 6\n"),
    ("timeouts", "tcp_fin", "timeouts.tcp_fin = 5\n", "timeouts.tcp_fin = 6\n"),
    ("timeouts", "udp", "timeouts.udp = 5\n", "timeouts.udp = 6\n"),
    ("port", "device", "@[[port]]\ndevice = '0000:03:00.0'\nmirror = 'dir0'\n", "@[[port]]\ndevice = '0000:04:00.0'\nmirror = 'dir0'\n"),
    ("port", "mirror", "@[[port]]\ndevice = '0000:03:00.0'\nmirror = 'dir0'\n", "@[[port]]\ndevice = '0000:03:00.0'\nmirror = 'none'\n"),
    ("port", "mtu", "@mtu = 1400\n", "@mtu = 1500\n"),
    ("port", "rx_descriptors", "@rx_descriptors = 64\n", "@rx_descriptors = 128\n"),
    ("port", "tx_descriptors", "@tx_descriptors = 64\n", "@tx_descriptors = 128\n"),
    ("port", "rss", "@rss = 'source'\n", "@rss = 'destination'\n"),
    ("mark", "mark", "@[[mark]]\nmark = 1\ndscp = 1\n", "@[[mark]]\nmark = 2\ndscp = 1\n"),
    ("mark", "protocol", "@[[mark]]\nmark = 1\nprotocol = 'tcp'\n", "@[[mark]]\nmark = 1\nprotocol = 'udp'\n"),
    ("mark", "sources", "@[[mark]]\nmark = 1\nsources = ['10.0.0.1']\n", "@[[mark]]\nmark = 1\nsources = ['10.0.0.2']\n"),
    ("mark", "destinations", "@[[mark]]\nmark = 1\ndestinations = ['10.0.0.1']\n", "@[[mark]]\nmark = 1\ndestinations = ['10.0.0.2']\n"),
    ("mark", "source_ports", "@[[mark]]\nmark = 1\nsource_ports = ['1']\n", "@[[mark]]\nmark = 1\nsource_ports = ['2']\n"),
    ("mark", "destination_ports", "@[[mark]]\nmark = 1\ndestination_ports = ['1']\n", "@[[mark]]\nmark = 1\ndestination_ports = ['2']\n"),
    ("mark", "ingress", "@[[mark]]\nmark = 1\ndscp = 1\ningress = 0\n", "@[[mark]]\nmark = 1\ndscp = 1\n"),
    ("mark", "dscp", "@[[mark]]\nmark = 1\ndscp = 1\n", "@[[mark]]\nmark = 1\ndscp = 2\n"),
    ("service", "mark", "=mark = 1\n", "=mark = 2\n"),
    ("service", "family", "=mark = 1\n", "=mark = 1\nfamily = 'ipv6'\n"),
    ("service", "protocol", "=protocol = 'tcp'\naddress = '10.99.0.1:80'\n", "=protocol = 'udp'\naddress = '10.99.0.1:80'\n"),
    ("service", "address", "=protocol = 'tcp'\naddress = '10.99.0.1:80'\n", "=protocol = 'tcp'\naddress = '10.99.0.1:81'\n"),
    ("service", "scheduler", "+scheduler = 'rr'\n", "+scheduler = 'wrr'\n"),
    ("service", "fallback", "+scheduler = 'sh'\nfallback = true\n", "+scheduler = 'sh'\n"),
    ("service", "hash_port", "+scheduler = 'sh'\nhash_port = true\n", "+scheduler = 'sh'\n"),
    ("service", "persistence_timeout", "+persistence_timeout = 5\n", "+persistence_timeout = 6\n"),
    ("service", "persistence_granularity", "+persistence_granularity = 5\n", "+persistence_granularity = 6\n"),
    ("service", "persistence_engine", "=protocol = 'udp'\naddress = '10.99.0.1:80'\npersistence_timeout = 5\npersistence_engine = 'sip'\n", "=protocol = 'udp'\naddress = '10.99.0.1:80'\npersistence_timeout = 5\n"),
    ("service", "one_packet", "=protocol = 'udp'\naddress = '10.99.0.1:80'\none_packet = true\n", "=protocol = 'udp'\naddress = '10.99.0.1:80'\n"),
    ("service", "on_failure", "+on_failure = 'remove'\n[[service.check]]\nkind = 'tcp'\n", "+[[service.check]]\nkind = 'tcp'\n"),
    ("service", "slow_start", "+slow_start = 5\n[[service.check]]\nkind = 'tcp'\n", "+[[service.check]]\nkind = 'tcp'\n"),
    ("service", "quorum", "+quorum = 5\n[[service.check]]\nkind = 'tcp'\n", "+[[service.check]]\nkind = 'tcp'\n"),
    ("service", "hysteresis", "+quorum = 5\nhysteresis = 1\n[[service.check]]\nkind = 'tcp'\n", "+quorum = 5\n[[service.check]]\nkind = 'tcp'\n"),
    ("service", "max_out", "+max_out = 5\n[[service.check]]\nkind = 'tcp'\n", "+[[service.check]]\nkind = 'tcp'\n"),
    ("service", "sorry_server", "+sorry_server = '10.0.2.9'\n[[service.check]]\nkind = 'tcp'\n", "+[[service.check]]\nkind = 'tcp'\n"),
    ("service", "sorry_server_method", "+sorry_server = '10.0.2.9'\nsorry_server_method = 'nat'\n[[service.check]]\nkind = 'tcp'\n", "+sorry_server = '10.0.2.9'\n[[service.check]]\nkind = 'tcp'\n"),
    ("service", "check", "+[[service.check]]\nkind = 'tcp'\n", "+"),
    ("service", "passive", "+[service.passive]\n", "+"),
    ("service.passive", "unanswered", "+[service.passive]\nunanswered = 4\n", "+[service.passive]\n"),
    ("service.passive", "window", "+[service.passive]\nwindow = 4.5\n", "+[service.passive]\nwindow = 4\n"),
    ("service.passive", "hold", "+[service.passive]\nhold = 4.5\n", "+[service.passive]\nhold = 4\n"),
    ("service", "server", "+[[service.server]]\naddress = '10.0.2.1'\n", "+"),
    ("service.server", "address", "+[[service.server]]\naddress = '10.0.2.1'\n", "+[[service.server]]\naddress = '10.0.2.2'\n"),
    ("service.server", "method", "+[[service.server]]\naddress = '10.0.2.1'\nmethod = 'nat'\n", "+[[service.server]]\naddress = '10.0.2.1'\n"),
    ("service.server", "tunnel", "+[[service.server]]\naddress = '10.0.2.1'\nmethod = 'tunnel'\ntunnel = 'gre'\n", "+[[service.server]]\naddress = '10.0.2.1'\nmethod = 'tunnel'\n"),
    ("service.server", "weight", "+[[service.server]]\naddress = '10.0.2.1'\nweight = 5\n", "+[[service.server]]\naddress = '10.0.2.1'\n"),
    ("service.server", "upper_threshold", "+[[service.server]]\naddress = '10.0.2.1'\nupper_threshold = 5\n", "+[[service.server]]\naddress = '10.0.2.1'\n"),
    ("service.server", "lower_threshold", "+[[service.server]]\naddress = '10.0.2.1'\nupper_threshold = 5\nlower_threshold = 2\n", "+[[service.server]]\naddress = '10.0.2.1'\nupper_threshold = 5\n"),
    ("service.server", "check", "+[[service.server]]\naddress = '10.0.2.1'\ncheck = []\n[[service.server]]\naddress = '10.0.2.2'\n[[service.server.check]]\nkind = 'tcp'\n", "+[[service.server]]\naddress = '10.0.2.1'\n[[service.server]]\naddress = '10.0.2.2'\n[[service.server.check]]\nkind = 'tcp'\n"),
];

/// The keys of checks, each with two checks that differ in it alone.
#[rustfmt::skip]
const EVERY_CHECK_KEY: &[(&str, &str, &str)] = &[
    ("kind", "kind = 'tcp'", "kind = 'icmp'"),
    ("interval", "kind = 'tcp'\ninterval = 5", "kind = 'tcp'\ninterval = 6"),
    ("timeout", "kind = 'tcp'\ntimeout = 4", "kind = 'tcp'\ntimeout = 4.5"),
    ("rise", "kind = 'tcp'\nrise = 4", "kind = 'tcp'\nrise = 5"),
    ("fall", "kind = 'tcp'\nfall = 4", "kind = 'tcp'\nfall = 5"),
    ("delay_before_retry", "kind = 'tcp'\ndelay_before_retry = 4", "kind = 'tcp'\ndelay_before_retry = 5"),
    ("jitter", "kind = 'tcp'\njitter = 4", "kind = 'tcp'\njitter = 5"),
    ("start", "kind = 'tcp'\nstart = 'up'", "kind = 'tcp'\nstart = 'down'"),
    ("connect_ip", "kind = 'tcp'\nconnect_ip = '10.0.0.1'", "kind = 'tcp'\nconnect_ip = '10.0.0.2'"),
    ("connect_port", "kind = 'tcp'\nconnect_port = 4", "kind = 'tcp'\nconnect_port = 5"),
    ("path", "kind = 'http'\npath = '/a'", "kind = 'http'\npath = '/b'"),
    ("virtualhost", "kind = 'http'\nvirtualhost = 'a'", "kind = 'http'\nvirtualhost = 'b'"),
    ("status_code", "kind = 'http'\nstatus_code = ['200']", "kind = 'http'\nstatus_code = ['200', '201']"),
    ("regex", "kind = 'http'\nregex = 'a'", "kind = 'http'\nregex = 'b'"),
    ("tls", "kind = 'grpc'\ntls = true", "kind = 'grpc'"),
    ("sni_name", "kind = 'https'\nsni_name = 'a'", "kind = 'https'\nsni_name = 'b'"),
    ("verify", "kind = 'https'\nverify = true", "kind = 'https'"),
    ("payload", "kind = 'udp'\npayload = '0a'", "kind = 'udp'\npayload = '0b'"),
    ("require_reply", "kind = 'udp'\nrequire_reply = ''", "kind = 'udp'"),
    ("name", "kind = 'dns'\nname = 'a'", "kind = 'dns'\nname = 'b'"),
    ("type", "kind = 'dns'\ntype = 'A'", "kind = 'dns'\ntype = 'AAAA'"),
    ("helo_name", "kind = 'smtp'\nhelo_name = 'a'", "kind = 'smtp'\nhelo_name = 'b'"),
    ("grpc_service", "kind = 'grpc'\ngrpc_service = 'a'", "kind = 'grpc'\ngrpc_service = 'b'"),
    ("command", "kind = 'exec'\ncommand = ['/a', 'b c']", "kind = 'exec'\ncommand = ['/a', 'b', 'c']"),
];

fn config(part: &str) -> Config {
    let usual = "[[service]]\nprotocol = 'tcp'\naddress = '10.99.0.1:80'\n";
    let text = match part.split_at(usize::from(part.starts_with(['@', '+', '=']))) {
        ("@", port) if port.starts_with("[[port]]") => port.to_owned(),
        ("@", more) => format!("{PORT}{more}"),
        ("+", more) => format!("{PORT}{usual}{more}"),
        ("=", service) => format!("{PORT}[[service]]\n{service}"),
        (_, top) => format!("{top}{PORT}"),
    };
    Config::parse(&text, "test.toml").unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

/// No key of the configuration is forgotten: it changes what runs and is told, or needs a restart by its name.
#[test]
fn every_key_changes_what_runs_or_needs_a_restart() {
    for (table, key, one, other) in EVERY_KEY {
        let (before, after) = (config(one), config(other));
        let restart = needs_restart(&before, &after);
        let difference = Difference::between(&Live::from(&before), &Live::from(&after));
        let is_fixed = FIXED.iter().any(|(name, keys)| name == table && keys.contains(key));
        assert_eq!(difference.is_empty(), is_fixed, "{table}.{key}: {difference}");
        let names: Vec<String> = restart.iter().map(|change| change.key.replace("[0]", "")).collect();
        let wanted = if table.is_empty() { (*key).to_owned() } else { format!("{table}.{key}") };
        assert_eq!(names, if is_fixed { vec![wanted] } else { vec![] });
        assert_eq!(needs_restart(&before, &before), []);
    }
    let shown: BTreeSet<(&str, &str)> = EVERY_KEY.iter().map(|(table, key, ..)| (*table, *key)).collect();
    for (table, keys) in KEYS {
        for key in keys.iter().filter(|key| !KEYS.iter().any(|(table, _)| table == *key) || !table.is_empty())
        {
            // Settings are told of in a test of their own, so are checks.
            let elsewhere = *table == "settings" || table.ends_with("check");
            assert!(elsewhere || shown.contains(&(*table, *key)), "{table}.{key} is not looked at");
        }
    }
    for (table, keys) in FIXED {
        assert!(keys.iter().all(|key| shown.contains(&(*table, *key))), "{table}");
    }
}

#[test]
fn every_key_of_a_check_is_told() {
    for (key, one, other) in EVERY_CHECK_KEY {
        let live = |check: &str| Live::from(&config(&format!("+[[service.check]]\n{check}\n")));
        let (before, after) = (live(one), live(other));
        let difference = Difference::between(&before, &after);
        let keys = difference.services.iter().flat_map(|service| &service.keys);
        let told = keys.filter(|change| change.key == "check[0]").count();
        assert_eq!(told, 1, "{key}: {difference}");
        assert_eq!(before.changes_to(&after).len(), 1, "{key}");
    }
    let shown: Vec<&str> = EVERY_CHECK_KEY.iter().map(|(key, ..)| *key).collect();
    let (_, keys) = KEYS.iter().find(|(table, _)| *table == "service.check").expect("checks have keys");
    // A `ca_file` has to be there.
    assert!(keys.iter().all(|key| shown.contains(key) || *key == "ca_file"));
}

#[test]
fn every_setting_is_told() {
    for name in crate::model::Settings::NAMES {
        let mut after = Live::default();
        let other = match after.settings.get(name) {
            Some(SettingValue::Flag(flag)) => SettingValue::Flag(!flag),
            Some(SettingValue::Number(2)) => SettingValue::Number(3),
            _ => SettingValue::Number(2),
        };
        after.settings.set(name, other).expect("it can be");
        let keys = Difference::between(&Live::default(), &after).keys;
        assert_eq!(keys.len(), 1);
        assert_eq!(
            (keys[0].key.clone(), keys[0].to.clone()),
            (format!("settings.{name}"), Some(other.to_string()))
        );
    }
}

#[test]
fn a_difference_reads_well() {
    let server = |n: u8, weight: u16| {
        format!("[[service.server]]\naddress = '10.0.2.{n}:8080'\nmethod = 'nat'\nweight = {weight}\n")
    };
    let before = config(&format!("+scheduler = 'rr'\n{}{}", server(11, 1), server(12, 1)));
    let after = config(&format!("+scheduler = 'wrr'\n{}{}", server(11, 4), server(13, 1)));
    let mut after = Live::from(&after);
    after.timeouts = Timeouts { udp: std::time::Duration::from_secs(60), ..after.timeouts };
    let mut difference = Difference::between(&Live::from(&before), &after);
    difference.services[0].servers[0].connections = Some(7);
    difference.services[0].moves =
        Some(Moves { connections: 30, lose_server: 7, clients_per_mille: None, new_per_mille: Some(333) });
    assert_eq!(
        difference.to_string(),
        "\
timeouts.udp 300 -> 60
service tcp 10.99.0.1:80 changed
  scheduler rr -> wrr
  real server 10.0.2.12:8080 removed: method nat, weight 1; it has 7 connections
  real server 10.0.2.11:8080 changed: weight 1 -> 4
  real server 10.0.2.13:8080 added: method nat, weight 1
  moves: 7 of 30 connections lose their real server
  moves: 33.3 % of new connections go to another real server than before
"
    );
    assert_eq!(difference.summary(), "1 service changed, 1 key of the director changed");
    let gone =
        Difference::between(&Live::from(&before), &Live { timeouts: after.timeouts, ..Live::default() });
    assert_eq!(
        gone.to_string(),
        "\
timeouts.udp 300 -> 60
service tcp 10.99.0.1:80 removed: scheduler rr
  real server 10.0.2.11:8080 removed: method nat, weight 1
  real server 10.0.2.12:8080 removed: method nat, weight 1
"
    );
    assert_eq!(Difference::default().summary(), "nothing changed");
}

#[test]
fn a_rule_that_moves_goes_and_comes() {
    let rule = |n: u32| MarkRule {
        mark: Mark(std::num::NonZeroU32::new(n).expect("not 0")),
        protocol: Some(Protocol::Tcp),
        sources: Vec::new(),
        destinations: Vec::new(),
        source_ports: Vec::new(),
        destination_ports: Vec::new(),
        ingress: None,
        dscp: None,
    };
    let live = |marks: &[u32]| Live { marks: marks.iter().map(|n| rule(*n)).collect(), ..Live::default() };
    let told = |before: &[u32], after: &[u32]| Difference::between(&live(before), &live(after)).to_string();
    assert_eq!(told(&[1, 2, 3], &[1, 2, 3]), "");
    assert_eq!(told(&[1, 3], &[1, 2, 3]), "mark[1] none -> mark 2: tcp\n");
    assert_eq!(told(&[1, 2], &[2, 1]), "mark[0] mark 1: tcp -> none\nmark[1] none -> mark 1: tcp\n");
}

fn key(n: u8) -> ServiceKey {
    ServiceKey::Address { protocol: Protocol::Tcp, address: ([10, 99, 0, n], 80).into() }
}

fn server() -> impl Strategy<Value = RealServer> {
    let method = prop_oneof![Just(ForwardingMethod::Dr), Just(ForwardingMethod::Nat)];
    (1..6u8, method, 0..3u16, 0..2u32).prop_map(|(n, method, weight, upper)| RealServer {
        address: ([10, 0, 2, n], 80).into(),
        method,
        tunnel: Tunnel::default(),
        weight: Weight(weight),
        thresholds: Thresholds { upper, lower: 0 },
    })
}

fn service(n: u8) -> impl Strategy<Value = Service> {
    let scheduler = prop_oneof![Just(Scheduler::Rr), Just(Scheduler::Sh)];
    let persistence = prop::option::of(
        (1..3u64).prop_map(|seconds| Persistence::of_clients(std::time::Duration::from_secs(seconds), 32)),
    );
    (scheduler, persistence, prop::collection::vec(server(), 0..5)).prop_map(
        move |(scheduler, persistence, mut servers)| {
            let mut seen = BTreeSet::new();
            servers.retain(|server| seen.insert(server.address));
            let flags = SchedulerFlags::default();
            Service { key: key(n), scheduler, flags, persistence, one_packet: false, servers }
        },
    )
}

prop_compose! {
    fn live()(
        services in (prop::option::of(service(1)), prop::option::of(service(2)), prop::option::of(service(3))),
        watched in prop::collection::btree_map(1..4u8, 1..3u32, 0..3),
        udp in 1..3u64,
    ) -> Live {
        let services = [services.0, services.1, services.2].into_iter().flatten();
        let policy = |quorum| Policy {
            checks: vec![Arc::new(Check::new(Kind::Tcp))],
            quorum,
            ..Policy::default()
        };
        let model = Model::new(services, &Limits::default()).expect("valid services");
        // Policies are of services that are there, as a configuration has them.
        let health = watched.into_iter().map(|(n, quorum)| (key(n), Arc::new(policy(quorum))));
        let health = health.filter(|(key, _)| model.services().contains_key(key)).collect();
        let timeouts = Timeouts { udp: std::time::Duration::from_secs(udp), ..Timeouts::default() };
        Live { model, health, timeouts, ..Live::default() }
    }
}

/// A key with what it was and what it is.
type Told = (String, Option<String>, Option<String>);

proptest! {
    /// Making the changes makes the model into the other one, and whoever stays is the very same as before.
    #[test]
    fn changes_make_the_other_model_and_leave_alone_what_stays(before in live(), after in live()) {
        let changes = before.changes_to(&after);
        let mut made = before.model.clone();
        changes.iter().cloned().for_each(|change| made.make(change));
        prop_assert_eq!(&made, &after.model);
        prop_assert_eq!(made.server_count(), after.model.server_count());
        for (key, service) in before.model.services() {
            let now = made.services().get(key);
            let stays = now.is_some_and(|now| now == service);
            prop_assert_eq!(stays, now.is_some_and(|now| Arc::ptr_eq(now, service)));
        }
        let touched: BTreeSet<ServiceKey> = changes.iter().map(|Change { key, .. }| *key).collect();
        prop_assert_eq!(touched.len(), changes.len(), "one change for each");
        let told: BTreeSet<ServiceKey> =
            Difference::between(&before, &after).services.iter().map(|change| change.service).collect();
        prop_assert_eq!(told, touched, "what is told is what is done");
    }

    #[test]
    fn a_difference_is_empty_between_equals_alone(before in live(), after in live()) {
        prop_assert!(Difference::between(&before, &before.clone()).is_empty());
        prop_assert!(before.changes_to(&before.clone()).is_empty());
        prop_assert_eq!(Difference::between(&before, &after).is_empty(), before == after);
    }

    /// The way back tells the same, turned round.
    #[test]
    fn the_way_back_undoes_what_is_told(before in live(), after in live()) {
        let (there, back) = (Difference::between(&before, &after), Difference::between(&after, &before));
        let turn = |change: &KeyChange| (change.key.clone(), change.to.clone(), change.from.clone());
        // Where one comes back among others, its place is told; where it goes, it is not.
        let is_place = |change: &KeyChange| change.key == "order of real servers";
        let told = |change: &KeyChange| (change.key.clone(), change.from.clone(), change.to.clone());
        let all = |keys: &[KeyChange], how: &dyn Fn(&KeyChange) -> Told| {
            keys.iter().filter(|change| !is_place(change)).map(how).collect::<BTreeSet<_>>()
        };
        prop_assert_eq!(all(&there.keys, &turn), all(&back.keys, &told));
        prop_assert_eq!(there.services.len(), back.services.len());
        for (one, other) in there.services.iter().zip(&back.services) {
            prop_assert_eq!(all(&one.keys, &turn), all(&other.keys, &told));
            let fates = |change: &ServiceChange, turned: bool| change.servers.iter().map(|server| {
                let fate = match (server.change, turned) {
                    (Fate::Added, true) => Fate::Removed,
                    (Fate::Removed, true) => Fate::Added,
                    (fate, _) => fate,
                };
                (server.address, fate.to_string())
            }).collect::<BTreeSet<_>>();
            prop_assert_eq!(fates(one, true), fates(other, false));
        }
    }
}
