"""I. Granger modality influence: explanations must change as the output and interactions do.

Agarwal, *Rethinking Explainability in the Era of Multimodal AI* (2025), eq. 2: when modality m is
removed, ``dE >= alpha df - beta``. On the diagonal df is the effect of m; off it, it is the
interaction of n and m.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from mmx_jax.desiderata.constants import Constants
from mmx_jax.desiderata.effects import ModelEffects, pair, pairs
from mmx_jax.desiderata.explained import Changes
from mmx_jax.desiderata.undefined import Undefined, number
from mmx_jax.numerics import clopper_pearson, levels, spearman

__all__ = ["FRONTIER", "frontier", "granger", "granger_failures", "normaliser"]

FRONTIER = tuple(round(0.05 * i, 2) for i in range(21))
"""The slopes alpha at which the frontier is reported."""


def frontier(
    effect: np.ndarray, change: np.ndarray, alphas: tuple[float, ...] = FRONTIER
) -> np.ndarray:
    """``beta*(alpha) = max_x (alpha df - dE)``, at least 0: the least slack that makes all hold.

    >>> frontier(np.array([1.0, 2.0]), np.array([0.5, 2.0]), (0.5, 1.0)).tolist()
    [0.0, 0.5]
    """
    slack = np.asarray(alphas)[:, None] * effect - change
    return np.maximum(slack.max(axis=1, initial=0.0), 0.0)


def normaliser(effects: ModelEffects, spread: float, constants: Constants) -> float:
    """The larger of the mean active df and the mean active I, to which over-claims are relative.

    In pure redundancy no effect is active, but the interaction is. NaN where neither ever is.
    """
    means = []
    for values in (effects.effect, effects.interaction):
        flat = np.concatenate([np.asarray(v, np.float64) for v in values.values()] or [[]])
        active = flat[flat > constants.active * spread]
        means.append(active.mean() if active.size else np.nan)
    return float(np.nanmax(means)) if np.isfinite(means).any() else float("nan")


def granger(
    effects: ModelEffects,
    changes: Changes,
    scale: float,
    spread: float,
    constants: Constants,
) -> dict[str, dict[str, Any]]:
    """Granger figures of every pair "n<-m", the diagonal included.

    Args:
      effects: of the judged inputs, with a leading axis of examples.
      changes: of the explainer on the same inputs.
      scale: the calibration c.
      spread: the range R.
      constants: thresholds.

    Returns:
      per pair: ``alpha`` (the smallest ``c dE / df`` on active inputs) and its 5 % quantile
      ``alpha_q05``; ``violation_rate`` of ``c dE >= alpha df - beta R`` on active inputs with its
      exact ``violation_interval``; ``overclaim`` on inactive inputs and ``unit_overclaim`` on
      units without interaction, relative to :func:`normaliser`; ``spearman`` of dE and df over
      all inputs, what differs by rounding being tied; ``active`` and ``inactive``, how many
      inputs there are; ``frontier`` ``[[alpha, beta / R], ...]``.
    """
    mass = normaliser(effects, spread, constants)
    return {
        pair(n, m): _pair(n, m, effects, changes, scale, spread, mass, constants)
        for n, m in pairs(list(effects.effect))
    }


def _pair(
    n: str,
    m: str,
    effects: ModelEffects,
    changes: Changes,
    scale: float,
    spread: float,
    mass: float,
    constants: Constants,
) -> dict[str, Any]:
    name = pair(n, m)
    units = scale * np.asarray(changes.units[name], np.float64)
    change = units.sum(axis=1)
    if n == m:
        effect = np.asarray(effects.effect[m], np.float64)
        reach = np.asarray(effects.largest[m], np.float64)[:, -1]
        what = f"{m} is active"
    else:
        effect = np.asarray(effects.interaction[name], np.float64)
        reach = np.asarray(effects.set_interaction[name], np.float64)
        what = f"{n} and {m} interact"
    active = effect > constants.active * spread
    inactive = reach < constants.inactive * spread
    count = int(active.sum())
    ratio = change[active] / effect[active]
    broken = change < constants.alpha * effect - constants.beta * spread
    never = Undefined(f"{what} on none of the inputs")
    out = {
        "alpha": float(ratio.min()) if count else never,
        "alpha_q05": float(np.quantile(ratio, 0.05)) if count else never,
        "violation_rate": float(broken[active].mean()) if count else never,
        "violation_interval": (
            list(clopper_pearson(int(broken[active].sum()), count, constants.confidence))
            if count
            else never
        ),
        "overclaim": _relative(
            change[inactive], mass, f"there is no input on which {_negated(what)}"
        ),
        "unit_overclaim": (
            Undefined("only defined between modalities")
            if n == m
            else _unit_overclaim(effects, name, units, ~inactive, spread, mass, constants)
        ),
        "spearman": number(
            spearman(*(np.asarray(levels(jnp.asarray(v))) for v in (effect, change))),
            "the effect or the change of the explanation is the same on all inputs",
        ),
        "active": count,
        "inactive": int(inactive.sum()),
        "frontier": (
            [
                [a, float(b) / spread]
                for a, b in zip(FRONTIER, frontier(effect[active], change[active]), strict=True)
            ]
            if count
            else never
        ),
    }
    return out


def _negated(what: str) -> str:
    return what.replace(" is active", " is inactive").replace(" interact", " don't interact")


def _relative(values: np.ndarray, mass: float, reason: str) -> float | Undefined:
    if not values.size:
        return Undefined(reason)
    return number(values.mean() / mass, "no modality is active on any input")


def _unit_overclaim(
    effects: ModelEffects,
    name: str,
    units: np.ndarray,
    interacting: np.ndarray,
    spread: float,
    mass: float,
    constants: Constants,
) -> float | Undefined:
    """Change on units that interact in no set, over the inputs on which some set does."""
    apart = np.asarray(effects.unit_interaction[name]) < constants.inactive * spread
    rows = interacting & apart.any(axis=1)
    stray = np.where(apart, units, 0.0).sum(axis=1)
    return _relative(stray[rows], mass, "no input has both an interaction and a unit without one")


def granger_failures(figures: dict[str, dict[str, Any]], constants: Constants) -> list[str]:
    """Which demands of the verdict are not met, in words; empty if all are."""
    limits = {
        "violation_rate": constants.violations,
        "overclaim": constants.overclaim,
        "unit_overclaim": constants.unit_overclaim,
    }
    return [
        f"{name}: {column.replace('_', ' ')} {row[column]:.3g} exceeds {limit:g}"
        for name, row in figures.items()
        for column, limit in limits.items()
        if isinstance(row[column], float) and row[column] > limit
    ]
