"""What customers refer to (behaviour section 19; the extension operations of D-011)."""

import pytest

from api import fields, unique

TAG = {"name": "Gold", "color": "#ff8800", "entity_types": ["customer"]}
ENTITY_TYPES = ["product", "customer", "plan", "subscription", "metric", "invoice", "quote"]


def test_a_tag_reads_as_it_was_made(api):
    tag = api.post("/tags", {"name": "Gold", "color": "#ff8800", "entity_types": ENTITY_TYPES}).json()
    assert (tag["name"], tag["color"], tag["entity_types"]) == ("Gold", "#ff8800", ENTITY_TYPES)
    assert tag["created_at"] == tag["updated_at"]
    assert api.get(f"/tags/{tag['id']}").json() == tag


@pytest.mark.parametrize("missing", ["name", "color", "entity_types"])
def test_a_tag_needs_its_three_properties(api, missing):
    body = {name: value for name, value in TAG.items() if name != missing}
    assert fields(api.post("/tags", body, 400)) == {missing}
    assert fields(api.post("/tags", {**TAG, missing: None}, 400)) == {missing}


@pytest.mark.parametrize(
    ("field", "patch"),
    [
        ("name", {"name": ""}),
        ("name", {"name": " "}),
        ("name", {"name": "x" * 256}),
        ("name", {"name": "a\x01b"}),
        ("name", {"name": 5}),
        ("color", {"color": "orange"}),
        ("color", {"color": ""}),
        ("color", {"color": "#ggg000"}),
        ("color", {"color": 5}),
        ("entity_types", {"entity_types": "customer"}),
        ("entity_types[1]", {"entity_types": ["customer", "account"]}),
        ("entity_types[0]", {"entity_types": [5]}),
        ("colour", {"colour": "#ff8800"}),
    ],
)
def test_d002_an_ill_formed_tag_is_400(api, field, patch):
    assert fields(api.post("/tags", {**TAG, **patch}, 400)) == {field}


def test_an_integration_reads_as_it_was_made(api):
    bare = api.post("/integrations", {"provider": "stripe"}).json()
    assert set(bare) == {"id", "provider", "created_at"}
    described = api.post("/integrations", {"provider": "stripe", "description": "The second one"}).json()
    assert described["description"] == "The second one"
    for integration in (bare, described):
        assert api.get(f"/integrations/{integration['id']}").json() == integration


def test_d005_a_null_description_is_an_absent_one(api):
    assert "description" not in api.post("/integrations", {"provider": "stripe", "description": None}).json()


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("provider", {}),
        ("provider", {"provider": None}),
        ("provider", {"provider": ""}),
        ("provider", {"provider": 5}),
        ("provider", {"provider": "x" * 256}),
        ("description", {"provider": "stripe", "description": 5}),
        ("description", {"provider": "stripe", "description": "x" * 5001}),
        ("descripton", {"provider": "stripe", "descripton": "x"}),
    ],
)
def test_d002_an_ill_formed_integration_is_400(api, field, body):
    assert fields(api.post("/integrations", body, 400)) == {field}


def test_d013_a_description_has_5000_characters(api):
    assert api.integration(description="ü" * 5000)["description"] == "ü" * 5000


def test_tags_are_paged_like_customers(fresh):
    for number in range(21):
        fresh.tag(f"Tag {number:02}")
    page = fresh.get("/tags").json()
    assert [tag["name"] for tag in page["data"]] == [f"Tag {number:02}" for number in range(20)]
    assert page["pagination"] == {"per_page": 20, "total_pages": 2}
    assert [tag["name"] for tag in fresh.get("/tags", params={"offset": 20}).json()["data"]] == ["Tag 20"]


def test_extension_writes_take_idempotency_keys_like_the_rest(api):
    for path, body in (("/tags", TAG), ("/integrations", {"provider": unique("system")})):
        key = unique("key")
        first, again = api.post(path, body, key=key), api.post(path, body, key=key)
        assert again.content == first.content
        assert (first.headers["idempotent-replayed"], again.headers["idempotent-replayed"]) == ("false", "true")
