"""Each negative control does exactly what it says, and nothing better."""

import jax.numpy as jnp
import numpy as np
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

from mmx_jax import FeatureGates, Modality, modality_effects
from mmx_jax import explainers as ex
from mmx_jax.explainers.spoiled import neighbours

X = inputs_of(0)
ABLATED = FeatureGates(MODALITIES).ablate(X, "image")


def test_constant_and_random_know_neither_model_nor_input():
    for control in (ex.Constant(MODALITIES), ex.Random(MODALITIES)):
        scores = flat(explain(control, mlp(0), X, 0, KEY))
        np.testing.assert_array_equal(scores, flat(explain(control, mlp(1), ABLATED, 1, KEY)))
    assert len(set(flat(explain(ex.Random(MODALITIES), mlp(), X, 0, KEY)))) == 7
    assert set(flat(explain(ex.Constant(MODALITIES), mlp(), X, 0, None))) == {1.0}


def test_edges_are_central_differences_along_the_axes_of_the_units():
    image = jnp.zeros((4, 4)).at[:, 2:].set(1.0)
    inputs = {"image": image, "note": jnp.array([[0.0, 9.0], [0.0, 9.0], [2.0, 9.0]])}
    scores = explain(ex.EdgeDetector(MODALITIES), mlp(), inputs, 0, None)
    # columns 1 and 2 see half of the step in each of 4 rows: 1 per patch
    np.testing.assert_allclose(scores["image"], [1.0, 1.0, 1.0, 1.0])
    # the jump from token 1 to 2; features of one token are never compared with each other
    np.testing.assert_allclose(scores["note"], [0.0, 1.0, 1.0])
    assert np.all(flat(explain(ex.EdgeDetector(MODALITIES), mlp(), ABLATED, 0, None))[:4] == 0)


def test_edges_of_integers_count_changes():
    modality = {"note": Modality.token_ids(4, 9)}
    scores = explain(ex.EdgeDetector(modality), mlp(), {"note": jnp.array([5, 5, 5, 8])}, 0, None)
    np.testing.assert_allclose(scores["note"], [0, 0, 1, 1])


def test_a_rescaled_edge_detector_has_the_right_masses():
    control = ex.Rescaled(MODALITIES, ex.EdgeDetector(MODALITIES))
    scores = explain(control, mlp(), X)
    for name, effect in modality_effects(FeatureGates(MODALITIES), mlp(), X, 1).items():
        np.testing.assert_allclose(scores[name].sum(), effect, rtol=1e-5)


def test_the_modality_blind_see_one():
    truth = ex.Occlusion(MODALITIES)
    scores = explain(ex.ModalityBlind(MODALITIES, truth, name="note"), mlp(), X)
    np.testing.assert_allclose(scores["note"], explain(truth, mlp(), X)["note"], atol=1e-6)
    assert not np.any(scores["image"])
    first = explain(ex.ModalityBlind(MODALITIES, truth), mlp(), X)
    assert np.any(first["image"])
    assert not np.any(first["note"])


def test_with_the_others_at_reference_synergy_disappears_and_redundancy_counts_twice():
    modalities, ones = players(a=1, b=1)
    control = ex.OthersAtReference(modalities, ex.Occlusion(modalities))
    synergy, redundancy = np.array([0.0, 0, 0, 1]), np.array([0.0, 1, 1, 1])
    np.testing.assert_allclose(flat(explain(control, game(synergy), ones)), [0, 0], atol=1e-6)
    np.testing.assert_allclose(flat(explain(control, game(redundancy), ones)), [1, 1], atol=1e-6)
    truth = ex.WithinShapley(modalities)
    np.testing.assert_allclose(flat(explain(truth, game(synergy), ones)), [1, 1], atol=1e-6)


def test_with_the_others_at_reference_is_the_explanation_of_the_ablated_inputs():
    modalities, inner = marginal(), ex.Saliency(marginal())
    gates = FeatureGates(modalities)
    scores = explain(ex.OthersAtReference(modalities, inner), mlp(), X)
    for name, other in (("image", "note"), ("note", "image")):
        each = [explain(inner, mlp(), gates.ablate(X, other, d))[name] for d in range(3)]
        np.testing.assert_allclose(scores[name], np.mean(each, 0), rtol=1e-4, atol=1e-5)


def test_the_wrong_model_is_explained_faithfully():
    used, wrong = inputs_of(5), inputs_of(6)
    control = ex.WrongModel(ex.Occlusion(MODALITIES), linear(wrong))
    scores = explain(control, linear(used), X)
    np.testing.assert_allclose(flat(scores), flat(linear_effects(wrong, X)), atol=1e-4)


def test_uniform_mass_is_the_effect_and_nothing_more():
    scores = explain(ex.UniformMass(MODALITIES), mlp(), X)
    for name, effect in modality_effects(FeatureGates(MODALITIES), mlp(), X, 1).items():
        units = MODALITIES[name].units
        np.testing.assert_allclose(scores[name], np.full(units, effect / units), rtol=1e-5)


def test_smearing_keeps_sums_and_gives_half_to_the_neighbours():
    modalities = {"image": Modality.patches((6, 6), 2), "note": Modality.tokens(4, 1)}
    weights = {"image": jnp.zeros((6, 6)).at[2, 2].set(4.0), "note": jnp.zeros((4, 1)).at[0].set(2)}
    inputs = {"image": jnp.ones((6, 6)), "note": jnp.ones((4, 1))}
    control = ex.Smeared(modalities, ex.Occlusion(modalities))
    scores = explain(control, linear(weights), inputs)
    grid = scores["image"].reshape(3, 3)
    np.testing.assert_allclose(grid, [[0, 0.5, 0], [0.5, 2, 0.5], [0, 0.5, 0]], atol=1e-5)
    np.testing.assert_allclose(scores["note"], [1, 1, 0, 0], atol=1e-5)
    signed = inputs_of(5)
    inner = ex.Occlusion(MODALITIES)
    for share in (0.3, 1.0):
        smeared = explain(ex.Smeared(MODALITIES, inner, share), linear(signed), X)
        for name, score in explain(inner, linear(signed), X).items():
            np.testing.assert_allclose(smeared[name].sum(), score.sum(), atol=1e-4)


def test_neighbours_share_a_side():
    beside = neighbours(Modality.patches((4, 6), 2))
    np.testing.assert_array_equal(beside.sum(0), [2, 3, 2, 2, 3, 2])
    np.testing.assert_array_equal(beside, beside.T)
    assert not neighbours(Modality.columns(1)).any()


def test_the_detector_of_the_reference_sees_every_removal_and_nothing_else():
    detector = ex.ReferenceDetector(MODALITIES)
    np.testing.assert_array_equal(flat(explain(detector, mlp(0), X, 0, None)), np.ones(7))
    np.testing.assert_array_equal(
        flat(explain(detector, mlp(1), ABLATED, 0, None)), [0] * 4 + [1] * 3
    )
    ids = {"note": Modality.token_ids(3, 5, mask=2)}
    seen = explain(ex.ReferenceDetector(ids), mlp(), {"note": jnp.array([2, 0, 4])}, 0, None)
    np.testing.assert_array_equal(seen["note"], [0, 1, 1])
    gates = FeatureGates(marginal())
    for draw in range(3):
        gone = gates.ablate(X, "image", draw)
        scores = explain(ex.ReferenceDetector(marginal()), mlp(), gone, 0, None)
        np.testing.assert_array_equal(flat(scores), [0] * 4 + [1] * 3)


def test_normalised_explanations_have_mass_one_on_every_input():
    modalities, ones = players(a=2, b=2)
    control = ex.PerInputNormalised(ex.Occlusion(modalities))
    v = random_game(4, 3)
    for scale in (1.0, 1e-3):
        scores = explain(control, game(scale * v), ones)
        np.testing.assert_allclose(np.abs(flat(scores)).sum(), 1.0, rtol=1e-4)
    np.testing.assert_allclose(flat(explain(control, game(0 * v), ones)), np.full(4, 0.25))


def test_edges_are_seen_where_groups_lack_leading_axes():
    data = {"x": jnp.arange(15.0).reshape(3, 5) ** 2}
    scores = [
        ex.EdgeDetector({"x": Modality(groups=g)})(mlp(), data, 0)["x"]
        for g in (np.arange(5), np.arange(5)[None])
    ]
    np.testing.assert_array_equal(*scores)
    assert float(scores[0].sum()) > 0
