"""The clock of a sandbox (D-004, D-019; extensions.md; "A sandbox clock stands still between advances")."""

from datetime import datetime, timedelta

import pytest

from api import Organization, fields, unique


@pytest.fixture
def practice(contract, server):
    """A sandbox whose clock nothing has moved."""
    created = Organization.create(contract, server, "--sandbox")
    yield created.api
    created.close()


def now(api):
    return datetime.fromisoformat(api.get("/test-clock").json()["now"])


def test_only_a_sandbox_has_a_test_clock(api):
    api.get("/test-clock", 422)
    api.post("/test-clock/advance", {"to": "2100-01-01T00:00:00Z"}, 422)


def test_it_stands_still_between_advances(practice):
    begun = now(practice)
    practice.customer()
    assert now(practice) == begun


def test_an_advance_answers_the_new_time_and_it_stays(practice):
    later = now(practice) + timedelta(days=40, hours=5)
    answer = practice.post("/test-clock/advance", {"to": later.isoformat()}).json()
    assert datetime.fromisoformat(answer["now"]) == later == now(practice)


def test_d019_all_time_comes_from_the_clock(practice):
    later = now(practice) + timedelta(days=400)
    practice.post("/test-clock/advance", {"to": later.isoformat()})
    customer, tag = practice.customer(), practice.tag()
    assert datetime.fromisoformat(customer["created_at"]) == later
    assert datetime.fromisoformat(tag["created_at"]) == later


def test_newest_first_holds_while_the_clock_stands_still(practice):
    made = [practice.customer(name=f"Customer {n}") for n in range(10)]
    listed = practice.customers()["data"]
    assert [customer["id"] for customer in listed] == [customer["id"] for customer in made[::-1]]


def test_the_clock_does_not_go_back(practice):
    begun = now(practice)
    practice.post("/test-clock/advance", {"to": (begun - timedelta(seconds=1)).isoformat()}, 422)
    assert now(practice) == begun


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("to", {}),
        ("to", {"to": None}),
        ("to", {"to": "tomorrow"}),
        ("to", {"to": "2100-01-01"}),
        ("to", {"to": "2100-02-30T00:00:00Z"}),
        ("to", {"to": "2100-01-01T00:00:00"}),
        ("to", {"to": 4102444800}),
        ("too", {"to": "2100-01-01T00:00:00Z", "too": "x"}),
    ],
)
def test_d002_an_ill_formed_advance_is_400(practice, field, body):
    assert fields(practice.post("/test-clock/advance", body, 400)) == {field}


def test_offsets_are_understood(practice):
    later = (now(practice) + timedelta(days=2)).replace(hour=12, minute=0, second=0, microsecond=0)
    shifted = later.replace(tzinfo=None).isoformat() + "+02:00"
    practice.post("/test-clock/advance", {"to": shifted})
    assert now(practice) == later - timedelta(hours=2)


def test_an_advance_replays(practice):
    later, key = now(practice) + timedelta(days=1), unique("key")
    first = practice.post("/test-clock/advance", {"to": later.isoformat()}, key=key)
    again = practice.post("/test-clock/advance", {"to": later.isoformat()}, key=key)
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"


def test_each_sandbox_has_a_clock_of_its_own(practice, sandbox):
    begun = now(sandbox.api)
    practice.post("/test-clock/advance", {"to": (now(practice) + timedelta(days=9)).isoformat()})
    assert now(sandbox.api) == begun


def test_the_test_clock_is_no_business_of_a_read_key(sandbox):
    sandbox.reader.get("/test-clock")
    sandbox.reader.post("/test-clock/advance", {"to": "2100-01-01T00:00:00Z"}, 403)
