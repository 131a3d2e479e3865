"""The function under analysis as flat programs, and the choice of how to analyse them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal, jaxpr_as_fun
from jaxtyping import Array

from mmx_jax.certify.affine import Ball, Scope
from mmx_jax.certify.decisions import DECISIONS
from mmx_jax.certify.graph import flatten, trace
from mmx_jax.certify.interpret import chooses
from mmx_jax.certify.lift import DIRECT, rewrite
from mmx_jax.certify.region import Region
from mmx_jax.certify.rules import RULES
from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.numerics import is_inexact, is_traced
from mmx_jax.typing import record, static

__all__ = ["METHODS", "Plan", "Program", "program_sizes"]

QUADRATIC_DIM = 64
"""Up to so many moving entries products of inputs are kept: time grows with their square."""

LINEAR = {"add", "add_any", "neg", "select_n", "sub", *DECISIONS}
"""Of the operations with rules those that leave no remainder."""

METHODS = ("auto", "interval", "affine", "full", "quadratic", "shaped")


@record
class Plan:
    """How a function is analysed: chosen by ``method`` and the sizes of the program."""

    method: str = static()
    degree: int = static()
    symbols: int = static()
    chunk: int = static()

    @staticmethod
    def choose(method: str, dim: int, largest: int, nodes: int, memory: float) -> "Plan":
        """Picks the tightest domain whose largest value fits ``memory`` bytes."""
        if method not in METHODS:
            raise UnknownNameError("method", method, METHODS)
        entries = memory / 8 / max(largest, 1)
        if method == "auto":
            small = dim <= QUADRATIC_DIM and dim * dim <= entries / 2
            method = "quadratic" if small else "full"
        degree = {"interval": 0, "affine": 1, "full": 1}.get(method, 2)
        base = 2 + (dim if degree else 0) + (dim * dim if degree == 2 else 0)
        symbols = 0
        if method in ("full", "quadratic", "shaped"):
            symbols = int(min(nodes, max(entries - base, 0)))
        rows = base + symbols
        if method == "shaped":
            symbols = min(symbols, int(memory / 8 / max(dim * dim, 1)))
            rows += symbols * dim * dim // max(largest, 1) + 2 * dim * dim
        chunk = max(1, int(4 * entries / rows))
        return Plan(method, degree, symbols, chunk)

    def scope(self, ball: Ball) -> Scope:
        """A fresh scope of an analysis over this ball."""
        return Scope(ball, self.degree, self.symbols, self.method == "shaped")


def program_sizes(closed: Any) -> tuple[int, int]:
    """The largest value of a program, and how many nonlinear results it has in all."""
    largest = nonlinear = 1
    for eqn in closed.jaxpr.eqns:
        size = max((int(np.prod(v.aval.shape)) for v in eqn.outvars), default=0)
        largest = max(largest, size)
        if eqn.primitive.name == "scan":  # one round more: where the newest symbols stand
            inside, made = program_sizes(flatten(eqn.params["jaxpr"]))
            largest, nonlinear = max(largest, inside), nonlinear + made * (eqn.params["length"] + 1)
        if eqn.primitive.name in RULES and eqn.primitive.name not in LINEAR:
            nonlinear += size
    return largest, nonlinear


class Program:
    """A function of the real vector, flat, with its outputs side by side."""

    def __init__(self, fn: Callable[..., Any], region: Region, differentiated: bool = True):
        if not callable(fn):
            raise InputError("fn", f"is {type(fn).__name__}", "pass a function of the inputs")
        shapes = jax.eval_shape(fn, region.inputs)
        if not isinstance(shapes, dict) or not shapes:
            what = "an array" if hasattr(shapes, "shape") else f"a {type(shapes).__name__}"
            raise InputError("fn", f"returns {what}", "return a dict of real arrays")
        for name, leaf in shapes.items():
            if not hasattr(leaf, "shape") or not jnp.issubdtype(leaf.dtype, jnp.floating):
                raise InputError(
                    f"fn(inputs)[{name!r}]",
                    f"is {getattr(leaf, 'dtype', type(leaf).__name__)}",
                    "return one real array per name",
                )
            if not isinstance(name, str) or 0 in leaf.shape:
                problem = f"has the key {name!r} or no entry"
                raise InputError("fn(inputs)", problem, "return arrays under strings")
        self.names = sorted(shapes)
        ends = np.cumsum([0] + [int(np.prod(shapes[n].shape)) for n in self.names])
        self.spans = {
            n: slice(int(a), int(b))
            for n, a, b in zip(self.names, ends[:-1], ends[1:], strict=True)
        }
        self.outputs = int(ends[-1])

        def vector_fn(vector: Array) -> Array:
            out = fn(region.build(vector))
            return jnp.concatenate([jnp.ravel(out[n]) for n in self.names])

        start = region.vector()
        closed = trace(vector_fn, start)[0]
        if closed.jaxpr.effects:
            raise InputError("fn", "has side effects", "pass a pure function, without callbacks")
        flat = flatten(closed)
        if not _same(flat, flatten(trace(lambda v: vector_fn(v), start)[0])):  # noqa: PLW0108 cached
            raise InputError(
                "fn",
                "is another function when it is called again",
                "pass a pure function: no NumPy random numbers, no counters; draw with a fixed key",
            )
        raw = {e.primitive.name for e in flat.jaxpr.eqns}
        if "pure_callback" in raw:  # JAX can't differentiate it, so it never meets the rules
            raise InputError(
                "fn",
                "calls back into Python by 'pure_callback', which no rule can bound",
                "write it in JAX",
            )
        self.lifted = not raw & {*DIRECT, "max", "integer_pow", "erfc"}
        self.primal = rewrite(flat, through=True)
        self.chooses = chooses(self.primal.jaxpr)
        if not differentiated:
            return
        run = jaxpr_as_fun(self.primal)

        def push(x: Array, t: Array) -> Array:
            return jax.jvp(lambda v: run(v)[0], (x,), (t,))[1]

        def pull(x: Array, s: Array) -> Array:
            return jax.vjp(lambda v: run(v)[0], x)[1](s)[0]

        covector = jax.ShapeDtypeStruct((self.outputs,), self.primal.jaxpr.outvars[0].aval.dtype)
        self.push = flatten(trace(push, start, start)[0])
        # rows of the Jacobian are fewer than its columns: go backwards
        self.backward = region.ball.norm != 2 or self.outputs < region.dim
        self.sweep = flatten(trace(pull, start, covector)[0]) if self.backward else self.push


def _same(first: Any, second: Any) -> bool:
    """Whether two traces of a function are the same program with the same numbers in it."""
    for a, b in zip(first.consts, second.consts, strict=False):
        known = not (is_traced(a) or is_traced(b))
        if a is not b and known and is_inexact(a) and not np.array_equal(a, b, equal_nan=True):
            return False
    return _outline(first.jaxpr) == _outline(second.jaxpr)


def _outline(jaxpr: Any) -> list[Any]:
    """The operations of a program and the numbers written into it."""
    out: list[Any] = []
    for eqn in jaxpr.eqns:
        numbers = [np.asarray(a.val).tobytes() for a in eqn.invars if isinstance(a, Literal)]
        inner = [v for v in eqn.params.values() if hasattr(v, "eqns")]
        inner += [v.jaxpr for v in eqn.params.values() if hasattr(v, "consts") and v not in inner]
        out.append((eqn.primitive.name, numbers, [_outline(j) for j in inner]))
    return out
