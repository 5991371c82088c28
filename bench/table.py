"""The report on a terminal."""

from rich.console import Console
from rich.table import Table

from bench.report import Report, cells, grouped

_STYLES = {"ok": "green", "over": "red"}


def print_report(report: Report, console: Console) -> None:
    """One table, a section for each group, and the remarks below it."""
    table = Table(title=f"{report.subject} at {report.commit} on {report.machine.cpu}", title_justify="left")
    table.add_column("figure")
    for heading in ("measured", "min to max", "at most"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for group, rows in grouped(report.rows).items():
        table.add_section()
        table.add_row(f"[bold]{group}[/bold]")
        for row in rows:
            table.add_row(*cells(row), style=_STYLES.get(row.verdict, ""))
    console.print(table)
    for remark in report.remarks:
        console.print(f"- {remark}", markup=False, highlight=False)
