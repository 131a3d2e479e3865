"""Dominance, complement and conflict of modalities (M2Lens).

Wang, He, Jin, Yang, Wang and Qu, *M2Lens: Visualizing and Explaining Multimodal Models for
Sentiment Analysis* (IEEE TVCG 2022) sorts instances by the signed contributions of their
modalities. The paper names the types; the thresholds below are ours, and arguments.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from mmx_jax.errors import InputError
from mmx_jax.numerics import safe_divide
from mmx_jax.typing import ArrayLike, record

__all__ = ["NAMES", "ModalityRelation", "contributions", "modality_relation"]

NAMES = ("none", "dominance", "complement", "conflict")


@record
class ModalityRelation:
    """How the modalities of an example work together.

    Attributes:
      kind: 0 none (no contribution at all), 1 dominance, 2 complement, 3 conflict (``NAMES``).
      dominant: the player with the largest share.
      shares: ``|c_m| / sum |c|``, ``[..., M]``.
      opposition: ``1 - |sum c| / sum |c|``: 0 where all point one way, 1 where they cancel.
    """

    kind: Int[Array, "*batch"]
    dominant: Int[Array, "*batch"]
    shares: Float[Array, "*batch M"]
    opposition: Float[Array, "*batch"]


def contributions(scores: dict[str, ArrayLike]) -> Float[Array, "*batch M"]:
    """Signed contributions of modalities, sorted by name: sums of scores ``{m: [..., units]}``."""
    return jnp.stack([jnp.sum(scores[name], -1) for name in sorted(scores)], -1)


def modality_relation(
    contribution: Num[ArrayLike, "*batch M"], dominance: float = 0.8, active: float = 0.1
) -> ModalityRelation:
    """Sorts examples by how their modalities work together.

    *Dominance*: one modality holds at least ``dominance`` of the absolute contributions.
    Otherwise *conflict* where two modalities that each hold at least ``active`` have opposite
    signs, and *complement* where all of those have the same sign.

    Args:
      contribution: signed contributions ``[..., M]``: modality Shapley values
        (:func:`~mmx_jax.interactions.shapley_values` of a game) or sums of unit scores
        (:func:`contributions`). Cost: that of the contributions.
      dominance: above 1/2, at most 1.
      active: at most ``1 - dominance``, so that types don't overlap.

    Raises:
      InputError: thresholds out of range.

    >>> relation = modality_relation(jnp.array([[9.0, 1.0], [2.0, 1.0], [2.0, -1.0], [0.0, 0.0]]))
    >>> [NAMES[k] for k in relation.kind.tolist()]
    ['dominance', 'complement', 'conflict', 'none']
    """
    if not 0.5 < dominance <= 1:
        raise InputError("dominance", f"is {dominance}", "use a number above 1/2, at most 1")
    if not 0 < active <= 1 - dominance + 1e-9:
        raise InputError("active", f"is {active}", f"use a number above 0, at most 1 - {dominance}")
    c = jnp.asarray(contribution)
    total = jnp.sum(jnp.abs(c), -1)
    shares = safe_divide(jnp.abs(c), total[..., None], 0.0)
    acts = shares >= active
    both = jnp.any(acts & (c > 0), -1) & jnp.any(acts & (c < 0), -1)
    kind = jnp.where(jnp.max(shares, -1) >= dominance, 1, jnp.where(both, 3, 2))
    return ModalityRelation(
        kind=jnp.where(total > 0, kind, 0),
        dominant=jnp.argmax(shares, -1),
        shares=shares,
        opposition=1 - safe_divide(jnp.abs(jnp.sum(c, -1)), total, 1.0),
    )
