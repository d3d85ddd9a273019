"""Starts the program under test: its databases, its command line, its server processes."""

import os
import queue
import re
import signal
import sqlite3
import subprocess
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx
import pg8000.native

from contract import REPOSITORY

KEY = re.compile(r"\bkey_[0-9A-Za-z]{22}\.[!-~]{22,}")


def binary():
    """The program under test: CUENTA_BIN, else the release build, else the debug build."""
    if os.environ.get("CUENTA_BIN"):
        return os.environ["CUENTA_BIN"]
    candidates = [REPOSITORY / "target/release/cuenta", REPOSITORY / "target/debug/cuenta"]
    for path in candidates:
        if path.exists():
            return str(path)
    raise FileNotFoundError(f"no cuenta binary: set CUENTA_BIN, or build one of {[str(p) for p in candidates]}")


def poll(condition, what, seconds=15):
    """Waits until `condition` gives something true, and returns it."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"after {seconds} s still not so: {what}"
        time.sleep(0.02)


# ---- databases ----


@dataclass
class Database:
    """A fresh, empty database of one kind."""

    kind: str
    url: str
    path: Path | None = None

    def texts(self):
        """Everything that the database holds, as bytes, to search for what must not be there."""
        if self.kind == "sqlite":
            return b"".join(file.read_bytes() for file in sorted(self.path.parent.glob(self.path.name + "*")))
        with _connect(self.url) as connection:
            tables = connection.run(
                "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
            )
            assert tables, "the server made no table in its database"
            rows = [connection.run(f'SELECT t::text FROM "{schema}"."{table}" t') for schema, table in tables]
        return "\n".join(str(row) for table in rows for row in table).encode()

    def drop(self):
        if self.kind == "postgres":
            with _connect(postgres_url()) as connection:
                name = urlsplit(self.url).path.lstrip("/")
                connection.run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def postgres_url():
    url = os.environ.get("CUENTA_TEST_POSTGRES")
    assert url, (
        "CUENTA_TEST_POSTGRES is not set: give the postgres:// URL of a server where databases may be created, "
        "or say CUENTA_TEST_DATABASES=sqlite to leave PostgreSQL out knowingly"
    )
    return url


class _connect:
    """A pg8000 connection that closes itself."""

    def __init__(self, url):
        parts = urlsplit(url)
        self._connection = pg8000.native.Connection(
            user=unquote(parts.username or "postgres"),
            password=unquote(parts.password) if parts.password else None,
            host=parts.hostname or "127.0.0.1",
            port=parts.port or 5432,
            database=parts.path.lstrip("/") or "postgres",
        )

    def __enter__(self):
        return self._connection

    def __exit__(self, *_):
        self._connection.close()


def create_database(kind, directory):
    """A fresh database; the caller drops it."""
    if kind == "sqlite":
        path = Path(directory) / f"{uuid.uuid4().hex[:8]}.db"
        return Database("sqlite", f"sqlite:{path}", path)
    name = f"cuenta_conformance_{uuid.uuid4().hex[:12]}"
    with _connect(postgres_url()) as connection:
        connection.run(f'CREATE DATABASE "{name}"')
    return Database("postgres", urlsplit(postgres_url())._replace(path=f"/{name}").geturl())


# ---- command line ----


def environment(extra=None):
    """Ours without any CUENTA_ setting, so that only what a test says is in force; None takes one away."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CUENTA_")}
    settings = {**kept, **(extra or {})}
    return {name: value for name, value in settings.items() if value is not None}


def cli(database, *arguments, env=None, check=True):
    """Runs `cuenta ARGUMENTS --database URL` to its end."""
    command = [binary(), *arguments, *(["--database", database.url] if database else [])]
    done = subprocess.run(
        command, env=environment(env), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    if check:
        assert done.returncode == 0, f"cuenta {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}"
    return done


def create_organization(database, name="Conformance", *options):
    return cli(database, "organizations", "create", "--name", name, *options).stdout.strip()


def create_key(database, organization, scope="full"):
    return cli(database, "keys", "create", "--organization", organization, "--scope", scope).stdout.strip()


# ---- servers ----


@dataclass
class Server:
    """One `cuenta serve` process."""

    database: Database
    directory: Path
    env: dict = field(default_factory=dict)
    options: tuple | None = None
    process: subprocess.Popen | None = None
    lines: list = field(default_factory=list)

    def start(self):
        """Returns when the server has said where it listens."""
        self._log = self.directory / f"server-{uuid.uuid4().hex[:8]}.log"
        options = self.options
        if options is None:
            options = ("--database", self.database.url, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(
                [binary(), "serve", *options],
                env=environment({"CUENTA_RATE_LIMIT": "0", **self.env}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.directory,
            )
        self.lines = []
        self._arrived = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()
        self.url = self._announced("listening on")
        self.admin = self._announced("admin on")
        return self

    def _read(self, stream):
        for line in stream:
            self.lines.append(line.rstrip("\n"))

    def _announced(self, words):
        pattern = re.compile(rf"^{words} (http://\S+)$")

        def said():
            found = [match[1] for match in map(pattern.match, list(self.lines)) if match]
            assert found or self.process.poll() is None, f"cuenta serve ended at once:\n{self.log()}"
            return found and found[0]

        return poll(said, f"the server prints '{words} http://…'; it printed {self.lines}", 30)

    @property
    def address(self):
        parts = urlsplit(self.url)
        return parts.hostname, parts.port

    @property
    def first_key(self):
        return poll(lambda: KEY.findall("\n".join(self.lines)), "a key is printed on an empty database", 5)[0]

    def log(self):
        return self._log.read_text(errors="replace")

    def ready(self):
        """Whether the administration listener says that requests can be served."""
        try:
            return httpx.get(self.admin + "/readyz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, seconds=30):
        code = self.process.wait(seconds)
        self._reader.join(5)
        return code

    def stop(self):
        """Asks politely and expects it to go; a panic in its log is a failure."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self.wait(45)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.wait()
                raise AssertionError("the server did not end within 45 s of SIGTERM") from None
        self.process.stdout.close()
        log = self.log()
        assert "panicked at" not in log, f"the server panicked:\n{log[log.index('panicked at') - 200 :][:3000]}"

    def kill(self):
        """As a crash does: no chance to say anything."""
        self.process.kill()
        self.wait()


def sqlite_is_sound(database):
    """Whether SQLite itself finds nothing wrong with the file; true for other databases."""
    if database.kind != "sqlite":
        return True
    connection = sqlite3.connect(database.path)
    try:
        return connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        connection.close()
