//! The demo: four services balanced over three real servers, changed while they are in use, every promise checked.

mod change;
mod keep;
mod requests;
mod screen;
mod services;

use std::thread;
use std::time::Instant;

use control::model::Scheduler;
use screen::Screen;
use services::{COMING, Cast, LEAVING, SERVICES, Seen};

use crate::ensure;
use crate::error::{Error, Result};
use crate::lab::daemon::Daemon;
use crate::lab::directorctl::Directorctl;
use crate::lab::{Lab, Plan, WayBack, plan};
use crate::traffic::{Counts, hold, spread};

/// Of the client addresses whose real server stays, how many keep it when others leave and come (0..=1).
const UNDISTURBED: f64 = 0.8;

/// Plays the demo. With `keep` the lab is left standing, whatever came out.
///
/// # Errors
/// When the lab cannot be made, or any promise is broken; the error says which.
pub fn run(keep: bool) -> Result<()> {
    let begun = Instant::now();
    println!("making the lab: a client, the director, {} real servers ...", usize::from(COMING));
    let lab = build(keep)?;
    let daemon = lab.start_director(&services::config(&lab))?;
    let result = play(&lab, &daemon, begun);
    if keep {
        keep::explain(&lab);
        return result.map(drop);
    }
    let summary = result?;
    // The status of the director's end is part of what the demo proves.
    daemon.stop()?;
    drop(lab);
    println!("the director stopped with status 0 and the lab is gone");
    println!("{summary} in {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Makes the demo's lab, with a director running in it, and leaves it standing.
///
/// # Errors
/// When it cannot be made.
pub fn stand_up() -> Result<()> {
    let lab = build(true)?;
    let _daemon = lab.start_director(&services::config(&lab))?;
    keep::explain(&lab);
    Ok(())
}

fn build(standing: bool) -> Result<Lab> {
    let plan = Plan::default()
        .real_servers(COMING)
        .client_addresses(services::CLIENT_ADDRESSES)
        .way_back(WayBack::Director);
    if standing { plan.standing().build() } else { plan.build() }
}

/// The scenes, with the table drawn meanwhile. Returns what to say at the end.
fn play(lab: &Lab, daemon: &Daemon, begun: Instant) -> Result<String> {
    let ctl = daemon.ctl();
    let screen = Screen::new(begun, 2 * requests::planned());
    let result = thread::scope(|scope| {
        scope.spawn(|| screen.keep_drawing(&ctl));
        let result = scenes(lab, &ctl, &screen);
        screen.end();
        result
    });
    let broken = result?;
    let (answered, failed) = screen.requests();
    ensure!(broken.is_empty(), "{} promises are broken:\n  {}", broken.len(), broken.join("\n  "));
    ensure!(failed == 0, "{failed} of {} requests failed", answered + failed);
    Ok(format!("demo passed: {answered} requests, all answered, every spread as promised,"))
}

/// Plays the scenes; returns the promises that were broken.
fn scenes(lab: &Lab, ctl: &Directorctl, screen: &Screen) -> Result<Vec<String>> {
    let mut verdict = Verdict { screen, broken: Vec::new() };

    screen.scene("three real servers for every service");
    fresh_ports(lab, "10000 24999")?;
    let before = stable(lab, ctl, screen, Cast::Before, &mut verdict)?;

    screen.scene(&format!(
        "{} leaves and {} comes, with connections held and requests going on",
        plan::real_server_name(LEAVING),
        plan::real_server_name(COMING)
    ));
    fresh_ports(lab, "25000 44999")?;
    let changed = change::play(lab, ctl, screen)?;
    for (balanced, seen) in SERVICES.iter().zip(&changed.seen) {
        let word = format!("{}: {} requests meanwhile", balanced.title(), seen.answered() + seen.failed);
        verdict.all_answered(&word, seen);
    }
    verdict.note("connections to the real server that left lived until their clients closed them", || {
        hold::all_lived(&changed.left, 5)?;
        Ok(format!("{} of them", changed.left.len()))
    });

    screen.scene("the new three for every service");
    fresh_ports(lab, "45000 60999")?;
    let after = stable(lab, ctl, screen, Cast::After, &mut verdict)?;

    for ((balanced, then), now) in SERVICES.iter().zip(&before).zip(&after) {
        if balanced.scheduler == Scheduler::Mh {
            let word = format!("{}: clients of real servers that stayed", balanced.title());
            verdict.note(&word, || {
                let staying = [plan::real_server_name(1), plan::real_server_name(3)];
                let staying = staying.each_ref().map(String::as_str);
                spread::mostly_undisturbed(
                    &then.first_servers(),
                    &now.first_servers(),
                    &staying,
                    UNDISTURBED,
                )?;
                Ok(format!("at least {:.0} % of them stayed as well", UNDISTURBED * 100.0))
            });
        }
    }
    let held: Vec<_> = changed.held.into_iter().flat_map(hold::Hold::finish).collect();
    verdict.note("connections held to the other real servers all the time", || {
        hold::all_lived(&held, 20)?;
        let exchanges: u64 = held.iter().map(|one| one.exchanges).sum();
        Ok(format!("all {} live, after {exchanges} exchanges", held.len()))
    });
    verdict.note("every packet the director received", || {
        ctl.conserved()?;
        let received: u64 = ctl.stats()?.lcores.iter().map(|lcore| lcore.received).sum();
        Ok(format!("is accounted for: {received}"))
    });
    screen.say(&format!("director's own {}", screen::percentiles(&ctl.latency()?)));
    Ok(verdict.broken)
}

/// From here on the client asks from these ports.
///
/// UDP knows no end of a connection: for a while the director sends a client's port to the real server that
/// served it last, and a port that came back would not be the scheduler's choice that is to be judged.
fn fresh_ports(lab: &Lab, range: &str) -> Result<()> {
    lab.client().sysctl("net/ipv4/ip_local_port_range", range)
}

/// One stable phase: requests to all services, then their spreads, by the answers and by the director's count.
fn stable(
    lab: &Lab,
    ctl: &Directorctl,
    screen: &Screen,
    cast: Cast,
    verdict: &mut Verdict<'_>,
) -> Result<Vec<Seen>> {
    let counted_before = services::connections(ctl)?;
    let all = requests::stable(lab, screen)?;
    let counted_after = services::connections(ctl)?;
    let counted = counted_before.iter().zip(&counted_after);
    for ((balanced, seen), (then, now)) in SERVICES.iter().zip(&all).zip(counted) {
        verdict.all_answered(&balanced.title(), seen);
        verdict.note(&balanced.title(), || balanced.judge(cast, seen));
        verdict.check(&balanced.title(), || same(&seen.counts, then, now));
    }
    Ok(all)
}

/// The director must have counted one connection for each answer.
fn same(answers: &Counts, then: &Counts, now: &Counts) -> Result<()> {
    for (server, count) in now {
        let counted = count.saturating_sub(then.get(server).copied().unwrap_or(0));
        let answered = answers.get(server).copied().unwrap_or(0);
        ensure!(
            counted == answered,
            "{server} answered {answered} times, but the director counted {counted} new connections to it"
        );
    }
    Ok(())
}

/// What was promised and whether it holds.
struct Verdict<'a> {
    screen: &'a Screen,
    broken: Vec<String>,
}

impl Verdict<'_> {
    fn note(&mut self, what: &str, check: impl FnOnce() -> Result<String>) {
        match check() {
            Ok(how) => self.screen.say(&format!("ok   {what}: {how}")),
            Err(error) => self.broke(what, &error),
        }
    }

    fn check(&mut self, what: &str, check: impl FnOnce() -> Result<()>) {
        if let Err(error) = check() {
            self.broke(what, &error);
        }
    }

    fn all_answered(&mut self, what: &str, seen: &Seen) {
        self.check(what, || {
            ensure!(seen.answered() > 0, "nobody was asked, so nothing is proved");
            ensure!(seen.failed == 0, "{} requests failed: {}", seen.failed, seen.failures.join("; "));
            Ok(())
        });
    }

    fn broke(&mut self, what: &str, error: &Error) {
        self.screen.say(&format!("FAIL {what}: {error}"));
        self.broken.push(format!("{what}: {error}"));
    }
}
