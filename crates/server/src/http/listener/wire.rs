//! Reads along with hyper and remembers what hyper forgets: how many `Content-Length` and `Transfer-Encoding` lines
//! each request head had.
//!
//! hyper drops `Content-Length` when `Transfer-Encoding` is there and merges equal repetitions, in either order,
//! before any of our code runs. This reader sees the same bytes first. It changes nothing and refuses nothing; it
//! follows hyper's own rules for the end of a head, of a sized body and of a chunked body, and when a message has no
//! certain end it stops and says so, which makes `framing::check` refuse whatever hyper still finds behind it.

use std::collections::VecDeque;

use super::super::framing::Wire;

/// The reader of one connection.
pub(super) struct Reader {
    state: State,
    /// The unfinished line when a head or a chunk line spans several reads.
    line: Vec<u8>,
    /// Longest line worth remembering: hyper refuses a larger head itself.
    max_line_bytes: usize,
    /// Length so far of the latest request line, however long.
    request_line_bytes: usize,
    heads: VecDeque<Wire>,
}

enum State {
    Head(Head),
    Sized(u64),
    Chunk(Chunk),
    Lost,
}

#[derive(Default)]
struct Head {
    /// The request line is complete.
    requested: bool,
    content_lengths: usize,
    length: u64,
    transfer_encodings: usize,
    /// The last coding so far is `chunked`.
    chunked: bool,
}

enum Chunk {
    Size,
    Data(u64),
    /// The line break after the data: CR still to come, or only LF.
    Break(&'static [u8]),
    Trailer,
}

impl Reader {
    pub(super) fn new(max_line_bytes: usize) -> Self {
        Reader {
            state: State::Head(Head::default()),
            line: Vec::new(),
            max_line_bytes,
            request_line_bytes: 0,
            heads: VecDeque::new(),
        }
    }

    /// Takes the bytes that hyper is about to get.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let used = match &mut self.state {
                State::Lost => return,
                State::Sized(left) | State::Chunk(Chunk::Data(left)) => skip(left, bytes),
                State::Chunk(Chunk::Break(expected)) => {
                    let met = expected.first() == bytes.first();
                    *expected = &expected[1..];
                    if !met {
                        self.lose();
                        return;
                    }
                    1
                }
                State::Head(_) | State::Chunk(Chunk::Size | Chunk::Trailer) => self.collect_line(bytes),
            };
            self.settle();
            bytes = &bytes[used..];
        }
    }

    /// What the head of the next request hyper hands over said.
    pub(super) fn next_head(&mut self) -> Wire {
        self.heads.pop_front().unwrap_or(Wire::Unknown)
    }

    /// The first byte of a head has come and the last has not.
    pub(super) fn is_inside_head(&self) -> bool {
        matches!(&self.state, State::Head(head) if head.requested || !self.line.is_empty())
    }

    /// Length so far of the latest request line.
    pub(super) fn request_line_bytes(&self) -> usize {
        self.request_line_bytes
    }

    /// Everything that came belongs to complete messages.
    pub(super) fn is_between_messages(&self) -> bool {
        matches!(self.state, State::Head(_)) && !self.is_inside_head()
    }

    /// Moves on when a counted stretch is used up.
    fn settle(&mut self) {
        match &self.state {
            State::Sized(0) => self.state = State::Head(Head::default()),
            State::Chunk(Chunk::Data(0)) => self.state = State::Chunk(Chunk::Break(b"\r\n")),
            State::Chunk(Chunk::Break([])) => self.state = State::Chunk(Chunk::Size),
            _ => {}
        }
    }

    /// Takes bytes up to and including the next LF, and acts on the line when it is complete.
    fn collect_line(&mut self, bytes: &[u8]) -> usize {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        if matches!(&self.state, State::Head(head) if !head.requested) {
            let before = if self.line.is_empty() { 0 } else { self.request_line_bytes };
            self.request_line_bytes = before.saturating_add(end.unwrap_or(bytes.len()));
        }
        let Some(end) = end else {
            self.line.extend_from_slice(bytes);
            // Empty lines before a request line are skipped, so a lone CR there is not the start of a head.
            if self.line == b"\r" && matches!(&self.state, State::Head(head) if !head.requested) {
                return bytes.len();
            }
            if self.line.len() > self.max_line_bytes {
                self.lose_line();
            }
            return bytes.len();
        };
        if self.line.is_empty() {
            self.act(&bytes[..end]);
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(&bytes[..end]);
            self.act(&line);
            line.clear();
            self.line = line;
        }
        end + 1
    }

    fn act(&mut self, line: &[u8]) {
        let (text, returned) = match line.strip_suffix(b"\r") {
            Some(text) => (text, true),
            None => (line, false),
        };
        match &mut self.state {
            State::Head(head) if !head.requested => head.requested = !text.is_empty(),
            State::Head(_) if text.is_empty() => self.finish_head(),
            State::Head(head) => head.take_field(text),
            // hyper insists on CRLF in chunk lines and fails the body otherwise.
            State::Chunk(_) if !returned || text.contains(&b'\r') => self.lose(),
            State::Chunk(Chunk::Size) => match chunk_size(text) {
                Some(0) => self.state = State::Chunk(Chunk::Trailer),
                Some(size) => self.state = State::Chunk(Chunk::Data(size)),
                None => self.lose(),
            },
            State::Chunk(_) if text.is_empty() => self.state = State::Head(Head::default()),
            State::Chunk(_) | State::Sized(_) | State::Lost => {}
        }
    }

    fn finish_head(&mut self) {
        let State::Head(head) = &self.state else {
            return;
        };
        self.heads.push_back(Wire::Head {
            content_lengths: head.content_lengths,
            transfer_encodings: head.transfer_encodings,
        });
        self.state = match (head.content_lengths, head.transfer_encodings) {
            (0, 0) => State::Head(Head::default()),
            (1, 0) if head.length == 0 => State::Head(Head::default()),
            (1, 0) => State::Sized(head.length),
            (0, _) if head.chunked => State::Chunk(Chunk::Size),
            _ => State::Lost,
        };
    }

    fn lose(&mut self) {
        self.state = State::Lost;
    }

    /// Lets go of the memory of a line that hyper refuses, or fails on, for its length.
    fn lose_line(&mut self) {
        if matches!(self.state, State::Chunk(_)) {
            self.lose();
        }
        self.line.truncate(1);
    }
}

impl Head {
    fn take_field(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            self.content_lengths += 1;
            // hyper answers 400 to anything but digits, so what this reader makes of it does not matter.
            self.length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.transfer_encodings += 1;
            let last = value.rsplit(|byte| *byte == b',').next().unwrap_or_default();
            self.chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
        }
    }
}

/// Uses as much of `bytes` as `left` counts.
fn skip(left: &mut u64, bytes: &[u8]) -> usize {
    let used = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    *left = left.saturating_sub(u64::try_from(used).unwrap_or(u64::MAX));
    used
}

/// The size of a chunk line: hexadecimal digits, then nothing, blanks or an extension.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let rest = line[digits..].trim_ascii_start();
    if !rest.is_empty() && !rest.starts_with(b";") {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(&line[..digits]).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads_of(bytes: &[u8], step: usize) -> Vec<Wire> {
        let mut reader = Reader::new(1_000);
        bytes.chunks(step).for_each(|chunk| reader.read(chunk));
        reader.heads.into()
    }

    fn plain(content_lengths: usize, transfer_encodings: usize) -> Wire {
        Wire::Head { content_lengths, transfer_encodings }
    }

    /// Whatever the size of the reads, the heads are the same.
    fn check(bytes: &[u8], expected: &[Wire]) {
        for step in 1..=bytes.len() {
            assert_eq!(heads_of(bytes, step), expected, "{} in steps of {step}", bytes.escape_ascii());
        }
    }

    #[test]
    fn pipelined_heads_are_told_apart() {
        check(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\n\n\r\n\nGET / HTTP/1.1\r\n\n", &[plain(0, 0); 3]);
    }

    #[test]
    fn bodies_that_look_like_heads_are_bodies() {
        let inner = "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let sized =
            format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{inner}GET / HTTP/1.1\r\n\r\n", inner.len());
        check(sized.as_bytes(), &[plain(1, 0), plain(0, 0)]);
        let chunked = format!(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x};a=\"b\"\r\n{inner}\r\n1 \r\nx\r\n0\r\nTrailer: y\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            inner.len()
        );
        check(chunked.as_bytes(), &[plain(0, 1), plain(0, 0)]);
    }

    #[test]
    fn both_orders_of_length_and_encoding_are_seen_and_end_the_trust() {
        for fields in
            ["content-length: 3\r\nTRANSFER-ENCODING:chunked", "Transfer-Encoding: chunked\r\nContent-Length: 3"]
        {
            let bytes = format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n");
            check(bytes.as_bytes(), &[plain(1, 1)]);
        }
        check(
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nxGET / HTTP/1.1\r\n\r\n",
            &[plain(2, 0)],
        );
    }

    #[test]
    fn malformed_chunks_end_the_trust() {
        for body in ["x\r\n", "1\nx\r\n0\r\n\r\n", "1\r\nxy\r\n", "\r\n", "1;a\rb\r\nx\r\n", "11111111111111111\r\n"]
        {
            let bytes = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}GET / HTTP/1.1\r\n\r\n");
            let mut reader = Reader::new(1_000);
            reader.read(bytes.as_bytes());
            assert_eq!(reader.next_head(), plain(0, 1));
            assert_eq!(reader.next_head(), Wire::Unknown, "{body:?}");
        }
    }

    #[test]
    fn where_the_reader_stands() {
        let mut reader = Reader::new(10);
        assert!(reader.is_between_messages());
        reader.read(b"\r\n");
        assert!(reader.is_between_messages());
        reader.read(b"G");
        assert!(reader.is_inside_head() && !reader.is_between_messages());
        reader.read(b"ET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        assert!(reader.is_inside_head() && reader.line.len() <= 10);
        reader.read(b" HTTP/1.1\r\n");
        assert!(reader.is_inside_head());
        assert_eq!(reader.request_line_bytes(), 50);
        reader.read(b"Content-Length: 2\r\n\r\n1");
        assert!(!reader.is_inside_head() && !reader.is_between_messages());
        reader.read(b"2");
        assert!(reader.is_between_messages());
    }
}
