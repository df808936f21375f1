//! One template and its clock.

use std::net::{IpAddr, SocketAddr};

use crate::service::ServerId;
use crate::time::Tick;

/// How long a template goes on when its time is over but connections of it are not, in milliseconds; and from then
/// on after each new connection, too (Linux `ip_vs_conn_expire`).
const REARMED: u32 = 60_000;

/// What a template is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name<'a> {
    /// What is in it of addresses and ports.
    pub key: TemplateKey,
    /// The Call-ID of SIP's, at most [`crate::sip::MAX_CALL_ID`] bytes; empty where the service does not go by that.
    pub call_id: &'a [u8],
}

/// What names a template, but for a Call-ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TemplateKey {
    /// Network of the client, by the service's granularity.
    pub client: IpAddr,
    /// The virtual address.
    pub virtual_address: IpAddr,
    /// The virtual port; 0 of services of all ports.
    pub virtual_port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

/// A client's tie to a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// What names it.
    pub key: TemplateKey,
    /// The real server.
    pub server: ServerId,
    /// Its address and port, which are what counts: a number may be another real server's once nobody has connections
    /// to this one.
    pub address: SocketAddr,
    /// A connection of it was established, so that it is not for the asking of anybody who sends a SYN.
    pub assured: bool,
    /// How long it lives after `since`, in milliseconds.
    timeout: u32,
    /// When its clock was started last.
    since: Tick,
    /// How many connections it has.
    controlled: u32,
}

impl Template {
    /// A template without connections, whose clock starts now; `timeout` is in milliseconds.
    pub fn new(
        key: TemplateKey,
        (server, address): (ServerId, SocketAddr),
        timeout: u32,
        now: Tick,
    ) -> Template {
        Template { key, server, address, assured: false, timeout, since: now, controlled: 0 }
    }

    /// Starts its clock again for one more connection. The caller has made sure that it is not over.
    pub(super) fn add(&mut self, now: Tick) {
        self.advance(now);
        self.since = now;
        self.controlled += 1;
    }

    /// A connection of it has ended, at this moment.
    pub(super) fn release(&mut self, ended: Tick) {
        self.advance(ended);
        self.controlled = self.controlled.saturating_sub(1);
    }

    /// Whether its time is over: its clock has run out, and it has no connection.
    pub fn is_over(&self, now: Tick) -> bool {
        self.controlled == 0 && self.elapsed(now) >= self.timeout
    }

    /// How many connections it has.
    pub fn controlled(&self) -> u32 {
        self.controlled
    }

    /// Milliseconds until its clock runs out.
    pub fn expires_in(&self, now: Tick) -> u32 {
        let mut at_now = *self;
        at_now.advance(now);
        at_now.timeout.saturating_sub(at_now.elapsed(now))
    }

    /// Since the clock was started; 0 where that is after `moment`, since connections end without being noticed at once.
    fn elapsed(&self, moment: Tick) -> u32 {
        moment.since_anyones(self.since)
    }

    /// Lets the clock run out as often as it has by this moment, with the connections that it has had since the last
    /// call.
    fn advance(&mut self, moment: Tick) {
        let elapsed = self.elapsed(moment);
        if self.controlled == 0 || elapsed < self.timeout {
            return;
        }
        let over = (elapsed - self.timeout) / REARMED * REARMED;
        self.since = self.since.after(self.timeout + over);
        self.timeout = REARMED;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn template(timeout: u32, now: u32) -> Template {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let key = TemplateKey { client: ip, virtual_address: ip, virtual_port: 80, protocol: 6 };
        Template::new(key, (ServerId(1), (ip, 80).into()), timeout, Tick(now))
    }

    #[test]
    fn it_ends_when_its_clock_runs_out_and_each_connection_starts_that_again() {
        let start = u32::MAX - 5000;
        let mut one = template(10_000, start);
        one.add(Tick(start));
        one.release(Tick(start).after(100));
        assert!(!one.is_over(Tick(start).after(9_999)));
        assert!(one.is_over(Tick(start).after(10_000)));
        one.add(Tick(start).after(9_999));
        one.release(Tick(start).after(10_000));
        assert!(!one.is_over(Tick(start).after(19_998)));
        assert!(one.is_over(Tick(start).after(19_999)));
    }

    #[test]
    fn with_connections_it_goes_on_by_the_minute_and_keeps_to_minutes() {
        let mut one = template(10_000, 0);
        one.add(Tick(0));
        assert_eq!(one.expires_in(Tick(10_001)), 59_999);
        // Ends within the third minute: the clock runs out at its end.
        one.release(Tick(10_000 + 130_000));
        assert!(!one.is_over(Tick(10_000 + 179_999)));
        assert!(one.is_over(Tick(10_000 + 180_000)));
        // A later connection renews it by a minute, not by its service's timeout.
        one.add(Tick(10_000 + 170_000));
        one.release(Tick(10_000 + 170_001));
        assert!(one.is_over(Tick(10_000 + 230_000)));
        assert!(!one.is_over(Tick(10_000 + 229_999)));
    }

    #[test]
    fn an_end_noticed_late_counts_from_when_it_was() {
        let mut one = template(10_000, 0);
        one.add(Tick(0));
        // Ended before the clock was started the last time.
        one.add(Tick(5000));
        one.release(Tick(4000));
        one.release(Tick(6000));
        assert!(one.is_over(Tick(15_000)));
    }
}
