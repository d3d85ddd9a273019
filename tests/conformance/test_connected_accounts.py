"""Links to other systems (behaviour section 5; D-014, D-021, D-022)."""

import pytest

from api import at_once, fields, segment, unique
from contract import identifier


@pytest.fixture
def customer(api):
    return api.customer()


@pytest.fixture
def integration(api):
    return api.integration()


def accounts(customer):
    return f"/customers/{customer['id']}/connected-accounts"


def test_a_link_records_the_mapping_and_nothing_else(api, customer, integration):
    external_id = unique("cus")
    account = api.post(accounts(customer), {"integration_id": integration["id"], "external_id": external_id}).json()
    assert account == {
        "id": account["id"],
        "customer_id": customer["id"],
        "integration_id": integration["id"],
        "external_id": external_id,
    }
    assert identifier("cacc").fullmatch(account["id"])
    assert api.get(accounts(customer)).json() == {"data": [account]}
    assert api.get("/integrations/" + integration["id"]).json() == integration


def test_a_customer_may_have_several_links(api, customer, integration):
    made = [api.link(customer, integration, unique("cus")), api.link(customer, api.integration("hubspot"), unique("co"))]
    assert api.get(accounts(customer)).json()["data"] == made[::-1]


def test_d022_an_unknown_integration_is_422(api, customer):
    for unknown in ("intg_0000000000000000000000", "stripe", customer["id"]):
        api.post(accounts(customer), {"integration_id": unknown, "external_id": unique()}, 422)
    assert api.get(accounts(customer)).json() == {"data": []}


def test_d022_a_pair_belongs_to_one_customer(api, customer, integration):
    external_id = unique("cus")
    api.link(customer, integration, external_id)
    other = api.customer()
    answer = api.post(accounts(other), {"integration_id": integration["id"], "external_id": external_id}, 409)
    assert "retry-after" not in answer.headers
    assert api.get(accounts(other)).json() == {"data": []}


def test_d022_the_same_link_again_never_makes_two(api, customer, integration):
    external_id = unique("cus")
    account = api.link(customer, integration, external_id)
    api.post(accounts(customer), {"integration_id": integration["id"], "external_id": external_id}, (200, 409))
    assert api.get(accounts(customer)).json() == {"data": [account]}


def test_d022_the_same_external_id_in_another_system_is_another_pair(api, customer, integration):
    external_id = unique("42")
    first = api.link(customer, integration, external_id)
    second = api.link(customer, api.integration("hubspot"), external_id)
    assert first["id"] != second["id"]
    assert api.get(f"/customers/{external_id}").json() == customer


def test_d022_one_of_many_that_want_a_pair_gets_it(api, integration):
    external_id = unique("race")
    customers = [api.customer() for _ in range(10)]
    body = {"integration_id": integration["id"], "external_id": external_id}
    answers = at_once(10, lambda n: api.send("POST", accounts(customers[n]), body=body))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 9
    (winner,) = (answer.json() for answer in answers if answer.status_code == 200)
    assert api.get(f"/customers/{external_id}").json()["id"] == winner["customer_id"]


def test_d021_a_link_may_not_take_an_alias_of_another_customer(api, customer, integration):
    alias = unique("alias")
    owner = api.customer(aliases=[alias])
    api.post(accounts(customer), {"integration_id": integration["id"], "external_id": alias}, 409)
    assert api.get(f"/customers/{alias}").json() == owner


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"integration_id": "intg_0000000000000000000000"}, "external_id"),
        ({"external_id": "x"}, "integration_id"),
        ({"integration_id": None, "external_id": "x"}, "integration_id"),
        ({"integration_id": "intg_0000000000000000000000", "external_id": None}, "external_id"),
        ({"integration_id": "intg_0000000000000000000000", "external_id": 5}, "external_id"),
        ({"integration_id": "intg_0000000000000000000000", "external_id": ""}, "external_id"),
        ({"integration_id": "intg_0000000000000000000000", "external_id": "a\x01b"}, "external_id"),
        ({"integration_id": "intg_0000000000000000000000", "external_id": "x", "externalid": "y"}, "externalid"),
    ],
)
def test_d002_an_ill_formed_link_is_400(api, customer, body, field):
    assert fields(api.post(accounts(customer), body, 400)) == {field}


def test_section_5_a_linked_external_id_works_as_the_customers_id(api, customer, integration):
    external_id = unique("cus_abc ü:1")
    account = api.link(customer, integration, external_id)
    base = f"/customers/{segment(external_id)}"
    assert api.get(base).json() == customer
    assert api.get(f"{base}/connected-accounts").json() == {"data": [account]}
    second = api.post(f"{base}/connected-accounts", {"integration_id": integration["id"], "external_id": unique()}).json()
    assert second["customer_id"] == customer["id"]
    api.delete(f"{base}/connected-accounts/{account['id']}")
    api.get(base, 404)


def test_a_link_is_removed_and_the_pair_is_free_again(api, customer, integration):
    external_id = unique("cus")
    account = api.link(customer, integration, external_id)
    api.delete(f"{accounts(customer)}/{account['id']}")
    assert api.get(accounts(customer)).json() == {"data": []}
    api.get(f"/customers/{external_id}", 404)
    api.get("/customers/lookup", 404, params={"alias": external_id})
    other = api.customer()
    again = api.link(other, integration, external_id)
    assert again["id"] != account["id"]
    assert api.get(f"/customers/{external_id}").json() == other


def test_d014_removing_what_is_gone_is_404(api, customer, integration):
    account = api.link(customer, integration, unique("cus"))
    api.delete(f"{accounts(customer)}/{account['id']}")
    api.delete(f"{accounts(customer)}/{account['id']}", 404)
    api.delete(f"{accounts(customer)}/cacc_0000000000000000000000", 404)


def test_a_link_of_another_customer_is_404(api, customer, integration):
    account = api.link(customer, integration, unique("cus"))
    api.delete(f"{accounts(api.customer())}/{account['id']}", 404)
    assert api.get(accounts(customer)).json() == {"data": [account]}


def test_links_of_an_unknown_customer_are_404(api, integration):
    api.get("/customers/nobody/connected-accounts", 404)
    api.post("/customers/nobody/connected-accounts", {"integration_id": integration["id"], "external_id": "x"}, 404)
    api.delete("/customers/nobody/connected-accounts/cacc_0000000000000000000000", 404)


def test_linking_does_not_change_the_customer(api, customer, integration):
    api.link(customer, integration, unique("cus"))
    assert api.get(f"/customers/{customer['id']}").json() == customer
