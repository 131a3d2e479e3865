"""Linear systems with a known triangular matrix, as surrogate models solve them."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mmx_jax.certify.affine import Form, Scope, linear_map
from mmx_jax.certify.rounding import TINY, gamma, up
from mmx_jax.errors import InputError

__all__ = ["triangular_solve_rule"]


def _inverse(matrix: Array, params: Any) -> tuple[Array, Array]:
    """An approximate inverse X of the matrix that is solved with, and a bound of its error.

    With ``F = I - A X`` and ``e = ||F||_inf < 1`` the exact inverse is ``X (I + F + F^2 + ...)``,
    so every entry of a row is off by at most that row's ``sum |X| e / (1 - e)``.
    """
    n = matrix.shape[-1]
    a = jnp.tril(matrix) if params["lower"] else jnp.triu(matrix)
    if params["unit_diagonal"]:
        a = a - a * jnp.eye(n) + jnp.eye(n)
    if params["transpose_a"]:
        a = jnp.swapaxes(a, -1, -2)
    x = jnp.linalg.inv(a)
    size = jnp.abs(a) @ jnp.abs(x)
    missed = up(jnp.abs(jnp.eye(n) - a @ x) + gamma(n + 8) * (size + 1), n)
    e = up(jnp.max(jnp.sum(missed, -1), -1), n)
    worst = jnp.where(e < 0.5, up(2 * e), jnp.inf)[..., None]
    return x, up(jnp.sum(jnp.abs(x), -1) * worst, n)


def triangular_solve_rule(scope: Scope, params: Any, matrix: Any, x: Any) -> Form:
    """``A^-1 x`` (or ``x A^-1``) for a constant triangular A."""
    del scope
    if isinstance(matrix, Form):
        raise InputError(
            "fn", "solves with a matrix that depends on its inputs", "solve with a constant one"
        )
    inverse, loss = _inverse(jnp.asarray(matrix).astype(jnp.float64), params)
    left = params["left_side"]
    if not left:  # x A = b is A^T x^T = b^T, and params say how A is read
        flipped = dict(params) | {"transpose_a": not params["transpose_a"]}
        inverse, loss = _inverse(jnp.asarray(matrix).astype(jnp.float64), flipped)

    def apply(v: Array, by: Array) -> Array:
        out = by @ (v if left else jnp.swapaxes(v, -1, -2))
        return out if left else jnp.swapaxes(out, -1, -2)

    n = inverse.shape[-1]
    form = linear_map(x, lambda v: apply(v, inverse), lambda v: apply(v, jnp.abs(inverse)), n)
    spread_out = jnp.broadcast_to(loss[..., None], inverse.shape)
    extra = up(apply(x.err[1] + TINY, spread_out), n)
    err = jax.vmap(jnp.add)(form.err, jnp.stack([extra] * 3))
    return Form(form.rows, err, form.degree, form.dim, form.noise)
