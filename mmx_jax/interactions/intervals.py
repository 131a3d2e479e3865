"""Confidence intervals of measures that are computed over a sample of examples."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from mmx_jax.errors import InputError
from mmx_jax.mapping import map_stacked
from mmx_jax.typing import PRNGKey

__all__ = ["bootstrap"]


def bootstrap(
    statistic: Callable[[PyTree], PyTree],
    sample: PyTree,
    key: PRNGKey,
    resamples: int = 1000,
    confidence: float = 0.95,
    chunk: int | None = None,
) -> tuple[PyTree, PyTree]:
    """Percentile bootstrap interval of a statistic over examples (Efron 1979).

    Examples are drawn with replacement; nothing is evaluated again, so it costs no model calls.

    Args:
      statistic: a pure function of a sample, for example
        ``lambda values: intershap(values).total``.
      sample: arrays with a leading axis of examples.
      key: of the draws.
      resamples: how many samples are drawn.
      confidence: the nominal coverage.
      chunk: resamples computed at once.

    Returns:
      the lower and the upper end, each like the statistic; a statistic that is undefined (NaN) on
      a resample does not count in it.

    >>> low, high = bootstrap(jnp.mean, jnp.arange(100.0), jax.random.key(0))
    >>> bool(low < 49.5 < high)
    True
    """
    if not 0 < confidence < 1:
        raise InputError("confidence", f"is {confidence}", "use a number between 0 and 1")
    if resamples < 2:
        raise InputError("resamples", f"is {resamples}", "draw at least 2")
    sample = jax.tree.map(jnp.asarray, sample)
    count = jax.tree.leaves(sample)[0].shape[0]

    def once(k: PRNGKey) -> PyTree:
        rows = jax.random.randint(k, (count,), 0, count)
        return statistic(jax.tree.map(lambda leaf: leaf[rows], sample))

    draws = map_stacked(once, jax.random.split(key, resamples), chunk=chunk)
    tail = (1 - confidence) / 2
    low, high = (
        jax.tree.map(lambda leaf, q=q: jnp.nanquantile(leaf, q, axis=0), draws)
        for q in (tail, 1 - tail)
    )
    return low, high
