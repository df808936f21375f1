//! Persistence templates by their whole history.

use std::net::{IpAddr, SocketAddr};

/// A minute, in milliseconds: what a template goes on by while it has connections.
const MINUTE: u64 = 60_000;

/// What names a template: client's network, virtual address and port, protocol, Call-ID.
pub type Name = (IpAddr, SocketAddr, u8, Option<String>);

/// A client's tie to a real server.
#[derive(Clone, Debug)]
pub struct Template {
    /// Its name.
    pub name: Name,
    /// The real server.
    pub server: SocketAddr,
    /// When its clock runs out.
    fires: u64,
    timeout: u64,
    /// From when to when its connections lived, by their numbers; the end is not known while they live.
    lives: Vec<(u64, u64, Option<u64>)>,
}

impl Template {
    /// A template that was made at this moment.
    #[must_use]
    pub fn new(name: Name, server: SocketAddr, timeout: u64, now: u64) -> Template {
        Template { name, server, fires: now + timeout, timeout, lives: Vec::new() }
    }

    /// A connection more, which starts the clock again.
    pub fn join(&mut self, connection: u64, now: u64) {
        self.lives.push((connection, now, None));
        self.fires = now + self.timeout;
    }

    /// A connection has ended.
    pub fn leave(&mut self, connection: u64, at: u64) {
        for life in self.lives.iter_mut().filter(|life| life.0 == connection) {
            life.2 = Some(at);
        }
    }

    /// Lets the clock run out as often as it has by `now`. `is_known` tells of a connection that nobody has noticed the
    /// end of, be it over or not. One that ends in the very moment still counts. True while the template is there.
    pub fn run(&mut self, now: u64, is_known: impl Fn(u64) -> bool) -> bool {
        while self.fires <= now {
            let at = self.fires;
            let lives = |(connection, since, end): &(u64, u64, Option<u64>)| {
                *since <= at && end.map_or_else(|| is_known(*connection), |end| at <= end)
            };
            if !self.lives.iter().any(lives) {
                return false;
            }
            self.timeout = MINUTE;
            self.fires += MINUTE;
        }
        true
    }
}
