//! The programs, as processes, against a served socket: what they do there, what they say, with which status.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::support::{Running, World};
use control::cli::ipvsadm::SOCKET_VARIABLE;
use control::protocol::{Limits, TemplateStatus};

/// Runs a program by this name with these words and this on its standard input.
pub(crate) fn run(program: &str, socket: &Path, line: &str, input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_directorctl"))
        .arg0(program)
        .args(line.split_whitespace())
        .env(SOCKET_VARIABLE, socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // Who does not read its input may be gone already.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

/// What `ipvsadm LINE` prints when all goes well.
pub(crate) fn good(socket: &Path, line: &str) -> String {
    let output = run("ipvsadm", socket, line, "");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), errors.as_ref()), (Some(0), ""), "{line}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What `directorctl LINE` prints of this input when all goes well.
pub(crate) fn directorctl(socket: &Path, line: &str, input: &str) -> String {
    let output = run("directorctl", socket, &format!("--socket {} {line}", socket.display()), input);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), errors.as_ref()), (Some(0), ""), "{line}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What it complains about, with this exit status.
fn bad(socket: &Path, line: &str, status: i32) -> String {
    let output = run("/sbin/ipvsadm", socket, line, "");
    let errors = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(status), "{line}: {errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{line}");
    errors
}

#[test]
fn services_and_servers_come_change_and_go() {
    let running = Running::start(0, Limits::default());
    let socket = &running.path;
    for line in [
        "-A -t 10.0.0.1:80 -s wrr -p 60 -M 255.255.255.0",
        "-a -t 10.0.0.1:80 -r 10.0.0.2:8080 -m -w 5 -x 100 -y 50",
        "-a -t 10.0.0.1:80 -r 10.0.0.3",
        "-A -u [2001:db8::1]:53 -o",
        "-A -f 7 -6 -s sh -b sh-port",
        "-A -u 10.0.0.1:5060 -p 60 --pe sip",
    ] {
        assert_eq!(good(socket, line), "", "{line}");
    }
    assert_eq!(
        good(socket, "-Sn"),
        "\
-A -t 10.0.0.1:80 -s wrr -p 60 -M 255.255.255.0
-a -t 10.0.0.1:80 -r 10.0.0.2:8080 -m -w 5
-a -t 10.0.0.1:80 -r 10.0.0.3:80 -g -w 1
-A -u 10.0.0.1:5060 -s wlc -p 60 --pe sip
-A -u [2001:db8::1]:53 -s wlc -o
-A -f 7 -6 -s sh -b sh-port
"
    );
    // What is not said is not kept, but ipvsadm's default.
    good(socket, "-E -t 10.0.0.1:80");
    good(socket, "-E -u [2001:db8::1]:53 -s rr");
    good(socket, "-E -u 10.0.0.1:5060 -p 60");
    good(socket, "-e -t 10.0.0.1:80 -r 10.0.0.2:8080 -m");
    let thresholds = good(socket, "-Ln -t 10.0.0.1:80 --thresholds");
    assert!(
        thresholds.contains("  -> 10.0.0.2:8080                0          0          3          4"),
        "{thresholds}"
    );
    assert_eq!(
        good(socket, "-Sn"),
        "\
-A -t 10.0.0.1:80 -s wlc
-a -t 10.0.0.1:80 -r 10.0.0.2:8080 -m -w 1
-a -t 10.0.0.1:80 -r 10.0.0.3:80 -g -w 1
-A -u 10.0.0.1:5060 -s wlc -p 60
-A -u [2001:db8::1]:53 -s rr
-A -f 7 -6 -s sh -b sh-port
"
    );
    good(socket, "-d -t 10.0.0.1:80 -r 10.0.0.3");
    good(socket, "-D -f 7 -6");
    good(socket, "-Z");
    assert_eq!(good(socket, "-Sn").lines().count(), 4);
    good(socket, "-C");
    assert_eq!(good(socket, "-Sn"), "");
}

#[test]
fn timeouts_are_set_and_shown() {
    let running = Running::start(0, Limits::default());
    assert_eq!(good(&running.path, "-L --timeout"), "Timeout (tcp tcpfin udp): 900 120 300\n");
    good(&running.path, "--set 3600 0 60");
    assert_eq!(good(&running.path, "-L --timeout"), "Timeout (tcp tcpfin udp): 3600 120 60\n");
}

#[test]
fn a_refusal_has_ipvsadms_words() {
    let running = Running::start(0, Limits::default());
    let socket = &running.path;
    good(socket, "-A -t 10.0.0.1:80");
    let no_scheduler = "Scheduler or persistence engine not found\n";
    let invalid = "Invalid operation.  Possibly wrong module version, address not unicast, ...\n";
    for (line, status, words) in [
        ("-A -t 10.0.0.1:80", 255, "Service already exists\n"),
        ("-A -t 10.0.0.1:80 -s nosuch", 255, "Service already exists\n"),
        ("-A -t 10.0.0.9:80 -s nosuch", 255, no_scheduler),
        ("-A -u 10.0.0.9:80 -p --pe nosuch", 255, no_scheduler),
        ("-E -t 10.0.0.9:80", 255, "No such service\n"),
        ("-E -t 10.0.0.9:80 -s nosuch", 255, "No such service\n"),
        ("-E -t 10.0.0.1:80 -s nosuch", 255, no_scheduler),
        ("-D -t 10.0.0.9:80", 255, "No such service\n"),
        ("-L -t 10.0.0.9:80", 1, "No such service\n"),
        ("-a -t 10.0.0.9:80 -r 10.0.0.2", 255, "Service not defined\n"),
        ("-A -t 10.0.0.9:80 -p -M 255.0.255.0", 255, invalid),
        ("-a -t 10.0.0.1:80 -r 10.0.0.2 -w 65536", 255, invalid),
        ("--start-daemon master", 255, invalid),
        ("--stop-daemon master", 255, "No daemon is running\n"),
        ("-A -t 10.0.0.1", 2, "Zero port specified for non-persistent service\n"),
        ("-q", 255, "Try `/sbin/ipvsadm -h' or '/sbin/ipvsadm --help' for more information.\n"),
    ] {
        assert_eq!(bad(socket, line, status), words, "{line}");
    }
}

#[test]
fn without_a_director_only_what_needs_one_fails() {
    let socket = Path::new("/nonexistent/director.sock");
    let errors = bad(socket, "-Ln", 2);
    assert!(errors.starts_with("Can't initialize ipvs: no director listens on /nonexistent"), "{errors}");
    assert!(good(socket, "-h").contains("Usage:\n  ipvsadm -A|E"));
    assert_eq!(good(socket, "-v"), "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n");
    assert_eq!(bad(socket, "-A -t 10.0.0.1", 2), "Zero port specified for non-persistent service\n");
}

#[test]
fn rules_are_restored_line_by_line() {
    let running = Running::start(0, Limits::default());
    let socket = &running.path;
    let output = run(
        "ipvsadm",
        socket,
        "-R",
        "ipvsadm -A -t 10.0.0.1:80\n\n-D -t 10.0.0.9:80\n  -a -t 10.0.0.1:80 -r 10.0.0.2 -m\n",
    );
    assert_eq!(String::from_utf8_lossy(&output.stderr), "No such service\n", "and it goes on");
    assert_eq!(output.status.code(), Some(0), "the last line's status is that of all");
    let saved = "-A -t 10.0.0.1:80 -s wlc\n-a -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 1\n";
    assert_eq!(good(socket, "-Sn"), saved);

    let output = run("ipvsadm", socket, "-R", "-A -t 10.0.0.5:80\n# no comment\n-A -t 10.0.0.6:80\n");
    assert_eq!(output.status.code(), Some(255));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("Try `ipvsadm -h'"));
    assert_eq!(good(socket, "-Sn").lines().count(), 3, "what comes behind is not carried out");

    let output = run("ipvsadm", socket, "-R", "-R\n");
    assert_eq!(output.status.code(), Some(255));
}

#[test]
fn all_is_saved_and_restored() {
    let running = Running::start(0, Limits::default());
    let socket = &running.path;
    let rules = "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.0.0.2:80 -g -w 3\n";
    good(socket, "-A -t 10.0.0.9:80");
    let output = run("/sbin/ipvsadm-restore", socket, "", &format!("# rules\n{rules}"));
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    let output = run("ipvsadm-save", socket, "-n", "");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()), (Some(0), rules));
    assert_eq!(run("ipvsadm-save", socket, "-x", "").status.code(), Some(1));
}

#[test]
fn what_cannot_be_written_is_said() {
    let running = Running::start(2_500, Limits::default());
    let socket = &running.path;
    good(socket, "-A -t 10.0.0.9:80");
    // Of connections there is more than a buffer holds.
    for (program, words) in [
        ("ipvsadm", "-Sn"),
        ("ipvsadm-save", "-n"),
        ("ipvsadm", "-Ln"),
        ("ipvsadm", "-Lnc"),
        ("ipvsadm", "-h"),
    ] {
        let into = |stdout: Stdio| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_directorctl"));
            command.arg0(program).arg(words).env(SOCKET_VARIABLE, socket).stdin(Stdio::null());
            command.stdout(stdout).stderr(Stdio::piped()).spawn().expect("it starts")
        };
        let full = File::options().write(true).open("/dev/full").expect("Linux has it");
        let output = into(full.into()).wait_with_output().expect("it ends");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.starts_with("cannot write to standard output: No space left"), "{words}: {errors}");
        assert_eq!((output.status.code(), errors.lines().count()), (Some(1), 1), "{words}: {errors}");
        // Somebody who has enough of it.
        let mut child = into(Stdio::piped());
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words}");
    }
}

#[test]
fn rules_that_cannot_be_read_change_nothing() {
    let running = Running::start(0, Limits::default());
    let socket = &running.path;
    good(socket, "-A -t 10.0.0.9:80");
    for (program, words) in [("ipvsadm-restore", &[][..]), ("ipvsadm", &["-R"])] {
        let output = Command::new(env!("CARGO_BIN_EXE_directorctl"))
            .arg0(program)
            .args(words)
            .env(SOCKET_VARIABLE, socket)
            .stdin(File::open("/").expect("a directory, which cannot be read as a file"))
            .output()
            .expect("it starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.starts_with("cannot read the rules from standard input: "), "{program}: {errors}");
        assert_eq!(output.status.code(), Some(1), "{program}");
        assert_eq!(good(socket, "-Sn"), "-A -t 10.0.0.9:80 -s wlc\n", "{program}");
    }
}

/// A director that gives these replies to each client and then closes the connection. When a client says stop, it does, and
/// tells what it was asked.
fn dies_after(
    listener: UnixListener,
    replies: &'static [&'static str],
) -> std::thread::JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let mut requests = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut lines = BufReader::new(stream.try_clone().expect("a second handle")).lines();
            let mut replies = replies.iter();
            while let Some(Ok(line)) = lines.next() {
                if line == "stop" {
                    return requests;
                }
                requests.push(line);
                let Some(reply) = replies.next() else { break };
                stream.write_all(format!("{reply}\n").as_bytes()).expect("the client reads");
            }
        }
    })
}

#[test]
fn a_director_that_is_lost_ends_it() {
    const LIST: &[&str] = &[
        r#"{"version":1,"id":1,"ok":{"services":[{"service":{"protocol":"tcp","address":"10.0.0.9:80"},"scheduler":"rr","flags":{"fallback":false,"port":false},"persistence":null,"one_packet":false,"counters":{"connections":0,"packets_in":0,"packets_out":0,"bytes_in":0,"bytes_out":0},"servers":[]}]}}"#,
    ];
    for (program, line, replies, rules, asked) in [
        ("ipvsadm", "-R", &[][..], "-A -t 10.0.0.1:80\n-A -t 10.0.0.2:80\n", 1),
        // Over a table that may not have been cleared nothing is restored.
        ("ipvsadm-restore", "", &[][..], "-A -t 10.0.0.1:80\n", 1),
        ("ipvsadm-restore", "", LIST, "-A -t 10.0.0.1:80\n", 2),
        ("ipvsadm", "-C", LIST, "", 2),
        ("ipvsadm", "-Ln", &[][..], "", 1),
    ] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let socket = directory.path().join("director.sock");
        let listener = UnixListener::bind(&socket).expect("a free name");
        let director = dies_after(listener, replies);
        let output = run(program, &socket, line, rules);
        let mut stop = std::os::unix::net::UnixStream::connect(&socket).expect("it listens");
        stop.write_all(b"stop\n").expect("it reads");
        let requests = director.join().expect("it stops");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{program}: {errors}");
        assert_eq!(requests.len(), asked, "{program}: {requests:?}");
        assert!(errors.contains("the director on") && errors.lines().count() == 1, "{program}: {errors}");
    }
}

#[test]
fn a_long_list_of_connections_is_read_in_pages() {
    let running = Running::start(2_500, Limits::default());
    let list = good(&running.path, "-Lnc");
    assert_eq!(list.lines().count(), 2_502);
    assert_eq!(
        list.lines().nth(2),
        Some("TCP 14:59  established 192.0.2.7:10000    10.99.0.1:80       10.0.2.11:8080")
    );
    assert_eq!(running.director.pages.lock().expect("no handler panicked").len(), 3);
}

/// Connections stream: with 32 MiB of address space, program and libraries included, there is no room for a list of
/// 300,000 of them.
#[test]
fn a_list_needs_no_memory_for_its_length() {
    let running = Running::start(300_000, Limits::default());
    let script =
        format!("ulimit -v 32768; (exec -a ipvsadm '{}' -Lnc) | wc -l", env!("CARGO_BIN_EXE_directorctl"));
    let output = Command::new("bash")
        .args(["-c", &script])
        .env(SOCKET_VARIABLE, &running.path)
        .output()
        .expect("bash starts");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "300002");
}

#[test]
fn directorctl_lists_templates_and_says_what_an_import_lost() {
    let one = |client: &str| TemplateStatus {
        service: "tcp 10.99.0.1:443".parse().expect("a service"),
        client: client.parse().expect("an address"),
        server: "10.0.2.11:443".parse().expect("an address"),
        assured: true,
        connections: 2,
        expires_in_ms: 297_000,
    };
    let templates = vec![one("192.0.2.0"), one("192.0.3.0")];
    let running = Running::start_with(World { templates, ..World::default() });
    assert_eq!(
        directorctl(&running.path, "template list --limit 1", ""),
        "\
Prot  Expire  State    Source     Virtual        Destination    Connections
TCP    04:57  ASSURED  192.0.2.0  10.99.0.1:443  10.0.2.11:443            2
"
    );

    let nobody = Path::new("/nonexistent/director.sock");
    let output =
        run("directorctl", nobody, "import ipvsadm -", "-A -t 10.0.0.1:80 -s nosuch\n-A -t 10.0.0.2:80\n");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "directorctl: line 1: not carried over: there is no scheduler nosuch\n"
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("address = \"10.0.0.2:80\""));
    let output = run("directorctl", nobody, "import keepalived /nonexistent/keepalived.conf", "");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot read /nonexistent/keepalived.conf"));
}
