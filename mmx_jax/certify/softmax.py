"""The logarithm of a sum of exponentials as one node: softmax is ``exp(z - logsumexp(z))``.

Its second-order model has a small, exact remainder: along a line the third derivative of
logsumexp is the third cumulant of the step under the softmax weights, and a variable in an interval
of width w has ``|kappa_3| <= w^3 / (6 sqrt 3)``; its second, the variance, is at most ``w^2 / 4``
(Popoviciu).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

from mmx_jax.certify.affine import Form, Scope, layout
from mmx_jax.certify.ranges import add_noise, spread, tighten
from mmx_jax.certify.rounding import TINY, ULPS, gamma, up

__all__ = ["logsumexp", "logsumexp_p", "logsumexp_rule"]

logsumexp_p = Primitive("logsumexp")


def logsumexp(z: Array, axes: tuple[int, ...]) -> Array:
    """``log sum exp z`` over axes, which are kept with length 1.

    >>> round(float(logsumexp(jnp.zeros(4), (0,))[0]), 4)
    1.3863
    """
    axes = tuple(sorted(a % jnp.ndim(z) for a in axes))
    return logsumexp_p.bind(z, axes=axes)


def _value(z: Any, *, axes: tuple[int, ...]) -> Any:
    with jax.enable_x64(z.dtype == jnp.float64 or jax.config.read("jax_enable_x64")):
        top = jnp.max(z, axes, keepdims=True)
        top = jnp.where(jnp.isfinite(top), top, jnp.zeros_like(top))
        return top + jnp.log(jnp.sum(jnp.exp(z - top), axes, keepdims=True))


def _abstract(z: Any, *, axes: tuple[int, ...]) -> Any:
    shape = tuple(1 if i in axes else s for i, s in enumerate(z.shape))
    return z.update(shape=shape, weak_type=False)


def _push(primals: Any, tangents: Any, *, axes: tuple[int, ...]) -> Any:
    from mmx_jax.certify.activations import act

    (z,), (t,) = primals, tangents
    out = logsumexp_p.bind(z, axes=axes)
    if isinstance(t, ad.Zero):
        return out, ad.Zero.from_primal_value(out)  # pyright: ignore[reportAttributeAccessIssue]
    weights = act(z - out, "exp")
    return out, jnp.sum(weights * t, axes, keepdims=True)


def _batch(args: Any, dims: Any, *, axes: tuple[int, ...]) -> Any:
    (z,), (d,) = args, dims
    z = jnp.moveaxis(z, d, 0)
    return logsumexp_p.bind(z, axes=tuple(a + 1 for a in axes)), 0


logsumexp_p.def_impl(_value)
logsumexp_p.def_abstract_eval(_abstract)
mlir.register_lowering(logsumexp_p, mlir.lower_fun(_value, multiple_results=False))
ad.primitive_jvps[logsumexp_p] = _push
batching.primitive_batchers[logsumexp_p] = _batch


def logsumexp_rule(scope: Scope, params: Any, x: Form) -> Form:
    """The form of a logsumexp: ``f(c) + p.delta + Var_p(delta) / 2 +- remainder``."""
    axes = params["axes"]
    linear, rest, low, high = spread(x, scope)
    x = tighten(x)
    # entries whose weight underflows everywhere (masks) take no part
    live = ~(high < jnp.max(low, axes, keepdims=True) - 745.0)
    count = math.prod(x.shape[a] for a in axes)

    def total(v: Array) -> Array:
        return jnp.sum(jnp.where(live, v, 0.0), axes, keepdims=True)

    def most(v: Array) -> Array:
        return jnp.max(jnp.where(live, v, -jnp.inf), axes, keepdims=True)

    value = _value(jnp.where(live, x.center, -jnp.inf), axes=axes)
    p = jnp.exp(jnp.where(live, x.center, -jnp.inf) - value)
    rows = jax.vmap(lambda v: total(p * v))(x.rows)
    box, mag = up(total(p * x.err[0]), count + 2), total(p * x.err[1])
    deviation = jnp.maximum(high - x.center, x.center - low) * (1 + gamma(2))
    width = jnp.maximum(up(most(high - x.center) + most(x.center - low), 4), 0.0)
    # p carries a relative error of about |c - f(c)| units, and multiplies every row
    sizes = total(p * (1 + jnp.abs(x.center - value)) * (x.err[1] + deviation + 1))
    error = gamma(int(ULPS) + count) * (jnp.abs(value) + sizes + TINY) * (2 + width)
    degree = min(scope.degree, 2) if x.degree else 0
    form = layout(
        Form(rows, jnp.stack([box, mag, box]), x.degree, x.dim, x.noise), degree, x.dim, x.noise
    )
    rows = form.rows
    # the variance alone: between 0 and width^2 / 4
    remainder = shift = up(width * width / 16, 4)
    if degree == 2 and x.lin is not None:
        quad, size = _variance(jnp.where(live, x.lin, 0.0), p, axes)
        cubic = width**3 / (36 * math.sqrt(3.0))
        cross = 0.5 * total(p * (2 * linear * rest + rest * rest))
        cross = cross + total(p * (linear + rest)) * total(p * rest)
        exact = up(cubic + cross, 2 * count + 16) + gamma(4 * count + 32) * size
        # the quadratic rows stay where they pay for themselves
        good = exact < remainder
        start = 2 + x.dim
        rows = rows.at[start : start + x.dim**2].add(jnp.where(good, quad, 0.0))
        remainder, shift = jnp.where(good, exact, remainder), jnp.where(good, 0.0, shift)
    remainder = remainder + error
    # its range: it is monotone in every argument
    least = _value(jnp.where(live, low, -jnp.inf), axes=axes) - error
    top = _value(jnp.where(live, high, -jnp.inf), axes=axes) + error + count * 1e-300
    finite = jnp.isfinite(least) & jnp.isfinite(top)
    mid = jnp.where(finite, 0.5 * least + 0.5 * top, 0.0)
    rad = jnp.where(finite, jnp.maximum(top - mid, mid - least) * (1 + gamma(2)), jnp.inf)
    rows = rows.at[0].set(value + shift).at[1].set(mid)
    err = jnp.stack([box, mag, rad])
    err = jnp.where(jnp.isnan(err), jnp.inf, err)
    remainder = jnp.where(jnp.isnan(remainder), jnp.inf, remainder)
    return add_noise(Form(rows, err, degree, x.dim, x.noise), remainder, scope)


def _variance(lin: Array, p: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """``Var_p / 2`` of the linear parts as quadratic rows ``[dim^2, *s]``, and their magnitude."""
    dim, shape = lin.shape[0], lin.shape[1:]
    inner = tuple(a + 1 for a in axes)
    centered = lin - jnp.sum(p * lin, inner, keepdims=True)
    keep = [a for a in range(len(shape)) if a not in axes]
    places = list(range(len(keep)))
    moved = jnp.moveaxis(centered, [k + 1 for k in keep], [q + 1 for q in places])
    count = math.prod(shape[a] for a in axes)
    moved = moved.reshape(dim, -1, count)
    weights = jnp.moveaxis(p, keep, places).reshape(-1, count)
    outer = 0.5 * jnp.einsum("isk,jsk,sk->ijs", moved, moved, weights)
    reduced = tuple(1 if i in axes else n for i, n in enumerate(shape))
    size = jnp.sum(jnp.abs(lin), 0) + jnp.sum(p * jnp.sum(jnp.abs(lin), 0), axes, keepdims=True)
    return outer.reshape(dim**2, *reduced), jnp.sum(p * size * size, axes, keepdims=True)
