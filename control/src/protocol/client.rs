//! The operator's end of the control socket, blocking.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::codec::{Framer, MAX_REPLY_LINE, decode_reply, encode_request};
use super::reasons::ReasonList;
use super::reply::{ConnectionList, Done, Latency, Refusal, ServiceList, Stats, Version};
use super::request::{ConnectionFilter, Request};
use crate::model::{RealServer, ServiceKey};

/// Where a director listens unless its configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/director/director.sock";

/// How long a client waits for the director to take a request, and for each part of its reply.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no director listens on {}: {source}; start `director run`, or name its socket with --socket", path.display())]
    NoDirector {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket is there, but not for this user.
    #[error("may not open {}: {source}; run it as root or as a member of the socket's group", path.display())]
    NotAllowed {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The director did not answer in time.
    #[error(
        "the director on {} did not answer within {} s; look at its log, it may be overloaded or stopped",
        path.display(), after.as_secs_f64()
    )]
    Timeout {
        /// The socket.
        path: PathBuf,
        /// The timeout.
        after: Duration,
    },
    /// The connection broke.
    #[error("lost the connection to the director on {}: {source}; look whether it still runs", path.display())]
    Lost {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// What came back is no reply to what was asked.
    #[error("cannot understand the reply on {}: {what}; use the directorctl that came with the director", path.display())]
    BadReply {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The director refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// A connection to a running director. After an error other than [`ClientError::Refused`], make a new one.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    framer: Framer,
    path: PathBuf,
    timeout: Duration,
    next_id: u64,
}

impl Client {
    /// Connects to the director that listens at `path`, with [`DEFAULT_TIMEOUT`].
    pub fn connect(path: impl AsRef<Path>) -> Result<Client, ClientError> {
        Client::connect_with_timeout(path, DEFAULT_TIMEOUT)
    }

    /// Connects with another timeout for every read and write; it must not be zero.
    pub fn connect_with_timeout(path: impl AsRef<Path>, timeout: Duration) -> Result<Client, ClientError> {
        let path = path.as_ref().to_owned();
        let connect = || -> io::Result<UnixStream> {
            let stream = UnixStream::connect(&path)?;
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))?;
            Ok(stream)
        };
        match connect() {
            Ok(stream) => {
                Ok(Client { stream, framer: Framer::new(MAX_REPLY_LINE), path, timeout, next_id: 1 })
            }
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                Err(ClientError::NotAllowed { path, source })
            }
            Err(source) => Err(ClientError::NoDirector { path, source }),
        }
    }

    /// Asks and returns the object under `ok` as it came.
    pub fn call(&mut self, request: &Request) -> Result<Value, ClientError> {
        let id = self.next_id;
        self.next_id += 1;
        // A server that turns us away writes its reason and closes; the write may fail, the reason is still to be read.
        let written = self.stream.write_all(&encode_request(id, request));
        let line = match (self.read_line(), written) {
            (Ok(line), _) => line,
            (Err(_), Err(error)) => return Err(self.broken(error)),
            (Err(error), Ok(())) => return Err(error),
        };
        let reply = decode_reply(&line).map_err(|error| self.bad_reply(error.to_string()))?;
        match reply.id {
            Some(other) if other != id => {
                Err(self.bad_reply(format!("it answers request {other}, not {id}")))
            }
            None if reply.result.is_ok() => Err(self.bad_reply("it has no id".to_owned())),
            _ => Ok(reply.result?),
        }
    }

    /// Asks and returns the object under `ok` as the type that answers this request.
    pub fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, ClientError> {
        let ok = self.call(request)?;
        serde_json::from_value(ok).map_err(|error| self.bad_reply(format!("{}: {error}", request.name())))
    }

    /// `service.delete`.
    pub fn service_delete(&mut self, service: ServiceKey) -> Result<Done, ClientError> {
        self.ask(&Request::ServiceDelete { service })
    }

    /// `service.list`.
    pub fn service_list(&mut self) -> Result<ServiceList, ClientError> {
        self.ask(&Request::ServiceList {})
    }

    /// `server.add`.
    pub fn server_add(&mut self, service: ServiceKey, server: RealServer) -> Result<Done, ClientError> {
        self.ask(&Request::ServerAdd { service, server })
    }

    /// `server.delete`.
    pub fn server_delete(
        &mut self,
        service: ServiceKey,
        address: std::net::SocketAddr,
    ) -> Result<Done, ClientError> {
        self.ask(&Request::ServerDelete { service, address })
    }

    /// One page of `connection.list`.
    pub fn connection_list(
        &mut self,
        filter: ConnectionFilter,
        cursor: Option<String>,
        limit: Option<u32>,
    ) -> Result<ConnectionList, ClientError> {
        self.ask(&Request::ConnectionList { filter, cursor, limit })
    }

    /// `stats`.
    pub fn stats(&mut self) -> Result<Stats, ClientError> {
        self.ask(&Request::Stats {})
    }

    /// `latency`.
    pub fn latency(&mut self) -> Result<Latency, ClientError> {
        self.ask(&Request::Latency {})
    }

    /// `reasons`.
    pub fn reasons(&mut self) -> Result<ReasonList, ClientError> {
        self.ask(&Request::Reasons {})
    }

    /// `version`.
    pub fn version(&mut self) -> Result<Version, ClientError> {
        self.ask(&Request::Version {})
    }

    fn read_line(&mut self) -> Result<Vec<u8>, ClientError> {
        let mut chunk = vec![0u8; 64 * 1024];
        loop {
            match self.framer.next_line() {
                Ok(Some(line)) => return Ok(line.to_vec()),
                Ok(None) => {}
                Err(error) => return Err(self.bad_reply(error.to_string())),
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(self.broken(io::ErrorKind::UnexpectedEof.into())),
                Ok(length) => self.framer.push(&chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(error)),
            }
        }
    }

    fn broken(&self, source: io::Error) -> ClientError {
        let path = self.path.clone();
        match source.kind() {
            // What a socket with a timeout says is one of the two.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                ClientError::Timeout { path, after: self.timeout }
            }
            _ => ClientError::Lost { path, source },
        }
    }

    pub(crate) fn bad_reply(&self, what: String) -> ClientError {
        ClientError::BadReply { path: self.path.clone(), what }
    }
}
