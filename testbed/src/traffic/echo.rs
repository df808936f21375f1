//! Real servers that say who they are: every answer is `NAME what was sent`.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Context as _, Result};

/// How long an address may be missing at start (a tunnel device or a VIP comes up a little later).
const BIND: Duration = Duration::from_secs(5);
/// The longest line that the TCP echo takes.
const LINE: u64 = 64 * 1024;

/// Answers UDP datagrams on each of `addresses` until the process ends. A socket is bound to one address,
/// so that an answer leaves with the address that was asked: with DR and TUN that is the VIP.
///
/// # Errors
/// When an address cannot be bound.
pub fn udp(name: &str, addresses: &[SocketAddr]) -> Result<()> {
    let sockets =
        addresses.iter().map(|&address| bound(address, UdpSocket::bind)).collect::<Result<Vec<_>>>()?;
    println!("udp-echo {name} is ready on {addresses:?}");
    thread::scope(|scope| {
        for socket in &sockets {
            scope.spawn(|| answer_datagrams(name, socket));
        }
    });
    Ok(())
}

fn answer_datagrams(name: &str, socket: &UdpSocket) {
    let mut buffer = [0u8; 65536];
    loop {
        // Errors here are about former answers (an ICMP error from a client that went away).
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let answer = [name.as_bytes(), b" ", &buffer[..length]].concat();
        let _ = socket.send_to(&answer, from);
    }
}

/// Answers lines on TCP connections on each of `addresses` until the process ends.
///
/// # Errors
/// When an address cannot be bound.
pub fn tcp(name: &str, addresses: &[SocketAddr]) -> Result<()> {
    let sockets =
        addresses.iter().map(|&address| bound(address, TcpListener::bind)).collect::<Result<Vec<_>>>()?;
    println!("tcp-echo {name} is ready on {addresses:?}");
    thread::scope(|scope| {
        for socket in &sockets {
            scope.spawn(|| {
                // A connection that broke before it was accepted is no reason to stop.
                for stream in socket.incoming().flatten() {
                    scope.spawn(move || answer_lines(name, &stream));
                }
            });
        }
    });
    Ok(())
}

fn answer_lines(name: &str, stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = io::Read::take(&mut reader, LINE).read_until(b'\n', &mut line)?;
        if length == 0 {
            return Ok(());
        }
        let mut writer = stream;
        writer.write_all(&[name.as_bytes(), b" ", &line].concat())?;
    }
}

fn bound<T>(address: SocketAddr, bind: impl Fn(SocketAddr) -> io::Result<T>) -> Result<T> {
    let end = Instant::now() + BIND;
    loop {
        match bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && Instant::now() < end => {
                thread::sleep(Duration::from_millis(50));
            }
            other => return other.context(|| format!("cannot bind {address}")),
        }
    }
}
