"""Who may ask: keys, scopes and versions (D-003, D-004; idempotency.md rows 11, 20 and section 3)."""

import pytest

from api import unique, without_request
from servers import KEY, cli, create_key
from wire import exchange, head

# ---- keys ----


def test_d004_no_key_is_401_with_both_shapes_and_a_bare_challenge(api):
    answer = api.get("/customers", 401, headers={"Authorization": None})
    body = answer.json()
    assert {"status", "title", "detail", "code", "message"} <= set(body)
    assert body["code"] == "unauthenticated"
    challenge = answer.headers["www-authenticate"]
    assert challenge.split(" ")[0] == "Bearer"
    assert "error" not in challenge, "no credentials: a bare challenge without an error code"


UNKNOWN = "key_0000000000000000000000.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"


@pytest.mark.parametrize(
    "credentials",
    [
        f"Bearer {UNKNOWN}",
        "Bearer word",
        "Bearer .",
        "Bearer key_0000000000000000000000",
        "Basic dXNlcjpwYXNz",
        "Digest x",
    ],
)
def test_section_4_no_valid_key_is_401(api, credentials):
    api.get("/customers", 401, headers={"Authorization": credentials})


@pytest.mark.parametrize("credentials", ["Bearer", "Bearer ", "Bearer a b", "", "Bearer key_x,key_y"])
def test_a_malformed_authorization_field_is_refused(api, credentials):
    answer = exchange(_address(api), head("GET", "/customers", f"Authorization: {credentials}", "Alguna-Version: 2026-04-01"))
    assert answer.status in (400, 401)


def test_rfc_6750_an_unknown_key_is_an_invalid_token(api):
    answer = api.get("/customers", 401, headers={"Authorization": f"Bearer {UNKNOWN}"})
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_d004_unknown_id_wrong_secret_and_revoked_key_read_the_same(api, server, organization):
    key_id, secret = api.key.split(".", 1)
    wrong_secret = f"{key_id}.{secret[:-4]}{'AAAA' if secret[-4:] != 'AAAA' else 'BBBB'}"
    revoked = create_key(server.database, organization.id)
    cli(server.database, "keys", "revoke", revoked.split(".")[0])
    answers = {
        without_request(api.get("/customers", 401, headers={"Authorization": f"Bearer {key}"}))
        for key in (UNKNOWN, wrong_secret, revoked)
    }
    assert len(answers) == 1, answers


def test_d004_a_secret_of_another_key_does_not_open(api, stranger):
    mixed = f"{api.key.split('.')[0]}.{stranger.api.key.split('.')[1]}"
    api.get("/customers", 401, headers={"Authorization": f"Bearer {mixed}"})


def test_d004_a_longer_or_shorter_secret_does_not_open(api):
    for key in (api.key + "a", api.key[:-1]):
        api.get("/customers", 401, headers={"Authorization": f"Bearer {key}"})


def test_http_the_scheme_is_compared_without_case(api):
    api.get("/customers", headers={"Authorization": f"bearer {api.key}"})


def test_d004_a_printed_key_is_an_id_a_dot_and_a_256_bit_secret(api):
    assert KEY.fullmatch(api.key)
    key_id, secret = api.key.split(".", 1)
    assert len(secret) >= 43, "256 bits are at least 43 characters"
    assert secret not in key_id


def test_d004_secrets_differ_and_are_nowhere_in_the_database(api, server, organization):
    keys = {api.key, organization.reader.key, server.first_key}
    secrets = {key.split(".")[1] for key in keys}
    assert len(secrets) == 3
    held = server.database.texts()
    assert api.key.split(".")[0].encode() in held, "the search looks in the right place"
    for secret in secrets:
        assert secret.encode() not in held


def test_d004_two_keys_of_an_organization_see_the_same(api, reader):
    customer = api.customer()
    assert reader.get(f"/customers/{customer['id']}").json() == customer


# ---- scopes ----


def test_d004_a_read_key_reads(reader):
    reader.get("/customers")
    reader.get("/tags")
    reader.get("/integrations")


def test_d004_a_write_with_a_read_key_is_403_and_does_nothing(api, reader):
    customer = api.customer(aliases=[unique("alias")])
    integration = api.integration()
    account = api.link(customer, integration, unique("ext"))
    path = f"/customers/{customer['id']}"
    name = unique("Nobody")

    reader.post("/customers", {"name": name, "currency": "USD", "aliases": [name]}, 403)
    reader.patch(path, {"name": name}, 403)
    reader.post(f"{path}/connected-accounts", {"integration_id": integration["id"], "external_id": name}, 403)
    reader.delete(f"{path}/connected-accounts/{account['id']}", 403)
    reader.post("/tags", {"name": name, "color": "#000000", "entity_types": ["customer"]}, 403)
    reader.post("/integrations", {"provider": name}, 403)

    assert api.get(path).json() == customer
    assert api.get(f"{path}/connected-accounts").json()["data"] == [account]
    assert api.customers(alias=name)["data"] == []
    assert api.get("/integrations", params={"provider": name}).json()["data"] == []
    assert name not in {tag["name"] for tag in api.get("/tags", params={"limit": 100}).json()["data"]}


def test_rfc_6750_a_missing_right_is_insufficient_scope(reader):
    answer = reader.post("/customers", {"name": "Acme", "currency": "USD"}, 403)
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


def test_idempotency_row_11_the_shape_is_checked_before_the_scope(reader):
    reader.post("/customers", {"name": 5}, 400)


def test_idempotency_row_11_the_scope_is_checked_before_a_replay(api, reader):
    key, body = unique("key"), {"name": "Acme", "currency": "USD"}
    api.post("/customers", body, key=key)
    reader.post("/customers", body, 403, key=key)


# ---- versions ----


@pytest.mark.parametrize("version", [None, "", "2026-04-02", "2025-01-01", "latest", "2026-04-01 ,x", "2026-4-1", "v2"])
def test_d003_a_missing_or_unknown_version_is_400_that_lists_the_versions(api, version):
    body = api.get("/customers", 400, headers={"Alguna-Version": version}).json()
    assert "2026-04-01" in body["detail"]
    assert body["title"] == "Bad Request"
    assert body["type"] == "about:blank"


def test_d003_the_version_is_checked_after_the_key(api):
    api.get("/customers", 401, headers={"Authorization": None, "Alguna-Version": None})
    api.get("/customers", 401, headers={"Authorization": f"Bearer {UNKNOWN}", "Alguna-Version": "latest"})


def test_d003_a_write_without_a_version_does_nothing(api):
    name = unique("alias")
    api.post("/customers", {"name": "Acme", "currency": "USD", "aliases": [name]}, 400, headers={"Alguna-Version": None})
    api.get(f"/customers/{name}", 404)


def test_idempotency_row_11_the_version_is_checked_before_the_idempotency_key_and_the_body(api):
    answer = api.post(
        "/customers", status=400, content=b"{", key="x" * 256, headers={"Alguna-Version": "latest", "Content-Type": "text/plain"}
    )
    assert "2026-04-01" in answer.json()["detail"]


def _address(api):
    return api.http.base_url.host, api.http.base_url.port
