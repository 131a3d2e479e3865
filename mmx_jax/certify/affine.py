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

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmx_jax.certify.rounding import TINY, gamma, up
from mmx_jax.typing import record, static

__all__ = [
    "Ball",
    "Form",
    "Scope",
    "align",
    "constant",
    "layout",
    "linear_map",
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
    """What one pass of the analysis knows: the set, the degree, and how many symbols are in use.

    ``symbols`` may be used here, ``room`` is what a form has rows for; it is more within loops.

    ``undecided`` collects, per choice the program makes, whether it can come out otherwise
    somewhere in the set; results then follow the choice at the center and hold only there.
    """

    def __init__(self, ball: Ball, degree: int, symbols: int, shaped: bool = False):
        self.ball, self.degree, self.symbols = ball, degree, symbols
        self.room = symbols
        self.used = 0
        self.undecided: list[Array] = []
        self._spreads: dict[int, Any] = {}
        self.shaped = shaped and degree == 2 and symbols > 0
        self._shapes: list[tuple[Array, Array]] = []
        self._behind: tuple[int, Array, Array] | None = None

    def take(self, count: int, shapes: tuple[Array, Array] | None = None) -> bool:
        """Claims symbols where the budget allows it; their shapes may be known already."""
        if self.used + count > self.symbols:
            return False
        self.used += count
        if shapes is not None:
            self._shapes.append(shapes)
        return True

    def shape(self, sizes: Array, shape: Any, count: int) -> None:
        """Notes how the newest ``count`` symbols depend on the place, relative to their sizes."""
        dim = self.ball.dim
        bend, flat = jnp.zeros((count, dim, dim)), jnp.ones(count)
        if shape is not None:
            known = jnp.moveaxis(shape.bend.reshape(dim, dim, count), -1, 0)
            loss = gamma(1 << 16) * dim * dim * sizes  # sums of so many terms made the bends
            rest = up(shape.flat.ravel() + loss, 8)
            usable = (sizes > 0) & jnp.isfinite(rest)
            usable &= jnp.max(jnp.abs(known), (1, 2)) <= 4 * sizes
            safe = jnp.where(usable, sizes, 1.0)
            bend = jnp.where(usable[:, None, None], known / safe[:, None, None], bend)
            flat = jnp.where(usable, jnp.where(usable, rest, 0.0) / safe, flat)
        self._shapes.append((bend, flat))

    def shapes_of(self, count: int) -> tuple[Array, Array]:
        """``bend [count, dim, dim]`` and ``flat [count]`` of the first symbols."""
        dim = self.ball.dim
        known = [(jnp.zeros((0, dim, dim)), jnp.zeros(0)), *self._shapes]
        bends, flats = (jnp.concatenate(parts) for parts in zip(*known, strict=True))
        if self._behind is not None:
            front, *behind = self._behind
            gap = front - flats.shape[0]  # of symbols not made yet, on which no form depends
            bends = jnp.concatenate([bends, jnp.zeros((gap, dim, dim)), behind[0]])
            flats = jnp.concatenate([flats, jnp.zeros(gap), behind[1]])
        return bends[:count], flats[:count]

    def behind(self, front: int, bends: Array, flats: Array) -> None:
        """Says the shapes of symbols that stand from ``front`` on, behind those in use."""
        self._behind = front, bends, flats

    def inner(self, start: int, most: int | None = None) -> "Scope":
        """A scope for the body of a loop: its symbols stand from ``start`` on, at most so many."""
        scope = Scope(self.ball, self.degree, self.room, self.shaped)
        scope.used = start
        scope.symbols = self.room if most is None else start + most
        if self.shaped:
            scope._shapes = [self.shapes_of(start)]
        return scope

    def decided(self) -> Array:
        """Whether every choice made so far is the same all over the set."""
        flags = [jnp.any(flag) for flag in self.undecided]
        return ~jnp.any(jnp.stack(flags)) if flags else jnp.asarray(True)


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
