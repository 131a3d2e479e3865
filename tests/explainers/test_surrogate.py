"""LIME and KernelSHAP: exact where they should be, and the fit they promise elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from explainers.cases import (
    KEY,
    MODALITIES,
    explain,
    flat,
    game,
    inputs_of,
    linear,
    linear_effects,
    marginal,
    players,
    random_game,
)

from mmx_jax import Modality
from mmx_jax import explainers as ex

X = inputs_of(0)


@pytest.mark.parametrize("modalities", [MODALITIES, marginal()], ids=["zero", "marginal"])
@pytest.mark.parametrize("samples", [30, 512])
def test_exact_on_linear_models(modalities, samples):
    weights = inputs_of(5)
    means = {n: jnp.mean(m.reference, 0) if m.draws else 0.0 for n, m in modalities.items()}
    effects = linear_effects(weights, {n: X[n] - means[n] for n in X})
    for explainer in (
        ex.LIME(modalities, samples=samples),
        ex.KernelSHAP(modalities, samples=samples),
    ):
        scores = explain(explainer, linear(weights), X, 1, KEY)
        np.testing.assert_allclose(flat(scores), flat(effects), atol=1e-3)


def test_lime_tends_to_the_weighted_regression_on_all_coalitions():
    modalities, inputs = players(a=2, b=2)
    v, n, width = random_game(4, 6), 4, 0.5
    z = (np.arange(16)[:, None] >> np.arange(n)) & 1
    near = np.exp(-(((1 - np.sqrt(z.mean(1))) / width) ** 2))
    design = np.concatenate([np.ones((16, 1)), z], 1) * np.sqrt(near)[:, None]
    fit = np.linalg.lstsq(design, v * np.sqrt(near), rcond=None)[0][1:]
    lime = ex.LIME(modalities, samples=60_000, width=width, chunk=2000)
    scores = flat(explain(lime, game(v), inputs, 1, KEY))
    np.testing.assert_allclose(scores, fit, atol=0.05)


def test_a_large_ridge_shrinks_the_scores():
    weights = inputs_of(5)
    small, large = (
        flat(explain(ex.LIME(MODALITIES, samples=64, ridge=r), linear(weights), X, 1, KEY))
        for r in (0.0, 10.0)
    )
    assert np.linalg.norm(large) < 0.1 * np.linalg.norm(small)


def test_kernel_shap_states_when_it_enumerates():
    modalities, _ = players(a=2, b=3)
    all_of_them = ex.KernelSHAP(modalities, samples=30)
    assert all_of_them.exact
    assert all_of_them.evaluations == 32
    some = ex.KernelSHAP(modalities, samples=15)
    assert not some.exact
    assert some.evaluations == 2 + 14


def test_sampled_kernel_shap_comes_closer_with_samples():
    modalities, inputs = players(a=4, b=4)
    v = random_game(8, 2)
    exact = flat(explain(ex.ExactShapley(modalities), game(v), inputs))
    errors = []
    for samples in (24, 208):
        many = jax.vmap(ex.KernelSHAP(modalities, samples=samples), in_axes=(None, None, None, 0))
        rows = explain(many, game(v), inputs, 1, jax.random.split(KEY, 64))
        off = np.concatenate([rows["a"], rows["b"]], 1) - exact
        errors.append(np.sqrt(np.mean(off**2)))
    assert errors[1] < 0.4 * errors[0]


def test_kernel_shap_takes_more_units_than_a_float_holds_binomials():
    wide = {"x": Modality.columns(1100)}
    explain = ex.KernelSHAP(wide, samples=2300)
    shapes = jax.eval_shape(
        lambda x: explain(lambda i: i["x"][:1], x, 0, KEY), {"x": jnp.zeros(1100)}
    )
    assert shapes["x"].shape == (1100,)
