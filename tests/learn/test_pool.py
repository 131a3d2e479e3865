import jax
import jax.numpy as jnp
import numpy as np

from mmx_jax.learn.losses import interactions
from mmx_jax.learn.objectives import Desiderata, gather_pool


def test_rows_of_a_pool_are_judged_by_the_evidence_that_was_gathered_once(
    gates, model, sample, truth
):
    inputs, _ = sample(jax.random.key(0), 6)
    targets = np.array([0, 1, 0, 1, 1, 0], np.int32)
    pool = gather_pool(gates, model, inputs, targets, jax.random.key(1), pairs=1)
    some, rows = pool(jax.random.key(2), 4)
    for name, leaf in some.items():
        np.testing.assert_array_equal(leaf, inputs[name][rows])

    def network(x, target):
        return jax.tree.map(lambda s: 0.5 * jnp.where(target == 1, s, -s), truth(x))

    @jax.jit
    def losses(pool, model):
        # neither the target nor the model is what counts for rows of a pool
        keys, other = jax.random.split(jax.random.key(3), 4), jnp.zeros(4, jnp.int32)
        objective = Desiderata(gates, model, jnp.ones(()), pool, faithful_thinning=4)
        return objective(network, some, rows, other, keys)

    effects = jax.vmap(lambda e: interactions(e, ["x", "y"]))(
        jax.tree.map(lambda leaf: leaf[rows], pool.evidence)
    )
    found = losses(pool, model)

    def change(x, n, m):
        gone = truth(x | {m: jnp.zeros_like(x[m])})
        return jnp.sum(jnp.abs(truth(x)[n] - gone[n]))

    for kind, pairs in (("own", ("xx", "yy")), ("cross", ("xy", "yx"))):
        missing = []
        for n, m in pairs:
            demanded = 0.97 * effects[n if n == m else f"{n}<-{m}"]
            half = 0.5 * jax.vmap(lambda x, n=n, m=m: change(x, n, m))(some)
            missing.append(np.maximum(0.0, demanded - half))
        assert np.max(missing) > 0.1
        np.testing.assert_allclose(found[f"under_{kind}"], np.mean(missing), rtol=1e-4)
