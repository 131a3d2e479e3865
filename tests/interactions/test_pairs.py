"""Explanations of pairs: exact, sampled, by gradients and by DIME; and what judges them."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax import FeatureGates, Modality, as_model
from mmx_jax.errors import InputError
from mmx_jax.explainers import Occlusion
from mmx_jax.interactions import (
    DIME,
    PairExplainer,
    ProductPairs,
    SampledPairs,
    SecondOrderGradients,
    ShapleyPairs,
    all_pairs,
    disentangle,
    emap,
    harsanyi,
    pair_faithfulness,
    pair_recovery,
    shapley_interactions,
    top_pairs,
    unit_games,
)

UNITS = FeatureGates({"a": Modality.columns(3), "b": Modality.columns(2), "c": Modality.columns(2)})
W_AB = np.array([[2.0, 0.0], [0.0, -1.0], [0.0, 0.0]])
W_BC = np.array([[0.0, 0.0], [3.0, 0.0]])
INPUTS = {"a": jnp.array([1.0, 2.0, 3.0]), "b": jnp.array([2.0, 1.0]), "c": jnp.array([1.0, 1.0])}
TRUTH = {("a", "b"): W_AB != 0, ("a", "c"): np.zeros((3, 2), bool), ("b", "c"): W_BC != 0}


@as_model
def bilinear(x):
    cross = x["a"] @ W_AB @ x["b"] + x["b"] @ W_BC @ x["c"]
    return jnp.stack([cross + x["a"][0] * x["a"][1] + 5 * x["c"][0], 0.0])


EXACT = {
    ("a", "b"): np.outer(INPUTS["a"], INPUTS["b"]) * W_AB,
    ("a", "c"): np.zeros((3, 2)),
    ("b", "c"): np.outer(INPUTS["b"], INPUTS["c"]) * W_BC,
}


@pytest.mark.parametrize(
    "explainer",
    [
        ShapleyPairs(UNITS),
        ShapleyPairs(UNITS, index="STII"),
        SampledPairs(UNITS, samples=2),  # D_uw is the same in every context of a bilinear game
        SecondOrderGradients(UNITS),
    ],
    ids=["sii", "stii", "sampled", "gradients"],
)
def test_bilinear_models_are_exact(explainer, key):
    assert isinstance(explainer, PairExplainer)
    found = jax.jit(lambda e, x: e(bilinear, x, 0, key))(explainer, INPUTS)
    for pair, expected in EXACT.items():
        assert np.allclose(found[pair], expected, atol=1e-3)
    assert np.isclose(pair_recovery(found, TRUTH).precision, 1)
    assert np.isclose(pair_recovery(found, TRUTH).auc, 1)


def test_games_of_units_give_indices_of_any_order():
    """Three units of three modalities whose product is the answer, beside a sum."""
    columns = {n: Modality.columns(2) for n in "abc"}

    def product(x):
        return jnp.stack([x["a"][0] * x["b"][1] * x["c"][0] + x["a"][1], 0.0])

    batch = {n: jnp.array([[1.0, 2.0], [3.0, -1.0]]) for n in "abc"}
    games = unit_games(FeatureGates(columns), product, batch, np.zeros(2, int))
    assert games.shape == (2, 64)
    dividends = harsanyi(games)
    # players: a0, a1, b0, b1, c0, c1
    chex.assert_trees_all_close(dividends[0, 3, 4], np.array([2.0, -9.0]), atol=1e-5)
    chex.assert_trees_all_close(dividends[1], np.array([2.0, -1.0]), atol=1e-5)
    assert np.abs(dividends.values).sum() == pytest.approx(2 + 9 + 2 + 1, abs=1e-4)
    triples = shapley_interactions(games, 3, "STII")
    chex.assert_trees_all_close(triples[0, 3, 4], np.array([2.0, -9.0]), atol=1e-5)
    with pytest.raises(InputError, match="has 18 units: exact games take 16"):
        unit_games(FeatureGates({"a": Modality.columns(18)}), product, batch, np.zeros(2, int))


def test_raw_second_derivatives():
    found = SecondOrderGradients(UNITS, multiply_by_inputs=False)(bilinear, INPUTS, 0)
    assert np.allclose(found["a", "b"], W_AB, atol=1e-5)
    assert np.allclose(found["b", "c"], W_BC, atol=1e-5)
    tokens = FeatureGates({"a": Modality.tokens(2, 3), "b": Modality.columns(2)})
    model = as_model(lambda x: jnp.sum(x["a"], 1)[:1] * x["b"][1:] * jnp.ones(1))
    inputs = {"a": jnp.ones((2, 3)), "b": jnp.ones(2)}
    raw = SecondOrderGradients(tokens, multiply_by_inputs=False)(model, inputs, 0)["a", "b"]
    assert np.allclose(raw, [[0, 3], [0, 0]], atol=1e-5)  # a unit's score is the sum of its entries


def test_gradients_refuse_integers():
    units = FeatureGates({"a": Modality.token_ids(3, 5), "b": Modality.columns(2)})
    with pytest.raises(InputError, match="no gradient"):
        SecondOrderGradients(units)(bilinear, {"a": jnp.arange(3), "b": jnp.ones(2)}, 0)


@as_model
def rough(x):
    return jnp.stack([jnp.tanh(x["a"] @ W_AB @ x["b"] + x["b"] @ W_BC @ x["c"]), 0.0])


def test_sampling_converges_and_knows_its_error():
    exact = ShapleyPairs(UNITS)(rough, INPUTS, 0)
    sampler = SampledPairs(UNITS, samples=48, chunk=4)

    @jax.jit
    @chex.assert_max_traces(1)
    def run(key):
        return sampler.estimate(rough, INPUTS, 0, key)

    mean, width = jax.lax.map(run, jax.random.split(jax.random.key(1), 40))
    inside, bias = [], []
    for pair, truth in exact.items():
        moving = np.asarray(width[pair]).max(0) > 1e-6
        inside.append((np.abs(mean[pair] - truth) <= width[pair] + 1e-6)[:, moving])
        bias.append(np.abs(mean[pair].mean(0) - truth) / (np.asarray(width[pair]).mean(0) + 1e-6))
    assert np.mean(np.concatenate(inside, 1)) > 0.85
    assert max(b.max() for b in bias) < 0.5  # of 40 runs: 3 standard errors are .24 widths
    assert sampler.evaluations == 48 * (1 + 7 + 6 + 6 + 4)
    with pytest.raises(InputError, match="key"):
        sampler(rough, INPUTS, 0, None)


def test_too_many_units_name_the_sampler():
    wide = FeatureGates({"a": Modality.columns(9), "b": Modality.columns(8)})
    with pytest.raises(InputError, match="SampledPairs"):
        ShapleyPairs(wide)
    with pytest.raises(InputError, match="samples"):
        SampledPairs(wide, samples=1)


def test_marginal_references_and_evaluations(key):
    rows = jax.random.normal(key, (30, 3))
    marginal = FeatureGates(
        {"a": Modality.columns(3).with_marginal(rows, 8, key), "b": Modality.columns(2)}
    )
    model = as_model(lambda x: x["a"][:1] * x["b"][:1])
    inputs = {"a": jnp.ones(3), "b": jnp.ones(2)}
    found = ShapleyPairs(marginal)(model, inputs, 0)["a", "b"]
    drawn = np.asarray(marginal.modalities["a"].reference)[:, 0].mean()
    assert np.isclose(found[0, 0], 1 - drawn, atol=1e-5)
    assert ShapleyPairs(marginal).evaluations == 32 * 8
    gradients = SecondOrderGradients(marginal)
    assert np.isclose(gradients(model, inputs, 0)["a", "b"][0, 0], 1 - drawn, atol=1e-5)
    assert gradients.evaluations == 3 * 8


def test_dime_is_emap_on_its_sample(key):
    background = {"a": jax.random.normal(key, (7, 3)), "b": jnp.arange(14.0).reshape(7, 2)}
    model = as_model(lambda x: jnp.stack([x["a"] @ W_AB @ x["b"], jnp.sum(x["a"])]))
    unimodal, interaction = disentangle(model, background, chunk=5)
    outputs = jax.vmap(unimodal)(background)
    assert np.allclose(outputs, emap(all_pairs(model, background, "a")), atol=1e-3)
    assert np.allclose(
        outputs + jax.vmap(interaction)(background), jax.vmap(model)(background), atol=1e-3
    )
    assert np.allclose(jax.vmap(interaction)(background)[:, 1], 0, atol=1e-4)  # additive output
    assert unimodal.evaluations == 14
    assert interaction.evaluations == 15


def test_dime_explains_its_parts(key):
    units = FeatureGates({n: UNITS.modalities[n] for n in "ab"})
    background = {"a": jax.random.normal(key, (9, 3)), "b": jax.random.normal(key, (9, 2))}
    background = {n: v - v.mean(0) for n, v in background.items()}  # the mean is the reference
    model = as_model(lambda x: jnp.stack([x["a"][0] * x["b"][1] + 4 * x["a"][2], 0.0]))
    inputs = {n: INPUTS[n] for n in "ab"}
    occlusion = Occlusion(units.modalities)
    unimodal = DIME(occlusion, background, part="unimodal")(model, inputs, 0, key)
    interaction = DIME(occlusion, background)(model, inputs, 0, key)
    assert np.allclose(unimodal["a"], [0, 0, 12], atol=1e-3)
    assert np.allclose(unimodal["b"], 0, atol=1e-3)
    assert np.allclose(interaction["a"], [1, 0, 0], atol=1e-3)
    pairs = ProductPairs(DIME(occlusion, background))(model, inputs, 0, key)
    assert np.argmax(pairs["a", "b"]) == 1
    assert np.isclose(
        pair_recovery(pairs, {("a", "b"): np.eye(3, 2, 1) * [[1], [0], [0]] > 0}).auc, 1
    )
    assert DIME(occlusion, background).evaluations == occlusion.evaluations * 19 + 81


def test_dime_refuses():
    with pytest.raises(InputError, match="one modality"):
        disentangle(bilinear, {"a": jnp.ones((3, 2))})
    with pytest.raises(InputError, match="combinations"):
        disentangle(bilinear, {"a": jnp.ones((2000, 1)), "b": jnp.ones((2000, 1))})


def test_constant_pairs_score_as_chance():
    flat = {pair: jnp.ones(t.shape) for pair, t in TRUTH.items()}
    assert np.isclose(pair_recovery(flat, TRUTH).auc, 0.5)
    keys = jax.random.split(jax.random.key(0), 300)
    precision = jax.vmap(lambda k: pair_recovery(flat, TRUTH, k).precision)(keys)
    assert abs(np.mean(precision) - 3 / 16) < 0.05
    assert np.isnan(pair_recovery(flat, {p: t & False for p, t in TRUTH.items()}).auc)
    with pytest.raises(InputError, match="truth"):
        pair_recovery(flat, {("a", "b"): TRUTH["a", "b"]})


def test_keep_and_remove_of_top_pairs():
    model = as_model(lambda x: x["a"][:1] * x["b"][1:])
    units = FeatureGates({n: UNITS.modalities[n] for n in "ab"})
    inputs = {n: INPUTS[n] for n in "ab"}
    right = {("a", "b"): jnp.zeros((3, 2)).at[0, 1].set(-1.0)}
    wrong = {("a", "b"): jnp.zeros((3, 2)).at[2, 0].set(1.0)}
    good = pair_faithfulness(units, model, inputs, 0, right, 1, scale=2.0)
    assert np.allclose((good.sufficiency_error, good.necessity, good.kept), (0, 0.5, 0.4))
    poor = pair_faithfulness(units, model, inputs, 0, wrong, 1, scale=2.0)
    assert np.allclose((poor.sufficiency_error, poor.necessity), (0.5, 0))
    chosen = top_pairs(EXACT, 2)
    assert sum(int(c.sum()) for c in chosen.values()) == 2
