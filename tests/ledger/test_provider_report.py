"""What a provider says, against what the ledger says."""

from pathlib import Path

import pytest

from support.books import priced, write
from support.call_records import make_call
from tollhouse.chat.usage import Usage
from tollhouse.errors import BadRequest
from tollhouse.ledger.provider_report import compare, read_report
from tollhouse.ledger.transaction import transact

DAY = 86_400


@pytest.fixture
def url(any_url: str) -> str:
    """Two days at openai (2.60 dollars a call), one call at claude."""
    write(
        any_url,
        [
            priced("a", model="gpt-5.2"),
            priced("b", model="gpt-5.2", at=60),
            priced("c", model="gpt-5.2", at=DAY),
            priced("d", provider="claude", model="opus"),
            make_call("e", model="none", usage=Usage(), cost_nano=0, outcome="provider_refused"),
        ],
    )
    return any_url


def differences(url: str, folder: Path, text: str, provider: str = "openai") -> list[str]:
    path = folder / "report.csv"
    path.write_bytes(text.encode())
    report = read_report(path, provider)
    return [each.message for each in transact(url, lambda transaction: compare(transaction, report), writes=False)]


def test_a_report_that_agrees_has_no_differences(url: str, tmp_path: Path):
    text = (
        "Model,Date,Input_Tokens,Output_tokens,COST,who\n"
        "gpt-5.2,2026-11-21,1000000,100000,2.60,x\n"
        "gpt-5.2,2026-11-21T23:00:00Z,1000000,100000,2.60,y\n"
        "gpt-5.2,2026-11-22,1000000,100000,2.6,z\n"
    )
    assert differences(url, tmp_path, text) == []


def test_numbers_that_differ_are_named_by_day_and_model(url: str, tmp_path: Path):
    text = "date,model,input_tokens,output_tokens,cost\n2026-11-21,gpt-5.2,2000001,200000,5.30\n2026-11-22,gpt-5.2,1000000,99,2.60\n"

    assert differences(url, tmp_path, text) == [
        (
            "2026-11-21, gpt-5.2: input tokens are 2,000,001 in the report and 2,000,000 in the ledger, "
            "the cost is $5.3000 in the report and $5.2000 in the ledger."
        ),
        "2026-11-22, gpt-5.2: output tokens are 99 in the report and 100,000 in the ledger.",
    ]


def test_what_only_one_of_them_has_differs(url: str, tmp_path: Path):
    text = "date,model,cost\n2026-11-21,gpt-4,1.00\n2026-11-22,gpt-5.2,2.60\n2026-11-22,gpt-free,0\n"

    assert differences(url, tmp_path, text) == [
        "2026-11-21, gpt-4: the report has $1.0000, and the ledger does not have it.",
        (
            "2026-11-21, gpt-5.2: the report does not have it, and the ledger has 2,000,000 input tokens, 200,000 output tokens "
            "and $5.2000."
        ),
    ]


@pytest.mark.parametrize(
    ("cost", "agrees"), [("2.6", True), ("2.59", False), ("3", True), ("2", False), ("2.600000001", True)]
)
def test_dollars_are_right_to_half_a_unit_of_their_last_digit(url: str, tmp_path: Path, cost: str, agrees: bool):
    assert (differences(url, tmp_path, f"date,model,cost\n2026-11-22,gpt-5.2,{cost}\n") == []) is agrees


def test_without_a_provider_all_calls_are_compared(url: str, tmp_path: Path):
    text = "date,model,cost\n2026-11-21,gpt-5.2,5.20\n2026-11-21,opus,4.50\n"

    assert differences(url, tmp_path, text, provider="") == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no columns"),
        ("date,model\n", "has no columns"),
        ("day,model,cost\n", "Its head is: day, model, cost."),
        ("date,model,cost\nyesterday,m,1\n", "line 2: 'yesterday, m, 1' is no day, model and numbers"),
        ("date,model,cost\n2026-11-21,m,1\n2026-11-21,m\n", "line 3"),
        ("date,model,cost\n2026-11-21,m,free\n", "line 2"),
        ("date,model,cost\n2026-11-21,m,NaN\n", "line 2"),
        ("date,model,cost\n2026-11-21,m,1e999999999\n", "line 2"),
        ("date,model,input_tokens\n2026-11-21,m,1.5\n", "line 2"),
        ("date,model,cost\n2026-11-21,m,\ud800\n".encode("utf-8", "surrogatepass").decode("latin-1"), "line 2"),
    ],
)
def test_what_is_no_report_is_refused_with_the_line(tmp_path: Path, text: str, why: str):
    path = tmp_path / "report.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadRequest) as caught:
        read_report(path)

    assert why in str(caught.value)


def test_what_spreadsheets_write_is_read(tmp_path: Path):
    path = tmp_path / "report.csv"
    path.write_bytes('\ufeffdate,model,cost\r\n2026-11-21,m,"$1,234.50"\r\n\r\n'.encode())

    assert [said.cost_nano for said in read_report(path).lines.values()] == [1_234_500_000_000]
