//! Others that answer a create of a customer, and install with one command: mocks of another billing API that keep their
//! state in memory. Cuenta is measured beside them, in turns, with as many clients; it writes to disk, they do not.

use super::customers::BODY;
use super::measure::{Hit, Shot, fire, median, request};
use super::place::make_one;
use super::report::Row;
use super::{Bench, Kind};
use crate::postgres::run as run_quietly;
use crate::server::{Server, cpu_ms};
use anyhow::{Context, bail};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CLIENTS: u64 = 8;
const FORM: &str = "name=Customer+{r}+GmbH&email=accounts.payable.{r}%40customer.example&address[line1]=Friedrichstrasse+123\
    &address[line2]=Rear+building%2C+third+floor&address[city]=Berlin&address[state]=Berlin&address[postal_code]=10117\
    &address[country]=DE";

/// A process that answers creates.
struct Peer {
    title: String,
    database: &'static str,
    pid: u32,
    address: String,
    request: String,
    next: u64,
    hits: Vec<(Hit, u64)>,
    /// What ends with it.
    process: Process,
}

enum Process {
    Other(Child),
    Own(#[expect(dead_code, reason = "it ends with its owner")] Server),
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Process::Other(child) = &mut self.process {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Measures everyone in turns.
pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    if !bench.wanted("peer") {
        return Ok(());
    }
    let mut peers = Vec::new();
    for (name, start) in [("stripe-stateful-mock", npm as fn(&Path) -> _), ("localstripe", pip)] {
        bench.progress.set_message(format!("installing {name}"));
        match start(&bench.directory.0) {
            Ok(peer) => peers.push(peer),
            Err(error) => bench.add(Row {
                id: "peer".to_owned(),
                title: format!("{name}: create, {CLIENTS} clients"),
                database: "memory".to_owned(),
                remark: Some(format!("not measured: {}", error.to_string().lines().next().unwrap_or_default())),
                ..Row::default()
            }),
        }
    }
    for kind in [Kind::Sqlite, Kind::Postgres] {
        if bench.options.database.is_none_or(|only| only == kind) {
            peers.push(cuenta(bench, kind)?);
        }
    }
    for round in 0..bench.rounds {
        for peer in &mut peers {
            bench.progress.set_message(format!("{}, round {}", peer.title, round + 1));
            let before = cpu_ms(peer.pid);
            let shot = shot(bench, peer);
            let hit = fire(&peer.address, &shot).with_context(|| peer.title.clone())?;
            peer.next = hit.next;
            peer.hits.push((hit, cpu_ms(peer.pid).saturating_sub(before)));
        }
    }
    for peer in &peers {
        bench.add(row(peer));
    }
    Ok(())
}

fn shot(bench: &Bench, peer: &Peer) -> Shot {
    Shot {
        clients: CLIENTS,
        request: peer.request.clone(),
        status: 200,
        expect: "accounts.payable.{r}@customer.example".to_owned(),
        lines: None,
        first: peer.next,
        cycle: u64::MAX,
        warm_up: bench.warm_up,
        duration: bench.duration,
        most: 1_000_000,
    }
}

fn row(peer: &Peer) -> Row {
    let middle = |pick: &dyn Fn(&(Hit, u64)) -> u64| Some(median(peer.hits.iter().map(pick).collect()));
    let status = std::fs::read_to_string(format!("/proc/{}/status", peer.pid)).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    Row {
        id: "peer".to_owned(),
        title: peer.title.clone(),
        database: peer.database.to_owned(),
        per_second: middle(&|(hit, _)| hit.per_second),
        p50_us: middle(&|(hit, _)| hit.p50_us),
        p99_us: middle(&|(hit, _)| hit.p99_us),
        server_cpu_us: middle(&|(hit, cpu)| cpu * 1_000 / hit.answered.max(1)),
        client_cpu_us: middle(&|(hit, _)| hit.client_cpu_ms * 1_000 / hit.answered.max(1)),
        memory_kib: peak.split_whitespace().next().and_then(|text| text.parse().ok()),
        ..Row::default()
    }
}

fn cuenta(bench: &Bench, kind: Kind) -> anyhow::Result<Peer> {
    let (url, key) = make_one(bench, kind, "peer")?;
    let server = Server::start(&bench.binary, &url)?;
    Ok(Peer {
        title: format!("Cuenta: create, {CLIENTS} clients"),
        database: kind.name(),
        pid: server.pid(),
        address: server.address.clone(),
        request: request("POST", "/customers", &key, None, BODY),
        next: 0,
        hits: Vec::new(),
        process: Process::Own(server),
    })
}

fn npm(directory: &Path) -> anyhow::Result<Peer> {
    let home = directory.join("npm");
    std::fs::create_dir_all(&home)?;
    let mut install = Command::new("npm");
    install.args(["install", "--no-audit", "--no-fund", "stripe-stateful-mock"]).current_dir(&home);
    run_quietly(&mut install)?;
    let mut program = Command::new("node");
    program.arg(home.join("node_modules/stripe-stateful-mock/dist/cli.js")).env("LOG_LEVEL", "silent");
    let port = free_port()?;
    program.env("PORT", port.to_string());
    other("stripe-stateful-mock", program, port)
}

fn pip(directory: &Path) -> anyhow::Result<Peer> {
    let home = directory.join("pip");
    run_quietly(Command::new("python3").args(["-m", "venv"]).arg(&home))?;
    run_quietly(Command::new(home.join("bin/pip")).args(["install", "--quiet", "localstripe"]))?;
    let port = free_port()?;
    let mut program = Command::new(home.join("bin/localstripe"));
    program.args(["--port", &port.to_string()]).current_dir(&home);
    other("localstripe", program, port)
}

/// A port that was free a moment ago.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn other(name: &str, mut program: Command, port: u16) -> anyhow::Result<Peer> {
    program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = program.spawn()?;
    let length = FORM.len() + FORM.matches("{r}").count() * 7;
    let peer = Peer {
        title: format!("{name}: create, {CLIENTS} clients"),
        database: "memory",
        pid: child.id(),
        address: format!("127.0.0.1:{port}"),
        request: format!(
            "POST /v1/customers HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sk_test_12345\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{FORM}"
        ),
        next: 0,
        hits: Vec::new(),
        process: Process::Other(child),
    };
    let begun = Instant::now();
    while TcpStream::connect(&peer.address).is_err() {
        if begun.elapsed() > Duration::from_secs(60) {
            bail!("it does not listen");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(peer)
}
