"""Measures a model and explainers on many inputs, with one compiled program per explainer.

Host-side, on top of the pure functions: everything that needs an explainer is turned into rows of
inputs, and all rows go through the same compiled explanation.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from mmx_jax.desiderata.constants import DEFAULTS, Constants
from mmx_jax.desiderata.effects import ModelEffects, model_effects
from mmx_jax.desiderata.faithfulness import Faithfulness, faithfulness
from mmx_jax.desiderata.perturbed import StabilityPlan, measure_stability, radii
from mmx_jax.desiderata.rows import Examples, explain_changes, explain_rows, keys_of
from mmx_jax.desiderata.scorecard import Measured
from mmx_jax.desiderata.truth import Recovery, recovery
from mmx_jax.errors import InputError
from mmx_jax.intervention import FeatureGates
from mmx_jax.mapping import Progress, map_examples
from mmx_jax.numerics import derive_key
from mmx_jax.typing import Explainer, Inputs, Intervention, Model, Scores, record, static

__all__ = [
    "Examples",
    "StabilityPlan",
    "explain_changes",
    "explain_rows",
    "measure",
    "measure_effects",
    "radii",
]


def measure_effects(
    intervention: Intervention,
    model: Model,
    examples: Examples,
    *,
    sets: bool = True,
    constants: Constants = DEFAULTS,
    chunk: int | None = None,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
) -> ModelEffects:
    """:func:`model_effects` of every example, as NumPy arrays; all explainers share it.

    Without ``sets``, which is enough to calibrate, no sets of units are searched.

    Raises:
      InputError: a model that returns NaN or infinite values.
    """
    out = map_examples(
        _Effects(intervention, constants, sets),
        model,
        examples.inputs,
        np.asarray(examples.targets),
        in_axes=(None, 0, 0),
        chunk=chunk,
        mesh=mesh,
        progress=progress,
    )
    if not np.isfinite(out.outputs).all():
        raise InputError("model", "returns NaN or infinite values", "check its weights and inputs")
    removed = [*out.effect.values(), *out.largest.values()]
    if not all(np.isfinite(leaf).all() for leaf in removed):
        raise InputError(
            "model",
            "returns NaN or infinite values where units are removed",
            "let it take every unit at its reference, or choose another reference",
        )
    return out


def measure(
    intervention: FeatureGates,
    model: Model,
    explainer: Explainer,
    examples: Examples,
    *,
    joint: Explainer | None = None,
    stability: StabilityPlan | None = None,
    radius: dict[str, float] | None = None,
    keys: int = 0,
    relevant: dict[str, Any] | None = None,
    known: Any = None,
    constants: Constants = DEFAULTS,
    chunk: int = 32,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
) -> tuple[Measured, dict[str, Any]]:
    """Everything the scorecard needs of one explainer, and its scores of the intact inputs.

    Args:
      intervention: gates and semantic moves.
      model: the model.
      explainer: judged.
      examples: the judged split.
      joint: explains for the joint test and the recovery; the explainer itself if None.
      stability: which inputs carry it; none if None.
      radius: of the balls, from :func:`radii` of the calibration split.
      keys: how many more keys the share of variance is taken from (with 0 it is not measured).
      relevant: per modality ``[n, units]``, the units known to matter.
      known: ``[n]``, whether that is known unit by unit.
      constants: thresholds.
      chunk: explanations per compiled call.
      mesh: devices.
      progress: called after each chunk of explanations.
    """
    settings: dict[str, Any] = {"chunk": chunk, "mesh": mesh, "progress": progress}
    scores, changed = explain_changes(intervention, model, explainer, examples, **settings)
    intact = scores.intact
    together = intact
    single = jax.tree.map(lambda x: np.asarray(x)[:, None], examples.inputs)
    if joint is not None:
        rows = explain_rows(joint, model, single, examples.targets, examples.keys, **settings)
        together = jax.tree.map(lambda s: s[:, 0], rows)
    tested = map_examples(
        _Faithfulness(intervention, constants),
        model,
        intact,
        together,
        examples.inputs,
        np.asarray(examples.targets),
        examples.keys,
        in_axes=(None, 0, 0, 0, 0, 0),
        chunk=chunk,
        mesh=mesh,
    )
    several = None
    if keys:
        more = keys_of(examples.keys, "keys", keys)
        repeated = jax.tree.map(lambda x: np.repeat(x, keys, axis=1), single)
        drawn = explain_rows(explainer, model, repeated, examples.targets, more, **settings)
        several = jax.tree.map(
            lambda a, b: np.concatenate([np.asarray(a)[:, None], b], axis=1), intact, drawn
        )
    return Measured(
        changes=changed,
        faithfulness=tested,
        evaluations=explainer.evaluations,
        stability=None
        if stability is None
        else measure_stability(
            intervention,
            model,
            explainer,
            examples,
            intact,
            radius or radii(examples.inputs, constants, stability.probe.order),
            stability,
            settings,
        ),
        keys=several,
        recovery=None
        if relevant is None
        else map_examples(_Recovery(constants), together, relevant, examples.keys),
        known=None if known is None else np.asarray(known),
    ), intact


@record
class _Effects:
    intervention: Intervention
    constants: Constants = static(default=DEFAULTS)
    sets: bool = static(default=True)

    def __call__(self, model: Model, inputs: Inputs, target: Array) -> ModelEffects:
        return model_effects(
            self.intervention, model, inputs, target, constants=self.constants, sets=self.sets
        )


@record
class _Faithfulness:
    intervention: Intervention
    constants: Constants = static(default=DEFAULTS)

    def __call__(
        self, model: Model, scores: Scores, joint: Scores, inputs: Inputs, target: Array, key: Array
    ) -> Faithfulness:
        ties = derive_key(key, "ties")
        return faithfulness(
            self.intervention,
            model,
            scores,
            inputs,
            target,
            ties,
            joint=joint,
            constants=self.constants,
        )


@record
class _Recovery:
    constants: Constants = static(default=DEFAULTS)

    def __call__(self, scores: Scores, relevant: dict[str, Array], key: Array) -> Recovery:
        return recovery(scores, relevant, derive_key(key, "ties"), constants=self.constants)
