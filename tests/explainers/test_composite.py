"""Composite and Rescaled."""

import jax.numpy as jnp
import numpy as np
import pytest
from explainers.cases import KEY, MODALITIES, explain, flat, game, inputs_of, mlp, players

from mmx_jax import FeatureGates, modality_effects
from mmx_jax import explainers as ex
from mmx_jax.errors import InputError
from mmx_jax.numerics import derive_key

X, TARGET = inputs_of(0), jnp.int32(1)


def test_composite_takes_each_modality_from_its_own_method():
    saliency, lime = ex.Saliency(MODALITIES), ex.LIME(MODALITIES, samples=16)
    joined = ex.Composite({"image": saliency, "note": lime})
    scores = explain(joined, mlp(), X, 1, KEY)
    alone = explain(saliency, mlp(), X)
    sampled = explain(lime, mlp(), X, 1, derive_key(KEY, "note"))
    np.testing.assert_allclose(scores["image"], alone["image"], rtol=1e-5)
    np.testing.assert_allclose(scores["note"], sampled["note"], rtol=1e-4, atol=1e-5)


def test_composite_refuses_an_explainer_of_something_else():
    joined = ex.Composite({"image": ex.Saliency({"note": MODALITIES["note"]})})
    with pytest.raises(InputError, match=r"explainers\['image'\] scores note"):
        explain(joined, mlp(), X)


def test_rescaled_masses_are_the_effects_and_shares_are_kept():
    inner = ex.InputXGradient(MODALITIES)
    scores = explain(ex.Rescaled(MODALITIES, inner), mlp(), X)
    before = explain(inner, mlp(), X)
    for name, effect in modality_effects(FeatureGates(MODALITIES), mlp(), X, 1).items():
        closed = X | {name: jnp.zeros_like(X[name])}
        np.testing.assert_allclose(effect, abs(mlp()(X)[1] - mlp()(closed)[1]), rtol=1e-5)
        np.testing.assert_allclose(np.abs(scores[name]).sum(), effect, rtol=1e-5)
        share = before[name] / np.abs(before[name]).sum()
        np.testing.assert_allclose(scores[name] / effect, share, rtol=1e-4)


def test_rescaled_spreads_evenly_where_the_explanation_is_silent():
    """On XOR of b's two bits at (1, 1) nothing of the gradient is left, but b has an effect."""
    modalities, ones = players(a=1, b=2)
    v = np.array([0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5])
    silent = ex.ModalityBlind(modalities, ex.Occlusion(modalities), name="a")
    scores = explain(ex.Rescaled(modalities, silent), game(v), ones)
    np.testing.assert_allclose(flat(scores), [0.0, 0.25, 0.25], atol=1e-6)


def test_rescaled_refuses_other_modalities():
    wrong = ex.Rescaled(MODALITIES, ex.Saliency({"note": MODALITIES["note"]}))
    with pytest.raises(InputError, match="explainer scores note"):
        explain(wrong, mlp(), X)
