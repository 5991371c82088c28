"""From the name that a client uses to the candidates that may answer."""

from dataclasses import replace
from functools import cache

import pytest

from tollhouse.config.schema import ProviderSettings
from tollhouse.config.secret import Secret
from tollhouse.errors import ModelMissing, ModelNotAllowed, ModelNotFound
from tollhouse.gateway.routing import MAX_REMEMBERED, Alias, Candidate, Router, allowed
from tollhouse.policy.access import allow
from tollhouse.policy.identity import Principal
from tollhouse.policy.redaction import Redactor
from tollhouse.providers.provider import Provider
from tollhouse.providers.registry import build
from tollhouse.upstream.address import parse_address, target
from tollhouse.upstream.transport import Deadlines, Incoming, Outgoing

LIKE_A_KEY = "th-sea-lion-8b-instruct"
HAS = {"lab": {"small", "shared", LIKE_A_KEY}, "den": {"big", "shared", "meta/llama-3"}}
LISTED = [("lab", "small"), ("den", "big"), ("lab", "small")]


class NoTransport:
    """Routing opens nothing."""

    async def send(self, request: Outgoing, deadlines: Deadlines) -> Incoming:
        raise AssertionError

    async def aclose(self) -> None:
        raise AssertionError


@cache
def provider(name: str) -> Provider:
    settings = ProviderSettings(
        name=name, type="openai-compatible", api_key=Secret("x"), base_url=f"http://{name}.test/v1"
    )
    return build(settings)


def candidate(chosen: Provider, model: str, alias: str | None) -> Candidate:
    address = parse_address(chosen.base_url)
    return Candidate(
        provider=chosen,
        model=model,
        traits=chosen.traits_for(model),
        transport=NoTransport(),
        address=address,
        target=target(address, chosen.chat_path),
        stream_target=target(address, chosen.chat_path),
        embeddings_target=None,
        deadlines=Deadlines(total=5.0) if alias == "hurried" else Deadlines(),
        price=None,
        where=f"{address.host}:{address.port}",
        label=f"{chosen.name}/{model}".encode(),
        name=f"{chosen.name}/{model}",
    )


def router(*aliases: Alias, default: str | None = None) -> Router:
    return Router(
        providers={name: provider(name) for name in HAS},
        aliases=aliases,
        default=default,
        has_model=lambda one, model: model in HAS[one.name],
        candidate=candidate,
        listed=LISTED,
        redact=Redactor(["secrets"]).redact,
    )


FAST = Alias(name="fast", targets=(("lab", "small"),))
SMART = Alias(name="smart", targets=(("den", "big"), ("lab", "small")), strict=True)


def labels(of: Router, name: str) -> list[str]:
    return [each.label.decode() for each in of.resolve(name).candidates]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fast", ["lab/small"]),
        ("smart", ["den/big", "lab/small"]),
        ("lab/small", ["lab/small"]),
        ("lab/never-listed", ["lab/never-listed"]),
        ("den/meta/llama-3", ["den/meta/llama-3"]),
        ("meta/llama-3", ["den/meta/llama-3"]),
        ("big", ["den/big"]),
    ],
    ids=[
        "an alias",
        "an alias with several targets keeps their order",
        "provider and model",
        "a model that nobody listed, at a named provider",
        "provider and a model with a slash",
        "a bare name with a slash whose prefix is no provider",
        "a bare name that one provider has",
    ],
)
def test_a_name_resolves(name: str, expected: list[str]):
    assert labels(router(FAST, SMART), name) == expected


def test_an_alias_goes_before_a_provider_of_the_same_form():
    shadow = Alias(name="lab/small", targets=(("den", "big"),))
    assert labels(router(shadow), "lab/small") == ["den/big"]


def test_an_empty_name_and_the_word_default_mean_the_default():
    routes = router(FAST, default="fast")
    assert labels(routes, "") == labels(routes, "default") == ["lab/small"]
    assert labels(router(replace(FAST, name="default"), default="default"), "default") == ["lab/small"]


def test_a_request_without_a_model_says_what_is_missing_if_there_is_no_default():
    with pytest.raises(ModelMissing, match=r"set `model`.*`models\.default`"):
        router(FAST).resolve("")


def test_a_bare_name_that_several_have_is_refused_with_the_names_to_write():
    with pytest.raises(ModelNotFound, match="several providers have it; write `lab/shared` or `den/shared`"):
        router().resolve("shared")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("fsat", "'fast'"), ("lab/smal", None), ("smal", "'small'"), ("lba/small", "'lab/small'")],
)
def test_an_unknown_name_is_refused_with_the_nearest(wrong: str, right: str | None):
    routes = router(FAST, SMART)
    if right is None:
        assert labels(routes, wrong) == [wrong], "the provider knows its models better than we do"
        return
    with pytest.raises(ModelNotFound) as caught:
        routes.resolve(wrong)
    assert right in str(caught.value)
    assert caught.value.param == "model"


@pytest.mark.parametrize("name", ["lab/", "/small", "/", "nobody/small-model-of-nobody-at-all-xyz", "\x00", "é" * 300])
def test_what_is_no_name_is_no_crash(name: str):
    with pytest.raises(ModelNotFound):
        router(FAST).resolve(name)


def test_a_name_has_a_bound_and_the_error_does_not_repeat_it():
    with pytest.raises(ModelNotFound, match="at most 512 characters") as caught:
        router(FAST).resolve("lab/" + "x" * 100_000)
    assert len(str(caught.value)) < 400


def test_strictness_and_deadlines_are_the_aliass_own():
    routes = router(FAST, SMART, Alias(name="hurried", targets=(("lab", "small"),)))
    assert (routes.resolve("smart").strict, routes.resolve("fast").strict) == (True, False)
    assert routes.resolve("lab/small").strict is False
    assert routes.resolve("hurried").candidates[0].deadlines.total == 5.0
    assert routes.resolve("lab/small").candidates[0].deadlines == Deadlines()


def test_a_route_is_made_once_and_not_for_every_name_that_was_ever_invented():
    routes = router(FAST)
    first = routes.resolve("fast")
    assert routes.resolve("fast") is first
    for number in range(MAX_REMEMBERED + 1):
        routes.resolve(f"lab/invented-{number}")
    assert len(routes._resolved) <= MAX_REMEMBERED
    assert labels(routes, "fast") == ["lab/small"]


def test_the_list_has_aliases_first_then_each_listed_model_once():
    cards = router(FAST, SMART, default="fast").cards()
    assert [card.id for card in cards] == ["fast", "smart", "default", "lab/small", "den/big"]
    assert [card.owner for card in cards] == ["lab", "den", "lab", "lab", "den"]


def test_a_default_that_is_an_alias_is_listed_once():
    cards = router(Alias(name="default", targets=(("lab", "small"),)), default="default").cards()
    assert [card.id for card in cards].count("default") == 1


def test_one_card_is_found_by_any_name_that_resolves():
    routes = router(FAST)
    assert routes.card("fast").owner == "lab"
    assert (routes.card("big").id, routes.card("big").owner) == ("big", "den")
    with pytest.raises(ModelNotFound):
        routes.card("nope")


# ------------------------------------------------------------------------------------------------- what a key may use

BOTH_WAYS = Alias(name="both", targets=(("lab", "small"), ("den", "big")))


def caller(models: tuple[str, ...] = (), providers: tuple[str, ...] = ()) -> Principal:
    return Principal(key="dev", access=allow(models, providers))


@pytest.mark.parametrize(
    ("models", "providers", "left"),
    [
        ((), (), ["lab/small", "den/big"]),
        (("both",), (), ["lab/small", "den/big"]),
        (("den/big",), (), ["den/big"]),
        (("lab/*",), (), ["lab/small"]),
        ((), ("den",), ["den/big"]),
        (("both",), ("lab",), ["lab/small"]),
    ],
)
def test_a_key_is_answered_by_the_candidates_that_it_may_use_in_their_order(
    models: tuple[str, ...], providers: tuple[str, ...], left: list[str]
):
    route = router(BOTH_WAYS).resolve("both")
    assert [each.name for each in allowed(route, caller(models, providers)).candidates] == left
    assert len(route.candidates) == 2, "the route itself is everybody's"


@pytest.mark.parametrize(("models", "providers"), [(("smart",), ()), ((), ("other",)), (("den/big",), ("lab",))])
def test_a_key_that_may_use_none_of_them_is_told_so(models: tuple[str, ...], providers: tuple[str, ...]):
    routes = router(BOTH_WAYS)
    with pytest.raises(ModelNotAllowed, match="'dev' may not use the model 'both'"):
        allowed(routes.resolve("both"), caller(models, providers))
    with pytest.raises(ModelNotAllowed):
        routes.card("both", caller(models, providers))


@pytest.mark.parametrize(
    ("models", "providers", "listed"),
    [
        ((), (), ["both", "fast", "default", "lab/small", "den/big"]),
        (("both",), (), ["both"]),
        (("fast",), (), ["fast", "default"]),
        (("den/*",), (), ["both", "den/big"]),
        ((), ("lab",), ["both", "fast", "default", "lab/small"]),
        (("smart",), (), []),
    ],
)
def test_the_list_holds_what_the_key_can_call_and_nothing_else(
    models: tuple[str, ...], providers: tuple[str, ...], listed: list[str]
):
    routes = router(BOTH_WAYS, Alias(name="fast", targets=(("lab", "small"),)), default="fast")
    who = caller(models, providers)
    assert [card.id for card in routes.cards(who.access)] == listed
    for name in ("both", "fast", "default", "lab/small", "den/big"):
        if name in listed:
            assert allowed(routes.resolve(name), who).candidates, "what is listed can be called"
        else:
            with pytest.raises(ModelNotAllowed):
                allowed(routes.resolve(name), who)


@pytest.mark.parametrize(
    "secret", ["sk-proj-" + "a1B2" * 10, "th-" + "Ab3d" * 12, "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"]
)
def test_a_credential_is_no_model_of_any_provider_and_is_not_repeated(secret: str):
    for ask in (lambda: router().resolve(f"lab/{secret}"), lambda: router().one("lab", secret)):
        with pytest.raises(ModelNotFound, match=r"'lab/\[secret\]' does not exist here: what looks like") as caught:
            ask()
        assert secret not in str(caught.value)


def test_what_only_looks_like_a_credential_is_let_in_by_the_configuration():
    assert labels(router(), f"lab/{LIKE_A_KEY}") == [f"lab/{LIKE_A_KEY}"]
    assert labels(router(Alias(name="x", targets=(("den", "sk-of-no-list-at-all"),))), "x") == [
        "den/sk-of-no-list-at-all"
    ]


def test_models_whose_names_begin_as_keys_do_are_none():
    assert labels(router(), "lab/perplexity/pplx-embed-context-v1-4b") == ["lab/perplexity/pplx-embed-context-v1-4b"]
