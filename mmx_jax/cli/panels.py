"""What the page draws beside the scorecard: the use of modalities, curves, and examples."""

import dataclasses
from typing import Any

import jax
import numpy as np

from mmx_jax.cli.explainers import CONTROLS, RESCALED, UNSIGNED
from mmx_jax.cli.subject import Subject
from mmx_jax.desiderata import DEFAULTS, Calibration, Measured, ModelEffects, inactive, redundant
from mmx_jax.report.pictures import describe

__all__ = ["Judged", "draw_panels"]

SHOWN = 6
"""Examples drawn in the page."""


@dataclasses.dataclass(frozen=True)
class Judged:
    """One explainer on the judged examples: its scores, what was measured, its calibration."""

    scores: dict[str, np.ndarray]
    measured: Measured
    calibration: Calibration
    seconds: float = 0.0

    @property
    def scale(self) -> float:
        """The calibration, or 1 where it is undefined, so that pictures can be drawn."""
        return self.calibration.scale if self.calibration.reason is None else 1.0


def draw_panels(
    subject: Subject,
    effects: ModelEffects,
    judged: dict[str, Judged],
    spread: float,
) -> dict[str, Any]:
    """The content of ``panels.json``, from records of the judged examples."""
    names = sorted(subject.modalities)
    active = {m: np.asarray(effects.effect[m]) > DEFAULTS.active * spread for m in names}
    idle = inactive(effects, spread, DEFAULTS)
    stand_in = redundant(effects, spread, DEFAULTS)
    crossing = [np.asarray(v) > DEFAULTS.active * spread for v in effects.interaction.values()]
    return {
        "schema": "panels/1",
        "modalities": {m: describe(subject.modalities[m]) for m in names},
        "use": {
            m: {
                "effect": float(np.mean(effects.effect[m])),
                "active": float(active[m].mean()),
                "inactive": float(idle[m].mean()),
            }
            for m in names
        },
        "accuracy": subject.accuracy,
        "redundant": float(np.mean(np.any([stand_in[m] for m in names], axis=0))),
        "interacting": float(np.mean(np.any(crossing, axis=0))) if crossing else 0.0,
        "controls": [n for n in judged if n.removeprefix("rescaled-") in CONTROLS],
        "changes": {
            n: {
                m: float(j.scale * np.mean(np.sum(j.measured.changes.units[f"{m}<-{m}"], -1)))
                for m in names
            }
            for n, j in judged.items()
            if j.calibration.reason is None
        },
        "stability": [n for n, j in judged.items() if j.measured.stability is not None],
        "curves": {n: _curves(j.measured, spread) for n, j in judged.items()},
        "examples": [
            _example(i, subject, effects, judged, spread, active, idle, stand_in)
            for i in _chosen(subject, len(effects.value))
        ],
    }


def _curves(measured: Measured, spread: float) -> dict[str, Any]:
    """Mean keep and remove curves of the joint test, in units of R."""
    keep = np.abs(measured.faithfulness.keep["joint"]).mean(0) / spread
    remove = np.abs(measured.faithfulness.remove["joint"]).mean(0) / spread
    return {"share": np.linspace(0, 1, len(keep)), "keep": keep, "remove": remove}


def _chosen(subject: Subject, count: int) -> list[int]:
    """Examples of as many modes as there are, then the first ones."""
    modes = None if subject.truth is None else subject.truth.get("mode")
    first = [] if modes is None else np.unique(modes, return_index=True)[1].tolist()
    return sorted(list(dict.fromkeys([*first, *range(count)]))[:SHOWN])


def _example(
    i: int,
    subject: Subject,
    effects: ModelEffects,
    judged: dict[str, Judged],
    spread: float,
    active: dict[str, np.ndarray],
    idle: dict[str, np.ndarray],
    stand_in: dict[str, np.ndarray],
) -> dict[str, Any]:
    names = sorted(subject.modalities)
    target = int(subject.evaluation_targets[i])
    known = subject.target_names
    return {
        "index": i,
        "target": target,
        "target_name": known[target] if target < len(known) else f"output {target}",
        "value": float(effects.value[i]),
        "predicted": bool(np.argmax(effects.outputs[i]) == target),
        "label": subject.labels[i] if subject.labels else "",
        "inputs": jax.tree.map(lambda leaf: leaf[i], subject.evaluation),
        "effects": {m: float(effects.effect[m][i]) for m in names},
        "state": {
            m: "active"
            if active[m][i]
            else "inactive"
            if idle[m][i]
            else "in parts"
            if effects.effect[m][i] < DEFAULTS.inactive * spread
            else "weak"
            for m in names
        },
        "redundant": [m for m in names if stand_in[m][i]],
        "explanations": {
            n: _explanation(i, j, effects, spread) | {"signed": _signed(n)}
            for n, j in judged.items()
            if n not in CONTROLS
        },
    }


def _explanation(i: int, judged: Judged, effects: ModelEffects, spread: float) -> dict[str, Any]:
    """Calibrated scores of one example, its own sets, and the units that may be named.

    Scores that are not finite are drawn as zeros and said to be ``broken``.
    """
    if not all(np.isfinite(s[i]).all() for s in judged.scores.values()):
        nothing: dict[str, list[int]] = {m: [] for m in judged.scores}
        zeros = {m: np.zeros(len(s[i])) for m, s in judged.scores.items()}
        return {"scores": zeros, "own": nothing, "named": nothing, "broken": True}
    size = judged.measured.faithfulness.size
    return {
        "scores": {m: judged.scale * s[i] for m, s in judged.scores.items()},
        "own": {m: _order(s[i])[: int(size[m][i])] for m, s in judged.scores.items()},
        "named": {m: _named(i, m, judged, effects, spread) for m in judged.scores},
    }


def _signed(name: str) -> bool:
    """Whether a method tells evidence for from evidence against."""
    return name.removeprefix(RESCALED).split(" + ")[0] not in UNSIGNED


def _order(scores: np.ndarray) -> np.ndarray:
    """Units by magnitude, the largest first."""
    return np.argsort(-np.abs(scores), kind="stable")


def _named(i: int, name: str, judged: Judged, effects: ModelEffects, spread: float) -> list[int]:
    """The smallest set of highest-ranked units that passes keep and remove, in that order.

    A set whose border cuts through tied scores was drawn by lot, and is passed over.
    """
    tested = judged.measured.faithfulness
    size = np.abs(np.asarray(judged.scores[name][i]))
    order = _order(size)
    error = np.abs(np.asarray(tested.keep[name][i])) / spread
    drop = np.maximum.accumulate(np.abs(np.asarray(tested.remove[name][i])))
    most = np.maximum(np.asarray(effects.largest[name][i]), drop)
    for k in range(1, int(tested.size[name][i]) + 1):
        tied = k < len(order) and size[order[k]] == size[order[k - 1]]
        counts = most[k] >= DEFAULTS.counted * spread and not tied
        if counts and error[k] <= DEFAULTS.sufficiency and drop[k] >= DEFAULTS.necessity * most[k]:
            return order[:k].tolist()
    return []
