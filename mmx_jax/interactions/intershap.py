"""InterSHAP: which share of a model's behaviour is interaction between modalities.

Wenderoth, Hemker, Simidjievski and Jamnik, *Measuring Cross-Modal Interactions in Multimodal
Models* (AAAI 2025). As published it is not calibrated for more than two modalities: parity of M
bits gets ``50 M / (M - 1)`` percent. The calibrated share beside it is
:func:`~mmx_jax.interactions.harsanyi_share`, which is 100 percent there. Both depend on the
model's link: a model whose logits are additive has interactions on the scale of probabilities.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Num

from mmx_jax.errors import InputError
from mmx_jax.games import as_table
from mmx_jax.interactions.indices import harsanyi_share, shapley_interactions
from mmx_jax.typing import ArrayLike, record

__all__ = ["InterShap", "intershap"]


@record
class InterShap:
    """InterSHAP of a population of games, shares in percent.

    Attributes:
      total: the global score, from interactions averaged over examples.
      local: the mean of the examples' own scores.
      examples: the score of each example, ``[...]``; NaN where its game is constant.
      matrix: the share of every entry of ``interactions`` in the global score, ``[M, M]``; the
        entries sum to 100, those off the diagonal to ``total``.
      interactions: the signed mean interactions ``[M, M]``, on the scale of the values: off the
        diagonal half the Shapley interaction index of the pair, on it what is left of the Shapley
        value. They sum to the mean of ``v(all) - v(none)``.
      moebius: the calibrated global share (:func:`~mmx_jax.interactions.harsanyi_share`).
    """

    total: Float[ArrayLike, ""]
    local: Float[ArrayLike, ""]
    examples: Float[ArrayLike, "*batch"]
    matrix: Float[ArrayLike, "M M"]
    interactions: Float[ArrayLike, "M M"]
    moebius: Float[ArrayLike, ""]


def intershap(values: Num[ArrayLike, "*batch coalitions"]) -> InterShap:
    """InterSHAP, global and local, for any number of modalities.

    Per example, ``phi_ij = SII_ij / 2`` for i != j and ``phi_ii = phi_i - sum_j phi_ij`` (the
    Shapley value without its interactions). The global score is
    ``100 sum_{i != j} |mean phi_ij| / sum_ij |mean phi_ij|`` with means over examples, the local
    one the mean of the same ratio taken per example, over the examples where it is defined.

    Args:
      values: the game of modalities of each example, ``[..., 2**M]``, 2 <= M <= 16, as
        :func:`~mmx_jax.coalition_values` or :func:`~mmx_jax.interactions.modality_games` give it.

    Returns:
      the scores; NaN where every game is constant, since no share is defined then. Cost: no model
      evaluations beyond the 2**M per example (times reference draws) of the table.

    Raises:
      InputError: one modality only; otherwise as
        :func:`~mmx_jax.interactions.shapley_interactions`.

    >>> xor = np.array([0.5, 0.5, 0.5, 1.0])
    >>> float(intershap(xor).total)
    100.0
    """
    table, n, xp = as_table(values)
    if n < 2:
        raise InputError("values", "is a game of one player", "give two or more modalities")
    games = shapley_interactions(table, 2, "SII").matrix()
    off = ~np.eye(n, dtype=bool)
    half = xp.where(off, games / 2, 0.0)
    own = xp.diagonal(games, axis1=-2, axis2=-1) - xp.sum(half, axis=-1)
    phi = half + own[..., None] * np.eye(n)
    mean = xp.mean(phi.reshape(-1, n, n), axis=0)
    examples = _share(phi, off, xp)
    defined = ~xp.isnan(examples)
    count = xp.sum(defined)
    local = xp.sum(xp.where(defined, examples, 0.0)) / xp.where(count > 0, count, xp.nan)
    return InterShap(
        total=_share(mean, off, xp),
        local=xp.asarray(local),
        examples=examples,
        matrix=100 * xp.abs(mean) / _positive(xp.sum(xp.abs(mean)), xp),
        interactions=mean,
        moebius=harsanyi_share(table),
    )


def _share(phi: Any, off: np.ndarray, xp: Any) -> Any:
    size = xp.abs(phi)
    total = xp.sum(size, axis=(-2, -1))
    between = xp.sum(xp.where(off, size, 0.0), axis=(-2, -1))
    return xp.asarray(100 * between / _positive(total, xp))


def _positive(total: Any, xp: Any) -> Any:
    return xp.where(total > 0, total, xp.nan)
