"""What a provider says it was asked for, from a CSV file, against what the ledger says.

The file needs a head and these columns, in any order and case; others are left aside:

- `date`: a day of UTC, `2026-11-21`, or a moment that begins with one;
- `model`: as the provider calls it;
- at least one of `input_tokens` (all prompt tokens, those from and to caches too), `output_tokens` (all generated tokens) and
  `cost` (in US dollars).

Lines of the same day and model are added up.  Every day between the first and the last is compared, in both directions: a
model that only one of the two knows differs too.  Dollars in a report are rounded; each is taken to be right to half a unit of
its last digit.
"""

import csv
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from tollhouse.errors import BadRequest
from tollhouse.ledger.transaction import Transaction

DAY_US: Final = 86_400_000_000
MAX_LINES: Final = 1_000_000
MAX_FILE_BYTES: Final = 256 * 1024 * 1024
MAX_DIGITS: Final = 15
"""Before the decimal point, of dollars and of tokens."""
MEASURES: Final = ("input_tokens", "output_tokens", "cost")
EPOCH: Final = date(1970, 1, 1)


class DayOfModel(NamedTuple):
    """What is compared."""

    day: int
    """Days since the epoch."""
    model: str


class Said(msgspec.Struct):
    """What a report says of a model on a day; `None` where it has no such column."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_nano: int | None = None
    leeway_nano: int = 0
    """How far the dollars may be off, for they were rounded."""


class ProviderReport(msgspec.Struct, frozen=True):
    """A report, added up."""

    lines: dict[DayOfModel, Said]
    provider: str = ""
    """The configured name whose calls it is about; empty for all."""


class Difference(msgspec.Struct, frozen=True):
    """A model on a day for which report and ledger say different things."""

    place: DayOfModel
    message: str
    """A whole sentence."""


def read_report(path: Path, provider: str = "") -> ProviderReport:
    """Raises `BadRequest` for a file that is no such report, naming the line."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadRequest(f"{path} is longer than {MAX_FILE_BYTES:,} bytes.")
        # `utf-8-sig`: spreadsheets begin a file with a byte-order mark.
        with path.open(encoding="utf-8-sig", newline="") as file:
            return ProviderReport(_lines(path, csv.reader(file)), provider)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadRequest(f"{path} cannot be read: {error}.") from error


def compare(transaction: Transaction, report: ProviderReport) -> list[Difference]:
    """What differs, day by day and model by model."""
    if not report.lines:
        return []
    days = [place.day for place in report.lines]
    ledger = _ledger(transaction, min(days), max(days), report.provider)
    differences = []
    for place in sorted({*report.lines, *ledger}):
        said, ours = report.lines.get(place), ledger.get(place)
        reasons = _reasons(said, ours)
        if reasons:
            day = EPOCH + timedelta(days=place.day)
            differences.append(Difference(place, f"{day}, {place.model or '(no model)'}: {', '.join(reasons)}."))
    return differences


def _lines(path: Path, rows: Iterable[Sequence[str]]) -> dict[DayOfModel, Said]:
    reading = iter(rows)
    head = [name.strip().lower() for name in next(reading, ())]
    measures = [name for name in MEASURES if name in head]
    if "date" not in head or "model" not in head or not measures:
        raise BadRequest(
            f"{path} has no columns `date`, `model` and one of {', '.join(f'`{name}`' for name in MEASURES)}.",
            hint=f"Its head is: {', '.join(head) or 'empty'}.",
        )
    lines: dict[DayOfModel, Said] = {}
    for number, row in enumerate(reading, 2):
        if not any(row):
            continue
        if number > MAX_LINES:
            raise BadRequest(f"{path} has more than {MAX_LINES:,} lines.")
        try:
            cells = dict(zip(head, (cell.strip() for cell in row), strict=False))
            moment = datetime.fromisoformat(cells["date"])
            day = (moment.astimezone(UTC) if moment.tzinfo else moment).date()
            said = lines.setdefault(DayOfModel((day - EPOCH).days, cells["model"]), Said())
            for name in measures:
                _add(said, name, cells[name])
        except (KeyError, ValueError, InvalidOperation) as error:
            raise BadRequest(
                f"{path}, line {number}: {', '.join(row)[:200]!r} is no day, model and numbers."
            ) from error
    return lines


def _add(said: Said, name: str, text: str) -> None:
    amount = Decimal((text or "0").replace(",", "").removeprefix("$"))
    if not amount.is_finite() or amount.adjusted() > MAX_DIGITS:
        raise ValueError("not an amount")
    if name == "cost":
        exponent = amount.as_tuple().exponent
        assert isinstance(exponent, int)
        said.cost_nano = (said.cost_nano or 0) + int((amount * 10**9).to_integral_value())
        said.leeway_nano += max(1, int(10**9 * Decimal(10) ** min(exponent, 0)) // 2) if text else 0
    elif amount != int(amount):
        raise ValueError("tokens are whole")
    else:
        setattr(said, name, (getattr(said, name) or 0) + int(amount))


def _ledger(transaction: Transaction, first_day: int, last_day: int, provider: str) -> dict[DayOfModel, Said]:
    values: list[int | str] = [first_day * DAY_US, (last_day + 1) * DAY_US]
    if provider:
        values.append(provider)
    rows = transaction.rows(
        f"SELECT hour_us / {DAY_US}, model, CAST(sum(input_tokens) AS bigint), CAST(sum(output_tokens) AS bigint), "  # noqa: S608 - our own
        "CAST(sum(cost_nano) AS bigint) FROM spend_hours WHERE hour_us >= $1 AND hour_us < $2 "
        f"{'AND provider = $3 ' if provider else ''}GROUP BY 1, 2",
        *values,
    )
    return {DayOfModel(day, model): Said(inputs, outputs, cost) for day, model, inputs, outputs, cost in rows}


def _reasons(said: Said | None, ours: Said | None) -> list[str]:
    if said is None:
        assert ours is not None
        is_empty = not (ours.input_tokens or ours.output_tokens or ours.cost_nano)
        return [] if is_empty else [f"the report does not have it, and the ledger has {_shown(ours)}"]
    if ours is None:
        is_empty = not (said.input_tokens or said.output_tokens or said.cost_nano)
        return [] if is_empty else [f"the report has {_shown(said)}, and the ledger does not have it"]
    reasons = [
        f"{name.replace('_', ' ')} are {its:,} in the report and {mine or 0:,} in the ledger"
        for name, its, mine in (
            ("input_tokens", said.input_tokens, ours.input_tokens),
            ("output_tokens", said.output_tokens, ours.output_tokens),
        )
        if its is not None and its != (mine or 0)
    ]
    if said.cost_nano is not None and abs(said.cost_nano - (ours.cost_nano or 0)) > said.leeway_nano:
        reasons.append(
            f"the cost is {_dollars(said.cost_nano)} in the report and {_dollars(ours.cost_nano)} in the ledger"
        )
    return reasons


def _shown(said: Said) -> str:
    parts = [
        f"{count:,} {word}"
        for count, word in ((said.input_tokens, "input tokens"), (said.output_tokens, "output tokens"))
        if count is not None
    ]
    if said.cost_nano is not None:
        parts.append(_dollars(said.cost_nano))
    return " and ".join(parts) if len(parts) < 3 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _dollars(nano: int | None) -> str:
    return f"${Decimal(nano or 0) / 10**9:,.4f}"
