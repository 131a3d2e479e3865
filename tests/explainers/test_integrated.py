"""Integrated and expected gradients: completeness, quadrature, references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from explainers.cases import (
    KEY,
    MODALITIES,
    explain,
    flat,
    inputs_of,
    linear,
    linear_effects,
    marginal,
    mlp,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from mmx_jax import Modality, as_model
from mmx_jax import explainers as ex

X = inputs_of(0)


@pytest.mark.parametrize("rule", ["riemann", "gauss-legendre"])
@pytest.mark.parametrize("modalities", [MODALITIES, marginal()], ids=["zero", "marginal"])
def test_completeness(rule, modalities):
    # far references make a steeper path, on which midpoints need more steps
    steps = 128 if modalities["image"].draws else 64
    explainer = ex.IntegratedGradients(modalities, steps, rule)
    scores = explain(explainer, mlp(), X)
    residual = explainer.completeness_residual(mlp(), X, 1, scores)
    assert abs(residual) < 1e-4
    draws = max(m.draws for m in modalities.values()) or 1
    references = [{n: m.reference_at(d) for n, m in modalities.items()} for d in range(draws)]
    expected = mlp()(X)[1] - np.mean([mlp()(r)[1] for r in references])
    np.testing.assert_allclose(flat(scores).sum(), expected, atol=1e-4)


def test_the_residual_is_the_error_of_the_quadrature():
    """On v = x^3 with n midpoints the integral of 3 a^2 is 1 - 1 / (4 n^2)."""
    model = as_model(lambda inputs: inputs["x"] ** 3)
    for steps in (1, 2, 10):
        explainer = ex.IntegratedGradients({"x": Modality.columns(1)}, steps, "riemann")
        scores = explain(explainer, model, {"x": jnp.ones(1)}, 0, None)
        residual = explainer.completeness_residual(model, {"x": jnp.ones(1)}, 0, scores)
        np.testing.assert_allclose(residual, -1 / (4 * steps**2), atol=1e-6)


def test_gauss_legendre_is_exact_on_polynomials_and_midpoints_are_not():
    """2 steps - 1 is the degree of the derivative that n nodes integrate exactly."""
    modality = {"x": Modality.columns(2)}
    model = as_model(lambda inputs: (inputs["x"][0] ** 4 * inputs["x"][1] ** 2)[None])
    inputs = {"x": jnp.array([1.2, -0.8])}
    value = 1.2**4 * 0.8**2
    gauss, midpoints = (
        explain(ex.IntegratedGradients(modality, 3, rule), model, inputs, 0)["x"]
        for rule in ("gauss-legendre", "riemann")
    )
    np.testing.assert_allclose(gauss, [value * 4 / 6, value * 2 / 6], rtol=1e-5)
    assert np.max(np.abs(midpoints - gauss)) > 1e-2


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_exact_on_linear_models_with_any_reference(seed):
    weights, inputs, reference = (inputs_of(seed + i) for i in range(3))
    modalities = {n: m.with_reference(reference[n]) for n, m in MODALITIES.items()}
    explain = _explain_linear(modalities, weights, inputs)
    expected = linear_effects(weights, {n: inputs[n] - reference[n] for n in inputs})
    np.testing.assert_allclose(flat(explain), flat(expected), rtol=1e-4, atol=1e-5)


@jax.jit
def _explain_linear(modalities, weights, inputs):
    return ex.IntegratedGradients(modalities, steps=3)(linear(weights), inputs, 1)


def test_a_marginal_reference_averages_the_explanations_of_its_draws():
    modalities = marginal()
    many = explain(ex.IntegratedGradients(modalities, steps=8), mlp(), X)
    singles = [
        ex.IntegratedGradients(
            {n: m.with_reference(m.reference_at(d)) for n, m in modalities.items()}, steps=8
        )
        for d in range(3)
    ]
    each = [flat(explain(single, mlp(), X)) for single in singles]
    np.testing.assert_allclose(flat(many), np.mean(each, 0), atol=1e-5)


def test_entries_without_a_unit_and_integer_leaves_stay_on_the_path():
    """v = a * b * c where only a is a unit: its score is the whole change."""
    groups = {"a": np.array([0]), "b": np.array([-1]), "c": np.array([-1])}
    modality = Modality(groups, {"a": jnp.zeros(1), "b": jnp.zeros(1), "c": jnp.zeros(1, int)})
    inputs = {"x": {"a": jnp.array([2.0]), "b": jnp.array([3.0]), "c": jnp.array([5])}}
    model = as_model(lambda x: x["x"]["a"] * x["x"]["b"] * x["x"]["c"])
    explainer = ex.IntegratedGradients({"x": modality}, steps=4)
    scores = explain(explainer, model, inputs, 0, None)
    np.testing.assert_allclose(scores["x"], [30.0], rtol=1e-5)
    assert abs(explainer.completeness_residual(model, inputs, 0, scores)) < 1e-4


def test_expected_gradients_estimate_integrated_gradients_over_the_same_draws():
    modalities = marginal()
    exact = explain(ex.IntegratedGradients(modalities, steps=32), mlp(), X)
    keys = jax.random.split(KEY, 64)
    many = jax.vmap(ex.ExpectedGradients(modalities, samples=64), in_axes=(None, None, None, 0))
    sampled = explain(many, mlp(), X, 1, keys)
    for name in exact:
        error = np.std(sampled[name], 0, ddof=1) / 8
        assert np.all(np.abs(np.mean(sampled[name], 0) - exact[name]) < 4.5 * error)
        assert np.all(error > 0)
