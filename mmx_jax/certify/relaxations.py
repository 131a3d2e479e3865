"""Sound models of one nonlinear node: polynomials with a remainder.

On ``z = c + delta`` with ``z`` in ``[low, high]`` and ``|delta| <= r`` the derivative ``g`` of
order k of a named function is written ``a0 + a1 delta + a2 delta^2 +- remainder``, by whichever of
these has the smallest remainder, entry by entry (``[m_i, M_i]`` holds the range of derivative
k + i, ``t_i`` is its middle and ``w_i`` its half width, both divided by i!):

- constant: the middle of ``[m_0, M_0]``, its half width;
- mean value: ``g(c) + t_1 delta +- w_1 r``;
- chord: ``delta^2 = r^2/2 +- r^2/2`` in ``g(c) + g'(c) delta + (t_2 +- w_2) delta^2``;
- parabola: ``delta^3 = 3/4 r^2 delta +- r^3/4`` (the cubic's best linear approximation) in
  ``g(c) + g'(c) delta + g''(c)/2 delta^2 + (t_3 +- w_3) delta^3``; or ``|delta^3| <= r delta^2``,
  which is larger but small where delta is, wherever many such remainders are summed.
"""

import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmx_jax.certify.activations import largest, regularity
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
    share: Any = 1.0,
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
      share: of a sum of ``delta^2`` over many entries, relative to the sum of its largest values.
    """
    smooth = regularity(name, a) - order
    shift, best = _halves(value_range(name, order, a, low, high))
    slope = curve = jnp.zeros_like(shift)
    if name == "leaky_relu" and order == 0 and degree >= 1:
        return _chord(a, center, low, high, shift, best)
    if degree < 1 or smooth < 0:
        best = best * (1 + gamma(4)) + gamma(1) * TINY
        return Model(shift, slope, curve, best, best, jnp.zeros_like(best))
    derivatives = [widened(name, order + i, a, center) for i in range(4)]
    left, right = jnp.minimum(low, center), jnp.maximum(high, center)
    r = jnp.maximum(right - center, center - left) * (1 + gamma(1))
    value, error = derivatives[0]
    t1, w1 = _around(name, order + 1, a, left, right, r, derivatives[1:])

    def choose(take: Array, new: tuple, old: tuple) -> tuple:
        return tuple(jnp.where(take, n, o) for n, o in zip(new, old, strict=True))

    def usable(remainder: Array, constant: Array, *rest_of: Array) -> Array:
        good = (remainder < best) & jnp.isfinite(constant)
        for part in rest_of:
            good &= jnp.isfinite(part)
        return good

    remainder = error + w1 * r + gamma(4) * (jnp.abs(value) + jnp.abs(t1) * r)
    shift, slope, curve, best = choose(
        usable(remainder, value),
        (value, t1, curve, remainder),
        (shift, slope, curve, best),
    )
    first, error1 = derivatives[1]
    if smooth >= 1:
        t2, w2 = _around(name, order + 2, a, left, right, r, derivatives[2:])
        square = 0.5 * r * r
        t2, w2 = 0.5 * t2, 0.5 * w2
        size = jnp.abs(value) + jnp.abs(first) * r + (jnp.abs(t2) + w2) * r * r
        remainder = error + error1 * r + jnp.abs(t2) * square + w2 * r * r + gamma(8) * size
        shift, slope, curve, best = choose(
            usable(remainder, value, first),
            (value + t2 * square, first, jnp.zeros_like(curve), remainder),
            (shift, slope, curve, best),
        )
    flat, bent = best, jnp.zeros_like(best)
    if degree >= 2 and smooth >= 2:
        second, error2 = derivatives[2]
        t3, w3 = _around(name, order + 3, a, left, right, r, derivatives[3:])
        t3, w3, half = t3 / 6, w3 / 6, 0.5 * second
        cube = r * r * r
        size = (
            jnp.abs(value) + jnp.abs(first) * r + jnp.abs(half) * r * r + (jnp.abs(t3) + w3) * cube
        )
        cross = jnp.abs(half) * (2 * linear * rest + rest * rest)
        errors = error + error1 * r + error2 * r * r + gamma(12) * size
        plain = share < 0.25  # then the sum of |delta|^3 is worth more than the best line
        kept, square = jnp.where(plain, 0.0, t3), w3 + jnp.where(plain, jnp.abs(t3), 0.0)
        even = 0.25 * jnp.abs(kept) * cube + errors
        remainder = even + square * cube + cross
        worth = even + share * (square * cube + cross)
        good = usable(worth, value, first, half)
        shift, slope, curve, best, flat, bent = choose(
            good,
            (value, first + 0.75 * r * r * kept, half, remainder, even, square * r),
            (shift, slope, curve, best, best, bent),
        )
    best, flat, bent = (v * (1 + gamma(8)) + gamma(1) * TINY for v in (best, flat, bent))
    return Model(shift, slope, curve, best, flat, bent)


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
