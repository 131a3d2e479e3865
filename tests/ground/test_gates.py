"""Gates: hard and soft top-k, own sets, keep and remove."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmx_jax import gates
from mmx_jax.errors import InputError

SCORES = hnp.arrays(np.float32, st.integers(1, 9), elements=st.floats(-4, 4, width=16))


@settings(max_examples=40, deadline=None)
@given(SCORES, st.integers(0, 9), st.integers(0, 99))
def test_top_k_takes_the_largest(scores, k, seed):
    gate = np.asarray(gates.top_k(jnp.asarray(scores), k, jax.random.key(seed)))
    assert gate.sum() == min(k, len(scores))
    if 0 < gate.sum() < len(scores):
        assert np.abs(scores[gate]).min() >= np.abs(scores[~gate]).max()


def test_ties_are_broken_at_random_but_reproducibly():
    flat = jnp.ones(6)
    picks = {int(jnp.argmax(gates.top_k(flat, 1, jax.random.key(s)))) for s in range(60)}
    assert picks == set(range(6))
    chex.assert_trees_all_equal(
        gates.rank(flat, jax.random.key(3)), gates.rank(flat, jax.random.key(3))
    )


@settings(max_examples=40, deadline=None)
@given(SCORES)
def test_own_set_is_the_smallest_that_holds_the_share(scores):
    gate = np.asarray(gates.own_set(jnp.asarray(scores)))
    size, total = np.abs(scores).astype(np.float64), np.abs(scores).sum(dtype=np.float64)
    if total == 0:
        assert gate.sum() == 0
        return
    assert size[gate].sum() >= 0.9 * total * (1 - 1e-5)
    smaller = itertools.combinations(range(len(scores)), int(gate.sum()) - 1)
    assert all(size[list(c)].sum() < 0.9 * total * (1 + 1e-5) for c in smaller)


def test_own_set_does_not_depend_on_scale(key):
    scores = jax.random.normal(key, (12,))
    chex.assert_trees_all_equal(gates.own_set(scores), gates.own_set(100 * scores))


def test_keep_and_remove_are_complementary():
    g = {"a": jnp.array([True, False]), "b": jnp.array([False, True, True])}
    kept, removed = gates.keep(g, "a"), gates.remove(g, "a")
    assert (kept["a"] ^ removed["a"]).all()
    assert kept["b"].all()
    assert removed["b"].all()
    soft = {"a": jnp.array([0.2, 0.7])}
    chex.assert_trees_all_close(
        gates.keep(soft, "a")["a"] + gates.remove(soft, "a")["a"], jnp.ones(2)
    )


def test_joint_spends_one_budget():
    scores = {"a": jnp.array([5.0, 0.0]), "b": jnp.array([1.0, -7.0, 2.0])}
    chosen = gates.joint(scores, 2)
    assert chosen["a"].tolist() == [True, False]
    assert chosen["b"].tolist() == [False, True, False]
    chex.assert_trees_all_equal(gates.unflatten(gates.flatten(scores), {"b": 3, "a": 2}), scores)


@pytest.mark.parametrize("k", [1.0, 2.5, 6.0])
def test_soft_top_k_spends_its_budget_and_tends_to_the_hard_one(key, k):
    scores = jax.random.normal(key, (8,))
    assert np.isclose(gates.soft_top_k(scores, k, 0.1).sum(), k, atol=1e-4)
    if k == int(k):
        sharp = gates.soft_top_k(scores, k, 1e-3)
        assert np.allclose(sharp, gates.top_k(scores, int(k)), atol=1e-2)


def test_soft_top_k_differentiates_its_threshold(x64):
    scores = jnp.array([1.0, 2.0, 2.1, 0.3])
    jacobian = jax.jacrev(gates.soft_top_k)(scores, 2.0, 0.2)
    # the budget is fixed, so pushing any score up moves no mass in total
    assert np.allclose(jacobian.sum(0), 0, atol=1e-9)
    step = 1e-6
    numeric = [
        (
            gates.soft_top_k(scores.at[i].add(step), 2.0, 0.2)
            - gates.soft_top_k(scores.at[i].add(-step), 2.0, 0.2)
        )
        / (2 * step)
        for i in range(4)
    ]
    assert np.allclose(jacobian, np.stack(numeric, 1), atol=1e-5)
    # all scores moving together changes nothing: the drift a frozen threshold would reward
    assert np.allclose(jacobian.sum(1), 0, atol=1e-9)


def test_a_share_out_of_range():
    with pytest.raises(InputError, match="share"):
        gates.own_set(jnp.ones(3), 1.5)
