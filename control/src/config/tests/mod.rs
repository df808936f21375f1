mod checks;
mod places;
mod ranges;
mod right;

use proptest::prelude::*;

use super::*;

/// The least that a director needs.
const LEAST: &str = "[[port]]\ndevice = \"net_af_packet0,iface=eth0\"\n";

/// Every key, with a value that is not its default.
const WHOLE: &str = r#"socket = "/tmp/director.sock"
history = "/tmp/history"
ftp_ports = [21, 2121]

[dpdk]
hugepages = "no"
memory_mb = 256
mbufs = 16384
eal_args = ["--log-level=lib.eal:debug", "--iova-mode=va"]

[lcores]
cpus = [1, 3]
idle = "sleep"

[connections]
capacity = 5000
ipv6_capacity = 3000
templates = 700

[limits]
services = 10
servers = 20

[timeouts]
tcp = 60
tcp_fin = 10
udp = 2_678_400

[settings]
am_droprate = 5
amemthresh = 2000
cache_bypass = true
conn_reuse_mode = 3
drop_entry = 1
drop_packet = 2
expire_nodest_conn = true
expire_quiescent_template = true
lblc_expiration = 60
lblcr_expiration = 2_678_400
nat_icmp_send = true
mss_clamp = true
pmtu_disc = false
run_estimation = false
schedule_icmp = true
secure_tcp = 3
sloppy_sctp = true
sloppy_tcp = true

[[port]]
device = "net_tap0,iface=dtap0"
mirror = "dir0"
mtu = 1400
rx_descriptors = 512
tx_descriptors = 256
rss = "source"

[[port]]
device = "03:00.0"
mirror = "none"

[[mark]]
mark = 1
protocol = "tcp"
sources = ["192.0.2.0/24"]
destinations = ["10.99.0.1", "10.99.1.0/24"]
source_ports = ["1024-65535"]
destination_ports = ["80", "443", "8000-8010"]
ingress = 1
dscp = 46

[[service]]
protocol = "udp"
address = "10.99.0.1:53"
scheduler = "mh"
fallback = true
hash_port = true
persistence_timeout = 600
persistence_granularity = 24
persistence_engine = "sip"
one_packet = true
on_failure = "remove"
slow_start = 12.5
quorum = 2
hysteresis = 1
max_out = 50
sorry_server = "10.0.2.99:5353"
sorry_server_method = "nat"
  [[service.check]]
  kind = "dns"
  interval = 5
  timeout = 0.5
  rise = 2
  fall = 4
  delay_before_retry = 0.25
  jitter = 0
  start = "down"
  connect_ip = "192.0.2.53"
  connect_port = 5354
  name = "example.com"
  type = "A"
  [[service.check]]
  kind = "https"
  path = "/healthz?deep=1"
  virtualhost = "www.example.com:443"
  status_code = ["200-299", "301"]
  regex = '^ok\b'
  verify = true
  [[service.check]]
  kind = "icmp"
  [[service.server]]
  address = "10.0.2.11:5353"
  method = "nat"
  weight = 0
  upper_threshold = 100
  lower_threshold = 80
    [[service.server.check]]
    kind = "udp"
    payload = "0a ff"
    require_reply = "0a XX"
    [[service.server.check]]
    kind = "smtp"
    helo_name = "lb1.example.com"
    [[service.server.check]]
    kind = "grpc"
    tls = true
    sni_name = "grpc.example.com"
    grpc_service = "echo.Echo"
    [[service.server.check]]
    kind = "exec"
    command = ["/bin/true", "-x"]
  [[service.server]]
  address = "10.0.2.12"
  method = "tunnel"
  tunnel = "gue:6080:csum"

[[service]]
protocol = "tcp"
address = "10.99.0.1:80"
  [service.passive]
  unanswered = 3
  window = 2.5
  hold = 60
  [[service.server]]
  address = "10.0.2.11"
  method = "nat"

[[service]]
mark = 1
family = "ipv6"
"#;

fn good(text: &str) -> Config {
    Config::parse(text, "d.toml").unwrap_or_else(|errors| panic!("{errors}"))
}

/// The errors as `line:column key: reason`, with the remedies apart.
fn wrong(text: &str) -> (Vec<String>, Vec<String>) {
    let errors = Config::parse(text, "d.toml").expect_err("the text is wrong");
    let line = |error: &ConfigError| {
        let Position { line, column } = error.position.expect("an error in a text has a place");
        format!("{line}:{column} {}: {}", error.key, error.reason)
    };
    (errors.iter().map(line).collect(), errors.iter().map(|error| error.remedy.clone()).collect())
}

/// The one error of the least configuration with this appended, counted from the first line appended.
fn wrong_after_least(text: &str) -> (String, String) {
    let (errors, remedies) = wrong(&format!("{LEAST}{text}"));
    assert_eq!(errors.len(), 1, "{errors:?}");
    (errors[0].clone(), remedies[0].clone())
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let _ = Config::parse(&text, "d.toml");
    }

    #[test]
    fn no_damage_to_a_good_file_makes_it_panic_or_err_without_a_place(
        from in 0..WHOLE.len(),
        length in 0..40_usize,
        instead in "[a-z0-9=\\[\\]{}'\",.# \n-]{0,12}",
    ) {
        let mut text = WHOLE.to_owned();
        text.replace_range(from..(from + length).min(WHOLE.len()), &instead);
        match Config::parse(&text, "d.toml") {
            Ok(config) => prop_assert!(!config.plan().is_empty()),
            Err(errors) => {
                prop_assert!(errors.iter().count() > 0);
                for error in errors.iter() {
                    let place = error.position.expect("an error in a text has a place");
                    let line = text.split('\n').nth(place.line - 1).expect("the line is in the text");
                    prop_assert!(place.column <= line.chars().count() + 1);
                    prop_assert!(!error.reason.is_empty() && !error.remedy.is_empty());
                }
            }
        }
    }
}
