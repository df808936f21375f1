//! HTTP: who is let in, and what stands where.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::page;
use super::query::Query;
use super::source::Source;
use super::status::Status;
use crate::metrics::{Format, Scrape, Without};

/// Clients at a time; more are told to come again.
const CLIENTS: usize = 64;
/// How long the head of a request may take, a client between two requests included.
const HEAD: Duration = Duration::from_secs(30);
/// After so long a connection ends with the answer under way, and after as long again without.
const CONNECTION: Duration = Duration::from_secs(300);
/// Bytes that the head of a request may have.
const HEAD_BYTES: usize = 16 * 1024;
/// How long to wait when the kernel has no room for a connection.
const NO_ROOM: Duration = Duration::from_millis(100);

/// Serves whoever comes.
pub(super) async fn serve(listener: TcpListener, source: Arc<Source>, without: Without) {
    let clients = Arc::new(Semaphore::new(CLIENTS));
    // Of those who are turned away, too, there must not be any number.
    let turned_away = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(NO_ROOM).await;
            continue;
        };
        let (place, room) = match clients.clone().try_acquire_owned() {
            Ok(place) => (place, true),
            Err(_) => match turned_away.clone().try_acquire_owned() {
                Ok(place) => (place, false),
                Err(_) => continue,
            },
        };
        let source = source.clone();
        tokio::spawn(async move {
            connection(stream, source, without, room).await;
            drop(place);
        });
    }
}

async fn connection(stream: TcpStream, source: Arc<Source>, without: Without, room: bool) {
    let service = service_fn(move |request| {
        let source = source.clone();
        async move {
            let answer = if room { answer(&request, &source, without).await } else { too_many() };
            Ok::<_, Infallible>(guarded(answer))
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES).keep_alive(room);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    // Who breaks off, or is too slow, has no answer to get.
    if let Err(_late) = tokio::time::timeout(CONNECTION, served.as_mut()).await {
        served.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(CONNECTION, served).await;
    }
}

/// What stands where.
async fn answer(request: &Request<Incoming>, source: &Source, without: Without) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let words =
            format!("{} is not possible here; everything is to be read by GET alone.\n", request.method());
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, words);
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    match request.uri().path() {
        "/metrics" => metrics(request.headers(), source, without).await,
        "/" => page::answer(),
        "/status.json" => {
            let query = Query::parse(request.uri().query().unwrap_or_default());
            let (reading, rates) = (source.reading().await, source.rates().await);
            let status = Status::of(
                &query,
                reading.result.as_deref().map_err(Arc::as_ref),
                rates.result.as_deref().ok(),
            );
            typed("application/json", status.json())
        }
        other => text(
            StatusCode::NOT_FOUND,
            format!("There is no {other} here. There are / (the status page), /status.json and /metrics.\n"),
        ),
    }
}

async fn metrics(headers: &HeaderMap, source: &Source, without: Without) -> Response<Full<Bytes>> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let format = Format::wanted_by(accept);
    let reading = source.reading().await;
    let scrape = Scrape { took: reading.took, reading: reading.result.ok(), without };
    // Of a hundred thousand real servers it takes a while.
    let text = tokio::task::spawn_blocking(move || scrape.text(format)).await;
    match text {
        Ok(text) => {
            let mut answer = typed(format.content_type(), text);
            answer.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
            answer
        }
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

fn too_many() -> Response<Full<Bytes>> {
    let words = format!("There are {CLIENTS} clients already; come again in a moment.\n");
    let mut answer = text(StatusCode::SERVICE_UNAVAILABLE, words);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

fn text(status: StatusCode, words: String) -> Response<Full<Bytes>> {
    let mut answer = typed("text/plain; charset=utf-8", words);
    *answer.status_mut() = status;
    answer
}

/// A body of this media type.
pub(super) fn typed(media_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer
}

/// With what keeps browsers from doing with an answer what it is not meant for.
fn guarded(mut answer: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let policy = || HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert_with(policy);
    answer
}
