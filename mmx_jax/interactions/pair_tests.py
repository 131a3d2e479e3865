"""Judges of pair explanations: recovery of true pairs, and keep / remove of the top pairs."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mmx_jax.errors import InputError
from mmx_jax.gates import full, top_k
from mmx_jax.interactions.pairs import PairScores
from mmx_jax.intervention import value
from mmx_jax.numerics import ranks, safe_divide
from mmx_jax.typing import Gates, Inputs, Intervention, Model, PRNGKey, Target, record

__all__ = ["PairFaithfulness", "PairRecovery", "pair_faithfulness", "pair_recovery", "top_pairs"]


@record
class PairRecovery:
    """How well the magnitude of pair scores tells true pairs from others.

    Attributes:
      precision: the share of true pairs among the top k, k the number of true pairs (at that
        budget it is also the recall); NaN without true pairs.
      auc: the chance that a true pair outranks another one, ties counting half; NaN where all or
        no pairs are true.
    """

    precision: Float[Array, ""]
    auc: Float[Array, ""]


@record
class PairFaithfulness:
    """What the units of the top pairs do on their own, and what their removal does.

    Attributes:
      sufficiency_error: ``|v(x) - v(only those units)| / scale``.
      necessity: ``(v(x) - v(all but those units)) / scale``, signed.
      kept: the share of all units that is in the top pairs.
    """

    sufficiency_error: Float[Array, ""]
    necessity: Float[Array, ""]
    kept: Float[Array, ""]


def top_pairs(pairs: PairScores, k: int | Int[Array, ""], key: PRNGKey | None = None) -> PairScores:
    """Booleans on the k pairs of largest magnitude over all modalities, ties broken by ``key``.

    >>> hit = top_pairs({("a", "b"): jnp.array([[0.0, -3.0], [1.0, 2.0]])}, 2)
    >>> hit["a", "b"].astype(int).tolist()
    [[0, 1], [0, 1]]
    """
    chosen = top_k(_flat(pairs), k, key)
    out, at = {}, 0
    for pair in sorted(pairs):
        size = pairs[pair].size
        out[pair] = chosen[at : at + size].reshape(pairs[pair].shape)
        at += size
    return out


def pair_recovery(
    pairs: PairScores,
    truth: PairScores,
    key: PRNGKey | None = None,
) -> PairRecovery:
    """Recovery of the true cross-modal pairs.

    Args:
      pairs: scores ``{(n, m): [units_n, units_m]}``, ranked by magnitude.
      truth: which pairs interact (booleans), of the same structure.
      key: breaks ties (a constant explanation then scores as random).

    Raises:
      InputError: another structure.
    """
    if {p: s.shape for p, s in pairs.items()} != {p: jnp.shape(t) for p, t in truth.items()}:
        raise InputError("truth", "does not fit the pairs", "give the same pairs and shapes")
    true = _flat(truth).astype(bool)
    size = jnp.abs(_flat(pairs))
    count = jnp.sum(true)
    others = true.size - count
    hits = jnp.sum(top_k(size, count, key) & true)
    above = jnp.sum(jnp.where(true, ranks(size), 0.0)) - count * (count + 1) / 2
    return PairRecovery(
        precision=safe_divide(hits * 1.0, count * 1.0), auc=safe_divide(above, count * others * 1.0)
    )


def pair_faithfulness(
    intervention: Intervention,
    model: Model,
    inputs: Inputs,
    target: Target,
    pairs: PairScores,
    k: int | Int[Array, ""],
    scale: float | Float[Array, ""] = 1.0,
    key: PRNGKey | None = None,
) -> PairFaithfulness:
    """Keep / remove of the units in the top k pairs.

    Args:
      intervention, model, inputs, target: as everywhere.
      pairs: scores ``{(n, m): [units_n, units_m]}``, ranked by magnitude.
      k: the budget of pairs.
      scale: what differences are divided by: R, the range of v over a calibration split.
      key: breaks ties.

    Returns:
      the effects. Cost: 3 model evaluations (times reference draws).
    """
    chosen = top_pairs(pairs, k, key)
    units = intervention.units
    kept: Gates = full(units, False)
    for (n, m), hit in chosen.items():
        kept = kept | {n: kept[n] | jnp.any(hit, 1), m: kept[m] | jnp.any(hit, 0)}
    intact, keep, remove = (
        value(intervention, model, inputs, target, gates)
        for gates in (full(units), kept, {n: ~g for n, g in kept.items()})
    )
    share = sum(jnp.sum(g) for g in kept.values()) / sum(units.values())
    return PairFaithfulness(
        sufficiency_error=jnp.abs(intact - keep) / scale,
        necessity=(intact - remove) / scale,
        kept=jnp.asarray(share),
    )


def _flat(pairs: PairScores) -> Array:
    return jnp.concatenate([jnp.ravel(pairs[p]) for p in sorted(pairs)])
