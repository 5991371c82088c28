"""The way straight to the providers, in this process, with the caller's own keys."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import cached_property

from tollhouse.chat.embedding import EmbeddingRequest
from tollhouse.chat.events import Ended, Event, UsageReported
from tollhouse.chat.model import Request
from tollhouse.chat.usage import Usage
from tollhouse.client.answer import Answer, Counted, Embedded, Marks, ModelInfo, Models
from tollhouse.client.failures import BadSettings, CallFailed, NoSuchModel
from tollhouse.client.over_http import HttpLive, Place, Talk
from tollhouse.client.settings import Settings
from tollhouse.client.translate import Scene, failure
from tollhouse.config.schema import ProviderSettings
from tollhouse.errors import ConfigError, TollhouseError
from tollhouse.gateway.estimate import input_tokens
from tollhouse.ledger.prices import PriceBook, cost
from tollhouse.providers.registry import PROVIDER_TYPES, build
from tollhouse.upstream.address import BadAddress, parse_address
from tollhouse.upstream.transport import Transport

LIST_SECONDS = 15.0
"""How long a provider may take to say which models it has."""


class DirectDoor:
    """See `Door`."""

    def __init__(self, settings: Settings, transport: Transport) -> None:
        """Opens nothing.  Raises `BadSettings` with every problem of the providers."""
        self._transport = transport
        self._places: dict[str, Place] = {}
        problems: list[str] = []
        for name, given in settings.providers.items():
            try:
                self._places[name] = _place(given, transport, settings.connect_timeout)
            except ConfigError as error:
                problems += error.problems
            except BadAddress as error:
                problems.append(f"providers.{name}.base_url: {error}")
        if problems:
            raise BadSettings(problems)

    @cached_property
    def _prices(self) -> PriceBook:
        """Read when the first answer is billed, or a bare name is looked for."""
        return PriceBook.load()

    async def whole(self, request: Request, until: float) -> Answer:
        """See `Door.whole`."""
        place, model = self._find(request.model)
        began_us = time.time_ns() // 1000
        response, marks = await Talk(place, model, request.model).whole(request, until)
        return Answer(response, replace(marks, cost_nano=self._cost(place, model, response.usage, began_us)))

    async def stream(self, request: Request, until: float) -> "DirectLive":
        """See `Door.stream`."""
        place, model = self._find(request.model)
        began_us = time.time_ns() // 1000
        live = await Talk(place, model, request.model).stream(request, until)
        return DirectLive(live, lambda usage: self._cost(place, model, usage, began_us))

    async def count(self, request: Request, until: float) -> Counted:
        """See `Door.count`."""
        place, model = self._find(request.model)
        marks = Marks(
            mode="direct",
            protocol=place.protocol,
            where=place.scene.where,
            requested_model=request.model,
            model=f"{place.provider.name}/{model}",
        )
        counted = await Talk(place, model, request.model).count(request, until)
        if counted is None:
            return Counted(input_tokens(request), is_estimate=True, marks=marks)
        return Counted(counted, is_estimate=False, marks=marks)

    async def embed(self, request: EmbeddingRequest, until: float) -> Embedded:
        """See `Door.embed`."""
        place, model = self._find(request.model)
        began_us = time.time_ns() // 1000
        answer, marks = await Talk(place, model, request.model).embed(request, until)
        vectors = tuple(tuple(vector) for vector in answer.vectors)
        return Embedded(
            vectors, answer.usage, replace(marks, cost_nano=self._cost(place, model, answer.usage, began_us))
        )

    async def models(self, until: float) -> Models:
        """All providers' lists, asked for at the same time; those that fail are in `failures`."""
        soon = min(until, asyncio.get_running_loop().time() + LIST_SECONDS)
        async with asyncio.TaskGroup() as group:
            asked = {name: group.create_task(self._list(place, soon)) for name, place in self._places.items()}
        answers = {name: task.result() for name, task in asked.items()}
        failures = {name: answer for name, answer in answers.items() if isinstance(answer, CallFailed)}
        if failures and len(failures) == len(answers):
            raise next(iter(failures.values()))
        return Models(
            tuple(
                ModelInfo(id=f"{name}/{model}", owner=name)
                for name, answer in answers.items()
                if not isinstance(answer, CallFailed)
                for model in answer
            ),
            Marks(mode="direct", protocol="", where=", ".join(self._places)),
            failures,
        )

    async def aclose(self) -> None:
        """See `Door.aclose`."""
        await self._transport.aclose()

    async def _list(self, place: Place, until: float) -> tuple[str, ...] | CallFailed:
        try:
            data, _ = await place.ask(b"GET", place.provider.models_path, b"", until)
            return place.provider.dialect.decode_models(data)
        except TollhouseError as error:
            return failure(error, place.scene)

    def _find(self, name: str) -> tuple[Place, str]:
        """Who is meant: `provider/model`, or a bare name that exactly one of the providers is known to have."""
        prefix, slash, rest = name.partition("/")
        if slash and rest and prefix in self._places:
            return self._places[prefix], rest
        known = ", ".join(self._places)
        if not name:
            raise NoSuchModel(
                "The call names no model.",
                model="",
                hint=f"Say `model=…` (or TOLLHOUSE_MODEL), such as {self._example()!r}; there are keys for {known}.",
            )
        if not name.isprintable() or any(character.isspace() for character in name):
            raise NoSuchModel(f"{name[:80]!r} cannot be a model's name.", model=name)
        owners = [place for place in self._places.values() if self._sells(place, name)]
        if not owners and len(self._places) == 1 and not slash:
            owners = list(self._places.values())  # it will know its own
        if len(owners) == 1:
            return owners[0], name
        if owners:
            choices = tuple(f"{owner.provider.name}/{name}" for owner in owners)
            raise NoSuchModel(f"Several providers have {name!r}.", model=name, nearest=choices, hint=_or(choices))
        near = tuple(f"{each}/{rest}" for each in get_close_matches(prefix, self._places, n=2)) if slash else ()
        raise NoSuchModel(
            f"No provider of the environment is known to have {name[:200]!r}.",
            model=name,
            nearest=near,
            hint=_or(near) if near else f"Write it as `provider/model`; there are keys for {known}.",
        )

    def _sells(self, place: Place, model: str) -> bool:
        price = self._prices.find(place.provider.kind, model)
        # Of a free provider (the user's own machine) every name has a price; that is no sign that it has the model.
        return price is not None and not price.is_free

    def _example(self) -> str:
        examples = {"openai": "gpt-4o-mini", "anthropic": "claude-sonnet-4-5", "google": "gemini-2.5-flash"}
        name, place = next(iter(self._places.items()))
        return f"{name}/{examples.get(place.provider.kind, 'MODEL')}"

    def _cost(self, place: Place, model: str, usage: Usage, at_us: int) -> int | None:
        provider = place.provider
        bill = cost(self._prices.find(provider.kind, model, provider=provider.name), usage, at_us)
        return None if bill is None else bill.total_nano


class DirectLive:
    """A provider's stream, billed when it ends."""

    __slots__ = ("_bill", "_inner", "_usage", "marks")

    def __init__(self, inner: HttpLive, bill: Callable[[Usage], int | None]) -> None:
        self._inner = inner
        self._bill = bill
        self._usage = Usage()
        self.marks = inner.marks

    async def more(self) -> Sequence[Event] | None:
        """See `Live.more`."""
        events = await self._inner.more()
        for event in events or ():
            if isinstance(event, UsageReported):
                self._usage = event.usage
            elif isinstance(event, Ended):
                self.marks = replace(self.marks, cost_nano=self._bill(self._usage))
        return events

    def close(self) -> None:
        """See `Live.close`."""
        self._inner.close()


def _place(given: ProviderSettings, transport: Transport, connect_seconds: float) -> Place:
    provider = build(given)
    address = parse_address(provider.base_url)
    scene = Scene(mode="direct", where=provider.name, key_variable=PROVIDER_TYPES[given.type].key_variable or "")
    return Place(provider, address, transport, scene, protocol=provider.dialect.name, connect_seconds=connect_seconds)


def _or(names: tuple[str, ...]) -> str:
    return f"Write {' or '.join(repr(name) for name in names)}." if names else ""
