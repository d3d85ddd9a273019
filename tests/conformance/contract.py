"""Holds every answer of the server against the contract.

The document (`contract.json`) says the shapes. The pages beside it say what a document cannot: error bodies,
headers, ids, arrays that are always there, no nulls, no floats. A violation is an AssertionError that lists all of
them at once.
"""

import json
import os
import re
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENT = Path(os.environ.get("CUENTA_CONTRACT", REPOSITORY / "crates/server/openapi/contract.json"))
VERSION = "2026-04-01"

WRITES = {"POST", "PUT", "PATCH", "DELETE"}
# What HTTP itself may answer on any operation (D-002, D-015).
ANY_OPERATION = {405, 408, 413, 414, 415, 429, 431}

DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,12})?")  # D-006
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
CODE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def identifier(prefix):
    """D-007: prefix, underscore, 22 base-62 characters."""
    return re.compile(rf"{prefix}_[0-9A-Za-z]{{22}}")


formats = FormatChecker(formats=())


@formats.checks("date-time")
def _date_time(value):
    if not isinstance(value, str):
        return True
    if not RFC_3339.fullmatch(value):
        return False
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


@formats.checks("decimal")
def _decimal(value):
    return not isinstance(value, str) or bool(DECIMAL.fullmatch(value))


@formats.checks("iso-4217")
@formats.checks("iso-3166-1-alpha-3")
def _three_letters(value):
    return not isinstance(value, str) or bool(re.fullmatch(r"[A-Z]{3}", value))


@formats.checks("iso-3166-1-alpha-2")
def _two_letters(value):
    return not isinstance(value, str) or bool(re.fullmatch(r"[A-Z]{2}", value))


@formats.checks("email")
def _email(value):
    return not isinstance(value, str) or bool(re.fullmatch(r"[^@\s]+@[^@\s]+", value))


_CLOCK = {
    "type": "object",
    "properties": {"now": {"type": "string", "format": "date-time"}},
    "required": ["now"],
}
# Operations that extensions.md adds, by the shape it gives them.
EXTENSIONS = {
    ("POST", "/tags"): {"$ref": "contract:#/components/schemas/TagResponse"},
    ("POST", "/integrations"): {"$ref": "contract:#/components/schemas/IntegrationResponse"},
    ("GET", "/test-clock"): _CLOCK,
    ("POST", "/test-clock/advance"): _CLOCK,
}

# D-020 and extensions.md: what customers have beyond the contract's shape.
_CUSTOMER_EXTENSION = {
    "type": "object",
    "properties": {
        "tag_ids": {"type": "array", "items": {"type": "string", "pattern": "^tag_"}},
        "csm_id": {"type": "string", "maxLength": 255},
        "sales_owner_id": {"type": "string", "maxLength": 255},
        "parent_customer_id": {"type": "string", "pattern": "^cust_[0-9A-Za-z]{22}$"},
        "metadata": {"type": "object"},
    },
    # D-005: arrays are always there.
    "required": ["aliases", "contacts", "tag_ids"],
}

ID_PREFIXES = {
    "CustomerResponse": "cust",
    "ContactResponse": "cont",
    "ConnectedAccountResponse": "cacc",
    "TagResponse": "tag",
    "IntegrationResponse": "intg",
}


def _unique_keys(pairs):
    names = [name for name, _ in pairs]
    assert len(names) == len(set(names)), f"an object of the answer names a property twice: {names}"
    return dict(pairs)


class _Float(float):
    """A number with a fraction or an exponent in an answer."""


class Contract:
    """The document and the rules of the pages beside it."""

    def __init__(self, path=DOCUMENT):
        self.document = json.loads(path.read_text())
        resource = Resource.from_contents(self.document, default_specification=DRAFT202012)
        self._registry = Registry().with_resource("contract:", resource)
        self._validators = {}
        self._routes = [
            (method.upper(), template, operation)
            for template, item in self.document["paths"].items()
            for method, operation in item.items()
            if method in {"get", "post", "put", "patch", "delete"}
        ]

    # ---- which operation ----

    def route(self, method, path):
        """The template and the operation of a request; None for both when the contract has no such operation."""
        segments = [unquote(part) for part in path.split("/")]
        found = []
        for verb, template, operation in self._routes:
            parts = template.split("/")
            if verb != method or len(parts) != len(segments):
                continue
            if all(part.startswith("{") and value or part == value for part, value in zip(parts, segments)):
                # Fixed segments win over ids (behaviour section 1).
                found.append((sum(not part.startswith("{") for part in parts), template, operation))
        if not found:
            return None, None
        _, template, operation = max(found, key=lambda item: item[0])
        return template, operation

    def _violations(self, schema, value, where="body"):
        text = json.dumps(schema)
        if text not in self._validators:
            self._validators[text] = Draft202012Validator(
                schema, registry=self._registry, format_checker=formats
            )
        validator = self._validators[text]
        return [f"{where}{error.json_path[1:]}: {error.message[:300]}" for error in validator.iter_errors(value)]

    # ---- the check ----

    def check(self, method, url, status, headers, body, *, request_headers=()):
        """Raises an AssertionError that lists every way in which the answer breaks the contract."""
        headers = {name.lower(): value for name, value in dict(headers).items()}
        sent = {name.lower(): value for name, value in dict(request_headers).items()}
        path = urlsplit(str(url)).path
        problems = []
        if not headers.get("x-request-id"):
            problems.append("no X-Request-Id")
        if status >= 400:
            problems += self._check_error(method, path, status, headers, body)
        else:
            problems += self._check_success(method, path, status, headers, body)
        known = self.route(method, path)[1] is not None or (method, path) in EXTENSIONS
        problems += self._check_headers(method, status, headers, sent, known)
        text = body[:2000].decode("utf-8", "backslashreplace")
        assert not problems, (
            f"{method} {url} answered {status} against the contract:\n  - "
            + "\n  - ".join(problems)
            + f"\n{text}"
        )

    def _check_success(self, method, path, status, headers, body):
        template, operation = self.route(method, path)
        schema = None
        if operation is not None:
            answer = operation["responses"].get(str(status))
            if answer is None:
                return [f"{operation['operationId']} documents no {status} (D-001)"]
            content = answer.get("content", {})
            if not content:
                return [f"a {status} with a body"] if body else []
            schema = _rebased(content["application/json"]["schema"])
        elif (method, path) in EXTENSIONS:
            if status != 200:
                return ["D-001: 200 for every answer with a body"]
            schema = EXTENSIONS[method, path]
        else:
            return []
        kind = headers.get("content-type", "").lower().replace(" ", "")
        problems = []
        if kind not in {"application/json", "application/json;charset=utf-8"}:
            problems.append(f"content type {kind!r}")
        try:
            value = json.loads(body.decode("utf-8"), object_pairs_hook=_unique_keys, parse_float=_Float)
        except (ValueError, AssertionError) as error:
            return [*problems, f"the body is not JSON: {error}"]
        problems += self._violations(schema, value)
        problems += list(_nulls_and_floats(value))
        problems += self._check_ours(schema, value)
        return problems

    def _check_ours(self, schema, value):
        name = schema.get("$ref", "").rsplit("/", 1)[-1]
        if name.endswith("ListResponse") and isinstance(value, dict):
            item = {"$ref": f"contract:#/components/schemas/{name.replace('ListResponse', 'Response')}"}
            return [p for element in value.get("data", []) for p in self._check_ours(item, element)]
        problems = []
        if name in ID_PREFIXES and not identifier(ID_PREFIXES[name]).fullmatch(str(value.get("id"))):
            problems.append(f"D-007: {value.get('id')!r} is not a {ID_PREFIXES[name]}_ id")
        if name == "CustomerResponse":
            problems += self._violations(_CUSTOMER_EXTENSION, value)
            for contact in value.get("contacts", []):
                problems += self._check_ours({"$ref": "ContactResponse"}, contact)
                if not isinstance(contact.get("email_preferences"), list):
                    problems.append("D-005: email_preferences is not an array")
        return problems

    def _check_error(self, method, path, status, headers, body):
        problems = []
        if headers.get("content-type", "").lower().replace(" ", "") not in {
            "application/problem+json",
            "application/problem+json;charset=utf-8",
        }:
            problems.append(f"content type {headers.get('content-type')!r} of an error")
        try:
            value = json.loads(body.decode("utf-8"), object_pairs_hook=_unique_keys)
        except (ValueError, AssertionError) as error:
            return [*problems, f"the error body is not JSON: {error}"]
        problems += self._violations({"$ref": "contract:#/components/schemas/ErrorResponse"}, value)
        if not isinstance(value, dict):
            return problems
        if value.get("status") != status:
            problems.append(f"status {value.get('status')!r} in the body of a {status}")
        for name in ("title", "detail"):
            if not (isinstance(value.get(name), str) and value[name].strip()):
                problems.append(f"no {name}")
        if value.get("type") != "about:blank":
            problems.append(f"type {value.get('type')!r}")
        if not CODE.fullmatch(str(value.get("code"))):
            problems.append(f"code {value.get('code')!r} is not snake case")
        replayed = headers.get("idempotent-replayed") == "true"
        if not value.get("request_id") or (not replayed and value["request_id"] != headers.get("x-request-id")):
            problems.append(f"request_id {value.get('request_id')!r}, X-Request-Id {headers.get('x-request-id')!r}")
        if "errors" in value:
            shape = {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "properties": {"field": {"type": "string"}, "message": {"type": "string", "minLength": 1}},
                    "required": ["field", "message"],
                },
            }
            problems += self._violations(shape, value["errors"], "errors")
        if status == 401:
            problems += self._violations({"$ref": "contract:#/components/schemas/GatewayErrorResponse"}, value)
            if value.get("code") != "unauthenticated":
                problems.append(f"D-004: code {value.get('code')!r} in a 401")
            if not headers.get("www-authenticate", "").startswith("Bearer"):
                problems.append("D-004: a 401 without WWW-Authenticate: Bearer")
        if status == 405 and not headers.get("allow"):
            problems.append("D-002: a 405 without Allow")
        template, operation = self.route(method, path)
        if operation and str(status) not in operation["responses"] and status not in ANY_OPERATION:
            problems.append(f"{operation['operationId']} documents no {status}")
        return problems

    def _check_headers(self, method, status, headers, sent, known):
        problems = []
        # idempotency.md row 27, D-015, behaviour section 3.
        if (headers.get("transient-error") == "true") != (status == 429 or status >= 500):
            problems.append(f"Transient-Error {headers.get('transient-error')!r} on a {status}")
        if status == 429 and not headers.get("retry-after", "").isdigit():
            problems.append("a 429 without Retry-After")
        if status == 409 and headers.get("retry-after", "1") != "1":
            problems.append(f"Retry-After {headers['retry-after']!r} on a 409")
        if "retry-after" in headers and status not in {409, 429, 503}:
            problems.append(f"Retry-After on a {status}")
        key = sent.get("idempotency-key", "").strip()
        if method not in WRITES and ("idempotency-key" in headers or "idempotent-replayed" in headers):
            problems.append("idempotency row 3: a read echoes a key")
        if method in WRITES and not key and ("idempotency-key" in headers or "idempotent-replayed" in headers):
            problems.append("idempotency headers, and no key was sent")
        decided = status < 300 or status in {404, 409, 422}
        if known and decided and method in WRITES and 0 < len(key) <= 255:
            if headers.get("idempotency-key") != key:
                problems.append(f"idempotency row 27: key {key!r}, echo {headers.get('idempotency-key')!r}")
            if headers.get("idempotent-replayed") not in {"true", "false"}:
                problems.append(f"row 27: Idempotent-Replayed {headers.get('idempotent-replayed')!r}")
        return problems


def _rebased(schema):
    """The same schema with references that resolve from outside the document."""
    return json.loads(json.dumps(schema).replace('"#/components', '"contract:#/components'))


def _nulls_and_floats(value, where="body"):
    if value is None:
        yield f"D-005: {where} is null; unset properties are left out"
    elif isinstance(value, _Float):
        yield f"behaviour section 1: {where} is a JSON float"
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name != "metadata":
                yield from _nulls_and_floats(inner, f"{where}.{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _nulls_and_floats(inner, f"{where}[{number}]")
