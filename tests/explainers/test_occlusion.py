"""Occlusion, feature permutation and RISE against closed forms."""

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
    mlp,
    players,
    random_game,
)

from mmx_jax import Modality, as_model
from mmx_jax import explainers as ex

X = inputs_of(0)


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (2, 2)])
def test_exact_on_linear_models(window, stride):
    """A window shares its effect among its units, so only sums over disjoint windows are exact."""
    weights = inputs_of(5)
    scores = explain(ex.Occlusion(MODALITIES, window, stride), linear(weights), X)
    effects = linear_effects(weights, X)
    if window == 1:
        np.testing.assert_allclose(flat(scores), flat(effects), rtol=1e-4, atol=1e-5)
    else:
        np.testing.assert_allclose(scores["image"], np.full(4, effects["image"].mean()), rtol=1e-4)
        first, last = effects["note"][:2].mean(), effects["note"][2]
        np.testing.assert_allclose(scores["note"], [first, first, last], rtol=1e-4, atol=1e-5)


def test_overlapping_windows_are_averaged():
    modalities, inputs = players(x=3)
    v = random_game(3, 4)
    scores = explain(ex.Occlusion(modalities, window=2), game(v), inputs)["x"]
    left, right = (v[7] - v[0b100]) / 2, (v[7] - v[0b001]) / 2
    np.testing.assert_allclose(scores, [left, (left + right) / 2, right], rtol=1e-4, atol=1e-6)


def test_windows_are_squares_on_a_grid_and_runs_elsewhere():
    modalities = {"image": Modality.patches((6, 8), 2), "note": Modality.tokens(5, 1)}
    explainer = ex.Occlusion(modalities, window=2, stride=2)
    grid = explainer.windows("image").reshape(-1, 3, 4)
    assert len(grid) == 4
    np.testing.assert_array_equal(grid[0], [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(grid[3], [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]])
    np.testing.assert_array_equal(
        explainer.windows("note"), [[1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]]
    )
    whole = ex.Occlusion(modalities, window=9, stride=9)
    assert len(whole.windows("image")) == len(whole.windows("note")) == 1


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_every_unit_lies_in_a_window_and_no_window_in_another(stride):
    for units in range(1, 9):
        windows = ex.Occlusion({"x": Modality.columns(units)}, window=3, stride=stride).windows("x")
        assert windows.any(0).all()
        inside = (windows[:, None] & ~windows[None]).any(-1)  # [i, j]: i has units j has not
        assert inside[~np.eye(len(windows), dtype=bool)].all()


def test_a_constant_marginal_reference_is_that_reference():
    reference = inputs_of(8)
    fixed = {n: m.with_reference(reference[n]) for n, m in MODALITIES.items()}
    same = {
        n: m.with_marginal(jnp.stack([reference[n]] * 3), 3, KEY) for n, m in MODALITIES.items()
    }
    one = explain(ex.Occlusion(fixed), mlp(), X)
    other = explain(ex.Occlusion(same), mlp(), X)
    np.testing.assert_allclose(flat(one), flat(other), atol=1e-5)


def test_permuting_over_the_whole_background_is_occlusion_and_a_part_is_unbiased():
    modalities = marginal(draws=4)
    exact = explain(ex.Occlusion(modalities), mlp(), X)
    whole = ex.FeaturePermutation(modalities, samples=4)
    np.testing.assert_allclose(flat(explain(whole, mlp(), X, 1, KEY)), flat(exact), atol=1e-5)
    keys = jax.random.split(KEY, 400)
    part = ex.FeaturePermutation(modalities, samples=1)
    many = jax.vmap(part, in_axes=(None, None, None, 0))
    sampled = explain(many, mlp(), X, 1, keys)
    for name in exact:
        error = np.std(sampled[name], 0, ddof=1) / 20
        assert np.all(np.abs(np.mean(sampled[name], 0) - exact[name]) < 4.5 * error)


def test_rise_tends_to_the_conditional_mean_of_the_value():
    modalities, inputs = players(a=2, b=2)
    v, share = random_game(4, 3), 0.3
    z = (np.arange(16)[:, None] >> np.arange(4)) & 1
    chance = np.prod(np.where(z, share, 1 - share), 1)
    expected = (chance[:, None] * z * v[:, None]).sum(0) / share
    rise = ex.RISE(modalities, samples=20_000, share=share, chunk=1000)
    scores = flat(explain(rise, game(v), inputs, 1, KEY))
    spread = np.sqrt((chance[:, None] * z * v[:, None] ** 2).sum(0)) / share
    assert np.all(np.abs(scores - expected) < 4.5 * spread / np.sqrt(20_000))


def test_integer_data_is_fine():
    modality = {"note": Modality.token_ids(3, 5)}
    model = as_model(lambda inputs: jnp.array([0.0, 1.0, -2.0, 4.0, 8.0])[inputs["note"]])
    scores = explain(ex.Occlusion(modality), model, {"note": jnp.array([3, 4, 1])})
    np.testing.assert_allclose(scores["note"], [0.0, 8.0, 0.0])
