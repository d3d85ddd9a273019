//! Measuring: a load in a process of its own, CPU and memory of others by `/proc`.

use crate::server::{Server, cpu_ms};
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One run of the load generator.
#[derive(Clone, Debug)]
pub struct Shot {
    pub clients: u64,
    /// The bytes of a request, with the places that `load` fills.
    pub request: String,
    pub status: u16,
    /// What an answer holds, head and body; empty where nothing is looked for.
    pub expect: String,
    pub lines: Option<PathBuf>,
    pub first: u64,
    pub cycle: u64,
    pub warm_up: Duration,
    pub duration: Duration,
    pub most: u64,
}

/// What it measured.
#[derive(Clone, Copy, Debug)]
pub struct Hit {
    /// Answers, those of the warm-up among them.
    pub answered: u64,
    pub per_second: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    /// CPU of the load generator.
    pub client_cpu_ms: u64,
    /// The number after the last request.
    pub next: u64,
}

/// Fires and waits. A single wrong answer is an error.
pub fn fire(address: &str, shot: &Shot) -> anyhow::Result<Hit> {
    let plan = json!({
        "address": address,
        "connections": shot.clients,
        "warm_up_ms": u64::try_from(shot.warm_up.as_millis())?,
        "duration_ms": u64::try_from(shot.duration.as_millis())?,
        "most": shot.most,
        "request": shot.request,
        "status": shot.status,
        "expect": shot.expect,
        "lines": shot.lines,
        "first": shot.first,
        "cycle": shot.cycle,
    });
    let mut child = Command::new(std::env::current_exe()?)
        .arg("load")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("the load generator cannot be started")?;
    child.stdin.take().context("no stdin")?.write_all(plan.to_string().as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("the load generator failed on {}", shot.request.lines().next().unwrap_or_default());
    }
    let result: Value = serde_json::from_slice(&output.stdout)?;
    let number = |name: &str| result[name].as_u64().unwrap_or(0);
    if number("errors") > 0 || number("measured") == 0 {
        bail!("{} wrong answers, the first: {}", number("errors"), result["first_error"]);
    }
    Ok(Hit {
        answered: number("answered"),
        per_second: per_second(number("measured"), number("elapsed_us")),
        p50_us: number("p50_us"),
        p99_us: number("p99_us"),
        client_cpu_ms: number("cpu_ms"),
        next: number("next"),
    })
}

fn per_second(count: u64, micros: u64) -> u64 {
    u64::try_from(u128::from(count) * 1_000_000 / u128::from(micros.max(1))).unwrap_or(u64::MAX)
}

/// The bytes of a request of the API.
pub fn request(method: &str, path: &str, key: &str, idempotency_key: Option<&str>, body: &str) -> String {
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\nAlguna-Version: 2026-04-01\r\n"
    );
    if let Some(key) = idempotency_key {
        text.push_str(&format!("Idempotency-Key: {key}\r\n"));
    }
    if method != "GET" {
        // The places are as long as ten digits in the end.
        let length = body.len() + body.matches("{r}").count() * 7 + body.matches("{n}").count() * 7;
        text.push_str(&format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"));
    }
    format!("{text}\r\n{body}")
}

/// Starts to count the peak of a process's memory anew.
pub fn forget_peak(pid: u32) {
    drop(std::fs::write(format!("/proc/{pid}/clear_refs"), "5"));
}

/// CPU of a PostgreSQL cluster so far: its processes, and those that have ended.
#[derive(Clone, Debug)]
pub struct Cluster {
    postmaster: u32,
}

impl Cluster {
    /// The cluster whose server listens on this port.
    pub fn on_port(port: u16) -> anyhow::Result<Self> {
        let wanted = format!("cuenta-postgres-{port}/");
        let postmaster = processes().find(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains(&wanted) && line.contains("postgres\0-D")
        });
        Ok(Cluster { postmaster: postmaster.context("the processes of PostgreSQL were not found")? })
    }

    /// In milliseconds.
    pub fn cpu_ms(&self) -> u64 {
        let children = processes().filter(|pid| field(*pid, 1) == Some(u64::from(self.postmaster))).map(cpu_ms);
        // Fields 16 and 17 of the line: what children that have ended and were waited for have used.
        let ended = field(self.postmaster, 13).unwrap_or(0) + field(self.postmaster, 14).unwrap_or(0);
        cpu_ms(self.postmaster) + ended * 10 + children.sum::<u64>()
    }
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// A field of `/proc/PID/stat`, counted from the state.
fn field(pid: u32, place: usize) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit(')').next()?.split_whitespace().nth(place)?.parse().ok()
}

/// Processor time so far, of everything and of this run with the processes it has started, in hundredths of a second.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    spent: u64,
    busy: u64,
    own: u64,
}

impl Usage {
    /// Up to now.
    pub fn now(cluster: Option<&Cluster>) -> Self {
        let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        // User, nice, system, idle, waiting for disks, interrupts, soft interrupts, stolen.
        let times: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|time| time.parse().ok()).collect();
        let idle: u64 = times.iter().skip(3).take(2).sum();
        let spent: u64 = times.iter().sum();
        let pid = std::process::id();
        let own: u64 = (11..15).filter_map(|place| field(pid, place)).sum();
        Usage { spent, busy: spent - idle, own: own + cluster.map_or(0, Cluster::cpu_ms) / 10 }
    }

    /// Which share of the processors others have used in between, in percent.
    pub fn others_since(&self, before: &Usage) -> u64 {
        let busy = (self.busy - before.busy).saturating_sub(self.own - before.own);
        (busy * 100).checked_div(self.spent - before.spent).unwrap_or(0)
    }
}

/// Waits until a server, and the database behind it, do nothing any more, such as sealing what was written.
pub fn settle(server: &Server, cluster: Option<&Cluster>, patience: Duration) {
    let started = Instant::now();
    let busy = || server.cpu_ms() + cluster.map_or(0, Cluster::cpu_ms);
    let mut quiet = 0;
    while quiet < 3 && started.elapsed() < patience {
        let before = busy();
        std::thread::sleep(Duration::from_millis(200));
        quiet = if busy() - before <= 20 { quiet + 1 } else { 0 };
    }
}

/// The middle one.
pub fn median(mut numbers: Vec<u64>) -> u64 {
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied().unwrap_or(0)
}
