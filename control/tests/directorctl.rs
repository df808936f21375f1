//! The `directorctl` program, as a process, against a served socket.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use control::protocol::{Limits, Request};
use serde_json::{Value, json};
use support::Running;

fn directorctl(socket: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_directorctl"))
        .arg("--socket")
        .arg(socket)
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .expect("directorctl starts")
}

/// What it prints when all goes well.
fn good(running: &Running, arguments: &str) -> String {
    let output = directorctl(&running.path, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments}: {errors}");
    assert_eq!(errors, "", "{arguments}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What it complains about, with this exit status.
fn bad(socket: &Path, arguments: &str, status: i32) -> String {
    let output = directorctl(socket, arguments);
    let errors = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(status), "{arguments}: {errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{arguments}");
    errors
}

#[test]
fn services_and_servers_are_added_edited_listed_and_deleted() {
    let running = Running::start(0, Limits::default());
    assert_eq!(good(&running, "service add tcp 10.99.0.1:80 --scheduler rr"), "");
    assert_eq!(good(&running, "service add udp [2001:db8::80]:53 --scheduler sh --fallback --hash-port"), "");
    good(&running, "server add tcp 10.99.0.1:80 10.0.2.11:8080 --method nat --weight 2");
    good(&running, "server add tcp 10.99.0.1:80 10.0.2.12");
    good(&running, "server add udp [2001:db8::80]:53 2001:db8::b -m tunnel -w 0");
    assert_eq!(
        good(&running, "service list"),
        "\
Prot  LocalAddress:Port   Scheduler
  ->  RemoteAddress:Port  Forward                   Weight  ActiveConn  InActConn
TCP   10.99.0.1:80        rr
  ->  10.0.2.11:8080      Masq                           2           3          4
  ->  10.0.2.12:80        Route                          1           3          4
UDP   [2001:db8::80]:53   sh (sh-fallback,sh-port)
  ->  [2001:db8::b]:53    Tunnel                         0           3          4
"
    );
    assert_eq!(
        good(&running, "service list --counters").lines().take(4).collect::<Vec<_>>(),
        [
            "Prot  LocalAddress:Port   Conns  InPkts  OutPkts  InBytes  OutBytes",
            "  ->  RemoteAddress:Port",
            "TCP   10.99.0.1:80            7      70       60      700       600",
            "  ->  10.0.2.11:8080          5       0        0        0         0",
        ]
    );

    good(&running, "server edit tcp 10.99.0.1:80 10.0.2.12 --weight 0 --method nat");
    good(&running, "service edit tcp 10.99.0.1:80 --scheduler mh --hash-port");
    good(&running, "server del tcp 10.99.0.1:80 10.0.2.11:8080");
    good(&running, "service del udp [2001:db8::80]:53");
    let json: Value = serde_json::from_str(&good(&running, "--json service list")).expect("JSON");
    let service = &json["services"][0];
    assert_eq!(json["services"].as_array().map(Vec::len), Some(1));
    assert_eq!(service["service"], json!({"protocol": "tcp", "address": "10.99.0.1:80"}));
    assert_eq!(
        (&service["scheduler"], &service["flags"]),
        (&json!("mh"), &json!({"fallback": false, "port": true}))
    );
    assert_eq!(service["servers"].as_array().map(Vec::len), Some(1));
    let server = &service["servers"][0];
    assert_eq!(
        (&server["address"], &server["weight"], &server["method"]),
        (&json!("10.0.2.12:80"), &json!(0), &json!("nat"))
    );

    good(&running, "service edit tcp 10.99.0.1:80 --no-flags");
    assert!(good(&running, "service list").contains("TCP   10.99.0.1:80        mh\n"));
}

#[test]
fn persistence_thresholds_and_one_packet_scheduling() {
    let running = Running::start(0, Limits::default());
    good(&running, "service add tcp 10.99.0.1:0 --persistent 600 --granularity 255.255.255.0");
    good(&running, "service add tcp 10.99.0.1:443 --persistent");
    good(&running, "service add udp [2001:db8::80]:53 --granularity 64 --one-packet");
    good(&running, "service add udp 10.99.0.1:5060 -p 300 --persistence-engine sip --one-packet");
    good(&running, "server add tcp 10.99.0.1:443 10.0.2.11 -x 100 -y 80");
    let list = good(&running, "service list");
    for words in [
        "10.99.0.1:0           wlc persistent 600 mask 255.255.255.0\n",
        "10.99.0.1:443         wlc persistent 360\n",
        "[2001:db8::80]:53     wlc persistent 360 mask 64 ops\n",
        "10.99.0.1:5060        wlc persistent 300 pe sip ops\n",
    ] {
        assert!(
            list.contains(&words.split_whitespace().collect::<Vec<_>>()[1..].join(" ")),
            "{words}\n{list}"
        );
    }
    good(&running, "service edit tcp 10.99.0.1:443 --persistent 1800");
    good(&running, "service edit udp [2001:db8::80]:53 --no-one-packet --no-persistence");
    good(&running, "service edit udp 10.99.0.1:5060 --granularity 0");
    good(&running, "server edit tcp 10.99.0.1:443 10.0.2.11 --lower-threshold 50");
    let json: Value = serde_json::from_str(&good(&running, "--json service list")).expect("JSON");
    let services = &json["services"];
    assert_eq!(services[0]["persistence"], json!({"timeout": 600, "granularity": 24}));
    assert_eq!(services[1]["persistence"], json!({"timeout": 1800, "granularity": 32}));
    assert_eq!((&services[2]["persistence"], &services[2]["one_packet"]), (&Value::Null, &json!(false)));
    let by_call = json!({"timeout": 300, "granularity": 0, "engine": "sip"});
    assert_eq!(services[3]["persistence"], by_call);
    let server = &services[1]["servers"][0];
    assert_eq!((&server["upper_threshold"], &server["lower_threshold"]), (&json!(100), &json!(50)));
    let thresholds = good(&running, "service list --thresholds");
    assert!(
        thresholds.lines().any(|line| line.ends_with("100          50           3          4")),
        "{thresholds}"
    );
    for (wrong, why) in [
        ("service add tcp 10.99.0.1:80 --granularity 255.0.255.0", "stand together"),
        ("service add tcp 10.99.0.1:80 --granularity 129", "from 0 to 32"),
        ("service add udp 10.99.0.1:5060 --persistence-engine sop", "expected sip or none"),
        ("service edit udp 10.99.0.1:5060 --persistence-engine sip --no-persistence", "cannot be used with"),
        ("service add tcp 10.99.0.1:80 --persistent 0", "1..=2678400"),
        ("service edit tcp 10.99.0.1:80 --persistent 5 --no-persistence", "cannot be used with"),
    ] {
        let errors = bad(&running.path, wrong, 2);
        assert!(errors.contains(why), "{wrong}: {errors}");
    }
}

#[test]
fn rates_are_shown_and_counters_zeroed() {
    let running = Running::start(0, Limits::default());
    good(&running, "service add tcp 10.99.0.1:80");
    good(&running, "server add tcp 10.99.0.1:80 10.0.2.11");
    assert_eq!(
        good(&running, "stats --rate"),
        "\
Prot  LocalAddress:Port   CPS  InPPS  OutPPS  InBPS        OutBPS
  ->  RemoteAddress:Port
TCP   10.99.0.1:80          1     20      19   2000  123456789000
  ->  10.0.2.11:80          0      0       0      0             0
All                         1     20      19   2000  123456789000
"
    );
    let json: Value = serde_json::from_str(&good(&running, "stats --rate --json")).expect("JSON");
    assert_eq!(json["services"][0]["rates"]["inpps"], json!(20));
    let counted = |running: &Running| {
        let json: Value = serde_json::from_str(&good(running, "service list --json")).expect("JSON");
        json["services"][0]["counters"]["connections"].clone()
    };
    good(&running, "stats --zero --service tcp,10.99.0.2:80");
    assert_eq!(counted(&running), json!(7));
    assert_eq!(good(&running, "stats --zero --json"), "{}\n");
    assert_eq!(counted(&running), json!(0));
    bad(&running.path, "stats --zero --rate", 2);
    bad(&running.path, "stats --service tcp,10.99.0.1:80", 2);
}

#[test]
fn settings_and_timeouts_are_shown_and_changed() {
    let running = Running::start(0, Limits::default());
    let settings = good(&running, "settings");
    assert_eq!(settings.lines().count(), 19, "{settings}");
    assert!(settings.contains("lblc_expiration            86400\n"), "{settings}");
    good(&running, "settings set sloppy_tcp=on drop_entry=2 pmtu_disc=0");
    let json: Value = serde_json::from_str(&good(&running, "--json settings")).expect("JSON");
    let settings = &json["settings"];
    assert_eq!(
        (&settings["sloppy_tcp"], &settings["drop_entry"], &settings["pmtu_disc"]),
        (&json!(true), &json!(2), &json!(false))
    );
    let errors = bad(&running.path, "settings set secure_tcp=4", 1);
    assert!(errors.contains("setting secure_tcp cannot be 4 (bad-setting)"), "{errors}");
    assert!(errors.contains("try: give a number from 0 to 3"), "{errors}");
    assert!(bad(&running.path, "settings set backup_only=1", 1).contains("(no-such-setting)"));
    assert!(bad(&running.path, "settings set sloppy_tcp", 2).contains("write NAME=VALUE"));

    assert_eq!(
        good(&running, "timeouts"),
        "Timeout  Seconds\ntcp          900\ntcp_fin      120\nudp          300\n"
    );
    good(&running, "timeouts --tcp 3600 --udp 60");
    assert_eq!(good(&running, "--json timeouts"), "{\"tcp\":3600,\"tcp_fin\":120,\"udp\":60}\n");
    bad(&running.path, "timeouts --udp 0", 2);
}

#[test]
fn a_drain_is_watched_to_its_end() {
    let running = Running::start(0, Limits::default());
    good(&running, "service add tcp 10.99.0.1:80");
    good(&running, "server add tcp 10.99.0.1:80 10.0.2.11:8080 --method nat --weight 2");
    let watched = good(&running, "server drain tcp 10.99.0.1:80 10.0.2.11:8080 --interval 5ms --deadline 1h");
    let lines: Vec<&str> = watched.lines().collect();
    assert_eq!(lines.len(), 7, "{watched}");
    assert!(
        lines[0].starts_with("6 of 7 connections left (2 active, 4 inactive), ends at the latest in "),
        "{watched}"
    );
    assert_eq!(lines[6], "drained, it is taken out");

    // The server itself, which the director would have taken out, has none left.
    let ended = good(&running, "server drain tcp 10.99.0.1:80 10.0.2.11:8080 --watch --json");
    let ended: Value = serde_json::from_str(&ended).expect("one object");
    assert_eq!(
        (&ended["ended"], &ended["weight"], &ended["at_first"]),
        (&json!("drained"), &json!(2), &json!(7))
    );
    let table = good(&running, "server drains");
    assert!(
        table.lines().nth(1).is_some_and(|row| row.starts_with("tcp 10.99.0.1:80  10.0.2.11:8080")),
        "{table}"
    );
}

#[test]
fn a_drain_goes_on_by_itself_and_is_cancelled() {
    let running = Running::start(0, Limits::default());
    good(&running, "service add tcp 10.99.0.1:443 --persistent");
    good(&running, "server add tcp 10.99.0.1:443 10.0.2.11 --method nat --weight 2");
    assert_eq!(good(&running, "server drain tcp 10.99.0.1:443 10.0.2.11 --detach --keep"), "");
    let list = good(&running, "service list");
    assert!(list.contains("draining for 10:00 at most"), "{list}");
    assert!(good(&running, "server drains").contains("stays with weight 0"));

    // Ctrl-C ends the watching alone.
    let mut command = Command::new(env!("CARGO_BIN_EXE_directorctl"));
    command
        .arg("--socket")
        .arg(&running.path)
        .args("server drain tcp 10.99.0.1:443 10.0.2.11 --watch".split(' '));
    command.args(["--interval", "1h"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut watching = command.spawn().expect("directorctl starts");
    let mut out = std::io::BufReader::new(watching.stdout.take().expect("a pipe"));
    let mut first = String::new();
    std::io::BufRead::read_line(&mut out, &mut first).expect("a line");
    assert!(first.contains("set expire_quiescent_template=true"), "{first}");
    let pid = rustix::process::Pid::from_child(&watching);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    let output = watching.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("directorctl server drain tcp 10.99.0.1:443 10.0.2.11:443 --cancel"), "{said}");

    good(&running, "server drain tcp 10.99.0.1:443 10.0.2.11 --cancel");
    let status = &running.director.services()[0].servers[0];
    assert_eq!((status.weight.0, status.drain_ends_in_ms), (2, None));
    let errors = bad(&running.path, "server drain tcp 10.99.0.1:443 10.0.2.11 --cancel", 1);
    assert!(errors.contains("(no-drain)"), "{errors}");
    let output = directorctl(&running.path, "server drain tcp 10.99.0.1:443 10.0.2.11 --watch");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.contains("has ended: it was cancelled"), "{errors}");
    let none = bad(&running.path, "server drain tcp 10.99.0.1:443 10.0.2.12 --watch", 1);
    assert!(none.contains("knows of no drain"), "{none}");
    for wrong in
        ["--watch --cancel", "--watch --keep", "--deadline 0", "--deadline 500ms", "--cancel --detach"]
    {
        bad(&running.path, &format!("server drain tcp 10.99.0.1:443 10.0.2.11 {wrong}"), 2);
    }
}

#[test]
fn json_of_a_change_is_an_empty_object() {
    let running = Running::start(0, Limits::default());
    assert_eq!(good(&running, "--json service add tcp 10.99.0.1:80"), "{}\n");
    assert_eq!(good(&running, "service del tcp 10.99.0.1:80 --json"), "{}\n", "global options go anywhere");
}

#[test]
fn statistics_latency_and_version() {
    let running = Running::start(0, Limits::default());
    let stats = good(&running, "stats");
    assert!(stats.starts_with("Up 01:01, every packet accounted for\n\nLcore  CPU  Received"), "{stats}");
    for line in [
        "in all          4       0        0        0         0",
        "per second      0      77        0        0         0",
        "no-real-server       5",
        "to-kernel     15",
        "   0        2          30",
    ] {
        assert!(stats.lines().any(|printed| printed == line), "{line:?} is not in\n{stats}");
    }
    assert!(stats.contains("25.0        yes\n"), "the share of busy loops is not in\n{stats}");
    assert!(stats.contains("TxErrors  WrongLcore\n") && stats.contains("0          42\n"), "{stats}");
    assert!(stats.contains("net_tap0,iface=dtap0  dir0    02:00:00:00:00:01  source    1000"), "{stats}");
    let json: Value = serde_json::from_str(&good(&running, "stats --json")).expect("JSON");
    assert_eq!(json, serde_json::to_value(support::stats()).expect("JSON"));

    let latency = good(&running, "latency");
    assert_eq!(latency.lines().count(), 3, "{latency}");
    assert!(latency.lines().last().expect("a line").starts_with("  all       10  900 ns"), "{latency}");
    assert!(latency.contains("2.5 us"), "{latency}");

    let version = good(&running, "version");
    assert!(version.contains("director     9.8.7\nDPDK         DPDK 22.11.5\nprotocol     1\n"), "{version}");
}

#[test]
fn health_is_shown_for_people_and_for_programs() {
    let running = Running::start(0, Limits::default());
    assert_eq!(
        good(&running, "health"),
        "\
tcp 10.99.0.1:80: QUORUM LOST: healthy weight 2, quorum 3; sorry server 10.0.2.99:8080 serves
  RemoteAddress:Port  Standing   Weight  Check          State     Since  Latency  Passed  Failed  LastFailure
  10.0.2.11:8080      in              2  http /healthz  up     01:00:00   1.5 ms     700       0
  10.0.2.12:8080      inhibited       0  http /healthz  down      01:01   1.5 ms     700      31  status 503 (00:01 ago)
"
    );
    let json: Value = serde_json::from_str(&good(&running, "--json health --failing")).expect("JSON");
    assert_eq!(json["health"][0]["servers"][1]["checks"][0]["error"], "status 503");
    // The list of services has a column for it as soon as one real server is checked.
    good(&running, "service add tcp 10.99.0.1:80");
    good(&running, "server add tcp 10.99.0.1:80 10.0.2.11:8080 --method nat");
    assert!(!good(&running, "service list").contains("Health"));
    good(&running, "server add tcp 10.99.0.1:80 10.0.2.12:9 --method nat");
    assert_eq!(
        good(&running, "service list"),
        "\
Prot  LocalAddress:Port   Scheduler
  ->  RemoteAddress:Port  Forward    Weight  ActiveConn  InActConn  Health
TCP   10.99.0.1:80        wlc
  ->  10.0.2.11:8080      Masq            1           3          4
  ->  10.0.2.12:9         Masq            1           3          4  inhibited
"
    );
}

#[test]
fn connections_are_listed_over_three_pages() {
    let running = Running::start(2_500, Limits::default());
    let list = good(&running, "connection list");
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 2_501, "a head and every connection");
    assert!(lines[0].starts_with("Prot  Expire  State        Source"), "{}", lines[0]);
    let row =
        ["TCP", "14:59", "established", "192.0.2.7:12499", "10.99.0.1:80", "10.0.2.11:8080", "Masq", "1"];
    assert_eq!(lines[2_500].split_whitespace().collect::<Vec<_>>(), row);
    let cursors: Vec<Option<String>> =
        running.director.pages.lock().expect("no panic").iter().map(|page| page.1.clone()).collect();
    assert_eq!(cursors, [None, Some("1000".to_owned()), Some("2000".to_owned())]);

    let pages = good(&running, "--json connection list");
    let sizes: Vec<usize> = pages
        .lines()
        .map(|page| {
            serde_json::from_str::<Value>(page).expect("JSON")["connections"]
                .as_array()
                .expect("a list")
                .len()
        })
        .collect();
    assert_eq!(sizes, [1_000, 1_000, 500]);
}

#[test]
fn a_limit_ends_the_list_and_filters_reach_the_director() {
    let running = Running::start(2_500, Limits::default());
    let arguments = "connection list --protocol tcp --service tcp,10.99.0.1:80 --server 10.0.2.11:8080 \
                     --client 192.0.2.7 --state established --limit 1003";
    assert_eq!(good(&running, arguments).lines().count(), 1_004);
    let pages = running.director.pages.lock().expect("no panic");
    assert_eq!(pages.iter().map(|page| page.2).collect::<Vec<_>>(), [Some(1_000), Some(3)]);
    for (filter, _, _) in pages.iter() {
        assert_eq!(
            serde_json::to_value(filter).expect("JSON"),
            json!({
                "protocol": "tcp",
                "service": {"protocol": "tcp", "address": "10.99.0.1:80"},
                "server": "10.0.2.11:8080",
                "client": "192.0.2.7",
                "state": "established",
            })
        );
    }
}

#[test]
fn an_empty_list_has_only_its_head() {
    let running = Running::start(0, Limits::default());
    assert_eq!(good(&running, "connection list").lines().count(), 1);
    assert_eq!(good(&running, "service list").lines().count(), 2);
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let running = Running::start(50_000, Limits::default());
    let mut child = Command::new(env!("CARGO_BIN_EXE_directorctl"))
        .args(["connection", "list", "--socket"])
        .arg(&running.path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("directorctl starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));
}

#[test]
fn refusals_say_what_and_how_to_mend_it() {
    let running = Running::start(0, Limits::default());
    assert_eq!(
        bad(&running.path, "server del tcp 10.99.0.9:80 10.0.2.11", 1),
        "directorctl: there is no such service (no-such-service)\n  try: list them with `directorctl service list`\n"
    );
    good(&running, "service add tcp 10.99.0.1:80");
    assert!(bad(&running.path, "--json service add tcp 10.99.0.1:80", 1).contains("(service-exists)"));
}

/// What a copy of the program answers to another user.
fn as_other(program: &Path, socket: &Path, arguments: &str) -> Output {
    let mut command = Command::new(program);
    command.uid(65_534).gid(65_534).arg("--socket").arg(socket).args(arguments.split_whitespace());
    loop {
        match command.output() {
            // Another test has begun a process while the copy was open for writing; that soon lets go of it.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            output => break output.expect("directorctl starts"),
        }
    }
}

#[test]
fn another_user_may_read_but_not_change() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run: only root can act as another user");
        return;
    }
    let running = Running::start(0, Limits::default());
    let directory = running.path.parent().expect("a directory");
    // A copy where the other user can reach it.
    let program = directory.join("directorctl");
    std::fs::copy(env!("CARGO_BIN_EXE_directorctl"), &program).expect("copied");
    for (path, mode) in [(directory, 0o755), (&program, 0o755), (&running.path, 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("the mode is set");
    }
    let as_other = |arguments: &str| as_other(&program, &running.path, arguments);
    let output = as_other("service add tcp 10.99.0.1:80");
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains("uid 65534 may read but not change") && errors.contains("(not-permitted)"),
        "{errors}"
    );
    let output = as_other("service list");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 2, "something was added");

    std::fs::set_permissions(&running.path, std::fs::Permissions::from_mode(0o660)).expect("the mode is set");
    let output = as_other("service list");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("may not open"), "the mode keeps strangers out");
}

#[test]
fn without_a_director_it_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("director.sock");
    let error = bad(&socket, "service list", 1);
    assert!(error.contains("no director listens on") && error.contains("director.sock"), "{error}");
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("a socket"));
    assert!(bad(&socket, "service list", 1).contains("no director listens on"), "a stale socket");
}

#[test]
fn wrong_usage_is_status_two() {
    let nowhere = Path::new("/nonexistent/director.sock");
    for arguments in [
        "",
        "service",
        "reboot",
        "service add tcp",
        "service add dccp 10.99.0.1:80",
        "service add tcp 10.99.0.1",
        "service add tcp 10.99.0.1:80 --scheduler fastest",
        "service edit tcp 10.99.0.1:80",
        "service edit tcp 10.99.0.1:80 --fallback --no-flags",
        "server add tcp 10.99.0.1:80",
        "server add tcp 10.99.0.1:80 web1",
        "server add tcp 10.99.0.1:80 10.0.2.11 --weight 65536",
        "server add tcp 10.99.0.1:80 10.0.2.11 --weight -1",
        "server edit tcp 10.99.0.1:80 10.0.2.11",
        "connection list --limit 0",
        "connection list --service 10.99.0.1:80",
        "completion cobol",
    ] {
        assert!(!bad(nowhere, arguments, 2).is_empty(), "{arguments}");
    }
    let error = bad(nowhere, "service add tcp 10.99.0.1", 2);
    assert!(error.contains("write 10.99.0.1:80"), "it does not say how to write it: {error}");
}

#[test]
fn help_has_examples_and_needs_no_director() {
    for arguments in
        ["--help", "service add --help", "server edit --help", "connection list --help", "stats --help"]
    {
        let output = directorctl(Path::new("/nonexistent/director.sock"), arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("Examples:\n  directorctl"), "{arguments}");
    }
}

#[test]
fn completions_know_the_commands() {
    for (shell, mark) in
        [("bash", "complete -F"), ("zsh", "#compdef directorctl"), ("fish", "complete -c directorctl")]
    {
        let output = directorctl(Path::new("/nonexistent/director.sock"), &format!("completion {shell}"));
        assert_eq!(output.status.code(), Some(0), "{shell}");
        let script = String::from_utf8(output.stdout).expect("UTF-8");
        for word in [mark, "connection", "hash-port", "tunnel"] {
            assert!(script.contains(word), "{word} is not in the completion for {shell}");
        }
    }
}

#[test]
fn latency_is_drawn_and_logged_by_intervals() {
    let running = Running::start(0, Limits::default());
    let directory = tempfile::tempdir().expect("a directory");
    let (svg, log) = (directory.path().join("l.svg"), directory.path().join("l.hlog"));
    let files = format!("--plot {} --hlog {}", svg.display(), log.display());
    let table = good(&running, &format!("latency {files}"));
    assert!(table.lines().nth(1).is_some_and(|row| row.trim_start().starts_with("1       10")), "{table}");
    let picture = std::fs::read_to_string(&svg).expect("a picture");
    assert!(picture.starts_with("<svg") && picture.contains(">lcore 1<"), "{picture}");
    let intervals = |log: &Path| {
        let text = std::fs::read_to_string(log).expect("a log");
        let lines: Vec<String> =
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
        lines
    };
    let whole = intervals(&log);
    assert_eq!(whole.len(), 2, "{whole:?}");
    assert!(whole[0].starts_with("0.000,1.000,1.000,HISTFAAA"), "all since the start: {whole:?}");
    assert!(whole[1].starts_with("Tag=lcore1,0.000,1.000,1.000,HISTFAAA"), "{whole:?}");

    let json = good(&running, &format!("--json latency {files} --interval 10ms --count 3"));
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["all"]["count"], &json["lcores"][0]["lcore"]), (&json!(30), &json!(1)));
    let starts: Vec<String> = intervals(&log)
        .iter()
        .step_by(2)
        .map(|line| line.split(',').take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(starts, ["0.000 1.000", "1.000 1.000", "2.000 1.000"]);

    let errors = bad(&running.path, "latency --plot /nonexistent/l.svg", 1);
    assert!(errors.contains("cannot write /nonexistent/l.svg"), "{errors}");
    bad(&running.path, "latency --count 3", 2);
    bad(&running.path, "latency --interval 1s --count 0", 2);
}

/// A file with this text, and what `directorctl` answers to the words before it.
fn with_file(running: &Running, words: &str, text: &str) -> (i32, String, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("new.toml");
    std::fs::write(&file, text).expect("written");
    let output = directorctl(&running.path, &format!("{words} {}", file.display()));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&file.display().to_string(), "FILE");
    (output.status.code().expect("a status"), text(&output.stdout), text(&output.stderr))
}

const CHANGE: &str = "\
service tcp 10.99.0.1:80 changed
  real server 10.0.2.12:8080 removed: weight 1; it has 1 connection
  moves: 1 of 3 connections lose their real server
  moves: 25.1 % of all clients would have another real server, or none
";

#[test]
fn a_configuration_is_applied_confirmed_and_taken_back() {
    let running = Running::start(0, Limits::default());
    let (status, out, _) = with_file(&running, "apply", "[[service]]");
    assert_eq!((status, out), (0, format!("{CHANGE}version 4 runs\n")));
    let (status, out, _) = with_file(&running, "apply --confirm 60", "");
    let waits = "it is taken back in 60 s unless `directorctl confirm` comes first\n";
    assert_eq!((status, out), (0, format!("nothing changes\nversion 4 runs\n{waits}")));
    assert!(bad(&running.path, "confirm", 1).contains("nothing-to-confirm"));
    assert_eq!(good(&running, "rollback 3"), "nothing changes\nversion 3 runs\n");
    assert_eq!(good(&running, "rollback"), "nothing changes\nwhat ran before runs again\n");
    assert_eq!(
        good(&running, "history"),
        "\
Version  Time                  State        After  By              From                Summary
      3  2026-03-01 12:00:00Z                   -  uid 0 pid 4711  /etc/director.toml  1 service changed
      4  2026-03-01 12:00:00Z  unconfirmed      0  uid 0 pid 4711  /etc/director.toml  1 service changed
what runs is taken back in 00:59 unless `directorctl confirm` comes first
"
    );
    bad(&running.path, "apply /nowhere/at/all.toml", 1);
    bad(&running.path, "apply --confirm 0 x.toml", 2);
    bad(&running.path, "apply --confirm 60 --dry-run x.toml", 2);
}

#[test]
fn a_dry_run_says_whether_it_could_be_applied() {
    let running = Running::start(0, Limits::default());
    let dry = |text| with_file(&running, "apply --dry-run", text);
    assert_eq!(dry("[[service]]"), (0, CHANGE.to_owned(), String::new()));
    assert_eq!(dry(""), (0, "nothing changes\n".to_owned(), String::new()));
    let (status, out, _) = dry("[dpdk]");
    assert_eq!(status, 1);
    assert_eq!(out, "nothing changes\nneeds a restart: dpdk.memory_mb 512 -> 256\nit would be refused\n");
    let (status, out, errors) = dry("mistake");
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(errors.starts_with("directorctl: FILE:1:1: mistake: it is one (bad-configuration)"), "{errors}");
}

/// As diff(1): 0 the same, 1 different, 2 nobody knows.
#[test]
fn diff_tells_by_its_status_what_scripts_ask() {
    let running = Running::start(0, Limits::default());
    assert_eq!(good(&running, "diff"), "");
    assert_eq!(with_file(&running, "diff", "[[service]]"), (1, CHANGE.to_owned(), String::new()));
    let (status, out, _) = with_file(&running, "diff", "[dpdk]");
    assert_eq!((status, out.as_str()), (1, "needs a restart: dpdk.memory_mb 512 -> 256\n"));
    assert_eq!(with_file(&running, "diff", "mistake").0, 2);
    bad(Path::new("/nowhere/director.sock"), "diff", 2);
    let (status, out, _) = with_file(&running, "--json diff", "[dpdk]");
    let json: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((status, &json["needs_restart"][0]["key"]), (1, &json!("dpdk.memory_mb")));
}

/// Only who may change things may send long lines.
#[test]
fn a_long_configuration_is_for_those_who_may_change_things() {
    let running = Running::start(0, Limits::default());
    let long = format!("[[service]]\n{}", "# nothing\n".repeat(200_000));
    assert_eq!(with_file(&running, "diff", &long).0, 1);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("new.toml");
    std::fs::write(&file, long).expect("written");
    for path in [directory.path(), running.path.parent().expect("a directory")] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("opened");
    }
    std::fs::set_permissions(&running.path, std::fs::Permissions::from_mode(0o666)).expect("opened");
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let program = directory.path().join("directorctl");
    std::fs::copy(env!("CARGO_BIN_EXE_directorctl"), &program).expect("copied");
    let output = as_other(&program, &running.path, &format!("diff {}", file.display()));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && errors.contains("line-too-long"), "{errors}");
}

#[test]
fn a_packet_is_explained_step_by_step() {
    let running = Running::start(0, Limits::default());
    let text = good(
        &running,
        "explain --from 10.0.1.1:40000 --to 10.99.0.1:80 --flags syn,ack --size 100 --no-df --ttl 9",
    );
    assert_eq!(
        text,
        "\
Packet     TCP 10.0.1.1:40000 -> 10.99.0.1:80 syn,ack, 100 bytes, TTL 9
owner      lcore 1 of 2
scheduler  wlc: 10.0.2.12:8080 is chosen
verdict    hold, request_nat: From a client to a real server by NAT. Real server 10.0.2.12:8080 Masq
assumed: ttl

RealServer      Weight  ActiveConn  InActConn  Standing
10.0.2.11:8080       2           3          4  overloaded (upper threshold 7)
10.0.2.12:8080       2           3          4  chosen, health in

missing: the Ethernet address of 10.0.2.12 on lan0 is not known (next-hop-unresolved)
  try: see that it answers
"
    );
    let json = good(
        &running,
        "--json explain --proto sctp --from 10.0.1.1:1 --to 10.99.0.1:80 --chunk init-ack --port 1 --dscp 46",
    );
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let packet = json!({
        "protocol": "sctp", "from": "10.0.1.1:1", "to": "10.99.0.1:80", "chunk": "init-ack", "port": 1, "dscp": 46
    });
    assert_eq!((&json["packet"], &json["reason"]), (&packet, &json!("request_nat")));
    let complaint = bad(&running.path, "explain --from 10.0.1.1:1 --to 10.99.0.1:80 --flags synack", 2);
    assert!(complaint.contains("[possible values: fin, syn, rst, psh, ack, urg]"), "{complaint}");
}

#[test]
fn captured_packets_are_written_as_pcapng() {
    use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption::{Comment, Flags};
    use pcap_file::pcapng::{Block, PcapNgReader};

    let running = Running::start(0, Limits::default());
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("it.pcapng");
    let line = format!("capture --proto tcp --client 192.0.2.7 --snaplen 128 -w {}", file.display());
    let output = directorctl(&running.path, &line);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "2 packets captured, 3 lost for want of room\n");
    let bytes = std::fs::read(&file).expect("written");
    let mut reader = PcapNgReader::new(&bytes[..]).expect("pcapng");
    let (mut ports, mut frames) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        match block.expect("a sound block") {
            Block::InterfaceDescription(interface) => {
                assert_eq!(interface.snaplen, 128);
                ports.push(format!("{:?}", interface.options[0]));
            }
            Block::EnhancedPacket(packet) => {
                assert_eq!(packet.timestamp, std::time::Duration::new(1_700_000_000, 123_456_789));
                assert_eq!(packet.original_len, 60);
                let (Comment(comment), Flags(flags)) = (&packet.options[0], &packet.options[1]) else {
                    panic!("{:?}", packet.options)
                };
                frames.push((packet.interface_id, packet.data.to_vec(), comment.to_string(), *flags));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ports, [r#"IfName("wan0 in")"#, r#"IfName("lan0 out")"#]);
    let nat = || "request_nat".to_owned();
    assert_eq!(
        frames,
        [
            (0, vec![0, 1, 2, 3, 4], nat(), 1),
            (1, vec![5, 6, 7, 8, 9], nat(), 2),
            (0, vec![0, 1, 2, 3, 4], "no_route".to_owned(), 1),
        ]
    );

    let json: Value = serde_json::from_str(&good(&running, "--json capture")).expect("one line of JSON");
    assert_eq!((&json["lost"], &json["packets"][1]["left"]), (&json!(3), &Value::Null));
    let complaint = bad(&running.path, "capture --service tcp,10.99.0.1:80 --count 13", 1);
    assert!(complaint.contains("capture-runs") && complaint.contains("10.99.0.1:80"), "{complaint}");
    let complaint = bad(&running.path, "capture -w /nowhere/it.pcapng", 1);
    assert!(complaint.contains("/nowhere/it.pcapng"), "{complaint}");
}

/// It shows what clients say.
#[test]
fn who_may_not_change_things_may_not_capture() {
    let requests = [
        Request::CaptureStart { filter: Default::default(), count: None, seconds: None, snaplen: None },
        Request::CaptureRead { capture: 1 },
        Request::CaptureStop { capture: 1 },
    ];
    assert!(requests.iter().all(Request::changes));
}
