"""Fixtures: databases, servers, organizations. Every test runs once for each kind of database."""

import os
import resource

import httpx
import pytest

from api import Api, Organization
from contract import Contract
from servers import Server, create_database
from stalls import Stalls

KINDS = [kind.strip() for kind in os.environ.get("CUENTA_TEST_DATABASES", "sqlite,postgres").split(",")]
assert KINDS and set(KINDS) <= {"sqlite", "postgres"}, f"CUENTA_TEST_DATABASES: {KINDS}"

# A thousand sockets here and a thousand in the server, which inherits the limit.
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, _hard), _hard))


@pytest.fixture(scope="session", params=KINDS)
def database_kind(request):
    """`sqlite`, then `postgres`; CUENTA_TEST_DATABASES can leave one out, nothing else can."""
    return request.param


@pytest.fixture(scope="session")
def contract():
    return Contract()


@pytest.fixture(scope="session")
def server(database_kind, tmp_path_factory):
    """The server that most tests share, without a rate limit, on a fresh database."""
    directory = tmp_path_factory.mktemp(database_kind)
    database = create_database(database_kind, directory)
    started = Server(database, directory)
    try:
        started.start()
        yield started
        started.stop()
    finally:
        if started.process and started.process.poll() is None:
            started.process.kill()
        database.drop()


@pytest.fixture(scope="session", autouse=True)
def stalls(server):
    """Connections that stall from the first moment of a run; `test_hostile` asks at its end when they were cut."""
    watched = Stalls(server, server.first_key)
    yield watched
    watched.close()


@pytest.fixture(autouse=True)
def the_server_survives(server):
    yield
    assert server.process.poll() is None, f"the server is gone:\n{server.log()[-3000:]}"


@pytest.fixture(scope="session")
def organization(contract, server):
    """The organization of most tests."""
    created = Organization.create(contract, server)
    yield created
    created.close()


@pytest.fixture(scope="session")
def stranger(contract, server):
    """Another organization on the same server."""
    created = Organization.create(contract, server)
    yield created
    created.close()


@pytest.fixture(scope="session")
def sandbox(contract, server):
    """A sandbox organization on the same server."""
    created = Organization.create(contract, server, "--sandbox")
    yield created
    created.close()


@pytest.fixture
def fresh(contract, server):
    """An organization that nothing has touched."""
    created = Organization.create(contract, server)
    yield created.api
    created.close()


@pytest.fixture
def api(organization):
    return organization.api


@pytest.fixture
def reader(organization):
    """The same organization through a key that may only read."""
    return organization.reader


@pytest.fixture(scope="session")
def crowd(contract, server):
    """An organization with 105 customers, one more page than the largest page."""
    created = Organization.create(contract, server)
    for number in range(105):
        created.api.customer(name=f"Customer {number:03}")
    yield created.api
    created.close()


@pytest.fixture
def new_database(database_kind, tmp_path):
    """Makes fresh databases of the kind under test."""
    made = []

    def make():
        made.append(create_database(database_kind, tmp_path))
        return made[-1]

    yield make
    for database in made:
        database.drop()


@pytest.fixture
def new_server(new_database, tmp_path):
    """Starts servers of the test's own, on a fresh database unless one is given."""
    started = []

    def start(database=None, **settings):
        server = Server(database or new_database(), tmp_path, **settings)
        started.append(server)
        return server.start()

    yield start
    try:
        for server in started:
            server.stop()
    finally:
        for server in started:
            if server.process and server.process.poll() is None:
                server.process.kill()


@pytest.fixture
def caller(contract):
    """Callers of other servers or other keys."""
    made = []

    def make(url, key):
        made.append(Api(contract, url, key))
        return made[-1]

    yield make
    for api in made:
        api.http.close()


@pytest.fixture
def admin(server):
    with httpx.Client(base_url=server.admin, timeout=10, trust_env=False) as client:
        yield client
