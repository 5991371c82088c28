"""Does everything add up?  Reads the whole ledger, hour by hour, and tells what does not.

- Each hour's totals equal the sums of its rows, and no hour has rows without totals or totals without rows; but for hours
  whose rows were pruned because of their age, which can have no more rows than totals.
- Each row's cost is its counts times the prices of the book that it names.
- A request id stands once, journals hold nothing that the database lacks, no rerating was left unfinished.
- When nothing is under way: nothing is held, and what the counters say was spent is what the rows say.
- What a provider says it was asked for is what the rows say, day by day and model by model.

Each hour is read as of one moment, so gateways may go on writing.  Memory holds one page of rows and the totals of one hour.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec

from tollhouse.chat.usage import UsageSource
from tollhouse.errors import StoreUnavailable
from tollhouse.ledger.address import is_postgresql, journal_name
from tollhouse.ledger.hours import HOUR_US, NAMES, NUMBERS, OF_A_ROW, OF_AN_HOUR
from tollhouse.ledger.journal import waiting_rows
from tollhouse.ledger.moments import moment_at
from tollhouse.ledger.price_books import Shelf
from tollhouse.ledger.prices import Cost
from tollhouse.ledger.provider_report import Difference, ProviderReport, compare
from tollhouse.ledger.reading import REPORT_SECONDS
from tollhouse.ledger.stored_calls import LAST_US, StoredCall, Wanted, pages
from tollhouse.ledger.transaction import Reader, Transaction, open_reader

Check = Literal["totals", "bills", "duplicates", "journals", "rerates", "holds", "spending", "provider"]
MAX_FINDINGS: Final = 50
"""Of one check that are told; the others are counted."""
IDS_AT_ONCE: Final = 500

Sums: TypeAlias = tuple[int | None, ...]
"""In the order of `NUMBERS`."""
_Hour: TypeAlias = dict[tuple[str, ...], Sums]


def _nobody_waits(calls: int) -> None:
    del calls


class Finding(msgspec.Struct, frozen=True):
    """Something that does not add up."""

    check: Check
    message: str
    """A whole sentence."""


class Share(msgspec.Struct):
    """Calls of one source of counts."""

    calls: int = 0
    cost_nano: int = 0


class Purse(msgspec.Struct, frozen=True):
    """A budget as the counters have it."""

    name: str
    spent_nano: int
    held_nano: int
    ledger_nano: int
    """What the rows of its scope and window say."""


class Verdict(msgspec.Struct, kw_only=True):
    """What was looked at and what was found.  Money in nano-USD."""

    since_us: int
    calls: int = 0
    cost_nano: int = 0
    hours: int = 0
    """Hours whose totals were compared with their rows."""
    pruned_hours: int = 0
    """Hours whose rows were pruned, in whole or in part; their totals cannot be checked."""
    unknown_cost_calls: int = 0
    lost_calls: int = 0
    """Calls that are charged with their hold because their process died."""
    flat_calls: int = 0
    """Calls of other paths that are charged with their hold because no price tells what they cost."""
    checked_bills: int = 0
    unchecked_bills: dict[str, int] = {}
    """Version of a price book that nobody kept → calls whose bill cannot be made again."""
    by_source: dict[UsageSource, Share] = {}
    waiting_calls: int = 0
    """Calls in journals of this machine that the database does not have yet."""
    purses: int | None = None
    """How many budgets were compared; `None` when that was not asked for."""
    provider_days: int | None = None
    """How many days and models of a provider's report were compared; `None` without one."""
    found: dict[Check, int] = {}
    """How often each check failed; those that did not are left out."""
    findings: list[Finding] = []
    """At most `MAX_FINDINGS` of each check."""

    @property
    def adds_up(self) -> bool:
        """Whether nothing was found."""
        return not self.found

    def add(self, check: Check, message: str) -> None:
        """Notes a finding."""
        self.found[check] = self.found.get(check, 0) + 1
        if self.found[check] <= MAX_FINDINGS:
            self.findings.append(Finding(check, message))


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be checked."""

    since_us: int = 0
    """Only calls of the hour of this moment and later."""
    pruned_before_us: int | None = None
    """Rows that began before this moment may have been pruned; `None`: no row ever was."""
    journals: Path | None = None
    """The folder of this machine's journals."""
    purses: Sequence[Purse] | None = None
    """The budgets of the counters.  Give them only when nothing is under way."""
    report: ProviderReport | None = None


def verify(url: str, shelf: Shelf, question: Question, *, progress: Callable[[int], None] = _nobody_waits) -> Verdict:
    """Reads everything from the question's moment on.  Blocks.  `progress` is told how many calls more were seen.

    Raises `StoreUnavailable`.
    """
    verdict = Verdict(since_us=question.since_us // HOUR_US * HOUR_US)
    reader = open_reader(url, answer_seconds=REPORT_SECONDS)
    try:
        _check_hours(reader, shelf, question, verdict, progress)
        _check_ids(reader, is_postgresql(url), verdict)
        reader.read(lambda transaction: _check_rerates(transaction, verdict))
        if question.journals is not None:
            _check_journals(reader, question.journals, journal_name(url), verdict)
        if question.report is not None:
            report = question.report
            differences = reader.read(lambda transaction: compare(transaction, report))
            _check_provider(report, differences, verdict)
    finally:
        reader.close()
    if question.purses is not None:
        _check_purses(question.purses, verdict)
    return verdict


# ------------------------------------------------------------------------------------------------------ hours and bills


def _check_hours(
    reader: Reader, shelf: Shelf, question: Question, verdict: Verdict, progress: Callable[[int], None]
) -> None:
    oldest_us = reader.rows("SELECT min(started_at_us) FROM calls")[0][0]
    first_row_us = LAST_US if oldest_us is None else oldest_us // HOUR_US * HOUR_US
    pruned_us = (question.pruned_before_us or 0) // HOUR_US * HOUR_US
    bare: list[int] = []
    at_us = verdict.since_us
    while True:
        hour_us = reader.read(partial(_next_hour, since_us=at_us))
        if hour_us is None:
            break

        def look(transaction: Transaction, hour_us: int = hour_us) -> None:
            totals, sums = _totals_of(transaction, hour_us), _sums_of(transaction, hour_us)
            if hour_us < pruned_us and totals != sums:
                verdict.pruned_hours += 1
                _compare_pruned(hour_us, totals, sums, verdict)
            elif hour_us < first_row_us and question.pruned_before_us is None:
                bare.append(hour_us)
            else:
                verdict.hours += 1
                _compare(hour_us, totals, sums, verdict)
            if sums:
                _check_bills(transaction, shelf, hour_us, verdict, progress)

        reader.read(look)
        at_us = hour_us + HOUR_US
    if bare:
        verdict.add(
            "totals",
            f"{_plural(len(bare), 'hour')} from {_hour(bare[0])} to {_hour(bare[-1])} {_have(len(bare))} totals and no rows, "
            "and no row is older. If they were pruned, `--retention` says so.",
        )


def _next_hour(transaction: Transaction, since_us: int) -> int | None:
    ((of_totals, of_rows),) = transaction.rows(
        "SELECT (SELECT hour_us FROM spend_hours WHERE hour_us >= $1 ORDER BY hour_us LIMIT 1), "
        "(SELECT min(started_at_us) FROM calls WHERE started_at_us >= $1)",
        since_us,
    )
    hours = [us // HOUR_US * HOUR_US for us in (of_totals, of_rows) if us is not None]
    return min(hours, default=None)


_TOTALS: Final = (
    f"SELECT {', '.join(OF_AN_HOUR[name] for name in NAMES)}, "  # noqa: S608 - our own names
    f"{', '.join(f'CAST(sum({name}) AS bigint)' for name in NUMBERS)} "
    f"FROM spend_hours WHERE hour_us = $1 GROUP BY {', '.join(str(number) for number in range(1, len(NAMES) + 1))}"
)
_SUMS: Final = (
    f"SELECT {', '.join(OF_A_ROW[name] for name in NAMES)}, "  # noqa: S608 - our own names
    f"{', '.join(f'CAST(sum({OF_A_ROW[name]}) AS bigint)' for name in NUMBERS)} "
    "FROM calls WHERE started_at_us >= $1 AND started_at_us < $2 "
    f"GROUP BY {', '.join(str(number) for number in range(1, len(NAMES) + 1))}"
)


def _totals_of(transaction: Transaction, hour_us: int) -> _Hour:
    return {row[: len(NAMES)]: row[len(NAMES) :] for row in transaction.rows(_TOTALS, hour_us)}


def _sums_of(transaction: Transaction, hour_us: int) -> _Hour:
    return {row[: len(NAMES)]: row[len(NAMES) :] for row in transaction.rows(_SUMS, hour_us, hour_us + HOUR_US)}


def _compare(hour_us: int, totals: _Hour, sums: _Hour, verdict: Verdict) -> None:
    if totals == sums:
        return
    for group in sorted({*totals, *sums}):
        total, rows = totals.get(group), sums.get(group)
        if total is None:
            verdict.add("totals", f"{_hour(hour_us)}, {_group(group)}: {_of_rows(rows)}, and there are no totals.")
        elif rows is None:
            verdict.add(
                "totals", f"{_hour(hour_us)}, {_group(group)}: the totals say {_of_rows(total)}, and there are no rows."
            )
        elif total != rows:
            differing = (
                f"{name} is {_number(its)} in the totals and {_number(mine)} in the rows"
                for name, its, mine in zip(NUMBERS, total, rows, strict=True)
                if its != mine
            )
            verdict.add("totals", f"{_hour(hour_us)}, {_group(group)}: {', '.join(differing)}.")


def _compare_pruned(hour_us: int, totals: _Hour, sums: _Hour, verdict: Verdict) -> None:
    for group, rows in sorted(sums.items()):
        total = totals.get(group)
        if total is None or any((mine or 0) > (its or 0) for mine, its in zip(rows, total, strict=True)):
            verdict.add("totals", f"{_hour(hour_us)}, {_group(group)}: the rows say more than the totals.")


def _check_bills(
    transaction: Transaction, shelf: Shelf, hour_us: int, verdict: Verdict, progress: Callable[[int], None]
) -> None:
    for calls in pages(transaction, Wanted(hour_us, hour_us + HOUR_US)):
        for call in calls:
            _check_bill(transaction, shelf, call, verdict)
        verdict.calls += len(calls)
        progress(len(calls))


def _check_bill(transaction: Transaction, shelf: Shelf, call: StoredCall, verdict: Verdict) -> None:
    cost_nano = call.cost_nano
    share = verdict.by_source.get(call.usage_source)
    if share is None:
        share = verdict.by_source[call.usage_source] = Share()
    share.calls += 1
    if cost_nano is None:
        verdict.unknown_cost_calls += 1
    else:
        share.cost_nano += cost_nano
        verdict.cost_nano += cost_nano
    basis = call.basis
    if basis == "tokens":
        book = shelf.book(transaction, call.price_version)
        if book is None:
            verdict.unchecked_bills[call.price_version] = verdict.unchecked_bills.get(call.price_version, 0) + 1
            return
        costs = call.costs(book)
        verdict.checked_bills += 1
        is_flat = call.may_be_flat and None in costs
        if not is_flat and not any((None if cost is None else cost.total_nano) == cost_nano for cost in costs):
            verdict.add(
                "bills", f"Call {call.id} costs {_money(cost_nano)}; by {call.price_version} it is {_by(costs)}."
            )
    elif basis == "hold":
        verdict.lost_calls += 1
    elif basis == "flat":
        verdict.flat_calls += 1
    else:
        verdict.checked_bills += 1
        if cost_nano:
            verdict.add(
                "bills",
                f"Call {call.id} costs {_money(cost_nano)} "
                + ("without any counts." if basis == "nothing" else "though no provider was asked."),
            )


# ------------------------------------------------------------------------------------------------------------- the rest


def _check_ids(reader: Reader, is_postgres: bool, verdict: Verdict) -> None:  # noqa: FBT001 - which database it is
    if reader.read(_ids_are_unique_in_postgresql if is_postgres else _ids_are_unique_in_sqlite):
        return  # the database itself sees to it
    verdict.add("duplicates", "Nothing keeps request ids unique: the index `calls_id` is missing.")
    for number, name in reader.read(_duplicates):
        verdict.add("duplicates", f"Call {name} stands {number} times.")


def _ids_are_unique_in_sqlite(transaction: Transaction) -> bool:
    return any(
        [name for _, _, name in transaction.rows(f'PRAGMA index_info("{index}")')] == ["id"]
        for _, index, is_unique, *_ in transaction.rows("PRAGMA index_list(calls)")
        if is_unique
    )


def _ids_are_unique_in_postgresql(transaction: Transaction) -> bool:
    return bool(
        transaction.rows(
            "SELECT 1 FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] "
            "WHERE i.indrelid = 'calls'::regclass AND i.indisunique AND i.indisvalid AND i.indnatts = 1 AND a.attname = 'id'"
        )
    )


def _duplicates(transaction: Transaction) -> list[tuple[int, str]]:
    rows = transaction.rows(
        f"SELECT count(*), id FROM calls GROUP BY id HAVING count(*) > 1 ORDER BY id LIMIT {MAX_FINDINGS}"  # noqa: S608 - our own number
    )
    return [(number, name) for number, name in rows]


def _check_rerates(transaction: Transaction, verdict: Verdict) -> None:
    for number, version in transaction.rows("SELECT id, version FROM rerates WHERE ended_at_us IS NULL ORDER BY id"):
        verdict.add(
            "rerates",
            f"Rerating {number}, with {version}, did not come to its end. Running the same command again finishes it.",
        )


def _check_journals(reader: Reader, folder: Path, name: str, verdict: Verdict) -> None:
    try:
        missing = {
            call_id
            for some in _chunks(str(row[0]) for row in waiting_rows(folder, name))
            for call_id in _without_row(reader, some)
        }
        damaged = sorted(folder.glob(f"{name}.journal-*.damaged"))
    except OSError as error:
        raise StoreUnavailable(f"The ledger's journals in {folder} cannot be read: {error}.") from error
    verdict.waiting_calls = len(missing)
    if missing:
        verdict.add(
            "journals",
            f"{_plural(len(missing), 'call')} in the journals of {folder} {_have(len(missing))} no row yet. "
            "A running gateway brings them in.",
        )
    for path in damaged:
        verdict.add("journals", f"{path} has lines that could not be read. Its whole rows are in the ledger.")


def _without_row(reader: Reader, ids: Sequence[str]) -> set[str]:
    places = ", ".join(f"${number}" for number in range(1, len(ids) + 1))
    found = reader.read(lambda transaction: transaction.rows(f"SELECT id FROM calls WHERE id IN ({places})", *ids))  # noqa: S608 - only marks
    return {*ids} - {name for (name,) in found}


def _check_purses(purses: Sequence[Purse], verdict: Verdict) -> None:
    verdict.purses = len(purses)
    for purse in purses:
        if purse.held_nano:
            verdict.add(
                "holds", f"Budget {purse.name} has {_money(purse.held_nano)} held, though nothing is under way."
            )
        if purse.spent_nano != purse.ledger_nano:
            verdict.add(
                "spending",
                f"Budget {purse.name} has spent {_money(purse.spent_nano)} by the counters and {_money(purse.ledger_nano)} "
                "by the ledger.",
            )


def _check_provider(report: ProviderReport, differences: Sequence[Difference], verdict: Verdict) -> None:
    verdict.provider_days = len(report.lines)
    for each in differences:
        verdict.add("provider", each.message)


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    some: list[str] = []
    for name in ids:
        some.append(name)
        if len(some) == IDS_AT_ONCE:
            yield some
            some = []
    if some:
        yield some


# ---------------------------------------------------------------------------------------------------------------- words


def _hour(hour_us: int) -> str:
    return f"{moment_at(hour_us):%Y-%m-%d %H:00}"


def _group(group: Sequence[str]) -> str:
    return " ".join(f"{name}={value}" for name, value in zip(NAMES, group, strict=True) if value)


def _of_rows(sums: Sums | None) -> str:
    calls, *_, cost_nano, _ = sums or (0, 0, 0)
    return f"{_plural(calls or 0, 'call')} for {_money(cost_nano)}"


def _number(value: Any) -> str:
    return "not said" if value is None else f"{value:,}"


def _money(nano: int | None) -> str:
    return "not known" if nano is None else f"${nano // 10**9:,}.{nano % 10**9:09}"


def _by(costs: Sequence[Cost | None]) -> str:
    return " or ".join(_money(None if cost is None else cost.total_nano) for cost in costs)


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
