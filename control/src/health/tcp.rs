//! A TCP connection, which other checks go on from.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::Failure;
use super::runner::Progress;

/// Connects. Whoever accepts, if only the kernel in a listening program's name, passes.
pub(super) async fn connect(address: SocketAddr, progress: &Progress) -> Result<TcpStream, Failure> {
    progress.at("connecting");
    let stream =
        TcpStream::connect(address).await.map_err(|error| Failure::of_system("cannot connect", error))?;
    // Checks write little and wait for the answer.
    stream.set_nodelay(true).map_err(|error| format!("cannot set up the connection: {error}"))?;
    Ok(stream)
}
