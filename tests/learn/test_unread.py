"""A modality that is never read scores zero, one that is read only beside others does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmx_jax as mmx
from mmx_jax.learn import NetworkSettings, Recipe, Settings, build_network, fit, hold_out, load
from mmx_jax.learn.unread import BesideUnread, evidence_of_outputs, unread_modalities
from mmx_jax.typing import record

MODALITIES = {n: mmx.Modality.columns(2) for n in ("a", "b", "c")}


@record
class Reads:
    """``v = a_0 b_0 + weight c_0 b_1``, and its negative."""

    weight: jax.Array

    def __call__(self, inputs):
        v = inputs["a"][0] * inputs["b"][0] + self.weight * inputs["c"][0] * inputs["b"][1]
        return jnp.stack([-v, v])


def examples(n):
    keys = jax.random.split(jax.random.key(3), 3)
    return {m: jax.random.normal(k, (n, 2)) for m, k in zip(MODALITIES, keys, strict=True)}


def evidence(model, inputs):
    gates = mmx.FeatureGates(MODALITIES)
    count = len(inputs["a"])
    return hold_out(gates, model, inputs, np.ones(count, np.int32), 1.0, sets=2).evidence


@pytest.mark.parametrize(("weight", "found"), [(0.0, ["c"]), (1e-3, [])])
def test_a_modality_is_unread_where_nothing_of_it_ever_moves_the_output(weight, found):
    held = evidence(Reads(jnp.asarray(weight)), examples(8))
    assert unread_modalities(["a", "b", "c"], 1.0, held) == found


def test_one_example_that_reads_it_is_enough():
    model, inputs = Reads(jnp.asarray(1.0)), examples(8)
    rare = inputs | {"b": inputs["b"].at[1:, 1].set(0.0)}  # c acts through b_1 alone
    never = inputs | {"b": inputs["b"].at[:, 1].set(0.0)}
    assert unread_modalities(["a", "b", "c"], 1.0, evidence(model, rare)) == []
    assert unread_modalities(["a", "b", "c"], 1.0, evidence(model, never)) == ["c"]
    both = evidence(model, never), evidence(model, rare)
    assert unread_modalities(["a", "b", "c"], 1.0, *both) == []


def test_a_modality_that_counts_only_where_the_others_are_gone_is_read():
    @record
    class Substitute:
        def __call__(self, inputs):
            gone = jnp.all(inputs["a"] == 0) & jnp.all(inputs["b"] == 0)
            v = jnp.where(gone, inputs["c"][0], inputs["a"][0] + inputs["b"][0])
            return jnp.stack([-v, v])

    assert unread_modalities(["a", "b", "c"], 1.0, evidence(Substitute(), examples(8))) == []


def test_parts_that_cancel_on_all_examples_still_count_each():
    @record
    class Difference:
        def __call__(self, inputs):
            v = inputs["a"][0] * inputs["b"][0] + inputs["c"][0] - inputs["c"][1]
            return jnp.stack([-v, v])

    inputs = examples(8)
    equal = inputs | {"c": jnp.repeat(inputs["c"][:, :1], 2, 1)}
    assert unread_modalities(["a", "b", "c"], 1.0, evidence(Difference(), equal)) == []


def test_a_modality_that_another_output_reads_is_read_where_targets_differ():
    @record
    class Third:
        def __call__(self, inputs):
            return jnp.stack([inputs["a"][0], -inputs["a"][0], inputs["c"][0]])

    inputs = examples(8)
    known = evidence(Third(), inputs)  # of output 1 alone
    assert unread_modalities(["a", "b", "c"], 1.0, known) == ["b", "c"]
    more = evidence_of_outputs(mmx.FeatureGates(MODALITIES), Third(), inputs, 3)
    assert unread_modalities(["a", "b", "c"], 1.0, known, more) == ["b"]


def test_of_a_constant_none_is_unread():
    @record
    class Constant:
        def __call__(self, inputs):
            return jnp.zeros(2)

    assert unread_modalities(["a", "b", "c"], 1.0, evidence(Constant(), examples(4))) == []


@pytest.mark.parametrize("kind", ["free", "certifiable"])
def test_it_scores_zero_and_is_not_looked_at(kind):
    settings = NetworkSettings(kind=kind, dim=4)
    network = build_network(settings, MODALITIES, 2, 1.0, unread=["c"])
    row = jax.tree.map(lambda x: x[0], examples(1))
    scores = network(row, 1)
    assert {n: s.shape for n, s in scores.items()} == {n: (2,) for n in MODALITIES}
    assert np.all(scores["c"] == 0)
    other = network(row | {"c": 1e3 + row["c"]}, 1)
    assert all(np.array_equal(scores[n], other[n]) for n in scores)
    if kind == "certifiable":
        bounds = network.certificate()
        assert bounds["c<-c"] == bounds["a<-c"] == bounds["c<-a"] == 0 < bounds["a<-b"]
        assert bounds["all"] <= settings.lipschitz * (1 + 1e-6)
    else:
        assert not hasattr(network, "certificate")


@record
class OfOne:
    """``v = a_0 + a_1^2``."""

    def __call__(self, inputs):
        v = inputs["a"][0] + inputs["a"][1] ** 2
        return jnp.stack([-v, v])


@record
class Draw:
    """A sampler of two tables."""

    def __call__(self, key, n):
        drawn = {
            m: jax.random.normal(k, (n, 2))
            for m, k in zip("ac", jax.random.split(key), strict=True)
        }
        return drawn, jnp.zeros(n, jnp.int32)


def test_training_finds_it_and_its_directory_tells(tmp_path):
    directory, targets = tmp_path / "run", np.ones(32, np.int32)
    modalities = {n: MODALITIES[n] for n in "ac"}
    inputs = Draw()(jax.random.key(1), 32)[0]
    settings = Settings(steps=2, batch=4, block=2, target="fixed")
    recipe = Recipe(network=NetworkSettings(dim=4, rounds=1), settings=settings, pool=8)
    fitted = fit(OfOne(), modalities, Draw(), inputs, targets, recipe, directory=directory)
    assert isinstance(fitted.best.network(), BesideUnread)
    again = fit(
        OfOne(), modalities, Draw(), inputs, targets, recipe, directory=directory, resume=True
    )
    assert isinstance(again.best.network(), BesideUnread)
    loaded = load(directory, modalities, model=OfOne())
    row = jax.tree.map(lambda x: x[0], inputs)
    scores = loaded(None, row, 1)
    assert np.all(scores["c"] == 0)
    assert np.any(scores["a"] != 0)
    assert all(np.array_equal(scores[n], fitted.best(None, row, 1)[n]) for n in scores)
