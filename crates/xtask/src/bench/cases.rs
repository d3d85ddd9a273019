//! The rows of the table, each with what is sent and which floor lies under it.

use super::customers::{BODY, Customer, KEY};
use super::floor::run_side_by_side;
use super::measure::{Hit, Shot, fire, forget_peak, median, request, settle};
use super::place::{Place, make_one};
use super::report::Row;
use super::{Bench, Kind, report};
use crate::client::Client;
use crate::load::scrambled;
use crate::server::{Server, doctor};
use anyhow::{Context, ensure};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How many names of customers the rows that read them choose from.
const SAMPLE: u64 = 20_000;
/// How many stored answers are replayed.
const REPLAYED: u64 = 5_000;
/// How often a server is started.
const STARTS: usize = 10;

/// What lies under a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Floor {
    /// `GET /whoami` by as many clients.
    EmptyRoute,
    /// The same rows in groups of this many.
    Bare { group: u64, keyed: bool },
}

/// A row before it is measured.
struct Case {
    id: String,
    title: String,
    floor: Floor,
    shot: Shot,
}

/// Cold start and idle memory.
pub fn start(bench: &mut Bench, kind: Kind) -> anyhow::Result<()> {
    if !bench.wanted("start") && !bench.wanted("idle") {
        return Ok(());
    }
    bench.progress.set_message(format!("{}: starting servers", kind.name()));
    let (url, key) = make_one(bench, kind, "start")?;
    let mut taken = Vec::new();
    let mut idle = Vec::new();
    for round in 0..STARTS {
        let begun = Instant::now();
        let server = Server::start(&bench.binary, &url)?;
        let answer = Client::new(&server.address, &key).request("GET", "/whoami", None, "")?;
        ensure!(answer.status == 200, "GET /whoami answered {}", answer.status);
        taken.push(u64::try_from(begun.elapsed().as_micros())?);
        if round < 3 {
            std::thread::sleep(Duration::from_secs(2));
            idle.push(server.memory_kib().1);
        }
        server.stop()?;
    }
    let row = |id: &str, title: &str| Row {
        id: id.to_owned(),
        title: title.to_owned(),
        database: kind.name().to_owned(),
        ..Row::default()
    };
    let slowest = taken.iter().max().copied();
    let cold = Row {
        p50_us: Some(median(taken)),
        p99_us: slowest,
        ..row("start", "from process start to the first answer (median, slowest of 10)")
    };
    let idle = Row { memory_kib: Some(median(idle)), ..row("idle", "idle, two seconds after the first answer") };
    for row in [cold, idle] {
        if bench.wanted(&row.id) {
            bench.add(row);
        }
    }
    Ok(())
}

/// Creates and replays, on databases that start empty.
pub fn writes(bench: &mut Bench, kind: Kind) -> anyhow::Result<()> {
    let wanted = ["create-1", "create-64", "create-256", "create-key-64", "replay-64"];
    if !wanted.iter().any(|id| bench.wanted(id)) {
        return Ok(());
    }
    let mut place = Place::empty(bench, kind)?;
    for clients in [1, 64, 256] {
        let id = format!("create-{clients}");
        let shot = create(bench, &place, clients, None);
        let title = format!("create, {clients} client{}", if clients == 1 { "" } else { "s" });
        measure(bench, &mut place, Case { id, title, floor: Floor::Bare { group: clients, keyed: false }, shot })?;
    }
    let shot = create(bench, &place, 64, Some(KEY));
    let (id, title) = ("create-key-64".to_owned(), "create with Idempotency-Key, 64 clients".to_owned());
    measure(bench, &mut place, Case { id, title, floor: Floor::Bare { group: 64, keyed: true }, shot })?;
    if bench.wanted("replay-64") {
        let made = Shot {
            first: place.next,
            most: REPLAYED,
            warm_up: Duration::ZERO,
            duration: Duration::from_secs(60),
            ..create(bench, &place, 64, Some(KEY))
        };
        let made_up_to = fire(&place.server.address, &made)?.next;
        let shot = Shot {
            cycle: REPLAYED,
            first: place.next,
            expect: "idempotent-replayed: true".to_owned(),
            ..create(bench, &place, 64, Some(KEY))
        };
        let (id, title) = ("replay-64".to_owned(), "replay of a create, 64 clients".to_owned());
        measure(bench, &mut place, Case { id, title, floor: Floor::EmptyRoute, shot })?;
        place.next = made_up_to;
    }
    check(bench, place)
}

/// Whether `cuenta doctor` likes what the load left behind.
fn check(bench: &Bench, place: Place) -> anyhow::Result<()> {
    let kind = place.kind;
    bench.progress.set_message(format!("{}: looking for faults in what was written", kind.name()));
    place.server.stop()?;
    let url = match (kind, &bench.postgres) {
        (Kind::Postgres, Some((postgres, _))) => postgres.url().trim_end_matches("/postgres").to_owned() + "/empty",
        _ => format!("sqlite:{}", bench.directory.0.join("empty.db").display()),
    };
    doctor(&bench.binary, &url)
}

/// Reads, lists and creates, on databases that hold all customers.
pub fn many(bench: &mut Bench, kind: Kind) -> anyhow::Result<()> {
    let cases = many_cases(bench)?;
    if !cases.iter().any(|(id, ..)| bench.wanted(id)) && !bench.wanted("create-64-million") {
        return Ok(());
    }
    let mut place = Place::filled(bench, kind)?;
    for (id, title, clients, path, expect, lines) in cases {
        let shot = Shot {
            clients,
            request: request("GET", &path, &place.key, None, ""),
            status: 200,
            expect,
            lines,
            first: 0,
            cycle: u64::MAX,
            warm_up: bench.warm_up,
            duration: bench.duration,
            most: u64::MAX,
        };
        let (id, title) = (id.to_owned(), title.to_owned());
        measure(bench, &mut place, Case { id, title, floor: Floor::EmptyRoute, shot })?;
    }
    let shot = create(bench, &place, 64, None);
    let title = format!("create, 64 clients, {} customers there", report::grouped(bench.customers));
    let floor = Floor::Bare { group: 64, keyed: false };
    measure(bench, &mut place, Case { id: "create-64-million".to_owned(), title, floor, shot })?;
    place.server.stop()
}

type Read = (&'static str, &'static str, u64, String, String, Option<PathBuf>);

fn many_cases(bench: &Bench) -> anyhow::Result<Vec<Read>> {
    let names = |file: &str, pick: fn(Customer) -> String| -> anyhow::Result<Option<PathBuf>> {
        let path = bench.directory.0.join(file);
        let numbers = (0..SAMPLE).map(|step| scrambled(step) % bench.customers);
        let lines: Vec<String> = numbers.map(|number| pick(Customer::new(number))).collect();
        std::fs::write(&path, lines.join("\n"))?;
        Ok(Some(path))
    };
    let ids = names("ids", |customer| customer.id)?;
    let aliases = names("aliases", |customer| customer.alias)?;
    let emails = names("emails", |customer| customer.email)?;
    let page = "\"per_page\":100".to_owned();
    let deep = format!("/customers?limit=100&offset={}", bench.customers / 2);
    let list = |rest: &str| format!("/customers?limit=100{rest}");
    Ok(vec![
        ("get-id-64", "get by id, 64 clients", 64, "/customers/{line}".into(), "\"id\":\"{line}\"".into(), ids),
        ("get-alias-64", "get by alias, 64 clients", 64, "/customers/{line}".into(), "[\"{line}\"]".into(), aliases),
        ("list-first-8", "list of 100, first page, 8 clients", 8, list(""), page.clone(), None),
        ("list-deep-8", "list of 100, from the middle, 8 clients", 8, deep, page.clone(), None),
        ("list-email-8", "list by e-mail address, 8 clients", 8, list("&email={line}"), "{line}".into(), emails),
        ("list-name-8", "list of 100, by name, 8 clients", 8, list("&sort=name:asc"), page.clone(), None),
        (
            "list-inactive-8",
            "list of 100, without active subscriptions (all of them), 8 clients",
            8,
            list("&has_active_subscriptions=false"),
            page,
            None,
        ),
    ])
}

/// Creates of customers that are not there yet.
fn create(bench: &Bench, place: &Place, clients: u64, key: Option<&str>) -> Shot {
    Shot {
        clients,
        request: request("POST", "/customers", &place.key, key, BODY),
        status: 200,
        expect: "\"aliases\":[\"account-{r}\"]".to_owned(),
        lines: None,
        first: place.next,
        cycle: u64::MAX,
        warm_up: bench.warm_up,
        duration: bench.duration,
        most: u64::MAX,
    }
}

/// A round of a row with what its processes used.
struct Round {
    hit: Hit,
    server_cpu_ms: u64,
    cluster_cpu_ms: Option<u64>,
}

/// Measures a row and its floor in turns.
fn measure(bench: &mut Bench, place: &mut Place, case: Case) -> anyhow::Result<()> {
    if !bench.wanted(&case.id) {
        return Ok(());
    }
    let Case { id, title, floor, mut shot } = case;
    forget_peak(place.server.pid());
    let (mut floors, mut pairs, mut rounds) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..bench.rounds {
        bench.progress.set_message(format!("{}: {title}, round {}", place.kind.name(), round + 1));
        let first_the_floor = round % 2 == 0;
        if first_the_floor {
            floors.push(floor_rate(bench, place, floor, shot.clients)?);
        }
        settle(&place.server, place.cluster.as_ref(), Duration::from_secs(60));
        if shot.cycle == u64::MAX && shot.status == 200 && matches!(floor, Floor::Bare { .. }) {
            shot.first = place.next;
        }
        rounds.push(row_round(place, &shot)?);
        if !first_the_floor {
            floors.push(floor_rate(bench, place, floor, shot.clients)?);
        }
        if let (Floor::Bare { group: group @ 64.., keyed }, false) = (floor, place.pair.is_empty()) {
            let rate = run_side_by_side(&mut place.pair, &mut place.bare_next, group, keyed, bench.duration)?;
            pairs.push(rate.per_second());
        }
    }
    let quotients = rounds.iter().zip(&floors).map(|(round, floor)| round.hit.per_second * 1_000 / (*floor).max(1));
    let ratio_permille = Some(median(quotients.collect()));
    let floor = median(floors);
    if !pairs.is_empty() {
        bench.notes.push(format!(
            "{title}, {}: the bare database by two connections: {}/s, by one: {}/s",
            place.kind.name(),
            report::grouped(median(pairs)),
            report::grouped(floor)
        ));
    }
    let row = summary(&rounds, floor, place.server.memory_kib().0);
    bench.add(Row { id, title, database: place.kind.name().to_owned(), ratio_permille, ..row });
    Ok(())
}

fn row_round(place: &mut Place, shot: &Shot) -> anyhow::Result<Round> {
    let before = (place.server.cpu_ms(), place.cluster_cpu_ms());
    let hit = fire(&place.server.address, shot).with_context(|| format!("on {}", place.kind.name()))?;
    place.next = place.next.max(hit.next);
    let cluster_cpu_ms = place.cluster_cpu_ms().zip(before.1).map(|(now, then)| now.saturating_sub(then));
    Ok(Round { hit, server_cpu_ms: place.server.cpu_ms().saturating_sub(before.0), cluster_cpu_ms })
}

fn floor_rate(bench: &Bench, place: &mut Place, floor: Floor, clients: u64) -> anyhow::Result<u64> {
    settle(&place.server, place.cluster.as_ref(), Duration::from_secs(60));
    match floor {
        Floor::Bare { group, keyed } => {
            let rate = place.bare.run(&mut place.bare_next, group, keyed, bench.duration)?;
            Ok(rate.per_second())
        }
        Floor::EmptyRoute => {
            let shot = Shot {
                clients,
                request: request("GET", "/whoami", &place.key, None, ""),
                status: 200,
                expect: "organization_id".to_owned(),
                lines: None,
                first: 0,
                cycle: u64::MAX,
                warm_up: bench.warm_up,
                duration: bench.duration,
                most: u64::MAX,
            };
            Ok(fire(&place.server.address, &shot)?.per_second)
        }
    }
}

fn summary(rounds: &[Round], floor: u64, peak_kib: u64) -> Row {
    let middle = |pick: &dyn Fn(&Round) -> u64| median(rounds.iter().map(pick).collect());
    let each = |cpu_ms: u64, round: &Round| cpu_ms * 1_000 / round.hit.answered.max(1);
    let has_cluster = rounds.iter().any(|round| round.cluster_cpu_ms.is_some());
    Row {
        per_second: Some(middle(&|round| round.hit.per_second)),
        floor: Some(floor),
        p50_us: Some(middle(&|round| round.hit.p50_us)),
        p99_us: Some(middle(&|round| round.hit.p99_us)),
        server_cpu_us: Some(middle(&|round| each(round.server_cpu_ms, round))),
        postgres_cpu_us: has_cluster.then(|| middle(&|round| each(round.cluster_cpu_ms.unwrap_or(0), round))),
        client_cpu_us: Some(middle(&|round| each(round.hit.client_cpu_ms, round))),
        memory_kib: Some(peak_kib),
        ..Row::default()
    }
}
