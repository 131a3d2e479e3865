"""Sound models of one nonlinear node: polynomials with a remainder.

On ``z = c + delta`` with ``z`` in ``[low, high]`` the derivative ``g`` of order k of a named
function is written ``a0 + a1 delta + a2 delta^2 +- remainder``, by whichever of these has the
smallest remainder, entry by entry:

- constant: the middle of the range of g, its half width;
- line and parabola through Chebyshev's nodes of ``[low, high]``, nearly the best there are: with
  half width h they miss about ``|g''| h^2 / 4`` and ``|g'''| h^3 / 24``. What they miss is computed
  on a grid and widened by ``M gap^2 / 8``, M a bound of its second derivative, so that any
  coefficients are sound;
- where it is asked how the remainder depends on the place: Taylor's parabola with ``|delta^3| <= r
  delta^2``, which is larger but small where delta is, wherever many such remainders are summed.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmx_jax.certify.activations import largest, regularity
from mmx_jax.certify.derivatives import PIECEWISE
from mmx_jax.certify.extremes import value_range, widened
from mmx_jax.certify.rounding import TINY, gamma
from mmx_jax.typing import record

__all__ = ["Model", "polynomial"]


@record
class Model:
    """``g(c + delta) = constant + slope delta + curve delta^2 +- remainder`` entry by entry.

    The remainder is at most ``flat + square delta^2`` too, beside what the parabola costs where the
    square of the linear part only is kept.
    """

    constant: Float[Array, "*s"]
    slope: Float[Array, "*s"]
    curve: Float[Array, "*s"]
    remainder: Float[Array, "*s"]
    flat: Float[Array, "*s"]
    square: Float[Array, "*s"]


def _halves(
    bounds: tuple[Float[Array, "*s"], Float[Array, "*s"]],
) -> tuple[Float[Array, "*s"], Float[Array, "*s"]]:
    """Middle and half width, with infinities kept out of the middle."""
    low, high = bounds
    finite = jnp.isfinite(low) & jnp.isfinite(high)
    middle = jnp.where(finite, 0.5 * low + 0.5 * high, 0.0)
    half = jnp.maximum(high - middle, middle - low) * (1 + gamma(1))
    return middle, jnp.where(finite, half, jnp.inf)


def _around(
    name: str, order: int, a: float, low: Array, high: Array, r: Array, known: list[Any]
) -> tuple[Array, Array]:
    """Middle and half width of the range of a derivative on ``[low, high]``.

    For bounded functions from the derivatives ``known`` at the center (this one and the following
    ones) by Taylor's formula with the global bound of the next, clipped by its own global bound;
    cheaper than the exact range, and equal to it up to higher orders of r. Otherwise exact.
    """
    top, beyond = largest(name, order, a), largest(name, order + len(known), a)
    if not (math.isfinite(top) and math.isfinite(beyond)):
        return _halves(value_range(name, order, a, low, high))
    middle, half = known[0]
    power = jnp.ones_like(r)
    for i, (value, error) in enumerate(known[1:], 1):
        power = power * r
        half = half + (jnp.abs(value) + error) * power / math.factorial(i)
    half = (half + beyond * power * r / math.factorial(len(known))) * (1 + gamma(16))
    wide = ~(half < top)  # also where r is infinite
    return jnp.where(wide, 0.0, middle), jnp.where(wide, top, half)


GRID = 33
"""Places at which what a model misses is computed."""

_PLACES = np.concatenate(
    [
        np.linspace(-1.0, 1.0, GRID),
        np.sqrt(0.5) * np.array([-1, 1]),
        np.sqrt(0.75) * np.array([-1, 1]),
    ]
)
"""The grid, and Chebyshev's nodes of the line and of the parabola, in half widths."""


def _fitted(
    name: str, order: int, a: float, center: Array, low: Array, high: Array, degree: int
) -> tuple[Array, Array, Array, Array]:
    """Constant, slope, curve ``[fits, *s]`` of the line and (from degree 2 on) the parabola, and
    bounds of what they miss."""
    finite = jnp.isfinite(low) & jnp.isfinite(high)
    low, high = (jnp.where(finite, v, center) for v in (low, high))
    middle, half = 0.5 * low + 0.5 * high, 0.5 * (high - low)
    places = jnp.asarray(_PLACES.reshape(-1, *[1] * middle.ndim))
    z = jnp.clip(middle + half * places, low, high)
    z = z.at[0].set(low).at[GRID - 1].set(high)
    value, error = widened(name, order, a, z)
    # differences of values too close to each other say nothing: none is worth a slope
    h = jnp.where(half > 1e-8 * (jnp.abs(middle) + 1e-3), half, jnp.inf)
    left, right, inner, outer = value[GRID:]
    slopes = [(right - left) / (math.sqrt(2.0) * h)]
    curves = [jnp.zeros_like(half)]
    if degree >= 2:
        curves.append((outer - 2 * value[GRID // 2] + inner) / (1.5 * h * h))
        slopes.append((outer - inner) / (math.sqrt(3.0) * h) + 2 * curves[1] * (center - middle))
    slope, curve = jnp.stack(slopes), jnp.stack(curves)
    value, error, delta = value[:GRID, None], error[:GRID], (z[:GRID] - center)[:, None]
    missed = value - delta * (slope + curve * delta)
    size = jnp.abs(value) + jnp.abs(delta) * (jnp.abs(slope) + jnp.abs(curve * delta))
    under, over, loss = jnp.min(missed, 0), jnp.max(missed, 0), jnp.max(size, 0)
    least, most = value_range(name, order + 2, a, low, high)
    bend = jnp.maximum(jnp.abs(most - 2 * curve), jnp.abs(least - 2 * curve))
    gap = 2 * half / (GRID - 1) * (1 + gamma(4))
    gap = gap + gamma(4) * jnp.maximum(jnp.abs(low), jnp.abs(high))
    remainder = 0.5 * (over - under) + bend * gap * gap / 8 + jnp.max(error, 0) + gamma(16) * loss
    remainder = jnp.where(finite & ~jnp.isnan(remainder), remainder, jnp.inf)
    return 0.5 * over + 0.5 * under, slope, curve, remainder


def polynomial(
    name: str,
    order: int,
    a: float,
    center: Float[Array, "*s"],
    low: Float[Array, "*s"],
    high: Float[Array, "*s"],
    linear: Float[Array, "*s"],
    rest: Float[Array, "*s"],
    degree: int,
    share: Any = None,
    known: Any = None,
) -> Model:
    """The model with the smallest remainder of the derivative ``order`` of a named function.

    Args:
      name: of the function, as in :mod:`mmx_jax.certify.activations`.
      order: which derivative.
      a: its parameter.
      center: c.
      low: of the argument.
      high: of the argument.
      linear: bound of the linear part of delta.
      rest: bound of the rest of delta; the parabola keeps the square of the linear part only.
      degree: 0 allows the constant, 1 lines as well, 2 the parabola too.
      share: of a sum of ``delta^2`` over many entries, relative to the sum of its largest values;
        None where nobody asks how the remainder depends on the place.
      known: the range of g, if it is known already.
    """
    smooth = regularity(name, a) - order
    shift, best = _halves(known or value_range(name, order, a, low, high))
    zero = jnp.zeros_like(shift)
    if name == "leaky_relu" and order == 0 and degree >= 1:
        return _chord(a, center, low, high, shift, best)
    if degree < 1 or smooth < 0:
        best = best * (1 + gamma(4)) + gamma(1) * TINY
        return Model(shift, zero, zero, best, best, zero)
    # constant, slope, curve, remainder, and of the remainder what is flat and what times delta^2
    model = (shift, zero, zero, best, best, zero)

    def better(model: Any, new: Any, worth: Array, than: Array) -> Any:
        take = worth < than
        for part in new:
            take &= jnp.isfinite(part)
        return tuple(jnp.where(take, n, o) for n, o in zip(new, model, strict=True))

    if name in PIECEWISE:
        new = _mean_value(name, order, a, center, low, high)
        model = better(model, (*new, new[3], zero), new[3], model[3])
    constant, slope, curve, missed = _fitted(name, order, a, center, low, high, degree)
    whole = missed + jnp.abs(curve) * (2 * linear * rest + rest * rest)
    for fit in zip(constant, slope, curve, whole, missed, strict=True):
        model = better(model, (*fit, zero), fit[3], model[3])
    if share is not None and degree >= 2 and smooth >= 2:
        new, worth = _taylor(name, order, a, center, low, high, linear, rest, share)
        model = better(model, new, worth, model[4] + share * (model[3] - model[4]))
    shift, slope, curve, *parts = model
    best, flat, bent = (v * (1 + gamma(8)) + gamma(1) * TINY for v in parts)
    return Model(shift, slope, curve, best, flat, bent)


def _mean_value(
    name: str, order: int, a: float, center: Array, low: Array, high: Array
) -> tuple[Array, Array, Array, Array]:
    """``g(c) + t delta +- w r``, t and w the middle and half width of the slope's range."""
    left, right = jnp.minimum(low, center), jnp.maximum(high, center)
    r = jnp.maximum(right - center, center - left) * (1 + gamma(1))
    value, error = widened(name, order, a, center)
    slope, half = _halves(value_range(name, order + 1, a, left, right))
    remainder = error + half * r + gamma(4) * (jnp.abs(value) + jnp.abs(slope) * r)
    return value, slope, jnp.zeros_like(slope), remainder


def _taylor(
    name: str,
    order: int,
    a: float,
    center: Array,
    low: Array,
    high: Array,
    linear: Array,
    rest: Array,
    share: Any,
) -> tuple[tuple[Array, ...], Array]:
    """Taylor's parabola, and what its remainder is worth where many are summed."""
    derivatives = [widened(name, order + i, a, center) for i in range(4)]
    left, right = jnp.minimum(low, center), jnp.maximum(high, center)
    r = jnp.maximum(right - center, center - left) * (1 + gamma(1))
    (value, error), (first, error1), (second, error2) = derivatives[:3]
    t3, w3 = _around(name, order + 3, a, left, right, r, derivatives[3:])
    t3, w3, half = t3 / 6, w3 / 6, 0.5 * second
    cube = r * r * r
    size = jnp.abs(value) + jnp.abs(first) * r + jnp.abs(half) * r * r + (jnp.abs(t3) + w3) * cube
    cross = jnp.abs(half) * (2 * linear * rest + rest * rest)
    errors = error + error1 * r + error2 * r * r + gamma(12) * size
    plain = share < 0.25  # then the sum of |delta|^3 is worth more than the best line
    # delta^3 = 3/4 r^2 delta +- r^3/4
    kept, square = jnp.where(plain, 0.0, t3), w3 + jnp.where(plain, jnp.abs(t3), 0.0)
    even = 0.25 * jnp.abs(kept) * cube + errors
    remainder = even + square * cube + cross
    model = (value, first + 0.75 * r * r * kept, half, remainder, even, square * r)
    return model, even + share * (square * cube + cross)


def _chord(
    a: float,
    center: Float[Array, "*s"],
    low: Float[Array, "*s"],
    high: Float[Array, "*s"],
    middle: Float[Array, "*s"],
    half: Float[Array, "*s"],
) -> Model:
    """The chord of relu and its kin: parallel lines through the ends and through 0.

    With slope s = (high - a low) / (high - low) the residual f(z) - s z is piecewise linear with
    its extremes at the ends and at 0, where it is 0.
    """
    width = high - low
    chord = (high - a * low) / jnp.where(width > 0, width, 1.0)
    slope = jnp.where(low >= 0, 1.0, jnp.where(high <= 0, a, chord))
    ends = jnp.stack([high - slope * high, a * low - slope * low])
    straddles = (low < 0) & (high > 0)
    ends = jnp.where(straddles, ends, 0.0)
    least, most = jnp.minimum(jnp.min(ends, 0), 0.0), jnp.maximum(jnp.max(ends, 0), 0.0)
    size = jnp.maximum(jnp.abs(low), jnp.abs(high)) * (1 + abs(a)) + jnp.abs(center)
    remainder = 0.5 * (most - least) + gamma(16) * (size + TINY)
    constant = slope * center + 0.5 * (most + least)
    finite = jnp.isfinite(low) & jnp.isfinite(high)
    remainder = jnp.where(finite, remainder, half)
    return Model(
        jnp.where(finite, constant, middle),
        jnp.where(finite, slope, 0.0),
        jnp.zeros_like(slope),
        remainder,
        remainder,
        jnp.zeros_like(slope),
    )
