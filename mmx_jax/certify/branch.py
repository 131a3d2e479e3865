"""Branch and bound on the inputs: the worst cells are halved, each is bounded by itself.

Cells are boxes of the moving coordinates (those outside the balls count nothing), so the number
needed grows exponentially with the coordinates: from about ten on the budget buys nothing.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmx_jax.certify.affine import Ball, Form
from mmx_jax.certify.rounding import gamma

__all__ = ["branch"]

WIDTH = 8
"""How many cells are halved at once."""


class Cell:
    """A box within a region, as the set of an analysis.

    Attributes:
      ball: an interval per moving coordinate.
      dim: coordinates in all.
      spans: of the modalities.
    """

    def __init__(self, region: Any, places: np.ndarray, low: Array, high: Array):
        center, scales = region.vector().astype(jnp.float64), region.scales()
        middle = jnp.zeros(region.dim).at[places].set(0.5 * low + 0.5 * high)
        half = jnp.zeros(region.dim).at[places].set(0.5 * (high - low))
        self.center = center + scales * middle
        loss = gamma(16) * (jnp.abs(center) + scales)
        self.half = jnp.where(scales > 0, scales * half * (1 + gamma(8)) + loss, 0.0)
        self.ball = Ball((1,) * len(places), region.ball.norm)
        self.dim, self.spans, self._places = region.dim, region.spans, places

    def form(self, degree: int) -> Form:
        """``center + half u``."""
        err = jnp.stack([jnp.zeros_like(self.half), jnp.abs(self.center) + self.half, self.half])
        rows = jnp.stack([self.center, self.center])
        if degree == 0:
            return Form(rows, err.at[0].set(self.half))
        count = len(self._places)
        lin = jnp.zeros((count, self.dim))
        lin = lin.at[np.arange(count), self._places].set(self.half[self._places])
        return Form(jnp.concatenate([rows, lin]), err, 1, count, 0)


def _outside(region: Any, low: Array, high: Array) -> Array:
    """Whether a cell holds no point of the region's l2 balls."""
    if region.ball.norm != 2:
        return jnp.asarray(False)
    nearest = jnp.maximum(jnp.maximum(low, -high), 0.0)
    sizes = [jnp.sum(jnp.square(nearest[b])) for b in region.ball.blocks()]
    return jnp.any(jnp.stack(sizes) > 1 + 1e-9)


def branch(
    region: Any,
    root: Float[Array, "pairs"],
    reached: Float[Array, "pairs"],
    bound: Callable[[Cell], Float[Array, "pairs"]],
    splits: int,
) -> Float[Array, "pairs"]:
    """Upper bounds of all pairs over a region, from those of its cells.

    Args:
      region: the set.
      root: bounds over all of it.
      reached: lower bounds, which say what is worth halving.
      bound: of one cell.
      splits: how many cells may be halved.
    """
    spans = [region.spans[name] for name in region.moving]
    places = np.concatenate([np.arange(s.start, s.stop) for s in spans])
    rounds = -(-splits // WIDTH)
    count, pairs = len(places), root.shape[0]
    scales = region.scales()[places]
    low = jnp.full((1 + WIDTH * rounds, count), -1.0)
    bounds = jnp.full((1 + WIDTH * rounds, pairs), -jnp.inf).at[0].set(root)
    floor = jnp.maximum(reached, 1e-300)

    def once(k: Array, state: Any) -> Any:
        low, high, bounds = state
        _, chosen = jax.lax.top_k(jnp.max(bounds / floor, 1), WIDTH)
        a, b, known = low[chosen], high[chosen], bounds[chosen]
        axis = jax.lax.top_k((b - a) * scales, 1)[1]
        along = jnp.arange(count) == axis
        middle = 0.5 * a + 0.5 * b
        lows = jnp.concatenate([a, jnp.where(along, middle, a)])
        highs = jnp.concatenate([jnp.where(along, middle, b), b])

        def one(args: Any) -> Array:
            lo, hi = args
            found = bound(Cell(region, places, lo, hi))
            found = jnp.where(jnp.isnan(found), jnp.inf, found)
            return jnp.where(_outside(region, lo, hi), -jnp.inf, found)

        found = jax.lax.map(one, (lows, highs), batch_size=WIDTH)
        found = jnp.minimum(found, jnp.concatenate([known, known]))
        free = 1 + k * WIDTH + jnp.arange(WIDTH)
        return tuple(
            old.at[chosen].set(new[:WIDTH]).at[free].set(new[WIDTH:])
            for old, new in ((low, lows), (high, highs), (bounds, found))
        )

    cells = jax.lax.fori_loop(0, rounds, once, (low, -low, bounds))
    return jnp.minimum(jnp.max(cells[2], 0), root)
