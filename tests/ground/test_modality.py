"""Modalities: units, blending, references, moves, and clear refusals."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax import Modality, check_inputs
from mmx_jax import moves as mv
from mmx_jax.errors import InputError

pytestmark = pytest.mark.fast

ALL = {
    "patches": (Modality.patches((4, 6, 3), (2, 3)), lambda k: jax.random.normal(k, (4, 6, 3))),
    "grey": (Modality.patches((4, 4), 2), lambda k: jax.random.normal(k, (4, 4))),
    "tokens": (Modality.tokens(5, 3), lambda k: jax.random.normal(k, (5, 3))),
    "ids": (Modality.token_ids(5, 9, mask=8), lambda k: jax.random.randint(k, (5,), 0, 8)),
    "frames": (Modality.frames(4, 2), lambda k: jax.random.normal(k, (4, 2))),
    "nodes": (
        Modality.nodes(4, 2),
        lambda k: {"features": jax.random.normal(k, (4, 2)), "adjacency": jnp.ones((4, 4))},
    ),
    "edges": (Modality.edges(3), lambda k: jax.random.normal(k, (3,))),
    "dense edges": (
        Modality.edges(6, nodes=4, dim=2),
        lambda k: {"features": jax.random.normal(k, (4, 2)), "adjacency": jnp.ones((4, 4))},
    ),
    "columns": (Modality.columns(3, names=("a", "b", "c")), lambda k: jax.random.normal(k, (3,))),
}
UNITS = {
    "patches": 4, "grey": 4, "tokens": 5, "ids": 5, "frames": 4,
    "nodes": 4, "edges": 3, "dense edges": 6, "columns": 3,
}  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_open_gates_leave_and_closed_gates_replace(name, key):
    modality, make = ALL[name]
    data = make(key)
    assert modality.units == UNITS[name]
    check_inputs({"m": modality}, {"m": data})
    opened = modality.blend(data, jnp.ones(modality.units, bool))
    chex.assert_trees_all_equal(opened, data)
    closed = modality.blend(data, jnp.zeros(modality.units, bool))
    if name == "dense edges":
        chex.assert_trees_all_equal(closed["features"], data["features"])
        assert np.array_equal(closed["adjacency"], np.eye(4))
    else:
        chex.assert_trees_all_equal(closed, modality.reference)


@pytest.mark.parametrize("name", [n for n in ALL if n != "ids"])
def test_soft_gates_blend_linearly_and_agree_with_hard_ones(name, key):
    modality, make = ALL[name]
    data = make(key)
    hard = jax.random.bernoulli(key, 0.5, (modality.units,))
    chex.assert_trees_all_equal(
        modality.blend(data, hard), modality.blend(data, hard.astype(jnp.float32))
    )
    if name not in ("nodes", "dense edges"):
        half = modality.blend(data, jnp.full(modality.units, 0.5))
        chex.assert_trees_all_close(half, jax.tree.map(lambda leaf: leaf / 2, data))


def test_removing_a_node_removes_its_edges(key):
    modality, make = ALL["nodes"]
    left = modality.blend(make(key), jnp.array([True, False, True, True]))
    assert (left["adjacency"][1] == 0).all()
    assert (left["adjacency"][:, 1] == 0).all()
    assert left["adjacency"].sum() == 9


@pytest.mark.parametrize("name", [n for n in ALL if n != "ids"])
def test_scores_of_units_sum_to_the_scores_of_their_elements(name, key):
    modality, make = ALL[name]
    elements = make(key)
    total = sum(float(leaf.sum()) for leaf in jax.tree.leaves(elements))
    if name == "dense edges":  # features and the diagonal belong to no unit
        total = 12.0
    assert np.isclose(modality.reduce(elements).sum(), total, rtol=1e-5)


def test_a_patch_is_where_it_should_be():
    modality = Modality.patches((4, 6), (2, 3))
    gate = jnp.array([False, True, False, False])
    kept = modality.blend(jnp.ones((4, 6)), gate)
    assert np.array_equal(np.argwhere(kept), [(r, c) for r in (0, 1) for c in (3, 4, 5)])


def test_soft_gates_on_ids_are_refused(key):
    modality, make = ALL["ids"]
    with pytest.raises(InputError, match="boolean gates"):
        modality.blend(make(key), jnp.ones(5))


def test_marginal_references_are_draws(key):
    batch = jax.random.normal(key, (10, 5, 3))
    modality = Modality.tokens(5, 3).with_marginal(batch, 4, key)
    closed = jnp.zeros(5, bool)
    rows = [modality.blend(batch[0], closed, d) for d in range(4)]
    for row in rows:
        assert any(np.array_equal(row, b) for b in batch)
    assert len({float(r.sum()) for r in rows}) == 4
    with pytest.raises(InputError, match="draws"):
        Modality.tokens(5, 3).with_marginal(batch, 1, key)


def test_an_entry_that_one_of_two_groups_leaves_alone_belongs_to_the_other():
    groups = (np.array([0, 0, -1, -1]), np.array([1, -1, 1, -1]))
    modality = Modality(groups=groups)
    entries = jnp.array([1.0, 2.0, 4.0, 8.0])
    assert modality.reduce(entries).tolist() == [0.5 + 2, 0.5 + 4]
    assert modality.blend(entries, jnp.array([False, True])).tolist() == [0, 0, 4, 8]


def test_mean_and_given_references(key):
    batch = jax.random.normal(key, (10, 3))
    mean = Modality.columns(3).with_mean(batch)
    chex.assert_trees_all_close(mean.reference, batch.mean(0))
    assert mean.reference_kind == "mean"
    assert Modality.columns(3).with_reference(jnp.ones(3)).reference_kind == "given"
    with pytest.raises(InputError, match="no mean"):
        Modality.token_ids(3, 4).with_mean(jnp.zeros((10, 3), jnp.int32))


@pytest.mark.parametrize("name", ALL)
def test_moves_declare_their_action_on_units(name, key):
    """Undoing the declared action after removing one unit gives back the unit that was removed."""
    modality, make = ALL[name]
    data = make(key)
    for move in modality.moves:
        moved, position = move(key, data, modality.units)
        assert sorted(np.asarray(position).tolist()) == list(range(modality.units))
        chex.assert_trees_all_equal_shapes_and_dtypes(moved, data)
        if move.name in ("shift", "relabel"):
            # gate, then move == move, then gate where the unit went
            gate = jnp.arange(modality.units) != 1
            gated, _ = move(key, modality.blend(data, gate), modality.units)
            there = jnp.ones_like(gate).at[position].set(gate)
            chex.assert_trees_all_equal(gated, modality.blend(moved, there))


def test_synonyms_come_from_the_table(key):
    modality = Modality.token_ids(40, 4, synonyms=[0, 2, 1, 3])
    data = jnp.arange(40) % 4
    (move,) = modality.moves
    moved, _ = move(key, data, 40)
    assert set(zip(data.tolist(), moved.tolist(), strict=True)) == {
        (0, 0), (1, 1), (1, 2), (2, 2), (2, 1), (3, 3)
    }  # fmt: skip


def test_modalities_are_pytrees():
    modality = Modality.patches((4, 4), 2)
    again = jax.tree.map(lambda leaf: leaf, modality)
    assert again.units == 4
    assert jax.tree.structure(modality) == jax.tree.structure(Modality.patches((4, 4), 2))
    jax.vmap(lambda m, x: m.blend(x, jnp.ones(4, bool)), (None, 0))(modality, jnp.ones((3, 4, 4)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Modality.patches((5, 4), 2), "divisors"),
        (lambda: Modality.patches((4,), 2), "shape"),
        (lambda: Modality.tokens(0, 3), "positive"),
        (lambda: Modality.token_ids(3, 4, mask=4), "mask"),
        (lambda: Modality.token_ids(3, 4, synonyms=[0, 9, 1, 2]), "synonyms"),
        (lambda: Modality.edges(5, nodes=4), "undirected"),
        (lambda: Modality.columns(2, names=("a",)), "names"),
        (lambda: Modality(groups=jnp.zeros(3)), "integers"),
        (lambda: Modality(groups=jnp.array([0, 5]), units=3), "units"),
        (lambda: Modality(groups={}), "no array"),
        (lambda: Modality(groups=jnp.array([0, 1]), reference={"a": 0.0}), "structure"),
        (lambda: Modality(groups=jnp.array([0]), reference=jnp.zeros((2, 1)), draws=3), "draws"),
    ],
)
def test_bad_modalities(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("names", "message"),
    [((), "at least one"), (("joint",), "joint"), (("a<-b",), "<-"), (("a/b",), "/")],
)
def test_reserved_names(names, message):
    with pytest.raises(InputError, match=message):
        check_inputs({n: Modality.columns(2) for n in names}, {n: jnp.zeros(2) for n in names})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"ids": jnp.zeros(5, jnp.int32)}, "lacks tokens"),
        ({"ids": jnp.zeros(5, jnp.int32), "tokens": jnp.zeros((5, 3)), "x": 0}, "unknown x"),
        ({"ids": jnp.zeros(4, jnp.int32), "tokens": jnp.zeros((5, 3))}, "shape"),
        ({"ids": jnp.zeros(5), "tokens": jnp.zeros((5, 3))}, "integers"),
        ({"ids": jnp.zeros(5, jnp.int32), "tokens": jnp.zeros((5, 3), jnp.int32)}, "real numbers"),
        ({"ids": jnp.zeros(5, jnp.int32), "tokens": jnp.full((5, 3), jnp.nan)}, "NaN"),
        ({"ids": jnp.zeros(5, jnp.int32), "tokens": {"a": jnp.zeros((5, 3))}}, "structure"),
        ({"ids": "text", "tokens": jnp.zeros((5, 3))}, "array"),
    ],
)
def test_bad_inputs(inputs, message):
    modalities = {n: ALL[n][0] for n in ("ids", "tokens")}
    with pytest.raises(InputError, match=message):
        check_inputs(modalities, inputs)


def test_marginal_draws_must_agree(key):
    batch = jnp.zeros((10, 2))
    a = Modality.columns(2).with_marginal(batch, 3, key)
    b = Modality.columns(2).with_marginal(batch, 4, key)
    with pytest.raises(InputError, match="one number for all"):
        check_inputs({"a": a, "b": b}, {"a": jnp.zeros(2), "b": jnp.zeros(2)})


@pytest.mark.parametrize("ids", [[0, 5], [-1, 2]])
def test_ids_outside_of_the_vocabulary_are_refused(ids):
    modalities = {"note": Modality.token_ids(2, 5)}
    with pytest.raises(InputError, match="use 0 to 4, the vocabulary"):
        check_inputs(modalities, {"note": np.array(ids)})
    check_inputs(modalities, {"note": np.array([0, 4])})


@pytest.mark.parametrize("shape", [(5, 4), (3,), (1, 4)])
def test_a_reference_that_does_not_fit_the_data_is_refused(shape):
    with pytest.raises(InputError, match="reference"):
        Modality.columns(4).with_reference(jnp.zeros(shape)).blend(jnp.ones(4), jnp.zeros(4, bool))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_units_of_many_entries_are_summed_in_32_bits(dtype):
    modality = Modality(groups=np.zeros(4096, int))
    assert modality.reduce(jnp.ones(4096, dtype)).tolist() == [4096]
    both = Modality(groups=(np.zeros(1, int),)).groups
    two = Modality(groups={"a": both[0], "b": both[0]})
    mixed = {"a": jnp.array([1.001]), "b": jnp.ones(1, dtype)}
    assert two.reduce(mixed)[0] == pytest.approx(2.001)


def test_moves_of_one_name_and_groups_that_are_no_arrays_are_refused():
    with pytest.raises(InputError, match="moves"):
        Modality(groups=np.arange(2), moves=(mv.Noise(0.1), mv.Noise(0.2)))
    with pytest.raises(InputError, match="groups"):
        Modality(groups=[0, 0, 1])
