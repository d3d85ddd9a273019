"""A plain HTTP caller that holds every answer against the contract, and the small nouns the tests are told in."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from urllib.parse import quote

import httpx

from contract import VERSION
from servers import create_key, create_organization

ABSENT = object()


class Api:
    """Requests of one key to one server. `status` is the answer that the test demands."""

    def __init__(self, contract, url, key):
        self.contract = contract
        self.url = url
        self.key = key
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
        self.http = httpx.Client(base_url=url, timeout=30, limits=limits, trust_env=False)

    def headers(self, extra=None):
        """What every request carries; a header that `extra` gives as None is left out."""
        headers = {"Authorization": f"Bearer {self.key}", "Alguna-Version": VERSION, **(extra or {})}
        return {name: value for name, value in headers.items() if value is not None}

    def send(self, method, path, *, body=ABSENT, content=None, key=None, headers=None, params=None):
        """Sends one request and checks the answer; any status is fine."""
        sent = self.headers(headers)
        if key is not None:
            sent["Idempotency-Key"] = key
        request = {"content": content} if content is not None else {} if body is ABSENT else {"json": body}
        if content is not None and not any(name.lower() == "content-type" for name in {**sent, **(headers or {})}):
            sent["Content-Type"] = "application/json"
        answer = self.http.request(method, path, headers=sent, params=params, **request)
        self.contract.check(
            method, answer.url, answer.status_code, answer.headers, answer.content, request_headers=sent
        )
        return answer

    def request(self, method, path, status, **options):
        answer = self.send(method, path, **options)
        expected = status if isinstance(status, tuple) else (status,)
        assert answer.status_code in expected, (
            f"{method} {path} {options} answered {answer.status_code} instead of {status}: {answer.text[:1500]}"
        )
        return answer

    def get(self, path, status=200, **options):
        return self.request("GET", path, status, **options)

    def post(self, path, body=ABSENT, status=200, **options):
        return self.request("POST", path, status, body=body, **options)

    def patch(self, path, body=ABSENT, status=200, **options):
        return self.request("PATCH", path, status, body=body, **options)

    def delete(self, path, status=204, **options):
        return self.request("DELETE", path, status, **options)

    # ---- nouns ----

    def customer(self, **properties):
        """A new customer."""
        return self.post("/customers", {"name": "Acme Corp", "currency": "USD", **properties}).json()

    def tag(self, name="Gold", entity_types=("customer",), color="#ff8800"):
        return self.post("/tags", {"name": name, "color": color, "entity_types": list(entity_types)}).json()

    def integration(self, provider="stripe", **properties):
        return self.post("/integrations", {"provider": provider, **properties}).json()

    def link(self, customer, integration, external_id):
        return self.post(
            f"/customers/{customer['id']}/connected-accounts",
            {"integration_id": integration["id"], "external_id": external_id},
        ).json()

    def customers(self, **params):
        """One page of customers."""
        return self.get("/customers", params=params).json()

    def names(self, **params):
        return [customer["name"] for customer in self.customers(limit=100, **params)["data"]]

    def count(self):
        """How many customers the organization has; for organizations of fewer than 100."""
        page = self.customers(limit=100)
        assert page["pagination"]["total_pages"] <= 1
        return len(page["data"])


@dataclass
class Organization:
    """An organization, a key of each scope, and a caller for each."""

    id: str
    api: Api
    reader: Api

    @classmethod
    def create(cls, contract, server, *options):
        identity = create_organization(server.database, "Conformance", *options)
        full = create_key(server.database, identity)
        read = create_key(server.database, identity, "read")
        return cls(identity, Api(contract, server.url, full), Api(contract, server.url, read))

    def close(self):
        self.api.http.close()
        self.reader.http.close()


def segment(text):
    """Text as one segment of a path."""
    return quote(text, safe="")


def unique(stem="x"):
    """A text that no other test uses."""
    return f"{stem}-{uuid.uuid4().hex[:12]}"


def fields(answer):
    """The fields at fault that an error names."""
    body = answer.json()
    assert body.get("errors"), f"no field is named: {body}"
    return {error["field"] for error in body["errors"]}


def message(answer, name):
    """What an error says of one field."""
    found = [error["message"] for error in answer.json().get("errors", []) if error["field"] == name]
    assert found, f"{name} is not named: {answer.text}"
    return " ".join(found)


def without_request(answer, *texts):
    """Status and body of an error without what differs by nature: the request's id, and the given texts."""
    body = answer.json()
    body.pop("request_id", None)
    plain = repr(sorted(body.items(), key=lambda item: item[0]))
    for text in texts:
        plain = plain.replace(text, "…")
    return answer.status_code, plain


def at_once(count, work):
    """Runs `work(number)` in `count` threads that all start together; the results in order."""
    barrier = Barrier(count)

    def one(number):
        barrier.wait(30)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))
