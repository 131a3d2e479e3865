"""One primitive for every nonlinearity, and what is known of its derivatives' ranges.

``act(x, name, order)`` is the derivative of that order of a named function, and its own derivative
is ``t * act(x, name, order + 1)``. Differentiating a program then keeps sigma' and sigma'' as
single nodes, whose ranges are known exactly.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, ArrayLike

from mmx_jax.certify.derivatives import PIECEWISE, evaluate

__all__ = ["act", "act_p", "critical_points", "largest", "regularity"]


def regularity(name: str, a: float) -> int:
    """The highest derivative that is continuous (a large number for smooth functions)."""
    if name == "leaky_relu":
        return 99 if a == 1 else 0
    return (1 if a == 1 else 0) if name == "elu" else 99


@functools.cache
def _critical_table(name: str, order: int, a: float) -> tuple[float, ...]:
    """Where the derivative of ``order`` turns: sign changes of the next one, bisected."""
    del a
    grid = np.linspace(-40.0, 40.0, 32001)
    value, size = evaluate(name, order + 1, 0.0, grid, np)
    sure = np.abs(value) > 1e-13 * size + 1e-280
    kept, signs = grid[sure], np.sign(value[sure])
    turns = np.nonzero(signs[1:] != signs[:-1])[0]
    low, high, sign = kept[turns], kept[turns + 1], signs[turns]
    for _ in range(60):
        middle = (low + high) / 2
        left = np.sign(evaluate(name, order + 1, 0.0, middle, np)[0]) == sign
        low, high = np.where(left, middle, low), np.where(left, high, middle)
    return tuple(((low + high) / 2).tolist())


@functools.cache
def critical_points(name: str, order: int, a: float) -> tuple[tuple[float, float], ...]:
    """Where a derivative of ``order`` turns, each with its value there.

    Between two neighbours of these points (and beyond the last) the derivative is monotone. Sines
    have infinitely many and are not listed.
    """
    if name in ("cos", "exp", "expm1", "log", "log1p", "sin"):
        return ()
    if name == "power" or name in PIECEWISE:
        points: tuple[float, ...] = (
            (0.0,) if name != "power" or (a >= order and a == int(a)) else ()
        )
    else:
        points = _critical_table(name, order, 0.0)
    return tuple((p, float(evaluate(name, order, a, np.float64(p), np)[0])) for p in points)


@functools.cache
def largest(name: str, order: int, a: float) -> float:
    """An upper bound of the absolute value of a derivative on the real line; often infinite."""
    if name in ("sin", "cos"):
        return 1.0
    if name in ("gelu", "gelu_tanh", "silu", "softplus"):
        bounded = order >= 1
    else:
        bounded = name in ("sigmoid", "tanh", "erf")
    if not bounded:
        return math.inf
    ends = evaluate(name, order, a, np.array([-40.0, 40.0]), np)[0]
    inside = [abs(v) for _, v in critical_points(name, order, a)]
    return max(*np.abs(ends).tolist(), *inside) * (1 + 1e-12) + 1e-290


act_p = Primitive("act")


def act(x: ArrayLike, name: str, order: int = 0, a: float = 0.0) -> Array:
    """Derivative ``order`` of the nonlinear function ``name``, elementwise, as one primitive.

    >>> round(float(jax.grad(jax.grad(lambda x: act(x, "power", a=3.0)))(2.0)), 4)
    12.0
    """
    if name == "exp":
        order = 0
    if name == "power" and a == int(a) and a >= 0 and order > a:
        return jnp.zeros_like(x)
    return act_p.bind(jnp.asarray(x), name=name, order=order, a=float(a))


def _value(x: Any, *, name: str, order: int, a: float) -> Any:
    x = jnp.asarray(x)
    if order == 0 and name in ("gelu", "gelu_tanh", "silu", "softplus"):
        direct: Any = {
            "gelu": lambda v: jax.nn.gelu(v, approximate=False),
            "gelu_tanh": jax.nn.gelu,
            "silu": jax.nn.silu,
            "softplus": jax.nn.softplus,
        }[name]
        return direct(x)
    return jnp.asarray(evaluate(name, order, a, x)[0], x.dtype)


act_p.def_impl(_value)
act_p.def_abstract_eval(lambda x, **_: x.update(weak_type=False))


def _lowered(x: Any, **params: Any) -> Any:
    # lowering runs outside the scope that traced the program: keep its precision
    with jax.enable_x64(x.dtype == jnp.float64 or jax.config.read("jax_enable_x64")):
        return _value(x, **params)


mlir.register_lowering(act_p, mlir.lower_fun(_lowered, multiple_results=False))
batching.defvectorized(act_p)
ad.defjvp(act_p, lambda t, x, name, order, a: t * act(x, name, order + 1, a))
