"""What depends on the model alone, in closed form."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax import FeatureGates, Modality, as_model
from mmx_jax.desiderata import DEFAULTS, Constants, model_effects, redundant, smallest, unused
from mmx_jax.desiderata.measure import measure_effects
from mmx_jax.errors import InputError
from mmx_jax.model import SplitModel

from .worlds import (
    CANCELLING,
    DUPLICATED,
    GATES,
    LINEAR,
    MODELS,
    REDUNDANT,
    UNUSED,
    XOR,
    batch,
    effects_of,
    model_of,
    one_row,
    ones,
)

GREEDY = Constants(exhaustive=1)


def test_linear_models_have_effects_and_no_interactions():
    x = ones((1.0, 2.0, 3.0, -1.0), (2.0, 1.0, 0.5))
    e = effects_of(GATES, LINEAR, x, 0)
    parts = np.array([1.0, -4.0, 0.0, -3.0])
    np.testing.assert_allclose(e.value, parts.sum() + 1.0 - 0.5, rtol=1e-6)
    np.testing.assert_allclose(e.effect["a"], 6.0, rtol=1e-6)
    np.testing.assert_allclose(e.effect["b"], 0.5, rtol=1e-6)
    np.testing.assert_allclose(e.largest["a"], [0, 4, 7, 7, 7], rtol=1e-6)
    np.testing.assert_allclose(e.largest["joint"], [0, 4, 7, 7.5, 7.5, 7.5, 7.5, 7.5], rtol=1e-6)
    for table in (e.interaction, e.set_interaction, e.unit_interaction):
        for v in table.values():
            np.testing.assert_allclose(v, 0, atol=1e-5)


def test_products_interact_unit_by_unit():
    e = effects_of(GATES, XOR, ones(), 0)
    np.testing.assert_allclose(e.interaction["a<-b"], 1.0)
    np.testing.assert_allclose(e.unit_interaction["a<-b"], [0, 1, 0, 0])
    np.testing.assert_allclose(e.unit_interaction["b<-a"], [0, 0, 1])
    np.testing.assert_allclose(e.set_interaction["b<-a"], 1.0)


@pytest.mark.parametrize("constants", [DEFAULTS, GREEDY], ids=["exhaustive", "greedy"])
def test_suppressed_units_interact_in_company_only(constants):
    suppressed = model_of(lambda a, b: a[0] * (1 - a[1]) * b[0])
    e = effects_of(GATES, suppressed, ones(), 0, constants=constants)
    # removing a0 alone changes nothing, with a1 it takes the product away again
    np.testing.assert_allclose(e.unit_interaction["a<-b"], [1, 1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(e.unit_interaction["b<-a"], [0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(e.set_interaction["a<-b"], 1.0)


@pytest.mark.parametrize("constants", [DEFAULTS, GREEDY], ids=["exhaustive", "greedy"])
def test_cancelling_units_have_no_effect_but_are_not_inactive(constants):
    e = effects_of(GATES, CANCELLING, ones(), 0, constants=constants)
    assert float(e.effect["a"]) == 0
    np.testing.assert_allclose(e.largest["a"][-1], 1.0)
    batched = one_row(e)
    assert not unused(batched, 1.0, constants)["a"][0]
    assert unused(batched, 1.0, constants)["b"][0]


@pytest.mark.parametrize("constants", [DEFAULTS, GREEDY], ids=["exhaustive", "greedy"])
def test_smallest_sets_by_closed_form(constants):
    sizes = {
        name: smallest(
            one_row(effects_of(GATES, model, ones(), 0, constants=constants)),
            1.0,
            constants,
        )
        for name, model in MODELS.items()
        if name != "linear"
    }
    assert sizes["xor"]["a"][0] == sizes["xor"]["b"][0] == 1
    assert sizes["xor"]["joint"][0] == 2
    assert sizes["unused"]["a"][0] == 1
    assert np.isnan(sizes["unused"]["b"][0])
    # one copy suffices but is not necessary: both are needed to meet both
    assert sizes["duplicated"]["a"][0] == 2
    assert sizes["redundant"]["joint"][0] == 2
    assert np.isnan(sizes["redundant"]["a"][0])
    # 1 - 1: nothing is needed to keep 0, but removing one unit moves it
    assert sizes["cancelling"]["a"][0] == 2


def test_redundant_modalities_are_said_to_be_redundant_and_unused_ones_unused():
    red = one_row(effects_of(GATES, REDUNDANT, ones(), 0))
    assert redundant(red, 1.0, DEFAULTS)["a"][0]
    assert redundant(red, 1.0, DEFAULTS)["b"][0]
    assert not unused(red, 1.0, DEFAULTS)["a"][0]
    one = one_row(effects_of(GATES, UNUSED, ones(), 0))
    assert not redundant(one, 1.0, DEFAULTS)["b"][0]
    assert unused(one, 1.0, DEFAULTS)["b"][0]
    dup = one_row(effects_of(GATES, DUPLICATED, ones(), 0))
    assert not redundant(dup, 1.0, DEFAULTS)["a"][0]


@pytest.mark.parametrize(
    ("without_a", "without_both", "stands_in"),
    [(0.9, 0.1, True), (0.1, 0.05, False), (0.0, 0.1, False), (0.0, 1.0, False)],
    ids=["repeats", "repeats too little", "fills the gap", "suppresses"],
)
def test_what_is_redundant_holds_up_the_output_where_the_other_is_gone(
    without_a, without_both, stands_in
):
    """v(x) = v(x without b) = 1: only the values without a tell what b is there for."""
    red = effects_of(GATES, REDUNDANT, ones(), 0)
    interaction = jnp.float32(abs(without_a - without_both))
    effects = dataclasses.replace(
        red,
        effect={"a": jnp.float32(1 - without_a), "b": jnp.zeros(())},
        interaction=dict.fromkeys(red.interaction, interaction),
        together=dict.fromkeys(red.together, jnp.float32(1 - without_both)),
        largest={"a": jnp.ones(5), "b": jnp.zeros(4), "joint": jnp.ones(8)},
    )
    effects = one_row(effects)
    said = redundant(effects, 1.0, DEFAULTS)
    assert bool(said["b"][0]) == stands_in
    assert not said["a"][0]


@pytest.mark.parametrize("constants", [Constants(exhaustive=3)], ids=["both searches"])
def test_jit_vmap_and_chunks_agree_with_one_at_a_time(constants):
    data = batch(3, signs=False).inputs

    def fn(x, chunk=None):
        return model_effects(GATES, LINEAR, x, 0, constants=constants, chunk=chunk)

    mapped = jax.jit(jax.vmap(fn))(data)
    single = jax.jit(lambda x: fn(x, 5))
    for i in range(3):
        one = single(jax.tree.map(lambda x, i=i: x[i], data))
        chex.assert_trees_all_close(jax.tree.map(lambda x, i=i: x[i], mapped), one, atol=1e-5)


def test_jit_agrees_with_eager():
    one = model_effects(GATES, XOR, ones(), 0)
    chex.assert_trees_all_close(effects_of(GATES, XOR, ones(), 0), one, atol=1e-6)


def test_one_trace_per_shape():
    traced = jax.jit(
        chex.assert_max_traces(lambda x: model_effects(GATES, LINEAR, x, 0, constants=GREEDY), n=1)
    )
    traced(ones())
    traced(ones((2.0, 0.0, 0.0, 1.0)))


def test_marginal_references_are_averaged_after_the_link():
    gates = FeatureGates(
        {
            m: Modality.columns(u).with_marginal(
                jax.random.normal(jax.random.key(u), (4, u)), 3, jax.random.key(0)
            )
            for m, u in {"a": 2, "b": 2}.items()
        }
    )
    model = as_model(lambda x: jnp.stack([jnp.tanh(x["a"].sum() * x["b"][0]), 0.0]))
    x = {"a": jnp.array([0.3, 1.0]), "b": jnp.array([1.0, -1.0])}
    draws = [model(gates.ablate(x, "a", d))[0] for d in range(3)]
    e = effects_of(gates, model, x, 0)
    np.testing.assert_allclose(e.effect["a"], abs(model(x)[0] - np.mean(draws)), rtol=1e-5)


def test_split_models_give_the_same_effects():
    whole = as_model(lambda x: jnp.stack([jnp.tanh(x["a"].sum()) * x["b"].sum(), 0.0]))
    split = SplitModel(
        {
            "a": jax.tree_util.Partial(lambda a: jnp.tanh(a.sum())),
            "b": jax.tree_util.Partial(lambda b: b.sum()),
        },
        jax.tree_util.Partial(lambda c: jnp.stack([c["a"] * c["b"], jnp.zeros(())])),
    )
    chex.assert_trees_all_close(
        effects_of(GATES, whole, ones(), 0), effects_of(GATES, split, ones(), 0), atol=1e-6
    )


def test_a_suppressed_modality_is_not_called_redundant():
    """``1 - a (1 - b)`` at (1, 1): without b it falls to 0, without a as well it is 1 again."""
    modalities = {m: Modality(np.zeros(1, int)) for m in "ab"}
    gates = FeatureGates(modalities)
    model = as_model(lambda x: jnp.stack([1 - x["a"][0] * (1 - x["b"][0]), jnp.zeros(())]))
    one = model_effects(gates, model, {"a": jnp.ones(1), "b": jnp.ones(1)}, jnp.int32(0))
    assert float(one.interaction["a<-b"]) == 1.0
    assert float(one.together["a<-b"]) == 0.0
    many = jax.tree.map(lambda x: np.asarray(x)[None], one)
    assert not redundant(many, 1.0, DEFAULTS)["a"][0]


def test_a_model_that_breaks_at_the_reference_is_refused():
    inverse = model_of(lambda a, b: b[0] / a[0])
    with pytest.raises(InputError, match="NaN or infinite values where units are removed"):
        measure_effects(GATES, inverse, batch(2))


def test_calibration_needs_no_sets():
    constants = Constants(exhaustive=2)  # the joint search is greedy
    whole = jax.jit(lambda x: model_effects(GATES, XOR, x, 0, constants=constants))(ones())
    calls = []

    def counted(x):
        calls.append(x)
        return XOR(x)

    small = model_effects(GATES, as_model(counted), ones(), 0, constants=constants, sets=False)
    assert (small.unit_interaction, small.set_interaction) == ({}, {})
    assert (small.largest, small.keeping) == ({}, {})
    for field in ("outputs", "value", "effect", "interaction", "together"):
        chex.assert_trees_all_close(getattr(small, field), getattr(whole, field), atol=1e-6)
    assert len(calls) == 2  # traced for the outputs and for all fixed gates, not for a search


def test_greedy_searches_in_double_precision(x64):
    wide = FeatureGates({"a": Modality.columns(9), "b": Modality.columns(2)})
    model = as_model(lambda x: jnp.stack([x["a"].sum() * x["b"][0]]))
    x = {"a": jnp.ones(9), "b": jnp.ones(2)}
    shapes = jax.eval_shape(lambda x: model_effects(wide, model, x, 0), x)
    assert shapes.largest["joint"].shape == (12,)
