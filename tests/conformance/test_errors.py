"""Which status refuses what, and how a refusal reads (D-002, D-005, D-006; extensions.md "Errors")."""

import gzip
import json

import pytest

from api import fields, message, segment, unique

CUSTOMER = {"name": "Acme Corp", "currency": "USD"}
CONTACT = {"email": "john@example.com", "is_primary": True}
ADDRESS = {"line1": "123 Main St", "city": "Springfield", "state": "IL", "postal_code": "62701", "country": "USA"}


# ---- 400: not well-formed ----


def test_d002_the_detail_names_every_problem_at_once_in_its_documented_form(api):
    answer = api.post(
        "/customers",
        {"currency": "USD", "contacts": [CONTACT, {"email": "nonsense", "is_primary": False}]},
        400,
    )
    detail = answer.json()["detail"]
    assert detail.startswith("Validation failed: ")
    problems = detail.removeprefix("Validation failed: ").split("; ")
    assert "name is required" in problems
    assert "contacts[1].email is not an e-mail address" in problems
    assert fields(answer) == {"name", "contacts[1].email"}


def test_d002_problems_of_every_kind_are_found_in_one_go(api):
    answer = api.post(
        "/customers",
        {
            "nmae": "Acme",
            "currency": "usd",
            "aliases": ["fine", 7],
            "contacts": [{"email": "john@example.com"}, {"is_primary": "yes", "email": "a@example.com"}],
            "billing_address": {"line1": "x", "city": "y", "state": "z", "country": "Nowhere"},
            "tax_type": "tithe",
        },
        400,
    )
    assert fields(answer) == {
        "nmae",
        "name",
        "currency",
        "aliases[1]",
        "contacts[0].is_primary",
        "contacts[1].is_primary",
        "billing_address.postal_code",
        "billing_address.country",
        "tax_type",
    }
    detail = answer.json()["detail"]
    for field in fields(answer):
        assert field in detail


@pytest.mark.parametrize("missing", ["name", "currency"])
def test_d002_a_missing_required_property_is_400(api, missing):
    body = {name: value for name, value in CUSTOMER.items() if name != missing}
    answer = api.post("/customers", body, 400)
    assert f"{missing} is required" in answer.json()["detail"]
    assert fields(answer) == {missing}


@pytest.mark.parametrize(
    ("field", "patch"),
    [
        ("name", {"name": 5}),
        ("name", {"name": ["Acme"]}),
        ("name", {"name": {}}),
        ("name", {"name": True}),
        ("currency", {"currency": 840}),
        ("aliases", {"aliases": "one"}),
        ("aliases", {"aliases": {"0": "one"}}),
        ("aliases[0]", {"aliases": [1]}),
        ("aliases[1]", {"aliases": ["a", None]}),
        ("contacts", {"contacts": {}}),
        ("contacts[0]", {"contacts": ["john@example.com"]}),
        ("contacts[0]", {"contacts": [["john@example.com", True]]}),
        ("contacts[0].is_primary", {"contacts": [{**CONTACT, "is_primary": "true"}]}),
        ("contacts[0].is_primary", {"contacts": [{**CONTACT, "is_primary": 1}]}),
        ("contacts[0].email", {"contacts": [{**CONTACT, "email": 1}]}),
        ("contacts[0].first_name", {"contacts": [{**CONTACT, "first_name": 1}]}),
        ("contacts[0].email_preferences", {"contacts": [{**CONTACT, "email_preferences": "billing"}]}),
        ("contacts[0].email_preferences[0]", {"contacts": [{**CONTACT, "email_preferences": [1]}]}),
        ("billing_address", {"billing_address": "123 Main St"}),
        ("billing_address", {"billing_address": [ADDRESS]}),
        ("billing_address.line2", {"billing_address": {**ADDRESS, "line2": 2}}),
        ("metadata", {"metadata": []}),
        ("metadata", {"metadata": "x"}),
        ("tag_ids", {"tag_ids": "tag_x"}),
        ("tag_ids[0]", {"tag_ids": [1]}),
        ("csm_id", {"csm_id": 1}),
        ("sales_owner_id", {"sales_owner_id": ["x"]}),
        ("parent_customer_id", {"parent_customer_id": 1}),
        ("tax_id", {"tax_id": 1}),
    ],
)
def test_d002_a_wrong_type_is_400_that_names_the_place(api, field, patch):
    assert fields(api.post("/customers", {**CUSTOMER, **patch}, 400)) == {field}
    customer = api.customer()
    assert fields(api.patch(f"/customers/{customer['id']}", patch, 400)) == {field}
    assert api.get(f"/customers/{customer['id']}").json() == customer


@pytest.mark.parametrize(
    ("typo", "meant", "field"),
    [
        ({"nmae": "Acme"}, "name", "nmae"),
        ({"curency": "USD"}, "currency", "curency"),
        ({"alias": ["x"]}, "aliases", "alias"),
        ({"Name": "Acme"}, "name", "Name"),
        ({"contact": []}, "contacts", "contact"),
        ({"billingAddress": ADDRESS}, "billing_address", "billingAddress"),
        ({"meta_data": {}}, "metadata", "meta_data"),
        ({"contacts": [{**CONTACT, "emial": "x"}]}, "email", "contacts[0].emial"),
        ({"contacts": [{**CONTACT, "lastname": "x"}]}, "last_name", "contacts[0].lastname"),
        ({"billing_address": {**ADDRESS, "postcode": "1"}}, "postal_code", "billing_address.postcode"),
    ],
)
def test_d005_an_unknown_property_is_refused_with_the_nearest_known_name(api, typo, meant, field):
    answer = api.post("/customers", {**CUSTOMER, **typo}, 400)
    assert fields(answer) == {field}
    assert f"`{meant}`" in message(answer, field)
    customer = api.customer()
    assert fields(api.patch(f"/customers/{customer['id']}", typo, 400)) == {field}


@pytest.mark.parametrize("property", ["id", "created_at", "updated_at", "tax_status"])
def test_section_5_what_only_answers_carry_is_unknown_in_requests(api, property):
    assert fields(api.post("/customers", {**CUSTOMER, property: "x"}, 400)) == {property}


@pytest.mark.parametrize("property", ["name", "currency"])
def test_d005_null_for_a_required_property_is_400(api, property):
    assert fields(api.post("/customers", {**CUSTOMER, property: None}, 400)) == {property}
    customer = api.customer()
    assert fields(api.patch(f"/customers/{customer['id']}", {property: None}, 400)) == {property}
    assert api.get(f"/customers/{customer['id']}").json() == customer


@pytest.mark.parametrize(
    ("field", "contact"),
    [
        ("contacts[0].email", {"email": None, "is_primary": True}),
        ("contacts[0].is_primary", {"email": "a@example.com", "is_primary": None}),
    ],
)
def test_d005_null_for_a_required_nested_property_is_400(api, field, contact):
    assert fields(api.post("/customers", {**CUSTOMER, "contacts": [contact]}, 400)) == {field}


@pytest.mark.parametrize("content", [b"", b"   ", b"{", b'{"name": "Acme", }', b"{'name': 1}", b"nonsense", b'{"name": "A"} x'])
def test_d002_bad_json_is_400(api, content):
    api.post("/customers", status=400, content=content)


@pytest.mark.parametrize("content", [b"null", b"[]", b'["Acme", "USD"]', b'"Acme"', b"5", b"true"])
def test_d002_a_body_that_is_no_object_is_400(api, content):
    """An array must not pass for an object: ["Acme", "USD"] is not a customer."""
    api.post("/customers", status=400, content=content)
    customer = api.customer()
    api.patch(f"/customers/{customer['id']}", status=400, content=content)


def test_d006_a_json_number_for_a_decimal_is_400_with_the_right_spelling(api):
    answer = api.post("/customers", status=400, content=b'{"name": "Acme", "currency": "USD", "tax_rate": 0.20}')
    assert fields(answer) == {"tax_rate"}
    assert '"0.20"' in message(answer, "tax_rate")


def test_asvs_an_error_does_not_repeat_the_offending_value(api):
    answer = api.post(
        "/customers",
        {"name": "x" * 256, "currency": "C0FFEE-1", "contacts": [{"email": "C0FFEE-2", "is_primary": True}]},
        400,
    )
    assert "C0FFEE" not in answer.text
    assert "xxxxxxxx" not in answer.text


# ---- queries ----


@pytest.mark.parametrize(
    "path", ["/customers", "/customers/{id}", "/tags", "/integrations", "/customers/lookup?alias={id}", "/customers/{id}/entitlements"]
)
def test_an_unknown_query_parameter_is_400_that_names_it(api, path):
    path = path.format(id=api.customer()["id"])
    answer = api.get(f"{path}{'&' if '?' in path else '?'}colour=red", 400)
    assert "colour" in answer.json()["detail"]


def test_an_unknown_query_parameter_of_a_write_is_400(api):
    name = unique("alias")
    api.post("/customers", {**CUSTOMER, "aliases": [name]}, 400, params={"dry_run": "true"})
    api.get(f"/customers/{name}", 404)


def test_a_missing_required_query_parameter_is_400(api):
    assert "alias" in api.get("/customers/lookup", 400).json()["detail"]


# ---- 404 ----


def test_d002_what_is_not_there_is_404(api):
    for path in (
        "/customers/cust_0000000000000000000000",
        "/customers/nobody",
        "/customers/nobody/connected-accounts",
        "/customers/nobody/entitlements",
        "/customers/nobody/payment-methods",
        "/customers/lookup?alias=nobody",
        "/tags/tag_0000000000000000000000",
        "/integrations/intg_0000000000000000000000",
    ):
        api.get(path, 404)
    api.patch("/customers/nobody", {"name": "Acme"}, 404)


def test_d002_an_id_of_another_kind_is_404(api):
    tag, customer = api.tag(), api.customer()
    api.get(f"/customers/{tag['id']}", 404)
    api.get(f"/tags/{customer['id']}", 404)
    api.get(f"/integrations/{tag['id']}", 404)


def test_d007_ids_are_compared_to_the_letter(api):
    customer = api.customer()
    for changed in (customer["id"].upper(), customer["id"] + "0", customer["id"][:-1], customer["id"].replace("cust_", "cus_")):
        api.get(f"/customers/{changed}", 404)


@pytest.mark.parametrize("path", ["/", "/nothing", "/customer", "/customers/a/b", "/v2/customers", "/Customers", "/customers/a/connected-accounts/b/c"])
def test_an_unknown_route_is_404(api, path):
    api.get(path, 404)


def test_section_1_an_empty_id_is_not_the_list(api):
    api.get("/customers/", 404)
    api.get("/tags/", 404)
    api.get("/integrations/", 404)


# ---- 405 ----


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/customers", {"GET", "POST"}),
        ("DELETE", "/customers", {"GET", "POST"}),
        ("PATCH", "/customers", {"GET", "POST"}),
        ("DELETE", "/customers/some", {"GET", "PATCH"}),
        ("PUT", "/customers/some", {"GET", "PATCH"}),
        ("POST", "/customers/some", {"GET", "PATCH"}),
        ("POST", "/customers/lookup", {"GET"}),
        ("PATCH", "/customers/some/connected-accounts", {"GET", "POST"}),
        ("POST", "/customers/some/connected-accounts/other", {"DELETE"}),
        ("POST", "/customers/some/entitlements", {"GET"}),
        ("POST", "/customers/some/payment-methods", {"GET"}),
        ("DELETE", "/tags", {"GET", "POST"}),
        ("POST", "/tags/some", {"GET"}),
        ("PUT", "/integrations", {"GET", "POST"}),
        ("DELETE", "/integrations/some", {"GET"}),
    ],
)
def test_d002_a_wrong_method_is_405_with_allow(api, method, path, allowed):
    answer = api.request(method, path, 405, **({"body": {}} if method != "DELETE" else {}))
    named = {name.strip() for name in answer.headers["allow"].split(",")}
    assert named - {"HEAD", "OPTIONS"} == allowed


# ---- 409, 422 ----


def test_d002_a_taken_value_is_409_and_not_to_be_retried(api):
    alias = unique("alias")
    api.customer(aliases=[alias])
    answer = api.post("/customers", {**CUSTOMER, "aliases": [alias]}, 409)
    assert "retry-after" not in answer.headers, "only an in-flight 409 carries Retry-After"


@pytest.mark.parametrize(
    "patch",
    [
        {"tag_ids": ["tag_0000000000000000000000"]},
        {"parent_customer_id": "cust_0000000000000000000000"},
        {"contacts": [CONTACT, {"email": "jane@example.com", "is_primary": True}]},
    ],
)
def test_d002_what_is_well_formed_and_refused_is_422(api, patch):
    alias = unique("alias")
    api.post("/customers", {**CUSTOMER, "aliases": [alias], **patch}, 422)
    api.get(f"/customers/{alias}", 404)
    customer = api.customer()
    api.patch(f"/customers/{customer['id']}", {"name": "Changed", **patch}, 422)
    assert api.get(f"/customers/{customer['id']}").json() == customer


# ---- 413 ----


def padded(length):
    """A valid customer whose body has exactly this many bytes: white space between tokens is free."""
    body = json.dumps(CUSTOMER).encode()
    return body[:-1] + b" " * (length - len(body)) + b"}"


def test_d013_a_body_of_one_mebibyte_is_accepted(api):
    api.post("/customers", content=padded(2**20))


def test_d013_a_body_of_one_byte_more_is_413(api):
    api.post("/customers", status=413, content=padded(2**20 + 1))


def test_d013_a_chunked_body_over_the_limit_is_413(api):
    def chunks():
        yield b'{"name": "Acme", "currency": "USD"'
        for _ in range(80):
            yield b" " * 16384
        yield b"}"

    api.post("/customers", status=413, content=chunks())


# ---- 415 ----


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        'application/json; charset="utf-8"',
        "Application/JSON",
        "application/x-www-form-urlencoded",
    ],
)
def test_a_json_object_in_an_accepted_media_type_is_taken(api, kind):
    """curl's default form type is what the vendor's own samples send."""
    api.post("/customers", content=json.dumps(CUSTOMER).encode(), headers={"Content-Type": kind})


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "text/json",
        "application/xml",
        "application/problem+json",
        "application/vnd.api+json",
        "application/jsonx",
        "application/json, text/plain",
        "application/json; charset=utf-16",
        "application/json; charset=latin-1",
        "multipart/form-data; boundary=x",
        "application/octet-stream",
        "json",
        "*/*",
        "",
    ],
)
def test_anything_else_is_415(api, kind):
    name = unique("alias")
    body = json.dumps({**CUSTOMER, "aliases": [name]}).encode()
    api.post("/customers", status=415, content=body, headers={"Content-Type": kind})
    api.get(f"/customers/{name}", 404)


def test_a_body_without_a_media_type_is_415(api):
    api.post("/customers", status=415, content=json.dumps(CUSTOMER).encode(), headers={"Content-Type": None})


@pytest.mark.parametrize("content", [b"name=Acme&currency=USD", b"[]", b'"x"'])
def test_a_form_that_is_no_json_object_is_415(api, content):
    api.post("/customers", status=415, content=content, headers={"Content-Type": "application/x-www-form-urlencoded"})


@pytest.mark.parametrize("coding", ["compress", "br, gzip", "gzip, gzip", "zzz"])
def test_an_unknown_or_stacked_content_encoding_is_415(api, coding):
    api.post("/customers", status=415, content=json.dumps(CUSTOMER).encode(), headers={"Content-Encoding": coding})


def test_a_gzip_bomb_is_refused_by_its_size(api):
    """Whether gzip is taken (then 413 after inflation) or not (415), the 64 MiB are never read to their end."""
    bomb = gzip.compress(b" " * 2**26)
    api.post("/customers", status=(413, 415), content=bomb, headers={"Content-Encoding": "gzip"})


# ---- order of checks (idempotency.md row 11) ----


def test_row_11_key_grammar_before_media_type(api):
    answer = api.post("/customers", status=400, content=b"x", key="k" * 256, headers={"Content-Type": "text/plain"})
    assert "idempotency-key" not in answer.headers


def test_row_11_media_type_before_json(api):
    api.post("/customers", status=415, content=b"{", headers={"Content-Type": "text/plain"})


def test_row_11_shape_before_existence(api):
    api.patch("/customers/nobody", {"name": 5}, 400)


def test_row_11_existence_before_business_rules(api):
    api.patch("/customers/nobody", {"tag_ids": ["tag_0000000000000000000000"]}, 404)


# ---- request ids ----


def test_every_answer_has_a_request_id_of_its_own(api):
    ids = {api.get("/customers").headers["x-request-id"] for _ in range(5)}
    ids |= {api.get(f"/customers/{segment('nobody')}", 404).headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 10
