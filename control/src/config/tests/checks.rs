//! Health checks in a file: what they mean, and what is wrong with wrong ones.

use std::time::Duration;

use super::*;
use crate::health::{Check, Dns, Grpc, Http, Kind, OnFailure, Passive, Policy, Reply, Smtp, Tls, Udp};

/// A service with a check of these words.
fn service(check: &str) -> String {
    format!(
        "[[service]]\nprotocol='tcp'\naddress='10.0.0.1:80'\nserver=[{{address='10.0.2.1'}}]\n\
         [[service.check]]\n{check}\n"
    )
}

fn policy_of(text: &str) -> Policy {
    let config = good(&format!("{LEAST}{text}"));
    let policy = config.health.values().next().unwrap_or_else(|| panic!("no check in {text}"));
    Policy::clone(policy)
}

fn check_of(check: &str) -> Check {
    Check::clone(&policy_of(&service(check)).checks[0])
}

#[test]
fn what_is_left_out_is_keepalived_s() {
    let policy = policy_of(&service("kind = 'tcp'"));
    let check = Check {
        kind: Kind::Tcp,
        interval: Duration::from_secs(60),
        timeout: Duration::from_secs(5),
        rise: 1,
        fall: 3,
        delay_before_retry: Duration::from_secs(1),
        jitter: 10,
        start_up: true,
        connect_ip: None,
        connect_port: None,
    };
    assert_eq!(policy, Policy { checks: vec![Arc::new(check)], ..Policy::default() });
    assert_eq!((policy.on_failure, policy.quorum, policy.hysteresis), (OnFailure::Inhibit, 1, 0));
    assert_eq!((policy.max_out, policy.slow_start), (100, Duration::ZERO));
    let http = Http { path: "/".to_owned(), host: None, status: vec![200..=299], body: None, tls: None };
    assert_eq!(check_of("kind = 'http'").kind, Kind::Http(http.clone()));
    let tls = Some(Tls::default());
    assert_eq!(check_of("kind = 'https'").kind, Kind::Http(Http { tls, ..http }), "nothing is verified");
    assert_eq!(check_of("kind = 'dns'").to_string(), "dns SOA .");
    assert_eq!(check_of("kind = 'udp'").kind, Kind::Udp(Udp::default()));
}

#[test]
fn every_key_of_a_check_is_understood() {
    let config = good(WHOLE);
    let service = "udp 10.99.0.1:53".parse().expect("a service");
    let policy = config.health.get(&service).expect("the service has checks");
    assert_eq!(config.health.len(), 2);
    let dns = &policy.checks[0];
    let name = domain::base::Name::vec_from_str("example.com").expect("a name");
    assert_eq!(dns.kind, Kind::Dns(Dns { name, record: domain::base::Rtype::A }));
    assert_eq!((dns.interval, dns.timeout), (Duration::from_secs(5), Duration::from_millis(500)));
    assert_eq!((dns.rise, dns.fall, dns.jitter, dns.start_up), (2, 4, 0, false));
    assert_eq!(dns.delay_before_retry, Duration::from_millis(250));
    assert_eq!((dns.connect_ip, dns.connect_port), ("192.0.2.53".parse().ok(), Some(5354)));
    let Kind::Http(http) = &policy.checks[1].kind else { panic!("{:?}", policy.checks[1]) };
    assert_eq!((http.path.as_str(), http.host.as_deref()), ("/healthz?deep=1", Some("www.example.com:443")));
    assert_eq!(http.status, [200..=299, 301..=301]);
    assert!(http.body.as_ref().is_some_and(|body| body.0.is_match(b"ok then") && !body.0.is_match(b"okay")));
    let server_name = Some("www.example.com".to_owned());
    assert_eq!(http.tls, Some(Tls { server_name, verify: true, ca_file: None }), "by the host's name");
    assert_eq!(policy.checks[2].kind, Kind::Icmp);
    let own = policy.checks_of("10.0.2.11:5353".parse().expect("an address"));
    let reply = Some(Reply(vec![Some(10), None]));
    assert_eq!(own[0].kind, Kind::Udp(Udp { payload: vec![10, 255], reply }));
    assert_eq!(own[1].kind, Kind::Smtp(Smtp { helo_name: "lb1.example.com".to_owned() }));
    let server_name = Some("grpc.example.com".to_owned());
    let tls = Some(Tls { server_name, verify: false, ca_file: None });
    assert_eq!(own[2].kind, Kind::Grpc(Grpc { service: "echo.Echo".to_owned(), tls }));
    assert_eq!(own[3].kind, Kind::Exec(vec!["/bin/true".to_owned(), "-x".to_owned()]));
    assert_eq!(policy.checks_of("10.0.2.12:53".parse().expect("an address")).len(), 3);
    assert_eq!(policy.on_failure, OnFailure::Remove);
    assert_eq!((policy.quorum, policy.hysteresis, policy.max_out), (2, 1, 50));
    assert_eq!(policy.slow_start, Duration::from_millis(12_500));
    let sorry = policy.sorry_server.expect("there is one");
    assert_eq!((sorry.address.to_string().as_str(), sorry.method.word()), ("10.0.2.99:5353", "nat"));
}

#[test]
fn one_check_needs_no_brackets_and_a_real_server_may_have_none() {
    let text = "[[service]]\nprotocol='tcp'\naddress='10.0.0.1:80'\n[service.check]\nkind='tcp'\n\
                [[service.server]]\naddress='10.0.2.1'\n[[service.server]]\naddress='10.0.2.2'\ncheck=[]\n\
                [[service.server]]\naddress='10.0.2.3'\n[service.server.check]\nkind='icmp'\n";
    let policy = policy_of(text);
    let kinds = |server: &str| {
        let checks = policy.checks_of(server.parse().expect("an address")).iter();
        checks.map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(kinds("10.0.2.1:80"), ["tcp"]);
    assert!(kinds("10.0.2.2:80").is_empty());
    assert_eq!(kinds("10.0.2.3:80"), ["icmp"]);
    assert_eq!(kinds("10.0.2.77:80"), ["tcp"], "one that is added later");
}

#[test]
fn wrong_checks_are_told_with_their_place() {
    for (check, place, reason, remedy) in [
        ("interval = 5", "7:1", "the check has no `kind`", "kind = \"tcp\""),
        ("kind = 'htp'", "8:8", "\"htp\" is not known here", "did you mean \"http\"?"),
        ("kind = 'tcp'\npath = '/'", "9:8", "`path` goes with kind \"http\" or \"https\" only", "remove it"),
        ("kind = 'tcp'\ninterval = 0", "9:12", "0 is out of range", "seconds from 0.05 to 86400"),
        ("kind = 'tcp'\ntimeout = inf", "9:11", "inf is out of range", "fractions"),
        ("kind = 'tcp'\ntimeout = '5s'", "9:11", "this is a string", "a number"),
        ("kind = 'tcp'\nrise = 0", "9:8", "0 is out of range", "from 1 to 1000"),
        ("kind = 'tcp'\nstart = 'alpha'", "9:9", "\"alpha\" is not known here", "\"up\", \"down\""),
        ("kind = 'tcp'\nconnect_ip = '10.0.0.1:80'", "9:14", "\"10.0.0.1:80\" is not an address", "without"),
        ("kind = 'http'\npath = 'healthz'", "9:8", "\"healthz\" is not a path", "begins with `/`"),
        ("kind = 'http'\nstatus_code = ['2xx']", "9:16", "\"2xx\" is not a status", "\"200-299\""),
        ("kind = 'http'\nstatus_code = []", "9:15", "no status passes", "at least one"),
        ("kind = 'http'\nregex = '('", "9:9", "this is not a regular expression: unclosed group", "correct"),
        ("kind = 'https'\nsni_name = '10.0.0.1'", "9:12", "\"10.0.0.1\" is not a name of a server", "DNS"),
        ("kind = 'https'\nverify = true\nca_file = '/nonexistent.pem'", "10:11", "/nonexistent.pem: ", "PEM"),
        (
            "kind = 'grpc'\nverify = true",
            "9:10",
            "it is for TLS, which the check does not speak",
            "tls = true",
        ),
        (
            "kind = 'grpc'\ntls = false\nverify = true",
            "10:10",
            "it is for TLS, which the check does not speak",
            "set tls = true, or remove it",
        ),
        ("kind = 'udp'\npayload = '0'", "9:11", "\"0\" is not hexadecimal", "two digits"),
        ("kind = 'udp'\npayload = 'XX'", "9:11", "\"XX\" is not hexadecimal", "two digits"),
        ("kind = 'dns'\nname = 'a..b'", "9:8", "\"a..b\" is not a domain name", "example.com"),
        ("kind = 'dns'\ntype = 'ADRESS'", "9:8", "\"ADRESS\" is not a type of records", "SOA"),
        ("kind = 'exec'", "7:1", "the check has no `command`", "command = ["),
        ("kind = 'exec'\ncommand = ['true']", "9:12", "\"true\" is not a full path", "`/`"),
        ("kind = 'smtp'\nhelo_name = 'a b'", "9:13", "\"a b\" is not a name to greet with", "name"),
    ] {
        let (error, mended) = wrong_after_least(&service(check));
        assert!(error.starts_with(&format!("{place} service[0].check[0]")), "{check}: {error}");
        assert!(error.contains(reason), "{check}: {error}");
        assert!(mended.contains(remedy), "{check}: {mended}");
    }
}

/// A TCP service with passive checks by these words, and a NAT real server.
fn passive(words: &str) -> String {
    format!(
        "[[service]]\nprotocol='tcp'\naddress='10.0.0.1:80'\n[service.passive]\n{words}\n\
         [[service.server]]\naddress='10.0.2.1'\nmethod='nat'\n"
    )
}

#[test]
fn a_service_may_have_passive_checks_alone() {
    let policy = policy_of(&passive(""));
    assert_eq!(policy, Policy { passive: Some(Passive::default()), ..Policy::default() });
    let set = policy_of(&passive("unanswered = 2\nwindow = 1.5\nhold = 5")).passive.expect("it is there");
    let wanted = Passive { unanswered: 2, window: Duration::from_millis(1500), hold: Duration::from_secs(5) };
    assert_eq!(set, wanted);
    let quorum = passive("").replace("[service.passive]", "quorum = 2\n[service.passive]");
    assert_eq!(policy_of(&quorum).quorum, 2, "what follows from checks follows from these");
    // Who is not to be checked is not listened to either.
    let exempt = passive("") + "[[service.server]]\naddress='10.0.2.2'\nmethod='nat'\ncheck=[]\n";
    let policy = policy_of(&exempt);
    let of = |server: &str| policy.passive_of(server.parse().expect("an address")).is_some();
    assert_eq!((of("10.0.2.1:80"), of("10.0.2.2:80"), of("10.0.2.77:80")), (true, false, true));
    // What a service by mark has of TCP counts.
    good(&format!("{LEAST}[[service]]\nmark=1\n[service.passive]\n"));
}

#[test]
fn wrong_passive_checks_are_told_with_their_place() {
    for (words, expected) in [
        ("unanswered = 0", "7:14 service[0].passive.unanswered: 0 is out of range"),
        ("window = 0.5", "7:10 service[0].passive.window: 0.5 is out of range"),
        ("hold = '5s'", "7:8 service[0].passive.hold: this is a string"),
        ("holt = 5", "7:1 service[0].passive.holt: there is no key `holt`"),
    ] {
        let (error, _) = wrong_after_least(&passive(words));
        assert_eq!(error, expected);
    }
    let (error, remedy) = wrong_after_least(&passive("").replace("'tcp'", "'udp'"));
    assert_eq!(
        error,
        "6:1 service[0].passive: whether connections are answered is known of TCP alone, and the service is by udp"
    );
    assert!(remedy.contains("[[service.check]]"), "{remedy}");
    let (error, remedy) = wrong_after_least(&passive("").replace("'nat'", "'tunnel'"));
    assert_eq!(
        error,
        "6:1 service[0].passive: the director does not see what real server 10.0.2.1:80 answers, which has \
         forwarding method tunnel"
    );
    assert!(remedy.contains("method = \"nat\""), "{remedy}");
    let (error, remedy) = wrong_after_least(
        "[[service]]\nprotocol='tcp'\naddress='10.0.0.1:80'\n[[service.passive]]\nhold = 5\n",
    );
    assert_eq!(error, "6:1 service[0].passive: this is an array");
    assert_eq!(remedy, "make it a table: write [service.passive]");
}

#[test]
fn what_follows_from_checks_is_held_to_its_rules() {
    let with = |words: &str, check: &str| {
        let service = "[[service]]\nprotocol='tcp'\naddress='10.0.0.1:80'\nserver=[{address='10.0.2.1'}]\n";
        wrong_after_least(&format!("{service}{words}\n{check}"))
    };
    let check = "[service.check]\nkind = 'tcp'\n";
    for (words, reason) in [
        ("quorum = 2\nhysteresis = 2", "8:14 service[0].hysteresis: with a hysteresis of 2 the quorum of 2"),
        ("max_out = 101", "7:11 service[0].max_out: 101 is out of range"),
        ("on_failure = 'delete'", "7:14 service[0].on_failure: \"delete\" is not known here"),
        ("sorry_server = '10.0.2.1'", "7:16 service[0].sorry_server: the sorry server 10.0.2.1:80 is a real"),
        ("sorry_server = 'x'", "7:16 service[0].sorry_server: \"x\" is not an address"),
        ("sorry_server = '10.0.2.9:81'", "7:16 service[0].sorry_server: real server 10.0.2.9:81 of virtual"),
        ("sorry_server_method = 'nat'", "7:23 service[0].sorry_server_method: there is no `sorry_server`"),
    ] {
        let (error, _) = with(words, check);
        assert!(error.starts_with(reason), "{words}: {error}");
    }
    let (error, remedy) = with("quorum = 2", "");
    assert!(
        error.starts_with("7:10 service[0].quorum: `quorum` says what follows from health checks"),
        "{error}"
    );
    assert!(remedy.contains("[[service.check]]"), "{remedy}");
    let (error, _) = wrong_after_least(
        "[[service]]\nprotocol='tcp'\naddress='10.0.0.1:0'\npersistence_timeout=60\n[service.check]\nkind='tcp'\n",
    );
    assert!(error.contains("service[0].check: the service has every port"), "{error}");
}

#[test]
fn a_hashing_scheduler_that_would_refuse_clients_is_pointed_at() {
    let text = |words: &str| {
        let service = service("kind = 'tcp'").replace("server=", &format!("{words}\nserver="));
        good(&format!("{LEAST}{service}")).plan()
    };
    assert!(text("scheduler = 'mh'").contains("add fallback = true or on_failure = \"remove\""));
    assert!(!text("scheduler = 'mh'\nfallback = true").contains("refuses"));
    assert!(!text("scheduler = 'wlc'").contains("refuses"));
}

#[test]
fn the_examples_of_the_guide_are_right() {
    let guide = include_str!("../../../../docs/health.md");
    let examples: Vec<&str> =
        guide.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 2);
    for example in examples {
        assert_eq!(good(example).health.len(), 1, "{example}");
    }
}
