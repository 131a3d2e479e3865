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

from mmx_jax.certify.affine import Form, Scope, align, constant, linear_map
from mmx_jax.certify.composition import add, bilinear, scale, unary, wide
from mmx_jax.certify.decisions import DECISIONS
from mmx_jax.certify.softmax import logsumexp_rule
from mmx_jax.certify.solves import triangular_solve_rule
from mmx_jax.errors import InputError

__all__ = ["RULES", "add_rule", "bilinear", "linear", "unary"]

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}
"""Primitive name to rule."""


def add_rule(name: str, rule: Rule) -> None:
    """Adds (or replaces) the rule of the primitive called ``name``.

    Sandwiches of :func:`~mmx_jax.certify.lipschitz_bounds` catch many wrong rules, not all.

    Raises:
      InputError: a name that is no string, or a rule that can't be called.
    """
    if not isinstance(name, str):
        raise InputError("name", f"is {name!r}", "use the name of a primitive")
    if not callable(rule):
        raise InputError("rule", f"is {type(rule).__name__}", "pass rule(scope, params, *operands)")
    RULES[name] = rule


linear = linear_map


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


RULES |= (
    DECISIONS
    | {
        "act": _act,
        "select_n": _select,
        "logsumexp": logsumexp_rule,
        "triangular_solve": triangular_solve_rule,
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
    }
    | {name: _named(name) for name in ("cos", "erf", "exp", "expm1", "log", "log1p", "sin", "tanh")}
)
