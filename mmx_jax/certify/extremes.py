"""Exact ranges of nonlinear functions and their derivatives on intervals, rounded outward."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmx_jax.certify.activations import critical_points, regularity
from mmx_jax.certify.derivatives import PIECEWISE, evaluate
from mmx_jax.certify.rounding import TINY, ULPS, gamma

__all__ = ["value_range", "widened"]


def widened(
    name: str, order: int, a: float, x: Float[Array, "*s"]
) -> tuple[Float[Array, "*s"], Float[Array, "*s"]]:
    """A derivative's value, and a bound of the rounding error of evaluating it."""
    value, magnitude = evaluate(name, order, a, x)
    return value, gamma(int(ULPS)) * (magnitude + TINY)


def value_range(
    name: str, order: int, a: float, low: Float[Array, "*s"], high: Float[Array, "*s"]
) -> tuple[Float[Array, "*s"], Float[Array, "*s"]]:
    """The exact range of a derivative on intervals, rounded outward; infinite across a pole.

    Derivatives that jump take all values between their one-sided limits (Clarke); the derivative
    of a jump is infinite wherever the interval holds it, never 0.
    """
    if name in PIECEWISE:
        return _piecewise_range(name, order, a, low, high)
    value, error = widened(name, order, a, jnp.stack([low, high]))
    least, most = jnp.min(value - error, 0), jnp.max(value + error, 0)
    for point, turn in critical_points(name, order, a):
        inside = (low <= point + 1e-9) & (high >= point - 1e-9)
        slack = 1e-12 * (1 + abs(turn))
        least = jnp.where(inside, jnp.minimum(least, turn - slack), least)
        most = jnp.where(inside, jnp.maximum(most, turn + slack), most)
    if name in ("sin", "cos"):
        # cos(x - turn pi/2) peaks at whole turns: is there one (for minima, a half) within?
        phase = ((order + 3 * (name == "sin")) % 4) / 4
        for sign in (1.0, -1.0):
            shift = (0.0 if sign > 0 else 0.5) - phase
            first = jnp.floor(high / (2 * math.pi) - shift + 1e-9 * (1 + jnp.abs(high)))
            holds = first >= low / (2 * math.pi) - shift - 1e-9 * (1 + jnp.abs(low))
            if sign > 0:
                most = jnp.where(holds, 1.0, most)
            else:
                least = jnp.where(holds, -1.0, least)
    outside = ~(jnp.isfinite(low) & jnp.isfinite(high) & (low <= high))
    if name == "log" or (name == "power" and a != int(a)):
        outside |= low <= 0
    elif name == "log1p":
        outside |= low <= -1
    elif name == "power" and a < 0:
        outside |= (low <= 0) & (high >= 0)
    unknown = outside | jnp.isnan(least) | jnp.isnan(most)
    return jnp.where(unknown, -jnp.inf, least), jnp.where(unknown, jnp.inf, most)


def _piecewise_range(
    name: str, order: int, a: float, low: Float[Array, "*s"], high: Float[Array, "*s"]
) -> tuple[Float[Array, "*s"], Float[Array, "*s"]]:
    """Both branches' ranges on their side of 0, joined; infinite from the jump's derivative on."""
    one = jnp.ones_like(low)
    right = (low, high) if order == 0 else ((one, one) if order == 1 else (0 * one, 0 * one))
    if name == "leaky_relu":
        left = (a * low, a * high) if order == 0 else ((a * one,) * 2 if order == 1 else right)
        slack = gamma(2) * abs(a) * jnp.maximum(jnp.abs(low), jnp.abs(high)) if order == 0 else 0.0
        left = (jnp.minimum(*left) - slack, jnp.maximum(*left) + slack)
    else:
        ends = jnp.stack([jnp.minimum(low, 0.0), jnp.minimum(high, 0.0)])
        value, error = widened(name, order, a, ends)
        left = (jnp.min(value - error, 0), jnp.max(value + error, 0))
    if order == 0:  # the branches meet at 0, and each counts on its own side only
        far = left if name == "elu" else (a * low - slack, a * low + slack)
        least = jnp.minimum(jnp.minimum(far[0], high), 0.0)
        most = jnp.maximum(jnp.maximum(far[1], high), 0.0)
    else:
        least, most = jnp.minimum(left[0], right[0]), jnp.maximum(left[1], right[1])
    if order >= regularity(name, a) + 2:
        least, most = jnp.full_like(least, -jnp.inf), jnp.full_like(most, jnp.inf)
    positive, negative = low > 0, high < 0
    least = jnp.where(positive, right[0], jnp.where(negative, left[0], least))
    most = jnp.where(positive, right[1], jnp.where(negative, left[1], most))
    return jnp.where(jnp.isnan(least), -jnp.inf, least), jnp.where(jnp.isnan(most), jnp.inf, most)
