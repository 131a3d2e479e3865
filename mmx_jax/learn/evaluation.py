"""What is measured on held-out data while an explainer is trained."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mmx_jax.desiderata.constants import DEFAULTS, Constants
from mmx_jax.desiderata.effects import pair, pairs
from mmx_jax.desiderata.explained import changes, collect, counterfactuals
from mmx_jax.learn.evidence import Evidence, gather_evidence
from mmx_jax.learn.losses import interactions
from mmx_jax.mapping import map_examples
from mmx_jax.numerics import derive_keys, safe_divide
from mmx_jax.typing import Explainer, Inputs, Intervention, Model, Scores, record

__all__ = ["HeldOut", "hold_out"]


@record
class HeldOut:
    """Held-out examples with what the model says of them, computed once.

    ``held_out(explainer)`` gives, pooled over diagonal and cross pairs: ``alpha`` (the smallest
    ``c dE / df`` on active inputs), ``a05`` (its 5 % quantile), ``over`` (mean ``c dE`` on inactive
    inputs relative to the mean active effect), the same for cross pairs, and
    ``quality = min(a05, cross_a05) - max(over, cross_over)``. Inactive is judged by the sets that
    were tried, which the scorecard searches more thoroughly.

    Attributes:
      intervention: what removing a unit means.
      inputs: ``[examples, ...]``.
      targets: ``[examples]``.
      evidence: per example.
      spread: the range R of v.
    """

    intervention: Intervention
    inputs: Inputs
    targets: Array
    evidence: Evidence
    spread: Array

    def __call__(
        self, explainer: Explainer, model: Model | None = None, constants: Constants = DEFAULTS
    ) -> dict[str, float]:
        """The figures of one explainer; a learned one needs no model."""
        out = _figures(self, explainer, model, constants)
        figures = {name: float(x) for name, x in out.items()}
        least = min(figures["a05"], figures["cross_a05"])
        most = max(figures["over"], figures["cross_over"])
        figures["quality"] = least - most if np.isfinite(least - most) else -1e9
        return figures


def hold_out(
    intervention: Intervention,
    model: Model,
    inputs: Inputs,
    targets: Any,
    spread: float,
    seed: int = 0,
    sets: int = 16,
) -> HeldOut:
    """Evaluates the model on held-out examples once, on ``sets`` drawn sets per modality."""
    units = intervention.units
    nothing = {n: jnp.zeros((count,)) for n, count in units.items()}
    count = len(jax.tree.leaves(inputs)[0])
    keys = derive_keys(seed, "held-out sets", count)

    def one(x: Inputs, target: Array, key: Array) -> Evidence:
        return gather_evidence(intervention, model, x, target, nothing, key, sets)

    evidence = map_examples(one, inputs, np.asarray(targets), keys, chunk=min(64, count))
    evidence = jax.tree.map(jnp.asarray, evidence)
    inputs = jax.tree.map(jnp.asarray, inputs)
    return HeldOut(intervention, inputs, jnp.asarray(targets), evidence, jnp.asarray(spread))


@jax.jit
def _scores(held: HeldOut, explainer: Explainer, model: Model | None) -> tuple[Any, Any, Any]:
    names = sorted(held.intervention.units)

    def one(row: Any) -> tuple[Any, Any, Any]:
        x, target, evidence, key = row

        def explain(changed: Inputs) -> Scores:
            return explainer(model, changed, target, key)  # pyright: ignore[reportArgumentType]

        rows = jax.vmap(explain)(counterfactuals(held.intervention, x))
        moved = changes(collect(held.intervention, rows))
        change = {name: jnp.sum(units) for name, units in moved.units.items()}
        return change, moved.signed, interactions(evidence, names)

    keys = derive_keys(0, "explain", held.targets.shape[0])
    return jax.lax.map(one, (held.inputs, held.targets, held.evidence, keys), batch_size=64)


def _figures(
    held: HeldOut, explainer: Explainer, model: Model | None, constants: Constants
) -> dict[str, Any]:
    change, signed, effect = _scores(held, explainer, model)
    names, spread = sorted(held.intervention.units), held.spread
    scale = safe_divide(
        sum((jnp.sum(effect[m]) for m in names), start=jnp.zeros(())),
        sum((jnp.sum(signed[m]) for m in names), start=jnp.zeros(())),
    )
    out, ratios, claims, active = {}, {"": [], "cross_": []}, {"": [], "cross_": []}, []
    for n, m in pairs(names):
        label, kind = (n, "") if n == m else (pair(n, m), "cross_")
        size, moved = np.asarray(effect[label]), np.asarray(scale * change[pair(n, m)])
        on = size > constants.active * float(spread)
        off = np.asarray(held.evidence.reach[label]) < constants.inactive * float(spread)
        ratios[kind].append(moved[on] / size[on])
        claims[kind].append(moved[off])
        if n == m:
            active.append(size[on])
    for kind, parts in ratios.items():
        ratio = np.concatenate(parts) if parts else np.zeros(0)
        claim = np.concatenate(claims[kind]) if claims[kind] else np.zeros(0)
        flat = np.concatenate(active)
        mass = flat.mean() if flat.size else float(spread)
        out[f"{kind}alpha"] = ratio.min() if ratio.size else 1.0
        out[f"{kind}a05"] = np.quantile(ratio, 0.05) if ratio.size else 1.0
        out[f"{kind}over"] = claim.mean() / mass if claim.size else 0.0
    return out
