"""Measures unified stability on many inputs: perturbations, hill climbing, Jacobians, by rows."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from mmx_jax.desiderata.constants import DEFAULTS, Constants
from mmx_jax.desiderata.explained import ScoreRows
from mmx_jax.desiderata.jacobian import not_differentiable, point
from mmx_jax.desiderata.perturb import PROBE, Perturbations, Probe, moving, perturbations, quotients
from mmx_jax.desiderata.rows import Examples, explain_rows, keys_of
from mmx_jax.desiderata.search import Search, begin, improve, propose
from mmx_jax.desiderata.stability import ModelStability, Stability, found, model_stability
from mmx_jax.desiderata.steadiness import MeasuredStability
from mmx_jax.intervention import FeatureGates
from mmx_jax.mapping import map_examples
from mmx_jax.numerics import derive_key, is_inexact, safe_norm
from mmx_jax.typing import Explainer, Inputs, Model, Scores, record, static

__all__ = ["StabilityPlan", "measure_stability", "radii"]


@dataclasses.dataclass(frozen=True)
class StabilityPlan:
    """Which inputs carry the stability columns, and how thoroughly.

    Attributes:
      examples: how many inputs, the first of the split.
      probe: rows per input.
      rounds: of hill climbing.
      point: whether Jacobians are computed where the explainer has them.
      no_point: why not, as the report says it.
    """

    examples: int = 16
    probe: Probe = PROBE
    rounds: int = 4
    point: bool = True
    no_point: str = ""


def radii(inputs: Inputs, constants: Constants = DEFAULTS, order: float = 2) -> dict[str, float]:
    """Per modality, the radius of the ball: ``constants.radius`` of the mean norm of its data."""
    return {
        m: constants.radius
        * float(np.mean(_norms([d for d in jax.tree.leaves(inputs[m]) if is_inexact(d)], order)))
        for m in moving(inputs)
    }


@partial(jax.jit, static_argnums=1)
def _norms(data: PyTree, order: float) -> Array:
    """The norm of each example ``[n]``."""
    return jax.vmap(lambda x: safe_norm(x, order))(data)


def measure_stability(
    intervention: FeatureGates,
    model: Model,
    explainer: Explainer,
    examples: Examples,
    intact: dict[str, Any],
    radius: dict[str, float],
    plan: StabilityPlan,
    settings: dict[str, Any],
) -> MeasuredStability:
    """Stability of an explainer on the first examples of a split.

    Args:
      intervention: gates and semantic moves.
      model: the model.
      explainer: judged.
      examples: the split; paths lead from each to the next.
      intact: scores of the examples.
      radius: of the ball of each modality.
      plan: how many examples, and how thoroughly.
      settings: of :func:`explain_rows`.
    """
    few = examples.first(plan.examples)
    before = jax.tree.map(lambda s: s[: len(few)], intact)
    other = jax.tree.map(lambda x: np.roll(np.asarray(x), -1, axis=0)[: len(few)], examples.inputs)
    # a key for the perturbations and one per round of hill climbing
    seeds = keys_of(few.keys, "stability", plan.rounds + 1)
    order = plan.probe.order
    reach = jax.tree.map(jnp.asarray, radius)

    def explain(rows: Inputs) -> dict[str, Any]:
        return explain_rows(explainer, model, rows, few.targets, few.keys, **settings)

    perturbed = map_examples(
        _Perturb(intervention, reach, plan.probe), few.inputs, other, seeds[:, 0]
    )
    rows = explain(perturbed.inputs)
    targets = np.asarray(few.targets)
    one: PyTree = jax.tree.map(lambda x: jnp.asarray(x[0]), few)
    smooth = not_differentiable(lambda x: {"": model(x)}, one.inputs) is None
    own: ModelStability = map_examples(
        _OfModel(smooth),
        model,
        few.inputs,
        targets,
        perturbed,
        in_axes=(None, 0, 0, 0),
    )
    quotient = map_examples(quotients, perturbed, before, rows)
    search = map_examples(begin, few.inputs, perturbed, before, rows)
    for i in range(plan.rounds if search.steps else 0):
        proposed = map_examples(_Propose(reach, order), search, few.inputs, seeds[:, 1 + i])
        search = map_examples(
            _Improve(order), search, few.inputs, proposed, before, explain(proposed)
        )
    reason, norms = plan.no_point or "Jacobians were not asked for", None
    if plan.point:
        reason = not_differentiable(
            lambda x: explainer(model, x, one.targets, one.keys), one.inputs
        )
        if reason is None:
            norms = map_examples(
                _Point(explainer, order),
                model,
                few.inputs,
                targets,
                few.keys,
                in_axes=(None, 0, 0, 0),
                chunk=4,
            )
    result: Stability = found(*jax.tree.map(jnp.asarray, (quotient, search, norms)))
    norm = {n: _norms(s, order) for n, s in intact.items()}
    return MeasuredStability(result, own, norm, reason, order)


@record
class _OfModel:
    slopes: bool = static()

    def __call__(
        self, model: Model, inputs: Inputs, target: Array, perturbed: Perturbations
    ) -> ModelStability:
        return model_stability(model, inputs, target, perturbed, slopes=self.slopes)


@record
class _Perturb:
    intervention: FeatureGates
    radius: dict[str, Any]
    probe: Probe = static(default=PROBE)

    def __call__(self, inputs: Inputs, other: Inputs, key: Array) -> Perturbations:
        modalities = self.intervention.modalities
        return perturbations(modalities, inputs, other, key, self.radius, self.probe)


@record
class _Propose:
    radius: dict[str, Any]
    order: float = static(default=2)

    def __call__(self, search: Search, inputs: Inputs, key: Array) -> Inputs:
        return propose(search, inputs, key, self.radius, self.order)


@record
class _Improve:
    order: float = static(default=2)

    def __call__(
        self, search: Search, inputs: Inputs, proposed: Inputs, intact: Scores, rows: ScoreRows
    ) -> Search:
        return improve(search, inputs, proposed, intact, rows, self.order)


@record
class _Point:
    explainer: Any
    order: float = static(default=2)

    def __call__(self, model: Model, inputs: Inputs, target: Array, key: Array) -> dict[str, Array]:
        def explain(x: Inputs) -> Scores:
            return self.explainer(model, x, target, key)

        return point(explain, inputs, derive_key(key, "stability"), order=self.order)
