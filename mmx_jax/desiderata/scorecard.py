"""One row per explainer: the figures of all desiderata and a verdict for each.

Host-side: it takes records with a leading axis of examples, made by ``vmap`` or ``map_examples``.
"""

import dataclasses
from typing import Any

import numpy as np

from mmx_jax.desiderata.calibration import Calibration
from mmx_jax.desiderata.constants import DEFAULTS, Constants
from mmx_jax.desiderata.effects import ModelEffects
from mmx_jax.desiderata.explained import Changes
from mmx_jax.desiderata.faithfulness import Faithfulness
from mmx_jax.desiderata.granger import granger, granger_failures
from mmx_jax.desiderata.holding import faithfulness_failures, faithfulness_figures
from mmx_jax.desiderata.keys import key_variance
from mmx_jax.desiderata.steadiness import (
    MeasuredStability,
    model_stability_figures,
    move_figures,
    stability_failures,
    stability_figures,
)
from mmx_jax.desiderata.truth import Recovery, recovery_figures
from mmx_jax.desiderata.undefined import Undefined, number, settle

__all__ = ["Measured", "scorecard"]

PASS, FAIL, NOT_APPLICABLE = "pass", "fail", "not applicable"
NOTHING = "no modality and no set of units clearly moves the output on any input"


@dataclasses.dataclass(frozen=True)
class Measured:
    """Everything measured of one explainer on the judged inputs, with a leading axis of examples.

    Attributes:
      changes: of the explanation when a modality goes.
      faithfulness: keep and remove.
      evaluations: model calls of one explanation.
      stability: on the inputs that carry it, or None where it was not asked for.
      keys: per modality ``[examples, keys, units]``, scores under several keys, or None.
      recovery: of the known truth, or None where there is none.
      known: ``[examples]``, whether the truth is known unit by unit; everywhere if None.
    """

    changes: Changes
    faithfulness: Faithfulness
    evaluations: int
    stability: MeasuredStability | None = None
    keys: dict[str, Any] | None = None
    recovery: Recovery | None = None
    known: np.ndarray | None = None


def scorecard(
    effects: ModelEffects,
    measured: Measured,
    calibration: Calibration,
    spread: float,
    constants: Constants = DEFAULTS,
) -> dict[str, Any]:
    """The row of one explainer in ``results.json``.

    A number that is undefined is ``None``, and ``reasons`` says why under its dotted path, for
    example ``{"granger.image<-note.spearman": "..."}``. A verdict that is not "pass" has its
    grounds in ``why.{desideratum}``, a list of sentences.

    Args:
      effects: of the model on the judged inputs.
      measured: of the explainer on the same inputs.
      calibration: from the calibration split.
      spread: the range R, from the calibration split.
      constants: thresholds.
    """
    finite = np.asarray(measured.changes.finite)
    lost = int((~finite).sum())
    broken = f"scores are not finite on {lost} of {finite.size} inputs" if lost else None
    undefined = calibration.reason or broken
    faithful = faithfulness_figures(effects, measured.faithfulness, spread, constants)
    why = {"faithfulness": faithfulness_failures(faithful, constants)}
    if broken:
        why["faithfulness"] = [broken]
        for column in ("sufficiency", "necessity", "own_set", "own_set_holds"):
            faithful[column] = _all(faithful[column], Undefined(broken))
    pairs = granger(
        effects, measured.changes, 1.0 if undefined else calibration.scale, spread, constants
    )
    if undefined:
        none = Undefined(f"not calibrated: {undefined}")
        pairs = {
            name: {k: v if k in ("active", "inactive") else none for k, v in row.items()}
            for name, row in pairs.items()
        }
    why["granger"] = [undefined] if undefined else granger_failures(pairs, constants)
    steady, moves, applies, unsteady = _stability(effects, measured, calibration, spread, constants)
    why["stability"] = unsteady
    verdict = {name: FAIL if grounds else PASS for name, grounds in why.items()}
    if not applies:
        verdict["stability"] = NOT_APPLICABLE
    for name, judged in (("granger", _judged(pairs)), ("faithfulness", _tested(faithful))):
        if not (judged or why[name]):
            verdict[name] = NOT_APPLICABLE
            why[name] = [NOTHING]
    tree = {
        "calibration": number(calibration.scale, str(calibration.reason)),
        "calibration_per_modality": {
            m: number(c, f"the explanation of {m} never changes in sum")
            for m, c in calibration.per_modality.items()
        },
        "granger": pairs,
        **faithful,
        "stability": steady,
        "moves": moves,
        "key_variance": (
            key_variance(measured.keys)
            if measured.keys is not None
            else Undefined("one key only was drawn")
        ),
        "truth": _truth(measured, broken),
        "evaluations": int(measured.evaluations),
        "verdict": verdict,
        "why": why,
    }
    row, reasons = settle(tree)
    return row | {"reasons": reasons}


def _truth(measured: Measured, broken: str | None) -> Any:
    if measured.recovery is None:
        return Undefined("the truth of this task is not known")
    figures = recovery_figures(measured.recovery, measured.known)
    return _all(figures, Undefined(broken)) if broken else figures


def _judged(pairs: dict[str, dict[str, Any]]) -> bool:
    """Whether any demand of the Granger verdict could be measured."""
    columns = ("violation_rate", "overclaim", "unit_overclaim")
    return any(isinstance(row[column], float) for row in pairs.values() for column in columns)


def _tested(faithful: dict[str, Any]) -> bool:
    """Whether anything could be necessary: some set of units moves the output on some input."""
    return any(isinstance(row["own"], float) for row in faithful["necessity"].values())


def _stability(
    effects: ModelEffects,
    measured: Measured,
    calibration: Calibration,
    spread: float,
    constants: Constants,
) -> tuple[Any, Any, bool, list[str]]:
    """The stability columns, the semantic moves, whether the verdict applies, and its grounds."""
    if measured.stability is None:
        none = Undefined("stability was not measured for this explainer")
        return none, none, False, [none.reason]
    names = sorted(effects.effect)
    own = model_stability_figures(measured.stability.model, constants)
    figures = stability_figures(measured.stability, calibration.scale, names, constants)
    moves = move_figures(measured.stability, calibration.scale, spread, names, constants)
    return figures, moves, *stability_failures(figures, own, calibration, constants)


def _all(tree: Any, leaf: Undefined) -> Any:
    return {k: _all(v, leaf) for k, v in tree.items()} if isinstance(tree, dict) else leaf
