"""Runs a flat program on forms: a rule per primitive wherever an operand depends on the inputs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from mmx_jax.certify.affine import Form, Scope, align, linear_map
from mmx_jax.certify.composition import as_form
from mmx_jax.certify.decisions import DECISIONS
from mmx_jax.certify.evaluation import still
from mmx_jax.certify.graph import bind, run, source_of
from mmx_jax.certify.loops import scan_rule
from mmx_jax.certify.rounding import TINY, gamma, up
from mmx_jax.certify.rules import RULES
from mmx_jax.errors import InputError

__all__ = ["chooses", "interpret"]

MOVES = [
    "broadcast_in_dim",
    "copy",
    "dynamic_slice",
    "expand_dims",
    "gather",
    "reshape",
    "rev",
    "slice",
    "squeeze",
    "transpose",
]
"""Operations that move entries of their first operand, the others being constants."""


def interpret(scope: Scope, closed: Any, args: Any) -> list[Any]:
    """The results of a program of real outputs on forms and constants.

    Raises:
      InputError: an operation without a rule, with its source line and what is supported.
    """
    outs = run(closed.jaxpr, closed.consts, list(args), lambda e, o: _step(scope, e, o))
    return [as_form(out) for out in outs]  # some don't depend on the inputs at all


def chooses(jaxpr: Any, moving: Any = None) -> bool:
    """Whether a flat program may jump: its inputs enter an operation not known to be continuous.

    Its derivative does not show that, so the program itself must then be analysed too.
    """
    known = set(jaxpr.invars if moving is None else moving)
    for eqn in jaxpr.eqns:
        mine = [a for a in eqn.invars if not isinstance(a, core.Literal) and a in known]
        if not mine:
            continue
        name = eqn.primitive.name
        if name == "scan":
            if chooses(eqn.params["jaxpr"].jaxpr):
                return True
        elif name == "convert_element_type":
            kinds = mine[0].aval.dtype, eqn.params["new_dtype"]
            if jnp.issubdtype(kinds[0], jnp.floating) > jnp.issubdtype(kinds[1], jnp.floating):
                return True
        elif (name in DECISIONS or not (name in RULES or name in _STRUCTURAL)) and any(
            jnp.issubdtype(a.aval.dtype, jnp.floating) for a in mine
        ):  # integers depend on the inputs through a choice only, which is found by itself
            return True
        known.update(eqn.outvars)
    return False


def _step(scope: Scope, eqn: Any, operands: list[Any]) -> list[Any]:
    if not any(isinstance(o, Form) for o in operands):
        return still(eqn, operands)
    name = eqn.primitive.name
    if name == "scan":
        return scan_rule(scope, eqn.params, _step, operands)
    out: Any = None
    if name in RULES:
        out = RULES[name](scope, eqn.params, *operands)
    elif name in _STRUCTURAL:
        out = _STRUCTURAL[name](scope, eqn, *operands)
    elif name == "while":
        raise InputError(
            "fn",
            f"has a loop whose number of rounds is not fixed (at {source_of(eqn)})",
            "use jax.lax.scan, or bounds that are plain numbers",
        )
    else:
        raise InputError(
            "fn",
            f"or its derivative uses {name!r} (at {source_of(eqn)}), which has no rule",
            "add one with certify.add_rule, or avoid it; there are rules for "
            + ", ".join(sorted([*RULES, *_STRUCTURAL])),
        )
    return list(out) if eqn.primitive.multiple_results else [out]


def _move(scope: Scope, eqn: Any, x: Any, *rest: Any) -> Form:
    del scope
    if not isinstance(x, Form) or any(isinstance(r, Form) for r in rest):
        raise InputError(
            "fn",
            f"indexes with values that depend on its inputs (at {source_of(eqn)})",
            "use constant indices",
        )
    return linear_map(x, lambda v: bind(eqn, [v, *rest])[0])


def _round(scope: Scope, eqn: Any, x: Form) -> Form:
    """Rounding steps of the program: what is certified is the function in real arithmetic."""
    del scope, eqn
    return x


def _split(scope: Scope, eqn: Any, x: Form) -> list[Form]:
    del scope
    return [linear_map(x, lambda v, i=i: bind(eqn, [v])[i]) for i in range(len(eqn.outvars))]


def _sum(scope: Scope, eqn: Any, x: Form) -> Form:
    del scope
    terms = int(np.prod([x.shape[a] for a in eqn.params["axes"]]))
    return linear_map(x, lambda v: bind(eqn, [v])[0], None, terms)


def _cast(scope: Scope, eqn: Any, x: Form) -> Form:
    del scope
    if not jnp.issubdtype(eqn.params["new_dtype"], jnp.floating):
        raise InputError(
            "fn",
            f"casts a value that depends on its inputs to {eqn.params['new_dtype']} "
            f"(at {source_of(eqn)})",
            "leave it real",
        )
    return x


def _together(scope: Scope, eqn: Any, *operands: Any) -> Form:
    """Operations linear in all real operands together, each entry a sum of few of them."""
    del scope
    if eqn.primitive.name == "scatter" and not eqn.params["unique_indices"]:
        where = np.shape(operands[1])
        if np.prod(where[:-1]) > 1:
            raise InputError(
                "fn",
                f"writes to places that may coincide (at {source_of(eqn)})",
                "write .at[...].set(..., unique_indices=True)",
            )
    places = [i for i, o in enumerate(operands) if _real(o)]
    if any(isinstance(o, Form) and not _real(o) for o in operands):
        raise InputError("fn", f"indexes with its inputs (at {source_of(eqn)})", "use constants")
    forms = align(*[as_form(operands[i]) for i in places])

    def apply(*values: Any) -> Any:
        full = list(operands)
        for place, value in zip(places, values, strict=True):
            full[place] = value
        return bind(eqn, full)[0]

    rows = jax.vmap(apply)(*[f.rows for f in forms])
    err = jax.vmap(apply)(*[f.err for f in forms])
    if eqn.primitive.name == "scatter-add":
        terms = int(np.prod(forms[-1].shape)) + 1
        loss = gamma(terms) * (err[1] + TINY)
        err = up(err, terms).at[jnp.array([0, 2])].add(loss)
    first = forms[0]
    return Form(rows, err, first.degree, first.dim, first.noise)


def _running(scope: Scope, eqn: Any, x: Form) -> Form:
    """Running and windowed sums."""
    del scope
    terms = int(np.prod(x.shape))
    return linear_map(x, lambda v: bind(eqn, [v])[0], None, terms)


def _real(x: Any) -> bool:
    return isinstance(x, Form) or jnp.issubdtype(jnp.result_type(x), jnp.floating)


_STRUCTURAL = (
    {name: _move for name in MOVES}
    | {
        "reduce_sum": _sum,
        "split": _split,
        "unstack": _split,
        "convert_element_type": _cast,
        "reduce_precision": _round,
    }
    | {name: _running for name in ("cumsum", "reduce_window_sum")}
    | {
        name: _together
        for name in (
            "concatenate",
            "dynamic_update_slice",
            "pad",
            "scatter",
            "scatter-add",
            "stack",
        )
    }
)
