"""The vendor's Python client, unmodified, synchronous and asynchronous, against the real server."""

import asyncio
import inspect
from datetime import datetime, timezone

import alguna
import httpx
import pytest
from alguna import Alguna, AsyncAlguna, apaginate, paginate

from api import unique
from proxy import DROP_ANSWER, DROP_REQUEST, FlakyProxy, answer


class Blocking:
    """An asynchronous client whose calls are awaited one by one, so that one story drives both clients."""

    def __init__(self, target, run):
        self._target = target
        self._run = run

    def __getattr__(self, name):
        value = getattr(self._target, name)
        return Call(value, self._run) if inspect.iscoroutinefunction(value) else Blocking(value, self._run)


class Call:
    """One method of an asynchronous client, awaited; `method` is the method itself."""

    def __init__(self, method, run):
        self.method = method
        self._run = run

    def __call__(self, *args, **kwargs):
        return self._run(self.method(*args, **kwargs))


class Clients:
    """Makes clients of one flavour; every answer that reaches one is held against the contract."""

    def __init__(self, flavour, contract, runner):
        self.flavour = flavour
        self._contract = contract
        self._run = runner.run
        self._open = []

    def make(self, url, key, **options):
        if self.flavour == "sync":
            http = httpx.Client(timeout=30, follow_redirects=True, trust_env=False, event_hooks={"response": [self._check]})
            self._open.append(http.close)
            return Alguna(base_url=url, api_key=key, httpx_client=http, **options)
        http = httpx.AsyncClient(
            timeout=30, follow_redirects=True, trust_env=False, event_hooks={"response": [self._check_later]}
        )
        self._open.append(lambda: self._run(http.aclose()))
        return Blocking(AsyncAlguna(base_url=url, api_key=key, httpx_client=http, **options), self._run)

    def all(self, list_page, **params):
        """Every item of a paginated list."""
        if self.flavour == "sync":
            return list(paginate(list_page, **params))

        async def collect():
            return [item async for item in apaginate(list_page.method, **params)]

        return self._run(collect())

    def _check(self, response):
        response.read()
        self._validate(response)

    async def _check_later(self, response):
        await response.aread()
        self._validate(response)

    def _validate(self, response):
        if "x-from-proxy" in response.headers:
            return
        request = response.request
        self._contract.check(
            request.method,
            request.url,
            response.status_code,
            response.headers,
            response.content,
            request_headers=request.headers,
        )

    def close(self):
        for close in self._open:
            close()


@pytest.fixture(params=["sync", "async"])
def clients(request, contract):
    with asyncio.Runner() as runner:
        made = Clients(request.param, contract, runner)
        yield made
        made.close()


@pytest.fixture
def client(clients, server, organization):
    return clients.make(server.url, organization.api.key)


@pytest.fixture
def through(clients, server, organization):
    """Makes a client that talks through a proxy."""
    return lambda proxy, **options: clients.make(proxy.url, organization.api.key, **options)


# ---- every method of customers, tags and integrations ----


def test_create_get_update_lookup_and_list(client):
    alias, email = unique("alias"), f"{unique('john')}@example.com"
    created = client.customers.create(
        name="Acme Corp",
        currency="USD",
        aliases=[alias],
        billing_address=alguna.AddressRequest(
            line1="123 Main St", line2="Suite 100", city="San Francisco", state="CA", postal_code="94105", country="USA"
        ),
        contacts=[alguna.ContactRequest(email=email, is_primary=True, first_name="John", last_name="Doe", email_preferences=["billing"])],
    )
    assert created.id.startswith("cust_")
    assert isinstance(created.created_at, datetime)
    assert abs(datetime.now(timezone.utc) - created.created_at).total_seconds() < 60
    assert created.billing_address.line2 == "Suite 100"
    assert created.contacts[0].first_name == "John"
    assert created.tax_rate is None

    assert client.customers.get(created.id) == created
    assert client.customers.get(alias) == created
    assert client.customers.lookup(alias=alias).customer_id == created.id

    updated = client.customers.update(alias, name="Acme Corporation", currency="EUR", contacts=[])
    assert (updated.name, updated.currency, updated.contacts, updated.aliases) == ("Acme Corporation", "EUR", [], [alias])

    page = client.customers.list(alias=alias, limit=20, offset=0, sort="created_at:desc")
    assert page.data == [updated]
    assert (page.pagination.per_page, page.pagination.total_pages) == (20, 1)


def test_the_documented_sample_request_with_its_placeholder_contact_id(clients, server, fresh):
    client = clients.make(server.url, fresh.key)
    created = client.customers.create(
        currency="USD",
        name="Acme Corp",
        aliases=["<string>"],
        contacts=[
            alguna.ContactRequest(
                email="john@example.com",
                is_primary=True,
                email_preferences=["<string>"],
                first_name="John",
                id="<string>",
                last_name="Doe",
            )
        ],
    )
    assert created.contacts[0].id.startswith("cont_")
    assert client.customers.get("<string>") == created


def test_section_1_none_arrives_as_null_and_is_taken(client):
    created = client.customers.create(name="Acme", currency="USD", aliases=None, billing_address=None, contacts=None)
    assert (created.aliases, created.billing_address, created.contacts) == ([], None, [])
    address = alguna.AddressRequest(line1="a", line2=None, city="b", state="c", postal_code="d", country="FRA")
    person = alguna.ContactRequest(email="a@example.com", is_primary=False, first_name=None, id=None)
    filled = client.customers.update(created.id, billing_address=address, contacts=[person], aliases=[unique("a")])
    assert filled.billing_address.country == "FRA"
    cleared = client.customers.update(created.id, billing_address=None, contacts=None, aliases=None)
    assert (cleared.aliases, cleared.billing_address, cleared.contacts) == ([], None, [])


def test_a_contact_is_updated_in_place_by_its_id(client):
    created = client.customers.create(
        name="Acme", currency="USD", contacts=[alguna.ContactRequest(email="a@example.com", is_primary=True)]
    )
    changed = alguna.ContactRequest(id=created.contacts[0].id, email="b@example.com", is_primary=True)
    updated = client.customers.update(created.id, contacts=[changed])
    assert [(contact.id, contact.email) for contact in updated.contacts] == [(created.contacts[0].id, "b@example.com")]


def test_connected_accounts(client, api):
    customer, integration, external_id = api.customer(), api.integration("stripe"), unique("cus")
    account = client.customers.create_connected_account(
        customer["id"], integration_id=integration["id"], external_id=external_id
    )
    assert (account.customer_id, account.integration_id, account.external_id) == (customer["id"], integration["id"], external_id)
    assert client.customers.list_connected_accounts(external_id).data == [account]
    assert client.customers.get(external_id).id == customer["id"]
    assert client.customers.lookup(alias=external_id).customer_id == customer["id"]
    assert client.customers.delete_connected_account(external_id, account.id) is None
    assert client.customers.list_connected_accounts(customer["id"]).data == []


def test_entitlements_and_payment_methods(client, api):
    customer = api.customer()
    assert client.customers.list_entitlements(customer["id"]).data == []
    assert client.customers.list_payment_methods(customer["id"]).data == []


def test_every_filter_of_the_list(client, api):
    tag, integration, owner = api.tag(), api.integration(), unique("usr")
    alias, email = unique("alias"), f"{unique('mail')}@example.com"
    customer = api.customer(
        aliases=[alias], contacts=[{"email": email, "is_primary": True}], tag_ids=[tag["id"]], csm_id=owner, sales_owner_id=owner
    )
    api.link(customer, integration, unique("cus"))
    filters = {
        "alias": alias,
        "email": email,
        "csm_id": [owner, "usr_other"],
        "sales_owner_id": [owner],
        "tag_ids": [tag["id"], "tag_other"],
        "integration_ids": [integration["id"]],
    }
    for name, value in filters.items():
        assert [found.id for found in client.customers.list(**{name: value}).data] == [customer["id"]], name
    assert [found.id for found in client.customers.list(**filters, has_active_subscriptions=False).data] == [customer["id"]]
    assert client.customers.list(**filters, has_active_subscriptions=True).data == []


def test_extension_properties_stay_readable(client, api):
    tag = api.tag()
    customer = api.customer(tag_ids=[tag["id"]], metadata={"a": 1}, tax_rate="0.20", tax_type="vat", tax_reason="standard_rated")
    read = client.customers.get(customer["id"])
    assert read.tag_ids == [tag["id"]]
    assert read.metadata == {"a": 1}
    assert (read.tax_rate, read.tax_type, read.tax_reason) == (customer["tax_rate"], "vat", "standard_rated")


def test_tags(client, api):
    made = api.tag(unique("Gold"))
    tag = client.tags.get(made["id"])
    assert (tag.name, tag.color, tag.entity_types) == (made["name"], "#ff8800", ["customer"])
    page = client.tags.list(limit=1, offset=0)
    assert len(page.data) == page.pagination.per_page == 1


def test_integrations(client, api):
    made = api.integration(unique("system"), description="The second one")
    integration = client.integrations.get(made["id"])
    assert (integration.provider, integration.description) == (made["provider"], "The second one")
    assert client.integrations.list(provider=made["provider"]).data == [integration]
    assert integration.id in {each.id for each in client.integrations.list().data}


@pytest.mark.parametrize("id", ["with space", "ünï", "a+b", "a%2Fb", "a&b=c"])
def test_s_02_what_the_http_library_encodes_resolves(clients, server, fresh, id):
    """The client leaves ids to the HTTP library, which encodes spaces and letters and keeps a written escape."""
    alias = id.replace("%2F", "/")
    customer = fresh.customer(aliases=[alias])
    assert clients.make(server.url, fresh.key).customers.get(id).id == customer["id"]


def test_section_1_an_empty_id_is_not_the_list(client):
    with pytest.raises(alguna.NotFoundError):
        client.customers.get("")


# ---- pages ----


def test_paginate_gives_every_customer_once(clients, server, crowd):
    client = clients.make(server.url, crowd.key)
    everyone = clients.all(client.customers.list)
    assert [customer.name for customer in everyone] == [f"Customer {n:03}" for n in reversed(range(105))]
    for params in ({"limit": 35}, {"limit": 100}, {"sort": "name:asc"}, {"has_active_subscriptions": False}):
        assert len({customer.id for customer in clients.all(client.customers.list, **params)}) == 105
    assert [each.name for each in clients.all(client.customers.list, offset=103)] == ["Customer 001", "Customer 000"]
    assert clients.all(client.customers.list, has_active_subscriptions=True) == []


def test_paginate_gives_every_tag_once(clients, server, fresh):
    for number in range(7):
        fresh.tag(f"Tag {number}")
    client = clients.make(server.url, fresh.key)
    assert [tag.name for tag in clients.all(client.tags.list)] == [f"Tag {n}" for n in range(7)]
    assert [tag.name for tag in clients.all(client.tags.list, limit=3)] == [f"Tag {n}" for n in range(7)]


# ---- errors ----


def test_400_is_a_bad_request_error(client):
    with pytest.raises(alguna.BadRequestError) as caught:
        client.customers.create(name="", currency="usd")
    assert caught.value.body.detail.startswith("Validation failed: ")
    assert str(caught.value).startswith("HTTP 400: Validation failed: ")
    assert {error["field"] for error in caught.value.body.errors} == {"name", "currency"}


def test_400_of_a_version_has_title_and_type(clients, server, organization):
    client = clients.make(server.url, organization.api.key, api_version="2020-01-01")
    with pytest.raises(alguna.BadRequestError) as caught:
        client.customers.list()
    assert caught.value.body.title
    assert caught.value.body.type == "about:blank"
    assert "2026-04-01" in caught.value.body.detail


def test_401_is_an_unauthorized_error_in_both_shapes(clients, server):
    client = clients.make(server.url, "key_0000000000000000000000.nonsense")
    with pytest.raises(alguna.UnauthorizedError) as caught:
        client.customers.list()
    body = caught.value.body
    assert (body.status, body.code) == (401, "unauthenticated")
    assert body.detail
    assert body.message


def test_403_is_a_forbidden_error(clients, server, organization):
    client = clients.make(server.url, organization.reader.key)
    assert client.customers.list(limit=1)
    with pytest.raises(alguna.ForbiddenError) as caught:
        client.customers.create(name="Acme", currency="USD")
    assert caught.value.body.status == 403


def test_404_is_a_not_found_error(client):
    for call in (
        lambda: client.customers.get("cus_missing"),
        lambda: client.customers.update("cus_missing", name="x"),
        lambda: client.customers.lookup(alias="cus_missing"),
        lambda: client.customers.list_entitlements("cus_missing"),
        lambda: client.customers.list_payment_methods("cus_missing"),
        lambda: client.customers.list_connected_accounts("cus_missing"),
        lambda: client.customers.delete_connected_account("cus_missing", "cacc_missing"),
        lambda: client.tags.get("tag_missing"),
        lambda: client.integrations.get("intg_missing"),
    ):
        with pytest.raises(alguna.NotFoundError) as caught:
            call()
        assert caught.value.body.detail


def test_409_is_a_conflict_error_and_is_not_retried(through, server, api):
    alias = unique("taken")
    api.customer(aliases=[alias])
    with FlakyProxy(server.url) as proxy:
        with pytest.raises(alguna.ConflictError) as caught:
            through(proxy).customers.create(name="Acme", currency="USD", aliases=[alias])
        assert len(proxy.writes) == 1
    assert alias in caught.value.body.detail
    assert "retry-after" not in {name.lower() for name in caught.value.headers}


def test_422_is_an_unprocessable_entity_error(client, api):
    with pytest.raises(alguna.UnprocessableEntityError):
        client.customers.create_connected_account(api.customer()["id"], integration_id="intg_missing", external_id="x")


def test_422_of_a_reused_key_has_title_and_type(client):
    key = unique("key")
    client.customers.create(name="Acme", currency="USD", idempotency_key=key)
    with pytest.raises(alguna.UnprocessableEntityError) as caught:
        client.customers.create(name="Other", currency="USD", idempotency_key=key)
    assert caught.value.body.title
    assert caught.value.body.type == "about:blank"
    assert caught.value.body.code == "idempotency_key_reused"


# ---- keys and retries ----


def test_a_callers_key_replays(client):
    key = unique("key")
    raw = client.customers.with_raw_response
    first = raw.create(name="Acme", currency="USD", idempotency_key=key)
    again = raw.create(name="Acme", currency="USD", idempotency_key=key)
    assert again.data == first.data
    assert (first.headers["idempotent-replayed"], again.headers["idempotent-replayed"]) == ("false", "true")
    assert again.headers["idempotency-key"] == key


def test_without_a_callers_key_every_call_is_its_own(client):
    first, second = (client.customers.create(name="Acme", currency="USD") for _ in range(2))
    assert first.id != second.id


def retried(script, through, server, api):
    """One create through a proxy that misbehaves first; exactly one customer comes of it, under one key."""
    alias = unique("retried")
    with FlakyProxy(server.url, *script) as proxy:
        created = through(proxy).customers.create(name="Acme", currency="USD", aliases=[alias])
        assert len(proxy.writes) == len(script) + 1
        assert len(set(proxy.keys)) == 1
        assert proxy.keys[0]
    assert [customer["id"] for customer in api.customers(alias=alias)["data"]] == [created.id]
    return created


def test_an_answer_that_is_lost_after_the_commit_is_had_again(through, server, api):
    """Without the key the retry would meet its own alias as a conflict."""
    retried([DROP_ANSWER], through, server, api)


def test_a_request_that_is_lost_is_sent_again(through, server, api):
    retried([DROP_REQUEST], through, server, api)


def test_lost_twice_is_had_once(through, server, api):
    retried([DROP_ANSWER, DROP_ANSWER], through, server, api)


def test_a_503_and_a_running_409_are_retried(through, server, api):
    busy, running = answer(503, "Service Unavailable", "Retry-After: 1"), answer(409, "Conflict", "Retry-After: 1")
    retried([busy, running], through, server, api)


def test_a_429_is_retried(through, server, api):
    retried([answer(429, "Too Many Requests", "Retry-After: 1")], through, server, api)


def test_a_lost_update_link_and_removal_happen_once(through, server, api):
    customer, integration, external_id = api.customer(), api.integration(), unique("cus")
    with FlakyProxy(server.url, DROP_ANSWER) as proxy:
        account = through(proxy).customers.create_connected_account(
            customer["id"], integration_id=integration["id"], external_id=external_id
        )
        assert len(proxy.writes) == 2
    assert [each["id"] for each in api.get(f"/customers/{external_id}/connected-accounts").json()["data"]] == [account.id]
    with FlakyProxy(server.url, DROP_ANSWER) as proxy:
        assert through(proxy).customers.delete_connected_account(customer["id"], account.id) is None
        assert len(proxy.writes) == 2
    with FlakyProxy(server.url, DROP_ANSWER) as proxy:
        assert through(proxy).customers.update(customer["id"], name="New").name == "New"
        assert len(proxy.writes) == 2


def test_many_tasks_with_one_key_are_one_customer(contract, server, fresh):
    """The client waits out the 409 of a running request; all of its calls give the same customer."""
    checks = Clients("async", contract, asyncio.Runner())

    async def story():
        async with httpx.AsyncClient(
            timeout=30, trust_env=False, event_hooks={"response": [checks._check_later]}
        ) as http:
            client = AsyncAlguna(base_url=server.url, api_key=fresh.key, httpx_client=http)
            key = unique("key")
            return await asyncio.gather(
                *(client.customers.create(name="Acme", currency="USD", idempotency_key=key) for _ in range(20))
            )

    assert len({customer.id for customer in asyncio.run(story())}) == 1
    assert fresh.count() == 1
