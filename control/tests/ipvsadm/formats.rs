//! Listings, byte for byte: the same services, connections and counters, listed by the original and by us. Each file in
//! `formats/` is what the original printed.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use control::cli::ipvsadm::{Command, Listing, NoNames, parse};
use control::model::{
    ForwardingMethod, GueChecksum, Persistence, PersistenceEngine, Scheduler, SchedulerFlags, Thresholds,
    Tunnel, Weight,
};
use control::protocol::{
    ConnectionStatus, Counters, Rates, ServerRates, ServerStatus, ServiceRates, ServiceStatus, TemplateStatus,
};

use super::original::{Original, original, records};
use super::support::{Running, World};
use super::{netlink, session};

fn counters(scale: u64) -> Counters {
    Counters {
        connections: scale,
        packets_in: 10 * scale,
        packets_out: 9 * scale,
        bytes_in: 1_234 * scale,
        bytes_out: 123_456 * scale,
    }
}

fn rates(scale: u64) -> Rates {
    Rates {
        cps: scale,
        inpps: 20 * scale,
        outpps: 19 * scale,
        inbps: 2_048 * scale,
        outbps: 987_654u64.wrapping_mul(scale),
    }
}

fn service(key: &str, scheduler: Scheduler, scale: u64) -> ServiceStatus {
    ServiceStatus {
        service: key.parse().expect(key),
        scheduler,
        flags: SchedulerFlags::default(),
        persistence: None,
        one_packet: false,
        counters: counters(scale),
        servers: Vec::new(),
    }
}

fn persistent(seconds: u64, granularity: u8) -> Option<Persistence> {
    Some(Persistence::of_clients(Duration::from_secs(seconds), granularity))
}

fn server(address: &str, method: ForwardingMethod, weight: u16, scale: u64) -> ServerStatus {
    ServerStatus {
        health: None,
        address: address.parse().expect(address),
        method,
        tunnel: Tunnel::Ipip,
        weight: Weight(weight),
        thresholds: Thresholds::default(),
        overloaded: false,
        drain_ends_in_ms: None,
        active: 3 * scale % 4_000_000_000,
        inactive: 12 * scale % 4_000_000_000,
        counters: counters(scale),
    }
}

/// Everything that a listing can show, with numbers around each place where they are scaled. Of real servers the original
/// reads no more than 32 bits of anything but bytes, so theirs are smaller; marks beyond 31 bits it shows as negative, and does not read again, so there is none.
fn services() -> Vec<ServiceStatus> {
    use ForwardingMethod::{Dr, Nat, Tunnel as ByTunnel};
    let tunnelled = |address: &str, tunnel| ServerStatus { tunnel, ..server(address, ByTunnel, 1, 2) };
    let gue = |port: u16, checksum| Tunnel::Gue { port: port.try_into().expect("a port"), checksum };
    let mut all = vec![
        ServiceStatus {
            servers: vec![
                server("192.168.10.10:80", Nat, 1, 1),
                server("192.168.10.9:8080", Nat, 65_535, 99_999_999),
                server("192.168.10.9:80", Nat, 0, 100_000_000),
                server("10.0.0.1:80", Dr, 2, 429_496_729),
            ],
            ..service("tcp 207.175.44.110:80", Scheduler::Rr, 1_000_000_000)
        },
        ServiceStatus {
            persistence: persistent(300, 32),
            servers: vec![server("192.168.10.3:0", Dr, 1, 12_345_678), server("192.168.10.2:80", Nat, 1, 0)],
            ..service("mark 1", Scheduler::Wlc, 100_000_000_000)
        },
        ServiceStatus {
            persistence: persistent(360, 24),
            ..service("mark 2147483647", Scheduler::Lblcr, 99_999_999_999_999)
        },
        ServiceStatus {
            persistence: persistent(60, 64),
            servers: vec![server("[2001:db8:0:0:1::1]:0", Dr, 1, 5)],
            ..service("mark 1/ipv6", Scheduler::Nq, 100_000_000_000_000)
        },
        ServiceStatus {
            flags: SchedulerFlags { fallback: true, port: true },
            servers: vec![server("[2001:db8::2]:80", Dr, 1, 1), tunnelled("192.168.10.5:80", Tunnel::Ipip)],
            ..service("tcp [2001:db8::80]:80", Scheduler::Sh, 7)
        },
        ServiceStatus {
            flags: SchedulerFlags { fallback: true, port: false },
            ..service("tcp [::ffff:1.2.3.4]:80", Scheduler::Mh, 7)
        },
        service("tcp [2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535", Scheduler::Dh, 1),
        ServiceStatus {
            persistence: persistent(1, 8).map(|all| Persistence { engine: PersistenceEngine::Sip, ..all }),
            one_packet: true,
            servers: vec![
                tunnelled("192.168.10.5:5060", Tunnel::Ipip),
                tunnelled("192.168.10.6:5060", gue(6080, GueChecksum::None)),
                tunnelled("192.168.10.7:5060", gue(65_535, GueChecksum::Full)),
                tunnelled("192.168.10.8:5060", gue(1, GueChecksum::Remote)),
                tunnelled("192.168.10.9:5060", Tunnel::Gre { checksum: false }),
                tunnelled("192.168.10.10:5060", Tunnel::Gre { checksum: true }),
                tunnelled("[2001:db8::9]:5060", Tunnel::Gre { checksum: true }),
            ],
            ..service("udp 207.175.44.110:5060", Scheduler::Rr, 3)
        },
        ServiceStatus {
            persistence: persistent(2_678_400, 128),
            ..service("udp [2001:db8::53]:53", Scheduler::Wrr, 0)
        },
        ServiceStatus {
            flags: SchedulerFlags { fallback: false, port: true },
            servers: vec![server("255.255.255.254:65535", Nat, 100, 12_345)],
            ..service("sctp 223.255.255.254:65535", Scheduler::Mh, 12_345_678)
        },
        service("tcp 10.0.0.1:443", Scheduler::Sed, 1),
        service("tcp 10.0.0.1:80", Scheduler::Fo, 1),
        service("tcp 127.0.0.1:80", Scheduler::Ovf, 1),
        service("tcp 192.0.2.1:0", Scheduler::Twos, 1),
    ];
    all[0].servers[0].thresholds = Thresholds { upper: 4_000_000_000, lower: 3_000_000_000 };
    all[0].servers[1].thresholds = Thresholds { upper: 100, lower: 0 };
    all
}

/// Rates that fit the services: each server's are the service's by its place.
fn rates_of(services: &[ServiceStatus]) -> Vec<ServiceRates> {
    let of = |status: &ServiceStatus| ServiceRates {
        service: status.service,
        rates: rates(status.counters.connections),
        servers: status
            .servers
            .iter()
            .map(|server| ServerRates {
                address: server.address,
                rates: rates((server.counters.connections / 20).min(4_000)),
            })
            .collect(),
    };
    services.iter().map(of).collect()
}

fn connections() -> Vec<ConnectionStatus> {
    let one = |protocol: &str,
               client: &str,
               virtual_address: &str,
               server: &str,
               state: &str,
               milliseconds| {
        let json = serde_json::json!({
            "protocol": protocol, "client": client, "virtual": virtual_address, "server": server, "method": "nat",
            "state": state, "expires_in_ms": milliseconds, "lcore": 0,
        });
        serde_json::from_value(json).expect("a connection")
    };
    vec![
        one("tcp", "10.0.0.2:43210", "207.175.44.110:80", "192.168.10.1:80", "ESTABLISHED", 897_999),
        one("tcp", "10.0.0.2:1", "207.175.44.110:80", "192.168.10.1:8080", "SYN_RECV", 59_000),
        one("udp", "10.0.0.3:53", "207.175.44.110:53", "192.168.10.1:53", "UDP", 300_000),
        one("sctp", "10.0.0.3:9", "207.175.44.110:9", "192.168.10.1:9", "SHUTDOWN_SENT", 999),
        one("tcp", "[2001:db8::c]:40000", "[2001:db8::80]:80", "[2001:db8::2]:80", "CLOSE", 0),
        one("tcp", "[2001:db8::c]:40001", "[2001:db8::80]:80", "192.168.10.5:80", "TIME_WAIT", 7_261_000),
        one("tcp", "[::1]:80", "[::1]:443", "[::1.2.3.4]:22", "NONE", 1_000),
        one("tcp", "127.0.0.1:22", "127.0.0.1:443", "192.168.10.5:65535", "NONE", 1_000),
    ]
}

/// What a kernel shows of them in /proc/net/ip_vs_conn, with what it shows of `templates()` (Linux `ip_vs_sched_persist`).
fn table(connections: &[ConnectionStatus]) -> String {
    let mut text =
        String::from("Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n");
    for one in connections {
        let place = |place: std::net::SocketAddr| format!("{} {:04X}", place.ip(), place.port());
        let protocol = one.protocol.to_string().to_uppercase();
        let (client, virtual_address, server) =
            (place(one.client), place(one.virtual_address), place(one.server));
        let seconds = one.expires_in_ms / 1_000;
        let _ = writeln!(text, "{protocol} {client} {virtual_address} {server} {} {seconds}", one.state);
    }
    text + "\
TCP 0A000000 0000 CFAF2C6E 0050 C0A80A0A 0050 ASSURED 297
TCP 0A000100 0000 CFAF2C6E 0050 C0A80A0A 0050 NONE 60
TCP 0A000000 0000 CFAF2C6E 0000 C0A80A0A 0000 ASSURED 1
TCP 2001:db8:1:: 0000 2001:db8::80 0050 192.168.10.5 0050 ASSURED 1
UDP 0A000002 0000 CFAF2C6E 13C4 C0A80A09 13C4 NONE 0
IP 0A000002 0000 00000001 0000 C0A80A03 0000 NONE 58
IP 0A000003 0000 00000001 0000 C0A80A02 0000 ASSURED 58
IP 2001:db8:1:: 0000 0:1:: 0000 2001:db8::1:0:0:1 0000 ASSURED 58
"
}

/// Templates: of a port, of all ports, of FTP, of marks.
fn templates() -> Vec<TemplateStatus> {
    let one = |service: &str, client: &str, server: &str, assured, milliseconds| TemplateStatus {
        service: service.parse().expect(service),
        client: client.parse().expect(client),
        server: server.parse().expect(server),
        assured,
        connections: 2,
        expires_in_ms: milliseconds,
    };
    vec![
        one("tcp 207.175.44.110:80", "10.0.0.0", "192.168.10.10:80", true, 297_000),
        one("tcp 207.175.44.110:80", "10.0.1.0", "192.168.10.10:80", false, 60_000),
        one("tcp 207.175.44.110:21", "10.0.0.0", "192.168.10.10:21", true, 1_000),
        one("tcp [2001:db8::80]:80", "2001:db8:1::", "192.168.10.5:80", true, 1_000),
        one("udp 207.175.44.110:5060", "10.0.0.2", "192.168.10.9:5060", false, 999),
        one("mark 1", "10.0.0.2", "192.168.10.3:0", false, 58_000),
        one("mark 1", "10.0.0.3", "192.168.10.2:80", true, 58_000),
        one("mark 1/ipv6", "2001:db8:1::", "[2001:db8:0:0:1::1]:0", true, 58_000),
    ]
}

fn world() -> World {
    let services = services();
    let rates = rates_of(&services);
    World { rates, services, connections: connections(), templates: templates() }
}

/// The formats by the names of their files.
const FORMATS: &[(&str, &str)] = &[
    ("list", "-Ln"),
    ("stats", "-Ln --stats"),
    ("stats-exact", "-Ln --stats --exact"),
    ("rate", "-Ln --rate"),
    ("rate-exact", "-Ln --rate --exact"),
    ("thresholds", "-Ln --thresholds"),
    ("persistent-conn", "-Ln --persistent-conn"),
    ("tun-info", "-Ln --tun-info"),
    ("nosort", "-Ln --nosort"),
    ("service", "-Ln -u 207.175.44.110:5060"),
    ("service-mark", "-Ln -f 1 -6 --stats"),
    ("connections", "-Lnc"),
    ("connections-persistent", "-Lnc --persistent-conn"),
    ("save", "-Sn"),
    ("timeout", "-L --timeout"),
    ("daemon", "-L --daemon"),
];

/// Formats with names, which are this machine's.
const NAMED: &[&str] = &["-L", "-Lc", "-S", "-L --stats"];

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/ipvsadm/formats").join(format!("{name}.txt"))
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn listings_are_the_originals_byte_for_byte() {
    let running = Running::start_with(world());
    for (name, line) in FORMATS {
        let recorded = fs::read_to_string(path(name)).expect(name);
        assert_eq!(session::good(&running.path, line), recorded, "{line}");
    }
}

/// What the original prints when a kernel has all this.
fn theirs(original: &Original, line: &str) -> String {
    let services = services();
    let mut answers = netlink::timeouts(900, 120, 300);
    let only = match parse("ipvsadm", &words(line), &NoNames) {
        Ok(Command::List(Listing::Service(key), _)) => Some(key),
        _ => None,
    };
    for (status, rates) in services.iter().zip(rates_of(&services)) {
        // The stand-in answers a question about one service with all that it has.
        if only.is_some_and(|only| only != status.service) {
            continue;
        }
        let held_by = |server: &ServerStatus| {
            let held = |one: &&TemplateStatus| (one.service, one.server) == (status.service, server.address);
            templates().iter().filter(held).count() as u32
        };
        let held: Vec<u32> = status.servers.iter().map(held_by).collect();
        let server_rates: Vec<Rates> = rates.servers.iter().map(|server| server.rates).collect();
        answers.push_str(&netlink::answers(status, &rates.rates, &server_rates, &held));
    }
    let run = original.run(&words(line), &answers, &table(&connections()));
    assert_eq!((run.status, run.errors.as_str()), (0, ""), "{line}");
    run.out
}

#[test]
fn listings_are_recorded_as_the_original_prints_them() {
    let Some(original) = original() else { return };
    for (name, line) in FORMATS {
        let out = theirs(original, line);
        if records() {
            fs::write(path(name), out).expect(name);
        } else {
            assert_eq!(out, fs::read_to_string(path(name)).expect(name), "{line}");
        }
    }
}

#[test]
fn names_are_those_that_the_original_finds() {
    let Some(original) = original() else { return };
    let running = Running::start_with(world());
    for line in NAMED {
        assert_eq!(session::good(&running.path, line), theirs(original, line), "{line}");
    }
}
