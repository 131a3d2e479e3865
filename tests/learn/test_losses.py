import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmx_jax as mmx
from mmx_jax import Modality, as_model
from mmx_jax.desiderata import collect, counterfactuals, faithfulness
from mmx_jax.desiderata.explained import Explained
from mmx_jax.explainers import WithinShapley
from mmx_jax.learn.evidence import coalition, gather_evidence
from mmx_jax.learn.losses import (
    Demands,
    contribution_losses,
    desiderata_losses,
    faithfulness_losses,
    granger_losses,
    stray_loss,
)

STRICT = Demands(alpha=1.0, over=1.0, slack=1e-5, pairs=3)
ONE = jnp.ones(())


def parts(explain, gates, model, inputs, key):
    scores = collect(gates, jax.vmap(explain)(counterfactuals(gates, inputs)))
    return scores, gather_evidence(gates, model, inputs, 1, scores.intact, key, 4)


@pytest.mark.parametrize("seed", range(4))
def test_the_true_contributions_cost_nothing(gates, model, sample, truth, seed):
    inputs = jax.tree.map(lambda x: x[0], sample(jax.random.key(seed), 1)[0])
    scores, evidence = parts(truth, gates, model, inputs, jax.random.key(seed))
    losses = granger_losses(scores, evidence, ONE, STRICT)
    losses |= contribution_losses(scores, evidence, ONE)
    for name, loss in losses.items():
        np.testing.assert_allclose(loss, 0.0, atol=1e-4, err_msg=name)


def test_less_than_the_truth_is_an_under_claim_and_more_an_over_claim(gates, model, sample, truth):
    inputs = jax.tree.map(lambda x: x[0], sample(jax.random.key(5), 1)[0])
    for factor, wrong, right in ((0.5, "under", "over"), (2.0, "over", "under")):

        def explain(x, factor=factor):
            return jax.tree.map(lambda s: factor * s, truth(x))

        scores, evidence = parts(explain, gates, model, inputs, jax.random.key(1))
        losses = granger_losses(scores, evidence, ONE, STRICT)
        for kind in ("own", "cross"):
            assert losses[f"{wrong}_{kind}"] > 0.05
            np.testing.assert_allclose(losses[f"{right}_{kind}"], 0.0, atol=1e-4)


def test_one_modality_alone_has_no_cross_losses_and_all_names():
    gates = mmx.FeatureGates({"x": Modality.columns(2)})
    alone = as_model(lambda inputs: jnp.stack([0.0, inputs["x"][0]]))
    inputs = {"x": jnp.array([1.0, 2.0])}
    for factor, under in ((1.0, 0.0), (0.5, 0.5)):

        def explain(x, factor=factor):
            return {"x": factor * x["x"] * jnp.array([1.0, 0.0])}

        losses = granger_losses(
            *parts(explain, gates, alone, inputs, jax.random.key(0)), ONE, STRICT
        )
        assert set(losses) == {"under_own", "over_own", "under_cross", "over_cross"}
        assert losses["under_cross"] == losses["over_cross"] == 0
        np.testing.assert_allclose(losses["under_own"], under, atol=1e-6)


def test_opposing_evidence_that_cancels_is_no_over_claim():
    modalities = {"x": Modality.columns(2), "y": Modality.columns(1)}
    gates = mmx.FeatureGates(modalities)
    model = as_model(lambda i: jnp.stack([i["x"][0] - i["x"][1] + i["y"][0]] * 2))
    inputs = {"x": jnp.ones(2), "y": jnp.ones(1)}

    def explain(x):
        return {"x": x["x"] * jnp.array([1.0, -1.0]), "y": x["y"]}

    scores, evidence = parts(explain, gates, model, inputs, jax.random.key(0))
    losses = granger_losses(scores, evidence, ONE, STRICT)
    np.testing.assert_allclose(losses["over_own"], 0.0, atol=1e-5)


def test_the_minimum_of_the_contribution_losses_is_the_shapley_value():
    modalities = {"x": Modality.columns(4)}
    gates = mmx.FeatureGates(modalities)
    weights = jax.random.normal(jax.random.key(3), (16,))

    def model(inputs):
        index = jnp.sum((inputs["x"] > 0.5) * jnp.array([1, 2, 4, 8]))
        return jnp.stack([weights[index], weights[index]])

    nothing = {"x": jnp.zeros(4)}

    @jax.jit
    def minimum(keys):
        evidence = jax.vmap(
            lambda k: gather_evidence(gates, as_model(model), inputs, 1, nothing, k, 4)
        )(keys)

        def loss(score):
            scores = Explained({"x": score}, {"x": nothing})
            losses = jax.vmap(lambda e: contribution_losses(scores, e, ONE))(evidence)
            return jnp.mean(losses["coalitions"] + 100.0 * losses["efficiency"])

        slope, curvature = jax.grad(loss)(jnp.zeros(4)), jax.hessian(loss)(jnp.zeros(4))
        return -jnp.linalg.solve(curvature, slope)

    inputs = {"x": jnp.ones(4)}
    found = minimum(jax.random.split(jax.random.key(4), 4000))
    exact = WithinShapley(modalities)(as_model(model), inputs, 0)["x"]
    np.testing.assert_allclose(found, exact, atol=0.04)
    assert np.abs(np.diff(np.asarray(exact))).max() > 0.2  # not all the same


def test_units_that_every_context_holds_to_be_null_are_stray():
    # redundant: each modality alone says nothing, and all when the other is gone
    copies = {"x": jnp.array([0.0, 0.5, 0.004]), "y": jnp.array([0.5, 0.0])}
    ablated = {
        "x": {"x": jnp.zeros(3), "y": copies["y"]},
        "y": {"x": copies["x"], "y": jnp.zeros(2)},
    }
    clean = {"x": jnp.array([0.0, 0.001, 0.0]), "y": jnp.array([0.001, 0.0])}
    noisy = clean | {"x": jnp.array([-0.001, 0.001, 0.001])}
    for intact, share in ((clean, 0.0), (noisy, 0.5)):
        loss = stray_loss(Explained(intact, ablated), ONE, Demands())["stray"]
        np.testing.assert_allclose(loss, max(0.0, share - Demands().stray), atol=1e-5)
    # a modality that never matters holds nothing but strays
    still = {"x": {"x": jnp.zeros(3), "y": jnp.zeros(2)}, "y": {"x": clean["x"], "y": jnp.zeros(2)}}
    loss = stray_loss(Explained(clean, still), ONE, Demands())["stray"]
    np.testing.assert_allclose(loss, 1 - Demands().stray, atol=1e-5)


def test_coalitions_follow_the_shapley_kernel():
    drawn = jax.vmap(lambda k: coalition(k, 5))(jax.random.split(jax.random.key(0), 8000))
    sizes = np.bincount(np.asarray(drawn.sum(1)), minlength=6)[1:5] / 8000
    weights = 1 / (np.arange(1, 5) * (5 - np.arange(1, 5)))
    np.testing.assert_allclose(sizes, weights / weights.sum(), atol=0.02)
    np.testing.assert_allclose(drawn.mean(0), 0.5, atol=0.03)


def test_cold_gates_give_the_hard_keep_and_remove_of_the_desiderata(gates, model, sample):
    inputs = jax.tree.map(lambda x: x[0], sample(jax.random.key(7), 1)[0])
    scores = {"x": jnp.array([0.1, -3.0, 1.0]), "y": jnp.array([0.5, 2.0])}
    evidence = gather_evidence(gates, model, inputs, 1, scores, jax.random.key(0), 4)
    hard = faithfulness(gates, model, scores, inputs, 1, jax.random.key(0))
    # one unit of each modality, and none of the rest of the budget
    demands = Demands(sufficiency=0.0, necessity=1.0, smallest=0.0, largest=1e-6, temperature=1e-3)
    soft = faithfulness_losses(
        gates, model, scores, evidence, inputs, 1, jax.random.key(2), ONE, demands
    )
    groups = ("x", "y", "joint")
    kept = np.mean([abs(float(hard.keep[g][1])) for g in groups])
    missed = np.mean(
        [max(0.0, float(evidence.largest[g] - abs(hard.remove[g][1]))) for g in groups]
    )
    np.testing.assert_allclose(soft["sufficiency"], kept, rtol=1e-3)
    np.testing.assert_allclose(soft["necessity"], missed, rtol=1e-3, atol=1e-4)


def test_gradients_reach_the_scores_through_the_gates(gates, model, sample):
    inputs = jax.tree.map(lambda x: x[0], sample(jax.random.key(7), 1)[0])
    scores = {"x": jnp.array([0.1, -3.0, 1.0]), "y": jnp.array([0.5, 2.0])}
    evidence = gather_evidence(gates, model, inputs, 1, scores, jax.random.key(0), 4)

    def loss(s):
        out = faithfulness_losses(
            gates,
            model,
            s,
            evidence,
            inputs,
            1,
            jax.random.key(2),
            ONE,
            Demands(temperature=0.5),
        )
        return out["sufficiency"] - out["necessity"]

    slopes = jax.grad(loss)(scores)
    assert all(float(jnp.max(jnp.abs(s))) > 1e-4 for s in slopes.values())


def test_losses_are_relative_to_the_range(gates, model, sample, truth):
    inputs = jax.tree.map(lambda x: x[0], sample(jax.random.key(5), 1)[0])
    big = dataclasses.replace(model, a=10 * model.a, b=10 * model.b)

    def half(x):
        return jax.tree.map(lambda s: 0.5 * s, truth(x))

    def ten(x):
        return jax.tree.map(lambda s: 5.0 * s, truth(x))

    key, demands = jax.random.key(0), Demands()
    one = desiderata_losses(half, gates, model, inputs, 1, key, ONE, demands)
    other = desiderata_losses(ten, gates, big, inputs, 1, key, 10 * ONE, demands)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-3, atol=1e-5)


def test_integer_modalities_take_hard_gates():
    modalities = {"w": Modality.token_ids(3, 5), "y": Modality.columns(2)}
    gates = mmx.FeatureGates(modalities)
    model = as_model(lambda i: jnp.stack([jnp.sum(i["w"]) * i["y"][0], i["y"][1]]))
    inputs = {"w": jnp.array([1, 0, 4]), "y": jnp.ones(2)}

    def loss(y):
        def explain(x):
            return {"w": x["w"] * 1.0, "y": y * x["y"]}

        losses = desiderata_losses(
            explain, gates, model, inputs, 0, jax.random.key(0), ONE, Demands()
        )
        return losses["sufficiency"] + losses["necessity"]

    assert np.isfinite(np.asarray(jax.grad(loss)(jnp.array([2.0, 1.0])))).all()
