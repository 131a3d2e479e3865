"""The range of a form over the set, and what keeps forms small: fresh magnitudes, noise symbols."""

import math

import jax.numpy as jnp
from jaxtyping import Array

from mmx_jax.certify.affine import Form, Scope, layout
from mmx_jax.certify.rounding import TINY, gamma, up
from mmx_jax.certify.shapes import Shape, absolute, ball_sum, noise_shape, quad_sum, top

__all__ = ["add_noise", "bent", "parts", "shape_of", "spread", "tighten"]


def spread(form: Form, scope: Scope) -> tuple[Array, Array, Array, Array]:
    """Bounds of a form.

    Returns:
      ``linear`` and ``rest`` (bounds of the linear part and of everything beside it, around the
      center), ``low`` and ``high`` (the interval, with ``mid +- rad`` intersected).
    """
    seen = scope._spreads.get(id(form))
    if seen is None:  # the form is held, so that its id is not given to another
        seen = scope._spreads[id(form)] = (form, *_spread(form, scope))
    return seen[1]


def shape_of(form: Form, scope: Scope) -> Shape | None:
    """How everything beside a form's center and linear part depends on the place, if known."""
    spread(form, scope)
    return scope._spreads[id(form)][2]


def _spread(form: Form, scope: Scope) -> tuple[tuple[Array, Array, Array, Array], Shape | None]:
    zero = jnp.zeros(form.shape)
    lin, quad, noises = form.lin, form.quad, form.noises
    linear = zero if lin is None else ball_sum(lin, scope.ball)
    shift, curved = (zero, zero) if quad is None else quad_sum(quad, scope.ball)
    noisy = zero if noises is None else up(jnp.sum(jnp.abs(noises), 0), form.noise)
    shape = None
    if lin is not None and scope.shaped:
        shape = Shape(jnp.zeros((form.dim, *lin.shape)), zero)
        shape = shape if quad is None else absolute(quad, scope.ball)
        if noises is not None:
            extra = noise_shape(noises, scope)
            noisy = jnp.fmin(noisy, top(extra, scope.ball))
            shape = Shape(shape.bend + extra.bend, shape.flat + extra.flat)
        slack = gamma(8) * (form.err[1] + TINY)
        shape = Shape(shape.bend, up(shape.flat + form.err[0] + slack, 4))
    beside = up(noisy + form.err[0], 2)
    rest = up(jnp.abs(shift) + curved + beside, 4)
    radius = linear + curved + beside
    slack = gamma(8) * (jnp.abs(form.center) + jnp.abs(shift) + radius + form.err[2] + TINY)
    low = jnp.maximum(form.center + shift - radius - slack, form.mid - form.err[2] - slack)
    high = jnp.minimum(form.center + shift + radius + slack, form.mid + form.err[2] + slack)
    if shape is not None and quad is not None:
        rest = jnp.fmin(rest, top(shape, scope.ball))
        low = jnp.fmax(low, form.center - linear - rest - slack)
        high = jnp.fmin(high, form.center + linear + rest + slack)
    # NaN (from infinities that cancel) must read as unknown
    low, high = (jnp.where(jnp.isnan(v), s, v) for v, s in ((low, -jnp.inf), (high, jnp.inf)))
    return (linear, rest, low, high), shape


def parts(form: Form, scope: Scope) -> tuple[Array, Array, Array, Array]:
    """Center, lin ``[dim, *s]``, a bound of the absolute value, and one of all but these two."""
    _, rest, low, high = spread(form, scope)
    lin = jnp.zeros((scope.ball.dim, *form.shape)) if form.lin is None else form.lin
    slack = gamma(4) * (form.err[1] + TINY)
    return form.center, lin, jnp.maximum(jnp.abs(low), jnp.abs(high)), up(rest + slack)


def bent(form: Form, scope: Scope) -> tuple[Array, Array]:
    """The quadratic part ``[dim, dim, *s]``, and a bound of all but it, center and linear part."""
    dim = scope.ball.dim
    quad = jnp.zeros((dim, dim, *form.shape)) if form.quad is None else form.quad
    noisy = jnp.zeros(form.shape)
    if form.noises is not None:
        noisy = up(jnp.sum(jnp.abs(form.noises), 0), form.noise)
        if scope.shaped:  # remainders that are quadratic themselves
            shape = noise_shape(form.noises, scope)
            less = top(shape, scope.ball) < noisy
            quad = jnp.where(less, quad + shape.bend, quad)
            noisy = jnp.where(less, shape.flat, noisy)
    slack = gamma(8) * (form.err[1] + TINY)
    return quad, up(noisy + form.err[0] + slack, 4)


def tighten(form: Form) -> Form:
    """The same form with ``mag`` computed anew: products of carried bounds grow without end."""
    parts_of = jnp.abs(form.rows)
    total = jnp.sum(parts_of, 0) - parts_of[1] + form.err[0]
    mag = jnp.maximum(up(total, form.rows.shape[0] + 4), parts_of[1] + form.err[2])
    mag = jnp.where(jnp.isnan(mag), jnp.inf, mag)
    err = jnp.stack([form.err[0], mag, form.err[2]])
    return Form(form.rows, err, form.degree, form.dim, form.noise)


def add_noise(form: Form, remainder: Array, scope: Scope, shape: Shape | None = None) -> Form:
    """Adds ``+- remainder``: a new symbol per entry where the budget allows, else to the box."""
    count = math.prod(form.shape)
    start = scope.used
    if scope.degree == 0 or not scope.take(count):
        err = jnp.stack([up(form.err[0] + remainder), up(form.err[1] + remainder), form.err[2]])
        return Form(form.rows, err, form.degree, form.dim, form.noise)
    finite = jnp.isfinite(remainder)
    flat = jnp.where(finite, remainder, 0.0).ravel()
    new = jnp.diag(flat).reshape(count, *form.shape)
    if scope.shaped:
        scope.shape(flat, shape, count)
    box = jnp.where(finite, form.err[0], jnp.inf)
    err = jnp.stack([box, up(form.err[1] + remainder), form.err[2]])
    if form.noise > start:  # symbols of other rounds of a loop stand behind
        first = form.rows.shape[0] - form.noise + start
        rows = form.rows.at[first : first + count].set(new)
        return Form(rows, err, form.degree, form.dim, form.noise)
    wide = layout(form, form.degree, form.dim, start)
    return Form(jnp.concatenate([wide.rows, new]), err, form.degree, form.dim, start + count)
