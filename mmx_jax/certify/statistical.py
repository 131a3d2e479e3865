"""Certificates that hold with a stated probability; never mixed with the deterministic ones."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmx_jax.errors import InputError
from mmx_jax.numerics import clopper_pearson
from mmx_jax.typing import PRNGKey, record, static

__all__ = [
    "RateInterval",
    "SoftStability",
    "multiplicative_radius",
    "rate_interval",
    "smooth_multiplicatively",
    "soft_stability",
    "stability_samples",
]


@record
class RateInterval:
    """How often something happened, with an exact interval at a confidence."""

    rate: float = static()
    low: float = static()
    high: float = static()
    confidence: float = static()


def rate_interval(successes: int, trials: int, confidence: float = 0.95) -> RateInterval:
    """The exact (Clopper-Pearson) interval of a rate: of violations, of kept predictions.

    >>> rate_interval(0, 10).rate, round(rate_interval(0, 10).high, 3)
    (0.0, 0.308)
    """
    low, high = clopper_pearson(successes, trials, confidence)
    return RateInterval(successes / trials if trials else 0.0, low, high, confidence)


def stability_samples(error: float = 0.1, failure: float = 0.1) -> int:
    """Samples for an estimate within ``error`` with probability ``1 - failure`` (Hoeffding).

    ``N >= log(2 / failure) / (2 error^2)``.

    >>> stability_samples(0.1, 0.1)
    150
    """
    for name, value in (("error", error), ("failure", failure)):
        if not 0 < value < 1:
            raise InputError(name, f"is {value}", "use a number strictly between 0 and 1")
    return math.ceil(math.log(2 / failure) / (2 * error**2))


@record
class SoftStability:
    """The probability that a prediction survives when units are added to the kept set.

    Attributes:
      rate: the estimate, ``[radii]``.
      error: it is within this of the truth for each radius ...
      failure: ... but for this probability.
    """

    rate: Float[Array, "radii"]
    error: float = static()
    failure: float = static()


def _addition(key: PRNGKey, kept: Bool[Array, "units"], radius: Array) -> Bool[Array, "units"]:
    """A set drawn uniformly from those that add at most ``radius`` units to the kept one."""
    n = kept.shape[0]
    free = jnp.sum(~kept)
    pick_size, pick_units = jax.random.split(key)
    sizes = jnp.arange(n + 1)
    # how many sets add k units: binomial(free, k)
    log_count = (
        jax.scipy.special.gammaln(free + 1.0)
        - jax.scipy.special.gammaln(sizes + 1.0)
        - jax.scipy.special.gammaln(jnp.maximum(free - sizes, 0) + 1.0)
    )
    allowed = (sizes <= radius) & (sizes <= free)
    size = jax.random.categorical(pick_size, jnp.where(allowed, log_count, -jnp.inf))
    order = jax.random.uniform(pick_units, (n,), jnp.float32) + kept
    rank = jnp.argsort(jnp.argsort(order))
    return kept | (rank < size)


def soft_stability(
    predict: Callable[[Bool[Array, "units"]], Int[Array, ""]],
    kept: Bool[Array, "units"],
    radii: Int[Array, "radii"],
    key: PRNGKey,
    *,
    error: float = 0.1,
    failure: float = 0.1,
) -> SoftStability:
    """Soft stability of a kept set (Jin et al., *Probabilistic Stability Guarantees for Feature
    Attributions*, arXiv 2504.13787, 2025).

    For each radius r: the probability that ``predict`` gives the same class when a set drawn
    uniformly from those that add at most r units is kept too.

    Args:
      predict: the class of the model under a hard gate, for example the argmax of an intervention;
        for one modality it fixes the gates of the others.
      kept: the gate that the explanation selects.
      radii: how many units may be added.
      key: of the draws; all radii use the same number.
      error: half width of the estimate.
      failure: probability that the estimate is off by more.
    """
    count = stability_samples(error, failure)
    base = predict(kept)

    def one(key: PRNGKey) -> Array:
        draws = jax.vmap(lambda r: _addition(key, kept, r))(jnp.asarray(radii))
        return jax.vmap(predict)(draws) == base

    same = jax.lax.map(one, jax.random.split(key, count), batch_size=16)
    return SoftStability(jnp.mean(same, 0), error, failure)


def smooth_multiplicatively(
    predict: Callable[[Float[Array, "units"]], Float[Array, "classes"]],
    gate: Float[Array, "units"],
    rate: float,
    key: PRNGKey,
    levels: int = 64,
) -> Float[Array, "classes"]:
    """Multiplicative smoothing (Xue, Alur and Wong, *Stability Guarantees for Feature Attributions
    with Multiplicative Smoothing*, NeurIPS 2023), derandomised.

    Every unit is kept with probability ``rate``; the mean prediction is Lipschitz in the gate with
    constant ``rate``. One seed vector and ``levels`` equally spaced shifts of it give that constant
    exactly with ``levels`` model calls, where ``rate`` is a multiple of ``1 / levels``.

    Args:
      predict: class scores in [0, 1] under a gate.
      gate: of the explanation.
      rate: lambda, a multiple of ``1 / levels``.
      key: of the seed vector.
      levels: q.
    """
    if not 0 < rate <= 1 or abs(rate * levels - round(rate * levels)) > 1e-9:
        raise InputError("rate", f"is {rate}", f"use a multiple of 1/{levels}, at most 1")
    seed = jax.random.randint(key, gate.shape, 0, levels)

    def one(shift: Array) -> Array:
        keep = (seed + shift) % levels < round(rate * levels)
        return predict(gate * keep)

    return jnp.mean(jax.lax.map(one, jnp.arange(levels), batch_size=16), 0)


def multiplicative_radius(scores: Float[Array, "classes"], rate: float) -> Float[Array, ""]:
    """How many units may be added or removed before the smoothed class can change.

    ``(p_A - p_B) / (2 rate)`` for the two largest smoothed scores.

    >>> float(multiplicative_radius(jnp.array([0.875, 0.125]), 0.125))
    3.0
    """
    if not 0 < rate <= 1:
        raise InputError("rate", f"is {rate}", "use a number above 0, at most 1")
    top, second = jax.lax.top_k(scores, 2)[0]
    return (top - second) / (2 * rate)
