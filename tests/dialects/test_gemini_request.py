"""Gemini clients' requests as they are read, and canonical ones as they are written for Google."""

import json
from typing import Any

import msgspec
import pytest

from tollhouse.chat.model import (
    Audio,
    CacheMarker,
    Choice,
    Document,
    Foreign,
    ForeignTool,
    Image,
    Inline,
    JsonObject,
    JsonSchema,
    Message,
    Opaque,
    Reasoning,
    RedactedThinking,
    Remote,
    Request,
    Response,
    StoredFile,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.gemini import DIALECT, GeminiTraits
from tollhouse.errors import BadRequest

HI = {"role": "user", "parts": [{"text": "hi"}]}


def read(**fields: Any) -> Request:
    return DIALECT.decode_request(json.dumps({"contents": [HI], **fields}).encode())


def written(
    *messages: Message, traits: GeminiTraits | None = None, **fields: Any
) -> tuple[dict[str, Any], tuple[str, ...]]:
    receipt = Receipt()
    request = Request(model="m", messages=messages or (Message("user", (Text("hi"),)),), **fields)
    body: dict[str, Any] = json.loads(DIALECT.encode_request(request, traits or GeminiTraits(), receipt))
    return body, receipt.entries


# ------------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("declared", "schema"),
    [
        (
            {"parametersJsonSchema": {"type": "object", "properties": {"a": {"type": "string"}}}},
            {"type": "object", "properties": {"a": {"type": "string"}}},
        ),
        (
            {
                "parameters": {
                    "type": "OBJECT",
                    "properties": {"a": {"type": "STRING", "nullable": True}},
                    "minProperties": "1",
                }
            },
            {"type": "object", "properties": {"a": {"type": ["string", "null"]}}, "minProperties": 1},
        ),
        (
            {
                "parameters": {
                    "type": 6,
                    "properties": {"a": {"type": 5, "items": {"type": 1, "format": "enum", "enum": ["x"]}}},
                }
            },
            {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string", "enum": ["x"]}}}},
        ),
        (
            {
                "parameters": {
                    "type": "OBJECT",
                    "any_of": [{"type": "STRING"}, {"type": "OBJECT", "property_ordering": ["b"]}],
                }
            },
            {"type": "object", "anyOf": [{"type": "string"}, {"type": "object"}]},
        ),
        (
            {
                "parameters_json_schema": {
                    "type": "OBJECT",
                    "properties": {"STRING": {"enum": ["OBJECT"], "type": "STRING"}},
                }
            },
            {"type": "object", "properties": {"STRING": {"enum": ["OBJECT"], "type": "string"}}},
        ),
    ],
    ids=["plain", "own", "numbers", "snake", "capitals"],
)
def test_schemas_are_read_in_every_spelling(declared: dict[str, Any], schema: dict[str, Any]):
    request = read(tools=[{"functionDeclarations": [{"name": "f", **declared}]}])
    tool = request.tools[0]
    assert isinstance(tool, Tool)
    assert tool.schema is not None
    assert msgspec.json.decode(tool.schema) == schema


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"responseMimeType": "application/json"}, JsonObject()),
        (
            {"responseMimeType": "application/json", "responseJsonSchema": {"type": "OBJECT"}},
            JsonSchema(schema=msgspec.Raw(b'{"type":"object"}')),
        ),
        (
            {"response_mime_type": "application/json", "response_schema": {"type": "STRING"}},
            JsonSchema(schema=msgspec.Raw(b'{"type":"string"}')),
        ),
        ({"responseMimeType": "text/plain"}, None),
    ],
)
def test_response_formats_are_read(config: dict[str, Any], wanted: object):
    request = read(generationConfig=config)
    assert request.response_format == wanted
    assert request.extra is None


def test_a_format_of_googles_own_stays_googles():
    request = read(
        generationConfig={"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING", "enum": ["a"]}}
    )
    assert request.response_format is None
    assert request.extra is not None
    body = json.loads(DIALECT.encode_request(request, GeminiTraits(), Receipt()))
    assert body["generationConfig"] == {
        "responseMimeType": "text/x.enum",
        "responseSchema": {"type": "STRING", "enum": ["a"]},
    }


@pytest.mark.parametrize(
    ("config", "reasoning"),
    [
        ({"thinkingBudget": 0}, Reasoning(mode="disabled")),
        ({"thinkingBudget": -1, "includeThoughts": True}, Reasoning(mode="adaptive", display="summarized")),
        ({"thinkingBudget": 2048}, Reasoning(mode="enabled", budget_tokens=2048)),
        ({"thinking_level": "low", "include_thoughts": False}, Reasoning(effort="low", display="omitted")),
        ({"includeThoughts": True}, Reasoning(mode="adaptive", display="summarized")),
        ({"includeThoughts": False}, None),
    ],
)
def test_thinking_is_read_in_levels_and_in_tokens(config: dict[str, Any], reasoning: Reasoning | None):
    assert read(generationConfig={"thinkingConfig": config}).reasoning == reasoning


FUNCTIONS = [{"functionDeclarations": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}, {"googleSearch": {}}]


@pytest.mark.parametrize(
    ("config", "choice", "names"),
    [
        ({"mode": "AUTO"}, ToolChoice("auto"), "abc"),
        ({"mode": "none"}, ToolChoice("none"), "abc"),
        ({"mode": "ANY"}, ToolChoice("required"), "abc"),
        ({"mode": 2, "allowedFunctionNames": ["b"]}, ToolChoice("named", "b"), "b"),
        ({"mode": "ANY", "allowed_function_names": ["c", "a"]}, ToolChoice("required"), "ac"),
        ({"mode": "VALIDATED"}, ToolChoice("auto"), "abc"),
        ({"mode": "MODE_UNSPECIFIED"}, None, "abc"),
    ],
)
def test_modes_of_calling_are_read(config: dict[str, Any], choice: ToolChoice | None, names: str):
    request = read(tools=FUNCTIONS, toolConfig={"functionCallingConfig": config})
    assert request.tool_choice == choice
    assert "".join(tool.name for tool in request.tools if isinstance(tool, Tool)) == names
    assert [tool.kind for tool in request.tools if isinstance(tool, ForeignTool)] == ["googleSearch"]
    assert (request.extra is not None) == (config["mode"] == "VALIDATED")


def test_allowed_functions_that_nobody_declared_are_a_fault():
    config = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["x"]}}
    with pytest.raises(BadRequest) as caught:
        read(tools=FUNCTIONS, toolConfig=config)
    assert caught.value.param == "toolConfig.functionCallingConfig.allowedFunctionNames"


def test_calls_and_responses_find_each_other_without_ids():
    """As pi sends them, as Gemini CLI does with ids of its own, and with one id lost on the way."""
    request = read(
        contents=[
            HI,
            {
                "role": "model",
                "parts": [{"functionCall": {"name": "f"}}, {"functionCall": {"name": "g", "args": {"x": 1}}}],
            },
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"name": "g", "response": {"output": "G"}}},
                    {"functionResponse": {"name": "f", "id": "f_123", "response": {"error": "F"}}},
                ],
            },
            {"role": "model", "parts": [{"functionCall": {"id": "own", "name": "f", "args": {}}}]},
            {"role": "function", "parts": [{"functionResponse": {"id": "own", "name": "f", "response": {"n": 1}}}]},
        ]
    )
    first, second = request.messages[1].parts
    assert isinstance(first, ToolCall)
    assert isinstance(second, ToolCall)
    assert (first.name, first.arguments, second.name, second.arguments) == ("f", "{}", "g", '{"x": 1}')
    assert first.id != second.id
    results = [part for part in request.messages[2].parts if isinstance(part, ToolResult)]
    assert [(r.call_id, r.content, r.is_error) for r in results] == [
        (second.id, (Text("G"),), False),
        (first.id, (Text("F"),), True),
    ]
    last = request.messages[4]
    assert last == Message("user", (ToolResult("own", (Text('{"n": 1}'),)),))


def test_a_single_object_stands_for_a_list_of_one():
    request = read(contents={"parts": {"text": "hi"}}, system_instruction={"parts": {"text": "be kind"}})
    assert request.messages == (Message("system", (Text("be kind"),)), Message("user", (Text("hi"),)))


def test_media_are_read_by_their_type():
    request = read(
        contents=[
            {
                "parts": [
                    {"inline_data": {"mime_type": "image/png", "data": "aQ=="}},
                    {"inlineData": {"mimeType": "application/pdf", "data": "cA=="}},
                    {"inlineData": {"mimeType": "text/plain", "data": "aGVsbG8="}},
                    {"inlineData": {"mimeType": "audio/mpeg", "data": "YQ=="}},
                    {"inlineData": {"mimeType": "video/mp4", "data": "dg=="}},
                    {"fileData": {"mimeType": "image/png", "fileUri": "https://pictures.example/a.png"}},
                    {
                        "fileData": {
                            "mimeType": "application/pdf",
                            "fileUri": "https://generativelanguage.googleapis.com/v1beta/files/abc",
                        }
                    },
                ]
            }
        ]
    )
    parts = request.messages[0].parts
    assert parts[:4] == (
        Image(Inline("image/png", "aQ==")),
        Document(Inline("application/pdf", "cA==")),
        Document(Inline("text/plain", "hello")),
        Audio("YQ==", "mp3"),
    )
    assert isinstance(parts[4], Foreign)
    assert isinstance(parts[5], Image)
    assert parts[5].source == Remote("https://pictures.example/a.png")
    assert isinstance(parts[6], Document)
    assert isinstance(parts[6].source, StoredFile)
    body = json.loads(DIALECT.encode_request(request, GeminiTraits(), Receipt()))
    assert body["contents"][0]["parts"][5:] == [
        {"fileData": {"mimeType": "image/png", "fileUri": "https://pictures.example/a.png"}},
        {
            "fileData": {
                "mimeType": "application/pdf",
                "fileUri": "https://generativelanguage.googleapis.com/v1beta/files/abc",
            }
        },
    ]


def test_what_only_gemini_knows_comes_back_and_is_noted_elsewhere():
    given = {
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "cachedContent": "cachedContents/abc",
        "generationConfig": {"speechConfig": {"languageCode": "de-DE"}, "temperature": 1},
        "labels": None,
    }
    request = read(**given)
    body = json.loads(DIALECT.encode_request(request, GeminiTraits(), Receipt()))
    assert {name: body[name] for name in given if name != "labels"} == {
        name: value for name, value in given.items() if name != "labels"
    }
    assert request.extra is not None
    assert set(request.extra.fields) == {"safetySettings", "cachedContent", "generationConfig"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"[]", None),
        (b'{"contents":[]}', "contents"),
        (b'{"contents":"hi"}', "contents"),
        (b'{"contents":[{"parts":[{"text":3}]}]}', "contents[0].parts[0].text"),
        (b'{"contents":[{"parts":[{"inlineData":"x"}]}]}', "contents[0].parts[0].inlineData"),
        (b'{"contents":[{"parts":[{"text":"\xff"}]}]}', None),
        (b'{"contents":[{"parts":[{"text":"a"}]}],"tools":[{"functionDeclarations":[{}]}]}', None),
        (b'{"contents":' + b"[" * 100_000, None),
    ],
)
def test_a_broken_request_is_refused_with_its_place(body: bytes, param: str | None):
    with pytest.raises(BadRequest) as caught:
        DIALECT.decode_request(body)
    if param is not None:
        assert caught.value.param == param


# ------------------------------------------------------------------------------------------------------------- the lane


def test_the_lane_changes_only_what_it_must():
    body = b'{"model":"models/x", "generation_config":{"max_output_tokens":900,"topK":2.0},"contents":[ {"parts": 1} ],"new":1}'
    peek = DIALECT.peek(body)
    assert (peek.model, peek.max_output_tokens, peek.choices) == ("x", 900, 1)
    receipt = Receipt()
    assert json.loads(DIALECT.patch(peek, "y", GeminiTraits(), receipt)) == {**json.loads(body), "model": "models/y"}
    lowered = json.loads(DIALECT.patch(peek, "y", GeminiTraits(), receipt, 10))
    assert lowered["generation_config"] == {"topK": 2.0, "maxOutputTokens": 10}
    assert not receipt
    peek = DIALECT.peek(b'{"contents":[],"safetySettings":[]}')
    assert json.loads(
        DIALECT.patch(peek, "y", GeminiTraits(drop_fields=frozenset({"safetySettings"})), receipt, 7)
    ) == {
        "contents": [],
        "generationConfig": {"maxOutputTokens": 7},
    }
    assert receipt.entries == ("dropped safetySettings: this model refuses it",)


def test_a_peek_sees_what_holds_are_made_of():
    peek = DIALECT.peek(b'{"generationConfig":{"maxOutputTokens":"20","candidateCount":3}}')
    assert (peek.max_output_tokens, peek.choices, peek.include_usage) == (20, 3, True)
    with pytest.raises(BadRequest) as caught:
        DIALECT.peek(b'{"generationConfig":{"maxOutputTokens":"many"}}')
    assert caught.value.param == "generationConfig.maxOutputTokens"


# ------------------------------------------------------------------------------------------------------------- writing


def test_all_results_of_a_turn_come_in_one_content_right_after_the_calls():
    body, receipt = written(
        Message("user", (Text("go"),)),
        Message("assistant", (ToolCall("c1", "f", '{"a": 1}'), ToolCall("c2", "g", ""))),
        Message("tool", (ToolResult("c2", (Text("two"),), is_error=True),)),
        Message("system", (Text("be quick"),)),
        Message("tool", (ToolResult("c1", (Text('{"one": 1}'),)),)),
        Message("user", (Text("and?"),)),
        traits=GeminiTraits(wants_signatures=False),
    )
    assert body["contents"] == [
        {"role": "user", "parts": [{"text": "go"}]},
        {
            "role": "model",
            "parts": [
                {"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}},
                {"functionCall": {"id": "c2", "name": "g", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "c1", "name": "f", "response": {"one": 1}}},
                {"functionResponse": {"id": "c2", "name": "g", "response": {"error": "two"}}},
            ],
        },
        {"role": "user", "parts": [{"text": "<system-reminder>\nbe quick\n</system-reminder>"}, {"text": "and?"}]},
    ]
    assert receipt == ("changed messages[3]: a system message after the beginning is sent as the user's",)


def test_a_picture_in_a_result_stays_in_it():
    picture = Image(Inline("image/png", "aQ=="))
    body, receipt = written(
        Message("assistant", (ToolCall("c1", "f", "{}", signature=Opaque("c2ln", "google")),)),
        Message("user", (ToolResult("c1", (Text("see"), picture)), Text("well?"))),
    )
    assert body["contents"][1]["parts"] == [
        {
            "functionResponse": {
                "id": "c1",
                "name": "f",
                "response": {"output": "see"},
                "parts": [{"inlineData": {"mimeType": "image/png", "data": "aQ=="}}],
            }
        }
    ]
    assert body["contents"][2]["parts"] == [{"text": "well?"}]
    assert receipt == ()


def test_only_the_turn_under_way_gets_the_placeholder_and_only_its_first_call():
    def calls(*ids: str, home: str | None = None) -> Message:
        signature = None if home is None else Opaque("c2ln", home)
        return Message(
            "assistant", tuple(ToolCall(i, "f", "{}", signature=signature if i == ids[0] else None) for i in ids)
        )

    def results(*ids: str) -> Message:
        return Message("user", tuple(ToolResult(i, (Text("r"),)) for i in ids))

    body, receipt = written(
        Message("user", (Text("one"),)),
        *(calls("a1", "a2"), results("a1", "a2")),
        Message("assistant", (Text("done"),)),
        Message("user", (Text("two"),)),
        *(calls("b1", "b2"), results("b1", "b2")),
        *(calls("c1", "c2", home="google"), results("c1", "c2")),
        *(calls("d1", home="anthropic"), results("d1")),
    )
    signatures = {
        part["functionCall"]["id"]: part["thoughtSignature"]
        for turn in body["contents"]
        for part in turn["parts"]
        if "functionCall" in part and "thoughtSignature" in part
    }
    skip = "skip_thought_signature_validator"
    assert signatures == {"a1": skip, "b1": skip, "c1": "c2ln", "d1": skip}
    assert len([entry for entry in receipt if "placeholder" in entry]) == 1
    assert (
        "dropped messages[9].content[0].signature: only the provider that made this signature takes it back" in receipt
    )


def test_a_streamed_turn_is_one_message_again():
    """As clients keep it: a content for each chunk, its calls among them, and a last one with an empty text."""
    pieces = [
        {"text": "h", "thought": True},
        {"text": "m", "thought": True},
        {"text": "", "thought": True, "thoughtSignature": "dGhvdWdodA=="},
        {"text": "It is "},
        {"text": "this."},
        {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "Y2FsbA=="},
        {"functionCall": {"name": "g", "args": {}}},
        {"text": ""},
    ]
    results = [{"functionResponse": {"name": name, "response": {"output": name}}} for name in "gf"]
    contents = [HI, *({"role": "model", "parts": [piece]} for piece in pieces), {"role": "user", "parts": results}]
    _, turn, answered = read(contents=contents).messages
    thought, said, *calls = turn.parts
    assert thought == Thinking("hm", Opaque("dGhvdWdodA==", "google"))
    assert said == Text("It is this.")
    ids = {call.name: call.id for call in calls if isinstance(call, ToolCall)}
    assert len(set(ids.values())) == len(calls) == 2
    assert [part.call_id for part in answered.parts if isinstance(part, ToolResult)] == [ids["g"], ids["f"]]


def test_what_a_signature_is_not_over_is_not_put_under_it():
    parts = [{"text": "signed", "thoughtSignature": "c2ln"}, {"text": "not"}]
    turn = read(contents=[HI, {"role": "model", "parts": parts}]).messages[1]
    assert turn.parts == (Text("signed", signature=Opaque("c2ln", "google")), Text("not"))


def test_the_placeholder_of_a_client_is_no_signature():
    part = {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "skip_thought_signature_validator"}
    call = read(contents=[HI, {"role": "model", "parts": [part]}]).messages[1].parts[0]
    assert isinstance(call, ToolCall)
    assert call.signature is None


def test_thinking_goes_back_to_whom_it_came_from_alone():
    own, others = Opaque("b3du", "google"), Opaque("x", "anthropic")
    body, receipt = written(
        Message(
            "assistant",
            (Thinking("mine", own), Thinking("theirs", others), Thinking("unsigned"), RedactedThinking(others)),
        ),
        Message("user", (Text("go on"),)),
    )
    assert body["contents"][0]["parts"] == [{"text": "mine", "thought": True, "thoughtSignature": "b3du"}]
    assert len(receipt) == 3


def test_what_gemini_cannot_be_told_is_noted():
    _, receipt = written(
        Message("user", (Text("hi", cache=CacheMarker()), Document(Inline("text/plain", "x"), title="T", cite=True))),
        Message("assistant", (Text("a"), ToolCall("c1", "f", '{"cut'))),
        tools=(
            Tool(name="f", schema=msgspec.Raw(b'{"type":"object","not":{"type":"null"}}')),
            ForeignTool("openai", "web", msgspec.Raw(b"{}")),
        ),
        parallel_tool_calls=False,
        stop=tuple("abcdef"),
        user="u",
        prompt_cache_key="k",
        choices=9,
        temperature=3.0,
        service_tier="scale",
        presence_penalty=1.0,
        logprobs=True,
        traits=GeminiTraits(penalties=False, logprobs=False),
    )
    assert [entry.split(":")[0] for entry in receipt] == [
        "dropped messages[0].content[0].cache_control",
        "dropped messages[0].content[1].title",
        "dropped messages[0].content[1].citations",
        "changed messages[1].content[1]",
        "changed messages",
        "dropped tools[0].not",
        "dropped tools[1]",
        "dropped parallel_tool_calls",
        "changed temperature",
        "dropped stop",
        "dropped presence_penalty",
        "changed n",
        "dropped logprobs",
        "dropped user",
        "dropped prompt_cache_key",
        "dropped service_tier",
    ]


@pytest.mark.parametrize(
    ("choice", "strict", "config"),
    [
        (None, None, None),
        (None, True, {"mode": "VALIDATED"}),
        (ToolChoice("auto"), None, {"mode": "AUTO"}),
        (ToolChoice("none"), None, {"mode": "NONE"}),
        (ToolChoice("required"), True, {"mode": "ANY"}),
        (ToolChoice("named", "f"), None, {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_the_choice_of_tools_is_told_as_a_mode(choice: ToolChoice | None, strict: bool | None, config: Any):
    body, receipt = written(tools=(Tool(name="f", strict=strict),), tool_choice=choice)
    assert body.get("toolConfig") == (None if config is None else {"functionCallingConfig": config})
    assert receipt == ()


def test_a_system_prompt_alone_is_the_users():
    body, receipt = written(Message("system", (Text("be kind"),)))
    assert body == {"contents": [{"role": "user", "parts": [{"text": "be kind"}]}]}
    assert len(receipt) == 1


def test_a_sealed_value_in_a_gemini_body_is_found():
    body = DIALECT.encode_response(
        DIALECT.decode_response(
            b'{"candidates":[{"content":{"parts":[{"text":"x"}]},"finishReason":"STOP"}]}', GeminiTraits()
        ),
        Request(model="m", messages=()),
        Receipt(),
    )
    assert not DIALECT.holds_sealed(body)
    for signature in (Opaque("s", "anthropic"), Opaque("é\0", "openai")):
        parts = (Thinking("t", signature), RedactedThinking(signature), ToolCall("c", "f", "{}", signature=signature))
        message = Message("assistant", parts)
        sealed = DIALECT.encode_response(_answer(message), Request(model="m", messages=()), Receipt())
        assert DIALECT.holds_sealed(sealed)
        again = DIALECT.decode_response(sealed, GeminiTraits()).choices[0].parts
        assert again == parts


def _answer(message: Message) -> Response:
    return Response(id="r", model="m", choices=(Choice(parts=message.parts, finish="stop"),))
