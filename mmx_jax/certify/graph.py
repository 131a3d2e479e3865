"""Programs as flat jaxprs: calls inlined, equal operations merged, dead code dropped.

What is analysed is the function that the program computes, so ``stop_gradient`` and hand-written
derivative rules are looked through (:func:`flatten`); anything that does not depend on the inputs
is a constant, computed once at the caller's precision.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from mmx_jax.errors import InputError

__all__ = ["evaluate", "flatten", "run", "scan_counts", "source_of", "trace"]

KEPT = ("scan", "while", "cond", "custom_linear_solve")
Jaxpr = Any


def inner_of(eqn: Any) -> Any:
    """The closed jaxpr of a call-like equation, None for every other one."""
    if eqn.primitive.name in KEPT:
        return None
    for name in ("call_jaxpr", "jaxpr", "fun_jaxpr"):
        inner = eqn.params.get(name)
        if inner is not None and hasattr(inner, "eqns"):
            return (
                inner if hasattr(inner, "consts") else core.ClosedJaxpr(inner, ())
            )  # open in 0.10
    return None


def source_of(eqn: Any) -> str:
    """Where the user's code made this operation, as far as JAX knows."""
    try:
        from jax._src import source_info_util

        return source_info_util.summarize(eqn.source_info)
    except (ImportError, AttributeError):
        return "an unknown line"


def run(
    jaxpr: Jaxpr, consts: Any, args: Any, apply: Callable[[Any, list[Any]], list[Any]]
) -> list[Any]:
    """Evaluates a jaxpr's equations in order; ``apply`` gives the results of each."""
    known: dict[Any, Any] = {}

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else known[atom]

    known.update(zip(jaxpr.constvars, consts, strict=True))
    known.update(zip(jaxpr.invars, args, strict=True))
    for eqn in jaxpr.eqns:
        known.update(zip(eqn.outvars, apply(eqn, [read(a) for a in eqn.invars]), strict=True))
    return [read(a) for a in jaxpr.outvars]


def bind(eqn: Any, operands: list[Any]) -> list[Any]:
    """Runs one equation as it is."""
    params = eqn.primitive.get_bind_params(eqn.params)
    out = eqn.primitive.bind(*operands, **params)
    return list(out) if eqn.primitive.multiple_results else [out]


def _inline(eqn: Any, operands: list[Any], through: bool) -> list[Any]:
    if eqn.primitive.name == "stop_gradient" and through:
        return list(operands)
    inner = inner_of(eqn)
    if inner is None:
        return bind(eqn, operands)
    return run(inner.jaxpr, inner.consts, operands, lambda e, o: _inline(e, o, through))


def trace(fn: Callable[..., Any], *args: Any) -> tuple[Any, Any]:
    """The closed jaxpr of a function of pytrees, and the structure of its result."""
    try:
        closed, shape = jax.make_jaxpr(fn, return_shape=True)(*args)
    except jax.errors.TracerArrayConversionError as error:
        raise InputError(
            "fn", "turns its inputs into NumPy arrays", "use jax.numpy, so that it can be traced"
        ) from error
    return closed, jax.tree.structure(shape)


def flatten(closed: Any, through: bool = True) -> Any:
    """The same program without calls, duplicates, no-op casts and dead code.

    Args:
      closed: a closed jaxpr.
      through: drop ``stop_gradient``, which changes derivatives but no value.
    """

    def flat(*args: Any) -> list[Any]:
        return run(closed.jaxpr, closed.consts, list(args), lambda e, o: _inline(e, o, through))

    shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in closed.jaxpr.invars]
    return _tidy(jax.make_jaxpr(flat)(*shapes))


def _key(eqn: Any, names: dict[Any, Any]) -> Any:
    operands = []
    for a in eqn.invars:
        if isinstance(a, core.Literal):
            operands.append((str(a.aval), np.asarray(a.val).tobytes()))
        else:
            operands.append(names.get(a, a))
    return (eqn.primitive.name, tuple(operands), str(eqn.params))


def _tidy(closed: Any) -> Any:
    """Merges equal equations and drops those that no output needs."""
    jaxpr = closed.jaxpr
    names: dict[Any, Any] = {}
    seen: dict[Any, Any] = {}
    eqns = []

    def rename(atom: Any) -> Any:
        return atom if isinstance(atom, core.Literal) else names.get(atom, atom)

    for eqn in jaxpr.eqns:
        cast = eqn.primitive.name == "convert_element_type"
        same = cast and eqn.params["new_dtype"] == eqn.invars[0].aval.dtype
        moved = not isinstance(eqn.invars[0], core.Literal) if eqn.invars else False
        if moved and (same or eqn.primitive.name == "copy"):
            names[eqn.outvars[0]] = rename(eqn.invars[0])
            continue
        key = None if eqn.primitive.name in KEPT else _key(eqn, names)
        if key in seen and key is not None:
            names.update(zip(eqn.outvars, seen[key], strict=True))
            continue
        new = eqn.replace(invars=[rename(a) for a in eqn.invars])
        seen[key] = new.outvars
        eqns.append(new)
    outvars = [rename(a) for a in jaxpr.outvars]
    needed = {a for a in outvars if not isinstance(a, core.Literal)}
    kept = []
    for eqn in reversed(eqns):
        if eqn.effects or any(v in needed for v in eqn.outvars):
            kept.append(eqn)
            needed |= {a for a in eqn.invars if not isinstance(a, core.Literal)}
    tidy = jaxpr.replace(eqns=kept[::-1], outvars=outvars)
    # from JAX 0.12 on a jaxpr holds its own constants and is closed already
    return tidy if closed.jaxpr is closed else core.ClosedJaxpr(tidy, closed.consts)


class Real:
    """A float64 value that depends on the inputs."""

    def __init__(self, value: Any):
        self.value = value


def wide(value: Any) -> Any:
    """A real array or number in float64; anything else unchanged."""
    return (
        jnp.asarray(value, jnp.float64)
        if jnp.issubdtype(jnp.result_type(value), jnp.floating)
        else value
    )


def _step(eqn: Any, operands: list[Any]) -> list[Any]:
    if not any(isinstance(o, Real) for o in operands):
        return bind(eqn, operands)
    name = eqn.primitive.name
    if name == "convert_element_type" and jnp.issubdtype(eqn.params["new_dtype"], jnp.floating):
        return list(operands)
    if name == "scan":
        return _scan(eqn.params, operands)
    values = [o.value if isinstance(o, Real) else wide(o) for o in operands]
    if "preferred_element_type" in eqn.params:
        eqn = eqn.replace(params=eqn.params | {"preferred_element_type": None})
    return [Real(v) if _real(v) else v for v in bind(eqn, values)]


def _real(value: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(value), jnp.floating)


def scan_counts(params: Any) -> tuple[int, int]:
    """How many of a scan's operands are constants of its body, and how many are its carry."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()  # from JAX 0.12 on
    return len(consts), len(carry)


def _scan(params: Any, operands: list[Any]) -> list[Any]:
    """A scan in float64; a carry is real as soon as it meets a real value in the body."""
    body = flatten(params["jaxpr"])
    nc, ni = scan_counts(params)
    consts, carry, xs = operands[:nc], operands[nc : nc + ni], operands[nc + ni :]
    # every float is taken as dependent: simpler than finding out, and values are the same
    flags = [_real(o.value if isinstance(o, Real) else o) for o in (*carry, *xs)]
    plain = [o.value if isinstance(o, Real) else wide(o) for o in (*carry, *xs)]

    def step(state: Any, x: Any) -> Any:
        mixed = [Real(v) if f else v for v, f in zip((*state, *x), flags, strict=True)]
        outs = run(body.jaxpr, body.consts, [*consts, *mixed], _step)
        outs = [o.value if isinstance(o, Real) else wide(o) for o in outs]
        return tuple(outs[:ni]), tuple(outs[ni:])

    state, ys = jax.lax.scan(
        step, tuple(plain[:ni]), tuple(plain[ni:]), params["length"], params["reverse"]
    )
    return [Real(v) if _real(v) else v for v in (*state, *ys)]


def evaluate(closed: Any, args: Any) -> list[Any]:
    """The program's results with everything that depends on the inputs computed in float64.

    Casts between real types are identities; constants keep the values of the caller's precision.
    """
    real = [Real(wide(a)) if _real(a) else a for a in args]
    outs = run(closed.jaxpr, closed.consts, real, _step)
    return [o.value if isinstance(o, Real) else wide(o) for o in outs]
