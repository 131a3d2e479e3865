"""The algebra of coalition values: Moebius coefficients and Shapley values of games.

A game of n players is its table ``values[..., 2**n]``: bit i of the last index says that player i
is present. Explainers, tasks and interactions share this one convention. NumPy tables (and lists)
are computed in NumPy in float64, JAX arrays in JAX at their own precision.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num

from mmx_jax.errors import InputError
from mmx_jax.numerics import is_traced
from mmx_jax.typing import ArrayLike

__all__ = [
    "MAX_PLAYERS",
    "as_table",
    "inverse_moebius",
    "memberships",
    "moebius",
    "players",
    "shapley_coefficients",
    "shapley_values",
]

MAX_PLAYERS = 16
"""Exact methods enumerate at most 2**16 coalitions."""


def players(values: Num[ArrayLike, "*batch coalitions"]) -> int:
    """The number of players of a table of values; raises where its length is no power of 2."""
    size = np.shape(values)[-1] if np.ndim(values) else 0
    n = size.bit_length() - 1
    if size < 2 or size != 1 << n:
        raise InputError(
            "values", f"has {size} coalitions on its last axis", "give 2**n of them, n >= 1"
        )
    return n


def as_table(
    values: Num[ArrayLike, "*batch coalitions"], limit: int | None = None
) -> tuple[Any, int, Any]:
    """A checked table, its number of players, and the namespace it is computed in.

    Args:
      values: ``[..., 2**n]``; lists and NumPy arrays become float64 NumPy arrays.
      limit: the most players that the caller can enumerate; any number if None.

    Raises:
      InputError: a length that is no power of 2, more players than ``limit``, or entries that are
        NaN or infinite (checked on concrete arrays).
    """
    n = players(values)
    kind = values.dtype if isinstance(values, jax.Array) else np.asarray(values).dtype
    if not (
        jnp.issubdtype(kind, jnp.floating) or jnp.issubdtype(kind, jnp.integer) or kind.kind == "b"
    ):
        raise InputError("values", f"has dtype {kind}", "give real numbers")
    if np.size(values) == 0:
        raise InputError("values", f"has shape {np.shape(values)}", "give at least one game")
    if limit is not None and n > limit:
        raise InputError(
            "values",
            f"has {n} players",
            f"exact methods take {limit}; sample permutations or coalitions instead (the "
            "sampling explainers, interactions.SampledPairs)",
        )
    if not is_traced(values) and not np.all(np.isfinite(values)):
        raise InputError("values", "holds NaN or infinite entries", "check the model's outputs")
    if isinstance(values, jax.Array):
        return values.astype(jnp.float32) if kind.kind == "b" else values, n, jnp
    return np.asarray(values, np.float64), n, np


def memberships(
    n: int, coalition: Int[Array, "*batch"] | None = None
) -> Bool[Array, "*batch players"]:
    """Who is present: ``[2**n, n]`` for all coalitions, or the rows of those asked for.

    >>> memberships(2).astype(int).tolist()
    [[0, 0], [1, 0], [0, 1], [1, 1]]
    """
    index = jnp.arange(1 << n) if coalition is None else coalition
    return (index[..., None] >> jnp.arange(n)) & 1 == 1


def moebius(
    values: Num[ArrayLike, "*batch coalitions"],
) -> Float[ArrayLike, "*batch coalitions"]:
    """Moebius coefficients (Harsanyi dividends) ``m(S) = sum_{T <= S} (-1)^{|S|-|T|} v(T)``.

    Harsanyi, *A simplified bargaining model for the n-person cooperative game* (1963).

    >>> moebius(jnp.array([0.0, 1.0, 2.0, 7.0])).tolist()
    [0.0, 1.0, 2.0, 4.0]
    """
    return _butterfly(values, -1.0)


def inverse_moebius(
    dividends: Num[ArrayLike, "*batch coalitions"],
) -> Float[ArrayLike, "*batch coalitions"]:
    """Values of a game from its dividends: ``v(S) = sum_{T <= S} m(T)``."""
    return _butterfly(dividends, 1.0)


def _butterfly(values: ArrayLike, sign: float) -> ArrayLike:
    table, n, xp = as_table(values)
    # each step takes the lowest bit of the index and puts it on top: n steps restore the order,
    # and all have the same shapes
    for _ in range(n):
        pairs = table.reshape(*table.shape[:-1], -1, 2)
        without, present = pairs[..., 0], pairs[..., 1]
        table = xp.concatenate([without, present + sign * without], axis=-1)
    return table


def shapley_coefficients(coalition: Int[Array, ""], n: int) -> Float[Array, "players"]:
    """The weight of one coalition's value in each player's Shapley value.

    ``phi_i = sum_S c_i(S) v(S)`` with ``c_i(S) = (|S|-1)! (n-|S|)! / n!`` if i is in S and
    ``-|S|! (n-|S|-1)! / n!`` otherwise (Shapley 1953). Summing over coalitions one at a time
    keeps memory flat.
    """
    inside = np.array([0.0] + [1 / (n * math.comb(n - 1, s - 1)) for s in range(1, n + 1)])
    outside = np.array([1 / (n * math.comb(n - 1, s)) for s in range(n)] + [0.0])
    present = memberships(n, coalition)
    size = jnp.sum(present)
    return jnp.where(present, jnp.asarray(inside)[size], -jnp.asarray(outside)[size])


def shapley_values(
    values: Num[ArrayLike, "*batch coalitions"],
) -> Float[ArrayLike, "*batch players"]:
    """Exact Shapley values of games given as tables.

    Args:
      values: ``[..., 2**n]``, n up to 16.

    Returns:
      ``[..., n]``, with ``sum_i phi_i = v(all) - v(none)``.

    >>> shapley_values(jnp.array([0.0, 1.0, 2.0, 7.0])).tolist()
    [3.0, 4.0]
    """
    table, n, xp = as_table(values, MAX_PLAYERS)
    cube = table.reshape(table.shape[:-1] + (2,) * n)
    size = np.zeros((2,) * (n - 1), int) + sum(np.indices((2,) * (n - 1)), start=np.zeros((), int))
    weight = np.array([1 / (n * math.comb(n - 1, s)) for s in range(n)])[size]
    # player i is bit i of the index, hence axis -1-i of the cube
    phi = [
        xp.sum(xp.diff(cube, axis=-1 - i).squeeze(-1 - i) * weight, axis=tuple(range(-(n - 1), 0)))
        if n > 1
        else xp.diff(cube, axis=-1).squeeze(-1)
        for i in range(n)
    ]
    return xp.stack(phi, axis=-1)
