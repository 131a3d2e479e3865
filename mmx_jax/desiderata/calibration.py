"""One scalar per explainer and task, and the range that makes thresholds scale-free.

Both come from the calibration split, never from the inputs that are judged.
"""

import dataclasses

import numpy as np

from mmx_jax.desiderata.effects import ModelEffects
from mmx_jax.desiderata.explained import Changes
from mmx_jax.errors import InputError

__all__ = ["Calibration", "calibrate", "value_range"]


ROUNDING = 1e-6
"""Changes below this share of the explanations themselves are rounding errors of their sums."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What is fixed before an explainer is judged.

    Attributes:
      scale: c; every reported number uses ``c E``. NaN where it is undefined.
      per_modality: the same sum over one modality alone, which a composite may need.
      reason: why ``scale`` is undefined (a failed Granger test), or None.
    """

    scale: float
    per_modality: dict[str, float]
    reason: str | None = None


def calibrate(effects: ModelEffects, changes: Changes) -> Calibration:
    """``c = sum df_m / sum |sum_u (E_m,u(x) - E_m,u(x_-m))|`` over inputs and modalities.

    The inner sum is signed, so that opposing evidence cancels in both.

    Args:
      effects: of the calibration split, with a leading axis of examples.
      changes: of the explainer on the same examples.
    """
    names = sorted(effects.effect)
    finite = np.asarray(changes.finite)
    if not finite.all():
        reason = f"scores are not finite on {int((~finite).sum())} of {finite.size} inputs"
        return Calibration(float("nan"), dict.fromkeys(names, float("nan")), reason)
    effect = {m: float(np.sum(np.asarray(effects.effect[m], np.float64))) for m in names}
    change = {m: float(np.sum(np.asarray(changes.signed[m], np.float64))) for m in names}
    total, below = sum(effect.values()), sum(change.values())
    size = sum(float(np.sum(np.asarray(s, np.float64))) for s in changes.norm.values())
    below = below if below > ROUNDING * size else 0.0
    scale = total / below if below > 0 else float("nan")
    reason = None
    if total == 0 < below:
        scale, reason = float("nan"), "explanations change where the model's output never does"
    elif below == 0:
        what = "nor does the model" if total == 0 else "though the model's output does"
        reason = f"no modality's explanation changes in sum when it is removed, {what}"
    elif not np.isfinite(scale):
        scale, reason = float("nan"), "the explanations' changes are too small to be calibrated"
    ratios = {m: effect[m] / change[m] if change[m] > 0 else float("nan") for m in names}
    return Calibration(scale, ratios, reason)


def value_range(outputs: np.ndarray, targets: np.ndarray) -> float:
    """R: the range of ``v(x) = f(x)[t]`` over the inputs of the calibration split.

    v is a function of x for one target t; with several targets in the split the widest of their
    ranges counts.

    Args:
      outputs: ``[examples, outputs]`` of the intact inputs.
      targets: ``[examples]``.

    Raises:
      InputError: fewer than two inputs, NaN outputs, or a model that is constant on them.
    """
    outputs = np.asarray(outputs, np.float64)
    if outputs.shape[0] < 2:
        raise InputError("calibration split", f"holds {outputs.shape[0]} inputs", "give at least 2")
    if not np.isfinite(outputs).all():
        raise InputError("model", "returns NaN or infinite outputs", "check its weights and inputs")
    spread = (outputs.max(0) - outputs.min(0))[np.unique(np.asarray(targets))].max()
    if spread <= 0:
        raise InputError(
            "model", "gives all inputs the same value", "there is nothing to explain: check it"
        )
    return float(spread)
