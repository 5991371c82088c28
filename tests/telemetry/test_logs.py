"""What the gateway says about itself."""

import io
import json

import pytest

from tollhouse.telemetry import logs


def test_a_json_line_holds_the_event_and_its_values():
    out = io.StringIO()
    logs.configure("info", "json", out)
    logs.get("server").info("a worker ended", extra={"worker": 2, "problems": ("a", "b")})
    line = json.loads(out.getvalue())
    assert (line["level"], line["room"], line["event"]) == ("info", "server", "a worker ended")
    assert (line["worker"], line["problems"]) == (2, ["a", "b"])


def test_what_json_cannot_say_is_printed_as_text():
    out = io.StringIO()
    logs.configure("info", "json", out)
    logs.get("server").info("x", extra={"value": object})
    assert "object" in json.loads(out.getvalue())["value"]


def test_an_error_brings_its_traceback_in_the_same_line():
    out = io.StringIO()
    logs.configure("info", "json", out)
    logs.get("gateway").error("failed", exc_info=RuntimeError("boom"))
    assert out.getvalue().count("\n") == 1
    assert "RuntimeError: boom" in json.loads(out.getvalue())["error"]


def read_number(prompt: str) -> int:
    try:
        return int(prompt)
    except ValueError as error:
        raise TypeError("no number") from error


def failed_reading(prompt: str) -> BaseException:
    """An error that quotes what it could not read, and one that came of it."""
    with pytest.raises(TypeError) as caught:
        read_number(prompt)
    return caught.value


@pytest.mark.parametrize("form", ["json", "text"])
def test_an_error_is_told_without_what_it_quotes(form):
    out = io.StringIO()
    logs.configure("info", form, out)
    group = ExceptionGroup("two", [KeyError("Dear Bob"), OSError("gone")])
    logs.get("gateway").error("failed", exc_info=failed_reading("Dear Bob"))
    logs.get("gateway").error("failed", exc_info=group)
    said = out.getvalue()
    assert "Dear Bob" not in said
    assert "ValueError (its words can quote a prompt and are not logged)" in said
    assert "TypeError: no number" in said
    assert "int(prompt)" in said, "the line of code is told"
    assert "OSError: gone" in said


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_credential_is_masked_whoever_logs_it(form):
    out = io.StringIO()
    logs.configure("info", form, out)
    log = logs.get("server")
    log.info(
        "got Authorization: Bearer abcdefgh",
        extra={"why": 'at "postgres://u:hunter2@db/x"', "keys": ["th-" + "k9" * 20]},
    )
    log.error("failed", exc_info=RuntimeError("sk-ant-" + "a1" * 20))
    said = out.getvalue()
    assert said.count("[secret]") == 4
    for secret in ("abcdefgh", "hunter2", "k9k9", "a1a1"):
        assert secret not in said
    if form == "json":
        assert [json.loads(line)["level"] for line in said.splitlines()] == ["info", "error"]


def test_text_lines_are_for_a_terminal():
    out = io.StringIO()
    logs.configure("warning", "text", out)
    logs.get("server").info("hidden")
    logs.get("server").warning("seen", extra={"n": 1})
    assert out.getvalue().endswith("warning server: seen n=1\n")
    assert "hidden" not in out.getvalue()
