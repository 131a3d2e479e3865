"""What a leaderboard says: ranks, how metrics agree, and where the truth is beaten.

Rows are cells: one explainer on one world, model and seed, with the columns of
:func:`experiments.cell.row_of`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr

from experiments.cell import VERDICTS
from experiments.common import at_least

__all__ = ["METRICS", "Metric", "Rows", "agreement", "beaten", "board", "mean_of", "not_beaten"]

Rows = list[dict[str, Any]]


class Metric(NamedTuple):
    """A column that is compared.

    Attributes:
      sign: 1 where high is good, -1 where low is.
      claims: whether it claims to measure the reference explanation, which must then not be beaten.
      sees: what it can see at all: ``"ranks"`` of units, ``"mass"`` per modality, ``"steadiness"``,
        or ``"scores"``.
      about: what it is, in a line.
    """

    sign: int
    claims: bool
    sees: str
    about: str


METRICS = {
    "violations": Metric(-1, True, "mass", "share of inputs where E_m reacts too little to m"),
    "cross violations": Metric(-1, True, "mass", "the same of E_n where n and m interact"),
    "over-claim": Metric(-1, True, "claims", "how much E_m changes where m changes nothing"),
    "cross over-claim": Metric(-1, True, "claims", "the same of E_n where n and m don't interact"),
    "unit over-claim": Metric(-1, True, "claims", "the same on single units that don't interact"),
    "joint necessity": Metric(1, True, "ranks", "how much of the output its own set carries"),
    "joint sufficiency holds": Metric(
        1, True, "ranks", "share of inputs where its own set alone keeps the output"
    ),
    "tpr": Metric(1, True, "ranks", "share of the relevant units in its own set"),
    "fdr": Metric(-1, True, "ranks", "share of its own set that is not relevant"),
    # with relevance, which does not order the relevant units: equal scores would beat exact ones
    "rank correlation": Metric(1, False, "ranks", "Spearman's, of scores and relevance"),
    "deletion": Metric(-1, False, "ranks", "area under the output as top units are removed"),
    "insertion": Metric(1, False, "ranks", "area under the output as top units are added"),
    "region perturbation": Metric(1, False, "ranks", "mean drop as top units are removed"),
    "infidelity": Metric(-1, False, "scores", "squared error of scores for removed sets"),
    "fsyn": Metric(1, False, "ranks", "joint dividend of the top sets of all modalities"),
    "slope in a ball": Metric(-1, False, "steadiness", "largest quotient found in a ball"),
    "slope on paths": Metric(-1, False, "steadiness", "largest quotient between inputs"),
}

LEAD = -1e-3
"""A truth that lags by less is tied: a copy that goes moves the output by .0007, which is felt."""


def mean_of(values: Iterable[Any]) -> float | None:
    """The mean of what is defined, None if nothing is."""
    known = [float(v) for v in values if v is not None]
    return float(np.mean(known)) if known else None


def board(rows: Rows, controls: Iterable[str]) -> Rows:
    """One row per model and explainer: shares of cells that pass, and means of the columns."""
    groups: dict[tuple[str, str], Rows] = defaultdict(list)
    for row in rows:
        groups[row["model"], row["explainer"]].append(row)
    out = []
    for (model, explainer), mine in groups.items():
        entry: dict[str, Any] = {"model": model, "explainer": explainer, "cells": len(mine)}
        entry["control"] = explainer in set(controls)
        for verdict in VERDICTS:
            asked = [r[verdict] == "pass" for r in mine if r[verdict] in ("pass", "fail")]
            entry[f"{verdict} passes"] = mean_of(asked)
        entry["all three"] = mean_of(all(r[v] == "pass" for v in VERDICTS) for r in mine)
        entry |= {column: mean_of(r.get(column) for r in mine) for column in METRICS}
        entry |= {c: mean_of(r[c] for r in mine) for c in ("own set", "calls")}
        out.append(entry)
    return sorted(out, key=lambda r: (r["model"], -(r["all three"] or 0), -(r["tpr"] or 0)))


def agreement(rows: Rows, model: str) -> dict[str, dict[str, float | None]]:
    """Spearman's correlation of every two metrics over explainers, mean over worlds and seeds.

    Metrics are turned so that high is good; a pair counts where both are defined for at least five
    explainers and neither is constant.
    """
    cells: dict[tuple[str, int], Rows] = defaultdict(list)
    for row in rows:
        if row["model"] == model:
            cells[row["world"], row["seed"]].append(row)
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for mine in cells.values():
        for (a, first), (b, second) in combinations(METRICS.items(), 2):
            pairs = [(r.get(a), r.get(b)) for r in mine]
            known = np.array([p for p in pairs if None not in p], np.float64)
            if len(known) >= 5 and np.ptp(known, axis=0).min() > 0:
                value = first.sign * second.sign * float(spearmanr(*known.T)[0])  # pyright: ignore
                found[a, b].append(value)
                found[b, a].append(value)
    return {
        a: {b: 1.0 if a == b else mean_of(found.get((a, b), [])) for b in METRICS} for a in METRICS
    }


def _leads(rows: Rows, world: str, name: str) -> dict[int, dict[str, float]]:
    """``{seed: {explainer: lead of the truth over it}}`` in one metric on one world.

    In false discoveries only those count that find as much.
    """
    sign = METRICS[name].sign
    mine = [r for r in rows if (r["model"], r["world"]) == ("exact", world)]
    out = {}
    for truth in (r for r in mine if r["explainer"] == "truth"):
        leads = {
            r["explainer"]: sign * (truth[name] - r[name])
            for r in mine
            if r["seed"] == truth["seed"]
            and r is not truth
            and None not in (r[name], truth[name])
            and (name != "fdr" or (r["tpr"] or 0) >= (truth["tpr"] or 0))
        }
        if leads:
            out[truth["seed"]] = leads
    return out


def _claimed(rows: Rows) -> Iterator[tuple[str, str, dict[int, dict[str, float]]]]:
    for world in dict.fromkeys(r["world"] for r in rows if r["model"] == "exact"):
        for name, metric in METRICS.items():
            leads = _leads(rows, world, name) if metric.claims else {}
            if leads:
                yield world, name, leads


def not_beaten(rows: Rows) -> list[dict[str, Any]]:
    """Per world and metric that claims to measure it: does anyone beat the reference explanation?

    ``value`` is the smallest lead of the truth over the best other explainer, of all seeds.
    """
    return [
        at_least(
            f"{world}: lead of the truth in {name}",
            {seed: min(of.values()) for seed, of in leads.items()},
            LEAD,
        )
        for world, name, leads in _claimed(rows)
    ]


def beaten(rows: Rows) -> Rows:
    """Where such a claim fails: by how much, by whom, on how many seeds, and why."""
    out = []
    for world, name, leads in _claimed(rows):
        lost = {s: {e: v for e, v in of.items() if v < LEAD} for s, of in leads.items()}
        lost = {seed: by for seed, by in lost.items() if by}
        if not lost:
            continue
        truths = [
            r
            for r in rows
            if (r["model"], r["world"], r["explainer"]) == ("exact", world, "truth")
            and r["seed"] in lost
        ]
        found = mean_of(r["tpr"] for r in truths)
        why = "not explained by what was measured"
        if METRICS[name].sees == "ranks" and found is not None and found < 1:
            why = (
                "own sets hold 90 % of the magnitude: on some examples a unit that is relevant has "
                f"less than the tenth that is left out (tpr of the truth itself {found:.3f}); "
                "scores that are less concentrated keep it"
            )
        out.append(
            {"world": world, "metric": name, "seeds": len(lost), "of": len(leads)}
            | {"lead": min(min(by.values()) for by in lost.values())}
            | {"by": ", ".join(dict.fromkeys(e for by in lost.values() for e in by))}
            | {"reason": why}
        )
    return out
