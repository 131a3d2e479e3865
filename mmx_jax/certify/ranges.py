"""The range of a form over the set, and what keeps forms small: fresh magnitudes, noise symbols."""

import math

import jax.numpy as jnp
from jaxtyping import Array

from mmx_jax.certify.affine import Ball, Form, Scope, layout
from mmx_jax.certify.norms import spectral
from mmx_jax.certify.rounding import TINY, gamma, up

__all__ = ["add_noise", "parts", "spread", "tighten"]


def _ball_sum(lin: Array, ball: Ball) -> Array:
    """``sup |sum_i u_i lin_i|`` over the set, entry by entry."""
    if ball.norm != 2:
        return up(jnp.sum(jnp.abs(lin), 0), ball.dim)
    parts = [jnp.sqrt(jnp.sum(jnp.square(lin[b]), 0)) for b in ball.blocks()]
    return up(sum(parts[1:], parts[0]), ball.dim + 8)


def _quad_sum(quad: Array, ball: Ball) -> tuple[Array, Array]:
    """Middle and half width of a range that holds ``u^T quad u`` over the set."""
    if ball.norm != 2:
        # u_i^2 lies in [0, 1]
        diagonal = jnp.moveaxis(jnp.diagonal(quad), -1, 0)
        half = 0.5 * jnp.sum(jnp.abs(diagonal), 0)
        total = jnp.sum(jnp.abs(quad + jnp.swapaxes(quad, 0, 1)), (0, 1)) * 0.5
        return 0.5 * jnp.sum(diagonal, 0), up(total - half + gamma(1) * total, ball.dim**2)
    moved = jnp.moveaxis(quad, (0, 1), (-2, -1))
    total = jnp.zeros(quad.shape[2:])
    blocks = ball.blocks()
    for i, b in enumerate(blocks):
        for c in blocks[i:]:
            part = moved[..., b, c] + jnp.swapaxes(moved[..., c, b], -1, -2)
            total = total + spectral(part if b != c else 0.5 * part)
    return jnp.zeros_like(total), up(total, len(blocks) ** 2 + 2)


def spread(form: Form, scope: Scope) -> tuple[Array, Array, Array, Array]:
    """Bounds of a form.

    Returns:
      ``linear`` and ``rest`` (bounds of the linear part and of everything beside it, around the
      center), ``low`` and ``high`` (the interval, with ``mid +- rad`` intersected).
    """
    seen = scope._spreads.get(id(form))
    if seen is None:  # the form is held, so that its id is not given to another
        seen = scope._spreads[id(form)] = (form, _spread(form, scope))
    return seen[1]


def _spread(form: Form, scope: Scope) -> tuple[Array, Array, Array, Array]:
    zero = jnp.zeros(form.shape)
    lin, quad, noises = form.lin, form.quad, form.noises
    linear = zero if lin is None else _ball_sum(lin, scope.ball)
    shift, curved = (zero, zero) if quad is None else _quad_sum(quad, scope.ball)
    noisy = zero if noises is None else up(jnp.sum(jnp.abs(noises), 0), form.noise)
    beside = up(noisy + form.err[0], 2)
    rest = up(jnp.abs(shift) + curved + beside, 4)
    radius = linear + curved + beside
    slack = gamma(8) * (jnp.abs(form.center) + jnp.abs(shift) + radius + form.err[2] + TINY)
    low = jnp.maximum(form.center + shift - radius - slack, form.mid - form.err[2] - slack)
    high = jnp.minimum(form.center + shift + radius + slack, form.mid + form.err[2] + slack)
    # NaN (from infinities that cancel) must read as unknown
    low, high = (jnp.where(jnp.isnan(v), s, v) for v, s in ((low, -jnp.inf), (high, jnp.inf)))
    return linear, rest, low, high


def parts(form: Form, scope: Scope) -> tuple[Array, Array, Array, Array]:
    """Center, lin ``[dim, *s]``, a bound of the absolute value, and one of all but these two."""
    _, rest, low, high = spread(form, scope)
    lin = jnp.zeros((scope.ball.dim, *form.shape)) if form.lin is None else form.lin
    slack = gamma(4) * (form.err[1] + TINY)
    return form.center, lin, jnp.maximum(jnp.abs(low), jnp.abs(high)), rest + slack


def tighten(form: Form) -> Form:
    """The same form with ``mag`` computed anew: products of carried bounds grow without end."""
    parts_of = jnp.abs(form.rows)
    total = jnp.sum(parts_of, 0) - parts_of[1] + form.err[0]
    mag = jnp.maximum(up(total, form.rows.shape[0] + 4), parts_of[1] + form.err[2])
    mag = jnp.where(jnp.isnan(mag), jnp.inf, mag)
    err = jnp.stack([form.err[0], mag, form.err[2]])
    return Form(form.rows, err, form.degree, form.dim, form.noise)


def add_noise(form: Form, remainder: Array, scope: Scope) -> Form:
    """Adds ``+- remainder``: a new symbol per entry where the budget allows, else to the box."""
    form = tighten(form)
    count = math.prod(form.shape)
    start = scope.used
    if scope.degree == 0 or not scope.take(count):
        err = jnp.stack([up(form.err[0] + remainder), up(form.err[1] + remainder), form.err[2]])
        return Form(form.rows, err, form.degree, form.dim, form.noise)
    wide = layout(form, form.degree, form.dim, start)
    finite = jnp.isfinite(remainder)
    flat = jnp.where(finite, remainder, 0.0).ravel()
    new = jnp.diag(flat).reshape(count, *form.shape)
    box = jnp.where(finite, wide.err[0], jnp.inf)
    err = jnp.stack([box, up(wide.err[1] + remainder), wide.err[2]])
    return Form(jnp.concatenate([wide.rows, new]), err, form.degree, form.dim, start + count)
