//! The server's behaviour towards clients good and bad.

mod support;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use control::protocol::{
    BindError, Client, ClientError, ConnectionFilter, Limits, MAX_LONG_LINE, Peer, Server, may_change,
};
use serde_json::{Value, json};
use support::{Lines, Running};

const VERSION: &str = r#"{"version":1,"id":5,"request":"version"}"#;

fn code(reply: &Value) -> &str {
    reply["error"]["code"].as_str().unwrap_or_else(|| panic!("not a refusal: {reply}"))
}

#[test]
fn two_requests_on_one_connection() {
    let running = Running::start(0, Limits::default());
    let mut client = running.connect();
    assert_eq!(client.ask(VERSION)["ok"]["director"], "9.8.7");
    let second = client.ask(r#"{"version":1,"id":6,"request":"service.list"}"#);
    assert_eq!(second, json!({"version": 1, "id": 6, "ok": {"services": []}}));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let running = Running::start(0, Limits::default());
    let mut client = running.connect();
    let lines: String =
        (0..500).map(|id| format!("{{\"version\":1,\"id\":{id},\"request\":\"version\"}}\r\n\n")).collect();
    client.send(lines.as_bytes());
    for id in 0..500 {
        assert_eq!(client.receive().expect("a reply")["id"], id);
    }
}

#[test]
fn a_request_may_come_in_pieces() {
    let running = Running::start(0, Limits::default());
    let mut client = running.connect();
    for byte in VERSION.bytes().chain([b'\n']) {
        client.send(&[byte]);
    }
    assert_eq!(client.receive().expect("a reply")["ok"]["protocol"], 1);
}

#[test]
fn garbage_is_refused_and_the_connection_goes_on() {
    let running = Running::start(0, Limits::default());
    let mut client = running.connect();
    client.send(b"\xff\xfe\x00\n");
    assert_eq!(code(&client.receive().expect("a reply")), "not-utf-8");
    for (line, want_code, want_id) in [
        ("GET / HTTP/1.1", "not-json", Value::Null),
        ("[1,2]", "not-json", Value::Null),
        ("{\"version\":1", "not-json", Value::Null),
        (r#"{"id":5,"request":"version"}"#, "unsupported-version", json!(5)),
        (r#"{"version":2,"id":5,"request":"version"}"#, "unsupported-version", json!(5)),
        (r#"{"version":1,"request":"version"}"#, "missing-id", Value::Null),
        (r#"{"version":1,"id":-1,"request":"version"}"#, "missing-id", Value::Null),
        (r#"{"version":1,"id":5}"#, "unknown-request", json!(5)),
        (r#"{"version":1,"id":5,"request":["version"]}"#, "unknown-request", json!(5)),
        (r#"{"version":1,"id":5,"request":"reboot"}"#, "unknown-request", json!(5)),
        (r#"{"version":1,"id":5,"request":"version","verbose":true}"#, "bad-request", json!(5)),
        (r#"{"version":1,"id":5,"request":"service.delete"}"#, "bad-request", json!(5)),
        (
            r#"{"version":1,"id":5,"request":"service.delete","service":{"protocol":"tcp","address":"10.99.0.1:80","x":1}}"#,
            "bad-request",
            json!(5),
        ),
        (
            r#"{"version":1,"id":5,"request":"service.delete","service":{"protocol":"dccp","address":"10.99.0.1:80"}}"#,
            "bad-request",
            json!(5),
        ),
    ] {
        let reply = client.ask(line);
        assert_eq!((code(&reply), &reply["id"]), (want_code, &want_id), "{line}");
        assert!(!reply["error"]["remedy"].as_str().expect("a remedy").is_empty(), "{line}");
    }
    assert_eq!(client.ask(VERSION)["id"], 5, "the connection still works");
}

#[test]
fn an_unknown_field_is_named() {
    let running = Running::start(0, Limits::default());
    let reply = running.connect().ask(r#"{"version":1,"id":5,"request":"stats","verbos":true}"#);
    assert!(reply["error"]["message"].as_str().expect("a message").contains("`verbos`"), "{reply}");
}

#[test]
fn a_line_beyond_every_limit_is_refused_and_its_connection_closed() {
    let running = Running::start(0, Limits::default());
    let mut client = running.connect();
    let mut stream = client.stream.try_clone().expect("a second handle");
    // The server closes before all is written, so the write is to fail.
    let writer =
        std::thread::spawn(move || stream.write_all(&vec![b'x'; MAX_LONG_LINE + (10 << 20)]).is_err());
    assert_eq!(code(&client.receive().expect("a reply")), "line-too-long");
    assert!(client.receive().is_none(), "the connection is closed");
    assert!(writer.join().expect("no panic"), "the server took all of it in");
    assert_eq!(running.connect().ask(VERSION)["id"], 5, "others are served");
}

#[test]
fn a_long_line_within_the_limit_is_a_request() {
    let running = Running::start(0, Limits::default());
    let line = format!("{VERSION}{}", " ".repeat((1 << 20) - VERSION.len()));
    assert_eq!(running.connect().ask(&line)["id"], 5);
    // Beyond that it is one of those who may change things, as this process may.
    assert_eq!(running.connect().ask(&format!("{line} "))["id"], 5);
}

#[test]
fn a_client_that_vanishes_mid_reply_disturbs_nobody() {
    let running = Running::start(100_000, Limits::default());
    for _ in 0..20 {
        let mut client = running.connect();
        client.send(b"{\"version\":1,\"id\":1,\"request\":\"connection.list\",\"limit\":10000}\n");
    }
    assert_eq!(running.connect().ask(VERSION)["id"], 5);
}

#[test]
fn a_client_that_never_reads_is_given_up_and_disturbs_nobody() {
    let limits = Limits { write: Duration::from_millis(200), ..Limits::default() };
    let running = Running::start(100_000, limits);
    let mut greedy = running.connect();
    for _ in 0..3 {
        greedy.send(b"{\"version\":1,\"id\":1,\"request\":\"connection.list\",\"limit\":10000}\n");
    }
    let began = Instant::now();
    assert_eq!(running.connect().ask(VERSION)["id"], 5);
    assert!(began.elapsed() < Duration::from_secs(2), "waited for somebody else's reply");
    std::thread::sleep(Duration::from_millis(600));
    // What is left for it is the beginning of the first reply, cut off.
    let mut rest = Vec::new();
    let end = std::io::Read::read_to_end(&mut greedy.stream, &mut rest);
    assert!(end.is_ok() || end.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    assert!(!rest.contains(&b'\n'), "the whole reply came though nobody read");
}

#[test]
fn a_slow_reader_gets_its_whole_reply() {
    let limits = Limits { write: Duration::from_secs(1), ..Limits::default() };
    let running = Running::start(10_000, limits);
    let mut slow = running.connect();
    slow.send(b"{\"version\":1,\"id\":1,\"request\":\"connection.list\",\"limit\":10000}\n");
    let mut got = Vec::new();
    let mut chunk = vec![0; 128 * 1024];
    while got.last() != Some(&b'\n') {
        std::thread::sleep(Duration::from_millis(100));
        let length = std::io::Read::read(&mut slow.stream, &mut chunk).expect("the server goes on");
        assert_ne!(length, 0, "closed after {} bytes", got.len());
        got.extend_from_slice(&chunk[..length]);
    }
    let reply: Value = serde_json::from_slice(&got).expect("a whole line");
    assert_eq!(reply["ok"]["connections"].as_array().expect("a list").len(), 10_000);
}

#[test]
fn a_slow_request_does_not_hold_up_other_clients() {
    let running = Running::start(1, Limits::default());
    let mut slow = running.connect();
    slow.send(b"{\"version\":1,\"id\":1,\"request\":\"connection.list\",\"filter\":{\"state\":\"slow\"}}\n");
    let began = Instant::now();
    assert_eq!(running.connect().ask(VERSION)["id"], 5);
    assert!(began.elapsed() < Duration::from_millis(900), "it waited for the slow request");
    assert_eq!(slow.receive().expect("a reply")["id"], 1);
}

#[test]
fn the_client_after_the_last_allowed_one_is_turned_away() {
    let running = Running::start(0, Limits { clients: 4, ..Limits::default() });
    let mut idle: Vec<Lines> = (0..4).map(|_| running.connect()).collect();
    for client in &mut idle {
        assert_eq!(client.ask(VERSION)["id"], 5);
    }
    match Client::connect(&running.path).expect("the kernel connects").version() {
        Err(ClientError::Refused(refusal)) => assert_eq!(refusal.code, "too-many-clients"),
        other => panic!("not turned away: {other:?}"),
    }
    assert_eq!(idle[0].ask(VERSION)["id"], 5, "those who were there stay");
    idle.pop();
    let deadline = Instant::now() + Duration::from_secs(5);
    while Client::connect(&running.path).expect("the kernel connects").version().is_err() {
        assert!(Instant::now() < deadline, "the place of a client that went is not free again");
    }
}

#[test]
fn an_idle_client_is_closed() {
    let running = Running::start(0, Limits { idle: Duration::from_millis(100), ..Limits::default() });
    assert!(running.connect().receive().is_none());
}

#[test]
fn shutdown_finishes_what_is_under_way_and_removes_the_socket() {
    let mut running = Running::start(1, Limits::default());
    let mut idle = running.connect();
    assert_eq!(idle.ask(VERSION)["id"], 5);
    let mut slow = running.connect();
    slow.send(b"{\"version\":1,\"id\":1,\"request\":\"connection.list\",\"filter\":{\"state\":\"slow\"}}\n");
    std::thread::sleep(Duration::from_millis(100));
    running.stop();
    assert_eq!(slow.receive().expect("the reply under way")["id"], 1);
    assert!(idle.receive().is_none());
    assert!(!running.path.exists());
}

#[test]
fn the_typed_client_and_its_errors() {
    let running = Running::start(5, Limits::default());
    let mut client = Client::connect(&running.path).expect("a director");
    assert_eq!(client.version().expect("a version").protocol, 1);
    assert_eq!(client.stats().expect("statistics"), support::stats());
    assert_eq!(client.latency().expect("a latency").all.p99_ns, 2_500);
    assert!(client.service_list().expect("a list").services.is_empty());
    let page = client.connection_list(ConnectionFilter::default(), None, Some(2)).expect("a page");
    assert_eq!((page.connections.len(), page.next.as_deref()), (2, Some("2")));

    let mut hasty =
        Client::connect_with_timeout(&running.path, Duration::from_millis(50)).expect("a director");
    let filter = ConnectionFilter { state: Some("slow".to_owned()), ..ConnectionFilter::default() };
    assert!(matches!(hasty.connection_list(filter, None, None), Err(ClientError::Timeout { .. })));

    let missing = running.path.with_file_name("nobody.sock");
    let error = Client::connect(&missing).expect_err("nobody listens").to_string();
    assert!(error.contains("no director listens on") && error.contains("nobody.sock"), "{error}");
}

#[test]
fn root_and_the_daemons_own_user_may_change() {
    let peer = |uid| Peer { uid, gid: 100, pid: None };
    assert!(may_change(peer(0), 990));
    assert!(may_change(peer(990), 990));
    assert!(!may_change(peer(1000), 990));
    assert!(!may_change(peer(1000), 0));
}

#[test]
fn the_socket_has_mode_0660_and_its_directory_is_made() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("run/director.sock");
    let server = Server::bind(&path).expect("a new directory");
    let mode = std::fs::metadata(&path).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o7777, 0o660);
    drop(server);
    assert!(!path.exists(), "the socket stayed behind");
    let deep = directory.path().join("a/b/director.sock");
    assert!(matches!(Server::bind(&deep), Err(BindError::Directory { .. })), "only one component is made");
}

#[test]
fn a_live_socket_is_not_taken_away() {
    let running = Running::start(0, Limits::default());
    match Server::bind(&running.path) {
        Err(error @ BindError::InUse { .. }) => {
            let text = error.to_string();
            assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        }
        other => panic!("bound a live socket: {other:?}"),
    }
    assert_eq!(running.connect().ask(VERSION)["id"], 5, "the first one is still served");
}

#[test]
fn a_stale_socket_is_replaced_and_another_file_is_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("director.sock");
    drop(UnixListener::bind(&path).expect("a socket"));
    assert!(path.exists(), "the listener left its file behind");
    let server = Server::bind(&path).expect("a stale socket is replaced");
    UnixStream::connect(&path).expect("somebody listens again");

    // Somebody else's file in our place is not ours to remove.
    std::fs::remove_file(&path).expect("removed");
    std::fs::write(&path, "precious").expect("written");
    drop(server);
    assert!(matches!(Server::bind(&path), Err(BindError::NotASocket { .. })));
    assert_eq!(std::fs::read_to_string(&path).expect("still there"), "precious");
}

#[test]
fn paths_that_cannot_be_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let long = directory.path().join("x".repeat(200));
    assert!(matches!(Server::bind(&long), Err(BindError::BadPath { .. })));
    let file = directory.path().join("file");
    std::fs::write(&file, "").expect("written");
    assert!(matches!(Server::bind(file.join("director.sock")), Err(BindError::Directory { .. })));
    assert!(matches!(Server::bind("/proc/director.sock"), Err(BindError::Io { .. })), "/proc takes no files");
}
