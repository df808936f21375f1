//! What a right file means.

use std::time::Duration;

use super::super::keys::KEYS;
use super::*;
use crate::model::{
    ForwardingMethod, MarkRule, Persistence, PersistenceEngine, Protocol, Scheduler, SchedulerFlags, Service,
    Thresholds, Weight,
};

#[test]
fn whatever_can_be_left_out_has_its_default() {
    let config = good(LEAST);
    let port = Port {
        device: "net_af_packet0,iface=eth0".to_owned(),
        kind: PortDevice::Vdev {
            driver: "net_af_packet".to_owned(),
            name: "net_af_packet0".to_owned(),
            args: "iface=eth0".to_owned(),
        },
        mirror: Mirror::KernelKeeps { interface: "eth0".to_owned() },
        mtu: 1500,
        rx_descriptors: 1024,
        tx_descriptors: 1024,
        rss: Rss::Symmetric,
    };
    assert_eq!(
        config,
        Config {
            socket: PathBuf::from("/run/director/director.sock"),
            history: PathBuf::from("/var/lib/director/history"),
            dpdk: Dpdk { hugepages: Hugepages::Auto, memory_mb: 512, mbufs: None, eal_args: vec![] },
            lcores: Lcores { cpus: None, idle: Idle::Auto },
            connections: Connections { capacity: 1_000_000, ipv6_capacity: 1_000_000, templates: 65_536 },
            limits: Limits { services: 4096, servers: 65_536 },
            timeouts: Timeouts {
                tcp: Duration::from_secs(900),
                tcp_fin: Duration::from_secs(120),
                udp: Duration::from_secs(300),
            },
            settings: Settings::default(),
            ftp_ports: vec![21],
            ports: vec![port],
            marks: vec![],
            model: Model::default(),
            health: BTreeMap::new(),
        }
    );
}

#[test]
fn a_service_and_its_server_have_ipvs_defaults() {
    let text = "[[service]]\nprotocol='tcp'\naddress='10.0.0.1:80'\nserver=[{address='10.0.2.1'}]\n";
    let config = good(&format!("{LEAST}{text}"));
    let service = config.model.services().values().next().expect("one service");
    assert_eq!((service.scheduler, service.flags), (Scheduler::Wlc, SchedulerFlags::default()));
    let server = service.servers[0];
    assert_eq!(server.address.to_string(), "10.0.2.1:80");
    assert_eq!((server.method, server.weight), (ForwardingMethod::Dr, Weight(1)));
}

#[test]
fn every_key_reaches_the_configuration() {
    for (table, keys) in KEYS {
        for key in *keys {
            let named = WHOLE.contains(&format!("{key} = "));
            if *key == "ca_file" {
                continue; // A file that has to be there; see the test about checks.
            }
            let table_named = WHOLE.contains(&format!("[{key}]")) || WHOLE.contains(&format!(".{key}]"));
            assert!(named || table_named, "{table} {key} is not in the test's configuration");
        }
    }
    let config = good(WHOLE);
    assert_eq!(config.socket, Path::new("/tmp/director.sock"));
    assert_eq!(config.history, Path::new("/tmp/history"));
    let eal_args = vec!["--log-level=lib.eal:debug".to_owned(), "--iova-mode=va".to_owned()];
    let dpdk = Dpdk { hugepages: Hugepages::No, memory_mb: 256, mbufs: Some(16_384), eal_args };
    assert_eq!(config.dpdk, dpdk);
    assert_eq!(config.lcores, Lcores { cpus: Some(vec![1, 3]), idle: Idle::Sleep });
    let connections = Connections { capacity: 5000, ipv6_capacity: 3000, templates: 700 };
    assert_eq!(config.connections, connections);
    let half = good(&format!("{LEAST}[connections]\ncapacity = 7\n")).connections;
    assert_eq!((half.capacity, half.ipv6_capacity), (7, 7), "as much of IPv6 as of IPv4");
    assert_eq!(config.limits, Limits { services: 10, servers: 20 });
    let [tcp, tcp_fin, udp] = [60, 10, 2_678_400].map(Duration::from_secs);
    assert_eq!(config.timeouts, Timeouts { tcp, tcp_fin, udp });
    let settings = Settings {
        sloppy_tcp: true,
        sloppy_sctp: true,
        expire_nodest_conn: true,
        expire_quiescent_template: true,
        conn_reuse_mode: 3,
        drop_entry: 1,
        drop_packet: 2,
        secure_tcp: 3,
        am_droprate: 5,
        amemthresh: 2000,
        nat_icmp_send: true,
        schedule_icmp: true,
        mss_clamp: true,
        cache_bypass: true,
        pmtu_disc: false,
        lblc_expiration: Duration::from_secs(60),
        lblcr_expiration: Duration::from_secs(2_678_400),
        run_estimation: false,
    };
    assert_eq!(config.settings, settings);
    let [tap, pci] = &config.ports[..] else { panic!("two ports, not {:?}", config.ports) };
    assert_eq!(tap.mirror, Mirror::Interface("dir0".to_owned()));
    assert_eq!((tap.mtu, tap.rx_descriptors, tap.tx_descriptors), (1400, 512, 256));
    assert_eq!((tap.rss, pci.rss), (Rss::Source, Rss::Symmetric));
    assert_eq!((pci.device.as_str(), &pci.kind), ("0000:03:00.0", &PortDevice::Pci));
    assert_eq!(pci.mirror, Mirror::None);
    let services: Vec<&Service> = config.model.services().values().map(|service| &**service).collect();
    assert_eq!(services.len(), 3);
    assert_eq!(services[2].key.to_string(), "mark 1/ipv6");
    let rules: Vec<String> = config.marks.iter().map(MarkRule::to_string).collect();
    let rule = "mark 1: tcp from 192.0.2.0/24 from port 1024-65535 to 10.99.0.1 or 10.99.1.0/24 \
                to port 80 or 443 or 8000-8010 received by port 1 with DSCP 46";
    assert_eq!(rules, [rule]);
    let dns = services[1];
    assert_eq!((dns.key.protocol(), dns.scheduler), (Some(Protocol::Udp), Scheduler::Mh));
    assert_eq!(dns.flags, SchedulerFlags { fallback: true, port: true });
    assert_eq!((dns.servers[0].method, dns.servers[0].weight), (ForwardingMethod::Nat, Weight(0)));
    assert_eq!(dns.servers[0].address.to_string(), "10.0.2.11:5353");
    assert_eq!(dns.servers[0].thresholds, Thresholds { upper: 100, lower: 80 });
    let persistence = Persistence {
        engine: PersistenceEngine::Sip,
        ..Persistence::of_clients(Duration::from_secs(600), 24)
    };
    assert_eq!((dns.persistence, dns.one_packet), (Some(persistence), true));
    assert_eq!((services[0].persistence, services[0].one_packet), (None, false));
    assert_eq!(dns.servers[1].address.to_string(), "10.0.2.12:53");
    assert_eq!(dns.servers[1].tunnel.to_string(), "gue:6080:csum");
}

#[test]
fn every_word_for_rss_is_known_by_its_name() {
    for (word, rss) in
        [("symmetric", Rss::Symmetric), ("source", Rss::Source), ("destination", Rss::Destination)]
    {
        assert_eq!(good(&format!("{LEAST}rss = '{word}'\n")).ports[0].rss, rss);
    }
}

#[test]
fn the_plan_says_what_would_be_done() {
    let expected = "\
control socket /tmp/director.sock
256 MB of memory without hugepages, 16384 mbufs
further EAL arguments: --log-level=lib.eal:debug --iova-mode=va
2 worker lcores on CPUs 1, 3, sleeping when idle
room for 5000 connections of IPv4 and 3000 of IPv6 per lcore, 700 templates, 10 services and 20 servers
timeouts tcp 60 s, tcp_fin 10 s, udp 2678400 s
settings am_droprate 5, amemthresh 2000, cache_bypass true, conn_reuse_mode 3, drop_entry 1, drop_packet 2, \
expire_nodest_conn true, expire_quiescent_template true, lblc_expiration 60, lblcr_expiration 2678400, \
mss_clamp true, nat_icmp_send true, pmtu_disc false, run_estimation false, schedule_icmp true, secure_tcp 3, sloppy_sctp true, \
sloppy_tcp true
FTP by nat at TCP ports 21, 2121
port 0 net_tap0,iface=dtap0, virtual device of net_tap, mirrored by dir0, mtu 1400, \
512 receive and 256 transmit descriptors, RSS by source alone if the device can
port 1 0000:03:00.0, PCI device, without a mirror, mtu 1500, 1024 receive and 1024 transmit descriptors
mark 1: tcp from 192.0.2.0/24 from port 1024-65535 to 10.99.0.1 or 10.99.1.0/24 \
to port 80 or 443 or 8000-8010 received by port 1 with DSCP 46
service tcp 10.99.0.1:80 scheduler wlc
  passive 3 unanswered in 2.5 s, hold 60 s
  on failure inhibit
  10.0.2.11:80 nat weight 1
service udp 10.99.0.1:53 scheduler mh fallback hash_port persistent 600 s granularity 24 engine sip one_packet
  check dns A example.com at 192.0.2.53 port 5354 every 5 s for at most 0.5 s, rise 2, fall 4
  check https /healthz?deep=1 of www.example.com:443 every 60 s for at most 5 s, rise 1, fall 3
  check icmp every 60 s for at most 5 s, rise 1, fall 3
  check udp every 60 s for at most 5 s, rise 1, fall 3 of 10.0.2.11:5353 alone
  check smtp every 60 s for at most 5 s, rise 1, fall 3 of 10.0.2.11:5353 alone
  check grpc echo.Echo every 60 s for at most 5 s, rise 1, fall 3 of 10.0.2.11:5353 alone
  check exec /bin/true -x every 60 s for at most 5 s, rise 1, fall 3 of 10.0.2.11:5353 alone
  on failure remove, slow start 12.5 s, quorum 2 hysteresis 1, at most 50 % out, sorry server 10.0.2.99:5353 nat
  10.0.2.11:5353 nat weight 0 upper_threshold 100 lower_threshold 80
  10.0.2.12:53 tunnel gue:6080:csum weight 1
service mark 1/ipv6 scheduler wlc without real servers
";
    assert_eq!(good(WHOLE).plan(), expected);
    assert!(
        good(LEAST).plan().contains("one worker lcore on the last CPU that the process may run on, sleeping")
    );
}

#[test]
fn the_manual_has_every_key_and_its_examples_are_right() {
    let manual = include_str!("../../../../docs/configuration.md");
    for (table, keys) in KEYS {
        let titles = match *table {
            "" => ["## Top level\n".to_owned(), String::new()],
            // The same checks, for one real server alone.
            "service.server.check" => ["## `[[service.check]]`".to_owned(), String::new()],
            table => [format!("## `[{table}]`\n"), format!("## `[[{table}]]`\n")],
        };
        let titled =
            |section: &&str| titles.iter().any(|title| !title.is_empty() && section.starts_with(&title[3..]));
        let section = manual.split("\n## ").find(titled).unwrap_or_else(|| panic!("no section {table:?}"));
        for key in *keys {
            // A table has a section of its own instead of a row.
            let is_table =
                KEYS.iter().any(|(name, _)| name.rsplit('.').next() == Some(*key) && name.contains(table));
            assert!(is_table || section.contains(&format!("\n| `{key}` | ")), "{table} {key} is missing");
        }
    }
    let examples: Vec<&str> =
        manual.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!examples.is_empty());
    for example in examples {
        good(example);
    }
}

#[test]
fn the_examples_of_readme_and_guides_are_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    let guides = std::fs::read_dir(root.join("docs/guides")).expect("docs/guides").flatten();
    let mut seen = 0;
    for page in guides.map(|entry| entry.path()).chain([root.join("README.md")]) {
        let text = std::fs::read_to_string(&page).expect("readable");
        for example in text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            good(example);
            seen += 1;
        }
    }
    assert!(seen >= 5, "only {seen} examples");
}
