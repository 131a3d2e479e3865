"""What is measured on held-out data while an explainer is trained."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mmx_jax.desiderata.constants import DEFAULTS, Constants
from mmx_jax.desiderata.effects import pair, pairs
from mmx_jax.desiderata.explained import changes, collect, counterfactuals
from mmx_jax.gates import flatten, keep, own_set, remove, unflatten
from mmx_jax.intervention import values
from mmx_jax.learn.evidence import Evidence, gather_all
from mmx_jax.learn.losses import interactions
from mmx_jax.learn.stability import path_slope
from mmx_jax.numerics import derive_keys, partition, safe_divide
from mmx_jax.typing import Explainer, Inputs, Intervention, Model, Scores, record

__all__ = ["HeldOut", "hold_out"]


@record
class HeldOut:
    """Held-out examples with what the model says of them, computed once: a small scorecard.

    ``held_out(explainer)`` gives, for a learned explainer,

    - Granger, pooled over diagonal and cross pairs: ``alpha`` (the smallest ``c dE / df`` on active
      inputs), ``a05`` (its 5 % quantile), ``over`` (mean ``c dE`` on inactive inputs relative to
      the mean active effect), and the same for cross pairs; 1, 1 and 0, which demand nothing, where
      no input is active or none inactive. Inactive is judged by the sets that
      were tried, which the scorecard searches more thoroughly;
    - ``faithful``: the share of examples on which its own sets, of each modality and of all
      together, keep the value (error at most .10 R) and remove it (they, or their positive or
      negative part: at least .80 of the largest effect found, where that is .02 R or more);
    - ``slope``: the 95 % quantile of ``c ||E(x') - E(x)|| / ||x' - x||`` along paths between
      examples, relative to the model's own;
    - ``quality``, the mean of three numbers of at most 1: ``min(a05, cross_a05) - max(over,
      cross_over)``, ``faithful``, and ``1 / max(1, slope)``.

    Attributes:
      intervention: what removing a unit means.
      model: what is explained.
      inputs: ``[examples, ...]``.
      targets: ``[examples]``.
      evidence: per example.
      spread: the range R of v.
      steepness: the 95 % quantile of the model's own slopes along the same paths.
    """

    intervention: Intervention
    model: Model
    inputs: Inputs
    targets: Array
    evidence: Evidence
    spread: Array
    steepness: Array

    def granger(
        self, explainer: Explainer, model: Model | None = None, constants: Constants = DEFAULTS
    ) -> dict[str, float]:
        """Alpha and over-claim of any explainer; a learned one needs no model."""
        figures = _figures(self, explainer, model, constants)
        return {name: float(x) for name, x in figures.items()}

    def __call__(self, explainer: Explainer, constants: Constants = DEFAULTS) -> dict[str, float]:
        """All figures of a learned explainer."""
        out = self.granger(explainer, None, constants)
        faithful, slope = _faithful_and_slope(self, explainer, constants)
        out["faithful"] = float(faithful)
        out["slope"] = float(out["scale"] * slope / jnp.maximum(self.steepness, 1e-6))
        least, most = min(out["a05"], out["cross_a05"]), max(out["over"], out["cross_over"])
        parts = [min(least, 1.0) - most, out["faithful"], 1 / max(1.0, out["slope"])]
        out["quality"] = float(np.mean(parts)) if np.isfinite(parts).all() else -1e9
        return out


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
    count = len(jax.tree.leaves(inputs)[0])
    keys = derive_keys(seed, "held-out sets", count)
    evidence = gather_all(intervention, model, inputs, targets, keys, sets)
    inputs, targets = jax.tree.map(jnp.asarray, (inputs, np.asarray(targets)))
    steepness = _steepness(lambda x, t: {"": model(x)[t]}, inputs, targets)
    return HeldOut(intervention, model, inputs, targets, evidence, jnp.asarray(spread), steepness)


def _steepness(explain: Callable[[Inputs, Array], Any], inputs: Inputs, targets: Array) -> Array:
    """The 95 % quantile of slopes at three places on the paths from each example to the next."""
    at = jnp.array([0.25, 0.5, 0.75])

    def one(row: tuple[Inputs, Inputs, Array]) -> Array:
        start, end, target = row
        slope = lambda t: path_slope(lambda x: explain(x, target), start, end, t)  # noqa: E731
        return jnp.max(jax.vmap(slope)(at))

    if not jax.tree.leaves(partition(inputs)[0]):
        return jnp.zeros(())
    others = jax.tree.map(lambda x: jnp.roll(x, 1, 0), inputs)
    return jnp.quantile(jax.lax.map(one, (inputs, others, targets), batch_size=16), 0.95)


@partial(jax.jit, static_argnums=2)
def _faithful_and_slope(
    held: HeldOut, explainer: Explainer, constants: Constants
) -> tuple[Array, Array]:
    units = {n: held.intervention.units[n] for n in sorted(held.intervention.units)}

    def kept(row: Any) -> Array:
        x, target, evidence, key = row
        scores = explainer(None, x, target, key)  # pyright: ignore[reportArgumentType]
        own = {n: own_set(s, constants.own_share, key) for n, s in scores.items()}
        both = unflatten(own_set(flatten(scores), constants.own_share, key), units)

        def parts(n: str, gate: Array) -> list[Array]:
            return [gate, gate & (scores[n] > 0), gate & (scores[n] < 0)]

        rows = []
        for n in units:
            rows += [keep(own, n), *(remove(own | {n: part}, n) for part in parts(n, own[n]))]
        joint = {n: parts(n, both[n]) for n in units}
        rows += [both, *({n: ~joint[n][i] for n in units} for i in range(3))]
        gates = jax.tree.map(lambda *g: jnp.stack(g), *rows)
        v = values(held.intervention, held.model, x, target, gates)
        drop = (jnp.abs(evidence.value - v) / held.spread).reshape(-1, 4)
        # opposing evidence cancels where it is removed together
        removed = jnp.max(drop[:, 1:], 1)
        largest = jnp.stack([evidence.largest[n] for n in [*units, "joint"]]) / held.spread
        small = largest < constants.counted
        enough = small | (removed >= constants.necessity * largest)
        return jnp.all(enough & (drop[:, 0] <= constants.sufficiency))

    keys = derive_keys(0, "explain", held.targets.shape[0])
    rows = (held.inputs, held.targets, held.evidence, keys)
    share = jnp.mean(jax.lax.map(kept, rows, batch_size=16))
    slope = _steepness(
        lambda x, t: explainer(None, x, t, keys[0]),  # pyright: ignore[reportArgumentType]
        held.inputs,
        held.targets,
    )
    return share, slope


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
    ratios, claims, active = {"": [], "cross_": []}, {"": [], "cross_": []}, []
    out: dict[str, Any] = {"scale": scale}
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
