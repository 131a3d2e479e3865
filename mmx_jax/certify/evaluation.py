"""Values of a program in float64: of what depends on the inputs, and of its constants."""

from typing import Any

import jax
import jax.numpy as jnp

from mmx_jax.certify.graph import bind, flatten, run, scan_counts, settle

__all__ = ["evaluate", "still", "wide"]


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


_NAMES = (
    "abs acos acosh act add add_any asin asinh atan atan2 atanh broadcast_in_dim cbrt ceil "
    "clamp concatenate conv_general_dilated copy cos cosh cumlogsumexp cummax cummin cumprod "
    "cumsum digamma div dot_general dynamic_slice dynamic_update_slice erf erf_inv erfc exp "
    "exp2 expand_dims expm1 floor gather integer_pow lgamma log log1p logistic logsumexp max "
    "min mul neg pad pow reduce_max reduce_min reduce_prod reduce_sum reduce_window_sum rem "
    "reshape rev round rsqrt scatter scatter-add select_n sign sin sinh slice split sqrt "
    "square squeeze stack sub tan tanh transpose unstack"
)
PLAIN = frozenset(_NAMES.split())
"""Operations that constants go through in float64."""


def still(eqn: Any, operands: list[Any]) -> list[Any]:
    """Runs an equation that does not depend on the inputs, in float64 where it is arithmetic.

    At the caller's precision two passes over a program may round its constants differently, by
    more than their margins.
    """
    name = eqn.primitive.name
    if name == "scan":
        return _scan(eqn.params, operands)
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
    """A scan in float64; a carry depends on the inputs once it meets what does in the body."""
    body = flatten(params["jaxpr"])
    nc, ni = scan_counts(params)
    consts, carry, xs = operands[:nc], operands[nc : nc + ni], operands[nc + ni :]
    plain = [o.value if isinstance(o, Real) else wide(o) for o in (*carry, *xs)]
    apart = [isinstance(o, Real) for o in xs]
    found: list[bool] = []

    def outs_of(flags: list[bool], state: Any, x: Any) -> list[Any]:
        nonlocal found
        dependent = (*flags, *apart)
        mixed = [Real(v) if f else v for v, f in zip((*state, *x), dependent, strict=True)]
        outs = run(body.jaxpr, body.consts, [*consts, *mixed], _step)
        found = [isinstance(o, Real) for o in outs]
        return [o.value if isinstance(o, Real) else wide(o) for o in outs]

    def after(flags: list[bool]) -> list[bool]:
        first = [jax.ShapeDtypeStruct(jnp.shape(v)[1:], jnp.result_type(v)) for v in plain[ni:]]
        jax.eval_shape(lambda state, x: outs_of(flags, state, x), plain[:ni], first)
        return found[:ni]

    flags = settle([isinstance(o, Real) for o in carry], after)

    def step(state: Any, x: Any) -> Any:
        outs = outs_of(flags, state, x)
        return tuple(outs[:ni]), tuple(outs[ni:])

    state, ys = jax.lax.scan(
        step, tuple(plain[:ni]), tuple(plain[ni:]), params["length"], params["reverse"]
    )
    kinds = [*flags, *found[ni:]]
    return [Real(v) if f else v for v, f in zip((*state, *ys), kinds, strict=True)]


def evaluate(closed: Any, args: Any) -> list[Any]:
    """The program's results with everything that depends on the inputs computed in float64.

    Casts between real types are identities; constants keep the values of the caller's precision.
    """
    real = [Real(wide(a)) if _real(a) else a for a in args]
    outs = run(closed.jaxpr, closed.consts, real, _step)
    return [o.value if isinstance(o, Real) else wide(o) for o in outs]
