//! Where the errors of a wrong file are, what they say, and that there are no more of them.

use super::*;

#[test]
fn unknown_keys_are_all_reported_with_the_nearest_known_one() {
    let text = "sockett = 1\n[timeouts]\ntcp-fin = 3\ncapacity = 1\n[[port]]\n\
                device = 'net_af_packet0,iface=eth0'\n  [[service]]\n  protocol = 'tcp'\n\
                address = '10.0.0.1:80'\nschedular = 'rr'\nfrobnicate = []\n\
                server = [{ address = '10.0.2.1', wieght = 2 }]\n";
    let (errors, remedies) = wrong(text);
    assert_eq!(
        errors,
        [
            "1:1 sockett: there is no key `sockett`",
            "3:1 timeouts.tcp-fin: there is no key `tcp-fin`",
            "4:1 timeouts.capacity: there is no key `capacity`",
            "10:1 service[0].schedular: there is no key `schedular`",
            "11:1 service[0].frobnicate: there is no key `frobnicate`",
            "12:35 service[0].server[0].wieght: there is no key `wieght`",
        ]
    );
    assert_eq!(
        remedies,
        [
            "did you mean `socket`?",
            "did you mean `tcp_fin`?",
            "move it to `connections`, where `capacity` belongs",
            "did you mean `scheduler`?",
            "remove it; the keys here are mark, family, protocol, address, scheduler, fallback, hash_port, \
             persistence_timeout, persistence_granularity, persistence_engine, one_packet, on_failure, slow_start, quorum, \
             hysteresis, max_out, sorry_server, sorry_server_method, check, passive, server",
            "did you mean `weight`?",
        ]
    );
}

#[test]
fn several_errors_come_at_once_each_at_its_line() {
    let text = r#"[dpdk]
hugepages = "maybe"
memory_mb = "512"

[lcores]
cpus = [1, 2, 1, 5000]

[timeouts]
udp = 0

[[port]]
device = "0000:03:00.0"
mtu = 70000

[[service]]
protocol = "dccp"
address = "10.0.0.1"

[[service]]
protocol = "tcp"
address = "10.0.0.1:80"
scheduler = "rr"
hash_port = true
  [[service.server]]
  address = "10.0.2"
  [[service.server]]
  address = "10.0.2.11:8080"
  [[service.server]]
  address = "10.0.2.12"
  weight = 65536
  method = "Nat"
  [[service.server]]
  weight = 1.5
"#;
    let (errors, _) = wrong(text);
    let expected = [
        "2:13 dpdk.hugepages: \"maybe\" is not known here",
        "3:13 dpdk.memory_mb: this is a string",
        "6:15 lcores.cpus[2]: CPU 1 is named twice",
        "6:18 lcores.cpus[3]: 5000 is out of range",
        "9:7 timeouts.udp: 0 is out of range",
        "11:1 port[0]: the port has no `mirror`, which every device needs that the kernel does not keep",
        "13:7 port[0].mtu: 70000 is out of range",
        "16:12 service[0].protocol: \"dccp\" is not known here",
        "17:11 service[0].address: 10.0.0.1 has no port",
        "23:13 service[1].hash_port: scheduler rr of virtual service tcp 10.0.0.1:80 knows neither the fallback \
         nor the port flag",
        "25:13 service[1].server[0].address: \"10.0.2\" is not an address",
        "27:13 service[1].server[1].address: real server 10.0.2.11:8080 of virtual service tcp 10.0.0.1:80 cannot \
         have port 8080 with forwarding method dr: packets reach it with the service's port 80",
        "30:12 service[1].server[2].weight: 65536 is out of range",
        "31:12 service[1].server[2].method: \"Nat\" is not known here",
        "32:3 service[1].server[3]: the real server has no `address`",
        "33:12 service[1].server[3].weight: this is a number with a fraction",
    ];
    assert_eq!(errors, expected);
}

#[test]
fn an_error_reads_as_place_reason_and_remedy() {
    let errors = Config::parse(&format!("{LEAST}mtu = 5\n[lcores]\nidle = 'pol'\n"), "/etc/d.toml");
    assert_eq!(
        errors.expect_err("two errors").to_string(),
        "/etc/d.toml:3:7: port[0].mtu: 5 is out of range\n    to mend it: give a number from 68 to 9216\n\
         /etc/d.toml:5:8: lcores.idle: \"pol\" is not known here\n    to mend it: did you mean \"poll\"? \
         It can be \"auto\", \"poll\", \"sleep\""
    );
}

#[test]
fn a_syntax_error_is_reported_alone_with_its_line() {
    let (errors, _) = wrong("unknown = 1\n[dpdk\nmtu = 1\n");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("2:6 : this is not TOML: "), "{errors:?}");
    let (errors, _) = wrong("[dpdk]\nmbufs = 600\nmbufs = 700\n");
    assert!(errors[0].starts_with("3:1 : this is not TOML: duplicate key"), "{errors:?}");
}

#[test]
fn columns_count_characters() {
    let (errors, _) = wrong("socket = 'ü'; x\n");
    assert!(errors[0].starts_with("1:13 "), "{errors:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("director.toml");
    let errors = Config::load(&path).expect_err("there is no such file");
    let text = errors.to_string();
    let start = format!("{}: cannot read the configuration: No such file", path.display());
    assert!(text.starts_with(&start), "{text}");
    std::fs::write(&path, LEAST).expect("the temporary folder can be written");
    assert_eq!(Config::load(&path), Ok(good(LEAST)));
}

#[test]
fn services_and_servers_are_refused_twice() {
    let service = "[[service]]\nprotocol='tcp'\naddress='10.0.0.1:80'\n";
    let (error, _) = wrong_after_least(&format!("{service}{service}"));
    assert_eq!(error, "8:9 service[1].address: virtual service tcp 10.0.0.1:80 is service[0] already");
    good(&format!("{LEAST}{service}{}", service.replace("tcp", "udp")));
    let (error, remedy) =
        wrong_after_least(&format!("{service}server=[{{address='10.0.2.1'}}, {{address='10.0.2.1:80'}}]\n"));
    assert_eq!(
        error,
        "6:40 service[0].server[1].address: virtual service tcp 10.0.0.1:80 has the real server 10.0.2.1:80 already"
    );
    assert_eq!(remedy, "remove one of the two, or change its address or port");
}

#[test]
fn limits_are_reported_at_the_first_that_has_no_room() {
    let text = format!(
        "{LEAST}[limits]\nservices=2\nservers=1\n{}",
        "[[service]]\nprotocol='tcp'\naddress='10.0.0.1:1'\nserver=[{address='10.0.2.1'}]\n".repeat(3)
    );
    let (errors, _) = wrong(&text.replacen(":1'", ":2'", 1).replacen(":1'", ":3'", 1));
    let expected = [
        "13:9 service[1].server[0]: there is room for 1 servers only, all of them taken",
        "14:1 service[2]: there is room for 2 services only, all of them taken",
    ];
    assert_eq!(errors, expected);
}

#[test]
fn one_mistake_makes_one_complaint() {
    // What a misunderstood value would have allowed is not held against the values that depend on it.
    let service = "[[service]]\nprotocol='tcp'\naddress='10.0.0.1:80'\n";
    wrong_after_least(&format!("{service}scheduler='mhh'\nfallback=true\n"));
    wrong_after_least(&format!("{service}server=[{{address='10.0.2.1:8080',method='natt'}}]\n"));
    wrong_after_least("[[service]]\nprotocol='tcp'\naddress='10.0.0.1'\nserver=[{address='10.0.2.1'}]\n");
    wrong_after_least("[[service]]\nprotocol=6\naddress='10.0.0.1:80'\n");
    wrong_after_least("[[service]]\nprotocol='tcp'\n");
    wrong_after_least("[[service]]\naddress='[fe80::1]:80'\nprotocol='tcp'\n");
    wrong_after_least("[[service]]\naddress='10.0.0.1:0'\nprotocol='tcp'\n");
    assert_eq!(
        wrong("[[port]]\ndevice='net_tap0'\nmirror=7\n").0,
        ["3:8 port[0].mirror: this is a whole number"]
    );
}
