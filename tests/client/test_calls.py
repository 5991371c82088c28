"""The same calls, directly and through a gateway, of every provider: one suite, so that both ways cannot drift apart."""

import asyncio
import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

import tollhouse
from support.client_town import MODELS, UPSTREAM_KEYS, Town
from support.fake_replies import Answer, Call, Cut, ErrorAfter, Failure, NoDone, NoFinish, Reset, Tokens, faulty, words
from tollhouse.chat.model import Message, Request, Text, Thinking, Tool, ToolCall
from tollhouse.client import (
    AnswerBroken,
    BadCall,
    CallFailed,
    Client,
    ClientClosed,
    NoSuchModel,
    NotAuthenticated,
    NotForThisLoop,
    OverLimit,
    ProviderFailed,
    image,
    tool_result,
)
from tollhouse.client.over_grpc import check_process

WAYS = ("direct", "json", "protobuf", "auto", "grpc")
PROTOCOLS = {"json": "json", "protobuf": "protobuf", "auto": "protobuf", "grpc": "grpc"}
TEXT = words(8)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def environ(town: Town, way: str) -> dict[str, str]:
    return town.direct_environ() if way == "direct" else town.proxy_environ(way)  # type: ignore[arg-type]


@pytest.fixture
def client(environ: dict[str, str]) -> Iterator[Client]:
    with tollhouse.Client(environ=environ, retries=0) as client:
        yield client


def named(provider: str) -> str:
    return f"{provider}/{MODELS[provider]}"


@pytest.mark.parametrize("provider", MODELS)
def test_every_provider_answers_whole(town: Town, client: Client, way: str, provider: str):
    with town.saying(Answer(text=TEXT)) as fake:
        answer = client.chat("What stood there?", model=named(provider), system="Be brief.", max_output_tokens=50)

        assert answer.text == TEXT
        assert answer.finish == "stop"
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (10, 8)
        assert answer.model == named(provider)
        assert answer.marks.mode == ("direct" if way == "direct" else "proxy")
        assert answer.marks.protocol == PROTOCOLS.get(way, answer.marks.protocol)
        assert answer.marks.attempts == 1
        assert not answer.marks.fell_back_to_direct
        assert [call.key for call in fake.calls] == [UPSTREAM_KEYS[provider]]


@pytest.mark.parametrize("provider", MODELS)
def test_every_provider_streams(town: Town, client: Client, provider: str):
    with town.saying(Answer(text=TEXT, thinking="hm hm", tokens=Tokens(input=12, output=9, reasoning=2))):
        with client.stream("What stood there?", model=named(provider)) as stream:
            texts = list(stream)

        assert len(texts) > 1
        assert "".join(texts) == stream.answer.text == TEXT
        assert (stream.usage.input_tokens, stream.usage.output_tokens) == (12, 9)
        assert stream.answer.model == named(provider)


def test_a_model_without_a_chat_endpoint_is_asked_by_responses(town: Town, client: Client):
    with town.saying(Answer(text=TEXT)) as fake:
        assert client.chat("What stood there?", model="openai/gpt-5-codex").text == TEXT
        with client.stream("What stood there?", model="openai/gpt-5-codex") as stream:
            assert "".join(stream) == TEXT
        assert [call.path for call in fake.calls[-2:]] == ["/v1/responses", "/v1/responses"]


@pytest.mark.parametrize("provider", MODELS)
def test_every_providers_tools_go_there_and_back(town: Town, client: Client, provider: str):
    add = Tool(name="add", schema=msgspec.Raw(b'{"type":"object","properties":{"a":{"type":"integer"}}}'))
    with town.saying(Answer(calls=(Call("add", '{"a":1}'),)), Answer(text="2")) as fake:
        asked = client.chat("1+1?", model=named(provider), tools=[add], tool_choice="auto")
        (call,) = asked.tool_calls
        question = Message("user", (Text("1+1?"),))
        answer = client.chat([question, asked.message, tool_result(call, "2")], model=named(provider), tools=[add])

        assert (call.name, json.loads(call.arguments), asked.finish) == ("add", {"a": 1}, "tool_calls")
        assert answer.text == "2"
        assert call.id in fake.calls[1].body.decode()


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("later", ["direct", "json", "protobuf"])
@pytest.mark.parametrize(
    ("provider", "reply", "signed"),
    [
        ("anthropic", Answer(text="Well.", thinking="hm hm"), "signature"),
        ("google", Answer(calls=(Call("add", '{"a":1}'),)), "thoughtSignature"),
    ],
)
def test_a_conversation_goes_on_another_way_with_all_that_its_provider_signed(
    town: Town, client: Client, provider: str, reply: Answer, signed: str, later: Any, streams: bool
):
    add = Tool(name="add", schema=msgspec.Raw(b'{"type":"object","properties":{"a":{"type":"integer"}}}'))
    question = Message("user", (Text("Hm?"),))
    elsewhere = town.direct_environ() if later == "direct" else town.proxy_environ(later)
    with town.saying(reply, Answer(text="2")) as fake, tollhouse.Client(environ=elsewhere) as other:
        if streams:
            first = client.stream(question, model=named(provider), tools=[add]).finished()
        else:
            first = client.chat(question, model=named(provider), tools=[add])
        asked = [tool_result(call, "2") for call in first.tool_calls] or [Message("user", (Text("Go on."),))]
        other.chat([question, first.message, *asked], model=named(provider), tools=[add])

        made = [part.signature for part in first.parts if isinstance(part, Thinking | ToolCall) and part.signature]
        assert [signature.home for signature in made] == [provider]
        assert f'"{signed}":"' in fake.calls[1].body.decode()
        assert made[0].value in fake.calls[1].body.decode()


def test_what_a_call_cost_is_told_whichever_way_it_goes(town: Town, client: Client):
    with town.saying(Answer(text=TEXT)):
        answer = client.chat("hi", model=named("openai"))
        with client.stream("hi", model=named("openai")) as stream:
            streamed = stream.finished()

    assert (answer.cost_nano, streamed.cost_nano) == (6300, 6300)
    assert answer.request_id
    assert streamed.request_id


def test_messages_are_taken_as_openais_sdk_writes_them(town: Town, client: Client):
    with town.saying(Answer(text="ok")) as fake:
        client.chat(
            [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Look:"}]},
                image(b"\x89PNG", "image/png", "this"),
            ],
            model=named("openai"),
            temperature=0.5,
            stop="END",
            schema={"type": "object", "properties": {}},
        )

        body = fake.calls[0].json
        assert [message["role"] for message in body["messages"]] == ["system", "user", "user"]
        assert base64.b64encode(b"\x89PNG").decode() in fake.calls[0].body.decode()
        assert (body["temperature"], body["stop"]) == (0.5, ["END"])
        assert body["response_format"]["json_schema"]["schema"] == {"type": "object", "properties": {}}


def test_a_whole_canonical_request_is_taken_as_it_is(town: Town, client: Client):
    request = Request(model=named("openai"), messages=(Message("user", (Text("hi"),)),), seed=7, top_p=0.25)
    with town.saying(Answer(text="ok")) as fake:
        client.chat(request)

        assert (fake.calls[0].json["seed"], fake.calls[0].json["top_p"]) == (7, 0.25)


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        ("", "prompt"),
        ("  ", "prompt"),
        ([], "prompt"),
        ([3], "prompt[0]"),
        (b"x", "prompt"),
        ([{"role": "x"}], "prompt[0]"),
    ],
)
def test_a_prompt_that_is_none_is_refused_before_anybody_is_asked(town: Town, client: Client, prompt: Any, param: str):
    with town.saying(Answer(text="ok")) as fake:
        with pytest.raises(BadCall) as caught:
            client.chat(prompt, model=named("openai"))

        assert (caught.value.param or "").startswith(param)
        assert not fake.calls


def test_an_argument_that_does_not_exist_is_a_type_error(client: Client):
    with pytest.raises(TypeError, match="tempratur"):
        client.chat("hi", tempratur=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="modle"):
        tollhouse.Client(modle="x")  # type: ignore[call-arg]


def test_tokens_are_counted_by_who_can_and_estimated_by_who_cannot(town: Town, client: Client):
    counted = client.count_tokens("What stood where roads met?", model=named("anthropic"))
    guessed = client.count_tokens("What stood where roads met?", model=named("openai"))

    assert (counted.input_tokens, counted.is_estimate) == (10, False)
    assert guessed.is_estimate
    assert guessed.input_tokens > 0


def test_texts_become_vectors(town: Town, client: Client, way: str):
    with town.saying(Answer()):
        one = client.embed("What stood there?", model="openai/text-embedding-3-small")
        two = client.embed(["What", "stood there?"], model="openai/text-embedding-3-small", dimensions=4)

    assert len(one.vectors) == 1
    assert len(two.vectors) == 2
    assert all(isinstance(number, float) for number in one.vectors[0])
    assert one.usage.input_tokens
    assert one.marks.mode == ("direct" if way == "direct" else "proxy")
    with pytest.raises(BadCall):
        client.embed([], model="openai/text-embedding-3-small")


def test_models_are_listed(town: Town, client: Client, way: str):
    ids = client.models().ids

    if way == "direct":
        assert {"openai/fake-large", "anthropic/fake-small", "xai/fake-large"} <= set(ids)
    else:
        assert {named(provider) for provider in MODELS} | {"any-groq", "default"} <= set(ids)


def test_a_provider_that_does_not_say_what_it_has_does_not_hide_the_others(town: Town):
    fake = town.fake
    town.do(lambda: setattr(fake, "failing_models", {"groq": Failure(status=500)}))
    try:
        with tollhouse.Client(environ=town.direct_environ()) as client:
            models = client.models()
    finally:
        town.do(lambda: setattr(fake, "failing_models", {}))

    assert "openai/fake-large" in models.ids
    assert not any(name.startswith("groq/") for name in models.ids)
    assert [(name, type(error)) for name, error in models.failures.items()] == [("groq", ProviderFailed)]


def test_a_model_that_is_not_there_is_answered_with_names_that_are_alike(client: Client, way: str):
    with pytest.raises(NoSuchModel) as caught:
        client.chat("hi", model="opnai/x" if way == "direct" else "any-opnai")

    assert ("openai/x" if way == "direct" else "any-openai") in caught.value.nearest
    assert caught.value.nearest[0] in str(caught.value)


def test_a_bare_name_is_enough_where_one_provider_has_it(town: Town, client: Client):
    with town.saying(Answer(text="ok")):
        assert client.chat("hi", model="gpt-4o-mini").model == "openai/gpt-4o-mini"


def test_a_provider_that_fails_is_followed_by_the_next_model(town: Town, client: Client):
    with town.saying(Answer(text="spare")) as fake:
        town.do(lambda: fake.reply_to(MODELS["openai"], Failure(status=500)))
        answer = client.chat("hi", model=named("openai"), fallback_models=[named("groq")])
        with client.stream("hi", model=named("openai"), fallback_models=[named("anthropic")]) as stream:
            streamed = stream.finished()

        assert (answer.text, answer.model, answer.marks.fell_back_to_model) == ("spare", named("groq"), True)
        assert (streamed.text, streamed.model) == ("spare", named("anthropic"))
        assert streamed.marks.fallback_cause == "provider_failed"
        assert streamed.marks.attempts == 2


def test_a_stream_that_fails_before_its_first_word_is_followed_by_the_next_model(town: Town, client: Client):
    with town.saying(Answer(text="spare")) as fake:
        town.do(lambda: fake.reply_to(MODELS["openai"], faulty(Answer(text=TEXT), ErrorAfter(0, Failure(status=500)))))
        with client.stream("hi", model=named("openai"), fallback_models=[named("groq")]) as stream:
            assert stream.finished().text == "spare"


@pytest.mark.parametrize(
    "fault", [Cut(4), Reset(4), NoFinish(), ErrorAfter(4, Failure(status=500))], ids=["cut", "reset", "no end", "error"]
)
def test_a_stream_that_breaks_is_an_error_after_what_was_delivered_and_nothing_is_sent_again(
    town: Town, client: Client, fault: Any
):
    with town.saying(
        faulty(Answer(text=words(20)), fault, *([NoDone()] if isinstance(fault, NoFinish) else []))
    ) as fake:
        texts: list[str] = []
        with (
            client.stream("hi", model=named("openai"), fallback_models=[named("groq")]) as stream,
            pytest.raises(AnswerBroken),
        ):
            texts.extend(stream)

        assert texts
        assert words(20).startswith("".join(texts))
        assert stream.partial.text == "".join(texts)
        assert len(fake.calls) == 1
        with pytest.raises(AnswerBroken):
            _ = stream.answer


@pytest.mark.parametrize(
    ("status", "kind", "in_proxy"),
    [
        (400, BadCall, BadCall),
        (401, NotAuthenticated, ProviderFailed),  # through a gateway it is the gateway's key that is wrong
        (429, OverLimit, OverLimit),
        (500, ProviderFailed, ProviderFailed),
        (529, ProviderFailed, ProviderFailed),
    ],
)
def test_a_providers_error_is_the_same_type_either_way(
    town: Town, client: Client, way: str, status: int, kind: type[CallFailed], in_proxy: type[CallFailed]
):
    expected = kind if way == "direct" else in_proxy
    with town.saying(Failure(status=status, message="It went wrong.")):
        with pytest.raises(expected) as whole:
            client.chat("hi", model=named("anthropic"))
        with pytest.raises(expected), client.stream("hi", model=named("anthropic")):
            pass

    assert UPSTREAM_KEYS["anthropic"] not in str(whole.value)
    if way != "json" and "It went wrong." in str(
        whole.value
    ):  # JSON, which is OpenAI's, has no place to say whose words they are
        assert "The provider said: It went wrong." in str(whole.value)
        assert whole.value.is_relayed == (way != "direct")
    if expected is NotAuthenticated:
        assert "ANTHROPIC_API_KEY" in str(whole.value)


def test_a_closed_stream_frees_the_provider_and_the_place_in_line(town: Town, environ: dict[str, str]):
    with (
        tollhouse.Client(environ=environ, connections=1) as client,
        town.saying(Answer(text=words(3000)), Answer(text="next")) as fake,
    ):
        with client.stream("hi", model=named("openai")) as stream:
            next(iter(stream))
        assert client.chat("hi", model=named("openai")).text == "next"
        town.run(fake.calls[0].done.wait())
        assert len(fake.calls) == 2


def test_a_stream_that_is_forgotten_keeps_no_place_in_line(town: Town, environ: dict[str, str]):
    with (
        tollhouse.Client(environ=environ, connections=1) as client,
        town.saying(Answer(text=words(3000)), Answer(text="next")),
    ):
        next(iter(client.stream("hi", model=named("openai"))))
        assert client.chat("hi", model=named("openai")).text == "next"


def test_several_threads_use_one_client_at_the_same_time(town: Town, client: Client):
    answers: list[str] = []

    def ask() -> None:
        answers.append(client.chat("hi", model=named("openai")).text)
        with client.stream("hi", model=named("anthropic")) as stream:
            answers.append("".join(stream))

    with town.saying(Answer(text=TEXT)):
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert answers == [TEXT] * 16


FORKING = """
import os, sys, tollhouse
from tollhouse.client import NotForThisLoop

client = tollhouse.Client()
before = client.chat("hi", model="openai/gpt-4o-mini").text
begun = client.stream("hi", model="openai/gpt-4o-mini")
begun.open()
child = os.fork()
if child == 0:
    status = 1
    try:
        answered = client.chat("hi", model="openai/gpt-4o-mini").text == before
        next(iter(begun))
    except NotForThisLoop:
        status = 0 if answered else 2
    finally:
        os._exit(status)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
# The parent's connections were not touched.
print("".join(begun) == before, client.chat("hi", model="openai/gpt-4o-mini").text == before)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_has_connections_of_its_own(town: Town):
    ran = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING],
        env={**town.proxy_environ(), "PATH": os.environ["PATH"]},
        capture_output=True,
        timeout=60,
        check=True,
    )

    assert ran.stdout.decode().split() == ["0", "True", "True"]


def test_grpc_is_not_used_on_the_other_side_of_a_fork(town: Town):
    with tollhouse.Client(environ=town.proxy_environ("grpc")) as client:
        assert client.chat("hi", model=named("openai")).text == TEXT
        # As a child finds it.  A real fork is not tried: gRPC's threads can take the child down at any moment.
        here = dict(client._lives)
        client._lives = {-1: here[os.getpid()]}
        with pytest.raises(NotForThisLoop, match="does not survive a fork"):
            client.chat("hi", model=named("openai"))
        client._lives = here


def test_no_other_client_uses_grpc_in_a_forked_child_either():
    used_in: set[int] = set()
    check_process(used_in, 1)
    check_process(used_in, 1)
    with pytest.raises(NotForThisLoop, match=r"does not survive a fork.*protocol=protobuf"):
        check_process(used_in, 2)


def test_a_closed_client_says_so(environ: dict[str, str]):
    client = tollhouse.Client(environ=environ)
    client.close()
    client.close()

    with pytest.raises(ClientClosed):
        client.chat("hi", model=named("openai"))


async def test_the_asynchronous_client_does_the_same(town: Town, environ: dict[str, str]):
    with town.saying(Answer(text=TEXT)):
        async with tollhouse.AsyncClient(environ=environ) as client:
            answer = await client.chat("hi", model=named("groq"))
            async with client.stream("hi", model=named("glm")) as stream:
                texts = [text async for text in stream]
            events = [event async for event in client.stream("hi", model=named("qwen")).events()]
            counted = await client.count_tokens("hi", model=named("anthropic"))

    assert answer.text == "".join(texts) == stream.answer.text == TEXT
    assert type(events[-1]).__name__ == "Ended"
    assert counted.input_tokens == 10


def test_an_asynchronous_client_belongs_to_one_loop(town: Town, environ: dict[str, str]):
    client = tollhouse.AsyncClient(environ=environ)

    async def ask() -> str:
        return (await client.chat("hi", model=named("openai"))).text

    loop = asyncio.new_event_loop()
    try:
        assert loop.run_until_complete(ask()) == TEXT
        with pytest.raises(NotForThisLoop):
            asyncio.run(ask())
        loop.run_until_complete(client.aclose())
    finally:
        loop.close()
