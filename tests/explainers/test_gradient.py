"""Saliency, input x gradient and SmoothGrad against closed forms."""

import jax.numpy as jnp
import numpy as np
from explainers.cases import KEY, MODALITIES, explain, inputs_of, linear, linear_effects, mlp

from mmx_jax import Modality, as_model
from mmx_jax import explainers as ex

X = inputs_of(0)


def test_saliency_sums_absolute_weights_and_input_x_gradient_is_exact_on_linear_models():
    weights = inputs_of(5)
    saliency = explain(ex.Saliency(MODALITIES), linear(weights), X)
    product = explain(ex.InputXGradient(MODALITIES), linear(weights), X)
    for name in weights:
        np.testing.assert_allclose(
            saliency[name], MODALITIES[name].reduce(jnp.abs(weights[name])), rtol=1e-5
        )
        np.testing.assert_allclose(
            product[name], linear_effects(weights, X)[name], rtol=1e-4, atol=1e-5
        )


def test_entries_without_a_unit_are_left_out_and_shared_ones_are_halved():
    modality = Modality({"features": np.array([[-1], [0]]), "adjacency": _ends(2)})
    inputs = {"graph": {"features": jnp.ones((2, 1)), "adjacency": jnp.ones((2, 2))}}

    def model(x):
        return jnp.stack([5 * x["graph"]["features"].sum() + 3 * x["graph"]["adjacency"][0, 1]])

    scores = explain(ex.Saliency({"graph": modality}), as_model(model), inputs, 0, None)
    np.testing.assert_allclose(scores["graph"], [5 + 1.5, 1.5])


def _ends(n):
    return (np.arange(n)[:, None], np.arange(n)[None, :])


def test_smoothgrad_without_noise_is_saliency_and_tends_to_it():
    saliency = explain(ex.Saliency(MODALITIES), mlp(), X)
    gaps = []
    for noise in (0.0, 1e-2, 1e-1):
        smooth = ex.SmoothGrad(MODALITIES, samples=16, noise=noise)
        scores = explain(smooth, mlp(), X, 1, KEY)
        gaps.append(max(float(jnp.max(jnp.abs(scores[n] - saliency[n]))) for n in scores))
    assert gaps[0] < 1e-6
    # twice differentiable: the distance falls at least in proportion to the noise
    assert 1e-4 < gaps[1] < 0.2 * gaps[2]


def test_smoothgrad_averages_before_it_takes_magnitudes():
    """The gradient of x^2 is 2 (x + e): its mean at 0 tends to 0, its mean magnitude doesn't."""
    model = as_model(lambda inputs: jnp.sum(inputs["x"] ** 2)[None])
    inputs = {"x": jnp.array([0.0, 3.0])}
    smooth = ex.SmoothGrad({"x": Modality.columns(2)}, samples=4096, noise=0.5)
    scores = explain(smooth, model, inputs, 0, KEY)["x"]
    sigma = 0.5 * 3.0
    np.testing.assert_allclose(scores[1], 6.0, atol=4 * 2 * sigma / 64)
    assert scores[0] < 4 * 2 * sigma / 64 < 2 * sigma * 0.79  # E|2e| is 2 sigma sqrt(2 / pi)
