//! A closed loop of HTTP/1.1 requests over many connections, as a process of its own: one thread, no parsing beyond status
//! and length, so that on a small machine it takes as little as possible from the server it measures.
//!
//! The plan comes on stdin and the result goes to stdout, both as one JSON object.

use crate::server::cpu_ms;
use anyhow::{Context, bail};
use mio::{Events, Interest, Poll, Token};
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

/// The most requests of one run: each keeps its latency.
const MOST: u64 = 20_000_000;
/// The most connections of one run.
const MOST_CONNECTIONS: u64 = 4_096;
/// How long a single answer may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Every so many answers the body is looked at.
const SAMPLE: u64 = 64;
/// After so many errors a run is given up.
const MOST_ERRORS: u64 = 100;
/// The modulus of [`scrambled`].
const SPREAD: u64 = 10_000_000_000;

/// What is sent, and what is expected back.
struct Plan {
    address: String,
    connections: u64,
    warm_up: Duration,
    duration: Duration,
    most: u64,
    request: Template,
    status: u16,
    expect: Template,
    lines: Vec<String>,
    /// The number of the first request; after `cycle` requests it comes again.
    first: u64,
    cycle: u64,
}

impl Plan {
    fn read(text: &str) -> anyhow::Result<Self> {
        let plan: Value = serde_json::from_str(text)?;
        let number = |name: &str| plan[name].as_u64().with_context(|| format!("the plan has no {name}"));
        let word = |name: &str| plan[name].as_str().with_context(|| format!("the plan has no {name}"));
        let lines = match plan["lines"].as_str() {
            Some(path) => std::fs::read_to_string(path)?.lines().map(str::to_owned).collect(),
            None => Vec::new(),
        };
        Ok(Plan {
            address: word("address")?.to_owned(),
            connections: number("connections")?.clamp(1, MOST_CONNECTIONS),
            warm_up: Duration::from_millis(number("warm_up_ms")?),
            duration: Duration::from_millis(number("duration_ms")?.min(600_000)),
            most: number("most")?.min(MOST),
            request: Template::new(word("request")?),
            status: u16::try_from(number("status")?)?,
            expect: Template::new(word("expect")?),
            lines,
            first: number("first")?,
            cycle: number("cycle")?.max(1),
        })
    }

    fn line(&self, number: u64) -> &str {
        let count = u64::try_from(self.lines.len()).unwrap_or(0);
        let at = scrambled(number).checked_rem(count).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.lines.get(at)).map_or("", String::as_str)
    }
}

/// A text with places for the number of the request.
struct Template(Vec<Piece>);

enum Piece {
    Text(String),
    /// `{n}`: the number, ten digits.
    Number,
    /// `{r}`: the number, spread over all ten-digit numbers.
    Scrambled,
    /// `{line}`: a line of the file, by the number.
    Line,
}

impl Template {
    fn new(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        let marks = [("{n}", Piece::Number), ("{r}", Piece::Scrambled), ("{line}", Piece::Line)];
        while let Some((at, (mark, piece))) =
            marks.iter().filter_map(|mark| rest.find(mark.0).map(|at| (at, mark))).min_by_key(|found| found.0)
        {
            let (before, after) = rest.split_at(at);
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(match piece {
                Piece::Scrambled => Piece::Scrambled,
                Piece::Line => Piece::Line,
                _ => Piece::Number,
            });
            rest = after.get(mark.len()..).unwrap_or_default();
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Template(pieces)
    }

    fn write(&self, number: u64, line: &str, out: &mut Vec<u8>) {
        out.clear();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Number => digits(number, out),
                Piece::Scrambled => digits(scrambled(number), out),
                Piece::Line => out.extend_from_slice(line.as_bytes()),
            }
        }
    }
}

/// A different number for each below 10^10, in no visible order, so that names and addresses do not arrive sorted.
pub fn scrambled(number: u64) -> u64 {
    let wide = u128::from(number) * 7_364_136_223 + 1_442_695_040;
    u64::try_from(wide % u128::from(SPREAD)).unwrap_or(0)
}

fn digits(mut number: u64, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(b"0000000000");
    for place in out.iter_mut().skip(start).rev() {
        *place = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
}

struct Connection {
    stream: mio::net::TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    number: u64,
    sent: Instant,
    open: bool,
}

impl Connection {
    fn flush(&mut self) -> std::io::Result<()> {
        while let Some(rest) = self.output.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what is there; true when the answer is complete.
    fn receive(&mut self, buffer: &mut [u8]) -> std::io::Result<bool> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    self.input.extend_from_slice(buffer.get(..read).unwrap_or_default());
                    if Answer::find(&self.input).is_some() {
                        return Ok(true);
                    }
                    // A read that did not fill the buffer has emptied the socket: the next edge tells of more.
                    if read < buffer.len() {
                        return Ok(false);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// A complete answer.
struct Answer {
    status: u16,
}

impl Answer {
    /// The answer when all of it is there. One without a length never is, which the patience of the run ends.
    fn find(input: &[u8]) -> Option<Self> {
        let head = input.windows(4).position(|window| window == b"\r\n\r\n")?;
        let (head, body) = (input.get(..head)?, input.get(head + 4..)?);
        let status = std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()?;
        let length = head.split(|byte| *byte == b'\n').find_map(|line| {
            let name = line.get(..15).filter(|name| name.eq_ignore_ascii_case(b"content-length:"))?;
            std::str::from_utf8(line.get(name.len()..)?).ok()?.trim().parse::<usize>().ok()
        })?;
        (body.len() >= length).then_some(Answer { status })
    }
}

/// Everything a run has counted.
struct Run {
    plan: Plan,
    started: Instant,
    next: u64,
    answered: u64,
    latencies_us: Vec<u32>,
    last_measured: Instant,
    errors: u64,
    first_error: String,
    scratch: Vec<u8>,
}

impl Run {
    fn over(&self, now: Instant) -> bool {
        now.duration_since(self.started) >= self.plan.warm_up + self.plan.duration
            || self.next - self.plan.first >= self.plan.most
            || self.errors >= MOST_ERRORS
    }

    fn send(&mut self, connection: &mut Connection, now: Instant) -> std::io::Result<()> {
        connection.number = self.plan.first + (self.next - self.plan.first) % self.plan.cycle;
        self.next += 1;
        let line = self.plan.line(connection.number);
        self.plan.request.write(connection.number, line, &mut connection.output);
        connection.written = 0;
        connection.input.clear();
        connection.sent = now;
        connection.flush()
    }

    fn failed(&mut self, what: &str) {
        self.errors += 1;
        if self.first_error.is_empty() {
            self.first_error = what.chars().take(1_000).collect();
        }
    }

    fn check(&mut self, connection: &Connection, now: Instant) {
        self.answered += 1;
        let status = Answer::find(&connection.input).map_or(0, |answer| answer.status);
        let mut good = status == self.plan.status;
        if good && self.answered % SAMPLE == 1 {
            let line = self.plan.line(connection.number);
            self.plan.expect.write(connection.number, line, &mut self.scratch);
            let wanted = &self.scratch;
            good = wanted.is_empty() || connection.input.windows(wanted.len()).any(|window| window == &**wanted);
        }
        if !good {
            self.failed(&String::from_utf8_lossy(&connection.input));
        } else if connection.sent.duration_since(self.started) >= self.plan.warm_up {
            let latency = now.duration_since(connection.sent).as_micros();
            self.latencies_us.push(u32::try_from(latency).unwrap_or(u32::MAX));
            self.last_measured = now;
        }
    }

    fn result(mut self) -> Value {
        self.latencies_us.sort_unstable();
        let count = self.latencies_us.len();
        let at = |permille: usize| {
            let place = (count * permille / 1_000).min(count.saturating_sub(1));
            self.latencies_us.get(place).copied().unwrap_or(0)
        };
        let elapsed = self.last_measured.duration_since(self.started).saturating_sub(self.plan.warm_up);
        json!({
            "answered": self.answered,
            "measured": count,
            "elapsed_us": u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            "p50_us": at(500),
            "p99_us": at(990),
            "max_us": self.latencies_us.last().copied().unwrap_or(0),
            "errors": self.errors,
            "first_error": self.first_error,
            "cpu_ms": cpu_ms(std::process::id()),
            "next": self.next,
        })
    }
}

/// Reads the plan, runs it and writes the result.
pub fn run() -> anyhow::Result<()> {
    let plan = Plan::read(&std::io::read_to_string(std::io::stdin())?)?;
    let mut poll = Poll::new()?;
    let mut connections = Vec::new();
    let now = Instant::now();
    for number in 0..plan.connections {
        let stream = std::net::TcpStream::connect(&plan.address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        let token = Token(usize::try_from(number)?);
        poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let (input, output) = (Vec::new(), Vec::new());
        connections.push(Connection { stream, input, output, written: 0, number: 0, sent: now, open: true });
    }
    let started = Instant::now();
    let mut run = Run {
        next: plan.first,
        plan,
        started,
        answered: 0,
        latencies_us: Vec::with_capacity(1_000_000),
        last_measured: started,
        errors: 0,
        first_error: String::new(),
        scratch: Vec::new(),
    };
    drive(&mut run, &mut poll, &mut connections)?;
    crate::say(&run.result().to_string());
    Ok(())
}

fn drive(run: &mut Run, poll: &mut Poll, connections: &mut [Connection]) -> anyhow::Result<()> {
    let mut events = Events::with_capacity(1_024);
    let mut buffer = vec![0; 262_144];
    for connection in connections.iter_mut() {
        run.send(connection, run.started)?;
    }
    let mut open = connections.len();
    while open > 0 {
        poll.poll(&mut events, Some(Duration::from_secs(1)))?;
        if events.is_empty() && connections.iter().any(|one| one.open && one.sent.elapsed() > PATIENCE) {
            bail!("an answer took longer than {} s", PATIENCE.as_secs());
        }
        for event in &events {
            let Some(connection) = connections.get_mut(event.token().0).filter(|one| one.open) else { continue };
            if let Err(error) = step(run, connection, event.is_readable(), &mut buffer) {
                run.failed(&error.to_string());
                connection.open = false;
            }
            open -= usize::from(!connection.open);
        }
    }
    Ok(())
}

/// What an event means for a connection.
fn step(run: &mut Run, connection: &mut Connection, readable: bool, buffer: &mut [u8]) -> std::io::Result<()> {
    connection.flush()?;
    if !readable || !connection.receive(buffer)? {
        return Ok(());
    }
    let now = Instant::now();
    run.check(connection, now);
    if run.over(now) {
        connection.open = false;
        return Ok(());
    }
    run.send(connection, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled() {
        let mut out = Vec::new();
        Template::new("a {n} b {line}{r}").write(12, "x", &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("a 0000000012 b x{:010}", scrambled(12)));
    }

    #[test]
    fn an_answer_is_complete_with_its_last_byte() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(Answer::find(text).map(|answer| answer.status), Some(200));
        assert!(Answer::find(&text[..text.len() - 1]).is_none());
    }
}
