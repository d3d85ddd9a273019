//! What a load was told, to compare with what is there afterwards.

use super::Outcome;
use crate::client::Client;
use crate::server::Server;
use anyhow::{Context, bail};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The names that were acknowledged with their ids, and those whose outcome nobody knows.
#[derive(Default)]
pub struct Ledger {
    acknowledged: Mutex<Vec<(String, String)>>,
    uncertain: Mutex<Vec<String>>,
    wrong: Mutex<Vec<String>>,
    next: AtomicUsize,
}

/// Threads that create customers until they are stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Ends the load and waits for it.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.threads.into_iter().for_each(|thread| drop(thread.join()));
    }
}

impl Ledger {
    /// Starts so many clients. Each name is created once, under the name as its key for nine of ten.
    pub fn load(self: &Arc<Self>, addresses: &[&str], key: &str, clients: usize) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..clients).map(|client| {
            let (ledger, stop) = (Arc::clone(self), Arc::clone(&stop));
            let address = addresses.get(client % addresses.len().max(1)).copied().unwrap_or_default();
            let mut client = Client::new(address, key);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    let number = ledger.next.fetch_add(1, Ordering::Relaxed);
                    // Nobody can repeat a request without a key: only its acknowledgement counts.
                    let kind = if number % 10 == 0 { "plain" } else { "keyed" };
                    ledger.create(&mut client, &format!("{kind}-{number}"));
                }
            })
        });
        Load { threads: threads.collect(), stop }
    }

    /// Creates one customer and notes what was said.
    pub fn create(&self, client: &mut Client, name: &str) {
        let key = name.starts_with("keyed").then_some(name);
        let body = format!(r#"{{"name":"{name}","currency":"USD","aliases":["{name}"]}}"#);
        let note = |list: &Mutex<Vec<String>>, text: String| {
            list.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        };
        match client.request("POST", "/customers", key, &body) {
            Ok(answer) if answer.status == 200 => {
                let id = answer.text("id").unwrap_or_default();
                let mut acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
                acknowledged.push((name.to_owned(), id));
            }
            Ok(answer) if answer.status == 503 && answer.transient => {
                note(&self.uncertain, name.to_owned());
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(answer)
                if answer.status == 409 && answer.text("code").as_deref() == Some("idempotency_key_in_flight") =>
            {
                note(&self.uncertain, name.to_owned());
            }
            // Without a key the other of two servers may have been first: then the name is taken, and nothing is doubled.
            Ok(answer) if key.is_none() && answer.text("code").as_deref() == Some("alias_taken") => {}
            Ok(answer) => {
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                note(&self.wrong, format!("{name}: {} {text}", answer.status));
            }
            Err(_) => {
                note(&self.uncertain, name.to_owned());
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Names acknowledged so far.
    pub fn count(&self) -> usize {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Repeats every keyed request whose outcome nobody knows, until it is known: it has to end in one customer.
    pub fn settle(&self, address: &str, key: &str) -> anyhow::Result<usize> {
        let mut client = Client::new(address, key);
        let uncertain = std::mem::take(&mut *self.uncertain.lock().unwrap_or_else(PoisonError::into_inner));
        let mut keyed: Vec<String> = uncertain.into_iter().filter(|name| name.starts_with("keyed")).collect();
        let settled = keyed.len();
        let start = Instant::now();
        while !keyed.is_empty() {
            keyed.drain(..).for_each(|name| self.create(&mut client, &name));
            keyed = std::mem::take(&mut *self.uncertain.lock().unwrap_or_else(PoisonError::into_inner));
            if start.elapsed() > Duration::from_secs(60) {
                bail!("{} requests are still without an answer after a minute", keyed.len());
            }
        }
        Ok(settled)
    }

    /// How many of the acknowledged customers are not there, by their ids.
    pub fn missing(&self, address: &str, key: &str, range: std::ops::Range<usize>) -> anyhow::Result<usize> {
        let mut client = Client::new(address, key);
        let acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let mut missing = 0;
        for (name, id) in acknowledged.iter().take(range.end).skip(range.start) {
            let answer = client.request("GET", &format!("/customers/{id}"), None, "")?;
            let found = answer.status == 200 && answer.text("name").as_deref() == Some(name);
            missing += usize::from(!found);
        }
        Ok(missing)
    }

    /// Reads all customers and compares them with what was said.
    pub fn compare(&self, server: &Server, key: &str, rounds: usize, note: String) -> anyhow::Result<Outcome> {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = wrong.first() {
            bail!("{} answers were neither success nor 503, such as {first}", wrong.len());
        }
        let mut found: HashMap<String, Vec<String>> = HashMap::new();
        let mut client = Client::new(&server.address, key);
        for page in 0.. {
            let path = format!("/customers?limit=100&sort=created_at:asc&offset={}", page * 100);
            let answer = client.request("GET", &path, None, "")?;
            let list: serde_json::Value = serde_json::from_slice(&answer.body).context("a list is not JSON")?;
            let data = list["data"].as_array().context("a list without data")?;
            for customer in data {
                let text = |name: &str| customer[name].as_str().unwrap_or_default().to_owned();
                found.entry(text("name")).or_default().push(text("id"));
            }
            if data.len() < 100 {
                break;
            }
        }
        let acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = acknowledged.iter().filter(|(name, id)| !found.get(name).is_some_and(|ids| ids.contains(id)));
        let lost = lost.count();
        let doubled = found.values().filter(|ids| ids.len() > 1).count();
        Ok(Outcome { rounds, acknowledged: acknowledged.len(), lost, doubled, note })
    }
}
