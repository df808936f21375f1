//! A UDP client: one request from each of many source ports, and who answered.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::Counts;
use crate::error::{Context as _, Result};

/// What to ask.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The virtual service, or any UDP echo.
    pub target: SocketAddr,
    /// The addresses to ask from, in turn; none for the kernel's choice.
    pub sources: Vec<IpAddr>,
    /// How many requests, each from a source port of its own.
    pub requests: u32,
    /// Bytes in a request beside its number.
    pub padding: usize,
    /// How long to wait for each answer.
    pub timeout: Duration,
}

impl Plan {
    /// Small requests to `target` from the kernel's choice of address, two seconds for each answer.
    #[must_use]
    pub fn new(target: SocketAddr, requests: u32) -> Self {
        Plan { target, sources: Vec::new(), requests, padding: 0, timeout: Duration::from_secs(2) }
    }
}

/// What became of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The real server that answered, and the address it was asked from.
    From(String, IpAddr),
    /// Nothing came in time.
    Timeout,
    /// Something else came: a wrong answer or an ICMP error.
    Wrong(String),
}

/// What became of all requests.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Right answers by real server.
    pub answers: Counts,
    /// Right answers by the address that asked, in order of asking.
    pub by_source: std::collections::BTreeMap<IpAddr, Vec<String>>,
    /// Requests without an answer.
    pub timeouts: u64,
    /// The first few wrong answers, and their number.
    pub wrong: Vec<String>,
    /// How many wrong answers there were.
    pub wrong_answers: u64,
}

impl Outcome {
    /// Requests that were not answered as they should.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.timeouts + self.wrong_answers
    }

    fn add(&mut self, answer: Answer) {
        match answer {
            Answer::From(server, source) => {
                *self.answers.entry(server.clone()).or_default() += 1;
                self.by_source.entry(source).or_default().push(server);
            }
            Answer::Timeout => self.timeouts += 1,
            Answer::Wrong(what) => {
                self.wrong_answers += 1;
                if self.wrong.len() < 10 {
                    self.wrong.push(what);
                }
            }
        }
    }
}

/// Asks one request after the other, telling `each` answer as it comes.
///
/// Every request has a source port that no request of this program has used before: a director keeps the
/// connection of a datagram for minutes, and a port that comes again goes where it went, not where the
/// scheduler would send it. The kernel draws ports at random, so that two of some hundred often are the same.
///
/// # Errors
/// When a socket cannot be opened or used.
pub fn ask(plan: &Plan, mut each: impl FnMut(&Answer)) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for number in 0..plan.requests {
        let source = match plan.sources.len() {
            0 if plan.target.is_ipv4() => Ipv4Addr::UNSPECIFIED.into(),
            0 => Ipv6Addr::UNSPECIFIED.into(),
            length => plan.sources[number as usize % length],
        };
        let socket = bind_fresh(source).context(|| format!("cannot bind a UDP socket to {source}"))?;
        socket.connect(plan.target).context(|| format!("cannot connect a UDP socket to {}", plan.target))?;
        let answer = exchange(&socket, number, plan).context(|| format!("cannot ask {}", plan.target))?;
        each(&answer);
        outcome.add(answer);
    }
    Ok(outcome)
}

/// The source ports to ask from. They end below the ones that the kernel draws for others (32768 and up).
const SOURCE_PORTS: RangeInclusive<u16> = 10_000..=32_767;

/// A socket on the next source port of [`SOURCE_PORTS`] that is free.
fn bind_fresh(source: IpAddr) -> io::Result<UdpSocket> {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let ports = SOURCE_PORTS.len() as u32;
    // Another program that asks the same director begins somewhere else.
    let first = std::process::id().wrapping_mul(101);
    let mut refused = io::ErrorKind::AddrInUse.into();
    for _ in SOURCE_PORTS {
        let place = first.wrapping_add(ASKED.fetch_add(1, Ordering::Relaxed)) % ports;
        match UdpSocket::bind((source, SOURCE_PORTS.start() + place as u16)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => refused = error,
            bound => return bound,
        }
    }
    Err(refused)
}

fn exchange(socket: &UdpSocket, number: u32, plan: &Plan) -> io::Result<Answer> {
    let source = socket.local_addr()?.ip();
    let request = format!("request {number} {}", "x".repeat(plan.padding));
    match socket.send(request.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return Ok(Answer::Wrong("port unreachable".to_owned()));
        }
        sent => sent?,
    };
    let end = Instant::now() + plan.timeout;
    let mut buffer = [0u8; 65536];
    let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    socket.set_read_timeout(Some(left))?;
    match socket.recv(&mut buffer) {
        Ok(length) => Ok(judge(&buffer[..length], &request, source)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            Ok(Answer::Timeout)
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Ok(Answer::Wrong("port unreachable".to_owned()))
        }
        Err(error) => Err(error),
    }
}

/// A right answer is the real server's name, a blank and the request.
fn judge(answer: &[u8], request: &str, source: IpAddr) -> Answer {
    let text = String::from_utf8_lossy(answer);
    match text.split_once(' ') {
        Some((server, rest)) if rest == request => Answer::From(server.to_owned(), source),
        _ => Answer::Wrong(format!("{:.60}", text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// A server on loopback that answers `count` datagrams by `reply`.
    fn server(count: u32, reply: impl Fn(u32, &[u8]) -> Option<Vec<u8>> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        thread::spawn(move || {
            let mut buffer = [0u8; 2048];
            for number in 0..count {
                let (length, from) = socket.recv_from(&mut buffer).unwrap();
                if let Some(answer) = reply(number, &buffer[..length]) {
                    socket.send_to(&answer, from).unwrap();
                }
            }
        });
        address
    }

    #[test]
    fn answers_are_counted_by_real_server() {
        let target = server(30, |number, request| {
            let name: &[u8] = if number % 3 == 0 { b"real1 " } else { b"real2 " };
            Some([name, request].concat())
        });
        let mut told = 0;
        let outcome = ask(&Plan::new(target, 30), |_| told += 1).unwrap();
        assert_eq!(told, 30);
        assert_eq!(outcome.answers, Counts::from([("real1".into(), 10), ("real2".into(), 20)]));
        assert_eq!(outcome.failed(), 0);
    }

    #[test]
    fn silence_and_lies_are_told_apart() {
        let target = server(3, |number, request| match number {
            0 => Some([b"real1 ", request].concat()),
            1 => None,
            _ => Some(b"real1 something else".to_vec()),
        });
        let plan = Plan { timeout: Duration::from_millis(200), ..Plan::new(target, 3) };
        let outcome = ask(&plan, |_| ()).unwrap();
        assert_eq!((outcome.answers["real1"], outcome.timeouts, outcome.wrong_answers), (1, 1, 1));
        assert_eq!(outcome.wrong, ["real1 something else"]);
    }

    #[test]
    fn a_closed_port_is_told_at_once() {
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let begun = Instant::now();
        let outcome = ask(&Plan::new(closed, 2), |_| ()).unwrap();
        assert_eq!(outcome.wrong, ["port unreachable", "port unreachable"]);
        assert!(begun.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn every_request_of_every_run_has_a_source_port_of_its_own() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = socket.local_addr().unwrap();
        thread::spawn(move || {
            let mut buffer = [0u8; 2048];
            for _ in 0..50 {
                let (length, from) = socket.recv_from(&mut buffer).unwrap();
                sender.send(from.port()).unwrap();
                socket.send_to(&[b"a ", &buffer[..length]].concat(), from).unwrap();
            }
        });
        for _ in 0..2 {
            assert_eq!(ask(&Plan::new(target, 25), |_| ()).unwrap().failed(), 0);
        }
        let ports: std::collections::BTreeSet<u16> = receiver.iter().take(50).collect();
        assert_eq!(ports.len(), 50);
    }
}
