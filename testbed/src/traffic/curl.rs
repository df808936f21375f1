//! curl as the web client: many requests, each on a connection of its own, and who answered.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::Counts;
use crate::error::{Context as _, Result};
use crate::lab::namespace::Namespace;
use crate::lab::process::die_with_parent;

/// What to fetch.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The URL, `http://ADDRESS[:PORT]/PATH`.
    pub url: String,
    /// How many requests, or how many from each of `sources`.
    pub requests: u32,
    /// The addresses to ask from; none for the kernel's choice.
    pub sources: Vec<IpAddr>,
    /// How many requests may be under way at once.
    pub parallel: u32,
    /// How long one may take.
    pub timeout: Duration,
}

impl Plan {
    /// One request after the other, from the kernel's choice of address, five seconds for each.
    #[must_use]
    pub fn new(url: impl Into<String>, requests: u32) -> Self {
        Plan { url: url.into(), requests, sources: Vec::new(), parallel: 1, timeout: Duration::from_secs(5) }
    }

    /// The same with several requests at a time.
    #[must_use]
    pub fn parallel(mut self, parallel: u32) -> Self {
        self.parallel = parallel;
        self
    }

    /// The same from each of these addresses.
    #[must_use]
    pub fn from<A: Copy + Into<IpAddr>>(mut self, sources: &[A]) -> Self {
        self.sources = sources.iter().map(|&source| source.into()).collect();
        self
    }

    /// How many requests that makes in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        u64::from(self.requests) * self.sources.len().max(1) as u64
    }

    /// `[2001:db8::1]`, `8080` and `/x` of `http://[2001:db8::1]:8080/x`.
    fn host_port_and_path(&self) -> (&str, &str, &str) {
        let rest = self.url.strip_prefix("http://").unwrap_or(&self.url);
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // An address of IPv6 has colons itself, in brackets.
        let (host, port) = authority.split_at(authority.find(']').map_or(0, |bracket| bracket + 1));
        match (host, port.split_once(':')) {
            ("", Some((host, port))) => (host, port, path),
            ("", None) => (port, "80", path),
            (host, Some((_, port))) => (host, port, path),
            (host, None) => (host, "80", path),
        }
    }

    /// The configuration that curl reads: one section for each address.
    fn curl_config(&self) -> String {
        let mut text = String::from("silent\nno-progress-meter\n");
        if self.parallel > 1 {
            let _ = writeln!(text, "parallel\nparallel-max = {}", self.parallel);
        }
        let interfaces: Vec<Option<IpAddr>> = if self.sources.is_empty() {
            vec![None]
        } else {
            self.sources.iter().copied().map(Some).collect()
        };
        for (index, interface) in interfaces.iter().enumerate() {
            if index > 0 {
                text.push_str("next\n");
            }
            if let Some(address) = interface {
                let _ = writeln!(text, "interface = \"{address}\"");
            }
            // Each request has a host name of its own, so that curl cannot use a connection again, and closes it
            // itself. Asked to close it, the real server would, and the client's port would be free at once: used
            // again, it would be a connection that the director still knows.
            let (host, port, path) = self.host_port_and_path();
            // The words go to stderr, which curl does not buffer.
            let _ = write!(
                text,
                "url = \"http://request-{index}-[1-{}].lab:{port}{path}\"\nresolve = \"*:{port}:{host}\"\n\
                 output = \"/dev/null\"\nmax-time = {}\n\
                 write-out = \"%{{stderr}}answer|%{{http_code}}|%{{exitcode}}|%{{local_ip}}|\
                 %header{{x-real-server}}|%{{time_total}}|%{{errormsg}}\\n\"\n",
                self.requests,
                self.timeout.as_secs_f64()
            );
        }
        text
    }
}

/// What became of one request.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A real server answered with status 200.
    From {
        /// Its name.
        server: String,
        /// The address that asked.
        client: IpAddr,
        /// From the beginning to the end.
        took: Duration,
    },
    /// Anything else, in curl's words.
    Failed(String),
}

/// What became of all requests.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Right answers by real server.
    pub answers: Counts,
    /// Right answers by the address that asked.
    pub by_client: BTreeMap<IpAddr, Vec<String>>,
    /// Requests that were not answered as they should.
    pub failed: u64,
    /// The first few failures.
    pub failures: Vec<String>,
    /// The longest that one took.
    pub slowest: Duration,
}

impl Outcome {
    fn add(&mut self, answer: Answer) {
        match answer {
            Answer::From { server, client, took } => {
                *self.answers.entry(server.clone()).or_default() += 1;
                self.by_client.entry(client).or_default().push(server);
                self.slowest = self.slowest.max(took);
            }
            Answer::Failed(why) => {
                self.failed += 1;
                if self.failures.len() < 10 {
                    self.failures.push(why);
                }
            }
        }
    }

    /// Right answers in all.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answers.values().sum()
    }
}

/// Runs curl in a namespace, telling `each` answer as it comes.
///
/// # Errors
/// When curl cannot be run. A failed request is no error but counted, and so is one that is missing.
pub fn ask(namespace: &Namespace, plan: &Plan, mut each: impl FnMut(&Answer)) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    // curl bounds each request; this bounds all of them, should it hang.
    let bound = (plan.total() / u64::from(plan.parallel.max(1))).clamp(30, 120);
    let mut command: Command = namespace.command("timeout");
    command.args(["--kill-after=1", &bound.to_string(), "curl", "--config", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    die_with_parent(&mut command, Signal::TERM);
    let mut curl = command.spawn().context(|| "cannot start curl")?;
    if let Some(mut stdin) = curl.stdin.take() {
        stdin.write_all(plan.curl_config().as_bytes()).context(|| "curl does not read its configuration")?;
    }
    let mut other_words = String::new();
    if let Some(stderr) = curl.stderr.take() {
        for line in BufReader::new(stderr).lines() {
            let line = line.context(|| "cannot read what curl says")?;
            match parse(&line) {
                Some(answer) => {
                    each(&answer);
                    outcome.add(answer);
                }
                None => other_words.push_str(&line),
            }
        }
    }
    curl.wait().context(|| "cannot wait for curl")?;
    let missing = plan.total().saturating_sub(outcome.answered() + outcome.failed);
    for _ in 0..missing {
        let answer = Answer::Failed(format!("curl ended without an answer; it said \"{other_words}\""));
        each(&answer);
        outcome.add(answer);
    }
    Ok(outcome)
}

fn parse(line: &str) -> Option<Answer> {
    let mut parts = line.strip_prefix("answer|")?.splitn(6, '|');
    let mut next = || parts.next().unwrap_or_default();
    let (status, exit, client, server, seconds, words) = (next(), next(), next(), next(), next(), next());
    let took = seconds.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match (status, exit, client.parse(), took) {
        ("200", "0", Ok(client), Some(took)) if !server.is_empty() => {
            Some(Answer::From { server: server.to_owned(), client, took })
        }
        _ => Some(Answer::Failed(format!("HTTP status {status}, curl's exit status {exit}: {words}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn an_answer_is_read() {
        let answer = parse("answer|200|0|10.0.1.100|real2|0.003|").unwrap();
        let expected = Answer::From {
            server: "real2".to_owned(),
            client: Ipv4Addr::new(10, 0, 1, 100).into(),
            took: Duration::from_millis(3),
        };
        assert_eq!(answer, expected);
    }

    #[test]
    fn failures_are_read_as_such() {
        for line in [
            "answer|000|28|10.0.1.1||5.0|Connection timed out",
            "answer|500|0|10.0.1.1|real1|0.1|",
            "answer|200|0|10.0.1.1||0.1|",
            "answer|200|18|10.0.1.1|real1|0.1|transfer closed",
            "answer|200",
        ] {
            assert!(matches!(parse(line), Some(Answer::Failed(_))), "{line}");
        }
        assert_eq!(parse("curl: something else"), None);
    }

    #[test]
    fn a_url_is_taken_apart() {
        for (url, parts) in [
            ("http://10.99.0.1/", ("10.99.0.1", "80", "/")),
            ("http://10.99.0.1:8080/x", ("10.99.0.1", "8080", "/x")),
            ("http://[2001:db8::1]/x", ("[2001:db8::1]", "80", "/x")),
            ("http://[2001:db8::1]:8080", ("[2001:db8::1]", "8080", "")),
        ] {
            assert_eq!(Plan::new(url, 1).host_port_and_path(), parts);
        }
    }

    #[test]
    fn every_address_has_its_section() {
        let plan = Plan::new("http://10.99.0.3/", 3).from(&[Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST]);
        let config = plan.curl_config();
        assert_eq!(config.matches("next\n").count(), 1);
        assert_eq!(config.matches("max-time = 5\n").count(), 2, "an option holds for one section only");
        assert_eq!(plan.total(), 6);
    }
}
