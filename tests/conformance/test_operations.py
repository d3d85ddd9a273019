"""Running the program: command line, health, stopping, crashing, coming back (extensions.md; idempotency rows 21, 22)."""

import json
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import httpx
import pytest

from api import at_once, unique
from contract import identifier
from proxy import DROP_ANSWER, FlakyProxy
from servers import KEY, binary, cli, create_key, create_organization, environment, poll, sqlite_is_sound
from wire import Wire, head

CUSTOMER = {"name": "Acme Corp", "currency": "USD"}


# ---- command line ----


def test_organizations_create_prints_the_id_alone(server):
    output = cli(server.database, "organizations", "create", "--name", "A name with spaces é").stdout
    assert identifier("org").fullmatch(output.removesuffix("\n"))


def test_organizations_create_takes_sandbox_currency_and_time_zone(server):
    options = ("--sandbox", "--currency", "EUR", "--timezone", "Europe/Berlin")
    output = cli(server.database, "organizations", "create", "--name", "Options", *options).stdout
    assert identifier("org").fullmatch(output.removesuffix("\n"))


@pytest.mark.parametrize(
    "options",
    [["--currency", "usd"], ["--currency", "XXX"], ["--timezone", "Mars/Olympus"], ["--name", ""], ["--colour", "red"]],
)
def test_organizations_create_refuses_nonsense(server, options):
    name = [] if "--name" in options else ["--name", "Nonsense"]
    done = cli(server.database, "organizations", "create", *name, *options, check=False)
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr


@pytest.mark.parametrize("scope", ["full", "read"])
def test_keys_create_prints_the_key_alone_and_it_works_at_once(server, organization, caller, scope):
    output = cli(
        server.database, "keys", "create", "--organization", organization.id, "--scope", scope, "--name", "Laptop"
    ).stdout
    key = output.removesuffix("\n")
    assert KEY.fullmatch(key)
    api = caller(server.url, key)
    api.get("/customers")
    api.post("/customers", CUSTOMER, 200 if scope == "full" else 403)


def test_keys_create_makes_a_full_key_by_default(server, organization, caller):
    key = cli(server.database, "keys", "create", "--organization", organization.id).stdout.strip()
    caller(server.url, key).customer()


@pytest.mark.parametrize(
    "options", [["--organization", "org_0000000000000000000000"], ["--organization", "nonsense"], ["--scope", "all"]]
)
def test_keys_create_refuses_nonsense(server, organization, options):
    owner = [] if "--organization" in options else ["--organization", organization.id]
    done = cli(server.database, "keys", "create", *owner, *options, check=False)
    assert done.returncode != 0
    assert done.stdout == ""


def test_keys_revoke_is_in_force_once_the_command_has_returned(server, organization, caller):
    for _ in range(5):
        key = create_key(server.database, organization.id)
        api = caller(server.url, key)
        for _ in range(3):
            api.get("/customers")  # warms whatever remembers keys
        cli(server.database, "keys", "revoke", key.split(".")[0])
        api.get("/customers", 401)


def test_keys_revoke_of_one_key_leaves_the_others(server, organization, api):
    key = create_key(server.database, organization.id)
    cli(server.database, "keys", "revoke", key.split(".")[0])
    api.get("/customers")


def test_keys_revoke_of_an_unknown_key_fails(server):
    done = cli(server.database, "keys", "revoke", "key_0000000000000000000000", check=False)
    assert done.returncode != 0
    assert done.stderr


def test_the_database_may_come_from_the_environment(server, organization, caller):
    settings = {"CUENTA_DATABASE_URL": server.database.url}
    key = cli(None, "keys", "create", "--organization", organization.id, env=settings).stdout.strip()
    caller(server.url, key).get("/customers")


def test_serve_takes_database_and_address_from_the_environment(new_server, new_database, caller):
    database = new_database()
    settings = {
        "CUENTA_DATABASE_URL": database.url,
        "CUENTA_LISTEN": "127.0.0.1:0",
        "CUENTA_ADMIN_LISTEN": "127.0.0.1:0",
    }
    server = new_server(database, env=settings, options=())
    caller(server.url, server.first_key).customer()


@pytest.mark.parametrize("url", ["", "mysql://x/y", "sqlite:/nowhere/at/all/cuenta.db", "postgres://nobody@127.0.0.1:1/none"])
def test_serve_with_an_unusable_database_ends_with_an_error(server, tmp_path, url):
    command = [binary(), "serve", "--database", url, "--listen", "127.0.0.1:0"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode != 0
    assert "listening on" not in done.stdout
    assert done.stderr
    assert "panicked" not in done.stderr


def test_serve_on_a_taken_address_ends_with_an_error(server, new_database, tmp_path):
    taken = "{}:{}".format(*server.address)
    command = [binary(), "serve", "--database", new_database().url, "--listen", taken]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode != 0
    assert "listening on" not in done.stdout
    assert "panicked" not in done.stderr


# ---- the first start and the next ones ----


def test_the_first_start_prints_a_key_and_a_later_one_does_not(new_server, new_database, caller):
    database = new_database()
    first = new_server(database)
    key = first.first_key
    customer = caller(first.url, key).customer()
    first.stop()

    second = new_server(database)
    assert caller(second.url, key).get(f"/customers/{customer['id']}").json() == customer
    second.stop()
    printed = "\n".join(second.lines)
    assert not KEY.search(printed), printed


def test_a_database_that_the_command_line_filled_is_not_empty(new_server, new_database, caller):
    database = new_database()
    key = create_key(database, create_organization(database))
    server = new_server(database)
    caller(server.url, key).customer()
    server.stop()
    assert not KEY.search("\n".join(server.lines))


# ---- health ----


def test_health_readiness_and_metrics(admin):
    assert admin.get("/healthz").status_code == 200
    assert admin.get("/readyz").status_code == 200
    metrics = admin.get("/metrics")
    assert metrics.status_code == 200
    assert metrics.headers["content-type"].startswith("text/plain")
    samples = [line for line in metrics.text.splitlines() if line and not line.startswith("#")]
    assert samples
    for line in samples:
        name, value = line.rsplit(" ", 1)
        assert name[0].isalpha() or name[0] in "_:"
        float(value)
    assert any(line.startswith("# TYPE ") for line in metrics.text.splitlines())


def test_metrics_hold_no_secret(admin, api):
    api.get("/customers")
    text = admin.get("/metrics").text
    assert api.key.split(".")[1] not in text


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_the_public_listener_does_not_serve_the_administration(server, path):
    assert httpx.get(server.url + path).status_code in (401, 404)


def test_an_unknown_path_of_the_administration_is_404(admin):
    assert admin.get("/customers").status_code == 404


def test_the_log_holds_no_key(server, api):
    api.get("/customers")
    api.get("/customers", 401, headers={"Authorization": "Bearer " + api.key + "x"})
    assert api.key.split(".")[1] not in server.log()


# ---- stopping ----


def begin(wire, key, body):
    """Sends a request but for the last byte of its body, when the server is already reading it."""
    wire.send(
        head(
            "POST", "/customers", "Content-Type: application/json", f"Content-Length: {len(body)}", "Expect: 100-continue", key=key
        )
    )
    wire.continues()
    wire.send(body[:-1])
    return body[-1:]


def test_sigterm_answers_what_is_in_flight_and_ends(new_server, caller):
    server = new_server()
    key = server.first_key
    body = json.dumps({**CUSTOMER, "aliases": ["in-flight"]}).encode()
    with Wire(server.address) as wire, Wire(server.address) as idle:
        rest = begin(wire, key, body)
        idle.send(head("GET", "/customers", key=key))
        assert idle.reply().status == 200

        server.signal(signal.SIGTERM)
        poll(lambda: refuses(server.address), "new connections are refused while the rest is answered")
        assert server.process.poll() is None, "the request in flight is waited for"
        wire.send(rest)
        answer = wire.reply()
        assert answer.status == 200
        created = json.loads(answer.body)
        assert server.wait(30) == 0

    again = new_server(server.database)
    assert caller(again.url, key).get("/customers/in-flight").json() == created


def refuses(address):
    """Whether a new connection is refused, or closed without a word."""
    try:
        with socket.create_connection(address, 2) as connection:
            connection.settimeout(2)
            connection.sendall(b"GET /customers HTTP/1.1\r\nHost: cuenta.example\r\n\r\n")
            return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_server_with_success(new_server, number):
    server = new_server()
    with Wire(server.address) as idle:
        idle.send(head("GET", "/customers", key=server.first_key))
        assert idle.reply().status == 200
        server.signal(number)
        assert server.wait(20) == 0


# ---- crashing ----


def test_rows_21_and_22_kill_9_loses_nothing_and_retries_never_double(new_server, caller):
    """Whatever was acknowledged is there; whatever was not can be tried again with its key: once each."""
    server = new_server()
    api_key = server.first_key
    api = caller(server.url, api_key)
    acknowledged, stop, enough = {}, Event(), Event()
    run = unique("run")

    def write(worker):
        number = 0
        while not stop.is_set():
            name = f"{run}-{worker}-{number}"
            number += 1
            try:
                answer = api.http.post(
                    "/customers",
                    json={**CUSTOMER, "name": name, "aliases": [name]},
                    headers=api.headers({"Idempotency-Key": name}),
                )
            except httpx.HTTPError:
                return name
            assert answer.status_code == 200
            acknowledged[name] = answer.content
            if len(acknowledged) >= 60:
                enough.set()
        return None

    with ThreadPoolExecutor(8) as pool:
        workers = [pool.submit(write, worker) for worker in range(8)]
        assert enough.wait(60)
        server.kill()
        stop.set()
        unanswered = [worker.result() for worker in workers]

    again = new_server(server.database)
    assert sqlite_is_sound(server.database)
    api = caller(again.url, api_key)
    for name, content in acknowledged.items():
        assert api.get(f"/customers/{name}").content == content
    for name, content in list(acknowledged.items())[-10:]:
        replayed = api.post("/customers", {**CUSTOMER, "name": name, "aliases": [name]}, key=name)
        assert replayed.headers["idempotent-replayed"] == "true"
        assert replayed.content == content
    for name in filter(None, unanswered):
        retried = api.post("/customers", {**CUSTOMER, "name": name, "aliases": [name]}, key=name)
        assert api.get(f"/customers/{name}").content == retried.content

    total, offset = 0, 0
    while page := api.customers(limit=100, offset=offset)["data"]:
        total += len(page)
        offset += len(page)
    assert total == len(acknowledged) + len([name for name in unanswered if name])


def test_row_22_a_crash_after_the_commit_and_before_the_answer_replays(new_server, caller):
    server = new_server()
    api_key, key = server.first_key, unique("key")
    with FlakyProxy(server.url, DROP_ANSWER) as proxy, pytest.raises(httpx.HTTPError):
        through = caller(proxy.url, api_key)
        through.http.post("/customers", json=CUSTOMER, headers=through.headers({"Idempotency-Key": key}))
    server.kill()

    again = new_server(server.database)
    api = caller(again.url, api_key)
    assert api.post("/customers", CUSTOMER, key=key).headers["idempotent-replayed"] == "true"
    assert api.count() == 1


def test_links_tags_and_revocations_survive_kill_9(new_server, caller):
    server = new_server()
    api_key = server.first_key
    organization = create_organization(server.database)
    revoked = create_key(server.database, organization)
    cli(server.database, "keys", "revoke", revoked.split(".")[0])
    api = caller(server.url, api_key)
    tag, integration = api.tag(), api.integration()
    customer = api.customer(tag_ids=[tag["id"]], aliases=["a"], contacts=[{"email": "a@example.com", "is_primary": True}])
    account = api.link(customer, integration, "cus_1")
    updated = api.patch(f"/customers/{customer['id']}", {"metadata": {"a": 1}}).json()
    server.kill()

    again = new_server(server.database)
    api = caller(again.url, api_key)
    assert api.get("/customers/cus_1").json() == updated
    assert api.get("/customers/a/connected-accounts").json() == {"data": [account]}
    assert api.get(f"/tags/{tag['id']}").json() == tag
    caller(again.url, revoked).get("/customers", 401)


# ---- several servers ----


@pytest.fixture
def pair(new_server, database_kind, caller):
    """Callers of two servers on one database; where a database belongs to one process, of that one twice (D-019)."""
    first = new_server()
    second = new_server(first.database) if database_kind == "postgres" else first
    return caller(first.url, first.first_key), caller(second.url, first.first_key)


def test_d019_two_servers_give_one_key_one_effect(pair):
    key = unique("key")
    answers = at_once(20, lambda n: pair[n % 2].send("POST", "/customers", body=CUSTOMER, key=key))
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert all(answer.headers.get("retry-after") == "1" for answer in answers if answer.status_code == 409)
    assert len({answer.content for answer in answers if answer.status_code == 200}) == 1
    assert pair[0].count() == pair[1].count() == 1


def test_d021_two_servers_give_an_alias_once(pair):
    answers = at_once(20, lambda n: pair[n % 2].send("POST", "/customers", body={**CUSTOMER, "aliases": ["only"]}))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 19
    assert pair[1].get("/customers/only").json() == pair[0].get("/customers/only").json()


def test_d019_what_one_server_wrote_the_other_reads_at_once(pair):
    for number in range(20):
        customer = pair[number % 2].customer(name=f"Customer {number}")
        assert pair[1 - number % 2].get(f"/customers/{customer['id']}").json() == customer
