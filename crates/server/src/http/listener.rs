//! Protects the server from its peers: every connection has a deadline for whatever it waits for, there is an upper
//! limit to how many there are, and all of them can be told to finish.
//!
//! axum's own `serve` has none of these. hyper has a deadline for request heads, but it starts when the previous
//! answer ends, so it would end idle connections too; the deadlines here tell the two apart.

mod gate;
#[cfg(test)]
mod tests;
mod wire;

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::config::Http;

use gate::{Flight, Gate, Life, Waiting};

/// File descriptors that are not for connections: databases, logs, listeners, outgoing requests.
const RESERVED_DESCRIPTORS: usize = 128;
/// How long a connection without a first byte is left alone when newcomers wait for its place.
const FRESH_GRACE: Duration = Duration::from_secs(1);
/// How long a peer may take to close after our last byte.
const LINGER: Duration = Duration::from_secs(2);
/// First and longest pause after `accept` failed for want of descriptors or memory.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// hyper's buffers for each direction of a connection, grown on demand; larger heads raise it.
const BUFFER_BYTES: usize = 65_536;

/// Headers and body of an answer to a request that hyper could not read.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Without `Content-Length` and `Connection`, which the listener adds.
    pub headers: Vec<(&'static str, String)>,
    /// Sent as it is.
    pub body: String,
}

/// Makes the page for 400, 408, 414 or 431.
pub type PageWriter = Arc<dyn Fn(StatusCode) -> Page + Send + Sync>;

/// What a listener grants its peers.
#[derive(Clone)]
pub struct Settings {
    /// Connections at the same time; the last place is kept free by closing an idle connection. At least 1.
    pub max_connections: usize,
    /// From the first byte of a request head to its last, and from a new connection to its first byte.
    pub header_timeout: Duration,
    /// How long the peer may leave written bytes untaken, or a body unfinished that is no longer read.
    pub body_timeout: Duration,
    /// From the end of an answer to the first byte of the next request.
    pub idle_timeout: Duration,
    /// From the wish to stop to cutting what still runs.
    pub drain_timeout: Duration,
    /// All header lines of one request.
    pub max_header_bytes: usize,
    /// The request target.
    pub max_uri_bytes: usize,
    /// Answers where hyper refuses or a head is late.
    pub page: PageWriter,
}

impl Settings {
    /// What the configuration grants, within what the process may open.
    #[must_use]
    pub fn new(http: &Http, page: PageWriter) -> Self {
        Settings {
            max_connections: connection_limit(http.max_connections),
            header_timeout: Duration::from_millis(http.header_timeout_ms),
            body_timeout: Duration::from_millis(http.body_timeout_ms),
            idle_timeout: Duration::from_millis(http.idle_timeout_ms),
            drain_timeout: Duration::from_millis(http.drain_timeout_ms),
            max_header_bytes: http.max_header_bytes,
            max_uri_bytes: http.max_uri_bytes,
            page,
        }
    }

    /// What hyper takes before it refuses: both limits and some room, so that a head that is a little too large
    /// reaches `framing::check` and gets a better answer.
    fn max_head_bytes(&self) -> usize {
        self.max_header_bytes + self.max_uri_bytes + 1_024
    }
}

/// How a listener ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that finished after the wish to stop.
    pub finished: usize,
    /// Connections that were cut at the end of the drain timeout.
    pub aborted: usize,
}

/// Why an address cannot be listened on, in words for the person who chose it.
#[derive(Debug)]
pub struct BindError {
    message: String,
    source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Listens on `address` (`HOST:PORT`); `flag` names the option that chooses another.
///
/// # Errors
/// The address is in use, not this machine's, not permitted or not an address.
pub async fn bind(address: &str, flag: &str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| {
        let message = match source.kind() {
            io::ErrorKind::AddrInUse => format!("{address} is in use; choose another with {flag}"),
            io::ErrorKind::AddrNotAvailable => {
                format!("{address} is not an address of this machine; choose another with {flag}")
            }
            io::ErrorKind::PermissionDenied => format!(
                "no permission to listen on {address} (ports below 1024 are often reserved); choose another with {flag}"
            ),
            _ => format!("cannot listen on {address}: {source}; choose another with {flag}"),
        };
        BindError { message, source }
    })
}

/// `configured` connections, or fewer where the process may not open that many files. Where the limit cannot be
/// read (it is in `/proc/self/limits` on Linux) the configured number stands.
#[must_use]
pub fn connection_limit(configured: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    match open_files(&limits) {
        Some(files) => configured.min(files.saturating_sub(RESERVED_DESCRIPTORS).max(files / 2)).max(1),
        None => configured.max(1),
    }
}

/// The soft limit of open files.
fn open_files(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Serves HTTP/1.1 until `shutdown` is ready, then stops accepting, lets every request in flight finish and cuts what
/// is left after the drain timeout.
///
/// Each request carries `framing::Wire` and `ConnectInfo<SocketAddr>` in its extensions.
pub async fn serve<S, B>(
    listener: TcpListener,
    service: S,
    settings: Settings,
    shutdown: impl Future<Output = ()>,
) -> Drained
where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let slots = Arc::new(Semaphore::new(settings.max_connections.max(1)));
    let crowd = Arc::new(Notify::new());
    let (drain, draining) = watch::channel(false);
    let house = House { service, http: protocol(&settings), settings: Arc::new(settings), crowd, draining };
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &slots, &house.crowd) => accepted,
        };
        if let Some((stream, peer, slot)) = accepted {
            connections.spawn(house.clone().look_after(stream, peer, slot));
        }
    }
    drop(listener);
    drain.send_replace(true);
    let total = connections.len();
    let deadline = Instant::now() + house.settings.drain_timeout;
    while let Ok(Some(_)) = timeout_at(deadline, connections.join_next()).await {}
    let aborted = connections.len();
    connections.shutdown().await;
    Drained { finished: total - aborted, aborted }
}

/// The protocol as hyper is to speak it. HTTP/2 is off by construction.
fn protocol(settings: &Settings) -> http1::Builder {
    let head_bytes = settings.max_head_bytes();
    let mut http = http1::Builder::new();
    // A script that closes its sending direction after the request still gets its answer.
    http.half_close(true);
    http.header_read_timeout(None);
    http.max_header_size(head_bytes);
    http.max_buf_size(BUFFER_BYTES.max(head_bytes * 2));
    http
}

/// The next connection, once there is a place for it. Cancelling it loses neither.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    crowd: &Notify,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    if slots.available_permits() == 0 {
        // Whoever has been idle longest goes; with nobody idle, the next one to become so.
        crowd.notify_one();
    }
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    let mut pause = BACK_OFF.0;
    loop {
        let error = match listener.accept().await {
            Ok((stream, peer)) => return Some((stream, peer, slot)),
            Err(error) => error,
        };
        // The peer was gone before we looked: that says nothing about the listener.
        if matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
        ) {
            continue;
        }
        tracing::error!(%error, pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX), "cannot accept a connection");
        crowd.notify_one();
        sleep(pause).await;
        pause = (pause * 2).min(BACK_OFF.1);
    }
}

/// What every connection needs.
#[derive(Clone)]
struct House<S> {
    service: S,
    http: http1::Builder,
    settings: Arc<Settings>,
    crowd: Arc<Notify>,
    draining: watch::Receiver<bool>,
}

/// Why the watch over a connection ended.
enum End {
    Closed,
    LateHead,
    Cut,
}

impl<S, B> House<S>
where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    async fn look_after(mut self, stream: TcpStream, peer: SocketAddr, slot: OwnedSemaphorePermit) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot turn off the delay of small packets");
        }
        let life = Life::new(self.settings.max_head_bytes());
        let gate = Gate::new(stream, life.clone(), Arc::clone(&self.settings));
        let exchange = Exchange { service: self.service.clone(), life: life.clone(), peer };
        let mut connection = self.http.serve_connection(TokioIo::new(gate), exchange);
        if matches!(self.watch(&mut connection, &life).await, End::LateHead) {
            let mut stream = connection.into_parts().io.into_inner().into_stream();
            let status = StatusCode::REQUEST_TIMEOUT;
            let text = gate::response(status, &(self.settings.page)(status), None);
            // The peer may be gone; there is nobody else to tell.
            let _ = timeout(LINGER, async {
                stream.write_all(&text).await?;
                stream.shutdown().await
            })
            .await;
        }
        drop(slot);
    }

    /// Drives the connection until it ends or misses a deadline.
    async fn watch(&mut self, connection: &mut http1::Connection<TokioIo<Gate>, Exchange<S>>, life: &Life) -> End {
        let settings = Arc::clone(&self.settings);
        let mut draining = pin!(self.draining.wait_for(|draining| *draining));
        let mut place_wanted = pin!(None);
        let mut timer = pin!(sleep_until(Instant::now() + settings.header_timeout));
        let mut leaving = false;
        let mut drained = false;
        poll_fn(|context| {
            if !drained && draining.as_mut().poll(context).is_ready() {
                drained = true;
                Pin::new(&mut *connection).graceful_shutdown();
            }
            loop {
                if Pin::new(&mut *connection).poll(context).is_ready() {
                    return Poll::Ready(End::Closed);
                }
                let waiting = life.waiting();
                let gives_way = waiting.gives_way(Instant::now(), &settings);
                let mut overdue = false;
                if let Some(deadline) = waiting.deadline(&settings, gives_way) {
                    if timer.deadline() != deadline {
                        timer.as_mut().reset(deadline);
                    }
                    overdue = timer.as_mut().poll(context).is_ready();
                }
                if overdue && !gives_way && matches!(waiting, Waiting::Fresh(_)) {
                    continue;
                }
                if gives_way && !drained {
                    if place_wanted.is_none() {
                        place_wanted.set(Some(self.crowd.notified()));
                    }
                    let wanted = place_wanted.as_mut().as_pin_mut();
                    overdue |= wanted.is_some_and(|wanted| wanted.poll(context).is_ready());
                } else {
                    // A wish this connection was told of and cannot grant goes on to the next in line.
                    place_wanted.set(None);
                }
                match waiting {
                    _ if !overdue => return Poll::Pending,
                    Waiting::Head(_) => return Poll::Ready(End::LateHead),
                    Waiting::Fresh(_) | Waiting::Idle(_) if !leaving => {
                        leaving = true;
                        place_wanted.set(None);
                        Pin::new(&mut *connection).graceful_shutdown();
                    }
                    _ => return Poll::Ready(End::Cut),
                }
            }
        })
        .await
    }
}

impl Waiting {
    /// When to look again: at the end of patience, or earlier when a fresh connection's grace ends.
    fn deadline(self, settings: &Settings, gives_way: bool) -> Option<Instant> {
        match self {
            Waiting::Fresh(since) if !gives_way => Some(since + FRESH_GRACE.min(settings.header_timeout)),
            Waiting::Fresh(since) | Waiting::Head(since) => Some(since + settings.header_timeout),
            Waiting::Idle(since) => Some(since + settings.idle_timeout),
            Waiting::Body(since) | Waiting::Write(since) => Some(since + settings.body_timeout),
            Waiting::Linger(since) => Some(since + LINGER),
            Waiting::Answer => None,
        }
    }

    /// May be closed for a newcomer.
    fn gives_way(self, now: Instant, settings: &Settings) -> bool {
        match self {
            Waiting::Idle(_) => true,
            Waiting::Fresh(since) => now.duration_since(since) >= FRESH_GRACE.min(settings.header_timeout),
            _ => false,
        }
    }
}

/// The service as hyper calls it.
struct Exchange<S> {
    service: S,
    life: Life,
    peer: SocketAddr,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Exchange<S>
where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<Counted<B>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let (wire, flight) = self.life.begin();
        request.extensions_mut().insert(wire);
        request.extensions_mut().insert(ConnectInfo(self.peer));
        let mut service = self.service.clone();
        Box::pin(async move {
            poll_fn(|context| service.poll_ready(context)).await?;
            let response = service.call(request).await?;
            Ok(response.map(|body| Counted { body: Box::pin(body), _flight: flight }))
        })
    }
}

/// A response body that knows when hyper is done with it.
struct Counted<B> {
    body: Pin<Box<B>>,
    _flight: Flight,
}

impl<B: Body<Data = Bytes>> Body for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.body.as_mut().poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
