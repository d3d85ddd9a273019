//! Random transactions in random groups against a model in memory. The groups run one after the other, so the model knows
//! every answer and every row. `CUENTA_TEST_SEED` repeats a run.

use crate::{Failure, Work, check, in_one_group, work};
use cuenta_store::{Database, Error, Transaction};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};

const ROUNDS: usize = 60;
const LARGEST_GROUP: u64 = 40;
const KEYS: u64 = 12;

/// One step of a closure.
#[derive(Clone, Debug)]
enum Step {
    Insert(u64, i64),
    /// Sets the amount of a key; -1 violates a check.
    Update(u64, i64),
    /// Must touch one row.
    UpdateOne(u64, i64),
    Upsert(u64, i64),
    Delete(u64),
    Read(u64),
    Sum,
    Tally(i64),
    Tallied,
    /// These steps, and whether they refuse at the end.
    Attempt(Vec<Step>, bool),
}

/// How a closure ends when no statement fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    Refused,
    Panicked,
}

/// What a closure saw, in order.
type Seen = Vec<Option<i64>>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    rows: HashMap<u64, i64>,
    tally: i64,
}

/// Why steps ended early: the name of a constraint, or nothing where they refused.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ended {
    Constraint(&'static str),
    Refused,
}

impl Model {
    fn run(&mut self, steps: &[Step], seen: &mut Seen) -> Result<(), Ended> {
        for step in steps {
            match step {
                Step::Insert(key, _) if self.rows.contains_key(key) => return Err(Ended::Constraint("things_pkey")),
                Step::Update(key, -1) | Step::UpdateOne(key, -1) if self.rows.contains_key(key) => {
                    return Err(Ended::Constraint("things_amount"));
                }
                Step::UpdateOne(key, _) if !self.rows.contains_key(key) => return Err(Ended::Constraint("one_row")),
                Step::Insert(key, amount) | Step::Upsert(key, amount) => drop(self.rows.insert(*key, *amount)),
                Step::Update(key, amount) | Step::UpdateOne(key, amount) => {
                    self.rows.entry(*key).and_modify(|there| *there = *amount);
                }
                Step::Delete(key) => drop(self.rows.remove(key)),
                Step::Read(key) => seen.push(self.rows.get(key).copied()),
                Step::Sum => seen.push(Some(self.rows.values().sum())),
                Step::Tally(change) => self.tally += change,
                Step::Tallied => seen.push(Some(self.tally)),
                Step::Attempt(steps, refuses) => {
                    let before = self.clone();
                    let mut inside = Vec::new();
                    let inner = self.run(steps, &mut inside).and(if *refuses { Err(Ended::Refused) } else { Ok(()) });
                    seen.append(&mut inside);
                    seen.push(Some(i64::from(inner.is_ok())));
                    if inner.is_err() {
                        *self = before;
                    }
                }
            }
        }
        Ok(())
    }
}

fn run(transaction: &mut Transaction, steps: &[Step], seen: &mut Seen) -> Result<(), Failure> {
    for step in steps {
        let row = |key: &u64, amount: &i64| [("id", format!("k{key}").into()), ("amount", (*amount).into())];
        match step {
            Step::Insert(key, amount) => {
                transaction.execute("INSERT INTO things (id, amount) VALUES (:id, :amount)", &row(key, amount))?;
            }
            Step::Update(key, amount) => {
                transaction.execute("UPDATE things SET amount = :amount WHERE id = :id", &row(key, amount))?;
            }
            Step::UpdateOne(key, amount) => {
                let sql = "UPDATE things SET amount = :amount WHERE id = :id";
                transaction.execute_one(sql, &row(key, amount), "one_row")?;
            }
            Step::Upsert(key, amount) => {
                let sql = "INSERT INTO things (id, amount) VALUES (:id, :amount) \
                           ON CONFLICT (id) DO UPDATE SET amount = excluded.amount";
                transaction.execute(sql, &row(key, amount))?;
            }
            Step::Delete(key) => {
                transaction.execute("DELETE FROM things WHERE id = :id", &row(key, &0)[..1])?;
            }
            Step::Read(key) => {
                let sql = "SELECT amount FROM things WHERE id = :id";
                let found = transaction.optional(sql, &row(key, &0)[..1])?;
                seen.push(found.map(|mut row| row.integer("amount")).transpose()?);
            }
            Step::Sum => {
                let sql = "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) AS sum FROM things";
                seen.push(Some(transaction.one(sql, &[])?.integer("sum")?));
            }
            Step::Tally(change) => transaction.tally("s", "things", *change),
            Step::Tallied => seen.push(Some(transaction.tallied("s", "things")?)),
            Step::Attempt(steps, refuses) => {
                let mut inside = Vec::new();
                let inner = transaction.attempt(|transaction| {
                    run(transaction, steps, &mut inside)?;
                    if *refuses { Err(Failure::Own("inner")) } else { Ok(()) }
                })?;
                seen.append(&mut inside);
                seen.push(Some(i64::from(inner.is_ok())));
            }
        }
    }
    Ok(())
}

/// A small generator of numbers (SplitMix64): the same seed gives the same run everywhere.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % most
    }

    fn amount(&mut self) -> i64 {
        i64::try_from(self.below(1_000)).unwrap_or(0)
    }

    fn steps(&mut self, deepest: u32) -> Vec<Step> {
        let count = self.below(5) + 1;
        (0..count).map(|_| self.step(deepest)).collect()
    }

    fn step(&mut self, deepest: u32) -> Step {
        let key = self.below(KEYS);
        match self.below(20) {
            0..=4 => Step::Insert(key, self.amount()),
            5 => Step::Update(key, -1),
            6 | 7 => Step::Update(key, self.amount()),
            8 => Step::UpdateOne(key, self.amount()),
            9 | 10 => Step::Upsert(key, self.amount()),
            11..=13 => Step::Delete(key),
            14 => Step::Read(key),
            15 => Step::Sum,
            16 => Step::Tally(self.amount() - 500),
            17 => Step::Tallied,
            _ if deepest == 0 => Step::Delete(key),
            _ => Step::Attempt(self.steps(deepest - 1), self.below(3) == 0),
        }
    }

    fn closure(&mut self) -> (Vec<Step>, End) {
        let end = match self.below(12) {
            0 | 1 => End::Refused,
            2 => End::Panicked,
            _ => End::Done,
        };
        (self.steps(2), end)
    }
}

fn closure(steps: Vec<Step>, end: End) -> Work<Seen> {
    work(move |transaction| {
        let mut seen = Vec::new();
        run(transaction, &steps, &mut seen)?;
        match end {
            End::Done => Ok(seen),
            End::Refused => Err(Failure::Own("end")),
            End::Panicked => std::panic::panic_any("the plan says so"),
        }
    })
}

/// What the closure must answer, and what it leaves in the model.
fn expect(model: &mut Model, steps: &[Step], end: End) -> Result<Seen, String> {
    let (mut after, mut seen) = (model.clone(), Vec::new());
    match (after.run(steps, &mut seen), end) {
        (Ok(()), End::Done) => {
            *model = after;
            Ok(seen)
        }
        (Ok(()), End::Refused) => Err("refused".to_owned()),
        (Ok(()), End::Panicked) => Err("a closure panicked".to_owned()),
        (Err(Ended::Constraint(name)), _) => Err(format!("constraint {name} refused the row")),
        (Err(Ended::Refused), _) => unreachable!("only attempts refuse inside"),
    }
}

fn told(answer: Result<Seen, Failure>) -> Result<Seen, String> {
    answer.map_err(|failure| match failure {
        Failure::Own(_) => "refused".to_owned(),
        Failure::Store(error) => error.to_string(),
    })
}

async fn stored(database: &Database) -> (BTreeMap<String, i64>, i64) {
    let read = database.read(|transaction| {
        let rows = transaction.all("SELECT id, amount FROM things", &[])?;
        let rows = rows.into_iter().map(|mut row| Ok((row.text("id")?, row.integer("amount")?)));
        Ok::<_, Error>((rows.collect::<Result<_, Error>>()?, transaction.tallied("s", "things")?))
    });
    read.await.expect("the state is readable")
}

#[test]
fn the_database_is_as_simple_as_a_map() {
    let given = std::env::var("CUENTA_TEST_SEED").ok().map(|seed| seed.parse().expect("a seed is a number"));
    let seed = given.unwrap_or_else(|| RandomState::new().build_hasher().finish());
    println!("CUENTA_TEST_SEED={seed}");
    check(async |database, _| {
        let (mut numbers, mut model) = (Numbers(seed), Model::default());
        for round in 0..ROUNDS {
            let size = if numbers.below(4) == 0 { 1 } else { numbers.below(LARGEST_GROUP) + 1 };
            let plans: Vec<_> = (0..size).map(|_| numbers.closure()).collect();
            let group = plans.iter().map(|(steps, end)| closure(steps.clone(), *end)).collect();
            let answers = in_one_group(&database, group).await;
            let before = model.clone();
            for ((answer, (steps, end)), at) in answers.into_iter().zip(&plans).zip(0..) {
                let expected = expect(&mut model, steps, *end);
                assert_eq!(
                    told(answer),
                    expected,
                    "seed {seed}, round {round}, closure {at} of {size}: {steps:?} {end:?}; the group began with {before:?}"
                );
            }
            let rows = model.rows.iter().map(|(key, amount)| (format!("k{key}"), *amount)).collect();
            assert_eq!(stored(&database).await, (rows, model.tally), "seed {seed}, round {round}: {plans:?}");
        }
    });
}
