//! What dies between the parts: PostgreSQL, a connection inside COMMIT, a client, the other server.

use super::kill::random_moment;
use super::ledger::Ledger;
use super::{Bench, Outcome};
use crate::client::Client;
use crate::server::{Server, doctor, make_key};
use anyhow::ensure;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// PostgreSQL is killed and comes back, under load.
pub fn postgres_killed(bench: &Bench) -> anyhow::Result<Outcome> {
    let database = bench.postgres.create_database("killed")?;
    let (_, key) = make_key(&bench.binary, &database)?;
    let server = Server::start(&bench.binary, &database)?;
    let ledger = Arc::new(Ledger::default());
    let rounds = if bench.short { 2 } else { 20 };
    for _ in 0..rounds {
        let load = ledger.load(&[&server.address], &key, 8);
        std::thread::sleep(random_moment(100, 600));
        bench.postgres.kill()?;
        std::thread::sleep(random_moment(100, 600));
        bench.postgres.launch()?;
        load.stop();
    }
    let settled = ledger.settle(&server.address, &key)?;
    let outcome = ledger.compare(&server, &key, rounds, format!("{settled} repeated at the end"))?;
    server.stop()?;
    doctor(&bench.binary, &database)?;
    Ok(outcome)
}

/// A proxy in front of PostgreSQL cuts connections right behind a COMMIT: nobody knows whether it happened.
pub fn commit_cut(bench: &Bench) -> anyhow::Result<Outcome> {
    let direct = bench.postgres.create_database("cut")?;
    let (_, key) = make_key(&bench.binary, &direct)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let cuts = Arc::new(AtomicUsize::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let proxy = std::thread::spawn({
        let (cuts, over, upstream) = (Arc::clone(&cuts), Arc::clone(&over), bench.postgres.port);
        move || {
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::Acquire) {
                    break;
                }
                relay(stream, upstream, &cuts, &over);
            }
        }
    });
    let database = direct.replace(&format!(":{}/", bench.postgres.port), &format!(":{port}/"));
    let server = Server::start(&bench.binary, &database)?;
    let ledger = Arc::new(Ledger::default());
    let wanted = if bench.short { 10 } else { 200 };
    let load = ledger.load(&[&server.address], &key, 8);
    let start = Instant::now();
    while cuts.load(Ordering::Acquire) < wanted && start.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(20));
    }
    load.stop();
    over.store(true, Ordering::Release);
    server.stop()?;
    // Wakes the proxy, which then sees that it is over.
    drop(TcpStream::connect(("127.0.0.1", port)));
    drop(proxy.join());
    let server = Server::start(&bench.binary, &direct)?;
    let settled = ledger.settle(&server.address, &key)?;
    let rounds = cuts.load(Ordering::Acquire);
    let outcome = ledger.compare(&server, &key, rounds, format!("{settled} repeated at the end"))?;
    server.stop()?;
    doctor(&bench.binary, &direct)?;
    Ok(outcome)
}

/// Passes bytes on both ways, and one in twenty times cuts right behind a COMMIT.
fn relay(client: TcpStream, upstream: u16, cuts: &Arc<AtomicUsize>, over: &Arc<AtomicBool>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)) else { return };
    let halves = (client.try_clone(), server.try_clone());
    let (Ok(mut from_server), Ok(mut to_client)) = (halves.1, halves.0) else { return };
    std::thread::spawn(move || {
        drop(std::io::copy(&mut from_server, &mut to_client));
        drop(to_client.shutdown(Shutdown::Both));
    });
    let (cuts, over) = (Arc::clone(cuts), Arc::clone(over));
    std::thread::spawn(move || {
        let (mut client, mut server) = (client, server);
        let mut buffer = vec![0; 65_536];
        let mut commits = random_moment(0, 20).as_millis();
        while let Ok(read @ 1..) = client.read(&mut buffer) {
            let Some(bytes) = buffer.get(..read) else { break };
            if server.write_all(bytes).is_err() {
                break;
            }
            if bytes.windows(7).any(|window| window == b"COMMIT\0") {
                commits += 1;
                if commits.is_multiple_of(20) && !over.load(Ordering::Acquire) {
                    cuts.fetch_add(1, Ordering::Release);
                    std::thread::sleep(random_moment(0, 3) / 3);
                    break;
                }
            }
        }
        drop(client.shutdown(Shutdown::Both));
        drop(server.shutdown(Shutdown::Both));
    });
}

/// Clients hang up in the middle of a request or right behind it, and come back with the same key.
pub fn clients(bench: &Bench) -> anyhow::Result<Outcome> {
    let database = format!("sqlite:{}", bench.directory.join("clients.db").display());
    let (_, key) = make_key(&bench.binary, &database)?;
    let server = Server::start(&bench.binary, &database)?;
    let ledger = Ledger::default();
    let rounds = if bench.short { 300 } else { 5_000 };
    let mut client = Client::new(&server.address, &key);
    for number in 0..rounds {
        let name = format!("keyed-{number}");
        let body = format!(r#"{{"name":"{name}","currency":"USD","aliases":["{name}"]}}"#);
        let bytes = client.bytes("POST", "/customers", Some(&name), &body);
        let part = if number % 2 == 0 { bytes.len() } else { (number * 37) % bytes.len() };
        drop(client.hang_up(bytes.get(..part).unwrap_or(&bytes)));
        ledger.create(&mut client, &name);
    }
    ledger.settle(&server.address, &key)?;
    let outcome = ledger.compare(&server, &key, rounds, String::new())?;
    server.stop()?;
    doctor(&bench.binary, &database)?;
    Ok(outcome)
}

/// Two servers on one database get the same keys at once; then one of them freezes.
pub fn two_servers(bench: &Bench) -> anyhow::Result<Outcome> {
    let database = bench.postgres.create_database("two")?;
    let (_, key) = make_key(&bench.binary, &database)?;
    let (first, second) = (Server::start(&bench.binary, &database)?, Server::start(&bench.binary, &database)?);
    let (one, two) = (Arc::new(Ledger::default()), Arc::new(Ledger::default()));
    // Both ledgers count their names alike, so that every key is sent to both servers at about the same time.
    let loads = [one.load(&[&first.address], &key, 4), two.load(&[&second.address], &key, 4)];
    std::thread::sleep(Duration::from_secs(if bench.short { 2 } else { 20 }));
    let frozen = Instant::now();
    second.signal("STOP")?;
    let (mut last, mut longest, mut count) = (Instant::now(), Duration::ZERO, one.count());
    while frozen.elapsed() < Duration::from_secs(if bench.short { 6 } else { 20 }) {
        std::thread::sleep(Duration::from_millis(10));
        if one.count() > count {
            (longest, last, count) = (longest.max(last.elapsed()), Instant::now(), one.count());
        }
    }
    longest = longest.max(last.elapsed());
    second.signal("CONT")?;
    loads.into_iter().for_each(super::ledger::Load::stop);
    one.settle(&first.address, &key)?;
    two.settle(&second.address, &key)?;
    ensure!(longest < Duration::from_secs(5), "a frozen server stopped the other for {longest:?}");
    let other = two.missing(&first.address, &key, 0..usize::MAX)?;
    ensure!(other == 0, "{other} customers of the second server are missing");
    let note = format!("longest pause while the other was frozen: {} ms", longest.as_millis());
    let outcome = one.compare(&first, &key, 1, note)?;
    first.stop()?;
    second.stop()?;
    doctor(&bench.binary, &database)?;
    Ok(outcome)
}
