"""How a remainder depends on the place: ``|e(u)| <= flat + u^T bend u``, bend positive.

Remainders of second and third order are large only where their argument has moved far. Units look
into different directions, so not all are at their largest at one place: the sum of many, ``sum_k
|c_k| e_k(u)``, is at most ``sum_k |c_k| flat_k + lambda_max(sum_k |c_k| bend_k)``, below the sum of
their largest values.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmx_jax.certify.norms import spectral
from mmx_jax.certify.rounding import TINY, gamma, up
from mmx_jax.typing import record

__all__ = ["Shape", "absolute", "ball_sum", "noise_shape", "quad_sum", "top"]


@record
class Shape:
    """``|e(u)| <= flat + u^T bend u`` entry by entry."""

    bend: Float[Array, "dim dim *s"]
    flat: Float[Array, "*s"]


def ball_sum(lin: Array, ball: Any) -> Array:
    """``sup |sum_i u_i lin_i|`` over the set, entry by entry."""
    if ball.norm != 2:
        return up(jnp.sum(jnp.abs(lin), 0), ball.dim)
    parts = [jnp.sqrt(jnp.sum(jnp.square(lin[b]), 0)) for b in ball.blocks()]
    return up(sum(parts[1:], parts[0]), ball.dim + 8)


def quad_sum(quad: Array, ball: Any) -> tuple[Array, Array]:
    """Middle and half width of a range that holds ``u^T quad u`` over the set."""
    if ball.norm != 2:
        # u_i^2 lies in [0, 1]
        diagonal = jnp.moveaxis(jnp.diagonal(quad), -1, 0)
        half = 0.5 * jnp.sum(jnp.abs(diagonal), 0)
        total = jnp.sum(jnp.abs(quad + jnp.swapaxes(quad, 0, 1)), (0, 1)) * 0.5
        return 0.5 * jnp.sum(diagonal, 0), up(total - half + gamma(1) * total, ball.dim**2)
    both = quad + jnp.swapaxes(quad, 0, 1)
    moved = jnp.moveaxis(both, (0, 1), (-2, -1))
    blocks = ball.blocks()
    pairs = [(b, c) for i, b in enumerate(blocks) for c in blocks[i:]]
    if not pairs:
        return jnp.zeros(quad.shape[2:]), jnp.zeros(quad.shape[2:])
    # zeros change no norm, and one stack is one program
    most = max(ball.sizes)
    stack = []
    for b, c in pairs:
        part = moved[..., b, c] * (0.5 if b == c else 1.0)
        fill = [(0, most - n) for n in part.shape[-2:]]
        stack.append(jnp.pad(part, [(0, 0)] * (part.ndim - 2) + fill))
    total = jnp.sum(spectral(jnp.stack(stack)), 0)
    return jnp.zeros_like(total), up(total, len(pairs) + 4)


def top(shape: Shape, ball: Any) -> Array:
    """The largest value of ``flat + u^T bend u`` over the set."""
    shift, half = quad_sum(shape.bend, ball)
    most = jnp.abs(shift) + half
    if ball.norm != 2:  # or by the l2 ball around the box, better where no entries stand out
        moved = jnp.moveaxis(shape.bend, (0, 1), (-2, -1))
        most = jnp.fmin(most, ball.dim * spectral(moved))
    return up(most + shape.flat, 6)


def absolute(quad: Float[Array, "dim dim *s"], ball: Any) -> Shape:
    """A bound of ``|u^T quad u|``: the absolute value of the matrix."""
    both = 0.5 * (quad + jnp.swapaxes(quad, 0, 1))
    finite = jnp.all(jnp.isfinite(both), (0, 1))
    both = jnp.where(finite, both, 0.0)
    dim = both.shape[0]
    eye = jnp.eye(dim).reshape(dim, dim, *[1] * (both.ndim - 2))
    moved = jnp.moveaxis(both, (0, 1), (-2, -1))
    values, vectors = jnp.linalg.eigh(moved, symmetrize_input=False)
    back = jnp.swapaxes(vectors, -1, -2)
    size = (vectors * jnp.abs(values)[..., None, :]) @ back
    # V |D| V^T -+ V D V^T is positive for any V; what V D V^T misses of the matrix is added
    missed = jnp.abs((vectors * values[..., None, :]) @ back - moved)
    loss = gamma(2 * dim + 8) * (dim * jnp.sum(jnp.abs(values), -1) * 4 + TINY)
    slack = up(jnp.sqrt(jnp.sum(jnp.square(missed), (-2, -1))), dim * dim) + loss
    good = finite & jnp.isfinite(slack)
    bend = jnp.moveaxis(jnp.where(good[..., None, None], size, 0.0), (-2, -1), (0, 1))
    return Shape(bend + eye * jnp.where(good, slack, 0.0), jnp.where(good, 0.0, jnp.inf))


def noise_shape(noises: Float[Array, "noise *s"], scope: Any) -> Shape:
    """The shape of a sum of noise symbols with known shapes of their own."""
    bends, flats = scope.shapes_of(noises.shape[0])
    size = jnp.abs(noises)
    bend = jnp.einsum("k...,kij->ij...", size, bends)
    dim = bends.shape[1]
    # entries of bends are at most 4 in size: so far may the sums be off
    loss = gamma(noises.shape[0] + 8) * 4 * dim * dim * jnp.sum(size, 0)
    flat = up(jnp.einsum("k...,k->...", size, flats) + loss, noises.shape[0])
    return Shape(bend, flat)
