"""Loops whose number of rounds is fixed by the program, as scans; branches as choices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend import core

__all__ = ["as_scan", "branches_as_choice", "rounds"]

LIMIT = 100_000
"""Loops of more rounds are not counted."""


def _parts(params: Any, operands: Any) -> tuple[list[Any], list[Any], list[Any]]:
    a, b = params["cond_nconsts"], params["body_nconsts"]
    return list(operands[:a]), list(operands[a : a + b]), list(operands[a + b :])


def _needs(jaxpr: Any, outvars: Any) -> tuple[list[Any], set[Any]]:
    """The equations that some results need, and the variables that enter these."""
    needed = {a for a in outvars if not isinstance(a, core.Literal)}
    kept = []
    for eqn in reversed(jaxpr.eqns):
        if any(v in needed for v in eqn.outvars):
            kept.append(eqn)
            needed |= {a for a in eqn.invars if not isinstance(a, core.Literal)}
    return kept[::-1], needed


def rounds(params: Any, operands: Any, run: Any, bind: Any) -> int | None:
    """How often a ``while`` loop turns, where that depends on nothing but known numbers.

    Args:
      params: of the loop.
      operands: its constants and initial carry; tracers are unknown.
      run: evaluates a jaxpr.
      bind: evaluates an equation.
    """
    cond, body = params["cond_jaxpr"], params["body_jaxpr"]
    cond_consts, body_consts, carry = _parts(params, operands)
    _, tested = _needs(cond.jaxpr, cond.jaxpr.outvars)
    state_in = cond.jaxpr.invars[len(cond_consts) :]
    places = {i for i, v in enumerate(state_in) if v in tested}
    body_in = body.jaxpr.invars
    while True:
        eqns, used = _needs(body.jaxpr, [body.jaxpr.outvars[i] for i in places])
        more = {i for i, v in enumerate(body_in[len(body_consts) :]) if v in used}
        if more <= places:
            break
        places |= more
    entering = [c for c, v in zip(body_consts, body_in, strict=False) if v in used]
    entering += [c for c, v in zip(cond_consts, cond.jaxpr.invars, strict=False) if v in tested]
    entering += [carry[i] for i in places]
    if any(isinstance(v, Tracer) for v in entering):
        return None
    step = body.jaxpr.replace(eqns=eqns, outvars=[body.jaxpr.outvars[i] for i in sorted(places)])
    with jax.ensure_compile_time_eval():
        for count in range(LIMIT):
            (go,) = run(cond.jaxpr, cond.consts, [*cond_consts, *carry], bind)
            if np.ndim(go) or not bool(go):
                return None if np.ndim(go) else count
            new = run(step, body.consts, [*body_consts, *carry], bind)
            for i, value in zip(sorted(places), new, strict=True):
                carry[i] = value
    return None


def as_scan(params: Any, operands: Any, count: int, run: Any, apply: Any) -> list[Any]:
    """The loop's results by a scan of ``count`` rounds."""
    body = params["body_jaxpr"]
    _, consts, carry = _parts(params, operands)

    def step(state: Any, _: Any) -> tuple[Any, None]:
        return tuple(run(body.jaxpr, body.consts, [*consts, *state], apply)), None

    start = tuple(
        jnp.asarray(c, v.aval.dtype)
        for c, v in zip(carry, body.jaxpr.invars[len(consts) :], strict=True)
    )
    return list(jax.lax.scan(step, start, None, length=count)[0])


def branches_as_choice(params: Any, operands: Any, run: Any, apply: Any) -> list[Any]:
    """The results of every branch of a ``cond``, and of them those that its index chooses."""
    index, *rest = operands
    branches = params["branches"]
    results = [run(b.jaxpr, b.consts, rest, apply) for b in branches]
    which = jnp.clip(jnp.asarray(index, jnp.int32), 0, len(branches) - 1)
    if len(branches) == 1:
        return results[0]
    if len(branches) == 2:
        which = which == 1
    return [
        jax.lax.select_n(which, *[jnp.asarray(c, v.aval.dtype) for c in cases])
        for v, *cases in zip(branches[0].jaxpr.outvars, *results, strict=True)
    ]
