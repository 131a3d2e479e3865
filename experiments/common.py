"""What the experiments share: options, claims that pass or fail, and their result directories."""

import dataclasses
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mmx_jax.cli.console import compile_quickly, multiply_exactly, use_compilation_cache
from mmx_jax.cli.main import interrupt
from mmx_jax.errors import MmxError
from mmx_jax.runs import check_output, free_name, result_directory, write_json

__all__ = ["Outcome", "Run", "at_least", "at_most", "by_seed", "main", "watch"]

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Run:
    """Options of every experiment."""

    quick: bool = False
    """Less of everything: a check that it runs, not a measurement."""
    out: Path | None = None
    """A directory for results.json and figures; runs/NAME by default."""
    seed: int = 0
    """The first of the seeds that are reported."""

    def seeds(self, count: int) -> list[int]:
        """The seeds that are reported, all different from those used in development."""
        return list(range(1000 + self.seed, 1000 + self.seed + count))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What an experiment found.

    Attributes:
      claims: made with :func:`at_least` and :func:`at_most`.
      tables: title to rows; every row maps columns to values.
      figures: file name to a function that writes it.
      details: rows that are kept in ``results.json`` and not printed.
    """

    claims: list[dict[str, Any]]
    tables: dict[str, list[dict[str, Any]]]
    figures: dict[str, Callable[[Path], None]] = dataclasses.field(default_factory=dict)
    details: list[dict[str, Any]] = dataclasses.field(default_factory=list)


def watch(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """The items, with a progress bar on the terminal: how many are done, and the time left."""
    console = Console(stderr=True)
    yield from track(items, what, total=total, console=console, transient=True)


def by_seed(rows: list[dict[str, Any]], column: str, **where: Any) -> dict[int, Any]:
    """``{seed: row[column]}`` of the rows in which all of ``where`` holds; None where it lacks.

    >>> by_seed([{"seed": 1, "task": "a", "x": 3}, {"seed": 1, "task": "b", "x": 4}], "x", task="b")
    {1: 4}
    """
    found = [r for r in rows if all(r[name] == value for name, value in where.items())]
    return {r["seed"]: r.get(column) for r in found}


def _claim(
    text: str, values: Mapping[int, float | None], threshold: float, least: bool
) -> dict[str, Any]:
    known = [v for v in values.values() if v is not None]
    worst = None if len(known) < len(values) else (min if least else max)(known)
    passed = worst is not None and (worst >= threshold if least else worst <= threshold)
    return {
        "claim": text,
        "value": worst,
        "threshold": threshold,
        "passed": bool(passed),
        "seeds": {str(seed): value for seed, value in values.items()},
    }


def at_least(text: str, values: Mapping[int, float | None], threshold: float) -> dict[str, Any]:
    """A claim that holds if the value reaches the threshold on every seed.

    An undefined value (None) fails it. ``value`` is the worst over the seeds.
    """
    return _claim(f"{text}, at least", values, threshold, True)


def at_most(text: str, values: Mapping[int, float | None], threshold: float) -> dict[str, Any]:
    """A claim that holds if the value stays within the threshold on every seed."""
    return _claim(f"{text}, at most", values, threshold, False)


def main(
    name: str,
    doc: str | None,
    experiment: Callable[[Any], Outcome],
    options: Any = Run,
    quickly: bool = True,
) -> None:
    """Runs an experiment from the command line; exits with 0 when it ran, whatever it found.

    With ``quickly`` programs are optimised less: those that mostly compile end sooner.
    """
    console = Console()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupt)
    try:
        run = tyro.cli(options, prog=f"python -m experiments.{name}", description=doc)
        out = free_name(Path("runs") / name.replace(".", "/")) if run.out is None else run.out
        check_output(out)
        use_compilation_cache()
        multiply_exactly()
        if quickly:
            compile_quickly(most=False)
        outcome = experiment(run)
        with result_directory(out) as directory:
            write_json(directory / "results.json", _plain(name, run, outcome))
            for file, draw in outcome.figures.items():
                draw(directory / file)
    except MmxError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        raise SystemExit(130) from None
    for title, rows in outcome.tables.items():
        console.print(_table(title, rows))
    for claim in outcome.claims:
        colour = "green" if claim["passed"] else "red"
        value = "undefined" if claim["value"] is None else f"{claim['value']:.3g}"
        verdict = "pass" if claim["passed"] else "FAIL"
        console.print(
            f"[{colour}]{verdict}[/]  {claim['claim']} {claim['threshold']:g}: {value}"
            f"  (worst of {len(claim['seeds'])} seeds)",
            highlight=False,
        )
    console.print(f"written to {out}", highlight=False)


def _plain(name: str, run: Any, outcome: Outcome) -> dict[str, Any]:
    # places on one machine change nothing in the results
    places = ("out", "networks", "rows")
    settings = {k: v for k, v in dataclasses.asdict(run).items() if k not in places}
    return {
        "schema": "experiment/1",
        "experiment": name,
        "options": settings,
        "claims": outcome.claims,
        "tables": outcome.tables,
        "details": outcome.details,
    }


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    columns = list(dict.fromkeys(column for row in rows for column in row))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
