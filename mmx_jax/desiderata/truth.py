"""Recovery of units that are known to matter, where a world declares them."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mmx_jax.desiderata.constants import DEFAULTS, Constants
from mmx_jax.desiderata.undefined import Undefined, number
from mmx_jax.gates import flatten, own_set, top_k
from mmx_jax.numerics import levels, safe_divide, spearman
from mmx_jax.typing import PRNGKey, Scores, record

__all__ = [
    "OPEN",
    "Recovery",
    "leaves_open",
    "pair_recovery",
    "pair_units",
    "recovery",
    "recovery_figures",
]

OPEN = 0.05
"""The share of examples on which a reference over all units may miss a relevant one."""


@record
class Recovery:
    """What one example's explanation finds of the truth; NaN where it is not defined.

    Attributes:
      tpr: share of the relevant units that the joint own set holds.
      fdr: share of the joint own set that is not relevant (0 for an empty set).
      rank_correlation: Spearman's, of magnitudes and the truth; what differs by rounding is tied.
    """

    tpr: Float[Array, ""]
    fdr: Float[Array, ""]
    rank_correlation: Float[Array, ""]


def recovery(
    scores: Scores,
    relevant: dict[str, Bool[Array, "units"]],
    key: PRNGKey | None = None,
    *,
    mask: dict[str, Bool[Array, "units"]] | None = None,
    contributions: Scores | None = None,
    constants: Constants = DEFAULTS,
) -> Recovery:
    """Compares one explanation with the units that are known to matter.

    Args:
      scores: of one example.
      relevant: per modality, which units matter; where one would do, all its copies count.
      key: breaks ties in the own set.
      mask: units whose truth is known; the rest is left out. All by default.
      contributions: the true magnitudes, for the rank correlation; relevance itself if None.
      constants: the share of the own set.
    """
    truth = flatten(relevant)
    known = jnp.ones(truth.shape, bool) if mask is None else flatten(mask)
    size = jnp.where(known, jnp.abs(flatten(scores)), 0.0)
    own = own_set(size, constants.own_share, key) & known & (size > 0)
    real = truth & known
    hits = jnp.sum(own & real)
    order = truth.astype(size.dtype) if contributions is None else jnp.abs(flatten(contributions))
    return Recovery(
        tpr=safe_divide(hits.astype(size.dtype), jnp.sum(real).astype(size.dtype)),
        fdr=safe_divide(
            jnp.sum(own & ~real).astype(size.dtype), jnp.sum(own).astype(size.dtype), 0.0
        ),
        rank_correlation=spearman(levels(size), levels(jnp.where(known, order, 0)), known),
    )


def pair_recovery(
    scores: Float[Array, "units_n units_m"],
    relevant: Bool[Array, "units_n units_m"],
    key: PRNGKey | None = None,
    *,
    constants: Constants = DEFAULTS,
) -> Recovery:
    """The same for scores of cross-modal unit pairs and the pairs known to interact."""
    flat, known = {"pairs": scores.ravel()}, {"pairs": relevant.ravel()}
    return recovery(flat, known, key, constants=constants)


def pair_units(
    scores: Float[Array, "units_n units_m"], k: int, key: PRNGKey | None = None
) -> tuple[Bool[Array, "units_n"], Bool[Array, "units_m"]]:
    """The units in the ``k`` pairs of largest magnitude, as hard gates of both modalities.

    ``{n: gate_n, m: gate_m}`` keeps them, the negated gates remove them.

    >>> [gate.tolist() for gate in pair_units(jnp.array([[0.0, 3.0], [0.0, -1.0]]), 1)]
    [[True, False], [False, True]]
    """
    chosen = top_k(scores.ravel(), k, key).reshape(scores.shape)
    return jnp.any(chosen, axis=1), jnp.any(chosen, axis=0)


def leaves_open(
    scores: dict[str, Any],
    relevant: dict[str, Any],
    known: np.ndarray,
    spread: float,
    constants: Constants = DEFAULTS,
) -> bool:
    """Whether a reference over all units misses units that are known to matter.

    A unit that says the opposite alone of what it says in company, as words under a tone that
    flips them, has a Shapley value near 0 in the game of all units though nothing works without
    it. There the truth of that game is open, and the form within modalities has to stand for it.

    Args:
      scores: of the reference over all units, per modality ``[n, units]``.
      relevant: per modality ``[n, units]``, the units known to matter.
      known: ``[n]``, whether that is known unit by unit.
      spread: the range R.
      constants: a score is near 0 below ``inactive`` R.
    """
    missed = np.zeros(known.shape, bool)
    for m, flags in relevant.items():
        small = np.abs(np.asarray(scores[m])) < constants.inactive * spread
        missed |= (np.asarray(flags) & small).any(1)
    return bool(known.any()) and float(missed[known].mean()) > OPEN


def recovery_figures(found: Recovery, where: np.ndarray | None = None) -> dict[str, Any]:
    """Means over examples, ``{tpr, fdr, rank_correlation}``.

    Args:
      found: with a leading axis of examples.
      where: ``[examples]``, the examples whose truth is known unit by unit; all by default.
    """
    tpr = np.asarray(found.tpr, np.float64)
    known = np.isfinite(tpr) if where is None else np.isfinite(tpr) & np.asarray(where)
    if not known.any():
        none = Undefined("the truth is known unit by unit on none of the inputs")
        return dict.fromkeys(("tpr", "fdr", "rank_correlation"), none)
    rank = np.asarray(found.rank_correlation, np.float64)[known]
    rank = rank[np.isfinite(rank)]
    return {
        "tpr": float(tpr[known].mean()),
        "fdr": float(np.asarray(found.fdr, np.float64)[known].mean()),
        "rank_correlation": number(
            rank.mean() if rank.size else np.nan, "the scores are the same for all units"
        ),
    }
