"""The sections that say where things are kept: `ledger`, `state`, `logging`, `cache`."""

import pytest

from support.configs import KEYS, MINIMAL, problem, problems, read
from tollhouse.config.schema import (
    CacheSettings,
    LedgerSettings,
    LoggingSettings,
    ResponseCacheSettings,
    StateSettings,
)
from tollhouse.config.secret import MASK
from tollhouse.config.show import show

STATE = "state: {url: 'redis://127.0.0.1:6379/0'}\n"
AS_DOCUMENTED = """
auth:
  keys: [{name: dev, key: "${TOLLHOUSE_KEY}", limits: {requests_per_minute: 60}, budget: {daily: 5.0}}]
limits: {requests_per_minute: 600, tokens_per_minute: 200000, concurrent: 200, max_wait: 2s, per_ip: {requests_per_minute: 120}}
budgets:
  - {scope: global, hourly: 10.0, daily: 100.0}
  - {scope: "tenant:research", monthly: 500.0, alert_at: [0.5, 0.9], webhook: "https://hooks.example.org/x"}
server: {workers: 4}
state: {url: "redis://127.0.0.1:6379/0"}            # optional; without it, shared by the workers of this machine
ledger: {url: "postgresql://tollhouse@127.0.0.1/tollhouse", retention: 400d}
logging: {level: info, bodies: off, redact: [email, phone, card, iban, ip, secrets], retention: 30d}
cache: {responses: {ttl: 10m, max_bytes: 256MiB}, coalesce: true}
"""


def test_the_sections_load_as_they_are_written_for_users():
    config = read(AS_DOCUMENTED + "providers: {local: {}}\n", KEYS)
    assert config.warnings == ()
    assert len(config.budgets) == 4
    assert config.ledger.retention_seconds == 400 * 86_400
    assert config.logging == LoggingSettings()
    assert config.cache == CacheSettings(responses=ResponseCacheSettings(ttl_seconds=600.0), coalesce=True)


# ----------------------------------------------------------------------------------------------------- ledger and state


def test_the_ledger_may_forget_and_say_where_a_machine_keeps_its_state():
    assert read(MINIMAL + "ledger: {retention: 1d, state_folder: /var/lib/tollhouse}\n").ledger == LedgerSettings(
        retention_seconds=86_400.0, state_folder="/var/lib/tollhouse"
    )


@pytest.mark.parametrize("retention", ["400", "0.5d", "12h", "-1d", "40000d", "1y", "400 d", "forever"])
def test_a_retention_has_a_unit_and_is_at_least_a_day(retention: str):
    assert "ledger.retention: Must be a" in problem(MINIMAL + f"ledger: {{retention: {retention}}}\n")


def test_a_shared_store_can_be_named():
    text = "state: {url: 'rediss://u:p@h:1/2', when_lost: closed, budget_allowance: 0.25}\n"
    assert read(MINIMAL + text).state == StateSettings(
        url="rediss://u:p@h:1/2", when_lost="closed", budget_allowance_nano=250_000_000
    )


@pytest.mark.parametrize(
    "url", ["redis://h", "redis://h/", "rediss://:p@h:6379", "valkey://[::1]:6379/15", "valkeys://u:p%2F%3F@h/0"]
)
def test_addresses_of_a_shared_store(url: str):
    assert read(MINIMAL + f"state: {{url: '{url}'}}\n").state.url == url


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://h", "The address must begin with redis://, rediss:// (TLS), valkey:// or valkeys:// (TLS)."),
        ("127.0.0.1:6379", "The address must begin with redis://"),
        ("redis://", "The address needs a host"),
        ("redis://u:hunter2@h:0", "The address needs a host, and a port"),
        ("redis://u:hunter2@h:99999", "The address has a broken host or port"),
        ("redis://u:hunter2@h/zero", "The path must be the number of a database"),
        ("redis://u:hunter2@h/0?ssl_cert_reqs=none", "The address must not hold a query"),
        ("redis://u:hunter2#x@h/0", "The address must not hold a query"),
    ],
)
def test_what_is_no_address_of_a_shared_store_is_refused_without_repeating_it(url: str, sentence: str):
    found = problem(MINIMAL + f"state: {{url: '{url}'}}\n")
    assert f"state.url: {sentence}" in found
    assert "hunter2" not in found


def test_passwords_in_addresses_are_never_shown():
    text = "state: {url: 'redis://u:hunter2@h/0'}\nledger: {url: 'postgresql://u:hunter2@h/d?password=hunter2'}\n"
    config = read(MINIMAL + text)
    shown = show(config.places)
    assert "hunter2" not in shown + repr(config)
    assert 'url: "redis://***@h/0"' in shown
    assert 'url: "postgresql://***@h/d?***"' in shown
    from_elsewhere = read(MINIMAL + "state: {url: '${URL}'}\n", {"URL": "redis://h/0"})
    assert f'url: "{MASK}"' in show(from_elsewhere.places)


def test_a_state_without_an_address_has_no_effect_and_says_so():
    (warning,) = read(MINIMAL + "state: {when_lost: closed}\n").warnings
    assert "state: Without a `url` there is no shared store, so nothing here has an effect." in warning


# --------------------------------------------------------------------------------------------------------------- logging


def test_bodies_can_be_kept_redacted():
    text = r"""
logging:
  bodies: redacted
  bodies_path: /var/lib/bodies.db
  retention: 36h
  redact: [email, ticket]
  patterns: {ticket: 'TCK-\d+'}
  redact_upstream: true
"""
    config = read(MINIMAL + text)
    assert config.logging == LoggingSettings(
        bodies="redacted",
        bodies_path="/var/lib/bodies.db",
        retention_seconds=36 * 3600.0,
        redact=("email", "ticket"),
        patterns={"ticket": r"TCK-\d+"},
        redact_upstream=True,
    )
    assert config.warnings == ()


def test_patterns_are_used_where_nothing_is_named():
    settings = read(MINIMAL + "logging: {patterns: {ticket: 'TCK-[0-9]+'}}\n").logging
    assert settings.redact == (*LoggingSettings().redact, "ticket")


def test_a_pattern_that_is_not_named_is_told_of():
    (warning,) = read(MINIMAL + "logging: {redact: [email], patterns: {ticket: x+}}\n").warnings
    assert "logging.patterns.ticket: `redact` does not name this pattern, so it is not used." in warning


@pytest.mark.parametrize(
    ("logging", "sentence"),
    [
        ("{bodies: on}", "Must be one of off, redacted, full, not 'on'."),
        ("{redact: [mail]}", "logging.redact[0]: Must be one of email, phone, card, iban, ip, secrets, not 'mail'."),
        ("{redact: [email, email]}", "logging.redact[1]: 'email' is named twice."),
        ("{redact: email}", "logging.redact: Must be a list"),
        ("{bodies: redacted, redact: []}", "Nothing is named here, so nothing would be redacted"),
        ("{redact_upstream: true, redact: []}", "Nothing is named here"),
        ("{patterns: {email: x}}", "'email' is a kind that is known already; give yours another name."),
        ("{patterns: {'a b': x}}", "is not a name"),
        ("{patterns: {t: '('}}", "logging.patterns.t: RE2 does not take this expression (missing ): ()."),
        (r"{patterns: {t: '(a)\1'}}", r"RE2 does not take this expression (invalid escape sequence: \1)."),
        ("{patterns: {t: 'a(?=b)'}}", "RE2 does not take this expression (invalid perl operator: (?=)."),
        ("{patterns: {t: 'x*'}}", "The expression matches a text of no characters, so it would match everywhere."),
        ("{retention: 30}", "logging.retention: Must be a time with its unit such as 400d or 36h, not '30'."),
    ],
)
def test_logging_that_cannot_be_meant_is_refused(logging: str, sentence: str):
    assert sentence in problem(MINIMAL + f"logging: {logging}\n")


def test_an_expression_from_the_environment_is_not_repeated():
    found = problem(MINIMAL + "logging: {patterns: {t: '${X}'}}\n", {"X": "(hunter2"})
    assert found.endswith("RE2 does not take this expression.")


def test_nothing_need_be_redacted_where_nothing_is_kept():
    assert read(MINIMAL + "logging: {redact: []}\n").logging.redact == ()


def test_the_older_name_of_logging_is_taken_with_a_word():
    config = read(MINIMAL + "log: {level: debug}\n")
    assert config.logging.level == "debug"
    assert config.warnings == ("tollhouse.yaml:3:1: log: This is the older name of `logging`; rename it.",)
    assert "log:" not in show(config.places).replace("logging:", "")
    assert read(show(config.places).replace('"***"', "x-masked-key")).logging == config.logging


def test_a_mistake_under_the_older_name_is_told_where_it_stands():
    assert problem(MINIMAL + "log: {level: loud}\n").startswith("tollhouse.yaml:3:14: log.level: Must be one of")


def test_both_names_of_logging_at_once_are_refused():
    assert problem(MINIMAL + "logging: {level: info}\nlog: {level: debug}\n") == (
        "tollhouse.yaml:4:1: log: This is the older name of `logging`, which the file has too; move what is here there."
    )


# ----------------------------------------------------------------------------------------------------------------- cache


def test_nothing_is_cached_unless_it_is_asked_for():
    assert read(MINIMAL).cache == CacheSettings()
    assert read(MINIMAL + "cache: {}\n").cache == CacheSettings(responses=None, coalesce=False)


def test_answers_can_be_kept():
    text = "cache: {responses: {ttl: 2d, max_bytes: 1GB, shared: true, scope: key}}\n"
    assert read(MINIMAL + STATE + text).cache.responses == ResponseCacheSettings(
        ttl_seconds=172_800.0, max_bytes=10**9, shared=True, scope="key"
    )


@pytest.mark.parametrize(
    ("cache", "sentence"),
    [
        ("{responses: {}}", "cache.responses: The section has no `ttl`"),
        ("{responses: }", "cache.responses: The section has no `ttl`"),
        ("{responses: 10m}", "cache.responses: Must be a mapping (`key: value`), not a single value."),
        ("{responses: {ttl: 0}}", "cache.responses.ttl: Must be a duration from 1 s to 30 d, not '0'."),
        ("{responses: {ttl: 31d}}", "cache.responses.ttl: Must be a duration from 1 s to 30 d, not '31d'."),
        ("{responses: {ttl: 1m, max_bytes: 256M}}", "Must be a size such as 1048576, 64KiB or 256MiB, not '256M'."),
        ("{responses: {ttl: 1m, max_bytes: 1KiB}}", "Must be a size from 65,536 to"),
        ("{responses: {ttl: 1m, scope: project}}", "Must be one of tenant, key, global, not 'project'."),
        ("{responses: {ttl: 1m, shared: true}}", "There is no store to share it in: set `state.url`, or remove this."),
        ("{coalesce: 1}", "cache.coalesce: Must be true or false"),
        ("{respones: {ttl: 1m}}", "cache.respones: There is no such key. Did you mean 'responses'?"),
    ],
)
def test_a_cache_that_cannot_be_meant_is_refused(cache: str, sentence: str):
    assert sentence in problem(MINIMAL + f"cache: {cache}\n")


# --------------------------------------------------------------------------------------------------------------- proxies


def test_networks_of_proxies_are_kept_in_one_form():
    text = "server: {trusted_proxies: [10.0.0.0/8, 192.0.2.7, '2001:DB8::/32']}\n"
    assert read(MINIMAL + text).server.trusted_proxies == ("10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32")


def test_all_networks_that_are_none_are_told_at_once():
    text = "server: {trusted_proxies: [10.0.0.1/8, localhost, 10.0.0.0/33, '::ffff:10.0.0.0/104']}\n"
    found = problems(MINIMAL + text)
    assert [line.partition(": ")[2] for line in found] == [
        (
            "server.trusted_proxies[0]: '10.0.0.1/8' has bits below its mask; write 10.0.0.0/8 for the network,"
            " or leave /8 away."
        ),
        "server.trusted_proxies[1]: Must be a network such as 10.0.0.0/8, or an IP address, not 'localhost'.",
        "server.trusted_proxies[2]: Must be a network such as 10.0.0.0/8, or an IP address, not '10.0.0.0/33'.",
        "server.trusted_proxies[3]: '::ffff:10.0.0.0/104' is IPv4 in IPv6's clothes; write the IPv4 network itself.",
    ]


def test_trusting_everybody_is_told_of():
    (warning,) = read(MINIMAL + "server: {trusted_proxies: [0.0.0.0/0]}\n").warnings
    assert "server.trusted_proxies[0]: Everybody is in this network" in warning
