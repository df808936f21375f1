//! The daemon's end of the control socket.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::bind::{self, BindError, SocketFile};
use super::codec::encode_reply;
use super::connection;
use super::reply::{Refusal, Reply};
use super::request::Request;

/// Who is at the other end of a connection, as the kernel says (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Effective user when it connected.
    pub uid: u32,
    /// Effective group when it connected.
    pub gid: u32,
    /// Its process, if the kernel can name it in our PID namespace.
    pub pid: Option<i32>,
}

/// Whether `peer` may change what a daemon run by the user `own_uid` balances: root may, and that user.
/// Everybody who can open the socket may read.
pub fn may_change(peer: Peer, own_uid: u32) -> bool {
    peer.uid == 0 || peer.uid == own_uid
}

/// Carries out requests. Called for well-formed requests of peers that may make them; requests of one connection come
/// one after the other, those of different connections concurrently.
pub trait Handler: Send + Sync + 'static {
    /// Carries out `request` and says what came of it.
    fn handle(&self, request: Request, peer: Peer) -> impl Future<Output = Result<Reply, Refusal>> + Send;
}

/// What the server grants its clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time.
    pub clients: usize,
    /// How long a client may leave a reply unread before its connection is closed.
    pub write: Duration,
    /// How long a client may say nothing before its connection is closed.
    pub idle: Duration,
    /// How long requests under way may still take after the shutdown began.
    pub shutdown: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            clients: 256,
            write: Duration::from_secs(10),
            idle: Duration::from_secs(300),
            shutdown: Duration::from_secs(2),
        }
    }
}

/// So many clients may send a long line at a time.
const LONG_LINES: usize = 2;

/// A bound control socket. Dropping it removes the socket's file.
#[derive(Debug)]
pub struct Server {
    listener: std::os::unix::net::UnixListener,
    file: SocketFile,
    own_uid: u32,
    limits: Limits,
}

impl Server {
    /// Binds the socket with mode 0660. Creates the last component of its directory if it is missing, and removes a
    /// socket on which nobody listens any more. Needs no runtime yet.
    pub fn bind(path: impl AsRef<Path>) -> Result<Server, BindError> {
        let (listener, file) = bind::bind(path.as_ref())?;
        Ok(Server { listener, file, own_uid: rustix::process::geteuid().as_raw(), limits: Limits::default() })
    }

    /// The same server with other limits.
    pub fn with_limits(mut self, limits: Limits) -> Server {
        self.limits = limits;
        self
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Serves clients until `shutdown` completes; then finishes the requests under way and removes the socket.
    /// Errors only if the socket cannot be given to the runtime. Must be called within a tokio runtime, of any flavour,
    /// with I/O and time enabled.
    pub async fn serve<H: Handler>(
        self,
        handler: Arc<H>,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let Server { listener, file, own_uid, limits } = self;
        let listener = UnixListener::from_std(listener)?;
        let mut shutdown = pin!(shutdown);
        let (closing, closed) = watch::channel(false);
        let mut clients = JoinSet::new();
        let long_lines = Arc::new(Semaphore::new(LONG_LINES));
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(finished) = clients.join_next(), if !clients.is_empty() => report(finished),
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) if clients.len() >= limits.clients => turn_away(&stream, limits.clients),
                    Ok((stream, _)) => match peer_of(&stream) {
                        Ok(peer) => {
                            let (handler, closed) = (Arc::clone(&handler), closed.clone());
                            let long_lines = Arc::clone(&long_lines);
                            clients.spawn(connection::serve(
                                stream, peer, own_uid, limits, handler, long_lines, closed,
                            ));
                        }
                        Err(error) => tracing::warn!("cannot tell who connected to the control socket: {error}"),
                    },
                    Err(error) => {
                        // Out of file descriptors, most likely: without a pause this would spin.
                        tracing::warn!("cannot accept a connection on the control socket: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        drop(listener);
        drop(file);
        // The receivers are gone only when no client is left.
        let _ = closing.send(true);
        let finish = async {
            while let Some(finished) = clients.join_next().await {
                report(finished);
            }
        };
        if tokio::time::timeout(limits.shutdown, finish).await.is_err() {
            tracing::warn!("closing control connections whose requests did not finish in time");
            clients.shutdown().await;
        }
        Ok(())
    }
}

fn report(finished: Result<(), tokio::task::JoinError>) {
    if let Err(error) = finished {
        tracing::error!("a control connection failed: {error}");
    }
}

fn peer_of(stream: &UnixStream) -> io::Result<Peer> {
    let credentials = stream.peer_cred()?;
    Ok(Peer { uid: credentials.uid(), gid: credentials.gid(), pid: credentials.pid() })
}

/// Refuses a connection in one try: the socket's buffer is empty, so that the line fits or the client is gone.
fn turn_away(stream: &UnixStream, most: usize) {
    let refusal = Refusal::new(
        "too-many-clients",
        format!("{most} clients are connected to the control socket already"),
        "close connections that are not needed, or try again later",
    );
    if let Err(error) = stream.try_write(&encode_reply(None, &Err(refusal))) {
        tracing::debug!("a client that was turned away did not hear why: {error}");
    }
}
