"""Programs as flat jaxprs: calls inlined, equal operations merged, dead code dropped.

What is analysed is the function that the program computes, so ``stop_gradient`` and hand-written
derivative rules are looked through (:func:`flatten`); anything that does not depend on the inputs
is a constant; arithmetic on constants is done in float64 too (:mod:`~mmx_jax.certify.evaluation`).
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from mmx_jax.certify.whiles import as_scan, branches_as_choice, rounds
from mmx_jax.errors import InputError

__all__ = ["bind", "flatten", "run", "scan_counts", "settle", "source_of", "trace"]

CALLS = (
    "checkpoint",
    "closed_call",
    "core_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "custom_vjp_call_jaxpr",
    "jit",
    "pjit",
    "remat2",
)
"""Primitives that do nothing but run a program on their operands."""

CARRYING = ("cond", "scan", "while")
Jaxpr = Any


def inner_of(eqn: Any) -> Any:
    """The closed jaxpr of a call, None for every other equation."""
    if eqn.primitive.name not in CALLS:
        return None
    inner = eqn.params.get("call_jaxpr", eqn.params.get("jaxpr", eqn.params.get("fun_jaxpr")))
    return inner if hasattr(inner, "consts") else core.ClosedJaxpr(inner, ())  # open in 0.10


def _own_derivative(eqn: Any, inner: Any) -> None:
    """Refuses a derivative written by hand, unless it is JAX's own and so the true one."""
    if not eqn.primitive.name.startswith("custom_"):
        return
    written = str(getattr(inner.jaxpr.debug_info, "func_src_info", ""))
    if str(Path(jax.__file__).parent) in written:
        return
    name, _, place = written.partition(" at ")
    raise InputError(
        "model",
        f"gives {name or 'a function'!r} a derivative written by hand ({place or source_of(eqn)})",
        "write the function without jax.custom_jvp and jax.custom_vjp, or pass lipschitz_bounds an "
        "explainer closed over the model as it is",
    )


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
    """Runs one equation as it is, at the precision of its operands; it keeps its source line."""
    with _source(eqn):
        return _bind(eqn, operands)


def _source(eqn: Any) -> Any:
    try:
        from jax._src import source_info_util

        if not source_info_util.summarize(eqn.source_info):
            return contextlib.nullcontext()
        return source_info_util.user_context(eqn.source_info.traceback)
    except (ImportError, AttributeError):
        return contextlib.nullcontext()


def _bind(eqn: Any, operands: list[Any]) -> list[Any]:
    name, params = eqn.primitive.name, eqn.primitive.get_bind_params(eqn.params)
    if name in ("argmax", "argmin"):  # lowered outside the scope that traced it, at 32 bits
        (axis,) = params["axes"]
        moved = jnp.moveaxis(operands[0] if name == "argmax" else -operands[0], axis, -1)
        return [jax.lax.top_k(moved, 1)[1][..., 0].astype(params["index_dtype"])]
    if name in ("scatter", "scatter-add"):  # holds a program for the precision it was traced at
        kept = ("indices_are_sorted", "unique_indices", "mode")
        fn: Any = jax.lax.scatter if name == "scatter" else jax.lax.scatter_add
        settings = {k: params[k] for k in kept}
        return [fn(*operands, params["dimension_numbers"], **settings)]
    out = eqn.primitive.bind(*operands, **params)
    return list(out) if eqn.primitive.multiple_results else [out]


def _inline(eqn: Any, operands: list[Any], through: bool) -> list[Any]:
    name = eqn.primitive.name
    if name == "stop_gradient" and through:
        return list(operands)

    def apply(e: Any, o: list[Any]) -> list[Any]:
        return _inline(e, o, through)

    if name == "cond":
        return branches_as_choice(eqn.params, operands, run, apply)
    if name == "while" and (count := rounds(eqn.params, operands, run, bind)) is not None:
        return as_scan(eqn.params, operands, count, run, apply)
    inner = inner_of(eqn)
    if inner is None:
        return bind(eqn, operands)
    if not through:
        _own_derivative(eqn, inner)
    return run(inner.jaxpr, inner.consts, operands, apply)


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
      through: drop ``stop_gradient`` and derivatives written by hand, which change no value; else
        the former stays and the latter are refused, unless they are JAX's own.
    """

    def flat(*args: Any) -> list[Any]:
        return run(closed.jaxpr, closed.consts, list(args), inlined)

    def inlined(eqn: Any, operands: list[Any]) -> list[Any]:
        with _source(eqn):  # what JAX's own functions hold inside takes the line of their call
            return _inline(eqn, operands, through)

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
        key = None if eqn.primitive.name in CARRYING else _key(eqn, names)
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


def scan_counts(params: Any) -> tuple[int, int]:
    """How many of a scan's operands are constants of its body, and how many are its carry."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()  # from JAX 0.12 on
    return len(consts), len(carry)


def settle(flags: list[bool], after: Callable[[list[bool]], list[bool]]) -> list[bool]:
    """Which carries of a loop depend on the inputs: one that does after a round counts throughout.

    Args:
      flags: of the carries before the first round.
      after: theirs after one round, from those before it.
    """
    while True:
        new = after(flags)
        if all(f or not n for f, n in zip(flags, new, strict=True)):
            return flags
        flags = [f or n for f, n in zip(flags, new, strict=True)]
