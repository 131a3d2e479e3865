"""Measures a model and explainers on many inputs, with one compiled program per explainer.

Host-side, on top of the pure functions: everything that needs an explainer is turned into rows of
inputs, and all rows go through the same compiled explanation.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

from mmx_jax.desiderata.constants import DEFAULTS, Constants
from mmx_jax.desiderata.effects import ModelEffects, model_effects
from mmx_jax.desiderata.explained import (
    Changes,
    Explained,
    ScoreRows,
    changes,
    collect,
    counterfactuals,
)
from mmx_jax.desiderata.faithfulness import Faithfulness, faithfulness
from mmx_jax.desiderata.jacobian import not_differentiable, point
from mmx_jax.desiderata.perturb import PROBE, Perturbations, Probe, moving, perturbations, quotients
from mmx_jax.desiderata.scorecard import Measured
from mmx_jax.desiderata.search import Search, begin, improve, propose
from mmx_jax.desiderata.stability import ModelStability, Stability, found, model_stability
from mmx_jax.desiderata.steadiness import MeasuredStability
from mmx_jax.desiderata.truth import Recovery, recovery
from mmx_jax.errors import InputError
from mmx_jax.intervention import FeatureGates
from mmx_jax.mapping import Progress, map_examples
from mmx_jax.numerics import derive_key, is_inexact, safe_norm
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


@dataclasses.dataclass(frozen=True)
class Examples:
    """A split, with a leading axis of examples.

    Attributes:
      inputs: per modality.
      targets: ``[n]``, chosen on the intact inputs.
      keys: ``[n]``, from :func:`mmx_jax.derive_keys`.
    """

    inputs: Inputs
    targets: Any
    keys: Any

    def __len__(self) -> int:
        """How many."""
        return int(np.shape(self.targets)[0])

    def first(self, count: int) -> "Examples":
        """The first ``count`` of them."""
        return jax.tree.map(lambda x: x[:count], self)


jax.tree_util.register_dataclass(Examples, ["inputs", "targets", "keys"], [])


@dataclasses.dataclass(frozen=True)
class StabilityPlan:
    """Which inputs carry the stability columns, and how thoroughly.

    Attributes:
      examples: how many inputs, the first of the split.
      probe: rows per input.
      rounds: of hill climbing.
      point: whether Jacobians are computed where the explainer has them.
    """

    examples: int = 16
    probe: Probe = PROBE
    rounds: int = 4
    point: bool = True


def radii(inputs: Inputs, constants: Constants = DEFAULTS, order: float = 2) -> dict[str, float]:
    """Per modality, the radius of the ball: ``constants.radius`` of the mean norm of its data."""
    return {
        m: constants.radius
        * float(
            jnp.mean(
                jax.vmap(
                    lambda x: safe_norm([d for d in jax.tree.leaves(x) if is_inexact(d)], order)
                )(jax.tree.map(jnp.asarray, inputs[m]))
            )
        )
        for m in moving(inputs)
    }


@record
class _Effects:
    intervention: Intervention
    constants: Constants = static(default=DEFAULTS)

    def __call__(self, model: Model, inputs: Inputs, target: Array) -> ModelEffects:
        return model_effects(self.intervention, model, inputs, target, constants=self.constants)


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
class _Counterfactuals:
    intervention: Intervention

    def __call__(self, inputs: Inputs) -> Inputs:
        return counterfactuals(self.intervention, inputs)


@record
class _Collect:
    intervention: Intervention

    def __call__(self, rows: ScoreRows) -> tuple[Explained, Changes]:
        scores = collect(self.intervention, rows)
        return scores, changes(scores)


@record
class _Recovery:
    constants: Constants = static(default=DEFAULTS)

    def __call__(self, scores: Scores, relevant: dict[str, Array], key: Array) -> Recovery:
        return recovery(scores, relevant, derive_key(key, "ties"), constants=self.constants)


@record
class _Keys:
    purpose: str = static()
    count: int = static()

    def __call__(self, key: Array) -> Array:
        return jax.random.split(derive_key(key, self.purpose), self.count)


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


def measure_effects(
    intervention: Intervention,
    model: Model,
    examples: Examples,
    *,
    constants: Constants = DEFAULTS,
    chunk: int | None = None,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
) -> ModelEffects:
    """:func:`model_effects` of every example, as NumPy arrays; all explainers share it.

    Raises:
      InputError: a model that returns NaN or infinite values.
    """
    out = map_examples(
        _Effects(intervention, constants),
        model,
        examples.inputs,
        jnp.asarray(examples.targets),
        in_axes=(None, 0, 0),
        chunk=chunk,
        mesh=mesh,
        progress=progress,
    )
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((out.outputs, out.largest))):
        raise InputError("model", "returns NaN or infinite values", "check its weights and inputs")
    return out


def explain_rows(
    explainer: Explainer,
    model: Model,
    rows: Inputs,
    targets: Any,
    keys: Any,
    *,
    chunk: int = 32,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Explains rows ``[n, r, ...]`` of inputs, all in chunks of one size: one compilation.

    Args:
      explainer: the explainer.
      model: the model.
      rows: r inputs per example.
      targets: ``[n]``.
      keys: ``[n]``, the same for all rows of an example, or ``[n, r]``.
      chunk: explanations per compiled call.
      mesh: devices.
      progress: called after each chunk.

    Returns:
      scores ``[n, r, units]``.
    """
    n, r = jax.tree.leaves(rows)[0].shape[:2]
    total = n * r
    index = np.arange(max(total, chunk)).clip(max=total - 1)  # padded to one whole chunk
    flat = jax.tree.map(lambda x: x.reshape(total, *x.shape[2:])[index], rows)
    keys = keys if keys.ndim == 2 else jnp.repeat(keys[:, None], r, axis=1)
    scores = map_examples(
        explainer,
        model,
        flat,
        jnp.repeat(jnp.asarray(targets), r)[index],
        keys.reshape(total)[index],
        in_axes=(None, 0, 0, 0),
        chunk=chunk,
        mesh=mesh,
        progress=progress,
    )
    return jax.tree.map(lambda s: s[:total].reshape(n, r, *s.shape[1:]), scores)


def explain_changes(
    intervention: Intervention,
    model: Model,
    explainer: Explainer,
    examples: Examples,
    *,
    chunk: int = 32,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
) -> tuple[Explained, Changes]:
    """Explains every x and x_-m, and says how explanations change."""
    rows = map_examples(_Counterfactuals(intervention), examples.inputs)
    scores = explain_rows(
        explainer,
        model,
        rows,
        examples.targets,
        examples.keys,
        chunk=chunk,
        mesh=mesh,
        progress=progress,
    )
    return map_examples(_Collect(intervention), scores)


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
    single = jax.tree.map(lambda x: jnp.asarray(x)[:, None], examples.inputs)
    if joint is not None:
        rows = explain_rows(joint, model, single, examples.targets, examples.keys, **settings)
        together = jax.tree.map(lambda s: s[:, 0], rows)
    tested = map_examples(
        _Faithfulness(intervention, constants),
        model,
        intact,
        together,
        examples.inputs,
        jnp.asarray(examples.targets),
        examples.keys,
        in_axes=(None, 0, 0, 0, 0, 0),
        chunk=chunk,
        mesh=mesh,
    )
    several = None
    if keys:
        more = jax.jit(jax.vmap(_Keys("keys", keys)))(examples.keys)
        repeated = jax.tree.map(lambda x: jnp.repeat(x, keys, axis=1), single)
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
        else _measure_stability(
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


def _measure_stability(
    intervention: FeatureGates,
    model: Model,
    explainer: Explainer,
    examples: Examples,
    intact: dict[str, Any],
    radius: dict[str, float],
    plan: StabilityPlan,
    settings: dict[str, Any],
) -> MeasuredStability:
    few = examples.first(plan.examples)
    before = jax.tree.map(lambda s: s[: len(few)], intact)
    other = jax.tree.map(lambda x: np.roll(np.asarray(x), -1, axis=0)[: len(few)], examples.inputs)
    # a key for the perturbations and one per round of hill climbing
    seeds = jax.jit(jax.vmap(_Keys("stability", plan.rounds + 1)))(few.keys)
    order = plan.probe.order
    reach = jax.tree.map(jnp.asarray, radius)

    def explain(rows: Inputs) -> dict[str, Any]:
        return explain_rows(explainer, model, rows, few.targets, few.keys, **settings)

    perturbed = map_examples(
        _Perturb(intervention, reach, plan.probe), few.inputs, other, seeds[:, 0]
    )
    rows = explain(perturbed.inputs)
    targets = jnp.asarray(few.targets)
    own: ModelStability = map_examples(
        model_stability,
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
    reason, norms = "Jacobians were not asked for", None
    if plan.point:
        one: PyTree = jax.tree.map(lambda x: jnp.asarray(x)[0], few)
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
    norm = {n: jnp.linalg.norm(jnp.asarray(s), axis=1) for n, s in intact.items()}
    return MeasuredStability(result, own, norm, reason, order)
