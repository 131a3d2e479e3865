"""Operations that jump: comparisons, rounding, the largest entry, the k largest entries.

A function that jumps has no Lipschitz constant, though JAX gives it a derivative. Their results are
therefore constants, taken where the ranges of the operands leave no choice; where they leave one,
the result is some value and the entry is noted in ``scope.undecided``. Whoever draws a conclusion
from a pass over a program with such operations asks ``scope.decided()`` first.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mmx_jax.certify.affine import Form, Scope, linear_map
from mmx_jax.certify.composition import add, as_form
from mmx_jax.certify.ranges import spread

__all__ = ["DECISIONS"]


def _comparison(name: str) -> Callable[..., Array]:
    """``x ? y`` by the sign of ``x - y``."""

    def rule(scope: Scope, params: Any, x: Any, y: Any) -> Array:
        del params
        shape = jnp.broadcast_shapes(as_form(x).shape, as_form(y).shape)
        if x is y:
            return jnp.full(shape, name in ("ge", "le", "eq"))
        _, _, low, high = spread(add(x, y, -1.0), scope)
        yes, no = {
            "gt": (low > 0, high <= 0),
            "ge": (low >= 0, high < 0),
            "lt": (high < 0, low >= 0),
            "le": (high <= 0, low > 0),
            "eq": ((low == 0) & (high == 0), (low > 0) | (high < 0)),
            "ne": ((low > 0) | (high < 0), (low == 0) & (high == 0)),
        }[name]
        scope.undecided.append(~(yes | no))
        return yes

    return rule


def _step(fn: Callable[[Array], Array]) -> Callable[..., Array]:
    """A function that is constant between its jumps, and monotone."""

    def rule(scope: Scope, params: Any, x: Form) -> Array:
        del params
        _, _, low, high = spread(x, scope)
        low, high = fn(low), fn(high)
        scope.undecided.append(~(low == high))
        return low

    return rule


def _is_finite(scope: Scope, params: Any, x: Form) -> Array:
    del params
    _, _, low, high = spread(x, scope)
    scope.undecided.append(~(jnp.isfinite(low) & jnp.isfinite(high)))
    return jnp.ones(x.shape, bool)


def _order(scope: Scope, x: Form, k: int, sign: float) -> Array:
    """The places ``[*b, k]`` of the largest entries along the last axis, largest first."""
    _, _, low, high = spread(x, scope)
    if sign < 0:
        low, high = -high, -low
    middle = 0.5 * low + 0.5 * high
    places = jax.lax.top_k(middle, x.shape[-1])[1]
    low, high = (jnp.take_along_axis(v, places, -1) for v in (low, high))
    # each must lie above all that follow it
    after = jax.lax.cummax(high, axis=high.ndim - 1, reverse=True)[..., 1:]
    above = low[..., :-1] > after
    scope.undecided.append(~jnp.all(above[..., :k]))
    return places[..., :k]


def _arg(sign: float) -> Callable[..., Array]:
    def rule(scope: Scope, params: Any, x: Form) -> Array:
        (axis,) = params["axes"]
        moved = linear_map(x, lambda v: jnp.moveaxis(v, axis, -1))
        return _order(scope, moved, 1, sign)[..., 0].astype(params["index_dtype"])

    return rule


def _top_k(scope: Scope, params: Any, x: Form) -> list[Any]:
    axis = params.get("axis", -1) % len(x.shape)
    moved = linear_map(x, lambda v: jnp.moveaxis(v, axis, -1))
    places = jnp.moveaxis(_order(scope, moved, params["k"], 1.0), -1, axis)
    taken = linear_map(x, lambda v: jnp.take_along_axis(v, places, axis))
    return [taken, places.astype(jnp.int32)]


DECISIONS: dict[str, Callable[..., Any]] = {
    name: _comparison(name) for name in ("gt", "ge", "lt", "le", "eq", "ne")
} | {
    "argmax": _arg(1.0),
    "argmin": _arg(-1.0),
    "ceil": _step(jnp.ceil),
    "floor": _step(jnp.floor),
    "is_finite": _is_finite,
    "round": _step(jnp.round),
    "sign": _step(jnp.sign),
    "top_k": _top_k,
}
"""The rules of these operations, by primitive."""
