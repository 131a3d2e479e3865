"""How nonlinear functions look in programs, and how a piece of a program is recognised as one.

Names in jaxprs are unreliable, so every template is traced with the installed JAX at the shape it
is compared at, and unified with the program: the same primitives and settings, literals of equal
value, operands in either order where the operation commutes.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from mmx_jax.certify.graph import flatten, trace

__all__ = ["TEMPLATES", "Matcher", "literal"]

_ROOT = math.sqrt(2.0)

TEMPLATES: tuple[tuple[str, float | None, Callable[..., Any]], ...] = (
    ("gelu", 0.0, lambda x: jax.nn.gelu(x, approximate=False)),
    ("gelu", 0.0, lambda x: 0.5 * x * (1.0 + jax.lax.erf(x / _ROOT))),
    ("gelu", 0.0, lambda x: x * 0.5 * (1.0 + jax.lax.erf(x / _ROOT))),
    ("gelu", 0.0, lambda x: x * (0.5 * (1.0 + jax.lax.erf(x / _ROOT)))),
    ("gelu", 0.0, lambda x: x * jax.scipy.stats.norm.cdf(x)),
    ("gelu_tanh", 0.0, jax.nn.gelu),
    ("softplus", 0.0, jax.nn.softplus),
    ("softplus", 0.0, lambda x: jnp.log1p(jnp.exp(x))),
    ("softplus", 0.0, lambda x: jnp.log(1.0 + jnp.exp(x))),
    ("silu", 0.0, jax.nn.silu),
    ("silu", 0.0, lambda x: x / (1.0 + jnp.exp(-x))),
    ("sigmoid", 0.0, lambda x: 1.0 / (1.0 + jnp.exp(-x))),
    ("elu", None, jax.nn.elu),
    ("elu", 1.0, lambda x: jax.nn.elu(x, 1.0)),
    ("leaky_relu", None, jax.nn.leaky_relu),
    ("leaky_relu", 0.0, lambda x: jnp.where(x > 0, x, 0.0)),
    ("leaky_relu", None, lambda x, a: jnp.where(x > 0, x, a * x)),
)
"""Name of the activation, its parameter (None: the template's second argument), the function."""

COMMUTES = ("add", "mul", "max", "min")
IGNORED = ("sharding", "out_sharding", "accuracy", "weak_type")


@functools.cache
def _traced(index: int, shape: tuple[int, ...], dtype: str) -> Any:
    name, parameter, fn = TEMPLATES[index]
    del name
    x = jax.ShapeDtypeStruct(shape, dtype)
    args = (x,) if parameter is not None else (x, jax.ShapeDtypeStruct((), dtype))
    try:
        return flatten(trace(fn, *args)[0], through=False)
    except TypeError:  # some are not defined at half precision
        return None


def literal(atom: Any, producers: dict[Any, Any]) -> float | None:
    """The value of a scalar constant, seen through broadcasts and casts; None for anything else."""
    while not isinstance(atom, core.Literal):
        eqn = producers.get(atom)
        if eqn is None or eqn.primitive.name not in ("broadcast_in_dim", "convert_element_type"):
            return None
        atom = eqn.invars[0]
    return float(atom.val) if np.ndim(atom.val) == 0 else None


def _settings(eqn: Any) -> dict[str, str]:
    return {k: str(v) for k, v in eqn.params.items() if k not in IGNORED}


class Matcher:
    """Recognises templates in one flat program."""

    def __init__(self, jaxpr: Any):
        self.producers = {v: eqn for eqn in jaxpr.eqns for v in eqn.outvars}

    def find(self, eqn: Any) -> tuple[str, float, Any] | None:
        """The activation whose result this equation gives: name, parameter and argument."""
        aval = eqn.outvars[0].aval
        if not jnp.issubdtype(aval.dtype, jnp.floating):
            return None
        for index, (name, parameter, _) in enumerate(TEMPLATES):
            closed = _traced(index, tuple(aval.shape), str(aval.dtype))
            if closed is None:
                continue
            pattern = closed.jaxpr
            makers = {v: e for e in pattern.eqns for v in e.outvars}
            root = makers.get(pattern.outvars[0])
            if root is None or root.primitive is not eqn.primitive:
                continue
            bound = self._unify(pattern, makers, pattern.outvars[0], eqn.outvars[0], {})
            if bound is None:
                continue
            argument = bound[pattern.invars[0]]
            if isinstance(argument, core.Literal) or argument.aval.shape != aval.shape:
                continue
            if parameter is not None:
                return name, parameter, argument
            value = literal(bound[pattern.invars[1]], self.producers)
            if value is not None:
                return name, value, argument
        return None

    def _unify(
        self, pattern: Any, makers: dict[Any, Any], wanted: Any, atom: Any, bound: dict[Any, Any]
    ) -> dict[Any, Any] | None:
        """The bindings under which ``wanted`` of the template is ``atom`` of the program."""
        constant = literal(wanted, makers)
        if constant is not None and (
            literal(atom, self.producers) == constant or isinstance(wanted, core.Literal)
        ):
            return bound if literal(atom, self.producers) == constant else None
        if wanted in pattern.invars:
            fits = wanted not in bound or _same(bound[wanted], atom)
            return bound | {wanted: atom} if fits else None
        model = makers[wanted]
        eqn = None if isinstance(atom, core.Literal) else self.producers.get(atom)
        same = eqn is not None and eqn.primitive is model.primitive
        if not same and model.primitive.name in ("broadcast_in_dim", "convert_element_type"):
            return self._unify(pattern, makers, model.invars[0], atom, bound)
        if not same or _settings(eqn) != _settings(model):
            return None
        return self._operands(pattern, makers, model, eqn, bound)

    def _operands(
        self, pattern: Any, makers: dict[Any, Any], model: Any, eqn: Any, bound: dict[Any, Any]
    ) -> dict[Any, Any] | None:
        """Unifies the operands of two equations, in either order where that is the same."""
        orders = [list(eqn.invars)]
        if model.primitive.name in COMMUTES:
            orders.append(orders[0][::-1])
        for order in orders:
            found: dict[Any, Any] | None = bound
            for part, operand in zip(model.invars, order, strict=True):
                if found is not None:
                    found = self._unify(pattern, makers, part, operand, found)
            if found is not None:
                return found
        return None


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, core.Literal) or isinstance(b, core.Literal):
        both = isinstance(a, core.Literal) and isinstance(b, core.Literal)
        return both and bool(np.all(np.asarray(a.val) == np.asarray(b.val)))
    return a is b
