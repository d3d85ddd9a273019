"""`Idempotency-Key`, row by row of the decision table in idempotency.md, as far as it can be seen from outside."""

import json
import unicodedata

import httpx
import pytest

from api import at_once, segment, unique
from servers import cli, create_key, poll
from wire import Wire, exchange, head, write

CUSTOMER = {"name": "Acme Corp", "currency": "USD"}


@pytest.fixture
def key():
    return unique("key")


def create(api, key, status=200, **properties):
    return api.post("/customers", {**CUSTOMER, **properties}, status, key=key)


def assert_replay(first, again):
    """Row 13: the same status and bytes, marked, with a request id of its own."""
    assert again.status_code == first.status_code
    assert again.content == first.content
    assert again.headers.get("content-type") == first.headers.get("content-type")
    assert again.headers.get("location") == first.headers.get("location")
    assert first.headers["idempotent-replayed"] == "false"
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["x-request-id"] != first.headers["x-request-id"]


def assert_reused(answer, key):
    """Row 14: the key belongs to another request."""
    assert answer.status_code == 422
    assert answer.json()["code"] == "idempotency_key_reused"
    assert answer.json()["title"]
    assert answer.headers["idempotency-key"] == key
    assert answer.headers["idempotent-replayed"] == "false"
    assert "retry-after" not in answer.headers


# ---- rows 1 to 4: which requests take a key ----


def test_rows_1_and_13_post_patch_and_delete_replay(api, key):
    integration, external_id = api.integration(), unique("cus")
    created = create(api, key)
    assert_replay(created, create(api, key))
    path = f"/customers/{created.json()['id']}"

    patched = api.patch(path, {"name": "One"}, key=f"{key}-patch")
    api.patch(path, {"name": "Two"})
    assert_replay(patched, api.patch(path, {"name": "One"}, key=f"{key}-patch"))
    assert api.get(path).json()["name"] == "Two", "a replay does nothing"

    body = {"integration_id": integration["id"], "external_id": external_id}
    linked = api.post(f"{path}/connected-accounts", body, key=f"{key}-link")
    assert_replay(linked, api.post(f"{path}/connected-accounts", body, key=f"{key}-link"))

    account = f"{path}/connected-accounts/{linked.json()['id']}"
    deleted = api.delete(account, key=f"{key}-delete")
    assert_replay(deleted, api.delete(account, key=f"{key}-delete"))


def test_row_34_a_delete_replays_its_204_and_not_a_fresh_404(api, key):
    customer, integration = api.customer(), api.integration()
    account = api.link(customer, integration, unique("cus"))
    path = f"/customers/{customer['id']}/connected-accounts/{account['id']}"
    api.delete(path, 204, key=key)
    api.delete(path, 204, key=key)
    api.delete(path, 404, key=f"{key}-other")


def test_row_3_reads_ignore_a_key_even_a_bad_one(api, key):
    path = f"/customers/{api.customer()['id']}"
    for text in (key, "x" * 300):
        answer = api.get(path, key=text)
        assert "idempotency-key" not in answer.headers
        assert "idempotent-replayed" not in answer.headers
    create(api, key)
    api.get(path, key=key)


def test_row_4_without_a_key_every_request_is_carried_out(api):
    first, second = (api.post("/customers", CUSTOMER) for _ in range(2))
    assert first.json()["id"] != second.json()["id"]
    assert "idempotent-replayed" not in second.headers


# ---- rows 5 and 6: grammar ----


@pytest.mark.parametrize("text", ["x", "k" * 255, "a b", "!~", '"quoted"', "%00", "a,b", "ik_a1b2c3d4e5f6"])
def test_row_5_1_to_255_printable_characters_are_a_key(fresh, text):
    assert_replay(create(fresh, text), create(fresh, text))


def test_row_5_keys_are_opaque_and_case_sensitive_and_quotes_belong_to_them(api, key):
    spellings = [key, key.upper(), f'"{key}"', f"{key} {key}", f"{key}  {key}"]
    ids = {create(api, text).json()["id"] for text in spellings}
    assert len(ids) == len(spellings)


def test_row_5_white_space_around_a_key_is_trimmed(api, key):
    body = json.dumps(CUSTOMER).encode()
    padded = exchange(_address(api), write("POST", "/customers", body, f"Idempotency-Key:  \t {key} \t ", key=api.key))
    assert padded.header("idempotency-key") == key
    again = api.post("/customers", content=body, key=key)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.content == padded.body


@pytest.mark.parametrize("text", ["", " ", "    "])
def test_row_6_an_empty_key_is_no_key(api, text):
    body = json.dumps(CUSTOMER).encode()
    answers = [
        exchange(_address(api), write("POST", "/customers", body, f"Idempotency-Key: {text}", key=api.key)) for _ in range(2)
    ]
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].body != answers[1].body
    for answer in answers:
        assert answer.header("idempotency-key") is None
        assert answer.header("idempotent-replayed") is None


@pytest.mark.parametrize(
    "fields",
    [
        [b"Idempotency-Key: " + b"k" * 256],
        [b"Idempotency-Key: a\tb"],
        [b"Idempotency-Key: caf\xc3\xa9"],
        [b"Idempotency-Key: \xff"],
        [b"Idempotency-Key: same", b"Idempotency-Key: same"],
        [b"Idempotency-Key: one", b"idempotency-key: two"],
    ],
    ids=["256 bytes", "control byte", "utf-8", "0xff", "two equal fields", "two fields"],
)
def test_row_6b_a_bad_key_is_400_and_nothing_happens(api, fields):
    alias = unique("alias")
    body = json.dumps({**CUSTOMER, "aliases": [alias]}).encode()
    answer = exchange(_address(api), write("POST", "/customers", body, *fields, key=api.key))
    assert answer.status == 400
    problem = json.loads(answer.body)
    assert problem["title"]
    assert problem["type"] == "about:blank"
    assert answer.header("idempotency-key") is None
    api.get(f"/customers/{alias}", 404)


# ---- row 7: scope ----


def test_row_7_and_20_a_key_belongs_to_the_organization_and_not_to_the_api_key(api, organization, server, caller, key):
    first = create(api, key)
    rotated = caller(server.url, create_key(server.database, organization.id))
    assert_replay(first, create(rotated, key))


def test_row_7_another_organization_has_keys_of_its_own(api, stranger, sandbox, key):
    answers = [create(each, key) for each in (api, stranger.api, sandbox.api)]
    assert {answer.headers["idempotent-replayed"] for answer in answers} == {"false"}
    assert len({answer.json()["id"] for answer in answers}) == 3


def test_row_20_a_revoked_key_gets_401_before_the_look_up(api, organization, server, caller, key):
    text = create_key(server.database, organization.id)
    revoked = caller(server.url, text)
    first = create(revoked, key)
    cli(server.database, "keys", "revoke", text.split(".")[0])
    assert create(revoked, key, 401).json()["code"] == "unauthenticated"
    assert_replay(first, create(api, key))


# ---- rows 8, 9, 14: fingerprints ----


def test_row_8_the_same_key_on_another_endpoint_or_method_is_422(api, key):
    first = create(api, key)
    path = f"/customers/{first.json()['id']}"
    assert_reused(api.patch(path, CUSTOMER, 422, key=key), key)
    assert_reused(api.post("/tags", {"name": "Gold", "color": "#ff8800", "entity_types": ["customer"]}, 422, key=key), key)
    assert_reused(api.post("/integrations", {"provider": "stripe"}, 422, key=key), key)
    account = api.link(first.json(), api.integration(), unique("cus"))
    assert_reused(api.delete(f"{path}/connected-accounts/{account['id']}", 422, key=key), key)
    assert api.get(f"{path}/connected-accounts").json() == {"data": [account]}
    assert_replay(first, create(api, key))


def test_row_14_another_body_is_422_and_leaves_the_record_alone(api, key):
    first = create(api, key)
    for other in ({"name": "Acme Corp."}, {"aliases": []}, {"aliases": None}, {"currency": "EUR"}):
        assert_reused(create(api, key, 422, **other), key)
    assert_replay(first, create(api, key))


def test_row_8_another_path_is_another_request(api, key):
    alias = unique("alias")
    customer = api.customer(aliases=[alias])
    api.patch(f"/customers/{customer['id']}", {"name": "New"}, key=key)
    assert_reused(api.patch(f"/customers/{alias}", {"name": "New"}, 422, key=key), key)


@pytest.mark.parametrize(
    "respelled",
    [
        b'{"currency": "USD", "metadata": {"b": [1, 2], "a": "x"}, "name": "Acme"}',
        b'{"name":"Acme","currency":"USD","metadata":{"a":"x","b":[1,2]}}',
        b'\r\n\t {"name" : "Acme" ,"currency" : "USD","metadata":{"a":"x","b":[1,\n2]}}  ',
        rb'{"n\u0061me": "\u0041cme", "currency": "USD", "metadata": {"a": "x", "b": [1, 2]}}',
    ],
    ids=["order", "compact", "white space", "escapes"],
)
def test_row_9_the_same_body_in_another_spelling_replays(api, key, respelled):
    first = api.post("/customers", content=b'{"name": "Acme", "currency": "USD", "metadata": {"a": "x", "b": [1, 2]}}', key=key)
    assert_replay(first, api.post("/customers", content=respelled, key=key))


@pytest.mark.parametrize(
    "other",
    [
        b'{"name": "Acme", "currency": "USD", "metadata": {"a": 1.0, "b": [1, 2]}}',
        b'{"name": "Acme", "currency": "USD", "metadata": {"a": 1e0, "b": [1, 2]}}',
        b'{"name": "Acme", "currency": "USD", "metadata": {"a": "1", "b": [1, 2]}}',
        b'{"name": "Acme", "currency": "USD", "metadata": {"a": 1, "b": [2, 1]}}',
        b'{"name": "Acme ", "currency": "USD", "metadata": {"a": 1, "b": [1, 2]}}',
    ],
    ids=["1.0", "1e0", "text", "array order", "trailing space"],
)
def test_row_9_number_tokens_texts_and_array_orders_count(api, key, other):
    api.post("/customers", content=b'{"name": "Acme", "currency": "USD", "metadata": {"a": 1, "b": [1, 2]}}', key=key)
    assert_reused(api.post("/customers", content=other, status=422, key=key), key)


def test_row_9_there_is_no_unicode_normalisation(api, key):
    create(api, key, name=unicodedata.normalize("NFC", "Zoë"))
    assert_reused(create(api, key, 422, name=unicodedata.normalize("NFD", "Zoë")), key)


def test_row_9_other_headers_do_not_count(api, key):
    first = create(api, key)
    varied = {"User-Agent": "another/2", "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Accept": "*/*"}
    assert_replay(first, api.post("/customers", CUSTOMER, key=key, headers=varied))


# ---- rows 10, 17, 18: what is remembered ----


def test_row_10_an_ill_formed_body_is_400_and_leaves_the_record_alone(api, key):
    first = create(api, key)
    for content in (b"{", b"[]", b'{"name": 5, "currency": "USD"}'):
        api.post("/customers", status=400, content=content, key=key)
    assert_replay(first, create(api, key))


@pytest.mark.parametrize(
    "refused",
    [
        {"status": 400, "content": b"{"},
        {"status": 400, "body": {"name": 5}},
        {"status": 400, "body": CUSTOMER, "params": {"colour": "red"}},
        {"status": 400, "body": CUSTOMER, "headers": {"Alguna-Version": "latest"}},
        {"status": 401, "body": CUSTOMER, "headers": {"Authorization": "Bearer x.y"}},
        {"status": 413, "content": b" " * (2**20 + 1)},
        {"status": 415, "content": b"x", "headers": {"Content-Type": "text/plain"}},
    ],
    ids=["json", "shape", "query", "version", "key", "size", "media type"],
)
def test_row_18_what_was_not_executed_leaves_the_key_free(api, key, refused):
    api.post("/customers", **refused, key=key)
    answer = create(api, key)
    assert answer.headers["idempotent-replayed"] == "false"


def test_row_18_a_403_leaves_the_key_free(api, reader, key):
    create(reader, key, 403)
    assert create(api, key).headers["idempotent-replayed"] == "false"


def test_row_18_a_405_leaves_the_key_free(api, key):
    api.request("PUT", "/customers", 405, body=CUSTOMER, key=key)
    assert create(api, key).headers["idempotent-replayed"] == "false"


def assert_error_replay(first, again):
    """As `assert_replay`; whether the stored `request_id` is renewed is the server's choice."""
    assert again.status_code == first.status_code
    assert {**again.json(), "request_id": ""} == {**first.json(), "request_id": ""}
    assert first.headers["idempotent-replayed"] == "false"
    assert again.headers["idempotent-replayed"] == "true"
    assert "retry-after" not in again.headers


def test_row_17_a_404_of_the_addressed_resource_is_remembered(api, key):
    alias = unique("later")
    first = api.patch(f"/customers/{alias}", {"name": "New"}, 404, key=key)
    customer = api.customer(aliases=[alias])
    assert_error_replay(first, api.patch(f"/customers/{alias}", {"name": "New"}, 404, key=key))
    assert api.get(f"/customers/{alias}").json() == customer


def test_row_17_a_conflict_is_remembered(api, key):
    """A late duplicate must not succeed after the caller was told no."""
    alias = unique("taken")
    owner = api.customer(aliases=[alias])
    first = create(api, key, 409, aliases=[alias])
    api.patch(f"/customers/{owner['id']}", {"aliases": []})
    assert_error_replay(first, create(api, key, 409, aliases=[alias]))
    api.get(f"/customers/{alias}", 404)


def test_row_17_a_broken_business_rule_is_remembered(api, key):
    body = {"tag_ids": ["tag_0000000000000000000000"]}
    assert_error_replay(create(api, key, 422, **body), create(api, key, 422, **body))
    assert_reused(create(api, key, 422), key)


# ---- rows 15 and 16: at the same time ----


def test_row_15_50_threads_with_one_key_have_one_effect(fresh, key):
    answers = at_once(50, lambda _: fresh.send("POST", "/customers", body=CUSTOMER, key=key))
    done = [answer for answer in answers if answer.status_code == 200]
    running = [answer for answer in answers if answer.status_code == 409]
    assert len(done) + len(running) == 50, sorted(answer.status_code for answer in answers)
    assert done
    for answer in running:
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["title"]
        assert answer.headers["idempotency-key"] == key
    assert len({answer.content for answer in done}) == 1
    assert [answer.headers["idempotent-replayed"] for answer in done].count("false") == 1
    assert fresh.count() == 1
    assert create(fresh, key).content == done[0].content


def test_row_13_50_replays_at_once_of_a_finished_request_are_all_answered(fresh, key):
    """Nothing runs any more, so nothing is in flight: a 409 would be untrue, and a client gives up after three."""
    first = create(fresh, key)
    for _ in range(3):
        answers = at_once(50, lambda _: fresh.send("POST", "/customers", body=CUSTOMER, key=key))
        assert [answer.status_code for answer in answers] == [200] * 50
        assert {answer.content for answer in answers} == {first.content}
        assert {answer.headers["idempotent-replayed"] for answer in answers} == {"true"}


def test_row_15_with_keys_of_their_own_50_threads_have_50_effects(fresh, key):
    answers = at_once(50, lambda n: create(fresh, f"{key}-{n}", name=f"Customer {n}"))
    assert len({answer.json()["id"] for answer in answers}) == fresh.count() == 50


def test_row_16_different_bodies_at_the_same_time_have_one_effect(fresh, key):
    answers = at_once(30, lambda n: fresh.send("POST", "/customers", body={**CUSTOMER, "name": f"Customer {n % 5}"}, key=key))
    for answer in answers:
        assert answer.status_code in (200, 409, 422)
        assert ("retry-after" in answer.headers) == (answer.status_code == 409)
    assert len({answer.content for answer in answers if answer.status_code == 200}) == 1
    assert fresh.count() == 1


def test_row_15_concurrent_deletes_of_one_key_have_one_answer(api, key):
    customer = api.customer()
    account = api.link(customer, api.integration(), unique("cus"))
    path = f"/customers/{customer['id']}/connected-accounts/{account['id']}"
    answers = at_once(10, lambda _: api.send("DELETE", path, key=key))
    assert {answer.status_code for answer in answers} <= {204, 409}
    assert api.delete(path, 204, key=key).headers["idempotent-replayed"] == "true"


# ---- row 25: a client that hangs up ----


@pytest.mark.parametrize("farewell", ["close", "reset", "half close"])
def test_row_25_a_client_that_hangs_up_can_try_again(fresh, key, farewell):
    request = write("POST", "/customers", json.dumps(CUSTOMER).encode(), f"Idempotency-Key: {key}", key=fresh.key)
    with Wire(_address(fresh)) as wire:
        wire.send(request)
        if farewell == "reset":
            wire.reset()
        elif farewell == "half close":
            assert wire.finish().reply().status == 200

    def again():
        answer = fresh.send("POST", "/customers", body=CUSTOMER, key=key)
        assert answer.status_code in (200, 409)
        return answer.status_code == 200

    poll(again, "the retry is answered")
    assert fresh.count() == 1


def test_row_25_many_that_hang_up_halfway_never_double(fresh, key):
    bodies = [json.dumps({**CUSTOMER, "name": f"Customer {n}"}).encode() for n in range(30)]
    for number, body in enumerate(bodies):
        with Wire(_address(fresh)) as wire:
            wire.send(write("POST", "/customers", body, f"Idempotency-Key: {key}-{number}", key=fresh.key))
            wire.reset() if number % 2 else wire.finish()
    for number, body in enumerate(bodies):
        poll(
            lambda n=number, b=body: fresh.send("POST", "/customers", content=b, key=f"{key}-{n}").status_code == 200,
            "the retry is answered",
        )
    assert fresh.count() == 30
    assert set(fresh.names()) == {f"Customer {n}" for n in range(30)}


# ---- row 27: headers ----


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, CUSTOMER), (400, {"name": 5}), (422, {**CUSTOMER, "tag_ids": ["tag_0000000000000000000000"]})],
)
def test_row_27_a_valid_key_is_echoed_with_every_outcome(api, key, status, body):
    answer = api.post("/customers", body, status, key=key)
    assert answer.headers["idempotency-key"] == key
    assert answer.headers["idempotent-replayed"] == "false"
    assert "transient-error" not in answer.headers


def test_a_replay_after_a_long_line_of_other_requests_is_still_the_first_answer(api, key):
    first = create(api, key)
    path = f"/customers/{first.json()['id']}"
    for number in range(5):
        api.patch(path, {"name": f"Name {number}"}, key=f"{key}-{number}")
    assert_replay(first, create(api, key))
    assert first.json()["name"] == "Acme Corp"
    assert api.get(path).json()["name"] == "Name 4"


def test_a_plain_http_client_without_our_headers_can_replay(api, key):
    """The echo and the marks are in the answer of any client, whatever it calls the header."""
    with httpx.Client(base_url=api.url, timeout=30, trust_env=False) as client:
        headers = {"AUTHORIZATION": f"Bearer {api.key}", "alguna-version": "2026-04-01", "IDEMPOTENCY-KEY": key}
        answers = [client.post("/customers", json=CUSTOMER, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].content == answers[1].content


def test_a_replayed_path_with_another_encoding_of_the_same_segment_never_repeats_the_work(api, key):
    alias = unique("a b")
    customer = api.customer(aliases=[alias])
    api.patch(f"/customers/{segment(alias)}", {"name": "One"}, key=key)
    api.patch(f"/customers/{customer['id']}", {"name": "Two"})
    api.patch(f"/customers/{segment(alias).replace('-', '%2D')}", {"name": "One"}, (200, 422), key=key)
    assert api.get(f"/customers/{customer['id']}").json()["name"] == "Two"


def test_head_of_a_known_path_is_not_a_write(api, key):
    create(api, key)
    answer = exchange_head(api, key)
    assert answer.status < 500
    assert answer.header("idempotent-replayed") is None


def exchange_head(api, key):
    with Wire(_address(api)) as wire:
        return wire.send(head("HEAD", "/customers", f"Idempotency-Key: {key}", key=api.key)).reply(to_head=True)


def _address(api):
    return api.http.base_url.host, api.http.base_url.port
