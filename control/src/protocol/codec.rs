//! From bytes to requests and back: framing by newline, the envelope of version and id, and what is answered to lines
//! that are no request.

use serde::Serialize;
use serde_json::{Map, Value};

use super::reply::{Refusal, Reply};
use super::request::Request;

/// The version of the protocol spoken here.
pub const PROTOCOL_VERSION: u32 = 1;

/// Longest request line in bytes, without its newline.
pub const MAX_REQUEST_LINE: usize = 1 << 20;

/// Longest request line of a peer that may change things, in bytes: the text of a configuration with 65,536 services
/// fits.
pub const MAX_LONG_LINE: usize = 64 << 20;

/// Longest reply line a client accepts, in bytes; far above a full list of services.
pub const MAX_REPLY_LINE: usize = 256 << 20;

/// Cuts a stream of bytes into lines and holds at most one unfinished line.
#[derive(Debug)]
pub struct Framer {
    bytes: Vec<u8>,
    /// Where the first unfinished line begins.
    start: usize,
    /// Up to where no newline was found; so a long line is searched once, not once per read.
    scanned: usize,
    limit: usize,
}

/// A line is longer than the limit; what follows cannot be told apart from its rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {limit} bytes")]
pub struct LineTooLong {
    /// The limit in bytes.
    pub limit: usize,
}

impl Framer {
    /// A framer for lines of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Framer { bytes: Vec::new(), start: 0, scanned: 0, limit }
    }

    /// Takes in what was read. Call [`Framer::next_line`] until it gives none before the next push; then memory stays
    /// below the limit and the length of one push.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
            // A long line is seldom followed by another.
            if self.bytes.capacity() > MAX_REQUEST_LINE {
                self.bytes.shrink_to(self.bytes.len() + bytes.len());
            }
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next complete line without its newline, none if it is not complete yet.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, LineTooLong> {
        let too_long = LineTooLong { limit: self.limit };
        match self.bytes[self.scanned..].iter().position(|byte| *byte == b'\n') {
            Some(offset) => {
                let (start, end) = (self.start, self.scanned + offset);
                if end - start > self.limit {
                    return Err(too_long);
                }
                self.start = end + 1;
                self.scanned = self.start;
                Ok(Some(&self.bytes[start..end]))
            }
            None => {
                self.scanned = self.bytes.len();
                if self.scanned - self.start > self.limit { Err(too_long) } else { Ok(None) }
            }
        }
    }

    /// From now on lines may be so long.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Bytes held for the unfinished line.
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.start
    }
}

/// A request with the id its reply carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Chosen by the client.
    pub id: u64,
    /// What it asks.
    pub request: Request,
}

/// A line that is no request of this protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The id, if the line had one.
    pub id: Option<u64>,
    /// What to answer.
    pub refusal: Refusal,
}

impl LineTooLong {
    /// What to answer before closing the connection.
    pub fn refusal(self) -> Refusal {
        Refusal::new(
            "line-too-long",
            format!("{self}; the connection is closed"),
            "end every request with a newline and keep it below the limit",
        )
    }
}

/// Understands one line, without its newline, as a request.
pub fn decode_request(line: &[u8]) -> Result<Envelope, Rejected> {
    let reject = |id, code: &str, message: String, remedy: &str| Rejected {
        id,
        refusal: Refusal::new(code, message, remedy),
    };
    let text = std::str::from_utf8(line).map_err(|error| {
        reject(
            None,
            "not-utf-8",
            format!("the line is not UTF-8 from byte {} on", error.valid_up_to()),
            "send JSON in UTF-8",
        )
    })?;
    let mut object: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
        reject(
            None,
            "not-json",
            format!("the line is not a JSON object: {error}"),
            "send one JSON object per line, as docs/protocol.md shows",
        )
    })?;
    let version = object.remove("version");
    let id = object.remove("id");
    let known_id = id.as_ref().and_then(Value::as_u64);
    if version.as_ref().and_then(Value::as_u64) != Some(u64::from(PROTOCOL_VERSION)) {
        let got =
            version.map_or_else(|| "no version".to_owned(), |version| format!("version {}", brief(&version)));
        return Err(reject(
            known_id,
            "unsupported-version",
            format!("the request has {got}; this director speaks version {PROTOCOL_VERSION}"),
            "send \"version\":1, or use the directorctl that came with the director",
        ));
    }
    let Some(known_id) = known_id else {
        let got = id.map_or_else(|| "no id".to_owned(), |id| format!("the id {}", brief(&id)));
        return Err(reject(
            None,
            "missing-id",
            format!("the request has {got}; its reply needs a whole number to name it by"),
            "send \"id\": a whole number from 0 on, the reply carries the same one",
        ));
    };
    match object.get("request") {
        Some(Value::String(name)) if Request::NAMES.contains(&name.as_str()) => {}
        Some(name) => {
            return Err(reject(
                Some(known_id),
                "unknown-request",
                format!("there is no request {}", brief(name)),
                &format!("use one of {}", Request::NAMES.join(", ")),
            ));
        }
        None => {
            return Err(reject(
                Some(known_id),
                "unknown-request",
                "the line has no \"request\"".to_owned(),
                &format!("send \"request\": one of {}", Request::NAMES.join(", ")),
            ));
        }
    }
    let name = object.get("request").and_then(Value::as_str).unwrap_or_default().to_owned();
    match serde_json::from_value(Value::Object(object)) {
        Ok(request) => Ok(Envelope { id: known_id, request }),
        Err(error) => Err(reject(
            Some(known_id),
            "bad-request",
            format!("{name}: {error}"),
            "send exactly the fields that docs/protocol.md lists for this request",
        )),
    }
}

/// A value for a message, cut short: a client's megabyte does not come back to it.
fn brief(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 { text } else { text.chars().take(60).chain("...".chars()).collect() }
}

#[derive(Serialize)]
struct RequestLine<'a> {
    version: u32,
    id: u64,
    #[serde(flatten)]
    request: &'a Request,
}

/// A request as a line with its newline.
pub fn encode_request(id: u64, request: &Request) -> Vec<u8> {
    line(&RequestLine { version: PROTOCOL_VERSION, id, request })
}

#[derive(Serialize)]
struct OutgoingReply<'a> {
    version: u32,
    id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ok: Option<&'a Reply>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Refusal>,
}

/// A reply as a line with its newline. `id` is none only for lines whose id could not be read.
pub fn encode_reply(id: Option<u64>, result: &Result<Reply, Refusal>) -> Vec<u8> {
    line(&OutgoingReply {
        version: PROTOCOL_VERSION,
        id,
        ok: result.as_ref().ok(),
        error: result.as_ref().err(),
    })
}

fn line(value: &impl Serialize) -> Vec<u8> {
    // These types have string keys and no hand-written Serialize, the only things JSON can refuse.
    let mut bytes = serde_json::to_vec(value).expect("protocol types are JSON");
    bytes.push(b'\n');
    bytes
}

/// A reply line taken apart; the object under `ok` is left to whoever knows which request it answers.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplyLine {
    /// The request's id.
    pub id: Option<u64>,
    /// `ok`, or `error`.
    pub result: Result<Value, Refusal>,
}

/// A line that is no reply of this protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct BadReply {
    what: String,
}

/// Understands one line, without its newline, as a reply.
pub fn decode_reply(line: &[u8]) -> Result<ReplyLine, BadReply> {
    let bad = |what: String| BadReply { what };
    let mut object: Map<String, Value> =
        serde_json::from_slice(line).map_err(|error| bad(format!("it is not a JSON object: {error}")))?;
    let version = object.get("version").and_then(Value::as_u64);
    if version != Some(u64::from(PROTOCOL_VERSION)) {
        return Err(bad(format!("it is not of protocol version {PROTOCOL_VERSION}")));
    }
    let id = object.get("id").and_then(Value::as_u64);
    let result =
        match (object.remove("ok"), object.remove("error")) {
            (Some(ok), None) => Ok(ok),
            (None, Some(error)) => Err(serde_json::from_value(error)
                .map_err(|error| bad(format!("its error is malformed: {error}")))?),
            _ => return Err(bad("it has not exactly one of \"ok\" and \"error\"".to_owned())),
        };
    Ok(ReplyLine { id, result })
}
