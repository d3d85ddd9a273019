//! Sockets that hold on: a thousand that say nothing, and others that speak a byte at a time, while others want answers.

use super::Rig;
use super::ledger::{Connections, Ledger, Outcome};
use super::two_servers::longest_pause;
use crate::client::Client;
use crate::postgres::run as run_quietly;
use crate::server::{Server, doctor, make_key};
use anyhow::{Context, ensure};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

const SILENT: usize = 500;
const IDLE: usize = 500;
const SLOW: usize = 100;
/// The server's deadlines for this test, so that nobody waits for the usual ones.
const DEADLINES: [(&str, &str); 4] = [
    ("CUENTA_LOG_LEVEL", "off"),
    ("CUENTA_HEADER_TIMEOUT_MS", "2000"),
    ("CUENTA_BODY_TIMEOUT_MS", "3000"),
    ("CUENTA_IDLE_TIMEOUT_MS", "4000"),
];
/// By then all of them have been hung up on.
const PATIENCE: Duration = Duration::from_secs(10);
/// What others may notice of them.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Opens all of them again and again under load.
pub fn run(rig: &Rig) -> anyhow::Result<Outcome> {
    // Each socket is a file here and one in the server; containers often allow 1,024.
    let ours = std::process::id().to_string();
    drop(run_quietly(Command::new("prlimit").args(["--nofile=8192:", "--pid", &ours])));
    let database = format!("sqlite:{}", rig.directory.join("sockets.db").display());
    let (_, key) = make_key(&rig.binary, &database)?;
    let server = Server::start_with(&rig.binary, &database, &DEADLINES)?;
    let ledger = Ledger::new("sockets", Connections::Hold);
    let load = ledger.load(&server.address, &key, 4);
    let rounds = rig.rounds(1, 5);
    let mut longest = Duration::ZERO;
    for _ in 0..rounds {
        let mut held = Held::open(&server, &key)?;
        let drip = std::thread::spawn(move || held.drip());
        longest = longest.max(longest_pause(&ledger, PATIENCE));
        let left = drip.join().ok().context("the slow senders panicked")?;
        ensure!(left == 0, "{left} connections are still open after {PATIENCE:?}");
        rig.progress.inc(1);
    }
    load.stop();
    ensure!(longest < LONGEST_PAUSE, "idle and slow connections stopped the others for {longest:?}");
    ledger.settle(&server.address, &key)?;
    let (peak, _) = server.memory_kib();
    server.stop()?;
    doctor(&rig.binary, &database)?;
    let sockets = SILENT + IDLE + 2 * SLOW;
    let note = format!(
        "{sockets} sockets held; longest pause for others {} ms; peak memory {} MiB",
        longest.as_millis(),
        peak / 1_024
    );
    ledger.compare_all(&database, rounds, note)
}

/// Connections that are held open as long as the server lets them.
struct Held {
    quiet: Vec<TcpStream>,
    /// With what they still have to say.
    slow: Vec<(TcpStream, Vec<u8>)>,
}

impl Held {
    fn open(server: &Server, key: &str) -> anyhow::Result<Self> {
        let connect = || -> anyhow::Result<TcpStream> {
            TcpStream::connect(&server.address).context("a connection more is refused")
        };
        let mut quiet = Vec::new();
        for number in 0..SILENT + IDLE {
            let mut stream = connect()?;
            if number >= SILENT {
                let request = Client::new(&server.address, key).bytes("GET", "/customers?limit=1", None, "");
                stream.write_all(&request)?;
            }
            quiet.push(stream);
        }
        let mut slow = Vec::new();
        for number in 0..2 * SLOW {
            let mut stream = connect()?;
            let body = "x".repeat(1_000);
            let request = Client::new(&server.address, key).bytes("POST", "/customers", None, &body);
            // The one kind stalls within the head, the other within the body.
            let at = if number < SLOW { 20 } else { request.len() - 990 };
            let (now, later) = request.split_at_checked(at).context("a request is longer")?;
            stream.write_all(now)?;
            slow.push((stream, later.to_vec()));
        }
        let mut streams = quiet.iter().chain(slow.iter().map(|(stream, _)| stream));
        streams.try_for_each(|stream| stream.set_nonblocking(true))?;
        Ok(Held { quiet, slow })
    }

    /// Sends a byte on each slow connection every now and then, until the server has hung up on all; gives how many it
    /// has not.
    fn drip(&mut self) -> usize {
        let start = Instant::now();
        while start.elapsed() < PATIENCE && !(self.quiet.is_empty() && self.slow.is_empty()) {
            std::thread::sleep(Duration::from_millis(150));
            self.quiet.retain_mut(is_open);
            self.slow.retain_mut(|(stream, rest)| {
                let byte = rest.pop().unwrap_or(b'x');
                is_open(stream) && stream.write_all(&[byte]).is_ok()
            });
        }
        self.quiet.len() + self.slow.len()
    }
}

/// Reads away what the server says, to see whether it has hung up.
fn is_open(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 4_096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}
