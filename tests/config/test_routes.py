import pytest

from support.configs import KEYS, problem, problems, read
from tollhouse.config.routes import MAX_CHAIN, MAX_ROUTE
from tollhouse.config.schema import DeadlineOverrides

PROVIDERS = """\
auth: {open: true}
providers:
  openai: {models: [gpt-5, shared, meta/llama]}
  groq: {models: [kimi, shared]}
  local: {}
models:
"""


def routes(models: str) -> dict[str, list[str]]:
    aliases = read(PROVIDERS + models).aliases
    return {name: [str(target) for target in alias.targets] for name, alias in aliases.items()}


def test_a_target_is_a_provider_and_its_model_split_at_the_first_slash():
    assert routes("  a: openai/org/model-x\n") == {"a": ["openai/org/model-x"]}


def test_a_bare_model_belongs_to_the_one_provider_that_lists_it():
    assert routes("  a: kimi\n  b: [meta/llama, gpt-5]\n") == {
        "a": ["groq/kimi"],
        "b": ["openai/meta/llama", "openai/gpt-5"],
    }


def test_a_bare_model_of_two_providers_is_refused_with_both():
    assert problem(PROVIDERS + "  a: shared\n") == (
        "tollhouse.yaml:7:6: models.a: Several providers list the model 'shared'; write it as provider/model, with openai or groq."
    )


def test_aliases_in_aliases_are_flattened_in_order_and_each_target_stands_once():
    assert routes("  all: [fast, openai/gpt-5, slow]\n  fast: [kimi, local/x]\n  slow: [local/x, local/y]\n") == {
        "all": ["groq/kimi", "local/x", "openai/gpt-5", "local/y"],
        "fast": ["groq/kimi", "local/x"],
        "slow": ["local/x", "local/y"],
    }


def test_an_alias_goes_before_a_model_of_the_same_name():
    assert routes("  gpt-5: local/x\n  a: gpt-5\n")["a"] == ["local/x"]


@pytest.mark.parametrize(
    ("models", "circle"),
    [
        ("  a: a\n", "a → a"),
        ("  a: b\n  b: a\n", "a → b → a"),
        ("  x: a\n  a: [local/x, b]\n  b: c\n  c: [b]\n", "b → c → b"),
        ("  default: a\n  a: default\n", "default → a → default"),
    ],
)
def test_a_circle_of_aliases_is_refused_with_its_path(models: str, circle: str):
    assert f"The aliases go in a circle: {circle}." in problem(PROVIDERS + models)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("opnai/gpt-5", "No provider of that name is configured: 'opnai/gpt-5'. Did you mean 'openai/gpt-5'?"),
        ("kimmi", "Did you mean 'kimi'?"),
        ("fats", "Did you mean 'fast'?"),
        ("zzzzzz", "is neither an alias nor a model that a provider lists under `models`. A provider's other models"),
        ("openai/", "names no model after the slash"),
        ("anthropic/claude", "No provider of that name is configured: 'anthropic/claude'."),
    ],
)
def test_a_reference_to_nothing_is_refused_with_the_nearest(target: str, reason: str):
    message = problem(PROVIDERS + f"  fast: local/x\n  a: [local/y, {target}]\n")
    assert message.startswith("tollhouse.yaml:8:16: models.a[1]: ")
    assert reason in message


@pytest.mark.parametrize("value", ["plaintext", "plaintext/x", "x/plaintext", "shared"])
def test_a_reference_from_the_environment_is_named_by_its_variable(value: str):
    environ = {**KEYS, "MODEL": value}
    message = problem(PROVIDERS + '  a: "${MODEL}"\n', environ)
    assert "'${MODEL}'" in message
    assert value not in message


def test_one_wrong_reference_is_one_problem_however_many_aliases_use_it():
    assert "zzzzzz" in problem(PROVIDERS + "  a: zzzzzz\n  b: a\n  c: [a, b]\n  default: c\n")


def test_a_provider_with_a_problem_is_not_missing_too():
    text = PROVIDERS.replace("local: {}", "local: {prxy: x}") + "  a: local/x\n"
    assert "prxy" in problem(text)


def test_a_mapping_has_a_route_strictness_and_deadlines():
    alias = read(PROVIDERS + "  a: {route: [kimi, local/x], strict: true, deadlines: {total: 5}}\n").aliases["a"]
    assert [str(target) for target in alias.targets] == ["groq/kimi", "local/x"]
    assert alias.strict
    assert alias.deadlines == DeadlineOverrides(total=5.0)


def test_strictness_is_never_lost_by_another_name():
    aliases = read(
        PROVIDERS
        + "  hard: {route: kimi, strict: true}\n  a: hard\n  b: [local/x, hard]\n  c: {route: hard, strict: false}\n"
    ).aliases
    assert {name: alias.strict for name, alias in aliases.items()} == {"hard": True, "a": True, "b": True, "c": False}


def test_deadlines_go_with_an_alias_that_is_only_another_name():
    aliases = read(
        PROVIDERS + "  slow: {route: kimi, deadlines: {total: 5}}\n  a: slow\n  b: [slow, local/x]\n"
    ).aliases
    assert (aliases["a"].deadlines, aliases["b"].deadlines) == (DeadlineOverrides(total=5.0), None)


@pytest.mark.parametrize(
    ("default", "model", "is_alias"),
    [
        ("fast", "fast", False),
        ("openai/gpt-5", "openai/gpt-5", False),
        ("kimi", "groq/kimi", False),
        ("[kimi, fast]", "default", True),
    ],
)
def test_default_is_the_model_of_calls_that_name_none(default: str, model: str, is_alias: bool):
    config = read(PROVIDERS + f"  fast: local/x\n  default: {default}\n")
    assert config.default_model == model
    assert ("default" in config.aliases) is is_alias


def test_an_alias_at_a_providers_model_counts_like_any_other():
    config = read(
        "auth: {open: true}\nproviders: {local: {models: [{name: m, alias: fast}]}}\nmodels: {default: fast, a: fast}\n"
    )
    assert [str(target) for target in config.aliases["a"].targets] == ["local/m"]
    assert config.default_model == "fast"


def test_an_alias_given_in_two_places_is_refused_with_both():
    text = "auth: {open: true}\nproviders: {local: {models: [{name: m, alias: fast}]}}\nmodels: {fast: local/x}\n"
    assert problem(text) == (
        "tollhouse.yaml:3:16: models.fast: The alias 'fast' is already given at"
        " providers.local.models[0].alias (line 2)."
    )


@pytest.mark.parametrize(
    ("models", "reason"),
    [
        ("  a: []\n", "The route is empty"),
        ("  a: [kimi, kimi]\n", "'kimi' is in this route already"),
        ("  a: {strict: true}\n", "has no `route`"),
        ("  a: {route: kimi, strct: true}\n", "Did you mean 'strict'?"),
        ("  a: {route: {b: c}}\n", "Must be a name, or a list of names"),
        ("  a: [[kimi]]\n", "Must be a single value, not a list"),
        ("  a:\n", "The value is empty"),
        ("  a: 5\n", "put it in quotes"),
        ("  a b: kimi\n", "is not a model's name"),
        ("  openai/gpt-5: kimi\n", "An alias cannot begin with 'openai/'"),
        (f"  a: [{', '.join(f'local/m{n}' for n in range(MAX_ROUTE + 1))}]\n", f"at most {MAX_ROUTE} names"),
    ],
)
def test_a_route_that_cannot_be_used_is_refused(models: str, reason: str):
    assert reason in problem(PROVIDERS + models)


def test_flattened_routes_are_bounded_too():
    half = MAX_ROUTE // 2 + 1
    lists = [", ".join(f"local/{name}{n}" for n in range(half)) for name in "ab"]
    assert "more than 50 targets" in problem(PROVIDERS + f"  a: [{lists[0]}]\n  b: [{lists[1]}]\n  c: [a, b]\n")


def test_a_long_chain_of_aliases_is_refused_and_not_followed():
    chain = "".join(f"  a{n}: a{n + 1}\n" for n in range(5000)) + "  a5000: local/x\n"
    assert any(f"More than {MAX_CHAIN} aliases stand for one another" in line for line in problems(PROVIDERS + chain))


def test_thousands_of_wrong_references_are_not_all_compared_with_thousands_of_names():
    """Looking for the nearest of n names, n times, would keep a reload busy for minutes."""
    text = PROVIDERS + "".join(f"  a{n}: nope{n}\n" for n in range(20_000))
    assert problems(text)[-1] == "tollhouse.yaml: and 19900 more problems."
