//! Bad input: the director and directorctl say what is wrong, where and how to mend it, and end with the status
//! that says so.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use control::model::ForwardingMethod::Nat;
use control::model::Scheduler;
use testbed::ensure;
use testbed::error::{Context as _, Result};
use testbed::lab::config::Service;
use testbed::lab::process::output;
use testbed::lab::{Lab, plan, programs};
use testbed::traffic::curl;

const PATIENCE: Duration = Duration::from_secs(20);

const PORT: &str = "[[port]]\ndevice = \"net_tap0,iface=dtap0\"\nmirror = \"dir0\"\n";
const SERVICE: &str = "[[service]]\nprotocol = \"tcp\"\naddress = \"10.99.0.1:80\"\n";

fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs `director VERB --config FILE` on this machine, where a good file would not be run: every file here is bad.
fn director(verb: &str, file: &Path) -> Result<Output> {
    output(Command::new(programs::find("director")?).arg(verb).arg("--config").arg(file), PATIENCE)
}

/// The file is refused with status 2 by `check` and by `run`, in words that hold all of `named`.
fn refused(text: &str, named: &[&str]) -> Result<()> {
    let directory = tempfile::tempdir().context(|| "no directory")?;
    let file = directory.path().join("director.toml");
    std::fs::write(&file, text).context(|| "cannot write")?;
    for verb in ["check", "run"] {
        let output = director(verb, &file)?;
        let words = words(&output);
        ensure!(output.status.code() == Some(2), "`director {verb}` ended with {}: {words}", output.status);
        for name in named.iter().copied().chain(["director.toml"]) {
            ensure!(words.contains(name), "`director {verb}` does not name {name}: {words}");
        }
    }
    Ok(())
}

#[test]
fn an_unknown_key_is_refused() -> Result<()> {
    refused(&format!("{PORT}colour = \"blue\"\n"), &["colour"])
}

#[test]
fn a_bad_address_is_refused() -> Result<()> {
    refused(
        &format!("{PORT}[[service]]\nprotocol = \"tcp\"\naddress = \"10.99.0.300:80\"\n"),
        &["10.99.0.300"],
    )
}

#[test]
fn a_duplicate_service_is_refused() -> Result<()> {
    refused(&format!("{PORT}{SERVICE}{SERVICE}"), &["10.99.0.1:80"])
}

#[test]
fn a_real_server_of_direct_routing_with_a_port_of_its_own_is_refused() -> Result<()> {
    let server = "[[service.server]]\naddress = \"10.0.2.11:8080\"\nmethod = \"dr\"\n";
    refused(&format!("{PORT}{SERVICE}{server}"), &["10.0.2.11:8080"])
}

#[test]
fn all_errors_are_told_at_once() -> Result<()> {
    let server = "[[service.server]]\naddress = \"10.0.2.11:8080\"\nmethod = \"dr\"\n";
    let other = "[[service]]\nprotocol = \"udp\"\naddress = \"10.99.0.1:0\"\n";
    refused(
        &format!("{PORT}{SERVICE}{server}{SERVICE}{other}"),
        &["10.0.2.11:8080", "10.99.0.1:80", "10.99.0.1:0"],
    )
}

#[test]
fn a_file_that_is_not_there_is_named() -> Result<()> {
    for verb in ["check", "run"] {
        let output = director(verb, Path::new("/nonexistent/director.toml"))?;
        let words = words(&output);
        ensure!(output.status.code() == Some(2), "{verb} ended with {}: {words}", output.status);
        ensure!(words.contains("/nonexistent/director.toml"), "{words}");
    }
    Ok(())
}

#[test]
fn a_good_file_passes_the_check_and_is_not_run() -> Result<()> {
    let lab = Lab::plan().real_servers(1).build()?;
    let web =
        Service::tcp(plan::VIP_NAT, plan::WEB, Scheduler::Rr).lab_servers(&lab, plan::WEB_NAT, Nat, &[1]);
    let file = lab.write_config("good.toml", &lab.config().with(web).toml())?;
    let output = lab.director_output(&["check", "--config", &file.display().to_string()])?;
    let words = words(&output);
    ensure!(output.status.success(), "{}: {words}", output.status);
    for name in ["net_tap0", "dir0", "10.99.0.1:80", "10.0.2.11:8080"] {
        ensure!(words.contains(name), "what would be done does not name {name}: {words}");
    }
    ensure!(!lab.director().has_interface("dtap0")?, "`director check` has made a port");
    Ok(())
}

/// Starts a director that cannot run in the lab; returns what it said.
fn cannot_run(lab: &Lab, toml: &str) -> Result<String> {
    let file = lab.write_config("bad.toml", toml)?;
    let output = lab.director_output(&["run", "--config", &file.display().to_string()])?;
    let words = words(&output);
    ensure!(
        output.status.code().is_some_and(|code| code != 0),
        "it ended with {} instead of a status that tells: {words}",
        output.status
    );
    ensure!(!words.contains("panicked"), "{words}");
    Ok(words)
}

#[test]
fn a_device_that_is_missing_is_named() -> Result<()> {
    let lab = Lab::plan().real_servers(1).build()?;
    for (from, to) in [
        ("net_tap0,iface=dtap0", "0000:7f:00.0"),
        ("net_tap0,iface=dtap0", "net_nonsense0"),
        ("net_tap0,iface=dtap0\"\nmirror = \"dir0", "net_af_packet0,iface=nowhere7"),
    ] {
        let toml = lab.config().toml();
        ensure!(toml.contains(from), "the configuration has no {from}:\n{toml}");
        let words = cannot_run(&lab, &toml.replace(from, to))?;
        let name = to.rsplit('=').next().unwrap_or(to);
        ensure!(words.contains(name), "{to} is not named: {words}");
    }
    Ok(())
}

#[test]
fn a_socket_in_use_is_named_and_the_first_director_lives_on() -> Result<()> {
    let lab = Lab::plan().real_servers(1).build()?;
    let web =
        Service::tcp(plan::VIP_NAT, plan::WEB, Scheduler::Rr).lab_servers(&lab, plan::WEB_NAT, Nat, &[1]);
    let config = lab.config().with(web);
    let first = lab.start_director(&config)?;
    let words = cannot_run(&lab, &config.toml())?;
    ensure!(words.contains(&lab.socket().display().to_string()), "the socket is not named: {words}");
    let outcome = curl::ask(lab.client(), &curl::Plan::new("http://10.99.0.1/", 10), |_| ())?;
    ensure!(outcome.failed == 0, "the first director suffered: {outcome:?}");
    first.ctl().conserved()?;
    first.stop()?;
    Ok(())
}

#[test]
fn without_permission_it_says_so() -> Result<()> {
    let lab = Lab::plan().real_servers(1).build()?;
    // Everything that `nobody` must read is put where it may.
    let open = tempfile::Builder::new().prefix("dlab-nobody").tempdir().context(|| "no directory")?;
    let path = |leaf: &str| open.path().join(leaf);
    std::fs::copy(programs::find("director")?, path("director")).context(|| "cannot copy the director")?;
    let text = lab
        .config()
        .toml()
        .replace(&lab.socket().display().to_string(), &path("director.sock").display().to_string());
    std::fs::write(path("director.toml"), text).context(|| "cannot write")?;
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(open.path(), mode(0o777)).context(|| "cannot open the directory")?;

    let mut command = lab.director().command("setpriv");
    command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--inh-caps=-all", "--"]);
    command.arg(path("director")).args(["run", "--config"]).arg(path("director.toml"));
    let output = output(&mut command, PATIENCE)?;
    let words = words(&output);
    ensure!(output.status.code().is_some_and(|code| code != 0), "it ended with {}: {words}", output.status);
    ensure!(
        ["root", "CAP_", "permi"].iter().any(|word| words.contains(word)) && !words.contains("panicked"),
        "it does not say what it lacks: {words}"
    );
    Ok(())
}

#[test]
fn directorctl_without_a_director_names_the_socket() -> Result<()> {
    let mut command = Command::new(programs::find("directorctl")?);
    command.args(["--socket", "/nonexistent/director.sock", "service", "list"]);
    let output = output(&mut command, PATIENCE)?;
    let words = words(&output);
    ensure!(output.status.code() == Some(1), "{}: {words}", output.status);
    ensure!(words.contains("/nonexistent/director.sock"), "{words}");
    Ok(())
}

/// Whatever comes to the socket, traffic goes on and the next client is answered.
#[test]
fn garbage_on_the_socket_harms_nobody() -> Result<()> {
    let lab = Lab::plan().real_servers(1).build()?;
    let web =
        Service::tcp(plan::VIP_NAT, plan::WEB, Scheduler::Rr).lab_servers(&lab, plan::WEB_NAT, Nat, &[1]);
    let director = lab.start_director(&lab.config().with(web))?;
    let long_line = vec![b'x'; 10 << 20];
    let garbage: [&[u8]; 4] = [b"\x00\xff\xfe\n", b"{\"request\":\n", b"no line end at all", &long_line];
    for bytes in garbage {
        let mut stream = UnixStream::connect(lab.socket()).context(|| "cannot connect")?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).context(|| "no timeout")?;
        stream.set_write_timeout(Some(Duration::from_secs(5))).context(|| "no timeout")?;
        // The director may hang up in the middle of the long line.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => return Err(error).context(|| "the director neither answers nor hangs up"),
        }
        ensure!(answer.len() < 65_536, "{} bytes of answer to garbage", answer.len());
        director.ctl().stats()?;
    }
    // A client that asks and does not wait for the answer.
    for _ in 0..20 {
        let mut stream = UnixStream::connect(lab.socket()).context(|| "cannot connect")?;
        let _ = stream.write_all(b"{\"request\":\"service.list\"}\n");
    }
    let outcome = curl::ask(lab.client(), &curl::Plan::new("http://10.99.0.1/", 10), |_| ())?;
    ensure!(outcome.failed == 0, "{outcome:?}");
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}
