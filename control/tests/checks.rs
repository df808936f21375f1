//! Each health check against small real servers on loopback: those that answer, refuse, hang, or answer wrong.

use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use control::health::{
    Board, Check, Dns, Grpc, Http, Kind, Pattern, Policy, Reply, Runner, Smtp, Target, Tls, Udp, probe,
};
use control::model::{
    ForwardingMethod, RealServer, Scheduler, SchedulerFlags, Service, Thresholds, Tunnel, Weight,
};
use domain::base::iana::Rcode;
use domain::base::{Message, MessageBuilder, Name, Rtype, Ttl};
use http_body_util::BodyExt;
use hyper::body::{Bytes, Frame};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

const TIMEOUT: Duration = Duration::from_millis(600);
/// Where something must have happened before it is over, on a machine that does other things too.
const LONG: Duration = Duration::from_secs(2);

/// Asks once, with a timeout that a hanging server exhausts.
async fn ask(kind: Kind, address: SocketAddr) -> Result<(), String> {
    ask_within(kind, address, Duration::from_secs(5)).await
}

async fn ask_within(kind: Kind, address: SocketAddr, timeout: Duration) -> Result<(), String> {
    let check = Check { timeout, ..Check::new(kind) };
    let service = "tcp 10.99.0.1:80".parse().expect("a service");
    probe(&check, &Target { service, server: address, address }).await.map_err(|why| why.to_string())
}

fn fails(result: Result<(), String>, with: &str) {
    let why = result.expect_err("it fails");
    assert!(why.contains(with), "{why:?} has no {with:?}");
}

/// Nobody listens there.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    listener.local_addr().expect("an address")
}

/// Accepts and lets `serve` have each connection.
async fn server<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// Accepts and never says anything.
async fn silent() -> SocketAddr {
    server(|stream| async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(stream);
    })
    .await
}

/// Reads a request's head and answers with these bytes.
async fn answering(answer: &'static str) -> SocketAddr {
    server(move |stream| talk(stream, answer)).await
}

/// Reads a request's head.
async fn hear(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
}

async fn talk(stream: impl AsyncReadExt + AsyncWriteExt + Unpin, answer: &str) {
    let mut stream = stream;
    hear(&mut stream).await;
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn http() -> Http {
    Http { path: "/healthz".to_owned(), host: None, status: vec![200..=299], body: None, tls: None }
}

fn body(pattern: &str) -> Option<Pattern> {
    Some(Pattern(regex::bytes::Regex::new(pattern).expect("a regular expression")))
}

#[tokio::test]
async fn tcp_passes_when_somebody_accepts() {
    assert_eq!(ask(Kind::Tcp, silent().await).await, Ok(()));
    fails(ask(Kind::Tcp, nobody().await).await, "cannot connect: Connection refused");
    let six = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.expect("a port");
    assert_eq!(ask(Kind::Tcp, six.local_addr().expect("an address")).await, Ok(()));
}

#[tokio::test]
async fn tcp_that_nobody_answers_ends_with_its_timeout() {
    // A listener whose backlog is full drops further SYNs.
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
    let listener = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&listener, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port");
    listen(&listener, 0).expect("listens");
    let address = SocketAddr::try_from(getsockname(&listener).expect("an address")).expect("IPv4");
    let mut held = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        held.push(stream);
        assert!(held.len() < 50, "the backlog has no end");
    }
    let begun = Instant::now();
    fails(ask_within(Kind::Tcp, address, TIMEOUT).await, "connecting took longer than 0.6 s");
    assert!(begun.elapsed() >= TIMEOUT && begun.elapsed() < 5 * TIMEOUT);
}

#[tokio::test]
async fn http_passes_with_a_right_status_and_body() {
    let good = answering("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nfine!\n").await;
    assert_eq!(ask(Kind::Http(http()), good).await, Ok(()));
    assert_eq!(ask(Kind::Http(Http { body: body("^fine"), ..http() }), good).await, Ok(()));
    fails(ask(Kind::Http(Http { body: body("^bad"), ..http() }), good).await, "the body does not match");
    fails(ask(Kind::Http(Http { status: vec![301..=302], ..http() }), good).await, "status 200");
    let bad = answering("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").await;
    fails(ask(Kind::Http(http()), bad).await, "status 503");
    assert_eq!(ask(Kind::Http(Http { status: vec![200..=200, 500..=599], ..http() }), bad).await, Ok(()));
    fails(ask(Kind::Http(http()), nobody().await).await, "cannot connect: Connection refused");
}

#[tokio::test]
async fn http_reads_bodies_of_unknown_length_and_in_chunks() {
    let until_close = answering("HTTP/1.0 200 OK\r\n\r\nall is fine").await;
    assert_eq!(ask(Kind::Http(Http { body: body("fine$"), ..http() }), until_close).await, Ok(()));
    let chunked =
        answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nfi\r\n2\r\nne\r\n0\r\n\r\n")
            .await;
    assert_eq!(ask(Kind::Http(Http { body: body("fine"), ..http() }), chunked).await, Ok(()));
}

#[tokio::test]
async fn http_asks_for_its_path_and_host() {
    let (heard, mut hear) = tokio::sync::mpsc::unbounded_channel();
    let address = server(move |stream| {
        let heard = heard.clone();
        async move {
            let mut stream = BufReader::new(stream);
            let mut head = String::new();
            while stream.read_line(&mut head).await.is_ok_and(|length| length > 2) {}
            let _ = heard.send(head);
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        }
    })
    .await;
    let host = Some("www.example.com".to_owned());
    let asked = Http { path: "/healthz?deep=1".to_owned(), host, ..http() };
    assert_eq!(ask(Kind::Http(asked), address).await, Ok(()));
    let head = hear.recv().await.expect("a request").to_ascii_lowercase();
    assert!(head.starts_with("get /healthz?deep=1 http/1.1\r\n"), "{head}");
    assert!(head.contains("host: www.example.com\r\n") && head.contains("connection: close\r\n"), "{head}");
    assert_eq!(ask(Kind::Http(http()), address).await, Ok(()));
    let head = hear.recv().await.expect("a request").to_ascii_lowercase();
    assert!(head.contains(&format!("host: {address}\r\n")), "{head}");
}

#[tokio::test]
async fn http_that_hangs_or_is_slow_ends_with_its_timeout() {
    let hanging = ask_within(Kind::Http(http()), silent().await, TIMEOUT).await;
    fails(hanging, "waiting for the HTTP answer took longer than 0.6 s");
    // A byte now and then does not prolong anything.
    let slow = server(|mut stream| async move {
        hear(&mut stream).await;
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".iter().cycle() {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    fails(ask_within(Kind::Http(http()), slow, TIMEOUT).await, "took longer than 0.6 s");
    let stuck = server(|mut stream| async move {
        hear(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfin").await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
    assert_eq!(ask(Kind::Http(http()), stuck).await, Ok(()), "the status is all that is asked for");
    let read = ask_within(Kind::Http(Http { body: body("fine"), ..http() }), stuck, LONG).await;
    fails(read, "waiting for the rest of the HTTP answer took longer");
}

#[tokio::test]
async fn http_refuses_what_is_no_http() {
    fails(ask(Kind::Http(http()), answering("220 mail.example.com ESMTP\r\n").await).await, "HTTP: ");
    fails(
        ask(Kind::Http(http()), answering("").await).await,
        "HTTP: connection closed before message completed",
    );
    let cut = answering("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfin").await;
    fails(ask(Kind::Http(Http { body: body("fin"), ..http() }), cut).await, "HTTP: ");
}

/// A certificate for these names by an authority of its own, whose certificate is in the file.
struct Authority {
    config: Arc<rustls::ServerConfig>,
    file: tempfile::NamedTempFile,
}

fn authority(names: &[&str], expired: bool, alpn: &[u8]) -> Authority {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).expect("a certificate");
    let issuer = Issuer::new(params, key);
    let own_key = KeyPair::generate().expect("a key");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    if expired {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    }
    let certificate = params.signed_by(&own_key, &issuer).expect("a certificate");
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(root.pem().as_bytes()).expect("it can be written");
    let key = rustls::pki_types::PrivateKeyDer::try_from(own_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("they belong together");
    config.alpn_protocols = vec![alpn.to_vec()];
    Authority { config: Arc::new(config), file }
}

impl Authority {
    /// A web server with this certificate; tells the names that it is asked by.
    async fn web(&self) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<Option<String>>) {
        let (heard, hear) = tokio::sync::mpsc::unbounded_channel();
        let config = self.config.clone();
        let address = server(move |stream| {
            let (heard, config) = (heard.clone(), config.clone());
            async move {
                let Ok(stream) = tokio_rustls::TlsAcceptor::from(config).accept(stream).await else { return };
                let _ = heard.send(stream.get_ref().1.server_name().map(str::to_owned));
                talk(stream, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine").await;
            }
        })
        .await;
        (address, hear)
    }

    fn verified(&self, server_name: Option<&str>) -> Tls {
        let ca_file = Some(self.file.path().to_owned());
        Tls { server_name: server_name.map(str::to_owned), verify: true, ca_file }
    }
}

fn https(tls: Tls) -> Kind {
    Kind::Http(Http { tls: Some(tls), body: body("fine"), ..http() })
}

#[tokio::test]
async fn https_looks_at_certificates_only_if_told_to() {
    let good = authority(&["www.example.com"], false, b"http/1.1");
    let (address, mut names) = good.web().await;
    let named = |name: &str| Tls { server_name: Some(name.to_owned()), ..Tls::default() };
    assert_eq!(ask(https(Tls::default()), address).await, Ok(()), "it is not for this address");
    assert_eq!(names.recv().await, Some(None), "an address is not sent as a name");
    assert_eq!(ask(https(named("other.example.com")), address).await, Ok(()));
    assert_eq!(names.recv().await, Some(Some("other.example.com".to_owned())));

    assert_eq!(ask(https(good.verified(Some("www.example.com"))), address).await, Ok(()));
    fails(ask(https(good.verified(Some("other.example.com"))), address).await, "not valid for name");
    fails(ask(https(good.verified(None)), address).await, "certificate");
    let stranger = authority(&["www.example.com"], false, b"http/1.1");
    fails(
        ask(https(stranger.verified(Some("www.example.com"))), address).await,
        "TLS: invalid peer certificate",
    );
    let system = Tls { verify: true, ..named("www.example.com") };
    let why = ask(https(system), address).await.expect_err("nobody trusts it");
    assert!(why.contains("invalid peer certificate") || why.contains("no certificates to trust"), "{why}");
}

#[tokio::test]
async fn https_by_address_and_with_an_expired_certificate() {
    let by_address = authority(&["127.0.0.1"], false, b"http/1.1");
    let (address, _names) = by_address.web().await;
    assert_eq!(ask(https(by_address.verified(None)), address).await, Ok(()));
    let expired = authority(&["127.0.0.1"], true, b"http/1.1");
    let (address, _names) = expired.web().await;
    fails(ask(https(expired.verified(None)), address).await, "certificate expired");
    assert_eq!(ask(https(Tls::default()), address).await, Ok(()));
}

#[tokio::test]
async fn https_with_who_speaks_no_tls_fails() {
    let plain = answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let result = ask_within(https(Tls::default()), plain, TIMEOUT).await;
    fails(result, "TLS");
    let hanging = ask_within(https(Tls::default()), silent().await, TIMEOUT).await;
    fails(hanging, "waiting for the TLS handshake took longer than 0.6 s");
}

/// Answers each datagram with these bytes, if any.
async fn datagrams(answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = socket.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut buffer = vec![0; 2000];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            for answer in answer(&buffer[..length]) {
                let _ = socket.send_to(&answer, from).await;
            }
        }
    });
    address
}

#[tokio::test]
async fn udp_fails_by_an_icmp_error_or_for_want_of_its_reply() {
    let echo = datagrams(|asked| vec![asked.to_vec()]).await;
    let udp =
        |reply: Option<Vec<Option<u8>>>| Kind::Udp(Udp { payload: vec![1, 2, 3], reply: reply.map(Reply) });
    assert_eq!(ask(udp(None), echo).await, Ok(()), "any reply will do");
    assert_eq!(ask(udp(Some(vec![])), echo).await, Ok(()));
    assert_eq!(ask(udp(Some(vec![Some(1), None])), echo).await, Ok(()));
    fails(ask(udp(Some(vec![Some(2)])), echo).await, "another reply than wanted, of 3 bytes");
    let mute = datagrams(|_| vec![]).await;
    let begun = Instant::now();
    assert_eq!(ask_within(udp(None), mute, TIMEOUT).await, Ok(()), "silence is no error");
    assert!(begun.elapsed() >= TIMEOUT);
    fails(ask_within(udp(Some(vec![])), mute, TIMEOUT).await, "no reply within 0.6 s");
    fails(ask(udp(None), nobody().await).await, "ICMP: Connection refused");
}

/// A name server's answer to a question, of so many records.
fn answer(asked: &[u8], code: Rcode, records: u8) -> Vec<u8> {
    let asked = Message::from_octets(asked).expect("a question");
    let mut answer = MessageBuilder::new_vec().start_answer(&asked, code).expect("room");
    for last in 1..=records {
        let name = Name::vec_from_str("example.com").expect("a name");
        answer
            .push((name, Ttl::from_secs(60), domain::rdata::A::from_octets(192, 0, 2, last)))
            .expect("room");
    }
    answer.finish()
}

#[tokio::test]
async fn dns_passes_with_a_record() {
    let question = || {
        let name = Name::vec_from_str("example.com").expect("a name");
        Kind::Dns(Dns { name, record: Rtype::A })
    };
    let good = datagrams(|asked| vec![answer(asked, Rcode::NOERROR, 1)]).await;
    assert_eq!(ask(question(), good).await, Ok(()));
    let empty = datagrams(|asked| vec![answer(asked, Rcode::NOERROR, 0)]).await;
    fails(ask(question(), empty).await, "the answer has no record");
    let broken = datagrams(|asked| vec![answer(asked, Rcode::SERVFAIL, 0)]).await;
    fails(ask(question(), broken).await, "DNS: SERVFAIL");
    // What answers something else is no answer.
    let confused = datagrams(|asked| {
        let mut other = answer(asked, Rcode::NOERROR, 1);
        other[0] ^= 1;
        vec![other, asked.to_vec(), vec![1, 2, 3], answer(asked, Rcode::NOERROR, 1)]
    })
    .await;
    assert_eq!(ask(question(), confused).await, Ok(()));
    let mute = datagrams(|_| vec![vec![0; 30]]).await;
    fails(ask_within(question(), mute, TIMEOUT).await, "waiting for the DNS answer took longer than 0.6 s");
    fails(ask(question(), nobody().await).await, "ICMP: Connection refused");
}

/// A mail server that says these lines, each but the first after it has heard one.
async fn mail(lines: &'static [&'static str]) -> SocketAddr {
    server(move |stream| async move {
        let mut stream = BufReader::new(stream);
        for (n, line) in lines.iter().enumerate() {
            let mut heard = String::new();
            if n > 0 && !stream.read_line(&mut heard).await.is_ok_and(|length| length > 0) {
                return;
            }
            let _ = stream.write_all(line.as_bytes()).await;
        }
    })
    .await
}

#[tokio::test]
async fn smtp_passes_with_all_its_answers() {
    let smtp = || Kind::Smtp(Smtp { helo_name: "lb1.example.com".to_owned() });
    let good = mail(&["220-hello\r\n220 there\r\n", "250-yes\r\n250 indeed\r\n", "221 bye\r\n"]).await;
    assert_eq!(ask(smtp(), good).await, Ok(()));
    fails(ask(smtp(), mail(&["554 no\r\n"]).await).await, "the greeting is \"554 no\"");
    fails(
        ask(smtp(), mail(&["220 hello\r\n", "421 busy\r\n"]).await).await,
        "the answer to HELO is \"421 busy\"",
    );
    fails(ask(smtp(), mail(&["220 hello\r\n", "250 yes\r\n"]).await).await, "before the answer to QUIT");
    fails(ask(smtp(), mail(&["554 \x1b[2J\x07no\r\n"]).await).await, "the greeting is \"554 ?[2J?no\"");
    fails(ask(smtp(), mail(&[]).await).await, "before the greeting");
    let hanging = ask_within(smtp(), silent().await, TIMEOUT).await;
    fails(hanging, "waiting for the SMTP greeting took longer than 0.6 s");
    let endless =
        server(|mut stream| async move { while stream.write_all(b"220-and\r\n").await.is_ok() {} }).await;
    fails(ask(smtp(), endless).await, "the greeting has no end");
}

#[tokio::test]
async fn icmp_passes_with_a_reply() {
    let loopback = |ip: std::net::IpAddr| SocketAddr::new(ip, 0);
    for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        match ask(Kind::Icmp, loopback(ip)).await {
            // Neither ping sockets nor raw ones, as for most users: the error says what to do.
            Err(why) if why.contains("net.ipv4.ping_group_range") => {
                assert!(why.starts_with("not checked: "), "that says nothing about the real server: {why}");
                assert!(!rustix::process::geteuid().is_root());
            }
            result => assert_eq!(result, Ok(()), "{ip}"),
        }
    }
}

/// A gRPC server whose health is answered with this message, and this status in trailers.
async fn grpc_server(
    message: &'static [u8],
    status: &'static str,
    tls: Option<Arc<rustls::ServerConfig>>,
) -> SocketAddr {
    server(move |stream| {
        let tls = tls.clone();
        async move {
            let service = hyper::service::service_fn(
                move |request: hyper::Request<hyper::body::Incoming>| async move {
                    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                    assert_eq!(request.headers()["content-type"], "application/grpc");
                    let asked = request.into_body().collect().await.expect("a body").to_bytes();
                    let known = [&[0, 0, 0, 0, 0][..], b"\0\0\0\0\x0b\x0a\x09echo.Echo"];
                    assert!(known.contains(&&asked[..]), "{asked:?}");
                    let mut trailers = hyper::HeaderMap::new();
                    trailers.insert("grpc-status", status.parse().expect("a header"));
                    let frames = [Frame::data(Bytes::from_static(message)), Frame::trailers(trailers)];
                    let frames = Frames(frames.into_iter().collect());
                    Ok::<_, std::convert::Infallible>(hyper::Response::new(frames))
                },
            );
            let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            match tls {
                None => drop(http2.serve_connection(TokioIo::new(stream), service).await),
                Some(config) => {
                    let Ok(stream) = tokio_rustls::TlsAcceptor::from(config).accept(stream).await else {
                        return;
                    };
                    drop(http2.serve_connection(TokioIo::new(stream), service).await);
                }
            }
        }
    })
    .await
}

/// A body of these frames.
struct Frames(std::collections::VecDeque<Frame<Bytes>>);

impl hyper::body::Body for Frames {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(self.0.pop_front().map(Ok))
    }
}

#[tokio::test]
async fn grpc_passes_while_it_is_serving() {
    let grpc = |service: &str| Kind::Grpc(Grpc { service: service.to_owned(), tls: None });
    let serving = grpc_server(b"\0\0\0\0\x02\x08\x01", "0", None).await;
    assert_eq!(ask(grpc(""), serving).await, Ok(()));
    assert_eq!(ask(grpc("echo.Echo"), serving).await, Ok(()));
    let draining = grpc_server(b"\0\0\0\0\x02\x08\x02", "0", None).await;
    fails(ask(grpc(""), draining).await, "NOT_SERVING");
    let unknown = grpc_server(b"", "5", None).await;
    fails(ask(grpc("echo.Echo"), unknown).await, "gRPC status 5");
    fails(ask(grpc(""), nobody().await).await, "cannot connect: Connection refused");
    fails(
        ask_within(grpc(""), silent().await, TIMEOUT).await,
        "waiting for the gRPC answer took longer than 0.6 s",
    );
    fails(ask(grpc(""), answering("HTTP/1.1 400 Bad Request\r\n\r\n").await).await, "HTTP: ");
}

#[tokio::test]
async fn grpc_does_not_read_an_answer_without_end() {
    const MEGABYTE: &[u8] = &[0; 1 << 20];
    let endless = grpc_server(MEGABYTE, "0", None).await;
    let grpc = Kind::Grpc(Grpc { service: String::new(), tls: None });
    fails(ask(grpc, endless).await, "the answer has more than 65536 bytes");
}

#[tokio::test]
async fn grpc_by_tls() {
    let good = authority(&["grpc.example.com"], false, b"h2");
    let address = grpc_server(b"\0\0\0\0\x02\x08\x01", "0", Some(good.config.clone())).await;
    let by = |tls: Tls| Kind::Grpc(Grpc { service: String::new(), tls: Some(tls) });
    assert_eq!(ask(by(Tls::default()), address).await, Ok(()));
    assert_eq!(ask(by(good.verified(Some("grpc.example.com"))), address).await, Ok(()));
    fails(ask(by(good.verified(Some("www.example.com"))), address).await, "not valid for name");
}

fn shell(script: &str) -> Kind {
    Kind::Exec(["/bin/sh", "-c", script].map(str::to_owned).to_vec())
}

#[tokio::test]
async fn exec_passes_with_status_0() {
    let address = "127.0.0.1:8080".parse().expect("an address");
    assert_eq!(ask(shell("exit 0"), address).await, Ok(()));
    assert_eq!(
        ask(
            shell(
                "test \"$REAL_SERVER $REAL_SERVER_IP $REAL_SERVER_PORT $VIRTUAL_SERVICE\" = \
                   '127.0.0.1:8080 127.0.0.1 8080 tcp 10.99.0.1:80'"
            ),
            address
        )
        .await,
        Ok(())
    );
    fails(
        ask(shell("echo too many rows >&2; echo more >&2; exit 3"), address).await,
        "exit status: 3: too many rows",
    );
    fails(ask(shell("kill -9 $$"), address).await, "signal: 9");
    fails(ask(Kind::Exec(vec!["/nonexistent".to_owned()]), address).await, "cannot start /nonexistent");
    // What it has left behind and keeps its output open is not waited for.
    let begun = Instant::now();
    assert_eq!(ask(shell("sleep 30 & exit 0"), address).await, Ok(()));
    assert!(begun.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn exec_that_hangs_is_killed_with_its_children() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("pid");
    let script = format!("sleep 30 & echo $! > {}; wait", file.display());
    let address = "127.0.0.1:8080".parse().expect("an address");
    fails(ask_within(shell(&script), address, LONG).await, "running the program took longer than 2 s");
    let pid = std::fs::read_to_string(&file).expect("the program ran");
    let status = format!("/proc/{}/stat", pid.trim());
    for _ in 0..100 {
        // Gone, or dead and not buried yet.
        match std::fs::read_to_string(&status) {
            Ok(text) if !text.contains(") Z ") => tokio::time::sleep(Duration::from_millis(20)).await,
            _ => return,
        }
    }
    panic!("the program's child lives on");
}

#[tokio::test]
async fn a_body_without_end_is_read_to_its_first_megabyte() {
    let endless = server(|mut stream| async move {
        hear(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    })
    .await;
    fails(ask(Kind::Http(Http { body: body("fine"), ..http() }), endless).await, "the body does not match");
    assert_eq!(ask(Kind::Http(Http { body: body("^x{100}"), ..http() }), endless).await, Ok(()));
}

/// Every address of 127.0.0.0/8 is this host, so that one listener makes thousands of real servers.
#[test]
fn thousands_of_checks_are_made_on_one_thread() {
    const GOOD: u16 = 1500;
    const BAD: u16 = 500;
    let listener = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            drop(connection);
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let check = Check {
        interval: Duration::from_millis(500),
        fall: 2,
        delay_before_retry: Duration::from_millis(100),
        ..Check::new(Kind::Tcp)
    };
    // Nobody listens on port 1 of this host.
    let refused = Check { connect_port: Some(1), ..check.clone() };
    let servers: Vec<RealServer> = (0..GOOD + BAD)
        .map(|number| RealServer {
            address: SocketAddr::from(([127, 1, (number >> 8) as u8, number as u8], port)),
            method: ForwardingMethod::Nat,
            tunnel: Tunnel::default(),
            weight: Weight(1),
            thresholds: Thresholds::default(),
        })
        .collect();
    let bad = servers[usize::from(GOOD)..].iter();
    let policy = Policy {
        own: bad.map(|server| (server.address, vec![Arc::new(refused.clone())])).collect(),
        checks: vec![Arc::new(check)],
        ..Policy::default()
    };
    let key = "tcp 10.99.0.1:80".parse().expect("a service");
    let service = Arc::new(Service {
        key,
        scheduler: Scheduler::Wrr,
        flags: SchedulerFlags::default(),
        persistence: None,
        one_packet: false,
        servers,
    });
    let (mut runner, mut reports) = Runner::new(&[]).expect("a runtime");
    runner.begin().expect("a thread");
    let mut board = Board::new([(key, Arc::new(policy))].into(), Some(runner));
    board.follow(key, Some(&service), Instant::now());
    let end = Instant::now() + Duration::from_secs(30);
    let asked = |board: &Board| {
        let list = board.list(false, Instant::now());
        let servers = &list.health[0].servers;
        servers.iter().filter(|server| server.checks[0].passed + server.checks[0].failed >= 4).count()
    };
    while asked(&board) < usize::from(GOOD + BAD) {
        assert!(Instant::now() < end, "only {} real servers were asked four times", asked(&board));
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut heard = 0;
    while let Ok(report) = reports.try_recv() {
        assert!(!report.up, "{report:?}");
        board.record(&report, Instant::now());
        heard += 1;
    }
    assert_eq!(heard, BAD, "only what changes is told, once");
    let compiled = board.follow(key, Some(&service), Instant::now()).expect("it is there");
    assert_eq!(compiled.servers.iter().filter(|server| server.weight.0 > 0).count(), usize::from(GOOD));
    // Whoever is deleted is not asked any more.
    board.follow(key, None, Instant::now());
    assert!(board.list(false, Instant::now()).health.is_empty());
    // What the kernel has accepted already is counted a little later.
    std::thread::sleep(Duration::from_millis(500));
    let before = accepted.load(Ordering::Relaxed);
    assert!(before >= 4 * usize::from(GOOD), "only {before} connections");
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(accepted.load(Ordering::Relaxed), before, "connections since");
}
