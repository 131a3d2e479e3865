import jax
import jax.numpy as jnp
import numpy as np

from mmx_jax.learn import hold_out
from mmx_jax.typing import record, static


@record
class Scaled:
    """The truth times a factor, or that of another unit."""

    factor: jax.Array
    truth: object = static()
    shifted: bool = static(default=False)

    @property
    def evaluations(self):
        return 0

    def __call__(self, model, inputs, target, key=None):
        scores = self.truth(inputs)
        if self.shifted:
            scores = jax.tree.map(lambda s: jnp.roll(s, 1), scores)
        return jax.tree.map(lambda s: self.factor * s, scores)


def test_the_truth_scores_best_and_scales_do_not_count(gates, model, sample, truth):
    inputs, _ = sample(jax.random.key(0), 24)
    outputs = jax.vmap(model)(inputs)[:, 1]
    spread = float(outputs.max() - outputs.min())
    held = hold_out(gates, model, inputs, np.ones(24, np.int32), spread, sets=2)
    one, hundred = (held(Scaled(jnp.asarray(f), truth)) for f in (1.0, 100.0))
    for name, figure in one.items():
        if name != "scale":
            np.testing.assert_allclose(hundred[name], figure, rtol=1e-3, err_msg=name)
    np.testing.assert_allclose([one["alpha"], one["cross_alpha"]], 1.0, atol=1e-3)
    assert one["over"] < 0.1  # opposing evidence of which few drawn sets show nothing
    assert one["slope"] > 0.1
    shifted = held(Scaled(jnp.ones(()), truth, shifted=True))
    np.testing.assert_allclose(shifted["alpha"], one["alpha"], rtol=1e-4)
    assert shifted["faithful"] < one["faithful"]
    assert shifted["quality"] < one["quality"]
