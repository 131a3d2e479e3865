"""Stability over many inputs: calibrated constants per pair, semantic moves, and the verdict."""

import dataclasses
from typing import Any

import numpy as np

from mmx_jax.desiderata.calibration import Calibration
from mmx_jax.desiderata.constants import Constants
from mmx_jax.desiderata.effects import pair, pairs
from mmx_jax.desiderata.stability import ModelStability, Stability
from mmx_jax.desiderata.undefined import Undefined

__all__ = [
    "MeasuredStability",
    "model_stability_figures",
    "move_figures",
    "stability_failures",
    "stability_figures",
]

NOT_CALIBRATED = Undefined("the scores are not calibrated")
KINDS = ("point", "searched", "path")


@dataclasses.dataclass(frozen=True)
class MeasuredStability:
    """Stability of one explainer and of the model on the same inputs, leading axis examples.

    Attributes:
      explanation: of the explainer, raw.
      model: of the model.
      norm: per modality ``[examples]``, ``||E_n(x)||`` raw, whose mean makes constants relative.
      not_differentiable: why there is no point constant, or None.
      order: the norm, 2 or inf.
    """

    explanation: Stability
    model: ModelStability
    norm: dict[str, Any]
    not_differentiable: str | None = None
    order: float = 2


def model_stability_figures(
    model: ModelStability, constants: Constants
) -> dict[str, dict[str, float]]:
    """Per modality m: ``point`` and ``searched`` (quantiles over inputs), ``path`` (maximum)."""
    return {
        m: {
            "point": float(np.quantile(np.asarray(model.point[m]), constants.quantile)),
            "searched": float(np.quantile(np.asarray(model.searched[m]), constants.quantile)),
            "path": float(np.max(np.asarray(model.path[m]))),
        }
        for m in sorted(model.point)
    }


def stability_figures(
    measured: MeasuredStability, scale: float, names: list[str], constants: Constants
) -> dict[str, dict[str, Any]]:
    """Per pair "n<-m", of ``c E``: ``point`` and ``searched`` (95 % quantiles over inputs),
    ``path`` (maximum), ``certified``, and ``relative``, the largest of them over the mean of
    ``||c E_n||`` over inputs.

    Args:
      measured: on the inputs that carry the stability columns.
      scale: the calibration c; NaN where undefined.
      names: of the modalities.
      constants: the quantile.
    """
    out = {}
    for n, m in pairs(names):
        name, row = pair(n, m), {}
        for kind in KINDS:
            raw = getattr(measured.explanation, kind).get(name)
            if raw is None:
                row[kind] = Undefined(
                    f"{m} has integer data, which can't move a little"
                    if name not in measured.explanation.path
                    else measured.not_differentiable or "the explainer was not differentiated"
                )
                continue
            values = np.asarray(raw, np.float64)
            whole = values.max() if kind == "path" else np.quantile(values, constants.quantile)
            row[kind] = _times(scale, whole)
        row["certified"] = Undefined("bounds are computed on demand by mmx_jax.certify")
        sizes = np.asarray(measured.norm[n], np.float64)
        size = float(np.mean(sizes[np.isfinite(sizes)])) if np.isfinite(sizes).any() else 0.0
        known = [row[kind] for kind in KINDS if isinstance(row[kind], float)]
        if not known:
            row["relative"] = row["path"]
        elif size * scale > 0:
            row["relative"] = max(known) / (size * scale)
        else:
            row["relative"] = Undefined(f"the explanation of {n} is 0 on all inputs")
        out[name] = row
    return out


def _times(scale: float, raw: float) -> float | Undefined:
    """``c L``; 0 stays 0 where c is undefined, because a constant explanation is stable."""
    if not np.isfinite(raw):
        return Undefined("the explanation is not finite near some inputs")
    if raw == 0:
        return 0.0
    return float(scale * raw) if np.isfinite(scale) else NOT_CALIBRATED


def move_figures(
    measured: MeasuredStability, scale: float, spread: float, names: list[str], constants: Constants
) -> dict[str, dict[str, Any]]:
    """Per pair and semantic move, over the inputs and draws on which the move keeps the output:
    mean ``quotient``, mean ``change`` of ``c E_n``, mean ``rank_shift``, and ``kept``, the share
    of draws that keep it (same largest output, ``|v' - v|`` at most ``constants.kept`` R).
    """
    out: dict[str, dict[str, Any]] = {}
    for n, m in pairs(names):
        for move, values in measured.explanation.moves.get(pair(n, m), {}).items():
            kept = np.asarray(measured.model.kept[f"{move} {m}"]) <= constants.kept * spread
            row: dict[str, Any] = {"kept": float(kept.mean())}
            for column, raw in values.items():
                rows = np.asarray(raw, np.float64)[kept]
                rows = rows[~np.isnan(rows)] if column == "quotient" else rows
                if not kept.any():
                    row[column] = Undefined("the move keeps the output on none of the inputs")
                elif not rows.size:
                    row[column] = Undefined("integer data have no distance")
                elif column == "rank_shift":
                    row[column] = float(rows.mean())
                else:
                    row[column] = _times(scale, float(rows.mean()))
            out.setdefault(pair(n, m), {})[move] = row
    return out


def stability_failures(
    figures: dict[str, dict[str, Any]],
    model: dict[str, dict[str, float]],
    calibration: Calibration,
    constants: Constants,
) -> tuple[bool, list[str]]:
    """Whether the verdict applies, and what speaks against a pass.

    The largest of all constants is compared with the largest of all constants of the model:
    kind by kind even the truth fails on models that are saturated, hence flat, at the data.
    """
    rows = [
        (value, f"{kind} {name}")
        for name, row in figures.items()
        for kind, value in row.items()
        if kind in KINDS and isinstance(value, float)
    ]
    own = [v for row in model.values() for v in row.values()]
    if not np.isfinite(own).all():
        return False, ["the model's own value or slope is not finite near some inputs"]
    broken = [
        f"{name}: {row[kind].reason}"
        for name, row in figures.items()
        for kind in ("searched", "path")
        if isinstance(row[kind], Undefined) and "not finite" in row[kind].reason
    ]
    if broken:
        return True, broken
    if any(row[kind] == NOT_CALIBRATED for row in figures.values() for kind in KINDS):
        return False, [f"the scores are not calibrated: {calibration.reason}"]
    if not rows:
        return False, ["no modality has data that can move a little"]
    worst, where = max(rows)
    limit = constants.stability_factor * max(own)
    if worst <= limit:
        return True, []
    return True, [
        f"{where} is {worst:.3g}; {constants.stability_factor:g} times the model's own largest "
        f"constant is {limit:.3g}"
    ]
