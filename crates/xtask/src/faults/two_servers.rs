//! Two servers on one database get the same keys at the same moment; then one of them freezes.

use super::ledger::{Connections, Ledger, Outcome};
use super::{Expected, Rig};
use crate::client::Client;
use crate::server::{Server, doctor, make_key};
use anyhow::ensure;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

const PAIRS: usize = 4;
/// A frozen server must not stop the other for longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// First the same keys to both, then the frozen server.
pub fn run(rig: &Rig) -> anyhow::Result<Outcome> {
    let database = rig.postgres()?.create_database("two")?;
    let (_, key) = make_key(&rig.binary, &database)?;
    let (first, second) = (Server::start(&rig.binary, &database)?, Server::start(&rig.binary, &database)?);
    let (one, two) = (Ledger::new("both", Connections::Hold), Ledger::new("both", Connections::Hold));
    let rounds = rig.rounds(1_200, 20_000);
    std::thread::scope(|scope| {
        for pair in 0..PAIRS {
            let barrier = Arc::new(Barrier::new(2));
            for (ledger, server) in [(&one, &first), (&two, &second)] {
                let (barrier, key) = (Arc::clone(&barrier), &key);
                scope.spawn(move || {
                    let mut client = Client::new(&server.address, key);
                    for number in (pair..rounds).step_by(PAIRS) {
                        barrier.wait();
                        ledger.create(&mut client, &format!("keyed-both-{number}"));
                        rig.progress.inc(1);
                    }
                });
            }
        }
    });
    let collided = one.open().len() + two.open().len();
    one.settle(&first.address, &key)?;
    two.settle(&second.address, &key)?;
    two.only_clear_answers()?;
    for number in 0..rounds {
        let name = format!("keyed-both-{number}");
        let (left, right) = (one.id(&name), two.id(&name));
        ensure!(left.is_some() && left == right, "{name} is {left:?} for one server and {right:?} for the other");
    }
    let pause = freeze(rig, &database, &key, [&first, &second])?;
    first.stop()?;
    second.stop()?;
    doctor(&rig.binary, &database)?;
    let pause = pause.as_millis();
    let note = format!("{collided} met their twin; longest pause while the other server was frozen: {pause} ms");
    one.compare_all(&database, rounds, note)
}

/// Freezes the second server under load, and gives the longest time in which the first acknowledged nothing.
fn freeze(rig: &Rig, database: &str, key: &str, [first, second]: [&Server; 2]) -> anyhow::Result<Duration> {
    let (left, right) = (Ledger::new("awake", Connections::Hold), Ledger::new("frozen", Connections::Hold));
    let loads = [left.load(&first.address, key, 4), right.load(&second.address, key, 4)];
    let (frozen_for, times) = if rig.short { (Duration::from_secs(3), 2) } else { (Duration::from_secs(20), 3) };
    let mut longest = Duration::ZERO;
    for _ in 0..times {
        std::thread::sleep(super::random_moment(300, 1_000));
        second.signal("STOP")?;
        longest = longest.max(longest_pause(&left, frozen_for));
        second.signal("CONT")?;
    }
    std::thread::sleep(Duration::from_millis(500));
    loads.into_iter().for_each(super::ledger::Load::stop);
    ensure!(longest < LONGEST_PAUSE, "a frozen server stopped the other for {longest:?}");
    left.settle(&first.address, key)?;
    right.settle(&second.address, key)?;
    for ledger in [left, right] {
        ledger.served(&first.address, key)?;
        ledger.compare_all(database, 1, String::new())?.judged(Expected::Nothing)?;
    }
    Ok(longest)
}

/// The longest time without a new acknowledgement, over this time.
pub fn longest_pause(ledger: &Ledger, time: Duration) -> Duration {
    let (start, mut last, mut longest, mut count) = (Instant::now(), Instant::now(), Duration::ZERO, ledger.count());
    while start.elapsed() < time {
        std::thread::sleep(Duration::from_millis(5));
        if ledger.count() > count {
            (longest, last, count) = (longest.max(last.elapsed()), Instant::now(), ledger.count());
        }
    }
    longest.max(last.elapsed())
}
