"""Forms of forms: sums, nonlinear functions of one argument, and products."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mmx_jax.certify.affine import Form, Scope, align, constant, layout, linear_map
from mmx_jax.certify.extremes import value_range
from mmx_jax.certify.ranges import add_noise, shape_of, spread, tighten
from mmx_jax.certify.relaxations import polynomial
from mmx_jax.certify.rounding import TINY, gamma, up
from mmx_jax.certify.shapes import Shape, quad_sum

__all__ = ["add", "as_form", "bilinear", "scale", "unary", "wide"]


def as_form(x: Any) -> Form:
    """A constant as a form; forms unchanged."""
    return x if isinstance(x, Form) else constant(jnp.asarray(x))


def wide(x: Any) -> Array:
    """A constant in float64."""
    return jnp.asarray(x).astype(jnp.float64)


def add(x: Any, y: Any, sign: float = 1.0) -> Form:
    """``x + sign y`` with ``sign`` 1 or -1; constants may be added to forms."""
    x, y = align(as_form(x), as_form(y))
    shape = jnp.broadcast_shapes(x.shape, y.shape)
    x, y = (linear_map(form, lambda v: jnp.broadcast_to(v, shape)) for form in (x, y))
    rows = x.rows + sign * y.rows
    box, mag, rad = x.err + y.err
    loss = gamma(2) * (mag + TINY)
    err = jnp.stack([up(box, 2) + loss, up(mag, 2), up(rad, 2) + loss])
    return Form(rows, err, x.degree, x.dim, x.noise)


def scale(x: Form, factor: Array, absolute: Array | None = None) -> Form:
    """``factor * x``, entry by entry, for a constant factor."""
    size = jnp.abs(factor) if absolute is None else absolute
    return linear_map(x, lambda v: v * factor, lambda v: v * size, 1)


def unary(x: Form, scope: Scope, name: str, order: int = 0, a: float = 0.0) -> Form:
    """Derivative ``order`` of a nonlinear function of a form, by its best polynomial model.

    Args:
      x: the argument.
      scope: of the analysis.
      name: one of :data:`~mmx_jax.certify.derivatives.NAMES`: tanh, exp, log, sin, gelu, power ...
      order: 0 for the function itself.
      a: its parameter where it has one: the slope of leaky_relu and elu, the exponent of power.
    """
    linear, rest, low, high = spread(x, scope)
    inner = shape_of(x, scope)
    alike = None
    if inner is not None and x.lin is not None:
        alike = likeness(x.lin, linear, scope.ball)
    degree = min(scope.degree, 2)
    known = least, most = value_range(name, order, a, low, high)
    model = polynomial(name, order, a, x.center, low, high, linear, rest, degree, alike, known)
    shape = None
    if inner is not None and x.lin is not None:
        # delta^2 <= (1 + rest/linear) (lin u)^2 + (1 + linear/rest) rest(u)^2
        line = model.square * (1 + rest / jnp.where(linear > 0, linear, 1.0))
        other = model.square * (linear + rest) + jnp.abs(model.curve) * (2 * linear + rest)
        bend = line * x.lin[:, None] * x.lin[None] + other * inner.bend
        shape = Shape(bend, up(model.flat + other * inner.flat, 8))
    return _compose(x, scope, model, least, most, shape)


def likeness(lin: Array, size: Array, ball: Any) -> Array:
    """How alike the directions of all entries are: the share of a sum of squares of them that can
    be reached at one place."""
    weights = size / (jnp.sum(size) + TINY)
    unit = lin / jnp.where(size > 0, size, 1.0)
    flat = unit.reshape(unit.shape[0], -1)
    both = (flat * weights.ravel()) @ flat.T
    share = jnp.sum(quad_sum(both, ball)[1])
    return jnp.where(share < 1.0, share, 1.0)  # a choice between sound models: needs no margin


def _compose(
    x: Form, scope: Scope, model: Any, least: Array, most: Array, shape: Shape | None
) -> Form:
    """``constant + slope delta + curve delta^2 +- remainder`` as a form in x's symbols."""
    slope, curve = model.slope, model.curve
    box, mag, _ = tighten(x).err
    degree = min(scope.degree, 2) if x.degree else 0
    wide_x = layout(x, degree, x.dim, x.noise)
    rows = wide_x.rows * slope
    finite = jnp.isfinite(least) & jnp.isfinite(most)
    mid = jnp.where(finite, 0.5 * least + 0.5 * most, 0.0)
    rad = jnp.maximum(most - mid, mid - least) * (1 + gamma(1))
    rad = jnp.where(finite, rad, jnp.inf)
    rows = rows.at[0].set(model.constant).at[1].set(mid)
    extra = jnp.zeros_like(mag)
    if degree == 2 and x.lin is not None:
        lin = x.lin
        square = (curve * lin[:, None] * lin[None, :]).reshape(-1, *x.shape)
        start = 2 + x.dim
        rows = rows.at[start : start + x.dim**2].add(square)
        total = jnp.sum(jnp.abs(lin), 0)
        extra = jnp.abs(curve) * total * total
    size = jnp.abs(slope)
    box = up(size * box, 2) + gamma(4) * (size * mag + extra + TINY)
    mag = up(jnp.abs(model.constant) + size * mag + extra + model.remainder, 8)
    mag = jnp.maximum(mag, jnp.abs(mid) + rad)
    mag = jnp.where(jnp.isfinite(mag), mag, jnp.inf)
    err = jnp.stack([jnp.where(jnp.isnan(box), jnp.inf, box), mag, rad])
    return add_noise(Form(rows, err, degree, x.dim, x.noise), model.remainder, scope, shape)


def bilinear(
    x: Any,
    y: Any,
    scope: Scope,
    apply: Callable[[Array, Array], Array],
    terms: int,
) -> Form:
    """``B(x, y)`` for a function linear in each operand with coefficients 0 and 1 (products, dot
    products, convolutions): ``terms`` products are summed per entry.

    The product of the two linear parts is kept at degree 2 and bounded otherwise; every other
    product of deviations is bounded.
    """
    if not isinstance(x, Form):
        c = wide(x)
        return linear_map(y, lambda v: apply(c, v), lambda v: apply(jnp.abs(c), v), terms)
    if not isinstance(y, Form):
        c = wide(y)
        return linear_map(x, lambda v: apply(v, c), lambda v: apply(v, jnp.abs(c)), terms)
    (linx, restx, lowx, highx), (liny, resty, lowy, highy) = spread(x, scope), spread(y, scope)
    degree = min(scope.degree, x.degree + y.degree) if scope.degree else 0
    dim, noise = max(x.dim, y.dim), max(x.noise, y.noise)
    wx, wy = (
        layout(x, max(x.degree, degree), dim, noise),
        layout(y, max(y.degree, degree), dim, noise),
    )
    cx, cy = x.center, y.center
    rows = jax.vmap(lambda v: apply(v, cy))(wx.rows) + jax.vmap(lambda v: apply(cx, v))(wy.rows)
    center = apply(cx, cy)
    # intervals of their own: mid and rad of a product of intervals
    (midx, radx), (midy, rady) = _middle(lowx, highx), _middle(lowy, highy)
    mid = apply(midx, midy)
    magx, magy = tighten(x).err[1], tighten(y).err[1]
    rounding = gamma(4 * terms + 8) * (apply(magx, magy) + TINY)
    rad = (
        up(apply(jnp.abs(midx), rady) + apply(radx, jnp.abs(midy)) + apply(radx, rady), terms + 4)
        + rounding
    )
    rows = rows.at[0].set(center).at[1].set(mid)
    shape = None
    if degree == 2 and x.degree and y.degree:
        outer = jax.vmap(lambda u: jax.vmap(lambda v: apply(u, v))(wy.lin))(wx.lin)
        start = 2 + dim
        rows = rows.at[start : start + dim**2].add(outer.reshape(-1, *outer.shape[2:]))
        loose = apply(linx, resty) + apply(restx, liny) + apply(restx, resty)
        left, right = (lambda v: apply(linx, v)), (lambda v: apply(v, liny + resty))
        shape = _product_shape(x, y, scope, left, right, terms)
    else:
        loose = apply(linx + restx, liny + resty)
    remainder = up(loose, 2 * terms + 8)
    remainder = jnp.where(jnp.isnan(remainder), jnp.inf, remainder)
    box = up(apply(jnp.abs(cx), y.err[0]) + apply(x.err[0], jnp.abs(cy)), terms + 4) + rounding
    mag = up(apply(magx, magy) + remainder, terms + 4)
    err = jnp.stack([box, mag, rad])
    err = jnp.where(jnp.isnan(err), jnp.inf, err)
    return add_noise(Form(rows, err, degree, dim, noise), remainder, scope, shape)


def _product_shape(
    x: Form,
    y: Form,
    scope: Scope,
    left: Callable[[Array], Array],
    right: Callable[[Array], Array],
    terms: int,
) -> Shape | None:
    """``|lin x| rest(y) + rest(x) |lin y + rest y|`` with the first factor at its largest."""
    sx, sy = shape_of(x, scope), shape_of(y, scope)
    if sx is None or sy is None:
        return None
    dim = scope.ball.dim
    bends = [
        jax.vmap(apply)(s.bend.reshape(-1, *s.flat.shape)) for s, apply in ((sx, right), (sy, left))
    ]
    bend = bends[0] + bends[1]
    flat = up(right(sx.flat) + left(sy.flat), 2 * terms + 8)
    return Shape(bend.reshape(dim, dim, *bend.shape[1:]), flat)


def _middle(low: Array, high: Array) -> tuple[Array, Array]:
    finite = jnp.isfinite(low) & jnp.isfinite(high)
    mid = jnp.where(finite, 0.5 * low + 0.5 * high, 0.0)
    return mid, jnp.where(finite, jnp.maximum(high - mid, mid - low) * (1 + gamma(1)), jnp.inf)
