"""Measures of others in closed form on linear models and products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax.desiderata.others import curves, fsyn, infidelity, rank_correlations

from .worlds import CANCELLING, GATES, LINEAR, XOR, Known, ones

X = ones((1.0, 2.0, 3.0, -1.0), (2.0, 1.0, 0.5))  # parts 1, -4, 0, -3 and 1, 0, -.5


def parts():
    return Known()(LINEAR, X, 0, None)


def test_curves_of_a_linear_model_follow_the_sorted_parts():
    out = jax.jit(lambda s: curves(GATES, LINEAR, s, X, 0))(parts())
    order = np.array([1.0, 1.0, 0.0, 0.0, -0.5, -3.0, -4.0])
    deleted = -5.5 - np.concatenate([[0], np.cumsum(order)])
    np.testing.assert_allclose(out.deleted, deleted, atol=1e-5)
    np.testing.assert_allclose(out.inserted, -5.5 - deleted, atol=1e-5)
    np.testing.assert_allclose(out.deletion, np.trapezoid(deleted) / 7, rtol=1e-5)
    np.testing.assert_allclose(out.region_perturbation, np.mean(-5.5 - deleted), rtol=1e-5)


def test_infidelity_of_the_truth_is_0_on_linear_models_and_scales_as_it_should(key):
    run = jax.jit(lambda s: infidelity(GATES, LINEAR, s, X, 0, key))
    true = run(parts())
    assert float(true.at()) == pytest.approx(0, abs=1e-4)
    assert float(true.at(0.0)) == pytest.approx(float(true.drop))
    hundred = run(jax.tree.map(lambda s: 100 * s, parts()))
    assert float(hundred.at(0.01)) == pytest.approx(0, abs=1e-3)
    nothing = run(jax.tree.map(jnp.zeros_like, parts()))
    assert float(nothing.at()) == pytest.approx(float(true.drop))


def test_fsyn_is_the_product_where_partners_are_named_and_0_without_interaction():
    named = {"a": jnp.eye(4)[1], "b": jnp.eye(3)[2]}
    half = {"a": jnp.eye(4)[1], "b": jnp.eye(3)[0]}
    run = jax.jit(lambda s: fsyn(GATES, XOR, s, ones(), 0, shares=(0.25, 0.3)))
    assert float(run(named)) == pytest.approx(1.0)
    assert float(run(half)) == pytest.approx(0.0)
    assert float(fsyn(GATES, CANCELLING, named, ones(), 0)) == pytest.approx(0.0)


def test_rank_correlations_are_symmetric_with_reasons_for_constants():
    table = rank_correlations({"a": [1.0, 3.0, 2.0], "b": [1.0, 9.0, 4.0], "c": [1.0, 1.0, 1.0]})
    assert table["a"]["b"] == table["b"]["a"] == pytest.approx(1.0)
    assert "constant" in table["a"]["c"].reason


def test_the_order_of_signed_scores_survives_rounding():
    scores = {"a": jnp.array([-1000.0, 1e-5, 3e-5, 2e-5]), "b": jnp.zeros(3)}
    out = jax.jit(lambda s: curves(GATES, LINEAR, s, X, 0))(scores)
    # units 2, 3, 1 of a go first: parts 0, -3 and -4
    np.testing.assert_allclose(out.deleted[:4], [-5.5, -5.5, -2.5, 1.5], atol=1e-5)


def test_rank_correlations_leave_out_what_is_undefined():
    table = rank_correlations({"a": [1.0, 2.0, 3.0, None], "b": [1.0, 2.0, 3.0, 0.0]})
    assert table["a"]["b"] == 1
