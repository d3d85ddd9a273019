//! A PostgreSQL server of our own, on loopback, with fsync on, that goes away with its owner.

use anyhow::{Context, bail};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A running cluster in a temporary directory.
pub struct Postgres {
    binaries: PathBuf,
    directory: PathBuf,
    /// Where it listens on 127.0.0.1.
    pub port: u16,
}

impl Postgres {
    /// Makes and starts a cluster; installs PostgreSQL first where it is missing and Debian's package manager is there.
    pub fn start() -> anyhow::Result<Self> {
        let binaries = match binaries() {
            Some(found) => found,
            None => {
                install()?;
                binaries().context("PostgreSQL was installed and its programs were not found")?
            }
        };
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let directory = std::env::temp_dir().join(format!("cuenta-postgres-{port}"));
        std::fs::create_dir_all(&directory)?;
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&directory))?;
        }
        let postgres = Postgres { binaries, directory, port };
        let data = postgres.data();
        run(postgres
            .program("initdb")
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "-D"])
            .arg(&data))?;
        let socket = postgres.directory.display();
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{socket}'\nmax_connections = 200\n\
             shared_buffers = '512MB'\nfsync = on\nsynchronous_commit = on\n"
        );
        let file = data.join("postgresql.auto.conf");
        std::fs::write(&file, settings)?;
        postgres.launch()?;
        Ok(postgres)
    }

    /// Starts the server in the existing cluster.
    pub fn launch(&self) -> anyhow::Result<()> {
        let log = self.directory.join("log");
        let start = || {
            let mut command = self.program("pg_ctl");
            command.arg("-D").arg(self.data()).arg("-l").arg(&log).args(["-w", "-t", "60", "start"]);
            run(&mut command)
        };
        // Right after a kill the memory of the old server may still be held by a dying backend.
        for _ in 0..20 {
            if start().is_ok() {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        start()
    }

    /// Kills the server and all its backends at once, as a power cut would.
    pub fn kill(&self) -> anyhow::Result<()> {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid"))?;
        let pid = file.lines().next().context("no process id")?;
        // The backends notice the end of their parent; killing the group ends them at the same moment.
        run(Command::new("sh").arg("-c").arg(format!("backends=$(pgrep -P {pid}); kill -9 {pid} $backends")))?;
        // The port is free again when the last of them is gone.
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Ok(())
    }

    /// The URL of the maintenance database.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Makes an empty database and gives its URL.
    pub fn create_database(&self, name: &str) -> anyhow::Result<String> {
        run(self.program("createdb").args([
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-p",
            &self.port.to_string(),
            name,
        ]))?;
        Ok(format!("postgres://postgres@127.0.0.1:{}/{name}", self.port))
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// A program of PostgreSQL, as the user that may run it.
    fn program(&self, name: &str) -> Command {
        let path = self.binaries.join(name);
        if !is_root() {
            return Command::new(path);
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(path);
        command.current_dir("/");
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let mut stop = self.program("pg_ctl");
        stop.arg("-D").arg(self.data()).args(["-m", "immediate", "-w", "stop"]);
        drop(stop.stdout(Stdio::null()).stderr(Stdio::null()).status());
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

fn binaries() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    versions.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    versions.extend(std::env::split_paths(&path));
    let complete =
        |directory: &Path| ["initdb", "pg_ctl", "createdb"].iter().all(|name| directory.join(name).exists());
    versions.into_iter().rev().find(|directory| complete(directory))
}

fn install() -> anyhow::Result<()> {
    if !is_root() || !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "the tests need PostgreSQL's server programs (initdb, pg_ctl, createdb): install them and run this again"
        );
    }
    let mut update = Command::new("apt-get");
    run(update.args(["update", "-q"]))?;
    let mut install = Command::new("apt-get");
    run(install
        .args(["install", "-y", "-q", "--no-install-recommends", "postgresql"])
        .env("DEBIAN_FRONTEND", "noninteractive"))
}
