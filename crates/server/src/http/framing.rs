//! Protects the rooms behind it from requests that two readers could understand differently. Everything
//! RFC 9112 forbids and hyper lets through is refused here, before a route, a key or a body is looked at.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use http::{Method, StatusCode, Version};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

/// How large the head of a request may be.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of all header lines together (name, value and four bytes of punctuation each).
    pub max_header_bytes: usize,
    /// Bytes of the request target.
    pub max_uri_bytes: usize,
}

/// How large a body may be and how long it may take to arrive.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Bytes of the body after transfer decoding.
    pub max_bytes: usize,
    /// From the call of [`read_body`] to the last byte.
    pub timeout: Duration,
}

/// What the raw bytes of a request head said about framing.
///
/// The listener puts it into the extensions of each request, because hyper removes `Content-Length` when
/// `Transfer-Encoding` is there too and merges equal repetitions: afterwards the header map cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// The head was read by the listener as well.
    Head {
        /// `Content-Length` lines on the wire.
        content_lengths: usize,
        /// `Transfer-Encoding` lines on the wire.
        transfer_encodings: usize,
    },
    /// An earlier message on this connection had no certain end, so nothing after it can be trusted.
    Unknown,
}

/// A request that is answered without being routed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 400, 414, 431 or 501.
    pub status: StatusCode,
    /// Stable, snake case.
    pub code: &'static str,
    /// For the caller; never repeats what was sent.
    pub message: String,
    /// The connection must end after the answer (`Connection: close`): where the next message starts is uncertain.
    pub close: bool,
}

/// A body that could not be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyRefusal {
    /// More than [`BodyLimits::max_bytes`]: 413, and close.
    TooLarge,
    /// Not complete within [`BodyLimits::timeout`]: 408, and close.
    TimedOut,
    /// The framing broke or the caller hung up: 400, and close.
    Broken,
}

impl BodyRefusal {
    /// The status that tells the caller.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            BodyRefusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            BodyRefusal::TimedOut => StatusCode::REQUEST_TIMEOUT,
            BodyRefusal::Broken => StatusCode::BAD_REQUEST,
        }
    }
}

impl fmt::Display for BodyRefusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            BodyRefusal::TooLarge => "The request body is too large.",
            BodyRefusal::TimedOut => "The request body did not arrive in time.",
            BodyRefusal::Broken => "The request body ended early or its chunks are malformed.",
        })
    }
}

/// Headers of which a second line is refused, because taking either one in silence could be the wrong one.
const SINGLE: [HeaderName; 4] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("alguna-version"),
];

/// Headers that browsers and other sites fill and that decide nothing here: any legal byte may stand in them.
const FOREIGN: [HeaderName; 3] = [header::COOKIE, header::REFERER, header::USER_AGENT];

/// Refuses a request whose head is ambiguous, malformed or too large. Called first for every request.
///
/// # Errors
/// The refusal to answer with; 400 unless the message names a size (414, 431) or something not implemented (501).
pub fn check(parts: &Parts, limits: &HeadLimits) -> Result<(), Refusal> {
    framing(parts)?;
    sizes(parts, limits)?;
    target(parts)?;
    host(parts)?;
    single(&parts.headers)?;
    values(&parts.headers)
}

/// Reads a whole body within its limits. A declared length above the limit is refused before a byte is read, so a
/// caller that sent `Expect: 100-continue` never sends the body.
///
/// # Errors
/// [`BodyRefusal`]; the connection must end after the answer.
pub async fn read_body<B>(body: B, limits: BodyLimits) -> Result<Bytes, BodyRefusal>
where
    B: Body<Data = Bytes>,
{
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > limits.max_bytes {
        return Err(BodyRefusal::TooLarge);
    }
    let deadline = Instant::now() + limits.timeout;
    let mut body = pin!(body);
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    loop {
        let frame = match timeout_at(deadline, body.frame()).await {
            Err(_) => return Err(BodyRefusal::TimedOut),
            Ok(Some(Err(_))) => return Err(BodyRefusal::Broken),
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if first.len().max(joined.len()).saturating_add(data.len()) > limits.max_bytes {
            return Err(BodyRefusal::TooLarge);
        }
        // Most bodies arrive in one frame, which is passed on without a copy.
        if first.is_empty() && joined.is_empty() {
            first = data;
            continue;
        }
        if joined.is_empty() {
            joined.reserve(declared.max(first.len() + data.len()));
            joined.extend_from_slice(&first);
        }
        joined.extend_from_slice(&data);
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}

/// RFC 9112 section 6: one way to find the end of the message, or none at all.
fn framing(parts: &Parts) -> Result<(), Refusal> {
    let seen = |name| parts.headers.get_all(name).iter().count();
    let (lengths, encodings) = match parts.extensions.get::<Wire>() {
        Some(Wire::Unknown) => {
            return Err(refuse_and_close(
                "framing_uncertain",
                "An earlier request on this connection had no certain end.",
            ));
        }
        Some(Wire::Head { content_lengths, transfer_encodings }) => (*content_lengths, *transfer_encodings),
        None => (seen(header::CONTENT_LENGTH), seen(header::TRANSFER_ENCODING)),
    };
    if lengths > 0 && encodings > 0 {
        return Err(refuse_and_close(
            "framing_ambiguous",
            "Content-Length and Transfer-Encoding must not be sent together.",
        ));
    }
    if lengths > 1 {
        return Err(refuse_and_close("header_repeated", "Content-Length must be sent once."));
    }
    if encodings > 0 { transfer_encoding(&parts.headers) } else { Ok(()) }
}

/// `chunked` alone is served. Another coding before it is one this server does not know; anything else is malformed.
fn transfer_encoding(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = Vec::new();
    for value in headers.get_all(header::TRANSFER_ENCODING) {
        for coding in value.as_bytes().split(|byte| *byte == b',') {
            codings.push(coding.trim_ascii());
        }
    }
    let is_chunked = |coding: &&[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let Some((last, earlier)) = codings.split_last() else {
        return Ok(());
    };
    let well_formed = is_chunked(last) && earlier.iter().all(|coding| is_token(coding) && !is_chunked(coding));
    match (well_formed, earlier.is_empty()) {
        (true, true) => Ok(()),
        (true, false) => Err(Refusal {
            status: StatusCode::NOT_IMPLEMENTED,
            code: "transfer_encoding_unknown",
            message: "The only transfer encoding is chunked.".to_owned(),
            close: true,
        }),
        (false, _) => {
            Err(refuse_and_close("transfer_encoding_malformed", "Transfer-Encoding must be chunked, exactly once."))
        }
    }
}

fn sizes(parts: &Parts, limits: &HeadLimits) -> Result<(), Refusal> {
    let uri = &parts.uri;
    let target = uri.path_and_query().map_or(0, |text| text.as_str().len())
        + uri.authority().map_or(0, |text| text.as_str().len())
        + uri.scheme_str().map_or(0, |text| text.len() + "://".len());
    if target > limits.max_uri_bytes {
        return Err(Refusal {
            status: StatusCode::URI_TOO_LONG,
            code: "uri_too_long",
            message: format!("The request target is longer than {} bytes.", limits.max_uri_bytes),
            close: false,
        });
    }
    let total: usize =
        parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum();
    if total > limits.max_header_bytes {
        return Err(Refusal {
            status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            code: "headers_too_large",
            message: format!("The header fields are larger than {} bytes together.", limits.max_header_bytes),
            close: false,
        });
    }
    Ok(())
}

/// RFC 9112 section 3.2: origin-form and absolute-form are served; `OPTIONS *` goes on to the router, which knows no
/// such path.
fn target(parts: &Parts) -> Result<(), Refusal> {
    if parts.method == Method::CONNECT {
        return Err(Refusal {
            status: StatusCode::NOT_IMPLEMENTED,
            code: "connect_unsupported",
            message: "CONNECT is not implemented.".to_owned(),
            close: true,
        });
    }
    let uri = &parts.uri;
    if uri.path() == "*" && parts.method != Method::OPTIONS {
        return Err(refuse("target_malformed", "The target * goes with OPTIONS only."));
    }
    let Some(authority) = uri.authority() else {
        return Ok(());
    };
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(refuse("target_malformed", "The request target must be a path or an http URI."));
    }
    if authority.as_str().contains('@') {
        return Err(refuse("target_malformed", "The request target must not carry user information."));
    }
    Ok(())
}

/// RFC 9112 section 3.2: exactly one valid `Host` on HTTP/1.1. HTTP/1.0, which small health checkers still speak, may
/// leave it out.
fn host(parts: &Parts) -> Result<(), Refusal> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let Some(host) = hosts.next() else {
        if parts.version < Version::HTTP_11 {
            return Ok(());
        }
        return Err(refuse_and_close("host_missing", "The Host header is missing."));
    };
    if hosts.next().is_some() {
        return Err(refuse_and_close("host_repeated", "The Host header must be sent once."));
    }
    if !is_host(host.as_bytes()) {
        return Err(refuse_and_close("host_malformed", "The Host header is not a host with an optional port."));
    }
    Ok(())
}

fn single(headers: &HeaderMap) -> Result<(), Refusal> {
    match SINGLE.iter().find(|name| headers.get_all(*name).iter().nth(1).is_some()) {
        Some(name) => Err(refuse("header_repeated", &format!("The header {name} must be sent once."))),
        None => Ok(()),
    }
}

/// Values are visible ASCII and spaces; tabs and other bytes are read differently by different programs.
fn values(headers: &HeaderMap) -> Result<(), Refusal> {
    let plain = |value: &[u8]| value.iter().all(|byte| matches!(byte, b' '..=b'~'));
    let strange = headers.iter().find(|(name, value)| !plain(value.as_bytes()) && !FOREIGN.contains(name));
    match strange {
        // The name is a token by RFC 9110, so repeating it is safe; the value is not repeated.
        Some((name, _)) => {
            Err(refuse("header_malformed", &format!("The header {name} holds a byte that is not visible ASCII.")))
        }
        None => Ok(()),
    }
}

fn is_host(host: &[u8]) -> bool {
    let (name, port) = match host.iter().rposition(|byte| *byte == b':') {
        Some(colon) if !host.ends_with(b"]") => (&host[..colon], &host[colon + 1..]),
        _ => (host, &b""[..]),
    };
    let literal = name.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
    let named = match literal {
        Some(address) => address.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')),
        None => name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%".contains(byte)),
    };
    !name.is_empty() && named && port.len() <= 5 && port.iter().all(u8::is_ascii_digit)
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn refuse(code: &'static str, message: &str) -> Refusal {
    Refusal { status: StatusCode::BAD_REQUEST, code, message: message.to_owned(), close: false }
}

fn refuse_and_close(code: &'static str, message: &str) -> Refusal {
    Refusal { close: true, ..refuse(code, message) }
}

#[cfg(test)]
mod tests;
