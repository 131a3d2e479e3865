"""The largest value of a quadratic function over a product of balls, from above.

``sup l.u + u^T Q u`` over ``|u_b| <= 1`` for every block b is at most Lagrange's dual function, for
every ``lambda >= 0`` with ``M = diag(lambda) - Q`` positive semidefinite::

    D(lambda) = sum_b lambda_b + l^T M^-1 l / 4

which for one ball is the supremum itself (the trust region problem; Boyd and Vandenberghe, *Convex
Optimization*, 2004, appendix B). It is convex, and Newton's steps lower it; what is returned is a
bound for the multipliers reached, whatever they are: ``M >= 0`` is proven by its Cholesky factor,
``M = R R^T + E``, and with any y ``l.u - u^T M u <= y^T M y + |(l - 2 M y).u|``.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmx_jax.certify.rounding import TINY, gamma, up

__all__ = ["quadratic_top"]

SCALES = (0.0, 1.0, 0.5, 0.2, 0.05)
"""Lengths of a step that are tried."""


def quadratic_top(
    lin: Float[Array, "dim"], quad: Float[Array, "dim dim"], sizes: tuple[int, ...], steps: int = 8
) -> Float[Array, ""]:
    """An upper bound of ``sup lin.u + u^T quad u`` over a product of unit l2 balls.

    Args:
      lin: l.
      quad: Q, not necessarily symmetric.
      sizes: of the balls; all 1 makes it a box.
      steps: of the search for multipliers.
    """
    dim = lin.shape[0]
    member = jnp.asarray(np.repeat(np.eye(len(sizes)), sizes, axis=0))  # coordinates by blocks
    size = jnp.maximum(jnp.max(jnp.abs(lin), initial=0.0), jnp.max(jnp.abs(quad), initial=0.0))
    usable = jnp.isfinite(size) & (size > TINY)
    safe = jnp.where(usable, size, 1.0)
    lin, quad = (jnp.where(usable, v / safe, 0.0) for v in (lin, quad))
    quad = 0.5 * (quad + quad.T)
    lost = gamma(8) * (jnp.sum(jnp.abs(lin)) + jnp.sum(jnp.abs(quad)))
    eye = jnp.eye(dim)

    def at(weight: Array) -> tuple[Array, ...]:
        root = jax.lax.linalg.cholesky(jnp.diag(member @ weight) - quad, symmetrize_input=False)
        half = jax.lax.linalg.triangular_solve(root, eye, left_side=True, lower=True)
        inverse = half.T @ half
        place = 0.5 * inverse @ lin
        dual = jnp.sum(weight) + 0.5 * lin @ place
        return jnp.where(jnp.isfinite(dual), dual, jnp.inf), weight, root, inverse, place

    def step(_: Any, state: tuple[Array, ...]) -> tuple[Array, ...]:
        weight, inverse, place = state[1], *state[3:]
        # Newton's step of every multiplier by itself
        slope = 1 - jnp.square(place) @ member
        bend = 2 * jnp.diag(member.T @ (place[:, None] * inverse * place[None]) @ member)
        move = jnp.clip(-slope / (bend + 1e-9), -weight, 4 * weight)
        # for blocks that the linear part does not reach: towards the edge of where M >= 0
        sink = -0.9 / jnp.sqrt(jnp.sum(jnp.square(inverse))) * jnp.ones_like(weight)
        tried = weight + jnp.stack([*[s * move for s in SCALES], sink])
        found = jax.vmap(at)(jnp.maximum(tried, 0.0))
        best = jax.lax.top_k(-found[0], 1)[1][0]
        return tuple(v[best] for v in found)

    spread = member.T @ jnp.square(quad) @ member
    start = 0.5 * jnp.sqrt(jnp.square(lin) @ member) + jnp.sum(jnp.sqrt(spread), 1) + 1e-3
    first = (jnp.asarray(jnp.inf), start, eye, eye, 0 * lin)
    _, weight, root, _, place = jax.lax.fori_loop(0, steps, step, first)

    matrix = jnp.diag(member @ weight) - quad
    missed = matrix - root @ root.T
    shift = up(jnp.sqrt(jnp.sum(jnp.square(missed))), dim * dim)
    shift = shift + gamma(2 * dim + 8) * (4 * jnp.sum(jnp.square(root)) + jnp.sum(jnp.abs(matrix)))
    weight, matrix = weight + shift, matrix + shift * eye
    pushed = matrix @ place
    reach = jnp.abs(matrix) @ jnp.abs(place)
    apart = jnp.abs(lin - 2 * pushed) + gamma(dim + 8) * (jnp.abs(lin) + 2 * reach)
    bound = jnp.sum(weight) + jnp.maximum(place @ pushed, 0.0)
    bound = bound + jnp.sum(jnp.sqrt(jnp.square(apart) @ member))
    lost = lost + gamma(4 * dim + 16) * (jnp.sum(weight) + jnp.abs(place) @ reach)
    bound = up(up(bound, 4 * dim) + lost, 4) * safe
    bound = jnp.where(jnp.isfinite(bound), bound, jnp.inf)
    return jnp.where(usable, bound, jnp.where(jnp.isfinite(size), TINY * 4 * dim * dim, jnp.inf))
