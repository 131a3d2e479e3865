"""Searching sets of units: the largest effect per size, and the smallest set that passes.

A set function takes the *removed* units and returns a signed effect, 0 for the empty set. Small
universes are enumerated; others are searched greedily both ways: removing unit after unit from
nothing, and restoring unit after unit from everything, upwards and downwards in sign. Only the
way back finds duplicates, which have no effect one at a time.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from mmx_jax.mapping import map_stacked
from mmx_jax.typing import record

__all__ = ["SetSearch", "enumerated", "greedy", "removed_sets"]

SetFunction = Callable[[Array, Any], Array]
"""(removed units ``[N]``, context of the search) to a signed effect."""


@record
class SetSearch:
    """What a search over sets found.

    Attributes:
      largest: ``[K + 1]`` the largest ``|effect|`` of any set of at most k units.
      keeping: ``[K + 1]`` the smallest ``|effect of removing the rest|`` among the sets of k units
        found whose necessity share reaches the threshold; inf where there is none.
    """

    largest: Float[Array, "sizes"]
    keeping: Float[Array, "sizes"]


def removed_sets(units: int) -> np.ndarray:
    """All sets of units as rows ``[2**units, units]`` of booleans; bit u of the index is unit u."""
    return (np.arange(1 << units)[:, None] >> np.arange(units)) & 1 == 1


def enumerated(effects: Float[Array, "sets"], necessity: float) -> SetSearch:
    """Exact search in the table of effects of all removed sets (rows of :func:`removed_sets`).

    The necessity share of a set is the largest effect of any of its subsets over the largest
    effect of any set of at most its size.
    """
    count = effects.shape[0].bit_length() - 1
    sizes = removed_sets(count).sum(1)
    size = jnp.abs(effects)
    largest = jnp.zeros(count + 1, size.dtype).at[sizes].max(size)
    largest = jax.lax.cummax(largest)

    within = size.reshape((2,) * count)  # axis -1-u is unit u
    for axis in range(count):
        without, present = jnp.split(within, 2, axis=axis)
        within = jnp.concatenate([without, jnp.maximum(without, present)], axis=axis)
    meets = _meets(within.reshape(-1), largest[sizes], necessity)
    error = size[::-1]  # keeping a set removes its complement
    keeping = (
        jnp.full(count + 1, jnp.inf, size.dtype).at[sizes].min(jnp.where(meets, error, jnp.inf))
    )
    return SetSearch(largest, keeping)


def _meets(effect: Array, largest: Array, necessity: float) -> Array:
    return (largest > 0) & (effect >= necessity * largest)


def greedy(
    effect: SetFunction,
    universe: np.ndarray,
    context: PyTree = None,
    necessity: float | None = None,
    group: int = 2,
) -> SetSearch:
    """Greedy search both ways in several universes, one after another in one traced program.

    Chains go up or down in the signed effect, by removing or by restoring; with ``necessity`` two
    more chains keep the effect near 0, which finds small sufficient sets. What is found is a
    lower bound of ``largest`` and an upper bound of the size that ``keeping`` allows.

    Args:
      effect: the set function over N units.
      universe: ``[P, N]`` which units each of P searches may remove.
      context: whatever ``effect`` needs to know of each search, leaves ``[P, ...]``.
      necessity: threshold of the necessity share; without it ``keeping`` is not searched.
      group: candidates per chain that are evaluated at once.

    Returns:
      a record with a leading axis ``[P]`` and sizes 0 to N; sizes beyond a universe repeat the
      last value of ``largest``.
    """
    aims = (1.0, -1.0) if necessity is None else (1.0, -1.0, 0.0)
    aim = jnp.array(aims * 2)
    back = jnp.array([False] * len(aims) + [True] * len(aims))

    def search(problem: tuple[Array, PyTree]) -> SetSearch:
        inside, around = problem
        when, effects, largest = _chains(lambda r: effect(r, around), inside, aim, back, group)
        if necessity is None:
            return SetSearch(jax.lax.cummax(largest), jnp.full_like(largest, jnp.inf))
        nested = _nested(when, inside, back)  # [C, N + 1, N], removed sets by size
        rest = inside & ~nested
        chains, sizes, count = rest.shape
        others = map_stacked(lambda r: effect(r, around), rest.reshape(-1, count))
        return _keeping(effects, others.reshape(chains, sizes), largest, inside, necessity)

    return jax.lax.map(search, (jnp.asarray(universe), context))


def _chains(
    effect: Callable[[Array], Array], inside: Array, aim: Array, back: Array, group: int
) -> tuple[Array, Array, Array]:
    """Runs all chains side by side.

    Returns the step at which each unit was moved ``[C, N]``, the effect by number of removed units
    ``[C, N + 1]``, and the largest |effect| seen per number ``[N + 1]``.
    """
    chains, count = aim.shape[0], inside.shape[0]
    size = jnp.sum(inside)
    rows = jnp.arange(chains)
    dtype = jax.eval_shape(effect, inside).dtype

    def step(carry: tuple[Array, ...], j: Array) -> tuple[tuple[Array, ...], None]:
        removed, when, effects, largest = carry
        free = inside & (removed == back[:, None])
        order = jnp.argsort(~free, axis=1, stable=True)  # free units first
        left = size - j

        def block(b: Array, found: Array) -> Array:
            slots = b * group + jnp.arange(group)
            pick = order[:, jnp.minimum(slots, count - 1)]  # [C, group]
            sets = removed[:, None, :] ^ jax.nn.one_hot(pick, count, dtype=bool)
            new = jax.vmap(jax.vmap(effect))(sets)
            # slots past the last repeat or touch units that are not free, and are masked below
            return found.at[rows[:, None], pick].set(new)

        found = jax.lax.fori_loop(
            0, (left + group - 1) // group, block, jnp.zeros((chains, count), dtype)
        )
        goal = jnp.where(aim[:, None] == 0, -jnp.abs(found), aim[:, None].astype(dtype) * found)
        best = jnp.argmax(jnp.where(free, goal, -jnp.inf), axis=1)
        going = left > 0
        flip = jax.nn.one_hot(best, count, dtype=bool) & going
        now = jnp.where(back, left - 1, j + 1)
        seat = jnp.where(going, now, count + 1)  # out of bounds is dropped
        effects = effects.at[rows, seat].set(found[rows, best], mode="drop")
        seen = jnp.max(jnp.where(free, jnp.abs(found), 0.0), axis=1)
        largest = largest.at[seat].max(seen, mode="drop")
        return (removed ^ flip, jnp.where(flip, j, when), effects, largest), None

    start = (
        inside & back[:, None],
        jnp.zeros((chains, count), jnp.int32),
        jnp.zeros((chains, count + 1), dtype),
        jnp.zeros((count + 1,), dtype),
    )
    (_, when, effects, largest), _ = jax.lax.scan(step, start, jnp.arange(count, dtype=jnp.int32))
    # a chain that restores begins at everything removed, where the first chain ends
    effects = effects.at[:, size].set(jnp.where(back, effects[0, size], effects[:, size]))
    return when, effects, largest


def _nested(when: Array, inside: Array, back: Array) -> Bool[Array, "chains sizes units"]:
    sizes = jnp.arange(inside.shape[0] + 1)[:, None]
    going = when[:, None, :] < sizes
    coming = when[:, None, :] >= jnp.sum(inside) - sizes
    return inside & jnp.where(back[:, None, None], coming, going)


def _keeping(
    effects: Array, others: Array, largest: Array, inside: Array, necessity: float
) -> SetSearch:
    """Every nested set, and every complement of one, is a candidate for the smallest set."""
    count = inside.shape[0]
    size = jnp.sum(inside)
    sizes = jnp.arange(count + 1)
    valid = sizes <= size
    mirror = jnp.where(valid, size - sizes, 0)  # index of the complement's size
    removed = jnp.where(valid, jnp.abs(effects), 0.0)
    rest = jnp.where(valid, jnp.abs(others), 0.0)  # effect of removing the complement of size k
    largest = jnp.maximum(largest, jnp.max(removed, axis=0))
    # a set of k units is the complement of one of size - k
    largest = jnp.maximum(largest, jnp.where(valid, jnp.max(rest, axis=0)[mirror], 0.0))
    largest = jax.lax.cummax(largest)

    own = jnp.concatenate([removed, jnp.where(valid, rest[:, mirror], 0.0)])
    error = jnp.concatenate([rest, jnp.where(valid, removed[:, mirror], 0.0)])
    reached = jax.lax.cummax(own, axis=1)  # the sets are nested, so smaller ones are subsets
    meets = _meets(reached, largest, necessity) & valid
    return SetSearch(largest, jnp.min(jnp.where(meets, error, jnp.inf), axis=0))
