"""What a server meets on an open network: broken HTTP, broken JSON, broken texts, slow and vanished peers.

Whatever comes, the answer is a refusal by the book or the end of the connection: never a 5xx (501 for a transfer
coding is the one that HTTP asks for), never a hang, and never an effect of something that was refused.
"""

import gzip
import json
import select
import socket

import pytest

from api import unique
from wire import Wire, exchange, head, write

CUSTOMER = {"name": "Acme Corp", "currency": "USD"}


@pytest.fixture
def address(server):
    return server.address


@pytest.fixture(autouse=True)
def the_server_answers_afterwards(api):
    yield
    api.get("/customers", params={"limit": 1})


@pytest.fixture
def alias():
    return unique("hostile")


@pytest.fixture
def body(alias):
    """A valid customer that shows by its alias whether it was made."""
    return json.dumps({**CUSTOMER, "aliases": [alias]}).encode()


def refused(reply, *statuses):
    """Either a closed connection without an answer, or one of the statuses."""
    assert reply is None or reply.status in statuses, reply


# ---- framing: the table of PITFALLS.md ----


def test_no_host_is_400(address, api):
    assert exchange(address, head("GET", "/customers", key=api.key, host=False)).status == 400


def test_two_hosts_are_400(address, api):
    assert exchange(address, head("GET", "/customers", "Host: other.example", key=api.key)).status == 400


SMUGGLED = {
    "length and chunked": ([b"Content-Length: 4", b"Transfer-Encoding: chunked"], (400,)),
    "chunked twice": ([b"Transfer-Encoding: chunked, chunked"], (400,)),
    "chunked in two fields": ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], (400,)),
    "gzip and chunked": ([b"Transfer-Encoding: gzip, chunked"], (501,)),
    "an unknown coding": ([b"Transfer-Encoding: zzz"], (400, 501)),
    "chunked is not last": ([b"Transfer-Encoding: chunked, identity"], (400, 501)),
    "two lengths": ([b"Content-Length: 4", b"Content-Length: 5"], (400,)),
    "a list of lengths": ([b"Content-Length: 4, 5"], (400,)),
    "a negative length": ([b"Content-Length: -1"], (400,)),
    "a signed length": ([b"Content-Length: +4"], (400,)),
    "a hexadecimal length": ([b"Content-Length: 0x4"], (400,)),
    "a length beyond 64 bits": ([b"Content-Length: 99999999999999999999999"], (400, 413)),
    "an obsolete fold": ([b"X-Fold: a\r\n b", b"Content-Length: 4"], (400,)),
    "a space before the colon": ([b"Content-Length : 4"], (400,)),
    "a NUL in a header": ([b"X-Bad: a\0b", b"Content-Length: 4"], (400,)),
    "a bare CR in a header": ([b"X-Bad: a\rb", b"Content-Length: 4"], (400,)),
    "a header without a colon": ([b"nonsense", b"Content-Length: 4"], (400,)),
    "a header without a name": ([b": value", b"Content-Length: 4"], (400,)),
}


@pytest.mark.parametrize("case", SMUGGLED)
def test_ambiguous_framing_is_refused_and_nothing_behind_it_is_carried_out(address, api, alias, body, case):
    fields, statuses = SMUGGLED[case]
    request = head("POST", "/customers", b"Content-Type: application/json", *fields, key=api.key)
    smuggled = write("POST", "/customers", body, key=api.key)
    with Wire(address) as wire:
        wire.send(request + b"0\r\n\r\n" + smuggled)
        refused(wire.reply(), *statuses)
        assert wire.closed(), "the connection is of no use any more"
    api.get(f"/customers/{alias}", 404)


def test_a_transfer_coding_on_http_1_0_is_refused(address, api, alias, body):
    request = head(
        "POST", "/customers", "Content-Type: application/json", "Transfer-Encoding: chunked", key=api.key, version="HTTP/1.0"
    )
    refused(exchange(address, request + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)), 400, 501)
    api.get(f"/customers/{alias}", 404)


@pytest.mark.parametrize(
    "chunks",
    [b"zz\r\n{}\r\n0\r\n\r\n", b"-1\r\n{}\r\n0\r\n\r\n", b"2\r\n{}0\r\n\r\n", b"ffffffffffffffffff\r\n{}", b"2;" + b"x" * 40000 + b"\r\n{}\r\n0\r\n\r\n"],
    ids=["not hexadecimal", "negative", "no line end", "beyond 64 bits", "a huge extension"],
)
def test_broken_chunks_are_refused(address, api, chunks):
    request = head("POST", "/customers", "Content-Type: application/json", "Transfer-Encoding: chunked", key=api.key)
    refused(exchange(address, request + chunks, finish=True), 400, 413)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /customers HTTP/1.1\nHost: cuenta.example\n\n",
        b"GET http://elsewhere.example/customers HTTP/1.1\r\nHost: cuenta.example\r\n\r\n",
        b"POST /customers HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    ],
    ids=["bare line feeds", "a foreign absolute form", "two equal lengths"],
)
def test_what_may_be_decided_either_way_is_answered(address, request_bytes):
    refused(exchange(address, request_bytes), 400, 401, 404, 421)


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("Authorization", None, "Bearer x.y"),
        ("Alguna-Version", None, "2026-04-01"),
        ("Content-Type", "application/json", "application/json"),
        ("Content-Type", "application/json", "text/plain"),
        ("Idempotency-Key", "a", "a"),
    ],
)
def test_a_duplicate_field_of_ours_is_400(address, api, alias, body, name, first, second):
    """Never the first one in silence."""
    extra = [f"{name}: {value}" for value in (first, second) if value and name != "Content-Type"]
    extra += [f"{name}: {second}"] if name == "Content-Type" else []
    assert exchange(address, write("POST", "/customers", body, *extra, key=api.key)).status == 400
    api.get(f"/customers/{alias}", 404)


@pytest.mark.parametrize("value", [b"\xff", b"a\tb", b"caf\xc3\xa9"], ids=ascii)
@pytest.mark.parametrize(("name", "statuses"), [("Alguna-Version", (400,)), ("Authorization", (400, 401)), ("Content-Type", (400, 415))])
def test_odd_bytes_in_a_field_of_ours_are_refused(address, api, name, statuses, value):
    ours = {"Authorization": f"Bearer {api.key}".encode(), "Alguna-Version": b"2026-04-01", "Content-Type": b"application/json"}
    ours[name] = (b"Bearer " if name == "Authorization" else b"") + value
    fields = [field.encode() + b": " + text for field, text in ours.items()]
    reply = exchange(address, head("POST", "/customers", *fields, "Content-Length: 2") + b"{}")
    assert reply.status in statuses


@pytest.mark.parametrize("field", [b"X-Other: \xff\xfe", b"User-Agent: a\tb", b"Referer: caf\xc3\xa9"], ids=ascii)
def test_odd_bytes_in_a_field_of_others_are_taken_or_refused(address, api, field):
    assert exchange(address, head("GET", "/customers", field, key=api.key)).status in (200, 400)


# ---- size ----


def test_headers_of_15_kibibytes_pass(address, api):
    assert exchange(address, head("GET", "/customers", "X-Long: " + "x" * 15 * 1024, key=api.key)).status == 200


@pytest.mark.parametrize("size", [17 * 1024, 64 * 1024, 500 * 1024])
def test_headers_of_more_than_16_kibibytes_are_431(address, api, size):
    refused(exchange(address, head("GET", "/customers", "X-Long: " + "x" * size, key=api.key)), 431)


def test_many_small_headers_over_16_kibibytes_are_431(address, api):
    fields = [f"X-{number:02}: " + "x" * 300 for number in range(80)]
    refused(exchange(address, head("GET", "/customers", *fields, key=api.key)), 431)


def test_more_than_100_headers_are_431(address, api):
    refused(exchange(address, head("GET", "/customers", *[f"X-{n}: y" for n in range(101)], key=api.key)), 431)


def test_a_uri_of_7_kilobytes_is_looked_at(address, api):
    assert exchange(address, head("GET", "/customers/lookup?alias=" + "a" * 7000, key=api.key)).status in (400, 404)


@pytest.mark.parametrize("size", [9_000, 70_000])
def test_a_uri_of_more_than_8_kibibytes_is_414(address, api, size):
    refused(exchange(address, head("GET", "/customers/lookup?alias=" + "a" * size, key=api.key)), 414)


def test_an_announced_body_over_the_limit_is_413_before_it_is_sent(address, api):
    request = head("POST", "/customers", "Content-Type: application/json", "Content-Length: 1073741824", key=api.key)
    assert exchange(address, request).status == 413


def test_an_expected_body_over_the_limit_is_not_asked_for(address, api):
    request = head(
        "POST", "/customers", "Content-Type: application/json", "Content-Length: 1073741824", "Expect: 100-continue", key=api.key
    )
    assert exchange(address, request).status == 413


@pytest.fixture(scope="session")
def large():
    """A customer near the size limit and within every other: 100 contacts with 80 preferences of 100 characters."""
    preferences = [f"{number:03}".ljust(100, "x") for number in range(80)]
    contacts = [
        {"email": f"c{number}@example.com", "is_primary": False, "email_preferences": preferences} for number in range(100)
    ]
    return {**CUSTOMER, "contacts": contacts}


def test_a_customer_near_the_size_limit_is_served(api, large):
    created = api.post("/customers", large)
    assert len(created.content) > 800_000
    assert api.get(f"/customers/{created.json()['id']}").content == created.content


def test_row_30_an_answer_too_large_to_store_is_replayed_or_refused_and_never_a_5xx(api, large, alias):
    """Row 30 stores answers of up to 256 KiB; what becomes of a larger one is left open, but for these bounds."""
    key = unique("key")
    first, again = (api.send("POST", "/customers", body={**large, "aliases": [alias]}, key=key) for _ in range(2))
    assert first.status_code == again.status_code
    assert first.status_code < 500, first.text[:500]
    if first.status_code == 200:
        assert again.content == first.content
    else:
        api.get(f"/customers/{alias}", 404)


# ---- peers ----


def test_pipelined_requests_are_answered_in_order(address, api):
    ids = [api.customer()["id"] for _ in range(3)]
    with Wire(address) as wire:
        wire.send(b"".join(head("GET", f"/customers/{id}", key=api.key) for id in ids))
        assert [json.loads(wire.reply().body)["id"] for _ in ids] == ids


def test_a_pipelined_write_is_seen_by_the_read_behind_it(address, api, alias, body):
    with Wire(address) as wire:
        wire.send(write("POST", "/customers", body, key=api.key) + head("GET", f"/customers/{alias}", key=api.key))
        created, read = wire.reply(), wire.reply()
    assert (created.status, read.status) == (200, 200)
    assert created.body == read.body


def test_an_error_does_not_spoil_the_connection(address, api):
    with Wire(address) as wire:
        wire.send(write("POST", "/customers", b"{}", key=api.key) + head("GET", "/customers?limit=1", key=api.key))
        assert (wire.reply().status, wire.reply().status) == (400, 200)


EARLY = {
    "401": ("/customers", ["Authorization: Bearer x.y", "Alguna-Version: 2026-04-01", "Content-Type: application/json"]),
    "400": ("/customers", ["Authorization: {}", "Alguna-Version: latest", "Content-Type: application/json"]),
    "415": ("/customers", ["Authorization: {}", "Alguna-Version: 2026-04-01", "Content-Type: text/plain"]),
    "404": ("/nothing", ["Authorization: {}", "Alguna-Version: 2026-04-01", "Content-Type: application/json"]),
    "405": ("/customers/x", ["Authorization: {}", "Alguna-Version: 2026-04-01", "Content-Type: application/json"]),
}


@pytest.mark.parametrize("status", EARLY)
def test_an_answer_before_the_body_keeps_the_connection_or_says_that_it_closes_it(address, api, status):
    """Clients send head and body apart. One that is told nothing uses the connection again and meets its end."""
    target, fields = EARLY[status]
    body = json.dumps(CUSTOMER).encode()
    with Wire(address) as wire:
        wire.send(head("POST", target, *[f.format(f"Bearer {api.key}") for f in fields], f"Content-Length: {len(body)}"))
        select.select([wire.socket], [], [], 0.5)  # an early answer comes now; a late one wants the body first
        wire.send(body)
        early = wire.reply()
        assert early.status == int(status)
        if (early.header("connection") or "").lower() == "close":
            assert wire.closed()
            return
        wire.send(head("GET", "/customers?limit=1", key=api.key))
        reply = wire.reply()
        assert reply, "closed in silence: the answer did not say Connection: close"
        assert reply.status == 200


def test_a_half_closed_connection_gets_its_answer(address, api, alias, body):
    assert exchange(address, write("POST", "/customers", body, key=api.key), finish=True).status == 200
    assert exchange(address, head("GET", f"/customers/{alias}", key=api.key), finish=True).status == 200


def test_a_body_cut_short_is_refused_and_has_no_effect(address, api, alias, body):
    with Wire(address) as wire:
        wire.send(head("POST", "/customers", "Content-Type: application/json", f"Content-Length: {len(body) + 1}", key=api.key) + body)
        refused(wire.finish().reply(), 400)
    api.get(f"/customers/{alias}", 404)


def test_a_request_in_single_bytes_is_understood(address, api):
    with Wire(address) as wire:
        for byte in head("GET", "/customers?limit=1", key=api.key):
            wire.send(bytes([byte]))
        assert wire.reply().status == 200


def test_resets_in_the_middle_of_everything(address, api):
    request = write("POST", "/customers", json.dumps(CUSTOMER).encode(), key=api.key)
    for cut in range(0, len(request), 7):
        with Wire(address) as wire:
            wire.send(request[:cut]).reset()


def test_1000_idle_connections_do_not_stop_service(address, api):
    idle = []
    try:
        for _ in range(1000):
            try:
                idle.append(socket.create_connection(address, 5))
            except OSError:
                break  # the server may refuse more than it wants to hold
        assert len(idle) >= 200
        with Wire(address) as wire:
            wire.send(head("GET", "/customers?limit=1", key=api.key))
            assert wire.reply().status == 200
    finally:
        for connection in idle:
            connection.close()


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        b"\0" * 64,
        b"\r\n\r\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /customers\r\n\r\n",
        b"GET /customers HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET customers HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET  /customers HTTP/1.1\r\nHost: x\r\n\r\n",
        b"G\x00T /customers HTTP/1.1\r\nHost: x\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        "GET /cüstomers HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    ],
    ids=["tls", "zeros", "empty lines", "no target", "http/0.9", "http/9.9", "no slash", "two spaces", "nul method", "ssh", "raw utf-8"],
)
def test_what_is_no_http_1_1_is_refused(address, data):
    refused(exchange(address, data, finish=True), 400, 401, 404, 505)


def test_an_http_2_preface_is_answered_or_refused(address):
    with Wire(address) as wire:
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        data = wire.socket.recv(9)
        assert data == b"" or data.startswith(b"HTTP/1.1 4") or data[3:4] == b"\x04", "nothing, a refusal, or a SETTINGS frame"


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "FOO", "get", "OPTIONS", "HEAD", "X" * 200])
def test_odd_methods_are_answered(address, api, method):
    with Wire(address) as wire:
        reply = wire.send(head(method, "/customers", key=api.key)).reply(to_head=method == "HEAD")
    assert reply is None or reply.status in (200, 204, 400, 404, 405, 501)


def test_http_1_0_is_answered_and_closed(address, api):
    with Wire(address) as wire:
        wire.send(head("GET", "/customers?limit=1", key=api.key, version="HTTP/1.0"))
        assert wire.reply().status == 200
        assert wire.closed()


# ---- slowness: begun with the first test of the run, see stalls.py ----


@pytest.mark.parametrize(
    "name", ["a connection that says nothing", "half a request line", "half a header", "a header that trickles"]
)
def test_a_stalled_head_is_cut_after_15_seconds(stalls, name):
    seconds, said = stalls.seconds(name, 20)
    assert seconds >= 1, "a slow client is given a chance"
    assert said == b"" or said.startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize("name", ["a body with a length", "a chunked body"])
def test_a_stalled_body_is_cut_after_35_seconds(stalls, name):
    seconds, said = stalls.seconds(name, 40)
    assert seconds >= 1, "a slow client is given a chance"
    assert said == b"" or said.startswith((b"HTTP/1.1 408", b"HTTP/1.1 400"))


# ---- JSON ----


def nested(depth, opening="[", closing="]"):
    return opening * depth + closing * depth


BROKEN_JSON = {
    "depth 100,000 in an unknown property": b'{"x": ' + nested(100_000).encode() + b"}",
    "900 KB of brackets": b"[" * 900_000,
    "900 KB of objects": b'{"a":' * 180_000,
    "brackets in a known property": b'{"name": "A", "currency": "USD", "metadata": {"a": ' + nested(500).encode() + b"}}",
    "depth 33": b'{"name": "A", "currency": "USD", "metadata": {"a": ' + nested(31).encode() + b"}}",
    "a duplicate property": b'{"name": "A", "name": "B", "currency": "USD"}',
    "a duplicate unknown property": b'{"name": "A", "currency": "USD", "x": 1, "x": 2}',
    "a duplicate in metadata": b'{"name": "A", "currency": "USD", "metadata": {"a": 1, "a": 2}}',
    "a duplicate by escape": rb'{"name": "A", "n\u0061me": "B", "currency": "USD"}',
    "a duplicate in a contact": b'{"name": "A", "currency": "USD", "contacts": [{"email": "a@b.de", "email": "c@d.de", "is_primary": true}]}',
    "an escaped NUL": rb'{"name": "A\u0000B", "currency": "USD"}',
    "an escaped NUL in metadata": rb'{"name": "A", "currency": "USD", "metadata": {"a": "\u0000"}}',
    "an escaped NUL in a metadata key": rb'{"name": "A", "currency": "USD", "metadata": {"\u0000": "a"}}',
    "a raw control byte": b'{"name": "A\x01B", "currency": "USD"}',
    "a raw line feed": b'{"name": "A\nB", "currency": "USD"}',
    "a lone high surrogate": rb'{"name": "A\ud800", "currency": "USD"}',
    "a lone low surrogate": rb'{"name": "\udc00A", "currency": "USD"}',
    "swapped surrogates": rb'{"name": "\udc00\ud800", "currency": "USD"}',
    "a surrogate in metadata": rb'{"name": "A", "currency": "USD", "metadata": {"a": "\ud800"}}',
    "invalid utf-8": b'{"name": "A\xff", "currency": "USD"}',
    "overlong utf-8": b'{"name": "\xc0\xaf", "currency": "USD"}',
    "a utf-8 surrogate": b'{"name": "\xed\xa0\x80", "currency": "USD"}',
    "latin-1": '{"name": "Zoë", "currency": "USD"}'.encode("latin-1"),
    "utf-16": '{"name": "A", "currency": "USD"}'.encode("utf-16"),
    "utf-16 without a mark": '{"name": "A", "currency": "USD"}'.encode("utf-16-le"),
    "utf-32": '{"name": "A", "currency": "USD"}'.encode("utf-32"),
    "a byte order mark": b'\xef\xbb\xbf{"name": "A", "currency": "USD"}',
    "a trailing comma": b'{"name": "A", "currency": "USD",}',
    "a comment": b'{"name": "A", /* no */ "currency": "USD"}',
    "NaN": b'{"name": NaN, "currency": "USD"}',
    "Infinity in metadata": b'{"name": "A", "currency": "USD", "metadata": {"a": Infinity}}',
    "a leading zero": b'{"name": "A", "currency": "USD", "metadata": {"a": 01}}',
    "a leading plus": b'{"name": "A", "currency": "USD", "metadata": {"a": +1}}',
    "a bare point": b'{"name": "A", "currency": "USD", "metadata": {"a": .5}}',
    "hexadecimal": b'{"name": "A", "currency": "USD", "metadata": {"a": 0x10}}',
    "an unknown escape": rb'{"name": "\x41", "currency": "USD"}',
    "two documents": b'{"name": "A", "currency": "USD"}{"name": "B", "currency": "USD"}',
    "lines of json": b'{"name": "A", "currency": "USD"}\n{"name": "B", "currency": "USD"}',
    "an array for the object": b'["USD", "A", null, null, null]',
    "an array for a contact": b'{"name": "A", "currency": "USD", "contacts": [["a@example.com", null, null, null, true, null]]}',
    "an array for an address": b'{"name": "A", "currency": "USD", "billing_address": ["a", "USA", "b", null, "c", "d"]}',
    "a huge number for a name": b'{"name": 1e400, "currency": "USD"}',
    "a number of 100,000 digits for a name": b'{"name": ' + b"9" * 100_000 + b', "currency": "USD"}',
    "gzip without saying so": gzip.compress(b'{"name": "A", "currency": "USD"}'),
    "nothing but white space": b" \r\n\t ",
}


@pytest.mark.parametrize("case", BROKEN_JSON)
def test_broken_json_is_400(api, case):
    answer = api.post("/customers", status=400, content=BROKEN_JSON[case])
    assert len(answer.content) < 4000, "an error does not grow with the request"
    assert "[0][0]" not in answer.text
    for word in ("serde", "EOF while", "rust", "src/"):
        assert word not in answer.text, "an error does not tell what the server is made of"


@pytest.mark.parametrize("case", ["900 KB of brackets", "a duplicate property", "a lone high surrogate", "utf-16", "an array for the object"])
def test_broken_json_in_an_update_is_400(api, case):
    customer = api.customer()
    api.patch(f"/customers/{customer['id']}", status=400, content=BROKEN_JSON[case])
    assert api.get(f"/customers/{customer['id']}").json() == customer


def test_d013_json_of_depth_32_is_taken(api):
    """The body, its metadata and 30 arrays."""
    content = b'{"name": "A", "currency": "USD", "metadata": {"a": ' + nested(30).encode() + b"}}"
    assert api.post("/customers", content=content).status_code == 200


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1e-400", "9" * 400, "0." + "1" * 400, "-0", "1E+5", "18446744073709551616"])
def test_any_json_number_in_metadata_is_kept_or_refused(api, number):
    content = b'{"name": "A", "currency": "USD", "metadata": {"n": %s}}' % number.encode()
    answer = api.post("/customers", status=(200, 400), content=content)
    if answer.status_code == 200:
        again = api.get(f"/customers/{answer.json()['id']}")
        assert again.content == answer.content


def test_surrogate_pairs_are_one_character(api):
    answer = api.post("/customers", content=rb'{"name": "\ud83d\ude00", "currency": "USD"}')
    assert answer.json()["name"] == "😀"


# ---- texts ----


@pytest.mark.parametrize(
    "text",
    ["\u202e\u2066", "\ufdd0", "\uffff", "\U000e0001", "a" + "\u0301" * 200, "a\u2028b", "\ud7ff\ue000", "𝕬𝖈𝖒𝖊", "\u00ad", "${jndi:ldap://x}", "{{7*7}}",
     "../../etc/passwd", "=cmd|'/C calc'!A0", "A\\u0000B", "%00", "' || pg_sleep(10) || '", "x' AND 1=CAST('a' AS int) --"],
    ids=ascii,
)  # fmt: skip
def test_strange_texts_are_kept_as_sent_everywhere(api, text):
    name, alias = text, unique(text[:100])
    customer = api.customer(name=name, aliases=[alias], metadata={text: text}, csm_id=text)
    assert (customer["name"], customer["aliases"], customer["metadata"]) == (name, [alias], {text: text})
    assert api.customers(alias=alias)["data"] == [customer]
    assert customer["id"] in {each["id"] for each in api.customers(csm_id=text, limit=100)["data"]} or "," in text
    assert api.get("/customers/lookup", params={"alias": alias}).json() == {"customer_id": customer["id"]}


# ---- paths and queries ----


@pytest.mark.parametrize(
    "target",
    [
        "/customers/%2e%2e%2fadmin",
        "/customers/%2e%2e%2f",
        "/customers/..%2f..%2fetc%2fpasswd",
        "/customers/%2F",
        "/customers/%2Fcustomers",
        "/customers/%00",
        "/customers/a%00b",
        "/customers/%zz",
        "/customers/%",
        "/customers/%2",
        "/customers/" + "a" * 5000,
        "/customers/" + "%41" * 2000,
        "/customers/'%20OR%201=1%20--",
        "/customers/%25",
        "/customers/*",
        "/customers/{id}",
        "//customers",
        "/customers//",
        "/customers/",
        "/customers//connected-accounts",
        "/./customers",
        "/customers/..",
        "/customers/.",
        "/customers/../tags",
        "/customers;x=y",
        "/customers%2F",
        "/%63ustomers%00",
        "/tags/%00",
        "/tags/%2e%2e",
        "/integrations/%00",
        "/integrations/%zz",
        "/customers/x/connected-accounts/",
    ],
)
def test_odd_paths_are_404(address, api, target):
    reply = exchange(address, head("GET", target, key=api.key))
    assert reply.status == 404
    assert reply.header("content-type").startswith("application/problem+json")


@pytest.mark.parametrize("target", ["/customers/%ff", "/customers/%c0%af", "/customers/%ed%a0%80", "/customers/a%0d%0ab", "/customers/%7f"])
def test_paths_that_are_no_text_are_404_or_400(address, api, target):
    assert exchange(address, head("GET", target, key=api.key)).status in (404, 400)


@pytest.mark.parametrize("target", ["/customers/%00", "/customers/%zz", "/customers/%2e%2e%2f", "/customers/" + "a" * 5000])
def test_odd_paths_of_writes_are_404(address, api, target):
    assert exchange(address, write("PATCH", target, b'{"name": "x"}', key=api.key)).status == 404
    link = b'{"integration_id": "intg_0000000000000000000000", "external_id": "x"}'
    assert exchange(address, write("POST", target + "/connected-accounts", link, key=api.key)).status == 404
    assert exchange(address, head("DELETE", target + "/connected-accounts/x", key=api.key)).status == 404


@pytest.mark.parametrize(
    "query",
    ["alias=%00", "alias=%ff", "alias=%zz", "alias=%", "alias", "alias=", "alias=a&alias=b", "&&&", "=", "=x", "%00=x", "limit=1&limit=2",
     "alias=" + "a" * 4000, "tag_ids=" + "," * 3000, "tag_ids=,", "csm_id=%00", "email=%00", "sort=%00:asc", "limit=%00", "limit=%2B5",
     "limit=005", "a[b]=c", "alias[]=x", "filter%5B%5D=x", "integration_ids=%ED%A0%80", "has_active_subscriptions=%FF", "?", "alias=a;limit=1"],
)  # fmt: skip
def test_odd_queries_are_answered(address, api, query):
    reply = exchange(address, head("GET", f"/customers?{query}", key=api.key))
    assert reply.status in (200, 400)
    if reply.status == 200:
        assert set(json.loads(reply.body)) == {"data", "pagination"}


@pytest.mark.parametrize("query", ["limit=%2B5", "limit=005", "limit=5%00", "a[b]=c", "%00=x", "alias[]=x"])
def test_queries_that_only_resemble_ours_are_400(address, api, query):
    assert exchange(address, head("GET", f"/customers?{query}", key=api.key)).status == 400


@pytest.mark.parametrize("query", ["alias=%00", "alias=%ff", "alias=%zz", "alias=", "alias=" + "a" * 4000, "alias=a&alias=b"])
def test_odd_lookups_are_404_or_400(address, api, query):
    assert exchange(address, head("GET", f"/customers/lookup?{query}", key=api.key)).status in (400, 404)
