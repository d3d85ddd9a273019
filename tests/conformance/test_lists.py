"""Lists: limits, offsets, orders, filters, page numbers (behaviour section 2; D-008, D-009, D-020)."""

import unicodedata

import pytest

from api import fields, unique

# ---- limit, offset, page numbers ----


def test_d008_the_default_limit_is_20(crowd):
    page = crowd.customers()
    assert len(page["data"]) == 20
    assert page["pagination"] == {"per_page": 20, "total_pages": 6}


@pytest.mark.parametrize(
    ("limit", "pages"), [(1, 105), (2, 53), (34, 4), (35, 3), (36, 3), (50, 3), (99, 2), (100, 2)]
)
def test_d008_per_page_is_the_limit_and_total_pages_the_ceiling(crowd, limit, pages):
    page = crowd.customers(limit=limit)
    assert len(page["data"]) == limit
    assert page["pagination"] == {"per_page": limit, "total_pages": pages}


def test_d008_the_last_page_is_short_and_its_numbers_are_the_same(crowd):
    page = crowd.customers(limit=100, offset=100)
    assert len(page["data"]) == 5
    assert page["pagination"] == {"per_page": 100, "total_pages": 2}


@pytest.mark.parametrize("offset", [105, 106, 1_000_000, 2**31])
def test_d008_beyond_the_end_there_is_nothing_and_the_numbers_stay(crowd, offset):
    page = crowd.customers(limit=100, offset=offset)
    assert page["data"] == []
    assert page["pagination"] == {"per_page": 100, "total_pages": 2}


def test_d008_an_empty_list_has_no_pages(fresh):
    assert fresh.customers() == {"data": [], "pagination": {"per_page": 20, "total_pages": 0}}
    assert fresh.get("/tags").json() == {"data": [], "pagination": {"per_page": 20, "total_pages": 0}}
    assert fresh.get("/integrations").json() == {"data": []}


def test_d008_total_pages_counts_what_the_filter_lets_through(crowd):
    page = crowd.customers(limit=10, has_active_subscriptions="true")
    assert page == {"data": [], "pagination": {"per_page": 10, "total_pages": 0}}


WRONG_INTEGERS = ["", "abc", "1.5", "1.0", "+5", "-1", "005", "00", " 5", "5 ", "1e1", "0x10", "٣", "99999999999999999999", "null", "5,6"]


@pytest.mark.parametrize("path", ["/customers", "/tags"])
@pytest.mark.parametrize("limit", ["0", "101", "1000", *WRONG_INTEGERS])
def test_d008_a_limit_outside_1_to_100_or_not_canonical_is_400(api, path, limit):
    answer = api.get(path, 400, params={"limit": limit})
    assert "limit" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/customers", "/tags"])
@pytest.mark.parametrize("offset", WRONG_INTEGERS)
def test_d008_a_negative_offset_or_one_not_canonical_is_400(api, path, offset):
    answer = api.get(path, 400, params={"offset": offset})
    assert "offset" in answer.json()["detail"]


def test_d002_limit_and_offset_are_refused_together(api):
    assert fields(api.get("/customers?limit=0&offset=-1&sort=size:asc", 400)) == {"limit", "offset", "sort"}


@pytest.mark.parametrize("query", ["limit=5", "offset=0", "sort=created_at:desc"])
def test_section_2_lists_without_paging_take_no_paging(api, query):
    customer = api.customer()
    api.get(f"/integrations?{query}", 400)
    api.get(f"/customers/{customer['id']}/connected-accounts?{query}", 400)


@pytest.mark.parametrize("limit", [1, 7, 35, 100])
@pytest.mark.parametrize("sort", [None, "name:asc", "created_at:asc"])
def test_section_2_the_pages_together_are_the_list(crowd, limit, sort):
    sorting = {"sort": sort} if sort else {}
    seen = []
    while page := crowd.customers(limit=limit, offset=len(seen), **sorting)["data"]:
        seen += [customer["id"] for customer in page]
    assert len(seen) == len(set(seen)) == 105


# ---- order ----


def test_d009_newest_first_is_the_default(crowd):
    page = crowd.customers(limit=100)["data"] + crowd.customers(limit=100, offset=100)["data"]
    assert [customer["name"] for customer in page] == [f"Customer {n:03}" for n in reversed(range(105))]


def test_d007_ids_sort_by_creation(crowd):
    ids = [customer["id"] for customer in crowd.customers(limit=100)["data"]]
    assert ids == sorted(ids, reverse=True)


def test_d009_an_update_does_not_move_a_customer(fresh):
    first, second = fresh.customer(name="First"), fresh.customer(name="Second")
    fresh.patch(f"/customers/{first['id']}", {"name": "First, changed"})
    assert [customer["id"] for customer in fresh.customers()["data"]] == [second["id"], first["id"]]


def test_section_2_sort_by_name_and_by_creation_both_ways(fresh):
    for name in ("Bravo", "Alpha", "Delta", "Charlie"):
        fresh.customer(name=name)
    assert fresh.names(sort="name:asc") == ["Alpha", "Bravo", "Charlie", "Delta"]
    assert fresh.names(sort="name:desc") == ["Delta", "Charlie", "Bravo", "Alpha"]
    assert fresh.names(sort="created_at:asc") == ["Bravo", "Alpha", "Delta", "Charlie"]
    assert fresh.names(sort="created_at:desc") == ["Charlie", "Delta", "Alpha", "Bravo"]


@pytest.mark.parametrize("sort", ["name:asc", "name:desc"])
def test_d009_ties_are_broken_by_id_and_stable_across_pages(fresh, sort):
    for _ in range(12):
        fresh.customer(name="Same")
    whole = [customer["id"] for customer in fresh.customers(sort=sort, limit=100)["data"]]
    assert whole in (sorted(whole), sorted(whole, reverse=True))
    single = [fresh.customers(sort=sort, limit=1, offset=n)["data"][0]["id"] for n in range(12)]
    assert single == whole


@pytest.mark.parametrize(
    "sort",
    ["name", "name:", ":asc", "name:up", "name:ASC", "NAME:asc", "id:asc", "currency:asc", "updated_at:asc",
     "name:asc,created_at:desc", "name:asc:desc", "name desc", "-name", "name;drop table:asc"],
)  # fmt: skip
def test_d009_an_unknown_sort_is_400_that_lists_the_fields(api, sort):
    answer = api.get("/customers", 400, params={"sort": sort})
    assert "name" in answer.json()["detail"]
    assert "created_at" in answer.json()["detail"]


@pytest.mark.parametrize("direction", ["up", "ASC", "descending"])
def test_d009_an_unknown_direction_is_400_that_lists_the_directions(api, direction):
    detail = api.get("/customers", 400, params={"sort": f"name:{direction}"}).json()["detail"]
    assert "asc" in detail
    assert "desc" in detail


def test_an_empty_sort_is_400(api):
    assert "sort" in api.get("/customers?sort=", 400).json()["detail"]


def test_tags_take_no_sort(api):
    api.get("/tags?sort=name:asc", 400)


def test_section_2_tags_are_sorted_by_name(fresh):
    for name in ("Bravo", "Delta", "Alpha", "Charlie", "Alpha"):
        fresh.tag(name)
    names = [tag["name"] for tag in fresh.get("/tags").json()["data"]]
    assert names == ["Alpha", "Alpha", "Bravo", "Charlie", "Delta"]
    paged = [fresh.get("/tags", params={"limit": 1, "offset": n}).json()["data"][0] for n in range(5)]
    assert paged == fresh.get("/tags").json()["data"]
    assert fresh.get("/tags", params={"limit": 2}).json()["pagination"] == {"per_page": 2, "total_pages": 3}


def test_d009_integrations_and_connected_accounts_are_newest_first(fresh):
    customer = fresh.customer()
    integrations = [fresh.integration(f"system-{number}") for number in range(5)]
    accounts = [fresh.link(customer, integration, f"ext-{n}") for n, integration in enumerate(integrations)]
    assert fresh.get("/integrations").json()["data"] == integrations[::-1]
    assert fresh.get(f"/customers/{customer['id']}/connected-accounts").json()["data"] == accounts[::-1]


# ---- filters ----


def ids(page):
    return {customer["id"] for customer in page["data"]}


def test_filter_alias_matches_one_whole_alias(api):
    stem = unique("Alias")
    customer = api.customer(aliases=[stem, f"{stem}-two"])
    api.customer(aliases=[f"{stem}-three"])
    assert ids(api.customers(alias=stem)) == {customer["id"]}
    assert ids(api.customers(alias=f"{stem}-two")) == {customer["id"]}
    for other in (stem[:-1], stem.lower(), stem + " ", f"{stem}%", f"{stem}_two", "%", "*", customer["id"]):
        assert ids(api.customers(alias=other)) == set(), other


def test_filter_alias_compares_in_nfc(api):
    alias = unique("Société Générale")
    customer = api.customer(aliases=[unicodedata.normalize("NFD", alias)])
    assert ids(api.customers(alias=unicodedata.normalize("NFC", alias))) == {customer["id"]}
    assert ids(api.customers(alias=unicodedata.normalize("NFD", alias))) == {customer["id"]}


def test_filter_email_matches_any_contact(api):
    first, second = f"{unique('one')}@example.com", f"{unique('two')}@example.com"
    customer = api.customer(contacts=[{"email": first, "is_primary": True}, {"email": second, "is_primary": False}])
    also = api.customer(contacts=[{"email": second, "is_primary": False}])
    assert ids(api.customers(email=first)) == {customer["id"]}
    assert ids(api.customers(email=second)) == {customer["id"], also["id"]}
    assert ids(api.customers(email=second.split("@")[0])) == set()
    assert ids(api.customers(email="%@example.com")) == set()


def test_filter_email_finds_a_customer_once_and_follows_updates(api):
    email = f"{unique('mail')}@example.com"
    customer = api.customer(contacts=[{"email": email, "is_primary": True}])
    assert [found["id"] for found in api.customers(email=email)["data"]] == [customer["id"]]
    api.patch(f"/customers/{customer['id']}", {"contacts": []})
    assert ids(api.customers(email=email)) == set()


@pytest.mark.parametrize("property", ["csm_id", "sales_owner_id"])
def test_d020_filters_csm_and_sales_owner_match_any_of_their_values(api, property):
    one, two, three = (unique("usr") for _ in range(3))
    first, second = api.customer(**{property: one}), api.customer(**{property: two})
    api.customer(**{property: three})
    assert ids(api.customers(**{property: one})) == {first["id"]}
    assert ids(api.customers(**{property: f"{one},{two}"})) == {first["id"], second["id"]}
    assert ids(api.customers(**{property: one[:-1]})) == set()
    api.patch(f"/customers/{first['id']}", {property: None})
    assert ids(api.customers(**{property: one})) == set()


def test_d020_filter_tag_ids_matches_any(api):
    gold, silver, bronze = (api.tag(unique(name)) for name in ("gold", "silver", "bronze"))
    first = api.customer(tag_ids=[gold["id"]])
    both = api.customer(tag_ids=[gold["id"], silver["id"]])
    api.customer(tag_ids=[bronze["id"]])
    assert ids(api.customers(tag_ids=gold["id"])) == {first["id"], both["id"]}
    assert ids(api.customers(tag_ids=silver["id"])) == {both["id"]}
    page = api.customers(tag_ids=f"{gold['id']},{silver['id']}")
    assert [customer["id"] for customer in page["data"]] == [both["id"], first["id"]], "each customer once"


def test_filter_integration_ids_matches_the_integration_of_any_link(api):
    stripe, hubspot, other = (api.integration(name) for name in ("stripe", "hubspot", "other"))
    first, second = api.customer(), api.customer()
    api.link(first, stripe, unique("cus"))
    api.link(first, hubspot, unique("company"))
    account = api.link(second, hubspot, unique("company"))
    assert ids(api.customers(integration_ids=stripe["id"])) == {first["id"]}
    page = api.customers(integration_ids=f"{hubspot['id']},{stripe['id']}")
    assert [customer["id"] for customer in page["data"]] == [second["id"], first["id"]]
    assert ids(api.customers(integration_ids=other["id"])) == set()
    api.delete(f"/customers/{second['id']}/connected-accounts/{account['id']}")
    assert ids(api.customers(integration_ids=hubspot["id"])) == {first["id"]}


def test_filter_has_active_subscriptions(fresh):
    customer = fresh.customer()
    assert ids(fresh.customers(has_active_subscriptions="false")) == {customer["id"]}
    assert ids(fresh.customers(has_active_subscriptions="true")) == set()


@pytest.mark.parametrize("value", ["TRUE", "True", "1", "0", "yes", "", "null"])
def test_section_1_booleans_are_true_and_false(api, value):
    assert "has_active_subscriptions" in api.get("/customers", 400, params={"has_active_subscriptions": value}).json()["detail"]


def test_section_2_different_filters_combine_with_and(api):
    tag, owner, alias = api.tag(unique("tag")), unique("usr"), unique("alias")
    both = api.customer(tag_ids=[tag["id"]], sales_owner_id=owner, aliases=[alias])
    api.customer(tag_ids=[tag["id"]])
    api.customer(sales_owner_id=owner)
    assert ids(api.customers(tag_ids=tag["id"], sales_owner_id=owner)) == {both["id"]}
    assert ids(api.customers(tag_ids=tag["id"], sales_owner_id=owner, alias=alias)) == {both["id"]}
    assert ids(api.customers(tag_ids=tag["id"], sales_owner_id=owner, alias=unique())) == set()


def test_section_2_a_filtered_list_pages_and_sorts_like_any_other(api):
    owner = unique("usr")
    for name in ("Bravo", "Charlie", "Alpha"):
        api.customer(name=name, sales_owner_id=owner)
    page = api.customers(sales_owner_id=owner, sort="name:asc", limit=2)
    assert [customer["name"] for customer in page["data"]] == ["Alpha", "Bravo"]
    assert page["pagination"] == {"per_page": 2, "total_pages": 2}
    rest = api.customers(sales_owner_id=owner, sort="name:asc", limit=2, offset=2)
    assert [customer["name"] for customer in rest["data"]] == ["Charlie"]


def test_filter_provider_of_integrations(fresh):
    stripe, hubspot = fresh.integration("stripe"), fresh.integration("hubspot")
    assert fresh.get("/integrations", params={"provider": "stripe"}).json()["data"] == [stripe]
    assert fresh.get("/integrations", params={"provider": "hubspot"}).json()["data"] == [hubspot]
    for other in ("strip", "stripe,hubspot", "%"):
        assert fresh.get("/integrations", params={"provider": other}).json()["data"] == []


@pytest.mark.parametrize("value", ["' OR '1'='1", "a'; DROP TABLE customers; --", "\\", "\\'", "%", "_", "\"", "${x}", "a\u202eb", "😀"])
@pytest.mark.parametrize("filter", ["alias", "email", "csm_id", "sales_owner_id", "tag_ids", "integration_ids"])
def test_a_filter_is_data_and_never_a_query(crowd, filter, value):
    assert crowd.customers(**{filter: value})["data"] == []
