"""The registry of primitive rules: how each operation of a program acts on forms.

``RULES[name](scope, params, *operands)`` returns the result of one primitive. Operands are
:class:`~mmx_jax.certify.affine.Form` where they depend on the inputs and arrays (constants, at the
caller's precision) elsewhere; at least one is a form. To teach the analysis a new primitive write
a rule from the three shapes an operation can have, and add it::

    from mmx_jax.certify import add_rule, linear

    def double(scope, params, x):              # y = 2 x
        return linear(x, lambda v: 2.0 * v, terms=1)

    add_rule("double", double)

:func:`linear` takes the operation (and the same with absolute coefficients), :func:`bilinear` a
function linear in each operand, :func:`unary` the name of a nonlinear function.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mmx_jax.certify.affine import (
    Form,
    Scope,
    add_noise,
    align,
    constant,
    layout,
    linear_map,
    spread,
    tighten,
)
from mmx_jax.certify.relaxations import polynomial, value_range
from mmx_jax.certify.rounding import TINY, gamma, up
from mmx_jax.certify.softmax import logsumexp_rule
from mmx_jax.errors import InputError

__all__ = ["RULES", "add", "add_rule", "bilinear", "linear", "unary"]

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}
"""Primitive name to rule."""


def add_rule(name: str, rule: Rule) -> None:
    """Adds (or replaces) the rule of the primitive called ``name``."""
    RULES[name] = rule


linear = linear_map


def as_form(x: Any) -> Form:
    """A constant as a form; forms unchanged."""
    return x if isinstance(x, Form) else constant(jnp.asarray(x))


def wide(x: Any) -> Array:
    """A constant in float64."""
    return jnp.asarray(x).astype(jnp.float64)


def add(x: Any, y: Any, sign: float = 1.0) -> Form:
    """``x + sign y`` with ``sign`` 1 or -1; constants may be added to forms."""
    shape = jnp.broadcast_shapes(
        jnp.shape(x) if not isinstance(x, Form) else x.shape,
        jnp.shape(y) if not isinstance(y, Form) else y.shape,
    )
    x = x if isinstance(x, Form) else jnp.broadcast_to(jnp.asarray(x), shape)
    y = y if isinstance(y, Form) else jnp.broadcast_to(jnp.asarray(y), shape)
    x, y = align(as_form(x), as_form(y))
    rows = x.rows + sign * y.rows
    err = x.err + y.err
    box, mag, rad = jnp.broadcast_to(err, (3, *shape))
    loss = gamma(2) * (mag + TINY)
    err = jnp.stack([up(box, 2) + loss, up(mag, 2), up(rad, 2) + loss])
    return Form(rows, err, x.degree, x.dim, x.noise)


def scale(x: Form, factor: Array, absolute: Array | None = None) -> Form:
    """``factor * x``, entry by entry, for a constant factor."""
    size = jnp.abs(factor) if absolute is None else absolute
    return linear_map(x, lambda v: v * factor, lambda v: v * size, 1)


def unary(x: Form, scope: Scope, name: str, order: int = 0, a: float = 0.0) -> Form:
    """Derivative ``order`` of a nonlinear function of a form, by its best polynomial model."""
    linear_part, rest, low, high = spread(x, scope)
    model = polynomial(name, order, a, x.center, low, high, linear_part, rest, min(scope.degree, 2))
    least, most = value_range(name, order, a, low, high)
    return _compose(x, scope, model, least, most)


def _compose(x: Form, scope: Scope, model: Any, least: Array, most: Array) -> Form:
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
    return add_noise(Form(rows, err, degree, x.dim, x.noise), model.remainder, scope)


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
    if degree == 2 and x.degree and y.degree:
        outer = jax.vmap(lambda u: jax.vmap(lambda v: apply(u, v))(wy.lin))(wx.lin)
        start = 2 + dim
        rows = rows.at[start : start + dim**2].add(outer.reshape(-1, *outer.shape[2:]))
        loose = apply(linx, resty) + apply(restx, liny) + apply(restx, resty)
    else:
        loose = apply(linx + restx, liny + resty)
    remainder = up(loose, 2 * terms + 8)
    remainder = jnp.where(jnp.isnan(remainder), jnp.inf, remainder)
    box = up(apply(jnp.abs(cx), y.err[0]) + apply(x.err[0], jnp.abs(cy)), terms + 4) + rounding
    mag = up(apply(magx, magy) + remainder, terms + 4)
    err = jnp.stack([box, mag, rad])
    err = jnp.where(jnp.isnan(err), jnp.inf, err)
    return add_noise(Form(rows, err, degree, dim, noise), remainder, scope)


def _middle(low: Array, high: Array) -> tuple[Array, Array]:
    finite = jnp.isfinite(low) & jnp.isfinite(high)
    mid = jnp.where(finite, 0.5 * low + 0.5 * high, 0.0)
    return mid, jnp.where(finite, jnp.maximum(high - mid, mid - low) * (1 + gamma(1)), jnp.inf)


def _square(x: Form, scope: Scope) -> Form:
    return unary(x, scope, "power", 0, 2.0)


def _mul(scope: Scope, params: Any, x: Any, y: Any) -> Form:
    del params
    if x is y:
        return _square(x, scope)
    return bilinear(x, y, scope, jnp.multiply, 1)


def _dot_general(scope: Scope, params: Any, x: Any, y: Any) -> Form:
    numbers = params["dimension_numbers"]
    shape = x.shape if isinstance(x, Form) else jnp.shape(x)
    terms = 1
    for axis in numbers[0][0]:
        terms *= shape[axis]

    def apply(a: Array, b: Array) -> Array:
        return jax.lax.dot_general(a, b, numbers, precision=jax.lax.Precision.HIGHEST)

    return bilinear(x, y, scope, apply, terms)


def _conv(scope: Scope, params: Any, x: Any, y: Any) -> Form:
    kept = (
        "window_strides padding lhs_dilation rhs_dilation dimension_numbers "
        "feature_group_count batch_group_count"
    )
    settings = {name: params[name] for name in kept.split()}
    kernel = y.shape if isinstance(y, Form) else jnp.shape(y)
    terms = 1
    for size in kernel:
        terms *= size  # generous: the output features are counted too

    def apply(a: Array, b: Array) -> Array:
        return jax.lax.conv_general_dilated(a, b, **settings)

    return bilinear(x, y, scope, apply, terms)


def _div(scope: Scope, params: Any, x: Any, y: Any) -> Form:
    del params
    if not isinstance(y, Form):
        c = wide(y)
        return linear_map(x, lambda v: v / c, lambda v: v / jnp.abs(c), 2)
    inverse = unary(y, scope, "power", 0, -1.0)
    if not isinstance(x, Form):
        return scale(inverse, wide(x))
    return bilinear(x, inverse, scope, jnp.multiply, 1)


def _integer_pow(scope: Scope, params: Any, x: Form) -> Form:
    return unary(x, scope, "power", 0, float(params["y"]))


def _act(scope: Scope, params: Any, x: Form) -> Form:
    return unary(x, scope, params["name"], params["order"], params["a"])


def _named(name: str, order: int = 0, a: float = 0.0) -> Rule:
    def rule(scope: Scope, params: Any, x: Form) -> Form:
        del params
        return unary(x, scope, name, order, a)

    return rule


def _max(scope: Scope, params: Any, x: Any, y: Any) -> Form:
    """``max(x, y) = y + relu(x - y)``."""
    del params
    return add(y, unary(add(x, y, -1.0), scope, "leaky_relu"))


def _min(scope: Scope, params: Any, x: Any, y: Any) -> Form:
    """``min(x, y) = x - relu(x - y)``."""
    del params
    return add(x, unary(add(x, y, -1.0), scope, "leaky_relu"), -1.0)


def _select(scope: Scope, params: Any, which: Any, *cases: Any) -> Form:
    del scope, params
    if isinstance(which, Form):
        raise InputError(
            "fn",
            "chooses (select_n) by a value that depends on its inputs",
            "lift the model before it is differentiated, or smooth the choice",
        )
    shape = jnp.broadcast_shapes(
        *[jnp.shape(c) if not isinstance(c, Form) else c.shape for c in cases]
    )
    forms = align(
        *[c if isinstance(c, Form) else constant(jnp.broadcast_to(c, shape)) for c in cases]
    )
    rows = jax.vmap(lambda *v: jax.lax.select_n(which, *v))(*[f.rows for f in forms])
    err = jax.vmap(lambda *v: jax.lax.select_n(which, *v))(*[f.err for f in forms])
    return Form(rows, err, forms[0].degree, forms[0].dim, forms[0].noise)


def _erfc(scope: Scope, params: Any, x: Form) -> Form:
    del params
    return add(jnp.ones(x.shape), unary(x, scope, "erf"), -1.0)


RULES |= {
    "act": _act,
    "select_n": _select,
    "logsumexp": logsumexp_rule,
    "add": lambda scope, params, x, y: add(x, y),
    "add_any": lambda scope, params, x, y: add(x, y),
    "sub": lambda scope, params, x, y: add(x, y, -1.0),
    "neg": lambda scope, params, x: linear_map(x, jnp.negative, lambda v: v),
    "mul": _mul,
    "div": _div,
    "dot_general": _dot_general,
    "conv_general_dilated": _conv,
    "integer_pow": _integer_pow,
    "max": _max,
    "min": _min,
    "erfc": _erfc,
    "square": lambda scope, params, x: _square(x, scope),
    "abs": _named("leaky_relu", a=-1.0),
    "sqrt": _named("power", a=0.5),
    "rsqrt": _named("power", a=-0.5),
    "logistic": _named("sigmoid"),
} | {name: _named(name) for name in ("cos", "erf", "exp", "expm1", "log", "log1p", "sin", "tanh")}
