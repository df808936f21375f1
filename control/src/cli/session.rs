//! One run of a command: the connection to the director and the form of the output.

use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;

use super::output;
use crate::protocol::{Client, ClientError, Done, Request};

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The director refused, or there is none.
    #[error("{}", explain(.0))]
    Director(#[from] ClientError),
    /// Whoever read our output has enough of it, as `head` does. No failure of ours.
    #[error("the reader of the output is gone")]
    ReaderGone,
    /// A file cannot be read.
    #[error("cannot read {0}: {1}")]
    Input(String, io::Error),
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
        serde_json::from_value(ok).map_err(|error| {
            let what = format!("{}: {error}", request.name());
            Failure::Director(self.client.bad_reply(what))
        })
    }

    /// Asks for a change, about which there is nothing to say but that it is done.
    pub(super) fn change(&mut self, request: &Request) -> Result<(), Failure> {
        self.show(request, |_: &Done| String::new()).map(|_| ())
    }
}
