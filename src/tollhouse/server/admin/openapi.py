"""The OpenAPI 3.1 document of the admin API, made from the table of operations and the types that they read and answer."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from tollhouse._version import __version__
from tollhouse.server.admin.operation import Nothing, Operation
from tollhouse.server.admin.problem import CONTENT_TYPE, Problem

Json = dict[str, Any]

DESCRIPTION: Final = (
    "Tenants, projects, keys, usage, budgets and the audit log of a Tollhouse gateway. Money is in integers of a billionth of "
    "a dollar (`_nano`), times are microseconds since 1970-01-01 UTC (`_us`). Unknown fields are refused. Errors are problem "
    "details (RFC 9457) with a stable `code`."
)
_REFERENCES: Final = "#/components/schemas/{name}"


def document(operations: Sequence[Operation[Any, Any]]) -> Json:
    """The document, as JSON-able values."""
    wanted: list[Any] = [Problem]
    for operation in operations:
        wanted += [operation.query, operation.body, *([] if operation.answer is None else [operation.answer])]
    schemas, components = msgspec.json.schema_components(wanted, ref_template=_REFERENCES)
    components = {name: schema for name, schema in components.items() if name != "Nothing"}
    problem, *each = schemas
    remaining = iter(each)
    paths: Json = {}
    for operation in operations:
        query, body = next(remaining), next(remaining)
        answer = None if operation.answer is None else next(remaining)
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(
            operation, _resolved(query, components), body, answer, problem
        )
    for operation in operations:
        # A query's fields stand as parameters; its schema is referred to by nobody.
        components.pop(operation.query.__name__, None)
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://spec.openapis.org/oas/3.1/dialect/base",
        "info": {"title": "Tollhouse admin API", "version": __version__, "description": DESCRIPTION},
        "tags": [{"name": tag} for tag in dict.fromkeys(operation.tag for operation in operations)],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "adminToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of `admin.tokens` in the configuration; `x-role` says which role it needs.",
                }
            },
        },
    }


def _operation(operation: Operation[Any, Any], query: Json, body: Json, answer: Json | None, problem: Json) -> Json:
    made: Json = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "security": [] if operation.role is None else [{"adminToken": []}],
        **({} if operation.role is None else {"x-role": operation.role}),
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in operation.places
    ]
    for name, schema in query.get("properties", {}).items():
        required = name in query.get("required", ())
        parameters.append({"name": name, "in": "query", "required": required, "schema": schema})
    if parameters:
        made["parameters"] = parameters
    if operation.body is not Nothing:
        needs = bool(_required(operation.body))
        made["requestBody"] = {"required": needs, "content": {"application/json": {"schema": body}}}
    done: Json = {"description": HTTPStatus(operation.status).phrase}
    if answer is not None:
        done["content"] = {"application/json": {"schema": answer}}
    made["responses"] = {
        str(operation.status): done,
        "default": {"description": "Why not", "content": {CONTENT_TYPE: {"schema": problem}}},
    }
    return made


def _required(kind: type) -> list[str]:
    return [field.name for field in msgspec.structs.fields(kind) if field.required]


def _resolved(schema: Json, components: Json) -> Json:
    """The schema itself in place of a reference to it."""
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    found: Json = components.get(name, {})
    return found
