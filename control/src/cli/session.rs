//! One run of a command: the connection to the director and the form of the output.

use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;

use super::output;
use crate::protocol::{Client, ClientError, Done, Request};
use crate::serve::ServeError;

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The director refused, or there is none.
    #[error("{}", explain(.0))]
    Director(#[from] ClientError),
    /// Whoever read our output has enough of it, as `head` does. No failure of ours.
    #[error("the reader of the output is gone")]
    ReaderGone,
    /// Ctrl-C, where something goes on without us.
    #[error("{0}")]
    Interrupted(String),
    /// What was waited for came otherwise.
    #[error("{0}")]
    Otherwise(String),
    /// A file cannot be written.
    #[error("cannot write {0}: {1}; name a file in a directory that is there and may be written to")]
    File(String, io::Error),
    /// Ctrl-C cannot be listened to.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// All is said; there is only a status to end with.
    #[error("exit status {0}")]
    Status(u8),
    /// A file cannot be read.
    #[error("cannot read {0}: {1}")]
    Input(String, io::Error),
    /// Nothing is served.
    #[error(transparent)]
    Serve(ServeError),
    /// The output cannot be written.
    #[error("cannot write the output: {0}; look at what standard output goes to")]
    Output(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Failure::ReaderGone } else { Failure::Output(error) }
    }
}

fn explain(error: &ClientError) -> String {
    match error {
        ClientError::Refused(refusal) => {
            format!("{} ({})\n  try: {}", refusal.message, refusal.code, refusal.remedy)
        }
        other => other.to_string(),
    }
}

/// A connection to the director and how to print what it says.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    json: bool,
}

impl Session {
    pub(super) fn open(socket: &Path, json: bool) -> Result<Session, Failure> {
        Ok(Session { client: Client::connect(socket)?, json })
    }

    /// Asks; prints the reply as JSON if that is wished, else as `text` renders it. Returns the reply.
    pub(super) fn show<T: DeserializeOwned>(
        &mut self,
        request: &Request,
        text: impl FnOnce(&T) -> String,
    ) -> Result<T, Failure> {
        if !self.json {
            let reply = self.client.ask(request)?;
            output::print(text(&reply).as_bytes())?;
            return Ok(reply);
        }
        // The object as it came: a script also sees fields that this directorctl does not know.
        let ok = self.client.call(request)?;
        output::print(format!("{ok}\n").as_bytes())?;
        self.read(request, ok)
    }

    /// A reply as the type that answers this request.
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        request: &Request,
        ok: serde_json::Value,
    ) -> Result<T, Failure> {
        serde_json::from_value(ok).map_err(|error| self.bad_reply(format!("{}: {error}", request.name())))
    }

    /// Asks without printing anything.
    pub(super) fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, Failure> {
        Ok(self.client.ask(request)?)
    }

    /// A reply that says what no director of this version says.
    pub(super) fn bad_reply(&self, what: String) -> Failure {
        Failure::Director(self.client.bad_reply(what))
    }

    /// Whether replies are printed as JSON.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Asks for a change, about which there is nothing to say but that it is done.
    pub(super) fn change(&mut self, request: &Request) -> Result<(), Failure> {
        self.show(request, |_: &Done| String::new()).map(|_| ())
    }
}
