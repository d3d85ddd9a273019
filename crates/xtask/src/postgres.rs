//! A PostgreSQL server of our own, on loopback, with fsync on, that goes away with its owner.

use anyhow::{Context, bail};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the server may take to answer after it was started, recovery included.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running cluster in a temporary directory.
pub struct Postgres {
    binaries: PathBuf,
    directory: PathBuf,
    server: Mutex<Option<Child>>,
    /// Where it listens on 127.0.0.1.
    pub port: u16,
}

impl Postgres {
    /// Makes and starts a cluster; installs PostgreSQL first where it is missing and Debian's package manager is there.
    ///
    /// The server ends with the thread that started it, should this process be killed.
    pub fn start() -> anyhow::Result<Self> {
        let binaries = match binaries() {
            Some(found) => found,
            None => {
                install("postgresql", "PostgreSQL's server programs (initdb, postgres, createdb)")?;
                binaries().context("PostgreSQL was installed and its programs were not found")?
            }
        };
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let directory = std::env::temp_dir().join(format!("cuenta-postgres-{port}"));
        std::fs::create_dir_all(&directory)?;
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&directory))?;
        }
        let postgres = Postgres { binaries, directory, server: Mutex::new(None), port };
        let data = postgres.data();
        run(postgres
            .program("initdb")
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync", "-D"])
            .arg(&data))?;
        let socket = postgres.directory.display();
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{socket}'\nmax_connections = 200\n\
             shared_buffers = '512MB'\nfsync = on\nsynchronous_commit = on\n"
        );
        std::fs::write(data.join("postgresql.auto.conf"), settings)?;
        postgres.launch()?;
        Ok(postgres)
    }

    /// Starts the server in the existing cluster, and waits until it answers.
    pub fn launch(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let mut child = self.spawn()?;
            while child.try_wait()?.is_none() {
                if self.program("pg_isready").args(self.place()).stdout(Stdio::null()).status()?.success() {
                    *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
                    return Ok(());
                }
                if started.elapsed() > PATIENCE {
                    drop(child.kill());
                    drop(child.wait());
                    bail!("PostgreSQL does not answer: {}", self.log());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            // Right after a kill the memory of the old server may still be held by a dying backend.
            if started.elapsed() > Duration::from_secs(10) {
                bail!("PostgreSQL does not start: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Kills the server and all its backends at once, as the end of the machine would.
    pub fn kill(&self) -> anyhow::Result<()> {
        // Stopped first, so that it cannot fork a backend while its children are counted.
        let family = self.pause()?;
        let pids: Vec<String> = family.iter().map(u32::to_string).collect();
        // A backend may have ended in between, which is no fault.
        drop(Command::new("kill").arg("-9").args(&pids).stderr(Stdio::null()).status());
        if let Some(mut child) = self.server.lock().unwrap_or_else(PoisonError::into_inner).take() {
            child.wait()?;
        }
        while TcpStream::connect(("127.0.0.1", self.port)).is_ok() || family.iter().any(|pid| lives(*pid)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Freezes the server and its backends and gives their process ids, the server's first.
    pub fn pause(&self) -> anyhow::Result<Vec<u32>> {
        self.signal("STOP")
    }

    /// Lets a frozen server go on.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal("CONT").map(drop)
    }

    /// The URL of the maintenance database, as the superuser.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Makes an empty database and gives its URL.
    pub fn create_database(&self, name: &str) -> anyhow::Result<String> {
        run(self.program("createdb").args(self.place()).arg(name))?;
        Ok(format!("postgres://postgres@127.0.0.1:{}/{name}", self.port))
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        let log = std::fs::File::options().create(true).append(true).open(self.directory.join("log"))?;
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // A group of its own: Ctrl-C is for xtask, which then takes the server with it.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.spawn().context("PostgreSQL cannot be started")
    }

    fn signal(&self, name: &str) -> anyhow::Result<Vec<u32>> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = server.as_ref().map(Child::id).context("PostgreSQL is not running")?;
        run(Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()))?;
        let backends = children(pid);
        if !backends.is_empty() {
            let pids = backends.iter().map(u32::to_string);
            drop(Command::new("kill").arg(format!("-{name}")).args(pids).stderr(Stdio::null()).status());
        }
        Ok([vec![pid], backends].concat())
    }

    fn place(&self) -> [String; 6] {
        ["-h", "127.0.0.1", "-U", "postgres", "-p", &self.port.to_string()].map(str::to_owned)
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The end of the server's log.
    fn log(&self) -> String {
        tail(&self.directory.join("log"))
    }

    /// A program of PostgreSQL, as the user that may run it.
    fn program(&self, name: &str) -> Command {
        let path = self.binaries.join(name);
        let mut command = if Path::new("/usr/bin/setpriv").exists() {
            let mut command = Command::new("/usr/bin/setpriv");
            if is_root() {
                command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
            }
            command.args(["--pdeathsig=QUIT", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir("/");
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // What it held goes away with it: there is nothing to shut down in order.
        drop(self.kill());
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

/// Runs a program quietly; its error output is shown when it fails.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).output();
    let output = output.with_context(|| format!("{} cannot be started", command.get_program().display()))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Whether this process may do everything.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|file| std::os::unix::fs::MetadataExt::uid(&file) == 0)
}

/// Installs a Debian package; `what` says what it is for when that cannot be done.
pub fn install(package: &str, what: &str) -> anyhow::Result<()> {
    if !is_root() || !Path::new("/usr/bin/apt-get").exists() {
        bail!("{what} cannot be found: install the package (Debian: {package}) and run this again");
    }
    let apt =
        |arguments: &[&str]| run(Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"));
    let install = ["install", "-y", "-q", "--no-install-recommends", package];
    // The lists of a fresh container are empty; those of a machine in use need no second look.
    apt(&install).or_else(|_| apt(&["update", "-q"]).and_then(|()| apt(&install)))
}

/// The last lines of a log.
pub fn tail(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

fn children(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| stat(*pid, 1).and_then(|field| field.parse().ok()) == Some(parent)).collect()
}

fn lives(pid: u32) -> bool {
    stat(pid, 0).is_some_and(|state| state != "Z")
}

/// A field of `/proc/PID/stat`, counted from the state.
fn stat(pid: u32, place: usize) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit(')').next()?.split_whitespace().nth(place).map(str::to_owned)
}

fn binaries() -> Option<PathBuf> {
    let version =
        |path: &PathBuf| path.parent().and_then(|path| path.file_name()?.to_str()?.parse::<u32>().ok()).unwrap_or(0);
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    versions.sort_by_key(version);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = versions.into_iter().rev().chain(std::env::split_paths(&path));
    let programs = ["initdb", "postgres", "createdb", "pg_isready"];
    let mut complete = all.filter(|directory| programs.iter().all(|name| directory.join(name).exists()));
    complete.next()
}
