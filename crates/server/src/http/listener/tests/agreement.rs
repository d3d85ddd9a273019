//! Random streams of legal and mutilated messages: what the raw reader says of a head is what hyper found in it.

use std::sync::Mutex;

use crate::http::framing::Wire;

use super::*;

/// Repeatable random numbers; the quality hardly matters.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit).unwrap()).unwrap()
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

const LEGAL: [&str; 12] = [
    "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\nGET /2 HTTP/1.1\nHost: a\n\n",
    "\nDELETE /3 HTTP/1.1\r\nContent-Length: 0\r\nHost: a\r\n\n",
    "POST /4 HTTP/1.1\r\nHost: a\r\ncontent-length:3\r\n\r\nabc",
    "POST /5 HTTP/1.1\r\nHost: a\r\nCONTENT-LENGTH: 0042\t\r\n\r\nGET / HTTP/1.1\r\nContent-Length: 100\r\n\r\n\r\n\r\n",
    "POST /6 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /7 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:chunked\n\n3;a=b\r\n\r\n\r\r\n0\r\n\r\n",
    "POST /8 HTTP/1.1\r\nTransfer-Encoding: \tCHUNKED \r\nHost: a\r\n\r\n00a\t \r\n0\r\n\r\nGET /\r\n1\r\n\n\r\n0;x\r\nT: v\r\nU: w\r\n\r\n",
    "POST /9 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
    "PUT /10 HTTP/1.1\r\nHost: a\r\nX: Content-Length: 5\r\nX-Content-Length: 6\r\n\r\n",
    "GET http://b/11 HTTP/1.1\r\nHost: a\r\nTransfer-Encodin: chunked\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n",
];

const DEBRIS: [&str; 22] = [
    "\r",
    "\n",
    "\r\n",
    " ",
    "\t",
    ":",
    "0",
    "5",
    "-1",
    "a",
    "\0",
    "\u{b}",
    "0\r\n\r\n",
    "0\n\n",
    "Content-Length: 3\r\n",
    "Content-Length: 4\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    ";\n\r\n",
    " HTTP/1.0\r\n",
    "HTTP/1.1",
];

/// Some messages in a row; the flag says whether all of them are legal.
fn stream(dice: &mut Dice) -> (String, bool) {
    let mut text: String = (0..=dice.below(6)).map(|_| dice.pick(&LEGAL)).collect();
    let wounds = dice.below(4);
    for _ in 0..wounds {
        let at = dice.below(text.len());
        let until = at + dice.below(3).min(text.len() - at);
        text.replace_range(at..until, dice.pick(&DEBRIS));
    }
    (text, wounds == 0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reader_and_hyper_agree_on_every_head() {
    let seen: Arc<Mutex<Vec<(Wire, usize, usize)>>> = Arc::default();
    let record = Arc::clone(&seen);
    let router = Router::new().fallback(any(move |request: AxumRequest| async move {
        let (parts, body) = request.into_parts();
        let count = |name| parts.headers.get_all(name).iter().count();
        let (lengths, encodings) = (count(header::CONTENT_LENGTH), count(header::TRANSFER_ENCODING));
        let wire = *parts.extensions.get::<Wire>().unwrap();
        record.lock().unwrap().push((wire, lengths, encodings));
        let bodies = BodyLimits { max_bytes: 10_000, timeout: Duration::from_millis(300) };
        let _ = framing::read_body(body, bodies).await;
    }));
    let listener = bind("127.0.0.1:0", "--listen").await.unwrap();
    let address = listener.local_addr().unwrap();
    let short = Duration::from_millis(100);
    let settings = Settings { header_timeout: short, idle_timeout: short, ..settings() };
    let server = tokio::spawn(serve(listener, router, settings, std::future::pending()));

    let (mut certain, mut uncertain) = (0, 0);
    for seed in 1..=1_000_u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (text, legal) = stream(&mut dice);
        let mut peer = TcpStream::connect(address).await.unwrap();
        let step = 1 + dice.below(text.len());
        for part in text.as_bytes().chunks(step) {
            // The server may have had enough already.
            if peer.write_all(part).await.is_err() {
                break;
            }
        }
        let _ = peer.shutdown().await;
        let mut answers = Vec::new();
        let _ = peer.read_to_end(&mut answers).await;
        for (wire, lengths, encodings) in seen.lock().unwrap().drain(..) {
            match wire {
                Wire::Unknown => {
                    assert!(!legal, "seed {seed}: a legal head was lost in {text:?}");
                    uncertain += 1;
                }
                Wire::Head { content_lengths, transfer_encodings } => {
                    assert_eq!(transfer_encodings, encodings, "seed {seed}: {text:?}");
                    let kept = usize::from(transfer_encodings == 0 && content_lengths > 0);
                    assert_eq!(kept, lengths, "seed {seed}: {text:?}");
                    certain += 1;
                }
            }
        }
    }
    server.abort();
    assert!(certain > 1_500, "{certain} heads");
    assert!(uncertain < certain / 20, "{uncertain} of {certain} heads");
}
