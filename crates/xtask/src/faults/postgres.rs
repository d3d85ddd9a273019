//! What dies between server and database: PostgreSQL itself, and a connection inside COMMIT.

use super::ledger::{Connections, Ledger, Outcome, rows};
use super::{Rig, random, random_moment};
use crate::postgres::Postgres;
use crate::server::{Server, doctor, make_key};
use anyhow::ensure;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a server may take to find its database again.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection is cut behind one of so many commits.
const ONE_IN: u64 = 20;
/// Cuts take no longer than this.
const MOST_TIME: Duration = Duration::from_secs(180);

/// PostgreSQL is killed and comes back, under load. The server lives on and answers 503 meanwhile.
pub fn killed(rig: &Rig) -> anyhow::Result<Outcome> {
    under_load(rig, "killed", rig.rounds(3, 30), "PostgreSQL was back", |postgres| {
        postgres.kill()?;
        std::thread::sleep(random_moment(0, 1_000));
        postgres.launch()
    })
}

/// PostgreSQL freezes for a while, under load: nobody knows better than to wait, and nothing may break.
pub fn frozen(rig: &Rig) -> anyhow::Result<Outcome> {
    under_load(rig, "frozen", rig.rounds(1, 5), "PostgreSQL went on", |postgres| {
        postgres.pause()?;
        std::thread::sleep(random_moment(2_000, 4_000));
        postgres.resume()
    })
}

/// Strikes PostgreSQL so often while clients write, and looks how soon they write again.
fn under_load(
    rig: &Rig,
    name: &'static str,
    rounds: usize,
    end: &str,
    strike: impl Fn(&Postgres) -> anyhow::Result<()>,
) -> anyhow::Result<Outcome> {
    let database = rig.postgres()?.create_database(name)?;
    let (_, key) = make_key(&rig.binary, &database)?;
    let server = Server::start(&rig.binary, &database)?;
    let ledger = Ledger::new(name, Connections::Hold);
    let mut longest = Duration::ZERO;
    for _ in 0..rounds {
        let load = ledger.load(&server.address, &key, 8);
        std::thread::sleep(random_moment(100, 600));
        strike(rig.postgres()?)?;
        longest = longest.max(writes_again(&ledger)?);
        load.stop();
        rig.progress.inc(1);
    }
    ledger.settle(&server.address, &key)?;
    ledger.served(&server.address, &key)?;
    server.stop()?;
    doctor(&rig.binary, &database)?;
    let (repeated, longest) = (ledger.repeated(), longest.as_millis());
    let note = format!("{repeated} requests repeated under their key; writes again at most {longest} ms after {end}");
    ledger.compare_all(&database, rounds, note)
}

/// Waits until a load is acknowledged again, and gives how long that took.
fn writes_again(ledger: &Ledger) -> anyhow::Result<Duration> {
    let (back, count) = (Instant::now(), ledger.count());
    while ledger.count() < count + 20 {
        ledger.only_clear_answers()?;
        ensure!(back.elapsed() < PATIENCE, "no writes {PATIENCE:?} after PostgreSQL was back");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(back.elapsed())
}

/// A proxy in front of PostgreSQL cuts connections right behind a COMMIT: nobody knows whether it happened.
pub fn commit_cut(rig: &Rig) -> anyhow::Result<Outcome> {
    let upstream = rig.postgres()?.port;
    let direct = rig.postgres()?.create_database("cut")?;
    let (_, key) = make_key(&rig.binary, &direct)?;
    let proxy = Proxy::start(upstream)?;
    let through = direct.replace(&format!(":{upstream}/"), &format!(":{}/", proxy.port));
    let server = Server::start(&rig.binary, &through)?;
    let ledger = Ledger::new("cut", Connections::Hold);
    ledger.be_patient();
    let rounds = rig.rounds(20, 500);
    let mut happened = 0;
    let mut open = 0;
    let start = Instant::now();
    while proxy.cuts() < rounds && start.elapsed() < MOST_TIME {
        let load = ledger.load(&server.address, &key, 8);
        proxy.cutting.store(true, Ordering::Release);
        std::thread::sleep(Duration::from_millis(1_000));
        load.stop();
        proxy.cutting.store(false, Ordering::Release);
        // Of the outcomes that nobody knows now, some happened and some did not: else the rig proves nothing.
        let (names, rows) = (ledger.open(), rows(&direct)?);
        open += names.len();
        happened += names.iter().filter(|name| rows.contains_key(*name)).count();
        ledger.settle(&server.address, &key)?;
        rig.progress.set_position(u64::try_from(proxy.cuts()).unwrap_or(0));
    }
    ensure!(proxy.cuts() >= rounds, "only {} of {rounds} cuts in {MOST_TIME:?}", proxy.cuts());
    ledger.served(&server.address, &key)?;
    server.stop()?;
    doctor(&rig.binary, &direct)?;
    let note =
        format!("of {open} requests with an unknown outcome {happened} had happened before they were repeated");
    ledger.compare_all(&direct, proxy.cuts(), note)
}

/// Passes bytes on between the server and PostgreSQL.
struct Proxy {
    port: u16,
    cuts: Arc<AtomicUsize>,
    cutting: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

impl Proxy {
    fn start(upstream: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let proxy = Proxy {
            port: listener.local_addr()?.port(),
            cuts: Arc::default(),
            cutting: Arc::default(),
            over: Arc::default(),
        };
        let (cuts, cutting, over) = (Arc::clone(&proxy.cuts), Arc::clone(&proxy.cutting), Arc::clone(&proxy.over));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::Acquire) {
                    break;
                }
                relay(stream, upstream, &cuts, &cutting);
            }
        });
        Ok(proxy)
    }

    fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Acquire)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        // Wakes the thread, which then sees that it is over.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

/// One connection. One in twenty commits is cut: before it went on, right behind it, or a moment later.
fn relay(client: TcpStream, upstream: u16, cuts: &Arc<AtomicUsize>, cutting: &Arc<AtomicBool>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)) else { return };
    drop(client.set_nodelay(true).and_then(|()| server.set_nodelay(true)));
    let (Ok(mut from_server), Ok(mut to_client)) = (server.try_clone(), client.try_clone()) else { return };
    std::thread::spawn(move || {
        drop(std::io::copy(&mut from_server, &mut to_client));
        drop(to_client.shutdown(Shutdown::Both));
    });
    let (cuts, cutting) = (Arc::clone(cuts), Arc::clone(cutting));
    std::thread::spawn(move || {
        let (mut client, mut server) = (client, server);
        let mut buffer = vec![0; 65_536];
        while let Ok(read @ 1..) = client.read(&mut buffer) {
            let bytes = buffer.get(..read).unwrap_or_default();
            let commits = bytes.windows(7).any(|window| window == b"COMMIT\0");
            let cut = commits && cutting.load(Ordering::Acquire) && random(0, ONE_IN) == 0;
            let kind = random(0, 3);
            if cut && kind == 0 {
                cuts.fetch_add(1, Ordering::Release);
                break;
            }
            if server.write_all(bytes).is_err() {
                break;
            }
            if cut {
                cuts.fetch_add(1, Ordering::Release);
                std::thread::sleep(if kind == 1 { Duration::ZERO } else { random_moment(0, 3) });
                break;
            }
        }
        // The client's side first: the answer must not slip through behind the cut.
        drop(client.shutdown(Shutdown::Both));
        drop(server.shutdown(Shutdown::Both));
    });
}
