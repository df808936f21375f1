//! The middle of the demo: a real server is drained and deleted, another one is added, and nobody notices.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use control::model::Protocol;

use super::requests;
use super::screen::Screen;
use super::services::{Balanced, COMING, LEAVING, SERVICES, Seen};
use crate::ensure;
use crate::error::Result;
use crate::lab::process::wait_until;
use crate::lab::{Lab, config, directorctl::Directorctl, plan};
use crate::traffic::hold::{Held, Hold, Speak};

/// Connections held to each TCP service.
const HELD: u8 = 12;
/// Time between two exchanges on a held connection.
const TICK: Duration = Duration::from_millis(100);
/// How long each state of the change is left as it is while requests go on.
const SCENE: Duration = Duration::from_secs(2);
/// How long a drained real server may take to lose its last active connection.
const DRAIN: Duration = Duration::from_secs(15);

/// What came out of the change.
pub(super) struct Changed {
    /// The connections that are still held, one group for each TCP service.
    pub(super) held: Vec<Hold>,
    /// Those that were held to the real server that left.
    pub(super) left: Vec<Held>,
    /// Who answered the requests meanwhile, in the order of [`SERVICES`].
    pub(super) seen: Vec<Seen>,
}

/// Plays it: connections are opened first, then requests go on until the end of the change.
pub(super) fn play(lab: &Lab, ctl: &Directorctl, screen: &Screen) -> Result<Changed> {
    let mut held = open(lab)?;
    screen.say(&format!("{HELD} connections are held to each TCP service, with an exchange every 100 ms"));
    let stop = AtomicBool::new(false);
    let (seen, left) = thread::scope(|scope| {
        let requests = scope.spawn(|| requests::until(&stop, lab, screen));
        let left = change(ctl, screen, &mut held);
        stop.store(true, Ordering::Release);
        let seen = match requests.join() {
            Ok(seen) => seen,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        // A failed change is the more telling error.
        left.and_then(|left| Ok((seen?, left)))
    })?;
    Ok(Changed { held, left, seen })
}

fn open(lab: &Lab) -> Result<Vec<Hold>> {
    let sources: Vec<Ipv4Addr> = (0..HELD).map(plan::client_address).collect();
    let open = || {
        SERVICES
            .iter()
            .filter(|balanced| balanced.protocol == Protocol::Tcp)
            .map(|balanced| Hold::open(balanced.address, Speak::Http, &sources, TICK))
            .collect()
    };
    lab.client().enter(open)?
}

fn change(ctl: &Directorctl, screen: &Screen, held: &mut [Hold]) -> Result<Vec<Held>> {
    thread::sleep(SCENE / 2);
    let leaving = plan::real_server_name(LEAVING);
    for balanced in &SERVICES {
        ctl.run(&format!("server edit {} {} --weight 0", balanced.key(), balanced.server(LEAVING)))?;
    }
    screen.say(&format!("directorctl server edit ... {} --weight 0", plan::real_server(LEAVING)));
    // Nothing new comes now, and what is there lives on.
    let before: Vec<usize> = held.iter().map(|hold| to(hold, &leaving)).collect();
    ensure!(before.iter().sum::<usize>() > 0, "no held connection leads to {leaving}; nothing is proved");
    thread::sleep(SCENE);
    let mut left = Vec::new();
    for hold in held.iter_mut() {
        left.extend(hold.close_those_to(&leaving));
    }
    screen.say(&format!("clients close their {} held connections to {leaving}", left.len()));
    for balanced in &SERVICES {
        wait_until(&format!("{leaving} to lose its last connection of {}", balanced.key()), DRAIN, || {
            thread::sleep(Duration::from_millis(100));
            Ok(active(ctl, balanced)? == 0)
        })?;
        ctl.run(&format!("server del {} {}", balanced.key(), balanced.server(LEAVING)))?;
    }
    screen.say(&format!("{leaving} is drained: directorctl server del ... {}", plan::real_server(LEAVING)));
    thread::sleep(SCENE / 2);
    for balanced in &SERVICES {
        ctl.run(&format!(
            "server add {} {} --method {} --weight {}",
            balanced.key(),
            balanced.server(COMING),
            config::method(balanced.method),
            balanced.weight(COMING)
        ))?;
    }
    screen.say(&format!("directorctl server add ... {}", plan::real_server(COMING)));
    thread::sleep(SCENE);
    Ok(left)
}

fn to(hold: &Hold, server: &str) -> usize {
    hold.held().iter().filter(|one| one.server == server).count()
}

fn active(ctl: &Directorctl, balanced: &Balanced) -> Result<u64> {
    let protocol = config::protocol(balanced.protocol);
    let status =
        ctl.server(protocol, &balanced.address.to_string(), &balanced.server(LEAVING).to_string())?;
    Ok(status.active)
}
