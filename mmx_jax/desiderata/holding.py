"""Faithfulness over many inputs: errors, shares, areas, and how often each demand holds."""

import dataclasses
from typing import Any

import numpy as np
from scipy import stats

from mmx_jax.desiderata.applicability import redundant, smallest, unused
from mmx_jax.desiderata.constants import Constants
from mmx_jax.desiderata.effects import ModelEffects
from mmx_jax.desiderata.faithfulness import Faithfulness
from mmx_jax.desiderata.undefined import Undefined
from mmx_jax.numerics import clopper_pearson

__all__ = ["Demands", "demands", "faithfulness_failures", "faithfulness_figures", "tolerance"]


@dataclasses.dataclass(frozen=True)
class Demands:
    """What eqs. 4 and 5 come to for one group of units (a modality, or ``"joint"``).

    Attributes:
      applicable: ``[examples]``; the rest is unused or redundant.
      error: ``[examples]``, ``|v(x) - v(keep own set)| / R``.
      drop: ``[examples]``, the largest removal effect among the own set, its prefixes by rank,
        and its positive and negative part, over R.
      share: ``[examples]``, the same over the largest removal effect of any set of at most the
        own set's size; NaN where that is below ``counted`` R.
      size: ``[examples]``, size of the own set.
      excess: ``[examples]``, that over the size of the smallest set that meets both; NaN where
        no set has an effect.
    """

    applicable: np.ndarray
    error: np.ndarray
    drop: np.ndarray
    share: np.ndarray
    size: np.ndarray
    excess: np.ndarray


def demands(
    effects: ModelEffects, tested: Faithfulness, spread: float, constants: Constants
) -> dict[str, Demands]:
    """Per modality and ``"joint"``, from records with a leading axis of examples."""
    unused_, redundant_ = (rule(effects, spread, constants) for rule in (unused, redundant))
    best = smallest(effects, spread, constants)
    out = {}
    for group, largest in effects.largest.items():
        size = np.asarray(tested.size[group])
        rows = np.arange(size.shape[0])
        keep, remove, parts = (
            np.abs(np.asarray(x[group], np.float64))
            for x in (tested.keep, tested.remove, tested.parts)
        )
        prefix = np.arange(remove.shape[1]) <= size[:, None]
        drop = np.maximum(np.where(prefix, remove, 0).max(1), parts.max(1))
        # an empty own set is judged as one unit would be: naming nothing is no way out
        top = np.asarray(largest, np.float64)[rows, np.maximum(size, 1)]
        top = np.maximum(top, drop)  # a greedy search may have missed the explanation's own set
        counted = top >= constants.counted * spread
        out[group] = Demands(
            applicable=(
                np.ones(size.shape, bool)
                if group == "joint"
                else ~(unused_[group] | redundant_[group])
            ),
            error=keep[rows, size] / spread,
            drop=drop / spread,
            share=np.where(counted, drop / np.where(counted, top, 1.0), np.nan),
            size=size,
            excess=size / best[group],
        )
    return out


def tolerance(values: np.ndarray, share: float, confidence: float) -> float:
    """The smallest bound that ``share`` of all inputs stay below, with confidence; NaN if too few.

    The distribution-free tolerance bound: the r-th smallest of n values, r the least with
    ``P(Binomial(n, share) < r) >= confidence`` (Wilks, 1941).

    >>> tolerance(np.arange(1.0, 60.0), 0.95, 0.95)
    59.0
    >>> bool(np.isnan(tolerance(np.arange(1.0, 59.0), 0.95, 0.95)))
    True
    """
    count = values.size
    r = int(stats.binom.ppf(confidence, count, share)) + 1 if count else 1
    while r > 1 and stats.binom.cdf(r - 2, count, share) >= confidence:
        r -= 1
    return float(np.sort(values)[r - 1]) if r <= count else float("nan")


def faithfulness_figures(
    effects: ModelEffects, tested: Faithfulness, spread: float, constants: Constants
) -> dict[str, dict[str, Any]]:
    """The columns of faithfulness over the inputs to which each test applies.

    Returns:
      ``sufficiency.{group}``: ``own`` (mean error of keeping the own set, of R), ``area`` (under
      ``|v(x) - v(keep the top k)| / R`` over ``k / units``), ``holds`` (share of inputs within
      the tolerance) with its exact ``interval``, ``epsilon`` (the smallest eps_keep that holds on
      a ``1 - delta`` share of inputs with confidence).
      ``necessity.{group}``: ``own`` (mean share), ``area`` (under the removal curve over the area
      under the largest removal effects), ``holds``, ``interval``, ``epsilon`` (the largest
      eps_remove, of R), ``drop`` (mean signed drop by removing the own set, of R).
      ``own_set.{group}``: mean relative size. ``own_set_holds.{group}``: share of inputs on which
      it is small enough. ``applicable.{group}``, ``unused.{m}``, ``redundant.{m}``: shares of
      inputs.
    """
    out: dict[str, dict[str, Any]] = {
        name: {}
        for name in (
            "sufficiency",
            "necessity",
            "own_set",
            "own_set_holds",
            "applicable",
            "unused",
            "redundant",
        )
    }
    absent = unused(effects, spread, constants)
    shared = redundant(effects, spread, constants)
    for group, d in demands(effects, tested, spread, constants).items():
        share = float(d.applicable.mean())
        out["applicable"][group] = share
        if group != "joint":
            out["unused"][group] = float(absent[group].mean())
            out["redundant"][group] = float(shared[group].mean())
        out["sufficiency"][group], out["necessity"][group] = _columns(
            group, d, effects, tested, spread, constants
        )
        units = np.asarray(effects.largest[group]).shape[1] - 1
        on = d.applicable
        none = Undefined(f"{group} is unused or redundant on every input")
        out["own_set"][group] = float(d.size[on].mean() / units) if on.any() else none
        excess = d.excess[on & np.isfinite(d.excess)]
        out["own_set_holds"][group] = (
            float((excess <= constants.own_factor).mean())
            if excess.size
            else Undefined("no set of units has an effect on any input")
        )
    return out


def _columns(
    group: str,
    d: Demands,
    effects: ModelEffects,
    tested: Faithfulness,
    spread: float,
    constants: Constants,
) -> tuple[dict[str, Any], dict[str, Any]]:
    on = d.applicable
    counted = on & np.isfinite(d.share)
    none = Undefined(f"{group} is unused or redundant on every input")
    never = Undefined("no set of that size has an effect on any input") if on.any() else none
    keep, remove = (np.asarray(x[group], np.float64)[on] for x in (tested.keep, tested.remove))
    most = np.asarray(effects.largest[group], np.float64)[on]
    steps = most.shape[1] - 1
    below = np.trapezoid(most, axis=1).sum()
    drop = remove[np.arange(remove.shape[0]), d.size[on]]
    sufficiency = {
        "own": float(d.error[on].mean()) if on.any() else none,
        "area": float(np.trapezoid(np.abs(keep), axis=1).mean() / steps / spread)
        if on.any()
        else none,
        **_rate(d.error[on] <= constants.sufficiency, none, constants),
        "epsilon": _bound(d.error[on], constants),
    }
    necessity = {
        "own": float(d.share[counted].mean()) if counted.any() else never,
        "area": float(np.trapezoid(np.abs(remove), axis=1).sum() / below) if below > 0 else never,
        **_rate(d.share[counted] >= constants.necessity, never, constants),
        "epsilon": _bound(-d.drop[on], constants, -1.0),
        "drop": float(drop.mean() / spread) if on.any() else none,
    }
    return sufficiency, necessity


def _rate(holds: np.ndarray, never: Undefined, constants: Constants) -> dict[str, Any]:
    if not holds.size:
        return {"holds": never, "interval": never}
    interval = clopper_pearson(int(holds.sum()), holds.size, constants.confidence)
    return {"holds": float(holds.mean()), "interval": list(interval)}


def _bound(values: np.ndarray, constants: Constants, sign: float = 1.0) -> float | Undefined:
    bound = tolerance(values, 1 - constants.delta, constants.confidence)
    if np.isfinite(bound):
        return sign * bound
    return Undefined(f"{values.size} inputs are too few for a bound with confidence")


def faithfulness_failures(figures: dict[str, dict[str, Any]], constants: Constants) -> list[str]:
    """Which demands of the verdict are not met, in words; empty if all are."""
    out = []
    for group in figures["applicable"]:
        rates = {
            "sufficiency": figures["sufficiency"][group]["holds"],
            "necessity": figures["necessity"][group]["holds"],
            "own set size": figures["own_set_holds"][group],
        }
        out += [
            f"{group}: {what} holds on {100 * rate:.0f} % of inputs, "
            f"{100 * constants.holds:.0f} % are demanded"
            for what, rate in rates.items()
            if isinstance(rate, float) and rate < constants.holds
        ]
    return out
