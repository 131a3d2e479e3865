"""A rule that is wrong must be caught: each is broken in turn and must then fail to contain."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax.certify import act
from mmx_jax.certify.affine import Form, Scope
from mmx_jax.certify.decisions import DECISIONS
from mmx_jax.certify.evaluation import evaluate
from mmx_jax.certify.graph import flatten, trace
from mmx_jax.certify.interpret import _STRUCTURAL, interpret
from mmx_jax.certify.ranges import spread
from mmx_jax.certify.region import Region
from mmx_jax.certify.rules import RULES
from mmx_jax.certify.softmax import logsumexp

X = jnp.array([0.4, -0.2, 0.9, -0.7])
W = jnp.array(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)
PLACES = jnp.array([2, 0, 2])
NUMBERS = jax.lax.ScatterDimensionNumbers((), (0,), (0,))
CASES = {
    "abs": jnp.abs,
    "act": lambda v: act(v, "gelu", 1),
    "add": lambda v: v + v[::-1],
    "broadcast_in_dim": lambda v: jax.lax.broadcast(v, (2,)),
    "concatenate": lambda v: jnp.concatenate([v, v[:1]]),
    "conv_general_dilated": lambda v: jnp.convolve(v, W[:, 0]),
    "convert_element_type": lambda v: v.astype(jnp.float16),
    "cos": jnp.cos,
    "cumsum": jnp.cumsum,
    "div": lambda v: v / (3.0 + v[::-1]),
    "dot_general": lambda v: v @ W,
    "dynamic_slice": lambda v: jax.lax.dynamic_slice(v, (jnp.arange(3)[1],), (2,)),
    "dynamic_update_slice": lambda v: jax.lax.dynamic_update_slice(v, v[:1] * 2, (2,)),
    "erf": jax.lax.erf,
    "erfc": jax.lax.erfc,
    "exp": jnp.exp,
    "expm1": jnp.expm1,
    "gather": lambda v: v[PLACES],
    "integer_pow": lambda v: v**3,
    "log": lambda v: jnp.log(v + 2),
    "log1p": lambda v: jnp.log1p(v + 1),
    "logistic": jax.nn.sigmoid,
    "logsumexp": lambda v: logsumexp(v, (0,)),
    "max": lambda v: jnp.maximum(v, v[::-1]),
    "min": lambda v: jnp.minimum(v, v[::-1]),
    "mul": lambda v: v * v[::-1],
    "neg": jnp.negative,
    "pad": lambda v: jnp.pad(v, 1),
    "reduce_sum": jnp.sum,
    "reduce_window_sum": lambda v: jax.lax.reduce_window(v, 0.0, jax.lax.add, (2,), (1,), "VALID"),
    "reshape": lambda v: v.reshape(2, 2),
    "rev": lambda v: jax.lax.rev(v, (0,)),
    "rsqrt": lambda v: jax.lax.rsqrt(v + 2),
    "scatter": lambda v: jnp.zeros(4).at[PLACES[:2]].set(v[:2], unique_indices=True),
    "scatter-add": lambda v: jnp.zeros(4).at[PLACES].add(v[:3]),
    "select_n": lambda v: jnp.where(jnp.arange(4) > 1, v, 2 * v),
    "sin": lambda v: jnp.sin(3 * v),
    "slice": lambda v: jax.lax.slice(v, (1,), (3,)),
    "split": lambda v: jnp.concatenate(jnp.split(v, 2)[::-1]),
    "sqrt": lambda v: jnp.sqrt(v + 2),
    "square": jnp.square,
    "squeeze": lambda v: jax.lax.squeeze(v[:1], (0,)),
    "stack": lambda v: jnp.stack([v, v]),
    "sub": lambda v: v - v[::-1],
    "tanh": jnp.tanh,
    "triangular_solve": lambda v: jax.scipy.linalg.solve_triangular(
        jnp.tril(W @ W.T) + 2 * jnp.eye(4), v[:, None], trans=1, lower=True
    ),
    "transpose": lambda v: v.reshape(2, 2).T,
}
APART = {"add_any", "copy", "expand_dims", "reduce_precision", "unstack"}
"""The same under another name, operations that tracing drops, and rounding, which is looked
through: what is certified is the program in real arithmetic."""


def table_of(name):
    return RULES if name in RULES else _STRUCTURAL


def halved(rule):
    """The rule with everything around its center half as wide."""

    def shrink(out):
        if not isinstance(out, Form):
            return out
        err = out.err.at[jnp.array([0, 2])].multiply(0.5)
        return Form(out.rows.at[2:].multiply(0.5), err, out.degree, out.dim, out.noise)

    def wrong(*args):
        out = rule(*args)
        return [shrink(o) for o in out] if isinstance(out, list) else shrink(out)

    return wrong


def ranges(closed, degree):
    region = Region({"a": X}, 0.3, np.inf)
    scope = Scope(region.ball, degree, 0)
    (form,) = interpret(scope, closed, [region.form(degree)])
    return spread(form, scope)[2:]


@pytest.mark.parametrize("name", CASES)
def test_a_rule_that_claims_too_little_is_caught(name, monkeypatch):
    closed = flatten(trace(CASES[name], X)[0])
    assert name in {e.primitive.name for e in closed.jaxpr.eqns}
    rng = np.random.default_rng(0)
    u = np.concatenate([np.sign(rng.normal(size=(40, 4))), rng.uniform(-1, 1, (40, 4))])
    table = table_of(name)

    def look():
        right = ranges(closed, 1)
        monkeypatch.setitem(table, name, halved(table[name]))
        points = jnp.asarray(X, jnp.float64) + 0.3 * u
        return right, ranges(closed, 1), jax.vmap(lambda p: evaluate(closed, [p])[0])(points)

    with jax.enable_x64(True):
        (low, high), (less, more), values = jax.device_get(jax.jit(look)())
    values = np.asarray(values, np.float64)
    assert np.all((values >= low - 1e-12) & (values <= high + 1e-12))
    assert np.any((values < less - 1e-9) | (values > more + 1e-9))


def test_every_rule_has_a_case():
    assert set(CASES) | APART | set(DECISIONS) == set(RULES) | set(_STRUCTURAL)
