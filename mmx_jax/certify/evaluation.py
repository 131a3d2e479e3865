"""Values of a program in float64: of what depends on the inputs, and of its constants."""

from typing import Any

import jax
import jax.numpy as jnp

from mmx_jax.certify.graph import bind, flatten, run, scan_counts

__all__ = ["evaluate", "still"]


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


PLAIN = frozenset(
    [
        "abs",
        "act",
        "add",
        "add_any",
        "broadcast_in_dim",
        "concatenate",
        "conv_general_dilated",
        "cumsum",
        "div",
        "dot_general",
        "exp",
        "expand_dims",
        "gather",
        "integer_pow",
        "log",
        "logsumexp",
        "max",
        "min",
        "mul",
        "neg",
        "pad",
        "reduce_max",
        "reduce_sum",
        "reshape",
        "rev",
        "rsqrt",
        "scatter-add",
        "select_n",
        "slice",
        "split",
        "sqrt",
        "square",
        "squeeze",
        "sub",
        "tanh",
        "transpose",
    ]
)
"""Operations that constants go through in float64."""


def still(eqn: Any, operands: list[Any]) -> list[Any]:
    """Runs an equation that does not depend on the inputs, in float64 where it is arithmetic.

    At the caller's precision two passes over a program may round its constants differently, by
    more than their margins.
    """
    name = eqn.primitive.name
    if name == "convert_element_type" and _real(operands[0]):
        if jnp.issubdtype(eqn.params["new_dtype"], jnp.floating):
            return [wide(operands[0])]
    elif name in PLAIN:
        if eqn.params.get("preferred_element_type") is not None and _real(operands[0]):
            eqn = eqn.replace(params=eqn.params | {"preferred_element_type": None})
        return bind(eqn, [wide(o) for o in operands])
    typed = [
        jnp.asarray(o, v.aval.dtype) if _real(o) else o
        for o, v in zip(operands, eqn.invars, strict=True)
    ]
    return bind(eqn, typed)


def _step(eqn: Any, operands: list[Any]) -> list[Any]:
    if not any(isinstance(o, Real) for o in operands):
        return still(eqn, operands)
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
