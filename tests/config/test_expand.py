import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.config.expand import MAX_SECRET_FILE_BYTES, Expansion, expand
from tollhouse.config.load import read_secret_file

ENVIRON = {"HOST": "example.com", "PORT": "80", "EMPTY": "", "NESTED": "${HOST}", "LINES": "a\nb: c"}
FILES = {
    "/run/secrets/x": b"hidden\n",
    "/run/secrets/dos": b"hidden\r\n",
    "/run/secrets/two": b"hidden\n\n",
    "/run/secrets/bytes": b"\xff",
    "/run/secrets/large": b"x" * (MAX_SECRET_FILE_BYTES + 1),
}


def run(text: str) -> Expansion:
    def read_file(path: str) -> bytes:
        if path not in FILES:
            raise FileNotFoundError(2, "No such file or directory", path)
        return FILES[path]

    return expand(text, ENVIRON, read_file)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("plain", "plain"),
        ("${HOST}", "example.com"),
        ("http://${HOST}:${PORT}/v1", "http://example.com:80/v1"),
        ("${HOST:-other}", "example.com"),
        ("${NOWHERE:-other}", "other"),
        ("${EMPTY:-other}", "other"),
        ("${EMPTY}", ""),
        ("${NOWHERE:-}", ""),
        ("${NOWHERE:-a:-b $x}", "a:-b $x"),
        ("$${HOST}", "${HOST}"),
        ("$$${HOST}", "$${HOST}"),
        ("$HOST and $ and $$", "$HOST and $ and $$"),
        ("${file:/run/secrets/x}", "hidden"),
        ("${file:/run/secrets/dos}", "hidden"),
        ("${file:/run/secrets/two}", "hidden\n"),
        ("a ${file:/run/secrets/x} b", "a hidden b"),
    ],
)
def test_references_are_replaced(text: str, expanded: str):
    result = run(text)
    assert (result.text, result.unset, result.flaws) == (expanded, (), ())


def test_what_a_variable_holds_is_never_expanded_again():
    assert run("${NESTED}").text == "${HOST}"


def test_what_a_variable_holds_is_a_value_and_never_syntax():
    assert run("${LINES}").text == "a\nb: c"


def test_all_unset_variables_are_named_at_once():
    assert run("${A}-${HOST}-${B_2}").unset == ("A", "B_2")


def test_sources_tell_where_text_came_from():
    assert run("${HOST}${file:/run/secrets/x}").sources == ("$HOST", "file /run/secrets/x")
    assert run("plain $${HOST}").sources == ()


def test_a_default_is_text_of_the_file_and_no_secret():
    result = run("${NOWHERE:-other}")
    assert (result.sources, result.defaulted, result.references) == ((), ("NOWHERE",), ("${NOWHERE}",))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("${HOST", "no closing"),
        ("${}", "written ${NAME}"),
        ("${1A}", "written ${NAME}"),
        ("${HOST-x}", "written ${NAME}"),
        ("${ HOST }", "written ${NAME}"),
        ("${A:-${HOST}}", "without another one inside"),
        ("${file:secrets/x}", "must be absolute"),
        ("${file:}", "must be absolute"),
        ("${file:/nowhere}", "cannot be read: No such file"),
        ("${file:/run/secrets/bytes}", "not UTF-8"),
        ("${file:/run/secrets/large}", "larger than 64 KiB"),
    ],
)
def test_a_reference_that_cannot_be_read_is_refused(text: str, reason: str):
    [flaw] = run(text).flaws
    assert reason in flaw


@given(st.text("ab${}:-", max_size=20))
def test_escaping_makes_any_text_literal(text: str):
    assert run(text.replace("${", "$${")).text == text


def test_the_real_reader_is_bounded(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"x" * (3 * MAX_SECRET_FILE_BYTES))
    assert len(read_secret_file(str(path))) == MAX_SECRET_FILE_BYTES + 1
