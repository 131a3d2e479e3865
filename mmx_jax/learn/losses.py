"""The desiderata as losses of one example: Granger influence, faithfulness, and contributions.

Agarwal, *Rethinking Explainability in the Era of Multimodal AI* (2025), eqs. 2 to 5, with the
distances of :mod:`mmx_jax.desiderata` (L1 within a modality) and soft gates in place of hard ones.
Every loss is relative to the range R of v, so weights mean the same for any model.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmx_jax.desiderata.effects import cross_pairs, pair, pairs
from mmx_jax.desiderata.explained import Explained, changes, collect, counterfactuals
from mmx_jax.errors import InputError
from mmx_jax.gates import flatten, keep, remove, soft_top_k, unflatten
from mmx_jax.intervention import value
from mmx_jax.learn.evidence import Evidence, gather_evidence
from mmx_jax.numerics import is_inexact
from mmx_jax.typing import Inputs, Intervention, Model, PRNGKey, Scores, Target

__all__ = [
    "Demands",
    "contribution_losses",
    "desiderata_losses",
    "explained_evidence",
    "faithfulness_losses",
    "granger_losses",
    "interactions",
    "stray_loss",
]

Explain = Callable[[Inputs], Scores]


@dataclasses.dataclass(frozen=True)
class Demands:
    """What the losses ask for. A loss is zero where its demand is met.

    Attributes:
      alpha: ``dE_nm >= alpha I_nm`` (df_m on the diagonal), below which it is an under-claim.
      over: ``dE_nm <= over reach + slack R``, above which it is an over-claim.
      slack: of R.
      sufficiency: largest error of keeping the top k, of R.
      necessity: smallest share of the largest removal effect.
      smallest, largest: the range of the budget k, as shares of the units.
      temperature: of the soft gates, relative to the largest score.
      null: a unit is null for an explanation that never gives it this share of its largest score.
      stray: null units may hold this share of an explanation.
      pairs: drawn sets of units per modality, each with its complement.
    """

    alpha: float = 0.97
    over: float = 1.03
    slack: float = 0.005
    sufficiency: float = 0.01
    necessity: float = 0.97
    smallest: float = 0.25
    largest: float = 0.5
    temperature: float = 0.1
    null: float = 0.05
    stray: float = 0.03
    pairs: int = 2

    def __post_init__(self) -> None:
        """Raises where a constant is negative, NaN or infinite, or demands the impossible."""
        for field in dataclasses.fields(self):
            number = getattr(self, field.name)
            if not 0 <= number < float("inf"):
                raise InputError(field.name, f"is {number}", "use a finite number, 0 or above")
        for name in ("alpha", "necessity", "smallest", "largest", "null", "stray"):
            if getattr(self, name) > 1:
                raise InputError(name, f"is {getattr(self, name)}", "use a share, 0 to 1")
        if self.over < self.alpha:
            problem = f"is {self.over}, below alpha {self.alpha}"
            raise InputError("over", problem, "allow at least what alpha demands")


def interactions(evidence: Evidence, names: list[str]) -> dict[str, Float[Array, ""]]:
    """Per modality df_m, and per pair ``I_nm = |v - v_-n - v_-m + v_-nm|``, of one example."""
    everyone, v = (1 << len(names)) - 1, evidence.coalitions
    bit = {name: 1 << i for i, name in enumerate(names)}
    out = {m: jnp.abs(v[everyone] - v[everyone - bit[m]]) for m in names}
    for n, m in cross_pairs(names):
        gone = v[everyone - bit[n]] + v[everyone - bit[m]] - v[everyone - bit[n] - bit[m]]
        out[pair(n, m)] = jnp.abs(v[everyone] - gone)
    return out


def granger_losses(
    scores: Explained, evidence: Evidence, spread: Float[Array, ""], demands: Demands
) -> dict[str, Float[Array, ""]]:
    """Two-sided hinges on ``dE_nm = sum_u |E_n,u(x) - E_n,u(x_-m)|`` for every pair (n, m).

    ``under = relu(alpha I_nm - dE_nm) / R``, ``over = relu(dE_nm - over reach_nm - slack R) / R``
    with df_m for ``I_mm``, separately for the diagonal and for the cross pairs (means over pairs;
    zero for the cross pairs of one modality alone).
    """
    names = sorted(scores.ablated)
    moved = changes(scores).units
    effect = interactions(evidence, names)
    losses: dict[str, list[Array]] = {}
    for n, m in pairs(names):
        label, kind = (n, "own") if n == m else (pair(n, m), "cross")
        change = jnp.sum(moved[pair(n, m)]) / spread
        under = jax.nn.relu(demands.alpha * effect[label] / spread - change)
        over = jax.nn.relu(change - demands.over * evidence.reach[label] / spread - demands.slack)
        losses.setdefault(f"under_{kind}", []).append(under)
        losses.setdefault(f"over_{kind}", []).append(over)
    none = dict.fromkeys(("under_cross", "over_cross"), jnp.zeros(()))
    return none | {name: jnp.mean(jnp.stack(terms)) for name, terms in losses.items()}


def contribution_losses(
    scores: Explained, evidence: Evidence, spread: Float[Array, ""]
) -> dict[str, Float[Array, ""]]:
    """Least squares on the within-modality games ``v_n(S) = v(x_S in n, the others intact)``.

    ``coalitions``: ``(sum_{u in S} E_n,u - (v_n(S) - v_n(nothing)))^2 / R^2`` over the drawn sets,
    for x and for every x_-m. ``efficiency``: the same for the whole set, and nothing at all for a
    modality that is removed. Their minimum is the Shapley value of each game (FastSHAP, Jethani
    et al. 2022, plays one game over all units instead, and over-claims).
    """
    names = sorted(scores.ablated)
    everyone, v = (1 << len(names)) - 1, evidence.coalitions
    sets, whole = [], []
    for i, n in enumerate(names):
        for j, other in enumerate([n, *(m for m in names if m != n)]):
            explained = scores.intact[n] if j == 0 else scores.ablated[other][n]
            here = everyone if j == 0 else everyone - (1 << names.index(other))
            nothing = v[here - (1 << i)]
            drawn = slice(0, -2)  # the last two sets depend on the explanation
            kept = evidence.kept[n if j == 0 else pair(n, other)][drawn] - nothing
            claimed = evidence.sets[n][drawn].astype(explained.dtype) @ explained
            sets.append(jnp.mean((claimed - kept) ** 2))
            whole.append((jnp.sum(explained) - (v[here] - nothing)) ** 2)
        whole.append(jnp.sum(jnp.abs(scores.ablated[n][n])) ** 2)
    return {
        "coalitions": jnp.mean(jnp.stack(sets)) / spread**2,
        "efficiency": jnp.mean(jnp.stack(whole)) / spread**2,
    }


def stray_loss(
    scores: Explained, spread: Float[Array, ""], demands: Demands
) -> dict[str, Float[Array, ""]]:
    """The share of an explanation that lies on units which it holds to be null in every context.

    ``stray = relu(sum_{u in N} |E_u(x)| / sum_u |E_u(x)| - share)``. N are the units of n whose
    ``max(|E_n,u(x)|, |E_n,u(x_-m)|)`` stays below ``null`` of the largest of any unit of n, and all
    of them where that is below .02 R. Where modalities are redundant every score of x is small, and
    least squares care little how they fall; what the ablations show tells noise from the copies.
    """
    names, total, stray = sorted(scores.ablated), jnp.zeros(()), jnp.zeros(())
    for n in names:
        contexts = [scores.intact[n], *(scores.ablated[m][n] for m in names if m != n)]
        size = jax.lax.stop_gradient(jnp.max(jnp.abs(jnp.stack(contexts)), 0))
        top = jnp.max(size)
        null = (size < demands.null * top) | (top < 0.02 * spread)
        held = jnp.abs(scores.intact[n])
        total += jnp.sum(held)
        stray += jnp.sum(jnp.where(null, held, 0.0))
    return {"stray": jax.nn.relu(stray / jnp.maximum(total, 1e-6 * spread) - demands.stray)}


def faithfulness_losses(
    intervention: Intervention,
    model: Model,
    scores: Scores,
    evidence: Evidence,
    inputs: Inputs,
    target: Target,
    key: PRNGKey,
    spread: Float[Array, ""],
    demands: Demands,
) -> dict[str, Float[Array, ""]]:
    """Keep and remove the top k through soft gates, per modality and jointly, k drawn at random.

    ``sufficiency = relu(|v - v(keep)| / R - eps)`` and ``necessity = relu(share largest_m - |v -
    v(remove)|) / R``. The gates rank ``|E| / max |E|`` and their threshold is differentiated.
    A modality that holds integers can't be blended: its gates are hard, and only the other
    modalities learn from them.
    """
    units = {name: intervention.units[name] for name in sorted(intervention.units)}
    soft = {n: all(is_inexact(x) for x in jax.tree.leaves(inputs[n])) for n in units}
    for_k, for_joint = jax.random.split(key)

    def gate(score: Array, k: Array) -> Array:
        top = jax.lax.stop_gradient(jnp.max(jnp.abs(score)))
        return soft_top_k(score / jnp.where(top > 0, top, 1.0), k, demands.temperature)

    def budget(key: PRNGKey, count: int) -> Array:
        low, high = demands.smallest * count, demands.largest * count
        return jnp.maximum(1.0, jax.random.uniform(key, (), jnp.float32, low, high))

    rows, limits = [], []
    for i, name in enumerate(n for n in units if soft[n]):
        own = gate(scores[name], budget(jax.random.fold_in(for_k, i), units[name]))
        ones = {n: jnp.ones((count,)) for n, count in units.items()} | {name: own}
        rows += [keep(ones, name), remove(ones, name)]
        limits.append(evidence.largest[name])
    if len(units) > 1:
        total = sum(units.values())
        both = unflatten(gate(flatten(scores), budget(for_joint, total)), units)
        rows += [both, {n: 1 - g for n, g in both.items()}]
        limits.append(evidence.largest["joint"])
    if not rows:
        return {"sufficiency": jnp.zeros(()), "necessity": jnp.zeros(())}

    def under(gates: dict[str, Array]) -> Array:
        hardened = {n: g if soft[n] else g > 0.5 for n, g in gates.items()}
        return value(intervention, model, inputs, target, hardened)

    v = jax.vmap(under)(jax.tree.map(lambda *g: jnp.stack(g), *rows))
    drop = jnp.abs(evidence.value - v) / spread
    wanted = demands.necessity * jnp.stack(limits) / spread
    return {
        "sufficiency": jnp.mean(jax.nn.relu(drop[0::2] - demands.sufficiency)),
        "necessity": jnp.mean(jax.nn.relu(wanted - drop[1::2])),
    }


def explained_evidence(
    explain: Explain,
    intervention: Intervention,
    model: Model,
    inputs: Inputs,
    target: Target,
    key: PRNGKey,
    pairs: int = 2,
    known: Evidence | None = None,
) -> tuple[Explained, Evidence]:
    """The scores of one example and of its ablations, and what the model says of it.

    Args:
      explain: the explainer being trained, ``inputs -> scores`` for this target.
      intervention: what removing a unit means.
      model: the model that is explained.
      inputs: of one example.
      target: the output that is explained.
      key: where sets are drawn.
      pairs: drawn sets of units per modality, each with its complement.
      known: the evidence, where it was gathered before; the model is not called then.
    """
    scores = collect(intervention, jax.vmap(explain)(counterfactuals(intervention, inputs)))
    if known is not None:
        return scores, known
    frozen = jax.lax.stop_gradient(scores.intact)
    return scores, gather_evidence(intervention, model, inputs, target, frozen, key, pairs)


def desiderata_losses(
    explain: Explain,
    intervention: Intervention,
    model: Model,
    inputs: Inputs,
    target: Target,
    key: PRNGKey,
    spread: Float[Array, ""],
    demands: Demands,
) -> dict[str, Float[Array, ""]]:
    """All losses of desiderata I and II for one example, by name.

    Args:
      explain: the explainer being trained, ``inputs -> scores`` for this target.
      intervention: what removing a unit means.
      model: the model that is explained.
      inputs: of one example.
      target: the output that is explained.
      key: where sets and budgets are drawn.
      spread: the range R of v.
      demands: the constants.
    """
    for_sets, for_gates = jax.random.split(key)
    scores, evidence = explained_evidence(
        explain, intervention, model, inputs, target, for_sets, demands.pairs
    )
    return {
        **granger_losses(scores, evidence, spread, demands),
        **contribution_losses(scores, evidence, spread),
        **stray_loss(scores, spread, demands),
        **faithfulness_losses(
            intervention, model, scores.intact, evidence, inputs, target, for_gates, spread, demands
        ),
    }
