"""Statistical certificates against exact enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax.certify import statistical as s
from mmx_jax.errors import InputError


def test_soft_stability_estimates_the_exact_share(key):
    kept = jnp.array([True, False, False, False, False])

    def predict(gate):
        return (jnp.sum(gate[3:]) >= 1).astype(jnp.int32)

    radii = jnp.array([0, 1, 2, 4])
    result = s.soft_stability(predict, kept, radii, key, error=0.04, failure=0.01)
    for r, rate in zip(radii.tolist(), result.rate, strict=True):
        sets = [c for k in range(r + 1) for c in itertools.combinations(range(1, 5), k)]
        exact = np.mean([not {3, 4} & set(c) for c in sets])
        assert abs(exact - rate) <= 0.04


def test_multiplicative_smoothing_is_lipschitz_in_the_gate(key):
    weights = jnp.array([2.0, -1.0, 0.5, 3.0])

    def predict(gate):
        p = (jnp.dot(gate, weights) > 1.0).astype(jnp.float32)
        return jnp.stack([p, 1 - p])

    gates = jnp.array(list(itertools.product([0.0, 1.0], repeat=4)))
    for seed in range(5):
        smooth = jax.vmap(
            lambda g, seed=seed: s.smooth_multiplicatively(
                predict, g, 0.25, jax.random.key(seed), levels=16
            )
        )(gates)
        gap = jnp.abs(smooth[:, None] - smooth[None]).max(-1)
        apart = jnp.abs(gates[:, None] - gates[None]).sum(-1)
        assert jnp.all(gap <= 0.25 * apart + 1e-6)


def test_bad_rates_are_refused(key):
    with pytest.raises(InputError, match="multiple"):
        s.smooth_multiplicatively(lambda g: g, jnp.ones(2), 0.3, key)
    with pytest.raises(InputError, match="error"):
        s.stability_samples(0.0, 0.1)
