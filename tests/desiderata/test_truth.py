"""Recovery of known units, and the share of variance due to the key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax.desiderata import Undefined, key_variance, pair_recovery, recovery, recovery_figures
from mmx_jax.desiderata.truth import leaves_open


def test_recovery_in_closed_form():
    scores = {"a": jnp.array([5.0, 0.0, -4.0, 0.1]), "b": jnp.array([0.0, 3.0])}
    relevant = {"a": jnp.array([True, True, True, False]), "b": jnp.array([False, False])}
    out = recovery(scores, relevant)
    assert float(out.tpr) == pytest.approx(2 / 3)  # a0 and a2 of a0, a1, a2
    assert float(out.fdr) == pytest.approx(1 / 3)  # b1 of a0, a2, b1
    masked = recovery(
        scores, relevant, mask={"a": jnp.ones(4, bool), "b": jnp.array([True, False])}
    )
    assert float(masked.fdr) == 0
    perfect = recovery(scores, relevant, contributions=scores)
    assert float(perfect.rank_correlation) == pytest.approx(1.0)


def test_an_explanation_of_nothing_finds_nothing_and_claims_nothing():
    zero, relevant = {"a": jnp.zeros(3)}, {"a": jnp.array([True, False, False])}
    out = recovery(zero, relevant)
    assert float(out.tpr) == 0
    assert float(out.fdr) == 0
    assert np.isnan(out.rank_correlation)


def test_figures_leave_out_inputs_whose_truth_is_open():
    relevant = {"a": jnp.array([[True, False], [False, False], [True, False]])}
    scores = {"a": jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])}
    out = jax.vmap(recovery)(scores, relevant)
    assert recovery_figures(out)["tpr"] == pytest.approx(0.5)
    assert recovery_figures(out, np.array([True, True, False]))["tpr"] == 1
    none = recovery_figures(out, np.zeros(3, bool))
    assert all(isinstance(v, Undefined) for v in none.values())


def test_pairs_are_recovered_like_units():
    scores = jnp.zeros((3, 2)).at[1, 1].set(-2.0)
    out = pair_recovery(scores, scores != 0)
    assert float(out.tpr) == 1
    assert float(out.fdr) == 0


def test_key_variance_splits_as_analysis_of_variance():
    rng = np.random.default_rng(0)
    examples, keys = rng.normal(size=(4000, 1, 1)), rng.normal(size=(4000, 4, 1))
    assert key_variance({"a": 3 * examples + keys}) == pytest.approx(0.1, abs=0.01)
    assert key_variance({"a": np.repeat(examples, 2, 1)}) == 0
    assert key_variance({"a": keys}) == pytest.approx(1, abs=0.05)
    shifted = key_variance({"a": 100 * (3 * examples + keys)})
    assert shifted == pytest.approx(key_variance({"a": 3 * examples + keys}))
    assert isinstance(key_variance({"a": np.ones((3, 2, 1))}), Undefined)


def test_a_reference_that_misses_relevant_units_leaves_the_truth_open():
    relevant = {"a": np.array([[True, False]] * 20)}
    known = np.arange(20) < 10
    scores = np.ones((20, 2))
    scores[10:] = 0  # not known unit by unit there
    assert not leaves_open({"a": scores}, relevant, known, 1.0)
    scores[3, 0] = 0.019
    assert leaves_open({"a": scores}, relevant, known, 1.0)
    assert not leaves_open({"a": scores}, relevant, known, 0.5)
    assert not leaves_open({"a": scores}, relevant, np.zeros(20, bool), 1.0)


def test_rounding_has_no_rank():
    relevant = {"a": jnp.array([True, False, False, False])}
    exact, noisy = jnp.array([1.0, 0, 0, 0]), jnp.array([1.0, 3e-8, -1e-8, 2e-8])
    for scores in (exact, noisy):
        assert float(recovery({"a": scores}, relevant).rank_correlation) == pytest.approx(1.0)
