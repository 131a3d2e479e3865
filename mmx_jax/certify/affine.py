"""Affine and quadratic forms with an explicit remainder, each beside an interval.

A value of shape s over the set ``x = x0 + radius * u`` (u in a product of unit balls, one per
modality) is known to be::

    center + sum_i u_i lin_i + sum_ij u_i u_j quad_ij + sum_k e_k noise_k +- box      |e_k| <= 1

and to lie in ``mid +- rad``. ``rows`` stacks center, mid, lin, quad and noise, so that a linear
operation is one vmapped call on ``rows`` and one, with absolute coefficients, on the errors
``(box, mag, rad)``; ``mag`` bounds the magnitude of everything above and carries the rounding
margin. Degree 0 is interval arithmetic; degree 1 the affine forms of Stolfi and de Figueiredo
(*Self-validated numerical methods*, 1997); degree 2 keeps products of inputs too.

Keeping every remainder as a noise symbol gives the bounds that backward substitution through all
intermediate nodes would give for the same relaxations (both bound the same linear program), in one
forward pass whose program grows linearly with depth.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmx_jax.certify.norms import spectral
from mmx_jax.certify.rounding import TINY, gamma, up
from mmx_jax.typing import record, static

__all__ = [
    "Ball",
    "Form",
    "Scope",
    "add_noise",
    "align",
    "constant",
    "layout",
    "linear_map",
    "parts",
    "spread",
    "tighten",
]


@record
class Ball:
    """The shape of the set: sizes of the moving modalities and the norm (2 or inf) of each ball."""

    sizes: tuple[int, ...] = static()
    norm: float = static(default=2)

    @property
    def dim(self) -> int:
        """How many coordinates move."""
        return sum(self.sizes)

    def blocks(self) -> list[slice]:
        """The coordinates of each modality."""
        ends = [sum(self.sizes[: i + 1]) for i in range(len(self.sizes))]
        return [slice(e - s, e) for e, s in zip(ends, self.sizes, strict=True)]


class Scope:
    """What one pass of the analysis knows: the set, the degree, and how many symbols are in use."""

    def __init__(self, ball: Ball, degree: int, symbols: int, derivative: bool = True):
        self.ball, self.degree, self.symbols, self.derivative = ball, degree, symbols, derivative
        self.used = 0
        self._spreads: dict[int, Any] = {}

    def take(self, count: int) -> bool:
        """Claims symbols where the budget allows it."""
        if self.used + count > self.symbols:
            return False
        self.used += count
        return True


@record
class Form:
    """A value as a polynomial in the symbols with a remainder, and an interval.

    Attributes:
      rows: ``[2 + dim + dim^2 + noise, *s]``: center, mid, then lin (degree 1), quad (degree 2)
        and noise.
      err: ``[3, *s]``: box, mag and rad, all non-negative.
      degree: 0, 1 or 2.
      dim: the number of input symbols.
      noise: the number of noise rows.
    """

    rows: Float[Array, "rows *s"]
    err: Float[Array, "3 *s"]
    degree: int = static(default=0)
    dim: int = static(default=0)
    noise: int = static(default=0)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the value."""
        return self.rows.shape[1:]

    @property
    def center(self) -> Array:
        """``[*s]``."""
        return self.rows[0]

    @property
    def mid(self) -> Array:
        """``[*s]``."""
        return self.rows[1]

    @property
    def lin(self) -> Array | None:
        """``[dim, *s]``, or None below degree 1."""
        return self.rows[2 : 2 + self.dim] if self.degree >= 1 else None

    @property
    def quad(self) -> Array | None:
        """``[dim, dim, *s]``, or None below degree 2."""
        if self.degree < 2:
            return None
        flat = self.rows[2 + self.dim : 2 + self.dim + self.dim**2]
        return flat.reshape(self.dim, self.dim, *self.shape)

    @property
    def noises(self) -> Array | None:
        """``[noise, *s]``, or None."""
        return self.rows[self.rows.shape[0] - self.noise :] if self.noise else None


def constant(value: Array) -> Form:
    """A value known exactly."""
    value = value.astype(jnp.float64)
    zero = jnp.zeros_like(value)
    return Form(jnp.stack([value, value]), jnp.stack([zero, jnp.abs(value), zero]))


def layout(form: Form, degree: int, dim: int, noise: int) -> Form:
    """The same form with zero rows where a larger layout has more."""
    if (form.degree, form.noise) == (degree, noise):
        return form
    start = 2 + (form.dim if form.degree else 0) + (form.dim**2 if form.degree == 2 else 0)
    width = 2 + (dim if degree else 0) + (dim**2 if degree == 2 else 0)

    def zeros(count: int) -> Array:
        return jnp.zeros((count, *form.shape), form.rows.dtype)

    parts = [form.rows[:start], zeros(width - start), form.rows[start:], zeros(noise - form.noise)]
    rows = jnp.concatenate([p for p in parts if p.shape[0]])
    return Form(rows, form.err, degree, dim, noise)


def align(*forms: Form) -> list[Form]:
    """Forms brought to their common layout."""
    degree = max(f.degree for f in forms)
    dim, noise = max(f.dim for f in forms), max(f.noise for f in forms)
    return [layout(f, degree, dim, noise) for f in forms]


def linear_map(
    form: Form,
    apply: Callable[[Array], Array],
    absolute: Callable[[Array], Array] | None = None,
    terms: int = 0,
) -> Form:
    """``A x`` for a linear ``apply``; ``absolute`` applies the matrix ``|A|``.

    Args:
      form: x.
      apply: linear in its argument.
      absolute: the same with absolute coefficients; ``apply`` itself if None (then A >= 0).
      terms: the number of products summed per entry; 0 for exact moves of entries.
    """
    rows = jax.vmap(apply)(form.rows)
    err = jax.vmap(apply if absolute is None else absolute)(form.err)
    if terms:
        box, mag, rad = err
        loss = gamma(terms) * (mag + TINY)
        err = jnp.stack([up(box, terms) + loss, up(mag, terms), up(rad, terms) + loss])
    return Form(rows, err, form.degree, form.dim, form.noise)


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
    lin = form.lin if form.degree else jnp.zeros((scope.ball.dim, *form.shape))
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
