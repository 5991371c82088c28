import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.config.tree import (
    FASTEST_PARSER,
    MAX_FILE_BYTES,
    PURE_PARSER,
    Items,
    Mark,
    Parser,
    Scalar,
    Table,
    core_kind,
    read_tree,
)

PARSERS = pytest.mark.parametrize("parser", [FASTEST_PARSER, PURE_PARSER], ids=["libyaml", "pure"])


def flaw_of(text: str | bytes, parser: Parser = FASTEST_PARSER) -> tuple[int, int, str]:
    tree = read_tree(text.encode() if isinstance(text, str) else text, parser)
    assert len(tree.flaws) == 1, tree.flaws
    [flaw] = tree.flaws
    return flaw.mark.line, flaw.mark.column, flaw.sentence


@PARSERS
def test_every_node_knows_its_line_and_column(parser: Parser):
    root = read_tree(b"a: 1\nb:\n  - x\n  - {c: 'y'}\n", parser).root
    assert isinstance(root, Table)
    assert [(entry.key, entry.mark) for entry in root.entries] == [("a", Mark(1, 1)), ("b", Mark(2, 1))]
    items = root.entries[1].value
    assert isinstance(items, Items)
    assert items.items[0] == Scalar("x", Mark(3, 5), is_plain=True)
    inner = items.items[1]
    assert isinstance(inner, Table)
    assert inner.entries[0].value == Scalar("y", Mark(4, 9))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("no", "string"), ("yes", "string"), ("on", "string"), ("off", "string"), ("12:30:45", "string"), ("1_000", "string"),
        ("0b11", "string"), ("true", "boolean"), ("False", "boolean"), ("TRUE", "boolean"), ("tRUE", "string"),
        ("", "null"), ("~", "null"), ("null", "null"), ("Null", "null"), ("nUll", "string"), ("0", "integer"), ("-7", "integer"),
        ("017", "integer"), ("0o17", "integer"), ("0xfF", "integer"), ("0x", "string"), ("1.5", "number"), (".5", "number"), ("1.", "number"),
        ("1e3", "number"), ("-.inf", "number"), (".NaN", "number"), ("1.2.3", "string"), ("2026-01-01", "string"), (".", "string"),
    ],
)  # fmt: skip
def test_plain_scalars_are_what_the_core_schema_of_yaml_1_2_says(text: str, kind: str):
    assert core_kind(text) == kind


@PARSERS
def test_a_key_given_twice_is_refused_with_both_lines(parser: Parser):
    assert flaw_of("a: 1\nb: 2\na: 3\n", parser) == (3, 1, "The key 'a' was already given on line 1.")


def test_all_duplicates_are_reported_at_once():
    assert [flaw.mark.line for flaw in read_tree(b"a: {x: 1, x: 2}\nb: 1\nb: 2\nb: 3\n").flaws] == [1, 3, 4]


@PARSERS
def test_a_second_document_is_refused(parser: Parser):
    line, _, sentence = flaw_of("a: 1\n---\nb: 1\n", parser)
    assert line == 2
    assert "second document" in sentence


@pytest.mark.parametrize("text", ["a: !!str 1", "a: !!python/object:os.system x", "a: !local {b: c}", "!x a: 1"])
def test_tags_are_refused(text: str):
    assert "Tags" in flaw_of(text)[2]


def test_another_yaml_version_is_refused_because_its_scalars_mean_something_else():
    assert "YAML 1.2" in flaw_of("%YAML 1.1\n---\na: no\n")[2]


def test_merge_keys_are_refused():
    assert flaw_of("b: &x {k: 1}\na:\n  <<: *x\n")[0] == 3


@pytest.mark.parametrize("text", ["? [a, b]\n: c", "? {a: b}\n: c", "&k [x]: 1"])
def test_a_key_that_is_not_a_word_is_refused(text: str):
    assert "A key must be" in flaw_of(text)[2]


def test_an_empty_key_is_refused():
    assert flaw_of('"": 1') == (1, 1, "A key is empty.")


def test_an_alias_repeats_its_anchor():
    root = read_tree(b"a: &x [1, 2]\nb: *x\n").root
    assert isinstance(root, Table)
    assert root.entries[0].value == root.entries[1].value


@PARSERS
def test_aliases_that_blow_up_are_refused_before_they_do(parser: Parser):
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    line, _, sentence = flaw_of("\n".join(["a0: &a0 x", *levels]), parser)
    assert line == 6
    assert "100,000" in sentence


@pytest.mark.parametrize(
    ("text", "reason"),
    [("a: &a [*a]", "inside itself"), ("a: *b", "no anchor before it"), ("a: &b x\nc: &b [*b]", "inside itself")],
)
def test_an_alias_to_itself_or_to_nothing_is_refused(text: str, reason: str):
    assert reason in flaw_of(text)[2]


@PARSERS
@pytest.mark.parametrize("text", ["[" * 200, "a: " + "{b: " * 100, "- " * 60 + "x"], ids=["lists", "tables", "blocks"])
def test_deep_nesting_is_refused_by_number(text: str, parser: Parser):
    assert "deeper than 32" in flaw_of(text, parser)[2]


def test_more_nodes_than_the_bound_are_refused():
    assert "100,000" in flaw_of("a: [" + "1," * 100_001 + "]")[2]


def test_a_file_over_one_mebibyte_is_refused_unread():
    assert flaw_of(b"#" * (MAX_FILE_BYTES + 1)) == (1, 1, "The file is larger than 1 MiB.")
    assert read_tree(b"#" * MAX_FILE_BYTES).flaws == ()


def test_what_is_not_utf_8_is_refused_with_its_line():
    assert flaw_of(b"a: 1\nb: \xff\n")[0] == 2


def test_a_byte_order_mark_is_no_part_of_the_first_key():
    root = read_tree(b"\xef\xbb\xbfa: 1").root
    assert isinstance(root, Table)
    assert root.entries[0].key == "a"


@PARSERS
def test_a_character_that_yaml_does_not_allow_is_refused_with_its_line(parser: Parser):
    line, _, sentence = flaw_of("a: 1\nb: \x01\n", parser)
    assert (line, "character" in sentence) == (2, True)


@PARSERS
@pytest.mark.parametrize(
    ("text", "line"), [("a: 1\nb: c: d\n", 2), ("a: [1, 2\n", 2), ("a: 'x\n", 2), ("a: @x\n", 1), ("a: %x\n", 1)]
)
def test_broken_yaml_is_refused_with_its_line_and_without_its_text(text: str, line: int, parser: Parser):
    tree = read_tree(text.encode(), parser)
    assert [flaw.mark.line for flaw in tree.flaws] == [line]
    assert tree.root is None
    assert tree.flaws[0].sentence.startswith("This is not YAML: ")


def test_tabs_are_named_as_the_mistake():
    assert flaw_of("a:\n\tb: 1\n")[2].endswith("Indent with spaces, not with tabs.")


def test_a_reference_without_quotes_in_braces_is_named_as_the_mistake():
    assert flaw_of("a: {b: ${X}}\n")[2].endswith('write a reference in quotes: "${NAME}".')


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file_is_an_empty_tree(text: str):
    tree = read_tree(text.encode())
    assert tree.flaws == ()
    assert tree.root is None or tree.root == Scalar("", tree.root.mark, is_plain=True)


@given(st.binary(max_size=200) | st.text("abc:-[]{}&*!%|>'\"#,?@ \n\t$", max_size=60).map(str.encode))
def test_no_bytes_raise(data: bytes):
    """Whatever a file holds, what is wrong comes back as flaws: a reload must never end in a traceback."""
    tree = read_tree(data)
    assert all(1 <= flaw.mark.line <= data.count(b"\n") + data.count(b"\r") + 2 for flaw in tree.flaws)


JSON = st.recursive(
    st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abcdef", min_size=1, max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


def values_of(node: object) -> object:
    match node:
        case Scalar():
            return node.text
        case Items():
            return [values_of(item) for item in node.items]
        case Table():
            return {entry.key: values_of(entry.value) for entry in node.entries}
        case _:
            raise AssertionError(node)


@given(JSON)
def test_both_parsers_give_the_tree_of_what_was_written(value: object):
    data = json.dumps(value, indent=1, ensure_ascii=False).encode()
    fast, pure = read_tree(data, FASTEST_PARSER), read_tree(data, PURE_PARSER)
    assert fast.root is not None
    assert values_of(fast.root) == value
    assert fast == pure
