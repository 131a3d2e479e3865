"""Nonlinear functions of one variable and all their derivatives in closed form.

Every derivative is a sum of terms ``basis(x) * polynomial(x)``; :func:`evaluate` returns it with
the sum of the terms' magnitudes, on which the rounding margin rests.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.polynomial import Polynomial
from scipy import special

from mmx_jax.errors import UnknownNameError

__all__ = ["NAMES", "PIECEWISE", "evaluate"]

PIECEWISE = ("leaky_relu", "elu")
SMOOTH = (
    "cos",
    "erf",
    "exp",
    "expm1",
    "gelu",
    "gelu_tanh",
    "log",
    "log1p",
    "power",
    "sigmoid",
    "silu",
    "sin",
    "softplus",
    "tanh",
)
NAMES = tuple(sorted(PIECEWISE + SMOOTH))
"""``leaky_relu`` with slope 0 is relu, with slope -1 the absolute value; ``power`` is x**p."""

_GELU = 2 * math.sqrt(2 / math.pi)
_X = Polynomial([0.0, 1.0])


def _sigma(x: Any, xp: Any) -> Any:
    return special.expit(x) if xp is np else jax.nn.sigmoid(x)


def _gauss(x: Any, xp: Any) -> Any:
    return xp.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def _normal(x: Any, xp: Any) -> Any:
    return special.ndtr(x) if xp is np else 0.5 * jax.lax.erfc(-x / math.sqrt(2))


@functools.cache
def _sigmoid_poly(order: int) -> Polynomial:
    """Derivative ``order`` of the sigmoid as a polynomial in its value s: s' = s - s^2."""
    p = _X
    for _ in range(order):
        p = p.deriv() * Polynomial([0, 1, -1])
    return p


@functools.cache
def _tanh_poly(order: int) -> Polynomial:
    p = _X
    for _ in range(order):
        p = p.deriv() * Polynomial([1, 0, -1])
    return p


@functools.cache
def _composed(order: int, cubic: bool) -> tuple[Polynomial, ...]:
    """Coefficients P_j with ``(sigma o w)^(order) = sum_j sigma^(j)(w) P_j``; w = x or gelu's."""
    slope = Polynomial([_GELU, 0, 3 * _GELU * 0.044715]) if cubic else Polynomial([1.0])
    parts: list[Polynomial] = [Polynomial([1.0])]
    for _ in range(order):
        zero = Polynomial([0.0])
        parts = [
            (parts[j].deriv() if j < len(parts) else zero) + (parts[j - 1] * slope if j else zero)
            for j in range(len(parts) + 1)
        ]
    return tuple(parts)


@functools.cache
def _gauss_poly(name: str, order: int) -> Polynomial:
    """``order >= 2`` of gelu over phi(x), or ``order >= 1`` of erf over exp(-x^2)."""
    if name == "gelu":
        p, steps, decay = Polynomial([2, 0, -1]), order - 2, _X
    else:
        p, steps, decay = Polynomial([2 / math.sqrt(math.pi)]), order - 1, 2 * _X
    for _ in range(steps):
        p = p.deriv() - decay * p
    return p


def _poly(p: Polynomial, x: Any) -> tuple[Any, Any]:
    """A polynomial by Horner's rule, and the same of absolute coefficients and argument."""
    value = magnitude = 0.0 * x
    size = abs(x)
    for c in p.coef[::-1]:
        value, magnitude = value * x + c, magnitude * size + abs(c)
    return value, magnitude


def _gated(order: int, cubic: bool, x: Any, xp: Any) -> tuple[Any, Any]:
    """Derivative of ``x sigma(w(x))``: ``x h^(n) + n h^(n-1)`` with ``h = sigma o w``."""
    s = _sigma(_GELU * (x + 0.044715 * x * x * x) if cubic else x, xp)
    value = magnitude = 0.0 * x
    pieces = [(_X * p, j) for j, p in enumerate(_composed(order, cubic))]
    if order:
        pieces += [(order * p, j) for j, p in enumerate(_composed(order - 1, cubic))]
    for p, j in pieces:
        (a, size_a), (b, size_b) = _poly(p, x), _poly(_sigmoid_poly(j), s)
        # the sigmoid of a rounded argument: sigma'(w) w u <= u, so one unit of size covers it
        value, magnitude = value + a * b, magnitude + size_a * size_b
    return value, magnitude


def _power(x: Any, p: float, order: int, xp: Any) -> tuple[Any, Any]:
    factor = math.prod([p - i for i in range(order)]) if order else 1.0
    rest = p - order
    if factor == 0:
        return 0.0 * x, 0.0 * x
    if rest == int(rest):
        value = factor * (x ** int(rest) if rest >= 0 else 1.0 / x ** int(-rest))
    elif rest == -0.5:
        value = factor / xp.sqrt(x)
    else:
        value = (
            factor * xp.sqrt(x) * (x ** int(rest - 0.5))
            if 2 * rest == int(2 * rest)
            else (factor * xp.power(x, rest))
        )
    return value, abs(value) * (1 + abs(rest))


def _leaky_relu(order: int, a: float, x: Any, xp: Any) -> tuple[Any, Any]:
    one = 1.0 + 0.0 * x
    pieces = ((x, a * x), (one, a * one))
    value = xp.where(x > 0, *pieces[order]) if order < 2 else 0.0 * x
    return value, abs(value)


def _elu(order: int, a: float, x: Any, xp: Any) -> tuple[Any, Any]:
    low = xp.minimum(x, 0.0)
    low = a * (xp.expm1(low) if order == 0 else xp.exp(low))
    value = xp.where(x > 0, x if order == 0 else float(order == 1) + 0.0 * x, low)
    return value, abs(value)


def _softplus(order: int, a: float, x: Any, xp: Any) -> tuple[Any, Any]:
    if order:
        return evaluate("sigmoid", order - 1, a, x, xp)
    value = xp.logaddexp(x, 0.0)
    return value, value


def _gelu(order: int, a: float, x: Any, xp: Any) -> tuple[Any, Any]:
    del a
    phi = _gauss(x, xp)
    if order >= 2:
        value, magnitude = _poly(_gauss_poly("gelu", order), x)
        return value * phi, magnitude * phi * (1 + x * x)
    if order:
        return _normal(x, xp) + x * phi, abs(x) + phi * abs(x) + 1
    return x * _normal(x, xp), abs(x)


def _erf(order: int, a: float, x: Any, xp: Any) -> tuple[Any, Any]:
    del a
    if order:
        value, magnitude = _poly(_gauss_poly("erf", order), x)
        bell = xp.exp(-x * x)
        return value * bell, magnitude * bell * (1 + x * x)
    value = special.erf(x) if xp is np else jax.lax.erf(x)
    return value, abs(value)


def _exp(order: int, a: float, x: Any, xp: Any) -> tuple[Any, Any]:
    del order, a
    value = xp.exp(x)
    return value, value * (1 + abs(x))


def _expm1(order: int, a: float, x: Any, xp: Any) -> tuple[Any, Any]:
    if order:
        return _exp(0, a, x, xp)
    value = xp.expm1(x)
    return value, abs(value) + abs(x)


def _log(order: int, a: float, x: Any, xp: Any) -> tuple[Any, Any]:
    del a
    if order:
        return _power(x, -1.0, order - 1, xp)
    value = xp.log(x)
    return value, abs(value)


def _log1p(order: int, a: float, x: Any, xp: Any) -> tuple[Any, Any]:
    if order:
        return _log(order, a, x + 1.0, xp)
    value = xp.log1p(x)
    return value, abs(value)


def _sine(order: int, x: Any, xp: Any) -> tuple[Any, Any]:
    value = (xp.sin(x), xp.cos(x), -xp.sin(x), -xp.cos(x))[order % 4]
    return value, 1.0 + abs(x)


_EVALUATE: dict[str, Any] = {
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "tanh": lambda order, a, x, xp: _poly(_tanh_poly(order), xp.tanh(x)),
    "sigmoid": lambda order, a, x, xp: _poly(_sigmoid_poly(order), _sigma(x, xp)),
    "softplus": _softplus,
    "silu": lambda order, a, x, xp: _gated(order, False, x, xp),
    "gelu_tanh": lambda order, a, x, xp: _gated(order, True, x, xp),
    "gelu": _gelu,
    "erf": _erf,
    "exp": _exp,
    "expm1": _expm1,
    "log": _log,
    "log1p": _log1p,
    "power": lambda order, a, x, xp: _power(x, a, order, xp),
    "sin": lambda order, a, x, xp: _sine(order, x, xp),
    "cos": lambda order, a, x, xp: _sine(order + 1, x, xp),
}


def evaluate(name: str, order: int, a: float, x: Any, xp: Any = jnp) -> tuple[Any, Any]:
    """The derivative of ``order`` of a function at x, and the magnitude of its terms.

    Args:
      name: one of :data:`NAMES`.
      order: 0 for the function itself.
      a: slope of leaky relu, alpha of elu, exponent of power; ignored otherwise.
      x: any shape.
      xp: ``jax.numpy`` or ``numpy``.
    """
    if name not in _EVALUATE:
        raise UnknownNameError("activation", name, NAMES)
    return _EVALUATE[name](order, a, x, xp)
