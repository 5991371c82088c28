"""What llama.cpp says in the fake provider's place, with a model whose chat template knows no tools.

It takes no notice of `tools`, as its template does, and keeps to the grammar of a `json_schema`.  With a call as its answer, a
gateway that did not ask for that JSON, or did not fold it back, is found out.
"""

import json
from typing import Any

from support.fake_provider import Exchange
from support.fake_replies import Answer, Tokens

PROSE = "I would rather talk."
TOKENS = Tokens(input=21, output=13)


def answer(exchange: Exchange) -> Answer:
    """Prose, or the first JSON that fits the schema; for `FakeProvider.chooses`."""
    wanted = (exchange.json.get("response_format") or {}).get("json_schema")
    if wanted is None:
        return Answer(text=PROSE, tokens=TOKENS)
    schema = wanted["schema"]
    return Answer(text=json.dumps(_fitting(schema, schema), indent=1), tokens=TOKENS)


def _fitting(schema: Any, root: Any) -> Any:
    match schema:
        case {"const": value}:
            return value
        case {"$ref": str(place)}:
            found = root
            for step in place.removeprefix("#/").split("/"):
                found = found[int(step)] if isinstance(found, list) else found[step]
            return _fitting(found, root)
        case {"anyOf": [first, *_]}:
            return _fitting(first, root)
        case {"type": "object"}:
            return {name: _fitting(inner, root) for name, inner in schema.get("properties", {}).items()}
        case {"type": "integer"}:
            return 7
        case _:
            return 'Paris "{}'
