//! The stream between the socket and hyper. It lets a [`Reader`] see what comes in, knows how long the connection
//! has been waiting for what, and gives hyper's own refusals, which have no body, the body every refusal has.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::super::framing::Wire;
use super::wire::Reader;
use super::{Page, Settings};

/// What one connection is doing; shared by its stream, its service and the task that watches its deadlines.
#[derive(Clone)]
pub(super) struct Life(Arc<Mutex<State>>);

struct State {
    reader: Reader,
    /// Requests handed to the service whose response body is not yet taken whole.
    in_flight: usize,
    /// What is being written, or comes next, is a response of the service and not hyper's own.
    answering: bool,
    served: bool,
    quiet_since: Instant,
    head_since: Option<Instant>,
    write_blocked_since: Option<Instant>,
    lingering_since: Option<Instant>,
}

/// What a connection waits for, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// The first byte of the first request.
    Fresh(Instant),
    /// The first byte of another request.
    Idle(Instant),
    /// The rest of a request head.
    Head(Instant),
    /// The rest of a body nobody reads any more.
    Body(Instant),
    /// The peer, to take what was written.
    Write(Instant),
    /// The peer, to close after us.
    Linger(Instant),
    /// Our own answer.
    Answer,
}

/// A request in flight; dropping it ends the flight.
pub(super) struct Flight(Life);

impl Life {
    pub(super) fn new(max_line_bytes: usize) -> Self {
        Life(Arc::new(Mutex::new(State {
            reader: Reader::new(max_line_bytes),
            in_flight: 0,
            answering: false,
            served: false,
            quiet_since: Instant::now(),
            head_since: None,
            write_blocked_since: None,
            lingering_since: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that hyper handed over a request; answers what its raw head said.
    pub(super) fn begin(&self) -> (Wire, Flight) {
        let mut state = self.state();
        state.in_flight += 1;
        state.answering = true;
        state.served = true;
        (state.reader.next_head(), Flight(self.clone()))
    }

    pub(super) fn waiting(&self) -> Waiting {
        let state = self.state();
        if let Some(since) = state.lingering_since {
            return Waiting::Linger(since);
        }
        if let Some(since) = state.write_blocked_since {
            return Waiting::Write(since);
        }
        if state.in_flight > 0 {
            return Waiting::Answer;
        }
        match state.head_since {
            Some(since) => Waiting::Head(since.max(state.quiet_since)),
            None if !state.reader.is_between_messages() => Waiting::Body(state.quiet_since),
            None if state.served => Waiting::Idle(state.quiet_since),
            None => Waiting::Fresh(state.quiet_since),
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        state.quiet_since = Instant::now();
    }
}

/// The socket as hyper sees it.
pub(super) struct Gate {
    stream: TcpStream,
    life: Life,
    settings: Arc<Settings>,
    /// Our own text in place of a refusal by hyper, and how much of it is written.
    replacement: Option<(Vec<u8>, usize)>,
}

impl Gate {
    pub(super) fn new(stream: TcpStream, life: Life, settings: Arc<Settings>) -> Self {
        Gate { stream, life, settings, replacement: None }
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Notes whether the peer takes what is written.
    fn note_write<T>(&self, polled: Poll<T>) -> Poll<T> {
        let mut state = self.life.state();
        if polled.is_ready() {
            if state.write_blocked_since.take().is_some() {
                state.quiet_since = Instant::now();
            }
        } else {
            state.write_blocked_since.get_or_insert_with(Instant::now);
        }
        polled
    }

    /// A whole response when `head` is hyper's own refusal.
    fn replace(&self, head: &[u8]) -> Option<Vec<u8>> {
        let state = self.life.state();
        if state.answering {
            return None;
        }
        let digits = head.strip_prefix(b"HTTP/1.1 ").or_else(|| head.strip_prefix(b"HTTP/1.0 "))?.get(..3)?;
        let mut status = StatusCode::from_bytes(digits).ok()?;
        if status == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            && state.reader.request_line_bytes() > self.settings.max_uri_bytes
        {
            status = StatusCode::URI_TOO_LONG;
        }
        drop(state);
        let text = std::str::from_utf8(head).ok()?;
        let date = text.lines().find(|line| line.get(..5).is_some_and(|name| name.eq_ignore_ascii_case("date:")));
        Some(response(status, &(self.settings.page)(status), date))
    }

    fn poll_replacement(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some((text, written)) = &mut self.replacement else {
            return Poll::Ready(Ok(()));
        };
        while *written < text.len() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(context, &text[*written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *written += count;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes our text when the first of `slices` begins a refusal by hyper, and counts all of them as written.
    fn poll_own_refusal(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Option<Poll<io::Result<usize>>> {
        if self.replacement.is_none() {
            let first = slices.iter().find(|slice| !slice.is_empty())?;
            self.replacement = Some((self.replace(first)?, 0));
        }
        let polled = self.poll_replacement(context);
        let total = slices.iter().map(|slice| slice.len()).sum();
        Some(self.note_write(polled.map_ok(|()| total)))
    }
}

/// A response that ends the connection, as bytes.
pub(super) fn response(status: StatusCode, page: &Page, date: Option<&str>) -> Vec<u8> {
    let reason = status.canonical_reason().unwrap_or("Refused");
    let mut text = format!("HTTP/1.1 {} {reason}\r\n", status.as_str());
    for (name, value) in &page.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(date) = date {
        text.push_str(date);
        text.push_str("\r\n");
    }
    text.push_str(&format!("content-length: {}\r\nconnection: close\r\n\r\n{}", page.body.len(), page.body));
    text.into_bytes()
}

impl AsyncRead for Gate {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let mut state = self.life.state();
        state.reader.read(&buffer.filled()[before..]);
        if !state.reader.is_inside_head() {
            state.head_since = None;
        } else if state.head_since.is_none() {
            state.head_since = Some(Instant::now());
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gate {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(polled) = self.poll_own_refusal(context, &[IoSlice::new(bytes)]) {
            return polled;
        }
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note_write(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(polled) = self.poll_own_refusal(context, slices) {
            return polled;
        }
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note_write(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        // hyper flushes when its buffer is empty, so with nothing in flight the response is out; "100 Continue" is
        // flushed with its request in flight.
        let mut state = self.life.state();
        state.answering &= state.in_flight > 0;
        Poll::Ready(Ok(()))
    }

    /// Closes our direction, then takes what the peer still sends until it closes or the listener loses patience:
    /// closing a socket with unread bytes resets it, and the peer may lose the answer that explains the refusal.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (lingering, clean) = {
            let state = self.life.state();
            let clean = state.reader.is_between_messages() && self.replacement.is_none();
            (state.lingering_since.is_some(), clean)
        };
        if !lingering {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            if clean {
                return Poll::Ready(Ok(()));
            }
            self.life.state().lingering_since = Some(Instant::now());
        }
        let mut scratch = [0; 4_096];
        // A bounded number of reads, so that a fast sender cannot keep the task from its deadline.
        for _ in 0..16 {
            let mut buffer = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
