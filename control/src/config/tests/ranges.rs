//! Which ports, names and numbers a file can have.

use super::*;

#[test]
fn devices_mirrors_and_interfaces_belong_to_one_port() {
    let port = |device: &str, mirror: &str| format!("[[port]]\ndevice='{device}'\nmirror='{mirror}'\n");
    let (errors, _) = wrong(&format!("{}{}", port("0000:03:00.0", "a0"), port("03:00.0", "b0")));
    assert_eq!(errors, ["5:8 port[1].device: device 0000:03:00.0 is port[0] already"]);
    let (errors, _) = wrong(&format!("{}{}", port("net_tap0", "a0"), port("net_tap1", "a0")));
    assert_eq!(errors, ["6:8 port[1].mirror: kernel interface a0 belongs to port[0] already"]);
    let (errors, _) = wrong(&port("net_tap0,iface=t0", "t0"));
    assert_eq!(errors, ["3:8 port[0].mirror: kernel interface t0 belongs to port[0] already"]);
    let (errors, _) = wrong(&format!("{LEAST}[[port]]\ndevice='net_af_xdp0,iface=eth0'\n"));
    assert_eq!(errors, ["4:8 port[1].device: kernel interface eth0 belongs to port[0] already"]);
    good(&format!("{}{}", port("net_null0", "none"), port("net_null1", "none")));
}

#[test]
fn every_port_has_a_device_and_a_mirror_unless_the_kernel_keeps_it() {
    let (errors, _) = wrong("");
    assert_eq!(errors, ["1:1 : there is no port"]);
    assert_eq!(wrong("port = []").0, ["1:1 : there is no port"]);
    assert_eq!(wrong("[port]\n").0, ["1:1 port: this is a table"]);
    assert_eq!(wrong("[[port]]\nmirror='dir0'\n").0, ["1:1 port[0]: the port has no `device`"]);
    let (error, remedy) = wrong_after_least("mirror='dir0'\n");
    assert_eq!(error, "3:8 port[0].mirror: a device whose interface the kernel keeps has no mirror");
    assert!(remedy.contains("leave `mirror` out"));
    let (errors, _) = wrong("[[port]]\ndevice='net_af_packet0'\n");
    assert_eq!(errors, ["2:8 port[0].device: the device does not say which kernel interface it opens"]);
    let (errors, _) = wrong("[[port]]\ndevice='eth0'\nmirror='dir0'\n");
    assert_eq!(errors.len(), 1, "{errors:?}");
    let seventeen: String =
        (0..17).map(|n| format!("[[port]]\ndevice='net_null{n}'\nmirror='none'\n")).collect();
    assert_eq!(wrong(&seventeen).0, ["49:1 port[16]: there are 17 ports"]);
}

#[test]
fn interface_names_are_those_that_the_kernel_takes() {
    for name in ["", "a23456789012345z", "a b", "a/b", "a:b", "é", ".", "..", "-a"] {
        let (errors, _) = wrong(&format!("[[port]]\ndevice='net_tap0'\nmirror='{name}'\n"));
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].starts_with("3:8 port[0].mirror: the interface name"), "{errors:?}");
    }
    for name in ["a23456789012345", "dir0.100", "dir_0-a", "0"] {
        good(&format!("[[port]]\ndevice='net_tap0'\nmirror='{name}'\n"));
    }
}

#[test]
fn numbers_keep_to_their_ranges() {
    for (table, key, least, most) in [
        ("dpdk", "memory_mb", 64, 1_048_576),
        ("dpdk", "mbufs", 512, 16_777_216),
        ("connections", "capacity", 1, 268_435_456),
        ("limits", "services", 1, 65_536),
        ("limits", "servers", 1, 1_048_576),
        ("timeouts", "tcp", 1, 2_678_400),
        ("timeouts", "tcp_fin", 1, 2_678_400),
        ("timeouts", "udp", 1, 2_678_400_i64),
        ("settings", "am_droprate", 1, 4_294_967_295),
        ("settings", "amemthresh", 0, 4_294_967_295),
        ("settings", "conn_reuse_mode", 0, 3),
        ("settings", "secure_tcp", 0, 3),
        ("settings", "lblc_expiration", 1, 2_678_400),
    ] {
        for right in [least, most] {
            good(&format!("{LEAST}[{table}]\n{key} = {right}\n"));
        }
        for outside in [least - 1, most + 1, -1, i64::MAX] {
            let (error, remedy) = wrong_after_least(&format!("[{table}]\n{key} = {outside}\n"));
            assert!(error.ends_with(&format!(" {table}.{key}: {outside} is out of range")), "{error}");
            assert_eq!(remedy, format!("give a number from {least} to {most}"));
        }
    }
    for key in ["rx_descriptors", "tx_descriptors"] {
        good(&format!("{LEAST}{key} = 64\n"));
        good(&format!("{LEAST}{key} = 32768\n"));
        wrong_after_least(&format!("{key} = 63\n"));
        wrong_after_least(&format!("{key} = 32769\n"));
    }
    let (error, _) = wrong_after_least(&format!("mtu = {}\n", "9".repeat(60)));
    assert_eq!(error, "3:7 port[0].mtu: the number is far too large");
    assert_eq!(wrong_after_least("[lcores]\ncpus = []\n").1, "name at least one CPU, or leave `cpus` out");
    let many: Vec<String> = (0..128).map(|cpu| cpu.to_string()).collect();
    wrong_after_least(&format!("[lcores]\ncpus = [{}]\n", many.join(",")));
    good(&format!("{LEAST}[lcores]\ncpus = [{}]\n", many[1..].join(",")));
}

#[test]
fn the_history_is_at_a_full_path() {
    good(&format!("history = '/a/b'\n{LEAST}"));
    for bad in ["", "a/b", "./a"] {
        let reason = format!("1:11 history: {bad:?} is not a full path");
        assert_eq!(wrong(&format!("history = '{bad}'\n{LEAST}")).0, [reason]);
    }
}

#[test]
fn a_socket_path_fits_the_kernels_address() {
    good(&format!("socket = '/{}'\n{LEAST}", "s".repeat(106)));
    assert_eq!(wrong(&format!("socket = '/{}'\n{LEAST}", "s".repeat(107))).0.len(), 1);
    assert_eq!(wrong(&format!("socket = ''\n{LEAST}")).0, ["1:10 socket: this is not a path"]);
    assert_eq!(
        wrong_after_least("[dpdk]\neal_args = ['']\n").0,
        "4:13 dpdk.eal_args[0]: this is not an argument"
    );
}

#[test]
fn ftp_has_eight_ports_at_most_each_once() {
    let top = |ports: &str| format!("ftp_ports = [{ports}]\n{LEAST}");
    assert_eq!(good(LEAST).ftp_ports, [21]);
    assert_eq!(good(&top("")).ftp_ports, [0u16; 0]);
    assert_eq!(good(&top("1, 2, 3, 4, 5, 6, 7, 65535")).ftp_ports.len(), 8);
    for (ports, error) in [
        ("0", "1:14 ftp_ports[0]: 0 is out of range"),
        ("65536", "1:14 ftp_ports[0]: 65536 is out of range"),
        ("21, 21", "1:18 ftp_ports[1]: port 21 is named twice"),
        ("1, 2, 3, 4, 5, 6, 7, 8, 9", "1:38 ftp_ports[8]: there is no room for this port"),
    ] {
        assert_eq!(wrong(&top(ports)).0, [error]);
    }
}

#[test]
fn a_rule_for_marks_asks_for_what_packets_can_have() {
    for (lines, error, remedy) in [
        ("dscp = 1", "3:1 mark[0]: the rule has no `mark`", "mark = 1"),
        ("mark = 1", "3:1 mark[0]: the rule asks for nothing", "destinations ="),
        ("mark = 0\ndscp = 1", "4:8 mark[0].mark: 0 is out of range", "from 1 to 4294967295"),
        ("mark = 1\ndscp = 64", "5:8 mark[0].dscp: 64 is out of range", "from 0 to 63"),
        ("mark = 1\ningress = 1", "5:11 mark[0].ingress: there is no port 1", "the last one is 0"),
        ("mark = 1\ndestinations = []", "5:16 mark[0].destinations: the list is empty", "remove it"),
        (
            "mark = 1\ndestinations = ['10.99.0.0/33']",
            "5:17 mark[0].destinations[0]: \"10.99.0.0/33\" is no network",
            "write ADDRESS or ADDRESS/BITS",
        ),
        (
            "mark = 1\nsources = ['10.99.0.1/24']",
            "5:12 mark[0].sources[0]: \"10.99.0.1/24\" is no network",
            "no ones after its prefix",
        ),
        (
            "mark = 1\ndestination_ports = ['http']",
            "5:22 mark[0].destination_ports[0]: \"http\" is no range of ports",
            "write PORT or FIRST-LAST",
        ),
        (
            "mark = 1\nsources = ['::/0']\ndestinations = ['10.99.0.1']",
            "3:1 mark[0]: no packet goes from IPv4 to IPv6",
            "one family",
        ),
        ("mark = 1\ndscp = 1\nweight = 80", "6:1 mark[0].weight: there is no key `weight`", "move it to"),
    ] {
        let (errors, remedies) = wrong(&format!("{LEAST}[[mark]]\n{lines}\n"));
        assert!(errors[0].starts_with(error), "{lines}: {errors:?}");
        assert!(remedies[0].contains(remedy), "{lines}: {remedies:?}");
    }
}

#[test]
fn a_service_by_mark_has_neither_address_nor_protocol() {
    for (lines, error) in [
        (
            "mark = 1\naddress = '10.99.0.1:80'",
            "5:11 service[0].address: a service by `mark` has no `address`",
        ),
        ("mark = 1\nprotocol = 'tcp'", "5:12 service[0].protocol: a service by `mark` has no `protocol`"),
        ("mark = 1\nfamily = 'ipv5'", "5:10 service[0].family: \"ipv5\" is not known here"),
        ("mark = -1", "4:8 service[0].mark: -1 is out of range"),
        (
            "protocol = 'tcp'\naddress = '10.99.0.1:80'\nfamily = 'ipv4'",
            "6:10 service[0].family: `family` goes with `mark` only",
        ),
        (
            "mark = 1\n[[service]]\nmark = 1",
            "6:8 service[1].mark: virtual service mark 1 is service[0] already",
        ),
    ] {
        assert_eq!(wrong_after_least(&format!("[[service]]\n{lines}\n")).0, error);
    }
    let plan = good(&format!("{LEAST}[[service]]\nmark = 1\n")).plan();
    assert!(plan.contains("no packet gets there: no [[mark]] gives mark 1"), "{plan}");
    let plan = good(&format!("{LEAST}[[mark]]\nmark = 1\ndscp = 1\n[[service]]\nmark = 1\n")).plan();
    assert!(!plan.contains("no packet gets there"), "{plan}");
}

#[test]
fn a_persistence_engine_is_for_datagrams_and_makes_persistent() {
    let with = |service: &str| format!("[[service]]\n{service}\n");
    for protocol in ["tcp", "sctp"] {
        let text = format!("protocol='{protocol}'\naddress='10.99.0.1:5060'\npersistence_engine='sip'");
        let (error, remedy) = wrong_after_least(&with(&text));
        assert_eq!(
            error,
            format!(
                "6:20 service[0].persistence_engine: virtual service {protocol} 10.99.0.1:5060 cannot have the \
                 persistence engine sip, which is for udp"
            )
        );
        assert_eq!(remedy, "remove it, or change protocol to \"udp\"");
    }
    let udp = |more: &str| with(&format!("protocol='udp'\naddress='10.99.0.1:5060'\n{more}"));
    let (error, remedy) = wrong_after_least(&udp("persistence_engine='spi'"));
    assert!(error.starts_with("6:20 service[0].persistence_engine: "), "{error}");
    assert!(remedy.contains("sip"), "{remedy}");
    let (error, _) = wrong_after_least(&udp("persistence_granularity=0"));
    assert!(
        error.ends_with("cannot have a persistence granularity of 0 bits: it is from 1 to 32"),
        "{error}"
    );
    for more in ["persistence_engine='sip'", "persistence_engine='sip'\npersistence_granularity=0"] {
        let config = good(&format!("{LEAST}{}", udp(more)));
        let service = config.model.services().values().next().expect("a service");
        let persistence = service.persistence.expect("persistent");
        assert_eq!((persistence.timeout.as_secs(), persistence.engine.word()), (360, "sip"));
    }
    let config = good(&format!("{LEAST}{}", udp("persistence_engine='none'")));
    assert!(config.model.services().values().all(|service| service.persistence.is_none()));
    good(&format!("{LEAST}{}", with("mark=1\npersistence_engine='sip'")));
}
