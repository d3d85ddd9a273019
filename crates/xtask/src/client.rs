//! A small HTTP client: one connection, one request at a time, as little work as possible, so that a load of many of them
//! measures the server.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What came back.
#[derive(Debug, Default)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
    /// Whether `Transient-Error: true` was there.
    pub transient: bool,
}

impl Answer {
    /// The text behind a property of the first object of the body that has it.
    pub fn text(&self, property: &str) -> Option<String> {
        let body = std::str::from_utf8(&self.body).ok()?;
        let (_, rest) = body.split_once(&format!("\"{property}\":\""))?;
        rest.split('"').next().map(str::to_owned)
    }
}

/// A connection that is made when it is needed.
pub struct Client {
    address: String,
    key: String,
    stream: Option<BufReader<TcpStream>>,
    line: String,
}

impl Client {
    /// A client of the server at `HOST:PORT`.
    pub fn new(address: &str, key: &str) -> Self {
        Client { address: address.to_owned(), key: key.to_owned(), stream: None, line: String::new() }
    }

    /// The bytes of a request.
    pub fn bytes(&self, method: &str, path: &str, idempotency_key: Option<&str>, body: &str) -> Vec<u8> {
        let mut text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nAlguna-Version: 2026-04-01\r\n",
            self.address, self.key
        );
        if let Some(key) = idempotency_key {
            text.push_str(&format!("Idempotency-Key: {key}\r\n"));
        }
        if method != "GET" {
            text.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        text.push_str(body);
        text.into_bytes()
    }

    /// Asks and waits for the answer. After an error the next request makes a new connection.
    pub fn request(&mut self, method: &str, path: &str, key: Option<&str>, body: &str) -> std::io::Result<Answer> {
        let bytes = self.bytes(method, path, key, body);
        let answer = self.exchange(&bytes);
        if answer.is_err() {
            self.stream = None;
        }
        answer
    }

    /// Sends a part of a request and hangs up.
    pub fn hang_up(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let stream = self.connected()?.get_mut();
        let result = stream.write_all(bytes);
        self.stream = None;
        result
    }

    fn connected(&mut self) -> std::io::Result<&mut BufReader<TcpStream>> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(&self.address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(40)))?;
            stream.set_write_timeout(Some(Duration::from_secs(40)))?;
            self.stream = Some(BufReader::new(stream));
        }
        self.stream.as_mut().ok_or_else(|| Error::from(ErrorKind::NotConnected))
    }

    fn exchange(&mut self, bytes: &[u8]) -> std::io::Result<Answer> {
        let mut line = std::mem::take(&mut self.line);
        let stream = self.connected()?;
        stream.get_mut().write_all(bytes)?;
        let mut answer = Answer::default();
        let mut length = 0;
        let mut close = false;
        for number in 0.. {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Err(Error::from(ErrorKind::UnexpectedEof));
            }
            if number == 0 {
                answer.status = line.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
                continue;
            }
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name {
                "content-length" | "Content-Length" => length = value.parse().unwrap_or(0),
                "transient-error" => answer.transient = value == "true",
                "connection" => close = value.eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        answer.body.resize(length, 0);
        stream.read_exact(&mut answer.body)?;
        if close {
            self.stream = None;
        }
        self.line = line;
        Ok(answer)
    }
}
