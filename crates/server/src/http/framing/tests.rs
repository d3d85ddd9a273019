use super::*;
use http::{HeaderValue, Request};
use http_body::Frame;
use http_body_util::Full;
use std::pin::Pin;
use std::task::{Context, Poll};

const LIMITS: HeadLimits = HeadLimits { max_header_bytes: 16_384, max_uri_bytes: 8_192 };

fn request(uri: &str, headers: &[(&str, &[u8])]) -> Parts {
    let mut request = Request::builder().uri(uri);
    for (name, value) in headers {
        request = request.header(*name, HeaderValue::from_bytes(value).unwrap());
    }
    request.body(()).unwrap().into_parts().0
}

fn status(parts: &Parts) -> u16 {
    check(parts, &LIMITS).map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
}

#[test]
fn ordinary_requests_pass() {
    for host in ["localhost", "localhost:8080", "127.0.0.1:80", "[::1]:8080", "[::1]", "a.example.", "a_b:"] {
        assert_eq!(status(&request("/", &[("host", host.as_bytes())])), 200, "{host}");
    }
    let foreign = [("host", &b"a"[..]), ("user-agent", b"caf\xc3\xa9"), ("cookie", b"a=\xff")];
    assert_eq!(status(&request("/", &foreign)), 200);
    assert_eq!(status(&request("http://b.example/x?y", &[("host", b"a")])), 200);
}

#[test]
fn host_is_there_once_and_valid() {
    assert_eq!(status(&request("/", &[])), 400);
    assert_eq!(status(&request("/", &[("host", b"a"), ("host", b"a")])), 400);
    for host in ["", "a b", "a,b", "a/b", "user@a", "a:b", "a:123456", ":80", "[::1", "[]x"] {
        assert_eq!(status(&request("/", &[("host", host.as_bytes())])), 400, "{host}");
    }
    let mut old = request("/", &[]);
    old.version = Version::HTTP_10;
    assert_eq!(status(&old), 200);
}

#[test]
fn transfer_encodings() {
    let cases: [(&[&str], u16); 10] = [
        (&["chunked"], 200),
        (&["Chunked"], 200),
        (&["chunked, chunked"], 400),
        (&["chunked", "chunked"], 400),
        (&["gzip, chunked"], 501),
        (&["gzip", "chunked"], 501),
        (&["identity, chunked"], 501),
        (&[", chunked"], 400),
        (&["gzip"], 400),
        (&["a b, chunked"], 400),
    ];
    for (values, expected) in cases {
        let mut headers = vec![("host", &b"a"[..])];
        headers.extend(values.iter().map(|value| ("transfer-encoding", value.as_bytes())));
        let parts = request("/", &headers);
        assert_eq!(status(&parts), expected, "{values:?}");
        assert!(expected == 200 || check(&parts, &LIMITS).unwrap_err().close, "{values:?}");
    }
}

#[test]
fn the_wire_outweighs_the_header_map() {
    let host = [("host", &b"a"[..])];
    for wire in [
        Wire::Head { content_lengths: 1, transfer_encodings: 1 },
        Wire::Head { content_lengths: 2, transfer_encodings: 0 },
        Wire::Unknown,
    ] {
        let mut parts = request("/", &host);
        parts.extensions.insert(wire);
        assert!(check(&parts, &LIMITS).unwrap_err().close, "{wire:?}");
    }
    let both = [("host", &b"a"[..]), ("content-length", b"1"), ("transfer-encoding", b"chunked")];
    assert_eq!(status(&request("/", &both)), 400);
}

#[test]
fn what_must_be_single() {
    for name in ["authorization", "idempotency-key", "content-type", "alguna-version", "content-length"] {
        assert_eq!(status(&request("/", &[("host", b"a"), (name, b"1"), (name, b"1")])), 400, "{name}");
    }
    assert_eq!(status(&request("/", &[("host", b"a"), ("accept", b"1"), ("accept", b"1")])), 200);
}

#[test]
fn values_are_visible_ascii() {
    for value in [&b"a\tb"[..], b"\xff", b"caf\xc3\xa9"] {
        assert_eq!(status(&request("/", &[("host", b"a"), ("x-thing", value)])), 400);
    }
}

#[test]
fn sizes_are_capped() {
    assert_eq!(status(&request(&format!("/{}", "a".repeat(8_191)), &[("host", b"a")])), 200);
    assert_eq!(status(&request(&format!("/{}", "a".repeat(8_192)), &[("host", b"a")])), 414);
    let fits = vec![b'a'; 16_384 - 9 - 9];
    assert_eq!(status(&request("/", &[("host", b"a"), ("x-big", &fits)])), 200);
    assert_eq!(status(&request("/", &[("host", b"aa"), ("x-big", &fits)])), 431);
}

#[test]
fn targets() {
    let mut parts = request("a.example:443", &[("host", b"a")]);
    assert_eq!(status(&parts), 400);
    parts.method = Method::CONNECT;
    assert_eq!(status(&parts), 501);
    let mut parts = request("*", &[("host", b"a")]);
    assert_eq!(status(&parts), 400);
    parts.method = Method::OPTIONS;
    assert_eq!(status(&parts), 200);
    assert_eq!(status(&request("http://u@a/", &[("host", b"a")])), 400);
    assert_eq!(status(&request("ftp://a/", &[("host", b"a")])), 400);
}

fn limits(max_bytes: usize) -> BodyLimits {
    BodyLimits { max_bytes, timeout: Duration::from_millis(20) }
}

/// A body of given frames, which then ends, breaks or never goes on.
struct Frames(Vec<&'static str>, End);

#[derive(Clone, Copy)]
enum End {
    Whole,
    Broken,
    Stalled,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = ();

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ()>>> {
        match (self.0.is_empty(), self.1) {
            (false, _) => Poll::Ready(Some(Ok(Frame::data(self.0.remove(0).into())))),
            (true, End::Whole) => Poll::Ready(None),
            (true, End::Broken) => Poll::Ready(Some(Err(()))),
            (true, End::Stalled) => Poll::Pending,
        }
    }
}

#[tokio::test]
async fn bodies_are_read_whole() {
    assert_eq!(read_body(Full::new(Bytes::from_static(b"abc")), limits(3)).await.unwrap(), "abc");
    assert_eq!(read_body(Frames(vec!["a", "", "bc", "d"], End::Whole), limits(4)).await.unwrap(), "abcd");
    assert_eq!(read_body(Frames(vec![], End::Whole), limits(0)).await.unwrap(), "");
}

#[tokio::test]
async fn bodies_are_refused() {
    let full = Full::new(Bytes::from_static(b"abc"));
    assert_eq!(read_body(full, limits(2)).await, Err(BodyRefusal::TooLarge));
    assert_eq!(read_body(Frames(vec!["a", "b", "c"], End::Whole), limits(2)).await, Err(BodyRefusal::TooLarge));
    assert_eq!(read_body(Frames(vec!["a"], End::Broken), limits(9)).await, Err(BodyRefusal::Broken));
    assert_eq!(read_body(Frames(vec!["a"], End::Stalled), limits(9)).await, Err(BodyRefusal::TimedOut));
}
