//! `directorctl serve`: metrics and the status page by HTTP, from a process of its own.
//!
//! ```text
//! browser, Prometheus ──► http (bounded, read only) ──► source (one question at a time) ──► control socket
//!                           │
//!                           └► crate::metrics, status: what was read, as text and as JSON
//! ```

mod http;
mod page;
mod query;
mod source;
mod status;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::metrics::Without;
use source::Source;

/// Where it listens unless it is told otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:9750";

/// What to serve, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address and port; port 0 is any free one.
    pub listen: SocketAddr,
    /// The director's control socket.
    pub socket: PathBuf,
    /// Series that are left out.
    pub without: Without,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is not to be had.
    #[error("cannot listen on {listen}: {source}; choose another address or port with --listen")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// No thread, no signal.
    #[error("cannot start: {0}")]
    Start(io::Error),
}

/// Serves until a signal ends it. `ready` is told where.
///
/// # Errors
/// When it cannot begin.
pub fn run(options: &Options, ready: impl FnOnce(SocketAddr)) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(ServeError::Start)?.block_on(async {
        let refused = |source| ServeError::Listen { listen: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(refused)?;
        let listen = listener.local_addr().map_err(refused)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Start)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Start)?;
        ready(listen);
        let source = Arc::new(Source::new(options.socket.clone()));
        tokio::select! {
            () = http::serve(listener, source, options.without) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}
