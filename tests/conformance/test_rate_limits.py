"""Limits per key (D-015; idempotency.md rows 11, 18, 31 and section 3). A server of their own: 5 requests a second."""

import re
import time

import pytest
from alguna import Alguna

from api import unique
from servers import create_key, create_organization

CUSTOMER = {"name": "Acme Corp", "currency": "USD"}


@pytest.fixture
def limited(new_server):
    return new_server(env={"CUENTA_RATE_LIMIT": "5"})


@pytest.fixture
def organization_id(limited):
    return create_organization(limited.database)


@pytest.fixture
def another_key(limited, organization_id, caller):
    """Makes callers with keys of their own in one organization."""
    return lambda: caller(limited.url, create_key(limited.database, organization_id))


def exhaust(api):
    """Asks without pause until the limit answers; that answer."""
    for _ in range(60):
        answer = api.send("GET", "/customers")
        if answer.status_code == 429:
            return answer
        assert answer.status_code == 200
    raise AssertionError("60 requests in a row and no 429 at a limit of 5 a second")


def test_d015_a_burst_is_cut_off_and_a_429_says_when_to_come_back(another_key):
    api = another_key()
    begun = time.monotonic()
    answers = [api.send("GET", "/customers") for _ in range(40)]
    elapsed = time.monotonic() - begun
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}
    assert 5 <= statuses.count(200) <= 5 * (elapsed + 2)

    refused = answers[statuses.index(429)]
    wait = int(refused.headers["retry-after"])
    assert 1 <= wait <= 60
    state = dict(re.findall(r"(\w+)=(\d+)", refused.headers["ratelimit"]))
    assert (int(state["r"]), int(state["t"])) == (0, wait), "t equals Retry-After"
    assert refused.headers["transient-error"] == "true"

    time.sleep(wait)  # what the server asked for, and no more
    api.get("/customers")


def test_d015_every_answer_tells_the_limit_and_what_is_left(another_key):
    api = another_key()
    answer = api.get("/customers")
    policy = dict(re.findall(r"(\w+)=(\d+)", answer.headers["ratelimit-policy"]))
    assert int(policy["q"]) / int(policy.get("w", 1)) == 5
    state = dict(re.findall(r"(\w+)=(\d+)", answer.headers["ratelimit"]))
    assert 0 <= int(state["r"]) < int(policy["q"])


def test_d015_the_limit_is_per_key(another_key):
    busy, calm = another_key(), another_key()
    exhaust(busy)
    calm.get("/customers")


def test_row_18_a_429_is_not_stored_and_does_nothing(another_key):
    api, key, alias = another_key(), unique("key"), unique("alias")
    body = {**CUSTOMER, "aliases": [alias]}
    exhaust(api)
    refused = api.send("POST", "/customers", body=body, key=key)
    assert refused.status_code == 429
    calm = another_key()
    calm.get(f"/customers/{alias}", 404)
    assert calm.post("/customers", body, key=key).headers["idempotent-replayed"] == "false"


def test_row_31_replays_count(another_key):
    api, key = another_key(), unique("key")
    statuses = [api.send("POST", "/customers", body=CUSTOMER, key=key).status_code for _ in range(40)]
    assert set(statuses) == {200, 429}


def test_row_11_the_key_before_the_limit_before_the_version(another_key):
    api = another_key()
    exhaust(api)
    assert api.send("GET", "/customers", headers={"Authorization": "Bearer x.y"}).status_code == 401
    assert api.send("GET", "/customers", headers={"Alguna-Version": "latest"}).status_code == 429


def test_the_official_client_waits_as_long_as_it_is_told(limited, another_key):
    api = another_key()
    client = Alguna(api_key=api.key, base_url=limited.url)
    ids = {client.customers.create(name=f"Customer {n}", currency="USD").id for n in range(14)}
    assert len(ids) == 14
    assert another_key().count() == 14


def test_d015_100_a_second_by_default(new_server, caller):
    server = new_server(env={"CUENTA_RATE_LIMIT": None})
    answer = caller(server.url, server.first_key).get("/customers")
    policy = dict(re.findall(r"(\w+)=(\d+)", answer.headers["ratelimit-policy"]))
    assert int(policy["q"]) / int(policy.get("w", 1)) == 100


def test_d015_zero_turns_the_limit_off(api):
    statuses = {api.send("GET", "/tags").status_code for _ in range(250)}
    assert statuses == {200}
