"""The section `telemetry`: where traces are sent, and how many."""

import pytest

from support.configs import EXAMPLE, KEYS, MINIMAL, problem, problems, read
from tollhouse.config.load import Change, diff
from tollhouse.config.schema import TelemetrySettings, TraceSettings
from tollhouse.config.secret import MASK
from tollhouse.config.show import show

ENDPOINT = "endpoint: 'http://127.0.0.1:4318'"


def traces(more: str = "", endpoint: str = ENDPOINT) -> str:
    return MINIMAL + f"telemetry: {{traces: {{{endpoint}{more}}}}}\n"


def test_nothing_is_sent_anywhere_unless_it_is_said():
    for text in ("", "telemetry: {}\n"):
        assert read(MINIMAL + text).telemetry == TelemetrySettings(traces=None)


def test_an_endpoint_is_enough():
    assert read(traces()).telemetry.traces == TraceSettings(
        endpoint="http://127.0.0.1:4318", sample=0.1, headers={}, timeout_seconds=10.0
    )


def test_everything_can_be_said():
    config = read(traces(', sample: 0, timeout: 2.5s, headers: {X-Team: "${TEAM}"}'), {**KEYS, "TEAM": "t0ken"})
    settings = config.telemetry.traces
    assert settings is not None
    assert (settings.sample, settings.timeout_seconds) == (0.0, 2.5)
    assert {name: value.reveal() for name, value in settings.headers.items()} == {"x-team": "t0ken"}
    assert config.warnings == ()


def test_headers_are_not_shown():
    config = read(traces(", headers: {authorization: Bearer plaintext}"))
    assert "plaintext" not in show(config.places) + repr(config)
    assert MASK in show(config.places).partition("telemetry:")[2]


def test_what_is_shown_loads_again_and_is_the_same():
    config = read(traces())
    assert read(show(config.places)).telemetry == config.telemetry
    assert "timeout: 10s" in show(config.places)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("telemetry: {traces: {}}", "telemetry.traces: The section has no `endpoint`"),
        ("telemetry: {traces: {sample: 1}}", "telemetry.traces: The section has no `endpoint`"),
        ("telemetry: {trace: {}}", "Did you mean 'traces'?"),
        (f"telemetry: {{traces: {{{ENDPOINT}, samples: 1}}}}", "Did you mean 'sample'?"),
        (
            f"telemetry: {{traces: {{{ENDPOINT}, sample: 1.1}}}}",
            "telemetry.traces.sample: Must be a fraction from 0 to 1",
        ),
        (f"telemetry: {{traces: {{{ENDPOINT}, sample: -0.1}}}}", "Must be a fraction from 0 to 1"),
        (f"telemetry: {{traces: {{{ENDPOINT}, sample: '0.1'}}}}", "Must be a fraction from 0 to 1"),
        (f"telemetry: {{traces: {{{ENDPOINT}, sample: 10%}}}}", "Must be a fraction from 0 to 1"),
        (f"telemetry: {{traces: {{{ENDPOINT}, timeout: 0}}}}", "telemetry.traces.timeout: Must be a duration"),
        (f"telemetry: {{traces: {{{ENDPOINT}, headers: {{Host: x}}}}}}", "belongs to the transport"),
        (f"telemetry: {{traces: {{{ENDPOINT}, headers: [x]}}}}", "Must be a mapping of names"),
        ("telemetry: {traces: {endpoint: 127.0.0.1:4318}}", "must begin with https:// or http://"),
        ("telemetry: {traces: {endpoint: 'http://u:pw@h:4318'}}", "put the credential under `headers`"),
        ("telemetry: {traces: true}", "Must be a mapping"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, words: str):
    assert words in problem(MINIMAL + text + "\n")


def test_credentials_in_plain_text_to_another_machine_are_warned_of():
    (warning,) = read(traces(", headers: {x-team: a}", "endpoint: 'http://collector.example:4318'")).warnings
    assert "telemetry.traces.headers: These go to another machine in plain text" in warning
    for endpoint in ("http://localhost:4318", "http://[::1]:4318", "https://collector.example"):
        assert read(traces(", headers: {x-team: a}", f"endpoint: '{endpoint}'")).warnings == ()
    assert read(traces("", "endpoint: 'http://collector.example:4318'")).warnings == ()


def test_a_secret_of_the_environment_is_not_repeated_in_a_problem():
    said = problems(traces(', headers: {x-team: "${TEAM}"}'), {**KEYS, "TEAM": "t0ken\u00e9"})
    assert said
    assert not any("t0ken" in line for line in said)


def test_a_change_needs_a_restart():
    before = EXAMPLE + f"telemetry: {{traces: {{{ENDPOINT}}}}}\n"
    changed = {
        "sample: 1": "telemetry.traces.sample",
        "timeout: 1s": "telemetry.traces.timeout",
        "headers: {a: b}": "telemetry.traces.headers.a",
    }
    for what, path in changed.items():
        after = before.replace(ENDPOINT, f"{ENDPOINT}, {what}")
        assert diff(read(before, KEYS), read(after, KEYS)) == (Change(path, needs_restart=True),)
