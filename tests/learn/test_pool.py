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
    for kind, names in (("own", ["x", "y"]), ("cross", ["x<-y", "y<-x"])):
        # half of the truth misses .97 - .5 of every effect
        missing = 0.47 * np.mean([effects[n] for n in names])
        np.testing.assert_allclose(found[f"under_{kind}"], missing, rtol=1e-4)
