"""From a configuration to its redactor."""

import pytest

from support.configs import MINIMAL, read
from tollhouse.errors import ConfigError
from tollhouse.policy.redaction.configured import credentials_redactor, redactor_of

TEXT = "bob@example.com sk-abcdefghijklmnopqrst B-1234"


def test_the_kinds_and_patterns_of_the_configuration_are_used():
    config = read(MINIMAL + r"logging: {redact: [email, badge], patterns: {badge: 'B-\d{4}'}}")
    assert redactor_of(config).redact(TEXT) == "[email] sk-abcdefghijklmnopqrst [badge]"
    assert redactor_of(config, "secrets").redact(TEXT) == "[email] [secret] [badge]"


def test_all_kinds_and_patterns_are_used_where_none_is_named():
    config = read(MINIMAL + r"logging: {patterns: {badge: 'B-\d{4}'}}")
    assert redactor_of(config).redact(TEXT) == "[email] [secret] [badge]"


def test_a_pattern_without_an_end_is_refused_with_its_place():
    config = read(MINIMAL + "logging: {patterns: {badge: 'B-[0-9]+'}}")
    with pytest.raises(ConfigError, match=r"logging\.patterns\.badge.*no upper end"):
        redactor_of(config)


def test_a_reload_that_changes_nothing_of_it_compiles_nothing():
    written = MINIMAL + r"logging: {redact: [email, badge], patterns: {badge: 'B-\d{4}'}}"
    assert redactor_of(read(written)) is redactor_of(read(written))
    assert redactor_of(read(written)) is not redactor_of(read(written), "secrets")
    assert redactor_of(read(written)) is not redactor_of(read(written.replace("{4}", "{5}")))


def test_what_finds_credentials_alone_is_made_once():
    assert redactor_of(read(MINIMAL + "logging: {redact: []}"), "secrets") is credentials_redactor()
    assert credentials_redactor().redact("key sk-proj-abcdefghijklmnopqrstuvwxyz0123456789") == "key [secret]"
