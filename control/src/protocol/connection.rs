//! One client of the control socket, from its first line to its last.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::codec::{
    Envelope, Framer, MAX_LONG_LINE, MAX_REQUEST_LINE, Rejected, decode_request, encode_reply,
};
use super::reply::{Refusal, Reply};
use super::server::{Handler, Limits, Peer, may_change};

/// Serves one client until it goes, misbehaves, or the server closes.
pub(super) async fn serve<H: Handler>(
    mut stream: UnixStream,
    peer: Peer,
    own_uid: u32,
    limits: Limits,
    handler: Arc<H>,
    long_lines: Arc<Semaphore>,
    mut closed: watch::Receiver<bool>,
) {
    let mut framer = Framer::new(MAX_REQUEST_LINE);
    // Held from where a line is found to be long until its request is carried out.
    let mut long = None;
    // On the heap: the task of an idle client should not carry it along in every move.
    let mut chunk = vec![0u8; 16 * 1024];
    loop {
        loop {
            let answer = match framer.next_line() {
                Ok(None) => break,
                // A person at a terminal presses return; that is no request.
                Ok(Some(line)) if line.trim_ascii().is_empty() => continue,
                Ok(Some(line)) => match decode_request(line) {
                    Ok(Envelope { id, request }) => (Some(id), Ok(request)),
                    Err(Rejected { id, refusal }) => (id, Err(refusal)),
                },
                Err(too_long) => {
                    // Memory is for those who may change things, and only so many of them at a time.
                    let refusal = if long.is_some() || !may_change(peer, own_uid) {
                        too_long.refusal()
                    } else if let Ok(Ok(permit)) = timeout(limits.write, long_lines.acquire()).await {
                        long = Some(permit);
                        framer.set_limit(MAX_LONG_LINE);
                        continue;
                    } else {
                        too_many_long_lines()
                    };
                    let line = encode_reply(None, &Err(refusal));
                    let _ = write(&mut stream, &line, limits.write).await;
                    return;
                }
            };
            let (id, result) = match answer {
                (id, Ok(request)) if request.changes() && !may_change(peer, own_uid) => {
                    (id, Err(not_permitted(request.name(), peer, own_uid)))
                }
                (id, Ok(request)) => (id, handler.handle(request, peer).await),
                (id, Err(refusal)) => (id, Err::<Reply, _>(refusal)),
            };
            if long.take().is_some() {
                framer.set_limit(MAX_REQUEST_LINE);
            }
            if let Err(error) = write(&mut stream, &encode_reply(id, &result), limits.write).await {
                tracing::debug!("control client of uid {} did not take its reply: {error}", peer.uid);
                return;
            }
            if *closed.borrow() {
                return;
            }
        }
        let read = tokio::select! {
            read = timeout(limits.idle, stream.read(&mut chunk)) => read,
            _ = closed.wait_for(|closed| *closed) => return,
        };
        match read {
            Ok(Ok(0)) => return,
            Ok(Ok(length)) => framer.push(&chunk[..length]),
            Ok(Err(error)) => {
                tracing::debug!("control client of uid {} went: {error}", peer.uid);
                return;
            }
            Err(_) => {
                tracing::debug!("closing an idle control connection of uid {}", peer.uid);
                return;
            }
        }
    }
}

/// Writes all of `bytes`. Each step may take `patience`: a client that reads slowly gets its whole reply, one that does
/// not read is given up.
async fn write(stream: &mut UnixStream, mut bytes: &[u8], patience: Duration) -> io::Result<()> {
    while !bytes.is_empty() {
        match timeout(patience, stream.write(bytes)).await {
            Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(Ok(written)) => bytes = &bytes[written..],
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
    Ok(())
}

fn too_many_long_lines() -> Refusal {
    Refusal::new(
        "too-many-long-lines",
        "other clients are sending long requests; the connection is closed",
        "wait until they are done, and try again",
    )
}

fn not_permitted(name: &str, peer: Peer, own_uid: u32) -> Refusal {
    Refusal::new(
        "not-permitted",
        format!("uid {} may read but not change this director: {name} is refused", peer.uid),
        format!("run it as root or as the director's own user (uid {own_uid})"),
    )
}
