//! The program under test: built once, started on a free port, measured through `/proc`, ended by process id.

use crate::postgres::{run, tail};
use crate::root;
use anyhow::{Context, bail};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long a server may take until it listens, recovery and migration included.
const PATIENCE: Duration = Duration::from_secs(60);

/// Builds the release binary and gives its path; `CUENTA_BIN` names one that is there already.
pub fn build() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("CUENTA_BIN") {
        return Ok(path.into());
    }
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--release", "--quiet", "--package", "cuenta"]).current_dir(root()).stdin(Stdio::null());
    if !build.status().context("cargo cannot be started")?.success() {
        bail!("the release binary cannot be built");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target.join("release/cuenta"))
}

/// A running server.
pub struct Server {
    child: Child,
    log: PathBuf,
    /// `HOST:PORT` of the API.
    pub address: String,
    /// `HOST:PORT` of the operators' listener.
    pub admin: String,
}

impl Server {
    /// Starts a server without rate limits and without a log, and waits for its addresses.
    pub fn start(binary: &Path, database: &str) -> anyhow::Result<Self> {
        Server::start_with(binary, database, &[("CUENTA_LOG_LEVEL", "off")])
    }

    /// Starts a server with these variables in its environment, and waits for its addresses.
    pub fn start_with(binary: &Path, database: &str, environment: &[(&str, &str)]) -> anyhow::Result<Self> {
        let (mut child, lines, log) = spawn(binary, database, environment)?;
        let started = Instant::now();
        let next = |start: &str| -> anyhow::Result<String> {
            let rest = PATIENCE.saturating_sub(started.elapsed());
            let Ok(line) = lines.recv_timeout(rest) else {
                bail!("the server did not say where it listens: {}", tail(&log));
            };
            Ok(line.strip_prefix(start).with_context(|| format!("unexpected: {line}"))?.to_owned())
        };
        let found = next("listening on http://").and_then(|address| Ok((address, next("admin on http://")?)));
        match found {
            Ok((address, admin)) => Ok(Server { child, log, address, admin }),
            Err(error) => {
                drop(child.kill());
                drop(child.wait());
                drop(std::fs::remove_file(&log));
                Err(error)
            }
        }
    }

    /// Starts a server and ends it without warning so much later, ready or not.
    pub fn start_and_kill(binary: &Path, database: &str, after: Duration) -> anyhow::Result<()> {
        let (mut child, _lines, log) = spawn(binary, database, &[])?;
        std::thread::sleep(after);
        child.kill()?;
        child.wait()?;
        drop(std::fs::remove_file(&log));
        Ok(())
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it without warning.
    pub fn kill(mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Sends a signal by name, such as `STOP`.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        run(Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()))
    }

    /// Stops it where it stands, and waits until every thread of it does stand, those within a call of the kernel too.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal("STOP")?;
        let start = Instant::now();
        while !self.stands() {
            if start.elapsed() > Duration::from_secs(10) {
                bail!("a thread of the server is still within a call of the kernel after 10 s");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn stands(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten().flatten();
        let mut states = threads.filter_map(|thread| {
            let text = std::fs::read_to_string(thread.path().join("stat")).ok()?;
            text.rsplit(')').next()?.trim_start().chars().next()
        });
        states.all(|state| state == 'T')
    }

    /// Asks it to end, and waits. A server that panicked has not ended well.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.signal("TERM")?;
        let start = Instant::now();
        while self.child.try_wait()?.is_none() {
            if start.elapsed() > Duration::from_secs(30) {
                drop(self.child.kill());
                bail!("the server did not end within 30 s of SIGTERM");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        match text.lines().find(|line| line.contains("panic")) {
            Some(line) => bail!("the server panicked: {line}"),
            None => Ok(()),
        }
    }

    /// The most memory it has held, and what it holds now, in KiB.
    pub fn memory_kib(&self) -> (u64, u64) {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        (value("VmHWM:"), value("VmRSS:"))
    }

    /// CPU time so far in milliseconds.
    pub fn cpu_ms(&self) -> u64 {
        cpu_ms(self.pid())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_file(&self.log));
    }
}

/// Starts the process. Its lines on stdout come through the channel, and are read to the end so that it never waits; what
/// it writes on stderr is in the file.
fn spawn(
    binary: &Path,
    database: &str,
    environment: &[(&str, &str)],
) -> anyhow::Result<(Child, Receiver<String>, PathBuf)> {
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    let log = std::env::temp_dir().join(format!("cuenta-server-{}-{number}.log", std::process::id()));
    let mut child = Command::new(binary)
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--database", database])
        .env("CUENTA_RATE_LIMIT", "0")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log)?)
        .spawn()
        .with_context(|| format!("{} cannot be started", binary.display()))?;
    let out = BufReader::new(child.stdout.take().context("no stdout")?);
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            drop(sender.send(line));
        }
    });
    Ok((child, lines, log))
}

/// CPU time of a process so far in milliseconds; the kernel counts in hundredths of a second.
pub fn cpu_ms(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default();
    fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>() * 10
}

/// Makes an organization and a key in a database.
pub fn make_key(binary: &Path, database: &str) -> anyhow::Result<(String, String)> {
    let ask = |arguments: &[&str]| -> anyhow::Result<String> {
        let output = Command::new(binary).args(arguments).args(["--database", database]).output()?;
        if !output.status.success() {
            bail!("cuenta {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    let organization = ask(&["organizations", "create", "--name", "test"])?;
    let key = ask(&["keys", "create", "--organization", &organization])?;
    Ok((organization, key))
}

/// Whether `cuenta doctor` finds everything in order.
pub fn doctor(binary: &Path, database: &str) -> anyhow::Result<()> {
    let output = Command::new(binary).args(["doctor", "--database", database]).output()?;
    if !output.status.success() {
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("cuenta doctor: {out}{error}");
    }
    Ok(())
}
