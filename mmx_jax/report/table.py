"""The scorecard as rows of text: what the page and the terminal print of ``results.json``."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from mmx_jax.report.svg import number

__all__ = ["COLUMNS", "VERDICTS", "Column", "Row", "numbers", "rows", "worst"]

VERDICTS = ("granger", "faithfulness", "stability")


class Column(NamedTuple):
    """A column of figures: its short name and what it says."""

    name: str
    about: str


class Row(NamedTuple):
    """One explainer: its verdicts in the order of :data:`VERDICTS`, and (text, small print)."""

    name: str
    verdicts: tuple[str, ...]
    cells: tuple[tuple[str, str], ...]


COLUMNS = (
    Column("violations ↓", "worst share of inputs with dE < alpha df - beta, with its interval"),
    Column(
        "over-claim ↓",
        "worst reaction where nothing depends on the modality, and of single units that don't "
        "interact with it",
    ),
    Column("suffic. error ↓", "worst loss when only the own set is kept, relative to R"),
    Column("necessity ↑", "least share of the largest removal effect of a set no larger"),
    Column("own set", "joint own set, as a share of all units"),
    Column("steepness ↓", "largest change of an explanation per change of an input"),
    Column("truth ↑", "true units found, and share of false ones among the marked"),
    Column("calls", "model calls of one explanation"),
)


def numbers(tree: Any, field: str) -> list[float]:
    """The values of one field over the entries of a table, without those that are null."""
    found = (entry.get(field) for entry in tree.values() if isinstance(entry, dict))
    return [value for value in found if isinstance(value, int | float)]


def worst(values: Iterable[float | None], lowest: bool = False) -> float | None:
    """The largest (or lowest) of the values that are there."""
    known = [v for v in values if v is not None]
    return None if not known else min(known) if lowest else max(known)


def rows(results: dict[str, Any]) -> list[Row]:
    """One row per explainer, in the order of ``results``."""
    return [_row(name, entry) for name, entry in results["explainers"].items()]


def _row(name: str, entry: dict[str, Any]) -> Row:
    stable = entry["stability"] or {}
    steep = [v for kind in ("point", "searched", "path") for v in numbers(stable, kind)]
    truth = entry["truth"] or {}
    cells = (
        _violations(entry["granger"]),
        _overclaim(entry["granger"]),
        (number(worst(numbers(entry["sufficiency"], "own"))), ""),
        (number(worst(numbers(entry["necessity"], "own"), lowest=True)), ""),
        (number(entry["own_set"].get("joint")), ""),
        (number(worst(steep)), ""),
        _truth(truth),
        (f"{entry['evaluations']}", ""),
    )
    return Row(name, tuple(entry["verdict"][v] for v in VERDICTS), cells)


def _violations(granger: dict[str, Any]) -> tuple[str, str]:
    known = [e for e in granger.values() if e.get("violation_rate") is not None]
    if not known:
        return "—", ""
    entry = max(known, key=lambda e: e["violation_rate"])
    interval = entry.get("violation_interval")
    small = f"{number(interval[0])} to {number(interval[1])}" if interval else ""
    return number(entry["violation_rate"]), small


def _overclaim(granger: dict[str, Any]) -> tuple[str, str]:
    units = worst(numbers(granger, "unit_overclaim"))
    small = "" if units is None else f"units {number(units)}"
    return number(worst(numbers(granger, "overclaim"))), small


def _truth(truth: dict[str, Any]) -> tuple[str, str]:
    if truth.get("tpr") is None:
        return "—", ""
    return number(truth["tpr"]), f"false {number(truth.get('fdr'))}"
