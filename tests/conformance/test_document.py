"""The served document (extensions.md "Operations"; DESIGN: routes and contract are one set)."""

import httpx
import pytest

EXTENSIONS = {
    ("post", "/tags"),
    ("post", "/integrations"),
    ("get", "/test-clock"),
    ("post", "/test-clock/advance"),
}


@pytest.fixture
def document(server):
    answer = httpx.get(server.url + "/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")
    return answer.json()


def test_the_document_needs_no_key_and_is_openapi_3_1(document):
    assert document["openapi"].startswith("3.1")


def test_docs_needs_no_key(server):
    answer = httpx.get(server.url + "/docs", follow_redirects=True)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")


def test_the_document_holds_the_contracts_operations_of_what_is_there(document, contract):
    for path, item in contract.document["paths"].items():
        if path.split("/")[1] not in {"customers", "tags", "integrations"}:
            continue
        for method, operation in item.items():
            served = document["paths"][path][method]
            assert served["operationId"] == operation["operationId"]
            assert set(operation["responses"]) <= set(served["responses"])


def test_extension_operations_bear_their_tag(document):
    for method, path in EXTENSIONS:
        assert "extension" in document["paths"][path][method]["tags"], (method, path)


def test_what_customers_have_beyond_the_contract_is_documented(document):
    properties = document["components"]["schemas"]["CustomerResponse"]["properties"]
    assert {"tag_ids", "csm_id", "sales_owner_id", "parent_customer_id", "metadata"} <= set(properties)


def test_every_reference_in_the_document_resolves(document):
    def references(value):
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for inner in value.values():
                yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    for reference in set(references(document)):
        target = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")]


def test_every_documented_operation_is_routed(document, api):
    """Not one path of the document is an unknown route or an unknown method."""
    for path, item in document["paths"].items():
        for method in set(item) & {"get", "post", "put", "patch", "delete"}:
            address = "/".join("x" if part.startswith("{") else part for part in path.split("/"))
            answer = api.http.request(method, address, headers=api.headers())
            assert answer.status_code not in (405, 501), f"{method} {path}"
            if answer.status_code == 404:
                assert "{" in path, f"{method} {path} is not routed"
