//! The program under test: built once, started on a free port, measured through `/proc`, ended by process id.

use crate::postgres::run;
use crate::root;
use anyhow::{Context, bail};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Builds the release binary and gives its path.
pub fn build() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("CUENTA_BIN") {
        return Ok(path.into());
    }
    run(Command::new(env!("CARGO")).args(["build", "--release", "--package", "cuenta"]).current_dir(root()))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target.join("release/cuenta"))
}

/// A running server.
pub struct Server {
    child: Child,
    /// `HOST:PORT` of the API.
    pub address: String,
    /// `HOST:PORT` of the operators' listener.
    pub admin: String,
}

impl Server {
    /// Starts a server without rate limits and waits for its address.
    pub fn start(binary: &PathBuf, database: &str) -> anyhow::Result<Self> {
        let mut child = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--database", database])
            .env("CUENTA_RATE_LIMIT", "0")
            .env("CUENTA_LOG_LEVEL", "off")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{} cannot be started", binary.display()))?;
        let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let mut next = |start: &str| -> anyhow::Result<String> {
            let line = lines.next().context("the server ended before it listened")??;
            Ok(line.strip_prefix(start).with_context(|| format!("unexpected: {line}"))?.to_owned())
        };
        let address = next("listening on http://");
        let admin = next("admin on http://");
        match (address, admin) {
            (Ok(address), Ok(admin)) => Ok(Server { child, address, admin }),
            (address, admin) => {
                drop(child.kill());
                drop(child.wait());
                address.and(admin)?;
                bail!("the server did not start")
            }
        }
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

    /// Asks it to end, and waits.
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
        Ok(())
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
    }
}

/// CPU time of a process so far in milliseconds; the kernel counts in hundredths of a second.
pub fn cpu_ms(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default();
    fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>() * 10
}

/// Makes an organization and a key in a database.
pub fn make_key(binary: &PathBuf, database: &str) -> anyhow::Result<(String, String)> {
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
pub fn doctor(binary: &PathBuf, database: &str) -> anyhow::Result<()> {
    let output = Command::new(binary).args(["doctor", "--database", database]).output()?;
    if !output.status.success() {
        bail!("cuenta doctor: {}", String::from_utf8_lossy(&output.stdout));
    }
    Ok(())
}
