//! The status page of a lab's director, with traffic, in a real browser: what a test looks at and what the documentation
//! shows.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use control::health::Standing;
use control::model::{ForwardingMethod, Scheduler};

use crate::error::{Context as _, Result};
use crate::lab::browser::{Browser, View};
use crate::lab::config::Service;
use crate::lab::daemon::Daemon;
use crate::lab::exporter::Exporter;
use crate::lab::process::wait_until;
use crate::lab::{Lab, plan};
use crate::traffic::curl;
use crate::traffic::hold::{Hold, Speak};
use crate::traffic::udp;

/// A port of real servers at which nobody listens.
pub const DEAF: u16 = 8099;
/// How often the service is checked; a real server fails after two.
const CHECK: &str =
    "  [service.check]\n  kind = \"tcp\"\n  interval = 2\n  timeout = 8\n  fall = 2\n  rise = 2\n";
/// How often each held connection is used: nginx ends one after a thousand requests.
const EXCHANGE: Duration = Duration::from_millis(250);
/// Connections that are held all the time.
const HELD: usize = 12;

/// A lab, its director and what serves the director's page.
pub struct Scene {
    /// The machines.
    pub lab: Lab,
    /// The director.
    pub daemon: Daemon,
    /// `directorctl serve`.
    pub exporter: Exporter,
}

impl Scene {
    /// Makes it: four services, one of them with a real server that fails its check.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn start() -> Result<Scene> {
        let lab = Lab::plan().build()?;
        let web = Service::tcp(plan::VIP_NAT, plan::WEB, Scheduler::Wrr)
            .lab_servers(&lab, plan::WEB_NAT, ForwardingMethod::Nat, &[2, 2, 1])
            .server(plan::real_server(3), DEAF, ForwardingMethod::Nat, 1);
        let config = lab
            .config()
            .with(web)
            .with(Service::tcp(plan::VIP_DR, plan::WEB, Scheduler::Wlc).lab_servers(
                &lab,
                plan::WEB,
                ForwardingMethod::Dr,
                &[1, 1, 1],
            ))
            .with(Service::tcp(plan::VIP_TUN, plan::WEB, Scheduler::Mh).persistent(600).lab_servers(
                &lab,
                plan::WEB,
                ForwardingMethod::Tunnel,
                &[1, 1, 1],
            ))
            .with(Service::udp(plan::VIP_NAT, 53, Scheduler::Rr).lab_servers(
                &lab,
                plan::ECHO_NAT,
                ForwardingMethod::Nat,
                &[1, 1, 1],
            ));
        let toml = config.toml();
        let checked = toml.replacen("scheduler = \"wrr\"\n", &format!("scheduler = \"wrr\"\n{CHECK}"), 1);
        let daemon = lab.start_director_toml(&checked, &config.socket)?;
        // Until then connections would go to it as well, and be refused.
        let deaf = format!("{}:{DEAF}", plan::real_server(3));
        let web = format!("{}:{}", plan::VIP_NAT, plan::WEB);
        wait_until("the check to fail", Duration::from_secs(60), || {
            Ok(daemon.ctl().server("tcp", &web, &deaf)?.health == Some(Standing::Inhibited))
        })?;
        let exporter = Exporter::start(&config.socket, lab.directory(), &[])?;
        Ok(Scene { lab, daemon, exporter })
    }

    /// Does something while clients ask all services.
    ///
    /// # Errors
    /// When that fails, or clients do.
    pub fn with_traffic<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let vip = SocketAddrV4::new(plan::VIP_NAT, plan::WEB);
        let sources = vec![Ipv4Addr::UNSPECIFIED; HELD];
        let held = self.lab.client().enter(|| Hold::open(vip, Speak::Http, &sources, EXCHANGE))??;
        let stop = AtomicBool::new(false);
        let outcome = thread::scope(|scope| {
            let asking = scope.spawn(|| self.ask_until(&stop));
            let outcome = work();
            stop.store(true, Ordering::Relaxed);
            match asking.join() {
                Ok(asked) => asked.and(outcome),
                Err(panicked) => std::panic::resume_unwind(panicked),
            }
        });
        drop(held);
        outcome
    }

    fn ask_until(&self, stop: &AtomicBool) -> Result<()> {
        while !stop.load(Ordering::Relaxed) {
            for vip in plan::VIPS {
                curl::ask(
                    self.lab.client(),
                    &curl::Plan::new(format!("http://{vip}/"), 30).parallel(4),
                    |_| (),
                )?;
            }
            let udp = udp::Plan {
                target: SocketAddrV4::new(plan::VIP_NAT, 53).into(),
                sources: Vec::new(),
                requests: 30,
                padding: 0,
                timeout: Duration::from_secs(2),
            };
            self.lab.client().enter(|| udp::ask(&udp, |_| ()))??;
        }
        Ok(())
    }
}

/// Makes the pictures anew.
///
/// # Errors
/// When there is no lab, no browser or no directory.
pub fn make(directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).context(|| format!("cannot make {}", directory.display()))?;
    let scene = Scene::start()?;
    scene.with_traffic(|| {
        let mut browser = Browser::start()?;
        // Long enough for rates to be what they are, and for a line to have been drawn.
        let end = Instant::now() + Duration::from_secs(40);
        browser.open(&scene.exporter.url("/"), View::DESK)?;
        browser.wait_for("document.querySelectorAll('.service').length === 4")?;
        thread::sleep(end.saturating_duration_since(Instant::now()));
        for (name, view, height) in [
            ("status-light.png", View::DESK, 1500),
            ("status-dark.png", View::DESK.dark(), 1500),
            ("status-phone.png", View::PHONE, 1400),
        ] {
            browser.look(view)?;
            // The page draws itself anew for another width with the next answer.
            thread::sleep(Duration::from_secs(5));
            browser.picture(&directory.join(name), height)?;
            println!("{}", directory.join(name).display());
        }
        Ok(())
    })
}
