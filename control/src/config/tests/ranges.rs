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
fn a_socket_path_fits_the_kernels_address() {
    good(&format!("socket = '/{}'\n{LEAST}", "s".repeat(106)));
    assert_eq!(wrong(&format!("socket = '/{}'\n{LEAST}", "s".repeat(107))).0.len(), 1);
    assert_eq!(wrong(&format!("socket = ''\n{LEAST}")).0, ["1:10 socket: this is not a path"]);
    assert_eq!(
        wrong_after_least("[dpdk]\neal_args = ['']\n").0,
        "4:13 dpdk.eal_args[0]: this is not an argument"
    );
}
