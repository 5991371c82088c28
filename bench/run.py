"""`python -m bench.run`: measures the gateway against nginx, prints a table and writes it to `bench/results/`."""

import argparse
import datetime as dt
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from bench.compiled import BenchError, compile_all
from bench.figures import Spread
from bench.gateway import COMMAND
from bench.install_size import install_and_weigh
from bench.machine import machine, short_commit
from bench.nginx import find_nginx
from bench.procs import choose_cores
from bench.report import Report, Row, markdown
from bench.scenarios import FULL, QUICK, SCENARIOS
from bench.session import PARTS, Options, Session
from bench.table import print_report

RESULTS: Final = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status says whether it could measure, never how the figures are."""
    given = _parser().parse_args(arguments)
    console = Console()
    if not hasattr(os, "sched_setaffinity"):
        console.print("The bench reads /proc and pins processes to cores: it needs Linux.")
        return 1
    try:
        report = _measure(given, console)
    except BenchError as error:
        console.print(f"bench: {error}", markup=False, highlight=False)
        return 1
    print_report(report, console)
    if not given.no_write:
        console.print(f"Written to {_write(report)} and the .json beside it.", highlight=False)
    return 0


def _measure(given: argparse.Namespace, console: Console) -> Report:
    compile_all()
    effort = QUICK if given.quick else FULL
    if given.rounds:
        effort = replace(effort, rounds=given.rounds)
    options = Options(
        parts=frozenset(given.parts),
        subject=given.subject,
        gateway_command=given.gateway_command,
        scenarios=tuple(scenario for scenario in SCENARIOS if not given.only or scenario.name in given.only),
        effort=effort,
        cores=choose_cores(frozenset(os.sched_getaffinity(0))),
    )
    session = Session(options, say=lambda what: console.print(f"measuring: {what} ...", style="dim", highlight=False))
    started = dt.datetime.now(dt.UTC)
    session.run()
    rows = list(session.rows)
    if given.install_size:
        console.print("installing into an empty folder ...", style="dim")
        rows += _size_rows()
    return Report(
        measured_at=started.isoformat(timespec="seconds"),
        commit=short_commit(),
        subject=given.subject,
        effort=f"{'quick' if given.quick else 'full'}, {effort.rounds} rounds",
        machine=machine(find_nginx()),
        rows=tuple(rows),
        remarks=tuple(session.remarks),
    )


def _size_rows() -> list[Row]:
    installed = install_and_weigh()
    return [
        Row(group="Installation", name=name, measured=Spread(value, value, value), unit=unit)
        for name, value, unit in (
            ("size of the core", installed.megabytes, "MB"),
            ("distributions", float(installed.distributions), ""),
        )
    ]


def _write(report: Report) -> Path:
    RESULTS.mkdir(exist_ok=True)
    name = f"{report.measured_at[:10]}-{report.commit.rstrip('+')}"
    if report.subject != "tollhouse":
        name += f"-{report.subject}"
    page = RESULTS / f"{name}.md"
    page.write_text(markdown(report))
    page.with_suffix(".json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    return page


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round of everything, about a minute")
    parser.add_argument("--rounds", type=int, help="pairs of runs, in place of the usual number")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure; all by default")
    parser.add_argument(
        "--only", nargs="+", choices=[each.name for each in SCENARIOS], help="kinds of calls, for CPU time"
    )
    parser.add_argument("--subject", choices=["tollhouse", "bare-relay"], default="tollhouse", help="what to measure")
    parser.add_argument("--gateway-command", default=COMMAND, help="starts the gateway; {config} is its configuration")
    parser.add_argument("--install-size", action="store_true", help="also weigh a fresh installation (needs an index)")
    parser.add_argument("--no-write", action="store_true", help="print only")
    return parser


if __name__ == "__main__":
    sys.exit(main())
