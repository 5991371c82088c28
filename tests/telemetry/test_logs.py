"""What the gateway says about itself."""

import io
import json

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
    logs.get("gateway").error("failed", exc_info=ValueError("boom"))
    assert out.getvalue().count("\n") == 1
    assert "ValueError: boom" in json.loads(out.getvalue())["error"]


def test_text_lines_are_for_a_terminal():
    out = io.StringIO()
    logs.configure("warning", "text", out)
    logs.get("server").info("hidden")
    logs.get("server").warning("seen", extra={"n": 1})
    assert out.getvalue().endswith("warning server: seen n=1\n")
    assert "hidden" not in out.getvalue()
