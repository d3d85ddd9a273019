//! What a load was told, to compare with what is there afterwards.

use super::{Expected, random};
use crate::client::{Answer, Client};
use anyhow::{Context, bail, ensure};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// No load creates more customers than this.
const MOST: usize = 400_000;
/// What a client waits between two requests, so that the disks and not the processors are tested.
const PAUSE: Duration = Duration::from_millis(2);
/// How long requests whose outcome nobody knows are repeated.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many of the newest customers are asked for one by one.
const SAMPLE: usize = 200;

/// What a fault did, for the table.
pub struct Outcome {
    /// How often it struck.
    pub rounds: usize,
    /// Customers that were acknowledged and looked for.
    pub acknowledged: usize,
    /// Of these, how many were not there.
    pub lost: usize,
    /// Of all names, how many were there more than once.
    pub doubled: usize,
    /// What else is worth knowing.
    pub note: String,
}

impl Outcome {
    /// The outcome when it is the expected one.
    pub fn judged(self, expected: Expected) -> anyhow::Result<Self> {
        let Outcome { rounds, acknowledged, lost, doubled, note } = &self;
        let told = format!("of {acknowledged} customers in {rounds} rounds {lost} lost, {doubled} doubled; {note}");
        ensure!(*acknowledged > 0 && *doubled == 0, "{told}");
        ensure!((expected == Expected::Losses) == (*lost > 0), "{told}");
        Ok(self)
    }
}

/// Whether a connection to the server may break under a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connections {
    /// The server dies.
    MayBreak,
    /// The server lives: it answers everything, if only with 503.
    #[default]
    Hold,
}

/// The names that were acknowledged with their ids, and those whose outcome nobody knows.
#[derive(Default)]
pub struct Ledger {
    label: String,
    connections: Connections,
    acknowledged: Mutex<Acknowledged>,
    uncertain: Mutex<VecDeque<String>>,
    wrong: Mutex<Vec<String>>,
    next: AtomicUsize,
    repeated: AtomicUsize,
    patient: AtomicBool,
}

#[derive(Default)]
struct Acknowledged {
    list: Vec<(String, String)>,
    ids: HashMap<String, String>,
}

/// Threads that create customers until they are stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Ends the load and waits for it.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// The customers of a database: ids by name.
pub type Rows = HashMap<String, Vec<String>>;

impl Ledger {
    /// An empty ledger; its label is in all of its names.
    pub fn new(label: &str, connections: Connections) -> Arc<Self> {
        Arc::new(Ledger { label: label.to_owned(), connections, ..Ledger::default() })
    }

    /// Starts so many clients. Nine of ten names are created under a key, which is the name; what has no clear answer is
    /// repeated under its key, and now and then what has one.
    pub fn load(self: &Arc<Self>, address: &str, key: &str, clients: usize) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..clients).map(|_| {
            let (ledger, stop) = (Arc::clone(self), Arc::clone(&stop));
            let mut client = Client::new(address, key);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    ledger.step(&mut client);
                    std::thread::sleep(PAUSE);
                }
            })
        });
        Load { threads: threads.collect(), stop }
    }

    fn step(&self, client: &mut Client) {
        let old = match random(0, 20) {
            0..10 if !self.patient.load(Ordering::Relaxed) => lock(&self.uncertain).pop_front(),
            10 => self.any_acknowledged(),
            _ => None,
        };
        if let Some(name) = old {
            self.repeated.fetch_add(1, Ordering::Relaxed);
            return self.create(client, &name);
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if number < MOST {
            let kind = if number.is_multiple_of(10) { "plain" } else { "keyed" };
            self.create(client, &format!("{kind}-{}-{number}", self.label));
        }
    }

    fn any_acknowledged(&self) -> Option<String> {
        let acknowledged = lock(&self.acknowledged);
        let count = u64::try_from(acknowledged.list.len()).ok()?;
        let (name, _) = acknowledged.list.get(usize::try_from(random(0, count)).ok()?)?;
        is_keyed(name).then(|| name.clone())
    }

    /// Creates one customer and notes what was said.
    pub fn create(&self, client: &mut Client, name: &str) {
        let body = format!(r#"{{"name":"{name}","currency":"USD"}}"#);
        match client.request("POST", "/customers", is_keyed(name).then_some(name), &body) {
            Ok(answer) => self.note(name, &answer),
            Err(_) if self.connections == Connections::MayBreak => {
                self.uncertain(name);
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => lock(&self.wrong).push(format!("{name}: {error}")),
        }
    }

    fn note(&self, name: &str, answer: &Answer) {
        match answer.status {
            200 => self.acknowledge(name, answer.text("id").unwrap_or_default()),
            503 if answer.transient => {
                self.uncertain(name);
                std::thread::sleep(Duration::from_millis(20));
            }
            409 if answer.text("code").as_deref() == Some("idempotency_key_in_flight") => self.uncertain(name),
            status => {
                let text = String::from_utf8_lossy(&answer.body);
                lock(&self.wrong).push(format!("{name}: {status} {text}"));
            }
        }
    }

    fn acknowledge(&self, name: &str, id: String) {
        let mut acknowledged = lock(&self.acknowledged);
        match acknowledged.ids.get(name) {
            None => {
                acknowledged.ids.insert(name.to_owned(), id.clone());
                acknowledged.list.push((name.to_owned(), id));
            }
            Some(first) if *first == id => {}
            Some(first) => lock(&self.wrong).push(format!("{name} is {first} and then {id}")),
        }
    }

    /// Nobody can repeat a request without a key: only its acknowledgement counts.
    fn uncertain(&self, name: &str) {
        if is_keyed(name) {
            lock(&self.uncertain).push_back(name.to_owned());
        }
    }

    /// Leaves what has no clear answer to [`Ledger::settle`], so that it can be looked at before.
    pub fn be_patient(&self) {
        self.patient.store(true, Ordering::Relaxed);
    }

    /// Names acknowledged so far.
    pub fn count(&self) -> usize {
        lock(&self.acknowledged).list.len()
    }

    /// Requests that were sent again under their key.
    pub fn repeated(&self) -> usize {
        self.repeated.load(Ordering::Relaxed)
    }

    /// Names under a key without a clear answer, at the moment.
    pub fn open(&self) -> Vec<String> {
        lock(&self.uncertain).iter().cloned().collect()
    }

    /// The id of an acknowledged name.
    pub fn id(&self, name: &str) -> Option<String> {
        lock(&self.acknowledged).ids.get(name).cloned()
    }

    /// Repeats every request whose outcome nobody knows, until it is known: it has to end in one customer.
    pub fn settle(&self, address: &str, key: &str) -> anyhow::Result<()> {
        let mut client = Client::new(address, key);
        let start = Instant::now();
        loop {
            let Some(name) = lock(&self.uncertain).pop_front() else { return Ok(()) };
            self.repeated.fetch_add(1, Ordering::Relaxed);
            self.create(&mut client, &name);
            if start.elapsed() > PATIENCE {
                bail!("{} requests are still without an answer after a minute", lock(&self.uncertain).len());
            }
        }
    }

    /// Asks for the newest acknowledged customers, one by one: what is stored has to be served.
    pub fn served(&self, address: &str, key: &str) -> anyhow::Result<()> {
        let mut client = Client::new(address, key);
        let newest: Vec<_> = lock(&self.acknowledged).list.iter().rev().take(SAMPLE).cloned().collect();
        for (name, id) in newest {
            let answer = client.request("GET", &format!("/customers/{id}"), None, "")?;
            let found = answer.status == 200 && answer.text("name").as_deref() == Some(&name);
            ensure!(found, "GET /customers/{id} answers {}", answer.status);
        }
        Ok(())
    }

    /// Whether every answer was one that may be given.
    pub fn only_clear_answers(&self) -> anyhow::Result<()> {
        let wrong = lock(&self.wrong);
        match wrong.first() {
            Some(first) => bail!("{} answers that must not be, the first for {first}", wrong.len()),
            None => Ok(()),
        }
    }

    /// Which of the first so many acknowledged names are not there.
    pub fn lost(&self, rows: &Rows, upto: usize) -> Vec<String> {
        let acknowledged = lock(&self.acknowledged);
        let told = acknowledged.list.iter().take(upto);
        let lost = told.filter(|(name, id)| !rows.get(name).is_some_and(|ids| ids.contains(id)));
        lost.map(|(name, _)| name.clone()).collect()
    }

    /// How many names are there more than once. Probes are not counted: they have no key and all the same name.
    pub fn doubled(&self, rows: &Rows) -> usize {
        rows.iter().filter(|(name, ids)| name.contains(&self.label) && ids.len() > 1).count()
    }

    /// Compares all of it, when nothing is open any more: then nothing may be there that was not acknowledged.
    pub fn compare_all(&self, database: &str, rounds: usize, note: String) -> anyhow::Result<Outcome> {
        self.only_clear_answers()?;
        let rows = rows(database)?;
        let unknown = |name: &&String| is_keyed(name) && name.contains(&self.label) && self.id(name).is_none();
        if let Some(name) = rows.keys().find(unknown) {
            bail!("{name} is there and was never acknowledged");
        }
        let (lost, doubled) = (self.lost(&rows, usize::MAX).len(), self.doubled(&rows));
        Ok(Outcome { rounds, acknowledged: self.count(), lost, doubled, note })
    }
}

fn is_keyed(name: &str) -> bool {
    name.starts_with("keyed")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads all customers past the server.
pub fn rows(database: &str) -> anyhow::Result<Rows> {
    let sql = "SELECT name, id FROM customers";
    let mut rows = Rows::new();
    if let Some(path) = database.strip_prefix("sqlite:") {
        let path = path.split('?').next().unwrap_or_default();
        let connection = rusqlite::Connection::open(path)?;
        let mut statement = connection.prepare(sql)?;
        let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        for row in found {
            let (name, id): (String, String) = row.context("a customer cannot be read")?;
            rows.entry(name).or_default().push(id);
        }
        return Ok(rows);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(database, tokio_postgres::NoTls).await?;
        tokio::spawn(async move { drop(connection.await) });
        for row in client.query(sql, &[]).await? {
            rows.entry(row.get(0)).or_default().push(row.get(1));
        }
        Ok(rows)
    })
}
