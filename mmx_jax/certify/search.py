"""Lower bounds of the constants: the largest Jacobian norm found in the set."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmx_jax.certify.region import Region

__all__ = ["climb", "into_ball", "norm_below"]


def norm_below(matrix: Float[Array, "p q"], norm: float) -> Float[Array, ""]:
    """The operator norm of a Jacobian, a little below its value in exact arithmetic."""
    exact = (
        jnp.linalg.svd(matrix, compute_uv=False)[0]
        if norm == 2
        else jnp.max(jnp.sum(jnp.abs(matrix), 1))
    )
    return exact * (1 - 1e-12)


def into_ball(u: Float[Array, "dim"], region: Region, outward: bool) -> Float[Array, "dim"]:
    """Scales each modality into its unit ball, or onto its surface."""
    parts = []
    for name in region.names:
        part = u[region.spans[name]]
        if region.ball.norm != 2:
            parts.append(jnp.sign(part) if outward else jnp.clip(part, -1, 1))
            continue
        size = jnp.sqrt(jnp.sum(jnp.square(part)))
        least = jnp.where(size > 0, size, 1.0)
        parts.append(part / (least if outward else jnp.maximum(least, 1.0)))
    return jnp.concatenate(parts)


def climb(
    push: Any,
    region: Region,
    starts: Float[Array, "restarts dim"],
    out_mask: Float[Array, "outputs"],
    in_mask: Float[Array, "dim"],
    steps: int,
) -> Float[Array, "dim"]:
    """The input where ``||M_out J(x) M_in||`` is largest among those found.

    From each start the input moves towards the point of the set that the gradient favours
    (Frank and Wolfe), and the direction v by a power step: both are gradients of one scalar,
    ``||M_out J(x) M_in v||`` in the norm asked for, so nothing is differentiated twice. Where that
    has no slope (piecewise linear maps) the best point is varied instead: one coordinate goes to
    its other end in boxes, and the direction of another start is mixed in in l2 balls.

    Args:
      push: ``(x, t) -> J(x) t``.
      region: the set.
      starts: directions from the center where the ascents start; also the first v.
      out_mask: 1 on the outputs that count.
      in_mask: 1 on the inputs that count.
      steps: per restart.
    """
    center, scales = region.vector().astype(jnp.float64), region.scales()

    def value(u: Array, v: Array) -> Array:
        out = push(center + scales * u, v * in_mask) * out_mask
        if region.ball.norm == 2:
            return jnp.sqrt(jnp.sum(jnp.square(out)) + 1e-300)
        return jnp.max(jnp.abs(out))

    slopes = jax.value_and_grad(value, argnums=(0, 1))

    def unit(v: Array) -> Array:
        if region.ball.norm != 2:
            return jnp.where(v >= 0, 1.0, -1.0) * in_mask
        size = jnp.sqrt(jnp.sum(jnp.square(v * in_mask)))
        return v * in_mask / jnp.where(size > 0, size, 1.0)

    def varied(u: Array, turn: Array, other: Array, share: Array) -> Array:
        if region.ball.norm != 2:
            return jnp.where(jnp.arange(region.dim) == turn % region.dim, -u, u)
        return into_ball(u + (0.2 + share) * into_ball(other, region, True), region, True)

    def step(state: Any, now: Any) -> tuple[Any, None]:
        u, v, best, best_u, mine = state
        turn, share = now
        found, (du, dv) = slopes(u, v)
        better = found > best
        best, best_u = jnp.where(better, found, best), jnp.where(better, u, best_u)
        goal = into_ball(du, region, True)
        along = into_ball((1 - share) * u + share * goal, region, False)
        other = starts[(mine + 1 + turn) % len(starts)] * jnp.where(turn % 2 == 0, 1.0, -1.0)
        u = jnp.where(jnp.any(du != 0), along, varied(best_u, turn, other, share))
        return (u, unit(dv), best, best_u, mine), None

    def ascend(start: Array, mine: Array) -> tuple[Array, Array]:
        u = into_ball(start, region, True)
        first = (u, unit(start + 1e-3), jnp.asarray(-1.0), u, mine)
        # the first half settles v while x moves slowly, the second takes whole steps
        shares = jnp.concatenate(
            [jnp.linspace(0.0, 1.0, steps // 2), jnp.linspace(1.0, 0.5, steps - steps // 2)]
        )
        (_, _, best, best_u, _), _ = jax.lax.scan(step, first, (jnp.arange(steps), shares))
        return best, best_u

    best, where = jax.vmap(ascend)(starts, jnp.arange(len(starts)))
    # not argmax: its lowering falls back to 32 bits outside the scope that traced it
    return center + scales * where[jax.lax.top_k(best, 1)[1][0]]
