"""Which calls may be given the same answer."""

import os
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.recordings import Recording, by_id, everything
from support.requests_made import FIELDS, changed, requests
from tollhouse.chat.model import Extra, Message, Request, Text
from tollhouse.dialects import anthropic, openai_chat
from tollhouse.dialects.dialect import Dialect
from tollhouse.policy.identity import Principal
from tollhouse.policy.response_cache import Scope, ScopeKind, Target, key_of, scope_of

TARGET = Target(provider="openai", base_url="https://api.example.com/v1", model="gpt-x")
RESEARCH = Scope("tenant", "research")
ASKED = Request(model="smart", messages=(Message("user", (Text("Hello"),)),))

NOT_IN_THE_KEY = {"model", "stream", "include_usage", "echo"}
"""The name that the client used (the target stands for it), and what only decides how an answer is rendered."""

DIALECTS: dict[str, Dialect[Any]] = {"openai-chat": openai_chat.DIALECT, "anthropic-messages": anthropic.DIALECT}


def key(request: Request, target: Target = TARGET, scope: Scope = RESEARCH) -> bytes:
    return key_of(request, target, scope)


# -------------------------------------------------------------------------------------------------------------- requests


@given(requests)
def test_a_change_of_anything_in_a_request_is_another_key(request: Request):
    """At any depth, and of fields that do not exist yet: the walk goes by the fields that the structs have."""
    own = key(request)
    for path, other in changed(request):
        if path.split(".")[1].partition("[")[0] not in NOT_IN_THE_KEY:
            assert key(other) != own, path


@given(requests, st.sampled_from(sorted(FIELDS.keys() - NOT_IN_THE_KEY)), st.data())
def test_another_value_of_a_field_is_another_key(request: Request, field: str, data: st.DataObject):
    """Also from nothing to something, which a change of what is there cannot reach."""
    other = msgspec.structs.replace(request, **{field: data.draw(FIELDS[field])})
    assert (key(other) == key(request)) == (other == request)


@given(st.lists(requests, min_size=2, max_size=6))
@settings(max_examples=40)
def test_requests_share_a_key_only_if_they_are_the_same(asked: list[Request]):
    alike = [
        msgspec.structs.replace(request, model="", stream=False, include_usage=False, echo=None) for request in asked
    ]
    for one in alike:
        for two in alike:
            assert (key(one) == key(two)) == (one == two)


def test_the_generated_requests_have_every_field_of_a_request():
    assert set(FIELDS) == set(Request.__struct_fields__)


@given(requests, st.booleans(), st.booleans(), FIELDS["echo"])
def test_how_an_answer_is_rendered_is_not_in_the_key(
    request: Request, stream: bool, include_usage: bool, echo: Extra | None
):
    other = msgspec.structs.replace(request, model="an alias", stream=stream, include_usage=include_usage, echo=echo)
    assert key(other) == key(request)


def test_the_order_of_a_schemas_keys_is_in_the_key_and_that_of_unknown_fields_is_not():
    def asking(schema: bytes, **unknown: bytes) -> Request:
        body = msgspec.json.encode(
            {
                "model": "m",
                "messages": [{"role": "user", "content": "Hello"}],
                "tools": [{"type": "function", "function": {"name": "f", "parameters": msgspec.Raw(schema)}}],
                **{name: msgspec.Raw(value) for name, value in unknown.items()},
            }
        )
        return openai_chat.DIALECT.decode_request(body)

    one = asking(b'{"type":"object","properties":{}}', first=b"1", second=b"2")
    assert key(one) == key(asking(b'{"type":"object","properties":{}}', second=b"2", first=b"1"))
    assert key(one) != key(asking(b'{"properties":{},"type":"object"}', first=b"1", second=b"2"))


def test_a_key_is_the_same_in_every_process():
    """It is looked up in a store that other processes fill; nothing of Python's hash seeds may be in it."""
    script = (
        "from tollhouse.dialects import openai_chat; from tollhouse.policy.response_cache import *;"
        'body = b\'{"model":"m","messages":[{"role":"user","content":"Hello"}],"p":1,"q":2,"r":3}\';'
        "target = Target(provider='p', base_url='https://p.example', model='m');"
        "print(key_of(openai_chat.DIALECT.decode_request(body), target, EVERYBODY).hex())"
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(keys) == 1
    assert len(keys.pop().strip()) == 64


# -------------------------------------------------------------------------------------------------- requests on the wire

HARMLESS = {
    # What the decoders need not tell apart, by the field's name, for there is one meaning or an error that is never kept.
    "type",  # of a tool, a tool call or a cache marker: the only one that there is, or left out
    "mode",  # of a cache breakpoint: the only one that a part can have
    "index",  # of a tool call in a message, which its order says
    "is_error",  # false, or left out
    "n",  # 1, or left out
    "content",  # null beside tool calls, or left out
    "reasoning_content",  # empty, or left out
    "reasoning",  # the same words that `reasoning_details` beside it has
}

asking = [
    recording
    for recording in everything().values()
    if recording.dialect in DIALECTS and isinstance(recording.request_json, dict)
]


@pytest.mark.parametrize("recording", asking, ids=by_id)
def test_a_change_of_a_recorded_request_is_another_key(recording: Recording):
    """What the decoders leave out of the canonical request cannot be in the key; this is all of it."""
    dialect = DIALECTS[recording.dialect]
    body = {"model": "m", **recording.request_json}
    own = key(dialect.decode_request(msgspec.json.encode(body)))
    for path, other in ways_to_change(body, limit=60):
        if path[0] in {"model", "stream", "stream_options"} or path[-1] in HARMLESS:
            continue
        try:
            request = dialect.decode_request(msgspec.json.encode(other))
        except Exception:  # noqa: BLE001  # not a request any more
            continue
        assert key(request) != own, path


def ways_to_change(body, *, limit):
    """Copies of a JSON value with one leaf changed, or one left out, of at most `limit` leaves spread over it."""
    paths = list(leaves(body))
    for path in paths[:: max(1, len(paths) // limit)]:
        for leave_out in (False, True):
            copy = msgspec.json.decode(msgspec.json.encode(body))
            at = copy
            for step in path[:-1]:
                at = at[step]
            if leave_out:
                del at[path[-1]]
            else:
                at[path[-1]] = another(at[path[-1]])
            yield path, copy


def leaves(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not isinstance(value, dict | list) or not value:
        yield path
    for step, item in items:
        yield from leaves(item, (*path, step))


def another(value):
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return value + "x"
        case _:
            return "x"


# ------------------------------------------------------------------------------------------------------ who would answer


@given(requests)
def test_another_target_is_another_key(request: Request):
    target = Target(
        provider="p", base_url="https://p.example", model="m", headers=((b"anthropic-beta", b"a"),), strict=False
    )
    for path, other in changed(target):
        assert key(request, other) != key(request, target), path


# ---------------------------------------------------------------------------------------------------------------- scopes

principals = st.builds(
    Principal,
    key=st.sampled_from(["", "a", "b", "a/b"]),
    subject=st.sampled_from(["", "a"]),
    tenant=st.sampled_from(["", "a", "b"]),
    project=st.sampled_from(["", "a", "b"]),
)


@given(principals, principals, st.sampled_from(["tenant", "key"]))
def test_a_tenant_never_shares_a_key_with_another_tenant(one: Principal, two: Principal, kind: ScopeKind):
    if one.tenant != two.tenant:
        assert key(ASKED, scope=scope_of(kind, one)) != key(ASKED, scope=scope_of(kind, two))


@given(principals, principals)
def test_callers_share_a_tenants_answers_only_if_they_have_a_tenant(one: Principal, two: Principal):
    shared = scope_of("tenant", one) == scope_of("tenant", two)
    assert shared == (one.tenant == two.tenant if one.tenant else one == two)


@given(principals, principals)
def test_with_the_scope_of_keys_nobody_shares(one: Principal, two: Principal):
    assert (scope_of("key", one) == scope_of("key", two)) == (one == two)


@given(principals, principals)
def test_with_the_global_scope_everybody_shares(one: Principal, two: Principal):
    assert scope_of("global", one) == scope_of("global", two)


@given(principals, principals, st.permutations(["tenant", "key", "global"]))
def test_scopes_of_different_kinds_are_different(one: Principal, two: Principal, kinds: list[ScopeKind]):
    first, second = scope_of(kinds[0], one), scope_of(kinds[1], two)
    # Without a tenant, the scope of a tenant is that of the key.
    assert first != second or (first.kind == "key" and one == two)
