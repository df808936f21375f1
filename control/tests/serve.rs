//! `directorctl serve`, as a process, against a served socket.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use control::protocol::Limits;
use serde_json::Value;
use support::Running;

/// A `directorctl serve` that runs; ends when dropped.
struct Served {
    process: Child,
    address: SocketAddr,
}

impl Served {
    fn start(socket: &Path, arguments: &[&str]) -> Served {
        let mut process = Command::new(env!("CARGO_BIN_EXE_directorctl"))
            .arg("--socket")
            .arg(socket)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .expect("directorctl starts");
        let mut line = String::new();
        BufReader::new(process.stderr.take().expect("piped")).read_line(&mut line).expect("it says where");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        let address = address.unwrap_or_else(|| panic!("{line}")).parse().expect("an address");
        Served { process, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream
    }

    /// Sends this and reads to the end: head and body.
    fn raw(&self, request: &str) -> (String, String) {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
        (head.to_lowercase(), body.to_owned())
    }

    fn ask(&self, method: &str, path: &str, headers: &str) -> (String, String) {
        self.raw(&format!("{method} {path} HTTP/1.1\r\nHost: director\r\nConnection: close\r\n{headers}\r\n"))
    }

    fn get(&self, path: &str) -> String {
        let (head, body) = self.ask("GET", path, "");
        assert!(head.starts_with("http/1.1 200 "), "{path}: {head}");
        body
    }

    fn status(&self, query: &str) -> Value {
        serde_json::from_str(&self.get(&format!("/status.json{query}"))).expect("JSON")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A director with one service of two real servers, which `support::health` is about.
fn running() -> Running {
    let running = Running::start(0, Limits::default());
    let mut lines = running.connect();
    let service = r#"{"protocol":"tcp","address":"10.99.0.1:80"}"#;
    lines.ask(&format!(r#"{{"version":1,"id":1,"request":"service.add","service":{service}}}"#));
    for server in ["10.0.2.11:8080", "10.0.2.12:8080"] {
        lines.ask(&format!(
            r#"{{"version":1,"id":1,"request":"server.add","service":{service},"server":{{"address":"{server}","method":"nat"}}}}"#
        ));
    }
    running
}

#[test]
fn either_format_of_metrics_is_served_as_it_is_asked_for() {
    let running = running();
    let served = Served::start(&running.path, &[]);
    let (head, body) = served.ask("GET", "/metrics", "");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("\ndirector_up 1\n") && !body.contains("# EOF"), "{body}");
    let accept = "Accept: application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n";
    let (head, body) = served.ask("GET", "/metrics", accept);
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.contains("\ndirector_up 1\n") && body.ends_with("# EOF\n"), "{body}");
    assert!(body.contains("director_server_weight{"), "{body}");
    let (head, nothing) = served.ask("HEAD", "/metrics", "");
    assert!(head.starts_with("http/1.1 200 ") && head.contains("content-length: "), "{head}");
    assert_eq!(nothing, "");
}

#[test]
fn what_is_left_out_is_not_there() {
    let running = running();
    let body = Served::start(&running.path, &["--without", "servers"]).get("/metrics");
    assert!(body.contains("director_service_servers{") && !body.contains("director_server_"), "{body}");
}

#[test]
fn only_reading_is_possible_and_only_what_is_there() {
    let running = running();
    let served = Served::start(&running.path, &[]);
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let (head, body) = served.ask(method, "/metrics", "Content-Length: 0\r\n");
        assert!(head.starts_with("http/1.1 405 ") && head.contains("allow: get, head"), "{method}: {head}");
        assert!(body.contains(method), "{body}");
    }
    let (head, body) = served.ask("GET", "/etc/passwd", "");
    assert!(head.starts_with("http/1.1 404 ") && body.contains("/metrics"), "{head}\n{body}");
    let long = format!("GET /{} HTTP/1.1\r\nHost: director\r\n\r\n", "a".repeat(100_000));
    let mut stream = served.connect();
    // It may have closed before it has all.
    let _ = stream.write_all(long.as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    served.get("/metrics");
}

#[test]
fn every_answer_keeps_browsers_from_misusing_it() {
    let running = running();
    let served = Served::start(&running.path, &[]);
    for path in ["/", "/metrics", "/status.json", "/nothing"] {
        let (head, _) = served.ask("GET", path, "");
        for header in [
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
            "cache-control: no-store",
            "referrer-policy: no-referrer",
            "default-src 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(head.contains(header), "{path}: no {header} in {head}");
        }
        assert!(!head.contains("unsafe-inline") && !head.contains("access-control-allow"), "{path}: {head}");
    }
    let nonce = |(head, body): (String, String)| {
        let nonce =
            head.split("'nonce-").nth(1).and_then(|rest| rest.split('\'').next()).expect("one").to_owned();
        assert!(body.contains(&format!("<script nonce=\"{nonce}\">")), "the page's script has it");
        nonce
    };
    assert_ne!(nonce(served.ask("GET", "/", "")), nonce(served.ask("GET", "/", "")));
}

#[test]
fn a_director_that_is_away_is_said_to_be_and_found_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("director.sock");
    let served = Served::start(&socket, &[]);
    let away = |served: &Served| {
        let text = served.get("/metrics");
        assert!(text.contains("\ndirector_up 0\n") && !text.contains("director_lcore"), "{text}");
        let status = served.status("");
        assert!(status["director"].is_null(), "{status}");
        assert!(status["error"].as_str().is_some_and(|error| error.contains("director.sock")), "{status}");
        assert!(served.get("/").contains("<html"), "the page itself needs no director");
    };
    away(&served);
    for _ in 0..2 {
        let mut running = running();
        std::os::unix::fs::symlink(&running.path, &socket).expect("a link");
        std::thread::sleep(Duration::from_millis(300));
        assert!(served.get("/metrics").contains("\ndirector_up 1\n"), "it is back");
        assert_eq!(served.status("")["director"]["version"], "9.8.7");
        running.stop();
        drop(running);
        std::fs::remove_file(&socket).expect("the link");
        std::thread::sleep(Duration::from_millis(300));
        away(&served);
    }
}

#[test]
fn a_connection_that_the_director_closed_is_made_anew_unseen() {
    let limits = Limits { idle: Duration::from_millis(100), ..Limits::default() };
    let running = Running::start(0, limits);
    let served = Served::start(&running.path, &[]);
    for _ in 0..3 {
        assert!(served.get("/metrics").contains("\ndirector_up 1\n"), "each time");
        std::thread::sleep(Duration::from_millis(400));
    }
}

#[test]
fn more_clients_than_there_is_room_for_are_told_so_and_the_rest_is_served() {
    let running = running();
    let served = Served::start(&running.path, &[]);
    let idle: Vec<TcpStream> = (0..64).map(|_| served.connect()).collect();
    let mut told = String::new();
    for _ in 0..50 {
        let (head, body) = served.ask("GET", "/metrics", "");
        told = format!("{head}\n{body}");
        if head.starts_with("http/1.1 503 ") {
            break;
        }
        // The last of them may not have been let in yet.
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(told.starts_with("http/1.1 503 ") && told.contains("retry-after: 1"), "{told}");
    drop(idle);
    let served_again = (0..50).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        served.ask("GET", "/metrics", "").0.starts_with("http/1.1 200 ")
    });
    assert!(served_again, "there is room again");
}

#[test]
fn the_status_has_the_part_that_is_asked_for() {
    let running = running();
    let mut lines = running.connect();
    for port in 1000..1040 {
        let service = format!(r#"{{"protocol":"udp","address":"10.99.0.2:{port}"}}"#);
        lines.ask(&format!(r#"{{"version":1,"id":1,"request":"service.add","service":{service}}}"#));
    }
    let served = Served::start(&running.path, &[]);
    let services = |query: &str| served.status(query)["director"]["services"].clone();
    let all = services("");
    assert_eq!((&all["total"], &all["found"], &all["servers"]), (&41.into(), &41.into(), &2.into()));
    assert_eq!(all["page"].as_array().map(Vec::len), Some(25));
    assert_eq!(all["page"][0]["servers"].as_array().map(Vec::len), Some(0), "too many to open all");
    let last = services("?from=1000");
    assert_eq!((&last["from"], last["page"].as_array().map(Vec::len)), (&25.into(), Some(16)));
    let opened = services("?open=tcp+10.99.0.1:80");
    let web =
        opened["page"].as_array().and_then(|page| page.iter().find(|one| one["name"] == "tcp 10.99.0.1:80"));
    assert_eq!(web.expect("the service")["servers"].as_array().map(Vec::len), Some(2));

    let found = services("?search=10.0.2.12");
    assert_eq!((&found["found"], &found["page"][0]["name"]), (&1.into(), &"tcp 10.99.0.1:80".into()));
    let web = &found["page"][0];
    assert_eq!((&web["total"], &web["found"], &web["open"]), (&2.into(), &1.into(), &true.into()));
    let server = &web["servers"][0];
    assert_eq!((&server["weight"], &server["effective_weight"]), (&1.into(), &0.into()));
    assert_eq!((&server["standing"], &server["active"]), (&"inhibited".into(), &3.into()));
    assert_eq!(server["failures"][0]["error"], "status 503");
    assert_eq!((&web["trouble"], &web["quorum"]["has"]), (&"down".into(), &false.into()));
    assert_eq!(services("?search=10.0.2.12&shut=tcp+10.99.0.1:80")["page"][0]["open"], false);
    assert_eq!(services("?search=nobody")["found"], 0);

    let status = served.status("");
    assert_eq!(status["director"]["latency"]["buckets"][1]["count"], 6);
    assert_eq!(status["director"]["lcores"][0]["cpu"], 3);
}

#[test]
fn an_address_that_is_taken_is_said_with_what_to_do() {
    let running = running();
    let served = Served::start(&running.path, &[]);
    let output = Command::new(env!("CARGO_BIN_EXE_directorctl"))
        .args(["serve", "--listen", &served.address.to_string()])
        .output()
        .expect("directorctl starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&served.address.to_string()) && said.contains("--listen"), "{said}");
}

#[test]
fn a_signal_ends_it_in_order() {
    let running = running();
    let mut served = Served::start(&running.path, &[]);
    served.get("/metrics");
    let pid = rustix::process::Pid::from_child(&served.process);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    assert!(served.process.wait().expect("it ends").success());
}
