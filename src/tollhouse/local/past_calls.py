"""Earlier tool calls of a conversation, in words, for a model whose chat template knows no tools.

Such a template writes a turn of calls as an empty one, and the role of a result as it came, which the model was never
trained on (SmolLM2, seen in llama.cpp's `/apply-template`, November 2026) or which is refused (Gemma).

A call is told as a sentence.  As the JSON that a forced call is, a small model only says it again (SmolLM2 did, at
temperatures 0 and 0.2), where after the sentence it answers with the result.
"""

from tollhouse.dialects.openai_chat.wire import Json


def told_in_words(turns: list[Json]) -> list[Json]:
    """The messages with earlier calls as what the model said, and their results as what the user did."""
    told: list[Json] = []
    names: dict[str, str] = {}
    results: list[str] = []
    for turn in turns:
        if not isinstance(turn, dict):
            told.append(turn)
            continue
        if turn.get("role") == "tool":
            name = names.get(str(turn.get("tool_call_id")))
            results.append(f"Result of {name or 'the call'}: {_text(turn.get('content'))}")
            continue
        if results and turn.get("role") == "user":
            told.append(_after(results, turn))
        else:
            if results:
                told.append(_after(results, None))
            told.append(_call_in_words(turn, names))
        results = []
    if results:
        told.append(_after(results, None))
    return told


def _after(results: list[str], turn: dict[str, Json] | None) -> dict[str, Json]:
    """The user's turn behind some results, which stand in front of it: two turns in a row are too many for some templates."""
    words = "\n\n".join(results)
    content = None if turn is None else turn.get("content")
    if isinstance(content, list):
        return {**(turn or {}), "content": [{"type": "text", "text": words}, *content]}
    return {"role": "user", "content": f"{words}\n\n{content}" if isinstance(content, str) else words}


def _call_in_words(turn: dict[str, Json], names: dict[str, str]) -> dict[str, Json]:
    """An assistant's turn without `tool_calls`; what each of them called is added to `names`."""
    calls = turn.get("tool_calls")
    if not isinstance(calls, list):
        return turn
    said = [text] if (text := _text(turn.get("content"))) else []
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(call, dict) or not isinstance(function, dict):
            continue
        name = str(function.get("name"))
        names[str(call.get("id"))] = name
        said.append(f"I call {name} with {function.get('arguments') or '{}'}.")
    rest = {key: value for key, value in turn.items() if key != "tool_calls"}
    return {**rest, "content": "\n".join(said)}


def _text(content: Json) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
