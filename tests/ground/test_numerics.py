"""Numerics: norms, power iteration, rates and keys."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmx_jax import numerics
from mmx_jax.errors import InputError


def test_power_iteration_equals_a_full_svd(x64, key):
    def fn(x):
        return {"y": jnp.tanh(x["a"] @ jnp.arange(12.0).reshape(3, 4)), "z": x["b"] ** 2}

    x = {"a": jax.random.normal(key, (3,)) / 10, "b": jnp.array([0.3, -2.0])}
    flat, unravel = jax.flatten_util.ravel_pytree(x)
    jacobian = jax.jacrev(lambda v: jax.flatten_util.ravel_pytree(fn(unravel(v)))[0])(flat)
    found, direction = numerics.spectral_norm(fn, x, key, steps=200)
    assert np.isclose(found, np.linalg.svd(jacobian, compute_uv=False)[0], rtol=1e-9)
    assert np.isclose(numerics.safe_norm(direction), 1)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 30), st.integers(0, 999))
def test_power_iteration_never_overstates(m, n, steps, seed):
    a = np.random.default_rng(seed).normal(size=(m, n)).astype(np.float32)
    found, _ = numerics.spectral_norm(lambda x: a @ x, jnp.zeros(n), jax.random.key(seed), steps)
    assert found <= np.linalg.norm(a, 2) * (1 + 1e-5)


def test_constant_functions_have_norm_zero(key):
    found, _ = numerics.spectral_norm(lambda x: jnp.zeros(3), jnp.ones(2), key)
    assert found == 0


@pytest.mark.parametrize("order", [1, 2, np.inf])
def test_norms_and_their_gradients(order):
    tree = {"a": jnp.array([3.0, -4.0]), "b": jnp.array([[1.0]])}
    assert np.isclose(numerics.safe_norm(tree, order), np.linalg.norm([3, -4, 1], order))
    gradient = jax.grad(lambda t: numerics.safe_norm(t, order))(jax.tree.map(jnp.zeros_like, tree))
    chex.assert_trees_all_close(gradient["b"], jnp.zeros((1, 1)))


def test_norms_neither_overflow_nor_vanish():
    assert np.isclose(numerics.safe_norm(jnp.full(4, 1e30)), 2e30)
    assert np.isclose(numerics.safe_norm(jnp.full(4, 1e-30)), 2e-30)


def test_an_unknown_norm():
    with pytest.raises(InputError, match="1, 2 or inf"):
        numerics.safe_norm(jnp.ones(2), 3)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=12), st.integers(0, 99))
def test_spearman_is_scipys(values, seed):
    x = np.array(values, np.float32)
    y = np.random.default_rng(seed).integers(0, 4, len(x)).astype(np.float32)
    ours = float(numerics.spearman(jnp.asarray(x), jnp.asarray(y)))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert np.isnan(ours)
    else:
        assert np.isclose(ours, stats.spearmanr(x, y).statistic, atol=1e-5)
        masked = numerics.spearman(
            jnp.append(x, 9.0), jnp.append(y, -9.0), jnp.append(jnp.ones(len(x), bool), False)
        )
        assert np.isclose(ours, masked, atol=1e-5)


# Clopper and Pearson's exact intervals, as tabulated for 10 trials at 95 %
@pytest.mark.parametrize(
    ("successes", "low", "high"), [(0, 0, 0.3085), (1, 0.0025, 0.4450), (5, 0.1871, 0.8129)]
)
def test_clopper_pearson(successes, low, high):
    assert np.allclose(numerics.clopper_pearson(successes, 10), (low, high), atol=5e-5)


def test_clopper_pearson_without_trials_says_nothing():
    assert numerics.clopper_pearson(0, 0) == (0.0, 1.0)
    with pytest.raises(InputError, match="successes"):
        numerics.clopper_pearson(3, 2)


def test_keys_follow_one_rule():
    rows = numerics.derive_keys(7, "explain", 4, start=2)
    for i in range(4):
        chex.assert_trees_all_equal(
            jax.random.key_data(rows[i]),
            jax.random.key_data(numerics.derive_key(7, "explain", 2 + i)),
        )
    other = numerics.derive_key(7, "perturb", 2)
    assert (jax.random.key_data(rows[0]) != jax.random.key_data(other)).any()


def test_partition_and_combine():
    tree = {"ids": jnp.arange(3), "graph": {"x": jnp.ones(2)}}
    real, rest = numerics.partition(tree)
    assert real["ids"] is None
    chex.assert_trees_all_equal(numerics.combine(real, rest), tree)


def test_division_by_zero_is_named_and_differentiable():
    assert numerics.safe_divide(jnp.array(1.0), jnp.array(0.0), 5.0) == 5.0
    assert jax.grad(lambda d: numerics.safe_divide(jnp.array(1.0), d, 0.0))(0.0) == 0


def test_spearman_of_tables_is_scipys_and_nan_is_never_ranked():
    x, y = np.array([3.0, 1.0, 2.0, 2.0]), np.array([1.0, 2.0, 4.0, 4.5])
    assert numerics.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert np.isnan(numerics.spearman(x, np.ones(4)))
    holed = np.array([3.0, np.nan, 2.0, 2.0])
    keep = ~np.isnan(holed)
    for kind in (np.asarray, jnp.asarray):
        assert np.isnan(numerics.spearman(kind(holed), kind(y)))
        some = numerics.spearman(kind(holed), kind(y), kind(keep))
        assert np.isclose(some, stats.spearmanr(x[keep], y[keep]).statistic, atol=1e-6)


def test_infinite_entries_are_not_tied_with_those_left_out():
    x, keep = jnp.array([1.0, 2.0, jnp.inf, 0.0]), jnp.array([True, True, True, False])
    assert np.isclose(numerics.spearman(x, jnp.array([1.0, 2.0, 3.0, 9.0]), keep), 1)
