import hashlib

import pytest

from support.configs import KEYS, MINIMAL, TYPES, problem, problems, read
from tollhouse.config.schema import (
    Config,
    DeadlineOverrides,
    DeadlineSettings,
    LimitSettings,
    LoggingSettings,
    ModelSettings,
    RateSettings,
    ResponsesSettings,
    RetrySettings,
    ServerSettings,
)
from tollhouse.config.secret import Secret
from tollhouse.config.section import MAX_PROBLEMS


def with_provider(body: str) -> str:
    return f"auth: {{open: true}}\nproviders:\n  {body}\n"


def with_key(body: str) -> str:
    return f"auth:\n  keys:\n    - {body}\nproviders: {{local: {{}}}}\n"


# ------------------------------------------------------------------------------------------------------------- whole file


def test_the_least_file_has_every_default():
    config = read(MINIMAL)
    assert config.server == ServerSettings()
    assert config.retry == RetrySettings()
    assert config.deadlines == DeadlineSettings()
    assert config.logging == LoggingSettings()
    assert config.limits == LimitSettings()
    assert config.ledger.url == "sqlite:///tollhouse.db"
    assert (config.default_model, config.aliases, config.warnings) == (None, {}, ())


def test_everything_can_be_set():
    config = read(
        MINIMAL
        + """
server: {host: "::1", port: 0, admin_host: localhost, admin_port: 1, workers: 64, max_body_bytes: 1024,
         max_concurrent_calls: 1, drain_seconds: 2m, receipts: false, grpc_port: 2, advertised_version: 0.11.6}
ledger: {url: postgresql://ledger@db/tollhouse}
logging: {level: debug, format: text, calls: /var/log/calls.jsonl}
limits: {requests_per_minute: 1, tokens_per_minute: 2, concurrent: 3}
budgets: {hourly: 1, daily: 0.1, weekly: 2.5, monthly: 3, total: 4}
deadlines: {connect: 500ms, first_byte: 1m, between_chunks: 3, total: 1h}
retry: {max_attempts: 1, backoff_base: 0, backoff_cap: 1s, honour_retry_after_up_to: 0}
"""
    )
    assert config.server == ServerSettings(
        host="::1",
        port=0,
        admin_host="localhost",
        admin_port=1,
        grpc_port=2,
        advertised_version="0.11.6",
        workers=64,
        max_body_bytes=1024,
        max_concurrent_calls=1,
        drain_seconds=120.0,
        receipts=False,
    )
    assert config.ledger.url == "postgresql://ledger@db/tollhouse"
    assert config.logging == LoggingSettings(level="debug", format="text", calls="/var/log/calls.jsonl")
    assert config.limits == LimitSettings(
        overall=RateSettings(requests_per_minute=1, tokens_per_minute=2, concurrent=3)
    )
    assert {budget.period: budget.limit_nano for budget in config.budgets} == {
        "hour": 10**9,
        "day": 10**8,
        "week": 25 * 10**8,
        "month": 3 * 10**9,
        "total": 4 * 10**9,
    }
    assert config.deadlines == DeadlineSettings(connect=0.5, first_byte=60.0, between_chunks=3.0, total=3600.0)
    assert config.retry == RetrySettings(
        max_attempts=1, backoff_base=0.0, backoff_cap=1.0, honour_retry_after_up_to=0.0
    )


def test_all_problems_come_at_once_in_the_order_of_the_file():
    found = problems(
        """\
server: {prot: 1, workers: 65}
auth: {keys: [{name: dev, key: "${NOBODY}"}]}
providers:
  openai: {api_key: "${NOTHING}", base_url: ftp://x}
models: {fast: opnai/x}
lgo: {}
"""
    )
    assert [line.partition(": ")[0] for line in found] == [
        "tollhouse.yaml:1:10",
        "tollhouse.yaml:1:28",
        "tollhouse.yaml:2:32",
        "tollhouse.yaml:4:21",
        "tollhouse.yaml:4:45",
        "tollhouse.yaml:5:16",
        "tollhouse.yaml:6:1",
    ]


def test_problems_beyond_a_bound_are_counted():
    found = problems(MINIMAL + "".join(f"nonsense{n}: 1\n" for n in range(MAX_PROBLEMS + 20)))
    assert len(found) == MAX_PROBLEMS + 1
    assert found[-1] == "tollhouse.yaml: and 20 more problems."


def test_flaws_of_the_tree_and_of_the_schema_come_together():
    assert len(problems(MINIMAL + "logging: {level: info, level: debug}\nlimits: {x: 1}\n")) == 2


def test_an_unknown_key_is_refused_with_the_nearest_one():
    assert problem(MINIMAL + "server: {prot: 80}\n") == (
        "tollhouse.yaml:3:10: server.prot: There is no such key. Did you mean 'port'?"
    )


def test_an_unknown_key_like_no_other_is_refused_with_all_keys():
    assert problem(MINIMAL + "deadlines: {zzz: 80}\n") == (
        "tollhouse.yaml:3:13: deadlines.zzz: There is no such key. The keys here are connect, first_byte, between_chunks, total."
    )


@pytest.mark.parametrize(
    "section", ["server", "auth", "ledger", "state", "logging", "cache", "limits", "deadlines", "retry"]
)
@pytest.mark.parametrize(("value", "kind"), [("[]", "a list"), ("word", "a single value")])
def test_a_section_of_the_wrong_kind_is_refused(section: str, value: str, kind: str):
    text = MINIMAL.replace("auth: {open: true}\n", "") if section == "auth" else MINIMAL
    found = problems(text + f"{section}: {value}\n")
    assert any(f"{section}: Must be a mapping (`key: value`), not {kind}." in line for line in found)


@pytest.mark.parametrize(
    "section", ["server", "ledger", "logging", "cache", "limits", "budgets", "deadlines", "retry", "models", "prices"]
)
def test_a_section_with_nothing_in_it_has_its_defaults(section: str):
    assert read(MINIMAL + f"{section}:\n") == read(MINIMAL)


def test_a_list_where_one_value_belongs_is_refused():
    assert problem(MINIMAL + "server: {port: [80]}\n") == (
        "tollhouse.yaml:3:10: server.port: Must be a single value, not a list."
    )


def test_a_value_left_empty_is_refused_and_not_taken_for_the_default():
    assert "logging.level" in problem(MINIMAL + "logging: {level: }\n")
    assert "server.host" in problem(MINIMAL + "server: {host: }\n")


# ----------------------------------------------------------------------------------------------------------- references


def test_numbers_and_booleans_may_come_from_the_environment():
    text = MINIMAL + 'server: {port: "${PORT}", receipts: "${SHOW:-false}", drain_seconds: "${DRAIN}"}\n'
    server = read(text, {"PORT": "8088", "DRAIN": "5s"}).server
    assert (server.port, server.receipts, server.drain_seconds) == (8088, False, 5.0)


def test_a_wrong_value_of_a_variable_is_named_by_its_variable_only():
    assert problem(MINIMAL + 'server: {port: "${PORT}"}\n', {"PORT": "secret"}) == (
        "tollhouse.yaml:3:16: server.port: Must be a whole number from 0 to 65535, not the value of ${PORT}."
    )


def test_several_unset_variables_are_all_named():
    found = problems(MINIMAL + 'ledger: {url: "postgresql://${USER_}:${PASS_}@db"}\n')
    assert ["USER_" in found[0], "PASS_" in found[1]] == [True, True]


def test_an_unset_key_says_all_three_ways_out():
    assert problem(with_provider('openai: {api_key: "${OPENAI_API_KEY}"}'), {}) == (
        "tollhouse.yaml:3:21: providers.openai.api_key: The environment variable OPENAI_API_KEY is not set."
        " Set OPENAI_API_KEY, or remove provider openai, or write ${OPENAI_API_KEY:-} to leave it empty."
    )


def test_a_key_may_come_from_a_file():
    config = read(with_provider('openai: {api_key: "${file:/run/secrets/k}"}'), {}, {"/run/secrets/k": b"sk-file\n"})
    assert config.providers["openai"].api_key == Secret("sk-file")


def test_a_reference_in_a_key_is_not_expanded():
    assert "There is no such key" in problem(MINIMAL + 'server: {"${PORT_KEY}": 1}\n', {"PORT_KEY": "port"})


# --------------------------------------------------------------------------------------------------------------- server


@pytest.mark.parametrize(
    "setting",
    [
        "port: -1", "port: 65536", "port: '80'", "admin_port: x", "workers: 0", "workers: 65", "workers: 1.5", "max_body_bytes: 1023",
        "max_concurrent_calls: 0", "drain_seconds: 2d", "receipts: yes", "host: http://x",
        "grpc_port: 65536", "grpc_port: on", "grpc_port: '50051'", "advertised_version: a b", "advertised_version: ''",
    ],
)  # fmt: skip
def test_a_server_setting_out_of_its_range_is_refused(setting: str):
    assert f"server.{setting.partition(':')[0]}: Must be " in problem(MINIMAL + f"server: {{{setting}}}\n")


def test_callers_and_administrators_cannot_share_a_port():
    assert "server.admin_port" in problem(MINIMAL + "server: {admin_port: 8080}\n")
    assert read(MINIMAL + "server: {port: 0, admin_port: 0}\n").server.port == 0
    assert read(MINIMAL + 'server: {admin_port: 8080, admin_host: "::1"}\n').server.admin_port == 8080


@pytest.mark.parametrize("written", ["none", "off", "null", "~", "0", "'none'"])
def test_grpc_can_be_left_out(written: str):
    assert read(MINIMAL + f"server: {{grpc_port: {written}}}\n").server.grpc_port == 0


def test_grpc_cannot_share_a_port():
    assert "server.grpc_port: gRPC and `port`" in problem(MINIMAL + "server: {port: 50051, grpc_port: 50051}\n")
    assert "server.port: gRPC and `port`" in problem(MINIMAL + "server: {port: 50051}\n")
    assert "gRPC and `admin_port`" in problem(MINIMAL + "server: {admin_port: 7, grpc_port: 7}\n")
    assert read(MINIMAL + 'server: {admin_port: 7, admin_host: "::1", grpc_port: 7}\n').server.grpc_port == 7


def test_an_admin_listener_that_others_reach_is_a_warning():
    [warning] = read(MINIMAL + "server: {admin_host: 0.0.0.0, insecure: true}\n").warnings
    assert warning.startswith("tollhouse.yaml:3:22: server.admin_host: ")


# ----------------------------------------------------------------------------------------------------------------- auth


def test_a_key_is_kept_as_its_digest_only():
    config = read(with_key("{name: dev, key: th-plaintext}"))
    [key] = config.auth.keys
    assert key.digest == hashlib.sha256(b"th-plaintext").digest()
    assert (key.name, key.tenant, key.project) == ("dev", "", "")
    assert "plaintext" not in repr(config)


def test_a_key_may_stand_as_its_digest_and_belong_to_somebody():
    digest = hashlib.sha256(b"th-plaintext").hexdigest()
    [key] = read(with_key(f"{{name: dev, key_sha256: {digest}, tenant: acme, project: bot}}")).auth.keys
    assert (key.digest, key.tenant, key.project) == (bytes.fromhex(digest), "acme", "bot")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("{name: dev}", "no `key`"),
        ("{key: th-plaintext}", "no `name`"),
        ("{name: dev, key: th-plain}\n    - {name: dev, key: th-other}", "already that of auth.keys[0]"),
        ("{name: dev, key: th-plain}\n    - {name: ops, key: th-plain}", "the same key as auth.keys[0]"),
        ("{name: dev, key: short}", "at least 8"),
        ("{name: dev, key: 12345678901}", "put it in quotes"),
        ("{name: a b, key: th-plaintext}", "is not a name"),
        ("{name: dev, key: th-plaintext, key_sha256: " + "0" * 64 + "}", "either the `key` or its `key_sha256`"),
        ("{name: dev, key_sha256: abc}", "64 digits"),
        ("{name: dev, kye: th-plaintext}", "Did you mean 'key'?"),
        ("th-plaintext", "Must be a mapping"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused(body: str, reason: str):
    message = problem(with_key(body))
    assert reason in message
    assert "plaintext" not in message


@pytest.mark.parametrize("auth", ["", "auth: {}\n", "auth: {open: false}\n", "auth:\n"])
def test_nobody_being_able_to_call_is_refused_with_what_to_do(auth: str):
    message = problem(auth + "providers: {local: {}}\n")
    assert "closed by default" in message
    assert "auth.keys" in message
    assert "open: true" in message


def test_an_empty_list_of_keys_is_refused():
    assert "auth.keys: The list is empty" in problem("auth: {keys: []}\nproviders: {local: {}}\n")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", '"::1"', "localhost"])
def test_open_is_allowed_on_loopback(host: str):
    assert read(f"server: {{host: {host}}}\n{MINIMAL}").auth.open


@pytest.mark.parametrize("host", ["0.0.0.0", '"::"', "10.0.0.1", "gateway.example.com"])
def test_open_is_refused_where_others_reach_the_gateway(host: str):
    message = problem(f"server: {{host: {host}, insecure: true}}\n{MINIMAL}")
    assert message.startswith(
        "tollhouse.yaml:2:14: auth.open: Calls without a key are allowed on a loopback address only"
    )


def test_open_is_refused_elsewhere_even_beside_keys():
    keys = "auth: {open: true, keys: [{name: a, key: th-plaintext}]}"
    text = f"server: {{host: 0.0.0.0, insecure: true}}\n{keys}\nproviders: {{local: {{}}}}\n"
    assert "auth.open" in problem(text)


# ------------------------------------------------------------------------------------------------------------ providers


@pytest.mark.parametrize("text", ["", "providers:\n", "providers: {}\n"])
def test_a_file_without_providers_is_refused(text: str):
    assert "nothing could answer" in problem("auth: {open: true}\n" + text)


def test_the_type_is_the_name_where_that_is_one():
    config = read(with_provider("groq: {}\n  mine: {type: groq, api_key: other}"))
    assert [(provider.name, provider.type) for provider in config.providers.values()] == [
        ("groq", "groq"),
        ("mine", "groq"),
    ]


@pytest.mark.parametrize("body", ["opnai: {}", "mine: {type: opnai}"])
def test_an_unknown_type_is_refused_with_the_nearest(body: str):
    message = problem(with_provider(body))
    assert "Did you mean 'openai'?" in message
    assert all(name in message for name in TYPES)


def test_a_key_that_the_file_lacks_is_taken_from_the_usual_variable():
    assert read(with_provider("openai:"), KEYS).providers["openai"].api_key == Secret(KEYS["OPENAI_API_KEY"])


def test_a_bad_key_in_the_usual_variable_is_refused_and_not_repeated():
    message = problem(with_provider("openai: {}"), {"OPENAI_API_KEY": "plain text"})
    assert "OPENAI_API_KEY" in message
    assert "plain text" not in message


@pytest.mark.parametrize("environ", [{}, {"OPENAI_API_KEY": ""}])
def test_a_provider_without_the_key_that_it_needs_is_refused(environ: dict[str, str]):
    message = problem(with_provider("openai: {}"), environ)
    assert message.startswith("tollhouse.yaml:3:3: providers.openai: Provider openai has no key: set OPENAI_API_KEY")


def test_a_misspelt_key_is_one_problem_and_not_two():
    assert "Did you mean 'api_key'?" in problem(with_provider("openai: {api_kee: x}"), {})


def test_candidates_that_are_never_tried_are_a_warning():
    """Each attempt takes one, so the last of a long route would only be there to look at."""
    route = "models: {wide: [local/1, local/2, local/3], same: wide, wider: [wide, local/4, local/5]}\n"
    [warning] = read(MINIMAL + route).warnings
    assert "models.wider: Only the first 4 of these 5 candidates are ever tried" in warning
    assert read(MINIMAL + route + "retry: {max_attempts: 5}\n").warnings == ()
    assert len(read(MINIMAL + route + "retry: {max_attempts: 2}\n").warnings) == 2


def test_a_key_left_empty_on_purpose_is_a_warning():
    config = read(with_provider('openai: {api_key: "${OPENAI_API_KEY:-}"}'), {})
    assert config.providers["openai"].api_key is None
    assert "left empty" in config.warnings[0]


def test_a_key_that_is_empty_by_accident_is_refused():
    assert "${OPENAI_API_KEY}" in problem(
        with_provider('openai: {api_key: "${OPENAI_API_KEY}"}'), {"OPENAI_API_KEY": ""}
    )


def test_kept_responses_have_bounds_and_can_be_switched_off():
    assert read(MINIMAL).responses == ResponsesSettings(
        store=True, retention_days=30, max_bytes=2**30, max_response_bytes=2**24
    )
    given = "responses: {store: false, retention_days: 7, max_bytes: 2GiB, max_response_bytes: 1MiB}\n"
    assert read(MINIMAL + given).responses == ResponsesSettings(
        store=False, retention_days=7, max_bytes=2**31, max_response_bytes=2**20
    )
    for wrong in ("{retention_days: 0}", "{max_bytes: 1KB}", "{stor: true}"):
        assert "responses" in problem(f"{MINIMAL}responses: {wrong}\n")


def test_a_type_without_an_address_of_its_own_needs_one():
    assert "needs a `base_url`" in problem(with_provider("lab: {type: openai-compatible}"))


def test_a_provider_has_models_headers_deadlines_a_proxy_and_options():
    config = read(
        with_provider(
            """glm:
    api_key: k
    models: [glm-4, {name: glm-5, alias: best, context_tokens: 128000, max_output_tokens: 8192, api: chat}]
    headers: {X-Team: "${TEAM}"}
    deadlines: {total: 30s}
    proxy: http://user:plaintext@proxy:3128
    options: {token_seconds: 60, mint: true}"""
        ),
        {"TEAM": "seven"},
    )
    glm = config.providers["glm"]
    assert glm.models == (
        ModelSettings(name="glm-4"),
        ModelSettings(name="glm-5", alias="best", context_tokens=128_000, max_output_tokens=8192, api="chat"),
    )
    assert {name: value.reveal() for name, value in glm.headers.items()} == {"x-team": "seven"}
    assert glm.deadlines == DeadlineOverrides(total=30.0)
    assert glm.proxy == "http://user:plaintext@proxy:3128"
    assert glm.options == {"token_seconds": 60, "mint": True}
    assert "plaintext" not in repr(config)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("{models: gpt}", "Must be a list, not a single value"),
        ("{models: [gpt, gpt]}", "listed twice"),
        ("{models: [{alias: x}]}", "no `name`"),
        ("{models: [4.5]}", "put it in quotes"),
        ("{models: [{name: x, max_output_tokens: 0}]}", "whole number from 1"),
        ("{models: [{name: x, api: assistants}]}", "one of chat, responses"),
        ("{headers: {Host: x}}", "belongs to the transport"),
        ("{headers: {X-A: 1, x-a: 2}}", "given twice"),
        ("{headers: [x]}", "Must be a mapping of names, not a list"),
        ("{options: {mint: true}}", "Type 'openai' has no such option. It has none."),
        ("{deadlines: {totl: 1}}", "Did you mean 'total'?"),
    ],
)
def test_a_provider_setting_that_cannot_be_used_is_refused(body: str, reason: str):
    assert reason in problem(with_provider(f"openai: {body}"))


def test_an_unknown_option_is_refused_with_the_nearest():
    message = problem(with_provider("glm: {options: {token_second: 1}}"))
    assert "Did you mean 'token_seconds'? The options are token_seconds, mint." in message


def test_whose_things_may_be_named_is_for_a_provider_to_say():
    body = "openai: {{api_key: sk-x{}}}"
    said = [
        read(with_provider(body.format(more))).providers["openai"].foreign_ids for more in ("", ", foreign_ids: allow")
    ]
    assert said == [None, "allow"]
    assert "Did you mean 'refuse'?" in problem(with_provider(body.format(", foreign_ids: refused")))


def test_a_name_of_a_provider_has_no_slash():
    assert "is not a name" in problem(with_provider("a/b: {type: local}"))


def test_deadlines_are_the_aliases_over_the_providers_over_the_general_ones():
    config = read(
        """\
auth: {open: true}
deadlines: {connect: 1, first_byte: 1, between_chunks: 1, total: 1}
providers: {local: {deadlines: {first_byte: 2, between_chunks: 2, total: 2}}}
models:
  slow: {route: local/x, deadlines: {between_chunks: 3, total: 3}}
  plain: local/x
"""
    )
    assert config.deadlines_for("local", "slow") == DeadlineSettings(
        connect=1.0, first_byte=2.0, between_chunks=3.0, total=3.0
    )
    assert config.deadlines_for("local", "plain") == config.deadlines_for("local")
    assert config.deadlines_for("nobody", "nothing") == config.deadlines


# --------------------------------------------------------------------------------------------------------------- prices


def test_prices_are_exact_integers_of_nano_dollars_a_million_tokens():
    config = read(
        MINIMAL
        + """
prices:
  local/small: {input: 0.075, output: 0.3, cache_read: 0.01875, cache_write: 1, request: 0.0001}
  "groq/*": {input: 0}
"""
    )
    assert config.prices.overrides["local/small"] == {
        "input": 75_000_000,
        "output": 300_000_000,
        "cache_read": 18_750_000,
        "cache_write": 1_000_000_000,
        "request": 100_000,
    }
    assert config.prices.overrides["groq/*"] == {"input": 0}


def test_prices_may_stand_at_a_providers_model():
    config = read(with_provider("local: {models: [{name: a/b, prices: {input: 1.5}}]}"))
    assert config.prices.overrides == {"local/a/b": {"input": 1_500_000_000}}


@pytest.mark.parametrize(
    ("prices", "reason"),
    [
        ("{small: {input: 1}}", "A price is for `provider/model`"),
        ("{lcal/x: {input: 1}}", "Did you mean 'local'?"),
        ("{local/x: {inptu: 1}}", "Did you mean 'input'?"),
        ("{local/x: {input: -1}}", "Must be an amount in US dollars"),
        ("{local/x: {input: 0.0000000001}}", "billionth"),
        ("{local/x: {input: '1'}}", "without quotes"),
        ("{local/x: {}}", "There are no prices here"),
        ("{local/x: 3}", "Must be a mapping"),
    ],
)
def test_a_price_that_cannot_be_used_is_refused(prices: str, reason: str):
    assert reason in problem(MINIMAL + f"prices: {prices}\n")


def test_a_models_prices_cannot_stand_in_two_places():
    text = with_provider("local: {models: [{name: x, prices: {input: 1}}]}") + "prices: {local/x: {input: 2}}\n"
    assert "stand at the provider's `models` already" in problem(text)


# --------------------------------------------------------------------------------------------------------------- values


def test_a_configuration_cannot_be_changed_after_it_is_read():
    config: Config = read(MINIMAL)
    with pytest.raises(AttributeError):
        config.server.port = 1  # type: ignore[misc]  # that it is refused at run time too is the point
    with pytest.raises(TypeError):
        config.providers["x"] = config.providers["local"]  # type: ignore[index]  # as above
