"""EMAP, SHAPE, the Perceptual score, MM-SHAP, M2Lens and synergistic faithfulness."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax import FeatureGates, Modality, SplitModel, as_model
from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.interactions import (
    accuracy,
    all_pairs,
    contributions,
    emap,
    fsyn,
    macro_f1,
    mm_shap,
    modality_relation,
    perceptual_scores,
    performance_game,
    shape,
)

BITS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
BATCH = {"a": BITS[:, :1], "b": BITS[:, 1:]}
XOR = (BITS.sum(1) == 1).astype(int)
COLUMNS = FeatureGates({"a": Modality.columns(1), "b": Modality.columns(1)})


def xor(x):
    odd = jnp.abs(x["a"][0] - x["b"][0])
    return jnp.stack([1 - odd, odd])


def test_emap_is_the_least_squares_additive_fit():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(5, 5, 2))
    rows = np.repeat(np.eye(5), 5, axis=0)
    columns = np.tile(np.eye(5), (5, 1))
    design = np.hstack([rows, columns])
    fit = design @ np.linalg.lstsq(design, table.reshape(25, 2), rcond=None)[0]
    diagonal = fit.reshape(5, 5, 2)[np.arange(5), np.arange(5)]
    assert np.allclose(emap(table), diagonal, atol=1e-9)
    additive = rng.normal(size=(5, 1, 2)) + rng.normal(size=(1, 5, 2))
    assert np.allclose(emap(additive), additive[np.arange(5), np.arange(5)], atol=1e-12)


def test_all_pairs_of_whole_and_split_models(key):
    batch = {
        "a": jax.random.normal(key, (6, 3)),
        "b": jnp.arange(12.0).reshape(6, 2),
        "c": jnp.arange(6),
    }

    def fuse(codes):
        return jnp.stack([codes["a"] * codes["b"], codes["b"] + codes["c"]])

    total = jax.tree_util.Partial(jnp.sum)
    split = SplitModel({n: total for n in "abc"}, jax.tree_util.Partial(fuse))
    whole = as_model(lambda x: fuse({n: jnp.sum(v) for n, v in x.items()}))
    outputs = all_pairs(whole, batch, ["b"], chunk=4)
    assert outputs.shape == (6, 6, 2)
    assert np.allclose(outputs, all_pairs(split, batch, "b"), atol=1e-4)
    i, j = 4, 1
    mixed = {"a": batch["a"][j], "b": batch["b"][i], "c": batch["c"][j]}
    assert np.allclose(outputs[i, j], whole(mixed), atol=1e-4)
    with pytest.raises(UnknownNameError, match="modality"):
        all_pairs(whole, batch, "d")
    with pytest.raises(InputError, match="either side"):
        all_pairs(whole, batch, ["a", "b", "c"])


@pytest.mark.parametrize("bad", [np.zeros((3, 4, 2)), np.zeros(3), np.full((2, 2), np.nan)])
def test_emap_refuses(bad):
    with pytest.raises(InputError, match="outputs"):
        emap(bad)


def test_shape_of_xor():
    game = performance_game(COLUMNS, as_model(xor), BATCH, XOR)
    assert np.allclose(game, [1 / 3, 1 / 2, 1 / 2, 1])
    found = shape(game)
    assert np.isclose(found.cooperation, 1 / 3)
    assert np.isclose(found.relative, 1 / 2)
    assert np.allclose(found.contribution, 1 / 3)
    published = performance_game(COLUMNS, as_model(xor), BATCH, XOR, base=accuracy)
    assert np.isclose(published[0], 1 / 2)


def test_shape_of_additive_and_redundant_performances():
    assert np.isclose(shape(np.array([0.2, 0.5, 0.4, 0.7])).cooperation, 0)
    assert np.isclose(shape(np.array([0.5, 0.9, 0.9, 0.9])).cooperation, -0.4)
    assert np.isnan(shape(np.array([0.5, 0.5, 0.5, 0.5])).relative)


def test_metrics():
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    predicted, labels = rng.integers(0, 4, (2, 60))
    assert np.isclose(macro_f1(predicted, labels), f1_score(labels, predicted, average="macro"))
    with pytest.raises(InputError, match="predicted"):
        accuracy(predicted, labels[:5])


def test_perceptual_scores():
    """A model of one modality: the other can be permuted freely."""
    key = jax.random.key(0)
    a, b = jax.random.normal(key, (2, 400, 1))
    model = as_model(lambda x: jnp.concatenate([x["a"], -x["a"]]))
    labels = (np.asarray(a)[:, 0] < 0).astype(int)
    found = perceptual_scores(model, {"a": a, "b": b}, labels, key, permutations=6)
    assert found.performance == 1
    assert found.drop["b"] == 0
    assert found.interval["b"] == 0
    assert abs(found.drop["a"] - 0.5) < 0.06
    assert 0 < found.interval["a"] < 0.1
    assert np.isclose(found.model_normalised["a"], found.drop["a"])
    majority = max(labels.mean(), 1 - labels.mean())
    assert np.isclose(found.task_normalised["a"], found.drop["a"] / (1 - majority))
    again = perceptual_scores(model, {"a": a, "b": b}, labels, key, permutations=6)
    assert again.drop == found.drop
    with pytest.raises(InputError, match="permutations"):
        perceptual_scores(model, {"a": a, "b": b}, labels, key, permutations=1)


def test_mm_shap():
    scores = {"a": jnp.array([[1.0, -1.0], [0.0, 0.0]]), "b": jnp.array([[6.0], [0.0]])}
    shares = mm_shap(scores)
    assert np.allclose(shares["b"], [75, np.nan], equal_nan=True)
    assert np.isclose(shares["a"][0] + shares["b"][0], 100)
    with pytest.raises(InputError, match="NaN"):
        mm_shap({"a": jnp.array([jnp.nan])})
    with pytest.raises(InputError, match="empty"):
        mm_shap({})


def test_relations_of_modalities():
    sums = contributions({"b": jnp.array([1.0, 1.0]), "a": jnp.array([-1.0])})
    assert sums.tolist() == [-1.0, 2.0]
    found = modality_relation(jnp.array([[5.0, 4.0, 0.5], [5.0, 4.0, -2.0], [5.0, 4.0, -0.5]]))
    assert found.kind.tolist() == [2, 3, 2]  # a modality below the threshold has no say
    assert found.dominant.tolist() == [0, 0, 0]
    assert np.allclose(modality_relation(jnp.array([1.0, -1.0])).opposition, 1)
    assert np.allclose(modality_relation(-sums).shares, modality_relation(sums).shares)
    with pytest.raises(InputError, match="dominance"):
        modality_relation(sums, dominance=0.4)
    with pytest.raises(InputError, match="active"):
        modality_relation(sums, active=0.5)


def product(x):
    """Only the first units of both modalities work, and only together."""
    return jnp.stack([x["a"][0] * x["b"][0] + x["a"][1], 0.0])


def test_fsyn_rewards_the_pair():
    units = FeatureGates({"a": Modality.columns(4), "b": Modality.columns(4)})
    inputs = {"a": jnp.full(4, 2.0), "b": jnp.full(4, 3.0)}
    good = {"a": jnp.array([3.0, 1, 0, 0]), "b": jnp.array([2.0, 0, 0, 0])}
    bad = {"a": jnp.array([0.0, 3, 1, 0]), "b": jnp.array([0.0, 0, 0, 1])}
    model = as_model(product)
    run = jax.jit(lambda s: fsyn(units, model, inputs, 0, s, budgets=(0.25, 0.5)))
    assert np.allclose(run(good).curve, 6)
    assert np.allclose(run(bad).curve, 0)  # the additive unit of a is no synergy
    assert np.allclose(run(bad).whole, 6)
    assert np.allclose(run(good).area, 6)
    with pytest.raises(InputError, match="budgets"):
        fsyn(units, model, inputs, 0, good, budgets=(0.0,))
