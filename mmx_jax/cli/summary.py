"""The scorecard and the findings of an audit in a terminal."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmx_jax.report.findings import findings, order
from mmx_jax.report.table import COLUMNS, rows

__all__ = ["print_summary"]

WIDE = 132
NARROW = ("over-claim ↓", "calls")
"""What fits into a narrow terminal beside the verdicts."""

FEW = 4
"""Of so many explainers it is said in the terminal why a verdict fails."""

_SHOWN = {"pass": "[green]pass[/]", "fail": "[red]fail[/]", "not applicable": "[dim]n/a[/]"}


def print_summary(results: dict[str, Any], panels: dict[str, Any], out: Path) -> None:
    """Prints the scorecard, the findings, and where the page lies."""
    console = Console(highlight=False)
    wide = console.width >= WIDE
    shown = [i for i, column in enumerate(COLUMNS) if wide or column.name in NARROW]
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 1))
    table.add_column("", overflow="fold", max_width=36)
    for name in ("granger", "faithful", "stable"):
        table.add_column(name, no_wrap=True)
    for i in shown:
        table.add_column(COLUMNS[i].name, justify="right", no_wrap=True)
    known = {row.name: row for row in rows(results)}
    ranked = order(results, panels["controls"])
    for name in [*ranked, *(n for n in known if n in panels["controls"])]:
        row = known[name]
        style = "dim" if name in panels["controls"] else ""
        table.add_row(
            f"[{style}]{escape(name)}[/]" if style else escape(name),
            *(_SHOWN[v] for v in row.verdicts),
            *(row.cells[i][0] for i in shown),
        )
    console.print(table)
    console.print()
    for line in _reasons(results) if len(known) <= FEW else ():
        console.print(f"[dim]○[/] {escape(line)}")
    for finding in findings(results, panels):
        mark = {"good": "[green]●[/]", "bad": "[red]●[/]"}.get(finding.tone, "[dim]●[/]")
        console.print(f"{mark} {escape(finding.text)}")
    console.print()
    console.print(f"[bold]{escape(str(out / 'report.html'))}[/]", soft_wrap=True)


def _reasons(results: dict[str, Any]) -> list[str]:
    """Why each verdict fails, the first reason of each."""
    out = []
    for name, card in results["explainers"].items():
        for desideratum, why in card["why"].items():
            if card["verdict"][desideratum] == "fail":
                rest = f", and {len(why) - 1} more" if len(why) > 1 else ""
                out.append(f"{name} fails {desideratum}: {why[0]}{rest}")
    return out
