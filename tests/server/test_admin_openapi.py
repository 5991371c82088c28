"""The OpenAPI document: that it is one, that it says what is so, and that no request it allows or forbids breaks anything."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.admin import ADMIN, AdminDesk, Reply, admin_desk
from tollhouse.server.admin.operation import Operation
from tollhouse.server.admin.operations import OPERATIONS
from tollhouse.server.admin.problem import Problem

Json = dict[str, Any]
PATH = "/admin/v1/openapi.json"


@pytest.fixture
async def document(tmp_path: Path) -> AsyncIterator[Json]:
    async with admin_desk(tmp_path) as desk:
        yield (await desk.get(PATH, token=None)).json()


def operations_of(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def references_in(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name == "$ref":
                yield str(inner)
            else:
                yield from references_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references_in(inner)


# ------------------------------------------------------------------------------- the document (OpenAPI Specification 3.1.1)


def test_it_has_what_a_document_must_have(document: Json):
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert {"title", "version"} <= document["info"].keys()
    assert all(path.startswith("/") for path in document["paths"])
    allowed = {"openapi", "info", "jsonSchemaDialect", "servers", "paths", "webhooks", "components", "security", "tags"}
    assert document.keys() <= allowed


def test_every_operation_is_there_once_with_an_id_of_its_own(document: Json):
    found = {(method.upper(), path): operation for path, method, operation in operations_of(document)}

    assert set(found) == {(each.method, each.path) for each in OPERATIONS} | {("GET", PATH)}
    ids = [operation["operationId"] for operation in found.values()]
    assert len(ids) == len(set(ids))
    for each in OPERATIONS:
        assert found[each.method, each.path]["x-role"] == each.role
        assert found[each.method, each.path]["security"] == [{"adminToken": []}]


def test_the_places_of_a_path_are_its_path_parameters(document: Json):
    for path, _, operation in operations_of(document):
        parameters = operation.get("parameters", [])
        assert {p["name"] for p in parameters if p["in"] == "path"} == set(re.findall(r"\{(\w+)\}", path))
        assert all(p["required"] for p in parameters if p["in"] == "path")
        assert all({"name", "in", "schema"} <= p.keys() for p in parameters)
        assert len({(p["name"], p["in"]) for p in parameters}) == len(parameters)


def test_every_reference_leads_somewhere_and_every_schema_is_referred_to(document: Json):
    schemas = document["components"]["schemas"]
    referred = set(references_in(document))

    assert referred == {f"#/components/schemas/{name}" for name in schemas}
    assert all(re.fullmatch(r"[a-zA-Z0-9._-]+", name) for name in schemas)


def test_every_response_is_described_and_every_refusal_is_a_problem(document: Json):
    for _, method, operation in operations_of(document):
        assert all(response["description"] for response in operation["responses"].values())
        problem = operation["responses"]["default"]["content"]["application/problem+json"]["schema"]
        assert problem == {"$ref": "#/components/schemas/Problem"}
        assert method == "post" or method == "patch" or "requestBody" not in operation


def test_bodies_are_lists_of_what_is_allowed(document: Json):
    schemas = document["components"]["schemas"]
    bodies = [
        operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for _, _, operation in operations_of(document)
        if "requestBody" in operation
    ]
    inner = {reference.rpartition("/")[2] for body in bodies for reference in references_in(schemas[body])}

    assert inner == {"Terms", "KeyTerms"}
    for name in {*bodies, *inner}:
        assert schemas[name]["additionalProperties"] is False, name


# --------------------------------------------------------------------------------------------------------------- any request


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["x", "y", "ops"]) | st.text(min_size=1, max_size=12)


def bodies(operation: Operation[Any, Any]) -> st.SearchStrategy[object]:
    """Bodies that are nearly right: known fields with any values, and sometimes one that is not known."""
    fields: dict[str, st.SearchStrategy[object]] = {
        field.encode_name: JSON_VALUES | NAMES | st.integers(0, 100) for field in msgspec.structs.fields(operation.body)
    }
    if "terms" in fields:
        fields["terms"] = st.dictionaries(
            st.sampled_from(["models", "tags", "daily_nano", "alert_at", "ip_ranges", "concurrent", "is_soft"]),
            JSON_VALUES | st.lists(NAMES, max_size=3) | st.dictionaries(NAMES, NAMES, max_size=2),
        )
    nearly = st.fixed_dictionaries({}, optional=fields)
    return nearly | st.builds(lambda known, more: known | more, nearly, st.dictionaries(NAMES, JSON_VALUES, max_size=1))


@st.composite
def requests(draw: st.DrawFn) -> tuple[Operation[Any, Any], str, bytes, object]:
    operation = draw(st.sampled_from(OPERATIONS))
    path = operation.path
    for name in operation.places:
        path = path.replace(f"{{{name}}}", draw(NAMES.filter(lambda text: "/" not in text and "?" not in text)))
    known = [field.name for field in msgspec.structs.fields(operation.query)]
    pairs = draw(
        st.lists(
            st.tuples(
                st.sampled_from(known) if known else NAMES,
                NAMES | st.integers(-(2**70), 2**70).map(str) | st.sampled_from(["key", "tenant", "true", "1"]),
            ),
            max_size=3,
        )
    )
    query = "&".join(f"{quote(name)}={quote(value, errors='replace')}" for name, value in pairs).encode()
    body = draw(bodies(operation) | st.binary(max_size=40) | st.none())
    return operation, path, query, body


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def shared(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminDesk]:
    """One gateway for all examples: what one of them made, the next may meet."""
    stack = AsyncExitStack()
    folder = tmp_path_factory.mktemp("admin")
    yield runner.run(stack.enter_async_context(admin_desk(folder)))
    runner.run(stack.aclose())


@settings(max_examples=300)
@given(requests())
def test_no_request_breaks_anything_and_every_answer_is_what_was_said(
    runner: asyncio.Runner, shared: AdminDesk, given_: tuple[Operation[Any, Any], str, bytes, object]
):
    operation, path, query, body = given_

    async def ask() -> Reply:
        # Surrogates and such reach the application as a server decodes them.
        sendable = path.encode("utf-8", "replace").decode()
        return await shared.ask(operation.method, sendable, body, query=query)

    answer = runner.run(ask())
    if answer.status == operation.status:
        msgspec.json.decode(answer.body, type=operation.answer)
    else:
        problem = msgspec.json.decode(answer.body, type=Problem)
        assert (problem.status, answer.headers["content-type"]) == (answer.status, "application/problem+json")
        assert problem.detail
        assert answer.status in {400, 404, 405, 409, 413, 415, 422}, problem
    assert ADMIN.encode() not in answer.body


@given(st.binary(max_size=200), st.sampled_from(["GET", "POST", "PATCH", "DELETE", "PUT", "TRACE", "\x00"]))
def test_no_path_breaks_anything(runner: asyncio.Runner, shared: AdminDesk, raw: bytes, method: str):
    path = "/admin/" + raw.decode("utf-8", "replace").replace("?", "")
    answer = runner.run(shared.ask(method, path, token=None))

    assert answer.status in {401, 404, 405, 422}
