"""Counterfactuals: coalitions, effects, encoder sharing, and their cost."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax import FeatureGates, Modality, SplitModel, as_model, coalition_values, modality_effects
from mmx_jax.errors import InputError
from mmx_jax.games import moebius
from mmx_jax.gates import full
from mmx_jax.intervention import rescale, value, values, within
from mmx_jax.model import pick

pytestmark = pytest.mark.fast

MODS = {"a": Modality.columns(2), "b": Modality.columns(3), "c": Modality.columns(1)}
X = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([3.0, -1.0, 0.5]), "c": jnp.array([-2.0])}


def bilinear(inputs):
    """v = sum a + (sum b)(sum c): one main effect and one interaction."""
    a, b, c = (inputs[n].sum() for n in "abc")
    return jnp.stack([a + b * c, 0 * a])


class Counter:
    """Counts evaluations, also inside compiled maps."""

    def __init__(self):
        self.calls = 0

    def __call__(self, fn):
        def counted(x):
            jax.debug.callback(self._add, jax.tree.leaves(x)[0].reshape(-1)[0])
            return fn(x)

        return counted

    def _add(self, _):
        self.calls += 1


def split_bilinear(counter=lambda fn: fn):
    def fuse(codes):
        return jnp.stack([codes["a"] + codes["b"] * codes["c"], 0 * codes["a"]])

    return SplitModel({n: counter(jnp.sum) for n in "abc"}, fuse)


@pytest.mark.parametrize("model", [as_model(bilinear), split_bilinear()])
def test_coalitions_and_effects_have_closed_forms(model):
    gates = FeatureGates(MODS)
    table = coalition_values(gates, model, X, 0)
    # dividends: a alone 3, b and c together 2.5 * -2
    assert np.allclose(moebius(table), [0, 3, 0, 0, 0, 0, -5, 0])
    effects = modality_effects(gates, model, X, 0)
    assert np.allclose([effects[n] for n in "abc"], [3, 5, 5])


@pytest.mark.parametrize("draws", [0, 3])
def test_split_models_give_the_values_of_whole_ones(key, draws):
    modalities = dict(MODS)
    if draws:
        batch = jax.random.normal(key, (6, 3))
        modalities["b"] = MODS["b"].with_marginal(batch, draws, key)
    gates = FeatureGates(modalities)
    whole, split = as_model(bilinear), split_bilinear()
    chex.assert_trees_all_close(
        coalition_values(gates, whole, X, 0), coalition_values(gates, split, X, 0), atol=1e-6
    )
    for name in "abc":
        gate = jnp.arange(MODS[name].units) != 0
        chex.assert_trees_all_close(
            within(gates, whole, X, 0, name)(gate),
            within(gates, split, X, 0, name)(gate),
            atol=1e-6,
        )


def test_marginal_values_are_means_after_the_link(key):
    batch = jnp.array([[0.0], [1.0], [3.0]])
    modalities = {"c": Modality.columns(1).with_marginal(batch, 3, key)}
    model = as_model(lambda inputs: jnp.stack([inputs["c"][0], 0.0]), link="softmax")
    gates = FeatureGates(modalities)
    out = gates(model, {"c": jnp.array([9.0])}, {"c": jnp.array([False])})
    assert np.isclose(out[0], np.mean(jax.nn.sigmoid(batch)), atol=1e-6)


@pytest.mark.parametrize("draws", [0, 2])
def test_each_modality_is_encoded_once_intact_and_once_per_draw(key, draws):
    counter = Counter()
    modalities = MODS
    if draws:
        modalities = {
            n: m.with_marginal(jax.random.normal(key, (4, m.units)), draws, key)
            for n, m in MODS.items()
        }
    run = jax.jit(
        lambda x: coalition_values(FeatureGates(modalities), split_bilinear(counter), x, 0)
    )
    jax.block_until_ready(run(X))
    jax.effects_barrier()
    assert counter.calls == 3 * (1 + max(draws, 1))


def test_whole_models_are_called_once_per_coalition():
    counter = Counter()
    model = as_model(counter(bilinear))
    jax.block_until_ready(jax.jit(lambda x: coalition_values(FeatureGates(MODS), model, x, 0))(X))
    jax.effects_barrier()
    assert counter.calls == 8


def test_ablation_is_the_gate_of_zeros(key):
    gates = FeatureGates(MODS)
    model = as_model(bilinear)
    for name in "abc":
        closed = full(gates.units) | {name: jnp.zeros(MODS[name].units, bool)}
        chex.assert_trees_all_equal(model(gates.ablate(X, name)), gates(model, X, closed))


def test_many_gates_are_mapped(key):
    gates = FeatureGates(MODS)
    model = as_model(bilinear)
    rows = {n: jax.random.bernoulli(key, 0.5, (7, m.units)) for n, m in MODS.items()}
    mapped = values(gates, model, X, 0, rows, chunk=3)
    one = [value(gates, model, X, 0, {n: r[i] for n, r in rows.items()}) for i in range(7)]
    chex.assert_trees_all_close(mapped, jnp.stack(one))


def test_rescaling_sets_the_mass_and_keeps_the_shares():
    scores = {"a": jnp.array([1.0, -3.0]), "b": jnp.zeros(4)}
    out = rescale(scores, {"a": jnp.array(2.0), "b": jnp.array(1.0)})
    assert np.allclose(out["a"], [0.5, -1.5])
    assert np.allclose(out["b"], 0.25)


def test_games_run_under_jit_and_vmap(key):
    gates = FeatureGates(MODS)
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), X)
    fn = jax.jit(jax.vmap(lambda m, x: coalition_values(gates, m, x, 0), in_axes=(None, 0)))
    out = fn(as_model(bilinear), batch)
    chex.assert_trees_all_close(out[0], coalition_values(gates, as_model(bilinear), X, 0))
    chex.assert_trees_all_close(out[1][-1], jnp.array(6.0 - 20.0))


def test_broken_scores_are_not_repaired_by_rescaling():
    out = rescale({"a": jnp.array([jnp.nan, 1.0])}, {"a": jnp.array(3.0)})
    assert np.isnan(out["a"]).all()


def test_a_soft_gate_may_stand_beside_a_modality_of_integers():
    gates = FeatureGates({"a": Modality.columns(2), "t": Modality.token_ids(3, 5)})
    x = {"a": jnp.array([1.0, 2.0]), "t": jnp.array([1, 2, 3])}
    game = within(gates, lambda i: jnp.stack([i["a"].sum() * i["t"].sum()]), x, 0, "a")
    assert float(game(jnp.array([0.5, 1.0]))) == pytest.approx(15.0)


@pytest.mark.parametrize("target", [2, -1, jnp.array(7)])
def test_a_target_that_is_no_output_is_refused(target):
    with pytest.raises(InputError, match="target"):
        value(FeatureGates(MODS), as_model(bilinear), X, target, full({"a": 2, "b": 3, "c": 1}))


def test_a_left_over_batch_axis_and_a_missing_encoder_are_refused():
    with pytest.raises(InputError, match="batch axis"):
        pick(bilinear(X)[None], 0)
    split = SplitModel({"a": lambda x: x}, lambda codes: codes["a"])
    for call in (
        lambda: modality_effects(FeatureGates(MODS), split, X, 0),
        lambda: within(FeatureGates(MODS), split, X, 0, "b"),
    ):
        with pytest.raises(InputError, match="encoder for 'b'"):
            call()
