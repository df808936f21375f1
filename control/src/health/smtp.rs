//! SMTP: greeting, HELO and QUIT are answered as they should (RFC 5321).

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::runner::Progress;
use super::{Failure, Smtp, tcp};

/// A line has 512 bytes (RFC 5321, 4.5.3.1.5); some send more.
const MAX_LINE: u64 = 4096;
/// So many lines make one reply at most.
const MAX_LINES: usize = 100;

pub(super) async fn check(address: SocketAddr, smtp: &Smtp, progress: &Progress) -> Result<(), Failure> {
    let mut stream = BufReader::new(tcp::connect(address, progress).await?);
    progress.at("waiting for the SMTP greeting");
    expect(&mut stream, "220", "the greeting").await?;
    for (line, code, what) in [
        (format!("HELO {}\r\n", smtp.helo_name), "250", "the answer to HELO"),
        ("QUIT\r\n".to_owned(), "221", "the answer to QUIT"),
    ] {
        progress.at("waiting for the SMTP answer");
        stream.write_all(line.as_bytes()).await.map_err(|error| format!("cannot send: {error}"))?;
        expect(&mut stream, code, what).await?;
    }
    Ok(())
}

/// Reads a reply, of several lines if need be, which must have this code.
async fn expect(stream: &mut BufReader<TcpStream>, code: &str, what: &str) -> Result<(), String> {
    for _ in 0..MAX_LINES {
        let mut line = Vec::new();
        let read = (&mut *stream).take(MAX_LINE).read_until(b'\n', &mut line).await;
        read.map_err(|error| format!("{what} is lost: {error}"))?;
        if line.is_empty() {
            return Err(format!("the connection ended before {what}"));
        }
        if !line.starts_with(code.as_bytes()) {
            return Err(format!("{what} is \"{}\"", String::from_utf8_lossy(&line).trim_end()));
        }
        if line.get(3) != Some(&b'-') {
            return Ok(());
        }
    }
    Err(format!("{what} has no end"))
}
