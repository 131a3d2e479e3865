"""How much of an explanation is due to its random key."""

from typing import Any

import numpy as np

from mmx_jax.desiderata.undefined import Undefined

__all__ = ["key_variance"]


ROUNDING = 1e-9
"""Shares below this are what two compiled rows of one deterministic explainer differ by."""


def key_variance(scores: dict[str, Any]) -> float | Undefined:
    """Share of the variance of scores that is due to the key, from 0 to 1.

    One-way analysis of variance, summed over units: the mean variance between keys, over itself
    plus the variance between examples (without the part of it that keys cause).

    Args:
      scores: per modality ``[examples, keys, units]``, at least two keys, the same input per row.
    """
    within = between = 0.0
    for score in scores.values():
        values = np.asarray(score, np.float64)
        keys = values.shape[1]
        noise = values.var(axis=1, ddof=1).mean(axis=0)
        within += float(noise.sum())
        if values.shape[0] > 1:
            means = values.mean(axis=1).var(axis=0, ddof=1) - noise / keys
            between += float(np.maximum(means, 0).sum())
    if not np.isfinite(within + between):
        return Undefined("scores are not finite")
    if within + between == 0:
        return Undefined("scores are the same for all inputs and keys")
    share = within / (within + between)
    return share if share > ROUNDING else 0.0
