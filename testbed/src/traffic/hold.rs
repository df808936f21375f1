//! Connections that are held open and used all the time, to see whether they live.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

use crate::ensure;
use crate::error::{Context as _, Result};

/// How long an exchange may take before the connection counts as broken.
const PATIENCE: Duration = Duration::from_secs(4);

/// What is spoken on the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speak {
    /// Lines to a TCP echo real server.
    Echo,
    /// HTTP/1.1 requests to nginx, all on the same connection.
    Http,
}

/// What is known of one connection.
#[derive(Clone, Debug)]
pub struct Held {
    /// The client's address and port.
    pub client: SocketAddr,
    /// The real server that answered first; another one on the same connection is a failure.
    pub server: String,
    /// Exchanges that went well.
    pub exchanges: u64,
    /// Why it broke, if it did.
    pub failure: Option<String>,
}

/// Some connections in use. Dropping it closes them.
#[derive(Debug)]
pub struct Hold {
    connections: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    held: Arc<Mutex<Held>>,
    close: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Hold {
    /// Opens one connection to `target` from each of `sources` (unspecified: the kernel's choice), one after the
    /// other, each with a first exchange; then uses each every `interval`.
    ///
    /// # Errors
    /// When one cannot be opened or its first exchange fails.
    pub fn open<A: Copy + Into<IpAddr>>(
        target: impl Into<SocketAddr>,
        speak: Speak,
        sources: &[A],
        interval: Duration,
    ) -> Result<Hold> {
        let target = target.into();
        let mut connections = Vec::new();
        for &source in sources {
            let stream = open(source.into(), target).context(|| format!("cannot connect to {target}"))?;
            let client = stream.local_addr().context(|| "no local address")?;
            let mut line = Line { reader: BufReader::new(stream), speak, number: 0 };
            let server =
                line.exchange().context(|| format!("the first exchange of {client} with {target} failed"))?;
            let held = Arc::new(Mutex::new(Held { client, server, exchanges: 1, failure: None }));
            let close = Arc::new(AtomicBool::new(false));
            let (theirs, stop) = (Arc::clone(&held), Arc::clone(&close));
            let thread = thread::spawn(move || line.keep_talking(&theirs, &stop, interval));
            connections.push(Connection { held, close, thread: Some(thread) });
        }
        Ok(Hold { connections })
    }

    /// What is known of each connection that has not been closed.
    #[must_use]
    pub fn held(&self) -> Vec<Held> {
        self.connections.iter().map(|connection| lock(&connection.held).clone()).collect()
    }

    /// Closes the connections to one real server in order; returns what is known of them.
    pub fn close_those_to(&mut self, server: &str) -> Vec<Held> {
        let (closing, staying) =
            self.connections.drain(..).partition(|connection| lock(&connection.held).server == server);
        self.connections = staying;
        close_all(closing)
    }

    /// Closes all connections in order; returns what is known of them.
    #[must_use]
    pub fn finish(mut self) -> Vec<Held> {
        close_all(std::mem::take(&mut self.connections))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        close_all(std::mem::take(&mut self.connections));
    }
}

/// Says which of the connections have broken and how, if any.
///
/// # Errors
/// When one has, or one was hardly used.
pub fn all_lived(held: &[Held], at_least: u64) -> Result<()> {
    for one in held {
        if let Some(failure) = &one.failure {
            crate::fail!("the connection of {} to {} broke: {failure}", one.client, one.server);
        }
        ensure!(
            one.exchanges >= at_least,
            "the connection of {} to {} made only {} exchanges",
            one.client,
            one.server,
            one.exchanges
        );
    }
    Ok(())
}

fn close_all(mut connections: Vec<Connection>) -> Vec<Held> {
    for connection in &connections {
        connection.close.store(true, Ordering::Release);
    }
    for connection in &mut connections {
        if let Some(thread) = connection.thread.take() {
            let _ = thread.join();
        }
    }
    connections.iter().map(|connection| lock(&connection.held).clone()).collect()
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(source: IpAddr, target: SocketAddr) -> io::Result<TcpStream> {
    // The kernel's choice is of the target's family.
    let (family, source) = match target {
        SocketAddr::V4(_) => (AddressFamily::INET, source),
        SocketAddr::V6(_) if source.is_unspecified() => (AddressFamily::INET6, Ipv6Addr::UNSPECIFIED.into()),
        SocketAddr::V6(_) => (AddressFamily::INET6, source),
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddr::new(source, 0))?;
    // On Linux the send timeout bounds connect as well.
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE))?;
    match connect(&socket, &target) {
        Err(rustix::io::Errno::INPROGRESS) => {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer to SYN"));
        }
        other => other?,
    }
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One connection and what is spoken on it.
struct Line {
    reader: BufReader<TcpStream>,
    speak: Speak,
    number: u64,
}

impl Line {
    fn keep_talking(mut self, held: &Mutex<Held>, close: &AtomicBool, interval: Duration) {
        while !close.load(Ordering::Acquire) {
            thread::sleep(interval);
            let result = self.exchange();
            let mut held = lock(held);
            match result {
                Ok(server) if server == held.server => held.exchanges += 1,
                Ok(server) => {
                    held.failure = Some(format!("suddenly {server} answered"));
                    return;
                }
                Err(error) => {
                    held.failure = Some(format!("after {} exchanges: {error}", held.exchanges));
                    return;
                }
            }
        }
    }

    /// One question and its answer. Returns the real server that answered.
    fn exchange(&mut self) -> io::Result<String> {
        self.number += 1;
        match self.speak {
            Speak::Echo => self.echo(),
            Speak::Http => self.http(),
        }
    }

    fn echo(&mut self) -> io::Result<String> {
        let question = format!("line {}", self.number);
        self.reader.get_mut().write_all(format!("{question}\n").as_bytes())?;
        let answer = self.line()?;
        match answer.split_once(' ') {
            Some((server, rest)) if rest == question => Ok(server.to_owned()),
            _ => Err(wrong(&answer)),
        }
    }

    fn http(&mut self) -> io::Result<String> {
        let request = format!("GET /hold/{} HTTP/1.1\r\nHost: lab\r\n\r\n", self.number);
        self.reader.get_mut().write_all(request.as_bytes())?;
        let status = self.line()?;
        if !status.starts_with("HTTP/1.1 200") {
            return Err(wrong(&status));
        }
        let (mut server, mut length) = (None, 0);
        loop {
            let header = self.line()?;
            match header.split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("x-real-server") => {
                    server = Some(value.to_owned());
                }
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().map_err(|_| wrong(&header))?;
                }
                Some(_) => (),
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body)?;
        server.ok_or_else(|| wrong("an answer that does not say which real server it is from"))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        let length = self.reader.read_line(&mut line).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "no answer"),
            _ => error,
        })?;
        if length == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed"));
        }
        Ok(line.trim_end().to_owned())
    }
}

fn wrong(answer: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a wrong answer: {answer:.80}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    const SOON: Duration = Duration::from_millis(5);

    /// A server on loopback that serves each connection by `serve`.
    fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(stream));
            }
        });
        address
    }

    fn echo(stream: TcpStream, name: impl Fn(u32) -> Option<String>) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        for number in 0.. {
            line.clear();
            let Some(name) = name(number) else { return };
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let mut writer = &stream;
            writer.write_all(format!("{name} {line}").as_bytes()).unwrap();
        }
    }

    #[test]
    fn connections_live_and_are_closed_by_real_server() {
        let number = std::sync::atomic::AtomicU32::new(0);
        let target = server(move |stream| {
            let name = format!("real{}", number.fetch_add(1, Ordering::Relaxed) % 2 + 1);
            echo(stream, |_| Some(name.clone()));
        });
        let mut hold = Hold::open(target, Speak::Echo, &[Ipv4Addr::UNSPECIFIED; 4], SOON).unwrap();
        thread::sleep(Duration::from_millis(100));
        let closed = hold.close_those_to("real1");
        assert_eq!(closed.len(), 2);
        assert_eq!(hold.held().len(), 2);
        let rest = hold.finish();
        assert!(rest.iter().all(|held| held.server == "real2"));
        all_lived(&closed, 2).unwrap();
        all_lived(&rest, 2).unwrap();
        assert!(all_lived(&rest, 1_000_000).is_err());
    }

    #[test]
    fn a_connection_that_is_cut_is_noticed() {
        let target = server(|stream| echo(stream, |number| (number < 3).then(|| "real1".to_owned())));
        let hold = Hold::open(target, Speak::Echo, &[Ipv4Addr::LOCALHOST], SOON).unwrap();
        thread::sleep(Duration::from_millis(200));
        let held = hold.finish();
        assert_eq!(held[0].exchanges, 3);
        assert!(all_lived(&held, 1).unwrap_err().to_string().contains("closed"), "{held:?}");
    }

    #[test]
    fn an_answer_from_another_real_server_is_noticed() {
        let target =
            server(|stream| echo(stream, |number| Some(format!("real{}", if number < 3 { 1 } else { 2 }))));
        let hold = Hold::open(target, Speak::Echo, &[Ipv4Addr::LOCALHOST], SOON).unwrap();
        thread::sleep(Duration::from_millis(200));
        assert!(all_lived(&hold.finish(), 1).unwrap_err().to_string().contains("suddenly real2"));
    }

    #[test]
    fn http_is_spoken_on_one_connection() {
        let target = server(|stream| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            loop {
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    if reader.read_line(&mut head).unwrap_or(0) == 0 {
                        return;
                    }
                }
                assert!(head.starts_with("GET /hold/"), "{head}");
                let mut writer = &stream;
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Real-Server: real3\r\n\r\nreal3\n";
                writer.write_all(answer.as_bytes()).unwrap();
            }
        });
        let hold = Hold::open(target, Speak::Http, &[Ipv4Addr::LOCALHOST], SOON).unwrap();
        thread::sleep(Duration::from_millis(100));
        let held = hold.finish();
        all_lived(&held, 3).unwrap();
        assert_eq!(held[0].server, "real3");
    }
}
