mod agreement;

use super::*;
use crate::http::framing::{self, BodyLimits, HeadLimits};
use axum::Router;
use axum::extract::Request as AxumRequest;
use axum::response::IntoResponse;
use axum::routing::any;
use http::header;
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

fn settings() -> Settings {
    Settings {
        max_connections: 100,
        header_timeout: Duration::from_millis(300),
        body_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_millis(700),
        drain_timeout: Duration::from_millis(500),
        max_header_bytes: 16_384,
        max_uri_bytes: 8_192,
        page: Arc::new(|status| Page {
            headers: vec![("content-type", "application/problem+json".to_owned())],
            body: format!("{{\"status\":{}}}", status.as_u16()),
        }),
    }
}

/// What the first layer of the server does: checks, reads, answers with method, path and body.
async fn answer(request: AxumRequest) -> axum::response::Response {
    let (parts, body) = request.into_parts();
    let heads = HeadLimits { max_header_bytes: 16_384, max_uri_bytes: 8_192 };
    if let Err(refusal) = framing::check(&parts, &heads) {
        let mut response = (refusal.status, refusal.message).into_response();
        if refusal.close {
            response.headers_mut().insert(header::CONNECTION, "close".parse().unwrap());
        }
        return response;
    }
    if parts.uri.path() == "/slow" {
        sleep(Duration::from_millis(200)).await;
    }
    if parts.uri.path() == "/never" {
        sleep(Duration::from_secs(60)).await;
    }
    if parts.uri.path() == "/large" {
        return "x".repeat(50_000_000).into_response();
    }
    let bodies = BodyLimits { max_bytes: 1_000, timeout: Duration::from_millis(300) };
    match framing::read_body(body, bodies).await {
        Ok(body) => {
            assert!(parts.extensions.get::<ConnectInfo<SocketAddr>>().is_some());
            format!("{} {} {}", parts.method, parts.uri.path(), body.escape_ascii()).into_response()
        }
        Err(refusal) => (refusal.status(), [(header::CONNECTION, "close")], refusal.to_string()).into_response(),
    }
}

struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Drained>,
}

async fn start(settings: Settings) -> Server {
    let listener = bind("127.0.0.1:0", "--listen").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let router = Router::new().fallback(any(answer));
    let running = tokio::spawn(serve(listener, router, settings, async {
        let _ = stopped.await;
    }));
    Server { address, stop: Some(stop), running }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Everything the server says to these bytes until it closes.
    async fn talk(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        read_all(&mut stream).await
    }

    async fn stop(mut self) -> Drained {
        self.stop.take().unwrap().send(()).unwrap();
        self.running.await.unwrap()
    }
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    timeout(Duration::from_secs(10), stream.read_to_end(&mut text)).await.expect("closed in time").unwrap();
    String::from_utf8(text).unwrap()
}

/// Reads until `end` is there.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 1_024];
    while !text.contains(end) {
        let count = timeout(Duration::from_secs(10), stream.read(&mut buffer)).await.expect("answered").unwrap();
        assert!(count > 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    text
}

fn statuses(text: &str) -> Vec<&str> {
    text.match_indices("HTTP/1.1 ").map(|(at, _)| &text[at + 9..at + 12]).collect()
}

#[tokio::test]
async fn framing_that_rfc_9112_forbids_is_refused() {
    let server = start(settings()).await;
    let cases: [(&str, &str); 22] = [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "400"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "400"),
        ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\nx", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", "400"),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", "501"),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", "400"),
        ("nonsense\r\n\r\n", "400"),
    ];
    for (request, expected) in cases {
        // A second request behind the first must never be served.
        let text = server.talk(format!("{request}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
        assert_eq!(statuses(&text), [expected], "{request:?}: {text}");
        assert!(!text.contains("smuggled"), "{request:?}: {text}");
        assert!(text.to_lowercase().contains("connection: close"), "{request:?}: {text}");
        assert!(!text.ends_with("\r\n\r\n"), "a refusal has a body: {request:?}: {text}");
    }
}

#[tokio::test]
async fn sizes_are_refused_with_the_right_status_at_any_size() {
    let server = start(settings()).await;
    let end = "HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
    for (uri_bytes, expected) in
        [(8_000, "200"), (9_000, "414"), (24_000, "414"), (30_000, "414"), (70_000, "414"), (500_000, "414")]
    {
        let text = server.talk(format!("GET /{} {end}\r\n", "a".repeat(uri_bytes)).as_bytes()).await;
        assert_eq!(statuses(&text), [expected], "{uri_bytes}");
    }
    for (header_bytes, expected) in [(16_000, "200"), (17_000, "431"), (64_000, "431"), (500_000, "431")] {
        let text = server.talk(format!("GET / {end}X: {}\r\n\r\n", "a".repeat(header_bytes)).as_bytes()).await;
        assert_eq!(statuses(&text), [expected], "{header_bytes}");
    }
    let many: String = (0..101).map(|number| format!("X-{number}: y\r\n")).collect();
    assert_eq!(statuses(&server.talk(format!("GET / {end}{many}\r\n").as_bytes()).await), ["431"]);
}

#[tokio::test]
async fn legal_requests_pass() {
    let server = start(settings()).await;
    let body = "GET /x HTTP/1.1\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n";
    let pipeline = format!(
        "\r\nPOST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: {0}\r\n\r\n{body}\
         POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n{0:x};ext=\"v\"\r\n{body}\r\n1 \r\n!\r\n0\r\nTrailer: b\r\n\r\n\
         GET http://b.example/3?q HTTP/1.1\r\nHost: a\r\n\r\n\
         GET /4 HTTP/1.1\nHost: a\n\n\
         OPTIONS * HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n\
         GET /5 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let escaped = body.as_bytes().escape_ascii();
    for step in [1, 7, 100, 10_000] {
        let mut stream = server.connect().await;
        for part in pipeline.as_bytes().chunks(step) {
            stream.write_all(part).await.unwrap();
            if step < 100 {
                tokio::task::yield_now().await;
            }
        }
        let text = read_all(&mut stream).await;
        assert_eq!(statuses(&text).len(), 6, "{text}");
        for expected in [
            &format!("POST /1 {escaped}"),
            &format!("POST /2 {escaped}!"),
            "GET /3 ",
            "GET /4 ",
            "OPTIONS * ",
            "GET /5 ",
        ] {
            assert!(text.contains(expected), "{expected} is not in {text}");
        }
    }
    let old = server.talk(b"GET /old HTTP/1.0\r\n\r\n").await;
    assert!(old.ends_with("GET /old "), "{old}");
}

#[tokio::test]
async fn a_half_closed_peer_gets_its_answer() {
    let server = start(settings()).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    assert!(read_all(&mut stream).await.contains("GET /slow"));
}

#[tokio::test]
async fn late_heads_and_bodies_are_answered_408() {
    let server = start(settings()).await;
    for start in [
        "G",
        "GET / HT",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab",
    ] {
        let began = Instant::now();
        let text = server.talk(start.as_bytes()).await;
        assert_eq!(statuses(&text), ["408"], "{start:?}: {text}");
        assert!((250..2_000).contains(&began.elapsed().as_millis()), "{start:?}: {:?}", began.elapsed());
    }
    let mut stream = server.connect().await;
    for _ in 0..8 {
        // Dripping does not extend the deadline.
        let _ = stream.write_all(b"x").await;
        sleep(Duration::from_millis(60)).await;
    }
    assert_eq!(statuses(&read_all(&mut stream).await), ["408"]);
}

#[tokio::test]
async fn silent_connections_are_closed_fresh_ones_sooner_than_idle_ones() {
    let server = start(settings()).await;
    for greeting in ["", "\r\n"] {
        let began = Instant::now();
        assert_eq!(server.talk(greeting.as_bytes()).await, "");
        assert!((250..650).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    }
    let mut stream = server.connect().await;
    for _ in 0..2 {
        stream.write_all(b"GET /again HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        read_until(&mut stream, "GET /again ").await;
        sleep(Duration::from_millis(500)).await;
    }
    let began = Instant::now();
    assert_eq!(read_all(&mut stream).await, "");
    assert!(began.elapsed().as_millis() < 600, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_cut() {
    let server = start(settings()).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    sleep(Duration::from_millis(1_000)).await;
    assert_eq!(server.stop().await, Drained { finished: 0, aborted: 0 });
}

#[tokio::test]
async fn a_refused_upload_gets_to_read_the_refusal() {
    let server = start(settings()).await;
    let mut stream = server.connect().await;
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n").await.unwrap();
    let (mut from, mut to) = stream.split();
    let upload = async { to.write_all(&vec![b'x'; 300_000]).await };
    let mut text = Vec::new();
    let (sent, read) = tokio::join!(upload, from.read_to_end(&mut text));
    sent.unwrap();
    read.unwrap();
    assert_eq!(statuses(&String::from_utf8(text).unwrap()), ["413"]);
    let expecting =
        server.talk(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 300000\r\n\r\n").await;
    assert_eq!(statuses(&expecting), ["413"]);
}

#[tokio::test]
async fn a_full_house_closes_the_idle_and_serves_newcomers() {
    let idle_timeout = Duration::from_secs(60);
    let server = start(Settings { max_connections: 3, idle_timeout, ..settings() }).await;
    let mut open = Vec::new();
    for _ in 0..10 {
        let mut stream = server.connect().await;
        stream.write_all(b"GET /here HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        read_until(&mut stream, "GET /here ").await;
        open.push(stream);
    }
    for stream in &mut open[..7] {
        assert_eq!(read_all(stream).await, "", "the longest idle go first");
    }
    let mut last = open.pop().unwrap();
    last.write_all(b"GET /still HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_until(&mut last, "GET /still ").await;
}

#[tokio::test]
async fn a_full_house_never_cuts_who_waits_for_an_answer() {
    let server = start(Settings { max_connections: 2, ..settings() }).await;
    let mut tasks = JoinSet::new();
    for _ in 0..10 {
        let mut stream = server.connect().await;
        tasks.spawn(async move {
            stream.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            read_until(&mut stream, "GET /slow ").await;
        });
    }
    while let Some(joined) = tasks.join_next().await {
        joined.unwrap();
    }
}

#[tokio::test]
async fn draining_finishes_requests_and_closes_the_rest() {
    let server = start(settings()).await;
    let fresh = server.connect().await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_until(&mut idle, "GET /a ").await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    sleep(Duration::from_millis(50)).await;
    let address = server.address;
    assert_eq!(server.stop().await, Drained { finished: 3, aborted: 0 });
    let text = read_all(&mut busy).await;
    assert!(text.contains("GET /slow") && text.to_lowercase().contains("connection: close"), "{text}");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    drop(fresh);

    let server = start(settings()).await;
    let mut endless = server.connect().await;
    endless.write_all(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    sleep(Duration::from_millis(50)).await;
    assert_eq!(server.stop().await, Drained { finished: 0, aborted: 1 });
}

#[tokio::test]
async fn addresses_that_cannot_be_had() {
    let taken = bind("127.0.0.1:0", "--listen").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let message = bind(&address, "--listen").await.unwrap_err().to_string();
    assert_eq!(message, format!("{address} is in use; choose another with --listen"));
    let message = bind("192.0.2.1:1", "--admin-listen").await.unwrap_err().to_string();
    assert!(message.contains("is not an address of this machine; choose another with --admin-listen"), "{message}");
}

#[test]
fn the_limit_of_open_files_is_respected() {
    let limits =
        "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 4096   files\n";
    assert_eq!(open_files(limits), Some(1_024));
    assert_eq!(open_files("Max open files unlimited unlimited files"), None);
    assert_eq!(connection_limit(0), 1);
    assert_eq!(connection_limit(5), 5);
}
