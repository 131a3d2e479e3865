"""The norm of a matrix of forms whose first singular value stands out at the center.

Let the matrix be rotated so that it is nearly diagonal: ``[[a, r], [k, D]]`` with the top singular
value in a, a row r, a column k and ``||D|| <= d``. By Schur's complement its norm is at most t > d
as soon as ::

    |a| + (|r|^2 + |k|^2) / (2 (t - d)) + X^2 / (4 (t - X)) <= t
    X = t max(|r|, |k|)^2 / (t^2 - d^2)

where the last term stands for the difference of |r| and |k| and is of fourth order. With a a
quadratic function of the input, and r and k nearly linear ones, the left side is one quadratic
function, whose supremum :func:`~mmx_jax.certify.quadratics.quadratic_top` bounds: exact but for
terms of third order in the radius, where bounds entry by entry are exact but for second ones. The
smallest t is bisected.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmx_jax.certify.norms import ball_spectral, perron, spectral
from mmx_jax.certify.quadratics import quadratic_top
from mmx_jax.certify.rounding import gamma, up

__all__ = ["leading"]

HALVINGS = 10
"""Of the range in which t is sought."""


def leading(
    center: Float[Array, "p q"],
    lin: Float[Array, "dim p q"],
    entry: Float[Array, "p q"],
    rest: Float[Array, "p q"],
    quad: Float[Array, "dim dim"],
    beside: Float[Array, ""],
    ball: Any,
    known: Float[Array, ""],
) -> Float[Array, ""]:
    """An upper bound of the 2-norm over a product of unit l2 balls.

    Args:
      center: of the rotated matrix, nearly diagonal.
      lin: its linear part.
      entry: bounds of the absolute entries.
      rest: of the entries without center and linear part.
      quad: quadratic part of the first entry.
      beside: bound of the first entry without all three.
      ball: the set.
      known: a bound, which is returned where this one is not better.
    """
    d = jnp.zeros(())
    if min(entry.shape) > 1:
        inner = (slice(1, None), slice(1, None))
        moved = ball_spectral(lin[:, *inner], ball.blocks()) + perron(rest[inner])
        d = jnp.fmin(perron(entry[inner]), up(spectral(center[inner], 6) + moved, 4))

    def border(x: Array) -> Array:
        return jnp.concatenate([x[..., 0, 1:], x[..., 1:, 0]], -1)

    def norm(x: Array) -> Array:
        return up(jnp.sqrt(jnp.sum(jnp.square(x))), x.size + 4)

    flat, slopes, away = border(center), border(lin), norm(border(rest))
    count = flat.shape[0]
    reach = norm(border(entry))
    side = jnp.maximum(norm(entry[0, 1:]), norm(entry[1:, 0]))
    # |r + e|^2 <= (1 + share) |r|^2 + (1 + 1 / share) |e|^2
    share = jnp.clip(away / jnp.maximum(reach - away, 1e-3 * reach + 1e-200), 1e-9, 1e9)
    gram, cross = slopes @ slopes.T, slopes @ flat
    constant = jnp.sum(jnp.square(flat))
    size = jnp.sum(jnp.square(jnp.abs(flat) + jnp.sum(jnp.abs(slopes), 0)))
    constant = up(constant + gamma(2 * count + 8) * size, count + 4)
    own = jnp.abs(center[0, 0]) + jnp.sum(jnp.abs(lin[:, 0, 0])) + jnp.sum(jnp.abs(quad))
    away = up((1 + 1 / share) * jnp.square(away), 6)

    def holds(t: Array) -> Array:
        weight = 0.5 / (t - d) * (1 + gamma(8))
        scaled = weight * (1 + share) * (1 + gamma(8))
        top = quadratic_top(lin[:, 0, 0] + 2 * scaled * cross, quad + scaled * gram, ball.sizes)
        x = up(t * jnp.square(side) / (t * t - d * d), 12)
        last = up(jnp.square(x) / (4 * (t - x)), 12)
        fixed = up(scaled * constant + weight * away + beside + last, 8)
        slack = gamma(2 * count + 16) * (own + size * scaled)
        positive = up(fixed + slack + jnp.maximum(center[0, 0] + top, 0.0), 8) <= t
        # -a has no quadratic function of its own: it matters only where a changes its sign
        turned = -center[0, 0] + norm(lin[:, 0, 0]) * len(ball.sizes) + rest[0, 0]
        turned = up(jnp.maximum(turned, 0.0) + fixed + slack + weight * jnp.square(reach), 8)
        return positive & (turned <= t) & (x < t) & (t > d)

    def halve(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * low + 0.5 * high
        good = holds(middle)
        return jnp.where(good, low, middle), jnp.where(good, middle, high)

    usable = jnp.isfinite(known) & jnp.isfinite(d)
    low = jnp.where(usable, jnp.minimum(jnp.maximum(d, jnp.abs(center[0, 0])), known), 0.0)
    high = jnp.where(usable, known, 1.0)
    _, found = jax.lax.fori_loop(0, HALVINGS, halve, (low, high))
    return jnp.where(usable, jnp.minimum(found, known), known)
