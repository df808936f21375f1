//! The virtual servers of a keepalived.conf.

mod checkers;
mod words;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use super::Imported;
use crate::model::{
    Edit, Family, ForwardingMethod, GueChecksum, Persistence, PersistenceEngine, Protocol, RealServer,
    Scheduler, SchedulerFlags, ServiceKey, Thresholds, Tunnel, Weight,
};
use words::Line;

/// The longest range of addresses that a group may have.
const LONGEST_RANGE: u32 = 256;

pub(super) fn import(text: &str) -> Imported {
    let mut imported = Imported::default();
    let lines = words::read(text);
    let groups: HashMap<&str, &Line> = lines
        .iter()
        .filter(|line| line.keyword() == "virtual_server_group")
        .map(|line| (line.word(1), line))
        .collect();
    for line in &lines {
        match line.keyword() {
            "virtual_server" => virtual_server(&mut imported, line, &groups),
            "virtual_server_group" => {}
            "global_defs" => line.block.iter().for_each(|line| global(&mut imported, line)),
            keyword if keyword.starts_with("vrrp") => {
                imported.lose(line.number, format!("{keyword} {}: VRRP stays with keepalived", line.word(1)));
            }
            keyword => imported.lose(line.number, format!("{keyword} is not about virtual servers")),
        }
    }
    // Of a group, each address would say the same of a real server.
    let mut told = HashSet::new();
    imported.lost.retain(|lost| told.insert(lost.clone()));
    imported
}

fn global(imported: &mut Imported, line: &Line) {
    match line.keyword() {
        "lvs_timeouts" => {
            let mut lines = vec!["[timeouts]".to_owned()];
            for pair in line.words[1..].chunks(2) {
                let name = match pair[0].as_str() {
                    "tcp" => "tcp",
                    "tcpfin" => "tcp_fin",
                    "udp" => "udp",
                    other => return imported.lose(line.number, format!("lvs_timeouts {other}")),
                };
                match pair.get(1).and_then(|word| word.parse::<u32>().ok()) {
                    Some(seconds) => lines.push(format!("{name} = {seconds}")),
                    None => {
                        return imported.lose(line.number, format!("lvs_timeouts {name} without seconds"));
                    }
                }
            }
            imported.settings = lines;
        }
        "lvs_sync_daemon" => imported.lose(line.number, "Director has no synchronisation daemon"),
        // The rest is keepalived's own business.
        _ => {}
    }
}

/// What a virtual server is called: several where it is of a group.
fn places(
    imported: &mut Imported,
    line: &Line,
    groups: &HashMap<&str, &Line>,
) -> Vec<(Place, Option<String>)> {
    if line.word(1) != "group" {
        return match place(&line.words[1..]) {
            Some(places) => places.into_iter().map(|place| (place, None)).collect(),
            None => {
                imported.lose(
                    line.number,
                    format!("{}: no address with a port and no mark", line.words.join(" ")),
                );
                Vec::new()
            }
        };
    }
    let name = line.word(2);
    let Some(group) = groups.get(name) else {
        imported.lose(line.number, format!("there is no virtual_server_group {name}"));
        return Vec::new();
    };
    let mut all = Vec::new();
    for line in &group.block {
        match place(&line.words) {
            Some(places) => {
                all.extend(places.into_iter().map(|place| (place, Some(format!("Of the group {name}.")))));
            }
            None => imported
                .lose(line.number, format!("{}: no address with a port and no mark", line.words.join(" "))),
        }
    }
    all
}

/// A virtual address and port, or a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Address(SocketAddr),
    Mark(crate::model::Mark, Option<Family>),
}

/// `10.0.0.1 80`, `10.0.0.1-9 80`, `fwmark 1`.
fn place(words: &[String]) -> Option<Vec<Place>> {
    let word = |place: usize| words.get(place).map_or("", String::as_str);
    if word(0) == "fwmark" {
        let family = match word(2) {
            "inet6" => Some(Family::Ipv6),
            "inet" => Some(Family::Ipv4),
            _ => None,
        };
        return Some(vec![Place::Mark(word(1).parse().ok()?, family)]);
    }
    let port: u16 = if words.len() > 1 { word(1).parse().ok()? } else { 0 };
    let addresses = match word(0).split_once('-') {
        None => vec![word(0).parse().ok()?],
        Some((first, last)) => range(first.parse().ok()?, last)?,
    };
    Some(addresses.into_iter().map(|address| Place::Address((address, port).into())).collect())
}

/// Addresses from the first one to the one that ends in `last`.
fn range(first: IpAddr, last: &str) -> Option<Vec<IpAddr>> {
    let addresses: Vec<IpAddr> = match first {
        IpAddr::V4(first) => {
            let first = first.to_bits();
            let last = first & !0xff | u32::from(last.parse::<u8>().ok()?);
            (first..=last).map(|bits| Ipv4Addr::from_bits(bits).into()).collect()
        }
        IpAddr::V6(first) => {
            let first = first.to_bits();
            let last = first & !0xffff | u128::from(u16::from_str_radix(last, 16).ok()?);
            let all = (first..=last).take(LONGEST_RANGE as usize + 1);
            all.map(|bits| Ipv6Addr::from_bits(bits).into()).collect()
        }
    };
    (1..=LONGEST_RANGE as usize).contains(&addresses.len()).then_some(addresses)
}

/// What is said of a virtual server.
struct Said<'a> {
    protocol: Protocol,
    family: Option<Family>,
    scheduler: Option<Scheduler>,
    flags: SchedulerFlags,
    persistence_timeout: Option<u32>,
    granularity: Option<u8>,
    engine: PersistenceEngine,
    one_packet: bool,
    method: Method,
    weight: u16,
    servers: Vec<&'a Line>,
    notes: Vec<String>,
}

/// What is said of the forwarding method.
#[derive(Clone, Copy)]
enum Method {
    Nothing,
    /// Something that is not understood. What packets it wants for real servers is not to be guessed.
    Unknown,
    Known(ForwardingMethod, Tunnel),
}

fn virtual_server(imported: &mut Imported, line: &Line, groups: &HashMap<&str, &Line>) {
    let Some(said) = said(imported, line) else { return };
    for (place, note) in places(imported, line, groups) {
        let key = match place {
            Place::Address(address) => ServiceKey::Address { protocol: said.protocol, address },
            Place::Mark(mark, family) => {
                ServiceKey::Mark { mark, family: family.or(said.family).unwrap_or_default() }
            }
        };
        let widest = Persistence::widest(key.ip());
        let persistent =
            said.persistence_timeout.is_some() || said.granularity.is_some() || !said.engine.is_none();
        let persistence = persistent.then(|| {
            let seconds = said.persistence_timeout.map(|seconds| Duration::from_secs(seconds.into()));
            let bits = said.granularity.unwrap_or(widest).min(widest);
            let timeout = seconds.unwrap_or(Persistence::DEFAULT_TIMEOUT);
            Persistence { timeout, granularity: bits, engine: said.engine }
        });
        let edit = Edit::AddService {
            key,
            scheduler: said.scheduler.unwrap_or_default(),
            flags: said.flags,
            persistence,
            one_packet: said.one_packet,
        };
        if let Err(error) = imported.make(&edit) {
            imported.lose(line.number, error);
            continue;
        }
        for note in note.iter().chain(&said.notes) {
            imported.note(key, note);
        }
        if key.is_mark() {
            imported.note(
                key,
                "Which packets have this mark was for netfilter to say; here rules say it: [[mark]].",
            );
        }
        for server in &said.servers {
            real_server(imported, key, &said, server);
        }
    }
}

fn said<'a>(imported: &mut Imported, of: &'a Line) -> Option<Said<'a>> {
    let mut said = Said {
        protocol: Protocol::Tcp,
        family: None,
        scheduler: None,
        flags: SchedulerFlags::default(),
        persistence_timeout: None,
        granularity: None,
        engine: PersistenceEngine::None,
        one_packet: false,
        method: Method::Nothing,
        weight: 1,
        servers: Vec::new(),
        notes: Vec::new(),
    };
    for line in &of.block {
        let value = line.word(1);
        let understood = match line.keyword() {
            "real_server" => {
                said.servers.push(line);
                true
            }
            "lvs_sched" | "lb_algo" => match value.parse() {
                Ok(scheduler) => {
                    said.scheduler = Some(scheduler);
                    true
                }
                Err(_) => {
                    let what = format!("{}: there is no scheduler {value}", of.words.join(" "));
                    imported.lose(line.number, what);
                    return None;
                }
            },
            "lvs_method" | "lb_kind" => {
                said.method = method(&line.words[1..]);
                !matches!(said.method, Method::Unknown)
            }
            "protocol" => value.to_lowercase().parse().map(|protocol| said.protocol = protocol).is_ok(),
            "ip_family" => {
                said.family = Some(if value == "inet6" { Family::Ipv6 } else { Family::Ipv4 });
                true
            }
            "persistence_timeout" if value.is_empty() => {
                said.persistence_timeout = Some(Persistence::DEFAULT_TIMEOUT.as_secs() as u32);
                true
            }
            "persistence_timeout" => {
                value.parse().map(|seconds| said.persistence_timeout = Some(seconds)).is_ok()
            }
            "persistence_granularity" => {
                said.granularity = granularity(value);
                said.granularity.is_some()
            }
            "persistence_engine" => value.parse().map(|engine| said.engine = engine).is_ok(),
            "ops" => {
                said.one_packet = true;
                true
            }
            "sh-port" | "mh-port" | "flag-2" => {
                said.flags.port = true;
                true
            }
            "sh-fallback" | "mh-fallback" | "flag-1" => {
                said.flags.fallback = true;
                true
            }
            "weight" => value.parse().map(|weight| said.weight = weight).is_ok(),
            // The kernel's own note about the service.
            "hashed" => true,
            _ if checkers::is_about_health(line) => {
                if let Some(lost) = checkers::lost(line) {
                    imported.lose(line.number, lost);
                }
                true
            }
            _ => false,
        };
        if !understood {
            imported.lose(line.number, line.words.join(" "));
        }
    }
    if said.scheduler.is_none() {
        said.notes.push("It named no lvs_sched: wlc.".to_owned());
    }
    if said.persistence_timeout.is_none() && !(said.granularity.is_none() && said.engine.is_none()) {
        said.notes.push("It named no persistence_timeout: 360 s.".to_owned());
    }
    Some(said)
}

/// `NAT`, `DR`, `TUN`, `TUN type gue port 6080 csum`.
fn method(words: &[String]) -> Method {
    match words.first().map_or("", String::as_str) {
        "NAT" => Method::Known(ForwardingMethod::Nat, Tunnel::Ipip),
        "DR" => Method::Known(ForwardingMethod::Dr, Tunnel::Ipip),
        "TUN" => tunnel(&words[1..])
            .map_or(Method::Unknown, |tunnel| Method::Known(ForwardingMethod::Tunnel, tunnel)),
        _ => Method::Unknown,
    }
}

fn tunnel(words: &[String]) -> Option<Tunnel> {
    let mut words = words.iter().map(String::as_str);
    let (mut kind, mut port, mut csum, mut remcsum) = ("ipip", None, false, false);
    while let Some(word) = words.next() {
        match word {
            "type" => kind = words.next()?,
            "port" => port = Some(words.next()?.parse::<NonZeroU16>().ok()?),
            "nocsum" => {}
            "csum" => csum = true,
            "remcsum" => remcsum = true,
            _ => return None,
        }
    }
    match (kind, port) {
        ("ipip", None) => Some(Tunnel::Ipip),
        ("gre", None) => Some(Tunnel::Gre { checksum: csum }),
        ("gue", Some(port)) => {
            let checksum = match (csum, remcsum) {
                (_, true) => GueChecksum::Remote,
                (true, false) => GueChecksum::Full,
                (false, false) => GueChecksum::None,
            };
            Some(Tunnel::Gue { port, checksum })
        }
        _ => None,
    }
}

/// A netmask, or a prefix length.
fn granularity(word: &str) -> Option<u8> {
    if let Ok(bits) = word.parse() {
        return Some(bits);
    }
    let mask = word.parse::<Ipv4Addr>().ok()?.to_bits();
    (mask.leading_ones() == mask.count_ones()).then(|| mask.count_ones() as u8)
}

fn real_server(imported: &mut Imported, service: ServiceKey, said: &Said<'_>, line: &Line) {
    let (Ok(address), Ok(port)) =
        (line.word(1).parse::<IpAddr>(), if line.words.len() > 2 { line.word(2).parse() } else { Ok(0) })
    else {
        imported.lose(line.number, format!("{}: no address with a port", line.words.join(" ")));
        return;
    };
    let mut method_said = said.method;
    let (mut weight, mut thresholds) = (said.weight, Thresholds { upper: 0, lower: 0 });
    for line in &line.block {
        let value = line.word(1);
        let understood = match line.keyword() {
            "weight" => value.parse().map(|value| weight = value).is_ok(),
            "uthreshold" => value.parse().map(|value| thresholds.upper = value).is_ok(),
            "lthreshold" => value.parse().map(|value| thresholds.lower = value).is_ok(),
            "lvs_method" => {
                method_said = method(&line.words[1..]);
                !matches!(method_said, Method::Unknown)
            }
            _ if checkers::is_about_health(line) => {
                if let Some(lost) = checkers::lost(line) {
                    imported.lose(line.number, lost);
                }
                true
            }
            _ => false,
        };
        if !understood {
            imported.lose(line.number, line.words.join(" "));
        }
    }
    let (method, tunnel) = match method_said {
        Method::Known(method, tunnel) => (method, tunnel),
        Method::Unknown => {
            imported.lose(line.number, format!("{}: its lvs_method is unknown", line.words.join(" ")));
            return;
        }
        Method::Nothing => {
            imported.note(service, "It named no lvs_method: NAT.");
            (ForwardingMethod::Nat, Tunnel::Ipip)
        }
    };
    let mut port: u16 = port;
    if !service.is_mark() && port != service.port() && (method != ForwardingMethod::Nat || port == 0) {
        if port != 0 {
            let kept = format!("{address} had port {port}; packets reach it with the service's.");
            imported.note(service, kept);
        }
        port = service.port();
    }
    if method == ForwardingMethod::Nat {
        imported.note(service, "By NAT, real servers need the director as their gateway, as before.");
    }
    let address = SocketAddr::new(address, port);
    let server = RealServer { address, method, tunnel, weight: Weight(weight), thresholds };
    if let Err(error) = imported.make(&Edit::AddServer { service, server }) {
        imported.lose(line.number, error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURATION: &str = r#"
! Configuration File for keepalived
global_defs {
    router_id LVS_1
    lvs_timeouts tcp 3600 tcpfin 60 udp 30
    lvs_sync_daemon eth0 VI_1
}
vrrp_instance VI_1 {
    state MASTER
    virtual_ipaddress { 192.0.2.80 }
}
virtual_server_group WEB {
    192.0.2.81-82 80
    fwmark 7
}
virtual_server 192.0.2.80 443 {
    delay_loop 6
    lb_algo wrr
    lb_kind NAT
    persistence_timeout 50
    persistence_granularity 255.255.255.0
    protocol TCP
    sorry_server 10.0.0.99 80
    real_server 10.0.0.11 8443 {
        weight 3
        uthreshold 100
        SSL_GET {
            url { path / status_code 200 }
            connect_timeout 3
        }
    }
    real_server 10.0.0.12 8443 {
    }
}
virtual_server group WEB {
    lvs_sched sh
    sh-port
    lvs_method TUN type gue port 6080
    weight 5
    real_server 10.0.0.11 8080 { TCP_CHECK { connect_timeout 3 } }
}
virtual_server 192.0.2.90 53 {
    lvs_sched nosuch
}
"#;

    #[test]
    fn virtual_servers_become_services() {
        let imported = import(CONFIGURATION);
        assert_eq!(
            imported.lost(),
            [
                "line 6: not carried over: Director has no synchronisation daemon",
                "line 8: not carried over: vrrp_instance VI_1: VRRP stays with keepalived",
                "line 17: not carried over: delay_loop: there are no health checks in the configuration",
                "line 23: not carried over: sorry_server: there are no health checks in the configuration",
                "line 27: not carried over: SSL_GET: there are no health checks in the configuration",
                "line 40: not carried over: TCP_CHECK: there are no health checks in the configuration",
                "line 43: not carried over: virtual_server 192.0.2.90 53: there is no scheduler nosuch",
            ]
            .map(str::to_owned)
            .as_slice()
        );
        let toml = imported.toml();
        for part in [
            "[timeouts]\ntcp = 3600\ntcp_fin = 60\nudp = 30\n",
            r#"# By NAT, real servers need the director as their gateway, as before.
[[service]]
protocol = "tcp"
address = "192.0.2.80:443"
scheduler = "wrr"
persistence_timeout = 50
persistence_granularity = 24

  [[service.server]]
  address = "10.0.0.11:8443"
  method = "nat"
  weight = 3
  upper_threshold = 100

  [[service.server]]
  address = "10.0.0.12:8443"
  method = "nat"
  weight = 1
"#,
            r#"# Of the group WEB.
# 10.0.0.11 had port 8080; packets reach it with the service's.
[[service]]
protocol = "tcp"
address = "192.0.2.82:80"
scheduler = "sh"
hash_port = true

  [[service.server]]
  address = "10.0.0.11:80"
  method = "tunnel"
  tunnel = "gue:6080"
  weight = 5
"#,
            "[[service]]\nmark = 7\nscheduler = \"sh\"\n",
        ] {
            assert!(toml.contains(part), "{part}\nis not in\n{toml}");
        }
    }

    #[test]
    fn what_is_not_understood_is_not_guessed() {
        let imported = import(
            "virtual_server 192.0.2.1 80 {\n lvs_sched rr\n lvs_method NAT\n real_server 10.0.0.1 80 {\n  \
             lvs_method TUN type vxlan\n }\n real_server 10.0.0.2 80 {\n }\n}\n\
             virtual_server 192.0.2.1 5060 {\n lvs_sched rr\n protocol UDP\n persistence_engine sip\n}\n",
        );
        assert_eq!(
            imported.lost(),
            [
                "line 5: not carried over: lvs_method TUN type vxlan",
                "line 4: not carried over: real_server 10.0.0.1 80: its lvs_method is unknown",
            ]
        );
        let toml = imported.toml();
        assert!(toml.contains("10.0.0.2:80") && !toml.contains("address = \"10.0.0.1:80\""), "{toml}");
        assert!(!toml.contains("It named no lvs_method"), "{toml}");
        let sip = "# It named no persistence_timeout: 360 s.\n[[service]]\nprotocol = \"udp\"";
        assert!(toml.contains(sip) && toml.contains("persistence_engine = \"sip\""), "{toml}");
    }

    #[test]
    fn ranges_end_where_they_say() {
        let of = |words: &str| {
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            place(&words).map(|places| places.len())
        };
        assert_eq!(of("10.0.0.1-9 80"), Some(9));
        assert_eq!(of("2001:db8::1-ff 80"), Some(255));
        for bad in [
            "10.0.0.9-1 80",
            "10.0.0.1-256 80",
            "2001:db8::1-ffff 80",
            "10.0.0.0/24 80",
            "x 80",
            "10.0.0.1 x",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
