"""The names of a client's tools: as the client knows them, behind the flat ones that providers see."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from tollhouse.chat.model import Request, Tool
from tollhouse.dialects.openai_responses.wire import NAME, flat_name


class Named(NamedTuple):
    """A tool as the client knows it."""

    name: str
    namespace: str | None = None
    is_custom: bool = False


class _Declared(msgspec.Struct, gc=False):
    type: str = ""
    name: str = ""
    tools: "list[_Declared]" = []


_decoder: Final = msgspec.json.Decoder(list[_Declared])


def names_of(request: Request) -> Mapping[str, Named]:
    """Those tools whose calls the client wants in another form than the provider gives them."""
    raw = None
    if request.echo is not None and request.echo.dialect == NAME:
        raw = request.echo.fields.get("tools")
    if raw is None:
        return {
            tool.name: Named(tool.name, is_custom=True)
            for tool in request.tools
            if isinstance(tool, Tool) and tool.custom
        }
    try:
        declared = _decoder.decode(raw)
    except msgspec.DecodeError:
        return {}  # what was decoded once cannot be; a request that never was has no tools that we gave names to
    found: dict[str, Named] = {}
    for tool in declared:
        if tool.type == "custom":
            found[tool.name] = Named(tool.name, is_custom=True)
        elif tool.type == "namespace":
            for inner in tool.tools:
                found[flat_name(tool.name, inner.name)] = Named(inner.name, tool.name, inner.type == "custom")
    return found
