"""Soft and hard gates: which units an explanation highlights, and what keeping them means.

Gates have exactly the structure of scores. Hard gates are booleans, soft gates are floats in
[0, 1]. Units are ranked by magnitude; ties are broken by a seeded permutation, so that a constant
explanation scores as random.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmx_jax.errors import InputError
from mmx_jax.typing import Gates, PRNGKey, Scores

__all__ = [
    "flatten",
    "full",
    "joint",
    "keep",
    "own_set",
    "own_size",
    "rank",
    "remove",
    "soft_top_k",
    "top_k",
    "unflatten",
]

OWN_SHARE = 0.9


def full(units: dict[str, int], value: bool = True) -> Gates:
    """Hard gates that leave (or with ``value=False`` remove) every unit."""
    return {name: jnp.full((count,), value) for name, count in sorted(units.items())}


def flatten(scores: Scores | Gates) -> Float[Array, "all_units"] | Bool[Array, "all_units"]:
    """All modalities side by side in sorted order: the players of the joint test."""
    return jnp.concatenate([scores[name] for name in sorted(scores)])


def unflatten(flat: Array, units: dict[str, int]) -> dict[str, Any]:
    """The inverse of :func:`flatten`."""
    out, start = {}, 0
    for name in sorted(units):
        out[name] = flat[start : start + units[name]]
        start += units[name]
    return out


def rank(scores: Float[Array, "units"], key: PRNGKey | None = None) -> Int[Array, "units"]:
    """Rank of each unit by magnitude, 0 for the largest; ties by a permutation drawn from ``key``.

    >>> rank(jnp.array([0.1, -3.0, 2.0])).tolist()
    [2, 0, 1]
    """
    n = scores.shape[0]
    tie = jnp.arange(n) if key is None else jax.random.permutation(key, n)
    order = jnp.lexsort((tie, -jnp.abs(scores)))
    return jnp.zeros(n, jnp.int32).at[order].set(jnp.arange(n, dtype=jnp.int32))


def top_k(
    scores: Float[Array, "units"], k: int | Int[Array, ""], key: PRNGKey | None = None
) -> Bool[Array, "units"]:
    """A hard gate on exactly the ``k`` units of largest magnitude (k may be traced).

    >>> top_k(jnp.array([0.1, -3.0, 2.0]), 2).tolist()
    [False, True, True]
    """
    return rank(scores, key) < k


def soft_top_k(
    scores: Float[Array, "units"], k: float | Float[Array, ""], temperature: float = 0.1
) -> Float[Array, "units"]:
    """A soft gate ``sigmoid((|s| - tau) / T)`` whose entries sum to ``k``.

    The threshold tau solves ``sum_u gate_u = k`` by bisection and is differentiated through the
    implicit function theorem: with a constant threshold, gradients push all scores up together
    and learning collapses.

    Args:
      scores: ranked by magnitude.
      k: the budget, strictly between 0 and the number of units.
      temperature: as it goes to 0 the gate tends to :func:`top_k`.
    """
    size = jnp.abs(scores)
    n = scores.shape[0]
    k = jnp.clip(jnp.asarray(k, size.dtype), 1e-3, n - 1e-3)
    # sigmoid saturates to below 1e-3 / n within this many temperatures of the threshold
    reach = temperature * (jnp.log(n / 1e-3) + 10.0)
    frozen = jax.lax.stop_gradient(size)

    def excess(tau: Array, s: Array) -> Array:
        return jnp.sum(jax.nn.sigmoid((s - tau) / temperature)) - k

    def halve(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        above = excess(middle, frozen) > 0
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    low, high = jax.lax.fori_loop(0, 40, halve, (jnp.min(frozen) - reach, jnp.max(frozen) + reach))
    tau = jax.lax.stop_gradient((low + high) / 2)
    # one Newton step from the root: the value stays, the derivative becomes the implicit one
    slope = jax.lax.stop_gradient(jax.grad(excess)(tau, frozen))
    slope = jnp.where(jnp.abs(slope) > 1e-12, slope, -1e-12)
    residual = excess(tau, size)
    tau = tau - (residual - jax.lax.stop_gradient(residual)) / slope
    return jax.nn.sigmoid((size - tau) / temperature)


def own_size(scores: Float[Array, "units"], share: float = OWN_SHARE) -> Int[Array, ""]:
    """Size of the smallest set that holds ``share`` of the magnitude; 0 where all scores are 0."""
    if not 0 < share <= 1:
        raise InputError("share", f"is {share}", "use a number above 0, at most 1")
    sizes = jnp.sort(jnp.abs(scores))[::-1]
    total = jnp.sum(sizes)
    held = jnp.cumsum(sizes)
    # a relative slack, so that rounding of the cumulative sum never adds a unit
    enough = held >= share * total * (1 - 1e-6)
    return jnp.where(total > 0, jnp.argmax(enough) + 1, 0)


def own_set(
    scores: Float[Array, "units"], share: float = OWN_SHARE, key: PRNGKey | None = None
) -> Bool[Array, "units"]:
    """The smallest set of units that holds ``share`` of the magnitude, as a hard gate.

    >>> own_set(jnp.array([5.0, 0.1, -4.0, 0.1])).tolist()
    [True, False, True, False]
    """
    return top_k(scores, own_size(scores, share), key)


def _inverse(gate: Array) -> Array:
    return ~gate if gate.dtype == bool else 1 - gate


def keep(gates: Gates, name: str) -> Gates:
    """Keep_m (eq. 3): the gate of ``name``, every other modality left whole."""
    ones = {n: jnp.ones_like(g) for n, g in gates.items()}
    return ones | {name: gates[name]}


def remove(gates: Gates, name: str) -> Gates:
    """Remove_m (eq. 3): one minus the gate of ``name``, every other modality left whole."""
    ones = {n: jnp.ones_like(g) for n, g in gates.items()}
    return ones | {name: _inverse(gates[name])}


def joint(scores: Scores, k: int | Int[Array, ""], key: PRNGKey | None = None) -> Gates:
    """A hard gate on the ``k`` units of largest magnitude of all modalities together."""
    return unflatten(top_k(flatten(scores), k, key), {n: s.shape[0] for n, s in scores.items()})
