import jax
import jax.numpy as jnp
import numpy as np

from mmx_jax.explainers import ExactShapley
from mmx_jax.learn.published import CXPlain, FastSHAP


def batch(sample):
    inputs, labels = sample(jax.random.key(0), 4)
    return inputs, labels, jnp.ones(4, jnp.int32), jax.random.split(jax.random.key(1), 4)


def test_fastshap_is_minimal_at_the_shapley_values_of_one_game(gates, model, modalities, sample):
    inputs = batch(sample)[0]
    one = jax.tree.map(lambda x: jnp.repeat(x[:1], 400, 0), inputs)
    rows = jnp.ones(400, jnp.int32), jax.random.split(jax.random.key(2), 400)
    objective = FastSHAP(gates, model, jnp.ones(()), pairs=8)

    def loss(flat):
        def network(x, target):
            return {"x": flat[:3], "y": flat[3:]}

        losses = objective(network, one, rows[0], *rows)
        return losses["fastshap"] + 100 * losses["efficiency"]

    @jax.jit
    def minimum(zero):
        return -jnp.linalg.solve(jax.hessian(loss)(zero), jax.grad(loss)(zero))

    found = minimum(jnp.zeros(5))
    exact = ExactShapley(modalities)(model, jax.tree.map(lambda x: x[0], inputs), 1)
    np.testing.assert_allclose(found, jnp.concatenate([exact["x"], exact["y"]]), atol=0.06)


def test_cxplain_is_zero_at_the_shares_of_single_effects_and_positive_elsewhere(
    gates, model, sample
):
    rows = batch(sample)

    def single(x, target):
        intact = model(x)[target]
        return {
            n: jnp.stack([intact - model(x | {n: x[n].at[u].set(0)})[target] for u in range(k)])
            for n, k in (("x", 3), ("y", 2))
        }

    def even(x, target):
        return jax.tree.map(jnp.ones_like, x)

    objective = CXPlain(gates, model)
    np.testing.assert_allclose(objective(single, *rows)["cxplain"], 0.0, atol=1e-3)
    assert float(objective(even, *rows)["cxplain"]) > 0.05
