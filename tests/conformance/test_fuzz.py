"""Made-up conversations through all 16 pairs of a client's dialect and a provider's, streamed and whole.

Nothing crashes, no stream breaks its grammar (`support.checked_streams` reads them all), and nothing is lost without a word:
each fact of the canonical value comes out at the other side, or a receipt names it.  What a dialect says in another way is
listed here, once, with what becomes of it.

    make fuzz                   # 10,000 conversations; TOLLHOUSE_FUZZ says how many
"""

import os
import re
from typing import Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from support.asked import requests
from support.conversations import responses
from support.four_dialects import FOUR, TRAITS
from support.four_sides import SIDES, Side
from support.meaning import Facts, answer_facts, request_facts
from support.receipt_words import ANSWER_FACTS, FACTS, THOUGHTS, is_made_up
from tollhouse.chat.fold import fold, unfold
from tollhouse.chat.model import Message, Refusal, Request, Response, Text, ToolCall
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.sse import Parser
from tollhouse.gateway.translator import Translator

ASKED: Final = Request(model="m", messages=(Message("user", (Text("hi"),)),), include_usage=True)
PAIRS: Final = [(client, provider) for client in SIDES for provider in SIDES]
by_pair = pytest.mark.parametrize(("client", "provider"), PAIRS, ids=[f"{c}-to-{p}" for c, p in PAIRS])

CONVERSATIONS: Final = int(os.environ.get("TOLLHOUSE_FUZZ", "960"))
fuzzed = settings(
    # A third of them are requests, a third whole answers, a third streams.
    max_examples=-(-CONVERSATIONS // (3 * len(PAIRS))),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


# ------------------------------------------------------------------------------------------------------------- requests


def assert_request_told(before: Facts, after: Facts, receipt: Receipt, side: Side) -> None:
    """Every fact is there, or the receipt names it."""
    for name in sorted(before.keys() | after.keys()):
        if name == "strict tools" and side == "gemini":
            continue  # told for all tools at once, by the mode of their calls
        if name == "tools" and side == "gemini" and before.get("tool choice") == "named":
            continue  # what may not be called is not offered
        if before.get(name) == after.get(name) or is_made_up(name, before, after):
            continue
        fact = FACTS.get(name) or THOUGHTS[name]
        named = any(re.search(fact.named, entry) for entry in receipt.entries)
        assert named, f"{name}: {before.get(name)!r} became {after.get(name)!r}; {receipt.entries}"


@by_pair
@fuzzed
@given(request=requests())
def test_a_request_is_told_or_its_losses_are(client: Side, provider: Side, request: Request):
    asked, passed = Receipt(), Receipt()
    read = FOUR[client].decode_request(FOUR[client].encode_request(request, TRAITS[client], asked))
    read = msgspec.structs.replace(read, model=request.model)
    assert_request_told(request_facts(request), request_facts(read), asked, client)
    sent = FOUR[provider].decode_request(FOUR[provider].encode_request(read, TRAITS[provider], passed))
    assert_request_told(request_facts(read), request_facts(sent), passed, provider)


# -------------------------------------------------------------------------------------------------------------- answers


DONE: Final = frozenset({"stop", "tool_calls", "stop_sequence", "pause", "other"})
WITHHELD: Final = frozenset({"content_filter", "refusal"})
LIMITED: Final = frozenset({"length", "context_exceeded"})


def plainly(facts: Facts, number: int) -> Facts:
    """One choice as every dialect has it: a refusal may be text, and calls or a refusal tell by themselves why it ended."""
    said = {name.rpartition(" ")[0]: value for name, value in facts.items() if name.endswith(f" {number}")}
    finish = said.pop("finish", None)
    refused = said.pop("refusal", "")
    told = "".join(sorted(f"{said.pop('text', '')}{refused}"))
    sealed = said.pop("sealed", [])
    if isinstance(sealed, list) and sealed:
        said["sealed"] = sorted(set(sealed))
    kind = next(
        (name for name, words in (("done", DONE), ("withheld", WITHHELD), ("limited", LIMITED)) if finish in words),
        finish,
    )
    if kind in {"done", "withheld"} and (refused or "calls" in said):
        kind = "done or withheld"
    said.pop("stop string", None)
    return {**said, "words": told, "end": kind}


def assert_answer_told(before: Facts, after: Facts, receipt: Receipt, side: Side) -> None:
    """Every fact is there as this dialect has it, or the receipt names it."""
    has_one = any("choices[1:]" in entry for entry in receipt.entries)
    for number in range(1 if has_one else 3):
        wanted, found = plainly(before, number), plainly(after, number)
        for name in sorted(wanted.keys() | found.keys()):
            if wanted.get(name) == found.get(name) or (name == "end" and may_end(wanted, found)):
                continue
            if name == "sealed" and set(wanted.get(name, ())) <= set(found.get(name, ())):  # type: ignore[call-overload]
                continue  # nothing is lost
            if name == "logprobs" and side == "openai_responses":
                continue  # those of no text stand in the last event alone, where no real provider has any
            named = any(re.search(ANSWER_FACTS.get(name, "(?!)"), entry) for entry in receipt.entries)
            assert named, f"{side}: {name}: {wanted.get(name)!r} became {found.get(name)!r}; {receipt.entries}"
    for name in before.keys() | after.keys():
        if name.endswith("tokens"):
            assert before.get(name) == after.get(name), name


def may_end(wanted: Facts, found: Facts) -> bool:
    """A refusal that became text on the way: the end says so now."""
    return {wanted["end"], found["end"]} <= {"done", "withheld", "done or withheld"} and "done or withheld" in {
        wanted["end"],
        found["end"],
    }


def is_possible(response: Response) -> bool:
    """No provider gives two calls one id, refuses without a word, or says where nothing comes from."""
    parts = [part for choice in response.choices for part in choice.parts]
    ids = [part.id for part in parts if isinstance(part, ToolCall)]
    cites_nothing = any(isinstance(part, Text) and part.citations and not part.text for part in parts)
    return len(ids) == len(set(ids)) and Refusal("") not in parts and not cites_nothing


answers = responses().filter(is_possible)


def read_stream(side: Side, body: bytes) -> Response:
    parser, decoder = Parser(), FOUR[side].stream_decoder(TRAITS[side])
    events = [event for frame in [*parser.feed(body), *parser.close()] for event in decoder.feed(frame)]
    return fold([*events, *decoder.close()])


@by_pair
@fuzzed
@given(response=answers)
def test_a_whole_answer_is_told_or_its_losses_are(client: Side, provider: Side, response: Response):
    said, told = Receipt(), Receipt()
    made = FOUR[provider].encode_response(response, ASKED, said)
    answered = FOUR[provider].decode_response(made, TRAITS[provider])
    assert_answer_told(answer_facts(response), answer_facts(answered), said, provider)
    seen = FOUR[client].decode_response(FOUR[client].encode_response(answered, ASKED, told), TRAITS[client])
    assert_answer_told(answer_facts(answered), answer_facts(seen), told, client)


@by_pair
@fuzzed
@given(response=answers)
def test_a_stream_is_told_or_its_losses_are(client: Side, provider: Side, response: Response):
    """Through the gateway's own translator, as the provider's bytes come."""
    said, told = Receipt(), Receipt()
    encoder = FOUR[provider].stream_encoder(ASKED, said)
    made = b"".join(encoder.encode(event) for event in unfold(response))
    answered = read_stream(provider, made)
    assert_answer_told(answer_facts(response), answer_facts(answered), said, provider)
    translator = Translator(
        FOUR[provider].stream_decoder(TRAITS[provider]), FOUR[client].stream_encoder(ASKED, told), created=1
    )
    half = len(made) // 2
    body = translator.feed(made[:half]) + translator.feed(made[half:]) + translator.close()
    assert_answer_told(answer_facts(answered), answer_facts(read_stream(client, body)), told, client)
