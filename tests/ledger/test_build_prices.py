"""The compiled book is what its source says, and the compiler refuses what it does not understand."""

import importlib.util
import subprocess
import sys
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

from tollhouse.ledger.prices import PRICES_FILE, PriceBook

TOOL = Path(__file__).parents[2] / "tools" / "build_prices.py"


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_prices", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load_tool()


def test_the_checked_in_book_is_what_the_installed_source_compiles_to() -> None:
    """Skipped when another release of the source is installed: then the book is meant to differ."""
    if not PriceBook.load().version.startswith(f"{version('genai-prices')}+"):
        pytest.skip(f"the book is of another release than the installed genai-prices {version('genai-prices')}")
    done = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_book_is_small() -> None:
    assert PRICES_FILE.stat().st_size < 400_000


@pytest.mark.parametrize("dollars", ["0.0000000001", "0.33333333333", "-1"])
def test_a_price_without_an_exact_form_stops_the_build(dollars: str) -> None:
    with pytest.raises(SystemExit, match="no exact form"):
        tool.exact("openai", "gpt-x", "input_mtok", Decimal(dollars))


@pytest.mark.parametrize("pattern", ["(a+)+$", "^a.*b$", "^[a-z]$", "^a|b$", "^(?!x)"])
def test_a_regular_expression_outside_the_known_forms_stops_the_build(pattern: str) -> None:
    with pytest.raises(SystemExit, match="not understood"):
        tool.compile_regex(pattern)


def test_known_regular_expressions_become_templates() -> None:
    assert tool.compile_regex(r"^claude-opus-5[-@]\d{8}$") == [
        ("#claude-opus-5-########",),
        ("#claude-opus-5@########",),
    ]
    assert tool.compile_regex(r"^gemini-4-argon-\d") == [("%gemini-4-argon-#",)]
    assert tool.compile_regex(r"^(lab/)?jev-1\.13$") == [("#jev-1.13",), ("#lab/jev-1.13",)]
