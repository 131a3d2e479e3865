"""Which metric takes which control for the truth, and why, as far as what was measured says it."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from experiments.ranking import METRICS, Rows, mean_of

__all__ = ["blindness"]

SLACK = 0.02
"""Differences up to this are ties: thresholds of the desiderata are two hundredths of R."""


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
        value = mean_of(pair[side].get(column) for pair in pairs)
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
