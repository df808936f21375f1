//! gRPC's health protocol (`grpc/health/v1/health.proto`): `Check` over HTTP/2, its two messages written by hand.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper::{Request, Version};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use super::http::why;
use super::runner::Progress;
use super::{Failure, Grpc, tcp, tls};

const PATH: &str = "/grpc.health.v1.Health/Check";
/// A reply has a few bytes.
const MAX_REPLY: usize = 64 * 1024;

pub(super) async fn check(address: SocketAddr, grpc: &Grpc, progress: &Progress) -> Result<(), Failure> {
    let stream = tcp::connect(address, progress).await?;
    let stream = tls::over(stream, grpc.tls.as_ref(), b"h2", address, progress).await?;
    let scheme = if grpc.tls.is_some() { "https" } else { "http" };
    let authority = grpc.tls.as_ref().and_then(|tls| tls.server_name.clone());
    let authority = authority.unwrap_or_else(|| address.to_string());
    let request = Request::post(format!("{scheme}://{authority}{PATH}"))
        .version(Version::HTTP_2)
        .header(hyper::header::CONTENT_TYPE, "application/grpc")
        .header(hyper::header::TE, "trailers")
        .body(Full::new(Bytes::from(request(&grpc.service))))
        .map_err(|error| format!("no such request: {error}"))?;
    progress.at("waiting for the gRPC answer");
    let tasks = Tasks::default();
    let _end = EndOf(&tasks);
    let (mut sender, connection) =
        http2::handshake(tasks.clone(), TokioIo::new(stream)).await.map_err(why)?;
    let mut exchange = pin!(async {
        let answer = sender.send_request(request).await.map_err(why)?;
        let (head, mut body) = answer.into_parts();
        if head.status != 200 {
            return Err(format!("HTTP status {}", head.status.as_u16()));
        }
        let mut outcome = head.headers.get("grpc-status").cloned();
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            match frame.map_err(why)?.into_data() {
                Ok(data) if bytes.len() + data.len() > MAX_REPLY => {
                    return Err(format!("the answer has more than {MAX_REPLY} bytes"));
                }
                Ok(data) => bytes.extend_from_slice(&data),
                Err(frame) => {
                    outcome = outcome.or(frame.trailers_ref().and_then(|t| t.get("grpc-status")).cloned());
                }
            }
        }
        match outcome.as_ref().map(|status| status.to_str().unwrap_or("?")) {
            Some("0") => serving(&bytes),
            Some(code) => Err(format!("gRPC status {code}")),
            None => Err("the answer has no gRPC status".to_owned()),
        }
    });
    tokio::select! {
        result = &mut exchange => return Ok(result?),
        _ = connection => {}
    }
    Ok(exchange.await?)
}

/// A HealthCheckRequest with gRPC's prefix: not compressed, its length in four bytes.
fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        // Field 1, a string.
        message.push(0x0a);
        push_varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(&message);
    framed
}

/// Whether a HealthCheckResponse with gRPC's prefix says SERVING.
fn serving(framed: &[u8]) -> Result<(), String> {
    let message = match framed {
        [0, a, b, c, d, message @ ..] => message.get(..u32::from_be_bytes([*a, *b, *c, *d]) as usize),
        _ => None,
    };
    let status = message.and_then(status).ok_or("the answer cannot be understood")?;
    match status {
        1 => Ok(()),
        0 => Err("UNKNOWN".to_owned()),
        2 => Err("NOT_SERVING".to_owned()),
        3 => Err("SERVICE_UNKNOWN".to_owned()),
        other => Err(format!("serving status {other}")),
    }
}

/// Field 1 of a message, 0 if it is not there (proto3). `None` for what is no message. The last one counts.
fn status(mut message: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !message.is_empty() {
        let tag = take_varint(&mut message)?;
        match tag & 7 {
            0 => {
                let value = take_varint(&mut message)?;
                if tag >> 3 == 1 {
                    status = value;
                }
            }
            1 => message = message.get(8..)?,
            2 => {
                let length = usize::try_from(take_varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn push_varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The tasks that hyper has for one HTTP/2 connection.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, task: F) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn(async {
            task.await;
        });
    }
}

/// Ends them with the check: a peer that hangs would keep them alive.
struct EndOf<'a>(&'a Tasks);

impl Drop for EndOf<'_> {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_names_its_service() {
        assert_eq!(request(""), [0, 0, 0, 0, 0]);
        assert_eq!(request("a.B"), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        assert_eq!(&request(&"s".repeat(200))[5..8], [0x0a, 200, 1]);
    }

    #[test]
    fn an_answer_is_read() {
        let serving =
            |message: &[u8]| serving(&[&[0][..], &(message.len() as u32).to_be_bytes(), message].concat());
        assert_eq!(serving(&[8, 1]), Ok(()));
        assert_eq!(serving(&[]), Err("UNKNOWN".to_owned()));
        assert_eq!(serving(&[8, 2]), Err("NOT_SERVING".to_owned()));
        assert_eq!(
            serving(&[0x12, 2, 8, 1, 8, 3]),
            Err("SERVICE_UNKNOWN".to_owned()),
            "an unknown field first"
        );
        assert!(serving(&[8]).is_err() && serving(&[0x12, 9]).is_err() && super::serving(&[0, 0]).is_err());
        assert!(super::serving(&[0, 0, 0, 0, 9, 8, 1]).is_err(), "less than announced");
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = serving(&bytes);
            let _ = status(&bytes);
        }
    }
}
