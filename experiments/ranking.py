"""What a leaderboard says: ranks, how metrics agree, and which one is fooled by which control.

Rows are cells: one explainer on one world, model and seed, with the columns of
:func:`experiments.cell.row_of`.
"""

from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr

from experiments.cell import VERDICTS
from experiments.common import at_least

__all__ = ["METRICS", "Metric", "agreement", "blindness", "board", "not_beaten"]

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
SLACK = 0.02
"""Differences up to this are ties: thresholds of the desiderata are two hundredths of R."""


def _mean(values: Iterable[Any]) -> float | None:
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
            entry[f"{verdict} passes"] = _mean(asked)
        entry["all three"] = _mean(all(r[v] == "pass" for v in VERDICTS) for r in mine)
        entry |= {column: _mean(r.get(column) for r in mine) for column in METRICS}
        entry |= {c: _mean(r[c] for r in mine) for c in ("own set", "calls")}
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
        a: {b: 1.0 if a == b else _mean(found.get((a, b), [])) for b in METRICS} for a in METRICS
    }


def not_beaten(rows: Rows) -> list[dict[str, Any]]:
    """Per world and metric that claims to measure it: does anyone beat the reference explanation?

    ``value`` is the smallest lead of the truth over the best other explainer, of all seeds. In
    false discoveries only those count that find as much.
    """
    claims = []
    exact = [r for r in rows if r["model"] == "exact"]
    for world in dict.fromkeys(r["world"] for r in exact):
        for name, metric in METRICS.items():
            if not metric.claims:
                continue
            leads: dict[int, float | None] = {}
            for truth in (r for r in exact if (r["world"], r["explainer"]) == (world, "truth")):
                others = [
                    metric.sign * (truth[name] - r[name])
                    for r in exact
                    if (r["world"], r["seed"]) == (world, truth["seed"])
                    and r is not truth
                    and None not in (r[name], truth[name])
                    and (name != "fdr" or (r["tpr"] or 0) >= (truth["tpr"] or 0))
                ]
                if others:
                    leads[truth["seed"]] = min(others)
            if leads:
                claims.append(at_least(f"{world}: lead of the truth in {name}", leads, LEAD))
    return claims


def blindness(rows: Rows, controls: Iterable[str]) -> Rows:
    """The cells in which a metric takes a control for the truth or better, with the reason.

    A control is not caught where on most seeds its value is within .02 of the truth's, or beyond.
    """
    exact = {(r["world"], r["seed"], r["explainer"]): r for r in rows if r["model"] == "exact"}
    worlds = dict.fromkeys(world for world, _, _ in exact)
    seeds = dict.fromkeys(seed for _, seed, _ in exact)
    out = []
    for control in controls:
        for name, metric in METRICS.items():
            grounds: dict[str, list[str]] = defaultdict(list)
            for world in worlds:
                pairs = [
                    (exact[world, s, control], exact[world, s, "truth"])
                    for s in seeds
                    if (world, s, control) in exact and (world, s, "truth") in exact
                ]
                known = [p for p in pairs if p[0][name] is not None and p[1][name] is not None]
                missed = [p for p in known if metric.sign * (p[1][name] - p[0][name]) <= SLACK]
                if len(missed) * 2 > len(known) and known:
                    grounds[_reason(name, missed)].append(world)
            out += [
                {"metric": name, "control": control, "worlds": ", ".join(where), "reason": why}
                for why, where in grounds.items()
            ]
    return out


def _reason(name: str, pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """Why a metric can't tell a control from the truth, as far as what was measured says it."""
    metric = METRICS[name]

    def mean(column: str, side: int = 0, otherwise: float = np.inf) -> float:
        value = _mean(pair[side].get(column) for pair in pairs)
        return otherwise if value is None else value

    whole = mean("own set", otherwise=0.0) > 0.5
    worst = 1.0 if metric.sign < 0 else 0.0
    reasons = (
        (mean("distance to truth") < 0.05, "in this world the control is the truth"),
        (
            metric.sees == "steadiness",
            "measures steadiness, not truth: a wrong explanation may be as steady",
        ),
        (
            metric.sees == "ranks" and mean("pairs ordered as in truth", otherwise=0.0) > 0.98,
            "ranks units as the truth does, and the metric sees only ranks",
        ),
        (
            name == "joint sufficiency holds" and whole,
            "its own set is most of the units, which suffices for anything (see own set)",
        ),
        (
            name == "joint necessity" and whole,
            "its own set holds most units, the right ones among them (see own set)",
        ),
        (
            metric.claims and metric.sees == "ranks" and mean("redundant", otherwise=0.0) > 0.5,
            "every copy counts as relevant and any one suffices: the truth is a set, not a ranking",
        ),
        (
            name in ("joint sufficiency holds", "joint necessity")
            and mean("own set", otherwise=0.0) > 1.5 * mean("own set", 1),
            "its own set is larger than the truth's and holds it (see own set)",
        ),
        (
            metric.claims
            and metric.sees == "ranks"
            and mean("tpr", otherwise=0.0) >= mean("tpr", 1) - SLACK
            and mean("fdr") <= mean("fdr", 1) + SLACK,
            "names the units that the truth names, and the metric sees no more of the scores",
        ),
        (
            name == "joint necessity" and mean("tpr", otherwise=1.0) < mean("tpr", 1) - SLACK,
            "removing a part of what works together removes all of its effect (see tpr)",
        ),
        (
            name == "tpr" and mean("fdr") > 0.4,
            "marks so many units that the true ones are among them (see fdr)",
        ),
        (
            name == "fdr" and mean("tpr", otherwise=1.0) < mean("tpr", 1) - SLACK,
            "names few units and those rightly; what it misses shows in tpr",
        ),
        (
            metric.sees == "claims" and mean("violations", otherwise=0.0) > 0.05,
            "hardly changes when a modality goes, so it claims nothing (see violations)",
        ),
        (metric.sees == "claims", "claims no more than the truth where nothing matters"),
        (
            metric.sees == "mass",
            "has mass enough per modality, and the metric does not see which units carry it",
        ),
        (
            name == "fsyn" and mean(name, 1) <= SLACK,
            "the joint dividend is 0 for every set: no example needs all modalities at once",
        ),
        (
            metric.sign * mean(name, 1) <= metric.sign * worst,
            "the truth gets the worst value itself: the metric does not apply to this world",
        ),
        (
            name == "infidelity",
            "the errors differ by little beside R squared: removed sets hide what single units get",
        ),
        (
            not metric.claims,
            "scores of another order move the output as much: the metric does not measure truth",
        ),
    )
    fits = (why for applies, why in reasons if applies)
    return next(fits, "not explained by what was measured: a defect of the metric")
