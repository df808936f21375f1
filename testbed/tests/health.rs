//! Health checks: real servers that are killed, hang, get slow, answer wrong or flap go and come back in time, and
//! nobody else suffers.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use control::health::Standing;
use control::model::ForwardingMethod::Nat;
use control::model::Scheduler;
use control::protocol::HealthList;
use rustix::process::Signal;
use testbed::ensure;
use testbed::error::{Context as _, Error, Result};
use testbed::lab::config::Service;
use testbed::lab::daemon::Daemon;
use testbed::lab::plan::v6;
use testbed::lab::process::{Process, wait_until};
use testbed::lab::real_server::RealServer;
use testbed::lab::{Lab, plan};

/// Where the nginx of these tests listens, which they may do with as they like.
const WEB: u16 = 8090;
/// A failure shows after at most 0.22 + 2 * 0.3 + 0.1 s, a recovery after 2 * 0.22 s and what the answers take.
const CHECK: &str = "  [service.check]\n  kind = \"http\"\n  path = \"/healthz\"\n  interval = 0.2\n  timeout = 0.3\n  \
                     fall = 2\n  rise = 2\n  delay_before_retry = 0.1\n";
/// When who fails must be out.
const OUT: Duration = Duration::from_millis(920);
/// When who works again must be back.
const BACK: Duration = Duration::from_millis(440 + 300);
/// What a machine that does other things may take on top.
const LOAD: Duration = Duration::from_secs(2);

/// An nginx whose health a test decides about.
struct Web<'l> {
    server: &'l RealServer,
    home: PathBuf,
    process: Option<Process>,
}

impl<'l> Web<'l> {
    fn start(lab: &Lab, server: &'l RealServer) -> Result<Self> {
        let home = lab.directory().join(format!("{}-web", server.name()));
        fs::create_dir_all(&home).context(|| "cannot create a directory")?;
        fs::write(home.join("nginx.conf"), config(server.name(), &home.display().to_string()))
            .context(|| "cannot write nginx.conf")?;
        let mut web = Web { server, home, process: None };
        web.run()?;
        Ok(web)
    }

    fn run(&mut self) -> Result<()> {
        let mut command = self.server.namespace().command("nginx");
        command.arg("-c").arg(self.home.join("nginx.conf")).arg("-e").arg(self.home.join("error.log"));
        self.process = Some(self.server.namespace().spawn("web", &mut command)?);
        wait_until("nginx to listen", Duration::from_secs(10), || {
            self.server.namespace().enter(|| TcpStream::connect((self.server.address(), WEB)).is_ok())
        })
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        let process = self.process.as_mut().context(|| "nginx does not run")?;
        process.signal(signal)?;
        if signal == Signal::KILL {
            process.wait_for_end(Duration::from_secs(5))?;
        }
        Ok(())
    }

    /// `broken`: the page about health says 503. `slow`: it comes a byte a second.
    fn set(&self, what: &str, on: bool) -> Result<()> {
        let file = self.home.join(what);
        let done = if on { fs::write(&file, "") } else { fs::remove_file(&file) };
        done.context(|| format!("cannot make {} {on}", file.display()))
    }

    fn address(&self) -> String {
        format!("{}:{WEB}", self.server.address())
    }
}

impl Drop for Web<'_> {
    fn drop(&mut self) {
        // Who is stopped does not hear that it shall end.
        if let Some(process) = &mut self.process {
            let _ = process.signal(Signal::CONT);
        }
    }
}

/// One process, so that one signal stops all of it.
fn config(name: &str, home: &str) -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {home}/tmp-{kind};\n"))
        .concat();
    format!(
        "user root;\ndaemon off;\nmaster_process off;\npid {home}/nginx.pid;\nevents {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n{temporary}  keepalive_timeout 1h;\n  server {{\n    listen [::]:{WEB} ipv6only=off;\n\
         \x20   add_header X-Real-Server {name} always;\n    location = /healthz {{\n      \
         if (-f {home}/slow) {{ set $limit_rate 1; }}\n      if (-f {home}/broken) {{ return 503; }}\n      \
         return 200 \"fine\\n\";\n    }}\n    location / {{ return 200 \"{name}\\n\"; }}\n  }}\n}}\n"
    )
}

/// What became of one request: when it began and ended, and who answered.
#[derive(Debug)]
struct Request {
    begun: Instant,
    ended: Instant,
    by: Option<String>,
}

/// How long a client waits for an answer where none may be lost, and where some will be.
const PATIENT: Duration = Duration::from_secs(3);
const IMPATIENT: Duration = Duration::from_millis(800);

/// Asks the VIP again and again until it is told to stop, each time by a new connection.
fn ask_on(lab: &Lab, vip: IpAddr, patience: Duration, stop: &AtomicBool) -> Result<Vec<Request>> {
    lab.client().enter(|| {
        let mut requests = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let by = ask(vip, patience).ok();
            requests.push(Request { begun, ended: Instant::now(), by });
            thread::sleep(Duration::from_millis(10));
        }
        requests
    })
}

fn ask(vip: IpAddr, patience: Duration) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(vip, plan::WEB), patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let name = answer.lines().find_map(|line| line.strip_prefix("X-Real-Server: "));
    name.map(str::to_owned).ok_or_else(|| std::io::Error::other("no name in the answer"))
}

fn standing(director: &Daemon, service: &str, server: &str) -> Result<Standing> {
    let list: HealthList = director.ctl().json("health")?;
    let found = list.health.iter().filter(|health| health.service.to_string() == service);
    let mut servers = found.flat_map(|health| &health.servers);
    servers
        .find(|status| status.address.to_string() == server)
        .map(|status| status.standing)
        .context(|| format!("health knows nothing of {server} in {service}: {list:?}"))
}

/// Waits until a real server stands so; returns how long it took.
fn wait_for(
    director: &Daemon,
    service: &str,
    server: &str,
    wanted: Standing,
    within: Duration,
) -> Result<Duration> {
    let begun = Instant::now();
    let what = format!("{server} to be {}", wanted.word());
    wait_until(&what, within, || Ok(standing(director, service, server)? == wanted))?;
    Ok(begun.elapsed())
}

/// A director with a service of all these real servers for each address family, and with what else the configuration
/// shall say.
fn start(lab: &Lab, more: &str) -> Result<Daemon> {
    let mut service = Service::tcp(plan::VIP_NAT, plan::WEB, Scheduler::Rr);
    let mut six = Service::tcp(v6::VIP_NAT, plan::WEB, Scheduler::Rr);
    for server in lab.real_servers() {
        service = service.server(server.address(), WEB, Nat, 1);
        six = six.server(server.address_v6(), WEB, Nat, 1);
    }
    let config = lab.config();
    let mut toml = config.toml();
    for service in [service, six] {
        // What a service says of itself stands before its tables.
        let of_service = lab.config().with(service).toml();
        let own = of_service.strip_prefix(&toml_head(lab)).unwrap_or_default();
        toml += &own.replace("scheduler = \"rr\"\n", &format!("scheduler = \"rr\"\n{CHECK}"));
    }
    toml += more;
    lab.start_director_toml(&toml, &config.socket)
}

fn toml_head(lab: &Lab) -> String {
    lab.config().toml()
}

/// Lets something happen to real server 2 under traffic, and be undone. It must be out and back in time, and no request
/// may fail that began when it was out, or was answered by another.
fn goes_and_comes_back(
    lab: &Lab,
    director: &Daemon,
    webs: &mut [Web<'_>],
    what: &str,
    may_lose: bool,
    mut fail: impl FnMut(&mut Web<'_>) -> Result<()>,
    mut mend: impl FnMut(&mut Web<'_>) -> Result<()>,
) -> Result<()> {
    let six = format!("[{}]:{WEB}", lab.real_servers()[1].address_v6());
    let services =
        [("tcp 10.99.0.1:80".to_owned(), webs[1].address()), (format!("tcp [{}]:80", v6::VIP_NAT), six)];
    let vips: [IpAddr; 2] = [plan::VIP_NAT.into(), v6::VIP_NAT.into()];
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let traffic = vips.map(|vip| {
            scope.spawn({
                let stop = &stop;
                move || ask_on(lab, vip, if may_lose { IMPATIENT } else { PATIENT }, stop)
            })
        });
        let mut story = || -> Result<(Instant, Instant)> {
            thread::sleep(Duration::from_millis(500));
            fail(&mut webs[1])?;
            let mut took = Duration::ZERO;
            for (service, server) in &services {
                took += wait_for(director, service, server, Standing::Inhibited, OUT + LOAD)?;
            }
            eprintln!("{what}: out after {took:?}");
            let out = Instant::now();
            thread::sleep(Duration::from_millis(1500));
            let mended = Instant::now();
            mend(&mut webs[1])?;
            for (service, server) in &services {
                wait_for(director, service, server, Standing::In, BACK + LOAD)?;
            }
            eprintln!("{what}: back after {:?}", mended.elapsed());
            thread::sleep(Duration::from_millis(500));
            Ok((out, mended))
        };
        let story = story();
        stop.store(true, Ordering::Relaxed);
        let traffic = traffic.map(|traffic| traffic.join().expect("the client does not panic"));
        let (out, mended) = story.map_err(|error| Error::new(format!("{what}: {error}")))?;
        for requests in traffic {
            let requests = requests?;
            let lost: Vec<&Request> = requests.iter().filter(|request| request.by.is_none()).collect();
            ensure!(
                may_lose || lost.is_empty(),
                "{what}: real server 2 worked, but requests are lost: {lost:?}"
            );
            ensure!(
                lost.iter().all(|request| request.begun < out),
                "{what}: lost when it was out already: {lost:?}"
            );
            let by_two = |request: &&Request| request.by.as_deref() == Some("real2");
            let during = requests.iter().filter(|request| request.begun > out && request.ended < mended);
            ensure!(during.clone().count() > 20, "{what}: there was hardly any traffic meanwhile");
            ensure!(during.filter(by_two).count() == 0, "{what}: real server 2 answered when it was out");
            ensure!(
                requests.last().is_some_and(|last| last.by.is_some()),
                "{what}: the last request is lost"
            );
            let after = requests.iter().rev().take(6).filter(by_two).count();
            ensure!(after > 0, "{what}: real server 2 is back, but gets nothing");
        }
        Ok(())
    })
}

#[test]
fn who_fails_goes_and_comes_back_in_time() -> Result<()> {
    let lab = Lab::plan().build()?;
    let mut webs: Vec<Web<'_>> =
        lab.real_servers().iter().map(|s| Web::start(&lab, s)).collect::<Result<_>>()?;
    let director = start(&lab, "")?;
    let webs = &mut webs[..];
    // Its pages work, so that no client may notice anything, one that is connected neither.
    let held = {
        let stream = lab.client().enter(|| TcpStream::connect((plan::VIP_NAT, plan::WEB)))?;
        let mut stream = stream.context(|| "cannot connect")?;
        stream.set_read_timeout(Some(Duration::from_secs(3))).context(|| "a timeout")?;
        let mut ask = move || -> std::io::Result<String> {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n")?;
            let mut buffer = [0; 1000];
            let length = stream.read(&mut buffer)?;
            Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
        };
        ensure!(ask().context(|| "the first answer")?.contains("200 OK"), "no answer on a held connection");
        ask
    };
    let broken = |web: &mut Web<'_>| web.set("broken", true);
    goes_and_comes_back(&lab, &director, webs, "wrong status", false, broken, |web| {
        web.set("broken", false)
    })?;
    let slow = |web: &mut Web<'_>| web.set("slow", true);
    goes_and_comes_back(&lab, &director, webs, "slow", false, slow, |web| web.set("slow", false))?;
    let kill = |web: &mut Web<'_>| web.signal(Signal::KILL);
    goes_and_comes_back(&lab, &director, webs, "killed", true, kill, |web| web.run())?;
    let hang = |web: &mut Web<'_>| web.signal(Signal::STOP);
    goes_and_comes_back(&lab, &director, webs, "hanging", true, hang, |web| web.signal(Signal::CONT))?;
    let cut = |web: &mut Web<'_>| web.server.namespace().ip(&["link set eth0 down"]);
    goes_and_comes_back(&lab, &director, webs, "unplugged", true, cut, |web| {
        web.server.namespace().ip(&[
            "link set eth0 up",
            // What a link that goes down takes with it.
            &format!("route replace default via {}", plan::DIRECTOR_SERVER_SIDE),
            &format!("addr replace {}/64 dev eth0 nodad", web.server.address_v6()),
        ])?;
        web.server.namespace().ip_v6(&[&format!("route replace default via {}", v6::DIRECTOR_SERVER_SIDE)])
    })?;
    let mut held = held;
    ensure!(held().context(|| "the last answer")?.contains("200 OK"), "a held connection was lost");

    let log = director.log();
    for reason in [
        "health check fails: status 503",
        "health check fails: waiting for the HTTP answer took longer than 0.3 s",
        "health check fails: cannot connect: Connection refused",
        "health check passes again",
        "real server gets no new connections",
        "real server serves again",
    ] {
        ensure!(log.contains(reason), "the log does not say \"{reason}\":\n{log}");
    }
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

#[test]
fn a_flapping_real_server_makes_no_storm() -> Result<()> {
    let lab = Lab::plan().real_servers(2).build()?;
    let webs: Vec<Web<'_>> = lab.real_servers().iter().map(|s| Web::start(&lab, s)).collect::<Result<_>>()?;
    // The same real server in a service that believes every check.
    let flapping = webs[1].address();
    let hasty = CHECK.replace("fall = 2", "fall = 1").replace("rise = 2", "rise = 1");
    ensure!(hasty != CHECK, "nothing to compare with");
    let director = start(
        &lab,
        &format!(
            "[[service]]\nprotocol = \"tcp\"\naddress = \"10.99.0.1:81\"\n{hasty}  \
             [[service.server]]\n  address = \"{flapping}\"\n  method = \"nat\"\n"
        ),
    )?;
    let stop = AtomicBool::new(false);
    let requests = thread::scope(|scope| {
        let traffic = scope.spawn(|| ask_on(&lab, plan::VIP_NAT.into(), PATIENT, &stop));
        let flapped = || -> Result<()> {
            for (n, pause) in [130, 270, 70, 410, 190].into_iter().cycle().take(30).enumerate() {
                webs[1].set("broken", n % 2 == 0)?;
                thread::sleep(Duration::from_millis(pause));
            }
            Ok(())
        };
        let flapped = flapped();
        stop.store(true, Ordering::Relaxed);
        let traffic = traffic.join().expect("the client does not panic");
        flapped.and(traffic)
    })?;
    ensure!(requests.len() > 100, "only {} requests", requests.len());
    ensure!(requests.iter().all(|request| request.by.is_some()), "requests are lost");
    let (calm, hasty) = ("tcp 10.99.0.1:80", "tcp 10.99.0.1:81");
    wait_for(&director, calm, &flapping, Standing::In, BACK + LOAD)?;
    let log = director.log();
    let changes = |service: &str| {
        let lines = log.lines().filter(|line| line.contains(&format!("{service} ")));
        lines.filter(|line| line.contains("gets no new") || line.contains("serves again")).count()
    };
    let list: HealthList = director.ctl().json("health")?;
    let about = list.health.iter().find(|health| health.service.to_string() == calm);
    let check = about.and_then(|health| health.servers.iter().find(|s| s.address.to_string() == flapping));
    let check = &check.context(|| format!("nothing is known of {flapping}: {list:?}"))?.checks[0];
    let (calm, hasty, checks) = (changes(calm), changes(hasty), check.passed + check.failed);
    eprintln!("{calm} changes by {checks} checks, of which {} failed; else {hasty}", check.failed);
    ensure!(check.failed > 0, "no check met the real server when it was broken");
    // Each change needs two checks of its own.
    ensure!(2 * calm as u64 <= checks, "{calm} changes by {checks} checks");
    ensure!(calm < hasty, "{calm} changes, and {hasty} without rise and fall");
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

#[test]
fn a_lost_quorum_brings_the_sorry_server() -> Result<()> {
    let lab = Lab::plan().build()?;
    let webs: Vec<Web<'_>> = lab.real_servers().iter().map(|s| Web::start(&lab, s)).collect::<Result<_>>()?;
    let mut toml = lab.config().toml();
    let (first, second, sorry) = (webs[0].address(), webs[1].address(), webs[2].address());
    toml += &format!(
        "[[service]]\nprotocol = \"tcp\"\naddress = \"10.99.0.1:80\"\nscheduler = \"wrr\"\nquorum = 2\n\
         on_failure = \"remove\"\nslow_start = 3\nsorry_server = \"{sorry}\"\nsorry_server_method = \"nat\"\n{CHECK}  \
         [[service.server]]\n  address = \"{first}\"\n  method = \"nat\"\n  weight = 1\n  \
         [[service.server]]\n  address = \"{second}\"\n  method = \"nat\"\n  weight = 40\n"
    );
    let director = lab.start_director_toml(&toml, &lab.socket())?;
    let service = "tcp 10.99.0.1:80";
    let answers = |requests: usize| -> Result<Vec<String>> {
        lab.client()
            .enter(|| {
                (0..requests).map(|_| ask(plan::VIP_NAT.into(), PATIENT)).collect::<std::io::Result<_>>()
            })?
            .context(|| "a request is lost")
    };
    ensure!(
        !answers(42)?.iter().any(|name| name == "real3"),
        "the sorry server serves, and nothing is wrong"
    );
    // The operator's word is not lost by what checks do.
    webs[1].set("broken", true)?;
    wait_for(&director, service, &second, Standing::Removed, OUT + LOAD)?;
    ensure!(
        answers(10)?.iter().all(|name| name == "real3"),
        "without its quorum, the sorry server alone serves"
    );
    ensure!(standing(&director, service, &first)? == Standing::Aside, "real server 1 should stand aside");
    let status = director.ctl().server("tcp", "10.99.0.1:80", &second)?;
    ensure!(status.weight.0 == 40 && status.health == Some(Standing::Removed), "{status:?}");
    director.ctl().run(&format!("server edit tcp 10.99.0.1:80 {second} --weight 60"))?;
    webs[1].set("broken", false)?;
    wait_for(&director, service, &second, Standing::Ramping, BACK + LOAD)?;
    ensure!(!answers(20)?.iter().any(|name| name == "real3"), "the sorry server serves on");
    let weight = || -> Result<u16> {
        let list: HealthList = director.ctl().json("health")?;
        Ok(list.health[0].servers[1].effective_weight.0)
    };
    let (mut seen, begun) = (vec![weight()?], Instant::now());
    while standing(&director, service, &second)? != Standing::In {
        seen.push(weight()?);
        ensure!(begun.elapsed() < Duration::from_secs(3) + LOAD, "slow start has no end: {seen:?}");
        thread::sleep(Duration::from_millis(100));
    }
    ensure!(seen[0] < 40 && seen.windows(2).all(|pair| pair[0] <= pair[1]), "no ramp: {seen:?}");
    ensure!(weight()? == 60, "the weight of before");
    let log = director.log();
    ensure!(log.contains("quorum is lost") && log.contains("quorum is regained"), "{log}");
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}

/// Real server 1 is there, nobody has the other address.
#[test]
fn echo_requests_and_datagrams_tell_who_is_there() -> Result<()> {
    let lab = Lab::plan().real_servers(1).build()?;
    let mut toml = lab.config().toml();
    let checks = [("icmp", plan::ECHO_NAT), ("udp", plan::ECHO_NAT), ("udp", 9)];
    for (port, (kind, server_port)) in (53..).zip(checks) {
        // The echo servers of the lab answer that.
        let payload = if kind == "udp" { "  payload = \"00\"\n" } else { "" };
        for (vip, here, gone) in [
            (plan::VIP_NAT.to_string(), "10.0.2.11".to_owned(), "10.0.2.77".to_owned()),
            (
                format!("[{}]", v6::VIP_NAT),
                format!("[{}]", lab.real_servers()[0].address_v6()),
                "[2001:db8:2::77]".to_owned(),
            ),
        ] {
            toml += &format!(
                "[[service]]\nprotocol = \"udp\"\naddress = \"{vip}:{port}\"\n  [service.check]\n  \
                 kind = \"{kind}\"\n  interval = 0.2\n  timeout = 4\n  fall = 1\n{payload}  \
                 [[service.server]]\n  address = \"{here}:{server_port}\"\n  method = \"nat\"\n  \
                 [[service.server]]\n  address = \"{gone}:{server_port}\"\n  method = \"nat\"\n"
            );
        }
    }
    let director = lab.start_director_toml(&toml, &lab.socket())?;
    let all = || -> Result<Vec<(String, Option<String>)>> {
        let list: HealthList = director.ctl().json("health")?;
        let servers = list.health.iter().flat_map(|service| &service.servers);
        let rows = servers.map(|server| {
            let check = &server.checks[0];
            let asked = check.passed + check.failed > 0;
            let state = match (asked, server.up) {
                (false, _) => "?",
                (true, true) => "up",
                (true, false) => "down",
            };
            (state.to_owned(), check.error.clone())
        });
        Ok(rows.collect())
    };
    let expected = [
        // By service: first IPv4, then IPv6; of each the real server that is there and the one that is not.
        ["up", "down"],
        ["up", "down"],
        ["down", "down"],
        ["up", "down"],
        ["up", "down"],
        ["down", "down"],
    ]
    .concat();
    wait_until("all to be asked and to be as they are", Duration::from_secs(15), || {
        Ok(all()?.iter().map(|(state, _)| state.as_str()).eq(expected.iter().copied()))
    })
    .map_err(|error| Error::new(format!("{error}: {:?}", all())))?;
    let errors: Vec<String> = all()?.into_iter().filter_map(|(_, error)| error).collect();
    for error in ["ICMP: Connection refused", "ICMP: No route to host"] {
        ensure!(errors.iter().any(|why| why.contains(error)), "{error}: {errors:?}");
    }
    director.stop()?;
    Ok(())
}

#[test]
fn who_is_added_is_checked_too() -> Result<()> {
    let lab = Lab::plan().real_servers(2).build()?;
    let webs: Vec<Web<'_>> = lab.real_servers().iter().map(|s| Web::start(&lab, s)).collect::<Result<_>>()?;
    let mut toml = lab.config().toml();
    toml += &format!(
        "[[service]]\nprotocol = \"tcp\"\naddress = \"10.99.0.1:80\"\nscheduler = \"rr\"\n{CHECK}  start = \"down\"\n"
    );
    let director = lab.start_director_toml(&toml, &lab.socket())?;
    let (ctl, service) = (director.ctl(), "tcp 10.99.0.1:80");
    webs[1].set("broken", true)?;
    for web in &webs {
        ctl.run(&format!("server add {service} {} --method nat", web.address()))?;
    }
    wait_for(&director, service, &webs[0].address(), Standing::In, Duration::from_secs(1) + BACK + LOAD)?;
    ensure!(
        standing(&director, service, &webs[1].address())? == Standing::Inhibited,
        "nobody has seen it work"
    );
    for _ in 0..10 {
        let by =
            lab.client().enter(|| ask(plan::VIP_NAT.into(), PATIENT))?.context(|| "a request is lost")?;
        ensure!(by == "real1", "{by} answered, which counts as down");
    }
    let text = ctl.run("service list")?;
    ensure!(text.contains("Health\n") && text.contains("  inhibited\n"), "{text}");
    // Until its first check there is no reason to be shown.
    wait_until("the reason to be shown", LOAD, || {
        let text = ctl.run("health --failing")?;
        ensure!(!text.contains(&webs[0].address()), "{text}");
        Ok(text.contains(&webs[1].address()) && text.contains("status 503"))
    })?;
    ctl.run(&format!("server del {service} {}", webs[1].address()))?;
    let list: HealthList = ctl.json("health")?;
    ensure!(list.health[0].servers.len() == 1, "it is still checked: {list:?}");
    // A service without checks looks as ever.
    ctl.run(&format!("service del {service}"))?;
    ctl.run("service add tcp 10.99.0.1:81")?;
    ctl.run(&format!("server add tcp 10.99.0.1:81 {} --method nat", webs[0].address()))?;
    ensure!(!ctl.run("service list")?.contains("Health"), "a column without anything in it");
    director.stop()?;
    Ok(())
}

/// Takes the SYNs of new connections away before the real server's kernel sees them, or no longer.
fn drop_syns(web: &Web<'_>, on: bool) -> Result<()> {
    let nft = |command: &str| web.server.namespace().exec(&format!("nft {command}"), PATIENT).map(drop);
    if !on {
        return nft("delete table inet silence");
    }
    nft("add table inet silence")?;
    nft("add chain inet silence input { type filter hook input priority 0 ; }")?;
    nft(&format!("add rule inet silence input tcp dport {WEB} tcp flags & ( syn | ack ) == syn drop"))
}

#[test]
fn who_leaves_clients_without_an_answer_goes_without_being_asked() -> Result<()> {
    const HOLD: Duration = Duration::from_secs(4);
    /// A client's kernel asks again after a second; what it does is looked at four times in one.
    const SILENCE: Duration = Duration::from_millis(1250);
    /// Long enough to ask twice; who meets the silence is back before the real server is tried again.
    const ASKS_TWICE: Duration = Duration::from_millis(1500);
    /// One after the other would hardly be three unanswered in ten seconds.
    const CLIENTS: usize = 6;
    let lab = Lab::plan().build()?;
    let webs: Vec<Web<'_>> = lab.real_servers().iter().map(|s| Web::start(&lab, s)).collect::<Result<_>>()?;
    let mut toml = lab.config().toml();
    toml += &format!(
        "[[service]]\nprotocol = \"tcp\"\naddress = \"10.99.0.1:80\"\nscheduler = \"rr\"\n  [service.passive]\n  \
         unanswered = 3\n  hold = {}\n",
        HOLD.as_secs()
    );
    for web in &webs {
        toml += &format!("  [[service.server]]\n  address = \"{}\"\n  method = \"nat\"\n", web.address());
    }
    let director = lab.start_director_toml(&toml, &lab.socket())?;
    let (service, silent) = ("tcp 10.99.0.1:80", webs[1].address());
    ensure!(standing(&director, service, &silent)? == Standing::In, "nothing is wrong yet");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| ask_on(&lab, plan::VIP_NAT.into(), ASKS_TWICE, &stop)))
            .collect();
        let story = || -> Result<(Instant, Instant, Instant)> {
            thread::sleep(Duration::from_millis(500));
            let failed = Instant::now();
            drop_syns(&webs[1], true)?;
            let took = wait_for(&director, service, &silent, Standing::Inhibited, SILENCE + LOAD)?;
            let out = Instant::now();
            let text = director.ctl().run("health --failing")?;
            ensure!(
                text.contains("passive 3 unanswered in 10 s")
                    && text.contains("unanswered, and none answered since"),
                "{text}"
            );
            ensure!(!text.contains(&webs[0].address()) && !text.contains(&webs[2].address()), "{text}");
            // It is tried again, is no better, and goes at the first sign.
            wait_for(&director, service, &silent, Standing::In, HOLD + LOAD)?;
            ensure!(out.elapsed() > HOLD - LOAD / 2, "its hold is over after {:?}", out.elapsed());
            wait_for(&director, service, &silent, Standing::Inhibited, SILENCE + LOAD)?;
            let mended = Instant::now();
            drop_syns(&webs[1], false)?;
            wait_for(&director, service, &silent, Standing::In, HOLD + LOAD)?;
            eprintln!("out after {took:?}, back after {:?}", mended.elapsed());
            thread::sleep(Duration::from_millis(1500));
            ensure!(standing(&director, service, &silent)? == Standing::In, "it answers, and is out again");
            Ok((failed, out, mended))
        };
        let story = story();
        stop.store(true, Ordering::Relaxed);
        let requests: Vec<Request> = clients
            .into_iter()
            .map(|client| client.join().expect("the client does not panic"))
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect();
        let (failed, out, mended) = story?;
        let lost: Vec<&Request> = requests.iter().filter(|request| request.by.is_none()).collect();
        ensure!(!lost.is_empty(), "no client met the silence");
        ensure!(lost.iter().all(|request| request.ended > failed), "lost before: {lost:?}");
        // While it is out the others have all new connections, and answer them.
        let is_out = |request: &&Request| request.begun > out && request.begun < out + HOLD - LOAD / 2;
        let during: Vec<&Request> = requests.iter().filter(is_out).collect();
        eprintln!("{} requests while it is out", during.len());
        ensure!(during.len() > 100, "there was hardly any traffic meanwhile: {}", during.len());
        let by = |name| during.iter().filter(|request| request.by.as_deref() == name).count();
        let (one, three, nobody) = (by(Some("real1")), by(Some("real3")), by(None));
        ensure!(one > 20 && three > 20, "real1 {one}, real3 {three}");
        ensure!(one + three + nobody == during.len(), "who is out had requests: {during:?}");
        // A client's kernel may come back to the port of a connection that it has given up: that one stays
        // with its real server.
        ensure!(nobody <= CLIENTS, "requests were lost: {during:?}");
        let after: Vec<&Request> = requests.iter().filter(|request| request.begun > mended).collect();
        ensure!(after.iter().all(|request| request.by.is_some()), "it works again, but requests are lost");
        ensure!(
            after.iter().any(|request| request.by.as_deref() == Some("real2")),
            "it is back, but gets nothing"
        );
        Ok(())
    })?;
    let log = director.log();
    for words in
        ["unanswered, and none answered since", "health check tries again", "real server serves again"]
    {
        ensure!(log.contains(words), "the log does not say \"{words}\":\n{log}");
    }
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}
