"""Lifting changes neither values nor derivatives, and recognises what it promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmx_jax.certify import act, lift
from mmx_jax.errors import InputError

RNGS = nnx.Rngs(0)
CONV = nnx.Conv(6, 3, (3,), rngs=RNGS)
RAW = {"tanh", "logistic", "exp", "log", "erf", "erfc", "rsqrt", "sqrt", "max", "select_n", "div"}
FUNCTIONS = {
    "relu": jax.nn.relu,
    "leaky": lambda x: jax.nn.leaky_relu(x, 0.2),
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "gelu": jax.nn.gelu,
    "exact gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "softmax": jax.nn.softmax,
    "softmax over rows": lambda x: jax.nn.softmax(x, 0),
    "log-softmax": jax.nn.log_softmax,
    "logsumexp": lambda x: jax.scipy.special.logsumexp(x, -1),
    "where": lambda x: jnp.where(x > 0, x, 0.0),
    "ratio": lambda x: x / jnp.sqrt(jnp.sum(x**2) + 1),
    "maximum": lambda x: jnp.maximum(x, x[::-1]),
    "max pooling": lambda x: nnx.max_pool(x[None, :, :, None], (2, 2), (2, 2)),
    "average pooling": lambda x: nnx.avg_pool(x[None, :, :, None], (2, 2), (2, 2)),
    "layer norm": nnx.LayerNorm(6, rngs=RNGS),
    "rms norm": nnx.RMSNorm(6, rngs=RNGS),
    "attention": nnx.MultiHeadAttention(2, 6, decode=False, rngs=RNGS),
    "convolution": lambda x: CONV(x[None]),
    "scan": lambda x: jax.lax.scan(lambda c, r: (jnp.tanh(c + r), jnp.tanh(c)), x[0], x)[1],
}


@pytest.mark.fast
@pytest.mark.parametrize("name", FUNCTIONS)
def test_lifting_keeps_values_and_derivatives(name):
    x = {"x": jax.random.normal(jax.random.key(1), (4, 6))}

    def model(inputs):
        return jnp.ravel(FUNCTIONS[name](inputs["x"]))

    lifted = lift(model, x)
    names = {e.primitive.name for e in lifted.program.eqns}
    constant = {"div"} if name not in ("ratio",) else set()  # division by a constant stays
    assert not names & (RAW - constant)

    def scalar(f):
        return lambda d: jnp.sum(jnp.sin(f(d)))

    ones = jax.tree.map(jnp.ones_like, x)
    for look in (
        lambda f: f(x),
        lambda f: jax.grad(scalar(f))(x)["x"],
        lambda f: jax.jvp(jax.grad(scalar(f)), (x,), (ones,))[1]["x"],
    ):
        np.testing.assert_allclose(look(lifted), look(model), rtol=1e-4, atol=1e-5)


def test_a_shift_that_is_added_elsewhere_is_no_logsumexp():
    def model(inputs):
        x = inputs["x"].reshape(4, 3)
        top = jnp.max(x, 1)
        inside = jnp.log(jnp.sum(jnp.exp(x - top[:, None]), 1))
        return inside + top.reshape(2, 2).T.reshape(4)

    x = {"x": jnp.arange(12.0) / 3}
    np.testing.assert_allclose(lift(model, x)(x), model(x), rtol=1e-6)


def test_programs_in_half_precision_are_lifted():
    x = {"x": jnp.linspace(-1, 1, 4, dtype=jnp.bfloat16)}
    lifted = lift(lambda inputs: jax.nn.silu(inputs["x"]), x)
    assert "logistic" not in {e.primitive.name for e in lifted.program.eqns}
    np.testing.assert_allclose(lifted(x), jax.nn.silu(x["x"]), rtol=0.02)


def test_weights_stay_leaves_and_shapes_are_checked():
    model = jax.tree_util.Partial(lambda w, d: jnp.tanh(d["x"] @ w), jnp.ones((3, 2)))
    lifted = lift(model, {"x": jnp.zeros(3)})
    assert any(np.shape(leaf) == (3, 2) for leaf in jax.tree.leaves(lifted))
    doubled = jax.tree.map(lambda leaf: 2 * leaf, lifted)
    x = {"x": jnp.ones(3)}
    np.testing.assert_allclose(doubled(x), jnp.tanh(jnp.full(2, 6.0)))
    with pytest.raises(InputError, match="lifted for"):
        lifted({"x": jnp.ones(4)})


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "gelu", "gelu_tanh", "silu", "softplus"])
def test_derivatives_of_every_order(name):
    with jax.enable_x64(True):
        x = jnp.linspace(-6, 6, 101)
        fn = {
            "tanh": jnp.tanh,
            "sigmoid": jax.nn.sigmoid,
            "gelu": lambda v: jax.nn.gelu(v, approximate=False),
            "gelu_tanh": jax.nn.gelu,
            "silu": jax.nn.silu,
            "softplus": jax.nn.softplus,
        }[name]
        for order in range(5):
            np.testing.assert_allclose(act(x, name, order), jax.vmap(fn)(x), rtol=1e-9, atol=1e-9)
            fn = jax.grad(lambda v, f=fn: f(v))
