"""Organizations see nothing of each other (D-002, D-004): what belongs to another reads like what never was."""

import pytest

from api import unique, without_request

CUSTOMER = {"name": "Acme Corp", "currency": "USD"}


class Theirs:
    """One of everything, in the other organization."""

    def __init__(self, api):
        self.alias, self.external_id = unique("theirs"), unique("cus-theirs")
        self.email, self.owner = f"{unique('theirs')}@example.com", unique("usr-theirs")
        self.tag = api.tag(unique("theirs"))
        self.integration = api.integration(unique("theirs"))
        self.customer = api.customer(
            name=unique("Theirs"),
            aliases=[self.alias],
            contacts=[{"email": self.email, "is_primary": True}],
            tag_ids=[self.tag["id"]],
            csm_id=self.owner,
            sales_owner_id=self.owner,
        )
        self.account = api.link(self.customer, self.integration, self.external_id)

    def unchanged(self, api):
        """Whether all of it is as it was made."""
        path = f"/customers/{self.customer['id']}"
        return (
            api.get(path).json() == self.customer
            and api.get(f"{path}/connected-accounts").json() == {"data": [self.account]}
            and api.get(f"/tags/{self.tag['id']}").json() == self.tag
            and api.get(f"/integrations/{self.integration['id']}").json() == self.integration
        )


@pytest.fixture
def theirs(stranger):
    made = Theirs(stranger.api)
    yield made
    assert made.unchanged(stranger.api)


NEVER = {
    "customer": "cust_0000000000000000000000",
    "contact": "cont_0000000000000000000000",
    "account": "cacc_0000000000000000000000",
    "tag": "tag_0000000000000000000000",
    "integration": "intg_0000000000000000000000",
}


def same(one, other, *texts):
    """Both answers say the same, status and text, whatever was asked for."""
    assert without_request(one, *texts) == without_request(other, *texts)
    return one.status_code


@pytest.mark.parametrize("form", ["id", "alias", "external_id"])
@pytest.mark.parametrize("suffix", ["", "/connected-accounts", "/entitlements", "/payment-methods"])
def test_d004_reading_their_customer_is_like_reading_nobody(api, theirs, form, suffix):
    text = {"id": theirs.customer["id"], "alias": theirs.alias, "external_id": theirs.external_id}[form]
    never = NEVER["customer"] if form == "id" else unique("never")
    assert same(api.send("GET", f"/customers/{text}{suffix}"), api.send("GET", f"/customers/{never}{suffix}"), text, never) == 404


@pytest.mark.parametrize("form", ["id", "alias", "external_id"])
def test_d004_changing_their_customer_is_like_changing_nobody(api, theirs, form):
    text = {"id": theirs.customer["id"], "alias": theirs.alias, "external_id": theirs.external_id}[form]
    never = NEVER["customer"] if form == "id" else unique("never")
    mine = api.integration()
    link = {"integration_id": mine["id"], "external_id": unique("cus")}
    for method, suffix, body in (
        ("PATCH", "", {"name": "Stolen"}),
        ("POST", "/connected-accounts", link),
    ):
        one = api.send(method, f"/customers/{text}{suffix}", body=body)
        other = api.send(method, f"/customers/{never}{suffix}", body=body)
        assert same(one, other, text, never) == 404
    one = api.send("DELETE", f"/customers/{text}/connected-accounts/{theirs.account['id']}")
    other = api.send("DELETE", f"/customers/{never}/connected-accounts/{NEVER['account']}")
    assert same(one, other, text, never, theirs.account["id"], NEVER["account"]) == 404


def test_d004_lookups_do_not_find_theirs(api, theirs):
    for text in (theirs.customer["id"], theirs.alias, theirs.external_id):
        never = unique("never")
        one = api.send("GET", "/customers/lookup", params={"alias": text})
        other = api.send("GET", "/customers/lookup", params={"alias": never})
        assert same(one, other, text, never) == 404


def test_d004_their_tags_and_integrations_are_not_there(api, theirs):
    for path, mine, never in (
        ("/tags/", theirs.tag["id"], NEVER["tag"]),
        ("/integrations/", theirs.integration["id"], NEVER["integration"]),
    ):
        assert same(api.send("GET", path + mine), api.send("GET", path + never), mine, never) == 404


def test_d004_lists_hold_nothing_of_theirs(fresh, theirs):
    assert fresh.customers() == {"data": [], "pagination": {"per_page": 20, "total_pages": 0}}
    assert fresh.get("/tags").json()["data"] == []
    assert fresh.get("/integrations").json()["data"] == []
    assert fresh.get("/integrations", params={"provider": theirs.integration["provider"]}).json()["data"] == []


@pytest.mark.parametrize("filter", ["alias", "email", "csm_id", "sales_owner_id", "tag_ids", "integration_ids"])
def test_d004_filters_find_nothing_of_theirs(api, theirs, filter):
    text, never = {
        "alias": (theirs.alias, unique("never")),
        "email": (theirs.email, "never@example.com"),
        "csm_id": (theirs.owner, unique("never")),
        "sales_owner_id": (theirs.owner, unique("never")),
        "tag_ids": (theirs.tag["id"], NEVER["tag"]),
        "integration_ids": (theirs.integration["id"], NEVER["integration"]),
    }[filter]
    one = api.send("GET", "/customers", params={filter: text})
    other = api.send("GET", "/customers", params={filter: never})
    same(one, other, text, never)
    assert one.json()["data"] == []


@pytest.mark.parametrize(
    "reference",
    [
        lambda tag, customer, contact: {"tag_ids": [tag]},
        lambda tag, customer, contact: {"parent_customer_id": customer},
    ],
    ids=["tag", "parent"],
)
def test_d004_references_to_theirs_are_refused_like_unknown_ones(api, theirs, reference):
    real = reference(theirs.tag["id"], theirs.customer["id"], None)
    never = reference(NEVER["tag"], NEVER["customer"], None)
    texts = (theirs.tag["id"], theirs.customer["id"], NEVER["tag"], NEVER["customer"])
    one = api.send("POST", "/customers", body={**CUSTOMER, **real})
    other = api.send("POST", "/customers", body={**CUSTOMER, **never})
    assert same(one, other, *texts) == 422
    mine = f"/customers/{api.customer()['id']}"
    assert same(api.send("PATCH", mine, body=real), api.send("PATCH", mine, body=never), *texts) == 422


def test_d004_a_contact_of_theirs_is_refused_like_an_unknown_one(api, theirs):
    mine, real = f"/customers/{api.customer()['id']}", theirs.customer["contacts"][0]["id"]
    one, other = (
        api.send("PATCH", mine, body={"contacts": [{"id": text, "email": "a@example.com", "is_primary": True}]})
        for text in (real, NEVER["contact"])
    )
    assert same(one, other, real, NEVER["contact"]) == 422


def test_d004_a_link_through_their_integration_is_refused_like_an_unknown_one(api, theirs):
    mine = f"/customers/{api.customer()['id']}/connected-accounts"
    one, other = (
        api.send("POST", mine, body={"integration_id": text, "external_id": theirs.external_id})
        for text in (theirs.integration["id"], NEVER["integration"])
    )
    assert same(one, other, theirs.integration["id"], NEVER["integration"]) == 422


def test_d021_aliases_are_unique_in_one_organization_only(api, theirs):
    """A refusal would tell that the alias, the id or the external id exists elsewhere."""
    mine = api.customer(aliases=[theirs.alias, theirs.external_id, theirs.customer["id"]])
    for text in mine["aliases"]:
        assert api.get(f"/customers/{text}").json() == mine
        assert api.get("/customers/lookup", params={"alias": text}).json() == {"customer_id": mine["id"]}
    api.patch(f"/customers/{mine['id']}", {"aliases": []})


def test_d022_external_ids_are_unique_in_one_organization_only(api, theirs):
    mine = api.customer()
    account = api.link(mine, api.integration(), theirs.external_id)
    assert api.get(f"/customers/{theirs.external_id}").json() == mine
    api.delete(f"/customers/{mine['id']}/connected-accounts/{account['id']}")


def test_idempotency_row_7_their_keys_are_not_ours(api, stranger):
    key = unique("key")
    one = stranger.api.post("/customers", {**CUSTOMER, "name": "Theirs"}, key=key)
    other = api.post("/customers", {**CUSTOMER, "name": "Ours"}, key=key)
    assert other.headers["idempotent-replayed"] == "false"
    assert one.json()["id"] != other.json()["id"]


def test_d004_a_sandbox_is_an_organization_of_its_own(api, sandbox):
    mine = api.customer()
    practice = sandbox.api.customer()
    sandbox.api.get(f"/customers/{mine['id']}", 404)
    api.get(f"/customers/{practice['id']}", 404)


def test_d004_their_reader_sees_nothing_either(api, stranger):
    stranger.reader.get(f"/customers/{api.customer()['id']}", 404)
