"""Operator norms that are never understated: of signed, non-negative and parametrised matrices."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmx_jax.certify.rounding import gamma, up

__all__ = ["perron", "spectral"]


def spectral(matrix: Float[Array, "*b n m"], squarings: int = 2) -> Float[Array, "*b"]:
    """An upper bound of the largest singular value, by traces of powers.

    With ``M = A A^T`` (the smaller side) ``lambda_max(M)^p <= ||M^p||_F``, p = 2^squarings, which
    overstates the norm by at most ``n^(1/4p)``. Each squaring's rounding error enters by its bound.
    """
    n, m = matrix.shape[-2:]
    a = matrix if n <= m else jnp.swapaxes(matrix, -1, -2)
    small, large = min(n, m), max(n, m)
    size = jnp.max(jnp.abs(a), (-2, -1), initial=0.0)
    usable = jnp.isfinite(size) & (size > 0)
    a = jnp.where(usable[..., None, None], a / jnp.where(usable, size, 1.0)[..., None, None], 0.0)
    frobenius = jnp.sum(jnp.square(a), (-2, -1))
    top, loss, scales = frobenius, 0.0, []
    if small > 1:
        power = a @ jnp.swapaxes(a, -1, -2)
        # |fl(A A^T) - A A^T| <= gamma |A| |A|^T, whose norm is at most gamma ||A||_F^2
        loss = gamma(n * m + large + 16) * frobenius
        for _ in range(squarings):
            scale = jnp.sqrt(jnp.sum(jnp.square(power), (-2, -1))) + jnp.finfo(a.dtype).tiny
            power = power / scale[..., None, None]
            power = power @ power
            scales.append(scale)
        top = jnp.sqrt(jnp.sum(jnp.square(power), (-2, -1)))
    # so far off is each square, of a matrix of Frobenius norm 1
    for scale in reversed(scales):
        top = scale * jnp.sqrt(top + gamma(4 * small + 16))
    # what is left are sums, products and roots of non-negative numbers
    norm = up(jnp.sqrt(top + loss) * size, n * m + 8 * squarings + 16)
    return jnp.where(usable, norm, size)


def perron(matrix: Float[Array, "n m"], steps: int = 40) -> Float[Array, ""]:
    """An upper bound of the 2-norm of a non-negative matrix, tight to rounding.

    Collatz and Wielandt: ``rho(M) <= max_i (M x)_i / x_i`` for every positive x and ``M = A^T A``;
    x is a power iterate.
    """
    finite = jnp.all(jnp.isfinite(matrix))
    size = jnp.max(matrix, initial=0.0)
    a = jnp.where(finite, matrix / jnp.where(size > 0, size, 1.0), 0.0)

    def step(_: Any, x: Array) -> Array:
        y = a.T @ (a @ x) + 1e-9 * jnp.max(x)
        return y / jnp.max(y)

    x = jax.lax.fori_loop(0, steps, step, jnp.ones(matrix.shape[1]))
    product = up(a.T @ up(a @ x, matrix.shape[1]), matrix.shape[0])
    bound = up(jnp.sqrt(jnp.max(product / x)) * size, 8)
    return jnp.where(finite, bound, jnp.inf)


def ball_spectral(lin: Float[Array, "dim p q"], blocks: list[slice]) -> Float[Array, ""]:
    """``sup ||sum_i u_i lin_i||_2`` over a product of unit l2 balls, by the best unfolding."""
    total = jnp.zeros(())
    for b in blocks:
        part = lin[b]
        d, p, q = part.shape
        wide_p = jnp.moveaxis(part, 1, 0).reshape(p, d * q)
        wide_q = jnp.moveaxis(part, 2, 0).reshape(q, d * p)
        flat = part.reshape(d, p * q)
        bounds = [spectral(v, 4) for v in (wide_p, wide_q, flat)]
        total = total + jnp.min(jnp.stack(bounds))
    return up(total, len(blocks) + 1)
