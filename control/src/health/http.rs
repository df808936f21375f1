//! HTTP and HTTPS, by hyper: a status that passes, and a body that matches.

use std::net::SocketAddr;
use std::pin::pin;

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::runner::Progress;
use super::{Failure, Http, Pattern, tcp, tls};

/// So much of a body is looked at.
const MAX_BODY: usize = 1 << 20;

pub(super) async fn check(address: SocketAddr, http: &Http, progress: &Progress) -> Result<(), Failure> {
    let stream = tcp::connect(address, progress).await?;
    let stream = tls::over(stream, http.tls.as_ref(), b"http/1.1", address, progress).await?;
    let request = Request::get(&http.path)
        .header(hyper::header::HOST, http.host.clone().unwrap_or_else(|| address.to_string()))
        .header(hyper::header::USER_AGENT, concat!("director/", env!("CARGO_PKG_VERSION")))
        .header(hyper::header::ACCEPT, "*/*")
        .header(hyper::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("no such request: {error}"))?;
    progress.at("waiting for the HTTP answer");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(why)?;
    let mut exchange = pin!(async {
        let answer = sender.send_request(request).await.map_err(why)?;
        let status = answer.status().as_u16();
        if !http.status.iter().any(|range| range.contains(&status)) {
            return Err(format!("status {status}"));
        }
        match &http.body {
            Some(pattern) => body_matches(answer.into_body(), pattern, progress).await,
            None => Ok(()),
        }
    });
    // The connection is driven here, so that it ends with the check. It may end before all is read out of it.
    tokio::select! {
        result = &mut exchange => return Ok(result?),
        _ = connection => {}
    }
    Ok(exchange.await?)
}

async fn body_matches(mut body: Incoming, pattern: &Pattern, progress: &Progress) -> Result<(), String> {
    progress.at("waiting for the rest of the HTTP answer");
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(why)?.into_data() {
            text.extend_from_slice(&data[..data.len().min(MAX_BODY - text.len())]);
        }
        if text.len() == MAX_BODY {
            break;
        }
    }
    if pattern.0.is_match(&text) { Ok(()) } else { Err("the body does not match".to_owned()) }
}

/// An error of hyper's with what is behind it.
pub(super) fn why(error: hyper::Error) -> String {
    let mut text = format!("HTTP: {error}");
    let mut error: &dyn std::error::Error = &error;
    while let Some(source) = error.source() {
        text = format!("{text}: {source}");
        error = source;
    }
    text
}
