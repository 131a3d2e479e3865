"""Random gates and orders by index, from a single draw.

A loop over samples that derives a key and draws in every step takes XLA seconds to compile. Here
the key is used once and every sample is a hash of its index: ``marks_i = mix(a i + b)`` on 32 bits
with random b and odd a per player. For every i the marks are uniform and independent between
players; between two indices they are pairwise independent up to the lowest bits (Carter and Wegman,
*Universal Classes of Hash Functions*, 1979; a bijection such as mix keeps that), so a mean over
samples is unbiased and has the variance of independent ones. Mix, the finaliser of MurmurHash3,
breaks up the lattice that ``a i + b`` alone would be.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from mmx_jax.typing import PRNGKey

__all__ = ["Marks", "below", "chained", "marks", "places", "uniform"]

Marks = Callable[[Int[Array, ""]], UInt32[Array, "players"]]
"""From the index of a sample to one mark per player."""


def marks(key: PRNGKey, players: int) -> Marks:
    """Marks ``[players]`` by index of the sample, uniform on 32 bits."""
    slope, offset = jax.random.bits(key, (2, players), jnp.uint32)

    def at(index: Array) -> Array:
        return _mix((slope | 1) * index.astype(jnp.uint32) + offset)

    return at


def _mix(x: UInt32[Array, "*any"]) -> UInt32[Array, "*any"]:
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def uniform(marks: UInt32[Array, "*any"]) -> Float[Array, "*any"]:
    """Numbers in [0, 1), multiples of 2^-24."""
    return (marks >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)


def below(marks: UInt32[Array, "*any"], share: float) -> Bool[Array, "*any"]:
    """True with probability ``share``, independently."""
    return marks < jnp.uint32(min(round(share * 2**32), 2**32 - 1))


def places(marks: Array) -> Int[Array, "players"]:
    """A uniform random order: the place of each player, from 0.

    Places are counted, not sorted, which compiles much faster; ties fall to the lower index.
    """
    index = np.arange(marks.shape[0])
    tied = (marks[None, :] == marks[:, None]) & (index[None, :] < index[:, None])
    return jnp.sum((marks[None, :] < marks[:, None]) | tied, axis=1)


def chained(
    marks: UInt32[Array, "marks"], unions: Int[np.ndarray, "players"]
) -> Int[Array, "players"]:
    """A uniform random order in which the players of a union stay together.

    Args:
      marks: of the players, followed by those of the unions.
      unions: the union of each player.
    """
    players = len(unions)
    return places(places(marks[players:])[unions] * players + places(marks[:players]))
