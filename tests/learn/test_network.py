import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmx_jax import InputError, Modality
from mmx_jax.learn.network import ExplainerNetwork, as_explainer
from mmx_jax.learn.units import GatheredRows, unit_rows

MODALITIES = {
    "columns": Modality.columns(5),
    "edges": Modality.edges(3, nodes=3, dim=2),
    "frames": Modality.frames(4, 3),
    "image": Modality.patches((4, 4), 2),
    "nodes": Modality.nodes(4, 2),
    "words": Modality.token_ids(6, 20),
}


def draw(key, name):
    reference = MODALITIES[name].reference_at(0)
    if name == "words":
        return jax.random.randint(key, (6,), 0, 20)
    return jax.tree.map(lambda x: jax.random.normal(key, x.shape), reference)


@pytest.fixture(scope="module")
def explainer():
    return as_explainer(ExplainerNetwork(MODALITIES, 3, dim=8, rounds=2, rngs=nnx.Rngs(0)))


@pytest.fixture(scope="module")
def inputs():
    keys = jax.random.split(jax.random.key(1), len(MODALITIES))
    return {name: draw(k, name) for name, k in zip(MODALITIES, keys, strict=True)}


def test_every_kind_of_modality_gets_a_score_per_unit(explainer, inputs):
    scores = jax.jit(explainer)(None, inputs, 1, None)
    assert {n: s.shape for n, s in scores.items()} == {n: (m.units,) for n, m in MODALITIES.items()}
    assert explainer.evaluations == 0
    for name, eager in explainer(None, inputs, 1, None).items():
        np.testing.assert_allclose(scores[name], eager, atol=1e-6)


def test_scores_depend_on_the_target(explainer, inputs):
    one, two = (explainer(None, inputs, t, None) for t in (0, 2))
    assert all(not np.allclose(one[n], two[n], rtol=1e-3) for n in one)


def test_relabelling_nodes_permutes_their_scores_and_leaves_the_others(explainer, inputs):
    order = jnp.array([2, 0, 3, 1])
    nodes = inputs["nodes"]
    moved = inputs | {
        "nodes": {
            "features": nodes["features"][order],
            "adjacency": nodes["adjacency"][order][:, order],
        }
    }
    before, after = (explainer(None, x, 1, None) for x in (inputs, moved))
    np.testing.assert_allclose(after["nodes"], before["nodes"][order], atol=1e-6)
    np.testing.assert_allclose(after["image"], before["image"], atol=1e-6)


def test_gathered_rows_hold_the_entries_of_each_unit_and_no_others():
    modality = MODALITIES["edges"]
    rows = unit_rows(modality)
    assert isinstance(rows, GatheredRows)
    numbered = {"features": jnp.full((3, 2), -1.0), "adjacency": jnp.arange(9.0).reshape(3, 3)}
    table = np.asarray(rows.split(numbered))
    groups = np.asarray(modality.groups["adjacency"][0])
    for unit in range(3):
        assert set(table[unit]) == set(np.flatnonzero(groups.reshape(-1) == unit))


def test_an_entry_of_two_units_stands_in_both_rows():
    rows = GatheredRows.of(MODALITIES["nodes"])
    assert rows.copies == 2
    assert rows.size == 2 + 7  # features, and the row and column of the adjacency


def test_a_scalar_reference_is_refused():
    with pytest.raises(InputError, match="row of real entries"):
        ExplainerNetwork({"a": Modality(np.arange(3))}, 2, rngs=nnx.Rngs(0))


def test_units_of_one_modality_can_oppose_each_other_only_with_more_than_one_kind():
    modalities = {"columns": MODALITIES["columns"]}
    for kinds in (1, 2):
        net = ExplainerNetwork(modalities, 2, dim=8, kinds=kinds, rngs=nnx.Rngs(0))
        net.allocate.kernel[...] *= 50.0  # each kind holds one unit
        net.mass.bias[...] = jnp.array([5.0, -5.0])[:kinds]
        scores = net({"columns": jnp.arange(5.0)}, 0)["columns"]
        assert (float(scores.min()) < -1.0) == (kinds == 2)
        assert float(scores.max()) > 1.0
