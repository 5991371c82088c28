"""The vendors' libraries for Python: tool loops over providers of each dialect, streamed and not."""

import json
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anthropic
import groq
import openai
import pytest

from support.errand import COMMAND, RESULT, SENTENCE
from support.fake_replies import Answer, ErrorAfter, Failure, faulty, words
from support.proofs import Stage, due
from support.serving import KEY

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the SDK's own modules say of each other when they are imported
    from google import genai
    from google.genai import types

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),  # of the SDK's own
]

PROMPT: Final = "Run the command and tell me what it prints."
SCHEMA: Final[Any] = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
FUNCTION: Final[Any] = {"name": "run_command", "description": "Runs a command", "parameters": SCHEMA}
MAX_TOKENS: Final = 1000


def run(arguments: Any) -> str:
    """What the command prints."""
    assert arguments == {"command": COMMAND}
    return RESULT


async def openai_chat(stage: Stage, model: str, how: str) -> str:
    async with openai.AsyncOpenAI(base_url=f"{stage.gateway.url}/v1", api_key=KEY, max_retries=0) as client:
        return await chat(client, model, how)


async def groq_chat(stage: Stage, model: str, how: str) -> str:
    async with groq.AsyncGroq(base_url=stage.gateway.url, api_key=KEY, max_retries=0) as client:
        return await chat(client, model, how)


async def chat(client: Any, model: str, how: str) -> str:
    """Both clients have the same methods."""
    messages: list[Any] = [{"role": "user", "content": PROMPT}]
    tools = [{"type": "function", "function": FUNCTION}]

    async def ask() -> tuple[str, list[Any]]:
        answer = await client.chat.completions.create(
            model=model, messages=messages, tools=tools, stream=how == "stream"
        )
        if how == "whole":
            message = answer.choices[0].message
            return message.content or "", [call.model_dump() for call in message.tool_calls or ()]
        text, calls = "", dict[int, Any]()
        async for chunk in answer:
            for choice in chunk.choices:
                text += choice.delta.content or ""
                for piece in choice.delta.tool_calls or ():
                    call = calls.setdefault(
                        piece.index, {"type": "function", "function": {"name": "", "arguments": ""}}
                    )
                    call["id"] = piece.id or call["id"]
                    call["function"]["name"] += piece.function.name or ""
                    call["function"]["arguments"] += piece.function.arguments or ""
        return text, list(calls.values())

    text, calls = await ask()
    messages.append({"role": "assistant", "content": text, "tool_calls": calls})
    for call in calls:
        result = run(json.loads(call["function"]["arguments"]))
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
    return (await ask())[0]


async def openai_responses(stage: Stage, model: str, how: str) -> str:
    tools: list[Any] = [{"type": "function", **FUNCTION, "strict": False}]
    items: list[Any] = [{"role": "user", "content": PROMPT}]
    async with openai.AsyncOpenAI(base_url=f"{stage.gateway.url}/v1", api_key=KEY, max_retries=0) as client:

        async def ask() -> Any:
            if how == "whole":
                return await client.responses.create(model=model, input=items, tools=tools, store=False)
            async with client.responses.stream(model=model, input=items, tools=tools, store=False) as stream:
                return await stream.get_final_response()

        first = await ask()
        items += [item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in first.output]
        for call in first.output:
            if call.type == "function_call":
                result = run(json.loads(call.arguments))
                items.append({"type": "function_call_output", "call_id": call.call_id, "output": result})
        text: str = (await ask()).output_text
        return text


async def anthropic_messages(stage: Stage, model: str, how: str) -> str:
    tools: list[Any] = [{"name": "run_command", "description": "Runs a command", "input_schema": SCHEMA}]
    messages: list[Any] = [{"role": "user", "content": PROMPT}]
    async with anthropic.AsyncAnthropic(base_url=stage.gateway.url, api_key=KEY, max_retries=0) as client:

        async def ask() -> Any:
            if how == "whole":
                return await client.messages.create(model=model, max_tokens=MAX_TOKENS, messages=messages, tools=tools)
            async with client.messages.stream(
                model=model, max_tokens=MAX_TOKENS, messages=messages, tools=tools
            ) as stream:
                return await stream.get_final_message()

        first = await ask()
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": run(block.input)}
            for block in first.content
            if block.type == "tool_use"
        ]
        messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
        return "".join(block.text for block in (await ask()).content if block.type == "text")


async def google_generate(stage: Stage, model: str, how: str) -> str:
    client = genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=stage.gateway.url))
    tool = types.FunctionDeclaration(name="run_command", description="Runs a command", parameters_json_schema=SCHEMA)
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[tool])])
    contents: list[Any] = [types.Content(role="user", parts=[types.Part(text=PROMPT)])]

    async def ask() -> list[Any]:
        if how == "whole":
            answers = [await client.aio.models.generate_content(model=model, contents=contents, config=config)]
        else:
            stream = await client.aio.models.generate_content_stream(model=model, contents=contents, config=config)
            answers = [answer async for answer in stream]
        found: list[Any] = [each.candidates[0].content for each in answers if each.candidates]
        return [part for content in found if content is not None for part in content.parts or ()]

    parts = await ask()
    results = [
        types.Part.from_function_response(name=call.name, response={"output": run(call.args)})
        for call in (part.function_call for part in parts)
        if call is not None
    ]
    contents += [types.Content(role="model", parts=parts), types.Content(role="user", parts=results)]
    return "".join(part.text for part in await ask() if part.text and not part.thought)


LOOPS: Final[dict[tuple[str, str], Callable[[Stage, str, str], Awaitable[str]]]] = {
    ("openai.py", "openai_chat"): openai_chat,
    ("openai.py", "openai_responses"): openai_responses,
    ("anthropic.py", "anthropic"): anthropic_messages,
    ("google.py", "gemini"): google_generate,
    ("groq.py", "openai_chat"): groq_chat,
}
CASES: Final = [
    pytest.param(proof.client, proof.speaks, over, how, id=f"{proof.client}-{proof.speaks}-over-{over}-{how}")
    for proof in due({client for client, _ in LOOPS})
    for over in proof.over
    for how in proof.how
]


@pytest.mark.parametrize(("client", "speaks", "over", "how"), CASES)
async def test_a_library_goes_through_a_tool_loop(
    stage: Stage, client: str, speaks: str, over: str, how: str, record_property: Callable[[str, object], None]
):
    assert await LOOPS[client, speaks](stage, f"over-{over}", how) == SENTENCE
    assert len(stage.fake.calls) == 2
    record_property("client", f"{client} {speaks} {over} tool-loop")


async def test_groqs_library_hears_what_went_wrong(stage: Stage):
    """The others' tests of this are beside their doors."""
    async with groq.AsyncGroq(base_url=stage.gateway.url, api_key=KEY, max_retries=0) as client:
        ask = client.with_options(api_key="th-not-a-key-of-this-gateway").chat.completions.create
        messages: Any = [{"role": "user", "content": "hi"}]
        with pytest.raises(groq.AuthenticationError, match="This key is not known here"):
            await ask(model="over-anthropic", messages=messages)
        ask = client.chat.completions.create
        with pytest.raises(groq.NotFoundError, match="'no-such-model' does not exist here"):
            await ask(model="no-such-model", messages=messages)
        stage.fake.reply(Failure(status=429, message="You are over your quota.", retry_after="7"))
        with pytest.raises(groq.RateLimitError, match="You are over your quota") as limited:
            await ask(model="over-anthropic", messages=messages)
        assert limited.value.response.headers["retry-after"] == "7"
        stage.fake.reply(
            faulty(Answer(text=words(20)), ErrorAfter(5, Failure(status=529, message="We are overloaded.")))
        )
        with pytest.raises(groq.APIError, match="We are overloaded"):
            async for _ in await ask(model="over-anthropic", messages=messages, stream=True):
                pass
