"""Rewrites a model so that every nonlinearity is one node, before it is differentiated.

JAX writes tanh' as products of (1 - y) and (1 + y), gelu as a polynomial inside tanh, softmax as
exponentials over their sum: bounds of these pieces forget that they share their argument.
:func:`lift` traces the model once, recognises the pieces by structure, and returns a model whose
ordinary ``jax.grad`` and ``jax.jvp`` keep sigma' and sigma'' as single nodes.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from mmx_jax.certify.activations import act
from mmx_jax.certify.graph import bind, flatten, run, trace
from mmx_jax.certify.maxima import highest, maximum, windows
from mmx_jax.certify.recognise import (
    match_log_softmax,
    match_logsumexp,
    match_softmax,
    match_variance,
)
from mmx_jax.certify.softmax import logsumexp
from mmx_jax.certify.templates import Matcher, literal
from mmx_jax.errors import InputError
from mmx_jax.typing import Inputs, record, static

__all__ = ["LiftedModel", "lift", "rewrite"]

DIRECT = {
    "tanh": ("tanh", 0.0),
    "logistic": ("sigmoid", 0.0),
    "exp": ("exp", 0.0),
    "log": ("log", 0.0),
    "log1p": ("log1p", 0.0),
    "expm1": ("expm1", 0.0),
    "erf": ("erf", 0.0),
    "sin": ("sin", 0.0),
    "cos": ("cos", 0.0),
    "sqrt": ("power", 0.5),
    "rsqrt": ("power", -0.5),
    "square": ("power", 2.0),
    "abs": ("leaky_relu", -1.0),
}


@record
class LiftedModel:
    """A model as a flat program whose nonlinearities are single nodes; weights are leaves.

    Attributes:
      weights: of the original model, and the constants that its function closes over.
      program: the jaxpr.
      structure: of the inputs, and their shapes.
      out: structure of the outputs.
    """

    weights: Any
    program: Any = static()
    structure: Any = static()
    out: Any = static()

    def __call__(self, inputs: Inputs) -> Any:
        """Outputs of one example, as the original model gives them."""
        leaves, structure = jax.tree.flatten(inputs)
        shapes = tuple(np.shape(leaf) for leaf in leaves)
        if (structure, shapes) != self.structure:
            raise InputError(
                "inputs",
                f"have shapes {shapes}, but the model was lifted for {self.structure[1]}",
                "lift it with inputs of the shapes it is called with",
            )
        constants, arguments = self.weights
        outs = run(self.program, constants, [*arguments, *leaves], bind)
        return jax.tree.unflatten(self.out, outs)


def lift(model: Callable[[Inputs], Any], inputs: Inputs) -> LiftedModel:
    """The same model with every recognised nonlinearity as one ``act`` node.

    Values and derivatives are those of the original to rounding. Recognised are relu and leaky
    relu, elu, tanh, sigmoid, both gelus, silu, softplus, exp, log, powers, sines, erf, division,
    maximum and minimum, softmax, log-softmax, logsumexp, and the variance of a layer norm.

    Args:
      model: a callable pytree (weights stay leaves) or a plain function of one example's inputs.
      inputs: of the shapes and dtypes that the model will be called with.
    """
    if not callable(model):
        raise InputError("model", f"is {type(model).__name__}", "pass a function of the inputs")
    whole = jax.tree_util.all_leaves([model])
    weights, structure = ([], None) if whole else jax.tree.flatten(model)
    leaves, layout = jax.tree.flatten(inputs)

    def call(weights: list[Any], leaves: list[Any]) -> Any:
        fn: Any = model if structure is None else jax.tree.unflatten(structure, weights)
        return fn(jax.tree.unflatten(layout, leaves))

    closed, out = trace(call, weights, leaves)
    lifted = rewrite(flatten(closed, through=False))
    constants = list(lifted.consts)
    shapes = tuple(np.shape(leaf) for leaf in leaves)
    return LiftedModel((constants, list(weights)), lifted.jaxpr, (layout, shapes), out)


def rewrite(closed: Any, through: bool = False) -> Any:
    """A flat program with its nonlinear pieces replaced by single nodes; see :func:`flatten`."""
    matcher = Matcher(closed.jaxpr)

    def lifted(*args: Any) -> list[Any]:
        values: dict[Any, Any] = {}
        jaxpr = closed.jaxpr

        def read(atom: Any) -> Any:
            return atom.val if isinstance(atom, core.Literal) else values[atom]

        values.update(zip(jaxpr.constvars, closed.consts, strict=True))
        values.update(zip(jaxpr.invars, args, strict=True))
        for eqn in jaxpr.eqns:
            new = _replace(eqn, matcher, read)
            outs = (
                bind(_inner(eqn, through), [read(a) for a in eqn.invars]) if new is None else [new]
            )
            values.update(zip(eqn.outvars, outs, strict=True))
        return [read(a) for a in jaxpr.outvars]

    shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in closed.jaxpr.invars]
    return flatten(jax.make_jaxpr(lifted)(*shapes), through)


def _inner(eqn: Any, through: bool) -> Any:
    """An equation with its body rewritten too, where it is a scan."""
    if eqn.primitive.name != "scan":
        return eqn
    body = rewrite(flatten(eqn.params["jaxpr"], through), through)
    if body.consts:  # the body's constants must stay where the scan expects them
        return eqn
    return eqn.replace(params=eqn.params | {"jaxpr": body})


def _replace(eqn: Any, matcher: Matcher, read: Callable[[Any], Any]) -> Any:
    """The value of the equation's result by a single node, or None to leave it as it is."""
    if len(eqn.outvars) != 1 or all(isinstance(a, core.Literal) for a in eqn.invars):
        return None
    if not jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.floating):
        return None
    if (fused := _fused(eqn, matcher, read)) is not None:
        return fused
    if (found := matcher.find(eqn)) is not None:
        kind, parameter, argument = found
        return act(read(argument), kind, 0, parameter)
    single = _SINGLE.get(eqn.primitive.name)
    return None if single is None else single(eqn, matcher, read)


def _fused(eqn: Any, matcher: Matcher, read: Callable[[Any], Any]) -> Any:
    """Softmax and its kin, and the variance of a layer norm; None for anything else."""
    name, out = eqn.primitive.name, None
    if name == "div" and (found := match_softmax(eqn, matcher)) is not None:
        z = read(found[0])
        out = act(z - logsumexp(z, found[1]), "exp")
    elif name == "sub" and (found := match_log_softmax(eqn, matcher)) is not None:
        z = read(found[0])
        out = z - logsumexp(z, found[1])
    elif name == "add" and (found := match_logsumexp(eqn, matcher)) is not None:
        out = logsumexp(read(found[0]), found[1])
        out = out if found[2] else jnp.squeeze(out, found[1])
    elif name == "max" and (found := match_variance(eqn, matcher)) is not None:
        x, axes = read(found[0]), found[1]
        centered = x - jnp.mean(x, axes, keepdims=True)
        out = jnp.mean(act(centered, "power", 0, 2.0), axes)
    return out


def _direct(eqn: Any, matcher: Matcher, read: Callable[[Any], Any]) -> Any:
    del matcher
    kind, parameter = DIRECT[eqn.primitive.name]
    return act(read(eqn.invars[0]), kind, 0, parameter)


def _pow(eqn: Any, matcher: Matcher, read: Callable[[Any], Any]) -> Any:
    exponent = literal(eqn.invars[1], matcher.producers)
    return None if exponent is None else act(read(eqn.invars[0]), "power", 0, exponent)


def _divide(eqn: Any, matcher: Matcher, read: Callable[[Any], Any]) -> Any:
    if literal(eqn.invars[1], matcher.producers) is not None:
        return None
    return read(eqn.invars[0]) * act(read(eqn.invars[1]), "power", 0, -1.0)


def _pool(eqn: Any, matcher: Matcher, read: Callable[[Any], Any]) -> Any:
    del matcher
    entries = windows(eqn, read)
    return None if entries is None else highest(entries, (0,))


_SINGLE: dict[str, Callable[..., Any]] = {name: _direct for name in DIRECT} | {
    "integer_pow": lambda e, m, read: act(read(e.invars[0]), "power", 0, float(e.params["y"])),
    "erfc": lambda e, m, read: 1 - act(read(e.invars[0]), "erf"),
    "pow": _pow,
    "div": _divide,
    "max": lambda e, m, read: maximum(*map(read, e.invars)),
    "min": lambda e, m, read: -maximum(*[-read(a) for a in e.invars]),
    "reduce_max": lambda e, m, read: highest(read(e.invars[0]), tuple(e.params["axes"])),
    "reduce_min": lambda e, m, read: -highest(-read(e.invars[0]), tuple(e.params["axes"])),
    "reduce_window_max": _pool,
}
